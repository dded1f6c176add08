/*
 * Segmentation: descriptors in memory, the hidden parts of segment registers, and linear addresses
 * with every check on the way. Intel SDM volume 3, chapters 3 and 5 (5.2.1 for 64-bit mode).
 * vCPU thread.
 */
#ifndef SILL_ENGINE_DBT_SEGMENT_H
#define SILL_ENGINE_DBT_SEGMENT_H

#include "engine/dbt/insn.h"
#include "x86/arch.h"

/* A descriptor of the GDT or LDT. `high` is its second half, for long mode's 16-byte ones. */
struct descriptor {
    uint64_t low, high;
    gva_t address;
};

static inline uint16_t descriptor_attributes(const struct descriptor *d)
{
    return d->low >> 40 & 0xf0ff;
}

static inline unsigned descriptor_dpl(const struct descriptor *d)
{
    return X86_SEGMENT_DPL(descriptor_attributes(d));
}

static inline unsigned descriptor_type(const struct descriptor *d)
{
    return X86_SEGMENT_TYPE(descriptor_attributes(d));
}

static inline bool descriptor_present(const struct descriptor *d)
{
    return descriptor_attributes(d) & X86_SEGMENT_PRESENT;
}

/* Code or data, as opposed to a system descriptor. */
static inline bool descriptor_is_segment(const struct descriptor *d)
{
    return descriptor_attributes(d) & X86_SEGMENT_S;
}

static inline bool descriptor_is_code(const struct descriptor *d)
{
    return descriptor_is_segment(d) && (descriptor_type(d) & X86_TYPE_CODE);
}

static inline bool descriptor_is_conforming_code(const struct descriptor *d)
{
    return descriptor_is_code(d) && (descriptor_type(d) & X86_TYPE_CONFORMING);
}

static inline bool descriptor_is_writable_data(const struct descriptor *d)
{
    return descriptor_is_segment(d) && !(descriptor_type(d) & X86_TYPE_CODE) &&
           (descriptor_type(d) & X86_TYPE_WRITABLE);
}

static inline bool selector_is_null(uint16_t selector)
{
    return (selector & 0xfffc) == 0;
}

/* Segment faults carry the selector without its RPL; `ext` is X86_ERROR_EXT or 0. */
static inline enum dbt_result raise_selector(struct dbt_vcpu *v, uint8_t vector, uint16_t selector,
                                             uint32_t ext)
{
    return dbt_raise_error(v, vector, (selector & 0xfffcu) | ext);
}

/* Whether the GDT or LDT reaches that far. */
bool descriptor_in_table(const struct dbt_vcpu *v, uint16_t selector);
/* Reads the 8 bytes that a selector (not null) names; outside its table `vector` is raised. */
SILL_CHECKED enum dbt_result descriptor_read(struct dbt_vcpu *v, uint16_t selector, uint8_t vector,
                                             uint32_t ext, struct descriptor *d);
/* Reads long mode's second 8 bytes of a system descriptor; their type must be 0. */
SILL_CHECKED enum dbt_result descriptor_read_high(struct dbt_vcpu *v, uint16_t selector,
                                                  struct descriptor *d);
/* Sets or clears type bits (accessed, busy) in `d` and in memory, atomically. */
SILL_CHECKED enum dbt_result descriptor_set_type(struct dbt_vcpu *v, struct descriptor *d,
                                                 unsigned set, unsigned clear);
/* The hidden part that loading `d` gives; base from `high` too for a system segment in long mode.
 */
void descriptor_unpack(const struct descriptor *d, uint16_t selector, struct x86_segment *out);

/* Reads the descriptor of a code segment that control is to go to; the caller compares privileges.
 * #GP where it is null, no code, or 64-bit and 32-bit at once. */
SILL_CHECKED enum dbt_result descriptor_read_code(struct dbt_vcpu *v, uint16_t selector,
                                                  uint32_t ext, struct descriptor *d);
/* The target of a call, interrupt or trap gate: at least as privileged as the CPL and 64-bit in
 * long mode (#GP), present (#NP). */
SILL_CHECKED enum dbt_result descriptor_read_gate_target(struct dbt_vcpu *v, uint16_t selector,
                                                         uint32_t ext, struct descriptor *d);

/* What loading a segment register gives, by the rules of the current mode; marks the descriptor
 * accessed. No register changes. */
SILL_CHECKED enum dbt_result segment_fetch(struct dbt_vcpu *v, unsigned reg, uint16_t selector,
                                           struct x86_segment *out);
/* The protected-mode checks of a stack and of a data segment for privilege level `cpl`; breaches
 * raise `vector` (#GP, or #TS in task and stack switches), absence #SS or #NP. A null selector is a
 * breach for the stack and gives the null segment for data. */
SILL_CHECKED enum dbt_result segment_fetch_stack(struct dbt_vcpu *v, uint16_t selector,
                                                 unsigned cpl, uint8_t vector, uint32_t ext,
                                                 struct x86_segment *out);
SILL_CHECKED enum dbt_result segment_fetch_data(struct dbt_vcpu *v, uint16_t selector, unsigned cpl,
                                                uint8_t vector, struct x86_segment *out);
/* Real mode: selector and base change, limit and size stay ("unreal mode" depends on it). VM86:
 * all is fixed. */
void segment_fetch_real(const struct dbt_vcpu *v, unsigned reg, uint16_t selector,
                        struct x86_segment *out);
/* The null segment; `dpl` is kept for SS, whose DPL is the CPL. */
void segment_make_null(struct x86_segment *s, uint16_t selector, unsigned dpl);

/* Fills v->ends from the segment registers and v->mode. */
void segment_update_ends(struct dbt_vcpu *v);

/* Whether `size` bytes at `offset` are within the limit. */
bool segment_contains(const struct x86_segment *s, uint64_t offset, unsigned size);

/*
 * Linear address of `size` bytes at seg:offset, for `access` (MMU_READ or MMU_WRITE): limit, type
 * and canonical checks of the current mode, #SS(0) or #GP(0).
 */
SILL_CHECKED enum dbt_result segment_linear(struct dbt_vcpu *v, unsigned reg, uint64_t offset,
                                            unsigned size, unsigned access, gva_t *linear);

/* segment_linear(), then memory with the rights of the CPL. */
SILL_CHECKED enum dbt_result segment_read(struct dbt_vcpu *v, unsigned reg, uint64_t offset,
                                          void *to, unsigned size);
SILL_CHECKED enum dbt_result segment_write(struct dbt_vcpu *v, unsigned reg, uint64_t offset,
                                           const void *from, unsigned size);

#endif
