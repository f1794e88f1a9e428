/* SPDX-License-Identifier: MIT */
/*
 * mux_outsider - whoever has read the header and nothing else: events one by one, one call to send, codes
 *
 * DESCRIPTION
 *   The first dozen are programs of strangers who came to grief with an API made for one caller.
 */
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- a program of a few lines */

/* As a caller without epoll would: whoever is open is tried. */
static int await(struct world *w, int timeout_ms)
{
    int32_t ids[64], masks[64];
    if (w->epoll)
        return sb_mux_wait(w->mux, timeout_ms);
    int n = sb_mux_list(w->mux, -1, SB_LIST_LIVE, ids, 64);
    for (int i = 0; i < n; i++)
        masks[i] = SB_READ | SB_WRITE;
    CHECK(sb_mux_changes(w->mux) >= 0);
    return sb_mux_receive(w->mux, ids, masks, n);
}

/* What is left, one by one, up to most of them: "0:a|b| 1 closed 2 ". */
static const char *taken(struct world *w, int max)
{
    static char text[4096];
    static const char *const names[] = {"", "", "accepted", "end", "pause", "resume", "closed", "wrong", "ready", "lingering"};
    size_t at = 0;
    sb_event event;
    const char *data;
    text[0] = '\0';
    while (max-- > 0 && sb_mux_next(w->mux, &event, &data) > 0) {
        CHECK((data != NULL) == (event.kind == SB_EVENT_FRAMES));
        if (event.kind != SB_EVENT_FRAMES) {
            at += (size_t)snprintf(text + at, sizeof text - at, "%d %s %d ", event.id, names[event.kind], event.detail);
            continue;
        }
        at += (size_t)snprintf(text + at, sizeof text - at, "%d:", event.id);
        for (int64_t i = 0; i < event.size && i < 100; i++)
            text[at++] = (char)(data[i] == '\n' ? '|' : data[i]);
        at += (size_t)snprintf(text + at, sizeof text - at, "(%d) ", (int)event.frames);
    }
    return text;
}

static const char *all_of(struct world *w)
{
    CHECK(await(w, 0) >= 0);
    return taken(w, 1000);
}

static sb_group announced(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    return group;
}

/* Who asks for it hears that a connection lingers, also of one that it has closed itself; not behind its end. */
static void lingering_is_told_who_asks(void)
{
    sb_group group = announced();
    group.flags |= SB_GROUP_REPORTS_LINGERING;
    struct world *w = world_of(4, group);
    int id = join(w, 0), late = join(w, 0);
    CHECK_TEXT(taken(w, 9), "0 accepted 0 1 accepted 0 ");
    CHECK_EQ(sb_mux_close(w->mux, id, SB_REASON_CLOSED), 0);
    CHECK_TEXT(taken(w, 9), "0 lingering 2 ");
    CHECK_EQ(sb_mux_close(w->mux, late, SB_REASON_CLOSED), 0);
    CHECK_EQ(sb_mux_abort(w->mux, late, SB_REASON_ABORTED), 0);
    CHECK_TEXT(taken(w, 9), "1 closed 12 ");
    hang_up(w, id);
    CHECK_TEXT(all_of(w), "0 closed 2 ");
    end_of(w);
}

/* b1: nothing but its end behind a close, whatever was given back or framed anew, or lies in the queue. */
static void after_a_close_there_is_its_end_alone(void)
{
    for (int way = 0; way < 3; way++) {
        sb_group group = announced();
        group.linger_ms = 0;
        struct world *w = world_of(4, group);
        sb_framing three = {.kind = SB_FRAMING_FIXED, .limit = 3};
        int id = join(w, 0), other = join(w, 0);
        say(w, id, "one\ntwo\nthr");
        say(w, other, "x\n");
        CHECK_TEXT(taken(w, 2), "0 accepted 0 1 accepted 0 ");
        CHECK(await(w, 0) > 0);
        if (way == 0)
            CHECK_TEXT(taken(w, 1), "0:one|two|(2) ");
        if (way == 1)
            CHECK_EQ(sb_mux_unread(w->mux, id, "two\n", 4, 1), 0);
        CHECK_EQ(way == 2 ? sb_mux_abort(w->mux, id, SB_REASON_ABORTED) : sb_mux_close(w->mux, id, SB_REASON_CLOSED), 0);
        CHECK_EQ(sb_mux_framing(w->mux, id, &three), SB_ERR_GONE);
        CHECK_EQ(sb_mux_unread(w->mux, id, "two\n", 4, 1), SB_ERR_GONE);
        CHECK_EQ(sb_mux_close(w->mux, id, SB_REASON_CLOSED), SB_ERR_GONE);
        CHECK_TEXT(taken(w, 9), way == 2 ? "1:x|(1) 0 closed 12 " : "1:x|(1) 0 closed 2 ");
        for (int i = 0; i < 3; i++)
            CHECK_TEXT(all_of(w), "");
        end_of(w);
    }
}

/* While it is being closed, that is what is said of it. */
static void a_close_takes_its_time(void)
{
    struct world *w = world_of(4, announced()); /* 1 s of lingering */
    int id = join(w, 0);
    CHECK_TEXT(taken(w, 9), "0 accepted 0 ");
    CHECK_EQ(sb_mux_close_all(w->mux, SB_REASON_CLOSED), 0);
    CHECK_EQ(sb_mux_close_all(w->mux, SB_REASON_CLOSED), 0);
    CHECK_EQ(sb_mux_send(w->mux, id, "x", 1), SB_ERR_CLOSING);
    CHECK_EQ(sb_mux_close(w->mux, id, SB_REASON_CLOSED), SB_ERR_CLOSING);
    CHECK_EQ(sb_mux_pause(w->mux, id, 1), SB_ERR_CLOSING);
    CHECK_EQ(sb_mux_shutdown(w->mux, id), SB_ERR_CLOSING);
    CHECK_EQ(sb_mux_rest(w->mux, id, 1), SB_ERR_CLOSING);
    CHECK_EQ(sb_mux_unread(w->mux, id, "x\n", 2, 1), SB_ERR_CLOSING);
    hang_up(w, id);
    CHECK_TEXT(all_of(w), "0 closed 2 ");
    CHECK_EQ(sb_mux_rest(w->mux, id, 1), SB_ERR_GONE);
    CHECK_EQ(sb_mux_forget(w->mux, id), SB_ERR_GONE);
    end_of(w);
}

/* b2, b3: no group, and a group of zeroes, in which what has come is handed out. */
static void groups_are_checked(void)
{
    struct world *w = world_of(8, (sb_group){.flags = 0});
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    CHECK_EQ(sb_mux_add(w->mux, fds[0], 1), SB_ERR_GONE);
    CHECK_EQ(sb_mux_sources(w->mux, 1, NULL), SB_ERR_GONE);
    CHECK_EQ(sb_mux_serve(w->mux, 1, NULL), SB_ERR_GONE);
    CHECK_EQ(sb_mux_spent(w->mux, 1, 1), SB_ERR_GONE);
    CHECK_EQ(sb_mux_spent(w->mux, 0, -1), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_list(w->mux, 1, SB_LIST_LIVE, NULL, 0), SB_ERR_GONE);
    CHECK_EQ(sb_mux_list(w->mux, 0, 3, NULL, 0), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_list(w->mux, 0, -1, NULL, 0), SB_ERR_INVALID);
    close(fds[0]);
    close(fds[1]);
    int id = join(w, 0);
    CHECK_EQ(sb_mux_sources(w->mux, 0, NULL), SB_ERR_INVALID); /* it would be counted there when it leaves */
    say(w, id, "hello");
    CHECK_TEXT(all_of(w), "0:hello(1) ");
    end_of(w);
}

/* b10: a kept id speaks to nobody. */
static void a_late_send_reaches_nobody_else(void)
{
    struct world *w = world_of(1000, lines_group());
    int alice = join(w, 0);
    hang_up(w, alice);
    CHECK_TEXT(all_of(w), "0 closed 1 ");
    CHECK_TEXT(all_of(w), "");
    int bob = join(w, 0);
    CHECK_EQ(sb_mux_send(w->mux, alice, "Alice's password\n", 17), SB_ERR_GONE);
    CHECK_EQ(sb_mux_send(w->mux, bob, "hello", 5), 0);
    CHECK_TEXT(heard(w, bob), "hello");
    end_of(w);
}

/* b11: whoever accepts behind the loop, or closes in it, is told all the same; once. */
static void every_event_is_told_once(void)
{
    struct world *w = world_of(16, announced());
    struct sockaddr_in address;
    sb_event event;
    const char *data;
    int fd = listener(&address), accepted = 0, told = 0;
    CHECK_EQ(sb_mux_watch(w->mux, fd, SB_READ), w->epoll ? 0 : SB_ERR_FAULT);
    for (int i = 0; i < 5; i++)
        w->peer[i] = dial(&address);
    for (int turn = 0; turn < 9; turn++) {
        CHECK(await(w, 20) >= 0);
        while (sb_mux_next(w->mux, &event, &data) > 0)
            told += event.kind == SB_EVENT_ACCEPTED;
        int n = sb_mux_accept(w->mux, fd, 0, 1, NULL);
        CHECK(n >= 0);
        accepted += n;
    }
    CHECK_EQ(accepted, 5);
    CHECK_EQ(told, 5);
    close(fd);
    end_of(w);
}

/* b12: codes of their own for what is not there. */
static void no_such_connection_is_a_code_of_its_own(void)
{
    struct world *w = world_of(4, lines_group());
    sb_framing line = {.kind = SB_FRAMING_LINE, .limit = 9};
    const int none[] = {3, 0, -1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        CHECK_EQ(sb_mux_water(w->mux, none[i], 10, 5), SB_ERR_GONE);
        CHECK_EQ(sb_mux_framing(w->mux, none[i], &line), SB_ERR_GONE);
        CHECK_EQ(sb_mux_send(w->mux, none[i], "x", 1), SB_ERR_GONE);
        CHECK_EQ(sb_mux_pause(w->mux, none[i], 1), SB_ERR_GONE);
        CHECK_EQ(sb_mux_shutdown(w->mux, none[i]), SB_ERR_GONE);
        CHECK_EQ(sb_mux_abort(w->mux, none[i], 1), SB_ERR_GONE);
    }
    CHECK_EQ(sb_mux_row(w->mux, -1), SB_ERR_GONE);
    sb_group strange = {.framing = {.kind = 99, .limit = 10}};
    CHECK_EQ(sb_mux_group(w->mux, &strange), SB_ERR_INVALID);
    end_of(w);
}

/* b6, b13: what a peer has sent is what it costs, and so many of them shut nobody out. */
static void a_peer_costs_what_it_has_sent(void)
{
    enum { N = 40, MOST = 4096 * (N + 1) };
    static char data[2051];
    sb_group group = lines_group();
    group.framing.limit = 65536;
    memset(data, 'x', sizeof data - 1);
    struct world *w = world_of(N + 1, group);
    CHECK_EQ(sb_mux_memory(w->mux, MOST), 0);
    for (int i = 0; i <= N; i++)
        join(w, 0);
    for (int i = 0; i < N; i++)
        say(w, i, data);
    CHECK_TEXT(all_of(w), "");
    CHECK(sb_mux_counts(w->mux)->memory / N <= 4096);
    for (int i = 0; i < N; i++)
        say(w, i, "x");
    for (int i = 0; i < 3; i++)
        CHECK_TEXT(all_of(w), "");
    CHECK(sb_mux_counts(w->mux)->memory / N <= 4096);
    say(w, N, "hel");
    CHECK_TEXT(all_of(w), "");
    say(w, N, "lo\n");
    CHECK_TEXT(all_of(w), "40:hello|(1) ");
    end_of(w);
}

/* b7: the caller is busy longer than a deadline, the peer's bytes came in time. */
static void what_came_in_time_is_in_time(void)
{
    for (int way = 0; way < 2; way++) {
        sb_group group = lines_group();
        *(way ? &group.frame_ms : &group.idle_ms) = 500;
        struct world *w = world_of(4, group);
        int id = join(w, 0);
        if (way)
            say(w, id, "hel");
        CHECK_TEXT(all_of(w), "");
        say(w, id, "lo\n");
        clock_advance(1200);
        CHECK_TEXT(all_of(w), way ? "0:hello|(1) " : "0:lo|(1) ");
        end_of(w);
    }
}

/* b8: a reply is timed from when it was written, not from before the handler ran. */
static void a_late_reply_has_its_time(void)
{
    sb_group group = lines_group();
    group.stall_ms = 1000;
    struct world *w = world_of(4, group);
    char *block = big_block(2 << 20);
    int id = join(w, 0);
    say(w, id, "go\n");
    CHECK_TEXT(all_of(w), "0:go|(1) ");
    clock_advance(1500);
    CHECK(sb_mux_send(w->mux, id, block, 2 << 20) > 0);
    CHECK_TEXT(all_of(w), "");
    CHECK_EQ(sb_mux_unsent(w->mux, id) > 0, 1);
    free(block);
    end_of(w);
}

/* b14: a line is the same bytes by whichever finder. */
static void two_returns_are_cut_once(void)
{
    struct world *w = world_of(4, (sb_group){.framing = {.kind = SB_FRAMING_LINE, .limit = 100}});
    sb_scan scan = {0}, again = {0};
    sb_framing line = {.kind = SB_FRAMING_LINE, .limit = 100};
    sb_event event;
    sb_span span;
    sb_frame frame;
    const char *data;
    size_t next;
    say(w, join(w, 0), "a\r\r\n");
    CHECK(await(w, 0) > 0);
    CHECK_EQ(sb_mux_next(w->mux, &event, &data), 1);
    CHECK_EQ(sb_frames_find(&line, data, (size_t)event.size, &scan, &span, 1, &next), event.frames);
    CHECK_EQ(sb_frame_find(&line, "a\r\r\n", 4, &again, &frame), 1);
    CHECK_EQ(span.end - span.start, 2);
    CHECK_EQ(frame.end - frame.start, 2);
    end_of(w);
}

/* ---- what survives a wait */

static void what_was_not_taken_survives_a_wait(void)
{
    struct world *w = world_of(8, lines_group());
    for (int i = 0; i < 3; i++)
        say(w, join(w, 0), "a\nb\n");
    int n = await(w, 0);
    CHECK_EQ(n, 3);
    CHECK_TEXT(taken(w, 1), "0:a|b|(2) ");
    say(w, 0, "later\n");
    for (int i = 0; i < 3; i++)
        CHECK_EQ(await(w, -1), 2); /* at once, and nothing is received */
    CHECK_TEXT(taken(w, 1), "1:a|b|(2) ");
    CHECK_EQ(await(w, -1), 1);
    CHECK_TEXT(taken(w, 9), "2:a|b|(2) ");
    CHECK_TEXT(taken(w, 9), "");
    CHECK_TEXT(all_of(w), "0:later|(1) ");
    end_of(w);
}

/* A merged run comes one connection at a time; what was cut off comes again. */
static void runs_come_apart(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_MERGE;
    struct world *w = world_of(8, group);
    for (int i = 0; i < 3; i++)
        say(w, join(w, 0), i == 1 ? "b\nbb\n" : "a\n");
    CHECK_EQ(await(w, 0), 1);
    CHECK_TEXT(taken(w, 1), "0:a|(1) ");
    CHECK_EQ(await(w, 0), 1);
    CHECK_TEXT(taken(w, 9), "1:b|bb|(2) 2:a|(1) ");
    for (int i = 0; i < 3; i++)
        say(w, i, "x\ny\n");
    CHECK_EQ(await(w, 0), 1);
    CHECK_EQ(sb_mux_cut(w->mux, 0, 3), 0);
    CHECK_EQ(sb_mux_close(w->mux, 0, SB_REASON_CLOSED), 0);
    CHECK_TEXT(taken(w, 9), "1:x|(1) ");
    CHECK_TEXT(all_of(w), "1:y|(1) 2:x|y|(2) ");
    say(w, 1, "z\n");
    say(w, 2, "z\n");
    CHECK_EQ(await(w, 0), 1);
    CHECK_EQ(sb_mux_cut(w->mux, 0, 0), 0);
    CHECK_TEXT(taken(w, 9), "");
    CHECK_TEXT(all_of(w), "1:z|(1) 2:z|(1) ");
    end_of(w);
}

/* A large frame lies in a buffer of its own. */
static void a_large_frame_is_where_it_is_said(void)
{
    sb_group group = lines_group();
    group.framing.limit = 1 << 20;
    struct world *w = world_of(4, group);
    char *block = big_block(300000);
    sb_event event = {.kind = 0};
    const char *data = NULL;
    int id = join(w, 0), got = 0;
    block[299999] = '\n';
    for (size_t at = 0; at < 300000 || got == 0;) {
        ssize_t n = send(w->peer[sb_mux_row(w->mux, id)], block + at, 300000 - at, MSG_NOSIGNAL);
        at += n > 0 ? (size_t)n : 0;
        CHECK(await(w, 0) >= 0);
        got = sb_mux_next(w->mux, &event, &data);
    }
    CHECK_EQ(event.size, 300000);
    CHECK(event.offset < 0);
    CHECK(data != NULL && memcmp(data, block, 300000) == 0);
    free(block);
    end_of(w);
}

/* What is watched comes last; and not when it is watched no more. */
static void descriptors_are_told_as_well(void)
{
#if SB_HAS_EPOLL
    struct world *w = world_of(4, lines_group());
    int one[2], other[2];
    sb_event event;
    const char *data;
    if (w->epoll) {
        CHECK_EQ(pipe(one), 0);
        CHECK_EQ(pipe(other), 0);
        CHECK_EQ(sb_mux_watch(w->mux, one[1], SB_WRITE), 0);
        CHECK_EQ(sb_mux_watch(w->mux, other[1], SB_WRITE), 0);
        CHECK_EQ(sb_mux_watch(w->mux, one[1], 4), SB_ERR_INVALID);
        CHECK_EQ(sb_mux_watch(w->mux, -1, SB_READ), SB_ERR_INVALID);
        say(w, join(w, 0), "a\n");
        CHECK_EQ(sb_mux_wait(w->mux, 0), 3);
        CHECK_TEXT(taken(w, 1), "0:a|(1) ");
        CHECK_EQ(sb_mux_wait(w->mux, 0), 2);
        CHECK_EQ(sb_mux_next(w->mux, &event, &data), 1);
        CHECK_EQ(event.kind, SB_EVENT_READY);
        CHECK_EQ(event.detail, one[1]);
        CHECK_EQ(event.size, SB_WRITE);
        CHECK_EQ(sb_mux_watch(w->mux, other[1], 0), 0);
        CHECK_EQ(sb_mux_next(w->mux, &event, &data), 0);
        for (int i = 0; i < 2; i++) {
            close(one[i]);
            close(other[i]);
        }
    }
    end_of(w);
#endif
}

/* ---- what becomes of what is sent */

static void what_became_of_it_is_said(void)
{
    static const struct {
        int error, code;
    } failures[] = {{EPIPE, SB_ERR_RESET}, {EHOSTUNREACH, SB_ERR_UNREACHABLE}, {EIO, SB_ERR_RESET}};
    sb_group group = announced();
    group.max_unsent = 1 << 20;
    struct world *w = world_of(8, group);
    char *block = big_block(2 << 20);
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        int id = join(w, 0);
        fail_nth(CALL_SEND, 1, failures[i].error);
        CHECK_EQ(sb_mux_send(w->mux, id, "x", 1), failures[i].code);
        CHECK_EQ(sb_mux_send(w->mux, id, "x", 1), SB_ERR_GONE);
    }
    int much = join(w, 0), half = join(w, 0);
    CHECK_EQ(sb_mux_send(w->mux, much, block, 2 << 20), SB_ERR_LIMIT);
    CHECK_EQ(sb_mux_send(w->mux, half, block, 0), 0);
    int64_t waiting = sb_mux_send(w->mux, half, block, 1 << 20);
    CHECK(waiting > 0);
    CHECK_EQ(sb_mux_unsent(w->mux, half), waiting);
    CHECK_EQ(sb_mux_shutdown(w->mux, half), 0);
    CHECK_EQ(sb_mux_send(w->mux, half, "x", 1), SB_ERR_CLOSING);
    free(block);
    end_of(w);
}

static void a_peer_that_has_our_end(void)
{
    struct world *w = world_of(4, announced());
    int id = join(w, 0);
    CHECK_EQ(sb_mux_shutdown(w->mux, id), 0);
    CHECK_EQ(sb_mux_shutdown(w->mux, id), SB_ERR_CLOSING);
    CHECK_EQ(sb_mux_send(w->mux, id, "x", 1), SB_ERR_CLOSING);
    CHECK_EQ(shutdown(w->peer[id], SHUT_WR), 0);
    CHECK_TEXT(taken(w, 9), "0 accepted 0 ");
    CHECK_TEXT(all_of(w), "0 end 0 ");
    CHECK_EQ(sb_mux_unread(w->mux, id, "x\n", 2, 1), SB_ERR_CLOSING); /* and so nothing can come of it */
    end_of(w);
}

/* ---- nobody at all */

static void no_mux(void)
{
    sb_group group = lines_group();
    sb_event event;
    sb_totals totals;
    sb_info info;
    sb_moved moved = {0};
    const char *data;
    size_t size = 7;
    int32_t id = 0;
    int64_t bytes = 0;
    CHECK(sb_mux_counts(NULL) == NULL && sb_mux_events(NULL) == NULL && sb_mux_parts(NULL) == NULL);
    CHECK(sb_mux_readies(NULL) == NULL && sb_mux_arena(NULL) == NULL && sb_mux_held(NULL, 0) == NULL);
    CHECK(sb_mux_unfinished(NULL, 0, &size) == NULL && size == 0);
    const long long invalid[] = {
        sb_mux_group(NULL, &group), sb_mux_memory(NULL, 0), sb_mux_keep_rows(NULL, 0), sb_mux_list(NULL, -1, 0, &id, 1),
        sb_mux_watch(NULL, 0, 0), sb_mux_add(NULL, 0, 0), sb_mux_wait(NULL, 0), sb_mux_receive(NULL, &id, &id, 1),
        sb_mux_turn(NULL, 0), sb_mux_turn_of(NULL, &id, &id, 1), sb_mux_next(NULL, &event, &data), sb_mux_reap(NULL),
        sb_mux_changes(NULL), sb_mux_timeout(NULL), sb_mux_write(NULL, 1, &id, &bytes, ""), sb_mux_close_all(NULL, 0),
        sb_mux_unread(NULL, 0, "", 0, 0), sb_mux_leave(NULL), sb_mux_set_filter(NULL, NULL),
    };
    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++)
        CHECK_EQ(invalid[i], SB_ERR_INVALID);
    const long long gone[] = {
        sb_mux_ungroup(NULL, 0), sb_mux_totals(NULL, 0, &totals), sb_mux_sources(NULL, 0, NULL), sb_mux_serve(NULL, 0, NULL),
        sb_mux_accept(NULL, 0, 0, 1, NULL), sb_mux_row(NULL, 0), sb_mux_peer(NULL, 0, "", 0), sb_mux_spent(NULL, 0, 0),
        sb_mux_send(NULL, 0, "", 0), sb_mux_close(NULL, 0, 0), sb_mux_abort(NULL, 0, 0),
        sb_mux_framing(NULL, 0, &group.framing), sb_mux_export(NULL, 0, &moved, &data, &data),
        sb_mux_import(NULL, 0, 0, &moved, NULL, NULL), sb_mux_filter(NULL, 0), sb_mux_rest(NULL, 0, 0), sb_mux_apart(NULL, 0, 1),
        sb_mux_forget(NULL, 0), sb_mux_shutdown(NULL, 0), sb_mux_pause(NULL, 0, 0), sb_mux_water(NULL, 0, 1, 0),
        sb_mux_unsent(NULL, 0), sb_mux_info(NULL, 0, &info),
    };
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++)
        CHECK_EQ(gone[i], SB_ERR_GONE);
    CHECK_EQ(sb_mux_reply_lines(NULL, 0, "", 0), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_cut(NULL, 0, 0), SB_ERR_MISMATCH);
    CHECK_EQ(sb_mux_errno(NULL), EINVAL);
    CHECK_EQ(sb_mux_fileno(NULL), -1);
    sb_mux_free(NULL);
}

/* What is wrong behind the last frame is found before the caller closes, and said of nobody then. */
static void closed_before_it_is_found_wrong(void)
{
    sb_group group = announced();
    group.framing.limit = 3;
    struct world *w = world_of(4, group);
    int id = join(w, 0);
    CHECK_TEXT(taken(w, 9), "0 accepted 0 ");
    say(w, id, "a\nmuch too long");
    CHECK(await(w, 0) > 0);
    CHECK_TEXT(taken(w, 1), "0:a|(1) ");
    CHECK_EQ(sb_mux_close(w->mux, id, SB_REASON_HANDLER_ERROR), 0);
    CHECK_TEXT(taken(w, 9), "");
    for (int i = 0; i < 3; i++)
        CHECK_TEXT(all_of(w), "");
    hang_up(w, id);
    CHECK_TEXT(all_of(w), "0 closed 10 ");
    end_of(w);
}

static void nothing_to_write_to(void)
{
    struct world *w = world_of(3, lines_group());
    sb_event event;
    const char *data;
    CHECK_EQ(sb_mux_group(w->mux, NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_next(w->mux, NULL, &data), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_next(w->mux, &event, NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_receive(w->mux, NULL, NULL, -1), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_memory(w->mux, -1), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_keep_rows(w->mux, -1), SB_ERR_INVALID);
    int id = join(w, 0);
    CHECK_EQ(sb_mux_unread(w->mux, id, "", 0, -1), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_unread(w->mux, id, "", 0, 0), 0);
    CHECK_EQ(sb_mux_framing(w->mux, id, NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_filter(w->mux, id), SB_ERR_INVALID); /* it has none */
    int32_t one = -1;
    join(w, 0);
    CHECK_EQ(sb_mux_list(w->mux, -1, SB_LIST_LIVE, &one, 1), 1);
    CHECK_EQ(one, id);
    CHECK_EQ(sb_mux_row(w->mux, 3), SB_ERR_GONE); /* of a table of 3, though two bits are the row's */
    end_of(w);
}

const struct test mux_outsider_tests[] = {
    {"after a close there is its end alone", after_a_close_there_is_its_end_alone},
    {"lingering is told who asks", lingering_is_told_who_asks},
    {"a close takes its time", a_close_takes_its_time},
    {"groups are checked", groups_are_checked},
    {"a late send reaches nobody else", a_late_send_reaches_nobody_else},
    {"every event is told once", every_event_is_told_once},
    {"no such connection is a code of its own", no_such_connection_is_a_code_of_its_own},
    {"a peer costs what it has sent", a_peer_costs_what_it_has_sent},
    {"what came in time is in time", what_came_in_time_is_in_time},
    {"a late reply has its time", a_late_reply_has_its_time},
    {"two returns are cut once", two_returns_are_cut_once},
    {"what was not taken survives a wait", what_was_not_taken_survives_a_wait},
    {"runs come apart", runs_come_apart},
    {"a large frame is where it is said", a_large_frame_is_where_it_is_said},
    {"descriptors are told as well", descriptors_are_told_as_well},
    {"what became of it is said", what_became_of_it_is_said},
    {"a peer that has our end", a_peer_that_has_our_end},
    {"no mux", no_mux},
    {"closed before it is found wrong", closed_before_it_is_found_wrong},
    {"nothing to write to", nothing_to_write_to},
    {NULL, NULL},
};
