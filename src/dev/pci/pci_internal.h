/* What pci.c (configuration space) and pci_msi.c (interrupts) need of each other. */
#ifndef SILL_DEV_PCI_PCI_INTERNAL_H
#define SILL_DEV_PCI_PCI_INTERNAL_H

#include "dev/pci/pci.h"

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
