/* SPDX-License-Identifier: MIT */
/*
 * loadgen.c - the load generator of the bench: asks many lines at once, checks every byte of every answer.
 *
 *     loadgen [options] tcp://127.0.0.1:PORT | unix:/path
 *       --connections N   that speak (64); 0: only hold the idle ones until standard input ends or --seconds have passed
 *       --window W        lines in flight on each (1)
 *       --length L        bytes of a line, its newline included (32)
 *       --seconds D       measured, after the warm-up (3)
 *       --warmup D        not measured (0.3)
 *       --idle M          further connections, opened first and held, that never speak (0)
 *       --expect WHAT     the answer to a line: upper or echo (upper)
 *       --server-pid PID  prints that process' CPU share over the measured time as well
 *
 * One thread, one line of JSON. Exit codes: 0 every answer right, 1 an answer wrong, missing or a connection lost,
 * 64 usage, 71 the system refused something (connecting included).
 *
 * Every line differs from every other: it opens with the connection and a counter, so that an answer that is
 * doubled, lost, reordered or another connection's is caught. Because a line follows from its counter, nothing is
 * stored to compare with: a connection is two positions, one in what it sent and one in what was answered.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "generator.h"
#include "histogram.h"

#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sys/epoll.h>

enum {
    HEADER_BYTES = 12,       /* 4 letters for the connection, 8 for the counter, 4 bits each */
    MIN_LENGTH = 16,
    MAX_LENGTH = 1 << 20,
    MAX_CONNECTIONS = 1 << 16, /* what 4 letters can name */
    MAX_WINDOW = 1 << 16,
    IO_BYTES = 256 * 1024, /* one recv; one send, or a line if that is longer */
    EVENTS = 1024,
    DRAIN_S = 2, /* for answers still on their way when the measured time ends */
};

/* Both cases, digits, the neighbours of a, z, A and Z, and two bytes that are no ASCII: only a to z may change. */
static const char FILLER[] = "aZ`{@[ 09 \xc3\xa9 Mixed case ";

struct options {
    const char *address;
    size_t connections, window, length, idle;
    double seconds, warmup;
    bool echo;
    pid_t server;
};

struct connection {
    int fd; /* -1 once lost */
    unsigned id;
    bool awaits_room;
    uint64_t queued, sent, answered; /* lines; answered <= sent <= queued <= answered + window */
    size_t sent_at, answered_at;     /* bytes into the line after those */
    uint64_t *queued_ns;             /* of each line in flight, at counter % window */
};

/* A block of lines that want only their headers. */
struct block {
    char (*letters)[2]; /* for each byte, its two halves as letters */
    char *text;
};

enum phase { WARMING, MEASURING, DRAINING };

struct run {
    struct options options;
    int poll;
    enum phase phase;
    struct connection *connections;
    size_t live, block_lines;
    int *idle;
    struct block asked, expected;
    struct histogram latency;
    uint64_t mismatches, resets, missing, idle_lost;
    uint64_t begun_ns, ended_ns;
    uint64_t own_cpu_ns, server_cpu_ns; /* at the beginning; in the end, what was used in between */
    clockid_t server_clock;
    char in[IO_BYTES];
};

/* ---- lines ---- */

static void make_block(struct block *b, size_t lines, size_t length, bool in_upper_case)
{
    b->letters = must(calloc(256, sizeof *b->letters));
    for (unsigned i = 0; i < 256; i++) {
        b->letters[i][0] = (char)((in_upper_case ? 'A' : 'a') + (i >> 4));
        b->letters[i][1] = (char)((in_upper_case ? 'A' : 'a') + (i & 15));
    }
    b->text = must(malloc(lines * length));
    for (size_t i = 0; i < lines * length; i++) {
        char byte = FILLER[i % length % (sizeof FILLER - 1)];
        if (in_upper_case && byte >= 'a' && byte <= 'z')
            byte = (char)(byte - 'a' + 'A');
        b->text[i] = i % length == length - 1 ? '\n' : byte;
    }
}

static void put_header(const struct block *b, size_t at, unsigned id, uint64_t counter)
{
    char *header = b->text + at;
    for (unsigned i = 0; i < 2; i++)
        memcpy(header + 2 * i, b->letters[(id >> (8 - 8 * i)) & 255], 2);
    for (unsigned i = 0; i < 4; i++)
        memcpy(header + 4 + 2 * i, b->letters[(counter >> (24 - 8 * i)) & 255], 2);
}

/* ---- connections ---- */

static void watch(const struct run *r, int operation, struct connection *c)
{
    struct epoll_event event = {.events = c->awaits_room ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    if (epoll_ctl(r->poll, operation, c->fd, &event) < 0)
        die("epoll_ctl");
}

static void await_room(const struct run *r, struct connection *c, bool awaits)
{
    if (c->awaits_room != awaits) {
        c->awaits_room = awaits;
        watch(r, EPOLL_CTL_MOD, c);
    }
}

static void lose(struct run *r, struct connection *c, uint64_t *counter)
{
    ++*counter;
    close(c->fd);
    c->fd = -1;
    r->live--;
}

static void lose_reset(struct run *r, struct connection *c, const char *why)
{
    if (r->resets == 0)
        fprintf(stderr, "loadgen: connection %u after %llu answers: %s\n", c->id, (unsigned long long)c->answered, why);
    lose(r, c, &r->resets);
}

static void lose_mismatch(struct run *r, struct connection *c, const char *got, size_t length)
{
    int shown = (int)(length < 80 ? length : 80);
    if (r->mismatches == 0 && c->answered == c->queued)
        fprintf(stderr, "loadgen: connection %u: %zu bytes that answer nothing: %.*s\n", c->id, length, shown, got);
    else if (r->mismatches == 0)
        fprintf(stderr, "loadgen: connection %u, line %llu: expected %.*s\n         got %.*s\n", c->id,
                (unsigned long long)c->answered, shown, r->expected.text + c->answered_at, shown, got);
    lose(r, c, &r->mismatches);
}

static void flush(struct run *r, struct connection *c)
{
    size_t length = r->options.length;
    while (c->sent < c->queued) {
        size_t lines = c->queued - c->sent < r->block_lines ? (size_t)(c->queued - c->sent) : r->block_lines;
        for (size_t i = 0; i < lines; i++)
            put_header(&r->asked, i * length, c->id, c->sent + i);
        size_t wanted = lines * length - c->sent_at;
        ssize_t went = send(c->fd, r->asked.text + c->sent_at, wanted, MSG_NOSIGNAL);
        if (went < 0 && errno != EAGAIN && errno != EINTR) {
            lose_reset(r, c, strerror(errno));
            return;
        }
        c->sent_at += went < 0 ? 0 : (size_t)went;
        c->sent += c->sent_at / length;
        c->sent_at %= length;
        if (went < 0 || (size_t)went < wanted) {
            await_room(r, c, true);
            return;
        }
    }
    await_room(r, c, false);
}

static void ask(struct run *r, struct connection *c, size_t lines, uint64_t now)
{
    for (size_t i = 0; i < lines; i++)
        c->queued_ns[c->queued++ % r->options.window] = now;
    flush(r, c);
}

/* Compares what came with what must come, wherever the pieces are cut. Returns the lines completed, or -1. */
static ssize_t check(struct run *r, struct connection *c, size_t got, uint64_t now)
{
    ssize_t lines = 0;
    for (size_t at = 0; at < got;) {
        put_header(&r->expected, 0, c->id, c->answered);
        size_t left = r->options.length - c->answered_at;
        size_t part = left < got - at ? left : got - at;
        if (c->answered == c->queued || memcmp(r->in + at, r->expected.text + c->answered_at, part) != 0) {
            lose_mismatch(r, c, r->in + at, part);
            return -1;
        }
        at += part;
        c->answered_at += part;
        if (part == left) {
            if (r->phase == MEASURING)
                histogram_add(&r->latency, now - c->queued_ns[c->answered % r->options.window]);
            c->answered++;
            c->answered_at = 0;
            lines++;
        }
    }
    return lines;
}

static void receive(struct run *r, struct connection *c)
{
    ssize_t got = recv(c->fd, r->in, IO_BYTES, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        lose_reset(r, c, got == 0 ? "closed by the server" : strerror(errno));
        return;
    }
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    ssize_t lines = check(r, c, (size_t)got, now);
    if (lines > 0 && r->phase != DRAINING)
        ask(r, c, (size_t)lines, now);
}

/* ---- the run ---- */

static void turn(struct run *r, uint64_t until_ns)
{
    struct epoll_event events[EVENTS];
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    int wait_ms = now < until_ns ? (int)((until_ns - now) / 1000000) + 1 : 0;
    int ready = epoll_wait(r->poll, events, EVENTS, wait_ms);
    if (ready < 0 && errno != EINTR)
        die("epoll_wait");
    for (int i = 0; i < ready; i++) {
        struct connection *c = events[i].data.ptr;
        if (events[i].events & ~(uint32_t)EPOLLOUT)
            receive(r, c);
        if (c->fd >= 0 && c->awaits_room && (events[i].events & EPOLLOUT))
            flush(r, c);
    }
}

static void go_on(struct run *r, double seconds)
{
    uint64_t until_ns = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(seconds * (double)SECOND_NS);
    while (r->live > 0 && clock_ns(CLOCK_MONOTONIC) < until_ns)
        turn(r, until_ns);
}

static size_t lines_on_their_way(const struct run *r)
{
    size_t lines = 0;
    for (size_t i = 0; i < r->options.connections; i++)
        if (r->connections[i].fd >= 0)
            lines += (size_t)(r->connections[i].queued - r->connections[i].answered);
    return lines;
}

static void drain(struct run *r)
{
    uint64_t until_ns = clock_ns(CLOCK_MONOTONIC) + DRAIN_S * SECOND_NS;
    r->phase = DRAINING;
    while (lines_on_their_way(r) > 0 && clock_ns(CLOCK_MONOTONIC) < until_ns)
        turn(r, until_ns);
    r->missing = lines_on_their_way(r);
    go_on(r, 0.02); /* an answer too many comes right behind the last one */
}

static void measure(struct run *r)
{
    const struct options *o = &r->options;
    go_on(r, o->warmup);
    r->phase = MEASURING;
    r->own_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    r->server_cpu_ns = o->server != 0 ? clock_ns(r->server_clock) : 0;
    r->begun_ns = clock_ns(CLOCK_MONOTONIC);
    go_on(r, o->seconds);
    r->ended_ns = clock_ns(CLOCK_MONOTONIC);
    r->own_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - r->own_cpu_ns;
    r->server_cpu_ns = o->server != 0 ? clock_ns(r->server_clock) - r->server_cpu_ns : 0;
    drain(r);
}

static void open_all(struct run *r)
{
    const struct options *o = &r->options;
    r->block_lines = o->window * o->length <= IO_BYTES ? o->window : o->length < IO_BYTES ? IO_BYTES / o->length : 1;
    make_block(&r->asked, r->block_lines, o->length, false);
    make_block(&r->expected, 1, o->length, !o->echo);
    r->poll = epoll_create1(EPOLL_CLOEXEC);
    if (r->poll < 0)
        die("epoll_create1");
    r->idle = must(calloc(o->idle + 1, sizeof *r->idle));
    for (size_t i = 0; i < o->idle; i++)
        r->idle[i] = open_connection(o->address, true);
    r->connections = must(calloc(o->connections + 1, sizeof *r->connections));
    for (unsigned i = 0; i < o->connections; i++) {
        struct connection *c = &r->connections[i];
        c->id = i;
        c->queued_ns = must(calloc(o->window, sizeof *c->queued_ns));
        c->fd = open_connection(o->address, true);
        watch(r, EPOLL_CTL_ADD, c);
        r->live++;
    }
    for (size_t i = 0; i < o->connections; i++)
        ask(r, &r->connections[i], o->window, clock_ns(CLOCK_MONOTONIC));
}

/* Says that the idle connections stand, then waits for the end of standard input. */
static void hold(const struct options *o)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    printf("holding %zu\n", o->idle);
    fflush(stdout);
    (void)poll(&input, 1, (int)(o->seconds * 1000));
}

/* An idle connection has nothing to read: an end or a byte means that the server did not hold it. */
static void check_idle(struct run *r)
{
    char byte;
    for (size_t i = 0; i < r->options.idle; i++)
        if (recv(r->idle[i], &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN)
            r->idle_lost++;
}

static void print_result(const struct run *r)
{
    const struct histogram *h = &r->latency;
    double wall_ns = r->ended_ns > r->begun_ns ? (double)(r->ended_ns - r->begun_ns) : 1.0;
    printf("{\"replies\": %llu, \"seconds\": %.4f, \"per_second\": %.1f, ", (unsigned long long)h->total,
           wall_ns / (double)SECOND_NS, (double)h->total * (double)SECOND_NS / wall_ns);
    printf("\"p50_us\": %.1f, \"p99_us\": %.1f, \"p99_9_us\": %.1f, ", (double)histogram_percentile(h, 0.5) / 1000,
           (double)histogram_percentile(h, 0.99) / 1000, (double)histogram_percentile(h, 0.999) / 1000);
    printf("\"mismatches\": %llu, \"resets\": %llu, \"missing\": %llu, \"idle\": %zu, \"idle_lost\": %llu, ",
           (unsigned long long)r->mismatches, (unsigned long long)r->resets, (unsigned long long)r->missing,
           r->options.idle, (unsigned long long)r->idle_lost);
    if (r->options.server != 0)
        printf("\"server_cpu\": %.3f, ", (double)r->server_cpu_ns / wall_ns);
    printf("\"generator_cpu\": %.3f}\n", (double)r->own_cpu_ns / wall_ns);
}

/* ---- the command line ---- */

static void usage(const char *why)
{
    fprintf(stderr, "loadgen: %s\nusage: loadgen [--connections N] [--window W] [--length L] [--seconds D] [--warmup D]\n"
                    "               [--idle M] [--expect upper|echo] [--server-pid PID] ADDRESS\n", why);
    exit(64);
}

static struct options parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"connections", required_argument, NULL, 'c'}, {"window", required_argument, NULL, 'w'},
        {"length", required_argument, NULL, 'l'},      {"seconds", required_argument, NULL, 's'},
        {"warmup", required_argument, NULL, 'u'},      {"idle", required_argument, NULL, 'i'},
        {"expect", required_argument, NULL, 'e'},      {"server-pid", required_argument, NULL, 'p'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {.connections = 64, .window = 1, .length = 32, .seconds = 3, .warmup = 0.3};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (option) {
        case 'c': o.connections = (size_t)number(optarg, 0, MAX_CONNECTIONS); break;
        case 'w': o.window = (size_t)number(optarg, 1, MAX_WINDOW); break;
        case 'l': o.length = (size_t)number(optarg, MIN_LENGTH, MAX_LENGTH); break;
        case 's': o.seconds = number(optarg, 0, 3600); break;
        case 'u': o.warmup = number(optarg, 0, 3600); break;
        case 'i': o.idle = (size_t)number(optarg, 0, 1 << 20); break;
        case 'p': o.server = (pid_t)number(optarg, 1, 1 << 22); break;
        case 'e':
            o.echo = strcmp(optarg, "echo") == 0;
            if (!o.echo && strcmp(optarg, "upper") != 0)
                usage("--expect is upper or echo");
            break;
        default: usage("unknown option");
        }
    }
    union address ignored;
    if (optind != argc - 1 || address_parse(argv[optind], &ignored) == 0)
        usage("one address, tcp://A.B.C.D:PORT or unix:/path, after the options");
    o.address = argv[optind];
    return o;
}

int main(int argc, char **argv)
{
    static struct run run;
    run.options = parse(argc, argv);
    if (run.options.server != 0)
        run.server_clock = clock_of(run.options.server);
    open_all(&run);
    if (run.options.connections == 0)
        hold(&run.options);
    else
        measure(&run);
    check_idle(&run);
    print_result(&run);
    return run.mismatches + run.resets + run.missing + run.idle_lost == 0 ? 0 : 1;
}
