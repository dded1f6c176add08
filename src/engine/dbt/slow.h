/* What slow.c shares with images.c: an instruction that is executed the slow way. vCPU thread,
 * vector state in `xsave`. */
#ifndef SILL_ENGINE_DBT_SLOW_H
#define SILL_ENGINE_DBT_SLOW_H

#include "engine/dbt/translator.h"

struct slow_entry {
    uint8_t bytes[15];
    uint8_t length;
    uint32_t mode;
    uint32_t generation; /* of the code cache, for the thunk */
    uint32_t thunk;      /* 0: none yet */
    bool valid;
    struct decoded decoded;
    struct insn insn;
};

/* Runs the instruction with its memory operand at `buffer`. */
SILL_CHECKED enum dbt_result slow_run_thunk(struct dbt_vcpu *v, struct slow_entry *e, void *buffer);

/* Linear address of the memory operand, of `size` bytes, which may be moved by `adjust` bytes.
 * `access`: enum mmu_access. */
SILL_CHECKED enum dbt_result slow_linear(struct dbt_vcpu *v, const struct insn *insn,
                                         int64_t adjust, unsigned size, unsigned access,
                                         gva_t *linear);

/* FXSAVE and its like, and the x87 environment, where segment selectors show or registers are to be
 * left out (images.c). */
SILL_CHECKED enum dbt_result images_execute(struct dbt_vcpu *v, struct slow_entry *e);

#endif
