/* SPDX-License-Identifier: MIT */
/*
 * mux_next - what has happened, handed out one by one
 *
 * DESCRIPTION
 *   A turn leaves its events in one block of memory, which a caller with no time
 *   to lose reads as it lies there (sb_mux_turn).  Everybody else takes them here:
 *   each exactly once, merged ones one connection at a time, and none of a
 *   connection that the caller has closed meanwhile but its end.  A turn does not
 *   begin before all of the last one are taken.
 */
#include "mux.h"

static int32_t events_left(const sb_mux *mux)
{
    return mux->counts.events - mux->next.event + mux->counts.ready - mux->next.ready;
}

static const char *bytes_of(const sb_mux *mux, int64_t offset)
{
    return offset >= 0 ? mux->arena + offset : sb_mux_held(mux, -1 - offset);
}

/* The part of a merged run that comes next. */
static void pop_part(sb_mux *mux, sb_event *event)
{
    const sb_part *part = &mux->parts[event->detail + mux->next.part++];
    event->offset += mux->next.offset;
    event->id = part->id;
    event->size = part->size;
    mux->next.offset += part->size;
    mux->next.frames += part->frames;
    event->frames = part->frames;
    event->detail = 0;
}

/* The caller has closed it: only its end is reported, and that it lingers until then. */
static int is_silent(const sb_mux *mux, const sb_event *event)
{
    if (event->kind == SB_EVENT_LINGERING)
        return sb__row_of(mux, event->id)->state != ROW_LINGERING;
    return event->kind != SB_EVENT_CLOSED && sb__row_of(mux, event->id)->again & AGAIN_SILENT;
}

static int pop_event(sb_mux *mux, sb_event *found, const char **data)
{
    while (mux->next.event < mux->counts.events) {
        sb_event event = mux->events[mux->next.event];
        if (event.kind == SB_EVENT_FRAMES && mux->next.frames >= event.frames) { /* all parts are taken, or cut off */
            sb__next_event(mux);
            continue;
        }
        if (event.id >= 0)
            sb__next_event(mux);
        else
            pop_part(mux, &event);
        if (is_silent(mux, &event))
            continue;
        *data = event.kind == SB_EVENT_FRAMES ? bytes_of(mux, event.offset) : NULL;
        *found = event;
        return 1;
    }
    return 0;
}

int sb_mux_next(sb_mux *mux, sb_event *event, const char **data)
{
    SB_CHECKED(mux);
    if (mux == NULL || event == NULL || data == NULL)
        return SB_ERR_INVALID;
    if (pop_event(mux, event, data))
        return 1;
    while (mux->next.ready < mux->counts.ready) {
        const sb_ready *ready = &mux->readies[mux->next.ready++];
        if (ready->mask == 0) /* it is watched no more */
            continue;
        *event = (sb_event){.kind = SB_EVENT_READY, .id = -1, .group = -1, .detail = ready->fd, .size = ready->mask};
        *data = NULL;
        return 1;
    }
    return 0;
}

int sb_mux_wait(sb_mux *mux, int timeout_ms)
{
    SB_CHECKED(mux);
    if (mux == NULL)
        return SB_ERR_INVALID;
    if (events_left(mux) > 0)
        return events_left(mux);
    (void)sb_mux_reap(mux);
    return sb_mux_turn(mux, timeout_ms);
}

int sb_mux_receive(sb_mux *mux, const int32_t *ids, const int32_t *masks, int n)
{
    SB_CHECKED(mux);
    if (mux == NULL || n < 0)
        return SB_ERR_INVALID;
    if (events_left(mux) > 0)
        return events_left(mux);
    (void)sb_mux_reap(mux);
    return sb_mux_turn_of(mux, ids, masks, n);
}
