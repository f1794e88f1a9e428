/* SPDX-License-Identifier: MIT */
/*
 * mux_seqpackets - connections over sockets that keep packets apart (SOCK_SEQPACKET)
 */
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LARGE = 100000 /* more than is received at once into the arena */ };

static sb_group packets_group(size_t limit)
{
    sb_group group = lines_group();
    CHECK_EQ(sb_framing_prefix(4, SB_ORDER_BIG, 0, limit, &group.framing), 0);
    group.flags = SB_GROUP_PACKETS;
    return group;
}

/* As join(), over another kind of socket pair. */
static int join_packets(struct world *w)
{
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    int id = sb_mux_add(w->mux, fds[0], 0);
    CHECK(id >= 0);
    w->peer[sb_mux_row(w->mux, id)] = fds[1];
    return id;
}

static struct world *packets_world(size_t limit, int *id)
{
    struct world *w = world_of(8, packets_group(limit));
    *id = join_packets(w);
    return w;
}

/* One turn, whose frames come as text: "4 abcd|0 |", with the event that is not of frames behind. */
static const char *packets(struct world *w)
{
    static char text[400];
    size_t at = 0;
    turn(w);
    const sb_event *events = sb_mux_events(w->mux);
    text[0] = '\0';
    for (int i = 0; i < sb_mux_counts(w->mux)->events; i++) {
        const char *data = block_of(w, &events[i]);
        if (events[i].kind != SB_EVENT_FRAMES) {
            at += (size_t)snprintf(text + at, sizeof text - at, "kind %d reason %d ", events[i].kind, events[i].detail);
            continue;
        }
        for (int64_t left = events[i].frames; left > 0; left--) {
            unsigned size = (unsigned)(unsigned char)data[1] << 16 | (unsigned)(unsigned char)data[2] << 8 | (unsigned char)data[3];
            at += (size_t)snprintf(text + at, sizeof text - at, "%u %.*s|", size, size < 20 ? (int)size : 1, data + 4);
            data += 4 + size;
        }
    }
    return text;
}

static void one_packet_is_one_frame(void)
{
    int id;
    struct world *w = packets_world(1000, &id);
    say(w, id, "ab");
    say(w, id, "c\n");
    CHECK_TEXT(packets(w), "2 ab|");
    CHECK_TEXT(packets(w), "2 c\n|");
    answer(w, id, "\0\0\0\2xy\0\0\0\1z", 11);
    CHECK_TEXT(heard(w, id), "xy");
    CHECK_TEXT(heard(w, id), "z");
    CHECK_TEXT(heard(w, id), "-");
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.received, 4);
    CHECK_EQ(info.sent, 3);
    CHECK_EQ(info.frames, 2);
    hang_up(w, id);
    CHECK_TEXT(packets(w), "kind 6 reason 1 ");
    end_of(w);
}

static void an_empty_packet_is_no_end(void)
{
    int id, off = 0;
    struct world *w = packets_world(1000, &id);
    say(w, id, "");
    CHECK_TEXT(packets(w), "0 |");
    answer(w, id, "\0\0\0", 4);
    CHECK_EQ(recv(w->peer[id], NULL, 0, MSG_PEEK), 0);
    CHECK_TEXT(heard(w, id), "$"); /* so it is to its receiver, who does not know better */
    CHECK_TEXT(heard(w, id), "-");
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(setsockopt(info.fd, SOL_SOCKET, SO_PASSCRED, &off, sizeof off), 0);
    say(w, id, "");
    CHECK_TEXT(packets(w), "kind 6 reason 1 "); /* nobody has told which of the two it is */
    end_of(w);
}

static void an_empty_packet_is_not_nothing(void)
{
    int id;
    int32_t ids[1];
    struct world *w = packets_world(1000, &id);
    CHECK_EQ(sb_mux_list(w->mux, 0, SB_LIST_QUIET, ids, 1), 1);
    CHECK_EQ(sb_mux_silent(w->mux, 0, 0, ids, 1), 1);
    say(w, id, "");
    CHECK_EQ(sb_mux_list(w->mux, 0, SB_LIST_QUIET, ids, 1), 0);
    CHECK_EQ(sb_mux_silent(w->mux, 0, 0, ids, 1), 0);
    CHECK_TEXT(packets(w), "0 |");
    CHECK_EQ(sb_mux_list(w->mux, 0, SB_LIST_QUIET, ids, 1), 1);
    CHECK_EQ(sb_mux_silent(w->mux, 0, 0, ids, 1), 0); /* it has said something */
    hang_up(w, id);
    CHECK_EQ(sb_mux_list(w->mux, 0, SB_LIST_QUIET, ids, 1), 1);
    end_of(w);
}

static void a_longer_one_is_too_long(void)
{
    int id;
    struct world *w = packets_world(4, &id);
    say(w, id, "abcd");
    CHECK_TEXT(packets(w), "4 abcd|");
    say(w, id, "abcde");
    CHECK_TEXT(packets(w), "");
    CHECK_TEXT(heard(w, id), "$");
    say(w, id, "more"); /* received and thrown away, the empty one as well */
    say(w, id, "");
    CHECK_TEXT(packets(w), "");
    CHECK_TEXT(packets(w), "");
    hang_up(w, id);
    CHECK_TEXT(packets(w), "kind 6 reason 6 ");
    end_of(w);
}

static void says(struct world *w, int id, const char *data, size_t size)
{
    CHECK_EQ(send(w->peer[sb_mux_row(w->mux, id)], data, size, MSG_NOSIGNAL), size);
}

static void large_ones(void)
{
    int id;
    struct world *w = packets_world(LARGE, &id);
    char *block = big_block(LARGE + 1);
    says(w, id, block, LARGE);
    CHECK_TEXT(packets(w), "100000 a|");
    says(w, id, block, 65536);
    CHECK_TEXT(packets(w), "65536 a|");
    says(w, id, "", 0);
    CHECK_TEXT(packets(w), "0 |");
    says(w, id, block, 65537);
    CHECK_TEXT(packets(w), "65537 a|");
    CHECK_EQ(sb_mux_counts(w->mux)->memory > 0, 1);
    CHECK_TEXT(packets(w), "");
    CHECK_EQ(sb_mux_counts(w->mux)->memory, 0);
    says(w, id, block, LARGE + 1);
    CHECK_TEXT(packets(w), "");
    hang_up(w, id);
    CHECK_TEXT(packets(w), "kind 6 reason 6 ");
    free(block);
    end_of(w);
}

/* It lies in a buffer until it is told, and has its time as what lies in one. */
static void a_large_one_that_is_too_long_is_told(void)
{
    sb_group group = packets_group(LARGE);
    group.flags |= SB_GROUP_ANNOUNCE;
    group.frame_ms = 1000;
    struct world *w = world_of(8, group);
    int id = join_packets(w);
    char *block = big_block(LARGE + 1);
    says(w, id, block, LARGE + 1);
    CHECK_TEXT(packets(w), "kind 2 reason 0 kind 7 reason 6 ");
    CHECK_EQ(sb_mux_pause(w->mux, id, 1), 0);
    CHECK_TEXT(packets(w), "");
    CHECK_EQ(sb_mux_pause(w->mux, id, 0), 0);
    CHECK_TEXT(packets(w), "kind 7 reason 6 ");
    free(block);
    end_of(w);
}

static void what_the_system_says(void)
{
    int id;
    struct world *w = packets_world(LARGE, &id);
    char *block = big_block(LARGE);
    CHECK_TEXT(packets(w), "");
    fail_nth(CALL_RECV, 1, EAGAIN);
    says(w, id, block, 10);
    CHECK_TEXT(packets(w), "");
    CHECK(faults_clear());
    CHECK_TEXT(packets(w), "10 abcdefghij|");
    says(w, id, block, LARGE);
    fail_nth(CALL_RECV, 2, ECONNRESET); /* the first one asks how long it is */
    CHECK_TEXT(packets(w), "kind 6 reason 3 ");
    CHECK(faults_clear());
    id = join_packets(w);
    says(w, id, block, 10);
    fail_nth(CALL_RECV, 2, ECONNRESET);
    CHECK_TEXT(packets(w), "kind 6 reason 3 ");
    CHECK(faults_clear());
    id = join_packets(w);
    says(w, id, block, LARGE);
    sb_mux_memory(w->mux, 1000);
    CHECK_TEXT(packets(w), "kind 6 reason 9 ");
    free(block);
    end_of(w);
}

/* Packets of 1,000 bytes until so many cannot be sent at once; then what comes of them. */
static void unsent_ones_stay_apart(void)
{
    int id, sent = 0, heard_of = 0;
    struct world *w = packets_world(1000, &id);
    char packet[1004] = "\0\0\3\350", room[2000];
    memset(packet + 4, 'x', 1000);
    for (; sb_mux_unsent(w->mux, id) < 3 * 1004; sent++)
        answer(w, id, packet, sizeof packet);
    answer(w, id, "\0\0\0\3end", 7);
    CHECK_EQ(sb_mux_unsent(w->mux, id) % 1004, 7);
    CHECK_EQ(sb_mux_shutdown(w->mux, id), 0);
    ssize_t n;
    while ((n = recv(w->peer[id], room, sizeof room, 0)) == 1000) {
        heard_of++;
        turn(w);
    }
    CHECK_EQ(heard_of, sent);
    CHECK_EQ(n, 3);
    CHECK(memcmp(room, "end", 3) == 0);
    CHECK_TEXT(heard(w, id), "$");
    end_of(w);
}

static void a_failure_behind_one_that_left(void)
{
    int id;
    struct world *w = packets_world(1000, &id);
    fail_nth(CALL_SEND, 2, EMSGSIZE);
    answer(w, id, "\0\0\0\1a\0\0\0\1b", 10);
    CHECK(faults_clear());
    CHECK_TEXT(heard(w, id), "a");
    CHECK_EQ(sb_mux_unsent(w->mux, id), 5);
    fail_nth(CALL_SEND, 1, EMSGSIZE); /* it is told to the next call */
    CHECK_TEXT(packets(w), "kind 6 reason 3 ");
    sb_info info;
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.error, EMSGSIZE);
    end_of(w);
}

static void what_is_no_frame_is_not_sent(void)
{
    static const struct {
        const char *data;
        int64_t size;
        const char *heard;
    } wrong[] = {{"\0\0\0", 3, "!"}, {"\0\0\0\5abcd", 8, "!"}, {"\0\0\0\1a\0\0\0\2b", 10, "a"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        int id;
        struct world *w = packets_world(1000, &id);
        answer(w, id, wrong[i].data, wrong[i].size);
        if (wrong[i].heard[0] == 'a')
            CHECK_TEXT(heard(w, id), "a");
        CHECK_TEXT(packets(w), "kind 6 reason 3 ");
        sb_info info;
        CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
        CHECK_EQ(info.error, EINVAL);
        end_of(w);
    }
}

static void they_move(void)
{
    int id, other;
    struct world *old = packets_world(1000, &id), *new = packets_world(1000, &other);
    sb_moved moved;
    sb_info info;
    const char *in, *out;
    says(old, id, "abc", 3);
    CHECK_TEXT(packets(old), "3 abc|");
    CHECK_EQ(sb_mux_unread(old->mux, id, "\0\0\0\3abc", 7, 1), 0);
    CHECK_EQ(sb_mux_export(old->mux, id, &moved, &in, &out), 0);
    CHECK_EQ(sb_mux_info(old->mux, id, &info), 0);
    int there = sb_mux_import(new->mux, dup(info.fd), 0, &moved, in, out);
    CHECK(there >= 0);
    new->peer[there] = old->peer[id];
    old->peer[id] = -1;
    CHECK_EQ(sb_mux_forget(old->mux, id), 0);
    turn(old);
    CHECK_TEXT(packets(new), "3 abc|");
    says(new, there, "d", 1);
    CHECK_TEXT(packets(new), "1 d|");
    answer(new, there, "\0\0\0\1e", 5);
    CHECK_TEXT(heard(new, there), "e");
    end_of(old);
    end_of(new);
}

static void only_by_their_prefix(void)
{
    int id;
    struct world *w = packets_world(1000, &id);
    sb_group group = packets_group(1000), lines = lines_group();
    for (int i = 0; i < 4; i++) {
        group = packets_group(1000);
        if (i == 0)
            group.framing = lines.framing;
        group.framing.width -= i == 1 ? 2 : 0;
        group.framing.order = i == 2 ? SB_ORDER_LITTLE : SB_ORDER_BIG;
        group.framing.includes_header = i == 3;
        CHECK_EQ(sb_mux_group(w->mux, &group), SB_ERR_INVALID);
    }
    CHECK_EQ(sb_mux_framing(w->mux, id, &lines.framing), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_serve(w->mux, 0, echo), SB_ERR_INVALID);
    CHECK_EQ(sb_mux_close(w->mux, id, SB_REASON_CLOSED), 0); /* and no filter says an end of its own */
    CHECK_TEXT(heard(w, id), "$");
    end_of(w);
}

const struct test mux_packet_tests[] = {
    {"one packet is one frame", one_packet_is_one_frame},
    {"an empty packet is no end", an_empty_packet_is_no_end},
    {"an empty packet is not nothing", an_empty_packet_is_not_nothing},
    {"a longer one is too long", a_longer_one_is_too_long},
    {"large ones", large_ones},
    {"a large one that is too long is told", a_large_one_that_is_too_long_is_told},
    {"what the system says", what_the_system_says},
    {"unsent ones stay apart", unsent_ones_stay_apart},
    {"a failure behind one that left", a_failure_behind_one_that_left},
    {"what is no frame is not sent", what_is_no_frame_is_not_sent},
    {"they move", they_move},
    {"only by their prefix", only_by_their_prefix},
    {NULL, NULL},
};
