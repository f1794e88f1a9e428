/* SPDX-License-Identifier: MIT */
/*
 * relay.h - what the files of the relay have in common
 *
 *   relay.c         a pair: its begin, its events, its end
 *   relay_late.c    its deadlines
 *   relay_move.c    its two ways
 *   relay_client.c  how a pair begins with a client of a SOCKS server, whose request names the other side
 *
 * Reading order: struct pair, then relay.c, pair_ready(); relay_move.c, sb__relay_move().
 */
#ifndef RELAY_H
#define RELAY_H

#include "base.h"
#include "sockrelay.h"
#include "stream.h"

#if SB_HAS_EPOLL

#include <signal.h>

enum {
    RELAY_CHUNK = 65536,        /* bytes copied at once */
    RELAY_SPLICE = 1 << 20,     /* bytes requested per splice; the slots of the pipe are the limit */
    RELAY_PIPE = 262144,        /* 64 slots: a slot holds a segment of the network, however short */
    RELAY_PIPES = 64,           /* 4,096 pages: a quarter of what a user has without rights (pipe(7)) */
    RELAY_BUDGET = 1 << 20,     /* bytes that one way moves before the others' turn */
    RELAY_ROUNDS = 8,           /* polls of epoll for new events in one call ... */
    RELAY_TURN_MS = 4,          /* ... as long as so much time has not passed: others wait for the caller */
    RELAY_BATCH = 16,           /* ready descriptors taken from epoll at once: it tells those last the next time */
    RELAY_MUCH = 16384,         /* a read that brought so much speaks for splice ... */
    RELAY_BULK = 2,             /* ... two of them decide, and so many more are outweighed: */
    RELAY_BULK_MOST = 8,
    RELAY_LOOKS = 16,           /* pairs looked at for a deadline in one call, which ends one of them at most */
    RELAY_PAIRS = 1 << 22       /* so that ids come again late (slots.h) */
};

/* From one socket to the other. */
struct way {
    int32_t out, in;   /* ends of the pipe; -1: none is lent */
    size_t inside;     /* bytes in the pipe */
    char *rest;        /* bytes received and not taken, before those in the pipe; NULL: none */
    size_t at, size;   /* of them, rest[at] to rest[size - 1] are left */
    int64_t moved;
    int32_t bulk;      /* reads that brought much, less those that did not */
    int32_t ended;     /* the end of file has come, and was passed on */
};

enum phase {
    PHASE_PAIR,       /* both sides are there; as every pair begins that sb_relay_add makes */
    PHASE_GREETING,   /* a client's greeting is awaited */
    PHASE_REQUEST,    /* its request is */
    PHASE_ASKED,      /* the caller is asked for permission */
    PHASE_CONNECTING
};

/* A client of a SOCKS server until both sides are there. */
struct client {
    int32_t group;
    int32_t peer_size;
    int32_t is_ahead; /* it has sent more than its request, or its end of file, which is left in its socket */
    sb_sources *sources; /* in which it counts; NULL: in none */
    int64_t began_ms, due_ms; /* due: -1 never */
    int64_t connect_ms;
    char peer[28], target[28];
};

struct pair {
    int32_t fd[2];       /* fd[0] -1: no pair; fd[1] -1: none yet */
    struct slot slot;
    struct hook hook;    /* in the wheel */
    uint8_t interest[2]; /* events registered in epoll */
    uint8_t parked[2];   /* removed from epoll: it would keep reporting a hang-up */
    uint8_t phase;
    struct way way[2];   /* way[i] is from fd[i] */
    int32_t lost[2];     /* errno of the connection behind fd[i] (sb_relay_lost); 0: none known */
    int64_t moved_ms;    /* the last byte, or end of file */
    int64_t idle_ms, half_ms;
    struct client client;
};

struct lent {
    int32_t out, in;
};

struct sb_relay {
    int epoll;
    struct slots slots;  /* of pairs */
    struct pair *pairs;
    sb_relay_end *ends;
    sb_relay_request *requests;
    sb_relay_returned *returned;
    sb_relay_counts counts;
    int64_t now_ms;
    struct stall stall;
    struct wheel wheel;
    int late_fd;         /* of a pair that a deadline has ended, to be closed by the next call; -1: none */
    struct lent pipes[RELAY_PIPES]; /* empty ones */
    int pipe_count, pipes_made;
    int is_quiet;    /* nothing was ready any more when this call's deadlines were looked at */
    int failed_side; /* of the pair that a move failed for */
    int is_masked;   /* SIGPIPE is blocked in this thread until the end of the call */
    int was_pending;
    sigset_t mask_before;
    char chunk[RELAY_CHUNK];
};

/* relay.c */
void sb__relay_now(sb_relay *relay);
struct pair *sb__relay_enter(sb_relay *relay, struct pair about); /* NULL: full */
void sb__relay_leave(sb_relay *relay, struct pair *pair);         /* its place is free; nothing is closed */
void sb__relay_end(sb_relay *relay, struct pair *pair, int reason, int error, int side);
void sb__relay_close(int fd, int reason);
int sb__relay_advance(sb_relay *relay, struct pair *pair, int from); /* move one way on; 0 when that has ended the pair */
struct pair *sb__relay_pair(const sb_relay *relay, int32_t id); /* NULL: it has ended */
int sb__relay_watch(sb_relay *relay, struct pair *pair, int side, int operation);
void sb__relay_watch_both(sb_relay *relay, struct pair *pair);

static inline int sb__relay_has_ended(const struct pair *pair)
{
    return pair->fd[0] < 0;
}

static inline int32_t sb__relay_number(const sb_relay *relay, const struct pair *pair)
{
    return (int32_t)(pair - relay->pairs);
}

/* relay_late.c */
void sb__relay_note_deadline(sb_relay *relay, const struct pair *pair);
void sb__relay_deadlines_run(sb_relay *relay);
void sb__relay_close_late(sb_relay *relay); /* what is left of a pair that was late */

/* relay_move.c */
int sb__relay_hold(struct way *way, const char *data, size_t size);
int sb__relay_holds(const struct way *way);
int sb__relay_move(sb_relay *relay, struct pair *pair, int from); /* 0, or why it ends; failed_side is the side */
void sb__relay_give_back(sb_relay *relay, struct way *way);
void sb__relay_unmask(sb_relay *relay);

/* relay_client.c */
uint32_t sb__client_wants(const struct pair *pair, int side);
void sb__client_ready(sb_relay *relay, struct pair *pair, int side, uint32_t events);
void sb__client_judge(sb_relay *relay, struct pair *pair);

#endif
#endif
