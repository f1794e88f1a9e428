/* SPDX-License-Identifier: MIT */
/* test_sources - how many connections are open from where */
#include "world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct peer {
    char bytes[sizeof(struct sockaddr_in6)];
    size_t size;
};

static struct peer of(const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = 7};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = 7};
    struct peer peer = {.size = sizeof in};
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
        memcpy(peer.bytes, &in, sizeof in);
        return peer;
    }
    CHECK_EQ(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    memcpy(peer.bytes, &in6, sizeof in6);
    peer.size = sizeof in6;
    return peer;
}

static sb_sources *sources_of(int max, int loopback)
{
    sb_sources_rule rule = {.max = max, .prefix4 = 32, .prefix6 = 64, .loopback = loopback, .seed = 12345};
    return sb_sources_new(&rule);
}

static int enter(sb_sources *sources, const char *text)
{
    struct peer peer = of(text);
    return sb_sources_enter(sources, peer.bytes, peer.size);
}

static void leave(sb_sources *sources, const char *text)
{
    struct peer peer = of(text);
    sb_sources_leave(sources, peer.bytes, peer.size);
}

static int open_of(const sb_sources *sources, const char *text)
{
    struct peer peer = of(text);
    return sb_sources_open(sources, peer.bytes, peer.size);
}

static void a_limit(void)
{
    sb_sources *sources = sources_of(2, 0);
    CHECK_EQ(enter(sources, "192.0.2.1"), 1);
    CHECK_EQ(enter(sources, "::ffff:192.0.2.1"), 1); /* the same */
    CHECK_EQ(enter(sources, "192.0.2.1"), SB_ERR_LIMIT);
    CHECK_EQ(enter(sources, "192.0.2.2"), 1);
    CHECK_EQ(sb_sources_refused(sources), 1);
    char key[16], text[INET6_ADDRSTRLEN];
    CHECK_EQ(sb_sources_refused_last(sources, key), 32);
    CHECK_TEXT(inet_ntop(AF_INET6, key, text, sizeof text), "::ffff:192.0.2.1");
    struct peer peer = of("192.0.2.1");
    CHECK_EQ(sb_sources_add(sources, peer.bytes, peer.size), 1); /* was let in elsewhere */
    CHECK_EQ(open_of(sources, "192.0.2.1"), 3);
    leave(sources, "192.0.2.1");
    leave(sources, "192.0.2.1");
    CHECK_EQ(enter(sources, "192.0.2.1"), 1);
    CHECK_EQ(enter(sources, "192.0.2.1"), SB_ERR_LIMIT);
    CHECK_EQ(sb_sources_limit(sources, 3), 0);
    CHECK_EQ(sb_sources_limit(sources, 0), SB_ERR_INVALID);
    CHECK_EQ(enter(sources, "192.0.2.1"), 1);
    for (int i = 0; i < 4; i++) /* once too often */
        leave(sources, "192.0.2.1");
    CHECK_EQ(open_of(sources, "192.0.2.1"), 0);
    sb_sources_free(sources);
    sb_sources_free(NULL);
}

static void a_site(void)
{
    sb_sources *sources = sources_of(2, 0);
    CHECK_EQ(enter(sources, "2001:db8:0:1::1"), 1);
    CHECK_EQ(enter(sources, "2001:db8:0:1:ffff::"), 1);
    CHECK_EQ(enter(sources, "2001:db8:0:1::2"), SB_ERR_LIMIT);
    char key[16], text[INET6_ADDRSTRLEN];
    CHECK_EQ(sb_sources_refused_last(sources, key), 64);
    CHECK_TEXT(inet_ntop(AF_INET6, key, text, sizeof text), "2001:db8:0:1::");
    CHECK_EQ(enter(sources, "2001:db8:0:2::1"), 1);
    sb_sources_free(sources);
    sb_sources_rule rule = {.max = 1, .prefix4 = 12, .prefix6 = 0, .loopback = 1, .seed = 1};
    sources = sb_sources_new(&rule);
    CHECK_EQ(enter(sources, "10.16.0.1"), 1);
    CHECK_EQ(enter(sources, "10.31.255.1"), SB_ERR_LIMIT);
    CHECK_EQ(enter(sources, "10.32.0.1"), 1);
    CHECK_EQ(enter(sources, "2001:db8::1"), 1);
    CHECK_EQ(enter(sources, "fe80::1"), SB_ERR_LIMIT);
    sb_sources_free(sources);
}

static void who_is_not_counted(void)
{
    sb_sources *sources = sources_of(1, 0);
    static const char *const near[] = {"127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"};
    for (size_t i = 0; i < 2 * sizeof near / sizeof near[0]; i++) {
        CHECK_EQ(enter(sources, near[i / 2]), 0);
        leave(sources, near[i / 2]);
        CHECK_EQ(open_of(sources, near[i / 2]), 0);
    }
    CHECK_EQ(sb_sources_enter(sources, "", 0), 0);
    CHECK_EQ(enter(sources, "::2"), 1);
    sb_sources_free(sources);
    sources = sources_of(1, 1);
    CHECK_EQ(enter(sources, "127.0.0.1"), 1);
    CHECK_EQ(enter(sources, "127.0.0.1"), SB_ERR_LIMIT);
    sb_sources_free(sources);
}

static void numbers_that_make_no_sense(void)
{
    sb_sources_rule rules[] = {{0, 32, 64, 0, 0}, {1, -1, 64, 0, 0}, {1, 33, 64, 0, 0}, {1, 32, -1, 0, 0}, {1, 32, 129, 0, 0}};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        CHECK(sb_sources_new(&rules[i]) == NULL);
}

/* Against plain counting: many sources that come and go. */
static void many(void)
{
    enum { SOURCES = 1000 };
    static int open[SOURCES];
    sb_sources *sources = sources_of(3, 0);
    memset(open, 0, sizeof open);
    int wrong = 0;
    for (int i = 0; i < rounds(60000, 3000000); i++) {
        uint32_t n = random_below(i % 20000 < 10000 ? SOURCES : SOURCES / 20);
        char text[32];
        snprintf(text, sizeof text, n % 2 ? "10.0.%u.%u" : "2001:db8:%x:%x::1", n / 256, n % 256);
        if (random_below(5) < 2) {
            wrong += enter(sources, text) != (open[n] < 3 ? 1 : SB_ERR_LIMIT);
            open[n] += open[n] < 3;
        } else {
            leave(sources, text);
            open[n] -= open[n] > 0;
        }
        wrong += open_of(sources, text) != open[n];
    }
    CHECK_EQ(wrong, 0);
    sb_sources_free(sources);
}

static void no_memory(void)
{
    for (int nth = 1; nth <= 2; nth++) {
        fail_nth(CALL_ALLOCATE, nth, ENOMEM);
        CHECK(sources_of(1, 0) == NULL);
    }
    sb_sources *sources = sources_of(1, 0);
    char text[32];
    int code = 1, n = 0;
    fail_nth(CALL_ALLOCATE, 1, ENOMEM);
    for (; code == 1 && n < 100; n++) {
        snprintf(text, sizeof text, "10.0.0.%d", n);
        code = enter(sources, text);
    }
    CHECK_EQ(code, SB_ERR_NOMEM);
    CHECK_EQ(n, 33);
    CHECK_EQ(enter(sources, text), 1);
    sb_sources_free(sources);
}

static void accepted_into_a_set(void)
{
    struct world *w = world_of(8, lines_group());
    struct sockaddr_in address;
    int fd = listener(&address), stopped = 7;
    sb_sources *sources = sources_of(2, 1);
    sb_mux_sources(w->mux, 9, sources); /* no such group */
    sb_mux_sources(w->mux, 0, sources);
    for (int i = 0; i < 4; i++)
        w->peer[i] = dial(&address);
    CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 10, &stopped), 2);
    CHECK_EQ(stopped, 0);
    CHECK_EQ(sb_sources_refused(sources), 2);
    CHECK_EQ(open_of(sources, "127.0.0.1"), 2);
    char byte;
    CHECK_EQ(read(w->peer[3], &byte, 1), 0); /* closed */
    close(w->peer[3]);
    hang_up(w, 0);
    turn(w);
    CHECK_EQ(open_of(sources, "127.0.0.1"), 1);
    struct peer other = of("192.0.2.1");
    CHECK_EQ(sb_mux_peer(w->mux, 1, other.bytes, other.size), 0);
    CHECK_EQ(open_of(sources, "127.0.0.1"), 0);
    learn_changes(w);
    sb_mux_reap(w->mux);
    w->peer[0] = dial(&address);
    if (w->epoll)
        fail_nth(CALL_EPOLL_CTL, 1, ENOMEM);
    CHECK_EQ(sb_mux_accept(w->mux, fd, 0, 10, &stopped), !w->epoll);
    CHECK_EQ(open_of(sources, "127.0.0.1"), !w->epoll);
    close(fd);
    end_of(w);
    sb_sources_free(sources);
}

static void over_epoll(void)
{
#if SB_HAS_EPOLL
    with_epoll = 1;
    accepted_into_a_set();
#endif
}

static void told_what_is_ready(void)
{
    with_epoll = 0;
    accepted_into_a_set();
}

static void no_table(void)
{
    char key[16];
    CHECK(sb_sources_new(NULL) == NULL);
    CHECK_EQ(sb_sources_enter(NULL, "", 0), 0);
    CHECK_EQ(sb_sources_open(NULL, "", 0), 0);
    CHECK_EQ(sb_sources_limit(NULL, 1), SB_ERR_INVALID);
    CHECK_EQ(sb_sources_refused_last(NULL, key), SB_ERR_INVALID);
    sb_sources *sources = sb_sources_new(&(sb_sources_rule){.max = 1});
    CHECK_EQ(sb_sources_refused_last(sources, NULL), SB_ERR_INVALID);
    sb_sources_free(sources);
    CHECK_EQ(sb_sources_refused(NULL), 0);
    sb_sources_leave(NULL, "", 0);
}

const struct test sources_tests[] = {
    {"sources: no table", no_table},
    {"sources: a limit", a_limit},
    {"sources: a site", a_site},
    {"sources: who is not counted", who_is_not_counted},
    {"sources: numbers that make no sense", numbers_that_make_no_sense},
    {"sources: many", many},
    {"sources: no memory", no_memory},
    {"sources: accepted into a mux, over epoll", over_epoll},
    {"sources: accepted into a mux, told what is ready", told_what_is_ready},
    {NULL, NULL},
};
