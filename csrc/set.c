/*
 * set - the table of connections
 *
 * DESCRIPTION
 *   Rows are found by their ids (slots.c).  A connection that has ended keeps its
 *   row and its descriptor until its end was told and the turn is settled, so that
 *   the caller can still ask about it.
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
    set->now_ms = sb__clock_ms();
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
    return (size_t)set->slots.size * SB_EVENTS_A_ROW;
}

static size_t readies_size(const sb_set *set)
{
    return (size_t)set->slots.size + SB_BATCH;
}

static int make_tables(sb_set *set)
{
    size_t rows = (size_t)set->slots.size;
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
    sb__slots_init(&set->slots, rows);
    set->dead_rows = set->told_dead = set->run = set->next_first = set->sharing = -1;
    sb__now(set);
    set->looked_ms = set->now_ms;
    if (!make_tables(set) || (epoll && (set->epoll = open_epoll()) < 0)) {
        int error = errno;
        sb_set_free(set);
        errno = error;
        return NULL;
    }
    sb__slots_lie(&set->slots, &set->rows[0].slot, sizeof *set->rows);
    sb__wheel_init(&set->wheel, &set->rows[0].hook, sizeof *set->rows, set->now_ms);
    return set;
}

static void free_tables(sb_set *set)
{
    size_t rows = (size_t)set->slots.size;
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
    for (int32_t i = 0; i < set->slots.used; i++) {
        struct row *row = &set->rows[i];
        if (row->state != ROW_FREE)
            close(row->fd);
        sb_buffer_free(row->in);
        sb_buffer_free(row->out);
    }
    while (set->held_count > 0)
        sb_buffer_free(set->held[--set->held_count]);
    sb__free_pools(set);
    if (set->epoll >= 0)
        close(set->epoll);
    free_tables(set);
    free(set->groups);
    free(set->tallies);
    free(set);
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

/* ---- events, and who is told of them */

/* There is room for every event of a turn: a row is accepted once, hands out
 * frames once and is found wrong once or ends its input, resumes once (in a turn
 * only), can pause before and after that, and closes once. */
void sb__event(sb_set *set, int kind, const struct row *row, int detail)
{
    sb_event *event = &set->events[set->counts.events++];
    *event = (sb_event){.kind = kind, .id = row->slot.id, .group = row->group, .detail = detail};
}

static void free_row(sb_set *set, int32_t number)
{
    struct row *row = &set->rows[number];
    close(row->fd);
    sb__give_back(set, row->in);
    sb__give_back(set, row->out);
    row->in = row->out = NULL;
    row->state = ROW_FREE;
    sb__slot_free(&set->slots, number);
    set->counts.connections--;
    set->counts.closed--;
}

/* The rows whose end was told are free. */
static void free_told(sb_set *set)
{
    int32_t *link = &set->dead_rows, number;
    while (*link != set->told_dead)
        link = &set->rows[*link].slot.next;
    number = set->told_dead;
    *link = set->told_dead = -1;
    while (number >= 0) {
        int32_t next = set->rows[number].slot.next;
        free_row(set, number);
        number = next;
    }
}

/* What came between two turns, such as who was accepted, is told by the next one. */
void sb__begin_events(sb_set *set)
{
    int32_t untold = set->counts.events - set->told;
    memmove(set->events, set->events + set->told, (size_t)untold * sizeof *set->events);
    set->counts.events = untold;
    set->told = 0;
    free_told(set);
}

void sb__end_events(sb_set *set)
{
    set->told = set->counts.events;
    set->told_dead = set->dead_rows;
}

void sb_set_settle(sb_set *set)
{
    sb__end_events(set);
    sb__begin_events(set);
}

/* ---- questions */

struct row *sb__row(const sb_set *set, int id)
{
    int32_t number = sb__slot_of(&set->slots, id);
    return number < 0 || set->rows[number].state == ROW_FREE ? NULL : &set->rows[number];
}

int sb_set_row(const sb_set *set, int id)
{
    return sb__slot_number(&set->slots, id);
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
    int64_t now_ms = sb__clock_ms(); /* a handler may have run since the turn began */
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
        .elapsed_ms = now_ms - row->opened_ms,
    };
    memcpy(info->peer, row->peer, sizeof row->peer);
    return 0;
}
