/*
 * The bus between the local APICs of a VM: finds out which of them a message or IPI is for (Intel
 * SDM volume 3, 11.6.2 for xAPIC, 11.12.10 for x2APIC destinations, 11.11 for messages) and hands
 * it over. It also carries the 8259's INT wire. Called on any thread; no lock: APICs are attached
 * before the vCPUs run.
 */
#include <errno.h>
#include <stdlib.h>

#include "x86/lapic_internal.h"

#define BROADCAST_XAPIC 0xffu
#define BROADCAST_X2APIC 0xffffffffu

struct lapic_bus {
    unsigned slots;
    _Atomic bool extint;
    _Atomic unsigned rotor; /* where the next lowest-priority arbitration begins */
    struct lapic *_Atomic apic[];
};

int lapic_bus_new(struct lapic_bus **out, unsigned max_vcpus)
{
    struct lapic_bus *bus = calloc(1, sizeof(*bus) + max_vcpus * sizeof(bus->apic[0]));
    if (!bus)
        return -ENOMEM;
    bus->slots = max_vcpus;
    *out = bus;
    return 0;
}

void lapic_bus_free(struct lapic_bus *bus)
{
    free(bus);
}

bool lapic_bus_attach(struct lapic_bus *bus, struct lapic *apic)
{
    for (unsigned i = 0; i < bus->slots; i++) {
        if (!bus->apic[i]) {
            bus->apic[i] = apic;
            return true;
        }
    }
    return false;
}

void lapic_bus_detach(struct lapic_bus *bus, struct lapic *apic)
{
    for (unsigned i = 0; i < bus->slots; i++) {
        if (bus->apic[i] == apic)
            bus->apic[i] = NULL;
    }
}

bool lapic_bus_extint_level(const struct lapic_bus *bus)
{
    return atomic_load(&bus->extint);
}

void lapic_bus_extint(struct lapic_bus *bus, bool level)
{
    bool before = atomic_exchange(&bus->extint, level);
    if (before || !level)
        return;
    for (unsigned i = 0; i < bus->slots; i++) {
        struct lapic *apic = bus->apic[i];
        if (!apic)
            continue;
        if (lapic_takes_extint(apic))
            apic->ops->event(apic->opaque, LAPIC_EVENT_INTERRUPT, 0);
        else if (lapic_enabled(apic))
            lapic_raise_local(apic, LAPIC_LVT_LINT0);
    }
}

static bool logical_match(const struct lapic *apic, uint32_t destination)
{
    uint32_t ldr = lapic_reg(apic, LAPIC_LDR);

    if (lapic_x2apic(apic))
        return destination >> 16 == ldr >> 16 && (destination & ldr & 0xffff);
    if (destination > 0xff)
        return false;
    ldr >>= 24;
    if (lapic_reg(apic, LAPIC_DFR) == LAPIC_DFR_FLAT)
        return destination & ldr;
    return destination >> 4 == ldr >> 4 && (destination & ldr & 0xf);
}

static bool route_match(const struct lapic_route *route, const struct lapic *apic)
{
    switch (route->shorthand) {
    case LAPIC_TO_SELF:
        return apic == route->source;
    case LAPIC_TO_ALL:
        return true;
    case LAPIC_TO_OTHERS:
        return apic != route->source;
    case LAPIC_TO_DESTINATION:
        break;
    }
    if (route->destination == BROADCAST_X2APIC)
        return true;
    /* An 8-bit destination field says "all" with 0xff; in an x2APIC's own ICR that is an id. */
    bool narrow = !route->source || !lapic_x2apic(route->source);
    if (narrow && route->destination == BROADCAST_XAPIC)
        return true;
    return route->logical ? logical_match(apic, route->destination)
                          : route->destination == apic->id;
}

/* Among those addressed and able to take it, the one with the least processor priority; where
 * several have it, each in turn (11.6.2.4). */
static struct lapic *arbitrate(struct lapic_bus *bus, const struct lapic_route *route)
{
    struct lapic *winner = NULL;
    uint32_t least = 0;
    unsigned start = atomic_fetch_add(&bus->rotor, 1);

    for (unsigned i = 0; i < bus->slots; i++) {
        struct lapic *apic = bus->apic[(start + i) % bus->slots];
        if (!apic || !lapic_enabled(apic) || !(lapic_reg(apic, LAPIC_SVR) & LAPIC_SVR_ENABLE) ||
            !route_match(route, apic))
            continue;
        uint32_t priority = lapic_ppr(apic);
        if (!winner || priority < least) {
            winner = apic;
            least = priority;
        }
    }
    return winner;
}

void lapic_bus_route(struct lapic_bus *bus, const struct lapic_route *route)
{
    if (route->lowest_priority) {
        struct lapic *winner = arbitrate(bus, route);
        if (winner)
            lapic_accept(winner, LAPIC_FIXED, route->vector, route->level);
        return;
    }
    for (unsigned i = 0; i < bus->slots; i++) {
        struct lapic *apic = bus->apic[i];
        if (apic && lapic_enabled(apic) && route_match(route, apic))
            lapic_accept(apic, route->mode, route->vector, route->level);
    }
}

/*
 * Address: destination in bits 12..19, redirection hint 3, logical mode 2. Bits 40..63, beyond what
 * a PCI device can be told, hold the rest of a 32-bit destination as KVM's x2APIC interface has it.
 * Data: vector 0..7, delivery mode 8..10, assert 14, level-triggered 15.
 */
void lapic_bus_send(struct lapic_bus *bus, const struct msi_message *message)
{
    enum lapic_delivery mode = message->data >> 8 & 7;
    bool level = message->data & 1u << 15;
    bool logical = message->address & 1u << 2;
    bool hint = message->address & 1u << 3;

    if (mode == LAPIC_INIT && level && !(message->data & 1u << 14))
        return; /* INIT level de-assert has no effect */
    struct lapic_route route = {
        .mode = mode,
        .vector = (uint8_t)message->data,
        .logical = logical,
        .level = level,
        .lowest_priority =
            mode == LAPIC_LOWEST_PRIORITY || (mode == LAPIC_FIXED && hint && logical),
        .destination = (message->address >> 12 & 0xff) | (message->address >> 32 & 0xffffff00),
        .shorthand = LAPIC_TO_DESTINATION,
    };
    lapic_bus_route(bus, &route);
}
