/*
 * Register offsets and bits of the local APIC (Intel SDM volume 3, 11.4.1; the x2APIC MSR of an
 * offset is 0x800 + offset / 16, 11.12.1.2).
 */
#ifndef SILL_X86_LAPIC_REGS_H
#define SILL_X86_LAPIC_REGS_H

#define LAPIC_ID 0x020
#define LAPIC_VERSION 0x030
#define LAPIC_TPR 0x080
#define LAPIC_APR 0x090
#define LAPIC_PPR 0x0a0
#define LAPIC_EOI 0x0b0
#define LAPIC_RRD 0x0c0
#define LAPIC_LDR 0x0d0
#define LAPIC_DFR 0x0e0
#define LAPIC_SVR 0x0f0
#define LAPIC_ISR 0x100 /* eight registers of 32 vectors, 16 bytes apart; so TMR and IRR */
#define LAPIC_TMR 0x180
#define LAPIC_IRR 0x200
#define LAPIC_ESR 0x280
#define LAPIC_ICR 0x300
#define LAPIC_ICR2 0x310
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_LVT_THERMAL 0x330
#define LAPIC_LVT_PERF 0x340
#define LAPIC_LVT_LINT0 0x350
#define LAPIC_LVT_LINT1 0x360
#define LAPIC_LVT_ERROR 0x370
#define LAPIC_TIMER_INITIAL 0x380
#define LAPIC_TIMER_CURRENT 0x390
#define LAPIC_TIMER_DIVIDE 0x3e0
#define LAPIC_SELF_IPI 0x3f0 /* x2APIC only */

/* Reserved for the guest, who reads 0 there; in a saved page (struct x86_vcpu_state) they keep what
 * the registers do not show. */
#define LAPIC_SAVED_ERRORS 0x290 /* errors that the next ESR write will show */
#define LAPIC_SAVED_EXTINT 0x2a0 /* 1: an ExtINT message waits to be acknowledged */

/* 11.4.8: version 0x14, six LVT entries, EOI broadcasts can be suppressed. */
#define LAPIC_VERSION_VALUE 0x01050014u

/* Spurious-interrupt vector register (11.9). */
#define LAPIC_SVR_ENABLE (1u << 8)
#define LAPIC_SVR_NO_EOI_BROADCAST (1u << 12)
#define LAPIC_SVR_WRITABLE 0x11ffu /* no focus-processor checking */
#define LAPIC_SVR_RESET 0xffu

/* Local vector table (11.5.1). */
#define LAPIC_LVT_MASKED (1u << 16)
#define LAPIC_LVT_LEVEL (1u << 15)
#define LAPIC_LVT_REMOTE_IRR (1u << 14) /* read only */
#define LAPIC_LVT_POLARITY (1u << 13)
#define LAPIC_LVT_DELIVERY_STATUS (1u << 12) /* read only */
#define LAPIC_LVT_MODE(lvt) ((lvt) >> 8 & 7)
#define LAPIC_LVT_TIMER_MODE (3u << 17)
#define LAPIC_LVT_TIMER_ONE_SHOT (0u << 17)
#define LAPIC_LVT_TIMER_PERIODIC (1u << 17)
#define LAPIC_LVT_TIMER_DEADLINE (2u << 17)

/* Interrupt command register (11.6.1); the delivery mode has the same encoding in the LVT and in
 * messages. */
#define LAPIC_ICR_LOGICAL (1u << 11)
#define LAPIC_ICR_BUSY (1u << 12) /* always reads idle; reserved in x2APIC mode */
#define LAPIC_ICR_ASSERT (1u << 14)
#define LAPIC_ICR_LEVEL (1u << 15)
#define LAPIC_ICR_SHORTHAND(icr) ((icr) >> 18 & 3)
#define LAPIC_ICR_WRITABLE 0x000ccfffu

enum lapic_shorthand {
    LAPIC_TO_DESTINATION,
    LAPIC_TO_SELF,
    LAPIC_TO_ALL,
    LAPIC_TO_OTHERS,
};

enum lapic_delivery {
    LAPIC_FIXED = 0,
    LAPIC_LOWEST_PRIORITY = 1,
    LAPIC_SMI = 2,
    LAPIC_NMI = 4,
    LAPIC_INIT = 5,
    LAPIC_STARTUP = 6,
    LAPIC_EXTINT_MODE = 7,
};

/* Error status register (11.5.3). */
#define LAPIC_ERROR_SEND_VECTOR (1u << 5)
#define LAPIC_ERROR_RECEIVE_VECTOR (1u << 6)
#define LAPIC_ERROR_REGISTER (1u << 7)

/* Destination format register: all ones but the model, whose top nibble is f for flat (11.6.2.2).
 */
#define LAPIC_DFR_FLAT 0xffffffffu
#define LAPIC_DFR_FIXED_BITS 0x0fffffffu

/* Vectors 0 to 15 cannot be sent through a local APIC (11.5.2). */
#define LAPIC_FIRST_VECTOR 16

#endif
