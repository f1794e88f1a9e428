/* SPDX-License-Identifier: MIT */
/*
 * mux_buffers - buffers, lent for incomplete frames and for unsent output
 *
 * DESCRIPTION
 *   A buffer is lent with room for what is to lie in it, and no more than twice
 *   that: so a peer makes the mux own twice of what it has sent, at most.  Those
 *   that are given back wait in pools, one for each size, for the next who needs
 *   one of that size: to allocate and free 64 KiB anew for each frame costs a
 *   factor of two, for malloc(3) returns it to the system each time.
 *
 *   What is lent counts as memory of the mux.  What waits in the pools does not,
 *   but it is freed before both together pass the limit.
 */
#include "mux.h"

#include <string.h>

/* Bytes that lent buffers may own in addition to what they own now. */
static size_t memory_left(const sb_mux *mux)
{
    int64_t left = mux->memory_limit - mux->counts.memory;
    if (mux->memory_limit <= 0)
        return PTRDIFF_MAX;
    return left > 0 ? (size_t)sb__lesser(left, PTRDIFF_MAX) : 0;
}

/* ---- pools */

/* The pool whose buffers have room for so many bytes; SB_POOL_SIZES: none has. */
static int pool_for(size_t size)
{
    int pool = 0;
    while (pool < SB_POOL_SIZES && (size_t)SB_SMALLEST << pool < size)
        pool++;
    return pool;
}

static sb_buffer *pop_buffer(sb_mux *mux, struct pool *pool)
{
    sb_buffer *buffer = pool->kept[--pool->count];
    mux->pooled -= (int64_t)sb_buffer_capacity(buffer);
    return buffer;
}

static sb_buffer *pooled(sb_mux *mux, size_t size)
{
    int number = pool_for(size);
    struct pool *pool = &mux->pools[number];
    if (number == SB_POOL_SIZES || pool->count == 0)
        return NULL;
    sb_buffer *buffer = pop_buffer(mux, pool);
    mux->counts.memory += (int64_t)sb_buffer_capacity(buffer); /* within the limit, as all that is kept was */
    return buffer;
}

static int is_too_much(const sb_mux *mux)
{
    int is_over_limit = mux->memory_limit > 0 && mux->counts.memory + mux->pooled > mux->memory_limit;
    return mux->pooled > SB_POOLED || (is_over_limit && mux->pooled > 0);
}

/* Until they are no more than is kept, and within the limit together with what is lent: the largest first. */
static void shorten_pools(sb_mux *mux)
{
    for (int i = SB_POOL_SIZES - 1; is_too_much(mux); i--)
        while (mux->pools[i].count > 0 && is_too_much(mux))
            sb_buffer_free(pop_buffer(mux, &mux->pools[i]));
}

void sb__free_pools(sb_mux *mux)
{
    for (int i = 0; i < SB_POOL_SIZES; i++)
        while (mux->pools[i].count > 0)
            sb_buffer_free(pop_buffer(mux, &mux->pools[i]));
}

int sb_mux_memory(sb_mux *mux, int64_t max)
{
    SB_CHECKED(mux);
    if (mux == NULL || max < 0)
        return SB_ERR_INVALID;
    mux->memory_limit = max;
    shorten_pools(mux);
    return 0;
}

/* ---- lent ones */

static int reserve(sb_mux *mux, sb_buffer *buffer, size_t want, char **room)
{
    size_t before = sb_buffer_capacity(buffer);
    int code = sb__buffer_reserve(buffer, want, before + memory_left(mux), room);
    mux->counts.memory += (int64_t)(sb_buffer_capacity(buffer) - before);
    shorten_pools(mux);
    return code;
}

/* Its limit is the caller's business: rows have limits. */
sb_buffer *sb__lend(sb_mux *mux, size_t size, int *code)
{
    char *room;
    sb_buffer *buffer = pooled(mux, size);
    if (buffer != NULL)
        return buffer;
    buffer = sb_buffer_new(PTRDIFF_MAX);
    *code = buffer == NULL ? SB_ERR_NOMEM : reserve(mux, buffer, size, &room);
    if (*code == 0)
        return buffer;
    sb_buffer_free(buffer);
    return NULL;
}

void sb__give_back(sb_mux *mux, sb_buffer *buffer)
{
    if (buffer == NULL)
        return;
    size_t capacity = sb_buffer_capacity(buffer);
    int number = pool_for(capacity);
    number -= number == SB_POOL_SIZES || (size_t)SB_SMALLEST << number > capacity; /* of a size in between: the smaller one */
    mux->counts.memory -= (int64_t)capacity;
    sb_buffer_consume(buffer, sb_buffer_size(buffer));
    if (number < 0 || capacity >= (size_t)SB_SMALLEST << SB_POOL_SIZES || mux->pools[number].count == SB_POOL) {
        sb_buffer_free(buffer);
        return;
    }
    mux->pools[number].kept[mux->pools[number].count++] = buffer;
    mux->pooled += (int64_t)capacity;
    shorten_pools(mux);
}

/* A copy is what realloc(3) would make as well; but the larger one is here already. */
static void move_to_larger(sb_mux *mux, sb_buffer **buffer, size_t want)
{
    sb_buffer *small = *buffer, *large = pooled(mux, sb_buffer_size(small) + want);
    if (large == NULL)
        return;
    (void)!sb_buffer_append(large, sb_buffer_data(small), sb_buffer_size(small));
    sb__buffer_set_scanned(large, sb__buffer_scanned(small));
    sb__give_back(mux, small);
    *buffer = large;
}

int sb__room(sb_mux *mux, sb_buffer **buffer, size_t want, char **room)
{
    if (sb_buffer_capacity(*buffer) - sb_buffer_size(*buffer) < want)
        move_to_larger(mux, buffer, want);
    return reserve(mux, *buffer, want, room);
}

int sb__append(sb_mux *mux, sb_buffer **buffer, const char *data, size_t size)
{
    char *room;
    int code = sb__room(mux, buffer, size, &room);
    if (code < 0)
        return code;
    memcpy(room, data, size);
    sb_buffer_commit(*buffer, size);
    return 0;
}

void sb__consume(sb_mux *mux, sb_buffer *buffer, size_t size)
{
    size_t before = sb_buffer_capacity(buffer);
    sb_buffer_consume(buffer, size);
    sb__buffer_shrink(buffer);
    mux->counts.memory -= (int64_t)(before - sb_buffer_capacity(buffer));
}
