/* SPDX-License-Identifier: MIT */
/*
 * fuzz_frames - any two splits of a stream agree, and little is held
 *
 * SYNOPSIS
 *   SB_FUZZ_FRAMING=netstring fuzz_frames ...      names: tests/framings.c
 *
 * DESCRIPTION
 *   The first byte of an input is the limit, the second sows the split, the rest
 *   is the stream.  It is taken apart whole and in batches, in two splits, and
 *   with frames that are too long left out; take_apart aborts when more than
 *   sb_framing_room would have to be held.  Payloads that come are encoded and
 *   found again.
 */
#include "framings.h"

#include <stdlib.h>
#include <string.h>

static const char *framing_to_fuzz(void)
{
    const char *name = getenv("SB_FUZZ_FRAMING");
    return name != NULL ? name : "line";
}

static size_t split(uint8_t seed, size_t size, size_t *ends)
{
    size_t n = 0;
    uint32_t state = seed;
    for (size_t i = 1; i < size; i++) {
        state = state * 1664525 + 1013904223;
        if (seed == 0 || (state >> 24) < seed)
            ends[n++] = i;
    }
    ends[n++] = size;
    return n;
}

static void require(int is_true)
{
    if (!is_true)
        abort();
}

static void must_agree(const sb_buffer *a, const sb_buffer *b)
{
    require(sb_buffer_size(a) == sb_buffer_size(b));
    require(sb_buffer_size(a) == 0 || memcmp(sb_buffer_data(a), sb_buffer_data(b), sb_buffer_size(a)) == 0);
}

/* seed -1: whole, and in batches; else in pieces, 0: byte by byte. */
static sb_buffer *taken_apart(const sb_framing *framing, const char *stream, size_t size, int seed, int discard)
{
    size_t ends[128], n = 1;
    sb_buffer *text = sb_buffer_new(1 << 16);
    ends[0] = size;
    if (seed >= 0)
        n = split((uint8_t)seed, size, ends);
    take_apart(framing, stream, ends, size > 0 ? n : 0, discard, seed < 0, NULL, text);
    return text;
}

static void compare_splits(const sb_framing *framing, const char *stream, size_t size, uint8_t seed)
{
    sb_buffer *whole = taken_apart(framing, stream, size, -1, 0), *parted = taken_apart(framing, stream, size, seed, 0);
    must_agree(whole, parted);
    sb_buffer_free(whole);
    sb_buffer_free(parted);
    whole = taken_apart(framing, stream, size, -1, 1);
    parted = taken_apart(framing, stream, size, seed / 2, 1);
    must_agree(whole, parted);
    sb_buffer_free(whole);
    sb_buffer_free(parted);
}

/* What the encoder takes, the finder finds. */
static void there_and_back(const sb_framing *framing, const char *payload, size_t size)
{
    sb_buffer *out = sb_buffer_new(1 << 16);
    sb_scan scan = {0};
    sb_frame frame;
    if (sb_frame_encode(framing, payload, size, out) == 0 && sb_buffer_size(out) > 0) {
        require(sb_frame_find(framing, sb_buffer_data(out), sb_buffer_size(out), &scan, &frame) == 1);
        require(frame.next == sb_buffer_size(out) || framing->kind == SB_FRAMING_RAW);
        require(frame.end - frame.start - frame.dots >= size || framing->kind == SB_FRAMING_RAW);
        if (frame.dots == 0 && framing->kind != SB_FRAMING_RAW)
            require(size == 0 || memcmp(sb_buffer_data(out) + frame.start, payload, size) == 0);
    }
    sb_buffer_free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 128)
        return 0;
    sb_framing framing = framing_named(framing_to_fuzz(), data[0] % 40);
    const char *stream = (const char *)data + 2;
    if (framing.kind != SB_FRAMING_RAW && framing.kind != SB_FRAMING_DATAGRAM)
        compare_splits(&framing, stream, size - 2, data[1]);
    there_and_back(&framing, stream, size - 2);
    return 0;
}
