/*
 * The Q35 host bridge and the two ways to configuration space; see pci_host.h.
 *
 * Ports and ECAM window are accessed by any vCPU thread. The address port is one register shared by
 * all vCPUs: software serialises its use, as on hardware.
 */
#include "dev/pci/pci_host.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/log.h"
#include "dev/pci/pam.h"

#define CONFIG_ADDRESS_PORT 0xcf8
#define CONFIG_DATA_PORT 0xcfc

/* CONFIG_ADDRESS: PCI 3.0, 3.2.2.3.2 */
#define CONFIG_ADDRESS_ENABLE (1u << 31)
#define CONFIG_ADDRESS_REGISTER 0xfcu
#define CONFIG_ADDRESS_DEVFN_SHIFT 8
#define CONFIG_ADDRESS_BUS_SHIFT 16
#define CONFIG_ADDRESS_BITS 0x80fffffcu

/* Where the reset control register lies in the address port's four bytes. */
#define RESET_CONTROL_OFFSET 1

/* PCIEXBAR, MCH data sheet 5.1.16 */
#define PCIEXBAR 0x60
#define PCIEXBAR_ENABLE 1u
#define PCIEXBAR_LENGTH_SHIFT 1 /* 0: 256 MiB, 1: 128 MiB, 2: 64 MiB */
#define PCIEXBAR_LENGTH_MASK 3u
#define PCIEXBAR_BASE_LOW 0xfc000000u
#define PCIEXBAR_BASE_HIGH 0xfu

/* MCH data sheet 5.1.13 to 5.1.20 */
#define PAM0 0x90
#define PAM0_BITS 0x30
#define PAM_BITS 0x33 /* of the other six */
#define PAM5 0x95     /* 0xe0000 to 0xe7fff; the next up to 0xeffff */
#define SMRAM 0x9d
#define SMRAM_RESET 0x12 /* at 0xa0000; locked */

/* ECAM offset: PCI Express 3.0, 7.2.2 */
#define ECAM_BUS_SHIFT 20
#define ECAM_DEVFN_SHIFT 12

#define HOST_BRIDGE_CLASS 0x060000

struct pci_host {
    struct pci_device pci;
    struct pci_bus bus;
    const struct region *reset_control;
    struct region address_port;
    struct region data_port;
    _Atomic uint32_t config_address;
    pthread_mutex_t lock; /* where the ECAM window is; before pci_bus.lock */
    struct region ecam;
    struct pam pam; /* under `lock`; without a `changed` there is none */
};

/* The address port, 0xcf8 to 0xcfb. Only 32-bit accesses are to CONFIG_ADDRESS. */

static const struct region *reset_control(const struct pci_host *host, uint64_t offset,
                                          unsigned size)
{
    return offset == RESET_CONTROL_OFFSET && size == 1 ? host->reset_control : NULL;
}

static enum bus_result address_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct pci_host *host = opaque;
    const struct region *other = reset_control(host, offset, size);

    if (other)
        return other->ops->read ? other->ops->read(other->opaque, 0, size, value) : BUS_UNHANDLED;
    if (size != 4)
        return BUS_UNHANDLED;
    *value = atomic_load(&host->config_address);
    return BUS_OK;
}

static enum bus_result address_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_host *host = opaque;
    const struct region *other = reset_control(host, offset, size);

    if (other)
        return other->ops->write ? other->ops->write(other->opaque, 0, size, value) : BUS_UNHANDLED;
    if (size != 4)
        return BUS_UNHANDLED;
    atomic_store(&host->config_address, (uint32_t)value & CONFIG_ADDRESS_BITS);
    return BUS_OK;
}

static const struct region_ops address_ops = {
    .read = address_read,
    .write = address_write,
    .max_size = 4,
};

/* The data port, 0xcfc to 0xcff. */

/* What CONFIG_ADDRESS selects; NULL when it is disabled or names a bus that is not there. */
static struct pci_bus *selected(struct pci_host *host, unsigned *devfn, unsigned *reg)
{
    uint32_t address = atomic_load(&host->config_address);

    *devfn = address >> CONFIG_ADDRESS_DEVFN_SHIFT & 0xff;
    *reg = address & CONFIG_ADDRESS_REGISTER;
    if (!(address & CONFIG_ADDRESS_ENABLE))
        return NULL;
    return pci_bus_numbered(&host->bus, address >> CONFIG_ADDRESS_BUS_SHIFT & 0xff);
}

static enum bus_result data_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct pci_host *host = opaque;
    unsigned devfn, reg;
    struct pci_bus *bus = selected(host, &devfn, &reg);

    if (!bus)
        return BUS_UNHANDLED;
    *value = pci_config_read(bus, devfn, reg + (unsigned)offset, size);
    return BUS_OK;
}

static enum bus_result data_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_host *host = opaque;
    unsigned devfn, reg;
    struct pci_bus *bus = selected(host, &devfn, &reg);

    if (!bus)
        return BUS_UNHANDLED;
    pci_config_write(bus, devfn, reg + (unsigned)offset, size, (uint32_t)value);
    return BUS_OK;
}

static const struct region_ops data_ops = {
    .read = data_read,
    .write = data_write,
    .max_size = 4,
};

/* The memory-mapped window. */

static enum bus_result ecam_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct pci_host *host = opaque;
    struct pci_bus *bus = pci_bus_numbered(&host->bus, (unsigned)(offset >> ECAM_BUS_SHIFT));

    if (!bus)
        return BUS_UNHANDLED;
    *value = pci_config_read(bus, offset >> ECAM_DEVFN_SHIFT & 0xff,
                             offset & (PCI_EXPRESS_CONFIG_SIZE - 1), size);
    return BUS_OK;
}

static enum bus_result ecam_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_host *host = opaque;
    struct pci_bus *bus = pci_bus_numbered(&host->bus, (unsigned)(offset >> ECAM_BUS_SHIFT));

    if (!bus)
        return BUS_UNHANDLED;
    pci_config_write(bus, offset >> ECAM_DEVFN_SHIFT & 0xff, offset & (PCI_EXPRESS_CONFIG_SIZE - 1),
                     size, (uint32_t)value);
    return BUS_OK;
}

static const struct region_ops ecam_ops = {
    .read = ecam_read,
    .write = ecam_write,
    .max_size = 4,
};

/* Puts the window where PCIEXBAR says. */
static int ecam_place(struct pci_host *host, struct error *err)
{
    struct pci_bus *bus = &host->bus;
    int ret = 0;

    pthread_mutex_lock(&host->lock);
    uint32_t low = pci_config_read(bus, host->pci.devfn, PCIEXBAR, 4);
    uint32_t high = pci_config_read(bus, host->pci.devfn, PCIEXBAR + 4, 4);
    unsigned length = low >> PCIEXBAR_LENGTH_SHIFT & PCIEXBAR_LENGTH_MASK;
    uint64_t size = PCI_HOST_ECAM_SIZE >> length;
    gpa_t base = ((uint64_t)high << 32 | (low & PCIEXBAR_BASE_LOW)) & ~(size - 1);

    if (host->ecam.added)
        bus_remove(bus->bus, BUS_MMIO, &host->ecam);
    host->ecam.size = size;
    /* Length 3 is reserved. */
    if (low & PCIEXBAR_ENABLE && length < PCIEXBAR_LENGTH_MASK)
        ret = bus_add(bus->bus, BUS_MMIO, &host->ecam, base, err);
    pthread_mutex_unlock(&host->lock);
    return ret;
}

/* The same after the guest's choice: where the place is taken, the window is nowhere. */
static void ecam_update(struct pci_host *host)
{
    struct error why;

    if (ecam_place(host, &why))
        log_guest(host->pci.dev.name, "PCIEXBAR: %s", why.text);
}

static void pam_refresh(struct pci_host *host)
{
    uint8_t registers[PAM_REGISTERS];

    if (!host->pam.changed)
        return;
    pthread_mutex_lock(&host->lock);
    for (unsigned i = 0; i < PAM_REGISTERS; i++)
        registers[i] = (uint8_t)pci_config_read(&host->bus, host->pci.devfn, PAM0 + i, 1);
    pam_update(&host->pam, registers);
    pthread_mutex_unlock(&host->lock);
}

static void host_config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
    struct pci_host *host = CONTAINER_OF(pci, struct pci_host, pci);

    if (offset < PCIEXBAR + 8 && offset + size > PCIEXBAR)
        ecam_update(host);
    if (offset < PAM0 + PAM_REGISTERS && offset + size > PAM0)
        pam_refresh(host);
}

static const struct pci_device_ops host_pci_ops = {
    .config_written = host_config_written,
};

/* Lifecycle. */

static void host_reset(struct device *dev)
{
    struct pci_host *host = CONTAINER_OF(dev, struct pci_host, pci.dev);

    atomic_store(&host->config_address, 0);
    pci_device_reset(&host->pci);
    ecam_update(host);
    pam_refresh(host);
}

static void host_destroy(struct device *dev)
{
    struct pci_host *host = CONTAINER_OF(dev, struct pci_host, pci.dev);
    struct bus *bus = host->bus.bus;

    pam_done(&host->pam);
    if (host->ecam.added)
        bus_remove(bus, BUS_MMIO, &host->ecam);
    if (host->data_port.added)
        bus_remove(bus, BUS_PORT, &host->data_port);
    if (host->address_port.added)
        bus_remove(bus, BUS_PORT, &host->address_port);
    pci_device_done(&host->pci);
    pci_bus_done(&host->bus);
    pthread_mutex_destroy(&host->lock);
    free(host);
}

static int host_post_load(void *object, struct error *err)
{
    struct pci_host *host = object;
    int ret = pci_device_post_load(&host->pci, err);

    if (ret)
        return ret;
    atomic_fetch_and(&host->config_address, CONFIG_ADDRESS_BITS);
    ecam_update(host);
    pam_refresh(host);
    return 0;
}

static const struct state_field host_fields[] = {
    STATE_STRUCT(struct pci_host, pci, pci_device_fields),
    STATE_INT(struct pci_host, config_address),
    STATE_END,
};

static const struct state_desc host_state = {
    .name = "pci-host",
    .version = 1,
    .fields = host_fields,
    .post_load = host_post_load,
};

static const struct device_ops host_ops = {
    .type = "pci-host",
    .reset = host_reset,
    .destroy = host_destroy,
    .state = &host_state,
};

int pci_host_new(struct pci_host **out, const struct pci_host_config *config, struct error *err)
{
    static const struct pci_ident ident = {
        .vendor = 0x8086,
        .device = 0x29c0,
        .revision = 0x02,
        .class_code = HOST_BRIDGE_CLASS,
    };
    struct pci_host *host = calloc(1, sizeof(*host));

    if (!host)
        return error_set(err, -ENOMEM, "no memory for the PCI host bridge");
    host->pci.dev = (struct device){.ops = &host_ops, .name = "pci-host", .state_object = host};
    host->reset_control = config->reset_control;
    host->address_port =
        (struct region){.name = "pci-address", .ops = &address_ops, .opaque = host, .size = 4};
    host->data_port =
        (struct region){.name = "pci-data", .ops = &data_ops, .opaque = host, .size = 4};
    host->ecam = (struct region){.name = "pci-ecam", .ops = &ecam_ops, .opaque = host};
    pthread_mutex_init(&host->lock, NULL);
    pci_bus_init(&host->bus, config->bus, config->memory, &config->msi);
    pci_device_init(&host->pci, &host->bus, &host_pci_ops, &ident);

    pci_set32(host->pci.write_mask, PCIEXBAR,
              PCIEXBAR_BASE_LOW | PCIEXBAR_LENGTH_MASK << PCIEXBAR_LENGTH_SHIFT | PCIEXBAR_ENABLE);
    pci_set32(host->pci.write_mask, PCIEXBAR + 4, PCIEXBAR_BASE_HIGH);
    if (config->ecam_base) {
        pci_set32(host->pci.config, PCIEXBAR, (uint32_t)config->ecam_base | PCIEXBAR_ENABLE);
        pci_set32(host->pci.config, PCIEXBAR + 4, (uint32_t)(config->ecam_base >> 32));
    }

    host->pci.config[SMRAM] = SMRAM_RESET;
    for (unsigned i = 0; i < PAM_REGISTERS && config->memory_changed; i++)
        host->pci.write_mask[PAM0 + i] = i ? PAM_BITS : PAM0_BITS;
    if (config->memory_changed && config->shadowed) {
        host->pci.config[PAM0] = PAM0_BITS;
        pci_set16(host->pci.config, PAM5, PAM_BITS | PAM_BITS << 8);
    }

    int ret = pci_device_attach(&host->pci, PCI_DEVFN(0, 0), err);
    if (!ret)
        ret = bus_add(config->bus, BUS_PORT, &host->address_port, CONFIG_ADDRESS_PORT, err);
    if (!ret)
        ret = bus_add(config->bus, BUS_PORT, &host->data_port, CONFIG_DATA_PORT, err);
    if (!ret)
        ret = ecam_place(host, err);
    if (!ret && config->memory_changed) {
        host->pam = (struct pam){
            .bus = config->bus,
            .memory = config->memory,
            .changed = config->memory_changed,
            .opaque = config->opaque,
        };
        ret = pam_init(&host->pam, err);
    }
    if (ret) {
        host_destroy(&host->pci.dev);
        return ret;
    }
    *out = host;
    return 0;
}

struct pci_bus *pci_host_bus(struct pci_host *host)
{
    return &host->bus;
}

int pci_host_set_rom(struct pci_host *host, const void *rom, uint64_t size, struct error *err)
{
    return pam_set_rom(&host->pam, rom, size, err);
}

struct device *pci_host_device(struct pci_host *host)
{
    return &host->pci.dev;
}
