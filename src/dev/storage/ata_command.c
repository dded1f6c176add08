/*
 * The commands of an ATA disk, and the few that a packet device has beside PACKET. ACS-3, chapter
 * 7; ATA/ATAPI-7 volume 1 for CHS addresses, INITIALIZE DEVICE PARAMETERS and MULTIPLE.
 */
#include "dev/storage/ata_internal.h"

#include <string.h>

enum {
    CMD_NOP = 0x00,
    CMD_DATA_SET_MANAGEMENT = 0x06,
    CMD_READ_NATIVE_MAX_EXT = 0x27,
    CMD_READ_LOG_EXT = 0x2f,
    CMD_READ_LOG_DMA_EXT = 0x47,
    CMD_READ_VERIFY = 0x40,
    CMD_READ_VERIFY_ONCE = 0x41,
    CMD_READ_VERIFY_EXT = 0x42,
    CMD_READ_FPDMA = 0x60,
    CMD_WRITE_FPDMA = 0x61,
    CMD_SEEK = 0x70,
    CMD_INITIALIZE_PARAMETERS = 0x91,
    CMD_IDENTIFY_PACKET = 0xa1,
    CMD_SMART = 0xb0,
    CMD_SET_MULTIPLE = 0xc6,
    CMD_STANDBY_IMMEDIATE = 0xe0,
    CMD_IDLE_IMMEDIATE = 0xe1,
    CMD_STANDBY = 0xe2,
    CMD_IDLE = 0xe3,
    CMD_CHECK_POWER = 0xe5,
    CMD_SLEEP = 0xe6,
    CMD_FLUSH = 0xe7,
    CMD_FLUSH_EXT = 0xea,
    CMD_IDENTIFY = 0xec,
    CMD_SET_FEATURES = 0xef,
    CMD_READ_NATIVE_MAX = 0xf8,
};

#define RECALIBRATE_GROUP 0x10 /* 0x10 to 0x1f */

/* Everything that moves sectors between guest and medium but queued commands. */
enum transfer_flags { EXT = 1, WRITE = 2, MULTIPLE = 4, FUA = 8, DMA = 16 };

static const struct transfer {
    uint8_t command;
    uint8_t flags;
} transfers[] = {
    {0x20, 0},                            /* READ SECTORS */
    {0x21, 0},                            /* READ SECTORS, without retries */
    {0x24, EXT},                          /* READ SECTORS EXT */
    {0x25, EXT | DMA},                    /* READ DMA EXT */
    {0x29, EXT | MULTIPLE},               /* READ MULTIPLE EXT */
    {0x30, WRITE},                        /* WRITE SECTORS */
    {0x31, WRITE},                        /* WRITE SECTORS, without retries */
    {0x34, EXT | WRITE},                  /* WRITE SECTORS EXT */
    {0x35, EXT | WRITE | DMA},            /* WRITE DMA EXT */
    {0x39, EXT | WRITE | MULTIPLE},       /* WRITE MULTIPLE EXT */
    {0x3d, EXT | WRITE | DMA | FUA},      /* WRITE DMA FUA EXT */
    {0xc4, MULTIPLE},                     /* READ MULTIPLE */
    {0xc5, WRITE | MULTIPLE},             /* WRITE MULTIPLE */
    {0xc8, DMA},                          /* READ DMA */
    {0xc9, DMA},                          /* READ DMA, without retries */
    {0xca, WRITE | DMA},                  /* WRITE DMA */
    {0xcb, WRITE | DMA},                  /* WRITE DMA, without retries */
    {0xce, EXT | WRITE | MULTIPLE | FUA}, /* WRITE MULTIPLE FUA EXT */
};

/* ---- addresses ---- */

/* Sector number of a command with CHS addresses; sectors count from 1. False: no such sector. */
static bool chs_sector(const struct ata_drive *drive, const struct ata_registers *regs,
                       uint64_t *sector)
{
    uint32_t number = regs->lba & 0xff;
    uint32_t cylinder = regs->lba >> 8 & 0xffff;
    uint32_t head = regs->device & 0xf;

    if (!number || number > drive->track_sectors || head >= drive->heads)
        return false;
    *sector = ((uint64_t)cylinder * drive->heads + head) * drive->track_sectors + number - 1;
    return true;
}

/* First sector and number of sectors; false: not all of them exist. */
static bool address(const struct ata_job *job, bool ext, uint64_t *sector, uint32_t *sectors)
{
    const struct ata_registers *regs = &job->regs;

    if (ext) {
        *sector = regs->lba;
        *sectors = regs->count ? regs->count : 0x10000;
    } else {
        *sectors = regs->count & 0xff ? regs->count & 0xff : 0x100;
        if (regs->device & ATA_DEVICE_LBA)
            *sector = (regs->lba & 0xffffff) | (uint64_t)(regs->device & 0xf) << 24;
        else if (!chs_sector(job->drive, regs, sector))
            return false;
    }
    return *sector < job->drive->blocks && *sectors <= job->drive->blocks - *sector;
}

/* ---- sectors ---- */

/* Nothing that the drive says is written may be lost with the host's power when the guest has
 * switched the write cache off. */
static void then_flush(struct ata_job *job, bool fua)
{
    if (fua || !job->drive->write_cache)
        job->follow_up = ATA_THEN_FLUSH;
}

static void begin_transfer(struct ata_job *job, const struct transfer *transfer)
{
    unsigned flags = transfer->flags;
    uint64_t sector;
    uint32_t sectors;

    job->protocol = flags & DMA ? ATA_PROTOCOL_DMA : ATA_PROTOCOL_PIO;
    if (!address(job, flags & EXT, &sector, &sectors)) {
        ata_job_fail(job, ATA_ERROR_IDNF);
        return;
    }
    if ((flags & MULTIPLE && !job->drive->multiple) ||
        (flags & WRITE && job->drive->medium->read_only)) {
        ata_job_fail(job, ATA_ERROR_ABRT);
        return;
    }
    if (flags & MULTIPLE)
        job->block = job->drive->multiple * ATA_SECTOR;
    if (flags & WRITE)
        then_flush(job, flags & FUA);
    ata_job_move(job, flags & WRITE, sector * ATA_SECTOR, sectors * ATA_SECTOR);
}

/* READ/WRITE FPDMA QUEUED, 7.23: the count is in the feature register, the tag in count. */
static void begin_queued(struct ata_job *job)
{
    const struct ata_registers *regs = &job->regs;
    bool write = regs->command == CMD_WRITE_FPDMA;
    uint32_t sectors = regs->feature ? regs->feature : 0x10000;

    job->protocol = ATA_PROTOCOL_QUEUED;
    job->tag = regs->count >> 3 & 0x1f;
    if (regs->lba >= job->drive->blocks || sectors > job->drive->blocks - regs->lba) {
        ata_job_fail(job, ATA_ERROR_IDNF);
        return;
    }
    if (write && job->drive->medium->read_only) {
        ata_job_fail(job, ATA_ERROR_ABRT);
        return;
    }
    if (write)
        then_flush(job, regs->device & ATA_DEVICE_FUA);
    ata_job_move(job, write, regs->lba * ATA_SECTOR, sectors * ATA_SECTOR);
}

static void begin_verify(struct ata_job *job)
{
    uint64_t sector;
    uint32_t sectors;

    if (address(job, job->regs.command == CMD_READ_VERIFY_EXT, &sector, &sectors))
        ata_job_succeed(job);
    else
        ata_job_fail(job, ATA_ERROR_IDNF);
}

/* 7.5: TRIM is the only function. */
static void begin_data_set_management(struct ata_job *job)
{
    job->protocol = ATA_PROTOCOL_DMA;
    /* One block of ranges at a time, as word 105 of IDENTIFY says. */
    if (!job->drive->medium->can_discard || !(job->regs.feature & 1) || job->regs.count != 1)
        ata_job_fail(job, ATA_ERROR_ABRT);
    else
        ata_job_take_data(job, ATA_SECTOR, ATA_THEN_TRIM);
}

/* ---- what the drive is, and how it is set up ---- */

static void begin_read_log(struct ata_job *job)
{
    uint8_t log = job->regs.lba & 0xff;
    uint16_t page = (uint16_t)((job->regs.lba >> 8 & 0xff) | (job->regs.lba >> 24 & 0xff00));

    job->protocol = job->regs.command == CMD_READ_LOG_DMA_EXT ? ATA_PROTOCOL_DMA : ATA_PROTOCOL_PIO;
    if (ata_fill_log(job->drive, log, page, job->regs.count))
        ata_job_give_data(job, job->regs.count * ATA_SECTOR);
    else
        ata_job_fail(job, ATA_ERROR_ABRT);
}

/* 7.48; the key in LBA mid and high guards against accidents. */
static void begin_smart(struct ata_job *job)
{
    enum { KEY = 0xc24f };
    struct ata_drive *drive = job->drive;
    uint8_t function = (uint8_t)job->regs.feature;

    if ((job->regs.lba >> 8 & 0xffff) != KEY || (!drive->smart && function != 0xd8)) {
        ata_job_fail(job, ATA_ERROR_ABRT);
        return;
    }
    switch (function) {
    case 0xd0: /* READ DATA */
    case 0xd1: /* READ THRESHOLDS */
        job->protocol = ATA_PROTOCOL_PIO;
        ata_fill_smart(drive, function == 0xd1);
        ata_job_give_data(job, ATA_SECTOR);
        return;
    case 0xd5: /* READ LOG */
        job->protocol = ATA_PROTOCOL_PIO;
        if (ata_fill_log(drive, job->regs.lba & 0xff, 0, job->regs.count & 0xff))
            ata_job_give_data(job, (job->regs.count & 0xff) * ATA_SECTOR);
        else
            ata_job_fail(job, ATA_ERROR_ABRT);
        return;
    case 0xd2: /* AUTOSAVE */
    case 0xd4: /* EXECUTE OFF-LINE IMMEDIATE: each test passes at once */
    case 0xda: /* RETURN STATUS: the key unchanged means that all is well */
        ata_job_succeed(job);
        return;
    case 0xd8: /* ENABLE */
    case 0xd9: /* DISABLE */
        drive->smart = function == 0xd8;
        ata_job_succeed(job);
        return;
    }
    ata_job_fail(job, ATA_ERROR_ABRT);
}

/* 7.45 */
static void begin_set_features(struct ata_job *job)
{
    struct ata_drive *drive = job->drive;
    bool disk = drive->kind == ATA_DISK;

    switch (job->regs.feature & 0xff) {
    case 0x02: /* write cache on */
    case 0x82: /* off; what it holds goes to the medium */
        if (!disk)
            break;
        drive->write_cache = (job->regs.feature & 0xff) == 0x02;
        if (drive->write_cache)
            ata_job_succeed(job);
        else
            ata_job_flush(job);
        return;
    case 0x03: /* transfer mode */
        drive->transfer_mode = (uint8_t)job->regs.count;
        ata_job_succeed(job);
        return;
    case 0x55: /* look-ahead off */
    case 0xaa: /* on */
        drive->look_ahead = (job->regs.feature & 0xff) == 0xaa;
        ata_job_succeed(job);
        return;
    case 0x66: /* settings survive a software reset, or not: they always do */
    case 0xcc:
        ata_job_succeed(job);
        return;
    }
    ata_job_fail(job, ATA_ERROR_ABRT);
}

static void begin_set_multiple(struct ata_job *job)
{
    unsigned sectors = job->regs.count & 0xff;

    if (sectors > ATA_MULTIPLE_MAX || (sectors & (sectors - 1))) {
        ata_job_fail(job, ATA_ERROR_ABRT);
        return;
    }
    job->drive->multiple = (uint8_t)sectors;
    ata_job_succeed(job);
}

static void begin_initialize_parameters(struct ata_job *job)
{
    if (!(job->regs.count & 0xff)) {
        ata_job_fail(job, ATA_ERROR_ABRT);
        return;
    }
    job->drive->heads = (job->regs.device & 0xf) + 1;
    job->drive->track_sectors = job->regs.count & 0xff;
    ata_job_succeed(job);
}

/* 7.32 (ATA8-ACS): the last address, in the registers. */
static void begin_read_native_max(struct ata_job *job)
{
    uint64_t last = job->drive->blocks - 1;

    if (job->regs.command == CMD_READ_NATIVE_MAX) {
        if (last > 0xfffffff)
            last = 0xfffffff;
        job->regs.device = (uint8_t)((job->regs.device & 0xf0) | (last >> 24 & 0xf));
        last &= 0xffffff;
    }
    job->regs.lba = last;
    ata_job_succeed(job);
}

/* Power management, ACS-3, 4.19. The medium never stops: all that can be seen is CHECK POWER MODE.
 */
static void begin_power(struct ata_job *job)
{
    enum { POWER_STANDBY = 0x00, POWER_ACTIVE = 0xff };
    struct ata_drive *drive = job->drive;

    switch (job->regs.command) {
    case CMD_CHECK_POWER:
        job->regs.count = drive->standby ? POWER_STANDBY : POWER_ACTIVE;
        break;
    case CMD_STANDBY_IMMEDIATE:
    case CMD_STANDBY:
    case CMD_SLEEP:
        drive->standby = true;
        if (drive->kind == ATA_DISK) { /* 7.55: the cache is written first */
            ata_job_flush(job);
            return;
        }
        break;
    default:
        drive->standby = false;
    }
    ata_job_succeed(job);
}

static void give_identify(struct ata_job *job)
{
    job->protocol = ATA_PROTOCOL_PIO;
    ata_job_give_data(job, ATA_SECTOR);
}

/* Commands that disks and packet devices have; false: it is none of them. */
static bool begin_common(struct ata_job *job)
{
    switch (job->regs.command) {
    case ATA_CMD_DIAGNOSTIC: {
        uint8_t device = job->regs.device;
        ata_drive_signature(job->drive, &job->regs);
        job->regs.device = device & ATA_DEVICE_SECOND;
        return true;
    }
    case CMD_SET_FEATURES:
        begin_set_features(job);
        return true;
    case CMD_STANDBY_IMMEDIATE:
    case CMD_IDLE_IMMEDIATE:
    case CMD_STANDBY:
    case CMD_IDLE:
    case CMD_CHECK_POWER:
    case CMD_SLEEP:
        begin_power(job);
        return true;
    }
    return false;
}

static void begin_cdrom(struct ata_job *job)
{
    switch (job->regs.command) {
    case ATA_CMD_PACKET:
        job->packet = true;
        job->protocol = job->regs.feature & 1 ? ATA_PROTOCOL_DMA : ATA_PROTOCOL_PIO;
        job->stage = ATA_STAGE_PACKET;
        job->length = ATA_PACKET_SIZE;
        /* The byte count limit, even; 0 is the largest: ATA/ATAPI-7, 6.22.4. */
        job->block = job->regs.lba >> 8 & 0xfffe;
        if (!job->block)
            job->block = 0xfffe;
        break;
    case ATA_CMD_DEVICE_RESET: {
        uint8_t device = job->regs.device;
        ata_drive_signature(job->drive, &job->regs);
        job->regs.device = device;
        break;
    }
    case CMD_IDENTIFY_PACKET:
        ata_fill_identify_packet(job->drive);
        give_identify(job);
        break;
    default:
        /* IDENTIFY DEVICE among them: the signature tells what the drive is, 7.12.6 */
        ata_job_fail(job, ATA_ERROR_ABRT);
        if (job->regs.command == CMD_IDENTIFY) {
            struct ata_registers signature;
            ata_drive_signature(job->drive, &signature);
            job->regs.lba = signature.lba;
            job->regs.count = signature.count;
        }
    }
}

static void begin_disk(struct ata_job *job)
{
    uint8_t command = job->regs.command;

    for (size_t i = 0; i < ARRAY_SIZE(transfers); i++) {
        if (transfers[i].command == command) {
            begin_transfer(job, &transfers[i]);
            return;
        }
    }
    switch (command) {
    case CMD_READ_FPDMA:
    case CMD_WRITE_FPDMA:
        begin_queued(job);
        return;
    case CMD_READ_VERIFY:
    case CMD_READ_VERIFY_ONCE:
    case CMD_READ_VERIFY_EXT:
        begin_verify(job);
        return;
    case CMD_DATA_SET_MANAGEMENT:
        begin_data_set_management(job);
        return;
    case CMD_READ_LOG_EXT:
    case CMD_READ_LOG_DMA_EXT:
        begin_read_log(job);
        return;
    case CMD_SMART:
        begin_smart(job);
        return;
    case CMD_SET_MULTIPLE:
        begin_set_multiple(job);
        return;
    case CMD_INITIALIZE_PARAMETERS:
        begin_initialize_parameters(job);
        return;
    case CMD_READ_NATIVE_MAX:
    case CMD_READ_NATIVE_MAX_EXT:
        begin_read_native_max(job);
        return;
    case CMD_FLUSH:
    case CMD_FLUSH_EXT:
        ata_job_flush(job);
        return;
    case CMD_IDENTIFY:
        ata_fill_identify(job->drive);
        give_identify(job);
        return;
    case CMD_SEEK:
        ata_job_succeed(job);
        return;
    }
    if ((command & 0xf0) == RECALIBRATE_GROUP)
        ata_job_succeed(job);
    else
        ata_job_fail(job, ATA_ERROR_ABRT);
}

void ata_command_begin(struct ata_job *job)
{
    if (begin_common(job))
        return;
    if (job->drive->kind == ATA_DISK)
        begin_disk(job);
    else
        begin_cdrom(job);
}
