/*
 * The 8042 keyboard controller at ports 0x60 and 0x64 with a PS/2 keyboard and a PS/2 mouse. IBM
 * PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller", and the
 * mouse's IntelliMouse extension.
 */
#ifndef SILL_DEV_LEGACY_I8042_H
#define SILL_DEV_LEGACY_I8042_H

#include "base/clock.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/device.h"
#include "dev/input/input.h"
#include "dev/legacy/board_events.h"

struct i8042;

struct i8042_config {
    struct clock *clock;
    struct irq_line keyboard_irq;      /* ISA interrupt 1 */
    struct irq_line mouse_irq;         /* ISA interrupt 12 */
    const struct board_events *events; /* reset() */
    struct input *input;               /* what is typed; NULL: only i8042_key() and i8042_mouse() */
};

/* -ENOMEM. */
SILL_CHECKED int i8042_new(struct i8042 **out, const struct i8042_config *config);
SILL_CHECKED int i8042_attach(struct i8042 *kbc, struct bus *bus, struct error *err);
struct device *i8042_device(struct i8042 *kbc);

/* A key, as dev/input/input.h numbers them, goes down or up. Any thread. */
void i8042_key(struct i8042 *kbc, unsigned code, bool down);

/* The mouse moved by (dx right, dy down), the wheel by dz (towards the user), the buttons (enum
 * input_button) are now as given. Any thread. */
void i8042_mouse(struct i8042 *kbc, int dx, int dy, int dz, unsigned buttons);

#endif
