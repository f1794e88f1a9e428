/* SPDX-License-Identifier: MIT */
/*
 * sockrelay - bytes from one socket to another and back
 */
#ifndef SOCKRELAY_H
#define SOCKRELAY_H

#include "sockmux.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifdef SB_SHARED
#pragma GCC visibility push(default)
#endif

/* <cffi> from here to </cffi> the Python extension reads these declarations */

/*
 * ---- relay: bytes from one socket to another and back (Linux)
 *
 * A pair are two connected, non-blocking stream sockets.  What comes from one
 * is sent to the other, and its end of file behind it; when both have ended so,
 * both are closed.  A reset of either is a reset of both.  The relay waits in
 * an epoll of its own: watch its descriptor, and call sb_relay_run when it is
 * readable or when a deadline is due.
 *
 * Each direction holds 64 KiB, or the content of one pipe, at most: data that the receiver does not accept holds
 * the sender back.
 *
 * A call for an unknown or ended pair returns SB_ERR_GONE; for a relay that is NULL, SB_ERR_INVALID; unless
 * documented otherwise, the result is 0 otherwise.
 */
typedef struct sb_relay sb_relay;

/* Side 0 is `one`, side 1 `other`. */
typedef struct sb_relay_pair {
    int32_t one;
    int32_t other;
    const char *first;  /* what was received of one already, and goes to other first; copied */
    size_t first_size;
    const char *second; /* of other, for one */
    size_t second_size;
    int64_t idle_ms;    /* nothing moved for so long: SB_REASON_IDLE_TIMEOUT; 0 never */
    int64_t half_ms;    /* the same once one side has ended: SB_REASON_HALF_CLOSE_TIMEOUT; 0 never */
} sb_relay_pair;

/* A pair that has ended; its sockets are closed: gracefully after EOF, with RST after any other reason.  After a
 * deadline the next sb_relay_run, which is due at once, closes the other one. */
typedef struct sb_relay_end {
    int32_t id;
    int32_t reason; /* enum sb_reason */
    int32_t error;  /* errno, 0 for none ... */
    int32_t side;   /* ... of this side's socket */
    int64_t moved[2]; /* bytes that side 0 sent and side 1 got; and the other way */
} sb_relay_end;

/* Numbers that change with every call; the struct stays where it is. */
typedef struct sb_relay_counts {
    int64_t pairs;
    int64_t ends;     /* pairs that have ended in the last call */
    int64_t requests; /* of clients that wait for sb_relay_answer */
    int64_t returned; /* clients that are the caller's again */
    int64_t due_ms; /* when sb_relay_run must be called (CLOCK_MONOTONIC, a tick of 250 ms after a deadline at most);
                     * -1: not before it is readable */
} sb_relay_counts;

/* Make a relay of at most this many pairs; memory is touched as they come.
 * NULL: errno; ENOSYS: not on this system. */
sb_relay *sb_relay_new(int32_t pairs);

/* Close every socket it owns, with RST, and free it; NULL is allowed. */
void sb_relay_free(sb_relay *relay);

/* The epoll descriptor. */
int sb_relay_fileno(const sb_relay *relay);

/* Counts and ends, at the same place as long as it lives. */
const sb_relay_counts *sb_relay_counts_of(const sb_relay *relay);
const sb_relay_end *sb_relay_ends(const sb_relay *relay);

/* Take two sockets over.  Returns the pair's id (>= 0), or SB_ERR_FULL,
 * SB_ERR_NOMEM, SB_ERR_FAULT (errno), SB_ERR_INVALID (a descriptor or a time
 * below 0): they are the caller's still. */
int sb_relay_add(sb_relay *relay, const sb_relay_pair *pair) SB_MUST_CHECK;

/* Move what can be moved without waiting, and end pairs whose deadline is due: as
 * in a mux, not before what the kernel has was moved, nor at once when the caller
 * came late.  One call ends one of these at most, and due_ms says when to call
 * again, which may be now.  An id is given again late, as that of a connection. */
int sb_relay_run(sb_relay *relay);

/* End a pair at once, with RST.  A reason that is none: _ABORTED. */
int sb_relay_abort(sb_relay *relay, int id, int reason);

/* The connection behind the socket of a side is lost, by an errno that the kernel cannot report for this descriptor,
 * such as one end of a socket pair whose other end the caller forwards to a network: data in the socket is still
 * forwarded, and its end of file counts as a reset. */
int sb_relay_lost(sb_relay *relay, int id, int side, int error);

/* Bytes moved so far from this side to the other. */
int64_t sb_relay_moved(const sb_relay *relay, int id, int side);

/*
 * A relay may also begin with one side: a client of a SOCKS 5 server (RFC 1928)
 * that says where to.  It hears a greeting and a request that come whole, each in
 * a piece of its own, offer to do without a login, and name an address for
 * CONNECT; asks its caller; connects; replies; and the two are a pair.  All other
 * clients are the caller's again, with what was read of them.
 */

/* What the clients of a listener have in common. */
typedef struct sb_relay_door {
    int32_t group;          /* passed with each client */
    int64_t negotiation_ms; /* from accept(2) to the request; 0 for ever, as all of them */
    int64_t connect_ms;
    int64_t idle_ms;        /* as of a pair */
    int64_t half_ms;
    sb_sources *sources;    /* in which they count until their end; a client above the limit is closed; NULL: none */
} sb_relay_door;

/* A client requests a connection. */
typedef struct sb_relay_request {
    int32_t id;         /* its pair's */
    int32_t group;
    int32_t allowed;    /* 0; the caller's to write */
    int32_t peer_size;  /* 16 or 28; 0: the client has no address */
    int64_t began_ms;   /* when it was accepted (CLOCK_MONOTONIC) */
    char peer[28];      /* struct sockaddr_in or sockaddr_in6 */
    char target[28];    /* the same; no IPv4-mapped address */
} sb_relay_request;

enum sb_returned {
    SB_RETURNED_NEW,        /* it has not been answered */
    SB_RETURNED_GREETED,    /* its greeting was answered: no login */
    SB_RETURNED_CONNECTING  /* its request was allowed, and could not be carried out */
};

/* A client that is the caller's again, with its descriptor. */
typedef struct sb_relay_returned {
    int32_t id;        /* its pair's until now */
    int32_t group;
    int32_t fd;
    int32_t state;     /* enum sb_returned */
    int32_t error;     /* errno of recv(2); of socket(2), connect(2) for CONNECTING, there 0: the client was reset */
    int32_t peer_size;
    int32_t size;      /* of data */
    int32_t was_asked; /* whether a request of its was in sb_relay_requests */
    int32_t counted;   /* it counts in the door's sources still, and is the caller's to count less */
    int64_t began_ms;
    char peer[28];
    char data[68];     /* what was read of it and not answered */
} sb_relay_returned;

/* Accept clients, up to that many.  Returns how many were accepted; *stopped as that of sb_mux_accept.  SB_ERR_INVALID:
 * a time below 0. */
int sb_relay_accept(sb_relay *relay, int listener, const sb_relay_door *door, int max, int *stopped) SB_MUST_CHECK;

/* At the same place as long as it lives; how many: see the counts. */
sb_relay_request *sb_relay_requests(sb_relay *relay);
const sb_relay_returned *sb_relay_returned_ones(const sb_relay *relay);

/* Connect the clients of all requests that are allowed, and return those of the
 * others: to be called after each call that leaves requests.  Returned ones are added. */
int sb_relay_answer(sb_relay *relay);

/* Return every client of a group whose request has not come. */
int sb_relay_return_clients(sb_relay *relay, int group);

/* </cffi> */

#ifdef SB_SHARED
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
