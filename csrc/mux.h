/* SPDX-License-Identifier: MIT */
/*
 * mux.h - what the parts of sb_mux know of each other; not installed
 *
 *   state.c         the life of a connection, as one table
 *   mux.c           the table of connections, and its events
 *   mux_buffers.c   buffers, lent to what is not whole and to what is not sent
 *   mux_accept.c    how a connection begins
 *   mux_life.c      how it goes on and ends
 *   mux_late.c      when it is late
 *   mux_receive.c   a turn: wait, receive
 *   mux_filter.c    what stands between the network and the frames of some: TLS
 *   mux_next.c      what has happened, handed out one by one
 *   mux_share.c     how much of a turn is whose
 *   mux_frame.c     what was received, cut into frames and handed out
 *   mux_packets.c   sockets that keep packets apart
 *   mux_move.c      a connection that goes on in another mux
 *   mux_unread.c    frames given back, and another framing in mid-connection
 *   mux_groups.c    groups, what their connections have done, and which these are
 *   mux_check.c     what must be true between two calls, for tests
 *   mux_send.c      replies, and output that the kernel did not take
 */
#ifndef SOCKBUF_MUX_H
#define SOCKBUF_MUX_H

#include "base.h"
#include "buffer.h"
#include "stream.h"

enum {
    SB_RECEIVE = 65536,     /* bytes requested from one connection per turn */
    SB_SEALED = 49152,      /* the same through a filter: with the rest of a record of TLS (RFC 8446, 5.2) that had
                             * come before, no more than SB_RECEIVE of plain text */
    SB_SMALL_TAIL = 2048,   /* an unfinished frame this small is copied into the arena again */
    SB_OWN_EVENT = 8192,    /* a single frame from this size on is not merged */
    SB_HELD = 64,           /* blocks of lent buffers handed out in one turn */
    SB_POOL = 64,           /* buffers of each size kept for the next to need one: as many as are held in a turn */
    SB_POOL_SIZES = 17,     /* of 64 bytes, and doubled up to 4 MiB; larger ones are freed */
    SB_POOLED = 16 << 20,   /* bytes of all that are kept: past these the largest are freed */
    SB_EVENTS_A_ROW = 9,    /* a row makes fewer events in a turn: see event() */
    SB_GROUPS = 65535,
    SB_ROWS = 1 << 23,      /* the tables of so many can be addressed with 32 bits */
    SB_FRAME_MAX = (int)(SIZE_MAX / 16 < INT32_MAX - 1 ? SIZE_MAX / 16 : INT32_MAX - 1), /* payload of a frame; an
                             * unfinished line is one byte longer at most; SIZE_MAX / 16 as in framing.c */
    SB_BATCH = 512,         /* ready descriptors taken from epoll in one turn */
    SB_DEADLINES = 256,     /* connections whose deadline is checked per turn */
    SB_TURN_US = 5000,      /* of the caller's time with frames in one turn, for all groups together */
    SB_UNITS = 8192,        /* frames of one group in one turn, however fast its caller was with others */
    SB_UNIT_BYTES = 256,    /* so many bytes count as a frame */
    SB_FRAME_GUESS = 512,   /* bytes of a frame, until some have come: twice as much is received as a connection's share has ... */
    SB_LEAST_RECEIVE = 4096, /* ... but no less than this */
    SB_REMEMBERED = 65536,  /* frames of which the mean size is known */
    SB_LEAST_RAW = 64,      /* where nothing is framed, a byte may be a frame to the caller */
    SB_PACKET_PREFIX = 4,   /* bytes in front of a packet */
    SB_SERVED = 4 << 20     /* bytes of what needs no caller in one turn */
};

#define SB_NEVER INT64_MAX

/* The life of a connection; the table is in state.c. */
enum state {
    ROW_FREE,         /* no connection */
    ROW_OPEN,         /* frames are handed out, replies are taken */
    ROW_HALF_REMOTE,  /* the peer's FIN has come, replies are taken */
    ROW_HALF_LOCAL,   /* our FIN is sent, frames are handed out */
    ROW_FINISHED,     /* both; the caller has not closed yet */
    ROW_DRAINING,     /* closing: unsent output leaves, input is discarded */
    ROW_DRAINING_END, /* closing: unsent output leaves, the peer's FIN has come */
    ROW_LINGERING,    /* closing: our FIN is sent, input is discarded until the peer's */
    ROW_CLOSED,       /* ended; row and descriptor stay until sb_mux_reap */
    ROW_STATES
};

enum state_event { EVENT_END, EVENT_FIN, EVENT_CLOSE, EVENT_FLUSHED, ROW_EVENTS };

enum { MAY_DELIVER = 1, MAY_RECEIVE = 2, MAY_WRITE = 4, MAY_SEND = 8, MAY_CLOSE = 16 };

enum {
    FLAG_SHUTDOWN = 1, /* FIN is wanted behind the output */
    FLAG_PAUSED = 2,   /* the caller does not want input */
    FLAG_HIGH = 4,     /* more unsent than high water */
    FLAG_PARKED = 8,   /* taken out of epoll: nothing is wanted, yet it would report a hang-up */
    FLAG_CHANGED = 16, /* is in the list of changes, also when the row is used again */
    FLAG_DOOMED = 32,  /* ends in the next turn, after the replies of this one */
    FLAG_FRAMED = 64,  /* has a framing of its own, in mux->framings */
    FLAG_READY = 128   /* is in mux->items */
};

enum {
    AGAIN_WANTED = 1, /* `in` has bytes that its framing has not seen */
    AGAIN_LISTED = 2, /* is in mux->again, also when the row is used again */
    /* and nothing of framing, for which there was no bit left: */
    AGAIN_COUNTED = 4, /* it counts in its group's sources */
    AGAIN_SILENT = 8,  /* the caller has closed it; only its end is reported */
    AGAIN_RESTING = 16,  /* see sb_mux_rest */
    AGAIN_FILTERED = 32, /* see sb_mux_filter; also of packets, which are not framed as they come and go either */
    AGAIN_UNOPENED = 64, /* its filter may have input that has not come out of it, without its being ready */
    AGAIN_APART = 128,   /* see sb_mux_apart */
    AGAIN_INPUT = AGAIN_WANTED | AGAIN_UNOPENED
};

struct row {
    int32_t fd;
    struct slot slot;     /* its `next` is also that of the list of the dead, which are no free ones yet */
    int32_t error;
    uint16_t group;
    uint8_t state;
    uint8_t flags;
    uint8_t reason;
    uint8_t interest;     /* events registered in epoll or with the caller */
    uint8_t peer_size;
    uint8_t again;
    struct hook hook;     /* in the wheel */
    int32_t high, low;    /* water marks */
    uint32_t judged_at;   /* bytes to have been received, modulo 2^32, before it is late; 0: none waited when it was due */
    sb_buffer *in, *out;
    int64_t received, sent, frames;
    int64_t opened_ms;
    int64_t moved_ms;    /* the last byte in or out */
    int64_t framing_ms;  /* the first byte of the unfinished frame in `in` */
    int64_t leaving_ms;  /* the last progress of the output in `out`; while lingering, when that ends */
    char peer[28];
    int32_t dots;        /* sb_scan.dots of the unfinished frame; sb__buffer_scanned of `in` is its searched */
};

/* A ready connection of this turn; ready 0: looked at. */
struct item {
    int32_t number;       /* of its row */
    uint16_t group;
    uint16_t ready;
};

/* What a group may hand out in a turn: units, which are frames, or SB_UNIT_BYTES of them. */
struct share {
    int64_t cost_ns;      /* of a unit */
    int64_t reported_ns;  /* the last measurement reported by the caller */
    int64_t left;         /* units of this turn */
    int64_t units;        /* handed out, until the caller has reported its time */
    int64_t frames, size; /* of those handed out lately: how many, their bytes */
    int32_t each;         /* frames of one connection in this turn */
    int32_t ready;        /* connections of this turn; 0: the group has none in it */
    int32_t bytes;        /* received for these frames from one connection */
    int32_t raw_bytes;    /* the same where they are cut by nothing */
    int32_t next;         /* row that had to wait first; -1: none */
    int32_t link;         /* the next group of this turn */
};

/* What the connections of a group have done that have ended; given_up: its number is free. */
struct tally {
    int given_up;
    sb_sources *sources; /* in which connections that are accepted count; NULL: none */
    sb_totals ended;
    struct share share;
};

/* Buffers of one size, or up to twice that. */
struct pool {
    sb_buffer *kept[SB_POOL];
    int count;
};

/* What sb_mux_next takes next. */
struct next {
    int32_t event, ready;
    int32_t part;          /* of a merged event */
    int64_t offset, frames; /* of its parts before */
};

struct sb_mux {
    int epoll;
    int error;
    struct slots slots;   /* of rows */
    int32_t dead_rows;    /* the last one first ... */
    int32_t reported_dead; /* ... and from here on those whose end was delivered */
    int32_t reported;     /* events that the last turn has reported; those after them are newer */
    struct next next;
    struct row *rows;
    sb_group *groups;
    struct tally *tallies; /* one for each group */
    int group_count;
    int given_up; /* groups whose number is free */
    int32_t kept_rows;    /* for groups with SB_GROUP_KEPT */
    int64_t memory_limit;
    int64_t pooled;       /* bytes of buffers in the pools */
    int64_t now_ms;
    int64_t looked_ms;    /* when deadlines were looked at the last time ... */
    int64_t wait_ms;      /* ... and how long the caller was to wait since then; -1: for ever */
    struct stall stall;
    int32_t run;          /* index of the merged event that may still grow; -1: none */
    int32_t part_count;
    int32_t next_first;   /* row to begin with, because the arena was full before it */
    int32_t sharing;      /* the first group of this turn; -1: none */
    size_t served;        /* bytes in this turn of what needs no caller */
    int32_t doomed_count; /* connections that end after the replies of this turn */
    size_t arena_used;
    char *arena;
    sb_event *events;
    sb_part *parts;
    sb_ready *readies;
    int32_t *changed;
    int32_t *doomed;
    int32_t *again;       /* connections whose `in` is framed in the next turn, without their being ready */
    int32_t again_count;
    sb_framing *framings; /* of rows with FLAG_FRAMED */
    sb_filter filter;     /* of rows with AGAIN_FILTERED */
    char *sealed;         /* room for what it opens; NULL: there is no filter */
    struct item *items;
    sb_counts counts;
    sb_buffer *held[SB_HELD];
    int held_count;
    struct pool pools[SB_POOL_SIZES];
    struct wheel wheel;
#ifdef SB_DEBUG
    uint32_t checks;
#endif
};

/* First in each public function: when it returns, everything about the mux is as it must be (mux_check.c). */
#ifdef SB_DEBUG
void sb__check(sb_mux *const *mux);
int sb__has_time(const sb_mux *mux, const struct row *row); /* whether it hangs in the wheel, if it must */
#define SB_CHECKED(mux) __attribute__((cleanup(sb__check), unused)) sb_mux *checked_mux = (mux)
#else
#define SB_CHECKED(mux) (void)(mux)
#endif

/* state.c */
enum state sb__next(enum state state, enum state_event event);
int sb__may(const struct row *row, int what);

static inline int32_t sb__number(const sb_mux *mux, const struct row *row)
{
    return (int32_t)(row - mux->rows);
}

/* Of an id in an event of this turn: it is there. */
static inline struct row *sb__row_of(const sb_mux *mux, int32_t id)
{
    return &mux->rows[sb__slot_number(&mux->slots, id)];
}

/* mux.c */
void sb__now(sb_mux *mux);
struct row *sb__row(const sb_mux *mux, int id); /* NULL: none; it may have ended */
int sb__live(const sb_mux *mux, int id, struct row **row); /* 0, SB_ERR_GONE: none, or it has ended */
int sb__open(const sb_mux *mux, int id, struct row **row); /* the same, SB_ERR_CLOSING: it is being closed */
void sb__event(sb_mux *mux, int kind, const struct row *row, int detail);
void sb__begin_events(sb_mux *mux);
void sb__end_events(sb_mux *mux);

static inline void sb__next_event(sb_mux *mux)
{
    mux->next = (struct next){.event = mux->next.event + 1, .ready = mux->next.ready};
}

/* mux_buffers.c: a buffer with room for size bytes and no more than twice that, or NULL and why not */
sb_buffer *sb__lend(sb_mux *mux, size_t size, int *code);
void sb__give_back(sb_mux *mux, sb_buffer *buffer);
void sb__free_pools(sb_mux *mux);
int sb__room(sb_mux *mux, sb_buffer **buffer, size_t want, char **room); /* behind the data, which may move to another */
int sb__append(sb_mux *mux, sb_buffer **buffer, const char *data, size_t size);
void sb__consume(sb_mux *mux, sb_buffer *buffer, size_t size);

/* mux_life.c */
int sb__wanted(const struct row *row);
void sb__update_interest(sb_mux *mux, struct row *row);
void sb__bury(sb_mux *mux, struct row *row);
void sb__kill(sb_mux *mux, struct row *row, int reason, int error);
void sb__kill_for(sb_mux *mux, struct row *row, long code, int error);
void sb__step(sb_mux *mux, struct row *row, enum state_event event);
void sb__begin_close(sb_mux *mux, struct row *row, int reason);
void sb__park(sb_mux *mux, struct row *row); /* with epoll, as the next */
int sb__set_epoll(sb_mux *mux, struct row *row, int operation, int interest);

/* mux_share.c */
void sb__shares_begin(sb_mux *mux, int n); /* of the first n items */
void sb__shares_end(sb_mux *mux);
struct share sb__share_new(const sb_group *group);

static inline struct share *sb__share_of(const sb_mux *mux, const struct row *row)
{
    return &mux->tallies[row->group].share;
}

static inline void sb__share_charge(struct share *share, size_t frames, size_t bytes)
{
    int64_t units = (int64_t)(frames + bytes / SB_UNIT_BYTES);
    share->units += units;
    share->left -= units;
    share->frames += (int64_t)frames;
    share->size += (int64_t)bytes;
}

/* mux_late.c */
void sb__deadline_sooner(sb_mux *mux, struct row *row);
void sb__deadlines_run(sb_mux *mux);
void sb__frame_goes_on(sb_mux *mux, struct row *row);

/* So many bytes of the network's came for a row, and its filter made so many of them; see judged_at. */
void sb__judged_filtered(struct row *row, size_t came, size_t opened);

/* mux_accept.c: a row for a descriptor, which is waited for from now on */
int sb__enter(sb_mux *mux, int fd, int group, struct row **entered);
int sb__has_room(const sb_mux *mux, int group);

/* mux_frame.c */
void sb__frame_arena(sb_mux *mux, struct row *row, size_t tail, size_t n);
void sb__frame_buffer(sb_mux *mux, struct row *row);
void sb__frame_again(sb_mux *mux, struct row *row);
void sb__frame_raw(sb_mux *mux, struct row *row, size_t n);
void sb__drop_tail(sb_mux *mux, struct row *row);
void sb__doom(sb_mux *mux, struct row *row);

/* mux_filter.c: receive and open, as sb_receive, with errno; seal and send (SB_SEAL_*), which may end the row */
long sb__unseal(sb_mux *mux, struct row *row, char *plain, size_t room);
void sb__seal(sb_mux *mux, struct row *row, const char *data, size_t size, int what);
void sb__seal_end(sb_mux *mux, struct row *row); /* if it has a filter, and writes: it does no more */

/* mux_receive.c: what can be received behind so many bytes of a frame, and what it is worth to have room for */
size_t sb__expected(const struct row *row, size_t tail);
void sb__receive_failed(sb_mux *mux, struct row *row, long code); /* also at the end of input */

/* mux_packets.c: receive one, framed; send those that are framed in data: as sb_send, bytes of data that are done with */
void sb__begin_packets(struct row *row);
void sb__receive_framed(sb_mux *mux, struct row *row);
long sb__send_packets(struct row *row, const char *data, size_t size);

static inline int sb__has_packets(const sb_mux *mux, const struct row *row)
{
    return mux->groups[row->group].flags & SB_GROUP_PACKETS;
}

/* mux_groups.c */
int sb__can_frame(const sb_framing *framing);
sb_framing sb__bounded(const sb_framing *framing);
const sb_framing *sb__framing_of(const sb_mux *mux, const struct row *row);
int sb__is_group(const sb_mux *mux, int group);
void sb__count_end(sb_mux *mux, const struct row *row);
void sb__leave_source(sb_mux *mux, struct row *row); /* counted there or not */

/* mux_unread.c */
void sb__look_again(sb_mux *mux, struct row *row);

/* mux_send.c */
void sb__send(sb_mux *mux, struct row *row, const char *data, size_t size);
void sb__put(sb_mux *mux, struct row *row, const char *data, size_t size); /* as it goes to the network */
void sb__put_packets(sb_mux *mux, struct row *row, const char *data, size_t size); /* the same */
void sb__keep(sb_mux *mux, struct row *row, const char *data, size_t size); /* for later */
void sb__send_more(sb_mux *mux, struct row *row);
/* Stop receiving where more is unsent than high water, and say so once. */
void sb__note_high(sb_mux *mux, struct row *row);
void sb__output_done(sb_mux *mux, struct row *row);

#endif
