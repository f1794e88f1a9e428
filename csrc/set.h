/*
 * set.h - what the parts of sb_set know of each other; not installed
 *
 *   state.c         the life of a connection, as one table
 *   set.c           the table of connections, its events and its lent buffers
 *   set_accept.c    how a connection begins
 *   set_life.c      how it goes on and ends
 *   set_receive.c   a turn: wait, receive
 *   set_frame.c     what was received, cut into frames and handed out
 *   set_move.c      a connection that goes on in another set, or by another descriptor
 *   set_unread.c    frames given back, and another framing in mid-connection
 *   set_groups.c    groups, what their connections have done, and which these are
 *   set_send.c      replies, and output that the kernel did not take
 *   deadline.c      a timing wheel over the rows
 */
#ifndef SOCKBUF_SET_H
#define SOCKBUF_SET_H

#include "sockbuf.h"

#include <sys/socket.h>

enum {
    SB_RECEIVE = 65536,     /* bytes asked of one connection in one turn */
    SB_SMALL_TAIL = 2048,   /* an unfinished frame this small is copied into the arena again */
    SB_OWN_EVENT = 8192,    /* a single frame from this size on is not merged */
    SB_HELD = 64,           /* blocks of lent buffers handed out in one turn */
    SB_POOL = 64,           /* buffers kept for the next to need one ... */
    SB_POOL_BYTES = 262144, /* ... unless they grew past this */
    SB_EVENTS_A_ROW = 8,    /* a row makes fewer events in a turn: see event() */
    SB_GROUPS = 65535,
    SB_ROWS = 1 << 23,      /* the tables of so many can be addressed with 32 bits */
    SB_FRAME_MAX = INT32_MAX - 1, /* payload of a frame; an unfinished line is one byte longer at most */
    SB_BATCH = 512,         /* ready descriptors taken from epoll in one turn */
    SB_WHEEL = 256,         /* slots of the wheel, 64 s in all */
    SB_TICK_MS = 250,
    SB_DEADLINES = 256      /* connections let go at their deadline in one turn */
};

#define SB_FOREVER_MS (INT64_MAX / 4)

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
    ROW_CLOSED,       /* ended; row and descriptor stay until the turn is settled */
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
    FLAG_FRAMED = 64   /* has a framing of its own, in set->framings */
};

enum {
    AGAIN_WANTED = 1, /* `in` has bytes that its framing has not seen */
    AGAIN_LISTED = 2  /* is in set->again, also when the row is used again */
};

struct row {
    int32_t fd;
    int32_t next;         /* in the free list or the list of the dead */
    int32_t error;
    uint16_t group;
    uint8_t state;
    uint8_t flags;
    uint8_t reason;
    uint8_t interest;     /* what epoll or the caller has been told */
    uint8_t peer_size;
    uint8_t again;
    int32_t before, after; /* neighbours in the wheel; -1: none */
    int16_t slot;          /* of the wheel; -1: in none */
    int32_t high, low;     /* water marks */
    sb_buffer *in, *out;
    int64_t received, sent, frames;
    int64_t opened_ms;
    int64_t moved_ms;    /* the last byte in or out */
    int64_t framing_ms;  /* the first byte of the unfinished frame in `in` */
    int64_t leaving_ms;  /* the last progress of the output in `out` */
    int64_t deadline_ms; /* of lingering */
    char peer[28];
    int32_t dots;        /* sb_scan.dots of the unfinished frame; sb_buffer_scanned of `in` is its searched */
};

/* A ready connection of this turn; ready 0: looked at. */
struct item {
    int32_t id;
    uint16_t group;
    uint16_t ready;
};

/* What the connections of a group have done that have ended; given_up: its number is free. */
struct tally {
    int given_up;
    sb_totals ended;
};

struct wheel {
    int32_t head[SB_WHEEL];
    uint64_t used[SB_WHEEL / 64]; /* a bit for each slot that is not empty */
    int64_t tick;                 /* everything before this tick was looked at */
};

struct sb_set {
    int epoll;
    int error;
    int32_t rows_size, rows_used, free_rows, dead_rows;
    struct row *rows;
    sb_group *groups;
    struct tally *tallies; /* one for each group */
    int group_count;
    int given_up; /* groups whose number is free */
    int64_t memory_limit;
    int64_t now_ms;
    int32_t run;          /* index of the merged event that may still grow; -1: none */
    int32_t part_count;
    int32_t next_first;   /* id to begin with, because the arena was full before it */
    int32_t doomed_count; /* connections that end after the replies of this turn */
    size_t arena_used;
    char *arena;
    sb_event *events;
    sb_part *parts;
    sb_ready *readies;
    int32_t *changed;
    int32_t *doomed;
    int32_t *again;       /* connections whose `in` is framed in the next turn */
    int32_t again_count;
    sb_framing *framings; /* of rows with FLAG_FRAMED */
    struct item *items;
    sb_counts counts;
    sb_buffer *held[SB_HELD];
    int held_count;
    sb_buffer *pool[SB_POOL];
    int pool_count;
    struct wheel wheel;
};

/* buffer.c: as sb_buffer_reserve; the buffer owns no more than most bytes
 * (which are no fewer than it owns now) in place of its limit. */
int sb__buffer_reserve(sb_buffer *buffer, size_t want, size_t most, char **room);

/* state.c */
enum state sb__next(enum state state, enum state_event event);
int sb__may(const struct row *row, int what);

static inline int64_t sb__lesser(int64_t number, int64_t most)
{
    return number < most ? number : most;
}

/* set.c */
void sb__now(sb_set *set);
int sb__can_frame(const sb_framing *framing);
sb_framing sb__bounded(const sb_framing *framing);
struct row *sb__row(const sb_set *set, int id);
void sb__event(sb_set *set, int kind, int id, int detail);
sb_buffer *sb__lend(sb_set *set);
void sb__give_back(sb_set *set, sb_buffer *buffer);
int sb__reserve(sb_set *set, sb_buffer *buffer, size_t want, char **room);
int sb__append(sb_set *set, sb_buffer *buffer, const char *data, size_t size);
const sb_framing *sb__framing_of(const sb_set *set, const struct row *row);
int sb__wanted(const struct row *row);
void sb__update_interest(sb_set *set, struct row *row);
void sb__bury(sb_set *set, struct row *row);
void sb__kill(sb_set *set, struct row *row, int reason, int error);
void sb__kill_for(sb_set *set, struct row *row, long code, int error);
void sb__step(sb_set *set, struct row *row, enum state_event event);
void sb__begin_close(sb_set *set, struct row *row, int reason);
void sb__park(sb_set *set, struct row *row); /* with epoll, as the next */
int sb__tell_epoll(sb_set *set, struct row *row, int operation, int interest);

/* set_accept.c: a row for a descriptor, which is waited for from now on */
int sb__enter(sb_set *set, int fd, int group, struct row **entered);

/* A descriptor, non-blocking; or nobody is there, or comes in any more, for *stopped, an errno;
 * or one was lost on the way, which is its own affair. */
enum { SB_NOBODY = -1, SB_LOST = -2 };
int sb__accept(int listener, struct sockaddr_storage *peer, socklen_t *size, int *stopped);

/* set_frame.c */
void sb__frame_arena(sb_set *set, struct row *row, size_t tail, size_t n);
void sb__frame_buffer(sb_set *set, struct row *row);
void sb__frame_raw(sb_set *set, struct row *row, size_t n);
void sb__doom(sb_set *set, struct row *row);

/* set_groups.c */
void sb__count_end(sb_set *set, const struct row *row);

/* set_unread.c */
void sb__look_again(sb_set *set, struct row *row);
void sb__run_again(sb_set *set);

/* stream.c */
int sb__class_of(int error);

/* set_send.c */
void sb__send(sb_set *set, struct row *row, const char *data, size_t size);
void sb__send_more(sb_set *set, struct row *row);
void sb__output_done(sb_set *set, struct row *row);

/* deadline.c */
void sb__wheel_init(struct wheel *wheel, int64_t now_ms);
void sb__deadline_set(sb_set *set, struct row *row, int64_t deadline_ms);
void sb__deadline_sooner(sb_set *set, struct row *row);
void sb__deadline_clear(sb_set *set, struct row *row);
void sb__deadlines_run(sb_set *set);
int64_t sb__deadline_of(const sb_set *set, const struct row *row);
void sb__deadline_reached(sb_set *set, struct row *row);
void sb__frame_goes_on(sb_set *set, struct row *row);

#endif
