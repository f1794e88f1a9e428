#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- a world: a set, the peers of its connections, and a log of its events */

enum { PEERS = 80 };

struct world {
    sb_set *set;
    int epoll;
    int group;
    int peer[PEERS]; /* of id; -1: none */
    int interest[PEERS];
    char log[8192];
    size_t logged;
};

static int with_epoll; /* each test runs with it and without */

static void note(struct world *w, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    w->logged += (size_t)vsnprintf(w->log + w->logged, sizeof w->log - w->logged, format, arguments);
    va_end(arguments);
}

static sb_group lines_group(void)
{
    return (sb_group){.framing = SB_FRAMING_LINE, .max_frame = 1000, .high_water = 1 << 16, .max_unsent = 1 << 22, .linger_ms = 1000};
}

static struct world *world_of(int rows, sb_group group)
{
    struct world *w = calloc(1, sizeof *w);
    w->epoll = with_epoll;
    w->set = sb_set_new(rows, w->epoll);
    CHECK(w->set != NULL);
    for (int i = 0; i < PEERS; i++)
        w->peer[i] = -1;
    w->group = sb_set_group(w->set, &group);
    CHECK_EQ(w->group, 0);
    return w;
}

static void hang_up(struct world *w, int id)
{
    if (w->peer[id] >= 0)
        close(w->peer[id]);
    w->peer[id] = -1;
}

static void end_of(struct world *w)
{
    for (int i = 0; i < PEERS; i++)
        hang_up(w, i);
    sb_set_free(w->set);
    free(w);
}

static int join(struct world *w, int group)
{
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    int id = sb_set_add(w->set, fds[0], group);
    if (id < 0) {
        close(fds[0]);
        close(fds[1]);
        return id;
    }
    w->peer[id] = fds[1];
    return id;
}

static void say(struct world *w, int id, const char *text)
{
    CHECK_EQ(send(w->peer[id], text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Up to 200 bytes that the peer has got, "-" for none, "$" at the end. */
static const char *heard(struct world *w, int id)
{
    static char text[201];
    ssize_t n = recv(w->peer[id], text, 200, 0);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 ? text : n == 0 ? "$" : errno == EAGAIN ? "-" : "!";
}

static const char *block_of(const struct world *w, const sb_event *event)
{
    return event->offset >= 0 ? sb_set_arena(w->set) + event->offset : sb_set_held(w->set, -1 - event->offset);
}

static void log_frames(struct world *w, const sb_event *event)
{
    const char *block = block_of(w, event);
    int size = event->size > 100 ? 0 : (int)event->size;
    if (event->id >= 0) {
        note(w, "%d:", event->id);
    } else {
        int64_t left = event->frames;
        for (const sb_part *part = sb_set_parts(w->set) + event->detail; left > 0; part++) {
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
    static const char *const names[] = {"", "", "accepted", "end", "pause", "resume", "closed"};
    const sb_event *events = sb_set_events(w->set);
    for (int i = 0; i < sb_set_counts(w->set)->events; i++) {
        if (events[i].kind == SB_EVENT_FRAMES)
            log_frames(w, &events[i]);
        else
            note(w, "%d %s %d ", events[i].id, names[events[i].kind], events[i].detail);
    }
}

static void learn_changes(struct world *w)
{
    int n = sb_set_changes(w->set);
    for (int i = 0; i < n; i++) {
        const sb_ready *change = &sb_set_readies(w->set)[i];
        CHECK_EQ(change->had, w->interest[change->id]);
        w->interest[change->id] = change->mask;
    }
}

static int turn_by_poll(struct world *w, int timeout_ms)
{
    struct pollfd fds[PEERS];
    int32_t ids[PEERS], masks[PEERS];
    int count = 0, n = 0;
    learn_changes(w);
    for (int id = 0; id < PEERS; id++) {
        sb_info info;
        if (!w->interest[id] || sb_set_info(w->set, id, &info) < 0)
            continue;
        fds[count] = (struct pollfd){.fd = info.fd};
        fds[count].events = (short)((w->interest[id] & SB_READ ? POLLIN : 0) | (w->interest[id] & SB_WRITE ? POLLOUT : 0));
        ids[count++] = id;
    }
    int due = sb_set_timeout(w->set);
    if (due >= 0 && due < timeout_ms)
        timeout_ms = due;
    CHECK(poll(fds, (nfds_t)count, timeout_ms) >= 0);
    for (int i = 0; i < count; i++) {
        int mask = (fds[i].revents & (POLLIN | POLLHUP | POLLERR) ? SB_READ : 0) | (fds[i].revents & POLLOUT ? SB_WRITE : 0);
        mask &= w->interest[ids[i]];
        if (mask) {
            ids[n] = ids[i];
            masks[n++] = mask;
        }
    }
    return sb_set_receive(w->set, ids, masks, n);
}

/* One turn; its events as text. */
static const char *turn(struct world *w)
{
    w->logged = 0;
    w->log[0] = '\0';
    if (w->epoll)
        CHECK(sb_set_wait(w->set, 0) >= 0);
    else
        turn_by_poll(w, 0);
    log_events(w);
    return w->log;
}

/* ---- input */

static void lines_in_pieces(void)
{
    struct world *w = world_of(4, lines_group());
    int id = join(w, 0);
    CHECK_TEXT(turn(w), "");
    say(w, id, "ab");
    CHECK_TEXT(turn(w), "");
    say(w, id, "c\r");
    CHECK_TEXT(turn(w), "");
    say(w, id, "\nd\r\n\n");
    CHECK_TEXT(turn(w), "0:abc|d|| ");
    say(w, id, "one\ntw");
    CHECK_TEXT(turn(w), "0:one| ");
    sb_info info;
    CHECK_EQ(sb_set_info(w->set, id, &info), 0);
    CHECK_EQ(info.unframed, 2);
    CHECK_EQ(info.frames, 4);
    CHECK_EQ(info.received, 15);
    say(w, id, "o\n");
    CHECK_TEXT(turn(w), "0:two| ");
    end_of(w);
}

static void short_receives(void)
{
    struct world *w = world_of(4, lines_group());
    int id = join(w, 0);
    const char *const want[] = {"", "", "0:ab| ", "", "", "0:cd| ", ""};
    say(w, id, "ab\ncd\n");
    for (int i = 0; i < 7; i++) {
        cap_size(CALL_RECV, 1);
        CHECK_TEXT(turn(w), want[i]);
    }
    cap_size(CALL_RECV, 0);
    fail_nth(CALL_RECV, 1, EINTR);
    say(w, id, "x\n");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(turn(w), "0:x| ");
    end_of(w);
}

static void big_lines(void)
{
    sb_group group = lines_group();
    group.max_frame = 1 << 20;
    struct world *w = world_of(4, group);
    int id = join(w, 0);
    char piece[3001];
    memset(piece, 'x', 3000);
    piece[3000] = '\0';
    for (int i = 0; i < 10; i++) {
        say(w, id, piece);
        CHECK_TEXT(turn(w), "");
    }
    say(w, id, "\r\nab\ncd");
    CHECK_TEXT(turn(w), "0:(30004 in 2) ");
    CHECK(sb_set_events(w->set)[0].offset < 0);
    CHECK(sb_set_held(w->set, 1) == NULL && sb_set_held(w->set, -1) == NULL);
    say(w, id, "e\n");
    CHECK_TEXT(turn(w), "0:cde| ");
    end_of(w);
}

static void too_long(void)
{
    sb_group group = lines_group();
    group.max_frame = 5;
    struct world *w = world_of(8, group);
    int at_once = join(w, 0), behind = join(w, 0), slowly = join(w, 0), just = join(w, 0);
    say(w, at_once, "123456\n");
    say(w, behind, "ok\n1234567");
    say(w, slowly, "123");
    say(w, just, "12345\r\n");
    turn(w);
    CHECK(strstr(w->log, "1:ok| ") != NULL);
    CHECK(strstr(w->log, "3:12345| ") != NULL);
    say(w, slowly, "45");
    CHECK_TEXT(turn(w), "");
    sb_info info;
    CHECK_EQ(sb_set_info(w->set, behind, &info), 0);
    CHECK_EQ(info.open, 0);
    CHECK_EQ(info.reason, SB_REASON_FRAME_TOO_LONG);
    say(w, slowly, "6");
    CHECK_TEXT(turn(w), "");
    for (int id = 0; id < 3; id++) {
        CHECK_TEXT(heard(w, id), "$");
        hang_up(w, id);
    }
    turn(w);
    for (int id = 0; id < 3; id++) {
        CHECK_EQ(sb_set_info(w->set, id, &info), 0);
        CHECK_EQ(info.reason, SB_REASON_FRAME_TOO_LONG);
    }
    CHECK_EQ(sb_set_counts(w->set)->closed, 3);
    turn(w);
    CHECK_EQ(sb_set_counts(w->set)->connections, 1);
    end_of(w);
}

static void too_long_in_a_buffer(void)
{
    sb_group group = lines_group();
    group.max_frame = 5000;
    struct world *w = world_of(4, group);
    char piece[2601];
    int id = join(w, 0);
    memset(piece, 'x', 2600);
    piece[2600] = '\0';
    say(w, id, piece);
    CHECK_TEXT(turn(w), "");
    say(w, id, piece);
    CHECK_TEXT(turn(w), "");
    sb_info info;
    CHECK_EQ(sb_set_info(w->set, id, &info), 0);
    CHECK_EQ(info.reason, SB_REASON_FRAME_TOO_LONG);
    CHECK_EQ(info.unframed, 0);
    end_of(w);
}

static void raw_input(void)
{
    sb_group group = lines_group();
    group.framing = SB_FRAMING_RAW;
    struct world *w = world_of(4, group);
    int id = join(w, 0);
    say(w, id, "abc");
    CHECK_TEXT(turn(w), "0:abc ");
    hang_up(w, id);
    CHECK_TEXT(turn(w), id == 0 ? "0 closed 1 " : "");
    end_of(w);
}

static void served_here(void)
{
    sb_group group = lines_group();
    struct world *w = world_of(8, group);
    static const char *const want[] = {"ab\nc\n", "-", "AB\nC\n"};
    for (int serve = SB_SERVE_ECHO; serve <= SB_SERVE_UPPER; serve++) {
        group.serve = serve;
        CHECK_EQ(sb_set_group(w->set, &group), serve);
        int id = join(w, serve);
        say(w, id, "ab\nc\r\n");
        CHECK_TEXT(turn(w), "");
        CHECK_TEXT(heard(w, id), want[serve - 1]);
    }
    group.serve = SB_SERVE_ECHO;
    group.framing = SB_FRAMING_RAW;
    int raw = sb_set_group(w->set, &group), id = join(w, raw);
    say(w, id, "xyz");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "xyz");
    end_of(w);
}

/* ---- the end */

static void ends_of_input(void)
{
    sb_group group = lines_group();
    struct world *w = world_of(8, group);
    int clean = join(w, 0), cut = join(w, 0);
    say(w, clean, "a\n");
    say(w, cut, "b\nc");
    CHECK_EQ(shutdown(w->peer[clean], SHUT_WR), 0);
    CHECK_EQ(shutdown(w->peer[cut], SHUT_WR), 0);
    turn(w);
    CHECK(strstr(w->log, "0:a| ") != NULL && strstr(w->log, "1:b| ") != NULL);
    turn(w);
    CHECK(strstr(w->log, "0 closed 1 ") != NULL);
    CHECK(strstr(w->log, "1 closed 5 ") != NULL);
    end_of(w);
}

static void half_close_is_announced(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    struct world *w = world_of(8, group);
    int id = join(w, 0);
    say(w, id, "ab");
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(shutdown(w->peer[id], SHUT_WR), 0);
    CHECK_TEXT(turn(w), "0 end 2 ");
    int64_t size = 4;
    int32_t to = id;
    sb_set_write(w->set, 1, &to, &size, "bye\n");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "bye\n");
    sb_set_close(w->set, id, SB_REASON_CLOSED);
    w->logged = 0;
    log_events(w);
    CHECK(strstr(w->log, "0 closed 2 ") != NULL);
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "$");
    end_of(w);
}

static void lingers(void)
{
    sb_group group = lines_group();
    struct world *w = world_of(8, group);
    int id = join(w, 0), silent = join(w, 0);
    sb_set_close(w->set, id, SB_REASON_CLOSED);
    sb_set_close(w->set, silent, SB_REASON_SHUTDOWN);
    CHECK_TEXT(heard(w, id), "$");
    say(w, id, "too late\n");
    CHECK_TEXT(turn(w), "");
    hang_up(w, id);
    CHECK_TEXT(turn(w), "0 closed 2 ");
    clock_advance(900);
    CHECK_TEXT(turn(w), "");
    clock_advance(600);
    CHECK_TEXT(turn(w), "1 closed 11 ");
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_set_counts(w->set)->connections, 0);
    group.linger_ms = 0;
    int brusque = sb_set_group(w->set, &group);
    id = join(w, brusque);
    sb_set_close(w->set, id, SB_REASON_CLOSED);
    CHECK_EQ(sb_set_counts(w->set)->closed, 1);
    end_of(w);
}

static void idle_deadline(void)
{
    sb_group group = lines_group();
    group.idle_ms = 10000;
    struct world *w = world_of(8, group);
    int idle = join(w, 0), busy = join(w, 0);
    CHECK_TEXT(turn(w), "");
    int due = sb_set_timeout(w->set);
    CHECK(due > 9000 && due <= 10500);
    clock_advance(6000);
    say(w, busy, "a\n");
    CHECK_TEXT(turn(w), "1:a| ");
    clock_advance(5000);
    CHECK_TEXT(turn(w), "0 closed 7 ");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, idle), "$");
    clock_advance(5500);
    CHECK_TEXT(turn(w), "1 closed 7 ");
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_set_timeout(w->set), -1);
    end_of(w);
}

static void deadlines_past_the_wheel(void)
{
    sb_group group = lines_group();
    group.idle_ms = 200000;
    struct world *w = world_of(8, group);
    int ids[3];
    for (int i = 0; i < 3; i++)
        ids[i] = join(w, 0);
    for (int i = 0; i < 19; i++) {
        clock_advance(10000);
        CHECK_TEXT(turn(w), "");
    }
    say(w, ids[1], "x\n");
    CHECK_TEXT(turn(w), "1:x| ");
    clock_advance(300000); /* more than the wheel holds */
    turn(w);
    CHECK_EQ(sb_set_counts(w->set)->closed, 3);
    end_of(w);
}

static void aborts(void)
{
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    sb_set_abort(w->set, id, SB_REASON_ABORTED);
    sb_set_abort(w->set, id, SB_REASON_HANDLER_ERROR); /* too late */
    sb_set_abort(w->set, 99, SB_REASON_ABORTED);
    w->logged = 0;
    log_events(w);
    CHECK_TEXT(w->log, "0 closed 12 ");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "$");
    end_of(w);
}

static void reset_by_the_peer(void)
{
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    sb_info info;
    say(w, id, "x\n");
    fail_nth(CALL_RECV, 1, ECONNRESET);
    CHECK_TEXT(turn(w), "0 closed 3 ");
    CHECK_EQ(sb_set_info(w->set, id, &info), 0);
    CHECK_EQ(info.error, ECONNRESET);
    CHECK_TEXT(turn(w), "");
    id = join(w, 0);
    say(w, id, "x\n");
    fail_nth(CALL_RECV, 1, ETIMEDOUT);
    CHECK_TEXT(turn(w), "0 closed 4 ");
    end_of(w);
}

static void quiet_ones_close(void)
{
    struct world *w = world_of(8, lines_group());
    int quiet = join(w, 0), unread = join(w, 0), unfinished = join(w, 0);
    say(w, unfinished, "ab");
    CHECK_TEXT(turn(w), "");
    say(w, unread, "x\n");
    CHECK_EQ(sb_set_close_quiet(w->set, SB_REASON_SHUTDOWN), 2);
    CHECK_TEXT(heard(w, quiet), "$");
    CHECK_TEXT(heard(w, unread), "-");
    sb_set_close_all(w->set, SB_REASON_SHUTDOWN);
    CHECK_TEXT(heard(w, unread), "$");
    end_of(w);
}

/* ---- output */

static char *big_block(size_t size)
{
    char *block = malloc(size);
    for (size_t i = 0; i < size; i++)
        block[i] = (char)('a' + i % 23);
    return block;
}

/* What the peer reads until nothing more comes, compared with block. */
static size_t drain(struct world *w, int id, const char *block, size_t at)
{
    static char room[65536];
    ssize_t n;
    while ((n = recv(w->peer[id], room, sizeof room, 0)) > 0) {
        CHECK(memcmp(room, block + at, (size_t)n) == 0);
        at += (size_t)n;
    }
    return at;
}

static void slow_reader(void)
{
    enum { SIZE = 1 << 20 };
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    group.high_water = 300000;
    struct world *w = world_of(8, group);
    int32_t id = join(w, 0);
    char *block = big_block(SIZE);
    int64_t size = SIZE;
    sb_set_write(w->set, 1, &id, &size, block);
    w->logged = 0;
    log_events(w);
    CHECK(strstr(w->log, "0 pause 0 ") != NULL);
    CHECK(sb_set_unsent(w->set, id) > 300000);
    CHECK(w->epoll || (learn_changes(w), w->interest[id] == SB_WRITE));
    say(w, id, "not read while it does not read\n");
    CHECK_TEXT(turn(w), w->epoll ? "" : "");
    size_t at = 0;
    int resumed = 0, lines = 0;
    for (int i = 0; i < 1000 && at < SIZE; i++) {
        at = drain(w, id, block, at);
        turn(w);
        if (strstr(w->log, "0 resume 0 ") != NULL) {
            resumed++;
            CHECK(sb_set_unsent(w->set, id) <= 75000);
        }
        lines += strstr(w->log, "0:not read") != NULL;
        CHECK(lines <= resumed);
    }
    CHECK_EQ(at, SIZE);
    turn(w);
    lines += strstr(w->log, "0:not read") != NULL;
    CHECK_EQ(resumed, 1);
    CHECK_EQ(lines, 1);
    CHECK_EQ(sb_set_unsent(w->set, id), 0);
    free(block);
    end_of(w);
}

static void short_sends(void)
{
    struct world *w = world_of(8, lines_group());
    int32_t id = join(w, 0);
    int64_t size = 10;
    cap_size(CALL_SEND, 1);
    sb_set_write(w->set, 1, &id, &size, "0123456789");
    CHECK_EQ(sb_set_unsent(w->set, id), 9);
    size = 3;
    sb_set_write(w->set, 1, &id, &size, "abc");
    CHECK_EQ(sb_set_unsent(w->set, id), 12);
    for (int i = 0; i < 12; i++)
        CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_set_unsent(w->set, id), 0);
    cap_size(CALL_SEND, 0);
    CHECK_TEXT(heard(w, id), "0123456789abc");
    fail_nth(CALL_SEND, 1, EAGAIN);
    sb_set_write(w->set, 1, &id, &size, "xyz");
    CHECK_EQ(sb_set_unsent(w->set, id), 3);
    fail_nth(CALL_SEND, 1, EINTR);
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_set_unsent(w->set, id), 3);
    fail_nth(CALL_SEND, 1, EPIPE);
    CHECK_TEXT(turn(w), "0 closed 3 ");
    end_of(w);
}

static void too_much_unsent(void)
{
    enum { SIZE = 1 << 20 };
    sb_group group = lines_group();
    group.max_unsent = 100000;
    struct world *w = world_of(8, group);
    char *block = big_block(SIZE);
    int32_t ids[2] = {join(w, 0), join(w, 0)};
    int64_t sizes[2] = {SIZE, 3};
    char *both = malloc(SIZE + 3);
    memcpy(both, block, SIZE);
    memcpy(both + SIZE, "abc", 3);
    sb_set_write(w->set, 2, ids, sizes, both);
    w->logged = 0;
    log_events(w);
    CHECK_TEXT(w->log, "0 closed 9 ");
    CHECK_TEXT(heard(w, 1), "abc");
    sb_set_write(w->set, 2, ids, sizes, both); /* ended: passed over */
    CHECK_TEXT(heard(w, 1), "abc");
    free(both);
    free(block);
    end_of(w);
}

static void peer_gone_while_writing(void)
{
    struct world *w = world_of(8, lines_group());
    int32_t id = join(w, 0);
    int64_t size = 1;
    hang_up(w, id);
    sb_set_write(w->set, 1, &id, &size, "a");
    w->logged = 0;
    log_events(w);
    CHECK_TEXT(w->log, "0 closed 3 ");
    end_of(w);
}

static void write_stall(void)
{
    sb_group group = lines_group();
    group.stall_ms = 5000;
    struct world *w = world_of(8, group);
    int32_t id = join(w, 0);
    char *block = big_block(1 << 20);
    int64_t size = 1 << 20;
    sb_set_write(w->set, 1, &id, &size, block);
    sb_set_close(w->set, id, SB_REASON_CLOSED); /* drains first */
    CHECK_TEXT(turn(w), "");
    clock_advance(6000);
    CHECK_TEXT(turn(w), "0 closed 8 ");
    free(block);
    end_of(w);
}

static void fin_behind_the_output(void)
{
    struct world *w = world_of(8, lines_group());
    int32_t id = join(w, 0);
    char *block = big_block(1 << 20);
    int64_t size = 1 << 20;
    sb_set_write(w->set, 1, &id, &size, block);
    sb_set_shutdown(w->set, id);
    sb_set_write(w->set, 1, &id, &size, block); /* nothing goes behind a FIN */
    sb_set_shutdown(w->set, 99);
    size_t at = 0;
    for (int i = 0; i < 1000 && at < 1 << 20; i++) {
        at = drain(w, id, block, at);
        turn(w);
    }
    CHECK_EQ(at, 1 << 20);
    CHECK_TEXT(heard(w, id), "$");
    say(w, id, "still heard\n");
    CHECK_TEXT(turn(w), "0:still heard| ");
    hang_up(w, id);
    turn(w);
    CHECK(strstr(w->log, "0 closed 1 ") != NULL);
    free(block);
    end_of(w);
}

static void fin_fails(void)
{
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    fail_nth(CALL_SHUTDOWN, 1, ENOTCONN);
    sb_set_shutdown(w->set, id);
    w->logged = 0;
    log_events(w);
    CHECK_TEXT(w->log, "0 closed 3 ");
    end_of(w);
}

static void pauses(void)
{
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    sb_set_pause(w->set, id, 1);
    sb_set_pause(w->set, 99, 1);
    say(w, id, "a\n");
    CHECK_TEXT(turn(w), "");
    sb_set_pause(w->set, id, 0);
    CHECK_TEXT(turn(w), "0:a| ");
    sb_set_pause(w->set, id, 1);
    hang_up(w, id);
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(turn(w), "");
    sb_set_pause(w->set, id, 0);
    turn(w);
    CHECK(strstr(w->log, "0 closed") != NULL);
    end_of(w);
}

static void water_marks(void)
{
    struct world *w = world_of(8, lines_group());
    int32_t id = join(w, 0);
    int64_t size = 100;
    char block[100] = "";
    CHECK_EQ(sb_set_water(w->set, id, 10, 20), SB_ERR_LIMIT);
    CHECK_EQ(sb_set_water(w->set, id, 10, -1), SB_ERR_LIMIT);
    CHECK_EQ(sb_set_water(w->set, id, (int64_t)1 << 40, (int64_t)1 << 39), 0);
    CHECK_EQ(sb_set_water(w->set, 99, 10, 5), 0);
    CHECK_EQ(sb_set_water(w->set, id, 50, 40), 0);
    fail_nth(CALL_SEND, 1, EAGAIN);
    sb_set_write(w->set, 1, &id, &size, block);
    say(w, id, "a\n");
    fail_nth(CALL_SEND, 1, EAGAIN);
    CHECK_TEXT(turn(w), "");
    turn(w);
    CHECK_EQ(sb_set_unsent(w->set, id), 0);
    if (w->logged == 0)
        turn(w);
    CHECK_TEXT(w->log, "0:a| ");
    end_of(w);
}

/* ---- batches */

static void merges(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_MERGE;
    struct world *w = world_of(8, group);
    int other = sb_set_group(w->set, &group);
    int a = join(w, 0), b = join(w, other), c = join(w, 0);
    say(w, a, "a1\na2\n");
    say(w, b, "b1\nb2");
    say(w, c, "c1\n");
    CHECK_TEXT(turn(w), "0,2,a1|a2|c1| 1,b1| ");
    CHECK_EQ(sb_set_reply_lines(w->set, 0, "A1\nA2\nC1\n", 9), 0);
    const uint32_t three[] = {3};
    CHECK_EQ(sb_set_reply_lengths(w->set, 1, "xyz", 3, three), 0);
    CHECK_TEXT(heard(w, a), "A1\nA2\n");
    CHECK_TEXT(heard(w, c), "C1\n");
    CHECK_TEXT(heard(w, b), "xyz");
    say(w, a, "d\n");
    say(w, c, "e\nf\n");
    CHECK_TEXT(turn(w), "0,2,d|e|f| ");
    const uint32_t lengths[] = {2, 0, 1};
    CHECK_EQ(sb_set_reply_lengths(w->set, 0, "abc", 3, lengths), 0);
    CHECK_TEXT(heard(w, a), "ab");
    CHECK_TEXT(heard(w, c), "c");
    end_of(w);
}

static void big_frames_are_not_merged(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_MERGE;
    group.max_frame = 1 << 20;
    struct world *w = world_of(8, group);
    int a = join(w, 0), b = join(w, 0), c = join(w, 0);
    char *line = malloc(10002);
    memset(line, 'x', 10000);
    strcpy(line + 10000, "\n");
    say(w, a, "a\n");
    say(w, b, line);
    say(w, c, "c\n");
    turn(w);
    CHECK(strstr(w->log, "1:(10001 in 1) ") != NULL);
    CHECK(strstr(w->log, "a|") != NULL && strstr(w->log, "c|") != NULL);
    free(line);
    end_of(w);
}

static void replies_that_do_not_match(void)
{
    struct world *w = world_of(8, lines_group());
    int id = join(w, 0);
    const uint32_t lengths[] = {1, 1};
    say(w, id, "a\nb\n");
    CHECK_TEXT(turn(w), "0:a|b| ");
    CHECK_EQ(sb_set_reply_lines(w->set, 0, "A\n", 2), SB_ERR_MISMATCH);
    CHECK_EQ(sb_set_reply_lines(w->set, 0, "A\nB", 3), SB_ERR_MISMATCH);
    CHECK_EQ(sb_set_reply_lines(w->set, 0, "A\nB\nC\n", 6), SB_ERR_MISMATCH);
    CHECK_EQ(sb_set_reply_lines(w->set, 0, "", 0), SB_ERR_MISMATCH);
    CHECK_EQ(sb_set_reply_lines(w->set, 1, "A\nB\n", 4), SB_ERR_MISMATCH);
    CHECK_EQ(sb_set_reply_lines(w->set, -1, "A\nB\n", 4), SB_ERR_MISMATCH);
    CHECK_EQ(sb_set_reply_lengths(w->set, 0, "abc", 3, lengths), SB_ERR_MISMATCH);
    CHECK_EQ(sb_set_reply_lengths(w->set, 5, "ab", 2, lengths), SB_ERR_MISMATCH);
    CHECK_TEXT(heard(w, id), "-");
    CHECK_EQ(sb_set_reply_lengths(w->set, 0, "ab", 2, lengths), 0);
    CHECK_TEXT(heard(w, id), "ab");
    end_of(w);
}

/* More input than the arena holds in one turn: the rest comes in the next, and
 * begins with those who had to wait. */
static void arena_full(void)
{
    enum { SIZE = 60000, COUNT = 12 };
    struct world *w = world_of(COUNT, lines_group());
    char *block = malloc(SIZE + 1);
    int seen[COUNT] = {0}, total = 0;
    for (int i = 0; i < SIZE; i++)
        block[i] = i % 100 == 99 ? '\n' : 'x';
    block[SIZE] = '\0';
    for (int i = 0; i < COUNT; i++)
        say(w, join(w, 0), block);
    for (int i = 0; i < 6 && total < COUNT * 2 * SIZE; i++) {
        turn(w);
        for (int j = 0; j < COUNT && i == 0; j++)
            say(w, j, block); /* all of them are ready again */
        for (int j = 0; j < sb_set_counts(w->set)->events; j++) {
            const sb_event *event = &sb_set_events(w->set)[j];
            seen[event->id] += (int)event->size;
            total += (int)event->size;
        }
        if (i == 0)
            CHECK(total < COUNT * SIZE);
        if (i == 1)
            for (int j = 0; j < COUNT; j++)
                CHECK(seen[j] > 0);
    }
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(seen[i], 2 * SIZE);
    free(block);
    end_of(w);
}

static void held_blocks_run_out(void)
{
    sb_group group = lines_group();
    group.max_frame = 100000;
    struct world *w = world_of(70, group);
    char piece[4001];
    int total = 0;
    memset(piece, 'x', 4000);
    piece[4000] = '\0';
    for (int i = 0; i < 70; i++)
        say(w, join(w, 0), piece);
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(turn(w), "");
    for (int i = 0; i < 70; i++)
        say(w, i, "\n");
    turn(w);
    total += sb_set_counts(w->set)->events;
    CHECK_EQ(total, 64);
    turn(w);
    CHECK_EQ(total + sb_set_counts(w->set)->events, 70);
    end_of(w);
}

static void rows_run_out(void)
{
    struct world *w = world_of(2, lines_group());
    int a = join(w, 0);
    CHECK(join(w, 0) >= 0);
    CHECK_EQ(join(w, 0), SB_ERR_FULL);
    hang_up(w, a);
    turn(w);
    CHECK_EQ(sb_set_counts(w->set)->closed, 1);
    CHECK_EQ(join(w, 0), SB_ERR_FULL); /* its row is kept until the turn is settled */
    sb_set_settle(w->set);
    w->interest[a] = 0;
    CHECK_EQ(join(w, 0), a);
    end_of(w);
}

/* ---- accepting */

static int listener(struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    socklen_t size = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    CHECK_EQ(bind(fd, (struct sockaddr *)address, sizeof *address), 0);
    CHECK_EQ(listen(fd, 16), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)address, &size), 0);
    return fd;
}

static int dial(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(connect(fd, (const struct sockaddr *)address, sizeof *address), 0);
    CHECK_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void accepts(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    struct world *w = world_of(3, group);
    struct sockaddr_in address;
    int fd = listener(&address), stopped = 7;
    CHECK_EQ(sb_set_accept(w->set, fd, 0, 10, &stopped), 0);
    CHECK_EQ(stopped, 0);
    for (int i = 0; i < 4; i++)
        w->peer[i] = dial(&address);
    CHECK_EQ(sb_set_accept(w->set, fd, 0, 1, &stopped), 1);
    CHECK_EQ(stopped, 0);
    w->logged = 0;
    log_events(w);
    CHECK_TEXT(w->log, "0 accepted 0 ");
    fail_nth(CALL_ACCEPT, 1, ECONNABORTED);
    CHECK_EQ(sb_set_accept(w->set, fd, 0, 2, &stopped), 1);
    CHECK_EQ(stopped, 0);
    static const int shortage[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, EBADF, EINVAL, ENOTSOCK};
    for (size_t i = 0; i < sizeof shortage / sizeof shortage[0]; i++) {
        fail_nth(CALL_ACCEPT, 1, shortage[i]);
        CHECK_EQ(sb_set_accept(w->set, fd, 0, 2, &stopped), 0);
        CHECK_EQ(stopped, shortage[i]);
        CHECK_EQ(sb_set_errno(w->set), shortage[i]);
    }
    CHECK_EQ(sb_set_accept(w->set, fd, 0, 10, &stopped), 1);
    CHECK_EQ(stopped, SB_ERR_FULL);
    sb_info info;
    CHECK_EQ(sb_set_info(w->set, 0, &info), 0);
    CHECK_EQ(info.peer_size, sizeof address);
    CHECK_EQ(sb_set_info(w->set, 3, &info), SB_ERR_LIMIT);
    turn(w);
    sb_set_abort(w->set, 0, SB_REASON_ABORTED);
    sb_set_settle(w->set);
    CHECK_TEXT(heard(w, 0), "!"); /* RST */
    close(fd);
    end_of(w);
}

static void watches(void)
{
#ifdef __linux__
    struct world *w = world_of(3, lines_group());
    int fds[2];
    CHECK_EQ(pipe(fds), 0);
    if (w->epoll) {
        CHECK(sb_set_fileno(w->set) >= 0);
        CHECK_EQ(sb_set_watch(w->set, fds[0], SB_READ), 0);
        CHECK_EQ(sb_set_watch(w->set, fds[1], SB_WRITE), 0);
        CHECK_EQ(sb_set_wait(w->set, -1), 1);
        CHECK_EQ(sb_set_readies(w->set)[0].fd, fds[1]);
        CHECK_EQ(sb_set_readies(w->set)[0].mask, SB_WRITE);
        CHECK_EQ(sb_set_watch(w->set, fds[1], 0), 0);
        CHECK_EQ(write(fds[1], "x", 1), 1);
        CHECK_EQ(sb_set_wait(w->set, 1000), 1);
        CHECK_EQ(sb_set_readies(w->set)[0].mask, SB_READ);
        close(fds[1]);
        CHECK_EQ(sb_set_wait(w->set, 1000), 1);
        CHECK_EQ(sb_set_watch(w->set, 9999, SB_READ), SB_ERR_FAULT);
        CHECK_EQ(sb_set_errno(w->set), EBADF);
        CHECK_EQ(sb_set_watch(w->set, 9999, 0), SB_ERR_FAULT);
        fail_nth(CALL_EPOLL_WAIT, 1, EINTR);
        CHECK_EQ(sb_set_wait(w->set, 1000), 0);
        fail_nth(CALL_EPOLL_WAIT, 1, EBADF);
        CHECK_EQ(sb_set_wait(w->set, 1000), SB_ERR_FAULT);
        int id = join(w, 0);
        fail_nth(CALL_EPOLL_CTL, 1, ENOMEM);
        CHECK_EQ(join(w, 0), SB_ERR_FAULT);
        fail_nth(CALL_EPOLL_CTL, 1, ENOMEM);
        sb_set_pause(w->set, id, 1);
        CHECK_EQ(sb_set_counts(w->set)->closed, 1);
    } else {
        CHECK_EQ(sb_set_fileno(w->set), -1);
        close(fds[1]);
    }
    close(fds[0]);
    end_of(w);
#else
    sb_set *set = sb_set_new(3, 0);
    CHECK_EQ(sb_set_watch(set, 0, SB_READ), SB_ERR_FAULT);
    CHECK_EQ(sb_set_wait(set, 0), SB_ERR_FAULT);
    CHECK_EQ(sb_set_errno(set), ENOSYS);
    sb_set_free(set);
    errno = 0;
    CHECK(sb_set_new(3, 1) == NULL);
    CHECK_EQ(errno, ENOSYS);
#endif
}

static void reset_while_not_read(void)
{
    struct world *w = world_of(3, lines_group());
    struct sockaddr_in address;
    struct linger now = {.l_onoff = 1};
    int fd = listener(&address), stopped;
    w->peer[0] = dial(&address);
    CHECK_EQ(sb_set_accept(w->set, fd, 0, 1, &stopped), 1);
    sb_set_pause(w->set, 0, 1);
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(setsockopt(w->peer[0], SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    hang_up(w, 0);
    if (w->epoll)
        CHECK_TEXT(turn(w), "0 closed 3 ");
    fail_nth(CALL_EPOLL_CTL, 1, ENOMEM);
    w->peer[1] = dial(&address);
    CHECK_EQ(sb_set_accept(w->set, fd, 0, 1, &stopped), w->epoll ? 0 : 1);
    CHECK_EQ(stopped, w->epoll ? ENOMEM : 0);
    close(fd);
    end_of(w);
}

static void ids_that_are_none(void)
{
    struct world *w = world_of(4, lines_group());
    int32_t ids[5] = {-1, 99, 0, 1, 2}, masks[5] = {SB_READ, SB_READ, SB_READ, SB_READ, SB_READ};
    int64_t sizes[5] = {1, 1, 1, 1, 1};
    join(w, 0);
    join(w, 0);
    join(w, 0);
    sb_set_abort(w->set, 0, SB_REASON_ABORTED);
    sb_set_settle(w->set);
    sb_set_abort(w->set, 1, SB_REASON_ABORTED);
    CHECK_EQ(sb_set_close_quiet(w->set, SB_REASON_NONE), 0);
    sb_set_write(w->set, 5, ids, sizes, "abcde");
    sb_set_close(w->set, -1, SB_REASON_CLOSED);
    sb_set_close(w->set, 99, SB_REASON_CLOSED);
    sb_set_shutdown(w->set, 1);
    CHECK_EQ(sb_set_unsent(w->set, 99), 0);
    CHECK_EQ(sb_set_unsent(w->set, 2), 0);
    CHECK_TEXT(heard(w, 2), "$");
    sb_set_abort(w->set, 2, SB_REASON_ABORTED);
    CHECK_EQ(sb_set_receive(w->set, ids, masks, 5), 0);
    end_of(w);
}

static void not_a_socket(void)
{
    if (with_epoll)
        return;
    struct world *w = world_of(4, lines_group());
    int fds[2];
    sb_info info;
    CHECK_EQ(pipe(fds), 0);
    int id = sb_set_add(w->set, fds[0], 0);
    CHECK_EQ(write(fds[1], "a\nb", 3), 3);
    CHECK_TEXT(turn(w), "0:a| ");
    CHECK_EQ(sb_set_info(w->set, id, &info), 0);
    CHECK_EQ(info.peer_size, 0);
    close(fds[1]);
    turn(w);
    CHECK_EQ(sb_set_info(w->set, id, &info), 0);
    CHECK_EQ(info.reason, SB_REASON_TRUNCATED);
    end_of(w);
}

static void named_by_the_caller(void)
{
    struct world *w = world_of(4, lines_group());
    int id = join(w, 0);
    sb_info info;
    CHECK_EQ(sb_set_peer(w->set, id, "0123456789abcdef", 16), 0);
    CHECK_EQ(sb_set_info(w->set, id, &info), 0);
    CHECK_EQ(info.peer_size, 16);
    CHECK_EQ(memcmp(info.peer, "0123456789abcdef", 16), 0);
    CHECK_EQ(sb_set_peer(w->set, id, "0123456789abcdef0123456789abc", 29), SB_ERR_LIMIT);
    CHECK_EQ(sb_set_peer(w->set, 3, "", 0), SB_ERR_LIMIT);
    CHECK_EQ(sb_set_peer(w->set, id, "", 0), 0);
    CHECK_EQ(sb_set_info(w->set, id, &info), 0);
    CHECK_EQ(info.peer_size, 0);
    end_of(w);
}

static void replies_to_one(void)
{
    sb_group group = lines_group();
    group.max_frame = 100000;
    struct world *w = world_of(4, group);
    group.serve = SB_SERVE_UPPER;
    int upper = sb_set_group(w->set, &group);
    int a = join(w, 0), b = join(w, upper);
    char piece[3001];
    memset(piece, 'x', 3000);
    piece[3000] = '\0';
    say(w, a, "a\nb\n");
    say(w, b, piece);
    CHECK_TEXT(turn(w), "0:a|b| ");
    CHECK_EQ(sb_set_reply_lines(w->set, 0, "A\nB\n", 4), 0);
    CHECK_EQ(sb_set_reply_lines(w->set, 0, "", 0), SB_ERR_MISMATCH);
    CHECK_TEXT(heard(w, a), "A\nB\n");
    fail_nth(CALL_RECV, 1, EINTR);
    say(w, b, "\r\n");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(strspn(heard(w, b), "X"), 200);
    group.framing = SB_FRAMING_RAW;
    int raw = join(w, sb_set_group(w->set, &group));
    say(w, raw, "x");
    fail_nth(CALL_RECV, 1, ECONNRESET);
    turn(w);
    CHECK(strstr(w->log, "2 closed 3 ") != NULL);
    end_of(w);
}

static void closes_with_much_unsent(void)
{
    enum { SIZE = 1 << 20 };
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    group.high_water = (int64_t)1 << 40;
    struct world *w = world_of(4, group);
    int32_t id = join(w, 0);
    char *block = big_block(SIZE);
    int64_t size = SIZE;
    CHECK_EQ(sb_set_water(w->set, id, 1000, 500), 0);
    sb_set_write(w->set, 1, &id, &size, block);
    sb_set_write(w->set, 1, &id, &size, block);
    CHECK_EQ(shutdown(w->peer[id], SHUT_WR), 0);
    sb_set_close(w->set, id, SB_REASON_CLOSED);
    sb_set_close(w->set, id, SB_REASON_SHUTDOWN);
    size_t at = 0;
    for (int i = 0; i < 2000 && at < SIZE; i++) {
        at = drain(w, id, block, at);
        turn(w);
        CHECK(strstr(w->log, "resume") == NULL);
        if (at >= SIZE - 400000)
            break;
    }
    free(block);
    end_of(w);
}

static void waits_no_longer_than_a_deadline(void)
{
    if (!with_epoll)
        return;
    sb_group group = lines_group();
    group.idle_ms = 300;
    struct world *w = world_of(4, group);
    join(w, 0);
    while (sb_set_counts(w->set)->events == 0)
        CHECK(sb_set_wait(w->set, -1) >= 0);
    log_events(w);
    CHECK_TEXT(w->log, "0 closed 7 ");
    end_of(w);
}

/* ---- without memory */

/* A round of everything that allocates, so that each allocation fails in turn.
 * What was answered before stays answered, what was not is closed and said. */
static void talk(struct world *w)
{
    static char piece[3001];
    memset(piece, 'x', 3000);
    sb_group group = lines_group();
    group.max_frame = 1 << 20;
    int big = sb_set_group(w->set, &group);
    int a = join(w, 0), b = big < 0 ? -1 : join(w, big);
    say(w, a, "whole\npart");
    if (b >= 0)
        say(w, b, piece);
    turn(w);
    if (b >= 0)
        say(w, b, "x\n");
    turn(w);
    cap_size(CALL_SEND, 1);
    int32_t id = a;
    int64_t size = 5;
    sb_set_write(w->set, 1, &id, &size, "reply");
    for (int i = 0; i < 6; i++)
        turn(w);
    cap_size(CALL_SEND, 0);
}

static void no_memory_at_any_time(void)
{
    int fired = 1;
    for (int nth = 1; fired; nth++) {
        struct world *w = world_of(8, lines_group());
        fail_nth(CALL_ALLOCATE, nth, ENOMEM);
        talk(w);
        fired = faults_clear();
        int open = sb_set_counts(w->set)->connections;
        CHECK(fired || open == 2);
        end_of(w);
    }
    sb_group group = lines_group();
    fired = 1;
    for (int nth = 1; fired; nth++) {
        fail_nth(CALL_ALLOCATE, nth, ENOMEM);
        fail_nth(CALL_MMAP, nth, ENOMEM);
        sb_set *set = sb_set_new(4, with_epoll);
        fired = faults_clear();
        CHECK((set == NULL) == fired);
        sb_set_free(set);
    }
    sb_set *set = sb_set_new(4, 0);
    fail_nth(CALL_ALLOCATE, 1, ENOMEM);
    CHECK_EQ(sb_set_group(set, &group), SB_ERR_NOMEM);
    CHECK_EQ(sb_set_group(set, &group), 0);
    sb_set_free(set);
    sb_set_free(NULL);
    errno = 0;
    CHECK(sb_set_new(0, 0) == NULL);
    CHECK_EQ(errno, EINVAL);
}

static const struct test all_of_set[] = {
    {"lines in pieces", lines_in_pieces},
    {"short receives", short_receives},
    {"big lines", big_lines},
    {"too long", too_long},
    {"too long in a buffer", too_long_in_a_buffer},
    {"raw input", raw_input},
    {"served here", served_here},
    {"ends of input", ends_of_input},
    {"half close is announced", half_close_is_announced},
    {"lingers", lingers},
    {"idle deadline", idle_deadline},
    {"deadlines past the wheel", deadlines_past_the_wheel},
    {"aborts", aborts},
    {"reset by the peer", reset_by_the_peer},
    {"quiet ones close", quiet_ones_close},
    {"slow reader", slow_reader},
    {"short sends", short_sends},
    {"too much unsent", too_much_unsent},
    {"peer gone while writing", peer_gone_while_writing},
    {"write stall", write_stall},
    {"FIN behind the output", fin_behind_the_output},
    {"FIN fails", fin_fails},
    {"pauses", pauses},
    {"water marks", water_marks},
    {"merges", merges},
    {"big frames are not merged", big_frames_are_not_merged},
    {"replies that do not match", replies_that_do_not_match},
    {"arena full", arena_full},
    {"held blocks run out", held_blocks_run_out},
    {"rows run out", rows_run_out},
    {"accepts", accepts},
    {"watches", watches},
    {"reset while not read", reset_while_not_read},
    {"ids that are none", ids_that_are_none},
    {"not a socket", not_a_socket},
    {"named by the caller", named_by_the_caller},
    {"replies to one", replies_to_one},
    {"closes with much unsent", closes_with_much_unsent},
    {"waits no longer than a deadline", waits_no_longer_than_a_deadline},
    {"no memory at any time", no_memory_at_any_time},
};

static void each(const char *how)
{
    for (size_t i = 0; i < sizeof all_of_set / sizeof all_of_set[0]; i++) {
        int before = check_failures();
        all_of_set[i].run();
        faults_clear();
        if (check_failures() > before)
            printf("# ^ set %s: %s\n", how, all_of_set[i].name);
    }
}

static void over_epoll(void)
{
#ifdef __linux__
    with_epoll = 1;
    each("over epoll");
#endif
}

static void told_what_is_ready(void)
{
    with_epoll = 0;
    each("told what is ready");
}

const struct test set_tests[] = {
    {"set: over epoll", over_epoll},
    {"set: told what is ready", told_what_is_ready},
    {NULL, NULL},
};
