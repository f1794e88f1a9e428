/*
 * deadline - a timing wheel over the rows of a set
 *
 * DESCRIPTION
 *   A row hangs in the slot of a tick at or before its deadline.  Activity does
 *   not move it: when its tick comes round and the deadline has moved on, it is
 *   hung up again.  So an idle connection costs one move for each turn of the
 *   wheel (64 s), and a busy one no more than that.
 */
#include "set.h"

void sb__wheel_init(struct wheel *w, int64_t now_ms)
{
    for (int i = 0; i < SB_WHEEL; i++)
        w->head[i] = -1;
    for (int i = 0; i < SB_WHEEL / 64; i++)
        w->used[i] = 0;
    w->tick = now_ms / SB_TICK_MS;
}

void sb__deadline_clear(sb_set *set, struct row *row)
{
    struct wheel *w = &set->wheel;
    int slot = row->slot;
    if (slot < 0)
        return;
    if (row->before >= 0)
        set->rows[row->before].after = row->after;
    else
        w->head[slot] = row->after;
    if (row->after >= 0)
        set->rows[row->after].before = row->before;
    if (w->head[slot] < 0)
        w->used[slot / 64] &= ~((uint64_t)1 << (slot % 64));
    row->slot = -1;
}

void sb__deadline_set(sb_set *set, struct row *row, int64_t deadline_ms)
{
    struct wheel *w = &set->wheel;
    sb__deadline_clear(set, row);
    int64_t tick = (deadline_ms + SB_TICK_MS - 1) / SB_TICK_MS;
    if (tick <= w->tick)
        tick = w->tick + 1; /* it came from another set, and was due on the way */
    if (tick >= w->tick + SB_WHEEL - 1)
        tick = w->tick + SB_WHEEL - 2; /* the wheel may go back one: sb__deadlines_run */
    int slot = (int)(tick % SB_WHEEL);
    int32_t id = (int32_t)(row - set->rows);
    row->before = -1;
    row->after = w->head[slot];
    if (row->after >= 0)
        set->rows[row->after].before = id;
    w->head[slot] = id;
    w->used[slot / 64] |= (uint64_t)1 << (slot % 64);
    row->slot = (int16_t)slot;
}

/* A row has a new deadline: hang it nearer when that is sooner than its slot. */
void sb__deadline_sooner(sb_set *set, struct row *row)
{
    const struct wheel *w = &set->wheel;
    int64_t deadline = sb__deadline_of(set, row);
    if (deadline == 0)
        return;
    if (row->slot >= 0) {
        int64_t away = (row->slot - w->tick) & (SB_WHEEL - 1);
        if ((w->tick + away) * SB_TICK_MS <= deadline + SB_TICK_MS)
            return;
    }
    sb__deadline_set(set, row, deadline);
}

/* Act on each row of a slot or hang it up again, which is never in this slot.
 * Returns what is left of the budget; the rest stays in the slot when it is 0. */
static int run_slot(sb_set *set, int slot, int budget)
{
    struct wheel *w = &set->wheel;
    while (w->head[slot] >= 0 && budget > 0) {
        struct row *row = &set->rows[w->head[slot]];
        int64_t deadline = sb__deadline_of(set, row);
        sb__deadline_clear(set, row);
        if (deadline > set->now_ms) {
            sb__deadline_set(set, row, deadline);
        } else if (deadline > 0) {
            sb__deadline_reached(set, row);
            budget--;
        }
    }
    return budget;
}

void sb__deadlines_run(sb_set *set)
{
    struct wheel *w = &set->wheel;
    int budget = SB_DEADLINES;
    int64_t now = set->now_ms / SB_TICK_MS;
    if (now > w->tick + SB_WHEEL)
        w->tick = now - SB_WHEEL; /* once round the wheel is every row */
    while (w->tick < now) {
        int slot = (int)(++w->tick % SB_WHEEL);
        if (w->used[slot / 64] & (uint64_t)1 << (slot % 64))
            budget = run_slot(set, slot, budget);
        if (w->head[slot] >= 0) { /* many at once: the others are served in between */
            w->tick--;
            return;
        }
    }
}

int sb_set_timeout(sb_set *set)
{
    const struct wheel *w = &set->wheel;
    if (set->doomed_count > 0 || set->again_count > 0)
        return 0; /* they end, or are framed, in the next turn */
    sb__now(set);
    for (int64_t tick = w->tick + 1; tick < w->tick + SB_WHEEL; tick++) {
        int slot = (int)(tick % SB_WHEEL);
        if (w->used[slot / 64] >> (slot % 64) == 0) {
            tick += 63 - slot % 64; /* nothing in the rest of this word */
            continue;
        }
        if (w->used[slot / 64] & (uint64_t)1 << (slot % 64)) {
            int64_t left = tick * SB_TICK_MS - set->now_ms;
            return left > 0 ? (int)left : 0;
        }
    }
    return -1;
}
