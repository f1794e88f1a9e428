/* SPDX-License-Identifier: MIT */
/*
 * frame_delimited - frames that end with a delimiter
 *
 * DESCRIPTION
 *   The limit does not count the delimiter, and the bytes after the limit may be
 *   its first: limit bytes and a CR may still become a line, one more cannot.
 */
#include "frame.h"

#include <string.h>

int sb__line_too_long(const char *data, size_t size, size_t limit)
{
    return size > limit && (size - limit > 1 || data[size - 1] != '\r');
}

int sb__line_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame)
{
    size_t limit = framing->limit, window = size < limit + 2 ? size : limit + 2;
    size_t from = scan->searched; /* past the window, when a batch left a rest that is too long */
    const char *lf = from < window ? memchr(data + from, '\n', window - from) : NULL;
    if (lf == NULL)
        return sb__line_too_long(data, size, limit) ? SB_ERR_TOO_LONG : sb__more(size, size + 1, scan);
    size_t at = (size_t)(lf - data);
    size_t end = at > 0 && data[at - 1] == '\r' ? at - 1 : at;
    return end > limit ? SB_ERR_TOO_LONG : sb__found(0, end, at + 1, scan, frame);
}

size_t sb__delimiter_at(const char *data, size_t from, size_t size, const char *delimiter, size_t width)
{
    while (from < size) {
        const char *first = memchr(data + from, delimiter[0], size - from);
        if (first == NULL)
            return size;
        from = (size_t)(first - data);
        if (size - from < width)
            return size;
        if (memcmp(first, delimiter, width) == 0)
            return from;
        from++;
    }
    return size;
}

/* Whether a delimiter that is not whole yet may begin at an offset up to limit. */
static int may_begin(const char *data, size_t size, const sb_framing *framing)
{
    size_t width = (size_t)framing->width;
    for (size_t at = size < width ? 0 : size - width + 1; at <= framing->limit; at++)
        if (memcmp(data + at, framing->delimiter, size - at) == 0)
            return 1;
    return 0;
}

int sb__delimiter_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame)
{
    size_t width = (size_t)framing->width, limit = framing->limit;
    size_t window = size < limit + width ? size : limit + width;
    size_t at = sb__delimiter_at(data, scan->searched, window, framing->delimiter, width);
    if (at < window)
        return sb__found(0, at, at + width, scan, frame);
    if (size > limit && (window < size || !may_begin(data, size, framing)))
        return SB_ERR_TOO_LONG;
    return sb__more(size < width ? 0 : size - width + 1, size + 1, scan);
}

int sb__crlf_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame)
{
    size_t from = scan->searched, limit = framing->limit;
    size_t window = size < limit + 2 ? size : limit + 2;
    const char *lf = memchr(data + from, '\n', window - from);
    size_t stop = lf == NULL ? window : (size_t)(lf - data);
    const char *cr = memchr(data + from, '\r', stop - from);
    size_t at = cr == NULL ? stop : (size_t)(cr - data); /* of the first CR or LF */
    if (at > limit)
        return SB_ERR_TOO_LONG;
    if (at == size)
        return sb__more(size, size + 1, scan);
    if (data[at] == '\n')
        return sb__malformed(at, scan);
    if (at + 1 == size)
        return sb__more(at, size + 1, scan);
    return data[at + 1] == '\n' ? sb__found(0, at, at + 2, scan, frame) : sb__malformed(at, scan);
}
