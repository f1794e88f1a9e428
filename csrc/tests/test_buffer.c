/* SPDX-License-Identifier: MIT */
#include "harness.h"

#include "buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void holds_what_was_appended(void)
{
    sb_buffer *b = sb_buffer_new(10);
    CHECK_EQ(sb_buffer_size(b), 0);
    CHECK_EQ(sb_buffer_capacity(b), 0);
    CHECK_EQ(sb_buffer_append(b, NULL, 0), 0);
    CHECK_EQ(sb_buffer_append(b, "abcdef", 6), 0);
    CHECK_EQ(sb_buffer_size(b), 6);
    CHECK(memcmp(sb_buffer_data(b), "abcdef", 6) == 0);
    sb_buffer_consume(b, 2);
    CHECK_EQ(sb_buffer_size(b), 4);
    CHECK(memcmp(sb_buffer_data(b), "cdef", 4) == 0);
    sb_buffer_consume(b, 4);
    CHECK_EQ(sb_buffer_size(b), 0);
    sb_buffer_free(b);
    sb_buffer_free(NULL);
}

static void limit_is_kept(void)
{
    sb_buffer *b = sb_buffer_new(10);
    char *room = NULL;
    CHECK_EQ(sb_buffer_append(b, "0123456789", 10), 0);
    CHECK(sb_buffer_capacity(b) <= 10);
    CHECK_EQ(sb_buffer_append(b, "x", 1), SB_ERR_LIMIT);
    CHECK_EQ(sb_buffer_reserve(b, SIZE_MAX, &room), SB_ERR_LIMIT);
    CHECK(room == NULL);
    CHECK_EQ(sb_buffer_size(b), 10);
    sb_buffer_consume(b, 3);
    CHECK_EQ(sb_buffer_append(b, "abc", 3), 0);
    CHECK(memcmp(sb_buffer_data(b), "3456789abc", 10) == 0);
    sb_buffer_free(b);
}

static void scanned_goes_along(void)
{
    sb_buffer *b = sb_buffer_new(1000);
    char block[300];
    memset(block, 'x', sizeof block);
    CHECK_EQ(sb_buffer_append(b, block, 200), 0);
    sb__buffer_set_scanned(b, 150);
    CHECK_EQ(sb__buffer_scanned(b), 150);
    sb_buffer_consume(b, 100);
    CHECK_EQ(sb__buffer_scanned(b), 50);
    CHECK_EQ(sb_buffer_append(b, block, 300), 0); /* moves to the front and grows */
    CHECK_EQ(sb__buffer_scanned(b), 50);
    sb_buffer_consume(b, 80);
    CHECK_EQ(sb__buffer_scanned(b), 0);
    CHECK_EQ(sb_buffer_size(b), 320);
    sb_buffer_free(b);
}

/* A piece of the data that is not at the front is moved there only when that
 * frees as much as it copies. */
static void makes_room_without_growing(void)
{
    sb_buffer *b = sb_buffer_new(4096);
    char block[256], *room;
    memset(block, 'y', sizeof block);
    CHECK_EQ(sb_buffer_append(b, block, 256), 0);
    CHECK_EQ(sb_buffer_capacity(b), 256);
    sb_buffer_consume(b, 200);
    CHECK_EQ(sb_buffer_reserve(b, 200, &room), 0);
    CHECK_EQ(sb_buffer_capacity(b), 256);
    memset(room, 'z', 200);
    sb_buffer_commit(b, 200);
    CHECK_EQ(sb_buffer_size(b), 256);
    CHECK(sb_buffer_data(b)[55] == 'y' && sb_buffer_data(b)[56] == 'z');
    sb_buffer_free(b);
}

static void behaves_as_a_queue(void)
{
    for (int round = 0; round < rounds(200, 20000); round++) {
        size_t limit = 1 + random_below(2000), size = 0, head = 0;
        sb_buffer *b = sb_buffer_new(limit);
        char *want = malloc(1 << 16);
        for (int step = 0; step < 60; step++) {
            size_t n = random_below(400);
            if (random_below(2) && head + size + n < 1 << 16) {
                char piece[400];
                for (size_t i = 0; i < n; i++)
                    piece[i] = (char)random_below(256);
                int code = sb_buffer_append(b, piece, n);
                CHECK_EQ(code, size + n > limit ? SB_ERR_LIMIT : 0);
                if (code == 0) {
                    memcpy(want + head + size, piece, n);
                    size += n;
                }
            } else {
                n = n < size ? n : size;
                sb_buffer_consume(b, n);
                head += n;
                size -= n;
            }
            CHECK_EQ(sb_buffer_size(b), size);
            CHECK(sb_buffer_capacity(b) <= limit);
            CHECK(size == 0 || memcmp(sb_buffer_data(b), want + head, size) == 0);
        }
        free(want);
        sb_buffer_free(b);
    }
}

static void no_memory_loses_nothing(void)
{
    char *room = NULL;
    fail_nth(CALL_ALLOCATE, 1, ENOMEM);
    CHECK(sb_buffer_new(10) == NULL);
    sb_buffer *b = sb_buffer_new(100000);
    fail_nth(CALL_ALLOCATE, 1, ENOMEM);
    CHECK_EQ(sb_buffer_append(b, "abc", 3), SB_ERR_NOMEM);
    CHECK_EQ(sb_buffer_size(b), 0);
    CHECK_EQ(sb_buffer_append(b, "abc", 3), 0);
    sb_buffer_consume(b, 1);
    sb__buffer_set_scanned(b, 1);
    fail_nth(CALL_ALLOCATE, 1, ENOMEM);
    CHECK_EQ(sb_buffer_reserve(b, 5000, &room), SB_ERR_NOMEM);
    CHECK(room == NULL);
    CHECK_EQ(sb_buffer_size(b), 2);
    CHECK_EQ(sb__buffer_scanned(b), 1);
    CHECK(memcmp(sb_buffer_data(b), "bc", 2) == 0);
    sb_buffer_free(b);
}

/* n bytes one by one: what is copied in all stays in proportion to n. */
static void grows_in_proportion(void)
{
    sb_buffer *b = sb_buffer_new(1 << 20);
    const char *before = NULL;
    int moves = 0;
    for (int i = 0; i < 1 << 20; i++) {
        CHECK_EQ(sb_buffer_append(b, "a", 1), 0);
        moves += sb_buffer_data(b) != before;
        before = sb_buffer_data(b);
    }
    CHECK(moves <= 15); /* from 64 bytes, doubled each time */
    CHECK_EQ(sb_buffer_capacity(b), 1 << 20);
    sb_buffer_free(b);
}

/* One byte in, one byte out, and many that wait: they are not moved each time. */
static void a_long_queue_moves_seldom(void)
{
    enum { WAITING = (1 << 18) - 1, ROUNDS = 2000 };
    sb_buffer *b = sb_buffer_new(1 << 20);
    char *block = calloc(1, WAITING);
    int moves = 0;
    CHECK_EQ(sb_buffer_append(b, block, WAITING), 0);
    for (int i = 0; i < ROUNDS; i++) {
        sb_buffer_consume(b, 1);
        const char *before = sb_buffer_data(b);
        CHECK_EQ(sb_buffer_append(b, "a", 1), 0);
        moves += sb_buffer_data(b) != before;
    }
    CHECK(moves <= 1);
    CHECK(sb_buffer_capacity(b) <= 1 << 19);
    free(block);
    sb_buffer_free(b);
}

/* To grow would be cheaper in the long run; without memory there is room all the same. */
static void no_memory_but_room(void)
{
    sb_buffer *b = sb_buffer_new(4096);
    char block[256] = "";
    block[255] = 'z';
    CHECK_EQ(sb_buffer_append(b, block, sizeof block), 0);
    sb_buffer_consume(b, 10);
    fail_nth(CALL_ALLOCATE, 1, ENOMEM);
    CHECK_EQ(sb_buffer_append(b, "0123456789", 10), 0);
    CHECK(faults_clear());
    CHECK_EQ(sb_buffer_size(b), 256);
    CHECK(memcmp(sb_buffer_data(b) + 245, "z0123456789", 11) == 0);
    sb_buffer_free(b);
}

/* A buffer of the last size that it may have moves, however much that copies. */
static void full_to_the_limit(void)
{
    sb_buffer *b = sb_buffer_new(300);
    char block[300] = "";
    CHECK_EQ(sb_buffer_append(b, block, 299), 0);
    for (int i = 0; i < 700; i++) {
        char letter = (char)('a' + i % 26);
        CHECK_EQ(sb_buffer_append(b, at_an_edge(&letter, 1), 1), 0);
        CHECK_EQ(sb_buffer_append(b, "x", 1), SB_ERR_LIMIT);
        CHECK_EQ(sb_buffer_data(b)[299], letter);
        sb_buffer_consume(b, 1);
    }
    CHECK_EQ(sb_buffer_capacity(b), 300);
    sb_buffer_free(b);
}

/* Every allocation of a history fails in turn; what went in comes out all the same. */
static void no_memory_at_any_time(void)
{
    int fired = 1;
    for (int nth = 1; fired; nth++) {
        fail_nth(CALL_ALLOCATE, nth, ENOMEM);
        sb_buffer *b = sb_buffer_new(5000);
        size_t written = 0, read = 0;
        for (int i = 0; b != NULL && i < 60; i++) {
            char piece[100];
            for (size_t j = 0; j < sizeof piece; j++)
                piece[j] = (char)(written + j);
            if (sb_buffer_append(b, piece, sizeof piece) == 0)
                written += sizeof piece;
            CHECK_EQ(sb_buffer_size(b), written - read);
            for (size_t j = read; j < written; j++)
                CHECK(sb_buffer_data(b)[j - read] == (char)j);
            size_t n = sb_buffer_size(b) < 70 ? sb_buffer_size(b) : 70;
            sb_buffer_consume(b, n);
            read += n;
        }
        sb_buffer_free(b);
        fired = faults_clear();
        CHECK(fired || written == 6000);
    }
}

/* Pointers are places, also where there is no byte. */
static void empty_is_somewhere(void)
{
    sb_buffer *b = sb_buffer_new(10);
    char *room = NULL;
    CHECK(sb_buffer_data(b) != NULL);
    CHECK_EQ(sb_buffer_reserve(b, 0, &room), 0);
    CHECK(room != NULL);
    sb_buffer_commit(b, 0);
    CHECK_EQ(sb_buffer_capacity(b), 0);
    sb_buffer_free(b);
    b = sb_buffer_new(0);
    room = NULL;
    CHECK_EQ(sb_buffer_reserve(b, 0, &room), 0);
    CHECK(room != NULL && sb_buffer_data(b) != NULL);
    sb_buffer_free(b);
}

/* More than there is, is all there is. */
static void numbers_are_bounded(void)
{
    sb_buffer *b = sb_buffer_new(100);
    char *room;
    CHECK_EQ(sb_buffer_reserve(b, 10, &room), 0);
    memset(room, 'x', 10);
    size_t capacity = sb_buffer_capacity(b);
    memset(room, 'x', capacity);
    sb_buffer_commit(b, capacity + 1);
    CHECK_EQ(sb_buffer_size(b), capacity);
    sb_buffer_commit(b, SIZE_MAX);
    CHECK_EQ(sb_buffer_size(b), capacity);
    sb__buffer_set_scanned(b, SIZE_MAX);
    CHECK_EQ(sb__buffer_scanned(b), capacity);
    sb_buffer_consume(b, SIZE_MAX);
    CHECK_EQ(sb_buffer_size(b), 0);
    sb__buffer_set_scanned(b, 1);
    CHECK_EQ(sb__buffer_scanned(b), 0);
    sb_buffer_free(b);
}

const struct test buffer_tests[] = {
    {"buffer: holds what was appended", holds_what_was_appended},
    {"buffer: limit is kept", limit_is_kept},
    {"buffer: scanned goes along", scanned_goes_along},
    {"buffer: makes room without growing", makes_room_without_growing},
    {"buffer: behaves as a queue", behaves_as_a_queue},
    {"buffer: no memory loses nothing", no_memory_loses_nothing},
    {"buffer: grows in proportion", grows_in_proportion},
    {"buffer: a long queue moves seldom", a_long_queue_moves_seldom},
    {"buffer: no memory but room", no_memory_but_room},
    {"buffer: full to the limit", full_to_the_limit},
    {"buffer: no memory at any time", no_memory_at_any_time},
    {"buffer: empty is somewhere", empty_is_somewhere},
    {"buffer: numbers are bounded", numbers_are_bounded},
    {NULL, NULL},
};
