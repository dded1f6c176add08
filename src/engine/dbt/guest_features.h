/* Questions to the guest's CPUID, by leaf and bit (Intel SDM volume 2, CPUID). vCPU thread. */
#ifndef SILL_ENGINE_DBT_GUEST_FEATURES_H
#define SILL_ENGINE_DBT_GUEST_FEATURES_H

#include "engine/dbt/vcpu.h"

enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

struct cpu_feature {
    uint32_t leaf;
    uint8_t reg, bit;
};

#define FEATURE_PCID ((struct cpu_feature){1, CPUID_ECX, 17})
#define FEATURE_XSAVE ((struct cpu_feature){1, CPUID_ECX, 26})
#define FEATURE_DE ((struct cpu_feature){1, CPUID_EDX, 2})
#define FEATURE_PSE ((struct cpu_feature){1, CPUID_EDX, 3})
#define FEATURE_TSC ((struct cpu_feature){1, CPUID_EDX, 4})
#define FEATURE_PAE ((struct cpu_feature){1, CPUID_EDX, 6})
#define FEATURE_MCE ((struct cpu_feature){1, CPUID_EDX, 7})
#define FEATURE_APIC ((struct cpu_feature){1, CPUID_EDX, 9})
#define FEATURE_MTRR ((struct cpu_feature){1, CPUID_EDX, 12})
#define FEATURE_PGE ((struct cpu_feature){1, CPUID_EDX, 13})
#define FEATURE_MCA ((struct cpu_feature){1, CPUID_EDX, 14})
#define FEATURE_FXSR ((struct cpu_feature){1, CPUID_EDX, 24})
#define FEATURE_SSE ((struct cpu_feature){1, CPUID_EDX, 25})
#define FEATURE_FSGSBASE ((struct cpu_feature){7, CPUID_EBX, 0})
#define FEATURE_TSC_ADJUST ((struct cpu_feature){7, CPUID_EBX, 1})
#define FEATURE_SMEP ((struct cpu_feature){7, CPUID_EBX, 7})
#define FEATURE_SMAP ((struct cpu_feature){7, CPUID_EBX, 20})
#define FEATURE_UMIP ((struct cpu_feature){7, CPUID_ECX, 2})
#define FEATURE_SPEC_CTRL ((struct cpu_feature){7, CPUID_EDX, 26})
#define FEATURE_STIBP ((struct cpu_feature){7, CPUID_EDX, 27})
#define FEATURE_ARCH_CAPABILITIES ((struct cpu_feature){7, CPUID_EDX, 29})
#define FEATURE_SSBD ((struct cpu_feature){7, CPUID_EDX, 31})
#define FEATURE_SYSCALL ((struct cpu_feature){0x80000001, CPUID_EDX, 11})
#define FEATURE_NX ((struct cpu_feature){0x80000001, CPUID_EDX, 20})
#define FEATURE_FFXSR ((struct cpu_feature){0x80000001, CPUID_EDX, 25})
#define FEATURE_LM ((struct cpu_feature){0x80000001, CPUID_EDX, 29})
#define FEATURE_AMD_IBPB ((struct cpu_feature){0x80000008, CPUID_EBX, 12})
#define FEATURE_AMD_IBRS ((struct cpu_feature){0x80000008, CPUID_EBX, 14})
#define FEATURE_AMD_STIBP ((struct cpu_feature){0x80000008, CPUID_EBX, 15})
#define FEATURE_AUTOMATIC_IBRS ((struct cpu_feature){0x80000021, CPUID_EAX, 8})
#define FEATURE_AMD_SSBD ((struct cpu_feature){0x80000008, CPUID_EBX, 24})

static inline bool guest_has(struct dbt_vcpu *v, struct cpu_feature feature)
{
    uint32_t regs[4];

    dbt_cpuid(v, feature.leaf, 0, regs);
    return regs[feature.reg] >> feature.bit & 1;
}

#endif
