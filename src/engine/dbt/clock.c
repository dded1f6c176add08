/*
 * Time as the guest sees it: the TSC (the host's plus an offset, read inline by translated code)
 * and KVM's paravirtual clock, which turns it into nanoseconds of VM time.
 */
#include <linux/perf_event.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/dbt/vm.h"
#include "x86/msr.h"

static uint64_t monotonic_ns(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

/* The kernel tells its own conversion (perf_event_open(2), cap_user_time): ns = ticks * mult >>
 * shift. 0 where perf is not to be had. */
static uint32_t khz_from_kernel(void)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof(attr),
        .config = PERF_COUNT_SW_DUMMY,
        .exclude_kernel = 1,
    };
    int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    uint32_t khz = 0;

    if (fd < 0)
        return 0;

    struct perf_event_mmap_page *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

    if (page != MAP_FAILED) {
        if (page->cap_user_time && page->time_mult)
            khz = (uint32_t)((1000000ull << page->time_shift) / page->time_mult);
        munmap(page, 4096);
    }
    close(fd);
    return khz;
}

/* The host's clock and TSC at one moment. Of several readings that one is taken in which the least
 * time passed: in any of them the host may give the processor to another thread for milliseconds,
 * which would make the measured frequency anything, and the guest's clocks stand still. */
static void read_both(uint64_t *ns, uint64_t *tsc)
{
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < 16; i++) {
        uint64_t before = __builtin_ia32_rdtsc(), now = monotonic_ns(CLOCK_MONOTONIC_RAW);
        uint64_t passed = __builtin_ia32_rdtsc() - before;

        if (passed < least) {
            least = passed;
            *ns = now;
            *tsc = before + passed / 2;
        }
    }
}

static uint32_t khz_measured(void)
{
    uint64_t start = 0, first = 0, end = 0, last = 0;

    read_both(&start, &first);
    do
        read_both(&end, &last);
    while (end - start < 2500000);
    return (uint32_t)((last - first) * 1000000 / (end - start));
}

uint32_t clock_tsc_khz(void)
{
    static _Atomic uint32_t known; /* the host's, the same for every VM of this process */
    uint32_t khz = atomic_load(&known);

    if (!khz) {
        khz = khz_from_kernel();
        if (!khz)
            khz = khz_measured();
        atomic_store(&known, khz);
    }
    return khz;
}

bool clock_msr_read(struct dbt_vcpu *v, uint32_t index, uint64_t *value)
{
    switch (index) {
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_OLD:
        *value = v->msr.kvm_system_time;
        return true;
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_OLD:
        *value = v->msr.kvm_wall_clock;
        return true;
    case MSR_KVM_POLL_CONTROL:
        *value = v->msr.kvm_poll_control;
        return true;
    default:
        return false;
    }
}

bool clock_msr_write(struct dbt_vcpu *v, uint32_t index, uint64_t value)
{
    struct memory *memory = v->vm->config.memory;

    switch (index) {
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_OLD:
        v->msr.kvm_system_time = value;
        dbt_quiesce(v); /* the memory's hook waits for the translation lock */
        kvmclock_publish(&v->vm->clock, memory, value);
        dbt_unquiesce(v);
        return true;
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_OLD:
        v->msr.kvm_wall_clock = value;
        dbt_quiesce(v);
        kvmclock_publish_wall(memory, value, monotonic_ns(CLOCK_REALTIME),
                              clock_now(v->vm->config.clock));
        dbt_unquiesce(v);
        return true;
    case MSR_KVM_POLL_CONTROL:
        v->msr.kvm_poll_control = value;
        return true;
    default:
        return false;
    }
}
