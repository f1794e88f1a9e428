/* SPDX-License-Identifier: MIT */
/*
 * trickle.c - one long line, a byte with each send, and its answer in upper case; then one twice as long.
 *
 *     trickle BYTES SERVER-PID ADDRESS
 *
 * What costs O(n) takes twice as long for the second. A server that looks at a line from its beginning whenever a
 * byte comes takes four times as long, less what arrives in larger pieces because it lags behind.
 *
 * One thread, one line of JSON: wall and server CPU seconds of each. Exit codes: 0 both answers right, 1 not, 64
 * usage, 71 the system refused something.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "generator.h"

enum { MIN_BYTES = 2, MAX_BYTES = 1 << 24, ANSWER_WITHIN_S = 60 };

struct cost {
    double wall_s, cpu_s;
};

static struct cost send_line(const char *address, clockid_t server, size_t size)
{
    char *answer = must(malloc(size));
    struct timeval timeout = {.tv_sec = ANSWER_WITHIN_S};
    int fd = open_connection(address, false);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0)
        die("setsockopt");
    uint64_t begun = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(server);
    for (size_t i = 0; i < size; i++) {
        char byte = i == size - 1 ? '\n' : (char)('a' + i % 26);
        if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
            die("send");
    }
    size_t got = receive_all(fd, answer, size);
    struct cost cost = {(double)(clock_ns(CLOCK_MONOTONIC) - begun) / (double)SECOND_NS,
                        (double)(clock_ns(server) - cpu) / (double)SECOND_NS};
    for (size_t i = 0; i < size; i++)
        if (got != size || answer[i] != (i == size - 1 ? '\n' : (char)('A' + i % 26))) {
            fprintf(stderr, "trickle: %zu of %zu bytes came, wrong from %zu on\n", got, size, i);
            exit(1);
        }
    free(answer);
    close(fd);
    return cost;
}

int main(int argc, char **argv)
{
    union address ignored;
    if (argc != 4 || address_parse(argv[3], &ignored) == 0) {
        fprintf(stderr, "usage: trickle BYTES SERVER-PID ADDRESS\n");
        return 64;
    }
    size_t size = (size_t)number(argv[1], MIN_BYTES, MAX_BYTES);
    clockid_t server = clock_of((pid_t)number(argv[2], 1, 1 << 22));
    struct cost once = send_line(argv[3], server, size), twice = send_line(argv[3], server, 2 * size);
    printf("{\"wall_s\": %.4f, \"cpu_s\": %.4f, \"wall_twice_s\": %.4f, \"cpu_twice_s\": %.4f}\n", once.wall_s, once.cpu_s,
           twice.wall_s, twice.cpu_s);
    return 0;
}
