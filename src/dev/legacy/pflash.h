/*
 * Parallel NOR flash with the Intel/Sharp extended command set (CFI primary command set 0x0001:
 * Intel 28F640J3 data sheet, chapters 9 to 11, and JEDEC JESD68.01 for the query table), 8 bits
 * wide. UEFI firmware keeps its variables in it.
 *
 * What the guest reads in array mode is a read-only memory slot, so reads and execution cost
 * nothing. Writes to it reach the device as commands. While the flash shows its status, identifier
 * or query table instead, the board hides the slot, and reads come to the device as well:
 *
 *                 any other command            0xff, reset
 *     slot shown ------------------> slot hidden ----------> slot shown
 */
#ifndef SILL_DEV_LEGACY_PFLASH_H
#define SILL_DEV_LEGACY_PFLASH_H

#include "bus/bus.h"
#include "dev/device.h"
#include "mem/memory.h"

struct pflash;

struct pflash_config {
    const char *name;
    /* Has a MEMORY_READONLY slot at `base`, which gives size and first contents. */
    struct memory *memory;
    gpa_t base;
    uint32_t block_size; /* what one erase command erases; divides the size, multiple of 256 */

    /* Both on a vCPU's thread, the device's lock held, or on the control thread. */
    void *opaque;
    /* Shows the memory slot at `base` or hides it from the vCPUs. */
    void (*show)(void *opaque, gpa_t base, bool shown);
    /* [offset, offset + length) is about to hold `data`. If that cannot be kept (negative errno)
     * the flash stays as it was, and the guest is told by the error bits of the status register. */
    int (*store)(void *opaque, uint64_t offset, const uint8_t *data, uint64_t length);
};

/* -ENOMEM. */
SILL_CHECKED int pflash_new(struct pflash **out, const struct pflash_config *config);
SILL_CHECKED int pflash_attach(struct pflash *flash, struct bus *bus, struct error *err);
struct device *pflash_device(struct pflash *flash);

#endif
