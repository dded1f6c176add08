/*
 * System control port A (ICH9 data sheet 13.7.5): bit 0 going to 1 resets, bit 1 is fast A20.
 *
 * As with the 8042 there is no A20 gate behind the bit. vCPU threads, under `lock`.
 */
#include "dev/legacy/port92.h"

#include <errno.h>
#include <stdlib.h>

#define SYSTEM_CONTROL_PORT 0x92

enum {
    CONTROL_RESET = 1 << 0,
    CONTROL_A20 = 1 << 1,
    CONTROL_WRITABLE = CONTROL_RESET | CONTROL_A20,
};

struct port92 {
    struct device device;
    struct region region;
    const struct board_events *events;

    pthread_mutex_t lock;
    uint8_t control;
};

static enum bus_result port92_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct port92 *port = opaque;

    pthread_mutex_lock(&port->lock);
    *value = port->control;
    pthread_mutex_unlock(&port->lock);
    return BUS_OK;
}

static enum bus_result port92_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct port92 *port = opaque;
    bool reset;

    pthread_mutex_lock(&port->lock);
    reset = value & ~port->control & CONTROL_RESET;
    port->control = value & CONTROL_WRITABLE;
    pthread_mutex_unlock(&port->lock);
    if (reset)
        board_reset(port->events);
    return BUS_OK;
}

static const struct region_ops port92_region_ops = {
    .read = port92_read, .write = port92_write, .max_size = 1};

static void port92_reset(struct device *device)
{
    struct port92 *port = CONTAINER_OF(device, struct port92, device);

    pthread_mutex_lock(&port->lock);
    port->control = CONTROL_A20;
    pthread_mutex_unlock(&port->lock);
}

static void port92_destroy(struct device *device)
{
    struct port92 *port = CONTAINER_OF(device, struct port92, device);

    pthread_mutex_destroy(&port->lock);
    free(port);
}

static int port92_post_load(void *object, struct error *err)
{
    struct port92 *port = object;

    port->control &= CONTROL_WRITABLE;
    return 0;
}

static const struct state_field port92_fields[] = {
    STATE_INT(struct port92, control),
    STATE_END,
};

static const struct state_desc port92_state = {
    .name = "port92",
    .version = 1,
    .fields = port92_fields,
    .post_load = port92_post_load,
};

static const struct device_ops port92_ops = {
    .type = "port92",
    .reset = port92_reset,
    .destroy = port92_destroy,
    .state = &port92_state,
};

int port92_new(struct port92 **out, const struct board_events *events)
{
    struct port92 *port = calloc(1, sizeof(*port));

    if (!port)
        return -ENOMEM;
    port->device = (struct device){.ops = &port92_ops, .name = "port92", .state_object = port};
    port->region = (struct region){
        .name = "system control port A", .ops = &port92_region_ops, .opaque = port, .size = 1};
    port->events = events;
    pthread_mutex_init(&port->lock, NULL);
    port92_reset(&port->device);
    *out = port;
    return 0;
}

int port92_attach(struct port92 *port, struct bus *bus, struct error *err)
{
    return bus_add(bus, BUS_PORT, &port->region, SYSTEM_CONTROL_PORT, err);
}

struct device *port92_device(struct port92 *port)
{
    return &port->device;
}
