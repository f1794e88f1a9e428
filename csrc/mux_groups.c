/* SPDX-License-Identifier: MIT */
/*
 * mux_groups - groups, what their connections have done, and which these are
 *
 * DESCRIPTION
 *   Nothing is counted while bytes move: a row knows what it has done, and its
 *   end adds that to its group's tally.  So totals cost those who ask for them.
 */
#include "mux.h"

#include "frame.h"

#include <stdlib.h>

/* A datagram is none of a stream's pieces; a record of a fixed size has no smaller limit. */
int sb__can_frame(const sb_framing *framing)
{
    if (framing == NULL)
        return 0;
    sb_framing bounded = sb__bounded(framing);
    if (framing->kind == SB_FRAMING_DATAGRAM || (framing->kind == SB_FRAMING_FIXED && framing->limit > SB_FRAME_MAX))
        return 0;
    return sb__is_framing(&bounded);
}

sb_framing sb__bounded(const sb_framing *framing)
{
    sb_framing bounded = *framing;
    if (bounded.limit > SB_FRAME_MAX)
        bounded.limit = SB_FRAME_MAX;
    return bounded;
}

/* How a row is cut: as its group, or by a framing of its own. */
const sb_framing *sb__framing_of(const sb_mux *mux, const struct row *row)
{
    return row->flags & FLAG_FRAMED ? &mux->framings[sb__number(mux, row)] : &mux->groups[row->group].framing;
}

/* ---- groups */

/* Twice the room whenever their number is a power of two. */
static int grow_groups(sb_mux *mux)
{
    size_t count = (size_t)mux->group_count;
    if ((count & (count - 1)) != 0)
        return 0;
    size_t room = 2 * count + (count == 0);
    sb_group *groups = realloc(mux->groups, room * sizeof *groups);
    if (groups == NULL)
        return SB_ERR_NOMEM;
    mux->groups = groups;
    struct tally *tallies = realloc(mux->tallies, room * sizeof *tallies);
    if (tallies == NULL)
        return SB_ERR_NOMEM;
    mux->tallies = tallies;
    return 0;
}

/* The number of one that was given up, or a new one. */
static int free_group(sb_mux *mux)
{
    for (int group = 0; mux->given_up > 0; group++)
        if (mux->tallies[group].given_up) {
            mux->given_up--;
            return group;
        }
    if (mux->group_count == SB_GROUPS)
        return SB_ERR_LIMIT;
    if (grow_groups(mux) < 0)
        return SB_ERR_NOMEM;
    return mux->group_count++;
}

/* Whether it is the prefix that packets get. */
static int is_packet(const sb_framing *framing)
{
    return framing->kind == SB_FRAMING_PREFIX && framing->width == SB_PACKET_PREFIX && framing->order == SB_ORDER_BIG
        && !framing->includes_header;
}

static int is_known(const sb_group *group)
{
    int kind = group->framing.kind;
    if (group->flags & SB_GROUP_PACKETS && !is_packet(&group->framing))
        return 0;
    if (group->serve != NULL && kind != SB_FRAMING_RAW && kind != SB_FRAMING_LINE)
        return 0;
    enum { ALL = SB_GROUP_MERGE | SB_GROUP_ANNOUNCE | SB_GROUP_WIRE | SB_GROUP_KEPT | SB_GROUP_LF | SB_GROUP_REPORTS_LINGERING
            | SB_GROUP_PACKETS };
    return !(group->flags & ~ALL);
}

/* One of them has the sign. */
static int has_negative(const sb_group *group)
{
    return (group->high_water | group->max_unsent | group->idle_ms | group->frame_ms | group->stall_ms | group->linger_ms
            | group->cost_ns) < 0;
}

static int64_t or_default(int64_t number, int64_t otherwise)
{
    return number == 0 ? otherwise : sb__lesser(number, PTRDIFF_MAX);
}

/* "For ever" and "any size" are often given as the largest number: sums with the values here do not overflow, and
 * sizes fit in a size_t. */
int sb_mux_group(sb_mux *mux, const sb_group *group)
{
    SB_CHECKED(mux);
    if (mux == NULL || group == NULL)
        return SB_ERR_INVALID;
    sb_group kept = *group;
    if (kept.framing.kind == SB_FRAMING_RAW)
        kept.framing.limit = kept.framing.limit == 0 ? SB_RECEIVE : kept.framing.limit;
    if (!sb__can_frame(&kept.framing) || !is_known(&kept) || has_negative(&kept))
        return SB_ERR_INVALID;
    int number = free_group(mux);
    if (number < 0)
        return number;
    kept.framing = sb__bounded(&kept.framing);
    kept.high_water = or_default(kept.high_water, SB_HIGH_WATER);
    kept.max_unsent = or_default(kept.max_unsent, SB_MAX_UNSENT);
    kept.idle_ms = sb__lesser(kept.idle_ms, SB_FOREVER_MS);
    kept.frame_ms = sb__lesser(kept.frame_ms, SB_FOREVER_MS);
    kept.stall_ms = sb__lesser(kept.stall_ms, SB_FOREVER_MS);
    kept.linger_ms = sb__lesser(kept.linger_ms, SB_FOREVER_MS);
    mux->groups[number] = kept;
    mux->tallies[number] = (struct tally){.share = sb__share_new(&kept)};
    return number;
}

int sb__is_group(const sb_mux *mux, int group)
{
    return mux != NULL && group >= 0 && group < mux->group_count && !mux->tallies[group].given_up;
}

int sb_mux_ungroup(sb_mux *mux, int group)
{
    SB_CHECKED(mux);
    int left = 0;
    if (!sb__is_group(mux, group))
        return SB_ERR_GONE;
    for (int32_t i = 0; i < mux->slots.used; i++)
        left += mux->rows[i].state != ROW_FREE && mux->rows[i].group == group;
    mux->tallies[group].given_up = left == 0;
    mux->given_up += left == 0;
    return left;
}

/* ---- their counts */

static void add_row(sb_totals *totals, const struct row *row)
{
    totals->received += row->received;
    totals->sent += row->sent;
    totals->frames += row->frames;
}

void sb__count_end(sb_mux *mux, const struct row *row)
{
    sb_totals *ended = &mux->tallies[row->group].ended;
    add_row(ended, row);
    ended->reasons[row->reason]++;
}

int sb_mux_sources(sb_mux *mux, int group, sb_sources *sources)
{
    SB_CHECKED(mux);
    if (!sb__is_group(mux, group))
        return SB_ERR_GONE;
    if (mux->tallies[group].ended.came > 0)
        return SB_ERR_INVALID;
    mux->tallies[group].sources = sources;
    return 0;
}

int sb_mux_serve(sb_mux *mux, int group, sb_serve how)
{
    SB_CHECKED(mux);
    if (!sb__is_group(mux, group))
        return SB_ERR_GONE;
    sb_group other = mux->groups[group];
    other.serve = how;
    if (!is_known(&other))
        return SB_ERR_INVALID;
    mux->groups[group] = other;
    return 0;
}

int sb_mux_apart(sb_mux *mux, int id, int apart)
{
    SB_CHECKED(mux);
    struct row *row;
    int code = sb__live(mux, id, &row);
    if (code == 0)
        row->again = (uint8_t)(apart ? row->again | AGAIN_APART : row->again & ~AGAIN_APART);
    return code;
}

void sb__leave_source(sb_mux *mux, struct row *row)
{
    if (row->again & AGAIN_COUNTED)
        sb_sources_leave(mux->tallies[row->group].sources, row->peer, row->peer_size);
    row->again &= (uint8_t)~AGAIN_COUNTED;
}

static int is_live(const struct row *row)
{
    return row->state != ROW_FREE && row->state != ROW_CLOSED;
}

int sb_mux_totals(const sb_mux *mux, int group, sb_totals *totals)
{
    if (!sb__is_group(mux, group))
        return SB_ERR_GONE;
    *totals = mux->tallies[group].ended;
    for (int32_t i = 0; i < mux->slots.used; i++) {
        const struct row *row = &mux->rows[i];
        if (row->group != group || !is_live(row))
            continue;
        totals->open++;
        totals->unsent += sb_mux_unsent(mux, row->slot.id);
        add_row(totals, row);
    }
    return 0;
}

/* ---- which they are */

/* Whether the kernel has input of it; a packet of 0 bytes is some, and an end of file is none. */
static int has_waiting(const sb_mux *mux, const struct row *row)
{
    return sb__waiting(row->fd) > 0
        || (sb__has_packets(mux, row) && sb__receive_packet(row->fd, NULL, 0, MSG_PEEK) >= 0);
}

static int is_quiet(const sb_mux *mux, const struct row *row)
{
    return row->in == NULL && !(row->again & AGAIN_UNOPENED) && !has_waiting(mux, row);
}

static int is_listed(const sb_mux *mux, const struct row *row, int which)
{
    if (which == SB_LIST_LIVE)
        return is_live(row);
    return sb__may(row, MAY_CLOSE) && (which == SB_LIST_OPEN || is_quiet(mux, row));
}

int sb_mux_list(const sb_mux *mux, int group, int which, int32_t *ids, int max)
{
    int n = 0;
    if (mux == NULL || which < SB_LIST_LIVE || which > SB_LIST_QUIET)
        return SB_ERR_INVALID;
    if (group >= 0 && !sb__is_group(mux, group))
        return SB_ERR_GONE;
    for (int32_t i = 0; i < mux->slots.used && n < max; i++) {
        const struct row *row = &mux->rows[i];
        if ((group < 0 || row->group == group) && is_listed(mux, row, which))
            ids[n++] = row->slot.id;
    }
    return n;
}

static int says_nothing(const sb_mux *mux, const struct row *row, int group, int64_t ms)
{
    return (group < 0 || row->group == group) && row->frames + row->received == 0 && mux->now_ms - row->moved_ms >= ms
        && sb__may(row, MAY_CLOSE);
}

/* What waits to be received is asked of those alone that are left: a system call each. */
int sb_mux_silent(const sb_mux *mux, int group, int64_t ms, int32_t *ids, int max)
{
    if (mux == NULL || max <= 0)
        return SB_ERR_INVALID;
    if (group >= 0 && !sb__is_group(mux, group))
        return SB_ERR_GONE;
    const struct row *rows = mux->rows;
    int n = 0, silent = 0;
    for (int32_t i = 0; i < mux->slots.used; i++) {
        if (!says_nothing(mux, &rows[i], group, ms) || (n == max && rows[ids[n - 1]].opened_ms <= rows[i].opened_ms))
            continue;
        int at = n < max ? n++ : n - 1;
        for (; at > 0 && rows[ids[at - 1]].opened_ms > rows[i].opened_ms; at--)
            ids[at] = ids[at - 1];
        ids[at] = i;
    }
    for (int at = 0; at < n; at++)
        if (!has_waiting(mux, &rows[ids[at]]))
            ids[silent++] = rows[ids[at]].slot.id;
    return silent;
}
