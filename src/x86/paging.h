/*
 * Where a linear address lies in physical memory, by the paging structures as they are in memory
 * now (Intel SDM volume 3, chapter 4). For those who look at a guest from outside: no rights are
 * checked, no accessed or dirty bits set, no TLB is asked. Any thread, the vCPU stopped.
 */
#ifndef SILL_X86_PAGING_H
#define SILL_X86_PAGING_H

#include "mem/memory.h"
#include "x86/vcpu_state.h"

/* Looks at cr0, cr3, cr4 and efer of `state`. False where nothing is mapped. */
bool x86_paging_translate(const struct x86_vcpu_state *state, const struct memory *memory,
                          gva_t linear, gpa_t *gpa);

#endif
