/* SPDX-License-Identifier: MIT */
/*
 * blind - a fuzz target where there is no libFuzzer: blind COUNT [FIRST]
 *
 * DESCRIPTION
 *   The bytes of an input follow from its number, so that every run has the same ones.  When the target aborts, the
 *   number is printed: "blind 1 NUMBER" does it again.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { LONGEST = 120 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static long number;

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t next_of(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void say_which(int signal_number)
{
    (void)signal_number;
    fprintf(stderr, "blind: input %ld\n", number); /* nothing goes on behind this */
    _Exit(1);
}

int main(int argc, char **argv)
{
    uint8_t input[LONGEST];
    long count = argc > 1 ? atol(argv[1]) : 1, first = argc > 2 ? atol(argv[2]) : 0;
    signal(SIGABRT, say_which);
    for (number = first; number < first + count; number++) {
        uint64_t state = (uint64_t)number << 8;
        size_t size = 3 + next_of(&state) % (LONGEST - 2);
        for (size_t i = 0; i < size; i++)
            input[i] = (uint8_t)next_of(&state);
        (void)LLVMFuzzerTestOneInput(input, size);
    }
    printf("%ld sequences of calls\n", count);
    return 0;
}
