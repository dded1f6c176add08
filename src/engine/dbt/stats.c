/* What the software engine counted; see stats.h. */
#include "engine/dbt/stats.h"

#include <stdio.h>

#include "engine/dbt/trace.h"

void stats_tell_cache(const struct code_cache *cache, const struct stats *to)
{
    static const char *const causes[FLUSH_CAUSES] = {
        [FLUSH_FULL] = "full", [FLUSH_MODES] = "modes"};

    stats_begin(to, "code_cache");
    stats_value(to, "size", cache->size);
    stats_value(to, "used", cache->used);
    stats_value(to, "meta_used", cache->meta_used);
    stats_value(to, "blocks", cache->order_count);
    stats_value(to, "translations", cache->translations);
    stats_value(to, "guest_bytes", cache->guest_bytes);
    stats_value(to, "host_bytes", cache->host_bytes);
    stats_value(to, "invalidations", cache->invalidations);
    stats_begin(to, "flushes");
    for (unsigned i = 0; i < FLUSH_CAUSES; i++)
        stats_value(to, causes[i], cache->flushes[i]);
    stats_end(to);
    stats_end(to);
}

static void tell_exceptions(const struct dbt_counters *c, const struct stats *to)
{
    char name[16];

    stats_begin(to, "exceptions");
    for (unsigned i = 0; i < ARRAY_SIZE(c->exceptions); i++) {
        snprintf(name, sizeof(name), "%u", i);
        if (c->exceptions[i])
            stats_value(to, name, c->exceptions[i]);
    }
    stats_end(to);
}

static void tell_instructions(const struct dbt_counters *c, const struct stats *to)
{
    stats_begin(to, "instructions_in_c");
    for (unsigned i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++)
        if (c->in_c[i])
            stats_value(to, ZydisMnemonicGetString((ZydisMnemonic)i), c->in_c[i]);
    stats_end(to);
}

void stats_tell_vcpu(const struct dbt_vcpu *v, const struct stats *to)
{
    const struct dbt_counters *c = &v->runtime->counters;
    char name[16];

    snprintf(name, sizeof(name), "vcpu%u", v->index);
    stats_begin(to, name);
    stats_begin(to, "exits");
    for (enum exit_kind kind = 0; kind < EXIT_KINDS; kind++)
        stats_value(to, trace_exit_name(kind), c->exits[kind]);
    stats_end(to);
    tell_instructions(c, to);
    tell_exceptions(c, to);
    stats_begin(to, "tlb");
    stats_value(to, "misses", c->memory_misses);
    stats_value(to, "refills", c->memory_fills);
    stats_begin(to, "flushes");
    stats_value(to, "all", c->tlb_flushes_all);
    stats_value(to, "local", c->tlb_flushes_local);
    stats_value(to, "page", c->tlb_flushes_page);
    stats_end(to);
    stats_end(to);
    stats_value(to, "lookups", c->lookups);
    stats_value(to, "links", c->links);
    stats_value(to, "slow_paths", c->slow);
    stats_value(to, "interrupts", c->interrupts);
    stats_value(to, "halts", c->halts);
    stats_value(to, "port_reads", c->port_reads);
    stats_value(to, "port_writes", c->port_writes);
    stats_value(to, "mmio_reads", c->mmio_reads);
    stats_value(to, "mmio_writes", c->mmio_writes);
    stats_end(to);
}

void dbt_stats(const struct dbt_vm *vm, const struct stats *to)
{
    stats_tell_cache(&vm->cache, to);
    for (unsigned i = 0; i < vm->config.vcpus; i++) {
        const struct dbt_vcpu *v = atomic_load(&vm->vcpu[i]);

        if (v)
            stats_tell_vcpu(v, to);
    }
}
