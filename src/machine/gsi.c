/*
 * The board's interrupt wires: levels of several drivers combined, then given to both controllers.
 * See gsi.h for the wiring and the threads.
 */
#include "machine/gsi.h"

#include <assert.h>
#include <errno.h>

/* An irq_line carries one number: the wire and the driver's place on it. */
#define GSI_INPUT(gsi, driver) ((gsi)*GSI_MAX_DRIVERS + (driver))

static void gsi_set(void *opaque, unsigned input, bool level)
{
    struct gsi_wires *wires = opaque;
    struct gsi_wire *wire = &wires->wire[input / GSI_MAX_DRIVERS];
    uint32_t bit = 1u << (input % GSI_MAX_DRIVERS);

    /* The controllers are told inside the lock: changes must arrive in the order they happened. */
    pthread_mutex_lock(&wires->lock);
    uint32_t before = wire->asking;
    uint32_t after = level ? before | bit : before & ~bit;
    wire->asking = after;
    if (!before != !after)
        irq_line_set(&wire->pic, after != 0);
    before &= ~wire->pic_only;
    after &= ~wire->pic_only;
    if (!before != !after)
        irq_line_set(&wire->ioapic, after != 0);
    pthread_mutex_unlock(&wires->lock);
}

void gsi_connect(struct gsi_wires *wires, unsigned gsi, const struct irq_line *pic,
                 const struct irq_line *ioapic)
{
    wires->wire[gsi].pic = *pic;
    wires->wire[gsi].ioapic = *ioapic;
}

struct irq_line gsi_driver(struct gsi_wires *wires, unsigned gsi)
{
    struct gsi_wire *wire = &wires->wire[gsi];
    assert(wire->drivers < GSI_MAX_DRIVERS);
    return (struct irq_line){
        .set = gsi_set,
        .opaque = wires,
        .input = GSI_INPUT(gsi, wire->drivers++),
    };
}

struct irq_line gsi_pic_driver(struct gsi_wires *wires, unsigned gsi)
{
    struct gsi_wire *wire = &wires->wire[gsi];
    wire->pic_only |= 1u << wire->drivers;
    return gsi_driver(wires, gsi);
}

/* The controllers are reset as well, and devices whose output is high after reset say so again. */
static void gsi_reset(struct device *dev)
{
    struct gsi_wires *wires = CONTAINER_OF(dev, struct gsi_wires, dev);
    for (unsigned gsi = 0; gsi < GSI_COUNT; gsi++)
        wires->wire[gsi].asking = 0;
}

static void gsi_destroy(struct device *dev)
{
    struct gsi_wires *wires = CONTAINER_OF(dev, struct gsi_wires, dev);
    pthread_mutex_destroy(&wires->lock);
}

static const struct state_field gsi_wire_fields[] = {
    STATE_INT(struct gsi_wire, asking),
    STATE_END,
};

static const struct state_field gsi_fields[] = {
    STATE_STRUCT_ARRAY(struct gsi_wires, wire, gsi_wire_fields),
    STATE_END,
};

/* A level without a driver could never fall again. */
static int gsi_post_load(void *object, struct error *err)
{
    struct gsi_wires *wires = object;
    for (unsigned gsi = 0; gsi < GSI_COUNT; gsi++) {
        const struct gsi_wire *wire = &wires->wire[gsi];
        uint64_t places = (1ull << wire->drivers) - 1;
        if (wire->asking & ~places)
            return error_set(err, -EBADMSG, "saved interrupt wire %u has an unknown driver", gsi);
    }
    return 0;
}

static const struct state_desc gsi_state = {
    .name = "gsi",
    .version = 1,
    .fields = gsi_fields,
    .post_load = gsi_post_load,
};

static const struct device_ops gsi_ops = {
    .type = "gsi",
    .reset = gsi_reset,
    .destroy = gsi_destroy,
    .state = &gsi_state,
};

void gsi_wires_init(struct gsi_wires *wires)
{
    *wires = (struct gsi_wires){
        .dev = {.ops = &gsi_ops, .name = "gsi", .state_object = wires},
    };
    pthread_mutex_init(&wires->lock, NULL);
}

struct device *gsi_wires_device(struct gsi_wires *wires)
{
    return &wires->dev;
}
