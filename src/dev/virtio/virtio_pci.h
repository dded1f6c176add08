/*
 * virtio over PCI, modern (non-transitional) devices: 1af4:1040 + type. VIRTIO 1.2, section 4.1.
 *
 * BAR 0 (64-bit memory) holds, each in a page of its own, the common configuration, the ISR status,
 * the device-specific configuration and the notification registers; BAR 2 holds the MSI-X table. A
 * device with registers of its own has another layout.
 *
 *     struct my_device {
 *         struct virtio_pci virtio;   first member
 *         ...
 *     };
 */
#ifndef SILL_DEV_VIRTIO_VIRTIO_PCI_H
#define SILL_DEV_VIRTIO_VIRTIO_PCI_H

#include "dev/pci/pci.h"
#include "dev/virtio/virtio.h"

#define VIRTIO_PCI_VENDOR 0x1af4
#define VIRTIO_PCI_DEVICE_BASE 0x1040
#define VIRTIO_PCI_BAR_SIZE 0x4000
#define VIRTIO_PCI_COMMON 0x0000
#define VIRTIO_PCI_ISR 0x1000
#define VIRTIO_PCI_DEVICE 0x2000
#define VIRTIO_PCI_NOTIFY 0x3000
#define VIRTIO_PCI_NOTIFY_STRIDE 4 /* notify_off_multiplier */

/* Where the registers are, of a device that has others in the same BAR. */
struct virtio_pci_layout {
    unsigned registers_bar, msix_bar;
    uint32_t registers_offset;       /* of the common configuration: a multiple of a page */
    const struct region_ops *before; /* what lies before it; NULL: nothing does */
};

struct virtio_pci {
    struct pci_device pci;
    struct virtio_device vdev;
    const struct virtio_pci_layout *layout; /* NULL before building: as above */
    void *before;                           /* what layout->before is given */
    /* Registers of the common configuration, 4.1.4.3; vdev's control lock. */
    uint32_t feature_select;
    uint32_t driver_feature_select;
    uint16_t queue_select;
    _Atomic uint16_t config_vector; /* workers read it */

    uint8_t cfg_access; /* where the configuration access capability is */

    pthread_mutex_t isr_lock;
    uint8_t isr; /* 4.1.4.5; the INTx level follows it */
};

struct virtio_pci_config {
    const char *name; /* "disk0"; outlives the device */
    struct pci_bus *bus;
    int devfn; /* or PCI_DEVFN_AUTO */
};

/* After virtio_init(&v->vdev): makes it a PCI function. */
void virtio_pci_build(struct virtio_pci *v, const struct virtio_pci_config *config,
                      uint32_t class_code, const struct device_ops *ops);
/* The same, and puts it on the bus. */
SILL_CHECKED int virtio_pci_attach(struct virtio_pci *v, const struct virtio_pci_config *config,
                                   uint32_t class_code, const struct device_ops *ops,
                                   struct error *err);
/* Undoes virtio_pci_attach() and virtio_init(). */
void virtio_pci_done(struct virtio_pci *v);

/* struct device_ops members for devices with nothing of their own to do. */
int virtio_pci_start(struct device *dev, struct error *err);
void virtio_pci_pause(struct device *dev);
void virtio_pci_resume(struct device *dev);
void virtio_pci_reset(struct device *dev);
/* STATE_STRUCT(struct my_device, virtio, virtio_pci_fields), and for its post_load: */
extern const struct state_field virtio_pci_fields[];
SILL_CHECKED int virtio_pci_post_load(struct virtio_pci *v, struct error *err);

#endif
