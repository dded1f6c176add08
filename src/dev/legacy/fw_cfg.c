/*
 * The firmware configuration device: see fw_cfg.h. What is selected, how far it was read and half a
 * DMA address are the whole state. vCPU threads, under `lock`, also while a DMA copies: it is
 * short, and the guest waits for it.
 */
#include "dev/legacy/fw_cfg.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FW_CFG_PORT 0x510

/* Ports, from FW_CFG_PORT on: the data port is the selector's upper half as well. */
enum { PORT_SELECTOR = 0, PORT_DATA = 1, PORT_DMA_HIGH = 4, PORT_DMA_LOW = 8, PORT_COUNT = 12 };

enum {
    ITEM_SIGNATURE = 0x0000,
    ITEM_ID = 0x0001, /* a bit mask of the interfaces there are */
    ITEM_UUID = 0x0002,
    ITEM_RAM_SIZE = 0x0003,
    ITEM_CPUS = 0x0005,
    ITEM_MAX_CPUS = 0x000f,  /* APIC ids are below this */
    ITEM_DIRECTORY = 0x0019, /* the number of files and one entry for each, big endian */
    ITEM_FIRST_FILE = 0x0020,
};

#define MAX_ITEMS (FW_CFG_MAX_FILES + 16)

#define ID_PORTS 1u
#define ID_DMA 2u

static const uint8_t signature[] = {'Q', 'E', 'M', 'U'};
/* What the DMA address reads as. */
static const uint8_t dma_signature[] = {'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G'};

/* "DMA Interface": control bits; the item to select is in the upper half. */
#define DMA_ERROR 0x01u
#define DMA_READ 0x02u
#define DMA_SKIP 0x04u
#define DMA_SELECT 0x08u
#define DMA_WRITE 0x10u
#define DMA_ITEM_SHIFT 16

/* All fields big endian. */
struct dma_access {
    uint32_t control;
    uint32_t length;
    uint64_t address;
} __attribute__((packed));

/* Big endian, too. */
struct directory_entry {
    uint32_t size;
    uint16_t item;
    uint16_t reserved;
    char name[FW_CFG_NAME_SIZE];
} __attribute__((packed));

struct directory {
    uint32_t count;
    struct directory_entry entry[FW_CFG_MAX_FILES];
} __attribute__((packed));

struct item {
    uint16_t number;
    const uint8_t *data;
    uint32_t size;
};

struct fw_cfg {
    struct device device;
    struct region region;
    struct memory *memory;
    struct item item[MAX_ITEMS]; /* their data is on the heap */
    unsigned item_count;
    struct directory directory;

    pthread_mutex_t lock; /* a device lock in the order of bus/irq.h; guards all below */
    uint16_t selected;
    uint32_t position; /* of the next byte */
    uint32_t dma_high; /* the address's upper half, as written */
};

static struct item find_item(const struct fw_cfg *dev, uint16_t number)
{
    if (number == ITEM_DIRECTORY) {
        uint32_t used = be32toh(dev->directory.count) * sizeof(dev->directory.entry[0]);
        return (struct item){.number = number,
                             .data = (const uint8_t *)&dev->directory,
                             .size = sizeof(dev->directory.count) + used};
    }
    for (unsigned i = 0; i < dev->item_count; i++) {
        if (dev->item[i].number == number)
            return dev->item[i];
    }
    return (struct item){.number = number};
}

static void select_item(struct fw_cfg *dev, uint16_t number)
{
    dev->selected = number;
    dev->position = 0;
}

/* How many of the next `length` bytes the item has; what follows them reads as zero. */
static uint32_t present(const struct item *item, uint32_t position, uint32_t length)
{
    uint32_t left = position < item->size ? item->size - position : 0;

    return left < length ? left : length;
}

/* Beyond this no item has bytes, so that the position need not be counted. */
static void advance(struct fw_cfg *dev, uint32_t length)
{
    dev->position = length > UINT32_MAX - dev->position ? UINT32_MAX : dev->position + length;
}

/* ---- DMA ---- */

static int fill_zero(struct memory *memory, gpa_t gpa, uint64_t length)
{
    static const uint8_t zero[GUEST_PAGE_SIZE];
    int ret = 0;

    for (uint64_t piece; length && !ret; gpa += piece, length -= piece) {
        piece = length < sizeof(zero) ? length : sizeof(zero);
        ret = memory_write(memory, gpa, zero, piece);
    }
    return ret;
}

static int dma_read(struct fw_cfg *dev, gpa_t address, uint32_t length)
{
    struct item item = find_item(dev, dev->selected);
    uint32_t bytes = present(&item, dev->position, length);

    if (length > UINT64_MAX - address)
        return -EFAULT;
    int ret = bytes ? memory_write(dev->memory, address, item.data + dev->position, bytes) : 0;
    return ret ? ret : fill_zero(dev->memory, address + bytes, length - bytes);
}

/* Items cannot be written: the request ends with an error. */
static uint32_t dma_perform(struct fw_cfg *dev, const struct dma_access *access)
{
    uint32_t control = be32toh(access->control), length = be32toh(access->length);

    if (control & DMA_SELECT)
        select_item(dev, (uint16_t)(control >> DMA_ITEM_SHIFT));
    if (control & DMA_READ) {
        if (dma_read(dev, be64toh(access->address), length))
            return DMA_ERROR;
    } else if (control & DMA_WRITE) {
        return DMA_ERROR;
    } else if (!(control & DMA_SKIP)) {
        return 0;
    }
    advance(dev, length);
    return 0;
}

/* A descriptor that is not in memory cannot even be told so. */
static enum bus_result dma_start(struct fw_cfg *dev, gpa_t descriptor)
{
    struct dma_access access;

    if (memory_read(dev->memory, descriptor, &access, sizeof(access)))
        return BUS_ERROR;
    access.control = htobe32(dma_perform(dev, &access));
    return memory_write(dev->memory, descriptor, &access.control, sizeof(access.control))
               ? BUS_ERROR
               : BUS_OK;
}

/* ---- ports ---- */

static enum bus_result fw_cfg_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct fw_cfg *dev = opaque;

    *value = 0;
    if (dev->memory && offset >= PORT_DMA_HIGH) {
        if (offset + size > PORT_COUNT)
            return BUS_UNHANDLED;
        for (unsigned i = 0; i < size; i++)
            *value |= (uint64_t)dma_signature[offset - PORT_DMA_HIGH + i] << 8 * i;
        return BUS_OK;
    }
    if (offset != PORT_DATA || size > 2)
        return BUS_UNHANDLED;
    pthread_mutex_lock(&dev->lock);
    struct item item = find_item(dev, dev->selected);
    if (present(&item, dev->position, 1))
        *value = item.data[dev->position];
    advance(dev, 1);
    pthread_mutex_unlock(&dev->lock);
    return BUS_OK;
}

/* Items cannot be written, so the data port takes no bytes. */
static enum bus_result fw_cfg_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct fw_cfg *dev = opaque;
    enum bus_result result = BUS_OK;

    pthread_mutex_lock(&dev->lock);
    if (offset == PORT_SELECTOR && size == 2) {
        select_item(dev, (uint16_t)value);
    } else if (dev->memory && offset == PORT_DMA_HIGH && size == 4) {
        dev->dma_high = (uint32_t)value;
    } else if (dev->memory && offset == PORT_DMA_LOW && size == 4) {
        gpa_t descriptor = (gpa_t)be32toh(dev->dma_high) << 32 | be32toh((uint32_t)value);
        dev->dma_high = 0;
        result = dma_start(dev, descriptor);
    } else {
        result = BUS_UNHANDLED;
    }
    pthread_mutex_unlock(&dev->lock);
    return result;
}

static const struct region_ops fw_cfg_region_ops = {
    .read = fw_cfg_read, .write = fw_cfg_write, .max_size = 4};

/* ---- lifecycle ---- */

static void fw_cfg_reset(struct device *device)
{
    struct fw_cfg *dev = CONTAINER_OF(device, struct fw_cfg, device);

    pthread_mutex_lock(&dev->lock);
    select_item(dev, ITEM_SIGNATURE);
    dev->dma_high = 0;
    pthread_mutex_unlock(&dev->lock);
}

static void fw_cfg_destroy(struct device *device)
{
    struct fw_cfg *dev = CONTAINER_OF(device, struct fw_cfg, device);

    while (dev->item_count)
        free((void *)dev->item[--dev->item_count].data);
    pthread_mutex_destroy(&dev->lock);
    free(dev);
}

static const struct state_field fw_cfg_fields[] = {
    STATE_INT(struct fw_cfg, selected),
    STATE_INT(struct fw_cfg, position),
    STATE_INT(struct fw_cfg, dma_high),
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

int fw_cfg_add_item(struct fw_cfg *dev, uint16_t number, const void *data, size_t size,
                    struct error *err)
{
    if (dev->item_count == MAX_ITEMS || size > UINT32_MAX)
        return error_set(err, -ENOSPC, "too much firmware configuration");
    if (find_item(dev, number).data)
        return error_set(err, -EEXIST, "firmware configuration item 0x%x is there twice", number);
    uint8_t *copy = malloc(size + 1);
    if (!copy)
        return error_set(err, -ENOMEM, "no memory for the firmware configuration");
    memcpy(copy, data, size);
    dev->item[dev->item_count++] =
        (struct item){.number = number, .data = copy, .size = (uint32_t)size};
    return 0;
}

int fw_cfg_add_file(struct fw_cfg *dev, const char *name, const void *data, size_t size,
                    struct error *err)
{
    unsigned count = be32toh(dev->directory.count);

    if (strlen(name) >= FW_CFG_NAME_SIZE)
        return error_set(err, -ENAMETOOLONG, "the name '%s' is longer than %d characters", name,
                         FW_CFG_NAME_SIZE - 1);
    if (count == FW_CFG_MAX_FILES)
        return error_set(err, -ENOSPC, "'%s' is one firmware configuration file too many: %d work",
                         name, FW_CFG_MAX_FILES);
    for (unsigned i = 0; i < count; i++) {
        if (!strcmp(dev->directory.entry[i].name, name))
            return error_set(err, -EEXIST, "there are two firmware configuration files '%s'", name);
    }
    int ret = fw_cfg_add_item(dev, (uint16_t)(ITEM_FIRST_FILE + count), data, size, err);
    if (ret)
        return ret;
    struct directory_entry *entry = &dev->directory.entry[count];
    entry->size = htobe32((uint32_t)size);
    entry->item = htobe16((uint16_t)(ITEM_FIRST_FILE + count));
    memcpy(entry->name, name, strlen(name) + 1);
    dev->directory.count = htobe32(count + 1);
    return 0;
}

int fw_cfg_new(struct fw_cfg **out, const struct fw_cfg_config *config)
{
    const uint32_t id = htole32(ID_PORTS | (config->dma_memory ? ID_DMA : 0));
    const uint64_t ram = htole64(config->memory);
    const uint16_t cpus = htole16(config->cpus);
    const struct {
        uint16_t number;
        const void *data;
        size_t size;
    } items[] = {
        {ITEM_SIGNATURE, signature, sizeof(signature)},
        {ITEM_ID, &id, sizeof(id)},
        {ITEM_UUID, config->uuid, sizeof(config->uuid)},
        {ITEM_RAM_SIZE, &ram, sizeof(ram)},
        {ITEM_CPUS, &cpus, sizeof(cpus)},
        {ITEM_MAX_CPUS, &cpus, sizeof(cpus)},
    };
    struct fw_cfg *dev = calloc(1, sizeof(*dev));

    if (!dev)
        return -ENOMEM;
    dev->device = (struct device){.ops = &fw_cfg_ops, .name = "fw_cfg", .state_object = dev};
    dev->region = (struct region){
        .name = "fw_cfg", .ops = &fw_cfg_region_ops, .opaque = dev, .size = PORT_COUNT};
    dev->memory = config->dma_memory;
    pthread_mutex_init(&dev->lock, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(items); i++) {
        struct error err;
        int ret = fw_cfg_add_item(dev, items[i].number, items[i].data, items[i].size, &err);
        if (ret) {
            fw_cfg_destroy(&dev->device);
            return ret;
        }
    }
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
