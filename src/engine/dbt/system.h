/*
 * The instructions that C executes, by the file that holds them. insn_execute() (system.c) calls
 * them on the vCPU's thread with rip at the instruction; each moves rip on itself and obeys the
 * contract of enum dbt_result: after DBT_FAULT no register has changed. That the guest's CPUID
 * offers the instruction was seen to when it was decoded (decode.c).
 */
#ifndef SILL_ENGINE_DBT_SYSTEM_H
#define SILL_ENGINE_DBT_SYSTEM_H

#include "engine/dbt/insn.h"
#include "x86/arch.h"

/* segment.c: loads and stores of segment registers */
enum dbt_result segment_mov_to(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result segment_mov_from(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result segment_push(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result segment_pop(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result segment_load_pointer(struct dbt_vcpu *v, const struct insn *insn);

/* stack.c */
enum dbt_result stack_insn_push(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result stack_insn_pop(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result stack_insn_pusha(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result stack_insn_popa(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result stack_insn_enter(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result stack_insn_leave(struct dbt_vcpu *v, const struct insn *insn);

/* branch.c: near transfers */
enum dbt_result branch_jmp(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result branch_call(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result branch_ret(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result branch_jcc(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result branch_loop(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result branch_jcxz(struct dbt_vcpu *v, const struct insn *insn);

/* control.c: far transfers, interrupts and their returns, fast system calls */
enum dbt_result control_far_jmp(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result control_far_call(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result control_far_ret(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result control_iret(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result control_int(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result control_int3(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result control_int1(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result control_into(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result control_syscall(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result control_sysret(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result control_sysenter(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result control_sysexit(struct dbt_vcpu *v, const struct insn *insn);

/* flags.c: RFLAGS as a whole */
enum dbt_result flags_pushf(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result flags_popf(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result flags_cli(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result flags_sti(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result flags_clac(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result flags_stac(struct dbt_vcpu *v, const struct insn *insn);

/* registers.c: control and debug registers, XCR0, and what else the mode hangs on */
enum dbt_result registers_mov_from_cr(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result registers_mov_to_cr(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result registers_mov_from_dr(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result registers_mov_to_dr(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result registers_clts(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result registers_lmsw(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result registers_smsw(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result registers_xgetbv(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result registers_xsetbv(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result registers_invlpg(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result registers_invpcid(struct dbt_vcpu *v, const struct insn *insn);

/* tables.c: descriptor-table registers and questions about descriptors */
enum dbt_result tables_load(struct dbt_vcpu *v, const struct insn *insn);  /* LGDT, LIDT */
enum dbt_result tables_store(struct dbt_vcpu *v, const struct insn *insn); /* SGDT, SIDT */
enum dbt_result tables_lldt(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result tables_ltr(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result tables_store_selector(struct dbt_vcpu *v, const struct insn *insn); /* SLDT, STR */
enum dbt_result tables_lar_lsl(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result tables_verify(struct dbt_vcpu *v, const struct insn *insn); /* VERR, VERW */

/* msr.c: model-specific registers, and the instructions that read or write single ones */
enum dbt_result msr_rdmsr(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result msr_wrmsr(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result msr_rdtsc(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result msr_rdtscp(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result msr_rdpid(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result msr_rdpmc(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result msr_fsgsbase(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result msr_swapgs(struct dbt_vcpu *v, const struct insn *insn);

/* string.c */
enum dbt_result string_execute(struct dbt_vcpu *v, const struct insn *insn);

/* io.c */
enum dbt_result io_in(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result io_out(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result io_ins(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result io_outs(struct dbt_vcpu *v, const struct insn *insn);

/* hypercall.c */
enum dbt_result hypercall_execute(struct dbt_vcpu *v, const struct insn *insn);

/* legacy.c */
enum dbt_result legacy_adjust(struct dbt_vcpu *v, const struct insn *insn); /* AAA AAS DAA DAS */
enum dbt_result legacy_aam(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result legacy_aad(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result legacy_salc(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result legacy_bound(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result legacy_arpl(struct dbt_vcpu *v, const struct insn *insn);
enum dbt_result legacy_xlat(struct dbt_vcpu *v, const struct insn *insn);

/* #GP(0) for a privileged instruction above CPL 0. */
static inline enum dbt_result check_cpl0(struct dbt_vcpu *v)
{
    return dbt_cpl(v) == 0 ? DBT_NEXT : dbt_raise_error(v, X86_VECTOR_GP, 0);
}

#endif
