/*
 * What the tests of virtio devices share: a PCI bus with guest memory, and the driver's side of
 * virtio-pci (VIRTIO 1.2, 3.1 and 4.1) that reaches the device through the bus as a vCPU does.
 */
#ifndef SILL_TESTS_UNIT_VIRTIO_RIG_H
#define SILL_TESTS_UNIT_VIRTIO_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "dev/pci/pci_host.h"
#include "dev/virtio/virtio_pci.h"
#include "guest_ring.h"

#define RIG_RAM (4 * MIB)
#define RIG_DEVFN PCI_DEVFN(2, 0)
#define RIG_ECAM 0xb0000000ull
#define RIG_DATA 0x200000 /* guest memory that the rings do not use */
#define RIG_WAIT_MS 10000

/* Common configuration, 4.1.4.3 */
enum {
    R_DEVICE_FEATURE_SELECT = 0x00,
    R_DEVICE_FEATURE = 0x04,
    R_DRIVER_FEATURE_SELECT = 0x08,
    R_DRIVER_FEATURE = 0x0c,
    R_CONFIG_VECTOR = 0x10,
    R_NUM_QUEUES = 0x12,
    R_STATUS = 0x14,
    R_GENERATION = 0x15,
    R_QUEUE_SELECT = 0x16,
    R_QUEUE_SIZE = 0x18,
    R_QUEUE_VECTOR = 0x1a,
    R_QUEUE_ENABLE = 0x1c,
    R_QUEUE_NOTIFY_OFF = 0x1e,
    R_QUEUE_DESC = 0x20,
    R_QUEUE_DRIVER = 0x28,
    R_QUEUE_DEVICE = 0x30,
    R_QUEUE_RESET = 0x3a,
};

struct virtio_rig {
    struct bus bus;
    struct memory mem;
    struct pci_host *host;
    struct pci_bus *pci;
    struct device *dev;
    gpa_t registers;         /* BAR 0 */
    gpa_t msix;              /* BAR 2 */
    atomic_uint messages[8]; /* by data */
    atomic_bool intx;
    struct guest_ring ring[8];
};

static inline void rig_message(void *opaque, const struct msi_message *message)
{
    struct virtio_rig *rig = opaque;

    atomic_fetch_add(&rig->messages[message->data % 8], 1);
}

static inline void rig_intx(void *opaque, unsigned devfn, unsigned pin, bool level)
{
    ((struct virtio_rig *)opaque)->intx = level;
}

static inline void rig_init(struct virtio_rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    bus_init(&rig->bus);
    memory_init(&rig->mem, 0);
    assert_int_equal(memory_add(&rig->mem, 0, RIG_RAM, 0, "ram", NULL), 0);
    const struct pci_host_config config = {
        .bus = &rig->bus,
        .memory = &rig->mem,
        .msi = {.send = rig_message, .opaque = rig},
        .ecam_base = RIG_ECAM,
    };
    assert_int_equal(pci_host_new(&rig->host, &config, NULL), 0);
    rig->pci = pci_host_bus(rig->host);
    rig->pci->intx = (struct pci_intx_router){.opaque = rig, .set = rig_intx};
}

static inline void rig_remove_device(struct virtio_rig *rig)
{
    rig->dev->ops->destroy(rig->dev);
    rig->dev = NULL;
}

static inline void rig_done(struct virtio_rig *rig)
{
    if (rig->dev)
        rig_remove_device(rig);
    pci_host_device(rig->host)->ops->destroy(pci_host_device(rig->host));
    memory_done(&rig->mem);
    bus_done(&rig->bus);
}

static inline struct virtio_pci_config rig_config(struct virtio_rig *rig, const char *name)
{
    return (struct virtio_pci_config){.name = name, .bus = rig->pci, .devfn = RIG_DEVFN};
}

static inline uint32_t rig_cfg_read(struct virtio_rig *rig, unsigned offset, unsigned size)
{
    uint64_t value;

    bus_read(&rig->bus, BUS_MMIO, RIG_ECAM + (RIG_DEVFN << 12) + offset, size, &value);
    return (uint32_t)value;
}

static inline void rig_cfg_write(struct virtio_rig *rig, unsigned offset, unsigned size,
                                 uint32_t value)
{
    bus_write(&rig->bus, BUS_MMIO, RIG_ECAM + (RIG_DEVFN << 12) + offset, size, value);
}

/* Gives the device its addresses and makes it a bus master. */
static inline void rig_enable_pci(struct virtio_rig *rig)
{
    static const struct pci_windows windows = {.memory32_base = 0xe0000000,
                                               .memory32_size = 0x1000000};

    assert_int_equal(pci_assign_resources(rig->pci, &windows, NULL), 0);
    rig->registers = rig_cfg_read(rig, PCI_BAR0, 4) & ~0xfu;
    rig->msix = rig_cfg_read(rig, PCI_BAR0 + 8, 4) & ~0xfu;
    rig_cfg_write(rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* The device has just been created: start it and find its registers. */
static inline void rig_start(struct virtio_rig *rig, struct device *dev)
{
    rig->dev = dev;
    assert_int_equal(dev->ops->start(dev, NULL), 0);
    rig_enable_pci(rig);
}

static inline uint32_t reg_read(struct virtio_rig *rig, gpa_t offset, unsigned size)
{
    uint64_t value;

    bus_read(&rig->bus, BUS_MMIO, rig->registers + offset, size, &value);
    return (uint32_t)value;
}

static inline void reg_write(struct virtio_rig *rig, gpa_t offset, unsigned size, uint32_t value)
{
    bus_write(&rig->bus, BUS_MMIO, rig->registers + offset, size, value);
}

static inline void reg_write64(struct virtio_rig *rig, gpa_t offset, uint64_t value)
{
    reg_write(rig, offset, 4, (uint32_t)value);
    reg_write(rig, offset + 4, 4, (uint32_t)(value >> 32));
}

static inline uint64_t rig_features(struct virtio_rig *rig)
{
    reg_write(rig, R_DEVICE_FEATURE_SELECT, 4, 1);
    uint64_t high = reg_read(rig, R_DEVICE_FEATURE, 4);
    reg_write(rig, R_DEVICE_FEATURE_SELECT, 4, 0);
    return high << 32 | reg_read(rig, R_DEVICE_FEATURE, 4);
}

/* MSI-X on: vector n sends data n. */
static inline void rig_enable_msix(struct virtio_rig *rig)
{
    unsigned cap = rig_cfg_read(rig, PCI_CAPABILITY_POINTER, 1);

    while (rig_cfg_read(rig, cap, 1) != PCI_CAP_MSIX)
        cap = rig_cfg_read(rig, cap + 1, 1);
    unsigned vectors = (rig_cfg_read(rig, cap + PCI_MSIX_CONTROL, 2) & 0x7ff) + 1;
    for (unsigned i = 0; i < vectors; i++) {
        bus_write(&rig->bus, BUS_MMIO, rig->msix + 16 * i, 8, 0xfee00000);
        bus_write(&rig->bus, BUS_MMIO, rig->msix + 16 * i + 8, 8, i);
    }
    rig_cfg_write(rig, cap + PCI_MSIX_CONTROL, 2, PCI_MSIX_CONTROL_ENABLE);
}

/* Features up to FEATURES_OK. Configuration changes get vector 0. */
static inline void rig_negotiate(struct virtio_rig *rig, uint64_t features)
{
    reg_write(rig, R_STATUS, 1, 0);
    reg_write(rig, R_STATUS, 1, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    for (unsigned word = 0; word < 2; word++) {
        reg_write(rig, R_DRIVER_FEATURE_SELECT, 4, word);
        reg_write(rig, R_DRIVER_FEATURE, 4, (uint32_t)(features >> 32 * word));
    }
    reg_write(rig, R_STATUS, 1,
              VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK);
    reg_write(rig, R_CONFIG_VECTOR, 2, 0);
}

/* Lays out queue `index` with `size` entries and enables it with vector index + 1. */
static inline void rig_queue(struct virtio_rig *rig, unsigned index, uint16_t size)
{
    struct guest_ring *ring = &rig->ring[index];

    guest_ring_init(ring, &rig->mem, 0x10000 + 0x3000 * index, size);
    reg_write(rig, R_QUEUE_SELECT, 2, index);
    reg_write(rig, R_QUEUE_SIZE, 2, size);
    reg_write(rig, R_QUEUE_VECTOR, 2, index + 1);
    reg_write64(rig, R_QUEUE_DESC, ring->desc);
    reg_write64(rig, R_QUEUE_DRIVER, ring->avail);
    reg_write64(rig, R_QUEUE_DEVICE, ring->used);
    reg_write(rig, R_QUEUE_ENABLE, 2, 1);
}

static inline void rig_driver_ok(struct virtio_rig *rig)
{
    reg_write(rig, R_STATUS, 1, reg_read(rig, R_STATUS, 1) | VIRTIO_STATUS_DRIVER_OK);
}

static inline void rig_notify(struct virtio_rig *rig, unsigned index)
{
    reg_write(rig, VIRTIO_PCI_NOTIFY + VIRTIO_PCI_NOTIFY_STRIDE * index, 2, index);
}

/* Waits for the next used entry; fails the test when it does not come. */
static inline uint32_t rig_wait_used(struct virtio_rig *rig, unsigned index, uint32_t *len)
{
    uint32_t id;

    for (unsigned ms = 0; ms < RIG_WAIT_MS; ms++) {
        if (guest_take_used(&rig->ring[index], &id, len))
            return id;
        usleep(1000);
    }
    fail_msg("the device did not use the buffer");
    return 0;
}

/* Waits until `count` messages of that vector came. */
static inline void rig_wait_messages(struct virtio_rig *rig, unsigned vector, unsigned count)
{
    for (unsigned ms = 0; ms < RIG_WAIT_MS && rig->messages[vector] < count; ms++)
        usleep(1000);
    assert_int_equal(rig->messages[vector], count);
}

static inline void rig_wait_status(struct virtio_rig *rig, uint8_t bit)
{
    for (unsigned ms = 0; ms < RIG_WAIT_MS && !(reg_read(rig, R_STATUS, 1) & bit); ms++)
        usleep(1000);
    assert_true(reg_read(rig, R_STATUS, 1) & bit);
}

#endif
