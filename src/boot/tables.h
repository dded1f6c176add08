/*
 * The tables that firmware leaves in memory for the operating system: ACPI (acpi/), SMBIOS
 * (smbios.c), the MP table (mp_table.c) and the BIOS data area. For direct boot they are written to
 * memory, by the control thread before boot_load(), and again at each guest reset. Firmware is
 * handed the first two, and the memory map, through the firmware configuration device, while the
 * board is built.
 */
#ifndef SILL_BOOT_TABLES_H
#define SILL_BOOT_TABLES_H

#include "base/error.h"
#include "base/types.h"
#include "boot/layout.h"
#include "dev/legacy/fw_cfg.h"
#include "mem/memory.h"

/* What the tables must say about the board. Local APIC ids are 0 to cpus - 1. */
struct board_description {
    const struct layout *layout;
    unsigned cpus;
    uint32_t cpu_signature, cpu_features; /* EAX and EDX of CPUID leaf 1 */
    bool hpet;
    bool i8042;
    bool floppy; /* the controller */
    bool vga;
    bool serial;      /* COM1 */
    bool pvpanic;     /* at port 0x505 */
    const char *name; /* of the VM, for SMBIOS */
    uint8_t uuid[16]; /* of the VM, in RFC 4122 order; all zeros: not set */
};

struct board_tables {
    gpa_t rsdp;
    gpa_t smbios; /* the 64-bit entry point */
};

/* Writes all tables at their places of layout.h. -E2BIG: more CPUs than the tables have room for.
 */
SILL_CHECKED int boot_build_tables(const struct board_description *board, struct memory *mem,
                                   struct board_tables *tables, struct error *err);

/* Gives firmware the files etc/acpi, etc/table-loader, etc/smbios and etc/e820 (QEMU's
 * docs/specs/fw_cfg.rst; acpi/table_loader.c). -E2BIG, -ENOMEM. */
SILL_CHECKED int boot_add_firmware_files(const struct board_description *board,
                                         struct fw_cfg *fw_cfg, struct error *err);

#endif
