/* SPDX-License-Identifier: MIT */
/*
 * mux_check - what must be true of a multiplexer between two calls
 *
 * DESCRIPTION
 *   Compiled in by -DSB_DEBUG alone, as the tests are: then every public call ends
 *   with it, and aborts the program where it does not hold.
 */
#include "mux.h"

#ifdef SB_DEBUG

#include <stdio.h>
#include <stdlib.h>

enum { SMALL_TABLE = 128, NOW_AND_THEN = 1024 }; /* rows that are looked at after each call; calls in between for more */

#define MUST(condition) ((condition) ? (void)0 : fail(#condition, __LINE__))

static void fail(const char *what, int line)
{
    fprintf(stderr, "mux_check.c:%d: not so: %s\n", line, what);
    abort();
}

static int64_t capacity_of(const sb_buffer *buffer)
{
    return buffer == NULL ? 0 : (int64_t)sb_buffer_capacity(buffer);
}

/* ---- events: each is of somebody who is there, and lies where it is said to lie */

static void check_frames(const sb_mux *mux, const sb_event *event)
{
    int64_t held = -1 - event->offset;
    MUST(event->size >= 0 && event->frames >= 0);
    if (event->offset >= 0) {
        MUST(event->offset + event->size <= SB_ARENA);
        return;
    }
    MUST(held < mux->held_count);
    MUST(event->size <= capacity_of(mux->held[held]));
}

static void check_events(const sb_mux *mux)
{
    MUST(mux->counts.events >= 0 && mux->counts.events <= mux->slots.size * SB_EVENTS_A_ROW);
    MUST(mux->reported >= 0 && mux->reported <= mux->counts.events);
    MUST(mux->next.event >= 0 && mux->next.event <= mux->counts.events);
    MUST(mux->next.ready >= 0 && mux->next.ready <= mux->counts.ready);
    for (int32_t i = mux->next.event; i < mux->counts.events; i++) {
        const sb_event *event = &mux->events[i];
        const struct row *row = event->id < 0 ? NULL : sb__row(mux, event->id);
        MUST(event->kind >= 0 && event->kind <= SB_EVENT_LINGERING);
        MUST((row == NULL) == (event->id < 0));
        if (event->kind == SB_EVENT_FRAMES)
            check_frames(mux, event);
        if (event->kind == SB_EVENT_CLOSED)
            MUST(row->state == ROW_CLOSED && event->detail == row->reason);
    }
}

/* ---- rows */

static void check_row(const sb_mux *mux, const struct row *row)
{
    MUST(row->state > ROW_FREE && row->state < ROW_STATES);
    MUST(sb__is_group(mux, row->group));
    MUST(row->fd >= -1); /* -1: sb_mux_leave */
    if (row->state == ROW_CLOSED) {
        MUST(row->hook.slot < 0);
        return;
    }
    if (!sb__may(row, MAY_CLOSE))
        MUST(row->in == NULL && row->reason != SB_REASON_NONE); /* nothing is handed out behind a close */
    if (row->state == ROW_LINGERING || row->state == ROW_HALF_LOCAL || row->state == ROW_FINISHED)
        MUST(row->out == NULL); /* our FIN went behind it */
    MUST(row->out == NULL || sb_buffer_size(row->out) > 0);
    MUST(sb__has_time(mux, row));
}

static void check_rows(const sb_mux *mux)
{
    int32_t there = 0, closed = 0, free_ones = 0;
    int64_t memory = 0, pooled = 0;
    for (int32_t i = 0; i < mux->slots.used; i++) {
        const struct row *row = &mux->rows[i];
        memory += capacity_of(row->in) + capacity_of(row->out);
        free_ones += row->state == ROW_FREE;
        closed += row->state == ROW_CLOSED;
        there += row->state != ROW_FREE;
        if (row->state != ROW_FREE)
            check_row(mux, row);
    }
    for (int i = 0; i < mux->held_count; i++)
        memory += capacity_of(mux->held[i]);
    for (int i = 0; i < SB_POOL_SIZES; i++)
        for (int j = 0; j < mux->pools[i].count; j++)
            pooled += capacity_of(mux->pools[i].kept[j]);
    MUST(there == mux->counts.connections);
    MUST(closed == mux->counts.closed);
    MUST(free_ones == mux->slots.waiting);
    MUST(memory == mux->counts.memory);
    MUST(pooled == mux->pooled);
}

/* ---- lists */

static void check_dead(const sb_mux *mux)
{
    int32_t n = 0;
    int is_reported = mux->reported_dead < 0;
    for (int32_t i = mux->dead_rows; i >= 0; i = mux->rows[i].slot.next, n++) {
        is_reported |= i == mux->reported_dead;
        MUST(n < mux->counts.closed && mux->rows[i].state == ROW_CLOSED);
    }
    MUST(n == mux->counts.closed && is_reported);
}

static void check_free(const sb_mux *mux)
{
    int32_t i = mux->slots.first;
    for (int32_t n = 0; n < mux->slots.waiting; n++, i = mux->rows[i].slot.next) {
        MUST(i >= 0 && i < mux->slots.used && mux->rows[i].state == ROW_FREE);
        MUST(n + 1 < mux->slots.waiting || i == mux->slots.last);
    }
}

/* A row stands in a list as often as its flag says: once, or not at all. */
static void check_marked(const sb_mux *mux)
{
    int32_t again = 0, changed = 0;
    for (int32_t i = 0; i < mux->slots.used; i++) {
        again += (mux->rows[i].again & AGAIN_LISTED) != 0;
        changed += (mux->rows[i].flags & FLAG_CHANGED) != 0;
        MUST(!(mux->rows[i].flags & FLAG_READY));
    }
    MUST(again == mux->again_count);
    MUST(changed == mux->counts.changes);
    for (int32_t i = 0; i < mux->again_count; i++)
        MUST(mux->rows[mux->again[i]].again & AGAIN_LISTED);
    for (int32_t i = 0; i < mux->counts.changes; i++)
        MUST(mux->rows[mux->changed[i]].flags & FLAG_CHANGED);
    MUST(mux->doomed_count >= 0 && mux->doomed_count <= mux->slots.used);
}

static int32_t check_slot(const sb_mux *mux, int slot, int32_t hung)
{
    int32_t found = 0, before = -1;
    MUST(mux->wheel.head[slot] >= 0);
    for (int32_t i = mux->wheel.head[slot]; i >= 0; before = i, i = mux->rows[i].hook.after) {
        MUST(++found <= hung);
        MUST(mux->rows[i].hook.slot == slot && mux->rows[i].hook.before == before);
        MUST(mux->rows[i].state != ROW_FREE && mux->rows[i].state != ROW_CLOSED);
    }
    return found;
}

/* A slot has its bit exactly if it is not empty: each that has one is not, and there are as many of both. */
static void check_wheel(const sb_mux *mux)
{
    int32_t hung = 0, found = 0, slots = 0;
    for (int32_t i = 0; i < mux->slots.used; i++)
        hung += mux->rows[i].state != ROW_FREE && mux->rows[i].hook.slot >= 0;
    for (int slot = 0; slot < SB_WHEEL; slot++)
        slots += mux->wheel.head[slot] >= 0;
    for (int word = 0; word < SB_WHEEL / 64; word++)
        for (uint64_t left = mux->wheel.used[word]; left != 0; left &= left - 1, slots--)
            found += check_slot(mux, word * 64 + __builtin_ctzll(left), hung);
    MUST(slots == 0);
    MUST(found == hung);
}

void sb__check(sb_mux *const *checked)
{
    sb_mux *mux = *checked;
    if (mux == NULL || (mux->slots.used > SMALL_TABLE && mux->checks++ % NOW_AND_THEN != 0))
        return;
    MUST(mux->sharing == -1);
    check_rows(mux);
    check_events(mux);
    check_dead(mux);
    check_free(mux);
    check_marked(mux);
    check_wheel(mux);
}

#endif
