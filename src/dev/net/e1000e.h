/*
 * The Intel 82574L gigabit Ethernet controller (8086:10d3), which Linux's driver e1000e, iPXE's
 * intel and Windows' own drive. "Intel 82574 GbE Controller Family Datasheet", revision 3.4;
 * section numbers in the sources are its.
 */
#ifndef SILL_DEV_NET_E1000E_H
#define SILL_DEV_NET_E1000E_H

#include "base/clock.h"
#include "dev/pci/pci.h"
#include "net/net.h"

struct e1000e_config {
    const char *name; /* "net0"; outlives the device */
    struct pci_bus *bus;
    int devfn; /* or PCI_DEVFN_AUTO */
    struct clock *clock;
    uint8_t mac[NET_MAC_LENGTH];
    const char *rom;         /* file for firmware to boot from the network with; NULL: none */
    const char *rom_package; /* that brings it */
};

/* Takes over `backend` and closes it with the device; on failure it stays the caller's. */
SILL_CHECKED int e1000e_new(struct device **out, const struct e1000e_config *config,
                            struct net_backend *backend, struct error *err);

#endif
