/*
 * The PCI bus and what every PCI function has in common: configuration space, BARs, INTx, MSI,
 * MSI-X. PCI Local Bus specification 3.0; PCI Express base specification 3.0.
 *
 * Devices are on the root bus (bus 0, the root complex), or alone on the bus behind a root port
 * (root_port.h). Functions come and go only while nothing runs, so look-ups need no lock.
 *
 * A device embeds `struct pci_device` as its first member and builds itself like this (control
 * thread, VM not running):
 *
 *     pci_device_init(&d->pci, bus, &my_pci_ops, &ident);
 *     pci_add_bar(&d->pci, 0, PCI_BAR_MEM64, 0x4000, "net0", &my_region_ops, d);
 *     pci_add_msix(&d->pci, 2, 3);
 *     err = pci_device_attach(&d->pci, PCI_DEVFN_AUTO, error);
 *
 * Locks, outermost first: the device model's own, the root's pci_bus.lock (configuration writes and
 * BAR mappings), pci_device.lock (interrupt state), the interrupt router's, the bus's (bus/bus.h).
 * Interrupts may be raised from any thread with the device model's lock held; the hooks in
 * pci_device_ops are called with no PCI lock held.
 */
#ifndef SILL_DEV_PCI_PCI_H
#define SILL_DEV_PCI_PCI_H

#include <pthread.h>

#include "base/error.h"
#include "base/types.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/device.h"
#include "dev/pci/pci_regs.h"
#include "mem/memory.h"

#define PCI_FUNCTIONS 256
#define PCI_SLOT_FUNCTIONS 8
#define PCI_DEVFN(slot, function) (((slot) << 3) | (function))
#define PCI_SLOT(devfn) ((devfn) >> 3)
#define PCI_DEVFN_AUTO (-1) /* the first free slot from 1 on */
#define PCI_MSIX_MAX_VECTORS 64

struct pci_device;

/* Where the functions' INTx wires go: LPC bridge, lpc.h. */
struct pci_intx_router {
    void *opaque;
    /* `pin` 0 is INTA. Each call is a change of that function's level. Any thread. */
    void (*set)(void *opaque, unsigned devfn, unsigned pin, bool level);
    /* The ISA interrupt behind that wire, for the interrupt line register; 0xff: none. */
    uint8_t (*line)(void *opaque, unsigned devfn, unsigned pin);
};

/*
 * BARs with RAM behind them become memory slots, and slots move only while nothing runs. Until then
 * the BAR's region serves the guest.
 */
struct pci_remap {
    void *opaque;
    /* One moved: have the control thread stop everything and call pci_bus_remap(). Any thread, PCI
     * locks held. NULL: RAM is never mapped. */
    void (*ask)(void *opaque);
    /* As engine_ops.memory_changed(). */
    int (*changed)(void *opaque, gpa_t gpa, uint64_t size, struct error *err);
};

struct pci_bus {
    struct bus *bus;       /* where BARs appear */
    struct memory *memory; /* what bus masters reach */
    struct msi_sink msi;
    struct pci_intx_router intx;
    struct pci_remap remap;
    struct pci_device *function[PCI_FUNCTIONS]; /* by device and function number */
    struct pci_bus *root;                       /* itself for the root bus */
    struct pci_device *bridge;                  /* it lies behind; NULL: the root bus */
    _Atomic bool down;    /* nobody on it answers, for the link to it is down */
    pthread_mutex_t lock; /* the root's: configuration writes and BAR mappings of all buses */
};

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci_bar {
    enum pci_bar_kind kind;
    uint64_t size;            /* a power of two */
    struct region region;     /* added to the bus while the guest decodes it */
    struct memory_block *ram; /* what the region shows, to be mapped instead; NULL: no RAM */
};

/* The expansion ROM base address register (6.2.5.2) and what lies behind it. */
struct pci_rom {
    uint8_t *data; /* NULL: none. `size` bytes, a power of two */
    uint64_t size;
    struct region region;
};

struct pci_msix_entry {
    uint64_t address;
    uint32_t data;
    uint32_t control;
};

/* Hooks of a device; each may be NULL. vCPU thread, no PCI lock held. */
struct pci_device_ops {
    /* After the guest wrote [offset, offset + size): the registers have their new value. */
    void (*config_written)(struct pci_device *pci, unsigned offset, unsigned size);
    /* Before the guest reads: registers whose value is fetched on demand. */
    void (*config_reading)(struct pci_device *pci, unsigned offset, unsigned size);
};

struct pci_ident {
    uint16_t vendor, device;
    uint16_t subsystem_vendor, subsystem;
    uint8_t revision;
    uint32_t class_code;   /* 0x010000: base class, subclass, programming interface */
    uint8_t interrupt_pin; /* 1 is INTA, 0 none */
};

struct pci_device {
    struct device dev; /* its ops and name are the model's to fill */
    struct pci_bus *bus;
    const struct pci_device_ops *ops;
    uint8_t devfn;
    struct pci_bus *secondary; /* behind a bridge (pci_bridge.c); NULL: this is none */

    /* Written with `lock` held; what the guest may write also with bus->lock. */
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t write_mask[PCI_CONFIG_SIZE]; /* bits the guest may change */
    uint8_t clear_mask[PCI_CONFIG_SIZE]; /* bits that the guest clears by writing 1 */
    uint8_t initial[PCI_CONFIG_SIZE];    /* after reset; taken by pci_device_attach() */
    struct pci_bar bar[PCI_BAR_COUNT];
    struct pci_rom rom;
    uint8_t last_capability; /* offset of the latest, to link the next; 0: none */
    uint8_t free_offset;     /* where the next capability goes */
    uint8_t msi_offset;      /* capability offsets, 0 when absent */
    uint8_t msix_offset;

    pthread_mutex_t lock; /* the fields below; innermost but for the interrupt controllers */
    bool intx_level;      /* what the device asks for */
    bool intx_wire;       /* what the router was told: not while disabled or MSI is on */
    uint32_t msi_pending;
    uint16_t msix_vectors;
    uint64_t msix_pending; /* bit per vector */
    struct pci_msix_entry msix[PCI_MSIX_MAX_VECTORS];
};

/* The state of the common part: STATE_STRUCT(struct my, pci, pci_device_fields). The model's
 * post_load must call pci_device_post_load(), which maps the BARs. */
extern const struct state_field pci_device_fields[];
/* -EBADMSG, before anything is touched, when the state is another kind of device's. */
SILL_CHECKED int pci_device_post_load(struct pci_device *pci, struct error *err);

/* ---- building a function: control thread, in this order ---- */

void pci_device_init(struct pci_device *pci, struct pci_bus *bus, const struct pci_device_ops *ops,
                     const struct pci_ident *ident);
/* A MEM64 BAR takes `index` and index + 1. The region's ops see offsets into the BAR. */
void pci_add_bar(struct pci_device *pci, unsigned index, enum pci_bar_kind kind, uint64_t size,
                 const char *name, const struct region_ops *ops, void *opaque);
/* An option ROM for firmware to run; `image` is copied. -EINVAL: no ROM image, or one of more than
 * 16 MiB; -ENOMEM. After this, pci_device_done() is due also when building fails. (pci_rom.c) */
SILL_CHECKED int pci_add_rom(struct pci_device *pci, const void *image, size_t size,
                             struct error *err);
/* The same from a file, which `package` brings: the sentence says so if it is missing. */
SILL_CHECKED int pci_add_rom_file(struct pci_device *pci, const char *path, const char *package,
                                  struct error *err);
/* Memory BAR `index`, which is there, shows `ram`, all of it; it is prefetchable then. Only on the
 * root bus. */
void pci_bar_set_ram(struct pci_device *pci, unsigned index, struct memory_block *ram);
/* Reserves `length` bytes, read-only and zero but for the header; returns the offset. The caller
 * fills config[] and write_mask[]. */
unsigned pci_add_capability(struct pci_device *pci, uint8_t id, uint8_t length);
/* Says what it is: an endpoint behind a root port, or one integrated into the root complex. */
void pci_add_express(struct pci_device *pci);
void pci_add_msi(struct pci_device *pci, unsigned vectors); /* 1, 2, 4, ... 32 */
/* Table and pending bits in BAR `bar`, which this adds. */
void pci_add_msix(struct pci_device *pci, unsigned bar, unsigned vectors);
/* Puts it on the bus. -EEXIST when the slot is taken, -ENOSPC when all are. */
SILL_CHECKED int pci_device_attach(struct pci_device *pci, int devfn, struct error *err);
/* Unmaps the BARs and leaves the bus; also right for a device that never was attached. */
void pci_device_done(struct pci_device *pci);

/* Power-on state: BARs unmapped, interrupts silent. While paused. */
void pci_device_reset(struct pci_device *pci);

/* ---- while it runs: any thread ---- */

/* May it start transactions (memory accesses)? Messages wait until it may. */
bool pci_bus_master(struct pci_device *pci);
void pci_intx_set(struct pci_device *pci, bool level);
bool pci_msi_enabled(struct pci_device *pci);
void pci_msi_notify(struct pci_device *pci, unsigned vector);
bool pci_msix_enabled(struct pci_device *pci);
/* A vector that the device lacks is ignored. */
void pci_msix_notify(struct pci_device *pci, unsigned vector);

/* Little-endian registers in config[] and its masks. */
static inline uint16_t pci_get16(const uint8_t *bytes, unsigned offset)
{
    return (uint16_t)(bytes[offset] | bytes[offset + 1] << 8);
}

static inline uint32_t pci_get32(const uint8_t *bytes, unsigned offset)
{
    return pci_get16(bytes, offset) | (uint32_t)pci_get16(bytes, offset + 2) << 16;
}

static inline void pci_set16(uint8_t *bytes, unsigned offset, uint16_t value)
{
    bytes[offset] = (uint8_t)value;
    bytes[offset + 1] = (uint8_t)(value >> 8);
}

static inline void pci_set32(uint8_t *bytes, unsigned offset, uint32_t value)
{
    pci_set16(bytes, offset, (uint16_t)value);
    pci_set16(bytes, offset + 2, (uint16_t)(value >> 16));
}

/* ---- the bus ---- */

void pci_bus_init(struct pci_bus *pci_bus, struct bus *bus, struct memory *memory,
                  const struct msi_sink *msi);
void pci_bus_done(struct pci_bus *pci_bus);

/* The bus that the guest has given this number; NULL: none. Any thread. (pci_bridge.c) */
struct pci_bus *pci_bus_numbered(struct pci_bus *root, unsigned number);

/* Maps the RAM of BARs where the guest wants it. Control thread, vCPUs and devices stopped. */
SILL_CHECKED int pci_bus_remap(struct pci_bus *bus, struct error *err);

/* Configuration accesses: size 1, 2 or 4 at offset 0 to 4095. Nobody there: all ones. */
uint32_t pci_config_read(struct pci_bus *bus, unsigned devfn, unsigned offset, unsigned size);
void pci_config_write(struct pci_bus *bus, unsigned devfn, unsigned offset, unsigned size,
                      uint32_t value);

/* Address space that BARs may take. Sizes of 0 mean that there is none. */
struct pci_windows {
    gpa_t memory32_base;
    uint64_t memory32_size; /* ends at or below 4 GiB */
    gpa_t memory64_base;
    uint64_t memory64_size;
    uint16_t io_base;
    uint32_t io_size;
};

/*
 * Does what firmware does at start, for guests that are booted without: gives each BAR an address,
 * and each root port a bus number and windows with room for what may be plugged in later; switches
 * decoding on and fills the interrupt line registers. 64-bit BARs go below 4 GiB while there is
 * room. Control thread, vCPUs stopped, after each reset of the devices. -ENOSPC.
 */
SILL_CHECKED int pci_assign_resources(struct pci_bus *bus, const struct pci_windows *windows,
                                      struct error *err);

#endif
