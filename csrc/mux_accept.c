/* SPDX-License-Identifier: MIT */
/*
 * mux_accept - how a connection begins
 *
 * DESCRIPTION
 *   A batch of accept(2), each connection into a row.  An error that belongs to
 *   one connection (ECONNABORTED, EPROTO, EPERM and kin) passes it over; one
 *   that belongs to the system stops the batch and is told.  Who is past the limit
 *   of his source is closed.
 */
#include "mux.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>
#if SB_HAS_EPOLL
#include <sys/epoll.h>
#endif

/* ---- birth */

static int start(sb_mux *mux, struct row *row)
{
    row->interest = 0;
    if (mux->epoll < 0) {
        sb__update_interest(mux, row);
        return 0;
    }
#if SB_HAS_EPOLL
    row->interest = SB_READ;
    if (sb__set_epoll(mux, row, EPOLL_CTL_ADD, SB_READ) < 0) {
        mux->error = errno;
        return SB_ERR_FAULT;
    }
#endif
    return 0;
}

int sb_mux_keep_rows(sb_mux *mux, int32_t rows)
{
    SB_CHECKED(mux);
    if (mux == NULL || rows < 0)
        return SB_ERR_INVALID;
    mux->kept_rows = rows;
    return 0;
}

int sb__has_room(const sb_mux *mux, int group)
{
    int32_t kept = mux->groups[group].flags & SB_GROUP_KEPT ? 0 : mux->kept_rows;
    return mux->counts.connections < mux->slots.size - kept;
}

int sb__enter(sb_mux *mux, int fd, int group, struct row **entered)
{
    if (!sb__is_group(mux, group))
        return SB_ERR_GONE;
    if (fd < 0)
        return SB_ERR_INVALID;
    int32_t number = sb__has_room(mux, group) ? sb__slot_acquire(&mux->slots) : -1;
    if (number < 0)
        return SB_ERR_FULL;
    struct row *row = &mux->rows[number];
    uint8_t listed = row->flags & FLAG_CHANGED;
    uint8_t again = row->again & AGAIN_LISTED;
    *row = (struct row){.fd = fd, .slot = row->slot, .group = (uint16_t)group, .state = ROW_OPEN, .flags = listed, .again = again};
    row->hook.slot = -1;
    if (sb__has_packets(mux, row))
        sb__begin_packets(row);
    row->opened_ms = row->moved_ms = mux->now_ms;
    int64_t high = mux->groups[group].high_water;
    row->high = high > INT32_MAX ? INT32_MAX : (int32_t)high;
    row->low = row->high / 4;
    if (start(mux, row) < 0) {
        row->state = ROW_FREE;
        sb__slot_free(&mux->slots, number);
        return SB_ERR_FAULT;
    }
    mux->counts.connections++;
    *entered = row;
    return 0;
}

static int add(sb_mux *mux, int fd, int group, const struct sockaddr_storage *peer, socklen_t peer_size)
{
    struct row *row;
    int code = sb__enter(mux, fd, group, &row);
    if (code < 0)
        return code;
    if (peer_size > 0 && sb__is_name((const char *)peer, peer_size)) {
        memcpy(row->peer, peer, peer_size);
        row->peer_size = (uint8_t)peer_size;
    }
    mux->tallies[group].ended.came++;
    sb__deadline_sooner(mux, row);
    if (mux->groups[group].flags & SB_GROUP_ANNOUNCE)
        sb__event(mux, SB_EVENT_ACCEPTED, row, 0);
    return row->slot.id;
}

int sb_mux_add(sb_mux *mux, int fd, int group)
{
    SB_CHECKED(mux);
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof peer;
    if (mux == NULL)
        return SB_ERR_INVALID;
    if (getpeername(fd, (struct sockaddr *)&peer, &size) < 0)
        size = 0;
    sb__now(mux);
    return add(mux, fd, group, &peer, size);
}

int sb_mux_peer(sb_mux *mux, int id, const char *peer, size_t size)
{
    SB_CHECKED(mux);
    struct row *row = sb__row(mux, id);
    if (row == NULL)
        return SB_ERR_GONE;
    if (!sb__is_name(peer, size))
        return SB_ERR_INVALID;
    sb__leave_source(mux, row); /* of which it is not any more */
    if (size > 0)
        memcpy(row->peer, peer, size);
    row->peer_size = (uint8_t)size;
    return 0;
}

int sb_mux_accept(sb_mux *mux, int listener, int group, int max, int *stopped)
{
    SB_CHECKED(mux);
    int came = 0, unused;
    if (!sb__is_group(mux, group))
        return SB_ERR_GONE;
    stopped = stopped == NULL ? &unused : stopped;
    *stopped = 0;
    sb_sources *sources = mux->tallies[group].sources;
    sb__now(mux);
    for (int i = 0; i < max; i++) {
        if (!sb__has_room(mux, group)) {
            *stopped = SB_ERR_FULL;
            break;
        }
        struct sockaddr_storage peer;
        socklen_t size;
        int fd = sb__accept(listener, &peer, &size, stopped);
        if (fd == SB_NOBODY) {
            mux->error = *stopped != 0 ? *stopped : mux->error;
            break;
        }
        if (fd == SB_LOST)
            continue;
        int counted = sb__enters(sources, fd, &peer, size);
        if (counted < 0)
            continue;
        int id = add(mux, fd, group, &peer, size);
        if (id < 0) {
            *stopped = mux->error;
            close(fd);
            if (counted)
                sb_sources_leave(sources, (const char *)&peer, size);
            break;
        }
        sb__row_of(mux, id)->again |= counted ? AGAIN_COUNTED : 0;
        came++;
    }
    return came;
}
