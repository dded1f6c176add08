/* A check that every device's state must pass. */
#ifndef SILL_TESTS_UNIT_STATE_RIG_H
#define SILL_TESTS_UNIT_STATE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "dev/device.h"

/* Saves, lets `between` (may be NULL) disturb the device, and restores what was saved. */
static inline void rig_save_and_restore(struct device *device, void (*between)(struct device *))
{
    struct state_buffer stream = {0};
    struct error err;

    assert_int_equal(state_save(&stream, device->ops->state, device->state_object), 0);
    if (between)
        between(device);
    assert_int_equal(state_load(&stream, device->ops->state, device->state_object, &err), 0);
    state_buffer_done(&stream);
}

/*
 * What is saved, disturbed by a reset and restored is saved again as the same bytes; a stream with
 * any byte changed is refused or taken, and leaves a device that still restores the good one.
 */
static inline void rig_check_state(struct device *device)
{
    const struct state_desc *desc = device->ops->state;
    struct state_buffer good = {0}, again = {0};
    struct error err;

    assert_int_equal(state_save(&good, desc, device->state_object), 0);
    for (size_t i = 0; i < good.length; i++) {
        static const uint8_t flips[] = {0x01, 0x80, 0xff};

        for (size_t f = 0; f < ARRAY_SIZE(flips); f++) {
            good.data[i] ^= flips[f];
            good.position = 0;
            int r = state_load(&good, desc, device->state_object, &err);
            assert_true(r == 0 || r == -EBADMSG || r == -ENOMEM);
            good.data[i] ^= flips[f];
        }
    }
    device->ops->reset(device);
    good.position = 0;
    assert_int_equal(state_load(&good, desc, device->state_object, &err), 0);
    assert_int_equal(state_save(&again, desc, device->state_object), 0);
    assert_int_equal(good.length, again.length);
    assert_memory_equal(good.data, again.data, good.length);
    state_buffer_done(&good);
    state_buffer_done(&again);
}

#endif
