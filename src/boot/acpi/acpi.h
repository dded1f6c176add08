/*
 * The ACPI tables of a direct-booted machine. Internal to src/boot; boot_build_tables() is the way
 * in. Control thread.
 */
#ifndef SILL_BOOT_ACPI_ACPI_H
#define SILL_BOOT_ACPI_ACPI_H

#include "base/error.h"
#include "base/types.h"
#include "boot/acpi/aml.h"
#include "boot/tables.h"

/* ACPI specification 6.5, 5.2.6: what every table but RSDP and FACS begins with. */
struct acpi_header {
    char signature[4];
    uint32_t length;
    uint8_t revision;
    uint8_t checksum; /* makes all bytes add up to 0 */
    char oem_id[6];
    char oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
} __attribute__((packed));

/* Writes all tables between LAYOUT_ACPI_BASE and LAYOUT_ACPI_END. -E2BIG, -EFAULT. */
SILL_CHECKED int acpi_build(const struct board_description *board, struct memory *mem, gpa_t *rsdp,
                            struct error *err);

/* ssdt.c: the contents of the SSDT, without header. */
void acpi_write_ssdt(struct aml *aml, const struct board_description *board);

#endif
