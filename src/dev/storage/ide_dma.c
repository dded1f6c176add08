/*
 * The bus master of an IDE channel: "Programming Interface for Bus Master IDE Controller", revision
 * 1.0. A table of physical region descriptors in guest memory says where the data goes:
 *
 *     dword 0  address, even
 *     dword 1  bits 15-1 length (0: 64 KiB), bit 31 end of the table
 */
#include "dev/storage/ide_internal.h"

#define MASTER_COMMAND 0
#define MASTER_STATUS 2
#define MASTER_TABLE 4
#define MASTER_SIZE 8 /* of a channel */

#define COMMAND_START 0x01u
#define COMMAND_TO_MEMORY 0x08u
#define STATUS_ACTIVE 0x01u
#define STATUS_ERROR 0x02u
#define STATUS_INTERRUPT 0x04u
#define STATUS_CAPABLE 0x60u /* software's notes: drives 0 and 1 can do DMA */

#define TABLE_MASK 0xfffffffcu
#define TABLE_BYTES 65536u
#define PRD_SIZE 8
#define PRD_END 0x80000000u
#define PRD_LENGTH 0xfffeu

static int prd_entry(void *opaque, uint32_t index, gpa_t *gpa, uint32_t *length)
{
    struct ide_channel *channel = opaque;
    uint32_t prd[2];

    if (index >= channel->table_entries)
        return 0;
    int ret = memory_read(channel->ide->pci.bus->memory,
                          (gpa_t)channel->master_table + (gpa_t)index * PRD_SIZE, prd, sizeof(prd));
    if (ret)
        return ret;
    *gpa = prd[0] & ~1u;
    *length = prd[1] & PRD_LENGTH ? prd[1] & PRD_LENGTH : 0x10000;
    if (prd[1] & PRD_END)
        channel->table_entries = index + 1;
    return 1;
}

static void restart_table(struct ide_channel *channel)
{
    channel->cursor = (struct dma_cursor){0};
    channel->table_entries = TABLE_BYTES / PRD_SIZE;
}

/* All lengths are even, and so is what was used of one; dma_list.c relies on it to get on. */
bool ide_dma_valid(const struct ide_channel *channel)
{
    return channel->table_entries <= TABLE_BYTES / PRD_SIZE &&
           channel->cursor.entry <= channel->table_entries && !(channel->cursor.offset & 1);
}

/* The drive goes on waiting where the table is too short, until software resets it. False: nothing
 * can be moved, for that reason or another. */
static bool gather(struct ide_channel *channel, uint32_t wanted)
{
    struct dma_table table = {channel->ide->pci.bus->memory, channel, prd_entry};
    int ret = dma_list_gather(&channel->list, &table, &channel->cursor, wanted,
                              ata_job_to_guest(&channel->job));

    if (!ret && !channel->list.ended)
        return true;
    channel->master_status &= (uint8_t)~STATUS_ACTIVE;
    restart_table(channel);
    if (ret) {
        channel->master_status |= STATUS_ERROR;
        ata_job_abort(&channel->job);
        ide_channel_continue(channel);
    }
    return false;
}

void ide_dma_run(struct ide_channel *channel)
{
    struct ata_job *job = &channel->job;
    struct memory *memory = channel->ide->pci.bus->memory;

    if (channel->phase != IDE_DMA || !(channel->master_status & STATUS_ACTIVE) ||
        channel->queue.held || !pci_bus_master(&channel->ide->pci) ||
        !gather(channel, job->length - job->done))
        return;
    switch (job->stage) {
    case ATA_STAGE_MEDIUM:
        ata_job_medium_io(job, channel->list.iov, channel->list.count, channel->list.length);
        ide_channel_submit(channel);
        return;
    case ATA_STAGE_DATA_IN:
        dma_list_copy_to_guest(&channel->list, memory, job->drive->data, job->length);
        break;
    default:
        dma_list_copy_from_guest(&channel->list, job->drive->data, job->length);
    }
    ata_job_data_done(job);
    ide_channel_continue(channel);
}

void ide_dma_interrupt(struct ide_channel *channel)
{
    channel->master_status |= STATUS_INTERRUPT;
}

/* With or without entries left in the table: software looks only at the interrupt and at errors. */
void ide_dma_finished(struct ide_channel *channel)
{
    channel->master_status &= (uint8_t)~STATUS_ACTIVE;
}

static void write_command(struct ide_channel *channel, uint8_t value)
{
    bool was = channel->master_command & COMMAND_START;
    bool start = value & COMMAND_START;

    if (was && !start) { /* nothing may move any more when this write is over */
        ata_queue_drain(&channel->queue);
        channel->master_status &= (uint8_t)~STATUS_ACTIVE;
    }
    channel->master_command = value & (COMMAND_START | COMMAND_TO_MEMORY);
    if (!was && start) {
        channel->master_status |= STATUS_ACTIVE;
        restart_table(channel);
        ide_dma_run(channel);
    }
}

static void write_byte(struct ide_channel *channel, unsigned offset, uint8_t value)
{
    switch (offset) {
    case MASTER_COMMAND:
        write_command(channel, value);
        break;
    case MASTER_STATUS:
        channel->master_status &= (uint8_t)~STATUS_CAPABLE;
        channel->master_status |= value & STATUS_CAPABLE;
        channel->master_status &= (uint8_t) ~(value & (STATUS_ERROR | STATUS_INTERRUPT));
        break;
    default:
        if (offset >= MASTER_TABLE) {
            unsigned shift = 8 * (offset - MASTER_TABLE);
            channel->master_table &= ~(0xffu << shift);
            channel->master_table |= (uint32_t)value << shift & TABLE_MASK;
        }
    }
}

static uint8_t read_byte(const struct ide_channel *channel, unsigned offset)
{
    switch (offset) {
    case MASTER_COMMAND:
        return channel->master_command;
    case MASTER_STATUS:
        return channel->master_status;
    }
    return offset >= MASTER_TABLE ? (uint8_t)(channel->master_table >> 8 * (offset - MASTER_TABLE))
                                  : 0;
}

static enum bus_result master_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct ide *ide = opaque;

    ide_enter(ide);
    *value = 0;
    for (unsigned i = 0; i < size; i++, offset++)
        *value |= (uint64_t)read_byte(&ide->channel[offset / MASTER_SIZE], offset % MASTER_SIZE)
                  << 8 * i;
    ide_leave(ide);
    return BUS_OK;
}

static enum bus_result master_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct ide *ide = opaque;

    /* Byte by byte, and each to its end: a write may wait for what the one before has started. */
    for (unsigned i = 0; i < size; i++, offset++) {
        ide_enter(ide);
        write_byte(&ide->channel[offset / MASTER_SIZE], offset % MASTER_SIZE,
                   (uint8_t)(value >> 8 * i));
        ide_leave(ide);
    }
    return BUS_OK;
}

const struct region_ops ide_master_ops = {
    .read = master_read,
    .write = master_write,
    .max_size = 4,
};
