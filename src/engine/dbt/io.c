/*
 * IN and OUT (INS and OUTS are in string.c). Intel SDM volume 1, chapter 19. vCPU thread.
 */
#include "engine/dbt/operand.h"
#include "engine/dbt/system.h"
#include "engine/dbt/task.h"

/* The port is in the instruction (E4 to E7) or in DX (EC to EF); size 1, 2 or 4. */
static uint16_t decode_port(const struct dbt_vcpu *v, const struct insn *insn, unsigned *size)
{
    *size = !(insn->opcode & 1) ? 1 : insn->operand_width == 16 ? 2 : 4;
    return insn->opcode & 8 ? v->gpr[X86_RDX] : insn->imm & 0xff;
}

enum dbt_result io_in(struct dbt_vcpu *v, const struct insn *insn)
{
    unsigned size;
    uint16_t port = decode_port(v, insn, &size);

    if (tss_check_io(v, port, size) == DBT_FAULT)
        return DBT_FAULT;
    gpr_write(v, X86_RAX, size * 8, dbt_port_read(v, port, size));
    return insn_next(v, insn);
}

enum dbt_result io_out(struct dbt_vcpu *v, const struct insn *insn)
{
    unsigned size;
    uint16_t port = decode_port(v, insn, &size);

    if (tss_check_io(v, port, size) == DBT_FAULT)
        return DBT_FAULT;
    dbt_port_write(v, port, size, gpr_read(v, X86_RAX, size * 8));
    return insn_next(v, insn);
}
