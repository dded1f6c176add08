/*
 * Which firmware a VM starts with, what it boots from, and how that is written on the command line.
 * Control thread.
 */
#ifndef SILL_VM_FIRMWARE_H
#define SILL_VM_FIRMWARE_H

#include "machine/pc.h"

/* Parses `bios`, `uefi[,vars=FILE]` or the name of a BIOS's file; FILE is all that follows. `text`
 * must outlive `board`. -EINVAL with a sentence. */
SILL_CHECKED int firmware_parse(struct pc_config *board, char *text, struct error *err);

/* Parses `order=cd,disk,floppy,net` and `menu`, which may follow each other after a comma. Changes
 * `text`. -EINVAL with a sentence. */
SILL_CHECKED int firmware_parse_boot(struct pc_config *board, char *text, struct error *err);

/*
 * Chooses the firmware of a board that has neither that nor a kernel: BIOS, unless the first of its
 * media that boots at all has an EFI system partition or boots with EFI only. `*because` is that
 * medium's path, or NULL. The media are opened for a moment; a sentence where that cannot be.
 */
SILL_CHECKED int firmware_choose(struct pc_config *board, const char **because, struct error *err);

/* Parses `opt/NAME=FILE`. Changes `text`, which must outlive `board`. -EINVAL with a sentence. */
SILL_CHECKED int firmware_parse_file(struct pc_config *board, char *text, struct error *err);

#endif
