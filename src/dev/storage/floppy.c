/*
 * Registers, phases and lifecycle of the floppy controller; see floppy.h. Register accesses come
 * from vCPU threads.
 *
 *     command bytes -> COMMAND -> EXECUTE (-> DATA, byte by byte) -> RESULT -> result bytes ->
 * COMMAND
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/storage/floppy_internal.h"

/* Registers from the base on, section 2. */
enum {
    REG_STATUS_A = 0,
    REG_STATUS_B = 1,
    REG_OUTPUT = 2,
    REG_TAPE = 3,
    REG_MAIN_STATUS = 4, /* data rate select when written */
    REG_DATA = 5,
    REG_INPUT = 7, /* configuration control when written */
};

enum {
    OUTPUT_DRIVE = 3,
    OUTPUT_NOT_RESET = 1 << 2,
    OUTPUT_DMA_GATE = 1 << 3,
    OUTPUT_MOTOR_A = 1 << 4,

    STATUS_REQUEST = 1 << 7, /* RQM: the data port is ready */
    STATUS_TO_HOST = 1 << 6, /* DIO */
    STATUS_NON_DMA = 1 << 5,
    STATUS_BUSY = 1 << 4,

    RATE_SOFTWARE_RESET = 1 << 7,
    INPUT_DISK_CHANGED = 1 << 7,
};

#define LOW_REGISTERS 6

static const struct floppy_geometry geometries[] = {
    {8, 1, 40, 1 << RATE_250K | 1 << RATE_300K, FLOPPY_360K},
    {9, 1, 40, 1 << RATE_250K | 1 << RATE_300K, FLOPPY_360K},
    {8, 2, 40, 1 << RATE_250K | 1 << RATE_300K, FLOPPY_360K},
    {9, 2, 40, 1 << RATE_250K | 1 << RATE_300K, FLOPPY_360K},
    {9, 2, 80, 1 << RATE_250K, FLOPPY_720K},
    {15, 2, 80, 1 << RATE_500K, FLOPPY_1200K},
    {18, 2, 80, 1 << RATE_500K, FLOPPY_1440K},
    {36, 2, 80, 1 << RATE_1M, FLOPPY_2880K},
};

struct floppy_drive *floppy_disk(struct floppy *fdc, unsigned number)
{
    return number < FLOPPY_DRIVES && fdc->drives[number].disk ? &fdc->drives[number] : NULL;
}

void floppy_interrupt(struct floppy *fdc, bool level)
{
    irq_line_set(&fdc->irq, level && fdc->output & OUTPUT_DMA_GATE);
}

void floppy_finish(struct floppy *fdc, const uint8_t *result, unsigned count, bool interrupts)
{
    memcpy(fdc->result, result, count);
    fdc->result_count = (uint8_t)count;
    fdc->result_at = 0;
    fdc->phase = FLOPPY_RESULT;
    if (interrupts)
        floppy_interrupt(fdc, true);
}

/* What is under way is given up. LOCK keeps what CONFIGURE has set over a reset by software. */
static void reset_core(struct floppy *fdc, bool keeps_configuration)
{
    fdc->phase = FLOPPY_COMMAND;
    fdc->command_count = fdc->result_count = fdc->result_at = 0;
    fdc->seek_ended = fdc->reset_senses = 0;
    fdc->stale = fdc->in_flight;
    fdc->postponed = false;
    if (!keeps_configuration || !fdc->locked)
        fdc->configure = fdc->precompensation_track = 0;
    floppy_interrupt(fdc, false);
}

/* The end of a reset by software interrupts, and each drive has something to tell. */
static void come_out_of_reset(struct floppy *fdc)
{
    fdc->reset_senses = 4;
    floppy_interrupt(fdc, true);
}

/* ---- registers ---- */

static uint8_t read_main_status(const struct floppy *fdc)
{
    if (!(fdc->output & OUTPUT_NOT_RESET))
        return 0;
    switch (fdc->phase) {
    case FLOPPY_COMMAND:
        return STATUS_REQUEST | (fdc->command_count ? STATUS_BUSY : 0);
    case FLOPPY_DATA:
        return STATUS_REQUEST | STATUS_NON_DMA | STATUS_BUSY | (fdc->is_write ? 0 : STATUS_TO_HOST);
    case FLOPPY_RESULT:
        return STATUS_REQUEST | STATUS_TO_HOST | STATUS_BUSY;
    default:
        return STATUS_BUSY;
    }
}

static uint8_t read_data(struct floppy *fdc)
{
    uint8_t value = 0;

    if (fdc->phase == FLOPPY_RESULT) {
        floppy_interrupt(fdc, false);
        value = fdc->result[fdc->result_at++];
        if (fdc->result_at == fdc->result_count)
            fdc->phase = FLOPPY_COMMAND;
    } else if (fdc->phase == FLOPPY_DATA && !fdc->is_write) {
        value = fdc->buffer[fdc->buffer_at++];
        if (fdc->buffer_at == FLOPPY_SECTOR)
            floppy_data_done(fdc);
    }
    return value;
}

static void write_data(struct floppy *fdc, uint8_t value)
{
    if (!(fdc->output & OUTPUT_NOT_RESET))
        return;
    if (fdc->phase == FLOPPY_COMMAND) {
        fdc->command[fdc->command_count++] = value;
        if (fdc->command_count == floppy_command_length(fdc->command[0]))
            floppy_run_command(fdc);
    } else if (fdc->phase == FLOPPY_DATA && fdc->is_write) {
        fdc->buffer[fdc->buffer_at++] = value;
        if (fdc->buffer_at == FLOPPY_SECTOR)
            floppy_data_done(fdc);
    }
}

static uint8_t read_input(const struct floppy *fdc)
{
    unsigned drive = fdc->output & OUTPUT_DRIVE;
    bool motor = fdc->output & OUTPUT_MOTOR_A << drive;

    if (drive >= FLOPPY_DRIVES || !motor || !fdc->drives[drive].geometry)
        return 0;
    return fdc->drives[drive].changed ? INPUT_DISK_CHANGED : 0;
}

static void write_output(struct floppy *fdc, uint8_t value)
{
    uint8_t old = fdc->output;

    fdc->output = value;
    if (old & OUTPUT_NOT_RESET && !(value & OUTPUT_NOT_RESET))
        reset_core(fdc, true);
    else if (!(old & OUTPUT_NOT_RESET) && value & OUTPUT_NOT_RESET)
        come_out_of_reset(fdc);
}

static uint8_t read_register(struct floppy *fdc, unsigned reg)
{
    switch (reg) {
    case REG_OUTPUT:
        return fdc->output;
    case REG_TAPE:
        return fdc->tape;
    case REG_MAIN_STATUS:
        return read_main_status(fdc);
    case REG_DATA:
        return read_data(fdc);
    case REG_INPUT:
        return read_input(fdc);
    case REG_STATUS_A:
    case REG_STATUS_B: /* PS/2 modes only */
    default:
        return 0xff;
    }
}

static void write_register(struct floppy *fdc, unsigned reg, uint8_t value)
{
    switch (reg) {
    case REG_OUTPUT:
        write_output(fdc, value);
        break;
    case REG_TAPE:
        fdc->tape = value & 3;
        break;
    case REG_MAIN_STATUS:
        fdc->rate = value & 3;
        if (value & RATE_SOFTWARE_RESET && fdc->output & OUTPUT_NOT_RESET) {
            reset_core(fdc, true);
            come_out_of_reset(fdc);
        }
        break;
    case REG_DATA:
        write_data(fdc, value);
        break;
    case REG_INPUT:
        fdc->rate = value & 3;
        break;
    default:
        break;
    }
}

static enum bus_result floppy_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct floppy *fdc = opaque;

    pthread_mutex_lock(&fdc->lock);
    *value = read_register(fdc, (unsigned)offset);
    pthread_mutex_unlock(&fdc->lock);
    return BUS_OK;
}

static enum bus_result floppy_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct floppy *fdc = opaque;

    pthread_mutex_lock(&fdc->lock);
    write_register(fdc, (unsigned)offset, (uint8_t)value);
    pthread_mutex_unlock(&fdc->lock);
    return BUS_OK;
}

/* The port between the two regions is the IDE controller's. */
static enum bus_result high_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    return floppy_read(opaque, REG_INPUT, size, value);
}

static enum bus_result high_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    return floppy_write(opaque, REG_INPUT, size, value);
}

static const struct region_ops low_ops = {
    .read = floppy_read, .write = floppy_write, .max_size = 1};
static const struct region_ops high_ops = {.read = high_read, .write = high_write, .max_size = 1};

/* ---- lifecycle ---- */

/* Until the command that is under way has come to the guest: at most a cylinder. */
static void wait_until_quiet(struct floppy *fdc)
{
    while (fdc->in_flight)
        pthread_cond_wait(&fdc->quiet, &fdc->lock);
}

static void floppy_pause(struct device *device)
{
    struct floppy *fdc = CONTAINER_OF(device, struct floppy, device);

    pthread_mutex_lock(&fdc->lock);
    wait_until_quiet(fdc);
    pthread_mutex_unlock(&fdc->lock);
}

static void floppy_reset(struct device *device)
{
    struct floppy *fdc = CONTAINER_OF(device, struct floppy, device);

    pthread_mutex_lock(&fdc->lock);
    wait_until_quiet(fdc);
    reset_core(fdc, false);
    fdc->output = OUTPUT_NOT_RESET | OUTPUT_DMA_GATE;
    fdc->tape = fdc->perpendicular = fdc->end_of_track = 0;
    fdc->locked = false;
    fdc->rate = RATE_250K;
    memset(fdc->specify, 0, sizeof(fdc->specify));
    memset(fdc->command, 0, sizeof(fdc->command));
    memset(fdc->result, 0, sizeof(fdc->result));
    memset(fdc->buffer, 0, sizeof(fdc->buffer));
    memset(fdc->seek_status, 0, sizeof(fdc->seek_status));
    for (unsigned i = 0; i < FLOPPY_DRIVES; i++) {
        fdc->drives[i].track = 0;
        fdc->drives[i].changed = fdc->drives[i].geometry != NULL;
    }
    pthread_mutex_unlock(&fdc->lock);
}

static void floppy_destroy(struct device *device)
{
    struct floppy *fdc = CONTAINER_OF(device, struct floppy, device);

    for (unsigned i = 0; i < FLOPPY_DRIVES; i++) {
        if (fdc->drives[i].disk)
            block_close(fdc->drives[i].disk);
    }
    pthread_cond_destroy(&fdc->quiet);
    pthread_mutex_destroy(&fdc->lock);
    free(fdc);
}

static int floppy_post_load(void *object, struct error *err)
{
    const struct floppy *fdc = object;

    if (fdc->phase >= FLOPPY_PHASES || fdc->phase == FLOPPY_EXECUTE ||
        fdc->command_count >= FLOPPY_COMMAND_MAX || fdc->result_count > FLOPPY_RESULT_MAX ||
        (fdc->phase == FLOPPY_RESULT && fdc->result_at >= fdc->result_count) ||
        (fdc->phase == FLOPPY_DATA && fdc->buffer_at >= FLOPPY_SECTOR) ||
        (fdc->command_count && fdc->command_count >= floppy_command_length(fdc->command[0])) ||
        fdc->drive > 3 || fdc->head > 1 || fdc->rate > 3 || fdc->reset_senses > 4 ||
        fdc->seek_ended > 15 || (fdc->phase == FLOPPY_DATA && fdc->drive >= FLOPPY_DRIVES))
        return error_set(err, -EBADMSG, "the floppy controller is in no state that exists");
    return 0;
}

static const struct state_field drive_fields[] = {
    STATE_INT(struct floppy_drive, track),
    STATE_BOOL(struct floppy_drive, changed),
    STATE_END,
};

static const struct state_field floppy_fields[] = {
    STATE_INT(struct floppy, output),
    STATE_INT(struct floppy, tape),
    STATE_INT(struct floppy, rate),
    STATE_INT(struct floppy, phase),
    STATE_BYTES(struct floppy, command),
    STATE_INT(struct floppy, command_count),
    STATE_BYTES(struct floppy, result),
    STATE_INT(struct floppy, result_count),
    STATE_INT(struct floppy, result_at),
    STATE_INT(struct floppy, reset_senses),
    STATE_INT(struct floppy, seek_ended),
    STATE_BYTES(struct floppy, seek_status),
    STATE_BYTES(struct floppy, specify),
    STATE_INT(struct floppy, configure),
    STATE_INT(struct floppy, precompensation_track),
    STATE_INT(struct floppy, perpendicular),
    STATE_INT(struct floppy, end_of_track),
    STATE_BOOL(struct floppy, locked),
    STATE_INT(struct floppy, drive),
    STATE_INT(struct floppy, head),
    STATE_INT(struct floppy, cylinder),
    STATE_INT(struct floppy, sector),
    STATE_INT(struct floppy, last_sector),
    STATE_INT(struct floppy, id_head),
    STATE_INT(struct floppy, size_code),
    STATE_INT(struct floppy, fill),
    STATE_BOOL(struct floppy, is_write),
    STATE_BOOL(struct floppy, is_verify),
    STATE_BOOL(struct floppy, is_format),
    STATE_BOOL(struct floppy, multi_track),
    STATE_BOOL(struct floppy, deleted),
    STATE_BOOL(struct floppy, terminal_count),
    STATE_BYTES(struct floppy, buffer),
    STATE_INT(struct floppy, buffer_at),
    STATE_STRUCT_ARRAY(struct floppy, drives, drive_fields),
    STATE_END,
};

static const struct state_desc floppy_state = {
    .name = "floppy",
    .version = 1,
    .fields = floppy_fields,
    .post_load = floppy_post_load,
};

static const struct device_ops floppy_ops = {
    .type = "floppy",
    .pause = floppy_pause,
    .reset = floppy_reset,
    .destroy = floppy_destroy,
    .state = &floppy_state,
};

int floppy_new(struct floppy **out, const struct floppy_config *config)
{
    struct floppy *fdc = calloc(1, sizeof(*fdc));

    if (!fdc)
        return -ENOMEM;
    fdc->device = (struct device){.ops = &floppy_ops, .name = "floppy", .state_object = fdc};
    fdc->irq = config->irq;
    fdc->dma = config->dma;
    fdc->low_region =
        (struct region){.name = "floppy", .ops = &low_ops, .opaque = fdc, .size = LOW_REGISTERS};
    fdc->high_region =
        (struct region){.name = "floppy rate", .ops = &high_ops, .opaque = fdc, .size = 1};
    pthread_mutex_init(&fdc->lock, NULL);
    pthread_cond_init(&fdc->quiet, NULL);
    *out = fdc;
    return 0;
}

int floppy_attach(struct floppy *fdc, struct bus *bus, struct error *err)
{
    int result = bus_add(bus, BUS_PORT, &fdc->low_region, FLOPPY_BASE, err);

    return result ? result
                  : bus_add(bus, BUS_PORT, &fdc->high_region, FLOPPY_BASE + REG_INPUT, err);
}

struct device *floppy_device(struct floppy *fdc)
{
    return &fdc->device;
}

static const struct floppy_geometry *find_geometry(uint64_t size)
{
    for (size_t i = 0; i < ARRAY_SIZE(geometries); i++) {
        const struct floppy_geometry *g = &geometries[i];
        if (size == (uint64_t)g->sectors * g->heads * g->tracks * FLOPPY_SECTOR)
            return g;
    }
    return NULL;
}

bool floppy_has_size(uint64_t size)
{
    return find_geometry(size);
}

int floppy_insert(struct floppy *fdc, unsigned number, struct block_device *disk, struct error *err)
{
    const struct floppy_geometry *geometry = find_geometry(disk->size);

    if (!geometry)
        return error_set(err, -EINVAL,
                         "%s has %llu bytes, which no floppy disk has: images of 160, 180, 320, "
                         "360 or 720 KiB, 1200, 1440 or 2880 KiB work",
                         disk->path, (unsigned long long)disk->size);
    fdc->drives[number].disk = disk;
    fdc->drives[number].geometry = geometry;
    fdc->drives[number].changed = true;
    return 0;
}

enum floppy_kind floppy_kind(const struct floppy *fdc, unsigned number)
{
    const struct floppy_geometry *geometry = fdc->drives[number].geometry;

    return geometry ? geometry->kind : FLOPPY_NONE;
}
