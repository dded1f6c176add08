/*
 * ELF executables of x86, 32 and 64 bits, as kernels: headers checked, program segments put at
 * their physical addresses. System V ABI, chapters 4 and 5. Control thread.
 */
#ifndef SILL_BOOT_ELF_H
#define SILL_BOOT_ELF_H

#include "base/error.h"
#include "base/types.h"
#include "boot/loader.h"

#define ELF_MAX_SEGMENTS 64

struct elf_segment {
    uint32_t type;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

struct elf_image {
    uint64_t entry;
    unsigned count;
    struct elf_segment segment[ELF_MAX_SEGMENTS];
};

/* Does the file begin as ELF does? 0 or 1, negative when it cannot be read. */
SILL_CHECKED int elf_probe(const struct boot_file *file, struct error *err);

/* -ENOEXEC for headers that are damaged or of another architecture. */
SILL_CHECKED int elf_parse(const struct boot_file *file, struct elf_image *image,
                           struct error *err);

/* Loads the segments; `end` becomes the first address behind all of them. */
SILL_CHECKED int elf_load(struct boot_job *job, const struct elf_image *image, gpa_t *end,
                          struct error *err);

/* Is 32-bit code at the guest-physical `address` part of what was loaded? Then it is the entry. */
bool elf_find_physical(const struct elf_image *image, uint64_t address, uint32_t *entry);

/* As above for the entry in the ELF header: a kernel that is linked to run at high addresses may
 * name it by its virtual or by its physical address. */
bool elf_find_entry(const struct elf_image *image, uint64_t address, uint32_t *entry);

#endif
