/*
 * stream - one descriptor, one system call
 *
 * DESCRIPTION
 *   errno sorted into what a caller does about it.  recv(2), send(2).
 */
#include "sockbuf.h"

#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/types.h>

static int class_of(int error)
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

long sb_receive(int fd, char *room, size_t size)
{
    ssize_t n = recv(fd, room, size > LONG_MAX ? LONG_MAX : size, MSG_DONTWAIT);
    if (n > 0)
        return (long)n;
    return n == 0 ? SB_ERR_END : class_of(errno);
}

long sb_send(int fd, const char *data, size_t size)
{
    ssize_t n = send(fd, data, size > LONG_MAX ? LONG_MAX : size, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n >= 0 ? (long)n : class_of(errno);
}
