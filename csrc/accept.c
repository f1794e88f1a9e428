/* SPDX-License-Identifier: MIT */
/*
 * accept - how a descriptor comes in
 *
 * DESCRIPTION
 *   An error that belongs to one connection (ECONNABORTED, EPROTO, EPERM and kin)
 *   passes it over; one that belongs to the system is told.  accept(2).
 */
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

int sb__is_name(const char *peer, size_t size)
{
    struct sockaddr head = {.sa_family = AF_UNSPEC};
    if (size == 0)
        return 1;
    if (size != sizeof(struct sockaddr_in) && size != sizeof(struct sockaddr_in6))
        return 0;
    memcpy(&head, peer, sizeof head);
    return head.sa_family == (size == sizeof(struct sockaddr_in) ? AF_INET : AF_INET6);
}

static int accept_one(int listener, struct sockaddr_storage *peer, socklen_t *size)
{
#if SB_HAS_ACCEPT4
    return accept4(listener, (struct sockaddr *)peer, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    int fd = accept(listener, (struct sockaddr *)peer, size);
    if (fd >= 0 && (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
#endif
}

static int is_none_waiting(int error)
{
#if EWOULDBLOCK != EAGAIN
    if (error == EWOULDBLOCK)
        return 1;
#endif
    return error == EAGAIN;
}

/* Whether accept(2) failed for want of descriptors or memory. */
static int is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

int sb__accept(int listener, struct sockaddr_storage *peer, socklen_t *size, int *stopped)
{
    peer->ss_family = AF_UNSPEC;
    *size = sizeof *peer;
    int fd = accept_one(listener, peer, size);
    if (fd >= 0)
        return fd;
    if (is_none_waiting(errno))
        return SB_NOBODY;
    if (is_shortage(errno) || errno == EBADF || errno == EINVAL || errno == ENOTSOCK) {
        *stopped = errno;
        return SB_NOBODY;
    }
    return SB_LOST; /* ECONNABORTED, EPROTO, EPERM and kin */
}

int sb__enters(sb_sources *sources, int fd, const struct sockaddr_storage *peer, socklen_t size)
{
    int counted = sources == NULL ? 0 : sb_sources_enter(sources, (const char *)peer, size);
    if (counted < 0)
        close(fd);
    return counted;
}
