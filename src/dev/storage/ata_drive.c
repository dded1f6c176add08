/* A drive's life, its disc and its state; see ata.h. */
#include "dev/storage/ata_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The translation that a disk has without being told another: ATA-5, annex C. */
#define DEFAULT_HEADS 16
#define DEFAULT_TRACK_SECTORS 63

/* ACS-3, 7.12 and table 206: what the registers show after a reset. */
#define SIGNATURE_PACKET 0xeb1401u
#define SIGNATURE_DISK 0x000001u

static uint64_t medium_blocks(const struct ata_drive *drive)
{
    if (!drive->medium)
        return 0;
    return drive->medium->size / (drive->kind == ATA_DISK ? ATA_SECTOR : CD_BLOCK);
}

void ata_drive_init(struct ata_drive *drive, const struct ata_drive_config *config)
{
    *drive =
        (struct ata_drive){.kind = config->kind, .medium = config->medium, .sata = config->sata};
    drive->blocks = medium_blocks(drive);
    if (config->serial && config->serial[0])
        snprintf(drive->serial, sizeof(drive->serial), "%s", config->serial);
    else
        snprintf(drive->serial, sizeof(drive->serial), "SILL%05u", config->index);
    ata_drive_reset(drive);
}

void ata_drive_done(struct ata_drive *drive)
{
    if (drive->medium)
        block_close(drive->medium);
    drive->medium = NULL;
}

void ata_drive_reset(struct ata_drive *drive)
{
    drive->heads = DEFAULT_HEADS;
    drive->track_sectors = DEFAULT_TRACK_SECTORS;
    drive->multiple = ATA_MULTIPLE_MAX;
    drive->transfer_mode = 0;
    drive->write_cache = drive->look_ahead = true;
    drive->standby = false;
    drive->smart = true;
    drive->queue_error = false;
    drive->sense_key = drive->sense_code = drive->sense_qualifier = 0;
    drive->reset_attention = true;
    drive->medium_attention = false;
    drive->locked = false;
    drive->event = ATAPI_EVENT_NONE;
    memset(drive->data, 0, sizeof(drive->data));
}

void ata_drive_signature(const struct ata_drive *drive, struct ata_registers *regs)
{
    bool disk = drive->kind == ATA_DISK;

    *regs = (struct ata_registers){
        .count = 1,
        .lba = disk ? SIGNATURE_DISK : SIGNATURE_PACKET,
        /* A packet device is ready for its own commands without DRDY: ATA/ATAPI-7, 9.1 */
        .status = disk ? ATA_STATUS_DRDY | ATA_STATUS_DSC : 0,
        .error = ATA_ERROR_DIAGNOSTICS_PASSED,
    };
}

int ata_drive_change(struct ata_drive *drive, struct block_device *medium, bool force,
                     struct block_device **old)
{
    if (drive->locked && drive->medium && !force) {
        drive->event = ATAPI_EVENT_EJECT_REQUEST;
        return -EBUSY;
    }
    *old = drive->medium;
    drive->medium = medium;
    drive->blocks = medium_blocks(drive);
    drive->locked = false;
    drive->tray_open = !medium;
    drive->event = medium ? ATAPI_EVENT_NEW_MEDIUM : ATAPI_EVENT_REMOVED;
    drive->medium_attention = medium != NULL;
    return 0;
}

int ata_drive_post_load(struct ata_drive *drive, const char *name, struct error *err)
{
    uint64_t blocks = medium_blocks(drive);

    if (drive->blocks != blocks && drive->kind == ATA_DISK)
        return error_set(err, -EBADMSG,
                         "%s: the disk had %llu sectors when the state was saved, %s has %llu",
                         name, (unsigned long long)drive->blocks, drive->medium->path,
                         (unsigned long long)blocks);
    if (!drive->heads || drive->heads > DEFAULT_HEADS || !drive->track_sectors ||
        drive->track_sectors > UINT8_MAX || drive->multiple > ATA_MULTIPLE_MAX)
        return error_set(err, -EBADMSG, "%s: impossible drive parameters", name);
    if (drive->blocks != blocks) { /* another disc has been put in meanwhile */
        drive->blocks = blocks;
        drive->event = blocks ? ATAPI_EVENT_NEW_MEDIUM : ATAPI_EVENT_REMOVED;
        drive->medium_attention = blocks;
    }
    return 0;
}

const struct state_field ata_registers_fields[] = {
    STATE_INT(struct ata_registers, feature), STATE_INT(struct ata_registers, count),
    STATE_INT(struct ata_registers, lba),     STATE_INT(struct ata_registers, device),
    STATE_INT(struct ata_registers, command), STATE_INT(struct ata_registers, status),
    STATE_INT(struct ata_registers, error),   STATE_END,
};

const struct state_field ata_drive_fields[] = {
    STATE_INT(struct ata_drive, blocks),
    STATE_INT(struct ata_drive, heads),
    STATE_INT(struct ata_drive, track_sectors),
    STATE_INT(struct ata_drive, multiple),
    STATE_INT(struct ata_drive, transfer_mode),
    STATE_BOOL(struct ata_drive, write_cache),
    STATE_BOOL(struct ata_drive, look_ahead),
    STATE_BOOL(struct ata_drive, standby),
    STATE_BOOL(struct ata_drive, smart),
    STATE_BOOL(struct ata_drive, queue_error),
    STATE_INT(struct ata_drive, queue_error_tag),
    STATE_STRUCT(struct ata_drive, queue_error_regs, ata_registers_fields),
    STATE_INT(struct ata_drive, sense_key),
    STATE_INT(struct ata_drive, sense_code),
    STATE_INT(struct ata_drive, sense_qualifier),
    STATE_BOOL(struct ata_drive, reset_attention),
    STATE_BOOL(struct ata_drive, medium_attention),
    STATE_BOOL(struct ata_drive, tray_open),
    STATE_BOOL(struct ata_drive, locked),
    STATE_INT(struct ata_drive, event),
    STATE_BYTES(struct ata_drive, data),
    STATE_END,
};

const struct state_field ata_job_fields[] = {
    STATE_STRUCT(struct ata_job, regs, ata_registers_fields),
    STATE_INT(struct ata_job, stage),
    STATE_INT(struct ata_job, protocol),
    STATE_INT(struct ata_job, follow_up),
    STATE_BOOL(struct ata_job, packet),
    STATE_BOOL(struct ata_job, write),
    STATE_INT(struct ata_job, tag),
    STATE_INT(struct ata_job, block),
    STATE_INT(struct ata_job, offset),
    STATE_INT(struct ata_job, length),
    STATE_INT(struct ata_job, done),
    STATE_END,
};
