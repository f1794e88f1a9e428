/*
 * relay - bytes from one socket to another and back
 *
 * DESCRIPTION
 *   Each of the two ways of a pair moves by itself.  Small pieces are copied: one
 *   recv(2), one send(2).  A way whose reads bring much goes over to splice(2)
 *   through a pipe, so that its bytes never come here; it goes back when they
 *   become few again.  A pipe is lent to a way only while bytes are in it.
 *
 *   What the receiver does not take now is held, 64 KiB or one pipe at most, and
 *   its sender is not read until it has left: TCP holds the sender up.
 *
 *   Waits in an epoll of its own, which the caller's loop watches as one
 *   descriptor, so that a turn of the loop is one call for all pairs.
 *
 * BUGS
 *   Needs epoll and splice: Linux.  Urgent data comes as any other.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "relay.h"

#include <errno.h>
#include <stdlib.h>

#ifdef __linux__

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

void sb__relay_now(sb_relay *relay)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    relay->now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- SIGPIPE: splice(2) to a socket whose peer is gone raises it, and no flag forbids that */

static void mask(sb_relay *relay)
{
    sigset_t pipe_only, pending;
    if (relay->is_masked)
        return;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigemptyset(&pending);
    sigpending(&pending);
    relay->was_pending = sigismember(&pending, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &relay->mask_before);
    relay->is_masked = 1;
}

static void unmask(sb_relay *relay)
{
    sigset_t pipe_only, pending;
    struct timespec at_once = {0, 0};
    if (!relay->is_masked)
        return;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigemptyset(&pending);
    sigpending(&pending);
    if (!relay->was_pending && sigismember(&pending, SIGPIPE))
        sigtimedwait(&pipe_only, NULL, &at_once);
    pthread_sigmask(SIG_SETMASK, &relay->mask_before, NULL);
    relay->is_masked = 0;
}

/* ---- pipes: to make and to close one costs more than to move a small piece */

static int lend(sb_relay *relay, struct way *way)
{
    int ends[2];
    if (way->in >= 0)
        return 1;
    if (relay->pipe_count > 0) {
        struct lent *empty = &relay->pipes[--relay->pipe_count];
        way->out = empty->out;
        way->in = empty->in;
        return 1;
    }
    if (relay->pipes_made == RELAY_PIPES || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return 0;
    (void)fcntl(ends[1], F_SETPIPE_SZ, RELAY_PIPE); /* refused past a user's share (pipe(7)): then it has fewer slots */
    way->out = ends[0];
    way->in = ends[1];
    relay->pipes_made++;
    return 1;
}

static void give_back(sb_relay *relay, struct way *way)
{
    if (way->in < 0)
        return;
    if (way->inside == 0) {
        relay->pipes[relay->pipe_count++] = (struct lent){.out = way->out, .in = way->in};
    } else {
        close(way->out);
        close(way->in);
        relay->pipes_made--;
    }
    way->out = way->in = -1;
    way->inside = 0;
}

/* ---- one way */

static int holds(const struct way *way)
{
    return way->rest != NULL || way->inside > 0;
}

static void count(sb_relay *relay, struct pair *pair, struct way *way, size_t n)
{
    way->moved += (int64_t)n;
    pair->moved_ms = relay->now_ms;
}

int sb__relay_hold(struct way *way, const char *data, size_t size)
{
    way->rest = malloc(size);
    if (way->rest == NULL)
        return SB_ERR_NOMEM;
    memcpy(way->rest, data, size);
    way->at = 0;
    way->size = size;
    return 0;
}

/* Give the receiver what is held.  1: all of it; 0: it takes no more now; or why it takes nothing any more. */
static long give(sb_relay *relay, struct pair *pair, struct way *way, int sink)
{
    while (way->rest != NULL) {
        long n = sb_send(sink, way->rest + way->at, way->size - way->at);
        if (n < 0)
            return n == SB_ERR_AGAIN ? 0 : n;
        count(relay, pair, way, (size_t)n);
        way->at += (size_t)n;
        if (way->at == way->size) {
            free(way->rest);
            way->rest = NULL;
        }
    }
    while (way->inside > 0) {
        mask(relay);
        ssize_t n = splice(way->out, NULL, sink, NULL, way->inside, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
        if (n < 0) {
            int code = sb__class_of(errno);
            return code == SB_ERR_AGAIN ? 0 : code;
        }
        count(relay, pair, way, (size_t)n);
        way->inside -= (size_t)n;
    }
    return 1;
}

static void learn(struct way *way, size_t n)
{
    if (n < RELAY_MUCH)
        way->bulk -= way->bulk > 0;
    else
        way->bulk += way->bulk < RELAY_BULK_MOST;
}

/* Receive into the pipe.  0: not so; it is to be copied. */
static long take_spliced(struct way *way, int source, int is_readable)
{
    ssize_t n = splice(source, NULL, way->in, NULL, RELAY_SPLICE, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (n > 0) {
        way->inside = (size_t)n;
        learn(way, (size_t)n);
        return (long)n;
    }
    if (n == 0)
        return SB_ERR_END;
    int code = sb__class_of(errno);
    if (errno != EINVAL && !(code == SB_ERR_AGAIN && is_readable))
        return code;
    way->bulk = 0; /* a kind of socket that cannot be spliced; or readable, but urgent data is in front: recv takes it */
    return 0;
}

/* Receive and send at once; what is not taken is held. */
static long take_copied(sb_relay *relay, struct pair *pair, struct way *way, int source, int sink, int *side)
{
    long n = sb_receive(source, relay->chunk, RELAY_CHUNK);
    if (n < 0)
        return n;
    learn(way, (size_t)n);
    long sent = sb_send(sink, relay->chunk, (size_t)n);
    if (sent < 0 && sent != SB_ERR_AGAIN) {
        *side = 1 - *side;
        return sent;
    }
    sent = sent < 0 ? 0 : sent;
    count(relay, pair, way, (size_t)sent);
    if (sent < n && sb__relay_hold(way, relay->chunk + sent, (size_t)(n - sent)) < 0)
        return SB_ERR_NOMEM;
    return n;
}

/* Move what there is of one way, a budget's worth.  0, or why the pair ends (relay->failed_side tells where). */
static int move(sb_relay *relay, struct pair *pair, int from)
{
    struct way *way = &pair->way[from];
    int source = pair->fd[from], sink = pair->fd[1 - from], side = from;
    int is_readable = !holds(way); /* else it is the receiver that is ready */
    long n = RELAY_CHUNK, code = give(relay, pair, way, sink);
    for (long left = RELAY_BUDGET; code > 0 && !way->ended && left > 0 && n >= RELAY_CHUNK; left -= n) {
        n = way->bulk >= RELAY_BULK && lend(relay, way) ? take_spliced(way, source, is_readable) : 0;
        is_readable = 0;
        if (n == 0)
            n = take_copied(relay, pair, way, source, sink, &side);
        if (n == SB_ERR_END && pair->lost[from] != 0) {
            errno = pair->lost[from];
            n = sb__class_of(errno);
        }
        if (n == SB_ERR_END) { /* nothing is held: it would not have been read */
            way->ended = 1;
            pair->moved_ms = relay->now_ms;
            shutdown(sink, SHUT_WR); /* ENOTCONN: it was reset, which is noticed on its own way */
        } else if (n < 0 && n != SB_ERR_AGAIN) {
            relay->failed_side = side;
            return (int)n;
        }
        code = way->rest != NULL ? 0 : give(relay, pair, way, sink); /* 0: it has just not taken all */
    }
    if (code < 0) {
        relay->failed_side = 1 - from;
        return (int)code;
    }
    if (way->inside == 0)
        give_back(relay, way);
    return 0;
}

/* ---- the end of a pair */

static int has_ended(const struct pair *pair)
{
    return pair->fd[0] < 0;
}

static void close_one(int fd, int reason)
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
    pair->next = relay->free;
    relay->free = (int32_t)(pair - relay->pairs);
    relay->counts.pairs--;
}

void sb__relay_end(sb_relay *relay, struct pair *pair, int reason, int error, int side)
{
    relay->ends[relay->counts.ends++] = (sb_relay_end){
        .id = (int32_t)(pair - relay->pairs),
        .reason = reason,
        .error = error,
        .side = side,
        .moved = {pair->way[0].moved, pair->way[1].moved},
    };
    for (int i = 0; i < 2; i++) {
        if (pair->fd[i] >= 0)
            close_one(pair->fd[i], reason);
        give_back(relay, &pair->way[i]);
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

/* What the side that failed had said before goes first: a server may answer and close without reading on.  To the
 * sender the kernel has told the error, and tells the reader of an end of file behind it, which is none. */
static void fail(sb_relay *relay, struct pair *pair, int code, int error, int from)
{
    int side = relay->failed_side;
    if (side != from) {
        pair->lost[side] = error;
        (void)move(relay, pair, side);
    }
    sb__relay_end(relay, pair, why_of(code), error, side);
}

/* ---- what is waited for */

static void due_at(sb_relay *relay, int64_t at_ms)
{
    if (relay->counts.due_ms < 0 || at_ms < relay->counts.due_ms)
        relay->counts.due_ms = at_ms;
}

static int64_t deadline_of(const struct pair *pair)
{
    if (pair->phase != PHASE_PAIR)
        return pair->client.due_ms;
    int64_t within = pair->way[0].ended || pair->way[1].ended ? pair->half_ms : pair->idle_ms;
    return within > 0 ? pair->moved_ms + within : -1;
}

void sb__relay_note_deadline(sb_relay *relay, const struct pair *pair)
{
    int64_t at_ms = deadline_of(pair);
    if (at_ms >= 0)
        due_at(relay, at_ms);
}

static uint32_t wanted(const struct pair *pair, int side)
{
    if (pair->phase != PHASE_PAIR)
        return sb__client_wants(pair, side);
    const struct way *going = &pair->way[side], *coming = &pair->way[1 - side];
    return (!going->ended && !holds(going) ? (uint32_t)EPOLLIN : 0) | (holds(coming) ? (uint32_t)EPOLLOUT : 0);
}

int sb__relay_watch(sb_relay *relay, struct pair *pair, int side, int operation)
{
    uint32_t events = wanted(pair, side);
    struct epoll_event event = {.events = events, .data = {.u64 = 0}};
    event.data.u64 = (uint64_t)(pair - relay->pairs) * 2 + (unsigned)side;
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

/* Move one way of a pair on; 0 when that has ended it. */
static int go_on(sb_relay *relay, struct pair *pair, int from)
{
    int had_ended = pair->way[from].ended;
    int code = move(relay, pair, from);
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
    if (asked & EPOLLOUT && events & ~(uint32_t)EPOLLIN && !go_on(relay, pair, 1 - side))
        return;
    if (asked & EPOLLIN && events & ~(uint32_t)EPOLLOUT && !go_on(relay, pair, side))
        return;
    if (asked != 0)
        sb__relay_watch_both(relay, pair);
    else
        end_or_park(relay, pair, side);
}

static void run_deadlines(sb_relay *relay)
{
    if (relay->counts.due_ms < 0 || relay->now_ms < relay->counts.due_ms)
        return;
    relay->counts.due_ms = -1;
    for (int32_t i = 0; i < relay->used; i++) {
        struct pair *pair = &relay->pairs[i];
        int64_t at_ms = has_ended(pair) ? -1 : deadline_of(pair);
        if (at_ms < 0)
            continue;
        int is_half = pair->way[0].ended || pair->way[1].ended;
        if (at_ms <= relay->now_ms && pair->phase != PHASE_PAIR)
            sb__client_late(relay, pair);
        else if (at_ms <= relay->now_ms)
            sb__relay_end(relay, pair, is_half ? SB_REASON_HALF_CLOSE_TIMEOUT : SB_REASON_IDLE_TIMEOUT, 0, 0);
        else
            due_at(relay, at_ms);
    }
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
    relay->size = pairs;
    relay->free = -1;
    relay->counts.due_ms = -1;
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
    return relay;
}

void sb_relay_free(sb_relay *relay)
{
    if (relay == NULL)
        return;
    for (int32_t i = 0; i < relay->used; i++)
        if (!has_ended(&relay->pairs[i])) {
            relay->counts.ends = 0;
            sb__relay_end(relay, &relay->pairs[i], SB_REASON_SHUTDOWN, 0, 0);
        }
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
    return relay->epoll;
}

const sb_relay_counts *sb_relay_counts_of(const sb_relay *relay)
{
    return &relay->counts;
}

const sb_relay_end *sb_relay_ends(const sb_relay *relay)
{
    return relay->ends;
}

static struct pair *pair_of(const sb_relay *relay, int id)
{
    if (id < 0 || id >= relay->used || has_ended(&relay->pairs[id]))
        return NULL;
    return &relay->pairs[id];
}

struct pair *sb__relay_enter(sb_relay *relay, struct pair about)
{
    struct pair *pair;
    if (relay->free >= 0) {
        pair = &relay->pairs[relay->free];
        relay->free = pair->next;
    } else if (relay->used < relay->size) {
        pair = &relay->pairs[relay->used++];
    } else {
        return NULL;
    }
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
    return (int)(pair - relay->pairs);
}

void sb_relay_run(sb_relay *relay)
{
    struct epoll_event ready[RELAY_BATCH];
    relay->counts.ends = relay->counts.requests = relay->counts.returned = 0;
    for (int round = 0, n = 1; round < RELAY_ROUNDS && n > 0 && !relay->counts.requests; round++) {
        n = epoll_wait(relay->epoll, ready, RELAY_BATCH, 0);
        sb__relay_now(relay);
        for (int i = 0; i < n; i++) {
            struct pair *pair = &relay->pairs[ready[i].data.u64 / 2];
            if (!has_ended(pair))
                pair_ready(relay, pair, (int)(ready[i].data.u64 % 2), ready[i].events);
        }
    }
    unmask(relay);
    run_deadlines(relay);
}

void sb_relay_abort(sb_relay *relay, int id, int reason)
{
    struct pair *pair = pair_of(relay, id);
    relay->counts.ends = 0;
    if (pair != NULL)
        sb__relay_end(relay, pair, reason, 0, 0);
}

void sb_relay_lost(sb_relay *relay, int id, int side, int error)
{
    struct pair *pair = pair_of(relay, id);
    if (pair != NULL)
        pair->lost[side != 0] = error;
}

int64_t sb_relay_moved(const sb_relay *relay, int id, int side)
{
    const struct pair *pair = pair_of(relay, id);
    return pair == NULL ? 0 : pair->way[side != 0].moved;
}

#else

sb_relay *sb_relay_new(int32_t pairs)
{
    (void)pairs;
    errno = ENOSYS;
    return NULL;
}

void sb_relay_free(sb_relay *relay)
{
    free(relay);
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
    return SB_ERR_FAULT;
}

void sb_relay_run(sb_relay *relay)
{
    (void)relay;
}

void sb_relay_abort(sb_relay *relay, int id, int reason)
{
    (void)relay, (void)id, (void)reason;
}

void sb_relay_lost(sb_relay *relay, int id, int side, int error)
{
    (void)relay, (void)id, (void)side, (void)error;
}

int64_t sb_relay_moved(const sb_relay *relay, int id, int side)
{
    (void)relay, (void)id, (void)side;
    return 0;
}

#endif
