/* SPDX-License-Identifier: MIT */
/*
 * generator.h - what the load generators have in common: they die with a reason, read clocks, connect.
 */
#ifndef BENCH_GENERATOR_H
#define BENCH_GENERATOR_H

#include "address.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000ULL

enum { CONNECT_TIMEOUT_S = 10 };

static inline void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(71);
}

static inline void *must(void *memory)
{
    if (memory == NULL)
        die("malloc");
    return memory;
}

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) < 0)
        die("clock_gettime");
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

/* The CPU clock of a process. */
static inline clockid_t clock_of(pid_t process)
{
    clockid_t clock;
    if ((errno = clock_getcpuclockid(process, &clock)) != 0)
        die("clock_getcpuclockid");
    return clock;
}

/* A number of the command line. */
static inline double number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most)) {
        fprintf(stderr, "%s: expected a number from %.0f to %.0f\n", text, least, most);
        exit(64);
    }
    return value;
}

static inline void set_non_blocking(int fd)
{
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        die("fcntl");
}

/* Connects, waiting for it, from the address `from` unless that is NULL. On Linux the send timeout bounds connect too. */
static inline int open_connection_from(const char *text, const struct sockaddr_in *from, bool non_blocking)
{
    union address address;
    socklen_t length = address_parse(text, &address);
    struct timeval timeout = {.tv_sec = CONNECT_TIMEOUT_S};
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) < 0)
        die(text);
    if (from != NULL && (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int)) < 0 ||
                         bind(fd, (const struct sockaddr *)from, sizeof *from) < 0))
        die("bind");
    if (connect(fd, &address.any, length) < 0)
        die(text);
    address_set_nodelay(fd, &address);
    if (non_blocking)
        set_non_blocking(fd);
    return fd;
}

static inline int open_connection(const char *text, bool non_blocking)
{
    return open_connection_from(text, NULL, non_blocking);
}

/* Receives until `size` bytes have come; what came before an end of file. */
static inline size_t receive_all(int fd, char *data, size_t size)
{
    size_t got = 0;
    while (got < size) {
        ssize_t n = recv(fd, data + got, size - got, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    return got;
}

#endif
