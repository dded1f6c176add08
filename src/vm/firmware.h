/*
 * Which firmware a VM starts with, and how that is written on the command line. Control thread.
 */
#ifndef SILL_VM_FIRMWARE_H
#define SILL_VM_FIRMWARE_H

#include "machine/pc.h"

/* Parses `uefi[,vars=FILE]`; FILE is all that follows. Changes `text`, which must outlive `board`.
 * -EINVAL with a sentence. */
SILL_CHECKED int firmware_parse(struct pc_config *board, char *text, struct error *err);

#endif
