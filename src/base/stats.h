/*
 * Figures that a part of Sill counted, told by name to whoever wants them: groups of values and
 * groups, as in JSON. Who tells need not know what becomes of them.
 *
 *     stats_begin(to, "cache");           "cache": {
 *     stats_value(to, "flushes", 3);          "flushes": 3
 *     stats_end(to);                      }
 */
#ifndef SILL_BASE_STATS_H
#define SILL_BASE_STATS_H

#include <stdint.h>

struct stats {
    void *opaque;
    void (*begin)(void *opaque, const char *name);
    void (*value)(void *opaque, const char *name, uint64_t value);
    void (*end)(void *opaque);
};

static inline void stats_begin(const struct stats *to, const char *name)
{
    to->begin(to->opaque, name);
}

static inline void stats_value(const struct stats *to, const char *name, uint64_t value)
{
    to->value(to->opaque, name, value);
}

static inline void stats_end(const struct stats *to)
{
    to->end(to->opaque);
}

#endif
