/* SPDX-License-Identifier: MIT */
/*
 * mux_life - state changes and the end of a connection
 *
 * DESCRIPTION
 *   What is waited for and how closing proceeds are read from the state alone
 *   (state.c).  Every way to end leads through
 *   sb__kill, which gives the one reason.
 */
#include "mux.h"

#include <errno.h>
#if SB_HAS_EPOLL
#include <sys/epoll.h>
#endif

/* ---- interest: the events to wait for, from the state alone */

int sb__wanted(const struct row *row)
{
    int held_up = sb__may(row, MAY_DELIVER) && row->flags & (FLAG_PAUSED | FLAG_HIGH);
    int receive = sb__may(row, MAY_RECEIVE) && !held_up;
    int send = sb__may(row, MAY_SEND) && row->out != NULL;
    return (receive ? SB_READ : 0) | (send ? SB_WRITE : 0);
}

#if SB_HAS_EPOLL
int sb__set_epoll(sb_mux *mux, struct row *row, int operation, int interest)
{
    struct epoll_event event = {.events = 0, .data = {.u64 = (uint64_t)row->slot.id}};
    event.events = (interest & SB_READ ? (uint32_t)EPOLLIN : 0) | (interest & SB_WRITE ? (uint32_t)EPOLLOUT : 0);
    return epoll_ctl(mux->epoll, operation, row->fd, &event);
}

static void update_epoll(sb_mux *mux, struct row *row, int interest)
{
    int operation = EPOLL_CTL_MOD;
    if (row->state == ROW_CLOSED)
        return; /* close(2) takes it out */
    if (row->flags & FLAG_PARKED) {
        operation = EPOLL_CTL_ADD;
        row->flags &= (uint8_t)~FLAG_PARKED;
    }
    if (sb__set_epoll(mux, row, operation, interest) < 0)
        sb__kill(mux, row, SB_REASON_LIMIT, errno);
}

void sb__park(sb_mux *mux, struct row *row)
{
    if (sb__set_epoll(mux, row, EPOLL_CTL_DEL, 0) == 0)
        row->flags |= FLAG_PARKED;
}
#endif

void sb__update_interest(sb_mux *mux, struct row *row)
{
    int interest = sb__wanted(row);
    if (interest == row->interest)
        return;
#if SB_HAS_EPOLL
    if (mux->epoll >= 0) {
        row->interest = (uint8_t)interest;
        update_epoll(mux, row, interest);
        return;
    }
#endif
    if (!(row->flags & FLAG_CHANGED)) {
        row->flags |= FLAG_CHANGED;
        mux->changed[mux->counts.changes++] = sb__number(mux, row);
    }
}

int sb_mux_changes(sb_mux *mux)
{
    SB_CHECKED(mux);
    int n = 0;
    if (mux == NULL)
        return SB_ERR_INVALID;
    for (int i = 0; i < mux->counts.changes; i++) {
        struct row *row = &mux->rows[mux->changed[i]];
        int interest = sb__wanted(row);
        row->flags &= (uint8_t)~FLAG_CHANGED;
        if (interest == row->interest)
            continue;
        mux->readies[n++] = (sb_ready){.id = row->slot.id, .fd = row->fd, .had = row->interest, .mask = interest};
        row->interest = (uint8_t)interest;
    }
    mux->counts.changes = 0;
    return n;
}

/* ---- the end of a connection */

/* Row and descriptor stay until sb_mux_reap. */
void sb__bury(sb_mux *mux, struct row *row)
{
    row->state = ROW_CLOSED;
    sb__leave_source(mux, row);
    sb__wheel_remove(&mux->wheel, sb__number(mux, row));
    sb__update_interest(mux, row);
    row->slot.next = mux->dead_rows;
    mux->dead_rows = sb__number(mux, row);
    mux->counts.closed++;
}

void sb__kill(sb_mux *mux, struct row *row, int reason, int error)
{
    if (row->state != ROW_LINGERING) /* all output was sent: the first reason is kept */
        row->reason = (uint8_t)reason;
    row->error = error;
    sb__count_end(mux, row);
    sb__bury(mux, row);
    sb__event(mux, SB_EVENT_CLOSED, row, row->reason);
}

void sb__kill_for(sb_mux *mux, struct row *row, long code, int error)
{
    int reason = code == SB_ERR_UNREACHABLE ? SB_REASON_UNREACHABLE
        : code == SB_ERR_NOMEM || code == SB_ERR_LIMIT ? SB_REASON_LIMIT
                                                       : SB_REASON_RESET;
    sb__kill(mux, row, reason, error);
}

/* Move on in the table, and do what a state begins with. */
void sb__step(sb_mux *mux, struct row *row, enum state_event event)
{
    enum state next = sb__next(row->state, event);
    if (next == row->state)
        return;
    if (next == ROW_CLOSED) {
        sb__kill(mux, row, row->reason, 0);
        return;
    }
    if (next == ROW_LINGERING) {
        int64_t linger = mux->groups[row->group].linger_ms;
        if (event == EVENT_FLUSHED && shutdown(row->fd, SHUT_WR) < 0) {
            sb__kill_for(mux, row, SB_ERR_RESET, errno);
            return;
        }
        if (linger <= 0) {
            sb__kill(mux, row, row->reason, 0);
            return;
        }
        row->leaving_ms = mux->now_ms + linger;
    }
    row->state = (uint8_t)next;
    sb__deadline_sooner(mux, row);
    sb__update_interest(mux, row);
    if (next == ROW_LINGERING && mux->groups[row->group].flags & SB_GROUP_REPORTS_LINGERING)
        sb__event(mux, SB_EVENT_LINGERING, row, row->reason);
}

/* Hand out nothing from now on: incomplete input is dropped. */
void sb__begin_close(sb_mux *mux, struct row *row, int reason)
{
    if (!sb__may(row, MAY_CLOSE))
        return;
    row->reason = (uint8_t)reason;
    row->again &= (uint8_t)~AGAIN_INPUT;
    sb__drop_tail(mux, row);
    sb__seal_end(mux, row);
    if (row->state == ROW_CLOSED)
        return; /* there was no memory for what is to be sent at the end */
    sb__step(mux, row, EVENT_CLOSE);
    if (row->out == NULL)
        sb__step(mux, row, EVENT_FLUSHED);
}

/* Its caller closes it, and hears of its end and of nothing else; also where it has ended, and was to be told of more. */
static void silence(const sb_mux *mux, int id)
{
    struct row *row = sb__row(mux, id);
    if (row != NULL)
        row->again |= AGAIN_SILENT;
}

int sb_mux_close(sb_mux *mux, int id, int reason)
{
    SB_CHECKED(mux);
    struct row *row;
    int code = sb__open(mux, id, &row);
    silence(mux, id);
    if (code < 0)
        return code;
    sb__now(mux); /* a handler may have run since the turn began; so in all that is called from outside */
    sb__begin_close(mux, row, sb__reason_or(reason, SB_REASON_CLOSED));
    return 0;
}

int sb_mux_close_all(sb_mux *mux, int reason)
{
    SB_CHECKED(mux);
    if (mux == NULL)
        return SB_ERR_INVALID;
    sb__now(mux);
    for (int32_t i = 0; i < mux->slots.used; i++)
        (void)sb_mux_close(mux, mux->rows[i].slot.id, reason);
    return 0;
}

int sb_mux_abort(sb_mux *mux, int id, int reason)
{
    SB_CHECKED(mux);
    struct row *row;
    int code = sb__live(mux, id, &row);
    silence(mux, id);
    if (code < 0)
        return code;
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(row->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    row->reason = (uint8_t)sb__reason_or(reason, SB_REASON_ABORTED);
    sb__kill(mux, row, row->reason, 0);
    return 0;
}

int sb_mux_shutdown(sb_mux *mux, int id)
{
    SB_CHECKED(mux);
    struct row *row;
    int code = sb__open(mux, id, &row);
    if (code < 0 || !sb__may(row, MAY_WRITE))
        return code < 0 ? code : SB_ERR_CLOSING;
    sb__now(mux);
    sb__seal_end(mux, row);
    if (row->state == ROW_CLOSED)
        return SB_ERR_LIMIT; /* likewise */
    row->flags |= FLAG_SHUTDOWN;
    if (row->out == NULL)
        sb__output_done(mux, row);
    return 0;
}

int sb_mux_pause(sb_mux *mux, int id, int paused)
{
    SB_CHECKED(mux);
    struct row *row;
    int code = sb__open(mux, id, &row);
    if (code < 0)
        return code;
    sb__now(mux);
    int was_paused = row->flags & FLAG_PAUSED;
    row->flags = (uint8_t)(paused ? row->flags | FLAG_PAUSED : row->flags & ~FLAG_PAUSED);
    if (was_paused && !paused)
        sb__frame_goes_on(mux, row);
    sb__update_interest(mux, row);
    return 0;
}

static int64_t mark_or(int64_t mark, int64_t otherwise)
{
    return mark == 0 ? otherwise : mark == SB_AT_ONCE ? 0 : mark;
}

int sb_mux_water(sb_mux *mux, int id, int64_t high, int64_t low)
{
    SB_CHECKED(mux);
    struct row *row = sb__row(mux, id);
    if (row == NULL)
        return SB_ERR_GONE;
    high = mark_or(high, mux->groups[row->group].high_water);
    low = mark_or(low, high / 4);
    if (low < 0 || low > high)
        return SB_ERR_INVALID;
    row->high = high > INT32_MAX ? INT32_MAX : (int32_t)high;
    row->low = low > INT32_MAX ? INT32_MAX : (int32_t)low;
    if (sb__may(row, MAY_WRITE))
        sb__note_high(mux, row);
    return 0;
}
