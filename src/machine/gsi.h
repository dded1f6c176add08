/*
 * The board's interrupt wires. A global system interrupt (GSI; ACPI specification 6.5, 5.2.13) is
 * an input of the IOAPIC, and the wire into it may lead to the 8259 pair as well:
 *
 *     ISA interrupt 0 (timer)         = GSI 2       IOAPIC pin 2, 8259 input 0
 *     ISA interrupt n (1, 3 to 15)    = GSI n       IOAPIC pin n, 8259 input n
 *     PCI interrupts, HPET            = GSI 16-23   IOAPIC only
 *     PCI interrupts through the LPC bridge's routing to an ISA interrupt: 8259 only
 *
 * Several devices may share a wire: it is high while any of them asks (both controllers take their
 * inputs as active high). Each driver has a bit of its own, so that one that repeats itself does no
 * harm.
 *
 * Threads: wires are taken by the control thread while the board is built, driven from any thread.
 * Lock order: as in bus/irq.h, between the PCI interrupt router and the controllers.
 */
#ifndef SILL_MACHINE_GSI_H
#define SILL_MACHINE_GSI_H

#include <pthread.h>

#include "bus/irq.h"
#include "dev/device.h"

#define GSI_COUNT 24
#define GSI_MAX_DRIVERS 32 /* of one wire */

struct gsi_wire {
    uint32_t asking;   /* a bit for each driver */
    uint32_t pic_only; /* drivers that the IOAPIC does not hear */
    unsigned drivers;  /* how many have been handed out */
    struct irq_line pic;
    struct irq_line ioapic;
};

struct gsi_wires {
    struct device dev;
    pthread_mutex_t lock;
    struct gsi_wire wire[GSI_COUNT];
};

void gsi_wires_init(struct gsi_wires *wires);
struct device *gsi_wires_device(struct gsi_wires *wires);

/* The GSI of ISA interrupt `irq`. */
static inline unsigned gsi_of_isa(unsigned irq)
{
    return irq == 0 ? 2 : irq;
}

/* Where the wire leads; an unconnected line for a controller that does not see it. */
void gsi_connect(struct gsi_wires *wires, unsigned gsi, const struct irq_line *pic,
                 const struct irq_line *ioapic);

/* One more driver of a wire, one more that only the 8259 hears. A wire has places for
 * GSI_MAX_DRIVERS. */
struct irq_line gsi_driver(struct gsi_wires *wires, unsigned gsi);
struct irq_line gsi_pic_driver(struct gsi_wires *wires, unsigned gsi);

#endif
