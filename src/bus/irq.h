/*
 * Interrupt wires and messages.
 *
 * An irq_line is one wire from a device to an input of an interrupt controller. irq_line_set() may
 * be called from any thread, with the calling device's lock held. Lock order over the whole board:
 * device, then PCI interrupt router, then 8259/IOAPIC, then local APIC. Nothing is called back in
 * the other direction while such a lock is held (a local APIC reports EOI after dropping its lock).
 */
#ifndef SILL_BUS_IRQ_H
#define SILL_BUS_IRQ_H

#include "base/types.h"

struct irq_line {
    void (*set)(void *opaque, unsigned input, bool level);
    void *opaque;
    unsigned input; /* pin number of the controller */
};

/* A line whose `set` is NULL is not connected. */
static inline void irq_line_set(const struct irq_line *line, bool level)
{
    if (line->set)
        line->set(line->opaque, line->input, level);
}

/* A message-signalled interrupt: an address and data as the PCI and IOAPIC specifications write
 * them to the local APICs (Intel SDM volume 3, 11.11). */
struct msi_message {
    uint64_t address;
    uint32_t data;
};

/* Where messages go: the engine's local APICs. Any thread, device lock may be held. */
struct msi_sink {
    void (*send)(void *opaque, const struct msi_message *message);
    void *opaque;
};

static inline void msi_send(const struct msi_sink *sink, const struct msi_message *message)
{
    if (sink->send)
        sink->send(sink->opaque, message);
}

#endif
