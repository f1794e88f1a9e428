/* SPDX-License-Identifier: MIT */
/*
 * mux_receive - a turn: wait, receive
 *
 * DESCRIPTION
 *   Every ready connection gets one recv(2).  Input goes behind its unfinished
 *   frame, if any: a small one is copied into the arena once more, so that whole
 *   frames of many connections lie side by side there; a large one grows in the
 *   buffer lent to it, by what has come: what had no room there is received into
 *   the arena by the same call.
 *
 *   When the arena is full, or a group's share of the turn is spent, the rest stays
 *   in the kernel until the next turn, which begins with it.
 */
#include "mux.h"

#include <errno.h>
#include <string.h>
#if SB_HAS_EPOLL
#include <sys/epoll.h>
#endif

/* ---- the end of input */

static void input_ended(sb_mux *mux, struct row *row)
{
    const sb_group *group = &mux->groups[row->group];
    int was_open = sb__may(row, MAY_DELIVER);
    sb__step(mux, row, EVENT_END);
    if (!was_open || row->state == ROW_CLOSED)
        return;
    size_t unframed = row->in == NULL ? 0 : sb_buffer_size(row->in);
    row->moved_ms = mux->now_ms;
    if (group->flags & SB_GROUP_ANNOUNCE)
        sb__event(mux, SB_EVENT_END, row, (int)unframed);
    else
        sb__begin_close(mux, row, unframed > 0 ? SB_REASON_TRUNCATED : SB_REASON_EOF);
}

void sb__receive_failed(sb_mux *mux, struct row *row, long code)
{
    if (code == SB_ERR_END)
        input_ended(mux, row);
    else if (code != SB_ERR_AGAIN)
        sb__kill_for(mux, row, code, errno);
}

/* A closing connection's input is received and thrown away (FAQ II.5). */
static void discard(sb_mux *mux, struct row *row)
{
    char waste[16384];
    long n = sb__has_packets(mux, row) ? sb__receive_packet(row->fd, waste, sizeof waste, 0)
                                       : sb_receive(row->fd, waste, sizeof waste);
    if (n < 0)
        sb__receive_failed(mux, row, n);
    else
        row->received += n;
}

/* ---- receiving */

/* The unfinished frame is small, or there is none: receive behind a copy of it
 * in the arena. */
static void receive_in_arena(sb_mux *mux, struct row *row, size_t tail)
{
    char *base = mux->arena + mux->arena_used;
    if (tail > 0)
        memcpy(base, sb_buffer_data(row->in), tail);
    long n = sb_receive(row->fd, base + tail, (size_t)sb__share_of(mux, row)->bytes);
    if (n < 0) {
        sb__receive_failed(mux, row, n);
        return;
    }
    row->received += n;
    row->moved_ms = mux->now_ms;
    sb__frame_arena(mux, row, tail, (size_t)n);
}

size_t sb__expected(const struct row *row, size_t tail)
{
    size_t waiting = sb__waiting(row->fd), max = 2 * tail < SB_RECEIVE ? SB_RECEIVE : 2 * tail;
    return waiting < max ? waiting : max;
}

/* Keep what has come in the arena because the buffer had no room for it; if as much has come as was asked for, with
 * room for what is behind it as well: asking is cheaper than moving to a larger buffer at once. */
static int keep_behind(sb_mux *mux, struct row *row, const char *data, size_t size, int is_all)
{
    char *room;
    size_t more = is_all ? sb__expected(row, sb_buffer_size(row->in) + size) : 0;
    if (more > 0)
        (void)sb__room(mux, &row->in, size + more, &room); /* without it, room for what has come is asked for */
    return sb__append(mux, &row->in, data, size);
}

/* The unfinished frame is large: receive behind it, into the room that its own buffer has and the arena, so that the
 * buffer grows by what has come, not by what may come. */
static void receive_in_buffer(sb_mux *mux, struct row *row)
{
    char *arena = mux->arena + mux->arena_used, *end = sb__buffer_data(row->in) + sb_buffer_size(row->in);
    size_t room = sb__buffer_room(row->in), first = room < SB_RECEIVE ? room : SB_RECEIVE;
    long n = first == SB_RECEIVE ? sb_receive(row->fd, end, first)
                                 : sb__receive_two(row->fd, end, first, arena, SB_RECEIVE - first);
    if (n < 0) {
        sb__receive_failed(mux, row, n);
        return;
    }
    row->received += n;
    row->moved_ms = mux->now_ms;
    sb_buffer_commit(row->in, (size_t)n);
    if ((size_t)n > first && keep_behind(mux, row, arena, (size_t)n - first, n == SB_RECEIVE) < 0)
        sb__kill(mux, row, SB_REASON_LIMIT, 0);
    else
        sb__frame_buffer(mux, row);
}

static size_t raw_room(const sb_mux *mux, const struct row *row)
{
    size_t limit = sb__framing_of(mux, row)->limit, max = (size_t)sb__share_of(mux, row)->raw_bytes;
    return limit < max ? limit : max;
}

static void receive_raw(sb_mux *mux, struct row *row)
{
    long n = sb_receive(row->fd, mux->arena + mux->arena_used, raw_room(mux, row));
    if (n < 0) {
        sb__receive_failed(mux, row, n);
        return;
    }
    row->received += n;
    row->moved_ms = mux->now_ms;
    sb__frame_raw(mux, row, (size_t)n);
}

/* What has come makes sense to a filter alone: what that makes of it is framed. */
static void receive_filtered(sb_mux *mux, struct row *row, size_t tail)
{
    char *base = mux->arena + mux->arena_used;
    int is_raw = sb__framing_of(mux, row)->kind == SB_FRAMING_RAW, is_small = tail <= SB_SMALL_TAIL;
    size_t room = is_raw ? raw_room(mux, row) : SB_RECEIVE;
    if (is_small && tail > 0)
        memcpy(base, sb_buffer_data(row->in), tail);
    long n = sb__unseal(mux, row, is_small ? base + tail : base, room);
    if (row->state == ROW_CLOSED)
        return;
    row->received += n > 0 ? n : 0;
    if (n < 0)
        sb__receive_failed(mux, row, n);
    else if (n > 0 && is_raw)
        sb__frame_raw(mux, row, (size_t)n);
    else if (n > 0 && is_small)
        sb__frame_arena(mux, row, tail, (size_t)n);
    else if (n > 0 && keep_behind(mux, row, base, (size_t)n, 0) < 0)
        sb__kill(mux, row, SB_REASON_LIMIT, 0);
    else if (n > 0)
        sb__frame_buffer(mux, row);
    sb__look_again(mux, row);
}

/* ---- a turn */

enum { READY_READ = SB_READ, READY_WRITE = SB_WRITE, READY_HANGUP = 4, READY_ERROR = 8 };

#if SB_HAS_EPOLL
/* Nothing is wanted of it, but epoll reports its end all the same. */
static void hang_up(sb_mux *mux, struct row *row, int ready)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (ready & READY_ERROR)
        getsockopt(row->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0)
        sb__kill_for(mux, row, sb__class_of(error), error);
    else
        sb__park(mux, row);
}
#endif

/* Its group's share is spent: the next turn begins with the first of those. */
static void postpone(sb_mux *mux, struct row *row)
{
    struct share *share = sb__share_of(mux, row);
    mux->counts.left = 1;
    sb__look_again(mux, row); /* now, so that the order is that in which they wait */
    if (share->next < 0)
        share->next = sb__number(mux, row);
}

static void receive(sb_mux *mux, struct row *row)
{
    size_t tail = row->in == NULL ? 0 : sb_buffer_size(row->in);
    if (!sb__may(row, MAY_DELIVER))
        discard(mux, row);
    else if (sb__share_of(mux, row)->left <= 0)
        postpone(mux, row);
    else if (row->again & AGAIN_WANTED)
        sb__frame_again(mux, row); /* and no more of it in this turn, for it may be given back */
    else if (row->again & AGAIN_FILTERED && sb__has_packets(mux, row))
        sb__receive_framed(mux, row);
    else if (row->again & AGAIN_FILTERED)
        receive_filtered(mux, row, tail);
    else if (sb__framing_of(mux, row)->kind == SB_FRAMING_RAW)
        receive_raw(mux, row);
    else if (tail > SB_SMALL_TAIL)
        receive_in_buffer(mux, row);
    else
        receive_in_arena(mux, row, tail);
}

static int is_arena_full(const sb_mux *mux)
{
    return mux->arena_used > SB_ARENA - SB_RECEIVE - SB_SMALL_TAIL || mux->held_count >= SB_HELD || mux->served > SB_SERVED;
}

static void row_ready(sb_mux *mux, struct row *row, int ready)
{
    if (ready & READY_WRITE && row->out != NULL)
        sb__send_more(mux, row);
    if (row->state == ROW_CLOSED || !(ready & ~READY_WRITE || row->again & AGAIN_INPUT))
        return;
    if (sb__wanted(row) & SB_READ)
        receive(mux, row);
#if SB_HAS_EPOLL
    else if (ready & (READY_HANGUP | READY_ERROR) && row->out == NULL)
        hang_up(mux, row, ready);
#endif
}

static int place_of(const sb_mux *mux, int n, int32_t number, int otherwise)
{
    for (int i = 0; number >= 0 && i < n; i++)
        if (mux->items[i].number == number)
            return i;
    return otherwise;
}

/* The next in the circle of n items. */
static int behind(int place, int n)
{
    return place + 1 < n ? place + 1 : 0;
}

/* The arena is full: the next turn begins with a group that this one has not come to, and this group where it is now. */
static void stop_at(sb_mux *mux, int n, int place)
{
    const struct item *item = &mux->items[place];
    mux->tallies[item->group].share.next = mux->next_first = item->number;
    for (int i = behind(place, n); i != place; i = behind(i, n))
        if (mux->items[i].ready && mux->items[i].group != item->group) {
            mux->next_first = mux->items[i].number;
            return;
        }
}

/* The ready connections of a group, beginning with the one that had to wait in the last turn.  False: the arena is full. */
static int run_group(sb_mux *mux, int n, int head)
{
    uint16_t group = mux->items[head].group;
    struct share *share = &mux->tallies[group].share;
    int place = place_of(mux, n, share->next, head);
    share->next = -1;
    for (int i = 0; i < n; i++, place = behind(place, n)) {
        struct item *item = &mux->items[place];
        if (!item->ready || item->group != group)
            continue;
        if (is_arena_full(mux)) {
            stop_at(mux, n, place);
            return 0;
        }
        int ready = item->ready;
        item->ready = 0;
        row_ready(mux, &mux->rows[item->number], ready);
    }
    return 1;
}

/* Ready connections group by group, so that one service's frames lie together,
 * beginning with the one before which the arena was full last time. */
static void run_items(sb_mux *mux, int n)
{
    int place = place_of(mux, n, mux->next_first, 0);
    mux->next_first = -1;
    for (int i = 0; i < n; i++, place = behind(place, n))
        if (mux->items[place].ready && !run_group(mux, n, place))
            return;
}

/* An id that occurs twice in a list counts once. */
static int add_item(sb_mux *mux, int n, int32_t id, int ready)
{
    struct row *row = sb__row(mux, id);
    if (row == NULL || row->state == ROW_CLOSED || row->flags & FLAG_READY)
        return n;
    row->flags |= FLAG_READY;
    mux->items[n] = (struct item){.number = sb__number(mux, row), .group = row->group, .ready = (uint16_t)ready};
    return n + 1;
}

/* Connections of which something lies here already. */
static int add_again(sb_mux *mux, int n)
{
    for (int32_t i = 0; i < mux->again_count; i++) {
        struct row *row = &mux->rows[mux->again[i]];
        row->again &= (uint8_t)~AGAIN_LISTED;
        if (row->again & AGAIN_INPUT && sb__wanted(row) & SB_READ)
            n = add_item(mux, n, row->slot.id, READY_READ);
    }
    mux->again_count = 0;
    return n;
}

/* What could not be framed in this turn is not forgotten: the kernel does not tell of it. */
static void keep_again(sb_mux *mux, int n)
{
    for (int i = 0; i < n; i++)
        sb__look_again(mux, &mux->rows[mux->items[i].number]);
}

static void begin_turn(sb_mux *mux)
{
    sb__begin_events(mux);
    while (mux->held_count > 0)
        sb__give_back(mux, mux->held[--mux->held_count]);
    mux->counts.ready = mux->counts.left = mux->part_count = 0;
    mux->served = 0;
    mux->run = -1;
    mux->arena_used = 0;
    if (mux->doomed_count > 0)
        sb__now(mux);
    for (int i = 0; i < mux->doomed_count; i++)
        sb__doom(mux, &mux->rows[mux->doomed[i]]);
    mux->doomed_count = 0;
}

/* Received data is processed before deadlines of silent peers. */
static void run_turn(sb_mux *mux, int ready)
{
    int had_again = mux->again_count > 0, n = add_again(mux, ready);
    for (int i = 0; i < n; i++)
        mux->rows[mux->items[i].number].flags &= (uint8_t)~FLAG_READY;
    sb__shares_begin(mux, n);
    run_items(mux, n);
    if (had_again)
        keep_again(mux, n);
    sb__shares_end(mux);
    sb__deadlines_run(mux);
    sb__end_events(mux);
}

int sb_mux_turn_of(sb_mux *mux, const int32_t *ids, const int32_t *masks, int n)
{
    SB_CHECKED(mux);
    int count = 0;
    if (mux == NULL)
        return SB_ERR_INVALID;
    begin_turn(mux);
    sb__now(mux);
    for (int i = 0; i < n; i++)
        count = add_item(mux, count, ids[i], masks[i] & (SB_READ | SB_WRITE));
    run_turn(mux, count);
    return mux->counts.events;
}

#if SB_HAS_EPOLL
#define WATCHED ((uint64_t)1 << 32)

/* Descriptors no longer watched are not reported. */
static void forget_ready(sb_mux *mux, int fd)
{
    for (int32_t i = mux->next.ready; i < mux->counts.ready; i++)
        if (mux->readies[i].fd == fd)
            mux->readies[i].mask = 0;
}

int sb_mux_watch(sb_mux *mux, int fd, int mask)
{
    SB_CHECKED(mux);
    if (mux == NULL || fd < 0 || mask & ~(SB_READ | SB_WRITE))
        return SB_ERR_INVALID;
    if (mask == 0)
        forget_ready(mux, fd);
    struct epoll_event event = {.events = 0, .data = {.u64 = WATCHED | (uint32_t)fd}};
    event.events = (mask & SB_READ ? (uint32_t)EPOLLIN : 0) | (mask & SB_WRITE ? (uint32_t)EPOLLOUT : 0);
    int done = epoll_ctl(mux->epoll, mask ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fd, &event); /* most are new */
    if (done < 0 && errno == EEXIST)
        done = epoll_ctl(mux->epoll, EPOLL_CTL_MOD, fd, &event);
    if (done < 0)
        mux->error = errno;
    return done < 0 ? SB_ERR_FAULT : 0;
}

static void watched_ready(sb_mux *mux, int fd, uint32_t events)
{
    /* As selectors.EpollSelector: an error or a hang-up is ready for both. */
    int mask = (events & ~(uint32_t)EPOLLOUT ? SB_READ : 0) | (events & ~(uint32_t)EPOLLIN ? SB_WRITE : 0);
    mux->readies[mux->counts.ready++] = (sb_ready){.id = -1, .fd = fd, .mask = mask};
}

static int ready_of(uint32_t events)
{
    return (events & EPOLLIN ? READY_READ : 0) | (events & EPOLLOUT ? READY_WRITE : 0)
        | (events & EPOLLHUP ? READY_HANGUP : 0) | (events & EPOLLERR ? READY_ERROR : 0);
}

int sb_mux_turn(sb_mux *mux, int timeout_ms)
{
    SB_CHECKED(mux);
    struct epoll_event ready[SB_BATCH];
    if (mux == NULL)
        return SB_ERR_INVALID;
    begin_turn(mux);
    int due = timeout_ms == 0 ? 0 : sb_mux_timeout(mux);
    if (due >= 0 && (timeout_ms < 0 || due < timeout_ms))
        timeout_ms = due;
    mux->wait_ms = timeout_ms;
    int n = epoll_wait(mux->epoll, ready, SB_BATCH, timeout_ms);
    if (n < 0 && errno != EINTR) {
        mux->error = errno;
        return SB_ERR_FAULT;
    }
    sb__now(mux);
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (ready[i].data.u64 & WATCHED)
            watched_ready(mux, (int)(uint32_t)ready[i].data.u64, ready[i].events);
        else
            count = add_item(mux, count, (int32_t)ready[i].data.u64, ready_of(ready[i].events));
    }
    run_turn(mux, count);
    return mux->counts.events + mux->counts.ready;
}
#else
int sb_mux_watch(sb_mux *mux, int fd, int mask)
{
    SB_CHECKED(mux);
    (void)fd, (void)mask;
    if (mux == NULL)
        return SB_ERR_INVALID;
    mux->error = ENOSYS;
    return SB_ERR_FAULT;
}

int sb_mux_turn(sb_mux *mux, int timeout_ms)
{
    SB_CHECKED(mux);
    (void)timeout_ms;
    if (mux == NULL)
        return SB_ERR_INVALID;
    mux->error = ENOSYS;
    return SB_ERR_FAULT;
}
#endif
