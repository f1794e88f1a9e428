/* SPDX-License-Identifier: MIT */
/*
 * framecat - show the frames of standard input, one a line
 *
 * SYNOPSIS
 *   framecat [-l limit] [-e framing] [-d] framing
 *
 * DESCRIPTION
 *   Each frame is shown with its size and its bytes, those that cannot be seen
 *   as \xNN.  Framings: line crlf nul delimiter:TEXT netstring prefix:WIDTH[:big|
 *   little][:whole] varint octet mixed fixed:SIZE dot blank raw.
 *
 *   -e FRAMING  writes the frames in another framing instead of showing them
 *   -d          leaves out frames that are too long, where they have a delimiter
 *
 *   Exit status: 0; 1 malformed, too long or truncated; 64 usage; 74 input or output.
 */
#include "sockbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EX_FRAME = 1, EX_USE = 64, EX_IO = 74, CHUNK = 65536 };

static int named(char *name, size_t limit, sb_framing *framing)
{
    char *rest = strchr(name, ':');
    if (rest != NULL)
        *rest++ = '\0';
    const char *said = rest == NULL ? "" : rest;
    if (strcmp(name, "line") == 0)
        return sb_framing_line(limit, framing);
    if (strcmp(name, "crlf") == 0)
        return sb_framing_crlf(limit, framing);
    if (strcmp(name, "nul") == 0)
        return sb_framing_nul(limit, framing);
    if (strcmp(name, "delimiter") == 0)
        return sb_framing_delimiter(said, strlen(said), limit, framing);
    if (strcmp(name, "netstring") == 0)
        return sb_framing_netstring(limit, framing);
    if (strcmp(name, "prefix") == 0)
        return sb_framing_prefix(atoi(said), strstr(said, "little") ? SB_ORDER_LITTLE : SB_ORDER_BIG,
                                 strstr(said, "whole") != NULL, limit, framing);
    if (strcmp(name, "varint") == 0)
        return sb_framing_varint(limit, framing);
    if (strcmp(name, "octet") == 0 || strcmp(name, "mixed") == 0)
        return sb_framing_octet_count(name[0] == 'm', limit, framing);
    if (strcmp(name, "fixed") == 0)
        return sb_framing_fixed((size_t)strtoul(said, NULL, 10), framing);
    if (strcmp(name, "dot") == 0)
        return sb_framing_dot_block(limit, framing);
    if (strcmp(name, "blank") == 0)
        return sb_framing_blank_line(limit, framing);
    return strcmp(name, "raw") == 0 ? sb_framing_raw(limit, framing) : SB_ERR_INVALID;
}

static void show(const char *payload, size_t size)
{
    printf("%zu ", size);
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)payload[i];
        if (c < ' ' || c > '~' || c == '\\')
            printf("\\x%02x", c);
        else
            putchar(c);
    }
    putchar('\n');
}

/* Written at once; what standard output does not take now is waited for by stdio. */
static void put(const char *payload, size_t size, const sb_framing *framing)
{
    sb_buffer *out = sb_buffer_new(sb_framing_room(framing) + size);
    if (out == NULL || sb_frame_encode(framing, payload, size, out) < 0) {
        fprintf(stderr, "framecat: a frame of %zu bytes cannot be written in this framing\n", size);
        exit(EX_FRAME);
    }
    if (sb_buffer_size(out) > 0)
        fwrite(sb_buffer_data(out), 1, sb_buffer_size(out), stdout);
    sb_buffer_free(out);
}

static void hand_out(char *payload, size_t size, const sb_framing *in, const sb_framing *out)
{
    if (in->kind == SB_FRAMING_DOT_BLOCK)
        size = sb_dot_unstuff(payload, size, payload);
    if (out == NULL)
        show(payload, size);
    else
        put(payload, size, out);
}

static void fail(const char *what, size_t offset)
{
    fflush(stdout);
    fprintf(stderr, "framecat: %s at byte %zu\n", what, offset);
    exit(EX_FRAME);
}

/* Bytes at the front that are done with. */
static size_t look(const sb_framing *in, const sb_framing *out, int leave_out, char *data, size_t size, sb_scan *scan,
                   size_t offset)
{
    size_t done = 0;
    for (;;) {
        sb_frame frame;
        size_t drop;
        int code = scan->discarding ? SB_ERR_TOO_LONG : sb_frame_find(in, data + done, size - done, scan, &frame);
        if (code == 0)
            return done;
        if (code == SB_ERR_MALFORMED)
            fail("malformed", offset + done + scan->searched);
        if (code == SB_ERR_TOO_LONG) {
            if (!scan->discarding)
                fprintf(stderr, "framecat: too long at byte %zu\n", offset + done);
            code = leave_out ? sb_frame_discard(in, data + done, size - done, scan, &drop) : SB_ERR_INVALID;
            if (code < 0)
                exit(EX_FRAME);
            done += drop;
            if (code == 0)
                return done;
            continue;
        }
        hand_out(data + done + frame.start, frame.end - frame.start, in, out);
        done += frame.next;
    }
}

static int cat(const sb_framing *in, const sb_framing *out, int leave_out)
{
    sb_buffer *buffer = sb_buffer_new(sb_framing_room(in) + CHUNK);
    sb_scan scan = {0};
    size_t offset = 0;
    char *room;
    for (;;) {
        if (buffer == NULL || sb_buffer_reserve(buffer, CHUNK, &room) < 0)
            return EX_IO;
        ssize_t n = read(STDIN_FILENO, room, CHUNK);
        if (n < 0)
            return EX_IO;
        if (n == 0)
            break;
        sb_buffer_commit(buffer, (size_t)n);
        size_t size = sb_buffer_size(buffer);
        size_t done = look(in, out, leave_out, room + n - size, size, &scan, offset);
        sb_buffer_consume(buffer, done);
        offset += done;
    }
    if (sb_frame_end(in, sb_buffer_size(buffer), &scan) < 0)
        fail("truncated", offset + sb_buffer_size(buffer));
    sb_buffer_free(buffer);
    return fflush(stdout) == 0 ? 0 : EX_IO;
}

static int usage(void)
{
    fprintf(stderr, "usage: framecat [-l limit] [-e framing] [-d] framing\n");
    return EX_USE;
}

int main(int argc, char **argv)
{
    size_t limit = 65536;
    char *encode = NULL;
    int option, leave_out = 0;
    while ((option = getopt(argc, argv, "l:e:d")) != -1) {
        if (option == 'l')
            limit = (size_t)strtoul(optarg, NULL, 10);
        else if (option == 'e')
            encode = optarg;
        else if (option == 'd')
            leave_out = 1;
        else
            return usage();
    }
    sb_framing in, out;
    if (optind != argc - 1 || named(argv[optind], limit, &in) < 0)
        return usage();
    if (encode != NULL && named(encode, sb_framing_limit_max(), &out) < 0)
        return usage();
    return cat(&in, encode == NULL ? NULL : &out, leave_out);
}
