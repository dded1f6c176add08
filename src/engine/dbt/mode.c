/*
 * The mode word that translated blocks are keyed by, from the architectural state: see enum
 * dbt_mode. Called after every change of a control register, segment register, RFLAGS bit or
 * debug register that it depends on. vCPU thread.
 *
 * Bits that mean nothing in a mode are 0 in it, so that one block serves all their values.
 */
#include "engine/dbt/segment.h"
#include "x86/arch.h"

static uint32_t fpu_bits(const struct dbt_vcpu *v)
{
    const uint64_t avx = X86_XCR0_SSE | X86_XCR0_AVX;
    bool ts = v->cr0 & X86_CR0_TS;
    uint32_t mode = 0;

    if (ts || (v->cr0 & X86_CR0_EM))
        mode |= DBT_MODE_NO_X87 | DBT_MODE_NO_SSE;
    if (!(v->cr4 & X86_CR4_OSFXSR))
        mode |= DBT_MODE_NO_SSE;
    if (ts || !(v->cr4 & X86_CR4_OSXSAVE))
        mode |= DBT_MODE_NO_XSAVE | DBT_MODE_NO_AVX;
    if ((v->xcr0 & avx) != avx)
        mode |= DBT_MODE_NO_AVX;
    if (ts && (v->cr0 & X86_CR0_MP))
        mode |= DBT_MODE_MP_TS;
    return mode;
}

/* Some breakpoint of DR7 is on and watches instruction fetches. */
static bool has_instruction_breakpoint(uint64_t dr7)
{
    for (unsigned i = 0; i < 4; i++)
        if (X86_DR7_ENABLED(dr7, i) && X86_DR7_TYPE(dr7, i) == 0)
            return true;
    return false;
}

/* Data that can be read and written up to the limit; real and virtual-8086 mode allow it all. */
static bool is_plain(const struct x86_segment *s, bool descriptors, uint32_t limit)
{
    const uint16_t writable_data = X86_SEGMENT_PRESENT | X86_SEGMENT_S | X86_TYPE_WRITABLE;
    const uint16_t mask = writable_data | X86_TYPE_CODE | X86_TYPE_EXPAND_DOWN;
    bool expands_down = (s->attributes & (mask & ~writable_data)) == X86_TYPE_EXPAND_DOWN;

    if (s->limit != limit)
        return false;
    return descriptors ? (s->attributes & mask) == writable_data : !expands_down;
}

/* Code size, and how the code segment lies in pages. */
static uint32_t code_bits(const struct x86_segment *cs)
{
    uint64_t end = cs->base + cs->limit + 1;

    if (cs->attributes & X86_SEGMENT_DB) {
        if (cs->base == 0 && cs->limit == 0xffffffff)
            return DBT_MODE_CODE32 | DBT_MODE_FLAT_CODE;
    } else if (cs->limit > 0xffff) {
        return DBT_MODE_RAGGED_CODE;
    }
    return (cs->attributes & X86_SEGMENT_DB ? DBT_MODE_CODE32 : 0) |
           ((cs->base | end) & (GUEST_PAGE_SIZE - 1) ? DBT_MODE_RAGGED_CODE : 0);
}

/* Code and stack sizes, and whether the data segments can be ignored. */
static uint32_t segment_bits(const struct dbt_vcpu *v, bool protected)
{
    uint16_t cs = v->segment[X86_CS].attributes;
    uint32_t mode = 0;
    bool flat, limit_64k;

    if (v->efer & X86_EFER_LMA) {
        mode |= DBT_MODE_LMA;
        if (cs & X86_SEGMENT_L)
            return mode | DBT_MODE_CODE64;
    }
    if (v->segment[X86_SS].attributes & X86_SEGMENT_DB)
        mode |= DBT_MODE_STACK32;
    mode |= code_bits(&v->segment[X86_CS]);
    flat = mode & DBT_MODE_CODE32;
    limit_64k = !flat && v->segment[X86_CS].limit == 0xffff;
    /* Code of 16 bits seldom has flat segments, and in real mode changes them often. */
    for (unsigned reg = X86_ES; reg <= X86_DS; reg++) {
        const struct x86_segment *s = &v->segment[reg];

        if (reg == X86_CS)
            continue;
        flat = flat && s->base == 0 && is_plain(s, protected, 0xffffffff);
        limit_64k = limit_64k && is_plain(s, protected, 0xffff);
    }
    if (flat)
        mode |= DBT_MODE_FLAT;
    if (limit_64k)
        mode |= DBT_MODE_LIMIT_64K;
    return mode;
}

void mode_update(struct dbt_vcpu *v)
{
    bool protected = v->cr0 & X86_CR0_PE;
    bool ac = v->flags_sys & X86_FLAG_AC;
    uint32_t mode = fpu_bits(v) | segment_bits(v, protected);
    unsigned cpl = 0;

    if (protected) {
        mode |= DBT_MODE_PROTECTED;
        cpl = X86_SEGMENT_DPL(v->segment[X86_SS].attributes);
        if (v->flags_sys & X86_FLAG_VM) {
            mode |= DBT_MODE_VM86;
            cpl = 3;
        }
    }
    mode |= cpl;
    if (cpl < 3 && (ac || !(v->cr4 & X86_CR4_SMAP)))
        mode |= DBT_MODE_AC;
    if (cpl < 3 && !(v->cr4 & X86_CR4_SMAP))
        mode |= DBT_MODE_NO_SMAP;
    if (cpl == 3 && ac && (v->cr0 & X86_CR0_AM))
        mode |= DBT_MODE_ALIGN;
    if (v->flags_sys & X86_FLAG_TF)
        mode |= DBT_MODE_TF;
    if (has_instruction_breakpoint(v->dr7))
        mode |= DBT_MODE_DEBUG;
    if (((v->mode & DBT_MODE_CPL_MASK) == 3) != (cpl == 3)) {
        uint64_t other = v->pin_other;

        v->pin_other = v->pin_addend;
        v->pin_addend = other;
    }
    v->mode = mode;
    if (!(mode & DBT_MODE_CODE64))
        segment_update_ends(v);
}
