/*
 * Keys by what they write on a US keyboard and by their names: what `type` and `key` of the control
 * socket understand. IBM PS/2 Hardware Interface Technical Reference, "Keyboards", scan code set 1.
 */
#ifndef SILL_VM_CONTROL_KEYS_H
#define SILL_VM_CONTROL_KEYS_H

#include "base/types.h"

/* The key (dev/input/input.h) that writes an ASCII character, and whether with Shift. False where
 * no key does. */
bool key_of_character(char character, unsigned *code, bool *shift);

/* "enter", "f1", "ctrl", "a": false when no key is called that. `length` characters of `name`. */
bool key_of_name(const char *name, size_t length, unsigned *code);

#define KEY_LEFT_SHIFT 0x2a

#endif
