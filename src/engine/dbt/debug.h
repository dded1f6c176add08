/*
 * Single step and breakpoints: those of the guest, in its debug registers (Intel SDM volume 3,
 * chapter 18; debug.c), and those of a debugger outside (engine_ops.set_debug; debugger.c), which
 * the guest sees nothing of.
 *
 * Instruction breakpoints and
 * single step run blocks of one instruction: everywhere for the guest's own (DBT_MODE_DEBUG,
 * DBT_MODE_TF), in the pages of a debugger's breakpoints alone (DBT_MODE_ONE). Pages with armed
 * data breakpoints never enter the TLB, so that every access to them comes through mmu.c. Core
 * code, on the vCPU's thread.
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

/* --- debugger.c; those below but the first only while the debugger wants something --- */

/* What the debugger wants has changed. The vCPU is not inside run(). */
void debugger_update(struct dbt_vcpu *v);

/* Whether run() is to return before the instruction at rip. */
bool debugger_stops(struct dbt_vcpu *v);
/* Whether the instruction at rip must run in a block of its own. */
bool debugger_wants_one(struct dbt_vcpu *v);
/* An instruction or a delivery is done. */
void debugger_after(struct dbt_vcpu *v);
/* The instruction faulted: its accesses did not happen. */
void debugger_undo(struct dbt_vcpu *v);

/* The debugger's part of debug_watches() and debug_access(). */
bool debugger_watches(const struct dbt_vcpu *v, gva_t page);
void debugger_access(struct dbt_vcpu *v, gva_t address, uint64_t size, bool write);

#endif
