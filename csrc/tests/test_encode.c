/* SPDX-License-Identifier: MIT */
#include "framings.h"
#include "harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void encodes(const char *name, size_t limit, const char *payload, size_t n, const char *want, size_t size)
{
    sb_framing framing = framing_named(name, limit);
    sb_buffer *out = sb_buffer_new(1000);
    CHECK_EQ(sb_frame_encode(&framing, at_an_edge(payload, n), n, out), 0);
    CHECK_EQ(sb_buffer_size(out), size);
    CHECK(sb_buffer_size(out) == size && (size == 0 || memcmp(sb_buffer_data(out), want, size) == 0));
    sb_buffer_free(out);
}

static void refuses(const char *name, size_t limit, const char *payload, int error)
{
    sb_framing framing = framing_named(name, limit);
    sb_buffer *out = sb_buffer_new(1000);
    CHECK_EQ(sb_buffer_append(out, "before", 6), 0);
    CHECK_EQ(sb_frame_encode(&framing, at_an_edge(payload, strlen(payload)), strlen(payload), out), error);
    CHECK_EQ(sb_buffer_size(out), 6);
    sb_buffer_free(out);
}

#define ENCODES(name, limit, payload, want) encodes(name, limit, payload, sizeof payload - 1, want, sizeof want - 1)

static void each_framing(void)
{
    ENCODES("line", 9, "abc", "abc\n");
    ENCODES("line", 9, "", "\n");
    ENCODES("line", 9, "a\rb", "a\rb\n");
    ENCODES("crlf", 9, "abc", "abc\r\n");
    ENCODES("nul", 9, "abc", "abc\0");
    ENCODES("delimiter", 9, "", "aba");
    ENCODES("delimiter", 9, "x", "xaba");
    ENCODES("delimiter8", 20, "xyxyxyxyxyxy", "xyxyxyxyxyxyaaaaaaab");
    ENCODES("netstring", 20, "hello world!", "12:hello world!,");
    ENCODES("netstring", 9, "", "0:,");
    ENCODES("prefix1", 9, "abc", "\3abc");
    ENCODES("prefix2", 9, "abc", "\0\3abc");
    ENCODES("prefix2le", 9, "abc", "\3\0abc");
    ENCODES("prefix3", 9, "abc", "\0\0\3abc");
    ENCODES("prefix4", 9, "abc", "\0\0\0\3abc");
    ENCODES("prefix8", 9, "", "\0\0\0\0\0\0\0\0");
    ENCODES("prefix4whole", 9, "abc", "\7\0\0\0abc");
    ENCODES("varint", 9, "abc", "\3abc");
    ENCODES("octet", 20, "hello world!", "12 hello world!");
    ENCODES("octet", 9, "0", "1 0");
    ENCODES("mixed", 9, "", "\n");
    ENCODES("mixed", 9, "<1>a\n", "5 <1>a\n");
    ENCODES("fixed", 3, "abc", "abc");
    ENCODES("dot", 99, "", ".\r\n");
    ENCODES("dot", 99, "a\r\n", "a\r\n.\r\n");
    ENCODES("dot", 99, "a", "a\r\n.\r\n");
    ENCODES("dot", 99, "\n", "\n\r\n.\r\n");
    ENCODES("dot", 99, ".\r\n.b\r\nc.d\r\n", "..\r\n..b\r\nc.d\r\n.\r\n");
    ENCODES("dot", 99, "a\n.\r\n", "a\n.\r\n.\r\n");
    ENCODES("dot", 99, "\n.x\r\n", "\n.x\r\n.\r\n");
    ENCODES("blank", 99, "", "\n");
    ENCODES("blank", 99, "a=b\n", "a=b\n\n");
    ENCODES("blank", 99, "a=b", "a=b\n\n");
    ENCODES("blank", 99, "a=b\r\n\rc=d\n", "a=b\r\n\rc=d\n\n");
    ENCODES("raw", 2, "abc", "abc");
    ENCODES("raw", 2, "", "");
    ENCODES("datagram", 3, "abc", "abc");
}

static void long_varints(void)
{
    char *payload = calloc(1, 20000);
    sb_framing framing = framing_named("varint", 20000);
    sb_buffer *out = sb_buffer_new(30000);
    CHECK_EQ(sb_frame_encode(&framing, payload, 300, out), 0);
    CHECK(memcmp(sb_buffer_data(out), "\254\2", 3) == 0);
    CHECK_EQ(sb_frame_encode(&framing, payload, 20000, out), 0);
    CHECK(memcmp(sb_buffer_data(out) + 302, "\240\234\1", 4) == 0);
    sb_buffer_free(out);
    free(payload);
}

static void what_would_not_come_back(void)
{
    refuses("line", 9, "a\nb", SB_ERR_MALFORMED);
    refuses("line", 9, "a\r", SB_ERR_MALFORMED);
    refuses("line", 2, "abc", SB_ERR_TOO_LONG);
    refuses("crlf", 9, "a\rb", SB_ERR_MALFORMED);
    refuses("crlf", 9, "a\nb", SB_ERR_MALFORMED);
    refuses("delimiter1", 9, "a;b", SB_ERR_MALFORMED);
    refuses("delimiter", 9, "xabay", SB_ERR_MALFORMED);
    refuses("delimiter", 9, "xab", SB_ERR_MALFORMED); /* with its delimiter: "xababa" */
    refuses("prefix1", 500, "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
                            "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
                            "01234567890123456789012345678901234567890123456789012345", SB_ERR_TOO_LONG);
    refuses("fixed", 3, "ab", SB_ERR_MALFORMED);
    refuses("fixed", 3, "abcd", SB_ERR_TOO_LONG);
    refuses("dot", 2, "a", SB_ERR_TOO_LONG);
    refuses("dot", 2, "\r\n\r", SB_ERR_TOO_LONG);
    refuses("blank", 9, "\n", SB_ERR_MALFORMED);
    refuses("blank", 9, "a\n\nb\n", SB_ERR_MALFORMED);
    refuses("blank", 9, "a\n\r\nb\n", SB_ERR_MALFORMED);
    refuses("blank", 9, "a\n\r", SB_ERR_MALFORMED); /* with the LF that ends it: an empty line */
    refuses("blank", 1, "a", SB_ERR_TOO_LONG);
    refuses("octet", 9, "", SB_ERR_MALFORMED);
    refuses("datagram", 2, "abc", SB_ERR_TOO_LONG);
    refuses("netstring", 2, "abc", SB_ERR_TOO_LONG);
}

static void no_room_loses_nothing(void)
{
    sb_framing framing = framing_named("netstring", 100);
    sb_buffer *out = sb_buffer_new(10);
    CHECK_EQ(sb_frame_encode(&framing, "abc", 3, out), 0);
    CHECK_EQ(sb_frame_encode(&framing, "abc", 3, out), SB_ERR_LIMIT);
    CHECK_EQ(sb_buffer_size(out), 6);
    sb_buffer_free(out);
}

/* Frame after frame, while each allocation fails in turn: of a frame that was
 * refused nothing is left, those before and behind it are whole. */
static void no_memory_at_any_time(void)
{
    enum { FRAMES = 60, SIZE = 40 };
    for (int index = 0; framing_name(index) != NULL; index++) {
        sb_framing framing = framing_named(framing_name(index), SIZE);
        size_t n = framing.kind == SB_FRAMING_FIXED ? SIZE : SIZE / 2;
        int fired = 1;
        for (int nth = 1; fired; nth++) {
            sb_buffer *out = sb_buffer_new(1 << 16), *want = sb_buffer_new(1 << 16);
            int refused = -1;
            char payload[SIZE];
            fail_nth(CALL_ALLOCATE, nth, ENOMEM);
            for (int i = 0; i < FRAMES; i++) {
                memset(payload, 'c' + i % 20, sizeof payload);
                int code = sb_frame_encode(&framing, payload, n, out);
                if (code < 0) {
                    CHECK_EQ(code, SB_ERR_NOMEM);
                    CHECK_EQ(refused, -1);
                    refused = i;
                }
            }
            fired = faults_clear();
            CHECK_EQ(refused >= 0, fired);
            for (int i = 0; i < FRAMES; i++) {
                memset(payload, 'c' + i % 20, sizeof payload);
                if (i != refused)
                    CHECK_EQ(sb_frame_encode(&framing, payload, n, want), 0);
            }
            CHECK_EQ(sb_buffer_size(out), sb_buffer_size(want));
            CHECK(sb_buffer_size(out) == sb_buffer_size(want)
                  && memcmp(sb_buffer_data(out), sb_buffer_data(want), sb_buffer_size(out)) == 0);
            sb_buffer_free(out);
            sb_buffer_free(want);
        }
    }
}

/* What the encoder accepts, the finder gives back; what it refuses as malformed
 * would not have come back. */
static void there_and_back(void)
{
    static const char alphabet[] = "\r\n.;ab0\0";
    for (int index = 0; framing_name(index) != NULL; index++)
        for (int round = 0; round < rounds(2000, 200000); round++) {
            sb_framing framing = framing_named(framing_name(index), 8);
            char payload[12], got[16];
            size_t n = random_below(11);
            for (size_t i = 0; i < n; i++)
                payload[i] = alphabet[random_below(8)];
            sb_buffer *out = sb_buffer_new(100);
            sb_scan scan = {0};
            sb_frame frame;
            int code = sb_frame_encode(&framing, at_an_edge(payload, n), n, out);
            if (n > 8)
                CHECK(code == SB_ERR_TOO_LONG || framing.kind == SB_FRAMING_RAW);
            if (code == 0 && (sb_buffer_size(out) > 0 || framing.kind == SB_FRAMING_DATAGRAM) && n <= 8) {
                const char *data = sb_buffer_size(out) > 0 ? sb_buffer_data(out) : "";
                CHECK(framing.kind == SB_FRAMING_RAW || sb_buffer_size(out) <= sb_framing_room(&framing));
                CHECK_EQ(sb_frame_find(&framing, data, sb_buffer_size(out), &scan, &frame), 1);
                CHECK_EQ(frame.next, sb_buffer_size(out));
                size_t size = frame.end - frame.start;
                if (framing.kind == SB_FRAMING_DOT_BLOCK) {
                    CHECK_EQ(size - frame.dots, sb_dot_unstuff(data + frame.start, size, got));
                    size -= frame.dots;
                } else {
                    memcpy(got, data + frame.start, size);
                }
                CHECK(size >= n && memcmp(got, payload, n) == 0);
                CHECK(size == n || framing.kind == SB_FRAMING_DOT_BLOCK || framing.kind == SB_FRAMING_BLANK_LINE);
            }
            sb_buffer_free(out);
        }
}

const struct test encode_tests[] = {
    {"encode: each framing", each_framing},
    {"encode: long varints", long_varints},
    {"encode: what would not come back", what_would_not_come_back},
    {"encode: no room loses nothing", no_room_loses_nothing},
    {"encode: no memory at any time", no_memory_at_any_time},
    {"encode: there and back", there_and_back},
    {NULL, NULL},
};
