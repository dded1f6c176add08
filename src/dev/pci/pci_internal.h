/* What pci.c (configuration space), pci_bridge.c (buses behind bridges), pci_msi.c (interrupts),
 * pci_rom.c (option ROMs) and root_port.c need of each other. */
#ifndef SILL_DEV_PCI_PCI_INTERNAL_H
#define SILL_DEV_PCI_PCI_INTERNAL_H

#include "dev/pci/pci.h"

/* Puts the ROM where its register says, or nowhere: first with `add` false for all functions, then
 * with `add` true. pci_bus.lock held. */
void pci_rom_update(struct pci_device *pci, bool add);
/* Takes it off the bus for good. */
void pci_rom_done(struct pci_device *pci);

/* The PCI Express capability of this device/port type, with registers for a link unless it is
 * integrated into the root complex; returns its offset. (pci.c) */
unsigned pci_add_express_type(struct pci_device *pci, unsigned type);

/* Makes a function that was initialised a bridge to `secondary`, which this initialises. */
void pci_bridge_init(struct pci_device *pci, struct pci_bus *secondary);
/* Do accesses to [first, last] reach the bus? They have to pass the windows of the bridges above.
 * pci_bus.lock held. */
bool pci_bus_reached(const struct pci_bus *bus, enum bus_space space, uint64_t first,
                     uint64_t last);

/* All of these with pci->lock held. */

/* Configuration registers changed: drives INTx and sends the messages that waited for this. */
void pci_interrupts_update(struct pci_device *pci);
/* Brings the status bits that the guest is about to read up to date. */
void pci_interrupts_refresh(struct pci_device *pci);
/* As after power-on; config[] is that already. */
void pci_interrupts_reset(struct pci_device *pci);
/* After a restore: tells the router what the wire's level is. */
void pci_interrupts_restored(struct pci_device *pci);

#endif
