/* SPDX-License-Identifier: MIT */
/*
 * visits.c - short connections: connect, one line, its answer, close; a number of them at once, again and again.
 *
 *     visits AT-ONCE SECONDS SERVER-PID ADDRESS
 *
 * Every line names its visit, and its answer, the line in upper case, is compared. Whoever closes first keeps the
 * port for a minute (TIME_WAIT): over TCP the visits come from 250 addresses in turn, 127.1.1.1 to 127.1.1.250.
 *
 * One thread, one line of JSON. Exit codes: 0 every answer right, 1 not, 64 usage, 71 the system refused something.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "generator.h"
#include "histogram.h"

#include <sys/epoll.h>

enum { LINE_BYTES = 32, MAX_AT_ONCE = 1024, SOURCES = 250, WARMUP_MS = 300 };

struct visits {
    const char *address;
    bool tcp;
    int poll;
    uint64_t number;
    int fd[MAX_AT_ONCE];
    uint64_t begun_ns[MAX_AT_ONCE];
    char expected[MAX_AT_ONCE][LINE_BYTES + 1];
    struct histogram latency;
};

static void begin(struct visits *v, size_t i)
{
    char line[LINE_BYTES + 1];
    uint32_t source = 0x7f010101 + (uint32_t)(v->number % SOURCES);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(source)};
    snprintf(line, sizeof line, "%-30.20llxz\n", (unsigned long long)v->number);
    snprintf(v->expected[i], sizeof line, "%-30.20llXZ\n", (unsigned long long)v->number++);
    v->begun_ns[i] = clock_ns(CLOCK_MONOTONIC);
    v->fd[i] = open_connection_from(v->address, v->tcp ? &from : NULL, true);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = i};
    if (send(v->fd[i], line, LINE_BYTES, MSG_NOSIGNAL) != LINE_BYTES || epoll_ctl(v->poll, EPOLL_CTL_ADD, v->fd[i], &event) < 0)
        die("send");
}

/* A line of 32 bytes goes and comes in one piece on this host. */
static void end(struct visits *v, size_t i)
{
    char got[LINE_BYTES + 1];
    ssize_t n = recv(v->fd[i], got, sizeof got, 0);
    if (n != LINE_BYTES || memcmp(got, v->expected[i], LINE_BYTES) != 0) {
        fprintf(stderr, "visits: expected %.32s got %zd bytes\n", v->expected[i], n);
        exit(1);
    }
    close(v->fd[i]);
    histogram_add(&v->latency, clock_ns(CLOCK_MONOTONIC) - v->begun_ns[i]);
}

static void go_on(struct visits *v, double seconds)
{
    struct epoll_event ready[MAX_AT_ONCE];
    uint64_t until_ns = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(seconds * (double)SECOND_NS);
    while (clock_ns(CLOCK_MONOTONIC) < until_ns) {
        int n = epoll_wait(v->poll, ready, MAX_AT_ONCE, 1000);
        if (n == 0) {
            fprintf(stderr, "visits: no answer for a second\n");
            exit(1);
        }
        for (int k = 0; k < n; k++) {
            end(v, ready[k].data.u64);
            begin(v, ready[k].data.u64);
        }
    }
}

int main(int argc, char **argv)
{
    static struct visits v;
    union address address;
    if (argc != 5 || address_parse(argv[4], &address) == 0) {
        fprintf(stderr, "usage: visits AT-ONCE SECONDS SERVER-PID ADDRESS\n");
        return 64;
    }
    size_t at_once = (size_t)number(argv[1], 1, MAX_AT_ONCE);
    double seconds = number(argv[2], 0, 3600);
    clockid_t server = clock_of((pid_t)number(argv[3], 1, 1 << 22));
    v.address = argv[4];
    v.tcp = address.any.sa_family == AF_INET;
    v.poll = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < at_once; i++)
        begin(&v, i);
    go_on(&v, WARMUP_MS / 1000.0);
    memset(&v.latency, 0, sizeof v.latency);
    uint64_t begun = clock_ns(CLOCK_MONOTONIC), own = clock_ns(CLOCK_PROCESS_CPUTIME_ID), other = clock_ns(server);
    go_on(&v, seconds);
    double wall_ns = (double)(clock_ns(CLOCK_MONOTONIC) - begun), done = (double)v.latency.total;
    own = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own;
    other = clock_ns(server) - other;
    printf("{\"visits\": %.0f, \"per_second\": %.1f, \"cpu_us\": %.3f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
           "\"p99_9_us\": %.1f, \"server_cpu\": %.3f, \"generator_cpu\": %.3f}\n",
           done, done * (double)SECOND_NS / wall_ns, (double)other / 1000 / done,
           (double)histogram_percentile(&v.latency, 0.5) / 1000, (double)histogram_percentile(&v.latency, 0.99) / 1000,
           (double)histogram_percentile(&v.latency, 0.999) / 1000, (double)other / wall_ns, (double)own / wall_ns);
    return 0;
}
