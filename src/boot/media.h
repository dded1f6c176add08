/*
 * What firmware can boot from a disk or a disc, by its partition table or boot catalog: MBR and GPT
 * (UEFI specification 2.10, chapter 5), ISO 9660 with El Torito (El Torito 1.0; platform 0xef is
 * UEFI 2.10, 13.3.2.1). Whatever the medium holds is only looked at, with bounded reads.
 *
 * Control thread.
 */
#ifndef SILL_BOOT_MEDIA_H
#define SILL_BOOT_MEDIA_H

#include "base/types.h"

/* The medium: an array of `size` bytes. `read` is asked for whole ranges within it, multiples of
 * 512 bytes, and gives 0 or a negative errno. */
struct media_reader {
    int (*read)(void *opaque, uint64_t offset, void *to, size_t length);
    void *opaque;
    uint64_t size;
};

/* What an image is an image of. */
enum media_kind {
    MEDIA_DISK,   /* or anything else */
    MEDIA_DISC,   /* ISO 9660 */
    MEDIA_KERNEL, /* Linux's boot protocol, or ELF */
};

enum media_kind media_kind(const struct media_reader *medium);

enum media_boot {
    MEDIA_BOOTS_NOTHING, /* no boot sector, or no boot catalog; also what cannot be read */
    MEDIA_BOOTS_BIOS,
    MEDIA_BOOTS_UEFI, /* a disk with an EFI system partition; a disc that has only EFI's entry */
};

enum media_boot media_disk(const struct media_reader *medium);
enum media_boot media_disc(const struct media_reader *medium);

#endif
