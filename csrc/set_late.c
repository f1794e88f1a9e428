/*
 * set_late - when a connection is late
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
#include "set.h"

struct due {
    int64_t at_ms;
    int reason; /* what is said when it comes to that */
};

static struct due sooner(struct due due, int64_t since_ms, int64_t after_ms, int reason)
{
    return after_ms > 0 && since_ms + after_ms < due.at_ms ? (struct due){since_ms + after_ms, reason} : due;
}

static struct due due_of(const sb_set *set, const struct row *row)
{
    const sb_group *group = &set->groups[row->group];
    struct due due = {SB_NEVER, SB_REASON_NONE};
    if (row->state == ROW_LINGERING)
        return (struct due){row->deadline_ms, row->reason};
    if (row->deadline_ms == SB_NEVER)
        return due;
    if (sb__may(row, MAY_SEND) && row->out != NULL)
        due = sooner(due, row->leaving_ms, group->stall_ms, SB_REASON_WRITE_STALL);
    /* A peer that is not read, because it does not read or has more than its share, cannot end its frame. */
    int waits_for_us = row->flags & (FLAG_HIGH | FLAG_PAUSED) || row->again & AGAIN_WANTED;
    if (sb__may(row, MAY_DELIVER) && row->in != NULL && !waits_for_us)
        due = sooner(due, row->framing_ms, group->frame_ms, SB_REASON_FRAME_TIMEOUT);
    if (sb__may(row, MAY_CLOSE))
        due = sooner(due, row->moved_ms, group->idle_ms, SB_REASON_IDLE_TIMEOUT);
    return due;
}

void sb__deadline_sooner(sb_set *set, struct row *row)
{
    int64_t at_ms = due_of(set, row).at_ms;
    if (at_ms != SB_NEVER)
        sb__wheel_sooner(&set->wheel, sb__number(set, row), at_ms);
}

/* A connection that was held up is read again: its frame has all of its time. */
void sb__frame_goes_on(sb_set *set, struct row *row)
{
    row->framing_ms = set->now_ms;
    sb__deadline_sooner(set, row);
    sb__look_again(set, row);
}

void sb_set_rest(sb_set *set, int id, int resting)
{
    struct row *row = sb__row(set, id);
    if (row == NULL || row->state == ROW_LINGERING)
        return;
    sb__now(set);
    row->deadline_ms = resting ? SB_NEVER : 0;
    row->moved_ms = row->framing_ms = row->leaving_ms = set->now_ms;
    sb__deadline_sooner(set, row);
}

/* ---- judging */

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

/* The peer had its time.  What it is owed has left or cannot leave: an end in
 * order would wait for it once more, so this closes at once; close(2) sends
 * FIN, or RST when input was not read. */
static void judge_row(sb_set *set, struct row *row)
{
    if (sb__may(row, MAY_SEND) && row->out != NULL)
        sb__send_more(set, row);
    if (row->state == ROW_CLOSED)
        return;
    struct due due = due_of(set, row);
    if (due.at_ms > set->now_ms) { /* it takes what it is sent */
        sb__deadline_sooner(set, row);
        return;
    }
    if (is_on_its_way(row)) {
        sb__wheel_hang(&set->wheel, sb__number(set, row), set->now_ms + 1);
        return;
    }
    row->reason = (uint8_t)due.reason;
    sb__kill(set, row, row->reason, 0);
}

/* How much later than it was asked to the caller has come. */
static int64_t over_ms(const sb_set *set)
{
    return set->wait_ms < 0 ? 0 : set->now_ms - set->looked_ms - set->wait_ms;
}

void sb__deadlines_run(sb_set *set)
{
    int is_patient = sb__is_patient(&set->stall, over_ms(set));
    set->looked_ms = set->now_ms;
    set->wait_ms = 0;
    if (is_patient)
        return;
    int32_t number;
    for (int budget = SB_DEADLINES; budget > 0 && (number = sb__wheel_next(&set->wheel, set->now_ms)) >= 0;) {
        struct row *row = &set->rows[number];
        int64_t at_ms = due_of(set, row).at_ms;
        if (at_ms > set->now_ms) {
            row->judged_at = 0;
            sb__deadline_sooner(set, row);
        } else {
            judge_row(set, row);
            budget--; /* many at once: the others are served in between */
        }
    }
}

static int until_due(const sb_set *set)
{
    int64_t at_ms = sb__wheel_due(&set->wheel);
    if (at_ms < 0)
        return -1;
    if (at_ms > set->now_ms)
        return (int)(at_ms - set->now_ms);
    return set->stall.turns_left > 0 ? SB_QUICK_MS : 0;
}

int sb_set_timeout(sb_set *set)
{
    int is_at_once = set->doomed_count > 0 || set->again_count > 0 || set->counts.events > set->told;
    if (!is_at_once)
        sb__now(set);
    set->wait_ms = is_at_once ? 0 : until_due(set); /* they end, are framed or are told in the next turn */
    return (int)set->wait_ms;
}
