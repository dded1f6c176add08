/*
 * The firmware configuration device in its port form (QEMU's docs/specs/fw_cfg.rst): firmware and
 * test programs write the number of an item to port 0x510 and read its bytes one by one from port
 * 0x511. Test suites learn the number of processors and the size of memory here.
 *
 * Neither DMA nor named files are offered; the ID item says so, and the directory is empty.
 */
#ifndef SILL_DEV_LEGACY_FW_CFG_H
#define SILL_DEV_LEGACY_FW_CFG_H

#include "bus/bus.h"
#include "dev/device.h"

struct fw_cfg;

/* What the items tell: `memory` in bytes, all of it. */
struct fw_cfg_config {
    uint64_t memory;
    uint16_t cpus;
};

/* -ENOMEM. */
SILL_CHECKED int fw_cfg_new(struct fw_cfg **out, const struct fw_cfg_config *config);
SILL_CHECKED int fw_cfg_attach(struct fw_cfg *dev, struct bus *bus, struct error *err);
struct device *fw_cfg_device(struct fw_cfg *dev);

#endif
