/* SPDX-License-Identifier: MIT */
/*
 * fuzz_client - a client of a SOCKS server is asked for, or is the caller's again with all that was read of it
 *
 * DESCRIPTION
 *   The first byte of an input is where it is cut in two, the rest is what a
 *   client sends.  No request is allowed, so each client comes back: with the
 *   bytes that it sent, but for a greeting that was answered and for the reserved
 *   byte of a request, which is not kept.
 */
#include "sockrelay.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEARD = 64, RESERVED = 2 };

static sb_relay *relay;
static int listener;
static struct sockaddr name = {.sa_family = AF_UNIX};
static socklen_t name_size = sizeof name;

static void require(int is_true)
{
    if (!is_true)
        abort();
}

static void begin(void)
{
    relay = sb_relay_new(8);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    require(relay != NULL && listener >= 0);
    require(bind(listener, &name, sizeof name.sa_family) == 0 && listen(listener, 8) == 0); /* autobind, unix(7) */
    require(getsockname(listener, &name, &name_size) == 0);
}

/* Send, and let it be heard.  The client, when it has come back. */
static const sb_relay_returned *say(int client, const uint8_t *data, size_t size)
{
    if (size > 0)
        require(send(client, data, size, MSG_NOSIGNAL) == (ssize_t)size);
    sb_relay_run(relay);
    const sb_relay_counts *counts = sb_relay_counts_of(relay);
    if (counts->requests > 0)
        sb_relay_answer(relay);
    require(counts->returned <= 1 && counts->ends == 0 && counts->requests == 0);
    return counts->returned ? sb_relay_returned_ones(relay) : NULL;
}

static size_t lesser(size_t one, size_t other)
{
    return one < other ? one : other;
}

/* It came back with what it had sent behind its greeting, or with that, as far as it was read. */
static void compare(const sb_relay_returned *back, const uint8_t *stream, size_t sent)
{
    char wanted[HEARD] = {0};
    size_t start = back->state == SB_RETURNED_NEW ? 0 : 2u + stream[1];
    size_t size = lesser(sent - start, HEARD);
    require((size_t)back->size == size);
    memcpy(wanted, stream + start, size);
    if (back->was_asked)
        wanted[RESERVED] = 0;
    require(memcmp(back->data, wanted, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sb_relay_door door = {.group = 1};
    int stopped;
    if (relay == NULL)
        begin();
    if (size < 2 || size > 512)
        return 0;
    size_t cut = lesser(data[0] & 15, size - 1), rest = size - 1 - cut;
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    require(connect(client, &name, name_size) == 0);
    require(sb_relay_accept(relay, listener, &door, 1, &stopped) == 1);
    const sb_relay_returned *back = say(client, data + 1, cut);
    size_t sent = cut;
    if (back == NULL && rest > 0) {
        back = say(client, data + 1 + cut, rest);
        sent += rest;
    }
    if (back == NULL) { /* it waits for more: all that came is answered */
        shutdown(client, SHUT_WR);
        back = say(client, data, 0);
    }
    require(back != NULL && back->group == 1 && back->error == 0);
    require(back->was_asked ? back->state == SB_RETURNED_GREETED : back->state != SB_RETURNED_CONNECTING);
    compare(back, data + 1, sent);
    close(back->fd);
    close(client);
    return 0;
}
