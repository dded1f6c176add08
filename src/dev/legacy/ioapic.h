/*
 * The I/O APIC: 24 inputs, each of which sends a programmable message to the local APICs.
 * Intel 82093AA data sheet (290566), with the EOI register of version 0x20 (ICH9 data sheet 13.5).
 */
#ifndef SILL_DEV_LEGACY_IOAPIC_H
#define SILL_DEV_LEGACY_IOAPIC_H

#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/device.h"

#define IOAPIC_PINS 24
#define IOAPIC_DEFAULT_BASE 0xfec00000u

struct ioapic;

/* `sink` takes the messages; it is called from any thread with the IOAPIC's lock held. -ENOMEM. */
SILL_CHECKED int ioapic_new(struct ioapic **out, const struct msi_sink *sink);
SILL_CHECKED int ioapic_attach(struct ioapic *ioapic, struct bus *bus, gpa_t base,
                               struct error *err);
struct device *ioapic_device(struct ioapic *ioapic);

/* The wire into `pin`, 0 to 23: active high whatever the pin's polarity bit says, one driver for
 * each pin (who shares a pin combines the levels first). Any thread. */
struct irq_line ioapic_input(struct ioapic *ioapic, unsigned pin);

/* A local APIC ended the level-triggered interrupt `vector`: pins that still ask for it ask again.
 * vCPU thread. */
void ioapic_eoi(struct ioapic *ioapic, uint8_t vector);

#endif
