/*
 * Near jumps, calls and returns, in every operand and stack size, with the limit and canonical
 * checks on the target. Intel SDM volume 2, CALL, JMP, RET, Jcc, LOOP. The translator emits the
 * common 64- and 32-bit forms itself; the others come here. vCPU thread.
 */
#include "engine/dbt/operand.h"
#include "engine/dbt/stack.h"
#include "engine/dbt/system.h"

/* Where `rip` leads with this operand size; #GP(0) outside the code segment. */
static enum dbt_result check_target(struct dbt_vcpu *v, const struct insn *insn, uint64_t *rip)
{
    if (v->mode & DBT_MODE_CODE64) {
        if (insn->operand_width == 16)
            *rip &= 0xffff;
        if (!is_canonical(*rip))
            return dbt_raise_error(v, X86_VECTOR_GP, 0);
        return DBT_NEXT;
    }
    *rip &= width_mask(insn->operand_width == 16 ? 16 : 32);
    if (!segment_contains(&v->segment[X86_CS], *rip, 1))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    return DBT_NEXT;
}

static enum dbt_result jump_to(struct dbt_vcpu *v, const struct insn *insn, uint64_t rip)
{
    if (check_target(v, insn, &rip) == DBT_FAULT)
        return DBT_FAULT;
    v->rip = rip;
    return DBT_JUMP;
}

/* The target of JMP or CALL: relative, or from a register or memory. */
static enum dbt_result read_target(struct dbt_vcpu *v, const struct insn *insn, uint64_t *rip)
{
    if (insn->has_modrm)
        return operand_rm_read(v, insn, insn->operand_width, rip);
    *rip = insn_next_rip(v, insn) + insn->imm;
    return DBT_NEXT;
}

enum dbt_result branch_jmp(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t rip;

    if (read_target(v, insn, &rip) == DBT_FAULT)
        return DBT_FAULT;
    return jump_to(v, insn, rip);
}

enum dbt_result branch_call(struct dbt_vcpu *v, const struct insn *insn)
{
    struct stack stack;
    uint64_t rip;

    if (read_target(v, insn, &rip) == DBT_FAULT || check_target(v, insn, &rip) == DBT_FAULT)
        return DBT_FAULT;
    stack_init(&stack, v);
    if (stack_push(&stack, insn->operand_width / 8, insn_next_rip(v, insn)) == DBT_FAULT)
        return DBT_FAULT;
    stack_commit(&stack);
    v->rip = rip;
    return DBT_JUMP;
}

enum dbt_result branch_ret(struct dbt_vcpu *v, const struct insn *insn)
{
    struct stack stack;
    uint64_t rip;

    stack_init(&stack, v);
    if (stack_pop(&stack, insn->operand_width / 8, &rip) == DBT_FAULT ||
        check_target(v, insn, &rip) == DBT_FAULT)
        return DBT_FAULT;
    if (insn->opcode == 0xc2)
        stack_release(&stack, insn->imm & 0xffff);
    stack_commit(&stack);
    v->rip = rip;
    return DBT_JUMP;
}

/* Condition codes as the low four bits of the opcode name them (volume 2, table B-10). */
static bool condition_holds(const struct dbt_vcpu *v, unsigned code)
{
    uint64_t flags = v->flags_arith;
    bool sign_differs = !(flags & X86_FLAG_SF) != !(flags & X86_FLAG_OF);
    bool holds = false;

    switch (code >> 1) {
    case 0:
        holds = flags & X86_FLAG_OF;
        break;
    case 1:
        holds = flags & X86_FLAG_CF;
        break;
    case 2:
        holds = flags & X86_FLAG_ZF;
        break;
    case 3:
        holds = flags & (X86_FLAG_CF | X86_FLAG_ZF);
        break;
    case 4:
        holds = flags & X86_FLAG_SF;
        break;
    case 5:
        holds = flags & X86_FLAG_PF;
        break;
    case 6:
        holds = sign_differs;
        break;
    case 7:
        holds = sign_differs || (flags & X86_FLAG_ZF);
        break;
    }
    return holds != (code & 1);
}

static enum dbt_result branch_if(struct dbt_vcpu *v, const struct insn *insn, bool taken)
{
    if (taken)
        return jump_to(v, insn, insn_next_rip(v, insn) + insn->imm);
    return insn_next_block(v, insn);
}

enum dbt_result branch_jcc(struct dbt_vcpu *v, const struct insn *insn)
{
    return branch_if(v, insn, condition_holds(v, insn->opcode & 0xf));
}

enum dbt_result branch_loop(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t count = (v->gpr[X86_RCX] - 1) & width_mask(insn->address_width);
    bool zero = v->flags_arith & X86_FLAG_ZF;
    bool taken = count && (insn->mnemonic == ZYDIS_MNEMONIC_LOOP ||
                           zero == (insn->mnemonic == ZYDIS_MNEMONIC_LOOPE));
    enum dbt_result result = branch_if(v, insn, taken);

    if (result != DBT_FAULT)
        gpr_write(v, X86_RCX, insn->address_width, count);
    return result;
}

enum dbt_result branch_jcxz(struct dbt_vcpu *v, const struct insn *insn)
{
    return branch_if(v, insn, gpr_read(v, X86_RCX, insn->address_width) == 0);
}
