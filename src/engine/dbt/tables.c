/*
 * Descriptor-table registers (LGDT, SGDT, LIDT, SIDT, LLDT, SLDT, LTR, STR) and the instructions
 * that ask what a selector would give (LAR, LSL, VERR, VERW). Intel SDM volume 2, each instruction;
 * volume 3, 2.4. vCPU thread.
 */
#include "engine/dbt/operand.h"
#include "engine/dbt/segment.h"
#include "engine/dbt/system.h"

static bool is_protected(const struct dbt_vcpu *v)
{
    return (v->mode & DBT_MODE_PROTECTED) && !(v->mode & DBT_MODE_VM86);
}

/* User-mode instruction prevention: stores of system registers need CPL 0. */
static enum dbt_result check_umip(struct dbt_vcpu *v)
{
    return v->cr4 & X86_CR4_UMIP ? check_cpl0(v) : DBT_NEXT;
}

static unsigned base_size(const struct dbt_vcpu *v)
{
    return v->mode & DBT_MODE_CODE64 ? 8 : 4;
}

enum dbt_result tables_load(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t limit, base;

    if (!insn->has_memory)
        return dbt_raise(v, X86_VECTOR_UD);
    if (check_cpl0(v) == DBT_FAULT || operand_load(v, insn, 0, 2, &limit) == DBT_FAULT ||
        operand_load(v, insn, 2, base_size(v), &base) == DBT_FAULT)
        return DBT_FAULT;
    if (!is_canonical(base))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if (insn->operand_width == 16)
        base &= 0xffffff; /* as the 80286 had it */
    *(insn->mnemonic == ZYDIS_MNEMONIC_LGDT ? &v->gdtr : &v->idtr) =
        (struct x86_table){.base = base, .limit = limit};
    return insn_next(v, insn);
}

enum dbt_result tables_store(struct dbt_vcpu *v, const struct insn *insn)
{
    const struct x86_table *table = insn->mnemonic == ZYDIS_MNEMONIC_SGDT ? &v->gdtr : &v->idtr;
    gva_t linear;
    uint8_t image[10];
    unsigned size = 2 + base_size(v);

    if (!insn->has_memory)
        return dbt_raise(v, X86_VECTOR_UD);
    if (check_umip(v) == DBT_FAULT)
        return DBT_FAULT;
    for (unsigned i = 0; i < 2; i++)
        image[i] = table->limit >> 8 * i;
    for (unsigned i = 0; i < 8; i++)
        image[2 + i] = table->base >> 8 * i;
    if (segment_linear(v, insn->memory.segment, operand_offset(v, insn), size, MMU_WRITE,
                       &linear) == DBT_FAULT ||
        mmu_write(v, linear, image, size, MMU_WRITE) == DBT_FAULT)
        return DBT_FAULT;
    return insn_next(v, insn);
}

/* The system descriptor that LLDT or LTR names, with its second half in long mode. */
static enum dbt_result read_system(struct dbt_vcpu *v, uint16_t selector, unsigned type,
                                   unsigned other_type, struct descriptor *d)
{
    struct x86_segment s;

    if (selector & X86_SELECTOR_TI)
        return raise_selector(v, X86_VECTOR_GP, selector, 0);
    if (descriptor_read(v, selector, X86_VECTOR_GP, 0, d) == DBT_FAULT)
        return DBT_FAULT;
    if (descriptor_is_segment(d) ||
        (descriptor_type(d) != type && descriptor_type(d) != other_type))
        return raise_selector(v, X86_VECTOR_GP, selector, 0);
    if (!descriptor_present(d))
        return raise_selector(v, X86_VECTOR_NP, selector, 0);
    if (!(v->mode & DBT_MODE_LMA))
        return DBT_NEXT;
    if (descriptor_read_high(v, selector, d) == DBT_FAULT)
        return DBT_FAULT;
    descriptor_unpack(d, selector, &s);
    return is_canonical(s.base) ? DBT_NEXT : raise_selector(v, X86_VECTOR_GP, selector, 0);
}

enum dbt_result tables_lldt(struct dbt_vcpu *v, const struct insn *insn)
{
    struct descriptor d;
    uint64_t selector;

    if (!is_protected(v))
        return dbt_raise(v, X86_VECTOR_UD);
    if (check_cpl0(v) == DBT_FAULT || operand_rm_read(v, insn, 16, &selector) == DBT_FAULT)
        return DBT_FAULT;
    if (selector_is_null(selector)) {
        segment_make_null(&v->ldtr, selector, 0);
        return insn_next(v, insn);
    }
    if (read_system(v, selector, X86_TYPE_LDT, X86_TYPE_LDT, &d) == DBT_FAULT)
        return DBT_FAULT;
    descriptor_unpack(&d, selector, &v->ldtr);
    return insn_next(v, insn);
}

enum dbt_result tables_ltr(struct dbt_vcpu *v, const struct insn *insn)
{
    const unsigned busy = X86_TYPE_TSS_BUSY ^ X86_TYPE_TSS;
    struct descriptor d;
    uint64_t selector;

    if (!is_protected(v))
        return dbt_raise(v, X86_VECTOR_UD);
    if (check_cpl0(v) == DBT_FAULT || operand_rm_read(v, insn, 16, &selector) == DBT_FAULT)
        return DBT_FAULT;
    if (selector_is_null(selector))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if (read_system(v, selector, X86_TYPE_TSS,
                    v->mode & DBT_MODE_LMA ? X86_TYPE_TSS : X86_TYPE_TSS16, &d) == DBT_FAULT ||
        descriptor_set_type(v, &d, busy, 0) == DBT_FAULT)
        return DBT_FAULT;
    descriptor_unpack(&d, selector, &v->tr);
    return insn_next(v, insn);
}

enum dbt_result tables_store_selector(struct dbt_vcpu *v, const struct insn *insn)
{
    uint16_t selector = insn->mnemonic == ZYDIS_MNEMONIC_STR ? v->tr.selector : v->ldtr.selector;

    if (!is_protected(v))
        return dbt_raise(v, X86_VECTOR_UD);
    if (check_umip(v) == DBT_FAULT)
        return DBT_FAULT;
    if (insn->has_memory) {
        if (operand_store(v, insn, 0, 2, selector) == DBT_FAULT)
            return DBT_FAULT;
    } else {
        gpr_write(v, insn->rm, insn->operand_width, selector);
    }
    return insn_next(v, insn);
}

/* --- LAR, LSL, VERR, VERW: ZF says whether the selector is good --- */

static enum dbt_result finish_zf(struct dbt_vcpu *v, const struct insn *insn, bool zf)
{
    v->flags_arith = zf ? v->flags_arith | X86_FLAG_ZF : v->flags_arith & ~X86_FLAG_ZF;
    return insn_next(v, insn);
}

/* The current code could use the descriptor, as far as privilege goes. */
static bool is_visible(const struct dbt_vcpu *v, uint16_t selector, const struct descriptor *d)
{
    unsigned dpl = descriptor_dpl(d);

    return descriptor_is_conforming_code(d) ||
           (dbt_cpl(v) <= dpl && X86_SELECTOR_RPL(selector) <= dpl);
}

/* System descriptors that LAR and LSL accept, as bit masks of types. */
static bool type_accepted(const struct dbt_vcpu *v, const struct insn *insn,
                          const struct descriptor *d)
{
    unsigned types = 1u << X86_TYPE_LDT | 1u << X86_TYPE_TSS | 1u << X86_TYPE_TSS_BUSY;

    if (descriptor_is_segment(d))
        return true;
    if (!(v->mode & DBT_MODE_LMA))
        types |= 1u << X86_TYPE_TSS16 | 1u << X86_TYPE_TSS16_BUSY;
    if (insn->mnemonic == ZYDIS_MNEMONIC_LAR) {
        types |= 1u << X86_TYPE_CALL_GATE;
        if (!(v->mode & DBT_MODE_LMA))
            types |= 1u << X86_TYPE_CALL_GATE16 | 1u << X86_TYPE_TASK_GATE;
    }
    return types >> descriptor_type(d) & 1;
}

enum dbt_result tables_lar_lsl(struct dbt_vcpu *v, const struct insn *insn)
{
    struct x86_segment s;
    struct descriptor d;
    uint64_t selector, value;

    if (!is_protected(v))
        return dbt_raise(v, X86_VECTOR_UD);
    if (operand_rm_read(v, insn, 16, &selector) == DBT_FAULT)
        return DBT_FAULT;
    if (selector_is_null(selector) || !descriptor_in_table(v, selector))
        return finish_zf(v, insn, false);
    if (descriptor_read(v, selector, X86_VECTOR_GP, 0, &d) == DBT_FAULT)
        return DBT_FAULT;
    if (!is_visible(v, selector, &d) || !type_accepted(v, insn, &d))
        return finish_zf(v, insn, false);
    descriptor_unpack(&d, selector, &s);
    value = insn->mnemonic == ZYDIS_MNEMONIC_LSL ? s.limit : d.low >> 32 & 0x00f0ff00;
    gpr_write(v, insn->reg, insn->operand_width, value);
    return finish_zf(v, insn, true);
}

enum dbt_result tables_verify(struct dbt_vcpu *v, const struct insn *insn)
{
    struct descriptor d;
    uint64_t selector;
    bool ok;

    if (!is_protected(v))
        return dbt_raise(v, X86_VECTOR_UD);
    if (operand_rm_read(v, insn, 16, &selector) == DBT_FAULT)
        return DBT_FAULT;
    if (selector_is_null(selector) || !descriptor_in_table(v, selector))
        return finish_zf(v, insn, false);
    if (descriptor_read(v, selector, X86_VECTOR_GP, 0, &d) == DBT_FAULT)
        return DBT_FAULT;
    if (insn->mnemonic == ZYDIS_MNEMONIC_VERW)
        ok = descriptor_is_writable_data(&d);
    else
        ok = descriptor_is_segment(&d) &&
             (!descriptor_is_code(&d) || (descriptor_type(&d) & X86_TYPE_READABLE));
    return finish_zf(v, insn, ok && is_visible(v, selector, &d));
}
