/* SPDX-License-Identifier: MIT */
/*
 * relay_late - pairs and clients whose deadline is due
 *
 * DESCRIPTION
 *   Each hangs in the wheel, where only those that are due are looked at.  A call ends one of them at most, and its
 *   caller calls again at once: a turn is others', too.
 */
#include "relay.h"

#if SB_HAS_EPOLL

static int64_t deadline_of(const struct pair *pair)
{
    if (pair->phase != PHASE_PAIR)
        return pair->client.due_ms;
    int64_t within = pair->way[0].ended || pair->way[1].ended ? pair->half_ms : pair->idle_ms;
    return within > 0 ? pair->moved_ms + within : -1;
}

void sb__relay_note_deadline(sb_relay *relay, const struct pair *pair)
{
    int64_t at_ms = deadline_of(pair);
    if (at_ms < 0)
        return;
    sb__wheel_sooner(&relay->wheel, sb__relay_number(relay, pair), at_ms);
    relay->counts.due_ms = sb__wheel_due(&relay->wheel);
}

/* ---- deadlines: a peer is not late while the kernel still holds its data */

/* 1: it has nothing that could be moved, as epoll has said if it was asked until it had no more. */
static int has_moved_all(sb_relay *relay, struct pair *pair)
{
    if (relay->is_quiet)
        return 1;
    for (int from = 0; from < 2; from++)
        if (!sb__relay_advance(relay, pair, from))
            return 0;
    sb__relay_watch_both(relay, pair);
    return !sb__relay_has_ended(pair) && deadline_of(pair) <= relay->now_ms;
}

/* Closing a socket takes 3 us of the kernel's time: the other one is the next call's. */
static void end_late(sb_relay *relay, struct pair *pair, int reason)
{
    relay->late_fd = pair->fd[1];
    pair->fd[1] = -1;
    sb__relay_end(relay, pair, reason, 0, 0);
}

static void judge_pair(sb_relay *relay, struct pair *pair)
{
    if (!has_moved_all(relay, pair))
        return;
    int is_half = pair->way[0].ended || pair->way[1].ended;
    end_late(relay, pair, is_half ? SB_REASON_HALF_CLOSE_TIMEOUT : SB_REASON_IDLE_TIMEOUT);
}

static void judge_one(sb_relay *relay, struct pair *pair)
{
    if (pair->phase == PHASE_PAIR)
        judge_pair(relay, pair);
    else
        sb__client_judge(relay, pair);
}

/* One that is late; the deadline of any before it in the wheel has moved on. */
static void judge_next(sb_relay *relay)
{
    int is_judged = 0;
    for (int looks = 0; looks < RELAY_LOOKS && !is_judged; looks++) {
        int32_t number = sb__wheel_next(&relay->wheel, relay->now_ms);
        if (number < 0)
            return;
        struct pair *pair = &relay->pairs[number];
        int64_t at_ms = deadline_of(pair);
        is_judged = at_ms >= 0 && at_ms <= relay->now_ms;
        if (is_judged)
            judge_one(relay, pair);
        if (!sb__relay_has_ended(pair))
            sb__relay_note_deadline(relay, pair);
    }
}

static int has_late_fd(const sb_relay *relay)
{
    return relay->late_fd >= 0;
}

void sb__relay_close_late(sb_relay *relay)
{
    if (has_late_fd(relay))
        sb__relay_close(relay->late_fd, SB_REASON_IDLE_TIMEOUT);
    relay->late_fd = -1;
}

void sb__relay_deadlines_run(sb_relay *relay)
{
    int64_t due_ms = relay->counts.due_ms, now_ms = relay->now_ms;
    if (due_ms < 0 || now_ms < due_ms)
        return;
    int is_patient = sb__is_patient(&relay->stall, now_ms - due_ms);
    if (has_late_fd(relay))
        sb__relay_close_late(relay);
    else if (!is_patient)
        judge_next(relay);
    due_ms = has_late_fd(relay) ? now_ms : sb__wheel_due(&relay->wheel);
    if (due_ms >= 0 && due_ms <= now_ms) /* more of them than are judged at once: the next call is asked for now, and is not late by that */
        due_ms = is_patient ? now_ms + SB_QUICK_MS : now_ms;
    relay->counts.due_ms = due_ms;
}

#endif
