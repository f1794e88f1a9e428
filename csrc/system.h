/* SPDX-License-Identifier: MIT */
/*
 * system.h - what the system and the compiler have; not installed
 *
 *   Everything that is not in C11 and POSIX.1-2008 is asked for here and nowhere else.
 *   Each name is 1 or 0, and -DSB_HAS_EPOLL=0 and so on takes one away, by which
 *   `make check-features` tries the way that goes without.
 */
#ifndef SOCKBUF_SYSTEM_H
#define SOCKBUF_SYSTEM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* accept4, splice, pipe2, recvmmsg; other systems ignore it */
#endif

#include <stddef.h> /* with glibc and musl this says which of them it is */
#include <sys/mman.h>
#include <sys/socket.h>

#ifndef SB_HAS_EPOLL /* epoll(7): else the caller reports readiness */
#ifdef __linux__
#define SB_HAS_EPOLL 1
#else
#define SB_HAS_EPOLL 0
#endif
#endif

#ifndef SB_HAS_SPLICE /* splice(2), F_SETPIPE_SZ: else a relay copies */
#ifdef __linux__
#define SB_HAS_SPLICE 1
#else
#define SB_HAS_SPLICE 0
#endif
#endif

#ifndef SB_HAS_ACCEPT4 /* accept4(2): else accept(2) and fcntl(2) */
#if defined(__linux__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__)
#define SB_HAS_ACCEPT4 1
#else
#define SB_HAS_ACCEPT4 0
#endif
#endif

#ifndef SB_HAS_MMSG /* recvmmsg(2), sendmmsg(2): else a call for each datagram */
#ifdef __linux__
#define SB_HAS_MMSG 1
#else
#define SB_HAS_MMSG 0
#endif
#endif

#ifndef SB_HAS_NOSIGNAL /* MSG_NOSIGNAL: else SIGPIPE is blocked around each send */
#ifdef MSG_NOSIGNAL
#define SB_HAS_NOSIGNAL 1
#else
#define SB_HAS_NOSIGNAL 0
#endif
#endif

#ifndef SB_HAS_CPU_FEATURES /* <sys/platform/x86.h>, glibc 2.33: else the compiler's __builtin_cpu_supports */
#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 33)
#define SB_HAS_CPU_FEATURES 1
#endif
#endif
#endif
#ifndef SB_HAS_CPU_FEATURES
#define SB_HAS_CPU_FEATURES 0
#endif

#ifndef SB_HAS_VECTORS /* SSE2, AVX2, NEON: else eight bytes in a word */
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__) || defined(__aarch64__))
#define SB_HAS_VECTORS 1
#else
#define SB_HAS_VECTORS 0
#endif
#endif

#if !defined(MAP_ANONYMOUS) && defined(MAP_ANON)
#define MAP_ANONYMOUS MAP_ANON
#endif

#endif
