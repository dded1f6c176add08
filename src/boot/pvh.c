/*
 * ELF kernels with a PVH entry: x86/HVM direct boot ABI, docs/misc/pvh.pandoc and the public header
 * arch-x86/hvm/start_info.h of Xen. Linux (CONFIG_PVH), Xen, FreeBSD and unikernels have it.
 * Control thread.
 *
 * An ELF note names the entry. It is entered in 32-bit protected mode without paging, EBX pointing
 * to struct hvm_start_info, which leads to the command line, the modules (the RAM disk), the memory
 * map and the RSDP.
 */
#include "boot/loader.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "boot/elf.h"

#define NOTE_NAME "Xen"
#define NOTE_PHYS32_ENTRY 18u
/* Linux has some 500 bytes of notes, Xen less than 4 KiB. */
#define NOTES_MAX (64 * KIB)

#define START_MAGIC 0x336ec578u
#define START_VERSION 1u /* the first with a memory map */
#define COMMAND_LINE_MAX (16 * KIB)

struct start_info {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t module_count;
    uint64_t modules;
    uint64_t command_line;
    uint64_t rsdp;
    uint64_t memory_map;
    uint32_t memory_map_entries;
    uint32_t reserved;
};

struct start_module {
    uint64_t address;
    uint64_t size;
    uint64_t command_line;
    uint64_t reserved;
};

struct start_range {
    uint64_t address;
    uint64_t size;
    uint32_t type;
    uint32_t reserved;
};

/* All that is handed over, in one piece of low memory. */
struct start_page {
    struct start_info info;
    struct start_module module;
    struct start_range range[LAYOUT_MAX_RANGES];
};

static int probe(const struct boot_job *job, struct error *err)
{
    return elf_probe(&job->kernel, err);
}

/* Looks for the entry in the notes; true when found. Layout of a note: System V ABI, 5.8. */
static bool find_in_notes(const uint8_t *notes, uint64_t size, uint64_t align, uint64_t *entry)
{
    Elf32_Nhdr note;

    for (uint64_t at = 0; size - at >= sizeof(note);) {
        memcpy(&note, notes + at, sizeof(note));
        uint64_t name = at + sizeof(note);
        uint64_t desc = ALIGN_UP(name + note.n_namesz, align);
        uint64_t next = ALIGN_UP(desc + note.n_descsz, align);
        if (desc > size || note.n_descsz > size - desc)
            return false;
        if (note.n_type == NOTE_PHYS32_ENTRY && note.n_namesz == sizeof(NOTE_NAME) &&
            !memcmp(notes + name, NOTE_NAME, sizeof(NOTE_NAME)) &&
            (note.n_descsz == sizeof(uint32_t) || note.n_descsz == sizeof(uint64_t))) {
            *entry = 0;
            memcpy(entry, notes + desc, note.n_descsz);
            return true;
        }
        if (next > size)
            return false;
        at = next;
    }
    return false;
}

static int find_entry(const struct boot_job *job, const struct elf_image *image, uint32_t *entry,
                      struct error *err)
{
    for (unsigned i = 0; i < image->count; i++) {
        const struct elf_segment *segment = &image->segment[i];
        uint8_t notes[NOTES_MAX];
        uint64_t address;

        if (segment->type != PT_NOTE || segment->filesz > sizeof(notes))
            continue;
        int ret = boot_file_read(&job->kernel, segment->offset, notes, segment->filesz, err);
        if (ret)
            return ret;
        if (!find_in_notes(notes, segment->filesz, segment->align == 8 ? 8 : 4, &address))
            continue;
        if (!elf_find_physical(image, address, entry))
            return error_set(err, -ENOEXEC,
                             "%s: damaged ELF file: its PVH entry lies outside what it loads",
                             job->kernel.path);
        return 0;
    }
    return error_set(err, -ENOEXEC,
                     "%s: an ELF file that is neither a multiboot kernel nor one with a PVH entry "
                     "(for Linux: take the bzImage, or build it with CONFIG_PVH)",
                     job->kernel.path);
}

static int hand_over(struct boot_job *job, const struct boot_span *initrd, gpa_t command_line,
                     gpa_t *start, struct error *err)
{
    const struct layout_map *map = &job->space.map;
    struct start_page page = {
        .info = {.magic = START_MAGIC,
                 .version = START_VERSION,
                 .command_line = command_line,
                 .rsdp = job->config->rsdp,
                 .memory_map_entries = map->count},
    };

    int ret = boot_take_low(job, sizeof(page), GUEST_PAGE_SIZE, start, err);
    if (ret)
        return ret;
    page.info.memory_map = *start + offsetof(struct start_page, range);
    if (initrd->size) {
        page.info.module_count = 1;
        page.info.modules = *start + offsetof(struct start_page, module);
        page.module = (struct start_module){.address = initrd->base, .size = initrd->size};
    }
    for (unsigned i = 0; i < map->count; i++)
        page.range[i] = (struct start_range){
            .address = map->range[i].base,
            .size = map->range[i].size,
            .type = map->range[i].type,
        };
    return boot_write(job, *start, &page, sizeof(page), err);
}

static int load(struct boot_job *job, struct error *err)
{
    struct elf_image image;
    struct boot_span initrd = {0};
    gpa_t end, command_line, start, gdt;
    uint32_t entry;

    int ret = elf_parse(&job->kernel, &image, err);
    if (!ret)
        ret = find_entry(job, &image, &entry, err);
    if (!ret)
        ret = elf_load(job, &image, &end, err);
    if (!ret)
        ret = boot_put_string(job, job->config->append ? job->config->append : "", COMMAND_LINE_MAX,
                              &command_line, err);
    if (!ret && job->config->initrd)
        ret = boot_load_module(job, job->config->initrd, LAYOUT_HIGH_BASE, 4 * GIB, true, &initrd,
                               err);
    if (!ret)
        ret = hand_over(job, &initrd, command_line, &start, err);
    if (!ret)
        ret = boot_take_low(job, BOOT_GDT_SIZE, 16, &gdt, err);
    if (ret)
        return ret;
    ret = boot_cpu_protected(job->state, job->mem, gdt, entry);
    if (ret)
        return error_set(err, ret, "no guest memory for the boot CPU's tables");
    job->state->gpr[X86_RBX] = start;
    return 0;
}

const struct boot_format boot_format_pvh = {.probe = probe, .load = load};
