/*
 * sockbuf - bounded buffers, frames and many sockets at once
 *
 * SYNOPSIS
 *   #include "sockbuf.h"        cc main.c -lsockbuf, or: cc main.c sockbuf.c
 *
 * DESCRIPTION
 *   What a network server does for every line, and nothing else:
 *
 *     sb_buffer   a bounded byte buffer with three cursors
 *     sb_framing  how a stream is cut: lines, netstrings, length prefixes, ...
 *     sb_frame_*  where the frames of a piece of memory are, and the way back
 *     sb_lines_*  the same for whole blocks of lines
 *     sb_receive, sb_send   one descriptor, errno sorted into classes
 *     sb_set      many connections: one call a turn waits, receives and
 *                 frames; one call sends the replies of a turn
 *     sb_relay    pairs of sockets, the bytes of each sent on to the other
 *     sb_sources  how many connections are open from where, and no more
 *
 *   Spans are offsets.  A pointer handed out is valid until the next call that
 *   changes its buffer or set; each contract below says which calls those are.
 *   An object belongs to one thread at a time.
 *
 * DIAGNOSTICS
 *   > 0 found, 0 need more (or: done), < 0 one of SB_ERR_*.  Outputs are
 *   untouched on failure.  Numbers that make no sense are SB_ERR_INVALID, or do
 *   nothing where there is no code to return; a pointer to an object, or to as
 *   many bytes as are said, is taken at its word.  The library writes no log,
 *   raises no SIGPIPE, changes no signal and has no global state.
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
#else
#define SB_MUST_CHECK
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
#define SB_ERR_FAULT (-8)       /* any other errno: sb_set_errno, or errno itself */
#define SB_ERR_MISMATCH (-9)    /* a reply block is not one line for each frame */
#define SB_ERR_FULL (-10)       /* every row of the set is in use */
#define SB_ERR_MALFORMED (-11)  /* bytes that are no frame, or a payload that cannot be one */
#define SB_ERR_INVALID (-12)    /* arguments that make no sense; the caller's mistake */
#define SB_ERR_TRUNCATED (-13)  /* the stream ended within a frame */

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

/* Count n bytes, written into the room that was reserved, as data; what is more
 * than the room is not counted. */
void sb_buffer_commit(sb_buffer *buffer, size_t n);

/* Copy n bytes behind the data.  Returns as sb_buffer_reserve. */
int sb_buffer_append(sb_buffer *buffer, const char *data, size_t n) SB_MUST_CHECK;

/* Drop the first n bytes of the data, all of them if there are no more. */
void sb_buffer_consume(sb_buffer *buffer, size_t n);

/* First byte and number of bytes of the data; the pointer ends with the next
 * reserve, append or free, and is never NULL. */
const char *sb_buffer_data(const sb_buffer *buffer);
size_t sb_buffer_size(const sb_buffer *buffer);

/* Bytes of memory it owns for data now. */
size_t sb_buffer_capacity(const sb_buffer *buffer);

/* How many of the data's first bytes are known to hold no delimiter; all at most. */
size_t sb_buffer_scanned(const sb_buffer *buffer);
void sb_buffer_set_scanned(sb_buffer *buffer, size_t scanned);

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

/* Take the CR out of every CR LF, in place.  Returns the new size. */
size_t sb_lines_strip(char *data, size_t size);

/* Turn ASCII a-z into A-Z, in place. */
void sb_upper(char *data, size_t size);

/*
 * ---- framings: how a stream is cut into frames
 *
 * A framing is a value: made by one of the sb_framing_* functions, copied by
 * assignment, read by nobody else.  Every one has a limit in bytes of payload;
 * delimiter and header never count.  Where a frame ends and whether it is too
 * long does not depend on how the bytes arrived.  Empty frames are legal, but for
 * octet counts.  A framing that was made by hand and is none is SB_ERR_INVALID
 * wherever it is used.
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

/* Each fills in *framing and returns 0; or leaves it and returns SB_ERR_INVALID
 * for a limit above sb_framing_limit_max() and what is called invalid at each. */
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

/* What is known of the unfinished frame at the start of the data.  {0} before
 * the first byte of a frame; may be thrown away, then bytes are looked at twice.
 * That is done here when it is given with another framing, or with fewer bytes. */
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

/* Find up to most frames (none: SB_ERR_INVALID) from the start of data on.
 * Returns their number: spans filled in, the rest of the data begins at *next,
 *   and *scan is about the unfinished frame there; consume up to *next first.
 * 0 and errors: as sb_frame_find, about the first frame.  An error behind whole
 *   frames is reported by the next call, on the rest. */
int sb_frames_find(const sb_framing *framing, const char *data, size_t size, sb_scan *scan, sb_span *spans,
                   size_t most, size_t *next) SB_MUST_CHECK;

/* After SB_ERR_TOO_LONG (or MALFORMED), leave out the rest of this frame up to
 * and with its delimiter, instead of closing.  *drop is how many bytes to
 * consume.  Returns 1: all of it, go on with sb_frame_find behind them; 0: call
 * again when more has come; SB_ERR_INVALID: this frame has no delimiter. */
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

/*
 * ---- sources: how many connections are open from where
 *
 * A source is an address cut to a prefix, for a site has a whole /64 of IPv6 (RFC
 * 6177); ::ffff:a.b.c.d is the IPv4 address.  A table lives longer than whatever
 * counts in it.  peer, here: a struct sockaddr_in or sockaddr_in6, by its size; any other is not counted.
 */
typedef struct sb_sources sb_sources;

typedef struct sb_sources_rule {
    int32_t most;             /* open at once from one source, 1 or more */
    int32_t prefix4, prefix6; /* bits that make up a source */
    int32_t loopback;         /* whether 127.0.0.0/8 and ::1 count as well */
    uint64_t seed;            /* random, so that nobody can choose addresses that lie in one place */
} sb_sources_rule;

/* NULL: no memory, or a number that makes no sense. */
sb_sources *sb_sources_new(const sb_sources_rule *rule) SB_MUST_CHECK;
void sb_sources_free(sb_sources *sources); /* NULL does nothing */

/* Count one more.  Returns 1; 0: it is not counted; or, nothing counted, SB_ERR_LIMIT: as many as may be are open,
 * SB_ERR_NOMEM: and so it had better not be let in. */
int sb_sources_enter(sb_sources *sources, const char *peer, size_t size) SB_MUST_CHECK;

/* The same past the limit, of one that was let in elsewhere; never SB_ERR_LIMIT. */
int sb_sources_add(sb_sources *sources, const char *peer, size_t size) SB_MUST_CHECK;

/* Count one less, of one that was counted. */
void sb_sources_leave(sb_sources *sources, const char *peer, size_t size);

/* Another limit, 1 or more; those that are open stay. */
void sb_sources_limit(sb_sources *sources, int32_t most);

/* How many are open from there. */
int sb_sources_open(const sb_sources *sources, const char *peer, size_t size);

/* How often sb_sources_enter has said no. */
uint64_t sb_sources_refused(const sb_sources *sources);

/* Which source was past the limit the last time: 16 bytes, as an address of IPv6.  Returns the bits of its prefix. */
int sb_sources_refused_last(const sb_sources *sources, char *key);

/*
 * ---- set: many connections
 *
 * A connection is a row of one table; its id is the row's number and, above it,
 * how often the row was used, so that an id that was kept reaches nobody else's
 * connection: it comes again after 2^31 connections at best, after some 250,000
 * in the largest table.  An idle connection owns its row and nothing else: input
 * is received into an arena shared by all, and a buffer is lent only to an
 * unfinished frame or to output that the kernel did not take.
 *
 * A turn:   sb_set_wait      waits, receives, frames; fills the event array
 *           (the caller looks at the events and answers)
 *           sb_set_reply_*, sb_set_write   send; may append further events
 *
 * What was appended, by these or by sb_set_accept, sb_set_add, sb_set_close and
 * the others, stands in front of the events of the next turn, which is not waited
 * for then.  Who has looked at it says so by sb_set_settle.
 *
 * Events, parts, the arena and the rows and descriptors of connections whose end
 * was told stay as they are until the next sb_set_wait, sb_set_receive or
 * sb_set_settle.
 *
 * Deadlines are those of the kernel's bytes, not of the caller's time: what has
 * come is received before anybody is late, and after a time in which the caller
 * itself was held up a few turns pass first.  They are kept by sb_set_wait and
 * sb_set_receive, in ticks of 250 ms.
 */
typedef struct sb_set sb_set;

enum sb_serve {
    SB_SERVE_CALLER = 0,  /* frames are handed out as events */
    SB_SERVE_ECHO = 1,    /* served here: every byte back, RFC 862 */
    SB_SERVE_DISCARD = 2, /* served here: nothing back, RFC 863 */
    SB_SERVE_UPPER = 3    /* served here: every frame back in upper case */
};

#define SB_GROUP_MERGE 1    /* frames of several connections in one event, told apart by parts */
#define SB_GROUP_ANNOUNCE 2 /* events for accepted, end of input, no frame, pause and resume of writing */
#define SB_GROUP_WIRE 0     /* as they came is how frames are handed out, unless: */
#define SB_GROUP_KEPT 4     /* may have the rows that sb_set_keep_rows keeps */
#define SB_GROUP_LF 8       /* lines are handed out ended by LF alone, to be cut there and not by sb_frames_find */

#define SB_HIGH_WATER 65536     /* asyncio's */
#define SB_MAX_UNSENT 268435456 /* a large reply, not a leak */

/* What connections of one service have in common.  {0}: what has arrived is
 * handed out, no deadline, and what stands at each. */
typedef struct sb_group {
    sb_framing framing; /* any but DATAGRAM; a limit above 2 GiB is one of 2 GiB; RAW's 0 is 64 KiB */
    int32_t serve;      /* enum sb_serve; all but CALLER need RAW or LINE */
    int32_t flags;      /* SB_GROUP_* */
    int64_t high_water; /* unsent bytes past which reading stops; it goes on at a quarter of it; 0: SB_HIGH_WATER */
    int64_t max_unsent; /* unsent bytes past which the connection is given up: SB_REASON_LIMIT; 0: SB_MAX_UNSENT */
    int64_t idle_ms;    /* nothing moved for so long: SB_REASON_IDLE_TIMEOUT; 0 never */
    int64_t frame_ms;   /* a frame not whole so long after its first byte: SB_REASON_FRAME_TIMEOUT; 0 never */
    int64_t stall_ms;   /* unsent bytes of which none left for so long: SB_REASON_WRITE_STALL; 0 never */
    int64_t linger_ms;  /* after our FIN, discard the peer's bytes for so long at most; 0: not at all */
    int64_t cost_ns;    /* what the caller is thought to take for a frame, until sb_set_spent */
} sb_group;

/* Why a connection ended: exactly one for each. */
enum sb_reason {
    SB_REASON_NONE = 0,
    SB_REASON_EOF = 1,
    SB_REASON_CLOSED = 2,
    SB_REASON_RESET = 3,
    SB_REASON_UNREACHABLE = 4,
    SB_REASON_TRUNCATED = 5,
    SB_REASON_FRAME_TOO_LONG = 6,
    SB_REASON_IDLE_TIMEOUT = 7,
    SB_REASON_WRITE_STALL = 8,
    SB_REASON_LIMIT = 9,
    SB_REASON_HANDLER_ERROR = 10,
    SB_REASON_SHUTDOWN = 11,
    SB_REASON_ABORTED = 12,
    SB_REASON_FRAME_TIMEOUT = 13,
    SB_REASON_MALFORMED = 14,
    SB_REASON_REFUSED = 15,
    SB_REASON_HALF_CLOSE_TIMEOUT = 16 /* of a relayed pair */
};

enum sb_kind {
    SB_EVENT_FRAMES = 1,   /* frames of id, or of a merged run (id -1, parts from detail on) */
    SB_EVENT_ACCEPTED = 2, /* id is new */
    SB_EVENT_END = 3,      /* the peer of id sends no more; detail: bytes of an unfinished frame */
    SB_EVENT_PAUSE = 4,    /* id has more than high_water unsent bytes */
    SB_EVENT_RESUME = 5,   /* id is down to a quarter of it */
    SB_EVENT_CLOSED = 6,   /* id has ended; detail: enum sb_reason */
    SB_EVENT_WRONG = 7     /* what id sends next is no frame; detail: enum sb_reason.  It ends in the next turn; if it is
                            * paused by then, it is told once more and ends so when it is read again */
};

typedef struct sb_event {
    int32_t kind;
    int32_t id;
    int32_t group;
    int32_t detail; /* of FRAMES of one id: lines that ended in CR LF */
    int64_t offset; /* of the frames in the arena; < 0: held block number -1 - offset */
    int64_t size;   /* bytes of the frames, as they came (see SB_GROUP_LF) */
    int64_t frames; /* how many: sb_frames_find finds these */
} sb_event;

typedef struct sb_part {
    int32_t id;
    int32_t frames;
    int64_t size;
} sb_part;

/* A descriptor watched for the caller, or (without epoll) an interest to be changed. */
typedef struct sb_ready {
    int32_t id;
    int32_t fd;
    int32_t had;  /* sb_set_changes: interest until now */
    int32_t mask; /* SB_READ | SB_WRITE */
} sb_ready;

#define SB_READ 1
#define SB_WRITE 2

/* Numbers that change with every call; the struct stays where it is. */
typedef struct sb_counts {
    int32_t events;
    int32_t ready;
    int32_t changes;
    int32_t connections;
    int32_t closed; /* of these, ended but not settled */
    int32_t left;   /* 1: the share of a group was spent in this turn before all it had was handed out */
    int64_t memory; /* bytes that lent buffers own: 64, and twice of what lies in one, at most; where a peer
                     * takes its output slowly, up to two and a half times that */
} sb_counts;

typedef struct sb_info {
    int32_t fd;
    int32_t group;
    int32_t open; /* 1 while the caller may write */
    int32_t reason;
    int32_t error; /* errno of a reset, unreachable or faulty connection */
    uint32_t peer_size;
    int64_t received; /* bytes */
    int64_t sent;
    int64_t frames;
    int64_t unsent;
    int64_t unframed;   /* bytes of an unfinished frame */
    int64_t elapsed_ms; /* since it was accepted */
    char peer[32];      /* struct sockaddr_in or _in6; peer_size 0: no name */
} sb_info;

#define SB_REASONS 17 /* how many of enum sb_reason there are */

/* What the connections of a group have done since it was made. */
typedef struct sb_totals {
    int64_t came;
    int64_t open;     /* of these, not ended */
    int64_t received; /* bytes; as sent and frames, also of those that have ended */
    int64_t sent;
    int64_t frames;
    int64_t unsent;   /* bytes that wait for the kernel now */
    int64_t reasons[SB_REASONS]; /* how many ended for each */
} sb_totals;

#define SB_LIST_LIVE 0  /* connections that have not ended */
#define SB_LIST_OPEN 1  /* of these, those that are not being closed */
#define SB_LIST_QUIET 2 /* of these, those from which nothing waits to be received and no frame is unfinished */

/* Make a set of at most rows connections.  The tables are mapped at once and
 * touched as connections come.  epoll: 1 to wait here (Linux), 0 when the
 * caller learns readiness itself and calls sb_set_receive.  NULL: errno. */
sb_set *sb_set_new(int32_t rows, int epoll);

/* Close every descriptor the set owns and free it; NULL is allowed. */
void sb_set_free(sb_set *set);

/* Add a group.  Returns its number (>= 0) or SB_ERR_NOMEM, SB_ERR_LIMIT; or
 * SB_ERR_INVALID: a framing that is none, that no stream can have, or not with
 * what serves it; flags, or what serves it, that are none; a size below 0. */
int sb_set_group(sb_set *set, const sb_group *group) SB_MUST_CHECK;

/* Give a group up: its number may be the next group's.  Returns 0, or how many
 * of its connections have not ended, or not been settled: it stays then, and
 * for the next try.  SB_ERR_LIMIT: no such group. */
int sb_set_ungroup(sb_set *set, int group) SB_MUST_CHECK;

/* What a group's connections have done.  Reads every row.  Returns 0 or
 * SB_ERR_LIMIT: no such group. */
int sb_set_totals(const sb_set *set, int group, sb_totals *totals) SB_MUST_CHECK;

/* Connections of a group (-1: of all): which is one of SB_LIST_*; ids has room
 * for as many as the set has rows.  Returns how many. */
int sb_set_list(const sb_set *set, int group, int which, int32_t *ids) SB_MUST_CHECK;

/* The most bytes of memory that buffers lent to all connections may own; the
 * connection that would need more is given up: SB_REASON_LIMIT.  0: no limit. */
void sb_set_memory(sb_set *set, int64_t most);

/* Keep some rows for connections of groups with SB_GROUP_KEPT: to the others the
 * set is full without them. */
void sb_set_keep_rows(sb_set *set, int32_t rows);

#define SB_ARENA 524288 /* bytes received in one turn from all */

/* Arrays and numbers of the set, at the same place as long as it lives; SB_ARENA bytes are the arena's. */
const sb_counts *sb_set_counts(const sb_set *set);
const sb_event *sb_set_events(const sb_set *set);
const sb_part *sb_set_parts(const sb_set *set);
const sb_ready *sb_set_readies(const sb_set *set);
const char *sb_set_arena(const sb_set *set);

/* A held block of this turn's events, valid until the next turn. */
const char *sb_set_held(const sb_set *set, int64_t block);

/* errno of the last call that returned SB_ERR_FAULT (or stopped an accept). */
int sb_set_errno(const sb_set *set);

/* The epoll descriptor, or -1: readable when sb_set_wait would return. */
int sb_set_fileno(const sb_set *set);

/* With epoll: report a descriptor of the caller's in sb_set_readies when it is
 * ready for mask; mask 0 ends that.  Returns 0 or SB_ERR_FAULT. */
int sb_set_watch(sb_set *set, int fd, int mask) SB_MUST_CHECK;

/* What sb_set_accept accepts into a group counts in a table of sources until it ends, is forgotten or gets another
 * peer; who is past the limit there is closed at once.  Once for a group, before anything is accepted into it; the
 * table has to live as long as the group. */
void sb_set_sources(sb_set *set, int group, sb_sources *sources);

/* Accept up to most connections from a listening descriptor into group.
 * Connections that died in the queue are passed over (accept(2)).
 * Returns how many came, or SB_ERR_INVALID: no such group.  *stopped: 0, or the errno for which the listener had
 * better pause (EMFILE, ENFILE, ENOBUFS, ENOMEM), or SB_ERR_FULL. */
int sb_set_accept(sb_set *set, int listener, int group, int most, int *stopped) SB_MUST_CHECK;

/* Take over a connected, non-blocking descriptor.  Returns its id (>= 0), or
 * SB_ERR_FULL, SB_ERR_FAULT, SB_ERR_INVALID (no such group, a descriptor below 0):
 * the descriptor then still is the caller's. */
int sb_set_add(sb_set *set, int fd, int group) SB_MUST_CHECK;

/* The number of an id's row: 0 to rows - 1, another one for each connection that
 * has not been settled, as an index of a table of the caller's. */
int sb_set_row(const sb_set *set, int id);

/* Name the peer of a connection whose name the kernel does not know, such as a
 * pipe's or one behind a proxy: size bytes of struct sockaddr_in or _in6, 0 for
 * no name.  Returns 0, or SB_ERR_LIMIT: no such connection, or no such name. */
int sb_set_peer(sb_set *set, int id, const char *peer, size_t size) SB_MUST_CHECK;

/* One turn, with epoll: settle, wait up to timeout_ms (-1: for ever), then
 * receive and frame.  Returns events + ready descriptors, or SB_ERR_FAULT. */
int sb_set_wait(sb_set *set, int timeout_ms) SB_MUST_CHECK;

/* One turn, without epoll: settle, then receive and frame from these n ready
 * connections (id, mask).  Whoever waits before it asks sb_set_timeout first, and
 * waits no longer.  Returns the number of events. */
int sb_set_receive(sb_set *set, const int32_t *ids, const int32_t *masks, int n) SB_MUST_CHECK;

/* Without epoll: what the caller must watch from now on, in sb_set_readies;
 * clears the list.  Returns how many. */
int sb_set_changes(sb_set *set);

/* Close the descriptors and forget the rows of connections that have ended, and
 * every event: the caller has looked at all of them. */
void sb_set_settle(sb_set *set);

/* Milliseconds until a turn has something to do, such as a deadline; -1: nothing. */
int sb_set_timeout(sb_set *set);

/* Tell how long the caller was busy with what a group handed out in this turn: ns
 * nanoseconds.  The next turns hand out as much as takes 5 ms, groups and
 * connections in equal shares, and 8,192 frames of a group at most; the rest waits
 * its turn.  256 bytes count as a frame.  It need not be told where sb_counts.left
 * is 0 and 5 ms are far. */
void sb_set_spent(sb_set *set, int group, int64_t ns);

/* Answer an event of FRAMES with a block of exactly one line for each frame.
 * Returns 0, or SB_ERR_MISMATCH when it is not that (nothing was sent). */
int sb_set_reply_lines(sb_set *set, int event, const char *block, size_t size) SB_MUST_CHECK;

/* Answer an event of one frame with size bytes and an ending, which is short, behind them.
 * Returns 0, or SB_ERR_MISMATCH when it has another number of frames (nothing was sent). */
int sb_set_reply_line(sb_set *set, int event, const char *line, size_t size, const char *ending,
                      size_t ending_size) SB_MUST_CHECK;

/* The same with the size of each frame's reply: lengths has one for each. */
int sb_set_reply_lengths(sb_set *set, int event, const char *block, size_t size, const uint32_t *lengths) SB_MUST_CHECK;

/* Send to n connections: sizes[i] bytes of block for ids[i], one after the
 * other, up to a size below 0.  What the kernel does not take is kept.  Ids that
 * have ended are passed over. */
void sb_set_write(sb_set *set, int n, const int32_t *ids, const int64_t *sizes, const char *block);

/* End in order: what was written leaves, then FIN, then the peer's bytes are
 * discarded until its FIN or linger_ms.  Nothing is handed out any more, and what
 * was given back or is not whole is dropped.  A reason that is none: _CLOSED. */
void sb_set_close(sb_set *set, int id, int reason);

/* End every open connection in order. */
void sb_set_close_all(sb_set *set, int reason);

/* End at once; TCP sends RST.  A reason that is none: _ABORTED. */
void sb_set_abort(sb_set *set, int id, int reason);

/* What is behind the descriptor of a connection is lost, for an errno that the
 * kernel cannot tell of this descriptor: it is one end of a socket pair, say,
 * whose other end somebody carries on to a network.  Input that lies in it is
 * handed out still; its end of file, or its hang-up where the connection is not
 * read, ends the connection as that errno of recv(2) would. */
void sb_set_lost(sb_set *set, int id, int error);

/* Give back frames of this turn that were not taken, size bytes of them as they
 * were handed out (without SB_GROUP_LF, where they are lines).  They are framed once
 * more, before all that came behind them, in the next turn in which the
 * connection is read.  Without memory for them: SB_REASON_LIMIT. */
void sb_set_unread(sb_set *set, int id, const char *data, size_t size, int64_t frames);

/* Answer no more than the first so many frames of an event of this turn: the
 * others are given back, each to its connection.  The event then is of these
 * frames alone.  They are counted by the framing that the connection has now: cut
 * first, then sb_set_framing.  Returns 0, or SB_ERR_MISMATCH: it has not so many. */
int sb_set_cut(sb_set *set, int event, int64_t frames) SB_MUST_CHECK;

/* The unfinished frame of a connection: *size bytes, NULL and 0 when there is
 * none.  Valid until the next turn, sb_set_unread or sb_set_framing. */
const char *sb_set_unfinished(const sb_set *set, int id, size_t *size);

/* From now on, cut the connection's input by another framing than its group's,
 * beginning with what is unfinished; frames that were handed out already are
 * first given back.  What was wrong by the framing until now is wrong no more.
 * Returns 0, SB_ERR_INVALID as sb_set_group, or SB_ERR_LIMIT: no such connection,
 * or it is being closed. */
int sb_set_framing(sb_set *set, int id, const sb_framing *framing) SB_MUST_CHECK;

#define SB_MOVED_ENDED 1    /* the peer's FIN has come */
#define SB_MOVED_FINISHED 2 /* our FIN is sent */
#define SB_MOVED_SHUTDOWN 4 /* our FIN goes behind what is unsent */
#define SB_MOVED_PAUSED 8   /* sb_set_pause */
#define SB_MOVED_HIGH 16    /* not read until unsent bytes are down to low */
#define SB_MOVED_FRAMED 32  /* sb_set_framing was called: the caller calls it again */

/* A connection on its way to another set.  Times are those of CLOCK_MONOTONIC. */
typedef struct sb_moved {
    int32_t flags; /* SB_MOVED_* */
    int32_t high, low;
    uint32_t peer_size;
    int64_t received, sent, frames;
    int64_t opened_ms;
    int64_t moved_ms;   /* the last byte in or out */
    int64_t framing_ms; /* the first byte of what is not framed */
    int64_t leaving_ms; /* the last progress of what is not sent */
    int64_t in_size;    /* bytes that are not framed */
    int64_t out_size;   /* bytes that are not sent */
    char peer[32];      /* as in sb_info */
} sb_moved;

/* Read a connection out, which goes on all the same; its descriptor is that of
 * sb_set_info.  *in and *out are valid until the next turn.  Call it between two
 * turns, with every event answered.  Returns 0, or SB_ERR_LIMIT: there is no
 * such connection, or it is being closed. */
int sb_set_export(const sb_set *set, int id, sb_moved *moved, const char **in, const char **out) SB_MUST_CHECK;

/* Take a connection over that was read out of another set: as sb_set_add, but it
 * is not told of, and has not come in the sense of sb_totals.  What is not framed
 * is framed in the next turn.  Returns its id (>= 0), or SB_ERR_FULL, SB_ERR_FAULT,
 * SB_ERR_NOMEM, SB_ERR_LIMIT (memory), SB_ERR_INVALID (what sb_set_export would not
 * write; a descriptor or group as for sb_set_add): the descriptor then still is
 * the caller's. */
int sb_set_import(sb_set *set, int fd, int group, const sb_moved *moved, const char *in, const char *out) SB_MUST_CHECK;

/* Have a connection go on by another descriptor, which is non-blocking: what it
 * has received and sent stays with it, and so does its peer, if it was told.  The
 * connection is paused, and all that it was to send is sent.  Returns the
 * descriptor until now, which is the caller's, or SB_ERR_AGAIN: something is
 * unsent, or the caller of sb_set_changes still has to be told of the pause;
 * SB_ERR_MALFORMED: there is input that was not handed out; SB_ERR_LIMIT: no such
 * connection, or one whose end has begun; SB_ERR_INVALID: a descriptor below 0;
 * SB_ERR_FAULT: see sb_set_errno. */
int sb_set_swap(sb_set *set, int id, int fd) SB_MUST_CHECK;

/* Judge a connection by no deadline but that of its closing (resting 1), for its
 * peer cannot be heard: somebody else has it meanwhile, who has a deadline of his
 * own; or by all of them again (0), which begin anew. */
void sb_set_rest(sb_set *set, int id, int resting);

/* Close a connection without a shutdown, for it goes on elsewhere: there is no
 * event, and it is not counted as one that has ended. */
void sb_set_forget(sb_set *set, int id);

/* In a process that was forked: close the descriptors of all connections, also of
 * those that have just ended, without a word, for the process it was forked from
 * goes on with them.  The set can only be freed then. */
void sb_set_leave(sb_set *set);

/* FIN after what was written; receiving goes on. */
void sb_set_shutdown(sb_set *set, int id);

/* Stop receiving from a connection (paused 1), or go on (0). */
void sb_set_pause(sb_set *set, int id, int paused);

/* Water marks for one connection in place of its group's: at more than high
 * unsent bytes reading stops, at low or fewer it goes on.
 * Returns 0, or SB_ERR_LIMIT: no such connection, or not 0 <= low <= high. */
int sb_set_water(sb_set *set, int id, int64_t high, int64_t low) SB_MUST_CHECK;

/* Bytes written for id that the kernel has not taken yet. */
int64_t sb_set_unsent(const sb_set *set, int id);

/* What is known of a connection, also when it has just ended. */
int sb_set_info(const sb_set *set, int id, sb_info *info) SB_MUST_CHECK;

/*
 * ---- relay: bytes from one socket to another and back (Linux)
 *
 * A pair are two connected, non-blocking stream sockets.  What comes from one
 * is sent to the other, and its end of file behind it; when both have ended so,
 * both are closed.  A reset of either is a reset of both.  The relay waits in
 * an epoll of its own: watch its descriptor, and call sb_relay_run when it is
 * readable or when a deadline is due.
 *
 * Each way holds 64 KiB, or what is in one pipe, at most: what the receiver
 * does not take holds the sender up.
 */
typedef struct sb_relay sb_relay;

/* Side 0 is `one`, side 1 `other`. */
typedef struct sb_relay_pair {
    int32_t one;
    int32_t other;
    const char *first;  /* what was received of one already, and goes to other first; copied */
    size_t first_size;
    const char *second; /* of other, for one */
    size_t second_size;
    int64_t idle_ms;    /* nothing moved for so long: SB_REASON_IDLE_TIMEOUT; 0 never */
    int64_t half_ms;    /* the same once one side has ended: SB_REASON_HALF_CLOSE_TIMEOUT; 0 never */
} sb_relay_pair;

/* A pair that has ended; its sockets are closed: in order after EOF, with RST
 * after any other reason. */
typedef struct sb_relay_end {
    int32_t id;
    int32_t reason; /* enum sb_reason */
    int32_t error;  /* errno, 0 for none ... */
    int32_t side;   /* ... of this side's socket */
    int64_t moved[2]; /* bytes that side 0 sent and side 1 got; and the other way */
} sb_relay_end;

/* Numbers that change with every call; the struct stays where it is. */
typedef struct sb_relay_counts {
    int64_t pairs;
    int64_t ends;     /* pairs that have ended in the last call */
    int64_t requests; /* of clients that wait for sb_relay_answer */
    int64_t returned; /* clients that are the caller's again */
    int64_t due_ms; /* when sb_relay_run must be called (CLOCK_MONOTONIC, a tick of 250 ms after a deadline at most);
                     * -1: not before it is readable */
} sb_relay_counts;

/* Make a relay of at most this many pairs; memory is touched as they come.
 * NULL: errno; ENOSYS: not on this system. */
sb_relay *sb_relay_new(int32_t pairs);

/* Close every socket it owns, with RST, and free it; NULL is allowed. */
void sb_relay_free(sb_relay *relay);

/* The epoll descriptor. */
int sb_relay_fileno(const sb_relay *relay);

/* Counts and ends, at the same place as long as it lives. */
const sb_relay_counts *sb_relay_counts_of(const sb_relay *relay);
const sb_relay_end *sb_relay_ends(const sb_relay *relay);

/* Take two sockets over.  Returns the pair's id (>= 0), or SB_ERR_FULL,
 * SB_ERR_NOMEM, SB_ERR_FAULT (errno), SB_ERR_INVALID (a descriptor below 0): they
 * are the caller's still. */
int sb_relay_add(sb_relay *relay, const sb_relay_pair *pair) SB_MUST_CHECK;

/* Move what can be moved without waiting, and end pairs whose deadline is due: as
 * in a set, not before what the kernel has was moved, nor at once when the caller
 * came late.  An id is given again late, as that of a connection. */
void sb_relay_run(sb_relay *relay);

/* End a pair at once, with RST; one that has ended already is passed over.  A
 * reason that is none: _ABORTED. */
void sb_relay_abort(sb_relay *relay, int id, int reason);

/* What is behind the socket of a side is lost, as of sb_set_lost: what lies in
 * the socket goes on to the other side, and its end of file is a reset. */
void sb_relay_lost(sb_relay *relay, int id, int side, int error);

/* Bytes moved so far from this side to the other. */
int64_t sb_relay_moved(const sb_relay *relay, int id, int side);

/*
 * A relay may also begin with one side: a client of a SOCKS 5 server (RFC 1928)
 * that says where to.  It hears a greeting and a request that come whole, each in
 * a piece of its own, offer to do without a login, and name an address for
 * CONNECT; asks its caller; connects; replies; and the two are a pair.  All other
 * clients are the caller's again, with what was read of them.
 */

/* What the clients of a listener have in common. */
typedef struct sb_relay_door {
    int32_t group;          /* told with each client */
    int64_t negotiation_ms; /* from accept(2) to the request; 0 for ever, as all of them */
    int64_t connect_ms;
    int64_t idle_ms;        /* as of a pair */
    int64_t half_ms;
    sb_sources *sources;    /* in which they count until their end; who is past the limit there is closed; NULL: none */
} sb_relay_door;

/* A client asks to be connected. */
typedef struct sb_relay_request {
    int32_t id;         /* its pair's */
    int32_t group;
    int32_t allowed;    /* 0; the caller's to write */
    int32_t peer_size;  /* 16 or 28; 0: the client has no address */
    int64_t began_ms;   /* when it was accepted (CLOCK_MONOTONIC) */
    char peer[28];      /* struct sockaddr_in or sockaddr_in6 */
    char target[28];    /* the same; no IPv4-mapped address */
} sb_relay_request;

enum sb_returned {
    SB_RETURNED_NEW,        /* it has not been answered */
    SB_RETURNED_GREETED,    /* its greeting was answered: no login */
    SB_RETURNED_CONNECTING  /* its request was allowed, and could not be carried out */
};

/* A client that is the caller's again, with its descriptor. */
typedef struct sb_relay_returned {
    int32_t id;        /* its pair's until now */
    int32_t group;
    int32_t fd;
    int32_t state;     /* enum sb_returned */
    int32_t error;     /* errno of recv(2); of socket(2), connect(2) for CONNECTING, there 0: the client was reset */
    int32_t peer_size;
    int32_t size;      /* of data */
    int32_t was_asked; /* whether a request of its was in sb_relay_requests */
    int32_t counted;   /* it counts in the door's sources still, and is the caller's to count less */
    int64_t began_ms;
    char peer[28];
    char data[68];     /* what was read of it and not answered */
} sb_relay_returned;

/* Accept clients, up to so many.  Returns how many came; *stopped as that of sb_set_accept. */
int sb_relay_accept(sb_relay *relay, int listener, const sb_relay_door *door, int most, int *stopped) SB_MUST_CHECK;

/* At the same place as long as it lives; how many: see the counts. */
sb_relay_request *sb_relay_requests(sb_relay *relay);
const sb_relay_returned *sb_relay_returned_ones(const sb_relay *relay);

/* Connect the clients of all requests that are allowed, and return those of the
 * others: to be called after each call that leaves requests.  Returned ones are added. */
void sb_relay_answer(sb_relay *relay);

/* Return every client of a group whose request has not come. */
void sb_relay_take_back(sb_relay *relay, int group);

/* </cffi> */

#ifdef SB_SHARED
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
