/*
 * The task-state segment: stacks of the inner privilege levels, the I/O permission bitmap, and
 * hardware task switches. Intel SDM volume 3, chapter 8, and volume 1, 19.5.2. vCPU thread.
 */
#ifndef SILL_ENGINE_DBT_TASK_H
#define SILL_ENGINE_DBT_TASK_H

#include "engine/dbt/segment.h"

/* RSP of privilege level 0 to 2, and of interrupt stack table slot 1 to 7 (64-bit TSS). #TS outside
 * the TSS, #SS for a non-canonical value. */
SILL_CHECKED enum dbt_result tss_read_rsp(struct dbt_vcpu *v, unsigned level, uint32_t ext,
                                          uint64_t *rsp);
SILL_CHECKED enum dbt_result tss_read_ist(struct dbt_vcpu *v, unsigned slot, uint32_t ext,
                                          uint64_t *rsp);
/* SS and (E)SP of privilege level 0 to 2 (16- and 32-bit TSS). */
SILL_CHECKED enum dbt_result tss_read_stack(struct dbt_vcpu *v, unsigned level, uint32_t ext,
                                            uint16_t *ss, uint32_t *esp);

/* Faults unless IOPL or the bitmap lets the current code use `size` ports from `port`. */
SILL_CHECKED enum dbt_result tss_check_io(struct dbt_vcpu *v, uint16_t port, unsigned size);

enum task_switch_kind { TASK_SWITCH_JUMP, TASK_SWITCH_CALL, TASK_SWITCH_IRET, TASK_SWITCH_GATE };

/*
 * Switches to the task whose TSS `selector` names. `resume` is the rip that the old task continues
 * at; `error` is pushed on the new task's stack for exceptions that have a code (TASK_SWITCH_GATE,
 * NULL if none); `ext` as for other faults of interrupt delivery. Faults before the switch leave
 * all registers as they were; later ones happen in the new task, as on hardware.
 */
SILL_CHECKED enum dbt_result task_switch(struct dbt_vcpu *v, uint16_t selector,
                                         enum task_switch_kind kind, uint64_t resume,
                                         const uint32_t *error, uint32_t ext);
/* Through a task gate whose DPL has been checked. */
SILL_CHECKED enum dbt_result task_switch_gate(struct dbt_vcpu *v, const struct descriptor *gate,
                                              enum task_switch_kind kind, uint64_t resume,
                                              const uint32_t *error, uint32_t ext);
/* IRET with NT set: back to the task that the current TSS links to. */
SILL_CHECKED enum dbt_result task_return(struct dbt_vcpu *v, uint64_t resume);

#endif
