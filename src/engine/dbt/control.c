/*
 * Far transfers of control: JMP, CALL and RET between segments, through gates and tasks; INT and
 * IRET; SYSCALL, SYSENTER and their returns. Intel SDM volume 2 (each instruction), volume 3, 5.8
 * (privilege checks), 5.8.7, 5.8.8 (fast calls), 6.12.1, 20.2 (VM86). vCPU thread.
 *
 * Where the vendors differ Sill takes the union: SYSENTER works in long mode as on Intel, SYSCALL
 * in legacy and compatibility mode as on AMD. SYSRET checks RCX at CPL 0, as on Intel.
 */
#include "engine/dbt/flags.h"
#include "engine/dbt/interrupt.h"
#include "engine/dbt/operand.h"
#include "engine/dbt/stack.h"
#include "engine/dbt/system.h"
#include "engine/dbt/task.h"
#include "engine/dbt/vm.h"

static bool is_protected(const struct dbt_vcpu *v)
{
    return (v->mode & DBT_MODE_PROTECTED) && !(v->mode & DBT_MODE_VM86);
}

static bool is_long(const struct dbt_vcpu *v)
{
    return v->mode & DBT_MODE_LMA;
}

/* #GP(0) unless `rip` can be executed in `cs`. */
static enum dbt_result check_rip(struct dbt_vcpu *v, const struct x86_segment *cs, uint64_t rip)
{
    bool ok = is_long(v) && (cs->attributes & X86_SEGMENT_L) ? is_canonical(rip)
                                                             : segment_contains(cs, rip, 1);

    return ok ? DBT_NEXT : dbt_raise_error(v, X86_VECTOR_GP, 0);
}

static enum dbt_result enter_code(struct dbt_vcpu *v, const struct x86_segment *cs, uint64_t rip)
{
    v->segment[X86_CS] = *cs;
    v->rip = rip;
    mode_update(v);
    return DBT_JUMP;
}

/* Marks `d` accessed and gives what CS becomes at privilege `cpl`. */
static enum dbt_result make_code_segment(struct dbt_vcpu *v, struct descriptor *d,
                                         uint16_t selector, unsigned cpl, struct x86_segment *cs)
{
    if (descriptor_set_type(v, d, X86_TYPE_ACCESSED, 0) == DBT_FAULT)
        return DBT_FAULT;
    descriptor_unpack(d, (selector & 0xfffc) | cpl, cs);
    return DBT_NEXT;
}

/* --- far JMP and CALL --- */

struct far_target {
    uint16_t selector;
    uint64_t offset;
};

/* The pointer in the instruction (JMP ptr16:32) or in memory (JMP m16:32). */
static enum dbt_result read_far_target(struct dbt_vcpu *v, const struct insn *insn,
                                       struct far_target *target)
{
    unsigned size = insn->operand_width / 8;
    uint64_t selector;

    if (!insn->has_modrm) {
        target->offset = insn->imm & width_mask(insn->operand_width);
        target->selector = insn->imm2;
        return DBT_NEXT;
    }
    if (!insn->has_memory)
        return dbt_raise(v, X86_VECTOR_UD);
    if (operand_load(v, insn, 0, size, &target->offset) == DBT_FAULT ||
        operand_load(v, insn, size, 2, &selector) == DBT_FAULT)
        return DBT_FAULT;
    target->selector = selector;
    return DBT_NEXT;
}

static enum dbt_result push_return_address(struct stack *stack, const struct insn *insn,
                                           unsigned size)
{
    struct dbt_vcpu *v = stack->v;

    if (stack_push(stack, size, v->segment[X86_CS].selector) == DBT_FAULT)
        return DBT_FAULT;
    return stack_push(stack, size, insn_next_rip(v, insn));
}

static enum dbt_result far_real(struct dbt_vcpu *v, const struct insn *insn,
                                const struct far_target *target, bool call)
{
    struct x86_segment cs;
    struct stack stack;

    segment_fetch_real(v, X86_CS, target->selector, &cs);
    if (check_rip(v, &cs, target->offset) == DBT_FAULT)
        return DBT_FAULT;
    if (call) {
        stack_init(&stack, v);
        if (push_return_address(&stack, insn, insn->operand_width / 8) == DBT_FAULT)
            return DBT_FAULT;
        stack_commit(&stack);
    }
    return enter_code(v, &cs, target->offset);
}

/* Straight to a code segment: the privilege level stays. */
static enum dbt_result far_direct(struct dbt_vcpu *v, const struct insn *insn,
                                  const struct far_target *target, struct descriptor *d, bool call)
{
    unsigned cpl = dbt_cpl(v);
    unsigned dpl = descriptor_dpl(d);
    struct x86_segment cs;
    struct stack stack;

    if (descriptor_is_conforming_code(d) ? dpl > cpl
                                         : dpl != cpl || X86_SELECTOR_RPL(target->selector) > cpl)
        return raise_selector(v, X86_VECTOR_GP, target->selector, 0);
    if (!descriptor_present(d))
        return raise_selector(v, X86_VECTOR_NP, target->selector, 0);
    if (make_code_segment(v, d, target->selector, cpl, &cs) == DBT_FAULT ||
        check_rip(v, &cs, target->offset) == DBT_FAULT)
        return DBT_FAULT;
    if (call) {
        stack_init(&stack, v);
        if (push_return_address(&stack, insn, insn->operand_width / 8) == DBT_FAULT)
            return DBT_FAULT;
        stack_commit(&stack);
    }
    return enter_code(v, &cs, target->offset);
}

/* Copies a 16- or 32-bit call gate's parameters from the caller's stack to the new one. */
static enum dbt_result copy_parameters(struct stack *to, unsigned count, unsigned size)
{
    struct stack from;
    uint64_t value;

    for (unsigned i = count; i-- > 0;) {
        stack_init(&from, to->v);
        stack_release(&from, i * size);
        if (stack_pop(&from, size, &value) == DBT_FAULT || stack_push(to, size, value) == DBT_FAULT)
            return DBT_FAULT;
    }
    return DBT_NEXT;
}

/* CALL through a gate to an inner privilege level: the stack comes from the TSS. */
static enum dbt_result call_inner(struct dbt_vcpu *v, const struct insn *insn,
                                  const struct descriptor *gate, unsigned size,
                                  const struct x86_segment *cs, uint64_t rip, unsigned cpl)
{
    unsigned parameters = is_long(v) ? 0 : gate->low >> 32 & 31;
    struct x86_segment ss;
    struct stack stack;

    if (is_long(v)) {
        uint64_t rsp;

        if (tss_read_rsp(v, cpl, 0, &rsp) == DBT_FAULT)
            return DBT_FAULT;
        segment_make_null(&ss, cpl, cpl);
        stack_init_switched(&stack, v, NULL, rsp, cpl);
    } else {
        uint16_t selector;
        uint32_t esp;

        if (tss_read_stack(v, cpl, 0, &selector, &esp) == DBT_FAULT ||
            segment_fetch_stack(v, selector, cpl, X86_VECTOR_TS, 0, &ss) == DBT_FAULT)
            return DBT_FAULT;
        stack_init_switched(&stack, v, &ss, esp, cpl);
    }
    if (stack_push(&stack, size, v->segment[X86_SS].selector) == DBT_FAULT ||
        stack_push(&stack, size, v->gpr[X86_RSP]) == DBT_FAULT ||
        copy_parameters(&stack, parameters, size) == DBT_FAULT ||
        push_return_address(&stack, insn, size) == DBT_FAULT)
        return DBT_FAULT;
    v->segment[X86_SS] = ss;
    stack_commit(&stack);
    return enter_code(v, cs, rip);
}

static enum dbt_result far_call_gate(struct dbt_vcpu *v, const struct insn *insn,
                                     uint16_t gate_selector, struct descriptor *gate, bool call)
{
    uint16_t selector = gate->low >> 16;
    unsigned size = is_long(v) ? 8 : descriptor_type(gate) & 8 ? 4 : 2;
    unsigned cpl = dbt_cpl(v);
    struct x86_segment cs;
    struct stack stack;
    struct descriptor d;
    uint64_t rip;

    if (!descriptor_present(gate))
        return raise_selector(v, X86_VECTOR_NP, gate_selector, 0);
    if (is_long(v) && descriptor_read_high(v, gate_selector, gate) == DBT_FAULT)
        return DBT_FAULT;
    if (descriptor_read_gate_target(v, selector, 0, &d) == DBT_FAULT)
        return DBT_FAULT;
    if (!descriptor_is_conforming_code(&d)) {
        if (!call && descriptor_dpl(&d) != cpl)
            return raise_selector(v, X86_VECTOR_GP, selector, 0);
        cpl = descriptor_dpl(&d);
    }
    rip = (gate->low & 0xffff) | (gate->low >> 32 & 0xffff0000) | gate->high << 32;
    rip &= width_mask(size * 8);
    if (make_code_segment(v, &d, selector, cpl, &cs) == DBT_FAULT ||
        check_rip(v, &cs, rip) == DBT_FAULT)
        return DBT_FAULT;
    if (call && cpl != dbt_cpl(v))
        return call_inner(v, insn, gate, size, &cs, rip, cpl);
    if (call) {
        stack_init(&stack, v);
        if (push_return_address(&stack, insn, size) == DBT_FAULT)
            return DBT_FAULT;
        stack_commit(&stack);
    }
    return enter_code(v, &cs, rip);
}

/* The selector names a call gate, a task gate or a TSS. */
static enum dbt_result far_system(struct dbt_vcpu *v, const struct insn *insn, uint16_t selector,
                                  struct descriptor *d, bool call)
{
    enum task_switch_kind kind = call ? TASK_SWITCH_CALL : TASK_SWITCH_JUMP;
    unsigned dpl = descriptor_dpl(d);
    unsigned type = descriptor_type(d);
    bool call_gate = type == X86_TYPE_CALL_GATE || (!is_long(v) && type == X86_TYPE_CALL_GATE16);
    bool task_gate = !is_long(v) && type == X86_TYPE_TASK_GATE;
    bool tss = !is_long(v) && (type == X86_TYPE_TSS || type == X86_TYPE_TSS16);

    if (!(call_gate || task_gate || tss) || dpl < dbt_cpl(v) || dpl < X86_SELECTOR_RPL(selector))
        return raise_selector(v, X86_VECTOR_GP, selector, 0);
    if (call_gate)
        return far_call_gate(v, insn, selector, d, call);
    if (!descriptor_present(d))
        return raise_selector(v, X86_VECTOR_NP, selector, 0);
    if (task_gate)
        return task_switch_gate(v, d, kind, insn_next_rip(v, insn), NULL, 0);
    return task_switch(v, selector, kind, insn_next_rip(v, insn), NULL, 0);
}

static enum dbt_result far_transfer(struct dbt_vcpu *v, const struct insn *insn, bool call)
{
    struct far_target target;
    struct descriptor d;

    if (read_far_target(v, insn, &target) == DBT_FAULT)
        return DBT_FAULT;
    if (!is_protected(v))
        return far_real(v, insn, &target, call);
    if (selector_is_null(target.selector))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if (descriptor_read(v, target.selector, X86_VECTOR_GP, 0, &d) == DBT_FAULT)
        return DBT_FAULT;
    if (!descriptor_is_segment(&d))
        return far_system(v, insn, target.selector, &d, call);
    if (descriptor_read_code(v, target.selector, 0, &d) == DBT_FAULT)
        return DBT_FAULT;
    return far_direct(v, insn, &target, &d, call);
}

enum dbt_result control_far_jmp(struct dbt_vcpu *v, const struct insn *insn)
{
    return far_transfer(v, insn, false);
}

enum dbt_result control_far_call(struct dbt_vcpu *v, const struct insn *insn)
{
    return far_transfer(v, insn, true);
}

/* --- far RET and IRET --- */

/* The code segment that a return goes to, at the privilege level of its RPL. */
static enum dbt_result fetch_return_code(struct dbt_vcpu *v, uint16_t selector,
                                         struct x86_segment *cs)
{
    unsigned rpl = X86_SELECTOR_RPL(selector);
    struct descriptor d;

    if (descriptor_read_code(v, selector, 0, &d) == DBT_FAULT)
        return DBT_FAULT;
    if (rpl < dbt_cpl(v) ||
        (descriptor_is_conforming_code(&d) ? descriptor_dpl(&d) > rpl : descriptor_dpl(&d) != rpl))
        return raise_selector(v, X86_VECTOR_GP, selector, 0);
    if (!descriptor_present(&d))
        return raise_selector(v, X86_VECTOR_NP, selector, 0);
    return make_code_segment(v, &d, selector, rpl, cs);
}

/* The stack segment that goes with it; 64-bit code below CPL 3 may have a null one. */
static enum dbt_result fetch_return_stack(struct dbt_vcpu *v, uint16_t selector,
                                          const struct x86_segment *cs, struct x86_segment *ss)
{
    unsigned rpl = X86_SELECTOR_RPL(cs->selector);

    if (!selector_is_null(selector))
        return segment_fetch_stack(v, selector, rpl, X86_VECTOR_GP, 0, ss);
    if (!is_long(v) || !(cs->attributes & X86_SEGMENT_L) || rpl == 3 ||
        X86_SELECTOR_RPL(selector) != rpl)
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    segment_make_null(ss, selector, rpl);
    return DBT_NEXT;
}

/* After a return to an outer level: segments that it may not use become null (5.8.6). Only the
 * selector and the right to use it go: the base stays, and 64-bit code sees it in FS and GS. */
static void drop_inner_segments(struct dbt_vcpu *v)
{
    static const uint8_t data[] = {X86_ES, X86_DS, X86_FS, X86_GS};

    for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
        struct x86_segment *s = &v->segment[data[i]];
        const unsigned conforming = X86_TYPE_CODE | X86_TYPE_CONFORMING;

        if ((s->attributes & X86_SEGMENT_PRESENT) && X86_SEGMENT_DPL(s->attributes) < dbt_cpl(v) &&
            (s->attributes & conforming) != conforming)
            *s = (struct x86_segment){.base = s->base, .limit = s->limit};
        else if (selector_is_null(s->selector))
            s->selector = 0; /* whatever its RPL; the base stays */
    }
}

/* Finishes a return: `stack` is where rSP is to be. */
static enum dbt_result return_to(struct dbt_vcpu *v, const struct x86_segment *cs, uint64_t rip,
                                 const struct stack *stack, bool outer)
{
    enum dbt_result result;

    stack_commit(stack);
    result = enter_code(v, cs, rip);
    if (outer) {
        drop_inner_segments(v);
        mode_update(v);
    }
    return result;
}

/* The outer stack of a return: the popped pointer, as wide as the popped SS says. */
static void init_outer_stack(struct stack *stack, struct dbt_vcpu *v, const struct x86_segment *cs,
                             const struct x86_segment *ss, uint64_t pointer)
{
    bool code64 = is_long(v) && (cs->attributes & X86_SEGMENT_L);

    stack_init_switched(stack, v, code64 ? NULL : ss, pointer, X86_SELECTOR_RPL(cs->selector));
}

static enum dbt_result far_ret_protected(struct dbt_vcpu *v, const struct insn *insn,
                                         struct stack *stack, uint64_t rip, uint16_t selector)
{
    unsigned size = insn->operand_width / 8;
    uint64_t release = insn->opcode == 0xca ? insn->imm & 0xffff : 0;
    struct x86_segment cs, ss;
    struct stack outer;
    uint64_t ss_selector, pointer;

    if (fetch_return_code(v, selector, &cs) == DBT_FAULT || check_rip(v, &cs, rip) == DBT_FAULT)
        return DBT_FAULT;
    stack_release(stack, release);
    if (X86_SELECTOR_RPL(selector) == dbt_cpl(v))
        return return_to(v, &cs, rip, stack, false);
    if (stack_pop(stack, size, &pointer) == DBT_FAULT ||
        stack_pop(stack, size, &ss_selector) == DBT_FAULT ||
        fetch_return_stack(v, ss_selector, &cs, &ss) == DBT_FAULT)
        return DBT_FAULT;
    init_outer_stack(&outer, v, &cs, &ss, pointer);
    stack_release(&outer, release);
    v->segment[X86_SS] = ss;
    return return_to(v, &cs, rip, &outer, true);
}

enum dbt_result control_far_ret(struct dbt_vcpu *v, const struct insn *insn)
{
    unsigned size = insn->operand_width / 8;
    struct x86_segment cs;
    struct stack stack;
    uint64_t rip, selector;

    stack_init(&stack, v);
    if (stack_pop(&stack, size, &rip) == DBT_FAULT ||
        stack_pop(&stack, size, &selector) == DBT_FAULT)
        return DBT_FAULT;
    if (is_protected(v))
        return far_ret_protected(v, insn, &stack, rip, selector);
    segment_fetch_real(v, X86_CS, selector, &cs);
    if (check_rip(v, &cs, rip) == DBT_FAULT)
        return DBT_FAULT;
    stack_release(&stack, insn->opcode == 0xca ? insn->imm & 0xffff : 0);
    return return_to(v, &cs, rip, &stack, false);
}

/*
 * RF only means something to instruction breakpoints. It is therefore kept only while some are
 * armed (the run loop then executes single instructions and clears it after each); else it would
 * have to be cleared after every instruction of every block.
 */
static uint64_t iret_rf(const struct dbt_vcpu *v, uint64_t image, unsigned width)
{
    return width > 16 && (v->mode & DBT_MODE_DEBUG) ? image & X86_FLAG_RF : 0;
}

/* In real mode all goes; VM86 has had its IOPL checked and keeps IOPL. */
static enum dbt_result iret_real(struct dbt_vcpu *v, const struct insn *insn)
{
    unsigned size = insn->operand_width / 8;
    uint64_t rip, selector, image, flags;
    struct x86_segment cs;
    struct stack stack;

    stack_init(&stack, v);
    if (stack_pop(&stack, size, &rip) == DBT_FAULT ||
        stack_pop(&stack, size, &selector) == DBT_FAULT ||
        stack_pop(&stack, size, &image) == DBT_FAULT)
        return DBT_FAULT;
    segment_fetch_real(v, X86_CS, selector, &cs);
    if (check_rip(v, &cs, rip) == DBT_FAULT)
        return DBT_FAULT;
    flags = flags_merge(v, image, insn->operand_width) & ~X86_FLAG_RF;
    dbt_rflags_set(v, flags | iret_rf(v, image, insn->operand_width));
    v->nmi_blocked = false;
    return return_to(v, &cs, rip, &stack, false);
}

/* From level 0 to VM86 mode: six more registers are on the stack. */
static enum dbt_result iret_to_vm86(struct dbt_vcpu *v, struct stack *stack, uint64_t rip,
                                    uint16_t cs, uint64_t image)
{
    static const uint8_t order[] = {X86_SS, X86_ES, X86_DS, X86_FS, X86_GS};
    const uint64_t flags = DBT_ARITH_FLAGS | X86_FLAG_TF | X86_FLAG_IF | X86_FLAG_IOPL |
                           X86_FLAG_NT | X86_FLAG_VM | X86_FLAG_AC | X86_FLAG_ID;
    uint64_t selector[ARRAY_SIZE(order)];
    uint64_t rsp;

    if (stack_pop(stack, 4, &rsp) == DBT_FAULT)
        return DBT_FAULT;
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
        if (stack_pop(stack, 4, &selector[i]) == DBT_FAULT)
            return DBT_FAULT;
    if ((rip & 0xffffffff) > 0xffff)
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    dbt_rflags_set(v, (image & flags) | iret_rf(v, image, 32));
    v->gpr[X86_RSP] = rsp;
    v->rip = rip;
    v->mode |= DBT_MODE_VM86; /* segments are now loaded by its rules */
    segment_fetch_real(v, X86_CS, cs, &v->segment[X86_CS]);
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
        segment_fetch_real(v, order[i], selector[i], &v->segment[order[i]]);
    mode_update(v);
    v->nmi_blocked = false;
    return DBT_JUMP;
}

/* Pops rip, CS and flags, and in 64-bit code always RSP and SS too: the usual case in one read. */
static enum dbt_result pop_iret_frame(struct stack *stack, unsigned size, uint64_t frame[5],
                                      unsigned count)
{
    if (!stack->segment && size == 8 && is_canonical(stack->pointer) &&
        is_canonical(stack->pointer + 39)) {
        if (mmu_read(stack->v, stack->pointer, frame, 40, MMU_READ) == DBT_FAULT)
            return DBT_FAULT;
        stack->pointer += 40;
        return DBT_NEXT;
    }
    for (unsigned i = 0; i < count; i++)
        if (stack_pop(stack, size, &frame[i]) == DBT_FAULT)
            return DBT_FAULT;
    return DBT_NEXT;
}

static enum dbt_result iret_protected(struct dbt_vcpu *v, const struct insn *insn)
{
    enum { RIP, CS, FLAGS, RSP, SS };
    unsigned size = insn->operand_width / 8;
    bool code64 = v->mode & DBT_MODE_CODE64;
    struct x86_segment cs, ss;
    struct stack stack, outer;
    uint64_t frame[5], flags;
    bool is_outer;

    stack_init(&stack, v);
    if (pop_iret_frame(&stack, size, frame, code64 ? 5 : 3) == DBT_FAULT)
        return DBT_FAULT;
    if (size == 4 && !is_long(v) && (frame[FLAGS] & X86_FLAG_VM) && dbt_cpl(v) == 0)
        return iret_to_vm86(v, &stack, frame[RIP], frame[CS], frame[FLAGS]);
    if (fetch_return_code(v, frame[CS], &cs) == DBT_FAULT ||
        check_rip(v, &cs, frame[RIP]) == DBT_FAULT)
        return DBT_FAULT;
    is_outer = X86_SELECTOR_RPL(cs.selector) > dbt_cpl(v);
    if (is_outer && !code64 &&
        (stack_pop(&stack, size, &frame[RSP]) == DBT_FAULT ||
         stack_pop(&stack, size, &frame[SS]) == DBT_FAULT))
        return DBT_FAULT;
    if (is_outer || code64) {
        if (fetch_return_stack(v, frame[SS], &cs, &ss) == DBT_FAULT)
            return DBT_FAULT;
        init_outer_stack(&outer, v, &cs, &ss, frame[RSP]);
        v->segment[X86_SS] = ss;
    } else {
        outer = stack;
    }
    flags = flags_merge(v, frame[FLAGS], insn->operand_width) & ~X86_FLAG_RF;
    dbt_rflags_set(v, flags | iret_rf(v, frame[FLAGS], insn->operand_width));
    v->nmi_blocked = false;
    return return_to(v, &cs, frame[RIP], &outer, is_outer);
}

enum dbt_result control_iret(struct dbt_vcpu *v, const struct insn *insn)
{
    if (!is_protected(v)) {
        if ((v->mode & DBT_MODE_VM86) && (v->flags_sys & X86_FLAG_IOPL) != X86_FLAG_IOPL)
            return dbt_raise_error(v, X86_VECTOR_GP, 0);
        return iret_real(v, insn);
    }
    if (v->flags_sys & X86_FLAG_NT) {
        if (is_long(v))
            return dbt_raise_error(v, X86_VECTOR_GP, 0);
        v->nmi_blocked = false;
        return task_return(v, insn_next_rip(v, insn));
    }
    return iret_protected(v, insn);
}

/* --- software interrupts --- */

enum dbt_result control_int(struct dbt_vcpu *v, const struct insn *insn)
{
    if ((v->mode & DBT_MODE_VM86) && (v->flags_sys & X86_FLAG_IOPL) != X86_FLAG_IOPL)
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    return interrupt_deliver_software(v, insn->imm, insn_next_rip(v, insn));
}

enum dbt_result control_int3(struct dbt_vcpu *v, const struct insn *insn)
{
    return interrupt_deliver_software(v, X86_VECTOR_BP, insn_next_rip(v, insn));
}

enum dbt_result control_int1(struct dbt_vcpu *v, const struct insn *insn)
{
    return interrupt_deliver_int1(v, insn_next_rip(v, insn));
}

enum dbt_result control_into(struct dbt_vcpu *v, const struct insn *insn)
{
    if (v->mode & DBT_MODE_CODE64)
        return dbt_raise(v, X86_VECTOR_UD);
    if (!(v->flags_arith & X86_FLAG_OF))
        return insn_next_block(v, insn);
    return interrupt_deliver_software(v, X86_VECTOR_OF, insn_next_rip(v, insn));
}

/* --- fast system calls: flat segments made up on the spot --- */

static void set_flat_code(struct dbt_vcpu *v, uint16_t selector, unsigned cpl, bool code64)
{
    v->segment[X86_CS] = (struct x86_segment){
        .selector = (selector & 0xfffc) | cpl,
        .attributes = X86_TYPE_CODE | X86_TYPE_READABLE | X86_TYPE_ACCESSED | X86_SEGMENT_S |
                      cpl << 5 | X86_SEGMENT_PRESENT | X86_SEGMENT_G |
                      (code64 ? X86_SEGMENT_L : X86_SEGMENT_DB),
        .limit = 0xffffffff,
    };
}

static void set_flat_stack(struct dbt_vcpu *v, uint16_t selector, unsigned cpl)
{
    v->segment[X86_SS] = (struct x86_segment){
        .selector = (selector & 0xfffc) | cpl,
        .attributes = X86_TYPE_WRITABLE | X86_TYPE_ACCESSED | X86_SEGMENT_S | cpl << 5 |
                      X86_SEGMENT_PRESENT | X86_SEGMENT_G | X86_SEGMENT_DB,
        .limit = 0xffffffff,
    };
}

enum dbt_result control_syscall(struct dbt_vcpu *v, const struct insn *insn)
{
    uint16_t selector = v->msr.star >> 32;
    uint64_t next = insn_next_rip(v, insn);
    uint64_t flags = dbt_rflags_get(v) & ~X86_FLAG_RF;

    if (!(v->efer & X86_EFER_SCE) || !is_protected(v))
        return dbt_raise(v, X86_VECTOR_UD);
    v->gpr[X86_RCX] = next;
    if (is_long(v)) {
        v->gpr[X86_R11] = flags;
        v->rip = v->mode & DBT_MODE_CODE64 ? v->msr.lstar : v->msr.cstar;
        dbt_rflags_set(v, flags & ~v->msr.sfmask);
    } else {
        v->rip = (uint32_t)v->msr.star;
        dbt_rflags_set(v, flags & ~X86_FLAG_IF);
    }
    set_flat_code(v, selector, 0, is_long(v));
    set_flat_stack(v, (selector & 0xfffc) + 8, 0);
    mode_update(v);
    return DBT_JUMP;
}

enum dbt_result control_sysret(struct dbt_vcpu *v, const struct insn *insn)
{
    bool to_code64 = insn->operand_width == 64;
    uint16_t selector = v->msr.star >> 48;
    uint64_t rip = to_code64 ? v->gpr[X86_RCX] : (uint32_t)v->gpr[X86_RCX];
    const uint64_t loaded = DBT_ARITH_FLAGS | X86_FLAG_TF | X86_FLAG_IF | X86_FLAG_IOPL |
                            X86_FLAG_NT | X86_FLAG_AC | X86_FLAG_VIF | X86_FLAG_VIP | X86_FLAG_ID;

    if (!(v->efer & X86_EFER_SCE) || !is_protected(v))
        return dbt_raise(v, X86_VECTOR_UD);
    if (dbt_cpl(v) != 0 || !is_canonical(rip))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    v->rip = rip;
    if (is_long(v))
        dbt_rflags_set(v, v->gpr[X86_R11] & loaded);
    else
        dbt_rflags_set(v, dbt_rflags_get(v) | X86_FLAG_IF);
    set_flat_code(v, to_code64 ? selector + 16 : selector, 3, to_code64);
    set_flat_stack(v, selector + 8, 3);
    mode_update(v);
    /* Other instructions that set TF are not trapped themselves; this one is. */
    if (v->flags_sys & X86_FLAG_TF)
        interrupt_deliver_debug_trap(v, X86_DR6_BS);
    return DBT_JUMP;
}

enum dbt_result control_sysenter(struct dbt_vcpu *v, const struct insn *insn)
{
    uint16_t selector = v->msr.sysenter_cs;
    uint64_t mask = is_long(v) ? ~0ull : 0xffffffff;

    if (is_long(v) && v->vm->features.amd)
        return dbt_raise(v, X86_VECTOR_UD);
    if (!(v->mode & DBT_MODE_PROTECTED) || selector_is_null(selector))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    dbt_rflags_set(v, dbt_rflags_get(v) & ~(X86_FLAG_IF | X86_FLAG_VM | X86_FLAG_RF));
    v->gpr[X86_RSP] = v->msr.sysenter_esp & mask;
    v->rip = v->msr.sysenter_eip & mask;
    set_flat_code(v, selector, 0, is_long(v));
    set_flat_stack(v, (selector & 0xfffc) + 8, 0);
    mode_update(v);
    return DBT_JUMP;
}

enum dbt_result control_sysexit(struct dbt_vcpu *v, const struct insn *insn)
{
    bool to_code64 = insn->operand_width == 64;
    uint16_t selector = v->msr.sysenter_cs;
    uint64_t mask = to_code64 ? ~0ull : 0xffffffff;
    uint64_t rip = v->gpr[X86_RDX] & mask;
    uint64_t rsp = v->gpr[X86_RCX] & mask;

    if (!is_protected(v) || selector_is_null(selector) || dbt_cpl(v) != 0 || !is_canonical(rip) ||
        !is_canonical(rsp))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    v->rip = rip;
    v->gpr[X86_RSP] = rsp;
    set_flat_code(v, to_code64 ? selector + 32 : selector + 16, 3, to_code64);
    set_flat_stack(v, to_code64 ? selector + 40 : selector + 24, 3);
    mode_update(v);
    return DBT_JUMP;
}
