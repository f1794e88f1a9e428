/* SPDX-License-Identifier: MIT */
/*
 * mux_move - a connection moves to another mux, usually of another process
 *
 * DESCRIPTION
 *   A row is exported, its descriptor duplicated by the caller (SCM_RIGHTS, unix(7)), and a row of the other mux
 *   made of both.  Nothing is received or sent in between, so an exported row can also continue where it was.  Only
 *   then it is forgotten here: closed without a shutdown, and without an event.
 *
 *   Unfinished input is framed anew over there.  Times are of CLOCK_MONOTONIC,
 *   which is one for all processes of a host.
 */
#include "mux.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#if SB_HAS_EPOLL
#include <sys/epoll.h>
#endif

enum {
    SB_MOVED_ALL = SB_MOVED_ENDED | SB_MOVED_FINISHED | SB_MOVED_SHUTDOWN | SB_MOVED_PAUSED | SB_MOVED_HIGH | SB_MOVED_FRAMED
};

static const uint8_t state_of[] = {
    [0] = ROW_OPEN,
    [SB_MOVED_ENDED] = ROW_HALF_REMOTE,
    [SB_MOVED_FINISHED] = ROW_HALF_LOCAL,
    [SB_MOVED_ENDED | SB_MOVED_FINISHED] = ROW_FINISHED,
};

static int32_t halves_of(const struct row *row)
{
    int32_t halves = 0;
    while (state_of[halves] != row->state)
        halves++;
    return halves;
}

static int32_t moved_flag(const struct row *row, int flag, int32_t moved)
{
    return row->flags & flag ? moved : 0;
}

static int64_t size_of(const sb_buffer *buffer)
{
    return buffer == NULL ? 0 : (int64_t)sb_buffer_size(buffer);
}

int sb_mux_export(const sb_mux *mux, int id, sb_moved *moved, const char **in, const char **out)
{
    struct row *row;
    int code = sb__open(mux, id, &row);
    if (code < 0)
        return code;
    if (row->again & AGAIN_FILTERED && !sb__has_packets(mux, row))
        return SB_ERR_INVALID;
    *moved = (sb_moved){
        .flags = halves_of(row) | moved_flag(row, FLAG_SHUTDOWN, SB_MOVED_SHUTDOWN)
            | moved_flag(row, FLAG_PAUSED, SB_MOVED_PAUSED) | moved_flag(row, FLAG_HIGH, SB_MOVED_HIGH)
            | moved_flag(row, FLAG_FRAMED, SB_MOVED_FRAMED),
        .high = row->high,
        .low = row->low,
        .peer_size = row->peer_size,
        .received = row->received,
        .sent = row->sent,
        .frames = row->frames,
        .opened_ms = row->opened_ms,
        .moved_ms = row->moved_ms,
        .framing_ms = row->framing_ms,
        .leaving_ms = row->leaving_ms,
        .in_size = size_of(row->in),
        .out_size = size_of(row->out),
    };
    memcpy(moved->peer, row->peer, sizeof row->peer);
    *in = row->in == NULL ? NULL : sb_buffer_data(row->in);
    *out = row->out == NULL ? NULL : sb_buffer_data(row->out);
    return 0;
}

/* A lent buffer with these bytes; none where there are none. */
static int fill(sb_mux *mux, sb_buffer **buffer, const char *data, int64_t size)
{
    int code = 0;
    if (size == 0)
        return 0;
    if (data == NULL || size > PTRDIFF_MAX)
        return SB_ERR_INVALID;
    *buffer = sb__lend(mux, (size_t)size, &code);
    return *buffer == NULL ? code : sb__append(mux, buffer, data, (size_t)size);
}

/* A time of the other process's clock, which is ours. */
static int is_time(const sb_mux *mux, int64_t ms)
{
    return ms >= 0 && ms <= mux->now_ms;
}

static int is_count(int64_t number)
{
    return number >= 0 && number <= INT64_MAX / 2;
}

/* What waits for the output has some: else it would wait for ever. */
static int can_be_flags(const sb_moved *moved)
{
    int32_t flags = moved->flags, finished = flags & SB_MOVED_FINISHED;
    if (flags & ~SB_MOVED_ALL)
        return 0;
    if (moved->out_size > 0)
        return !finished;
    return !(flags & SB_MOVED_HIGH) && (finished || !(flags & SB_MOVED_SHUTDOWN));
}

/* Another process wrote it, perhaps of another version: nothing of it is taken on trust. */
static int can_be(const sb_mux *mux, const sb_moved *moved)
{
    const int64_t counts[] = {moved->received, moved->sent, moved->frames, moved->in_size, moved->out_size};
    const int64_t times[] = {moved->opened_ms, moved->moved_ms, moved->framing_ms, moved->leaving_ms};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        if (!is_count(counts[i]))
            return 0;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        if (!is_time(mux, times[i]))
            return 0;
    return can_be_flags(moved) && moved->low >= 0 && moved->low <= moved->high
        && sb__is_name(moved->peer, moved->peer_size);
}

static void restore(struct row *row, const sb_moved *moved)
{
    row->state = state_of[moved->flags & (SB_MOVED_ENDED | SB_MOVED_FINISHED)];
    row->flags |= (uint8_t)((moved->flags & SB_MOVED_SHUTDOWN ? FLAG_SHUTDOWN : 0)
                            | (moved->flags & SB_MOVED_PAUSED ? FLAG_PAUSED : 0)
                            | (moved->flags & SB_MOVED_HIGH ? FLAG_HIGH : 0));
    row->high = moved->high;
    row->low = moved->low;
    row->received = moved->received;
    row->sent = moved->sent;
    row->frames = moved->frames;
    row->opened_ms = moved->opened_ms;
    row->moved_ms = moved->moved_ms;
    row->framing_ms = moved->framing_ms;
    row->leaving_ms = moved->leaving_ms;
    row->peer_size = (uint8_t)moved->peer_size;
    memcpy(row->peer, moved->peer, sizeof row->peer);
}

int sb_mux_import(sb_mux *mux, int fd, int group, const sb_moved *moved, const char *in, const char *out)
{
    SB_CHECKED(mux);
    sb_buffer *input = NULL, *output = NULL;
    struct row *row = NULL;
    if (!sb__is_group(mux, group))
        return SB_ERR_GONE;
    sb__now(mux);
    if (!can_be(mux, moved))
        return SB_ERR_INVALID;
    int code = fill(mux, &input, in, moved->in_size);
    if (code == 0)
        code = fill(mux, &output, out, moved->out_size);
    if (code == 0)
        code = sb__enter(mux, fd, group, &row);
    if (code < 0) {
        sb__give_back(mux, input);
        sb__give_back(mux, output);
        return code;
    }
    restore(row, moved);
    row->in = input;
    row->out = output;
    if (input != NULL)
        row->again |= AGAIN_WANTED;
    sb__deadline_sooner(mux, row);
    sb__update_interest(mux, row);
    sb__look_again(mux, row);
    return row->slot.id;
}

int sb_mux_forget(sb_mux *mux, int id)
{
    SB_CHECKED(mux);
    struct row *row;
    int code = sb__live(mux, id, &row);
    if (code < 0)
        return code;
    row->again |= AGAIN_SILENT;
#if SB_HAS_EPOLL
    if (mux->epoll >= 0) /* close(2) would not take it out, for the other process has it as well */
        (void)sb__set_epoll(mux, row, EPOLL_CTL_DEL, 0);
#endif
    sb__bury(mux, row);
    return 0;
}

int sb_mux_leave(sb_mux *mux)
{
    if (mux == NULL)
        return SB_ERR_INVALID;
    for (int32_t i = 0; i < mux->slots.used; i++)
        if (mux->rows[i].state != ROW_FREE) {
            close(mux->rows[i].fd);
            mux->rows[i].fd = -1;
        }
    return 0;
}
