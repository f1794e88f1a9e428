/* SPDX-License-Identifier: MIT */
/* mux_pools - memory of a mux is what peers have sent and not taken, twice at most, and is used again */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int64_t memory(const struct world *w)
{
    return sb_mux_counts(w->mux)->memory;
}

static void send_all(struct world *w, int id, const char *block, size_t size)
{
    CHECK_EQ(send(w->peer[id], block, size, MSG_NOSIGNAL), size);
}

/* A frame that comes in pieces of any size never makes more memory of itself than twice its bytes. */
static void unfinished_frames_are_counted_as_sent(void)
{
    static const size_t pieces[] = {1, 3, 64, 100, 1000, 2050, 2051, 4096, 5000, 40000};
    enum { SIZE = 80000, LEAST = 64 };
    char *block = big_block(SIZE);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        sb_group group = lines_group();
        group.framing.limit = SIZE;
        struct world *w = world_of(4, group);
        int id = join(w, 0);
        size_t piece = pieces[i], sent = 0;
        for (int j = 0; j < 200 && sent + piece < SIZE; j++) {
            send_all(w, id, block + sent, piece);
            sent += piece;
            CHECK_TEXT(turn(w), "");
            CHECK(memory(w) <= (int64_t)(2 * sent > LEAST ? 2 * sent : LEAST));
            CHECK(memory(w) >= (int64_t)sent);
        }
        say(w, id, "\n");
        turn(w);
        turn(w);
        CHECK_EQ(memory(w), 0);
        end_of(w);
    }
    free(block);
}

/* Some bytes of many peers are not the end of the next client. */
static void a_crowd_is_counted_as_sent(void)
{
    enum { MANY = 128, BYTES = 2051 };
    struct world *w = world_of(MANY + 1, lines_group());
    sb_group group = lines_group();
    group.framing.limit = 65536;
    int large = sb_mux_group(w->mux, &group);
    char *block = big_block(BYTES);
    sb_mux_memory(w->mux, 1 << 20);
    for (int i = 0; i < MANY; i++)
        send_all(w, join(w, large), block, BYTES - 1);
    CHECK_TEXT(turn(w), "");
    for (int i = 0; i < MANY; i++)
        send_all(w, i, block, 1);
    for (int i = 0; i < 3; i++)
        CHECK_TEXT(turn(w), "");
    CHECK(memory(w) <= MANY * 2 * BYTES);
    int victim = join(w, 0);
    say(w, victim, "hel");
    CHECK_TEXT(turn(w), "");
    say(w, victim, "lo\n");
    CHECK_TEXT(turn(w), "128:hello| ");
    free(block);
    end_of(w);
}

/* The end within a large frame: nothing waits then, and nothing more is asked for. */
static void the_end_of_a_large_frame(void)
{
    enum { SIZE = 4096 };
    sb_group group = lines_group();
    group.framing.limit = 2 * SIZE;
    struct world *w = world_of(4, group);
    char *block = big_block(SIZE);
    int id = join(w, 0);
    send_all(w, id, block, SIZE);
    CHECK_TEXT(turn(w), "");
    hang_up(w, id);
    int64_t before = memory(w);
    CHECK_TEXT(turn(w), "0 closed 5 ");
    CHECK(before <= SIZE && memory(w) <= 2 * SIZE);
    free(block);
    end_of(w);
}

/* A buffer that was large for another is not lent to a few bytes. */
static void a_few_bytes_get_a_small_buffer(void)
{
    enum { SIZE = 100000 };
    sb_group group = lines_group();
    group.framing.limit = SIZE;
    struct world *w = world_of(4, group);
    char *block = big_block(SIZE);
    int id = join(w, 0);
    for (int times = 0; times < 3; times++) {
        for (size_t sent = 0; sent < SIZE; sent += 20000) {
            send_all(w, id, block, 20000);
            turn(w);
        }
        say(w, id, "\nabc");
        turn(w);
        turn(w);
        CHECK(memory(w) <= 64);
        say(w, id, "\n");
        turn(w);
        turn(w);
        CHECK_EQ(memory(w), 0);
    }
    free(block);
    end_of(w);
}

/* A large frame finds what the ones before it have left, of each size: nothing is allocated for it. */
static void large_frames_use_buffers_again(void)
{
    enum { SIZE = 100000, FIRST = 4, TIMES = 8 };
    sb_group group = lines_group();
    group.framing.limit = SIZE;
    struct world *w = world_of(4, group);
    char *block = big_block(SIZE);
    int id = join(w, 0);
    for (int times = 0; times < TIMES; times++) {
        if (times >= FIRST)
            fail_nth(CALL_ALLOCATE, 1, ENOMEM);
        for (size_t sent = 0; sent < SIZE; sent += 20000) {
            send_all(w, id, block, 20000);
            CHECK_TEXT(turn(w), "");
        }
        say(w, id, "\n");
        CHECK_TEXT(turn(w), "0:(100001 in 1) ");
        CHECK_TEXT(turn(w), "");
        CHECK_EQ(faults_clear(), 0);
    }
    free(block);
    end_of(w);
}

/* What a peer does not take is counted as written, and less as it takes some. */
static void unsent_output_is_counted_as_written(void)
{
    enum { SIZE = 1 << 20, SOME = 4096 };
    sb_group group = lines_group();
    group.high_water = group.max_unsent = 1 << 22;
    for (int more = 0; more < 2; more++) {
        struct world *w = world_of(4, group);
        char *block = big_block(SIZE), some[SOME];
        int id = join(w, 0);
        fail_nth(CALL_SEND, 1, EAGAIN);
        answer(w, id, block, SIZE / 2 + 1);
        CHECK_EQ(memory(w), SIZE);
        cap_size(CALL_SEND, 100); /* it would fit in half of it, but to move it costs more than it brings */
        CHECK_TEXT(turn(w), "");
        cap_size(CALL_SEND, 0);
        CHECK_EQ(memory(w), SIZE);
        CHECK_TEXT(turn(w), "");
        for (int i = 0; i < 200 && sb_mux_unsent(w->mux, id) > 0; i++) {
            if (more && i % 3 == 0)
                answer(w, id, block, 100);
            CHECK(more || memory(w) * 2 <= 5 * sb_mux_unsent(w->mux, id) + 128);
            if (i < 100)
                CHECK(recv(w->peer[id], some, sizeof some, 0) > 0);
            else
                drain(w, id, block, 0);
            if (more)
                fail_nth(CALL_ALLOCATE, 1, ENOMEM); /* then it stays as it is */
            turn(w);
            faults_clear();
        }
        free(block);
        end_of(w);
    }
}

/* What waits for the next who needs it is freed before it is too much with what is lent. */
static void pools_stay_within_the_limit(void)
{
    enum { MANY = 8, SIZE = 3000 };
    sb_group group = lines_group();
    group.framing.limit = 1 << 20;
    struct world *w = world_of(MANY + 1, group);
    char *block = big_block(SIZE);
    for (int i = 0; i < MANY; i++)
        send_all(w, join(w, 0), block, SIZE);
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(memory(w), MANY * 4096);
    for (int i = 0; i < MANY; i++)
        say(w, i, "\n");
    turn(w);
    turn(w);
    CHECK_EQ(memory(w), 0);
    sb_mux_memory(w->mux, MANY * 4096 / 2); /* half of them go, the others are lent again */
    fail_nth(CALL_ALLOCATE, 1, ENOMEM);
    for (int i = 0; i < MANY / 2; i++)
        send_all(w, i, block, SIZE);
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(faults_clear(), 0);
    CHECK_EQ(memory(w), MANY * 4096 / 2);
    say(w, MANY - 1, "a");
    CHECK_TEXT(turn(w), "7 closed 9 ");
    say(w, 0, "\n");
    turn(w);
    turn(w);
    send_all(w, 1, block, SIZE); /* and of another size instead of one that waits */
    CHECK_TEXT(turn(w), "");
    CHECK(memory(w) <= MANY * 4096 / 2);
    free(block);
    end_of(w);
}

/* Four of 4 MiB are kept, and no more; larger ones are not. */
static void pools_have_an_end(void)
{
    enum { MANY = 6, KEPT = 4, SIZE = 4 << 20 };
    sb_group group = lines_group();
    group.high_water = group.max_unsent = 3 * SIZE;
    struct world *w = world_of(2 * MANY, group);
    char *block = big_block(2 * SIZE);
    for (int i = 0; i < MANY; i++) {
        int id = join(w, 0);
        fail_nth(CALL_SEND, 1, EAGAIN);
        answer(w, id, block, i == 0 ? 2 * SIZE : SIZE);
    }
    CHECK_EQ(memory(w), (MANY + 1) * (int64_t)SIZE);
    sb_mux_memory(w->mux, 1); /* nothing waits that could be freed */
    CHECK_EQ(memory(w), (MANY + 1) * (int64_t)SIZE);
    sb_mux_memory(w->mux, 0);
    for (int i = 0; i < MANY; i++)
        sb_mux_abort(w->mux, i, SB_REASON_ABORTED);
    turn(w);
    turn(w);
    CHECK_EQ(memory(w), 0);
    for (int i = 0; i < MANY; i++) {
        int id = join(w, 0);
        fail_nth(CALL_SEND, 1, EAGAIN);
        fail_nth(CALL_ALLOCATE, 1, ENOMEM);
        answer(w, id, block, SIZE);
        CHECK_EQ(sb_mux_unsent(w->mux, id), i < KEPT ? SIZE : 0);
        faults_clear();
    }
    free(block);
    end_of(w);
}

/* As much has come as was asked for: there is room for what waits behind it, if memory allows. */
static void the_beginning_of_a_large_frame(void)
{
    enum { SIZE = 150000, FIRST = 65536 };
    for (int is_limited = 0; is_limited < 2; is_limited++) {
        sb_group group = lines_group();
        group.framing.limit = SIZE;
        struct world *w = world_of(4, group);
        char *block = big_block(SIZE);
        int id = join(w, 0), size = 1 << 20;
        setsockopt(w->peer[id], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        send_all(w, id, block, SIZE);
        sb_mux_memory(w->mux, is_limited ? FIRST + 1000 : 0);
        CHECK_TEXT(turn(w), "");
        CHECK_EQ(memory(w), is_limited ? FIRST : 4 * FIRST);
        CHECK(memory(w) <= 2 * SIZE);
        sb_mux_memory(w->mux, 0);
        for (int i = 0; i < 3; i++)
            CHECK_TEXT(turn(w), "");
        say(w, id, "\n");
        CHECK_TEXT(turn(w), "0:(150001 in 1) ");
        free(block);
        end_of(w);
        w = world_of(4, group);
        block = big_block(FIRST);
        id = join(w, 0);
        setsockopt(w->peer[id], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        send_all(w, id, block, FIRST); /* all of it, and nothing behind it */
        CHECK_TEXT(turn(w), "");
        CHECK_EQ(memory(w), FIRST);
        free(block);
        end_of(w);
    }
}

/* Less than the smallest buffer, and no room to grow. */
static void the_last_bytes_of_the_limit(void)
{
    struct world *w = world_of(4, lines_group());
    int id = join(w, 0);
    sb_mux_memory(w->mux, 10);
    say(w, id, "0123456789");
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(memory(w), 10);
    say(w, id, "\n");
    CHECK_TEXT(turn(w), "0:0123456789| ");
    say(w, id, "0123456789");
    CHECK_TEXT(turn(w), "");
    say(w, id, "a");
    CHECK_TEXT(turn(w), "0 closed 9 ");
    end_of(w);
}

const struct test mux_pools_tests[] = {
    {"unfinished frames are counted as sent", unfinished_frames_are_counted_as_sent},
    {"a crowd is counted as sent", a_crowd_is_counted_as_sent},
    {"the end of a large frame", the_end_of_a_large_frame},
    {"a few bytes get a small buffer", a_few_bytes_get_a_small_buffer},
    {"large frames use buffers again", large_frames_use_buffers_again},
    {"unsent output is counted as written", unsent_output_is_counted_as_written},
    {"pools stay within the limit", pools_stay_within_the_limit},
    {"pools have an end", pools_have_an_end},
    {"the beginning of a large frame", the_beginning_of_a_large_frame},
    {"the last bytes of the limit", the_last_bytes_of_the_limit},
    {NULL, NULL},
};
