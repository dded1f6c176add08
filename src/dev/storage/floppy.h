/*
 * A floppy disk controller, Intel 82078 (44 pins), with up to two drives, at ports 0x3f0-0x3f5 and
 * 0x3f7. Intel 82078 data sheet, order number 290475; commands and status registers in its sections
 * 5 and 6.
 *
 * A drive is of the kind that its disk needs, from 160 KB to 2.88 MB. Sectors move through a
 * channel of the 8237, or, after a SPECIFY with the ND bit, through the data port. Disk I/O is
 * asynchronous: the next sector is asked for when the one before is done, on the image's I/O
 * thread.
 */
#ifndef SILL_DEV_STORAGE_FLOPPY_H
#define SILL_DEV_STORAGE_FLOPPY_H

#include "block/block.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/device.h"
#include "dev/legacy/i8237.h"

#define FLOPPY_DRIVES 2
#define FLOPPY_BASE 0x3f0
#define FLOPPY_IRQ 6
#define FLOPPY_DMA 2

/* How CMOS register 0x10 calls the kinds of drives. */
enum floppy_kind {
    FLOPPY_NONE = 0,
    FLOPPY_360K = 1, /* 5.25 inches */
    FLOPPY_1200K = 2,
    FLOPPY_720K = 3, /* 3.5 inches */
    FLOPPY_1440K = 4,
    FLOPPY_2880K = 5,
};

struct floppy;

struct floppy_config {
    struct irq_line irq;
    struct i8237 *dma;
};

/* -ENOMEM. */
SILL_CHECKED int floppy_new(struct floppy **out, const struct floppy_config *config);
SILL_CHECKED int floppy_attach(struct floppy *fdc, struct bus *bus, struct error *err);
struct device *floppy_device(struct floppy *fdc);

/* Are there floppy disks of so many bytes? */
bool floppy_has_size(uint64_t size);

/*
 * Puts a disk into a drive that has none, which makes it one of the disk's kind; before the first
 * reset. The disk is the controller's then. -EINVAL with a sentence when it has no floppy's size.
 */
SILL_CHECKED int floppy_insert(struct floppy *fdc, unsigned drive, struct block_device *disk,
                               struct error *err);
enum floppy_kind floppy_kind(const struct floppy *fdc, unsigned drive);

#endif
