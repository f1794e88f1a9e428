#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

const struct test set_memory_tests[] = {
    {"no memory at any time", no_memory_at_any_time},
    {NULL, NULL},
};
