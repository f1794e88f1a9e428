/* SPDX-License-Identifier: MIT */
/*
 * mux_filter - what stands between the network and the frames of some connections: TLS
 *
 * DESCRIPTION
 *   Input is received beside the arena, and what the filter makes of it is framed
 *   as any input; output is what the filter makes of it, kept and sent as any
 *   output.  So states, deadlines, shares and water marks know no filter.  They
 *   count bytes of the caller's, and those that wait for the kernel are of the
 *   network's.
 */
#include "mux.h"

#include <errno.h>
#include <stdlib.h>

int sb_mux_set_filter(sb_mux *mux, const sb_filter *filter)
{
    SB_CHECKED(mux);
    if (mux == NULL || filter == NULL || filter->open == NULL || filter->seal == NULL)
        return SB_ERR_INVALID;
    if (mux->sealed == NULL && (mux->sealed = malloc(SB_SEALED)) == NULL)
        return SB_ERR_NOMEM;
    mux->filter = *filter;
    return 0;
}

int sb_mux_filter(sb_mux *mux, int id)
{
    SB_CHECKED(mux);
    struct row *row;
    int code = sb__open(mux, id, &row);
    if (code < 0)
        return code;
    if (mux->sealed == NULL || row->again & AGAIN_FILTERED)
        return SB_ERR_INVALID;
    if (row->state != ROW_OPEN || row->flags & FLAG_SHUTDOWN)
        return SB_ERR_CLOSING;
    if (row->in != NULL)
        return SB_ERR_MALFORMED;
    if (row->out != NULL)
        return SB_ERR_AGAIN;
    row->again |= AGAIN_FILTERED | AGAIN_UNOPENED;
    sb__look_again(mux, row);
    return 0;
}

/* Our end has not been said. */
static int writes(const struct row *row)
{
    return sb__may(row, MAY_WRITE) && !(row->flags & FLAG_SHUTDOWN);
}

/* ---- input */

/* Its share of the turn: each record takes its time, and a record may be one byte. */
static size_t sealed_share(const sb_mux *mux, const struct row *row)
{
    return (size_t)sb__lesser(sb__share_of(mux, row)->bytes, SB_SEALED);
}

long sb__unseal(sb_mux *mux, struct row *row, char *plain, size_t room)
{
    int32_t then = 0;
    long came = row->again & AGAIN_UNOPENED ? 0 : sb_receive(row->fd, mux->sealed, sealed_share(mux, row));
    if (came < 0)
        return came;
    row->again &= (uint8_t)~AGAIN_UNOPENED;
    row->moved_ms = came > 0 ? mux->now_ms : row->moved_ms;
    long n = (long)mux->filter.open(mux->filter.context, row->slot.id, mux->sealed, (size_t)came, plain, room, &then);
    sb__judged_filtered(row, (size_t)came, n > 0 ? (size_t)n : 0);
    if (then & SB_FILTER_SEND && writes(row))
        sb__seal(mux, row, NULL, 0, 0);
    if (then & SB_FILTER_MORE)
        row->again |= AGAIN_UNOPENED;
    errno = ECONNRESET; /* of input that is wrong */
    return n;
}

/* ---- output */

static void seal_piece(sb_mux *mux, struct row *row, const char *data, size_t size, int what)
{
    const char *sealed = NULL;
    int64_t n = mux->filter.seal(mux->filter.context, row->slot.id, data, size, what, &sealed);
    if (n < 0) {
        sb__kill_for(mux, row, SB_ERR_RESET, ECONNRESET);
        return;
    }
    row->sent += (int64_t)size;
    if (n > 0)
        sb__put(mux, row, sealed, (size_t)n);
}

void sb__seal(sb_mux *mux, struct row *row, const char *data, size_t size, int what)
{
    if (sb__has_packets(mux, row)) {
        sb__put_packets(mux, row, data, size);
        return;
    }
    for (; size > SB_RECEIVE; data += SB_RECEIVE, size -= SB_RECEIVE) { /* a filter needs no memory for all of it */
        seal_piece(mux, row, data, SB_RECEIVE, 0);
        if (row->state == ROW_CLOSED)
            return;
    }
    seal_piece(mux, row, data, size, what);
}

void sb__seal_end(sb_mux *mux, struct row *row)
{
    const char *sealed = NULL;
    if (!(row->again & AGAIN_FILTERED) || sb__has_packets(mux, row) || !writes(row))
        return;
    int64_t n = mux->filter.seal(mux->filter.context, row->slot.id, NULL, 0, SB_SEAL_END, &sealed);
    long gone = n <= 0 || row->out != NULL ? 0 : sb_send(row->fd, sealed, (size_t)n);
    if (gone == SB_ERR_AGAIN)
        gone = 0;
    if (gone >= 0 && gone < n) /* else nobody is there to hear it: that is not why the connection ends */
        sb__keep(mux, row, sealed + gone, (size_t)(n - gone));
}
