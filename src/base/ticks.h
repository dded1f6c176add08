/*
 * Between nanoseconds of VM time and the ticks of a counter that runs at `hz`: tick n begins at
 * ns_of_tick(n), the first nanosecond for which tick_at() gives n.
 */
#ifndef SILL_BASE_TICKS_H
#define SILL_BASE_TICKS_H

#include "base/clock.h"

static inline uint64_t tick_at(uint64_t ns, uint32_t hz)
{
    return (uint64_t)((unsigned __int128)ns * hz / NS_PER_SEC);
}

static inline uint64_t ns_of_tick(uint64_t tick, uint32_t hz)
{
    return (uint64_t)(((unsigned __int128)tick * NS_PER_SEC + hz - 1) / hz);
}

#endif
