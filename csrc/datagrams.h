/* SPDX-License-Identifier: MIT */
/*
 * datagrams.h - what the files of the datagram table share; not installed
 */
#ifndef SOCKBUF_DATAGRAMS_H
#define SOCKBUF_DATAGRAMS_H

#include "base.h"

#include <netinet/in.h>
#include <sys/un.h>

/* ---- datagram_control.c: IP_PKTINFO and IPV6_PKTINFO */

enum { SB__CONTROL_BYTES = 96 }; /* CMSG_SPACE of a struct in6_pktinfo and of a struct in_pktinfo: 40 and 32 */

typedef union sb__control {
    size_t aligned; /* as a struct cmsghdr, which ends in a flexible array and so cannot be a member in ISO C */
    char bytes[SB__CONTROL_BYTES];
} sb__control;

/* Write the control data of an answer, by that of the datagram; returns its bytes, 0: the kernel chooses. */
size_t sb__control_answer(const char *control, size_t size, sb__control *answer);

/* ---- datagram_hosts.c: what the caller has said of senders */

enum { SB__HOSTS = 1024 }; /* a power of two */

typedef struct sb__hosts {
    struct {
        unsigned char address[16];
        unsigned char verdict;
    } known[SB__HOSTS];
    unsigned char suspects[65536 / 8]; /* a bit for each port */
    int admits_all;
} sb__hosts;

int sb__hosts_verdict(const sb__hosts *hosts, const char *name, size_t size);
void sb__hosts_judge(sb__hosts *hosts, const char *name, size_t size, int verdict);
void sb__hosts_forget(sb__hosts *hosts, int admits_all);
void sb__hosts_suspect(sb__hosts *hosts, uint16_t port);

#endif
