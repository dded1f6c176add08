/* How a job goes from stage to stage; see ata.h. Nothing here knows a command. */
#include "dev/storage/ata_internal.h"

#include <errno.h>
#include <string.h>

/* DATA SET MANAGEMENT, ACS-3, 7.5.3: ranges of 48 bits of sector and 16 bits of length. */
#define TRIM_RANGE_SIZE 8
#define TRIM_SECTOR_MASK 0xffffffffffffull
#define TRIM_COUNT_SHIFT 48

void ata_job_begin(struct ata_job *job, struct ata_drive *drive, const struct ata_registers *regs)
{
    *job = (struct ata_job){
        .drive = drive,
        .regs = *regs,
        .stage = ATA_STAGE_DONE,
        .protocol = ATA_PROTOCOL_NONE,
        .block = ATA_SECTOR,
    };
    job->regs.error = 0;
    ata_command_begin(job);
}

void ata_job_packet(struct ata_job *job, const uint8_t packet[ATA_PACKET_SIZE])
{
    atapi_packet(job, packet);
}

void ata_job_succeed(struct ata_job *job)
{
    job->stage = ATA_STAGE_DONE;
    job->regs.status = ATA_STATUS_DRDY | ATA_STATUS_DSC;
    job->regs.error = 0;
    if (job->packet)
        job->regs.count = ATA_REASON_COMMAND | ATA_REASON_TO_HOST;
}

void ata_job_fail(struct ata_job *job, uint8_t error)
{
    struct ata_drive *drive = job->drive;

    job->stage = ATA_STAGE_DONE;
    job->regs.status = ATA_STATUS_DRDY | ATA_STATUS_DSC | ATA_STATUS_ERR;
    job->regs.error = error;
    if (job->packet)
        job->regs.count = ATA_REASON_COMMAND | ATA_REASON_TO_HOST;
    if (job->protocol == ATA_PROTOCOL_QUEUED && !drive->queue_error) {
        drive->queue_error = true;
        drive->queue_error_tag = job->tag;
        drive->queue_error_regs = job->regs;
    }
}

void ata_job_abort(struct ata_job *job)
{
    if (job->packet)
        atapi_fail(job, SENSE_ILLEGAL_REQUEST, 0x4b, 0); /* data phase error */
    else
        ata_job_fail(job, ATA_ERROR_ABRT);
}

void ata_job_medium_changed(struct ata_job *job)
{
    if (job->packet)
        atapi_medium_changed(job);
    else
        ata_job_abort(job);
}

void ata_job_give_data(struct ata_job *job, uint32_t length)
{
    job->stage = ATA_STAGE_DATA_IN;
    job->length = length;
    job->done = 0;
    if (!length)
        ata_job_succeed(job);
}

void ata_job_take_data(struct ata_job *job, uint32_t length, enum ata_follow_up follow_up)
{
    job->stage = ATA_STAGE_DATA_OUT;
    job->length = length;
    job->done = 0;
    job->follow_up = follow_up;
}

void ata_job_move(struct ata_job *job, bool write, uint64_t offset, uint32_t length)
{
    job->drive->standby = false;
    job->stage = ATA_STAGE_MEDIUM;
    job->write = write;
    job->offset = offset;
    job->length = length;
    job->done = 0;
    if (!length)
        ata_job_succeed(job);
}

void ata_job_flush(struct ata_job *job)
{
    job->stage = ATA_STAGE_IO;
    job->follow_up = ATA_THEN_FLUSH;
}

/* The next range that is to be trimmed; `done` bytes of them have been looked at. Ranges that the
 * disk does not have were refused when they came. */
static bool next_trim_range(struct ata_job *job, uint64_t *sector, uint32_t *sectors)
{
    while (job->done < job->length) {
        uint64_t range;
        memcpy(&range, job->drive->data + job->done, sizeof(range));
        job->done += TRIM_RANGE_SIZE;
        *sector = range & TRIM_SECTOR_MASK;
        *sectors = (uint32_t)(range >> TRIM_COUNT_SHIFT);
        if (*sectors && *sector < job->drive->blocks && *sectors <= job->drive->blocks - *sector)
            return true;
    }
    return false;
}

static bool trim_ranges_exist(struct ata_job *job)
{
    for (uint32_t at = 0; at < job->length; at += TRIM_RANGE_SIZE) {
        uint64_t range;
        memcpy(&range, job->drive->data + at, sizeof(range));
        uint64_t sector = range & TRIM_SECTOR_MASK;
        uint64_t sectors = range >> TRIM_COUNT_SHIFT;
        if (sectors && (sector >= job->drive->blocks || sectors > job->drive->blocks - sector))
            return false;
    }
    return true;
}

/* Goes on to the next range, or ends. */
static void continue_trim(struct ata_job *job)
{
    uint64_t sector;
    uint32_t sectors;

    if (!next_trim_range(job, &sector, &sectors)) {
        ata_job_succeed(job);
        return;
    }
    job->stage = ATA_STAGE_IO;
    job->offset = sector * ATA_SECTOR;
    job->current = sectors * ATA_SECTOR;
}

static void follow_up(struct ata_job *job)
{
    switch (job->follow_up) {
    case ATA_THEN_FLUSH:
        job->stage = ATA_STAGE_IO;
        break;
    case ATA_THEN_TRIM:
        if (!trim_ranges_exist(job)) {
            ata_job_fail(job, ATA_ERROR_IDNF | ATA_ERROR_ABRT);
            break;
        }
        job->done = 0;
        continue_trim(job);
        break;
    default:
        ata_job_succeed(job);
    }
}

void ata_job_medium_io(struct ata_job *job, struct iovec *iov, unsigned iov_count, uint32_t length)
{
    job->current = length;
    job->io = (struct block_request){
        .op = job->write ? BLOCK_WRITE : BLOCK_READ,
        .offset = job->offset + job->done,
        .length = length,
        .iov = iov,
        .iov_count = iov_count,
    };
}

void ata_job_plain_io(struct ata_job *job)
{
    if (job->follow_up == ATA_THEN_TRIM)
        job->io = (struct block_request){
            .op = BLOCK_DISCARD, .offset = job->offset, .length = job->current};
    else
        job->io = (struct block_request){.op = BLOCK_FLUSH};
}

/* The registers name the sector where it ended: ACS-3, 6.2.8. One that cannot be written is "not
 * found", as the error outputs of the write commands have it; "aborted" would tell drivers that the
 * drive does not know the command. */
static void medium_failed(struct ata_job *job)
{
    if (job->packet) {
        atapi_fail(job, SENSE_MEDIUM_ERROR, 0x11, 0); /* unrecovered read error */
        return;
    }
    job->regs.lba = (job->offset + job->done) / ATA_SECTOR;
    ata_job_fail(job, job->write ? ATA_ERROR_IDNF : ATA_ERROR_UNC);
}

void ata_job_io_done(struct ata_job *job, int result)
{
    if (job->stage == ATA_STAGE_IO) {
        if (result)
            ata_job_fail(job, ATA_ERROR_ABRT);
        else if (job->follow_up == ATA_THEN_TRIM)
            continue_trim(job);
        else
            ata_job_succeed(job);
        return;
    }
    if (result) {
        medium_failed(job);
        return;
    }
    job->done += job->current;
    if (job->done >= job->length)
        follow_up(job);
}

void ata_job_data_done(struct ata_job *job)
{
    if (job->stage == ATA_STAGE_DATA_OUT)
        follow_up(job);
    else
        ata_job_succeed(job);
}

bool ata_job_valid(const struct ata_job *job)
{
    const struct ata_drive *drive = job->drive;
    uint64_t block = drive->kind == ATA_DISK ? ATA_SECTOR : CD_BLOCK;
    uint64_t size = drive->blocks * block;

    if ((unsigned)job->stage >= ATA_STAGE_COUNT || (unsigned)job->protocol >= ATA_PROTOCOL_COUNT ||
        (unsigned)job->follow_up >= ATA_FOLLOW_UP_COUNT || job->tag >= ATA_QUEUE_DEPTH)
        return false;
    if (job->packet != (drive->kind == ATA_CDROM && job->regs.command == ATA_CMD_PACKET))
        return false;
    if (job->stage == ATA_STAGE_DONE)
        return true;
    if (!job->block || job->block > UINT16_MAX || job->done > job->length)
        return false;
    switch (job->stage) {
    case ATA_STAGE_PACKET:
        return job->packet;
    case ATA_STAGE_DATA_IN:
    case ATA_STAGE_DATA_OUT:
        return job->length <= ATA_DATA_SIZE && job->length;
    case ATA_STAGE_MEDIUM:
        return job->length && job->done < job->length && job->offset <= size &&
               job->length <= size - job->offset && (!job->write || drive->kind == ATA_DISK);
    default: /* ATA_STAGE_IO is over before a pause ends */
        return false;
    }
}
