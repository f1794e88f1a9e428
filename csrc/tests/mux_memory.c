/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A conversation in which everything is lent: an unfinished line that is small
 * and one that is large, output that the kernel did not take, a second group.
 * What was said about each connection is checked: whole lines come once, replies
 * leave as they were given, or the connection is closed for want of memory. */
static int count(const char *text, const char *what)
{
    int n = 0;
    while ((text = strstr(text, what)) != NULL) {
        text += strlen(what);
        n++;
    }
    return n;
}

static void converse(struct world *w)
{
    char piece[3001] = "";
    memset(piece, 'x', 3000);
    sb_group group = lines_group();
    group.framing.limit = 1 << 20;
    int big = sb_mux_group(w->mux, &group);
    CHECK(big == 1 || big == SB_ERR_NOMEM);
    int a = join(w, 0), b = join(w, big < 0 ? 0 : big), lines = 0, closed = 0;
    say(w, a, "whole\npart");
    say(w, b, big < 0 ? "y" : piece);
    for (int i = 0; i < 12; i++) {
        turn(w);
        if (i == 1 && closed == 0) {
            say(w, a, "s\n");
            say(w, b, "x\n");
            cap_size(CALL_SEND, 1);
            answer(w, a, "reply", 5);
        }
        closed += count(events_of(w), " closed 9 ");
        lines += count(w->log, "whole|") + count(w->log, "parts|");
    }
    cap_size(CALL_SEND, 0);
    const char *got = heard(w, a);
    CHECK(closed <= 1);
    CHECK(lines == 2 || closed > 0);
    CHECK(strcmp(got, "reply") == 0 || (closed > 0 && (strncmp(got, "reply", strlen(got)) == 0 || got[0] == '$' || got[0] == '-')));
    CHECK_EQ(sb_mux_counts(w->mux)->connections, 2 - closed);
}

static void no_memory_at_any_time(void)
{
    int fired = 1, times = 0;
    for (int nth = 1; fired; nth++) {
        struct world *w = world_of(8, lines_group());
        fail_nth(CALL_ALLOCATE, nth, ENOMEM);
        converse(w);
        fired = faults_clear();
        times += fired;
        CHECK(fired || sb_mux_counts(w->mux)->connections == 2);
        end_of(w);
    }
    CHECK(times > 6);
}

static void no_memory_for_a_set(void)
{
    static const enum call calls[] = {CALL_ALLOCATE, CALL_MMAP, CALL_EPOLL_CREATE};
    for (int i = 0; i < 3; i++) {
        int fired = 1;
        for (int nth = 1; fired; nth++) {
            fail_nth(calls[i], nth, ENOMEM);
            errno = 0;
            sb_mux *mux = sb_mux_new(4, with_epoll);
            fired = faults_clear();
            CHECK((mux == NULL) == fired);
            CHECK_EQ(errno, fired ? ENOMEM : 0);
            sb_mux_free(mux);
        }
    }
    sb_mux_free(NULL);
}

static void rows_that_cannot_be(void)
{
    static const int32_t rows[] = {0, -1, INT32_MIN, (1 << 23) + 1, INT32_MAX};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        errno = 0;
        CHECK(sb_mux_new(rows[i], 0) == NULL);
        CHECK_EQ(errno, EINVAL);
    }
}

static void groups_run_out(void)
{
    sb_group group = lines_group();
    sb_mux *mux = sb_mux_new(4, 0);
    for (int i = 0; i < 65535; i++) {
        if (i == 1024) {
            fail_nth(CALL_ALLOCATE, 1, ENOMEM);
            CHECK_EQ(sb_mux_group(mux, &group), SB_ERR_NOMEM);
            fail_nth(CALL_ALLOCATE, 2, ENOMEM);
            CHECK_EQ(sb_mux_group(mux, &group), SB_ERR_NOMEM);
        }
        if (sb_mux_group(mux, &group) != i)
            CHECK_EQ(i, -1);
    }
    CHECK_EQ(sb_mux_group(mux, &group), SB_ERR_LIMIT);
    sb_mux_free(mux);
}

/* Buffers that were given back are lent again: 64 of them, none of a great size. */
static void buffers_are_kept_for_the_next(void)
{
    enum { MANY = 70, SIZE = 300000 };
    struct world *w = world_of(MANY + 1, lines_group());
    for (int i = 0; i < MANY; i++)
        say(w, join(w, 0), "part");
    CHECK_TEXT(turn(w), "");
    int64_t lent = sb_mux_counts(w->mux)->memory;
    CHECK(lent >= MANY * 4);
    for (int i = 0; i < MANY; i++)
        say(w, i, "\n");
    turn(w);
    CHECK_EQ(sb_mux_counts(w->mux)->memory, 0);
    for (int i = 0; i < MANY; i++)
        say(w, i, "part");
    fail_nth(CALL_ALLOCATE, 1, ENOMEM); /* the 65th is the first that is new */
    turn(w);
    CHECK(faults_clear());
    CHECK_EQ(sb_mux_counts(w->mux)->closed, 1);
    int id = join(w, 0);
    char *block = big_block(SIZE);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, block, SIZE);
    CHECK(sb_mux_counts(w->mux)->memory > SIZE);
    size_t at = 0;
    for (int i = 0; i < 1000 && at < SIZE; i++) {
        turn(w);
        at = drain(w, id, block, at);
    }
    turn(w);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, "a", 1);
    CHECK(sb_mux_counts(w->mux)->memory < SIZE); /* the great one was freed */
    free(block);
    end_of(w);
}

/* What buffers own in all never stays above the limit. */
static void memory_has_a_limit(void)
{
    enum { LIMIT = 100000, SIZE = 60000 };
    sb_group group = lines_group();
    group.framing.limit = 1 << 20;
    struct world *w = world_of(8, group);
    char *block = big_block(SIZE);
    int a = join(w, 0), b = join(w, 0), c = join(w, 0), d = join(w, 0);
    say(w, c, "part");
    CHECK_TEXT(turn(w), "");
    sb_mux_memory(w->mux, LIMIT);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, a, block, SIZE);
    CHECK_TEXT(events_of(w), "");
    CHECK(sb_mux_counts(w->mux)->memory <= LIMIT);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, b, block, SIZE); /* there is not so much more */
    CHECK(sb_mux_counts(w->mux)->memory <= LIMIT);
    CHECK_TEXT(events_of(w), "1 closed 9 ");
    say(w, d, "part"); /* but so much there is */
    fail_nth(CALL_SEND, 1, EAGAIN);
    CHECK_TEXT(turn(w), "");
    CHECK(sb_mux_counts(w->mux)->memory <= LIMIT);
    size_t at = 0;
    for (int i = 0; i < 1000 && at < SIZE; i++) {
        turn(w);
        at = drain(w, a, block, at);
    }
    turn(w); /* that buffer waits in the pool now, and is too large for what is left */
    sb_mux_memory(w->mux, sb_mux_counts(w->mux)->memory + 10000);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, a, "a", 1);
    CHECK_TEXT(events_of(w), "");
    CHECK(sb_mux_counts(w->mux)->memory <= LIMIT);
    free(block);
    block = calloc(1, 3001);
    memset(block, 'x', 3000);
    sb_mux_memory(w->mux, 1); /* less than is owned: nobody is closed for that, but no more is lent */
    CHECK_TEXT(turn(w), "");
    b = join(w, 0);
    say(w, b, "part");
    CHECK_TEXT(turn(w), "4 closed 9 ");
    sb_mux_memory(w->mux, LIMIT / 2);
    say(w, c, block); /* so large that it is received into its own buffer next */
    CHECK_TEXT(turn(w), "");
    sb_mux_memory(w->mux, sb_mux_counts(w->mux)->memory + 1000); /* in which it may not grow so much */
    say(w, c, block);
    CHECK_TEXT(turn(w), "2 closed 9 ");
    CHECK(sb_mux_counts(w->mux)->memory <= LIMIT);
    free(block);
    end_of(w);
}

/* Of a frame that comes in pieces, each is received by one call, and what was received is what it costs: into the room
 * that there is and behind it, whether that is a socket or a pipe. */
static void a_piece_costs_one_call(void)
{
    enum { SIZE = 90000 };
    static const size_t pieces[] = {3000, 1, 2, 5000, 1, 50000, 1, 20000, 100000};
    char *block = big_block(SIZE), *rest = block;
    block[SIZE - 1] = '\n';
    for (int is_pipe = 0; is_pipe < 2; is_pipe++) {
        sb_group group = lines_group();
        group.framing.limit = 1 << 20;
        struct world *w = world_of(4, group);
        int fds[2];
        CHECK_EQ(is_pipe ? pipe(fds) : socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        for (int i = 0; i < 2; i++)
            CHECK_EQ(fcntl(fds[i], F_SETFL, O_NONBLOCK), 0);
        int id = sb_mux_add(w->mux, fds[0], 0);
        rest = block;
        fail_nth(CALL_IOCTL, 1, EIO); /* nobody is asked how much there is */
        for (size_t i = 0; rest < block + SIZE; i++) {
            size_t left = (size_t)(block + SIZE - rest), size = pieces[i] < left ? pieces[i] : left;
            ssize_t n = write(fds[1], rest, size);
            CHECK(n > 0);
            rest += n > 0 ? n : 0;
            turn(w);
            int64_t owned = sb_mux_counts(w->mux)->memory, kept = rest - block;
            CHECK(owned <= 2 * kept + 64);
        }
        CHECK_EQ(faults_clear(), 0);
        for (int i = 0; i < 3 && sb_mux_counts(w->mux)->events == 0; i++)
            turn(w);
        const sb_event *event = sb_mux_events(w->mux);
        CHECK_EQ(event->size, SIZE);
        CHECK(memcmp(block_of(w, event), block, SIZE) == 0);
        close(fds[1]);
        CHECK(strstr(after(w, 10), " closed 1 ") != NULL);
        CHECK_EQ(sb_mux_row(w->mux, id), 0);
        end_of(w);
    }
    free(block);
}

const struct test mux_memory_tests[] = {
    {"a piece costs one call", a_piece_costs_one_call},
    {"no memory at any time", no_memory_at_any_time},
    {"no memory for a mux", no_memory_for_a_set},
    {"rows that cannot be", rows_that_cannot_be},
    {"groups run out", groups_run_out},
    {"buffers are kept for the next", buffers_are_kept_for_the_next},
    {"memory has a limit", memory_has_a_limit},
    {NULL, NULL},
};
