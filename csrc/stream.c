/* SPDX-License-Identifier: MIT */
/*
 * stream - one descriptor, one system call
 *
 * DESCRIPTION
 *   errno sorted into what a caller does about it.  recv(2), send(2).
 *
 *   A descriptor may also be what inetd or a shell handed over: a pipe, a
 *   terminal, a file.  recv(2) says ENOTSOCK there.  read(2) and write(2) have
 *   no flag for not waiting, so poll(2) is asked first, and a blocking descriptor
 *   is given no more than PIPE_BUF bytes, which POLLOUT promises a pipe can take.
 *
 * BUGS
 *   Two readers of one blocking pipe: poll(2) may say yes to both, and one waits.
 *   A regular file is always ready, however slow its disk.
 */
#include "system.h"
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    PIECES = 64, /* handed to the kernel in one call; POSIX allows 16 at least, Linux and BSD 1024 */
#ifdef PIPE_BUF
    PIPE_ROOM = PIPE_BUF /* what a writable pipe takes without waiting */
#else
    PIPE_ROOM = 512 /* _POSIX_PIPE_BUF */
#endif
};

int sb__class_of(int error)
{
    if (error == EAGAIN || error == EINTR)
        return SB_ERR_AGAIN;
#if EWOULDBLOCK != EAGAIN
    if (error == EWOULDBLOCK)
        return SB_ERR_AGAIN;
#endif
    switch (error) {
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
    case ENOTCONN:
        return SB_ERR_RESET;
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case ENETRESET:
#ifdef EHOSTDOWN
    case EHOSTDOWN:
#endif
        return SB_ERR_UNREACHABLE;
    default:
        return SB_ERR_FAULT;
    }
}

/* Whether a call on fd would not wait.  1, or -1 with errno. */
static int is_ready(int fd, short events)
{
    struct pollfd ready = {.fd = fd, .events = events};
    int n = poll(&ready, 1, 0);
    if (n == 0)
        errno = EAGAIN;
    return n > 0 ? 1 : -1;
}

static size_t at_most(size_t size)
{
    return size > LONG_MAX ? LONG_MAX : size;
}

long sb_receive(int fd, char *room, size_t size)
{
    if (size == 0)
        return SB_ERR_INVALID; /* recv(2) would say 0, as at the end */
    ssize_t n = recv(fd, room, at_most(size), MSG_DONTWAIT);
    if (n < 0 && errno == ENOTSOCK)
        n = is_ready(fd, POLLIN) < 0 ? -1 : read(fd, room, at_most(size));
    if (n > 0)
        return (long)n;
    return n == 0 ? SB_ERR_END : sb__class_of(errno);
}

long sb__receive_two(int fd, char *room, size_t size, char *more, size_t more_size)
{
    struct iovec rooms[2] = {{.iov_base = room, .iov_len = size}, {.iov_base = more, .iov_len = more_size}};
    struct msghdr message = {.msg_iov = rooms, .msg_iovlen = 2};
    ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);
    if (n < 0 && errno == ENOTSOCK)
        n = is_ready(fd, POLLIN) < 0 ? -1 : readv(fd, rooms, 2);
    if (n > 0)
        return (long)n;
    return n == 0 ? SB_ERR_END : sb__class_of(errno);
}

long sb__receive_packet(int fd, char *room, size_t size, int flags)
{
    struct iovec one = {.iov_base = room, .iov_len = size};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1};
    ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_TRUNC | flags);
    if (n > 0 || (n == 0 && message.msg_flags & MSG_CTRUNC))
        return (long)n;
    return n == 0 ? SB_ERR_END : sb__class_of(errno);
}

size_t sb__waiting(int fd)
{
    int waiting = 0;
    char byte;
    if (ioctl(fd, FIONREAD, &waiting) >= 0)
        return (size_t)waiting;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0; /* a vsock of Linux before 6.17 does not tell how much */
}

int sb__has_come(int fd)
{
    return is_ready(fd, POLLIN) > 0; /* recv(2) with MSG_PEEK would take an error away */
}

/* SIGPIPE is blocked in this thread.  One that is raised meanwhile is for this thread
 * alone and is taken back; one that was pending before stays. */
struct quiet {
    sigset_t before;
    int was_pending;
};

static struct quiet begin_quiet(void)
{
    struct quiet quiet;
    sigset_t pipe_only, pending;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigemptyset(&pending);
    sigpending(&pending);
    quiet.was_pending = sigismember(&pending, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &quiet.before);
    return quiet;
}

/* n and errno are what the call said, and stay so. */
static ssize_t end_quiet(const struct quiet *quiet, ssize_t n)
{
    int error = errno, number;
    if (n < 0 && error == EPIPE && !quiet->was_pending) {
        sigset_t pipe_only, pending;
        sigemptyset(&pipe_only);
        sigaddset(&pipe_only, SIGPIPE);
        sigpending(&pending); /* it is not, where ignored data is dropped */
        if (sigismember(&pending, SIGPIPE))
            sigwait(&pipe_only, &number);
    }
    pthread_sigmask(SIG_SETMASK, &quiet->before, NULL);
    errno = error;
    return n;
}

static ssize_t write_quietly(int fd, const char *data, size_t size)
{
    struct quiet quiet = begin_quiet();
    return end_quiet(&quiet, write(fd, data, size));
}

#if SB_HAS_NOSIGNAL
static ssize_t send_quietly(int fd, const char *data, size_t size)
{
    return send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t gather_quietly(int fd, const struct msghdr *message)
{
    return sendmsg(fd, message, MSG_DONTWAIT | MSG_NOSIGNAL);
}
#else
static ssize_t send_quietly(int fd, const char *data, size_t size)
{
    struct quiet quiet = begin_quiet();
    return end_quiet(&quiet, send(fd, data, size, MSG_DONTWAIT));
}

static ssize_t gather_quietly(int fd, const struct msghdr *message)
{
    struct quiet quiet = begin_quiet();
    return end_quiet(&quiet, sendmsg(fd, message, MSG_DONTWAIT));
}
#endif

ssize_t sb__send_message(int fd, const struct msghdr *message)
{
    return gather_quietly(fd, message);
}

static ssize_t write_now(int fd, const char *data, size_t size)
{
    if (fcntl(fd, F_GETFL) & O_NONBLOCK) /* -1 too: write(2) says the same about the descriptor */
        return write_quietly(fd, data, at_most(size));
    if (is_ready(fd, POLLOUT) < 0)
        return -1;
    return write_quietly(fd, data, size < PIPE_ROOM ? size : PIPE_ROOM);
}

long sb_send(int fd, const char *data, size_t size)
{
    ssize_t n = send_quietly(fd, data, at_most(size));
    if (n < 0 && errno == ENOTSOCK)
        n = write_now(fd, data, size);
    return n >= 0 ? (long)n : sb__class_of(errno);
}

long sb_send_gather(int fd, const sb_piece *pieces, size_t count)
{
    struct iovec vector[PIECES];
    struct msghdr message = {.msg_iov = vector};
    size_t n = 0, first = 0;
    for (size_t i = 0; i < count && n < PIECES; i++) {
        if (pieces[i].size == 0)
            continue;
        first = n == 0 ? i : first;
        vector[n++] = (struct iovec){.iov_base = (void *)(uintptr_t)pieces[i].data, .iov_len = pieces[i].size};
    }
    if (n == 0)
        return 0;
    message.msg_iovlen = (unsigned char)n; /* an int with musl, a size_t with glibc */
    ssize_t sent = gather_quietly(fd, &message);
    if (sent < 0 && errno == ENOTSOCK)
        sent = write_now(fd, pieces[first].data, pieces[first].size);
    return sent >= 0 ? (long)sent : sb__class_of(errno);
}
