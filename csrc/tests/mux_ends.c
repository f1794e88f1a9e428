/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void ends_of_input(void)
{
    sb_group group = lines_group();
    struct world *w = world_of(8, group);
    int clean = join(w, 0), cut = join(w, 0);
    say(w, clean, "a\n");
    say(w, cut, "b\nc");
    CHECK_EQ(shutdown(w->peer[clean], SHUT_WR), 0);
    CHECK_EQ(shutdown(w->peer[cut], SHUT_WR), 0);
    turn(w);
    CHECK(strstr(w->log, "0:a| ") != NULL && strstr(w->log, "1:b| ") != NULL);
    turn(w);
    CHECK(strstr(w->log, "0 closed 1 ") != NULL);
    CHECK(strstr(w->log, "1 closed 5 ") != NULL);
    end_of(w);
}

static void half_close_is_announced(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    struct world *w = world_of(8, group);
    int id = join(w, 0);
    say(w, id, "ab");
    CHECK_TEXT(turn(w), "0 accepted 0 ");
    CHECK_EQ(shutdown(w->peer[id], SHUT_WR), 0);
    CHECK_TEXT(turn(w), "0 end 2 ");
    int64_t size = 4;
    int32_t to = id;
    sb_mux_write(w->mux, 1, &to, &size, "bye\n");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "bye\n");
    sb_mux_close(w->mux, id, SB_REASON_CLOSED);
    CHECK(strstr(events_of(w), "0 closed 2 ") != NULL);
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "$");
    end_of(w);
}

/* Whoever reads events in memory hears when the output has left, and not before: the end comes with the peer's. */
static void lingering_is_announced(void)
{
    enum { LARGE = 2 << 20 };
    sb_group group = lines_group();
    group.flags = SB_GROUP_REPORTS_LINGERING;
    struct world *w = world_of(8, group);
    int id = join(w, 0), idle = join(w, 0), finished = join(w, 0);
    char *block = big_block(LARGE);
    answer(w, id, block, LARGE);
    sb_mux_close(w->mux, id, SB_REASON_CLOSED);
    CHECK_TEXT(events_of(w), "");
    const char *told = "";
    size_t at = 0;
    for (int i = 0; i < 1000 && *told == '\0'; i++) {
        CHECK(sb_mux_unsent(w->mux, id) > 0);
        at = drain(w, id, block, at);
        told = turn(w);
    }
    CHECK_TEXT(told, "0 lingering 2 ");
    CHECK_EQ(sb_mux_unsent(w->mux, id), 0);
    free(block);
    sb_mux_shutdown(w->mux, finished);
    CHECK_TEXT(turn(w), "");
    sb_mux_close(w->mux, finished, SB_REASON_CLOSED);
    CHECK_TEXT(events_of(w), "2 lingering 2 ");
    CHECK_TEXT(turn(w), "");
    sb_mux_close(w->mux, idle, SB_REASON_SHUTDOWN);
    CHECK_TEXT(events_of(w), "1 lingering 11 ");
    hang_up(w, idle);
    CHECK_TEXT(turn(w), "1 closed 11 ");
    end_of(w);
}

static void lingers(void)
{
    sb_group group = lines_group();
    struct world *w = world_of(8, group);
    int id = join(w, 0), silent = join(w, 0);
    sb_mux_close(w->mux, id, SB_REASON_CLOSED);
    sb_mux_close(w->mux, silent, SB_REASON_SHUTDOWN);
    CHECK_TEXT(heard(w, id), "$");
    say(w, id, "too late\n");
    CHECK_TEXT(turn(w), "");
    hang_up(w, id);
    CHECK_TEXT(turn(w), "0 closed 2 ");
    CHECK_TEXT(after(w, 900), "");
    CHECK_TEXT(after(w, 600), "1 closed 11 ");
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_mux_counts(w->mux)->connections, 0);
    group.linger_ms = 0;
    int brusque = sb_mux_group(w->mux, &group);
    id = join(w, brusque);
    sb_mux_close(w->mux, id, SB_REASON_CLOSED);
    CHECK_EQ(sb_mux_counts(w->mux)->closed, 1);
    end_of(w);
}

static void aborts(void)
{
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    sb_mux_abort(w->mux, id, SB_REASON_ABORTED);
    sb_mux_abort(w->mux, id, SB_REASON_HANDLER_ERROR); /* too late */
    sb_mux_abort(w->mux, 99, SB_REASON_ABORTED);
    CHECK_TEXT(events_of(w), "0 closed 12 ");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "$");
    end_of(w);
}

static void reset_by_the_peer(void)
{
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    sb_info info;
    say(w, id, "x\n");
    fail_nth(CALL_RECV, 1, ECONNRESET);
    CHECK_TEXT(turn(w), "0 closed 3 ");
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.error, ECONNRESET);
    CHECK_TEXT(turn(w), "");
    id = join(w, 0);
    say(w, id, "x\n");
    fail_nth(CALL_RECV, 1, ETIMEDOUT);
    CHECK_TEXT(turn(w), "1 closed 4 ");
    end_of(w);
}

static void reset_while_not_read(void)
{
    struct world *w = world_of(3, lines_group());
    struct sockaddr_in address;
    struct linger now = {.l_onoff = 1};
    int fd = listener(&address), stopped;
    w->peer[0] = dial(&address);
    CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 1, &stopped), 1);
    sb_mux_pause(w->mux, 0, 1);
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(setsockopt(w->peer[0], SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    hang_up(w, 0);
    if (w->epoll)
        CHECK_TEXT(turn(w), "0 closed 3 ");
    fail_nth(CALL_EPOLL_CTL, 1, ENOMEM);
    w->peer[1] = dial(&address);
    CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 1, &stopped), w->epoll ? 0 : 1);
    CHECK_EQ(stopped, w->epoll ? ENOMEM : 0);
    close(fd);
    end_of(w);
}

static void what_is_unfinished(void)
{
    struct world *w = world_of(4, lines_group());
    int id = join(w, 0);
    size_t size = 7;
    CHECK(sb_mux_unfinished(w->mux, id, &size) == NULL && size == 0);
    size = 7;
    CHECK(sb_mux_unfinished(w->mux, 99, &size) == NULL && size == 0);
    say(w, id, "ab\ncd");
    CHECK_TEXT(turn(w), "0:ab| ");
    const char *data = sb_mux_unfinished(w->mux, id, &size);
    CHECK(size == 2 && data != NULL && memcmp(data, "cd", 2) == 0);
    end_of(w);
}

static void ids_that_are_none(void)
{
    struct world *w = world_of(4, lines_group());
    int32_t ids[5] = {-1, 99, 0, 1, 2}, masks[5] = {SB_READ, SB_READ, SB_READ, SB_READ, SB_READ};
    int64_t sizes[5] = {1, 1, 1, 1, 1};
    join(w, 0);
    join(w, 0);
    join(w, 0);
    sb_mux_abort(w->mux, 0, SB_REASON_ABORTED);
    sb_mux_reap(w->mux);
    sb_mux_abort(w->mux, 1, SB_REASON_ABORTED);
    sb_mux_close(w->mux, 2, SB_REASON_CLOSED);
    sb_mux_write(w->mux, 5, ids, sizes, "abcde");
    sb_mux_close(w->mux, -1, SB_REASON_CLOSED);
    sb_mux_close(w->mux, 99, SB_REASON_CLOSED);
    sb_mux_shutdown(w->mux, 1);
    CHECK_EQ(sb_mux_unsent(w->mux, 99), SB_ERR_GONE);
    CHECK_EQ(sb_mux_unsent(w->mux, 2), 0);
    CHECK_TEXT(heard(w, 2), "$");
    sb_mux_abort(w->mux, 2, SB_REASON_ABORTED);
    events_of(w);
    sb_mux_reap(w->mux);
    CHECK_EQ(sb_mux_turn_of(w->mux, ids, masks, 5), 0);
    end_of(w);
}

static void our_fin_went_before(void)
{
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    sb_mux_shutdown(w->mux, id);
    CHECK_TEXT(heard(w, id), "$");
    fail_nth(CALL_SHUTDOWN, 1, EIO); /* it is not sent again */
    sb_mux_close(w->mux, id, SB_REASON_CLOSED);
    say(w, id, "too late\n");
    CHECK_TEXT(turn(w), "");
    hang_up(w, id);
    CHECK_TEXT(turn(w), "0 closed 2 ");
    CHECK(!faults_clear());
    end_of(w);
}

static void fin_of_the_end_fails(void)
{
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    sb_info info;
    fail_nth(CALL_SHUTDOWN, 1, ENOTCONN);
    sb_mux_close(w->mux, id, SB_REASON_CLOSED);
    CHECK_TEXT(events_of(w), "0 closed 3 ");
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.error, ENOTCONN);
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_mux_info(w->mux, id, &info), SB_ERR_GONE);
    end_of(w);
}

/* Nothing is said of a connection behind its end. */
static void epoll_fails_at_the_end_of_input(void)
{
    if (!with_epoll)
        return;
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    struct world *w = world_of(8, group);
    int id = join(w, 0);
    CHECK_TEXT(turn(w), "0 accepted 0 ");
    CHECK_EQ(shutdown(w->peer[id], SHUT_WR), 0);
    fail_nth(CALL_EPOLL_CTL, 1, ENOMEM);
    CHECK_TEXT(turn(w), "0 closed 9 ");
    CHECK_TEXT(turn(w), "");
    end_of(w);
}

/* Served here, and the reply cannot be sent: the rest behind the line is nobody's. */
static void gone_while_it_is_served(void)
{
    sb_group group = lines_group();
    group.serve = echo;
    struct world *w = world_of(8, group);
    int id = join(w, 0);
    say(w, id, "ab\ncd");
    fail_nth(CALL_SEND, 1, EPIPE);
    CHECK_TEXT(turn(w), "0 closed 3 ");
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_mux_counts(w->mux)->memory, 0);
    end_of(w);
}

/* Not read, hung up: it is taken out of epoll, or would be reported without end. */
static void hung_up_while_not_read(void)
{
    struct world *w = world_of(3, lines_group());
    int id = join(w, 0);
    sb_mux_pause(w->mux, id, 1);
    sb_mux_pause(w->mux, id, 1);
    say(w, id, "last\n");
    hang_up(w, id);
    fail_nth(CALL_EPOLL_CTL, 1, ENOMEM);
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(faults_clear(), w->epoll);
    CHECK_TEXT(turn(w), "");
    fail_nth(CALL_RECV, 1, EBADF);
    CHECK_TEXT(turn(w), "");
    CHECK(!faults_clear());
    sb_mux_pause(w->mux, id, 0);
    CHECK_TEXT(turn(w), "0:last| ");
    CHECK_TEXT(turn(w), "0 closed 1 ");
    end_of(w);
}

/* Not read, and the way is gone: the error says which end it is. */
static void errors_while_not_read(void)
{
    static const int errors[][2] = {{ECONNRESET, 3}, {ETIMEDOUT, 4}, {EHOSTUNREACH, 4}, {0, 0}};
    if (!with_epoll)
        return;
    for (int i = 0; i < 4; i++) {
        struct world *w = world_of(3, lines_group());
        struct sockaddr_in address;
        struct linger now = {.l_onoff = 1};
        sb_info info;
        int fd = listener(&address), stopped;
        w->peer[0] = dial(&address);
        CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 1, &stopped), 1);
        sb_mux_pause(w->mux, 0, 1);
        CHECK_EQ(setsockopt(w->peer[0], SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
        hang_up(w, 0);
        fail_nth(CALL_SO_ERROR, 1, errors[i][0]);
        turn(w);
        CHECK(faults_clear());
        if (errors[i][0] == 0) {
            CHECK_TEXT(w->log, ""); /* parked: the error comes when it is read */
        } else {
            char want[20];
            snprintf(want, sizeof want, "0 closed %d ", errors[i][1]);
            CHECK_TEXT(w->log, want);
            CHECK_EQ(sb_mux_info(w->mux, 0, &info), 0);
            CHECK_EQ(info.error, errors[i][0]);
        }
        close(fd);
        end_of(w);
    }
}

/* Not read, hung up, and output waits: that it cannot be sent says the rest. */
static void hung_up_with_output(void)
{
    struct world *w = world_of(3, lines_group());
    int id = join(w, 0);
    sb_mux_pause(w->mux, id, 1);
    fail_nth(CALL_SEND, 1, EAGAIN);
    answer(w, id, "abc", 3);
    hang_up(w, id);
    fail_nth(CALL_SEND, 1, EAGAIN);
    CHECK_TEXT(turn(w), "");
    CHECK(faults_clear());
    CHECK_TEXT(turn(w), "0 closed 3 ");
    end_of(w);
}

/* Told that they are ready for what is not waited for. */
static void ready_for_nothing(void)
{
    struct world *w = world_of(4, lines_group());
    int32_t ids[2] = {join(w, 0), join(w, 0)}, masks[2] = {SB_WRITE, SB_READ | SB_WRITE | 4 | 8};
    sb_mux_pause(w->mux, ids[1], 1);
    say(w, ids[0], "a\n");
    say(w, ids[1], "b\n");
    CHECK_EQ(sb_mux_turn_of(w->mux, ids, masks, 2), 0);
    sb_mux_pause(w->mux, ids[1], 0);
    turn(w);
    CHECK(strstr(w->log, "0:a| ") != NULL && strstr(w->log, "1:b| ") != NULL);
    end_of(w);
}

/* What was to come upon a connection does not come upon who has its row next. */
static void a_row_is_used_again(void)
{
    sb_group group = lines_group();
    group.framing.limit = 5;
    struct world *w = world_of(1, group);
    int id = join(w, 0);
    say(w, id, "ok\n1234567");
    CHECK_TEXT(turn(w), "0:ok| "); /* it is to end in the next turn */
    sb_mux_abort(w->mux, id, SB_REASON_ABORTED);
    learn_changes(w);
    sb_mux_reap(w->mux);
    CHECK_TEXT(events_of(w), "");
    CHECK_EQ(sb_mux_reply_lines(w->mux, 0, "a\n", 2), SB_ERR_MISMATCH);
    hang_up(w, id);
    id = join(w, 0);
    CHECK(id > 0 && sb_mux_row(w->mux, id) == 0);
    CHECK_TEXT(turn(w), "");
    say(w, id, "a\n");
    CHECK_TEXT(turn(w), "1:a| ");
    end_of(w);
}

/* One row many times in one turn: its events and its changes have an end. */
static void rows_come_and_go(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    struct world *w = world_of(2, group);
    char want[100];
    int other = join(w, 0);
    for (int i = 0; i < 5000; i++) {
        int id = join(w, 0);
        CHECK_EQ(id, 1 + 2 * i);
        snprintf(want, sizeof want, "%s%d accepted 0 ", i == 0 ? "0 accepted 0 " : "", id);
        CHECK_TEXT(events_of(w), want);
        sb_mux_abort(w->mux, id, SB_REASON_ABORTED);
        sb_mux_reap(w->mux);
        hang_up(w, id);
    }
    CHECK(sb_mux_counts(w->mux)->changes <= 2);
    say(w, other, "a\n");
    CHECK_TEXT(turn(w), "0:a| ");
    end_of(w);
}

const struct test mux_ends_tests[] = {
    {"ends of input", ends_of_input},
    {"half close is announced", half_close_is_announced},
    {"lingering is announced", lingering_is_announced},
    {"lingers", lingers},
    {"aborts", aborts},
    {"reset by the peer", reset_by_the_peer},
    {"reset while not read", reset_while_not_read},
    {"what is unfinished", what_is_unfinished},
    {"ids that are none", ids_that_are_none},
    {"our FIN went before", our_fin_went_before},
    {"FIN of the end fails", fin_of_the_end_fails},
    {"epoll fails at the end of input", epoll_fails_at_the_end_of_input},
    {"gone while it is served", gone_while_it_is_served},
    {"hung up while not read", hung_up_while_not_read},
    {"errors while not read", errors_while_not_read},
    {"hung up with output", hung_up_with_output},
    {"ready for nothing", ready_for_nothing},
    {"a row is used again", a_row_is_used_again},
    {"rows come and go", rows_come_and_go},
    {NULL, NULL},
};
