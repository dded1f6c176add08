/*
 * The escape key of an interactive console: a filter over what the user types. One state machine,
 * fed in pieces of any size; I/O thread of the console.
 */
#ifndef SILL_VM_ESCAPE_H
#define SILL_VM_ESCAPE_H

#include "base/types.h"

#define ESCAPE_KEY 0x1d /* Ctrl-] */

struct escape {
    bool pending; /* the last byte was the escape key */
};

/* Copies what is meant for the guest from `in` to `out`, which has room for length + 1 bytes, and
 * returns how many bytes that is. Sets *leave, and ignores the rest, at the escape key and q. */
size_t escape_filter(struct escape *escape, const uint8_t *in, size_t length, uint8_t *out,
                     bool *leave);

#endif
