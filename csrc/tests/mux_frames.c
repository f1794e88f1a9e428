/* SPDX-License-Identifier: MIT */
/* Framings of every kind in a mux, frames given back, and another framing in mid-connection. */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static sb_group group_of(sb_framing framing)
{
    sb_group group = lines_group();
    group.framing = framing;
    return group;
}

static sb_framing netstring(size_t limit)
{
    sb_framing framing;
    CHECK_EQ(sb_framing_netstring(limit, &framing), 0);
    return framing;
}

static sb_framing line(size_t limit)
{
    sb_framing framing;
    CHECK_EQ(sb_framing_line(limit, &framing), 0);
    return framing;
}

static sb_framing fixed(size_t size)
{
    sb_framing framing;
    CHECK_EQ(sb_framing_fixed(size, &framing), 0);
    return framing;
}

static int reason_of(struct world *w, int id)
{
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    return info.reason;
}

/* A stream of two frames and a piece of a third, by each framing, at once and byte by byte. */
static void every_framing(void)
{
    static const char *const streams[] = {
        "ab\ncd\ne", "ab\r\ncd\r\n\r", "ab--cd--e", "2:ab,1:c,1:", "\2ab\1c\1", "\2ab\1c\1", "2 ab1 c1 ", "2 abc\n1",
        "abcabcab", "ab\r\n..x\r\n.\r\nc\r\n.\r\n..\r\n.", "a=b\n\nc=d\n\r\ne=\n",
    };
    sb_framing framings[11];
    CHECK_EQ(sb_framing_line(9, &framings[0]), 0);
    CHECK_EQ(sb_framing_crlf(9, &framings[1]), 0);
    CHECK_EQ(sb_framing_delimiter("--", 2, 9, &framings[2]), 0);
    CHECK_EQ(sb_framing_netstring(9, &framings[3]), 0);
    CHECK_EQ(sb_framing_prefix(1, SB_ORDER_BIG, 0, 9, &framings[4]), 0);
    CHECK_EQ(sb_framing_varint(9, &framings[5]), 0);
    CHECK_EQ(sb_framing_octet_count(0, 9, &framings[6]), 0);
    CHECK_EQ(sb_framing_octet_count(1, 9, &framings[7]), 0);
    CHECK_EQ(sb_framing_fixed(3, &framings[8]), 0);
    CHECK_EQ(sb_framing_dot_block(9, &framings[9]), 0);
    CHECK_EQ(sb_framing_blank_line(9, &framings[10]), 0);
    for (size_t i = 0; i < 11; i++) {
        struct world *w = world_of(4, group_of(framings[i]));
        int whole = join(w, 0), slow = join(w, 0);
        int64_t frames = 0, bytes = 0;
        say(w, whole, streams[i]);
        turn(w);
        CHECK_EQ(sb_mux_counts(w->mux)->events, 1);
        CHECK_EQ(sb_mux_events(w->mux)[0].frames, 2);
        for (const char *at = streams[i]; *at != '\0'; at++) {
            say(w, slow, (char[]){*at, '\0'});
            turn(w);
            if (sb_mux_counts(w->mux)->events > 0) {
                frames += sb_mux_events(w->mux)[0].frames;
                bytes += sb_mux_events(w->mux)[0].size;
            }
        }
        CHECK_EQ(frames, 2);
        CHECK(bytes < (int64_t)strlen(streams[i]));
        hang_up(w, whole);
        hang_up(w, slow);
        turn(w);
        CHECK_EQ(reason_of(w, whole), SB_REASON_TRUNCATED);
        CHECK_EQ(reason_of(w, slow), SB_REASON_TRUNCATED);
        end_of(w);
    }
}

static void no_frame(void)
{
    struct world *w = world_of(8, group_of(netstring(9)));
    int first = join(w, 0), behind = join(w, 0), large = join(w, 0);
    say(w, first, "x");
    say(w, behind, "1:a,x");
    say(w, large, "10:");
    CHECK_TEXT(turn(w), "1:1:a, ");
    CHECK_EQ(reason_of(w, first), SB_REASON_MALFORMED);
    CHECK_EQ(reason_of(w, large), SB_REASON_FRAME_TOO_LONG);
    turn(w);
    CHECK_EQ(reason_of(w, behind), SB_REASON_MALFORMED);
    for (int id = 0; id < 3; id++)
        CHECK_TEXT(heard(w, id), "$");
    end_of(w);
}

/* The dots of stuffing do not count, however often the piece is looked at. */
static void dots_are_remembered(void)
{
    sb_framing framing;
    CHECK_EQ(sb_framing_dot_block(6, &framing), 0);
    struct world *w = world_of(4, group_of(framing));
    int id = join(w, 0);
    for (int i = 0; i < 2; i++) {
        say(w, id, "..\r\n");
        CHECK_TEXT(turn(w), "");
    }
    say(w, id, ".\r\n");
    turn(w);
    CHECK_EQ(sb_mux_counts(w->mux)->events, 1);
    CHECK_EQ(sb_mux_events(w->mux)[0].size, 11);
    end_of(w);
}

/* A large frame grows in a buffer, and is malformed there. */
static void malformed_in_a_buffer(void)
{
    struct world *w = world_of(4, group_of(netstring(5000)));
    int id = join(w, 0);
    char *block = big_block(2500);
    say(w, id, "5000:");
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(send(w->peer[id], block, 2500, MSG_NOSIGNAL), 2500);
        CHECK_TEXT(turn(w), "");
    }
    say(w, id, ";");
    turn(w);
    CHECK_EQ(reason_of(w, id), SB_REASON_MALFORMED);
    free(block);
    end_of(w);
}

static void which_groups_can_be(void)
{
    struct world *w = world_of(4, lines_group());
    sb_group group = lines_group();
    CHECK_EQ(sb_framing_datagram(9, &group.framing), 0);
    CHECK_EQ(sb_mux_group(w->mux, &group), SB_ERR_INVALID);
    group.framing = fixed(9);
    group.framing.limit = INT32_MAX; /* with 32 bits none can be made so long */
    CHECK_EQ(sb_mux_group(w->mux, &group), SB_ERR_INVALID);
    group.framing = netstring(9);
    group.serve = upper;
    CHECK_EQ(sb_mux_group(w->mux, &group), SB_ERR_INVALID);
    int id = join(w, 0);
    sb_framing none = group.framing;
    CHECK_EQ(sb_framing_datagram(9, &none), 0);
    CHECK_EQ(sb_mux_framing(w->mux, id, &none), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_framing(w->mux, 99, &group.framing), SB_ERR_GONE);
    end_of(w);
}

static void raw_pieces(void)
{
    sb_framing framing;
    CHECK_EQ(sb_framing_raw(3, &framing), 0);
    struct world *w = world_of(4, group_of(framing));
    int id = join(w, 0);
    say(w, id, "abcde");
    CHECK_TEXT(turn(w), "0:abc ");
    CHECK_TEXT(turn(w), "0:de ");
    end_of(w);
}

static void as_on_the_wire(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_WIRE;
    struct world *w = world_of(4, group);
    int id = join(w, 0);
    say(w, id, "a\r\nb\n\r\n");
    CHECK_TEXT(turn(w), "0:a\r|b|\r| ");
    CHECK_EQ(sb_mux_events(w->mux)[0].detail, 2);
    end_of(w);
}

/* What was given back comes again, first, with what came behind it. */
static void unread(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_WIRE;
    struct world *w = world_of(4, group);
    int id = join(w, 0), other = join(w, 0);
    say(w, id, "a\nb\r\nc");
    CHECK_TEXT(turn(w), "0:a|b\r| ");
    sb_mux_unread(w->mux, id, "b\r\n", 3, 1);
    CHECK_EQ(sb_mux_timeout(w->mux), 0);
    say(w, id, "d\n");
    CHECK_TEXT(turn(w), "0:b\r| ");
    CHECK_TEXT(turn(w), "0:cd| ");
    sb_mux_unread(w->mux, id, "cd\n", 3, 1);
    sb_mux_unread(w->mux, id, "b\n", 2, 1);
    CHECK_TEXT(turn(w), "0:b|cd| ");
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.frames, 3);
    sb_mux_unread(w->mux, id, "cd\n", 0, 0);
    sb_mux_unread(w->mux, 99, "cd\n", 3, 1);
    sb_mux_close(w->mux, other, SB_REASON_CLOSED);
    sb_mux_unread(w->mux, other, "cd\n", 3, 1);
    CHECK_TEXT(turn(w), "");
    end_of(w);
}

static void unread_while_paused(void)
{
    int32_t quiet;
    sb_group group = lines_group();
    group.flags = SB_GROUP_WIRE;
    struct world *w = world_of(4, group);
    int id = join(w, 0);
    say(w, id, "a\nb\n");
    CHECK_TEXT(turn(w), "0:a|b| ");
    sb_mux_unread(w->mux, id, "b\n", 2, 1);
    sb_mux_pause(w->mux, id, 1);
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_mux_timeout(w->mux), -1);
    say(w, id, "c\n");
    CHECK_TEXT(turn(w), "");
    sb_mux_pause(w->mux, id, 0);
    CHECK_TEXT(turn(w), "0:b| ");
    CHECK_TEXT(turn(w), "0:c| ");
    sb_mux_pause(w->mux, id, 1);
    sb_mux_unread(w->mux, id, "c\n", 2, 1);
    CHECK_EQ(sb_mux_list(w->mux, 0, SB_LIST_QUIET, &quiet, 1), 0);
    sb_mux_close(w->mux, id, SB_REASON_CLOSED); /* while it waits: its input is discarded */
    say(w, id, "d\n");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "$");
    end_of(w);
}

/* Its output leaves in the turn in which it has sent more. */
static void unread_while_high(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_WIRE;
    group.high_water = 2;
    struct world *w = world_of(4, group);
    int32_t id = join(w, 0), both = SB_READ | SB_WRITE;
    say(w, id, "a\nb\n");
    CHECK_TEXT(turn(w), "0:a|b| ");
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, "12345", 5);
    sb_mux_unread(w->mux, id, "b\n", 2, 1);
    say(w, id, "c\n");
    CHECK_EQ(sb_mux_turn_of(w->mux, &id, &both, 1), 1);
    CHECK_TEXT(heard(w, id), "12345");
    CHECK_TEXT(events_of(w), "0:b| ");
    CHECK_EQ(sb_mux_turn_of(w->mux, &id, &both, 1), 1);
    CHECK_TEXT(events_of(w), "0:c| ");
    end_of(w);
}

/* A row whose number is used again while it stands in the list. */
static void unread_and_ended(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_WIRE;
    struct world *w = world_of(1, group);
    int id = join(w, 0);
    for (int i = 0; i < 3; i++) {
        say(w, id, "a\nb\n");
        turn(w);
        sb_mux_unread(w->mux, id, "b\n", 2, 1);
        sb_mux_abort(w->mux, id, SB_REASON_ABORTED);
        sb_mux_reap(w->mux);
        hang_up(w, id);
        learn_changes(w);
        id = join(w, 0);
        CHECK_EQ(id, i + 1);
    }
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_mux_timeout(w->mux), -1);
    end_of(w);
}

static void another_framing(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_WIRE;
    struct world *w = world_of(4, group);
    sb_framing three = fixed(3), lines = line(5), strings = netstring(9);
    int id = join(w, 0);
    CHECK_EQ(sb_mux_framing(w->mux, id, &lines), 0); /* nothing has come yet */
    say(w, id, "data\r\nab\r\n\n1:x,2");
    CHECK_TEXT(turn(w), "0:data\r|ab\r|| ");
    CHECK_EQ(sb_mux_framing(w->mux, id, &three), 0);
    sb_mux_unread(w->mux, id, "ab\r\n\n", 5, 2);
    CHECK_TEXT(turn(w), "0:ab\r||1:x, ");
    hang_up(w, id); /* its end comes behind what is given back */
    CHECK_EQ(sb_mux_framing(w->mux, id, &lines), 0);
    sb_mux_unread(w->mux, id, "\n\n1:x,", 6, 2);
    CHECK_TEXT(turn(w), "0:|| ");
    CHECK_EQ(sb_mux_framing(w->mux, id, &strings), 0);
    CHECK_TEXT(turn(w), "0:1:x, ");
    CHECK_TEXT(turn(w), "0 closed 5 ");
    end_of(w);
}

/* What is no frame by one framing is some by the next. */
static void wrong_no_more(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_WIRE;
    group.framing = line(5);
    struct world *w = world_of(4, group);
    sb_framing eight = fixed(8), lines = line(5);
    int id = join(w, 0);
    say(w, id, "8\n12345678tail");
    CHECK_TEXT(turn(w), "0:8| ");
    CHECK_EQ(sb_mux_framing(w->mux, id, &eight), 0);
    CHECK_TEXT(turn(w), "0:12345678 ");
    CHECK_EQ(sb_mux_framing(w->mux, id, &lines), 0);
    say(w, id, "\n1234567");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(turn(w), "0:tail| ");
    sb_mux_unread(w->mux, id, "tail\n", 5, 1); /* then it is wrong in the next turn, not now */
    CHECK_TEXT(turn(w), "0:tail| ");
    CHECK_EQ(sb_mux_timeout(w->mux), 0);
    say(w, id, "more");
    turn(w);
    CHECK_EQ(reason_of(w, id), SB_REASON_FRAME_TOO_LONG);
    end_of(w);
}

/* Whoever has frames at work pauses, and what is no frame is judged when it is read again. */
static void wrong_behind_frames_at_work(void)
{
    for (int at_once = 0; at_once < 2; at_once++) {
        sb_group group = lines_group();
        group.flags = SB_GROUP_WIRE | SB_GROUP_ANNOUNCE;
        group.framing = line(5);
        struct world *w = world_of(4, group);
        int id = join(w, 0);
        say(w, id, at_once ? "a\nb\n1234567" : "a\nb\n");
        CHECK_TEXT(turn(w), at_once ? "0 accepted 0 0:a|b| 0 wrong 6 " : "0 accepted 0 0:a|b| ");
        if (!at_once) {
            say(w, id, "1234567");
            CHECK_TEXT(turn(w), "0 wrong 6 ");
        }
        sb_mux_pause(w->mux, id, 1);
        CHECK_TEXT(turn(w), "");
        say(w, id, "more\n");
        CHECK_TEXT(turn(w), "");
        answer(w, id, "A\nB\n", 4);
        sb_mux_pause(w->mux, id, 0);
        CHECK_TEXT(turn(w), "0 wrong 6 ");
        sb_mux_pause(w->mux, id, 1); /* there is more to be answered */
        CHECK_TEXT(turn(w), "");
        answer(w, id, "C\n", 2);
        sb_mux_pause(w->mux, id, 0);
        CHECK_TEXT(turn(w), "0 wrong 6 ");
        answer(w, id, "D\n", 2);
        CHECK_TEXT(turn(w), "");
        CHECK_EQ(reason_of(w, id), SB_REASON_FRAME_TOO_LONG);
        answer(w, id, "E\n", 2); /* too late */
        CHECK_TEXT(heard(w, id), "A\nB\nC\nD\n");
        end_of(w);
    }
}

/* The same without anybody to be told: who pauses is waited for. */
static void wrong_while_paused(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_WIRE;
    group.framing = line(5);
    struct world *w = world_of(4, group);
    int id = join(w, 0);
    say(w, id, "a\n1234567");
    CHECK_TEXT(turn(w), "0:a| ");
    sb_mux_pause(w->mux, id, 1);
    CHECK_TEXT(turn(w), "");
    sb_framing seven = fixed(7);
    CHECK_EQ(sb_mux_framing(w->mux, id, &seven), 0); /* what is wrong for one may be right for the next */
    sb_mux_pause(w->mux, id, 0);
    CHECK_TEXT(turn(w), "0:1234567 ");
    sb_framing five = line(5);
    CHECK_EQ(sb_mux_framing(w->mux, id, &five), 0);
    say(w, id, "b\n1234567");
    CHECK_TEXT(turn(w), "0:b| ");
    sb_mux_pause(w->mux, id, 1);
    CHECK_TEXT(turn(w), "");
    sb_mux_pause(w->mux, id, 0);
    turn(w);
    CHECK_EQ(reason_of(w, id), SB_REASON_FRAME_TOO_LONG);
    end_of(w);
}

/* Doomed by what was unread, and ready in the same turn. */
static void doomed_and_ready(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_WIRE;
    group.framing = line(5);
    struct world *w = world_of(4, group);
    int id = join(w, 0);
    sb_mux_unread(w->mux, id, "ok\n1234567", 10, 0);
    say(w, id, "more");
    CHECK_TEXT(turn(w), "0:ok| ");
    turn(w);
    CHECK_EQ(reason_of(w, id), SB_REASON_FRAME_TOO_LONG);
    end_of(w);
}

/* More connections than there are blocks to be held. */
static void many_again(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_WIRE;
    struct world *w = world_of(100, group);
    for (int id = 0; id < 100; id++) {
        CHECK_EQ(join(w, 0), id);
        sb_mux_unread(w->mux, id, "a\n", 2, 0);
    }
    say(w, 99, "b\n");
    turn(w);
    CHECK_EQ(sb_mux_counts(w->mux)->events, 64);
    CHECK_EQ(sb_mux_timeout(w->mux), 0);
    turn(w);
    CHECK_EQ(sb_mux_counts(w->mux)->events, 37); /* the one that was ready besides was among the first */
    CHECK_TEXT(turn(w), "");
    end_of(w);
}

static void no_memory_for_unread(void)
{
    for (int nth = 1; nth < 4; nth++) {
        sb_group group = lines_group();
        group.flags = SB_GROUP_WIRE;
        struct world *w = world_of(4, group);
        int id = join(w, 0);
        if (nth == 3)
            sb_mux_memory(w->mux, 1);
        else
            fail_nth(CALL_ALLOCATE, nth, ENOMEM);
        sb_mux_unread(w->mux, id, "a\n", 2, 0);
        CHECK_EQ(reason_of(w, id), SB_REASON_LIMIT);
        end_of(w);
    }
}

const struct test mux_frames_tests[] = {
    {"every framing", every_framing},
    {"no frame", no_frame},
    {"dots are remembered", dots_are_remembered},
    {"malformed in a buffer", malformed_in_a_buffer},
    {"which groups can be", which_groups_can_be},
    {"raw pieces", raw_pieces},
    {"as on the wire", as_on_the_wire},
    {"unread", unread},
    {"unread while paused", unread_while_paused},
    {"unread while high", unread_while_high},
    {"unread and ended", unread_and_ended},
    {"another framing", another_framing},
    {"wrong no more", wrong_no_more},
    {"doomed and ready", doomed_and_ready},
    {"wrong behind frames at work", wrong_behind_frames_at_work},
    {"wrong while paused", wrong_while_paused},
    {"many again", many_again},
    {"no memory for unread", no_memory_for_unread},
    {NULL, NULL},
};
