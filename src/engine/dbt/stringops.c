/*
 * String instructions without REP: LODS, STOS, MOVS, SCAS, CMPS. Intel SDM volume 2. With REP they
 * go to string.c.
 *
 * The host's own instruction does the work, on host addresses: it moves the values, sets the flags,
 * and its index registers tell by how much, and in which direction, the guest's move:
 *
 *     TEMP0 = host address of [rdi];  TEMP2 = rdi;  rdi = TEMP0
 *     stosb
 *     TEMP0 = rdi - TEMP0;  rdi = TEMP2 + TEMP0, as wide as the address
 */
#include "engine/dbt/translator.h"

/* The hidden memory operand that rSI or rDI points to, or NULL. */
static const ZydisDecodedOperand *operand_at(const struct decoded *d, unsigned guest)
{
    for (unsigned i = 0; i < d->z.operand_count; i++)
        if (d->operand[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            decode_gpr_number(d->operand[i].mem.base) == guest)
            return &d->operand[i];
    return NULL;
}

/* TEMP0 = host address of the operand. */
static void check_operand(struct translator *t, const ZydisDecodedOperand *o)
{
    struct access access = {
        .size = o->size / 8,
        .write = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE,
    };

    access_linear(t, o, access);
    access_check(t, access);
}

/* Index register `index` = old + TEMP0, as many bits as an address has. */
static void move_index(struct translator *t, enum host_register index, enum host_register old)
{
    struct emitter *e = &t->e;
    struct host_memory sum = {.base = old, .index = TEMP0, .scale = 1};

    switch (t->d->z.address_width) {
    case 64:
        emit_lea(e, index, sum);
        break;
    case 32:
        emit_lea32(e, index, sum);
        break;
    default:
        emit_mov(e, index, old);
        emit_lea32(e, old, sum);
        emit_byte(e, 0x66);
        emit_mov32(e, index, old);
        break;
    }
}

static void emit_host_instruction(struct translator *t)
{
    if (t->d->z.operand_width == 16)
        emit_byte(&t->e, 0x66);
    if (t->d->z.operand_width == 64)
        emit_byte(&t->e, 0x48); /* REX.W */
    emit_byte(&t->e, t->d->z.opcode);
}

/* TEMP0 = how far `index` has moved from it. */
static void find_step(struct translator *t, enum host_register index)
{
    emit_not(&t->e, TEMP0);
    emit_lea(&t->e, TEMP0,
             (struct host_memory){.base = index, .index = TEMP0, .scale = 1, .disp = 1});
}

void string_emit(struct translator *t)
{
    struct emitter *e = &t->e;
    const ZydisDecodedOperand *from = operand_at(t->d, X86_RSI), *to = operand_at(t->d, X86_RDI);
    enum host_register index = to ? HOST_RDI : HOST_RSI;
    bool both = from && to;

    if (both) {
        check_operand(t, from);
        emit_store(e, VCPU_FIELD(scratch[2]), TEMP0);
    }
    check_operand(t, to ? to : from);
    spill_forget(t);
    if (both) {
        emit_store(e, VCPU_FIELD(scratch[3]), HOST_RSI);
        emit_load(e, HOST_RSI, VCPU_FIELD(scratch[2]));
    }
    emit_mov(e, TEMP2, index);
    emit_mov(e, index, TEMP0);
    emit_host_instruction(t);
    find_step(t, index);
    move_index(t, index, TEMP2);
    if (both) {
        emit_load(e, TEMP1, VCPU_FIELD(scratch[3]));
        move_index(t, HOST_RSI, TEMP1);
    }
}
