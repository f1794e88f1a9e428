/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void lines_in_pieces(void)
{
    struct world *w = world_of(4, lines_group());
    int id = join(w, 0);
    CHECK_TEXT(turn(w), "");
    say(w, id, "ab");
    CHECK_TEXT(turn(w), "");
    say(w, id, "c\r");
    CHECK_TEXT(turn(w), "");
    say(w, id, "\nd\r\n\n");
    CHECK_TEXT(turn(w), "0:abc|d|| ");
    say(w, id, "one\ntw");
    CHECK_TEXT(turn(w), "0:one| ");
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.unframed, 2);
    CHECK_EQ(info.frames, 4);
    CHECK_EQ(info.received, 15);
    say(w, id, "o\n");
    CHECK_TEXT(turn(w), "0:two| ");
    end_of(w);
}

static void short_receives(void)
{
    struct world *w = world_of(4, lines_group());
    int id = join(w, 0);
    const char *const want[] = {"", "", "0:ab| ", "", "", "0:cd| ", ""};
    say(w, id, "ab\ncd\n");
    for (int i = 0; i < 7; i++) {
        cap_size(CALL_RECV, 1);
        CHECK_TEXT(turn(w), want[i]);
    }
    cap_size(CALL_RECV, 0);
    fail_nth(CALL_RECV, 1, EINTR);
    say(w, id, "x\n");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(turn(w), "0:x| ");
    end_of(w);
}

static void big_lines(void)
{
    sb_group group = lines_group();
    group.framing.limit = 1 << 20;
    struct world *w = world_of(4, group);
    int id = join(w, 0);
    char piece[3001];
    memset(piece, 'x', 3000);
    piece[3000] = '\0';
    for (int i = 0; i < 10; i++) {
        say(w, id, piece);
        CHECK_TEXT(turn(w), "");
    }
    say(w, id, "\r\nab\ncd");
    CHECK_TEXT(turn(w), "0:(30004 in 2) ");
    CHECK(sb_mux_events(w->mux)[0].offset < 0);
    CHECK(sb_mux_held(w->mux, 1) == NULL && sb_mux_held(w->mux, -1) == NULL);
    say(w, id, "e\n");
    CHECK_TEXT(turn(w), "0:cde| ");
    end_of(w);
}

static void too_long(void)
{
    sb_group group = lines_group();
    group.framing.limit = 5;
    struct world *w = world_of(8, group);
    int at_once = join(w, 0), behind = join(w, 0), slowly = join(w, 0), just = join(w, 0);
    say(w, at_once, "123456\n");
    say(w, behind, "ok\n1234567");
    say(w, slowly, "123");
    say(w, just, "12345\r\n");
    turn(w);
    CHECK(strstr(w->log, "1:ok| ") != NULL);
    CHECK(strstr(w->log, "3:12345| ") != NULL);
    say(w, slowly, "45");
    CHECK_TEXT(turn(w), "");
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, behind, &info), 0);
    CHECK_EQ(info.open, 0);
    CHECK_EQ(info.reason, SB_REASON_FRAME_TOO_LONG);
    say(w, slowly, "6");
    CHECK_TEXT(turn(w), "");
    for (int id = 0; id < 3; id++) {
        CHECK_TEXT(heard(w, id), "$");
        hang_up(w, id);
    }
    turn(w);
    for (int id = 0; id < 3; id++) {
        CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
        CHECK_EQ(info.reason, SB_REASON_FRAME_TOO_LONG);
    }
    CHECK_EQ(sb_mux_counts(w->mux)->closed, 3);
    turn(w);
    CHECK_EQ(sb_mux_counts(w->mux)->connections, 1);
    end_of(w);
}

static void too_long_in_a_buffer(void)
{
    sb_group group = lines_group();
    group.framing.limit = 5000;
    struct world *w = world_of(4, group);
    char piece[2601];
    int id = join(w, 0);
    memset(piece, 'x', 2600);
    piece[2600] = '\0';
    say(w, id, piece);
    CHECK_TEXT(turn(w), "");
    say(w, id, piece);
    CHECK_TEXT(turn(w), "");
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.reason, SB_REASON_FRAME_TOO_LONG);
    CHECK_EQ(info.unframed, 0);
    end_of(w);
}

static void raw_input(void)
{
    sb_group group = lines_group();
    group.framing = (sb_framing){.kind = SB_FRAMING_RAW, .limit = 65536};
    struct world *w = world_of(4, group);
    int id = join(w, 0);
    say(w, id, "abc");
    CHECK_TEXT(turn(w), "0:abc ");
    hang_up(w, id);
    CHECK_TEXT(turn(w), id == 0 ? "0 closed 1 " : "");
    end_of(w);
}

static void served_here(void)
{
    sb_group group = lines_group();
    struct world *w = world_of(8, group);
    static const char *const want[] = {"ab\nc\n", "-", "AB\nC\n"};
    static const sb_serve serves[] = {NULL, echo, discard, upper};
    for (int serve = 1; serve <= 3; serve++) {
        group.serve = serves[serve];
        CHECK_EQ(sb_mux_group(w->mux, &group), serve);
        int id = join(w, serve);
        say(w, id, "ab\nc\r\n");
        CHECK_TEXT(turn(w), "");
        CHECK_TEXT(heard(w, id), want[serve - 1]);
    }
    group.serve = echo;
    group.framing = (sb_framing){.kind = SB_FRAMING_RAW, .limit = 65536};
    int raw = sb_mux_group(w->mux, &group), id = join(w, raw);
    say(w, id, "xyz");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "xyz");
    end_of(w);
}

/* One of a group is the caller's, and alone in its events; the others are served or merged as before. */
static void apart_from_its_group(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_MERGE;
    struct world *w = world_of(8, group);
    group.serve = upper;
    for (int served = 0; served <= 1; served++) {
        int number = served ? sb_mux_group(w->mux, &group) : 0;
        int a = join(w, number), b = join(w, number), c = join(w, number);
        CHECK_EQ(sb_mux_apart(w->mux, b, 1), 0);
        for (int round = 0; round <= 1; round++) {
            int ids[] = {a, b, c}, own = 0;
            for (int i = 0; i < 3; i++)
                say(w, ids[i], "x\ny\n");
            turn(w);
            for (int i = 0; i < sb_mux_counts(w->mux)->events; i++)
                own += sb_mux_events(w->mux)[i].id == b && sb_mux_events(w->mux)[i].frames == 2;
            CHECK_EQ(own, round == 0);
            CHECK_EQ(sb_mux_counts(w->mux)->events == 0, served && round == 1);
            CHECK_TEXT(heard(w, a), served ? "X\nY\n" : "-");
            CHECK_TEXT(heard(w, b), served && round == 1 ? "X\nY\n" : "-");
            CHECK_TEXT(heard(w, c), served ? "X\nY\n" : "-");
            CHECK_EQ(sb_mux_apart(w->mux, b, 0), 0);
        }
        hang_up(w, b);
        turn(w);
        sb_mux_reap(w->mux);
        CHECK_EQ(sb_mux_apart(w->mux, b, 1), SB_ERR_GONE);
    }
    end_of(w);
}

static void not_a_socket(void)
{
    if (with_epoll)
        return;
    struct world *w = world_of(4, lines_group());
    int fds[2];
    sb_info info;
    CHECK_EQ(pipe(fds), 0);
    int id = sb_mux_add(w->mux, fds[0], 0);
    CHECK_EQ(write(fds[1], "a\nb", 3), 3);
    CHECK_TEXT(turn(w), "0:a| ");
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.peer_size, 0);
    close(fds[1]);
    turn(w);
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.reason, SB_REASON_TRUNCATED);
    end_of(w);
}

static void named_by_the_caller(void)
{
    struct world *w = world_of(4, lines_group());
    int id = join(w, 0);
    sb_info info;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = 7};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = 8};
    struct { struct sockaddr_in6 in6; char more; } longer = {.in6 = in6};
    CHECK_EQ(sb_mux_peer(w->mux, id, (char *)&in, sizeof in), 0);
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.peer_size, 16);
    CHECK_EQ(memcmp(info.peer, &in, sizeof in), 0);
    CHECK_EQ(sb_mux_peer(w->mux, id, (char *)&in6, sizeof in6), 0);
    CHECK_EQ(sb_mux_peer(w->mux, id, (char *)&longer, sizeof in6 + 1), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_peer(w->mux, id, (char *)&in6, 16), SB_ERR_INVALID); /* half of a name */
    CHECK_EQ(sb_mux_peer(w->mux, id, "0123456789abcdef", 16), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_peer(w->mux, id, "0", 1), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_peer(w->mux, 3, "", 0), SB_ERR_GONE);
    CHECK_EQ(sb_mux_peer(w->mux, id, "", 0), 0);
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.peer_size, 0);
    end_of(w);
}

static void merges(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_MERGE;
    struct world *w = world_of(8, group);
    int other = sb_mux_group(w->mux, &group);
    int a = join(w, 0), b = join(w, other), c = join(w, 0);
    say(w, a, "a1\na2\n");
    say(w, b, "b1\nb2");
    say(w, c, "c1\n");
    CHECK_TEXT(turn(w), "0,2,a1|a2|c1| 1,b1| ");
    CHECK_EQ(sb_mux_reply_lines(w->mux, 0, "A1\nA2\nC1\n", 9), 0);
    const uint32_t three[] = {3};
    CHECK_EQ(sb_mux_reply_lengths(w->mux, 1, "xyz", 3, three), 0);
    CHECK_TEXT(heard(w, a), "A1\nA2\n");
    CHECK_TEXT(heard(w, c), "C1\n");
    CHECK_TEXT(heard(w, b), "xyz");
    say(w, a, "d\n");
    say(w, c, "e\nf\n");
    CHECK_TEXT(turn(w), "0,2,d|e|f| ");
    const uint32_t lengths[] = {2, 0, 1};
    CHECK_EQ(sb_mux_reply_lengths(w->mux, 0, "abc", 3, lengths), 0);
    CHECK_TEXT(heard(w, a), "ab");
    CHECK_TEXT(heard(w, c), "c");
    end_of(w);
}

static void big_frames_are_not_merged(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_MERGE;
    group.framing.limit = 1 << 20;
    struct world *w = world_of(8, group);
    int a = join(w, 0), b = join(w, 0), c = join(w, 0);
    char *line = malloc(10002);
    memset(line, 'x', 10000);
    strcpy(line + 10000, "\n");
    say(w, a, "a\n");
    say(w, b, line);
    say(w, c, "c\n");
    turn(w);
    CHECK(strstr(w->log, "1:(10001 in 1) ") != NULL);
    CHECK(strstr(w->log, "a|") != NULL && strstr(w->log, "c|") != NULL);
    free(line);
    end_of(w);
}

static void replies_that_do_not_match(void)
{
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    const uint32_t lengths[] = {1, 1};
    say(w, id, "a\nb\n");
    CHECK_TEXT(turn(w), "0:a|b| ");
    CHECK_EQ(sb_mux_reply_lines(w->mux, 0, "A\n", 2), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_reply_lines(w->mux, 0, "A\nB", 3), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_reply_lines(w->mux, 0, "A\nB\nC\n", 6), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_reply_lines(w->mux, 0, "", 0), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_reply_lines(w->mux, 1, "A\nB\n", 4), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_reply_lines(w->mux, -1, "A\nB\n", 4), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_reply_lengths(w->mux, 0, "abc", 3, lengths), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_reply_lengths(w->mux, 5, "ab", 2, lengths), SB_ERR_MISMATCH);
    CHECK_TEXT(heard(w, id), "-");
    CHECK_EQ(sb_mux_reply_lengths(w->mux, 0, "ab", 2, lengths), 0);
    CHECK_TEXT(heard(w, id), "ab");
    end_of(w);
}

static void replies_to_one(void)
{
    sb_group group = lines_group();
    group.framing.limit = 100000;
    struct world *w = world_of(4, group);
    group.serve = upper;
    int upper = sb_mux_group(w->mux, &group);
    int a = join(w, 0), b = join(w, upper);
    char piece[3001];
    memset(piece, 'x', 3000);
    piece[3000] = '\0';
    say(w, a, "a\nb\n");
    say(w, b, piece);
    CHECK_TEXT(turn(w), "0:a|b| ");
    CHECK_EQ(sb_mux_reply_lines(w->mux, 0, "A\nB\n", 4), 0);
    CHECK_EQ(sb_mux_reply_lines(w->mux, 0, "", 0), SB_ERR_MISMATCH);
    CHECK_TEXT(heard(w, a), "A\nB\n");
    fail_nth(CALL_RECV, 1, EINTR);
    say(w, b, "\r\n");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(strspn(heard(w, b), "X"), 200);
    group.framing = (sb_framing){.kind = SB_FRAMING_RAW, .limit = 65536};
    int raw = join(w, sb_mux_group(w->mux, &group));
    say(w, raw, "x");
    fail_nth(CALL_RECV, 1, ECONNRESET);
    turn(w);
    CHECK(strstr(w->log, "2 closed 3 ") != NULL);
    end_of(w);
}

/* More input than the arena holds in one turn: the rest comes in the next, and
 * begins with those who had to wait. */
static void arena_full(void)
{
    enum { SIZE = 60000, COUNT = 12 };
    struct world *w = world_of(COUNT, lines_group());
    char *block = malloc(SIZE + 1);
    int seen[COUNT] = {0}, total = 0;
    for (int i = 0; i < SIZE; i++)
        block[i] = i % 100 == 99 ? '\n' : 'x';
    block[SIZE] = '\0';
    for (int i = 0; i < COUNT; i++)
        say(w, join(w, 0), block);
    for (int i = 0; i < 6 && total < COUNT * 2 * SIZE; i++) {
        turn(w);
        for (int j = 0; j < COUNT && i == 0; j++)
            say(w, j, block); /* all of them are ready again */
        for (int j = 0; j < sb_mux_counts(w->mux)->events; j++) {
            const sb_event *event = &sb_mux_events(w->mux)[j];
            seen[event->id] += (int)event->size;
            total += (int)event->size;
        }
        if (i == 0)
            CHECK(total < COUNT * SIZE);
        if (i == 1)
            for (int j = 0; j < COUNT; j++)
                CHECK(seen[j] > 0);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(seen[i], 2 * SIZE);
    free(block);
    end_of(w);
}

static void held_blocks_run_out(void)
{
    sb_group group = lines_group();
    group.framing.limit = 100000;
    struct world *w = world_of(70, group);
    char piece[4001];
    int total = 0;
    memset(piece, 'x', 4000);
    piece[4000] = '\0';
    for (int i = 0; i < 70; i++)
        say(w, join(w, 0), piece);
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(turn(w), "");
    for (int i = 0; i < 70; i++)
        say(w, i, "\n");
    turn(w);
    total += sb_mux_counts(w->mux)->events;
    CHECK_EQ(total, 64);
    turn(w);
    CHECK_EQ(total + sb_mux_counts(w->mux)->events, 70);
    end_of(w);
}

/* A line that grew in its own buffer is an event of its own, also where others are merged. */
static void held_blocks_are_not_merged(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_MERGE;
    group.framing.limit = 1 << 20;
    struct world *w = world_of(8, group);
    char piece[3001] = "";
    memset(piece, 'x', 3000);
    int a = join(w, 0), b = join(w, 0);
    say(w, a, piece);
    CHECK_TEXT(turn(w), "");
    say(w, a, "\n");
    say(w, b, "b\n");
    turn(w);
    CHECK(strstr(w->log, "0:(3001 in 1) ") != NULL && strstr(w->log, "1,b| ") != NULL);
    end_of(w);
}

static void replies_to_what_is_no_frame(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    struct world *w = world_of(8, group);
    const uint32_t lengths[] = {2};
    int id = join(w, 0);
    CHECK_TEXT(events_of(w), "0 accepted 0 ");
    CHECK_EQ(sb_mux_reply_lines(w->mux, 0, "a\n", 2), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_reply_lengths(w->mux, 0, "a\n", 2, lengths), SB_ERR_MISMATCH);
    CHECK_TEXT(heard(w, id), "-");
    end_of(w);
}

/* Who had to wait for room in the arena is the first of the next turn, and all
 * the others come behind. */
static void who_had_to_wait_is_first(void)
{
    enum { SIZE = 60000, COUNT = 12 };
    struct world *w = world_of(COUNT, lines_group());
    char *block = malloc(SIZE + 1);
    memset(block, 'x', SIZE);
    for (int i = 999; i < SIZE; i += 1000)
        block[i] = '\n';
    block[SIZE] = '\0';
    for (int i = 0; i < COUNT; i++)
        say(w, join(w, 0), block);
    turn(w);
    int served = sb_mux_counts(w->mux)->events, came[COUNT] = {0};
    CHECK(served > 1 && served < COUNT);
    for (int i = 0; i < served; i++)
        came[sb_mux_events(w->mux)[i].id] = 1;
    for (int i = 0; i < COUNT; i++)
        if (came[i])
            say(w, i, "a\n");
    turn(w);
    CHECK_EQ(sb_mux_counts(w->mux)->events, COUNT);
    CHECK(!came[sb_mux_events(w->mux)[0].id]);
    free(block);
    end_of(w);
}

/* Blocks of replies and of output are looked at up to their end, not behind it. */
static void replies_at_an_edge(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_MERGE;
    struct world *w = world_of(8, group);
    const uint32_t lengths[] = {2, 1};
    int a = join(w, 0), b = join(w, 0);
    for (int i = 0; i < 4; i++) {
        say(w, a, "a\n");
        say(w, b, "b\n");
        CHECK_TEXT(turn(w), "0,1,a|b| ");
        CHECK_EQ(sb_mux_reply_lines(w->mux, 0, at_an_edge("A\nB\n", 4), 4), 0);
        CHECK_TEXT(heard(w, a), "A\n");
        CHECK_TEXT(heard(w, b), "B\n");
        CHECK_EQ(sb_mux_reply_lengths(w->mux, 0, at_an_edge("xyz", 3), 3, lengths), 0);
        CHECK_TEXT(heard(w, a), "xy");
        CHECK_TEXT(heard(w, b), "z");
        cap_size(CALL_SEND, 1);
        answer(w, a, at_an_edge("0123456789", 10), 10);
        for (int j = 0; j < 9; j++)
            turn(w);
        cap_size(CALL_SEND, 0);
        CHECK_TEXT(heard(w, a), "0123456789");
    }
    end_of(w);
}

const struct test mux_input_tests[] = {
    {"lines in pieces", lines_in_pieces},
    {"short receives", short_receives},
    {"big lines", big_lines},
    {"too long", too_long},
    {"too long in a buffer", too_long_in_a_buffer},
    {"raw input", raw_input},
    {"served here", served_here},
    {"apart from its group", apart_from_its_group},
    {"not a socket", not_a_socket},
    {"named by the caller", named_by_the_caller},
    {"merges", merges},
    {"big frames are not merged", big_frames_are_not_merged},
    {"replies that do not match", replies_that_do_not_match},
    {"replies to one", replies_to_one},
    {"arena full", arena_full},
    {"held blocks run out", held_blocks_run_out},
    {"held blocks are not merged", held_blocks_are_not_merged},
    {"replies to what is no frame", replies_to_what_is_no_frame},
    {"who had to wait is first", who_had_to_wait_is_first},
    {"replies at an edge", replies_at_an_edge},
    {NULL, NULL},
};
