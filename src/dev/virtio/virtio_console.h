/* The virtio console with one port over a character stream. VIRTIO 1.2, section 5.3. */
#ifndef SILL_DEV_VIRTIO_VIRTIO_CONSOLE_H
#define SILL_DEV_VIRTIO_VIRTIO_CONSOLE_H

#include "base/chardev.h"
#include "dev/virtio/virtio_pci.h"

/* `backend` may be NULL: output vanishes. It outlives the device. */
SILL_CHECKED int virtio_console_new(struct device **out, const struct virtio_pci_config *config,
                                    struct char_backend *backend, struct error *err);

#endif
