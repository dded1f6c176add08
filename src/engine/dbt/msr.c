/*
 * RDMSR and WRMSR, and the instructions that read or write single registers of that kind: RDTSC,
 * RDTSCP, RDPID, RDPMC, RDFSBASE to WRGSBASE, SWAPGS. Intel SDM volume 4, chapter 2; volume
 * 3, 12.11 (MTRRs), 12.12 (PAT), 16.3.1 (machine check), 2.2.1 (EFER). vCPU thread.
 *
 * The engine keeps what changes the meaning of instructions, and the memory types, which have no
 * effect. The local APIC, the paravirtual clock and all else is asked for outside (dbt_msr_*).
 */
#include "engine/dbt/guest_features.h"
#include "engine/dbt/operand.h"
#include "engine/dbt/system.h"
#include "x86/msr.h"

#define MTRR_VARIABLE_LAST MSR_MTRR_PHYS_MASK(MTRR_CAP_VARIABLE - 1)

static bool is_variable_mtrr(uint32_t index)
{
    return index >= MSR_MTRR_PHYS_BASE(0) && index <= MTRR_VARIABLE_LAST;
}

/* Number of a fixed-range MTRR in x86_msrs, or -1. */
static int fixed_mtrr(uint32_t index)
{
    switch (index) {
    case MSR_MTRR_FIX64K_00000:
        return 0;
    case MSR_MTRR_FIX16K_80000:
        return 1;
    case MSR_MTRR_FIX16K_A0000:
        return 2;
    default:
        if (index >= MSR_MTRR_FIX4K_C0000 && index <= MSR_MTRR_FIX4K_C0000 + 7)
            return 3 + (int)(index - MSR_MTRR_FIX4K_C0000);
        return -1;
    }
}

/* Where the value of a register that only stores is kept, or NULL. */
static uint64_t *msr_storage(struct dbt_vcpu *v, uint32_t index)
{
    struct x86_msrs *msr = &v->msr;

    switch (index) {
    case MSR_STAR:
        return &msr->star;
    case MSR_LSTAR:
        return &msr->lstar;
    case MSR_CSTAR:
        return &msr->cstar;
    case MSR_SFMASK:
        return &msr->sfmask;
    case MSR_FS_BASE:
        return &v->segment[X86_FS].base;
    case MSR_GS_BASE:
        return &v->segment[X86_GS].base;
    case MSR_KERNEL_GS_BASE:
        return &msr->kernel_gs_base;
    case MSR_TSC_AUX:
        return &msr->tsc_aux;
    case MSR_SYSENTER_CS:
        return &msr->sysenter_cs;
    case MSR_SYSENTER_ESP:
        return &msr->sysenter_esp;
    case MSR_SYSENTER_EIP:
        return &msr->sysenter_eip;
    case MSR_PAT:
        return &msr->pat;
    case MSR_MISC_ENABLE:
        return &msr->misc_enable;
    case MSR_MTRR_DEF_TYPE:
        return &msr->mtrr_def_type;
    }
    if (fixed_mtrr(index) >= 0)
        return &msr->mtrr_fixed[fixed_mtrr(index)];
    if (is_variable_mtrr(index)) {
        unsigned n = (index - MSR_MTRR_PHYS_BASE(0)) / 2;

        return index & 1 ? &msr->mtrr_mask[n] : &msr->mtrr_base[n];
    }
    return NULL;
}

/* UC, WC, WT, WP, WB; the PAT has UC- too. */
static bool is_memory_type(unsigned type)
{
    return type == 0 || type == 1 || (type >= 4 && type <= 6);
}

static bool is_memory_type_vector(uint64_t value, bool pat)
{
    for (unsigned i = 0; i < 8; i++, value >>= 8)
        if (!is_memory_type(value & 0xff) && !(pat && (value & 0xff) == 7))
            return false;
    return true;
}

/* Whether a register of msr_storage() takes the value. */
static bool is_valid(uint32_t index, uint64_t value)
{
    switch (index) {
    case MSR_LSTAR:
    case MSR_CSTAR:
    case MSR_FS_BASE:
    case MSR_GS_BASE:
    case MSR_KERNEL_GS_BASE:
    case MSR_SYSENTER_ESP:
    case MSR_SYSENTER_EIP:
        return is_canonical(value);
    case MSR_TSC_AUX:
        return value >> 32 == 0;
    case MSR_PAT:
        return is_memory_type_vector(value, true);
    case MSR_MTRR_DEF_TYPE:
        return is_memory_type(value & 0xff) &&
               !(value & ~(MTRR_DEF_TYPE_ENABLE | MTRR_DEF_TYPE_FIXED_ENABLE | 0xff));
    }
    if (fixed_mtrr(index) >= 0)
        return is_memory_type_vector(value, false);
    if (is_variable_mtrr(index) && !(index & 1))
        return is_memory_type(value & 0xff) && !(value & 0xf00);
    return true;
}

/* A guest's code does not run on the processor as the guest wrote it, so its own precautions
 * against what the processor suffers from would only cost it time (docs/threat-model.md). */
#define ARCH_CAPABILITIES                                                                          \
    (ARCH_CAP_RDCL_NO | ARCH_CAP_IBRS_ALL | ARCH_CAP_SKIP_L1DFL_VMENTRY | ARCH_CAP_SSB_NO |        \
     ARCH_CAP_MDS_NO | ARCH_CAP_PSCHANGE_MC_NO | ARCH_CAP_TAA_NO | ARCH_CAP_SBDR_SSDP_NO |         \
     ARCH_CAP_FBSDP_NO | ARCH_CAP_PSDP_NO | ARCH_CAP_BHI_NO | ARCH_CAP_PBRSB_NO |                  \
     ARCH_CAP_GDS_NO | ARCH_CAP_RFDS_NO | ARCH_CAP_ITS_NO)

/* SPEC_CTRL exists if any of what it controls is offered; it controls nothing here. */
static uint64_t spec_ctrl_allowed(struct dbt_vcpu *v)
{
    uint64_t allowed = 0;

    if (guest_has(v, FEATURE_SPEC_CTRL) || guest_has(v, FEATURE_AMD_IBRS))
        allowed |= 1 << 0;
    if (guest_has(v, FEATURE_STIBP) || guest_has(v, FEATURE_AMD_STIBP))
        allowed |= 1 << 1;
    if (guest_has(v, FEATURE_SSBD) || guest_has(v, FEATURE_AMD_SSBD))
        allowed |= 1 << 2;
    return allowed;
}

static bool read_msr(struct dbt_vcpu *v, uint32_t index, uint64_t *value)
{
    uint64_t *storage = msr_storage(v, index);

    if (storage) {
        *value = *storage;
        return true;
    }
    switch (index) {
    case MSR_TSC:
        *value = dbt_tsc(v);
        return true;
    case MSR_TSC_ADJUST:
        *value = v->msr.tsc_adjust;
        return guest_has(v, FEATURE_TSC_ADJUST);
    case MSR_EFER:
        *value = v->efer;
        return true;
    case MSR_MTRR_CAP:
        *value = MTRR_CAP_VARIABLE | MTRR_CAP_FIXED | MTRR_CAP_WC;
        return guest_has(v, FEATURE_MTRR);
    case MSR_MCG_CAP:    /* the machine-check architecture without any bank, */
    case MSR_MCG_STATUS: /* and no machine check ever happens */
        *value = 0;
        return guest_has(v, FEATURE_MCA);
    case MSR_ARCH_CAPABILITIES:
        *value = ARCH_CAPABILITIES;
        return guest_has(v, FEATURE_ARCH_CAPABILITIES);
    case MSR_SPEC_CTRL:
        *value = v->msr.spec_ctrl;
        return spec_ctrl_allowed(v) != 0;
    default:
        return dbt_msr_read_outside(v, index, value);
    }
}

static bool write_efer(struct dbt_vcpu *v, uint64_t value)
{
    uint64_t changed = (value ^ v->efer) & ~X86_EFER_LMA;
    uint64_t allowed = X86_EFER_LMA;

    if (guest_has(v, FEATURE_SYSCALL))
        allowed |= X86_EFER_SCE;
    if (guest_has(v, FEATURE_LM))
        allowed |= X86_EFER_LME;
    if (guest_has(v, FEATURE_NX))
        allowed |= X86_EFER_NXE;
    if (guest_has(v, FEATURE_FFXSR))
        allowed |= X86_EFER_FFXSR;
    if (guest_has(v, FEATURE_AUTOMATIC_IBRS))
        allowed |= X86_EFER_AUTOIBRS;
    if ((value & ~allowed) || ((changed & X86_EFER_LME) && (v->cr0 & X86_CR0_PG)))
        return false;
    dbt_forget_fast_calls(v);
    v->efer ^= changed; /* LMA follows LME and CR0.PG alone */
    if (changed & X86_EFER_NXE)
        mmu_flush(v, true);
    mode_update(v);
    return true;
}

/* Adds to the TSC, of which TSC_ADJUST keeps account (Intel SDM volume 3, 18.17.3). */
static void move_tsc(struct dbt_vcpu *v, uint64_t ticks)
{
    uint64_t deadline;

    v->tsc_offset += ticks;
    v->msr.tsc_adjust += ticks;
    /* A deadline that is armed is now another moment. */
    if (dbt_msr_read_outside(v, MSR_TSC_DEADLINE, &deadline) && deadline)
        (void)!dbt_msr_write_outside(v, MSR_TSC_DEADLINE, deadline);
}

static bool write_msr(struct dbt_vcpu *v, uint32_t index, uint64_t value)
{
    uint64_t *storage = msr_storage(v, index);

    if (storage) {
        if (!is_valid(index, value))
            return false;
        *storage = index == MSR_SFMASK ? (uint32_t)value : value;
        if (index >= MSR_STAR && index <= MSR_SFMASK)
            dbt_forget_fast_calls(v);
        return true;
    }
    switch (index) {
    case MSR_TSC:
        move_tsc(v, value - dbt_tsc(v));
        return true;
    case MSR_TSC_ADJUST:
        if (!guest_has(v, FEATURE_TSC_ADJUST))
            return false;
        move_tsc(v, value - v->msr.tsc_adjust);
        return true;
    case MSR_EFER:
        return write_efer(v, value);
    case MSR_MTRR_CAP:
    case MSR_MCG_CAP:
        return false;
    case MSR_MCG_STATUS: /* software clears it */
        return guest_has(v, FEATURE_MCA);
    case MSR_SPEC_CTRL:
        if (!spec_ctrl_allowed(v) || (value & ~spec_ctrl_allowed(v)))
            return false;
        v->msr.spec_ctrl = value;
        return true;
    case MSR_PRED_CMD: /* a barrier for predictors that the guest does not share */
        return (guest_has(v, FEATURE_SPEC_CTRL) || guest_has(v, FEATURE_AMD_IBPB)) && value <= 1;
    default:
        return dbt_msr_write_outside(v, index, value);
    }
}

enum dbt_result msr_rdmsr(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t value = 0;

    if (check_cpl0(v) == DBT_FAULT)
        return DBT_FAULT;
    if (!read_msr(v, v->gpr[X86_RCX], &value))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    gpr_write(v, X86_RAX, 32, value);
    gpr_write(v, X86_RDX, 32, value >> 32);
    return insn_next(v, insn);
}

enum dbt_result msr_wrmsr(struct dbt_vcpu *v, const struct insn *insn)
{
    uint32_t index = v->gpr[X86_RCX];
    uint64_t value = (uint32_t)v->gpr[X86_RAX] | v->gpr[X86_RDX] << 32;

    if (check_cpl0(v) == DBT_FAULT)
        return DBT_FAULT;
    if (!write_msr(v, index, value))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    /* Only plain storage leaves the block's world as it was: an APIC write may let an interrupt in.
     */
    return msr_storage(v, index) ? insn_next(v, insn) : insn_next_block(v, insn);
}

/* --- time-stamp and performance counters --- */

static enum dbt_result read_tsc(struct dbt_vcpu *v)
{
    uint64_t tsc;

    if ((v->cr4 & X86_CR4_TSD) && check_cpl0(v) == DBT_FAULT)
        return DBT_FAULT;
    tsc = dbt_tsc(v);
    gpr_write(v, X86_RAX, 32, tsc);
    gpr_write(v, X86_RDX, 32, tsc >> 32);
    return DBT_NEXT;
}

enum dbt_result msr_rdtsc(struct dbt_vcpu *v, const struct insn *insn)
{
    return read_tsc(v) == DBT_FAULT ? DBT_FAULT : insn_next(v, insn);
}

enum dbt_result msr_rdtscp(struct dbt_vcpu *v, const struct insn *insn)
{
    asm volatile("lfence"); /* RDTSCP waits for what is before it */
    if (read_tsc(v) == DBT_FAULT)
        return DBT_FAULT;
    gpr_write(v, X86_RCX, 32, v->msr.tsc_aux);
    return insn_next(v, insn);
}

enum dbt_result msr_rdpid(struct dbt_vcpu *v, const struct insn *insn)
{
    gpr_write(v, insn->rm, v->mode & DBT_MODE_CODE64 ? 64 : 32, v->msr.tsc_aux);
    return insn_next(v, insn);
}

/* There are no counters, so every index is out of range. */
enum dbt_result msr_rdpmc(struct dbt_vcpu *v, const struct insn *insn)
{
    return dbt_raise_error(v, X86_VECTOR_GP, 0);
}

/* --- segment bases --- */

enum dbt_result msr_fsgsbase(struct dbt_vcpu *v, const struct insn *insn)
{
    bool fs =
        insn->mnemonic == ZYDIS_MNEMONIC_RDFSBASE || insn->mnemonic == ZYDIS_MNEMONIC_WRFSBASE;
    bool write =
        insn->mnemonic == ZYDIS_MNEMONIC_WRFSBASE || insn->mnemonic == ZYDIS_MNEMONIC_WRGSBASE;
    uint64_t *base = &v->segment[fs ? X86_FS : X86_GS].base;
    unsigned width = insn->operand_width == 64 ? 64 : 32; /* 66 is without effect */
    uint64_t value = gpr_read(v, insn->rm, width);

    if (!(v->mode & DBT_MODE_CODE64) || !(v->cr4 & X86_CR4_FSGSBASE))
        return dbt_raise(v, X86_VECTOR_UD);
    if (!write) {
        gpr_write(v, insn->rm, width, *base);
        return insn_next(v, insn);
    }
    if (!is_canonical(value))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    *base = value;
    return insn_next(v, insn);
}

enum dbt_result msr_swapgs(struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t base = v->segment[X86_GS].base;

    if (!(v->mode & DBT_MODE_CODE64))
        return dbt_raise(v, X86_VECTOR_UD);
    if (check_cpl0(v) == DBT_FAULT)
        return DBT_FAULT;
    v->segment[X86_GS].base = v->msr.kernel_gs_base;
    v->msr.kernel_gs_base = base;
    return insn_next(v, insn);
}
