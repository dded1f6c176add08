/*
 * The debug console: see debugcon.h. The guest cannot ask whether there is room, so what the back
 * end does not take at once is lost. vCPU threads; the lock keeps their writes apart, as
 * base/chardev.h demands.
 */
#include "dev/legacy/debugcon.h"

#include <errno.h>
#include <stdlib.h>

#define SIGNATURE 0xe9 /* what a read answers */

struct debugcon {
    struct device device;
    struct region region;
    struct char_backend *backend;
    pthread_mutex_t lock; /* a device lock in the order of bus/irq.h; guards the calls of write() */
};

static enum bus_result debugcon_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = SIGNATURE;
    return BUS_OK;
}

static enum bus_result debugcon_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct debugcon *dev = opaque;
    uint8_t byte = value;

    pthread_mutex_lock(&dev->lock);
    char_write(dev->backend, &byte, 1);
    pthread_mutex_unlock(&dev->lock);
    return BUS_OK;
}

static const struct region_ops debugcon_region_ops = {
    .read = debugcon_read, .write = debugcon_write, .max_size = 1};

/* It only speaks: input stays where it is. */
static size_t debugcon_can_receive(void *opaque)
{
    return 0;
}

static void debugcon_receive(void *opaque, const uint8_t *data, size_t length)
{
}

static const struct char_frontend debugcon_frontend = {
    .can_receive = debugcon_can_receive,
    .receive = debugcon_receive,
};

static void debugcon_reset(struct device *device)
{
}

static void debugcon_destroy(struct device *device)
{
    struct debugcon *dev = CONTAINER_OF(device, struct debugcon, device);

    char_attach(dev->backend, NULL, NULL);
    pthread_mutex_destroy(&dev->lock);
    free(dev);
}

static const struct device_ops debugcon_ops = {
    .type = "debugcon",
    .reset = debugcon_reset,
    .destroy = debugcon_destroy,
    .state = &state_empty,
};

int debugcon_new(struct debugcon **out, const char *name, struct char_backend *backend)
{
    struct debugcon *dev = calloc(1, sizeof(*dev));

    if (!dev)
        return -ENOMEM;
    dev->device = (struct device){.ops = &debugcon_ops, .name = name, .state_object = dev};
    dev->region =
        (struct region){.name = name, .ops = &debugcon_region_ops, .opaque = dev, .size = 1};
    dev->backend = backend;
    pthread_mutex_init(&dev->lock, NULL);
    char_attach(backend, &debugcon_frontend, dev);
    *out = dev;
    return 0;
}

int debugcon_attach(struct debugcon *dev, struct bus *bus, uint16_t port, struct error *err)
{
    return bus_add(bus, BUS_PORT, &dev->region, port, err);
}

struct device *debugcon_device(struct debugcon *dev)
{
    return &dev->device;
}
