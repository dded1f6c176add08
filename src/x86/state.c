/*
 * The state of a processor at power-on (Intel SDM volume 3, table 10-1). Called by whoever creates
 * or resets a vCPU, which then sets the state through engine_ops.set_state.
 */
#include <string.h>

#include "x86/arch.h"
#include "x86/lapic_regs.h"
#include "x86/msr.h"
#include "x86/vcpu_state.h"

/* Family 6: what DX holds at reset, and CPUID leaf 1 in EAX. */
#define PROCESSOR_SIGNATURE 0x600

/* Offsets in the legacy region of an XSAVE area and of its header (SDM volume 1, 13.4). */
#define XSAVE_FCW 0
#define XSAVE_FTW 4
#define XSAVE_MXCSR 24
#define XSAVE_XSTATE_BV 512

static struct x86_segment real_mode_segment(uint16_t attributes)
{
    return (struct x86_segment){.attributes = X86_SEGMENT_PRESENT | attributes, .limit = 0xffff};
}

static void put32(uint8_t *to, uint32_t value)
{
    memcpy(to, &value, sizeof(value));
}

static void reset_fpu(struct x86_vcpu_state *state)
{
    uint16_t fcw = X86_FCW_RESET;

    memcpy(state->xsave + XSAVE_FCW, &fcw, sizeof(fcw));
    state->xsave[XSAVE_FTW] = 0xff; /* abridged: every register in use, holding +0.0 */
    put32(state->xsave + XSAVE_MXCSR, X86_MXCSR_RESET);
    put32(state->xsave + XSAVE_XSTATE_BV, X86_XCR0_X87 | X86_XCR0_SSE);
    state->xcr0 = X86_XCR0_X87;
}

static void reset_lapic(struct x86_vcpu_state *state, unsigned apic_id)
{
    uint8_t *page = state->lapic;

    put32(page + LAPIC_ID, apic_id << 24);
    put32(page + LAPIC_VERSION, LAPIC_VERSION_VALUE);
    put32(page + LAPIC_DFR, LAPIC_DFR_FLAT);
    put32(page + LAPIC_SVR, LAPIC_SVR_RESET);
    for (unsigned offset = LAPIC_LVT_TIMER; offset <= LAPIC_LVT_ERROR; offset += 16)
        put32(page + offset, LAPIC_LVT_MASKED);
}

void x86_vcpu_state_reset(struct x86_vcpu_state *state, bool bootstrap, unsigned apic_id)
{
    const uint16_t data = X86_SEGMENT_S | X86_TYPE_WRITABLE | X86_TYPE_ACCESSED;

    *state = (struct x86_vcpu_state){
        .gpr[X86_RDX] = PROCESSOR_SIGNATURE,
        .rip = 0xfff0,
        .rflags = X86_FLAG_FIXED,
        .cr0 = X86_CR0_CD | X86_CR0_NW | X86_CR0_ET,
        .dr6 = X86_DR6_RESET,
        .dr7 = X86_DR7_RESET,
        .gdtr.limit = 0xffff,
        .idtr.limit = 0xffff,
        .apic_base = APIC_BASE_DEFAULT | APIC_BASE_ENABLE | (bootstrap ? APIC_BASE_BSP : 0),
        .run_state = bootstrap ? X86_RUNNABLE : X86_WAIT_FOR_SIPI,
        .msr.pat = X86_PAT_RESET,
        .msr.misc_enable =
            MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_BTS_UNAVAILABLE | MISC_ENABLE_PEBS_UNAVAILABLE,
    };
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        state->segment[i] = real_mode_segment(data);
    /* The first instruction comes from just below 4 GiB: the base is not the selector's. */
    state->segment[X86_CS] = real_mode_segment(data | X86_TYPE_CODE);
    state->segment[X86_CS].selector = 0xf000;
    state->segment[X86_CS].base = 0xffff0000;
    state->ldtr = real_mode_segment(X86_TYPE_LDT);
    /* VMX and SVM hold a busy 32-bit TSS here and would refuse an available one. */
    state->tr = real_mode_segment(X86_TYPE_TSS_BUSY);
    reset_fpu(state);
    reset_lapic(state, apic_id);
}
