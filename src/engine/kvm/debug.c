/*
 * Breakpoints and single steps of a debugger (KVM_SET_GUEST_DEBUG). KVM lends the debugger the
 * processor's four debug registers; the guest's own have no effect while any is taken. On the
 * vCPU's thread, or any while it is stopped.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "engine/kvm/kvm.h"
#include "x86/arch.h"

#define POINTS 4

/* R/W and LEN fields of DR7 (Intel SDM volume 3, 18.2.4); false if a debug register cannot do it.
 */
static bool dr7_fields(const struct engine_breakpoint *b, uint64_t *type, uint64_t *length)
{
    static const uint64_t types[] = {
        [ENGINE_BREAK_EXECUTE] = 0, [ENGINE_BREAK_WRITE] = 1, [ENGINE_BREAK_ACCESS] = 3};
    static const struct {
        uint64_t bytes, field;
    } lengths[] = {{1, 0}, {2, 1}, {4, 3}, {8, 2}};

    *type = types[b->kind];
    *length = 0;
    if (b->kind == ENGINE_BREAK_EXECUTE)
        return true;
    for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
        if (b->length == lengths[i].bytes && b->address % b->length == 0) {
            *length = lengths[i].field;
            return true;
        }
    }
    return false;
}

/* Keeps interrupts out while stepping; without it (before Linux 5.14) steps may lead into them. */
static uint32_t block_interrupts(const struct engine_vcpu *vcpu)
{
    int offered = ioctl(vcpu->vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2);

    return offered > 0 ? (uint32_t)offered & KVM_GUESTDBG_BLOCKIRQ : 0;
}

int kvm_vcpu_set_debug(struct engine_vcpu *vcpu, const struct engine_debug *debug)
{
    struct kvm_guest_debug request = {0};

    if (debug->count > POINTS)
        return -ENOSPC;
    if (debug->single_step)
        request.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | block_interrupts(vcpu);
    if (debug->count) {
        request.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
        request.arch.debugreg[7] = X86_DR7_RESET;
    }
    for (unsigned i = 0; i < debug->count; i++) {
        uint64_t type, length;

        if (!dr7_fields(&debug->breakpoint[i], &type, &length))
            return -ENOSPC;
        request.arch.debugreg[i] = debug->breakpoint[i].address;
        request.arch.debugreg[7] |=
            X86_DR7_GLOBAL(i) | type << (16 + 4 * i) | length << (18 + 4 * i);
    }
    int r = kvm_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &request);
    if (r < 0)
        return r;
    vcpu->debug = request;
    return 0;
}

/* The guest's own #DB, which KVM gives to the debugger as well: back to the guest. */
static void reflect(struct engine_vcpu *vcpu, uint64_t dr6)
{
    struct kvm_guest_debug request = vcpu->debug;
    struct kvm_debugregs registers;

    if (kvm_ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &registers) >= 0) {
        registers.dr6 |= dr6 & (X86_DR6_BD | X86_DR6_BS | X86_DR6_BT);
        (void)kvm_ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &registers);
    }
    request.control |= KVM_GUESTDBG_INJECT_DB;
    (void)kvm_ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &request);
}

bool kvm_vcpu_debug_exit(struct engine_vcpu *vcpu, int *breakpoint)
{
    uint64_t dr6 = vcpu->run->debug.arch.dr6;

    for (unsigned i = 0; i < POINTS; i++) {
        if (dr6 & X86_DR6_B(i) && X86_DR7_ENABLED(vcpu->debug.arch.debugreg[7], i)) {
            *breakpoint = (int)i;
            return true;
        }
    }
    *breakpoint = ENGINE_STEPPED;
    if (vcpu->debug.control & KVM_GUESTDBG_SINGLESTEP)
        return true;
    reflect(vcpu, dr6);
    return false;
}
