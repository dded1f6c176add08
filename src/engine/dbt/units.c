/*
 * Which vector unit (x87, MMX, SSE, AVX, XSAVE) an instruction needs, and whether the guest has it
 * switched off: Intel SDM volume 3, 2.5 (CR0.EM, MP, TS), 14.1 (CR4.OSFXSR, OSXSAVE) and table 2-2.
 */
#include "engine/dbt/dispatch.h"
#include "engine/dbt/translator.h"

/* Instructions that came with SSE but work on MMX registers alone need no CR4.OSFXSR. */
static bool is_mmx_form(const struct decoded *d)
{
    bool mmx = false;

    for (unsigned i = 0; i < d->z.operand_count; i++) {
        if (d->operand[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        switch (ZydisRegisterGetClass(d->operand[i].reg.value)) {
        case ZYDIS_REGCLASS_MMX:
            mmx = true;
            break;
        case ZYDIS_REGCLASS_XMM:
            return false;
        default:
            break;
        }
    }
    return mmx;
}

bool unit_of(const struct decoded *d, enum vector_unit *unit)
{
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
        *unit = UNIT_FXSAVE;
        return true;
    case ZYDIS_MNEMONIC_FISTTP:
        *unit = UNIT_X87;
        return true;
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
    case ZYDIS_MNEMONIC_MOVNTI:
    case ZYDIS_MNEMONIC_CLFLUSH:
    case ZYDIS_MNEMONIC_PAUSE:
    case ZYDIS_MNEMONIC_CRC32:
    case ZYDIS_MNEMONIC_POPCNT:
        return false;
    default:
        break;
    }
    if (d->class == INSN_NOTHING || d->class == INSN_IN_C || d->class == INSN_IN_C_END)
        return false;
    switch (d->z.meta.isa_ext) {
    case ZYDIS_ISA_EXT_X87:
        *unit = UNIT_X87;
        return true;
    case ZYDIS_ISA_EXT_MMX:
        *unit = UNIT_MMX;
        return true;
    case ZYDIS_ISA_EXT_XSAVE:
    case ZYDIS_ISA_EXT_XSAVEC:
    case ZYDIS_ISA_EXT_XSAVEOPT:
        *unit = UNIT_XSAVE;
        return true;
    case ZYDIS_ISA_EXT_SSE:
    case ZYDIS_ISA_EXT_SSE2:
    case ZYDIS_ISA_EXT_SSE3:
    case ZYDIS_ISA_EXT_SSSE3:
    case ZYDIS_ISA_EXT_SSE4:
    case ZYDIS_ISA_EXT_SSE4A:
    case ZYDIS_ISA_EXT_AES:
    case ZYDIS_ISA_EXT_PCLMULQDQ:
    case ZYDIS_ISA_EXT_SHA:
        *unit = is_mmx_form(d) ? UNIT_MMX : UNIT_SSE;
        return true;
    case ZYDIS_ISA_EXT_AVX:
    case ZYDIS_ISA_EXT_AVX2:
    case ZYDIS_ISA_EXT_AVX2GATHER:
    case ZYDIS_ISA_EXT_AVXAES:
    case ZYDIS_ISA_EXT_FMA:
    case ZYDIS_ISA_EXT_F16C:
    case ZYDIS_ISA_EXT_VAES:
    case ZYDIS_ISA_EXT_VPCLMULQDQ:
        *unit = UNIT_AVX;
        return true;
    case ZYDIS_ISA_EXT_GFNI:
        *unit = d->z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? UNIT_AVX : UNIT_SSE;
        return true;
    default:
        return false;
    }
}

bool unit_is_off(uint32_t mode, const struct decoded *d, enum vector_unit *unit)
{
    if (!unit_of(d, unit))
        return false;
    if (d->z.mnemonic == ZYDIS_MNEMONIC_FWAIT)
        return mode & DBT_MODE_MP_TS;
    switch (*unit) {
    case UNIT_SSE:
        return mode & DBT_MODE_NO_SSE;
    case UNIT_AVX:
        return mode & DBT_MODE_NO_AVX;
    case UNIT_XSAVE:
        return mode & DBT_MODE_NO_XSAVE;
    default:
        return mode & DBT_MODE_NO_X87;
    }
}

enum dbt_result unit_check(struct dbt_vcpu *v, const struct decoded *d)
{
    enum vector_unit unit;

    return unit_is_off(v->mode, d, &unit) ? dispatch_unit_off(v, unit) : DBT_NEXT;
}
