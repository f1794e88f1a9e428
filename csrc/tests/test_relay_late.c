/* SPDX-License-Identifier: MIT */
/* test_relay_late - when a pair, or a client, is late; and ids that reach no other pair */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#if SB_HAS_EPOLL

enum { QUICK = 4, DELIVERY_MS = 20 };

static const char greeting[] = {5, 1, 0};

/* One call; what it has left, by places: "place:reason ", "place<state,error ", "place? " for a request, which is allowed. */
static const char *run_now(sb_relay *relay)
{
    static char text[8192];
    const sb_relay_counts *counts = sb_relay_counts_of(relay);
    size_t used = 0;
    text[0] = '\0';
    sb_relay_run(relay);
    for (int i = 0; i < counts->requests; i++) {
        sb_relay_requests(relay)[i].allowed = 1;
        used += (size_t)snprintf(text + used, sizeof text - used, "%d? ", sb_relay_requests(relay)[i].id % 8);
    }
    sb_relay_answer(relay);
    for (int i = 0; i < counts->ends; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%d:%d ", sb_relay_ends(relay)[i].id % 8,
                                 sb_relay_ends(relay)[i].reason);
    for (int i = 0; i < counts->returned; i++) {
        const sb_relay_returned *one = &sb_relay_returned_ones(relay)[i];
        used += (size_t)snprintf(text + used, sizeof text - used, "%d<%d,%d ", one->id % 8, one->state, one->error);
        close(one->fd);
    }
    return text;
}

/* The calls that are due until so much time has passed. */
static const char *after(sb_relay *relay, int64_t ms)
{
    static char text[8192];
    const sb_relay_counts *counts = sb_relay_counts_of(relay);
    int64_t end = clock_now() + ms;
    text[0] = '\0';
    while (counts->due_ms >= 0 && counts->due_ms <= end) {
        int64_t wait = counts->due_ms - clock_now();
        clock_advance(wait > 0 ? wait : 0);
        strcat(text, run_now(relay));
    }
    clock_advance(end > clock_now() ? end - clock_now() : 0);
    return text;
}

static int pair_of(sb_relay *relay, int ends[2], int64_t idle_ms, int64_t half_ms)
{
    int near[2], far[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, near), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, far), 0);
    sb_relay_pair about = {.one = near[1], .other = far[0], .idle_ms = idle_ms, .half_ms = half_ms};
    ends[0] = near[0];
    ends[1] = far[1];
    return sb_relay_add(relay, &about);
}

static void close_both(const int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

static void say(int fd, const void *data, size_t size)
{
    CHECK_EQ(send(fd, data, size, MSG_NOSIGNAL), size);
}

static int is_readable(int fd)
{
    return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, DELIVERY_MS);
}

/* The caller was held up, and bytes came in time: from either side, an end, room for what was held. */
static void what_came_is_moved_first(void)
{
    enum { SIDE, OTHER, END, HALF, SILENT };
    static const char *const later[] = {"", "", "0:16 ", "", "0:7 "};
    for (int way = SIDE; way <= SILENT; way++) {
        sb_relay *relay = sb_relay_new(8);
        int ends[2];
        CHECK_EQ(pair_of(relay, ends, 1000, way == END ? 500 : 1000), 0);
        if (way == HALF)
            shutdown(ends[0], SHUT_WR);
        CHECK_TEXT(run_now(relay), "");
        if (way == END)
            shutdown(ends[0], SHUT_WR);
        else if (way != SILENT)
            say(ends[way != SIDE], "x", 1);
        clock_advance(3000);
        for (int i = 0; i < QUICK; i++)
            CHECK_TEXT(run_now(relay), "");
        CHECK_TEXT(after(relay, 800), later[way]);
        CHECK_TEXT(after(relay, 800), way == SIDE || way == OTHER ? "0:7 " : way == HALF ? "0:16 " : "");
        close_both(ends);
        sb_relay_free(relay);
    }
}

/* epoll did not tell of it, as when more are ready than it tells of at once. */
static void the_kernel_is_asked(void)
{
    static const char *const ends_as[] = {"", "", "", "0:3 ", "0:7 "};
    for (int way = 0; way < 5; way++) {
        sb_relay *relay = sb_relay_new(8);
        int ends[2], max = way == 2;
        CHECK_EQ(pair_of(relay, ends, 1000, 1000), 0);
        CHECK_TEXT(after(relay, 900), "");
        if (way == 1)
            CHECK_EQ(shutdown(ends[0], SHUT_WR), 0);
        if (way == 3)
            fail_nth(CALL_RECV, 1, ECONNRESET);
        if (way != 4)
            say(ends[1], "x", 1);
        for (int i = 0; i < 1 + max; i++)
            fail_nth(CALL_EPOLL_WAIT, 1, EINTR);
        if (way == 2)
            fail_nth(CALL_EPOLL_CTL, 1, ENOMEM); /* nothing is to be told to epoll */
        CHECK_TEXT(after(relay, 350), ends_as[way]);
        CHECK_EQ(faults_clear(), 1);
        close_both(ends);
        sb_relay_free(relay);
    }
}

/* epoll was asked until it had no more: then nothing is received of a pair that was not ready. */
static void the_silent_are_not_received_from(void)
{
    sb_relay *relay = sb_relay_new(8);
    int ends[2];
    CHECK_EQ(pair_of(relay, ends, 1000, 1000), 0);
    CHECK_TEXT(after(relay, 900), "");
    fail_nth(CALL_RECV, 1, ECONNRESET);
    CHECK_TEXT(after(relay, 350), "0:7 ");
    CHECK_EQ(faults_clear(), 0);
    close_both(ends);
    sb_relay_free(relay);
}

/* In asking, it is found that epoll has to be told something, and cannot be. */
static void asking_fails(void)
{
    sb_relay *relay = sb_relay_new(8);
    int ends[2];
    CHECK_EQ(pair_of(relay, ends, 1000, 1000), 0);
    CHECK_TEXT(after(relay, 900), "");
    say(ends[1], "x", 1);
    fail_nth(CALL_EPOLL_WAIT, 1, EINTR);
    fail_nth(CALL_SEND, 1, EAGAIN);
    fail_nth(CALL_EPOLL_CTL, 1, ENOMEM);
    CHECK_TEXT(after(relay, 350), "0:9 ");
    faults_clear();
    close_both(ends);
    sb_relay_free(relay);
}

static double cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* A call for a deadline that has moved on, beside so many pairs that are quiet. */
static double cost_of(int pairs)
{
    double cost = 0;
    sb_relay *relay = sb_relay_new(8192);
    const sb_relay_counts *counts = sb_relay_counts_of(relay);
    int shared[2], (*ends)[2] = calloc((size_t)pairs, sizeof *ends);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, shared), 0);
    for (int i = 0; i < pairs; i++)
        CHECK(pair_of(relay, ends[i], 1000000000, 0) >= 0);
    CHECK(pair_of(relay, shared, 1000, 0) >= 0);
    clock_advance(500); /* from now on it moves half a deadline before each */
    for (int i = 0; i < 100; i++) {
        say(shared[0], "x", 1);
        CHECK_TEXT(run_now(relay), "");
        clock_advance(counts->due_ms > clock_now() ? counts->due_ms - clock_now() : 0);
        double begin = cpu_us();
        sb_relay_run(relay);
        cost += cpu_us() - begin;
        CHECK_EQ(counts->ends, 0);
    }
    for (int i = 0; i < pairs; i++)
        close_both(ends[i]);
    sb_relay_free(relay);
    free(ends);
    return cost;
}

/* A deadline looks at those that are due, not at all: what a call costs does not grow with their number. */
static void many_that_are_not_due(void)
{
    enum { MANY = 4000 };
    struct rlimit open;
    getrlimit(RLIMIT_NOFILE, &open);
    open.rlim_cur = open.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &open) < 0 || open.rlim_cur < 4 * MANY + 100)
        return;
    (void)cost_of(10);
    double few = cost_of(10), many = cost_of(MANY);
    CHECK(many < 5 * few); /* 50 when each is looked at */
}

/* Many at once are ended one by one, and the others are moved in between: a call closes one socket. */
static void one_in_a_call(void)
{
    enum { MANY = 100 };
    sb_relay *relay = sb_relay_new(128);
    const sb_relay_counts *counts = sb_relay_counts_of(relay);
    int ends[MANY][2], calls = 0;
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(pair_of(relay, ends[i], 1000, 0), i);
    CHECK_TEXT(after(relay, 900), "");
    for (; counts->due_ms >= 0 && calls < 3 * MANY; calls++) {
        clock_advance(counts->due_ms > clock_now() ? counts->due_ms - clock_now() : 0);
        sb_relay_run(relay);
        CHECK_EQ(counts->ends, 1 - calls % 2);
    }
    CHECK_EQ(counts->pairs, 0);
    CHECK_EQ(calls, 2 * MANY);
    for (int i = 0; i < MANY; i++)
        close_both(ends[i]);
    sb_relay_free(relay);
}

/* The caller was late once: that is no reason to be patient with each eight of those who were due meanwhile. */
static void late_once(void)
{
    enum { MANY = 100 };
    sb_relay *relay = sb_relay_new(128);
    const sb_relay_counts *counts = sb_relay_counts_of(relay);
    int ends[MANY][2], calls = 0;
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(pair_of(relay, ends[i], 1000, 0), i);
    clock_advance(3000);
    int64_t began = clock_now();
    for (; counts->pairs > 0 && calls < 3 * MANY; calls++) {
        clock_advance(counts->due_ms > clock_now() ? counts->due_ms - clock_now() : 0);
        sb_relay_run(relay);
        clock_advance(6); /* and so is over 50 ms behind the first deadline all the time */
    }
    CHECK(calls <= 4 + 2 * MANY);
    CHECK(clock_now() - began <= 4 * 10 + 6 * calls);
    for (int i = 0; i < MANY; i++)
        close_both(ends[i]);
    sb_relay_free(relay);
}

/* The second socket of a pair that was late is closed by the next call, or with the relay. */
static void the_other_one_is_closed_next(void)
{
    for (int is_freed = 0; is_freed < 2; is_freed++) {
        sb_relay *relay = sb_relay_new(8);
        const sb_relay_counts *counts = sb_relay_counts_of(relay);
        int ends[2];
        CHECK_EQ(pair_of(relay, ends, 1000, 0), 0);
        CHECK_TEXT(after(relay, 900), "");
        clock_advance(counts->due_ms - clock_now());
        CHECK_TEXT(run_now(relay), "0:7 ");
        CHECK(is_readable(ends[0]));
        CHECK(!is_readable(ends[1]));
        CHECK(counts->due_ms <= clock_now());
        if (!is_freed)
            CHECK_TEXT(run_now(relay), "");
        else
            sb_relay_free(relay);
        CHECK(is_readable(ends[1]));
        if (!is_freed) {
            CHECK_EQ(counts->due_ms, -1);
            sb_relay_free(relay);
        }
        close_both(ends);
    }
}

/* Many whose deadlines have moved on are looked at some in a call, and the next is asked for at once. */
static void some_looks_in_a_call(void)
{
    enum { MANY = 100 };
    sb_relay *relay = sb_relay_new(128);
    const sb_relay_counts *counts = sb_relay_counts_of(relay);
    int ends[MANY][2], calls = 0;
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(pair_of(relay, ends[i], 1000, 0), i);
    clock_advance(500);
    for (int i = 0; i < MANY; i++)
        say(ends[i][0], "x", 1);
    CHECK_TEXT(run_now(relay), "");
    clock_advance(counts->due_ms - clock_now());
    for (; counts->due_ms <= clock_now() && calls < MANY; calls++)
        CHECK_TEXT(run_now(relay), "");
    CHECK(calls >= MANY / 16);
    for (int i = 0; i < MANY; i++)
        close_both(ends[i]);
    sb_relay_free(relay);
}

/* The caller slept for longer than once round the wheel, and who is looked at last hangs where it was: 250 ms, 64 s. */
static void a_long_sleep(void)
{
    clock_advance(250 - clock_now() % 250);
    sb_relay *relay = sb_relay_new(8);
    int first[2], last[2];
    CHECK_EQ(pair_of(relay, last, 1000, 0), 0);
    CHECK_EQ(pair_of(relay, first, 1250, 0), 1);
    CHECK_TEXT(run_now(relay), "");
    clock_advance(64000 + 1000);
    CHECK_TEXT(after(relay, 200), "1:7 0:7 ");
    close_both(first);
    close_both(last);
    sb_relay_free(relay);
}

/* A deadline that is nobody's any more, or nobody's yet. */
static void nobody_is_due(void)
{
    sb_relay *relay = sb_relay_new(8);
    const sb_relay_counts *counts = sb_relay_counts_of(relay);
    int gone[2], later[QUICK + 1][2];
    int id = pair_of(relay, gone, 1000, 0);
    sb_relay_abort(relay, id, 99);
    CHECK_EQ(sb_relay_ends(relay)[0].reason, SB_REASON_ABORTED);
    clock_advance(3000);
    CHECK_TEXT(run_now(relay), "");
    CHECK_EQ(counts->due_ms, -1);
    close_both(gone);
    for (int i = 0; i < QUICK + 1; i++) {
        id = pair_of(relay, gone, 1000, 0);
        CHECK(pair_of(relay, later[i], 60000, 0) > id);
        sb_relay_abort(relay, id, SB_REASON_SHUTDOWN);
        clock_advance(3000);
        CHECK_TEXT(run_now(relay), "");
        CHECK(counts->due_ms > clock_now() + 50000 || i > 0);
        close_both(gone);
    }
    for (int i = 0; i < QUICK + 1; i++)
        close_both(later[i]);
    sb_relay_free(relay);
}

static void a_kept_id_reaches_no_other_pair(void)
{
    sb_relay *relay = sb_relay_new(1);
    int ends[2], others[2];
    int id = pair_of(relay, ends, 0, 0);
    close_both(ends);
    CHECK_TEXT(run_now(relay), "0:1 ");
    int other = pair_of(relay, others, 0, 0);
    CHECK(other != id);
    say(others[0], "abc", 3);
    CHECK_TEXT(run_now(relay), "");
    sb_relay_abort(relay, id, SB_REASON_SHUTDOWN);
    CHECK_EQ(sb_relay_counts_of(relay)->pairs, 1);
    CHECK_EQ(sb_relay_moved(relay, id, 0), SB_ERR_GONE);
    CHECK_EQ(sb_relay_moved(relay, other, 0), 3);
    close_both(others);
    CHECK_EQ(sb_relay_add(relay, &(sb_relay_pair){.one = -1, .other = 0}), SB_ERR_INVALID);
    CHECK_EQ(sb_relay_add(relay, &(sb_relay_pair){.one = 0, .other = -1}), SB_ERR_INVALID);
    CHECK_EQ(sb_relay_add(relay, &(sb_relay_pair){.one = 0, .other = 0, .idle_ms = -1}), SB_ERR_INVALID);
    CHECK_EQ(sb_relay_add(relay, &(sb_relay_pair){.one = 0, .other = 0, .half_ms = -1}), SB_ERR_INVALID);
    sb_relay_free(relay);
}

static void no_relay(void)
{
    sb_relay_door door = {.group = 0};
    sb_relay_pair pair = {.one = 0, .other = 0};
    CHECK_EQ(sb_relay_add(NULL, &pair), SB_ERR_INVALID);
    CHECK_EQ(sb_relay_run(NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_relay_answer(NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_relay_return_clients(NULL, 0), SB_ERR_INVALID);
    CHECK_EQ(sb_relay_accept(NULL, 0, &door, 1, NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_relay_abort(NULL, 0, 0), SB_ERR_GONE);
    CHECK_EQ(sb_relay_lost(NULL, 0, 0, 0), SB_ERR_GONE);
    CHECK_EQ(sb_relay_moved(NULL, 0, 0), SB_ERR_GONE);
    CHECK_EQ(sb_relay_fileno(NULL), -1);
    CHECK(sb_relay_counts_of(NULL) == NULL && sb_relay_ends(NULL) == NULL);
    CHECK(sb_relay_requests(NULL) == NULL && sb_relay_returned_ones(NULL) == NULL);
    sb_relay_free(NULL);
    sb_relay *relay = sb_relay_new(1);
    CHECK_EQ(sb_relay_add(relay, NULL), SB_ERR_INVALID);
    for (int i = 0; i < 4; i++) {
        sb_relay_door late = {.group = 0};
        int64_t *const times[] = {&late.negotiation_ms, &late.connect_ms, &late.idle_ms, &late.half_ms};
        *times[i] = -1;
        CHECK_EQ(sb_relay_accept(relay, 0, &late, 1, NULL), SB_ERR_INVALID);
    }
    CHECK_EQ(sb_relay_accept(relay, 0, NULL, 1, NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_relay_accept(relay, 0, &door, 0, NULL), 0);
    CHECK_EQ(sb_relay_abort(relay, 0, 0), SB_ERR_GONE);
    CHECK_EQ(sb_relay_lost(relay, 0, 0, 0), SB_ERR_GONE);
    sb_relay_free(relay);
}

/* ---- clients */

static int listen_on(struct sockaddr_in *name, int backlog)
{
    socklen_t size = sizeof *name;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    *name = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    CHECK_EQ(bind(fd, (struct sockaddr *)name, size), 0);
    CHECK_EQ(listen(fd, backlog), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)name, &size), 0);
    return fd;
}

static int dial(const struct sockaddr_in *name)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(connect(fd, (const struct sockaddr *)name, sizeof *name), 0);
    return fd;
}

static void ask(int client, const struct sockaddr_in *target)
{
    char request[10] = {5, 1, 0, 1};
    memcpy(request + 4, &target->sin_addr, 4);
    memcpy(request + 8, &target->sin_port, 2);
    say(client, request, sizeof request);
}

struct door {
    sb_relay *relay;
    struct sockaddr_in name, target;
    int listener, listening;
};

static struct door door_of(int backlog)
{
    struct door door = {.relay = sb_relay_new(8)};
    door.listener = listen_on(&door.name, 8);
    door.listening = listen_on(&door.target, backlog);
    return door;
}

static int visit(struct door *door, int64_t negotiation_ms, int64_t connect_ms)
{
    sb_relay_door about = {.group = 1, .negotiation_ms = negotiation_ms, .connect_ms = connect_ms};
    int stopped, client = dial(&door->name);
    CHECK_EQ(sb_relay_accept(door->relay, door->listener, &about, 1, &stopped), 1);
    return client;
}

static void leave(struct door *door, int client)
{
    close(client);
    sb_relay_free(door->relay);
    close(door->listener);
    close(door->listening);
}

/* Its greeting, or its request, or both waited when its time was over: what is whole is answered, the rest is late. */
static void a_client_is_heard_first(void)
{
    enum { SILENT, GREETED, ASKED, GREETED_NOW, BOTH };
    static const char *const want[] = {"0<0,0 ", "0<1,0 ", "0? ", "0<1,0 ", "0? "};
    for (int way = SILENT; way <= BOTH; way++) {
        struct door door = door_of(8);
        int client = visit(&door, 1000, 0);
        if (way == GREETED || way == ASKED) {
            say(client, greeting, sizeof greeting);
            CHECK_EQ(is_readable(sb_relay_fileno(door.relay)), 1);
            CHECK_TEXT(run_now(door.relay), "");
        }
        CHECK_TEXT(after(door.relay, 900), "");
        if (way == ASKED)
            ask(client, &door.target);
        if (way == GREETED_NOW || way == BOTH)
            say(client, greeting, sizeof greeting);
        if (way != SILENT && way != GREETED)
            CHECK_EQ(is_readable(sb_relay_fileno(door.relay)), 1);
        clock_advance(sb_relay_counts_of(door.relay)->due_ms - clock_now());
        fail_nth(CALL_EPOLL_WAIT, 1, EINTR);
        if (way == BOTH) { /* in two pieces, of which the second comes as the first is heard */
            cap_size(CALL_RECV, sizeof greeting);
            ask(client, &door.target);
            is_readable(client);
        }
        const char *got = run_now(door.relay);
        if (way == BOTH)
            CHECK_TEXT(got, "0<1,0 "); /* for it is not whole in one: whoever knows more goes on with it */
        else
            CHECK_TEXT(got, want[way]);
        cap_size(CALL_RECV, 0);
        faults_clear();
        leave(&door, client);
    }
}

/* It was connected in time, and is found to be when that was over. */
static void a_target_is_asked_first(void)
{
    for (int is_connected = 0; is_connected < 2; is_connected++) {
        struct door door = door_of(0);
        int full = dial(&door.target), client = visit(&door, 0, 1000);
        say(client, greeting, sizeof greeting);
        CHECK_EQ(is_readable(sb_relay_fileno(door.relay)), 1);
        CHECK_TEXT(run_now(door.relay), "");
        ask(client, &door.target); /* its SYN is dropped, and sent again a second later */
        CHECK_EQ(is_readable(sb_relay_fileno(door.relay)), 1);
        CHECK_TEXT(run_now(door.relay), "0? ");
        CHECK_EQ(sb_relay_counts_of(door.relay)->pairs, 1);
        CHECK_TEXT(after(door.relay, 900), "");
        int accepted = accept(door.listening, NULL, NULL);
        if (is_connected)
            CHECK_EQ(poll(&(struct pollfd){.fd = sb_relay_fileno(door.relay), .events = POLLIN}, 1, 5000), 1);
        clock_advance(sb_relay_counts_of(door.relay)->due_ms - clock_now());
        fail_nth(CALL_EPOLL_WAIT, 1, EINTR);
        CHECK_TEXT(run_now(door.relay), is_connected ? "" : "0<2,110 ");
        CHECK_EQ(sb_relay_counts_of(door.relay)->pairs, is_connected);
        faults_clear();
        close(full);
        close(accepted);
        leave(&door, client);
    }
}

/* The caller judges for long: connecting has its time from then on; who was aborted meanwhile is passed over. */
static void connecting_is_timed_from_its_begin(void)
{
    for (int is_aborted = 0; is_aborted < 2; is_aborted++) {
        struct door door = door_of(0);
        int full = dial(&door.target), client = visit(&door, 0, 1000);
        say(client, greeting, sizeof greeting);
        CHECK_EQ(is_readable(sb_relay_fileno(door.relay)), 1);
        CHECK_TEXT(run_now(door.relay), "");
        ask(client, &door.target);
        CHECK_EQ(is_readable(sb_relay_fileno(door.relay)), 1);
        sb_relay_run(door.relay);
        CHECK_EQ(sb_relay_counts_of(door.relay)->requests, 1);
        sb_relay_requests(door.relay)[0].allowed = 1;
        clock_advance(1500);
        if (is_aborted)
            sb_relay_abort(door.relay, sb_relay_requests(door.relay)[0].id, SB_REASON_SHUTDOWN);
        sb_relay_answer(door.relay);
        CHECK_EQ(sb_relay_counts_of(door.relay)->pairs, !is_aborted);
        CHECK(is_aborted || sb_relay_counts_of(door.relay)->due_ms >= clock_now() + 1000);
        close(full);
        leave(&door, client);
    }
}

/* It hung for its negotiation, and has no deadline since. */
static void no_deadline_is_left(void)
{
    struct door door = door_of(0);
    int full = dial(&door.target), client = visit(&door, 1000, 0);
    say(client, greeting, sizeof greeting);
    CHECK_EQ(is_readable(sb_relay_fileno(door.relay)), 1);
    CHECK_TEXT(run_now(door.relay), "");
    ask(client, &door.target);
    CHECK_EQ(is_readable(sb_relay_fileno(door.relay)), 1);
    CHECK_TEXT(run_now(door.relay), "0? ");
    CHECK_TEXT(after(door.relay, 1300), "");
    CHECK_EQ(sb_relay_counts_of(door.relay)->pairs, 1);
    CHECK_EQ(sb_relay_counts_of(door.relay)->due_ms, -1);
    close(full);
    leave(&door, client);
}

const struct test relay_late_tests[] = {
    {"relay late: no relay", no_relay},
    {"relay late: the silent are not received from", the_silent_are_not_received_from},
    {"relay late: no deadline is left", no_deadline_is_left},
    {"relay late: what came is moved first", what_came_is_moved_first},
    {"relay late: the kernel is asked", the_kernel_is_asked},
    {"relay late: asking fails", asking_fails},
    {"relay late: many that are not due", many_that_are_not_due},
    {"relay late: one in a call", one_in_a_call},
    {"relay late: the other one is closed next", the_other_one_is_closed_next},
    {"relay late: some looks in a call", some_looks_in_a_call},
    {"relay late: late once", late_once},
    {"relay late: a long sleep", a_long_sleep},
    {"relay late: nobody is due", nobody_is_due},
    {"relay late: a kept id reaches no other pair", a_kept_id_reaches_no_other_pair},
    {"relay late: a client is heard first", a_client_is_heard_first},
    {"relay late: a target is asked first", a_target_is_asked_first},
    {"relay late: connecting is timed from its begin", connecting_is_timed_from_its_begin},
    {NULL, NULL},
};

#else

const struct test relay_late_tests[] = {{NULL, NULL}};

#endif
