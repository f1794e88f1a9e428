/* SPDX-License-Identifier: MIT */
/*
 * frame.h - what the parts of the frame finder know of each other; not installed
 *
 *   framing.c          descriptions of framings, checked when they are made
 *   frame.c            the finder: one frame, many frames, a frame left out
 *   frame_delimited.c  line, CR LF, delimiter
 *   frame_counted.c    netstring, prefix, varint, octet count, fixed size
 *   frame_block.c      dot-stuffed block, blank-line block
 *   frame_encode.c     the way back
 *   frame_lines.c      whole blocks of lines, for the mux
 *   newline.c          where a byte is, 64 at a time
 */
#ifndef SOCKBUF_FRAME_H
#define SOCKBUF_FRAME_H

#include "sockbuf.h"

enum {
    SB_VARINT_MAX = 5,   /* bytes of a length of 32 bits */
    SB_HEADER_MAX = 24,  /* 20 digits and one sign are the longest header */
    SB_BLOCK = 64,       /* bytes compared at once */
    SB_STRIDE = 2048,    /* bytes looked at in one call: their ends fit on the stack */
    SB_ENDS = SB_STRIDE + 8
};

/* Whether it is as the sb_framing_* functions make them. */
int sb__is_framing(const sb_framing *framing);

/* As sb_frame_find, of a framing that is one, with a scan of its own. */
int sb__frame_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame);

/* Frames that one kind of finder knows.  As sb_frame_find, size > 0. */
int sb__line_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame);
int sb__crlf_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame);
int sb__delimiter_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame);
int sb__counted_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame);
int sb__dot_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame);
int sb__blank_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_frame *frame);

/* How such a finder ends: with a frame, without one, with a byte that cannot be. */
int sb__found(size_t start, size_t end, size_t next, sb_scan *scan, sb_frame *frame);
int sb__more(size_t searched, size_t need, sb_scan *scan);
int sb__malformed(size_t at, sb_scan *scan);

/* Whether size bytes without an LF can no longer become a line. */
int sb__line_too_long(const char *data, size_t size, size_t limit);

/* First occurrence of a delimiter from an offset on, or size. */
size_t sb__delimiter_at(const char *data, size_t from, size_t size, const char *delimiter, size_t width);

/* What goes around a payload, and the dots that go into it. */
typedef struct sb__wrap {
    char head[SB_HEADER_MAX];
    char tail[SB_DELIMITER_MAX];
    size_t head_size, tail_size, dots;
} sb__wrap;

/* The wrap of a payload.  Returns 0, or what sb_frame_encode returns for one that cannot be a frame. */
int sb__frame_wrap(const sb_framing *framing, const char *payload, size_t n, sb__wrap *wrap);

/* Write the frame to room, which has head_size + n + dots + tail_size bytes.  Returns the end of it. */
char *sb__frame_write(const sb__wrap *wrap, const char *payload, size_t n, char *room);

/* As sb_lines_find; once there are enough lines it looks no further than the
 * SB_STRIDE bytes it is at, so that their number fits in an int. */
int sb__lines_find(const char *data, size_t size, size_t scanned, size_t limit, sb_lines *found, size_t enough);

/* The first max of the lines in found->end bytes, or all of them where they are fewer. */
void sb__lines_first(const char *data, size_t max, sb_lines *found);

/* Take the CR out of every CR LF, in place.  Returns the new size. */
size_t sb__lines_strip(char *data, size_t size);

/* Lines, or frames ended by one other byte: as sb_frames_find. */
int sb__bytes_batch(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_span *spans,
                    size_t max, size_t *next);

/* Offsets of a byte in the first SB_STRIDE bytes of data (or all of fewer), in
 * rising order; ends has SB_ENDS elements.  Returns how many; *looked is how
 * many bytes these were. */
size_t sb__ends(const char *data, size_t size, char needle, uint32_t *ends, size_t *looked);

/* The same by a way of the processor's: 0 the portable one, up to sb__widest(). */
size_t sb__ends_by(int way, const char *data, size_t size, char needle, uint32_t *ends, size_t *looked);
int sb__widest(void);

#endif
