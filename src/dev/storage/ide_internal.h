/*
 * What the controller's files share: ide.c (PCI function, lifecycle), ide_channel.c (registers and
 * data port), ide_dma.c (bus master). All functions are called with ide.lock held.
 *
 * A channel does one command at a time, and is in one of these phases:
 *
 *     IDLE ---> PACKET ---> READ, WRITE ---> BUSY ---> IDLE
 *       |          `------> DMA -----------'  |
 *       `-> READ, WRITE, DMA, BUSY            `-> READ, WRITE, DMA: there is more
 *
 * In PACKET, READ and WRITE the guest moves data through the data port and `buffer`; in DMA the
 * drive waits for the bus master; in BUSY a request is in flight.
 */
#ifndef SILL_DEV_STORAGE_IDE_INTERNAL_H
#define SILL_DEV_STORAGE_IDE_INTERNAL_H

#include "dev/storage/ata_queue.h"
#include "dev/storage/dma_list.h"
#include "dev/storage/ide.h"

/* Read ahead and written behind within one command; a multiple of what READ MULTIPLE moves. */
#define IDE_BUFFER_SIZE 32768

enum ide_phase {
    IDE_IDLE,
    IDE_PACKET,
    IDE_READ,
    IDE_WRITE,
    IDE_DMA,
    IDE_BUSY,
};

struct ide_unit {
    bool present;
    struct ata_drive drive;
    struct ata_registers regs;
};

struct ide_channel {
    struct ide *ide;
    struct ide_unit unit[2];
    struct region command_block, control_block;
    struct irq_line irq;

    uint8_t selected;
    uint8_t control;
    bool interrupt; /* INTRQ of the selected drive */
    enum ide_phase phase;
    uint8_t owner; /* the unit that the job is of */
    struct ata_job job;

    /* The data port: bytes [position, limit) are what DRQ is set for, of `filled` in all. */
    uint32_t position, limit, filled;
    uint8_t buffer[IDE_BUFFER_SIZE];
    struct iovec buffer_iov;

    /* Bus master */
    uint8_t master_command, master_status;
    uint32_t master_table;
    uint32_t table_entries; /* of it, as far as they are known */
    struct dma_cursor cursor;
    struct dma_list list;

    struct ata_queue queue;
};

struct ide {
    struct pci_device pci;
    pthread_mutex_t lock;
    bool paused; /* the queues of both channels are held */
    struct ide_channel channel[IDE_CHANNELS];
};

/* ide.c */
void ide_enter(struct ide *ide);
void ide_leave(struct ide *ide);

/* ide_channel.c */
extern const struct region_ops ide_command_ops, ide_control_ops;
void ide_channel_reset(struct ide_channel *channel);
/* Goes on as the job's stage says. */
void ide_channel_continue(struct ide_channel *channel);
/* Submits job.io, which is ready but for `done`. */
void ide_channel_submit(struct ide_channel *channel);
/* Ends what the drive is at, of which the disc was changed. */
void ide_channel_medium_changed(struct ide_channel *channel, unsigned unit);
bool ide_channel_valid(struct ide_channel *channel);
extern const struct state_field ide_channel_fields[];

/* ide_dma.c */
extern const struct region_ops ide_master_ops;
/* In IDE_DMA: moves what can be moved, once software has started the bus master. */
void ide_dma_run(struct ide_channel *channel);
/* The drive asks for an interrupt, or the job is over. */
void ide_dma_interrupt(struct ide_channel *channel);
void ide_dma_finished(struct ide_channel *channel);
/* May a saved bus master be at this place in its table? */
bool ide_dma_valid(const struct ide_channel *channel);

#endif
