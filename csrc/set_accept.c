/*
 * set_accept - how a connection begins
 *
 * DESCRIPTION
 *   A batch of accept(2), each connection into a row.  An error that belongs to
 *   one connection (ECONNABORTED, EPROTO, EPERM and kin) passes it over; one
 *   that belongs to the system stops the batch and is told.  Who is past the limit
 *   of his source is closed.
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

void sb_set_keep_rows(sb_set *set, int32_t rows)
{
    set->kept_rows = rows;
}

int sb__has_room(const sb_set *set, int group)
{
    int32_t kept = set->groups[group].flags & SB_GROUP_KEPT ? 0 : set->kept_rows;
    return set->counts.connections < set->slots.size - kept;
}

int sb__enter(sb_set *set, int fd, int group, struct row **entered)
{
    if (fd < 0 || !sb__is_group(set, group))
        return SB_ERR_INVALID;
    int32_t number = sb__has_room(set, group) ? sb__slot_take(&set->slots) : -1;
    if (number < 0)
        return SB_ERR_FULL;
    struct row *row = &set->rows[number];
    uint8_t listed = row->flags & FLAG_CHANGED;
    uint8_t again = row->again & AGAIN_LISTED;
    *row = (struct row){.fd = fd, .slot = row->slot, .group = (uint16_t)group, .state = ROW_OPEN, .flags = listed, .again = again};
    row->hook.slot = -1;
    row->opened_ms = row->moved_ms = set->now_ms;
    int64_t high = set->groups[group].high_water;
    row->high = high > INT32_MAX ? INT32_MAX : (int32_t)high;
    row->low = row->high / 4;
    if (start(set, row) < 0) {
        row->state = ROW_FREE;
        sb__slot_free(&set->slots, number);
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
    if (peer_size > 0 && sb__is_name((const char *)peer, peer_size)) {
        memcpy(row->peer, peer, peer_size);
        row->peer_size = (uint8_t)peer_size;
    }
    set->tallies[group].ended.came++;
    sb__deadline_sooner(set, row);
    if (set->groups[group].flags & SB_GROUP_ANNOUNCE)
        sb__event(set, SB_EVENT_ACCEPTED, row, 0);
    return row->slot.id;
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

int sb_set_peer(sb_set *set, int id, const char *peer, size_t size)
{
    struct row *row = sb__row(set, id);
    if (row == NULL || !sb__is_name(peer, size))
        return SB_ERR_LIMIT;
    sb__leave_source(set, row); /* of which it is not any more */
    if (size > 0)
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

int sb__enters(sb_sources *sources, int fd, const struct sockaddr_storage *peer, socklen_t size)
{
    int counted = sources == NULL ? 0 : sb_sources_enter(sources, (const char *)peer, size);
    if (counted < 0)
        close(fd);
    return counted;
}

int sb_set_accept(sb_set *set, int listener, int group, int most, int *stopped)
{
    int came = 0;
    if (!sb__is_group(set, group))
        return SB_ERR_INVALID;
    *stopped = 0;
    sb_sources *sources = set->tallies[group].sources;
    sb__now(set);
    for (int i = 0; i < most; i++) {
        if (!sb__has_room(set, group)) {
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
        int counted = sb__enters(sources, fd, &peer, size);
        if (counted < 0)
            continue;
        int id = add(set, fd, group, &peer, size);
        if (id < 0) {
            *stopped = set->error;
            close(fd);
            if (counted)
                sb_sources_leave(sources, (const char *)&peer, size);
            break;
        }
        sb__row_of(set, id)->again |= counted ? AGAIN_COUNTED : 0;
        came++;
    }
    return came;
}
