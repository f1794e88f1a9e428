/* SPDX-License-Identifier: MIT */
/*
 * wheel.h - many deadlines, and when they are checked; not installed
 *
 *   wheel.c   a timing wheel over the hooks in its owner's table
 */
#ifndef SOCKBUF_WHEEL_H
#define SOCKBUF_WHEEL_H

#include <stddef.h>
#include <stdint.h>

enum {
    SB_WHEEL = 256,     /* slots of the wheel, 64 s in all */
    SB_TICK_MS = 250,
    SB_STALL_MS = 50,   /* later than requested by so much: the caller was delayed; the share of a busy host is
                         * below */
    SB_STALL_TURNS = 4, /* then bytes may have to come through other sockets of the caller's: TLS takes two turns */
    SB_QUICK_MS = 10    /* maximum for each of these, if a deadline is due */
};

/* Largest time that can be added to a clock's. */
#define SB_FOREVER_MS (INT64_MAX / 4)

/* Where something hangs.  slot -1: nowhere. */
struct hook {
    int32_t before, after; /* neighbours; -1: none */
    int16_t slot;
};

struct wheel {
    int32_t head[SB_WHEEL];
    uint64_t used[SB_WHEEL / 64]; /* a bit for each slot that is not empty */
    int64_t tick;                 /* everything up to this tick was looked at */
    char *hooks;                  /* of number 0 */
    size_t apart;                 /* bytes from one to the next */
};

int64_t sb__clock_ms(void); /* CLOCK_MONOTONIC */

/* An empty wheel over hooks in a table, the first of which is given and whose rows are apart bytes long. */
void sb__wheel_init(struct wheel *wheel, void *hooks, size_t apart, int64_t now_ms);

/* Hang something up for its deadline, wherever it hung before; or take it down. */
void sb__wheel_hang(struct wheel *wheel, int32_t number, int64_t deadline_ms);
void sb__wheel_remove(struct wheel *wheel, int32_t number);

/* It has a new deadline: hang it nearer when that is sooner than its slot. */
void sb__wheel_sooner(struct wheel *wheel, int32_t number, int64_t deadline_ms);

/* Take down the next whose tick has come; -1: there is none.  The caller acts on
 * it, or hangs it up for a time after now_ms. */
int32_t sb__wheel_next(struct wheel *wheel, int64_t now_ms);

/* The next tick with a deadline; -1: there is none. */
int64_t sb__wheel_due(const struct wheel *wheel);

/* Whoever comes too late himself does not judge others at once. */
struct stall {
    int turns_left;
};

/* Whether deadlines are left for the next turn; over_ms: how much later than
 * asked for this one came.  Never more than SB_STALL_TURNS times in a row. */
int sb__is_patient(struct stall *stall, int64_t over_ms);

#endif
