/*
 * Looking inside the software engine while it runs. engine_vm_config.debug (`--debug dbt=WHAT`), or
 * SILL_DBT_TRACE in the environment of programs without that option, names what to tell, comma
 * separated:
 *
 *     blocks       each translated block: guest and host instructions, and why it ends
 *     exits        each time translated code is left: where, and why
 *     dispatch     each visit to the dispatcher: where, in which mode, the registers
 *     exceptions   each exception
 *     counters     when the VM ends: what engine_ops.stats tells
 *     perfmap      no text, but /tmp/perf-PID.map, by which `perf report` names blocks
 *
 * Text goes to standard error.
 */
#ifndef SILL_ENGINE_DBT_TRACE_H
#define SILL_ENGINE_DBT_TRACE_H

#include "engine/dbt/vm.h"

enum trace_kind {
    TRACE_BLOCKS = 1 << 0,
    TRACE_EXITS = 1 << 1,
    TRACE_DISPATCH = 1 << 2,
    TRACE_EXCEPTIONS = 1 << 3,
    TRACE_COUNTERS = 1 << 4,
    TRACE_PERFMAP = 1 << 5,
};

/* Reads the list above, NULL for none; opens the map for perf. -EINVAL, or the error of the map. */
SILL_CHECKED int trace_init(struct dbt_vm *vm, const char *list, struct error *err);
void trace_done(struct dbt_vm *vm);

/* A block is new; v->rip is where. Vector state put aside, translation lock held. */
void trace_block(struct dbt_vcpu *v, const struct dbt_block *block, const uint8_t *guest);
/* The same for the block of an instruction on two pages. */
void trace_crossing(struct dbt_vcpu *v, const struct dbt_block *block, const uint8_t *first,
                    const uint8_t *second);
/* The code cache was emptied. As above. */
void trace_flush(struct dbt_vm *vm);

/* These put the vector state aside themselves; call only when the bit is set in vm->trace. */
void trace_exit(struct dbt_vcpu *v); /* before the dispatcher has acted on it */
void trace_dispatch(struct dbt_vcpu *v);
void trace_exception(struct dbt_vcpu *v);

/* The counters of a vCPU, or of the code cache where it is NULL, in lines. */
void trace_counters(const struct dbt_vm *vm, const struct dbt_vcpu *v);

/* How traces and statistics call an exit. */
const char *trace_exit_name(enum exit_kind kind);

#endif
