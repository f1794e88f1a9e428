/* SPDX-License-Identifier: MIT */
#include "../frame.h"
#include "harness.h"

#include <stdlib.h>
#include <string.h>

static void check_ends(int way, const char *data, size_t size, char needle)
{
    uint32_t ends[SB_ENDS];
    size_t looked, n = 0;
    size_t count = sb__ends_by(way, data, size, needle, ends, &looked);
    CHECK_EQ(looked, size < SB_STRIDE ? size : SB_STRIDE);
    int wrong = 0;
    for (size_t i = 0; i < looked; i++)
        if (data[i] == needle)
            wrong += n >= count || ends[n++] != i;
    CHECK_EQ(n, count);
    CHECK_EQ(wrong, 0);
}

/* Every byte value at every place of a block. */
static void every_value_everywhere(void)
{
    for (int way = 0; way <= sb__widest(); way++)
        for (int value = 0; value < 256; value++) {
            char block[SB_BLOCK];
            for (int at = 0; at < SB_BLOCK; at++) {
                memset(block, value ^ 0x80, sizeof block);
                block[at] = (char)value;
                check_ends(way, block, sizeof block, '\n');
                check_ends(way, block, sizeof block, (char)value);
            }
        }
}

/* Every size at every alignment, with nothing mapped behind it. */
static void no_byte_behind_the_data(void)
{
    char data[400];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = "ab\r\n\0\x8a"[random_below(6)];
    for (int way = 0; way <= sb__widest(); way++)
        for (size_t size = 1; size <= sizeof data; size++) {
            check_ends(way, at_edge(data, size), size, '\n');
            check_ends(way, at_edge(data, size), size, '\0');
        }
}

static void ways_agree(void)
{
    char data[SB_STRIDE + 100];
    for (int round = 0; round < rounds(50, 5000); round++) {
        uint32_t rare = 1 + random_below(40);
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (char)(random_below(rare) == 0 ? "\r\n"[random_below(2)] : (int)random_below(256));
        size_t size = sizeof data - random_below(200);
        for (int way = 0; way <= sb__widest(); way++)
            check_ends(way, at_edge(data, size), size, '\n');
    }
}

const struct test newline_tests[] = {
    {"newline: every value everywhere", every_value_everywhere},
    {"newline: no byte behind the data", no_byte_behind_the_data},
    {"newline: ways agree", ways_agree},
    {NULL, NULL},
};
