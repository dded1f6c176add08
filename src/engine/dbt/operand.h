/*
 * Operands of the instructions that C executes: general registers in their widths, the effective
 * address of the explicit memory operand, the r/m operand, and moving on to the next instruction.
 * Intel SDM volume 1, 3.7. vCPU thread, from insn_execute() down.
 */
#ifndef SILL_ENGINE_DBT_OPERAND_H
#define SILL_ENGINE_DBT_OPERAND_H

#include "engine/dbt/insn.h"
#include "x86/arch.h"

/* `width` is 8, 16, 32 or 64 bits. */
static inline uint64_t width_mask(unsigned width)
{
    return ~0ull >> (64 - width);
}

static inline bool is_canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

/* Reads the low bits of a register; 8 means the low byte (AH to BH are not reached this way). */
static inline uint64_t gpr_read(const struct dbt_vcpu *v, unsigned reg, unsigned width)
{
    return v->gpr[reg] & width_mask(width);
}

/* Writes as an instruction does: 32 bits clear the upper half, 8 and 16 leave the rest alone. */
static inline void gpr_write(struct dbt_vcpu *v, unsigned reg, unsigned width, uint64_t value)
{
    if (width == 64)
        v->gpr[reg] = value;
    else if (width == 32)
        v->gpr[reg] = (uint32_t)value;
    else
        v->gpr[reg] = (v->gpr[reg] & ~width_mask(width)) | (value & width_mask(width));
}

/* The instruction pointer is 64 bits wide in 64-bit code and 32 elsewhere. */
static inline uint64_t insn_next_rip(const struct dbt_vcpu *v, const struct insn *insn)
{
    uint64_t rip = v->rip + insn->length;

    return v->mode & DBT_MODE_CODE64 ? rip : (uint32_t)rip;
}

static inline enum dbt_result insn_next(struct dbt_vcpu *v, const struct insn *insn)
{
    v->rip = insn_next_rip(v, insn);
    return DBT_NEXT;
}

/* As insn_next(), where the mode, a mapping or an interrupt's fate may have changed. */
static inline enum dbt_result insn_next_block(struct dbt_vcpu *v, const struct insn *insn)
{
    v->rip = insn_next_rip(v, insn);
    return DBT_JUMP;
}

/* The register encoded in the opcode's low three bits (PUSH, POP); REX.B is in `rm` here, too. */
static inline unsigned insn_opcode_register(const struct insn *insn)
{
    return (insn->opcode & 7) | (insn->rm & 8);
}

/* mode_update(), then DBT_NEXT or DBT_JUMP as the block still fits the mode or not. */
enum dbt_result insn_next_mode(struct dbt_vcpu *v, const struct insn *insn);

/* Offset of the explicit memory operand in its segment. */
uint64_t operand_offset(const struct dbt_vcpu *v, const struct insn *insn);

/* The explicit memory operand, or `size` bytes at `displacement` from its start: at most 8 bytes,
 * zero extended. */
SILL_CHECKED enum dbt_result operand_load(struct dbt_vcpu *v, const struct insn *insn,
                                          unsigned displacement, unsigned size, uint64_t *value);
SILL_CHECKED enum dbt_result operand_store(struct dbt_vcpu *v, const struct insn *insn,
                                           unsigned displacement, unsigned size, uint64_t value);

/* The r/m operand, register (not AH to BH) or memory, `width` bits. */
SILL_CHECKED enum dbt_result operand_rm_read(struct dbt_vcpu *v, const struct insn *insn,
                                             unsigned width, uint64_t *value);

#endif
