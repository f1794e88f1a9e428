/* SPDX-License-Identifier: MIT */
/*
 * datagrams.c - the load generator of datagrams.
 *
 *     datagrams ask   PORT SERVER-PID SOCKETS SECONDS    each socket asks, and again when its answer has come
 *     datagrams flood PORT SERVER-PID COUNT RATE         COUNT datagrams, RATE a second; 0: as fast as they leave
 *
 * Datagrams have 32 bytes.  Every answer is compared with the one that it must be; one that does not come within 0.1 s
 * is lost, and its socket asks again.  One line of JSON.  What a flood has lost is the kernel's to say (/proc/net/udp).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "generator.h"

#include <sys/epoll.h>

enum { LENGTH = 32, MAX_SOCKETS = 1024, LOST_AFTER_MS = 100 };

static int fds[MAX_SOCKETS];
static uint64_t asked[MAX_SOCKETS];

static int connected(in_port_t port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof name) < 0)
        die("connect");
    return fd;
}

static void text_of(size_t i, char letter, char *text)
{
    memset(text, letter, LENGTH);
    snprintf(text, LENGTH, "%010zu%010llu", i, (unsigned long long)asked[i]);
    text[20] = letter;
    text[LENGTH - 1] = '\n';
}

static void ask(size_t i)
{
    char text[LENGTH];
    asked[i]++;
    text_of(i, 'x', text);
    if (send(fds[i], text, LENGTH, 0) != LENGTH)
        die("send");
}

static bool is_answered(size_t i)
{
    char text[LENGTH + 1], want[LENGTH];
    ssize_t n = recv(fds[i], text, sizeof text, 0);
    if (n < 0 && errno != EAGAIN)
        die("recv");
    if (n < 0)
        return false;
    text_of(i, 'X', want);
    if (n != LENGTH || memcmp(text, want, LENGTH) != 0) {
        fprintf(stderr, "datagrams: a wrong answer: %.*s\n", (int)n, text);
        exit(1);
    }
    return true;
}

static void ask_all(in_port_t port, clockid_t server, size_t sockets, double seconds)
{
    struct epoll_event ready[MAX_SOCKETS];
    uint64_t answers = 0, lost = 0, wall = 0, own = 0, other = 0;
    int poll = epoll_create1(0);
    for (size_t i = 0; i < sockets; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = i};
        fds[i] = connected(port);
        if (epoll_ctl(poll, EPOLL_CTL_ADD, fds[i], &event) < 0)
            die("epoll_ctl");
        ask(i);
    }
    for (int is_measured = 0; is_measured < 2; is_measured++) { /* 0.3 s to become warm */
        wall = clock_ns(CLOCK_MONOTONIC), own = clock_ns(CLOCK_PROCESS_CPUTIME_ID), other = clock_ns(server);
        uint64_t end = wall + (uint64_t)((is_measured ? seconds : 0.3) * (double)SECOND_NS);
        for (answers = lost = 0; clock_ns(CLOCK_MONOTONIC) < end;) {
            int n = epoll_wait(poll, ready, MAX_SOCKETS, LOST_AFTER_MS);
            for (size_t i = 0; n == 0 && i < sockets; i++, lost++)
                ask(i);
            for (int k = 0; k < n; k++)
                if (is_answered(ready[k].data.u64))
                    ask(ready[k].data.u64), answers++;
        }
    }
    double took = (double)(clock_ns(CLOCK_MONOTONIC) - wall), used = (double)(clock_ns(server) - other);
    printf("{\"per_second\": %.1f, \"lost\": %llu, \"server_cpu\": %.3f, \"generator_cpu\": %.3f, \"cpu_us\": %.3f}\n",
           (double)answers * (double)SECOND_NS / took, (unsigned long long)lost, used / took,
           (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own) / took, used / 1000 / (double)answers);
}

static void flood(in_port_t port, clockid_t server, uint64_t count, double rate)
{
    int fd = connected(port);
    uint64_t begun = clock_ns(CLOCK_MONOTONIC), other = clock_ns(server);
    char text[LENGTH];
    text_of(0, 'x', text);
    for (uint64_t sent = 0; sent < count; sent++) {
        while (rate > 0 && (double)(clock_ns(CLOCK_MONOTONIC) - begun) < (double)sent / rate * (double)SECOND_NS)
            ;
        if (send(fd, text, LENGTH, 0) != LENGTH)
            die("send");
    }
    double took = (double)(clock_ns(CLOCK_MONOTONIC) - begun);
    usleep(300000); /* what waits is read */
    printf("{\"sent\": %llu, \"per_second\": %.1f, \"cpu_us\": %.3f}\n", (unsigned long long)count,
           (double)count * (double)SECOND_NS / took, (double)(clock_ns(server) - other) / 1000 / (double)count);
}

int main(int argc, char **argv)
{
    if (argc != 6 || (strcmp(argv[1], "ask") != 0 && strcmp(argv[1], "flood") != 0)) {
        fprintf(stderr, "usage: datagrams ask PORT SERVER-PID SOCKETS SECONDS | flood PORT SERVER-PID COUNT RATE\n");
        return 64;
    }
    in_port_t port = (in_port_t)number(argv[2], 1, 65535);
    clockid_t server = clock_of((pid_t)number(argv[3], 1, 1 << 22));
    if (strcmp(argv[1], "ask") == 0)
        ask_all(port, server, (size_t)number(argv[4], 1, MAX_SOCKETS), number(argv[5], 0, 3600));
    else
        flood(port, server, (uint64_t)number(argv[4], 1, 1e9), number(argv[5], 0, 1e9));
    return 0;
}
