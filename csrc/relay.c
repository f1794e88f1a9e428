/* SPDX-License-Identifier: MIT */
/*
 * relay - bytes from one socket to another and back
 *
 * DESCRIPTION
 *   Each of the two ways of a pair moves by itself (relay_move.c).
 *
 *   Waits in an epoll of its own, which the caller's loop watches as one
 *   descriptor, so that a turn of the loop is one call for all pairs.
 *
 * BUGS
 *   Needs epoll and splice: Linux.  Urgent data comes as any other.
 */
#include "relay.h"

#include <errno.h>
#include <stdlib.h>

#if SB_HAS_EPOLL

#include <sys/epoll.h>
#include <unistd.h>

void sb__relay_now(sb_relay *relay)
{
    relay->now_ms = sb__clock_ms();
}

/* ---- the end of a pair */

void sb__relay_close(int fd, int reason)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0}; /* close(2) sends RST (socket(7)) */
    if (reason != SB_REASON_EOF)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
}

void sb__relay_leave(sb_relay *relay, struct pair *pair)
{
    free(pair->way[0].rest);
    free(pair->way[1].rest);
    pair->fd[0] = pair->fd[1] = -1;
    sb__wheel_remove(&relay->wheel, sb__relay_number(relay, pair));
    sb__slot_free(&relay->slots, sb__relay_number(relay, pair));
    relay->counts.pairs--;
}

void sb__relay_end(sb_relay *relay, struct pair *pair, int reason, int error, int side)
{
    relay->ends[relay->counts.ends++] = (sb_relay_end){
        .id = pair->slot.id,
        .reason = reason,
        .error = error,
        .side = side,
        .moved = {pair->way[0].moved, pair->way[1].moved},
    };
    if (pair->client.sources != NULL)
        sb_sources_leave(pair->client.sources, pair->client.peer, (size_t)pair->client.peer_size);
    for (int i = 0; i < 2; i++) {
        if (pair->fd[i] >= 0)
            sb__relay_close(pair->fd[i], reason);
        sb__relay_give_back(relay, &pair->way[i]);
    }
    sb__relay_leave(relay, pair);
}

static int why_of(int code)
{
    switch (code) {
    case SB_ERR_NOMEM:
        return SB_REASON_LIMIT;
    case SB_ERR_UNREACHABLE:
        return SB_REASON_UNREACHABLE;
    default:
        return SB_REASON_RESET;
    }
}

/* Data that the failed side had sent before is forwarded first: a server may reply and close without reading on.
 * The kernel has reported the error to the sender, and reports an end of file to the reader, which is not one. */
static void fail(sb_relay *relay, struct pair *pair, int code, int error, int from)
{
    int side = relay->failed_side;
    if (side != from) {
        pair->lost[side] = error;
        (void)sb__relay_move(relay, pair, side);
    }
    sb__relay_end(relay, pair, why_of(code), error, side);
}

/* ---- the events to wait for */

static uint32_t wanted(const struct pair *pair, int side)
{
    if (pair->phase != PHASE_PAIR)
        return sb__client_wants(pair, side);
    const struct way *going = &pair->way[side], *coming = &pair->way[1 - side];
    return (!going->ended && !sb__relay_holds(going) ? (uint32_t)EPOLLIN : 0) | (sb__relay_holds(coming) ? (uint32_t)EPOLLOUT : 0);
}

int sb__relay_watch(sb_relay *relay, struct pair *pair, int side, int operation)
{
    uint32_t events = wanted(pair, side);
    struct epoll_event event = {.events = events, .data = {.u64 = 0}};
    event.data.u64 = (uint64_t)pair->slot.id * 2 + (unsigned)side;
    if (pair->parked[side]) {
        operation = EPOLL_CTL_ADD;
        pair->parked[side] = 0;
    }
    pair->interest[side] = (uint8_t)events;
    return epoll_ctl(relay->epoll, operation, pair->fd[side], &event);
}

void sb__relay_watch_both(sb_relay *relay, struct pair *pair)
{
    for (int side = 0; side < 2; side++)
        if (wanted(pair, side) != pair->interest[side] && sb__relay_watch(relay, pair, side, EPOLL_CTL_MOD) < 0) {
            sb__relay_end(relay, pair, SB_REASON_LIMIT, errno, side);
            return;
        }
}

/* Nothing is wanted of it, but epoll reports its end all the same. */
static void end_or_park(sb_relay *relay, struct pair *pair, int side)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(pair->fd[side], SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == 0)
        error = pair->lost[side];
    if (error != 0) {
        sb__relay_end(relay, pair, why_of(sb__class_of(error)), error, side);
        return;
    }
    epoll_ctl(relay->epoll, EPOLL_CTL_DEL, pair->fd[side], NULL);
    pair->parked[side] = 1;
}

int sb__relay_advance(sb_relay *relay, struct pair *pair, int from)
{
    int had_ended = pair->way[from].ended;
    int code = sb__relay_move(relay, pair, from);
    if (code < 0) {
        fail(relay, pair, code, errno, from);
        return 0;
    }
    if (pair->way[0].ended && pair->way[1].ended) {
        sb__relay_end(relay, pair, SB_REASON_EOF, 0, from);
        return 0;
    }
    if (pair->way[from].ended != had_ended)
        sb__relay_note_deadline(relay, pair);
    return 1;
}

static void pair_ready(sb_relay *relay, struct pair *pair, int side, uint32_t events)
{
    if (pair->phase != PHASE_PAIR) {
        sb__client_ready(relay, pair, side, events);
        return;
    }
    uint32_t asked = pair->interest[side];
    /* An error or a hang-up is ready for both. */
    if (asked & EPOLLOUT && events & ~(uint32_t)EPOLLIN && !sb__relay_advance(relay, pair, 1 - side))
        return;
    if (asked & EPOLLIN && events & ~(uint32_t)EPOLLOUT && !sb__relay_advance(relay, pair, side))
        return;
    if (asked != 0)
        sb__relay_watch_both(relay, pair);
    else
        end_or_park(relay, pair, side);
}

/* ---- from outside */

sb_relay *sb_relay_new(int32_t pairs)
{
    if (pairs < 1 || pairs > RELAY_PAIRS) {
        errno = EINVAL;
        return NULL;
    }
    sb_relay *relay = calloc(1, sizeof *relay);
    if (relay == NULL)
        return NULL;
    relay->counts.due_ms = -1;
    relay->late_fd = -1;
    sb__slots_init(&relay->slots, pairs);
    relay->pairs = calloc((size_t)pairs, sizeof *relay->pairs);
    relay->ends = calloc((size_t)pairs, sizeof *relay->ends);
    relay->requests = calloc((size_t)pairs, sizeof *relay->requests);
    relay->returned = calloc((size_t)pairs, sizeof *relay->returned);
    relay->epoll = epoll_create1(EPOLL_CLOEXEC);
    int has_memory = relay->pairs != NULL && relay->ends != NULL && relay->requests != NULL && relay->returned != NULL;
    if (!has_memory || relay->epoll < 0) {
        int error = errno;
        sb_relay_free(relay);
        errno = error;
        return NULL;
    }
    sb__relay_now(relay);
    sb__slots_lie(&relay->slots, &relay->pairs[0].slot, sizeof *relay->pairs);
    sb__wheel_init(&relay->wheel, &relay->pairs[0].hook, sizeof *relay->pairs, relay->now_ms);
    return relay;
}

void sb_relay_free(sb_relay *relay)
{
    if (relay == NULL)
        return;
    for (int32_t i = 0; i < relay->slots.used; i++)
        if (!sb__relay_has_ended(&relay->pairs[i])) {
            relay->counts.ends = 0;
            sb__relay_end(relay, &relay->pairs[i], SB_REASON_SHUTDOWN, 0, 0);
        }
    sb__relay_close_late(relay);
    while (relay->pipe_count > 0) {
        struct lent *empty = &relay->pipes[--relay->pipe_count];
        close(empty->out);
        close(empty->in);
    }
    if (relay->epoll >= 0)
        close(relay->epoll);
    free(relay->pairs);
    free(relay->ends);
    free(relay->requests);
    free(relay->returned);
    free(relay);
}

int sb_relay_fileno(const sb_relay *relay)
{
    return relay == NULL ? -1 : relay->epoll;
}

const sb_relay_counts *sb_relay_counts_of(const sb_relay *relay)
{
    return relay == NULL ? NULL : &relay->counts;
}

const sb_relay_end *sb_relay_ends(const sb_relay *relay)
{
    return relay == NULL ? NULL : relay->ends;
}

struct pair *sb__relay_pair(const sb_relay *relay, int32_t id)
{
    int32_t number = relay == NULL ? -1 : sb__slot_of(&relay->slots, id);
    return number < 0 || sb__relay_has_ended(&relay->pairs[number]) ? NULL : &relay->pairs[number];
}

struct pair *sb__relay_enter(sb_relay *relay, struct pair about)
{
    int32_t number = sb__slot_acquire(&relay->slots);
    if (number < 0)
        return NULL;
    struct pair *pair = &relay->pairs[number];
    about.slot = pair->slot;
    about.hook.slot = -1;
    *pair = about;
    for (int i = 0; i < 2; i++)
        pair->way[i].out = pair->way[i].in = -1;
    relay->counts.pairs++;
    return pair;
}

static int begin(sb_relay *relay, struct pair *pair, const sb_relay_pair *about)
{
    if (about->first_size > 0 && sb__relay_hold(&pair->way[0], about->first, about->first_size) < 0)
        return SB_ERR_NOMEM;
    if (about->second_size > 0 && sb__relay_hold(&pair->way[1], about->second, about->second_size) < 0)
        return SB_ERR_NOMEM;
    if (sb__relay_watch(relay, pair, 0, EPOLL_CTL_ADD) < 0)
        return SB_ERR_FAULT;
    if (sb__relay_watch(relay, pair, 1, EPOLL_CTL_ADD) < 0) {
        int error = errno;
        epoll_ctl(relay->epoll, EPOLL_CTL_DEL, about->one, NULL);
        errno = error;
        return SB_ERR_FAULT;
    }
    return 0;
}

int sb_relay_add(sb_relay *relay, const sb_relay_pair *about)
{
    if (relay == NULL || about == NULL || about->one < 0 || about->other < 0 || (about->idle_ms | about->half_ms) < 0)
        return SB_ERR_INVALID;
    sb__relay_now(relay);
    struct pair *pair = sb__relay_enter(relay, (struct pair){
        .fd = {about->one, about->other},
        .moved_ms = relay->now_ms,
        .idle_ms = sb__lesser(about->idle_ms, SB_FOREVER_MS),
        .half_ms = sb__lesser(about->half_ms, SB_FOREVER_MS),
    });
    if (pair == NULL)
        return SB_ERR_FULL;
    int code = begin(relay, pair, about);
    if (code < 0) {
        sb__relay_leave(relay, pair);
        return code;
    }
    sb__relay_note_deadline(relay, pair);
    return pair->slot.id;
}

int sb_relay_run(sb_relay *relay)
{
    struct epoll_event ready[RELAY_BATCH];
    if (relay == NULL)
        return SB_ERR_INVALID;
    relay->counts.ends = relay->counts.requests = relay->counts.returned = 0;
    sb__relay_now(relay);
    int64_t end_ms = relay->now_ms + RELAY_TURN_MS;
    int n = 1;
    for (int round = 0; round < RELAY_ROUNDS && n > 0 && !relay->counts.requests && relay->now_ms < end_ms;
         round += n < RELAY_BATCH) {
        n = epoll_wait(relay->epoll, ready, RELAY_BATCH, 0);
        sb__relay_now(relay);
        for (int i = 0; i < n; i++) {
            struct pair *pair = sb__relay_pair(relay, (int32_t)(ready[i].data.u64 / 2));
            if (pair != NULL)
                pair_ready(relay, pair, (int)(ready[i].data.u64 % 2), ready[i].events);
        }
    }
    relay->is_quiet = n == 0;
    sb__relay_deadlines_run(relay);
    sb__relay_unmask(relay);
    return 0;
}

int sb_relay_abort(sb_relay *relay, int id, int reason)
{
    struct pair *pair = sb__relay_pair(relay, id);
    if (relay != NULL)
        relay->counts.ends = 0;
    if (pair == NULL)
        return SB_ERR_GONE;
    sb__relay_end(relay, pair, sb__reason_or(reason, SB_REASON_ABORTED), 0, 0);
    return 0;
}

int sb_relay_lost(sb_relay *relay, int id, int side, int error)
{
    struct pair *pair = sb__relay_pair(relay, id);
    if (pair == NULL)
        return SB_ERR_GONE;
    pair->lost[side != 0] = error;
    return 0;
}

int64_t sb_relay_moved(const sb_relay *relay, int id, int side)
{
    const struct pair *pair = sb__relay_pair(relay, id);
    return pair == NULL ? SB_ERR_GONE : pair->way[side != 0].moved;
}

#else

/* No relay: every request ends like one for no pair. */

sb_relay *sb_relay_new(int32_t pairs)
{
    (void)pairs;
    errno = ENOSYS;
    return NULL;
}

void sb_relay_free(sb_relay *relay)
{
    (void)relay;
}

int sb_relay_fileno(const sb_relay *relay)
{
    (void)relay;
    return -1;
}

const sb_relay_counts *sb_relay_counts_of(const sb_relay *relay)
{
    (void)relay;
    return NULL;
}

const sb_relay_end *sb_relay_ends(const sb_relay *relay)
{
    (void)relay;
    return NULL;
}

int sb_relay_add(sb_relay *relay, const sb_relay_pair *about)
{
    (void)relay, (void)about;
    return SB_ERR_INVALID;
}

int sb_relay_run(sb_relay *relay)
{
    (void)relay;
    return SB_ERR_INVALID;
}

int sb_relay_abort(sb_relay *relay, int id, int reason)
{
    (void)relay, (void)id, (void)reason;
    return SB_ERR_GONE;
}

int sb_relay_lost(sb_relay *relay, int id, int side, int error)
{
    (void)relay, (void)id, (void)side, (void)error;
    return SB_ERR_GONE;
}

int64_t sb_relay_moved(const sb_relay *relay, int id, int side)
{
    (void)relay, (void)id, (void)side;
    return SB_ERR_GONE;
}

#endif
