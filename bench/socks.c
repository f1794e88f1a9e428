/* SPDX-License-Identifier: MIT */
/* SYNOPSIS
 *     socks PROXY_PORT TARGET_PORT SESSIONS SECONDS
 *
 * DESCRIPTION
 *     Keeps SESSIONS clients of a SOCKS 5 server on 127.0.0.1 going: each one connects, offers no authentication,
 *     asks for 127.0.0.1:TARGET_PORT, sends one byte to the echo server there, takes it back, closes and begins anew.
 *     Every message waits for the answer to the one before, as clients do.
 *
 * DIAGNOSTICS
 *     Prints the sessions that were completed in a second, and those that failed; exits 1 when none was completed.
 */
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

enum step { GREETING, REQUEST, ECHO, STEPS };

struct session {
    int fd;
    enum step step;
    size_t got;
};

static const size_t answer_bytes[STEPS] = {2, 10, 1};
static unsigned char request[10] = {5, 1, 0, 1, 127, 0, 0, 1, 0, 0};
static struct sockaddr_in proxy;
static int epoll_fd;
static long done, failed;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void say(const struct session *one)
{
    static const unsigned char greeting[3] = {5, 1, 0};
    ssize_t sent;

    if (one->step == GREETING)
        sent = send(one->fd, greeting, sizeof(greeting), MSG_NOSIGNAL);
    else if (one->step == REQUEST)
        sent = send(one->fd, request, sizeof(request), MSG_NOSIGNAL);
    else
        sent = send(one->fd, "x", 1, MSG_NOSIGNAL);
    (void)sent; /* a failure shows when the answer is read */
}

static void begin(struct session *one)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    int on = 1;

    one->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (one->fd < 0 || connect(one->fd, (struct sockaddr *)&proxy, sizeof(proxy)) < 0) {
        perror("socks: connect");
        exit(2);
    }
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    one->step = GREETING;
    one->got = 0;
    say(one);
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, one->fd, &event);
}

static void again(struct session *one, int well)
{
    *(well ? &done : &failed) += 1;
    close(one->fd);
    begin(one);
}

static void hear(struct session *one)
{
    unsigned char answer[64];
    ssize_t size = recv(one->fd, answer, sizeof(answer), 0);

    if (size <= 0 || (one->step == REQUEST && one->got == 0 && size > 1 && answer[1] != 0)) {
        again(one, 0);
        return;
    }
    one->got += (size_t)size;
    if (one->got < answer_bytes[one->step])
        return;
    one->got = 0;
    one->step++;
    if (one->step == STEPS)
        again(one, 1);
    else
        say(one);
}

int main(int argc, char **argv)
{
    struct epoll_event events[256];
    struct session *sessions;
    double end, began;
    int count, i;

    if (argc != 5) {
        fprintf(stderr, "usage: socks PROXY_PORT TARGET_PORT SESSIONS SECONDS\n");
        return 64;
    }
    proxy.sin_family = AF_INET;
    proxy.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    proxy.sin_port = htons((unsigned short)atoi(argv[1]));
    request[8] = (unsigned char)(atoi(argv[2]) >> 8);
    request[9] = (unsigned char)(atoi(argv[2]) & 255);
    count = atoi(argv[3]);
    sessions = calloc((size_t)count, sizeof(*sessions));
    epoll_fd = epoll_create1(0);
    if (sessions == NULL || epoll_fd < 0)
        return 71;
    for (i = 0; i < count; i++)
        begin(&sessions[i]);
    began = now();
    end = began + atof(argv[4]);
    while (now() < end) {
        int ready = epoll_wait(epoll_fd, events, 256, 100);

        for (i = 0; i < ready; i++)
            hear(events[i].data.ptr);
    }
    printf("%.0f sessions/s, %ld failed\n", (double)done / (now() - began), failed);
    free(sessions);
    return done == 0;
}
