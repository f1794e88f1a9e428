/* SPDX-License-Identifier: MIT */
/*
 * mux_send - replies, and output that the kernel did not take
 *
 * DESCRIPTION
 *   One send a connection and turn.  A remainder waits in a lent buffer with
 *   write interest on; past high water that connection is not read until the
 *   remainder is down to low water.
 */
#include "frame.h"
#include "mux.h"

#include <errno.h>
#include <string.h>

void sb__note_high(sb_mux *mux, struct row *row)
{
    if (row->out != NULL && sb_buffer_size(row->out) > (size_t)row->high && !(row->flags & FLAG_HIGH)) {
        row->flags |= FLAG_HIGH;
        if (mux->groups[row->group].flags & SB_GROUP_ANNOUNCE)
            sb__event(mux, SB_EVENT_PAUSE, row, 0);
    }
    sb__update_interest(mux, row);
}

void sb__keep(sb_mux *mux, struct row *row, const char *data, size_t size)
{
    const sb_group *group = &mux->groups[row->group];
    int code = 0, first = row->out == NULL;
    size_t had = first ? 0 : sb_buffer_size(row->out);
    if (size > (size_t)group->max_unsent || had > (size_t)group->max_unsent - size)
        code = SB_ERR_LIMIT;
    else if (!first || (row->out = sb__lend(mux, size, &code)) != NULL)
        code = sb__append(mux, &row->out, data, size);
    if (code < 0) {
        sb__kill_for(mux, row, code, 0);
        return;
    }
    if (first) {
        sb__now(mux); /* it may have been paused since it was requested, also by the memory of others; this is not a
                       * hot path */
        row->moved_ms = row->leaving_ms = mux->now_ms;
        sb__deadline_sooner(mux, row);
    }
    sb__note_high(mux, row);
}

static int can_send(const struct row *row)
{
    return sb__may(row, MAY_WRITE) && !(row->flags & FLAG_SHUTDOWN);
}

/* What a filter has made of the caller's bytes was counted when it made it, packets without their prefix. */
static void count_sent(struct row *row, long n)
{
    row->sent += row->again & AGAIN_FILTERED ? 0 : n;
}

/* What the kernel took of it, n as sb_send returns.  Returns its bytes. */
static size_t sent(sb_mux *mux, struct row *row, long n)
{
    if (n < 0) {
        if (n != SB_ERR_AGAIN)
            sb__kill_for(mux, row, n, errno);
        return 0;
    }
    count_sent(row, n);
    row->moved_ms = mux->now_ms;
    return (size_t)n;
}

void sb__send(sb_mux *mux, struct row *row, const char *data, size_t size)
{
    if (!can_send(row) || size == 0)
        return;
    if (row->again & AGAIN_FILTERED)
        sb__seal(mux, row, data, size, 0);
    else
        sb__put(mux, row, data, size);
}

void sb__put(sb_mux *mux, struct row *row, const char *data, size_t size)
{
    size_t gone = row->out == NULL ? sent(mux, row, sb_send(row->fd, data, size)) : 0;
    if (gone < size && can_send(row))
        sb__keep(mux, row, data + gone, size - gone);
}

void sb__put_packets(sb_mux *mux, struct row *row, const char *data, size_t size)
{
    size_t gone = row->out == NULL ? sent(mux, row, sb__send_packets(row, data, size)) : 0;
    if (gone < size && can_send(row))
        sb__keep(mux, row, data + gone, size - gone);
}

/* One piece and a small one behind it, which is not worth a copy of the first. */
static void send_both(sb_mux *mux, struct row *row, sb_piece first, sb_piece second)
{
    if (!can_send(row))
        return;
    if (row->again & AGAIN_FILTERED) {
        sb__seal(mux, row, first.data, first.size, second.size > 0 ? SB_SEAL_MORE : 0);
        sb__send(mux, row, second.data, second.size);
        return;
    }
    sb_piece both[] = {first, second};
    size_t gone = row->out == NULL ? sent(mux, row, sb_send_gather(row->fd, both, 2)) : 0;
    if (gone < first.size && can_send(row)) {
        sb__keep(mux, row, first.data + gone, first.size - gone);
        gone = first.size;
    }
    if (gone < first.size + second.size && can_send(row))
        sb__keep(mux, row, second.data + (gone - first.size), first.size + second.size - gone);
}

/* Everything written has been taken by the kernel. */
void sb__output_done(sb_mux *mux, struct row *row)
{
    if (row->flags & FLAG_SHUTDOWN && sb__may(row, MAY_WRITE)) {
        if (shutdown(row->fd, SHUT_WR) < 0)
            sb__kill_for(mux, row, SB_ERR_RESET, errno);
        else
            sb__step(mux, row, EVENT_FIN);
        return;
    }
    sb__step(mux, row, EVENT_FLUSHED);
}

void sb__send_more(sb_mux *mux, struct row *row)
{
    const char *data = sb_buffer_data(row->out);
    size_t size = sb_buffer_size(row->out);
    long n = sb__has_packets(mux, row) ? sb__send_packets(row, data, size) : sb_send(row->fd, data, size);
    if (n == SB_ERR_AGAIN)
        return;
    if (n < 0) {
        sb__kill_for(mux, row, n, errno);
        return;
    }
    count_sent(row, n);
    row->moved_ms = row->leaving_ms = mux->now_ms;
    sb__consume(mux, row->out, (size_t)n);
    if (row->flags & FLAG_HIGH && sb_buffer_size(row->out) <= (size_t)row->low) {
        row->flags &= (uint8_t)~FLAG_HIGH;
        sb__frame_goes_on(mux, row);
        if (mux->groups[row->group].flags & SB_GROUP_ANNOUNCE && sb__may(row, MAY_WRITE))
            sb__event(mux, SB_EVENT_RESUME, row, 0);
    }
    if (sb_buffer_size(row->out) == 0) {
        sb__give_back(mux, row->out);
        row->out = NULL;
        sb__output_done(mux, row);
    }
    sb__update_interest(mux, row);
}

/* ---- replies to an event of frames */

enum {
    AT_ONCE = 240, /* a byte has room for as many: compilers compare and add sixteen and more at once */
    SMALL = 4096   /* copied in front of its ending: cheaper than two pieces for the kernel */
};

static size_t count_lf(const char *data, size_t size)
{
    size_t n = 0;
    for (; size >= AT_ONCE; data += AT_ONCE, size -= AT_ONCE) {
        unsigned char some = 0;
        for (int i = 0; i < AT_ONCE; i++)
            some = (unsigned char)(some + (data[i] == '\n'));
        n += some;
    }
    for (size_t i = 0; i < size; i++)
        n += data[i] == '\n';
    return n;
}

/* Whether a block is so many lines. */
static int is_lines(const char *block, size_t size, int64_t count)
{
    return size > 0 && block[size - 1] == '\n' && count_lf(block, size) == (size_t)count;
}

/* Where lines end, one block of newline.c's after the other. */
struct walk {
    const char *data;
    size_t size, base, looked, n, at;
    uint32_t ends[SB_ENDS];
};

/* The end of the count-th line from here; the caller knows that it is there. */
static size_t end_of_lines(struct walk *walk, size_t count)
{
    while (walk->n - walk->at < count) {
        count -= walk->n - walk->at;
        walk->base += walk->looked;
        walk->n = sb__ends(walk->data + walk->base, walk->size - walk->base, '\n', walk->ends, &walk->looked);
        walk->at = 0;
    }
    walk->at += count;
    return walk->base + walk->ends[walk->at - 1] + 1;
}

/* Read the clock again: output is timed from now, not from before a handler ran. */
static const sb_event *frames_event(sb_mux *mux, int index)
{
    if (mux == NULL)
        return NULL;
    sb__now(mux);
    if (index < 0 || index >= mux->counts.events || mux->events[index].kind != SB_EVENT_FRAMES)
        return NULL;
    return &mux->events[index];
}

int sb_mux_reply_lines(sb_mux *mux, int index, const char *block, size_t size)
{
    SB_CHECKED(mux);
    const sb_event *event = frames_event(mux, index);
    if (event == NULL || !is_lines(block, size, event->frames))
        return SB_ERR_MISMATCH;
    if (event->id >= 0) {
        sb__send(mux, sb__row_of(mux, event->id), block, size);
        return 0;
    }
    struct walk walk; /* not all of it is cleared: 8 KiB */
    walk.data = block;
    walk.size = size;
    walk.base = walk.looked = walk.n = walk.at = 0;
    int64_t left = event->frames;
    size_t begin = 0;
    for (const sb_part *part = &mux->parts[event->detail]; left > 0; part++) {
        size_t end = left == part->frames ? size : end_of_lines(&walk, (size_t)part->frames);
        sb__send(mux, sb__row_of(mux, part->id), block + begin, end - begin);
        begin = end;
        left -= part->frames;
    }
    return 0;
}

int sb_mux_reply_line(sb_mux *mux, int index, const char *line, size_t size, const char *ending, size_t ending_size)
{
    SB_CHECKED(mux);
    char copy[SMALL];
    const sb_event *event = frames_event(mux, index);
    if (event == NULL || event->frames != 1 || ending_size > sizeof copy)
        return SB_ERR_MISMATCH;
    struct row *row = sb__row_of(mux, event->id >= 0 ? event->id : mux->parts[event->detail].id);
    if (size > sizeof copy - ending_size) {
        send_both(mux, row, (sb_piece){.data = line, .size = size}, (sb_piece){.data = ending, .size = ending_size});
        return 0;
    }
    memcpy(copy, line, size);
    memcpy(copy + size, ending, ending_size);
    sb__send(mux, row, copy, size + ending_size);
    return 0;
}

int sb_mux_reply_lengths(sb_mux *mux, int index, const char *block, size_t size, const uint32_t *lengths)
{
    SB_CHECKED(mux);
    const sb_event *event = frames_event(mux, index);
    if (event == NULL)
        return SB_ERR_MISMATCH;
    uint64_t total = 0;
    for (int64_t i = 0; i < event->frames; i++)
        total += lengths[i];
    if (total != size)
        return SB_ERR_MISMATCH;
    if (event->id >= 0) {
        sb__send(mux, sb__row_of(mux, event->id), block, size);
        return 0;
    }
    int64_t left = event->frames;
    for (const sb_part *part = &mux->parts[event->detail]; left > 0; part++) {
        size_t bytes = 0;
        for (int32_t i = 0; i < part->frames; i++)
            bytes += *lengths++;
        sb__send(mux, sb__row_of(mux, part->id), block, bytes);
        block += bytes;
        left -= part->frames;
    }
    return 0;
}

int64_t sb_mux_send(sb_mux *mux, int id, const char *data, size_t size)
{
    SB_CHECKED(mux);
    struct row *row;
    int code = sb__open(mux, id, &row);
    if (code < 0 || !can_send(row))
        return code < 0 ? code : SB_ERR_CLOSING;
    sb__now(mux);
    sb__send(mux, row, data, size);
    if (row->state != ROW_CLOSED)
        return row->out == NULL ? 0 : (int64_t)sb_buffer_size(row->out);
    return row->reason == SB_REASON_LIMIT ? SB_ERR_LIMIT : row->reason == SB_REASON_UNREACHABLE ? SB_ERR_UNREACHABLE : SB_ERR_RESET;
}

int sb_mux_write(sb_mux *mux, int n, const int32_t *ids, const int64_t *sizes, const char *block)
{
    SB_CHECKED(mux);
    if (mux == NULL)
        return SB_ERR_INVALID;
    sb__now(mux);
    for (int i = 0; i < n && sizes[i] >= 0; i++) {
        struct row *row = sb__row(mux, ids[i]);
        if (row != NULL)
            sb__send(mux, row, block, (size_t)sizes[i]);
        block += sizes[i];
    }
    return 0;
}
