/* SPDX-License-Identifier: MIT */
/* mux_upper - a whole server: lines in upper case, for any number of peers.  mux_upper [port]; prints the port it has */
#include "sockmux.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { CONNECTIONS = 10000, LINE = 8192, ACCEPTED_AT_ONCE = 64 };

static int listen_on(int port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&name, size) < 0 || listen(fd, 128) < 0 || getsockname(fd, (struct sockaddr *)&name, &size) < 0)
        return -1;
    printf("%d\n", ntohs(name.sin_port));
    fflush(stdout);
    return fd;
}

/* All lines of one peer that have come, as they came; what he does not take now is kept, and he is not read meanwhile. */
static void answer(sb_mux *mux, const sb_event *event, const char *lines, sb_buffer *out)
{
    char *room;
    if (sb_buffer_reserve(out, (size_t)event->size, &room) < 0) {
        sb_mux_abort(mux, event->id, SB_REASON_LIMIT);
        return;
    }
    for (int64_t i = 0; i < event->size; i++)
        room[i] = (char)toupper((unsigned char)lines[i]);
    (void)!sb_mux_send(mux, event->id, room, (size_t)event->size);
}

int main(int argc, char **argv)
{
    sb_event event;
    const char *data;
    sb_group lines = {.linger_ms = 2000, .idle_ms = 300000, .flags = SB_GROUP_LF};
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 0), code = sb_framing_line(LINE, &lines.framing);
    sb_mux *mux = sb_mux_new(CONNECTIONS, 1);
    sb_buffer *out = sb_buffer_new(1 << 20);
    int group = code < 0 ? code : sb_mux_group(mux, &lines);
    for (code = group < 0 ? group : sb_mux_watch(mux, listener, SB_READ); code >= 0; code = sb_mux_wait(mux, -1))
        while (sb_mux_next(mux, &event, &data) > 0)
            if (event.kind == SB_EVENT_READY)
                (void)!sb_mux_accept(mux, listener, group, ACCEPTED_AT_ONCE, NULL);
            else if (event.kind == SB_EVENT_FRAMES)
                answer(mux, &event, data, out);
    fprintf(stderr, "mux_upper: %s\n", sb_error_text(code));
    return 71;
}
