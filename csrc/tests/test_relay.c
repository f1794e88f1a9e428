/* SPDX-License-Identifier: MIT */
/* test_relay - pairs of sockets, seen from the peers of both */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#if SB_HAS_EPOLL

enum { MUCH = 65536, DELIVERY_MS = 20 };

struct line {
    sb_relay *relay;
    int client, server, id;
};

static void unix_pair(int fds[2])
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
}

static void tcp_pair(int fds[2])
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t size = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQ(bind(listener, (struct sockaddr *)&name, size), 0);
    CHECK_EQ(listen(listener, 8), 0);
    getsockname(listener, (struct sockaddr *)&name, &size);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(connect(fds[0], (struct sockaddr *)&name, size), 0);
    fds[1] = accept(listener, NULL, NULL);
    close(listener);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
}

/* A further pair; about->one and other are filled in. */
static struct line join(sb_relay *relay, void (*make)(int[2]), sb_relay_pair about)
{
    int near[2], far[2];
    make(near);
    make(far);
    about.one = near[1];
    about.other = far[0];
    struct line line = {.relay = relay, .client = near[0], .server = far[1]};
    line.id = sb_relay_add(relay, &about);
    if (line.id < 0) {
        close(near[1]);
        close(far[0]);
    }
    return line;
}

static struct line line_of(void (*make)(int[2]), int pairs)
{
    return join(sb_relay_new(pairs), make, (sb_relay_pair){0});
}

static void end_of(struct line line)
{
    close(line.client);
    close(line.server);
    sb_relay_free(line.relay);
}

/* One call; its ends as "id:reason " each. */
/* TCP delivers behind send(2)'s back, and a busy host a little later. */
static void await(int fd)
{
    poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, DELIVERY_MS);
}

static const char *turn(sb_relay *relay)
{
    await(sb_relay_fileno(relay));
    static char text[4096];
    size_t used = 0;
    const sb_relay_end *ends = sb_relay_ends(relay);
    sb_relay_run(relay);
    text[0] = 0;
    for (int i = 0; i < sb_relay_counts_of(relay)->ends; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%d:%d ", ends[i].id, ends[i].reason);
    return text;
}

/* The calls that are due until so much time has passed, and their ends. */
static const char *after(sb_relay *relay, int64_t ms)
{
    static char text[8192];
    const sb_relay_counts *counts = sb_relay_counts_of(relay);
    int64_t end = clock_now() + ms;
    text[0] = 0;
    for (int is_over = 0; !is_over;) {
        int64_t due = counts->due_ms;
        is_over = due < 0 || due > end;
        int64_t wait = (is_over ? end : due) - clock_now();
        clock_advance(wait > 0 ? wait : 0);
        strcat(text, turn(relay));
    }
    return text;
}

static void say(int fd, const char *text)
{
    CHECK_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Up to 200 bytes as text; "-" for none, "$" at the end, "!" for an error. */
static const char *heard(int fd)
{
    static char text[201];
    await(fd);
    ssize_t n = recv(fd, text, 200, MSG_DONTWAIT);
    if (n <= 0)
        return n == 0 ? "$" : errno == EAGAIN ? "-" : "!";
    text[n] = 0;
    return text;
}

static void reset(int fd)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
}

static char pattern(size_t at)
{
    return (char)(at * 7 + at / 251);
}

/* Send as much as is taken, at most so much; returns where the next is. */
static size_t pour(int fd, size_t at, size_t max)
{
    char block[MUCH];
    for (;;) {
        size_t size = max - at < sizeof block ? max - at : sizeof block;
        for (size_t i = 0; i < size; i++)
            block[i] = pattern(at + i);
        ssize_t n = size == 0 ? 0 : send(fd, block, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0)
            return at;
        at += (size_t)n;
    }
}

static size_t drain(int fd, size_t at)
{
    char block[MUCH];
    ssize_t n;
    while ((n = recv(fd, block, sizeof block, MSG_DONTWAIT)) > 0) {
        ssize_t wrong = 0;
        for (ssize_t i = 0; i < n; i++)
            wrong += block[i] != pattern(at + (size_t)i);
        CHECK_EQ(wrong, 0);
        at += (size_t)n;
    }
    return at;
}

/* Pour until nothing moves any more; returns what was sent. */
static size_t fill(struct line *line)
{
    size_t sent = 0, before;
    do {
        before = sent;
        sent = pour(line->client, sent, SIZE_MAX);
        CHECK_TEXT(turn(line->relay), "");
    } while (sent > before);
    return sent;
}

/* Let through what was sent, up to all; returns what came.  TCP may take its time. */
static size_t empty(struct line *line, size_t got, size_t all)
{
    struct pollfd news[] = {{.fd = line->server, .events = POLLIN}, {.events = POLLIN}};
    news[1].fd = sb_relay_fileno(line->relay);
    while (got < all && poll(news, 2, 5000) > 0) {
        turn(line->relay);
        got = drain(line->server, got);
    }
    return got;
}

static void small_pieces_and_ends(void (*make)(int[2]))
{
    struct line line = line_of(make, 1);
    CHECK_EQ(line.id, 0);
    CHECK(sb_relay_fileno(line.relay) >= 0);
    CHECK_EQ(sb_relay_counts_of(line.relay)->pairs, 1);
    say(line.client, "question");
    CHECK_TEXT(turn(line.relay), "");
    CHECK_TEXT(heard(line.server), "question");
    shutdown(line.client, SHUT_WR);
    CHECK_TEXT(turn(line.relay), "");
    CHECK_TEXT(heard(line.server), "$");
    say(line.server, "answer");
    CHECK_TEXT(turn(line.relay), "");
    CHECK_TEXT(heard(line.client), "answer");
    CHECK_EQ(sb_relay_moved(line.relay, 0, 0), 8);
    CHECK_EQ(sb_relay_moved(line.relay, 0, 1), 6);
    CHECK_EQ(sb_relay_moved(line.relay, 1, 0), SB_ERR_GONE);
    close(line.server);
    CHECK_TEXT(turn(line.relay), "0:1 ");
    CHECK_EQ(sb_relay_ends(line.relay)->moved[0], 8);
    CHECK_EQ(sb_relay_ends(line.relay)->moved[1], 6);
    CHECK_EQ(sb_relay_counts_of(line.relay)->pairs, 0);
    CHECK_EQ(sb_relay_moved(line.relay, 0, 0), SB_ERR_GONE);
    CHECK_TEXT(heard(line.client), "$");
    CHECK_TEXT(turn(line.relay), "");
    line.server = dup(line.client);
    end_of(line);
}

static void ends_both_ways(void)
{
    small_pieces_and_ends(tcp_pair);
    small_pieces_and_ends(unix_pair);
}

static void bulk(void (*make)(int[2]))
{
    struct line line = line_of(make, 1);
    size_t sent = 0, got = 0, all = 8 << 20;
    while (got < all) {
        sent = pour(line.client, sent, all);
        CHECK_TEXT(turn(line.relay), "");
        got = drain(line.server, got);
    }
    CHECK_EQ(sb_relay_moved(line.relay, 0, 0), all);
    for (int i = 0; i < 20; i++) { /* and small ones again */
        say(line.client, "x");
        CHECK_TEXT(turn(line.relay), "");
        CHECK_TEXT(heard(line.server), "x");
    }
    end_of(line);
}

static void large_pieces(void)
{
    bulk(tcp_pair);
    bulk(unix_pair);
}

static void a_receiver_that_stops(void (*make)(int[2]))
{
    struct line line = line_of(make, 1);
    for (int times = 0; times < 2; times++) {
        size_t sent = fill(&line);
        say(line.server, "the other way goes on");
        turn(line.relay);
        CHECK_TEXT(heard(line.client), "the other way goes on");
        CHECK_EQ(empty(&line, 0, sent), sent);
    }
    end_of(line);
}

static void back_pressure(void)
{
    a_receiver_that_stops(tcp_pair);
    a_receiver_that_stops(unix_pair);
    cap_size(CALL_SPLICE, 70000);
    a_receiver_that_stops(tcp_pair);
    cap_size(CALL_SEND, 1000);
    fail_nth(CALL_PIPE, 1, EMFILE);
    a_receiver_that_stops(tcp_pair);
}

static void a_turn_is_bounded(void)
{
    struct line line = line_of(unix_pair, 1);
    cap_size(CALL_RECV, 1);
    say(line.client, "0123456789");
    cap_size(CALL_RECV, 0);
    cap_size(CALL_RECV, 1);
    turn(line.relay);
    cap_size(CALL_RECV, 0);
    CHECK_TEXT(heard(line.server), "01234567");
    end_of(line);
    line = line_of(unix_pair, 1);
    say(line.client, "0123456789");
    cap_size(CALL_RECV, 1);
    clock_of_send(2); /* and 4 ms, which others would have to wait */
    turn(line.relay);
    clock_of_send(0);
    cap_size(CALL_RECV, 0);
    CHECK_TEXT(heard(line.server), "012");
    turn(line.relay);
    CHECK_TEXT(heard(line.server), "3456789");
    end_of(line);
    line = line_of(tcp_pair, 1);
    size_t sent = fill(&line);
    CHECK_EQ(empty(&line, 0, sent), sent);
    end_of(line);
}

static void what_cannot_be_spliced_is_copied(void)
{
    struct line line = line_of(unix_pair, 1);
    size_t sent = 0, got = 0;
    fail_nth(CALL_SPLICE, 1, EINVAL);
    for (int i = 0; i < 20; i++) {
        if (i == 10) /* urgent data in front: readable, and splice(2) brings nothing */
            fail_nth(CALL_SPLICE, 1, EAGAIN);
        sent = pour(line.client, sent, sent + MUCH);
        CHECK_TEXT(turn(line.relay), "");
        got = drain(line.server, got);
    }
    CHECK_EQ(faults_clear(), SB_HAS_SPLICE);
    CHECK_EQ(got, sent);
    end_of(line);
}

/* Go on until bytes are sent through a pipe. */
static size_t to_bulk(struct line *line)
{
    size_t sent = 0;
    for (int i = 0; i < 4; i++) {
        sent = pour(line->client, sent, sent + MUCH);
        turn(line->relay);
        CHECK_EQ(drain(line->server, sent - MUCH), sent);
    }
    return sent;
}

static void errors_of_splice(void)
{
    if (!SB_HAS_SPLICE)
        return;
    struct line line = line_of(unix_pair, 1);
    size_t sent = to_bulk(&line), got = sent;
    sent = pour(line.client, sent, sent + MUCH);
    fail_nth(CALL_SPLICE, 2, EAGAIN); /* the way out */
    turn(line.relay);
    CHECK(faults_clear());
    got = empty(&line, got, sent);
    CHECK_EQ(got, sent);
    pour(line.client, sent, sent + MUCH);
    fail_nth(CALL_SPLICE, 2, EPIPE);
    CHECK_TEXT(turn(line.relay), "0:3 ");
    CHECK_EQ(sb_relay_ends(line.relay)->error, EPIPE);
    CHECK_EQ(sb_relay_ends(line.relay)->side, 1);
    end_of(line);
    line = line_of(unix_pair, 1);
    sent = to_bulk(&line);
    pour(line.client, sent, sent + MUCH);
    fail_nth(CALL_SPLICE, 1, ETIMEDOUT); /* the way in */
    CHECK_TEXT(turn(line.relay), "0:4 ");
    CHECK_EQ(sb_relay_ends(line.relay)->side, 0);
    end_of(line);
}

static void sigpipe_is_left_as_it_was(void)
{
    if (!SB_HAS_SPLICE)
        return;
    sigset_t only, before, pending;
    sigemptyset(&only);
    sigaddset(&only, SIGPIPE);
    for (int was_pending = 0; was_pending < 2; was_pending++) {
        struct line line = line_of(unix_pair, 1);
        size_t sent = to_bulk(&line);
        pthread_sigmask(SIG_BLOCK, &only, &before);
        if (was_pending)
            raise(SIGPIPE);
        pour(line.client, sent, sent + MUCH);
        fail_nth(CALL_SPLICE, 2, EPIPE);
        CHECK_TEXT(turn(line.relay), "0:3 ");
        CHECK(faults_clear());
        sigpending(&pending);
        CHECK_EQ(sigismember(&pending, SIGPIPE), was_pending);
        int taken;
        if (was_pending)
            sigwait(&only, &taken);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        end_of(line);
    }
}

static void pipes_are_few(void)
{
    enum { LINES = 70 };
    struct line lines[LINES];
    size_t sent[LINES];
    sb_relay *relay = sb_relay_new(LINES);
    for (int i = 0; i < LINES; i++) {
        lines[i] = join(relay, unix_pair, (sb_relay_pair){0});
        to_bulk(&lines[i]);
        CHECK_EQ(lines[i].id, i);
    }
    for (int i = 0; i < LINES; i++)
        sent[i] = fill(&lines[i]);
    for (int i = 0; i < 3; i++) { /* with bytes in their pipes */
        sb_relay_abort(relay, i, SB_REASON_SHUTDOWN);
        CHECK_EQ(sb_relay_counts_of(relay)->ends, 1);
        CHECK_EQ(sb_relay_ends(relay)->reason, SB_REASON_SHUTDOWN);
    }
    for (int i = 3; i < LINES; i++)
        CHECK_EQ(empty(&lines[i], 0, sent[i]), sent[i]);
    sb_relay_free(relay);
    for (int i = 0; i < LINES; i++) {
        close(lines[i].client);
        close(lines[i].server);
    }
}

static void resets(void)
{
    for (int side = 0; side < 2; side++) {
        struct line line = line_of(tcp_pair, 1);
        reset(side ? line.server : line.client);
        CHECK_TEXT(turn(line.relay), "0:3 ");
        CHECK_EQ(sb_relay_ends(line.relay)->error, ECONNRESET);
        CHECK_EQ(sb_relay_ends(line.relay)->side, side);
        CHECK_TEXT(heard(side ? line.client : line.server), "!");
        *(side ? &line.server : &line.client) = dup(side ? line.client : line.server);
        end_of(line);
    }
    struct line both = line_of(tcp_pair, 1);
    reset(both.server);
    reset(both.client);
    CHECK_TEXT(turn(both.relay), "0:3 ");
    sb_relay_free(both.relay);
}

/* While the one that is reset is neither read nor written to. */
static void a_reset_of_a_side_that_waits(void)
{
    for (int side = 0; side < 2; side++) {
        struct line line = line_of(tcp_pair, 1);
        fill(&line);
        reset(side ? line.server : line.client);
        CHECK_TEXT(turn(line.relay), "0:3 ");
        CHECK_EQ(sb_relay_ends(line.relay)->side, side);
        *(side ? &line.server : &line.client) = dup(side ? line.client : line.server);
        end_of(line);
    }
}

/* A side whose socket is one end of a pair, with its network lost behind the other: told where it ends, and not before. */
static void a_side_is_lost(void)
{
    for (int side = 0; side < 2; side++) {
        struct line line = line_of(unix_pair, 1);
        int lost = side ? line.server : line.client, other = side ? line.client : line.server;
        say(lost, "before");
        sb_relay_lost(line.relay, line.id, side, ECONNRESET);
        sb_relay_lost(line.relay, 99, side, ECONNRESET);
        CHECK_TEXT(turn(line.relay), "");
        CHECK_TEXT(heard(other), "before");
        shutdown(lost, SHUT_WR);
        CHECK_TEXT(turn(line.relay), "0:3 ");
        CHECK_EQ(sb_relay_ends(line.relay)->error, ECONNRESET);
        CHECK_EQ(sb_relay_ends(line.relay)->side, side);
        end_of(line);
    }
    struct line line = line_of(unix_pair, 1); /* while it is not read */
    fill(&line);
    sb_relay_lost(line.relay, line.id, 0, ETIMEDOUT);
    close(line.client);
    line.client = dup(line.server);
    CHECK_TEXT(turn(line.relay), "0:4 ");
    CHECK_EQ(sb_relay_ends(line.relay)->error, ETIMEDOUT);
    end_of(line);
}

static void last_words_before_a_reset(void)
{
    struct line line = line_of(tcp_pair, 1);
    say(line.client, "never read");
    turn(line.relay);
    say(line.server, "enough");
    reset(line.server);
    say(line.client, "more");
    fail_nth(CALL_SEND, 1, EPIPE);
    CHECK_TEXT(turn(line.relay), "0:3 ");
    faults_clear();
    end_of((struct line){line.relay, line.client, dup(line.client), 0});
    line = line_of(unix_pair, 1); /* that has ended before */
    shutdown(line.server, SHUT_WR);
    turn(line.relay);
    say(line.client, "more");
    fail_nth(CALL_SEND, 1, EPIPE);
    CHECK_TEXT(turn(line.relay), "0:3 ");
    end_of(line);
}

/* Noticed by sending: the kernel has told its error then, and reading finds an end of file. */
static void a_reset_that_sending_finds(void)
{
    struct line line = line_of(tcp_pair, 1);
    say(line.server, "answer");
    await(line.server); /* it is ready before the client is reset */
    reset(line.client);
    CHECK_TEXT(turn(line.relay), "0:3 ");
    CHECK_EQ(sb_relay_ends(line.relay)->side, 0);
    CHECK_TEXT(heard(line.server), "!");
    line.client = dup(line.server);
    end_of(line);
}

/* The end of a client that is not read at the time is reported all the time. */
static void a_hang_up_is_looked_at_once(void)
{
    struct line line = line_of(unix_pair, 1);
    shutdown(line.server, SHUT_WR);
    CHECK_TEXT(turn(line.relay), "");
    size_t sent = fill(&line);
    cap_size(CALL_SPLICE, 50000); /* so that it is waited for again before its end is seen */
    cap_size(CALL_RECV, 50000);
    close(line.client);
    line.client = dup(line.server);
    CHECK_TEXT(turn(line.relay), "");
    CHECK_TEXT(turn(line.relay), "");
    size_t got = 0;
    const char *ends = "";
    for (int i = 0; i < 1000 && ends[0] == 0; i++) {
        got = drain(line.server, got);
        ends = turn(line.relay);
    }
    CHECK_TEXT(ends, "0:1 ");
    faults_clear();
    CHECK_EQ(drain(line.server, got), sent);
    end_of(line);
}

static void errors_have_reasons(void)
{
    static const int table[][2] = {
        {ETIMEDOUT, SB_REASON_UNREACHABLE}, {ECONNRESET, SB_REASON_RESET}, {EBADF, SB_REASON_RESET}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct line line = line_of(unix_pair, 1);
        say(line.client, "x");
        fail_nth(CALL_RECV, 1, table[i][0]);
        turn(line.relay);
        CHECK_EQ(sb_relay_ends(line.relay)->reason, table[i][1]);
        CHECK_EQ(sb_relay_ends(line.relay)->error, table[i][0]);
        end_of(line);
    }
}

static void nothing_is_lost_without_memory(void)
{
    struct line line = line_of(unix_pair, 1);
    say(line.client, "0123456789");
    cap_size(CALL_SEND, 3);
    fail_nth(CALL_ALLOCATE, 1, ENOMEM);
    turn(line.relay);
    faults_clear();
    CHECK_EQ(sb_relay_ends(line.relay)->reason, SB_REASON_LIMIT);
    end_of(line);
    line = line_of(unix_pair, 1);
    say(line.client, "0123456789");
    fail_nth(CALL_SEND, 1, EAGAIN);
    fail_nth(CALL_EPOLL_CTL, 1, ENOMEM);
    turn(line.relay);
    faults_clear();
    CHECK_EQ(sb_relay_ends(line.relay)->reason, SB_REASON_LIMIT);
    CHECK_EQ(sb_relay_ends(line.relay)->error, ENOMEM);
    end_of(line);
    line = line_of(unix_pair, 1);
    say(line.client, "0123456789");
    fail_nth(CALL_SEND, 1, EAGAIN);
    turn(line.relay);
    faults_clear();
    turn(line.relay);
    CHECK_TEXT(heard(line.server), "0123456789");
    end_of(line);
}

static void what_came_before(void)
{
    sb_relay *relay = sb_relay_new(1);
    sb_relay_pair about = {.first = "one ", .first_size = 4, .second = "other ", .second_size = 6};
    for (int nth = 1; nth <= 2; nth++) {
        fail_nth(CALL_ALLOCATE, nth, ENOMEM);
        struct line line = join(relay, unix_pair, about);
        CHECK_EQ(line.id, SB_ERR_NOMEM);
        close(line.client);
        close(line.server);
        fail_nth(CALL_EPOLL_CTL, nth, ENOSPC);
        line = join(relay, unix_pair, about);
        CHECK_EQ(line.id, SB_ERR_FAULT);
        CHECK_EQ(errno, ENOSPC);
        close(line.client);
        close(line.server);
    }
    struct line line = join(relay, tcp_pair, about);
    fail_nth(CALL_SEND, 1, EPIPE);
    CHECK_TEXT(turn(relay), "4:3 "); /* the fifth that came, in the same place */
    CHECK(faults_clear());
    close(line.client);
    close(line.server);
    line = join(relay, tcp_pair, about);
    fail_nth(CALL_SEND, 2, EAGAIN); /* once more, in the same call */
    say(line.client, "more");
    turn(relay);
    CHECK_TEXT(heard(line.server), "one more");
    CHECK_TEXT(heard(line.client), "other ");
    close(line.server);
    line.server = dup(line.client);
    struct line full = join(relay, unix_pair, about);
    CHECK_EQ(full.id, SB_ERR_FULL);
    close(full.client);
    close(full.server);
    sb_relay_abort(relay, line.id, SB_REASON_SHUTDOWN);
    sb_relay_abort(relay, line.id, SB_REASON_SHUTDOWN);
    CHECK_EQ(sb_relay_counts_of(relay)->ends, 0);
    sb_relay_abort(relay, -1, SB_REASON_SHUTDOWN);
    sb_relay_abort(relay, 7, SB_REASON_SHUTDOWN);
    struct line again = join(relay, unix_pair, about); /* in the same place, and freed with what it holds */
    CHECK_EQ(again.id, line.id + 1);
    sb_relay_abort(relay, line.id, SB_REASON_SHUTDOWN); /* too late, and nobody else's */
    CHECK_EQ(sb_relay_counts_of(relay)->pairs, 1);
    CHECK_EQ(sb_relay_moved(relay, line.id, 0), SB_ERR_GONE);
    close(again.client);
    close(again.server);
    end_of(line);
}

static void deadlines(void)
{
    sb_relay *relay = sb_relay_new(8);
    const sb_relay_counts *counts = sb_relay_counts_of(relay);
    struct line never = join(relay, unix_pair, (sb_relay_pair){.half_ms = INT64_MAX, .idle_ms = 0});
    CHECK_EQ(counts->due_ms, -1);
    struct line late = join(relay, unix_pair, (sb_relay_pair){.half_ms = 100, .idle_ms = INT64_MAX});
    struct line idle = join(relay, unix_pair, (sb_relay_pair){.half_ms = 100, .idle_ms = 1000});
    struct line busy = join(relay, unix_pair, (sb_relay_pair){.half_ms = 2000, .idle_ms = 1500});
    CHECK(counts->due_ms > 0);
    CHECK_TEXT(after(relay, 900), "");
    say(busy.client, "x");
    CHECK_TEXT(turn(relay), "");
    CHECK_TEXT(after(relay, 400), "2:7 ");
    shutdown(late.client, SHUT_WR); /* its deadline is sooner now */
    shutdown(busy.server, SHUT_WR);
    CHECK_TEXT(turn(relay), "");
    CHECK_TEXT(after(relay, 380), "1:16 ");
    CHECK_TEXT(after(relay, 1900), "3:16 ");
    CHECK_EQ(counts->due_ms, -1);
    CHECK_EQ(counts->pairs, 1);
    struct line lines[] = {never, late, idle, busy};
    for (int i = 0; i < 4; i++) {
        close(lines[i].client);
        close(lines[i].server);
    }
    sb_relay_free(relay);
}

static void no_relay(void)
{
    CHECK(sb_relay_new(0) == NULL);
    CHECK(sb_relay_new(INT32_MAX) == NULL);
    CHECK_EQ(errno, EINVAL);
    for (int nth = 1; nth <= 5; nth++) {
        fail_nth(CALL_ALLOCATE, nth, ENOMEM);
        CHECK(sb_relay_new(8) == NULL);
        CHECK_EQ(errno, ENOMEM);
    }
    fail_nth(CALL_EPOLL_CREATE, 1, EMFILE);
    CHECK(sb_relay_new(8) == NULL);
    CHECK_EQ(errno, EMFILE);
    sb_relay_free(NULL);
    struct line line = line_of(unix_pair, 1);
    fail_nth(CALL_EPOLL_WAIT, 1, EINTR);
    CHECK_TEXT(turn(line.relay), "");
    end_of(line);
}

const struct test relay_tests[] = {
    {"relay: small pieces and ends of file both ways", ends_both_ways},
    {"relay: large pieces", large_pieces},
    {"relay: a receiver that stops", back_pressure},
    {"relay: a turn is bounded", a_turn_is_bounded},
    {"relay: what cannot be spliced is copied", what_cannot_be_spliced_is_copied},
    {"relay: errors of splice", errors_of_splice},
    {"relay: SIGPIPE is left as it was", sigpipe_is_left_as_it_was},
    {"relay: pipes are few", pipes_are_few},
    {"relay: a reset is a reset of both", resets},
    {"relay: a reset of a side that waits", a_reset_of_a_side_that_waits},
    {"relay: a side is lost", a_side_is_lost},
    {"relay: last words before a reset", last_words_before_a_reset},
    {"relay: a reset that sending finds", a_reset_that_sending_finds},
    {"relay: a hang-up is looked at once", a_hang_up_is_looked_at_once},
    {"relay: errors have reasons", errors_have_reasons},
    {"relay: without memory", nothing_is_lost_without_memory},
    {"relay: what came before", what_came_before},
    {"relay: deadlines", deadlines},
    {"relay: none", no_relay},
    {NULL, NULL},
};

#else

static void not_here(void)
{
    CHECK(sb_relay_new(8) == NULL);
    CHECK_EQ(errno, ENOSYS);
    sb_relay_free(NULL);
    CHECK_EQ(sb_relay_fileno(NULL), -1);
    CHECK(sb_relay_counts_of(NULL) == NULL);
    CHECK(sb_relay_ends(NULL) == NULL);
    CHECK_EQ(sb_relay_add(NULL, NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_relay_run(NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_relay_abort(NULL, 0, 0), SB_ERR_GONE);
    CHECK_EQ(sb_relay_lost(NULL, 0, 0, 0), SB_ERR_GONE);
    CHECK_EQ(sb_relay_moved(NULL, 0, 0), SB_ERR_GONE);
}

const struct test relay_tests[] = {{"relay: not here", not_here}, {NULL, NULL}};

#endif
