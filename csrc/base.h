/* SPDX-License-Identifier: MIT */
/*
 * base.h - what the multiplexer and the relay have in common; not installed
 *
 *   slots.c     the places of a table, and ids that reach nobody else
 *   wheel.c     deadlines of many
 *   sources.c   how many connections are open from where
 *   accept.c    how a descriptor comes in
 *   datagrams.c datagram_hosts.c datagram_control.c    many datagrams of one socket
 */
#ifndef SOCKBUF_BASE_H
#define SOCKBUF_BASE_H

#include "system.h"
#include "slots.h"
#include "sockmux.h"
#include "wheel.h"

static inline int sb__reason_or(int reason, int otherwise)
{
    return reason > SB_REASON_NONE && reason < SB_REASONS ? reason : otherwise;
}

static inline int64_t sb__lesser(int64_t number, int64_t max)
{
    return number < max ? number : max;
}

int sb__is_name(const char *peer, size_t size); /* a sockaddr_in or sockaddr_in6, or none */

/* The address of a struct sockaddr_in or sockaddr_in6 in 16 bytes, an IPv4 one as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2);
 * 0: it is neither. */
int sb__host(const char *name, size_t size, unsigned char *host);

/* Accept one descriptor, non-blocking; or, for *stopped, an errno: the queue is empty, or nothing can be accepted;
 * or one connection was lost on the way, which costs only that one. */
enum { SB_NOBODY = -1, SB_LOST = -2 };
int sb__accept(int listener, struct sockaddr_storage *peer, socklen_t *size, int *stopped);

/* Count it by its source: 1, or 0 without a table of sources; < 0: above the limit, and it is closed. */
int sb__enters(sb_sources *sources, int fd, const struct sockaddr_storage *peer, socklen_t size);

#endif
