/* SPDX-License-Identifier: MIT */
/*
 * epoll_upper - a whole server on buffers and frames: lines in upper case
 *
 * SYNOPSIS
 *   epoll_upper [port]           127.0.0.1; port 0 and none: the kernel's choice, printed
 *
 * DESCRIPTION
 *   One loop, no waiting, every buffer bounded.  A peer that does not read its
 *   answers is not read from either, until it does.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "sockbuf.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LIMIT = 8192, ROOM = 16384, HIGH_WATER = 65536, READY = 64 };

struct peer {
    int fd;
    sb_buffer *in, *out;
    sb_scan scan;
    int ended; /* it sends no more */
};

static void forget(struct peer *peer)
{
    close(peer->fd); /* and so out of epoll */
    sb_buffer_free(peer->in);
    sb_buffer_free(peer->out);
    free(peer);
}

static void welcome(int epoll, int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct peer *peer = fd < 0 ? NULL : calloc(1, sizeof *peer);
    if (peer == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    *peer = (struct peer){.fd = fd, .in = sb_buffer_new(LIMIT + ROOM), .out = sb_buffer_new(HIGH_WATER + 2 * (LIMIT + ROOM))};
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = peer}};
    if (peer->in == NULL || peer->out == NULL || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        forget(peer);
}

/* Every whole line becomes an answer.  Below zero: it breaks the rules. */
static int answer(struct peer *peer, const sb_framing *line)
{
    sb_frame frame;
    int code;
    while ((code = sb_frame_find(line, sb_buffer_data(peer->in), sb_buffer_size(peer->in), &peer->scan, &frame)) > 0) {
        char text[LIMIT];
        size_t size = frame.end - frame.start;
        for (size_t i = 0; i < size; i++)
            text[i] = (char)toupper((unsigned char)sb_buffer_data(peer->in)[frame.start + i]);
        code = sb_frame_encode(line, text, size, peer->out);
        if (code < 0)
            return code;
        sb_buffer_consume(peer->in, frame.next);
    }
    return code;
}

static int receive(struct peer *peer, const sb_framing *line)
{
    char *room;
    if (sb_buffer_reserve(peer->in, ROOM, &room) < 0)
        return -1;
    long n = sb_receive(peer->fd, room, ROOM);
    if (n == SB_ERR_END)
        peer->ended = 1;
    if (n < 0)
        return n == SB_ERR_END || n == SB_ERR_AGAIN ? 0 : -1;
    sb_buffer_commit(peer->in, (size_t)n);
    return answer(peer, line);
}

static int send_out(struct peer *peer)
{
    if (sb_buffer_size(peer->out) == 0)
        return 0;
    long n = sb_send(peer->fd, sb_buffer_data(peer->out), sb_buffer_size(peer->out));
    if (n > 0)
        sb_buffer_consume(peer->out, (size_t)n);
    return n < 0 && n != SB_ERR_AGAIN ? -1 : 0;
}

static void serve(int epoll, struct peer *peer, uint32_t ready, const sb_framing *line)
{
    int failed = ready & (EPOLLIN | EPOLLHUP | EPOLLERR) && !peer->ended && receive(peer, line) < 0;
    if (send_out(peer) < 0 || failed || (peer->ended && sb_buffer_size(peer->out) == 0)) {
        forget(peer);
        return;
    }
    size_t unsent = sb_buffer_size(peer->out);
    struct epoll_event event = {.events = 0, .data = {.ptr = peer}};
    event.events = (unsent > 0 ? (uint32_t)EPOLLOUT : 0) | (unsent < HIGH_WATER && !peer->ended ? (uint32_t)EPOLLIN : 0);
    epoll_ctl(epoll, EPOLL_CTL_MOD, peer->fd, &event);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    sb_framing line;
    address.sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP), epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = NULL}};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (sb_framing_line(LIMIT, &line) < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 128) < 0
        || getsockname(listener, (struct sockaddr *)&address, &size) < 0
        || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0) {
        perror("epoll_upper");
        return 71;
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event ready[READY];
        int n = epoll_wait(epoll, ready, READY, -1);
        for (int i = 0; i < n; i++) {
            if (ready[i].data.ptr == NULL)
                welcome(epoll, listener);
            else
                serve(epoll, ready[i].data.ptr, ready[i].events, &line);
        }
    }
}
