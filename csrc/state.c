/* SPDX-License-Identifier: MIT */
/*
 * state - the life of a connection, as one table
 *
 *                    END            FIN            CLOSE          FLUSHED
 *   OPEN             HALF_REMOTE    HALF_LOCAL     DRAINING       -
 *   HALF_REMOTE      -              FINISHED       DRAINING_END   -
 *   HALF_LOCAL       FINISHED       -              LINGERING      -
 *   FINISHED         -              -              CLOSED         -
 *   DRAINING         DRAINING_END   -              -              LINGERING
 *   DRAINING_END     -              -              -              CLOSED
 *   LINGERING        CLOSED         -              -              -
 *
 *   END      the peer's end of file was received
 *   FIN      our FIN was sent, the caller goes on reading
 *   CLOSE    the caller, a limit or the stop of the daemon ends it in order
 *   FLUSHED  a closing connection has nothing unsent (any more)
 *
 *   An error, an abort or a deadline leads from every state to CLOSED.  What a
 *   state means for input and output stands below, and nowhere else.
 */
#include "mux.h"

#define STAY(s) [EVENT_END] = s, [EVENT_FIN] = s, [EVENT_CLOSE] = s, [EVENT_FLUSHED] = s

static const uint8_t table[ROW_STATES][ROW_EVENTS] = {
    [ROW_FREE] = {STAY(ROW_FREE)},
    [ROW_OPEN] = {[EVENT_END] = ROW_HALF_REMOTE, [EVENT_FIN] = ROW_HALF_LOCAL, [EVENT_CLOSE] = ROW_DRAINING,
                  [EVENT_FLUSHED] = ROW_OPEN},
    [ROW_HALF_REMOTE] = {[EVENT_END] = ROW_HALF_REMOTE, [EVENT_FIN] = ROW_FINISHED, [EVENT_CLOSE] = ROW_DRAINING_END,
                         [EVENT_FLUSHED] = ROW_HALF_REMOTE},
    [ROW_HALF_LOCAL] = {[EVENT_END] = ROW_FINISHED, [EVENT_FIN] = ROW_HALF_LOCAL, [EVENT_CLOSE] = ROW_LINGERING,
                        [EVENT_FLUSHED] = ROW_HALF_LOCAL},
    [ROW_FINISHED] = {[EVENT_END] = ROW_FINISHED, [EVENT_FIN] = ROW_FINISHED, [EVENT_CLOSE] = ROW_CLOSED,
                      [EVENT_FLUSHED] = ROW_FINISHED},
    [ROW_DRAINING] = {[EVENT_END] = ROW_DRAINING_END, [EVENT_FIN] = ROW_DRAINING, [EVENT_CLOSE] = ROW_DRAINING,
                      [EVENT_FLUSHED] = ROW_LINGERING},
    [ROW_DRAINING_END] = {[EVENT_END] = ROW_DRAINING_END, [EVENT_FIN] = ROW_DRAINING_END,
                          [EVENT_CLOSE] = ROW_DRAINING_END, [EVENT_FLUSHED] = ROW_CLOSED},
    [ROW_LINGERING] = {[EVENT_END] = ROW_CLOSED, [EVENT_FIN] = ROW_LINGERING, [EVENT_CLOSE] = ROW_LINGERING,
                       [EVENT_FLUSHED] = ROW_LINGERING},
    [ROW_CLOSED] = {STAY(ROW_CLOSED)},
};

static const uint8_t meaning[ROW_STATES] = {
    [ROW_OPEN] = MAY_DELIVER | MAY_RECEIVE | MAY_WRITE | MAY_SEND | MAY_CLOSE,
    [ROW_HALF_REMOTE] = MAY_WRITE | MAY_SEND | MAY_CLOSE,
    [ROW_HALF_LOCAL] = MAY_DELIVER | MAY_RECEIVE | MAY_CLOSE,
    [ROW_FINISHED] = MAY_CLOSE,
    [ROW_DRAINING] = MAY_RECEIVE | MAY_SEND,
    [ROW_DRAINING_END] = MAY_SEND,
    [ROW_LINGERING] = MAY_RECEIVE,
};

enum state sb__next(enum state state, enum state_event event)
{
    return (enum state)table[state][event];
}

int sb__may(const struct row *row, int what)
{
    return meaning[row->state] & what;
}
