/* SPDX-License-Identifier: MIT */
/*
 * sockmux - many connections at once
 *
 *     sb_mux      one call waits, receives and frames; one hands out what has happened
 *     sb_sources  how many connections are open from where, and no more
 *     sb_datagrams  many datagrams of one socket in one call, and their answers in another
 */
#ifndef SOCKMUX_H
#define SOCKMUX_H

#include "sockbuf.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifdef SB_SHARED
#pragma GCC visibility push(default)
#endif

/* <cffi> from here to </cffi> the Python extension reads these declarations */

/*
 * ---- sources: how many connections are open from where
 *
 * A source is an address cut to a prefix, for a site has a whole /64 of IPv6 (RFC
 * 6177); ::ffff:a.b.c.d is the IPv4 address.  A table lives longer than whatever
 * counts in it.  peer, here: a struct sockaddr_in or sockaddr_in6, by its size; any other is not counted.
 */
typedef struct sb_sources sb_sources;

typedef struct sb_sources_rule {
    int32_t max;             /* open at once from one source, 1 or more */
    int32_t prefix4, prefix6; /* bits that make up a source */
    int32_t loopback;         /* whether 127.0.0.0/8 and ::1 count as well */
    uint64_t seed;            /* random, so that an attacker cannot choose addresses that collide */
} sb_sources_rule;

/* NULL: no memory, or a number that makes no sense. */
sb_sources *sb_sources_new(const sb_sources_rule *rule) SB_MUST_CHECK;
void sb_sources_free(sb_sources *sources); /* NULL does nothing */

/* Count one more.  Returns 1; 0: it is not counted; or, nothing counted, SB_ERR_LIMIT: the limit is reached,
 * SB_ERR_NOMEM: it should not be accepted. */
int sb_sources_enter(sb_sources *sources, const char *peer, size_t size) SB_MUST_CHECK;

/* The same above the limit, for one that was accepted elsewhere; never SB_ERR_LIMIT. */
int sb_sources_add(sb_sources *sources, const char *peer, size_t size) SB_MUST_CHECK;

/* Count one less, of one that was counted. */
void sb_sources_leave(sb_sources *sources, const char *peer, size_t size);

/* Another limit, 1 or more (else SB_ERR_INVALID); those that are open stay. */
int sb_sources_limit(sb_sources *sources, int32_t max);

/* How many are open from there. */
int sb_sources_open(const sb_sources *sources, const char *peer, size_t size);

/* How often sb_sources_enter has said no. */
uint64_t sb_sources_refused(const sb_sources *sources);

/* Which source was past the limit the last time: 16 bytes, as an address of IPv6.  Returns the bits of its prefix. */
int sb_sources_refused_last(const sb_sources *sources, char *key);

/*
 * ---- datagrams: many of one socket in one call
 *
 *     n = sb_datagrams_receive(table, fd, 64);
 *     for (i = 0; i < n; i++)
 *         sb_datagrams_get(table, i, &datagram) ...
 *     sb_datagrams_send(table, fd, indexes, answers, count, errors);
 *
 * A table is mapped memory, resident only as far as it is used.  What was received stays in it until the next
 * sb_datagrams_receive.  An answer leaves from the address that was asked, where the socket reports that (IP_PKTINFO
 * of ip(7), IPV6_RECVPKTINFO of RFC 3542).  Nothing waits, on sockets that block either.
 *
 * Each sender has a verdict of the caller's.  It is remembered for its host, for some 1,000 hosts; a host that was
 * forgotten is unknown again.  Whoever has no host (a Unix socket) is admitted.
 */
typedef struct sb_datagrams sb_datagrams;

#define SB_SENDER_UNKNOWN 0
#define SB_SENDER_ADMITTED 1
#define SB_SENDER_DENIED 2

#define SB_DATAGRAMS_LINES 1   /* a line ending is no part of the payload, and ends its answers as well */
#define SB_DATAGRAMS_CONTROL 2 /* there is room for control data, as for IP_PKTINFO */

#define SB_ERR_NO_NAME (-1) /* among errors of answers: the sender has no address */

typedef struct sb_datagram {
    const char *data;    /* payload of size bytes, and behind it `ending` bytes of a line ending */
    const char *name;    /* struct sockaddr of the sender, name_size bytes; 0: it has none */
    const char *control; /* what came with it (cmsg(3)), control_size bytes */
    size_t size;
    uint32_t ending, name_size, control_size;
    int32_t is_cut; /* it was longer than the table's max_bytes */
    int32_t verdict;
} sb_datagram;

/* Room for count datagrams (1 to 1024) of up to max_bytes (1 to 1 MiB).  NULL: no memory, or a number out of range. */
sb_datagrams *sb_datagrams_new(size_t count, size_t max_bytes, int flags) SB_MUST_CHECK;
void sb_datagrams_free(sb_datagrams *table); /* NULL does nothing */

/* Receive what has come, up to max datagrams or the table's count.  Returns how many, 1 or more; SB_ERR_AGAIN: none;
 * another class, with errno: the socket's error, as an ICMP message to an earlier answer; SB_ERR_INVALID. */
int sb_datagrams_receive(sb_datagrams *table, int fd, size_t max) SB_MUST_CHECK;

/* Say what is known of a datagram received last.  SB_ERR_INVALID: there is none with that index. */
int sb_datagrams_get(const sb_datagrams *table, size_t index, sb_datagram *datagram) SB_MUST_CHECK;

/* How many of those received last are whole and from an admitted sender, counted from the first one. */
size_t sb_datagrams_plain(const sb_datagrams *table);

/* Send count answers (up to the table's count), each to the datagram of an index.  One that fails keeps none of the
 * others: errors has an errno for each, 0 where it was sent, EMSGSIZE where it is longer than max_bytes,
 * SB_ERR_NO_NAME.  Returns how many were sent; SB_ERR_INVALID, nothing sent: an index that was not received. */
int sb_datagrams_send(sb_datagrams *table, int fd, const uint32_t *indexes, const sb_piece *answers, size_t count,
                      int32_t *errors) SB_MUST_CHECK;

/* Remember the verdict on the host of a datagram received last; none if it has no host. */
void sb_datagrams_judge(sb_datagrams *table, size_t index, int verdict);

/* Forget all verdicts; admits_all: of hosts, all are admitted without one. */
void sb_datagrams_forget(sb_datagrams *table, int admits_all);

/* Leave a sender with this port unknown, whatever its host is. */
void sb_datagrams_suspect(sb_datagrams *table, uint16_t port);

/* Send one answer later, by the name and the control data of its datagram.  0, or a class with errno. */
int sb_datagram_answer(int fd, const char *data, size_t size, const char *name, size_t name_size, const char *control,
                       size_t control_size) SB_MUST_CHECK;

/* The local address that a datagram was sent to, by its control data.  Returns its bytes: 4, 16, or 0: not reported. */
int sb_datagram_asked(const char *control, size_t size, char address[16]);

/*
 * ---- mux: many connections
 *
 *     while (sb_mux_wait(mux, -1) >= 0)              waits, receives, frames
 *         while (sb_mux_next(mux, &event, &data) > 0)    hands out what has happened
 *             ... sb_mux_send(mux, event.id, reply, size);
 *
 * A connection is a row of one table; its id is the row's number and, above it,
 * how often the row was used, so that an id that was kept reaches nobody else's
 * connection: it comes again after 2^31 connections at best, after some 250,000
 * in the largest table.  An idle connection owns its row and nothing else: input
 * is received into an arena shared by all, and a buffer is lent only to an
 * unfinished frame or to output that the kernel did not take.
 *
 * A call for a connection returns SB_ERR_GONE if there is none with that id, or it has closed, and SB_ERR_CLOSING
 * while it is closing; a call for an unknown group, SB_ERR_GONE.  Both, and SB_ERR_INVALID for a mux that is NULL,
 * are not repeated below; unless documented otherwise, the result is 0 otherwise.
 *
 * Where the bytes of an event are stays valid until the next sb_mux_wait or
 * sb_mux_receive that does not return at once because events are left.
 *
 * Deadlines apply to the data in the kernel, not to the caller's time: arrived data is received before any peer is
 * late, and after the caller itself was delayed, a few turns pass first.  They are checked while waiting and
 * receiving, in ticks of 250 ms.
 */
typedef struct sb_mux sb_mux;

/* Answers whole frames of one connection without an event: size bytes of them, as received, may be changed in
 * place.  Returns how many of these bytes are the reply. */
typedef size_t (*sb_serve)(char *data, size_t size);

#define SB_GROUP_MERGE 1    /* frames of several connections in one event, separated by parts */
#define SB_GROUP_ANNOUNCE 2 /* events for accepted, end of input, no frame, pause and resume of writing */
#define SB_GROUP_WIRE 0     /* frames are handed out as received, unless: */
#define SB_GROUP_KEPT 4     /* may have the rows that sb_mux_keep_rows keeps */
#define SB_GROUP_REPORTS_LINGERING 16 /* SB_EVENT_LINGERING for each that begins to linger */
#define SB_GROUP_LF 8       /* lines are handed out ended by LF alone, to be cut there and not by sb_frames_find */
#define SB_GROUP_PACKETS 32 /* of sockets that keep packets apart (SOCK_SEQPACKET of unix(7)); the framing is a prefix of
                             * 4 bytes in network byte order, which is not on the wire: each packet comes with one, and
                             * each frame sent is one packet, whole or not at all.  For recv(2) a packet of 0 bytes is an
                             * end of file: SO_PASSCRED is set on each socket, by which they differ; without it they do not */

#define SB_HIGH_WATER 65536     /* asyncio's */
#define SB_MAX_UNSENT 268435456 /* a large reply, not a leak */

/* What connections of one service have in common.  {0}: what has arrived is
 * handed out, no deadline, and what stands at each. */
typedef struct sb_group {
    sb_framing framing; /* any but DATAGRAM; a limit above 2 GiB is one of 2 GiB; RAW's 0 is 64 KiB */
    sb_serve serve;     /* answers frames in place of the caller (RAW and LINE); NULL: they are events */
    int32_t flags;      /* SB_GROUP_* */
    int64_t high_water; /* unsent bytes above which reading stops; it resumes at a quarter of it; 0: SB_HIGH_WATER */
    int64_t max_unsent; /* unsent bytes above which the connection is closed: SB_REASON_LIMIT; 0: SB_MAX_UNSENT */
    int64_t idle_ms;    /* nothing moved for so long: SB_REASON_IDLE_TIMEOUT; 0 never */
    int64_t frame_ms;   /* a frame not whole so long after its first byte: SB_REASON_FRAME_TIMEOUT; 0 never */
    int64_t stall_ms;   /* unsent bytes of which none left for so long: SB_REASON_WRITE_STALL; 0 never */
    int64_t linger_ms;  /* after our FIN, discard the peer's bytes for so long at most; 0: not at all */
    int64_t cost_ns;    /* what the caller is thought to take for a frame, until sb_mux_spent; 0: next to nothing */
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
    SB_EVENT_WRONG = 7,    /* the data of id is not a frame; detail: enum sb_reason.  It closes in the next turn; if
                            * it is paused by then, this is reported once more and it closes when it is read again */
    SB_EVENT_READY = 8,   /* of sb_mux_next alone: the watched descriptor detail is ready for size, SB_READ | SB_WRITE */
    SB_EVENT_LINGERING = 9 /* id is closing, all of its output and our FIN have left, and its peer's FIN is awaited
                            * (SB_GROUP_REPORTS_LINGERING); detail: enum sb_reason */
};

typedef struct sb_event {
    int32_t kind;
    int32_t id;
    int32_t group;
    int32_t detail; /* of FRAMES in the block: lines that ended in CR LF; of a merged run its first part */
    int64_t offset; /* of the frames in the arena; < 0: held block number -1 - offset (sb_mux_next says where) */
    int64_t size;   /* bytes of the frames, as received (see SB_GROUP_LF) */
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
    int32_t had;  /* sb_mux_changes: interest until now */
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
    int32_t closed; /* of these, ended but not reaped */
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
    int64_t idle_ms;    /* since bytes moved, either way */
    char peer[32];      /* struct sockaddr_in or _in6; peer_size 0: no name */
} sb_info;

#define SB_REASONS 17 /* how many of enum sb_reason there are */

/* What a reason says, as "reset by the peer"; never NULL. */
const char *sb_reason_text(int reason);

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

/* Make a mux of at most rows connections.  The tables are mapped at once and
 * touched as connections come.  epoll: 1 to wait here (Linux), 0 when the
 * caller learns readiness itself and calls sb_mux_receive.  NULL: errno. */
sb_mux *sb_mux_new(int32_t rows, int epoll);

/* Close every descriptor the mux owns and free it; NULL is allowed. */
void sb_mux_free(sb_mux *mux);

/* Add a group.  Returns its number (>= 0) or SB_ERR_NOMEM, SB_ERR_LIMIT; or
 * SB_ERR_INVALID: a framing that is none, that no stream can have, or not with
 * what serves it; flags, or what serves it, that are none; a number below 0. */
int sb_mux_group(sb_mux *mux, const sb_group *group) SB_MUST_CHECK;

/* Give a group up: its number may be the next group's.  Returns 0, or how many
 * of its connections have not ended, or not been reaped: it stays then, and
 * for the next try. */
int sb_mux_ungroup(sb_mux *mux, int group) SB_MUST_CHECK;

/* What a group's connections have done.  Reads every row.  Returns 0. */
int sb_mux_totals(const sb_mux *mux, int group, sb_totals *totals) SB_MUST_CHECK;

/* Connections of a group (-1: of all): which is one of SB_LIST_*; at most
 * max of them.  Returns how many. */
int sb_mux_list(const sb_mux *mux, int group, int which, int32_t *ids, int max) SB_MUST_CHECK;

/* Open connections of a group (-1: of all) whose peers have not sent anything,
 * and that nothing has moved for ms: the oldest ones, oldest first, at most
 * `max` (> 0), for which ids has room.  Reads every row.  Returns how many;
 * SB_ERR_INVALID: no mux, or max; SB_ERR_GONE: no such group. */
int sb_mux_silent(const sb_mux *mux, int group, int64_t ms, int32_t *ids, int max) SB_MUST_CHECK;

/* The maximum memory in bytes of buffers lent to all connections; a connection that would need more is closed:
 * SB_REASON_LIMIT.  0: no limit. */
int sb_mux_memory(sb_mux *mux, int64_t max);

/* Keep some rows for connections of groups with SB_GROUP_KEPT: to the others the
 * mux is full without them. */
int sb_mux_keep_rows(sb_mux *mux, int32_t rows);

/* errno of the last call that returned SB_ERR_FAULT (or stopped an accept). */
int sb_mux_errno(const sb_mux *mux);

/* The epoll descriptor, or -1: readable when sb_mux_wait would return. */
int sb_mux_fileno(const sb_mux *mux);

/* With epoll: report a descriptor of the caller's, such as a listening one, when it is
 * ready for mask; mask 0 ends that.  Returns 0 or SB_ERR_FAULT, SB_ERR_INVALID. */
int sb_mux_watch(sb_mux *mux, int fd, int mask) SB_MUST_CHECK;

/* What sb_mux_accept accepts into a group counts in a table of sources until it ends, is forgotten or gets another
 * peer; who is past the limit there is closed at once.  Before anything comes into the group (else SB_ERR_INVALID);
 * the table has to live as long as the group. */
int sb_mux_sources(sb_mux *mux, int group, sb_sources *sources);

/* From now on a group's frames are answered by another function, or (NULL) are events.
 * Returns 0, SB_ERR_GONE, or SB_ERR_INVALID: its framing cannot be answered so. */
int sb_mux_serve(sb_mux *mux, int group, sb_serve serve);

/* From now on a connection's frames are events of their own (apart 1), whatever answers those of its group, and are
 * never merged with those of others; or they are as its group's again (0).  The others are served as before.
 * Returns 0 or SB_ERR_GONE. */
int sb_mux_apart(sb_mux *mux, int id, int apart);

/* Accept up to max connections from a listening descriptor into group.
 * Connections that died in the queue are passed over (accept(2)).
 * Returns how many came.  *stopped (NULL: of no interest): 0, or the errno for which the listener had better pause
 * (EMFILE, ENFILE, ENOBUFS, ENOMEM), or SB_ERR_FULL. */
int sb_mux_accept(sb_mux *mux, int listener, int group, int max, int *stopped) SB_MUST_CHECK;

/* Take over a connected, non-blocking descriptor.  Returns its id (>= 0), or
 * SB_ERR_FULL, SB_ERR_FAULT, SB_ERR_INVALID (a descriptor below 0): the descriptor
 * then still is the caller's. */
int sb_mux_add(sb_mux *mux, int fd, int group) SB_MUST_CHECK;

/* The number of an id's row: 0 to rows - 1, another one for each connection that
 * has not been reaped, as an index of a table of the caller's. */
int sb_mux_row(const sb_mux *mux, int id);

/* Name the peer of a connection whose name the kernel does not know, such as a
 * pipe's or one behind a proxy: size bytes of struct sockaddr_in or _in6, 0 for
 * no name.  Returns 0, or SB_ERR_INVALID: no such name. */
int sb_mux_peer(sb_mux *mux, int id, const char *peer, size_t size) SB_MUST_CHECK;

/* Wait up to timeout_ms (-1: for ever), receive and frame; with epoll.  While
 * sb_mux_next has something left it returns at once and receives nothing.  Returns
 * how many things have happened, 0: none in time, or SB_ERR_FAULT. */
int sb_mux_wait(sb_mux *mux, int timeout_ms) SB_MUST_CHECK;

/* The same without epoll: of these n connections (id, mask), which are ready.
 * Whoever waits before it asks sb_mux_timeout first, and waits no longer. */
int sb_mux_receive(sb_mux *mux, const int32_t *ids, const int32_t *masks, int n) SB_MUST_CHECK;

/* Take what has happened, each thing once: 1, *event is filled in and *data is where
 * its frames are (NULL: it has none); 0: that was all.  Frames are those of one
 * connection, and of one that the caller has closed there is nothing but
 * SB_EVENT_LINGERING and SB_EVENT_CLOSED.  What sb_mux_accept, sb_mux_send and the others bring meanwhile
 * comes behind. */
int sb_mux_next(sb_mux *mux, sb_event *event, const char **data) SB_MUST_CHECK;

/* Send to one connection.  Returns how many bytes of its output wait for the kernel
 * now, 0: none; SB_ERR_CLOSING also behind sb_mux_shutdown; or why it has ended by
 * this: SB_ERR_RESET, _UNREACHABLE, or _LIMIT (max_unsent, sb_mux_memory). */
int64_t sb_mux_send(sb_mux *mux, int id, const char *data, size_t size) SB_MUST_CHECK;

/* Without epoll: what the caller must watch from now on, in sb_mux_readies;
 * clears the list.  Returns how many. */
int sb_mux_changes(sb_mux *mux);

/* Milliseconds until a turn has something to do, such as a deadline; -1: nothing. */
int sb_mux_timeout(sb_mux *mux);

/* Tell how long the caller was busy with what a group handed out in this turn: ns
 * nanoseconds.  The next turns hand out as much as takes 5 ms, groups and
 * connections in equal shares, and 8,192 frames of a group at most; the rest waits
 * its turn.  256 bytes count as a frame.  It need not be told where sb_counts.left
 * is 0 and 5 ms are far. */
int sb_mux_spent(sb_mux *mux, int group, int64_t ns);

/* Close gracefully: the output is sent, then FIN, then the peer's bytes are discarded until its FIN or linger_ms.
 * Nothing is handed out any more, and returned frames and incomplete input are dropped.  An invalid reason becomes
 * _CLOSED. */
int sb_mux_close(sb_mux *mux, int id, int reason);

/* Close every open connection gracefully. */
int sb_mux_close_all(sb_mux *mux, int reason);

/* End at once; TCP sends RST.  A reason that is none: _ABORTED. */
int sb_mux_abort(sb_mux *mux, int id, int reason);

/* Return frames of this turn that were not handled, size bytes of them as they were handed out (without
 * SB_GROUP_LF, if they are lines).  They are framed again, before all later data, in the next turn in which the
 * connection is read.  Without memory for them: SB_REASON_LIMIT. */
int sb_mux_unread(sb_mux *mux, int id, const char *data, size_t size, int64_t frames);

/* The unfinished frame of a connection: *size bytes, NULL and 0 when there is
 * none.  Valid until the next turn, sb_mux_unread or sb_mux_framing. */
const char *sb_mux_unfinished(const sb_mux *mux, int id, size_t *size);

/* From now on, cut the connection's input by another framing than its group's,
 * beginning with what is unfinished; frames that were handed out already are
 * first given back.  What was wrong by the framing until now is wrong no more.
 * Returns 0, or SB_ERR_INVALID as sb_mux_group. */
int sb_mux_framing(sb_mux *mux, int id, const sb_framing *framing) SB_MUST_CHECK;

#define SB_MOVED_ENDED 1    /* the peer's FIN has come */
#define SB_MOVED_FINISHED 2 /* our FIN is sent */
#define SB_MOVED_SHUTDOWN 4 /* our FIN follows the unsent output */
#define SB_MOVED_PAUSED 8   /* sb_mux_pause */
#define SB_MOVED_HIGH 16    /* not read until unsent bytes are down to low */
#define SB_MOVED_FRAMED 32  /* sb_mux_framing was called: the caller calls it again */

/* A connection on its way to another mux.  Times are those of CLOCK_MONOTONIC. */
typedef struct sb_moved {
    int32_t flags; /* SB_MOVED_* */
    int32_t high, low;
    uint32_t peer_size;
    int64_t received, sent, frames;
    int64_t opened_ms;
    int64_t moved_ms;   /* the last byte in or out */
    int64_t framing_ms; /* the first byte of unframed input */
    int64_t leaving_ms; /* the last progress of unsent output */
    int64_t in_size;    /* bytes that are not framed */
    int64_t out_size;   /* bytes that are not sent */
    char peer[32];      /* as in sb_info */
} sb_moved;

/* Read a connection out, which goes on all the same; its descriptor is that of
 * sb_mux_info.  *in and *out are valid until the next turn.  Call it between two
 * turns, with every event answered.  Returns 0, or SB_ERR_INVALID: it has a filter. */
int sb_mux_export(const sb_mux *mux, int id, sb_moved *moved, const char **in, const char **out) SB_MUST_CHECK;

/* Take a connection over that was read out of another mux: as sb_mux_add, but it
 * is not told of, and has not come in the sense of sb_totals.  What is not framed
 * is framed in the next turn.  Returns its id (>= 0), or SB_ERR_FULL, SB_ERR_FAULT,
 * SB_ERR_NOMEM, SB_ERR_LIMIT (memory), SB_ERR_INVALID (what sb_mux_export would not
 * write; a descriptor or group as for sb_mux_add): the descriptor then still is
 * the caller's. */
int sb_mux_import(sb_mux *mux, int fd, int group, const sb_moved *moved, const char *in, const char *out) SB_MUST_CHECK;

/* What stands between the network and the frames of those connections that sb_mux_filter is called for, such as TLS.
 * Its functions call no function of the mux.  Bytes are counted as the caller sees them; unsent ones as the network does. */
typedef struct sb_filter {
    void *context;
    /* Returns how many bytes of plain text, at most room, it has written to plain, from size bytes that have come (0:
     * from what it has); or SB_ERR_END: the peer sends no more; or SB_ERR_RESET: what it has sent is wrong.  *then
     * (0): SB_FILTER_*. */
    int64_t (*open)(void *context, int32_t id, const char *data, size_t size, char *plain, size_t room, int32_t *then);
    /* Returns how many bytes, at *sealed until the next call, go to the network for size bytes of output, or for
     * what the filter itself has to send (0 bytes); what: SB_SEAL_*, or 0.  Below 0: the connection ends. */
    int64_t (*seal)(void *context, int32_t id, const char *data, size_t size, int32_t what, const char **sealed);
} sb_filter;

#define SB_FILTER_MORE 1 /* open has more to tell, in the next turn */
#define SB_FILTER_SEND 2 /* the filter itself has something to send */
#define SB_SEAL_MORE 1   /* more output follows at once: it may wait for it */
#define SB_SEAL_END 2    /* our FIN goes behind this */

/* The filter of a mux.  Returns 0, SB_ERR_NOMEM, or SB_ERR_INVALID: it has no function. */
int sb_mux_set_filter(sb_mux *mux, const sb_filter *filter) SB_MUST_CHECK;

/* From now on a connection's bytes go through the filter, which is asked for what it has in the next turn in which it
 * is read: one that has just come, or that is paused.  Returns 0; SB_ERR_MALFORMED: there is input that was not handed
 * out; SB_ERR_AGAIN: something is unsent; SB_ERR_CLOSING also when its peer's end has come; SB_ERR_INVALID: the mux
 * has no filter, or the connection has it. */
int sb_mux_filter(sb_mux *mux, int id) SB_MUST_CHECK;

/* Judge a connection by no deadline but that of its closing (resting 1), for its
 * peer cannot be heard: somebody else has it meanwhile, who has a deadline of his
 * own; or by all of them again (0), which begin anew. */
int sb_mux_rest(sb_mux *mux, int id, int resting);

/* Close a connection without a shutdown, because it continues elsewhere: there is no event, and it does not count
 * as closed. */
int sb_mux_forget(sb_mux *mux, int id);

/* In a forked process: close the descriptors of all connections, also of those that have just closed, without a
 * shutdown, because the parent continues to use them.  The mux can only be freed then. */
int sb_mux_leave(sb_mux *mux);

/* FIN after the output; receiving continues. */
int sb_mux_shutdown(sb_mux *mux, int id);

/* Pause receiving from a connection (paused 1), or resume (0). */
int sb_mux_pause(sb_mux *mux, int id, int paused);

#define SB_AT_ONCE (-1)

/* Water marks for one connection in place of its group's: at more than high
 * unsent bytes reading stops, at low or fewer it goes on.  Where more is unsent already
 * it stops at once.  high 0: its group's; low 0: a quarter of high.  SB_AT_ONCE: no
 * bytes; with it twice, SB_EVENT_RESUME comes as soon as nothing is unsent.
 * Returns 0, or SB_ERR_INVALID: another number below 0, or low above high. */
int sb_mux_water(sb_mux *mux, int id, int64_t high, int64_t low) SB_MUST_CHECK;

/* Bytes written for id that the kernel has not taken yet. */
int64_t sb_mux_unsent(const sb_mux *mux, int id);

/* What is known of a connection, also when it has just ended. */
int sb_mux_info(const sb_mux *mux, int id, sb_info *info) SB_MUST_CHECK;

/*
 * ---- the same for callers that read events from memory
 *
 * An event of a merged run (SB_GROUP_MERGE) is of several connections, id -1, and
 * told apart by parts.  Which events were read is not known here: those of a turn
 * are over when the next one begins.  What sb_mux_accept, sb_mux_add, sb_mux_send,
 * sb_mux_close and the others bring between two turns stands in front of the next
 * turn's, which then does not wait; who has read it already says so by
 * sb_mux_reap.  Events, parts, the arena and the rows and descriptors of
 * connections whose end was told stay as they are until the next turn or
 * sb_mux_reap.
 */

#define SB_ARENA 524288 /* bytes received in one turn from all */

/* Arrays and numbers of the mux, at the same place as long as it lives; SB_ARENA bytes are the arena's. */
const sb_counts *sb_mux_counts(const sb_mux *mux);
const sb_event *sb_mux_events(const sb_mux *mux);
const sb_part *sb_mux_parts(const sb_mux *mux);
const sb_ready *sb_mux_readies(const sb_mux *mux);
const char *sb_mux_arena(const sb_mux *mux);

/* A held block of this turn's events, valid until the next turn. */
const char *sb_mux_held(const sb_mux *mux, int64_t block);

/* As sb_mux_wait and sb_mux_receive.  Returns events + ready descriptors. */
int sb_mux_turn(sb_mux *mux, int timeout_ms) SB_MUST_CHECK;
int sb_mux_turn_of(sb_mux *mux, const int32_t *ids, const int32_t *masks, int n) SB_MUST_CHECK;

/* Every event has been read: the descriptors of connections that have ended are closed, and their rows are free. */
int sb_mux_reap(sb_mux *mux);

/* Answer an event of FRAMES with a block of exactly one line for each frame.
 * Returns 0, or SB_ERR_MISMATCH when it is not that (nothing was sent). */
int sb_mux_reply_lines(sb_mux *mux, int event, const char *block, size_t size) SB_MUST_CHECK;

/* Answer an event of one frame with size bytes and an ending, which is short, behind them.
 * Returns 0, or SB_ERR_MISMATCH when it has another number of frames (nothing was sent). */
int sb_mux_reply_line(sb_mux *mux, int event, const char *line, size_t size, const char *ending,
                      size_t ending_size) SB_MUST_CHECK;

/* The same with the size of each frame's reply: lengths has one for each. */
int sb_mux_reply_lengths(sb_mux *mux, int event, const char *block, size_t size, const uint32_t *lengths) SB_MUST_CHECK;

/* Send to n connections: sizes[i] bytes of block for ids[i], one after the
 * other, up to a size below 0.  What the kernel does not take is kept.  Ids that
 * have ended are passed over. */
int sb_mux_write(sb_mux *mux, int n, const int32_t *ids, const int64_t *sizes, const char *block);

/* Answer no more than the first so many frames of an event of this turn: the
 * others are given back, each to its connection.  The event then is of these
 * frames alone.  They are counted by the framing that the connection has now: cut
 * first, then sb_mux_framing.  Returns 0, or SB_ERR_MISMATCH: it has not so many. */
int sb_mux_cut(sb_mux *mux, int event, int64_t frames) SB_MUST_CHECK;

/* </cffi> */

#ifdef SB_SHARED
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
