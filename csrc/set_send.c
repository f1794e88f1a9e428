/*
 * set_send - replies, and output that the kernel did not take
 *
 * DESCRIPTION
 *   One send a connection and turn.  A remainder waits in a lent buffer with
 *   write interest on; past high water that connection is not read until the
 *   remainder is down to low water.
 */
#include "set.h"

#include <errno.h>
#include <string.h>

static void keep(sb_set *set, struct row *row, const char *data, size_t size)
{
    const sb_group *group = &set->groups[row->group];
    int code = 0, first = row->out == NULL;
    if (first && (row->out = sb__lend(set)) == NULL)
        code = SB_ERR_NOMEM;
    else if (size > (size_t)group->max_unsent || sb_buffer_size(row->out) > (size_t)group->max_unsent - size)
        code = SB_ERR_LIMIT;
    else
        code = sb__append(set, row->out, data, size);
    if (code < 0) {
        sb__kill_for(set, row, code, 0);
        return;
    }
    if (first) {
        row->leaving_ms = set->now_ms;
        sb__deadline_sooner(set, row);
    }
    if (sb_buffer_size(row->out) > (size_t)row->high && !(row->flags & FLAG_HIGH)) {
        row->flags |= FLAG_HIGH;
        if (group->flags & SB_GROUP_ANNOUNCE)
            sb__event(set, SB_EVENT_PAUSE, (int)(row - set->rows), 0);
    }
    sb__update_interest(set, row);
}

void sb__send(sb_set *set, struct row *row, const char *data, size_t size)
{
    if (!sb__may(row, MAY_WRITE) || row->flags & FLAG_SHUTDOWN || size == 0)
        return;
    if (row->out == NULL) {
        long n = sb_send(row->fd, data, size);
        if (n < 0 && n != SB_ERR_AGAIN) {
            sb__kill_for(set, row, n, errno);
            return;
        }
        if (n > 0) {
            row->sent += n;
            row->moved_ms = set->now_ms;
            data += n;
            size -= (size_t)n;
        }
    }
    if (size > 0)
        keep(set, row, data, size);
}

/* Everything written has been taken by the kernel. */
void sb__output_done(sb_set *set, struct row *row)
{
    if (row->flags & FLAG_SHUTDOWN && sb__may(row, MAY_WRITE)) {
        if (shutdown(row->fd, SHUT_WR) < 0)
            sb__kill_for(set, row, SB_ERR_RESET, errno);
        else
            sb__step(set, row, EVENT_FIN);
        return;
    }
    sb__step(set, row, EVENT_FLUSHED);
}

void sb__send_more(sb_set *set, struct row *row)
{
    long n = sb_send(row->fd, sb_buffer_data(row->out), sb_buffer_size(row->out));
    if (n == SB_ERR_AGAIN)
        return;
    if (n < 0) {
        sb__kill_for(set, row, n, errno);
        return;
    }
    row->sent += n;
    row->moved_ms = row->leaving_ms = set->now_ms;
    sb_buffer_consume(row->out, (size_t)n);
    if (row->flags & FLAG_HIGH && sb_buffer_size(row->out) <= (size_t)row->low) {
        row->flags &= (uint8_t)~FLAG_HIGH;
        sb__frame_goes_on(set, row);
        if (set->groups[row->group].flags & SB_GROUP_ANNOUNCE && sb__may(row, MAY_WRITE))
            sb__event(set, SB_EVENT_RESUME, (int)(row - set->rows), 0);
    }
    if (sb_buffer_size(row->out) == 0) {
        sb__give_back(set, row->out);
        row->out = NULL;
        sb__output_done(set, row);
    }
    sb__update_interest(set, row);
}

/* ---- replies to an event of frames */

static size_t count_lf(const char *data, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++)
        n += data[i] == '\n';
    return n;
}

/* Bytes of the first count lines; the caller knows that they are there. */
static size_t size_of_lines(const char *data, size_t size, int32_t count)
{
    const char *at = data;
    while (count-- > 0)
        at = (const char *)memchr(at, '\n', size - (size_t)(at - data)) + 1;
    return (size_t)(at - data);
}

static const sb_event *frames_event(const sb_set *set, int index)
{
    if (index < 0 || index >= set->counts.events || set->events[index].kind != SB_EVENT_FRAMES)
        return NULL;
    return &set->events[index];
}

int sb_set_reply_lines(sb_set *set, int index, const char *block, size_t size)
{
    const sb_event *event = frames_event(set, index);
    if (event == NULL || size == 0 || block[size - 1] != '\n' || count_lf(block, size) != (size_t)event->frames)
        return SB_ERR_MISMATCH;
    if (event->id >= 0) {
        sb__send(set, &set->rows[event->id], block, size);
        return 0;
    }
    int64_t left = event->frames;
    for (const sb_part *part = &set->parts[event->detail]; left > 0; part++) {
        size_t bytes = left == part->frames ? size : size_of_lines(block, size, part->frames);
        sb__send(set, &set->rows[part->id], block, bytes);
        block += bytes;
        size -= bytes;
        left -= part->frames;
    }
    return 0;
}

int sb_set_reply_lengths(sb_set *set, int index, const char *block, size_t size, const uint32_t *lengths)
{
    const sb_event *event = frames_event(set, index);
    if (event == NULL)
        return SB_ERR_MISMATCH;
    uint64_t total = 0;
    for (int64_t i = 0; i < event->frames; i++)
        total += lengths[i];
    if (total != size)
        return SB_ERR_MISMATCH;
    if (event->id >= 0) {
        sb__send(set, &set->rows[event->id], block, size);
        return 0;
    }
    int64_t left = event->frames;
    for (const sb_part *part = &set->parts[event->detail]; left > 0; part++) {
        size_t bytes = 0;
        for (int32_t i = 0; i < part->frames; i++)
            bytes += *lengths++;
        sb__send(set, &set->rows[part->id], block, bytes);
        block += bytes;
        left -= part->frames;
    }
    return 0;
}

void sb_set_write(sb_set *set, int n, const int32_t *ids, const int64_t *sizes, const char *block)
{
    for (int i = 0; i < n; i++) {
        if (ids[i] >= 0 && ids[i] < set->rows_used)
            sb__send(set, &set->rows[ids[i]], block, (size_t)sizes[i]);
        block += sizes[i];
    }
}
