/*
 * Encodes instances of the forms of forms.c: registers, addressing, immediates and prefixes without
 * effect are random; the decoder says what came out. Displacements and immediates that must lead
 * somewhere are patched then.
 */
#include <string.h>

#include "insn.h"

void snippet_decoder(ZydisDecoder *decoder, unsigned width)
{
    if (width == 64)
        ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    else if (width == 32)
        ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
    else
        ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16);
    /* Extensions in the place of hint NOPs, which they are where they are not switched on. */
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
}

uint64_t random_next(struct random *random)
{
    uint64_t z = (random->state += 0x9e3779b97f4a7c15ull);

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static void put(struct snippet *s, unsigned byte)
{
    s->bytes[s->length++] = (uint8_t)byte;
}

/* --- prefixes --- */

/* Descriptor tables and control registers: LOCK gives MOV CR0 another meaning on some processors.
 */
static bool is_system(const struct form *f)
{
    return f->map == 1 && (f->opcode <= 1 || f->opcode == 0x20 || f->opcode == 0x22);
}

/* Legacy prefixes: the form's own and, now and then, others. */
static void put_legacy_prefixes(struct snippet *s, const struct form *f, bool plain,
                                struct random *random)
{
    static const uint8_t segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    bool legacy = f->encoding == FORM_LEGACY;
    uint8_t prefix[6];
    unsigned count = 0;

    if (legacy && one_in(random, f->memory ? 8 : 32) && !plain && !is_system(f))
        prefix[count++] = 0xf0;
    if (one_in(random, 8))
        prefix[count++] = segments[random_below(random, sizeof(segments))];
    if (one_in(random, 8))
        prefix[count++] = 0x67;
    if (legacy && one_in(random, 32))
        prefix[count++] = 0x66;
    if (legacy && one_in(random, 64) && f->prefix >= 0xf2)
        prefix[count++] = (uint8_t)(0xf2 + random_below(random, 2));
    for (unsigned i = 0; i < count; i++) {
        unsigned other = (unsigned)random_below(random, count);
        uint8_t value = prefix[i];

        prefix[i] = prefix[other];
        prefix[other] = value;
    }
    for (unsigned i = 0; i < count; i++)
        put(s, prefix[i]);
    if (legacy && s->width == 64 && one_in(random, 64) && (f->prefix || f->map)) {
        put(s, 0x40 | random_below(random, 16)); /* without effect: not the last prefix */
        if (!f->prefix)
            put(s, 0x2e);
    }
    if (legacy && f->prefix)
        put(s, f->prefix);
}

/*
 * In sequences every other operand is one of r12 to r15, which an engine that keeps some registers
 * in memory must carry from one instruction to the next: the prefix's share of the number, and the
 * rest.
 */
#define REX_R_B 5u

static unsigned favoured(bool in_sequence, unsigned bits, struct random *random)
{
    return in_sequence && one_in(random, 2) ? bits : 0;
}

static void put_legacy(struct snippet *s, const struct form *f, bool in_sequence,
                       struct random *random)
{
    if (s->width == 64) {
        uint64_t bits = random_next(random);
        unsigned rex = (unsigned)f->w << 3 | (bits & 1 ? bits >> 1 & 7 : 0) |
                       favoured(in_sequence, REX_R_B, random);

        /* A bare REX turns AH, CH, DH, BH into SPL, BPL, SIL, DIL. */
        if (rex || (bits & 0x30) == 0)
            put(s, 0x40 | rex);
    }
    if (f->map)
        put(s, 0x0f);
    if (f->map > 1)
        put(s, f->map == 2 ? 0x38 : 0x3a);
    put(s, f->opcode);
}

static void put_vex(struct snippet *s, const struct form *f, bool in_sequence,
                    struct random *random)
{
    static const uint8_t pp[] = {[0x66 & 15] = 1, [0xf3 & 15] = 2, [0xf2 & 15] = 3};
    uint64_t bits = random_next(random);
    unsigned p = f->prefix ? pp[f->prefix & 15] : 0;
    unsigned vvvv = f->vvvv || one_in(random, 32) ? bits >> 8 & 15 : 15;
    unsigned rxb = (bits >> 16 & 7) & ~favoured(in_sequence, REX_R_B, random); /* inverted */

    if (f->encoding == FORM_EVEX) {
        put(s, 0x62);
        put(s, 0xf0 | f->map);
        put(s, f->w << 7 | vvvv << 3 | 4 | p);
        put(s, f->l << 5 | 8 | (bits >> 24 & 7));
    } else if (!f->w && f->map == 1 && (bits & 1)) {
        put(s, 0xc5);
        put(s, (s->width == 64 ? (rxb & 4) << 5 : 0x80) | (s->width == 64 ? 0 : 0x40) | vvvv << 3 |
                   f->l << 2 | p);
    } else {
        put(s, 0xc4);
        /* Outside 64-bit code R and X have to be 1 (inverted), or it is LES; B does not matter. */
        put(s, (s->width == 64 ? rxb : rxb | 6) << 5 | f->map);
        put(s, f->w << 7 | vvvv << 3 | f->l << 2 | p);
    }
    put(s, f->opcode);
}

/* ModRM and SIB; a memory operand has any displacement yet. */
static void put_operands(struct snippet *s, const struct form *f, bool plain, struct random *random)
{
    uint64_t bits = random_next(random);
    unsigned reg = f->digit >= 0 ? (unsigned)f->digit : bits & 7;
    unsigned mod = 3, rm = f->rm >= 0 ? (unsigned)f->rm : bits >> 3 & 7;

    if (f->digit < 0)
        reg |= favoured(plain, 4, random);
    if (f->rm < 0)
        rm |= favoured(plain, 4, random);
    if (f->memory) {
        mod = (unsigned)(bits >> 8) % 3;
        rm = (bits >> 12 & 7) | favoured(plain, 4, random);
        if (plain && rm == 4)
            rm = 7;
    }
    put(s, mod << 6 | reg << 3 | rm);
    if (mod != 3 && rm == 4)
        put(s, bits >> 16 & 255);
}

/* --- what came out --- */

/* As correct_base() in the engine's decode.c: the decoder is wrong about one form of address. */
static void correct_base(const ZydisDecodedInstruction *z, ZydisDecodedOperandMem *mem)
{
    if (!(z->attributes & ZYDIS_ATTRIB_HAS_SIB) || z->raw.modrm.mod != 0 || z->raw.sib.base != 5)
        return;
    mem->base = ZYDIS_REGISTER_NONE;
    mem->disp.value = z->raw.disp.value;
}

/* False where the instruction would be longer than 15 bytes. */
static bool decode(struct snippet *s)
{
    ZydisDecoder decoder;
    ZyanStatus status;

    snippet_decoder(&decoder, s->width);
    status = ZydisDecoderDecodeFull(&decoder, s->bytes, 15, &s->z, s->operand);
    s->known = ZYAN_SUCCESS(status);
    s->memory = -1;
    for (int i = 0; s->known && i < s->z.operand_count; i++)
        if (s->operand[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            s->operand[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
            s->memory = i;
    if (s->memory >= 0)
        correct_base(&s->z, &s->operand[s->memory].mem);
    return status != ZYDIS_STATUS_NO_MORE_DATA && status != ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
}

/* Whether it loads segment registers, CS too. */
static bool loads_segments(const struct snippet *s)
{
    if (s->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || s->z.mnemonic == ZYDIS_MNEMONIC_IRET ||
        s->z.mnemonic == ZYDIS_MNEMONIC_IRETD || s->z.mnemonic == ZYDIS_MNEMONIC_IRETQ)
        return true;
    for (unsigned i = 0; i < s->z.operand_count; i++)
        if (s->operand[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(s->operand[i].reg.value) == ZYDIS_REGCLASS_SEGMENT &&
            (s->operand[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            return true;
    return s->z.meta.category == ZYDIS_CATEGORY_RDWRFSGS;
}

static void choose_segments(struct snippet *s, struct random *random)
{
    bool short_addresses = s->known && s->z.address_width == 16;

    s->code_selector = SELECTOR_USER;
    s->data_selector = SELECTOR_USER_SS;
    s->loads_segments = s->known && loads_segments(s);
    s->segments = s->width != 64 || s->loads_segments;
    if (s->width == 32)
        s->code_selector = SELECTOR_USER32;
    if (s->width == 32 && has_ldt) {
        s->code_selector = one_in(random, 4) ? SELECTOR_CODE32 : SELECTOR_USER32;
        if (one_in(random, 4) || short_addresses)
            s->data_selector = one_in(random, 4) ? SELECTOR_DATA16 : SELECTOR_DATA32;
    } else if (s->width == 16) {
        s->code_selector = SELECTOR_CODE16;
        if (short_addresses || one_in(random, 2))
            s->data_selector = one_in(random, 4) ? SELECTOR_DATA32 : SELECTOR_DATA16;
    }
}

uint64_t segment_base(const struct snippet *s, ZydisRegister segment)
{
    unsigned selector = s->data_selector;

    if (segment == ZYDIS_REGISTER_FS)
        return CASE_FS_BASE;
    if (segment == ZYDIS_REGISTER_GS)
        return s->width == 64 ? CASE_GS_BASE : (uint32_t)CASE_GS_BASE;
    if (s->width == 64)
        return 0;
    if (segment == ZYDIS_REGISTER_CS)
        return s->code_selector == SELECTOR_USER32 ? 0 : CODE_BASE;
    return selector == SELECTOR_USER_SS ? 0 : REGION_BASE;
}

uint64_t taken_offset(const struct snippet *s)
{
    unsigned jump = (s->code_length - s->length) / 2;

    return s->address + s->length + jump - segment_base(s, ZYDIS_REGISTER_CS);
}

static bool is_mask_register(ZydisRegister reg)
{
    ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

    return whole == ZYDIS_REGISTER_RAX || whole == ZYDIS_REGISTER_RDX;
}

/* Where an instruction makes several accesses whose order is the processor's own, or one that it
 * cuts in pieces: how far apart the addresses of its page faults may be. */
static uint64_t address_slack(const struct snippet *s)
{
    if (s->memory >= 0 && s->operand[s->memory].size > 256)
        return 1024; /* state images */
    switch (s->z.mnemonic) {
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSTENV:
        return 32;
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_CMPSD:
    case ZYDIS_MNEMONIC_CMPSQ:
        return ~0ull; /* of either operand */
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_RET:
        return s->z.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR ? 0 : 64;
    default:
        return 0;
    }
}

/* XSAVE and XRSTOR whose component mask would be an address, too. */
static bool is_ambiguous(const struct snippet *s)
{
    if (s->z.meta.category != ZYDIS_CATEGORY_XSAVE && s->z.meta.category != ZYDIS_CATEGORY_XSAVEOPT)
        return false;
    for (int i = 0; i < s->z.operand_count; i++) {
        const ZydisDecodedOperandMem *mem = &s->operand[i].mem;

        if (s->operand[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            (is_mask_register(mem->base) || is_mask_register(mem->index)))
            return true;
    }
    return false;
}

static void patch(struct snippet *s, unsigned offset, unsigned bits, uint64_t value)
{
    memcpy(s->bytes + offset, &value, bits / 8);
}

static unsigned jump_length(unsigned width)
{
    return width == 64 ? 5 : width == 32 ? 7 : 8;
}

/* Makes the displacement lead into the window where no register can do so. */
static void patch_displacement(struct snippet *s, struct random *random)
{
    const ZydisDecodedOperand *memory = &s->operand[s->memory];
    const ZydisDecodedOperandMem *mem = &memory->mem;
    unsigned offset = s->z.raw.disp.offset, size = s->z.raw.disp.size;
    uint64_t target = s->window + 64 + random_below(random, MEMORY_BYTES - 192);

    if (!size)
        return;
    if (one_in(random, 2) || memory->size >= 512)
        target = ALIGN_DOWN(target, 64);
    if (memory->size >= 512)
        target = s->window + 64;
    target -= segment_base(s, mem->segment);
    if (mem->base == ZYDIS_REGISTER_RIP || mem->base == ZYDIS_REGISTER_EIP)
        patch(s, offset, size, target - (s->address + s->length));
    else if (mem->base == ZYDIS_REGISTER_NONE && mem->index == ZYDIS_REGISTER_NONE)
        patch(s, offset, size, target);
    else if ((mem->base == ZYDIS_REGISTER_NONE || mem->base == mem->index) && size == 32)
        patch(s, offset, size, random_below(random, 0x10000)); /* below the target */
}

static void patch_immediates(struct snippet *s, struct random *random)
{
    unsigned offset = s->z.raw.imm[0].offset, size = s->z.raw.imm[0].size;

    if (!size)
        return;
    if (s->z.raw.imm[0].is_relative)
        patch(s, offset, size, jump_length(s->width));
    switch (s->z.mnemonic) {
    case ZYDIS_MNEMONIC_INT:
        if (s->bytes[offset] == 0x80) /* a system call of the host's */
            s->bytes[offset] = 0x81;
        break;
    case ZYDIS_MNEMONIC_ENTER:
        patch(s, offset, 16, random_below(random, 64));
        if (!one_in(random, 4))
            s->bytes[offset + 2] &= 7;
        break;
    case ZYDIS_MNEMONIC_RET:
        patch(s, offset, 16, random_below(random, 64));
        break;
    default:
        break;
    }
}

/* JMP and CALL with the far pointer in the instruction. */
static void patch_far_pointer(struct snippet *s, struct random *random)
{
    unsigned size = s->z.operand_width == 16 ? 16 : 32;

    if (s->z.operand_count_visible == 0 || s->operand[0].type != ZYDIS_OPERAND_TYPE_POINTER)
        return;
    patch(s, s->length - 2 - size / 8, size, taken_offset(s));
    patch(s, s->length - 2, 16, random_selector(s, true, random));
}

/* --- jumps to where results are saved --- */

static void put_jump(struct snippet *s, uint64_t target)
{
    uint8_t *at = s->bytes + s->code_length;
    uint32_t to = (uint32_t)target;
    uint16_t selector = SELECTOR_USER;

    s->code_length += jump_length(s->width);
    if (s->width == 64) {
        *at++ = 0xe9;
        to -= (uint32_t)(s->address + s->code_length);
        memcpy(at, &to, 4);
        return;
    }
    if (s->width == 16)
        *at++ = 0x66;
    *at++ = 0xea;
    memcpy(at, &to, 4);
    memcpy(at + 4, &selector, 2);
}

void encode_exits(struct snippet *s)
{
    s->code_length = s->length;
    put_jump(s, RUNNER_ADDRESS(runner_save_next));
    put_jump(s, RUNNER_ADDRESS(runner_save_taken));
}

bool encode_form(struct snippet *s, const struct form *f, uint64_t address, bool in_sequence,
                 struct random *random)
{
    memset(s, 0, sizeof(*s));
    s->form = f;
    s->width = f->width;
    s->address = address;
    s->window = WINDOW_USUAL;
    put_legacy_prefixes(s, f, in_sequence, random);
    if (f->encoding == FORM_LEGACY)
        put_legacy(s, f, in_sequence, random);
    else
        put_vex(s, f, in_sequence, random);
    if (f->modrm)
        put_operands(s, f, in_sequence, random);
    unsigned start = s->length;
    for (unsigned i = 0; i < 14; i++) {
        uint64_t value = random_next(random);

        s->bytes[start + i] = (uint8_t)(value >> 8 & (value & 3 ? 0xff : 0));
    }
    if (!decode(s))
        return false;
    if (s->known && (s->z.mnemonic != f->mnemonic || is_ambiguous(s)))
        return false; /* a prefix made it another, for example */
    s->length = s->known ? s->z.length : f->known ? 15 : start;
    if (!s->known && start + 8 > 15)
        return false; /* with a displacement and an immediate it might be too long */
    choose_segments(s, random);
    encode_exits(s);
    if (s->known) {
        if (s->memory >= 0)
            patch_displacement(s, random);
        patch_immediates(s, random);
        patch_far_pointer(s, random);
        decode(s);
        s->slack = address_slack(s);
        s->undefined_flags = s->z.cpu_flags ? s->z.cpu_flags->undefined : 0;
    }
    return true;
}
