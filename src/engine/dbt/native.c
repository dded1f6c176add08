/*
 * Instructions that run as themselves: the guest's encoding is taken apart and put together again
 * with host registers in place of guest registers, and [TEMP0] in place of the memory operand.
 *
 * Example, guest `add r13, [rax + 8]` (4c 03 68 08):
 *
 *     lea TEMP0, [rax + 8] ... check ...     access.c
 *     mov TEMP1, gs:[gpr.r13]
 *     add TEMP1, [TEMP0]                     4c 03 75 00
 *     mov gs:[gpr.r13], TEMP1
 *
 * Encodings: Intel SDM volume 2, chapter 2.
 */
#include "engine/dbt/translator.h"
#include "engine/dbt/x87.h"

/* The places where an encoding names a register. */
enum field { FIELD_REG, FIELD_RM, FIELD_VVVV, FIELD_OPCODE, FIELD_COUNT };

struct field_use {
    bool used;
    bool gpr;
    bool high_byte;
    bool byte;
    bool read, written;
    uint8_t number; /* guest's number; for a gpr also the key into regmap */
    uint8_t host;   /* number to encode */
};

/* In the order in which they are taken for registers that TEMP2 shall not keep. */
static const uint8_t temps[2] = {TEMP1, TEMP0};

struct encoding {
    struct field_use field[FIELD_COUNT];
    uint8_t opcode;
    bool memory;
    struct host_memory operand; /* the memory operand, if there is one */
};

static bool is_gpr(ZydisRegister reg)
{
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        return true;
    default:
        return false;
    }
}

static enum field field_of(ZydisOperandEncoding encoding)
{
    switch (encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
        return FIELD_REG;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
        return FIELD_RM;
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
        return FIELD_VVVV;
    case ZYDIS_OPERAND_ENCODING_OPCODE:
        return FIELD_OPCODE;
    default:
        return FIELD_COUNT;
    }
}

/* Which fields name registers, and which of those are general registers. */
static void encoding_of(const struct decoded *d, struct encoding *enc)
{
    const ZydisDecodedInstruction *z = &d->z;
    bool vex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    unsigned r = vex ? z->raw.vex.R : z->raw.rex.R, b = vex ? z->raw.vex.B : z->raw.rex.B;

    *enc = (struct encoding){.opcode = z->opcode, .memory = d->memory};
    enc->field[FIELD_REG].host = z->raw.modrm.reg | r << 3;
    enc->field[FIELD_RM].host = z->raw.modrm.rm | b << 3;
    enc->field[FIELD_OPCODE].host = (z->opcode & 7) | b << 3;
    enc->field[FIELD_VVVV].host = vex ? z->raw.vex.vvvv : 0;
    for (unsigned i = 0; i < z->operand_count; i++) {
        const ZydisDecodedOperand *o = &d->operand[i];
        enum field f = field_of(o->encoding);

        if (f == FIELD_COUNT || o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        struct field_use *use = &enc->field[f];

        use->used = true;
        if (ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_XMM ||
            ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_YMM)
            use->host = use->number = (uint8_t)ZydisRegisterGetId(o->reg.value);
        if (!is_gpr(o->reg.value))
            continue;
        use->gpr = true;
        use->byte = ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_GPR8;
        use->high_byte = o->reg.value >= ZYDIS_REGISTER_AH && o->reg.value <= ZYDIS_REGISTER_BH;
        use->number = (uint8_t)decode_gpr_number(o->reg.value);
        if (use->high_byte)
            use->number = (uint8_t)(o->reg.value - ZYDIS_REGISTER_AH + 4);
        use->written |= (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
        /* Anything but a full, certain write needs the old value. */
        use->read |= (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ) ||
                     (o->actions & ZYDIS_OPERAND_ACTION_CONDWRITE) || o->size < 32 ||
                     z->mnemonic == ZYDIS_MNEMONIC_BSF || z->mnemonic == ZYDIS_MNEMONIC_BSR;
    }
}

static bool has_high_byte(const struct encoding *enc)
{
    for (unsigned f = 0; f < FIELD_COUNT; f++)
        if (enc->field[f].used && enc->field[f].high_byte)
            return true;
    return false;
}

static bool is_spilled(const struct field_use *use)
{
    return use->used && use->gpr && !use->high_byte && regmap_host(use->number) == HOST_NONE;
}

/* A free temporary for the field's register, or the one that an earlier field took for it. */
static uint8_t temp_for(struct translator *t, const struct encoding *enc, unsigned field,
                        bool taken[2])
{
    for (unsigned f = 0; f < field; f++)
        if (is_spilled(&enc->field[f]) && enc->field[f].number == enc->field[field].number)
            return enc->field[f].host;
    for (unsigned i = 0; i < 2; i++)
        if (!taken[i]) {
            taken[i] = true;
            return temps[i];
        }
    /* Only what TEMP2 holds without being named here is left to go. */
    spill_take(t, enc->field[field].number, true);
    return TEMP2;
}

/*
 * Chooses host registers. Of the guest registers that live in memory one may get TEMP2, to stay
 * there (spill.c); the others take what else is free: TEMP1 and, if it holds no address, TEMP0. A
 * high byte register forbids REX, so whatever else would need one is moved to TEMP0.
 */
static void encoding_assign(struct translator *t, struct encoding *enc)
{
    bool no_rex = has_high_byte(enc), taken[2] = {false, enc->memory && enc->operand.base == TEMP0};
    uint8_t keep = HOST_NONE;

    /* What TEMP2 holds, if it is used again, or what is better kept there. */
    for (unsigned f = 0; f < FIELD_COUNT; f++) {
        const struct field_use *use = &enc->field[f];

        if (is_spilled(use) && (use->number == t->cached ||
                                (keep == HOST_NONE && spill_worth_keeping(t, use->number))))
            keep = use->number;
    }
    for (unsigned f = 0; f < FIELD_COUNT; f++) {
        struct field_use *use = &enc->field[f];
        enum host_register host;

        if (!use->used || !use->gpr)
            continue;
        use->host = use->number;
        if (use->high_byte)
            continue;
        host = regmap_host(use->number);
        if (no_rex && host != HOST_NONE && host >= 8)
            use->host = TEMP0;
        else if (host != HOST_NONE)
            use->host = host;
        else if (use->number == keep)
            use->host = TEMP2;
        else
            use->host = temp_for(t, enc, f, taken);
    }
    if (keep != HOST_NONE) {
        bool read = false;

        for (unsigned f = 0; f < FIELD_COUNT; f++)
            read |= enc->field[f].host == TEMP2 && is_spilled(&enc->field[f]) && enc->field[f].read;
        spill_take(t, keep, read);
    }
}

static bool foldable(const struct translator *t, const struct field_use *use)
{
    return is_spilled(use) && !use->written && use->number != t->cached &&
           !spill_worth_keeping(t, use->number);
}

/* Integer instructions that only read their r/m operand, and as much of it in memory as in a
 * register (so not bt, whose bit offset would reach beyond). */
static bool reads_rm(const ZydisDecodedInstruction *z)
{
    unsigned reg = z->raw.modrm.reg;

    if (z->opcode_map == ZYDIS_OPCODE_MAP_0F)
        return (z->opcode & 0xf0) == 0x40 || z->opcode == 0xaf || (z->opcode & 0xf6) == 0xb6;
    if (z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
        return false;
    switch (z->opcode) {
    case 0x63: /* movsxd */
    case 0x69: /* imul with immediate */
    case 0x6b:
    case 0x84: /* test */
    case 0x85:
    case 0x8a: /* mov */
    case 0x8b:
        return true;
    case 0x80: /* cmp with immediate */
    case 0x81:
    case 0x83:
        return reg == 7;
    case 0xf6: /* test with immediate, mul, imul, div, idiv */
    case 0xf7:
        return reg == 0 || reg >= 4;
    default:
        return z->opcode < 0x40 && (z->opcode & 7) < 4 &&
               ((z->opcode & 2) || (z->opcode & 0x38) == 0x38);
    }
}

/* Whether the two-operand instruction has a twin with reg and r/m exchanged; *opcode becomes that.
 */
static bool exchange_operands(const ZydisDecodedInstruction *z, uint8_t *opcode)
{
    if (z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
        return false;
    if (z->opcode == 0x84 || z->opcode == 0x85) /* test: either way */
        return true;
    if ((z->opcode < 0x40 && (z->opcode & 7) < 2) || z->opcode == 0x88 || z->opcode == 0x89) {
        *opcode |= 2;
        return true;
    }
    return false;
}

/* A source register that lives in memory, and that TEMP2 does not serve, is used from there. */
static void fold_source(struct translator *t, struct encoding *enc)
{
    const ZydisDecodedInstruction *z = &t->d->z;
    struct field_use *rm = &enc->field[FIELD_RM], *reg = &enc->field[FIELD_REG], other;

    if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || enc->memory ||
        !(z->attributes & ZYDIS_ATTRIB_HAS_MODRM))
        return;
    if (foldable(t, reg) && !foldable(t, rm) && rm->gpr && exchange_operands(z, &enc->opcode)) {
        other = *reg;
        *reg = *rm;
        *rm = other;
    } else if (!foldable(t, rm) || !reads_rm(z)) {
        return;
    }
    enc->memory = true;
    enc->operand = VCPU_FIELD(gpr[rm->number]);
    rm->used = false;
}

/* Legacy prefixes that change the meaning: LOCK, and the mandatory or size-giving ones. */
static void emit_prefixes(struct translator *t)
{
    const ZydisDecodedInstruction *z = &t->d->z;
    bool operand_size = false, mandatory_66 = false;
    uint8_t repeat = 0;

    for (unsigned i = 0; i < z->raw.prefix_count; i++) {
        uint8_t value = z->raw.prefixes[i].value;

        if (z->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY) {
            if (value == 0x66)
                mandatory_66 = true;
            else if (value == 0xf2 || value == 0xf3)
                repeat = value;
        }
    }
    if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return;
    /* The operand size of integer instructions is told anew: the guest's default may be another. */
    operand_size = z->operand_width == 16;
    switch (z->meta.isa_ext) {
    case ZYDIS_ISA_EXT_CLFSH: /* with the prefix it is CLFLUSHOPT */
    case ZYDIS_ISA_EXT_X87:
    case ZYDIS_ISA_EXT_MMX:
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_AES:
    case ZYDIS_ISA_EXT_PCLMULQDQ:
    case ZYDIS_ISA_EXT_SHA:
        operand_size = false;
        break;
    case ZYDIS_ISA_EXT_SSE4:
        operand_size = operand_size && (z->mnemonic == ZYDIS_MNEMONIC_CRC32 ||
                                        z->mnemonic == ZYDIS_MNEMONIC_POPCNT);
        break;
    default:
        break;
    }
    /* x87 environment images are 14 bytes where the operand size is 16. */
    if (z->meta.isa_ext == ZYDIS_ISA_EXT_X87 && z->operand_width == 16)
        operand_size = true;
    if (z->attributes & ZYDIS_ATTRIB_HAS_LOCK)
        emit_byte(&t->e, 0xf0);
    if (mandatory_66 || operand_size)
        emit_byte(&t->e, 0x66);
    if (repeat)
        emit_byte(&t->e, repeat);
}

static void emit_opcode_map(struct translator *t)
{
    switch (t->d->z.opcode_map) {
    case ZYDIS_OPCODE_MAP_0F:
        emit_byte(&t->e, 0x0f);
        break;
    case ZYDIS_OPCODE_MAP_0F38:
        emit_byte(&t->e, 0x0f);
        emit_byte(&t->e, 0x38);
        break;
    case ZYDIS_OPCODE_MAP_0F3A:
        emit_byte(&t->e, 0x0f);
        emit_byte(&t->e, 0x3a);
        break;
    default:
        break;
    }
}

static void emit_operands(struct translator *t, const struct encoding *enc)
{
    const ZydisDecodedInstruction *z = &t->d->z;

    if (!(z->attributes & ZYDIS_ATTRIB_HAS_MODRM))
        return;
    if (enc->memory)
        emit_modrm_memory(&t->e, enc->field[FIELD_REG].host, &enc->operand);
    else
        emit_modrm_register(&t->e, enc->field[FIELD_REG].host, enc->field[FIELD_RM].host);
}

static void emit_immediates(struct translator *t)
{
    const ZydisDecodedInstruction *z = &t->d->z;

    for (unsigned i = 0; i < z->operand_count; i++)
        if (t->d->operand[i].encoding == ZYDIS_OPERAND_ENCODING_IS4 && !is_code64(t)) {
            /* A register in the upper half; only 64-bit code has eight more of them. */
            emit_byte(&t->e, z->raw.imm[0].value.u & 0x7f);
            return;
        }
    for (unsigned i = 0; i < 2; i++)
        emit_bytes(&t->e, (const uint8_t *)&z->raw.imm[i].value.u, z->raw.imm[i].size / 8);
}

/* The prefix bits that a memory operand needs. */
static unsigned rex_x(const struct host_memory *m)
{
    return m->index != HOST_NONE && m->index >= 8;
}

static unsigned rex_b(const struct host_memory *m)
{
    return m->base != HOST_NONE && m->base >= 8;
}

static void emit_legacy(struct translator *t, const struct encoding *enc)
{
    const ZydisDecodedInstruction *z = &t->d->z;
    const struct field_use *field = enc->field;
    bool modrm = z->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    uint8_t opcode = enc->opcode;
    uint8_t rex = z->raw.rex.W << 3;
    bool need_rex = false;

    if (enc->memory && enc->operand.gs)
        emit_byte(&t->e, 0x65);
    emit_prefixes(t);
    for (unsigned f = 0; f < FIELD_COUNT; f++)
        need_rex |= field[f].used && field[f].gpr && field[f].byte && !field[f].high_byte &&
                    field[f].host >= 4 && field[f].host < 8;
    if (modrm) {
        rex |= (field[FIELD_REG].host >> 3 & 1) << 2;
        rex |= enc->memory ? rex_x(&enc->operand) << 1 | rex_b(&enc->operand)
                           : field[FIELD_RM].host >> 3 & 1;
    } else if (field[FIELD_OPCODE].used) {
        rex |= field[FIELD_OPCODE].host >> 3 & 1;
        opcode = (opcode & ~7) | (field[FIELD_OPCODE].host & 7);
    }
    if (rex || need_rex)
        emit_byte(&t->e, 0x40 | rex);
    if (z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && opcode == 0x82)
        opcode = 0x80; /* its alias, which 64-bit code does not have */
    emit_opcode_map(t);
    emit_byte(&t->e, opcode);
    emit_operands(t, enc);
    emit_immediates(t);
}

/* VEX.W as the host needs it: outside 64-bit code it widens neither general registers nor the
 * memory operands that stand in for them. */
static bool vex_w(const struct translator *t)
{
    const ZydisDecodedInstruction *z = &t->d->z;

    if (is_code64(t))
        return z->raw.vex.W;
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_VPINSRD:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRM:
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTSS2SI:
    case ZYDIS_MNEMONIC_VCVTSD2SI:
    case ZYDIS_MNEMONIC_VCVTTSS2SI:
    case ZYDIS_MNEMONIC_VCVTTSD2SI:
        return false;
    default:
        return z->raw.vex.W && z->meta.isa_ext != ZYDIS_ISA_EXT_BMI1 &&
               z->meta.isa_ext != ZYDIS_ISA_EXT_BMI2;
    }
}

static void emit_vex(struct translator *t, const struct encoding *enc)
{
    const ZydisDecodedInstruction *z = &t->d->z;
    unsigned reg = enc->field[FIELD_REG].host;
    unsigned rm = enc->memory ? rex_b(&enc->operand) << 3 : enc->field[FIELD_RM].host;
    unsigned vvvv = enc->field[FIELD_VVVV].used ? enc->field[FIELD_VVVV].host : 0;
    bool modrm = z->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    unsigned map = z->opcode_map == ZYDIS_OPCODE_MAP_0F     ? 1
                   : z->opcode_map == ZYDIS_OPCODE_MAP_0F38 ? 2
                                                            : 3;

    emit_byte(&t->e, 0xc4);
    emit_byte(&t->e, (modrm && reg >= 8 ? 0 : 0x80) |
                         (enc->memory && rex_x(&enc->operand) ? 0 : 0x40) |
                         (modrm && rm >= 8 ? 0 : 0x20) | map);
    emit_byte(&t->e,
              (unsigned)vex_w(t) << 7 | (~vvvv & 15) << 3 | z->raw.vex.L << 2 | z->raw.vex.pp);
    emit_byte(&t->e, z->opcode);
    emit_operands(t, enc);
    emit_immediates(t);
}

struct access native_access(const struct decoded *d)
{
    struct access access = {.size = d->memory->size / 8};

    access.write = d->memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    /* Where more than a page fault on the operand's first byte may come first, or only parts are
     * touched, slow.c finds out which. */
    access.slow_faults = access.size >= 16 || decode_is_x87(d);
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_CLFLUSH:
    case ZYDIS_MNEMONIC_CLFLUSHOPT:
    case ZYDIS_MNEMONIC_CLWB:
        access.size = 1; /* the line that holds the byte */
        break;
    default:
        break;
    }
    return access;
}

/* inc/dec with the register in the opcode exist only outside 64-bit code: 40+r is a REX there. */
static bool is_short_inc_dec(const struct decoded *d)
{
    return (d->z.mnemonic == ZYDIS_MNEMONIC_INC || d->z.mnemonic == ZYDIS_MNEMONIC_DEC) &&
           !(d->z.attributes & ZYDIS_ATTRIB_HAS_MODRM);
}

static void emit_short_inc_dec(struct translator *t)
{
    bool dec = t->d->z.mnemonic == ZYDIS_MNEMONIC_DEC;

    if (t->d->z.operand_width == 16)
        emit_byte(&t->e, 0x66);
    emit_op_register(&t->e, false, 0xff, dec, regmap_host(t->d->z.opcode & 7));
}

/* mov between the accumulator and an absolute address: rewritten with a ModRM operand. */
bool native_is_moffs(const struct decoded *d)
{
    return d->z.mnemonic == ZYDIS_MNEMONIC_MOV && d->z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
           d->z.opcode >= 0xa0 && d->z.opcode <= 0xa3;
}

static void emit_moffs(struct translator *t)
{
    static const uint8_t opcodes[4] = {0x8a, 0x8b, 0x88, 0x89};

    if ((t->d->z.opcode & 1) && t->d->z.operand_width == 16)
        emit_byte(&t->e, 0x66);
    emit_op_memory(&t->e, t->d->z.operand_width == 64, opcodes[t->d->z.opcode & 3], HOST_RAX,
                   host_at(TEMP0, 0));
}

/* VZEROUPPER and VZEROALL outside 64-bit code change only the registers that there are: one by one,
 * VMOVAPS xmm, xmm clears the upper half, VXORPS xmm, xmm, xmm all. */
static bool is_clear(const struct decoded *d)
{
    return d->z.mnemonic == ZYDIS_MNEMONIC_VZEROUPPER || d->z.mnemonic == ZYDIS_MNEMONIC_VZEROALL;
}

static void emit_clear(struct translator *t)
{
    bool all = t->d->z.mnemonic == ZYDIS_MNEMONIC_VZEROALL;

    for (unsigned i = 0; i < 8; i++) {
        emit_byte(&t->e, 0xc5);
        emit_byte(&t->e, 0x80 | (all ? ~i & 15 : 15) << 3);
        emit_byte(&t->e, all ? 0x57 : 0x28);
        emit_modrm_register(&t->e, i, i);
    }
}

/* Whether the field's register is not where the guest's lives. */
static bool borrows(const struct field_use *use)
{
    return use->used && use->gpr && !use->high_byte && use->host != regmap_host(use->number);
}

void native_emit(struct translator *t, bool prepared)
{
    struct encoding enc;
    const struct decoded *d = t->d;

    if (d->memory && !prepared && !t->pinned && !t->shared) {
        access_linear(t, d->memory, native_access(d));
        access_check(t, native_access(d));
    }
    if (is_short_inc_dec(d)) {
        emit_short_inc_dec(t);
        return;
    }
    if (native_is_moffs(d)) {
        emit_moffs(t);
        return;
    }

    if (is_clear(d) && !is_code64(t)) {
        emit_clear(t);
        return;
    }

    encoding_of(d, &enc);
    enc.operand = host_at(TEMP0, 0);
    if (t->pinned || t->shared) {
        enc.operand = t->pinned ? pin_operand((int32_t)d->memory->mem.disp.value)
                                : share_operand(t, t->shared);
        if (has_high_byte(&enc)) { /* no REX prefix, so not by PIN or TEMP2 */
            emit_lea(&t->e, TEMP0, enc.operand);
            enc.operand = host_at(TEMP0, 0);
        }
    }
    fold_source(t, &enc);
    encoding_assign(t, &enc);
    for (unsigned f = 0; f < FIELD_COUNT; f++)
        if (borrows(&enc.field[f]) && enc.field[f].read && enc.field[f].host != TEMP2)
            access_load_guest(t, enc.field[f].host, enc.field[f].number);
    t->at_risk = spill_unsaved(t);
    if (d->z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        emit_vex(t, &enc);
    else
        emit_legacy(t, &enc);
    /* What TEMP2 got is noted first: storing another register may want TEMP2 for that one. */
    for (unsigned f = 0; f < FIELD_COUNT; f++)
        if (borrows(&enc.field[f]) && enc.field[f].written && enc.field[f].host == TEMP2)
            access_store_guest(t, enc.field[f].number, TEMP2);
    for (unsigned f = 0; f < FIELD_COUNT; f++)
        if (borrows(&enc.field[f]) && enc.field[f].written && enc.field[f].host != TEMP2)
            access_store_guest(t, enc.field[f].number, enc.field[f].host);
    if (!prepared)
        x87_emit_note(t);
}

void native_emit_lea(struct translator *t)
{
    unsigned guest = decode_gpr_number(t->d->operand[0].reg.value);
    ZydisDecodedOperand memory = t->d->operand[1];

    /* Only the effective address counts, so segmentation does not. */
    memory.mem.segment = ZYDIS_REGISTER_DS;
    access_effective(t, &memory);
    switch (t->d->z.operand_width) {
    case 64:
        access_store_guest(t, guest, TEMP0);
        break;
    case 32:
        if (regmap_host(guest) != HOST_NONE) {
            emit_mov32(&t->e, regmap_host(guest), TEMP0);
        } else {
            emit_mov32(&t->e, TEMP0, TEMP0);
            access_store_guest(t, guest, TEMP0);
        }
        break;
    default:
        if (regmap_host(guest) != HOST_NONE) {
            emit_byte(&t->e, 0x66);
            emit_mov32(&t->e, regmap_host(guest), TEMP0);
        } else {
            spill_forget(t);
            emit_store16(&t->e, VCPU_FIELD(gpr[guest]), TEMP0);
        }
    }
}

/*
 * bt and its like with a register bit offset reach beyond the operand: the word is the one at
 * address + (offset >> log2(width)) * (width / 8), signed. All of it without touching flags, since
 * ZF keeps its value across these instructions.
 */
void native_emit_bit_memory(struct translator *t)
{
    struct emitter *e = &t->e;
    unsigned width = t->d->z.operand_width;
    unsigned log = width == 64 ? 6 : width == 32 ? 5 : 4;
    unsigned guest = decode_gpr_number(t->d->operand[1].reg.value);

    access_effective(t, t->d->memory);
    spill_forget(t);
    access_load_guest(t, TEMP1, guest);
    if (width == 32)
        emit_op_register(e, true, 0x63, TEMP1, TEMP1); /* movsxd */
    else if (width == 16)
        emit_op_register(e, true, 0x0fbf, TEMP1, TEMP1); /* movsx */
    emit_mov_u32(e, TEMP2, log);
    emit_sarx(e, TEMP1, TEMP1, TEMP2);
    emit_lea(e, TEMP0, (struct host_memory){.base = TEMP0, .index = TEMP1, .scale = width / 8});
    /* The moved address wraps at the address width, before a segment's base is added. */
    if (t->d->z.address_width == 32)
        emit_mov32(e, TEMP0, TEMP0);
    else if (t->d->z.address_width == 16)
        emit_op_register(e, false, 0x0fb7, TEMP0, TEMP0); /* movzx TEMP0d, TEMP0w */
    access_segment(t, t->d->memory, native_access(t->d));
    access_check(t, native_access(t->d));

    /* The offset within the word: its low `log` bits. */
    access_load_guest(t, TEMP1, guest);
    emit_mov_u32(e, TEMP2, 64 - log);
    emit_shlx(e, TEMP1, TEMP1, TEMP2);
    emit_shrx(e, TEMP1, TEMP1, TEMP2);
    if (t->d->z.attributes & ZYDIS_ATTRIB_HAS_LOCK)
        emit_byte(e, 0xf0);
    if (width == 16)
        emit_byte(e, 0x66);
    emit_op_memory(e, width == 64, 0x0f00 | t->d->z.opcode, TEMP1, host_at(TEMP0, 0));
}

/* XRSTOR whose header, at [TEMP0], names components that the guest's XCR0 lacks goes to slow.c: the
 * host's XCR0 may have them, and would not refuse. */
static void emit_header_check(struct translator *t)
{
    struct emitter *e = &t->e;

    emit_mov(e, TEMP2, HOST_RCX);
    for (int32_t at = XSAVE_XSTATE_BV; at <= XSAVE_XCOMP_BV; at += 8) {
        emit_load(e, TEMP1, host_at(TEMP0, at));
        emit_pext_memory(e, HOST_RCX, TEMP1, VCPU_FIELD(xcr0_absent));
        emit_jrcxz(e, 3 + 5);
        emit_mov(e, HOST_RCX, TEMP2); /* 3 bytes */
        translator_tail_exit(t, emit_jmp32(e), translator_record(t, EXIT_SLOW, t->d->offset));
    }
    emit_mov(e, HOST_RCX, TEMP2);
}

/* The requested components (EDX:EAX) are limited to the guest's XCR0: the host's may be larger. A
 * host fault finds the guest's values in TEMP1 and TEMP2 (engine.c). */
void native_emit_xsave(struct translator *t, bool prepared)
{
    struct emitter *e = &t->e;

    if (!prepared) {
        struct access access = {
            .size = DBT_XSAVE_SIZE, .write = native_access(t->d).write, .slow_faults = true};

        access_linear(t, t->d->memory, access);
        access_check(t, access);
        if (!access.write)
            emit_header_check(t);
    }
    emit_mov(e, TEMP1, HOST_RAX);
    emit_mov(e, TEMP2, HOST_RDX);
    /* eax &= xcr0, edx = 0, with instructions that leave the flags alone */
    emit_pext_memory(e, HOST_RAX, HOST_RAX, VCPU_FIELD(xcr0));
    emit_pdep_memory(e, HOST_RAX, HOST_RAX, VCPU_FIELD(xcr0));
    emit_mov_u32(e, HOST_RDX, 0);
    emit_op_memory(e, t->d->z.raw.rex.W, 0x0f00 | t->d->z.opcode, t->d->z.raw.modrm.reg,
                   host_at(TEMP0, 0));
    emit_mov(e, HOST_RAX, TEMP1);
    emit_mov(e, HOST_RDX, TEMP2);
}
