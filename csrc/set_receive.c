/*
 * set_receive - a turn: wait, receive
 *
 * DESCRIPTION
 *   Every ready connection gets one recv(2).  Input goes behind its unfinished
 *   frame, if any: a small one is copied into the arena once more, so that whole
 *   frames of many connections lie side by side there; a large one grows in the
 *   buffer lent to it.
 *
 *   When the arena is full, or a group's share of the turn is spent, the rest stays
 *   in the kernel until the next turn, which begins with it.
 */
#include "set.h"

#include <errno.h>
#include <string.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

/* ---- the end of input */

static void input_ended(sb_set *set, struct row *row)
{
    const sb_group *group = &set->groups[row->group];
    int was_open = sb__may(row, MAY_DELIVER);
    sb__step(set, row, EVENT_END);
    if (!was_open || row->state == ROW_CLOSED)
        return;
    size_t unframed = row->in == NULL ? 0 : sb_buffer_size(row->in);
    row->moved_ms = set->now_ms;
    if (group->flags & SB_GROUP_ANNOUNCE)
        sb__event(set, SB_EVENT_END, row, (int)unframed);
    else
        sb__begin_close(set, row, unframed > 0 ? SB_REASON_TRUNCATED : SB_REASON_EOF);
}

static void receive_failed(sb_set *set, struct row *row, long code)
{
    if (code == SB_ERR_END && row->error != 0) /* sb_set_lost */
        sb__kill_for(set, row, sb__class_of(row->error), row->error);
    else if (code == SB_ERR_END)
        input_ended(set, row);
    else if (code != SB_ERR_AGAIN)
        sb__kill_for(set, row, code, errno);
}

/* A closing connection's input is received and thrown away (FAQ II.5). */
static void discard(sb_set *set, struct row *row)
{
    char waste[16384];
    long n = sb_receive(row->fd, waste, sizeof waste);
    if (n < 0)
        receive_failed(set, row, n);
    else
        row->received += n;
}

/* ---- receiving */

/* The unfinished frame is small, or there is none: receive behind a copy of it
 * in the arena. */
static void receive_in_arena(sb_set *set, struct row *row, size_t tail)
{
    char *base = set->arena + set->arena_used;
    if (tail > 0)
        memcpy(base, sb_buffer_data(row->in), tail);
    long n = sb_receive(row->fd, base + tail, (size_t)sb__share_of(set, row)->bytes);
    if (n < 0) {
        receive_failed(set, row, n);
        return;
    }
    row->received += n;
    row->moved_ms = set->now_ms;
    sb__frame_arena(set, row, tail, (size_t)n);
}

size_t sb__expected(const struct row *row, size_t tail)
{
    size_t waiting = sb__waiting(row->fd), most = 2 * tail < SB_RECEIVE ? SB_RECEIVE : 2 * tail;
    return waiting < most ? waiting : most;
}

/* The unfinished frame is large: receive behind it in its own buffer, which grows
 * by what has come, not by what may come. */
static void receive_in_buffer(sb_set *set, struct row *row)
{
    char *room;
    size_t want = sb__buffer_room(row->in) >= SB_ROOM_ENOUGH ? 1 : sb__expected(row, sb_buffer_size(row->in));
    if (sb__room(set, &row->in, want == 0 ? 1 : want, &room) < 0) { /* 0: its end, as a rule */
        sb__kill(set, row, SB_REASON_LIMIT, 0);
        return;
    }
    size_t most = sb__buffer_room(row->in);
    long n = sb_receive(row->fd, room, most < SB_RECEIVE ? most : SB_RECEIVE);
    if (n < 0) {
        receive_failed(set, row, n);
        return;
    }
    sb_buffer_commit(row->in, (size_t)n);
    row->received += n;
    row->moved_ms = set->now_ms;
    sb__frame_buffer(set, row);
}

static void receive_raw(sb_set *set, struct row *row)
{
    size_t limit = sb__framing_of(set, row)->limit, most = (size_t)sb__share_of(set, row)->raw_bytes;
    long n = sb_receive(row->fd, set->arena + set->arena_used, limit < most ? limit : most);
    if (n < 0) {
        receive_failed(set, row, n);
        return;
    }
    row->received += n;
    row->moved_ms = set->now_ms;
    sb__frame_raw(set, row, (size_t)n);
}

/* ---- a turn */

enum { READY_READ = SB_READ, READY_WRITE = SB_WRITE, READY_HANGUP = 4, READY_ERROR = 8 };

#ifdef __linux__
/* Nothing is wanted of it, but epoll reports its end all the same. */
static void hang_up(sb_set *set, struct row *row, int ready)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (ready & READY_ERROR)
        getsockopt(row->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == 0)
        error = row->error; /* sb_set_lost */
    if (error != 0)
        sb__kill_for(set, row, sb__class_of(error), error);
    else
        sb__park(set, row);
}
#endif

/* Its group's share is spent: the next turn begins with the first of those. */
static void postpone(sb_set *set, struct row *row)
{
    struct share *share = sb__share_of(set, row);
    set->counts.left = 1;
    sb__look_again(set, row); /* now, so that the order is that in which they wait */
    if (share->next < 0)
        share->next = sb__number(set, row);
}

static void receive(sb_set *set, struct row *row)
{
    size_t tail = row->in == NULL ? 0 : sb_buffer_size(row->in);
    if (!sb__may(row, MAY_DELIVER))
        discard(set, row);
    else if (sb__share_of(set, row)->left <= 0)
        postpone(set, row);
    else if (row->again & AGAIN_WANTED)
        sb__frame_again(set, row); /* and no more of it in this turn, for it may be given back */
    else if (sb__framing_of(set, row)->kind == SB_FRAMING_RAW)
        receive_raw(set, row);
    else if (tail > SB_SMALL_TAIL)
        receive_in_buffer(set, row);
    else
        receive_in_arena(set, row, tail);
}

static int is_arena_full(const sb_set *set)
{
    return set->arena_used > SB_ARENA - SB_RECEIVE - SB_SMALL_TAIL || set->held_count >= SB_HELD || set->served > SB_SERVED;
}

static void row_ready(sb_set *set, struct row *row, int ready)
{
    if (ready & READY_WRITE && row->out != NULL)
        sb__send_more(set, row);
    if (row->state == ROW_CLOSED || !(ready & ~READY_WRITE || row->again & AGAIN_WANTED))
        return;
    if (sb__wanted(row) & SB_READ)
        receive(set, row);
#ifdef __linux__
    else if (ready & (READY_HANGUP | READY_ERROR) && row->out == NULL)
        hang_up(set, row, ready);
#endif
}

static int place_of(const sb_set *set, int n, int32_t number, int otherwise)
{
    for (int i = 0; number >= 0 && i < n; i++)
        if (set->items[i].number == number)
            return i;
    return otherwise;
}

/* The next in the circle of n items. */
static int behind(int place, int n)
{
    return place + 1 < n ? place + 1 : 0;
}

/* The arena is full: the next turn begins with a group that this one has not come to, and this group where it is now. */
static void stop_at(sb_set *set, int n, int place)
{
    const struct item *item = &set->items[place];
    set->tallies[item->group].share.next = set->next_first = item->number;
    for (int i = behind(place, n); i != place; i = behind(i, n))
        if (set->items[i].ready && set->items[i].group != item->group) {
            set->next_first = set->items[i].number;
            return;
        }
}

/* The ready connections of a group, beginning with the one that had to wait in the last turn.  False: the arena is full. */
static int run_group(sb_set *set, int n, int head)
{
    uint16_t group = set->items[head].group;
    struct share *share = &set->tallies[group].share;
    int place = place_of(set, n, share->next, head);
    share->next = -1;
    for (int i = 0; i < n; i++, place = behind(place, n)) {
        struct item *item = &set->items[place];
        if (!item->ready || item->group != group)
            continue;
        if (is_arena_full(set)) {
            stop_at(set, n, place);
            return 0;
        }
        int ready = item->ready;
        item->ready = 0;
        row_ready(set, &set->rows[item->number], ready);
    }
    return 1;
}

/* Ready connections group by group, so that one service's frames lie together,
 * beginning with the one before which the arena was full last time. */
static void run_items(sb_set *set, int n)
{
    int place = place_of(set, n, set->next_first, 0);
    set->next_first = -1;
    for (int i = 0; i < n; i++, place = behind(place, n))
        if (set->items[place].ready && !run_group(set, n, place))
            return;
}

/* An id that stands twice in a list is taken once. */
static int add_item(sb_set *set, int n, int32_t id, int ready)
{
    struct row *row = sb__row(set, id);
    if (row == NULL || row->state == ROW_CLOSED || row->flags & FLAG_READY)
        return n;
    row->flags |= FLAG_READY;
    set->items[n] = (struct item){.number = sb__number(set, row), .group = row->group, .ready = (uint16_t)ready};
    return n + 1;
}

/* Connections of which something lies here already. */
static int add_again(sb_set *set, int n)
{
    for (int32_t i = 0; i < set->again_count; i++) {
        struct row *row = &set->rows[set->again[i]];
        row->again &= (uint8_t)~AGAIN_LISTED;
        if (row->again & AGAIN_WANTED && sb__wanted(row) & SB_READ)
            n = add_item(set, n, row->slot.id, READY_READ);
    }
    set->again_count = 0;
    return n;
}

/* What could not be framed in this turn is not forgotten: the kernel does not tell of it. */
static void keep_again(sb_set *set, int n)
{
    for (int i = 0; i < n; i++)
        sb__look_again(set, &set->rows[set->items[i].number]);
}

static void begin_turn(sb_set *set)
{
    sb__begin_events(set);
    while (set->held_count > 0)
        sb__give_back(set, set->held[--set->held_count]);
    set->counts.ready = set->counts.left = set->part_count = 0;
    set->served = 0;
    set->run = -1;
    set->arena_used = 0;
    if (set->doomed_count > 0)
        sb__now(set);
    for (int i = 0; i < set->doomed_count; i++)
        sb__doom(set, &set->rows[set->doomed[i]]);
    set->doomed_count = 0;
}

/* What was received goes before the judgement of who has sent nothing. */
static void run_turn(sb_set *set, int ready)
{
    int had_again = set->again_count > 0, n = add_again(set, ready);
    for (int i = 0; i < n; i++)
        set->rows[set->items[i].number].flags &= (uint8_t)~FLAG_READY;
    sb__shares_begin(set, n);
    run_items(set, n);
    if (had_again)
        keep_again(set, n);
    sb__shares_end(set);
    sb__deadlines_run(set);
    sb__end_events(set);
}

int sb_set_receive(sb_set *set, const int32_t *ids, const int32_t *masks, int n)
{
    int count = 0;
    begin_turn(set);
    sb__now(set);
    for (int i = 0; i < n; i++)
        count = add_item(set, count, ids[i], masks[i] & (SB_READ | SB_WRITE));
    run_turn(set, count);
    return set->counts.events;
}

#ifdef __linux__
#define WATCHED ((uint64_t)1 << 32)

int sb_set_watch(sb_set *set, int fd, int mask)
{
    struct epoll_event event = {.events = 0, .data = {.u64 = WATCHED | (uint32_t)fd}};
    event.events = (mask & SB_READ ? (uint32_t)EPOLLIN : 0) | (mask & SB_WRITE ? (uint32_t)EPOLLOUT : 0);
    int done = epoll_ctl(set->epoll, mask ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fd, &event); /* most are new */
    if (done < 0 && errno == EEXIST)
        done = epoll_ctl(set->epoll, EPOLL_CTL_MOD, fd, &event);
    if (done < 0)
        set->error = errno;
    return done < 0 ? SB_ERR_FAULT : 0;
}

static void watched_ready(sb_set *set, int fd, uint32_t events)
{
    /* As selectors.EpollSelector: an error or a hang-up is ready for both. */
    int mask = (events & ~(uint32_t)EPOLLOUT ? SB_READ : 0) | (events & ~(uint32_t)EPOLLIN ? SB_WRITE : 0);
    set->readies[set->counts.ready++] = (sb_ready){.id = -1, .fd = fd, .mask = mask};
}

static int ready_of(uint32_t events)
{
    return (events & EPOLLIN ? READY_READ : 0) | (events & EPOLLOUT ? READY_WRITE : 0)
        | (events & EPOLLHUP ? READY_HANGUP : 0) | (events & EPOLLERR ? READY_ERROR : 0);
}

int sb_set_wait(sb_set *set, int timeout_ms)
{
    struct epoll_event ready[SB_BATCH];
    begin_turn(set);
    int due = timeout_ms == 0 ? 0 : sb_set_timeout(set);
    if (due >= 0 && (timeout_ms < 0 || due < timeout_ms))
        timeout_ms = due;
    set->wait_ms = timeout_ms;
    int n = epoll_wait(set->epoll, ready, SB_BATCH, timeout_ms);
    if (n < 0 && errno != EINTR) {
        set->error = errno;
        return SB_ERR_FAULT;
    }
    sb__now(set);
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (ready[i].data.u64 & WATCHED)
            watched_ready(set, (int)(uint32_t)ready[i].data.u64, ready[i].events);
        else
            count = add_item(set, count, (int32_t)ready[i].data.u64, ready_of(ready[i].events));
    }
    run_turn(set, count);
    return set->counts.events + set->counts.ready;
}
#else
int sb_set_watch(sb_set *set, int fd, int mask)
{
    (void)fd, (void)mask;
    set->error = ENOSYS;
    return SB_ERR_FAULT;
}

int sb_set_wait(sb_set *set, int timeout_ms)
{
    (void)timeout_ms;
    set->error = ENOSYS;
    return SB_ERR_FAULT;
}
#endif
