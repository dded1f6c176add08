/* What the KVM engine counted: each vCPU's returns from KVM_RUN by reason (api.rst, "kvm_run").
 * vCPUs stopped. */
#include <stdio.h>

#include "engine/kvm/kvm.h"

static void tell_vcpu(const struct engine_vcpu *vcpu, const struct stats *to)
{
    static const char *const names[KVM_EXIT_KINDS] = {
        [KVM_EXIT_IO] = "io",
        [KVM_EXIT_DEBUG] = "debug",
        [KVM_EXIT_MMIO] = "mmio",
        [KVM_EXIT_IRQ_WINDOW_OPEN] = "irq_window_open",
        [KVM_EXIT_SHUTDOWN] = "shutdown",
        [KVM_EXIT_FAIL_ENTRY] = "fail_entry",
        [KVM_EXIT_INTR] = "intr",
        [KVM_EXIT_INTERNAL_ERROR] = "internal_error",
        [KVM_EXIT_IOAPIC_EOI] = "ioapic_eoi",
        [KVM_EXIT_X86_RDMSR] = "rdmsr",
        [KVM_EXIT_X86_WRMSR] = "wrmsr",
    };
    uint64_t other = 0;
    char group[16];

    snprintf(group, sizeof(group), "vcpu%u", vcpu->index);
    stats_begin(to, group);
    stats_begin(to, "exits");
    for (unsigned i = 0; i < KVM_EXIT_KINDS; i++) {
        if (names[i])
            stats_value(to, names[i], vcpu->exits[i]);
        else
            other += vcpu->exits[i];
    }
    stats_value(to, "signal", vcpu->signals);
    stats_value(to, "other", other);
    stats_end(to);
    stats_end(to);
}

void kvm_stats(struct engine_vm *vm, const struct stats *to)
{
    for (unsigned i = 0; i < vm->config.vcpus; i++)
        if (vm->vcpu[i])
            tell_vcpu(vm->vcpu[i], to);
}
