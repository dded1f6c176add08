/*
 * The high precision event timer block at 0xfed00000. Intel IA-PC HPET specification 1.0a.
 */
#ifndef SILL_DEV_LEGACY_HPET_H
#define SILL_DEV_LEGACY_HPET_H

#include "base/clock.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/device.h"

#define HPET_DEFAULT_BASE 0xfed00000u
/* What the ACPI HPET table repeats of the capabilities register's low half (event timer block id).
 */
#define HPET_BLOCK_ID 0x8086a201u

struct hpet;

struct hpet_config {
    struct clock *clock;
    /* Global system interrupts that the comparators may drive, by number; unconnected ones are not
     * offered to the guest. Who shares one combines the levels. */
    struct irq_line route[24];
    /* ISA interrupts 0 and 8, which the HPET takes over in legacy replacement mode. */
    struct irq_line isa_timer, isa_rtc;
    struct msi_sink msi; /* for FSB delivery */
};

/* -ENOMEM. */
SILL_CHECKED int hpet_new(struct hpet **out, const struct hpet_config *config);
SILL_CHECKED int hpet_attach(struct hpet *hpet, struct bus *bus, gpa_t base, struct error *err);
struct device *hpet_device(struct hpet *hpet);

/* The wires that the i8254 and the RTC must drive instead of ISA interrupts 0 and 8: they pass
 * through except in legacy replacement mode. Any thread. */
struct irq_line hpet_timer_input(struct hpet *hpet);
struct irq_line hpet_rtc_input(struct hpet *hpet);

#endif
