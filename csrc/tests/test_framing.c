/* SPDX-License-Identifier: MIT */
/* test_framing - framings as values, and scans: what is known of a frame, by one framing */
#include "framings.h"
#include "harness.h"

#include <string.h>

static void constructors_check(void)
{
    sb_framing framing = {.kind = 77};
    size_t max = sb_framing_limit_max();
    CHECK_EQ(sb_framing_raw(0, &framing), SB_ERR_INVALID);
    CHECK_EQ(sb_framing_fixed(0, &framing), SB_ERR_INVALID);
    CHECK_EQ(sb_framing_line(max + 1, &framing), SB_ERR_INVALID);
    CHECK_EQ(sb_framing_crlf(max + 1, &framing), SB_ERR_INVALID);
    CHECK_EQ(sb_framing_varint(max + 1, &framing), SB_ERR_INVALID);
    CHECK_EQ(sb_framing_delimiter("", 0, 1, &framing), SB_ERR_INVALID);
    CHECK_EQ(sb_framing_delimiter("123456789", 9, 1, &framing), SB_ERR_INVALID);
    CHECK_EQ(sb_framing_prefix(1, SB_ORDER_BIG, 0, max + 1, &framing), SB_ERR_INVALID);
    CHECK_EQ(sb_framing_prefix(1, 2, 0, 1, &framing), SB_ERR_INVALID);
    for (int width = -1; width <= 9; width++)
        CHECK_EQ(sb_framing_prefix(width, SB_ORDER_BIG, 0, 1, &framing),
                 (width >= 1 && width <= 4) || width == 8 ? 0 : SB_ERR_INVALID);
    framing.kind = 77;
    CHECK_EQ(sb_framing_raw(max + 1, &framing), SB_ERR_INVALID);
    CHECK_EQ(framing.kind, 77);
    CHECK_EQ(sb_framing_prefix(1, SB_ORDER_BIG, 1, 10000, &framing), 0);
    CHECK_EQ(framing.limit, 254);
    CHECK_EQ(sb_framing_prefix(2, SB_ORDER_BIG, 0, max, &framing), 0);
    CHECK_EQ(framing.limit, 65535);
    CHECK_EQ(sb_framing_prefix(8, SB_ORDER_BIG, 0, max, &framing), 0);
    CHECK_EQ(framing.limit, max);
    CHECK_EQ(sb_framing_varint(max, &framing), 0);
    CHECK(framing.limit <= UINT32_MAX);
}

static void room_is_enough_and_little(void)
{
    for (int index = 0; framing_name(index) != NULL; index++) {
        sb_framing framing = framing_named(framing_name(index), 1000);
        CHECK(sb_framing_room(&framing) >= 1000 || framing.limit < 1000);
        CHECK(sb_framing_room(&framing) <= 1000 + 1000 / 3 + 8);
    }
    sb_framing framing = framing_named("prefix1", 1000);
    CHECK_EQ(sb_framing_room(&framing), 256);
}

/* Made by hand, and none: every function says so, and looks at nothing. */
static void framings_that_are_none(void)
{
    static const sb_framing none[] = {
        {.kind = 99, .limit = 10}, {.kind = -1, .limit = 10}, {.kind = SB_FRAMING_RAW}, {.kind = SB_FRAMING_FIXED},
        {.kind = SB_FRAMING_LINE, .limit = SIZE_MAX}, {.kind = SB_FRAMING_CRLF, .limit = 10},
        {.kind = SB_FRAMING_DELIMITER, .limit = 10}, {.kind = SB_FRAMING_DELIMITER, .limit = 10, .width = 9},
        {.kind = SB_FRAMING_DELIMITER, .limit = 10, .width = INT32_MAX}, {.kind = SB_FRAMING_PREFIX, .limit = 10},
        {.kind = SB_FRAMING_PREFIX, .limit = 10, .width = 4, .order = -1},
    };
    sb_buffer *out = sb_buffer_new(100);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        sb_scan scan = {0};
        sb_frame frame;
        sb_span span;
        size_t next = 7;
        CHECK_EQ(sb_frame_find(&none[i], "abc\n", 4, &scan, &frame), SB_ERR_INVALID);
        CHECK_EQ(sb_frames_find(&none[i], "abc\n", 4, &scan, &span, 1, &next), SB_ERR_INVALID);
        CHECK_EQ(sb_frame_discard(&none[i], "abc\n", 4, &scan, &next), SB_ERR_INVALID);
        CHECK_EQ(sb_frame_encode(&none[i], "abc", 3, out), SB_ERR_INVALID);
        CHECK_EQ(sb_framing_room(&none[i]), 0);
        CHECK_EQ(next, 7);
    }
    CHECK_EQ(sb_buffer_size(out), 0);
    sb_buffer_free(out);
}

/* What one framing has found out is nothing to the next: the frame is found as by a scan that knows nothing. */
static void scans_of_another_framing(void)
{
    sb_framing line, bar, bars, nul, netstring;
    sb_scan scan = {0};
    sb_span spans[8];
    sb_frame frame;
    size_t next = 0;
    CHECK_EQ(sb_framing_line(100, &line), 0);
    CHECK_EQ(sb_framing_delimiter("|", 1, 100, &bar), 0);
    CHECK_EQ(sb_framing_delimiter("|\0", 2, 100, &bars), 0); /* the same bytes, one more of them counts */
    CHECK_EQ(sb_framing_nul(100, &nul), 0);
    CHECK_EQ(sb_framing_netstring(100, &netstring), 0);
    CHECK_EQ(sb_frames_find(&line, "one\na|b", 7, &scan, spans, 8, &next), 1);
    CHECK_EQ(sb_frame_find(&bar, "a|b", 3, &scan, &frame), 1);
    CHECK_EQ(frame.end, 1);
    const char *data = "1:a,|\n";
    const sb_framing *const framings[] = {&line, &bar, &bars, &nul, &netstring};
    enum { KINDS = sizeof framings / sizeof framings[0] };
    for (int first = 0; first < KINDS; first++)
        for (int then = 0; then < KINDS; then++)
            for (size_t size = 0; size <= 4; size++) {
                sb_scan used = {0}, fresh = {0};
                sb_frame one = {0}, other = {0};
                if (sb_frame_find(framings[first], data, size, &used, &one) != 0)
                    continue;
                CHECK_EQ(sb_frame_find(framings[then], data, 6, &used, &one), sb_frame_find(framings[then], data, 6, &fresh, &other));
                CHECK_EQ(one.end, other.end);
                CHECK_EQ(one.next, other.next);
            }
}

/* A scan about more bytes than there are knows nothing of these; one of a frame that is left out finds none. */
static void scans_that_do_not_fit(void)
{
    sb_framing line = framing_named("line", 100);
    sb_scan scan = {0};
    sb_frame frame;
    sb_span span;
    size_t next = 7;
    CHECK_EQ(sb_frame_find(&line, "abcdef", 6, &scan, &frame), 0);
    CHECK_EQ(sb_frame_find(&line, "a\n", 2, &scan, &frame), 1);
    CHECK_EQ(sb_frame_find(&line, "abcdef", 6, &scan, &frame), 0);
    CHECK_EQ(sb_frames_find(&line, "a\n", 2, &scan, &span, 1, &next), 1);
    CHECK_EQ(sb_frames_find(&line, "a\n", 2, &scan, &span, 0, &next), SB_ERR_INVALID);
    CHECK_EQ(next, 2);
    CHECK_EQ(sb_frame_discard(&line, "abc", 3, &scan, &next), 0);
    CHECK_EQ(sb_frame_find(&line, "a\n", 2, &scan, &frame), SB_ERR_INVALID);
    CHECK_EQ(sb_frames_find(&line, "a\n", 2, &scan, &span, 1, &next), SB_ERR_INVALID);
    CHECK_EQ(sb_frame_discard(&line, "a\nb\n", 4, &scan, &next), 1);
    CHECK_EQ(sb_frame_find(&line, "b\n", 2, &scan, &frame), 1);
}

const struct test framing_tests[] = {
    {"framing: constructors check", constructors_check},
    {"framing: room is enough and little", room_is_enough_and_little},
    {"framing: some that are none", framings_that_are_none},
    {"framing: scans of another one", scans_of_another_framing},
    {"framing: scans that do not fit", scans_that_do_not_fit},
    {NULL, NULL},
};
