/*
 * The SMBIOS tables of a direct-booted machine. Internal to src/boot; boot_build_tables() is the
 * way in. Control thread.
 */
#ifndef SILL_BOOT_SMBIOS_H
#define SILL_BOOT_SMBIOS_H

#include "base/error.h"
#include "boot/tables.h"

/* Writes entry point and structures from LAYOUT_SMBIOS_BASE on. -E2BIG, -EFAULT. */
SILL_CHECKED int smbios_build(const struct board_description *board, struct memory *mem,
                              gpa_t *entry_point, struct error *err);

#endif
