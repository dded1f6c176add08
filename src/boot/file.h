/*
 * A kernel or initrd file, read piece by piece: headers into buffers, the bulk straight into guest
 * memory, so that loading costs neither a second copy nor memory of the host's. Every error is a
 * sentence that begins with the path. Control thread.
 */
#ifndef SILL_BOOT_FILE_H
#define SILL_BOOT_FILE_H

#include "base/error.h"
#include "base/types.h"
#include "mem/memory.h"

struct boot_file {
    const char *path; /* the caller's */
    int fd;
    uint64_t size;
};

/* Regular files only. */
SILL_CHECKED int boot_file_open(struct boot_file *file, const char *path, struct error *err);
void boot_file_close(struct boot_file *file);

/* -ENOEXEC when the file ends before offset + length. */
SILL_CHECKED int boot_file_read(const struct boot_file *file, uint64_t offset, void *to,
                                uint64_t length, struct error *err);

/* As boot_file_read(), into guest memory; the range must be writable RAM of one slot. */
SILL_CHECKED int boot_file_load(const struct boot_file *file, uint64_t offset, struct memory *mem,
                                gpa_t gpa, uint64_t length, struct error *err);

#endif
