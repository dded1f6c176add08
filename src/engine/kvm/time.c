/*
 * Guest time on KVM: the TSCs and the paravirtual clock (MSR_KVM_SYSTEM_TIME) stand still while VM
 * time does.
 *
 * A vCPU's TSC is the host's plus an offset (Documentation/virt/kvm/devices/vcpu.rst,
 * KVM_VCPU_TSC_OFFSET); kernels before 5.16 do not tell it, and there the TSCs run on. A write to
 * MSR_TSC is no substitute: KVM takes one of about the expected value for an attempt to synchronize
 * the vCPUs. Control thread, all vCPUs stopped.
 */
#include <string.h>

#include "base/log.h"
#include "engine/kvm/kvm.h"

static int transfer_offset(const struct engine_vcpu *vcpu, unsigned long request, uint64_t *offset)
{
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uintptr_t)offset,
    };

    return kvm_ioctl(vcpu->fd, request, &attr);
}

static void hold(struct engine_vm *vm)
{
    struct kvm_clock_data clock = {0};
    int r = kvm_ioctl(vm->fd, KVM_GET_CLOCK, &clock);

    if (r < 0)
        log_warn("KVM does not tell its clock: %s", strerror(-r));
    vm->held_clock = clock.clock;
    vm->held_host_tsc = __builtin_ia32_rdtsc();
}

static void release(struct engine_vm *vm)
{
    struct kvm_clock_data clock = {.clock = vm->held_clock};
    uint64_t passed = __builtin_ia32_rdtsc() - vm->held_host_tsc, offset;

    for (unsigned i = 0; i < vm->config.vcpus; i++) {
        if (!vm->vcpu[i] || transfer_offset(vm->vcpu[i], KVM_GET_DEVICE_ATTR, &offset) < 0)
            continue;
        offset -= passed;
        (void)!transfer_offset(vm->vcpu[i], KVM_SET_DEVICE_ATTR, &offset);
    }
    int r = kvm_ioctl(vm->fd, KVM_SET_CLOCK, &clock);
    if (r < 0)
        log_warn("KVM does not set its clock: %s", strerror(-r));
}

void kvm_time_hold(struct engine_vm *vm, bool held)
{
    if (held == vm->time_held)
        return;
    if (held)
        hold(vm);
    else
        release(vm);
    vm->time_held = held;
}

uint64_t kvm_held_tsc(const struct engine_vcpu *vcpu, uint64_t tsc)
{
    uint64_t offset;

    if (!vcpu->vm->time_held || transfer_offset(vcpu, KVM_GET_DEVICE_ATTR, &offset) < 0)
        return tsc;
    return vcpu->vm->held_host_tsc + offset;
}

void kvm_held_tsc_set(struct engine_vcpu *vcpu, uint64_t tsc)
{
    uint64_t offset = tsc - vcpu->vm->held_host_tsc;

    if (vcpu->vm->time_held)
        (void)!transfer_offset(vcpu, KVM_SET_DEVICE_ATTR, &offset);
}
