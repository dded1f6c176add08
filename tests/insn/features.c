/*
 * Instruction set extensions and where CPUID shows them (Intel SDM volume 2, CPUID; AMD APM volume
 * 3, appendix E). Written apart from the engine's own table (src/engine/dbt/decode.c), which it
 * tests.
 */
#include <cpuid.h>
#include <string.h>

#include "insn.h"

enum reg { EAX, EBX, ECX, EDX };

static const struct {
    ZydisISASet set;
    uint32_t leaf, subleaf;
    enum reg reg;
    unsigned bit;
} set_bits[] = {
    {ZYDIS_ISA_SET_SSE3, 1, 0, ECX, 0},
    {ZYDIS_ISA_SET_SSE3X87, 1, 0, ECX, 0},
    {ZYDIS_ISA_SET_PCLMULQDQ, 1, 0, ECX, 1},
    {ZYDIS_ISA_SET_MONITOR, 1, 0, ECX, 3},
    {ZYDIS_ISA_SET_VTX, 1, 0, ECX, 5},
    {ZYDIS_ISA_SET_SMX, 1, 0, ECX, 6},
    {ZYDIS_ISA_SET_SSSE3, 1, 0, ECX, 9},
    {ZYDIS_ISA_SET_SSSE3MMX, 1, 0, ECX, 9},
    {ZYDIS_ISA_SET_FMA, 1, 0, ECX, 12},
    {ZYDIS_ISA_SET_CMPXCHG16B, 1, 0, ECX, 13},
    {ZYDIS_ISA_SET_SSE4, 1, 0, ECX, 19},
    {ZYDIS_ISA_SET_SSE42, 1, 0, ECX, 20},
    {ZYDIS_ISA_SET_MOVBE, 1, 0, ECX, 22},
    {ZYDIS_ISA_SET_POPCNT, 1, 0, ECX, 23},
    {ZYDIS_ISA_SET_AES, 1, 0, ECX, 25},
    {ZYDIS_ISA_SET_AVXAES, 1, 0, ECX, 25},
    {ZYDIS_ISA_SET_XSAVE, 1, 0, ECX, 26},
    {ZYDIS_ISA_SET_AVX, 1, 0, ECX, 28},
    {ZYDIS_ISA_SET_F16C, 1, 0, ECX, 29},
    {ZYDIS_ISA_SET_RDWRFSGS, 7, 0, EBX, 0},
    {ZYDIS_ISA_SET_BMI1, 7, 0, EBX, 3},
    {ZYDIS_ISA_SET_AVX2, 7, 0, EBX, 5},
    {ZYDIS_ISA_SET_AVX2GATHER, 7, 0, EBX, 5},
    {ZYDIS_ISA_SET_BMI2, 7, 0, EBX, 8},
    {ZYDIS_ISA_SET_INVPCID, 7, 0, EBX, 10},
    {ZYDIS_ISA_SET_RTM, 7, 0, EBX, 11},
    {ZYDIS_ISA_SET_ADOX_ADCX, 7, 0, EBX, 19},
    {ZYDIS_ISA_SET_SMAP, 7, 0, EBX, 20},
    {ZYDIS_ISA_SET_CLFLUSHOPT, 7, 0, EBX, 23},
    {ZYDIS_ISA_SET_CLWB, 7, 0, EBX, 24},
    {ZYDIS_ISA_SET_SHA, 7, 0, EBX, 29},
    {ZYDIS_ISA_SET_PKU, 7, 0, ECX, 4}, /* OSPKE */
    {ZYDIS_ISA_SET_WAITPKG, 7, 0, ECX, 5},
    {ZYDIS_ISA_SET_GFNI, 7, 0, ECX, 8},
    {ZYDIS_ISA_SET_AVX_GFNI, 7, 0, ECX, 8},
    {ZYDIS_ISA_SET_VAES, 7, 0, ECX, 9},
    {ZYDIS_ISA_SET_VPCLMULQDQ, 7, 0, ECX, 10},
    {ZYDIS_ISA_SET_KEYLOCKER, 7, 0, ECX, 23},
    {ZYDIS_ISA_SET_KEYLOCKER_WIDE, 7, 0, ECX, 23},
    {ZYDIS_ISA_SET_MOVDIR, 7, 0, ECX, 27},
    {ZYDIS_ISA_SET_ENQCMD, 7, 0, ECX, 29},
    {ZYDIS_ISA_SET_UINTR, 7, 0, EDX, 5},
    {ZYDIS_ISA_SET_SERIALIZE, 7, 0, EDX, 14},
    {ZYDIS_ISA_SET_TSX_LDTRK, 7, 0, EDX, 16},
    {ZYDIS_ISA_SET_PCONFIG, 7, 0, EDX, 18},
    {ZYDIS_ISA_SET_AVX_VNNI, 7, 1, EAX, 4},
    {ZYDIS_ISA_SET_HRESET, 7, 1, EAX, 22},
    {ZYDIS_ISA_SET_XSAVEOPT, 0xd, 1, EAX, 0},
    {ZYDIS_ISA_SET_XSAVEC, 0xd, 1, EAX, 1},
    {ZYDIS_ISA_SET_XSAVES, 0xd, 1, EAX, 3},
    {ZYDIS_ISA_SET_LAHF, 0x80000001, 0, ECX, 0},
    {ZYDIS_ISA_SET_SVM, 0x80000001, 0, ECX, 2},
    {ZYDIS_ISA_SET_LZCNT, 0x80000001, 0, ECX, 5},
    {ZYDIS_ISA_SET_SSE4A, 0x80000001, 0, ECX, 6},
    {ZYDIS_ISA_SET_XOP, 0x80000001, 0, ECX, 11},
    {ZYDIS_ISA_SET_LWP, 0x80000001, 0, ECX, 15},
    {ZYDIS_ISA_SET_FMA4, 0x80000001, 0, ECX, 16},
    {ZYDIS_ISA_SET_TBM, 0x80000001, 0, ECX, 21},
    {ZYDIS_ISA_SET_MONITORX, 0x80000001, 0, ECX, 29},
    {ZYDIS_ISA_SET_AMD3DNOW, 0x80000001, 0, EDX, 31},
    {ZYDIS_ISA_SET_CLZERO, 0x80000008, 0, EBX, 0},
    {ZYDIS_ISA_SET_AMD_INVLPGB, 0x80000008, 0, EBX, 3},
    {ZYDIS_ISA_SET_RDPRU, 0x80000008, 0, EBX, 4},
    {ZYDIS_ISA_SET_MCOMMIT, 0x80000008, 0, EBX, 8},
    {ZYDIS_ISA_SET_SNP, 0x8000001f, 0, EAX, 4},
};

static bool has_bit(const struct x86_cpuid *cpuid, uint32_t leaf, uint32_t subleaf, enum reg reg,
                    unsigned bit)
{
    const struct x86_cpuid_leaf *l = x86_cpuid_find(cpuid, leaf, subleaf);

    if (!l)
        return false;
    const uint32_t value[] = {l->eax, l->ebx, l->ecx, l->edx};

    return value[reg] >> bit & 1;
}

bool feature_hidden(const struct x86_cpuid *cpuid, ZydisISASet set, ZydisISAExt ext)
{
    switch (ext) {
    case ZYDIS_ISA_EXT_AVX512EVEX:
    case ZYDIS_ISA_EXT_AVX512VEX:
        return !has_bit(cpuid, 7, 0, EBX, 16);
    case ZYDIS_ISA_EXT_AMX_BF16:
    case ZYDIS_ISA_EXT_AMX_INT8:
    case ZYDIS_ISA_EXT_AMX_TILE:
        return !has_bit(cpuid, 7, 0, EDX, 24);
    default:
        break;
    }
    for (size_t i = 0; i < ARRAY_SIZE(set_bits); i++)
        if (set_bits[i].set == set)
            return !has_bit(cpuid, set_bits[i].leaf, set_bits[i].subleaf, set_bits[i].reg,
                            set_bits[i].bit);
    return false;
}

void native_cpuid(struct x86_cpuid *cpuid)
{
    cpuid->count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(set_bits); i++) {
        struct x86_cpuid_leaf leaf = {
            .leaf = set_bits[i].leaf, .subleaf = set_bits[i].subleaf, .has_subleaf = true};

        if (x86_cpuid_find(cpuid, leaf.leaf, leaf.subleaf))
            continue;
        if (__get_cpuid_count(leaf.leaf, leaf.subleaf, &leaf.eax, &leaf.ebx, &leaf.ecx, &leaf.edx))
            x86_cpuid_add(cpuid, &leaf);
    }
}
