/*
 * set - the table of connections
 *
 * DESCRIPTION
 *   Rows are found by number, free ones hang in a list.  A connection that has
 *   ended keeps its row and its descriptor until the turn is settled, so that
 *   the caller can still ask about it and no number is used again under it.
 *
 * BUGS
 *   A descriptor that a forked child still holds stays in epoll after close(2);
 *   such a descriptor must be taken out before it is handed on.
 */
#include "set.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

_Static_assert(sizeof(struct sockaddr_in6) <= sizeof((struct row *)0)->peer, "a peer's address fits in its row");

void sb__now(sb_set *set)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    set->now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Zeroed pages that cost nothing until they are touched. */
static void *map(size_t count, size_t size)
{
    if (count > SIZE_MAX / size)
        return NULL;
    void *memory = mmap(NULL, count * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void unmap(void *memory, size_t count, size_t size)
{
    if (memory != NULL)
        munmap(memory, count * size);
}

static size_t events_size(const sb_set *set)
{
    return (size_t)set->rows_size * SB_EVENTS_A_ROW;
}

static size_t readies_size(const sb_set *set)
{
    return (size_t)set->rows_size + SB_BATCH;
}

static int make_tables(sb_set *set)
{
    size_t rows = (size_t)set->rows_size;
    set->rows = map(rows, sizeof *set->rows);
    set->events = map(events_size(set), sizeof *set->events);
    set->parts = map(rows, sizeof *set->parts);
    set->readies = map(readies_size(set), sizeof *set->readies);
    set->changed = map(rows, sizeof *set->changed);
    set->doomed = map(rows, sizeof *set->doomed);
    set->items = map(readies_size(set), sizeof *set->items);
    set->arena = map(SB_ARENA, 1);
    return set->rows && set->events && set->parts && set->readies && set->changed && set->doomed && set->items && set->arena;
}

static int open_epoll(void)
{
#ifdef __linux__
    return epoll_create1(EPOLL_CLOEXEC);
#else
    errno = ENOSYS;
    return -1;
#endif
}

sb_set *sb_set_new(int32_t rows, int epoll)
{
    sb_set *set = calloc(1, sizeof *set);
    if (set == NULL)
        return NULL;
    set->epoll = -1;
    set->rows_size = rows;
    set->free_rows = set->dead_rows = set->run = set->next_first = -1;
    sb__now(set);
    sb__wheel_init(&set->wheel, set->now_ms);
    if (rows < 1 || !make_tables(set) || (epoll && (set->epoll = open_epoll()) < 0)) {
        int error = rows < 1 ? EINVAL : errno;
        sb_set_free(set);
        errno = error;
        return NULL;
    }
    return set;
}

static void free_tables(sb_set *set)
{
    size_t rows = (size_t)set->rows_size;
    unmap(set->rows, rows, sizeof *set->rows);
    unmap(set->events, events_size(set), sizeof *set->events);
    unmap(set->parts, rows, sizeof *set->parts);
    unmap(set->readies, readies_size(set), sizeof *set->readies);
    unmap(set->changed, rows, sizeof *set->changed);
    unmap(set->doomed, rows, sizeof *set->doomed);
    unmap(set->items, readies_size(set), sizeof *set->items);
    unmap(set->arena, SB_ARENA, 1);
}

void sb_set_free(sb_set *set)
{
    if (set == NULL)
        return;
    for (int32_t i = 0; i < set->rows_used; i++) {
        struct row *row = &set->rows[i];
        if (row->state != ROW_FREE)
            close(row->fd);
        sb_buffer_free(row->in);
        sb_buffer_free(row->out);
    }
    while (set->held_count > 0)
        sb_buffer_free(set->held[--set->held_count]);
    while (set->pool_count > 0)
        sb_buffer_free(set->pool[--set->pool_count]);
    if (set->epoll >= 0)
        close(set->epoll);
    free_tables(set);
    free(set->groups);
    free(set);
}

int sb_set_group(sb_set *set, const sb_group *group)
{
    if (set->group_count == SB_GROUPS)
        return SB_ERR_LIMIT;
    sb_group *groups = realloc(set->groups, ((size_t)set->group_count + 1) * sizeof *groups);
    if (groups == NULL)
        return SB_ERR_NOMEM;
    set->groups = groups;
    groups[set->group_count] = *group;
    return set->group_count++;
}

const sb_counts *sb_set_counts(const sb_set *set)
{
    return &set->counts;
}

const sb_event *sb_set_events(const sb_set *set)
{
    return set->events;
}

const sb_part *sb_set_parts(const sb_set *set)
{
    return set->parts;
}

const sb_ready *sb_set_readies(const sb_set *set)
{
    return set->readies;
}

const char *sb_set_arena(const sb_set *set)
{
    return set->arena;
}

const char *sb_set_held(const sb_set *set, int64_t block)
{
    return block >= 0 && block < set->held_count ? sb_buffer_data(set->held[block]) : NULL;
}

int sb_set_errno(const sb_set *set)
{
    return set->error;
}

int sb_set_fileno(const sb_set *set)
{
    return set->epoll;
}

/* ---- events and buffers */

/* There is room for every event of a turn: a row is accepted once, hands out
 * frames once, ends its input once, resumes once (in receiving only), can
 * pause again after that, and closes once. */
void sb__event(sb_set *set, int kind, int id, int detail)
{
    sb_event *event = &set->events[set->counts.events++];
    *event = (sb_event){.kind = kind, .id = id, .group = set->rows[id].group, .detail = detail};
}

/* An empty buffer; its limit is the caller's business (rows have limits).  What
 * a lent buffer owns counts as memory of the set, what waits in the pool not. */
sb_buffer *sb__lend(sb_set *set)
{
    if (set->pool_count == 0)
        return sb_buffer_new(PTRDIFF_MAX);
    sb_buffer *buffer = set->pool[--set->pool_count];
    set->counts.memory += (int64_t)sb_buffer_capacity(buffer);
    return buffer;
}

void sb__give_back(sb_set *set, sb_buffer *buffer)
{
    if (buffer == NULL)
        return;
    set->counts.memory -= (int64_t)sb_buffer_capacity(buffer);
    sb_buffer_consume(buffer, sb_buffer_size(buffer));
    if (set->pool_count < SB_POOL && sb_buffer_capacity(buffer) <= SB_POOL_BYTES)
        set->pool[set->pool_count++] = buffer;
    else
        sb_buffer_free(buffer);
}

int sb__reserve(sb_set *set, sb_buffer *buffer, size_t want, char **room)
{
    int64_t before = (int64_t)sb_buffer_capacity(buffer);
    if (set->memory_limit > 0 && (int64_t)(sb_buffer_size(buffer) + want) > before
        && set->counts.memory + (int64_t)want > set->memory_limit)
        return SB_ERR_LIMIT;
    int code = sb_buffer_reserve(buffer, want, room);
    set->counts.memory += (int64_t)sb_buffer_capacity(buffer) - before;
    return code;
}

int sb__append(sb_set *set, sb_buffer *buffer, const char *data, size_t size)
{
    char *room;
    int code = sb__reserve(set, buffer, size, &room);
    if (code < 0)
        return code;
    memcpy(room, data, size);
    sb_buffer_commit(buffer, size);
    return 0;
}

void sb_set_memory(sb_set *set, int64_t most)
{
    set->memory_limit = most;
}

/* ---- interest: what is waited for, from the state alone */

int sb__wanted(const struct row *row)
{
    int held_up = sb__may(row, MAY_DELIVER) && row->flags & (FLAG_PAUSED | FLAG_HIGH);
    int receive = sb__may(row, MAY_RECEIVE) && !held_up;
    int send = sb__may(row, MAY_SEND) && row->out != NULL;
    return (receive ? SB_READ : 0) | (send ? SB_WRITE : 0);
}

#ifdef __linux__
static int tell_epoll(sb_set *set, struct row *row, int operation, int interest)
{
    struct epoll_event event = {.events = 0, .data = {.u64 = (uint64_t)(row - set->rows)}};
    event.events = (interest & SB_READ ? (uint32_t)EPOLLIN : 0) | (interest & SB_WRITE ? (uint32_t)EPOLLOUT : 0);
    return epoll_ctl(set->epoll, operation, row->fd, &event);
}

static void update_epoll(sb_set *set, struct row *row, int interest)
{
    int operation = EPOLL_CTL_MOD;
    if (row->state == ROW_CLOSED)
        return; /* close(2) takes it out */
    if (row->flags & FLAG_PARKED) {
        operation = EPOLL_CTL_ADD;
        row->flags &= (uint8_t)~FLAG_PARKED;
    }
    if (tell_epoll(set, row, operation, interest) < 0)
        sb__kill(set, row, SB_REASON_LIMIT, errno);
}
#else
static void update_epoll(sb_set *set, struct row *row, int interest)
{
    (void)set, (void)row, (void)interest;
}
#endif

void sb__park(sb_set *set, struct row *row)
{
#ifdef __linux__
    if (set->epoll >= 0 && tell_epoll(set, row, EPOLL_CTL_DEL, 0) == 0)
        row->flags |= FLAG_PARKED;
#else
    (void)set, (void)row;
#endif
}

void sb__update_interest(sb_set *set, struct row *row)
{
    int interest = sb__wanted(row);
    if (interest == row->interest)
        return;
    if (set->epoll >= 0) {
        row->interest = (uint8_t)interest;
        update_epoll(set, row, interest);
    } else if (!(row->flags & FLAG_CHANGED)) {
        row->flags |= FLAG_CHANGED;
        set->changed[set->counts.changes++] = (int32_t)(row - set->rows);
    }
}

int sb_set_changes(sb_set *set)
{
    int n = 0;
    for (int i = 0; i < set->counts.changes; i++) {
        struct row *row = &set->rows[set->changed[i]];
        int interest = sb__wanted(row);
        row->flags &= (uint8_t)~FLAG_CHANGED;
        if (interest == row->interest)
            continue;
        set->readies[n++] = (sb_ready){.id = set->changed[i], .fd = row->fd, .had = row->interest, .mask = interest};
        row->interest = (uint8_t)interest;
    }
    set->counts.changes = 0;
    return n;
}

/* ---- the end of a connection */

void sb__kill(sb_set *set, struct row *row, int reason, int error)
{
    if (row->state == ROW_CLOSED)
        return;
    if (row->state != ROW_LINGERING) /* then all was sent: the first reason stands */
        row->reason = (uint8_t)reason;
    row->error = error;
    row->state = ROW_CLOSED;
    sb__deadline_clear(set, row);
    sb__update_interest(set, row);
    row->next = set->dead_rows;
    set->dead_rows = (int32_t)(row - set->rows);
    set->counts.closed++;
    sb__event(set, SB_EVENT_CLOSED, set->dead_rows, row->reason);
}

void sb__kill_for(sb_set *set, struct row *row, long code, int error)
{
    int reason = code == SB_ERR_UNREACHABLE ? SB_REASON_UNREACHABLE
        : code == SB_ERR_NOMEM || code == SB_ERR_LIMIT ? SB_REASON_LIMIT
                                                       : SB_REASON_RESET;
    sb__kill(set, row, reason, error);
}

/* Move on in the table, and do what a state begins with. */
void sb__step(sb_set *set, struct row *row, enum state_event event)
{
    enum state next = sb__next(row->state, event);
    if (next == row->state)
        return;
    if (next == ROW_CLOSED) {
        sb__kill(set, row, row->reason, 0);
        return;
    }
    if (next == ROW_LINGERING) {
        int64_t linger = set->groups[row->group].linger_ms;
        if (event == EVENT_FLUSHED && shutdown(row->fd, SHUT_WR) < 0) {
            sb__kill_for(set, row, SB_ERR_RESET, errno);
            return;
        }
        if (linger <= 0) {
            sb__kill(set, row, row->reason, 0);
            return;
        }
        row->deadline_ms = set->now_ms + linger;
    }
    row->state = next;
    sb__deadline_sooner(set, row);
    sb__update_interest(set, row);
}

void sb__begin_close(sb_set *set, struct row *row, int reason)
{
    if (!sb__may(row, MAY_CLOSE))
        return;
    row->reason = (uint8_t)reason;
    sb__step(set, row, EVENT_CLOSE);
    if (row->out == NULL)
        sb__step(set, row, EVENT_FLUSHED);
}

static struct row *row_of(const sb_set *set, int id)
{
    if (id < 0 || id >= set->rows_used || set->rows[id].state == ROW_FREE)
        return NULL;
    return &set->rows[id];
}

void sb_set_close(sb_set *set, int id, int reason)
{
    struct row *row = row_of(set, id);
    if (row != NULL)
        sb__begin_close(set, row, reason);
}

void sb_set_close_all(sb_set *set, int reason)
{
    for (int32_t id = 0; id < set->rows_used; id++)
        sb_set_close(set, id, reason);
}

int sb_set_close_quiet(sb_set *set, int reason)
{
    int busy = 0;
    for (int32_t id = 0; id < set->rows_used; id++) {
        struct row *row = &set->rows[id];
        int waiting = 0;
        if (!sb__may(row, MAY_CLOSE))
            continue;
        if (row->in != NULL || (ioctl(row->fd, FIONREAD, &waiting) == 0 && waiting > 0))
            busy++;
        else
            sb__begin_close(set, row, reason);
    }
    return busy;
}

void sb_set_abort(sb_set *set, int id, int reason)
{
    struct row *row = row_of(set, id);
    if (row == NULL || row->state == ROW_CLOSED)
        return;
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(row->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    row->reason = (uint8_t)reason;
    sb__kill(set, row, reason, 0);
}

void sb_set_shutdown(sb_set *set, int id)
{
    struct row *row = row_of(set, id);
    if (row == NULL || !sb__may(row, MAY_WRITE))
        return;
    row->flags |= FLAG_SHUTDOWN;
    if (row->out == NULL)
        sb__output_done(set, row);
}

void sb_set_pause(sb_set *set, int id, int paused)
{
    struct row *row = row_of(set, id);
    if (row == NULL)
        return;
    row->flags = (uint8_t)(paused ? row->flags | FLAG_PAUSED : row->flags & ~FLAG_PAUSED);
    sb__update_interest(set, row);
}

int sb_set_water(sb_set *set, int id, int64_t high, int64_t low)
{
    struct row *row = row_of(set, id);
    if (low < 0 || low > high)
        return SB_ERR_LIMIT;
    if (row != NULL) {
        row->high = high > INT32_MAX ? INT32_MAX : (int32_t)high;
        row->low = low > INT32_MAX ? INT32_MAX : (int32_t)low;
    }
    return 0;
}

void sb_set_settle(sb_set *set)
{
    while (set->dead_rows >= 0) {
        int32_t id = set->dead_rows;
        struct row *row = &set->rows[id];
        set->dead_rows = row->next;
        close(row->fd);
        sb__give_back(set, row->in);
        sb__give_back(set, row->out);
        row->in = row->out = NULL;
        row->state = ROW_FREE;
        row->next = set->free_rows;
        set->free_rows = id;
        set->counts.connections--;
        set->counts.closed--;
    }
}

/* ---- deadlines of a row, from its state alone */

static int64_t sooner(int64_t a, int64_t since_ms, int64_t after_ms)
{
    int64_t b = after_ms > 0 ? since_ms + after_ms : INT64_MAX;
    return a < b ? a : b;
}

/* The next deadline of a row, 0 for none. */
int64_t sb__deadline_of(const sb_set *set, const struct row *row)
{
    const sb_group *group = &set->groups[row->group];
    int64_t deadline = INT64_MAX;
    if (row->state == ROW_LINGERING)
        return row->deadline_ms;
    if (sb__may(row, MAY_CLOSE))
        deadline = sooner(deadline, row->moved_ms, group->idle_ms);
    /* A peer that is not read because it does not read cannot end its frame. */
    if (sb__may(row, MAY_DELIVER) && row->in != NULL && !(row->flags & (FLAG_HIGH | FLAG_PAUSED)))
        deadline = sooner(deadline, row->framing_ms, group->frame_ms);
    if (sb__may(row, MAY_SEND) && row->out != NULL)
        deadline = sooner(deadline, row->leaving_ms, group->stall_ms);
    return deadline == INT64_MAX ? 0 : deadline;
}

static int deadline_reason(const sb_set *set, const struct row *row)
{
    const sb_group *group = &set->groups[row->group];
    if (row->state == ROW_LINGERING)
        return row->reason;
    if (row->out != NULL && set->now_ms >= sooner(INT64_MAX, row->leaving_ms, group->stall_ms))
        return SB_REASON_WRITE_STALL;
    if (row->in != NULL && set->now_ms >= sooner(INT64_MAX, row->framing_ms, group->frame_ms))
        return SB_REASON_FRAME_TIMEOUT;
    return SB_REASON_IDLE_TIMEOUT;
}

/* The peer had its time.  What it is owed has left or cannot leave: an end in
 * order would wait for it once more, so this closes at once; close(2) sends
 * FIN, or RST when input was not read. */
void sb__deadline_reached(sb_set *set, struct row *row)
{
    row->reason = (uint8_t)deadline_reason(set, row);
    sb__kill(set, row, row->reason, 0);
}

/* ---- birth */

static struct row *new_row(sb_set *set)
{
    if (set->free_rows >= 0) {
        struct row *row = &set->rows[set->free_rows];
        set->free_rows = row->next;
        return row;
    }
    return set->rows_used < set->rows_size ? &set->rows[set->rows_used++] : NULL;
}

static void forget_row(sb_set *set, struct row *row)
{
    row->state = ROW_FREE;
    row->next = set->free_rows;
    set->free_rows = (int32_t)(row - set->rows);
}

static int start(sb_set *set, struct row *row)
{
    row->interest = 0;
    if (set->epoll < 0) {
        sb__update_interest(set, row);
        return 0;
    }
#ifdef __linux__
    row->interest = SB_READ;
    if (tell_epoll(set, row, EPOLL_CTL_ADD, SB_READ) < 0) {
        set->error = errno;
        return SB_ERR_FAULT;
    }
#endif
    return 0;
}

static int add(sb_set *set, int fd, int group, const struct sockaddr_storage *peer, socklen_t peer_size)
{
    struct row *row = new_row(set);
    if (row == NULL)
        return SB_ERR_FULL;
    *row = (struct row){.fd = fd, .group = (uint16_t)group, .state = ROW_OPEN, .slot = -1, .next = -1};
    row->opened_ms = row->moved_ms = set->now_ms;
    int64_t high = set->groups[group].high_water;
    row->high = high > INT32_MAX ? INT32_MAX : (int32_t)high;
    row->low = row->high / 4;
    if (peer->ss_family != AF_UNIX && peer_size > 0 && peer_size <= sizeof row->peer) {
        memcpy(row->peer, peer, peer_size);
        row->peer_size = (uint8_t)peer_size;
    }
    if (start(set, row) < 0) {
        forget_row(set, row);
        return SB_ERR_FAULT;
    }
    set->counts.connections++;
    sb__deadline_sooner(set, row);
    int id = (int)(row - set->rows);
    if (set->groups[group].flags & SB_GROUP_ANNOUNCE)
        sb__event(set, SB_EVENT_ACCEPTED, id, 0);
    return id;
}

int sb_set_add(sb_set *set, int fd, int group)
{
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &size) < 0)
        size = 0;
    sb__now(set);
    return add(set, fd, group, &peer, size);
}

static int accept_one(int listener, struct sockaddr_storage *peer, socklen_t *size)
{
#ifdef SOCK_NONBLOCK
    return accept4(listener, (struct sockaddr *)peer, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    int fd = accept(listener, (struct sockaddr *)peer, size);
    if (fd >= 0 && (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
#endif
}

/* Whether accept(2) failed for want of descriptors or memory. */
static int is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

int sb_set_accept(sb_set *set, int listener, int group, int most, int *stopped)
{
    int came = 0;
    *stopped = 0;
    sb__now(set);
    for (int i = 0; i < most; i++) {
        if (set->counts.connections == set->rows_size) {
            *stopped = SB_ERR_FULL;
            break;
        }
        struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
        socklen_t size = sizeof peer;
        int fd = accept_one(listener, &peer, &size);
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (fd < 0 && (is_shortage(errno) || errno == EBADF || errno == EINVAL || errno == ENOTSOCK)) {
            *stopped = set->error = errno;
            break;
        }
        if (fd < 0)
            continue; /* that connection's own error: ECONNABORTED, EPROTO, EPERM and kin */
        if (add(set, fd, group, &peer, size) < 0) {
            *stopped = set->error;
            close(fd);
            break;
        }
        came++;
    }
    return came;
}

/* ---- questions */

int64_t sb_set_unsent(const sb_set *set, int id)
{
    const struct row *row = row_of(set, id);
    return row == NULL || row->out == NULL ? 0 : (int64_t)sb_buffer_size(row->out);
}

int sb_set_info(const sb_set *set, int id, sb_info *info)
{
    const struct row *row = row_of(set, id);
    if (row == NULL)
        return SB_ERR_LIMIT;
    *info = (sb_info){
        .fd = row->fd,
        .group = row->group,
        .open = sb__may(row, MAY_WRITE) != 0,
        .reason = row->reason,
        .error = row->error,
        .peer_size = row->peer_size,
        .received = row->received,
        .sent = row->sent,
        .frames = row->frames,
        .unsent = sb_set_unsent(set, id),
        .unframed = row->in == NULL ? 0 : (int64_t)sb_buffer_size(row->in),
        .elapsed_ms = set->now_ms - row->opened_ms,
    };
    memcpy(info->peer, row->peer, sizeof row->peer);
    return 0;
}
