/* SPDX-License-Identifier: MIT */
/*
 * payloads - received datagrams as Python's objects
 *
 * DESCRIPTION
 *   The payloads of a batch become bytes objects in one call, as the pickle of a list (sockd/buffer/batch.c says why);
 *   where handlers want to know senders, their names and the control data are behind them in the same list.
 *
 *   Compiled into sockd._sockbuf by csrc/sockbuf_build.py, which reads the
 *   declarations between the marks.
 */

/* <cffi> from here to </cffi> the Python extension reads these declarations */

#define SOCKD_CUT 3 /* among verdicts: longer than a datagram may be */

typedef struct sockd_received {
    size_t plain; /* whole, and from admitted senders, counted from the first one */
    size_t used;  /* bytes of the pickle; 0: it had no room */
} sockd_received;

/* Receive up to max datagrams; out, of size bytes, gets the pickle, verdicts a byte for each.  Returns as
 * sb_datagrams_receive. */
int sockd_datagrams_receive(sb_datagrams *table, int fd, size_t max, int with_senders, char *out, size_t size,
                            char *verdicts, sockd_received *received);

/* </cffi> */

/* Where to go on, or NULL: there is no room. */
static char *put_bytes(char *out, const char *end, const char *data, size_t n)
{
    if (out == NULL || (size_t)(end - out) < n + SOCKD_BATCH_A_FRAME + sizeof "l.")
        return NULL;
    if (n < 256) {
        *out++ = 'C'; /* SHORT_BINBYTES */
        *out++ = (char)n;
    } else {
        *out++ = 'B'; /* BINBYTES, 4 bytes, little-endian */
        for (int i = 0; i < 4; i++)
            *out++ = (char)(n >> (8 * i) & 0xff);
    }
    memcpy(out, data, n);
    return out + n;
}

int sockd_datagrams_receive(sb_datagrams *table, int fd, size_t max, int with_senders, char *out, size_t size,
                            char *verdicts, sockd_received *received)
{
    const char *end = out + size;
    char *write = out + 3;
    sb_datagram one;
    int n = sb_datagrams_receive(table, fd, max);
    for (int i = 0; i < n && sb_datagrams_get(table, (size_t)i, &one) == 0; i++) {
        write = put_bytes(write, end, one.data, one.size);
        verdicts[i] = (char)(one.verdict == SB_SENDER_ADMITTED && one.is_cut ? SOCKD_CUT : one.verdict);
    }
    for (int i = 0; with_senders && i < n && sb_datagrams_get(table, (size_t)i, &one) == 0; i++)
        write = put_bytes(put_bytes(write, end, one.name, one.name_size), end, one.control, one.control_size);
    *received = (sockd_received){.plain = sb_datagrams_plain(table)};
    if (write != NULL) {
        memcpy(out, "\x80\x03(", 3); /* PROTO 3, MARK */
        memcpy(write, "l.", 2);      /* LIST, STOP */
        received->used = (size_t)(write + 2 - out);
    }
    return n;
}
