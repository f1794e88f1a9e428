/* SPDX-License-Identifier: MIT */
/* mux_lateness - what the kernel has is received before anybody is late, and a caller that was held up waits a few turns */
#include "world.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { QUICK = 4 }; /* turns in which nobody is judged */

/* Turns behind a stall; their events. */
static const char *turns(struct world *w, int count)
{
    static char text[8192];
    text[0] = '\0';
    for (int i = 0; i < count; i++)
        strcat(text, turn(w));
    return text;
}

static sb_group limits(int64_t idle_ms, int64_t frame_ms)
{
    sb_group group = lines_group();
    group.idle_ms = idle_ms;
    group.frame_ms = frame_ms;
    return group;
}

/* A handler took longer than a deadline, and the bytes came in time. */
static void what_came_meanwhile_is_read_first(void)
{
    struct world *w = world_of(8, limits(500, 0));
    int id = join(w, 0), silent = join(w, 0);
    CHECK_TEXT(turn(w), "");
    say(w, id, "hello\n");
    clock_advance(1200);
    CHECK_TEXT(turn(w), "0:hello| ");
    CHECK_TEXT(turns(w, QUICK - 1), "");
    CHECK_TEXT(turn(w), "1 closed 7 "); /* who is silent still goes */
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, silent), "$");
    end_of(w);
    w = world_of(8, limits(0, 500));
    id = join(w, 0);
    silent = join(w, 0);
    say(w, id, "hel");
    say(w, silent, "hel");
    CHECK_TEXT(turn(w), "");
    say(w, id, "lo\n");
    clock_advance(1200);
    CHECK_TEXT(turn(w), "0:hello| ");
    CHECK_TEXT(turns(w, QUICK), "1 closed 13 ");
    end_of(w);
}

/* In these turns nothing is waited for longer than for what may be on its way. */
static void quick_turns_are_quick(void)
{
    struct world *w = world_of(8, limits(500, 0));
    join(w, 0);
    CHECK_TEXT(turn(w), "");
    clock_advance(1200);
    for (int i = 0; i < QUICK; i++) {
        CHECK(i == 0 || sb_mux_timeout(w->mux) == 10);
        CHECK_TEXT(i == 0 ? turn(w) : after(w, 10), "");
    }
    CHECK_TEXT(after(w, 10), "0 closed 7 ");
    end_of(w);
}

/* Bytes that have to come through another socket of the caller's, as through a TLS connection: two turns later. */
static void what_takes_two_turns_is_in_time(void)
{
    struct world *w = world_of(8, limits(500, 0));
    int id = join(w, 0);
    CHECK_TEXT(turn(w), "");
    clock_advance(5000);
    CHECK_TEXT(turns(w, 2), "");
    say(w, id, "a\n");
    CHECK_TEXT(turn(w), "0:a| ");
    CHECK_TEXT(after(w, 450), "");
    end_of(w);
}

/* A caller that is late each time does judge. */
static void always_late(void)
{
    struct world *w = world_of(8, limits(500, 0));
    join(w, 0);
    CHECK_TEXT(turn(w), "");
    for (int i = 0; i < QUICK; i++) {
        clock_advance(1000);
        CHECK_TEXT(turn(w), "");
    }
    clock_advance(1000);
    CHECK_TEXT(turn(w), "0 closed 7 ");
    end_of(w);
}

/* Nobody said that it is ready, as when more are than are told of at once. */
static void the_kernel_is_asked(void)
{
    struct world *w = world_of(8, limits(500, 0));
    int id = join(w, 0);
    say(w, id, "hello\n");
    CHECK_TEXT(blind(w, 900), "");
    CHECK_TEXT(turn(w), "0:hello| ");
    CHECK_TEXT(blind(w, 400), "");
    CHECK_TEXT(blind(w, 400), "0 closed 7 ");
    end_of(w);
    w = world_of(8, limits(500, 0));
    id = join(w, 0);
    say(w, id, "a\nb");
    hang_up(w, id); /* an end is something as well */
    CHECK_TEXT(blind(w, 900), "");
    CHECK_TEXT(turn(w), "0:a| ");
    CHECK_TEXT(turn(w), "0 closed 5 ");
    end_of(w);
    w = world_of(8, limits(500, 0));
    id = join(w, 0);
    hang_up(w, id);
    CHECK_TEXT(blind(w, 900), "");
    CHECK_TEXT(turn(w), "0 closed 1 ");
    end_of(w);
}

static void errors_are_read_first(void)
{
    struct world *w = world_of(8, limits(500, 0));
    struct sockaddr_in address;
    int fd = listener(&address), stopped;
    struct linger now = {.l_onoff = 1};
    w->peer[0] = dial(&address);
    CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 1, &stopped), 1);
    CHECK_EQ(setsockopt(w->peer[0], SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    hang_up(w, 0);
    CHECK_TEXT(blind(w, 1500), ""); /* asking does not take it away */
    CHECK_TEXT(turn(w), "0 closed 3 ");
    close(fd);
    end_of(w);
}

static void what_is_no_socket_is_asked_as_well(void)
{
    if (with_epoll)
        return;
    struct world *w = world_of(4, limits(500, 0));
    int some[2], none[2];
    CHECK_EQ(pipe(some), 0);
    CHECK_EQ(pipe(none), 0);
    CHECK_EQ(sb_mux_add(w->mux, some[0], 0), 0);
    CHECK_EQ(sb_mux_add(w->mux, none[0], 0), 1);
    CHECK_EQ(write(some[1], "a\n", 2), 2);
    CHECK_TEXT(blind(w, 800), "1 closed 7 ");
    CHECK_TEXT(turn(w), "0:a| ");
    close(some[1]);
    close(none[1]);
    end_of(w);
}

/* A large frame whose bytes were all there when it was due comes whole; it takes several turns. */
static void a_large_frame_is_received_whole(void)
{
    enum { SIZE = 150000 };
    sb_group group = limits(0, 500);
    group.framing.limit = SIZE;
    struct world *w = world_of(4, group);
    int id = join(w, 0), size = 1 << 20;
    char *block = big_block(SIZE);
    setsockopt(w->peer[id], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    say(w, id, "x");
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(send(w->peer[id], block, SIZE - 1, MSG_NOSIGNAL), SIZE - 1);
    say(w, id, "\n");
    CHECK_TEXT(blind(w, 800), "");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(blind(w, 300), ""); /* not all of it yet */
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(turn(w), "0:(150001 in 1) ");
    free(block);
    end_of(w);
}

/* Who sends a frame byte by byte always has something on its way. */
static void a_trickle_is_late(void)
{
    struct world *w = world_of(4, limits(0, 1000));
    int id = join(w, 0), ms = 0, is_closed = 0;
    for (; ms < 3000 && !is_closed; ms += 25) {
        say(w, id, "x");
        is_closed = strstr(blind(w, 25), "0 closed 13 ") != NULL || strstr(turn(w), "0 closed 13 ") != NULL;
    }
    CHECK(ms >= 1000 && ms <= 1600);
    end_of(w);
}

/* Its peer has read meanwhile: the rest leaves before it is late. */
static void output_is_tried_once_more(void)
{
    enum { SIZE = 1 << 20 };
    sb_group group = lines_group();
    group.stall_ms = 1000;
    struct world *w = world_of(8, group);
    char *block = big_block(SIZE);
    int id = join(w, 0), stalled = join(w, 0);
    answer(w, id, block, SIZE);
    answer(w, stalled, block, SIZE);
    size_t at = drain(w, id, block, 0);
    CHECK_TEXT(blind(w, 1300), "1 closed 8 ");
    CHECK(at > 0 && drain(w, id, block, at) > at);
    CHECK_TEXT(blind(w, 1000), "");
    CHECK_TEXT(blind(w, 300), ""); /* there was room once more */
    CHECK_TEXT(blind(w, 1300), "0 closed 8 ");
    end_of(w);
    w = world_of(8, group);
    id = join(w, 0);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, "abc", 3);
    fail_nth(CALL_SEND, 1, EPIPE); /* or it cannot leave any more */
    CHECK_TEXT(blind(w, 1300), "0 closed 3 ");
    CHECK(faults_clear());
    end_of(w);
    w = world_of(8, group);
    id = join(w, 0);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, "abc", 3);
    CHECK_TEXT(blind(w, 1300), ""); /* or all of it leaves: there is no deadline then */
    CHECK_TEXT(heard(w, id), "abc");
    CHECK_EQ(sb_mux_timeout(w->mux), -1);
    free(block);
    end_of(w);
}

/* What a lingering peer has sent is taken before the socket is closed, which would send RST. */
static void a_lingering_peer_is_read_first(void)
{
    struct world *w = world_of(8, lines_group());
    struct sockaddr_in address;
    int fd = listener(&address), stopped;
    w->peer[0] = dial(&address);
    CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 1, &stopped), 1);
    sb_mux_close(w->mux, 0, SB_REASON_CLOSED);
    say(w, 0, "late words");
    CHECK_EQ(shutdown(w->peer[0], SHUT_WR), 0);
    CHECK_TEXT(blind(w, 1300), "");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(turn(w), "0 closed 2 ");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, 0), "$");
    close(fd);
    end_of(w);
}

/* What was given back waits to be framed, not for the peer. */
static void what_was_given_back_is_not_late(void)
{
    enum { MANY = 400 }; /* 64 are framed in a turn */
    struct world *w = world_of(MANY, limits(0, 500));
    int frames = 0;
    for (int id = 0; id < MANY; id++) {
        CHECK_EQ(join(w, 0), id);
        sb_mux_unread(w->mux, id, "a\n", 2, 0);
    }
    clock_advance(5000);
    for (int i = 0; i < 8; i++) {
        turn(w);
        for (int j = 0; j < sb_mux_counts(w->mux)->events; j++)
            frames += sb_mux_events(w->mux)[j].kind == SB_EVENT_FRAMES;
    }
    CHECK_EQ(frames, MANY);
    CHECK_EQ(sb_mux_counts(w->mux)->connections, MANY);
    end_of(w);
}

/* ---- a time begins when it begins, not when the turn did in which a handler ran before */

static void a_handler_takes(int64_t ms)
{
    clock_advance(ms);
}

static void a_write_is_timed_from_its_begin(void)
{
    enum { SIZE = 1 << 20 };
    sb_group group = lines_group();
    group.stall_ms = 1000;
    struct world *w = world_of(8, group);
    char *block = big_block(SIZE);
    int id = join(w, 0);
    const uint32_t size = SIZE;
    block[SIZE - 1] = '\n';
    for (int way = 0; way < 3; way++) {
        say(w, id, "go\n");
        turn(w);
        CHECK_EQ(sb_mux_counts(w->mux)->events, 1);
        a_handler_takes(1500);
        if (way == 0)
            answer(w, id, block, SIZE);
        else if (way == 1)
            CHECK_EQ(sb_mux_reply_lines(w->mux, 0, block, SIZE), 0);
        else
            CHECK_EQ(sb_mux_reply_lengths(w->mux, 0, block, SIZE, &size), 0);
        CHECK(sb_mux_unsent(w->mux, id) > 0);
        CHECK_TEXT(turns(w, QUICK + 2), "");
        CHECK_TEXT(after(w, 900), "");
        size_t at = 0;
        for (int i = 0; i < 100 && at < SIZE; i++) {
            at = drain(w, id, block, at);
            turn(w);
        }
        CHECK_EQ(at, SIZE);
    }
    say(w, id, "go\n");
    turn(w);
    a_handler_takes(1500);
    CHECK_EQ(sb_mux_reply_line(w->mux, 0, block, SIZE - 1, "\n", 1), 0);
    CHECK_TEXT(turns(w, QUICK + 2), "");
    CHECK_TEXT(after(w, 900), "");
    CHECK_TEXT(after(w, 400), "0 closed 8 ");
    free(block);
    end_of(w);
}

/* SIGSTOP comes in the middle of the system call, of a block for several. */
static void stopped_while_it_sends(void)
{
    enum { SIZE = 1 << 20 };
    sb_group group = lines_group();
    group.stall_ms = group.idle_ms = 1000;
    struct world *w = world_of(8, group);
    char *block = big_block(2 * SIZE);
    int ids[] = {join(w, 0), join(w, 0)};
    const int64_t sizes[] = {SIZE, SIZE};
    turn(w);
    clock_of_send(4000);
    sb_mux_write(w->mux, 2, ids, sizes, block);
    clock_of_send(0);
    CHECK(sb_mux_unsent(w->mux, ids[0]) > 0 && sb_mux_unsent(w->mux, ids[1]) > 0);
    CHECK_TEXT(turns(w, QUICK + 2), "0 closed 8 "); /* it had four seconds, while the other one was sent to */
    CHECK_TEXT(after(w, 800), "");
    CHECK_TEXT(after(w, 700), "1 closed 8 ");
    free(block);
    end_of(w);
}

static void a_reply_is_movement(void)
{
    struct world *w = world_of(8, limits(1000, 0));
    int id = join(w, 0);
    say(w, id, "go\n");
    CHECK_TEXT(turn(w), "0:go| ");
    a_handler_takes(1500);
    answer(w, id, "done\n", 5);
    CHECK_TEXT(turns(w, QUICK + 2), "");
    CHECK_TEXT(after(w, 900), "");
    CHECK_TEXT(after(w, 400), "0 closed 7 ");
    end_of(w);
}

/* The end of the peer's input is movement too: its handler has time to answer. */
static void an_end_is_movement(void)
{
    sb_group group = limits(1000, 0);
    group.flags = SB_GROUP_ANNOUNCE;
    struct world *w = world_of(8, group);
    int id = join(w, 0);
    CHECK_TEXT(turn(w), "0 accepted 0 ");
    CHECK_TEXT(after(w, 900), "");
    CHECK_EQ(shutdown(w->peer[id], SHUT_WR), 0);
    CHECK_TEXT(turn(w), "0 end 0 ");
    CHECK_TEXT(after(w, 900), "");
    CHECK_TEXT(after(w, 400), "0 closed 7 ");
    end_of(w);
}

static void lingering_begins_with_the_end(void)
{
    for (int way = 0; way < 4; way++) {
        struct world *w = world_of(8, lines_group());
        int id = join(w, 0);
        say(w, id, "go\n");
        CHECK_TEXT(turn(w), "0:go| ");
        if (way == 3)
            sb_mux_shutdown(w->mux, id);
        a_handler_takes(1500);
        if (way == 1)
            sb_mux_close_all(w->mux, SB_REASON_CLOSED);
        else
            sb_mux_close(w->mux, id, SB_REASON_CLOSED);
        CHECK_TEXT(turns(w, QUICK + 2), "");
        CHECK_TEXT(after(w, 900), "");
        CHECK_TEXT(after(w, 400), "0 closed 2 ");
        end_of(w);
    }
}

/* A frame that was too long behind good ones: its time begins when these are answered. */
static void the_end_of_the_doomed_lingers(void)
{
    sb_group group = lines_group();
    group.framing.limit = 5;
    struct world *w = world_of(8, group);
    int id = join(w, 0);
    say(w, id, "go\n1234567");
    CHECK_TEXT(turn(w), "0:go| ");
    a_handler_takes(1500);
    CHECK_TEXT(turns(w, QUICK + 2), "");
    CHECK_TEXT(after(w, 900), "");
    CHECK_TEXT(after(w, 400), "0 closed 6 ");
    end_of(w);
}

static void a_frame_has_its_time_from_when_it_is_read(void)
{
    struct world *w = world_of(8, limits(0, 1000));
    sb_framing netstrings = {.kind = SB_FRAMING_NETSTRING, .limit = 100};
    int paused = join(w, 0), unread = join(w, 0), framed = join(w, 0);
    say(w, paused, "part");
    say(w, unread, "a\nb\n");
    say(w, framed, "a\n9:part");
    turn(w);
    sb_mux_pause(w->mux, paused, 1);
    a_handler_takes(1500);
    sb_mux_pause(w->mux, paused, 0);
    sb_mux_unread(w->mux, unread, "b", 1, 0);
    CHECK_EQ(sb_mux_framing(w->mux, framed, &netstrings), 0);
    CHECK_TEXT(turns(w, QUICK + 2), "");
    CHECK_TEXT(after(w, 900), "");
    after(w, 400);
    CHECK_EQ(strlen(w->log), strlen("0 closed 13 1 closed 13 2 closed 13 "));
    end_of(w);
}

static void how_long_it_lived(void)
{
    struct world *w = world_of(8, lines_group());
    sb_info info;
    int id = join(w, 0);
    CHECK_TEXT(turn(w), "");
    a_handler_takes(1500);
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK(info.elapsed_ms >= 1500 && info.elapsed_ms < 2500);
    end_of(w);
}

const struct test mux_late_tests[] = {
    {"what came meanwhile is read first", what_came_meanwhile_is_read_first},
    {"quick turns are quick", quick_turns_are_quick},
    {"what takes two turns is in time", what_takes_two_turns_is_in_time},
    {"always late", always_late},
    {"the kernel is asked", the_kernel_is_asked},
    {"errors are read first", errors_are_read_first},
    {"what is no socket is asked as well", what_is_no_socket_is_asked_as_well},
    {"a large frame is received whole", a_large_frame_is_received_whole},
    {"a trickle is late", a_trickle_is_late},
    {"output is tried once more", output_is_tried_once_more},
    {"a lingering peer is read first", a_lingering_peer_is_read_first},
    {"what was given back is not late", what_was_given_back_is_not_late},
    {"a write is timed from its begin", a_write_is_timed_from_its_begin},
    {"stopped while it sends", stopped_while_it_sends},
    {"a reply is movement", a_reply_is_movement},
    {"an end is movement", an_end_is_movement},
    {"lingering begins with the end", lingering_begins_with_the_end},
    {"the end of the doomed lingers", the_end_of_the_doomed_lingers},
    {"a frame has its time from when it is read", a_frame_has_its_time_from_when_it_is_read},
    {"how long it lived", how_long_it_lived},
    {NULL, NULL},
};
