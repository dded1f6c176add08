/*
 * Builds ELF kernels for the tests of the PVH and multiboot loaders: one loaded segment, one note
 * segment, in 32 and in 64 bits.
 */
#ifndef SILL_TESTS_BOOT_ELF_H
#define SILL_TESTS_BOOT_ELF_H

#include <elf.h>
#include <string.h>

#include "base/types.h"

#define TEST_ELF_TEXT 0x400 /* offset in the file */
#define TEST_ELF_TEXT_SIZE 0x200
#define TEST_ELF_NOTE 0x200
#define TEST_ELF_SIZE (TEST_ELF_TEXT + TEST_ELF_TEXT_SIZE)
#define TEST_ELF_ADDRESS 0x200000u
#define TEST_ELF_BSS 0x3000
#define TEST_ELF_ENTRY (TEST_ELF_ADDRESS + 0x40)

struct test_elf {
    union {
        uint8_t bytes[TEST_ELF_SIZE];
        struct {
            Elf32_Ehdr header;
            Elf32_Phdr segment[2];
        } elf32;
        struct {
            Elf64_Ehdr header;
            Elf64_Phdr segment[2];
        } elf64;
    };
};

/* The note that names a 32-bit entry: `size` is 4 or 8. */
struct test_note {
    Elf32_Nhdr head;
    char name[4];
    uint64_t entry;
};

static inline void test_elf_common(struct test_elf *elf, unsigned entry_size)
{
    const struct test_note note = {
        .head = {.n_namesz = 4, .n_descsz = entry_size, .n_type = 18},
        .name = "Xen",
        .entry = TEST_ELF_ENTRY,
    };

    memset(elf, 0, sizeof(*elf));
    memset(elf->bytes + TEST_ELF_TEXT, 0xf4, TEST_ELF_TEXT_SIZE);
    memcpy(elf->bytes + TEST_ELF_NOTE, &note, sizeof(note));
}

#define TEST_ELF_FILL(elf, bits, its_machine)                                                      \
    do {                                                                                           \
        elf->header = (Elf##bits##_Ehdr){                                                          \
            .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS##bits, ELFDATA2LSB, EV_CURRENT},             \
            .e_type = ET_EXEC,                                                                     \
            .e_machine = its_machine,                                                              \
            .e_version = EV_CURRENT,                                                               \
            .e_entry = TEST_ELF_ENTRY,                                                             \
            .e_phoff = sizeof(elf->header),                                                        \
            .e_ehsize = sizeof(elf->header),                                                       \
            .e_phentsize = sizeof(elf->segment[0]),                                                \
            .e_phnum = 2,                                                                          \
        };                                                                                         \
        elf->segment[0] = (Elf##bits##_Phdr){                                                      \
            .p_type = PT_LOAD,                                                                     \
            .p_offset = TEST_ELF_TEXT,                                                             \
            .p_vaddr = TEST_ELF_ADDRESS,                                                           \
            .p_paddr = TEST_ELF_ADDRESS,                                                           \
            .p_filesz = TEST_ELF_TEXT_SIZE,                                                        \
            .p_memsz = TEST_ELF_TEXT_SIZE + TEST_ELF_BSS,                                          \
        };                                                                                         \
        elf->segment[1] = (Elf##bits##_Phdr){                                                      \
            .p_type = PT_NOTE,                                                                     \
            .p_offset = TEST_ELF_NOTE,                                                             \
            .p_filesz = sizeof(struct test_note),                                                  \
            .p_align = 4,                                                                          \
        };                                                                                         \
    } while (0)

static inline void test_elf32(struct test_elf *elf)
{
    test_elf_common(elf, 4);
    TEST_ELF_FILL((&elf->elf32), 32, EM_386);
}

static inline void test_elf64(struct test_elf *elf)
{
    test_elf_common(elf, 8);
    TEST_ELF_FILL((&elf->elf64), 64, EM_X86_64);
}

#endif
