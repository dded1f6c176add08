/*
 * Segmentation: see segment.h. Intel SDM volume 3, 3.4, 3.5 and 5.2 to 5.7; the instructions that
 * load segment registers are at the end (volume 2, MOV, POP, LDS). vCPU thread.
 */
#include "engine/dbt/segment.h"
#include "engine/dbt/operand.h"
#include "engine/dbt/stack.h"
#include "engine/dbt/system.h"

bool descriptor_in_table(const struct dbt_vcpu *v, uint16_t selector)
{
    if (!(selector & X86_SELECTOR_TI))
        return (selector | 7u) <= v->gdtr.limit;
    return (v->ldtr.attributes & X86_SEGMENT_PRESENT) && (selector | 7u) <= v->ldtr.limit;
}

enum dbt_result descriptor_read(struct dbt_vcpu *v, uint16_t selector, uint8_t vector, uint32_t ext,
                                struct descriptor *d)
{
    uint64_t base = selector & X86_SELECTOR_TI ? v->ldtr.base : v->gdtr.base;

    if (!descriptor_in_table(v, selector))
        return raise_selector(v, vector, selector, ext);
    d->address = base + (selector & 0xfff8u);
    if (!(v->mode & DBT_MODE_LMA))
        d->address = (uint32_t)d->address;
    d->high = 0;
    return mmu_read(v, d->address, &d->low, 8, MMU_READ | MMU_IMPLICIT);
}

enum dbt_result descriptor_read_high(struct dbt_vcpu *v, uint16_t selector, struct descriptor *d)
{
    uint32_t limit = selector & X86_SELECTOR_TI ? v->ldtr.limit : v->gdtr.limit;

    if ((selector | 7u) + 8 > limit)
        return raise_selector(v, X86_VECTOR_GP, selector, 0);
    if (mmu_read(v, d->address + 8, &d->high, 8, MMU_READ | MMU_IMPLICIT) == DBT_FAULT)
        return DBT_FAULT;
    if (d->high >> 40 & 0x1f)
        return raise_selector(v, X86_VECTOR_GP, selector, 0);
    return DBT_NEXT;
}

enum dbt_result descriptor_set_type(struct dbt_vcpu *v, struct descriptor *d, unsigned set,
                                    unsigned clear)
{
    uint64_t expected = d->low >> 40 & 0xff;

    for (;;) {
        uint64_t old = expected;
        uint64_t desired = (old | set) & ~(uint64_t)clear;

        if (desired == old)
            return DBT_NEXT;
        /* One byte is naturally aligned wherever the table is. */
        if (mmu_cmpxchg(v, d->address + 5, &expected, desired, 1, MMU_WRITE | MMU_IMPLICIT) ==
            DBT_FAULT)
            return DBT_FAULT;
        if (expected == old) {
            d->low = (d->low & ~(0xffull << 40)) | desired << 40;
            return DBT_NEXT;
        }
    }
}

void descriptor_unpack(const struct descriptor *d, uint16_t selector, struct x86_segment *out)
{
    uint32_t limit = (d->low & 0xffff) | (d->low >> 32 & 0xf0000);

    out->selector = selector;
    out->attributes = descriptor_attributes(d);
    out->limit = out->attributes & X86_SEGMENT_G ? limit << 12 | 0xfff : limit;
    out->base = (d->low >> 16 & 0xffffff) | (d->low >> 32 & 0xff000000) | d->high << 32;
}

void segment_make_null(struct x86_segment *s, uint16_t selector, unsigned dpl)
{
    s->selector = selector;
    s->attributes = dpl << 5;
    s->limit = 0;
    s->base = 0;
}

void segment_fetch_real(const struct dbt_vcpu *v, unsigned reg, uint16_t selector,
                        struct x86_segment *out)
{
    const struct x86_segment *old = &v->segment[reg];
    const uint16_t data =
        X86_SEGMENT_PRESENT | X86_SEGMENT_S | X86_TYPE_WRITABLE | X86_TYPE_ACCESSED;

    out->selector = selector;
    out->base = (uint32_t)selector << 4;
    if (v->mode & DBT_MODE_VM86) {
        out->limit = 0xffff;
        out->attributes = data | 3 << 5;
    } else {
        out->limit = old->limit;
        out->attributes = data | (old->attributes & (X86_SEGMENT_DB | X86_SEGMENT_G));
        /* A null segment left over from protected mode has no limit worth keeping. */
        if (!(old->attributes & X86_SEGMENT_PRESENT))
            out->limit = 0xffff;
    }
}

enum dbt_result descriptor_read_code(struct dbt_vcpu *v, uint16_t selector, uint32_t ext,
                                     struct descriptor *d)
{
    const uint16_t both = X86_SEGMENT_L | X86_SEGMENT_DB;

    if (selector_is_null(selector))
        return dbt_raise_error(v, X86_VECTOR_GP, ext);
    if (descriptor_read(v, selector, X86_VECTOR_GP, ext, d) == DBT_FAULT)
        return DBT_FAULT;
    if (!descriptor_is_code(d) ||
        ((v->mode & DBT_MODE_LMA) && (descriptor_attributes(d) & both) == both))
        return raise_selector(v, X86_VECTOR_GP, selector, ext);
    return DBT_NEXT;
}

enum dbt_result descriptor_read_gate_target(struct dbt_vcpu *v, uint16_t selector, uint32_t ext,
                                            struct descriptor *d)
{
    if (descriptor_read_code(v, selector, ext, d) == DBT_FAULT)
        return DBT_FAULT;
    if (descriptor_dpl(d) > dbt_cpl(v) ||
        ((v->mode & DBT_MODE_LMA) && !(descriptor_attributes(d) & X86_SEGMENT_L)))
        return raise_selector(v, X86_VECTOR_GP, selector, ext);
    if (!descriptor_present(d))
        return raise_selector(v, X86_VECTOR_NP, selector, ext);
    return DBT_NEXT;
}

enum dbt_result segment_fetch_stack(struct dbt_vcpu *v, uint16_t selector, unsigned cpl,
                                    uint8_t vector, uint32_t ext, struct x86_segment *out)
{
    struct descriptor d;

    if (selector_is_null(selector))
        return raise_selector(v, vector, selector, ext);
    if (descriptor_read(v, selector, vector, ext, &d) == DBT_FAULT)
        return DBT_FAULT;
    if (X86_SELECTOR_RPL(selector) != cpl || !descriptor_is_writable_data(&d) ||
        descriptor_dpl(&d) != cpl)
        return raise_selector(v, vector, selector, ext);
    if (!descriptor_present(&d))
        return raise_selector(v, X86_VECTOR_SS, selector, ext);
    if (descriptor_set_type(v, &d, X86_TYPE_ACCESSED, 0) == DBT_FAULT)
        return DBT_FAULT;
    descriptor_unpack(&d, selector, out);
    return DBT_NEXT;
}

enum dbt_result segment_fetch_data(struct dbt_vcpu *v, uint16_t selector, unsigned cpl,
                                   uint8_t vector, struct x86_segment *out)
{
    struct descriptor d;
    unsigned dpl;

    if (selector_is_null(selector)) {
        segment_make_null(out, selector, 0);
        return DBT_NEXT;
    }
    if (descriptor_read(v, selector, vector, 0, &d) == DBT_FAULT)
        return DBT_FAULT;
    dpl = descriptor_dpl(&d);
    if (!descriptor_is_segment(&d) ||
        (descriptor_is_code(&d) && !(descriptor_type(&d) & X86_TYPE_READABLE)))
        return raise_selector(v, vector, selector, 0);
    if (!descriptor_is_conforming_code(&d) && (X86_SELECTOR_RPL(selector) > dpl || cpl > dpl))
        return raise_selector(v, vector, selector, 0);
    if (!descriptor_present(&d))
        return raise_selector(v, X86_VECTOR_NP, selector, 0);
    if (descriptor_set_type(v, &d, X86_TYPE_ACCESSED, 0) == DBT_FAULT)
        return DBT_FAULT;
    descriptor_unpack(&d, selector, out);
    return DBT_NEXT;
}

enum dbt_result segment_fetch(struct dbt_vcpu *v, unsigned reg, uint16_t selector,
                              struct x86_segment *out)
{
    unsigned cpl = dbt_cpl(v);

    if (!(v->mode & DBT_MODE_PROTECTED) || (v->mode & DBT_MODE_VM86)) {
        segment_fetch_real(v, reg, selector, out);
        return DBT_NEXT;
    }
    if (reg != X86_SS)
        return segment_fetch_data(v, selector, cpl, X86_VECTOR_GP, out);
    if (selector_is_null(selector) && (v->mode & DBT_MODE_CODE64) && cpl < 3 &&
        X86_SELECTOR_RPL(selector) == cpl) {
        segment_make_null(out, selector, cpl);
        return DBT_NEXT;
    }
    return segment_fetch_stack(v, selector, cpl, X86_VECTOR_GP, 0, out);
}

static bool segment_expands_down(const struct x86_segment *s)
{
    return (s->attributes & (X86_SEGMENT_S | X86_TYPE_CODE | X86_TYPE_EXPAND_DOWN)) ==
           (X86_SEGMENT_S | X86_TYPE_EXPAND_DOWN);
}

bool segment_contains(const struct x86_segment *s, uint64_t offset, unsigned size)
{
    uint64_t last = offset + size - 1;

    if (segment_expands_down(s)) {
        uint64_t top = s->attributes & X86_SEGMENT_DB ? 0xffffffff : 0xffff;

        return offset > s->limit && last <= top;
    }
    return last <= s->limit;
}

/* The type allows the access: real mode and VM86 never check it. */
static bool segment_allows(const struct dbt_vcpu *v, const struct x86_segment *s, unsigned access)
{
    unsigned type = X86_SEGMENT_TYPE(s->attributes);

    if (!(v->mode & DBT_MODE_PROTECTED) || (v->mode & DBT_MODE_VM86))
        return true;
    if (!(s->attributes & X86_SEGMENT_PRESENT))
        return false;
    if (access & MMU_WRITE)
        return !(type & X86_TYPE_CODE) && (type & X86_TYPE_WRITABLE);
    return !(type & X86_TYPE_CODE) || (type & X86_TYPE_READABLE);
}

static void update_ends_of(struct dbt_vcpu *v, unsigned reg)
{
    const struct x86_segment *s = &v->segment[reg];
    uint64_t neg_end = segment_expands_down(s) ? 0 : -((uint64_t)s->limit + 1);
    struct x86_segment loaded;

    segment_fetch_real(v, reg, s->selector, &loaded);
    v->ends.neg_read[reg] = segment_allows(v, s, MMU_READ) ? neg_end : 0;
    v->ends.neg_write[reg] = segment_allows(v, s, MMU_WRITE) ? neg_end : 0;
    v->ends.load_in_c[reg] = loaded.attributes != s->attributes || loaded.limit != s->limit;
}

void segment_update_ends(struct dbt_vcpu *v)
{
    /* Real, virtual-8086 and protected mode have rules of their own. The 1 is for the first time.
     */
    uint64_t rules = (v->mode & (DBT_MODE_PROTECTED | DBT_MODE_VM86)) | 1;

    for (unsigned reg = 0; reg < X86_SEGMENT_COUNT; reg++) {
        const struct x86_segment *s = &v->segment[reg];
        uint64_t source = rules << 48 | (uint64_t)s->limit << 16 | s->attributes;

        if (source != v->ends.source[reg]) {
            v->ends.source[reg] = source;
            update_ends_of(v, reg);
        }
    }
    v->ends.neg_code = -((uint64_t)v->segment[X86_CS].limit + 1);
    v->ends.neg_code_base = -(uint32_t)v->segment[X86_CS].base;
}

enum dbt_result segment_linear(struct dbt_vcpu *v, unsigned reg, uint64_t offset, unsigned size,
                               unsigned access, gva_t *linear)
{
    const struct x86_segment *s = &v->segment[reg];

    if (v->mode & DBT_MODE_CODE64) {
        uint64_t address = reg == X86_FS || reg == X86_GS ? s->base + offset : offset;

        if (is_canonical(address) && is_canonical(address + size - 1)) {
            *linear = address;
            return DBT_NEXT;
        }
    } else if (segment_allows(v, s, access) && segment_contains(s, offset, size)) {
        *linear = (uint32_t)(s->base + offset);
        return DBT_NEXT;
    }
    return dbt_raise_error(v, reg == X86_SS ? X86_VECTOR_SS : X86_VECTOR_GP, 0);
}

enum dbt_result segment_read(struct dbt_vcpu *v, unsigned reg, uint64_t offset, void *to,
                             unsigned size)
{
    gva_t linear;

    if (segment_linear(v, reg, offset, size, MMU_READ, &linear) == DBT_FAULT)
        return DBT_FAULT;
    return mmu_read(v, linear, to, size, MMU_READ);
}

enum dbt_result segment_write(struct dbt_vcpu *v, unsigned reg, uint64_t offset, const void *from,
                              unsigned size)
{
    gva_t linear;

    if (segment_linear(v, reg, offset, size, MMU_WRITE, &linear) == DBT_FAULT)
        return DBT_FAULT;
    return mmu_write(v, linear, from, size, MMU_WRITE);
}

/* --- instructions --- */

/* Loading SS holds interrupts and debug traps back for one instruction, so that the stack pointer
 * can follow (SDM volume 3, 6.8.3). */
static enum dbt_result finish_load(struct dbt_vcpu *v, const struct insn *insn, unsigned reg,
                                   const struct x86_segment *s)
{
    v->segment[reg] = *s;
    if (reg != X86_SS)
        return insn_next_mode(v, insn);
    v->shadow = DBT_SHADOW_SS;
    mode_update(v);
    return insn_next_block(v, insn);
}

enum dbt_result segment_mov_to(struct dbt_vcpu *v, const struct insn *insn)
{
    unsigned reg = insn->reg & 7;
    struct x86_segment s;
    uint64_t selector;

    if (reg == X86_CS || reg >= X86_SEGMENT_COUNT)
        return dbt_raise(v, X86_VECTOR_UD);
    if (operand_rm_read(v, insn, 16, &selector) == DBT_FAULT ||
        segment_fetch(v, reg, selector, &s) == DBT_FAULT)
        return DBT_FAULT;
    return finish_load(v, insn, reg, &s);
}

enum dbt_result segment_mov_from(struct dbt_vcpu *v, const struct insn *insn)
{
    unsigned reg = insn->reg & 7;

    if (reg >= X86_SEGMENT_COUNT)
        return dbt_raise(v, X86_VECTOR_UD);
    if (insn->has_memory) {
        if (operand_store(v, insn, 0, 2, v->segment[reg].selector) == DBT_FAULT)
            return DBT_FAULT;
    } else {
        gpr_write(v, insn->rm, insn->operand_width, v->segment[reg].selector);
    }
    return insn_next(v, insn);
}

/* ES to DS sit in bits 3 and 4 of a one-byte opcode, FS and GS in bits 3 to 5 after 0F. */
static unsigned opcode_segment(const struct insn *insn)
{
    return insn->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT ? insn->opcode >> 3 & 3
                                                        : insn->opcode >> 3 & 7;
}

enum dbt_result segment_push(struct dbt_vcpu *v, const struct insn *insn)
{
    struct stack stack;

    stack_init(&stack, v);
    if (stack_push(&stack, insn->operand_width / 8, v->segment[opcode_segment(insn)].selector) ==
        DBT_FAULT)
        return DBT_FAULT;
    stack_commit(&stack);
    return insn_next(v, insn);
}

enum dbt_result segment_pop(struct dbt_vcpu *v, const struct insn *insn)
{
    unsigned reg = opcode_segment(insn);
    struct x86_segment s;
    struct stack stack;
    uint64_t selector;

    stack_init(&stack, v);
    if (stack_pop(&stack, insn->operand_width / 8, &selector) == DBT_FAULT ||
        segment_fetch(v, reg, selector, &s) == DBT_FAULT)
        return DBT_FAULT;
    stack_commit(&stack);
    return finish_load(v, insn, reg, &s);
}

/* LDS, LES, LSS, LFS, LGS: an offset, then a selector. */
enum dbt_result segment_load_pointer(struct dbt_vcpu *v, const struct insn *insn)
{
    unsigned size = insn->operand_width / 8;
    unsigned reg;
    struct x86_segment s;
    uint64_t offset, selector;

    switch (insn->mnemonic) {
    case ZYDIS_MNEMONIC_LDS:
        reg = X86_DS;
        break;
    case ZYDIS_MNEMONIC_LES:
        reg = X86_ES;
        break;
    case ZYDIS_MNEMONIC_LSS:
        reg = X86_SS;
        break;
    case ZYDIS_MNEMONIC_LFS:
        reg = X86_FS;
        break;
    default:
        reg = X86_GS;
        break;
    }
    if (operand_load(v, insn, 0, size, &offset) == DBT_FAULT ||
        operand_load(v, insn, size, 2, &selector) == DBT_FAULT ||
        segment_fetch(v, reg, selector, &s) == DBT_FAULT)
        return DBT_FAULT;
    gpr_write(v, insn->reg, insn->operand_width, offset);
    return finish_load(v, insn, reg, &s);
}
