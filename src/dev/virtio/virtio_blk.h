/* The virtio block device over a disk image (block/block.h). VIRTIO 1.2, section 5.2. */
#ifndef SILL_DEV_VIRTIO_VIRTIO_BLK_H
#define SILL_DEV_VIRTIO_VIRTIO_BLK_H

#include "block/block.h"
#include "dev/virtio/virtio_pci.h"

#define VIRTIO_BLK_MAX_QUEUES 8

struct virtio_blk_config {
    struct virtio_pci_config pci;
    unsigned queues;    /* usually the number of vCPUs; capped to VIRTIO_BLK_MAX_QUEUES, 0 is 1 */
    const char *serial; /* up to 20 characters, NULL for none; copied */
};

/* Takes over `disk` and closes it with the device; on failure it stays the caller's. */
SILL_CHECKED int virtio_blk_new(struct device **out, const struct virtio_blk_config *config,
                                struct block_device *disk, struct error *err);

#endif
