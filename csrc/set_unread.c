/*
 * set_unread - frames given back, and another framing in mid-connection
 *
 * DESCRIPTION
 *   What is not framed yet lies in the row's buffer, in the order of the stream.
 *   It is looked at in the next turn, without waiting for the peer: one framing
 *   a turn, so that a connection that changes with every frame holds up no other.
 */
#include "set.h"

/* Put the row on the list of those that are framed in the next turn, if it is read. */
void sb__look_again(sb_set *set, struct row *row)
{
    if (!(row->again & AGAIN_WANTED) || row->again & AGAIN_LISTED || !(sb__wanted(row) & SB_READ))
        return;
    row->again |= AGAIN_LISTED;
    set->again[set->again_count++] = sb__number(set, row);
}

/* What was known of the bytes in `in` is not true any more. */
static void forget_scan(sb_set *set, struct row *row)
{
    sb_buffer_set_scanned(row->in, 0);
    row->dots = 0;
    row->flags &= (uint8_t)~FLAG_DOOMED;
    row->again |= AGAIN_WANTED;
    sb__frame_goes_on(set, row);
}

/* A buffer with data, and behind them what the row has; NULL without memory. */
static sb_buffer *join(sb_set *set, const struct row *row, const char *data, size_t size)
{
    int code;
    size_t had = row->in == NULL ? 0 : sb_buffer_size(row->in);
    sb_buffer *joint = sb__lend(set, size + had, &code);
    if (joint == NULL)
        return NULL;
    (void)sb__append(set, &joint, data, size);
    if (had > 0)
        (void)sb__append(set, &joint, sb_buffer_data(row->in), had);
    return joint;
}

void sb_set_unread(sb_set *set, int id, const char *data, size_t size, int64_t frames)
{
    struct row *row = sb__row(set, id);
    if (row == NULL || !sb__may(row, MAY_DELIVER) || size == 0)
        return;
    sb__now(set);
    sb_buffer *joint = join(set, row, data, size);
    if (joint == NULL) {
        sb__kill(set, row, SB_REASON_LIMIT, 0);
        return;
    }
    sb__give_back(set, row->in);
    row->in = joint;
    row->frames -= frames;
    forget_scan(set, row);
}

const char *sb_set_unfinished(const sb_set *set, int id, size_t *size)
{
    const struct row *row = sb__row(set, id);
    if (row == NULL || row->in == NULL) {
        *size = 0;
        return NULL;
    }
    *size = sb_buffer_size(row->in);
    return sb_buffer_data(row->in);
}

int sb_set_framing(sb_set *set, int id, const sb_framing *framing)
{
    struct row *row = sb__row(set, id);
    if (!sb__can_frame(framing))
        return SB_ERR_INVALID;
    if (row == NULL || !sb__may(row, MAY_CLOSE))
        return SB_ERR_LIMIT;
    sb__now(set);
    set->framings[sb__number(set, row)] = sb__bounded(framing);
    row->flags |= FLAG_FRAMED;
    if (row->in != NULL)
        forget_scan(set, row);
    return 0;
}

/* Connections that wait for it, as long as there is room for what they hand out. */
void sb__run_again(sb_set *set)
{
    int32_t count = set->again_count, left = 0;
    for (int32_t i = 0; i < count; i++) {
        struct row *row = &set->rows[set->again[i]];
        if (set->held_count == SB_HELD) {
            set->again[left++] = set->again[i];
            continue;
        }
        row->again &= (uint8_t)~AGAIN_LISTED;
        if (!(row->again & AGAIN_WANTED) || !(sb__wanted(row) & SB_READ))
            continue;
        row->again = 0;
        sb__frame_buffer(set, row);
    }
    set->again_count = left;
}
