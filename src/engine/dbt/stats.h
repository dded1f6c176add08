/* What the software engine counted (engine_ops.stats): the code cache's figures, and each vCPU's.
 * All vCPUs stopped. */
#ifndef SILL_ENGINE_DBT_STATS_H
#define SILL_ENGINE_DBT_STATS_H

#include "engine/dbt/vm.h"

void stats_tell_cache(const struct code_cache *cache, const struct stats *to);
void stats_tell_vcpu(const struct dbt_vcpu *v, const struct stats *to);
/* All of it. */
void dbt_stats(const struct dbt_vm *vm, const struct stats *to);

#endif
