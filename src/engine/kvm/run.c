/*
 * The KVM engine's vCPU: KVM_RUN and what it returns with. kvm_vcpu_run() is called by the vCPU's
 * thread; kick, NMI and the 8259's wire come from any other.
 *
 * Requests reach a vCPU in the guest so: the asker sets a flag, sets `immediate_exit` in the shared
 * page and sends the thread a signal. The runner clears `immediate_exit` before it looks at the
 * flags. So either it sees the flag, or KVM_RUN returns at once, or the signal ends it.
 *
 *     asker                           runner
 *     flag = true                     immediate_exit = 0
 *     immediate_exit = 1              look at the flags
 *     signal                          KVM_RUN
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/kvm/kvm.h"
#include "x86/lapic_regs.h"

#define POKE_SIGNAL (SIGRTMIN + 1)

/* --- requests --- */

static void ignore_signal(int number)
{
}

static void install_signal(void)
{
    /* No SA_RESTART: the signal is there to interrupt KVM_RUN. */
    struct sigaction action = {.sa_handler = ignore_signal};
    sigemptyset(&action.sa_mask);
    sigaction(POKE_SIGNAL, &action, NULL);
}

static void set_immediate_exit(struct engine_vcpu *vcpu, bool on)
{
    __atomic_store_n(&vcpu->run->immediate_exit, on, __ATOMIC_SEQ_CST);
}

void kvm_vcpu_poke(struct engine_vcpu *vcpu)
{
    set_immediate_exit(vcpu, true);
    pid_t tid = atomic_load(&vcpu->tid);
    if (tid) /* a thread that has ended meanwhile gets nothing: tgkill() then fails */
        syscall(SYS_tgkill, getpid(), tid, POKE_SIGNAL);
}

void kvm_vcpu_kick(struct engine_vcpu *vcpu)
{
    atomic_store(&vcpu->kicked, true);
    kvm_vcpu_poke(vcpu);
}

/* KVM_NMI would wait for the vCPU to leave the guest, so its own thread has to ask. */
void kvm_vcpu_nmi(struct engine_vcpu *vcpu)
{
    atomic_store(&vcpu->nmi, true);
    kvm_vcpu_poke(vcpu);
}

/* KVM_NMI goes past the local APIC, so LINT1 is looked at here. */
void kvm_vcpu_deliver_nmi(struct engine_vcpu *vcpu)
{
    struct kvm_lapic_state lapic;
    uint32_t lint1;

    if (!atomic_exchange(&vcpu->nmi, false) || kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic) < 0)
        return;
    memcpy(&lint1, lapic.regs + LAPIC_LVT_LINT1, sizeof(lint1));
    if (!(lint1 & LAPIC_LVT_MASKED) && LAPIC_LVT_MODE(lint1) == LAPIC_NMI)
        (void)kvm_ioctl(vcpu->fd, KVM_NMI, NULL);
}

/*
 * Takes the 8259's interrupt. It goes into the vCPU's state as one that is being delivered, and not
 * through KVM_INTERRUPT, whose vector no part of the state shows before the guest is entered: a
 * snapshot in between would lose it.
 */
static void take_extint(struct engine_vcpu *vcpu)
{
    const struct engine_callbacks *cb = &vcpu->vm->config.callbacks;
    struct kvm_vcpu_events events;
    struct kvm_mp_state mp;

    if (kvm_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events) < 0 ||
        kvm_ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp) < 0)
        return;
    events.flags = 0; /* all else stays as it is */
    events.interrupt.injected = 1;
    events.interrupt.soft = 0;
    events.interrupt.nr = cb->pic_acknowledge(cb->opaque);
    (void)kvm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events);
    if (mp.mp_state == KVM_MP_STATE_HALTED) {
        mp.mp_state = KVM_MP_STATE_RUNNABLE;
        (void)kvm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp);
    }
}

/* Takes the 8259's interrupt if the vCPU can have one now, else asks to be told when it can. */
static void offer_extint(struct engine_vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    const _Atomic bool *wire = &vcpu->vm->extint;

    run->request_interrupt_window = 0;
    if (vcpu->index != 0 || !atomic_load(wire))
        return;
    /* As of the last exit, so never while an instruction is unfinished. */
    if (run->ready_for_interrupt_injection && !vcpu->unfinished) {
        take_extint(vcpu);
        run->ready_for_interrupt_injection = 0; /* before the kernel says so again */
    }
    run->request_interrupt_window = atomic_load(wire);
}

/* --- exits --- */

static void do_port(struct engine_vcpu *vcpu)
{
    const struct engine_callbacks *cb = &vcpu->vm->config.callbacks;
    struct kvm_run *run = vcpu->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    /* `count` is more than 1 for string instructions. */
    for (unsigned i = 0; i < run->io.count; i++, data += run->io.size) {
        uint32_t value = 0;
        if (run->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&value, data, run->io.size);
            cb->port_write(cb->opaque, run->io.port, run->io.size, value);
        } else {
            value = cb->port_read(cb->opaque, run->io.port, run->io.size);
            memcpy(data, &value, run->io.size);
        }
    }
}

static void do_mmio(struct engine_vcpu *vcpu)
{
    const struct engine_callbacks *cb = &vcpu->vm->config.callbacks;
    struct kvm_run *run = vcpu->run;
    /* The kernel splits at page ends only, so any length up to 8 may come. */
    for (unsigned done = 0; done < run->mmio.len;) {
        unsigned left = run->mmio.len - done;
        unsigned size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        gpa_t gpa = run->mmio.phys_addr + done;
        uint64_t value = 0;
        if (run->mmio.is_write) {
            memcpy(&value, run->mmio.data + done, size);
            cb->mmio_write(cb->opaque, gpa, size, value);
        } else {
            value = cb->mmio_read(cb->opaque, gpa, size);
            memcpy(run->mmio.data + done, &value, size);
        }
        done += size;
    }
}

static void do_msr(struct engine_vcpu *vcpu, bool write)
{
    const struct engine_callbacks *cb = &vcpu->vm->config.callbacks;
    struct kvm_run *run = vcpu->run;
    uint64_t value = 0;
    bool ok;

    if (write) {
        ok = cb->msr_write(cb->opaque, vcpu->index, run->msr.index, run->msr.data);
    } else {
        ok = cb->msr_read(cb->opaque, vcpu->index, run->msr.index, &value);
        run->msr.data = value;
    }
    run->msr.error = !ok; /* 1 makes the guest take #GP */
}

/* "rip 0x..., bytes 0f 01 ..." for the sentence that says what could not be emulated. */
static void describe_instruction(struct engine_vcpu *vcpu, char *text, size_t size)
{
    struct kvm_run *run = vcpu->run;
    struct kvm_regs regs;
    int length = 0;

    if (kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs) >= 0)
        length = snprintf(text, size, "at rip 0x%llx", regs.rip);
    if (run->emulation_failure.ndata < 3 ||
        !(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
        return;
    length += snprintf(text + length, size - (size_t)length, ", bytes");
    for (unsigned i = 0; i < run->emulation_failure.insn_size && i < 15; i++)
        length += snprintf(text + length, size - (size_t)length, " %02x",
                           run->emulation_failure.insn_bytes[i]);
}

static void describe_internal_error(struct engine_vcpu *vcpu, struct error *err)
{
    struct kvm_run *run = vcpu->run;
    char where[96] = "";

    switch (run->internal.suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        describe_instruction(vcpu, where, sizeof(where));
        error_set(err, -EIO, "KVM cannot emulate the instruction of vCPU %u %s", vcpu->index,
                  where);
        break;
    case KVM_INTERNAL_ERROR_SIMUL_EX:
        error_set(err, -EIO, "KVM met two exceptions at once on vCPU %u", vcpu->index);
        break;
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        error_set(err, -EIO, "KVM could not deliver an interrupt or exception to vCPU %u",
                  vcpu->index);
        break;
    default:
        error_set(err, -EIO, "KVM failed inside on vCPU %u (suberror %u)", vcpu->index,
                  run->internal.suberror);
        break;
    }
}

/* Handles one return of KVM_RUN; true when run() is to return `exit`. */
static bool handle_exit(struct engine_vcpu *vcpu, struct engine_exit *exit)
{
    const struct engine_callbacks *cb = &vcpu->vm->config.callbacks;
    struct kvm_run *run = vcpu->run;

    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        do_port(vcpu);
        vcpu->unfinished = true;
        return false;
    case KVM_EXIT_MMIO:
        do_mmio(vcpu);
        vcpu->unfinished = true;
        return false;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        do_msr(vcpu, run->exit_reason == KVM_EXIT_X86_WRMSR);
        vcpu->unfinished = true;
        return false;
    case KVM_EXIT_IOAPIC_EOI:
        cb->ioapic_eoi(cb->opaque, run->eoi.vector);
        return false;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_INTR:
        return false;
    case KVM_EXIT_SHUTDOWN:
        exit->kind = ENGINE_EXIT_SHUTDOWN;
        return true;
    case KVM_EXIT_DEBUG:
        exit->kind = ENGINE_EXIT_DEBUG;
        return kvm_vcpu_debug_exit(vcpu, &exit->breakpoint);
    case KVM_EXIT_FAIL_ENTRY:
        error_set(&exit->error, -EIO, "the processor refuses to enter vCPU %u (reason 0x%llx)",
                  vcpu->index, run->fail_entry.hardware_entry_failure_reason);
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        describe_internal_error(vcpu, &exit->error);
        break;
    default:
        error_set(&exit->error, -EIO, "KVM left vCPU %u for a reason unknown to us (%u)",
                  vcpu->index, run->exit_reason);
        break;
    }
    exit->kind = ENGINE_EXIT_FAILED;
    return true;
}

static void run_loop(struct engine_vcpu *vcpu, struct engine_exit *exit)
{
    for (;;) {
        set_immediate_exit(vcpu, false);
        if (atomic_load(&vcpu->kicked)) {
            if (!vcpu->unfinished) {
                atomic_store(&vcpu->kicked, false);
                exit->kind = ENGINE_EXIT_KICKED;
                return;
            }
            /* Let the kernel finish the instruction first; only then is the state a state. */
            set_immediate_exit(vcpu, true);
        } else {
            kvm_vcpu_deliver_nmi(vcpu);
            offer_extint(vcpu);
        }
        int r = ioctl(vcpu->fd, KVM_RUN, 0) < 0 ? -errno : 0;
        vcpu->unfinished = false;
        if (r == -EINTR || r == -EAGAIN) {
            vcpu->signals++;
            continue; /* poked; or the first start-up IPI arrived */
        }
        if (r < 0 && vcpu->run->exit_reason != KVM_EXIT_INTERNAL_ERROR) {
            exit->kind = ENGINE_EXIT_FAILED;
            error_set(&exit->error, r, "KVM cannot run vCPU %u: %s", vcpu->index, strerror(-r));
            return;
        }
        if (vcpu->run->exit_reason < KVM_EXIT_KINDS)
            vcpu->exits[vcpu->run->exit_reason]++;
        if (handle_exit(vcpu, exit))
            return;
    }
}

void kvm_vcpu_run(struct engine_vcpu *vcpu, struct engine_exit *exit)
{
    sigset_t poke;

    *exit = (struct engine_exit){0};
    sigemptyset(&poke);
    sigaddset(&poke, POKE_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &poke, NULL);
    atomic_store(&vcpu->tid, (pid_t)syscall(SYS_gettid));
    run_loop(vcpu, exit);
    atomic_store(&vcpu->tid, 0);
}

/* --- life --- */

static int set_cpuid(struct engine_vcpu *vcpu, struct error *err)
{
    const struct x86_cpuid *table = &vcpu->vm->config.cpuid;
    struct kvm_cpuid2 *cpuid =
        calloc(1, sizeof(*cpuid) + X86_CPUID_MAX_LEAVES * sizeof(cpuid->entries[0]));

    if (!cpuid)
        return error_set(err, -ENOMEM, "out of memory");
    cpuid->nent = table->count;
    for (unsigned i = 0; i < table->count; i++) {
        const struct x86_cpuid_leaf *leaf = &table->leaf[i];
        uint32_t out[4];
        x86_cpuid_get(table, vcpu->index, false, 1, leaf->leaf, leaf->subleaf, out);
        cpuid->entries[i] = (struct kvm_cpuid_entry2){
            .function = leaf->leaf,
            .index = leaf->subleaf,
            .flags = leaf->has_subleaf ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
            .eax = out[0],
            .ebx = out[1],
            .ecx = out[2],
            .edx = out[3],
        };
    }
    int r = kvm_ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid);
    free(cpuid);
    return r < 0 ? error_set(err, r, "KVM does not take the CPU model: %s", strerror(-r)) : 0;
}

void kvm_vcpu_destroy(struct engine_vcpu *vcpu)
{
    if (!vcpu)
        return;
    if (vcpu->vm->vcpu[vcpu->index] == vcpu)
        vcpu->vm->vcpu[vcpu->index] = NULL;
    if (vcpu->run)
        munmap(vcpu->run, vcpu->vm->run_size);
    if (vcpu->fd >= 0)
        close(vcpu->fd);
    free(vcpu);
}

int kvm_vcpu_create(struct engine_vcpu **out, struct engine_vm *vm, unsigned index,
                    struct error *err)
{
    static pthread_once_t signal_once = PTHREAD_ONCE_INIT;
    struct engine_vcpu *vcpu = calloc(1, sizeof(*vcpu));
    int r;

    if (!vcpu)
        return error_set(err, -ENOMEM, "out of memory");
    pthread_once(&signal_once, install_signal);
    vcpu->vm = vm;
    vcpu->index = index;
    vcpu->fd = kvm_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)index);
    if (vcpu->fd < 0) {
        r = error_set(err, vcpu->fd, "KVM cannot create vCPU %u: %s", index, strerror(-vcpu->fd));
        goto fail;
    }
    void *run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (run == MAP_FAILED) {
        r = error_set(err, -errno, "cannot map the page shared with KVM: %s", strerror(errno));
        goto fail;
    }
    vcpu->run = run;
    r = set_cpuid(vcpu, err);
    if (r)
        goto fail;
    vm->vcpu[index] = vcpu;
    *out = vcpu;
    return 0;
fail:
    kvm_vcpu_destroy(vcpu);
    return r;
}
