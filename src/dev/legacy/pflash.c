/*
 * Parallel NOR flash: see pflash.h. Chapter numbers are the 28F640J3 data sheet's.
 *
 * Programming and erasing take no time: when the guest can look at the status, they are done.
 * vCPU threads, under `lock`.
 */
#include "dev/legacy/pflash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* Commands (9.0, table 12). */
enum {
    COMMAND_ERASE = 0x20,
    COMMAND_PROGRAM_ALTERNATE = 0x10,
    COMMAND_PROGRAM = 0x40,
    COMMAND_CLEAR_STATUS = 0x50,
    COMMAND_LOCK = 0x60,
    COMMAND_READ_STATUS = 0x70,
    COMMAND_READ_ID = 0x90,
    COMMAND_QUERY = 0x98,
    COMMAND_CONFIRM = 0xd0,
    COMMAND_BUFFERED = 0xe8,
    COMMAND_READ_ARRAY = 0xff,
};

/* Status register (10.4, table 17). A real part sets READY at all times but while it is busy; here
 * clearing the status clears it too, until the next program or erase: OVMF takes a part for ROM
 * whose status is not zero then. */
enum {
    STATUS_PROGRAM_ERROR = 1 << 4,
    STATUS_ERASE_ERROR = 1 << 5,
    STATUS_SEQUENCE_ERROR = STATUS_PROGRAM_ERROR | STATUS_ERASE_ERROR,
    STATUS_READY = 1 << 7,
};

#define MANUFACTURER_INTEL 0x89
#define DEVICE_ID 0x18

#define WRITE_BUFFER_SHIFT 5
#define WRITE_BUFFER (1u << WRITE_BUFFER_SHIFT)
#define ERASED 0xff
#define TABLE_MASK 0xffu /* identifiers and query table repeat over the whole part */
#define QUERY_FIRST 0x10 /* what the query table has before this is the manufacturer's */

/* What reads give. */
enum view { VIEW_ARRAY, VIEW_STATUS, VIEW_ID, VIEW_QUERY, VIEW_COUNT };

/* What the next write is. */
enum cycle {
    CYCLE_COMMAND,
    CYCLE_PROGRAM, /* the byte to program */
    CYCLE_ERASE,   /* the confirmation */
    CYCLE_LOCK,    /* which kind of lock command */
    CYCLE_LENGTH,  /* bytes of a buffered program, less one */
    CYCLE_DATA,    /* `buffered` more of them */
    CYCLE_CONFIRM, /* the confirmation of a buffered program */
    CYCLE_COUNT
};

struct pflash {
    struct device device;
    struct region region;
    struct pflash_config config;
    uint8_t *shown; /* the memory slot's bytes */

    pthread_mutex_t lock; /* a device lock in the order of bus/irq.h; guards all below */
    uint8_t *contents;    /* always the same as `shown` */
    uint32_t size;
    uint8_t view, cycle, status;

    /* A buffered program: the part of the array that it started with, as it shall be. */
    uint8_t buffer[WRITE_BUFFER];
    uint32_t buffer_offset; /* multiple of WRITE_BUFFER */
    uint8_t buffered;       /* data cycles to come */
    bool buffer_started;    /* buffer_offset and buffer mean something */
};

static void set_view(struct pflash *flash, enum view view)
{
    bool was_shown = flash->view == VIEW_ARRAY, shown = view == VIEW_ARRAY;

    flash->view = view;
    if (shown != was_shown)
        flash->config.show(flash->config.opaque, flash->config.base, shown);
}

/* ---- the array ---- */

/* Makes the range hold `data`. The file goes first: what the guest sees as done must be there. */
static void array_write(struct pflash *flash, uint32_t offset, const uint8_t *data, uint32_t length,
                        uint8_t error)
{
    flash->status |= STATUS_READY;
    int result = flash->config.store(flash->config.opaque, offset, data, length);
    if (result) {
        flash->status |= error;
        return;
    }
    memcpy(flash->contents + offset, data, length);
    memcpy(flash->shown + offset, data, length);
    memory_mark_written(flash->config.memory, flash->config.base + offset, length);
}

/* Programming turns ones into zeroes (10.1). */
static void program_byte(struct pflash *flash, uint32_t offset, uint8_t value)
{
    value &= flash->contents[offset];
    array_write(flash, offset, &value, 1, STATUS_PROGRAM_ERROR);
}

static void erase_block(struct pflash *flash, uint32_t offset)
{
    uint8_t erased[256];

    memset(erased, ERASED, sizeof(erased));
    offset -= offset % flash->config.block_size;
    for (uint32_t done = 0; done < flash->config.block_size; done += sizeof(erased))
        array_write(flash, offset + done, erased, sizeof(erased), STATUS_ERASE_ERROR);
}

/* ---- the query table (11.0; JESD68.01, chapter 2) ---- */

static uint8_t log2_above(uint32_t value)
{
    uint8_t shift = 0;

    while ((1ull << shift) < value)
        shift++;
    return shift;
}

static uint8_t query_byte(const struct pflash *flash, unsigned at)
{
    uint32_t blocks = flash->size / flash->config.block_size;
    uint32_t block_units = flash->config.block_size / 256;
    const uint8_t table[] = {
        'Q',
        'R',
        'Y',
        0x01,
        0x00,
        0x31,
        0x00, /* primary command set and its table's place */
        0x00,
        0x00,
        0x00,
        0x00, /* no alternate one */
        0x45,
        0x55,
        0x00,
        0x00, /* supply 4.5 to 5.5 V, no programming voltage */
        0x07,
        0x07,
        0x0a,
        0x00, /* typical: 2^7 us for a byte and a buffer, 2^10 ms for a block */
        0x04,
        0x04,
        0x04,
        0x00, /* at most 2^4 times that */
        log2_above(flash->size),
        0x00,
        0x00, /* 8 bits wide */
        WRITE_BUFFER_SHIFT,
        0x00, /* 2^n bytes of write buffer */
        0x01, /* erase regions: one of... */
        (uint8_t)(blocks - 1),
        (uint8_t)((blocks - 1) >> 8), /* so many blocks of... */
        (uint8_t)block_units,
        (uint8_t)(block_units >> 8), /* so many times 256 bytes */
        'P',
        'R',
        'I',
        '1',
        '0',
        0x00,
        0x00,
        0x00,
        0x00, /* no suspending, no locking, ... */
        0x00,
        0x00,
        0x00,
        0x50,
        0x00, /* best supply 5 V */
        0x00, /* no protection registers */
    };

    return at >= QUERY_FIRST && at - QUERY_FIRST < sizeof(table) ? table[at - QUERY_FIRST] : 0;
}

static uint8_t id_byte(unsigned at)
{
    switch (at) {
    case 0:
        return MANUFACTURER_INTEL;
    case 1:
        return DEVICE_ID;
    default:
        return 0; /* the block is not locked */
    }
}

/* ---- the bus's side ---- */

static enum bus_result pflash_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct pflash *flash = opaque;

    pthread_mutex_lock(&flash->lock);
    switch ((enum view)flash->view) {
    case VIEW_STATUS:
        *value = flash->status;
        break;
    case VIEW_ID:
        *value = id_byte(offset & TABLE_MASK);
        break;
    case VIEW_QUERY:
        *value = query_byte(flash, offset & TABLE_MASK);
        break;
    default: /* the slot was shown again while this access was on its way */
        *value = flash->contents[offset];
    }
    pthread_mutex_unlock(&flash->lock);
    return BUS_OK;
}

static void begin(struct pflash *flash, enum cycle cycle)
{
    flash->cycle = cycle;
    set_view(flash, VIEW_STATUS);
}

static void sequence_error(struct pflash *flash, const char *what, uint8_t value)
{
    log_guest(flash->config.name, "%s: 0x%02x", what, value);
    flash->status |= STATUS_READY | STATUS_SEQUENCE_ERROR;
    flash->cycle = CYCLE_COMMAND;
    flash->buffered = 0;
}

static void command(struct pflash *flash, uint8_t value)
{
    switch (value) {
    case COMMAND_READ_ARRAY:
        set_view(flash, VIEW_ARRAY);
        break;
    case COMMAND_READ_STATUS:
        set_view(flash, VIEW_STATUS);
        break;
    case COMMAND_READ_ID:
        set_view(flash, VIEW_ID);
        break;
    case COMMAND_QUERY:
        set_view(flash, VIEW_QUERY);
        break;
    case COMMAND_CLEAR_STATUS:
        flash->status = 0;
        break;
    case COMMAND_PROGRAM:
    case COMMAND_PROGRAM_ALTERNATE:
        begin(flash, CYCLE_PROGRAM);
        break;
    case COMMAND_ERASE:
        begin(flash, CYCLE_ERASE);
        break;
    case COMMAND_LOCK:
        begin(flash, CYCLE_LOCK);
        break;
    case COMMAND_BUFFERED:
        flash->status |= STATUS_READY; /* a write buffer is free */
        begin(flash, CYCLE_LENGTH);
        break;
    default:
        log_guest(flash->config.name, "no such command: 0x%02x", value);
        set_view(flash, VIEW_ARRAY);
    }
}

static void buffer_length(struct pflash *flash, uint8_t value)
{
    if (value >= WRITE_BUFFER) {
        sequence_error(flash, "more than the write buffer takes", value);
        return;
    }
    flash->buffered = value + 1;
    flash->buffer_started = false;
    flash->cycle = CYCLE_DATA;
}

/* The first byte's address says which part of the array the buffer stands for (10.2). */
static void buffer_data(struct pflash *flash, uint32_t offset, uint8_t value)
{
    uint32_t part = offset - offset % WRITE_BUFFER;

    if (!flash->buffer_started) {
        flash->buffer_started = true;
        flash->buffer_offset = part;
        memcpy(flash->buffer, flash->contents + part, WRITE_BUFFER);
    }
    if (part != flash->buffer_offset) {
        sequence_error(flash, "buffered data for another place", value);
        return;
    }
    flash->buffer[offset - part] &= value;
    if (--flash->buffered == 0)
        flash->cycle = CYCLE_CONFIRM;
}

static enum bus_result pflash_write(void *opaque, uint64_t offset, unsigned size, uint64_t data)
{
    struct pflash *flash = opaque;
    uint8_t value = (uint8_t)data;
    uint32_t at = (uint32_t)offset;

    pthread_mutex_lock(&flash->lock);
    switch ((enum cycle)flash->cycle) {
    case CYCLE_PROGRAM:
        flash->cycle = CYCLE_COMMAND;
        program_byte(flash, at, value);
        break;
    case CYCLE_ERASE:
        flash->cycle = CYCLE_COMMAND;
        if (value == COMMAND_CONFIRM)
            erase_block(flash, at);
        else
            sequence_error(flash, "an erase that is not confirmed", value);
        break;
    case CYCLE_LOCK: /* there are no locks, so none can be set or cleared */
        flash->cycle = CYCLE_COMMAND;
        flash->status |= STATUS_READY;
        break;
    case CYCLE_LENGTH:
        buffer_length(flash, value);
        break;
    case CYCLE_DATA:
        buffer_data(flash, at, value);
        break;
    case CYCLE_CONFIRM:
        flash->cycle = CYCLE_COMMAND;
        if (value == COMMAND_CONFIRM)
            array_write(flash, flash->buffer_offset, flash->buffer, WRITE_BUFFER,
                        STATUS_PROGRAM_ERROR);
        else
            sequence_error(flash, "a buffered program that is not confirmed", value);
        break;
    default:
        command(flash, value);
    }
    pthread_mutex_unlock(&flash->lock);
    return BUS_OK;
}

/* The bus splits wider accesses: the part has eight data lines. */
static const struct region_ops pflash_region_ops = {
    .read = pflash_read, .write = pflash_write, .max_size = 1};

/* ---- lifecycle and state ---- */

/* RP# low: back to reading the array (9.1). What the array holds stays. */
static void pflash_reset(struct device *device)
{
    struct pflash *flash = CONTAINER_OF(device, struct pflash, device);

    pthread_mutex_lock(&flash->lock);
    flash->cycle = CYCLE_COMMAND;
    flash->status = STATUS_READY;
    flash->buffered = 0;
    flash->buffer_started = false;
    set_view(flash, VIEW_ARRAY);
    pthread_mutex_unlock(&flash->lock);
}

static void pflash_destroy(struct device *device)
{
    struct pflash *flash = CONTAINER_OF(device, struct pflash, device);

    pthread_mutex_destroy(&flash->lock);
    free(flash->contents);
    free(flash);
}

/* The restored contents become the guest's memory and, where there is one, the file's. */
static int pflash_post_load(void *object, struct error *err)
{
    struct pflash *flash = object;

    if (flash->size != flash->region.size)
        return error_set(err, -EBADMSG, "%s: saved with %u bytes, not %llu", flash->config.name,
                         flash->size, (unsigned long long)flash->region.size);
    if (flash->view >= VIEW_COUNT || flash->cycle >= CYCLE_COUNT ||
        (flash->cycle != CYCLE_COMMAND && flash->view == VIEW_ARRAY) ||
        flash->buffered > WRITE_BUFFER || (flash->cycle == CYCLE_DATA) != (flash->buffered != 0) ||
        (flash->cycle == CYCLE_CONFIRM && !flash->buffer_started) ||
        flash->buffer_offset % WRITE_BUFFER || flash->buffer_offset >= flash->size)
        return error_set(err, -EBADMSG, "%s: saved in a state that it cannot be in",
                         flash->config.name);
    int result = flash->config.store(flash->config.opaque, 0, flash->contents, flash->size);
    if (result)
        return error_set(err, -EBADMSG, "%s: its contents cannot be kept: %s", flash->config.name,
                         strerror(-result));
    memcpy(flash->shown, flash->contents, flash->size);
    memory_mark_written(flash->config.memory, flash->config.base, flash->size);
    flash->config.show(flash->config.opaque, flash->config.base, flash->view == VIEW_ARRAY);
    return 0;
}

#define PFLASH_MAX_SIZE (64 * MIB)

static const struct state_field pflash_fields[] = {
    STATE_INT(struct pflash, view),
    STATE_INT(struct pflash, cycle),
    STATE_INT(struct pflash, status),
    STATE_BYTES(struct pflash, buffer),
    STATE_INT(struct pflash, buffer_offset),
    STATE_INT(struct pflash, buffered),
    STATE_BOOL(struct pflash, buffer_started),
    STATE_BUFFER(struct pflash, contents, size, PFLASH_MAX_SIZE),
    STATE_END,
};

static const struct state_desc pflash_state = {
    .name = "pflash",
    .version = 1,
    .fields = pflash_fields,
    .post_load = pflash_post_load,
};

static const struct device_ops pflash_ops = {
    .type = "pflash",
    .reset = pflash_reset,
    .destroy = pflash_destroy,
    .state = &pflash_state,
};

int pflash_new(struct pflash **out, const struct pflash_config *config)
{
    const struct memory_slot *slot = memory_find(config->memory, config->base);
    struct pflash *flash = calloc(1, sizeof(*flash));

    if (!flash)
        return -ENOMEM;
    flash->contents = malloc(slot->size);
    if (!flash->contents) {
        free(flash);
        return -ENOMEM;
    }
    flash->device =
        (struct device){.ops = &pflash_ops, .name = config->name, .state_object = flash};
    flash->region = (struct region){
        .name = config->name, .ops = &pflash_region_ops, .opaque = flash, .size = slot->size};
    flash->config = *config;
    flash->shown = slot->host;
    flash->size = (uint32_t)slot->size;
    memcpy(flash->contents, flash->shown, flash->size);
    flash->status = STATUS_READY;
    pthread_mutex_init(&flash->lock, NULL);
    *out = flash;
    return 0;
}

int pflash_attach(struct pflash *flash, struct bus *bus, struct error *err)
{
    return bus_add(bus, BUS_MMIO, &flash->region, flash->config.base, err);
}

struct device *pflash_device(struct pflash *flash)
{
    return &flash->device;
}
