/*
 * What the tests of the 82574L share: the device on a PCI bus with a fake backend and a clock that
 * moves when told, its registers reached through the bus as a vCPU does.
 */
#ifndef SILL_TESTS_UNIT_E1000E_RIG_H
#define SILL_TESTS_UNIT_E1000E_RIG_H

#include "virtio_rig.h"

#include "dev/net/e1000e.h"
#include "dev/net/e1000e_regs.h"
#include "net_rig.h"

#define E1000E_RIG_RINGS 0x10000 /* receive; transmit 64 KiB behind */

static const uint8_t e1000e_rig_mac[NET_MAC_LENGTH] = {2, 1, 2, 3, 4, 5};

struct e1000e_rig {
    struct virtio_rig pci; /* bus, memory, messages */
    struct clock *clock;
    struct fake_net fake;
    unsigned io;
};

static inline struct device *e1000e_rig_device(struct e1000e_rig *rig)
{
    struct e1000e_config config = {
        .name = "net0", .bus = rig->pci.pci, .devfn = RIG_DEVFN, .clock = rig->clock};
    struct device *dev;

    memcpy(config.mac, e1000e_rig_mac, NET_MAC_LENGTH);
    assert_int_equal(e1000e_new(&dev, &config, &rig->fake.backend, NULL), 0);
    return dev;
}

/* Without the device's worker unless it is started. */
static inline void e1000e_rig_init(struct e1000e_rig *rig)
{
    static const struct pci_windows windows = {.memory32_base = 0xe0000000,
                                               .memory32_size = 0x1000000,
                                               .io_base = 0xc000,
                                               .io_size = 0x1000};

    rig_init(&rig->pci);
    fake_init(&rig->fake);
    assert_int_equal(clock_new_manual(&rig->clock), 0);
    rig->pci.dev = e1000e_rig_device(rig);
    assert_int_equal(pci_assign_resources(rig->pci.pci, &windows, NULL), 0);
    rig->pci.registers = rig_cfg_read(&rig->pci, PCI_BAR0, 4) & ~0xfu;
    rig->io = rig_cfg_read(&rig->pci, PCI_BAR0 + 8, 4) & ~3u;
    rig->pci.msix = rig_cfg_read(&rig->pci, PCI_BAR0 + 12, 4) & ~0xfu;
    rig_cfg_write(&rig->pci, PCI_COMMAND, 2,
                  PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static inline void e1000e_rig_start(struct e1000e_rig *rig)
{
    assert_int_equal(rig->pci.dev->ops->start(rig->pci.dev, NULL), 0);
}

static inline void e1000e_rig_done(struct e1000e_rig *rig)
{
    rig_done(&rig->pci);
    clock_free(rig->clock);
}

static inline uint32_t e_read(struct e1000e_rig *rig, unsigned offset)
{
    return reg_read(&rig->pci, offset, 4);
}

static inline void e_write(struct e1000e_rig *rig, unsigned offset, uint32_t value)
{
    reg_write(&rig->pci, offset, 4, value);
}

/* Rings of `count` descriptors, all receive buffers of 2 KiB given to the device. */
static inline void e_rings(struct e1000e_rig *rig, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        guest_put(&rig->pci.mem, E1000E_RIG_RINGS + 16 * i, RIG_DATA + 0x800 * i, 8);
        guest_put(&rig->pci.mem, E1000E_RIG_RINGS + 16 * i + 8, 0, 8);
    }
    e_write(rig, RDBAL, E1000E_RIG_RINGS);
    e_write(rig, RDLEN, 16 * count);
    e_write(rig, RDT, count - 1);
    e_write(rig, TDBAL, E1000E_RIG_RINGS + 0x10000);
    e_write(rig, TDLEN, 16 * count);
    e_write(rig, RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC);
    e_write(rig, TCTL, TCTL_EN);
}

/* The two halves of transmit descriptor `index`. */
static inline void e_desc(struct e1000e_rig *rig, unsigned index, uint64_t low, uint64_t high)
{
    guest_put(&rig->pci.mem, E1000E_RIG_RINGS + 0x10000 + 16 * index, low, 8);
    guest_put(&rig->pci.mem, E1000E_RIG_RINGS + 0x10000 + 16 * index + 8, high, 8);
}

#endif
