/*
 * The PC's pair of 8259A interrupt controllers with the edge/level control registers (ELCR) of
 * later chipsets. Intel 8259A data sheet (231468); ICH9 data sheet 13.4 and 13.7.
 *
 * The master sits at ports 0x20-0x21, the slave at 0xa0-0xa1 on the master's input 2, ELCR at
 * 0x4d0-0x4d1.
 */
#ifndef SILL_DEV_LEGACY_I8259_H
#define SILL_DEV_LEGACY_I8259_H

#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/device.h"

#define I8259_INPUTS 16

struct i8259;

/* `intr` is the master's INT wire towards the CPU (local APIC LINT0). It is driven from any thread
 * with the pair's lock held. -ENOMEM. */
SILL_CHECKED int i8259_new(struct i8259 **out, const struct irq_line *intr);
SILL_CHECKED int i8259_attach(struct i8259 *pic, struct bus *bus, struct error *err);
struct device *i8259_device(struct i8259 *pic);

/* The wire into ISA interrupt `irq`, 0 to 15 except 2 (the cascade). Any thread. */
struct irq_line i8259_input(struct i8259 *pic, unsigned irq);

/* The CPU's INTA cycle: the vector of the most urgent request, or the spurious one (input 7) when
 * the request has gone. vCPU thread. */
uint8_t i8259_acknowledge(struct i8259 *pic);

#endif
