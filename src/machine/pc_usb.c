/*
 * USB on the board: one controller, which is there when a device is asked for, and the devices at
 * its ports. Control thread, while the board is built.
 */
#include "dev/usb/usb_input.h"
#include "dev/usb/xhci.h"
#include "machine/pc_internal.h"

static int find_controller(struct pc *pc, struct error *err)
{
    const struct xhci_config config = {
        .name = "usb",
        .bus = pci_host_bus(pc->pci_host),
        .devfn = PCI_DEVFN_AUTO,
        .clock = pc->clock,
    };

    if (pc->xhci)
        return 0;
    int result = xhci_new(&pc->xhci, &config, err);
    if (!result)
        pc_add_device(pc, xhci_device(pc->xhci));
    return result;
}

static int plug(struct pc *pc, struct usb_device *usb, struct error *err)
{
    pc_add_device(pc, &usb->dev);
    return xhci_plug(pc->xhci, usb, err);
}

int pc_add_usb_tablet(struct pc *pc, const struct pc_extra *extra, const char *name,
                      struct error *err)
{
    struct usb_device *usb;

    int result = find_controller(pc, err);
    if (result)
        return result;
    return usb_tablet_new(&usb, name, pc->input) ? pc_out_of_memory(err) : plug(pc, usb, err);
}

int pc_add_usb_keyboard(struct pc *pc, const struct pc_extra *extra, const char *name,
                        struct error *err)
{
    struct usb_device *usb;

    int result = find_controller(pc, err);
    if (result)
        return result;
    return usb_keyboard_new(&usb, name, pc->input, pc->clock) ? pc_out_of_memory(err)
                                                              : plug(pc, usb, err);
}
