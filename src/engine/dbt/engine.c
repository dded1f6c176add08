/*
 * The software engine behind engine.h: creating VMs and vCPUs, the run call, kicks, and host faults
 * in translated code (a misaligned SSE operand, a division error) that are the guest's exceptions.
 */
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine/dbt/debug.h"
#include "engine/dbt/dispatch.h"
#include "engine/dbt/host.h"
#include "engine/dbt/stats.h"
#include "engine/dbt/trace.h"
#include "engine/dbt/translator.h"
#include "x86/arch.h"

#define DEFAULT_CACHE_SIZE (64 * MIB)

#ifndef SS_AUTODISARM /* sigaltstack(2); not in every C library's headers */
#define SS_AUTODISARM (1u << 31)
#endif

struct engine_vm {
    struct dbt_vm dbt;
};

struct engine_vcpu {
    struct dbt_vcpu *v;
};

/* The vCPU whose run() is on this thread's stack, for the signal handler. */
static __thread struct dbt_vcpu *running_vcpu;

/* --- host faults --- */

/* What translated code can raise. */
static const int fault_signals[] = {SIGSEGV, SIGFPE, SIGILL, SIGBUS};

static struct sigaction previous[NSIG];

static const int greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                REG_R12, REG_R13, REG_R14, REG_R15};

/* The guest exception for a host trap number, or false. */
static bool guest_exception(struct dbt_vcpu *v, long trap)
{
    switch (trap) {
    case X86_VECTOR_DE:
    case X86_VECTOR_UD:
    case X86_VECTOR_MF:
    case X86_VECTOR_XM:
        dbt_raise(v, (uint8_t)trap);
        return true;
    case X86_VECTOR_SS: /* a stack at no canonical address, while no page is pinned: pin.c */
    case X86_VECTOR_GP:
    case X86_VECTOR_AC:
        dbt_raise_error(v, (uint8_t)trap, 0);
        return true;
    default:
        return false;
    }
}

/* Whether it is XSAVE, XRSTOR or the like, as native_emit_xsave() writes it (0F AE /4 to /6, 0F C7
 * /3 to /5). */
static bool is_xsave(const uint8_t *code)
{
    code += (*code & 0xf0) == 0x40; /* REX */
    return code[0] == 0x0f && (code[1] == 0xae || code[1] == 0xc7) && code[2] < 0xc0 &&
           (code[2] >> 3 & 7) >= 3 && (code[2] >> 3 & 7) <= 6;
}

/* Turns the fault into a guest exception and makes the thread leave translated code. */
static bool handle_fault(struct dbt_vcpu *v, ucontext_t *context)
{
    greg_t *regs = context->uc_mcontext.gregs;
    struct code_cache *cache = &v->vm->cache;
    uint64_t offset = (uint64_t)regs[REG_RIP] - (uint64_t)(uintptr_t)cache->rx;

    if (offset >= cache->size || offset < cache->stubs_end)
        return false;
    if (!v->runtime->thunk) {
        const struct dbt_block *block = cache_block_at(cache, (uint32_t)offset);
        unsigned i;

        if (!block)
            return false;
        for (i = 0; i < block->insn_count; i++)
            if (offset - block->start < block->map[i].host_end)
                break;
        if (i == block->insn_count)
            return false;
        if (block->map[i].unsaved != HOST_NONE)
            v->gpr[block->map[i].unsaved] = (uint64_t)regs[greg_of[TEMP2]];
        v->rip = dbt_rip_of(v, v->page_base + (uint64_t)(int64_t)block->map[i].offset);
    }
    if (!guest_exception(v, regs[REG_TRAPNO]))
        return false;
    for (unsigned guest = 0; guest < X86_GPR_COUNT; guest++)
        if (regmap_host(guest) != HOST_NONE)
            v->gpr[guest] = (uint64_t)regs[greg_of[regmap_host(guest)]];
    if (is_xsave((const uint8_t *)regs[REG_RIP])) {
        v->gpr[X86_RAX] = (uint64_t)regs[greg_of[TEMP1]];
        v->gpr[X86_RDX] = (uint64_t)regs[greg_of[TEMP2]];
    }
    v->flags_arith = (uint64_t)regs[REG_EFL];
    v->runtime->leave = LEAVE_FAULT;
    regs[REG_RIP] = (greg_t)(uintptr_t)(cache->rx + v->vm->stub_leave);
    regs[REG_EFL] &= ~(greg_t)X86_FLAG_DF;
    return true;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    struct dbt_vcpu *v = running_vcpu;

    if (v && handle_fault(v, context))
        return;

    /* Not ours: whoever was there before, or the default with the fault happening again. */
    struct sigaction *old = &previous[number];

    if ((old->sa_flags & SA_SIGINFO) && old->sa_sigaction)
        old->sa_sigaction(number, info, context);
    else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN)
        old->sa_handler(number);
    else
        sigaction(number, old, NULL);
}

/* Puts on_signal() in front of whatever handlers there are now. Called before each run: programs
 * may have installed theirs since the last. */
static void install_signals(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};

    sigemptyset(&action.sa_mask);
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < ARRAY_SIZE(fault_signals); i++) {
        struct sigaction now;

        sigaction(fault_signals[i], NULL, &now);
        if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_signal)
            continue;
        previous[fault_signals[i]] = now;
        sigaction(fault_signals[i], &action, NULL);
    }
    pthread_mutex_unlock(&lock);
}

/* --- VMs --- */

static unsigned phys_bits(const struct x86_cpuid *cpuid)
{
    const struct x86_cpuid_leaf *leaf = x86_cpuid_find(cpuid, 0x80000008, 0);

    return leaf && (leaf->eax & 0xff) >= 32 ? leaf->eax & 0xff : 36;
}

static void on_memory_written(void *opaque, gpa_t gpa, uint64_t length)
{
    struct dbt_vm *vm = opaque;

    smc_written(vm, NULL, gpa, length);
}

static int dbt_vm_create(struct engine_vm **out, const struct engine_vm_config *config,
                         struct error *err)
{
    struct engine_vm *e;
    pthread_mutexattr_t recursive;
    struct dbt_vm *vm;
    char reason[256];
    int result;

    if (!host_usable(reason, sizeof(reason)))
        return error_set(err, -ENOTSUP, "the software engine cannot run here: %s", reason);
    if (config->vcpus > DBT_MAX_VCPUS)
        return error_set(err, -EINVAL, "the software engine has at most %d vCPUs, not %u",
                         DBT_MAX_VCPUS, config->vcpus);
    e = calloc(1, sizeof(*e));
    if (!e)
        return error_set(err, -ENOMEM, "out of memory");
    vm = &e->dbt;
    vm->config = *config;
    vm->phys_bits = phys_bits(&config->cpuid);
    decode_features_init(&vm->features, &config->cpuid);
    result = cache_init(
        &vm->cache, config->code_cache_size ? config->code_cache_size : DEFAULT_CACHE_SIZE, err);
    if (result < 0)
        goto free_vm;
    result = lapic_bus_new(&vm->lapic_bus, config->vcpus);
    if (result < 0) {
        error_set(err, result, "cannot create the local APICs: %s", strerror(-result));
        goto free_cache;
    }
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&vm->translate, &recursive);
    pthread_mutexattr_destroy(&recursive);
    pthread_mutex_init(&vm->exclusive, NULL);
    pthread_cond_init(&vm->exclusive_changed, NULL);
    vm->tsc_khz = clock_tsc_khz();
    vm->tsc_offset = -__builtin_ia32_rdtsc();
    kvmclock_init(&vm->clock, vm->tsc_khz, 0, clock_now(config->clock));
    stubs_emit(vm);
    /* Programs without the option have the environment. */
    result = trace_init(vm, config->debug ? config->debug : getenv("SILL_DBT_TRACE"), err);
    if (result < 0)
        goto free_lapics;
    config->memory->written = on_memory_written;
    config->memory->written_opaque = vm;
    *out = e;
    return 0;

free_lapics:
    pthread_cond_destroy(&vm->exclusive_changed);
    pthread_mutex_destroy(&vm->exclusive);
    pthread_mutex_destroy(&vm->translate);
    lapic_bus_free(vm->lapic_bus);
free_cache:
    cache_done(&vm->cache);
free_vm:
    free(e);
    return result;
}

static void dbt_vm_destroy(struct engine_vm *e)
{
    struct dbt_vm *vm = &e->dbt;

    vm->config.memory->written = NULL;
    trace_done(vm);
    lapic_bus_free(vm->lapic_bus);
    cache_done(&vm->cache);
    pthread_cond_destroy(&vm->exclusive_changed);
    pthread_mutex_destroy(&vm->exclusive);
    pthread_mutex_destroy(&vm->translate);
    free(e);
}

/* A vCPU that is inside a callback is quiescent like all the others. */
static int dbt_memory_changed(struct engine_vm *e, gpa_t gpa, uint64_t size, struct error *err)
{
    struct dbt_vm *vm = &e->dbt;
    bool empty;

    (void)err;
    dbt_lock(vm, NULL);
    dbt_exclusive_begin(vm, NULL);
    for (gpa_t page = gpa; page - gpa < size; page += GUEST_PAGE_SIZE) {
        if (!cache_overlaps(&vm->cache, page, GUEST_PAGE_SIZE))
            continue;
        cache_invalidate(&vm->cache, page, GUEST_PAGE_SIZE, &empty);
        if (empty)
            memory_watch_page(vm->config.memory, page, false);
    }
    for (unsigned i = 0; i < vm->config.vcpus; i++) {
        struct dbt_vcpu *v = atomic_load(&vm->vcpu[i]);

        if (v)
            mmu_flush(v, true);
    }
    dbt_exclusive_end(vm);
    dbt_unlock(vm);
    return 0;
}

/* The pairs of TSC and VM time that paravirtual clocks were told stay true. */
static void dbt_time_hold(struct engine_vm *e, bool hold)
{
    struct dbt_vm *vm = &e->dbt;
    uint64_t now = __builtin_ia32_rdtsc();

    if (hold == vm->time_held)
        return;
    vm->time_held = hold;
    if (hold) {
        vm->held_host_tsc = now;
        return;
    }
    uint64_t passed = now - vm->held_host_tsc;
    vm->tsc_offset -= passed;
    for (unsigned i = 0; i < vm->config.vcpus; i++) {
        struct dbt_vcpu *v = atomic_load(&vm->vcpu[i]);

        if (v)
            v->tsc_offset -= passed;
    }
}

/* --- vCPUs --- */

/* While one NMI is handled one more waits; before that, the first is as good as taken, and so a
 * second waits behind it. */
static void nmi_raise(struct dbt_vcpu *v)
{
    uint8_t limit = __atomic_load_n(&v->nmi_blocked, __ATOMIC_RELAXED) ? 1 : 2;
    uint8_t count = atomic_load(&v->nmi_pending);

    while (count < limit && !atomic_compare_exchange_weak(&v->nmi_pending, &count, count + 1))
        ;
}

static void on_apic_event(void *opaque, enum lapic_event event, uint8_t vector)
{
    struct dbt_vcpu *v = opaque;

    switch (event) {
    case LAPIC_EVENT_NMI:
        nmi_raise(v);
        break;
    case LAPIC_EVENT_INIT:
        atomic_store(&v->init_pending, true);
        break;
    case LAPIC_EVENT_SIPI:
        v->sipi_vector = vector;
        atomic_store(&v->sipi_pending, true);
        break;
    default:
        break;
    }
    dbt_attend(v);
}

static void on_eoi(void *opaque, uint8_t vector)
{
    const struct engine_callbacks *board = &((struct dbt_vcpu *)opaque)->vm->config.callbacks;

    board->ioapic_eoi(board->opaque, vector);
}

static uint64_t apic_tsc(void *opaque)
{
    return dbt_tsc(opaque);
}

/* Counted from now, since the guest may have moved its TSC. Rounded up, so that the TSC has surely
 * reached `tsc` then. */
static uint64_t apic_tsc_to_time(void *opaque, uint64_t tsc)
{
    struct dbt_vcpu *v = opaque;
    const struct kvmclock *clock = &v->vm->clock;
    uint64_t now = clock_now(v->vm->config.clock), now_tsc = dbt_tsc(v);

    if (tsc <= now_tsc)
        return now;
    return now + (kvmclock_time(clock, tsc) - kvmclock_time(clock, now_tsc)) + 1;
}

static const struct lapic_ops apic_ops = {
    .event = on_apic_event,
    .eoi_broadcast = on_eoi,
    .tsc_read = apic_tsc,
    .tsc_to_time = apic_tsc_to_time,
};

static int dbt_vcpu_create(struct engine_vcpu **out, struct engine_vm *e, unsigned index,
                           struct error *err)
{
    struct dbt_vm *vm = &e->dbt;
    struct engine_vcpu *cpu = calloc(1, sizeof(*cpu));
    struct dbt_vcpu *v;
    int result = -ENOMEM;

    if (!cpu)
        return error_set(err, -ENOMEM, "out of memory");
    v = mmap(NULL, sizeof(*v), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (v == MAP_FAILED)
        goto free_cpu;
    v->runtime = aligned_alloc(64, ALIGN_UP(sizeof(*v->runtime), 64));
    if (!v->runtime)
        goto unmap;
    memset(v->runtime, 0, sizeof(*v->runtime));
    v->runtime->taken_vector = -1;
    v->runtime->debugger.stop = DEBUGGER_GOES_ON;
    v->runtime->tlb_filled[1].overflow = true; /* the first flush makes every entry an empty one */
    v->self = v;
    v->vm = vm;
    v->index = index;
    v->tsc_offset = vm->tsc_offset;
    v->tlb_mask = (uint64_t)(DBT_TLB_SIZE - 1) << GUEST_PAGE_SHIFT;
    v->pauses = DBT_PAUSES_PER_YIELD;
    v->arith_mask = DBT_ARITH_FLAGS;
    v->page_number_mask = ~(GUEST_PAGE_SIZE - 1);
    atomic_store(&v->attention, 1);
    result = lapic_new(&v->lapic, vm->lapic_bus, index, index == 0, vm->config.clock, &apic_ops, v);
    if (result < 0)
        goto free_runtime;
    x86_vcpu_state_reset(&v->runtime->scratch_state, index == 0, index);
    v->runtime->scratch_state.tsc = dbt_tsc(v);
    dbt_load_state(v, &v->runtime->scratch_state, X86_STATE_ALL & ~X86_STATE_LAPIC);
    dbt_lock(vm, NULL);
    for (unsigned slot = 0; slot < vm->prepared_slots; slot++)
        dbt_jump_prepare(v, slot);
    atomic_store(&vm->vcpu[index], v);
    dbt_unlock(vm);
    cpu->v = v;
    *out = cpu;
    return 0;

free_runtime:
    free(v->runtime);
unmap:
    munmap(v, sizeof(*v));
free_cpu:
    free(cpu);
    return error_set(err, result, "cannot create vCPU %u: %s", index, strerror(-result));
}

static void dbt_vcpu_destroy(struct engine_vcpu *cpu)
{
    struct dbt_vcpu *v = cpu->v;

    if (v->vm->trace & TRACE_COUNTERS)
        trace_counters(v->vm, v);
    atomic_store(&v->vm->vcpu[v->index], NULL);
    lapic_free(v->lapic);
    free(v->runtime->slow);
    free(v->runtime);
    munmap(v, sizeof(*v));
    free(cpu);
}

/* While translated code runs, the stack pointer is the guest's. So only the signals that it may
 * raise itself are let in, and they get a stack of their own whatever the stack pointer says
 * (SS_AUTODISARM; else the kernel would believe a guest that points into that stack). */
static void signals_enter(struct dbt_runtime *r, sigset_t *mask, stack_t *stack)
{
    stack_t own = {
        .ss_sp = r->signal_stack,
        .ss_size = sizeof(r->signal_stack),
        .ss_flags = (int)SS_AUTODISARM,
    };
    sigset_t blocked;

    install_signals();
    sigfillset(&blocked);
    for (unsigned i = 0; i < ARRAY_SIZE(fault_signals); i++)
        sigdelset(&blocked, fault_signals[i]);
    pthread_sigmask(SIG_BLOCK, &blocked, mask);
    sigaltstack(&own, stack);
}

static void signals_leave(const sigset_t *mask, const stack_t *stack)
{
    sigaltstack(stack, NULL);
    pthread_sigmask(SIG_SETMASK, mask, NULL);
}

static void dbt_run(struct engine_vcpu *cpu, struct engine_exit *exit)
{
    struct dbt_vcpu *v = cpu->v;
    struct dbt_runtime *r = v->runtime;
    stack_t stack;
    sigset_t mask;

    signals_enter(r, &mask, &stack);
    syscall(SYS_arch_prctl, ARCH_SET_GS, v);
    running_vcpu = v;
    r->stopped_by_kick = false;
    dbt_unquiesce(v);
    if (v->exception.pending)
        dispatch_deliver_pending(v);
    if (r->taken_vector >= 0) {
        interrupt_deliver_external(v, (uint8_t)r->taken_vector);
        r->taken_vector = -1;
    }
    dispatch_run(v);
    dbt_simd_unload(v);
    dbt_quiesce(v);
    running_vcpu = NULL;
    signals_leave(&mask, &stack);

    exit->error.text[0] = '\0';
    if (r->stopped_by_kick) {
        exit->kind = ENGINE_EXIT_KICKED;
    } else if (r->failure.text[0]) {
        exit->kind = ENGINE_EXIT_FAILED;
        exit->error = r->failure;
        r->failure.text[0] = '\0';
        v->shutdown = false;
    } else if (!v->shutdown) {
        exit->kind = ENGINE_EXIT_DEBUG;
        exit->breakpoint = r->debugger.stop;
        r->debugger.stop = DEBUGGER_GOES_ON;
    } else {
        exit->kind = ENGINE_EXIT_SHUTDOWN;
        v->shutdown = false;
    }
}

static void dbt_kick(struct engine_vcpu *cpu)
{
    atomic_store(&cpu->v->runtime->kicked, true);
    dbt_attend(cpu->v);
}

static int dbt_get_state(struct engine_vcpu *cpu, struct x86_vcpu_state *state, unsigned mask)
{
    dbt_save_state(cpu->v, state, mask);
    if (mask & (X86_STATE_LAPIC | X86_STATE_SYSTEM)) {
        uint64_t base, deadline;
        uint8_t page[sizeof(state->lapic)];

        lapic_save(cpu->v->lapic, page, &base, &deadline);
        if (mask & X86_STATE_SYSTEM)
            state->apic_base = base;
        if (mask & X86_STATE_LAPIC)
            memcpy(state->lapic, page, sizeof(page));
        if (mask & X86_STATE_MSR)
            state->msr.tsc_deadline = deadline;
    }
    return 0;
}

static int dbt_set_state(struct engine_vcpu *cpu, const struct x86_vcpu_state *state, unsigned mask)
{
    dbt_load_state(cpu->v, state, mask);
    if (mask & X86_STATE_LAPIC) {
        int result =
            lapic_load(cpu->v->lapic, state->lapic, state->apic_base, state->msr.tsc_deadline);

        if (result < 0)
            return result;
    }
    if (mask & X86_STATE_SYSTEM)
        lapic_cr8_write(cpu->v->lapic, state->cr8);
    dbt_attend(cpu->v);
    return 0;
}

static int dbt_set_debug(struct engine_vcpu *cpu, const struct engine_debug *debug)
{
    cpu->v->runtime->debugger.wanted = *debug;
    debugger_update(cpu->v);
    return 0;
}

static void tell_stats(struct engine_vm *e, const struct stats *to)
{
    dbt_stats(&e->dbt, to);
}

static void dbt_msi_send(struct engine_vm *e, const struct msi_message *message)
{
    lapic_bus_send(e->dbt.lapic_bus, message);
}

static void dbt_extint_set(struct engine_vm *e, bool level)
{
    lapic_bus_extint(e->dbt.lapic_bus, level);
}

static void dbt_nmi(struct engine_vcpu *cpu)
{
    lapic_nmi(cpu->v->lapic);
}

const struct engine_ops engine_dbt = {
    .name = "dbt",
    .description = "binary translator, no hardware virtualization needed",
    .probe = host_probe,
    .vm_create = dbt_vm_create,
    .vm_destroy = dbt_vm_destroy,
    .memory_changed = dbt_memory_changed,
    .time_hold = dbt_time_hold,
    .vcpu_create = dbt_vcpu_create,
    .vcpu_destroy = dbt_vcpu_destroy,
    .run = dbt_run,
    .kick = dbt_kick,
    .get_state = dbt_get_state,
    .set_state = dbt_set_state,
    .set_debug = dbt_set_debug,
    .stats = tell_stats,
    .msi_send = dbt_msi_send,
    .extint_set = dbt_extint_set,
    .nmi = dbt_nmi,
};
