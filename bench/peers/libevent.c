/* SPDX-License-Identifier: MIT */
/*
 * libevent.c - lines with libevent's bufferevents, as its book shows.
 *
 *     libevent tcp://127.0.0.1:0 | unix:/path  upper | echo | count
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "../address.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdint.h>

enum { BACKLOG = 4096 };

struct server {
    struct event_base *base;
    bool is_upper, is_count;
    uint64_t counted;
};

static void upper(char *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)data[i];
        unsigned char lower = (unsigned char)(byte - 'a') < 26;
        data[i] = (char)(byte ^ (lower << 5));
    }
}

static void serve(struct server *s, char *line, size_t length, struct evbuffer *out)
{
    if (s->is_count && length == 1 && line[0] == '?') {
        evbuffer_add_printf(out, "%llu\n", (unsigned long long)s->counted);
    } else if (s->is_count) {
        s->counted++;
    } else {
        if (s->is_upper)
            upper(line, length);
        evbuffer_add(out, line, length);
        evbuffer_add(out, "\n", 1);
    }
}

static void on_read(struct bufferevent *peer, void *context)
{
    struct evbuffer *in = bufferevent_get_input(peer), *out = bufferevent_get_output(peer);
    size_t length;
    for (char *line; (line = evbuffer_readln(in, &length, EVBUFFER_EOL_LF)) != NULL; free(line))
        serve(context, line, length, out);
}

static void on_written(struct bufferevent *peer, void *context)
{
    (void)context;
    bufferevent_free(peer);
}

/* At the end of input what has been answered still leaves. */
static void on_event(struct bufferevent *peer, short what, void *context)
{
    if (what & BEV_EVENT_EOF && evbuffer_get_length(bufferevent_get_output(peer)) > 0)
        bufferevent_setcb(peer, NULL, on_written, on_event, context);
    else
        bufferevent_free(peer);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from, int length, void *context)
{
    (void)listener, (void)length;
    struct server *s = context;
    if (from->sa_family == AF_INET)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct bufferevent *peer = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(peer, on_read, NULL, on_event, s);
    bufferevent_enable(peer, EV_READ | EV_WRITE);
}

int main(int argc, char **argv)
{
    union address address;
    socklen_t length = argc == 3 ? address_parse(argv[1], &address) : 0;
    if (length == 0) {
        fprintf(stderr, "usage: libevent tcp://127.0.0.1:0 | unix:/path  upper | echo | count\n");
        return 64;
    }
    struct server server = {event_base_new(), strcmp(argv[2], "upper") == 0, strcmp(argv[2], "count") == 0, 0};
    struct evconnlistener *listener = evconnlistener_new_bind(
        server.base, on_accept, &server, LEV_OPT_CLOSE_ON_EXEC, BACKLOG, &address.any, (int)length);
    if (listener == NULL || getsockname(evconnlistener_get_fd(listener), &address.any, &length) < 0) {
        perror(argv[1]);
        return 71;
    }
    printf("listening %d\n", address.any.sa_family == AF_INET ? ntohs(address.tcp.sin_port) : 0);
    fflush(stdout);
    return event_base_dispatch(server.base);
}
