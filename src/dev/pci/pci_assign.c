/*
 * Gives BARs and the windows of bridges their addresses, as firmware would; see
 * pci_assign_resources() in pci.h.
 *
 * BARs are placed from the largest to the smallest. All sizes are powers of two and each BAR is
 * aligned to its size, so that in this order no address space is lost between them.
 */
#include <errno.h>
#include <inttypes.h>

#include "dev/pci/pci.h"

/* What a root port gets for its slot, whatever is in it now. */
#define BRIDGE_MEMORY (2 * MIB)
#define BRIDGE_PREFETCHABLE (2 * MIB)
#define BRIDGE_IO (4 * KIB)

struct window {
    uint64_t next;
    uint64_t end;
};

/* Where the BARs of a bus may go. */
struct space {
    struct window io;
    struct window low;  /* memory below 4 GiB */
    struct window high; /* the rest, for 64-bit BARs that have no room in `low` */
};

/* The next address of the window that suits the size, or false. */
static bool window_take(struct window *window, uint64_t size, uint64_t *address)
{
    uint64_t at = ALIGN_UP(window->next, size);

    if (at < window->next || at >= window->end || size > window->end - at)
        return false;
    *address = at;
    window->next = at + size;
    return true;
}

static int no_space(const struct pci_device *pci, uint64_t size, struct error *err)
{
    return error_set(err, -ENOSPC, "%s: no PCI address space is left for %" PRIu64 " bytes",
                     pci->dev.name, size);
}

/* Places every BAR of `kind` in the first window that has room. */
static int place_all(struct pci_bus *bus, enum pci_bar_kind kind, struct window *first,
                     struct window *second, struct error *err)
{
    for (uint64_t size = 1ull << 63; size; size >>= 1) {
        for (unsigned f = 0; f < PCI_FUNCTIONS; f++) {
            const struct pci_device *pci = bus->function[f];
            for (unsigned i = 0; pci && i < PCI_BAR_COUNT; i++) {
                uint64_t address;
                if (pci->bar[i].kind != kind || pci->bar[i].size != size)
                    continue;
                if (!window_take(first, size, &address) &&
                    (!second || !window_take(second, size, &address)))
                    return no_space(pci, size, err);
                unsigned offset = PCI_BAR0 + 4 * i;
                pci_config_write(bus, f, offset, 4, (uint32_t)address);
                if (kind == PCI_BAR_MEM64)
                    pci_config_write(bus, f, offset + 4, 4, (uint32_t)(address >> 32));
            }
        }
    }
    return 0;
}

static int place_bus(struct pci_bus *bus, struct space *space, struct error *err)
{
    /* Behind a bridge without ports the ports of devices are nowhere. */
    int ret = space->io.end ? place_all(bus, PCI_BAR_IO, &space->io, NULL, err) : 0;

    if (!ret)
        ret = place_all(bus, PCI_BAR_MEM32, &space->low, NULL, err);
    if (!ret)
        ret = place_all(bus, PCI_BAR_MEM64, &space->low, &space->high, err);
    return ret;
}

/* Opens the windows of the bridge at `f` and places what is behind them. */
static int place_bridge(struct pci_bus *bus, unsigned f, uint8_t number, struct space *space,
                        struct error *err)
{
    const struct pci_device *bridge = bus->function[f];
    struct space behind = {0};
    uint64_t prefetchable;

    pci_config_write(bus, f, PCI_SECONDARY_BUS, 1, number);
    pci_config_write(bus, f, PCI_SUBORDINATE_BUS, 1, number);

    if (!window_take(&space->low, BRIDGE_MEMORY, &behind.low.next))
        return no_space(bridge, BRIDGE_MEMORY, err);
    behind.low.end = behind.low.next + BRIDGE_MEMORY;
    pci_config_write(bus, f, PCI_MEMORY_BASE, 2, (uint32_t)behind.low.next >> 16);
    pci_config_write(bus, f, PCI_MEMORY_LIMIT, 2, (uint32_t)(behind.low.end - 1) >> 16);

    if (!window_take(&space->high, BRIDGE_PREFETCHABLE, &prefetchable) &&
        !window_take(&space->low, BRIDGE_PREFETCHABLE, &prefetchable))
        return no_space(bridge, BRIDGE_PREFETCHABLE, err);
    uint64_t limit = prefetchable + BRIDGE_PREFETCHABLE - 1;
    pci_config_write(bus, f, PCI_PREFETCHABLE_BASE, 2, (uint32_t)prefetchable >> 16);
    pci_config_write(bus, f, PCI_PREFETCHABLE_LIMIT, 2, (uint32_t)limit >> 16);
    pci_config_write(bus, f, PCI_PREFETCHABLE_BASE_HIGH, 4, (uint32_t)(prefetchable >> 32));
    pci_config_write(bus, f, PCI_PREFETCHABLE_LIMIT_HIGH, 4, (uint32_t)(limit >> 32));

    /* Ports are scarce, and few devices need any: a bridge that gets none has a closed window. */
    if (window_take(&space->io, BRIDGE_IO, &behind.io.next))
        behind.io.end = behind.io.next + BRIDGE_IO;
    uint64_t first = behind.io.end ? behind.io.next : PCI_IO_WINDOW_BITS << 8;
    uint64_t last = behind.io.end ? behind.io.end - 1 : 0;
    pci_config_write(bus, f, PCI_IO_BASE, 1, (uint32_t)first >> 8);
    pci_config_write(bus, f, PCI_IO_LIMIT, 1, (uint32_t)last >> 8);
    return place_bus(bridge->secondary, &behind, err);
}

static int place_bridges(struct pci_bus *bus, struct space *space, struct error *err)
{
    uint8_t number = 0;
    int ret = 0;

    for (unsigned f = 0; f < PCI_FUNCTIONS && !ret; f++) {
        if (bus->function[f] && bus->function[f]->secondary)
            ret = place_bridge(bus, f, ++number, space, err);
    }
    return ret;
}

static void set_decoding(struct pci_bus *bus, bool on)
{
    const uint16_t bits = PCI_COMMAND_IO | PCI_COMMAND_MEMORY;

    for (unsigned f = 0; f < PCI_FUNCTIONS; f++) {
        const struct pci_device *pci = bus->function[f];
        if (!pci)
            continue;
        uint32_t command = pci_config_read(bus, f, PCI_COMMAND, 2);
        pci_config_write(bus, f, PCI_COMMAND, 2, on ? command | bits : command & ~bits);
        if (pci->secondary)
            set_decoding(pci->secondary, on);
    }
}

static void set_interrupt_lines(struct pci_bus *bus)
{
    for (unsigned f = 0; f < PCI_FUNCTIONS; f++) {
        const struct pci_device *pci = bus->function[f];
        uint8_t pin = pci ? pci->config[PCI_INTERRUPT_PIN] : 0;
        if (pin && bus->intx.line)
            pci_config_write(bus, f, PCI_INTERRUPT_LINE, 1,
                             bus->intx.line(bus->intx.opaque, f, pin - 1u));
        if (pci && pci->secondary)
            set_interrupt_lines(pci->secondary);
    }
}

int pci_assign_resources(struct pci_bus *bus, const struct pci_windows *windows, struct error *err)
{
    struct space space = {
        .io = {windows->io_base, windows->io_base + (uint64_t)windows->io_size},
        .low = {windows->memory32_base, windows->memory32_base + windows->memory32_size},
        .high = {windows->memory64_base, windows->memory64_base + windows->memory64_size},
    };

    set_decoding(bus, false);
    int ret = place_bus(bus, &space, err);
    if (!ret)
        ret = place_bridges(bus, &space, err);
    if (ret)
        return ret;
    set_decoding(bus, true);
    set_interrupt_lines(bus);
    return 0;
}
