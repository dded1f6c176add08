/*
 * KVM's paravirtual clock, for engines that are not KVM (kernel Documentation/virt/kvm/x86/msr.rst
 * and cpuid.rst): a structure in guest memory that tells how to turn the TSC into nanoseconds, so
 * that the guest need not calibrate a timer on a vCPU that may be starved. Both engines offer it.
 *
 * All vCPUs of a VM have one TSC, so one conversion serves all (and the stable flag is set). It
 * never changes while the VM runs; after a pause or a restore the engine makes a new one and
 * publishes it to each vCPU whose system-time MSR is enabled.
 */
#ifndef SILL_X86_KVMCLOCK_H
#define SILL_X86_KVMCLOCK_H

#include "base/types.h"
#include "mem/memory.h"

/* Guest TSC `tsc` is VM time `time` ns; from there on ns = (ticks << shift) * mul >> 32. */
struct kvmclock {
    uint64_t tsc;
    uint64_t time;
    uint32_t mul;
    int8_t shift; /* negative: to the right */
};

#define KVMCLOCK_ENABLE 1ull /* of the system-time MSR; the rest is the structure's address */

void kvmclock_init(struct kvmclock *clock, uint32_t tsc_khz, uint64_t tsc, uint64_t time_ns);

/* VM time in ns at a guest TSC, which may lie before the clock's own. Rounds up so that the TSC has
 * surely reached `tsc` at that time. */
uint64_t kvmclock_time(const struct kvmclock *clock, uint64_t tsc);

/*
 * What a write of `msr` to the system-time MSR of a vCPU does: fills the structure it names, if
 * enabled. The address is the guest's: one outside RAM is ignored. The vCPU's thread, or any while
 * it is stopped.
 */
void kvmclock_publish(const struct kvmclock *clock, struct memory *memory, uint64_t msr);

/* What a write to the wall-clock MSR does: tells the time of day at VM time 0. `realtime_ns` is
 * the time of day now, `time_ns` VM time now. */
void kvmclock_publish_wall(struct memory *memory, uint64_t msr, uint64_t realtime_ns,
                           uint64_t time_ns);

#endif
