/* SPDX-License-Identifier: MIT */
/*
 * fuzz_mux - sequences of calls against a small model of what they mean
 *
 * DESCRIPTION
 *   The first byte of an input says how, each further pair what is done next:
 *   peers come, send, stop, reset and read; the caller takes events, sends, closes,
 *   pauses, gives frames back, changes the framing, keeps old ids; time jumps.
 *   The model knows of each connection what its peer said, what of that was
 *   handed out, what was sent to it, and whether its end was told.  In half of the
 *   inputs a filter is between, that holds some of the bytes back.  What must hold
 *   between two calls the library looks at itself (mux_check.c).
 */
#include "peers.h"
#include "sockmux.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 6, IDLE_MS = 1000, FRAME_MS = 700, LINGER_MS = 1000, LIMIT = 64, MOST_UNSENT = 4000 };

struct model {
    int id, fd;
    int is_closed_here;  /* sb_mux_close or _abort was called: nothing but its end is told */
    int is_forgotten, has_ended;
    int is_raw, is_paused;
    int was_accepted, was_announced;
    size_t handed_out;   /* bytes of what the peer said */
    size_t last_at, last_size; /* what was handed out last, and may be given back */
    int64_t last_frames;
    size_t said;         /* bytes, before the turn whose events are taken now */
    size_t asked;        /* bytes given to sb_mux_send, and taken */
    uint64_t sum;
};

static struct model models[PEERS];
static int count, has_epoll, announces, is_drained;
static sb_mux *mux;
static struct { /* by the filter, in half of the inputs */
    char bytes[SAID];
    size_t size;
} held_back[PEERS];
static int is_filtered;

#define require(condition) ((condition) ? (void)0 : fail(#condition, __LINE__))

static void fail(const char *what, int line)
{
    fprintf(stderr, "fuzz_mux.c:%d: not so: %s\n", line, what);
    abort();
}

static struct peer *peer_of(const struct model *m)
{
    return kernel_peer(m->fd);
}

/* The model of an id that was handed out; an event of any other is an error. */
static struct model *model_of(int id)
{
    for (int i = 0; i < count; i++)
        if (models[i].id == id)
            return &models[i];
    abort();
}

static int fd_of(int id)
{
    sb_info info;
    require(sb_mux_info(mux, id, &info) == 0);
    return info.fd;
}

static void note(int id, int was_accepted)
{
    for (int i = 0; i < count; i++)
        require(models[i].id != id); /* no id comes again in so short a time */
    models[count++] = (struct model){.id = id, .fd = fd_of(id), .was_accepted = was_accepted};
}

/* ---- what is handed out */

static void take_frames(struct model *m, const sb_event *event, const char *data)
{
    const struct peer *p = peer_of(m);
    size_t size = (size_t)event->size, lines = 0;
    require(size > 0 && event->frames > 0 && m->handed_out + size <= p->read);
    require(memcmp(data, p->said + m->handed_out, size) == 0); /* in order, nothing twice, nothing left out */
    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n';
    require(m->is_raw || (data[size - 1] == '\n' && (int64_t)lines == event->frames));
    m->last_at = m->handed_out;
    m->last_size = size;
    m->last_frames = event->frames;
    m->handed_out += size;
}

/* Whole lines that came in time are handed out before their connection ends in order. */
static int has_line_left(const struct model *m)
{
    const struct peer *p = peer_of(m);
    return p->sent > m->handed_out && memchr(p->said + m->handed_out, '\n', p->sent - m->handed_out) != NULL;
}

static void take_end(struct model *m, int reason)
{
    const struct peer *p = peer_of(m);
    require(!m->has_ended && !m->is_forgotten);
    m->has_ended = 1;
    require(m->was_announced || !announces || m->is_closed_here);
    if (reason == SB_REASON_RESET)
        require(p->has_reset);
    if (reason == SB_REASON_EOF || reason == SB_REASON_TRUNCATED)
        require(p->has_ended && (m->is_closed_here || !has_line_left(m)));
    if (reason == SB_REASON_IDLE_TIMEOUT && !m->is_paused && m->asked == p->heard)
        require(p->read >= m->said && held_back[m - models].size == 0); /* nobody is late for what is here */
    if (reason == SB_REASON_CLOSED && m->is_closed_here && !p->has_reset)
        require(m->asked == p->heard && m->sum == p->sum); /* what was written has left */
    if (reason == SB_REASON_CLOSED || reason == SB_REASON_ABORTED)
        require(m->is_closed_here);
}

static void take(const sb_event *event, const char *data)
{
    struct model *m = model_of(event->id);
    require(!m->has_ended && (!m->is_closed_here || event->kind == SB_EVENT_CLOSED));
    switch (event->kind) {
    case SB_EVENT_ACCEPTED:
        require(announces && !m->was_announced);
        m->was_announced = 1;
        break;
    case SB_EVENT_FRAMES:
        take_frames(m, event, data);
        break;
    case SB_EVENT_END:
        require(peer_of(m)->has_ended && !has_line_left(m));
        break;
    case SB_EVENT_CLOSED:
        take_end(m, event->detail);
        break;
    default:
        require(event->kind == SB_EVENT_PAUSE || event->kind == SB_EVENT_RESUME || event->kind == SB_EVENT_WRONG);
    }
}

static void take_events(int max)
{
    sb_event event;
    const char *data;
    for (; max > 0; max--) {
        is_drained = sb_mux_next(mux, &event, &data) == 0;
        if (is_drained)
            return;
        take(&event, data);
    }
}

static void turn(int timeout_ms)
{
    for (int i = 0; i < count; i++) {
        models[i].last_size = 0; /* frames of this turn alone may be given back */
        if (is_drained)
            models[i].said = peer_of(&models[i])->sent;
    }
    is_drained = 0;
    if (has_epoll) {
        require(sb_mux_wait(mux, timeout_ms) >= 0);
        return;
    }
    int32_t ids[ROWS], masks[ROWS];
    int due = sb_mux_timeout(mux), n = 0;
    int wait_ms = due >= 0 && due < timeout_ms ? due : timeout_ms;
    require(sb_mux_changes(mux) >= 0);
    for (int i = 0; i < count && n < ROWS; i++) {
        const struct peer *p = peer_of(&models[i]);
        if (!models[i].has_ended && !models[i].is_forgotten && p->is_open) {
            ids[n] = models[i].id;
            masks[n++] = (p->sent > p->read || p->has_ended || p->has_reset ? SB_READ : 0) | SB_WRITE;
        }
    }
    kernel_now_ms += wait_ms > 0 ? wait_ms : 0;
    require(sb_mux_receive(mux, ids, masks, n) >= 0);
}

/* ---- a filter: bytes are what they are, and come late */


static int64_t open_some(void *context, int32_t id, const char *data, size_t size, char *plain, size_t room, int32_t *then)
{
    size_t at = (size_t)(model_of(id) - models), n;
    (void)context;
    if (size > 0)
        memcpy(held_back[at].bytes + held_back[at].size, data, size);
    held_back[at].size += size;
    n = held_back[at].size > 5 ? held_back[at].size - 3 : held_back[at].size;
    n = n < room ? n : room;
    memcpy(plain, held_back[at].bytes, n);
    held_back[at].size -= n;
    memmove(held_back[at].bytes, held_back[at].bytes + n, held_back[at].size);
    *then = (held_back[at].size > 0 ? SB_FILTER_MORE : 0) | (n & 1 ? SB_FILTER_SEND : 0);
    return (int64_t)n;
}

static int64_t seal_all(void *context, int32_t id, const char *data, size_t size, int32_t what, const char **sealed)
{
    (void)context, (void)id, (void)what;
    *sealed = data;
    return (int64_t)size;
}

/* ---- what is done */

static void add(int by_accept)
{
    int id = 0;
    if (count == PEERS)
        return;
    if (by_accept) {
        int32_t before[ROWS], after[ROWS];
        int n = sb_mux_list(mux, -1, SB_LIST_LIVE, before, ROWS);
        kernel_dial();
        if (sb_mux_accept(mux, kernel_listener(), 0, 1, NULL) != 1)
            return;
        int more = sb_mux_list(mux, -1, SB_LIST_LIVE, after, ROWS);
        require(more == n + 1);
        for (int i = 0, j = 0; i < more; i++) {
            if (j < n && after[i] == before[j])
                j++;
            else
                id = after[i];
        }
    } else {
        int fd = kernel_socket();
        if (fd < 0)
            return;
        id = sb_mux_add(mux, fd, 0);
        require(id >= 0 || id == SB_ERR_FULL);
        if (id < 0)
            return;
    }
    note(id, by_accept);
    if (is_filtered)
        require(sb_mux_filter(mux, id) == 0);
}

static void say(struct peer *p, unsigned what)
{
    static const char *const words[] = {"a\n", "bc\nd", "\n\n\n", "e", "f\r\n", "ghijklm\nn\n", "o\r", "\n"};
    if (p->has_ended || p->has_reset)
        return;
    int times = what & 8 ? 20 : 1;
    for (int i = 0; i < times; i++) {
        const char *word = words[what & 7];
        for (; *word != '\0' && p->sent < SAID; word++)
            p->said[p->sent++] = *word;
    }
}

static void send_to(struct model *m, unsigned what)
{
    static const char text[1024] = "answer\n";
    size_t size = what & 8 ? sizeof text : what & 7;
    int64_t code = sb_mux_send(mux, m->id, text, size);
    if (m->has_ended || m->is_forgotten) {
        require(code == SB_ERR_GONE);
        return;
    }
    require(code >= 0 || code == SB_ERR_GONE || code == SB_ERR_CLOSING || code == SB_ERR_LIMIT || code == SB_ERR_RESET);
    if (code < 0)
        return;
    for (size_t i = 0; i < size; i++)
        m->sum = m->sum * 31 + (unsigned char)text[i];
    m->asked += size;
    require((size_t)code == m->asked - peer_of(m)->heard);
}

static void close_it(struct model *m, unsigned what)
{
    int code = what & 8 ? sb_mux_abort(mux, m->id, 0) : sb_mux_close(mux, m->id, 0);
    require(code == 0 || code == SB_ERR_GONE || (code == SB_ERR_CLOSING && !(what & 8)));
    m->is_closed_here = 1; /* also where it has ended, and that was not told yet */
}

static void give_back(struct model *m)
{
    if (m->last_size == 0)
        return;
    int code = sb_mux_unread(mux, m->id, peer_of(m)->said + m->last_at, m->last_size, m->last_frames);
    if (code == 0)
        m->handed_out = m->last_at;
    require(code == 0 || code == SB_ERR_GONE || code == SB_ERR_CLOSING || code == SB_ERR_LIMIT);
    m->last_size = 0;
}

/* Between two turns, with every event taken: the bytes of a frame may lie in an event that was not. */
static void reframe(struct model *m, unsigned what)
{
    sb_framing framing = {.kind = what & 8 ? SB_FRAMING_RAW : SB_FRAMING_LINE, .limit = LIMIT};
    take_events(1000);
    int code = sb_mux_framing(mux, m->id, &framing);
    require(code == 0 || code == SB_ERR_GONE || code == SB_ERR_CLOSING);
    if (code == 0)
        m->is_raw = framing.kind == SB_FRAMING_RAW;
}

static void pause_it(struct model *m, int paused)
{
    if (sb_mux_pause(mux, m->id, paused) == 0)
        m->is_paused = paused;
}

static void forget(struct model *m)
{
    if (sb_mux_forget(mux, m->id) == 0)
        m->is_forgotten = 1;
}

static void do_one(unsigned what, unsigned whom)
{
    struct model *m = count > 0 ? &models[(whom >> 4) % (unsigned)count] : NULL;
    unsigned detail = whom & 15;
    if (m == NULL || what == 0) {
        add(detail & 1);
        return;
    }
    struct peer *p = peer_of(m);
    switch (what) {
    case 1: case 2:
        say(p, detail);
        return;
    case 3:
        *(detail & 8 ? &p->has_reset : &p->has_ended) = 1;
        return;
    case 4: case 5:
        turn((int)detail * 50);
        take_events(detail & 8 ? 2 : 1000);
        return;
    case 6:
        send_to(m, detail);
        return;
    case 7:
        close_it(m, detail);
        return;
    case 8:
        pause_it(m, (int)detail & 1);
        return;
    case 9:
        (void)sb_mux_shutdown(mux, m->id);
        return;
    case 10:
        kernel_now_ms += (int64_t)detail * 400; /* the caller was busy */
        return;
    case 11:
        give_back(m);
        return;
    case 12:
        p->taken = p->heard; /* the peer reads all of it */
        return;
    case 13:
        reframe(m, detail);
        return;
    case 14:
        if (detail == 15)
            forget(m);
        else
            take_events((int)detail);
        return;
    default:
        (void)!sb_mux_water(mux, m->id, 100 + detail * 50, detail * 10);
    }
}

static int are_there(void)
{
    int there = 0;
    for (int i = 0; i < count; i++)
        there += !models[i].has_ended && !models[i].is_forgotten;
    return there;
}

/* Everybody goes: each end is told, once. */
static void end_all(void)
{
    require(sb_mux_close_all(mux, SB_REASON_CLOSED) == 0);
    for (int i = 0; i < count; i++)
        models[i].is_closed_here = 1;
    take_events(1000);
    for (int round = 0; round < 40 && are_there(); round++) {
        for (int i = 0; i < count; i++) {
            peer_of(&models[i])->taken = peer_of(&models[i])->heard;
            peer_of(&models[i])->has_ended = 1;
        }
        turn(100);
        take_events(1000);
    }
    require(!are_there());
    for (int i = 0; i < 2; i++) { /* and then there is nothing */
        turn(100);
        require(sb_mux_counts(mux)->events == 0);
    }
    require(sb_mux_counts(mux)->connections == 0 && sb_mux_counts(mux)->memory == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    kernel_reset();
    count = 0;
    is_drained = 1;
    has_epoll = data[0] & 1;
    announces = data[0] >> 1 & 1;
    mux = sb_mux_new(ROWS, has_epoll);
    sb_group group = {
        .framing = {.kind = SB_FRAMING_LINE, .limit = LIMIT},
        .flags = (announces ? SB_GROUP_ANNOUNCE : 0) | (data[0] & 4 ? SB_GROUP_MERGE : 0),
        .high_water = 500, .max_unsent = MOST_UNSENT, .idle_ms = IDLE_MS, .frame_ms = data[0] & 8 ? FRAME_MS : 0,
        .stall_ms = 2 * IDLE_MS, .linger_ms = data[0] & 16 ? LINGER_MS : 0, .cost_ns = data[0] & 32 ? 1000000 : 0,
    };
    require(mux != NULL && sb_mux_group(mux, &group) == 0);
    if (data[0] & 64)
        require(sb_mux_memory(mux, 2000) == 0);
    is_filtered = data[0] >> 7;
    for (int i = 0; i < PEERS; i++)
        held_back[i].size = 0;
    const sb_filter filter = {.open = open_some, .seal = seal_all};
    require(sb_mux_set_filter(mux, &filter) == 0);
    for (size_t i = 1; i + 1 < size; i += 2)
        do_one(data[i] & 15, data[i + 1]);
    end_all();
    sb_mux_free(mux);
    return 0;
}
