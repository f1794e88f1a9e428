/* SPDX-License-Identifier: MIT */
/*
 * slots.h - the places of a table, and ids that are not reused soon; not installed
 *
 *   slots.c   which place is next, and as what
 */
#ifndef SOCKBUF_SLOTS_H
#define SOCKBUF_SLOTS_H

#include <stddef.h>
#include <stdint.h>

enum { SB_SPARE = 1024 }; /* free places that wait before one is used again, while there are new ones */

/* A place; part of each row of a table.  The id is the place's number and, above it, how often it was used. */
struct slot {
    int32_t id;
    int32_t next; /* that is free */
};

struct slots {
    int32_t size, used;
    int32_t stride;               /* the smallest power of two that is not below size */
    int32_t first, last, waiting; /* free ones, reused in the order in which they became free */
    char *slots;                  /* of number 0 */
    size_t apart;                 /* bytes from one to the next */
};

void sb__slots_init(struct slots *slots, int32_t size);

/* Where they are: part of a table of zeroes, whose rows are apart bytes long. */
void sb__slots_lie(struct slots *slots, void *first, size_t apart);

/* The number of a free place, which has a new id now; -1: all are taken. */
int32_t sb__slot_acquire(struct slots *slots);
void sb__slot_free(struct slots *slots, int32_t number);

/* The number of the place that has this id, or has not any more; -1: there is none. */
int32_t sb__slot_of(const struct slots *slots, int32_t id);

static inline int32_t sb__slot_number(const struct slots *slots, int32_t id)
{
    return id & (slots->stride - 1);
}

#endif
