/*
 * pvpanic: reading the port tells which events the board understands, writing reports one. It has
 * no state, so accesses from several vCPU threads need no lock.
 *
 * Bit 1 ("crashed, and the guest's crash kernel takes over") is not offered: the guest then goes
 * on, and there is nothing for the board to do.
 */
#include "dev/legacy/pvpanic.h"

#include <errno.h>
#include <stdlib.h>

#define EVENT_PANICKED (1 << 0)

struct pvpanic {
    struct device device;
    struct region region;
    const struct board_events *events;
};

static enum bus_result pvpanic_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = EVENT_PANICKED;
    return BUS_OK;
}

static enum bus_result pvpanic_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pvpanic *dev = opaque;

    if (value & EVENT_PANICKED)
        board_crashed(dev->events);
    return BUS_OK;
}

static const struct region_ops pvpanic_region_ops = {
    .read = pvpanic_read, .write = pvpanic_write, .max_size = 1};

static void pvpanic_reset(struct device *device)
{
}

static void pvpanic_destroy(struct device *device)
{
    free(CONTAINER_OF(device, struct pvpanic, device));
}

static const struct device_ops pvpanic_ops = {
    .type = "pvpanic",
    .reset = pvpanic_reset,
    .destroy = pvpanic_destroy,
    .state = &state_empty,
};

int pvpanic_new(struct pvpanic **out, const struct board_events *events)
{
    struct pvpanic *dev = calloc(1, sizeof(*dev));

    if (!dev)
        return -ENOMEM;
    dev->device = (struct device){.ops = &pvpanic_ops, .name = "pvpanic", .state_object = dev};
    dev->region =
        (struct region){.name = "pvpanic", .ops = &pvpanic_region_ops, .opaque = dev, .size = 1};
    dev->events = events;
    *out = dev;
    return 0;
}

int pvpanic_attach(struct pvpanic *dev, struct bus *bus, uint16_t port, struct error *err)
{
    return bus_add(bus, BUS_PORT, &dev->region, port, err);
}

struct device *pvpanic_device(struct pvpanic *dev)
{
    return &dev->device;
}
