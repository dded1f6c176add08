/*
 * The debug console: one port, each byte written goes to a character back end. Firmware uses 0x402
 * (SeaBIOS, OVMF) or 0xe9 (Bochs); a read answers 0xe9, by which they detect it.
 */
#ifndef SILL_DEV_LEGACY_DEBUGCON_H
#define SILL_DEV_LEGACY_DEBUGCON_H

#include "base/chardev.h"
#include "bus/bus.h"
#include "dev/device.h"

#define DEBUGCON_BOCHS_PORT 0xe9
#define DEBUGCON_FIRMWARE_PORT 0x402

struct debugcon;

/* `name` outlives the device; `backend` may be NULL. -ENOMEM. */
SILL_CHECKED int debugcon_new(struct debugcon **out, const char *name,
                              struct char_backend *backend);
SILL_CHECKED int debugcon_attach(struct debugcon *dev, struct bus *bus, uint16_t port,
                                 struct error *err);
struct device *debugcon_device(struct debugcon *dev);

#endif
