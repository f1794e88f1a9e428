/*
 * set_accept - how a connection begins
 *
 * DESCRIPTION
 *   A batch of accept(2), each connection into a row.  An error that belongs to
 *   one connection (ECONNABORTED, EPROTO, EPERM and kin) passes it over; one
 *   that belongs to the system stops the batch and is told.
 */
#include "set.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

/* ---- birth */

static struct row *new_row(sb_set *set)
{
    if (set->free_rows >= 0) {
        struct row *row = &set->rows[set->free_rows];
        set->free_rows = row->next;
        return row;
    }
    return set->rows_used < set->rows_size ? &set->rows[set->rows_used++] : NULL;
}

static void forget_row(sb_set *set, struct row *row)
{
    row->state = ROW_FREE;
    row->next = set->free_rows;
    set->free_rows = (int32_t)(row - set->rows);
}

static int start(sb_set *set, struct row *row)
{
    row->interest = 0;
    if (set->epoll < 0) {
        sb__update_interest(set, row);
        return 0;
    }
#ifdef __linux__
    row->interest = SB_READ;
    if (sb__tell_epoll(set, row, EPOLL_CTL_ADD, SB_READ) < 0) {
        set->error = errno;
        return SB_ERR_FAULT;
    }
#endif
    return 0;
}

int sb__enter(sb_set *set, int fd, int group, struct row **entered)
{
    struct row *row = new_row(set);
    if (row == NULL)
        return SB_ERR_FULL;
    uint8_t listed = row->flags & FLAG_CHANGED;
    uint8_t again = row->again & AGAIN_LISTED;
    *row = (struct row){.fd = fd, .group = (uint16_t)group, .state = ROW_OPEN, .flags = listed, .again = again};
    row->slot = -1;
    row->next = -1;
    row->opened_ms = row->moved_ms = set->now_ms;
    int64_t high = set->groups[group].high_water;
    row->high = high > INT32_MAX ? INT32_MAX : (int32_t)high;
    row->low = row->high / 4;
    if (start(set, row) < 0) {
        forget_row(set, row);
        return SB_ERR_FAULT;
    }
    set->counts.connections++;
    *entered = row;
    return 0;
}

static int add(sb_set *set, int fd, int group, const struct sockaddr_storage *peer, socklen_t peer_size)
{
    struct row *row;
    int code = sb__enter(set, fd, group, &row);
    if (code < 0)
        return code;
    if (peer_size <= sizeof row->peer && peer->ss_family != AF_UNIX) {
        memcpy(row->peer, peer, peer_size);
        row->peer_size = (uint8_t)peer_size;
    }
    set->tallies[group].ended.came++;
    sb__deadline_sooner(set, row);
    int id = (int)(row - set->rows);
    if (set->groups[group].flags & SB_GROUP_ANNOUNCE)
        sb__event(set, SB_EVENT_ACCEPTED, id, 0);
    return id;
}

int sb_set_add(sb_set *set, int fd, int group)
{
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &size) < 0)
        size = 0;
    sb__now(set);
    return add(set, fd, group, &peer, size);
}

int sb_set_peer(sb_set *set, int id, const char *peer, size_t size)
{
    struct row *row = sb__row(set, id);
    if (row == NULL || size > sizeof row->peer)
        return SB_ERR_LIMIT;
    memcpy(row->peer, peer, size);
    row->peer_size = (uint8_t)size;
    return 0;
}

static int accept_one(int listener, struct sockaddr_storage *peer, socklen_t *size)
{
#ifdef SOCK_NONBLOCK
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

int sb_set_accept(sb_set *set, int listener, int group, int most, int *stopped)
{
    int came = 0;
    *stopped = 0;
    sb__now(set);
    for (int i = 0; i < most; i++) {
        if (set->counts.connections == set->rows_size) {
            *stopped = SB_ERR_FULL;
            break;
        }
        struct sockaddr_storage peer;
        socklen_t size;
        int fd = sb__accept(listener, &peer, &size, stopped);
        if (fd == SB_NOBODY) {
            set->error = *stopped != 0 ? *stopped : set->error;
            break;
        }
        if (fd == SB_LOST)
            continue;
        if (add(set, fd, group, &peer, size) < 0) {
            *stopped = set->error;
            close(fd);
            break;
        }
        came++;
    }
    return came;
}
