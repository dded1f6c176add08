/*
 * The board's physical address map: which addresses are RAM, which belong to devices, where the
 * PCI windows lie. One place for what the board builds, what the e820 map and the ACPI tables tell
 * the guest and where the boot loaders may put things.
 *
 *     0x00000000  RAM, first page: real-mode vectors and the BIOS data area
 *     0x0009fc00  extended BIOS data area, 1 KiB (RAM, reserved)
 *     0x000a0000  VGA window (no RAM)
 *     0x000c0000  option ROMs and firmware: RAM or not as the host bridge's PAM registers say
 *     0x000e0000  direct boot: ACPI tables, then SMBIOS tables at 0xf0000, MP table at 0xfe000
 *                 (RAM, reserved)
 *     0x00100000  RAM up to ram_below_4g
 *     0xb0000000  PCI Express configuration space (ECAM), 256 MiB
 *     0xc0000000  PCI memory window
 *     0xfec00000  IOAPIC, HPET, local APIC, flash
 *     4 GiB       RAM, ram_above_4g bytes
 *     pci64_base  64-bit PCI memory window
 */
#ifndef SILL_BOOT_LAYOUT_H
#define SILL_BOOT_LAYOUT_H

#include "base/error.h"
#include "base/types.h"

#define LAYOUT_MEMORY_MIN (16 * MIB)

/* Below 1 MiB. */
#define LAYOUT_BDA 0x400u
#define LAYOUT_EBDA 0x9fc00u
#define LAYOUT_VGA_BASE 0xa0000u
#define LAYOUT_VGA_SIZE 0x20000u
#define LAYOUT_TABLES_BASE 0xe0000u
#define LAYOUT_ACPI_BASE LAYOUT_TABLES_BASE
#define LAYOUT_ACPI_END 0xf0000u
#define LAYOUT_SMBIOS_BASE 0xf0000u
#define LAYOUT_MP_BASE 0xfe000u
#define LAYOUT_MP_END 0x100000u
#define LAYOUT_HIGH_BASE 0x100000u

/* Below 4 GiB. */
#define LAYOUT_RAM_BELOW_MAX 0xb0000000u
#define LAYOUT_ECAM_BASE 0xb0000000u
#define LAYOUT_ECAM_SIZE 0x10000000u
#define LAYOUT_PCI32_BASE 0xc0000000u
#define LAYOUT_PCI32_SIZE 0x3ec00000u /* up to 0xfebfffff */
#define LAYOUT_IOAPIC_BASE 0xfec00000u
#define LAYOUT_HPET_BASE 0xfed00000u
#define LAYOUT_LAPIC_BASE 0xfee00000u

#define LAYOUT_RAM_ABOVE_BASE (4 * GIB)

/* I/O ports that PCI devices may take; those below are the chipset's. */
#define LAYOUT_PCI_IO_BASE 0x1000u
#define LAYOUT_PCI_IO_SIZE 0xf000u

struct layout {
    uint64_t ram_below_4g; /* including the holes below 1 MiB */
    uint64_t ram_above_4g;
    gpa_t pci64_base;
    uint64_t pci64_size; /* 0: the CPU has no addresses left */
    unsigned phys_bits;  /* physical address bits of the guest's CPU model */
};

/* Divides `memory` bytes (a multiple of the page size). -EINVAL: less than LAYOUT_MEMORY_MIN or
 * more than `phys_bits` can address. */
SILL_CHECKED int layout_init(struct layout *layout, uint64_t memory, unsigned phys_bits,
                             struct error *err);

/* Types of e820 entries (ACPI specification 6.5, table 15.4); PVH and multiboot use the same. */
enum layout_range_type { LAYOUT_RAM = 1, LAYOUT_RESERVED = 2 };

struct layout_range {
    gpa_t base;
    uint64_t size;
    enum layout_range_type type;
};

#define LAYOUT_MAX_RANGES 8

struct layout_map {
    struct layout_range range[LAYOUT_MAX_RANGES]; /* sorted, disjoint */
    unsigned count;
};

/* The memory map that the guest is told. */
void layout_memory_map(const struct layout *layout, struct layout_map *map);

#endif
