/*
 * The dispatcher: the loop around translated code, between two visits to the rest of the program.
 * It is core code (no vector registers, no libc), so that the common ways around the loop leave the
 * guest's vector state where it is. What needs more is in runtime.c.
 */
#ifndef SILL_ENGINE_DBT_DISPATCH_H
#define SILL_ENGINE_DBT_DISPATCH_H

#include "engine/dbt/vm.h"

/* Why translated code left without an exit record. */
enum leave_reason { LEAVE_RECORD, LEAVE_FAULT, LEAVE_SLOW };

/* Runs until runtime_attend() says to stop, or the vCPU shut down. On the vCPU's thread with gs set
 * to the vCPU. */
void dispatch_run(struct dbt_vcpu *v);

/* Delivers v->exception (restored state, or a fault). */
void dispatch_deliver_pending(struct dbt_vcpu *v);

/* The jump cache table of a mode, if this vCPU knows one. */
bool dispatch_mode_slot(const struct dbt_vcpu *v, uint32_t mode, unsigned *slot);
/* Linear address of rip; false with #GP recorded beyond the code segment's limit. */
bool dispatch_linear_rip(struct dbt_vcpu *v, gva_t *linear);
/* Enters the block for rip, fetched at `linear`, into the jump cache. */
void dispatch_enter_jump(struct dbt_vcpu *v, unsigned slot, gva_t linear,
                         const struct dbt_block *block);

/* Called by stub_memory: the host address for the access in insn_info, or NULL to leave. */
void *dispatch_memory(struct dbt_vcpu *v, gva_t address);

/* Called by stub_pin; returns where to go on. `offset` is the range's start relative to the pinned
 * page, or to where it is not if there is none (DBT_PIN_NONE). */
const void *dispatch_pin(struct dbt_vcpu *v, uint64_t offset);

/* Called by stub_share_*, the same for a range that starts at `address`. */
const void *dispatch_share_read(struct dbt_vcpu *v, gva_t address);
const void *dispatch_share_write(struct dbt_vcpu *v, gva_t address);

/* Raises #UD or #NM for an instruction of a vector unit that is off. */
enum dbt_result dispatch_unit_off(struct dbt_vcpu *v, enum vector_unit unit);

/* --- runtime.c; heavy: these may put the vector state aside --- */

/* Looks at requests, interrupts and halting; sleeps while halted. False: leave dispatch_run(). */
bool runtime_attend(struct dbt_vcpu *v);
/* Code for the current rip and mode (| extra), translating if need be, entered in the jump cache.
 * NULL: an exception was recorded. */
const void *runtime_find(struct dbt_vcpu *v, uint32_t extra_mode);
/* Code for the instruction at rip that lies on the pages of `gpa` and `second_page`, or NULL when
 * it is no instruction, so that slow.c raises what is due. */
const void *runtime_find_crossing(struct dbt_vcpu *v, gpa_t gpa, const uint8_t *host,
                                  gpa_t second_page, const uint8_t *second_host);
/* Gives the processor to other threads. */
void runtime_yield(struct dbt_vcpu *v);
/* Links the record's jump to the block of its target. */
void runtime_link(struct dbt_vcpu *v, const struct exit_record *record);
/* slow.c: executes the instruction at rip with its memory operand in a buffer. */
enum dbt_result slow_execute(struct dbt_vcpu *v);

#endif
