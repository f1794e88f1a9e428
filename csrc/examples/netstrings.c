/* SPDX-License-Identifier: MIT; shows the netstrings of standard input: printf '5:hello,0:,5:world,' | netstrings */
#include "sockbuf.h"
#include <poll.h>
#include <stdio.h>
int main(void) {
    sb_framing netstring;
    sb_piece text; sb_scan scan = {0};
    sb_buffer *in = sb_buffer_new(100016);
    long code = sb_framing_netstring(100000, &netstring);
    while (code >= 0 || (code == SB_ERR_AGAIN && poll(&(struct pollfd){.events = POLLIN}, 1, -1) > 0))
        if ((code = sb_buffer_next(in, &netstring, &scan, &text)) > 0)
            printf("%.*s\n", (int)text.size, text.data);
        else if (code == 0)
            code = sb_buffer_receive(in, 0, 65536);
    return code == SB_ERR_END && sb_buffer_size(in) == 0 ? 0 : fprintf(stderr, "%s\n", sb_error_text((int)code)) > 0; }
