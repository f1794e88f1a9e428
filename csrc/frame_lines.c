/* SPDX-License-Identifier: MIT */
/*
 * frame_lines - whole blocks of lines, and frames ended by one byte
 *
 * DESCRIPTION
 *   Here newlines are not searched one by one: sb__ends says where those of the
 *   next 2 KiB are, and what is left to do is arithmetic.
 */
#include "frame.h"

#include <limits.h>
#include <string.h>

int sb__lines_find(const char *data, size_t size, size_t scanned, size_t limit, sb_lines *found, size_t enough)
{
    uint32_t ends[SB_ENDS];
    sb_lines lines = {.frames = 0};
    int is_too_long = 0;
    size_t looked;
    for (size_t base = scanned; base < size && !is_too_long && lines.frames < enough; base += looked) {
        size_t n = sb__ends(data + base, size - base, '\n', ends, &looked);
        for (size_t i = 0; i < n; i++) {
            size_t at = base + ends[i];
            size_t cr = at > lines.end && data[at - 1] == '\r';
            if (at - lines.end - cr > limit) {
                is_too_long = 1;
                break;
            }
            lines.frames++;
            lines.returns += cr;
            lines.end = at + 1;
        }
    }
    if (lines.frames == 0)
        return is_too_long || sb__line_too_long(data, size, limit) ? SB_ERR_TOO_LONG : 0;
    *found = lines;
    return (int)lines.frames;
}

void sb__lines_first(const char *data, size_t max, sb_lines *found)
{
    uint32_t ends[SB_ENDS];
    sb_lines lines = {.frames = 0};
    size_t looked;
    for (size_t base = 0; base < found->end && lines.frames < max; base += looked) {
        size_t n = sb__ends(data + base, found->end - base, '\n', ends, &looked);
        for (size_t i = 0; i < n && lines.frames < max; i++) {
            size_t at = base + ends[i];
            lines.returns += at > lines.end && data[at - 1] == '\r';
            lines.frames++;
            lines.end = at + 1;
        }
    }
    *found = lines;
}

int sb_lines_find(const char *data, size_t size, size_t scanned, size_t limit, sb_lines *found)
{
    return sb__lines_find(data, size, scanned, limit, found, INT_MAX - SB_STRIDE);
}

int sb__bytes_batch(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_span *spans,
                    size_t max, size_t *next)
{
    uint32_t ends[SB_ENDS];
    int is_line = framing->kind == SB_FRAMING_LINE, is_stopped = 0;
    char ender = is_line ? '\n' : framing->delimiter[0];
    size_t count = 0, start = 0, looked;
    for (size_t base = scan->searched; base < size && !is_stopped; base += looked) {
        size_t n = sb__ends(data + base, size - base, ender, ends, &looked);
        for (size_t i = 0; i < n; i++) {
            size_t at = base + ends[i];
            size_t end = at - (is_line && at > start && data[at - 1] == '\r');
            if (end - start > framing->limit || count == max) {
                is_stopped = 1;
                break;
            }
            spans[count++] = (sb_span){.start = start, .end = end};
            start = at + 1;
        }
    }
    if (count == 0) {
        sb_frame none; /* the finder of one frame reports errors of the first frame */
        return sb__frame_find(framing, data, size, scan, &none);
    }
    *scan = (sb_scan){.searched = is_stopped ? 0 : size - start};
    *next = start;
    return (int)count;
}

/* ---- lines changed in place */

size_t sb__lines_strip(char *data, size_t size)
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
