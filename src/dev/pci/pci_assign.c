/*
 * Gives BARs their addresses, as firmware would; see pci_assign_resources() in pci.h.
 *
 * BARs are placed from the largest to the smallest. All sizes are powers of two and each BAR is
 * aligned to its size, so that in this order no address space is lost between them.
 */
#include <errno.h>
#include <inttypes.h>

#include "dev/pci/pci.h"

struct window {
    uint64_t next;
    uint64_t end;
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
                    return error_set(err, -ENOSPC,
                                     "%s: no PCI address space is left for %" PRIu64 " bytes",
                                     pci->dev.name, size);
                unsigned offset = PCI_BAR0 + 4 * i;
                pci_config_write(bus, f, offset, 4, (uint32_t)address);
                if (kind == PCI_BAR_MEM64)
                    pci_config_write(bus, f, offset + 4, 4, (uint32_t)(address >> 32));
            }
        }
    }
    return 0;
}

static void set_decoding(struct pci_bus *bus, bool on)
{
    const uint16_t bits = PCI_COMMAND_IO | PCI_COMMAND_MEMORY;

    for (unsigned f = 0; f < PCI_FUNCTIONS; f++) {
        if (!bus->function[f])
            continue;
        uint32_t command = pci_config_read(bus, f, PCI_COMMAND, 2);
        pci_config_write(bus, f, PCI_COMMAND, 2, on ? command | bits : command & ~bits);
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
    }
}

int pci_assign_resources(struct pci_bus *bus, const struct pci_windows *windows, struct error *err)
{
    struct window low = {windows->memory32_base, windows->memory32_base + windows->memory32_size};
    struct window high = {windows->memory64_base, windows->memory64_base + windows->memory64_size};
    struct window io = {windows->io_base, windows->io_base + (uint64_t)windows->io_size};

    set_decoding(bus, false);
    int ret = place_all(bus, PCI_BAR_IO, &io, NULL, err);
    if (!ret)
        ret = place_all(bus, PCI_BAR_MEM32, &low, NULL, err);
    if (!ret)
        ret = place_all(bus, PCI_BAR_MEM64, &low, &high, err);
    if (ret)
        return ret;
    set_decoding(bus, true);
    set_interrupt_lines(bus);
    return 0;
}
