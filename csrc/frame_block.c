/* SPDX-License-Identifier: MIT */
/*
 * frame_block - blocks of lines: up to a dot alone, up to an empty line
 *
 * DESCRIPTION
 *   scan->searched is either the start of a line that cannot be judged yet, or
 *   lies within a line whose start was judged; the bytes before it tell which.
 *
 *   Only CR LF ends a line of a dot block.  To take a bare LF for a line's end
 *   as well is how mail is smuggled: two programs see different ends.
 */
#include "frame.h"

#include <string.h>

static int is_prefix(const char *data, size_t size, const char *whole, size_t width)
{
    return size < width && memcmp(data, whole, size) == 0;
}

/* Offset behind the next CR LF from an offset on, or 0. */
static size_t behind_crlf(const char *data, size_t from, size_t size)
{
    while (from < size) {
        const char *lf = memchr(data + from, '\n', size - from);
        if (lf == NULL)
            return 0;
        from = (size_t)(lf - data) + 1;
        if (from > 1 && lf[-1] == '\r')
            return from;
    }
    return 0;
}

int sb__dot_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame)
{
    size_t at = scan->searched, dots = scan->dots; /* the scan is written on success: an error stays the same error */
    int line_start = at == 0 || (at > 1 && data[at - 1] == '\n' && data[at - 2] == '\r');
    for (;;) {
        if (line_start) {
            if (at - dots > framing->limit)
                return SB_ERR_TOO_LONG;
            if (is_prefix(data + at, size - at, ".\r\n", 3)) {
                scan->dots = dots;
                return sb__more(at, size + 1, scan);
            }
            if (size - at >= 3 && memcmp(data + at, ".\r\n", 3) == 0) {
                scan->dots = dots;
                return sb__found(0, at, at + 3, scan, frame);
            }
            dots += data[at] == '.';
            at++;
        }
        size_t behind = behind_crlf(data, at, size);
        if (behind == 0) {
            if (size - dots > framing->limit)
                return SB_ERR_TOO_LONG;
            scan->dots = dots;
            return sb__more(size, size + 1, scan);
        }
        at = behind;
        line_start = 1;
    }
}

int sb__blank_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame)
{
    size_t at = scan->searched;
    int line_start = at == 0 || data[at - 1] == '\n';
    for (;;) {
        if (line_start) {
            if (at > framing->limit)
                return SB_ERR_TOO_LONG;
            size_t cr = at < size && data[at] == '\r';
            if (at + cr == size)
                return sb__more(at, size + 1, scan);
            if (data[at + cr] == '\n')
                return sb__found(0, at, at + cr + 1, scan, frame);
        }
        const char *lf = memchr(data + at, '\n', size - at);
        if (lf == NULL)
            return size > framing->limit ? SB_ERR_TOO_LONG : sb__more(size, size + 1, scan);
        at = (size_t)(lf - data) + 1;
        line_start = 1;
    }
}

size_t sb_dot_unstuff(const char *data, size_t size, char *out)
{
    size_t at = 0, write = 0;
    while (at < size) {
        if (data[at] == '.')
            at++;
        size_t stop = behind_crlf(data, at, size);
        if (stop == 0)
            stop = size;
        memmove(out + write, data + at, stop - at);
        write += stop - at;
        at = stop;
    }
    return write;
}
