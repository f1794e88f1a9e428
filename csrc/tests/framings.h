/* SPDX-License-Identifier: MIT */
/* framings - framings by name, for the tests and the fuzzer */
#ifndef FRAMINGS_H
#define FRAMINGS_H

#include "sockbuf.h"

/* Make the framing of that name.  fixed takes the limit for its size. */
sb_framing framing_named(const char *name, size_t limit);

/* Names in turn; NULL behind the last. */
const char *framing_name(int index);

/* Take a stream apart, given in pieces: the first ends at ends[0], and so on;
 * the last end is the stream's.  More is never held than sb_framing_room.
 *
 * Writes what came to text: (payload) for each frame, with dots unstuffed, and
 * how it ended: "" clean, "~" truncated, "L" too long, "M<offset>" malformed;
 * with discard, "L" stands where a frame was left out and it goes on.
 * edge, if not NULL, copies the bytes to where nothing is mapped behind them. */
typedef char *edge_function(const void *data, size_t size);
void take_apart(const sb_framing *framing, const char *stream, const size_t *ends, size_t pieces, int discard,
                int batch, edge_function *edge, sb_buffer *text);

#endif
