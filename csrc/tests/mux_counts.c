/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <errno.h>
#include <stdio.h>

/* Ids as text: "0 2 ". */
static const char *listed(struct world *w, int group, int which)
{
    static char text[200];
    int32_t ids[16];
    size_t at = 0;
    int n = sb_mux_list(w->mux, group, which, ids, 16);
    text[0] = '\0';
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%d ", ids[i]);
    return text;
}

static void which_connections_there_are(void)
{
    struct world *w = world_of(8, lines_group());
    sb_group group = lines_group();
    int other = sb_mux_group(w->mux, &group);
    int quiet = join(w, 0), unread = join(w, 0), unfinished = join(w, 0), elsewhere = join(w, other);
    say(w, unfinished, "ab");
    CHECK_TEXT(turn(w), "");
    say(w, unread, "x\n");
    CHECK_TEXT(listed(w, -1, SB_LIST_LIVE), "0 1 2 3 ");
    CHECK_TEXT(listed(w, 0, SB_LIST_OPEN), "0 1 2 ");
    CHECK_TEXT(listed(w, other, SB_LIST_OPEN), "3 ");
    CHECK_TEXT(listed(w, 0, SB_LIST_QUIET), "0 ");
    fail_nth(CALL_IOCTL, 2, EOPNOTSUPP); /* of the one with a line, as of a vsock */
    CHECK_TEXT(listed(w, 0, SB_LIST_QUIET), "0 ");
    CHECK(faults_clear());
    CHECK_TEXT(listed(w, 9, SB_LIST_LIVE), "");
    sb_mux_close(w->mux, quiet, SB_REASON_SHUTDOWN);
    CHECK_TEXT(heard(w, quiet), "$");
    sb_mux_abort(w->mux, elsewhere, SB_REASON_ABORTED);
    CHECK_TEXT(listed(w, -1, SB_LIST_LIVE), "0 1 2 "); /* the first lingers */
    CHECK_TEXT(listed(w, -1, SB_LIST_OPEN), "1 2 ");
    sb_mux_reap(w->mux);
    CHECK_TEXT(listed(w, -1, SB_LIST_LIVE), "0 1 2 ");
    sb_mux_close_all(w->mux, SB_REASON_SHUTDOWN);
    CHECK_TEXT(heard(w, unread), "$");
    end_of(w);
}

static void what_they_have_done(void)
{
    struct world *w = world_of(8, lines_group());
    sb_group group = lines_group();
    sb_totals totals;
    int other = sb_mux_group(w->mux, &group);
    int ended = join(w, 0), open = join(w, 0), elsewhere = join(w, other);
    say(w, ended, "a\nb\n");
    say(w, open, "abc\n");
    say(w, elsewhere, "zzzzzzzz\n");
    turn(w);
    answer(w, ended, "xyz", 3);
    sb_mux_abort(w->mux, ended, SB_REASON_HANDLER_ERROR);
    cap_size(CALL_SEND, 1);
    answer(w, open, "12345", 5);
    faults_clear();
    CHECK_EQ(sb_mux_totals(w->mux, 0, &totals), 0);
    CHECK_EQ(totals.came, 2);
    CHECK_EQ(totals.open, 1);
    CHECK_EQ(totals.received, 8);
    CHECK_EQ(totals.frames, 3);
    CHECK_EQ(totals.sent + totals.unsent, 8);
    CHECK_EQ(totals.reasons[SB_REASON_HANDLER_ERROR], 1);
    CHECK_EQ(totals.reasons[SB_REASON_EOF], 0);
    sb_mux_reap(w->mux);
    CHECK_EQ(sb_mux_totals(w->mux, 0, &totals), 0);
    CHECK_EQ(totals.open, 1);
    CHECK_EQ(sb_mux_totals(w->mux, other, &totals), 0);
    CHECK_EQ(totals.received, 9);
    CHECK_EQ(sb_mux_totals(w->mux, -1, &totals), SB_ERR_GONE);
    CHECK_EQ(sb_mux_totals(w->mux, 2, &totals), SB_ERR_GONE);
    end_of(w);
}

static void a_group_is_given_up(void)
{
    struct world *w = world_of(8, lines_group());
    sb_group group = lines_group();
    sb_totals totals;
    int second = sb_mux_group(w->mux, &group), third = sb_mux_group(w->mux, &group);
    int other = join(w, 0), id = join(w, second);
    say(w, id, "a\n");
    turn(w);
    CHECK_EQ(sb_mux_ungroup(w->mux, second), 1);
    sb_mux_abort(w->mux, id, SB_REASON_ABORTED);
    CHECK_EQ(sb_mux_ungroup(w->mux, second), 1); /* its events name the group still */
    sb_mux_reap(w->mux);
    CHECK_EQ(sb_mux_ungroup(w->mux, second), 0);
    CHECK_EQ(sb_mux_ungroup(w->mux, second), SB_ERR_GONE);
    CHECK_EQ(sb_mux_ungroup(w->mux, 3), SB_ERR_GONE);
    CHECK_EQ(sb_mux_ungroup(w->mux, -1), SB_ERR_GONE);
    CHECK_EQ(sb_mux_totals(w->mux, second, &totals), SB_ERR_GONE);
    CHECK_EQ(sb_mux_ungroup(w->mux, third), 0);
    CHECK_EQ(sb_mux_group(w->mux, &group), second);
    CHECK_EQ(sb_mux_totals(w->mux, second, &totals), 0);
    CHECK_EQ(totals.came + totals.received, 0);
    CHECK_EQ(sb_mux_group(w->mux, &group), third);
    CHECK_EQ(sb_mux_group(w->mux, &group), 3);
    CHECK_EQ(sb_mux_ungroup(w->mux, 0), 1);
    sb_mux_abort(w->mux, other, SB_REASON_ABORTED);
    end_of(w);
}

/* Ids of those who are silent for a second, as text. */
static const char *silent(struct world *w, int group, int max)
{
    static char text[200];
    int32_t ids[8];
    size_t at = 0;
    int n = sb_mux_silent(w->mux, group, 1000, ids, max);
    text[0] = '\0';
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%d ", ids[i]);
    return text;
}

static void who_is_silent(void)
{
    struct world *w = world_of(8, lines_group());
    sb_group group = lines_group();
    int other = sb_mux_group(w->mux, &group);
    int gone = join(w, 0), spoke = join(w, 0);
    say(w, spoke, "a\n");
    CHECK_TEXT(turn(w), "1:a| ");
    CHECK_TEXT(after(w, 400), "");
    int told = join(w, 0), elsewhere = join(w, other), ending = join(w, 0);
    CHECK_EQ(elsewhere & 7, 3);
    sb_mux_abort(w->mux, gone, SB_REASON_ABORTED);
    sb_mux_reap(w->mux);
    CHECK_TEXT(after(w, 400), "");
    int last = join(w, 0);
    CHECK_TEXT(silent(w, -1, 8), "");
    CHECK_EQ(sb_mux_silent(NULL, -1, 0, NULL, 1), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_silent(w->mux, -1, 0, NULL, 0), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_silent(w->mux, 9, 0, NULL, 1), SB_ERR_GONE);
    CHECK_TEXT(after(w, 700), "");
    CHECK_TEXT(silent(w, -1, 8), "2 3 4 ");
    sb_mux_close(w->mux, ending, SB_REASON_SHUTDOWN);
    CHECK_TEXT(silent(w, -1, 8), "2 3 ");
    sb_mux_abort(w->mux, ending, SB_REASON_ABORTED);
    sb_mux_reap(w->mux);
    CHECK_TEXT(silent(w, other, 8), "3 ");
    answer(w, told, "hi\n", 3);
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(silent(w, -1, 8), "3 "); /* a greeting has moved it */
    CHECK_TEXT(after(w, 1200), "");
    CHECK_TEXT(silent(w, 0, 8), "2 5 ");
    CHECK_TEXT(silent(w, -1, 1), "2 ");
    CHECK_TEXT(silent(w, -1, 2), "2 3 ");
    say(w, last, "b\n"); /* has come, and is not received yet */
    CHECK_TEXT(silent(w, -1, 8), "2 3 ");
    sb_mux_abort(w->mux, told, SB_REASON_IDLE_TIMEOUT);
    sb_mux_reap(w->mux);
    CHECK_TEXT(turn(w), "5:b| ");
    sb_mux_abort(w->mux, spoke, SB_REASON_ABORTED);
    sb_mux_reap(w->mux);
    int young = -1;
    for (int i = 0; i < 7 && (young & 7) != 0; i++) { /* rows are used late again */
        young = join(w, 0);
        if ((young & 7) != 0)
            sb_mux_abort(w->mux, young, SB_REASON_ABORTED), sb_mux_reap(w->mux);
    }
    CHECK_TEXT(after(w, 1200), "");
    CHECK_TEXT(silent(w, -1, 1), "3 "); /* which is not the row that comes first */
    CHECK_EQ(sb_mux_silent(w->mux, -1, 1000, (int32_t[8]){0}, 8), 2);
    end_of(w);
}

const struct test mux_counts_tests[] = {
    {"which connections there are", which_connections_there_are},
    {"what they have done", what_they_have_done},
    {"a group is given up", a_group_is_given_up},
    {"who is silent", who_is_silent},
    {NULL, NULL},
};
