/* The dispatcher; see dispatch.h. */
#include "engine/dbt/dispatch.h"
#include "engine/dbt/debug.h"
#include "engine/dbt/operand.h"
#include "engine/dbt/trace.h"
#include "x86/arch.h"

static uint64_t rip_at(const struct dbt_vcpu *v, int32_t offset)
{
    return dbt_rip_of(v, v->page_base + (uint64_t)(int64_t)offset);
}

void *dispatch_memory(struct dbt_vcpu *v, gva_t address)
{
    uint32_t info = v->insn_info;
    uint32_t generation = v->runtime->generation, drops = v->runtime->pin_drops;
    enum dbt_result result;
    void *host;

    v->rip = rip_at(v, (int32_t)(info & 0x1fff));
    host = mmu_access_host(v, address, info >> 13 & 0xfff, info >> 31, &result);
    if (host && (v->runtime->generation != generation || v->runtime->pin_drops != drops))
        host = NULL; /* the code that called is no more, or what it has checked is not true now */
    if (!host) {
        /* A non-canonical address is #GP or #SS, by the segment, which slow.c knows. */
        bool slow = result != DBT_FAULT || (info >> 30 & 1) || v->exception.vector == X86_VECTOR_GP;

        v->runtime->leave = slow ? LEAVE_SLOW : LEAVE_FAULT;
        return NULL;
    }
    if (!v->simd_live)
        dbt_simd_load(v);
    v->resume_code = v->vm->cache.rx + v->resume_offset;
    return host;
}

const void *dispatch_pin(struct dbt_vcpu *v, uint64_t offset)
{
    gva_t address = offset - v->pin_neg[mmu_bank(v)];
    bool pinned = (address & (GUEST_PAGE_SIZE - 1)) <= v->pin_limit && mmu_pin(v, address);

    return v->vm->cache.rx + (pinned ? v->resume_offset : v->unpinned_offset);
}

static const void *share(struct dbt_vcpu *v, gva_t address, bool write)
{
    bool there = (address & (GUEST_PAGE_SIZE - 1)) <= v->pin_limit && mmu_ready(v, address, write);

    return v->vm->cache.rx + (there ? v->resume_offset : v->unpinned_offset);
}

const void *dispatch_share_read(struct dbt_vcpu *v, gva_t address)
{
    return share(v, address, false);
}

const void *dispatch_share_write(struct dbt_vcpu *v, gva_t address)
{
    return share(v, address, true);
}

/* #UD or #NM for a vector instruction whose unit is off (Intel SDM volume 3, table 2-2). */
enum dbt_result dispatch_unit_off(struct dbt_vcpu *v, enum vector_unit unit)
{
    switch (unit) {
    case UNIT_X87:
        if (v->cr0 & (X86_CR0_EM | X86_CR0_TS))
            return dbt_raise(v, X86_VECTOR_NM);
        break;
    case UNIT_AVX:
        if (!(v->cr4 & X86_CR4_OSXSAVE) || (v->xcr0 & 6) != 6)
            break;
        if (v->cr0 & X86_CR0_TS)
            return dbt_raise(v, X86_VECTOR_NM);
        break;
    case UNIT_XSAVE:
        if (!(v->cr4 & X86_CR4_OSXSAVE))
            break;
        if (v->cr0 & X86_CR0_TS)
            return dbt_raise(v, X86_VECTOR_NM);
        break;
    case UNIT_MMX:
    case UNIT_FXSAVE:
    case UNIT_SSE:
        if ((v->cr0 & X86_CR0_EM) && unit != UNIT_FXSAVE)
            break;
        if (unit == UNIT_SSE && !(v->cr4 & X86_CR4_OSFXSR))
            break;
        if (v->cr0 & (X86_CR0_TS | X86_CR0_EM))
            return dbt_raise(v, X86_VECTOR_NM);
        break;
    }
    return dbt_raise(v, X86_VECTOR_UD);
}

/* In words, which for so few bytes is faster than the host's string instructions. */
static void insn_copy(struct insn *to, const struct insn *from)
{
    _Static_assert(sizeof(*to) % sizeof(uint64_t) == 0, "copied in words");
    const uint64_t *source = (const uint64_t *)from;
    uint64_t *destination = (uint64_t *)to;

    for (unsigned i = 0; i < sizeof(*to) / sizeof(uint64_t); i++)
        destination[i] = source[i];
}

/* Removes the jump cache entries for rip. */
static void jump_forget(struct dbt_vcpu *v)
{
    gva_t linear = dbt_linear_of(v, v->rip);

    for (unsigned level = 0; level < DBT_JUMP_LEVELS; level++) {
        unsigned index = dbt_jump_index(level, linear);

        for (unsigned slot = 0; slot < atomic_load(&v->vm->mode_count); slot++)
            if (v->jump[level][slot][index].neg_linear == -linear)
                v->jump[level][slot][index].neg_linear = DBT_JUMP_INVALID;
    }
}

/* The block for the instruction at `gpa` that goes on in `second_page`, or NULL. */
static struct dbt_block *find_crossing(struct dbt_vcpu *v, gpa_t gpa, gpa_t second_page)
{
    struct dbt_runtime *r = v->runtime;
    struct dbt_crossing *known = &r->crossing[gpa >> GUEST_PAGE_SHIFT & 255];
    struct dbt_block *block;

    /* No instruction that goes on in another page is at address 0, as in an unused entry. */
    if (known->gpa == gpa && known->second_page == second_page && known->mode == v->mode &&
        known->generation == r->generation && known->block->valid)
        return known->block;
    block = cache_find_crossing(&v->vm->cache, gpa, v->mode, second_page);
    if (block)
        *known = (struct dbt_crossing){gpa, second_page, v->mode, r->generation, block};
    return block;
}

/* The instruction at rip lies on two pages, which need not stay neighbours: its block is found by
 * both each time. */
static enum dbt_result enter_crossing(struct dbt_vcpu *v, const void **code)
{
    struct dbt_block *block;
    uint8_t *host, *second_host;
    gva_t linear, next;
    gpa_t gpa, second;

    if (!dispatch_linear_rip(v, &linear) || mmu_fetch(v, linear, &gpa, &host) == DBT_FAULT)
        return DBT_FAULT;
    next = ALIGN_DOWN(linear, GUEST_PAGE_SIZE) + GUEST_PAGE_SIZE;
    if (!(v->mode & DBT_MODE_CODE64)) {
        next = (uint32_t)next;
        if (dbt_rip_of(v, next) > v->segment[X86_CS].limit)
            return dbt_raise_error(v, X86_VECTOR_GP, 0);
    }
    if (mmu_fetch(v, next, &second, &second_host) == DBT_FAULT)
        return DBT_FAULT;
    if (!host || !second_host)
        return slow_execute(v);
    block = find_crossing(v, gpa, second);
    *code = block ? v->vm->cache.rx + block->entry_indirect
                  : runtime_find_crossing(v, gpa, host, second, second_host);
    return *code ? DBT_NEXT : slow_execute(v);
}

/* Somebody looks at the result of whatever leaves a block: nothing may leave only to go on. */
static bool is_debugged(const struct dbt_vcpu *v)
{
    return v->data_breakpoints || v->runtime->debugger.active;
}

/* #GP(0) for a jump to a non-canonical address: at the jump, if that is known. */
static enum dbt_result jump_astray(struct dbt_vcpu *v)
{
    uint32_t branch = v->branch;

    /* A jump to the address that the first table has may have left no note. */
    if ((branch & DBT_BRANCH_KNOWN) && v->scratch[0] != -DBT_JUMP_FIRST) {
        v->rip = rip_at(v, (int32_t)(branch & (GUEST_PAGE_SIZE - 1)));
        v->gpr[X86_RSP] -= (uint64_t)((int32_t)branch >> DBT_BRANCH_POPPED_SHIFT);
    }
    return dbt_raise_error(v, X86_VECTOR_GP, 0);
}

/* Whether a SYSCALL from 64-bit code, or a SYSRET to it, has just been executed of the kind that
 * fastcall.c repeats; *call is where that is noted. */
static bool is_fast_call(struct dbt_vcpu *v, uint32_t from, struct dbt_fast_call **call)
{
    const uint64_t cleared = DBT_ARITH_FLAGS | X86_FLAG_TF | X86_FLAG_IF | X86_FLAG_AC;

    switch (v->runtime->insn.mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
        *call = &v->fast_call[0];
        return (from & DBT_MODE_CODE64) && (v->msr.sfmask & cleared) == cleared;
    case ZYDIS_MNEMONIC_SYSRET:
        *call = &v->fast_call[1];
        return (v->mode & DBT_MODE_CODE64) && dbt_cpl(v) == 3 && v->flags_sys == 0;
    default:
        return false;
    }
}

static void note_fast_call(struct dbt_vcpu *v, uint32_t from)
{
    struct dbt_fast_call *call;
    unsigned slot;

    if (!is_fast_call(v, from, &call) || !dispatch_mode_slot(v, v->mode, &slot))
        return;
    *call = (struct dbt_fast_call){
        .from = from,
        .to = v->mode,
        .cs = v->segment[X86_CS],
        .ss = v->segment[X86_SS],
        .flags_kept = ~(v->msr.sfmask | X86_FLAG_RF),
        .first_entry = slot * DBT_JUMP_SIZE * 2,
    };
}

/* What one exit led to. DBT_NEXT: go on at *code, which the record gives. */
static enum dbt_result handle_record(struct dbt_vcpu *v, const struct exit_record *record,
                                     const void **code, const struct insn **in_c)
{
    struct dbt_vm *vm = v->vm;
    uint32_t generation = v->runtime->generation, resume = record->resume;
    uint32_t from = v->mode;
    enum dbt_result result;

    v->runtime->counters.exits[record->kind]++;
    v->rip = record->kind == EXIT_LOOKUP ? dbt_rip_of(v, v->scratch[0]) : rip_at(v, record->offset);
    switch ((enum exit_kind)record->kind) {
    case EXIT_LOOKUP:
        if ((v->mode & DBT_MODE_CODE64) && !is_canonical(v->rip))
            return jump_astray(v);
        return DBT_JUMP;
    case EXIT_CHAIN:
        if (!atomic_load_explicit(&v->attention, memory_order_relaxed))
            runtime_link(v, record);
        return DBT_JUMP;
    case EXIT_UNPIN:
        runtime_link(v, record);
        if (is_debugged(v))
            return slow_execute(v);
        *code = runtime_find(v, DBT_MODE_NO_PIN);
        return *code ? DBT_NEXT : DBT_FAULT;
    case EXIT_INSN:
        /* A copy: the record may go with the cache while a board callback runs. */
        insn_copy(&v->runtime->insn, record->insn);
        *in_c = &v->runtime->insn;
        v->runtime->counters.in_c[v->runtime->insn.mnemonic]++;
        result = insn_execute(v, &v->runtime->insn);
        if (result == DBT_JUMP)
            note_fast_call(v, from);
        /* The block may have been written over, by the instruction or by another vCPU. A device
         * that has interrupted is heard now, so that a later STI knows. */
        if (result == DBT_NEXT && v->runtime->generation == generation && resume &&
            record->block->valid && !(v->interrupt_waiting && v->iflag) &&
            !atomic_load_explicit(&v->attention, memory_order_relaxed))
            *code = vm->cache.rx + resume;
        else if (result == DBT_NEXT)
            result = DBT_JUMP;
        return result;
    case EXIT_CROSS:
        if (is_debugged(v))
            return slow_execute(v);
        return enter_crossing(v, code);
    case EXIT_SLOW:
        return slow_execute(v);
    case EXIT_FPU:
        return dispatch_unit_off(v, record->unit);
    case EXIT_UNDEFINED:
        return dbt_raise(v, X86_VECTOR_UD);
    case EXIT_YIELD:
        runtime_yield(v);
        return DBT_JUMP;
    case EXIT_DEAD:
        jump_forget(v);
        return DBT_JUMP;
    default:
        return DBT_JUMP;
    }
}

bool dispatch_mode_slot(const struct dbt_vcpu *v, uint32_t mode, unsigned *slot)
{
    const struct dbt_runtime *r = v->runtime;

    for (*slot = 0; *slot < r->mode_count; (*slot)++)
        if (r->modes[*slot] == mode)
            return true;
    return false;
}

bool dispatch_linear_rip(struct dbt_vcpu *v, gva_t *linear)
{
    if (!(v->mode & DBT_MODE_CODE64) && v->rip > v->segment[X86_CS].limit) {
        dbt_raise_error(v, X86_VECTOR_GP, 0);
        return false;
    }
    *linear = dbt_linear_of(v, v->rip);
    return true;
}

/* Puts an entry in its place; what was there in the first table goes to the second. */
static void enter_jump(struct dbt_vcpu *v, unsigned level, unsigned slot, bool global,
                       struct dbt_jump_entry new)
{
    struct dbt_runtime *r = v->runtime;
    unsigned index = dbt_jump_index(level, -new.neg_linear);
    struct dbt_jump_entry *entry = &v->jump[level][slot][index], old = *entry;

    if (!index)
        return; /* the entry that attention leads to */
    fill_list_add(&r->jump_filled[slot][global], level * DBT_JUMP_SIZE + index);
    *entry = new;
    /* Whether the old one is global is not known, so it counts as one that is not. */
    if (level == 0 && old.neg_linear != DBT_JUMP_INVALID && old.neg_linear != new.neg_linear)
        enter_jump(v, 1, slot, false, old);
}

void dispatch_enter_jump(struct dbt_vcpu *v, unsigned slot, gva_t linear,
                         const struct dbt_block *block)
{
    v->runtime->jump_dirty |= 1u << slot;
    enter_jump(v, 0, slot, mmu_fetched_global(v, linear),
               (struct dbt_jump_entry){
                   .neg_linear = -linear,
                   .code = v->vm->cache.rx + block->entry_indirect,
               });
}

/* Code for rip that exists already: from the jump cache, else from the code cache. NULL: none, or
 * an exception, which runtime_find() will meet again. */
static const void *find_existing(struct dbt_vcpu *v)
{
    struct dbt_block *block;
    unsigned slot;
    uint8_t *host;
    gva_t linear;
    gpa_t gpa;

    if (!dispatch_mode_slot(v, v->mode, &slot) || !dispatch_linear_rip(v, &linear))
        return NULL;
    for (unsigned level = 0; level < DBT_JUMP_LEVELS; level++) {
        unsigned index = dbt_jump_index(level, linear);

        if (index && v->jump[level][slot][index].neg_linear == -linear)
            return v->jump[level][slot][index].code;
    }
    if (mmu_fetch(v, linear, &gpa, &host) == DBT_FAULT)
        return NULL;
    block = cache_find(&v->vm->cache, gpa, v->mode);
    if (!block)
        return NULL;
    dispatch_enter_jump(v, slot, linear, block);
    return v->vm->cache.rx + block->entry_indirect;
}

/* The vector registers come back from v->xsave. */
void dbt_simd_load(struct dbt_vcpu *v)
{
    v->simd_live = 1;
    __asm__ volatile("xrstor64 %0" : : "m"(v->xsave), "a"(7), "d"(0) : "memory");
}

void dispatch_deliver_pending(struct dbt_vcpu *v)
{
    v->runtime->counters.exceptions[v->exception.vector & 31]++;
    if (v->vm->trace & TRACE_EXCEPTIONS)
        trace_exception(v);
    interrupt_deliver_exception(v);
    v->exception.pending = false;
    debugger_after(v);
}

void dispatch_run(struct dbt_vcpu *v)
{
    struct dbt_runtime *r = v->runtime;
    const void *code = NULL;

    for (;;) {
        enum dbt_result result = DBT_JUMP;
        const struct insn *in_c = NULL;
        struct debug_step step;
        bool debugging;

        if (!code) {
            if (atomic_load(&v->attention) || v->run_state != X86_RUNNABLE ||
                (!v->shadow && ((v->interrupt_waiting && v->iflag) ||
                                (atomic_load_explicit(&v->nmi_pending, memory_order_relaxed) &&
                                 !v->nmi_blocked)))) {
                bool slept = v->run_state != X86_RUNNABLE;

                if (!runtime_attend(v))
                    return;
                if (slept && r->debugger.active)
                    debugger_after(v);
            }
            if (r->debugger.active && debugger_stops(v))
                return;
            if (debug_fetch(v)) {
                dispatch_deliver_pending(v);
                if (v->shutdown || r->debugger.stop != DEBUGGER_GOES_ON)
                    return;
                continue;
            }
            if (v->shadow || (r->debugger.active && debugger_wants_one(v))) {
                v->shadow = DBT_SHADOW_NONE;
                code = runtime_find(v, DBT_MODE_ONE);
            } else {
                code = find_existing(v);
                if (!code)
                    code = runtime_find(v, 0);
            }
            if (!code) {
                dispatch_deliver_pending(v);
                if (v->shutdown || r->debugger.stop != DEBUGGER_GOES_ON)
                    return;
                continue;
            }
        }
        if (v->vm->trace & TRACE_DISPATCH)
            trace_dispatch(v);
        debugging = (v->mode & (DBT_MODE_TF | DBT_MODE_DEBUG)) || is_debugged(v);
        if (debugging)
            step = debug_before(v);
        if (!v->simd_live)
            dbt_simd_load(v);
        r->leave = LEAVE_RECORD;
        v->scratch[0] = dbt_linear_of(v, v->rip);
        v->vm->enter(v, code);
        code = NULL;
        if (v->vm->trace & TRACE_EXITS)
            trace_exit(v);
        if (r->leave == LEAVE_FAULT)
            result = DBT_FAULT;
        else if (r->leave == LEAVE_SLOW)
            result = slow_execute(v);
        else
            result = handle_record(
                v, (const struct exit_record *)(v->vm->cache.meta + v->insn_info), &code, &in_c);

        if (result == DBT_FAULT) {
            code = NULL;
            v->debug_hits = 0;
            v->debug_held = 0;
            if (r->debugger.active)
                debugger_undo(v);
            dispatch_deliver_pending(v);
        } else if (debugging) {
            code = NULL;
            debug_after(v, &step, in_c);
        }
        if (r->debugger.active)
            debugger_after(v);
        if (v->shutdown || r->debugger.stop != DEBUGGER_GOES_ON)
            return;
    }
}
