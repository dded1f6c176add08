/*
 * Multiboot 1 kernels: Multiboot Specification 0.6.96, 3.1 (header), 3.2 (machine state), 3.3
 * (boot information). Control thread.
 *
 * The header stands in the first 8 KiB of the file. A kernel is an ELF file of 32 or of 64 bits
 * (entered in 32-bit mode all the same), or any file whose header gives load addresses. Modules lie
 * behind the kernel, page aligned. Boot information is in low memory:
 *
 *     struct info_page    the information itself, the memory map, the module list
 *     strings             command line, loader name, one string a module
 */
#include "boot/loader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/elf.h"

#define SEARCH_LENGTH (8 * KIB)
#define HEADER_MAGIC 0x1badb002u
#define ENTRY_MAGIC 0x2badb002u
#define LOADER_NAME "Sill"

/* Header flags: 0 to 15 are demands, 16 to 31 offers. */
#define HEADER_PAGE_ALIGN (1u << 0) /* of modules; always so */
#define HEADER_MEMORY_INFO (1u << 1)
#define HEADER_VIDEO_MODE (1u << 2) /* a wish: the information says that there is no video */
#define HEADER_DEMANDS 0xffffu
#define HEADER_DEMANDS_KNOWN (HEADER_PAGE_ALIGN | HEADER_MEMORY_INFO | HEADER_VIDEO_MODE)
#define HEADER_HAS_ADDRESSES (1u << 16)

/* Information flags: which of its fields are there. */
#define INFO_MEMORY (1u << 0)
#define INFO_COMMAND_LINE (1u << 2)
#define INFO_MODULES (1u << 3)
#define INFO_MEMORY_MAP (1u << 6)
#define INFO_LOADER_NAME (1u << 9)

#define MODULES_MAX 64u
#define STRING_MAX (16 * KIB)

struct header {
    uint32_t magic, flags, checksum;
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr; /* HAS_ADDRESSES */
};
#define HEADER_SIZE_MIN offsetof(struct header, header_addr)

struct info {
    uint32_t flags;
    uint32_t mem_lower, mem_upper; /* KiB from 0 and from 1 MiB on */
    uint32_t boot_device;
    uint32_t command_line;
    uint32_t module_count, modules;
    uint32_t symbols[4];
    uint32_t mmap_length, mmap_addr;
    uint32_t drives_length, drives_addr;
    uint32_t config_table;
    uint32_t loader_name;
};

struct module {
    uint32_t start, end;
    uint32_t string;
    uint32_t reserved;
};

struct range {
    uint32_t size; /* of what follows */
    uint64_t base, length;
    uint32_t type;
} __attribute__((packed));

struct info_page {
    struct info info;
    struct module module[MODULES_MAX];
    struct range range[LAYOUT_MAX_RANGES];
};

/* ---- the header ---- */

/* Looks for the header: its offset in the file, or -1 when there is none. */
static int find_header(const struct boot_file *file, struct header *header, int *found,
                       struct error *err)
{
    /* One header's room more than is searched, so that each place can be copied from. */
    uint8_t start[SEARCH_LENGTH + sizeof(*header)] = {0};
    uint64_t length = file->size < SEARCH_LENGTH ? file->size : SEARCH_LENGTH;

    *found = -1;
    int ret = boot_file_read(file, 0, start, length, err);
    if (ret)
        return ret;
    for (uint64_t at = 0; at + HEADER_SIZE_MIN <= length; at += 4) {
        memcpy(header, start + at, sizeof(*header));
        uint64_t size = header->flags & HEADER_HAS_ADDRESSES ? sizeof(*header) : HEADER_SIZE_MIN;
        if (header->magic == HEADER_MAGIC &&
            header->magic + header->flags + header->checksum == 0 && at + size <= length) {
            *found = (int)at;
            return 0;
        }
    }
    return 0;
}

static int probe(const struct boot_job *job, struct error *err)
{
    struct header header;
    int found;

    int ret = find_header(&job->kernel, &header, &found, err);
    return ret ? ret : found >= 0;
}

/* ---- the kernel ---- */

/* Loads by the addresses in the header, which stands at `offset` in the file. */
static int load_flat(struct boot_job *job, const struct header *header, uint64_t offset, gpa_t *end,
                     uint32_t *entry, struct error *err)
{
    const struct boot_file *file = &job->kernel;
    uint64_t before = (uint64_t)header->header_addr - header->load_addr;

    if (header->header_addr < header->load_addr || before > offset)
        return error_set(err, -ENOEXEC,
                         "%s: damaged multiboot header: it would load from before the file's start",
                         file->path);
    uint64_t from = offset - before;
    uint64_t length = file->size - from;
    if (header->load_end_addr)
        length = (uint64_t)header->load_end_addr - header->load_addr;
    uint64_t size = length;
    if (header->bss_end_addr)
        size = (uint64_t)header->bss_end_addr - header->load_addr;
    if (header->load_end_addr && header->load_end_addr <= header->load_addr)
        return error_set(err, -ENOEXEC, "%s: damaged multiboot header: its load addresses cross",
                         file->path);
    if (header->bss_end_addr && (header->bss_end_addr < header->load_addr || size < length))
        return error_set(err, -ENOEXEC,
                         "%s: damaged multiboot header: its bss ends before it begins", file->path);
    if (header->entry_addr < header->load_addr || header->entry_addr - header->load_addr >= length)
        return error_set(err, -ENOEXEC,
                         "%s: damaged multiboot header: its entry lies outside what it loads",
                         file->path);

    int ret = boot_take_kernel(job, header->load_addr, size, err);
    if (!ret)
        ret = boot_file_load(file, from, job->mem, header->load_addr, length, err);
    if (!ret)
        ret = boot_zero(job, header->load_addr + length, size - length, err);
    *end = header->load_addr + size;
    *entry = header->entry_addr;
    return ret;
}

static int load_elf(struct boot_job *job, gpa_t *end, uint32_t *entry, struct error *err)
{
    struct elf_image image;

    int ret = elf_probe(&job->kernel, err);
    if (ret < 0)
        return ret;
    if (!ret)
        return error_set(err, -ENOEXEC,
                         "%s: a multiboot kernel that is no ELF file and names no load addresses",
                         job->kernel.path);
    ret = elf_parse(&job->kernel, &image, err);
    if (!ret)
        ret = elf_load(job, &image, end, err);
    if (!ret && !elf_find_entry(&image, image.entry, entry))
        ret = error_set(err, -ENOEXEC, "%s: damaged ELF file: its entry lies outside what it loads",
                        job->kernel.path);
    return ret;
}

/* ---- modules and boot information ---- */

/* Loads one module; `text` is its path and arguments. */
static int load_module(struct boot_job *job, char *text, gpa_t min, struct module *module,
                       struct error *err)
{
    struct boot_span span;
    gpa_t string;

    int ret = boot_put_string(job, text, STRING_MAX, &string, err);
    if (ret)
        return ret;
    text[strcspn(text, " ")] = '\0';
    ret = boot_load_module(job, text, min, 4 * GIB, false, &span, err);
    if (ret)
        return ret;
    *module = (struct module){
        .start = (uint32_t)span.base,
        .end = (uint32_t)(span.base + span.size),
        .string = (uint32_t)string,
    };
    return 0;
}

static int load_modules(struct boot_job *job, gpa_t min, struct info_page *page, struct error *err)
{
    int ret = 0;
    char *list = strdup(job->config->initrd), *next = list;

    if (!list)
        return error_set(err, -ENOMEM, "%s: no memory to load the modules", job->kernel.path);
    for (char *text; !ret && (text = strsep(&next, ","));) {
        if (page->info.module_count == MODULES_MAX)
            ret = error_set(err, -E2BIG, "%s: more than %u modules", job->config->initrd,
                            MODULES_MAX);
        else
            ret = load_module(job, text, min, &page->module[page->info.module_count++], err);
    }
    free(list);
    return ret;
}

static int put_strings(struct boot_job *job, struct info *info, struct error *err)
{
    const struct boot_config *config = job->config;
    char *command_line;
    gpa_t at;

    /* Loaders put the kernel's name first, as the first word of a command. */
    if (asprintf(&command_line, "%s%s%s", config->kernel, config->append ? " " : "",
                 config->append ? config->append : "") < 0)
        return error_set(err, -ENOMEM, "%s: no memory for its command line", config->kernel);
    int ret = boot_put_string(job, command_line, STRING_MAX, &at, err);
    free(command_line);
    if (ret)
        return ret;
    info->command_line = (uint32_t)at;
    ret = boot_put_string(job, LOADER_NAME, STRING_MAX, &at, err);
    info->loader_name = (uint32_t)at;
    return ret;
}

static void fill_memory(const struct boot_job *job, struct info_page *page)
{
    const struct layout_map *map = &job->space.map;

    for (unsigned i = 0; i < map->count; i++)
        page->range[i] = (struct range){
            .size = sizeof(struct range) - sizeof(uint32_t),
            .base = map->range[i].base,
            .length = map->range[i].size,
            .type = map->range[i].type,
        };
    page->info.mmap_length = map->count * sizeof(struct range);
    page->info.mem_lower = LAYOUT_EBDA / KIB;
    page->info.mem_upper = (uint32_t)((job->config->layout->ram_below_4g - LAYOUT_HIGH_BASE) / KIB);
}

static int load(struct boot_job *job, struct error *err)
{
    struct header header;
    struct info_page page = {.info.flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MODULES |
                                           INFO_MEMORY_MAP | INFO_LOADER_NAME};
    gpa_t end, at, gdt;
    uint32_t entry;
    int offset;

    int ret = find_header(&job->kernel, &header, &offset, err);
    if (ret)
        return ret;
    if (offset < 0)
        return error_set(err, -ENOEXEC, "%s: changed while it was being read", job->kernel.path);
    if (header.flags & HEADER_DEMANDS & ~HEADER_DEMANDS_KNOWN)
        return error_set(err, -ENOEXEC,
                         "%s: this multiboot kernel demands what is unknown (header flags 0x%x)",
                         job->kernel.path, header.flags);
    if (header.flags & HEADER_HAS_ADDRESSES)
        ret = load_flat(job, &header, (uint64_t)offset, &end, &entry, err);
    else
        ret = load_elf(job, &end, &entry, err);
    if (!ret)
        ret = put_strings(job, &page.info, err);
    if (!ret && job->config->initrd)
        ret = load_modules(job, end > LAYOUT_HIGH_BASE ? end : LAYOUT_HIGH_BASE, &page, err);
    if (!ret)
        ret = boot_take_low(job, sizeof(page), GUEST_PAGE_SIZE, &at, err);
    if (!ret)
        ret = boot_take_low(job, BOOT_GDT_SIZE, 16, &gdt, err);
    if (ret)
        return ret;

    fill_memory(job, &page);
    page.info.modules = (uint32_t)(at + offsetof(struct info_page, module));
    page.info.mmap_addr = (uint32_t)(at + offsetof(struct info_page, range));
    ret = boot_write(job, at, &page, sizeof(page), err);
    if (ret)
        return ret;
    ret = boot_cpu_protected(job->state, job->mem, gdt, entry);
    if (ret)
        return error_set(err, ret, "no guest memory for the boot CPU's tables");
    job->state->gpr[X86_RAX] = ENTRY_MAGIC;
    job->state->gpr[X86_RBX] = at;
    return 0;
}

const struct boot_format boot_format_multiboot = {.probe = probe, .load = load};
