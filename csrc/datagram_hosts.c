/* SPDX-License-Identifier: MIT */
/*
 * datagram_hosts - verdicts on senders, by host and port
 *
 * DESCRIPTION
 *   A cache with one place for each hash: a host that another one displaces is judged again.  So whoever forges
 *   addresses costs the caller's time for each of them and nothing else.
 */
#include "datagrams.h"

#include <string.h>

static size_t host_place(const unsigned char *address)
{
    uint64_t half[2];
    memcpy(half, address, sizeof half);
    uint64_t hash = (half[0] * UINT64_C(0x9e3779b97f4a7c15)) ^ half[1];
    hash = (hash ^ hash >> 32) * UINT64_C(0xbf58476d1ce4e5b9); /* a step of splitmix64 */
    return (size_t)(hash >> 32) & (SB__HOSTS - 1);
}

/* Of both families it stands behind the family. */
static unsigned port_of(const char *name)
{
    const unsigned char *port = (const unsigned char *)name + offsetof(struct sockaddr_in, sin_port);
    return (unsigned)port[0] << 8 | port[1];
}

int sb__hosts_verdict(const sb__hosts *hosts, const char *name, size_t size)
{
    unsigned char address[16];
    if (!sb__host(name, size, address))
        return SB_SENDER_ADMITTED;
    unsigned port = port_of(name);
    size_t place = host_place(address);
    int is_known = hosts->known[place].verdict && memcmp(hosts->known[place].address, address, sizeof address) == 0;
    int verdict = is_known ? hosts->known[place].verdict : hosts->admits_all ? SB_SENDER_ADMITTED : SB_SENDER_UNKNOWN;
    int is_suspect = hosts->suspects[port / 8] >> port % 8 & 1;
    return verdict == SB_SENDER_ADMITTED && is_suspect ? SB_SENDER_UNKNOWN : verdict;
}

void sb__hosts_judge(sb__hosts *hosts, const char *name, size_t size, int verdict)
{
    unsigned char address[16];
    if (!sb__host(name, size, address))
        return;
    size_t place = host_place(address);
    memcpy(hosts->known[place].address, address, sizeof address);
    hosts->known[place].verdict = (unsigned char)verdict;
}

void sb__hosts_forget(sb__hosts *hosts, int admits_all)
{
    memset(hosts->known, 0, sizeof hosts->known);
    hosts->admits_all = admits_all;
}

void sb__hosts_suspect(sb__hosts *hosts, uint16_t port)
{
    hosts->suspects[port / 8] |= (unsigned char)(1 << port % 8);
}
