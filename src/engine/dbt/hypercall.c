/*
 * VMCALL and VMMCALL: KVM's hypercalls, which the KVM signature in CPUID lets a guest expect
 * (Linux, Documentation/virt/kvm/x86/hypercalls.rst). The number is in RAX, the result goes there.
 * Either instruction works on either vendor's processor, as KVM has it. vCPU thread.
 *
 * No feature that comes with a hypercall is offered, so all there is is the answer to unknown ones.
 */
#include "engine/dbt/operand.h"
#include "engine/dbt/system.h"

#define KVM_EPERM 1
#define KVM_ENOSYS 1000

enum dbt_result hypercall_execute(struct dbt_vcpu *v, const struct insn *insn)
{
    int64_t result = dbt_cpl(v) == 0 ? -KVM_ENOSYS : -KVM_EPERM;

    gpr_write(v, X86_RAX, v->mode & DBT_MODE_CODE64 ? 64 : 32, (uint64_t)result);
    return insn_next(v, insn);
}
