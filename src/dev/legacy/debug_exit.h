/*
 * The debug-exit device: a write of V ends the run with status (V << 1) | 1. Test programs use it
 * (kvm-unit-tests at port 0xf4).
 */
#ifndef SILL_DEV_LEGACY_DEBUG_EXIT_H
#define SILL_DEV_LEGACY_DEBUG_EXIT_H

#include "bus/bus.h"
#include "dev/device.h"
#include "dev/legacy/board_events.h"

#define DEBUG_EXIT_DEFAULT_PORT 0xf4

struct debug_exit;

/* -ENOMEM. Uses events->exit(). */
SILL_CHECKED int debug_exit_new(struct debug_exit **out, const struct board_events *events);
/* Four ports from `port` on. */
SILL_CHECKED int debug_exit_attach(struct debug_exit *dev, struct bus *bus, uint16_t port,
                                   struct error *err);
struct device *debug_exit_device(struct debug_exit *dev);

#endif
