/* The virtio entropy device, fed by getrandom(2). VIRTIO 1.2, section 5.4. */
#ifndef SILL_DEV_VIRTIO_VIRTIO_RNG_H
#define SILL_DEV_VIRTIO_VIRTIO_RNG_H

#include "dev/virtio/virtio_pci.h"

SILL_CHECKED int virtio_rng_new(struct device **out, const struct virtio_pci_config *config,
                                struct error *err);

#endif
