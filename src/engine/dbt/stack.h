/*
 * A stack being pushed to or popped from. The stack pointer moves in this structure only, until
 * stack_commit(), so that an instruction that faults half way has changed no register.
 * vCPU thread.
 */
#ifndef SILL_ENGINE_DBT_STACK_H
#define SILL_ENGINE_DBT_STACK_H

#include "engine/dbt/segment.h"

struct stack {
    struct dbt_vcpu *v;
    const struct x86_segment *segment; /* NULL: 64-bit mode, where SS has no base and no limit */
    uint64_t pointer;
    uint64_t mask;   /* of the pointer: 16, 32 or 64 bits count */
    unsigned access; /* MMU_USER or MMU_IMPLICIT for a stack of another privilege level, else 0 */
    uint32_t error;  /* what #SS reports: 0, or the selector of a stack being switched to */
};

/* The stack in use, with the width of the current mode. */
void stack_init(struct stack *s, struct dbt_vcpu *v);
/* A stack that is being switched to, at privilege `cpl`; NULL segment means a 64-bit one. */
void stack_init_switched(struct stack *s, struct dbt_vcpu *v, const struct x86_segment *segment,
                         uint64_t pointer, unsigned cpl);

/* `size` is 2, 4 or 8 bytes; popped values are zero extended. */
SILL_CHECKED enum dbt_result stack_push(struct stack *s, unsigned size, uint64_t value);
SILL_CHECKED enum dbt_result stack_pop(struct stack *s, unsigned size, uint64_t *value);
/* Moves the pointer up without reading. */
void stack_release(struct stack *s, uint64_t bytes);
/* Makes the pointer the guest's rSP: as many bits of it as the stack is wide. */
void stack_commit(const struct stack *s);

#endif
