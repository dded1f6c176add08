/*
 * Delivery of exceptions and interrupts beyond what insn.h declares. vCPU thread.
 */
#ifndef SILL_ENGINE_DBT_INTERRUPT_H
#define SILL_ENGINE_DBT_INTERRUPT_H

#include "engine/dbt/insn.h"

/* INT n, INT3, INTO: gates are checked against the CPL. `next` is the rip to return to. */
SILL_CHECKED enum dbt_result interrupt_deliver_software(struct dbt_vcpu *v, uint8_t vector,
                                                        uint64_t next);
/* INT1: as a trap, without that check and without DR6. */
SILL_CHECKED enum dbt_result interrupt_deliver_int1(struct dbt_vcpu *v, uint64_t next);

/* A single-step or data-breakpoint trap at an instruction boundary: puts `dr6` (X86_DR6_*) into DR6
 * and delivers #DB. For the run loop. */
void interrupt_deliver_debug_trap(struct dbt_vcpu *v, uint64_t dr6);

/* The reasons of a #DB about to be raised: replaces B0 to B3, adds the others (SDM volume 3,
 * 18.2.3). */
void interrupt_set_dr6(struct dbt_vcpu *v, uint64_t dr6);

#endif
