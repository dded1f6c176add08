/*
 * The root hub ports of the xHCI controller: 4.19 and 5.4.8. See xhci_internal.h.
 *
 *     plugged in:  Polling --- reset ---> Enabled, U0 <--> U3, and back over Resume
 *
 * Ports always have power, and what is plugged in stays.
 */
#include "dev/usb/xhci_internal.h"

static unsigned port_number(const struct xhci_port *port)
{
    return (unsigned)(port - port->xhci->port) + 1;
}

static enum port_link link_state(const struct xhci_port *port)
{
    return (enum port_link)((port->portsc & PORTSC_LINK) >> PORTSC_LINK_SHIFT);
}

static void set_link(struct xhci_port *port, enum port_link link)
{
    port->portsc = (port->portsc & ~PORTSC_LINK) | (uint32_t)link << PORTSC_LINK_SHIFT;
}

void xhci_port_reset(struct xhci_port *port)
{
    port->portsc = PORTSC_POWER;
    port->portpmsc = 0;
    port->told = false;
    set_link(port, LINK_RX_DETECT);
    if (!port->device)
        return;
    port->portsc |= PORTSC_CONNECTED | PORTSC_CONNECT_CHANGE |
                    (uint32_t)port->device->speed << PORTSC_SPEED_SHIFT;
    set_link(port, LINK_POLLING);
    usb_device_reset(port->device);
}

uint32_t xhci_port_read(const struct xhci_port *port, unsigned offset)
{
    switch (offset) {
    case PORTSC:
        return port->portsc;
    case PORTPMSC:
        return port->portpmsc;
    }
    return 0;
}

/* 4.19.1.1: a reset signalled to the device, which takes no time. */
static void reset_device(struct xhci_port *port)
{
    if (!port->device)
        return;
    usb_device_reset(port->device);
    port->portsc |= PORTSC_ENABLED | PORTSC_RESET_CHANGE;
    set_link(port, LINK_U0);
}

/* 4.15: the guest suspends and resumes the link. */
static void write_link(struct xhci_port *port, enum port_link wanted)
{
    enum port_link is = link_state(port);

    if (!(port->portsc & PORTSC_ENABLED))
        return;
    if (wanted == LINK_U3 || (wanted == LINK_RESUME && is == LINK_U3)) {
        set_link(port, wanted);
    } else if (wanted == LINK_U0 && is != LINK_U0) {
        set_link(port, LINK_U0);
        port->portsc |= PORTSC_LINK_CHANGE;
    }
}

void xhci_port_write(struct xhci_port *port, unsigned offset, uint32_t value)
{
    if (offset == PORTPMSC)
        port->portpmsc = value;
    if (offset != PORTSC)
        return;
    port->portsc &= ~(value & PORTSC_CHANGES);
    port->portsc = (port->portsc & ~(PORTSC_INDICATOR | PORTSC_WAKE)) |
                   (value & (PORTSC_INDICATOR | PORTSC_WAKE));
    if (value & PORTSC_ENABLED) /* writing 1 disables */
        port->portsc &= ~PORTSC_ENABLED;
    if (value & PORTSC_RESET)
        reset_device(port);
    else if (value & PORTSC_LINK_WRITE)
        write_link(port, (enum port_link)((value & PORTSC_LINK) >> PORTSC_LINK_SHIFT));
    xhci_ports_report(port->xhci);
}

/* 4.19.2: one event from the first change to the time when all are cleared. */
void xhci_ports_report(struct xhci *xhci)
{
    for (unsigned i = 0; i < XHCI_PORTS; i++) {
        struct xhci_port *port = &xhci->port[i];
        if (!(port->portsc & PORTSC_CHANGES)) {
            port->told = false;
        } else if (!port->told && xhci_is_live(xhci) && xhci_event_room(xhci, 0)) {
            const struct xhci_trb event = {
                .parameter = (uint64_t)port_number(port) << 24,
                .status = (uint32_t)CODE_SUCCESS << TRB_CODE_SHIFT,
                .control = TRB_PORT_EVENT << TRB_TYPE_SHIFT,
            };
            port->told = true;
            xhci->usbsts |= USBSTS_PORT_CHANGE;
            xhci_post(xhci, 0, &event, false);
        }
    }
}

struct usb_device *xhci_port_device(struct xhci *xhci, unsigned number)
{
    if (number < 1 || number > XHCI_PORTS || !(xhci->port[number - 1].portsc & PORTSC_ENABLED) ||
        link_state(&xhci->port[number - 1]) != LINK_U0)
        return NULL;
    return xhci->port[number - 1].device;
}
