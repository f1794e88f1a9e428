/* SPDX-License-Identifier: MIT */
/*
 * fuzz_splits - where frames end does not depend on how the bytes arrived
 *
 * SYNOPSIS
 *   SB_FUZZ_FRAMING=netstring fuzz_splits ...      names: tests/framings.c
 *
 * DESCRIPTION
 *   The quick one of the two targets, for large numbers of executions: it
 *   allocates nothing.  The first byte of an input is the limit, the second the
 *   place of a split, the rest is the stream.  It is searched whole, in two
 *   pieces, and byte by byte; the three must tell the same story: the same
 *   frames, then the same end or error at the same place, and an error stands
 *   when it is asked for again with all the bytes.
 */
#include "framings.h"

#include <stdlib.h>
#include <string.h>

/* A story is hashed, one number for each frame and one for the outcome. */
static uint64_t tell(uint64_t story, uint64_t what)
{
    return (story ^ what) * 0x9E3779B97F4A7C15u + (story >> 29);
}

/* The stream as if it had arrived in pieces that end at first, first + step, ... */
static uint64_t search(const sb_framing *framing, const char *stream, size_t size, size_t first, size_t step)
{
    uint64_t story = 0;
    size_t start = 0, have = first < size ? first : size;
    sb_scan scan = {0};
    for (;;) {
        sb_frame frame;
        int found = sb_frame_find(framing, stream + start, have - start, &scan, &frame);
        if (found == 1) {
            if (frame.start > frame.end || frame.end > frame.next || frame.next > have - start
                || frame.end - frame.start - frame.dots > framing->limit)
                abort();
            story = tell(tell(tell(story, start + frame.start), start + frame.end), frame.dots);
            if (frame.next == 0)
                return story; /* a fixed or raw frame of nothing cannot be */
            start += frame.next;
        } else if (found < 0) {
            size_t at = found == SB_ERR_MALFORMED ? scan.searched : 0;
            if (sb_frame_find(framing, stream + start, size - start, &scan, &frame) != found
                || (at > 0 && scan.searched != at))
                abort();
            return tell(story, (uint64_t)(int64_t)found + start + at);
        } else if (have == size) {
            return tell(story, sb_frame_end(framing, have - start, &scan) == 0);
        } else {
            have = size - have > step ? have + step : size;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *name = getenv("SB_FUZZ_FRAMING");
    if (size < 2)
        return 0;
    sb_framing framing = framing_named(name != NULL ? name : "line", data[0] % 64);
    if (framing.kind == SB_FRAMING_RAW || framing.kind == SB_FRAMING_DATAGRAM)
        return 0; /* there a piece is a frame */
    const char *stream = (const char *)data + 2;
    size -= 2;
    uint64_t whole = search(&framing, stream, size, size, size);
    if (whole != search(&framing, stream, size, size > 0 ? data[1] % size : 0, size)
        || whole != search(&framing, stream, size, 0, 1))
        abort();
    return 0;
}
