/*
 * What the files of the KVM engine share: vm.c (VM, memory slots, messages), run.c (vCPU and its
 * exits), debug.c (breakpoints and steps of a debugger), stats.c (counters), state.c (the neutral
 * state), probe.c (what this host's KVM can do). The interface is the kernel's
 * Documentation/virt/kvm/api.rst; its section names are the ioctls'.
 *
 * The interrupt controllers are split (KVM_CAP_SPLIT_IRQCHIP): local APICs in the kernel, IOAPIC
 * and 8259 in the board.
 */
#ifndef SILL_ENGINE_KVM_KVM_H
#define SILL_ENGINE_KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "engine/engine.h"

/* Exit reasons that are counted apart; this kernel's headers know fewer. */
#define KVM_EXIT_KINDS 64

/* Distinct level-triggered messages that KVM is told to report the EOI of; see vm.c. The kernel
 * keeps this number in a byte. */
#define KVM_LEVEL_ROUTES 128

struct engine_vm {
    int kvm_fd; /* /dev/kvm */
    int fd;
    size_t run_size; /* of a vCPU's shared page */
    struct engine_vm_config config;
    struct engine_vcpu **vcpu; /* config.vcpus places */

    /* The slots as the kernel has them, under `slot_lock`. A size of 0 is a free one. */
    pthread_mutex_t slot_lock;
    struct memory_slot slot[MEMORY_MAX_SLOTS];

    _Atomic bool extint; /* the 8259's INT wire */

    pthread_mutex_t route_lock; /* innermost; around `route` and what follows */
    struct kvm_irq_routing *route;
    unsigned route_oldest;

    bool time_held;
    uint64_t held_host_tsc; /* the host's when that began */
    uint64_t held_clock;    /* the paravirtual clock's ns */

    uint32_t *msr_list; /* the MSRs this KVM can save */
    unsigned msr_count;
};

struct engine_vcpu {
    struct engine_vm *vm;
    unsigned index;
    int fd;
    struct kvm_run *run;
    struct kvm_guest_debug debug; /* as last given to the kernel */
    bool unfinished; /* the kernel has still to complete the last exit's I/O instruction */

    /* Requests from other threads; poke() makes run() look at them. */
    _Atomic bool kicked;
    _Atomic bool nmi;
    _Atomic pid_t tid; /* the thread inside run(), or 0 */

    uint64_t exits[KVM_EXIT_KINDS], signals; /* returns of KVM_RUN */
};

/* ioctl(), repeated while signals interrupt it; 0 or more, or negative errno. */
int kvm_ioctl(int fd, unsigned long request, void *argument);
/* Opens /dev/kvm and checks that it is one we can use; the sentence says what to do if not. */
SILL_CHECKED int kvm_open(int *fd, struct error *err);
SILL_CHECKED int kvm_create_vm(int kvm_fd, struct error *err); /* the fd or negative errno */

/* probe.c */
void kvm_probe(struct engine_info *info);

/* run.c */
SILL_CHECKED int kvm_vcpu_create(struct engine_vcpu **out, struct engine_vm *vm, unsigned index,
                                 struct error *err);
void kvm_vcpu_destroy(struct engine_vcpu *vcpu);
void kvm_vcpu_run(struct engine_vcpu *vcpu, struct engine_exit *exit);
void kvm_vcpu_kick(struct engine_vcpu *vcpu);
void kvm_vcpu_nmi(struct engine_vcpu *vcpu);
/* Turns a requested NMI into a pending one. The vCPU's thread, or any while it is stopped. */
void kvm_vcpu_deliver_nmi(struct engine_vcpu *vcpu);
/* Makes the vCPU's thread leave the guest and look at the requests. Any thread. */
void kvm_vcpu_poke(struct engine_vcpu *vcpu);

/* debug.c */
SILL_CHECKED int kvm_vcpu_set_debug(struct engine_vcpu *vcpu, const struct engine_debug *debug);
/* KVM_EXIT_DEBUG: true with *breakpoint as in engine_exit; false if it was the guest's own. */
bool kvm_vcpu_debug_exit(struct engine_vcpu *vcpu, int *breakpoint);

/* time.c */
void kvm_time_hold(struct engine_vm *vm, bool hold);
/* While time is held: the TSC of that moment, where KVM tells `tsc`, which ran on. */
uint64_t kvm_held_tsc(const struct engine_vcpu *vcpu, uint64_t tsc);
/* While time is held: makes `tsc`, which KVM has just been given, the TSC of that moment. */
void kvm_held_tsc_set(struct engine_vcpu *vcpu, uint64_t tsc);

/* stats.c */
void kvm_stats(struct engine_vm *vm, const struct stats *to);

/* state.c */
SILL_CHECKED int kvm_vcpu_get_state(struct engine_vcpu *vcpu, struct x86_vcpu_state *state,
                                    unsigned mask);
SILL_CHECKED int kvm_vcpu_set_state(struct engine_vcpu *vcpu, const struct x86_vcpu_state *state,
                                    unsigned mask);

#endif
