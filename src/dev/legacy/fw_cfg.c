/*
 * The firmware configuration device: see fw_cfg.h. What is selected and how far it was read is the
 * whole state; the items never change. vCPU threads, under `lock`.
 */
#include "dev/legacy/fw_cfg.h"

#include <errno.h>
#include <stdlib.h>

#define FW_CFG_PORT 0x510

/* Ports, from FW_CFG_PORT on: the data port is the selector's upper half as well. */
enum { PORT_SELECTOR, PORT_DATA, PORT_COUNT };

/* Items (fw_cfg.rst, "Firmware Configuration Items"); numbers are little endian unless noted. */
enum {
    ITEM_SIGNATURE = 0x0000,
    ITEM_ID = 0x0001, /* a bit mask of the interfaces there are */
    ITEM_RAM_SIZE = 0x0003,
    ITEM_CPUS = 0x0005,
    ITEM_MAX_CPUS = 0x000f,  /* APIC ids are below this */
    ITEM_DIRECTORY = 0x0019, /* the number of files, big endian, and one entry for each */
};

#define ID_PORTS 1u

struct fw_cfg {
    struct device device;
    struct region region;
    struct fw_cfg_config config;

    pthread_mutex_t lock; /* a device lock in the order of bus/irq.h; guards all below */
    uint16_t selected;
    uint32_t position; /* of the next byte */
};

/* The item's bytes as one number, and how many there are. */
static uint64_t item_value(const struct fw_cfg *dev, uint16_t item, unsigned *size)
{
    switch (item) {
    case ITEM_SIGNATURE:
        *size = 4;
        return 0x554d4551; /* "QEMU" */
    case ITEM_ID:
        *size = 4;
        return ID_PORTS;
    case ITEM_RAM_SIZE:
        *size = 8;
        return dev->config.memory;
    case ITEM_CPUS:
    case ITEM_MAX_CPUS:
        *size = 2;
        return dev->config.cpus;
    case ITEM_DIRECTORY:
        *size = 4;
        return 0;
    default:
        *size = 0;
        return 0;
    }
}

/* Beyond an item's end, and of an item that is not there, all bytes are zero. */
static enum bus_result fw_cfg_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct fw_cfg *dev = opaque;
    uint64_t item;
    unsigned length;

    if (offset != PORT_DATA)
        return BUS_UNHANDLED;
    pthread_mutex_lock(&dev->lock);
    item = item_value(dev, dev->selected, &length);
    *value = 0;
    if (dev->position < length)
        *value = item >> 8 * dev->position++ & 0xff;
    pthread_mutex_unlock(&dev->lock);
    return BUS_OK;
}

/* Items cannot be written, so the data port takes no bytes. */
static enum bus_result fw_cfg_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct fw_cfg *dev = opaque;

    if (offset != PORT_SELECTOR || size != 2)
        return BUS_UNHANDLED;
    pthread_mutex_lock(&dev->lock);
    dev->selected = (uint16_t)value;
    dev->position = 0;
    pthread_mutex_unlock(&dev->lock);
    return BUS_OK;
}

static const struct region_ops fw_cfg_region_ops = {
    .read = fw_cfg_read, .write = fw_cfg_write, .max_size = 2};

static void fw_cfg_reset(struct device *device)
{
    struct fw_cfg *dev = CONTAINER_OF(device, struct fw_cfg, device);

    pthread_mutex_lock(&dev->lock);
    dev->selected = ITEM_SIGNATURE;
    dev->position = 0;
    pthread_mutex_unlock(&dev->lock);
}

static void fw_cfg_destroy(struct device *device)
{
    struct fw_cfg *dev = CONTAINER_OF(device, struct fw_cfg, device);

    pthread_mutex_destroy(&dev->lock);
    free(dev);
}

static const struct state_field fw_cfg_fields[] = {
    STATE_INT(struct fw_cfg, selected),
    STATE_INT(struct fw_cfg, position),
    STATE_END,
};

static const struct state_desc fw_cfg_state = {
    .name = "fw_cfg",
    .version = 1,
    .fields = fw_cfg_fields,
};

static const struct device_ops fw_cfg_ops = {
    .type = "fw_cfg",
    .reset = fw_cfg_reset,
    .destroy = fw_cfg_destroy,
    .state = &fw_cfg_state,
};

int fw_cfg_new(struct fw_cfg **out, const struct fw_cfg_config *config)
{
    struct fw_cfg *dev = calloc(1, sizeof(*dev));

    if (!dev)
        return -ENOMEM;
    dev->device = (struct device){.ops = &fw_cfg_ops, .name = "fw_cfg", .state_object = dev};
    dev->region = (struct region){
        .name = "fw_cfg", .ops = &fw_cfg_region_ops, .opaque = dev, .size = PORT_COUNT};
    dev->config = *config;
    pthread_mutex_init(&dev->lock, NULL);
    *out = dev;
    return 0;
}

int fw_cfg_attach(struct fw_cfg *dev, struct bus *bus, struct error *err)
{
    return bus_add(bus, BUS_PORT, &dev->region, FW_CFG_PORT, err);
}

struct device *fw_cfg_device(struct fw_cfg *dev)
{
    return &dev->device;
}
