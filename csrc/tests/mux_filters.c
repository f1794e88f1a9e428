/* SPDX-License-Identifier: MIT */
/*
 * mux_filters - a filter between the network and the frames of a connection: a toy in place of TLS
 *
 * DESCRIPTION
 *   On the network each byte is one higher, "(" is the peer's end, ")" what is no
 *   text of its, and "*" has the filter itself send "+".  At the end it says "#".
 */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static struct toy {
    char came[70000];
    size_t size;
    size_t at_once; /* plain text for each call at most */
    int owes, refuses;
    char sealed[70000];
    size_t held; /* of what waits for more */
} toy;

static int64_t toy_open(void *context, int32_t id, const char *data, size_t size, char *plain, size_t room, int32_t *then)
{
    size_t n = 0, used = 0;
    (void)id;
    CHECK(context == &toy);
    if (size > 0)
        memcpy(toy.came + toy.size, data, size);
    toy.size += size;
    room = room < toy.at_once ? room : toy.at_once;
    int64_t end = 0;
    for (; used < toy.size && n < room && end == 0; used++) {
        char c = toy.came[used];
        if (c == '*')
            toy.owes = 1;
        else if (c == '(' || c == ')')
            end = c == '(' ? SB_ERR_END : SB_ERR_RESET;
        else
            plain[n++] = (char)(c - 1);
    }
    if (end != 0 && n > 0) {
        used--; /* what came before it first */
        end = 0;
    }
    memmove(toy.came, toy.came + used, toy.size - used);
    toy.size -= used;
    *then = (toy.size > 0 ? SB_FILTER_MORE : 0) | (toy.owes ? SB_FILTER_SEND : 0);
    return end != 0 ? end : (int64_t)n;
}

static int64_t toy_seal(void *context, int32_t id, const char *data, size_t size, int32_t what, const char **sealed)
{
    (void)context, (void)id;
    if (toy.refuses)
        return SB_ERR_RESET;
    if (toy.owes)
        toy.sealed[toy.held++] = '+';
    toy.owes = 0;
    for (size_t i = 0; i < size; i++)
        toy.sealed[toy.held + i] = (char)(data[i] + 1);
    toy.held += size;
    if (what == SB_SEAL_MORE)
        return 0;
    if (what == SB_SEAL_END)
        toy.sealed[toy.held++] = '#';
    *sealed = toy.sealed;
    size_t all = toy.held;
    toy.held = 0;
    return (int64_t)all;
}

static struct world *filtered_world(sb_group group, int *id)
{
    struct world *w = world_of(8, group);
    toy = (struct toy){.at_once = sizeof toy.came};
    sb_filter filter = {.context = &toy, .open = toy_open, .seal = toy_seal};
    CHECK_EQ(sb_mux_set_filter(w->mux, &filter), 0);
    *id = join(w, 0);
    CHECK_EQ(sb_mux_filter(w->mux, *id), 0);
    return w;
}

static void there_and_back(void)
{
    int id;
    struct world *w = filtered_world(lines_group(), &id);
    CHECK_TEXT(turn(w), "");
    say(w, id, "bc\vd");
    CHECK_TEXT(turn(w), "0:ab| ");
    say(w, id, "e\v");
    CHECK_TEXT(turn(w), "0:cd| ");
    answer(w, id, "xy\n", 3);
    CHECK_TEXT(heard(w, id), "yz\v");
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.received, 6);
    CHECK_EQ(info.sent, 3);
    end_of(w);
}

/* What came with the handshake, and what it has not sent. */
static void what_it_has_already(void)
{
    int id;
    struct world *w = filtered_world(lines_group(), &id);
    memcpy(toy.came, "b\v*", toy.size = 3);
    CHECK_TEXT(turn(w), "0:a| ");
    CHECK_TEXT(heard(w, id), "+");
    end_of(w);
}

static void more_than_there_is_room_for(void)
{
    int id;
    sb_group group = lines_group();
    struct world *w = filtered_world(group, &id);
    toy.at_once = 3;
    say(w, id, "b\vc\vd\v(");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(turn(w), "0:a| ");
    CHECK_TEXT(turn(w), "0:b|c| ");
    CHECK_TEXT(turn(w), "0 closed 1 ");
    CHECK_TEXT(heard(w, id), "#");
    end_of(w);
}

static void raw_and_no_more_than_its_limit(void)
{
    int id;
    sb_group group = lines_group();
    CHECK_EQ(sb_framing_raw(4, &group.framing), 0);
    struct world *w = filtered_world(group, &id);
    say(w, id, "bcdefg");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(turn(w), "0:abcd ");
    CHECK_TEXT(turn(w), "0:ef ");
    end_of(w);
}

enum { PIECE = 3000 };

/* Long lines, of which pieces come without an end. */
static struct world *long_lines(int *id, char piece[PIECE + 1])
{
    sb_group group = lines_group();
    CHECK_EQ(sb_framing_line(100000, &group.framing), 0);
    struct world *w = filtered_world(group, id);
    memset(piece, 'b', PIECE);
    piece[PIECE] = '\0';
    CHECK_TEXT(turn(w), "");
    return w;
}

static void a_frame_that_grows_large(void)
{
    int id;
    char piece[PIECE + 1];
    struct world *w = long_lines(&id, piece);
    for (int i = 0; i < 3; i++) {
        say(w, id, piece);
        CHECK_TEXT(turn(w), "");
    }
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.unframed, 3 * PIECE);
    say(w, id, "\v");
    turn(w);
    const sb_event *event = sb_mux_events(w->mux);
    CHECK_EQ(event->size, 3 * PIECE + 1);
    CHECK(block_of(w, event)[3 * PIECE - 1] == 'a');
    end_of(w);
}

static void a_large_frame_without_memory(void)
{
    int id;
    char piece[PIECE + 1];
    struct world *w = long_lines(&id, piece);
    say(w, id, piece);
    CHECK_TEXT(turn(w), "");
    sb_mux_memory(w->mux, PIECE + 500);
    say(w, id, piece);
    CHECK_TEXT(turn(w), "0 closed 9 ");
    end_of(w);
}

static void wrong_input(void)
{
    int id;
    struct world *w = filtered_world(lines_group(), &id);
    CHECK_TEXT(turn(w), "");
    say(w, id, "b\v*)c");
    CHECK_TEXT(turn(w), "0:a| ");
    CHECK_TEXT(turn(w), "0 closed 3 ");
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.error, ECONNRESET);
    end_of(w);
}

static void output_that_cannot_be_sealed(void)
{
    for (int how = 0; how < 4; how++) {
        int id;
        struct world *w = filtered_world(lines_group(), &id);
        CHECK_TEXT(turn(w), "");
        say(w, id, how == 3 ? "*" : "b\v");
        toy.refuses = 1;
        if (how == 3) {
            CHECK_TEXT(turn(w), "0 closed 3 ");
        } else {
            CHECK_TEXT(turn(w), "0:a| ");
            if (how == 0)
                answer(w, id, "x", 1);
            else
                CHECK_EQ(how == 1 ? sb_mux_close(w->mux, id, SB_REASON_CLOSED) : sb_mux_shutdown(w->mux, id), 0);
            CHECK_TEXT(events_of(w), how == 0 ? "0:a| 0 closed 3 " : "0:a| ");
            if (how != 0)
                CHECK_TEXT(heard(w, id), "$"); /* and so the end, without a word of the filter's */
        }
        end_of(w);
    }
}

/* Its end comes once, behind all that was written; what the filter wants to say then is not said. */
static void ends(void)
{
    int id;
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    struct world *w = filtered_world(group, &id);
    turn(w);
    answer(w, id, "ab", 2);
    CHECK_EQ(sb_mux_shutdown(w->mux, id), 0);
    CHECK_TEXT(heard(w, id), "bc#");
    CHECK_TEXT(heard(w, id), "$");
    say(w, id, "b\v*");
    CHECK_TEXT(turn(w), "0:a| ");
    CHECK_EQ(sb_mux_close(w->mux, id, SB_REASON_CLOSED), 0);
    CHECK_TEXT(heard(w, id), "$");
    hang_up(w, id);
    CHECK_TEXT(turn(w), "0 closed 2 ");
    end_of(w);
}

static void end_behind_what_is_unsent(void)
{
    int id;
    struct world *w = filtered_world(lines_group(), &id);
    size_t size = 60000, got = 0;
    char *block = big_block(size), room[65536];
    CHECK_TEXT(turn(w), "");
    for (int i = 0; i < 10; i++)
        answer(w, id, block, (int64_t)size);
    CHECK(sb_mux_unsent(w->mux, id) > 0);
    CHECK_EQ(sb_mux_shutdown(w->mux, id), 0);
    CHECK_EQ(sb_mux_close(w->mux, id, SB_REASON_CLOSED), 0);
    char last = '\0';
    for (ssize_t n; (n = recv(w->peer[id], room, sizeof room, MSG_DONTWAIT)) != 0; turn(w))
        if (n > 0) {
            got += (size_t)n;
            last = room[n - 1];
        }
    CHECK_EQ(got, 10 * size + 1);
    CHECK_EQ(last, '#');
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.sent, (int64_t)(10 * size));
    free(block);
    end_of(w);
}

static void no_room_for_its_end(void)
{
    for (int how = 0; how < 2; how++) {
        int id;
        sb_group group = lines_group();
        group.max_unsent = 3;
        struct world *w = filtered_world(group, &id);
        CHECK_TEXT(turn(w), "");
        fail_nth(CALL_SEND, 1, EAGAIN);
        answer(w, id, "abc", 3);
        if (how)
            CHECK_EQ(sb_mux_close(w->mux, id, SB_REASON_CLOSED), 0);
        else
            CHECK_EQ(sb_mux_shutdown(w->mux, id), SB_ERR_LIMIT);
        CHECK_TEXT(events_of(w), "0 closed 9 ");
        end_of(w);
    }
}

static void its_end_waits(void)
{
    int id;
    struct world *w = filtered_world(lines_group(), &id);
    CHECK_TEXT(turn(w), "");
    fail_nth(CALL_SEND, 1, EAGAIN);
    CHECK_EQ(sb_mux_close(w->mux, id, SB_REASON_CLOSED), 0);
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(heard(w, id), "#");
    CHECK_TEXT(heard(w, id), "$");
    end_of(w);
}

/* The filter has it in pieces. */
static void more_output_than_the_filter_is_given(void)
{
    for (int how = 0; how < 2; how++) {
        int id;
        sb_group group = lines_group();
        group.max_unsent = how ? 1000 : 0;
        struct world *w = filtered_world(group, &id);
        size_t size = 200000, got = 0;
        char *block = big_block(size), room[65536];
        CHECK_TEXT(turn(w), "");
        if (how)
            fail_nth(CALL_SEND, 1, EAGAIN);
        answer(w, id, block, (int64_t)size);
        if (how) {
            CHECK_TEXT(events_of(w), "0 closed 9 ");
        } else {
            for (ssize_t n; (n = recv(w->peer[id], room, sizeof room, MSG_DONTWAIT)) > 0; turn(w)) {
                for (ssize_t i = 0; i < n; i++)
                    CHECK_EQ(room[i], block[got + (size_t)i] + 1);
                got += (size_t)n;
            }
            CHECK_EQ(got, size);
        }
        free(block);
        end_of(w);
    }
}

static void a_reply_in_two_pieces(void)
{
    int id;
    struct world *w = filtered_world(lines_group(), &id);
    size_t size = 8000;
    char *block = big_block(size), room[16384];
    CHECK_TEXT(turn(w), "");
    say(w, id, "b\v");
    CHECK_TEXT(turn(w), "0:a| ");
    CHECK_EQ(sb_mux_reply_line(w->mux, 0, block, size, "\n", 1), 0);
    ssize_t n = recv(w->peer[id], room, sizeof room, MSG_DONTWAIT);
    CHECK_EQ(n, (ssize_t)size + 1);
    CHECK_EQ(room[size], '\v');
    CHECK_EQ(sb_mux_reply_line(w->mux, 0, block, size, "", 0), 0); /* all of it leaves at once then, too */
    CHECK_EQ(recv(w->peer[id], room, sizeof room, MSG_DONTWAIT), (ssize_t)size);
    free(block);
    end_of(w);
}

/* Nobody is late for what its filter has, nor quiet; what waits in the kernel is tried once. */
static void deadlines(void)
{
    int id;
    sb_group group = lines_group();
    group.frame_ms = 1000;
    struct world *w = filtered_world(group, &id);
    int32_t ids[8];
    CHECK_EQ(sb_mux_list(w->mux, -1, SB_LIST_QUIET, ids, 8), 0); /* it has not been asked */
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_mux_list(w->mux, -1, SB_LIST_QUIET, ids, 8), 1);
    say(w, id, "b");
    CHECK_TEXT(turn(w), "");
    clock_advance(900);
    say(w, id, "c\v");
    CHECK_TEXT(after(w, 400), "0:ab| ");
    say(w, id, "b");
    CHECK_TEXT(turn(w), "");
    CHECK_TEXT(after(w, 2000), "0 closed 13 ");
    end_of(w);
}

enum { PHASES = 10, PHASE_MS = 100 }; /* deadlines are found by a wheel: where it stands when they begin is no matter */

/* A frame has begun, some time after the clock has. */
static struct world *begun(int phase, size_t limit, int *id)
{
    sb_group group = lines_group();
    group.frame_ms = 1000;
    CHECK_EQ(sb_framing_line(limit, &group.framing), 0);
    clock_advance(phase * PHASE_MS);
    struct world *w = filtered_world(group, id);
    CHECK_TEXT(turn(w), "");
    say(w, *id, "b");
    CHECK_TEXT(turn(w), "");
    return w;
}

/* Nobody said that it is ready, as when more are than are told of at once. */
static void the_kernel_is_asked(void)
{
    for (int phase = 0; phase < PHASES; phase++) {
        int id;
        struct world *w = begun(phase, 1000, &id);
        say(w, id, "c\v");
        CHECK_TEXT(blind(w, 1600), "");
        CHECK_TEXT(turn(w), "0:ab| ");
        say(w, id, "b");
        CHECK_TEXT(turn(w), "");
        CHECK_TEXT(blind(w, 1600), "0 closed 13 "); /* nothing has come */
        end_of(w);
    }
}

/* More than is received in a turn waits when its frame is due: it has come in time. */
static void a_large_frame_is_received_whole(void)
{
    enum { SIZE = 150000 };
    for (int phase = 0; phase < PHASES; phase++) {
        int id, size = 1 << 20;
        struct world *w = begun(phase, SIZE, &id);
        char *block = big_block(SIZE);
        memset(block, 'b', SIZE - 1);
        block[SIZE - 1] = '\v';
        setsockopt(w->peer[id], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        CHECK_EQ(send(w->peer[id], block, SIZE, MSG_NOSIGNAL), SIZE);
        CHECK_TEXT(blind(w, 1600), "");
        for (int i = 0; i < 3; i++) {
            CHECK_TEXT(turn(w), "");
            CHECK_TEXT(blind(w, 300), "");
        }
        CHECK_TEXT(turn(w), "0:(150001 in 1) ");
        free(block);
        end_of(w);
    }
}

/* Of what waited the filter makes nothing, as of records without data: no byte more may come for it. */
static void a_trickle_behind_much_is_late(void)
{
    enum { SIZE = 20000, STEP_MS = 25, MAX_MS = 800 };
    for (int phase = 0; phase < PHASES; phase++) {
        int id, is_closed = 0;
        struct world *w = begun(phase, 1 << 20, &id);
        char *block = big_block(SIZE);
        memset(block, '*', SIZE);
        CHECK_EQ(send(w->peer[id], block, SIZE, MSG_NOSIGNAL), SIZE);
        CHECK_TEXT(blind(w, 1600), "");
        CHECK_TEXT(turn(w), "");
        for (int ms = 0; ms < MAX_MS && !is_closed; ms += STEP_MS) {
            say(w, id, "b");
            is_closed = strstr(blind(w, STEP_MS), "0 closed 13 ") != NULL || strstr(turn(w), "0 closed 13 ") != NULL;
        }
        CHECK(is_closed);
        free(block);
        end_of(w);
    }
}

/* A record may be one byte, and takes its time all the same. */
static void no_more_than_its_share_is_opened(void)
{
    int id;
    sb_group group = lines_group();
    group.cost_ns = MS;
    CHECK_EQ(sb_framing_line(100000, &group.framing), 0);
    struct world *w = filtered_world(group, &id);
    static char block[60000];
    memset(block, 'b', sizeof block - 1);
    CHECK_TEXT(turn(w), "");
    say(w, id, block);
    CHECK_TEXT(turn(w), "");
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK(info.received > 0 && info.received < 10000);
    end_of(w);
}

static void closed_by_the_peer(void)
{
    int id;
    struct world *w = filtered_world(lines_group(), &id);
    CHECK_TEXT(turn(w), "");
    say(w, id, "b\vc");
    hang_up(w, id);
    CHECK_TEXT(turn(w), "0:a| ");
    CHECK_TEXT(turn(w), "0 closed 5 ");
    end_of(w);
}

static void refused(void)
{
    int id;
    sb_group group = lines_group();
    struct world *w = filtered_world(group, &id);
    sb_filter none = {.open = toy_open}, neither = {.seal = toy_seal};
    sb_moved moved;
    const char *in, *out;
    CHECK_EQ(sb_mux_set_filter(w->mux, NULL), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_set_filter(w->mux, &none), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_set_filter(w->mux, &neither), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_filter(w->mux, id), SB_ERR_INVALID); /* twice */
    CHECK_EQ(sb_mux_export(w->mux, id, &moved, &in, &out), SB_ERR_INVALID);
    int part = join(w, 0), full = join(w, 0), ended = join(w, 0);
    size_t size = 1 << 20;
    char *block = big_block(size);
    say(w, part, "a");
    answer(w, full, block, (int64_t)size);
    CHECK_EQ(sb_mux_shutdown(w->mux, ended), 0);
    CHECK_TEXT(turn(w), "");
    CHECK_EQ(sb_mux_filter(w->mux, part), SB_ERR_MALFORMED);
    CHECK_EQ(sb_mux_filter(w->mux, full), SB_ERR_AGAIN);
    CHECK_EQ(sb_mux_filter(w->mux, ended), SB_ERR_CLOSING);
    CHECK_EQ(sb_mux_shutdown(w->mux, full), 0); /* behind what is unsent */
    CHECK_EQ(sb_mux_filter(w->mux, full), SB_ERR_CLOSING);
    CHECK_EQ(sb_mux_filter(w->mux, 99), SB_ERR_GONE);
    free(block);
    end_of(w);
}

static void no_memory_for_one(void)
{
    struct world *w = world_of(2, lines_group());
    sb_filter filter = {.context = &toy, .open = toy_open, .seal = toy_seal};
    fail_nth(CALL_ALLOCATE, 1, ENOMEM);
    CHECK_EQ(sb_mux_set_filter(w->mux, &filter), SB_ERR_NOMEM);
    faults_clear();
    CHECK_EQ(sb_mux_set_filter(w->mux, &filter), 0);
    CHECK_EQ(sb_mux_set_filter(w->mux, &filter), 0); /* another one */
    end_of(w);
}

const struct test mux_filter_tests[] = {
    {"there and back", there_and_back},
    {"what it has already", what_it_has_already},
    {"more than there is room for", more_than_there_is_room_for},
    {"raw, and no more than its limit", raw_and_no_more_than_its_limit},
    {"a frame that grows large", a_frame_that_grows_large},
    {"a large frame without memory", a_large_frame_without_memory},
    {"wrong input", wrong_input},
    {"output that cannot be sealed", output_that_cannot_be_sealed},
    {"ends", ends},
    {"end behind what is unsent", end_behind_what_is_unsent},
    {"no room for its end", no_room_for_its_end},
    {"its end waits", its_end_waits},
    {"more output than the filter is given", more_output_than_the_filter_is_given},
    {"a reply in two pieces", a_reply_in_two_pieces},
    {"deadlines", deadlines},
    {"the kernel is asked", the_kernel_is_asked},
    {"a large frame is received whole", a_large_frame_is_received_whole},
    {"a trickle behind much is late", a_trickle_behind_much_is_late},
    {"no more than its share is opened", no_more_than_its_share_is_opened},
    {"closed by the peer", closed_by_the_peer},
    {"refused", refused},
    {"no memory for one", no_memory_for_one},
    {NULL, NULL},
};
