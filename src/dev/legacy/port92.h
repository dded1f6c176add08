/*
 * System control port A, 0x92: fast A20 and the fast CPU reset. ICH9 data sheet 13.7.5 (PORT92).
 */
#ifndef SILL_DEV_LEGACY_PORT92_H
#define SILL_DEV_LEGACY_PORT92_H

#include "bus/bus.h"
#include "dev/device.h"
#include "dev/legacy/board_events.h"

struct port92;

/* -ENOMEM. Uses events->reset(). */
SILL_CHECKED int port92_new(struct port92 **out, const struct board_events *events);
SILL_CHECKED int port92_attach(struct port92 *port, struct bus *bus, struct error *err);
struct device *port92_device(struct port92 *port);

#endif
