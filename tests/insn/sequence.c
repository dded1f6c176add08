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

static bool takes_part(const struct form *form)
{
    return !strpbrk(form->options, "BDPEIXKGgTRF") && strcmp(form->names, "vzeroall") != 0;
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
    ZydisDecoder decoder;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    uint32_t written = 0;

    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, s->bytes, s->length, &insn, operands)))
        return false;
    uint64_t tested = insn.cpu_flags ? insn.cpu_flags->tested : 0;
    uint64_t defined =
        insn.cpu_flags ? insn.cpu_flags->modified | insn.cpu_flags->set_0 | insn.cpu_flags->set_1
                       : 0;
    if (insn.mnemonic == ZYDIS_MNEMONIC_LAHF || insn.mnemonic == ZYDIS_MNEMONIC_PUSHFQ)
        tested = ~0ull;
    if (tested & t->undefined)
        return false;
    for (unsigned i = 0; i < insn.operand_count; i++) {
        int reg = operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER
                      ? general_register(operands[i].reg.value)
                      : -1;
        if (reg >= 0 && operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            written |= 1u << reg;
    }
    if (s->has_memory && !s->absolute) {
        if ((t->written | t->addresses) & 1u << s->base)
            return false;
        t->addresses |= 1u << s->base;
    }
    t->written |= written;
    if (strchr(s->form->options, 'C')) /* may leave all flags alone, or these undefined */
        t->undefined |= s->undefined_flags | 0x801;
    else
        t->undefined = (t->undefined & ~defined) | s->undefined_flags;
    return true;
}

static bool add_part(struct sequence *q, struct track *t, const bool usable[],
                     struct random *random)
{
    struct snippet *part = &q->parts[q->count];
    uint64_t address = q->whole.address + q->whole.length;

    for (int tries = 0; tries < MAX_TRIES; tries++) {
        unsigned form = (unsigned)random_below(random, form_count);
        if (!usable[form] || !takes_part(&forms[form]))
            continue;
        unsigned variant = (unsigned)random_below(random, generate_variants(&forms[form]));
        if (!generate_snippet(part, &forms[form], variant, 16, address, true, random))
            continue;
        struct track after = *t;
        if (!follow(&after, part))
            continue;
        /* What stands behind a branch may be jumped over: then flags stay as they were. */
        if (q->count && q->parts[q->count - 1].is_jump) {
            after.undefined |= t->undefined;
            if (part->is_jump)
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
        if (part->is_jump) /* over the next one */
            part->bytes[part->length - part->jump_bytes] = (uint8_t)(next ? next->length : 0);
        memcpy(w->bytes + (part->address - w->address), part->bytes, part->length);
    }
    w->code_length = w->length;
    generate_exits(w);
}

void sequence_generate(struct sequence *q, uint64_t address, const bool usable[],
                       struct random *random)
{
    unsigned wanted = 2 + (unsigned)random_below(random, SEQUENCE_PARTS - 1);
    struct track track = {0};
    uint64_t undefined_ever = 0;

    memset(q, 0, sizeof(*q));
    q->whole.address = address;
    while (q->count < wanted && add_part(q, &track, usable, random)) {
        q->whole.length += q->parts[q->count++].length;
        undefined_ever |= track.undefined;
    }
    strcpy(q->whole.name, "sequence");
    q->whole.is_sequence = true;
    q->whole.undefined_flags = undefined_ever;
    finish_code(q);
}

void sequence_inputs(struct insn_case *c, const struct sequence *q, struct random *random)
{
    generate_inputs(c, &q->parts[0], random);
    for (unsigned i = 1; i < q->count; i++)
        if (q->parts[i].has_memory && !q->parts[i].absolute)
            generate_address(c, &q->parts[i], random);
    c->in.rflags &= ~(1ull << 18); /* AC: see generate_inputs() */
    c->code = q->whole.address;
    c->undefined_flags = q->whole.undefined_flags;
}

bool sequence_drop(struct sequence *q, unsigned index)
{
    struct snippet *part = &q->parts[index];

    if (part->bytes[0] == 0x90)
        return false;
    memset(part->bytes, 0x90, part->length);
    part->is_jump = false;
    finish_code(q);
    return true;
}
