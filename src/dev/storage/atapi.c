/*
 * The packet commands of a CD-ROM drive: MMC-6, and SPC-4 for those of all SCSI devices. What they
 * answer with is in atapi_data.c.
 */
#include "dev/storage/ata_internal.h"

enum {
    OP_TEST_UNIT_READY = 0x00,
    OP_REQUEST_SENSE = 0x03,
    OP_INQUIRY = 0x12,
    OP_START_STOP_UNIT = 0x1b,
    OP_PREVENT_ALLOW_REMOVAL = 0x1e,
    OP_READ_CAPACITY = 0x25,
    OP_READ_10 = 0x28,
    OP_SEEK_10 = 0x2b,
    OP_SYNCHRONIZE_CACHE = 0x35,
    OP_READ_TOC = 0x43,
    OP_GET_CONFIGURATION = 0x46,
    OP_GET_EVENT_STATUS = 0x4a,
    OP_READ_DISC_INFORMATION = 0x51,
    OP_MODE_SENSE_10 = 0x5a,
    OP_READ_12 = 0xa8,
    OP_SET_CD_SPEED = 0xbb,
    OP_MECHANISM_STATUS = 0xbd,
    OP_READ_CD = 0xbe,
};

/* SPC-4, annex D: additional sense code and qualifier. */
#define ASC_INVALID_OPCODE 0x20
#define ASC_LBA_OUT_OF_RANGE 0x21
#define ASC_INVALID_FIELD 0x24
#define ASC_MEDIUM_CHANGED 0x28
#define ASC_RESET 0x29
#define ASC_NO_MEDIUM 0x3a
#define ASCQ_TRAY_CLOSED 0x01
#define ASCQ_TRAY_OPEN 0x02
#define ASC_REMOVAL_PREVENTED 0x53
#define ASCQ_REMOVAL_PREVENTED 0x02

/* What READ CD gives of a sector: only the user data of data sectors. MMC-6, 6.19.2.6 */
#define READ_CD_FIELDS 0xf8
#define READ_CD_USER_DATA 0x10

void atapi_fail(struct ata_job *job, enum sense_key key, uint8_t code, uint8_t qualifier)
{
    struct ata_drive *drive = job->drive;

    drive->sense_key = (uint8_t)key;
    drive->sense_code = code;
    drive->sense_qualifier = qualifier;
    /* The error register has the sense key in its upper half: ATA/ATAPI-7, 6.22.6. */
    ata_job_fail(job, (uint8_t)(key << 4) | ATA_ERROR_ABRT);
}

static void invalid_field(struct ata_job *job)
{
    atapi_fail(job, SENSE_ILLEGAL_REQUEST, ASC_INVALID_FIELD, 0);
}

static bool has_medium(const struct ata_drive *drive)
{
    return drive->medium && !drive->tray_open && drive->blocks;
}

/* Ends the job when there is no disc to work on. */
static bool require_medium(struct ata_job *job)
{
    if (has_medium(job->drive))
        return true;
    atapi_fail(job, SENSE_NOT_READY, ASC_NO_MEDIUM,
               job->drive->tray_open ? ASCQ_TRAY_OPEN : ASCQ_TRAY_CLOSED);
    return false;
}

/* Hands over what drive->data holds, as far as the packet allows. */
static void give(struct ata_job *job, uint32_t length, uint32_t allowed)
{
    if (!length)
        invalid_field(job);
    else
        ata_job_give_data(job, length < allowed ? length : allowed);
}

static void read_blocks(struct ata_job *job, uint32_t block, uint32_t count)
{
    if (!require_medium(job))
        return;
    if (block > job->drive->blocks || count > job->drive->blocks - block) {
        atapi_fail(job, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE, 0);
        return;
    }
    /* A job's length has 32 bits. No driver asks for a fraction of this. */
    if (count > UINT32_MAX / CD_BLOCK) {
        invalid_field(job);
        return;
    }
    ata_job_move(job, false, (uint64_t)block * CD_BLOCK, count * CD_BLOCK);
}

static void read_cd(struct ata_job *job, const uint8_t *packet)
{
    uint32_t count = (uint32_t)packet[6] << 16 | get_be16(packet + 7);

    if (!(packet[9] & READ_CD_FIELDS)) /* nothing of the sectors is wanted */
        ata_job_succeed(job);
    else if ((packet[9] & READ_CD_FIELDS) == READ_CD_USER_DATA && !(packet[10] & 7))
        read_blocks(job, get_be32(packet + 2), count);
    else
        invalid_field(job);
}

/* MMC-6, 6.42: LoEj and Start together move the tray. */
static void start_stop(struct ata_job *job, const uint8_t *packet)
{
    struct ata_drive *drive = job->drive;
    bool start = packet[4] & 1, move_tray = packet[4] & 2;

    if (move_tray && !start) {
        if (drive->locked) {
            atapi_fail(job, has_medium(drive) ? SENSE_ILLEGAL_REQUEST : SENSE_NOT_READY,
                       ASC_REMOVAL_PREVENTED, ASCQ_REMOVAL_PREVENTED);
            return;
        }
        if (!drive->tray_open)
            drive->event = ATAPI_EVENT_REMOVED;
        drive->tray_open = true;
    } else if (move_tray && drive->tray_open) {
        drive->tray_open = false;
        if (drive->medium) {
            drive->event = ATAPI_EVENT_NEW_MEDIUM;
            drive->medium_attention = true;
        }
    }
    ata_job_succeed(job);
}

/* SPC-4, 5.14: these are answered whatever is to be reported. */
static bool passes_attention(uint8_t op)
{
    return op == OP_INQUIRY || op == OP_REQUEST_SENSE || op == OP_GET_CONFIGURATION ||
           op == OP_GET_EVENT_STATUS;
}

/* Ends the job with what the guest must know first. */
static bool report_attention(struct ata_job *job)
{
    struct ata_drive *drive = job->drive;

    if (drive->reset_attention) {
        drive->reset_attention = false;
        atapi_fail(job, SENSE_UNIT_ATTENTION, ASC_RESET, 0);
        return true;
    }
    if (drive->medium_attention && has_medium(drive)) {
        drive->medium_attention = false;
        atapi_fail(job, SENSE_UNIT_ATTENTION, ASC_MEDIUM_CHANGED, 0);
        return true;
    }
    return false;
}

void atapi_medium_changed(struct ata_job *job)
{
    if (!require_medium(job))
        return;
    job->drive->medium_attention = false;
    atapi_fail(job, SENSE_UNIT_ATTENTION, ASC_MEDIUM_CHANGED, 0);
}

static void inquiry(struct ata_job *job, const uint8_t *packet)
{
    if (packet[1] & 1 || packet[2]) /* there are no vital product data pages */
        invalid_field(job);
    else
        give(job, atapi_fill_inquiry(job->drive), get_be16(packet + 3));
}

/* The commands that need no disc; false: it is none of them. */
static bool about_drive(struct ata_job *job, const uint8_t *packet)
{
    struct ata_drive *drive = job->drive;

    switch (packet[0]) {
    case OP_INQUIRY:
        inquiry(job, packet);
        return true;
    case OP_REQUEST_SENSE:
        give(job, atapi_fill_sense(drive), packet[4]);
        return true;
    case OP_START_STOP_UNIT:
        start_stop(job, packet);
        return true;
    case OP_PREVENT_ALLOW_REMOVAL:
        drive->locked = packet[4] & 1;
        ata_job_succeed(job);
        return true;
    case OP_GET_CONFIGURATION:
        give(job, atapi_fill_configuration(drive, packet), get_be16(packet + 7));
        return true;
    case OP_GET_EVENT_STATUS:
        give(job, atapi_fill_event(drive, packet), get_be16(packet + 7));
        return true;
    case OP_MODE_SENSE_10:
        give(job, atapi_fill_mode(drive, packet), get_be16(packet + 7));
        return true;
    case OP_MECHANISM_STATUS:
        give(job, atapi_fill_mechanism(drive), get_be16(packet + 8));
        return true;
    case OP_SYNCHRONIZE_CACHE:
    case OP_SET_CD_SPEED:
        ata_job_succeed(job);
        return true;
    }
    return false;
}

/* The same for those that do. */
static bool about_disc(struct ata_job *job, const uint8_t *packet)
{
    struct ata_drive *drive = job->drive;

    switch (packet[0]) {
    case OP_TEST_UNIT_READY:
        if (require_medium(job))
            ata_job_succeed(job);
        return true;
    case OP_READ_CAPACITY:
        if (require_medium(job))
            give(job, atapi_fill_capacity(drive), ATA_DATA_SIZE);
        return true;
    case OP_READ_10:
        read_blocks(job, get_be32(packet + 2), get_be16(packet + 7));
        return true;
    case OP_READ_12:
        read_blocks(job, get_be32(packet + 2), get_be32(packet + 6));
        return true;
    case OP_READ_CD:
        read_cd(job, packet);
        return true;
    case OP_SEEK_10:
        if (!require_medium(job))
            return true;
        if (get_be32(packet + 2) < drive->blocks)
            ata_job_succeed(job);
        else
            atapi_fail(job, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE, 0);
        return true;
    case OP_READ_TOC:
        if (require_medium(job))
            give(job, atapi_fill_toc(drive, packet), get_be16(packet + 7));
        return true;
    case OP_READ_DISC_INFORMATION:
        if (require_medium(job))
            give(job, atapi_fill_disc_information(drive), get_be16(packet + 7));
        return true;
    }
    return false;
}

void atapi_packet(struct ata_job *job, const uint8_t *packet)
{
    struct ata_drive *drive = job->drive;

    if (!passes_attention(packet[0]) && report_attention(job))
        return;
    /* Sense data is of the command before: SPC-4, 5.13. */
    if (packet[0] != OP_REQUEST_SENSE)
        drive->sense_key = drive->sense_code = drive->sense_qualifier = 0;
    if (!about_drive(job, packet) && !about_disc(job, packet))
        atapi_fail(job, SENSE_ILLEGAL_REQUEST, ASC_INVALID_OPCODE, 0);
}
