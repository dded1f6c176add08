/*
 * MOV to and from segment registers, and POP to them, where that needs no descriptor: reading a
 * selector, and loading ES, DS, FS and GS in real and virtual-8086 mode, where the base is the
 * selector times 16 and all else stays. What else would change (a segment left over from protected
 * mode may have another type) is left to slow.c. Intel SDM volume 2, MOV, POP; volume 3, 21.1.1.
 */
#include "engine/dbt/translator.h"

static unsigned segment_number(const ZydisDecodedOperand *o)
{
    return (unsigned)ZydisRegisterGetId(o->reg.value);
}

void segment_emit_store(struct translator *t)
{
    struct emitter *e = &t->e;
    unsigned segment = segment_number(&t->d->operand[1]), guest;

    if (t->d->memory) {
        struct access access = {.size = 2, .write = true};

        access_linear(t, t->d->memory, access);
        access_check(t, access);
        emit_load32(e, TEMP1, VCPU_FIELD(segment[segment].selector));
        emit_store16(e, host_at(TEMP0, 0), TEMP1);
        return;
    }
    guest = decode_gpr_number(t->d->operand[0].reg.value);
    emit_op_memory(e, false, 0x0fb7, TEMP0, VCPU_FIELD(segment[segment].selector)); /* movzx */
    if (t->d->z.operand_width != 16) {
        access_store_guest(t, guest, TEMP0);
    } else if (regmap_host(guest) != HOST_NONE) {
        emit_byte(e, 0x66);
        emit_mov32(e, regmap_host(guest), TEMP0);
    } else {
        spill_forget(t);
        emit_store16(e, VCPU_FIELD(gpr[guest]), TEMP0);
    }
}

void segment_check_load(struct translator *t, unsigned segment)
{
    struct emitter *e = &t->e;
    struct exit_record *slow = translator_record(t, EXIT_SLOW, t->d->offset);

    if (!t->flags_live) {
        emit_op_memory(e, false, 0x80, 7, VCPU_FIELD(ends.load_in_c[segment])); /* cmp byte, 0 */
        emit_byte(e, 0);
        translator_tail_exit(t, emit_jcc32(e, 5), slow); /* jne */
        return;
    }
    emit_mov(e, TEMP2, HOST_RCX);
    emit_op_memory(e, false, 0x0fb6, HOST_RCX, VCPU_FIELD(ends.load_in_c[segment])); /* movzx */
    emit_jrcxz(e, 3 + 5);
    emit_mov(e, HOST_RCX, TEMP2); /* 3 bytes */
    translator_tail_exit(t, emit_jmp32(e), slow);
    emit_mov(e, HOST_RCX, TEMP2);
}

void segment_emit_load(struct translator *t)
{
    struct emitter *e = &t->e;
    unsigned segment = segment_number(&t->d->operand[0]);
    bool pop = t->d->z.mnemonic == ZYDIS_MNEMONIC_POP;

    segment_check_load(t, segment);
    if (pop) {
        stack_locate(t, X86_RSP, 0, (struct access){.size = t->d->z.operand_width / 8});
    } else if (t->d->memory) {
        access_linear(t, t->d->memory, (struct access){.size = 2});
        access_check(t, (struct access){.size = 2});
    }
    if (pop || t->d->memory)
        emit_op_memory(e, false, 0x0fb7, TEMP0, host_at(TEMP0, 0)); /* movzx */
    else
        emit_op_register(e, false, 0x0fb7, TEMP0,
                         regmap_host(decode_gpr_number(t->d->operand[1].reg.value)));
    if (pop)
        stack_adjust(t, t->d->z.operand_width / 8);
    emit_store16(e, VCPU_FIELD(segment[segment].selector), TEMP0);
    emit_rorx(e, TEMP0, TEMP0, 64 - 4);
    emit_store(e, VCPU_FIELD(segment[segment].base), TEMP0);
}
