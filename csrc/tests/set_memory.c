#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

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
    int big = sb_set_group(w->set, &group);
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
    CHECK_EQ(sb_set_counts(w->set)->connections, 2 - closed);
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
        CHECK(fired || sb_set_counts(w->set)->connections == 2);
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
            sb_set *set = sb_set_new(4, with_epoll);
            fired = faults_clear();
            CHECK((set == NULL) == fired);
            CHECK_EQ(errno, fired ? ENOMEM : 0);
            sb_set_free(set);
        }
    }
    sb_set_free(NULL);
}

static void rows_that_cannot_be(void)
{
    static const int32_t rows[] = {0, -1, INT32_MIN, (1 << 23) + 1, INT32_MAX};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        errno = 0;
        CHECK(sb_set_new(rows[i], 0) == NULL);
        CHECK_EQ(errno, EINVAL);
    }
}

static void groups_run_out(void)
{
    sb_group group = lines_group();
    sb_set *set = sb_set_new(4, 0);
    for (int i = 0; i < 65535; i++) {
        if (i == 1024) {
            fail_nth(CALL_ALLOCATE, 1, ENOMEM);
            CHECK_EQ(sb_set_group(set, &group), SB_ERR_NOMEM);
            fail_nth(CALL_ALLOCATE, 2, ENOMEM);
            CHECK_EQ(sb_set_group(set, &group), SB_ERR_NOMEM);
        }
        if (sb_set_group(set, &group) != i)
            CHECK_EQ(i, -1);
    }
    CHECK_EQ(sb_set_group(set, &group), SB_ERR_LIMIT);
    sb_set_free(set);
}

/* Buffers that were given back are lent again: 64 of them, none of a great size. */
static void buffers_are_kept_for_the_next(void)
{
    enum { MANY = 70, SIZE = 300000 };
    struct world *w = world_of(MANY + 1, lines_group());
    for (int i = 0; i < MANY; i++)
        say(w, join(w, 0), "part");
    CHECK_TEXT(turn(w), "");
    int64_t lent = sb_set_counts(w->set)->memory;
    CHECK(lent >= MANY * 4);
    for (int i = 0; i < MANY; i++)
        say(w, i, "\n");
    turn(w);
    CHECK_EQ(sb_set_counts(w->set)->memory, 0);
    for (int i = 0; i < MANY; i++)
        say(w, i, "part");
    fail_nth(CALL_ALLOCATE, 1, ENOMEM); /* the 65th is the first that is new */
    turn(w);
    CHECK(faults_clear());
    CHECK_EQ(sb_set_counts(w->set)->closed, 1);
    int id = join(w, 0);
    char *block = big_block(SIZE);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, block, SIZE);
    CHECK(sb_set_counts(w->set)->memory > SIZE);
    size_t at = 0;
    for (int i = 0; i < 1000 && at < SIZE; i++) {
        turn(w);
        at = drain(w, id, block, at);
    }
    turn(w);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, "a", 1);
    CHECK(sb_set_counts(w->set)->memory < SIZE); /* the great one was freed */
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
    sb_set_memory(w->set, LIMIT);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, a, block, SIZE);
    CHECK_TEXT(events_of(w), "");
    CHECK(sb_set_counts(w->set)->memory <= LIMIT);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, b, block, SIZE); /* there is not so much more */
    CHECK(sb_set_counts(w->set)->memory <= LIMIT);
    CHECK_TEXT(events_of(w), "1 closed 9 ");
    say(w, d, "part"); /* but so much there is */
    fail_nth(CALL_SEND, 1, EAGAIN);
    CHECK_TEXT(turn(w), "");
    CHECK(sb_set_counts(w->set)->memory <= LIMIT);
    size_t at = 0;
    for (int i = 0; i < 1000 && at < SIZE; i++) {
        turn(w);
        at = drain(w, a, block, at);
    }
    turn(w); /* that buffer waits in the pool now, and is too large for what is left */
    sb_set_memory(w->set, sb_set_counts(w->set)->memory + 10000);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, a, "a", 1);
    CHECK_TEXT(events_of(w), "");
    CHECK(sb_set_counts(w->set)->memory <= LIMIT);
    free(block);
    block = calloc(1, 3001);
    memset(block, 'x', 3000);
    sb_set_memory(w->set, 1); /* less than is owned: nobody is closed for that, but no more is lent */
    CHECK_TEXT(turn(w), "");
    b = join(w, 0);
    say(w, b, "part");
    CHECK_TEXT(turn(w), "4 closed 9 ");
    sb_set_memory(w->set, LIMIT / 2);
    say(w, c, block); /* so large that it is received into its own buffer next */
    CHECK_TEXT(turn(w), "");
    sb_set_memory(w->set, sb_set_counts(w->set)->memory + 1000); /* in which it may not grow so much */
    say(w, c, block);
    CHECK_TEXT(turn(w), "2 closed 9 ");
    CHECK(sb_set_counts(w->set)->memory <= LIMIT);
    free(block);
    end_of(w);
}

/* ---- memory is what peers have sent, twice at most */

static int64_t memory(const struct world *w)
{
    return sb_set_counts(w->set)->memory;
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
    int large = sb_set_group(w->set, &group);
    char *block = big_block(BYTES);
    sb_set_memory(w->set, 1 << 20);
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
        for (int i = 0; i < 200 && sb_set_unsent(w->set, id) > 0; i++) {
            if (more && i % 3 == 0)
                answer(w, id, block, 100);
            CHECK(more || memory(w) * 2 <= 5 * sb_set_unsent(w->set, id) + 128);
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
    sb_set_memory(w->set, MANY * 4096 / 2); /* half of them go, the others are lent again */
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

/* Less than the smallest buffer, and no room to grow. */
static void the_last_bytes_of_the_limit(void)
{
    struct world *w = world_of(4, lines_group());
    int id = join(w, 0);
    sb_set_memory(w->set, 10);
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

const struct test set_memory_tests[] = {
    {"no memory at any time", no_memory_at_any_time},
    {"no memory for a set", no_memory_for_a_set},
    {"rows that cannot be", rows_that_cannot_be},
    {"groups run out", groups_run_out},
    {"buffers are kept for the next", buffers_are_kept_for_the_next},
    {"memory has a limit", memory_has_a_limit},
    {"unfinished frames are counted as sent", unfinished_frames_are_counted_as_sent},
    {"a crowd is counted as sent", a_crowd_is_counted_as_sent},
    {"the end of a large frame", the_end_of_a_large_frame},
    {"a few bytes get a small buffer", a_few_bytes_get_a_small_buffer},
    {"large frames use buffers again", large_frames_use_buffers_again},
    {"unsent output is counted as written", unsent_output_is_counted_as_written},
    {"pools stay within the limit", pools_stay_within_the_limit},
    {"the last bytes of the limit", the_last_bytes_of_the_limit},
    {NULL, NULL},
};
