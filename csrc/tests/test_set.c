/* test_set - the tests of the set, each over epoll and told what is ready */
#include "world.h"

#include <stdio.h>

static void each(const char *how)
{
    const struct test *const all[] = {set_input_tests,     set_output_tests,  set_ends_tests,
                                      set_deadlines_tests, set_accepts_tests, set_memory_tests, set_frames_tests,
                                      set_replies_tests,   set_counts_tests,  set_moves_tests,  set_late_tests,
                                      set_contract_tests, set_pools_tests, set_shares_tests, set_turns_tests};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        for (const struct test *test = all[i]; test->name != NULL; test++) {
            int before = check_failures();
            test->run();
            faults_clear();
            if (check_failures() > before)
                printf("# ^ set %s: %s\n", how, test->name);
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
