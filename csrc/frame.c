/* SPDX-License-Identifier: MIT */
/*
 * frame - where frames are
 *
 * DESCRIPTION
 *   Pure functions over a piece of memory.  A finder looks at the bytes in their
 *   order, and the first byte that decides anything decides it for good: so the
 *   answer does not depend on how the bytes were split, and sb_scan only saves
 *   looking at them again.
 */
#include "frame.h"

#include <limits.h>
#include <string.h>

int sb__found(size_t start, size_t end, size_t next, sb_scan *scan, sb_frame *frame)
{
    *frame = (sb_frame){.start = start, .end = end, .next = next, .dots = scan->dots};
    scan->searched = scan->dots = scan->need = 0; /* it knows nothing, by whichever framing */
    return 1;
}

int sb__more(size_t searched, size_t need, sb_scan *scan)
{
    scan->searched = searched;
    scan->need = need;
    return 0;
}

int sb__malformed(size_t at, sb_scan *scan)
{
    scan->searched = at;
    return SB_ERR_MALFORMED;
}

static int raw_find(const sb_framing *framing, size_t size, sb_scan *scan, sb_frame *frame)
{
    size_t n = size < framing->limit ? size : framing->limit;
    return sb__found(0, n, n, scan, frame);
}

static int datagram_find(const sb_framing *framing, size_t size, sb_scan *scan, sb_frame *frame)
{
    return size > framing->limit ? SB_ERR_TOO_LONG : sb__found(0, size, size, scan, frame);
}

int sb__frame_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame)
{
    if (framing->kind == SB_FRAMING_DATAGRAM)
        return datagram_find(framing, size, scan, frame);
    if (size == 0)
        return sb__more(0, 1, scan);
    switch (framing->kind) {
    case SB_FRAMING_RAW:
        return raw_find(framing, size, scan, frame);
    case SB_FRAMING_LINE:
        return sb__line_find(framing, data, size, scan, frame);
    case SB_FRAMING_CRLF:
        return sb__crlf_find(framing, data, size, scan, frame);
    case SB_FRAMING_DELIMITER:
        return sb__delimiter_find(framing, data, size, scan, frame);
    case SB_FRAMING_DOT_BLOCK:
        return sb__dot_find(framing, data, size, scan, frame);
    case SB_FRAMING_BLANK_LINE:
        return sb__blank_find(framing, data, size, scan, frame);
    default:
        return sb__counted_find(framing, data, size, scan, frame);
    }
}

/* ---- scans: the state of a frame, for one framing and these bytes alone */

/* Never 0, as in a scan that knows nothing. */
static int32_t kind_of(const sb_framing *framing)
{
    return framing->kind + 1 + (framing->kind == SB_FRAMING_DELIMITER ? framing->width * 256 : 0);
}

static int is_about(const sb_scan *scan, const sb_framing *framing)
{
    return scan->kind == kind_of(framing)
        && memcmp(scan->delimiter, framing->delimiter, sizeof scan->delimiter) == 0;
}

/* What was found out by another framing, or about more bytes, is forgotten. */
static int begin_scan(sb_scan *scan, const sb_framing *framing, size_t size)
{
    if (!sb__is_framing(framing) || scan == NULL || scan->discarding)
        return SB_ERR_INVALID;
    if (!is_about(scan, framing) || scan->searched > size)
        *scan = (sb_scan){.searched = 0};
    return 0;
}

static int end_scan(sb_scan *scan, const sb_framing *framing, int code)
{
    scan->kind = kind_of(framing);
    memcpy(scan->delimiter, framing->delimiter, sizeof scan->delimiter);
    return code;
}

int sb_frame_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame)
{
    int code = begin_scan(scan, framing, size);
    if (code < 0)
        return code;
    code = sb__frame_find(framing, data, size, scan, frame);
    return code > 0 ? code : end_scan(scan, framing, code);
}

/* Frames of any kind, one call of the finder for each. */
static int any_batch(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_span *spans,
                     size_t max, size_t *next)
{
    size_t n = 0, at = 0;
    int code = 0;
    while (n < max && (at < size || n == 0)) {
        sb_frame frame;
        code = sb__frame_find(framing, data + at, size - at, scan, &frame);
        if (code <= 0)
            break;
        spans[n++] = (sb_span){.start = at + frame.start, .end = at + frame.end};
        at += frame.next;
    }
    if (n == 0)
        return code;
    *next = at;
    return (int)n;
}

int sb_frames_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_span *spans,
                   size_t max, size_t *next)
{
    int code = begin_scan(scan, framing, size);
    if (code < 0 || max == 0)
        return SB_ERR_INVALID;
    if (max > INT_MAX)
        max = INT_MAX;
    if (framing->kind == SB_FRAMING_LINE || (framing->kind == SB_FRAMING_DELIMITER && framing->width == 1))
        code = sb__bytes_batch(framing, data, size, scan, spans, max, next);
    else
        code = any_batch(framing, data, size, scan, spans, max, next);
    return end_scan(scan, framing, code);
}

int sb_frame_end(const sb_framing *framing, size_t size, const sb_scan *scan)
{
    (void)framing;
    return size > 0 || (scan != NULL && scan->discarding) ? SB_ERR_TRUNCATED : 0;
}

/* ---- leaving out a frame: its delimiter alone matters */

static int dropped(size_t n, sb_scan *scan, size_t *drop)
{
    *scan = (sb_scan){.searched = 0};
    *drop = n;
    return 1;
}

/* Without the last bytes that may be the delimiter's first. */
static int drop_but(size_t size, size_t kept, size_t *drop)
{
    *drop = size > kept ? size - kept : 0;
    return 0;
}

static int discard_to(const char *data, size_t size, const char *delimiter, size_t width, sb_scan *scan, size_t *drop)
{
    size_t at = sb__delimiter_at(data, 0, size, delimiter, width);
    return at < size ? dropped(at + width, scan, drop) : drop_but(size, width - 1, drop);
}

/* An LF, then the empty line. */
static int discard_to_blank(const char *data, size_t size, sb_scan *scan, size_t *drop)
{
    for (size_t at = 0; at < size; at++) {
        const char *lf = memchr(data + at, '\n', size - at);
        if (lf == NULL)
            break;
        at = (size_t)(lf - data);
        size_t end = at + 1 < size && data[at + 1] == '\r' ? at + 2 : at + 1;
        if (end == size)
            return drop_but(size, size - at, drop);
        if (data[end] == '\n')
            return dropped(end + 1, scan, drop);
    }
    return drop_but(size, 0, drop);
}

int sb_frame_discard(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, size_t *drop)
{
    if (!sb__is_framing(framing) || scan == NULL)
        return SB_ERR_INVALID;
    int kind = framing->kind;
    if (kind == SB_FRAMING_OCTET_MIXED && !scan->discarding && (size == 0 || (data[0] >= '0' && data[0] <= '9')))
        return SB_ERR_INVALID;
    if (!(kind == SB_FRAMING_LINE || kind == SB_FRAMING_CRLF || kind == SB_FRAMING_DELIMITER
          || kind == SB_FRAMING_OCTET_MIXED || kind == SB_FRAMING_DOT_BLOCK || kind == SB_FRAMING_BLANK_LINE))
        return SB_ERR_INVALID;
    scan->discarding = 1;
    scan->searched = scan->dots = scan->need = 0;
    if (kind == SB_FRAMING_DOT_BLOCK)
        return discard_to(data, size, "\r\n.\r\n", 5, scan, drop);
    if (kind == SB_FRAMING_BLANK_LINE)
        return discard_to_blank(data, size, scan, drop);
    if (kind == SB_FRAMING_CRLF || kind == SB_FRAMING_DELIMITER)
        return discard_to(data, size, framing->delimiter, (size_t)framing->width, scan, drop);
    return discard_to(data, size, "\n", 1, scan, drop);
}
