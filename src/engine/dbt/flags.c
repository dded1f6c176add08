/*
 * RFLAGS as a whole: PUSHF, POPF, CLI, STI, CLAC, STAC, and the rules that IRET shares with POPF.
 * Intel SDM volume 1, 3.4.3; volume 2, table 4-15 (POPF); volume 3, 6.8 (IF). vCPU thread.
 *
 * Virtual interrupts (CR4.VME, CR4.PVI) are not offered, so IOPL alone decides in VM86 mode.
 */
#include "engine/dbt/flags.h"
#include "engine/dbt/operand.h"
#include "engine/dbt/stack.h"
#include "engine/dbt/system.h"

static unsigned iopl(const struct dbt_vcpu *v)
{
    return (v->flags_sys & X86_FLAG_IOPL) >> X86_FLAG_IOPL_SHIFT;
}

uint64_t flags_merge(const struct dbt_vcpu *v, uint64_t image, unsigned width)
{
    uint64_t mask = DBT_ARITH_FLAGS | X86_FLAG_TF | X86_FLAG_NT;

    if (dbt_cpl(v) <= iopl(v))
        mask |= X86_FLAG_IF;
    if (dbt_cpl(v) == 0)
        mask |= X86_FLAG_IOPL;
    if (width > 16)
        mask |= X86_FLAG_AC | X86_FLAG_ID;
    return (dbt_rflags_get(v) & ~mask) | (image & mask);
}

/* In VM86 mode the instructions that show or change IF need IOPL 3. */
static bool vm86_forbids(const struct dbt_vcpu *v)
{
    return (v->mode & DBT_MODE_VM86) && iopl(v) < 3;
}

enum dbt_result flags_pushf(struct dbt_vcpu *v, const struct insn *insn)
{
    struct stack stack;

    if (vm86_forbids(v))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    stack_init(&stack, v);
    if (stack_push(&stack, insn->operand_width / 8,
                   dbt_rflags_get(v) & ~(X86_FLAG_RF | X86_FLAG_VM)) == DBT_FAULT)
        return DBT_FAULT;
    stack_commit(&stack);
    return insn_next(v, insn);
}

enum dbt_result flags_popf(struct dbt_vcpu *v, const struct insn *insn)
{
    bool was_enabled = v->iflag;
    uint64_t image, flags;
    struct stack stack;
    enum dbt_result result;

    if (vm86_forbids(v))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    stack_init(&stack, v);
    if (stack_pop(&stack, insn->operand_width / 8, &image) == DBT_FAULT)
        return DBT_FAULT;
    flags = flags_merge(v, image, insn->operand_width);
    if (insn->operand_width > 16)
        flags &= ~X86_FLAG_RF;
    dbt_rflags_set(v, flags);
    stack_commit(&stack);
    result = insn_next_mode(v, insn);
    /* An interrupt may have waited for IF. */
    return v->iflag && !was_enabled ? DBT_JUMP : result;
}

/* CLI and STI need CPL <= IOPL (CPL is 3 in VM86 mode). */
static enum dbt_result check_iopl(struct dbt_vcpu *v)
{
    return dbt_cpl(v) <= iopl(v) ? DBT_NEXT : dbt_raise_error(v, X86_VECTOR_GP, 0);
}

enum dbt_result flags_cli(struct dbt_vcpu *v, const struct insn *insn)
{
    if (check_iopl(v) == DBT_FAULT)
        return DBT_FAULT;
    v->iflag = 0;
    return insn_next(v, insn);
}

enum dbt_result flags_sti(struct dbt_vcpu *v, const struct insn *insn)
{
    if (check_iopl(v) == DBT_FAULT)
        return DBT_FAULT;
    if (v->iflag)
        return insn_next(v, insn);
    v->iflag = 1;
    v->shadow = DBT_SHADOW_STI;
    return insn_next_block(v, insn);
}

static enum dbt_result set_ac(struct dbt_vcpu *v, const struct insn *insn, bool on)
{
    if (dbt_cpl(v) != 0)
        return dbt_raise(v, X86_VECTOR_UD);
    v->flags_sys = on ? v->flags_sys | X86_FLAG_AC : v->flags_sys & ~X86_FLAG_AC;
    return insn_next_mode(v, insn);
}

enum dbt_result flags_clac(struct dbt_vcpu *v, const struct insn *insn)
{
    return set_ac(v, insn, false);
}

enum dbt_result flags_stac(struct dbt_vcpu *v, const struct insn *insn)
{
    return set_ac(v, insn, true);
}
