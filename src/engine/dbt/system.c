/*
 * Dispatch of the instructions that C executes, and those too small for a file of their own: CPUID,
 * HLT, cache control, UD. Called on the vCPU's thread from the run loop (dispatch.c); the block
 * ends of insn_ends_block() are asked for at translation.
 */
#include "engine/dbt/operand.h"
#include "engine/dbt/system.h"

static enum dbt_result execute_cpuid(struct dbt_vcpu *v, const struct insn *insn)
{
    static const uint8_t order[] = {X86_RAX, X86_RBX, X86_RCX, X86_RDX};
    uint32_t out[4];

    dbt_cpuid(v, v->gpr[X86_RAX], v->gpr[X86_RCX], out);
    for (unsigned i = 0; i < 4; i++)
        gpr_write(v, order[i], 32, out[i]);
    return insn_next(v, insn);
}

static enum dbt_result execute_hlt(struct dbt_vcpu *v, const struct insn *insn)
{
    if (check_cpl0(v) == DBT_FAULT)
        return DBT_FAULT;
    v->run_state = X86_HALTED;
    v->rip = insn_next_rip(v, insn);
    return DBT_EXIT;
}

/* INVD, WBINVD: guest memory is coherent with all that looks at it. */
static enum dbt_result execute_cache_control(struct dbt_vcpu *v, const struct insn *insn)
{
    return check_cpl0(v) == DBT_FAULT ? DBT_FAULT : insn_next(v, insn);
}

/* MONITOR and MWAIT, where CPUID offers them: waiting may always end at once. */
static enum dbt_result execute_monitor(struct dbt_vcpu *v, const struct insn *insn)
{
    if (dbt_cpl(v) != 0)
        return dbt_raise(v, X86_VECTOR_UD);
    return insn_next(v, insn);
}

static enum dbt_result execute_mov(struct dbt_vcpu *v, const struct insn *insn)
{
    if (insn->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT)
        return insn->opcode == 0x8e ? segment_mov_to(v, insn) : segment_mov_from(v, insn);
    switch (insn->opcode) {
    case 0x20:
        return registers_mov_from_cr(v, insn);
    case 0x21:
        return registers_mov_from_dr(v, insn);
    case 0x22:
        return registers_mov_to_cr(v, insn);
    case 0x23:
        return registers_mov_to_dr(v, insn);
    default:
        return dbt_raise(v, X86_VECTOR_UD);
    }
}

/* FF /3 and FF /5, 9A and EA are far; FF /2 and FF /4, E8, E9 and EB near. */
static bool is_far(const struct insn *insn)
{
    return insn->has_modrm ? insn->reg & 1 : insn->opcode == 0x9a || insn->opcode == 0xea;
}

enum dbt_result insn_execute(struct dbt_vcpu *v, const struct insn *insn)
{
    switch (insn->mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
        return execute_mov(v, insn);
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_LSS:
        return segment_load_pointer(v, insn);

    case ZYDIS_MNEMONIC_PUSH:
        return stack_insn_push(v, insn);
    case ZYDIS_MNEMONIC_POP:
        return stack_insn_pop(v, insn);
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
        return stack_insn_pusha(v, insn);
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
        return stack_insn_popa(v, insn);
    case ZYDIS_MNEMONIC_ENTER:
        return stack_insn_enter(v, insn);
    case ZYDIS_MNEMONIC_LEAVE:
        return stack_insn_leave(v, insn);

    case ZYDIS_MNEMONIC_JMP:
        return is_far(insn) ? control_far_jmp(v, insn) : branch_jmp(v, insn);
    case ZYDIS_MNEMONIC_CALL:
        return is_far(insn) ? control_far_call(v, insn) : branch_call(v, insn);
    case ZYDIS_MNEMONIC_RET:
        return insn->opcode & 8 ? control_far_ret(v, insn) : branch_ret(v, insn);
    case ZYDIS_MNEMONIC_JB:
    case ZYDIS_MNEMONIC_JBE:
    case ZYDIS_MNEMONIC_JL:
    case ZYDIS_MNEMONIC_JLE:
    case ZYDIS_MNEMONIC_JNB:
    case ZYDIS_MNEMONIC_JNBE:
    case ZYDIS_MNEMONIC_JNL:
    case ZYDIS_MNEMONIC_JNLE:
    case ZYDIS_MNEMONIC_JNO:
    case ZYDIS_MNEMONIC_JNP:
    case ZYDIS_MNEMONIC_JNS:
    case ZYDIS_MNEMONIC_JNZ:
    case ZYDIS_MNEMONIC_JO:
    case ZYDIS_MNEMONIC_JP:
    case ZYDIS_MNEMONIC_JS:
    case ZYDIS_MNEMONIC_JZ:
        return branch_jcc(v, insn);
    case ZYDIS_MNEMONIC_LOOP:
    case ZYDIS_MNEMONIC_LOOPE:
    case ZYDIS_MNEMONIC_LOOPNE:
        return branch_loop(v, insn);
    case ZYDIS_MNEMONIC_JCXZ:
    case ZYDIS_MNEMONIC_JECXZ:
    case ZYDIS_MNEMONIC_JRCXZ:
        return branch_jcxz(v, insn);

    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
        return control_iret(v, insn);
    case ZYDIS_MNEMONIC_INT:
        return control_int(v, insn);
    case ZYDIS_MNEMONIC_INT1:
        return control_int1(v, insn);
    case ZYDIS_MNEMONIC_INT3:
        return control_int3(v, insn);
    case ZYDIS_MNEMONIC_INTO:
        return control_into(v, insn);
    case ZYDIS_MNEMONIC_SYSCALL:
        return control_syscall(v, insn);
    case ZYDIS_MNEMONIC_SYSRET:
        return control_sysret(v, insn);
    case ZYDIS_MNEMONIC_SYSENTER:
        return control_sysenter(v, insn);
    case ZYDIS_MNEMONIC_SYSEXIT:
        return control_sysexit(v, insn);

    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
        return flags_pushf(v, insn);
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
        return flags_popf(v, insn);
    case ZYDIS_MNEMONIC_CLI:
        return flags_cli(v, insn);
    case ZYDIS_MNEMONIC_STI:
        return flags_sti(v, insn);
    case ZYDIS_MNEMONIC_CLAC:
        return flags_clac(v, insn);
    case ZYDIS_MNEMONIC_STAC:
        return flags_stac(v, insn);

    case ZYDIS_MNEMONIC_CLTS:
        return registers_clts(v, insn);
    case ZYDIS_MNEMONIC_LMSW:
        return registers_lmsw(v, insn);
    case ZYDIS_MNEMONIC_SMSW:
        return registers_smsw(v, insn);
    case ZYDIS_MNEMONIC_XGETBV:
        return registers_xgetbv(v, insn);
    case ZYDIS_MNEMONIC_XSETBV:
        return registers_xsetbv(v, insn);
    case ZYDIS_MNEMONIC_INVLPG:
        return registers_invlpg(v, insn);
    case ZYDIS_MNEMONIC_INVPCID:
        return registers_invpcid(v, insn);

    case ZYDIS_MNEMONIC_LGDT:
    case ZYDIS_MNEMONIC_LIDT:
        return tables_load(v, insn);
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
        return tables_store(v, insn);
    case ZYDIS_MNEMONIC_LLDT:
        return tables_lldt(v, insn);
    case ZYDIS_MNEMONIC_LTR:
        return tables_ltr(v, insn);
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
        return tables_store_selector(v, insn);
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
        return tables_lar_lsl(v, insn);
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
        return tables_verify(v, insn);

    case ZYDIS_MNEMONIC_RDMSR:
        return msr_rdmsr(v, insn);
    case ZYDIS_MNEMONIC_WRMSR:
        return msr_wrmsr(v, insn);
    case ZYDIS_MNEMONIC_RDTSC:
        return msr_rdtsc(v, insn);
    case ZYDIS_MNEMONIC_RDTSCP:
        return msr_rdtscp(v, insn);
    case ZYDIS_MNEMONIC_RDPID:
        return msr_rdpid(v, insn);
    case ZYDIS_MNEMONIC_RDPMC:
        return msr_rdpmc(v, insn);
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE:
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
        return msr_fsgsbase(v, insn);
    case ZYDIS_MNEMONIC_SWAPGS:
        return msr_swapgs(v, insn);

    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_CMPSD:
    case ZYDIS_MNEMONIC_CMPSQ:
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INSD:
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_LODSQ:
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVSQ:
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_OUTSD:
    case ZYDIS_MNEMONIC_SCASB:
    case ZYDIS_MNEMONIC_SCASW:
    case ZYDIS_MNEMONIC_SCASD:
    case ZYDIS_MNEMONIC_SCASQ:
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_STOSQ:
        return string_execute(v, insn);

    case ZYDIS_MNEMONIC_IN:
        return io_in(v, insn);
    case ZYDIS_MNEMONIC_OUT:
        return io_out(v, insn);

    case ZYDIS_MNEMONIC_AAA:
    case ZYDIS_MNEMONIC_AAS:
    case ZYDIS_MNEMONIC_DAA:
    case ZYDIS_MNEMONIC_DAS:
        return legacy_adjust(v, insn);
    case ZYDIS_MNEMONIC_AAM:
        return legacy_aam(v, insn);
    case ZYDIS_MNEMONIC_AAD:
        return legacy_aad(v, insn);
    case ZYDIS_MNEMONIC_SALC:
        return legacy_salc(v, insn);
    case ZYDIS_MNEMONIC_BOUND:
        return legacy_bound(v, insn);
    case ZYDIS_MNEMONIC_ARPL:
        return legacy_arpl(v, insn);
    case ZYDIS_MNEMONIC_XLAT:
        return legacy_xlat(v, insn);

    case ZYDIS_MNEMONIC_CPUID:
        return execute_cpuid(v, insn);
    case ZYDIS_MNEMONIC_HLT:
        return execute_hlt(v, insn);
    case ZYDIS_MNEMONIC_INVD:
    case ZYDIS_MNEMONIC_WBINVD:
        return execute_cache_control(v, insn);
    case ZYDIS_MNEMONIC_MONITOR:
    case ZYDIS_MNEMONIC_MWAIT:
        return execute_monitor(v, insn);
    case ZYDIS_MNEMONIC_VMCALL:
    case ZYDIS_MNEMONIC_VMMCALL:
        return hypercall_execute(v, insn);

    default: /* UD0 to UD2, and what this processor does not have */
        return dbt_raise(v, X86_VECTOR_UD);
    }
}

/* INS and OUTS; MOVS and CMPS; STOS, LODS and SCAS. */
static bool is_string_opcode(uint8_t opcode)
{
    return (opcode >= 0x6c && opcode <= 0x6f) || (opcode >= 0xa4 && opcode <= 0xa7) ||
           (opcode >= 0xaa && opcode <= 0xaf);
}

/* MOV to a segment register changes the mode now and then, to CR2 or from any register never. */
static bool mov_ends_block(const struct insn *insn)
{
    if (insn->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT)
        return insn->opcode == 0x8e && (insn->reg & 7) == X86_SS;
    return insn->opcode == 0x22 || insn->opcode == 0x23;
}

bool insn_ends_block(const struct insn *insn)
{
    switch (insn->mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
        return mov_ends_block(insn);
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_LEAVE:
    case ZYDIS_MNEMONIC_LDS:
    case ZYDIS_MNEMONIC_LES:
    case ZYDIS_MNEMONIC_LFS:
    case ZYDIS_MNEMONIC_LGS:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_SMSW:
    case ZYDIS_MNEMONIC_XGETBV:
    case ZYDIS_MNEMONIC_LGDT:
    case ZYDIS_MNEMONIC_LIDT:
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_LLDT:
    case ZYDIS_MNEMONIC_LTR:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
    case ZYDIS_MNEMONIC_LAR:
    case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_VERR:
    case ZYDIS_MNEMONIC_VERW:
    case ZYDIS_MNEMONIC_RDMSR:
    case ZYDIS_MNEMONIC_WRMSR:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDPID:
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE:
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
    case ZYDIS_MNEMONIC_SWAPGS:
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_OUT:
    case ZYDIS_MNEMONIC_AAA:
    case ZYDIS_MNEMONIC_AAS:
    case ZYDIS_MNEMONIC_DAA:
    case ZYDIS_MNEMONIC_DAS:
    case ZYDIS_MNEMONIC_AAM:
    case ZYDIS_MNEMONIC_AAD:
    case ZYDIS_MNEMONIC_SALC:
    case ZYDIS_MNEMONIC_BOUND:
    case ZYDIS_MNEMONIC_ARPL:
    case ZYDIS_MNEMONIC_XLAT:
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_INVD:
    case ZYDIS_MNEMONIC_WBINVD:
    case ZYDIS_MNEMONIC_MONITOR:
        return false;
    case ZYDIS_MNEMONIC_POP:
        return insn->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && insn->opcode == 0x17; /* POP SS */
    default:
        /* String instructions continue behind the last element, unless they were interrupted. */
        return insn->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || !is_string_opcode(insn->opcode);
    }
}
