/*
 * A PIIX4-compatible IDE controller (8086:7111) with two channels in compatibility mode: ports
 * 0x1f0-0x1f7 and 0x3f6 with interrupt 14, 0x170-0x177 and 0x376 with interrupt 15, and the bus
 * master registers in BAR 4. ATA/ATAPI-7, volume 2; "Programming Interface for Bus Master IDE
 * Controller", revision 1.0; Intel 82371AB data sheet, chapter 5.
 */
#ifndef SILL_DEV_STORAGE_IDE_H
#define SILL_DEV_STORAGE_IDE_H

#include "dev/pci/pci.h"
#include "dev/storage/ata.h"

#define IDE_CHANNELS 2
#define IDE_UNITS 4 /* primary master and slave, secondary master and slave */
#define IDE_DEVFN PCI_DEVFN(31, 1)

struct ide;

struct ide_config {
    const char *name;
    struct pci_bus *bus;
    int devfn;
    struct irq_line irq[IDE_CHANNELS];
};

SILL_CHECKED int ide_new(struct ide **out, const struct ide_config *config, struct error *err);
struct device *ide_device(struct ide *ide);

/* Connects a drive to a free unit; before the first reset. The medium is the controller's then. */
void ide_add_drive(struct ide *ide, unsigned unit, const struct ata_drive_config *drive);

/* ata_drive_change(), from the control thread while the VM runs or is paused. */
SILL_CHECKED int ide_change_medium(struct ide *ide, unsigned unit, struct block_device *medium,
                                   bool force, struct block_device **old);

#endif
