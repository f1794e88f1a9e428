/*
 * frame_lines - whole blocks of lines, and frames ended by one byte
 *
 * DESCRIPTION
 *   Here newlines are not searched one by one: sb__marks says for 64 bytes at a
 *   time where they are, and the bits are walked.  Where a limit cannot be
 *   passed inside a block, only the first bit of each is compared with it.
 */
#include "frame.h"

#include <limits.h>
#include <string.h>

struct walk {
    size_t start; /* of the line that is not ended yet */
    size_t frames, returns;
    size_t limit;
    int is_stopped; /* at a line longer than limit */
};

static unsigned count_bits(uint64_t bits)
{
    bits -= bits >> 1 & 0x5555555555555555;
    bits = (bits & 0x3333333333333333) + (bits >> 2 & 0x3333333333333333);
    bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
    return (unsigned)(bits * 0x0101010101010101 >> 56);
}

/* One line after the other; ended: bits of LF, returned: bits of LF behind CR. */
static void walk_lines(struct walk *walk, size_t base, uint64_t ended, uint64_t returned)
{
    for (; ended != 0; ended &= ended - 1) {
        unsigned bit = sb__lowest(ended);
        size_t at = base + bit, cr = returned >> bit & 1;
        if (at - walk->start - cr > walk->limit) {
            walk->is_stopped = 1;
            return;
        }
        walk->frames++;
        walk->returns += cr;
        walk->start = at + 1;
    }
}

/* All lines of a block at once, if none but the first can be too long. */
static void walk_block(struct walk *walk, size_t base, uint64_t ended, uint64_t returned)
{
    if (walk->limit < SB_BLOCK || base + sb__lowest(ended) - walk->start > walk->limit) {
        walk_lines(walk, base, ended, returned);
        return;
    }
    walk->frames += count_bits(ended);
    walk->returns += count_bits(returned);
    walk->start = base + sb__highest(ended) + 1;
}

int sb_lines_find(const char *data, size_t size, size_t scanned, size_t limit, sb_lines *found)
{
    struct sb_mark marks[SB_STRIDE];
    struct walk walk = {.limit = limit};
    uint64_t carry = scanned > 0 && data[scanned - 1] == '\r';
    for (size_t base = scanned; base < size && !walk.is_stopped && walk.frames <= INT_MAX - SB_STRIDE * SB_BLOCK;) {
        size_t looked = sb__marks(data + base, size - base, '\n', '\r', marks);
        for (size_t i = 0; i * SB_BLOCK < looked && !walk.is_stopped; i++) {
            uint64_t returned = marks[i].lf & (marks[i].cr << 1 | carry);
            carry = marks[i].cr >> 63;
            if (marks[i].lf != 0)
                walk_block(&walk, base + i * SB_BLOCK, marks[i].lf, returned);
        }
        base += looked;
    }
    if (walk.frames == 0)
        return walk.is_stopped || sb__line_too_long(data, size, limit) ? SB_ERR_TOO_LONG : 0;
    *found = (sb_lines){.frames = walk.frames, .end = walk.start, .returns = walk.returns};
    return (int)walk.frames;
}

/* ---- spans of a batch */

struct batch {
    sb_span *spans;
    size_t n, most;
    size_t start, limit;
    int is_stopped; /* at the caller's most, or at a frame longer than limit */
};

static void batch_block(struct batch *batch, size_t base, uint64_t ended, uint64_t returned)
{
    for (; ended != 0; ended &= ended - 1) {
        unsigned bit = sb__lowest(ended);
        size_t at = base + bit, end = at - (returned >> bit & 1);
        if (end - batch->start > batch->limit || batch->n == batch->most) {
            batch->is_stopped = 1;
            return;
        }
        batch->spans[batch->n++] = (sb_span){.start = batch->start, .end = end};
        batch->start = at + 1;
    }
}

int sb__bytes_batch(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_span *spans,
                    size_t most, size_t *next)
{
    struct sb_mark marks[SB_STRIDE];
    struct batch batch = {.spans = spans, .most = most, .limit = framing->limit};
    int is_line = framing->kind == SB_FRAMING_LINE;
    char ender = is_line ? '\n' : framing->delimiter[0];
    size_t base = scan->searched;
    uint64_t carry = is_line && base > 0 && data[base - 1] == '\r';
    while (base < size && !batch.is_stopped) {
        size_t looked = sb__marks(data + base, size - base, ender, '\r', marks);
        for (size_t i = 0; i * SB_BLOCK < looked && !batch.is_stopped; i++) {
            uint64_t returned = is_line ? marks[i].lf & (marks[i].cr << 1 | carry) : 0;
            carry = marks[i].cr >> 63;
            batch_block(&batch, base + i * SB_BLOCK, marks[i].lf, returned);
        }
        base += looked;
    }
    if (batch.n == 0) {
        sb_frame none; /* what is to be said about the first frame, the finder of one says */
        return sb_frame_find(framing, data, size, scan, &none);
    }
    *scan = (sb_scan){.searched = batch.is_stopped ? 0 : size - batch.start};
    *next = batch.start;
    return (int)batch.n;
}

/* ---- lines changed in place */

size_t sb_lines_strip(char *data, size_t size)
{
    size_t read = 0, write = 0;
    while (read < size) {
        char *cr = memchr(data + read, '\r', size - read);
        size_t stop = cr == NULL ? size : (size_t)(cr - data);
        if (stop > read && write != read)
            memmove(data + write, data + read, stop - read);
        write += stop - read;
        read = stop;
        if (cr != NULL) {
            if (read + 1 == size || data[read + 1] != '\n')
                data[write++] = '\r';
            read++;
        }
    }
    return write;
}

void sb_upper(char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)data[i];
        data[i] = (char)(c - ((unsigned char)(c - 'a') < 26 ? 32 : 0));
    }
}
