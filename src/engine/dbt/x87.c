/* The x87 instruction and data pointers; see x87.h. vCPU thread, and the translator. */
#include <string.h>

#include "engine/dbt/operand.h"
#include "engine/dbt/x87.h"

/* v->x87.last: the offset in the page, the opcode, and that there is one. */
#define NOTED_OPCODE_SHIFT 12
#define NOTED (1u << 31)
#define OPCODE_BITS 0x7ffu

/* All x87 instructions but the control instructions. */
static bool sets_pointers(const struct decoded *d)
{
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_FISTTP:
        return true;
    case ZYDIS_MNEMONIC_FDISI8087_NOP:
    case ZYDIS_MNEMONIC_FENI8087_NOP:
    case ZYDIS_MNEMONIC_FLDCW:
    case ZYDIS_MNEMONIC_FNCLEX:
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTSW:
    case ZYDIS_MNEMONIC_FSETPM287_NOP:
    case ZYDIS_MNEMONIC_FWAIT:
        return false;
    default:
        return d->class == INSN_NATIVE && d->z.meta.isa_ext == ZYDIS_ISA_EXT_X87;
    }
}

/* The low bits of the first opcode byte, and the ModRM byte. */
static uint16_t opcode_of(const struct decoded *d)
{
    const ZydisDecodedInstruction *z = &d->z;

    return (uint16_t)((z->opcode & 7) << 8 | z->raw.modrm.mod << 6 | z->raw.modrm.reg << 3 |
                      z->raw.modrm.rm);
}

static void emit_selector(struct translator *t, struct host_memory to, unsigned segment)
{
    emit_op_memory(&t->e, false, 0x0fb7, TEMP1, VCPU_FIELD(segment[segment].selector)); /* movzx */
    emit_store16(&t->e, to, TEMP1);
}

/* The half of v->x87.cs_ds at byte `offset`. */
static struct host_memory noted_selector(int32_t offset)
{
    struct host_memory m = VCPU_FIELD(x87.cs_ds);

    m.disp += offset;
    return m;
}

void x87_emit_note(struct translator *t)
{
    struct emitter *e = &t->e;
    const struct decoded *d = t->d;

    if (!sets_pointers(d))
        return;
    if (!t->x87_noted) { /* what is the same in all of the block */
        t->x87_noted = true;
        t->x87_segment = X86_SEGMENT_COUNT;
        emit_load(e, TEMP1, VCPU_FIELD(page_base));
        if (!is_code64(t)) { /* linear - base = linear + ~base + 1, which leaves flags alone */
            emit_load(e, TEMP0, VCPU_FIELD(segment[X86_CS].base));
            emit_not(e, TEMP0);
            emit_lea32(e, TEMP1,
                       (struct host_memory){.base = TEMP1, .index = TEMP0, .scale = 1, .disp = 1});
        }
        emit_store(e, VCPU_FIELD(x87.page), TEMP1);
        emit_selector(t, noted_selector(0), X86_CS);
    }
    if (d->memory) {
        unsigned segment = decode_segment_number(d->memory->mem.segment);

        if (t->x87_segment != segment)
            emit_selector(t, noted_selector(2), segment);
        t->x87_segment = (uint8_t)segment;
        access_effective(t, d->memory);
        emit_store(e, VCPU_FIELD(x87.data), TEMP0);
    }
    emit_store32_imm(e, VCPU_FIELD(x87.last),
                     ((uint32_t)d->offset & (GUEST_PAGE_SIZE - 1)) |
                         (uint32_t)opcode_of(d) << NOTED_OPCODE_SHIFT | NOTED);
}

/* To slow.c if the 32-bit field is not 0, without touching flags. */
static void emit_unless_zero(struct translator *t, struct host_memory field)
{
    struct emitter *e = &t->e;
    struct exit_record *record = translator_record(t, EXIT_SLOW, t->d->offset);

    emit_mov(e, TEMP2, HOST_RCX);
    emit_load32(e, HOST_RCX, field);
    emit_jrcxz(e, 3 + 5);
    emit_mov(e, HOST_RCX, TEMP2); /* 3 bytes */
    translator_tail_exit(t, emit_jmp32(e), record);
    emit_mov(e, HOST_RCX, TEMP2);
}

void x87_emit_check(struct translator *t)
{
    emit_unless_zero(t, VCPU_FIELD(x87.last));
    if (!t->d->z.raw.rex.W) /* shows the selectors, which the registers do not have */
        emit_unless_zero(t, VCPU_FIELD(x87.cs));
}

/* FNSTENV's 32-bit image in protected mode (Intel SDM volume 1, figure 8-9). */
struct environment {
    uint32_t fcw, fsw, ftw, fip;
    uint16_t fcs, fop;
    uint32_t fdp;
    uint16_t fds, unused;
};

/* After an image has been loaded inline the registers tell, while they are still the guest's. */
static void take_loaded(struct dbt_vcpu *v)
{
    struct environment e;

    __asm__ volatile("fnstenv %0" : "=m"(e));
    v->x87.ip = e.fip;
    v->x87.dp = e.fdp;
    v->x87.cs = e.fcs;
    v->x87.ds = e.fds;
    v->x87.opcode = e.fop & OPCODE_BITS;
    if (x87_status(v) & FSW_ES) { /* then the image has all 64 bits */
        memcpy(&v->x87.ip, v->xsave + XSAVE_FIP, sizeof(v->x87.ip));
        memcpy(&v->x87.dp, v->xsave + XSAVE_FDP, sizeof(v->x87.dp));
    }
    v->x87.loaded = 0;
}

static void take_noted(struct dbt_vcpu *v)
{
    struct dbt_x87 *x = &v->x87;
    uint64_t ip = x->page + (x->last & (GUEST_PAGE_SIZE - 1));

    x->ip = v->mode & DBT_MODE_LMA ? ip : (uint32_t)ip;
    x->opcode = x->last >> NOTED_OPCODE_SHIFT & OPCODE_BITS;
    x->cs = (uint16_t)x->cs_ds;
    if (x->data != X87_NO_DATA) {
        x->dp = x->data;
        x->ds = (uint16_t)(x->cs_ds >> 16);
    }
    x->last = 0;
    x->data = X87_NO_DATA;
    v->xsave[XSAVE_XSTATE_BV] |= X86_XCR0_X87;
}

void x87_write_image(struct dbt_vcpu *v)
{
    memcpy(v->xsave + XSAVE_FIP, &v->x87.ip, sizeof(v->x87.ip));
    memcpy(v->xsave + XSAVE_FDP, &v->x87.dp, sizeof(v->x87.dp));
    memcpy(v->xsave + XSAVE_FOP, &v->x87.opcode, sizeof(v->x87.opcode));
}

void x87_sync(struct dbt_vcpu *v)
{
    if (v->x87.loaded)
        take_loaded(v);
    if (v->x87.last)
        take_noted(v);
    x87_write_image(v);
}

void x87_load(struct dbt_vcpu *v)
{
    struct dbt_x87 *x = &v->x87;

    *x = (struct dbt_x87){.data = X87_NO_DATA};
    memcpy(&x->ip, v->xsave + XSAVE_FIP, sizeof(x->ip));
    memcpy(&x->dp, v->xsave + XSAVE_FDP, sizeof(x->dp));
    memcpy(&x->opcode, v->xsave + XSAVE_FOP, sizeof(x->opcode));
}

void x87_clear(struct dbt_vcpu *v)
{
    v->x87 = (struct dbt_x87){.data = X87_NO_DATA};
    x87_write_image(v);
}

void x87_note(struct dbt_vcpu *v, const struct decoded *d, const struct insn *insn)
{
    if (!sets_pointers(d))
        return;
    v->x87.ip = v->rip;
    v->x87.cs = v->segment[X86_CS].selector;
    v->x87.opcode = opcode_of(d);
    if (d->memory) {
        v->x87.ds = v->segment[insn->memory.segment].selector;
        v->x87.dp = operand_offset(v, insn);
    }
    x87_write_image(v);
}
