/*
 * The firmware configuration device (QEMU's docs/specs/fw_cfg.rst): numbered items that firmware,
 * boot loaders and test programs read. They write an item's number to port 0x510 and read its bytes
 * one by one from port 0x511, or let the device copy them to memory (DMA, ports 0x514-0x51b). Items
 * from 0x20 on are files; a directory tells their names.
 *
 * Items are added while the board is built, control thread; then they never change.
 *
 *     fw_cfg_add_file(dev, "etc/system-states", states, sizeof(states), err);
 */
#ifndef SILL_DEV_LEGACY_FW_CFG_H
#define SILL_DEV_LEGACY_FW_CFG_H

#include "bus/bus.h"
#include "dev/device.h"
#include "mem/memory.h"

#define FW_CFG_MAX_FILES 64
#define FW_CFG_NAME_SIZE 56 /* with the zero at the end */

/* Items that are no files ("Firmware Configuration Items"); numbers are little endian. */
enum fw_cfg_item {
    FW_CFG_BOOT_MENU = 0x000e,     /* 16 bits: show it */
    FW_CFG_IRQ0_OVERRIDE = 0x8002, /* 8 bits: ISA interrupt 0 is GSI 2 */
};

struct fw_cfg;

/* What the first items tell: `memory` in bytes, all of it. */
struct fw_cfg_config {
    uint64_t memory;
    uint16_t cpus;
    uint8_t uuid[16];          /* of the VM, in RFC 4122 order */
    struct memory *dma_memory; /* NULL: no DMA */
};

/* -ENOMEM. */
SILL_CHECKED int fw_cfg_new(struct fw_cfg **out, const struct fw_cfg_config *config);
/* An item that is no file; `data` is copied. -ENOMEM; -EEXIST; -ENOSPC. */
SILL_CHECKED int fw_cfg_add_item(struct fw_cfg *dev, uint16_t item, const void *data, size_t size,
                                 struct error *err);
/* A file; `data` is copied. -ENAMETOOLONG; otherwise as above. */
SILL_CHECKED int fw_cfg_add_file(struct fw_cfg *dev, const char *name, const void *data,
                                 size_t size, struct error *err);
SILL_CHECKED int fw_cfg_attach(struct fw_cfg *dev, struct bus *bus, struct error *err);
struct device *fw_cfg_device(struct fw_cfg *dev);

#endif
