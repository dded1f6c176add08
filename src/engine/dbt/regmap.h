/*
 * Which host register holds which guest register while translated code runs.
 *
 * Guest rax, rcx, rdx, rbx, rsp, rsi, rdi and r8..r11 stay themselves, so that implicit operands
 * (mul, shifts by cl, cmpxchg16b) need no care. Guest rbp lives in host r13; guest r12..r15 live in
 * struct dbt_vcpu, and four host registers are free for the translator. TEMP0 is rbp because an
 * instruction whose memory operand is [rbp] needs no REX prefix and so can still name ah, bh, ch
 * and dh.
 *
 * So translated code has no stack of the host's, and rsp holds whatever the guest put there. The
 * stubs switch to the host's stack before they call C; signals run on a stack of their own (see
 * dbt_run()).
 */
#ifndef SILL_ENGINE_DBT_REGMAP_H
#define SILL_ENGINE_DBT_REGMAP_H

#include "x86/vcpu_state.h"

enum host_register {
    HOST_RAX,
    HOST_RCX,
    HOST_RDX,
    HOST_RBX,
    HOST_RSP,
    HOST_RBP,
    HOST_RSI,
    HOST_RDI,
    HOST_R8,
    HOST_R9,
    HOST_R10,
    HOST_R11,
    HOST_R12,
    HOST_R13,
    HOST_R14,
    HOST_R15,
    HOST_NONE = 0xff
};

#define TEMP0 HOST_RBP /* linear, then host address of the memory operand */
#define TEMP1 HOST_R14
#define TEMP2 HOST_R15
#define PIN HOST_R12 /* host address minus linear address of the pinned stack page, see pin.c */

/* Host register of a guest register, or HOST_NONE if it lives in memory. */
static inline enum host_register regmap_host(unsigned guest)
{
    switch (guest) {
    case X86_RBP:
        return HOST_R13;
    case X86_R12:
    case X86_R13:
    case X86_R14:
    case X86_R15:
        return HOST_NONE;
    default:
        return (enum host_register)guest;
    }
}

#endif
