/*
 * A USB host controller with the eXtensible Host Controller Interface as a PCI Express function:
 * ports for USB 2 devices, and for USB 3 devices that there are none of. eXtensible Host Controller
 * Interface specification 1.2; the sections in these files are its.
 *
 * Transfers and commands are carried out where the guest rings for them, on the vCPU's thread. One
 * that waits for a device is only remembered as the endpoint's, until the device wakes its port.
 * So nothing is ever under way, and there is no thread and no polling.
 *
 * What it leaves out, and says so in its registers: streams, hubs behind ports, the save and
 * restore of its state (a driver that tries is told to set it up anew), the wrap event of the
 * microframe counter, virtualisation.
 */
#ifndef SILL_DEV_USB_XHCI_H
#define SILL_DEV_USB_XHCI_H

#include "base/clock.h"
#include "dev/pci/pci.h"
#include "dev/usb/usb.h"

struct xhci;

struct xhci_config {
    const char *name;
    struct pci_bus *bus;
    int devfn;
    struct clock *clock;
};

SILL_CHECKED int xhci_new(struct xhci **out, const struct xhci_config *config, struct error *err);
struct device *xhci_device(struct xhci *xhci);

/* Plugs a device into the next free port, for good; before the board's first reset. The device goes
 * before the controller does. -ENOSPC. */
SILL_CHECKED int xhci_plug(struct xhci *xhci, struct usb_device *usb, struct error *err);

#endif
