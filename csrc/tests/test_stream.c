/* SPDX-License-Identifier: MIT */
#include "harness.h"
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void pair(int fds[2])
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
}

static void close_both(const int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

/* The descriptors block; the calls do not. */
static void over_a_socket(void)
{
    int fds[2];
    char room[10];
    pair(fds);
    CHECK_EQ(sb_receive(fds[0], room, sizeof room), SB_ERR_AGAIN);
    CHECK_EQ(sb_receive(fds[0], room, 0), SB_ERR_INVALID); /* not its end */
    CHECK_EQ(sb_send(fds[1], "abc", 3), 3);
    CHECK_EQ(sb_receive(fds[0], room, 0), SB_ERR_INVALID);
    CHECK_EQ(sb_receive(fds[0], room, sizeof room), 3);
    CHECK(memcmp(room, "abc", 3) == 0);
    char *much = calloc(1, 1 << 20);
    long n, total = 0;
    while ((n = sb_send(fds[1], much, 1 << 20)) > 0)
        total += n;
    CHECK(total > 0);
    CHECK_EQ(n, SB_ERR_AGAIN);
    free(much);
    close(fds[0]);
    CHECK_EQ(sb_send(fds[1], "abc", 3), SB_ERR_RESET);
    close(fds[1]);
    pair(fds);
    close(fds[1]);
    CHECK_EQ(sb_receive(fds[0], room, sizeof room), SB_ERR_END);
    close(fds[0]);
}

static void errno_has_classes(void)
{
    static const int table[][2] = {
        {EAGAIN, SB_ERR_AGAIN},           {EINTR, SB_ERR_AGAIN},
        {ECONNRESET, SB_ERR_RESET},       {EPIPE, SB_ERR_RESET},
        {ECONNABORTED, SB_ERR_RESET},     {ENOTCONN, SB_ERR_RESET},
        {ETIMEDOUT, SB_ERR_UNREACHABLE},  {EHOSTUNREACH, SB_ERR_UNREACHABLE},
        {ENETUNREACH, SB_ERR_UNREACHABLE}, {ENETDOWN, SB_ERR_UNREACHABLE},
        {ENETRESET, SB_ERR_UNREACHABLE},  {EHOSTDOWN, SB_ERR_UNREACHABLE},
        {EBADF, SB_ERR_FAULT},            {ENOMEM, SB_ERR_FAULT},
    };
    int fds[2];
    char room[4];
    sb_piece piece = {"a", 1};
    pair(fds);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        fail_nth(CALL_RECV, 1, table[i][0]);
        CHECK_EQ(sb_receive(fds[0], room, sizeof room), table[i][1]);
        CHECK_EQ(errno, table[i][0]);
        fail_nth(CALL_SEND, 1, table[i][0]);
        CHECK_EQ(sb_send(fds[0], "a", 1), table[i][1]);
        fail_nth(CALL_SENDMSG, 1, table[i][0]);
        CHECK_EQ(sb_send_gather(fds[0], &piece, 1), table[i][1]);
        CHECK(faults_clear());
    }
    close_both(fds);
    CHECK_EQ(sb_receive(-1, room, sizeof room), SB_ERR_FAULT);
    CHECK_EQ(sb_send(-1, room, 1), SB_ERR_FAULT);
}

static void sizes_are_bounded(void)
{
    int fds[2];
    char room[8];
    pair(fds);
    cap_size(CALL_SEND, 2); /* as if the kernel took no more: sizes past LONG_MAX reach it cut */
    CHECK_EQ(sb_send(fds[1], "abcd", SIZE_MAX), 2);
    cap_size(CALL_RECV, 1);
    CHECK_EQ(sb_receive(fds[0], room, SIZE_MAX), 1);
    close_both(fds);
}

static void gathers(void)
{
    int fds[2];
    char room[300];
    sb_piece pieces[80] = {{"abc", 3}, {NULL, 0}, {"d", 1}, {"", 0}, {"efgh", 4}};
    pair(fds);
    CHECK_EQ(sb_send_gather(fds[1], pieces, 5), 8);
    CHECK_EQ(sb_receive(fds[0], room, sizeof room), 8);
    CHECK(memcmp(room, "abcdefgh", 8) == 0);
    CHECK_EQ(sb_send_gather(fds[1], pieces, 0), 0);
    CHECK_EQ(sb_send_gather(fds[1], pieces + 1, 1), 0);
    for (int i = 0; i < 80; i++)
        pieces[i] = (sb_piece){"xyz", 3};
    CHECK_EQ(sb_send_gather(fds[1], pieces, 80), 64 * 3);
    CHECK_EQ(sb_receive(fds[0], room, sizeof room), 64 * 3);
    close(fds[0]);
    CHECK_EQ(sb_send_gather(fds[1], pieces, 1), SB_ERR_RESET);
    close(fds[1]);
}

static void over_a_pipe(void)
{
    int fds[2];
    char room[10];
    sb_piece pieces[2] = {{"", 0}, {"de", 2}};
    CHECK_EQ(pipe(fds), 0);
    CHECK_EQ(sb_receive(fds[0], room, sizeof room), SB_ERR_AGAIN);
    CHECK_EQ(sb__receive_two(fds[0], room, 2, room + 4, 6), SB_ERR_AGAIN);
    CHECK_EQ(sb_send(fds[1], "abc", 3), 3);
    CHECK_EQ(sb__receive_two(fds[0], room, 2, room + 4, 6), 3);
    CHECK(memcmp(room, "ab", 2) == 0 && room[4] == 'c');
    CHECK_EQ(sb_send(fds[1], "abc", 3), 3);
    CHECK_EQ(sb_send_gather(fds[1], pieces, 2), 2);
    CHECK_EQ(sb_receive(fds[0], room, sizeof room), 5);
    CHECK(memcmp(room, "abcde", 5) == 0);
    char *much = calloc(1, 1 << 20);
    long n;
    while ((n = sb_send(fds[1], much, 1 << 20)) > 0)
        CHECK(n <= PIPE_BUF); /* a blocking pipe: what it can take for sure */
    CHECK_EQ(n, SB_ERR_AGAIN);
    close_both(fds);
    CHECK_EQ(pipe(fds), 0);
    CHECK_EQ(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    CHECK(sb_send(fds[1], much, 1 << 20) > PIPE_BUF);
    CHECK_EQ(sb_send(fds[1], much, 1 << 20), SB_ERR_AGAIN);
    close(fds[1]);
    while ((n = sb_receive(fds[0], much, 1 << 20)) > 0)
        continue;
    CHECK_EQ(n, SB_ERR_END);
    close(fds[0]);
    free(much);
    CHECK_EQ(pipe(fds), 0);
    fail_nth(CALL_POLL, 1, EINTR);
    CHECK_EQ(sb_receive(fds[0], room, sizeof room), SB_ERR_AGAIN);
    fail_nth(CALL_POLL, 1, ENOMEM);
    CHECK_EQ(sb_send(fds[1], "abc", 3), SB_ERR_FAULT);
    fail_nth(CALL_WRITE, 1, EIO);
    CHECK_EQ(sb_send(fds[1], "abc", 3), SB_ERR_FAULT);
    CHECK_EQ(sb_send(fds[1], "abc", 3), 3);
    fail_nth(CALL_READ, 1, EIO);
    CHECK_EQ(sb_receive(fds[0], room, sizeof room), SB_ERR_FAULT);
    close_both(fds);
}

static void over_a_file(void)
{
    char name[] = "/tmp/sockbuf-test-XXXXXX", room[10];
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    unlink(name);
    CHECK_EQ(sb_send(fd, "abc", 3), 3);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    CHECK_EQ(sb_receive(fd, room, sizeof room), 3);
    CHECK_EQ(sb_receive(fd, room, sizeof room), SB_ERR_END);
    close(fd);
}

static void over_a_terminal(void)
{
    char room[10];
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0)
        return;
    CHECK_EQ(grantpt(master), 0);
    CHECK_EQ(unlockpt(master), 0);
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    CHECK(terminal >= 0);
    CHECK_EQ(sb_receive(terminal, room, sizeof room), SB_ERR_AGAIN);
    CHECK_EQ(sb_send(master, "ab\n", 3), 3);
    CHECK_EQ(sb_receive(terminal, room, sizeof room), 3);
    CHECK_EQ(sb_send(terminal, "x", 1), 1);
    close(terminal);
    close(master);
}

static int came; /* SIGPIPE that were delivered */

static void count(int number)
{
    (void)number;
    came++;
}

static int is_pending(void)
{
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGPIPE);
}

/* A pipe without a reader, under each disposition: none is delivered, none is
 * left pending that was not, mask and disposition are as before. */
static void no_sigpipe(void)
{
    int fds[2], caught;
    struct sigaction action = {.sa_handler = count}, before, after;
    sigset_t only, mask, old;
    CHECK_EQ(pipe(fds), 0);
    close(fds[0]);
    sigemptyset(&only);
    sigaddset(&only, SIGPIPE);
    came = 0;
    sigaction(SIGPIPE, &action, &before);
    CHECK_EQ(sb_send(fds[1], "a", 1), SB_ERR_RESET);
    CHECK_EQ(errno, EPIPE);
    CHECK_EQ(came, 0);
    CHECK_EQ(is_pending(), 0);
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    CHECK_EQ(sigismember(&mask, SIGPIPE), 0);
    sigaction(SIGPIPE, NULL, &after);
    CHECK(after.sa_handler == count);
    pthread_sigmask(SIG_BLOCK, &only, &old); /* blocked by the caller, and one pending: both stay */
    CHECK_EQ(sb_send(fds[1], "a", 1), SB_ERR_RESET);
    CHECK_EQ(is_pending(), 0);
    raise(SIGPIPE);
    CHECK_EQ(sb_send(fds[1], "a", 1), SB_ERR_RESET);
    CHECK_EQ(is_pending(), 1);
    sigwait(&only, &caught);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    CHECK_EQ(sb_send(fds[1], "a", 1), SB_ERR_RESET);
    sigaction(SIGPIPE, &before, NULL);
    fail_nth(CALL_WRITE, 1, EPIPE); /* without a signal, as where an ignored one is never pending: none is waited for */
    CHECK_EQ(sb_send(fds[1], "a", 1), SB_ERR_RESET);
    CHECK_EQ(sb_send(fds[1], "a", 1), SB_ERR_RESET); /* SIG_DFL: it would end this program */
    CHECK_EQ(came, 0);
    close(fds[1]);
}

const struct test stream_tests[] = {
    {"stream: over a socket", over_a_socket},
    {"stream: errno has classes", errno_has_classes},
    {"stream: sizes are bounded", sizes_are_bounded},
    {"stream: gathers", gathers},
    {"stream: over a pipe", over_a_pipe},
    {"stream: over a file", over_a_file},
    {"stream: over a terminal", over_a_terminal},
    {"stream: no SIGPIPE", no_sigpipe},
    {NULL, NULL},
};
