/* SPDX-License-Identifier: MIT */
/*
 * framing - how a stream is cut, as a value
 *
 * DESCRIPTION
 *   What is wrong with a framing is found when it is made, or where it comes in,
 *   so that the finders need not ask: limits leave room for header and delimiter
 *   in a size_t, and a decimal number up to the limit can take one digit more
 *   without overflow.
 */
#include "frame.h"

#include <string.h>

#define LIMIT_MAX (SIZE_MAX / 16)

size_t sb_framing_limit_max(void)
{
    return LIMIT_MAX;
}

static int make(int kind, size_t limit, sb_framing *framing)
{
    if (limit > LIMIT_MAX)
        return SB_ERR_INVALID;
    *framing = (sb_framing){.kind = kind, .limit = limit};
    return 0;
}

int sb_framing_raw(size_t limit, sb_framing *framing)
{
    return limit == 0 ? SB_ERR_INVALID : make(SB_FRAMING_RAW, limit, framing);
}

int sb_framing_datagram(size_t limit, sb_framing *framing)
{
    return make(SB_FRAMING_DATAGRAM, limit, framing);
}

int sb_framing_line(size_t limit, sb_framing *framing)
{
    return make(SB_FRAMING_LINE, limit, framing);
}

int sb_framing_delimiter(const char *delimiter, size_t n, size_t limit, sb_framing *framing)
{
    if (n < 1 || n > SB_DELIMITER_MAX || make(SB_FRAMING_DELIMITER, limit, framing) < 0)
        return SB_ERR_INVALID;
    framing->width = (int32_t)n;
    memcpy(framing->delimiter, delimiter, n);
    return 0;
}

int sb_framing_crlf(size_t limit, sb_framing *framing)
{
    int code = sb_framing_delimiter("\r\n", 2, limit, framing);
    if (code == 0)
        framing->kind = SB_FRAMING_CRLF;
    return code;
}

int sb_framing_nul(size_t limit, sb_framing *framing)
{
    return sb_framing_delimiter("", 1, limit, framing);
}

int sb_framing_netstring(size_t limit, sb_framing *framing)
{
    return make(SB_FRAMING_NETSTRING, limit, framing);
}

/* The longest payload of which a prefix can tell, if that is less than limit. */
static size_t expressible(int width, size_t own, size_t limit)
{
    if ((size_t)width >= sizeof(size_t))
        return limit;
    size_t max = ((size_t)1 << (8 * width)) - 1 - own;
    return limit < max ? limit : max;
}

static int is_width(int32_t width)
{
    return width == 1 || width == 2 || width == 3 || width == 4 || width == 8;
}

static int is_order(int32_t order)
{
    return order == SB_ORDER_BIG || order == SB_ORDER_LITTLE;
}

int sb__is_framing(const sb_framing *framing)
{
    if (framing == NULL)
        return 0;
    int kind = framing->kind;
    if (framing->limit > LIMIT_MAX || kind < SB_FRAMING_RAW || kind > SB_FRAMING_DATAGRAM)
        return 0;
    switch (kind) {
    case SB_FRAMING_RAW:
    case SB_FRAMING_FIXED:
        return framing->limit > 0;
    case SB_FRAMING_CRLF:
        return framing->width == 2;
    case SB_FRAMING_DELIMITER:
        return framing->width >= 1 && framing->width <= SB_DELIMITER_MAX;
    case SB_FRAMING_PREFIX:
        return is_width(framing->width) && is_order(framing->order);
    default:
        return 1;
    }
}

int sb_framing_prefix(int width, int order, int includes_header, size_t limit, sb_framing *framing)
{
    if (!is_width(width) || !is_order(order) || make(SB_FRAMING_PREFIX, limit, framing) < 0)
        return SB_ERR_INVALID;
    framing->width = width;
    framing->order = order;
    framing->includes_header = includes_header != 0;
    framing->limit = expressible(width, includes_header ? (size_t)width : 0, limit);
    return 0;
}

int sb_framing_varint(size_t limit, sb_framing *framing)
{
    int code = make(SB_FRAMING_VARINT, limit, framing);
    if (code == 0)
        framing->limit = expressible(4, 0, limit);
    return code;
}

int sb_framing_octet_count(int mixed, size_t limit, sb_framing *framing)
{
    return make(mixed ? SB_FRAMING_OCTET_MIXED : SB_FRAMING_OCTET_COUNT, limit, framing);
}

int sb_framing_fixed(size_t size, sb_framing *framing)
{
    return size == 0 ? SB_ERR_INVALID : make(SB_FRAMING_FIXED, size, framing);
}

int sb_framing_dot_block(size_t limit, sb_framing *framing)
{
    return make(SB_FRAMING_DOT_BLOCK, limit, framing);
}

int sb_framing_blank_line(size_t limit, sb_framing *framing)
{
    return make(SB_FRAMING_BLANK_LINE, limit, framing);
}

static size_t digits(size_t number)
{
    size_t n = 1;
    while (number >= 10) {
        number /= 10;
        n++;
    }
    return n;
}

size_t sb_framing_room(const sb_framing *framing)
{
    if (!sb__is_framing(framing))
        return 0;
    size_t limit = framing->limit;
    switch (framing->kind) {
    case SB_FRAMING_LINE:
        return limit + 2;
    case SB_FRAMING_BLANK_LINE:
        return limit + 3; /* LF CR LF, of which only the last two count, unless it is being left out */
    case SB_FRAMING_CRLF:
    case SB_FRAMING_DELIMITER:
    case SB_FRAMING_PREFIX:
        return limit + (size_t)framing->width;
    case SB_FRAMING_NETSTRING:
        return limit + digits(limit) + 2;
    case SB_FRAMING_OCTET_COUNT:
    case SB_FRAMING_OCTET_MIXED:
        return limit + digits(limit) + 1;
    case SB_FRAMING_VARINT:
        return limit + SB_VARINT_MAX;
    case SB_FRAMING_DOT_BLOCK:
        return limit + limit / 3 + 1 + 5; /* "..CRLF" is the most stuffing: one dot for three bytes */
    default:
        return limit;
    }
}
