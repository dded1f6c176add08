/*
 * Near control transfers where the code is not 64-bit, nor flat 32-bit code on a flat 32-bit stack:
 * targets of 16 bits wrap at 64 KiB, and every target must lie within the limit of CS, else slow.c
 * raises #GP before anything has changed. Intel SDM volume 2, CALL, JMP, RET, Jcc, LOOP.
 *
 * Within the page a jump is linked to its target, as in transfer.c, since the page lies in the
 * segment as a whole. Where it does not (DBT_MODE_RAGGED_CODE: base or limit in the middle of a
 * page) every jump computes its target anew, and each block checks at its start that it ends within
 * the limit (segmented_check_block()).
 */
#include "engine/dbt/translator.h"

bool segmented_wraps(const struct translator *t, const struct decoded *d)
{
    if (is_code64(t))
        return false;
    /* Code of 16 bits is ragged where it may lie beyond 64 KiB. */
    return (t->mode & DBT_MODE_RAGGED_CODE) ||
           (d->z.operand_width == 16 && (t->mode & DBT_MODE_CODE32));
}

static bool in_page(int32_t offset)
{
    return offset >= 0 && offset < (int32_t)GUEST_PAGE_SIZE;
}

/* The jump to page offset `target` leads there always. */
static bool is_fixed(const struct translator *t, int32_t target)
{
    return in_page(target) && !segmented_wraps(t, t->d);
}

static unsigned operand_size(const struct translator *t)
{
    return t->d->z.operand_width / 8;
}

static struct exit_record *slow_record(struct translator *t)
{
    return translator_record(t, EXIT_SLOW, t->d->offset);
}

static int32_t next_offset(const struct translator *t)
{
    return t->d->offset + t->d->z.length;
}

static int32_t relative_target(const struct translator *t)
{
    return next_offset(t) + (int32_t)t->d->z.raw.imm[0].value.s;
}

static void truncate_target(struct translator *t)
{
    if (operand_size(t) == 2)
        emit_op_register(&t->e, false, 0x0fb7, TEMP0, TEMP0); /* movzx TEMP0d, TEMP0w */
    else
        emit_mov32(&t->e, TEMP0, TEMP0);
}

/* TEMP0 = the linear address where a jump by the instruction to page offset `target` leads. */
static void load_target(struct translator *t, int32_t target)
{
    segmented_load_rip(t, TEMP0, target);
    truncate_target(t);
    segmented_code_linear(t, t->d->z.operand_width, t->flags_live, slow_record(t));
}

static void emit_jump(struct translator *t, int32_t target)
{
    if (is_fixed(t, target)) {
        transfer_emit_edge(t, target);
        return;
    }
    load_target(t, target);
    transfer_emit_dispatch(t);
}

void segmented_emit_next(struct translator *t, int32_t target)
{
    if (in_page(target) && !(t->mode & DBT_MODE_RAGGED_CODE)) {
        transfer_emit_edge(t, target);
        return;
    }
    segmented_load_rip(t, TEMP0, target);
    segmented_code_linear(t, 32, true, translator_record(t, EXIT_AT, target));
    transfer_emit_dispatch(t);
}

static void emit_jcc(struct translator *t)
{
    uint8_t *site;

    emit_align(&t->e, 2, 4);
    site = emit_jcc32(&t->e, t->d->z.opcode & 15);
    segmented_emit_next(t, next_offset(t));
    if (is_fixed(t, relative_target(t))) {
        transfer_link_site(t, site, relative_target(t));
        return;
    }
    if (!t->e.overflow)
        emit_link(site, t->e.at);
    emit_jump(t, relative_target(t));
}

/* One way on from jcxz, jecxz or loop, with the guest's rcx as it was before in TEMP2. A loop whose
 * target is refused leaves the count as it was. */
static void counter_edge(struct translator *t, bool loop, bool taken)
{
    struct emitter *e = &t->e;

    emit_mov(e, HOST_RCX, TEMP2);
    if (loop) {
        if (taken && !is_fixed(t, relative_target(t)))
            load_target(t, relative_target(t)); /* for its check */
        emit_lea32(e, TEMP1, host_at(HOST_RCX, -1));
        if (t->d->z.address_width == 16)
            emit_byte(e, 0x66);
        emit_mov32(e, HOST_RCX, TEMP1);
    }
    if (taken)
        emit_jump(t, relative_target(t));
    else
        segmented_emit_next(t, next_offset(t));
}

/* The count is tested without touching flags. */
static void emit_counter_branch(struct translator *t, bool loop)
{
    struct emitter *e = &t->e;
    uint8_t *nonzero;

    emit_mov(e, TEMP2, HOST_RCX);
    if (loop)
        emit_lea32(e, HOST_RCX, host_at(HOST_RCX, -1));
    if (t->d->z.address_width == 16)
        emit_op_register(e, false, 0x0fb7, HOST_RCX, HOST_RCX); /* movzx ecx, cx */
    else
        emit_mov32(e, HOST_RCX, HOST_RCX);
    emit_jrcxz(e, 5);
    nonzero = emit_jmp32(e);
    counter_edge(t, loop, !loop);
    if (!e->overflow)
        emit_link(nonzero, e->at);
    counter_edge(t, loop, loop);
}

/* Stores the return address; the stack pointer has yet to move. */
static void push_return(struct translator *t)
{
    unsigned size = operand_size(t);

    stack_locate(t, X86_RSP, -(int32_t)size, (struct access){.size = size, .write = true});
    segmented_load_rip(t, TEMP1, next_offset(t));
    if (size == 2)
        emit_store16(&t->e, host_at(TEMP0, 0), TEMP1);
    else
        emit_store32(&t->e, host_at(TEMP0, 0), TEMP1);
}

static void emit_call(struct translator *t)
{
    bool fixed = is_fixed(t, relative_target(t));

    if (!fixed) {
        load_target(t, relative_target(t));
        emit_store(&t->e, VCPU_FIELD(scratch[2]), TEMP0);
    }
    push_return(t);
    stack_adjust(t, -(int32_t)operand_size(t));
    if (fixed) {
        transfer_emit_edge(t, relative_target(t));
        return;
    }
    emit_load(&t->e, TEMP0, VCPU_FIELD(scratch[2]));
    transfer_emit_dispatch(t);
}

static void load_word(struct translator *t)
{
    if (operand_size(t) == 2)
        emit_op_memory(&t->e, false, 0x0fb7, TEMP0, host_at(TEMP0, 0)); /* movzx */
    else
        emit_load32(&t->e, TEMP0, host_at(TEMP0, 0));
}

static void emit_indirect(struct translator *t, bool call)
{
    if (t->d->memory) {
        struct access access = {.size = operand_size(t)};

        access_linear(t, t->d->memory, access);
        access_check(t, access);
        load_word(t);
    } else {
        access_load_guest(t, TEMP0, decode_gpr_number(t->d->operand[0].reg.value));
        truncate_target(t);
    }
    segmented_code_linear(t, t->d->z.operand_width, t->flags_live, slow_record(t));
    if (call) {
        emit_store(&t->e, VCPU_FIELD(scratch[2]), TEMP0);
        push_return(t);
        stack_adjust(t, -(int32_t)operand_size(t));
        emit_load(&t->e, TEMP0, VCPU_FIELD(scratch[2]));
    }
    transfer_emit_dispatch(t);
}

static void emit_return(struct translator *t)
{
    struct access access = {.size = operand_size(t)};

    stack_locate(t, X86_RSP, 0, access);
    load_word(t);
    segmented_code_linear(t, t->d->z.operand_width, t->flags_live, slow_record(t));
    stack_adjust(t, (int32_t)(operand_size(t) + (t->d->z.raw.imm[0].value.u & 0xffff)));
    transfer_emit_dispatch(t);
}

void segmented_emit_transfer(struct translator *t)
{
    switch (t->d->class) {
    case INSN_JMP:
        emit_jump(t, relative_target(t));
        break;
    case INSN_JCC:
        emit_jcc(t);
        break;
    case INSN_JRCXZ:
        emit_counter_branch(t, false);
        break;
    case INSN_LOOP:
        emit_counter_branch(t, true);
        break;
    case INSN_CALL:
        emit_call(t);
        break;
    case INSN_CALL_INDIRECT:
        emit_indirect(t, true);
        break;
    case INSN_JMP_INDIRECT:
        emit_indirect(t, false);
        break;
    default:
        emit_return(t);
        break;
    }
}
