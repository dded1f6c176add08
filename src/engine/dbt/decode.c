/* Decoding and classification; see decode.h. Called by the translator and slow.c with the vector
 * state put aside, since Zydis is ordinary library code. */
#include "engine/dbt/decode.h"

#include <string.h>

struct feature_bit {
    ZydisISAExt extension;
    uint32_t leaf;
    uint8_t reg; /* 0 eax .. 3 edx */
    uint8_t bit;
};

/* Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E for leaf 0x80000001. */
static const struct feature_bit feature_bits[] = {
    {ZYDIS_ISA_EXT_X87, 1, 3, 0},
    {ZYDIS_ISA_EXT_MMX, 1, 3, 23},
    {ZYDIS_ISA_EXT_SSE, 1, 3, 25},
    {ZYDIS_ISA_EXT_SSE2, 1, 3, 26},
    {ZYDIS_ISA_EXT_CLFSH, 1, 3, 19},
    {ZYDIS_ISA_EXT_SSE3, 1, 2, 0},
    {ZYDIS_ISA_EXT_PCLMULQDQ, 1, 2, 1},
    {ZYDIS_ISA_EXT_MONITOR, 1, 2, 3},
    {ZYDIS_ISA_EXT_SSSE3, 1, 2, 9},
    {ZYDIS_ISA_EXT_FMA, 1, 2, 12},
    {ZYDIS_ISA_EXT_SSE4, 1, 2, 19},
    {ZYDIS_ISA_EXT_MOVBE, 1, 2, 22},
    {ZYDIS_ISA_EXT_AES, 1, 2, 25},
    {ZYDIS_ISA_EXT_XSAVE, 1, 2, 26},
    {ZYDIS_ISA_EXT_AVX, 1, 2, 28},
    {ZYDIS_ISA_EXT_F16C, 1, 2, 29},
    {ZYDIS_ISA_EXT_RDRAND, 1, 2, 30},
    {ZYDIS_ISA_EXT_AVXAES, 1, 2, 25},
    {ZYDIS_ISA_EXT_RDWRFSGS, 7, 1, 0},
    {ZYDIS_ISA_EXT_BMI1, 7, 1, 3},
    {ZYDIS_ISA_EXT_AVX2, 7, 1, 5},
    {ZYDIS_ISA_EXT_AVX2GATHER, 7, 1, 5},
    {ZYDIS_ISA_EXT_BMI2, 7, 1, 8},
    {ZYDIS_ISA_EXT_INVPCID, 7, 1, 10},
    {ZYDIS_ISA_EXT_RDSEED, 7, 1, 18},
    {ZYDIS_ISA_EXT_ADOX_ADCX, 7, 1, 19},
    {ZYDIS_ISA_EXT_SMAP, 7, 1, 20},
    {ZYDIS_ISA_EXT_CLFLUSHOPT, 7, 1, 23},
    {ZYDIS_ISA_EXT_CLWB, 7, 1, 24},
    {ZYDIS_ISA_EXT_SHA, 7, 1, 29},
    {ZYDIS_ISA_EXT_GFNI, 7, 2, 8},
    {ZYDIS_ISA_EXT_VAES, 7, 2, 9},
    {ZYDIS_ISA_EXT_VPCLMULQDQ, 7, 2, 10},
    {ZYDIS_ISA_EXT_RDPID, 7, 2, 22},
    {ZYDIS_ISA_EXT_LZCNT, 0x80000001, 2, 5},
    {ZYDIS_ISA_EXT_LONGMODE, 0x80000001, 3, 29},
    {ZYDIS_ISA_EXT_RDTSCP, 0x80000001, 3, 27},
    {ZYDIS_ISA_EXT_SSE4A, 0x80000001, 2, 6},
};

static bool cpuid_bit(const struct x86_cpuid *cpuid, uint32_t leaf, unsigned reg, unsigned bit)
{
    const struct x86_cpuid_leaf *l = x86_cpuid_find(cpuid, leaf, 0);

    if (!l)
        return false;
    const uint32_t value[4] = {l->eax, l->ebx, l->ecx, l->edx};

    return value[reg] >> bit & 1;
}

void decode_features_init(struct decode_features *features, const struct x86_cpuid *cpuid)
{
    memset(features, 0, sizeof(*features));
    features->extension[ZYDIS_ISA_EXT_INVALID] = true;
    features->extension[ZYDIS_ISA_EXT_BASE] = true;
    features->extension[ZYDIS_ISA_EXT_PAUSE] = true;
    features->extension[ZYDIS_ISA_EXT_AMD3DNOW_PREFETCH] = true;
    features->extension[ZYDIS_ISA_EXT_PREFETCHWT1] = true;
    for (unsigned i = 0; i < ARRAY_SIZE(feature_bits); i++)
        features->extension[feature_bits[i].extension] =
            cpuid_bit(cpuid, feature_bits[i].leaf, feature_bits[i].reg, feature_bits[i].bit);

    const struct x86_cpuid_leaf *d1 = x86_cpuid_find(cpuid, 0xd, 1);

    features->extension[ZYDIS_ISA_EXT_XSAVEOPT] = d1 && (d1->eax & 1);
    features->extension[ZYDIS_ISA_EXT_XSAVEC] = d1 && (d1->eax & 2);
    features->extension[ZYDIS_ISA_EXT_XSAVES] = d1 && (d1->eax & 8);
    features->lzcnt = features->extension[ZYDIS_ISA_EXT_LZCNT];
    features->tzcnt = features->extension[ZYDIS_ISA_EXT_BMI1];
    features->cx16 = cpuid_bit(cpuid, 1, 2, 13);
    features->amd = x86_cpuid_find(cpuid, 0, 0) &&
                    x86_cpuid_find(cpuid, 0, 0)->ecx == 0x444d4163; /* AuthentiCAMD */
    features->popcnt = cpuid_bit(cpuid, 1, 2, 23);
}

static void decoder_of(ZydisDecoder *decoder, const struct decode_features *features, uint32_t mode)
{
    if (mode & DBT_MODE_CODE64)
        ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    else if (mode & DBT_MODE_CODE32)
        ZydisDecoderInit(decoder,
                         mode & DBT_MODE_LMA ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32
                                             : ZYDIS_MACHINE_MODE_LEGACY_32,
                         mode & DBT_MODE_STACK32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16);
    else
        ZydisDecoderInit(decoder,
                         mode & DBT_MODE_LMA ? ZYDIS_MACHINE_MODE_LONG_COMPAT_16
                         : mode & DBT_MODE_PROTECTED && !(mode & DBT_MODE_VM86)
                             ? ZYDIS_MACHINE_MODE_LEGACY_16
                             : ZYDIS_MACHINE_MODE_REAL_16,
                         mode & DBT_MODE_STACK32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16);
    /* Extensions that share opcodes with the hint NOPs: without them they are NOPs. */
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_LZCNT, features->lzcnt);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_TZCNT, features->tzcnt);
}

static bool is_system_register(const struct decoded *d)
{
    for (unsigned i = 0; i < d->z.operand_count_visible; i++) {
        if (d->operand[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        switch (ZydisRegisterGetClass(d->operand[i].reg.value)) {
        case ZYDIS_REGCLASS_SEGMENT:
        case ZYDIS_REGCLASS_CONTROL:
        case ZYDIS_REGCLASS_DEBUG:
            return true;
        default:
            break;
        }
    }
    return false;
}

#define ANY_REP (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)

static bool is_far(const struct decoded *d)
{
    return d->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

/* MOVS or STOS with REP and 64-bit addresses. */
static bool is_rep_move_or_store(const ZydisDecodedInstruction *z)
{
    return ((z->opcode & 0xfe) == 0xa4 || (z->opcode & 0xfe) == 0xaa) && z->address_width == 64 &&
           (z->attributes & ZYDIS_ATTRIB_HAS_REP);
}

/* MOV from a control register that is but a field of the vCPU. */
static bool is_cr_read(const struct decoded *d, uint32_t mode)
{
    if (!(mode & DBT_MODE_CODE64) || (mode & DBT_MODE_CPL_MASK) ||
        d->operand[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
        return false;
    switch (d->operand[1].reg.value) {
    case ZYDIS_REGISTER_CR0:
    case ZYDIS_REGISTER_CR2:
    case ZYDIS_REGISTER_CR3:
    case ZYDIS_REGISTER_CR4:
        return true;
    default:
        return false;
    }
}

/* STAC and CLAC open and close SMAP, and that is all they do to the mode. */
static bool can_switch_ac(uint32_t mode)
{
    return !(mode & (DBT_MODE_CPL_MASK | DBT_MODE_VM86 | DBT_MODE_NO_SMAP));
}

static enum insn_class in_c(const struct decoded *d)
{
    struct insn insn = {.mnemonic = d->z.mnemonic};

    decode_to_insn(d, NULL, &insn);
    return insn_ends_block(&insn) ? INSN_IN_C_END : INSN_IN_C;
}

static bool is_segment(const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

/* Segments are loaded by the rules of real and virtual-8086 mode. 32-bit code, just before it
 * leaves real mode, may depend on flat segments. */
static bool has_simple_segments(uint32_t mode)
{
    bool descriptors = (mode & DBT_MODE_PROTECTED) && !(mode & DBT_MODE_VM86);

    return !descriptors && !(mode & (DBT_MODE_CODE32 | DBT_MODE_ALIGN));
}

static bool is_simple_segment_load(const struct decoded *d, uint32_t mode)
{
    return is_segment(&d->operand[0]) && d->operand[0].reg.value != ZYDIS_REGISTER_CS &&
           d->operand[0].reg.value != ZYDIS_REGISTER_SS && has_simple_segments(mode);
}

static bool is_simple_far(const struct decoded *d, uint32_t mode)
{
    return is_far(d) && d->z.operand_width == 16 && has_simple_segments(mode);
}

static enum insn_class classify(const struct decoded *d, const struct decode_features *features,
                                uint32_t mode)
{
    const ZydisDecodedInstruction *z = &d->z;
    bool code64 = mode & DBT_MODE_CODE64;
    /* Which pushes, pops and near branches are native; their C versions check alignment, and know
     * what an operand size prefix means to 64-bit code. */
    bool stack_native = !(mode & DBT_MODE_ALIGN);
    bool natural = z->operand_width == 64 || !code64;

    /* Of the virtualization extensions only the way out to the hypervisor is there. */
    if (z->mnemonic == ZYDIS_MNEMONIC_VMCALL || z->mnemonic == ZYDIS_MNEMONIC_VMMCALL)
        return in_c(d);
    if (!features->extension[z->meta.isa_ext])
        return INSN_UNDEFINED;
    if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
        z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
        return INSN_UNDEFINED;
    if (z->meta.isa_set == ZYDIS_ISA_SET_POPCNT && !features->popcnt)
        return INSN_UNDEFINED;

    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_NOP:
        /* PREFETCHW and its like with a register are NOPs only to Intel. */
        if (features->amd && z->opcode_map == ZYDIS_OPCODE_MAP_0F && z->opcode == 0x0d &&
            !d->memory)
            return INSN_UNDEFINED;
        return INSN_NOTHING;
    case ZYDIS_MNEMONIC_ENDBR32:
    case ZYDIS_MNEMONIC_ENDBR64:
        return INSN_NOTHING;
    case ZYDIS_MNEMONIC_LEA:
        return INSN_LEA;
    case ZYDIS_MNEMONIC_PUSH:
        if (!stack_native || !(natural || (z->operand_width == 16 && !d->memory)))
            return in_c(d);
        return INSN_PUSH;
    case ZYDIS_MNEMONIC_MOV:
        if (is_segment(&d->operand[1]))
            return d->memory && !stack_native ? in_c(d) : INSN_SEGMENT_STORE;
        if (is_simple_segment_load(d, mode))
            return INSN_SEGMENT_LOAD;
        if (is_cr_read(d, mode))
            return INSN_CR_READ;
        return is_system_register(d) ? in_c(d) : INSN_NATIVE;
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
        return stack_native ? INSN_PUSHA : in_c(d);
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
        return stack_native ? INSN_POPA : in_c(d);
    case ZYDIS_MNEMONIC_POP:
        if (is_simple_segment_load(d, mode))
            return INSN_SEGMENT_LOAD;
        if (is_system_register(d) || d->memory || !stack_native || !natural ||
            d->operand[0].reg.value == ZYDIS_REGISTER_SP)
            return in_c(d);
        return INSN_POP;
    case ZYDIS_MNEMONIC_LEAVE:
        return stack_native && natural && z->operand_width == z->stack_width ? INSN_LEAVE : in_c(d);
    case ZYDIS_MNEMONIC_CALL:
        if (is_simple_far(d, mode))
            return INSN_FAR;
        if (is_far(d) || !stack_native || !natural)
            return INSN_IN_C_END;
        return z->raw.imm[0].is_relative ? INSN_CALL : INSN_CALL_INDIRECT;
    case ZYDIS_MNEMONIC_JMP:
        if (is_simple_far(d, mode))
            return INSN_FAR;
        if (is_far(d) || !natural)
            return INSN_IN_C_END;
        if (z->raw.imm[0].is_relative)
            return INSN_JMP;
        return d->memory && (mode & DBT_MODE_ALIGN) ? INSN_IN_C_END : INSN_JMP_INDIRECT;
    case ZYDIS_MNEMONIC_RET:
        if (is_simple_far(d, mode))
            return INSN_FAR;
        return !is_far(d) && stack_native && natural ? INSN_RET : INSN_IN_C_END;
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        return natural ? INSN_JRCXZ : INSN_IN_C_END;
    case ZYDIS_MNEMONIC_LOOP:
        return natural ? INSN_LOOP : INSN_IN_C_END;
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
        return INSN_IN_C_END;
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
        return d->memory && d->operand[1].type == ZYDIS_OPERAND_TYPE_REGISTER ? INSN_BIT_MEMORY
                                                                              : INSN_NATIVE;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FNINIT:
        return INSN_IMAGE;
    case ZYDIS_MNEMONIC_CLI:
        return (mode & DBT_MODE_CPL_MASK) == 0 && !(mode & DBT_MODE_VM86) ? INSN_CLI : in_c(d);
    case ZYDIS_MNEMONIC_STI:
        return (mode & DBT_MODE_CPL_MASK) == 0 && !(mode & DBT_MODE_VM86) ? INSN_STI : in_c(d);
    case ZYDIS_MNEMONIC_STAC:
        return can_switch_ac(mode) ? INSN_STAC : in_c(d);
    case ZYDIS_MNEMONIC_CLAC:
        return can_switch_ac(mode) ? INSN_CLAC : in_c(d);
    case ZYDIS_MNEMONIC_SYSCALL:
        return code64 && (mode & DBT_MODE_CPL_MASK) == 3 ? INSN_SYSCALL : in_c(d);
    case ZYDIS_MNEMONIC_SYSRET:
        return code64 && (mode & DBT_MODE_CPL_MASK) == 0 && z->operand_width == 64 ? INSN_SYSRET
                                                                                   : in_c(d);
    case ZYDIS_MNEMONIC_SWAPGS:
        return (mode & DBT_MODE_CPL_MASK) == 0 ? INSN_SWAPGS : in_c(d);
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
        /* RF, which the image leaves out, is set only while debugging. */
        return stack_native && natural && !(mode & (DBT_MODE_VM86 | DBT_MODE_DEBUG)) ? INSN_PUSHF
                                                                                     : in_c(d);
    case ZYDIS_MNEMONIC_RDTSC:
        return (mode & DBT_MODE_CPL_MASK) == 0 ? INSN_RDTSC : in_c(d);
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_VPINSRD:
        /* With W, the quadword forms, which only 64-bit code has. */
        return features->amd && !code64 && z->raw.vex.W ? INSN_UNDEFINED : INSN_NATIVE;
    case ZYDIS_MNEMONIC_CMPXCHG16B:
        return features->cx16 ? INSN_NATIVE : INSN_UNDEFINED;
    case ZYDIS_MNEMONIC_PAUSE:
        return INSN_PAUSE;
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
    case ZYDIS_MNEMONIC_CLFLUSH:
    case ZYDIS_MNEMONIC_CLC:
    case ZYDIS_MNEMONIC_CMC:
    case ZYDIS_MNEMONIC_STC:
    case ZYDIS_MNEMONIC_CLD:
    case ZYDIS_MNEMONIC_STD:
    case ZYDIS_MNEMONIC_LAHF:
    case ZYDIS_MNEMONIC_SAHF:
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_STMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
    case ZYDIS_MNEMONIC_VSTMXCSR:
    case ZYDIS_MNEMONIC_EMMS:
        return INSN_NATIVE;
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
        return INSN_SLOW;
    case ZYDIS_MNEMONIC_XLAT:
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_BOUND:
    case ZYDIS_MNEMONIC_ARPL:
    case ZYDIS_MNEMONIC_SALC:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_XGETBV:
    case ZYDIS_MNEMONIC_XSETBV:
        return in_c(d);
    default:
        break;
    }

    if (z->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED)
        return in_c(d);
    switch (z->meta.category) {
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_UNCOND_BR:
        return INSN_IN_C_END;
    case ZYDIS_CATEGORY_COND_BR:
        return natural ? INSN_JCC : INSN_IN_C_END;
    case ZYDIS_CATEGORY_PREFETCH:
    case ZYDIS_CATEGORY_PREFETCHWT1:
    case ZYDIS_CATEGORY_WIDENOP:
    case ZYDIS_CATEGORY_NOP:
        return INSN_NOTHING;
    case ZYDIS_CATEGORY_AVX2GATHER:
        return INSN_SLOW;
    case ZYDIS_CATEGORY_STRINGOP:
        if (!(z->attributes & ANY_REP) && !(mode & DBT_MODE_ALIGN))
            return INSN_STRING;
        return code64 && is_rep_move_or_store(z) && !(mode & DBT_MODE_ALIGN) ? INSN_REP : in_c(d);
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_SEGOP:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_DECIMAL:
    case ZYDIS_CATEGORY_SMAP:
    case ZYDIS_CATEGORY_RDWRFSGS:
    case ZYDIS_CATEGORY_RDPID:
    case ZYDIS_CATEGORY_VTX:
    case ZYDIS_CATEGORY_MISC:
        return in_c(d);
    default:
        return is_system_register(d) ? in_c(d) : INSN_NATIVE;
    }
}

static uint32_t flags_certainly_written(const struct decoded *d)
{
    const ZydisAccessedFlags *f = d->z.cpu_flags;
    uint32_t written;

    if (!f || (d->z.attributes & ANY_REP))
        return 0;
    written = (f->modified | f->set_0 | f->set_1 | f->undefined) & FLAGS_ARITH;
    switch (d->z.meta.category) {
    case ZYDIS_CATEGORY_SHIFT:
    case ZYDIS_CATEGORY_ROTATE: {
        /* A count of zero leaves the flags alone. */
        const ZydisDecodedOperand *count = &d->operand[d->z.operand_count_visible - 1];
        unsigned mask = d->z.operand_width == 64 ? 63 : 31;

        if (d->z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
            return written;
        if (count->type != ZYDIS_OPERAND_TYPE_IMMEDIATE || !(count->imm.value.u & mask))
            return 0;
        return written;
    }
    default:
        return written;
    }
}

static const ZydisDecodedOperand *explicit_memory(const struct decoded *d)
{
    for (unsigned i = 0; i < d->z.operand_count; i++)
        if (d->operand[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            d->operand[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
            return &d->operand[i];
    return NULL;
}

/* Zydis takes a SIB byte's base 5 for R13 where REX.B is set although mod is 0: there is none,
 * then, but a 32-bit displacement (Intel SDM volume 2, table 2-3). */
static void correct_base(struct decoded *d)
{
    const ZydisDecodedInstruction *z = &d->z;

    if (!(z->attributes & ZYDIS_ATTRIB_HAS_SIB) || z->raw.modrm.mod != 0 || z->raw.sib.base != 5)
        return;
    for (unsigned i = 0; i < z->operand_count; i++) {
        ZydisDecodedOperandMem *mem = &d->operand[i].mem;

        if (d->operand[i].type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        mem->base = ZYDIS_REGISTER_NONE;
        mem->disp.has_displacement = ZYAN_TRUE;
        mem->disp.value = z->raw.disp.value;
    }
}

/* Relative branches with an immediate of the operand's size: CALL, JMP, Jcc. */
static bool has_wide_displacement(const ZydisDecodedInstruction *z)
{
    return z->raw.imm[0].is_relative && z->raw.imm[0].size == 32;
}

/*
 * Where AMD's processors read 64-bit code in another way than Intel's, which Zydis describes (AMD
 * APM volume 3): the operand-size prefix makes near branches 16 bits wide, displacement and all,
 * and far pointers in memory have no 64-bit offset.
 */
static void decode_amd(struct decoded *d)
{
    ZydisDecodedInstruction *z = &d->z;
    bool prefix = (z->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) && !z->raw.rex.W;

    switch (z->meta.branch_type) {
    case ZYDIS_BRANCH_TYPE_SHORT:
    case ZYDIS_BRANCH_TYPE_NEAR:
        if (!prefix)
            return;
        z->operand_width = 16;
        if (has_wide_displacement(z)) {
            z->length -= 2;
            z->raw.imm[0].size = 16;
            z->raw.imm[0].value.s = (int16_t)z->raw.imm[0].value.s;
        }
        return;
    default:
        break;
    }
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS:
        if (z->operand_width == 64)
            z->operand_width = 32;
        break;
    default:
        break;
    }
}

/* With REX.B, 90 is XCHG with R8, even behind F3, where Zydis sees PAUSE. F3 is taken out. */
static ZyanStatus decode_exchange(struct decoded *d, const ZydisDecoder *decoder,
                                  const uint8_t *bytes)
{
    uint8_t plain[15];

    for (unsigned i = 0; i < d->z.length; i++)
        plain[i] = bytes[i] == 0xf3 ? 0x2e : bytes[i]; /* a segment override is without effect */
    return ZydisDecoderDecodeFull(decoder, plain, d->z.length, &d->z, d->operand);
}

bool decode_one(struct decoded *d, const struct decode_features *features, uint32_t mode,
                const uint8_t *bytes, unsigned available, bool *too_short)
{
    ZydisDecoder decoder;
    ZyanStatus status;

    decoder_of(&decoder, features, mode);
    status = ZydisDecoderDecodeFull(&decoder, bytes, available, &d->z, d->operand);
    if (ZYAN_SUCCESS(status) && d->z.mnemonic == ZYDIS_MNEMONIC_PAUSE && d->z.raw.rex.B)
        status = decode_exchange(d, &decoder, bytes);
    *too_short = status == ZYDIS_STATUS_NO_MORE_DATA || status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
    if (!ZYAN_SUCCESS(status))
        return false;
    correct_base(d);
    d->memory = explicit_memory(d);
    if (features->amd && (mode & DBT_MODE_CODE64))
        decode_amd(d);
    d->class = classify(d, features, mode);
    d->flags_read = d->z.cpu_flags ? d->z.cpu_flags->tested & FLAGS_ARITH : 0;
    d->flags_written = flags_certainly_written(d);
    if (d->class == INSN_PUSHF)
        d->flags_read = FLAGS_ARITH;
    switch (d->class) {
    case INSN_IN_C:
    case INSN_IN_C_END:
    case INSN_SLOW:
    case INSN_UNDEFINED:
    case INSN_SYSCALL:
    case INSN_SYSRET:
        /* C code and exception frames see all flags. */
        d->flags_read = FLAGS_ARITH;
        break;
    default:
        break;
    }
    return true;
}

bool decode_ends_block(const struct decoded *d)
{
    switch (d->class) {
    case INSN_NATIVE:
    case INSN_NOTHING:
    case INSN_IN_C:
    case INSN_LEA:
    case INSN_PUSH:
    case INSN_POP:
    case INSN_LEAVE:
    case INSN_PUSHA:
    case INSN_POPA:
    case INSN_STRING:
    case INSN_SEGMENT_STORE:
    case INSN_SEGMENT_LOAD:
    case INSN_BIT_MEMORY:
    case INSN_IMAGE:
    case INSN_REP:
    case INSN_CR_READ:
    case INSN_STAC:
    case INSN_CLAC:
    case INSN_CLI:
    case INSN_STI:
    case INSN_SWAPGS:
    case INSN_PUSHF:
    case INSN_RDTSC:
    case INSN_PAUSE:
        return false;
    default:
        return true;
    }
}

bool decode_is_x87(const struct decoded *d)
{
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSTSW:
        return false;
    case ZYDIS_MNEMONIC_FISTTP:
        return true;
    default:
        break;
    }
    if (d->z.meta.isa_ext == ZYDIS_ISA_EXT_X87)
        return true;
    for (unsigned i = 0; i < d->z.operand_count; i++)
        if (d->operand[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(d->operand[i].reg.value) == ZYDIS_REGCLASS_MMX)
            return true;
    return false;
}

bool decode_is_xsave(const struct decoded *d)
{
    switch (d->z.meta.isa_ext) {
    case ZYDIS_ISA_EXT_XSAVE:
    case ZYDIS_ISA_EXT_XSAVEC:
    case ZYDIS_ISA_EXT_XSAVEOPT:
        return d->class == INSN_IMAGE;
    default:
        return false;
    }
}

unsigned decode_gpr_number(ZydisRegister reg)
{
    if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
        return reg - ZYDIS_REGISTER_SPL + 4;
    return (unsigned)ZydisRegisterGetId(reg);
}

uint8_t decode_segment_number(ZydisRegister segment)
{
    switch (segment) {
    case ZYDIS_REGISTER_ES:
        return X86_ES;
    case ZYDIS_REGISTER_CS:
        return X86_CS;
    case ZYDIS_REGISTER_SS:
        return X86_SS;
    case ZYDIS_REGISTER_FS:
        return X86_FS;
    case ZYDIS_REGISTER_GS:
        return X86_GS;
    default:
        return X86_DS;
    }
}

static uint8_t address_register(ZydisRegister reg)
{
    if (reg == ZYDIS_REGISTER_NONE)
        return INSN_NO_REGISTER;
    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
        return INSN_RIP;
    return (uint8_t)decode_gpr_number(reg);
}

void decode_to_insn(const struct decoded *d, const uint8_t *bytes, struct insn *insn)
{
    const ZydisDecodedInstruction *z = &d->z;
    bool rex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
    bool far_pointer = false;
    const ZydisDecodedOperand *memory = d->memory;

    memset(insn, 0, sizeof(*insn));
    insn->mnemonic = (uint16_t)z->mnemonic;
    insn->length = z->length;
    insn->operand_width = z->operand_width;
    insn->address_width = z->address_width;
    insn->opcode = z->opcode;
    insn->opcode_map = (uint8_t)z->opcode_map;
    insn->lock = z->attributes & ZYDIS_ATTRIB_HAS_LOCK;
    insn->rep = z->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE);
    insn->repne = z->attributes & ZYDIS_ATTRIB_HAS_REPNE;
    insn->has_modrm = z->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    insn->mod = z->raw.modrm.mod;
    insn->reg = z->raw.modrm.reg | (rex ? z->raw.rex.R << 3 : 0);
    insn->rm = z->raw.modrm.rm | (rex ? z->raw.rex.B << 3 : 0);
    /* String instructions have hidden memory operands; the overridable one is DS:rSI. */
    insn->memory.segment = X86_DS;
    for (unsigned i = 0; i < z->operand_count; i++) {
        const ZydisDecodedOperand *o = &d->operand[i];

        if (o->type == ZYDIS_OPERAND_TYPE_POINTER) {
            far_pointer = true;
            insn->imm = o->ptr.offset;
            insn->imm2 = o->ptr.segment;
        }
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && !memory &&
            (o->mem.base == ZYDIS_REGISTER_SI || o->mem.base == ZYDIS_REGISTER_ESI ||
             o->mem.base == ZYDIS_REGISTER_RSI || o->mem.base == ZYDIS_REGISTER_BX ||
             o->mem.base == ZYDIS_REGISTER_EBX || o->mem.base == ZYDIS_REGISTER_RBX))
            insn->memory.segment = decode_segment_number(o->mem.segment);
    }
    if (memory) {
        insn->has_memory = true;
        insn->memory = (struct insn_memory){
            .segment = decode_segment_number(memory->mem.segment),
            .base = address_register(memory->mem.base),
            .index = address_register(memory->mem.index),
            .scale = memory->mem.scale ? memory->mem.scale : 1,
            .displacement = memory->mem.disp.value,
        };
        if (!memory->mem.disp.has_displacement)
            insn->memory.displacement = 0;
    }
    if (!far_pointer) {
        insn->imm =
            z->raw.imm[0].is_signed ? (uint64_t)z->raw.imm[0].value.s : z->raw.imm[0].value.u;
        insn->imm2 = z->raw.imm[1].value.u;
    }
    if (bytes)
        memcpy(insn->bytes, bytes, z->length);
}
