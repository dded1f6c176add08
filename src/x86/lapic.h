/*
 * The local APIC (Intel SDM volume 3, chapter 11) for engines without one of their own: xAPIC and
 * x2APIC register files, priorities, the timer in one-shot, periodic and TSC-deadline mode, IPIs.
 *
 * All local APICs of a VM share one `struct lapic_bus`, which delivers messages and IPIs. An APIC
 * never touches a vCPU directly: it tells its owner through `struct lapic_ops`.
 *
 * Threads: messages arrive on any thread; register accesses and lapic_acknowledge() come from the
 * owning vCPU's thread; the timer fires on the clock's thread.
 */
#ifndef SILL_X86_LAPIC_H
#define SILL_X86_LAPIC_H

#include "base/clock.h"
#include "base/types.h"
#include "bus/irq.h"

struct lapic;
struct lapic_bus;

enum lapic_event { LAPIC_EVENT_INTERRUPT, LAPIC_EVENT_NMI, LAPIC_EVENT_INIT, LAPIC_EVENT_SIPI };

struct lapic_ops {
    /* Something for the vCPU to look at: wake it or make it leave translated code. Any thread, may
     * hold the APIC's lock, so it must not call back. `vector` is the SIPI's page. */
    void (*event)(void *opaque, enum lapic_event event, uint8_t vector);
    /* EOI of a level-triggered vector; owning vCPU's thread, no lock held. */
    void (*eoi_broadcast)(void *opaque, uint8_t vector);
    /* Guest TSC ticks (for TSC-deadline): reads the guest's TSC, and converts a deadline to VM time
     * in ns. */
    uint64_t (*tsc_read)(void *opaque);
    uint64_t (*tsc_to_time)(void *opaque, uint64_t tsc);
};

SILL_CHECKED int lapic_bus_new(struct lapic_bus **out, unsigned max_vcpus);
void lapic_bus_free(struct lapic_bus *bus);
/* Delivers a message (MSI, or an IOAPIC's): Intel SDM volume 3, 11.11. Any thread. */
void lapic_bus_send(struct lapic_bus *bus, const struct msi_message *message);
/* The 8259's INT wire, seen by every APIC whose LINT0 is in ExtINT mode (or that is disabled, on
 * the bootstrap processor). */
void lapic_bus_extint(struct lapic_bus *bus, bool level);

SILL_CHECKED int lapic_new(struct lapic **out, struct lapic_bus *bus, unsigned apic_id,
                           bool bootstrap, struct clock *clock, const struct lapic_ops *ops,
                           void *opaque);
void lapic_free(struct lapic *apic);
/* Power-on reset; an INIT (not power-on) keeps the APIC id and the base MSR. */
void lapic_reset(struct lapic *apic, bool init);

/* xAPIC page access: 32-bit registers at `offset` 0..0xff0 of the page; other sizes as the SDM says
 * they are undefined: reads give 0 outside the aligned register. */
uint32_t lapic_mmio_read(struct lapic *apic, uint32_t offset);
void lapic_mmio_write(struct lapic *apic, uint32_t offset, uint32_t value);
/* Address of the xAPIC page while in xAPIC mode and enabled; false when there is none. */
bool lapic_mmio_base(const struct lapic *apic, gpa_t *base);

/* MSRs 0x1b, 0x800..0x8ff and 0x6e0; false means #GP. */
bool lapic_msr_read(struct lapic *apic, uint32_t index, uint64_t *value);
bool lapic_msr_write(struct lapic *apic, uint32_t index, uint64_t value);

/* CR8 is the task priority's high nibble. */
uint64_t lapic_cr8_read(const struct lapic *apic);
void lapic_cr8_write(struct lapic *apic, uint64_t value);

/* A pulse on the NMI wire: LINT1, or the plain NMI pin while the APIC is disabled. Any thread. */
void lapic_nmi(struct lapic *apic);

/* What the vCPU may take now: -1 nothing; LAPIC_EXTINT when the 8259 has the word; else a vector.
 * lapic_pending() only looks (cheap: a few loads, no lock); lapic_acknowledge() moves the vector
 * from IRR to ISR. */
#define LAPIC_EXTINT 0x100
int lapic_pending(struct lapic *apic);
int lapic_acknowledge(struct lapic *apic);

/* Register page as struct x86_vcpu_state has it. -EINVAL for impossible contents. */
void lapic_save(struct lapic *apic, uint8_t page[1024], uint64_t *apic_base, uint64_t *deadline);
SILL_CHECKED int lapic_load(struct lapic *apic, const uint8_t page[1024], uint64_t apic_base,
                            uint64_t deadline);

#endif
