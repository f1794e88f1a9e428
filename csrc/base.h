/* SPDX-License-Identifier: MIT */
/*
 * base.h - what the multiplexer and the relay have in common; not installed
 *
 *   slots.c     the places of a table, and ids that reach nobody else
 *   wheel.c     deadlines of many
 *   sources.c   how many connections are open from where
 *   accept.c    how a descriptor comes in
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

static inline int64_t sb__lesser(int64_t number, int64_t most)
{
    return number < most ? number : most;
}

int sb__is_name(const char *peer, size_t size); /* a sockaddr_in or sockaddr_in6, or none */

/* A descriptor, non-blocking; or nobody is there, or comes in any more, for *stopped, an errno;
 * or one was lost on the way, which is its own affair. */
enum { SB_NOBODY = -1, SB_LOST = -2 };
int sb__accept(int listener, struct sockaddr_storage *peer, socklen_t *size, int *stopped);

/* Count it where it comes from: 1, 0 where nobody counts; < 0: it is one too many, and is closed. */
int sb__enters(sb_sources *sources, int fd, const struct sockaddr_storage *peer, socklen_t size);

#endif
