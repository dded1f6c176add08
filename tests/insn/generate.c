/*
 * Encodes the forms of forms.c and makes up the inputs. Registers are swept by the instance number
 * and else random; a memory operand first gets a target address, then the registers it is computed
 * from get values that lead there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "insn.h"

#define NONE (-1)
#define WINDOW_USUAL (DATA_BASE + 0x2000 - MEMORY_BYTES / 2) /* across a page boundary */
#define WINDOW_EDGE (DATA_BASE + DATA_SIZE - MEMORY_BYTES)   /* before an unmapped page */
#define JUMP_LENGTH 5

uint64_t random_next(struct random *random)
{
    uint64_t z = (random->state += 0x9e3779b97f4a7c15ull);

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static bool one_in(struct random *random, unsigned n)
{
    return random_below(random, n) == 0;
}

static bool has_option(const struct form *form, char option)
{
    return strchr(form->options, option) != NULL;
}

/* --- variants --- */

/* AVX forms that a line of forms.c stands for beside the encoding it gives. */
struct vex_variant {
    char option;
    bool nds;
    unsigned width; /* 0: LIG */
};
static const struct vex_variant vex_variants[] = {
    {'3', true, 128}, {'3', true, 256}, {'2', false, 128}, {'2', false, 256},
    {'s', true, 0},   {'t', false, 0},  {'1', true, 128},  {'0', false, 128},
};

static unsigned sizes_of(const struct form *form, unsigned sizes[3])
{
    static const struct {
        char option;
        unsigned count, sizes[3];
    } table[] = {{'b', 1, {8}}, {'v', 3, {16, 32, 64}}, {'y', 2, {32, 64}}, {'q', 2, {16, 64}}};

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        if (has_option(form, table[i].option)) {
            memcpy(sizes, table[i].sizes, sizeof(table[i].sizes));
            return table[i].count;
        }
    }
    sizes[0] = 0;
    return 1;
}

static unsigned count_words(const char *words)
{
    unsigned count = 1;

    for (; *words; words++)
        count += *words == ' ';
    return count;
}

static void copy_word(char *to, size_t size, const char *words, unsigned index)
{
    while (index--)
        words = strchr(words, ' ') + 1;
    snprintf(to, size, "%.*s", (int)strcspn(words, " "), words);
}

unsigned generate_variants(const struct form *form)
{
    unsigned sizes[3];

    return count_words(form->names) * sizes_of(form, sizes) * 2 *
           (1 + (unsigned)ARRAY_SIZE(vex_variants));
}

/* --- encoding --- */

/* What goes into the bytes, collected from the encoding's tokens before any byte is written. */
struct encoding {
    uint8_t mandatory; /* 66, F2, F3 or 0 */
    bool wide;         /* REX.W or VEX.W */
    bool vex, vex_nds;
    unsigned vex_width;
    unsigned vex_map; /* 1: 0F, 2: 0F38, 3: 0F3A */
    uint8_t opcode[8];
    unsigned opcode_length;
    bool modrm;
    int digit; /* of ModRM.reg, NONE for a register */
    uint8_t immediate[8];
    unsigned immediate_length;
    unsigned reg, rm, vvvv; /* register numbers */
    bool register_in_opcode;
};

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

static void parse_vex(struct encoding *e, char *token, unsigned size, struct random *random)
{
    char *save;

    e->vex = true;
    for (char *part = strtok_r(token, ".", &save); part; part = strtok_r(NULL, ".", &save)) {
        if (strcmp(part, "NDS") == 0)
            e->vex_nds = true;
        else if (strcmp(part, "128") == 0)
            e->vex_width = 128;
        else if (strcmp(part, "256") == 0)
            e->vex_width = 256;
        else if (strcmp(part, "LIG") == 0)
            e->vex_width = random_next(random) & 1 ? 128 : 256;
        else if (strcmp(part, "66") == 0 || strcmp(part, "F2") == 0 || strcmp(part, "F3") == 0)
            e->mandatory = (uint8_t)strtoul(part, NULL, 16);
        else if (strcmp(part, "0F38") == 0)
            e->vex_map = 2;
        else if (strcmp(part, "0F3A") == 0)
            e->vex_map = 3;
        else if (strcmp(part, "W1") == 0 || (strcmp(part, "Wy") == 0 && size == 64))
            e->wide = true;
        else if (strcmp(part, "WIG") == 0)
            e->wide = random_next(random) & 1;
    }
}

static void parse_token(struct encoding *e, char *token, const struct snippet *s,
                        struct random *random)
{
    if (strncmp(token, "VEX.", 4) == 0) {
        parse_vex(e, token, s->size, random);
    } else if (strcmp(token, "W1") == 0) {
        e->wide = true;
    } else if (token[0] == '/') {
        e->modrm = true;
        e->digit = token[1] == 'r' ? NONE : token[1] == 'n' ? (int)s->index : token[1] - '0';
    } else if (strcmp(token, "moffs") == 0) {
        e->immediate_length = 8;
    } else if (token[0] == 'i' && token[1] != '\0') {
        static const char kinds[] = "bwdvq";
        unsigned operand = s->size == 64 ? 4 : s->size / 8;
        const unsigned lengths[] = {1, 2, 4, operand, s->size / 8};
        const char *kind = strchr(kinds, token[1]);
        unsigned length = kind ? lengths[kind - kinds] : 1;
        uint64_t value = interesting(random);
        memcpy(e->immediate + e->immediate_length, &value, length);
        e->immediate_length += length;
    } else {
        char *end;
        unsigned byte = (unsigned)strtoul(token, &end, 16);
        if (*end == '+') {
            unsigned scale = 1;
            for (end++; *end; end++) {
                if (*end == '8') {
                    scale = 8;
                } else if (*end == 'n') {
                    byte += s->index * scale;
                } else if (*end == 'i') {
                    byte += (unsigned)random_below(random, 8);
                } else {
                    byte += e->rm & 7;
                    e->register_in_opcode = true;
                }
            }
        }
        bool prefix = e->opcode_length == 0 && !e->mandatory && !e->vex &&
                      (byte == 0x66 || byte == 0xf2 || byte == 0xf3);
        if (prefix)
            e->mandatory = (uint8_t)byte;
        else
            e->opcode[e->opcode_length++] = (uint8_t)byte;
    }
}

/* Chooses how the memory operand is addressed. */
static void choose_memory(struct snippet *s, unsigned instance, bool in_sequence,
                          struct random *random)
{
    bool stack = has_option(s->form, 'P');
    bool gather = has_option(s->form, 'G') || has_option(s->form, 'g');
    uint64_t kind = random_below(random, 16);

    s->has_memory = true;
    s->base = s->index_register = NONE;
    s->scale = 1 << random_below(random, 4);
    s->window = WINDOW_USUAL;
    if (gather) {
        s->base = (int)((instance + 1) % X86_GPR_COUNT);
        s->vector_index = (int)((instance * 7 + 2) % 16);
        s->displacement = (int8_t)random_next(random) / 4;
        return;
    }
    if (kind < 2) { /* absolute, or relative to RIP */
        s->absolute = true;
        s->base = kind == 0 ? NONE : X86_GPR_COUNT;
        return;
    }
    if (kind < 14)
        s->base = (int)((instance * 3 + 1) % X86_GPR_COUNT);
    if (in_sequence && s->base == NONE)
        s->base = (int)random_below(random, X86_GPR_COUNT);
    if (kind >= 8 && !in_sequence)
        s->index_register = (int)((instance * 5 + 3) % X86_GPR_COUNT);
    if (s->index_register == X86_RSP)
        s->index_register = NONE;
    if (s->base == NONE && s->index_register == NONE)
        s->base = X86_RBX;
    if (s->base == NONE || (kind & 3) == 3)
        s->displacement = (int32_t)random_next(random);
    else if ((kind & 3) == 2)
        s->displacement = (int8_t)random_next(random);
    if (stack && s->base == X86_RSP)
        s->displacement = (int8_t)s->displacement / 2;
    s->address32 = one_in(random, 12);
    if (!s->address32 && !(stack && s->base == X86_RSP) && one_in(random, 8))
        s->segment_base = random_next(random) & 1 ? CASE_FS_BASE : CASE_GS_BASE;
    /* The target of an index alone must be reachable with 32 bits. */
    if (s->base == NONE && s->displacement > 0)
        s->displacement = (int64_t)random_below(random, DATA_BASE);
}

static void put(struct snippet *s, uint8_t byte)
{
    s->bytes[s->length++] = byte;
}

static void put_modrm(struct snippet *s, const struct encoding *e, struct random *random)
{
    unsigned reg = e->digit == NONE ? e->reg & 7 : (unsigned)e->digit;
    unsigned mod, base = (unsigned)s->base & 7;

    if (!s->has_memory) {
        put(s, (uint8_t)(0xc0 | reg << 3 | (e->rm & 7)));
        return;
    }
    if (s->absolute) {
        uint64_t target = s->window + 64 + random_below(random, MEMORY_BYTES - 192);
        if (one_in(random, 2))
            target = ALIGN_DOWN(target, 32);
        uint64_t end = s->address + s->length + 5 + e->immediate_length;
        int32_t displacement = (int32_t)(s->base == NONE ? target : target - end);
        if (s->base == NONE) {
            put(s, (uint8_t)(reg << 3 | 4));
            put(s, 0x25);
            s->displacement = displacement;
        } else {
            s->displacement = (int64_t)target; /* what generate_inputs() wants to know */
            put(s, (uint8_t)(reg << 3 | 5));
        }
        memcpy(s->bytes + s->length, &displacement, 4);
        s->length += 4;
        return;
    }
    if (s->base == NONE)
        mod = 0;
    else if (s->displacement == 0 && base != 5)
        mod = 0;
    else
        mod = s->displacement == (int8_t)s->displacement ? 1 : 2;
    int index = s->vector_index != NONE ? s->vector_index : s->index_register;
    if (index == NONE && s->base != NONE && base != 4 && !one_in(random, 8)) {
        put(s, (uint8_t)(mod << 6 | reg << 3 | base));
    } else {
        unsigned scale = (unsigned)__builtin_ctz((unsigned)s->scale);
        put(s, (uint8_t)(mod << 6 | reg << 3 | 4));
        put(s, (uint8_t)(scale << 6 | (index == NONE ? 4 : (unsigned)index & 7) << 3 |
                         (s->base == NONE ? 5 : base)));
    }
    unsigned length = s->base == NONE || mod == 2 ? 4 : mod == 1 ? 1 : 0;
    memcpy(s->bytes + s->length, &s->displacement, length);
    s->length += length;
}

static void put_prefixes(struct snippet *s, const struct encoding *e, bool lock,
                         struct random *random)
{
    unsigned index = s->vector_index != NONE     ? (unsigned)s->vector_index
                     : s->index_register != NONE ? (unsigned)s->index_register
                                                 : 0;
    unsigned b =
        s->has_memory ? (s->base > 0 && s->base < 16 ? (unsigned)s->base >> 3 : 0) : e->rm >> 3;
    unsigned x = s->has_memory ? index >> 3 : 0;
    unsigned r = e->modrm && e->digit == NONE ? e->reg >> 3 : 0;

    if (!e->modrm && !e->register_in_opcode)
        b = 0;
    if (lock)
        put(s, 0xf0);
    if (s->segment_base)
        put(s, s->segment_base == CASE_FS_BASE ? 0x64 : 0x65);
    if (s->address32)
        put(s, 0x67);
    if (e->vex) {
        static const uint8_t pp[] = {[0x66 & 15] = 1, [0xf3 & 15] = 2, [0xf2 & 15] = 3};
        unsigned p = e->mandatory ? pp[e->mandatory & 15] : 0;
        unsigned low = (e->vex_nds ? ~e->vvvv & 15 : 15) << 3 | (e->vex_width == 256) << 2 | p;
        if (!x && !b && !e->wide && e->vex_map == 1 && (random_next(random) & 1)) {
            put(s, 0xc5);
            put(s, (uint8_t)(!r << 7 | low));
        } else {
            put(s, 0xc4);
            put(s, (uint8_t)(!r << 7 | !x << 6 | !b << 5 | e->vex_map));
            put(s, (uint8_t)(e->wide << 7 | low));
        }
        return;
    }
    if (s->size == 16)
        put(s, 0x66);
    if (e->mandatory)
        put(s, e->mandatory);
    unsigned rex = (unsigned)e->wide << 3 | r << 2 | x << 1 | b;
    /* A bare REX turns AH, CH, DH, BH into SPL, BPL, SIL, DIL. */
    if (rex || one_in(random, 4))
        put(s, (uint8_t)(0x40 | rex));
}

/* Makes the SSE encoding in `e` the AVX form that forms.c says it has. */
static void to_vex(struct encoding *e, const struct vex_variant *v, struct random *random)
{
    unsigned skip = 1;

    e->vex = true;
    e->vex_nds = v->nds;
    e->vex_width = v->width ? v->width : random_next(random) & 1 ? 128 : 256;
    if (e->opcode[1] == 0x38 || e->opcode[1] == 0x3a) {
        e->vex_map = e->opcode[1] == 0x38 ? 2 : 3;
        skip = 2;
    }
    e->opcode_length -= skip;
    memmove(e->opcode, e->opcode + skip, e->opcode_length);
}

static void put_jump(struct snippet *s, uint64_t target)
{
    int32_t distance = (int32_t)(target - (s->address + s->code_length + JUMP_LENGTH));

    s->bytes[s->code_length] = 0xe9;
    memcpy(s->bytes + s->code_length + 1, &distance, 4);
    s->code_length += JUMP_LENGTH;
}

void generate_exits(struct snippet *s)
{
    put_jump(s, RUNNER_ADDRESS(runner_save_next));
    put_jump(s, RUNNER_ADDRESS(runner_save_taken));
}

bool generate_snippet(struct snippet *s, const struct form *form, unsigned variant,
                      unsigned instance, uint64_t address, bool in_sequence, struct random *random)
{
    unsigned sizes[3], size_count = sizes_of(form, sizes), names = count_words(form->names);
    struct encoding e = {.digit = NONE, .vex_map = 1};
    char tokens[96], mnemonic[24], *save;

    *s = (struct snippet){.form = form,
                          .address = address,
                          .window = WINDOW_USUAL,
                          .base = NONE,
                          .index_register = NONE,
                          .vector_index = NONE,
                          .bit_register = NONE,
                          .count_immediate = NONE};
    s->index = variant % names;
    s->size = sizes[variant / names % size_count];
    bool memory = variant / names / size_count & 1;
    unsigned vex = variant / names / size_count / 2;

    copy_word(mnemonic, sizeof(mnemonic), form->names, s->index);
    if (strcmp(mnemonic, "-") == 0)
        return false;
    if (vex && !has_option(form, vex_variants[vex - 1].option))
        return false;
    bool modrm = strchr(form->encoding, '/') != NULL;
    if (memory ? !modrm || has_option(form, 'r') : has_option(form, 'm'))
        return false;

    e.reg = (instance * 5 + 2) % 16;
    e.rm = (instance * 3 + 7) % 16;
    e.vvvv = (instance * 7 + 1) % 16;
    if (instance >= 16) {
        e.reg = (unsigned)random_below(random, 16);
        e.rm = (unsigned)random_below(random, 16);
        e.vvvv = (unsigned)random_below(random, 16);
    }
    e.wide = s->size == 64 && !has_option(form, 'q');
    snprintf(tokens, sizeof(tokens), "%s", form->encoding);
    for (char *t = strtok_r(tokens, " ", &save); t; t = strtok_r(NULL, " ", &save))
        parse_token(&e, t, s, random);
    if (vex)
        to_vex(&e, &vex_variants[vex - 1], random);

    if (memory)
        choose_memory(s, instance + (unsigned)random_below(random, 16), in_sequence, random);
    if (strstr(form->encoding, "moffs")) {
        uint64_t target = WINDOW_USUAL + random_below(random, MEMORY_BYTES - 8);
        memcpy(e.immediate, &target, 8);
    }
    if (has_option(form, 'B'))
        s->bit_register = (int)e.reg;
    if (has_option(form, 'C') && e.immediate_length == 1) {
        if (s->size == 16 && strncmp(mnemonic, "sh", 2) == 0 && mnemonic[3])
            e.immediate[0] &= 15; /* SHLD and SHRD by more than the size: result undefined */
        s->count_immediate = e.immediate[0];
    }
    if (has_option(form, 'J')) {
        memset(e.immediate, 0, sizeof(e.immediate));
        e.immediate[0] = JUMP_LENGTH;
        s->is_jump = true;
        s->jump_bytes = e.immediate_length;
    }
    if (has_option(form, 'E') && e.immediate_length == 3) {
        e.immediate[0] &= 63;
        e.immediate[1] = 0;
        e.immediate[2] &= 7;
    }
    if (has_option(form, 'R') && e.immediate_length)
        e.immediate[1] = 0;

    bool lock = s->has_memory && has_option(form, 'L') && one_in(random, 3);
    bool repeat = has_option(form, 'I') && one_in(random, 2);
    if (repeat)
        put(s, random_next(random) & 1 ? 0xf3 : 0xf2);
    if (!s->has_memory && (has_option(form, 'I') || has_option(form, 'X')))
        s->address32 = one_in(random, 8);
    put_prefixes(s, &e, lock, random);
    for (unsigned i = 0; i < e.opcode_length; i++)
        put(s, e.opcode[i]);
    if (e.modrm)
        put_modrm(s, &e, random);
    for (unsigned i = 0; i < e.immediate_length; i++)
        put(s, e.immediate[i]);

    s->code_length = s->length;
    generate_exits(s);

    s->undefined_flags = forms_undefined_flags(mnemonic);
    char width[16] = "";
    if (vex)
        snprintf(width, sizeof(width), ".%u", e.vex_width);
    else if (s->size)
        snprintf(width, sizeof(width), ".%u", s->size);
    snprintf(s->name, sizeof(s->name), "%s%s%s%s%s",
             lock     ? "lock "
             : repeat ? "rep "
                      : "",
             vex ? "v" : "", mnemonic, width, modrm ? memory ? ".mem" : ".reg" : "");
    if (has_option(form, 'T') && !s->has_memory)
        s->bit_register = (int)e.rm; /* the register that gets the target */
    return true;
}

/* --- inputs --- */

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
    X_MXCSR = 24,
    X_ST = 32,
    X_XMM = 160,
    X_XSTATE_BV = 512,
    X_YMM_HIGH = 576
};

static void fill_xsave(uint8_t *x, const struct form *form, struct random *random)
{
    bool x87 = has_option(form, 'F');
    uint16_t fcw = 0x037f, fsw = 0;
    uint32_t mxcsr = 0x1f80;
    uint64_t components = CASE_XSAVE_MASK;

    memset(x, 0, sizeof(((struct insn_state *)NULL)->xsave));
    if (x87) {
        uint64_t r = random_next(random);
        fcw = (uint16_t)(0x7f | (r & 0x0f00));
        if ((fcw & 0x300) == 0x100)
            fcw |= 0x200; /* precision control 01 is reserved */
        fsw = (uint16_t)((r >> 16 & 0x7f00) & ~0x0080u);
        if (one_in(random, 8))
            fcw &= (uint16_t) ~(1u << (r >> 40) % 6); /* an exception unmasked */
        x[X_FTW] = one_in(random, 3) ? (uint8_t)(r >> 48) : 0xff;
    }
    if (one_in(random, 4)) {
        mxcsr |= (uint32_t)random_next(random) & 0xe07f; /* rounding, FTZ, DAZ, flags */
        if (one_in(random, 8))
            mxcsr &= ~((uint32_t)random_next(random) & 0x1f80);
    }
    memcpy(x + X_FCW, &fcw, 2);
    memcpy(x + X_FSW, &fsw, 2);
    memcpy(x + X_MXCSR, &mxcsr, 4);
    memcpy(x + X_XSTATE_BV, &components, 8);
    for (int i = 0; i < 8; i++)
        fill_x87(x + X_ST + 16 * i, random);
    for (int i = 0; i < 16; i++) {
        fill_vector(x + X_XMM + 16 * i, random);
        fill_vector(x + X_YMM_HIGH + 16 * i, random);
    }
}

/* Gives the registers of the memory operand values that lead to `target`. */
static void aim(struct insn_case *c, const struct snippet *s, uint64_t target)
{
    uint64_t *gpr = c->in.gpr;
    uint64_t mask = s->address32 ? 0xffffffffull : ~0ull;
    uint64_t rest = target - s->segment_base - (uint64_t)s->displacement;

    if (s->base == NONE)
        gpr[s->index_register] = (rest & mask) / (unsigned)s->scale;
    else if (s->base == s->index_register)
        gpr[s->base] = (rest & mask) / (1 + (unsigned)s->scale);
    else if (s->index_register != NONE)
        gpr[s->base] = rest - gpr[s->index_register] * (unsigned)s->scale;
    else
        gpr[s->base] = rest;
    if (s->address32) { /* the upper halves must not matter */
        if (s->base != NONE)
            gpr[s->base] = (gpr[s->base] & mask) | gpr[X86_R15] << 32;
        if (s->base == NONE)
            gpr[s->index_register] |= gpr[X86_R15] << 32;
    }
}

static uint64_t effective_address(const struct insn_case *c, const struct snippet *s)
{
    uint64_t address = (uint64_t)s->displacement;

    if (s->absolute)
        return address;
    if (s->base != NONE)
        address += c->in.gpr[s->base];
    if (s->index_register != NONE)
        address += c->in.gpr[s->index_register] * (unsigned)s->scale;
    if (s->address32)
        address = (uint32_t)address;
    return address + s->segment_base;
}

/* Somewhere in the window, aligned or not; at the edge, reaching into the unmapped page. */
static uint64_t choose_target(const struct insn_case *c, bool edge, struct random *random)
{
    uint64_t r = random_next(random);

    if (edge)
        return c->window + MEMORY_BYTES - (r & 47);
    uint64_t target = c->window + 96 + (r >> 8) % (MEMORY_BYTES - 224);
    return r & 1 ? ALIGN_DOWN(target, 32) : r & 2 ? ALIGN_DOWN(target, 8) : target;
}

void generate_address(struct insn_case *c, const struct snippet *s, struct random *random)
{
    aim(c, s, choose_target(c, one_in(random, 24), random));
}

static void fill_gather_indices(struct insn_case *c, const struct snippet *s, struct random *random)
{
    uint8_t *halves[] = {c->in.xsave + X_XMM + 16 * s->vector_index,
                         c->in.xsave + X_YMM_HIGH + 16 * s->vector_index};
    unsigned size = has_option(s->form, 'g') ? 8 : 4;

    for (int half = 0; half < 2; half++) {
        for (unsigned at = 0; at < 16; at += size) {
            int64_t index = (int64_t)random_below(random, 24) - 12;
            memcpy(halves[half] + at, &index, size);
        }
    }
}

static void fill_string_registers(struct insn_case *c, const struct snippet *s, bool edge,
                                  struct random *random)
{
    uint64_t high = s->address32 ? random_next(random) << 32 : 0;

    c->in.gpr[X86_RSI] = (c->window + 192 + random_below(random, 128)) | high;
    c->in.gpr[X86_RDI] = (edge ? c->window + MEMORY_BYTES - 64 + random_below(random, 64)
                               : c->window + 192 + random_below(random, 128)) |
                         high;
    c->in.gpr[X86_RCX] = random_below(random, 22) | high;
    if (one_in(random, 4)) /* equal data, so that comparing goes on */
        memset(c->in.memory, (int)random_next(random), MEMORY_BYTES);
}

/* Flags that only the inputs decide: those of shifts, by the count. */
static uint64_t shift_undefined(const struct insn_case *c, const struct snippet *s)
{
    unsigned count =
        (unsigned)(s->count_immediate != NONE ? (uint64_t)s->count_immediate : c->in.gpr[X86_RCX]);
    uint64_t undefined = s->undefined_flags;

    count &= s->size == 64 ? 63 : 31;
    if (count == 0)
        return 0;
    if (count != 1)
        undefined |= 1u << 11; /* OF */
    if (count >= s->size)
        undefined |= 1; /* CF */
    return undefined;
}

void generate_inputs(struct insn_case *c, const struct snippet *s, struct random *random)
{
    const struct form *form = s->form;
    bool gather = s->vector_index != NONE;
    bool edge = !s->absolute && !gather && !has_option(form, 'K') && one_in(random, 24);

    memset(c, 0, sizeof(*c));
    c->code = s->address;
    c->window = edge ? WINDOW_EDGE : s->window;
    c->fault_vector = NO_FAULT;
    for (int i = 0; i < X86_GPR_COUNT; i++)
        c->in.gpr[i] = interesting(random);
    c->in.rflags = 0x202 | (random_next(random) & 0xcd5);
    /* Alignment checks: which vector and x87 accesses they cover is up to the processor. */
    if (strpbrk(form->options, "bvq") && one_in(random, 32))
        c->in.rflags |= 1u << 18; /* AC */
    if (one_in(random, 32))
        c->in.rflags |= 1u << 21; /* ID */
    for (int i = 0; i < MEMORY_BYTES; i += 16)
        fill_vector(c->in.memory + i, random);
    fill_xsave(c->in.xsave, form, random);

    if (has_option(form, 'D')) {
        c->in.gpr[X86_RAX] = random_next(random) >> random_below(random, 64);
        if (!one_in(random, 4))
            c->in.gpr[X86_RDX] = random_next(random) & 1 ? 0 : random_below(random, 16);
    }
    if (has_option(form, 'C') && one_in(random, 2))
        c->in.gpr[X86_RCX] = (c->in.gpr[X86_RCX] & ~255ull) | random_below(random, 34);
    if (has_option(form, 'C') && s->size == 16 && strstr(form->names, "sh") &&
        !strchr(form->names, ' '))
        c->in.gpr[X86_RCX] &= ~0x10ull;             /* SHLD and SHRD: counts up to 16 */
    if (has_option(form, 'J') && one_in(random, 2)) /* LOOP and JRCXZ */
        c->in.gpr[X86_RCX] = random_below(random, 3) | (random_next(random) & 1) << 32;
    if (has_option(form, 'P')) {
        c->in.gpr[X86_RSP] = c->window + 224 + random_below(random, 8) * 8;
        if (one_in(random, 8))
            c->in.gpr[X86_RSP] += random_below(random, 8);
        if (edge)
            c->in.gpr[X86_RSP] = c->window + MEMORY_BYTES - random_below(random, 12);
    }
    if (has_option(form, 'E'))
        c->in.gpr[X86_RBP] = c->window + 256 + random_below(random, 64);
    if (has_option(form, 'I'))
        fill_string_registers(c, s, edge, random);
    if (has_option(form, 'X'))
        c->in.gpr[X86_RBX] = c->window + random_below(random, MEMORY_BYTES - 256);
    if (has_option(form, 'K'))
        c->in.gpr[X86_RDI] = choose_target(c, false, random);

    uint64_t target = 0;
    if (s->has_memory) {
        if (!s->absolute)
            aim(c, s, gather ? c->window + 256 : choose_target(c, edge, random));
        if (gather)
            fill_gather_indices(c, s, random);
        target = effective_address(c, s);
        if (s->base != NONE && !s->absolute && !s->address32 && one_in(random, 64))
            c->in.gpr[s->base] ^= 1ull << 62; /* not canonical */
    }
    if (s->bit_register != NONE && has_option(form, 'B') && s->has_memory &&
        s->bit_register != s->base && s->bit_register != s->index_register)
        c->in.gpr[s->bit_register] = (uint64_t)((int64_t)random_below(random, 1400) - 700);

    /* Where the memory operand or the stack must hold something in particular. */
    uint64_t stack = c->in.gpr[X86_RSP] - c->window;
    uint64_t taken = s->address + s->code_length - JUMP_LENGTH;
    if (has_option(form, 'R') && stack <= MEMORY_BYTES - 8)
        memcpy(c->in.memory + stack, &taken, 8);
    if (strcmp(form->names, "ldmxcsr") == 0 && target - c->window <= MEMORY_BYTES - 4) {
        uint32_t mxcsr = (uint32_t)random_next(random) & (one_in(random, 8) ? ~0u : 0xffff);
        memcpy(c->in.memory + (target - c->window), &mxcsr, 4);
    }
    if (strncmp(form->names, "pushf", 5) == 0 && stack <= MEMORY_BYTES - 2)
        c->in.memory[stack + 1] &= 0xbe; /* no TF, no NT */
    if (has_option(form, 'T')) {
        if (!s->has_memory)
            c->in.gpr[s->bit_register] = taken;
        else if (target - c->window <= MEMORY_BYTES - 8)
            memcpy(c->in.memory + (target - c->window), &taken, 8);
    }
    c->undefined_flags = has_option(form, 'C') ? shift_undefined(c, s) : s->undefined_flags;
}
