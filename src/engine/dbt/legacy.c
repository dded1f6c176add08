/*
 * Instructions of the 8086 and 80286 that compilers no longer emit: decimal adjustment, SALC,
 * BOUND, ARPL, XLAT. Intel SDM volume 2, each instruction. vCPU thread.
 *
 * Flags that the manual leaves undefined are set by the result, as current processors do.
 */
#include "engine/dbt/operand.h"
#include "engine/dbt/segment.h"
#include "engine/dbt/system.h"

/* SF, ZF and PF of a byte result with the given CF and AF; OF becomes 0. */
static void set_flags(struct dbt_vcpu *v, uint8_t result, bool cf, bool af)
{
    uint64_t flags = v->flags_arith & ~(DBT_ARITH_FLAGS & ~X86_FLAG_DF);

    flags |= cf ? X86_FLAG_CF : 0;
    flags |= af ? X86_FLAG_AF : 0;
    flags |= result == 0 ? X86_FLAG_ZF : 0;
    flags |= result & 0x80 ? X86_FLAG_SF : 0;
    flags |= __builtin_parity(result) ? 0 : X86_FLAG_PF;
    v->flags_arith = flags;
}

/* AAA and AAS work on AX by one digit; DAA and DAS on both digits of AL. */
enum dbt_result legacy_adjust(struct dbt_vcpu *v, const struct insn *insn)
{
    bool subtract = insn->mnemonic == ZYDIS_MNEMONIC_AAS || insn->mnemonic == ZYDIS_MNEMONIC_DAS;
    bool ascii = insn->mnemonic == ZYDIS_MNEMONIC_AAA || insn->mnemonic == ZYDIS_MNEMONIC_AAS;
    bool cf = v->flags_arith & X86_FLAG_CF;
    bool af = (v->flags_arith & X86_FLAG_AF) || (v->gpr[X86_RAX] & 0xf) > 9;
    uint16_t ax = v->gpr[X86_RAX];
    uint8_t al = ax;

    if (ascii) {
        if (af)
            ax = subtract ? ax - 0x106 : ax + 0x106;
        ax &= 0xff0f;
        gpr_write(v, X86_RAX, 16, ax);
        set_flags(v, ax, af, af);
        return insn_next(v, insn);
    }
    cf = cf || al > 0x99;
    if (subtract) {
        /* A borrow of the first step shows in CF although the second does not happen. */
        bool borrow = af && al < 6;

        al -= (af ? 6 : 0) + (cf ? 0x60 : 0);
        cf = cf || borrow;
    } else {
        al += (af ? 6 : 0) + (cf ? 0x60 : 0);
    }
    gpr_write(v, X86_RAX, 8, al);
    set_flags(v, al, cf, af);
    return insn_next(v, insn);
}

enum dbt_result legacy_aam(struct dbt_vcpu *v, const struct insn *insn)
{
    uint8_t base = insn->imm;
    uint8_t al = v->gpr[X86_RAX];

    if (base == 0)
        return dbt_raise(v, X86_VECTOR_DE);
    gpr_write(v, X86_RAX, 16, (uint64_t)(al / base) << 8 | al % base);
    set_flags(v, al % base, false, false);
    return insn_next(v, insn);
}

enum dbt_result legacy_aad(struct dbt_vcpu *v, const struct insn *insn)
{
    uint16_t ax = v->gpr[X86_RAX];
    uint8_t al = (ax & 0xff) + (ax >> 8) * (insn->imm & 0xff);

    gpr_write(v, X86_RAX, 16, al);
    set_flags(v, al, false, false);
    return insn_next(v, insn);
}

enum dbt_result legacy_salc(struct dbt_vcpu *v, const struct insn *insn)
{
    gpr_write(v, X86_RAX, 8, v->flags_arith & X86_FLAG_CF ? 0xff : 0);
    return insn_next(v, insn);
}

enum dbt_result legacy_bound(struct dbt_vcpu *v, const struct insn *insn)
{
    unsigned size = insn->operand_width / 8;
    unsigned shift = 64 - insn->operand_width;
    int64_t index = (int64_t)(v->gpr[insn->reg] << shift);
    uint64_t lower, upper;

    if (operand_load(v, insn, 0, size, &lower) == DBT_FAULT ||
        operand_load(v, insn, size, size, &upper) == DBT_FAULT)
        return DBT_FAULT;
    /* Moved to the top of the word, signed values of any size compare alike. */
    if (index < (int64_t)(lower << shift) || index > (int64_t)(upper << shift))
        return dbt_raise(v, X86_VECTOR_BR);
    return insn_next(v, insn);
}

enum dbt_result legacy_arpl(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t selector;
    unsigned rpl = X86_SELECTOR_RPL(v->gpr[insn->reg]);

    if (!(v->mode & DBT_MODE_PROTECTED) || (v->mode & DBT_MODE_VM86))
        return dbt_raise(v, X86_VECTOR_UD);
    if (operand_rm_read(v, insn, 16, &selector) == DBT_FAULT)
        return DBT_FAULT;
    if (X86_SELECTOR_RPL(selector) >= rpl) {
        v->flags_arith &= ~X86_FLAG_ZF;
        return insn_next(v, insn);
    }
    selector = (selector & 0xfffc) | rpl;
    if (!insn->has_memory)
        gpr_write(v, insn->rm, 16, selector);
    else if (operand_store(v, insn, 0, 2, selector) == DBT_FAULT)
        return DBT_FAULT;
    v->flags_arith |= X86_FLAG_ZF;
    return insn_next(v, insn);
}

enum dbt_result legacy_xlat(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t offset = v->gpr[X86_RBX] + (v->gpr[X86_RAX] & 0xff);
    uint8_t al;

    if (segment_read(v, insn->memory.segment, offset & width_mask(insn->address_width), &al, 1) ==
        DBT_FAULT)
        return DBT_FAULT;
    gpr_write(v, X86_RAX, 8, al);
    return insn_next(v, insn);
}
