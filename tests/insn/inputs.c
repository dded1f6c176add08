/*
 * Inputs of a case: values that matter in registers, vectors and memory, and addresses that lead to
 * memory, aligned or not, in the middle of the data or at the edge of an absent or read-only page.
 */
#include <string.h>

#include "insn.h"

enum edge { EDGE_NONE, EDGE_ABSENT, EDGE_READ_ONLY, EDGE_FRONT };

static uint64_t interesting(struct random *random)
{
    uint64_t value = random_next(random);

    switch (random_below(random, 8)) {
    case 0:
        return (uint64_t)(int64_t)(int8_t)value;
    case 1: { /* around the limits of a width */
        static const uint8_t widths[] = {7, 8, 15, 16, 31, 32, 63};
        return (1ull << widths[value % sizeof(widths)]) + (uint64_t)(int64_t)(int8_t)(value >> 62);
    }
    case 2:
        return ~0ull >> (value & 63);
    case 3:
        return 1ull << (value & 63);
    case 4:
        return (uint64_t)(int64_t)(int32_t)value;
    default:
        return value;
    }
}

uint16_t random_selector(const struct snippet *s, bool code, struct random *random)
{
    static const uint16_t any[] = {0,
                                   3,
                                   SELECTOR_KERNEL,
                                   SELECTOR_STACK,
                                   SELECTOR_USER_SS,
                                   SELECTOR_DATA16,
                                   SELECTOR_DATA32,
                                   0xfff3,
                                   SELECTOR_USER32, /* and other code */
                                   SELECTOR_USER,
                                   SELECTOR_CODE16,
                                   SELECTOR_CODE32};
    const unsigned not_code = 8;

    if (!one_in(random, 4))
        return code ? s->code_selector : s->data_selector;
    /* What stands behind an instruction is right only for its own kind of code. */
    return any[random_below(random, code ? not_code : ARRAY_SIZE(any))];
}

/* --- vectors --- */

/* Floats and doubles that matter, by their bits. */
static uint64_t interesting_float(struct random *random, bool is_double)
{
    static const uint32_t singles[] = {0x00000000, 0x3f800000, 0x7f800000, 0x7fc00000,
                                       0x7f800001, 0x00000001, 0x007fffff, 0x00800000,
                                       0x7f7fffff, 0x4f000000, 0x5f000000, 0x3f000000};
    uint64_t value = random_next(random);
    uint32_t single = singles[value % ARRAY_SIZE(singles)] | (uint32_t)(value >> 32 & 1u << 31);

    if (value >> 20 & 1) /* a value of moderate size */
        single = (uint32_t)(value >> 32 & 0x807fffff) | (0x70 + (uint32_t)(value & 31)) << 23;
    if (!is_double)
        return single;
    uint64_t exponent = single >> 23 & 0xff;
    exponent = exponent == 0 ? 0 : exponent == 0xff ? 0x7ff : exponent + 0x380;
    return (uint64_t)(single >> 31) << 63 | exponent << 52 | (uint64_t)(single & 0x7fffff) << 29 |
           (exponent && exponent != 0x7ff ? value & 0x1fffffff : 0);
}

static void fill_vector(uint8_t to[16], struct random *random)
{
    uint64_t kind = random_below(random, 5), lane[2];

    for (int i = 0; i < 2; i++) {
        if (kind == 0)
            lane[i] = interesting(random);
        else if (kind <= 2)
            lane[i] = interesting_float(random, true);
        else if (kind == 3)
            lane[i] = interesting_float(random, false) | interesting_float(random, false) << 32;
        else
            lane[i] = random_next(random);
    }
    memcpy(to, lane, 16);
}

static void fill_x87(uint8_t to[16], struct random *random)
{
    uint64_t value = random_next(random), significand = random_next(random) | 1ull << 63;
    uint16_t sign_exponent = (uint16_t)(value & 0x8000);

    switch (random_below(random, 10)) {
    case 0: /* zero */
        significand = 0;
        break;
    case 1: /* infinity */
        significand = 1ull << 63;
        sign_exponent |= 0x7fff;
        break;
    case 2: /* NaN, quiet or signalling */
        sign_exponent |= 0x7fff;
        break;
    case 3: /* denormal */
        significand = random_next(random) >> 1;
        break;
    case 4: /* anything, unsupported formats too */
        significand = random_next(random);
        sign_exponent = (uint16_t)value;
        break;
    case 5: /* an integer */
        significand = 1ull << 63 | (value & 0xff) << 55;
        sign_exponent |= (uint16_t)(0x3fff + (value >> 20 & 7));
        break;
    default: /* moderate */
        sign_exponent |= (uint16_t)(0x3ff0 + (value >> 20 & 31));
        break;
    }
    memset(to, 0, 16);
    memcpy(to, &significand, 8);
    memcpy(to + 8, &sign_exponent, 2);
}

/* Offsets in the XSAVE area (Intel SDM volume 1, 10.5.1 and 13.4). */
enum {
    X_FCW = 0,
    X_FSW = 2,
    X_FTW = 4,
    X_FOP = 6,
    X_FIP = 8,
    X_FDP = 16,
    X_MXCSR = 24,
    X_ST = 32,
    X_XMM = 160,
    X_XSTATE_BV = 512,
    X_YMM_HIGH = 576
};

#define FSW_ES_B 0x8080

static void fill_x87_control(uint8_t *x, struct random *random)
{
    uint64_t r = random_next(random);
    uint16_t fcw = (uint16_t)(0x7f | (r & 0x0f00));
    uint16_t fsw = (uint16_t)((r >> 16 & 0x7f00) & ~FSW_ES_B);

    if ((fcw & 0x300) == 0x100)
        fcw |= 0x200; /* precision control 01 is reserved */
    if (one_in(random, 8))
        fcw &= (uint16_t) ~(1u << (r >> 40) % 6); /* an exception unmasked */
    if (one_in(random, 8))
        fsw |= (uint16_t)(r >> 48 & 0x7f);
    if (fsw & ~fcw & 0x3f)
        fsw |= FSW_ES_B; /* one is pending */
    x[X_FTW] = one_in(random, 3) ? (uint8_t)(r >> 56) : 0xff;
    memcpy(x + X_FCW, &fcw, 2);
    memcpy(x + X_FSW, &fsw, 2);
    if (fsw & FSW_ES_B) { /* else a context switch of the host loses them */
        x[X_FOP] = (uint8_t)random_next(random);
        x[X_FIP + random_below(random, 4)] = (uint8_t)random_next(random);
        x[X_FDP + random_below(random, 4)] = (uint8_t)random_next(random);
    }
}

static void fill_xsave(uint8_t *x, bool x87, struct random *random)
{
    uint16_t fcw = 0x037f;
    uint32_t mxcsr = 0x1f80;
    uint64_t components = CASE_XSAVE_MASK;

    memset(x, 0, sizeof(((struct insn_state *)NULL)->xsave));
    memcpy(x + X_FCW, &fcw, 2);
    if (x87)
        fill_x87_control(x, random);
    if (one_in(random, 4)) {
        mxcsr |= (uint32_t)random_next(random) & 0xe07f; /* rounding, FTZ, DAZ, flags */
        if (one_in(random, 8))
            mxcsr &= ~((uint32_t)random_next(random) & 0x1f80);
    }
    memcpy(x + X_MXCSR, &mxcsr, 4);
    memcpy(x + X_XSTATE_BV, &components, 8);
    for (int i = 0; i < 8; i++)
        fill_x87(x + X_ST + 16 * i, random);
    for (int i = 0; i < 16; i++) {
        fill_vector(x + X_XMM + 16 * i, random);
        fill_vector(x + X_YMM_HIGH + 16 * i, random);
    }
}

/* --- addresses --- */

static int gpr_number(ZydisRegister reg)
{
    ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

    return whole >= ZYDIS_REGISTER_RAX && whole <= ZYDIS_REGISTER_R15
               ? (int)(whole - ZYDIS_REGISTER_RAX)
               : -1;
}

static uint64_t width_mask(unsigned width)
{
    return ~0ull >> (64 - width);
}

static uint64_t window_of(enum edge edge)
{
    static const uint64_t windows[] = {WINDOW_USUAL, WINDOW_ABSENT, WINDOW_READ_ONLY, WINDOW_FRONT};

    return windows[edge];
}

/* Somewhere in the window for an operand of `size` bytes, aligned or not; at an edge so that it
 * may reach over it. */
static uint64_t choose_target(const struct insn_case *c, enum edge edge, unsigned size,
                              struct random *random)
{
    uint64_t r = random_next(random), target;
    unsigned alignment = r & 1 ? (size > 64 ? 64 : 32) : r & 2 ? 8 : 1;

    if (edge == EDGE_FRONT) {
        target = c->window + 2 - (r >> 8) % (size + 4);
    } else if (edge != EDGE_NONE) {
        target = c->window + MEMORY_BYTES + 2 - (r >> 8) % (size + 8);
    } else if (size >= 128) {
        target = c->window + 64 + (r >> 8) % 64;
        alignment = r & 7 ? 64 : 1;
    } else {
        target = c->window + 96 + (r >> 8) % (MEMORY_BYTES - 320);
    }
    if (edge != EDGE_NONE && (r & 3) == 3)
        alignment = size & (size - 1) || !size || size > 64 ? 16 : size;
    return ALIGN_DOWN(target, alignment);
}

/* Gives the registers of a memory operand values that lead to `target`. */
static void aim(struct insn_case *c, const struct snippet *s, const ZydisDecodedOperandMem *mem,
                uint64_t target)
{
    uint64_t *gpr = c->in.gpr, mask = width_mask(s->z.address_width);
    uint64_t keep = s->width == 64 ? ~mask : 0xffffffffull & ~mask;
    uint64_t rest = target - segment_base(s, mem->segment) - (uint64_t)mem->disp.value;
    int base = gpr_number(mem->base), index = gpr_number(mem->index);
    unsigned scale = mem->scale ? mem->scale : 1;
    uint64_t value;
    int reg = base;

    if (base >= 0 && index >= 0 && base != index) {
        value = rest - gpr[index] * scale;
    } else if (base >= 0 && index >= 0) {
        value = (rest & mask) / (1 + scale);
    } else if (base >= 0) {
        value = rest;
    } else if (index >= 0) {
        value = (rest & mask) / scale;
        reg = index;
    } else {
        return;
    }
    gpr[reg] = (gpr[reg] & keep) | (value & mask);
}

/* Linear address of a memory operand as it is. */
static uint64_t linear_address(const struct insn_case *c, const struct snippet *s,
                               const ZydisDecodedOperandMem *mem)
{
    uint64_t address = (uint64_t)mem->disp.value;
    int base = gpr_number(mem->base), index = gpr_number(mem->index);

    if (base >= 0)
        address += c->in.gpr[base];
    if (index >= 0)
        address += c->in.gpr[index] * (mem->scale ? mem->scale : 1);
    if (mem->base == ZYDIS_REGISTER_RIP || mem->base == ZYDIS_REGISTER_EIP)
        address += s->address + s->length;
    return (address & width_mask(s->z.address_width)) + segment_base(s, mem->segment);
}

static bool is_absolute(const ZydisDecodedOperandMem *mem)
{
    return gpr_number(mem->base) < 0 && gpr_number(mem->index) < 0;
}

static bool is_gather(const struct snippet *s)
{
    return s->known && s->z.meta.category == ZYDIS_CATEGORY_AVX2GATHER;
}

static bool is_string(const struct snippet *s)
{
    return s->known && (s->z.meta.category == ZYDIS_CATEGORY_STRINGOP ||
                        s->z.meta.category == ZYDIS_CATEGORY_IOSTRINGOP);
}

/* How many bytes, at most, from its first on an explicit or hidden operand takes. */
static unsigned operand_bytes(const struct snippet *s, const ZydisDecodedOperand *operand)
{
    if (s->z.meta.category == ZYDIS_CATEGORY_XSAVE || s->z.meta.category == ZYDIS_CATEGORY_XSAVEOPT)
        return 832;
    return operand->size ? operand->size / 8 : 1;
}

void inputs_address(struct insn_case *c, const struct snippet *s, struct random *random)
{
    if (s->memory >= 0)
        aim(c, s, &s->operand[s->memory].mem,
            choose_target(c, one_in(random, 24) ? EDGE_ABSENT : EDGE_NONE,
                          operand_bytes(s, &s->operand[s->memory]), random));
}

static void fill_gather_indices(struct insn_case *c, const struct snippet *s, struct random *random)
{
    unsigned reg = (unsigned)ZydisRegisterGetId(s->operand[s->memory].mem.index);
    uint8_t *halves[] = {c->in.xsave + X_XMM + 16 * reg, c->in.xsave + X_YMM_HIGH + 16 * reg};
    unsigned size = s->z.opcode & 1 ? 8 : 4;

    for (int half = 0; half < 2; half++) {
        for (unsigned at = 0; at < 16; at += size) {
            int64_t index = (int64_t)random_below(random, 96) - 48;
            if (one_in(random, 16))
                index = (int64_t)random_next(random); /* most likely nothing is there */
            memcpy(halves[half] + at, &index, size);
        }
    }
}

static bool is_stack(const ZydisDecodedOperandMem *mem)
{
    return gpr_number(mem->base) == X86_RSP;
}

/* Registers of the operands that the instruction does not name: the stack, strings, [rdi]. */
static void aim_hidden(struct insn_case *c, const struct snippet *s, enum edge edge,
                       struct random *random)
{
    for (int i = 0; i < s->z.operand_count; i++) {
        const ZydisDecodedOperand *o = &s->operand[i];

        if (o->type != ZYDIS_OPERAND_TYPE_MEMORY || i == s->memory)
            continue;
        unsigned size = operand_bytes(s, o);
        enum edge here = is_string(s) && one_in(random, 2) ? EDGE_NONE : edge;
        uint64_t target = is_stack(&o->mem) || is_string(s)
                              ? c->window +
                                    (here == EDGE_FRONT  ? 0
                                     : here != EDGE_NONE ? MEMORY_BYTES
                                                         : MEMORY_BYTES / 2) +
                                    random_below(random, 64) - 32
                              : choose_target(c, here, size, random);

        if (!one_in(random, 4))
            target = ALIGN_DOWN(target, 8);
        aim(c, s, &o->mem, target);
    }
    if (s->z.mnemonic == ZYDIS_MNEMONIC_ENTER || s->z.mnemonic == ZYDIS_MNEMONIC_LEAVE) {
        uint64_t target = c->window +
                          (edge == EDGE_FRONT  ? 16
                           : edge != EDGE_NONE ? MEMORY_BYTES - 16
                                               : MEMORY_BYTES / 2) +
                          random_below(random, 32);
        target -= segment_base(s, ZYDIS_REGISTER_SS);
        c->in.gpr[X86_RBP] = target;
        if (s->z.mnemonic == ZYDIS_MNEMONIC_ENTER)
            c->in.gpr[X86_RSP] = target - random_below(random, 4) * 8;
    }
    if (is_string(s)) {
        uint64_t mask = width_mask(s->z.address_width);

        c->in.gpr[X86_RCX] = (c->in.gpr[X86_RCX] & ~mask) | random_below(random, 22);
        if (one_in(random, 4)) /* equal data, so that comparing goes on */
            memset(c->in.memory, (int)random_next(random), MEMORY_BYTES);
    }
}

/* --- what memory must hold --- */

static void put_memory(struct insn_case *c, uint64_t address, const void *from, unsigned size)
{
    uint64_t offset = address - c->window;

    if (offset < MEMORY_BYTES && offset + size <= MEMORY_BYTES)
        memcpy(c->in.memory + offset, from, size);
}

static void put_number(struct insn_case *c, uint64_t address, uint64_t value, unsigned size)
{
    put_memory(c, address, &value, size);
}

/* An image for XRSTOR or FXRSTOR, now and then one that it refuses. */
static void put_image(struct insn_case *c, uint64_t address, struct random *random)
{
    uint8_t image[832];
    uint64_t components = random_below(random, 8);

    fill_xsave(image, true, random);
    memcpy(image + X_XSTATE_BV, &components, 8);
    if (one_in(random, 16))
        image[X_XSTATE_BV + random_below(random, 64)] |= 1u << random_below(random, 8);
    if (one_in(random, 16))
        image[X_MXCSR + 2 + random_below(random, 2)] |= 1u << random_below(random, 8);
    put_memory(c, address, image, sizeof(image));
    put_memory(c, address, image, 512);
}

/* Return addresses, selectors and the like on the stack. */
static void fill_stack(struct insn_case *c, const struct snippet *s, struct random *random)
{
    uint64_t mask = s->width == 64                        ? ~0ull
                    : s->data_selector == SELECTOR_DATA16 ? 0xffff
                                                          : 0xffffffff;
    uint64_t top = (c->in.gpr[X86_RSP] & mask) + segment_base(s, ZYDIS_REGISTER_SS);
    unsigned size = s->z.operand_width / 8;

    switch (s->z.mnemonic) {
    case ZYDIS_MNEMONIC_RET:
        put_number(c, top, taken_offset(s), size);
        put_number(c, top + size, random_selector(s, true, random), 2);
        break;
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
        put_number(c, top, taken_offset(s), size);
        put_number(c, top + size, random_selector(s, true, random), 2);
        put_number(c, top + 3 * size, c->in.gpr[X86_RSP], size);
        put_number(c, top + 4 * size, SELECTOR_USER_SS, 2);
        break;
    case ZYDIS_MNEMONIC_POP:
        if (s->segments)
            put_number(c, top, random_selector(s, false, random), 2);
        break;
    default:
        break;
    }
}

static void fill_operand(struct insn_case *c, const struct snippet *s, uint64_t target,
                         struct random *random)
{
    unsigned size = s->z.operand_width / 8;

    switch (s->z.mnemonic) {
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
        put_number(c, target, random_next(random) & (one_in(random, 8) ? ~0ull : 0xffff), 4);
        break;
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
        put_image(c, target, random);
        break;
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_CALL:
        put_number(c, target, taken_offset(s), size);
        put_number(c, target + size, random_selector(s, true, random), 2);
        break;
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS:
        put_number(c, target + size, random_selector(s, false, random), 2);
        break;
    case ZYDIS_MNEMONIC_MOV:
        if (s->segments)
            put_number(c, target, random_selector(s, false, random), 2);
        break;
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B:
        if (one_in(random, 2)) {
            unsigned half = s->z.mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B ? 4 : 8;
            put_number(c, target, c->in.gpr[X86_RAX], 8);
            if (s->z.mnemonic != ZYDIS_MNEMONIC_CMPXCHG)
                put_number(c, target + half, c->in.gpr[X86_RDX], half);
        }
        break;
    default:
        break;
    }
}

/* --- registers with a meaning --- */

static void fill_registers(struct insn_case *c, const struct snippet *s, struct random *random)
{
    uint64_t *gpr = c->in.gpr;

    switch (s->z.mnemonic) {
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
        gpr[X86_RAX] = random_next(random) >> random_below(random, 64);
        if (!one_in(random, 4))
            gpr[X86_RDX] = random_next(random) & 1 ? 0 : random_below(random, 16);
        break;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
        /* The host's XCR0 may have more components than the guest's. */
        gpr[X86_RAX] &= ~0x80fffff8ull;
        gpr[X86_RDX] &= ~0xffffffffull;
        break;
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_CALL:
        if (s->memory < 0 && s->operand[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
            gpr[gpr_number(s->operand[0].reg.value)] = taken_offset(s);
        break;
    case ZYDIS_MNEMONIC_MOV:
        if (s->segments && s->memory < 0)
            gpr[gpr_number(s->operand[1].reg.value)] = random_selector(s, false, random);
        break;
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        if (one_in(random, 2))
            gpr[X86_RCX] = random_below(random, 3) | (random_next(random) & 1) << 32;
        break;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
        if (s->memory >= 0 && s->operand[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
            gpr[gpr_number(s->operand[1].reg.value)] =
                (uint64_t)(random_below(random, 2400) - 1200);
        break;
    default:
        if (s->z.meta.category == ZYDIS_CATEGORY_SHIFT ||
            s->z.meta.category == ZYDIS_CATEGORY_ROTATE)
            if (one_in(random, 2))
                gpr[X86_RCX] = (gpr[X86_RCX] & ~255ull) | random_below(random, 34);
        break;
    }
}

/* Makes an address of the instruction one that is not canonical. Not with FS or GS: some processors
 * want the address to be canonical before the base is added, too. */
static void leave_canonical(struct insn_case *c, const struct snippet *s, struct random *random)
{
    int reg = -1;

    for (int i = 0; i < s->z.operand_count; i++)
        if (s->operand[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            segment_base(s, s->operand[i].mem.segment) == 0 && (reg < 0 || one_in(random, 2)))
            reg = gpr_number(s->operand[i].mem.base);
    /* What is accessed in pieces faults in pieces. */
    if (reg >= 0 && one_in(random, 4) &&
        !(s->memory >= 0 && (s->operand[s->memory].size > 512 || s->operand[s->memory].size == 80)))
        c->in.gpr[reg] = (1ull << 47) - random_below(random, 20); /* its end, perhaps, is not */
    else if (reg >= 0)
        c->in.gpr[reg] ^= 1ull << (47 + random_below(random, 16));
}

void inputs_generate(struct insn_case *c, const struct snippet *s, struct random *random)
{
    const ZydisDecodedOperand *memory = s->memory >= 0 ? &s->operand[s->memory] : NULL;
    enum edge edge = EDGE_NONE;
    bool x87 = s->is_sequence;

    memset(c, 0, sizeof(*c));
    if (one_in(random, 8) && !(memory && is_absolute(&memory->mem)) && !is_gather(s))
        edge = (enum edge)(1 + random_below(random, 3));
    c->code = s->address;
    c->entry = s->address;
    c->window = edge != EDGE_NONE ? window_of(edge) : s->window;
    c->fault_vector = NO_FAULT;
    c->refused = s->refused;
    if (s->segments) {
        c->selector = s->data_selector;
        c->far = (s->address - segment_base(s, ZYDIS_REGISTER_CS)) | (uint64_t)s->code_selector
                                                                         << 32;
        c->entry = RUNNER_ADDRESS(runner_far);
    }
    if (s->known)
        x87 = s->z.meta.isa_ext == ZYDIS_ISA_EXT_X87 || s->z.meta.isa_ext == ZYDIS_ISA_EXT_MMX ||
              s->z.meta.category == ZYDIS_CATEGORY_XSAVE ||
              s->z.meta.isa_set == ZYDIS_ISA_SET_FXSAVE ||
              s->z.meta.isa_set == ZYDIS_ISA_SET_FXSAVE64;
    for (int i = 0; i < X86_GPR_COUNT; i++) {
        c->in.gpr[i] = interesting(random);
        if (s->width != 64 && i < 8)
            c->in.gpr[i] &= 0xffffffff;
    }
    c->in.rflags = 0x202 | (random_next(random) & 0xcd5);
    /* Alignment checks: which vector and x87 accesses they cover is up to the processor. */
    if (s->known && s->z.meta.isa_ext == ZYDIS_ISA_EXT_BASE && one_in(random, 32))
        c->in.rflags |= 1u << 18; /* AC */
    if (one_in(random, 32))
        c->in.rflags |= 1u << 21; /* ID */
    for (int i = 0; i < MEMORY_BYTES; i += 16)
        fill_vector(c->in.memory + i, random);
    fill_xsave(c->in.xsave, x87, random);
    c->undefined_flags = s->undefined_flags;
    if (!s->known)
        return;

    fill_registers(c, s, random);
    aim_hidden(c, s, edge, random);
    if (memory) {
        aim(c, s, &memory->mem,
            is_gather(s) ? c->window + MEMORY_BYTES / 2
                         : choose_target(c, edge, operand_bytes(s, memory), random));
        if (is_gather(s))
            fill_gather_indices(c, s, random);
        fill_operand(c, s, linear_address(c, s, &memory->mem), random);
    }
    fill_stack(c, s, random);
    if (s->width == 64 && s->z.address_width == 64 && one_in(random, 48))
        leave_canonical(c, s, random);
}
