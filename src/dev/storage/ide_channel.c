/*
 * One channel of the IDE controller: the registers of its two drives and the data port.
 * ATA/ATAPI-7, volume 1, chapter 5 (registers), volume 2, chapter 11 (protocols).
 *
 * Both drives take every write to their registers; the selected one answers. A drive that is alone
 * answers for the other one too, whose status then is 0.
 */
#include "dev/storage/ide_internal.h"

#include <string.h>

enum ide_register {
    REG_DATA = 0,
    REG_ERROR = 1, /* feature when written */
    REG_COUNT = 2,
    REG_LBA_LOW = 3,
    REG_LBA_HIGH = 5,
    REG_DEVICE = 6,
    REG_STATUS = 7, /* command when written */
};

#define DEVICE_FIXED 0xa0u /* bits that are always set */
#define READY (ATA_STATUS_DRDY | ATA_STATUS_DSC)

static struct ide_unit *selected(struct ide_channel *channel)
{
    return &channel->unit[channel->selected];
}

static struct ide_unit *owner(struct ide_channel *channel)
{
    return &channel->unit[channel->owner];
}

/* ---- interrupts ---- */

static void update_irq(struct ide_channel *channel)
{
    irq_line_set(&channel->irq, channel->interrupt && !(channel->control & ATA_CONTROL_NIEN));
}

static void raise(struct ide_channel *channel)
{
    channel->interrupt = true;
    ide_dma_interrupt(channel);
    update_irq(channel);
}

static void lower(struct ide_channel *channel)
{
    channel->interrupt = false;
    update_irq(channel);
}

/* ---- a job on its way ---- */

static void set_status(struct ide_channel *channel, uint8_t status)
{
    owner(channel)->regs.status = status;
    owner(channel)->regs.error = 0;
}

static void io_done(struct block_request *io, int result);

void ide_channel_submit(struct ide_channel *channel)
{
    channel->phase = IDE_BUSY;
    set_status(channel, ATA_STATUS_BSY);
    channel->job.io.done = io_done;
    ata_queue_add(&channel->queue, &channel->job.io);
}

/* The next `length` bytes of the medium move from or to the buffer. */
static void submit_buffer(struct ide_channel *channel, uint32_t length)
{
    channel->buffer_iov = (struct iovec){channel->buffer, length};
    ata_job_medium_io(&channel->job, &channel->buffer_iov, 1, length);
    ide_channel_submit(channel);
}

/* Offers the next block of the buffer, or asks for it. */
static void offer_block(struct ide_channel *channel, enum ide_phase phase, bool interrupt)
{
    const struct ata_job *job = &channel->job;
    uint32_t size = channel->filled - channel->position;
    struct ata_registers *regs = &owner(channel)->regs;

    if (size > job->block)
        size = job->block;
    channel->limit = channel->position + size;
    channel->phase = phase;
    set_status(channel, READY | ATA_STATUS_DRQ);
    if (job->packet) { /* the size is in LBA mid and high: ATA/ATAPI-7, 6.22.5 */
        regs->count = ATA_REASON_TO_HOST;
        regs->lba = (regs->lba & ~0xffff00ull) | (uint64_t)size << 8;
    }
    if (interrupt)
        raise(channel);
}

/* Gives the guest `length` bytes that are in the buffer. */
static void offer_buffer(struct ide_channel *channel, uint32_t length)
{
    channel->position = 0;
    channel->filled = length;
    offer_block(channel, IDE_READ, true);
}

static void ask_packet(struct ide_channel *channel)
{
    channel->position = 0;
    channel->filled = channel->limit = ATA_PACKET_SIZE;
    channel->phase = IDE_PACKET;
    set_status(channel, READY | ATA_STATUS_DRQ);
    owner(channel)->regs.count = ATA_REASON_COMMAND;
}

/* At most a buffer of what the job still has to move. */
static uint32_t next_chunk(const struct ata_job *job)
{
    uint32_t left = job->length - job->done;

    return left < IDE_BUFFER_SIZE ? left : IDE_BUFFER_SIZE;
}

/* Data from the guest; the first block of a command is asked for without an interrupt. */
static void ask_data(struct ide_channel *channel)
{
    channel->position = 0;
    channel->filled = next_chunk(&channel->job);
    offer_block(channel, IDE_WRITE, channel->job.done);
}

static void wait_for_master(struct ide_channel *channel)
{
    channel->phase = IDE_DMA;
    set_status(channel, READY | ATA_STATUS_DRQ);
    ide_dma_run(channel);
}

/* The last data that a command without a packet gave needs no interrupt: volume 2, 11.6. */
static void finish(struct ide_channel *channel)
{
    const struct ata_job *job = &channel->job;
    struct ata_registers *regs = &owner(channel)->regs;
    bool quiet = channel->phase == IDE_READ && !job->packet;

    if (job->protocol == ATA_PROTOCOL_DMA)
        ide_dma_finished(channel);
    *regs = job->regs;
    channel->phase = IDE_IDLE;
    if (!quiet && regs->command != ATA_CMD_DEVICE_RESET)
        raise(channel);
}

void ide_channel_continue(struct ide_channel *channel)
{
    struct ata_job *job = &channel->job;
    bool dma = job->protocol == ATA_PROTOCOL_DMA;

    switch (job->stage) {
    case ATA_STAGE_PACKET:
        ask_packet(channel);
        break;
    case ATA_STAGE_MEDIUM:
        if (dma)
            wait_for_master(channel);
        else if (job->write)
            ask_data(channel);
        else
            submit_buffer(channel, next_chunk(job));
        break;
    case ATA_STAGE_IO:
        ata_job_plain_io(job);
        ide_channel_submit(channel);
        break;
    case ATA_STAGE_DATA_IN:
        if (dma) {
            wait_for_master(channel);
            break;
        }
        memcpy(channel->buffer, job->drive->data, job->length);
        ata_job_data_done(job);
        offer_buffer(channel, job->length);
        break;
    case ATA_STAGE_DATA_OUT: /* no command takes such data by PIO */
        wait_for_master(channel);
        break;
    default:
        finish(channel);
    }
}

/* block_request.done: an I/O thread, or whoever submitted. */
static void io_done(struct block_request *io, int result)
{
    struct ide_channel *channel = CONTAINER_OF(io, struct ide_channel, job.io);
    struct ata_job *job = &channel->job;
    struct ide *ide = channel->ide;
    bool pio = job->protocol == ATA_PROTOCOL_PIO;

    if (io->op == BLOCK_READ && !pio)
        dma_list_mark_written(&channel->list, ide->pci.bus->memory);
    ide_enter(ide);
    ata_job_io_done(job, result);
    if (io->op == BLOCK_READ && pio && !result)
        offer_buffer(channel, job->current);
    else
        ide_channel_continue(channel);
    ata_queue_completed(&channel->queue);
    ide_dma_run(channel);
    ide_leave(ide);
}

/* The guest has moved all of the block. */
static void block_moved(struct ide_channel *channel)
{
    struct ata_job *job = &channel->job;

    switch (channel->phase) {
    case IDE_PACKET:
        ata_job_packet(job, channel->buffer);
        ide_channel_continue(channel);
        break;
    case IDE_READ:
        if (channel->position < channel->filled)
            offer_block(channel, IDE_READ, true);
        else
            ide_channel_continue(channel);
        break;
    default: /* IDE_WRITE */
        if (channel->position < channel->filled)
            offer_block(channel, IDE_WRITE, true);
        else
            submit_buffer(channel, channel->filled);
    }
}

/* ---- commands ---- */

static void diagnose(struct ide_channel *channel)
{
    for (unsigned i = 0; i < ARRAY_SIZE(channel->unit); i++)
        if (channel->unit[i].present)
            ata_drive_signature(&channel->unit[i].drive, &channel->unit[i].regs);
    channel->selected = 0;
}

static void write_command(struct ide_channel *channel, uint8_t command)
{
    struct ide_unit *unit = selected(channel);

    if (!unit->present)
        return;
    if (command == ATA_CMD_DEVICE_RESET && unit->drive.kind == ATA_CDROM &&
        channel->phase != IDE_IDLE) {
        ata_queue_drain(&channel->queue);
        channel->phase = IDE_IDLE;
    }
    if (channel->phase != IDE_IDLE)
        return;
    lower(channel);
    if (command == ATA_CMD_DIAGNOSTIC) {
        diagnose(channel);
        raise(channel);
        return;
    }
    unit->regs.command = command;
    channel->owner = channel->selected;
    ata_job_begin(&channel->job, &unit->drive, &unit->regs);
    /* Serial links have queued commands, this one has not. */
    if (channel->job.protocol == ATA_PROTOCOL_QUEUED)
        ata_job_abort(&channel->job);
    ide_channel_continue(channel);
}

void ide_channel_medium_changed(struct ide_channel *channel, unsigned unit)
{
    if (channel->phase == IDE_IDLE || channel->owner != unit)
        return;
    ata_job_medium_changed(&channel->job);
    channel->phase = IDE_BUSY; /* not the end of a read: the guest gets an interrupt */
    finish(channel);
}

/* SRST, volume 2, 11.2: the drives are busy until it goes. */
static void write_control(struct ide_channel *channel, uint8_t value)
{
    bool was = channel->control & ATA_CONTROL_SRST;
    bool reset = value & ATA_CONTROL_SRST;

    channel->control = value;
    if (reset && !was) {
        ata_queue_drain(&channel->queue);
        channel->phase = IDE_IDLE;
        channel->interrupt = false;
        for (unsigned i = 0; i < ARRAY_SIZE(channel->unit); i++)
            channel->unit[i].regs.status = ATA_STATUS_BSY;
    } else if (was && !reset) {
        diagnose(channel);
    }
    update_irq(channel);
}

void ide_channel_reset(struct ide_channel *channel)
{
    for (unsigned i = 0; i < ARRAY_SIZE(channel->unit); i++) {
        channel->unit[i].regs = (struct ata_registers){0};
        if (channel->unit[i].present)
            ata_drive_reset(&channel->unit[i].drive);
    }
    diagnose(channel);
    channel->phase = IDE_IDLE;
    channel->control = 0;
    channel->master_command = channel->master_status = 0;
    channel->master_table = 0;
    lower(channel);
}

/* ---- registers ---- */

static void write_register(struct ide_channel *channel, unsigned reg, uint8_t value)
{
    if (reg == REG_STATUS) {
        write_command(channel, value);
        return;
    }
    channel->control &= (uint8_t)~ATA_CONTROL_HOB;
    if (channel->phase != IDE_IDLE)
        return;
    if (reg == REG_DEVICE)
        channel->selected = !!(value & ATA_DEVICE_SECOND);
    for (unsigned i = 0; i < ARRAY_SIZE(channel->unit); i++) {
        struct ata_registers *regs = &channel->unit[i].regs;
        unsigned shift = 8 * (reg - REG_LBA_LOW);
        switch (reg) {
        case REG_ERROR:
            regs->feature = (uint16_t)(regs->feature << 8 | value);
            break;
        case REG_COUNT:
            regs->count = (uint16_t)(regs->count << 8 | value);
            break;
        case REG_DEVICE:
            regs->device = value;
            break;
        default: { /* the byte before moves to the upper half */
            uint64_t previous = regs->lba >> shift & 0xff;
            regs->lba &= ~(0xff0000ffull << shift);
            regs->lba |= (uint64_t)value << shift | previous << (shift + 24);
        }
        }
    }
}

static uint8_t read_status(struct ide_channel *channel)
{
    return selected(channel)->present ? selected(channel)->regs.status : 0;
}

static uint8_t read_register(struct ide_channel *channel, unsigned reg)
{
    const struct ata_registers *regs = &selected(channel)->regs;
    unsigned upper = channel->control & ATA_CONTROL_HOB ? 1 : 0;
    uint8_t status;

    switch (reg) {
    case REG_ERROR:
        return regs->error;
    case REG_COUNT:
        return (uint8_t)(regs->count >> 8 * upper);
    case REG_DEVICE:
        return regs->device | DEVICE_FIXED;
    case REG_STATUS:
        status = read_status(channel);
        lower(channel);
        return status;
    default:
        return (uint8_t)(regs->lba >> (8 * (reg - REG_LBA_LOW) + 24 * upper));
    }
}

static bool nobody(const struct ide_channel *channel)
{
    return !channel->unit[0].present && !channel->unit[1].present;
}

static uint64_t read_data(struct ide_channel *channel, unsigned size)
{
    uint64_t value = 0;

    if (channel->phase != IDE_READ)
        return 0;
    if (size > channel->limit - channel->position)
        size = channel->limit - channel->position;
    memcpy(&value, channel->buffer + channel->position, size);
    channel->position += size;
    if (channel->position == channel->limit)
        block_moved(channel);
    return value;
}

static void write_data(struct ide_channel *channel, unsigned size, uint64_t value)
{
    if (channel->phase != IDE_PACKET && channel->phase != IDE_WRITE)
        return;
    if (size > channel->limit - channel->position)
        size = channel->limit - channel->position;
    memcpy(channel->buffer + channel->position, &value, size);
    channel->position += size;
    if (channel->position == channel->limit)
        block_moved(channel);
}

static enum bus_result command_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct ide_channel *channel = opaque;

    if (nobody(channel)) /* nobody drives the wires */
        return BUS_UNHANDLED;
    ide_enter(channel->ide);
    if (offset == REG_DATA) {
        *value = read_data(channel, size);
    } else {
        *value = 0;
        for (unsigned i = 0; i < size; i++)
            *value |= (uint64_t)read_register(channel, (unsigned)offset + i) << 8 * i;
    }
    ide_leave(channel->ide);
    return BUS_OK;
}

static enum bus_result command_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct ide_channel *channel = opaque;

    if (nobody(channel))
        return BUS_UNHANDLED;
    ide_enter(channel->ide);
    if (offset == REG_DATA) {
        write_data(channel, size, value);
    } else {
        for (unsigned i = 0; i < size; i++)
            write_register(channel, (unsigned)offset + i, (uint8_t)(value >> 8 * i));
    }
    ide_leave(channel->ide);
    return BUS_OK;
}

const struct region_ops ide_command_ops = {
    .read = command_read,
    .write = command_write,
    .max_size = 4,
};

/* The alternate status: without an effect on the interrupt. */
static enum bus_result control_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct ide_channel *channel = opaque;

    if (nobody(channel))
        return BUS_UNHANDLED;
    ide_enter(channel->ide);
    *value = read_status(channel);
    ide_leave(channel->ide);
    return BUS_OK;
}

static enum bus_result control_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct ide_channel *channel = opaque;

    ide_enter(channel->ide);
    write_control(channel, (uint8_t)value);
    ide_leave(channel->ide);
    return BUS_OK;
}

const struct region_ops ide_control_ops = {
    .read = control_read,
    .write = control_write,
    .max_size = 1,
};

/* ---- state ---- */

/* What a saved channel may be at; nothing was in flight. */
bool ide_channel_valid(struct ide_channel *channel)
{
    const struct ata_job *job = &channel->job;
    bool data = channel->position < channel->limit && channel->limit <= channel->filled &&
                channel->filled <= IDE_BUFFER_SIZE;

    if (channel->selected > 1 || channel->owner > 1)
        return false;
    if (channel->phase == IDE_IDLE)
        return true;
    channel->job.drive = &owner(channel)->drive;
    if (!owner(channel)->present || !ata_job_valid(job))
        return false;
    switch (channel->phase) {
    case IDE_PACKET:
        return data && job->stage == ATA_STAGE_PACKET && channel->filled == ATA_PACKET_SIZE;
    case IDE_READ:
        return data &&
               (job->stage == ATA_STAGE_DONE || (job->stage == ATA_STAGE_MEDIUM && !job->write &&
                                                 job->protocol == ATA_PROTOCOL_PIO));
    case IDE_WRITE:
        return data && job->stage == ATA_STAGE_MEDIUM && job->write &&
               job->protocol == ATA_PROTOCOL_PIO && channel->filled == next_chunk(job);
    case IDE_DMA:
        return ide_dma_valid(channel) && job->protocol == ATA_PROTOCOL_DMA &&
               (job->stage == ATA_STAGE_MEDIUM || job->stage == ATA_STAGE_DATA_IN ||
                job->stage == ATA_STAGE_DATA_OUT);
    default:
        return false;
    }
}

static const struct state_field unit_fields[] = {
    STATE_STRUCT(struct ide_unit, drive, ata_drive_fields),
    STATE_STRUCT(struct ide_unit, regs, ata_registers_fields),
    STATE_END,
};

static const struct state_field cursor_fields[] = {
    STATE_INT(struct dma_cursor, entry),
    STATE_INT(struct dma_cursor, offset),
    STATE_END,
};

const struct state_field ide_channel_fields[] = {
    STATE_STRUCT_ARRAY(struct ide_channel, unit, unit_fields),
    STATE_INT(struct ide_channel, selected),
    STATE_INT(struct ide_channel, control),
    STATE_BOOL(struct ide_channel, interrupt),
    STATE_INT(struct ide_channel, phase),
    STATE_INT(struct ide_channel, owner),
    STATE_STRUCT(struct ide_channel, job, ata_job_fields),
    STATE_INT(struct ide_channel, position),
    STATE_INT(struct ide_channel, limit),
    STATE_INT(struct ide_channel, filled),
    STATE_BYTES(struct ide_channel, buffer),
    STATE_INT(struct ide_channel, master_command),
    STATE_INT(struct ide_channel, master_status),
    STATE_INT(struct ide_channel, master_table),
    STATE_INT(struct ide_channel, table_entries),
    STATE_STRUCT(struct ide_channel, cursor, cursor_fields),
    STATE_END,
};
