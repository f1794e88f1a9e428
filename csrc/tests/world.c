/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int with_epoll;

static void note(struct world *w, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    w->logged += (size_t)vsnprintf(w->log + w->logged, sizeof w->log - w->logged, format, arguments);
    va_end(arguments);
}

size_t echo(char *data, size_t size)
{
    (void)data;
    return size;
}

size_t discard(char *data, size_t size)
{
    (void)data, (void)size;
    return 0;
}

size_t upper(char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (char)(data[i] >= 'a' && data[i] <= 'z' ? data[i] - 'a' + 'A' : data[i]);
    return size;
}

sb_group lines_group(void)
{
    return (sb_group){.framing = {.kind = SB_FRAMING_LINE, .limit = 1000}, .flags = SB_GROUP_LF, .high_water = 1 << 16, .max_unsent = 1 << 22, .linger_ms = 1000};
}

struct world *world_of(int rows, sb_group group)
{
    struct world *w = calloc(1, sizeof *w);
    w->epoll = with_epoll;
    w->mux = sb_mux_new(rows, w->epoll);
    CHECK(w->mux != NULL);
    for (int i = 0; i < PEERS; i++)
        w->peer[i] = -1;
    w->group = sb_mux_group(w->mux, &group);
    CHECK_EQ(w->group, 0);
    return w;
}

struct world *slow_world(int64_t cost_ns, int flags)
{
    sb_group group = lines_group();
    group.cost_ns = cost_ns;
    group.flags = flags;
    return world_of(16, group);
}

void hang_up(struct world *w, int id)
{
    int *peer = &w->peer[sb_mux_row(w->mux, id)];
    if (*peer >= 0)
        close(*peer);
    *peer = -1;
}

void end_of(struct world *w)
{
    for (int i = 0; i < PEERS; i++)
        if (w->peer[i] >= 0)
            close(w->peer[i]);
    sb_mux_free(w->mux);
    free(w);
}

int join(struct world *w, int group)
{
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    int id = sb_mux_add(w->mux, fds[0], group);
    if (id < 0) {
        close(fds[0]);
        close(fds[1]);
        return id;
    }
    w->peer[sb_mux_row(w->mux, id)] = fds[1];
    return id;
}

void say(struct world *w, int id, const char *text)
{
    CHECK_EQ(send(w->peer[sb_mux_row(w->mux, id)], text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

void flood(struct world *w, int id, const char *frame, int count)
{
    char *block = calloc((size_t)count + 1, strlen(frame));
    for (int i = 0; i < count; i++)
        memcpy(block + strlen(frame) * (size_t)i, frame, strlen(frame));
    say(w, id, block);
    free(block);
}

const char *heard(struct world *w, int id)
{
    static char text[201];
    ssize_t n = recv(w->peer[sb_mux_row(w->mux, id)], text, 200, 0);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 ? text : n == 0 ? "$" : errno == EAGAIN ? "-" : "!";
}

const char *block_of(const struct world *w, const sb_event *event)
{
    return event->offset >= 0 ? sb_mux_arena(w->mux) + event->offset : sb_mux_held(w->mux, -1 - event->offset);
}

static void log_frames(struct world *w, const sb_event *event)
{
    const char *block = block_of(w, event);
    int size = event->size > 100 ? 0 : (int)event->size;
    if (event->id >= 0) {
        note(w, "%d:", event->id);
    } else {
        int64_t left = event->frames;
        for (const sb_part *part = sb_mux_parts(w->mux) + event->detail; left > 0; part++) {
            note(w, "%d,", part->id);
            left -= part->frames;
        }
    }
    if (size == 0)
        note(w, "(%lld in %lld)", (long long)event->size, (long long)event->frames);
    for (int i = 0; i < size; i++)
        note(w, "%c", block[i] == '\n' ? '|' : block[i]);
    note(w, " ");
}

static void log_events(struct world *w)
{
    static const char *const names[] = {"", "", "accepted", "end", "pause", "resume", "closed", "wrong", "", "lingering"};
    const sb_event *events = sb_mux_events(w->mux);
    for (int i = 0; i < sb_mux_counts(w->mux)->events; i++) {
        if (events[i].kind == SB_EVENT_FRAMES)
            log_frames(w, &events[i]);
        else
            note(w, "%d %s %d ", events[i].id, names[events[i].kind], events[i].detail);
    }
}

void learn_changes(struct world *w)
{
    int n = sb_mux_changes(w->mux);
    for (int i = 0; i < n; i++) {
        const sb_ready *change = &sb_mux_readies(w->mux)[i];
        int row = sb_mux_row(w->mux, change->id);
        CHECK_EQ(change->had, w->interest[row]);
        w->interest[row] = change->mask;
        w->id[row] = change->id;
    }
}

static int turn_by_poll(struct world *w, int timeout_ms)
{
    struct pollfd fds[PEERS];
    int32_t ids[PEERS], masks[PEERS];
    int count = 0, n = 0;
    learn_changes(w);
    for (int row = 0; row < PEERS; row++) {
        sb_info info;
        if (!w->interest[row] || sb_mux_info(w->mux, w->id[row], &info) < 0)
            continue;
        fds[count] = (struct pollfd){.fd = info.fd};
        fds[count].events = (short)((w->interest[row] & SB_READ ? POLLIN : 0) | (w->interest[row] & SB_WRITE ? POLLOUT : 0));
        ids[count++] = w->id[row];
    }
    int due = sb_mux_timeout(w->mux);
    if (due >= 0 && due < timeout_ms)
        timeout_ms = due;
    CHECK(poll(fds, (nfds_t)count, timeout_ms) >= 0);
    for (int i = 0; i < count; i++) {
        int mask = (fds[i].revents & (POLLIN | POLLHUP | POLLERR) ? SB_READ : 0) | (fds[i].revents & POLLOUT ? SB_WRITE : 0);
        mask &= w->interest[sb_mux_row(w->mux, ids[i])];
        if (mask) {
            ids[n] = ids[i];
            masks[n++] = mask;
        }
    }
    return sb_mux_turn_of(w->mux, ids, masks, n);
}

const char *events_of(struct world *w)
{
    w->logged = 0;
    w->log[0] = '\0';
    log_events(w);
    w->looked_at = sb_mux_counts(w->mux)->events;
    return w->log;
}

static void wait_for(struct world *w, int timeout_ms)
{
    if (w->looked_at == sb_mux_counts(w->mux)->events)
        sb_mux_reap(w->mux);
    if (w->epoll)
        CHECK(sb_mux_turn(w->mux, timeout_ms) >= 0);
    else
        turn_by_poll(w, timeout_ms);
}

const char *turn(struct world *w)
{
    wait_for(w, 0);
    return events_of(w);
}

const char *after(struct world *w, int64_t ms)
{
    w->logged = 0;
    w->log[0] = '\0';
    clock_pass(ms);
    for (int i = 0; i < 5000 && clock_left() > 0; i++) {
        wait_for(w, (int)clock_left());
        log_events(w);
        w->looked_at = sb_mux_counts(w->mux)->events;
    }
    CHECK_EQ(clock_left(), 0);
    return w->log;
}

const char *blind(struct world *w, int64_t ms)
{
    static char text[8192];
    text[0] = '\0';
    for (int64_t left = ms; left > 0;) {
        int due = sb_mux_timeout(w->mux);
        int64_t step = due < 0 || due > left ? left : due;
        clock_advance(step);
        left -= step;
        CHECK(sb_mux_turn_of(w->mux, NULL, NULL, 0) >= 0);
        strcat(text, events_of(w));
        sb_mux_reap(w->mux);
    }
    return text;
}

char *big_block(size_t size)
{
    char *block = malloc(size);
    for (size_t i = 0; i < size; i++)
        block[i] = (char)('a' + i % 23);
    return block;
}

size_t drain(struct world *w, int id, const char *block, size_t at)
{
    static char room[65536];
    ssize_t n;
    while ((n = recv(w->peer[sb_mux_row(w->mux, id)], room, sizeof room, 0)) > 0) {
        CHECK(memcmp(room, block + at, (size_t)n) == 0);
        at += (size_t)n;
    }
    return at;
}

void answer(struct world *w, int id, const char *data, int64_t size)
{
    int32_t to = id;
    sb_mux_write(w->mux, 1, &to, &size, data);
}

int listener(struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    socklen_t size = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    CHECK_EQ(bind(fd, (struct sockaddr *)address, sizeof *address), 0);
    CHECK_EQ(listen(fd, 16), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)address, &size), 0);
    return fd;
}

int dial(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(connect(fd, (const struct sockaddr *)address, sizeof *address), 0);
    CHECK_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}
