/*
 * push, pop and leave on a flat stack as wide as the code (64-bit code, or 32-bit code with flat
 * segments); decode.c sends the other combinations to C. The stack pointer moves only after the
 * access, so that a fault leaves the instruction undone.
 */
#include "engine/dbt/translator.h"

#define HOST_SP HOST_RSP
#define HOST_BP HOST_R13

static unsigned natural_size(const struct translator *t)
{
    return is_code64(t) ? 8 : 4;
}

void stack_address(struct translator *t, enum host_register base, int32_t disp)
{
    if (is_code64(t))
        emit_lea(&t->e, TEMP0, host_at(base, disp));
    else
        emit_lea32(&t->e, TEMP0, host_at(base, disp));
}

void stack_adjust(struct translator *t, int32_t by)
{
    if (is_code64(t))
        emit_lea(&t->e, HOST_SP, host_at(HOST_SP, by));
    else
        emit_lea32(&t->e, HOST_SP, host_at(HOST_SP, by));
}

static void store_sized(struct translator *t, unsigned size, struct host_memory at,
                        enum host_register from)
{
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
    unsigned size = natural_size(t);
    struct host_memory at;

    if (!access_linear(t, t->d->memory)) {
        translator_emit_exit(t, translator_record(t, EXIT_SLOW, t->d->offset));
        return;
    }
    access_check(t, (struct access){.size = size});
    if (size == 8)
        emit_load(&t->e, TEMP1, host_at(TEMP0, 0));
    else
        emit_load32(&t->e, TEMP1, host_at(TEMP0, 0));
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
    unsigned size = natural_size(t);
    struct host_memory at = push_place(t, size);

    emit_mov(e, TEMP2, HOST_SP);
    t->cached = HOST_NONE;
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
    unsigned size = t->d->z.operand_width == 16 ? 2 : natural_size(t);
    struct host_memory at;

    if (t->d->memory) {
        push_memory(t);
        return;
    }

    at = push_place(t, size);
    if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        emit_mov_u64(&t->e, TEMP1, o->imm.value.u);
        store_sized(t, size, at, TEMP1);
    } else {
        unsigned guest = decode_gpr_number(o->reg.value);
        enum host_register host = regmap_host(guest);

        if (host == HOST_NONE) {
            host = TEMP1;
            access_load_guest(t, TEMP1, guest);
        }
        store_sized(t, size, at, host);
    }
    stack_adjust(t, -(int32_t)size);
}

void stack_emit_pop(struct translator *t)
{
    unsigned guest = decode_gpr_number(t->d->operand[0].reg.value);
    unsigned size = natural_size(t);
    enum host_register host = regmap_host(guest);
    struct host_memory at = access_stack(t, 0, (struct access){.size = size});

    if (host == HOST_NONE) {
        emit_load(&t->e, TEMP1, at);
        access_store_guest(t, guest, TEMP1);
    } else if (size == 8) {
        emit_load(&t->e, host, at);
    } else {
        emit_load32(&t->e, host, at);
    }
    if (guest != X86_RSP) /* pop rsp: the popped value stays */
        stack_adjust(t, (int32_t)size);
}

void stack_emit_leave(struct translator *t)
{
    unsigned size = natural_size(t);

    stack_address(t, HOST_BP, 0);
    access_check(t, (struct access){.size = size});
    if (size == 8) {
        emit_lea(&t->e, HOST_SP, host_at(HOST_BP, 8));
        emit_load(&t->e, HOST_BP, host_at(TEMP0, 0));
    } else {
        emit_lea32(&t->e, HOST_SP, host_at(HOST_BP, 4));
        emit_load32(&t->e, HOST_BP, host_at(TEMP0, 0));
    }
}
