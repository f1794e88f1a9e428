/* SPDX-License-Identifier: MIT */
/*
 * upload.c - sends lines as fast as they are taken, then asks how many there were.
 *
 *     upload CONNECTIONS LENGTH SECONDS SERVER-PID ADDRESS
 *
 * The server answers none of them. Each connection ends behind a whole line and waits for the server to end as well,
 * so that all have been read; then one more connection sends "?" and compares the number that comes with the number
 * sent. The time is from the first byte to the last end: what lies in the kernel's buffers is no gain to anybody.
 *
 * One thread, one line of JSON. Exit codes: 0 the count is right, 1 it is not, 64 usage, 71 the system refused something.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "generator.h"

#include <sys/epoll.h>

enum { BLOCK_BYTES = 128 * 1024, MAX_CONNECTIONS = 1024, MAX_LENGTH = 65536, ENDS_WITHIN_S = 30 };

struct upload {
    const char *address;
    size_t connections, length, block;
    double seconds;
    int poll;
    int fd[MAX_CONNECTIONS];
    size_t at[MAX_CONNECTIONS]; /* bytes into the block */
    uint64_t lines;
    char text[BLOCK_BYTES];
};

static void watch(const struct upload *u, int operation, size_t i, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = i};
    if (epoll_ctl(u->poll, operation, u->fd[i], &event) < 0)
        die("epoll_ctl");
}

static void start(struct upload *u)
{
    u->block = BLOCK_BYTES / u->length * u->length;
    for (size_t i = 0; i < u->block; i++)
        u->text[i] = i % u->length == u->length - 1 ? '\n' : (char)('a' + i % 26);
    u->poll = epoll_create1(EPOLL_CLOEXEC);
    if (u->poll < 0)
        die("epoll_create1");
    for (size_t i = 0; i < u->connections; i++) {
        u->fd[i] = open_connection(u->address, true);
        watch(u, EPOLL_CTL_ADD, i, EPOLLOUT);
    }
}

/* One send; what a block is counted in lines when all of it has gone. */
static void feed(struct upload *u, size_t i)
{
    ssize_t sent = send(u->fd[i], u->text + u->at[i], u->block - u->at[i], MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (sent < 0)
        die("send");
    u->at[i] += (size_t)sent;
    if (u->at[i] == u->block) {
        u->at[i] = 0;
        u->lines += u->block / u->length;
    }
}

/* Sends the rest of the line that was begun, then waits for the end. */
static void finish(struct upload *u, size_t i)
{
    size_t whole = (u->at[i] + u->length - 1) / u->length * u->length;
    struct timeval timeout = {.tv_sec = ENDS_WITHIN_S};
    if (fcntl(u->fd[i], F_SETFL, 0) < 0 || setsockopt(u->fd[i], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0)
        die("fcntl");
    while (u->at[i] < whole) {
        ssize_t sent = send(u->fd[i], u->text + u->at[i], whole - u->at[i], MSG_NOSIGNAL);
        if (sent < 0)
            die("send");
        u->at[i] += (size_t)sent;
    }
    u->lines += whole / u->length;
    if (shutdown(u->fd[i], SHUT_WR) < 0)
        die("shutdown");
}

static void await_end(const struct upload *u, size_t i)
{
    char byte;
    if (recv(u->fd[i], &byte, 1, 0) != 0) {
        fprintf(stderr, "upload: the server answered, or did not end within %d s\n", ENDS_WITHIN_S);
        exit(1);
    }
    close(u->fd[i]);
}

static void flood(struct upload *u)
{
    struct epoll_event ready[MAX_CONNECTIONS];
    uint64_t until_ns = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(u->seconds * (double)SECOND_NS);
    while (clock_ns(CLOCK_MONOTONIC) < until_ns) {
        int n = epoll_wait(u->poll, ready, MAX_CONNECTIONS, 100);
        for (int k = 0; k < n; k++)
            feed(u, ready[k].data.u64);
    }
    for (size_t i = 0; i < u->connections; i++)
        finish(u, i);
    for (size_t i = 0; i < u->connections; i++)
        await_end(u, i);
}

static uint64_t ask(const struct upload *u)
{
    char answer[32] = "";
    int fd = open_connection(u->address, false);
    ssize_t n = 1;
    if (send(fd, "?\n", 2, MSG_NOSIGNAL) != 2)
        die("send");
    for (size_t got = 0; n > 0 && got < sizeof answer - 1 && memchr(answer, '\n', got) == NULL; got += (size_t)n)
        n = recv(fd, answer + got, sizeof answer - 1 - got, 0);
    close(fd); /* no FIN before: Twisted would forget its answer */
    return strtoull(answer, NULL, 10);
}

int main(int argc, char **argv)
{
    static struct upload u;
    union address ignored;
    if (argc != 6 || address_parse(argv[5], &ignored) == 0) {
        fprintf(stderr, "usage: upload CONNECTIONS LENGTH SECONDS SERVER-PID ADDRESS\n");
        return 64;
    }
    u.connections = (size_t)number(argv[1], 1, MAX_CONNECTIONS);
    u.length = (size_t)number(argv[2], 2, MAX_LENGTH);
    u.seconds = number(argv[3], 0, 3600);
    u.address = argv[5];
    clockid_t server = clock_of((pid_t)number(argv[4], 1, 1 << 22));
    start(&u);
    uint64_t begun = clock_ns(CLOCK_MONOTONIC), own = clock_ns(CLOCK_PROCESS_CPUTIME_ID), other = clock_ns(server);
    flood(&u);
    double wall_ns = (double)(clock_ns(CLOCK_MONOTONIC) - begun);
    own = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own;
    other = clock_ns(server) - other;
    uint64_t counted = ask(&u);
    printf("{\"lines\": %llu, \"counted\": %llu, \"seconds\": %.4f, \"per_second\": %.1f, \"server_cpu\": %.3f, "
           "\"generator_cpu\": %.3f}\n",
           (unsigned long long)u.lines, (unsigned long long)counted, wall_ns / (double)SECOND_NS,
           (double)u.lines * (double)SECOND_NS / wall_ns, (double)other / wall_ns, (double)own / wall_ns);
    return counted == u.lines ? 0 : 1;
}
