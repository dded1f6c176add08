/*
 * Firmware on the board: the BIOS's ROM at the top of 4 GiB, and what firmware is told through the
 * firmware configuration device and CMOS. Control thread, while the board is built.
 *
 * The processor starts in the ROM's last 16 bytes. The host bridge shows the ROM's last 128 KiB
 * below 1 MiB, too, until firmware has copied itself to RAM (dev/pci/pam.h).
 */
#include "machine/pc_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/file.h"
#include "dev/legacy/mc146818.h"

/* What Debian's package seabios has for machines with a PCI host bridge like this one. */
#define BIOS_FILE "/usr/share/seabios/bios-256k.bin"
#define BIOS_PACKAGE "seabios"
#define BIOS_ALIGN (64 * KIB)
#define BIOS_SIZE_MAX (16 * MIB)

/* ---- the ROM ---- */

/* Puts the image where the processor starts, and hands its end to the host bridge. */
static int add_rom(struct pc *pc, const struct boot_file *file, struct error *err)
{
    gpa_t base = 4 * GIB - file->size;

    if (!file->size || file->size % BIOS_ALIGN || file->size > BIOS_SIZE_MAX)
        return error_set(
            err, -EINVAL,
            "%s: no firmware: it has %llu bytes, not a multiple of 64 KiB up to 16 MiB", file->path,
            (unsigned long long)file->size);
    int result = memory_add(&pc->memory, base, file->size, MEMORY_READONLY, "bios", err);
    if (result)
        return result;
    uint8_t *rom = memory_host(&pc->memory, base, file->size, false);
    result = boot_file_read(file, 0, rom, file->size, err);
    if (!result)
        result = pci_host_set_rom(pc->pci_host, rom, file->size, err);
    return result ? result
                  : pc->config.engine->memory_changed(pc->engine_vm, base, file->size, err);
}

int pc_add_bios(struct pc *pc, struct error *err)
{
    const char *path = pc->config.bios_file ? pc->config.bios_file : BIOS_FILE;
    struct boot_file file;

    if (pc->config.firmware != PC_FIRMWARE_BIOS)
        return 0;
    int result = boot_file_open(&file, path, err);
    if (result == -ENOENT && !pc->config.bios_file)
        return error_set(err, result,
                         "there is no BIOS at %s: install the package %s, or name a file with "
                         "--firmware FILE",
                         path, BIOS_PACKAGE);
    if (result)
        return result;
    result = add_rom(pc, &file, err);
    boot_file_close(&file);
    return result;
}

/* ---- what to boot from ---- */

/* When nobody asks for another order: a disk without a system leaves the turn to the next. */
static const enum pc_boot_class default_order[] = {PC_BOOT_DISK, PC_BOOT_CD, PC_BOOT_FLOPPY,
                                                   PC_BOOT_NET};

void pc_add_boot_device(struct pc *pc, enum pc_boot_class class, const char *format, ...)
{
    struct pc_boot_device *device = &pc->boot_device[pc->boot_device_count++];
    va_list arguments;

    assert(pc->boot_device_count <= PC_MAX_BOOT_DEVICES);
    device->class = class;
    va_start(arguments, format);
    vsnprintf(device->path, sizeof(device->path), format, arguments);
    va_end(arguments);
}

void pc_add_pci_boot_device(struct pc *pc, enum pc_boot_class class, const struct device *device,
                            const char *node, const char *below)
{
    const struct pci_bus *bus = pci_host_bus(pc->pci_host);

    for (unsigned devfn = 0; devfn < PCI_FUNCTIONS; devfn++) {
        if (!bus->function[devfn] || &bus->function[devfn]->dev != device)
            continue;
        if (devfn & 7)
            pc_add_boot_device(pc, class, "/pci@i0cf8/%s@%x,%x%s", node, PCI_SLOT(devfn), devfn & 7,
                               below);
        else
            pc_add_boot_device(pc, class, "/pci@i0cf8/%s@%x%s", node, PCI_SLOT(devfn), below);
    }
}

/* The file bootorder: a path a line, zero terminated. HALT: what is not listed is not tried. */
static int add_boot_order(struct pc *pc, const enum pc_boot_class *order, unsigned count, bool halt,
                          struct error *err)
{
    char text[PC_MAX_BOOT_DEVICES * (sizeof(pc->boot_device[0].path) + 1) + sizeof("HALT")];
    size_t used = 0;

    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < pc->boot_device_count; j++) {
            if (pc->boot_device[j].class == order[i])
                used += (size_t)sprintf(text + used, "%s\n", pc->boot_device[j].path);
        }
    }
    used += (size_t)sprintf(text + used, "%s", halt ? "HALT" : "");
    return fw_cfg_add_file(pc->fw_cfg, "bootorder", text, used + 1, err);
}

/* CMOS: the first two choices, and the third with a bit that lets any floppy disk boot. */
#define CMOS_BOOT_FIRST_SECOND 0x3d
#define CMOS_BOOT_THIRD 0x38
#define CMOS_BOOT_ANY_FLOPPY 0x01u

static void set_cmos_order(struct pc *pc, const enum pc_boot_class *order, unsigned count)
{
    static const uint8_t codes[PC_BOOT_CLASSES] = {
        [PC_BOOT_FLOPPY] = 1, [PC_BOOT_DISK] = 2, [PC_BOOT_CD] = 3, [PC_BOOT_NET] = 4};
    uint8_t code[3] = {0};

    for (unsigned i = 0; i < count && i < ARRAY_SIZE(code); i++)
        code[i] = codes[order[i]];
    mc146818_set_byte(pc->rtc, CMOS_BOOT_FIRST_SECOND, (uint8_t)(code[1] << 4 | code[0]));
    mc146818_set_byte(pc->rtc, CMOS_BOOT_THIRD, (uint8_t)(code[2] << 4 | CMOS_BOOT_ANY_FLOPPY));
}

/* ---- the firmware configuration device ---- */

#define USERS_FILE_MAX (16 * MIB)

static int add_users_file(struct pc *pc, const struct pc_firmware_file *wanted, struct error *err)
{
    struct boot_file file;
    uint8_t *data = NULL;

    int result = boot_file_open(&file, wanted->path, err);
    if (result)
        return result;
    if (file.size > USERS_FILE_MAX)
        result = error_set(err, -EFBIG, "%s: more than %llu MiB are too much for the guest's %s",
                           wanted->path, USERS_FILE_MAX / MIB, wanted->name);
    else if (!(data = malloc(file.size + 1)))
        result = pc_out_of_memory(err);
    else
        result = boot_file_read(&file, 0, data, file.size, err);
    if (!result)
        result = fw_cfg_add_file(pc->fw_cfg, wanted->name, data, file.size, err);
    free(data);
    boot_file_close(&file);
    return result;
}

int pc_add_fw_cfg(struct pc *pc, struct error *err)
{
    const struct fw_cfg_config config = {
        .memory = pc->config.memory,
        .cpus = (uint16_t)pc->config.cpus,
        .dma_memory = &pc->memory,
    };
    if (fw_cfg_new(&pc->fw_cfg, &config))
        return pc_out_of_memory(err);
    pc_add_device(pc, fw_cfg_device(pc->fw_cfg));
    int result = fw_cfg_attach(pc->fw_cfg, &pc->bus, err);
    for (unsigned i = 0; i < pc->config.firmware_file_count && !result; i++)
        result = add_users_file(pc, &pc->config.firmware_files[i], err);
    return result;
}

#define BOOT_MENU_WAIT_MS 3000

/* Which sleeping states there are and what goes into SLP_TYP: S0, S5 as the DSDT says; neither S3
 * nor S4 (bit 7 says "there is"). */
static const uint8_t system_states[6] = {0x80, 0, 0, 1, 2, 0x80};

int pc_finish_firmware(struct pc *pc, struct error *err)
{
    const struct pc_config *config = &pc->config;
    bool asked = config->boot_order_count > 0;
    const enum pc_boot_class *order = asked ? config->boot_order : default_order;
    unsigned count = asked ? config->boot_order_count : ARRAY_SIZE(default_order);
    const uint16_t menu = config->boot_menu, menu_wait = BOOT_MENU_WAIT_MS;
    const uint8_t irq0_override = 1;
    const uint64_t pci64_base = pc->layout.pci64_base;

    if (config->firmware == PC_FIRMWARE_NONE)
        return 0;
    const struct board_description board = pc_describe(pc);
    const struct {
        const char *name;
        const void *data;
        size_t size;
    } files[] = {
        {"etc/system-states", system_states, sizeof(system_states)},
        {"etc/boot-menu-wait", &menu_wait, sizeof(menu_wait)},
        /* Where 64-bit BARs may begin. */
        {"etc/reserved-memory-end", &pci64_base, sizeof(pci64_base)},
    };

    set_cmos_order(pc, order, count);
    int result = fw_cfg_add_item(pc->fw_cfg, FW_CFG_BOOT_MENU, &menu, sizeof(menu), err);
    if (!result)
        result = fw_cfg_add_item(pc->fw_cfg, FW_CFG_IRQ0_OVERRIDE, &irq0_override,
                                 sizeof(irq0_override), err);
    for (unsigned i = 0; i < ARRAY_SIZE(files) && !result; i++)
        result = fw_cfg_add_file(pc->fw_cfg, files[i].name, files[i].data, files[i].size, err);
    if (!result)
        result = add_boot_order(pc, order, count, asked, err);
    return result ? result : boot_add_firmware_files(&board, pc->fw_cfg, err);
}
