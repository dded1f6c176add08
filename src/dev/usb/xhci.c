/*
 * The xHCI controller as a PCI function and a device: configuration, life, state; see xhci.h and
 * xhci_internal.h. Section 5.2 (PCI configuration). Control thread, but for the hooks.
 */
#include "dev/usb/xhci_internal.h"

#include <errno.h>
#include <stdlib.h>

/* The controller that other virtual machines have; drivers know it by its class. */
#define VENDOR_RED_HAT 0x1b36
#define DEVICE_XHCI 0x000d
#define SUBSYSTEM_VENDOR 0x1af4
#define SUBSYSTEM 0x1100
#define XHCI_CLASS 0x0c0330

/* 5.2.3, 5.2.4 */
#define PCI_SBRN 0x60
#define SBRN_3_0 0x30
#define PCI_FLADJ 0x61
#define FLADJ_DEFAULT 0x20
#define FIRST_CAPABILITY 0x70 /* behind them */

enum xhci_bar { BAR_REGISTERS = 0, BAR_MSIX = 2 };

bool xhci_is_live(struct xhci *xhci)
{
    return xhci->usbcmd & USBCMD_RUN && !xhci->paused && pci_bus_master(&xhci->pci);
}

void xhci_go_on(struct xhci *xhci)
{
    if (!xhci_is_live(xhci))
        return;
    xhci_ports_report(xhci);
    xhci_commands_run(xhci);
    for (unsigned slot = 1; slot <= XHCI_SLOTS; slot++) {
        for (unsigned dci = 1; dci <= CONTEXT_ENDPOINTS; dci++)
            xhci_endpoint_run(xhci, slot, dci);
    }
}

void xhci_reset_controller(struct xhci *xhci)
{
    xhci->usbcmd = xhci->usbsts = xhci->dnctrl = xhci->config = 0;
    xhci->dcbaap = 0;
    xhci->command = (struct xhci_ring){0};
    xhci->command_running = false;
    for (unsigned i = 0; i < XHCI_INTERRUPTERS; i++)
        xhci->interrupter[i] = (struct xhci_interrupter){.imod = IMOD_DEFAULT};
    for (unsigned i = 1; i <= XHCI_SLOTS; i++)
        xhci->slot[i] = (struct xhci_slot){0};
    for (unsigned i = 0; i < XHCI_PORTS; i++)
        xhci_port_reset(&xhci->port[i]);
    timer_cancel(&xhci->moderation);
    pci_intx_set(&xhci->pci, false);
}

/* ---- ports, for devices ---- */

static void port_wake(struct usb_port *usb, unsigned endpoint)
{
    struct xhci_port *port = CONTAINER_OF(usb, struct xhci_port, usb);
    struct xhci *xhci = port->xhci;

    pthread_mutex_lock(&xhci->lock);
    for (unsigned slot = 1; slot <= XHCI_SLOTS; slot++) {
        if (xhci->slot[slot].port == port - xhci->port + 1)
            xhci_endpoint_run(xhci, slot, 2 * endpoint + 1);
    }
    pthread_mutex_unlock(&xhci->lock);
}

static bool port_listens(struct usb_port *usb, unsigned endpoint)
{
    struct xhci_port *port = CONTAINER_OF(usb, struct xhci_port, usb);
    struct xhci *xhci = port->xhci;
    bool listens = false;

    pthread_mutex_lock(&xhci->lock);
    for (unsigned slot = 1; slot <= XHCI_SLOTS && xhci->usbcmd & USBCMD_RUN; slot++)
        listens |= xhci->slot[slot].port == port - xhci->port + 1 &&
                   xhci->slot[slot].endpoint[2 * endpoint + 1].rung;
    pthread_mutex_unlock(&xhci->lock);
    return listens;
}

static const struct usb_port_ops port_ops = {
    .wake = port_wake,
    .listens = port_listens,
};

int xhci_plug(struct xhci *xhci, struct usb_device *usb, struct error *err)
{
    for (unsigned i = 0; i < XHCI_USB2_PORTS; i++) {
        struct xhci_port *port = &xhci->port[i];
        if (port->device)
            continue;
        usb->port = &port->usb;
        port->device = usb;
        xhci_port_reset(port);
        return 0;
    }
    return error_set(err, -ENOSPC, "%s: all %d ports of the USB controller are taken",
                     usb->dev.name, XHCI_USB2_PORTS);
}

/* ---- PCI ---- */

/* Bus mastering and the way of interrupting may have changed. */
static void config_written(struct pci_device *pci, unsigned offset, unsigned size)
{
    struct xhci *xhci = CONTAINER_OF(pci, struct xhci, pci);

    pthread_mutex_lock(&xhci->lock);
    xhci_interrupts_update(xhci);
    xhci_go_on(xhci);
    pthread_mutex_unlock(&xhci->lock);
}

static const struct pci_device_ops pci_ops = {
    .config_written = config_written,
};

/* ---- life ---- */

static struct xhci *of_device(struct device *device)
{
    return CONTAINER_OF(device, struct xhci, pci.dev);
}

static void xhci_resume(struct device *device)
{
    struct xhci *xhci = of_device(device);

    pthread_mutex_lock(&xhci->lock);
    xhci->paused = false;
    xhci_interrupts_update(xhci);
    xhci_go_on(xhci);
    pthread_mutex_unlock(&xhci->lock);
}

static int xhci_start(struct device *device, struct error *err)
{
    xhci_resume(device);
    return 0;
}

static void xhci_pause(struct device *device)
{
    struct xhci *xhci = of_device(device);

    pthread_mutex_lock(&xhci->lock);
    xhci->paused = true;
    pthread_mutex_unlock(&xhci->lock);
}

static void xhci_reset(struct device *device)
{
    struct xhci *xhci = of_device(device);

    pthread_mutex_lock(&xhci->lock);
    xhci_reset_controller(xhci);
    pthread_mutex_unlock(&xhci->lock);
    pci_device_reset(&xhci->pci);
}

static void xhci_destroy(struct device *device)
{
    struct xhci *xhci = of_device(device);

    timer_cancel_sync(&xhci->moderation);
    pci_device_done(&xhci->pci);
    pthread_mutex_destroy(&xhci->lock);
    free(xhci);
}

/* ---- state ---- */

static bool port_is_possible(const struct xhci_port *port)
{
    return !!(port->portsc & PORTSC_CONNECTED) == !!port->device &&
           (port->device || !(port->portsc & PORTSC_ENABLED));
}

static bool slot_is_possible(const struct xhci_slot *slot)
{
    bool possible = slot->state <= SLOT_CONFIGURED && slot->port <= XHCI_PORTS &&
                    slot->control.stage < CONTROL_STAGES && slot->control.length <= USB_CONTROL_MAX;

    for (unsigned dci = 0; dci <= CONTEXT_ENDPOINTS; dci++)
        possible &= slot->endpoint[dci].state <= (dci ? ENDPOINT_ERROR : ENDPOINT_DISABLED) &&
                    (!slot->endpoint[dci].rung || slot->endpoint[dci].state == ENDPOINT_RUNNING);
    return possible;
}

static int xhci_post_load(void *object, struct error *err)
{
    struct xhci *xhci = object;
    uint64_t latest = clock_now(xhci->clock) + (uint64_t)IMOD_INTERVAL * IMOD_UNIT_NS;
    bool possible = true;

    for (unsigned i = 0; i < XHCI_PORTS; i++)
        possible &= port_is_possible(&xhci->port[i]);
    for (unsigned i = 0; i <= XHCI_SLOTS; i++)
        possible &= slot_is_possible(&xhci->slot[i]);
    for (unsigned i = 0; i < XHCI_INTERRUPTERS; i++)
        possible &= xhci->interrupter[i].enqueue.left <= ERST_SEGMENT_MAX &&
                    xhci->interrupter[i].enqueue.segment < XHCI_ERST_MAX &&
                    xhci->interrupter[i].quiet_until <= latest;
    if (!possible)
        return error_set(err, -EBADMSG, "%s: the saved state of the USB controller is impossible",
                         xhci->pci.dev.name);
    return pci_device_post_load(&xhci->pci, err);
}

static const struct state_field ring_fields[] = {
    STATE_INT(struct xhci_ring, dequeue),
    STATE_BOOL(struct xhci_ring, cycle),
    STATE_END,
};

static const struct state_field cursor_fields[] = {
    STATE_INT(struct xhci_cursor, gpa),
    STATE_INT(struct xhci_cursor, segment),
    STATE_INT(struct xhci_cursor, left),
    STATE_BOOL(struct xhci_cursor, cycle),
    STATE_END,
};

static const struct state_field interrupter_fields[] = {
    STATE_INT(struct xhci_interrupter, iman),
    STATE_INT(struct xhci_interrupter, imod),
    STATE_INT(struct xhci_interrupter, erstsz),
    STATE_INT(struct xhci_interrupter, erstba),
    STATE_INT(struct xhci_interrupter, erdp),
    STATE_STRUCT(struct xhci_interrupter, enqueue, cursor_fields),
    STATE_BOOL(struct xhci_interrupter, pending),
    STATE_INT(struct xhci_interrupter, quiet_until),
    STATE_END,
};

static const struct state_field endpoint_fields[] = {
    STATE_INT(struct xhci_endpoint, state),
    STATE_INT(struct xhci_endpoint, type),
    STATE_BOOL(struct xhci_endpoint, rung),
    STATE_STRUCT(struct xhci_endpoint, ring, ring_fields),
    STATE_END,
};

static const struct state_field control_fields[] = {
    STATE_INT(struct xhci_control, stage),        STATE_BOOL(struct xhci_control, stalled),
    STATE_INT(struct xhci_control, setup.type),   STATE_INT(struct xhci_control, setup.request),
    STATE_INT(struct xhci_control, setup.value),  STATE_INT(struct xhci_control, setup.index),
    STATE_INT(struct xhci_control, setup.length), STATE_INT(struct xhci_control, length),
    STATE_BYTES(struct xhci_control, data),       STATE_END,
};

static const struct state_field slot_fields[] = {
    STATE_BOOL(struct xhci_slot, enabled),
    STATE_INT(struct xhci_slot, state),
    STATE_INT(struct xhci_slot, port),
    STATE_INT(struct xhci_slot, context),
    STATE_STRUCT_ARRAY(struct xhci_slot, endpoint, endpoint_fields),
    STATE_STRUCT(struct xhci_slot, control, control_fields),
    STATE_END,
};

static const struct state_field port_fields[] = {
    STATE_INT(struct xhci_port, portsc),
    STATE_INT(struct xhci_port, portpmsc),
    STATE_BOOL(struct xhci_port, told),
    STATE_END,
};

static const struct state_field xhci_fields[] = {
    STATE_STRUCT(struct xhci, pci, pci_device_fields),
    STATE_INT(struct xhci, usbcmd),
    STATE_INT(struct xhci, usbsts),
    STATE_INT(struct xhci, dnctrl),
    STATE_INT(struct xhci, config),
    STATE_INT(struct xhci, dcbaap),
    STATE_STRUCT(struct xhci, command, ring_fields),
    STATE_BOOL(struct xhci, command_running),
    STATE_STRUCT_ARRAY(struct xhci, interrupter, interrupter_fields),
    STATE_STRUCT_ARRAY(struct xhci, slot, slot_fields),
    STATE_STRUCT_ARRAY(struct xhci, port, port_fields),
    STATE_END,
};

static const struct state_desc xhci_state = {
    .name = "xhci",
    .version = 1,
    .fields = xhci_fields,
    .post_load = xhci_post_load,
};

static const struct device_ops xhci_ops = {
    .type = "xhci",
    .start = xhci_start,
    .pause = xhci_pause,
    .resume = xhci_resume,
    .reset = xhci_reset,
    .destroy = xhci_destroy,
    .state = &xhci_state,
};

int xhci_new(struct xhci **out, const struct xhci_config *config, struct error *err)
{
    static const struct pci_ident ident = {
        .vendor = VENDOR_RED_HAT,
        .device = DEVICE_XHCI,
        .subsystem_vendor = SUBSYSTEM_VENDOR,
        .subsystem = SUBSYSTEM,
        .revision = 1,
        .class_code = XHCI_CLASS,
        .interrupt_pin = 1,
    };
    struct xhci *xhci = calloc(1, sizeof(*xhci));

    if (!xhci)
        return error_set(err, -ENOMEM, "%s: no memory for the device", config->name);
    xhci->clock = config->clock;
    xhci->memory = config->bus->memory;
    xhci->paused = true;
    pthread_mutex_init(&xhci->lock, NULL);
    timer_init(&xhci->moderation, config->clock, xhci_moderation_timer, xhci);
    for (unsigned i = 0; i < XHCI_PORTS; i++) {
        xhci->port[i].xhci = xhci;
        xhci->port[i].usb.ops = &port_ops;
    }

    xhci->pci.dev = (struct device){&xhci_ops, config->name, xhci};
    pci_device_init(&xhci->pci, config->bus, &pci_ops, &ident);
    xhci->pci.config[PCI_SBRN] = SBRN_3_0;
    xhci->pci.config[PCI_FLADJ] = FLADJ_DEFAULT;
    xhci->pci.free_offset = FIRST_CAPABILITY;
    pci_add_bar(&xhci->pci, BAR_REGISTERS, PCI_BAR_MEM64, XHCI_BAR_SIZE, config->name,
                &xhci_region_ops, xhci);
    pci_add_msi(&xhci->pci, 1);
    pci_add_express(&xhci->pci);
    pci_add_msix(&xhci->pci, BAR_MSIX, XHCI_INTERRUPTERS);
    int ret = pci_device_attach(&xhci->pci, config->devfn, err);
    if (ret) {
        xhci_destroy(&xhci->pci.dev);
        return ret;
    }
    xhci_reset_controller(xhci);
    *out = xhci;
    return 0;
}

struct device *xhci_device(struct xhci *xhci)
{
    return &xhci->pci.dev;
}
