/* SPDX-License-Identifier: MIT */
/*
 * relay_move - one way of a pair: bytes from one socket to the other
 *
 * DESCRIPTION
 *   Small pieces are copied: one recv(2), one send(2).  A way whose reads bring
 *   much goes over to splice(2) through a pipe, so that its bytes never come
 *   here; it goes back when they become few again.  A pipe is lent to a way only
 *   while bytes are in it.
 *
 *   What the receiver does not take now is held, 64 KiB or one pipe at most, and
 *   its sender is not read until it has left: TCP holds the sender up.
 */
#include "relay.h"

#if SB_HAS_EPOLL

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- SIGPIPE: splice(2) to a socket whose peer is gone raises it, and no flag forbids that */

#if SB_HAS_SPLICE
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
#endif

void sb__relay_unmask(sb_relay *relay)
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

#if SB_HAS_SPLICE
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
#endif

void sb__relay_give_back(sb_relay *relay, struct way *way)
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

int sb__relay_holds(const struct way *way)
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

/* Send the held data.  1: all of it; 0: the receiver accepts no more now; or the error. */
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
#if SB_HAS_SPLICE
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
#endif
    return 1;
}

static void learn(struct way *way, size_t n)
{
    if (n < RELAY_MUCH)
        way->bulk -= way->bulk > 0;
    else
        way->bulk += way->bulk < RELAY_BULK_MOST;
}

#if SB_HAS_SPLICE
/* Receive into the pipe.  0: not so; it is to be copied. */
static long receive_spliced(struct way *way, int source, int is_readable)
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

static long receive_by_pipe(sb_relay *relay, struct way *way, int source, int is_readable)
{
    return way->bulk >= RELAY_BULK && lend(relay, way) ? receive_spliced(way, source, is_readable) : 0;
}
#else
static long receive_by_pipe(sb_relay *relay, struct way *way, int source, int is_readable)
{
    (void)relay, (void)way, (void)source, (void)is_readable;
    return 0;
}
#endif

/* Receive and send at once; the unsent rest is held. */
static long receive_copied(sb_relay *relay, struct pair *pair, struct way *way, int source, int sink, int *side)
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

/* Forward the data of one direction, within the budget.  0, or why the pair ends (relay->failed_side is the side). */
int sb__relay_move(sb_relay *relay, struct pair *pair, int from)
{
    struct way *way = &pair->way[from];
    int source = pair->fd[from], sink = pair->fd[1 - from], side = from;
    int is_readable = !sb__relay_holds(way); /* else it is the receiver that is ready */
    long n = RELAY_CHUNK, code = give(relay, pair, way, sink);
    for (long left = RELAY_BUDGET; code > 0 && !way->ended && left > 0 && n >= RELAY_CHUNK; left -= n) {
        n = receive_by_pipe(relay, way, source, is_readable);
        is_readable = 0;
        if (n == 0)
            n = receive_copied(relay, pair, way, source, sink, &side);
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
        sb__relay_give_back(relay, way);
    return 0;
}

#endif
