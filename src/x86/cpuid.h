/*
 * CPU models: the CPUID leaves a guest sees. A model means the same on both engines; "host" is what
 * this engine on this host can truly run. An engine gives its limits as a filter; the model, the
 * topology and the filter make the table that both the guest's CPUID instruction and the engine's
 * own feature tests use.
 */
#ifndef SILL_X86_CPUID_H
#define SILL_X86_CPUID_H

#include "base/error.h"
#include "base/types.h"

#define X86_CPUID_MAX_LEAVES 64

struct x86_cpuid_leaf {
    uint32_t leaf, subleaf;
    bool has_subleaf; /* subleaf matters for this leaf */
    uint32_t eax, ebx, ecx, edx;
};

struct x86_cpuid {
    struct x86_cpuid_leaf leaf[X86_CPUID_MAX_LEAVES];
    unsigned count;
};

/* Appends a leaf (of an engine's `supported` table); one that does not fit is dropped. */
void x86_cpuid_add(struct x86_cpuid *table, const struct x86_cpuid_leaf *leaf);

/*
 * Fills `out` for a model name ("host", "x86-64-v2", "x86-64-v3") and `cpus` vCPUs of one socket,
 * one thread a core. `supported` is the engine's own table of what it can run here; features
 * outside it are dropped for "host" and are an error for a named model (the sentence names the
 * feature). Fields that differ between vCPUs (APIC id in leaves 1, 0xb, 0x1f, 0x8000001e) are
 * filled by x86_cpuid_get().
 */
SILL_CHECKED int x86_cpuid_build(struct x86_cpuid *out, const char *model, unsigned cpus,
                                 const struct x86_cpuid *supported, struct error *err);

/* The CPUID instruction: never fails; unknown leaves give zeros (or the highest basic leaf's data,
 * as Intel does, is not followed). APIC id and OSXSAVE bits are the caller's vCPU's. */
void x86_cpuid_get(const struct x86_cpuid *table, unsigned apic_id, bool osxsave, uint64_t xcr0,
                   uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* The leaf, or NULL. */
const struct x86_cpuid_leaf *x86_cpuid_find(const struct x86_cpuid *table, uint32_t leaf,
                                            uint32_t subleaf);

#endif
