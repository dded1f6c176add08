/*
 * The SMBIOS tables. Internal to src/boot; the ways in are in tables.h. Control thread.
 */
#ifndef SILL_BOOT_SMBIOS_H
#define SILL_BOOT_SMBIOS_H

#include "base/error.h"
#include "boot/tables.h"

/* Writes entry point and structures from LAYOUT_SMBIOS_BASE on. -E2BIG, -EFAULT. */
SILL_CHECKED int smbios_build(const struct board_description *board, struct memory *mem,
                              gpa_t *entry_point, struct error *err);

/* Gives firmware the entry point and the structures, but for what it says of itself. */
SILL_CHECKED int smbios_add_files(const struct board_description *board, struct fw_cfg *fw_cfg,
                                  struct error *err);

#endif
