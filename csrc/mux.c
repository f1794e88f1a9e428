/* SPDX-License-Identifier: MIT */
/*
 * mux - the table of connections
 *
 * DESCRIPTION
 *   Rows are found by their ids (slots.c).  A connection that has ended keeps its
 *   row and its descriptor until its end was delivered and sb_mux_reap was called, so that
 *   the caller can still ask about it.
 *
 * BUGS
 *   A descriptor that a forked child still holds stays in epoll after close(2);
 *   such a descriptor must be taken out before it is handed on.
 */
#include "mux.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#if SB_HAS_EPOLL
#include <sys/epoll.h>
#endif

/* What an idle connection costs; the pages of its row, and nothing else. */
_Static_assert(sizeof(struct row) <= 152, "a row is no larger than it was");
_Static_assert(sizeof(struct sockaddr_in6) <= sizeof((struct row *)0)->peer, "a peer's address fits in its row");

void sb__now(sb_mux *mux)
{
    mux->now_ms = sb__clock_ms();
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

static size_t events_size(const sb_mux *mux)
{
    return (size_t)mux->slots.size * SB_EVENTS_A_ROW;
}

static size_t readies_size(const sb_mux *mux)
{
    return (size_t)mux->slots.size + SB_BATCH;
}

static int make_tables(sb_mux *mux)
{
    size_t rows = (size_t)mux->slots.size;
    mux->rows = map(rows, sizeof *mux->rows);
    mux->events = map(events_size(mux), sizeof *mux->events);
    mux->parts = map(rows, sizeof *mux->parts);
    mux->readies = map(readies_size(mux), sizeof *mux->readies);
    mux->changed = map(rows, sizeof *mux->changed);
    mux->doomed = map(rows, sizeof *mux->doomed);
    mux->again = map(rows, sizeof *mux->again);
    mux->framings = map(rows, sizeof *mux->framings);
    mux->items = map(readies_size(mux), sizeof *mux->items);
    mux->arena = map(SB_ARENA, 1);
    return mux->rows && mux->events && mux->parts && mux->readies && mux->changed && mux->doomed && mux->again
        && mux->framings && mux->items && mux->arena;
}

static int open_epoll(void)
{
#if SB_HAS_EPOLL
    return epoll_create1(EPOLL_CLOEXEC);
#else
    errno = ENOSYS;
    return -1;
#endif
}

sb_mux *sb_mux_new(int32_t rows, int epoll)
{
    if (rows < 1 || rows > SB_ROWS) {
        errno = EINVAL;
        return NULL;
    }
    sb_mux *mux = calloc(1, sizeof *mux);
    if (mux == NULL)
        return NULL;
    mux->epoll = -1;
    sb__slots_init(&mux->slots, rows);
    mux->dead_rows = mux->reported_dead = mux->run = mux->next_first = mux->sharing = -1;
    sb__now(mux);
    mux->looked_ms = mux->now_ms;
    if (!make_tables(mux) || (epoll && (mux->epoll = open_epoll()) < 0)) {
        int error = errno;
        sb_mux_free(mux);
        errno = error;
        return NULL;
    }
    sb__slots_lie(&mux->slots, &mux->rows[0].slot, sizeof *mux->rows);
    sb__wheel_init(&mux->wheel, &mux->rows[0].hook, sizeof *mux->rows, mux->now_ms);
    return mux;
}

static void free_tables(sb_mux *mux)
{
    size_t rows = (size_t)mux->slots.size;
    unmap(mux->rows, rows, sizeof *mux->rows);
    unmap(mux->events, events_size(mux), sizeof *mux->events);
    unmap(mux->parts, rows, sizeof *mux->parts);
    unmap(mux->readies, readies_size(mux), sizeof *mux->readies);
    unmap(mux->changed, rows, sizeof *mux->changed);
    unmap(mux->doomed, rows, sizeof *mux->doomed);
    unmap(mux->again, rows, sizeof *mux->again);
    unmap(mux->framings, rows, sizeof *mux->framings);
    unmap(mux->items, readies_size(mux), sizeof *mux->items);
    unmap(mux->arena, SB_ARENA, 1);
}

void sb_mux_free(sb_mux *mux)
{
    if (mux == NULL)
        return;
    for (int32_t i = 0; i < mux->slots.used; i++) {
        struct row *row = &mux->rows[i];
        if (row->state != ROW_FREE)
            close(row->fd);
        sb_buffer_free(row->in);
        sb_buffer_free(row->out);
    }
    while (mux->held_count > 0)
        sb_buffer_free(mux->held[--mux->held_count]);
    sb__free_pools(mux);
    free(mux->sealed);
    if (mux->epoll >= 0)
        close(mux->epoll);
    free_tables(mux);
    free(mux->groups);
    free(mux->tallies);
    free(mux);
}

const sb_counts *sb_mux_counts(const sb_mux *mux)
{
    return mux == NULL ? NULL : &mux->counts;
}

const sb_event *sb_mux_events(const sb_mux *mux)
{
    return mux == NULL ? NULL : mux->events;
}

const sb_part *sb_mux_parts(const sb_mux *mux)
{
    return mux == NULL ? NULL : mux->parts;
}

const sb_ready *sb_mux_readies(const sb_mux *mux)
{
    return mux == NULL ? NULL : mux->readies;
}

const char *sb_mux_arena(const sb_mux *mux)
{
    return mux == NULL ? NULL : mux->arena;
}

const char *sb_mux_held(const sb_mux *mux, int64_t block)
{
    return mux != NULL && block >= 0 && block < mux->held_count ? sb_buffer_data(mux->held[block]) : NULL;
}

int sb_mux_errno(const sb_mux *mux)
{
    return mux == NULL ? EINVAL : mux->error;
}

int sb_mux_fileno(const sb_mux *mux)
{
    return mux == NULL ? -1 : mux->epoll;
}

/* ---- events and their delivery */

/* There is room for every event of a turn: a row is accepted once, hands out
 * frames once and is found wrong once or ends its input, resumes once (in a turn
 * only), can pause before and after that, and closes once. */
void sb__event(sb_mux *mux, int kind, const struct row *row, int detail)
{
    sb_event *event = &mux->events[mux->counts.events++];
    *event = (sb_event){.kind = kind, .id = row->slot.id, .group = row->group, .detail = detail};
}

static void free_row(sb_mux *mux, int32_t number)
{
    struct row *row = &mux->rows[number];
    close(row->fd);
    sb__give_back(mux, row->in);
    sb__give_back(mux, row->out);
    row->in = row->out = NULL;
    row->state = ROW_FREE;
    sb__slot_free(&mux->slots, number);
    mux->counts.connections--;
    mux->counts.closed--;
}

/* Free the rows whose close was delivered. */
static void free_reported(sb_mux *mux)
{
    int32_t *link = &mux->dead_rows, number;
    while (*link != mux->reported_dead)
        link = &mux->rows[*link].slot.next;
    number = mux->reported_dead;
    *link = mux->reported_dead = -1;
    while (number >= 0) {
        int32_t next = mux->rows[number].slot.next;
        free_row(mux, number);
        number = next;
    }
}

/* Events between two turns, such as accepted connections, are reported by the next turn. */
void sb__begin_events(sb_mux *mux)
{
    int32_t unreported = mux->counts.events - mux->reported;
    memmove(mux->events, mux->events + mux->reported, (size_t)unreported * sizeof *mux->events);
    mux->counts.events = unreported;
    mux->next = (struct next){.event = 0};
    mux->reported = 0;
    free_reported(mux);
}

void sb__end_events(sb_mux *mux)
{
    mux->reported = mux->counts.events;
    mux->reported_dead = mux->dead_rows;
}

int sb_mux_reap(sb_mux *mux)
{
    SB_CHECKED(mux);
    if (mux == NULL)
        return SB_ERR_INVALID;
    sb__end_events(mux);
    sb__begin_events(mux);
    mux->counts.ready = 0;
    return 0;
}

/* ---- questions */

struct row *sb__row(const sb_mux *mux, int id)
{
    if (mux == NULL)
        return NULL;
    int32_t number = sb__slot_of(&mux->slots, id);
    return number < 0 || mux->rows[number].state == ROW_FREE ? NULL : &mux->rows[number];
}

int sb__live(const sb_mux *mux, int id, struct row **row)
{
    *row = sb__row(mux, id);
    return *row == NULL || (*row)->state == ROW_CLOSED ? SB_ERR_GONE : 0;
}

int sb__open(const sb_mux *mux, int id, struct row **row)
{
    int code = sb__live(mux, id, row);
    return code < 0 ? code : sb__may(*row, MAY_CLOSE) ? 0 : SB_ERR_CLOSING;
}

int sb_mux_row(const sb_mux *mux, int id)
{
    int32_t number = mux == NULL || id < 0 ? INT32_MAX : sb__slot_number(&mux->slots, id);
    return number == INT32_MAX || number >= mux->slots.size ? SB_ERR_GONE : number;
}

int64_t sb_mux_unsent(const sb_mux *mux, int id)
{
    const struct row *row = sb__row(mux, id);
    return row == NULL ? SB_ERR_GONE : row->out == NULL ? 0 : (int64_t)sb_buffer_size(row->out);
}

int sb_mux_info(const sb_mux *mux, int id, sb_info *info)
{
    const struct row *row = sb__row(mux, id);
    if (row == NULL)
        return SB_ERR_GONE;
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
        .unsent = sb_mux_unsent(mux, id),
        .unframed = row->in == NULL ? 0 : (int64_t)sb_buffer_size(row->in),
        .elapsed_ms = now_ms - row->opened_ms,
        .idle_ms = now_ms - row->moved_ms,
    };
    memcpy(info->peer, row->peer, sizeof row->peer);
    return 0;
}
