/*
 * The x87 instruction pointer, data pointer and opcode (Intel SDM volume 1, 8.1.8). The host's
 * registers would show where translated code and its operands lie, so v->x87 has the guest's:
 *
 *     - translated code notes each x87 instruction behind it;
 *     - when the vector state is put aside, x87_sync() makes pointers of what was noted and writes
 *       them into the image, so that the registers are right when it is loaded again;
 *     - instructions that show the pointers (images.c) run after that, inline only while nothing
 *       is noted.
 *
 * AMD's processors write the pointers into FXSAVE's and XSAVE's images as zero unless an exception
 * is pending (APM volume 3, CPUID 8000_0008 EBX[2]), so images cannot be where they are kept.
 */
#ifndef SILL_ENGINE_DBT_X87_H
#define SILL_ENGINE_DBT_X87_H

#include "engine/dbt/translator.h"

#define FSW_TOP 0x3800
#define FSW_ES 0x0080

/* The status word in the image. */
static inline uint16_t x87_status(const struct dbt_vcpu *v)
{
    return (uint16_t)(v->xsave[XSAVE_FSW] | v->xsave[XSAVE_FSW + 1] << 8);
}

/* Behind the instruction, if it is one that sets the pointers. */
void x87_emit_note(struct translator *t);
/* Before an image is saved or loaded inline: goes to slow.c where the registers would not do. */
void x87_emit_check(struct translator *t);

/* Writes the pointers into the image, after they were changed in v->x87. */
void x87_write_image(struct dbt_vcpu *v);
/* Forgets the pointers: FNINIT. */
void x87_clear(struct dbt_vcpu *v);

/* An instruction that sets the pointers has run in C's hands; the vector state is put aside. */
void x87_note(struct dbt_vcpu *v, const struct decoded *d, const struct insn *insn);

#endif
