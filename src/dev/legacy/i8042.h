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
#include "dev/legacy/board_events.h"

struct i8042;

struct i8042_config {
    struct clock *clock;
    struct irq_line keyboard_irq;      /* ISA interrupt 1 */
    struct irq_line mouse_irq;         /* ISA interrupt 12 */
    const struct board_events *events; /* reset() */
};

/* -ENOMEM. */
SILL_CHECKED int i8042_new(struct i8042 **out, const struct i8042_config *config);
SILL_CHECKED int i8042_attach(struct i8042 *kbc, struct bus *bus, struct error *err);
struct device *i8042_device(struct i8042 *kbc);

/*
 * A key goes down or up. `code` is its scan code of set 1 without the release bit, 0x01 to 0x7f;
 * I8042_EXTENDED marks the keys whose code follows an 0xe0 prefix. I8042_KEY_PAUSE is the one key
 * without a release. Any thread.
 */
#define I8042_EXTENDED 0x80
#define I8042_KEY_PAUSE 0x100
void i8042_key(struct i8042 *kbc, unsigned code, bool down);

/* The mouse moved by (dx right, dy down), the wheel by dz (towards the user), the buttons are now
 * as given. Any thread. */
enum i8042_mouse_button {
    I8042_MOUSE_LEFT = 1 << 0,
    I8042_MOUSE_RIGHT = 1 << 1,
    I8042_MOUSE_MIDDLE = 1 << 2,
};
void i8042_mouse(struct i8042 *kbc, int dx, int dy, int dz, unsigned buttons);

#endif
