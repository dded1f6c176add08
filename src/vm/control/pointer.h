/* Where the pointer shall be and which buttons are held, as `point` of the control socket is told.
 * Control thread. */
#ifndef SILL_VM_CONTROL_POINTER_H
#define SILL_VM_CONTROL_POINTER_H

#include "base/error.h"
#include "dev/display/display.h"
#include "dev/input/input.h"

/*
 * "X,Y" in pixels of the screen as it is now, then the buttons that are held: "640,400,left". The
 * names are left, right, middle, and wheel-up and wheel-down for one turn of the wheel. -EINVAL
 * with a sentence; nothing moves then.
 */
SILL_CHECKED int pointer_place(struct input *input, struct display *display, const char *to,
                               struct error *err);

#endif
