/* SPDX-License-Identifier: MIT */
/*
 * mux_share - how much of a turn is whose
 *
 * DESCRIPTION
 *   A turn hands out what the caller can handle in SB_TURN_US.  The groups with input get equal parts of that time,
 *   and as many frames as their caller handles in it; the connections of a group get equal parts of these frames.
 *   The rest stays in the kernel or in the row's buffer, and rows that got nothing are the first of the next turn.
 *
 *   The cost of a frame is raised if the caller has reported a higher one two times in a row: once may be a page
 *   fault, or another process.  It is lowered by half of the difference, because a fast frame says nothing about
 *   the next.
 */
#include "mux.h"

static const int64_t turn_ns = (int64_t)SB_TURN_US * 1000;

static int64_t clamp(int64_t number, int64_t min, int64_t max)
{
    return number < min ? min : sb__lesser(number, max);
}

struct share sb__share_new(const sb_group *group)
{
    return (struct share){.cost_ns = clamp(group->cost_ns, 1, turn_ns), .next = -1};
}

/* One more connection of a group in this turn.  True: it is the group's first. */
static int count_in(sb_mux *mux, int group)
{
    struct share *share = &mux->tallies[group].share;
    if (share->ready++ > 0)
        return 0;
    share->link = mux->sharing;
    mux->sharing = group;
    return 1;
}

/* The mean size of frames; those of long ago count less. */
static int64_t frame_size(struct share *share)
{
    if (share->frames == 0)
        return SB_FRAME_GUESS;
    int64_t size = share->size / share->frames + 1;
    if (share->frames > SB_REMEMBERED) {
        share->frames /= 2;
        share->size /= 2;
    }
    return size;
}

static void divide(struct share *share, int groups)
{
    share->units = 0;
    share->left = clamp(turn_ns / groups / share->cost_ns, 1, SB_UNITS);
    share->each = (int32_t)clamp(share->left / share->ready, 1, SB_UNITS);
    share->bytes = (int32_t)clamp(2 * share->each * frame_size(share), SB_LEAST_RECEIVE, SB_RECEIVE);
    share->raw_bytes = (int32_t)clamp(share->left * SB_UNIT_BYTES / share->ready, SB_LEAST_RAW, SB_RECEIVE);
}

void sb__shares_begin(sb_mux *mux, int n)
{
    int groups = 0;
    for (int i = 0; i < n; i++)
        groups += count_in(mux, mux->items[i].group);
    for (int group = mux->sharing; group >= 0; group = mux->tallies[group].share.link)
        divide(&mux->tallies[group].share, groups);
}

void sb__shares_end(sb_mux *mux)
{
    while (mux->sharing >= 0) {
        struct share *share = &mux->tallies[mux->sharing].share;
        share->ready = 0;
        mux->sharing = share->link;
    }
}

int sb_mux_spent(sb_mux *mux, int group, int64_t ns)
{
    SB_CHECKED(mux);
    if (!sb__is_group(mux, group))
        return SB_ERR_GONE;
    struct share *share = &mux->tallies[group].share;
    if (ns < 0 || share->units == 0)
        return ns < 0 ? SB_ERR_INVALID : 0;
    int64_t reported_ns = ns / share->units, sure_ns = sb__lesser(reported_ns, share->reported_ns), cost_ns = share->cost_ns;
    share->units = 0; /* they are reported */
    share->reported_ns = reported_ns;
    if (sure_ns > cost_ns)
        cost_ns = sure_ns;
    else if (reported_ns < cost_ns)
        cost_ns = reported_ns + (cost_ns - reported_ns) / 2;
    share->cost_ns = clamp(cost_ns, 1, turn_ns);
    return 0;
}
