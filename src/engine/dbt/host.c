/*
 * What the software engine needs of the host (an x86-64-v3 CPU) and can offer its guests there:
 * most user-mode extensions run natively and so are there when the host has them; what system
 * software sees (paging, APIC, MSRs) is the engine's own work and always there. AVX-512, XSAVES and
 * the like, whose state or encodings the translator does not handle, are hidden.
 */
#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#include "engine/dbt/host.h"

/* Feature bits per CPUID leaf: `own` are the engine's work, `native` need the host's. */
struct feature_word {
    uint32_t leaf, subleaf;
    unsigned reg; /* 0 eax .. 3 edx */
    uint32_t native, own;
};

#define BIT(n) (1u << (n))

/* D.1.EAX */
#define XSAVEC BIT(1)
#define XGETBV1 BIT(2)

/* 80000008.EBX: x87 pointers are saved whether or not an exception is pending. */
#define AMD_XSAVEERPTR BIT(2)

static const struct feature_word feature_words[] = {
    /* sse3 pclmulqdq ssse3 fma cx16 sse4.1 sse4.2 movbe popcnt aes xsave avx f16c rdrand |
     * pcid x2apic tsc-deadline */
    {1, 0, 2,
     BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(19) | BIT(20) | BIT(22) | BIT(23) |
         BIT(25) | BIT(26) | BIT(28) | BIT(29) | BIT(30),
     BIT(17) | BIT(21) | BIT(24)},
    /* fpu cx8 cmov clflush mmx fxsr sse sse2 | de pse tsc msr pae mce apic sep mtrr pge mca pat
     * pse36 */
    {1, 0, 3, BIT(0) | BIT(8) | BIT(15) | BIT(19) | BIT(23) | BIT(24) | BIT(25) | BIT(26),
     BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(9) | BIT(11) | BIT(12) | BIT(13) |
         BIT(14) | BIT(16) | BIT(17)},
    /* bmi1 avx2 bmi2 erms rdseed adx clflushopt clwb sha | fsgsbase tsc_adjust smep invpcid smap */
    {7, 0, 1, BIT(3) | BIT(5) | BIT(8) | BIT(9) | BIT(18) | BIT(19) | BIT(23) | BIT(24) | BIT(29),
     BIT(0) | BIT(1) | BIT(7) | BIT(10) | BIT(20)},
    /* gfni vaes vpclmulqdq | umip rdpid */
    {7, 0, 2, BIT(8) | BIT(9) | BIT(10), BIT(2) | BIT(22)},
    /* fsrm | IBRS (of use only as what IBRS_ALL needs) and ARCH_CAPABILITIES: see below */
    {7, 0, 3, BIT(4), BIT(26) | BIT(29)},
    /* lahf abm 3dnowprefetch */
    {0x80000001, 0, 2, BIT(0) | BIT(5) | BIT(8), 0},
    /* syscall nx 1GiB pages rdtscp lm */
    {0x80000001, 0, 3, 0, BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29)},
    /* invariant TSC */
    {0x80000007, 0, 3, BIT(8), 0},
    /* LFENCE serialises | automatic IBRS, SRSO_NO; TSA_SQ_NO, TSA_L1_NO. Guest branches do not run
     * as themselves here, so a guest's own mitigations only cost time (docs/threat-model.md). */
    {0x80000021, 0, 0, BIT(2), BIT(8) | BIT(29)},
    {0x80000021, 0, 2, 0, BIT(1) | BIT(2)},
};

static void host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    memset(out, 0, 4 * sizeof(*out));
    __get_cpuid_count(leaf, subleaf, &out[0], &out[1], &out[2], &out[3]);
}

bool host_usable(char *reason, size_t size)
{
    static const struct {
        uint32_t leaf;
        unsigned reg, bit;
        const char *name;
    } needed[] = {
        {1, 2, 20, "SSE4.2"}, {1, 2, 27, "OSXSAVE"}, {1, 2, 28, "AVX"},
        {7, 1, 5, "AVX2"},    {7, 1, 8, "BMI2"},     {1, 2, 22, "MOVBE"},
    };

    for (unsigned i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        uint32_t out[4];

        host_cpuid(needed[i].leaf, 0, out);
        if (!(out[needed[i].reg] >> needed[i].bit & 1)) {
            snprintf(reason, size, "the host CPU lacks %s (an x86-64-v3 CPU is needed)",
                     needed[i].name);
            return false;
        }
    }
    snprintf(reason, size, "works on any x86-64-v3 host");
    return true;
}

static void add_leaf(struct x86_cpuid *table, uint32_t leaf, uint32_t subleaf, bool has_subleaf,
                     const uint32_t out[4])
{
    x86_cpuid_add(table, &(struct x86_cpuid_leaf){.leaf = leaf,
                                                  .subleaf = subleaf,
                                                  .has_subleaf = has_subleaf,
                                                  .eax = out[0],
                                                  .ebx = out[1],
                                                  .ecx = out[2],
                                                  .edx = out[3]});
}

/* The host's leaf with the feature registers replaced by what guests can have. */
static void filter_leaf(struct x86_cpuid *table, uint32_t leaf, bool has_subleaf)
{
    uint32_t host[4], out[4];

    host_cpuid(leaf, 0, host);
    memcpy(out, host, sizeof(out));
    for (unsigned reg = 0; reg < 4; reg++) {
        bool features = leaf == 7 ? reg != 0 : leaf >= 0x80000007 ? true : reg >= 2;
        const struct feature_word *word = NULL;

        for (unsigned i = 0; i < sizeof(feature_words) / sizeof(feature_words[0]); i++)
            if (feature_words[i].leaf == leaf && feature_words[i].reg == reg)
                word = &feature_words[i];
        if (features)
            out[reg] = word ? (host[reg] & word->native) | word->own : 0;
    }
    if (leaf == 7)
        out[0] = 0; /* no further subleaves */
    add_leaf(table, leaf, 0, has_subleaf, out);
}

static bool is_amd(void)
{
    uint32_t out[4];

    host_cpuid(0, 0, out);
    return out[2] == signature_AMD_ecx;
}

void host_supported_cpuid(struct x86_cpuid *table)
{
    uint32_t out[4];

    table->count = 0;
    host_cpuid(0, 0, out);
    add_leaf(table, 0, 0, false, out);
    filter_leaf(table, 1, false);
    filter_leaf(table, 7, true);

    /* XSAVE: x87, SSE and AVX, in the host's own places. Of the variants those that do not depend
     * on where the last XRSTOR was: what the host notes of that is not the guest's. */
    host_cpuid(0xd, 0, out);
    out[0] &= 7;
    out[3] = 0;
    add_leaf(table, 0xd, 0, true, out);
    host_cpuid(0xd, 1, out);
    add_leaf(table, 0xd, 1, true, (const uint32_t[4]){(out[0] & XSAVEC) | XGETBV1});
    host_cpuid(0xd, 2, out);
    add_leaf(table, 0xd, 2, true, out);

    for (uint32_t leaf = 0x80000002; leaf <= 0x80000004; leaf++) {
        host_cpuid(leaf, 0, out);
        add_leaf(table, leaf, 0, false, out);
    }
    filter_leaf(table, 0x80000001, false);
    filter_leaf(table, 0x80000007, false);
    if (is_amd())
        filter_leaf(table, 0x80000021, false);
    host_cpuid(0x80000008, 0, out);
    out[1] &= AMD_XSAVEERPTR;
    out[2] = out[3] = 0;
    add_leaf(table, 0x80000008, 0, false, out);
}

void host_probe(struct engine_info *info)
{
    memset(info, 0, sizeof(*info));
    info->usable = host_usable(info->reason, sizeof(info->reason));
    if (!info->usable)
        return;
    info->capabilities = ENGINE_CAP_FAST_SUPERVISOR;
    host_supported_cpuid(&info->supported);
    info->supervisor_mips = host_measure();
}
