/* SPDX-License-Identifier: MIT */
/*
 * frame_counted - frames that say their length first
 *
 * DESCRIPTION
 *   A length is compared with the limit while it is read, digit by digit, so no
 *   sum here can overflow.  Headers are short and looked at anew each time.
 *
 *   netstring    http://cr.yp.to/proto/netstrings.txt; "0:,", never "00:,"
 *   octet count  RFC 6587 3.4.1: MSG-LEN = NONZERO-DIGIT *DIGIT, so "0 " is none
 *   mixed        RFC 6587 3.4.2; the first byte decides
 */
#include "frame.h"

#include <string.h>

/* The header said length, which is within the limit. */
static int declared(size_t header, size_t length, size_t trailer, size_t size, sb_scan *scan, sb_frame *frame)
{
    size_t next = header + length + trailer;
    return size < next ? sb__more(header, next, scan) : sb__found(header, header + length, next, scan, frame);
}

/* A number up to a sign that ends it.  Returns 1, 0 or SB_ERR_*. */
static int decimal(const sb_framing *framing, const char *data, size_t size, char sign, sb_scan *scan, size_t *header,
                   size_t *length)
{
    size_t number = 0;
    if (sign == ' ' && data[0] == '0')
        return sb__malformed(0, scan);
    for (size_t i = 0; i < size; i++) {
        unsigned digit = (unsigned)(unsigned char)data[i] - '0';
        if (data[i] == sign && i > 0) {
            *header = i + 1;
            *length = number;
            return 1;
        }
        if (digit > 9 || (i == 1 && number == 0))
            return sb__malformed(i, scan);
        number = number * 10 + digit;
        if (number > framing->limit)
            return SB_ERR_TOO_LONG;
    }
    return sb__more(size, size + 1, scan);
}

static int netstring_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame)
{
    size_t header = 0, length = 0;
    int code = decimal(framing, data, size, ':', scan, &header, &length);
    if (code <= 0)
        return code;
    if (size > header + length && data[header + length] != ',')
        return sb__malformed(header + length, scan);
    return declared(header, length, 1, size, scan, frame);
}

static int octet_count_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame)
{
    size_t header = 0, length = 0;
    int code = decimal(framing, data, size, ' ', scan, &header, &length);
    return code <= 0 ? code : declared(header, length, 0, size, scan, frame);
}

static uint64_t integer(const char *data, int width, int order)
{
    uint64_t number = 0;
    for (int i = 0; i < width; i++)
        number = number << 8 | (unsigned char)data[order == SB_ORDER_BIG ? i : width - 1 - i];
    return number;
}

static int prefix_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame)
{
    size_t width = (size_t)framing->width;
    if (size < width)
        return sb__more(0, width, scan);
    uint64_t length = integer(data, framing->width, framing->order);
    if (framing->includes_header) {
        if (length < width)
            return sb__malformed(0, scan);
        length -= width;
    }
    if (length > framing->limit)
        return SB_ERR_TOO_LONG;
    return declared(width, (size_t)length, 0, size, scan, frame);
}

static int varint_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame)
{
    uint64_t length = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)data[i];
        if (i == SB_VARINT_MAX - 1 && byte > 0x0f)
            return sb__malformed(i, scan);
        length |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte & 0x80)
            continue;
        return length > framing->limit ? SB_ERR_TOO_LONG : declared(i + 1, (size_t)length, 0, size, scan, frame);
    }
    return sb__more(0, size + 1, scan);
}

int sb__counted_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame)
{
    switch (framing->kind) {
    case SB_FRAMING_NETSTRING:
        return netstring_find(framing, data, size, scan, frame);
    case SB_FRAMING_PREFIX:
        return prefix_find(framing, data, size, scan, frame);
    case SB_FRAMING_VARINT:
        return varint_find(framing, data, size, scan, frame);
    case SB_FRAMING_FIXED:
        return declared(0, framing->limit, 0, size, scan, frame);
    case SB_FRAMING_OCTET_MIXED:
        if (data[0] < '0' || data[0] > '9')
            return sb__line_find(framing, data, size, scan, frame);
        return octet_count_find(framing, data, size, scan, frame);
    default:
        return octet_count_find(framing, data, size, scan, frame);
    }
}
