/* SPDX-License-Identifier: MIT */
/* mux_turns - what one turn leaves to the next: where that begins, and that nothing is lost on the way */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What a connection's frames are made of, one event a turn at most, until so many bytes have come. */
static void collect(struct world *w, char *got, size_t size)
{
    size_t at = 0;
    for (int i = 0; i < 2000 && at < size; i++) {
        turn(w);
        for (int j = 0; j < sb_mux_counts(w->mux)->events; j++) {
            const sb_event *event = &sb_mux_events(w->mux)[j];
            CHECK(event->kind == SB_EVENT_FRAMES && at + (size_t)event->size <= size);
            memcpy(got + at, block_of(w, event), (size_t)event->size);
            at += (size_t)event->size;
        }
    }
    CHECK_EQ(at, size);
}

/* A share that ends more than 2 KiB behind its begin, which are searched at once. */
static void a_share_of_many_lines(void)
{
    enum { COUNT = 5000, EACH = 6 };
    struct world *w = slow_world(MS / 200, SB_GROUP_LF);
    char *said = malloc(COUNT * EACH + 1), *got = malloc(COUNT * EACH);
    for (int i = 0, at = 0; i < COUNT; i++, at += EACH)
        memcpy(said + at, (char[EACH]){(char)('0' + i / 1000), (char)('0' + i / 100 % 10), (char)('0' + i / 10 % 10),
                                       (char)('0' + i % 10), '.', '\n'}, EACH);
    said[COUNT * EACH] = '\0';
    int id = join(w, 0);
    say(w, id, said);
    turn(w);
    CHECK_EQ(sb_mux_events(w->mux)[0].frames, 1000);
    CHECK_EQ(sb_mux_events(w->mux)[0].size, 1000 * EACH);
    CHECK(memcmp(block_of(w, &sb_mux_events(w->mux)[0]), said, 1000 * EACH) == 0);
    collect(w, got, (COUNT - 1000) * EACH);
    CHECK(memcmp(got, said + 1000 * EACH, (COUNT - 1000) * EACH) == 0);
    free(said);
    free(got);
    end_of(w);
}

/* Who would be first in the next turn has ended before it: the others go on. */
static void the_first_of_those_that_wait_ends(void)
{
    struct world *w = slow_world(100 * MS, SB_GROUP_LF);
    for (int i = 0; i < 3; i++)
        flood(w, join(w, 0), i == 0 ? "a\n" : i == 1 ? "b\n" : "c\n", 3);
    CHECK_TEXT(turn(w), "0:a| ");
    sb_mux_abort(w->mux, 1, SB_REASON_ABORTED);
    CHECK_TEXT(events_of(w), "0:a| 1 closed 12 ");
    int came[3] = {0};
    for (int i = 0; i < 5; i++) {
        turn(w);
        CHECK_EQ(sb_mux_counts(w->mux)->events, 1);
        came[sb_mux_events(w->mux)[0].id]++;
    }
    CHECK(came[0] == 2 && came[1] == 0 && came[2] == 3);
    CHECK_TEXT(turn(w), "");
    end_of(w);
}

/* 4 MiB of one group are received, and another is ready as well: it is the first in the next turn. */
static void the_next_turn_begins_with_another_group(void)
{
    enum { COUNT = 200, SIZE = 50000 };
    sb_group group = lines_group();
    group.serve = discard;
    struct world *w = world_of(COUNT + 1, group);
    group.serve = NULL;
    int other = sb_mux_group(w->mux, &group);
    for (int i = 0; i < COUNT; i++)
        flood(w, join(w, 0), "\n", SIZE);
    say(w, join(w, other), "me too\n");
    sb_totals totals;
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_mux_totals(w->mux, 0, &totals), 0);
    CHECK(totals.frames >= 4 << 20 && totals.frames < COUNT * SIZE);
    CHECK_TEXT(turn(w), "200:me too| ");
    for (int i = 0; i < 10 && totals.frames < COUNT * SIZE; i++) {
        CHECK_TEXT(turn(w), "");
        CHECK_EQ(sb_mux_totals(w->mux, 0, &totals), 0);
    }
    CHECK_EQ(totals.frames, COUNT * SIZE);
    end_of(w);
}

/* The kernel tells that a reply can leave, and of nothing to receive: the frames that lie here are not forgotten. */
static void output_and_frames_that_wait(void)
{
    struct world *w = slow_world(100 * MS, SB_GROUP_LF);
    int id = join(w, 0);
    say(w, id, "a\nb\nc\n");
    CHECK_TEXT(turn(w), "0:a| ");
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, "A\n", 2);
    CHECK_TEXT(heard(w, id), "-");
    CHECK_TEXT(turn(w), "0:b| ");
    CHECK_TEXT(heard(w, id), "A\n");
    CHECK_TEXT(turn(w), "0:c| ");
    CHECK_TEXT(turn(w), "");
    end_of(w);
}

/* Nobody is idle whose frames wait here; and from the last of them on, it has all of its time to be answered. */
static void who_waits_is_not_idle(void)
{
    sb_group group = lines_group();
    group.cost_ns = 100 * MS;
    group.idle_ms = 500;
    struct world *w = world_of(16, group);
    for (int i = 0; i < 2; i++)
        flood(w, join(w, 0), "\n", 10);
    for (int i = 0; i < 20; i++) {
        CHECK_TEXT(turn(w), i % 2 == 0 ? "0:| " : "1:| ");
        clock_advance(i < 18 ? 900 : 0);
    }
    CHECK_TEXT(after(w, 400), "");
    after(w, 500);
    CHECK_EQ(strlen(w->log), strlen("0 closed 7 1 closed 7 ")); /* SB_REASON_IDLE_TIMEOUT */
    end_of(w);
}

/* What was given back may be more than is received at once; frames too large for the arena are handed out as they lie. */
static void large_frames_given_back(void)
{
    enum { SIZE = 70001, COUNT = 3 };
    sb_group group = lines_group();
    group.framing.limit = SIZE;
    group.cost_ns = 100 * MS;
    struct world *w = world_of(4, group);
    char *block = malloc(COUNT * SIZE);
    int id = join(w, 0);
    for (int i = 0; i < COUNT; i++) {
        memset(block + i * SIZE, 'a' + i, SIZE - 1);
        block[(i + 1) * SIZE - 1] = '\n';
    }
    sb_mux_unread(w->mux, id, block, COUNT * SIZE, 0);
    for (int i = 0; i < COUNT; i++) {
        CHECK_TEXT(turn(w), "0:(70001 in 1) ");
        CHECK(sb_mux_events(w->mux)[0].offset < 0);
        CHECK(memcmp(block_of(w, &sb_mux_events(w->mux)[0]), block + i * SIZE, SIZE) == 0);
    }
    CHECK_TEXT(turn(w), "");
    free(block);
    end_of(w);
}

/* The same where no caller is needed: 65,536 frames of a connection in a turn, unless their answer ends it. */
static void much_given_back_is_served(void)
{
    enum { SIZE = 200000 };
    sb_group group = lines_group();
    group.serve = echo;
    for (int is_broken = 0; is_broken < 2; is_broken++) {
        struct world *w = world_of(4, group);
        char *block = malloc(SIZE);
        int id = join(w, 0);
        memset(block, '\n', SIZE);
        sb_mux_unread(w->mux, id, block, SIZE, 0);
        if (is_broken) {
            fail_nth(CALL_SEND, 1, EPIPE);
            CHECK_TEXT(turn(w), "0 closed 3 ");
            CHECK_EQ(sb_mux_counts(w->mux)->left, 0);
        } else {
            CHECK_TEXT(turn(w), "");
            CHECK_EQ(drain(w, id, block, 0), 65536);
            CHECK_EQ(sb_mux_counts(w->mux)->left, 1);
            size_t at = 65536;
            for (int i = 0; i < 10 && at < SIZE; i++) {
                turn(w);
                at = drain(w, id, block, at);
            }
            CHECK_EQ(at, SIZE);
        }
        CHECK_TEXT(turn(w), "");
        free(block);
        end_of(w);
    }
}

/* How much is received for a share follows the frames of late: what came long ago counts less. */
static void the_size_of_frames_is_of_late(void)
{
    enum { SHORT = 200000, LONG = 60000, EACH = 16 };
    struct world *w = slow_world(MS / 200, SB_GROUP_LF);
    int id = join(w, 0);
    char *got = malloc(SHORT + LONG * EACH);
    sb_info info;
    for (int i = 0; i < 20; i++) {
        flood(w, id, "\n", SHORT / 20);
        collect(w, got, SHORT / 20);
    }
    for (int i = 0; i < 20; i++) {
        flood(w, id, "123456789012345\n", LONG / 20);
        collect(w, got, LONG / 20 * EACH);
    }
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    int64_t before = info.received;
    flood(w, id, "123456789012345\n", 3000);
    turn(w);
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK(info.received - before >= 15000); /* 9,000 by the mean of all */
    free(got);
    end_of(w);
}

/* ---- what cannot be cut */

static void only_frames_are_cut(void)
{
    struct world *w = slow_world(0, SB_GROUP_ANNOUNCE);
    int id = join(w, 0);
    say(w, id, "a\nb\n");
    hang_up(w, id);
    turn(w);
    CHECK_EQ(sb_mux_cut(w->mux, -1, 0), SB_ERR_MISMATCH);
    CHECK_TEXT(turn(w), "0 end 0 ");
    CHECK_EQ(sb_mux_cut(w->mux, 0, 0), SB_ERR_MISMATCH);
    end_of(w);
}

/* Frames are counted by the framing that the connection has now: none of its bytes is lost where it is not theirs. */
static void cut_by_another_framing(void)
{
    sb_framing framings[2];
    CHECK_EQ(sb_framing_line(20, &framings[0]), 0);
    CHECK_EQ(sb_framing_fixed(7, &framings[1]), 0);
    for (size_t i = 0; i < 2; i++) {
        size_t unfinished;
        sb_group group = lines_group();
        CHECK_EQ(sb_framing_netstring(9, &group.framing), 0);
        struct world *w = world_of(4, group);
        int id = join(w, 0);
        say(w, id, "1:a,1:b,1:c,");
        CHECK_TEXT(turn(w), "0:1:a,1:b,1:c, ");
        CHECK_EQ(sb_mux_framing(w->mux, id, &framings[i]), 0);
        CHECK_EQ(sb_mux_cut(w->mux, 0, 2), 0);
        CHECK_EQ(sb_mux_events(w->mux)[0].size, i == 0 ? 0 : 7);
        const char *rest = sb_mux_unfinished(w->mux, id, &unfinished);
        CHECK(i == 0 ? unfinished == 12 : unfinished == 5 && memcmp(rest, ",1:c,", 5) == 0);
        say(w, id, "..\n");
        CHECK_TEXT(turn(w), "");
        CHECK_TEXT(turn(w), i == 0 ? "0:1:a,1:b,1:c,..| " : "0:,1:c,.. ");
        end_of(w);
    }
}

const struct test mux_turns_tests[] = {
    {"a share of many lines", a_share_of_many_lines},
    {"the first of those that wait ends", the_first_of_those_that_wait_ends},
    {"the next turn begins with another group", the_next_turn_begins_with_another_group},
    {"output and frames that wait", output_and_frames_that_wait},
    {"who waits is not idle", who_waits_is_not_idle},
    {"large frames given back", large_frames_given_back},
    {"much given back is served", much_given_back_is_served},
    {"the size of frames is of late", the_size_of_frames_is_of_late},
    {"only frames are cut", only_frames_are_cut},
    {"cut by another framing", cut_by_another_framing},
    {NULL, NULL},
};
