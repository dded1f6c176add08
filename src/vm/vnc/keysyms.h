/*
 * From what VNC clients send to keys of the PC keyboard: X11 key symbols (X11/keysymdef.h, Appendix
 * A of the X Window System Protocol) by what they write on a US keyboard, and Linux key codes,
 * which say the place of the key and need no layout.
 */
#ifndef SILL_VM_VNC_KEYSYMS_H
#define SILL_VM_VNC_KEYSYMS_H

#include "base/types.h"

enum keysym_shift {
    KEYSYM_SHIFT_ANY, /* the same key with Shift and without */
    KEYSYM_SHIFT_UP,
    KEYSYM_SHIFT_DOWN,
};

/* The key (dev/input/input.h) of a symbol, and how Shift must be for it to be meant. False: none.
 */
bool keysym_to_key(uint32_t keysym, unsigned *code, enum keysym_shift *shift);

/* The key of a Linux key code (linux/input-event-codes.h). False: the PC keyboard has none. */
bool keycode_to_key(uint32_t keycode, unsigned *code);

#endif
