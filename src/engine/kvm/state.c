/*
 * Conversion between KVM's view of a vCPU (api.rst, KVM_GET_REGS and the like) and the neutral
 * state of x86/vcpu_state.h. Only while the vCPU is not inside run().
 */
#include <errno.h>
#include <string.h>

#include "engine/kvm/kvm.h"
#include "x86/arch.h"
#include "x86/msr.h"

_Static_assert(sizeof(struct kvm_xsave) <= X86_XSAVE_AREA_SIZE, "KVM_GET_XSAVE fills 4096 bytes");
_Static_assert(sizeof(struct kvm_lapic_state) == sizeof(((struct x86_vcpu_state *)0)->lapic),
               "the neutral state has KVM's local APIC page");

static int vcpu_ioctl(struct engine_vcpu *vcpu, unsigned long request, void *argument)
{
    int r = kvm_ioctl(vcpu->fd, request, argument);
    return r < 0 ? r : 0;
}

/* --- general registers --- */

/* The registers of struct kvm_regs in the neutral order. */
static __u64 *regs_gpr(struct kvm_regs *regs, unsigned index)
{
    __u64 *const gpr[X86_GPR_COUNT] = {
        [X86_RAX] = &regs->rax, [X86_RCX] = &regs->rcx, [X86_RDX] = &regs->rdx,
        [X86_RBX] = &regs->rbx, [X86_RSP] = &regs->rsp, [X86_RBP] = &regs->rbp,
        [X86_RSI] = &regs->rsi, [X86_RDI] = &regs->rdi, [X86_R8] = &regs->r8,
        [X86_R9] = &regs->r9,   [X86_R10] = &regs->r10, [X86_R11] = &regs->r11,
        [X86_R12] = &regs->r12, [X86_R13] = &regs->r13, [X86_R14] = &regs->r14,
        [X86_R15] = &regs->r15,
    };
    return gpr[index];
}

static int get_gpr(struct engine_vcpu *vcpu, struct x86_vcpu_state *state)
{
    struct kvm_regs regs;
    int r = vcpu_ioctl(vcpu, KVM_GET_REGS, &regs);

    if (r)
        return r;
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        state->gpr[i] = *regs_gpr(&regs, i);
    state->rip = regs.rip;
    state->rflags = regs.rflags;
    return 0;
}

static int set_gpr(struct engine_vcpu *vcpu, const struct x86_vcpu_state *state)
{
    struct kvm_regs regs = {.rip = state->rip, .rflags = state->rflags};

    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        *regs_gpr(&regs, i) = state->gpr[i];
    return vcpu_ioctl(vcpu, KVM_SET_REGS, &regs);
}

/* --- segments and control registers --- */

static struct x86_segment segment_from_kvm(const struct kvm_segment *s)
{
    unsigned attributes = s->type | s->s << 4 | s->dpl << 5 | s->present << 7 | s->avl << 12 |
                          s->l << 13 | s->db << 14 | s->g << 15;
    if (s->unusable)
        attributes &= ~X86_SEGMENT_PRESENT;
    return (struct x86_segment){
        .selector = s->selector,
        .attributes = (uint16_t)attributes,
        .limit = s->limit,
        .base = s->base,
    };
}

static struct kvm_segment segment_to_kvm(const struct x86_segment *s)
{
    unsigned a = s->attributes;
    return (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->selector,
        .type = X86_SEGMENT_TYPE(a),
        .s = a >> 4 & 1,
        .dpl = X86_SEGMENT_DPL(a),
        .present = a >> 7 & 1,
        .avl = a >> 12 & 1,
        .l = a >> 13 & 1,
        .db = a >> 14 & 1,
        .g = a >> 15 & 1,
        .unusable = !(a & X86_SEGMENT_PRESENT),
    };
}

/* The segment registers of struct kvm_sregs in the neutral order. */
static struct kvm_segment *sregs_segment(struct kvm_sregs *sregs, unsigned index)
{
    struct kvm_segment *const segment[X86_SEGMENT_COUNT] = {
        [X86_ES] = &sregs->es, [X86_CS] = &sregs->cs, [X86_SS] = &sregs->ss,
        [X86_DS] = &sregs->ds, [X86_FS] = &sregs->fs, [X86_GS] = &sregs->gs,
    };
    return segment[index];
}

static int get_system(struct engine_vcpu *vcpu, struct x86_vcpu_state *state)
{
    struct kvm_sregs sregs;
    int r = vcpu_ioctl(vcpu, KVM_GET_SREGS, &sregs);

    if (r)
        return r;
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        state->segment[i] = segment_from_kvm(sregs_segment(&sregs, i));
    state->ldtr = segment_from_kvm(&sregs.ldt);
    state->tr = segment_from_kvm(&sregs.tr);
    state->gdtr = (struct x86_table){.base = sregs.gdt.base, .limit = sregs.gdt.limit};
    state->idtr = (struct x86_table){.base = sregs.idt.base, .limit = sregs.idt.limit};
    state->cr0 = sregs.cr0;
    state->cr2 = sregs.cr2;
    state->cr3 = sregs.cr3;
    state->cr4 = sregs.cr4;
    state->cr8 = sregs.cr8;
    state->efer = sregs.efer;
    state->apic_base = sregs.apic_base;
    return 0;
}

static int set_system(struct engine_vcpu *vcpu, const struct x86_vcpu_state *state)
{
    struct kvm_sregs sregs = {
        .ldt = segment_to_kvm(&state->ldtr),
        .tr = segment_to_kvm(&state->tr),
        .gdt = {.base = state->gdtr.base, .limit = state->gdtr.limit},
        .idt = {.base = state->idtr.base, .limit = state->idtr.limit},
        .cr0 = state->cr0,
        .cr2 = state->cr2,
        .cr3 = state->cr3,
        .cr4 = state->cr4,
        .cr8 = state->cr8,
        .efer = state->efer,
        .apic_base = state->apic_base,
    };

    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        *sregs_segment(&sregs, i) = segment_to_kvm(&state->segment[i]);
    return vcpu_ioctl(vcpu, KVM_SET_SREGS, &sregs);
}

/* --- x87, SSE, AVX --- */

static bool host_has_xcrs(struct engine_vcpu *vcpu)
{
    return kvm_ioctl(vcpu->vm->kvm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_XCRS) > 0;
}

static int get_fpu(struct engine_vcpu *vcpu, struct x86_vcpu_state *state)
{
    struct kvm_xcrs xcrs;
    int r = vcpu_ioctl(vcpu, KVM_GET_XSAVE, state->xsave);

    if (r)
        return r;
    state->xcr0 = X86_XCR0_X87;
    if (!host_has_xcrs(vcpu))
        return 0;
    r = vcpu_ioctl(vcpu, KVM_GET_XCRS, &xcrs);
    for (unsigned i = 0; !r && i < xcrs.nr_xcrs; i++) {
        if (xcrs.xcrs[i].xcr == 0)
            state->xcr0 = xcrs.xcrs[i].value;
    }
    return r;
}

static int set_fpu(struct engine_vcpu *vcpu, const struct x86_vcpu_state *state)
{
    if (host_has_xcrs(vcpu)) {
        struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = state->xcr0}}};
        int r = vcpu_ioctl(vcpu, KVM_SET_XCRS, &xcrs);
        if (r)
            return r;
    } else if (state->xcr0 & ~X86_XCR0_X87) {
        return -ENOTSUP;
    }
    return vcpu_ioctl(vcpu, KVM_SET_XSAVE, (void *)state->xsave);
}

/* --- debug registers --- */

static int get_debug(struct engine_vcpu *vcpu, struct x86_vcpu_state *state)
{
    struct kvm_debugregs regs;
    int r = vcpu_ioctl(vcpu, KVM_GET_DEBUGREGS, &regs);

    if (r)
        return r;
    for (unsigned i = 0; i < 4; i++)
        state->dr[i] = regs.db[i];
    state->dr6 = regs.dr6;
    state->dr7 = regs.dr7;
    return 0;
}

static int set_debug(struct engine_vcpu *vcpu, const struct x86_vcpu_state *state)
{
    struct kvm_debugregs regs = {.dr6 = state->dr6, .dr7 = state->dr7};

    for (unsigned i = 0; i < 4; i++)
        regs.db[i] = state->dr[i];
    return vcpu_ioctl(vcpu, KVM_SET_DEBUGREGS, &regs);
}

/* --- MSRs --- */

struct msr_field {
    uint32_t index;
    size_t offset; /* of the uint64_t in struct x86_vcpu_state */
    bool optional; /* not on every host; KVM_GET_MSR_INDEX_LIST tells */
};

#define FIELD(number, name)                                                                        \
    {                                                                                              \
        .index = (number), .offset = offsetof(struct x86_vcpu_state, name)                         \
    }
#define OPTIONAL_FIELD(number, name)                                                               \
    {                                                                                              \
        .index = (number), .offset = offsetof(struct x86_vcpu_state, name), .optional = true       \
    }

/* The TSC comes before the deadline that counts by it. */
static const struct msr_field msr_fields[] = {
    FIELD(MSR_TSC, tsc),
    FIELD(MSR_STAR, msr.star),
    FIELD(MSR_LSTAR, msr.lstar),
    FIELD(MSR_CSTAR, msr.cstar),
    FIELD(MSR_SFMASK, msr.sfmask),
    FIELD(MSR_KERNEL_GS_BASE, msr.kernel_gs_base),
    FIELD(MSR_SYSENTER_CS, msr.sysenter_cs),
    FIELD(MSR_SYSENTER_ESP, msr.sysenter_esp),
    FIELD(MSR_SYSENTER_EIP, msr.sysenter_eip),
    FIELD(MSR_PAT, msr.pat),
    FIELD(MSR_MISC_ENABLE, msr.misc_enable),
    OPTIONAL_FIELD(MSR_TSC_ADJUST, msr.tsc_adjust),
    OPTIONAL_FIELD(MSR_TSC_AUX, msr.tsc_aux),
    OPTIONAL_FIELD(MSR_TSC_DEADLINE, msr.tsc_deadline),
    OPTIONAL_FIELD(MSR_SPEC_CTRL, msr.spec_ctrl),
    OPTIONAL_FIELD(MSR_KVM_WALL_CLOCK, msr.kvm_wall_clock),
    OPTIONAL_FIELD(MSR_KVM_SYSTEM_TIME, msr.kvm_system_time),
    OPTIONAL_FIELD(MSR_KVM_POLL_CONTROL, msr.kvm_poll_control),
    FIELD(MSR_MTRR_FIX64K_00000, msr.mtrr_fixed[0]),
    FIELD(MSR_MTRR_FIX16K_80000, msr.mtrr_fixed[1]),
    FIELD(MSR_MTRR_FIX16K_A0000, msr.mtrr_fixed[2]),
    FIELD(MSR_MTRR_FIX4K_C0000 + 0, msr.mtrr_fixed[3]),
    FIELD(MSR_MTRR_FIX4K_C0000 + 1, msr.mtrr_fixed[4]),
    FIELD(MSR_MTRR_FIX4K_C0000 + 2, msr.mtrr_fixed[5]),
    FIELD(MSR_MTRR_FIX4K_C0000 + 3, msr.mtrr_fixed[6]),
    FIELD(MSR_MTRR_FIX4K_C0000 + 4, msr.mtrr_fixed[7]),
    FIELD(MSR_MTRR_FIX4K_C0000 + 5, msr.mtrr_fixed[8]),
    FIELD(MSR_MTRR_FIX4K_C0000 + 6, msr.mtrr_fixed[9]),
    FIELD(MSR_MTRR_FIX4K_C0000 + 7, msr.mtrr_fixed[10]),
    FIELD(MSR_MTRR_PHYS_BASE(0), msr.mtrr_base[0]),
    FIELD(MSR_MTRR_PHYS_MASK(0), msr.mtrr_mask[0]),
    FIELD(MSR_MTRR_PHYS_BASE(1), msr.mtrr_base[1]),
    FIELD(MSR_MTRR_PHYS_MASK(1), msr.mtrr_mask[1]),
    FIELD(MSR_MTRR_PHYS_BASE(2), msr.mtrr_base[2]),
    FIELD(MSR_MTRR_PHYS_MASK(2), msr.mtrr_mask[2]),
    FIELD(MSR_MTRR_PHYS_BASE(3), msr.mtrr_base[3]),
    FIELD(MSR_MTRR_PHYS_MASK(3), msr.mtrr_mask[3]),
    FIELD(MSR_MTRR_PHYS_BASE(4), msr.mtrr_base[4]),
    FIELD(MSR_MTRR_PHYS_MASK(4), msr.mtrr_mask[4]),
    FIELD(MSR_MTRR_PHYS_BASE(5), msr.mtrr_base[5]),
    FIELD(MSR_MTRR_PHYS_MASK(5), msr.mtrr_mask[5]),
    FIELD(MSR_MTRR_PHYS_BASE(6), msr.mtrr_base[6]),
    FIELD(MSR_MTRR_PHYS_MASK(6), msr.mtrr_mask[6]),
    FIELD(MSR_MTRR_PHYS_BASE(7), msr.mtrr_base[7]),
    FIELD(MSR_MTRR_PHYS_MASK(7), msr.mtrr_mask[7]),
    FIELD(MSR_MTRR_DEF_TYPE, msr.mtrr_def_type),
};

struct msr_batch {
    struct kvm_msrs header;
    struct kvm_msr_entry entry[ARRAY_SIZE(msr_fields)];
};

static bool msr_there(const struct engine_vm *vm, const struct msr_field *field)
{
    if (!field->optional)
        return true;
    for (unsigned i = 0; i < vm->msr_count; i++) {
        if (vm->msr_list[i] == field->index)
            return true;
    }
    return false;
}

static uint64_t *msr_value(struct x86_vcpu_state *state, const struct msr_field *field)
{
    return (uint64_t *)((char *)state + field->offset);
}

/* KVM stops at the first MSR it does not like. */
static int transfer_msrs(struct engine_vcpu *vcpu, unsigned long request, struct msr_batch *batch)
{
    int done = kvm_ioctl(vcpu->fd, request, &batch->header);
    if (done < 0)
        return done;
    return (unsigned)done == batch->header.nmsrs ? 0 : -EINVAL;
}

static int get_msrs(struct engine_vcpu *vcpu, struct x86_vcpu_state *state)
{
    struct msr_batch batch = {.header.nmsrs = 0};

    for (unsigned i = 0; i < ARRAY_SIZE(msr_fields); i++) {
        if (msr_there(vcpu->vm, &msr_fields[i]))
            batch.entry[batch.header.nmsrs++].index = msr_fields[i].index;
    }
    int r = transfer_msrs(vcpu, KVM_GET_MSRS, &batch);
    if (r)
        return r;
    for (unsigned i = 0, n = 0; i < ARRAY_SIZE(msr_fields); i++) {
        bool there = msr_there(vcpu->vm, &msr_fields[i]);
        *msr_value(state, &msr_fields[i]) = there ? batch.entry[n++].data : 0;
    }
    state->tsc = kvm_held_tsc(vcpu, state->tsc);
    return 0;
}

static int set_msrs(struct engine_vcpu *vcpu, const struct x86_vcpu_state *state)
{
    struct msr_batch batch = {.header.nmsrs = 0};

    for (unsigned i = 0; i < ARRAY_SIZE(msr_fields); i++) {
        uint64_t value = *msr_value((struct x86_vcpu_state *)state, &msr_fields[i]);
        if (msr_there(vcpu->vm, &msr_fields[i]))
            batch.entry[batch.header.nmsrs++] =
                (struct kvm_msr_entry){.index = msr_fields[i].index, .data = value};
        else if (value)
            return -ENOTSUP; /* the guest uses what this host does not have */
    }
    /* The paravirtual clock counts from VM time, like everything else on the board. */
    if (vcpu->index == 0) {
        struct kvm_clock_data clock = {.clock = clock_now(vcpu->vm->config.clock)};
        int r = kvm_ioctl(vcpu->vm->fd, KVM_SET_CLOCK, &clock);
        if (r < 0)
            return r;
        vcpu->vm->held_clock = clock.clock;
    }
    int r = transfer_msrs(vcpu, KVM_SET_MSRS, &batch);
    if (!r)
        kvm_held_tsc_set(vcpu, state->tsc);
    return r;
}

/* --- events --- */

static int get_events(struct engine_vcpu *vcpu, struct x86_vcpu_state *state)
{
    struct kvm_vcpu_events e;
    struct kvm_mp_state mp;

    kvm_vcpu_deliver_nmi(vcpu);
    int r = vcpu_ioctl(vcpu, KVM_GET_MP_STATE, &mp); /* first: it takes in what has arrived */
    if (!r)
        r = vcpu_ioctl(vcpu, KVM_GET_VCPU_EVENTS, &e);
    if (r)
        return r;
    state->events = (struct x86_events){
        .exception_pending = e.exception.injected,
        .exception_vector = e.exception.nr,
        .exception_has_error = e.exception.has_error_code,
        .exception_error = e.exception.error_code,
        .interrupt_taken = e.interrupt.injected && !e.interrupt.soft,
        .interrupt_vector = e.interrupt.nr,
        .interrupt_shadow = e.interrupt.shadow,
        .nmi_pending = e.nmi.pending || e.nmi.injected,
        /* An NMI that was on its way is delivered again, so it blocks nothing yet. */
        .nmi_blocked = e.nmi.masked && !e.nmi.injected,
    };
    switch (mp.mp_state) {
    case KVM_MP_STATE_HALTED:
        state->run_state = X86_HALTED;
        break;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
        state->run_state = X86_WAIT_FOR_SIPI;
        break;
    default:
        state->run_state = X86_RUNNABLE;
        break;
    }
    return 0;
}

static int set_events(struct engine_vcpu *vcpu, const struct x86_vcpu_state *state)
{
    static const uint32_t mp_state[] = {
        [X86_RUNNABLE] = KVM_MP_STATE_RUNNABLE,
        [X86_HALTED] = KVM_MP_STATE_HALTED,
        [X86_WAIT_FOR_SIPI] = KVM_MP_STATE_INIT_RECEIVED,
    };
    const struct x86_events *from = &state->events;
    struct kvm_vcpu_events e = {
        .exception.injected = from->exception_pending,
        .exception.nr = from->exception_vector,
        .exception.has_error_code = from->exception_has_error,
        .exception.error_code = from->exception_error,
        .interrupt.injected = from->interrupt_taken,
        .interrupt.nr = from->interrupt_vector,
        .interrupt.shadow = from->interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0,
        .nmi.pending = from->nmi_pending,
        .nmi.masked = from->nmi_blocked,
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
    };

    if ((unsigned)state->run_state >= ARRAY_SIZE(mp_state))
        return -EINVAL;
    struct kvm_mp_state mp = {.mp_state = mp_state[state->run_state]};
    int r = vcpu_ioctl(vcpu, KVM_SET_MP_STATE, &mp);
    if (r)
        return r;
    atomic_store(&vcpu->nmi, false);
    return vcpu_ioctl(vcpu, KVM_SET_VCPU_EVENTS, &e);
}

/* --- by mask --- */

int kvm_vcpu_get_state(struct engine_vcpu *vcpu, struct x86_vcpu_state *state, unsigned mask)
{
    int r = 0;

    /* First, since KVM_GET_MP_STATE may take in an INIT and reset the rest. */
    if (mask & X86_STATE_EVENTS)
        r = get_events(vcpu, state);
    if (!r && (mask & X86_STATE_GPR))
        r = get_gpr(vcpu, state);
    if (!r && (mask & X86_STATE_SYSTEM))
        r = get_system(vcpu, state);
    if (!r && (mask & X86_STATE_FPU))
        r = get_fpu(vcpu, state);
    if (!r && (mask & X86_STATE_DEBUG))
        r = get_debug(vcpu, state);
    if (!r && (mask & X86_STATE_LAPIC))
        r = vcpu_ioctl(vcpu, KVM_GET_LAPIC, state->lapic);
    if (!r && (mask & X86_STATE_MSR))
        r = get_msrs(vcpu, state);
    return r;
}

int kvm_vcpu_set_state(struct engine_vcpu *vcpu, const struct x86_vcpu_state *state, unsigned mask)
{
    int r = 0;

    vcpu->run->ready_for_interrupt_injection = 0; /* that was said of another state */
    /* The APIC's mode (in SYSTEM) decides how its page reads, its timer's mode whether the deadline
     * MSR takes anything. */
    if (mask & X86_STATE_SYSTEM)
        r = set_system(vcpu, state);
    if (!r && (mask & X86_STATE_GPR))
        r = set_gpr(vcpu, state);
    if (!r && (mask & X86_STATE_FPU))
        r = set_fpu(vcpu, state);
    if (!r && (mask & X86_STATE_LAPIC))
        r = vcpu_ioctl(vcpu, KVM_SET_LAPIC, (void *)state->lapic);
    if (!r && (mask & X86_STATE_MSR))
        r = set_msrs(vcpu, state);
    if (!r && (mask & X86_STATE_EVENTS))
        r = set_events(vcpu, state);
    if (!r && (mask & X86_STATE_DEBUG))
        r = set_debug(vcpu, state);
    return r;
}
