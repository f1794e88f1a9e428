/* SPDX-License-Identifier: MIT */
/* test_mux - the tests of the mux, each over epoll and told what is ready */
#include "world.h"

#include <stdio.h>

static void each(const char *how)
{
    const struct test *const all[] = {mux_input_tests,     mux_output_tests,  mux_ends_tests,
                                      mux_deadlines_tests, mux_accepts_tests, mux_memory_tests, mux_frames_tests,
                                      mux_replies_tests,   mux_counts_tests,  mux_moves_tests,  mux_late_tests,
                                      mux_contract_tests, mux_pools_tests, mux_shares_tests, mux_turns_tests, mux_outsider_tests,
                                      mux_filter_tests, mux_packet_tests};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        for (const struct test *test = all[i]; test->name != NULL; test++) {
            int before = check_failures();
            test->run();
            faults_clear();
            if (check_failures() > before)
                printf("# ^ mux %s: %s\n", how, test->name);
        }
}

static void over_epoll(void)
{
#if SB_HAS_EPOLL
    with_epoll = 1;
    each("over epoll");
#endif
}

static void told_what_is_ready(void)
{
    with_epoll = 0;
    each("told what is ready");
}

const struct test mux_tests[] = {
    {"mux: over epoll", over_epoll},
    {"mux: told what is ready", told_what_is_ready},
    {NULL, NULL},
};
