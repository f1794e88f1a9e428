/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void idle_deadline(void)
{
    sb_group group = lines_group();
    group.idle_ms = 10000;
    struct world *w = world_of(8, group);
    int idle = join(w, 0), busy = join(w, 0);
    CHECK_TEXT(turn(w), "");
    int due = sb_mux_timeout(w->mux);
    CHECK(due > 9000 && due <= 10500);
    CHECK_TEXT(after(w, 6000), "");
    say(w, busy, "a\n");
    CHECK_TEXT(turn(w), "1:a| ");
    CHECK_TEXT(after(w, 5000), "0 closed 7 ");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, idle), "$");
    CHECK_TEXT(after(w, 5500), "1 closed 7 ");
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_mux_timeout(w->mux), -1);
    end_of(w);
}

static void deadlines_past_the_wheel(void)
{
    sb_group group = lines_group();
    group.idle_ms = 200000;
    struct world *w = world_of(8, group);
    int ids[3];
    for (int i = 0; i < 3; i++)
        ids[i] = join(w, 0);
    for (int i = 0; i < 19; i++)
        CHECK_TEXT(after(w, 10000), "");
    say(w, ids[1], "x\n");
    CHECK_TEXT(turn(w), "1:x| ");
    clock_advance(300000); /* more than the wheel holds, and a stall */
    CHECK_TEXT(after(w, 100), "2 closed 7 1 closed 7 0 closed 7 ");
    end_of(w);
}

static void write_stall(void)
{
    sb_group group = lines_group();
    group.stall_ms = 5000;
    struct world *w = world_of(8, group);
    int32_t id = join(w, 0);
    char *block = big_block(1 << 20);
    int64_t size = 1 << 20;
    sb_mux_write(w->mux, 1, &id, &size, block);
    sb_mux_close(w->mux, id, SB_REASON_CLOSED); /* drains first */
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(after(w, 6000), "0 closed 8 ");
    free(block);
    end_of(w);
}

static void waits_no_longer_than_a_deadline(void)
{
    if (!with_epoll)
        return;
    sb_group group = lines_group();
    group.idle_ms = 300;
    struct world *w = world_of(4, group);
    join(w, 0);
    while (sb_mux_counts(w->mux)->events == 0)
        CHECK(sb_mux_turn(w->mux, -1) >= 0);
    CHECK_TEXT(events_of(w), "0 closed 7 ");
    end_of(w);
}

static void frame_deadline(void)
{
    sb_group group = lines_group();
    group.idle_ms = 60000;
    group.frame_ms = 1000;
    struct world *w = world_of(8, group);
    int slow = join(w, 0);
    say(w, slow, "whole\npart");
    CHECK_TEXT(turn(w), "0:whole| ");
    int due = sb_mux_timeout(w->mux);
    CHECK(due > 700 && due <= 1250); /* it hung for an hour's idling before */
    CHECK_TEXT(after(w, 600), "");
    say(w, slow, "more");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(after(w, 700), "0 closed 13 ");
    end_of(w);
}

/* Who is not read cannot end its frame: the time begins anew when it is read
 * again, and it does begin. */
static void frame_deadline_and_pauses(void)
{
    sb_group group = lines_group();
    group.frame_ms = 1000;
    struct world *w = world_of(8, group);
    int id = join(w, 0), idle = join(w, 0);
    say(w, id, "part");
    CHECK_TEXT(turn(w), "");
    sb_mux_pause(w->mux, id, 1);
    CHECK_TEXT(after(w, 5000), "");
    CHECK_EQ(sb_mux_timeout(w->mux), -1);
    sb_mux_pause(w->mux, id, 0);
    CHECK_TEXT(after(w, 700), "");
    sb_mux_pause(w->mux, id, 0); /* it was not paused: no new time */
    CHECK_TEXT(after(w, 700), "0 closed 13 ");
    sb_mux_pause(w->mux, id, 1); /* too late, and it hangs in the wheel no more */
    sb_mux_pause(w->mux, id, 0);
    sb_mux_pause(w->mux, idle, 0);
    CHECK_TEXT(after(w, 5000), "");
    CHECK_EQ(sb_mux_counts(w->mux)->connections, 1);
    end_of(w);
}

/* Somebody else has its peer: nothing can come of it, and it is not late; then all begins anew. */
static void who_rests_is_not_judged(void)
{
    sb_group group = lines_group();
    group.idle_ms = 2000;
    group.linger_ms = 1000;
    struct world *w = world_of(8, group);
    int id = join(w, 0), closing = join(w, 0);
    CHECK_TEXT(after(w, 1500), "");
    sb_mux_rest(w->mux, id, 1);
    sb_mux_rest(w->mux, closing, 1);
    CHECK_TEXT(after(w, 5000), "");
    sb_mux_close(w->mux, closing, SB_REASON_CLOSED);
    CHECK_TEXT(turn(w), "");
    sb_mux_rest(w->mux, closing, 0); /* it is being closed, whoever says what */
    CHECK_TEXT(after(w, 1500), "1 closed 2 ");
    sb_mux_rest(w->mux, id, 0);
    CHECK_TEXT(after(w, 1500), "");
    CHECK_TEXT(after(w, 1000), "0 closed 7 ");
    sb_mux_rest(w->mux, id, 1);
    sb_mux_rest(w->mux, -1, 0);
    CHECK_TEXT(after(w, 5000), "");
    end_of(w);
}

static void the_reason_is_the_deadline_that_came(void)
{
    sb_group group = lines_group();
    group.idle_ms = 3000;
    group.frame_ms = 1000;
    struct world *w = world_of(8, group);
    int id = join(w, 0);
    say(w, id, "part");
    CHECK_TEXT(turn(w), "");
    sb_mux_pause(w->mux, id, 1);
    CHECK_TEXT(after(w, 3500), "0 closed 7 "); /* idle; its frame was not waited for */
    end_of(w);
}

/* A frame's time does not run while its peer does not read, a reply's does. */
static void frame_deadline_past_high_water(void)
{
    enum { SIZE = 1 << 20 };
    sb_group group = lines_group();
    group.frame_ms = 1000;
    group.stall_ms = 20000;
    struct world *w = world_of(8, group);
    int id = join(w, 0);
    char *block = big_block(SIZE);
    say(w, id, "part");
    CHECK_TEXT(turn(w), "");
    answer(w, id, block, SIZE);
    CHECK_TEXT(after(w, 5000), "");
    size_t at = 0;
    for (int i = 0; i < 1000 && at < SIZE; i++) {
        at = drain(w, id, block, at);
        CHECK_TEXT(turn(w), "");
    }
    CHECK_EQ(at, SIZE);
    CHECK_TEXT(after(w, 1500), "0 closed 13 ");
    free(block);
    end_of(w);
}

/* What it hung for has gone, and there is nothing else. */
static void no_deadline_is_left(void)
{
    sb_group group = lines_group();
    group.stall_ms = 5000;
    struct world *w = world_of(8, group);
    int id = join(w, 0);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, "abc", 3);
    CHECK(sb_mux_timeout(w->mux) > 4000);
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "abc");
    CHECK_TEXT(after(w, 6000), "");
    CHECK_EQ(sb_mux_timeout(w->mux), -1);
    end_of(w);
}

/* Many at once are let go in portions, the others are served in between. */
static void many_at_once(void)
{
    enum { MANY = 600 };
    sb_group group = lines_group();
    group.idle_ms = 10000;
    struct world *w = world_of(MANY + 1, group);
    int served = join(w, 0), turns = 0;
    for (int i = 0; i < MANY; i++)
        CHECK(sb_mux_add(w->mux, dup(w->peer[served]), 0) >= 0);
    CHECK_TEXT(after(w, 7000), "");
    say(w, served, "a\n");
    CHECK_TEXT(turn(w), "0:a| ");
    clock_advance(7000);
    for (int i = 0; i < 4; i++)
        CHECK_TEXT(turn(w), ""); /* the caller was busy: nobody is judged at once */
    for (int left = MANY; left > 0 && turns < 10; turns++) {
        say(w, served, "b\n");
        CHECK(strstr(turn(w), "0:b| ") != NULL);
        int ended = sb_mux_counts(w->mux)->closed;
        CHECK(ended > 0 && ended <= 256);
        CHECK(ended == left || sb_mux_timeout(w->mux) == 0);
        left -= ended;
    }
    CHECK_EQ(turns, 3);
    end_of(w);
}

/* Stopped for longer than the wheel goes round: who is not due yet is let go when
 * it is, not up to a turn of the wheel later. */
static void a_long_sleep(void)
{
    for (int extra = 1; extra < 100; extra += 7) {
        sb_group group = lines_group();
        group.idle_ms = 250000 + extra * 1000;
        struct world *w = world_of(8, group);
        join(w, 0);
        for (int i = 0; i < extra % 5; i++) {
            CHECK_TEXT(after(w, 1000 + 250 * extra), "");
            say(w, 0, "a\n");
            CHECK_TEXT(turn(w), "0:a| ");
        }
        clock_advance(250000);
        for (int i = 0; i < 5; i++)
            CHECK_TEXT(turn(w), "");
        CHECK_TEXT(after(w, extra * 1000 - 300), "");
        CHECK_TEXT(after(w, 600), "0 closed 7 ");
        end_of(w);
    }
}

/* The largest number there is, where 0 would say it too. */
static void for_ever(void)
{
    sb_group group = lines_group();
    group.idle_ms = group.frame_ms = group.stall_ms = group.linger_ms = INT64_MAX;
    group.framing.limit = SIZE_MAX;
    group.high_water = group.max_unsent = INT64_MAX;
    struct world *w = world_of(8, group);
    int id = join(w, 0), closing = join(w, 0);
    say(w, id, "whole\npart");
    CHECK_TEXT(turn(w), "0:whole| ");
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, "abc", 3);
    sb_mux_close(w->mux, closing, SB_REASON_CLOSED);
    CHECK_TEXT(after(w, 100000), "");
    CHECK_TEXT(heard(w, id), "abc");
    CHECK_EQ(sb_mux_counts(w->mux)->connections, 2);
    end_of(w);
}

static void waits_no_longer_than_it_is_told(void)
{
    if (!with_epoll)
        return;
    sb_group group = lines_group();
    group.idle_ms = 100000;
    struct world *w = world_of(4, group);
    join(w, 0);
    CHECK_EQ(sb_mux_turn(w->mux, 1), 0);
    end_of(w);
    group.idle_ms = 1;
    w = world_of(4, group);
    join(w, 0);
    for (int i = 0; i < 1000 && sb_mux_counts(w->mux)->closed == 0; i++)
        CHECK(sb_mux_turn(w->mux, 100000) >= 0); /* the deadline comes first */
    CHECK_TEXT(events_of(w), "0 closed 7 ");
    end_of(w);
}

/* An end that beginning the turn brought is not waited behind. */
static void waits_not_behind_an_event(void)
{
    if (!with_epoll)
        return;
    sb_group group = lines_group();
    group.framing.limit = 5;
    group.linger_ms = 0;
    struct world *w = world_of(4, group);
    say(w, join(w, 0), "ok\n1234567");
    CHECK_TEXT(turn(w), "0:ok| ");
    CHECK_EQ(sb_mux_timeout(w->mux), 0);
    CHECK_EQ(sb_mux_turn(w->mux, -1), 1);
    CHECK_TEXT(events_of(w), "0 closed 6 ");
    end_of(w);
}

const struct test mux_deadlines_tests[] = {
    {"idle deadline", idle_deadline},
    {"deadlines past the wheel", deadlines_past_the_wheel},
    {"write stall", write_stall},
    {"waits no longer than a deadline", waits_no_longer_than_a_deadline},
    {"frame deadline", frame_deadline},
    {"frame deadline and pauses", frame_deadline_and_pauses},
    {"who rests is not judged", who_rests_is_not_judged},
    {"the reason is the deadline that came", the_reason_is_the_deadline_that_came},
    {"frame deadline past high water", frame_deadline_past_high_water},
    {"no deadline is left", no_deadline_is_left},
    {"many at once", many_at_once},
    {"a long sleep", a_long_sleep},
    {"for ever", for_ever},
    {"waits no longer than it is told", waits_no_longer_than_it_is_told},
    {"waits not behind an event", waits_not_behind_an_event},
    {NULL, NULL},
};
