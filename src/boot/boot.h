/*
 * Direct boot: puts a kernel into guest memory as a firmware's boot loader would have left it, and
 * says in which state the boot CPU enters it.
 *
 * Called by the control thread before the vCPUs start and again at each guest reset, after guest
 * memory has its slots (layout.h) and after boot_build_tables() (tables.h). Three kinds of kernel,
 * told apart by their contents and looked for in this order:
 *
 *     Linux bzImage            linux.c       64-bit entry; 32-bit entry for i386 kernels
 *     multiboot 1              multiboot.c   ELF, or a flat image with load addresses
 *     ELF with a PVH note      pvh.c         vmlinux, Xen, Unikraft, ...
 *
 * Files are hostile input: whatever they hold, the outcome is a loaded kernel or a sentence.
 */
#ifndef SILL_BOOT_BOOT_H
#define SILL_BOOT_BOOT_H

#include "base/error.h"
#include "base/types.h"
#include "boot/layout.h"
#include "mem/memory.h"
#include "x86/vcpu_state.h"

struct boot_config {
    const char *kernel; /* path */
    /* Path of the initial RAM disk, or NULL. For a multiboot kernel its modules, separated by
     * commas, each a path that arguments may follow after a space. */
    const char *initrd;
    const char *append; /* command line, or NULL */
    const struct layout *layout;
    gpa_t rsdp; /* from boot_build_tables(), 0 for none */
};

/*
 * Loads everything and writes the boot CPU's initial state, complete for X86_STATE_ALL, local APIC
 * id 0. `err` names the file and what is wrong with it: -ENOENT and the like for files that cannot
 * be read, -ENOEXEC for what is no (whole) kernel, -ENOMEM for a guest with too little memory,
 * -E2BIG for a too long command line.
 */
SILL_CHECKED int boot_load(const struct boot_config *config, struct memory *mem,
                           struct x86_vcpu_state *state, struct error *err);

/* What firmware leaves in the memory type registers of every CPU, and the kernel relies on: RAM is
 * cached, device addresses are not. boot_load() does it for the boot CPU; the board does it for the
 * others before they start. */
void boot_set_mtrrs(struct x86_vcpu_state *state, const struct layout *layout);

#endif
