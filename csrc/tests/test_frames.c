/* SPDX-License-Identifier: MIT */
#include "framings.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A stream, what comes of it, and what comes of it when frames that are too
 * long are left out (NULL: the same). */
struct vector {
    const char *framing;
    size_t limit;
    const char *stream;
    size_t size;
    const char *want, *want_discarding;
};

#define STREAM(literal) literal, sizeof literal - 1

static const struct vector vectors[] = {
    {"line", 3, STREAM(""), "", NULL},
    {"line", 3, STREAM("abc\nde\r\n\n\r\nf"), "(abc)(de)()()~", NULL},
    {"line", 3, STREAM("abc\r\nabcd\nx\n"), "(abc)L", "(abc)L(x)"},
    {"line", 3, STREAM("abc\rd\nx\n"), "L", "L(x)"},
    {"line", 3, STREAM("abc\r\r\n\nx"), "L", "L()~"},
    {"line", 3, STREAM("ab\r\r\n"), "(ab\r)", NULL},
    {"line", 0, STREAM("\n\r\nx\n"), "()()L", "()()L"},
    {"line", 0, STREAM("\r\r\n"), "L", "L"},
    {"line", 3, STREAM("abcdefgh"), "L", "L~"},
    {"line", 9, STREAM("a\0b\n"), "(a", NULL},
    {"crlf", 3, STREAM("abc\r\n\r\nd\r\nab"), "(abc)()(d)~", NULL},
    {"crlf", 3, STREAM("ab\r\na\nb\r\n"), "(ab)M5", NULL},
    {"crlf", 3, STREAM("a\rb\r\n"), "M1", NULL},
    {"crlf", 3, STREAM("a\r\r\n"), "M1", NULL},
    {"crlf", 3, STREAM("abcd\r\nxy\r\n"), "L", "L(xy)"},
    {"crlf", 3, STREAM("abcd\nxy\r\nz\r\n"), "L", "L(z)"},
    {"crlf", 3, STREAM("abc\n"), "M3", NULL},
    {"crlf", 3, STREAM("abc\r"), "~", NULL},
    {"nul", 3, STREAM("abc\0\0de\0f"), "(abc)()(de)~", NULL},
    {"nul", 3, STREAM("abc\r\0x\0"), "L", "L(x)"},
    {"delimiter1", 2, STREAM("a;;bc;bcd;e;"), "(a)()(bc)L", "(a)()(bc)L(e)"},
    {"delimiter", 3, STREAM("xabaabaababax"), "(x)()()~", NULL},
    {"delimiter", 3, STREAM("xyzabaxyzwabaqab"), "(xyz)L", "(xyz)L~"},
    {"delimiter", 3, STREAM("xyaabaxyzabcaba"), "(xya)L", "(xya)L"},
    {"delimiter", 0, STREAM("abaabbaba"), "()L", "()L"},
    {"delimiter8", 2, STREAM("xyaaaaaaabaaaaaa"), "(xy)~", NULL},
    {"delimiter8", 2, STREAM("aaaaaaaaabaaaaaaab"), "(aa)()", NULL},
    {"delimiter8", 2, STREAM("aaaaaaaaaabaaaaaaab"), "L", "L()"},
    {"netstring", 12, STREAM("3:abc,0:,1:x,"), "(abc)()(x)", NULL},
    {"netstring", 12, STREAM("12:abcdefghijkl,"), "(abcdefghijkl)", NULL},
    {"netstring", 12, STREAM("13:abc"), "L", NULL},
    {"netstring", 12, STREAM("1:x,123:"), "(x)L", NULL},
    {"netstring", 12, STREAM("03:abc,"), "M1", NULL},
    {"netstring", 12, STREAM("00:,"), "M1", NULL},
    {"netstring", 12, STREAM(":,"), "M0", NULL},
    {"netstring", 12, STREAM("1:x,-1:,"), "(x)M4", NULL},
    {"netstring", 12, STREAM("1 :x,"), "M1", NULL},
    {"netstring", 12, STREAM("3:abcd,"), "M5", NULL},
    {"netstring", 12, STREAM("0:x"), "M2", NULL},
    {"netstring", 12, STREAM("1:x,2"), "(x)~", NULL},
    {"netstring", 12, STREAM("4:abc"), "~", NULL},
    {"netstring", 12, STREAM("99999999999999999"), "L", NULL},
    {"netstring", 0, STREAM("0:,1:"), "()L", NULL},
    {"netstring", 12, STREAM("0:,00:,"), "()M4", NULL},
    {"netstring", 12, STREAM("01:a,"), "M1", NULL},
    {"prefix1", 5, STREAM("\3abc\0\1x\5abcde"), "(abc)()(x)(abcde)", NULL},
    {"prefix1", 5, STREAM("\1x\6abcdef"), "(x)L", NULL},
    {"prefix1", 500, STREAM("\1x\377abcdef"), "(x)~", NULL},
    {"prefix2", 5, STREAM("\0\3abc\0\0\0\1x\0"), "(abc)()(x)~", NULL},
    {"prefix2", 5, STREAM("\0\3abc\1\0"), "(abc)L", NULL},
    {"prefix2le", 5, STREAM("\3\0abc\0\0\1\0x\0\1"), "(abc)()(x)L", NULL},
    {"prefix3", 5, STREAM("\0\0\3abc\0\0\0\1\0\0"), "(abc)()L", NULL},
    {"prefix4", 5, STREAM("\0\0\0\3abc\0\0\0\0\0\0"), "(abc)()~", NULL},
    {"prefix4", 5, STREAM("\377\377\377\377"), "L", NULL},
    {"prefix8", 5, STREAM("\0\0\0\0\0\0\0\3abc\0\0"), "(abc)~", NULL},
    {"prefix8", 5, STREAM("\0\0\0\1\0\0\0\0"), "L", NULL},
    {"prefix8", 5, STREAM("\377\377\377\377\377\377\377\377"), "L", NULL},
    {"prefix4whole", 5, STREAM("\7\0\0\0abc\4\0\0\0"), "(abc)()", NULL},
    {"prefix4whole", 5, STREAM("\4\0\0\0\3\0\0\0"), "()M4", NULL},
    {"prefix4whole", 5, STREAM("\12\0\0\0"), "L", NULL},
    {"varint", 5, STREAM("\3abc\0\1x\2a"), "(abc)()(x)~", NULL},
    {"varint", 5, STREAM("\203\0abc\200\200\200\200\0"), "(abc)()", NULL},
    {"varint", 5, STREAM("\1x\6"), "(x)L", NULL},
    {"varint", 5, STREAM("\377\377\377\377\17"), "L", NULL},
    {"varint", 5, STREAM("\1x\200\200\200\200\20"), "(x)M6", NULL},
    {"varint", 5, STREAM("\200\200\200\200\200\0"), "M4", NULL},
    {"varint", 300, STREAM("\200\2x"), "~", NULL},
    {"octet", 12, STREAM("3 abc1 x2 a"), "(abc)(x)~", NULL},
    {"octet", 12, STREAM("3 abc0 1 x"), "(abc)M5", NULL}, /* RFC 6587: MSG-LEN = NONZERO-DIGIT *DIGIT */
    {"octet", 12, STREAM("0"), "M0", NULL},
    {"octet", 12, STREAM("1 x03 abc"), "(x)M3", NULL},
    {"octet", 12, STREAM("10 0123456789"), "(0123456789)", NULL},
    {"octet", 0, STREAM("1"), "L", NULL},
    {"octet", 12, STREAM(" abc"), "M0", NULL},
    {"octet", 12, STREAM("<1>abc\n"), "M0", NULL},
    {"octet", 12, STREAM("13 abc"), "L", NULL},
    {"mixed", 5, STREAM("3 a\nb<1>\r\n\n1 yx\n"), "(a\nb)(<1>)()(y)(x)", NULL},
    {"mixed", 5, STREAM("<1>\n0 x\n"), "(<1>)M4", NULL},
    {"mixed", 5, STREAM("<1>abc\n1 x"), "L", "L(x)"},
    {"mixed", 5, STREAM("<1>abc1234\n1 x"), "L", "L(x)"},
    {"mixed", 5, STREAM("1 x6 abc\n1 x"), "(x)L", NULL},
    {"mixed", 5, STREAM("x\n3x"), "(x)M3", NULL},
    {"fixed", 3, STREAM("abcdefg"), "(abc)(def)~", NULL},
    {"fixed", 3, STREAM("abcdef"), "(abc)(def)", NULL},
    {"dot", 9, STREAM(".\r\na\r\n.\r\n"), "()(a\r\n)", NULL},
    {"dot", 9, STREAM("a\r\n..\r\n.b\r\n.\r\n"), "(a\r\n.\r\nb\r\n)", NULL},
    {"dot", 9, STREAM("a\n.\n.\r\n\r\n.\r\n"), "(a\n.\n.\r\n\r\n)", NULL},
    {"dot", 9, STREAM("a\n.\r\n.\r\n"), "(a\n.\r\n)", NULL},
    {"dot", 9, STREAM("..\n\r\n.\r\n"), "(.\n\r\n)", NULL},
    {"dot", 9, STREAM(".\r.\r\n.\r\n"), "(\r.\r\n)", NULL},
    {"dot", 3, STREAM("a\r\n.\r\n..\r\n.\r\n"), "(a\r\n)(.\r\n)", NULL},
    {"dot", 3, STREAM("ab\r\n.\r\n.\r\n"), "L", "L()"},
    {"dot", 2, STREAM("ab\r\n.\r\n.\r"), "L", "L~"},
    {"dot", 3, STREAM("a\r\n.x\r\n.\r\n.\r\n"), "L", "L()"},
    {"dot", 0, STREAM(".\r\na\r\n.\r\n"), "()L", "()L"},
    {"dot", 6, STREAM("..a\r\n.b\r\n.\r\n"), "L", "L"}, /* two dots that are stuffing, seen twice */
    {"dot", 9, STREAM("a\r\n."), "~", NULL},
    {"blank", 9, STREAM("\na=b\n\n\r\nc\r\n\r\n"), "()(a=b\n)()(c\r\n)", NULL},
    {"blank", 9, STREAM("a\n\rb\n\nc\n"), "(a\n\rb\n)~", NULL},
    {"blank", 4, STREAM("a=b\n\nab=c\n\nx\n\n"), "(a=b\n)L", "(a=b\n)L(x\n)"},
    {"blank", 2, STREAM("a\n\r\nabc\n\r\n\n"), "(a\n)L", "(a\n)L()"},
    {"blank", 2, STREAM("abc\nd\n\rx\n\r"), "L", "L~"},
    {"blank", 0, STREAM("\nx\n\n"), "()L", "()L"},
};

enum { VECTORS = sizeof vectors / sizeof vectors[0] };

static void compare(const struct vector *v, const size_t *ends, size_t pieces, int discard, int batch, edge_function *edge)
{
    sb_framing framing = framing_named(v->framing, v->limit);
    sb_buffer *text = sb_buffer_new(1 << 20);
    const char *want = discard && v->want_discarding != NULL ? v->want_discarding : v->want;
    take_apart(&framing, v->stream, ends, pieces, discard, batch, edge, text);
    CHECK_EQ(sb_buffer_append(text, "", 1), 0);
    if (strcmp(sb_buffer_data(text), want) != 0) {
        printf("# framing %s, %zu pieces:", v->framing, pieces);
        for (size_t i = 0; i < pieces; i++)
            printf(" %zu", ends[i]);
        printf("%s%s\n", discard ? ", discard" : "", batch ? ", batch" : "");
        CHECK_TEXT(sb_buffer_data(text), want);
    }
    sb_buffer_free(text);
}

/* Bit i of cuts: a piece ends behind byte i. */
static size_t pieces_of(unsigned long cuts, size_t size, size_t *ends)
{
    size_t n = 0;
    for (size_t i = 1; i < size; i++)
        if (cuts >> (i - 1) & 1)
            ends[n++] = i;
    ends[n] = size;
    return n + 1;
}

static void every_split(void)
{
    size_t ends[32];
    for (size_t i = 0; i < VECTORS; i++) {
        const struct vector *v = &vectors[i];
        unsigned long splits = v->size > 1 ? 1ul << (v->size - 1) : 1;
        for (unsigned long cuts = 0; cuts < splits; cuts++) {
            size_t n = pieces_of(cuts, v->size, ends);
            for (int how = 0; how < 4; how++)
                compare(v, ends, n, how & 1, how >> 1, (cuts ^ (unsigned)how) & 1 ? behind_edge : at_edge);
        }
    }
}

/* ---- longer streams: what a split brings is what the whole brings */

static const char *const alphabets[] = {
    "\n\r.ab", "\n\r.\n\r.01239:, x", "0123456789:, <\n", "\0\1\2\3\200\201", "ab;", "aaaab\r\n",
};

static size_t random_stream(char *stream, size_t max)
{
    const char *alphabet = alphabets[random_below(6)];
    size_t letters = strlen(alphabet), n = 1 + random_below((uint32_t)max);
    letters += letters == 0 ? 6 : 0;
    for (size_t i = 0; i < n; i++)
        stream[i] = alphabet[random_below((uint32_t)letters)];
    return n;
}

static void splits_agree(const sb_framing *framing, const char *stream, size_t size, int splits)
{
    size_t *ends = malloc(size * sizeof *ends);
    for (int discard = 0; discard < 2; discard++) {
        sb_buffer *want = sb_buffer_new(1 << 20);
        take_apart(framing, stream, &size, 1, discard, 1, NULL, want);
        for (int split = 0; split < splits; split++) {
            sb_buffer *got = sb_buffer_new(1 << 20);
            size_t n = 0;
            uint32_t often = 1 + random_below(40);
            for (size_t i = 1; i < size; i++)
                if (random_below(often) == 0)
                    ends[n++] = i;
            ends[n++] = size;
            take_apart(framing, stream, ends, n, discard, split & 1, at_an_edge, got);
            CHECK_EQ(sb_buffer_size(got), sb_buffer_size(want));
            CHECK(sb_buffer_size(got) == 0 || memcmp(sb_buffer_data(got), sb_buffer_data(want), sb_buffer_size(got)) == 0);
            sb_buffer_free(got);
        }
        sb_buffer_free(want);
    }
    free(ends);
}

static int depends_on_arrival(const char *name)
{
    return strcmp(name, "raw") == 0 || strcmp(name, "datagram") == 0;
}

static void random_streams(void)
{
    char stream[200];
    for (int index = 0; framing_name(index) != NULL; index++) {
        if (depends_on_arrival(framing_name(index)))
            continue;
        for (int round = 0; round < rounds(150, 5000); round++) {
            sb_framing framing = framing_named(framing_name(index), random_below(20));
            size_t size = random_stream(stream, sizeof stream);
            splits_agree(&framing, stream, size, 4);
        }
    }
}

/* Streams of valid frames, by our own encoder, in very many splits. */
static void random_splits(void)
{
    for (int index = 0; framing_name(index) != NULL; index++) {
        if (depends_on_arrival(framing_name(index)))
            continue;
        sb_framing framing = framing_named(framing_name(index), 40);
        sb_buffer *stream = sb_buffer_new(1 << 16);
        for (int frame = 0; frame < 12; frame++) {
            char payload[40];
            size_t n = framing.kind == SB_FRAMING_FIXED ? 40 : random_below(41);
            for (size_t i = 0; i < n; i++)
                payload[i] = "abcdefgh.x"[random_below(10)];
            (void)!sb_frame_encode(&framing, payload, n, stream);
        }
        splits_agree(&framing, sb_buffer_data(stream), sb_buffer_size(stream), rounds(500, 50000));
        sb_buffer_free(stream);
    }
}

/* ---- what arrives is the frame */

static void raw_and_datagram(void)
{
    sb_framing raw = framing_named("raw", 4), datagram = framing_named("datagram", 4);
    sb_scan scan = {0};
    sb_frame frame;
    sb_span spans[4];
    size_t next = 9;
    CHECK_EQ(sb_frame_find(&raw, "abcdef", 0, &scan, &frame), 0);
    CHECK_EQ(sb_frame_find(&raw, "abcdef", 6, &scan, &frame), 1);
    CHECK_EQ(frame.next, 4);
    CHECK_EQ(sb_frames_find(&raw, "abcdef", 6, &scan, spans, 4, &next), 2);
    CHECK_EQ(next, 6);
    CHECK_EQ(sb_frame_find(&datagram, "", 0, &scan, &frame), 1);
    CHECK_EQ(frame.end, 0);
    CHECK_EQ(sb_frames_find(&datagram, "abc", 3, &scan, spans, 4, &next), 1);
    CHECK_EQ(spans[0].end, 3);
    CHECK_EQ(sb_frames_find(&datagram, "", 0, &scan, spans, 4, &next), 1);
    CHECK_EQ(next, 0);
    next = 9;
    CHECK_EQ(sb_frames_find(&datagram, "abcde", 5, &scan, spans, 4, &next), SB_ERR_TOO_LONG);
    CHECK_EQ(next, 9);
    CHECK_EQ(sb_frame_end(&raw, 0, &scan), 0);
}

/* A batch stops at the caller's most and goes on from there. */
static void batches_of_one(void)
{
    for (int index = 0; index < 2; index++) {
        sb_framing framing = framing_named(index ? "netstring" : "line", 10);
        const char *data = index ? "1:a,2:bc,1" : "a\nbc\nd";
        size_t size = strlen(data), at = 0, next;
        sb_scan scan = {0};
        sb_span span;
        CHECK_EQ(sb_frames_find(&framing, data, size, &scan, &span, 1, &next), 1);
        CHECK_EQ(span.end - span.start, 1);
        at += next;
        CHECK_EQ(sb_frames_find(&framing, data + at, size - at, &scan, &span, SIZE_MAX, &next), 1);
        CHECK_EQ(span.end - span.start, 2);
        at += next;
        CHECK_EQ(sb_frames_find(&framing, data + at, size - at, &scan, &span, 1, &next), 0);
        CHECK_EQ(scan.searched, 1);
        CHECK_EQ(scan.need, 2);
    }
}

/* The framing changes between frames; the bytes that follow are read by the next. */
static void framing_changes(void)
{
    const char *data = "5\nhello3:abc,\0\1x";
    size_t at = 0;
    sb_scan scan = {0};
    sb_frame frame;
    sb_framing line = framing_named("line", 10), fixed = framing_named("fixed", 5);
    sb_framing netstring = framing_named("netstring", 10), prefix = framing_named("prefix2", 10);
    const sb_framing *const order[] = {&line, &fixed, &netstring, &prefix};
    const char *const want[] = {"5", "hello", "abc", "x"};
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(sb_frame_find(order[i], data + at, 16 - at, &scan, &frame), 1);
        CHECK_EQ(frame.end - frame.start, strlen(want[i]));
        CHECK(memcmp(data + at + frame.start, want[i], strlen(want[i])) == 0);
        at += frame.next;
    }
    CHECK_EQ(at, 16);
}

/* More bytes than the longest frame, shown at once. */
static void long_pieces(void)
{
    char data[10000];
    for (int index = 0; framing_name(index) != NULL; index++) {
        sb_framing framing = framing_named(framing_name(index), 5);
        sb_scan scan = {0};
        sb_frame frame;
        sb_span spans[4];
        size_t next;
        memset(data, 'x', sizeof data);
        int code = sb_frame_find(&framing, at_edge(data, sizeof data), sizeof data, &scan, &frame);
        CHECK(code < 0 || framing.kind == SB_FRAMING_RAW || framing.kind == SB_FRAMING_FIXED || framing.kind == SB_FRAMING_PREFIX);
        if (framing.kind != SB_FRAMING_LINE && !(framing.kind == SB_FRAMING_DELIMITER && framing.width == 1))
            continue;
        for (size_t i = 3; i < sizeof data; i += 4)
            data[i] = framing.kind == SB_FRAMING_LINE ? '\n' : framing.delimiter[0];
        scan = (sb_scan){0};
        CHECK_EQ(sb_frames_find(&framing, data, sizeof data, &scan, spans, 4, &next), 4);
        CHECK_EQ(next, 16);
        CHECK_EQ(scan.searched, 0);
    }
}

static void leaves_out_nothing(void)
{
    sb_framing blank = framing_named("blank", 5);
    sb_scan scan = {0};
    size_t drop = 7;
    CHECK_EQ(sb_frame_discard(&blank, "", 0, &scan, &drop), 0);
    CHECK_EQ(drop, 0);
    CHECK_EQ(sb_frame_end(&blank, 0, &scan), SB_ERR_TRUNCATED);
}

static void check_unstuffed(const char *text, const char *want)
{
    char got[64];
    size_t size = sb_dot_unstuff(at_an_edge(text, strlen(text)), strlen(text), got);
    got[size] = '\0';
    CHECK_TEXT(got, want);
}

static void unstuffs(void)
{
    check_unstuffed("", "");
    check_unstuffed(".", "");
    check_unstuffed("..a\r\n..\r\nb.\n.c", ".a\r\n.\r\nb.\n.c");
    check_unstuffed("a\r\n", "a\r\n");
}

static void need_is_known(void)
{
    sb_scan scan = {0};
    sb_frame frame;
    sb_framing prefix = framing_named("prefix4", 1000), netstring = framing_named("netstring", 1000);
    CHECK_EQ(sb_frame_find(&prefix, "\0\0", 2, &scan, &frame), 0);
    CHECK_EQ(scan.need, 4);
    CHECK_EQ(sb_frame_find(&prefix, "\0\0\1\0x", 5, &scan, &frame), 0);
    CHECK_EQ(scan.need, 260);
    scan = (sb_scan){0};
    CHECK_EQ(sb_frame_find(&netstring, "12", 2, &scan, &frame), 0);
    CHECK_EQ(scan.need, 3);
    CHECK_EQ(sb_frame_find(&netstring, "12:", 3, &scan, &frame), 0);
    CHECK_EQ(scan.need, 16);
}

static void errors_touch_nothing(void)
{
    sb_framing line = framing_named("line", 2), fixed = framing_named("fixed", 2), mixed = framing_named("mixed", 2);
    sb_frame frame = {.start = 7, .end = 8, .next = 9, .dots = 10};
    sb_scan scan = {0};
    size_t drop = 7;
    CHECK_EQ(sb_frame_find(&line, "abcd", 4, &scan, &frame), SB_ERR_TOO_LONG);
    CHECK_EQ(sb_frame_find(&line, "abcd\n", 5, &scan, &frame), SB_ERR_TOO_LONG);
    CHECK(frame.start == 7 && frame.end == 8 && frame.next == 9 && frame.dots == 10);
    CHECK_EQ(sb_frame_discard(&fixed, "abc", 3, &scan, &drop), SB_ERR_INVALID);
    CHECK_EQ(sb_frame_discard(&mixed, "12", 2, &scan, &drop), SB_ERR_INVALID);
    CHECK_EQ(sb_frame_discard(&mixed, "", 0, &scan, &drop), SB_ERR_INVALID);
    CHECK_EQ(drop, 7);
    CHECK_EQ(scan.discarding, 0);
}

/* Counted in bytes looked at, n bytes that come one by one are O(n): the finder
 * is shown only what it has not seen, the rest being unreadable would be better
 * still; here the time of four times the bytes is looked at by the benchmark. */
static void scan_goes_forward(void)
{
    const char *const kinds[] = {"line", "crlf", "nul", "delimiter", "dot", "blank"};
    for (int i = 0; i < 6; i++) {
        sb_framing framing = framing_named(kinds[i], 1 << 16);
        char *data = malloc(1 << 16);
        sb_scan scan = {0};
        sb_frame frame;
        memset(data, 'x', 1 << 16);
        for (size_t size = 1; size <= 1 << 16; size++) {
            CHECK_EQ(sb_frame_find(&framing, data, size, &scan, &frame), 0);
            CHECK(scan.searched + 2 >= size);
        }
        free(data);
    }
}

/* More than a buffer of sb_framing_room would hold, behind whole frames: what is
 * too long is found too long, and nothing behind the data is looked at. */
static void too_long_behind_a_batch(void)
{
    for (int index = 0; framing_name(index) != NULL; index++) {
        sb_framing framing = framing_named(framing_name(index), 3);
        char data[5000];
        memset(data, 'x', sizeof data);
        sb_buffer *first = sb_buffer_new(100);
        if (framing.kind == SB_FRAMING_RAW || framing.kind == SB_FRAMING_FIXED || framing.kind == SB_FRAMING_DATAGRAM
            || sb_frame_encode(&framing, "a", 1, first) < 0) {
            sb_buffer_free(first);
            continue;
        }
        size_t n = sb_buffer_size(first), next = 0;
        for (size_t size = n + 1; size < sizeof data; size += 1 + size / 3) {
            sb_scan scan = {0};
            sb_span spans[4];
            memcpy(data, sb_buffer_data(first), n);
            CHECK_EQ(sb_frames_find(&framing, at_edge(data, size), size, &scan, spans, 4, &next), 1);
            CHECK_EQ(next, n);
            const char *rest = at_edge(data + n, size - n);
            int code = sb_frames_find(&framing, rest, size - n, &scan, spans, 4, &next);
            sb_scan fresh = {0};
            CHECK_EQ(code, sb_frames_find(&framing, rest, size - n, &fresh, spans, 4, &next));
        }
        sb_buffer_free(first);
    }
}

const struct test frame_tests[] = {
    {"frames: every split", every_split},
    {"frames: random streams", random_streams},
    {"frames: random splits", random_splits},
    {"frames: raw and datagram", raw_and_datagram},
    {"frames: batches of one", batches_of_one},
    {"frames: framing changes", framing_changes},
    {"frames: long pieces", long_pieces},
    {"frames: leaves out nothing", leaves_out_nothing},
    {"frames: unstuffs", unstuffs},
    {"frames: need is known", need_is_known},
    {"frames: errors touch nothing", errors_touch_nothing},
    {"frames: scan goes forward", scan_goes_forward},
    {"frames: too long behind a batch", too_long_behind_a_batch},
    {NULL, NULL},
};
