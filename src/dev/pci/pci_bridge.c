/*
 * What a PCI-to-PCI bridge does: a type 1 header, a bus behind it, and the windows through which
 * that is reached. PCI-to-PCI Bridge Architecture specification 1.2, 3.2.5 (header), 4 (addresses).
 *
 *     root bus 0 --- bridge --- secondary bus, whose number the guest chooses
 *                    | I/O window (4 KiB steps, below 64 KiB)
 *                    | memory window (1 MiB steps, below 4 GiB)
 *                    | prefetchable window (1 MiB steps, 64 bits)
 *
 * Building: control thread; the rest: any thread, with the locks that pci.h and pci_internal.h
 * name.
 */
#include "dev/pci/pci_internal.h"

/* The bits of an address below a window's first and last step. */
#define IO_STEP_BITS 0xfffu
#define MEMORY_STEP_BITS 0xfffffu

static bool within(uint64_t first, uint64_t last, uint64_t base, uint64_t limit)
{
    return base <= first && last <= limit;
}

/* Does the bridge hand accesses to [first, last] down? A window whose base is above its limit is
 * closed. */
static bool passes(const uint8_t *config, enum bus_space space, uint64_t first, uint64_t last)
{
    uint16_t command = pci_get16(config, PCI_COMMAND);

    if (space == BUS_PORT) {
        uint64_t base = (config[PCI_IO_BASE] & PCI_IO_WINDOW_BITS) << 8;
        uint64_t limit = (config[PCI_IO_LIMIT] & PCI_IO_WINDOW_BITS) << 8 | IO_STEP_BITS;
        return command & PCI_COMMAND_IO && within(first, last, base, limit);
    }
    uint64_t base = pci_get16(config, PCI_MEMORY_BASE) & PCI_MEMORY_WINDOW_BITS;
    uint64_t limit = pci_get16(config, PCI_MEMORY_LIMIT) & PCI_MEMORY_WINDOW_BITS;
    uint64_t prefetchable_base =
        (uint64_t)pci_get32(config, PCI_PREFETCHABLE_BASE_HIGH) << 32 |
        (uint32_t)(pci_get16(config, PCI_PREFETCHABLE_BASE) & PCI_MEMORY_WINDOW_BITS) << 16;
    uint64_t prefetchable_limit =
        (uint64_t)pci_get32(config, PCI_PREFETCHABLE_LIMIT_HIGH) << 32 |
        (uint32_t)(pci_get16(config, PCI_PREFETCHABLE_LIMIT) & PCI_MEMORY_WINDOW_BITS) << 16;
    return command & PCI_COMMAND_MEMORY &&
           (within(first, last, base << 16, limit << 16 | MEMORY_STEP_BITS) ||
            within(first, last, prefetchable_base, prefetchable_limit | MEMORY_STEP_BITS));
}

bool pci_bus_reached(const struct pci_bus *bus, enum bus_space space, uint64_t first, uint64_t last)
{
    return !bus->bridge || passes(bus->bridge->config, space, first, last);
}

struct pci_bus *pci_bus_numbered(struct pci_bus *root, unsigned number)
{
    if (!number)
        return root;
    for (unsigned f = 0; f < PCI_FUNCTIONS; f++) {
        struct pci_device *bridge = root->function[f];
        if (!bridge || !bridge->secondary)
            continue;
        pthread_mutex_lock(&bridge->lock);
        bool is_it = bridge->config[PCI_SECONDARY_BUS] == number;
        pthread_mutex_unlock(&bridge->lock);
        if (is_it)
            return bridge->secondary;
    }
    return NULL;
}

/* PCI-to-PCI Bridge Architecture specification 9.1: pins rotate by the device's number; the wires
 * join the slot's on the root bus. Behind a root port there is only device 0. */
static unsigned pin_above(unsigned devfn, unsigned pin)
{
    return (pin + PCI_SLOT(devfn)) % 4;
}

/*
 * The bridge has its slot for itself (pci_bridge_init()), so the number of another function there
 * tells the wires of the device behind it from its own.
 */
static unsigned source_above(const struct pci_device *bridge)
{
    return bridge->devfn + 1u;
}

static void intx_set(void *opaque, unsigned devfn, unsigned pin, bool level)
{
    const struct pci_device *bridge = opaque;
    const struct pci_intx_router *above = &bridge->bus->intx;

    if (above->set)
        above->set(above->opaque, source_above(bridge), pin_above(devfn, pin), level);
}

static uint8_t intx_line(void *opaque, unsigned devfn, unsigned pin)
{
    const struct pci_device *bridge = opaque;
    const struct pci_intx_router *above = &bridge->bus->intx;

    return above->line ? above->line(above->opaque, source_above(bridge), pin_above(devfn, pin))
                       : 0xff;
}

void pci_bridge_init(struct pci_device *pci, struct pci_bus *secondary)
{
    uint8_t *mask = pci->write_mask;

    *secondary = (struct pci_bus){
        .bus = pci->bus->bus,
        .memory = pci->bus->memory,
        .msi = pci->bus->msi,
        .intx = {.opaque = pci, .set = intx_set, .line = intx_line},
        .root = pci->bus->root,
        .bridge = pci,
    };
    pci->secondary = secondary;

    pci->config[PCI_HEADER_TYPE] = PCI_HEADER_BRIDGE;
    mask[PCI_PRIMARY_BUS] = 0xff;
    mask[PCI_SECONDARY_BUS] = 0xff;
    mask[PCI_SUBORDINATE_BUS] = 0xff;
    mask[PCI_IO_BASE] = PCI_IO_WINDOW_BITS;
    mask[PCI_IO_LIMIT] = PCI_IO_WINDOW_BITS;
    pci_set16(mask, PCI_MEMORY_BASE, PCI_MEMORY_WINDOW_BITS);
    pci_set16(mask, PCI_MEMORY_LIMIT, PCI_MEMORY_WINDOW_BITS);
    pci_set16(pci->config, PCI_PREFETCHABLE_BASE, PCI_PREFETCHABLE_IS_64);
    pci_set16(pci->config, PCI_PREFETCHABLE_LIMIT, PCI_PREFETCHABLE_IS_64);
    pci_set16(mask, PCI_PREFETCHABLE_BASE, PCI_MEMORY_WINDOW_BITS);
    pci_set16(mask, PCI_PREFETCHABLE_LIMIT, PCI_MEMORY_WINDOW_BITS);
    pci_set32(mask, PCI_PREFETCHABLE_BASE_HIGH, UINT32_MAX);
    pci_set32(mask, PCI_PREFETCHABLE_LIMIT_HIGH, UINT32_MAX);
    pci_set16(mask, PCI_BRIDGE_CONTROL,
              PCI_BRIDGE_CONTROL_PARITY | PCI_BRIDGE_CONTROL_SERR | PCI_BRIDGE_CONTROL_RESET);
}
