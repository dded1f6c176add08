/*
 * The heavy half of running: what may use the vector registers and the C library, and so puts the
 * guest's vector state aside first. Requests and interrupts, finding and translating blocks, the
 * way to the board, and the exclusive sections of vm.h.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/dbt/dispatch.h"
#include "engine/dbt/guest_features.h"
#include "engine/dbt/interrupt.h"
#include "engine/dbt/trace.h"
#include "engine/dbt/translator.h"
#include "x86/arch.h"
#include "x86/msr.h"

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void dbt_attend(struct dbt_vcpu *v)
{
    /* In this order: runtime_attend(), which resets both in the other order and then looks for
     * requests, may not leave the mask at 0 with nothing that makes it come again. */
    __atomic_store_n(&v->jump_mask[0], 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&v->jump_mask[1], 0, __ATOMIC_SEQ_CST);
    atomic_store(&v->attention, 1);
    if (atomic_load(&v->runtime->asleep))
        futex_wake(&v->attention);
}

/* --- quiescence --- */

void dbt_quiesce(struct dbt_vcpu *v)
{
    struct dbt_vm *vm = v->vm;

    atomic_store(&v->runtime->running, false);
    if (atomic_load(&vm->exclusive_wanted)) {
        pthread_mutex_lock(&vm->exclusive);
        pthread_cond_broadcast(&vm->exclusive_changed);
        pthread_mutex_unlock(&vm->exclusive);
    }
}

void dbt_unquiesce(struct dbt_vcpu *v)
{
    struct dbt_vm *vm = v->vm;

    for (;;) {
        atomic_store(&v->runtime->running, true);
        if (!atomic_load(&vm->exclusive_wanted) || vm->exclusive_owner == v)
            break;
        dbt_quiesce(v);
        pthread_mutex_lock(&vm->exclusive);
        while (atomic_load(&vm->exclusive_wanted))
            pthread_cond_wait(&vm->exclusive_changed, &vm->exclusive);
        pthread_mutex_unlock(&vm->exclusive);
    }
    if (v->runtime->generation != vm->cache.generation) {
        v->runtime->generation = vm->cache.generation;
        v->runtime->mode_count = 0;
        dbt_jump_flush(v, true);
    }
}

void dbt_lock(struct dbt_vm *vm, struct dbt_vcpu *v)
{
    if (!pthread_mutex_trylock(&vm->translate))
        return;
    if (!v) {
        pthread_mutex_lock(&vm->translate);
        return;
    }
    dbt_quiesce(v);
    pthread_mutex_lock(&vm->translate);
    dbt_unquiesce(v);
}

void dbt_unlock(struct dbt_vm *vm)
{
    pthread_mutex_unlock(&vm->translate);
}

void dbt_exclusive_begin(struct dbt_vm *vm, struct dbt_vcpu *v)
{
    vm->exclusive_owner = v;
    atomic_store(&vm->exclusive_wanted, true);
    for (unsigned i = 0; i < vm->config.vcpus; i++) {
        struct dbt_vcpu *other = atomic_load(&vm->vcpu[i]);

        if (!other || other == v || !atomic_load(&other->runtime->running))
            continue;
        dbt_attend(other);
        pthread_mutex_lock(&vm->exclusive);
        while (atomic_load(&other->runtime->running))
            pthread_cond_wait(&vm->exclusive_changed, &vm->exclusive);
        pthread_mutex_unlock(&vm->exclusive);
    }
}

void dbt_exclusive_end(struct dbt_vm *vm)
{
    pthread_mutex_lock(&vm->exclusive);
    atomic_store(&vm->exclusive_wanted, false);
    vm->exclusive_owner = NULL;
    pthread_cond_broadcast(&vm->exclusive_changed);
    pthread_mutex_unlock(&vm->exclusive);
}

/* --- vector state --- */

void dbt_simd_unload(struct dbt_vcpu *v)
{
    static const uint32_t mxcsr = X86_MXCSR_RESET;

    if (!v->simd_live)
        return;
    v->simd_live = 0;
    __asm__ volatile("xsave64 %0" : "+m"(v->xsave) : "a"(7), "d"(0) : "memory");
    x87_sync(v);
    __asm__ volatile("fninit\n\tldmxcsr %0\n\tvzeroupper" : : "m"(mxcsr) : "memory");
}

/* --- finding code --- */

bool dbt_mode_slot(struct dbt_vm *vm, uint32_t mode, unsigned *slot)
{
    unsigned count = vm->mode_count;

    mode &= ~(uint32_t)(DBT_MODE_ONE | DBT_MODE_NO_PIN); /* jumps from there leave that mode */
    for (*slot = 0; *slot < count; (*slot)++)
        if (vm->modes[*slot] == mode)
            return true;
    if (count == DBT_MODE_SLOTS)
        return false;
    /* Nobody uses the tables of this slot yet, as there is no code for it. */
    for (unsigned i = 0; count >= vm->prepared_slots && i < vm->config.vcpus; i++) {
        struct dbt_vcpu *v = atomic_load(&vm->vcpu[i]);

        if (v)
            dbt_jump_prepare(v, count);
    }
    if (count >= vm->prepared_slots)
        vm->prepared_slots = count + 1;
    vm->modes[count] = mode;
    atomic_store(&vm->mode_count, count + 1);
    return true;
}

void dbt_flush_all(struct dbt_vm *vm, struct dbt_vcpu *v, enum flush_cause cause)
{
    dbt_exclusive_begin(vm, v);
    cache_flush(&vm->cache, cause);
    if (vm->trace & (TRACE_BLOCKS | TRACE_PERFMAP))
        trace_flush(vm);
    atomic_store(&vm->mode_count, 0);
    dbt_exclusive_end(vm);
    v->runtime->generation = vm->cache.generation;
    v->runtime->mode_count = 0;
    dbt_jump_flush(v, true);
}

/* The block at a guest-physical address; translation lock held. */
static struct dbt_block *find_block(struct dbt_vcpu *v, gpa_t gpa, const uint8_t *host,
                                    uint32_t mode, unsigned *slot)
{
    struct dbt_vm *vm = v->vm;
    struct dbt_block *block;

    for (;;) {
        enum flush_cause cause = FLUSH_MODES;

        if (dbt_mode_slot(vm, mode, slot)) {
            block = cache_find(&vm->cache, gpa, mode);
            if (block)
                return block;
            smc_watch(vm, v, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE));
            block = translate_block(vm, &vm->features, gpa, host, mode, *slot);
            if (block && (vm->trace & (TRACE_BLOCKS | TRACE_PERFMAP)))
                trace_block(v, block, host);
            if (block)
                return block;
            cause = FLUSH_FULL;
        }
        dbt_flush_all(vm, v, cause);
    }
}

const void *runtime_find(struct dbt_vcpu *v, uint32_t extra_mode)
{
    struct dbt_vm *vm = v->vm;
    struct dbt_runtime *r = v->runtime;
    uint32_t mode = v->mode | extra_mode;
    gva_t linear;
    struct dbt_block *block;
    const void *code;
    uint8_t *host;
    unsigned slot;
    gpa_t gpa;

    r->counters.lookups++;
    if (!dispatch_linear_rip(v, &linear) || mmu_fetch(v, linear, &gpa, &host) == DBT_FAULT)
        return NULL;
    dbt_simd_unload(v);
    if (!host) {
        error_set(&r->failure, -EFAULT,
                  "the guest executes from device space (physical address 0x%llx, rip 0x%llx)",
                  (unsigned long long)gpa, (unsigned long long)v->rip);
        v->shutdown = true;
        dbt_raise_error(v, X86_VECTOR_GP, 0);
        return NULL;
    }
    dbt_lock(vm, v);
    block = find_block(v, gpa, host, mode, &slot);
    code = vm->cache.rx + block->entry_indirect;
    r->mode_count = vm->mode_count;
    memcpy(r->modes, vm->modes, sizeof(r->modes));
    dbt_unlock(vm);

    if (!extra_mode)
        dispatch_enter_jump(v, slot, linear, block);
    return code;
}

const void *runtime_find_crossing(struct dbt_vcpu *v, gpa_t gpa, const uint8_t *host,
                                  gpa_t second_page, const uint8_t *second_host)
{
    struct dbt_vm *vm = v->vm;
    struct dbt_block *block = NULL;
    const void *code = NULL;
    bool invalid = false;
    unsigned slot;

    dbt_simd_unload(v);
    dbt_lock(vm, v);
    while (!block && !invalid) {
        enum flush_cause cause = FLUSH_MODES;

        if (dbt_mode_slot(vm, v->mode, &slot)) {
            block = cache_find_crossing(&vm->cache, gpa, v->mode, second_page);
            if (block)
                break;
            smc_watch(vm, v, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE));
            smc_watch(vm, v, second_page);
            block = translate_crossing(vm, &vm->features, gpa, host, second_page, second_host,
                                       v->mode, slot, &invalid);
            if (block && (vm->trace & (TRACE_BLOCKS | TRACE_PERFMAP)))
                trace_crossing(v, block, host, second_host);
            cause = FLUSH_FULL;
        }
        if (!block && !invalid)
            dbt_flush_all(vm, v, cause);
    }
    if (block)
        code = vm->cache.rx + block->entry_indirect;
    dbt_unlock(vm);
    return code;
}

void runtime_link(struct dbt_vcpu *v, const struct exit_record *record)
{
    struct dbt_vm *vm = v->vm;
    uint32_t generation = v->runtime->generation, patch = record->patch;
    struct dbt_block *block;
    uint8_t *host;
    unsigned slot;
    gva_t linear;
    gpa_t gpa;

    /* The page is being executed, so this does not fault; if it does, the next look-up tells. */
    if (!dispatch_linear_rip(v, &linear) || mmu_fetch(v, linear, &gpa, &host) == DBT_FAULT || !host)
        return;
    dbt_simd_unload(v);
    dbt_lock(vm, v);
    /* The mapping may have changed since the jumping block was found: then no link. */
    if (generation == vm->cache.generation &&
        ALIGN_DOWN(record->block->gpa ^ gpa, GUEST_PAGE_SIZE) == 0) {
        block = find_block(v, gpa, host,
                           v->mode | (record->kind == EXIT_UNPIN ? DBT_MODE_NO_PIN : 0), &slot);
        if (generation == vm->cache.generation && !block->unlinked) {
            uint8_t *site = vm->cache.rw + patch;

            __atomic_store_n((int32_t *)site, (int32_t)(block->entry - (patch + 4)),
                             __ATOMIC_RELEASE);
            v->runtime->counters.links++;
        }
    }
    dbt_unlock(vm);
}

void dbt_jump_prepare(struct dbt_vcpu *v, unsigned slot)
{
    for (unsigned level = 0; level < DBT_JUMP_LEVELS; level++) {
        for (unsigned i = 0; i < DBT_JUMP_SIZE; i++)
            v->jump[level][slot][i].neg_linear = DBT_JUMP_INVALID;
        v->jump[level][slot][0] = (struct dbt_jump_entry){
            .neg_linear = DBT_JUMP_FIRST, .code = v->vm->cache.rx + v->vm->stub_miss};
    }
}

static void jump_drop_listed(struct dbt_vcpu *v, unsigned slot, struct fill_list *list)
{
    for (unsigned i = 0; i < list->count; i++) {
        unsigned level = list->index[i] / DBT_JUMP_SIZE;

        v->jump[level][slot][list->index[i] % DBT_JUMP_SIZE].neg_linear = DBT_JUMP_INVALID;
    }
    fill_list_clear(list);
}

void dbt_jump_flush(struct dbt_vcpu *v, bool global_too)
{
    struct dbt_runtime *r = v->runtime;

    if (global_too)
        dbt_forget_fast_calls(v);
    for (unsigned slot = 0; slot < DBT_MODE_SLOTS; slot++) {
        struct fill_list *filled = r->jump_filled[slot];

        if (!(r->jump_dirty >> slot & 1))
            continue;
        if (filled[0].overflow || (global_too && filled[1].overflow)) {
            dbt_jump_prepare(v, slot);
            fill_list_clear(&filled[0]);
            fill_list_clear(&filled[1]);
            r->jump_dirty &= ~(1u << slot);
            continue;
        }
        jump_drop_listed(v, slot, &filled[0]);
        if (!global_too)
            continue;
        jump_drop_listed(v, slot, &filled[1]);
        r->jump_dirty &= ~(1u << slot);
    }
}

void dbt_jump_flush_page(struct dbt_vcpu *v, gva_t address)
{
    gva_t page = ALIGN_DOWN(address, GUEST_PAGE_SIZE);

    for (unsigned slot = 0; slot < DBT_MODE_SLOTS; slot++) {
        if (!(v->runtime->jump_dirty >> slot & 1))
            continue;
        for (unsigned level = 0; level < DBT_JUMP_LEVELS; level++) {
            /* The page's addresses have neighbouring indices, as many as differ in its offset's
             * bits. */
            unsigned first = dbt_jump_index(level, page);
            unsigned count = dbt_jump_index(level, GUEST_PAGE_SIZE - 1) + 1;
            struct dbt_jump_entry *entry = &v->jump[level][slot][first];

            for (unsigned i = 0; i < count; i++)
                if (ALIGN_DOWN(-entry[i].neg_linear, GUEST_PAGE_SIZE) == page)
                    entry[i].neg_linear = DBT_JUMP_INVALID;
        }
    }
}

/* --- requests and interrupts --- */

static void take_init(struct dbt_vcpu *v)
{
    struct x86_vcpu_state *state = &v->runtime->scratch_state;
    bool bootstrap = v->index == 0;

    x86_vcpu_state_reset(state, bootstrap, v->index);
    state->tsc = dbt_tsc(v);
    /* INIT leaves the vector state, MSRs and most of the APIC alone (SDM volume 3, table 10-1). */
    dbt_load_state(v, state, X86_STATE_GPR | X86_STATE_SYSTEM | X86_STATE_DEBUG | X86_STATE_EVENTS);
    lapic_reset(v->lapic, true);
    mmu_flush(v, true);
}

static void take_sipi(struct dbt_vcpu *v)
{
    v->segment[X86_CS].selector = (uint16_t)(v->sipi_vector << 8);
    v->segment[X86_CS].base = (uint64_t)v->sipi_vector << 12;
    v->rip = 0;
    v->run_state = X86_RUNNABLE;
    mode_update(v);
}

/* Delivers what the local APIC or an NMI has for the vCPU, if it may be taken now. */
static void take_interrupt(struct dbt_vcpu *v)
{
    struct dbt_runtime *r = v->runtime;
    int vector;

    /* A debugger steps through the code that it looks at, not into handlers. */
    if (r->debugger.wanted.single_step && v->run_state == X86_RUNNABLE) {
        v->interrupt_waiting = true;
        return;
    }
    if (atomic_load(&v->nmi_pending) && !v->nmi_blocked && !v->shadow) {
        atomic_fetch_sub(&v->nmi_pending, 1);
        v->run_state = X86_RUNNABLE;
        v->nmi_blocked = true;
        interrupt_deliver_external(v, X86_VECTOR_NMI);
        v->interrupt_waiting = true;
        return;
    }
    v->interrupt_waiting = lapic_pending(v->lapic) >= 0;
    if (!v->interrupt_waiting || !v->iflag || v->shadow)
        return;
    vector = lapic_acknowledge(v->lapic);
    if (vector == LAPIC_EXTINT)
        vector = v->vm->config.callbacks.pic_acknowledge(v->vm->config.callbacks.opaque);
    if (vector < 0)
        return;
    r->counters.interrupts++;
    v->run_state = X86_RUNNABLE;
    interrupt_deliver_external(v, (uint8_t)vector);
}

static void sleep_until_attention(struct dbt_vcpu *v)
{
    struct dbt_runtime *r = v->runtime;

    r->counters.halts++;
    dbt_quiesce(v);
    atomic_store(&r->asleep, true);
    while (!atomic_load(&v->attention))
        futex_wait(&v->attention, 0);
    atomic_store(&r->asleep, false);
    dbt_unquiesce(v);
}

bool runtime_attend(struct dbt_vcpu *v)
{
    struct dbt_runtime *r = v->runtime;

    dbt_simd_unload(v);
    for (;;) {
        do {
            atomic_store(&v->attention, 0);
            __atomic_store_n(&v->jump_mask[0], DBT_JUMP_MASK_FIRST, __ATOMIC_SEQ_CST);
            __atomic_store_n(&v->jump_mask[1], DBT_JUMP_MASK_SECOND, __ATOMIC_SEQ_CST);
            if (atomic_load(&v->vm->exclusive_wanted)) {
                dbt_quiesce(v);
                dbt_unquiesce(v);
            }
            if (atomic_exchange(&r->kicked, false)) {
                r->stopped_by_kick = true;
                return false;
            }
            if (atomic_exchange(&v->init_pending, false))
                take_init(v);
            if (atomic_exchange(&v->sipi_pending, false) && v->run_state == X86_WAIT_FOR_SIPI)
                take_sipi(v);
            if (v->run_state != X86_WAIT_FOR_SIPI)
                take_interrupt(v);
            if (v->shutdown)
                return false;
            /* A request that came in meanwhile must not be lost by setting jump_mask above. */
        } while (atomic_load(&v->attention));
        if (v->run_state == X86_RUNNABLE)
            return true;
        sleep_until_attention(v);
    }
}

void runtime_yield(struct dbt_vcpu *v)
{
    v->pauses = DBT_PAUSES_PER_YIELD;
    if (v->vm->config.vcpus == 1)
        return;
    dbt_simd_unload(v);
    dbt_quiesce(v);
    sched_yield();
    dbt_unquiesce(v);
}

/* --- the board --- */

static const struct engine_callbacks *board_enter(struct dbt_vcpu *v)
{
    dbt_simd_unload(v);
    dbt_quiesce(v);
    return &v->vm->config.callbacks;
}

static void board_leave(struct dbt_vcpu *v)
{
    dbt_unquiesce(v);
}

uint32_t dbt_port_read(struct dbt_vcpu *v, uint16_t port, unsigned size)
{
    const struct engine_callbacks *board = board_enter(v);
    uint32_t value = board->port_read(board->opaque, port, size);

    v->runtime->counters.port_reads++;
    board_leave(v);
    return value;
}

void dbt_port_write(struct dbt_vcpu *v, uint16_t port, unsigned size, uint32_t value)
{
    const struct engine_callbacks *board = board_enter(v);

    v->runtime->counters.port_writes++;
    board->port_write(board->opaque, port, size, value);
    board_leave(v);
}

static bool in_apic_page(struct dbt_vcpu *v, gpa_t gpa, uint32_t *offset)
{
    gpa_t base;

    if (!lapic_mmio_base(v->lapic, &base) || gpa - base >= GUEST_PAGE_SIZE)
        return false;
    *offset = (uint32_t)(gpa - base);
    return true;
}

uint64_t dbt_mmio_read(struct dbt_vcpu *v, gpa_t gpa, unsigned size)
{
    const struct engine_callbacks *board;
    uint32_t offset;
    uint64_t value;

    dbt_simd_unload(v);
    if (in_apic_page(v, gpa, &offset)) {
        /* Registers are 32 bits at multiples of 16; narrower reads take their part. */
        if (offset & 12)
            return 0;
        return (uint64_t)lapic_mmio_read(v->lapic, offset & ~3u) >> (offset & 3) * 8;
    }
    board = board_enter(v);
    v->runtime->counters.mmio_reads++;
    value = board->mmio_read(board->opaque, gpa, size);
    board_leave(v);
    return value;
}

void dbt_mmio_write(struct dbt_vcpu *v, gpa_t gpa, unsigned size, uint64_t value)
{
    const struct engine_callbacks *board;
    uint32_t offset;

    dbt_simd_unload(v);
    if (in_apic_page(v, gpa, &offset)) {
        if (!(offset & 15))
            lapic_mmio_write(v->lapic, offset, (uint32_t)value);
        v->interrupt_waiting = true;
        return;
    }
    board = board_enter(v);
    v->runtime->counters.mmio_writes++;
    board->mmio_write(board->opaque, gpa, size, value);
    board_leave(v);
}

static bool is_apic_msr(uint32_t index)
{
    return index == MSR_APIC_BASE || (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST) ||
           index == MSR_TSC_DEADLINE;
}

bool dbt_msr_read_outside(struct dbt_vcpu *v, uint32_t index, uint64_t *value)
{
    const struct engine_callbacks *board;
    bool known;

    dbt_simd_unload(v);
    if (is_apic_msr(index))
        return lapic_msr_read(v->lapic, index, value);
    if (clock_msr_read(v, index, value))
        return true;
    board = board_enter(v);
    known = board->msr_read(board->opaque, v->index, index, value);
    board_leave(v);
    return known;
}

bool dbt_msr_write_outside(struct dbt_vcpu *v, uint32_t index, uint64_t value)
{
    const struct engine_callbacks *board;
    bool known;

    dbt_simd_unload(v);
    if (index == MSR_APIC_BASE && value >> v->vm->phys_bits)
        return false;
    if (is_apic_msr(index)) {
        v->interrupt_waiting = true;
        return lapic_msr_write(v->lapic, index, value);
    }
    if (clock_msr_write(v, index, value))
        return true;
    board = board_enter(v);
    known = board->msr_write(board->opaque, v->index, index, value);
    board_leave(v);
    return known;
}

/* CPUID says that there is an APIC while it is enabled (Intel SDM volume 3, 11.4.3). */
static void hide_disabled_apic(struct dbt_vcpu *v, uint32_t leaf, uint32_t out[4])
{
    uint64_t base;

    if (leaf == FEATURE_APIC.leaf && lapic_msr_read(v->lapic, MSR_APIC_BASE, &base) &&
        !(base & APIC_BASE_ENABLE))
        out[FEATURE_APIC.reg] &= ~(1u << FEATURE_APIC.bit);
}

void dbt_cpuid(struct dbt_vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    dbt_simd_unload(v);
    x86_cpuid_get(&v->vm->config.cpuid, v->index, v->cr4 & X86_CR4_OSXSAVE, v->xcr0, leaf, subleaf,
                  out);
    hide_disabled_apic(v, leaf, out);
}

void dbt_ipi_send(struct dbt_vcpu *v, unsigned apic_id, uint32_t command)
{
    struct msi_message message = {
        .address = APIC_BASE_DEFAULT | (uint64_t)apic_id << 12,
        .data = command,
    };

    dbt_simd_unload(v);
    lapic_bus_send(v->vm->lapic_bus, &message);
}

uint64_t dbt_cr8_read(struct dbt_vcpu *v)
{
    dbt_simd_unload(v);
    return lapic_cr8_read(v->lapic);
}

void dbt_cr8_write(struct dbt_vcpu *v, uint64_t value)
{
    dbt_simd_unload(v);
    lapic_cr8_write(v->lapic, value);
    v->interrupt_waiting = true;
}

uint64_t dbt_tsc(struct dbt_vcpu *v)
{
    return dbt_host_tsc(v->vm) + v->tsc_offset;
}
