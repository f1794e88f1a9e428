/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A connection of one world goes on in another: its descriptor is duplicated, as
 * SCM_RIGHTS does, and its peer belongs to the other world from then on. */
static int import_from(struct world *from, int id, struct world *to, int group)
{
    sb_moved moved;
    sb_info info;
    const char *in, *out;
    CHECK_EQ(sb_mux_export(from->mux, id, &moved, &in, &out), 0);
    CHECK_EQ(sb_mux_info(from->mux, id, &info), 0);
    int fd = dup(info.fd);
    int new = sb_mux_import(to->mux, fd, group, &moved, in, out);
    if (new < 0)
        close(fd);
    return new;
}

static int move(struct world *from, int id, struct world *to)
{
    int new = import_from(from, id, to, 0);
    CHECK(new >= 0);
    to->peer[new] = from->peer[id];
    from->peer[id] = -1;
    sb_mux_forget(from->mux, id);
    CHECK_TEXT(turn(from), "");
    return new;
}

static void unfinished_input_goes_along(void)
{
    struct world *old = world_of(8, lines_group()), *new = world_of(8, lines_group());
    int other = join(new, 0), id = join(old, 0), idle = join(old, 0);
    say(old, id, "a\nbc");
    CHECK_TEXT(turn(old), "0:a| ");
    say(old, id, "d\ne"); /* waits in the kernel */
    int there = move(old, id, new), idle_there = move(old, idle, new);
    CHECK_EQ(there, other + 1);
    CHECK_TEXT(turn(new), ""); /* what came along is looked at first */
    CHECK_TEXT(turn(new), "1:bcd| ");
    say(new, there, "f\n");
    say(new, idle_there, "g\n");
    turn(new);
    CHECK(strstr(new->log, "1:ef| ") != NULL && strstr(new->log, "2:g| ") != NULL);
    sb_info info;
    CHECK_EQ(sb_mux_info(new->mux, there, &info), 0);
    CHECK_EQ(info.frames, 3);
    CHECK_EQ(info.received, 9);
    CHECK_EQ(sb_mux_counts(old->mux)->connections, 0);
    sb_totals totals;
    CHECK_EQ(sb_mux_totals(old->mux, 0, &totals), 0);
    CHECK_EQ(totals.came, 2);
    CHECK_EQ(totals.received, 0); /* what it did is its new row's to tell */
    CHECK_EQ(sb_mux_totals(new->mux, 0, &totals), 0);
    CHECK_EQ(totals.came, 1);
    CHECK_EQ(totals.frames, 4);
    end_of(old);
    end_of(new);
}

static void nothing_ends_by_it(void)
{
    struct world *old = world_of(8, lines_group()), *new = world_of(8, lines_group());
    int id = join(old, 0);
    turn(old);
    int there = move(old, id, new), aborted = join(old, 0);
    sb_mux_abort(old->mux, aborted, SB_REASON_ABORTED);
    sb_mux_forget(old->mux, aborted); /* it has ended already */
    sb_mux_forget(old->mux, 99);
    CHECK_TEXT(events_of(old), "1 closed 12 ");
    end_of(old);
    CHECK_TEXT(heard(new, there), "-");
    hang_up(new, there);
    CHECK_TEXT(turn(new), "0 closed 1 ");
    end_of(new);
}

static void unsent_output_goes_along(void)
{
    struct world *old = world_of(8, lines_group()), *new = world_of(8, lines_group());
    size_t size = 1 << 20;
    char *block = big_block(size);
    int id = join(old, 0);
    answer(old, id, block, (int64_t)size);
    CHECK(sb_mux_unsent(old->mux, id) > 1 << 16);
    size_t at = drain(old, id, block, 0);
    sb_mux_shutdown(old->mux, id);
    int there = move(old, id, new);
    say(new, there, "not read\n"); /* more than high water is unsent */
    for (int i = 0; i < 100 && sb_mux_unsent(new->mux, there) > 1 << 16; i++) {
        CHECK_TEXT(turn(new), "");
        at = drain(new, there, block, at);
    }
    for (int i = 0; i < 100 && at < size; i++) {
        turn(new);
        at = drain(new, there, block, at);
    }
    CHECK_EQ(at, size);
    turn(new);
    CHECK_TEXT(heard(new, there), "$");
    free(block);
    end_of(old);
    end_of(new);
}

static void halves_go_along(void)
{
    sb_group group = lines_group();
    group.flags = SB_GROUP_ANNOUNCE;
    struct world *old = world_of(8, group), *new = world_of(8, group);
    int ended = join(old, 0), finished = join(old, 0), both = join(old, 0), paused = join(old, 0);
    turn(old);
    CHECK_EQ(shutdown(old->peer[ended], SHUT_WR), 0);
    CHECK_EQ(shutdown(old->peer[both], SHUT_WR), 0);
    turn(old);
    sb_mux_shutdown(old->mux, finished);
    sb_mux_shutdown(old->mux, both);
    sb_mux_pause(old->mux, paused, 1);
    ended = move(old, ended, new);
    finished = move(old, finished, new);
    both = move(old, both, new);
    paused = move(old, paused, new);
    answer(new, ended, "bye\n", 4);
    CHECK_TEXT(heard(new, ended), "bye\n");
    CHECK_TEXT(heard(new, finished), "$");
    say(new, finished, "a\n");
    say(new, paused, "b\n");
    CHECK_TEXT(turn(new), "1:a| ");
    sb_mux_pause(new->mux, paused, 0);
    CHECK_TEXT(turn(new), "3:b| ");
    sb_mux_close(new->mux, both, SB_REASON_CLOSED);
    CHECK_TEXT(events_of(new), "3:b| 2 closed 2 ");
    end_of(old);
    end_of(new);
}

static void framing_is_told(void)
{
    struct world *old = world_of(8, lines_group()), *new = world_of(8, lines_group());
    sb_framing netstrings = {.kind = SB_FRAMING_NETSTRING, .limit = 100};
    int id = join(old, 0);
    CHECK_EQ(sb_mux_framing(old->mux, id, &netstrings), 0);
    sb_moved moved;
    const char *in, *out;
    CHECK_EQ(sb_mux_export(old->mux, id, &moved, &in, &out), 0);
    CHECK_EQ(moved.flags, SB_MOVED_FRAMED);
    int there = move(old, id, new);
    CHECK_EQ(sb_mux_framing(new->mux, there, &netstrings), 0);
    say(new, there, "1:x,");
    CHECK_TEXT(turn(new), "0:1:x, ");
    end_of(old);
    end_of(new);
}

static void what_was_due_on_the_way_ends(void)
{
    sb_group group = lines_group();
    group.idle_ms = 1000;
    struct world *old = world_of(8, group), *new = world_of(8, group);
    int id = join(old, 0);
    after(new, 5000);
    move(old, id, new);
    CHECK_TEXT(after(new, 500), "0 closed 7 ");
    end_of(old);
    end_of(new);
}

/* As in a process that was forked: its copies are closed, of those too whose end was not told yet; nobody hears of it. */
static void left_behind(void)
{
    struct world *w = world_of(8, lines_group());
    int gone = join(w, 0), id = join(w, 0), closed = join(w, 0), kept[2];
    sb_info info;
    sb_mux_abort(w->mux, gone, SB_REASON_CLOSED);
    CHECK_TEXT(turn(w), "0 closed 2 ");
    CHECK_TEXT(turn(w), ""); /* its row is free from now on */
    sb_mux_abort(w->mux, closed, SB_REASON_CLOSED);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(sb_mux_info(w->mux, i == 0 ? id : closed, &info), 0);
        kept[i] = dup(info.fd);
        CHECK(kept[i] >= 0);
    }
    sb_mux_leave(w->mux);
    CHECK_EQ(sb_mux_info(w->mux, id, &info), 0);
    CHECK_EQ(info.fd, -1);
    CHECK_TEXT(heard(w, id), "-");
    close(kept[0]);
    CHECK_TEXT(heard(w, id), "$");
    close(kept[1]);
    end_of(w);
}

static void refused(void)
{
    struct world *old = world_of(8, lines_group()), *new = world_of(1, lines_group());
    int id = join(old, 0), closing = join(old, 0);
    sb_moved moved;
    const char *in, *out;
    CHECK_EQ(sb_mux_export(old->mux, 99, &moved, &in, &out), SB_ERR_GONE);
    sb_mux_close(old->mux, closing, SB_REASON_CLOSED);
    CHECK_EQ(sb_mux_export(old->mux, closing, &moved, &in, &out), SB_ERR_CLOSING);
    say(old, id, "part");
    turn(old);
    for (int nth = 1; nth <= 2; nth++) {
        fail_nth(CALL_ALLOCATE, nth, ENOMEM);
        CHECK_EQ(import_from(old, id, new, 0), SB_ERR_NOMEM);
        faults_clear();
    }
    CHECK_EQ(sb_mux_counts(new->mux)->memory, 0);
    int only = join(new, 0);
    CHECK(only >= 0);
    CHECK_EQ(import_from(old, id, new, 0), SB_ERR_FULL);
    say(old, id, "s\n");
    CHECK_TEXT(turn(old), "0:parts| "); /* it goes on where it was */
    end_of(old);
    end_of(new);
}

const struct test mux_moves_tests[] = {
    {"unfinished input goes along", unfinished_input_goes_along},
    {"nothing ends by it", nothing_ends_by_it},
    {"unsent output goes along", unsent_output_goes_along},
    {"halves go along", halves_go_along},
    {"framing is told", framing_is_told},
    {"what was due on the way ends", what_was_due_on_the_way_ends},
    {"left behind", left_behind},
    {"refused", refused},
    {NULL, NULL},
};
