/* SPDX-License-Identifier: MIT */
#include "../frame.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What sb_lines_find promises, one byte after the other. */
static int plain_find(const char *data, size_t size, size_t limit, sb_lines *found)
{
    sb_lines lines = {0, 0, 0};
    for (size_t i = 0; i < size; i++) {
        if (data[i] != '\n')
            continue;
        size_t cr = i > lines.end && data[i - 1] == '\r';
        if (i - lines.end - cr > limit)
            break;
        lines.frames++;
        lines.returns += cr;
        lines.end = i + 1;
    }
    if (lines.frames > 0) {
        *found = lines;
        return (int)lines.frames;
    }
    size_t length = 0;
    while (length < size && data[length] != '\n')
        length++;
    if (length == size && size > 0 && size - 1 == limit && data[limit] == '\r')
        return 0;
    size_t cr = length < size && length > 0 && data[length - 1] == '\r';
    return length - cr > limit ? SB_ERR_TOO_LONG : 0;
}

static void check_find(const char *data, size_t size, size_t limit)
{
    sb_lines got = {0, 0, 0}, want = {0, 0, 0};
    int wanted = plain_find(data, size, limit, &want);
    const char *edge = at_an_edge(data, size), *lf = memchr(data, '\n', size);
    size_t known = lf == NULL ? size : (size_t)(lf - data);
    CHECK_EQ(sb_lines_find(edge, size, 0, limit, &got), wanted);
    CHECK_EQ(sb_lines_find(edge, size, known, limit, &got), wanted);
    CHECK_EQ(sb_lines_find(edge, size, known / 2, limit, &got), wanted);
    CHECK_EQ(got.frames, want.frames);
    CHECK_EQ(got.end, want.end);
    CHECK_EQ(got.returns, want.returns);
}

static void small_ones(void)
{
    static const char *const texts[] = {"", "\n", "\r\n", "a", "a\n", "a\r", "a\r\n", "\r\r\n", "ab\ncd", "ab\ncd\r\n", "abc\n", "abc\r",
                                        "abcd\n", "abcd", "a\nabcd\n", "\n\n\n", "\r\n\r\n", "abc\r\r\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        for (size_t limit = 0; limit < 6; limit++)
            check_find(texts[i], strlen(texts[i]), limit);
}

static void random_ones(void)
{
    char data[9000];
    for (int round = 0; round < rounds(3000, 300000); round++) {
        uint32_t rare = 1 + random_below(300);
        size_t size = random_below(sizeof data);
        for (size_t i = 0; i < size; i++)
            data[i] = "x\r\n"[random_below(rare) == 0 ? 1 + random_below(2) : 0];
        check_find(data, size, random_below(2) ? random_below(100) : random_below(3000));
        check_find(data, size, SIZE_MAX);
    }
}

/* 1 MiB byte by byte: each call looks at the new byte, not at the line. */
static void byte_by_byte(void)
{
    enum { SIZE = 1 << 18 };
    char *data = malloc(SIZE + 1);
    sb_lines found;
    int early = 0;
    memset(data, 'x', SIZE);
    data[SIZE] = '\n';
    for (size_t size = 1; size <= SIZE; size++)
        early += sb_lines_find(data, size, size - 1, SIZE, &found) != 0;
    CHECK_EQ(early, 0);
    CHECK_EQ(sb_lines_find(data, SIZE + 1, SIZE, SIZE, &found), 1);
    CHECK_EQ(found.end, SIZE + 1);
    free(data);
}

static void check_strip(const char *text, const char *want)
{
    char *data = at_an_edge(text, strlen(text)), got[64];
    size_t size = sb__lines_strip(data, strlen(text));
    memcpy(got, data, size);
    got[size] = '\0';
    CHECK_TEXT(got, want);
}

static void strip(void)
{
    check_strip("", "");
    check_strip("a\r\nb\r\n", "a\nb\n");
    check_strip("a\r", "a\r");
    check_strip("\r\r\n", "\r\n");
    check_strip("a\rb\r\n\r\nc", "a\rb\n\nc");
    check_strip("abc\n", "abc\n");
}

/* Their number is an int: with so many it stops, and the next call goes on. */
static void enough(void)
{
    enum { SIZE = 10 * SB_STRIDE };
    char *data = malloc(SIZE);
    sb_lines found;
    memset(data, '\n', SIZE);
    CHECK_EQ(sb__lines_find(data, SIZE, 0, 10, &found, SB_STRIDE + 1), 2 * SB_STRIDE);
    CHECK_EQ(found.end, 2 * SB_STRIDE);
    CHECK_EQ(sb_lines_find(data + found.end, SIZE - found.end, 0, 10, &found), 8 * SB_STRIDE);
    free(data);
}

const struct test line_tests[] = {
    {"lines: small ones", small_ones},
    {"lines: random ones", random_ones},
    {"lines: byte by byte", byte_by_byte},
    {"lines: strip", strip},
    {"lines: enough", enough},
    {NULL, NULL},
};
