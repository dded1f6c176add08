/*
 * Builds the CPUID table of a guest and answers the CPUID instruction from it (Intel SDM volume 2,
 * CPUID; AMD APM volume 3, appendix E; the KVM leaves after the kernel's
 * Documentation/virt/kvm/x86/cpuid.rst). Control thread builds; any thread reads.
 *
 * Named models are one fixed processor: Intel's vendor string, because kernels then take what the
 * processor suffers from out of a register (ARCH_CAPABILITIES) and not from a list of families.
 * "host" keeps the host's vendor, family and name. Caches and topology are always our own: one
 * socket, one thread a core, a last-level cache shared by all.
 */
#include <errno.h>
#include <string.h>

#include "x86/arch.h"
#include "x86/cpu_models.h"
#include "x86/cpuid.h"

#define SIGNATURE_NAMED                                                                            \
    0x000806f8u                /* family 6, model 0x8f, stepping 8: needs no errata of others */
#define PHYSICAL_BITS_NAMED 39 /* what every host of these levels has */
#define LINEAR_BITS 48

#define LEAF_1_ECX_OSXSAVE (1u << 27)
#define LEAF_1_ECX_HYPERVISOR (1u << 31)
#define LEAF_1_EDX_HTT (1u << 28)
#define LEAF_6_EAX_ARAT (1u << 2) /* the APIC timer never stops */
#define LEAF_80000001_ECX_CMP_LEGACY (1u << 1)
#define LEAF_80000001_ECX_TOPOEXT (1u << 22)
#define LEAF_80000001_EDX_SAME_AS_1 0x0183f3ffu /* AMD repeats these bits of leaf 1 */

#define KVM_LEAF_SIGNATURE 0x40000000u
#define KVM_SIGNATURE_EBX 0x4b4d564bu /* "KVMKVMKVM" */
#define KVM_SIGNATURE_ECX 0x564b4d56u
#define KVM_SIGNATURE_EDX 0x4du
#define KVM_LEAF_FEATURES 0x40000001u
#define KVM_FEATURE_CLOCKSOURCE (1u << 0)
#define KVM_FEATURE_NOP_IO_DELAY (1u << 1)
#define KVM_FEATURE_CLOCKSOURCE2 (1u << 3)
#define KVM_FEATURE_PV_SEND_IPI (1u << 11)
#define KVM_FEATURE_CLOCKSOURCE_STABLE (1u << 24)

#define XSAVE_LEGACY_SIZE 576u /* legacy region and header */
#define XSAVE_COMPONENTS 63u
#define XCR0_PKRU (1ull << 9)

struct cache {
    unsigned level, type; /* type: 1 data, 2 instruction, 3 unified */
    unsigned kib, ways;
    bool shared;
};

static const struct cache caches[] = {
    {1, 1, 32, 8, false},
    {1, 2, 32, 8, false},
    {2, 3, 1024, 16, false},
    {3, 3, 16384, 16, true},
};

#define CACHE_LINE 64u

enum model { MODEL_HOST, MODEL_V2, MODEL_V3 };

static const char *const model_name[] = {
    [MODEL_HOST] = "host",
    [MODEL_V2] = "x86-64-v2",
    [MODEL_V3] = "x86-64-v3",
};

static const enum cpu_level model_level[] = {
    [MODEL_HOST] = CPU_LEVEL_HOST,
    [MODEL_V2] = CPU_LEVEL_V2,
    [MODEL_V3] = CPU_LEVEL_V3,
};

/* --- the table --- */

void x86_cpuid_add(struct x86_cpuid *table, const struct x86_cpuid_leaf *leaf)
{
    if (table->count < X86_CPUID_MAX_LEAVES)
        table->leaf[table->count++] = *leaf;
}

static void add(struct x86_cpuid *table, uint32_t leaf, uint32_t eax, uint32_t ebx, uint32_t ecx,
                uint32_t edx)
{
    x86_cpuid_add(table, &(struct x86_cpuid_leaf){
                             .leaf = leaf, .eax = eax, .ebx = ebx, .ecx = ecx, .edx = edx});
}

static void add_sub(struct x86_cpuid *table, uint32_t leaf, uint32_t subleaf, uint32_t eax,
                    uint32_t ebx, uint32_t ecx, uint32_t edx)
{
    x86_cpuid_add(table, &(struct x86_cpuid_leaf){.leaf = leaf,
                                                  .subleaf = subleaf,
                                                  .has_subleaf = true,
                                                  .eax = eax,
                                                  .ebx = ebx,
                                                  .ecx = ecx,
                                                  .edx = edx});
}

const struct x86_cpuid_leaf *x86_cpuid_find(const struct x86_cpuid *table, uint32_t leaf,
                                            uint32_t subleaf)
{
    for (unsigned i = 0; i < table->count; i++) {
        const struct x86_cpuid_leaf *l = &table->leaf[i];
        if (l->leaf == leaf && (!l->has_subleaf || l->subleaf == subleaf))
            return l;
    }
    return NULL;
}

static uint32_t leaf_register(const struct x86_cpuid_leaf *leaf, enum cpu_register reg)
{
    if (!leaf)
        return 0;
    const uint32_t value[] = {leaf->eax, leaf->ebx, leaf->ecx, leaf->edx};
    return value[reg];
}

/* --- features --- */

/* The feature words of a model here. */
static int choose_features(uint32_t words[CPU_WORD_COUNT], enum model model,
                           const struct x86_cpuid *supported, struct error *err)
{
    uint32_t have[CPU_WORD_COUNT];

    for (unsigned w = 0; w < CPU_WORD_COUNT; w++) {
        const struct cpu_word_place *place = &cpu_word_place[w];
        have[w] = leaf_register(x86_cpuid_find(supported, place->leaf, place->subleaf), place->reg);
        words[w] = 0;
    }
    for (const struct cpu_feature *f = cpu_features; f->name; f++) {
        bool there = have[f->word] >> f->bit & 1;
        bool wanted = f->level == CPU_LEVEL_WEAKNESS || f->level <= model_level[model];
        if (wanted && there) {
            words[f->word] |= 1u << f->bit;
        } else if (wanted && model != MODEL_HOST && f->level != CPU_LEVEL_WEAKNESS) {
            return error_set(err, -ENOTSUP,
                             "CPU model %s needs the feature %s, which this engine cannot offer on "
                             "this host; use --cpu host",
                             model_name[model], f->name);
        }
    }
    return 0;
}

/* The XSAVE components that the features use and that the host has room for. */
static uint64_t choose_xcr0(const uint32_t words[CPU_WORD_COUNT], const struct x86_cpuid *supported)
{
    const struct x86_cpuid_leaf *leaf = x86_cpuid_find(supported, 0xd, 0);
    uint64_t wanted = X86_XCR0_X87 | X86_XCR0_SSE;

    if (!leaf || !(words[CPU_1_ECX] & 1u << 26))
        return 0;
    if (words[CPU_1_ECX] & 1u << 28)
        wanted |= X86_XCR0_AVX;
    if (words[CPU_7_EBX] & 1u << 16)
        wanted |= X86_XCR0_AVX512;
    if (words[CPU_7_ECX] & 1u << 3)
        wanted |= XCR0_PKRU;
    return wanted & (leaf->eax | (uint64_t)leaf->edx << 32);
}

/* --- XSAVE (Intel SDM volume 1, 13.2 to 13.4) --- */

/* Size of the area for the components of `xcr0`, standard or compacted. */
static uint32_t xsave_size(const struct x86_cpuid *table, uint64_t xcr0, bool compacted)
{
    uint32_t size = XSAVE_LEGACY_SIZE;

    for (unsigned i = 2; i < XSAVE_COMPONENTS; i++) {
        const struct x86_cpuid_leaf *c = xcr0 >> i & 1 ? x86_cpuid_find(table, 0xd, i) : NULL;
        if (!c)
            continue;
        if (!compacted)
            size = c->ebx + c->eax > size ? c->ebx + c->eax : size;
        else
            size = (c->ecx & 2 ? ALIGN_UP(size, 64u) : size) + c->eax;
    }
    return size;
}

static void add_xsave(struct x86_cpuid *out, uint64_t xcr0, uint32_t features,
                      const struct x86_cpuid *supported)
{
    if (!xcr0)
        return;
    uint32_t most = xsave_size(supported, xcr0, false);
    add_sub(out, 0xd, 0, (uint32_t)xcr0, most, most, (uint32_t)(xcr0 >> 32));
    add_sub(out, 0xd, 1, features, most, 0, 0);
    for (unsigned i = 2; i < XSAVE_COMPONENTS; i++) {
        const struct x86_cpuid_leaf *c = xcr0 >> i & 1 ? x86_cpuid_find(supported, 0xd, i) : NULL;
        if (c)
            add_sub(out, 0xd, i, c->eax, c->ebx, c->ecx & 2, 0);
    }
}

/* --- topology and caches --- */

/* Bits of an APIC id that number the cores. */
static unsigned core_bits(unsigned cpus)
{
    return cpus > 1 ? 32 - (unsigned)__builtin_clz(cpus - 1) : 0;
}

/* Deterministic cache parameters; leaf 4 and AMD's 0x8000001d have one layout. */
static void add_caches(struct x86_cpuid *out, uint32_t leaf, unsigned cpus)
{
    uint32_t core_ids = leaf == 4 ? ((1u << core_bits(cpus)) - 1) & 0x3f : 0;
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(caches); i++) {
        const struct cache *c = &caches[i];
        uint32_t sharing = c->shared ? ((1u << core_bits(cpus)) - 1) & 0xfff : 0;
        uint32_t sets = c->kib * 1024 / (CACHE_LINE * c->ways);
        add_sub(out, leaf, i, c->type | c->level << 5 | 1u << 8 | sharing << 14 | core_ids << 26,
                (CACHE_LINE - 1) | (c->ways - 1) << 22, sets - 1, 0);
    }
    add_sub(out, leaf, i, 0, 0, 0, 0);
}

/* Extended topology; leaves 0xb and 0x1f have one layout. */
static void add_topology(struct x86_cpuid *out, uint32_t leaf, unsigned cpus)
{
    add_sub(out, leaf, 0, 0, 1, 0 | 1u << 8, 0);
    add_sub(out, leaf, 1, core_bits(cpus), cpus, 1 | 2u << 8, 0);
}

/* --- putting it together --- */

/* The 48 characters of leaves 0x80000002 to 4. */
static void add_brand(struct x86_cpuid *out, enum model model, const struct x86_cpuid *supported)
{
    char text[48] = "";

    if (model != MODEL_HOST) {
        strcpy(text, "Sill virtual CPU ");
        strcat(text, model_name[model]);
    }
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t part[4];
        const struct x86_cpuid_leaf *host = x86_cpuid_find(supported, 0x80000002 + i, 0);
        memcpy(part, text + 16 * i, sizeof(part));
        if (model == MODEL_HOST && host)
            add(out, host->leaf, host->eax, host->ebx, host->ecx, host->edx);
        else
            add(out, 0x80000002 + i, part[0], part[1], part[2], part[3]);
    }
}

static void add_vendor(struct x86_cpuid *out, uint32_t leaf, uint32_t highest,
                       const char vendor[12])
{
    uint32_t part[3];

    memcpy(part, vendor, sizeof(part));
    add(out, leaf, highest, part[0], part[2], part[1]);
}

static bool vendor_is_amd(const char *vendor)
{
    return !memcmp(vendor, "AuthenticAMD", 12) || !memcmp(vendor, "HygonGenuine", 12);
}

static void add_extended(struct x86_cpuid *out, enum model model, const char *vendor,
                         uint32_t words[CPU_WORD_COUNT], unsigned cpus,
                         const struct x86_cpuid *supported)
{
    bool amd = vendor_is_amd(vendor);
    const struct x86_cpuid_leaf *sizes = x86_cpuid_find(supported, 0x80000008, 0);
    uint32_t physical = model == MODEL_HOST && sizes ? sizes->eax & 0xff : PHYSICAL_BITS_NAMED;
    uint32_t linear = model == MODEL_HOST && sizes ? sizes->eax >> 8 & 0xff : LINEAR_BITS;

    if (amd) {
        words[CPU_80000001_EDX] |= words[CPU_1_EDX] & LEAF_80000001_EDX_SAME_AS_1;
        words[CPU_80000001_ECX] |= LEAF_80000001_ECX_TOPOEXT;
        if (cpus > 1)
            words[CPU_80000001_ECX] |= LEAF_80000001_ECX_CMP_LEGACY;
    }
    add_vendor(out, 0x80000000,
               words[CPU_80000021_EAX] ? 0x80000021
               : amd                   ? 0x8000001e
                                       : 0x80000008,
               vendor);
    add(out, 0x80000001, 0, 0, words[CPU_80000001_ECX], words[CPU_80000001_EDX]);
    add_brand(out, model, supported);
    if (amd) /* size in KiB, associativity 8, one line a tag, line size: data, instructions */
        add(out, 0x80000005, 0, 0, 32u << 24 | 8u << 16 | 1u << 8 | CACHE_LINE,
            32u << 24 | 8u << 16 | 1u << 8 | CACHE_LINE);
    add(out, 0x80000006, 0, 0, 1024u << 16 | 8u << 12 | CACHE_LINE, 0); /* L2: 1 MiB, 16 ways */
    add(out, 0x80000007, 0, 0, 0, words[CPU_80000007_EDX]);
    add(out, 0x80000008, physical | linear << 8, words[CPU_80000008_EBX],
        amd ? (cpus - 1) | core_bits(cpus) << 12 : 0, 0);
    if (amd) {
        add_caches(out, 0x8000001d, cpus);
        add(out, 0x8000001e, 0, 0, 0, 0); /* ids: x86_cpuid_get() */
    }
    if (words[CPU_80000021_EAX])
        add(out, 0x80000021, words[CPU_80000021_EAX], 0, words[CPU_80000021_ECX], 0);
}

static int find_model(const char *name, enum model *model, struct error *err)
{
    for (unsigned i = 0; i < ARRAY_SIZE(model_name); i++) {
        if (!strcmp(name, model_name[i])) {
            *model = i;
            return 0;
        }
    }
    return error_set(err, -EINVAL, "unknown CPU model \"%s\"; there are %s, %s and %s", name,
                     model_name[MODEL_HOST], model_name[MODEL_V2], model_name[MODEL_V3]);
}

int x86_cpuid_build(struct x86_cpuid *out, const char *name, unsigned cpus,
                    const struct x86_cpuid *supported, struct error *err)
{
    const struct x86_cpuid_leaf *host = x86_cpuid_find(supported, 0, 0);
    const struct x86_cpuid_leaf *host_1 = x86_cpuid_find(supported, 1, 0);
    uint32_t words[CPU_WORD_COUNT];
    uint32_t signature = SIGNATURE_NAMED;
    char vendor[] = "GenuineIntel";
    enum model model = MODEL_HOST;

    int r = find_model(name, &model, err);
    if (r)
        return r;
    r = choose_features(words, model, supported, err);
    if (r)
        return r;
    if (model == MODEL_HOST && host && host_1) {
        memcpy(vendor, &host->ebx, 4);
        memcpy(vendor + 4, &host->edx, 4);
        memcpy(vendor + 8, &host->ecx, 4);
        signature = host_1->eax;
    }
    words[CPU_1_ECX] |= LEAF_1_ECX_HYPERVISOR;
    if (cpus > 1)
        words[CPU_1_EDX] |= LEAF_1_EDX_HTT;
    uint32_t ids = cpus > 128 ? 255 : 1u << core_bits(cpus);

    bool amd = vendor_is_amd(vendor);
    struct x86_cpuid table = {.count = 0};
    add_vendor(&table, 0, amd ? 0xd : 0x1f, vendor);
    add(&table, 1, signature, ids << 16 | CACHE_LINE / 8 << 8, words[CPU_1_ECX], words[CPU_1_EDX]);
    if (!amd) {
        add(&table, 2, 0x0000ff01, 0, 0, 0); /* descriptor 0xff: see leaf 4 */
        add_caches(&table, 4, cpus);
    }
    add(&table, 6, LEAF_6_EAX_ARAT, 0, 0, 0);
    add_sub(&table, 7, 0, words[CPU_7_1_EAX] ? 1 : 0, words[CPU_7_EBX], words[CPU_7_ECX],
            words[CPU_7_EDX]);
    add_sub(&table, 7, 1, words[CPU_7_1_EAX], 0, 0, 0);
    add_topology(&table, 0xb, cpus);
    add_xsave(&table, choose_xcr0(words, supported), words[CPU_D_1_EAX], supported);
    if (!amd)
        add_topology(&table, 0x1f, cpus);
    add(&table, KVM_LEAF_SIGNATURE, KVM_LEAF_FEATURES, KVM_SIGNATURE_EBX, KVM_SIGNATURE_ECX,
        KVM_SIGNATURE_EDX);
    add(&table, KVM_LEAF_FEATURES,
        KVM_FEATURE_CLOCKSOURCE | KVM_FEATURE_NOP_IO_DELAY | KVM_FEATURE_CLOCKSOURCE2 |
            KVM_FEATURE_PV_SEND_IPI | KVM_FEATURE_CLOCKSOURCE_STABLE,
        0, 0, 0);
    add_extended(&table, model, vendor, words, cpus, supported);
    *out = table;
    return 0;
}

void x86_cpuid_get(const struct x86_cpuid *table, unsigned apic_id, bool osxsave, uint64_t xcr0,
                   uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct x86_cpuid_leaf *found = x86_cpuid_find(table, leaf, subleaf);

    for (unsigned i = 0; i < 4; i++)
        out[i] = leaf_register(found, (enum cpu_register)i);
    switch (leaf) {
    case 1:
        out[CPU_EBX] |= apic_id << 24;
        if (osxsave)
            out[CPU_ECX] |= LEAF_1_ECX_OSXSAVE;
        break;
    case 0xb:
    case 0x1f:
        if (!x86_cpuid_find(table, leaf, 0))
            break;
        out[CPU_ECX] = (out[CPU_ECX] & ~0xffu) | (subleaf & 0xff); /* also beyond the last level */
        out[CPU_EDX] = apic_id;
        break;
    case 0xd:
        if (found && subleaf <= 1)
            out[CPU_EBX] = xsave_size(table, xcr0, subleaf == 1);
        break;
    case 0x8000001e:
        if (!found)
            break;
        out[CPU_EAX] = apic_id;
        out[CPU_EBX] = apic_id & 0xff; /* core id; one thread a core */
        break;
    default:
        break;
    }
}
