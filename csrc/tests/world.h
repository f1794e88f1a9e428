/* SPDX-License-Identifier: MIT */
/*
 * world - a mux, the peers of its connections, and a log of its events
 *
 * DESCRIPTION
 *   A test of the mux is written once and runs twice: over epoll, and told by
 *   poll(2) what is ready.
 */
#ifndef WORLD_H
#define WORLD_H

#include "harness.h"

#include <netinet/in.h>

enum { PEERS = 640, MS = 1000000 /* in nanoseconds */ };

struct world {
    sb_mux *mux;
    int epoll;
    int group;
    int peer[PEERS]; /* of the row of an id; -1: none */
    int interest[PEERS], id[PEERS];
    int looked_at; /* events */
    char log[8192];
    size_t logged;
};

extern int with_epoll; /* how world_of makes the mux */

/* Tests of the mux, each a list that ends in NULL. */
extern const struct test mux_input_tests[], mux_output_tests[], mux_ends_tests[], mux_deadlines_tests[],
    mux_accepts_tests[], mux_memory_tests[], mux_frames_tests[], mux_replies_tests[], mux_counts_tests[],
    mux_moves_tests[], mux_late_tests[], mux_contract_tests[], mux_pools_tests[], mux_shares_tests[], mux_turns_tests[],
    mux_outsider_tests[], mux_filter_tests[], mux_packet_tests[];

/* Answers of services that need no caller: all of it, nothing, in upper case. */
size_t echo(char *data, size_t size);
size_t discard(char *data, size_t size);
size_t upper(char *data, size_t size);

/* Lines of up to 1,000 bytes, handed out; 1 s of lingering, no other deadline. */
sb_group lines_group(void);

/* A mux of so many rows with this group, its number 0. */
struct world *world_of(int rows, sb_group group);
void end_of(struct world *w);

/* A mux of one group of lines whose caller takes so long for a frame. */
struct world *slow_world(int64_t cost_ns, int flags);

/* A new connection over a socket pair: its id, or why there is none. */
int join(struct world *w, int group);

/* What its peer does: send, receive (up to 200 bytes as text; "-" for none, "$"
 * at the end, "!" for an error), close. */
void say(struct world *w, int id, const char *text);
const char *heard(struct world *w, int id);
void hang_up(struct world *w, int id);

/* It sends a frame again and again, in one piece. */
void flood(struct world *w, int id, const char *frame, int count);

/* One turn; its events as text: "0:abc|d| 1 closed 2 ". */
const char *turn(struct world *w);

/* Turns until so much time has passed in waiting, and their events; who is busy meanwhile is the tests' clock_advance. */
const char *after(struct world *w, int64_t ms);

/* So much time passes, in which the caller waits and is told that nobody is ready; the events of it. */
const char *blind(struct world *w, int64_t ms);

/* The events so far, also those that answers brought; the next turn does not tell them again. */
const char *events_of(struct world *w);

/* Where the bytes of an event of frames are. */
const char *block_of(const struct world *w, const sb_event *event);

/* Take note of what the mux wants watched, as turn does (without epoll). */
void learn_changes(struct world *w);

/* size bytes; what the peer of id reads until nothing more comes is compared
 * with them from at on.  Returns where the next are. */
char *big_block(size_t size);
size_t drain(struct world *w, int id, const char *block, size_t at);

/* Send size bytes to one connection. */
void answer(struct world *w, int id, const char *data, int64_t size);

/* TCP on loopback. */
int listener(struct sockaddr_in *address);
int dial(const struct sockaddr_in *address);

#endif
