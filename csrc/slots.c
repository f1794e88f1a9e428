/* SPDX-License-Identifier: MIT */
/*
 * slots - the places of a table, and ids that are not reused soon
 *
 * DESCRIPTION
 *   An id that is kept and used later, from a list that a person reads or in a late reply, must not reach a newer
 *   connection.  So an id also contains how often its place was used, 31 bits in all, and a free place is reused
 *   late: after SB_SPARE others, as long as there are new ones.  New ones cost memory, because a table is touched
 *   as its places are.
 */
#include "slots.h"

void sb__slots_init(struct slots *slots, int32_t size)
{
    *slots = (struct slots){.size = size, .stride = 1};
    while (slots->stride < size)
        slots->stride *= 2;
}

void sb__slots_lie(struct slots *slots, void *first, size_t apart)
{
    slots->slots = first;
    slots->apart = apart;
}

static struct slot *slot_at(const struct slots *slots, int32_t number)
{
    return (struct slot *)(void *)(slots->slots + (size_t)number * slots->apart);
}

static int32_t extend(struct slots *slots)
{
    int32_t number = slots->used++;
    slot_at(slots, number)->id = number;
    return number;
}

int32_t sb__slot_acquire(struct slots *slots)
{
    int is_all_used = slots->used == slots->size;
    if (slots->waiting == 0 && is_all_used)
        return -1;
    if (slots->waiting <= SB_SPARE && !is_all_used)
        return extend(slots);
    int32_t number = slots->first;
    struct slot *slot = slot_at(slots, number);
    slots->first = slot->next;
    slots->waiting--;
    slot->id = slot->id > INT32_MAX - slots->stride ? number : slot->id + slots->stride;
    return number;
}

void sb__slot_free(struct slots *slots, int32_t number)
{
    if (slots->waiting++ == 0)
        slots->first = number;
    else
        slot_at(slots, slots->last)->next = number;
    slots->last = number;
}

int32_t sb__slot_of(const struct slots *slots, int32_t id)
{
    int32_t number = sb__slot_number(slots, id);
    return id < 0 || number >= slots->used || slot_at(slots, number)->id != id ? -1 : number;
}
