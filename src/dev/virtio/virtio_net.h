/* The virtio network device over a network backend (net/net.h). VIRTIO 1.2, section 5.1. */
#ifndef SILL_DEV_VIRTIO_VIRTIO_NET_H
#define SILL_DEV_VIRTIO_VIRTIO_NET_H

#include "dev/virtio/virtio_pci.h"
#include "net/net.h"

struct virtio_net_config {
    struct virtio_pci_config pci;
    uint8_t mac[NET_MAC_LENGTH];
    const char *rom;         /* file for firmware to boot from the network with; NULL: none */
    const char *rom_package; /* that brings it */
};

/* Takes over `backend` and closes it with the device; on failure it stays the caller's. */
SILL_CHECKED int virtio_net_new(struct device **out, const struct virtio_net_config *config,
                                struct net_backend *backend, struct error *err);

#endif
