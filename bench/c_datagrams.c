/* SPDX-License-Identifier: MIT */
/*
 * c_datagrams.c - the ceiling of datagrams: one recvfrom and one sendto for each.
 *
 *     c_datagrams PORT  upper | hear
 *
 * upper answers each datagram in upper case; hear answers none.  UDP on 127.0.0.1; what one thread can do at best
 * without rules, limits and a log.  It reads until nothing is left, then waits in epoll.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "generator.h"

#include <sys/epoll.h>

enum { ROOM = 65536 };

static void serve(int fd, bool answers)
{
    static char data[ROOM];
    struct sockaddr_in peer;
    for (;;) {
        socklen_t size = sizeof peer;
        ssize_t n = recvfrom(fd, data, sizeof data, MSG_DONTWAIT, (struct sockaddr *)&peer, &size);
        if (n < 0)
            return;
        for (ssize_t i = 0; i < n; i++)
            data[i] = (char)(data[i] - ((unsigned char)(data[i] - 'a') < 26 ? 32 : 0));
        if (answers && sendto(fd, data, (size_t)n, MSG_DONTWAIT, (const struct sockaddr *)&peer, size) < 0 && errno != EAGAIN)
            die("sendto");
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: c_datagrams PORT upper|hear\n");
        return 64;
    }
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    name.sin_port = htons((in_port_t)number(argv[1], 1, 65535));
    bool answers = strcmp(argv[2], "upper") == 0;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("bind");
    while (epoll_wait(poll, &event, 1, -1) >= 0 || errno == EINTR)
        serve(fd, answers);
    die("epoll_wait");
}
