/*
 * The 8254 programmable interval timer at ports 0x40-0x43 (Intel 8254 data sheet 231164) and the
 * NMI status and control port 0x61 through which channel 2 is gated and seen (ICH9 data sheet
 * 13.7.1).
 */
#ifndef SILL_DEV_LEGACY_I8254_H
#define SILL_DEV_LEGACY_I8254_H

#include "base/clock.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/device.h"

#define I8254_HZ 1193182u /* the input clock of all three channels */

struct i8254;

/* `irq` is channel 0's output: ISA interrupt 0, by way of hpet_timer_input() where there is an
 * HPET. -ENOMEM. */
SILL_CHECKED int i8254_new(struct i8254 **out, struct clock *clock, const struct irq_line *irq);
SILL_CHECKED int i8254_attach(struct i8254 *pit, struct bus *bus, struct error *err);
struct device *i8254_device(struct i8254 *pit);

#endif
