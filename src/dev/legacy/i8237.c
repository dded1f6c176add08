/* DMA controllers and page registers; see i8237.h. Register accesses come from vCPU threads,
 * transfers from the threads of devices. */
#include "dev/legacy/i8237.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CONTROLLERS 2
#define CHANNELS_EACH 4

/* Registers of a controller, "Software Commands" and "Register Description": the first eight are
 * address and count of the four channels in turn. */
enum {
    REG_STATUS_COMMAND = 8, /* status when read */
    REG_REQUEST = 9,
    REG_SINGLE_MASK = 10,
    REG_MODE = 11,
    REG_CLEAR_FLIP_FLOP = 12,
    REG_MASTER_CLEAR = 13, /* the temporary register when read */
    REG_CLEAR_MASKS = 14,
    REG_ALL_MASKS = 15,
    REGISTERS = 16,
};

enum {
    COMMAND_DISABLED = 1 << 2,
    MODE_DIRECTION = 3 << 2,
    MODE_VERIFY = 0 << 2,
    MODE_TO_MEMORY = 1 << 2,
    MODE_FROM_MEMORY = 2 << 2,
    MODE_AUTO_INITIALIZE = 1 << 4,
    MODE_DECREMENT = 1 << 5,
};

#define ALL_MASKED 0x0f
#define PAGE_FIRST 0x81
#define PAGE_COUNT 15

struct channel {
    uint16_t base_address, base_count;
    uint16_t address, count;
    uint8_t mode;
};

struct controller {
    struct channel channel[CHANNELS_EACH];
    uint8_t command;
    uint8_t mask;    /* a bit a channel */
    uint8_t status;  /* terminal counts in the low bits; reading clears them */
    bool upper_byte; /* the flip-flop: the next access is to the upper half */
};

struct i8237 {
    struct device device;
    struct region byte_region, word_region, page_region;
    struct memory *memory;

    pthread_mutex_t lock; /* all below; innermost but for memory's own */
    struct controller controller[CONTROLLERS];
    uint8_t page[PAGE_COUNT]; /* by port */
};

/* ---- registers ---- */

static void clear(struct controller *controller)
{
    controller->command = controller->status = 0;
    controller->upper_byte = false;
    controller->mask = ALL_MASKED;
}

/* Half of a 16-bit register, which one the flip-flop says. */
static uint8_t read_half(struct controller *controller, uint16_t value)
{
    uint8_t half = controller->upper_byte ? value >> 8 : value & 0xff;

    controller->upper_byte = !controller->upper_byte;
    return half;
}

static void write_half(struct controller *controller, uint16_t *base, uint16_t *current,
                       uint8_t value)
{
    if (controller->upper_byte)
        *base = (uint16_t)((*base & 0x00ff) | value << 8);
    else
        *base = (uint16_t)((*base & 0xff00) | value);
    *current = *base;
    controller->upper_byte = !controller->upper_byte;
}

static uint8_t read_register(struct controller *controller, unsigned reg)
{
    struct channel *channel = &controller->channel[reg / 2 % CHANNELS_EACH];
    uint8_t value = 0;

    if (reg < REG_STATUS_COMMAND)
        return read_half(controller, reg & 1 ? channel->count : channel->address);
    if (reg == REG_STATUS_COMMAND) {
        value = controller->status;
        controller->status = 0;
    } else if (reg == REG_ALL_MASKS) {
        value = controller->mask | 0xf0;
    }
    return value;
}

static void write_register(struct controller *controller, unsigned reg, uint8_t value)
{
    struct channel *channel = &controller->channel[reg / 2 % CHANNELS_EACH];

    switch (reg) {
    case REG_STATUS_COMMAND:
        controller->command = value;
        break;
    case REG_REQUEST: /* software requests: only memory to memory transfers need them */
        break;
    case REG_SINGLE_MASK:
        if (value & 1 << 2)
            controller->mask |= 1 << (value & 3);
        else
            controller->mask &= ~(1 << (value & 3));
        break;
    case REG_MODE:
        controller->channel[value & 3].mode = value & ~3;
        break;
    case REG_CLEAR_FLIP_FLOP:
        controller->upper_byte = false;
        break;
    case REG_MASTER_CLEAR:
        clear(controller);
        break;
    case REG_CLEAR_MASKS:
        controller->mask = 0;
        break;
    case REG_ALL_MASKS:
        controller->mask = value & ALL_MASKED;
        break;
    default:
        if (reg & 1)
            write_half(controller, &channel->base_count, &channel->count, value);
        else
            write_half(controller, &channel->base_address, &channel->address, value);
        break;
    }
}

static uint64_t locked_read(struct i8237 *dma, unsigned controller, unsigned reg)
{
    pthread_mutex_lock(&dma->lock);
    uint8_t value = read_register(&dma->controller[controller], reg);
    pthread_mutex_unlock(&dma->lock);
    return value;
}

static void locked_write(struct i8237 *dma, unsigned controller, unsigned reg, uint64_t value)
{
    pthread_mutex_lock(&dma->lock);
    write_register(&dma->controller[controller], reg, (uint8_t)value);
    pthread_mutex_unlock(&dma->lock);
}

static enum bus_result byte_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = locked_read(opaque, 0, (unsigned)offset);
    return BUS_OK;
}

static enum bus_result byte_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    locked_write(opaque, 0, (unsigned)offset, value);
    return BUS_OK;
}

/* The second controller's registers are two ports apart. */
static enum bus_result word_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = locked_read(opaque, 1, (unsigned)offset / 2);
    return BUS_OK;
}

static enum bus_result word_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    locked_write(opaque, 1, (unsigned)offset / 2, value);
    return BUS_OK;
}

static enum bus_result page_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct i8237 *dma = opaque;

    pthread_mutex_lock(&dma->lock);
    *value = dma->page[offset];
    pthread_mutex_unlock(&dma->lock);
    return BUS_OK;
}

static enum bus_result page_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8237 *dma = opaque;

    pthread_mutex_lock(&dma->lock);
    dma->page[offset] = (uint8_t)value;
    pthread_mutex_unlock(&dma->lock);
    return BUS_OK;
}

static const struct region_ops byte_ops = {.read = byte_read, .write = byte_write, .max_size = 1};
static const struct region_ops word_ops = {.read = word_read, .write = word_write, .max_size = 1};
static const struct region_ops page_ops = {.read = page_read, .write = page_write, .max_size = 1};

/* ---- transfers ---- */

/* Where the channel's unit (byte or word) at its address lies. Channels of words count in words and
 * leave out bit 0 of their page. */
static gpa_t unit_address(const struct i8237 *dma, unsigned channel, uint16_t address)
{
    static const uint8_t page_port[I8237_CHANNELS] = {0x87, 0x83, 0x81, 0x82,
                                                      0x8f, 0x8b, 0x89, 0x8a};
    gpa_t page = dma->page[page_port[channel] - PAGE_FIRST];

    if (channel < CHANNELS_EACH)
        return page << 16 | address;
    return (page & ~1ull) << 16 | (gpa_t)address << 1;
}

static void move_unit(struct i8237 *dma, gpa_t gpa, uint8_t *data, size_t size, uint8_t mode)
{
    if ((mode & MODE_DIRECTION) == MODE_TO_MEMORY) {
        int written = memory_write(dma->memory, gpa, data, size);
        (void)written; /* nothing there, or ROM */
    } else if ((mode & MODE_DIRECTION) == MODE_FROM_MEMORY &&
               memory_read(dma->memory, gpa, data, size)) {
        memset(data, 0xff, size);
    }
}

/* The count passes zero: returns whether the channel goes on, as it was programmed. */
static bool reach_terminal_count(struct controller *controller, unsigned index)
{
    struct channel *channel = &controller->channel[index];

    controller->status |= 1 << index;
    if (!(channel->mode & MODE_AUTO_INITIALIZE)) {
        controller->mask |= 1 << index;
        return false;
    }
    channel->address = channel->base_address;
    channel->count = channel->base_count;
    return true;
}

static bool may_transfer(const struct controller *controller, unsigned index, bool to_memory)
{
    uint8_t direction = controller->channel[index].mode & MODE_DIRECTION;

    return !(controller->command & COMMAND_DISABLED) && !(controller->mask & 1 << index) &&
           (direction == MODE_VERIFY ||
            direction == (to_memory ? MODE_TO_MEMORY : MODE_FROM_MEMORY));
}

size_t i8237_transfer(struct i8237 *dma, unsigned number, uint8_t *data, size_t length,
                      bool to_memory, bool *terminal_count)
{
    struct controller *controller = &dma->controller[number / CHANNELS_EACH];
    unsigned index = number % CHANNELS_EACH;
    struct channel *channel = &controller->channel[index];
    size_t unit = number < CHANNELS_EACH ? 1 : 2, moved = 0;

    *terminal_count = false;
    pthread_mutex_lock(&dma->lock);
    if (may_transfer(controller, index, to_memory)) {
        while (!*terminal_count && moved + unit <= length) {
            move_unit(dma, unit_address(dma, number, channel->address), data + moved, unit,
                      channel->mode);
            moved += unit;
            channel->address += channel->mode & MODE_DECREMENT ? -1 : 1;
            *terminal_count = channel->count-- == 0;
        }
        if (*terminal_count)
            reach_terminal_count(controller, index);
    }
    pthread_mutex_unlock(&dma->lock);
    return moved;
}

/* ---- lifecycle ---- */

static void i8237_reset(struct device *device)
{
    struct i8237 *dma = CONTAINER_OF(device, struct i8237, device);

    pthread_mutex_lock(&dma->lock);
    memset(dma->controller, 0, sizeof(dma->controller));
    memset(dma->page, 0, sizeof(dma->page));
    for (unsigned i = 0; i < CONTROLLERS; i++)
        clear(&dma->controller[i]);
    pthread_mutex_unlock(&dma->lock);
}

static void i8237_destroy(struct device *device)
{
    struct i8237 *dma = CONTAINER_OF(device, struct i8237, device);

    pthread_mutex_destroy(&dma->lock);
    free(dma);
}

static const struct state_field channel_fields[] = {
    STATE_INT(struct channel, base_address), STATE_INT(struct channel, base_count),
    STATE_INT(struct channel, address),      STATE_INT(struct channel, count),
    STATE_INT(struct channel, mode),         STATE_END,
};

static const struct state_field controller_fields[] = {
    STATE_STRUCT_ARRAY(struct controller, channel, channel_fields),
    STATE_INT(struct controller, command),
    STATE_INT(struct controller, mask),
    STATE_INT(struct controller, status),
    STATE_BOOL(struct controller, upper_byte),
    STATE_END,
};

static const struct state_field i8237_fields[] = {
    STATE_STRUCT_ARRAY(struct i8237, controller, controller_fields),
    STATE_BYTES(struct i8237, page),
    STATE_END,
};

static int i8237_post_load(void *object, struct error *err)
{
    struct i8237 *dma = object;

    for (unsigned i = 0; i < CONTROLLERS; i++)
        dma->controller[i].mask &= ALL_MASKED;
    return 0;
}

static const struct state_desc i8237_state = {
    .name = "i8237",
    .version = 1,
    .fields = i8237_fields,
    .post_load = i8237_post_load,
};

static const struct device_ops i8237_ops = {
    .type = "i8237",
    .reset = i8237_reset,
    .destroy = i8237_destroy,
    .state = &i8237_state,
};

int i8237_new(struct i8237 **out, struct memory *memory)
{
    struct i8237 *dma = calloc(1, sizeof(*dma));

    if (!dma)
        return -ENOMEM;
    dma->device = (struct device){.ops = &i8237_ops, .name = "dma", .state_object = dma};
    dma->memory = memory;
    dma->byte_region =
        (struct region){.name = "DMA 0-3", .ops = &byte_ops, .opaque = dma, .size = REGISTERS};
    dma->word_region =
        (struct region){.name = "DMA 4-7", .ops = &word_ops, .opaque = dma, .size = 2 * REGISTERS};
    dma->page_region =
        (struct region){.name = "DMA pages", .ops = &page_ops, .opaque = dma, .size = PAGE_COUNT};
    pthread_mutex_init(&dma->lock, NULL);
    i8237_reset(&dma->device);
    *out = dma;
    return 0;
}

int i8237_attach(struct i8237 *dma, struct bus *bus, struct error *err)
{
    int result = bus_add(bus, BUS_PORT, &dma->byte_region, 0x00, err);

    if (!result)
        result = bus_add(bus, BUS_PORT, &dma->word_region, 0xc0, err);
    return result ? result : bus_add(bus, BUS_PORT, &dma->page_region, PAGE_FIRST, err);
}

struct device *i8237_device(struct i8237 *dma)
{
    return &dma->device;
}
