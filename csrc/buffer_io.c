/* SPDX-License-Identifier: MIT */
/*
 * buffer_io - a buffer filled and emptied in one call each
 *
 * DESCRIPTION
 *   For whoever has one descriptor and one loop; what has thousands receives into
 *   memory that they share (mux_receive.c).
 */
#include "buffer.h"

#include <stdarg.h>
#include <stdio.h>

long sb_buffer_receive(sb_buffer *buffer, int fd, size_t max)
{
    char *room;
    size_t left = sb__buffer_left(buffer), want = max < left ? max : left;
    if (buffer != NULL && max > 0 && left == 0)
        return SB_ERR_LIMIT;
    int code = sb_buffer_reserve(buffer, want, &room);
    if (code < 0)
        return code;
    long n = sb_receive(fd, room, want);
    if (n > 0)
        sb_buffer_commit(buffer, (size_t)n);
    return n;
}

int sb_buffer_next(sb_buffer *buffer, const sb_framing *framing, sb_scan *scan, sb_piece *payload)
{
    sb_frame frame;
    if (buffer == NULL || payload == NULL)
        return SB_ERR_INVALID;
    char *data = sb__buffer_data(buffer);
    int code = sb_frame_find(framing, data, sb_buffer_size(buffer), scan, &frame);
    if (code <= 0)
        return code;
    *payload = (sb_piece){.data = data + frame.start, .size = frame.end - frame.start};
    if (framing->kind == SB_FRAMING_DOT_BLOCK)
        payload->size = sb_dot_unstuff(payload->data, payload->size, data + frame.start);
    sb_buffer_consume(buffer, frame.next); /* no byte of it moves before there must be room */
    return code;
}

int sb_buffer_printf(sb_buffer *buffer, const char *format, ...)
{
    char *room;
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (size < 0)
        return SB_ERR_INVALID;
    int code = sb_buffer_reserve(buffer, (size_t)size + 1, &room); /* and for its NUL */
    if (code < 0)
        return code;
    va_start(arguments, format);
    (void)vsnprintf(room, (size_t)size + 1, format, arguments);
    va_end(arguments);
    sb_buffer_commit(buffer, (size_t)size);
    return 0;
}
