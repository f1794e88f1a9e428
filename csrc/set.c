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
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
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

_Static_assert((uint64_t)SB_ROWS * SB_EVENTS_A_ROW * sizeof(sb_event) < SIZE_MAX, "the largest table can be addressed");

/* Zeroed pages that cost nothing until they are touched. */
static void *map(size_t count, size_t size)
{
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
    set->again = map(rows, sizeof *set->again);
    set->framings = map(rows, sizeof *set->framings);
    set->items = map(readies_size(set), sizeof *set->items);
    set->arena = map(SB_ARENA, 1);
    return set->rows && set->events && set->parts && set->readies && set->changed && set->doomed && set->again
        && set->framings && set->items && set->arena;
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
    if (rows < 1 || rows > SB_ROWS) {
        errno = EINVAL;
        return NULL;
    }
    sb_set *set = calloc(1, sizeof *set);
    if (set == NULL)
        return NULL;
    set->epoll = -1;
    set->rows_size = rows;
    set->free_rows = set->dead_rows = set->run = set->next_first = -1;
    sb__now(set);
    sb__wheel_init(&set->wheel, set->now_ms);
    if (!make_tables(set) || (epoll && (set->epoll = open_epoll()) < 0)) {
        int error = errno;
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
    unmap(set->again, rows, sizeof *set->again);
    unmap(set->framings, rows, sizeof *set->framings);
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
    free(set->tallies);
    free(set);
}

/* A datagram is none of a stream's pieces; a record of a fixed size has no smaller limit. */
int sb__can_frame(const sb_framing *framing)
{
    return framing->kind != SB_FRAMING_DATAGRAM && !(framing->kind == SB_FRAMING_FIXED && framing->limit > SB_FRAME_MAX);
}

/* How a row is cut: as its group, or by a framing of its own. */
const sb_framing *sb__framing_of(const sb_set *set, const struct row *row)
{
    return row->flags & FLAG_FRAMED ? &set->framings[row - set->rows] : &set->groups[row->group].framing;
}

sb_framing sb__bounded(const sb_framing *framing)
{
    sb_framing bounded = *framing;
    if (bounded.limit > SB_FRAME_MAX)
        bounded.limit = SB_FRAME_MAX;
    return bounded;
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
 * frames once, is found wrong once, ends its input once, resumes once (in
 * receiving only), can pause again after that, and closes once. */
void sb__event(sb_set *set, int kind, int id, int detail)
{
    sb_event *event = &set->events[set->counts.events++];
    *event = (sb_event){.kind = kind, .id = id, .group = set->rows[id].group, .detail = detail};
}

/* What lent buffers may own beside what they own now. */
static size_t memory_left(const sb_set *set)
{
    int64_t left = set->memory_limit - set->counts.memory;
    if (set->memory_limit <= 0)
        return PTRDIFF_MAX;
    return left > 0 ? (size_t)sb__lesser(left, PTRDIFF_MAX) : 0;
}

/* An empty buffer; its limit is the caller's business (rows have limits).  What
 * a lent buffer owns counts as memory of the set, what waits in the pool not. */
sb_buffer *sb__lend(sb_set *set)
{
    if (set->pool_count == 0 || sb_buffer_capacity(set->pool[set->pool_count - 1]) > memory_left(set))
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
    size_t before = sb_buffer_capacity(buffer);
    int code = sb__buffer_reserve(buffer, want, before + memory_left(set), room);
    set->counts.memory += (int64_t)(sb_buffer_capacity(buffer) - before);
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

void sb_set_settle(sb_set *set)
{
    set->counts.events = 0; /* of a row that is used again there would be more than there is room for */
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

/* ---- questions */

struct row *sb__row(const sb_set *set, int id)
{
    if (id < 0 || id >= set->rows_used || set->rows[id].state == ROW_FREE)
        return NULL;
    return &set->rows[id];
}

int64_t sb_set_unsent(const sb_set *set, int id)
{
    const struct row *row = sb__row(set, id);
    return row == NULL || row->out == NULL ? 0 : (int64_t)sb_buffer_size(row->out);
}

int sb_set_info(const sb_set *set, int id, sb_info *info)
{
    const struct row *row = sb__row(set, id);
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
