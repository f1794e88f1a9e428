/* SPDX-License-Identifier: MIT */
/*
 * mux_frame - what was received, cut into frames and handed out
 *
 * DESCRIPTION
 *   Whole frames are handed out as they lie on the wire, one behind the other,
 *   from the arena or from the buffer of their connection, which then is held
 *   until the next turn.  What is behind them is kept: an unfinished frame, and
 *   frames that are more than the connection's share of the turn.
 */
#include "frame.h"
#include "mux.h"

#include <string.h>

/* ---- handing out */

/* Whole frames of one connection; they join the run before them when both
 * lie in the arena, belong to one group and are small. */
static void hand_out(sb_mux *mux, struct row *row, int64_t offset, size_t size, const sb_lines *found)
{
    size_t frames = found->frames;
    const sb_group *group = &mux->groups[row->group];
    row->frames += (int64_t)frames;
    sb__share_charge(sb__share_of(mux, row), frames, size);
    int merge = group->flags & SB_GROUP_MERGE && offset >= 0 && !(frames == 1 && size >= SB_OWN_EVENT)
        && !(row->again & AGAIN_APART);
    if (!merge) {
        sb__event(mux, SB_EVENT_FRAMES, row, (int)found->returns);
        sb_event *event = &mux->events[mux->counts.events - 1];
        event->offset = offset;
        event->size = (int64_t)size;
        event->frames = (int64_t)frames;
        return;
    }
    if (mux->run < 0 || mux->events[mux->run].group != row->group
        || mux->events[mux->run].offset + mux->events[mux->run].size != offset) {
        sb__event(mux, SB_EVENT_FRAMES, row, mux->part_count);
        mux->run = mux->counts.events - 1;
        mux->events[mux->run].id = -1;
        mux->events[mux->run].offset = offset;
    }
    mux->parts[mux->part_count++] = (sb_part){.id = row->slot.id, .frames = (int32_t)frames, .size = (int64_t)size};
    mux->events[mux->run].size += (int64_t)size;
    mux->events[mux->run].frames += (int64_t)frames;
}

static sb_serve served_by(const sb_mux *mux, const struct row *row)
{
    return row->again & AGAIN_APART ? NULL : mux->groups[row->group].serve;
}

/* Frames of a service that needs no caller.  True when it was one. */
static int serve(sb_mux *mux, struct row *row, char *data, size_t size, size_t frames)
{
    sb_serve serve_them = served_by(mux, row);
    if (serve_them == NULL)
        return 0;
    row->frames += (int64_t)frames;
    mux->served += size;
    size_t answer = serve_them(data, size);
    sb__send(mux, row, data, answer < size ? answer : size);
    return 1;
}

/* ---- finding */

/* As sb_lines_find, for any framing, and no more than so many frames; the scan is
 * about the frame that begins behind those found, or that could not be found. */
static int find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_lines *found, size_t max)
{
    sb_lines whole = {.frames = 0};
    sb_frame frame;
    int code = 0;
    if (framing->kind == SB_FRAMING_LINE) {
        code = sb__lines_find(data, size, scan->searched, framing->limit, found, max);
        if (code > 0 && found->frames > max)
            sb__lines_first(data, max, found);
        scan->searched = code > 0 ? size - found->end : size;
        return code;
    }
    while (whole.end < size && whole.frames < max
           && (code = sb__frame_find(framing, data + whole.end, size - whole.end, scan, &frame)) > 0) {
        whole.frames++;
        whole.end += frame.next;
    }
    if (whole.frames == 0)
        return code;
    *found = whole;
    return (int)whole.frames;
}

/* How many frames of a connection are found in this turn.  What needs no caller is not counted by frames. */
static size_t max_frames(const sb_mux *mux, const struct row *row)
{
    return served_by(mux, row) == NULL ? (size_t)sb__share_of(mux, row)->each : SB_RECEIVE;
}

static sb_scan scan_of(const struct row *row)
{
    return (sb_scan){.searched = row->in == NULL ? 0 : sb__buffer_scanned(row->in), .dots = (size_t)row->dots};
}

static void keep_scan(struct row *row, const sb_scan *scan)
{
    sb__buffer_set_scanned(row->in, scan->searched);
    row->dots = (int32_t)scan->dots;
}

/* Get a buffer for the beginning of a frame; if as much has arrived as was asked for, also for the data behind it:
 * asking is cheaper than moving to a larger buffer at once. */
static sb_buffer *lend_for(sb_mux *mux, const struct row *row, size_t size, int *code)
{
    size_t more = size < SB_RECEIVE ? 0 : sb__expected(row, size);
    sb_buffer *buffer = more == 0 ? NULL : sb__lend(mux, size + more, code);
    return buffer != NULL ? buffer : sb__lend(mux, size, code);
}

static int keep_tail(sb_mux *mux, struct row *row, const char *data, size_t size, const sb_scan *scan)
{
    int code = 0, first = row->in == NULL;
    if (first && (row->in = lend_for(mux, row, size, &code)) == NULL)
        return code;
    code = sb__append(mux, &row->in, data, size);
    if (code < 0)
        return code;
    keep_scan(row, scan);
    if (first) {
        row->framing_ms = mux->now_ms;
        sb__deadline_sooner(mux, row);
    }
    return 0;
}

void sb__drop_tail(sb_mux *mux, struct row *row)
{
    sb__give_back(mux, row->in);
    row->in = NULL;
    row->dots = 0;
}

static int reason_of(int code)
{
    return code == SB_ERR_MALFORMED ? SB_REASON_MALFORMED : SB_REASON_FRAME_TOO_LONG;
}

static int is_announced(const sb_mux *mux, const struct row *row)
{
    return mux->groups[row->group].flags & SB_GROUP_ANNOUNCE;
}

/* What comes next is no frame: the connection ends in the next turn, or, where the
 * caller pauses it because frames before are not answered yet, after it is read again. */
static void doom(sb_mux *mux, struct row *row, int code)
{
    row->flags |= FLAG_DOOMED;
    row->reason = (uint8_t)reason_of(code);
    mux->doomed[mux->doomed_count++] = sb__number(mux, row);
    if (is_announced(mux, row))
        sb__event(mux, SB_EVENT_WRONG, row, row->reason);
}

/* No frame of this turn goes before the error, which lies in the row's buffer where
 * somebody is told of it, who may have frames of before; else this ends at once. */
static void frame_wrong(sb_mux *mux, struct row *row, int code)
{
    if (is_announced(mux, row)) {
        doom(mux, row, code);
        return;
    }
    sb__drop_tail(mux, row);
    sb__begin_close(mux, row, reason_of(code));
}

/* The frames before the error have been answered; else it has ended, and another
 * has its row, or it goes on by another framing, or the caller is not so far. */
void sb__doom(sb_mux *mux, struct row *row)
{
    if (!(row->flags & FLAG_DOOMED))
        return;
    if (row->flags & FLAG_PAUSED) {
        row->flags &= (uint8_t)~FLAG_DOOMED;
        row->again |= AGAIN_WANTED;
        return;
    }
    sb__drop_tail(mux, row);
    sb__begin_close(mux, row, row->reason);
}

/* There may be whole frames: they wait their turn, which is the next one. */
static void wait_turn(sb_mux *mux, struct row *row)
{
    keep_scan(row, &(sb_scan){.searched = 0});
    row->again |= AGAIN_WANTED;
    mux->counts.left = 1;
    sb__look_again(mux, row);
}

/* What is behind so many whole frames is kept.  When it is found to be no frame already,
 * the connection ends as soon as the frames before it have been answered, unless
 * one of these brings another framing. */
static void keep_rest(sb_mux *mux, struct row *row, const char *rest, size_t size, sb_scan *scan, size_t frames)
{
    sb_lines none;
    if (size == 0 || !sb__may(row, MAY_DELIVER))
        return;
    int is_more = frames >= max_frames(mux, row);
    int code = is_more ? 0 : find(sb__framing_of(mux, row), rest, size, scan, &none, 1);
    if (keep_tail(mux, row, rest, size, scan) < 0)
        sb__kill(mux, row, SB_REASON_LIMIT, 0);
    else if (is_more)
        wait_turn(mux, row);
    else if (code < 0)
        doom(mux, row, code);
}

/* Frames as they are handed out.  Returns their size. */
static size_t finish(const sb_mux *mux, const struct row *row, char *data, const sb_lines *found)
{
    int strip = found->returns > 0 && mux->groups[row->group].flags & SB_GROUP_LF;
    return strip ? sb__lines_strip(data, found->end) : found->end;
}

/* ---- framing */

/* n bytes that were received into the arena, behind a copy of the unfinished frame. */
void sb__frame_arena(sb_mux *mux, struct row *row, size_t tail, size_t n)
{
    char *base = mux->arena + mux->arena_used;
    size_t size = tail + n;
    sb_scan scan = scan_of(row);
    sb_lines found;
    int frames = find(sb__framing_of(mux, row), base, size, &scan, &found, max_frames(mux, row));
    if (frames < 0 && !is_announced(mux, row)) {
        frame_wrong(mux, row, frames);
    } else if (frames <= 0) {
        if (keep_tail(mux, row, base + tail, n, &scan) < 0)
            sb__kill(mux, row, SB_REASON_LIMIT, 0);
        else if (frames < 0)
            frame_wrong(mux, row, frames);
    } else {
        sb__drop_tail(mux, row);
        size_t whole = finish(mux, row, base, &found);
        if (!serve(mux, row, base, whole, found.frames)) {
            hand_out(mux, row, (int64_t)mux->arena_used, whole, &found);
            mux->arena_used += whole;
        }
        keep_rest(mux, row, base + found.end, size - found.end, &scan, found.frames);
    }
}

/* Hand out the whole buffer, up to the end of its last frame; the data after it moves to another buffer. */
static void hold_buffer(sb_mux *mux, struct row *row, const sb_lines *found, sb_scan *scan)
{
    char *data = (char *)sb_buffer_data(row->in); /* ours, and about to be held */
    size_t size = sb_buffer_size(row->in);
    mux->held[mux->held_count++] = row->in;
    row->in = NULL;
    row->dots = 0;
    size_t whole = finish(mux, row, data, found);
    if (!serve(mux, row, data, whole, found->frames))
        hand_out(mux, row, -(int64_t)mux->held_count, whole, found);
    keep_rest(mux, row, data + found->end, size - found->end, scan, found->frames);
}

/* Hand a copy of the first frames out: more than they are stays. */
static void copy_from_buffer(sb_mux *mux, struct row *row, const sb_lines *found)
{
    char *base = mux->arena + mux->arena_used;
    memcpy(base, sb_buffer_data(row->in), found->end);
    sb__consume(mux, row->in, found->end);
    size_t whole = finish(mux, row, base, found);
    if (!serve(mux, row, base, whole, found->frames)) {
        hand_out(mux, row, (int64_t)mux->arena_used, whole, found);
        mux->arena_used += whole;
    }
    if (sb__may(row, MAY_DELIVER)) /* what serves it may have ended it */
        wait_turn(mux, row);
}

/* What its buffer has. */
void sb__frame_buffer(sb_mux *mux, struct row *row)
{
    size_t size = sb_buffer_size(row->in), max = max_frames(mux, row);
    sb_scan scan = scan_of(row);
    sb_lines found;
    int frames = find(sb__framing_of(mux, row), sb_buffer_data(row->in), size, &scan, &found, max);
    if (frames < 0)
        frame_wrong(mux, row, frames);
    else if (frames == 0)
        keep_scan(row, &scan);
    else if (found.frames == max && found.end < size / 2 && found.end <= SB_RECEIVE)
        copy_from_buffer(mux, row, &found);
    else
        hold_buffer(mux, row, &found, &scan);
}

/* What lies in its buffer since an earlier turn: it is as if it had come now, for whoever answers a frame that waited
 * has idle_ms for it as well, and a frame that is not whole has all of its time. */
void sb__frame_again(sb_mux *mux, struct row *row)
{
    row->again &= (uint8_t)~AGAIN_WANTED;
    row->moved_ms = row->framing_ms = mux->now_ms;
    sb__frame_buffer(mux, row);
    if (row->in != NULL)
        sb__deadline_sooner(mux, row);
}

/* n bytes in the arena, which are one frame. */
void sb__frame_raw(sb_mux *mux, struct row *row, size_t n)
{
    sb_lines one = {.frames = 1, .end = n};
    if (serve(mux, row, mux->arena + mux->arena_used, n, 1))
        return;
    hand_out(mux, row, (int64_t)mux->arena_used, n, &one);
    mux->arena_used += n;
}
