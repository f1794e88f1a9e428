/* SPDX-License-Identifier: MIT */
/*
 * address.h - the addresses of the bench's C programs, written as sockd writes them:
 * tcp://127.0.0.1:7000 (numeric IPv4, port 0 for one the kernel chooses) and unix:/path.
 */
#ifndef BENCH_ADDRESS_H
#define BENCH_ADDRESS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

union address {
    struct sockaddr any;
    struct sockaddr_in tcp;
    struct sockaddr_un local;
};

/* Reads `text`. Returns the length that bind and connect want, or 0 when it is no address. */
static inline socklen_t address_parse(const char *text, union address *out)
{
    memset(out, 0, sizeof *out);
    if (strncmp(text, "unix:", 5) == 0) {
        size_t length = strlen(text + 5);
        if (length == 0 || length >= sizeof out->local.sun_path)
            return 0;
        out->local.sun_family = AF_UNIX;
        memcpy(out->local.sun_path, text + 5, length + 1);
        return (socklen_t)sizeof out->local;
    }
    char host[INET_ADDRSTRLEN], rest;
    unsigned port;
    if (sscanf(text, "tcp://%15[0-9.]:%u%c", host, &port, &rest) != 2 || port > 65535)
        return 0;
    out->tcp.sin_family = AF_INET;
    out->tcp.sin_port = htons((in_port_t)port);
    return inet_pton(AF_INET, host, &out->tcp.sin_addr) == 1 ? (socklen_t)sizeof out->tcp : 0;
}

/* Sends small lines at once; without it Nagle and delayed ACK add 40 ms. Nothing to do on a Unix socket. */
static inline void address_set_nodelay(int fd, const union address *address)
{
    if (address->any.sa_family == AF_INET)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

#endif
