/*
 * The test device: see testdev.h. It exists so that test programs can provoke port I/O, device
 * memory accesses, interrupts and changes of the host's page tables at will. vCPU threads, under
 * `lock`.
 */
#include "dev/legacy/testdev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"

#define LATCH_SIZE 4
#define FLUSH_PORT 0xe4
#define LINES_PORT 0x2000

static const uint16_t latch_port[] = {0xe0, 0xe8};

#define LATCHES ARRAY_SIZE(latch_port)

struct testdev;

struct latch {
    struct testdev *dev;
    struct region region;
    uint8_t bytes[LATCH_SIZE];
};

struct testdev {
    struct device device;
    struct region flush_region, lines_region, memory_region;
    struct memory *mem;
    struct irq_line line[TESTDEV_LINES];

    pthread_mutex_t lock; /* a device lock in the order of bus/irq.h; guards latches and bytes */
    struct latch latch[LATCHES];
    uint8_t bytes[TESTDEV_MEMORY_SIZE];
};

static void copy_out(struct testdev *dev, const uint8_t *from, unsigned size, uint64_t *value)
{
    *value = 0;
    pthread_mutex_lock(&dev->lock);
    memcpy(value, from, size);
    pthread_mutex_unlock(&dev->lock);
}

static void copy_in(struct testdev *dev, uint8_t *to, unsigned size, uint64_t value)
{
    pthread_mutex_lock(&dev->lock);
    memcpy(to, &value, size);
    pthread_mutex_unlock(&dev->lock);
}

static enum bus_result latch_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct latch *latch = opaque;

    copy_out(latch->dev, latch->bytes + offset, size, value);
    return BUS_OK;
}

static enum bus_result latch_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct latch *latch = opaque;

    copy_in(latch->dev, latch->bytes + offset, size, value);
    return BUS_OK;
}

static enum bus_result memory_bytes_read(void *opaque, uint64_t offset, unsigned size,
                                         uint64_t *value)
{
    struct testdev *dev = opaque;

    copy_out(dev, dev->bytes + offset, size, value);
    return BUS_OK;
}

static enum bus_result memory_bytes_write(void *opaque, uint64_t offset, unsigned size,
                                          uint64_t value)
{
    struct testdev *dev = opaque;

    copy_in(dev, dev->bytes + offset, size, value);
    return BUS_OK;
}

/*
 * Takes the page out of this process's page tables, and so out of a hardware engine's. Guest memory
 * is a shared file mapping: the contents stay, and other threads may use the page meanwhile.
 */
static enum bus_result flush_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct testdev *dev = opaque;
    gpa_t page = ALIGN_DOWN(value, GUEST_PAGE_SIZE);
    void *host;

    if (offset)
        return BUS_UNHANDLED;
    host = memory_host(dev->mem, page, GUEST_PAGE_SIZE, true);
    if (!host || madvise(host, GUEST_PAGE_SIZE, MADV_DONTNEED))
        log_guest(dev->device.name, "no page to flush at 0x%llx", (unsigned long long)page);
    return BUS_OK;
}

static enum bus_result lines_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct testdev *dev = opaque;

    pthread_mutex_lock(&dev->lock);
    irq_line_set(&dev->line[offset], value);
    pthread_mutex_unlock(&dev->lock);
    return BUS_OK;
}

static const struct region_ops latch_ops = {
    .read = latch_read, .write = latch_write, .max_size = 4};
static const struct region_ops flush_ops = {.write = flush_write, .max_size = 4};
static const struct region_ops lines_ops = {.write = lines_write, .max_size = 4};
static const struct region_ops memory_bytes_ops = {.read = memory_bytes_read,
                                                   .write = memory_bytes_write};

static void testdev_reset(struct device *device)
{
    struct testdev *dev = CONTAINER_OF(device, struct testdev, device);

    pthread_mutex_lock(&dev->lock);
    for (unsigned i = 0; i < LATCHES; i++)
        memset(dev->latch[i].bytes, 0, LATCH_SIZE);
    memset(dev->bytes, 0, sizeof(dev->bytes));
    for (unsigned i = 0; i < TESTDEV_LINES; i++)
        irq_line_set(&dev->line[i], false);
    pthread_mutex_unlock(&dev->lock);
}

static void testdev_destroy(struct device *device)
{
    struct testdev *dev = CONTAINER_OF(device, struct testdev, device);

    pthread_mutex_destroy(&dev->lock);
    free(dev);
}

static const struct state_field latch_fields[] = {
    STATE_BYTES(struct latch, bytes),
    STATE_END,
};

static const struct state_field testdev_fields[] = {
    STATE_STRUCT_ARRAY(struct testdev, latch, latch_fields),
    STATE_BYTES(struct testdev, bytes),
    STATE_END,
};

static const struct state_desc testdev_state = {
    .name = "testdev",
    .version = 1,
    .fields = testdev_fields,
};

static const struct device_ops testdev_ops = {
    .type = "testdev",
    .reset = testdev_reset,
    .destroy = testdev_destroy,
    .state = &testdev_state,
};

int testdev_new(struct testdev **out, struct memory *mem,
                const struct irq_line lines[TESTDEV_LINES])
{
    struct testdev *dev = calloc(1, sizeof(*dev));

    if (!dev)
        return -ENOMEM;
    dev->device = (struct device){.ops = &testdev_ops, .name = "testdev", .state_object = dev};
    for (unsigned i = 0; i < LATCHES; i++) {
        struct latch *latch = &dev->latch[i];

        latch->dev = dev;
        latch->region = (struct region){
            .name = "testdev latch", .ops = &latch_ops, .opaque = latch, .size = LATCH_SIZE};
    }
    dev->flush_region = (struct region){
        .name = "testdev flush", .ops = &flush_ops, .opaque = dev, .size = sizeof(uint32_t)};
    dev->lines_region = (struct region){
        .name = "testdev lines", .ops = &lines_ops, .opaque = dev, .size = TESTDEV_LINES};
    dev->memory_region = (struct region){.name = "testdev memory",
                                         .ops = &memory_bytes_ops,
                                         .opaque = dev,
                                         .size = TESTDEV_MEMORY_SIZE};
    dev->mem = mem;
    memcpy(dev->line, lines, sizeof(dev->line));
    pthread_mutex_init(&dev->lock, NULL);
    *out = dev;
    return 0;
}

int testdev_attach(struct testdev *dev, struct bus *bus, struct error *err)
{
    int r = bus_add(bus, BUS_PORT, &dev->flush_region, FLUSH_PORT, err);

    for (unsigned i = 0; i < LATCHES && !r; i++)
        r = bus_add(bus, BUS_PORT, &dev->latch[i].region, latch_port[i], err);
    if (!r)
        r = bus_add(bus, BUS_PORT, &dev->lines_region, LINES_PORT, err);
    if (!r)
        r = bus_add(bus, BUS_MMIO, &dev->memory_region, TESTDEV_MEMORY_BASE, err);
    return r;
}

struct device *testdev_device(struct testdev *dev)
{
    return &dev->device;
}
