/* SPDX-License-Identifier: MIT */
/* Load for relays: clients on one side of it, the server on the other, both in this one process.
 *
 *     relay bulk|ping CONNECTIONS SECONDS SERVER_PORT RELAY_PORT [socks]
 *
 * socks: the relay is a SOCKS 5 server, which is asked for the server.
 * bulk: every client sends as fast as it can, the server throws away what comes, without copying it.
 * ping: every client has one message of 64 bytes on its way, which the server sends back; each is compared.
 * Prints bytes or round trips, seconds, and its own share of a processor; the first 0.3 s do not count.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE = 64, CHUNK = 1 << 18, MOST = 1024 };

static const double WARMUP_S = 0.3;

struct end {
    int fd;
    int is_client;
    uint64_t number; /* of the message on its way */
    size_t got;
    char message[MESSAGE];
};

static int bulk;
static uint64_t moved;
static char chunk[CHUNK];

static void die(const char *what)
{
    fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static struct sockaddr_in loopback(const char *port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return name;
}

static int connect_to(const char *port)
{
    struct sockaddr_in name = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof name) < 0)
        die("connect");
    return fd;
}

static int listen_on(const char *port)
{
    struct sockaddr_in name = loopback(port);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) < 0 || listen(fd, MOST) < 0)
        die("listen");
    return fd;
}

static struct end *watch(int epoll, int fd, int is_client)
{
    int one = 1;
    struct end *end = calloc(1, sizeof *end);
    struct epoll_event event = {.events = bulk && is_client ? EPOLLOUT : EPOLLIN, .data.ptr = end};
    if (end == NULL)
        die("calloc");
    end->fd = fd;
    end->is_client = is_client;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl");
    return end;
}

static void say(struct end *end)
{
    memset(end->message, 'a' + (int)(end->number % 26), MESSAGE);
    memcpy(end->message, &end->number, sizeof end->number);
    if (send(end->fd, end->message, MESSAGE, MSG_NOSIGNAL) != MESSAGE)
        die("send");
}

static void ping_ready(struct end *end)
{
    char room[MESSAGE];
    ssize_t n = recv(end->fd, room, MESSAGE - end->got, MSG_DONTWAIT);
    if (n <= 0)
        die("recv");
    if (!end->is_client) {
        if (send(end->fd, room, (size_t)n, MSG_NOSIGNAL) != n)
            die("send");
        return;
    }
    if (memcmp(room, end->message + end->got, (size_t)n) != 0) {
        fprintf(stderr, "relay: a message came back changed\n");
        exit(1);
    }
    end->got += (size_t)n;
    if (end->got == MESSAGE) {
        end->got = 0;
        end->number++;
        moved++;
        say(end);
    }
}

static void bulk_ready(struct end *end)
{
    ssize_t n = end->is_client ? send(end->fd, chunk, CHUNK, MSG_DONTWAIT | MSG_NOSIGNAL)
                               : recv(end->fd, chunk, 1 << 22, MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && errno != EAGAIN)
        die("bulk");
    if (!end->is_client && n > 0)
        moved += (uint64_t)n;
}

static void exchange(int fd, const unsigned char *said, size_t size, size_t answer_size)
{
    unsigned char answer[16];
    if (send(fd, said, size, MSG_NOSIGNAL) != (ssize_t)size || recv(fd, answer, answer_size, MSG_WAITALL) != (ssize_t)answer_size
        || answer[1] != 0)
        die("socks");
}

/* Have a SOCKS 5 server connect to a port of this host (RFC 1928). */
static void ask_for(int fd, const char *port)
{
    int number = atoi(port);
    unsigned char request[] = {5, 1, 0, 1, 127, 0, 0, 1, (unsigned char)(number >> 8), (unsigned char)number};
    exchange(fd, (const unsigned char[]){5, 1, 0}, 3, 2);
    exchange(fd, request, sizeof request, sizeof request);
}

int main(int argc, char **argv)
{
    if (argc != 6 && argc != 7) {
        fprintf(stderr, "usage: relay bulk|ping CONNECTIONS SECONDS SERVER_PORT RELAY_PORT [socks]\n");
        return 64;
    }
    bulk = strcmp(argv[1], "bulk") == 0;
    int count = atoi(argv[2]), epoll = epoll_create1(EPOLL_CLOEXEC), listener = listen_on(argv[4]);
    double lasts = atof(argv[3]);
    for (int i = 0; i < count; i++) {
        int client = connect_to(argv[5]);
        if (argc == 7)
            ask_for(client, argv[4]);
        int server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (server < 0)
            die("accept");
        watch(epoll, server, 0);
        struct end *end = watch(epoll, client, 1);
        if (!bulk)
            say(end);
    }
    double begin = seconds(CLOCK_MONOTONIC), now = begin, cpu = 0;
    int is_warm = 0;
    while (now - begin < lasts) {
        struct epoll_event ready[64];
        int n = epoll_wait(epoll, ready, 64, 100);
        for (int i = 0; i < n; i++)
            bulk ? bulk_ready(ready[i].data.ptr) : ping_ready(ready[i].data.ptr);
        now = seconds(CLOCK_MONOTONIC);
        if (!is_warm && now - begin > WARMUP_S) {
            is_warm = 1;
            begin = now;
            cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
            moved = 0;
            printf("warm\n");
            fflush(stdout);
        }
    }
    double took = now - begin;
    printf("%llu %.6f %.3f\n", (unsigned long long)moved, took, (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) / took);
    return 0;
}
