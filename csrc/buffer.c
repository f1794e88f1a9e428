/* SPDX-License-Identifier: MIT */
/*
 * buffer - a bounded byte buffer
 *
 * DESCRIPTION
 *   Data lies between read and write.  Room is made by moving the data to the
 *   front when that frees at least a quarter of what it copies, else by growing to
 *   twice the size: so a byte costs O(1) on its way through, however many wait,
 *   until the buffer is as large as its limit.
 */
#include "buffer.h"

#include <stdlib.h>
#include <string.h>

struct sb_buffer {
    char *memory;
    size_t read, scanned, write, size, limit;
};

sb_buffer *sb_buffer_new(size_t limit)
{
    sb_buffer *b = calloc(1, sizeof *b);
    if (b == NULL)
        return NULL;
    b->memory = (char *)(uintptr_t)""; /* no bytes, but a valid pointer that is neither read nor written */
    b->limit = limit;
    return b;
}

void sb_buffer_free(sb_buffer *b)
{
    if (b == NULL)
        return;
    if (b->size > 0)
        free(b->memory);
    free(b);
}

static int pays_to_move(const sb_buffer *b, size_t data, size_t max)
{
    return b->read >= data / 4 || b->size == max;
}

static void move_to_front(sb_buffer *b)
{
    if (b->read == 0)
        return;
    memmove(b->memory, b->memory + b->read, b->write - b->read);
    b->scanned -= b->read;
    b->write -= b->read;
    b->read = 0;
}

static void resize(sb_buffer *b, size_t size)
{
    char *memory = realloc(b->size > 0 ? b->memory : NULL, size);
    if (memory == NULL)
        return;
    b->memory = memory;
    b->size = size;
}

/* To twice the size, or as often twice as is needed; size < most. */
static void grow(sb_buffer *b, size_t need, size_t max)
{
    size_t size = b->size < SB_SMALLEST / 2 ? SB_SMALLEST / 2 : b->size;
    do
        size = size > max / 2 ? max : size * 2;
    while (size < need);
    resize(b, size);
}

int sb__buffer_reserve(sb_buffer *b, size_t want, size_t max, char **room)
{
    if (b == NULL || room == NULL)
        return SB_ERR_INVALID;
    size_t data = b->write - b->read;
    if (want > max || data > max - want)
        return SB_ERR_LIMIT;
    if (b->size - b->write < want) {
        if (b->size - data < want || !pays_to_move(b, data, max))
            grow(b, data + want, max);
        if (b->size - data < want)
            return SB_ERR_NOMEM;
        move_to_front(b);
    }
    *room = b->memory + b->write;
    return 0;
}

int sb_buffer_reserve(sb_buffer *b, size_t want, char **room)
{
    return sb__buffer_reserve(b, want, b == NULL ? 0 : b->limit, room);
}

size_t sb__buffer_room(const sb_buffer *b)
{
    return b->size - b->write;
}

size_t sb__buffer_left(const sb_buffer *b)
{
    return b == NULL ? 0 : b->limit - (b->write - b->read);
}

char *sb__buffer_data(sb_buffer *b)
{
    return b->memory + b->read;
}

static size_t lesser(size_t one, size_t other)
{
    return one < other ? one : other;
}

void sb_buffer_commit(sb_buffer *b, size_t n)
{
    if (b != NULL)
        b->write += lesser(n, b->size - b->write);
}

int sb_buffer_append(sb_buffer *b, const char *data, size_t n)
{
    char *room;
    if (n == 0)
        return 0;
    int error = sb_buffer_reserve(b, n, &room);
    if (error < 0)
        return error;
    memcpy(room, data, n);
    b->write += n;
    return 0;
}

void sb_buffer_consume(sb_buffer *b, size_t n)
{
    if (b == NULL)
        return;
    b->read += lesser(n, b->write - b->read);
    if (b->scanned < b->read)
        b->scanned = b->read;
    if (b->read == b->write)
        b->read = b->scanned = b->write = 0;
}

/* Bytes that are copied here have been paid for by a quarter of them at least that were consumed before. */
void sb__buffer_shrink(sb_buffer *b)
{
    size_t data = b->write - b->read, size = SB_SMALLEST;
    while (size < data)
        size *= 2;
    if (b->size / 2 < data || b->size <= size || b->read < data / 4)
        return;
    move_to_front(b);
    resize(b, size);
}

const char *sb_buffer_data(const sb_buffer *b)
{
    return b == NULL ? "" : b->memory + b->read;
}

size_t sb_buffer_size(const sb_buffer *b)
{
    return b == NULL ? 0 : b->write - b->read;
}

size_t sb_buffer_capacity(const sb_buffer *b)
{
    return b == NULL ? 0 : b->size;
}

size_t sb__buffer_scanned(const sb_buffer *b)
{
    return b->scanned - b->read;
}

void sb__buffer_set_scanned(sb_buffer *b, size_t scanned)
{
    b->scanned = b->read + lesser(scanned, b->write - b->read);
}
