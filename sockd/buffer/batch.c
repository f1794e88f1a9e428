/* SPDX-License-Identifier: MIT */
/*
 * batch - what the Python extension adds to libsockbuf
 *
 * DESCRIPTION
 *   Frames become bytes objects fastest when Python makes them all in one call:
 *   slicing costs it 106 ns a frame of 32 bytes, bytes.split 33, reading them from
 *   a pickle 27.  So a batch is written as the pickle of a list of bytes; the
 *   format is promised to stay (PEP 307, PEP 3154).  Nothing of the peer's is ever
 *   read as an opcode: each payload stands behind its length.
 *
 *   Compiled into sockd._sockbuf by csrc/sockbuf_build.py, which reads the
 *   declarations between the marks.
 */

/* <cffi> */

/* A batch cut off the start of the data; the rest begins at data[next]. */
typedef struct sockd_batch {
    size_t next;
    size_t start; /* payload of the one frame, when there is one alone */
    size_t end;
    size_t used;  /* bytes of pickle; 0 for one frame alone */
} sockd_batch;

#define SOCKD_BATCH_A_FRAME 5 /* bytes that pickle adds to a payload */
#define SOCKD_BATCH_ONCE 69   /* and to the list, and the bytes written past the end of the last one */

/* Find up to most frames (most > 0) and write them to out, which has room for
 * size + most * SOCKD_BATCH_A_FRAME + SOCKD_BATCH_ONCE bytes.  One frame alone is
 * only pointed at, unless it is a dot block.  Returns as sb_frames_find. */
int sockd_batch_cut(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, char *out, size_t max,
                    sockd_batch *batch);

/* Append a frame to out for each of count payloads, which make up a block of size
 * bytes; lengths has the bytes of each, and then those of its frame.
 * Returns how many: fewer than count when the next one cannot be a frame, 0 when
 * the payloads are more or less than the block. */
size_t sockd_encode(const sb_framing *framing, const char *block, size_t size, uint32_t *lengths, size_t count,
                    sb_buffer *out);

/* </cffi> */

#include <string.h>

enum { SPANS = 512, SMALL = 64 };

/* n bytes; where it does no harm a round number of them, which needs no call. */
static void copy(char *out, const char *data, size_t n, const char *end)
{
    if (n > SMALL || (size_t)(end - data) < SMALL) {
        memcpy(out, data, n);
        return;
    }
    memcpy(out, data, SMALL / 2);
    if (n > SMALL / 2)
        memcpy(out + SMALL / 2, data + SMALL / 2, SMALL / 2);
}

static char *put_payload(char *out, const sb_framing *framing, const char *data, size_t n, const char *end)
{
    char *head = out;
    out += n < 256 ? 2 : SOCKD_BATCH_A_FRAME;
    if (framing->kind == SB_FRAMING_DOT_BLOCK) {
        size_t size = sb_dot_unstuff(data, n, out);
        if (n >= 256 && size < 256)
            memmove(head + 2, out, size);
        n = size;
        out = head + (n < 256 ? 2 : SOCKD_BATCH_A_FRAME);
    } else {
        copy(out, data, n, end);
    }
    if (n < 256) {
        head[0] = 'C'; /* SHORT_BINBYTES */
        head[1] = (char)n;
    } else {
        head[0] = 'B'; /* BINBYTES, 4 bytes, little-endian */
        for (int i = 0; i < 4; i++)
            head[1 + i] = (char)(n >> (8 * i) & 0xff);
    }
    return out + n;
}

/* One frame alone is not copied here: it may be large. */
static int is_alone(const sb_framing *framing, size_t total, int n)
{
    return total == 0 && n == 1 && framing->kind != SB_FRAMING_DOT_BLOCK;
}

int sockd_batch_cut(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, char *out, size_t max,
                    sockd_batch *batch)
{
    sb_span spans[SPANS];
    char *write = out;
    size_t at = 0, total = 0, want = SPANS;
    for (int n = SPANS; (size_t)n == want && total < max && (at < size || total == 0); total += (size_t)n) {
        size_t next = 0;
        want = max - total < SPANS ? max - total : SPANS;
        n = sb_frames_find(framing, data + at, size - at, scan, spans, want, &next);
        if (n <= 0 && total == 0)
            return n;
        if (n <= 0)
            break;
        if (is_alone(framing, total, n)) {
            *batch = (sockd_batch){.next = next, .start = spans[0].start, .end = spans[0].end};
            return 1;
        }
        if (total == 0) {
            memcpy(write, "\x80\x03(", 3); /* PROTO 3, MARK */
            write += 3;
        }
        for (int i = 0; i < n; i++)
            write = put_payload(write, framing, data + at + spans[i].start, spans[i].end - spans[i].start, data + size);
        at += next;
    }
    memcpy(write, "l.", 2); /* LIST, STOP */
    *batch = (sockd_batch){.next = at, .used = (size_t)(write + 2 - out)};
    return (int)total;
}

size_t sockd_encode(const sb_framing *framing, const char *block, size_t size, uint32_t *lengths, size_t count,
                    sb_buffer *out)
{
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += lengths[i];
    if (total != size)
        return 0;
    for (size_t i = 0; i < count; i++) {
        size_t before = sb_buffer_size(out);
        if (sb_frame_encode(framing, block, lengths[i], out) < 0 || sb_buffer_size(out) - before > UINT32_MAX)
            return i;
        block += lengths[i];
        lengths[i] = (uint32_t)(sb_buffer_size(out) - before);
    }
    return count;
}
