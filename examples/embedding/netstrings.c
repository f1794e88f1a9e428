/* SPDX-License-Identifier: MIT */
/* Shows the netstrings of standard input, one a line.
 *
 *   make -C csrc dist && cp csrc/build/dist/sockbuf.[ch] . && cc netstrings.c sockbuf.c -o netstrings
 *   printf '5:hello,0:,5:world,' | ./netstrings
 */
#include <stdio.h>

#include "sockbuf.h"

enum { LIMIT = 100000, ROOM = LIMIT + 16, SPANS = 256 };

int main(void)
{
    static char data[ROOM];
    static sb_span spans[SPANS];
    sb_framing framing;
    sb_scan scan = {0};
    size_t size = 0, next = 0;
    long got;
    if (sb_framing_netstring(LIMIT, &framing) < 0 || sb_framing_room(&framing) > ROOM)
        return 70;
    sb_buffer *buffer = sb_buffer_new(ROOM);
    if (buffer == NULL)
        return 71;
    while ((got = (long)fread(data, 1, ROOM - size, stdin)) > 0) {
        int n;
        if (sb_buffer_append(buffer, data, (size_t)got) < 0)
            return 71;
        while ((n = sb_frames_find(&framing, sb_buffer_data(buffer), sb_buffer_size(buffer), &scan, spans, SPANS, &next)) > 0) {
            for (int i = 0; i < n; i++)
                printf("%.*s\n", (int)(spans[i].end - spans[i].start), sb_buffer_data(buffer) + spans[i].start);
            sb_buffer_consume(buffer, next);
        }
        if (n < 0) {
            fprintf(stderr, n == SB_ERR_TOO_LONG ? "too long\n" : "no netstring\n");
            return 65;
        }
        size = sb_buffer_size(buffer);
    }
    int code = sb_frame_end(&framing, size, &scan);
    sb_buffer_free(buffer);
    return code < 0 ? 65 : 0;
}
