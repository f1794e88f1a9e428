/* SPDX-License-Identifier: MIT */
/*
 * c_epoll.c - the ceiling of the bench: a plain C epoll server.
 *
 *     c_epoll tcp://127.0.0.1:0 | unix:/path  upper | echo | count | pong
 *
 * upper, echo  answers each line in upper case, or as it came
 * count        counts lines and answers none but "?", sent alone, with their number
 * pong         answers PING with +PONG as Redis does, and any other line with -ERR
 *
 * Prints "listening PORT" (or PATH) when it can be connected to, and serves until it is killed. What one thread
 * can do at best: one recv and one send for each readable event, no limits, no deadlines, no log. It answers
 * whole lines only: an unfinished one waits in a tail of its own, and a peer that does not take its answers is
 * not read from until it has. What follows the last newline of a connection is dropped at its end.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "address.h"

#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024, EVENTS = 1024, BACKLOG = 4096, MAX_DESCRIPTORS = 1 << 20 };

enum service { UPPER, ECHO, COUNT, PONG, SERVICES };
static const char *const SERVICE_NAMES[SERVICES] = {"upper", "echo", "count", "pong"};

static const char PING[] = "PING\r\n", PONG_REPLY[] = "+PONG\r\n", ERROR_REPLY[] = "-ERR\r\n";

struct bytes {
    char *at;
    size_t length, room;
};

/* One row per descriptor, all zero until it is needed: an idle connection costs these bytes and no others. */
struct connection {
    struct bytes tail; /* an unfinished line, in upper case already where that is the service */
    char *unsent;      /* what the kernel did not take; while there is some, nothing is read */
    size_t unsent_length, unsent_at;
};

struct server {
    int poll;
    int listener;
    union address address;
    enum service service;
    uint64_t counted;
    struct connection *rows;
    size_t row_count;
    char in[READ_BYTES];
    char pongs[READ_BYTES * sizeof PONG_REPLY]; /* a line has one byte at least */
};

static void die(const char *what)
{
    perror(what);
    exit(71);
}

static void *must(void *memory)
{
    if (memory == NULL)
        die("malloc");
    return memory;
}

static void watch(const struct server *s, int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(s->poll, operation, fd, &event) < 0)
        die("epoll_ctl");
}

static void append(struct bytes *b, const char *data, size_t length)
{
    if (length > b->room - b->length) {
        b->room = 2 * (b->length + length);
        b->at = must(realloc(b->at, b->room));
    }
    memcpy(b->at + b->length, data, length);
    b->length += length;
}

static void finish(struct server *s, int fd)
{
    struct connection *c = &s->rows[fd];
    free(c->tail.at);
    free(c->unsent);
    memset(c, 0, sizeof *c);
    close(fd);
}

/* ASCII only, like bytes.upper(); without a branch, so that the compiler vectorises it. */
static void upper(char *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)data[i];
        unsigned char lower = (unsigned char)(byte - 'a') < 26;
        data[i] = (char)(byte ^ (lower << 5));
    }
}

/* Keeps what is left of two pieces of which `sent` bytes went out, and turns from reading to writing. */
static void keep_unsent(struct server *s, int fd, const struct iovec piece[2], size_t sent)
{
    struct connection *c = &s->rows[fd];
    size_t total = piece[0].iov_len + piece[1].iov_len;
    char *whole = must(malloc(total));
    if (piece[0].iov_len > 0)
        memcpy(whole, piece[0].iov_base, piece[0].iov_len);
    memcpy(whole + piece[0].iov_len, piece[1].iov_base, piece[1].iov_len);
    c->unsent = whole;
    c->unsent_length = total;
    c->unsent_at = sent;
    watch(s, EPOLL_CTL_MOD, fd, EPOLLOUT);
}

/* Sends two pieces in one call, the first of which may be empty. False when the connection is gone. */
static bool answer(struct server *s, int fd, const struct iovec piece[2])
{
    struct msghdr both = {.msg_iov = (struct iovec *)piece, .msg_iovlen = 2};
    ssize_t sent = piece[0].iov_len == 0 ? send(fd, piece[1].iov_base, piece[1].iov_len, MSG_NOSIGNAL)
                                         : sendmsg(fd, &both, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        finish(s, fd);
        return false;
    }
    size_t gone = sent < 0 ? 0 : (size_t)sent;
    if (gone < piece[0].iov_len + piece[1].iov_len)
        keep_unsent(s, fd, piece, gone);
    return true;
}

/* The lines themselves are the answer. */
static void give_back(struct server *s, int fd, size_t length)
{
    struct connection *c = &s->rows[fd];
    if (s->service == UPPER)
        upper(s->in, length);
    const char *last = memrchr(s->in, '\n', length);
    if (last == NULL) {
        append(&c->tail, s->in, length);
        return;
    }
    size_t whole = (size_t)(last - s->in) + 1;
    if (!answer(s, fd, (struct iovec[2]){{c->tail.at, c->tail.length}, {s->in, whole}}))
        return;
    c->tail.length = 0;
    if (whole < length)
        append(&c->tail, s->in + whole, length - whole);
}

/* A line that was cut is counted where it ends: no tail is needed. */
static void count(struct server *s, int fd, size_t length)
{
    if (length == 2 && memcmp(s->in, "?\n", 2) == 0) {
        char text[24];
        int size = snprintf(text, sizeof text, "%llu\n", (unsigned long long)s->counted);
        answer(s, fd, (struct iovec[2]){{NULL, 0}, {text, (size_t)size}});
        return;
    }
    const char *at = s->in, *end = s->in + length;
    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        s->counted++;
        at++;
    }
}

static void pong(struct server *s, int fd, size_t length)
{
    struct connection *c = &s->rows[fd];
    const char *at = s->in, *end = s->in + length, *newline;
    size_t filled = 0;
    while ((newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        size_t size = (size_t)(newline + 1 - at);
        bool is_ping = c->tail.length + size == sizeof PING - 1 && memcmp(PING, c->tail.at, c->tail.length) == 0 &&
                       memcmp(PING + c->tail.length, at, size) == 0;
        const char *reply = is_ping ? PONG_REPLY : ERROR_REPLY;
        memcpy(s->pongs + filled, reply, strlen(reply));
        filled += strlen(reply);
        c->tail.length = 0;
        at = newline + 1;
    }
    if (at < end)
        append(&c->tail, at, (size_t)(end - at));
    if (filled > 0)
        answer(s, fd, (struct iovec[2]){{NULL, 0}, {s->pongs, filled}});
}

static void readable(struct server *s, int fd)
{
    ssize_t got = recv(fd, s->in, READ_BYTES, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0)
        finish(s, fd);
    else if (s->service == COUNT)
        count(s, fd, (size_t)got);
    else if (s->service == PONG)
        pong(s, fd, (size_t)got);
    else
        give_back(s, fd, (size_t)got);
}

static void writable(struct server *s, int fd)
{
    struct connection *c = &s->rows[fd];
    ssize_t sent = send(fd, c->unsent + c->unsent_at, c->unsent_length - c->unsent_at, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR)
            finish(s, fd);
        return;
    }
    c->unsent_at += (size_t)sent;
    if (c->unsent_at < c->unsent_length)
        return;
    free(c->unsent);
    c->unsent = NULL;
    watch(s, EPOLL_CTL_MOD, fd, EPOLLIN);
}

static void accept_all(struct server *s)
{
    for (;;) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return; /* EAGAIN, or a peer that has gone; out of descriptors is the caller's mistake here */
        if ((size_t)fd >= s->row_count) {
            close(fd);
            continue;
        }
        address_set_nodelay(fd, &s->address);
        watch(s, EPOLL_CTL_ADD, fd, EPOLLIN);
    }
}

static void start(struct server *s, const char *text)
{
    socklen_t length = address_parse(text, &s->address);
    if (length == 0) {
        fprintf(stderr, "c_epoll: %s: expected tcp://A.B.C.D:PORT or unix:/path\n", text);
        exit(64);
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        die("getrlimit");
    s->row_count = limit.rlim_cur < MAX_DESCRIPTORS ? (size_t)limit.rlim_cur : MAX_DESCRIPTORS;
    s->rows = must(calloc(s->row_count, sizeof *s->rows));
    s->listener = socket(s->address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->listener < 0 || bind(s->listener, &s->address.any, length) < 0 || listen(s->listener, BACKLOG) < 0)
        die(text);
    s->poll = epoll_create1(EPOLL_CLOEXEC);
    if (s->poll < 0)
        die("epoll_create1");
    watch(s, EPOLL_CTL_ADD, s->listener, EPOLLIN);
    if (s->address.any.sa_family == AF_UNIX) {
        printf("listening %s\n", s->address.local.sun_path);
    } else {
        if (getsockname(s->listener, &s->address.any, &length) < 0)
            die("getsockname");
        printf("listening %d\n", ntohs(s->address.tcp.sin_port));
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct server server;
    static struct epoll_event events[EVENTS];
    while (argc == 3 && server.service < SERVICES && strcmp(argv[2], SERVICE_NAMES[server.service]) != 0)
        server.service++;
    if (argc != 3 || server.service == SERVICES) {
        fprintf(stderr, "usage: c_epoll tcp://127.0.0.1:0 | unix:/path  upper | echo | count | pong\n");
        return 64;
    }
    start(&server, argv[1]);
    for (;;) {
        int ready = epoll_wait(server.poll, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == server.listener)
                accept_all(&server);
            else if (server.rows[fd].unsent != NULL)
                writable(&server, fd);
            else
                readable(&server, fd);
        }
    }
}
