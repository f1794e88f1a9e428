/* SPDX-License-Identifier: MIT */
/*
 * sockbuf - bounded buffers, frames, and one descriptor
 *
 *     sb_buffer   a bounded byte buffer with three cursors
 *     sb_framing  how a stream is cut: lines, netstrings, length prefixes, ...
 *     sb_frame_*  where the frames of a piece of memory are, and the way back
 *     sb_receive, sb_send   one descriptor, errno sorted into classes
 *
 *   sockmux.h: many connections at once; sockrelay.h: pairs of sockets.  Spans
 *   are offsets.  A pointer handed out is valid until the next call that changes
 *   its buffer.  An object belongs to one thread at a time.  The library writes no
 *   log, raises no SIGPIPE, changes no signal and has no global state.
 *
 *   Returns > 0 found, 0 need more (or: done), < 0 one of SB_ERR_*.  Outputs are
 *   untouched on failure.  A pointer to memory of the caller's is taken at its word.
 */
#ifndef SOCKBUF_H
#define SOCKBUF_H

#include <stddef.h>
#include <stdint.h>

#define SB_VERSION_MAJOR 0
#define SB_VERSION_MINOR 1
#define SB_VERSION_PATCH 0

#if defined(__GNUC__)
#define SB_MUST_CHECK __attribute__((warn_unused_result))
#define SB_LIKE_PRINTF __attribute__((format(printf, 2, 3), warn_unused_result))
#else
#define SB_MUST_CHECK
#define SB_LIKE_PRINTF
#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifdef SB_SHARED /* these are what the shared library exports */
#pragma GCC visibility push(default)
#endif

/* <cffi> from here to </cffi> the Python extension reads these declarations */

#define SB_ERR_NOMEM (-1)       /* memory could not be had; nothing was changed */
#define SB_ERR_LIMIT (-2)       /* more than the limit given at construction */
#define SB_ERR_TOO_LONG (-3)    /* a frame longer than its limit */
#define SB_ERR_AGAIN (-4)       /* the descriptor is not ready: EAGAIN, EINTR */
#define SB_ERR_END (-5)         /* end of file */
#define SB_ERR_RESET (-6)       /* ECONNRESET, EPIPE and kin: the peer is gone */
#define SB_ERR_UNREACHABLE (-7) /* ETIMEDOUT, EHOSTUNREACH and kin: the way is gone */
#define SB_ERR_FAULT (-8)       /* any other errno */
#define SB_ERR_MISMATCH (-9)    /* a reply block is not one line for each frame */
#define SB_ERR_FULL (-10)       /* every row of a table is in use */
#define SB_ERR_MALFORMED (-11)  /* bytes that are no frame, or a payload that cannot be one */
#define SB_ERR_INVALID (-12)    /* arguments that make no sense; the caller's mistake */
#define SB_ERR_TRUNCATED (-13)  /* the stream ended within a frame */
#define SB_ERR_GONE (-14)       /* no such connection, group or pair, or not any more */
#define SB_ERR_CLOSING (-15)    /* the connection is being closed, or our end of it was */

/* What a code says, as "end of file"; never NULL. */
const char *sb_error_text(int code);


/*
 * ---- buffer: data between read and write, scanned up to a cursor between them
 *
 *      0 <= read <= scanned <= write <= size <= limit
 */
typedef struct sb_buffer sb_buffer;

/* Make an empty buffer that never holds more than limit bytes.  It allocates
 * nothing for data until the first reserve.  NULL when out of memory. */
sb_buffer *sb_buffer_new(size_t limit);

/* Free it and its data; NULL is allowed. */
void sb_buffer_free(sb_buffer *buffer);

/* Make room for want more bytes after the data, and say where it is (never NULL).
 * May move the data: pointers from sb_buffer_data end here.
 * Returns 0, SB_ERR_LIMIT (data + want > limit) or SB_ERR_NOMEM. */
int sb_buffer_reserve(sb_buffer *buffer, size_t want, char **room) SB_MUST_CHECK;

/* Count n bytes, written into the room that was reserved (no more than it), as data. */
void sb_buffer_commit(sb_buffer *buffer, size_t n);

/* Copy n bytes behind the data.  Returns as sb_buffer_reserve. */
int sb_buffer_append(sb_buffer *buffer, const char *data, size_t n) SB_MUST_CHECK;

/* Drop the first n bytes of the data, all of them if there are no more. */
void sb_buffer_consume(sb_buffer *buffer, size_t n);

/* First byte (until the next reserve, append or free; never NULL) and number of bytes of the data. */
const char *sb_buffer_data(const sb_buffer *buffer);
size_t sb_buffer_size(const sb_buffer *buffer);

/* Bytes of memory it owns for data now. */
size_t sb_buffer_capacity(const sb_buffer *buffer);

/*
 * ---- lines: ended by LF, one CR before it is not part of the line
 */
typedef struct sb_lines {
    size_t frames;  /* whole lines found */
    size_t end;     /* offset behind the last one's LF */
    size_t returns; /* how many of them ended in CR LF */
} sb_lines;

/* Find the whole lines at the start of data.
 *
 * scanned: so many first bytes are known to hold no LF.
 * limit: longest line, LF and one CR before it not counted.
 * Returns the number of lines (> 0, *found filled in), 0 when the first line
 * is not whole yet, SB_ERR_TOO_LONG when the first line is longer than limit
 * (already when it must become so, wherever the bytes were split).  A line too
 * long behind whole ones is reported by the next call, on the rest. */
int sb_lines_find(const char *data, size_t size, size_t scanned, size_t limit, sb_lines *found) SB_MUST_CHECK;

/*
 * ---- framings: how a stream is cut into frames
 *
 * A framing is a value: made by one of the sb_framing_* functions, copied by assignment, not modified.  Each has a
 * limit in bytes of payload; delimiter and header never count.  Where a frame ends and whether it is too long does
 * not depend on how the bytes arrived.  Empty frames are legal, except for octet counts.  An invalid framing gives
 * SB_ERR_INVALID wherever it is used.
 */
enum sb_framing_kind {
    SB_FRAMING_RAW = 0,         /* what has arrived is the frame */
    SB_FRAMING_LINE = 1,        /* LF, one CR before it not counted */
    SB_FRAMING_CRLF = 2,        /* CR LF; either alone is malformed */
    SB_FRAMING_DELIMITER = 3,   /* 1 to 8 bytes of the caller's */
    SB_FRAMING_NETSTRING = 4,   /* 3:abc, */
    SB_FRAMING_PREFIX = 5,      /* length in 1, 2, 3, 4 or 8 bytes */
    SB_FRAMING_VARINT = 6,      /* length in 1 to 5 bytes, 7 bits each, low ones first */
    SB_FRAMING_OCTET_COUNT = 7, /* "3 abc", RFC 6587 3.4.1 */
    SB_FRAMING_OCTET_MIXED = 8, /* a digit first: octet count; else a line, RFC 6587 3.4.2 */
    SB_FRAMING_FIXED = 9,       /* always the same size */
    SB_FRAMING_DOT_BLOCK = 10,  /* lines up to one of "." alone; RFC 5321 4.5.2, RFC 1939 3 */
    SB_FRAMING_BLANK_LINE = 11, /* lines up to an empty one; Postfix policy delegation */
    SB_FRAMING_DATAGRAM = 12    /* each piece is one frame, however short */
};

#define SB_ORDER_BIG 0    /* network byte order */
#define SB_ORDER_LITTLE 1
#define SB_DELIMITER_MAX 8

typedef struct sb_framing {
    int32_t kind;            /* enum sb_framing_kind */
    int32_t width;           /* bytes of the delimiter or of the prefix */
    int32_t order;           /* SB_ORDER_*, of the prefix */
    int32_t includes_header; /* 1: the prefix counts itself */
    size_t limit;            /* bytes of payload */
    char delimiter[8];
} sb_framing;

/* Each fills in *framing and returns 0; or leaves it unchanged and returns SB_ERR_INVALID for a limit above
 * sb_framing_limit_max() and for what each one declares invalid. */
int sb_framing_raw(size_t limit, sb_framing *framing) SB_MUST_CHECK; /* invalid: limit 0 */
int sb_framing_datagram(size_t limit, sb_framing *framing) SB_MUST_CHECK;
int sb_framing_line(size_t limit, sb_framing *framing) SB_MUST_CHECK;
int sb_framing_crlf(size_t limit, sb_framing *framing) SB_MUST_CHECK;
int sb_framing_nul(size_t limit, sb_framing *framing) SB_MUST_CHECK;

/* n bytes of delimiter (invalid: n not 1 to 8).  The first occurrence ends the frame. */
int sb_framing_delimiter(const char *delimiter, size_t n, size_t limit, sb_framing *framing) SB_MUST_CHECK;

/* Strict: decimal digits without leading zeros, never more of them than the
 * limit has; a colon, the payload, a comma. */
int sb_framing_netstring(size_t limit, sb_framing *framing) SB_MUST_CHECK;

/* Invalid: width not 1, 2, 3, 4 or 8, order not SB_ORDER_*.  includes_header:
 * the number counts its own bytes too, so that less than width is malformed.
 * A limit that the prefix cannot say is lowered to the largest it can. */
int sb_framing_prefix(int width, int order, int includes_header, size_t limit, sb_framing *framing) SB_MUST_CHECK;

/* Lengths of up to 32 bits; encodings longer than they need be are accepted,
 * as by the decoders of Protocol Buffers, up to 5 bytes. */
int sb_framing_varint(size_t limit, sb_framing *framing) SB_MUST_CHECK;

/* A count has no leading zero and is not 0 (RFC 6587: MSG-LEN = NONZERO-DIGIT
 * *DIGIT).  mixed 1: the first byte of each frame decides, digit or not. */
int sb_framing_octet_count(int mixed, size_t limit, sb_framing *framing) SB_MUST_CHECK;

/* Every frame has size bytes (invalid: 0), which is also the limit. */
int sb_framing_fixed(size_t size, sb_framing *framing) SB_MUST_CHECK;

/* Lines ended by CR LF up to one that is a dot alone.  The payload are the
 * lines with their ends, without the last; the limit counts it without the dots
 * that stuffing added.  A CR or an LF alone ends no line. */
int sb_framing_dot_block(size_t limit, sb_framing *framing) SB_MUST_CHECK;

/* Lines ended by LF up to an empty one (or a CR alone in it).  The payload are
 * the lines with their ends, without the last. */
int sb_framing_blank_line(size_t limit, sb_framing *framing) SB_MUST_CHECK;

/* The largest limit that a framing can have here. */
size_t sb_framing_limit_max(void);

/* The most bytes that a frame has on the wire, header and delimiter included:
 * a buffer of this size never gets in the way.  0: it is no framing. */
size_t sb_framing_room(const sb_framing *framing);

/*
 * ---- frames: found one by one or many at once
 */

/* The state of the incomplete frame at the start of the data.  {0} before the first byte of a frame; may be
 * discarded, then bytes are searched twice. That also happens when it is used with another framing, or with fewer
 * bytes. */
typedef struct sb_scan {
    size_t searched; /* so many bytes were looked at; after SB_ERR_MALFORMED: where it is */
    size_t dots;     /* of them, dots that stuffing added */
    size_t need;     /* the frame has at least so many bytes in all */
    int32_t discarding;
    int32_t kind;      /* of the framing by which all this was found out ... */
    char delimiter[8]; /* ... and its delimiter */
} sb_scan;

/* Payload data[start] to data[end - 1]. */
typedef struct sb_span {
    size_t start;
    size_t end;
} sb_span;

/* The same, and the next frame begins at data[next]. */
typedef struct sb_frame {
    size_t start;
    size_t end;
    size_t next;
    size_t dots; /* DOT_BLOCK: dots for sb_dot_unstuff to take out; else 0 */
} sb_frame;

/* Find the frame that begins at data.
 *
 * Returns 1: found, *frame filled in, *scan ready for the next one, whatever
 *   its framing; nothing else is kept, so the caller goes on at frame->next.
 * 0: not whole yet, *scan updated; call again with these bytes and more.
 * SB_ERR_TOO_LONG: its payload is or must become longer than the limit.
 * SB_ERR_MALFORMED: scan->searched is the offset of the first byte that cannot be.
 * Both errors stand: the same bytes give the same answer, however many follow.
 * SB_ERR_INVALID: no framing, or a frame is being discarded.
 * A length is checked as soon as it is declared; nothing is allocated. */
int sb_frame_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan,
                  sb_frame *frame) SB_MUST_CHECK;

/* Find up to max frames (none: SB_ERR_INVALID) from the start of data on.
 * Returns their number: spans filled in, the rest of the data begins at *next,
 *   and *scan is about the unfinished frame there; consume up to *next first.
 * 0 and errors: as sb_frame_find, about the first frame.  An error behind whole
 *   frames is reported by the next call, on the rest. */
int sb_frames_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_span *spans,
                   size_t max, size_t *next) SB_MUST_CHECK;

/* After SB_ERR_TOO_LONG (or MALFORMED), skip the rest of this frame including its delimiter, instead of closing.
 * *drop is how many bytes to consume.  Returns 1: all of it, continue with sb_frame_find after them; 0: call again
 * with more data; SB_ERR_INVALID: this frame has no delimiter. */
int sb_frame_discard(const sb_framing *framing, const char *data, size_t size, sb_scan *scan,
                     size_t *drop) SB_MUST_CHECK;

/* The stream ended and sb_frame_find said 0 for size bytes that are left.
 * Returns 0, or SB_ERR_TRUNCATED within a frame (also within a discarded one). */
int sb_frame_end(const sb_framing *framing, size_t size, const sb_scan *scan) SB_MUST_CHECK;

/* Append one frame with n bytes of payload to out: all of it or nothing.
 * The payload must not lie in out.  LINE ends in LF, OCTET_MIXED counts octets (of
 * none it makes an empty line), DOT_BLOCK and BLANK_LINE end an unended last line.
 * Returns 0; SB_ERR_TOO_LONG: beyond the limit; SB_ERR_MALFORMED: a payload that
 *   would not come back as it is (it holds the delimiter; LINE: it ends in CR;
 *   FIXED: it is too short; OCTET_COUNT: it is empty);
 *   SB_ERR_INVALID: no framing; or as sb_buffer_reserve. */
int sb_frame_encode(const sb_framing *framing, const char *payload, size_t n, sb_buffer *out) SB_MUST_CHECK;

/* Copy the payload of a DOT_BLOCK without its stuffing to out, which has room
 * for size bytes and may be data itself.  Returns the new size. */
size_t sb_dot_unstuff(const char *data, size_t size, char *out);

/*
 * ---- stream: one descriptor, one system call
 */

/* recv(2) without waiting; read(2) where fd is no socket but a pipe, a terminal
 * or a file, which is asked with poll(2) first and so does not wait either.
 * Returns the bytes received (> 0) or SB_ERR_AGAIN, _END, _RESET, _UNREACHABLE,
 * _FAULT; errno is the system call's.  SB_ERR_INVALID: size 0. */
long sb_receive(int fd, char *room, size_t size) SB_MUST_CHECK;

/* send(2) without waiting and without SIGPIPE; write(2) where fd is no socket.
 * A pipe whose reader is gone would raise SIGPIPE: it is blocked in the calling
 * thread for the one call and taken back, dispositions are not touched.
 * Returns the bytes taken (>= 0) or SB_ERR_AGAIN, _RESET, _UNREACHABLE, _FAULT;
 * errno is the system call's. */
long sb_send(int fd, const char *data, size_t size) SB_MUST_CHECK;

typedef struct sb_piece {
    const char *data;
    size_t size;
} sb_piece;

/* The same for count pieces, one behind the other, in one sendmsg(2).  It may
 * take fewer bytes than there are, and no more than the first 64 pieces. */
long sb_send_gather(int fd, const sb_piece *pieces, size_t count) SB_MUST_CHECK;

/* sb_receive behind the data of a buffer: max bytes at most, or what its limit
 * leaves; SB_ERR_LIMIT, SB_ERR_NOMEM: that is nothing. */
long sb_buffer_receive(sb_buffer *buffer, int fd, size_t max) SB_MUST_CHECK;

/* Take the next frame out of a buffer.  Returns as sb_frame_find; > 0: *payload is
 * where it lies (a DOT_BLOCK without its stuffing), until the next receive, reserve
 * or append. */
int sb_buffer_next(sb_buffer *buffer, const sb_framing *framing, sb_scan *scan, sb_piece *payload) SB_MUST_CHECK;

/* </cffi> */

/* printf(3) behind the data.  Returns as sb_buffer_append; SB_ERR_INVALID: vsnprintf(3) failed. */
int sb_buffer_printf(sb_buffer *buffer, const char *format, ...) SB_LIKE_PRINTF;

#ifdef SB_SHARED
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
