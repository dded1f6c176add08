/*
 * What the local APIC's files share: lapic.c (registers and priorities), lapic_timer.c, lapic_bus.c
 * (destinations and IPIs). Nobody else includes this.
 *
 * Locking: there is no lock around the registers. The owning vCPU's thread is the only one that
 * writes them, but for IRR, TMR and the error bits, where messages set bits atomically from any
 * thread; others may read any of them (destination and priority of an APIC). Each IRR bit is set
 * after its TMR bit. Only the timer, which the clock's thread also touches, has a lock.
 */
#ifndef SILL_X86_LAPIC_INTERNAL_H
#define SILL_X86_LAPIC_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "x86/lapic.h"
#include "x86/lapic_regs.h"

#define LAPIC_REGISTERS 64 /* 16 bytes apart in the page */

struct lapic_timer {
    pthread_mutex_t lock; /* inside no other lock; the clock's own is taken within */
    struct timer event;
    bool armed;
    uint64_t expiry;   /* VM time in ns */
    uint64_t deadline; /* IA32_TSC_DEADLINE, 0 when idle */
};

struct lapic {
    struct lapic_bus *bus;
    const struct lapic_ops *ops;
    void *opaque;
    unsigned id;
    bool bootstrap;
    _Atomic uint64_t base;                 /* IA32_APIC_BASE */
    _Atomic uint32_t reg[LAPIC_REGISTERS]; /* LAPIC_SAVED_* ones are kept outside */
    _Atomic uint32_t errors;               /* what the next ESR write will show */
    _Atomic bool extint;                   /* an ExtINT message came */
    struct clock *clock;
    struct lapic_timer timer;
};

static inline uint32_t lapic_reg(const struct lapic *apic, uint32_t offset)
{
    return atomic_load(&apic->reg[offset >> 4]);
}

static inline void lapic_reg_set(struct lapic *apic, uint32_t offset, uint32_t value)
{
    atomic_store(&apic->reg[offset >> 4], value);
}

/* lapic.c */
bool lapic_enabled(const struct lapic *apic); /* by APIC_BASE */
bool lapic_x2apic(const struct lapic *apic);
uint32_t lapic_ppr(const struct lapic *apic); /* 11.8.3.1 */
/* Takes one message or IPI that is addressed to this APIC. Any thread. */
void lapic_accept(struct lapic *apic, enum lapic_delivery mode, uint8_t vector, bool level);
/* Raises what a local vector table entry says, unless it is masked. Any thread. */
void lapic_raise_local(struct lapic *apic, uint32_t lvt_offset);
void lapic_error(struct lapic *apic, uint32_t error);
/* Does the 8259's wire reach this vCPU? (11.9; LINT0) */
bool lapic_takes_extint(const struct lapic *apic);

/* lapic_timer.c; owning vCPU's thread. */
void lapic_timer_init(struct lapic *apic);
void lapic_timer_done(struct lapic *apic);
void lapic_timer_reset(struct lapic *apic);
void lapic_timer_set_lvt(struct lapic *apic, uint32_t lvt);
void lapic_timer_set_initial(struct lapic *apic, uint32_t count);
void lapic_timer_set_divide(struct lapic *apic, uint32_t divide);
void lapic_timer_set_deadline(struct lapic *apic, uint64_t tsc);
uint64_t lapic_timer_deadline(struct lapic *apic);
uint32_t lapic_timer_current(struct lapic *apic);
/* Continues from a saved count or deadline; the registers are in place. */
void lapic_timer_restore(struct lapic *apic, uint32_t current, uint64_t deadline);

/* lapic_bus.c */
struct lapic_route {
    enum lapic_delivery mode;
    uint8_t vector;
    bool logical;
    bool level;
    bool lowest_priority;
    uint32_t destination;
    enum lapic_shorthand shorthand;
    const struct lapic *source; /* NULL for a message from outside */
};
bool lapic_bus_attach(struct lapic_bus *bus, struct lapic *apic); /* false: no place left */
void lapic_bus_detach(struct lapic_bus *bus, struct lapic *apic);
void lapic_bus_route(struct lapic_bus *bus, const struct lapic_route *route);
bool lapic_bus_extint_level(const struct lapic_bus *bus);

#endif
