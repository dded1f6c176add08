/*
 * Far JMP, CALL and RET of 16 bits in real and virtual-8086 mode, where CS becomes a selector and a
 * base of 16 times that. C does those that are refused, and those that change the mode of the code:
 * where a code segment lies in its pages (DBT_MODE_RAGGED_CODE) shows in the selector's low byte,
 * and must stay as it is. Intel SDM volume 2, JMP, CALL, RET; volume 3, 21.1.1.
 */
#include "engine/dbt/translator.h"

/* TEMP0 and scratch[2] = the target: selector * 65536 + offset. */
static void load_pointer(struct translator *t)
{
    const ZydisDecodedOperand *o = &t->d->operand[0];
    struct access access = {.size = 4};

    if (o->type == ZYDIS_OPERAND_TYPE_POINTER) {
        emit_mov_u32(&t->e, TEMP0, (uint32_t)o->ptr.segment << 16 | (o->ptr.offset & 0xffff));
    } else {
        if (t->d->memory) {
            access_linear(t, t->d->memory, access);
            access_check(t, access);
        } else {
            stack_locate(t, X86_RSP, 0, access);
        }
        emit_load32(&t->e, TEMP0, host_at(TEMP0, 0));
    }
    emit_store32(&t->e, VCPU_FIELD(scratch[2]), TEMP0);
}

/* On to C unless the code segment of the pointer in TEMP0 begins inside a page if this one
 * does, and not if not. */
static void check_raggedness(struct translator *t, struct exit_record *in_c)
{
    struct emitter *e = &t->e;
    uint8_t *same = NULL;

    emit_mov(e, TEMP2, HOST_RCX);
    emit_rorx(e, HOST_RCX, TEMP0, 16);
    emit_op_register(e, false, 0x0fb6, HOST_RCX, HOST_RCX); /* movzx ecx, cl */
    if (t->mode & DBT_MODE_RAGGED_CODE) {
        emit_jrcxz(e, 5);
        same = emit_jmp32(e);
    } else {
        emit_jrcxz(e, 3 + 5);
    }
    emit_mov(e, HOST_RCX, TEMP2); /* 3 bytes */
    translator_tail_exit(t, emit_jmp32(e), in_c);
    if (same && !e->overflow)
        emit_link(same, e->at);
    emit_mov(e, HOST_RCX, TEMP2);
}

static void push_return(struct translator *t)
{
    stack_locate(t, X86_RSP, -4, (struct access){.size = 4, .write = true});
    emit_load32(&t->e, TEMP1, VCPU_FIELD(segment[X86_CS].selector));
    emit_store16(&t->e, host_at(TEMP0, 2), TEMP1);
    segmented_load_rip(t, TEMP1, t->d->offset + t->d->z.length);
    emit_store16(&t->e, host_at(TEMP0, 0), TEMP1);
    stack_adjust(t, -4);
}

/* CS = the selector in scratch[2], TEMP0 = the linear address there. */
static void enter_segment(struct translator *t)
{
    struct emitter *e = &t->e;

    emit_load32(e, TEMP0, VCPU_FIELD(scratch[2]));
    emit_rorx(e, TEMP1, TEMP0, 16);
    emit_op_register(e, false, 0x0fb7, TEMP1, TEMP1); /* movzx TEMP1d, TEMP1w */
    emit_store16(e, VCPU_FIELD(segment[X86_CS].selector), TEMP1);
    emit_rorx(e, TEMP1, TEMP1, 64 - 4);
    emit_store(e, VCPU_FIELD(segment[X86_CS].base), TEMP1);
    emit_op_register(e, false, 0x0fb7, TEMP0, TEMP0); /* movzx TEMP0d, TEMP0w */
    emit_lea32(e, TEMP0, (struct host_memory){.base = TEMP0, .index = TEMP1, .scale = 1});
    emit_not(e, TEMP1);
    emit_lea32(e, TEMP1, host_at(TEMP1, 1));
    emit_store32(e, VCPU_FIELD(ends.neg_code_base), TEMP1);
}

void segmented_emit_far(struct translator *t, struct exit_record *in_c)
{
    segment_check_load(t, X86_CS);
    load_pointer(t);
    check_raggedness(t, in_c);
    emit_op_register(&t->e, false, 0x0fb7, TEMP0, TEMP0); /* movzx TEMP0d, TEMP0w */
    segmented_check_target(t, 16, t->flags_live, in_c);
    if (t->d->z.mnemonic == ZYDIS_MNEMONIC_CALL)
        push_return(t);
    else if (t->d->z.mnemonic == ZYDIS_MNEMONIC_RET)
        stack_adjust(t, 4 + (int32_t)(t->d->z.raw.imm[0].value.u & 0xffff));
    enter_segment(t);
    transfer_emit_dispatch(t);
}
