/*
 * frame - where frames end
 *
 * DESCRIPTION
 *   Pure functions over a piece of memory.  The limit of a line counts neither
 *   LF nor one CR before it, and a verdict does not depend on how the bytes
 *   were split: limit bytes and a CR may still become a line, one more cannot.
 */
#include "sockbuf.h"

#include <string.h>

/* Whether size bytes without an LF can no longer become a line. */
static int is_too_long(const char *data, size_t size, size_t limit)
{
    return size > limit && (size - limit > 1 || data[size - 1] != '\r');
}

int sb_lines_find(const char *data, size_t size, size_t scanned, size_t limit, sb_lines *found)
{
    size_t frames = 0, start = 0, returns = 0, from = scanned;
    while (from < size) {
        const char *lf = memchr(data + from, '\n', size - from);
        if (lf == NULL)
            break;
        size_t at = (size_t)(lf - data), length = at - start;
        size_t cr = length > 0 && lf[-1] == '\r';
        if (length - cr > limit)
            break;
        returns += cr;
        frames++;
        from = start = at + 1;
        if (frames == INT32_MAX)
            break;
    }
    if (frames == 0)
        return is_too_long(data, size, limit) ? SB_ERR_TOO_LONG : 0;
    *found = (sb_lines){.frames = frames, .end = start, .returns = returns};
    return (int)frames;
}

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
