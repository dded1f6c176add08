/*
 * The ACPI tables. Internal to src/boot; the ways in are in boot/tables.h. Control thread.
 */
#ifndef SILL_BOOT_ACPI_ACPI_H
#define SILL_BOOT_ACPI_ACPI_H

#include "base/error.h"
#include "base/types.h"
#include "boot/acpi/aml.h"
#include "boot/tables.h"
#include "dev/legacy/fw_cfg.h"

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

/* Root system description pointer, 5.2.5. */
struct acpi_rsdp {
    char signature[8];
    uint8_t checksum; /* of the first 20 bytes */
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
    uint8_t extended_checksum;
    uint8_t reserved[3];
} __attribute__((packed));

#define ACPI_IMAGE_ALIGN 64u /* the FACS demands it */
#define ACPI_IMAGE_SIZE (LAYOUT_ACPI_END - LAYOUT_ACPI_BASE - ACPI_IMAGE_ALIGN)

/* Tables that may lie anywhere: where they hold pointers into `data`, and sums over themselves. */
struct acpi_image {
    uint8_t data[ACPI_IMAGE_SIZE];
    uint32_t used;
    struct acpi_rsdp rsdp;
    struct acpi_pointer {
        bool in_rsdp;
        uint32_t at;
        uint8_t width;
    } pointer[32];
    unsigned pointer_count;
    struct acpi_sum {
        bool in_rsdp;
        uint32_t at, start, length;
    } sum[16];
    unsigned sum_count;
};

/* Pointers are offsets into `data`, sums are 0. To be freed. -E2BIG, -ENOMEM. */
SILL_CHECKED int acpi_build_image(const struct board_description *board, struct acpi_image **out,
                                  struct error *err);

/* Writes all tables between LAYOUT_ACPI_BASE and LAYOUT_ACPI_END. -E2BIG, -EFAULT. */
SILL_CHECKED int acpi_build(const struct board_description *board, struct memory *mem, gpa_t *rsdp,
                            struct error *err);

/* table_loader.c: gives firmware the tables, and the commands by which it puts them into memory. */
SILL_CHECKED int acpi_add_files(const struct board_description *board, struct fw_cfg *fw_cfg,
                                struct error *err);

/* ssdt.c: the contents of the SSDT, without header. */
void acpi_write_ssdt(struct aml *aml, const struct board_description *board);

#endif
