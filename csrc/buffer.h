/* SPDX-License-Identifier: MIT */
/*
 * buffer.h - what the library knows of a buffer beside its face; not installed
 */
#ifndef SOCKBUF_BUFFER_H
#define SOCKBUF_BUFFER_H

#include "sockbuf.h"

enum { SB_SMALLEST = 64 }; /* bytes of a buffer */

/* As sb_buffer_reserve; the buffer owns no more than max bytes (which are no
 * fewer than it owns now) in place of its limit. */
int sb__buffer_reserve(sb_buffer *buffer, size_t want, size_t max, char **room);
size_t sb__buffer_room(const sb_buffer *buffer); /* behind the data */
size_t sb__buffer_left(const sb_buffer *buffer); /* what its limit allows beside the data */
char *sb__buffer_data(sb_buffer *buffer);        /* to be written to */
void sb__buffer_shrink(sb_buffer *buffer);       /* to what the data need, when that pays */

/* How many of the data's first bytes are known to hold no delimiter; all at most. */
size_t sb__buffer_scanned(const sb_buffer *buffer);
void sb__buffer_set_scanned(sb_buffer *buffer, size_t scanned);

#endif
