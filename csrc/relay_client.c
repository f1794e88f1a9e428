/* SPDX-License-Identifier: MIT */
/*
 * relay_client - a pair that begins with a client of a SOCKS server
 *
 * SYNOPSIS
 *   accept, greeting, answer, request, [the caller], connect, reply, pair
 *
 * DESCRIPTION
 *   What nearly every client does, and nothing else: its greeting and its request
 *   come whole, it offers to do without a login, and names an address for CONNECT.
 *   Whoever does otherwise is the caller's again, with what was read of it, for
 *   the caller knows all of SOCKS; so a client is never refused here.
 *
 *   Requests are left to the caller, all of one turn at once: access rules are not known here.
 *
 *   Source: RFC 1928, sections 3 to 6.
 */
#include "relay.h"

#if SB_HAS_EPOLL

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { VERSION = 5, NO_LOGIN = 0, CONNECT = 1, IPV4 = 1, IPV6 = 4 }; /* RFC 1928 */
enum {
    HEARD = 64,             /* bytes requested from a client at once */
    REQUEST_HEAD = 3,       /* before the kind of address */
    IPV4_BYTES = 1 + 4 + 2, /* with its kind and port */
    IPV6_BYTES = 1 + 16 + 2
};

/* ---- addresses in messages */

static size_t put_address(char *out, const struct sockaddr_storage *name)
{
    if (name->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)name;
        out[0] = IPV4;
        memcpy(out + 1, &in->sin_addr, 4);
        memcpy(out + 5, &in->sin_port, 2);
        return IPV4_BYTES;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)name;
    out[0] = IPV6;
    memcpy(out + 1, &in6->sin6_addr, 16);
    memcpy(out + 17, &in6->sin6_port, 2);
    return IPV6_BYTES;
}

/* Read an address with its kind before it.  Returns where it ends, 0: it is another kind, or not whole. */
static size_t parse_address(const char *data, size_t size, char *target)
{
    static const char mapped[12] = {[10] = (char)0xFF, [11] = (char)0xFF}; /* RFC 4291, 2.5.5.2 */
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (size >= IPV4_BYTES && data[0] == IPV4) {
        memcpy(&in.sin_addr, data + 1, 4);
        memcpy(&in.sin_port, data + 5, 2);
        memcpy(target, &in, sizeof in);
        return IPV4_BYTES;
    }
    if (size < IPV6_BYTES || data[0] != IPV6)
        return 0;
    memcpy(&in6.sin6_addr, data + 1, 16);
    memcpy(&in6.sin6_port, data + 17, 2);
    memcpy(target, &in6, sizeof in6);
    return memcmp(data + 1, mapped, sizeof mapped) == 0 ? 0 : IPV6_BYTES;
}

static struct sockaddr_storage target_of(const struct pair *pair)
{
    struct sockaddr_storage target = {.ss_family = AF_UNSPEC};
    memcpy(&target, pair->client.target, sizeof pair->client.target);
    return target;
}

static socklen_t name_size_of(const struct sockaddr_storage *name)
{
    return name->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* ---- the caller's again */

static sb_relay_returned *return_client(sb_relay *relay, struct pair *pair, int state, int error)
{
    const struct client *client = &pair->client;
    sb_relay_returned *one = &relay->returned[relay->counts.returned++];
    *one = (sb_relay_returned){
        .id = pair->slot.id,
        .group = client->group,
        .fd = pair->fd[0],
        .state = state,
        .error = error,
        .peer_size = client->peer_size,
        .was_asked = pair->phase >= PHASE_ASKED,
        .counted = client->sources != NULL,
        .began_ms = client->began_ms,
    };
    memcpy(one->peer, client->peer, sizeof one->peer);
    if (one->was_asked) { /* its request, and the data read with it */
        struct sockaddr_storage target = target_of(pair);
        size_t size = REQUEST_HEAD;
        memcpy(one->data, (char[]){VERSION, CONNECT, 0}, REQUEST_HEAD);
        size += put_address(one->data + size, &target);
        if (pair->way[0].rest != NULL)
            memcpy(one->data + size, pair->way[0].rest, pair->way[0].size);
        one->size = (int32_t)(size + pair->way[0].size);
    }
    epoll_ctl(relay->epoll, EPOLL_CTL_DEL, pair->fd[0], NULL);
    if (pair->fd[1] >= 0)
        close(pair->fd[1]);
    sb__relay_leave(relay, pair);
    return one;
}

static int stage_of(const struct pair *pair)
{
    switch (pair->phase) {
    case PHASE_GREETING:
        return SB_RETURNED_NEW;
    case PHASE_CONNECTING:
        return SB_RETURNED_CONNECTING;
    default:
        return SB_RETURNED_GREETED;
    }
}

/* ---- its greeting and its request */

static int parse_greeting(struct pair *pair, const char *data, size_t size)
{
    static const char answer[] = {VERSION, NO_LOGIN};
    if (size < 3 || data[0] != VERSION || (unsigned char)data[1] + 2u != size)
        return 0;
    if (memchr(data + 2, NO_LOGIN, size - 2) == NULL)
        return 0;
    if (sb_send(pair->fd[0], answer, sizeof answer) != sizeof answer)
        return 0;
    pair->phase = PHASE_REQUEST;
    return 1;
}

static int parse_request(sb_relay *relay, struct pair *pair, const char *data, size_t size)
{
    struct client *client = &pair->client;
    if (size < REQUEST_HEAD || data[0] != VERSION || data[1] != CONNECT)
        return 0;
    size_t end = parse_address(data + REQUEST_HEAD, size - REQUEST_HEAD, client->target);
    if (end == 0)
        return 0;
    end += REQUEST_HEAD;
    if (size > end && sb__relay_hold(&pair->way[0], data + end, size - end) < 0)
        return 0;
    pair->phase = PHASE_ASKED;
    client->due_ms = -1;
    sb_relay_request *request = &relay->requests[relay->counts.requests++];
    *request = (sb_relay_request){
        .id = pair->slot.id,
        .group = client->group,
        .peer_size = client->peer_size,
        .began_ms = client->began_ms,
    };
    memcpy(request->peer, client->peer, sizeof request->peer);
    memcpy(request->target, client->target, sizeof request->target);
    return 1;
}

static void hear(sb_relay *relay, struct pair *pair)
{
    char data[HEARD];
    long n = sb_receive(pair->fd[0], data, sizeof data);
    if (n == SB_ERR_AGAIN)
        return;
    if (n < 0) { /* an end of file is read again by the next owner, an error is not */
        return_client(relay, pair, stage_of(pair), n == SB_ERR_END ? 0 : errno);
        return;
    }
    int was_parsed = pair->phase == PHASE_GREETING ? parse_greeting(pair, data, (size_t)n)
                                                  : parse_request(relay, pair, data, (size_t)n);
    if (!was_parsed) {
        sb_relay_returned *one = return_client(relay, pair, stage_of(pair), 0);
        memcpy(one->data, data, (size_t)n);
        one->size = (int32_t)n;
    }
}

/* ---- its target */

/* A connection to a port of this host without a listener may be one to itself (RFC 9293, 3.5). */
static int is_itself(const struct sockaddr_storage *name, const struct sockaddr_storage *target)
{
    char one[IPV6_BYTES] = {0}, other[IPV6_BYTES] = {0};
    put_address(one, name);
    put_address(other, target);
    return memcmp(one, other, sizeof one) == 0;
}

/* Reply, and be a pair.  0, or the errno for which it cannot be one; its end may have come already. */
static int pair_up(sb_relay *relay, struct pair *pair, int operation)
{
    struct sockaddr_storage name = {.ss_family = AF_INET}, target = target_of(pair);
    socklen_t name_size = sizeof name;
    (void)getsockname(pair->fd[1], (struct sockaddr *)&name, &name_size);
    if (is_itself(&name, &target))
        return ECONNREFUSED;
    pair->phase = PHASE_PAIR;
    if (sb__relay_watch(relay, pair, 1, operation) < 0) {
        pair->phase = PHASE_CONNECTING;
        return errno;
    }
    char reply[REQUEST_HEAD + IPV6_BYTES] = {VERSION};
    size_t size = REQUEST_HEAD + put_address(reply + REQUEST_HEAD, &name);
    long n = sb_send(pair->fd[0], reply, size);
    size_t sent = n < 0 ? 0 : (size_t)n; /* an error is met again when the pair moves */
    pair->moved_ms = relay->now_ms;
    if (sent < size && sb__relay_hold(&pair->way[1], reply + sent, size - sent) < 0) {
        sb__relay_end(relay, pair, SB_REASON_LIMIT, 0, 0);
        return 0;
    }
    sb__relay_note_deadline(relay, pair);
    sb__relay_watch_both(relay, pair);
    return 0;
}

/* Begin to connect; on one host that is done at once.  0, or why not. */
static int reach(sb_relay *relay, struct pair *pair)
{
    struct sockaddr_storage target = target_of(pair), peer;
    socklen_t size = name_size_of(&target), peer_size = sizeof peer;
    int on = 1, fd = socket(target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    pair->fd[1] = fd;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    errno = EINPROGRESS; /* as it stays when that is done */
    (void)connect(fd, (struct sockaddr *)&target, size);
    if (errno != EINPROGRESS)
        return errno;
    if (getpeername(fd, (struct sockaddr *)&peer, &peer_size) == 0)
        return pair_up(relay, pair, EPOLL_CTL_ADD);
    return sb__relay_watch(relay, pair, 1, EPOLL_CTL_ADD) < 0 ? errno : 0;
}

static void connected(sb_relay *relay, struct pair *pair)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(pair->fd[1], SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == 0)
        error = pair_up(relay, pair, EPOLL_CTL_MOD);
    if (error != 0)
        return_client(relay, pair, SB_RETURNED_CONNECTING, error);
}

/* While it waits, what it sends ahead stays where it is, its end of file too, for it may have half-closed; and is
 * looked at no more.  From then on it is ready by an error or a hang-up alone: it is gone. */
static void peek(sb_relay *relay, struct pair *pair)
{
    char byte;
    ssize_t n = pair->client.is_ahead ? -1 : recv(pair->fd[0], &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && !pair->client.is_ahead && sb__class_of(errno) == SB_ERR_AGAIN)
        return;
    if (n < 0) {
        return_client(relay, pair, SB_RETURNED_CONNECTING, 0);
        return;
    }
    pair->client.is_ahead = 1;
    sb__relay_watch_both(relay, pair);
}

uint32_t sb__client_wants(const struct pair *pair, int side)
{
    if (side == 1)
        return EPOLLOUT;
    return pair->client.is_ahead ? 0 : (uint32_t)EPOLLIN;
}

void sb__client_ready(sb_relay *relay, struct pair *pair, int side, uint32_t events)
{
    if (pair->phase != PHASE_CONNECTING && events & EPOLLERR)
        return_client(relay, pair, stage_of(pair), ECONNRESET); /* its earlier data is not wanted */
    else if (pair->phase != PHASE_CONNECTING)
        hear(relay, pair);
    else if (side == 1)
        connected(relay, pair);
    else
        peek(relay, pair);
}

static int is_connected(const struct pair *pair)
{
    struct pollfd target = {.fd = pair->fd[1], .events = POLLOUT};
    return poll(&target, 1, 0) > 0;
}

/* Its time is over: what the kernel has of it is heard before that is said. */
void sb__client_judge(sb_relay *relay, struct pair *pair)
{
    int phase = pair->phase, is_quiet = relay->is_quiet;
    if (!is_quiet && phase != PHASE_CONNECTING)
        hear(relay, pair);
    else if (!is_quiet && is_connected(pair))
        connected(relay, pair);
    if (pair->fd[0] < 0)
        return;
    if (phase == PHASE_GREETING && pair->phase == PHASE_REQUEST)
        sb__client_judge(relay, pair); /* it may have sent both */
    else if (pair->phase == phase)
        return_client(relay, pair, stage_of(pair), phase == PHASE_CONNECTING ? ETIMEDOUT : 0);
}

/* ---- from outside */

static int64_t within(const sb_relay *relay, int64_t ms)
{
    return ms > 0 ? relay->now_ms + sb__lesser(ms, SB_FOREVER_MS) : -1;
}

/* 0, or the errno for which no client can be accepted. */
static int let_in(sb_relay *relay, int fd, const sb_relay_door *door, const struct sockaddr_storage *peer, int counted)
{
    struct pair *pair = sb__relay_enter(relay, (struct pair){
        .fd = {fd, -1},
        .phase = PHASE_GREETING,
        .idle_ms = sb__lesser(door->idle_ms, SB_FOREVER_MS),
        .half_ms = sb__lesser(door->half_ms, SB_FOREVER_MS),
        .client = {
            .group = door->group,
            .sources = counted ? door->sources : NULL,
            .began_ms = relay->now_ms,
            .due_ms = within(relay, door->negotiation_ms),
            .connect_ms = door->connect_ms,
        },
    });
    if (peer->ss_family == AF_INET || peer->ss_family == AF_INET6) {
        pair->client.peer_size = (int32_t)name_size_of(peer);
        memcpy(pair->client.peer, peer, name_size_of(peer));
    }
    if (sb__relay_watch(relay, pair, 0, EPOLL_CTL_ADD) < 0) {
        int error = errno;
        close(fd);
        if (counted)
            sb_sources_leave(door->sources, pair->client.peer, (size_t)pair->client.peer_size);
        sb__relay_leave(relay, pair);
        return error;
    }
    sb__relay_note_deadline(relay, pair);
    return 0;
}

int sb_relay_accept(sb_relay *relay, int listener, const sb_relay_door *door, int max, int *stopped)
{
    int came = 0, unused;
    if (relay == NULL || door == NULL || (door->negotiation_ms | door->connect_ms | door->idle_ms | door->half_ms) < 0)
        return SB_ERR_INVALID;
    stopped = stopped == NULL ? &unused : stopped;
    *stopped = 0;
    sb__relay_now(relay);
    for (int i = 0; i < max && *stopped == 0; i++) {
        struct sockaddr_storage peer;
        socklen_t size;
        if (relay->counts.pairs == relay->slots.size) {
            *stopped = SB_ERR_FULL;
            break;
        }
        int fd = sb__accept(listener, &peer, &size, stopped);
        if (fd == SB_NOBODY)
            break;
        if (fd == SB_LOST)
            continue;
        int counted = sb__enters(door->sources, fd, &peer, size);
        if (counted < 0)
            continue;
        *stopped = let_in(relay, fd, door, &peer, counted);
        came += *stopped == 0;
    }
    return came;
}

sb_relay_request *sb_relay_requests(sb_relay *relay)
{
    return relay == NULL ? NULL : relay->requests;
}

const sb_relay_returned *sb_relay_returned_ones(const sb_relay *relay)
{
    return relay == NULL ? NULL : relay->returned;
}

int sb_relay_answer(sb_relay *relay)
{
    if (relay == NULL)
        return SB_ERR_INVALID;
    int64_t requests = relay->counts.requests;
    relay->counts.requests = 0;
    sb__relay_now(relay); /* the caller has decided since */
    for (int64_t i = 0; i < requests; i++) {
        struct pair *pair = sb__relay_pair(relay, relay->requests[i].id);
        if (pair == NULL)
            continue; /* aborted meanwhile */
        if (!relay->requests[i].allowed) {
            return_client(relay, pair, SB_RETURNED_GREETED, 0);
            continue;
        }
        pair->phase = PHASE_CONNECTING;
        pair->client.due_ms = within(relay, pair->client.connect_ms);
        int error = reach(relay, pair);
        if (error != 0)
            return_client(relay, pair, SB_RETURNED_CONNECTING, error);
        else if (pair->phase == PHASE_CONNECTING)
            sb__relay_note_deadline(relay, pair);
    }
    return 0;
}

int sb_relay_return_clients(sb_relay *relay, int group)
{
    if (relay == NULL)
        return SB_ERR_INVALID;
    relay->counts.returned = 0;
    for (int32_t i = 0; i < relay->slots.used; i++) {
        struct pair *pair = &relay->pairs[i];
        int is_unasked = pair->phase == PHASE_GREETING || pair->phase == PHASE_REQUEST;
        if (pair->fd[0] >= 0 && is_unasked && pair->client.group == group)
            return_client(relay, pair, stage_of(pair), 0);
    }
    return 0;
}

#else

int sb_relay_accept(sb_relay *relay, int listener, const sb_relay_door *door, int max, int *stopped)
{
    (void)relay, (void)listener, (void)door, (void)max, (void)stopped;
    return SB_ERR_INVALID;
}

sb_relay_request *sb_relay_requests(sb_relay *relay)
{
    (void)relay;
    return NULL;
}

const sb_relay_returned *sb_relay_returned_ones(const sb_relay *relay)
{
    (void)relay;
    return NULL;
}

int sb_relay_answer(sb_relay *relay)
{
    (void)relay;
    return SB_ERR_INVALID;
}

int sb_relay_return_clients(sb_relay *relay, int group)
{
    (void)relay, (void)group;
    return SB_ERR_INVALID;
}

#endif
