/* SPDX-License-Identifier: MIT */
/*
 * mux_unread - frames given back, and another framing in mid-connection
 *
 * DESCRIPTION
 *   What is not framed yet lies in the row's buffer, in the order of the stream.
 *   It is looked at in the next turn, without waiting for the peer, as the frames
 *   that were more than a connection's share (mux_share.c) are: one framing a turn,
 *   so that a connection that changes with every frame holds up no other.
 */
#include "frame.h"
#include "mux.h"

/* Put the row on the list of those that are framed in the next turn, if it is read. */
void sb__look_again(sb_mux *mux, struct row *row)
{
    if (!(row->again & AGAIN_INPUT) || row->again & AGAIN_LISTED || !(sb__wanted(row) & SB_READ))
        return;
    row->again |= AGAIN_LISTED;
    mux->again[mux->again_count++] = sb__number(mux, row);
}

/* What was known of the bytes in `in` is not true any more. */
static void forget_scan(sb_mux *mux, struct row *row)
{
    sb__buffer_set_scanned(row->in, 0);
    row->dots = 0;
    row->flags &= (uint8_t)~FLAG_DOOMED;
    row->again |= AGAIN_WANTED;
    sb__frame_goes_on(mux, row);
}

/* A buffer with data, and behind them what the row has; NULL without memory. */
static sb_buffer *join(sb_mux *mux, const struct row *row, const char *data, size_t size)
{
    int code;
    size_t had = row->in == NULL ? 0 : sb_buffer_size(row->in);
    sb_buffer *joint = sb__lend(mux, size + had, &code);
    if (joint == NULL)
        return NULL;
    (void)sb__append(mux, &joint, data, size);
    if (had > 0)
        (void)sb__append(mux, &joint, sb_buffer_data(row->in), had);
    return joint;
}

static int give_back(sb_mux *mux, int id, const char *data, size_t size, int64_t frames)
{
    struct row *row;
    int code = sb__open(mux, id, &row);
    if (code < 0 || !sb__may(row, MAY_DELIVER))
        return code < 0 ? code : SB_ERR_CLOSING;
    if (size == 0)
        return 0;
    sb_buffer *joint = join(mux, row, data, size);
    if (joint == NULL) {
        sb__kill(mux, row, SB_REASON_LIMIT, 0);
        return SB_ERR_LIMIT;
    }
    sb__give_back(mux, row->in);
    row->in = joint;
    row->frames -= frames;
    forget_scan(mux, row);
    return 0;
}

int sb_mux_unread(sb_mux *mux, int id, const char *data, size_t size, int64_t frames)
{
    SB_CHECKED(mux);
    if (mux == NULL || frames < 0)
        return SB_ERR_INVALID;
    sb__now(mux);
    return give_back(mux, id, data, size, frames);
}

/* ---- part of an event given back */

/* Bytes of the first so many of a connection's whole frames, where there are more. */
static size_t size_of_first(const sb_mux *mux, const struct row *row, const char *data, size_t size, int64_t frames)
{
    const sb_framing *framing = sb__framing_of(mux, row);
    sb_lines lines = {.end = size};
    sb_scan scan = {.searched = 0};
    sb_frame frame;
    size_t end = 0;
    if (framing->kind == SB_FRAMING_LINE) {
        sb__lines_first(data, (size_t)frames, &lines);
        return lines.end;
    }
    for (int64_t i = 0; i < frames && sb__frame_find(framing, data + end, size - end, &scan, &frame) > 0; i++)
        end += frame.next;
    return end;
}

/* Frames of one connection, of which so many stay.  Returns the bytes of these. */
static int64_t cut_part(sb_mux *mux, int32_t id, const char *data, int64_t size, int64_t frames, int64_t kept)
{
    struct row *row = sb__row_of(mux, id);
    size_t end = (size_t)size;
    if (kept >= frames)
        return size;
    end = size_of_first(mux, row, data, (size_t)size, kept);
    (void)give_back(mux, id, data + end, (size_t)size - end, frames - kept);
    return (int64_t)end;
}

int sb_mux_cut(sb_mux *mux, int index, int64_t frames)
{
    SB_CHECKED(mux);
    sb_event *event = mux == NULL || index < 0 || index >= mux->counts.events ? NULL : &mux->events[index];
    if (event == NULL || event->kind != SB_EVENT_FRAMES || frames < 0 || frames > event->frames)
        return SB_ERR_MISMATCH;
    sb__now(mux);
    const char *data = event->offset >= 0 ? mux->arena + event->offset : sb_mux_held(mux, -1 - event->offset);
    int64_t left = event->frames, kept = frames, size = 0;
    if (event->id >= 0)
        size = cut_part(mux, event->id, data, event->size, left, kept);
    for (sb_part *part = &mux->parts[event->detail]; event->id < 0 && left > 0; part++) {
        int64_t here = sb__lesser(part->frames, kept), had = part->size;
        left -= part->frames;
        part->size = cut_part(mux, part->id, data, had, part->frames, here);
        size += part->size;
        data += had;
        kept -= here;
        part->frames = (int32_t)here;
    }
    event->frames = frames;
    event->size = size;
    return 0;
}

const char *sb_mux_unfinished(const sb_mux *mux, int id, size_t *size)
{
    const struct row *row = sb__row(mux, id);
    if (row == NULL || row->in == NULL) {
        *size = 0;
        return NULL;
    }
    *size = sb_buffer_size(row->in);
    return sb_buffer_data(row->in);
}

int sb_mux_framing(sb_mux *mux, int id, const sb_framing *framing)
{
    SB_CHECKED(mux);
    struct row *row;
    int code = sb__open(mux, id, &row);
    if (code < 0)
        return code;
    if (!sb__can_frame(framing) || sb__has_packets(mux, row))
        return SB_ERR_INVALID;
    sb__now(mux);
    mux->framings[sb__number(mux, row)] = sb__bounded(framing);
    row->flags |= FLAG_FRAMED;
    if (row->in != NULL)
        forget_scan(mux, row);
    return 0;
}
