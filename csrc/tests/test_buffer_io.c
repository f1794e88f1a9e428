/* SPDX-License-Identifier: MIT */
/* test_buffer_io - a buffer filled and emptied in one call each, what codes say, and nobody at all */
#include "harness.h"

#include "buffer.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wchar.h>

static void receives_behind_the_data(void)
{
    int fds[2];
    sb_buffer *b = sb_buffer_new(10);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    CHECK_EQ(sb_buffer_receive(b, fds[0], 4), SB_ERR_AGAIN);
    CHECK_EQ(write(fds[1], "0123456789abc", 13), 13);
    CHECK_EQ(sb_buffer_receive(b, fds[0], 0), SB_ERR_INVALID);
    CHECK_EQ(sb_buffer_receive(b, fds[0], 4), 4);
    CHECK_EQ(sb_buffer_receive(b, fds[0], 100), 6); /* what its limit leaves */
    CHECK_EQ(sb_buffer_receive(b, fds[0], 100), SB_ERR_LIMIT);
    CHECK(memcmp(sb_buffer_data(b), "0123456789", 10) == 0);
    sb_buffer_consume(b, 9);
    CHECK_EQ(sb_buffer_receive(b, fds[0], 100), 3);
    sb_buffer_consume(b, 100);
    close(fds[1]);
    CHECK_EQ(sb_buffer_receive(b, fds[0], 100), SB_ERR_END);
    close(fds[0]);
    sb_buffer_free(b);
    b = sb_buffer_new(10);
    fail_nth(CALL_ALLOCATE, 1, ENOMEM);
    CHECK_EQ(sb_buffer_receive(b, 0, 4), SB_ERR_NOMEM);
    sb_buffer_free(b);
}

/* Each payload stays where it is until there must be room again. */
static void takes_frames_out(void)
{
    sb_buffer *b = sb_buffer_new(100);
    sb_framing netstring;
    sb_scan scan = {0};
    sb_piece one, other;
    CHECK_EQ(sb_framing_netstring(10, &netstring), 0);
    CHECK_EQ(sb_buffer_next(b, &netstring, &scan, &one), 0);
    CHECK_EQ(sb_buffer_append(b, "3:abc,2:de,1", 12), 0);
    CHECK_EQ(sb_buffer_next(b, &netstring, &scan, &one), 1);
    CHECK_EQ(sb_buffer_next(b, &netstring, &scan, &other), 1);
    CHECK_EQ(sb_buffer_next(b, &netstring, &scan, &other), 0);
    CHECK(one.size == 3 && memcmp(one.data, "abc", 3) == 0);
    CHECK(other.size == 2 && memcmp(other.data, "de", 2) == 0);
    CHECK_EQ(sb_buffer_append(b, "1:too long", 10), 0);
    CHECK_EQ(sb_buffer_next(b, &netstring, &scan, &one), SB_ERR_TOO_LONG);
    CHECK(one.size == 3);
    sb_buffer_free(b);
}

static void takes_the_dots_out(void)
{
    sb_buffer *b = sb_buffer_new(100);
    sb_framing dots;
    sb_scan scan = {0};
    sb_piece mail;
    CHECK_EQ(sb_framing_dot_block(50, &dots), 0);
    CHECK_EQ(sb_buffer_append(b, "..a\r\n..\r\n.\r\nnext", 16), 0);
    CHECK_EQ(sb_buffer_next(b, &dots, &scan, &mail), 1);
    CHECK(mail.size == 7 && memcmp(mail.data, ".a\r\n.\r\n", 7) == 0);
    CHECK(sb_buffer_size(b) == 4 && memcmp(sb_buffer_data(b), "next", 4) == 0);
    sb_buffer_free(b);
}

static void prints(void)
{
    sb_buffer *b = sb_buffer_new(16);
    CHECK_EQ(sb_buffer_printf(b, "%d %s", 200, "ok"), 0);
    CHECK_EQ(sb_buffer_printf(b, "%c", '\n'), 0);
    CHECK(sb_buffer_size(b) == 7 && memcmp(sb_buffer_data(b), "200 ok\n", 7) == 0);
    CHECK_EQ(sb_buffer_printf(b, "%s", "0123456789"), SB_ERR_LIMIT);
    CHECK_EQ(sb_buffer_printf(b, "%s", ""), 0);
    CHECK_EQ(sb_buffer_printf(b, "%lc", (wint_t)0xffffffu), SB_ERR_INVALID); /* no character */
    CHECK_EQ(sb_buffer_size(b), 7);
    sb_buffer_free(b);
}

/* Each code has its own words, and what is none has some. */
static void texts(void)
{
    for (int code = 0; code >= SB_ERR_CLOSING; code--) {
        CHECK(sb_error_text(code)[0] != '\0');
        for (int other = 0; other > code; other--)
            CHECK(strcmp(sb_error_text(code), sb_error_text(other)) != 0);
    }
    CHECK_TEXT(sb_error_text(SB_ERR_END), "end of file");
    CHECK_TEXT(sb_error_text(5), "success");
    CHECK_TEXT(sb_error_text(SB_ERR_CLOSING - 1), "unknown error");
    for (int reason = 0; reason < SB_REASONS; reason++) {
        CHECK(sb_reason_text(reason)[0] != '\0');
        for (int other = 0; other < reason; other++)
            CHECK(strcmp(sb_reason_text(reason), sb_reason_text(other)) != 0);
    }
    CHECK_TEXT(sb_reason_text(SB_REASON_RESET), "reset by the peer");
    CHECK_TEXT(sb_reason_text(-1), "unknown");
    CHECK_TEXT(sb_reason_text(SB_REASONS), "unknown");
}

static void nobody_at_all(void)
{
    sb_framing line = {.kind = SB_FRAMING_LINE, .limit = 10};
    sb_scan scan = {0};
    sb_frame frame;
    sb_span span;
    sb_piece piece;
    char *room;
    size_t n;
    sb_buffer *b = sb_buffer_new(10);
    CHECK_EQ(sb_buffer_reserve(NULL, 1, &room), SB_ERR_INVALID);
    CHECK_EQ(sb_buffer_reserve(b, 1, NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_buffer_append(NULL, "a", 1), SB_ERR_INVALID);
    CHECK_EQ(sb_buffer_receive(NULL, 0, 1), SB_ERR_INVALID);
    CHECK_EQ(sb_buffer_next(NULL, &line, &scan, &piece), SB_ERR_INVALID);
    CHECK_EQ(sb_buffer_next(b, &line, &scan, NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_buffer_next(b, NULL, &scan, &piece), SB_ERR_INVALID);
    CHECK_EQ(sb_buffer_next(b, &line, NULL, &piece), SB_ERR_INVALID);
    CHECK_EQ(sb_buffer_printf(NULL, "%d", 1), SB_ERR_INVALID);
    sb_buffer_commit(NULL, 1);
    sb_buffer_consume(NULL, 1);
    CHECK_TEXT(sb_buffer_data(NULL), "");
    CHECK_EQ(sb_buffer_size(NULL) + sb_buffer_capacity(NULL), 0);
    CHECK_EQ(sb_frame_find(NULL, "a", 1, &scan, &frame), SB_ERR_INVALID);
    CHECK_EQ(sb_frame_find(&line, "a", 1, NULL, &frame), SB_ERR_INVALID);
    CHECK_EQ(sb_frames_find(NULL, "a", 1, &scan, &span, 1, &n), SB_ERR_INVALID);
    CHECK_EQ(sb_frame_discard(NULL, "a", 1, &scan, &n), SB_ERR_INVALID);
    CHECK_EQ(sb_frame_discard(&line, "a", 1, NULL, &n), SB_ERR_INVALID);
    CHECK_EQ(sb_frame_end(&line, 0, NULL), 0);
    CHECK_EQ(sb_frame_end(&line, 1, NULL), SB_ERR_TRUNCATED);
    CHECK_EQ(sb_frame_encode(NULL, "a", 1, b), SB_ERR_INVALID);
    CHECK_EQ(sb_frame_encode(&line, "a", 1, NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_framing_room(NULL), 0);
    sb_buffer_free(b);
}

const struct test buffer_io_tests[] = {
    {"buffer: receives behind the data", receives_behind_the_data},
    {"buffer: takes frames out", takes_frames_out},
    {"buffer: takes the dots out", takes_the_dots_out},
    {"buffer: prints", prints},
    {"texts of codes and reasons", texts},
    {"nobody at all", nobody_at_all},
    {NULL, NULL},
};
