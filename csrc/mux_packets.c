/* SPDX-License-Identifier: MIT */
/*
 * mux_packets - sockets that keep packets apart (SOCK_SEQPACKET of unix(7))
 *
 * DESCRIPTION
 *   A packet is given the prefix of its group's framing as it comes in, and loses it
 *   as it leaves: so to all others these are connections of frames with a prefix,
 *   also to the process that a connection moves to.
 *
 *   A packet comes whole or never: what there is no room for is lost.  So room is
 *   made for the longest that the framing allows, and one that is longer says so in
 *   its prefix, and is found too long as every such frame is.
 */
#include "mux.h"

#include <errno.h>

/* With credentials (SO_PASSCRED) a packet of 0 bytes has something with it, and an end of file has not.  This is said of
 * each socket: whether one inherits it depends on when its peer has connected. */
void sb__begin_packets(struct row *row)
{
#ifdef SO_PASSCRED
    int on = 1;
    (void)setsockopt(row->fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
#endif
    row->again |= AGAIN_FILTERED;
}

static void put_prefix(char *prefix, size_t size)
{
    for (int i = SB_PACKET_PREFIX - 1; i >= 0; i--, size >>= 8)
        prefix[i] = (char)(size & 0xff);
}

static size_t read_prefix(const char *prefix)
{
    size_t size = 0;
    for (int i = 0; i < SB_PACKET_PREFIX; i++)
        size = size << 8 | (unsigned char)prefix[i];
    return size;
}

/* Receive one behind its prefix.  Returns the bytes of both that are there, or as sb_receive. */
static long receive_one(sb_mux *mux, struct row *row, char *data, size_t room)
{
    long n = sb__receive_packet(row->fd, data + SB_PACKET_PREFIX, room, 0);
    if (n < 0)
        return n;
    put_prefix(data, (size_t)n);
    row->received += n;
    row->moved_ms = mux->now_ms;
    return SB_PACKET_PREFIX + ((size_t)n < room ? n : (long)room);
}

/* The arena has no room for it, but a buffer of its own. */
static void receive_packet_in_buffer(sb_mux *mux, struct row *row, size_t size)
{
    int code;
    char *data;
    row->in = sb__lend(mux, SB_PACKET_PREFIX + size, &code);
    if (row->in == NULL) {
        sb__kill(mux, row, SB_REASON_LIMIT, 0);
        return;
    }
    (void)sb__room(mux, &row->in, SB_PACKET_PREFIX + size, &data); /* it was lent with that */
    long n = receive_one(mux, row, data, size);
    if (n < 0) {
        sb__drop_tail(mux, row);
        sb__receive_failed(mux, row, n);
        return;
    }
    sb_buffer_commit(row->in, (size_t)n);
    row->framing_ms = mux->now_ms;
    sb__frame_buffer(mux, row);
    if (row->in != NULL) /* it is too long, and whoever is told has not closed it yet */
        sb__deadline_sooner(mux, row);
}

void sb__receive_framed(sb_mux *mux, struct row *row)
{
    size_t limit = sb__framing_of(mux, row)->limit;
    long size = limit <= SB_RECEIVE ? (long)limit : sb__receive_packet(row->fd, NULL, 0, MSG_PEEK);
    if (size > SB_RECEIVE) {
        receive_packet_in_buffer(mux, row, (size_t)size < limit ? (size_t)size : limit);
        return;
    }
    long n = size < 0 ? size : receive_one(mux, row, mux->arena + mux->arena_used, (size_t)size);
    if (n < 0)
        sb__receive_failed(mux, row, n);
    else
        sb__frame_arena(mux, row, 0, (size_t)n);
}

long sb__send_packets(struct row *row, const char *data, size_t size)
{
    size_t gone = 0;
    while (size - gone >= SB_PACKET_PREFIX) {
        size_t length = read_prefix(data + gone);
        if (length > size - gone - SB_PACKET_PREFIX)
            break;
        long n = sb_send(row->fd, data + gone + SB_PACKET_PREFIX, length);
        if (n < 0)
            return gone > 0 ? (long)gone : n; /* the next call is told as well */
        row->sent += n;
        gone += SB_PACKET_PREFIX + length;
    }
    errno = EINVAL; /* it is no frame, or not all of one: the caller's mistake */
    return gone > 0 ? (long)gone : SB_ERR_FAULT;
}
