/*
 * The stack: struct stack, and the instructions that push and pop (Intel SDM volume 1, 6.2; volume
 * 2, PUSH, POP, PUSHA, POPA, ENTER, LEAVE). vCPU thread.
 */
#include "engine/dbt/stack.h"
#include "engine/dbt/operand.h"
#include "engine/dbt/system.h"

static uint64_t pointer_mask(const struct x86_segment *segment)
{
    if (!segment)
        return ~0ull;
    return segment->attributes & X86_SEGMENT_DB ? 0xffffffff : 0xffff;
}

void stack_init(struct stack *s, struct dbt_vcpu *v)
{
    s->v = v;
    s->segment = v->mode & DBT_MODE_CODE64 ? NULL : &v->segment[X86_SS];
    s->pointer = v->gpr[X86_RSP];
    s->mask = pointer_mask(s->segment);
    s->access = 0;
    s->error = 0;
}

void stack_init_switched(struct stack *s, struct dbt_vcpu *v, const struct x86_segment *segment,
                         uint64_t pointer, unsigned cpl)
{
    s->v = v;
    s->segment = segment;
    s->pointer = pointer;
    s->mask = pointer_mask(segment);
    s->access = cpl == 3 ? MMU_USER : MMU_IMPLICIT;
    s->error = segment ? segment->selector & 0xfffc : 0;
}

static enum dbt_result stack_linear(const struct stack *s, uint64_t offset, unsigned size,
                                    gva_t *linear)
{
    offset &= s->mask;
    if (!s->segment) {
        if (is_canonical(offset) && is_canonical(offset + size - 1)) {
            *linear = offset;
            return DBT_NEXT;
        }
    } else if (segment_contains(s->segment, offset, size)) {
        *linear = (uint32_t)(s->segment->base + offset);
        return DBT_NEXT;
    }
    return dbt_raise_error(s->v, X86_VECTOR_SS, s->error);
}

enum dbt_result stack_push(struct stack *s, unsigned size, uint64_t value)
{
    gva_t linear;

    if (stack_linear(s, s->pointer - size, size, &linear) == DBT_FAULT ||
        mmu_write(s->v, linear, &value, size, MMU_WRITE | s->access) == DBT_FAULT)
        return DBT_FAULT;
    s->pointer -= size;
    return DBT_NEXT;
}

enum dbt_result stack_pop(struct stack *s, unsigned size, uint64_t *value)
{
    uint64_t popped = 0;
    gva_t linear;

    if (stack_linear(s, s->pointer, size, &linear) == DBT_FAULT ||
        mmu_read(s->v, linear, &popped, size, MMU_READ | s->access) == DBT_FAULT)
        return DBT_FAULT;
    s->pointer += size;
    *value = popped;
    return DBT_NEXT;
}

void stack_release(struct stack *s, uint64_t bytes)
{
    s->pointer += bytes;
}

void stack_commit(const struct stack *s)
{
    uint64_t *rsp = &s->v->gpr[X86_RSP];

    /* A 16-bit stack leaves the upper bits of ESP alone; a 32-bit one clears those of RSP. */
    if (s->mask == 0xffff)
        *rsp = (*rsp & ~0xffffull) | (s->pointer & 0xffff);
    else
        *rsp = s->pointer & s->mask;
}

/* --- instructions --- */

static enum dbt_result push_value(struct dbt_vcpu *v, const struct insn *insn, uint64_t value)
{
    struct stack stack;

    stack_init(&stack, v);
    if (stack_push(&stack, insn->operand_width / 8, value) == DBT_FAULT)
        return DBT_FAULT;
    stack_commit(&stack);
    return insn_next(v, insn);
}

enum dbt_result stack_insn_push(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t value;

    if (insn->opcode_map == ZYDIS_OPCODE_MAP_0F || (insn->opcode & 0xe7) == 0x06)
        return segment_push(v, insn);
    if (insn->opcode == 0x68 || insn->opcode == 0x6a)
        return push_value(v, insn, insn->imm);
    if (insn->has_modrm) {
        if (operand_rm_read(v, insn, insn->operand_width, &value) == DBT_FAULT)
            return DBT_FAULT;
        return push_value(v, insn, value);
    }
    return push_value(v, insn, v->gpr[insn_opcode_register(insn)]);
}

/* The memory operand's address is computed with the stack pointer already moved (POP [ESP]). */
static enum dbt_result pop_memory(struct dbt_vcpu *v, const struct insn *insn,
                                  const struct stack *stack, uint64_t value)
{
    uint64_t old_rsp = v->gpr[X86_RSP];

    stack_commit(stack);
    if (operand_store(v, insn, 0, insn->operand_width / 8, value) == DBT_FAULT) {
        v->gpr[X86_RSP] = old_rsp;
        return DBT_FAULT;
    }
    return insn_next(v, insn);
}

enum dbt_result stack_insn_pop(struct dbt_vcpu *v, const struct insn *insn)
{
    struct stack stack;
    uint64_t value;

    if (insn->opcode_map == ZYDIS_OPCODE_MAP_0F || (insn->opcode & 0xe7) == 0x07)
        return segment_pop(v, insn);
    stack_init(&stack, v);
    if (stack_pop(&stack, insn->operand_width / 8, &value) == DBT_FAULT)
        return DBT_FAULT;
    if (insn->has_memory)
        return pop_memory(v, insn, &stack, value);
    stack_commit(&stack); /* first, so that POP SP ends with the popped value */
    gpr_write(v, insn->has_modrm ? insn->rm : insn_opcode_register(insn), insn->operand_width,
              value);
    return insn_next(v, insn);
}

enum dbt_result stack_insn_pusha(struct dbt_vcpu *v, const struct insn *insn)
{
    struct stack stack;

    stack_init(&stack, v);
    for (unsigned reg = X86_RAX; reg <= X86_RDI; reg++)
        if (stack_push(&stack, insn->operand_width / 8, v->gpr[reg]) == DBT_FAULT)
            return DBT_FAULT;
    stack_commit(&stack);
    return insn_next(v, insn);
}

enum dbt_result stack_insn_popa(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t value[8];
    struct stack stack;

    stack_init(&stack, v);
    for (unsigned reg = 8; reg-- > 0;)
        if (stack_pop(&stack, insn->operand_width / 8, &value[reg]) == DBT_FAULT)
            return DBT_FAULT;
    for (unsigned reg = X86_RAX; reg <= X86_RDI; reg++)
        if (reg != X86_RSP) /* its image is thrown away */
            gpr_write(v, reg, insn->operand_width, value[reg]);
    stack_commit(&stack);
    return insn_next(v, insn);
}

enum dbt_result stack_insn_enter(struct dbt_vcpu *v, const struct insn *insn)
{
    unsigned size = insn->operand_width / 8;
    unsigned level = insn->imm2 & 31;
    struct stack stack, frame;
    uint64_t frame_pointer, outer;
    gva_t linear;

    stack_init(&stack, v);
    frame = stack;
    frame.pointer = v->gpr[X86_RBP];
    if (stack_push(&stack, size, v->gpr[X86_RBP]) == DBT_FAULT)
        return DBT_FAULT;
    frame_pointer = stack.pointer;
    for (unsigned i = 1; i < level; i++) {
        /* Copy the outer frames' pointers, which lie below the one that RBP points to. */
        struct stack slot = frame;

        slot.pointer -= i * size;
        if (stack_pop(&slot, size, &outer) == DBT_FAULT ||
            stack_push(&stack, size, outer) == DBT_FAULT)
            return DBT_FAULT;
    }
    if (level && stack_push(&stack, size, frame_pointer) == DBT_FAULT)
        return DBT_FAULT;
    stack.pointer -= insn->imm & 0xffff;
    /* The new top must be writable, or the next push could not report the fault precisely. */
    if (stack_linear(&stack, stack.pointer, size, &linear) == DBT_FAULT ||
        mmu_probe_write(v, linear, size, MMU_WRITE) == DBT_FAULT)
        return DBT_FAULT;
    /* The frame pointer is as wide as the operand, and never wider than the stack. */
    gpr_write(v, X86_RBP, stack.mask == 0xffff ? 16 : insn->operand_width, frame_pointer);
    stack_commit(&stack);
    return insn_next(v, insn);
}

enum dbt_result stack_insn_leave(struct dbt_vcpu *v, const struct insn *insn)
{
    struct stack stack;
    uint64_t value;

    stack_init(&stack, v);
    stack.pointer = v->gpr[X86_RBP];
    if (stack_pop(&stack, insn->operand_width / 8, &value) == DBT_FAULT)
        return DBT_FAULT;
    stack_commit(&stack);
    gpr_write(v, X86_RBP, insn->operand_width, value);
    return insn_next(v, insn);
}
