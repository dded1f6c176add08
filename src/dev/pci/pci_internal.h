/* What pci.c (configuration space), pci_msi.c (interrupts) and pci_rom.c (option ROMs) need of each
 * other. */
#ifndef SILL_DEV_PCI_PCI_INTERNAL_H
#define SILL_DEV_PCI_PCI_INTERNAL_H

#include "dev/pci/pci.h"

/* Puts the ROM where its register says, or nowhere: first with `add` false for all functions, then
 * with `add` true. pci_bus.lock held. */
void pci_rom_update(struct pci_device *pci, bool add);
/* Takes it off the bus for good. */
void pci_rom_done(struct pci_device *pci);

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
