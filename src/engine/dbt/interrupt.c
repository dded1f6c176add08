/*
 * Delivery of exceptions and interrupts through the interrupt vector table or the IDT. Intel SDM
 * volume 3, chapter 6 (6.8.3 and 6.12 to 6.14), 20.1.4 (real mode), 20.2 and 20.3 (VM86).
 * vCPU thread: from the run loop and from the instructions that raise interrupts.
 *
 * A delivery computes and stores everything that can fault before it changes the first register, so
 * that an exception in the middle starts from the interrupted instruction's state. The order of a
 * long-mode delivery:
 *
 *     gate in IDT -> code descriptor in GDT -> stack from TSS -> frame stored -> registers
 */
#include "engine/dbt/interrupt.h"
#include "engine/dbt/operand.h"
#include "engine/dbt/stack.h"
#include "engine/dbt/task.h"

struct event {
    enum dbt_exception_kind kind;
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t rip; /* to be pushed */
};

/* Error codes that arise while an event is delivered say that it came from outside the program. */
static uint32_t event_ext(const struct event *e)
{
    return e->kind == DBT_EXC_SOFTWARE ? 0 : X86_ERROR_EXT;
}

static enum dbt_result raise_gate(struct dbt_vcpu *v, uint8_t vector, const struct event *e)
{
    return dbt_raise_error(v, vector, e->vector * 8u | X86_ERROR_IDT | event_ext(e));
}

/* RFLAGS as pushed: RF makes a restarted instruction skip its own breakpoint (18.3.1.1). */
static uint64_t event_rflags(const struct dbt_vcpu *v, const struct event *e)
{
    return dbt_rflags_get(v) | (e->kind == DBT_EXC_FAULT ? X86_FLAG_RF : 0);
}

static enum dbt_result finish(struct dbt_vcpu *v, const struct x86_segment *cs, uint64_t rip,
                              uint64_t clear_flags)
{
    v->segment[X86_CS] = *cs;
    v->rip = rip;
    dbt_rflags_set(v, dbt_rflags_get(v) & ~clear_flags);
    v->shadow = DBT_SHADOW_NONE;
    mode_update(v);
    return DBT_JUMP;
}

static enum dbt_result deliver_real(struct dbt_vcpu *v, const struct event *e)
{
    struct x86_segment cs;
    struct stack stack;
    uint16_t entry[2]; /* IP, CS */

    if (e->vector * 4u + 3 > v->idtr.limit)
        return dbt_raise(v, X86_VECTOR_GP);
    if (mmu_read(v, v->idtr.base + e->vector * 4u, entry, 4, MMU_READ | MMU_IMPLICIT) == DBT_FAULT)
        return DBT_FAULT;
    stack_init(&stack, v);
    if (stack_push(&stack, 2, event_rflags(v, e)) == DBT_FAULT ||
        stack_push(&stack, 2, v->segment[X86_CS].selector) == DBT_FAULT ||
        stack_push(&stack, 2, e->rip) == DBT_FAULT)
        return DBT_FAULT;
    segment_fetch_real(v, X86_CS, entry[1], &cs);
    stack_commit(&stack);
    return finish(v, &cs, entry[0], X86_FLAG_IF | X86_FLAG_TF | X86_FLAG_AC | X86_FLAG_RF);
}

/* Flags that a gate clears; an interrupt gate closes IF as well. */
static uint64_t gate_clears(unsigned type)
{
    uint64_t clear = X86_FLAG_TF | X86_FLAG_NT | X86_FLAG_RF | X86_FLAG_VM;

    return type & 1 ? clear : clear | X86_FLAG_IF;
}

/* Reads an IDT entry of `size` bytes and checks what all modes check. */
static enum dbt_result read_gate(struct dbt_vcpu *v, const struct event *e, unsigned size,
                                 struct descriptor *gate)
{
    uint64_t entry[2] = {0, 0};
    unsigned type;

    if (e->vector * size + size - 1 > v->idtr.limit)
        return raise_gate(v, X86_VECTOR_GP, e);
    if (mmu_read(v, v->idtr.base + e->vector * size, entry, size, MMU_READ | MMU_IMPLICIT) ==
        DBT_FAULT)
        return DBT_FAULT;
    gate->low = entry[0];
    gate->high = entry[1];
    type = descriptor_type(gate);
    if (descriptor_is_segment(gate) ||
        !(type == X86_TYPE_INTERRUPT_GATE || type == X86_TYPE_TRAP_GATE ||
          (size == 8 && type >= X86_TYPE_TASK_GATE && type <= X86_TYPE_TRAP_GATE16)))
        return raise_gate(v, X86_VECTOR_GP, e);
    if (e->kind == DBT_EXC_SOFTWARE && descriptor_dpl(gate) < dbt_cpl(v))
        return raise_gate(v, X86_VECTOR_GP, e);
    if (!descriptor_present(gate))
        return raise_gate(v, X86_VECTOR_NP, e);
    return DBT_NEXT;
}

static uint64_t gate_offset(const struct descriptor *gate)
{
    return (gate->low & 0xffff) | (gate->low >> 32 & 0xffff0000) | gate->high << 32;
}

/* The code segment that a gate leads to, and the privilege level there. */
static enum dbt_result fetch_target(struct dbt_vcpu *v, const struct event *e,
                                    const struct descriptor *gate, struct x86_segment *cs,
                                    unsigned *cpl)
{
    uint16_t selector = gate->low >> 16;
    struct descriptor d;

    if (descriptor_read_gate_target(v, selector, event_ext(e), &d) == DBT_FAULT)
        return DBT_FAULT;
    *cpl = descriptor_is_conforming_code(&d) ? dbt_cpl(v) : descriptor_dpl(&d);
    /* A VM86 program is left to level 0 or not at all (20.3.1). */
    if ((v->mode & DBT_MODE_VM86) && *cpl != 0)
        return raise_selector(v, X86_VECTOR_GP, selector, event_ext(e));
    if (descriptor_set_type(v, &d, X86_TYPE_ACCESSED, 0) == DBT_FAULT)
        return DBT_FAULT;
    descriptor_unpack(&d, (selector & 0xfffc) | *cpl, cs);
    return DBT_NEXT;
}

static enum dbt_result deliver_long(struct dbt_vcpu *v, const struct event *e)
{
    uint64_t frame[6], *top = frame;
    uint64_t rsp = v->gpr[X86_RSP];
    struct descriptor gate;
    struct x86_segment cs;
    unsigned cpl, ist, size;

    if (read_gate(v, e, 16, &gate) == DBT_FAULT ||
        fetch_target(v, e, &gate, &cs, &cpl) == DBT_FAULT)
        return DBT_FAULT;
    ist = gate.low >> 32 & 7;
    if (ist) {
        if (tss_read_ist(v, ist, event_ext(e), &rsp) == DBT_FAULT)
            return DBT_FAULT;
    } else if (cpl != dbt_cpl(v)) {
        if (tss_read_rsp(v, cpl, event_ext(e), &rsp) == DBT_FAULT)
            return DBT_FAULT;
    }

    if (e->has_error)
        *top++ = e->error;
    *top++ = e->rip;
    *top++ = v->segment[X86_CS].selector;
    *top++ = event_rflags(v, e);
    *top++ = v->gpr[X86_RSP];
    *top++ = v->segment[X86_SS].selector;
    size = (top - frame) * sizeof(frame[0]);
    rsp = (rsp & ~15ull) - size;
    if (!is_canonical(rsp) || !is_canonical(rsp + size - 1))
        return dbt_raise_error(v, X86_VECTOR_SS, event_ext(e));
    if (!is_canonical(gate_offset(&gate)))
        return dbt_raise_error(v, X86_VECTOR_GP, event_ext(e));
    if (mmu_write(v, rsp, frame, size, MMU_WRITE | (cpl == 3 ? MMU_USER : MMU_IMPLICIT)) ==
        DBT_FAULT)
        return DBT_FAULT;

    if (cpl != dbt_cpl(v))
        segment_make_null(&v->segment[X86_SS], cpl, cpl);
    v->gpr[X86_RSP] = rsp;
    return finish(v, &cs, gate_offset(&gate), gate_clears(descriptor_type(&gate)));
}

/* The frame's part that is the same with and without a change of stack. */
static enum dbt_result push_return(struct stack *stack, unsigned size, const struct event *e)
{
    struct dbt_vcpu *v = stack->v;

    if (stack_push(stack, size, event_rflags(v, e)) == DBT_FAULT ||
        stack_push(stack, size, v->segment[X86_CS].selector) == DBT_FAULT ||
        stack_push(stack, size, e->rip) == DBT_FAULT)
        return DBT_FAULT;
    if (e->has_error && stack_push(stack, size, e->error) == DBT_FAULT)
        return DBT_FAULT;
    return DBT_NEXT;
}

/* To an inner privilege level: the stack comes from the TSS, and the old one is noted on it; VM86
 * leaves its data segments there too and continues with null ones. */
static enum dbt_result deliver_inner(struct dbt_vcpu *v, const struct event *e, unsigned size,
                                     uint64_t clear_flags, const struct x86_segment *cs,
                                     uint64_t rip, unsigned cpl)
{
    static const uint8_t vm86_saved[] = {X86_GS, X86_FS, X86_DS, X86_ES};
    bool vm86 = v->mode & DBT_MODE_VM86;
    struct x86_segment ss;
    struct stack stack;
    uint16_t selector;
    uint32_t esp;

    if (tss_read_stack(v, cpl, event_ext(e), &selector, &esp) == DBT_FAULT ||
        segment_fetch_stack(v, selector, cpl, X86_VECTOR_TS, event_ext(e), &ss) == DBT_FAULT)
        return DBT_FAULT;
    stack_init_switched(&stack, v, &ss, esp, cpl);
    stack.error |= event_ext(e);
    for (unsigned i = 0; vm86 && i < ARRAY_SIZE(vm86_saved); i++)
        if (stack_push(&stack, size, v->segment[vm86_saved[i]].selector) == DBT_FAULT)
            return DBT_FAULT;
    if (stack_push(&stack, size, v->segment[X86_SS].selector) == DBT_FAULT ||
        stack_push(&stack, size, v->gpr[X86_RSP]) == DBT_FAULT ||
        push_return(&stack, size, e) == DBT_FAULT)
        return DBT_FAULT;

    for (unsigned i = 0; vm86 && i < ARRAY_SIZE(vm86_saved); i++)
        segment_make_null(&v->segment[vm86_saved[i]], 0, 0);
    v->segment[X86_SS] = ss;
    stack_commit(&stack);
    return finish(v, cs, rip, clear_flags);
}

static enum dbt_result deliver_protected(struct dbt_vcpu *v, const struct event *e)
{
    struct descriptor gate;
    struct x86_segment cs;
    struct stack stack;
    unsigned type, size, cpl;
    uint64_t rip;

    if (read_gate(v, e, 8, &gate) == DBT_FAULT)
        return DBT_FAULT;
    type = descriptor_type(&gate);
    if (type == X86_TYPE_TASK_GATE) {
        v->shadow = DBT_SHADOW_NONE;
        return task_switch_gate(v, &gate, TASK_SWITCH_GATE, e->rip, e->has_error ? &e->error : NULL,
                                event_ext(e));
    }
    if (fetch_target(v, e, &gate, &cs, &cpl) == DBT_FAULT)
        return DBT_FAULT;
    size = type & 8 ? 4 : 2;
    rip = gate_offset(&gate) & width_mask(size * 8);
    if (!segment_contains(&cs, rip, 1))
        return dbt_raise_error(v, X86_VECTOR_GP, event_ext(e));
    if (cpl != dbt_cpl(v))
        return deliver_inner(v, e, size, gate_clears(type), &cs, rip, cpl);
    stack_init(&stack, v);
    stack.error = event_ext(e);
    if (push_return(&stack, size, e) == DBT_FAULT)
        return DBT_FAULT;
    stack_commit(&stack);
    return finish(v, &cs, rip, gate_clears(type));
}

static enum dbt_result deliver(struct dbt_vcpu *v, const struct event *e)
{
    if (!(v->mode & DBT_MODE_PROTECTED))
        return deliver_real(v, e);
    if (v->mode & DBT_MODE_LMA)
        return deliver_long(v, e);
    return deliver_protected(v, e);
}

/* --- faults while delivering (6.15, table 6-5) --- */

static bool is_contributory(uint8_t vector)
{
    return vector == X86_VECTOR_DE || (vector >= X86_VECTOR_TS && vector <= X86_VECTOR_GP);
}

/* Whether `second`, raised while `first` was delivered, makes a double fault of the two. */
static bool is_double_fault(uint8_t first, uint8_t second)
{
    if (first == X86_VECTOR_PF)
        return second == X86_VECTOR_PF || is_contributory(second);
    return is_contributory(first) && is_contributory(second);
}

static enum dbt_exception_kind exception_kind(uint8_t vector)
{
    switch (vector) {
    case X86_VECTOR_DB:
    case X86_VECTOR_BP:
    case X86_VECTOR_OF:
    case X86_VECTOR_DF:
    case X86_VECTOR_MC:
        return DBT_EXC_TRAP;
    default:
        return DBT_EXC_FAULT;
    }
}

void interrupt_deliver_exception(struct dbt_vcpu *v)
{
    struct dbt_exception x = v->exception;

    for (;;) {
        struct event e = {.kind = exception_kind(x.vector),
                          .vector = x.vector,
                          .has_error = x.has_error,
                          .error = x.error,
                          .rip = v->rip};

        v->exception.pending = false;
        if (x.vector == X86_VECTOR_PF)
            v->cr2 = x.address;
        if (deliver(v, &e) != DBT_FAULT) {
            if (x.vector == X86_VECTOR_DB && (v->dr7 & X86_DR7_GD))
                v->dr7 &= ~X86_DR7_GD; /* so that the handler can use the debug registers */
            return;
        }
        if (x.vector == X86_VECTOR_DF &&
            (v->exception.vector == X86_VECTOR_PF || is_contributory(v->exception.vector))) {
            v->exception.pending = false;
            v->shutdown = true;
            return;
        }
        if (is_double_fault(x.vector, v->exception.vector)) {
            if (v->exception.vector == X86_VECTOR_PF)
                v->cr2 = v->exception.address;
            x = (struct dbt_exception){.vector = X86_VECTOR_DF, .has_error = true};
        } else {
            x = v->exception;
        }
    }
}

void interrupt_deliver_external(struct dbt_vcpu *v, uint8_t vector)
{
    struct event e = {.kind = DBT_EXC_INTERRUPT, .vector = vector, .rip = v->rip};

    if (vector == X86_VECTOR_NMI)
        v->nmi_blocked = true;
    /* Interrupts are benign: a fault on the way is delivered in their place. */
    if (deliver(v, &e) == DBT_FAULT)
        interrupt_deliver_exception(v);
}

void interrupt_set_dr6(struct dbt_vcpu *v, uint64_t dr6)
{
    v->dr6 = (v->dr6 & ~0xfull) | dr6;
}

void interrupt_deliver_debug_trap(struct dbt_vcpu *v, uint64_t dr6)
{
    interrupt_set_dr6(v, dr6);
    dbt_raise(v, X86_VECTOR_DB);
    interrupt_deliver_exception(v);
}

enum dbt_result interrupt_deliver_software(struct dbt_vcpu *v, uint8_t vector, uint64_t next)
{
    struct event e = {.kind = DBT_EXC_SOFTWARE, .vector = vector, .rip = next};

    return deliver(v, &e);
}

enum dbt_result interrupt_deliver_int1(struct dbt_vcpu *v, uint64_t next)
{
    struct event e = {.kind = DBT_EXC_TRAP, .vector = X86_VECTOR_DB, .rip = next};

    return deliver(v, &e);
}
