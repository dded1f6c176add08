/*
 * Instructions that save and load vector state as an image in memory, where they do not run inline:
 * FXSAVE, FXRSTOR, XSAVE, XRSTOR and the x87's FNSTENV, FNSAVE, FLDENV, FRSTOR, FNINIT. Intel SDM
 * volume 1, 8.1.10, 10.5 and 13.4 to 13.8. vCPU thread, from slow.c, vector state in `xsave`.
 *
 * The host's instruction runs on a buffer. What it cannot know is put right there: the selectors of
 * the x87 pointers, the format of the environment in real-address mode, and that code outside of
 * 64-bit mode has eight vector registers.
 */
#include <string.h>

#include "engine/dbt/operand.h"
#include "engine/dbt/slow.h"
#include "engine/dbt/x87.h"

/* What kind of image it is, and which way it goes. */
struct image {
    struct slow_entry *e;
    bool store;
    bool xsave;       /* with header and component mask */
    bool environment; /* FNSTENV, FLDENV; begins FNSAVE's and FRSTOR's */
    bool wide;        /* pointers of 64 bits, without selectors */
    bool x87;         /* the x87 component takes part */
    bool ymm;         /* the AVX component does */
    unsigned size;
    gva_t linear;
    uint8_t *bytes;
};

static bool is_real_format(const struct dbt_vcpu *v)
{
    return !(v->mode & DBT_MODE_PROTECTED) || (v->mode & DBT_MODE_VM86);
}

static uint32_t get(const uint8_t *from, unsigned size)
{
    uint32_t value = 0;

    memcpy(&value, from, size);
    return value;
}

static void put(uint8_t *to, uint32_t value, unsigned size)
{
    memcpy(to, &value, size);
}

/* --- selectors and the environment's formats --- */

/*
 * The pointers' part of the environment, in units of half its fields' size (Intel SDM volume 1,
 * figures 8-9 to 8-12):
 *
 *     protected  FIP, FCS (and FOP above it, 32-bit only), FDP, FDS
 *     real       FIP 15:0, FIP 31:16 above FOP, FDP 15:0, FDP 31:16, of linear addresses
 */
static void environment_store(const struct dbt_vcpu *v, uint8_t *bytes, unsigned field)
{
    const struct dbt_x87 *x = &v->x87;
    uint64_t ip = x->ip + x->cs * 16u, data = x->dp + x->ds * 16u;
    uint8_t *at = bytes + 3 * field;

    if (!is_real_format(v)) {
        put(at, (uint32_t)x->ip, field);
        put(at + field, x->cs, 2);
        if (field == 4)
            put(at + field + 2, x->opcode, 2);
        put(at + 2 * field, (uint32_t)x->dp, field);
        put(at + 3 * field, x->ds, 2);
        return;
    }
    put(at, ip & 0xffff, field);
    put(at + field, (uint32_t)(ip >> 16) << 12 | x->opcode, field);
    put(at + 2 * field, data & 0xffff, field);
    put(at + 3 * field, (uint32_t)(data >> 16) << 12, field);
}

static void environment_load(struct dbt_vcpu *v, const uint8_t *bytes, unsigned field)
{
    const uint8_t *at = bytes + 3 * field;
    struct dbt_x87 *x = &v->x87;

    x87_clear(v);
    if (!is_real_format(v)) {
        x->ip = get(at, field);
        x->cs = (uint16_t)get(at + field, 2);
        x->opcode = field == 4 ? get(at + field + 2, 2) & 0x7ff : 0;
        x->dp = get(at + 2 * field, field);
        x->ds = (uint16_t)get(at + 3 * field, 2);
        return;
    }
    x->ip = get(at, 2) | (uint64_t)(get(at + field, field) >> 12) << 16;
    x->opcode = get(at + field, 2) & 0x7ff;
    x->dp = get(at + 2 * field, 2) | (uint64_t)(get(at + 3 * field, field) >> 12) << 16;
}

/* FXSAVE's legacy region has the selectors behind 32-bit pointers. */
static void legacy_store(const struct dbt_vcpu *v, uint8_t *bytes)
{
    put(bytes + XSAVE_FIP + 4, v->x87.cs, 2);
    put(bytes + XSAVE_FDP + 4, v->x87.ds, 2);
}

static void legacy_load(struct dbt_vcpu *v, const struct image *image)
{
    const uint8_t *bytes = image->bytes;
    struct dbt_x87 *x = &v->x87;

    x87_clear(v);
    if (image->xsave && !(bytes[XSAVE_XSTATE_BV] & X86_XCR0_X87))
        return;
    memcpy(&x->ip, bytes + XSAVE_FIP, image->wide ? 8 : 4);
    memcpy(&x->dp, bytes + XSAVE_FDP, image->wide ? 8 : 4);
    x->opcode = get(bytes + XSAVE_FOP, 2) & 0x7ff;
    if (!image->wide) {
        x->cs = (uint16_t)get(bytes + XSAVE_FIP + 4, 2);
        x->ds = (uint16_t)get(bytes + XSAVE_FDP + 4, 2);
    }
}

/* --- registers that 32- and 16-bit code does not have --- */

/* XMM8 to XMM15 and the upper halves of YMM8 to YMM15. */
struct high_registers {
    uint8_t xmm[128], ymm[128];
};

static void high_registers_take(struct high_registers *to, const uint8_t *bytes, bool ymm)
{
    memcpy(to->xmm, bytes + XSAVE_XMM + 128, sizeof(to->xmm));
    if (ymm)
        memcpy(to->ymm, bytes + XSAVE_YMM_HIGH + 128, sizeof(to->ymm));
}

static void high_registers_put(const struct high_registers *from, uint8_t *bytes, bool ymm)
{
    memcpy(bytes + XSAVE_XMM + 128, from->xmm, sizeof(from->xmm));
    if (ymm)
        memcpy(bytes + XSAVE_YMM_HIGH + 128, from->ymm, sizeof(from->ymm));
}

/* --- execution --- */

/* Runs the instruction on the buffer; such registers stay as they are there and in the CPU. */
static enum dbt_result run(struct dbt_vcpu *v, const struct image *image)
{
    bool keep_high = !image->environment && !(v->mode & DBT_MODE_CODE64);
    struct high_registers bytes, registers;

    if (keep_high) {
        high_registers_take(&bytes, image->bytes, image->ymm);
        high_registers_take(&registers, v->xsave, true);
    }
    if (slow_run_thunk(v, image->e, image->bytes) == DBT_FAULT)
        return DBT_FAULT;
    if (keep_high) {
        high_registers_put(&bytes, image->bytes, image->ymm);
        high_registers_put(&registers, v->xsave, true);
        v->xsave[XSAVE_XSTATE_BV] |= X86_XCR0_SSE | X86_XCR0_AVX;
    }
    return DBT_NEXT;
}

static unsigned field_size(const struct image *image)
{
    return image->e->insn.operand_width == 16 ? 2 : 4;
}

static enum dbt_result run_store(struct dbt_vcpu *v, const struct image *image)
{
    bool pending = x87_status(v) & FSW_ES;

    if (run(v, image) == DBT_FAULT)
        return DBT_FAULT;
    if (image->environment)
        environment_store(v, image->bytes, field_size(image));
    else if (image->x87 && !image->wide && (pending || !v->vm->features.amd))
        legacy_store(v, image->bytes);
    if (mmu_write(v, image->linear, image->bytes, image->size, MMU_WRITE) == DBT_FAULT)
        return DBT_FAULT;
    if (image->e->insn.mnemonic == ZYDIS_MNEMONIC_FNSAVE)
        x87_clear(v);
    return DBT_NEXT;
}

static enum dbt_result run_load(struct dbt_vcpu *v, const struct image *image)
{
    if (run(v, image) == DBT_FAULT)
        return DBT_FAULT;
    if (image->environment)
        environment_load(v, image->bytes, field_size(image));
    else if (image->x87)
        legacy_load(v, image);
    x87_write_image(v);
    return DBT_NEXT;
}

static void describe(const struct dbt_vcpu *v, struct slow_entry *e, struct image *image)
{
    const struct decoded *d = &e->decoded;
    uint64_t components = v->gpr[X86_RAX] & v->xcr0;

    *image = (struct image){.e = e, .size = d->memory->size / 8, .x87 = true};
    image->store = d->memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    image->wide = (v->mode & DBT_MODE_CODE64) && d->z.raw.rex.W;
    image->environment = d->z.meta.isa_ext == ZYDIS_ISA_EXT_X87;
    image->xsave = decode_is_xsave(d);
    if (image->xsave) {
        image->x87 = components & X86_XCR0_X87;
        image->ymm = components & X86_XCR0_AVX;
        image->size = image->ymm ? DBT_XSAVE_SIZE : XSAVE_LEGACY_SIZE;
    }
}

/* The image as it is in memory: also what a store leaves alone must be written back. XRSTOR touches
 * the AVX component only after it has seen of the header that it is there (13.8). #GP(0) for
 * components that the guest's XCR0 lacks: the host's may have them. */
static enum dbt_result fetch(struct dbt_vcpu *v, const struct image *image)
{
    unsigned first = image->xsave && !image->store ? XSAVE_LEGACY_SIZE : image->size;
    uint64_t header[2]; /* XSTATE_BV, XCOMP_BV */

    if (mmu_read(v, image->linear, image->bytes, first, MMU_READ) == DBT_FAULT)
        return DBT_FAULT;
    if (!image->xsave || image->store)
        return DBT_NEXT;
    memcpy(header, image->bytes + XSAVE_XSTATE_BV, sizeof(header));
    if ((header[0] | header[1]) & v->xcr0_absent)
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if (first == image->size || !(header[0] & X86_XCR0_AVX))
        return DBT_NEXT;
    return mmu_read(v, image->linear + first, image->bytes + first, image->size - first, MMU_READ);
}

enum dbt_result images_execute(struct dbt_vcpu *v, struct slow_entry *e)
{
    const struct decoded *d = &e->decoded;
    unsigned access, alignment;
    enum dbt_result result;
    struct image image;

    if (!d->memory) { /* FNINIT */
        if (slow_run_thunk(v, e, v->runtime->bounce) == DBT_FAULT)
            return DBT_FAULT;
        x87_clear(v);
        return insn_next_block(v, &e->insn);
    }
    describe(v, e, &image);
    access = image.store ? MMU_WRITE : MMU_READ;
    alignment = image.xsave ? 64 : image.environment ? 1 : 16;
    if (decode_is_x87(d) && (x87_status(v) & FSW_ES))
        return dbt_raise(v, X86_VECTOR_MF);
    /* FXSAVE and FXRSTOR look at the address before they look at its alignment. */
    if (!image.xsave && !image.environment &&
        slow_linear(v, &e->insn, 0, 16, access, &image.linear) == DBT_FAULT)
        return DBT_FAULT;
    if ((v->segment[e->insn.memory.segment].base + operand_offset(v, &e->insn)) & (alignment - 1))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if (slow_linear(v, &e->insn, 0, image.size, access, &image.linear) == DBT_FAULT)
        return DBT_FAULT;
    /* The same place in a line as in the guest, for the host's check of the alignment. */
    image.bytes = v->runtime->bounce + (image.linear & 63);
    if (image.store && mmu_probe_write(v, image.linear, image.size, MMU_WRITE) == DBT_FAULT)
        return DBT_FAULT;
    if (fetch(v, &image) == DBT_FAULT)
        return DBT_FAULT;
    result = image.store ? run_store(v, &image) : run_load(v, &image);
    return result == DBT_FAULT ? DBT_FAULT : insn_next_block(v, &e->insn);
}
