/* SPDX-License-Identifier: MIT */
/* newlines - how fast lines are found, beside memcpy and a memchr loop, from memory */
#include "sockbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TOTAL = 64 << 20, CHUNK = 65536, ROUNDS = 7, SPANS = 4096 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static char *text, *copy;
static size_t sum;
static sb_span spans[SPANS];

static void by_memcpy(const char *data)
{
    memcpy(copy, data, CHUNK);
    sum += (unsigned char)copy[CHUNK / 2];
}

static void by_memchr(const char *data)
{
    const char *end = data + CHUNK;
    for (const char *at = data; (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++)
        sum++;
}

static void by_lines(const char *data)
{
    sb_lines lines;
    if (sb_lines_find(data, CHUNK, 0, CHUNK, &lines) > 0)
        sum += lines.frames;
}

static void by_frames(const char *data)
{
    sb_framing line;
    sb_scan scan = {0};
    size_t at = 0, next;
    int n = sb_framing_line(CHUNK, &line);
    while ((n = sb_frames_find(&line, data + at, CHUNK - at, &scan, spans, SPANS, &next)) > 0) {
        sum += (size_t)n + spans[n - 1].end;
        at += next;
    }
}

static double best(void (*how)(const char *), double *seconds)
{
    *seconds = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now();
        for (size_t at = 0; at < TOTAL; at += CHUNK)
            how(text + at);
        double took = now() - start;
        *seconds = took < *seconds ? took : *seconds;
    }
    return TOTAL / *seconds / 1e9;
}

int main(void)
{
    static const size_t sizes[] = {32, 100, 1000};
    text = malloc(TOTAL);
    copy = malloc(CHUNK);
    if (text == NULL || copy == NULL)
        return 1;
    printf("%6s %14s %14s %14s %14s   GB/s (and share of memcpy), best of %d\n", "line", "memcpy", "memchr", "sb_lines_find",
           "sb_frames_find", ROUNDS);
    for (size_t i = 0; i < 3; i++) {
        double seconds, copied;
        memset(text, 'x', TOTAL);
        for (size_t at = sizes[i] - 1; at < TOTAL; at += sizes[i])
            text[at] = '\n';
        copied = best(by_memcpy, &seconds);
        printf("%6zu %14.1f", sizes[i], copied);
        void (*const ways[])(const char *) = {by_memchr, by_lines, by_frames};
        for (int j = 0; j < 3; j++) {
            double rate = best(ways[j], &seconds);
            printf("  %6.1f (%.2f)", rate, rate / copied);
        }
        printf("   %.0f M lines/s\n", (double)TOTAL / (double)sizes[i] / seconds / 1e6);
    }
    free(text);
    free(copy);
    return sum == 0;
}
