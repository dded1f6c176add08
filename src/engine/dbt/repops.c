/*
 * REP MOVS and REP STOS as themselves, in 64-bit code without segment overrides. Intel SDM volume
 * 2, REP. Called from translate.c.
 *
 * The host's instruction runs on host addresses once it is known that DF is clear and that all
 * elements lie in one page that the TLB has, or in one for the source and one for the destination:
 *
 *     rdi += TEMP0;  rsi += TEMP2         host minus linear address of each page
 *     rep movs
 *     rdi -= TEMP0;  rsi -= TEMP2
 *
 * The checks use the flags, which are put aside where they are live. Everything else is an exit to
 * string.c, which does the whole instruction and comes back behind it. So a TLB miss is not filled
 * from here: string.c tells a watched page what is written to it.
 */
#include "engine/dbt/translator.h"
#include "x86/arch.h"

/* The host's opcodes for op r/m64, r64. */
#define OP_ADD 0x01
#define OP_SUB 0x29

static void exit_if(struct translator *t, unsigned condition, struct exit_record *record)
{
    translator_tail_exit(t, emit_jcc32(&t->e, condition), record);
    t->tail[t->tail_count - 1].flags_live = t->flags_live;
}

/* TEMP1 = the flags, which are to be had by way of a stack: the host's. */
static void take_flags(struct emitter *e)
{
    emit_mov(e, TEMP2, HOST_RSP);
    emit_load(e, HOST_RSP, VCPU_FIELD(host_stack));
    emit_byte(e, 0x9c); /* pushfq */
    emit_pop(e, TEMP1);
    emit_mov(e, HOST_RSP, TEMP2);
}

void rep_emit_flags(struct translator *t)
{
    struct emitter *e = &t->e;

    emit_mov(e, TEMP1, HOST_RSP);
    emit_load(e, HOST_RSP, VCPU_FIELD(host_stack));
    emit_push_memory(e, VCPU_FIELD(scratch[3]));
    emit_byte(e, 0x9d); /* popfq */
    emit_mov(e, HOST_RSP, TEMP1);
}

/*
 * `addend` = host minus linear address of the page that `pointer` points into, from where all
 * elements lie in it; else exits. Clobbers TEMP1 and TEMP2, of which `addend` may be the latter.
 */
static void check_page(struct translator *t, enum host_register addend, enum host_register pointer,
                       unsigned size, bool write, struct exit_record *record)
{
    struct emitter *e = &t->e;
    struct host_memory neg =
        access_tlb_field(access_bank(t), write ? offsetof(struct dbt_tlb_entry, neg_write)
                                               : offsetof(struct dbt_tlb_entry, neg_read));
    struct host_memory end = {.base = TEMP2, .index = HOST_RCX, .scale = (uint8_t)size};

    emit_rorx(e, TEMP1, pointer, GUEST_PAGE_SHIFT - DBT_TLB_ENTRY_SHIFT);
    emit_and32_imm(e, TEMP1, (DBT_TLB_SIZE - 1) << DBT_TLB_ENTRY_SHIFT);
    emit_load(e, TEMP2, neg);
    emit_lea(e, TEMP2, end);
    emit_op_register(e, true, OP_ADD, pointer, TEMP2); /* the end's offset in the page */
    emit_cmp_imm(e, TEMP2, (int32_t)GUEST_PAGE_SIZE);
    exit_if(t, 7, record); /* ja */
    emit_load(e, addend, neg);
    emit_add_memory(e, addend,
                    access_tlb_field(access_bank(t), offsetof(struct dbt_tlb_entry, host)));
}

static void emit_host_instruction(struct emitter *e, unsigned size, uint8_t opcode)
{
    if (size == 2)
        emit_byte(e, 0x66);
    emit_byte(e, 0xf3);
    if (size == 8)
        emit_byte(e, 0x48); /* REX.W */
    emit_byte(e, opcode);
}

void rep_emit(struct translator *t, const struct insn *insn, struct exit_record *record)
{
    struct emitter *e = &t->e;
    bool movs = (insn->opcode & 0xfe) == 0xa4;
    unsigned size = insn->opcode & 1 ? insn->operand_width / 8 : 1;
    uint8_t *none;

    if (t->step || (movs && (insn->memory.segment == X86_FS || insn->memory.segment == X86_GS))) {
        translator_emit_exit(t, record);
        return;
    }
    take_flags(e);
    if (t->flags_live)
        emit_store(e, VCPU_FIELD(scratch[3]), TEMP1);
    emit_and32_imm(e, TEMP1, X86_FLAG_DF);
    exit_if(t, 5, record);                               /* jne */
    emit_op_register(e, true, 0x85, HOST_RCX, HOST_RCX); /* test */
    none = emit_jcc32(e, 4);                             /* je */
    emit_cmp_imm(e, HOST_RCX, (int32_t)(GUEST_PAGE_SIZE / size));
    exit_if(t, 7, record); /* ja */
    check_page(t, TEMP0, HOST_RDI, size, true, record);
    if (movs) {
        check_page(t, TEMP2, HOST_RSI, size, false, record);
        emit_op_register(e, true, OP_ADD, TEMP2, HOST_RSI);
    }
    emit_op_register(e, true, OP_ADD, TEMP0, HOST_RDI);
    emit_host_instruction(e, size, insn->opcode);
    emit_op_register(e, true, OP_SUB, TEMP0, HOST_RDI);
    if (movs)
        emit_op_register(e, true, OP_SUB, TEMP2, HOST_RSI);
    if (!e->overflow)
        emit_link(none, e->at);
    if (t->flags_live)
        rep_emit_flags(t);
}
