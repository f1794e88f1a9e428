/* SPDX-License-Identifier: MIT */
/*
 * framing - how fast lines are found in memory, by the C core and by what it is measured against
 *
 *   framing LINE_BYTES [MIB]
 *
 * Prints one line: bytes a second of memcpy, of a memchr loop, and of
 * sb_frames_find, each over the same memory in pieces of 64 KiB.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sockbuf.h"

enum { CHUNK = 65536, SPANS = 4096, TIMES = 5 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static size_t copy(const char *data, size_t size)
{
    static char room[CHUNK];
    for (size_t at = 0; at + CHUNK <= size; at += CHUNK) {
        memcpy(room, data + at, CHUNK);
        __asm__ volatile("" : : "r"(room) : "memory");
    }
    return 0;
}

static size_t by_memchr(const char *data, size_t size)
{
    static sb_span spans[SPANS];
    size_t lines = 0, at = 0;
    for (const char *lf; at < size && (lf = memchr(data + at, '\n', size - at)) != NULL; lines++) {
        size_t end = (size_t)(lf - data);
        spans[lines % SPANS] = (sb_span){.start = at, .end = end};
        at = end + 1;
        __asm__ volatile("" : : "r"(spans) : "memory");
    }
    return lines;
}

static size_t by_core(const char *data, size_t size)
{
    static sb_span spans[SPANS];
    sb_framing framing;
    sb_scan scan = {0};
    size_t lines = 0;
    if (sb_framing_line(8192, &framing) < 0)
        abort();
    for (size_t at = 0; at < size;) {
        size_t next, piece = size - at < CHUNK ? size - at : CHUNK;
        int n = sb_frames_find(&framing, data + at, piece, &scan, spans, SPANS, &next);
        if (n <= 0)
            abort();
        lines += (size_t)n;
        at += next;
        scan = (sb_scan){0};
    }
    return lines;
}

static double best(size_t (*way)(const char *, size_t), const char *data, size_t size, size_t lines)
{
    double least = 1e9;
    for (int i = 0; i < TIMES; i++) {
        double start = now();
        size_t found = way(data, size);
        double took = now() - start;
        if (way != copy && found != lines)
            abort();
        least = took < least ? took : least;
    }
    return (double)size / least;
}

int main(int argc, char **argv)
{
    size_t line = argc > 1 ? strtoul(argv[1], NULL, 10) : 32, mib = argc > 2 ? strtoul(argv[2], NULL, 10) : 64;
    if (line < 1 || line > 8192 || mib < 1 || mib > 1024) {
        fprintf(stderr, "usage: framing LINE_BYTES [MIB]\n");
        return 64;
    }
    size_t lines = (mib << 20) / line, size = lines * line;
    char *data = malloc(size);
    if (data == NULL)
        return 71;
    memset(data, 'x', size);
    for (size_t i = 1; i <= lines; i++)
        data[i * line - 1] = '\n';
    printf("%.0f %.0f %.0f\n", best(copy, data, size, lines), best(by_memchr, data, size, lines),
           best(by_core, data, size, lines));
    free(data);
    return 0;
}
