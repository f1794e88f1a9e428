/* SPDX-License-Identifier: MIT */
/* kernel - sockets in memory; see kernel.h */
#define FUZZ_KERNEL
#include "kernel.h"
#include "peers.h"

#include <stdlib.h>
#include <string.h>

struct peer peers[PEERS];
int64_t kernel_now_ms;
static int waiting_to_be_accepted, used; /* the first so many */

enum { FIRST_FD = 1000, EPOLL = 999, LISTENER = 998, TABLES = 16 };

void kernel_reset(void)
{
    memset(peers, 0, (size_t)used * sizeof peers[0]);
    used = 0;
    kernel_now_ms = 1000000;
    waiting_to_be_accepted = 0;
}

int kernel_listener(void)
{
    return LISTENER;
}

static struct peer *peer_of(int fd)
{
    if (fd < FIRST_FD || fd >= FIRST_FD + PEERS || !peers[fd - FIRST_FD].is_open)
        abort(); /* the library uses a descriptor that is not open */
    return &peers[fd - FIRST_FD];
}

int kernel_socket(void)
{
    if (used == PEERS)
        return -1;
    peers[used].is_open = 1;
    return FIRST_FD + used++;
}

struct peer *kernel_peer(int fd)
{
    return &peers[fd - FIRST_FD];
}

void kernel_dial(void)
{
    waiting_to_be_accepted++;
}

/* A table is freed as often as it is made: by calls of the real system that was half of the time.  What is kept is
 * zeroed for the next, but for the arena, which is large and of which nothing is read that was not written. */
static struct kept {
    void *memory;
    size_t size;
} tables[TABLES];

enum { LARGE = 1 << 18 };

void *kernel_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    for (int i = 0; i < TABLES; i++)
        if (tables[i].memory != NULL && tables[i].size == size) {
            void *memory = tables[i].memory;
            tables[i].memory = NULL;
            return size < LARGE ? memset(memory, 0, size) : memory;
        }
    return mmap(at, size, protection, flags, fd, offset);
}

int kernel_munmap(void *memory, size_t size)
{
    for (int i = 0; i < TABLES; i++)
        if (tables[i].memory == NULL) {
            tables[i] = (struct kept){.memory = memory, .size = size};
            return 0;
        }
    return munmap(memory, size);
}

ssize_t kernel_recv(int fd, void *room, size_t size, int flags)
{
    struct peer *p = peer_of(fd);
    (void)flags;
    if (p->has_reset) {
        errno = ECONNRESET;
        return -1;
    }
    if (p->sent > p->read) {
        size_t n = p->sent - p->read < size ? p->sent - p->read : size;
        memcpy(room, p->said + p->read, n);
        p->read += n;
        return (ssize_t)n;
    }
    if (p->has_ended)
        return 0;
    errno = EAGAIN;
    return -1;
}

ssize_t kernel_recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t all = 0;
    for (size_t i = 0; i < (size_t)message->msg_iovlen; i++) {
        size_t size = message->msg_iov[i].iov_len;
        ssize_t n = size == 0 ? 0 : kernel_recv(fd, message->msg_iov[i].iov_base, size, flags);
        if (size > 0 && n <= 0)
            return all > 0 ? all : n;
        all += n;
        if ((size_t)n < size)
            break;
    }
    return all;
}

static size_t space(const struct peer *p)
{
    size_t kept = p->heard - p->taken;
    return kept < WINDOW ? WINDOW - kept : 0;
}

ssize_t kernel_send(int fd, const void *data, size_t size, int flags)
{
    struct peer *p = peer_of(fd);
    (void)flags;
    if (p->has_reset || p->is_shut) {
        errno = EPIPE;
        return -1;
    }
    size_t n = space(p) < size ? space(p) : size;
    if (n == 0 && size > 0) {
        errno = EAGAIN;
        return -1;
    }
    for (size_t i = 0; i < n; i++)
        p->sum = p->sum * 31 + ((const unsigned char *)data)[i];
    p->heard += n;
    return (ssize_t)n;
}

ssize_t kernel_sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t all = 0;
    for (size_t i = 0; i < (size_t)message->msg_iovlen; i++) {
        ssize_t n = kernel_send(fd, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len, flags);
        if (n < 0)
            return all > 0 ? all : -1;
        all += n;
        if ((size_t)n < message->msg_iov[i].iov_len)
            break;
    }
    return all;
}

int kernel_shutdown(int fd, int how)
{
    struct peer *p = peer_of(fd);
    (void)how;
    if (p->has_reset) {
        errno = ENOTCONN;
        return -1;
    }
    p->is_shut = 1;
    return 0;
}

int kernel_close(int fd)
{
    if (fd == EPOLL)
        return 0;
    struct peer *p = peer_of(fd);
    p->is_open = p->is_watched = 0;
    return 0;
}

static int is_readable(const struct peer *p)
{
    return p->sent > p->read || p->has_ended || p->has_reset;
}

static uint32_t events_of(const struct peer *p)
{
    uint32_t events = (is_readable(p) ? p->interest & EPOLLIN : 0) | (space(p) > 0 || p->has_reset ? p->interest & EPOLLOUT : 0);
    if (p->has_reset)
        events |= EPOLLHUP | EPOLLERR;
    else if (p->has_ended && p->is_shut)
        events |= EPOLLHUP;
    return events;
}

int kernel_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    (void)n, (void)timeout_ms;
    fds->revents = is_readable(peer_of(fds->fd)) ? POLLIN : 0;
    return fds->revents != 0;
}

int kernel_ioctl(int fd, unsigned long request, int *n)
{
    const struct peer *p = peer_of(fd);
    (void)request;
    *n = (int)(p->sent - p->read);
    return 0;
}

int kernel_setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    (void)peer_of(fd), (void)level, (void)name, (void)value, (void)size;
    return 0;
}

int kernel_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    const struct peer *p = peer_of(fd);
    (void)level, (void)name, (void)size;
    *(int *)value = p->has_reset ? ECONNRESET : 0;
    return 0;
}

int kernel_getpeername(int fd, struct sockaddr *peer, socklen_t *size)
{
    (void)peer_of(fd), (void)peer, (void)size;
    errno = ENOTCONN;
    return -1;
}

int kernel_accept4(int fd, struct sockaddr *peer, socklen_t *size, int flags)
{
    (void)fd, (void)flags;
    if (waiting_to_be_accepted == 0) {
        errno = EAGAIN;
        return -1;
    }
    waiting_to_be_accepted--;
    peer->sa_family = AF_UNIX;
    *size = sizeof peer->sa_family;
    int one = kernel_socket();
    if (one < 0)
        errno = EMFILE;
    return one;
}

int kernel_epoll_create1(int flags)
{
    (void)flags;
    return EPOLL;
}

int kernel_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    (void)epoll;
    if (fd == LISTENER)
        return 0;
    struct peer *p = peer_of(fd);
    if ((operation == EPOLL_CTL_ADD) == p->is_watched) {
        errno = p->is_watched ? EEXIST : ENOENT;
        return -1;
    }
    p->is_watched = operation != EPOLL_CTL_DEL;
    if (p->is_watched) {
        p->interest = event->events;
        p->data = event->data.u64;
    }
    return 0;
}

static int collect(struct epoll_event *ready, int max)
{
    int n = 0;
    for (int i = 0; i < used && n < max; i++)
        if (peers[i].is_open && peers[i].is_watched && events_of(&peers[i]) != 0) {
            ready[n].events = events_of(&peers[i]);
            ready[n++].data.u64 = peers[i].data;
        }
    return n;
}

int kernel_epoll_wait(int epoll, struct epoll_event *ready, int max, int timeout_ms)
{
    (void)epoll;
    int n = collect(ready, max);
    if (n == 0 && timeout_ms > 0)
        kernel_now_ms += timeout_ms;
    return n;
}

int kernel_clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    *now = (struct timespec){.tv_sec = (time_t)(kernel_now_ms / 1000), .tv_nsec = (long)(kernel_now_ms % 1000 * 1000000)};
    return 0;
}
