/*
 * VMCALL and VMMCALL: KVM's hypercalls, which the KVM signature in CPUID lets a guest expect
 * (Linux, Documentation/virt/kvm/x86/hypercalls.rst). The number is in RAX, arguments in RBX, RCX,
 * RDX and RSI, the result goes to RAX. Either instruction works on either vendor's processor, as
 * KVM has it. vCPU thread.
 */
#include "engine/dbt/operand.h"
#include "engine/dbt/system.h"
#include "engine/dbt/vm.h"

#define HYPERCALL_SEND_IPI 10

#define KVM_EPERM 1
#define KVM_EINVAL 22
#define KVM_ENOSYS 1000

/* The parts of the interrupt command register that SEND_IPI takes (Intel SDM volume 3, 11.6.1):
 * vector, delivery mode and level; no shorthand, since the destinations are told otherwise. */
#define ICR_MESSAGE 0xc7ffu
#define ICR_SHORTHAND (3u << 18)

struct arguments {
    uint64_t value[4];
    unsigned width; /* of each, in bits */
};

/* One interrupt to each APIC id whose bit is set in a bitmap of two arguments; the third is the id
 * of its first bit, the fourth the interrupt command. Returns to how many it went. */
static int64_t send_ipi(struct dbt_vcpu *v, const struct arguments *a)
{
    uint64_t lowest = (uint32_t)a->value[2], command = a->value[3];
    int64_t count = 0;

    if (command & ICR_SHORTHAND)
        return -KVM_EINVAL;
    for (unsigned bit = 0; bit < 2 * a->width; bit++) {
        uint64_t id = lowest + bit;

        if (!(a->value[bit / a->width] >> bit % a->width & 1) || id >= v->vm->config.vcpus)
            continue;
        dbt_ipi_send(v, (unsigned)id, command & ICR_MESSAGE);
        count++;
    }
    return count;
}

enum dbt_result hypercall_execute(struct dbt_vcpu *v, const struct insn *insn)
{
    static const uint8_t order[] = {X86_RBX, X86_RCX, X86_RDX, X86_RSI};
    struct arguments a = {.width = v->mode & DBT_MODE_CODE64 ? 64 : 32};
    int64_t result = -KVM_ENOSYS;

    for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
        a.value[i] = gpr_read(v, order[i], a.width);
    if (dbt_cpl(v) != 0)
        result = -KVM_EPERM;
    else if (gpr_read(v, X86_RAX, a.width) == HYPERCALL_SEND_IPI)
        result = send_ipi(v, &a);
    gpr_write(v, X86_RAX, a.width, (uint64_t)result);
    return insn_next_block(v, insn); /* one may be for this vCPU */
}
