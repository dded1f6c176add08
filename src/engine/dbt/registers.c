/*
 * Control registers, debug registers, XCR0 and TLB invalidation. Intel SDM volume 3, 2.5 and 2.6
 * (registers), 4.10.4 (invalidation), 4.4.1 (PDPTEs), 9.8.5 (entering long mode), 18.2 (debug).
 * vCPU thread.
 */
#include "engine/dbt/debug.h"
#include "engine/dbt/guest_features.h"
#include "engine/dbt/interrupt.h"
#include "engine/dbt/operand.h"
#include "engine/dbt/system.h"
#include "engine/dbt/vm.h"

/* --- CR0 --- */

#define CR0_DEFINED                                                                                \
    (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP |    \
     X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)

static bool uses_pdptes(const struct dbt_vcpu *v)
{
    return (v->cr0 & X86_CR0_PG) && (v->cr4 & X86_CR4_PAE) && !(v->efer & X86_EFER_LMA);
}

/* What turning paging on demands and does: with EFER.LME it enters long mode. */
static bool enable_paging(struct dbt_vcpu *v, uint64_t *efer)
{
    if (!(v->efer & X86_EFER_LME))
        return true;
    /* A 16-bit TSS cannot be used in long mode. */
    if (!(v->cr4 & X86_CR4_PAE) || (v->segment[X86_CS].attributes & X86_SEGMENT_L) ||
        !(X86_SEGMENT_TYPE(v->tr.attributes) & 8))
        return false;
    *efer |= X86_EFER_LMA;
    return true;
}

static enum dbt_result write_cr0(struct dbt_vcpu *v, const struct insn *insn, uint64_t value)
{
    uint64_t old = v->cr0, old_efer = v->efer, efer = v->efer;
    uint64_t changed;

    if (value >> 32 || ((value & X86_CR0_PG) && !(value & X86_CR0_PE)) ||
        ((value & X86_CR0_NW) && !(value & X86_CR0_CD)))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    value = (value & CR0_DEFINED) | X86_CR0_ET;
    changed = value ^ old;
    if (changed & value & X86_CR0_PG) {
        if (!enable_paging(v, &efer))
            return dbt_raise_error(v, X86_VECTOR_GP, 0);
    } else if (changed & X86_CR0_PG) {
        if ((v->mode & DBT_MODE_CODE64) || (v->cr4 & X86_CR4_PCIDE))
            return dbt_raise_error(v, X86_VECTOR_GP, 0);
        efer &= ~X86_EFER_LMA;
    }
    v->cr0 = value;
    v->efer = efer;
    if ((changed & (X86_CR0_PG | X86_CR0_CD | X86_CR0_NW)) && uses_pdptes(v) &&
        !mmu_set_cr3(v, v->cr3, false)) {
        v->cr0 = old;
        v->efer = old_efer;
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    }
    if (changed & (X86_CR0_PG | X86_CR0_PE | X86_CR0_WP))
        mmu_flush(v, true);
    mode_update(v);
    return insn_next_block(v, insn);
}

/* --- CR3 --- */

static enum dbt_result write_cr3(struct dbt_vcpu *v, const struct insn *insn, uint64_t value)
{
    bool keep = (v->cr4 & X86_CR4_PCIDE) && (value & X86_CR3_NO_FLUSH);

    if (keep)
        value &= ~X86_CR3_NO_FLUSH;
    if ((v->mode & DBT_MODE_CODE64) && value >> v->vm->phys_bits)
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if (!mmu_set_cr3(v, value, keep))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    return insn_next_block(v, insn);
}

/* --- CR4 --- */

/* Bits that this guest may set. VME and PVI are never offered. */
static uint64_t cr4_allowed(struct dbt_vcpu *v)
{
    static const struct {
        struct cpu_feature feature;
        uint64_t bit;
    } table[] = {
        {FEATURE_TSC, X86_CR4_TSD},     {FEATURE_DE, X86_CR4_DE},
        {FEATURE_PSE, X86_CR4_PSE},     {FEATURE_PAE, X86_CR4_PAE},
        {FEATURE_MCE, X86_CR4_MCE},     {FEATURE_PGE, X86_CR4_PGE},
        {FEATURE_FXSR, X86_CR4_OSFXSR}, {FEATURE_SSE, X86_CR4_OSXMMEXCPT},
        {FEATURE_UMIP, X86_CR4_UMIP},   {FEATURE_FSGSBASE, X86_CR4_FSGSBASE},
        {FEATURE_PCID, X86_CR4_PCIDE},  {FEATURE_XSAVE, X86_CR4_OSXSAVE},
        {FEATURE_SMEP, X86_CR4_SMEP},   {FEATURE_SMAP, X86_CR4_SMAP},
    };
    uint64_t allowed = X86_CR4_PCE;

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
        if (guest_has(v, table[i].feature))
            allowed |= table[i].bit;
    return allowed;
}

static enum dbt_result write_cr4(struct dbt_vcpu *v, const struct insn *insn, uint64_t value)
{
    const uint64_t paging = X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP | X86_CR4_SMAP;
    uint64_t old = v->cr4;
    uint64_t changed = value ^ old;

    /* Bits that are on are known to be allowed, which spares the usual writes the question. */
    if ((changed & value) & ~cr4_allowed(v))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if ((v->efer & X86_EFER_LMA) && !(value & X86_CR4_PAE))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if ((changed & value & X86_CR4_PCIDE) &&
        (!(v->efer & X86_EFER_LMA) || (v->cr3 & X86_CR3_PCID_MASK)))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    v->cr4 = value;
    dbt_forget_fast_calls(v);
    if ((changed & (X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PSE | X86_CR4_SMEP)) && uses_pdptes(v) &&
        !mmu_set_cr3(v, v->cr3, false)) {
        v->cr4 = old;
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    }
    if ((changed & paging) || (changed & old & X86_CR4_PCIDE))
        mmu_flush(v, true);
    mode_update(v);
    return insn_next_block(v, insn);
}

/* --- MOV to and from control registers --- */

static bool cr_exists(unsigned number)
{
    return number == 0 || number == 2 || number == 3 || number == 4 || number == 8;
}

enum dbt_result registers_mov_from_cr(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t value = 0;

    if (!cr_exists(insn->reg))
        return dbt_raise(v, X86_VECTOR_UD);
    if (check_cpl0(v) == DBT_FAULT)
        return DBT_FAULT;
    switch (insn->reg) {
    case 0:
        value = v->cr0;
        break;
    case 2:
        value = v->cr2;
        break;
    case 3:
        value = v->cr3;
        break;
    case 4:
        value = v->cr4;
        break;
    case 8:
        value = dbt_cr8_read(v);
        break;
    }
    gpr_write(v, insn->rm, insn->operand_width, value);
    return insn_next(v, insn);
}

enum dbt_result registers_mov_to_cr(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t value = gpr_read(v, insn->rm, insn->operand_width);

    if (!cr_exists(insn->reg))
        return dbt_raise(v, X86_VECTOR_UD);
    if (check_cpl0(v) == DBT_FAULT)
        return DBT_FAULT;
    switch (insn->reg) {
    case 0:
        return write_cr0(v, insn, value);
    case 3:
        return write_cr3(v, insn, value);
    case 4:
        return write_cr4(v, insn, value);
    case 8:
        if (value > 15)
            return dbt_raise_error(v, X86_VECTOR_GP, 0);
        dbt_cr8_write(v, value);
        return insn_next_block(v, insn); /* a lower priority may let an interrupt in */
    default:
        v->cr2 = value;
        return insn_next(v, insn);
    }
}

enum dbt_result registers_clts(struct dbt_vcpu *v, const struct insn *insn)
{
    if (check_cpl0(v) == DBT_FAULT)
        return DBT_FAULT;
    v->cr0 &= ~X86_CR0_TS;
    return insn_next_mode(v, insn);
}

/* The low four bits of CR0; PE can be set but not cleared. */
enum dbt_result registers_lmsw(struct dbt_vcpu *v, const struct insn *insn)
{
    const uint64_t low = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS;
    uint64_t value;

    if (check_cpl0(v) == DBT_FAULT || operand_rm_read(v, insn, 16, &value) == DBT_FAULT)
        return DBT_FAULT;
    value = (v->cr0 & ~low) | (value & low) | (v->cr0 & X86_CR0_PE);
    return write_cr0(v, insn, value);
}

enum dbt_result registers_smsw(struct dbt_vcpu *v, const struct insn *insn)
{
    if ((v->cr4 & X86_CR4_UMIP) && check_cpl0(v) == DBT_FAULT)
        return DBT_FAULT;
    if (insn->has_memory) {
        if (operand_store(v, insn, 0, 2, v->cr0) == DBT_FAULT)
            return DBT_FAULT;
    } else {
        gpr_write(v, insn->rm, insn->operand_width, v->cr0);
    }
    return insn_next(v, insn);
}

/* --- debug registers --- */

/* Bits that can be written; the others are fixed at the reset value's. */
#define DR6_WRITABLE 0xe00full
#define DR7_WRITABLE 0xffff23ffull

/* Which register is meant (4 and 5 are 6 and 7 unless CR4.DE is on), after all checks. */
static enum dbt_result check_dr(struct dbt_vcpu *v, const struct insn *insn, unsigned *number)
{
    unsigned n = insn->reg;

    if (n > 7 || ((n == 4 || n == 5) && (v->cr4 & X86_CR4_DE)))
        return dbt_raise(v, X86_VECTOR_UD);
    if (check_cpl0(v) == DBT_FAULT)
        return DBT_FAULT;
    if (v->dr7 & X86_DR7_GD) {
        interrupt_set_dr6(v, X86_DR6_BD);
        return dbt_raise(v, X86_VECTOR_DB);
    }
    *number = n == 4 || n == 5 ? n + 2 : n;
    return DBT_NEXT;
}

enum dbt_result registers_mov_from_dr(struct dbt_vcpu *v, const struct insn *insn)
{
    unsigned n;

    if (check_dr(v, insn, &n) == DBT_FAULT)
        return DBT_FAULT;
    gpr_write(v, insn->rm, insn->operand_width, n == 6 ? v->dr6 : n == 7 ? v->dr7 : v->dr[n]);
    return insn_next(v, insn);
}

enum dbt_result registers_mov_to_dr(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t value = gpr_read(v, insn->rm, insn->operand_width);
    unsigned n;

    if (check_dr(v, insn, &n) == DBT_FAULT)
        return DBT_FAULT;
    if (n >= 6 && value >> 32)
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if (n == 6)
        v->dr6 = (value & DR6_WRITABLE) | X86_DR6_RESET;
    else if (n == 7)
        v->dr7 = (value & DR7_WRITABLE) | X86_DR7_RESET;
    else
        v->dr[n] = value;
    if (n != 6)
        debug_update(v);
    mode_update(v);
    return insn_next_block(v, insn);
}

/* --- XCR0 --- */

#define XGETBV1 (1u << 2) /* CPUID D.1.EAX */

enum dbt_result registers_xgetbv(struct dbt_vcpu *v, const struct insn *insn)
{
    uint32_t features[4];
    uint64_t value;

    if (!(v->cr4 & X86_CR4_OSXSAVE))
        return dbt_raise(v, X86_VECTOR_UD);
    switch ((uint32_t)v->gpr[X86_RCX]) {
    case 0:
        value = v->xcr0;
        break;
    case 1: /* components that are not in their initial state: what XSAVE finds */
        dbt_cpuid(v, 0xd, 1, features);
        if (!(features[CPUID_EAX] & XGETBV1))
            return dbt_raise_error(v, X86_VECTOR_GP, 0);
        dbt_simd_unload(v);
        value = v->xsave[XSAVE_XSTATE_BV] & v->xcr0;
        break;
    default:
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    }
    gpr_write(v, X86_RAX, 32, value);
    gpr_write(v, X86_RDX, 32, value >> 32);
    return insn_next(v, insn);
}

enum dbt_result registers_xsetbv(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t value = (uint32_t)v->gpr[X86_RAX] | v->gpr[X86_RDX] << 32;
    uint32_t components[4];
    uint64_t offered;

    if (!(v->cr4 & X86_CR4_OSXSAVE))
        return dbt_raise(v, X86_VECTOR_UD);
    if (check_cpl0(v) == DBT_FAULT)
        return DBT_FAULT;
    dbt_cpuid(v, 0xd, 0, components);
    offered = components[CPUID_EAX] | (uint64_t)components[CPUID_EDX] << 32;
    if ((uint32_t)v->gpr[X86_RCX] != 0 || !(value & X86_XCR0_X87) || (value & ~offered) ||
        ((value & X86_XCR0_AVX) && !(value & X86_XCR0_SSE)) ||
        ((value & X86_XCR0_AVX512) &&
         ((value & X86_XCR0_AVX512) != X86_XCR0_AVX512 || !(value & X86_XCR0_AVX))))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    dbt_set_xcr0(v, value);
    mode_update(v);
    return insn_next_block(v, insn);
}

/* --- TLB invalidation --- */

enum dbt_result registers_invlpg(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t offset;
    unsigned segment;

    if (!insn->has_memory)
        return dbt_raise(v, X86_VECTOR_UD);
    if (check_cpl0(v) == DBT_FAULT)
        return DBT_FAULT;
    /* No limit is checked, and a non-canonical address invalidates nothing. */
    offset = operand_offset(v, insn);
    segment = insn->memory.segment;
    if (!(v->mode & DBT_MODE_CODE64))
        offset = (uint32_t)(offset + v->segment[segment].base);
    else if (segment == X86_FS || segment == X86_GS)
        offset += v->segment[segment].base;
    if (is_canonical(offset))
        mmu_flush_page(v, offset);
    return insn_next_block(v, insn);
}

enum dbt_result registers_invpcid(struct dbt_vcpu *v, const struct insn *insn)
{
    enum { INDIVIDUAL, SINGLE_CONTEXT, ALL_WITH_GLOBAL, ALL_BUT_GLOBAL };
    uint64_t type = gpr_read(v, insn->reg, v->mode & DBT_MODE_CODE64 ? 64 : 32);
    uint64_t pcid, address;
    bool current;

    if (!(v->mode & DBT_MODE_PROTECTED) || !insn->has_memory)
        return dbt_raise(v, X86_VECTOR_UD);
    if (check_cpl0(v) == DBT_FAULT || operand_load(v, insn, 0, 8, &pcid) == DBT_FAULT ||
        operand_load(v, insn, 8, 8, &address) == DBT_FAULT)
        return DBT_FAULT;
    if (type > ALL_BUT_GLOBAL || pcid > X86_CR3_PCID_MASK ||
        (type <= SINGLE_CONTEXT && pcid && !(v->cr4 & X86_CR4_PCIDE)) ||
        (type == INDIVIDUAL && !is_canonical(address)))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    /* Loading CR3 forgets all but global translations, so other PCIDs have none. */
    current = !(v->cr4 & X86_CR4_PCIDE) || (v->cr3 & X86_CR3_PCID_MASK) == pcid;
    switch (type) {
    case INDIVIDUAL:
        if (current)
            mmu_flush_page(v, address);
        break;
    case SINGLE_CONTEXT:
        if (current)
            mmu_flush(v, false);
        break;
    default:
        mmu_flush(v, type == ALL_WITH_GLOBAL);
        break;
    }
    return insn_next_block(v, insn);
}
