/* ELF executables as kernels; see elf.h. Control thread. */
#include "boot/elf.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

int elf_probe(const struct boot_file *file, struct error *err)
{
    uint8_t magic[SELFMAG];

    if (file->size < sizeof(magic))
        return 0;
    int ret = boot_file_read(file, 0, magic, sizeof(magic), err);
    return ret ? ret : !memcmp(magic, ELFMAG, SELFMAG);
}

static int damaged(const struct boot_file *file, const char *what, struct error *err)
{
    return error_set(err, -ENOEXEC, "%s: damaged ELF file: %s", file->path, what);
}

static int read_segment(const struct boot_file *file, bool is64, uint64_t offset,
                        struct elf_segment *segment, struct error *err)
{
    int ret;

    if (is64) {
        Elf64_Phdr header;
        ret = boot_file_read(file, offset, &header, sizeof(header), err);
        if (!ret)
            *segment = (struct elf_segment){header.p_type,  header.p_offset, header.p_vaddr,
                                            header.p_paddr, header.p_filesz, header.p_memsz,
                                            header.p_align};
    } else {
        Elf32_Phdr header;
        ret = boot_file_read(file, offset, &header, sizeof(header), err);
        if (!ret)
            *segment = (struct elf_segment){header.p_type,  header.p_offset, header.p_vaddr,
                                            header.p_paddr, header.p_filesz, header.p_memsz,
                                            header.p_align};
    }
    return ret;
}

int elf_parse(const struct boot_file *file, struct elf_image *image, struct error *err)
{
    union {
        uint8_t ident[EI_NIDENT];
        Elf32_Ehdr h32;
        Elf64_Ehdr h64;
    } header;
    uint64_t offset;
    unsigned entry_size, expected, machine;

    int ret = boot_file_read(file, 0, header.ident, sizeof(header.ident), err);
    if (ret)
        return ret;
    bool is64 = header.ident[EI_CLASS] == ELFCLASS64;
    if (!is64 && header.ident[EI_CLASS] != ELFCLASS32)
        return damaged(file, "it is neither of the 32-bit nor of the 64-bit class", err);
    ret = boot_file_read(file, 0, &header, is64 ? sizeof(header.h64) : sizeof(header.h32), err);
    if (ret)
        return ret;
    if (is64) {
        machine = header.h64.e_machine;
        image->entry = header.h64.e_entry;
        image->count = header.h64.e_phnum;
        offset = header.h64.e_phoff;
        entry_size = header.h64.e_phentsize;
        expected = sizeof(Elf64_Phdr);
    } else {
        machine = header.h32.e_machine;
        image->entry = header.h32.e_entry;
        image->count = header.h32.e_phnum;
        offset = header.h32.e_phoff;
        entry_size = header.h32.e_phentsize;
        expected = sizeof(Elf32_Phdr);
    }
    if (header.ident[EI_DATA] != ELFDATA2LSB || (machine != EM_386 && machine != EM_X86_64))
        return error_set(err, -ENOEXEC, "%s: an ELF file for another architecture than x86",
                         file->path);
    if (!image->count || image->count > ELF_MAX_SEGMENTS)
        return damaged(file, "it has no program headers, or too many", err);
    if (entry_size != expected)
        return damaged(file, "its program headers have the wrong size", err);
    if (offset > file->size)
        return damaged(file, "its program headers lie behind its end", err);
    for (unsigned i = 0; i < image->count; i++) {
        struct elf_segment *segment = &image->segment[i];
        ret = read_segment(file, is64, offset + i * entry_size, segment, err);
        if (ret)
            return ret;
        if (segment->offset > file->size || segment->filesz > file->size - segment->offset)
            return damaged(file, "a segment reaches past its end; is it truncated?", err);
    }
    return 0;
}

int elf_load(struct boot_job *job, const struct elf_image *image, gpa_t *end, struct error *err)
{
    const struct boot_file *file = &job->kernel;

    *end = 0;
    for (unsigned i = 0; i < image->count; i++) {
        const struct elf_segment *segment = &image->segment[i];
        if (segment->type != PT_LOAD)
            continue;
        if (segment->filesz > segment->memsz)
            return damaged(file, "a segment is larger in the file than in memory", err);
        if (!segment->memsz)
            continue;
        int ret = boot_take_kernel(job, segment->paddr, segment->memsz, err);
        if (!ret)
            ret = boot_file_load(file, segment->offset, job->mem, segment->paddr, segment->filesz,
                                 err);
        if (!ret)
            ret = boot_zero(job, segment->paddr + segment->filesz, segment->memsz - segment->filesz,
                            err);
        if (ret)
            return ret;
        if (*end < segment->paddr + segment->memsz)
            *end = segment->paddr + segment->memsz;
    }
    return *end ? 0 : damaged(file, "it has nothing to load", err);
}

/* The loaded segment that has `address` in its bytes from the file. */
static const struct elf_segment *find_segment(const struct elf_image *image, uint64_t address,
                                              bool physical)
{
    for (unsigned i = 0; i < image->count; i++) {
        const struct elf_segment *segment = &image->segment[i];
        uint64_t base = physical ? segment->paddr : segment->vaddr;
        if (segment->type == PT_LOAD && address >= base && address - base < segment->filesz)
            return segment;
    }
    return NULL;
}

bool elf_find_physical(const struct elf_image *image, uint64_t address, uint32_t *entry)
{
    if (address > UINT32_MAX || !find_segment(image, address, true))
        return false;
    *entry = (uint32_t)address;
    return true;
}

bool elf_find_entry(const struct elf_image *image, uint64_t address, uint32_t *entry)
{
    const struct elf_segment *segment = find_segment(image, address, false);

    return elf_find_physical(image, segment ? segment->paddr + (address - segment->vaddr) : address,
                             entry);
}
