/*
 * Linux bzImage by the boot protocol: Documentation/arch/x86/boot.rst and zero-page.rst of the
 * kernel, whose exported header names the fields. Control thread.
 *
 *     file    0        boot sector and setup code, setup_sects + 1 sectors; the setup header in it
 *                      at 0x1f1 (both unused but for the header)
 *             then     the protected-mode kernel, which decompresses itself
 *
 *     memory  low      zero page (struct boot_params), command line, GDT, page tables
 *             kernel   at pref_address or where it fits, init_size bytes for it to unpack into
 *             initrd   as high as the kernel allows
 *
 * A kernel with a 64-bit entry (protocol 2.12, XLF_KERNEL_64) is entered there in long mode, any
 * other one at its 32-bit entry.
 */
#include "boot/loader.h"

#include <asm/bootparam.h>
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define SECTOR_SIZE 512u
#define BOOT_FLAG 0xaa55u
#define HEADER_MAGIC 0x53726448u /* "HdrS" */
#define HEADER_OFFSET 0x1f1u
#define HEADER_JUMP_TARGET 0x202u /* what the offset byte of `jump` is relative to */
#define HEADER_MAX_END 0x290u     /* the zero page's next field */
#define DEFAULT_SETUP_SECTS 4u
#define LOADER_UNKNOWN 0xffu /* type_of_loader without an assigned number */
#define VIDEO_NORMAL 0xffffu
#define ENTRY_64 0x200u /* from the start of the protected-mode kernel */
#define LOAD_ADDRESS_OLD 0x100000u

/* 2.06 (Linux 2.6.22) is the first to say how long a command line may be. */
#define PROTOCOL_MIN 0x0206u
#define PROTOCOL_PREF_ADDRESS 0x020au
#define PROTOCOL_64 0x020cu

static_assert(sizeof(struct boot_params) == GUEST_PAGE_SIZE, "the zero page is one page");

static int probe(const struct boot_job *job, struct error *err)
{
    struct setup_header header;

    if (job->kernel.size < HEADER_OFFSET + sizeof(header))
        return 0;
    int ret = boot_file_read(&job->kernel, HEADER_OFFSET, &header, sizeof(header), err);
    return ret ? ret : header.boot_flag == BOOT_FLAG && header.header == HEADER_MAGIC;
}

static int refuse(const struct boot_job *job, const char *what, struct error *err)
{
    return error_set(err, -ENOEXEC, "%s: damaged Linux kernel: %s", job->kernel.path, what);
}

/* Copies the setup header, as long as it says it is, into the otherwise zero boot parameters. */
static int read_header(const struct boot_job *job, struct boot_params *params, struct error *err)
{
    const struct setup_header *header = &params->hdr;
    uint8_t jump_offset;

    int ret = boot_file_read(&job->kernel, HEADER_JUMP_TARGET - 1, &jump_offset, 1, err);
    if (ret)
        return ret;
    unsigned end = HEADER_JUMP_TARGET + jump_offset;
    if (end > HEADER_MAX_END)
        end = HEADER_MAX_END;
    ret = boot_file_read(&job->kernel, HEADER_OFFSET, (uint8_t *)params + HEADER_OFFSET,
                         end - HEADER_OFFSET, err);
    if (ret)
        return ret;
    if (header->version < PROTOCOL_MIN)
        return error_set(err, -ENOEXEC,
                         "%s: this Linux kernel is too old: it has boot protocol %u.%02u, needed is"
                         " 2.06 (Linux 2.6.22)",
                         job->kernel.path, header->version >> 8, header->version & 0xff);
    if (!(header->loadflags & LOADED_HIGH))
        return error_set(err, -ENOEXEC,
                         "%s: a zImage, which loads below 1 MiB; needed is a bzImage",
                         job->kernel.path);
    if (header->relocatable_kernel && !is_power_of_two(header->kernel_alignment))
        return refuse(job, "its kernel_alignment is no power of two", err);
    return 0;
}

/* Finds room for the kernel and reads it in. */
static int load_image(struct boot_job *job, const struct setup_header *header, gpa_t *base,
                      struct error *err)
{
    unsigned sectors = header->setup_sects ? header->setup_sects : DEFAULT_SETUP_SECTS;
    uint64_t offset = (uint64_t)(sectors + 1) * SECTOR_SIZE;

    /* syssize counts paragraphs of 16 bytes, the last of which may be incomplete. */
    if (job->kernel.size <= offset || header->syssize > (job->kernel.size - offset + 15) / 16)
        return refuse(job, "the file ends early; is it truncated?", err);
    uint64_t length = job->kernel.size - offset;
    uint64_t room = length;
    *base = LOAD_ADDRESS_OLD;
    if (header->version >= PROTOCOL_PREF_ADDRESS) {
        if (room < header->init_size)
            room = header->init_size;
        *base = header->pref_address;
    }
    if (*base >= 4 * GIB || room > 4 * GIB - *base)
        return refuse(job, "it does not fit below 4 GiB", err);
    /* A relocatable kernel takes any other place if its favourite one is not to be had. */
    bool placed = header->relocatable_kernel && !boot_space_take(&job->space, *base, room);
    if (!placed && header->relocatable_kernel) {
        *base = ALIGN_UP(LAYOUT_HIGH_BASE, header->kernel_alignment); /* if there is none at all */
        placed = !boot_space_lowest(&job->space, room, header->kernel_alignment, LAYOUT_HIGH_BASE,
                                    4 * GIB, base);
    }
    int ret = placed ? 0 : boot_take_kernel(job, *base, room, err);
    return ret ? ret : boot_file_load(&job->kernel, offset, job->mem, *base, length, err);
}

static bool has_64bit_entry(const struct setup_header *header)
{
    return header->version >= PROTOCOL_64 && header->xloadflags & XLF_KERNEL_64;
}

static int load_initrd(struct boot_job *job, struct boot_params *params, struct error *err)
{
    struct setup_header *header = &params->hdr;
    struct boot_span initrd;
    gpa_t max = (gpa_t)header->initrd_addr_max + 1;

    if (!job->config->initrd)
        return 0;
    /* Above the old limit only when there is no other way: both places are equally good, and the
     * low one is what kernels are tested with. */
    struct boot_space before = job->space;
    int ret = boot_load_module(job, job->config->initrd, LAYOUT_HIGH_BASE, max, true, &initrd, err);
    if (ret == -ENOMEM && has_64bit_entry(header) &&
        header->xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G) {
        job->space = before;
        ret = boot_load_module(job, job->config->initrd, LAYOUT_HIGH_BASE, UINT64_MAX, true,
                               &initrd, err);
    }
    if (ret)
        return ret;
    header->ramdisk_image = (uint32_t)initrd.base;
    header->ramdisk_size = (uint32_t)initrd.size;
    params->ext_ramdisk_image = (uint32_t)(initrd.base >> 32);
    params->ext_ramdisk_size = (uint32_t)(initrd.size >> 32);
    return 0;
}

static void fill_memory_map(const struct boot_job *job, struct boot_params *params)
{
    const struct layout_map *map = &job->space.map;

    static_assert(LAYOUT_MAX_RANGES <= E820_MAX_ENTRIES_ZEROPAGE, "the map fits the zero page");
    for (unsigned i = 0; i < map->count; i++)
        params->e820_table[i] = (struct boot_e820_entry){
            .addr = map->range[i].base,
            .size = map->range[i].size,
            .type = map->range[i].type,
        };
    params->e820_entries = (uint8_t)map->count;
}

static int enter(struct boot_job *job, const struct setup_header *header, gpa_t kernel,
                 gpa_t zero_page, struct error *err)
{
    gpa_t gdt, page_tables;

    int ret = boot_take_low(job, BOOT_GDT_SIZE, 16, &gdt, err);
    if (!ret)
        ret = boot_take_low(job, BOOT_PAGE_TABLES_SIZE, GUEST_PAGE_SIZE, &page_tables, err);
    if (ret)
        return ret;
    if (has_64bit_entry(header))
        ret = boot_cpu_long(job->state, job->mem, gdt, page_tables, kernel + ENTRY_64);
    else
        ret = boot_cpu_protected(job->state, job->mem, gdt, (uint32_t)kernel);
    if (ret)
        return error_set(err, ret, "no guest memory for the boot CPU's tables");
    job->state->gpr[X86_RSI] = zero_page;
    return 0;
}

static int load(struct boot_job *job, struct error *err)
{
    struct boot_params params = {0};
    struct setup_header *header = &params.hdr;
    gpa_t kernel, zero_page, command_line;

    int ret = read_header(job, &params, err);
    if (!ret)
        ret = load_image(job, header, &kernel, err);
    if (!ret)
        ret = boot_take_low(job, sizeof(params), GUEST_PAGE_SIZE, &zero_page, err);
    if (!ret)
        ret = boot_put_string(job, job->config->append ? job->config->append : "",
                              header->cmdline_size, &command_line, err);
    if (!ret)
        ret = load_initrd(job, &params, err);
    if (ret)
        return ret;

    header->type_of_loader = LOADER_UNKNOWN;
    header->vid_mode = VIDEO_NORMAL;
    header->code32_start = (uint32_t)kernel;
    header->cmd_line_ptr = (uint32_t)command_line;
    header->setup_data = 0;
    params.acpi_rsdp_addr = job->config->rsdp;
    fill_memory_map(job, &params);
    ret = boot_write(job, zero_page, &params, sizeof(params), err);
    return ret ? ret : enter(job, header, kernel, zero_page, err);
}

const struct boot_format boot_format_linux = {.probe = probe, .load = load};
