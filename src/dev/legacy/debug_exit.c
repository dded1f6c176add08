/*
 * The debug-exit device: see debug_exit.h. It has no state, so accesses from several vCPU threads
 * need no lock.
 */
#include "dev/legacy/debug_exit.h"

#include <errno.h>
#include <stdlib.h>

struct debug_exit {
    struct device device;
    struct region region;
    const struct board_events *events;
};

static enum bus_result debug_exit_write(void *opaque, uint64_t offset, unsigned size,
                                        uint64_t value)
{
    struct debug_exit *dev = opaque;

    if (offset)
        return BUS_UNHANDLED;
    board_exit(dev->events, (int)((uint32_t)value << 1 | 1));
    return BUS_OK;
}

static const struct region_ops debug_exit_region_ops = {.write = debug_exit_write, .max_size = 4};

static void debug_exit_reset(struct device *device)
{
}

static void debug_exit_destroy(struct device *device)
{
    free(CONTAINER_OF(device, struct debug_exit, device));
}

static const struct device_ops debug_exit_ops = {
    .type = "debug-exit",
    .reset = debug_exit_reset,
    .destroy = debug_exit_destroy,
    .state = &state_empty,
};

int debug_exit_new(struct debug_exit **out, const struct board_events *events)
{
    struct debug_exit *dev = calloc(1, sizeof(*dev));

    if (!dev)
        return -ENOMEM;
    dev->device =
        (struct device){.ops = &debug_exit_ops, .name = "debug-exit", .state_object = dev};
    dev->region = (struct region){
        .name = "debug-exit", .ops = &debug_exit_region_ops, .opaque = dev, .size = 4};
    dev->events = events;
    *out = dev;
    return 0;
}

int debug_exit_attach(struct debug_exit *dev, struct bus *bus, uint16_t port, struct error *err)
{
    return bus_add(bus, BUS_PORT, &dev->region, port, err);
}

struct device *debug_exit_device(struct debug_exit *dev)
{
    return &dev->device;
}
