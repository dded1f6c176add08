/*
 * The VGA as a PCI function, 1234:1111, as Bochs and QEMU have it, for which firmware and kernels
 * have drivers:
 *
 *     BAR 0   video memory, prefetchable
 *     BAR 2   0x000 the monitor's EDID, 0x400 VGA ports, 0x500 dispi registers (vga.h)
 *
 * It also answers at the legacy ports and the window at 0xa0000, whether or not the guest enabled
 * its decoding: it is the only VGA of the board.
 */
#ifndef SILL_DEV_DISPLAY_VGA_PCI_H
#define SILL_DEV_DISPLAY_VGA_PCI_H

#include "base/clock.h"
#include "dev/device.h"
#include "dev/display/display.h"
#include "dev/pci/pci.h"

#define VGA_PCI_VENDOR 0x1234
#define VGA_PCI_DEVICE 0x1111

struct vga_pci_config {
    const char *name;
    struct pci_bus *bus;
    int devfn;
    struct clock *clock;
    uint32_t memory;         /* bytes of video memory, a power of two from 256 KiB on */
    struct display *display; /* outlives the device */
    const char *rom;         /* file with the VGA BIOS, or NULL */
    const char *rom_package; /* that brings it */
};

SILL_CHECKED int vga_pci_new(struct device **out, const struct vga_pci_config *config,
                             struct error *err);

#endif
