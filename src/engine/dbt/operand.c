/*
 * Operands of the instructions that C executes: see operand.h. Intel SDM volume 1, 3.7. vCPU
 * thread.
 */
#include "engine/dbt/operand.h"
#include "engine/dbt/segment.h"

enum dbt_result insn_next_mode(struct dbt_vcpu *v, const struct insn *insn)
{
    uint32_t before = v->mode;

    v->rip = insn_next_rip(v, insn);
    mode_update(v);
    return v->mode == before ? DBT_NEXT : DBT_JUMP;
}

uint64_t operand_offset(const struct dbt_vcpu *v, const struct insn *insn)
{
    const struct insn_memory *memory = &insn->memory;
    uint64_t offset = (uint64_t)memory->displacement;

    if (memory->base == INSN_RIP)
        offset += insn_next_rip(v, insn);
    else if (memory->base != INSN_NO_REGISTER)
        offset += v->gpr[memory->base];
    if (memory->index != INSN_NO_REGISTER)
        offset += v->gpr[memory->index] * memory->scale;
    return offset & width_mask(insn->address_width);
}

enum dbt_result operand_load(struct dbt_vcpu *v, const struct insn *insn, unsigned displacement,
                             unsigned size, uint64_t *value)
{
    uint64_t offset = operand_offset(v, insn) + displacement;
    uint64_t loaded = 0;

    if (segment_read(v, insn->memory.segment, offset & width_mask(insn->address_width), &loaded,
                     size) == DBT_FAULT)
        return DBT_FAULT;
    *value = loaded;
    return DBT_NEXT;
}

enum dbt_result operand_store(struct dbt_vcpu *v, const struct insn *insn, unsigned displacement,
                              unsigned size, uint64_t value)
{
    uint64_t offset = operand_offset(v, insn) + displacement;

    return segment_write(v, insn->memory.segment, offset & width_mask(insn->address_width), &value,
                         size);
}

enum dbt_result operand_rm_read(struct dbt_vcpu *v, const struct insn *insn, unsigned width,
                                uint64_t *value)
{
    if (insn->has_memory)
        return operand_load(v, insn, 0, width / 8, value);
    *value = gpr_read(v, insn->rm, width);
    return DBT_NEXT;
}
