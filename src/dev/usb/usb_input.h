/*
 * The tablet and the keyboard for USB: what is typed and pointed at (dev/input/input.h) becomes HID
 * reports. They are used while the guest waits for reports, and else the PS/2 devices are.
 */
#ifndef SILL_DEV_USB_USB_INPUT_H
#define SILL_DEV_USB_USB_INPUT_H

#include "base/clock.h"
#include "dev/input/input.h"
#include "dev/usb/usb.h"

/* A pointer that is told where it is, with three buttons and a wheel. -ENOMEM. */
SILL_CHECKED int usb_tablet_new(struct usb_device **out, const char *name, struct input *input);
/* A keyboard that firmware understands too (the boot protocol). -ENOMEM. */
SILL_CHECKED int usb_keyboard_new(struct usb_device **out, const char *name, struct input *input,
                                  struct clock *clock);

#endif
