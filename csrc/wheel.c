/* SPDX-License-Identifier: MIT */
/*
 * wheel - a timing wheel
 *
 * DESCRIPTION
 *   A deadline hangs in the slot of a tick at or before it, by a hook in its owner's table.  Activity does not move
 *   it: when its tick is reached it is removed, and the owner adds it again if the deadline has moved. So an idle
 *   connection costs one move for each turn of the wheel (64 s), and a busy one no more than that.
 */
#include "system.h"
#include "wheel.h"

#include <time.h>

int64_t sb__clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void sb__wheel_init(struct wheel *w, void *hooks, size_t apart, int64_t now_ms)
{
    for (int i = 0; i < SB_WHEEL; i++)
        w->head[i] = -1;
    for (int i = 0; i < SB_WHEEL / 64; i++)
        w->used[i] = 0;
    w->tick = now_ms / SB_TICK_MS;
    w->hooks = hooks;
    w->apart = apart;
}

static struct hook *hook_of(const struct wheel *w, int32_t number)
{
    return (struct hook *)(void *)(w->hooks + (size_t)number * w->apart);
}

void sb__wheel_remove(struct wheel *w, int32_t number)
{
    struct hook *hook = hook_of(w, number);
    int slot = hook->slot;
    if (slot < 0)
        return;
    if (hook->before >= 0)
        hook_of(w, hook->before)->after = hook->after;
    else
        w->head[slot] = hook->after;
    if (hook->after >= 0)
        hook_of(w, hook->after)->before = hook->before;
    if (w->head[slot] < 0)
        w->used[slot / 64] &= ~((uint64_t)1 << (slot % 64));
    hook->slot = -1;
}

void sb__wheel_hang(struct wheel *w, int32_t number, int64_t deadline_ms)
{
    struct hook *hook = hook_of(w, number);
    sb__wheel_remove(w, number);
    int64_t tick = (deadline_ms + SB_TICK_MS - 1) / SB_TICK_MS;
    if (tick <= w->tick)
        tick = w->tick + 1; /* it came from another mux, and was due meanwhile */
    if (tick >= w->tick + SB_WHEEL)
        tick = w->tick + SB_WHEEL - 1;
    int slot = (int)(tick % SB_WHEEL);
    hook->before = -1;
    hook->after = w->head[slot];
    if (hook->after >= 0)
        hook_of(w, hook->after)->before = number;
    w->head[slot] = number;
    w->used[slot / 64] |= (uint64_t)1 << (slot % 64);
    hook->slot = (int16_t)slot;
}

void sb__wheel_sooner(struct wheel *w, int32_t number, int64_t deadline_ms)
{
    const struct hook *hook = hook_of(w, number);
    if (hook->slot >= 0) {
        int64_t away = (hook->slot - w->tick) & (SB_WHEEL - 1);
        if ((w->tick + away) * SB_TICK_MS <= deadline_ms + SB_TICK_MS)
            return;
    }
    sb__wheel_hang(w, number, deadline_ms);
}

int32_t sb__wheel_next(struct wheel *w, int64_t now_ms)
{
    int64_t now = now_ms / SB_TICK_MS;
    if (now > w->tick + SB_WHEEL)
        w->tick = now - SB_WHEEL; /* once round the wheel is everybody */
    for (; w->tick < now; w->tick++) {
        int32_t number = w->head[(w->tick + 1) % SB_WHEEL];
        if (number >= 0) { /* the tick is not over before its slot is empty */
            sb__wheel_remove(w, number);
            return number;
        }
    }
    return -1;
}

int64_t sb__wheel_due(const struct wheel *w)
{
    int64_t tick = w->tick + 1, last = w->tick + SB_WHEEL; /* also its own slot: after a long sleep not all were looked at */
    while (tick <= last) {
        int slot = (int)(tick % SB_WHEEL);
        uint64_t left = w->used[slot / 64] >> (slot % 64);
        if (left != 0)
            return (tick + __builtin_ctzll(left)) * SB_TICK_MS;
        tick += 64 - slot % 64; /* nothing in the rest of this word */
    }
    return -1;
}

int sb__is_patient(struct stall *stall, int64_t over_ms)
{
    if (stall->turns_left == 0) {
        if (over_ms <= SB_STALL_MS)
            return 0;
        stall->turns_left = SB_STALL_TURNS + 1;
    }
    return --stall->turns_left > 0;
}
