/*
 * The boot CPU's state at a kernel's entry: flat protected mode, or long mode with the low 4 GiB
 * identity mapped. Control thread.
 */
#ifndef SILL_BOOT_CPU_H
#define SILL_BOOT_CPU_H

#include "base/error.h"
#include "base/types.h"
#include "mem/memory.h"
#include "x86/vcpu_state.h"

/* Selectors of the GDT: Linux demands these (__BOOT_CS, __BOOT_DS), the others do not care. */
#define BOOT_CS 0x10u
#define BOOT_DS 0x18u
#define BOOT_TR 0x20u

#define BOOT_GDT_SIZE 40u
#define BOOT_PAGE_TABLES_SIZE (6 * GUEST_PAGE_SIZE)

/* 32-bit protected mode, paging off, interrupts off, general registers 0. Writes the GDT to `gdt`,
 * RAM of BOOT_GDT_SIZE bytes. -EFAULT. */
SILL_CHECKED int boot_cpu_protected(struct x86_vcpu_state *state, struct memory *mem, gpa_t gdt,
                                    uint32_t entry);

/* 64-bit mode, likewise. Writes page tables of 2 MiB pages (every CPU model has them; not so 1 GiB
 * pages) to `page_tables`, page aligned RAM of BOOT_PAGE_TABLES_SIZE bytes. -EFAULT. */
SILL_CHECKED int boot_cpu_long(struct x86_vcpu_state *state, struct memory *mem, gpa_t gdt,
                               gpa_t page_tables, uint64_t entry);

#endif
