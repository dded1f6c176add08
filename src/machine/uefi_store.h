/*
 * The UEFI firmware as Debian's package `ovmf` ships it, and the file that a VM's UEFI variables
 * live in.
 *
 * The store file is as large as the package's empty store, has the same firmware volume header
 * (UEFI Platform Initialization specification, volume 3, 3.2.1) and is locked: two VMs never share
 * one. Each change is in the file, that is in the host's page cache, before the guest sees it done;
 * so a killed run leaves what a computer leaves whose power is cut. Closing puts it on the disk.
 *
 * Opened, loaded and closed by the control thread; written by the flash device.
 */
#ifndef SILL_MACHINE_UEFI_STORE_H
#define SILL_MACHINE_UEFI_STORE_H

#include "base/error.h"
#include "base/types.h"

#define UEFI_CODE_FILE "/usr/share/OVMF/OVMF_CODE_4M.fd"
#define UEFI_VARS_TEMPLATE "/usr/share/OVMF/OVMF_VARS_4M.fd"
#define UEFI_BLOCK_SIZE 4096 /* what OVMF erases at a time */

/* Reads a file of the package whole. -ENOENT with a sentence that names the package. The size is a
 * multiple of UEFI_BLOCK_SIZE. The caller frees *data. */
SILL_CHECKED int uefi_read_package_file(uint8_t **data, uint64_t *size, const char *path,
                                        struct error *err);

/* All zero is a closed one. */
struct uefi_store {
    const char *path; /* NULL: closed; the variables live in memory only */
    int fd;
    bool failed; /* a write failed, and that was said */
};

/* Opens the file, making it from `template` if there is none; what it holds replaces `template`.
 * With path NULL there is nothing to open. Sentences for: no permission, no regular file, another
 * size, something else than variables, in use. The store keeps `path`. */
SILL_CHECKED int uefi_store_open(struct uefi_store *store, const char *path, uint8_t *template,
                                 uint64_t size, struct error *err);
void uefi_store_close(struct uefi_store *store);

/* struct pflash_config.store, `opaque` being the store. */
SILL_CHECKED int uefi_store_write(void *opaque, uint64_t offset, const uint8_t *data,
                                  uint64_t length);

#endif
