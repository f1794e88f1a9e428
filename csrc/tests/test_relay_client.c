/* SPDX-License-Identifier: MIT */
/* test_relay_client - clients of a SOCKS server, seen from themselves, from their targets, and from whoever judges */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#if SB_HAS_EPOLL

enum { WAIT_MS = 5000, GROUP = 7, MOST = 8 };

static const char greeting[] = {5, 1, 0}, method[] = {5, 0};

static struct {
    sb_relay *relay;
    int listener, target; /* where clients come to, and where they go */
    int allowed;          /* whether they may */
    int places;           /* of pairs: a power of two */
    sb_relay_door door;
} house;

static int port_of(int fd)
{
    struct sockaddr_in6 name = {0}; /* the port is at the same place in both kinds */
    socklen_t size = sizeof name;
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&name, &size), 0);
    return ntohs(name.sin6_port);
}

static int listen_on(int family)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (family == AF_INET)
        CHECK_EQ(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    else if (family == AF_INET6)
        CHECK_EQ(bind(fd, (struct sockaddr *)&in6, sizeof in6), 0);
    else
        CHECK_EQ(bind(fd, (struct sockaddr *)&un, sizeof un.sun_family), 0);
    CHECK_EQ(listen(fd, MOST), 0);
    return fd;
}

static void open_house(int family, int pairs)
{
    house.relay = sb_relay_new(pairs);
    house.listener = listen_on(family);
    house.target = listen_on(family == AF_UNIX ? AF_INET : family);
    house.allowed = 1;
    house.places = pairs;
    house.door = (sb_relay_door){.group = GROUP};
}

static void close_house(void)
{
    sb_relay_free(house.relay);
    close(house.listener);
    close(house.target);
    CHECK_EQ(faults_clear(), 0);
}

static int come(void)
{
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    CHECK_EQ(getsockname(house.listener, (struct sockaddr *)&name, &size), 0);
    int client = socket(name.ss_family, SOCK_STREAM, 0);
    CHECK_EQ(connect(client, (struct sockaddr *)&name, size), 0);
    return client;
}

static int let_in(int max)
{
    int stopped = 0, came = sb_relay_accept(house.relay, house.listener, &house.door, max, &stopped);
    CHECK_EQ(stopped, 0);
    return came;
}

static int visitor(void)
{
    int client = come();
    CHECK_EQ(let_in(1), 1);
    return client;
}

static int is_ready(int fd, int ms)
{
    return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, ms);
}

static void say(int fd, const void *data, size_t size)
{
    CHECK_EQ(send(fd, data, size, MSG_NOSIGNAL), size);
}

/* Up to 64 bytes in hexadecimal; "$" at the end, "!" for an error. */
static const char *heard(int fd)
{
    static char text[129];
    unsigned char data[64];
    CHECK_EQ(is_ready(fd, WAIT_MS), 1);
    ssize_t n = recv(fd, data, sizeof data, MSG_DONTWAIT);
    for (ssize_t i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", data[i]);
    return n > 0 ? text : n == 0 ? "$" : "!";
}

static const char *hex(const void *data, size_t size)
{
    static char text[140];
    text[0] = 0;
    for (size_t i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", ((const unsigned char *)data)[i]);
    return text;
}

/* What the last call has left: ends as "place:reason ", returned ones as "place<state,error,data ". */
static const char *news(void)
{
    static char text[1024];
    const sb_relay_counts *counts = sb_relay_counts_of(house.relay);
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < counts->ends; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%d:%d ", sb_relay_ends(house.relay)[i].id % house.places,
                                 sb_relay_ends(house.relay)[i].reason);
    for (int i = 0; i < counts->returned; i++) {
        const sb_relay_returned *one = &sb_relay_returned_ones(house.relay)[i];
        CHECK_EQ(one->group, GROUP);
        used += (size_t)snprintf(text + used, sizeof text - used, "%d<%d,%d,%s ", one->id % house.places, one->state, one->error,
                                 hex(one->data, (size_t)one->size));
        close(one->fd);
    }
    return text;
}

static const char *turn_now(void)
{
    sb_relay_run(house.relay);
    for (int i = 0; i < sb_relay_counts_of(house.relay)->requests; i++) {
        CHECK_EQ(sb_relay_requests(house.relay)[i].allowed, 0);
        sb_relay_requests(house.relay)[i].allowed = house.allowed;
    }
    sb_relay_answer(house.relay);
    CHECK_EQ(sb_relay_counts_of(house.relay)->requests, 0);
    return news();
}

/* The calls that are due until so much time has passed, and what they have left. */
static const char *after(int64_t ms)
{
    static char text[4096];
    const sb_relay_counts *counts = sb_relay_counts_of(house.relay);
    int64_t end = clock_now() + ms;
    text[0] = 0;
    for (int is_over = 0; !is_over;) {
        int64_t due = counts->due_ms;
        is_over = due < 0 || due > end;
        int64_t wait = (is_over ? end : due) - clock_now();
        clock_advance(wait > 0 ? wait : 0);
        strcat(text, turn_now());
    }
    return text;
}

static const char *turn(void)
{
    CHECK_EQ(is_ready(sb_relay_fileno(house.relay), WAIT_MS), 1);
    return turn_now();
}

/* Go on until there is something to read. */
static void turn_until(int fd)
{
    struct pollfd two[] = {{.fd = fd, .events = POLLIN}, {.events = POLLIN}};
    two[1].fd = sb_relay_fileno(house.relay);
    while (poll(two, 2, WAIT_MS) > 0 && two[0].revents == 0)
        CHECK_TEXT(turn_now(), "");
}

/* A request to connect to a port of this host's, and something behind it. */
static size_t request_of(char *out, int family, int port, const char *more)
{
    static const char in6[16] = {[15] = 1};
    size_t size = 4;
    memcpy(out, (char[]){5, 1, 0, family == AF_INET ? 1 : 4}, 4);
    if (family == AF_INET)
        memcpy(out + size, (char[]){127, 0, 0, 1}, 4);
    else
        memcpy(out + size, in6, 16);
    size += family == AF_INET ? 4 : 16;
    out[size++] = (char)(port >> 8);
    out[size++] = (char)port;
    memcpy(out + size, more, strlen(more));
    return size + strlen(more);
}

static void ask(int client, int family, int port, const char *more)
{
    char request[64];
    say(client, request, request_of(request, family, port, more));
}

static void greet(int client)
{
    say(client, greeting, sizeof greeting);
    CHECK_TEXT(turn(), "");
    CHECK_TEXT(heard(client), hex(method, sizeof method));
}

/* A client whose request is on its way. */
static int greeted(void)
{
    int client = visitor();
    greet(client);
    return client;
}

static int reached(void)
{
    CHECK_EQ(is_ready(house.target, WAIT_MS), 1);
    return accept(house.target, NULL, NULL);
}

/* A listener that takes no more: the queue is full, and SYN is dropped (listen(2)). */
static int busy_target(int *first)
{
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    CHECK_EQ(listen(house.target, 0), 0);
    CHECK_EQ(getsockname(house.target, (struct sockaddr *)&name, &size), 0);
    *first = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(connect(*first, (struct sockaddr *)&name, size), 0);
    return ntohs(name.sin_port);
}

static void check_reply(int client, int family, int server)
{
    char wanted[64];
    struct sockaddr_in6 peer;
    socklen_t size = sizeof peer;
    CHECK_EQ(getpeername(server, (struct sockaddr *)&peer, &size), 0);
    size_t reply = request_of(wanted, family, ntohs(peer.sin6_port), "");
    wanted[1] = 0;
    char text[140];
    snprintf(text, sizeof text, "%s", hex(wanted, reply));
    CHECK_TEXT(heard(client), text);
}

static void from_the_first_byte_to_the_last(void)
{
    static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    for (int i = 0; i < 3; i++) {
        int family = families[i], to = family == AF_UNIX ? AF_INET : family;
        open_house(family, 1);
        int client = visitor();
        CHECK_EQ(sb_relay_counts_of(house.relay)->pairs, 1);
        greet(client);
        ask(client, to, port_of(house.target), i ? "early" : "");
        CHECK_TEXT(turn(), "");
        int server = reached();
        check_reply(client, to, server);
        sb_relay_request *request = sb_relay_requests(house.relay);
        CHECK_EQ(request->group, GROUP);
        CHECK_EQ(request->peer_size, family == AF_INET ? 16 : family == AF_INET6 ? 28 : 0);
        say(server, "answer", 6);
        if (i) {
            turn_until(server);
            CHECK_TEXT(heard(server), hex("early", 5));
        }
        say(client, "more", 4);
        turn_until(server);
        CHECK_TEXT(heard(server), hex("more", 4));
        turn_until(client);
        CHECK_TEXT(heard(client), hex("answer", 6));
        close(client);
        CHECK_TEXT(turn(), "");
        CHECK_TEXT(heard(server), "$");
        close(server);
        CHECK_TEXT(turn(), "0:1 ");
        CHECK_EQ(sb_relay_counts_of(house.relay)->pairs, 0);
        close_house();
    }
}

/* A client that says this, and this when it was answered, comes back with the last of it. */
static void unusual(const char *first, size_t first_size, const char *second, size_t second_size)
{
    char wanted[200];
    open_house(AF_INET, 1);
    int client = visitor();
    say(client, first, first_size);
    if (second_size > 0) {
        CHECK_TEXT(turn(), "");
        CHECK_TEXT(heard(client), hex(method, sizeof method));
        say(client, second, second_size);
    }
    snprintf(wanted, sizeof wanted, "0<%d,0,%s ", second_size > 0 ? SB_RETURNED_GREETED : SB_RETURNED_NEW,
             second_size > 0 ? hex(second, second_size) : hex(first, first_size));
    CHECK_TEXT(turn(), wanted);
    CHECK_EQ(sb_relay_returned_ones(house.relay)->was_asked, 0);
    close(client);
    close_house();
}

#define UNUSUAL(first) unusual(first, sizeof first - 1, "", 0)
#define UNUSUAL_REQUEST(second) unusual("\5\1\0", 3, second, sizeof second - 1)

static void whoever_does_otherwise_is_given_back(void)
{
    UNUSUAL("\5");
    UNUSUAL("\5\1");
    UNUSUAL("\5\2\0");
    UNUSUAL("\5\1\2");
    UNUSUAL("\4\1\0");
    UNUSUAL("\5\1\0\5\1\0\1\177\0\0\1\0\20");
    UNUSUAL_REQUEST("\5\1");
    UNUSUAL_REQUEST("\5\1\0");
    UNUSUAL_REQUEST("\5\1\0\1\177\0\0\1\0");
    UNUSUAL_REQUEST("\5\2\0\1\177\0\0\1\0\20");
    UNUSUAL_REQUEST("\4\1\0\1\177\0\0\1\0\20");
    UNUSUAL_REQUEST("\5\1\0\3\11localhost\0\20");
    UNUSUAL_REQUEST("\5\1\0\3\40localhost.localhost.localhost.lo\0\20");
    UNUSUAL_REQUEST("\5\1\0\4\0\0\0\0\0\0\0\0\0\0\377\377\177\0\0\1\0\20");
    UNUSUAL_REQUEST("\5\1\0\4\0\0\0\0\0\0\0\0\0\0\377\377\177\0\0\1\0");
}

static void who_may_not_is_given_back_with_the_request(void)
{
    static const int families[] = {AF_INET, AF_INET6};
    for (int i = 0; i < 4; i++) {
        char request[64], wanted[200];
        const char *more = i % 2 ? "early" : "";
        open_house(AF_INET, 1);
        house.allowed = 0;
        int client = greeted();
        ask(client, families[i / 2], 4242, more);
        snprintf(wanted, sizeof wanted, "0<%d,0,%s ", SB_RETURNED_GREETED,
                 hex(request, request_of(request, families[i / 2], 4242, more)));
        CHECK_TEXT(turn(), wanted);
        CHECK_EQ(sb_relay_returned_ones(house.relay)->was_asked, 1);
        CHECK_EQ(sb_relay_returned_ones(house.relay)->peer_size, 16);
        close(client);
        close_house();
    }
}

/* The client is given back, for its target could not be reached. */
static void check_failed(const char *got, int error, int port)
{
    char request[64], wanted[200];
    snprintf(wanted, sizeof wanted, "0<%d,%d,%s ", SB_RETURNED_CONNECTING, error,
             hex(request, request_of(request, AF_INET, port, "")));
    CHECK_TEXT(got, wanted);
    CHECK_EQ(sb_relay_counts_of(house.relay)->pairs, 0);
}

static void targets_that_cannot_be_reached(void)
{
    static const struct {
        enum call call;
        int error;
    } table[] = {{CALL_SOCKET, EMFILE}, {CALL_CONNECT, ENETUNREACH}, {CALL_EPOLL_CTL, ENOSPC}};
    open_house(AF_INET, 1);
    int free_port = port_of(house.target);
    close(house.target);
    int client = greeted();
    ask(client, AF_INET, free_port, "");
    const char *got = turn();
    check_failed(got[0] ? got : turn(), ECONNREFUSED, free_port); /* at once, or reported a little later */
    close(client);
    house.target = listen_on(AF_INET);
    int port = port_of(house.target);
    for (int i = 0; i < 3; i++) {
        client = greeted();
        ask(client, AF_INET, port, "");
        fail_nth(table[i].call, 1, table[i].error);
        check_failed(turn(), table[i].error, port);
        CHECK(faults_clear());
        close(client);
    }
    client = greeted(); /* not connected yet, and not to be waited for */
    ask(client, AF_INET, port, "");
    fail_nth(CALL_GETPEERNAME, 1, ENOTCONN);
    fail_nth(CALL_EPOLL_CTL, 1, ENOSPC);
    check_failed(turn(), ENOSPC, port);
    CHECK(faults_clear());
    close(client);
    close_house();
}

/* A client whose target has not answered yet. */
static int connecting(void)
{
    int client = greeted();
    ask(client, AF_INET, port_of(house.target), "");
    fail_nth(CALL_GETPEERNAME, 1, ENOTCONN);
    CHECK_TEXT(turn(), "");
    CHECK(faults_clear());
    return client;
}

static void a_target_that_answers_later(void)
{
    open_house(AF_INET, 1);
    int client = connecting();
    CHECK_TEXT(turn(), "");
    int server = reached();
    check_reply(client, AF_INET, server);
    close(client);
    close(server);
    while (sb_relay_counts_of(house.relay)->pairs)
        turn();
    int port = port_of(house.target);
    client = connecting();
    fail_nth(CALL_SO_ERROR, 1, EHOSTUNREACH);
    check_failed(turn(), EHOSTUNREACH, port);
    CHECK(faults_clear());
    close(client);
    client = connecting();
    fail_nth(CALL_EPOLL_CTL, 1, ENOMEM);
    check_failed(turn(), ENOMEM, port);
    CHECK(faults_clear());
    close(client);
    close_house();
}

static void one_that_meets_itself(void)
{
    open_house(AF_INET, 1);
    int client = greeted();
    say(client, "\5\1\0\1\0\0\0\0\0\0", 10); /* the name of a socket that has none */
    fail_nth(CALL_CONNECT, 1, EINPROGRESS);
    CHECK_TEXT(turn(), "");
    CHECK(faults_clear());
    char wanted[100];
    snprintf(wanted, sizeof wanted, "0<%d,%d,05010001000000000000 ", SB_RETURNED_CONNECTING, ECONNREFUSED);
    CHECK_TEXT(turn(), wanted);
    close(client);
    close_house();
}

static void who_sends_ahead_waits(void)
{
    open_house(AF_INET, 1);
    int client = connecting();
    say(client, "ahead", 5);
    CHECK_EQ(is_ready(sb_relay_fileno(house.relay), WAIT_MS), 1);
    CHECK_TEXT(turn(), "");
    int server = reached();
    check_reply(client, AF_INET, server);
    turn_until(server);
    CHECK_TEXT(heard(server), hex("ahead", 5));
    close(client);
    close(server);
    close_house();
}

static void reset(int fd)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
}

static void leave(int fd, int with_reset)
{
    if (with_reset)
        reset(fd);
    else
        close(fd);
}

static void who_leaves_is_noticed(void)
{
    char wanted[100];
    for (int with_reset = 0; with_reset < 2; with_reset++) {
        open_house(AF_INET, 1);
        int client = visitor();
        leave(client, with_reset);
        snprintf(wanted, sizeof wanted, "0<%d,%d, ", SB_RETURNED_NEW, with_reset ? ECONNRESET : 0);
        CHECK_TEXT(turn(), wanted);
        client = greeted();
        leave(client, with_reset);
        snprintf(wanted, sizeof wanted, "0<%d,%d, ", SB_RETURNED_GREETED, with_reset ? ECONNRESET : 0);
        CHECK_TEXT(turn(), wanted);
        close_house();
    }
}

static void an_error_of_receiving_is_told(void)
{
    char wanted[100];
    open_house(AF_INET, 1);
    int client = visitor();
    say(client, greeting, sizeof greeting);
    fail_nth(CALL_RECV, 1, ETIMEDOUT);
    snprintf(wanted, sizeof wanted, "0<%d,%d, ", SB_RETURNED_NEW, ETIMEDOUT);
    CHECK_TEXT(turn(), wanted);
    CHECK_EQ(faults_clear(), 1);
    close(client);
    close_house();
}

static void nobody_is_connected_for_who_was_reset(void)
{
    char wanted[100];
    open_house(AF_INET, 1);
    int client = greeted();
    ask(client, AF_INET, port_of(house.target), "early");
    reset(client);
    snprintf(wanted, sizeof wanted, "0<%d,%d, ", SB_RETURNED_GREETED, ECONNRESET);
    CHECK_TEXT(turn(), wanted);
    CHECK_EQ(is_ready(house.target, 0), 0);
    close_house();
}

static void who_half_closes_is_served(void)
{
    open_house(AF_INET, 1);
    int client = greeted();
    ask(client, AF_INET, port_of(house.target), "early");
    shutdown(client, SHUT_WR);
    CHECK_TEXT(turn(), "");
    int server = reached();
    check_reply(client, AF_INET, server);
    turn_until(server);
    CHECK_TEXT(heard(server), hex("early", 5));
    turn_until(server);
    CHECK_TEXT(heard(server), "$");
    say(server, "answer", 6);
    turn_until(client);
    CHECK_TEXT(heard(client), hex("answer", 6));
    close(server);
    CHECK_TEXT(turn(), "0:1 ");
    close(client);
    close_house();
}

/* The busy target has room at once; the kernel tries again a second later (RFC 6298). */
static void who_half_closes_while_connecting_is_served(void)
{
    int first;
    open_house(AF_INET, 1);
    int port = busy_target(&first), client = greeted();
    ask(client, AF_INET, port, "early");
    shutdown(client, SHUT_WR);
    CHECK_TEXT(turn(), "");
    CHECK_TEXT(turn_now(), "");
    CHECK_EQ(is_ready(sb_relay_fileno(house.relay), 0), 0); /* nothing spins */
    close(reached());
    turn_until(house.target);
    int server = reached();
    turn_until(client);
    check_reply(client, AF_INET, server);
    turn_until(server);
    CHECK_TEXT(heard(server), hex("early", 5));
    turn_until(server);
    CHECK_TEXT(heard(server), "$");
    close(server);
    CHECK_TEXT(turn(), "0:1 ");
    close(first);
    close(client);
    close_house();
}

static void who_leaves_while_connecting(void)
{
    enum { HALF_CLOSES, RESETS, AHEAD, IS_SLOW, WAYS };
    for (int how = 0; how < WAYS; how++) {
        int first;
        open_house(AF_INET, 1);
        int port = busy_target(&first), client = greeted();
        ask(client, AF_INET, port, "");
        CHECK_TEXT(turn(), "");
        if (how == AHEAD) {
            say(client, "ahead", 5);
            CHECK_TEXT(turn(), "");
        }
        if (how == HALF_CLOSES) {
            shutdown(client, SHUT_WR);
            CHECK_TEXT(turn(), "");
        }
        if (how == IS_SLOW)
            fail_nth(CALL_RECV, 1, EAGAIN); /* reported again, and then it has gone */
        reset(client);
        check_failed(turn(), 0, port);
        CHECK_EQ(faults_clear(), how == IS_SLOW);
        close(first);
        close_house();
    }
}

static void deadlines(void)
{
    char wanted[100];
    open_house(AF_INET, 4);
    house.door.negotiation_ms = 1000;
    house.door.connect_ms = INT64_MAX;
    house.door.idle_ms = 5000;
    int silent = visitor(), client = greeted();
    CHECK(sb_relay_counts_of(house.relay)->due_ms > 0);
    CHECK_TEXT(after(950), "");
    snprintf(wanted, sizeof wanted, "1<%d,0, 0<%d,0, ", SB_RETURNED_GREETED, SB_RETURNED_NEW);
    CHECK_TEXT(after(350), wanted);
    CHECK_EQ(sb_relay_counts_of(house.relay)->due_ms, -1);
    close(silent);
    close(client);
    client = greeted();
    ask(client, AF_INET, port_of(house.target), "");
    CHECK_TEXT(turn(), "");
    CHECK_TEXT(after(4900), ""); /* it has the deadline of a pair now */
    snprintf(wanted, sizeof wanted, "2:%d ", SB_REASON_IDLE_TIMEOUT);
    CHECK_TEXT(after(400), wanted);
    close(client);
    close_house();
}

static void a_request_is_not_late(void)
{
    int first;
    open_house(AF_INET, 1);
    house.door.negotiation_ms = house.door.connect_ms = 1000;
    int port = busy_target(&first), client = greeted();
    ask(client, AF_INET, port, "");
    CHECK_EQ(is_ready(sb_relay_fileno(house.relay), WAIT_MS), 1);
    clock_advance(5000);
    CHECK_TEXT(turn_now(), "");
    check_failed(after(1300), ETIMEDOUT, port);
    close(client);
    close(first);
    close_house();
}

static void memory_that_is_not_there(void)
{
    open_house(AF_INET, 1);
    int client = greeted();
    ask(client, AF_INET, 4242, "early");
    fail_nth(CALL_ALLOCATE, 1, ENOMEM);
    char request[64], wanted[200];
    snprintf(wanted, sizeof wanted, "0<%d,0,%s ", SB_RETURNED_GREETED,
             hex(request, request_of(request, AF_INET, 4242, "early")));
    CHECK_TEXT(turn(), wanted);
    CHECK(faults_clear());
    close(client);
    client = greeted();
    ask(client, AF_INET, port_of(house.target), "");
    cap_size(CALL_SEND, 3);
    fail_nth(CALL_ALLOCATE, 1, ENOMEM);
    snprintf(wanted, sizeof wanted, "0:%d ", SB_REASON_LIMIT);
    CHECK_TEXT(turn(), wanted);
    CHECK(faults_clear());
    close(client);
    close(reached());
    close_house();
}

static void replies_that_are_not_taken(void)
{
    char wanted[100];
    open_house(AF_INET, 1);
    int client = visitor();
    say(client, greeting, sizeof greeting);
    fail_nth(CALL_SEND, 1, EPIPE);
    snprintf(wanted, sizeof wanted, "0<%d,0,050100 ", SB_RETURNED_NEW);
    CHECK_TEXT(turn(), wanted);
    CHECK(faults_clear());
    close(client);
    for (int i = 0; i < 2; i++) { /* what is left of a reply goes first */
        client = greeted();
        ask(client, AF_INET, port_of(house.target), "");
        if (i)
            fail_nth(CALL_SEND, 1, EAGAIN);
        else
            cap_size(CALL_SEND, 3);
        CHECK_TEXT(turn(), "");
        faults_clear();
        int server = reached();
        say(server, "answer", 6);
        char reply[32] = {0};
        for (size_t got = 0; got < 16;) {
            turn_until(client);
            got += (size_t)recv(client, reply + got, sizeof reply - got, 0);
        }
        CHECK_EQ(memcmp(reply, "\5\0\0\1\177\0\0\1", 8), 0);
        CHECK_TEXT(reply + 10, "answer");
        close(client);
        close(server);
        while (sb_relay_counts_of(house.relay)->pairs)
            turn();
    }
    client = greeted();
    ask(client, AF_INET, port_of(house.target), "");
    fail_nth(CALL_SEND, 1, EAGAIN);
    fail_nth(CALL_EPOLL_CTL, 2, ENOMEM); /* to wait until it is taken */
    snprintf(wanted, sizeof wanted, "0:%d ", SB_REASON_LIMIT);
    CHECK_TEXT(turn(), wanted);
    CHECK(faults_clear());
    close(client);
    close(reached());
    close_house();
}

static void nothing_there_to_read(void)
{
    open_house(AF_INET, 1);
    int client = visitor();
    say(client, greeting, sizeof greeting);
    cap_size(CALL_RECV, 0);
    fail_nth(CALL_RECV, 1, EAGAIN);
    CHECK_TEXT(turn(), ""); /* it is asked again, in the same call */
    CHECK(faults_clear());
    CHECK_TEXT(heard(client), hex(method, sizeof method));
    close(client);
    close_house();
}

static void taken_back(void)
{
    char wanted[100];
    open_house(AF_INET, 8);
    int silent = visitor(), asks = greeted(), waits = greeted();
    ask(waits, AF_INET, port_of(house.target), "");
    CHECK_TEXT(turn(), "");
    house.door.group = 9;
    int others = visitor();
    close(visitor());
    sb_relay_run(house.relay);
    close(sb_relay_returned_ones(house.relay)->fd);
    sb_relay_return_clients(house.relay, GROUP);
    snprintf(wanted, sizeof wanted, "0<%d,0, 1<%d,0, ", SB_RETURNED_NEW, SB_RETURNED_GREETED);
    CHECK_TEXT(news(), wanted);
    CHECK_EQ(sb_relay_counts_of(house.relay)->pairs, 2);
    close(silent);
    close(asks);
    close(waits);
    sb_relay_free(house.relay); /* closes those that are left, with RST */
    CHECK_TEXT(heard(others), "!");
    close(others);
    close(house.listener);
    close(house.target);
}

static void accepting(void)
{
    static const int stops[] = {EMFILE, EBADF};
    int stopped;
    open_house(AF_INET, 2);
    CHECK_EQ(let_in(MOST), 0);
    int clients[] = {come(), come(), come()};
    fail_nth(CALL_ACCEPT, 1, ECONNABORTED);
    CHECK_EQ(let_in(2), 1); /* one is passed over */
    CHECK(faults_clear());
    for (int i = 0; i < 2; i++) {
        fail_nth(CALL_ACCEPT, 1, stops[i]);
        CHECK_EQ(sb_relay_accept(house.relay, house.listener, &house.door, 1, &stopped), 0);
        CHECK_EQ(stopped, stops[i]);
        CHECK(faults_clear());
    }
    fail_nth(CALL_EPOLL_CTL, 1, ENOSPC);
    CHECK_EQ(sb_relay_accept(house.relay, house.listener, &house.door, MOST, &stopped), 0);
    CHECK_EQ(stopped, ENOSPC);
    CHECK(faults_clear());
    CHECK_EQ(let_in(1), 1);
    CHECK_EQ(sb_relay_accept(house.relay, house.listener, &house.door, 1, &stopped), 0);
    CHECK_EQ(stopped, SB_ERR_FULL);
    for (int i = 0; i < 3; i++)
        close(clients[i]);
    close_house();
}

/* Each source so many; those that are the caller's again count until it says so. */
static void a_share_for_each_source(void)
{
    static const sb_sources_rule rule = {.max = 2, .prefix4 = 32, .prefix6 = 64, .loopback = 1, .seed = 1};
    open_house(AF_INET, MOST);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    sb_sources *sources = house.door.sources = sb_sources_new(&rule);
    int clients[] = {come(), come(), come()}, stopped;
    CHECK_EQ(let_in(MOST), 2);
    CHECK_TEXT(heard(clients[2]), "$");
    CHECK_EQ(sb_sources_refused(sources), 1);
    sb_relay_return_clients(house.relay, house.door.group);
    CHECK_EQ(sb_relay_counts_of(house.relay)->returned, 2);
    CHECK_EQ(sb_relay_returned_ones(house.relay)[0].counted, 1);
    CHECK_EQ(sb_sources_open(sources, (char *)&own, sizeof own), 2);
    for (int i = 0; i < 2; i++) {
        close(sb_relay_returned_ones(house.relay)[i].fd);
        sb_sources_leave(sources, (char *)&own, sizeof own);
    }
    int ends = come(), fails = come();
    CHECK_EQ(let_in(1), 1);
    fail_nth(CALL_EPOLL_CTL, 1, ENOSPC);
    CHECK_EQ(sb_relay_accept(house.relay, house.listener, &house.door, 1, &stopped), 0);
    CHECK_EQ(sb_sources_open(sources, (char *)&own, sizeof own), 1);
    CHECK(faults_clear());
    for (int32_t id = 0; id < MOST; id++)
        sb_relay_abort(house.relay, id, SB_REASON_ABORTED);
    CHECK_EQ(sb_sources_open(sources, (char *)&own, sizeof own), 0);
    for (int i = 0; i < 3; i++)
        close(clients[i]);
    close(ends);
    close(fails);
    close_house();
    sb_sources_free(sources);
}

const struct test relay_client_tests[] = {
    {"relay client: a share for each source", a_share_for_each_source},
    {"relay client: from the first byte to the last", from_the_first_byte_to_the_last},
    {"relay client: whoever does otherwise is given back", whoever_does_otherwise_is_given_back},
    {"relay client: who may not is given back with the request", who_may_not_is_given_back_with_the_request},
    {"relay client: targets that cannot be reached", targets_that_cannot_be_reached},
    {"relay client: a target that answers later", a_target_that_answers_later},
    {"relay client: one that meets itself", one_that_meets_itself},
    {"relay client: who sends ahead waits", who_sends_ahead_waits},
    {"relay client: who leaves is noticed", who_leaves_is_noticed},
    {"relay client: who leaves while connecting", who_leaves_while_connecting},
    {"relay client: an error of receiving is told", an_error_of_receiving_is_told},
    {"relay client: nobody is connected for who was reset", nobody_is_connected_for_who_was_reset},
    {"relay client: who half-closes is served", who_half_closes_is_served},
    {"relay client: who half-closes while connecting is served", who_half_closes_while_connecting_is_served},
    {"relay client: deadlines", deadlines},
    {"relay client: a request is not late", a_request_is_not_late},
    {"relay client: memory that is not there", memory_that_is_not_there},
    {"relay client: replies that are not taken", replies_that_are_not_taken},
    {"relay client: nothing there to read", nothing_there_to_read},
    {"relay client: taken back", taken_back},
    {"relay client: accepting", accepting},
    {NULL, NULL},
};

#else

static void not_here(void)
{
    CHECK_EQ(sb_relay_accept(NULL, 0, NULL, 1, NULL), SB_ERR_INVALID);
    CHECK(sb_relay_requests(NULL) == NULL);
    CHECK(sb_relay_returned_ones(NULL) == NULL);
    CHECK_EQ(sb_relay_answer(NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_relay_return_clients(NULL, 0), SB_ERR_INVALID);
}

const struct test relay_client_tests[] = {{"relay client: not here", not_here}, {NULL, NULL}};

#endif
