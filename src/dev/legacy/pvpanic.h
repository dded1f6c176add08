/*
 * pvpanic: the port to which a guest's kernel reports its panic. Linux finds it through ACPI (_HID
 * "QEMU0001").
 */
#ifndef SILL_DEV_LEGACY_PVPANIC_H
#define SILL_DEV_LEGACY_PVPANIC_H

#include "bus/bus.h"
#include "dev/device.h"
#include "dev/legacy/board_events.h"

#define PVPANIC_DEFAULT_PORT 0x505

struct pvpanic;

/* -ENOMEM. Uses events->crashed(). */
SILL_CHECKED int pvpanic_new(struct pvpanic **out, const struct board_events *events);
SILL_CHECKED int pvpanic_attach(struct pvpanic *dev, struct bus *bus, uint16_t port,
                                struct error *err);
struct device *pvpanic_device(struct pvpanic *dev);

#endif
