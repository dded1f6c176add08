/*
 * SYSCALL and SYSRET between 64-bit user and supervisor code without leaving translated code. Intel
 * SDM volume 2, SYSCALL, SYSRET.
 *
 * What these do is known from the mode and the registers that set them up, so C does it once and
 * notes (dispatch.c) the outcome in a struct dbt_fast_call: from which mode to which, what CS and
 * SS become. The stubs here repeat that. dbt_forget_fast_calls() ends it when one of those
 * registers is written; whatever a stub does not find as noted goes on to C through the exit
 * record.
 */
#include "engine/dbt/translator.h"
#include "x86/arch.h"

/* The host's opcodes, and their extensions in the ModRM byte. */
#define OP_OR 0x0b  /* or r, r/m */
#define OP_AND 0x23 /* and r, r/m */
#define OP_CMP 0x3b /* cmp r, r/m */
#define OP_IMMEDIATE 0x81
#define IMMEDIATE_AND 4
#define IMMEDIATE_CMP 7
#define OP_SHIFT 0xc1
#define SHIFT_LEFT 4
#define SHIFT_RIGHT_SIGNED 7

/* RFLAGS bits that SYSRET loads, but for the arithmetic ones. */
#define SYSRET_FLAGS                                                                               \
    (X86_FLAG_TF | X86_FLAG_IF | X86_FLAG_IOPL | X86_FLAG_NT | X86_FLAG_AC | X86_FLAG_VIF |        \
     X86_FLAG_VIP | X86_FLAG_ID)

static struct host_memory call_field(bool ret, size_t field)
{
    struct host_memory m = VCPU_FIELD(fast_call[0]);

    m.disp += (int32_t)(ret * sizeof(struct dbt_fast_call) + field);
    return m;
}

static void emit_immediate(struct emitter *e, unsigned extension, enum host_register r,
                           uint32_t value)
{
    emit_op_register(e, false, OP_IMMEDIATE, extension, r);
    emit_u32(e, value);
}

static void emit_shift(struct emitter *e, unsigned extension, enum host_register r, uint8_t count)
{
    emit_op_register(e, true, OP_SHIFT, extension, r);
    emit_byte(e, count);
}

/* Pushes and pops go by the host's stack; the guest's rsp is in scratch[4] meanwhile. */
static void emit_stack_begin(struct emitter *e)
{
    emit_store(e, VCPU_FIELD(scratch[4]), HOST_RSP);
    emit_load(e, HOST_RSP, VCPU_FIELD(host_stack));
}

static void emit_stack_end(struct emitter *e)
{
    emit_load(e, HOST_RSP, VCPU_FIELD(scratch[4]));
}

/* Goes on to C unless this is the mode that the note is for. The flags are kept in scratch[3]. */
static uint8_t *emit_begin(struct emitter *e, bool ret)
{
    emit_stack_begin(e);
    emit_byte(e, 0x9c); /* pushfq */
    emit_pop_memory(e, VCPU_FIELD(scratch[3]));
    emit_stack_end(e);
    emit_load32(e, TEMP1, VCPU_FIELD(mode));
    emit_op_memory(e, false, OP_CMP, TEMP1, call_field(ret, offsetof(struct dbt_fast_call, from)));
    return emit_jcc32(e, 5); /* jne */
}

/* To C, with the flags as they were. */
static void emit_to_c(struct emitter *e, const struct dbt_vm *vm)
{
    emit_stack_begin(e);
    emit_push_memory(e, VCPU_FIELD(scratch[3]));
    emit_byte(e, 0x9d); /* popfq */
    emit_stack_end(e);
    emit_jmp_to(e, vm->cache.rw + vm->stub_exit);
}

static void emit_copy(struct emitter *e, struct host_memory to, struct host_memory from)
{
    for (unsigned i = 0; i < sizeof(struct x86_segment); i += 8) {
        emit_load(e, TEMP1, from);
        emit_store(e, to, TEMP1);
        from.disp += 8;
        to.disp += 8;
    }
}

/* CS, SS, the mode, and the pin of the other side. */
static void emit_switch(struct emitter *e, bool ret)
{
    emit_copy(e, VCPU_FIELD(segment[X86_CS]), call_field(ret, offsetof(struct dbt_fast_call, cs)));
    emit_copy(e, VCPU_FIELD(segment[X86_SS]), call_field(ret, offsetof(struct dbt_fast_call, ss)));
    emit_load32(e, TEMP1, call_field(ret, offsetof(struct dbt_fast_call, to)));
    emit_store32(e, VCPU_FIELD(mode), TEMP1);
    emit_load(e, TEMP1, VCPU_FIELD(pin_other));
    emit_store(e, VCPU_FIELD(pin_other), PIN);
    emit_store(e, VCPU_FIELD(pin_addend), TEMP1);
    emit_mov(e, PIN, TEMP1);
}

/* Goes on at TEMP0 in the new mode. */
static void emit_go(struct emitter *e, const struct dbt_vm *vm, bool ret)
{
    struct host_memory slot = call_field(ret, offsetof(struct dbt_fast_call, first_entry));
    uint8_t *missed = transfer_emit_look_up_in(e, 0, slot);

    emit_link(missed, e->at);
    emit_store32_imm(e, VCPU_FIELD(branch), 0);
    missed = transfer_emit_look_up_in(e, 1, slot);
    emit_link(missed, vm->cache.rw + vm->stub_miss);
}

/* TEMP0 = the next instruction's rip, TEMP2 = the record. */
static void emit_syscall(struct emitter *e, struct dbt_vm *vm)
{
    uint8_t *to_c;

    vm->stub_syscall = (uint32_t)(e->at - vm->cache.rw);
    to_c = emit_begin(e, false);
    emit_mov(e, HOST_RCX, TEMP0);
    emit_load(e, HOST_R11, VCPU_FIELD(scratch[3]));
    emit_op_memory(e, false, OP_AND, HOST_R11, VCPU_FIELD(arith_mask));
    emit_op_memory(e, true, OP_OR, HOST_R11, VCPU_FIELD(flags_sys));
    emit_immediate(e, IMMEDIATE_AND, HOST_R11, (uint32_t)~X86_FLAG_RF);
    emit_op_memory(e, false, 0x0fb6, TEMP1, VCPU_FIELD(iflag)); /* movzx */
    emit_shift(e, SHIFT_LEFT, TEMP1, 9);
    emit_lea(
        e, HOST_R11,
        (struct host_memory){.base = HOST_R11, .index = TEMP1, .scale = 1, .disp = X86_FLAG_FIXED});
    emit_load(e, TEMP1, VCPU_FIELD(flags_sys));
    emit_op_memory(e, true, OP_AND, TEMP1,
                   call_field(false, offsetof(struct dbt_fast_call, flags_kept)));
    emit_store(e, VCPU_FIELD(flags_sys), TEMP1);
    emit_store8_imm(e, VCPU_FIELD(iflag), 0);
    emit_switch(e, false);
    emit_load(e, TEMP0, VCPU_FIELD(msr.lstar));
    /* All flags off, as a noted mask has them: 3 - 1 has one bit, and no borrow. */
    emit_mov_u32(e, TEMP1, 3);
    emit_op_register(e, false, 0x83, 5, TEMP1); /* sub TEMP1, 1 */
    emit_byte(e, 1);
    emit_byte(e, 0xfc); /* cld */
    emit_go(e, vm, false);
    emit_link(to_c, e->at);
    emit_to_c(e, vm);
}

/* TEMP2 = the record. */
static void emit_sysret(struct emitter *e, struct dbt_vm *vm)
{
    uint8_t *to_c[4];

    vm->stub_sysret = (uint32_t)(e->at - vm->cache.rw);
    to_c[0] = emit_begin(e, true);
    /* An interrupt that waits for IF, other flags than usual, and #GP are for C. */
    emit_op_memory(e, false, 0x80, IMMEDIATE_CMP, VCPU_FIELD(interrupt_waiting));
    emit_byte(e, 0);
    to_c[1] = emit_jcc32(e, 5); /* jne */
    emit_mov32(e, TEMP1, HOST_R11);
    emit_immediate(e, IMMEDIATE_AND, TEMP1, (uint32_t)SYSRET_FLAGS);
    emit_immediate(e, IMMEDIATE_CMP, TEMP1, (uint32_t)X86_FLAG_IF);
    to_c[2] = emit_jcc32(e, 5);
    emit_mov(e, TEMP0, HOST_RCX);
    emit_shift(e, SHIFT_LEFT, TEMP0, 16);
    emit_shift(e, SHIFT_RIGHT_SIGNED, TEMP0, 16);
    emit_op_register(e, true, OP_CMP, TEMP0, HOST_RCX);
    to_c[3] = emit_jcc32(e, 5);

    emit_mov_u32(e, TEMP1, 0);
    emit_store(e, VCPU_FIELD(flags_sys), TEMP1);
    emit_store8_imm(e, VCPU_FIELD(iflag), 1);
    emit_switch(e, true);
    emit_mov32(e, TEMP1, HOST_R11);
    emit_op_memory(e, false, OP_AND, TEMP1, VCPU_FIELD(arith_mask));
    emit_stack_begin(e);
    emit_push(e, TEMP1);
    emit_byte(e, 0x9d); /* popfq */
    emit_stack_end(e);
    emit_go(e, vm, true);
    for (unsigned i = 0; i < ARRAY_SIZE(to_c); i++)
        emit_link(to_c[i], e->at);
    emit_to_c(e, vm);
}

void fastcall_emit_stubs(struct emitter *e, struct dbt_vm *vm)
{
    emit_syscall(e, vm);
    emit_sysret(e, vm);
}

void fastcall_emit(struct translator *t, const struct exit_record *record)
{
    const struct dbt_vm *vm = t->vm;
    bool ret = t->d->class == INSN_SYSRET;

    if (t->step) {
        translator_emit_exit(t, record);
        return;
    }
    if (!ret) {
        emit_load(&t->e, TEMP0, VCPU_FIELD(page_base));
        emit_lea(&t->e, TEMP0, host_at(TEMP0, t->d->offset + t->d->z.length));
    }
    emit_mov_u32(&t->e, TEMP2, (uint32_t)((const uint8_t *)record - vm->cache.meta));
    emit_jmp_to(&t->e, vm->cache.rw + (ret ? vm->stub_sysret : vm->stub_syscall));
}
