/*
 * The AHCI controller as a PCI function: generic host control (AHCI 1.3.1, 3.1), interrupts,
 * lifecycle. See ahci_internal.h for how the parts meet.
 */
#include "dev/storage/ahci_internal.h"

#include <errno.h>
#include <stdlib.h>

#define ICH9_VENDOR 0x8086
#define ICH9_AHCI 0x2922
#define ICH9_REVISION 2
#define AHCI_CLASS 0x010601

/* ---- locking and submission ---- */

void ahci_enter(struct ahci *ahci)
{
    pthread_mutex_lock(&ahci->lock);
}

void ahci_leave(struct ahci *ahci)
{
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        ata_queue_submit(&ahci->port[i].queue, ahci->port[i].drive.medium);
    pthread_mutex_unlock(&ahci->lock);
}

/* ---- interrupts ---- */

void ahci_update_irq(struct ahci *ahci, bool event)
{
    bool level = ahci->ghc & GHC_INTERRUPT_ENABLE && ahci->is;

    pci_intx_set(&ahci->pci, level);
    /* One message stands for all ports: 10.6.2.2. Software that cleared IS while a port still asks
     * gets another. */
    if (level && event)
        pci_msi_notify(&ahci->pci, 0);
}

/* New causes of a port, or a change of what it masks. */
void ahci_port_interrupt(struct ahci_port *port, uint32_t causes)
{
    struct ahci *ahci = port->ahci;
    uint32_t before = ahci->is;
    uint32_t shown;

    port->is |= causes;
    shown = ahci_port_read(port, PORT_IS);
    if (shown & port->ie)
        ahci->is |= 1u << port->number;
    ahci_update_irq(ahci, causes & port->ie || ahci->is != before);
}

/* ---- registers ---- */

/* 10.4.3: where the lists of commands and frames are survives. */
static void reset_registers(struct ahci *ahci)
{
    ahci->ghc = GHC_AHCI_ENABLE;
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        ahci_port_reset(&ahci->port[i]);
    ahci->is = 0;
    ahci_update_irq(ahci, false);
}

/* No port starts anything while another is waited for. */
static void hold_and_drain(struct ahci *ahci)
{
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        ata_queue_hold(&ahci->port[i].queue);
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        ata_queue_drain(&ahci->port[i].queue);
}

static void release(struct ahci *ahci)
{
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        ata_queue_release(&ahci->port[i].queue);
}

static uint32_t read_register(struct ahci *ahci, unsigned offset)
{
    switch (offset) {
    case HBA_CAP:
        return (AHCI_PORTS - 1) | (AHCI_SLOTS - 1) << CAP_SLOTS_SHIFT | CAP_AHCI_ONLY |
               CAP_SPEED_GEN3 | CAP_COMMAND_LIST_OVERRIDE | CAP_NCQ | CAP_64_BIT;
    case HBA_GHC:
        return ahci->ghc;
    case HBA_IS:
        return ahci->is;
    case HBA_PI:
        return (1u << AHCI_PORTS) - 1;
    case HBA_VS:
        return VERSION_1_3_1;
    }
    return 0;
}

static void write_register(struct ahci *ahci, unsigned offset, uint32_t value)
{
    switch (offset) {
    case HBA_GHC:
        if (value & GHC_RESET) {
            hold_and_drain(ahci);
            release(ahci);
            reset_registers(ahci);
            return;
        }
        ahci->ghc = GHC_AHCI_ENABLE | (value & GHC_INTERRUPT_ENABLE);
        ahci_update_irq(ahci, true);
        break;
    case HBA_IS:
        ahci->is &= ~value;
        for (unsigned i = 0; i < AHCI_PORTS; i++)
            ahci_port_interrupt(&ahci->port[i], 0);
        break;
    }
}

/* The port of an offset, NULL: it is no port's. */
static struct ahci_port *port_at(struct ahci *ahci, uint64_t offset)
{
    if (offset < AHCI_PORT_BASE || offset >= AHCI_PORT_BASE + AHCI_PORTS * AHCI_PORT_SIZE)
        return NULL;
    return &ahci->port[(offset - AHCI_PORT_BASE) / AHCI_PORT_SIZE];
}

static enum bus_result bar_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct ahci *ahci = opaque;
    struct ahci_port *port = port_at(ahci, offset);

    if (offset % 4)
        return BUS_ERROR;
    ahci_enter(ahci);
    *value = port ? ahci_port_read(port, offset % AHCI_PORT_SIZE)
                  : read_register(ahci, (unsigned)offset);
    ahci_leave(ahci);
    return BUS_OK;
}

static enum bus_result bar_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct ahci *ahci = opaque;
    struct ahci_port *port = port_at(ahci, offset);

    if (offset % 4)
        return BUS_ERROR;
    ahci_enter(ahci);
    if (port)
        ahci_port_write(port, offset % AHCI_PORT_SIZE, (uint32_t)value);
    else
        write_register(ahci, (unsigned)offset, (uint32_t)value);
    ahci_leave(ahci);
    return BUS_OK;
}

static const struct region_ops bar_ops = {
    .read = bar_read,
    .write = bar_write,
    .min_size = 4,
    .max_size = 4,
};

static void start_commands(struct ahci *ahci)
{
    ahci_enter(ahci);
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        ahci_port_start_commands(&ahci->port[i]);
    ahci_leave(ahci);
}

/* Commands wait while the function may not access memory; those under way end first. */
static void config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
    struct ahci *ahci = CONTAINER_OF(pci, struct ahci, pci);

    if (offset > PCI_COMMAND + 1)
        return;
    if (!pci_bus_master(pci)) {
        ahci_enter(ahci);
        hold_and_drain(ahci);
        release(ahci);
        ahci_leave(ahci);
    }
    start_commands(ahci);
}

static const struct pci_device_ops pci_ops = {
    .config_written = config_written,
};

/* ---- life ---- */

/* Goes on with what the guest had issued and no drive had begun when it was paused or saved. */
static void ahci_resume(struct device *dev)
{
    struct ahci *ahci = CONTAINER_OF(dev, struct ahci, pci.dev);

    ahci_enter(ahci);
    if (ahci->paused)
        release(ahci);
    ahci->paused = false;
    ahci_leave(ahci);
    start_commands(ahci);
}

static int ahci_start(struct device *dev, struct error *err)
{
    ahci_resume(dev);
    return 0;
}

/* Commands that are under way end first. */
static void ahci_pause(struct device *dev)
{
    struct ahci *ahci = CONTAINER_OF(dev, struct ahci, pci.dev);

    ahci_enter(ahci);
    if (!ahci->paused)
        hold_and_drain(ahci);
    ahci->paused = true;
    ahci_leave(ahci);
}

static void ahci_reset(struct device *dev)
{
    struct ahci *ahci = CONTAINER_OF(dev, struct ahci, pci.dev);

    pci_device_reset(&ahci->pci);
    ahci_enter(ahci);
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        ahci->port[i].clb = ahci->port[i].fb = 0;
    reset_registers(ahci);
    ahci_leave(ahci);
}

static void ahci_destroy(struct device *dev)
{
    struct ahci *ahci = CONTAINER_OF(dev, struct ahci, pci.dev);

    pci_device_done(&ahci->pci);
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        ata_drive_done(&ahci->port[i].drive);
        ata_queue_done(&ahci->port[i].queue);
        free(ahci->port[i].slot);
    }
    pthread_mutex_destroy(&ahci->lock);
    free(ahci);
}

static int ahci_post_load(void *object, struct error *err)
{
    struct ahci *ahci = object;

    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        struct ahci_port *port = &ahci->port[i];
        port->clb &= ~(uint64_t)~CLB_MASK;
        port->fb &= ~(uint64_t)~FB_MASK;
        port->is &= IS_WRITE_1_CLEAR;
        port->ie &= IE_MASK;
        port->cmd &= CMD_WRITE_MASK;
        port->sctl &= SCTL_MASK;
        port->current_slot %= AHCI_SLOTS;
        int ret = port->present ? ata_drive_post_load(&port->drive, ahci->pci.dev.name, err) : 0;
        if (ret)
            return ret;
    }
    ahci->ghc = GHC_AHCI_ENABLE | (ahci->ghc & GHC_INTERRUPT_ENABLE);
    ahci->is &= (1u << AHCI_PORTS) - 1;
    return pci_device_post_load(&ahci->pci, err);
}

static const struct state_field ahci_fields[] = {
    STATE_STRUCT(struct ahci, pci, pci_device_fields),
    STATE_INT(struct ahci, ghc),
    STATE_INT(struct ahci, is),
    STATE_STRUCT_ARRAY(struct ahci, port, ahci_port_fields),
    STATE_END,
};

static const struct state_desc ahci_state = {
    .name = "ahci",
    .version = 1,
    .fields = ahci_fields,
    .post_load = ahci_post_load,
};

static const struct device_ops ahci_ops = {
    .type = "ahci",
    .start = ahci_start,
    .pause = ahci_pause,
    .resume = ahci_resume,
    .reset = ahci_reset,
    .destroy = ahci_destroy,
    .state = &ahci_state,
};

int ahci_new(struct ahci **out, const struct ahci_config *config, struct error *err)
{
    static const struct pci_ident ident = {
        .vendor = ICH9_VENDOR,
        .device = ICH9_AHCI,
        .subsystem_vendor = ICH9_VENDOR,
        .subsystem = ICH9_AHCI,
        .revision = ICH9_REVISION,
        .class_code = AHCI_CLASS,
        .interrupt_pin = 1,
    };
    struct ahci *ahci = calloc(1, sizeof(*ahci));

    if (!ahci)
        return error_set(err, -ENOMEM, "%s: no memory for the device", config->name);
    pthread_mutex_init(&ahci->lock, NULL);
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        ahci->port[i].ahci = ahci;
        ahci->port[i].number = i;
        ata_queue_init(&ahci->port[i].queue, &ahci->lock);
    }
    ahci->pci.dev = (struct device){.ops = &ahci_ops, .name = config->name, .state_object = ahci};
    pci_device_init(&ahci->pci, config->bus, &pci_ops, &ident);
    pci_add_bar(&ahci->pci, AHCI_BAR, PCI_BAR_MEM32, AHCI_BAR_SIZE, config->name, &bar_ops, ahci);
    pci_add_msi(&ahci->pci, 1);
    int ret = pci_device_attach(&ahci->pci, config->devfn, err);
    if (ret) {
        ahci_destroy(&ahci->pci.dev);
        return ret;
    }
    *out = ahci;
    return 0;
}

struct device *ahci_device(struct ahci *ahci)
{
    return &ahci->pci.dev;
}

int ahci_add_drive(struct ahci *ahci, unsigned number, const struct ata_drive_config *config)
{
    struct ahci_port *port = &ahci->port[number];

    port->slot = calloc(AHCI_SLOTS, sizeof(*port->slot));
    if (!port->slot)
        return -ENOMEM;
    for (unsigned i = 0; i < AHCI_SLOTS; i++)
        port->slot[i].port = port;
    ata_drive_init(&port->drive, config);
    port->present = true;
    return 0;
}

int ahci_change_medium(struct ahci *ahci, unsigned number, struct block_device *medium, bool force,
                       struct block_device **old)
{
    struct ahci_port *port = &ahci->port[number];

    ahci_enter(ahci);
    ata_queue_drain(&port->queue);
    int ret = ata_drive_change(&port->drive, medium, force, old);
    ahci_port_start_commands(port);
    ahci_leave(ahci);
    return ret;
}
