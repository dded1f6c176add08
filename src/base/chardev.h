/*
 * A stream of characters between a device (the front end: a UART, virtio-console) and the outside
 * (the back end: the terminal, a socket, a file).
 *
 * Threads. The front end calls write() and input_ready() on vCPU and queue threads, perhaps with
 * its own lock held; the back end must not call the front end from inside them. The back end calls
 * the struct char_frontend functions on its I/O thread, holding no lock that write() or
 * input_ready() takes. Calls for one stream never overlap in the same direction.
 *
 * Life. The front end attaches when it is created; the back end's I/O thread starts after that and
 * has stopped before the front end is destroyed. A back end serves one front end.
 *
 * A front end without a back end (NULL) behaves as with one that swallows everything.
 */
#ifndef SILL_BASE_CHARDEV_H
#define SILL_BASE_CHARDEV_H

#include "base/types.h"

/* What a device offers to the outside. */
struct char_frontend {
    /* How many bytes receive() takes now. After an answer of 0 the back end leaves its input where
     * it is (so the sender blocks) until input_ready(). */
    size_t (*can_receive)(void *opaque);
    /* Input; at most what the latest can_receive() answered, whole and in order. */
    void (*receive)(void *opaque, const uint8_t *data, size_t length);
    /* There is room again after a write() that was cut short. May be NULL. */
    void (*writable)(void *opaque);
    /* The terminal has a (new) size in characters. May be NULL. */
    void (*resized)(void *opaque, uint16_t columns, uint16_t rows);
};

struct char_backend_ops {
    /* Takes as many bytes as it has room for and returns how many; never blocks for long. After a
     * short count it calls writable() once there is room. Output that nobody listens to (a socket
     * without a client) is taken and lost. */
    size_t (*write)(void *opaque, const uint8_t *data, size_t length);
    /* The device can receive again: wakes the I/O thread. */
    void (*input_ready)(void *opaque);
};

struct char_backend {
    const struct char_backend_ops *ops;
    void *opaque;
    /* Set by char_attach(). NULL while no device is attached. */
    const struct char_frontend *frontend;
    void *frontend_opaque;
};

/* Control thread, before the back end's I/O thread starts. */
static inline void char_attach(struct char_backend *backend, const struct char_frontend *frontend,
                               void *opaque)
{
    if (!backend)
        return;
    backend->frontend = frontend;
    backend->frontend_opaque = opaque;
}

static inline size_t char_write(struct char_backend *backend, const uint8_t *data, size_t length)
{
    return backend ? backend->ops->write(backend->opaque, data, length) : length;
}

static inline void char_input_ready(struct char_backend *backend)
{
    if (backend)
        backend->ops->input_ready(backend->opaque);
}

#endif
