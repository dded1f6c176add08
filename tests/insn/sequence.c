/*
 * Short random sequences of instructions: what single ones cannot show is how a translator carries
 * flags and registers from one to the next, and what state an exception in the middle leaves.
 *
 * Only forms without special needs take part. An instruction must not read flags that an earlier
 * one left undefined, and must not address memory by a register that an earlier one wrote: Zydis
 * tells what each reads and writes.
 */
#include <string.h>

#include <Zydis/Zydis.h>

#include "insn.h"

#define MAX_TRIES 64

/* What the instructions so far have done. */
struct track {
    uint32_t written;   /* general registers, by number */
    uint32_t addresses; /* those that hold an address for some memory operand */
    uint64_t undefined; /* flags */
};

/* Forms without needs of their own: no hidden memory operands, no state images, no system state. */
static bool takes_part(const struct snippet *s)
{
    if (!s->known || s->loads_segments)
        return false;
    for (int i = 0; i < s->z.operand_count; i++)
        if (s->operand[i].type == ZYDIS_OPERAND_TYPE_MEMORY && i != s->memory)
            return false;
    if (s->z.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED)
        return false;
    switch (s->z.meta.category) {
    case ZYDIS_CATEGORY_AVX2GATHER:
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_XSAVE:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_SYSTEM:
        return false;
    case ZYDIS_CATEGORY_COND_BR:
        return s->z.mnemonic >= ZYDIS_MNEMONIC_JB && s->z.raw.imm[0].size == 8;
    default:
        break;
    }
    switch (s->z.mnemonic) {
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
        return false;
    default:
        return true;
    }
}

/* The general register that `reg` is part of, or -1. */
static int general_register(ZydisRegister reg)
{
    ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

    return whole >= ZYDIS_REGISTER_RAX && whole <= ZYDIS_REGISTER_R15
               ? (int)(whole - ZYDIS_REGISTER_RAX)
               : -1;
}

/* Whether the instruction may follow; if so, what it does is added to `t`. */
static bool follow(struct track *t, const struct snippet *s)
{
    const ZydisAccessedFlags *flags = s->z.cpu_flags;
    uint64_t tested = flags ? flags->tested : 0;
    uint64_t defined = flags ? flags->modified | flags->set_0 | flags->set_1 : 0;
    uint32_t written = 0;

    if (s->z.mnemonic == ZYDIS_MNEMONIC_LAHF)
        tested = ~0ull;
    if (tested & t->undefined)
        return false;
    for (unsigned i = 0; i < s->z.operand_count; i++) {
        int reg = s->operand[i].type == ZYDIS_OPERAND_TYPE_REGISTER
                      ? general_register(s->operand[i].reg.value)
                      : -1;
        if (reg >= 0 && s->operand[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            written |= 1u << reg;
    }
    if (s->memory >= 0) {
        int base = general_register(s->operand[s->memory].mem.base);

        if (general_register(s->operand[s->memory].mem.index) >= 0)
            return false;
        if (base >= 0) {
            if ((t->written | t->addresses) & 1u << base)
                return false;
            t->addresses |= 1u << base;
        }
    }
    t->written |= written;
    /* Shifts may leave all flags alone, or these undefined. */
    if (s->z.meta.category == ZYDIS_CATEGORY_SHIFT || s->z.meta.category == ZYDIS_CATEGORY_ROTATE)
        t->undefined |= s->undefined_flags | 0x801;
    else
        t->undefined = (t->undefined & ~defined) | s->undefined_flags;
    return true;
}

static bool is_jump(const struct snippet *s)
{
    return s->z.meta.category == ZYDIS_CATEGORY_COND_BR;
}

static bool add_part(struct sequence *q, struct track *t, const bool usable[],
                     struct random *random)
{
    struct snippet *part = &q->parts[q->count];
    uint64_t address = q->whole.address + q->whole.length;

    for (int tries = 0; tries < MAX_TRIES; tries++) {
        unsigned form = (unsigned)random_below(random, form_count);
        if (!usable[form] || !forms[form].known || forms[form].width != q->whole.width ||
            !encode_form(part, &forms[form], address, true, random) || !takes_part(part))
            continue;
        part->code_selector = q->whole.code_selector;
        part->data_selector = q->whole.data_selector;
        struct track after = *t;
        if (!follow(&after, part))
            continue;
        /* What stands behind a branch may be jumped over: then flags stay as they were. */
        if (q->count && is_jump(&q->parts[q->count - 1])) {
            after.undefined |= t->undefined;
            if (is_jump(part))
                continue;
        }
        *t = after;
        return true;
    }
    return false;
}

static void finish_code(struct sequence *q)
{
    struct snippet *w = &q->whole;

    for (unsigned i = 0; i < q->count; i++) {
        const struct snippet *next = i + 1 < q->count ? &q->parts[i + 1] : NULL;
        struct snippet *part = &q->parts[i];
        if (part->known && is_jump(part)) /* over the next one */
            part->bytes[part->length - 1] = (uint8_t)(next ? next->length : 0);
        memcpy(w->bytes + (part->address - w->address), part->bytes, part->length);
    }
    encode_exits(w);
}

void sequence_generate(struct sequence *q, uint64_t address, const bool usable[],
                       struct random *random)
{
    static const uint8_t widths[] = {64, 64, 32, 16};
    unsigned wanted = 2 + (unsigned)random_below(random, SEQUENCE_PARTS - 1);
    struct track track = {0};
    uint64_t undefined_ever = 0;

    memset(q, 0, sizeof(*q));
    q->whole.address = address;
    q->whole.width = widths[random_below(random, sizeof(widths))];
    if (q->whole.width == 16 && !has_ldt)
        q->whole.width = 32;
    q->whole.window = WINDOW_USUAL;
    q->whole.segments = q->whole.width != 64;
    q->whole.code_selector = q->whole.width == 32   ? SELECTOR_USER32
                             : q->whole.width == 16 ? SELECTOR_CODE16
                                                    : SELECTOR_USER;
    q->whole.data_selector =
        q->whole.width == 16 && one_in(random, 2) ? SELECTOR_DATA16 : SELECTOR_USER_SS;
    while (q->count < wanted && add_part(q, &track, usable, random)) {
        if (q->parts[q->count].slack > q->whole.slack)
            q->whole.slack = q->parts[q->count].slack;
        q->whole.length += q->parts[q->count++].length;
        undefined_ever |= track.undefined;
    }
    q->whole.memory = -1;
    q->whole.is_sequence = true;
    q->whole.undefined_flags = undefined_ever;
    finish_code(q);
}

void sequence_inputs(struct insn_case *c, const struct sequence *q, struct random *random)
{
    inputs_generate(c, &q->whole, random);
    for (unsigned i = 0; i < q->count; i++)
        inputs_address(c, &q->parts[i], random);
}

bool sequence_drop(struct sequence *q, unsigned index)
{
    struct snippet *part = &q->parts[index];

    if (!part->known)
        return false;
    memset(part->bytes, 0x90, part->length);
    part->known = false;
    finish_code(q);
    return true;
}
