#include "world.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    CHECK_TEXT(events_of(w), "0 closed 7 ");
    end_of(w);
}

const struct test set_deadlines_tests[] = {
    {"idle deadline", idle_deadline},
    {"deadlines past the wheel", deadlines_past_the_wheel},
    {"write stall", write_stall},
    {"waits no longer than a deadline", waits_no_longer_than_a_deadline},
    {NULL, NULL},
};
