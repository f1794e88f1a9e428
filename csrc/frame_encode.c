/* SPDX-License-Identifier: MIT */
/*
 * frame_encode - a payload made into a frame
 *
 * DESCRIPTION
 *   What would not come back from the finder as it went in is refused before
 *   the first byte of it is written.
 */
#include "frame.h"

#include <string.h>

static void put_tail(sb__wrap *wrap, const char *tail, size_t size)
{
    memcpy(wrap->tail, tail, size);
    wrap->tail_size = size;
}

static void put_decimal(sb__wrap *wrap, size_t number, char sign)
{
    size_t at = SB_HEADER_MAX;
    wrap->head[--at] = sign;
    do {
        wrap->head[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    wrap->head_size = SB_HEADER_MAX - at;
    memmove(wrap->head, wrap->head + at, wrap->head_size);
}

static void put_integer(sb__wrap *wrap, const sb_framing *framing, uint64_t number)
{
    int width = framing->width;
    for (int i = 0; i < width; i++) {
        wrap->head[framing->order == SB_ORDER_BIG ? width - 1 - i : i] = (char)(number & 0xff);
        number >>= 8;
    }
    wrap->head_size = (size_t)width;
}

static void put_varint(sb__wrap *wrap, uint64_t number)
{
    while (number > 0x7f) {
        wrap->head[wrap->head_size++] = (char)(0x80 | (number & 0x7f));
        number >>= 7;
    }
    wrap->head[wrap->head_size++] = (char)number;
}

static int line_wrap(const char *payload, size_t n, sb__wrap *wrap)
{
    if (n > 0 && (payload[n - 1] == '\r' || memchr(payload, '\n', n) != NULL))
        return SB_ERR_MALFORMED;
    put_tail(wrap, "\n", 1);
    return 0;
}

static int crlf_wrap(const char *payload, size_t n, sb__wrap *wrap)
{
    if (n > 0 && (memchr(payload, '\r', n) != NULL || memchr(payload, '\n', n) != NULL))
        return SB_ERR_MALFORMED;
    put_tail(wrap, "\r\n", 2);
    return 0;
}

/* The first occurrence of the delimiter has to be the one behind the payload:
 * with "aa" for one, a payload must not end in "a". */
static int delimiter_wrap(const sb_framing *framing, const char *payload, size_t n, sb__wrap *wrap)
{
    char joint[2 * SB_DELIMITER_MAX];
    size_t width = (size_t)framing->width, last = n < width - 1 ? n : width - 1;
    if (n > 0) {
        memcpy(joint, payload + n - last, last);
        memcpy(joint + last, framing->delimiter, width);
        if (sb__delimiter_at(payload, 0, n, framing->delimiter, width) < n
            || sb__delimiter_at(joint, 0, last + width, framing->delimiter, width) < last)
            return SB_ERR_MALFORMED;
    }
    put_tail(wrap, framing->delimiter, width);
    return 0;
}

static int dot_wrap(const sb_framing *framing, const char *payload, size_t n, sb__wrap *wrap)
{
    int ended = n == 0 || (n > 1 && payload[n - 1] == '\n' && payload[n - 2] == '\r');
    if (!ended && framing->limit - n < 2)
        return SB_ERR_TOO_LONG;
    put_tail(wrap, ended ? ".\r\n" : "\r\n.\r\n", ended ? 3 : 5);
    for (size_t i = 0; i < n; i++)
        wrap->dots += payload[i] == '.' && (i == 0 || (i > 1 && payload[i - 1] == '\n' && payload[i - 2] == '\r'));
    return 0;
}

static int blank_wrap(const sb_framing *framing, const char *payload, size_t n, sb__wrap *wrap)
{
    int ended = n == 0 || payload[n - 1] == '\n';
    if (!ended && framing->limit == n)
        return SB_ERR_TOO_LONG;
    for (size_t at = 0; at < n; at++) {
        size_t cr = payload[at] == '\r';
        if (at + cr == n || payload[at + cr] == '\n')
            return SB_ERR_MALFORMED; /* an empty line, perhaps by the LF that is added */
        const char *lf = memchr(payload + at, '\n', n - at);
        if (lf == NULL)
            break;
        at = (size_t)(lf - payload);
    }
    put_tail(wrap, "\n\n", ended ? 1 : 2);
    return 0;
}

int sb__frame_wrap(const sb_framing *framing, const char *payload, size_t n, sb__wrap *wrap)
{
    wrap->head_size = wrap->tail_size = wrap->dots = 0;
    if (!sb__is_framing(framing))
        return SB_ERR_INVALID;
    if (n > framing->limit && framing->kind != SB_FRAMING_RAW)
        return SB_ERR_TOO_LONG;
    switch (framing->kind) {
    case SB_FRAMING_LINE:
        return line_wrap(payload, n, wrap);
    case SB_FRAMING_CRLF:
        return crlf_wrap(payload, n, wrap);
    case SB_FRAMING_DELIMITER:
        return delimiter_wrap(framing, payload, n, wrap);
    case SB_FRAMING_DOT_BLOCK:
        return dot_wrap(framing, payload, n, wrap);
    case SB_FRAMING_BLANK_LINE:
        return blank_wrap(framing, payload, n, wrap);
    case SB_FRAMING_NETSTRING:
        put_decimal(wrap, n, ':');
        put_tail(wrap, ",", 1);
        return 0;
    case SB_FRAMING_OCTET_MIXED:
        if (n == 0)
            put_tail(wrap, "\n", 1);
        else
            put_decimal(wrap, n, ' ');
        return 0;
    case SB_FRAMING_OCTET_COUNT:
        put_decimal(wrap, n, ' ');
        return n == 0 ? SB_ERR_MALFORMED : 0;
    case SB_FRAMING_PREFIX:
        put_integer(wrap, framing, (uint64_t)n + (framing->includes_header ? (uint64_t)framing->width : 0));
        return 0;
    case SB_FRAMING_VARINT:
        put_varint(wrap, n);
        return 0;
    case SB_FRAMING_FIXED:
        return n < framing->limit ? SB_ERR_MALFORMED : 0;
    default:
        return 0;
    }
}

static char *stuff(char *room, const char *payload, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (payload[i] == '.' && (i == 0 || (i > 1 && payload[i - 1] == '\n' && payload[i - 2] == '\r')))
            *room++ = '.';
        *room++ = payload[i];
    }
    return room;
}

char *sb__frame_write(const sb__wrap *wrap, const char *payload, size_t n, char *room)
{
    memcpy(room, wrap->head, wrap->head_size);
    room += wrap->head_size;
    if (wrap->dots > 0) {
        room = stuff(room, payload, n);
    } else if (n > 0) {
        memcpy(room, payload, n);
        room += n;
    }
    memcpy(room, wrap->tail, wrap->tail_size);
    return room + wrap->tail_size;
}

int sb_frame_encode(const sb_framing *framing, const char *payload, size_t n, sb_buffer *out)
{
    sb__wrap wrap;
    char *room;
    int code = sb__frame_wrap(framing, payload, n, &wrap);
    if (code < 0)
        return code;
    size_t total = wrap.head_size + n + wrap.dots + wrap.tail_size;
    if (total == 0)
        return 0;
    code = sb_buffer_reserve(out, total, &room);
    if (code < 0)
        return code;
    sb__frame_write(&wrap, payload, n, room);
    sb_buffer_commit(out, total);
    return 0;
}
