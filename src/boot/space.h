/*
 * Which parts of guest RAM are still free while a kernel is being loaded: the kernel takes the
 * addresses it names, everything else (RAM disk, command line, boot information, page tables) goes
 * where there is room. Forgotten once the guest runs. Control thread.
 */
#ifndef SILL_BOOT_SPACE_H
#define SILL_BOOT_SPACE_H

#include "base/error.h"
#include "base/types.h"
#include "boot/layout.h"

#define BOOT_SPACE_MAX_TAKEN 256

struct boot_span {
    gpa_t base;
    uint64_t size;
};

struct boot_space {
    struct layout_map map;
    struct boot_span taken[BOOT_SPACE_MAX_TAKEN];
    unsigned count;
};

/* All RAM of the map is free, but for the first page: real-mode vectors and BIOS data area. */
void boot_space_init(struct boot_space *space, const struct layout_map *map);

/* Takes exactly this. -EFAULT: not (all) RAM; -EEXIST: taken before; -ENOSPC: too many pieces. */
SILL_CHECKED int boot_space_take(struct boot_space *space, gpa_t base, uint64_t size);

/* Takes `size` bytes (not 0), aligned to the power of two `align`, inside [min, max): the lowest
 * place that is free, or the highest. -ENOMEM, -ENOSPC. */
SILL_CHECKED int boot_space_lowest(struct boot_space *space, uint64_t size, uint64_t align,
                                   gpa_t min, gpa_t max, gpa_t *base);
SILL_CHECKED int boot_space_highest(struct boot_space *space, uint64_t size, uint64_t align,
                                    gpa_t min, gpa_t max, gpa_t *base);

#endif
