/*
 * The board's drives: virtio disks, and ATA disks and CD-ROM drives behind an AHCI or an IDE
 * controller, each as its options say. A controller is there only when a drive asks for it. Control
 * thread.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dev/storage/ahci.h"
#include "dev/storage/ide.h"
#include "dev/virtio/virtio_blk.h"
#include "machine/pc_internal.h"

#define ISA_IRQ_IDE 14 /* and 15 */

/* Opens what the options name; `*medium` is NULL for a drive without a disc. */
static int open_medium(struct block_device **medium, const struct block_options *options,
                       struct error *err)
{
    *medium = NULL;
    if (options->cdrom && !options->path[0])
        return 0;
    int result = block_open(medium, options, err);
    if (result || !options->cdrom || (*medium)->size >= CD_BLOCK)
        return result;
    block_close(*medium);
    *medium = NULL;
    return error_set(err, -EINVAL,
                     "%s is no CD-ROM image: it is shorter than one block of %d bytes",
                     options->path, CD_BLOCK);
}

static int new_virtio_disk(struct pc *pc, const struct virtio_pci_config *place,
                           const struct block_options *options, struct block_device *medium,
                           struct device **device, struct error *err)
{
    const struct virtio_blk_config config = {
        .pci = *place,
        .queues = pc->config.cpus,
        .serial = options->serial[0] ? options->serial : NULL,
    };
    return virtio_blk_new(device, &config, medium, err);
}

int pc_new_disk(struct pc *pc, const struct virtio_pci_config *place,
                const struct block_options *options, struct device **device, struct error *err)
{
    struct block_device *medium;
    int result = open_medium(&medium, options, err);
    if (result)
        return result;
    result = new_virtio_disk(pc, place, options, medium, device, err);
    if (result)
        block_close(medium);
    return result;
}

static int add_virtio_disk(struct pc *pc, struct pc_drive *drive,
                           const struct block_options *options, struct block_device *medium,
                           struct error *err)
{
    const struct virtio_pci_config place = {drive->name, pci_host_bus(pc->pci_host),
                                            PCI_DEVFN_AUTO};
    struct device *device;
    int result = new_virtio_disk(pc, &place, options, medium, &device, err);
    if (result)
        return result;
    pc_add_device(pc, device);
    pc_add_pci_boot_device(pc, PC_BOOT_DISK, device, "scsi", "/disk@0,0");
    return 0;
}

static struct ata_drive_config drive_config(const struct pc_drive *drive,
                                            const struct block_options *options,
                                            struct block_device *medium)
{
    return (struct ata_drive_config){
        .kind = options->cdrom ? ATA_CDROM : ATA_DISK,
        .medium = medium,
        .serial = options->serial,
        .index = drive->unit + 1,
        .sata = options->interface == BLOCK_AHCI,
    };
}

static int add_ahci_drive(struct pc *pc, struct pc_drive *drive,
                          const struct block_options *options, struct block_device *medium,
                          struct error *err)
{
    char below[32];

    if (!pc->ahci) {
        struct ahci_config config = {"ahci", pci_host_bus(pc->pci_host), AHCI_DEVFN};
        int result = ahci_new(&pc->ahci, &config, err);
        if (result)
            return result;
        pc_add_device(pc, ahci_device(pc->ahci));
    }
    if (pc->ahci_ports == AHCI_PORTS)
        return error_set(err, -ENOSPC, "%s: the AHCI controller has %d ports, all taken",
                         options->path, AHCI_PORTS);
    drive->unit = pc->ahci_ports++;
    struct ata_drive_config config = drive_config(drive, options, medium);
    if (ahci_add_drive(pc->ahci, drive->unit, &config))
        return pc_out_of_memory(err);
    snprintf(below, sizeof(below), "/drive@%x/disk@0", drive->unit);
    pc_add_pci_boot_device(pc, options->cdrom ? PC_BOOT_CD : PC_BOOT_DISK, ahci_device(pc->ahci),
                           "pci8086,2922", below);
    return 0;
}

static int add_ide_drive(struct pc *pc, struct pc_drive *drive, const struct block_options *options,
                         struct block_device *medium, struct error *err)
{
    char below[32];

    if (!pc->ide) {
        struct ide_config config = {
            .name = "ide",
            .bus = pci_host_bus(pc->pci_host),
            .devfn = IDE_DEVFN,
            .irq = {pc_isa_line(pc, ISA_IRQ_IDE), pc_isa_line(pc, ISA_IRQ_IDE + 1)},
        };
        int result = ide_new(&pc->ide, &config, err);
        if (result)
            return result;
        pc_add_device(pc, ide_device(pc->ide));
    }
    if (pc->ide_units == IDE_UNITS)
        return error_set(err, -ENOSPC, "%s: the IDE controller has %d places for drives, all taken",
                         options->path, IDE_UNITS);
    drive->unit = pc->ide_units++;
    struct ata_drive_config config = drive_config(drive, options, medium);
    ide_add_drive(pc->ide, drive->unit, &config);
    snprintf(below, sizeof(below), "/drive@%x/disk@%x", drive->unit / 2, drive->unit % 2);
    pc_add_pci_boot_device(pc, options->cdrom ? PC_BOOT_CD : PC_BOOT_DISK, ide_device(pc->ide),
                           "ide", below);
    return 0;
}

static int add_drive(struct pc *pc, struct pc_drive *drive, const struct block_options *options,
                     struct error *err)
{
    struct block_device *medium;
    int result = open_medium(&medium, options, err);
    if (result)
        return result;
    switch (options->interface) {
    case BLOCK_VIRTIO:
        result = add_virtio_disk(pc, drive, options, medium, err);
        break;
    case BLOCK_AHCI:
        result = add_ahci_drive(pc, drive, options, medium, err);
        break;
    case BLOCK_IDE:
        result = add_ide_drive(pc, drive, options, medium, err);
        break;
    }
    if (result && medium)
        block_close(medium);
    return result;
}

int pc_add_storage(struct pc *pc, struct error *err)
{
    unsigned disks = 0, cdroms = 0;

    for (unsigned i = 0; i < pc->config.disk_count; i++) {
        const struct block_options *options = &pc->config.disks[i];
        struct pc_drive *drive = &pc->drive[i];
        if (options->cdrom)
            snprintf(drive->name, sizeof(drive->name), "cd%u", cdroms++);
        else
            snprintf(drive->name, sizeof(drive->name), "disk%u", disks++);
        drive->interface = options->interface;
        drive->removable = options->cdrom;
        int result = add_drive(pc, drive, options, err);
        if (result)
            return result;
    }
    return 0;
}

static struct pc_drive *find_removable(struct pc *pc, const char *name, struct error *err)
{
    char known[128] = "";

    for (unsigned i = 0; i < pc->config.disk_count; i++) {
        struct pc_drive *drive = &pc->drive[i];
        if (drive->removable && !strcmp(drive->name, name))
            return drive;
        if (drive->removable) {
            strncat(known, known[0] ? ", " : "", sizeof(known) - strlen(known) - 1);
            strncat(known, drive->name, sizeof(known) - strlen(known) - 1);
        }
    }
    error_set(err, -ENOENT, "there is no drive '%s' with a removable medium%s%s", name,
              known[0] ? "; there are: " : "", known);
    return NULL;
}

int pc_change_medium(struct pc *pc, const char *name, const struct block_options *options,
                     bool force, struct error *err)
{
    struct pc_drive *drive = find_removable(pc, name, err);
    struct block_device *medium = NULL, *old = NULL;

    if (!drive)
        return -ENOENT;
    int result = options ? open_medium(&medium, options, err) : 0;
    if (result)
        return result;
    if (drive->interface == BLOCK_IDE)
        result = ide_change_medium(pc->ide, drive->unit, medium, force, &old);
    else
        result = ahci_change_medium(pc->ahci, drive->unit, medium, force, &old);
    if (result) {
        if (medium)
            block_close(medium);
        return error_set(err, result,
                         "the guest has locked %s; it has been asked to let the disc go", name);
    }
    if (old)
        block_close(old);
    return 0;
}
