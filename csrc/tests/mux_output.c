/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void slow_reader(void)
{
    enum { SIZE = 1 << 20 };
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    group.high_water = 300000;
    struct world *w = world_of(8, group);
    int32_t id = join(w, 0);
    char *block = big_block(SIZE);
    int64_t size = SIZE;
    sb_mux_write(w->mux, 1, &id, &size, block);
    CHECK(strstr(events_of(w), "0 pause 0 ") != NULL);
    CHECK(sb_mux_unsent(w->mux, id) > 300000);
    CHECK(w->epoll || (learn_changes(w), w->interest[id] == SB_WRITE));
    say(w, id, "not read while it does not read\n");
    CHECK_TEXT(turn(w), w->epoll ? "" : "");
    size_t at = 0;
    int resumed = 0, lines = 0;
    for (int i = 0; i < 1000 && at < SIZE; i++) {
        at = drain(w, id, block, at);
        turn(w);
        if (strstr(w->log, "0 resume 0 ") != NULL) {
            resumed++;
            CHECK(sb_mux_unsent(w->mux, id) <= 75000);
        }
        lines += strstr(w->log, "0:not read") != NULL;
        CHECK(lines <= resumed);
    }
    CHECK_EQ(at, SIZE);
    turn(w);
    lines += strstr(w->log, "0:not read") != NULL;
    CHECK_EQ(resumed, 1);
    CHECK_EQ(lines, 1);
    CHECK_EQ(sb_mux_unsent(w->mux, id), 0);
    free(block);
    end_of(w);
}

static void short_sends(void)
{
    struct world *w = world_of(8, lines_group());
    int32_t id = join(w, 0);
    int64_t size = 10;
    cap_size(CALL_SEND, 1);
    sb_mux_write(w->mux, 1, &id, &size, "0123456789");
    CHECK_EQ(sb_mux_unsent(w->mux, id), 9);
    size = 3;
    sb_mux_write(w->mux, 1, &id, &size, "abc");
    CHECK_EQ(sb_mux_unsent(w->mux, id), 12);
    for (int i = 0; i < 12; i++)
        CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_mux_unsent(w->mux, id), 0);
    cap_size(CALL_SEND, 0);
    CHECK_TEXT(heard(w, id), "0123456789abc");
    fail_nth(CALL_SEND, 1, EAGAIN);
    sb_mux_write(w->mux, 1, &id, &size, "xyz");
    CHECK_EQ(sb_mux_unsent(w->mux, id), 3);
    fail_nth(CALL_SEND, 1, EINTR);
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_mux_unsent(w->mux, id), 3);
    fail_nth(CALL_SEND, 1, EPIPE);
    CHECK_TEXT(turn(w), "0 closed 3 ");
    end_of(w);
}

static void too_much_unsent(void)
{
    enum { SIZE = 1 << 20 };
    sb_group group = lines_group();
    group.max_unsent = 100000;
    struct world *w = world_of(8, group);
    char *block = big_block(SIZE);
    int32_t ids[2] = {join(w, 0), join(w, 0)};
    int64_t sizes[2] = {SIZE, 3};
    char *both = malloc(SIZE + 3);
    memcpy(both, block, SIZE);
    memcpy(both + SIZE, "abc", 3);
    sb_mux_write(w->mux, 2, ids, sizes, both);
    CHECK_TEXT(events_of(w), "0 closed 9 ");
    CHECK_TEXT(heard(w, 1), "abc");
    sb_mux_write(w->mux, 2, ids, sizes, both); /* ended: passed over */
    CHECK_TEXT(heard(w, 1), "abc");
    free(both);
    free(block);
    end_of(w);
}

static void peer_gone_while_writing(void)
{
    struct world *w = world_of(8, lines_group());
    int32_t id = join(w, 0);
    int64_t size = 1;
    hang_up(w, id);
    sb_mux_write(w->mux, 1, &id, &size, "a");
    CHECK_TEXT(events_of(w), "0 closed 3 ");
    end_of(w);
}

static void fin_behind_the_output(void)
{
    struct world *w = world_of(8, lines_group());
    int32_t id = join(w, 0);
    char *block = big_block(1 << 20);
    int64_t size = 1 << 20;
    sb_mux_write(w->mux, 1, &id, &size, block);
    sb_mux_shutdown(w->mux, id);
    sb_mux_write(w->mux, 1, &id, &size, block); /* nothing goes behind a FIN */
    sb_mux_shutdown(w->mux, 99);
    size_t at = 0;
    for (int i = 0; i < 1000 && at < 1 << 20; i++) {
        at = drain(w, id, block, at);
        turn(w);
    }
    CHECK_EQ(at, 1 << 20);
    CHECK_TEXT(heard(w, id), "$");
    say(w, id, "still heard\n");
    CHECK_TEXT(turn(w), "0:still heard| ");
    hang_up(w, id);
    turn(w);
    CHECK(strstr(w->log, "0 closed 1 ") != NULL);
    free(block);
    end_of(w);
}

static void fin_fails(void)
{
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    fail_nth(CALL_SHUTDOWN, 1, ENOTCONN);
    sb_mux_shutdown(w->mux, id);
    CHECK_TEXT(events_of(w), "0 closed 3 ");
    end_of(w);
}

static void pauses(void)
{
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    sb_mux_pause(w->mux, id, 1);
    sb_mux_pause(w->mux, 99, 1);
    say(w, id, "a\n");
    CHECK_TEXT(turn(w), "");
    sb_mux_pause(w->mux, id, 0);
    CHECK_TEXT(turn(w), "0:a| ");
    sb_mux_pause(w->mux, id, 1);
    hang_up(w, id);
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(turn(w), "");
    sb_mux_pause(w->mux, id, 0);
    turn(w);
    CHECK(strstr(w->log, "0 closed") != NULL);
    end_of(w);
}

static void water_marks(void)
{
    struct world *w = world_of(8, lines_group());
    int32_t id = join(w, 0);
    int64_t size = 100;
    char block[100] = "";
    sb_moved moved;
    const char *in, *out;
    static const int64_t marks[][4] = {
        {0, 0, SB_HIGH_WATER, SB_HIGH_WATER / 4}, {100, 0, 100, 25}, {0, 10, SB_HIGH_WATER, 10},
        {100, SB_AT_ONCE, 100, 0}, {SB_AT_ONCE, 0, 0, 0}, {SB_AT_ONCE, SB_AT_ONCE, 0, 0},
    };
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) { /* 0 is the default, as everywhere */
        CHECK_EQ(sb_mux_water(w->mux, id, marks[i][0], marks[i][1]), 0);
        CHECK_EQ(sb_mux_export(w->mux, id, &moved, &in, &out), 0);
        CHECK_EQ(moved.high, marks[i][2]);
        CHECK_EQ(moved.low, marks[i][3]);
    }
    CHECK_EQ(sb_mux_water(w->mux, id, -2, SB_AT_ONCE), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_water(w->mux, id, SB_AT_ONCE, 1), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_water(w->mux, id, 10, 20), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_water(w->mux, id, 10, -2), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_water(w->mux, id, (int64_t)1 << 40, (int64_t)1 << 39), 0);
    CHECK_EQ(sb_mux_water(w->mux, 99, 10, 5), SB_ERR_GONE);
    CHECK_EQ(sb_mux_water(w->mux, id, 50, 40), 0);
    fail_nth(CALL_SEND, 1, EAGAIN);
    sb_mux_write(w->mux, 1, &id, &size, block);
    say(w, id, "a\n");
    fail_nth(CALL_SEND, 1, EAGAIN);
    CHECK_TEXT(turn(w), "");
    turn(w);
    CHECK_EQ(sb_mux_unsent(w->mux, id), 0);
    if (w->logged == 0)
        turn(w);
    CHECK_TEXT(w->log, "0:a| ");
    end_of(w);
}

/* Marks set where more is unsent already: as if it were written now.  SB_AT_ONCE twice tells when nothing is. */
static void water_below_what_is_unsent(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    struct world *w = world_of(8, group);
    int32_t id = join(w, 0);
    int64_t size = 3;
    turn(w);
    CHECK_EQ(sb_mux_water(w->mux, id, SB_AT_ONCE, SB_AT_ONCE), 0);
    CHECK_TEXT(events_of(w), "0 accepted 0 ");
    CHECK_EQ(sb_mux_water(w->mux, id, 100, 50), 0);
    fail_nth(CALL_SEND, 1, EAGAIN);
    sb_mux_write(w->mux, 1, &id, &size, "abc");
    CHECK_TEXT(events_of(w), "0 accepted 0 ");
    CHECK_EQ(sb_mux_water(w->mux, id, SB_AT_ONCE, SB_AT_ONCE), 0);
    CHECK_EQ(sb_mux_water(w->mux, id, SB_AT_ONCE, SB_AT_ONCE), 0);
    CHECK_TEXT(events_of(w), "0 accepted 0 0 pause 0 ");
    cap_size(CALL_SEND, 1);
    CHECK(strstr(turn(w), "resume") == NULL);
    CHECK(strstr(turn(w), "resume") == NULL);
    CHECK(strstr(turn(w), "0 resume") != NULL);
    CHECK_EQ(sb_mux_unsent(w->mux, id), 0);
    cap_size(CALL_SEND, 0);
    fail_nth(CALL_SEND, 1, EAGAIN);
    sb_mux_write(w->mux, 1, &id, &size, "abc");
    sb_mux_close(w->mux, id, SB_REASON_CLOSED);
    turn(w);
    end_of(w);
}

/* What is closing is not told of. */
static void water_of_one_that_closes(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    struct world *w = world_of(8, group);
    int32_t id = join(w, 0);
    int64_t size = 3;
    turn(w);
    fail_nth(CALL_SEND, 1, EAGAIN);
    sb_mux_write(w->mux, 1, &id, &size, "abc");
    sb_mux_close(w->mux, id, SB_REASON_CLOSED);
    CHECK_EQ(sb_mux_water(w->mux, id, SB_AT_ONCE, SB_AT_ONCE), 0);
    CHECK_TEXT(events_of(w), "0 accepted 0 ");
    end_of(w);
}

static void closes_with_much_unsent(void)
{
    enum { SIZE = 1 << 20 };
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    group.high_water = (int64_t)1 << 40;
    struct world *w = world_of(4, group);
    int32_t id = join(w, 0);
    char *block = big_block(SIZE);
    int64_t size = SIZE;
    CHECK_EQ(sb_mux_water(w->mux, id, 1000, 500), 0);
    sb_mux_write(w->mux, 1, &id, &size, block);
    sb_mux_write(w->mux, 1, &id, &size, block);
    CHECK_EQ(shutdown(w->peer[id], SHUT_WR), 0);
    sb_mux_close(w->mux, id, SB_REASON_CLOSED);
    sb_mux_close(w->mux, id, SB_REASON_SHUTDOWN);
    size_t at = 0;
    for (int i = 0; i < 2000 && at < SIZE; i++) {
        at = drain(w, id, block, at);
        turn(w);
        CHECK(strstr(w->log, "resume") == NULL);
        if (at >= SIZE - 400000)
            break;
    }
    free(block);
    end_of(w);
}

static void too_much_more(void)
{
    sb_group group = lines_group();
    group.max_unsent = 100;
    struct world *w = world_of(8, group);
    char block[60] = "";
    int id = join(w, 0);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, block, 60);
    answer(w, id, block, 0);
    answer(w, id, block, 40);
    CHECK_EQ(sb_mux_unsent(w->mux, id), 100);
    CHECK_TEXT(events_of(w), "");
    answer(w, id, block, 1);
    CHECK_TEXT(events_of(w), "0 closed 9 ");
    end_of(w);
}

/* FIN was asked for behind the output, then the end: it is one FIN, and the end. */
static void closes_behind_a_fin(void)
{
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, "abc", 3);
    sb_mux_shutdown(w->mux, id);
    sb_mux_close(w->mux, id, SB_REASON_CLOSED);
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "abc");
    CHECK_TEXT(heard(w, id), "$");
    hang_up(w, id);
    CHECK_TEXT(turn(w), "0 closed 2 ");
    end_of(w);
}

/* Down to low water, but it may not be written to any more. */
static void no_resume_while_closing(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    group.high_water = 2;
    struct world *w = world_of(8, group);
    int id = join(w, 0);
    CHECK_TEXT(turn(w), "0 accepted 0 ");
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, "abc", 3);
    CHECK_TEXT(events_of(w), "0 accepted 0 0 pause 0 ");
    sb_mux_close(w->mux, id, SB_REASON_CLOSED);
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "abc");
    end_of(w);
}

const struct test mux_output_tests[] = {
    {"slow reader", slow_reader},
    {"short sends", short_sends},
    {"too much unsent", too_much_unsent},
    {"peer gone while writing", peer_gone_while_writing},
    {"FIN behind the output", fin_behind_the_output},
    {"FIN fails", fin_fails},
    {"pauses", pauses},
    {"water marks", water_marks},
    {"water below what is unsent", water_below_what_is_unsent},
    {"water of one that closes", water_of_one_that_closes},
    {"closes with much unsent", closes_with_much_unsent},
    {"too much more", too_much_more},
    {"closes behind a FIN", closes_behind_a_fin},
    {"no resume while closing", no_resume_while_closing},
    {NULL, NULL},
};
