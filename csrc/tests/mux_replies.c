/* SPDX-License-Identifier: MIT */
/* Replies that are one line, and blocks of many lines for many connections. */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { LARGE = 5000 };

static int large_line(struct world *w)
{
    char *block = big_block(LARGE);
    int code = sb_mux_reply_line(w->mux, 0, block, LARGE, "\r\n", 2);
    free(block);
    return code;
}

/* What a peer has of a large line and its ending. */
static void hear_large(struct world *w, int id)
{
    static char text[2 * LARGE];
    char *block = big_block(LARGE);
    size_t got = 0;
    for (int i = 0; i < 100 && got < LARGE + 2; i++) {
        ssize_t n = recv(w->peer[id], text + got, sizeof text - got, 0);
        got += n > 0 ? (size_t)n : 0;
        turn(w);
    }
    CHECK_EQ(got, LARGE + 2);
    CHECK_EQ(memcmp(text, block, LARGE), 0);
    CHECK_EQ(memcmp(text + LARGE, "\r\n", 2), 0);
    free(block);
}

static void asked(struct world *w, int id, const char *line)
{
    say(w, id, line);
    turn(w);
}

static void one_line(void)
{
    sb_group group = lines_group();
    struct world *w = world_of(8, group);
    group.flags = SB_GROUP_MERGE;
    int id = join(w, 0), merged = join(w, sb_mux_group(w->mux, &group));
    asked(w, id, "a\n");
    CHECK_EQ(sb_mux_reply_line(w->mux, 0, at_an_edge("A", 1), 1, "\r\n", 2), 0);
    CHECK_TEXT(heard(w, id), "A\r\n");
    asked(w, merged, "b\n");
    CHECK_EQ(sb_mux_reply_line(w->mux, 0, "", 0, "\n", 1), 0);
    CHECK_TEXT(heard(w, merged), "\n");
    asked(w, id, "a\nb\n");
    CHECK_EQ(sb_mux_reply_line(w->mux, 0, "A", 1, "\n", 1), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_reply_line(w->mux, 1, "A", 1, "\n", 1), SB_ERR_MISMATCH);
    asked(w, id, "a\n");
    char *block = big_block(LARGE);
    CHECK_EQ(sb_mux_reply_line(w->mux, 0, "A", 1, block, LARGE), SB_ERR_MISMATCH);
    free(block);
    CHECK_TEXT(heard(w, id), "-");
    end_of(w);
}

static void a_large_line(void)
{
    static const size_t caps[] = {0, 1000, LARGE - 1, LARGE, LARGE + 1, LARGE + 2};
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        asked(w, id, "a\n");
        cap_size(CALL_SENDMSG, caps[i]);
        CHECK_EQ(large_line(w), 0);
        cap_size(CALL_SENDMSG, 0);
        CHECK_EQ(sb_mux_unsent(w->mux, id), caps[i] == 0 ? 0 : (LARGE + 2 - (int)caps[i]));
        hear_large(w, id);
    }
    asked(w, id, "a\n");
    fail_nth(CALL_SENDMSG, 1, EAGAIN);
    CHECK_EQ(large_line(w), 0);
    hear_large(w, id);
    end_of(w);
}

static void behind_what_is_unsent(void)
{
    struct world *w = world_of(8, lines_group());
    int32_t id = join(w, 0);
    int64_t size = 2;
    asked(w, id, "a\n");
    fail_nth(CALL_SEND, 1, EAGAIN);
    sb_mux_write(w->mux, 1, &id, &size, "12");
    CHECK_EQ(large_line(w), 0);
    CHECK_EQ(sb_mux_unsent(w->mux, id), LARGE + 4);
    turn(w);
    char first[3] = "";
    CHECK_EQ(recv(w->peer[id], first, 2, 0), 2);
    CHECK_TEXT(first, "12");
    hear_large(w, id);
    end_of(w);
}

static void lines_that_cannot_be_sent(void)
{
    sb_group group = lines_group();
    group.max_unsent = LARGE - 1;
    struct world *w = world_of(8, group);
    int reset = join(w, 0), full = join(w, 0), shut = join(w, 0);
    asked(w, reset, "a\n");
    fail_nth(CALL_SENDMSG, 1, EPIPE);
    CHECK_EQ(large_line(w), 0);
    CHECK(strstr(events_of(w), "0 closed 3 ") != NULL);
    asked(w, full, "a\n");
    fail_nth(CALL_SENDMSG, 1, EAGAIN);
    CHECK_EQ(large_line(w), 0); /* the line is too much; its ending must not go alone */
    CHECK(strstr(events_of(w), "1 closed 9 ") != NULL);
    turn(w);
    CHECK_TEXT(heard(w, full), "$");
    asked(w, shut, "a\n");
    sb_mux_shutdown(w->mux, shut);
    CHECK_EQ(large_line(w), 0);
    CHECK_TEXT(heard(w, shut), "$");
    end_of(w);
}

/* Long and short lines for many connections: each gets its own, wherever blocks of the search end. */
static void many_lines(void)
{
    enum { SPEAKERS = 20, MOST = 4 };
    sb_group group = lines_group();
    group.flags = SB_GROUP_MERGE;
    struct world *w = world_of(SPEAKERS, group);
    for (int i = 0; i < SPEAKERS; i++)
        join(w, 0);
    static char block[SPEAKERS * MOST * 1000];
    for (int round = 0; round < rounds(20, 2000); round++) {
        size_t size = 0, ends[SPEAKERS], lines = 0;
        for (int i = 0; i < SPEAKERS; i++) {
            uint32_t count = 1 + random_below(MOST);
            lines += count;
            for (uint32_t j = 0; j < count; j++)
                say(w, i, "x\n");
        }
        turn(w);
        CHECK_EQ(sb_mux_counts(w->mux)->events, 1);
        const sb_part *part = sb_mux_parts(w->mux);
        for (int i = 0; i < SPEAKERS; i++) {
            for (int32_t j = 0; j < part[i].frames; j++) {
                size_t length = random_below(round % 2 ? 900 : 40);
                memset(block + size, 'a' + part[i].id, length);
                block[size + length] = '\n';
                size += length + 1;
            }
            ends[i] = size;
        }
        CHECK_EQ(sb_mux_events(w->mux)[0].frames, lines);
        char *aside = block + ends[SPEAKERS / 2] - 1;
        *aside = ' ';
        CHECK_EQ(sb_mux_reply_lines(w->mux, 0, block, size), SB_ERR_MISMATCH);
        *aside = '\n';
        CHECK_EQ(sb_mux_reply_lines(w->mux, 0, block, size), 0);
        for (int i = 0; i < SPEAKERS; i++) {
            static char got[MOST * 1000];
            size_t begin = i == 0 ? 0 : ends[i - 1];
            CHECK_EQ(recv(w->peer[part[i].id], got, sizeof got, 0), ends[i] - begin);
            CHECK_EQ(memcmp(got, block + begin, ends[i] - begin), 0);
        }
    }
    end_of(w);
}

const struct test mux_replies_tests[] = {
    {"one line", one_line},
    {"a large line", a_large_line},
    {"behind what is unsent", behind_what_is_unsent},
    {"lines that cannot be sent", lines_that_cannot_be_sent},
    {"many lines", many_lines},
    {NULL, NULL},
};
