/*
 * The test device of kvm-unit-tests' platform: latches at ports 0xe0-0xe3 and 0xe8-0xeb, a page
 * flush at 0xe4, interrupt lines 0 to 23 at 0x2000-0x2017, 64 KiB of device memory at 0xff000000.
 */
#ifndef SILL_DEV_LEGACY_TESTDEV_H
#define SILL_DEV_LEGACY_TESTDEV_H

#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/device.h"
#include "mem/memory.h"

#define TESTDEV_LINES 24
#define TESTDEV_MEMORY_BASE 0xff000000u
#define TESTDEV_MEMORY_SIZE 0x10000u

struct testdev;

/* `lines` are the 24 global system interrupts, `mem` (which outlives the device) the memory whose
 * pages port 0xe4 flushes. -ENOMEM. */
SILL_CHECKED int testdev_new(struct testdev **out, struct memory *mem,
                             const struct irq_line lines[TESTDEV_LINES]);
SILL_CHECKED int testdev_attach(struct testdev *dev, struct bus *bus, struct error *err);
struct device *testdev_device(struct testdev *dev);

#endif
