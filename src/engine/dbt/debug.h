/*
 * Single step and the debug registers (Intel SDM volume 3, chapter 18). Instruction breakpoints and
 * single step run blocks of one instruction (DBT_MODE_DEBUG, DBT_MODE_TF); pages with armed data
 * breakpoints never enter the TLB, so that every access to them comes through mmu.c. Core code, on
 * the vCPU's thread.
 */
#ifndef SILL_ENGINE_DBT_DEBUG_H
#define SILL_ENGINE_DBT_DEBUG_H

#include "engine/dbt/vm.h"

/* DR0..DR3 or DR7 changed. */
void debug_update(struct dbt_vcpu *v);

/* An instruction breakpoint at rip: #DB is recorded. */
bool debug_fetch(struct dbt_vcpu *v);

/* Whether an armed data breakpoint lies in the page of `address`. */
bool debug_watches(const struct dbt_vcpu *v, gva_t address);
/* An access was made: notes the breakpoints it hits for debug_after(). */
void debug_access(struct dbt_vcpu *v, gva_t address, uint64_t size, bool write);

/* What to remember before an instruction, and what follows from it when the instruction is done. */
struct debug_step {
    bool traced; /* TF was set */
    bool resume; /* RF was set */
    uint64_t rip;
};

struct debug_step debug_before(const struct dbt_vcpu *v);
/* `in_c` is the instruction if insn_execute() ran it, else NULL. Delivers a #DB trap if one is due.
 */
void debug_after(struct dbt_vcpu *v, const struct debug_step *step, const struct insn *in_c);

#endif
