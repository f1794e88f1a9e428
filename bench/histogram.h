/* SPDX-License-Identifier: MIT */
/*
 * histogram.h - latencies in a fixed table: 32 buckets to each doubling, so a percentile is at most
 * 1/32 (3 %) above the true value, and recording one is a few instructions and no allocation.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_BITS = 5, HISTOGRAM_SUB = 1 << HISTOGRAM_BITS, HISTOGRAM_BUCKETS = 64 * HISTOGRAM_SUB };

struct histogram {
    uint64_t total;
    uint64_t count[HISTOGRAM_BUCKETS];
};

static inline void histogram_add(struct histogram *h, uint64_t value)
{
    unsigned shift = 0;
    if (value >= HISTOGRAM_SUB)
        shift = 63U - (unsigned)__builtin_clzll(value) - HISTOGRAM_BITS;
    /* value >> shift is below 32 only where shift is 0; above, its top bit is implied by the row. */
    h->count[shift * HISTOGRAM_SUB + (value >> shift)]++;
    h->total++;
}

/* The upper edge of the bucket in which the `fraction` (0 to 1) of all values ends; 0 when there are none. */
static inline uint64_t histogram_percentile(const struct histogram *h, double fraction)
{
    uint64_t wanted = (uint64_t)((double)h->total * fraction), seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->count[i];
        if (seen > wanted || (seen == h->total && seen > 0)) {
            if (i < 2 * HISTOGRAM_SUB)
                return i;
            unsigned shift = i / HISTOGRAM_SUB - 1;
            return ((uint64_t)(i - shift * HISTOGRAM_SUB + 1) << shift) - 1;
        }
    }
    return 0;
}

#endif
