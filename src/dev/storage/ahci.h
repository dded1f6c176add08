/*
 * An AHCI host controller as in the ICH9 (8086:2922) with six ports. Serial ATA AHCI specification
 * 1.3.1; Serial ATA specification 3.x for the frames (FIS).
 *
 * Commands are fetched on the thread that makes them ready (mostly a vCPU's), and complete on the
 * image's I/O thread. At a pause nothing is in flight, so the registers are all there is to save.
 */
#ifndef SILL_DEV_STORAGE_AHCI_H
#define SILL_DEV_STORAGE_AHCI_H

#include "dev/pci/pci.h"
#include "dev/storage/ata.h"

#define AHCI_PORTS 6
#define AHCI_DEVFN PCI_DEVFN(31, 2)

struct ahci;

struct ahci_config {
    const char *name;
    struct pci_bus *bus;
    int devfn;
};

SILL_CHECKED int ahci_new(struct ahci **out, const struct ahci_config *config, struct error *err);
struct device *ahci_device(struct ahci *ahci);

/* Puts a drive on an empty port; before the first reset. The medium is the controller's then.
 * -ENOMEM. */
SILL_CHECKED int ahci_add_drive(struct ahci *ahci, unsigned port,
                                const struct ata_drive_config *drive);

/* ata_drive_change(), from the control thread while the VM runs or is paused. */
SILL_CHECKED int ahci_change_medium(struct ahci *ahci, unsigned port, struct block_device *medium,
                                    bool force, struct block_device **old);

#endif
