/*
 * An engine runs vCPUs. There are two: kvm/ (hardware virtualization through /dev/kvm) and dbt/ (a
 * binary translator in this process). Both are reached only through `struct engine_ops`, take the
 * same callbacks and show the same state (x86/vcpu_state.h). What an engine lacks is a missing
 * capability bit, never a stub.
 *
 * Local APICs belong to the engine (KVM has them in the kernel; dbt/ uses x86/lapic.h). The IOAPIC,
 * the 8259s and all else is the board's: IOAPIC and PCI devices send messages through msi_send(),
 * the 8259 pair drives extint_set() and is asked for its vector by the pic_acknowledge callback.
 */
#ifndef SILL_ENGINE_ENGINE_H
#define SILL_ENGINE_ENGINE_H

#include "base/clock.h"
#include "base/error.h"
#include "base/stats.h"
#include "base/types.h"
#include "bus/irq.h"
#include "mem/memory.h"
#include "x86/cpuid.h"
#include "x86/vcpu_state.h"

struct engine_vm;
struct engine_vcpu;

/* All of them are called on vCPU threads with no engine lock held; all are mandatory. */
struct engine_callbacks {
    void *opaque;
    /* Port I/O; size 1, 2 or 4. */
    uint32_t (*port_read)(void *opaque, uint16_t port, unsigned size);
    void (*port_write)(void *opaque, uint16_t port, unsigned size, uint32_t value);
    /* Accesses outside RAM and ROM, and writes to ROM; size 1, 2, 4 or 8 (larger ones arrive
     * split). */
    uint64_t (*mmio_read)(void *opaque, gpa_t gpa, unsigned size);
    void (*mmio_write)(void *opaque, gpa_t gpa, unsigned size, uint64_t value);
    /* MSRs the engine does not own; false makes the guest take #GP. */
    bool (*msr_read)(void *opaque, unsigned vcpu, uint32_t index, uint64_t *value);
    bool (*msr_write)(void *opaque, unsigned vcpu, uint32_t index, uint64_t value);
    /* The CPU took the 8259's interrupt: the INTA cycle; returns the vector. */
    uint8_t (*pic_acknowledge)(void *opaque);
    /* A local APIC ended a level-triggered interrupt: the broadcast to the IOAPICs. */
    void (*ioapic_eoi)(void *opaque, uint8_t vector);
};

/* Limits of engine_vm_config.code_cache_size. */
#define ENGINE_CODE_CACHE_MIN (4 * MIB)
#define ENGINE_CODE_CACHE_MAX GIB

struct engine_vm_config {
    struct memory *memory; /* outlives the VM */
    struct clock *clock;   /* outlives the VM */
    struct x86_cpuid cpuid;
    unsigned vcpus;
    uint64_t code_cache_size; /* dbt: bytes, 0 for the default */
    const char *debug;        /* dbt: what to report, see dbt/trace.h; NULL */
    struct engine_callbacks callbacks;
};

enum engine_exit_kind {
    ENGINE_EXIT_KICKED,   /* somebody called kick() */
    ENGINE_EXIT_HALTED,   /* never with an in-engine halt; the vCPU waits inside run() */
    ENGINE_EXIT_SHUTDOWN, /* triple fault */
    ENGINE_EXIT_DEBUG,    /* breakpoint or single step asked for by a debugger */
    ENGINE_EXIT_FAILED,   /* the engine cannot go on; `error` says why */
};

#define ENGINE_STEPPED (-1) /* engine_exit.breakpoint of a single step */

struct engine_exit {
    enum engine_exit_kind kind;
    int breakpoint; /* ENGINE_EXIT_DEBUG: index of the one that was hit, or ENGINE_STEPPED */
    struct error error;
};

/* A breakpoint of a debugger outside of the guest, at linear addresses. One on execution stops
 * before the instruction (unless RFLAGS.RF is set), one on data after it. */
struct engine_breakpoint {
    enum engine_breakpoint_kind {
        ENGINE_BREAK_EXECUTE, /* at `address`; the length means nothing */
        ENGINE_BREAK_WRITE,
        ENGINE_BREAK_ACCESS, /* reads and writes */
    } kind;
    gva_t address;
    uint64_t length;
};

#define ENGINE_MAX_BREAKPOINTS 128

/* What a debugger wants of a vCPU. The guest's memory and registers show nothing of it. */
struct engine_debug {
    bool single_step; /* one instruction or exception; no interrupt but one that ends a HLT */
    unsigned count;
    struct engine_breakpoint breakpoint[ENGINE_MAX_BREAKPOINTS];
};

enum engine_capabilities {
    ENGINE_CAP_DIRTY_LOG = 1 << 0,
    ENGINE_CAP_FAST_SUPERVISOR = 1 << 1, /* supervisor code runs at full hardware speed */
};

struct engine_info {
    bool usable;
    unsigned capabilities;
    struct x86_cpuid supported; /* what guests can be offered here */
    double supervisor_mips;     /* measured: million supervisor-mode instructions a second */
    char reason[256];           /* one clause: why not usable, or what was found */
};

struct engine_ops {
    const char *name; /* "kvm", "dbt" */
    const char *description;

    /* Looks at the host; cheap (milliseconds) and without side effects. */
    void (*probe)(struct engine_info *info);

    SILL_CHECKED int (*vm_create)(struct engine_vm **out, const struct engine_vm_config *config,
                                  struct error *err);
    void (*vm_destroy)(struct engine_vm *vm);
    /* The slots of config.memory, or their flags, changed within [gpa, gpa + size). Afterwards no
     * vCPU sees what was there before. While all vCPUs are stopped, or from inside a callback. */
    SILL_CHECKED int (*memory_changed)(struct engine_vm *vm, gpa_t gpa, uint64_t size,
                                       struct error *err);

    /* Makes the TSCs and the paravirtual clock stand still, or go on from where they stood, as
     * config.clock does. At first they run. While all vCPUs are stopped. */
    void (*time_hold)(struct engine_vm *vm, bool hold);

    SILL_CHECKED int (*vcpu_create)(struct engine_vcpu **out, struct engine_vm *vm, unsigned index,
                                    struct error *err);
    void (*vcpu_destroy)(struct engine_vcpu *vcpu);

    /* Runs the vCPU on the calling thread until something happens that the VM must decide. A halted
     * vCPU sleeps inside. One thread per vCPU at a time. */
    void (*run)(struct engine_vcpu *vcpu, struct engine_exit *exit);
    /* Makes run() return ENGINE_EXIT_KICKED soon, or at once if it is not running now (sticky until
     * the next return). Any thread, async-signal-safe. */
    void (*kick)(struct engine_vcpu *vcpu);

    /* Only while the vCPU is not inside run(). */
    SILL_CHECKED int (*get_state)(struct engine_vcpu *vcpu, struct x86_vcpu_state *state,
                                  unsigned mask);
    SILL_CHECKED int (*set_state)(struct engine_vcpu *vcpu, const struct x86_vcpu_state *state,
                                  unsigned mask);

    /* Replaces what the debugger wanted before. -ENOSPC, and nothing changes, if these breakpoints
     * are more, or others, than the engine has: KVM has the processor's four, of 1, 2, 4 or 8
     * aligned bytes, and takes them from the guest. Not while the vCPU is inside run(). */
    SILL_CHECKED int (*set_debug)(struct engine_vcpu *vcpu, const struct engine_debug *debug);

    /* Tells what was counted since the VM was created, a group for each vCPU. All vCPUs stopped. */
    void (*stats)(struct engine_vm *vm, const struct stats *to);

    /* Any thread; a device lock may be held. */
    void (*msi_send)(struct engine_vm *vm, const struct msi_message *message);
    void (*extint_set)(struct engine_vm *vm, bool level); /* the 8259's INT wire */
    void (*nmi)(struct engine_vcpu *vcpu);
};

extern const struct engine_ops engine_kvm;
extern const struct engine_ops engine_dbt;

#endif
