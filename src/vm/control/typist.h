/*
 * Types keys at a pace that a guest follows: the next key goes down when the guest has taken the
 * one before, and not before a while has passed, since firmware and boot loaders have small buffers
 * of their own. Control thread; no thread of its own: typist_work() does what is due.
 */
#ifndef SILL_VM_CONTROL_TYPIST_H
#define SILL_VM_CONTROL_TYPIST_H

#include "base/error.h"
#include "dev/input/input.h"

#define TYPIST_TEXT_MAX 4096 /* characters at a time */

struct typist_event {
    uint16_t code;
    bool down;
};

struct typist {
    struct input *input;
    /* Up to four events a character: Shift and the key, down and up. */
    struct typist_event event[4 * TYPIST_TEXT_MAX];
    unsigned count, next;
    uint64_t due;   /* ns of the host's monotonic clock: not before */
    uint64_t limit; /* a guest that has not taken the last key by then takes none */
    bool ignored;   /* gave up: the guest takes no keys */
};

/* -EINVAL: a character that no key writes, or too many; nothing is typed then. */
SILL_CHECKED int typist_text(struct typist *typist, const char *text, struct error *err);
/* Keys by name, with '-' between those held together: "ctrl-alt-delete". -EINVAL. */
SILL_CHECKED int typist_keys(struct typist *typist, const char *names, struct error *err);

static inline bool typist_is_busy(const struct typist *typist)
{
    return typist->next < typist->count;
}

/* Sends what is due at `now`, as clock_gettime(CLOCK_MONOTONIC) counts it, in ns. */
void typist_work(struct typist *typist, uint64_t now);
/* Milliseconds until there is work again; -1: nothing to type. */
int typist_timeout(const struct typist *typist, uint64_t now);

#endif
