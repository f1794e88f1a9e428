/* SPDX-License-Identifier: MIT */
/* mux_shares - a turn has a budget; groups and connections get equal shares of it, and the rest waits its turn */
#include "world.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Turns until nothing comes any more; the frames of one connection, or of all (-1). */
static int64_t frames_of(struct world *w, int id, int turns)
{
    int64_t frames = 0;
    for (int i = 0; i < turns; i++) {
        turn(w);
        for (int j = 0; j < sb_mux_counts(w->mux)->events; j++) {
            const sb_event *event = &sb_mux_events(w->mux)[j];
            frames += event->kind == SB_EVENT_FRAMES && (id < 0 || event->id == id) ? event->frames : 0;
        }
    }
    return frames;
}

/* 5 ms are five frames of 1 ms: the others of the group and of another get theirs in the same turn. */
static void a_flood_has_its_share(void)
{
    struct world *w = slow_world(MS, SB_GROUP_LF);
    sb_group group = lines_group();
    group.cost_ns = MS / 10;
    int other = sb_mux_group(w->mux, &group);
    int flooding = join(w, 0), own = join(w, 0), elsewhere = join(w, other);
    flood(w, flooding, "\n", 1000);
    CHECK_TEXT(turn(w), "0:||||| ");
    CHECK_EQ(sb_mux_counts(w->mux)->left, 1);
    CHECK_EQ(sb_mux_timeout(w->mux), 0); /* the kernel has nothing to tell of what lies here */
    say(w, own, "own\n");
    say(w, elsewhere, "other\n");
    const char *told = turn(w);
    CHECK(strstr(told, "1:own| ") != NULL && strstr(told, "2:other| ") != NULL);
    CHECK(strstr(told, "0:| ") != NULL); /* half of the time is this group's, half of that this connection's */
    CHECK_EQ(frames_of(w, flooding, 300), 994);
    CHECK_EQ(sb_mux_counts(w->mux)->left, 0);
    CHECK_EQ(sb_mux_timeout(w->mux), -1);
    end_of(w);
}

/* Where there is time for one frame only, connections take turns, whether their frames lie here or in the kernel. */
static void connections_take_turns(void)
{
    struct world *w = slow_world(100 * MS, SB_GROUP_LF);
    int came[3] = {0};
    for (int i = 0; i < 3; i++)
        flood(w, join(w, 0), "\n", 50);
    for (int i = 0; i < 30; i++) {
        turn(w);
        CHECK_EQ(sb_mux_counts(w->mux)->events, 1);
        CHECK_EQ(sb_mux_events(w->mux)[0].frames, 1);
        came[sb_mux_events(w->mux)[0].id]++;
    }
    CHECK(came[0] == 10 && came[1] == 10 && came[2] == 10);
    end_of(w);
}

/* What takes longer than was thought has fewer frames at once; what takes less has more by and by. */
static void the_caller_tells_what_it_takes(void)
{
    struct world *w = slow_world(MS, SB_GROUP_LF);
    int id = join(w, 0);
    flood(w, id, "\n", 3000);
    CHECK_EQ(frames_of(w, id, 1), 5);
    sb_mux_spent(w->mux, 0, 25 * MS); /* 5 ms each, once */
    CHECK_EQ(frames_of(w, id, 1), 5);
    sb_mux_spent(w->mux, 0, 25 * MS);
    CHECK_EQ(frames_of(w, id, 1), 1);
    sb_mux_spent(w->mux, 0, MS); /* between 1 and 5 */
    CHECK_EQ(frames_of(w, id, 1), 1);
    sb_mux_spent(w->mux, 0, 0);
    CHECK_EQ(frames_of(w, id, 1), 3);
    for (int i = 0; i < 30; i++) {
        sb_mux_spent(w->mux, 0, 0);
        flood(w, id, "\n", 100);
        frames_of(w, id, 1);
    }
    CHECK_EQ(sb_mux_counts(w->mux)->left, 0);
    sb_mux_spent(w->mux, 0, 0);
    sb_mux_spent(w->mux, 0, MS); /* of nothing, and of no group */
    sb_mux_spent(w->mux, 7, MS);
    flood(w, id, "\n", 9000);
    CHECK_EQ(frames_of(w, id, 1), 8192); /* however fast it was */
    CHECK_EQ(frames_of(w, id, 1), 808);
    end_of(w);
}

/* Nobody is late whose frames wait here, and an unfinished one behind them has all of its time. */
static void who_waits_is_not_late(void)
{
    sb_group group = lines_group();
    group.cost_ns = 100 * MS;
    group.frame_ms = 1000;
    struct world *w = world_of(16, group);
    int id = join(w, 0);
    flood(w, id, "\n", 20);
    say(w, id, "half");
    for (int i = 0; i < 20; i++) {
        clock_advance(900);
        CHECK_TEXT(turn(w), "0:| ");
    }
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(after(w, 900), "");
    CHECK_TEXT(after(w, 1000), "0 closed 13 "); /* SB_REASON_FRAME_TIMEOUT */
    end_of(w);
}

/* The end of the peer, and what is no frame, come behind the frames that wait. */
static void the_end_comes_last(void)
{
    struct world *w = slow_world(100 * MS, SB_GROUP_ANNOUNCE);
    int gone = join(w, 0);
    events_of(w);
    say(w, gone, "a\nb\nc");
    hang_up(w, gone);
    CHECK_TEXT(turn(w), "0:a| ");
    CHECK_TEXT(turn(w), "0:b| ");
    turn(w);
    CHECK_TEXT(turn(w), "0 end 1 ");
    end_of(w);

    w = slow_world(100 * MS, SB_GROUP_LF);
    int wrong = join(w, 0);
    char *block = malloc(2001);
    memset(block, 'x', 2000);
    block[2000] = '\0';
    say(w, wrong, "a\nb\n");
    say(w, wrong, block);
    CHECK_TEXT(turn(w), "0:a| ");
    CHECK_TEXT(turn(w), "0:b| ");
    turn(w);
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, wrong, &info), 0);
    CHECK_EQ(info.reason, SB_REASON_FRAME_TOO_LONG);
    free(block);
    end_of(w);
}

/* Frames of every framing wait as lines do, in order, and none is lost or doubled. */
static void every_framing_waits(void)
{
    static const char *const streams[] = {"a\r\nb\nc\n", "1:a,1:b,1:c,", "\1a\1b\1c", "abc", "a\r\n.\r\nb\r\n.\r\nc\r\n.\r\n"};
    sb_framing framings[5];
    CHECK_EQ(sb_framing_line(9, &framings[0]), 0);
    CHECK_EQ(sb_framing_netstring(9, &framings[1]), 0);
    CHECK_EQ(sb_framing_prefix(1, SB_ORDER_BIG, 0, 9, &framings[2]), 0);
    CHECK_EQ(sb_framing_fixed(1, &framings[3]), 0);
    CHECK_EQ(sb_framing_dot_block(9, &framings[4]), 0);
    for (size_t i = 0; i < 5; i++) {
        sb_group group = lines_group();
        group.framing = framings[i];
        group.flags = SB_GROUP_WIRE;
        group.cost_ns = 100 * MS;
        struct world *w = world_of(4, group);
        char got[64] = "";
        say(w, join(w, 0), streams[i]);
        for (int j = 0; j < 3; j++) {
            turn(w);
            const sb_event *event = &sb_mux_events(w->mux)[0];
            CHECK(sb_mux_counts(w->mux)->events == 1 && event->frames == 1);
            const char *data = event->offset >= 0 ? sb_mux_arena(w->mux) + event->offset
                                                  : sb_mux_held(w->mux, -1 - event->offset);
            strncat(got, data, (size_t)event->size);
        }
        CHECK_TEXT(got, streams[i]);
        CHECK_TEXT(turn(w), "");
        end_of(w);
    }
}

/* Where nothing is framed, a byte may be a frame to the caller. */
static void pieces_are_small_for_a_slow_caller(void)
{
    sb_group group = lines_group();
    group.framing = (sb_framing){.kind = SB_FRAMING_RAW};
    group.flags = SB_GROUP_WIRE;
    group.cost_ns = 100 * MS;
    struct world *w = world_of(4, group);
    int id = join(w, 0);
    flood(w, id, "0123456789", 100);
    turn(w);
    CHECK_EQ(sb_mux_events(w->mux)[0].size, 256);
    sb_mux_spent(w->mux, 0, 0);
    turn(w);
    CHECK_EQ(sb_mux_events(w->mux)[0].size, 512);
    end_of(w);
}

/* Half of an event is answered, the other half comes again. */
static void cut_in_the_middle(void)
{
    struct world *w = slow_world(0, SB_GROUP_LF | SB_GROUP_MERGE);
    int a = join(w, 0), b = join(w, 0), c = join(w, 0);
    say(w, a, "a1\na2\n");
    say(w, b, "b1\nb2\n");
    say(w, c, "c1\n");
    turn(w);
    CHECK_EQ(sb_mux_cut(w->mux, 1, 1), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_cut(w->mux, 0, 6), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_cut(w->mux, 0, -1), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_cut(w->mux, 0, 3), 0);
    CHECK_EQ(sb_mux_reply_lines(w->mux, 0, "A1\nA2\nB1\n", 9), 0);
    CHECK_TEXT(heard(w, a), "A1\nA2\n");
    CHECK_TEXT(heard(w, b), "B1\n");
    CHECK_TEXT(heard(w, c), "-");
    const char *told = turn(w);
    CHECK(strstr(told, "b2|") != NULL && strstr(told, "c1|") != NULL && strstr(told, "b1|") == NULL);
    CHECK_EQ(sb_mux_cut(w->mux, 0, 0), 0);
    told = turn(w);
    CHECK(strstr(told, "b2|") != NULL);
    end_of(w);

    sb_group group = lines_group();
    CHECK_EQ(sb_framing_netstring(9, &group.framing), 0);
    w = world_of(4, group);
    say(w, join(w, 0), "1:a,1:b,1:c,");
    turn(w);
    CHECK_EQ(sb_mux_cut(w->mux, 0, 1), 0);
    CHECK_EQ(sb_mux_events(w->mux)[0].size, 4);
    CHECK_TEXT(turn(w), "0:1:b,1:c, ");
    end_of(w);
}

/* What needs no caller has a bound of bytes: 4 MiB of many connections in a turn. */
static void served_in_turns(void)
{
    enum { COUNT = 200, SIZE = 50000 };
    sb_group group = lines_group();
    group.serve = discard;
    struct world *w = world_of(COUNT, group);
    char *block = malloc(SIZE + 1);
    memset(block, '\n', SIZE);
    block[SIZE] = '\0';
    for (int i = 0; i < COUNT; i++)
        say(w, join(w, 0), block);
    sb_totals totals;
    for (int64_t before = 0, turns = 0; before < (int64_t)COUNT * SIZE; turns++) {
        turn(w);
        CHECK_EQ(sb_mux_totals(w->mux, 0, &totals), 0);
        CHECK(totals.frames > before && totals.frames - before <= (4 << 20) + SIZE);
        before = totals.frames;
        if (turns == 10)
            break;
    }
    CHECK_EQ(totals.frames, COUNT * SIZE);
    free(block);
    end_of(w);
}

/* Rows are kept for a group, which is not full when the mux is to the others. */
static void rows_are_kept(void)
{
    struct world *w = world_of(4, lines_group());
    sb_group group = lines_group();
    group.flags |= SB_GROUP_KEPT;
    int pages = sb_mux_group(w->mux, &group), stopped;
    sb_mux_keep_rows(w->mux, 2);
    CHECK(join(w, 0) >= 0 && join(w, 0) >= 0);
    CHECK_EQ(join(w, 0), SB_ERR_FULL);
    struct sockaddr_in address;
    int server = listener(&address), client = dial(&address);
    CHECK_EQ(sb_mux_accept(w->mux, server, 0, 1, &stopped), 0);
    CHECK_EQ(stopped, SB_ERR_FULL);
    CHECK_EQ(sb_mux_accept(w->mux, server, pages, 1, &stopped), 1);
    CHECK_EQ(stopped, 0);
    CHECK(join(w, pages) >= 0);
    CHECK_EQ(join(w, pages), SB_ERR_FULL);
    close(client);
    close(server);
    end_of(w);
}

const struct test mux_shares_tests[] = {
    {"a flood has its share", a_flood_has_its_share},
    {"connections take turns", connections_take_turns},
    {"the caller tells what it takes", the_caller_tells_what_it_takes},
    {"who waits is not late", who_waits_is_not_late},
    {"the end comes last", the_end_comes_last},
    {"every framing waits", every_framing_waits},
    {"pieces are small for a slow caller", pieces_are_small_for_a_slow_caller},
    {"cut in the middle", cut_in_the_middle},
    {"served in turns", served_in_turns},
    {"rows are kept", rows_are_kept},
    {NULL, NULL},
};
