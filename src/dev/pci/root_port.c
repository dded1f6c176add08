/*
 * The slot of a root port: presence, power, link, and the interrupts about them; see root_port.h.
 * Sections are the PCI Express base specification's, 3.0.
 *
 * The registers are in configuration space. `lock` serialises what follows a write to them (vCPU
 * threads) with what the board does (control thread); it comes before the PCI locks.
 */
#include "dev/pci/root_port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/pci/pci_internal.h"

#define VENDOR_RED_HAT 0x1b36
#define DEVICE_ROOT_PORT 0x000c
#define BRIDGE_CLASS 0x060400

/* The capability with resource reservations; the field for ports has 8 bytes. */
#define RESERVE_LENGTH 32
#define RESERVE_TYPE 1
#define RESERVE_IO 8

struct root_port {
    struct pci_device pci;
    struct pci_bus secondary;
    struct root_port_config config;
    unsigned express; /* offset of the PCI Express capability */

    pthread_mutex_t lock;
    bool present;     /* a device is plugged in; not saved: the board is built with it */
    bool link_up;     /* as the link status register says */
    bool link_lost;   /* since the board last looked */
    bool leaving;     /* the user wants the device back */
    bool interrupted; /* 6.7.3.4: something is to be told, and was */
};

/* ---- registers; `lock` held ---- */

static uint16_t express_register(struct root_port *port, unsigned offset)
{
    pthread_mutex_lock(&port->pci.lock);
    uint16_t value = pci_get16(port->pci.config, port->express + offset);
    pthread_mutex_unlock(&port->pci.lock);
    return value;
}

static void change_register(struct root_port *port, unsigned offset, uint16_t clear, uint16_t set)
{
    uint8_t *config = port->pci.config;
    unsigned at = port->express + offset;

    pthread_mutex_lock(&port->pci.lock);
    pci_set16(config, at, (uint16_t)((pci_get16(config, at) & ~clear) | set));
    pthread_mutex_unlock(&port->pci.lock);
}

/* 6.7.3.4: the interrupt stands for all events that may interrupt; a message goes out when the
 * first of them comes. */
static void update_interrupt(struct root_port *port)
{
    uint16_t control = express_register(port, PCI_EXPRESS_SLOT_CONTROL);
    uint16_t status = express_register(port, PCI_EXPRESS_SLOT_STATUS);
    bool event =
        status & control & PCI_EXPRESS_SLOT_EVENTS ||
        (status & PCI_EXPRESS_SLOT_STATUS_LINK_CHANGED && control & PCI_EXPRESS_SLOT_CONTROL_LINK);
    bool interrupt = event && control & PCI_EXPRESS_SLOT_CONTROL_INTERRUPT;

    if (interrupt && !port->interrupted)
        pci_msi_notify(&port->pci, 0);
    port->interrupted = interrupt;
    pci_intx_set(&port->pci, interrupt);
}

static void tell(struct root_port *port, uint16_t events)
{
    change_register(port, PCI_EXPRESS_SLOT_STATUS, 0, events);
    update_interrupt(port);
}

static void set_present(struct root_port *port, bool present)
{
    port->present = present;
    change_register(port, PCI_EXPRESS_SLOT_STATUS, PCI_EXPRESS_SLOT_STATUS_PRESENT,
                    present ? PCI_EXPRESS_SLOT_STATUS_PRESENT : 0);
}

/* The link is up when there is a device with power, and nobody disables or resets it (7.8.7,
 * 7.8.10, bridge control). */
static bool wants_link(struct root_port *port)
{
    pthread_mutex_lock(&port->pci.lock);
    uint16_t bridge = pci_get16(port->pci.config, PCI_BRIDGE_CONTROL);
    pthread_mutex_unlock(&port->pci.lock);
    return port->present && !(bridge & PCI_BRIDGE_CONTROL_RESET) &&
           !(express_register(port, PCI_EXPRESS_SLOT_CONTROL) &
             PCI_EXPRESS_SLOT_CONTROL_POWER_OFF) &&
           !(express_register(port, PCI_EXPRESS_LINK_CONTROL) & PCI_EXPRESS_LINK_CONTROL_DISABLE);
}

/* Makes the link what the registers say, without telling anybody. */
static void set_link(struct root_port *port)
{
    port->link_up = wants_link(port);
    port->secondary.down = !port->link_up;
    change_register(port, PCI_EXPRESS_LINK_STATUS, PCI_EXPRESS_LINK_STATUS_ACTIVE,
                    port->link_up ? PCI_EXPRESS_LINK_STATUS_ACTIVE : 0);
}

/* The same, with all that follows from a change. */
static void update_link(struct root_port *port)
{
    bool was_up = port->link_up;

    set_link(port);
    if (port->link_up == was_up)
        return;
    if (was_up) {
        port->link_lost = true;
        port->config.attention(port->config.opaque);
    }
    tell(port, PCI_EXPRESS_SLOT_STATUS_LINK_CHANGED);
}

static void config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
    struct root_port *port = CONTAINER_OF(pci, struct root_port, pci);
    unsigned control = port->express + PCI_EXPRESS_SLOT_CONTROL;

    pthread_mutex_lock(&port->lock);
    update_link(port);
    /* 7.8.10: each write is a command, done at once. */
    if (offset < control + 2 && offset + size > control)
        change_register(port, PCI_EXPRESS_SLOT_STATUS, 0, PCI_EXPRESS_SLOT_STATUS_COMMAND);
    update_interrupt(port);
    pthread_mutex_unlock(&port->lock);
}

static const struct pci_device_ops port_pci_ops = {
    .config_written = config_written,
};

/* ---- the board's side ---- */

/* Presence, power and indicators as a computer that starts finds them: what is in a slot is on. */
static void power_on_state(struct root_port *port)
{
    set_present(port, port->present);
    change_register(port, PCI_EXPRESS_SLOT_CONTROL,
                    PCI_EXPRESS_SLOT_CONTROL_POWER_LED | PCI_EXPRESS_SLOT_CONTROL_POWER_OFF,
                    port->present ? PCI_EXPRESS_SLOT_CONTROL_POWER_LED_ON
                                  : PCI_EXPRESS_SLOT_CONTROL_POWER_LED_OFF |
                                        PCI_EXPRESS_SLOT_CONTROL_POWER_OFF);
    set_link(port);
}

void root_port_plugged(struct root_port *port, bool started)
{
    pthread_mutex_lock(&port->lock);
    port->present = true;
    port->leaving = false;
    if (started) {
        set_present(port, true);
        update_link(port); /* up, if the guest had left the power on */
        tell(port, PCI_EXPRESS_SLOT_STATUS_PRESENCE_CHANGED | PCI_EXPRESS_SLOT_STATUS_BUTTON);
    } else {
        power_on_state(port);
    }
    pthread_mutex_unlock(&port->lock);
}

void root_port_unplugged(struct root_port *port)
{
    pthread_mutex_lock(&port->lock);
    set_present(port, false);
    update_link(port);
    port->leaving = false;
    port->link_lost = false; /* nobody is left to be reset */
    tell(port, PCI_EXPRESS_SLOT_STATUS_PRESENCE_CHANGED);
    pthread_mutex_unlock(&port->lock);
}

int root_port_ask_removal(struct root_port *port)
{
    int result = 0;

    pthread_mutex_lock(&port->lock);
    uint16_t led =
        express_register(port, PCI_EXPRESS_SLOT_CONTROL) & PCI_EXPRESS_SLOT_CONTROL_POWER_LED;
    if (port->leaving && led == PCI_EXPRESS_SLOT_CONTROL_POWER_LED_BLINKS) {
        result = -EBUSY;
    } else {
        port->leaving = true;
        tell(port, PCI_EXPRESS_SLOT_STATUS_BUTTON);
    }
    pthread_mutex_unlock(&port->lock);
    return result;
}

bool root_port_is_leaving(const struct root_port *port)
{
    return port->leaving;
}

bool root_port_is_off(struct root_port *port)
{
    return express_register(port, PCI_EXPRESS_SLOT_CONTROL) & PCI_EXPRESS_SLOT_CONTROL_POWER_OFF;
}

bool root_port_link_lost(struct root_port *port)
{
    pthread_mutex_lock(&port->lock);
    bool lost = port->link_lost;
    port->link_lost = false;
    pthread_mutex_unlock(&port->lock);
    return lost;
}

/* ---- life ---- */

static struct root_port *of_device(struct device *dev)
{
    return CONTAINER_OF(dev, struct root_port, pci.dev);
}

static void port_reset(struct device *dev)
{
    struct root_port *port = of_device(dev);

    pci_device_reset(&port->pci);
    pthread_mutex_lock(&port->lock);
    port->leaving = false;
    port->link_lost = false;
    port->interrupted = false;
    power_on_state(port);
    pthread_mutex_unlock(&port->lock);
}

static void port_destroy(struct device *dev)
{
    struct root_port *port = of_device(dev);

    pci_device_done(&port->pci);
    pthread_mutex_destroy(&port->lock);
    free(port);
}

/* The bits that nobody may write are worked out anew. */
static int port_post_load(void *object, struct error *err)
{
    struct root_port *port = object;
    int result = pci_device_post_load(&port->pci, err);

    if (result)
        return result;
    pthread_mutex_lock(&port->lock);
    set_present(port, port->present);
    set_link(port);
    port->link_lost &= port->present;
    if (port->link_lost)
        port->config.attention(port->config.opaque);
    pthread_mutex_unlock(&port->lock);
    return 0;
}

static const struct state_field port_fields[] = {
    STATE_STRUCT(struct root_port, pci, pci_device_fields),
    STATE_BOOL(struct root_port, link_lost),
    STATE_BOOL(struct root_port, leaving),
    STATE_BOOL(struct root_port, interrupted),
    STATE_END,
};

static const struct state_desc port_state = {
    .name = "root-port",
    .version = 1,
    .fields = port_fields,
    .post_load = port_post_load,
};

static const struct device_ops port_ops = {
    .type = "root-port",
    .reset = port_reset,
    .destroy = port_destroy,
    .state = &port_state,
};

/* Registers after reset of an empty slot, and what the guest may change. */
static void init_express(struct root_port *port)
{
    struct pci_device *pci = &port->pci;

    port->express = pci_add_express_type(pci, PCI_EXPRESS_TYPE_ROOT_PORT);
    uint8_t *cap = &pci->config[port->express], *mask = &pci->write_mask[port->express];
    cap[PCI_EXPRESS_FLAGS + 1] |= PCI_EXPRESS_FLAGS_SLOT >> 8;
    pci_set32(cap, PCI_EXPRESS_LINK_CAP,
              pci_get32(cap, PCI_EXPRESS_LINK_CAP) | PCI_EXPRESS_LINK_CAP_ACTIVE_REPORTING |
                  port->config.slot << PCI_EXPRESS_LINK_CAP_PORT_SHIFT);
    pci_set32(cap, PCI_EXPRESS_SLOT_CAP,
              PCI_EXPRESS_SLOT_CAP_BUTTON | PCI_EXPRESS_SLOT_CAP_POWER |
                  PCI_EXPRESS_SLOT_CAP_ATTENTION_LED | PCI_EXPRESS_SLOT_CAP_POWER_LED |
                  PCI_EXPRESS_SLOT_CAP_SURPRISE | PCI_EXPRESS_SLOT_CAP_HOT_PLUG |
                  port->config.slot << PCI_EXPRESS_SLOT_CAP_NUMBER_SHIFT);
    pci_set16(cap, PCI_EXPRESS_SLOT_CONTROL, PCI_EXPRESS_SLOT_CONTROL_ATTENTION_OFF);
    pci_set16(mask, PCI_EXPRESS_SLOT_CONTROL, PCI_EXPRESS_SLOT_CONTROL_BITS);
    pci_set16(&pci->clear_mask[port->express], PCI_EXPRESS_SLOT_STATUS,
              PCI_EXPRESS_SLOT_EVENTS | PCI_EXPRESS_SLOT_STATUS_LINK_CHANGED);
    pci_set16(mask, PCI_EXPRESS_ROOT_CONTROL, PCI_EXPRESS_ROOT_CONTROL_BITS);
}

/*
 * What firmware shall keep free for the slot (QEMU, docs/pcie_pci_bridge.txt): no ports, which
 * would not do for many slots, and of the rest what it thinks right.
 */
static void init_reservation(struct pci_device *pci)
{
    uint8_t *cap = &pci->config[pci_add_capability(pci, PCI_CAP_VENDOR, RESERVE_LENGTH)];

    cap[2] = RESERVE_LENGTH;
    cap[3] = RESERVE_TYPE;
    memset(cap + 4, 0xff, RESERVE_LENGTH - 4);
    memset(cap + RESERVE_IO, 0, 8);
}

int root_port_new(struct root_port **out, const struct root_port_config *config, struct error *err)
{
    static const struct pci_ident ident = {
        .vendor = VENDOR_RED_HAT,
        .device = DEVICE_ROOT_PORT,
        .class_code = BRIDGE_CLASS,
        .interrupt_pin = 1,
    };
    struct root_port *port = calloc(1, sizeof(*port));

    if (!port)
        return error_set(err, -ENOMEM, "%s: no memory for the device", config->name);
    port->config = *config;
    pthread_mutex_init(&port->lock, NULL);
    port->pci.dev = (struct device){.ops = &port_ops, .name = config->name, .state_object = port};
    pci_device_init(&port->pci, config->bus, &port_pci_ops, &ident);
    pci_bridge_init(&port->pci, &port->secondary);
    init_express(port);
    pci_add_msi(&port->pci, 1);
    init_reservation(&port->pci);
    int result = pci_device_attach(&port->pci, PCI_DEVFN_AUTO, err);
    if (result) {
        port_destroy(&port->pci.dev);
        return result;
    }
    pthread_mutex_lock(&port->lock);
    power_on_state(port);
    pthread_mutex_unlock(&port->lock);
    *out = port;
    return 0;
}

struct device *root_port_device(struct root_port *port)
{
    return &port->pci.dev;
}

struct pci_bus *root_port_bus(struct root_port *port)
{
    return &port->secondary;
}
