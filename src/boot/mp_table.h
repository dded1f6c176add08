/*
 * The tables of the MultiProcessor Specification 1.4. Internal to src/boot; the way in is in
 * tables.h. Control thread.
 */
#ifndef SILL_BOOT_MP_TABLE_H
#define SILL_BOOT_MP_TABLE_H

#include "boot/tables.h"

/* Writes the floating pointer and the configuration table at LAYOUT_MP_BASE. -EFAULT. */
SILL_CHECKED int mp_table_build(const struct board_description *board, struct memory *mem,
                                struct error *err);

#endif
