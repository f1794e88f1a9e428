/*
 * buffer - a bounded byte buffer
 *
 * DESCRIPTION
 *   Data lies between read and write.  Room is made by moving the data to the
 *   front when that frees at least as much as it copies, else by growing to
 *   twice the size, so that n bytes appended one by one cost O(n).
 */
#include "sockbuf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { SMALLEST = 256 };

struct sb_buffer {
    char *memory;
    size_t read, scanned, write, size, limit;
};

sb_buffer *sb_buffer_new(size_t limit)
{
    sb_buffer *b = calloc(1, sizeof *b);
    if (b != NULL)
        b->limit = limit;
    return b;
}

void sb_buffer_free(sb_buffer *b)
{
    if (b == NULL)
        return;
    free(b->memory);
    free(b);
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

static int grow(sb_buffer *b, size_t need)
{
    size_t smallest = b->limit < SMALLEST ? b->limit : SMALLEST;
    size_t size = b->size < smallest ? smallest : b->size;
    while (size < need)
        size = size > b->limit / 2 ? b->limit : size * 2;
    char *memory = realloc(b->memory, size);
    if (memory == NULL)
        return SB_ERR_NOMEM;
    b->memory = memory;
    b->size = size;
    return 0;
}

int sb_buffer_reserve(sb_buffer *b, size_t want, char **room)
{
    size_t data = b->write - b->read;
    if (want > b->limit || data > b->limit - want)
        return SB_ERR_LIMIT;
    if (b->size - b->write < want) {
        if (b->read >= data || b->size - data >= want)
            move_to_front(b);
        if (b->size - b->write < want) {
            move_to_front(b);
            int error = grow(b, data + want);
            if (error < 0)
                return error;
        }
    }
    *room = b->memory + b->write;
    return 0;
}

void sb_buffer_commit(sb_buffer *b, size_t n)
{
    assert(n <= b->size - b->write);
    b->write += n;
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
    assert(n <= b->write - b->read);
    b->read += n;
    if (b->scanned < b->read)
        b->scanned = b->read;
    if (b->read == b->write)
        b->read = b->scanned = b->write = 0;
}

const char *sb_buffer_data(const sb_buffer *b)
{
    return b->memory + b->read;
}

size_t sb_buffer_size(const sb_buffer *b)
{
    return b->write - b->read;
}

size_t sb_buffer_capacity(const sb_buffer *b)
{
    return b->size;
}

size_t sb_buffer_scanned(const sb_buffer *b)
{
    return b->scanned - b->read;
}

void sb_buffer_set_scanned(sb_buffer *b, size_t scanned)
{
    assert(scanned <= b->write - b->read);
    b->scanned = b->read + scanned;
}
