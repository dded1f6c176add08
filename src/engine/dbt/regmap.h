/*
 * Which host register holds which guest register while translated code runs.
 *
 * Guest rax, rcx, rdx, rbx, rsi, rdi and r8..r11 stay themselves, so that implicit operands (mul,
 * shifts by cl, cmpxchg16b) need no care. Guest rsp and rbp live in host r12 and r13; guest
 * r12..r15 live in struct dbt_vcpu. The host's rsp stays the host's stack, and three host registers
 * are free for the translator. TEMP0 is rbp because an instruction whose memory operand is [rbp]
 * needs no REX prefix and so can still name ah, bh, ch and dh.
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

/* Host register of a guest register, or HOST_NONE if it lives in memory. */
static inline enum host_register regmap_host(unsigned guest)
{
    switch (guest) {
    case X86_RSP:
        return HOST_R12;
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
