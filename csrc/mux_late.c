/* SPDX-License-Identifier: MIT */
/*
 * mux_late - when a connection is late
 *
 * DESCRIPTION
 *   Which deadline comes next is read from the state alone (state.c); the row
 *   hangs in the wheel for it.  Nobody is late for what the kernel has already.
 *   So deadlines come last in a turn, behind what was received; whoever is due is
 *   tried once more, and what waits for it in the kernel then is received in the
 *   next turns, but no more than that: a peer that goes on sending a frame's bytes
 *   one by one is late.
 *
 *   When the caller itself comes late, because a handler took long or the process
 *   was stopped, nobody is judged for a few turns: bytes may have to come through
 *   other sockets of the caller's before they are a row's.
 */
#include "mux.h"

struct due {
    int64_t at_ms;
    int reason; /* the reason when the deadline passes */
};

static struct due sooner(struct due due, int64_t since_ms, int64_t after_ms, int reason)
{
    return after_ms > 0 && since_ms + after_ms < due.at_ms ? (struct due){since_ms + after_ms, reason} : due;
}

static struct due due_of(const sb_mux *mux, const struct row *row)
{
    const sb_group *group = &mux->groups[row->group];
    struct due due = {SB_NEVER, SB_REASON_NONE};
    if (row->state == ROW_LINGERING)
        return (struct due){row->leaving_ms, row->reason};
    if (row->again & AGAIN_RESTING)
        return due;
    if (sb__may(row, MAY_SEND) && row->out != NULL)
        due = sooner(due, row->leaving_ms, group->stall_ms, SB_REASON_WRITE_STALL);
    /* A peer that is not read, because it does not read or has more than its share, cannot end its frame. */
    int waits_for_us = row->flags & (FLAG_HIGH | FLAG_PAUSED) || row->again & AGAIN_INPUT;
    if (sb__may(row, MAY_DELIVER) && row->in != NULL && !waits_for_us)
        due = sooner(due, row->framing_ms, group->frame_ms, SB_REASON_FRAME_TIMEOUT);
    if (sb__may(row, MAY_CLOSE))
        due = sooner(due, row->moved_ms, group->idle_ms, SB_REASON_IDLE_TIMEOUT);
    return due;
}

void sb__deadline_sooner(sb_mux *mux, struct row *row)
{
    int64_t at_ms = due_of(mux, row).at_ms;
    if (at_ms != SB_NEVER)
        sb__wheel_sooner(&mux->wheel, sb__number(mux, row), at_ms);
}

#ifdef SB_DEBUG
int sb__has_time(const sb_mux *mux, const struct row *row)
{
    return due_of(mux, row).at_ms == SB_NEVER || row->hook.slot >= 0;
}
#endif

/* A connection that was held up is read again: its frame has all of its time. */
void sb__frame_goes_on(sb_mux *mux, struct row *row)
{
    row->framing_ms = mux->now_ms;
    sb__deadline_sooner(mux, row);
    sb__look_again(mux, row);
}

int sb_mux_rest(sb_mux *mux, int id, int resting)
{
    SB_CHECKED(mux);
    struct row *row;
    int code = sb__live(mux, id, &row);
    if (code < 0 || row->state == ROW_LINGERING)
        return code < 0 ? code : SB_ERR_CLOSING;
    sb__now(mux);
    row->again = (uint8_t)(resting ? row->again | AGAIN_RESTING : row->again & ~AGAIN_RESTING);
    row->moved_ms = row->framing_ms = row->leaving_ms = mux->now_ms;
    sb__deadline_sooner(mux, row);
    return 0;
}

/* ---- judging */

/* What waited when it was due is of the network's bytes, and so counts as they do, however few of the caller's it is. */
void sb__judged_filtered(struct row *row, size_t came, size_t opened)
{
    if (row->judged_at == 0)
        return;
    uint32_t at = row->judged_at + (uint32_t)opened - (uint32_t)came;
    row->judged_at = at + (at == 0); /* one more is no matter, 0 would be */
}

/* Whether it is read, and something has come that waited when it was due. */
static int is_on_its_way(struct row *row)
{
    if (!(sb__wanted(row) & SB_READ))
        return 0;
    if (row->again & AGAIN_LISTED)
        return 1;
    if (!sb__has_come(row->fd))
        return 0;
    uint32_t received = (uint32_t)row->received;
    if (row->judged_at == 0)
        row->judged_at = (received + 1 + (uint32_t)sb__waiting(row->fd)) | 1; /* one more is no matter, 0 would be */
    return (int32_t)(row->judged_at - received) > 0;
}

/* The peer's time is over.  Its output has been sent or cannot be sent: a graceful close would wait again, so this
 * closes at once; close(2) sends FIN, or RST if input was not read. */
static void judge_row(sb_mux *mux, struct row *row)
{
    if (sb__may(row, MAY_SEND) && row->out != NULL)
        sb__send_more(mux, row);
    if (row->state == ROW_CLOSED)
        return;
    struct due due = due_of(mux, row);
    if (due.at_ms > mux->now_ms) { /* it takes what it is sent */
        sb__deadline_sooner(mux, row);
        return;
    }
    if (is_on_its_way(row)) {
        sb__wheel_hang(&mux->wheel, sb__number(mux, row), mux->now_ms + 1);
        return;
    }
    row->reason = (uint8_t)due.reason;
    sb__kill(mux, row, row->reason, 0);
}

/* How much later than requested the caller has come. */
static int64_t over_ms(const sb_mux *mux)
{
    return mux->wait_ms < 0 ? 0 : mux->now_ms - mux->looked_ms - mux->wait_ms;
}

void sb__deadlines_run(sb_mux *mux)
{
    int is_patient = sb__is_patient(&mux->stall, over_ms(mux));
    mux->looked_ms = mux->now_ms;
    mux->wait_ms = 0;
    if (is_patient)
        return;
    int32_t number;
    for (int budget = SB_DEADLINES; budget > 0 && (number = sb__wheel_next(&mux->wheel, mux->now_ms)) >= 0;) {
        struct row *row = &mux->rows[number];
        int64_t at_ms = due_of(mux, row).at_ms;
        if (at_ms > mux->now_ms) {
            row->judged_at = 0;
            sb__deadline_sooner(mux, row);
        } else {
            judge_row(mux, row);
            budget--; /* many at once: the others are served in between */
        }
    }
}

static int until_due(const sb_mux *mux)
{
    int64_t at_ms = sb__wheel_due(&mux->wheel);
    if (at_ms < 0)
        return -1;
    if (at_ms > mux->now_ms)
        return (int)(at_ms - mux->now_ms);
    return mux->stall.turns_left > 0 ? SB_QUICK_MS : 0;
}

int sb_mux_timeout(sb_mux *mux)
{
    SB_CHECKED(mux);
    if (mux == NULL)
        return SB_ERR_INVALID;
    int is_at_once = mux->doomed_count > 0 || mux->again_count > 0 || mux->counts.events > mux->reported;
    if (!is_at_once)
        sb__now(mux);
    mux->wait_ms = is_at_once ? 0 : until_due(mux); /* they close, are framed or are reported in the next turn */
    return (int)mux->wait_ms;
}
