/* SPDX-License-Identifier: MIT */
/* mux_contract - ids that reach nobody else, events that are told, and codes where arguments make no sense */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- ids */

/* Whoever kept an id speaks to nobody, however soon the row is used again. */
static void a_kept_id_reaches_nobody_else(void)
{
    for (int rows = 1; rows <= 3; rows++) {
        struct world *w = world_of(rows, lines_group());
        sb_framing other = {.kind = SB_FRAMING_NETSTRING, .limit = 9};
        sb_moved moved;
        sb_info info;
        const char *in, *out;
        size_t size = 0;
        int32_t mask = SB_READ;
        int alice = join(w, 0);
        hang_up(w, alice);
        CHECK_TEXT(turn(w), "0 closed 1 ");
        CHECK_TEXT(turn(w), "");
        int bob = join(w, 0);
        CHECK(bob != alice);
        say(w, bob, "part");
        CHECK_TEXT(turn(w), "");
        answer(w, alice, "Alice's password\n", 17);
        sb_mux_unread(w->mux, alice, "x\n", 2, 1);
        sb_mux_close(w->mux, alice, SB_REASON_CLOSED);
        sb_mux_abort(w->mux, alice, SB_REASON_ABORTED);
        sb_mux_shutdown(w->mux, alice);
        sb_mux_pause(w->mux, alice, 1);
        sb_mux_forget(w->mux, alice);
        CHECK_EQ(sb_mux_framing(w->mux, alice, &other), SB_ERR_GONE);
        CHECK_EQ(sb_mux_peer(w->mux, alice, "", 0), SB_ERR_GONE);
        CHECK_EQ(sb_mux_water(w->mux, alice, 2, 1), SB_ERR_GONE);
        CHECK_EQ(sb_mux_filter(w->mux, alice), SB_ERR_GONE);
        CHECK_EQ(sb_mux_info(w->mux, alice, &info), SB_ERR_GONE);
        CHECK_EQ(sb_mux_export(w->mux, alice, &moved, &in, &out), SB_ERR_GONE);
        CHECK_EQ(sb_mux_unsent(w->mux, alice), SB_ERR_GONE);
        CHECK(sb_mux_unfinished(w->mux, alice, &size) == NULL);
        say(w, bob, "ed\n");
        CHECK_EQ(sb_mux_turn_of(w->mux, &alice, &mask, 1), 0);
        CHECK_TEXT(heard(w, bob), "-");
        turn(w);
        CHECK(strstr(w->log, ":parted| ") != NULL);
        end_of(w);
    }
}

/* Connections that come and go, one at a time: their ids, and how often each of three was seen. */
static void come_and_go(int32_t rows, int times, const int wanted[3], int seen[3], int *most)
{
    sb_group group = lines_group();
    sb_mux *mux = sb_mux_new(rows, 0);
    int fds[2], last = -1;
    if (mux == NULL) { /* so large a table is not for 32 bits: as if it had been */
        seen[0] = 2;
        seen[1] = seen[2] = 1;
        return;
    }
    CHECK_EQ(sb_mux_group(mux, &group), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    for (int i = 0; i < times; i++) {
        int id = sb_mux_add(mux, dup(fds[0]), 0), row = sb_mux_row(mux, id);
        if (id < 0 || id == last || row >= rows)
            CHECK_EQ(id, i);
        for (int j = 0; j < 3; j++)
            seen[j] += id == wanted[j];
        *most = row > *most ? row : *most;
        last = id;
        sb_mux_abort(mux, id, SB_REASON_ABORTED);
        sb_mux_changes(mux);
        sb_mux_reap(mux);
    }
    close(fds[0]);
    close(fds[1]);
    sb_mux_free(mux);
}

/* Free rows are used again late, and then under another id; ids begin again after 31 bits. */
static void rows_are_used_again_late(void)
{
    enum { SPARE = 1024, MOST = 1 << 23, USES = 256 };
    int seen[3] = {0}, most = 0;
    if (with_epoll)
        return;
    come_and_go(3000, 9000, (int[]){0, 4096, 2 * 4096}, seen, &most);
    CHECK_EQ(most, SPARE); /* memory of the others was not touched */
    CHECK(seen[0] == 1 && seen[1] == 1 && seen[2] == 1);
    memset(seen, 0, sizeof seen);
    come_and_go(MOST, (USES + 1) * (SPARE + 1), (int[]){0, MOST, (USES - 1) * MOST}, seen, &most);
    CHECK_EQ(most, SPARE);
    CHECK(seen[0] == 2 && seen[1] == 1 && seen[2] == 1);
}

/* ---- events */

static int naive_turn(struct world *w)
{
    int32_t ids[4], masks[4] = {SB_READ, SB_READ, SB_READ, SB_READ};
    if (w->epoll)
        return sb_mux_turn(w->mux, 100);
    CHECK_EQ(sb_mux_timeout(w->mux) <= 0, 1);
    return sb_mux_turn_of(w->mux, ids, masks, sb_mux_list(w->mux, -1, SB_LIST_LIVE, ids, 4));
}

/* Who looks at the events of a turn, then accepts or closes, is told of that by the next one; once. */
static void what_came_between_turns_is_told(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    group.linger_ms = 0;
    struct world *w = world_of(3, group);
    struct sockaddr_in address;
    sb_info info;
    int fd = listener(&address), stopped;
    w->peer[0] = dial(&address);
    CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 8, &stopped), 1);
    CHECK_EQ(naive_turn(w), 1);
    CHECK_TEXT(events_of(w), "0 accepted 0 ");
    sb_mux_close(w->mux, 0, SB_REASON_HANDLER_ERROR);
    w->peer[1] = dial(&address);
    CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 8, &stopped), 1);
    CHECK_EQ(naive_turn(w), 2);
    CHECK_TEXT(events_of(w), "0 closed 10 1 accepted 0 ");
    CHECK_EQ(sb_mux_info(w->mux, 0, &info), 0); /* it can still be asked about */
    CHECK_EQ(sb_mux_counts(w->mux)->closed, 1);
    say(w, 1, "a\n");
    for (int i = 0; i < 100 && naive_turn(w) == 0; i++)
        ;
    CHECK_EQ(sb_mux_counts(w->mux)->closed, 0);
    CHECK_EQ(sb_mux_info(w->mux, 0, &info), SB_ERR_GONE);
    CHECK_TEXT(events_of(w), "1:a| ");
    fail_nth(CALL_SEND, 1, EPIPE);
    answer(w, 1, "b\n", 2); /* after whom the turn was looked at */
    CHECK_EQ(naive_turn(w), 1);
    CHECK_TEXT(events_of(w), "1 closed 3 ");
    CHECK_EQ(sb_mux_timeout(w->mux), -1);
    close(fd);
    end_of(w);
}

/* All of them at once, behind what was carried over: there is room for the events of each row. */
static void there_is_room_for_what_is_carried(void)
{
    enum { ROWS = 3 };
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    group.high_water = 1;
    struct world *w = world_of(ROWS, group);
    for (int i = 0; i < ROWS; i++) {
        int id = join(w, 0);
        fail_nth(CALL_SEND, 1, EAGAIN);
        answer(w, id, "abc", 3);
        say(w, id, "x\ny");
        CHECK_EQ(shutdown(w->peer[id], SHUT_WR), 0);
    }
    w->looked_at = -1;
    for (int i = 0; i < 3; i++) {
        turn(w);
        CHECK(i > 0 || strstr(w->log, "0 accepted 0 0 pause 0 1 accepted 0 1 pause 0 2 accepted 0 2 pause 0 ") == w->log);
        CHECK(sb_mux_counts(w->mux)->events <= ROWS * 8);
    }
    CHECK(strstr(w->log, "0 end 1 ") != NULL || sb_mux_counts(w->mux)->events == 0);
    end_of(w);
}

/* Nothing is handed out behind a close, whatever was given back or framed anew before or after. */
static void nothing_comes_behind_a_close(void)
{
    for (int way = 0; way < 4; way++) {
        sb_group group = lines_group();
        group.flags = 0;
        group.linger_ms = 2000;
        struct world *w = world_of(4, group);
        sb_framing three = {.kind = SB_FRAMING_FIXED, .limit = 3};
        int id = join(w, 0);
        say(w, id, "one\ntwo\nthr");
        CHECK_TEXT(turn(w), "0:one|two| ");
        if (way & 1)
            sb_mux_unread(w->mux, id, "two\n", 4, 1);
        if (way & 2)
            answer(w, id, "bye\n", 4);
        sb_mux_close(w->mux, id, SB_REASON_CLOSED);
        CHECK_EQ(sb_mux_framing(w->mux, id, &three), SB_ERR_CLOSING);
        sb_mux_unread(w->mux, id, "two\n", 4, 1);
        CHECK_EQ(sb_mux_counts(w->mux)->memory, 0);
        for (int i = 0; i < 3; i++)
            CHECK_TEXT(turn(w), "");
        end_of(w);
    }
}

/* "a\r\r\n" is a line of two bytes, wherever it is cut. */
static void a_line_is_cut_the_same_way_twice(void)
{
    static const char *const lines[] = {"a\r\r\n", "\r\r\r\n", "a\r\n", "a\n", "\r\n", "\n", "a\rb\r\n"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        sb_group group = lines_group();
        group.flags = 0;
        struct world *w = world_of(4, group);
        sb_scan one = {0}, other = {0};
        sb_frame frame;
        sb_span span;
        size_t next;
        say(w, join(w, 0), lines[i]);
        turn(w);
        const sb_event *event = sb_mux_events(w->mux);
        CHECK_EQ(event->frames, 1);
        CHECK_EQ(event->size, strlen(lines[i]));
        CHECK_EQ(event->detail, strlen(lines[i]) > 1 && lines[i][strlen(lines[i]) - 2] == '\r');
        CHECK_EQ(sb_frame_find(&group.framing, lines[i], strlen(lines[i]), &one, &frame), 1);
        CHECK_EQ(sb_frames_find(&group.framing, sb_mux_arena(w->mux) + event->offset, (size_t)event->size, &other, &span, 1, &next), 1);
        CHECK_EQ(span.end - span.start, frame.end - frame.start);
        CHECK_EQ(next, event->size);
        end_of(w);
    }
}

/* ---- groups */

static void no_such_group(void)
{
    struct world *w = world_of(4, lines_group());
    struct sockaddr_in address;
    sb_moved moved = {0};
    sb_group group = lines_group();
    int fd = listener(&address), stopped = 7, fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    int gone = sb_mux_group(w->mux, &group);
    CHECK_EQ(sb_mux_ungroup(w->mux, gone), 0);
    const int none[] = {-1, 2, gone, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        CHECK_EQ(sb_mux_add(w->mux, fds[0], none[i]), SB_ERR_GONE);
        CHECK_EQ(sb_mux_import(w->mux, fds[0], none[i], &moved, NULL, NULL), SB_ERR_GONE);
        CHECK_EQ(sb_mux_accept(w->mux, fd, none[i], 1, &stopped), SB_ERR_GONE);
        CHECK_EQ(stopped, 7);
    }
    CHECK_EQ(sb_mux_add(w->mux, -1, 0), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_import(w->mux, -1, 0, &moved, NULL, NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_filter(w->mux, 0), SB_ERR_GONE);
    CHECK_EQ(sb_mux_counts(w->mux)->connections, 0);
    sb_mux *empty = sb_mux_new(4, 0);
    CHECK_EQ(sb_mux_add(empty, fds[0], 0), SB_ERR_GONE);
    sb_mux_free(empty);
    close(fds[0]);
    close(fds[1]);
    close(fd);
    end_of(w);
}

/* Zeroes are defaults: what has arrived is handed out, and a reply may be large. */
static void a_group_of_zeroes(void)
{
    enum { SIZE = 1 << 20 };
    struct world *w = world_of(4, (sb_group){.flags = 0});
    char *block = big_block(SIZE);
    int id = join(w, 0);
    say(w, id, "hello");
    CHECK_TEXT(turn(w), "0:hello ");
    answer(w, id, block, SIZE);
    CHECK(sb_mux_unsent(w->mux, id) > 1 << 16);
    say(w, id, "not read past the high water");
    CHECK_TEXT(turn(w), "");
    size_t at = 0;
    for (int i = 0; i < 100 && at < SIZE; i++) {
        at = drain(w, id, block, at);
        turn(w);
    }
    CHECK_EQ(at, SIZE);
    CHECK_EQ(sb_mux_timeout(w->mux), -1);
    hang_up(w, id);
    free(block);
    end_of(w);
}

static void groups_that_cannot_be(void)
{
    static const sb_framing framings[] = {
        {.kind = 99, .limit = 10}, {.kind = -1, .limit = 10}, {.kind = SB_FRAMING_DATAGRAM, .limit = 10},
        {.kind = SB_FRAMING_FIXED}, {.kind = SB_FRAMING_DELIMITER, .limit = 10},
        {.kind = SB_FRAMING_DELIMITER, .limit = 10, .width = 9}, {.kind = SB_FRAMING_CRLF, .limit = 10},
        {.kind = SB_FRAMING_PREFIX, .limit = 10, .width = 5}, {.kind = SB_FRAMING_PREFIX, .limit = 10, .width = 4, .order = 2},
    };
    struct world *w = world_of(4, lines_group());
    int id = join(w, 0);
    for (size_t i = 0; i < sizeof framings / sizeof framings[0]; i++) {
        sb_group group = lines_group();
        group.framing = framings[i];
        CHECK_EQ(sb_mux_group(w->mux, &group), SB_ERR_INVALID);
        CHECK_EQ(sb_mux_framing(w->mux, id, &framings[i]), SB_ERR_INVALID);
    }
    sb_group served = lines_group(), flags = lines_group(), high = lines_group(), most = lines_group();
    sb_group cost = lines_group();
    served.serve = echo;
    served.framing = (sb_framing){.kind = SB_FRAMING_NETSTRING, .limit = 10};
    flags.flags = 1 << 10;
    high.high_water = -1;
    most.max_unsent = -1;
    cost.cost_ns = -1;
    CHECK_EQ(sb_mux_group(w->mux, &served), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_group(w->mux, &flags), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_group(w->mux, &high), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_group(w->mux, &most), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_group(w->mux, &cost), SB_ERR_INVALID);
    for (int i = 0; i < 4; i++) {
        sb_group late = lines_group();
        int64_t *const times[] = {&late.idle_ms, &late.frame_ms, &late.stall_ms, &late.linger_ms};
        *times[i] = -1;
        CHECK_EQ(sb_mux_group(w->mux, &late), SB_ERR_INVALID);
    }
    CHECK_EQ(sb_mux_ungroup(w->mux, 1), SB_ERR_GONE); /* nothing was left of them */
    end_of(w);
}

/* ---- numbers */

/* Frames of a group become events, and are answered in place again, while its connections are open. */
static void a_group_is_served_otherwise(void)
{
    sb_group group = lines_group();
    group.serve = echo;
    struct world *w = world_of(4, group);
    int id = join(w, 0);
    say(w, id, "a\n");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "a\n");
    CHECK_EQ(sb_mux_serve(w->mux, 0, NULL), 0);
    say(w, id, "b\n");
    CHECK_TEXT(turn(w), "0:b| ");
    CHECK_EQ(sb_mux_serve(w->mux, 0, echo), 0);
    say(w, id, "c\n");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "c\n");
    sb_group strings = lines_group();
    strings.framing = (sb_framing){.kind = SB_FRAMING_NETSTRING, .limit = 10};
    int other = sb_mux_group(w->mux, &strings);
    CHECK_EQ(sb_mux_serve(w->mux, other, echo), SB_ERR_INVALID);
    end_of(w);
}

static void reasons_that_are_none(void)
{
    static const int none[] = {0, -1, SB_REASONS, 255, 256, INT32_MAX};
    sb_group group = lines_group();
    group.linger_ms = 0;
    struct world *w = world_of(32, group);
    sb_totals totals;
    enum { COUNT = sizeof none / sizeof none[0] };
    for (int i = 0; i < COUNT; i++) {
        sb_mux_close(w->mux, join(w, 0), none[i]);
        sb_mux_abort(w->mux, join(w, 0), none[i]);
        join(w, 0);
        sb_mux_close_all(w->mux, none[i]);
    }
    CHECK_EQ(sb_mux_totals(w->mux, 0, &totals), 0);
    CHECK_EQ(totals.reasons[SB_REASON_CLOSED], 2 * COUNT);
    CHECK_EQ(totals.reasons[SB_REASON_ABORTED], COUNT);
    end_of(w);
}

static void an_id_twice(void)
{
    struct world *w = world_of(2, lines_group());
    int32_t ids[700], masks[700];
    int id = join(w, 0);
    for (int i = 0; i < 700; i++) {
        ids[i] = id;
        masks[i] = SB_READ;
    }
    cap_size(CALL_RECV, 2);
    say(w, id, "a\nb\n");
    CHECK_EQ(sb_mux_turn_of(w->mux, ids, masks, 700), 1);
    CHECK_TEXT(events_of(w), "0:a| ");
    CHECK_EQ(sb_mux_turn_of(w->mux, ids, masks, 700), 1);
    CHECK_TEXT(events_of(w), "0:b| ");
    end_of(w);
}

/* An id that has ended since the caller learned that it is ready. */
static void ready_and_ended(void)
{
    struct world *w = world_of(2, lines_group());
    int32_t id = join(w, 0), mask = SB_READ;
    say(w, id, "a\n");
    sb_mux_abort(w->mux, id, SB_REASON_ABORTED);
    CHECK_EQ(sb_mux_turn_of(w->mux, &id, &mask, 1), 1);
    CHECK_TEXT(events_of(w), "0 closed 12 ");
    end_of(w);
}

/* Of a device it cannot be known how much waits. */
static void what_cannot_be_counted_is_quiet(void)
{
    if (with_epoll)
        return;
    struct world *w = world_of(2, lines_group());
    int32_t ids[2];
    CHECK_EQ(sb_mux_add(w->mux, open("/dev/null", O_RDWR), 0), 0);
    CHECK_EQ(sb_mux_list(w->mux, 0, SB_LIST_QUIET, ids, 1), 1);
    end_of(w);
}

static void sizes_below_0(void)
{
    struct world *w = world_of(4, lines_group());
    int32_t ids[] = {join(w, 0), join(w, 0)};
    const int64_t sizes[] = {1, -1};
    sb_mux_write(w->mux, 2, ids, sizes, "ab");
    CHECK_TEXT(heard(w, 0), "a");
    CHECK_TEXT(heard(w, 1), "-");
    end_of(w);
}

/* ---- connections of another process, which may say anything */

static int import(struct world *w, const sb_moved *moved, const char *in, const char *out)
{
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    int id = sb_mux_import(w->mux, fds[0], 0, moved, in, out);
    if (id < 0)
        close(fds[0]);
    close(fds[1]);
    return id;
}

static void what_no_process_would_write(void)
{
    struct world *w = world_of(8, lines_group());
    const sb_moved good = {.high = 2, .low = 1};
    const char bytes[64] = "";
    const int64_t wrong[] = {-1, INT64_MIN, INT64_MAX};
    const uint32_t names[] = {1, 15, 16, 17, 28, 29, 32, 33, 255, 256, UINT32_MAX};
    sb_moved moved = good;
    sb_info info;
    CHECK_EQ(import(w, &moved, NULL, NULL), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        moved = good;
        moved.peer_size = names[i]; /* of no family; and more than there is room for */
        CHECK_EQ(import(w, &moved, NULL, NULL), SB_ERR_INVALID);
    }
    moved = good;
    memcpy(moved.peer, &(struct sockaddr_in6){.sin6_family = AF_INET6}, sizeof(struct sockaddr_in6));
    moved.peer_size = sizeof(struct sockaddr_in6);
    int id = import(w, &moved, NULL, NULL);
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.peer_size, 28);
    for (int i = 0; i < 3; i++) {
        int64_t *const fields[] = {&moved.received, &moved.sent, &moved.frames, &moved.opened_ms, &moved.moved_ms,
                                   &moved.framing_ms, &moved.leaving_ms, &moved.in_size, &moved.out_size};
        for (size_t j = 0; j < sizeof fields / sizeof fields[0]; j++) {
            moved = good;
            *fields[j] = wrong[i];
            CHECK_EQ(import(w, &moved, bytes, bytes), SB_ERR_INVALID);
        }
    }
    const sb_moved others[] = {
        {.flags = 1 << 6}, {.flags = -1}, {.high = 1, .low = 2}, {.low = -1}, {.flags = SB_MOVED_HIGH},
        {.flags = SB_MOVED_SHUTDOWN}, {.flags = SB_MOVED_FINISHED, .out_size = 1}, {.in_size = 1}, {.out_size = 1},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        CHECK_EQ(import(w, &others[i], i == 8 ? bytes : NULL, i == 6 ? bytes : NULL), SB_ERR_INVALID);
    sb_mux_memory(w->mux, 100);
    CHECK_EQ(import(w, &(sb_moved){.in_size = 101}, bytes, NULL), SB_ERR_LIMIT);
    CHECK_EQ(import(w, &(sb_moved){.in_size = 64, .out_size = 64}, bytes, bytes), SB_ERR_LIMIT);
    CHECK_EQ(sb_mux_counts(w->mux)->memory, 0);
    CHECK_EQ(sb_mux_counts(w->mux)->connections, 2);
    end_of(w);
}

const struct test mux_contract_tests[] = {
    {"a kept id reaches nobody else", a_kept_id_reaches_nobody_else},
    {"rows are used again late", rows_are_used_again_late},
    {"what came between turns is told", what_came_between_turns_is_told},
    {"there is room for what is carried", there_is_room_for_what_is_carried},
    {"nothing comes behind a close", nothing_comes_behind_a_close},
    {"a line is cut the same way twice", a_line_is_cut_the_same_way_twice},
    {"no such group", no_such_group},
    {"a group of zeroes", a_group_of_zeroes},
    {"groups that cannot be", groups_that_cannot_be},
    {"a group is served otherwise", a_group_is_served_otherwise},
    {"reasons that are none", reasons_that_are_none},
    {"an id twice", an_id_twice},
    {"ready and ended", ready_and_ended},
    {"what cannot be counted is quiet", what_cannot_be_counted_is_quiet},
    {"sizes below 0", sizes_below_0},
    {"what no process would write", what_no_process_would_write},
    {NULL, NULL},
};
