/* SPDX-License-Identifier: MIT */
/*
 * sources - how many connections are open from where
 *
 * DESCRIPTION
 *   A table of counts, open addressing with linear probing and no marks of deleted entries: the run behind a freed
 *   place is closed up.  The place of a source depends on a seed, so that an attacker cannot choose addresses that
 *   collide.  It doubles whenever half of it is used; it never shrinks.
 */
#include "base.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_PLACES = 64 };

/* An address cut to its prefix, an IPv4 one as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2); count 0: a free place. */
struct source {
    unsigned char key[16];
    int32_t count;
};

struct sb_sources {
    sb_sources_rule rule;
    uint64_t refused;
    unsigned char last[16]; /* the last refused one */
    size_t places, used; /* places: a power of two */
    struct source *table;
};

sb_sources *sb_sources_new(const sb_sources_rule *rule)
{
    if (rule == NULL || rule->max < 1 || rule->prefix4 < 0 || rule->prefix4 > 32 || rule->prefix6 < 0 || rule->prefix6 > 128)
        return NULL;
    sb_sources *sources = malloc(sizeof *sources);
    if (sources == NULL)
        return NULL;
    *sources = (sb_sources){.rule = *rule, .places = FIRST_PLACES, .table = calloc(FIRST_PLACES, sizeof(struct source))};
    if (sources->table == NULL) {
        free(sources);
        return NULL;
    }
    return sources;
}

void sb_sources_free(sb_sources *sources)
{
    if (sources == NULL)
        return;
    free(sources->table);
    free(sources);
}

/* ---- whose address it is */

static int is_mapped(const unsigned char *address)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address, mapped, sizeof mapped) == 0;
}

static int is_loopback(const unsigned char *address)
{
    static const unsigned char one[16] = {[15] = 1};
    return is_mapped(address) ? address[12] == 127 : memcmp(address, one, sizeof one) == 0;
}

static void cut(unsigned char *address, int bits)
{
    for (int i = 0; i < 16; i++, bits -= 8)
        if (bits < 8)
            address[i] &= (unsigned char)(bits <= 0 ? 0 : 0xff << (8 - bits));
}

int sb__host(const char *name, size_t size, unsigned char *host)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    if (size == sizeof in) {
        memcpy(&in, name, sizeof in);
        memset(host, 0, 10);
        host[10] = host[11] = 0xff;
        memcpy(host + 12, &in.sin_addr, 4);
    } else if (size == sizeof in6) {
        memcpy(&in6, name, sizeof in6);
        memcpy(host, &in6.sin6_addr, 16);
    } else {
        return 0;
    }
    return 1;
}

/* 0: it is not counted. */
static int key_of(const sb_sources *sources, const char *peer, size_t size, unsigned char *key)
{
    if (sources == NULL || !sb__host(peer, size, key))
        return 0;
    if (!sources->rule.loopback && is_loopback(key))
        return 0;
    cut(key, is_mapped(key) ? 96 + sources->rule.prefix4 : sources->rule.prefix6);
    return 1;
}

/* ---- the table */

static size_t home_of(const sb_sources *sources, const unsigned char *key)
{
    uint64_t half[2];
    memcpy(half, key, sizeof half);
    uint64_t hash = (half[0] ^ sources->rule.seed) * UINT64_C(0x9e3779b97f4a7c15);
    hash = ((hash ^ hash >> 32) + half[1]) * (sources->rule.seed | 1);
    hash = (hash ^ hash >> 29) * UINT64_C(0xbf58476d1ce4e5b9); /* a step of splitmix64 */
    return (size_t)(hash >> 32) & (sources->places - 1);
}

/* Where a key lies, or the free place where it would. */
static struct source *slot_of(const sb_sources *sources, const unsigned char *key)
{
    size_t at = home_of(sources, key);
    while (sources->table[at].count > 0 && memcmp(sources->table[at].key, key, 16) != 0)
        at = (at + 1) & (sources->places - 1);
    return &sources->table[at];
}

static int make_room(sb_sources *sources)
{
    struct source *old = sources->table;
    size_t places = sources->places;
    if (2 * (sources->used + 1) <= places)
        return 0;
    struct source *table = calloc(2 * places, sizeof *table);
    if (table == NULL)
        return SB_ERR_NOMEM;
    sources->table = table;
    sources->places = 2 * places;
    for (size_t i = 0; i < places; i++)
        if (old[i].count > 0)
            *slot_of(sources, old[i].key) = old[i];
    free(old);
    return 0;
}

/* A place is free: whatever behind it has its home at or before it moves up. */
static void close_up(sb_sources *sources, size_t hole)
{
    size_t mask = sources->places - 1;
    sources->table[hole].count = 0;
    sources->used--;
    for (size_t at = (hole + 1) & mask; sources->table[at].count > 0; at = (at + 1) & mask) {
        size_t home = home_of(sources, sources->table[at].key);
        if (((at - home) & mask) < ((at - hole) & mask))
            continue;
        sources->table[hole] = sources->table[at];
        sources->table[at].count = 0;
        hole = at;
    }
}

/* ---- from outside */

static int count_one(sb_sources *sources, const char *peer, size_t size, int32_t max)
{
    unsigned char key[16];
    if (!key_of(sources, peer, size, key))
        return 0;
    struct source *one = slot_of(sources, key);
    if (one->count >= max) {
        memcpy(sources->last, key, sizeof key);
        return SB_ERR_LIMIT;
    }
    if (one->count == 0) {
        if (make_room(sources) < 0)
            return SB_ERR_NOMEM;
        one = slot_of(sources, key);
        memcpy(one->key, key, sizeof key);
        sources->used++;
    }
    one->count++;
    return 1;
}

int sb_sources_enter(sb_sources *sources, const char *peer, size_t size)
{
    if (sources == NULL)
        return 0;
    int code = count_one(sources, peer, size, sources->rule.max);
    sources->refused += code < 0;
    return code;
}

int sb_sources_add(sb_sources *sources, const char *peer, size_t size)
{
    return count_one(sources, peer, size, INT32_MAX);
}

void sb_sources_leave(sb_sources *sources, const char *peer, size_t size)
{
    unsigned char key[16];
    if (!key_of(sources, peer, size, key))
        return;
    struct source *one = slot_of(sources, key);
    if (one->count > 1)
        one->count--;
    else if (one->count == 1)
        close_up(sources, (size_t)(one - sources->table));
}

int sb_sources_limit(sb_sources *sources, int32_t max)
{
    if (sources == NULL || max < 1)
        return SB_ERR_INVALID;
    sources->rule.max = max;
    return 0;
}

int sb_sources_open(const sb_sources *sources, const char *peer, size_t size)
{
    unsigned char key[16];
    return key_of(sources, peer, size, key) ? slot_of(sources, key)->count : 0;
}

int sb_sources_refused_last(const sb_sources *sources, char *key)
{
    if (sources == NULL || key == NULL)
        return SB_ERR_INVALID;
    memcpy(key, sources->last, sizeof sources->last);
    return is_mapped(sources->last) ? sources->rule.prefix4 : sources->rule.prefix6;
}

uint64_t sb_sources_refused(const sb_sources *sources)
{
    return sources == NULL ? 0 : sources->refused;
}
