/*
 * What every device on the board has in common: its lifecycle and its state.
 *
 * A device model has three layers. The core (registers, an irq_line, a timer) knows no bus and no
 * thread and is tested alone. Its regions (bus/bus.h) are const ops over the core; they take the
 * device's lock. The `struct device` below is its lifecycle.
 *
 * Order of calls, all from the VM's control thread: (restore)? start, then any number of
 * pause, resume and reset (reset only while paused or before start), pause, destroy. A paused
 * device has no request in flight and touches neither guest memory nor interrupts.
 */
#ifndef SILL_DEV_DEVICE_H
#define SILL_DEV_DEVICE_H

#include "base/error.h"
#include "state/state.h"

struct device;

struct device_ops {
    const char *type; /* "pit", "virtio-blk" */
    /* Optional, NULL when there is nothing to do. */
    int (*start)(struct device *dev, struct error *err);
    void (*pause)(struct device *dev);
    void (*resume)(struct device *dev);
    /* Mandatory: puts the device into its power-on state. */
    void (*reset)(struct device *dev);
    /* Mandatory: frees the device. */
    void (*destroy)(struct device *dev);
    /* Mandatory: what to save; a device without state uses state_empty. */
    const struct state_desc *state;
};

/* For devices that truly have nothing to save. */
extern const struct state_desc state_empty;

/* Embedded as first member of each device, so that `struct device *` and the device's own type
 * convert by CONTAINER_OF; `state` tables have offsets relative to the device's own struct, and
 * `state_object` is what they apply to. */
struct device {
    const struct device_ops *ops;
    const char *name; /* unique on the board, "serial0" */
    void *state_object;
};

#endif
