/*
 * The instructions under test: every opcode of every map, under every mandatory prefix, with either
 * operand size and vector length, register and memory operands, in 64-, 32- and 16-bit code, as far
 * as the decoder tells them apart. Opcodes that it does not know are forms too: they must raise #UD
 * alike.
 *
 * What cannot be compared is left out, with the reason, in skipped().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "insn.h"

struct form *forms;
unsigned form_count;
static unsigned form_room;

static bool add_form(const struct form *form)
{
    if (form_count == form_room) {
        unsigned room = form_room ? 2 * form_room : 4096;
        struct form *more = realloc(forms, room * sizeof(*forms));

        if (!more)
            return false;
        forms = more;
        form_room = room;
    }
    forms[form_count++] = *form;
    return true;
}

/* Instructions whose outcome is not a function of the inputs, or that reach what differs between
 * the sides: the operating system, the hypervisor, tables. */
static bool skipped(const struct form *f)
{
    bool plain_0f = f->encoding == FORM_LEGACY && f->map == 1;

    /* By opcode, since prefixes that the decoder refuses do not stop the CPU: SYSCALL, SYSENTER
     * (into the host's kernel), VMCALL, VMMCALL and what shares their opcodes (the hypervisor). */
    if (plain_0f && (f->opcode == 0x05 || f->opcode == 0x34))
        return true;
    if (plain_0f && f->opcode == 0x01 && !f->memory && f->modrm &&
        (f->digit == 0 || f->digit == 3) && (f->rm == 1 || f->rm < 0))
        return true;
    /* Repeat prefixes on LOOPE and LOOPNE are reserved; some processors take the condition from
     * them. */
    if (f->map == 0 && (f->opcode == 0xe0 || f->opcode == 0xe1) && f->prefix >= 0xf2)
        return true;
    /* VPERMQ and VPERMPD with W clear: undefined, and executed all the same. */
    if (f->encoding == FORM_VEX && f->map == 3 && f->opcode <= 1 && !f->known)
        return true;
    switch (f->mnemonic) {
    /* Time, randomness, identity. */
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_RDPID:
    case ZYDIS_MNEMONIC_RDRAND:
    case ZYDIS_MNEMONIC_RDSEED:
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_XGETBV:
    /* UMIP forbids these, and Linux emulates them then. */
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_SMSW:
    case ZYDIS_MNEMONIC_STR:
    /* Hypervisors that intercept #DB show another RIP. */
    case ZYDIS_MNEMONIC_INT1:
    /* The descriptor tables differ. */
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
        return true;
    default:
        return false;
    }
}

static unsigned put_prefixes(const struct form *f, uint8_t *to)
{
    static const uint8_t pp[] = {[0x66 & 15] = 1, [0xf3 & 15] = 2, [0xf2 & 15] = 3};
    unsigned p = f->prefix ? pp[f->prefix & 15] : 0, n = 0;

    switch (f->encoding) {
    case FORM_VEX:
        to[n++] = 0xc4;
        to[n++] = (uint8_t)(0xe0 | f->map);
        to[n++] = (uint8_t)(f->w << 7 | 15 << 3 | f->l << 2 | p);
        break;
    case FORM_EVEX:
        to[n++] = 0x62;
        to[n++] = (uint8_t)(0xf0 | f->map);
        to[n++] = (uint8_t)(f->w << 7 | 15 << 3 | 4 | p);
        to[n++] = (uint8_t)(f->l << 5 | 8);
        break;
    default:
        if (f->prefix)
            to[n++] = f->prefix;
        if (f->w)
            to[n++] = 0x48;
        if (f->map)
            to[n++] = 0x0f;
        if (f->map > 1)
            to[n++] = f->map == 2 ? 0x38 : 0x3a;
    }
    to[n++] = f->opcode;
    return n;
}

/* Decodes the opcode with a ModRM byte and immediates of zero. */
static bool decode(const struct form *f, uint8_t modrm, ZydisDecodedInstruction *z,
                   ZydisDecodedOperand *operand)
{
    uint8_t bytes[32] = {0};
    unsigned n = put_prefixes(f, bytes);
    ZydisDecoder decoder;

    bytes[n] = modrm;
    snippet_decoder(&decoder, f->width);
    if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, sizeof(bytes), z, operand)))
        return true;
    /* An operand in vvvv, or a gather's index, which may not be the same as the others. */
    if (f->encoding == FORM_VEX && (modrm & 0xc7) == 0) {
        bytes[2] = (uint8_t)(bytes[2] & ~0x78) | (~5 & 15) << 3;
        bytes[n] = (modrm & 0x38) | 4;
        bytes[n + 1] = 3 << 3;
        return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, sizeof(bytes), z, operand));
    }
    return false;
}

/* Whether that field of the ModRM byte chooses among registers, not among instructions. */
static bool names_register(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operand,
                           ZydisOperandEncoding field)
{
    for (unsigned i = 0; i < z->operand_count; i++)
        if (operand[i].encoding == field && operand[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            return true;
    return false;
}

/* Whether `form`, or one that is the same but for a register's number, has been added since
 * `first`. */
static bool is_known(const struct form *form, unsigned first)
{
    for (unsigned i = first; i < form_count; i++) {
        const struct form *f = &forms[i];

        if (f->memory == form->memory && f->mnemonic == form->mnemonic &&
            (f->digit < 0 || f->digit == form->digit) && (f->rm < 0 || f->rm == form->rm))
            return true;
    }
    return false;
}

/* Whether none of the opcode's ModRM bytes is known. */
static bool is_unknown(const struct form *form)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];

    for (unsigned modrm = 0xc0; modrm < 0x100; modrm++)
        if (decode(form, (uint8_t)modrm, &z, operand) ||
            decode(form, (uint8_t)(modrm & 0x38), &z, operand))
            return false;
    return true;
}

/* Adds the forms of one opcode. */
static bool walk_opcode(struct form form)
{
    unsigned first = form_count;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];

    if (is_unknown(&form)) {
        form.modrm = true;
        form.digit = form.rm = -1;
        /* EVEX is refused as a whole. */
        return form.encoding == FORM_EVEX || skipped(&form) || add_form(&form);
    }
    for (unsigned memory = 0; memory < 2; memory++) {
        for (unsigned digit = 0; digit < 8; digit++) {
            for (unsigned rm = 0; rm < (memory ? 1 : 8); rm++) {
                struct form f = form;

                f.modrm = true;
                f.memory = memory;
                f.digit = (int8_t)digit;
                f.rm = (int8_t)rm;
                f.known = decode(&f, (uint8_t)((memory ? 0 : 0xc0) | digit << 3 | rm), &z, operand);
                if (f.known) {
                    f.mnemonic = (uint16_t)z.mnemonic;
                    f.isa_set = (uint16_t)z.meta.isa_set;
                    f.isa_ext = (uint16_t)z.meta.isa_ext;
                    f.vvvv = names_register(&z, operand, ZYDIS_OPERAND_ENCODING_NDSNDD);
                    f.modrm = z.attributes & ZYDIS_ATTRIB_HAS_MODRM;
                    if (names_register(&z, operand, ZYDIS_OPERAND_ENCODING_MODRM_REG))
                        f.digit = -1;
                    if (memory || names_register(&z, operand, ZYDIS_OPERAND_ENCODING_MODRM_RM))
                        f.rm = -1;
                } else {
                    f.rm = -1;
                }
                if (is_known(&f, first))
                    continue;
                if (!skipped(&f) && !add_form(&f))
                    return false;
                if (f.known && !f.modrm)
                    return true;
            }
        }
    }
    return true;
}

static bool is_prefix(unsigned width, unsigned opcode)
{
    switch (opcode) {
    case 0x0f:
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
        return true;
    case 0x62: /* EVEX and VEX, which outside 64-bit code share their opcodes with others */
    case 0xc4:
    case 0xc5:
        return width == 64;
    default:
        return width == 64 && opcode >= 0x40 && opcode < 0x50; /* REX */
    }
}

static bool is_opcode(const struct form *f)
{
    if (f->encoding != FORM_LEGACY)
        return true;
    if (f->map == 0)
        return !is_prefix(f->width, f->opcode);
    return f->map != 1 || (f->opcode != 0x38 && f->opcode != 0x3a);
}

static bool walk_map(struct form form)
{
    static const uint8_t prefixes[] = {0, 0x66, 0xf2, 0xf3};
    bool has_w = form.width == 64 || form.encoding != FORM_LEGACY;

    for (unsigned opcode = 0; opcode < 256; opcode++)
        for (unsigned p = 0; p < ARRAY_SIZE(prefixes); p++)
            for (unsigned w = 0; w < (has_w ? 2 : 1); w++)
                for (unsigned l = 0; l < (form.encoding != FORM_LEGACY ? 2 : 1); l++) {
                    form.opcode = (uint8_t)opcode;
                    form.prefix = prefixes[p];
                    form.w = w;
                    form.l = l;
                    if (is_opcode(&form) && !walk_opcode(form))
                        return false;
                }
    return true;
}

int forms_walk(void)
{
    static const uint8_t widths[] = {64, 32, 16};

    for (unsigned i = 0; i < ARRAY_SIZE(widths); i++) {
        struct form form = {.width = widths[i]};

        for (form.map = 0; form.map <= 3; form.map++)
            if (!walk_map(form))
                return -ENOMEM;
        for (form.encoding = FORM_VEX; form.encoding <= FORM_EVEX; form.encoding++)
            for (form.map = 1; form.map <= 3; form.map++)
                if (!walk_map(form))
                    return -ENOMEM;
    }
    return 0;
}

void form_describe(const struct form *f, char *to, size_t size)
{
    static const char *const maps[] = {"", "0f ", "0f38 ", "0f3a "};
    static const char *const encodings[] = {"", "vex ", "evex "};
    char digits[16] = "", prefix[8] = "";

    if (f->modrm && f->digit >= 0)
        snprintf(digits, sizeof(digits), f->rm >= 0 ? " /%d,%d" : " /%d", f->digit, f->rm);
    if (f->prefix)
        snprintf(prefix, sizeof(prefix), "%02x ", f->prefix);
    snprintf(to, size, "%u-bit %s%s%s%02x%s%s%s%s  %s", f->width, encodings[f->encoding], prefix,
             maps[f->map], f->opcode, digits,
             !f->modrm   ? ""
             : f->memory ? " mem"
                         : " reg",
             f->w ? " w1" : "", f->l ? " l1" : "",
             f->known ? ZydisMnemonicGetString((ZydisMnemonic)f->mnemonic) : "(unknown)");
}
