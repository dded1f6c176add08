/*
 * Guest registers that live in memory (regmap.h), and the one of them whose value TEMP2 holds.
 *
 * Within a run of instructions TEMP2 keeps the one that is used again soonest, and a changed value
 * is only stored (spill_flush()) when TEMP2 is needed for another, or when the block goes where
 * that is not known: an exit, an edge, C. Two ways out of such a run write the value back
 * themselves: the tail of a TLB miss, and the handler of a host fault, which finds it in the
 * instruction map.
 */
#include "engine/dbt/translator.h"

#define FIRST_SPILLED X86_R12
#define NEVER (MAX_BLOCK_INSNS + 1)

static bool is_spilled_name(ZydisRegister reg, unsigned *guest)
{
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        *guest = decode_gpr_number(reg);
        return *guest >= FIRST_SPILLED;
    default:
        return false;
    }
}

static void note_use(uint8_t *uses, ZydisRegister reg)
{
    unsigned guest;

    if (is_spilled_name(reg, &guest))
        *uses |= 1u << (guest - FIRST_SPILLED);
}

void spill_find_uses(struct translator *t)
{
    for (unsigned i = 0; i < t->count; i++) {
        const struct decoded *d = &t->insn[i];

        t->spill_uses[i] = 0;
        for (unsigned o = 0; o < d->z.operand_count; o++) {
            if (d->operand[o].type == ZYDIS_OPERAND_TYPE_REGISTER) {
                note_use(&t->spill_uses[i], d->operand[o].reg.value);
            } else if (d->operand[o].type == ZYDIS_OPERAND_TYPE_MEMORY) {
                note_use(&t->spill_uses[i], d->operand[o].mem.base);
                note_use(&t->spill_uses[i], d->operand[o].mem.index);
            }
        }
    }
}

/* How many instructions ahead the block names the register. */
static unsigned next_use(const struct translator *t, unsigned guest)
{
    for (unsigned i = t->index + 1; i < t->count; i++)
        if (t->spill_uses[i] >> (guest - FIRST_SPILLED) & 1)
            return i - t->index;
    return NEVER;
}

bool spill_worth_keeping(const struct translator *t, unsigned guest)
{
    unsigned next = next_use(t, guest);

    return t->spill_keeps && next != NEVER &&
           (t->cached == HOST_NONE || next < next_use(t, t->cached));
}

void spill_flush(struct translator *t)
{
    if (t->dirty)
        emit_store(&t->e, VCPU_FIELD(gpr[t->cached]), TEMP2);
    t->dirty = false;
}

void spill_forget(struct translator *t)
{
    spill_flush(t);
    t->cached = HOST_NONE;
}

uint8_t spill_unsaved(const struct translator *t)
{
    return t->dirty ? t->cached : HOST_NONE;
}

void spill_take(struct translator *t, unsigned guest, bool load)
{
    if (t->cached != guest) {
        spill_forget(t);
        if (load)
            emit_load(&t->e, TEMP2, VCPU_FIELD(gpr[guest]));
    }
    t->cached = (uint8_t)guest;
}

enum host_register spill_source(struct translator *t, unsigned guest, enum host_register temp)
{
    if (t->cached == guest)
        return TEMP2;
    if (spill_worth_keeping(t, guest)) {
        spill_take(t, guest, true);
        return TEMP2;
    }
    emit_load(&t->e, temp, VCPU_FIELD(gpr[guest]));
    return temp;
}

void spill_store(struct translator *t, unsigned guest, enum host_register from)
{
    if (from == TEMP2) { /* spill_take() has made room for it */
        t->dirty = true;
    } else if (t->cached == guest || spill_worth_keeping(t, guest)) {
        if (t->cached != guest)
            spill_take(t, guest, false);
        emit_mov(&t->e, TEMP2, from);
        t->dirty = true;
    } else {
        emit_store(&t->e, VCPU_FIELD(gpr[guest]), from);
    }
}
