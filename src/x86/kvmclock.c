/* The paravirtual clock's arithmetic and its version protocol; see kvmclock.h. */
#include <stdatomic.h>

#include "base/clock.h"
#include "x86/kvmclock.h"

#define FLAG_TSC_STABLE 1u /* readings are monotonic across vCPUs */

/* The structures in guest memory. The version is odd while they change. */
struct pvclock_time {
    _Atomic uint32_t version;
    uint32_t pad0;
    uint64_t tsc;
    uint64_t system_time;
    uint32_t mul;
    int8_t shift;
    uint8_t flags;
    uint8_t pad1[2];
} __attribute__((packed, aligned(4))); /* guests need not align it better */
_Static_assert(sizeof(struct pvclock_time) == 32, "the layout is part of the interface");

struct pvclock_wall {
    _Atomic uint32_t version;
    uint32_t sec;
    uint32_t nsec;
};
_Static_assert(sizeof(struct pvclock_wall) == 12, "the layout is part of the interface");

void kvmclock_init(struct kvmclock *clock, uint32_t tsc_khz, uint64_t tsc, uint64_t time_ns)
{
    /* ns per tick as a fixed-point number with 64 fraction bits, then as a 32-bit multiplier with
     * its top bit set: mul * 2^(shift - 32). */
    __uint128_t ratio = ((__uint128_t)1000000 << 64) / tsc_khz;
    int shift = -32;

    while (ratio > UINT32_MAX) {
        ratio >>= 1;
        shift++;
    }
    *clock = (struct kvmclock){
        .tsc = tsc,
        .time = time_ns,
        .mul = (uint32_t)ratio,
        .shift = (int8_t)shift,
    };
}

/* Rounds down, exactly as a guest computes it. */
static uint64_t ticks_to_ns(const struct kvmclock *clock, uint64_t ticks)
{
    ticks = clock->shift < 0 ? ticks >> -clock->shift : ticks << clock->shift;
    return (uint64_t)((__uint128_t)ticks * clock->mul >> 32);
}

uint64_t kvmclock_time(const struct kvmclock *clock, uint64_t tsc)
{
    if (tsc >= clock->tsc)
        return clock->time + ticks_to_ns(clock, tsc - clock->tsc) + 1;
    uint64_t before = ticks_to_ns(clock, clock->tsc - tsc);
    return before < clock->time ? clock->time - before : 0;
}

/* The place in guest memory that an MSR names, NULL if it cannot be used. */
static void *guest_structure(struct memory *memory, gpa_t gpa, uint64_t size)
{
    if (gpa % 4)
        return NULL;
    return memory_host(memory, gpa, size, true);
}

void kvmclock_publish(const struct kvmclock *clock, struct memory *memory, uint64_t msr)
{
    gpa_t gpa = msr & ~KVMCLOCK_ENABLE;
    struct pvclock_time *info = guest_structure(memory, gpa, sizeof(*info));

    if (!(msr & KVMCLOCK_ENABLE) || !info)
        return;
    uint32_t version = atomic_load(&info->version) | 1;
    atomic_store(&info->version, version);
    atomic_thread_fence(memory_order_release);
    info->tsc = clock->tsc;
    info->system_time = clock->time;
    info->mul = clock->mul;
    info->shift = clock->shift;
    info->flags = FLAG_TSC_STABLE;
    atomic_store(&info->version, version + 1);
    memory_mark_written(memory, gpa, sizeof(*info));
}

void kvmclock_publish_wall(struct memory *memory, uint64_t msr, uint64_t realtime_ns,
                           uint64_t time_ns)
{
    struct pvclock_wall *wall = guest_structure(memory, msr, sizeof(*wall));
    uint64_t start = realtime_ns - time_ns;

    if (!wall)
        return;
    uint32_t version = atomic_load(&wall->version) | 1;
    atomic_store(&wall->version, version);
    atomic_thread_fence(memory_order_release);
    wall->sec = (uint32_t)(start / NS_PER_SEC);
    wall->nsec = (uint32_t)(start % NS_PER_SEC);
    atomic_store(&wall->version, version + 1);
    memory_mark_written(memory, msr, sizeof(*wall));
}
