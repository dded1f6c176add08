/*
 * The architectural state of one virtual CPU, in a form that belongs to no engine. What an engine
 * keeps inside (translations, TLBs) is not here; everything a running guest could notice is.
 */
#ifndef SILL_X86_VCPU_STATE_H
#define SILL_X86_VCPU_STATE_H

#include "base/types.h"

enum x86_gpr {
    X86_RAX,
    X86_RCX,
    X86_RDX,
    X86_RBX,
    X86_RSP,
    X86_RBP,
    X86_RSI,
    X86_RDI,
    X86_R8,
    X86_R9,
    X86_R10,
    X86_R11,
    X86_R12,
    X86_R13,
    X86_R14,
    X86_R15,
    X86_GPR_COUNT
};

/* Encoding order of the segment registers (Intel SDM volume 2, table B-8). */
enum x86_segment_register { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_SEGMENT_COUNT };

/* A segment register with its hidden part. */
struct x86_segment {
    uint16_t selector;
    uint16_t attributes; /* bits 8..23 of the descriptor's high half shifted down by 8: type in bits
                            0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14, G 15; the unusable bit of
                            the null selector is "not present" */
    uint32_t limit;      /* in bytes, already scaled by G */
    uint64_t base;
};

#define X86_SEGMENT_TYPE(a) ((a)&0xf)
#define X86_SEGMENT_S (1u << 4)
#define X86_SEGMENT_DPL(a) (((a) >> 5) & 3)
#define X86_SEGMENT_PRESENT (1u << 7)
#define X86_SEGMENT_L (1u << 13)
#define X86_SEGMENT_DB (1u << 14)
#define X86_SEGMENT_G (1u << 15)

struct x86_table {
    uint64_t base;
    uint16_t limit;
};

enum x86_run_state {
    X86_RUNNABLE,
    X86_HALTED,        /* HLT: an interrupt, NMI or INIT wakes it */
    X86_WAIT_FOR_SIPI, /* an application processor after INIT */
};

/* What the processor is about to deliver (exception, or an event interrupted half way). */
struct x86_events {
    bool exception_pending;
    uint8_t exception_vector;
    bool exception_has_error;
    uint32_t exception_error;
    bool interrupt_taken; /* an external interrupt left the APIC or 8259 but is not delivered yet */
    uint8_t interrupt_vector;
    bool interrupt_shadow; /* after STI or MOV SS: no interrupt before the next instruction ends */
    bool nmi_pending;
    bool nmi_blocked; /* inside an NMI handler, until IRET */
};

/* Model-specific registers that have storage; the rest derive from other fields. */
struct x86_msrs {
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, misc_enable, tsc_adjust, tsc_aux, tsc_deadline;
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
    uint64_t spec_ctrl;
    uint64_t kvm_wall_clock, kvm_system_time, kvm_poll_control;
};

/* Room for every component that an engine can show a guest. */
#define X86_XSAVE_AREA_SIZE 4096

struct x86_vcpu_state {
    uint64_t gpr[X86_GPR_COUNT];
    uint64_t rip;
    uint64_t rflags;
    struct x86_segment segment[X86_SEGMENT_COUNT];
    struct x86_segment ldtr, tr;
    struct x86_table gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8;
    uint64_t efer;
    uint64_t apic_base;
    uint64_t xcr0;
    uint64_t dr[4], dr6, dr7;
    uint64_t tsc; /* the guest's TSC at the moment of the get, or to continue from at the set */
    struct x86_msrs msr;
    struct x86_events events;
    enum x86_run_state run_state;
    /* Standard (not compacted) XSAVE format, header included; Intel SDM volume 1, 13.4. */
    uint8_t xsave[X86_XSAVE_AREA_SIZE] __attribute__((aligned(64)));
    /* Local APIC register page as KVM_GET_LAPIC lays it out: register at its xAPIC offset. */
    uint8_t lapic[1024] __attribute__((aligned(8)));
};

/* Groups for engine_ops.get_state and set_state. */
enum x86_state_mask {
    X86_STATE_GPR = 1 << 0,    /* gpr, rip, rflags */
    X86_STATE_SYSTEM = 1 << 1, /* segments, tables, control registers, efer, apic_base */
    X86_STATE_FPU = 1 << 2,    /* xsave, xcr0 */
    X86_STATE_DEBUG = 1 << 3,  /* dr* */
    X86_STATE_MSR = 1 << 4,    /* msr, tsc */
    X86_STATE_EVENTS = 1 << 5, /* events, run_state */
    X86_STATE_LAPIC = 1 << 6,  /* lapic */
    X86_STATE_ALL = (1 << 7) - 1,
};

/* Power-on state (Intel SDM volume 3, table 10-1): real mode at f000:fff0. The bootstrap processor
 * is runnable, the others wait for a start-up IPI. */
void x86_vcpu_state_reset(struct x86_vcpu_state *state, bool bootstrap, unsigned apic_id);

#endif
