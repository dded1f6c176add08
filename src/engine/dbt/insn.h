/*
 * One decoded guest instruction, in the form that the translator keeps beside a block for the
 * instructions that C executes (system.c and its siblings). Filled from Zydis by decode.c.
 */
#ifndef SILL_ENGINE_DBT_INSN_H
#define SILL_ENGINE_DBT_INSN_H

#include <Zydis/Zydis.h>

#include "engine/dbt/vcpu.h"

#define INSN_NO_REGISTER 0xff

struct insn_memory {
    uint8_t segment; /* enum x86_segment_register, overrides applied */
    uint8_t base;    /* enum x86_gpr, INSN_NO_REGISTER, or INSN_RIP */
    uint8_t index;   /* enum x86_gpr or INSN_NO_REGISTER */
    uint8_t scale;   /* 1, 2, 4, 8 */
    int64_t displacement;
};
#define INSN_RIP 0xfe

struct insn {
    uint16_t mnemonic;     /* ZydisMnemonic */
    uint8_t length;        /* bytes */
    uint8_t operand_width; /* 16, 32 or 64: the effective operand size (8 for byte forms) */
    uint8_t address_width; /* 16, 32 or 64 */
    uint8_t opcode;        /* last opcode byte */
    uint8_t opcode_map;    /* ZydisOpcodeMap */
    bool rep, repne, lock; /* F3 / F2 / F0 prefix bytes that take effect */
    bool has_modrm;
    uint8_t mod, reg, rm; /* ModRM fields with REX.R and REX.B applied: register numbers */
    bool has_memory;      /* `memory` is the explicit memory operand */
    struct insn_memory memory;
    uint64_t imm;  /* first immediate, sign or zero extended as the instruction defines; for near
                      branches the signed displacement; for far pointers the offset */
    uint64_t imm2; /* ENTER's level, the far pointer's selector */
    uint8_t bytes[15];
};

/* Executes one instruction that the translator does not emit natively. v->rip is its address; on
 * DBT_NEXT and DBT_JUMP rip has been moved on. Instructions it does not know raise #UD. (system.c
 * dispatches to the files that hold the semantics.) */
enum dbt_result insn_execute(struct dbt_vcpu *v, const struct insn *insn);

/* Whether insn_execute() may be followed inline (it returns DBT_NEXT in the normal case) or always
 * ends a block (control transfers, mode changes). */
bool insn_ends_block(const struct insn *insn);

/* Delivers v->exception (an exception or a software interrupt fault), through the IDT, with the
 * rules for double and triple fault; sets v->shutdown on a triple fault. rip is the faulting (or,
 * for traps, the next) instruction. */
void interrupt_deliver_exception(struct dbt_vcpu *v);
/* Delivers an external interrupt or NMI at an instruction boundary. */
void interrupt_deliver_external(struct dbt_vcpu *v, uint8_t vector);

#endif
