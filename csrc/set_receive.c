/*
 * set_receive - a turn: wait, receive, frame
 *
 * DESCRIPTION
 *   Every ready connection gets one recv(2).  Input goes behind its unfinished
 *   frame, if any: a small one is copied into the arena once more, so that whole
 *   frames of many connections lie side by side there; a large one grows in the
 *   buffer lent to it, and is handed out from there as a held block.
 *
 *   When the arena is full the rest stays in the kernel until the next turn.
 */
#include "set.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

/* ---- handing out */

/* Whole frames of one connection; they join the run before them when both
 * lie in the arena, belong to one group and are small. */
static void hand_out(sb_set *set, struct row *row, int64_t offset, size_t size, size_t frames)
{
    const sb_group *group = &set->groups[row->group];
    int32_t id = (int32_t)(row - set->rows);
    row->frames += (int64_t)frames;
    int merge = group->flags & SB_GROUP_MERGE && offset >= 0 && !(frames == 1 && size >= SB_OWN_EVENT);
    if (!merge) {
        sb__event(set, SB_EVENT_FRAMES, id, 0);
        sb_event *event = &set->events[set->counts.events - 1];
        event->offset = offset;
        event->size = (int64_t)size;
        event->frames = (int64_t)frames;
        return;
    }
    if (set->run < 0 || set->events[set->run].group != row->group
        || set->events[set->run].offset + set->events[set->run].size != offset) {
        sb__event(set, SB_EVENT_FRAMES, id, set->part_count);
        set->run = set->counts.events - 1;
        set->events[set->run].id = -1;
        set->events[set->run].offset = offset;
    }
    set->parts[set->part_count++] = (sb_part){.id = id, .frames = (int32_t)frames, .size = (int64_t)size};
    set->events[set->run].size += (int64_t)size;
    set->events[set->run].frames += (int64_t)frames;
}

/* Frames of a service that needs no caller.  True when it was one. */
static int serve(sb_set *set, struct row *row, char *data, size_t size, size_t frames)
{
    int how = set->groups[row->group].serve;
    if (how == SB_SERVE_CALLER)
        return 0;
    row->frames += (int64_t)frames;
    if (how == SB_SERVE_UPPER)
        sb_upper(data, size);
    if (how != SB_SERVE_DISCARD)
        sb__send(set, row, data, size);
    return 1;
}

/* ---- the end of input */

static void input_ended(sb_set *set, struct row *row)
{
    const sb_group *group = &set->groups[row->group];
    int was_open = sb__may(row, MAY_DELIVER);
    sb__step(set, row, EVENT_END);
    if (!was_open || row->state == ROW_CLOSED)
        return;
    size_t unframed = row->in == NULL ? 0 : sb_buffer_size(row->in);
    if (group->flags & SB_GROUP_ANNOUNCE)
        sb__event(set, SB_EVENT_END, (int)(row - set->rows), (int)unframed);
    else
        sb__begin_close(set, row, unframed > 0 ? SB_REASON_TRUNCATED : SB_REASON_EOF);
}

static void receive_failed(sb_set *set, struct row *row, long code)
{
    if (code == SB_ERR_END)
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

/* ---- whole frames, and what is behind them */

/* As sb_lines_find, for any framing; the scan is about the frame that begins
 * behind those found, or that could not be found. */
static int find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_lines *found)
{
    sb_lines whole = {.frames = 0};
    sb_frame frame;
    int code = 0;
    if (framing->kind == SB_FRAMING_LINE) {
        code = sb_lines_find(data, size, scan->searched, framing->limit, found);
        scan->searched = code > 0 ? size - found->end : size;
        return code;
    }
    while (whole.end < size
           && (code = sb_frame_find(framing, data + whole.end, size - whole.end, scan, &frame)) > 0) {
        whole.frames++;
        whole.end += frame.next;
    }
    if (whole.frames == 0)
        return code;
    *found = whole;
    return (int)whole.frames;
}

static sb_scan scan_of(const struct row *row)
{
    return (sb_scan){.searched = row->in == NULL ? 0 : sb_buffer_scanned(row->in), .dots = (size_t)row->dots};
}

static void keep_scan(struct row *row, const sb_scan *scan)
{
    sb_buffer_set_scanned(row->in, scan->searched);
    row->dots = (int32_t)scan->dots;
}

static int keep_tail(sb_set *set, struct row *row, const char *data, size_t size, const sb_scan *scan)
{
    int first = row->in == NULL;
    if (first && (row->in = sb__lend(set)) == NULL)
        return SB_ERR_NOMEM;
    int code = sb__append(set, row->in, data, size);
    if (code < 0)
        return code;
    keep_scan(row, scan);
    if (first) {
        row->framing_ms = set->now_ms;
        sb__deadline_sooner(set, row);
    }
    return 0;
}

static void drop_tail(sb_set *set, struct row *row)
{
    sb__give_back(set, row->in);
    row->in = NULL;
    row->dots = 0;
}

static int reason_of(int code)
{
    return code == SB_ERR_MALFORMED ? SB_REASON_MALFORMED : SB_REASON_FRAME_TOO_LONG;
}

/* No frame goes before this error: end at once. */
static void frame_wrong(sb_set *set, struct row *row, int code)
{
    drop_tail(set, row);
    sb__begin_close(set, row, reason_of(code));
}

/* What is behind whole frames: kept, or found to be no frame already.  Then the
 * connection ends when the frames before it have been answered. */
static void take_rest(sb_set *set, struct row *row, const char *rest, size_t size, sb_scan *scan)
{
    sb_lines none;
    if (size == 0 || !sb__may(row, MAY_DELIVER))
        return;
    int code = find(&set->groups[row->group].framing, rest, size, scan, &none);
    if (code < 0) {
        row->flags |= FLAG_DOOMED;
        row->reason = (uint8_t)reason_of(code);
        set->doomed[set->doomed_count++] = (int32_t)(row - set->rows);
    } else if (keep_tail(set, row, rest, size, scan) < 0) {
        sb__kill(set, row, SB_REASON_LIMIT, 0);
    }
}

/* Frames as they are handed out.  Returns their size. */
static size_t finish(const sb_set *set, const struct row *row, char *data, const sb_lines *found)
{
    int strip = found->returns > 0 && !(set->groups[row->group].flags & SB_GROUP_WIRE);
    return strip ? sb_lines_strip(data, found->end) : found->end;
}

/* The unfinished frame is small, or there is none: receive behind a copy of it
 * in the arena. */
static void receive_in_arena(sb_set *set, struct row *row, size_t tail)
{
    char *base = set->arena + set->arena_used;
    if (tail > 0)
        memcpy(base, sb_buffer_data(row->in), tail);
    long n = sb_receive(row->fd, base + tail, SB_RECEIVE);
    if (n < 0) {
        receive_failed(set, row, n);
        return;
    }
    row->received += n;
    row->moved_ms = set->now_ms;
    size_t size = tail + (size_t)n;
    sb_scan scan = scan_of(row);
    sb_lines found;
    int frames = find(&set->groups[row->group].framing, base, size, &scan, &found);
    if (frames < 0) {
        frame_wrong(set, row, frames);
    } else if (frames == 0) {
        if (keep_tail(set, row, base + tail, (size_t)n, &scan) < 0)
            sb__kill(set, row, SB_REASON_LIMIT, 0);
    } else {
        drop_tail(set, row);
        size_t whole = finish(set, row, base, &found);
        if (!serve(set, row, base, whole, found.frames)) {
            hand_out(set, row, (int64_t)set->arena_used, whole, found.frames);
            set->arena_used += whole;
        }
        take_rest(set, row, base + found.end, size - found.end, &scan);
    }
}

/* The unfinished frame is large: receive behind it in its own buffer, and hand
 * that out when the frame is whole. */
static void receive_in_buffer(sb_set *set, struct row *row)
{
    char *room;
    if (sb__reserve(set, row->in, SB_RECEIVE, &room) < 0) {
        sb__kill(set, row, SB_REASON_LIMIT, 0);
        return;
    }
    long n = sb_receive(row->fd, room, SB_RECEIVE);
    if (n < 0) {
        receive_failed(set, row, n);
        return;
    }
    sb_buffer_commit(row->in, (size_t)n);
    row->received += n;
    row->moved_ms = set->now_ms;
    char *data = room - (sb_buffer_size(row->in) - (size_t)n);
    size_t size = sb_buffer_size(row->in);
    sb_scan scan = scan_of(row);
    sb_lines found;
    int frames = find(&set->groups[row->group].framing, data, size, &scan, &found);
    if (frames < 0) {
        frame_wrong(set, row, frames);
        return;
    }
    if (frames == 0) {
        keep_scan(row, &scan);
        return;
    }
    sb_buffer *whole_buffer = row->in;
    row->in = NULL;
    row->dots = 0;
    set->held[set->held_count++] = whole_buffer;
    size_t whole = finish(set, row, data, &found);
    if (!serve(set, row, data, whole, found.frames))
        hand_out(set, row, -(int64_t)set->held_count, whole, found.frames);
    take_rest(set, row, data + found.end, size - found.end, &scan);
}

static void receive_raw(sb_set *set, struct row *row)
{
    size_t most = set->groups[row->group].framing.limit;
    char *base = set->arena + set->arena_used;
    long n = sb_receive(row->fd, base, most < SB_RECEIVE ? most : SB_RECEIVE);
    if (n < 0) {
        receive_failed(set, row, n);
        return;
    }
    row->received += n;
    row->moved_ms = set->now_ms;
    if (!serve(set, row, base, (size_t)n, 1)) {
        hand_out(set, row, (int64_t)set->arena_used, (size_t)n, 1);
        set->arena_used += (size_t)n;
    }
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
    if (error != 0)
        sb__kill_for(set, row, sb__class_of(error), error);
    else
        sb__park(set, row);
}
#endif

static void receive(sb_set *set, struct row *row)
{
    size_t tail = row->in == NULL ? 0 : sb_buffer_size(row->in);
    if (!sb__may(row, MAY_DELIVER))
        discard(set, row);
    else if (set->groups[row->group].framing.kind == SB_FRAMING_RAW)
        receive_raw(set, row);
    else if (tail > SB_SMALL_TAIL)
        receive_in_buffer(set, row);
    else
        receive_in_arena(set, row, tail);
}

static int is_arena_full(const sb_set *set)
{
    return set->arena_used > SB_ARENA - SB_RECEIVE - SB_SMALL_TAIL || set->held_count == SB_HELD;
}

static void row_ready(sb_set *set, struct row *row, int ready)
{
    if (ready & READY_WRITE && row->out != NULL)
        sb__send_more(set, row);
    if (row->state == ROW_CLOSED || !(ready & ~READY_WRITE))
        return;
    if (sb__wanted(row) & SB_READ)
        receive(set, row);
#ifdef __linux__
    else if (ready & (READY_HANGUP | READY_ERROR) && row->out == NULL)
        hang_up(set, row, ready);
#endif
}

/* Ready connections group by group, so that one service's frames lie together,
 * beginning with the one before which the arena was full last time. */
static void run_items(sb_set *set, int n)
{
    struct item *items = set->items;
    int first = 0;
    for (int i = 0; set->next_first >= 0 && i < n; i++)
        if (items[i].id == set->next_first)
            first = i;
    set->next_first = -1;
    for (int i = 0; i < n; i++) {
        struct item *head = &items[i + first < n ? i + first : i + first - n];
        uint16_t group = head->group;
        for (int j = i; head->ready && j < n; j++) {
            struct item *item = &items[j + first < n ? j + first : j + first - n];
            if (!item->ready || item->group != group)
                continue;
            if (is_arena_full(set)) {
                set->next_first = item->id;
                return;
            }
            int ready = item->ready;
            if (item != head)
                item->ready = 0;
            row_ready(set, &set->rows[item->id], ready);
        }
    }
}

static int add_item(sb_set *set, int n, int32_t id, int ready)
{
    if (id < 0 || id >= set->rows_used || set->rows[id].state == ROW_FREE || set->rows[id].state == ROW_CLOSED)
        return n;
    assert(n < set->rows_size); /* no id twice */
    set->items[n] = (struct item){.id = id, .group = set->rows[id].group, .ready = (uint16_t)ready};
    return n + 1;
}

static void begin_turn(sb_set *set)
{
    sb_set_settle(set);
    while (set->held_count > 0)
        sb__give_back(set, set->held[--set->held_count]);
    set->counts.ready = set->part_count = 0;
    set->run = -1;
    set->arena_used = 0;
    for (int i = 0; i < set->doomed_count; i++)
        if (set->rows[set->doomed[i]].flags & FLAG_DOOMED) /* else it has ended, and another has its row */
            sb__begin_close(set, &set->rows[set->doomed[i]], set->rows[set->doomed[i]].reason);
    set->doomed_count = 0;
}

int sb_set_receive(sb_set *set, const int32_t *ids, const int32_t *masks, int n)
{
    int count = 0;
    begin_turn(set);
    sb__now(set);
    sb__deadlines_run(set);
    for (int i = 0; i < n; i++)
        count = add_item(set, count, ids[i], masks[i] & (SB_READ | SB_WRITE));
    run_items(set, count);
    return set->counts.events;
}

#ifdef __linux__
#define WATCHED ((uint64_t)1 << 32)

int sb_set_watch(sb_set *set, int fd, int mask)
{
    struct epoll_event event = {.events = 0, .data = {.u64 = WATCHED | (uint32_t)fd}};
    event.events = (mask & SB_READ ? (uint32_t)EPOLLIN : 0) | (mask & SB_WRITE ? (uint32_t)EPOLLOUT : 0);
    int done = epoll_ctl(set->epoll, mask ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, fd, &event);
    if (done < 0 && errno == ENOENT && mask)
        done = epoll_ctl(set->epoll, EPOLL_CTL_ADD, fd, &event);
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
    int n = epoll_wait(set->epoll, ready, SB_BATCH, set->counts.events > 0 ? 0 : timeout_ms);
    if (n < 0 && errno != EINTR) {
        set->error = errno;
        return SB_ERR_FAULT;
    }
    sb__now(set);
    sb__deadlines_run(set);
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (ready[i].data.u64 & WATCHED)
            watched_ready(set, (int)(uint32_t)ready[i].data.u64, ready[i].events);
        else
            count = add_item(set, count, (int32_t)ready[i].data.u64, ready_of(ready[i].events));
    }
    run_items(set, count);
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
