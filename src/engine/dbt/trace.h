/*
 * Looking inside the software engine. SILL_DBT_TRACE in the environment names what to print, comma
 * separated, on standard error:
 *
 *     blocks       each translated block: guest and host instructions
 *     dispatch     each visit to the dispatcher: where and in which mode
 *     exceptions   each exception and its frame
 *     counters     at the end of a vCPU: its counters
 */
#ifndef SILL_ENGINE_DBT_TRACE_H
#define SILL_ENGINE_DBT_TRACE_H

#include "engine/dbt/vm.h"

enum trace_kind {
    TRACE_BLOCKS = 1 << 0,
    TRACE_DISPATCH = 1 << 1,
    TRACE_EXCEPTIONS = 1 << 2,
    TRACE_COUNTERS = 1 << 3,
};

/* Bits from the environment. */
unsigned trace_from_environment(void);

/* The rest puts the vector state aside itself; call only when the bit is set in vm->trace. */
void trace_block(struct dbt_vcpu *v, const struct dbt_block *block, const uint8_t *guest);
void trace_dispatch(struct dbt_vcpu *v);
void trace_exception(struct dbt_vcpu *v);
void trace_counters(const struct dbt_vcpu *v);

#endif
