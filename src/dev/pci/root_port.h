/*
 * A PCI Express root port with a hot-plug slot. PCI Express base specification 3.0, 6.7 (native
 * hot-plug), 7.8.6 to 7.8.12 (link, slot and root registers); the bridge is pci_bridge.c's.
 *
 *     user                slot                         guest (Linux: pciehp)
 *     put in   ---------> present, button pressed ---> power on: the link comes up, finds a device
 *     ask to remove ----> button pressed ------------> stops using it, power off: the link goes
 * down take out (the board's turn) take out by force > no longer present, link down
 *
 * The device is on the secondary bus, whoever owns it. When the link goes down the device must be
 * reset, and what reset it needs the VM to stand still: the port asks for the board's attention.
 *
 * The identity is that of QEMU's pcie-root-port (1b36:000c), for which SeaBIOS, OVMF and operating
 * systems keep room for devices that come later.
 */
#ifndef SILL_DEV_PCI_ROOT_PORT_H
#define SILL_DEV_PCI_ROOT_PORT_H

#include "dev/pci/pci.h"

struct root_port;

struct root_port_config {
    const char *name; /* outlives the port */
    struct pci_bus *bus;
    unsigned slot; /* its number for people, from 1 on */
    /* Have the control thread stop everything and look at root_port_link_lost(). Any thread, the
     * port's lock held. */
    void (*attention)(void *opaque);
    void *opaque;
};

SILL_CHECKED int root_port_new(struct root_port **out, const struct root_port_config *config,
                               struct error *err);
struct device *root_port_device(struct root_port *port);
/* Where the device goes, as device 0, and stays for as long as it is plugged in. */
struct pci_bus *root_port_bus(struct root_port *port);

/* All of these: control thread, vCPUs and devices stopped. */

/* The device on the secondary bus is in the slot from now on. In a VM that has not started it is in
 * use at once, else the guest is told. */
void root_port_plugged(struct root_port *port, bool started);
/* It no longer is; the link is down if it was not. Before the device goes. */
void root_port_unplugged(struct root_port *port);
/* Asks the guest to power the slot off. -EBUSY: it is at it; asking again would call it off. */
SILL_CHECKED int root_port_ask_removal(struct root_port *port);
/* Whether the guest has been asked to, since it last started. */
bool root_port_is_leaving(const struct root_port *port);
/* The power is off. */
bool root_port_is_off(struct root_port *port);
/* Whether the link went down since the last call: the device has to be reset. */
bool root_port_link_lost(struct root_port *port);

#endif
