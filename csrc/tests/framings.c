/* SPDX-License-Identifier: MIT */
#include "framings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
    "line",    "crlf",    "nul",     "delimiter",    "delimiter1", "delimiter8", "netstring", "prefix1", "prefix2",
    "prefix3", "prefix4", "prefix8", "prefix4whole", "prefix2le",  "varint",     "octet",     "mixed",   "fixed",
    "dot",     "blank",   "raw",     "datagram",     NULL,
};

const char *framing_name(int index)
{
    return names[index];
}

static int make(const char *name, size_t limit, sb_framing *framing)
{
    size_t some = limit > 0 ? limit : 1;
    if (strcmp(name, "line") == 0)
        return sb_framing_line(limit, framing);
    if (strcmp(name, "crlf") == 0)
        return sb_framing_crlf(limit, framing);
    if (strcmp(name, "nul") == 0)
        return sb_framing_nul(limit, framing);
    if (strcmp(name, "delimiter") == 0)
        return sb_framing_delimiter("aba", 3, limit, framing);
    if (strcmp(name, "delimiter1") == 0)
        return sb_framing_delimiter(";", 1, limit, framing);
    if (strcmp(name, "delimiter8") == 0)
        return sb_framing_delimiter("aaaaaaab", 8, limit, framing);
    if (strcmp(name, "netstring") == 0)
        return sb_framing_netstring(limit, framing);
    if (strcmp(name, "prefix4whole") == 0)
        return sb_framing_prefix(4, SB_ORDER_LITTLE, 1, limit, framing);
    if (strcmp(name, "prefix2le") == 0)
        return sb_framing_prefix(2, SB_ORDER_LITTLE, 0, limit, framing);
    if (strncmp(name, "prefix", 6) == 0)
        return sb_framing_prefix(name[6] - '0', SB_ORDER_BIG, 0, limit, framing);
    if (strcmp(name, "varint") == 0)
        return sb_framing_varint(limit, framing);
    if (strcmp(name, "octet") == 0)
        return sb_framing_octet_count(0, limit, framing);
    if (strcmp(name, "mixed") == 0)
        return sb_framing_octet_count(1, limit, framing);
    if (strcmp(name, "fixed") == 0)
        return sb_framing_fixed(some, framing);
    if (strcmp(name, "dot") == 0)
        return sb_framing_dot_block(limit, framing);
    if (strcmp(name, "blank") == 0)
        return sb_framing_blank_line(limit, framing);
    if (strcmp(name, "raw") == 0)
        return sb_framing_raw(some, framing);
    if (strcmp(name, "datagram") == 0)
        return sb_framing_datagram(limit, framing);
    return SB_ERR_INVALID;
}

sb_framing framing_named(const char *name, size_t limit)
{
    sb_framing framing;
    if (make(name, limit, &framing) < 0) {
        fprintf(stderr, "no framing %s\n", name);
        abort();
    }
    return framing;
}

/* ---- taking a stream apart */

struct apart {
    const sb_framing *framing;
    edge_function *edge;
    sb_buffer *held, *text;
    sb_scan scan;
    size_t consumed; /* of the stream */
    int discard, batch, is_over;
};

static void put(sb_buffer *text, const char *data, size_t size)
{
    if (sb_buffer_append(text, data, size) < 0)
        abort();
}

static void put_frame(struct apart *apart, const char *payload, size_t size)
{
    put(apart->text, "(", 1);
    if (apart->framing->kind == SB_FRAMING_DOT_BLOCK) {
        char *copy = malloc(size + 1);
        if (copy == NULL)
            abort();
        put(apart->text, copy, sb_dot_unstuff(payload, size, copy));
        free(copy);
    } else {
        put(apart->text, payload, size);
    }
    put(apart->text, ")", 1);
}

static void consume(struct apart *apart, size_t n)
{
    sb_buffer_consume(apart->held, n);
    apart->consumed += n;
}

static const char *view(struct apart *apart)
{
    size_t size = sb_buffer_size(apart->held);
    if (size == 0)
        return apart->edge != NULL ? apart->edge("", 0) : "";
    return apart->edge != NULL ? apart->edge(sb_buffer_data(apart->held), size) : sb_buffer_data(apart->held);
}

/* Asked once more, an error is the same error at the same place. */
static void must_stand(struct apart *apart, const char *data, int code)
{
    sb_frame frame;
    size_t searched = apart->scan.searched;
    if (sb_frame_find(apart->framing, data, sb_buffer_size(apart->held), &apart->scan, &frame) != code
        || apart->scan.searched != searched)
        abort();
}

static int find_one(struct apart *apart)
{
    sb_frame frame;
    const char *data = view(apart);
    int code = sb_frame_find(apart->framing, data, sb_buffer_size(apart->held), &apart->scan, &frame);
    if (code < 0)
        must_stand(apart, data, code);
    if (code <= 0)
        return code;
    put_frame(apart, data + frame.start, frame.end - frame.start);
    consume(apart, frame.next);
    return code;
}

static int find_many(struct apart *apart)
{
    sb_span spans[5];
    size_t next;
    const char *data = view(apart);
    int code = sb_frames_find(apart->framing, data, sb_buffer_size(apart->held), &apart->scan, spans, 5, &next);
    for (int i = 0; i < code; i++)
        put_frame(apart, data + spans[i].start, spans[i].end - spans[i].start);
    if (code > 0)
        consume(apart, next);
    return code;
}

/* True when the rest of the frame has been left out. */
static int leave_out(struct apart *apart)
{
    size_t drop;
    int code = sb_frame_discard(apart->framing, view(apart), sb_buffer_size(apart->held), &apart->scan, &drop);
    if (code == SB_ERR_INVALID) {
        apart->is_over = 1;
        return 0;
    }
    consume(apart, drop);
    return code > 0;
}

static void failed(struct apart *apart, int code)
{
    char where[32];
    if (code == SB_ERR_TOO_LONG)
        put(apart->text, "L", 1);
    else
        put(apart->text, where, (size_t)snprintf(where, sizeof where, "M%zu", apart->consumed + apart->scan.searched));
    if (!apart->discard || code != SB_ERR_TOO_LONG)
        apart->is_over = 1;
}

static void look(struct apart *apart)
{
    while (!apart->is_over) {
        if (apart->scan.discarding) {
            if (!leave_out(apart))
                return;
            continue;
        }
        int code = apart->batch ? find_many(apart) : find_one(apart);
        if (code == 0)
            return;
        if (code < 0) {
            failed(apart, code);
            if (!apart->is_over && !leave_out(apart))
                return;
        }
        if (sb_buffer_size(apart->held) == 0)
            return;
    }
}

void take_apart(const sb_framing *framing, const char *stream, const size_t *ends, size_t pieces, int discard,
                int batch, edge_function *edge, sb_buffer *text)
{
    struct apart apart = {.framing = framing, .discard = discard, .batch = batch, .edge = edge, .text = text};
    size_t room = sb_framing_room(framing), at = 0;
    apart.held = sb_buffer_new(room > 0 ? room : 1);
    if (apart.held == NULL)
        abort();
    for (size_t i = 0; i < pieces && !apart.is_over; i++)
        while (at < ends[i] && !apart.is_over) {
            size_t space = (room > 0 ? room : 1) - sb_buffer_size(apart.held);
            size_t n = ends[i] - at < space ? ends[i] - at : space;
            if (n == 0)
                abort(); /* undecided, and past what a frame may need */
            put(apart.held, stream + at, n);
            at += n;
            look(&apart);
        }
    if (!apart.is_over && sb_frame_end(framing, sb_buffer_size(apart.held), &apart.scan) < 0)
        put(text, "~", 1);
    sb_buffer_free(apart.held);
}
