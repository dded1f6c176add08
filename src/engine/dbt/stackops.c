/*
 * push, pop, leave, pusha and popa. The stack pointer moves only after the access, so that a fault
 * leaves the instruction undone. Outside 64-bit mode the stack lies in SS, its pointer has 16 or 32
 * bits whatever the operand has, and wraps there.
 */
#include "engine/dbt/translator.h"

#define HOST_SP HOST_RSP
#define HOST_BP HOST_R13

static unsigned operand_size(const struct translator *t)
{
    return t->d->z.operand_width / 8;
}

/* The stack pointer has 16 bits. */
static bool is_stack16(const struct translator *t)
{
    return !(t->mode & (DBT_MODE_CODE64 | DBT_MODE_STACK32));
}

void stack_locate(struct translator *t, unsigned guest, int32_t disp, struct access access)
{
    if (is_code64(t)) {
        emit_lea(&t->e, TEMP0, host_at(regmap_host(guest), disp));
    } else {
        emit_lea32(&t->e, TEMP0, host_at(regmap_host(guest), disp));
        if (is_stack16(t))
            emit_op_register(&t->e, false, 0x0fb7, TEMP0, TEMP0); /* movzx TEMP0d, TEMP0w */
        segmented_linear(t, X86_SS, is_stack16(t) ? 16 : 32, access);
    }
    access_check(t, access);
}

/* The stack pointer = a host register + disp, as far as it reaches. */
static void set_pointer(struct translator *t, enum host_register base, int32_t disp)
{
    if (is_code64(t)) {
        emit_lea(&t->e, HOST_SP, host_at(base, disp));
    } else if (is_stack16(t)) {
        emit_lea32(&t->e, TEMP1, host_at(base, disp));
        emit_byte(&t->e, 0x66);
        emit_mov32(&t->e, HOST_SP, TEMP1);
    } else {
        emit_lea32(&t->e, HOST_SP, host_at(base, disp));
    }
}

void stack_adjust(struct translator *t, int32_t by)
{
    set_pointer(t, HOST_SP, by);
}

/* 16 bits leave the rest of the register alone. */
static void load_sized(struct translator *t, unsigned size, enum host_register to,
                       struct host_memory at)
{
    if (size == 8) {
        emit_load(&t->e, to, at);
        return;
    }
    if (size == 2)
        emit_byte(&t->e, 0x66);
    emit_load32(&t->e, to, at);
}

/* A pinned access faults on the host where the stack pointer is not canonical: see DBT_PIN_NONE. */
static void store_sized(struct translator *t, unsigned size, struct host_memory at,
                        enum host_register from)
{
    t->at_risk = spill_unsaved(t);
    if (size == 8)
        emit_store(&t->e, at, from);
    else if (size == 4)
        emit_store32(&t->e, at, from);
    else
        emit_store16(&t->e, at, from);
}

/* The place of a push, checked. */
static struct host_memory push_place(struct translator *t, unsigned size)
{
    return access_stack(t, -(int32_t)size, (struct access){.size = size, .write = true});
}

/* push of a memory operand: both places are checked before anything changes. */
static void push_memory(struct translator *t)
{
    unsigned size = operand_size(t);
    struct host_memory at;

    access_linear(t, t->d->memory, (struct access){.size = size});
    access_check(t, (struct access){.size = size});
    load_sized(t, size, TEMP1, host_at(TEMP0, 0));
    if (!t->pinned)
        emit_store(&t->e, VCPU_FIELD(scratch[2]), TEMP1);
    at = push_place(t, size);
    if (!t->pinned)
        emit_load(&t->e, TEMP1, VCPU_FIELD(scratch[2]));
    store_sized(t, size, at, TEMP1);
    stack_adjust(t, -(int32_t)size);
}

/* pushf: arithmetic flags from the host's, the rest from the vCPU; "and" and "or" without touching
 * flags are pext with pdep, and lea. */
void stack_emit_pushf(struct translator *t)
{
    struct emitter *e = &t->e;
    unsigned size = operand_size(t);
    struct host_memory at = push_place(t, size);

    emit_mov(e, TEMP2, HOST_SP);
    emit_load(e, HOST_RSP, VCPU_FIELD(host_stack));
    emit_byte(e, 0x9c); /* pushfq */
    emit_pop(e, TEMP1);
    emit_mov(e, HOST_SP, TEMP2);
    emit_pext_memory(e, TEMP1, TEMP1, VCPU_FIELD(arith_mask));
    emit_pdep_memory(e, TEMP1, TEMP1, VCPU_FIELD(arith_mask));
    emit_load(e, TEMP2, VCPU_FIELD(flags_sys));
    emit_lea(e, TEMP1, (struct host_memory){.base = TEMP1, .index = TEMP2, .scale = 1, .disp = 2});
    emit_op_memory(e, false, 0x0fb6, TEMP2, VCPU_FIELD(iflag)); /* movzx */
    emit_rorx(e, TEMP2, TEMP2, 64 - 9);
    emit_lea(e, TEMP1, (struct host_memory){.base = TEMP1, .index = TEMP2, .scale = 1});
    store_sized(t, size, at, TEMP1);
    stack_adjust(t, -(int32_t)size);
}

void stack_emit_push(struct translator *t)
{
    const ZydisDecodedOperand *o = &t->d->operand[0];
    unsigned size = operand_size(t);
    struct host_memory at;

    if (t->d->memory) {
        push_memory(t);
        return;
    }

    at = push_place(t, size);
    if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        emit_mov_u64(&t->e, TEMP1, o->imm.value.u);
        store_sized(t, size, at, TEMP1);
    } else if (ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_SEGMENT) {
        unsigned segment = (unsigned)ZydisRegisterGetId(o->reg.value);

        emit_op_memory(&t->e, false, 0x0fb7, TEMP1, VCPU_FIELD(segment[segment].selector));
        store_sized(t, size, at, TEMP1); /* zero extended */
    } else {
        unsigned guest = decode_gpr_number(o->reg.value);
        enum host_register host = regmap_host(guest);

        if (host == HOST_NONE)
            host = spill_source(t, guest, TEMP1);
        store_sized(t, size, at, host);
    }
    stack_adjust(t, -(int32_t)size);
}

void stack_emit_pop(struct translator *t)
{
    unsigned guest = decode_gpr_number(t->d->operand[0].reg.value);
    unsigned size = operand_size(t);
    enum host_register host = regmap_host(guest);
    struct host_memory at = access_stack(t, 0, (struct access){.size = size});

    t->at_risk = spill_unsaved(t);
    if (host == HOST_NONE) {
        emit_load(&t->e, TEMP1, at);
        access_store_guest(t, guest, TEMP1);
    } else {
        load_sized(t, size, host, at);
    }
    if (guest != X86_RSP) /* pop rsp: the popped value stays */
        stack_adjust(t, (int32_t)size);
}

void stack_emit_leave(struct translator *t)
{
    unsigned size = operand_size(t);

    stack_locate(t, X86_RBP, 0, (struct access){.size = size});
    set_pointer(t, HOST_BP, (int32_t)size);
    load_sized(t, size, HOST_BP, host_at(TEMP0, 0));
}

/* pusha and popa make one access: where that crosses a page or an end, C does them. */
void stack_emit_pusha(struct translator *t)
{
    int32_t size = (int32_t)operand_size(t);

    /* A fault is that of the first push, at the upper end. */
    stack_locate(t, X86_RSP, -8 * size,
                 (struct access){.size = 8u * (unsigned)size, .write = true, .slow_faults = true});
    for (unsigned guest = X86_RAX; guest <= X86_RDI; guest++)
        store_sized(t, operand_size(t), host_at(TEMP0, (int32_t)(X86_RDI - guest) * size),
                    regmap_host(guest));
    stack_adjust(t, -8 * size);
}

void stack_emit_popa(struct translator *t)
{
    int32_t size = (int32_t)operand_size(t);

    stack_locate(t, X86_RSP, 0, (struct access){.size = 8u * (unsigned)size});
    for (unsigned guest = X86_RAX; guest <= X86_RDI; guest++)
        if (guest != X86_RSP)
            load_sized(t, operand_size(t), regmap_host(guest),
                       host_at(TEMP0, (int32_t)(X86_RDI - guest) * size));
    stack_adjust(t, 8 * size);
}
