/*
 * Self-modifying code: a guest page with translated code in it is "watched". The vCPUs have no
 * writable TLB entries for it, so each write goes through the slow path and comes here first;
 * devices report theirs through memory_mark_written(), afterwards. Only the blocks whose bytes are
 * written die.
 */
#include "engine/dbt/vm.h"

static bool is_watched(const struct dbt_vm *vm, gpa_t page)
{
    uint64_t number = page >> GUEST_PAGE_SHIFT;

    return number < vm->config.memory->page_count &&
           (atomic_load(&vm->config.memory->page_flags[number]) & MEMORY_PAGE_WATCHED);
}

/* Another vCPU has announced a write to the page with smc_written(), and its store may still be to
 * come: blocks made from the old bytes now would outlive it. */
static bool write_in_flight(const struct dbt_vm *vm, const struct dbt_vcpu *v, gpa_t page)
{
    for (unsigned i = 0; i < vm->config.vcpus; i++) {
        const struct dbt_vcpu *other = atomic_load(&vm->vcpu[i]);

        if (other && other != v && other->runtime->writing == (page | 1))
            return true;
    }
    return false;
}

void smc_watch(struct dbt_vm *vm, struct dbt_vcpu *v, gpa_t page)
{
    bool watched = is_watched(vm, page);

    if (watched && !write_in_flight(vm, v, page))
        return;
    /* Nobody may hold a writable entry for the page once its bytes are being read. At a standstill
     * all announced stores are done. */
    dbt_exclusive_begin(vm, v);
    memory_watch_page(vm->config.memory, page, true);
    for (unsigned i = 0; i < vm->config.vcpus; i++) {
        struct dbt_vcpu *other = atomic_load(&vm->vcpu[i]);

        if (!other)
            continue;
        if (!watched)
            mmu_drop_writable(other, page);
        other->runtime->writing = 0;
    }
    dbt_exclusive_end(vm);
}

bool smc_written(struct dbt_vm *vm, struct dbt_vcpu *v, gpa_t gpa, uint64_t length)
{
    bool killed = false;

    if (v)
        dbt_simd_unload(v);
    dbt_lock(vm, v);
    while (length) {
        gpa_t page = ALIGN_DOWN(gpa, GUEST_PAGE_SIZE);
        uint64_t part = page + GUEST_PAGE_SIZE - gpa;
        bool empty;

        if (part > length)
            part = length;
        if (v && is_watched(vm, page))
            v->runtime->writing = page | 1;
        if (is_watched(vm, page) && cache_overlaps(&vm->cache, gpa, part)) {
            cache_invalidate(&vm->cache, gpa, part, &empty);
            if (empty)
                memory_watch_page(vm->config.memory, page, false);
            killed = true;
        }
        gpa += part;
        length -= part;
    }
    dbt_unlock(vm);
    return killed;
}
