/*
 * sockbuf - bounded buffers, frames and many sockets at once
 *
 * SYNOPSIS
 *   #include "sockbuf.h"        cc main.c buffer.c frame.c stream.c deadline.c set*.c
 *
 * DESCRIPTION
 *   What a network server does for every line, and nothing else:
 *
 *     sb_buffer   a bounded byte buffer with three cursors
 *     sb_lines_*  where the lines of a piece of memory end
 *     sb_receive, sb_send   one descriptor, errno sorted into classes
 *     sb_set      many connections: one call a turn waits, receives and
 *                 frames; one call sends the replies of a turn
 *
 *   Spans are offsets.  A pointer handed out is valid until the next call that
 *   changes its buffer or set; each contract below says which calls those are.
 *   An object belongs to one thread at a time.
 *
 * DIAGNOSTICS
 *   > 0 found, 0 need more (or: done), < 0 one of SB_ERR_*.  Outputs are
 *   untouched on failure.  The library writes no log, raises no SIGPIPE,
 *   changes no signal and has no global state.
 */
#ifndef SOCKBUF_H
#define SOCKBUF_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SB_MUST_CHECK __attribute__((warn_unused_result))
#else
#define SB_MUST_CHECK
#endif

#ifdef __cplusplus
extern "C" {
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

/* Make room for want more bytes after the data, and say where it is.
 * May move the data: pointers from sb_buffer_data end here.
 * Returns 0, SB_ERR_LIMIT (data + want > limit) or SB_ERR_NOMEM. */
int sb_buffer_reserve(sb_buffer *buffer, size_t want, char **room) SB_MUST_CHECK;

/* Count n bytes, written into the room that was reserved, as data. */
void sb_buffer_commit(sb_buffer *buffer, size_t n);

/* Copy n bytes behind the data.  Returns as sb_buffer_reserve. */
int sb_buffer_append(sb_buffer *buffer, const char *data, size_t n) SB_MUST_CHECK;

/* Drop the first n bytes of the data (n <= size). */
void sb_buffer_consume(sb_buffer *buffer, size_t n);

/* First byte and number of bytes of the data; the pointer ends with the next
 * reserve, append or free. */
const char *sb_buffer_data(const sb_buffer *buffer);
size_t sb_buffer_size(const sb_buffer *buffer);

/* Bytes of memory it owns for data now. */
size_t sb_buffer_capacity(const sb_buffer *buffer);

/* How many of the data's first bytes are known to hold no delimiter. */
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
 * ---- stream: one descriptor, one system call
 */

/* recv(2) without waiting.  Returns the bytes received (> 0) or SB_ERR_AGAIN,
 * _END, _RESET, _UNREACHABLE, _FAULT; errno is recv's. */
long sb_receive(int fd, char *room, size_t size) SB_MUST_CHECK;

/* send(2) without waiting and without SIGPIPE.  Returns the bytes taken (>= 0)
 * or SB_ERR_AGAIN, _RESET, _UNREACHABLE, _FAULT; errno is send's. */
long sb_send(int fd, const char *data, size_t size) SB_MUST_CHECK;

/*
 * ---- set: many connections
 *
 * A connection is a row of one table; the row's number is its id.  An idle
 * connection owns its row and nothing else: input is received into an arena
 * shared by all, and a buffer is lent only to an unfinished frame or to output
 * that the kernel did not take.
 *
 * A turn:   sb_set_wait      waits, receives, frames; fills the event array
 *           (the caller looks at the events and answers)
 *           sb_set_reply_*, sb_set_write   send; may append further events
 *
 * Events, parts, the arena and the rows and descriptors of closed connections
 * stay as they are until the next sb_set_wait or sb_set_settle.
 */
typedef struct sb_set sb_set;

enum sb_framing {
    SB_FRAMING_RAW = 0, /* what has arrived is the frame */
    SB_FRAMING_LINE = 1 /* LF, a CR before it not counted; handed out ended by LF alone */
};

enum sb_serve {
    SB_SERVE_CALLER = 0,  /* frames are handed out as events */
    SB_SERVE_ECHO = 1,    /* served here: every byte back, RFC 862 */
    SB_SERVE_DISCARD = 2, /* served here: nothing back, RFC 863 */
    SB_SERVE_UPPER = 3    /* served here: every frame back in upper case */
};

#define SB_GROUP_MERGE 1    /* frames of several connections in one event, told apart by parts */
#define SB_GROUP_ANNOUNCE 2 /* events for accepted, end of input, pause and resume of writing */

/* What connections of one service have in common. */
typedef struct sb_group {
    int32_t framing;   /* enum sb_framing */
    int32_t serve;     /* enum sb_serve */
    int32_t flags;     /* SB_GROUP_* */
    int32_t reserved;  /* 0 */
    int64_t max_frame; /* bytes, delimiter not counted */
    int64_t high_water; /* unsent bytes at which reading stops; it goes on at a quarter of it */
    int64_t max_unsent; /* unsent bytes at which the connection is given up: SB_REASON_LIMIT */
    int64_t idle_ms;    /* nothing moved for so long: SB_REASON_IDLE_TIMEOUT; 0 never */
    int64_t frame_ms;   /* a frame not whole so long after its first byte: SB_REASON_FRAME_TIMEOUT; 0 never */
    int64_t stall_ms;   /* unsent bytes of which none left for so long: SB_REASON_WRITE_STALL; 0 never */
    int64_t linger_ms;  /* after our FIN, discard the peer's bytes for so long at most */
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
    SB_REASON_REFUSED = 15
};

enum sb_kind {
    SB_EVENT_FRAMES = 1,   /* frames of id, or of a merged run (id -1, parts from detail on) */
    SB_EVENT_ACCEPTED = 2, /* id is new */
    SB_EVENT_END = 3,      /* the peer of id sends no more; detail: bytes of an unfinished frame */
    SB_EVENT_PAUSE = 4,    /* id has more than high_water unsent bytes */
    SB_EVENT_RESUME = 5,   /* id is down to a quarter of it */
    SB_EVENT_CLOSED = 6    /* id has ended; detail: enum sb_reason */
};

typedef struct sb_event {
    int32_t kind;
    int32_t id;
    int32_t group;
    int32_t detail;
    int64_t offset; /* of the frames in the arena; < 0: held block number -1 - offset */
    int64_t size;   /* bytes of the frames, every line ended by LF */
    int64_t frames;
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
    int32_t reserved;
    int64_t memory; /* bytes that lent buffers own */
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

/* Make a set of at most rows connections.  The tables are mapped at once and
 * touched as connections come.  epoll: 1 to wait here (Linux), 0 when the
 * caller learns readiness itself and calls sb_set_receive.  NULL: errno. */
sb_set *sb_set_new(int32_t rows, int epoll);

/* Close every descriptor the set owns and free it; NULL is allowed. */
void sb_set_free(sb_set *set);

/* Add a group.  Returns its number (>= 0) or SB_ERR_NOMEM, SB_ERR_LIMIT. */
int sb_set_group(sb_set *set, const sb_group *group) SB_MUST_CHECK;

/* The most bytes of memory that buffers lent to all connections may own; the
 * connection that would need more is given up: SB_REASON_LIMIT.  0: no limit. */
void sb_set_memory(sb_set *set, int64_t most);

/* Arrays and numbers of the set, at the same place as long as it lives. */
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

/* Accept up to most connections from a listening descriptor into group.
 * Connections that died in the queue are passed over (accept(2)).
 * Returns how many came.  *stopped: 0, or the errno for which the listener had
 * better pause (EMFILE, ENFILE, ENOBUFS, ENOMEM), or SB_ERR_FULL. */
int sb_set_accept(sb_set *set, int listener, int group, int most, int *stopped) SB_MUST_CHECK;

/* Take over a connected, non-blocking descriptor.  Returns its id (>= 0), or
 * SB_ERR_FULL, SB_ERR_FAULT: the descriptor then still is the caller's. */
int sb_set_add(sb_set *set, int fd, int group) SB_MUST_CHECK;

/* One turn, with epoll: settle, wait up to timeout_ms (-1: for ever), then
 * receive and frame.  Returns events + ready descriptors, or SB_ERR_FAULT. */
int sb_set_wait(sb_set *set, int timeout_ms) SB_MUST_CHECK;

/* One turn, without epoll: settle, then receive and frame from these n ready
 * connections (id, mask).  Returns the number of events. */
int sb_set_receive(sb_set *set, const int32_t *ids, const int32_t *masks, int n) SB_MUST_CHECK;

/* Without epoll: what the caller must watch from now on, in sb_set_readies;
 * clears the list.  Returns how many. */
int sb_set_changes(sb_set *set);

/* Close the descriptors and forget the rows of connections that have ended. */
void sb_set_settle(sb_set *set);

/* Milliseconds until a deadline is due; -1: none. */
int sb_set_timeout(sb_set *set);

/* Answer an event of FRAMES with a block of exactly one line for each frame.
 * Returns 0, or SB_ERR_MISMATCH when it is not that (nothing was sent). */
int sb_set_reply_lines(sb_set *set, int event, const char *block, size_t size) SB_MUST_CHECK;

/* The same with the size of each frame's reply: lengths has one for each. */
int sb_set_reply_lengths(sb_set *set, int event, const char *block, size_t size, const uint32_t *lengths) SB_MUST_CHECK;

/* Send to n connections: sizes[i] bytes of block for ids[i], one after the
 * other.  What the kernel does not take is kept.  Ids that have ended are
 * passed over. */
void sb_set_write(sb_set *set, int n, const int32_t *ids, const int64_t *sizes, const char *block);

/* End in order: what was written leaves, then FIN, then the peer's bytes are
 * discarded until its FIN or linger_ms.  Nothing is handed out any more. */
void sb_set_close(sb_set *set, int id, int reason);

/* End every open connection in order. */
void sb_set_close_all(sb_set *set, int reason);

/* End in order those from which nothing waits to be received and no frame is
 * unfinished.  Returns how many are open still. */
int sb_set_close_quiet(sb_set *set, int reason);

/* End at once; TCP sends RST. */
void sb_set_abort(sb_set *set, int id, int reason);

/* FIN after what was written; receiving goes on. */
void sb_set_shutdown(sb_set *set, int id);

/* Stop receiving from a connection (paused 1), or go on (0). */
void sb_set_pause(sb_set *set, int id, int paused);

/* Water marks for one connection in place of its group's: at more than high
 * unsent bytes reading stops, at low or fewer it goes on.
 * Returns 0, or SB_ERR_LIMIT unless 0 <= low <= high. */
int sb_set_water(sb_set *set, int id, int64_t high, int64_t low) SB_MUST_CHECK;

/* Bytes written for id that the kernel has not taken yet. */
int64_t sb_set_unsent(const sb_set *set, int id);

/* What is known of a connection, also when it has just ended. */
int sb_set_info(const sb_set *set, int id, sb_info *info) SB_MUST_CHECK;

/* </cffi> */

#ifdef __cplusplus
}
#endif

#endif
