/* SPDX-License-Identifier: MIT */
/*
 * harness - what the tests have in common
 *
 * SYNOPSIS
 *   tests [soak] [name ...]
 *
 * DESCRIPTION
 *   Output is TAP and a last line "N passed, N failed".  Calls of the library to
 *   the system go through here (ld --wrap), so that each can be made to fail at
 *   a given time, or to do less than it was asked for.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include "system.h"
#include "sockrelay.h"

#include <stddef.h>
#include <stdint.h>

struct test {
    const char *name;
    void (*run)(void);
};

extern const struct test buffer_tests[], newline_tests[], line_tests[], frame_tests[], encode_tests[], stream_tests[],
    mux_tests[], relay_tests[], relay_client_tests[], framing_tests[], relay_late_tests[], sources_tests[], buffer_io_tests[],
    datagram_tests[];

#define CHECK(condition) check((condition) != 0, #condition, __FILE__, __LINE__)
#define CHECK_EQ(got, want) check_number((long long)(got), (long long)(want), #got, __FILE__, __LINE__)
#define CHECK_TEXT(got, want) check_text(got, want, #got, __FILE__, __LINE__)

void check(int is_true, const char *what, const char *file, int line);
void check_number(long long got, long long want, const char *what, const char *file, int line);
void check_text(const char *got, const char *want, const char *what, const char *file, int line);

/* Checks that did not hold so far in the test that runs. */
int check_failures(void);

/* Times that a test of random cases goes round: few, or very many when soaking. */
int rounds(int few, int many);

/* Numbers that are the same in each run. */
uint32_t random_below(uint32_t bound);

/* A copy of size bytes (up to 1 MiB) that ends where unmapped memory begins, or
 * begins where it ends; it stays until the next call. */
char *at_edge(const void *data, size_t size);
char *behind_edge(const void *data, size_t size);

/* Every other time the one, every other time the other. */
char *at_an_edge(const void *data, size_t size);

/* ---- faults */

enum call {
    CALL_ALLOCATE, /* malloc, calloc, realloc */
    CALL_MMAP,
    CALL_RECV,     /* recv, recvmsg, recvmmsg */
    CALL_SEND,
    CALL_SENDMSG,  /* sendmsg, sendmmsg */
    CALL_READ,
    CALL_WRITE,
    CALL_POLL,
    CALL_SHUTDOWN,
    CALL_IOCTL,
    CALL_ACCEPT,   /* accept, accept4 */
    CALL_FCNTL,
    CALL_SO_ERROR, /* does not fail: the errno is what is read */
    CALL_EPOLL_CREATE,
    CALL_EPOLL_CTL,
    CALL_EPOLL_WAIT,
    CALL_SPLICE,
    CALL_PIPE,
    CALL_SOCKET,
    CALL_CONNECT,
    CALL_GETPEERNAME,
    CALLS
};

/* The nth of these calls from now on fails with an errno, once. */
void fail_nth(enum call call, int nth, int error);

/* From now on such calls move size bytes at most; 0: as many as asked for. */
void cap_size(enum call call, size_t size);

/* What was planned is forgotten.  Returns whether a planned failure took place. */
int faults_clear(void);

/* The clock that the library sees goes on by so many milliseconds, in which its caller was busy. */
void clock_advance(int64_t ms);
void clock_of_send(int64_t ms); /* passes with each send(2) from now on */

/* The same while somebody waits: epoll_wait(2) and poll(2) return at once, and take
 * what they were to wait off this time. */
void clock_pass(int64_t ms);
int64_t clock_left(void);

/* What the library sees, in milliseconds. */
int64_t clock_now(void);

#endif
