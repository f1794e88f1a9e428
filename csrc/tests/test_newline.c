#include "../frame.h"
#include "harness.h"

#include <stdlib.h>
#include <string.h>

static void check_marks(int way, const char *data, size_t size, char lf, char cr)
{
    struct sb_mark marks[SB_STRIDE];
    size_t looked = sb__marks_by(way, data, size, lf, cr, marks);
    CHECK_EQ(looked, size < SB_STRIDE * SB_BLOCK ? size : SB_STRIDE * SB_BLOCK);
    int wrong = 0;
    for (size_t i = 0; i < (looked + SB_BLOCK - 1) / SB_BLOCK * SB_BLOCK; i++) {
        uint64_t is_lf = i < size && data[i] == lf, is_cr = i < size && data[i] == cr;
        wrong += (marks[i / SB_BLOCK].lf >> i % SB_BLOCK & 1) != is_lf;
        wrong += (marks[i / SB_BLOCK].cr >> i % SB_BLOCK & 1) != is_cr;
    }
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
                check_marks(way, block, sizeof block, '\n', '\r');
                check_marks(way, block, sizeof block, (char)value, (char)(value + 1));
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
            check_marks(way, at_edge(data, size), size, '\n', '\r');
            check_marks(way, at_edge(data, size), size, '\0', '\r');
        }
}

static void ways_agree(void)
{
    char data[SB_BLOCK * SB_STRIDE + 100];
    for (int round = 0; round < rounds(50, 5000); round++) {
        uint32_t rare = 1 + random_below(40);
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (char)(random_below(rare) == 0 ? "\r\n"[random_below(2)] : (int)random_below(256));
        size_t size = sizeof data - random_below(200);
        for (int way = 0; way <= sb__widest(); way++)
            check_marks(way, at_edge(data, size), size, '\n', '\r');
    }
}

const struct test newline_tests[] = {
    {"newline: every value everywhere", every_value_everywhere},
    {"newline: no byte behind the data", no_byte_behind_the_data},
    {"newline: ways agree", ways_agree},
    {NULL, NULL},
};
