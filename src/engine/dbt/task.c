/*
 * The task-state segment: see task.h. Intel SDM volume 3, 8.2 (layouts), 8.3 (task switching);
 * volume 1, 19.5.2 (I/O permission). vCPU thread.
 *
 * A task switch reads the whole new TSS first, then saves the old task, then loads the new one:
 * what can fault before anything has changed does so early.
 */
#include "engine/dbt/debug.h"
#include "engine/dbt/task.h"
#include "engine/dbt/interrupt.h"
#include "engine/dbt/operand.h"
#include "engine/dbt/stack.h"

/* Offsets in the TSS of each width. */
#define TSS64_RSP(level) (4u + 8 * (level))
#define TSS64_IST(slot) (0x24u + 8 * ((slot)-1))
#define TSS32_STACK(level) (4u + 8 * (level))
#define TSS16_STACK(level) (2u + 4 * (level))
#define TSS_IO_BASE 0x66u

/* 32-bit TSS, in dwords (8.2.1). */
enum {
    TSS32_LINK = 0,
    TSS32_CR3 = 0x1c / 4,
    TSS32_EIP = 0x20 / 4,
    TSS32_EFLAGS = 0x24 / 4,
    TSS32_GPR = 0x28 / 4,
    TSS32_SEGMENT = 0x48 / 4,
    TSS32_LDT = 0x60 / 4,
    TSS32_TRAP = 0x64 / 4,
    TSS32_WORDS = 0x68 / 4,
};

/* 16-bit TSS, in words (8.6). */
enum {
    TSS16_LINK = 0,
    TSS16_IP = 0x0e / 2,
    TSS16_FLAGS = 0x10 / 2,
    TSS16_GPR = 0x12 / 2,
    TSS16_SEGMENT = 0x22 / 2,
    TSS16_LDT = 0x2a / 2,
    TSS16_WORDS = 0x2c / 2,
};

/* What a TSS holds of its task, in either width. */
struct task_state {
    uint32_t cr3, eip, eflags;
    uint32_t gpr[8];
    uint16_t segment[X86_SEGMENT_COUNT];
    uint16_t ldt;
    bool trap;
};

static bool tss_is_32bit(const struct x86_segment *tss)
{
    return X86_SEGMENT_TYPE(tss->attributes) & 8;
}

static enum dbt_result tss_read(struct dbt_vcpu *v, unsigned offset, void *to, unsigned size,
                                uint32_t ext)
{
    if (offset + size - 1 > v->tr.limit)
        return raise_selector(v, X86_VECTOR_TS, v->tr.selector, ext);
    return mmu_read(v, v->tr.base + offset, to, size, MMU_READ | MMU_IMPLICIT);
}

static enum dbt_result tss_read_stack64(struct dbt_vcpu *v, unsigned offset, uint32_t ext,
                                        uint64_t *rsp)
{
    uint64_t value;

    if (tss_read(v, offset, &value, 8, ext) == DBT_FAULT)
        return DBT_FAULT;
    if (!is_canonical(value))
        return dbt_raise_error(v, X86_VECTOR_SS, ext);
    *rsp = value;
    return DBT_NEXT;
}

enum dbt_result tss_read_rsp(struct dbt_vcpu *v, unsigned level, uint32_t ext, uint64_t *rsp)
{
    return tss_read_stack64(v, TSS64_RSP(level), ext, rsp);
}

enum dbt_result tss_read_ist(struct dbt_vcpu *v, unsigned slot, uint32_t ext, uint64_t *rsp)
{
    return tss_read_stack64(v, TSS64_IST(slot), ext, rsp);
}

enum dbt_result tss_read_stack(struct dbt_vcpu *v, unsigned level, uint32_t ext, uint16_t *ss,
                               uint32_t *esp)
{
    uint16_t words[3];

    if (!tss_is_32bit(&v->tr)) {
        if (tss_read(v, TSS16_STACK(level), words, 4, ext) == DBT_FAULT)
            return DBT_FAULT;
        *esp = words[0];
        *ss = words[1];
        return DBT_NEXT;
    }
    if (tss_read(v, TSS32_STACK(level), words, 6, ext) == DBT_FAULT)
        return DBT_FAULT;
    *esp = words[0] | (uint32_t)words[1] << 16;
    *ss = words[2];
    return DBT_NEXT;
}

enum dbt_result tss_check_io(struct dbt_vcpu *v, uint16_t port, unsigned size)
{
    unsigned iopl = (v->flags_sys & X86_FLAG_IOPL) >> X86_FLAG_IOPL_SHIFT;
    uint16_t base, bits;

    if (!(v->mode & DBT_MODE_VM86) && dbt_cpl(v) <= iopl)
        return DBT_NEXT;
    if (!(v->tr.attributes & X86_SEGMENT_PRESENT) || !tss_is_32bit(&v->tr) ||
        v->tr.limit < TSS_IO_BASE + 1)
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if (mmu_read(v, v->tr.base + TSS_IO_BASE, &base, 2, MMU_READ | MMU_IMPLICIT) == DBT_FAULT)
        return DBT_FAULT;
    /* Two bytes are always read, so the byte after the last one in use must be in the TSS too. */
    if (base + port / 8u + 1 > v->tr.limit)
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if (mmu_read(v, v->tr.base + base + port / 8, &bits, 2, MMU_READ | MMU_IMPLICIT) == DBT_FAULT)
        return DBT_FAULT;
    if (bits >> port % 8 & ((1u << size) - 1))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    return DBT_NEXT;
}

/* --- task switches --- */

static enum dbt_result read_state(struct dbt_vcpu *v, const struct x86_segment *tss,
                                  struct task_state *state)
{
    uint32_t dword[TSS32_WORDS];
    uint16_t word[TSS16_WORDS];

    if (tss_is_32bit(tss)) {
        if (mmu_read(v, tss->base, dword, sizeof(dword), MMU_READ | MMU_IMPLICIT) == DBT_FAULT)
            return DBT_FAULT;
        state->cr3 = dword[TSS32_CR3];
        state->eip = dword[TSS32_EIP];
        state->eflags = dword[TSS32_EFLAGS];
        for (unsigned i = 0; i < 8; i++)
            state->gpr[i] = dword[TSS32_GPR + i];
        for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
            state->segment[i] = dword[TSS32_SEGMENT + i];
        state->ldt = dword[TSS32_LDT];
        state->trap = dword[TSS32_TRAP] & 1;
        return DBT_NEXT;
    }
    if (mmu_read(v, tss->base, word, sizeof(word), MMU_READ | MMU_IMPLICIT) == DBT_FAULT)
        return DBT_FAULT;
    state->cr3 = (uint32_t)v->cr3; /* a 16-bit task keeps the address space */
    state->eip = word[TSS16_IP];
    state->eflags = word[TSS16_FLAGS];
    for (unsigned i = 0; i < 8; i++)
        state->gpr[i] = 0xffff0000 | word[TSS16_GPR + i]; /* upper halves are undefined */
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        state->segment[i] = i <= X86_DS ? word[TSS16_SEGMENT + i] : 0;
    state->ldt = word[TSS16_LDT];
    state->trap = false;
    return DBT_NEXT;
}

/* Stores the running task's registers: the part of its TSS from (E)IP to the segments. */
static enum dbt_result save_state(struct dbt_vcpu *v, uint64_t resume, uint64_t eflags)
{
    uint32_t dword[TSS32_LDT];
    uint16_t word[TSS16_LDT];

    if (tss_is_32bit(&v->tr)) {
        dword[TSS32_EIP] = resume;
        dword[TSS32_EFLAGS] = eflags;
        for (unsigned i = 0; i < 8; i++)
            dword[TSS32_GPR + i] = v->gpr[i];
        for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
            dword[TSS32_SEGMENT + i] = v->segment[i].selector;
        return mmu_write(v, v->tr.base + TSS32_EIP * 4, &dword[TSS32_EIP],
                         (TSS32_LDT - TSS32_EIP) * 4, MMU_WRITE | MMU_IMPLICIT);
    }
    word[TSS16_IP] = resume;
    word[TSS16_FLAGS] = eflags;
    for (unsigned i = 0; i < 8; i++)
        word[TSS16_GPR + i] = v->gpr[i];
    for (unsigned i = 0; i <= X86_DS; i++)
        word[TSS16_SEGMENT + i] = v->segment[i].selector;
    return mmu_write(v, v->tr.base + TSS16_IP * 2, &word[TSS16_IP], (TSS16_LDT - TSS16_IP) * 2,
                     MMU_WRITE | MMU_IMPLICIT);
}

static enum dbt_result load_ldt(struct dbt_vcpu *v, uint16_t selector)
{
    struct descriptor d;

    if (selector_is_null(selector))
        return DBT_NEXT;
    if (selector & X86_SELECTOR_TI)
        return raise_selector(v, X86_VECTOR_TS, selector, 0);
    if (descriptor_read(v, selector, X86_VECTOR_TS, 0, &d) == DBT_FAULT)
        return DBT_FAULT;
    if (descriptor_is_segment(&d) || descriptor_type(&d) != X86_TYPE_LDT || !descriptor_present(&d))
        return raise_selector(v, X86_VECTOR_TS, selector, 0);
    descriptor_unpack(&d, selector, &v->ldtr);
    return DBT_NEXT;
}

static enum dbt_result load_code_segment(struct dbt_vcpu *v, uint16_t selector)
{
    unsigned rpl = X86_SELECTOR_RPL(selector);
    struct descriptor d;

    if (selector_is_null(selector))
        return raise_selector(v, X86_VECTOR_TS, selector, 0);
    if (descriptor_read(v, selector, X86_VECTOR_TS, 0, &d) == DBT_FAULT)
        return DBT_FAULT;
    if (!descriptor_is_code(&d) ||
        (descriptor_is_conforming_code(&d) ? descriptor_dpl(&d) > rpl : descriptor_dpl(&d) != rpl))
        return raise_selector(v, X86_VECTOR_TS, selector, 0);
    if (!descriptor_present(&d))
        return raise_selector(v, X86_VECTOR_NP, selector, 0);
    if (descriptor_set_type(v, &d, X86_TYPE_ACCESSED, 0) == DBT_FAULT)
        return DBT_FAULT;
    descriptor_unpack(&d, selector, &v->segment[X86_CS]);
    return DBT_NEXT;
}

/* Descriptors of the new task, checked one by one (8.3, table 8-1). */
static enum dbt_result load_segments(struct dbt_vcpu *v, const struct task_state *state)
{
    static const uint8_t data[] = {X86_ES, X86_DS, X86_FS, X86_GS};
    unsigned cpl = X86_SELECTOR_RPL(state->segment[X86_CS]);

    if (load_ldt(v, state->ldt) == DBT_FAULT)
        return DBT_FAULT;
    if (state->eflags & X86_FLAG_VM)
        return DBT_NEXT;
    if (load_code_segment(v, state->segment[X86_CS]) == DBT_FAULT ||
        segment_fetch_stack(v, state->segment[X86_SS], cpl, X86_VECTOR_TS, 0,
                            &v->segment[X86_SS]) == DBT_FAULT)
        return DBT_FAULT;
    for (unsigned i = 0; i < ARRAY_SIZE(data); i++)
        if (segment_fetch_data(v, state->segment[data[i]], cpl, X86_VECTOR_TS,
                               &v->segment[data[i]]) == DBT_FAULT)
            return DBT_FAULT;
    return DBT_NEXT;
}

/* Registers of the new task; segments hold their selectors, unusable until load_segments(). */
static void load_registers(struct dbt_vcpu *v, const struct task_state *state, uint64_t eflags)
{
    unsigned cpl = X86_SELECTOR_RPL(state->segment[X86_CS]);

    v->cr0 |= X86_CR0_TS;
    v->dr7 &= ~0x155ull; /* the local breakpoint enables are the old task's */
    debug_update(v);
    v->rip = state->eip;
    dbt_rflags_set(v, eflags);
    for (unsigned i = 0; i < 8; i++)
        v->gpr[i] = state->gpr[i];
    segment_make_null(&v->ldtr, state->ldt, 0);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        segment_make_null(&v->segment[i], state->segment[i], cpl);
    mode_update(v);
    if (v->mode & DBT_MODE_VM86)
        for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
            segment_fetch_real(v, i, state->segment[i], &v->segment[i]);
}

/* The TSS that `selector` names, usable for a switch of this kind. */
static enum dbt_result fetch_tss(struct dbt_vcpu *v, uint16_t selector, enum task_switch_kind kind,
                                 uint32_t ext, struct descriptor *d, struct x86_segment *tss)
{
    uint8_t vector = kind == TASK_SWITCH_IRET ? X86_VECTOR_TS : X86_VECTOR_GP;
    unsigned busy = kind == TASK_SWITCH_IRET ? 2 : 0;

    if ((selector & X86_SELECTOR_TI) || selector_is_null(selector))
        return raise_selector(v, vector, selector, ext);
    if (descriptor_read(v, selector, vector, ext, d) == DBT_FAULT)
        return DBT_FAULT;
    if (descriptor_is_segment(d) || (descriptor_type(d) & ~8u) != (X86_TYPE_TSS16 | busy))
        return raise_selector(v, vector, selector, ext);
    if (!descriptor_present(d))
        return raise_selector(v, X86_VECTOR_NP, selector, ext);
    descriptor_unpack(d, selector, tss);
    if (tss->limit < (tss_is_32bit(tss) ? TSS32_WORDS * 4 - 1 : TSS16_WORDS * 2 - 1))
        return raise_selector(v, X86_VECTOR_TS, selector, ext);
    return DBT_NEXT;
}

/* Links the tasks and moves the busy bits: the last steps that may fault in the old task. */
static enum dbt_result link_tasks(struct dbt_vcpu *v, enum task_switch_kind kind,
                                  struct descriptor *d, const struct x86_segment *tss)
{
    bool nests = kind == TASK_SWITCH_CALL || kind == TASK_SWITCH_GATE;
    struct descriptor old;

    if (nests) {
        if (mmu_write(v, tss->base, &v->tr.selector, 2, MMU_WRITE | MMU_IMPLICIT) == DBT_FAULT)
            return DBT_FAULT;
    } else {
        if (descriptor_read(v, v->tr.selector, X86_VECTOR_TS, 0, &old) == DBT_FAULT ||
            descriptor_set_type(v, &old, 0, 2) == DBT_FAULT)
            return DBT_FAULT;
    }
    return descriptor_set_type(v, d, 2, 0);
}

static enum dbt_result push_error(struct dbt_vcpu *v, uint32_t error)
{
    struct stack stack;

    stack_init(&stack, v);
    if (stack_push(&stack, tss_is_32bit(&v->tr) ? 4 : 2, error) == DBT_FAULT)
        return DBT_FAULT;
    stack_commit(&stack);
    return DBT_NEXT;
}

enum dbt_result task_switch(struct dbt_vcpu *v, uint16_t selector, enum task_switch_kind kind,
                            uint64_t resume, const uint32_t *error, uint32_t ext)
{
    uint64_t old_flags = dbt_rflags_get(v);
    struct task_state state;
    struct x86_segment tss;
    struct descriptor d;
    uint64_t new_flags;

    if (fetch_tss(v, selector, kind, ext, &d, &tss) == DBT_FAULT ||
        read_state(v, &tss, &state) == DBT_FAULT)
        return DBT_FAULT;
    if (kind == TASK_SWITCH_IRET)
        old_flags &= ~X86_FLAG_NT;
    if (save_state(v, resume, old_flags) == DBT_FAULT || link_tasks(v, kind, &d, &tss) == DBT_FAULT)
        return DBT_FAULT;

    new_flags = state.eflags;
    if (kind == TASK_SWITCH_CALL || kind == TASK_SWITCH_GATE)
        new_flags |= X86_FLAG_NT;
    descriptor_unpack(&d, selector, &v->tr);
    load_registers(v, &state, new_flags);
    if ((v->cr0 & X86_CR0_PG) && state.cr3 != v->cr3 && !mmu_set_cr3(v, state.cr3, false))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if (load_segments(v, &state) == DBT_FAULT) {
        mode_update(v);
        return DBT_FAULT;
    }
    mode_update(v);
    if (error && push_error(v, *error) == DBT_FAULT)
        return DBT_FAULT;
    if (!segment_contains(&v->segment[X86_CS], v->rip, 1))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if (state.trap) {
        interrupt_set_dr6(v, X86_DR6_BT);
        return dbt_raise(v, X86_VECTOR_DB);
    }
    return DBT_JUMP;
}

enum dbt_result task_switch_gate(struct dbt_vcpu *v, const struct descriptor *gate,
                                 enum task_switch_kind kind, uint64_t resume, const uint32_t *error,
                                 uint32_t ext)
{
    return task_switch(v, gate->low >> 16, kind, resume, error, ext);
}

enum dbt_result task_return(struct dbt_vcpu *v, uint64_t resume)
{
    uint16_t link;

    if (tss_read(v, TSS32_LINK, &link, 2, 0) == DBT_FAULT)
        return DBT_FAULT;
    return task_switch(v, link, TASK_SWITCH_IRET, resume, NULL, 0);
}
