/*
 * An ATA disk or an ATAPI CD-ROM drive behind any host controller: what its commands do.
 * ATA/ATAPI Command Set - 3 (ACS-3), ATA/ATAPI-7 for what older systems use, MMC-6, SPC-4.
 *
 * The drive knows no wire. A controller (ahci.c, ide.c) hands it the registers of a command and
 * then does what the job's stage asks for, until the job is done:
 *
 *     ata_job_begin()          decodes the registers
 *       PACKET                 the controller fetches the packet: ata_job_packet()
 *       MEDIUM                 data between guest and medium, in pieces: ata_job_medium_io(),
 *                              block_submit(), and ata_job_io_done() when it completes
 *       IO                     no data (flush, discard): ata_job_plain_io(), and the same
 *       DATA_IN, DATA_OUT      `length` bytes of drive->data to or from the guest:
 *                              ata_job_data_done()
 *       DONE                   the registers in job->regs, with status and error, are the answer
 *
 * Threads: everything is called with the controller's lock held; only block_submit() is not.
 */
#ifndef SILL_DEV_STORAGE_ATA_H
#define SILL_DEV_STORAGE_ATA_H

#include "base/error.h"
#include "block/block.h"
#include "state/state.h"

#define ATA_SECTOR 512
#define ATA_MULTIPLE_MAX 16 /* sectors a block of READ MULTIPLE can have */
#define ATA_QUEUE_DEPTH 32
#define ATA_DATA_SIZE 4096
#define ATA_PACKET_SIZE 12
#define CD_BLOCK 2048

/* Status register; ACS-3, 6.4 and ATA/ATAPI-7, 5.14 */
#define ATA_STATUS_ERR 0x01u /* CHK for packet commands */
#define ATA_STATUS_DRQ 0x08u
#define ATA_STATUS_DSC 0x10u
#define ATA_STATUS_DF 0x20u
#define ATA_STATUS_DRDY 0x40u
#define ATA_STATUS_BSY 0x80u

/* Error register */
#define ATA_ERROR_ABRT 0x04u
#define ATA_ERROR_IDNF 0x10u
#define ATA_ERROR_UNC 0x40u
#define ATA_ERROR_DIAGNOSTICS_PASSED 0x01u

/* Device register */
#define ATA_DEVICE_LBA 0x40u
#define ATA_DEVICE_SECOND 0x10u
#define ATA_DEVICE_FUA 0x80u /* queued writes */

/* Device control register */
#define ATA_CONTROL_NIEN 0x02u
#define ATA_CONTROL_SRST 0x04u
#define ATA_CONTROL_HOB 0x80u

/* Interrupt reason of packet commands, in the count register; ATA/ATAPI-7, 5.13 */
#define ATA_REASON_COMMAND 0x01u
#define ATA_REASON_TO_HOST 0x02u

/* The commands that controllers must know. */
#define ATA_CMD_DEVICE_RESET 0x08
#define ATA_CMD_DIAGNOSTIC 0x90
#define ATA_CMD_PACKET 0xa0

/* A drive's registers: 48-bit commands see all bits, others the low byte of count and feature and
 * the low three of lba. */
struct ata_registers {
    uint16_t feature;
    uint16_t count;
    uint64_t lba; /* low, mid, high, and what these held before */
    uint8_t device;
    uint8_t command;
    uint8_t status;
    uint8_t error;
};

enum ata_kind { ATA_DISK, ATA_CDROM };

/* What the guest is to be told about the disc; MMC-6, 6.6.2.3.5 media events. */
enum atapi_event {
    ATAPI_EVENT_NONE = 0,
    ATAPI_EVENT_EJECT_REQUEST = 1,
    ATAPI_EVENT_NEW_MEDIUM = 2,
    ATAPI_EVENT_REMOVED = 3,
};

struct ata_drive {
    enum ata_kind kind;
    struct block_device *medium; /* NULL: no disc */
    char serial[BLOCK_SERIAL_MAX + 1];
    bool sata;       /* on a serial link: NCQ, and no cable to be detected */
    uint64_t blocks; /* of the medium, of ATA_SECTOR or CD_BLOCK bytes */

    uint16_t heads, track_sectors; /* the translation in use: INITIALIZE DEVICE PARAMETERS */
    uint8_t multiple;              /* sectors, 0: not set */
    uint8_t transfer_mode;         /* as SET FEATURES gave it, 0: none */
    bool write_cache;
    bool look_ahead;
    bool standby;
    bool smart;

    /* Of a queued command that failed, for the log page 10h. */
    bool queue_error;
    uint8_t queue_error_tag;
    struct ata_registers queue_error_regs;

    /* ATAPI */
    uint8_t sense_key, sense_code, sense_qualifier;
    bool reset_attention;  /* to be reported: power on or reset */
    bool medium_attention; /* to be reported: the disc may have changed */
    bool tray_open;
    bool locked; /* PREVENT ALLOW MEDIUM REMOVAL */
    uint8_t event;

    uint8_t data[ATA_DATA_SIZE]; /* of the one command in progress that is not queued */
};

extern const struct state_field ata_registers_fields[];
extern const struct state_field ata_drive_fields[];
/* -EBADMSG when the state is of another disk. */
SILL_CHECKED int ata_drive_post_load(struct ata_drive *drive, const char *name, struct error *err);

struct ata_drive_config {
    enum ata_kind kind;
    struct block_device *medium; /* becomes the drive's; NULL: an empty CD-ROM drive */
    const char *serial;          /* NULL or "": one made of `index` */
    unsigned index;
    bool sata;
};

void ata_drive_init(struct ata_drive *drive, const struct ata_drive_config *config);
void ata_drive_done(struct ata_drive *drive);

/* As after power-on; the disc stays where it is, and so does the tray. */
void ata_drive_reset(struct ata_drive *drive);
/* Software reset and the like: what the registers show then. Settings survive. */
void ata_drive_signature(const struct ata_drive *drive, struct ata_registers *regs);

/*
 * The host takes the disc out and puts in another, or none. No job is in progress. `*old` is what
 * was in the drive, for block_close(). -EBUSY when the guest has locked the drive and `force` is
 * off: the guest is then told that somebody wants to have the disc.
 */
SILL_CHECKED int ata_drive_change(struct ata_drive *drive, struct block_device *medium, bool force,
                                  struct block_device **old);

/* ---- jobs ---- */

enum ata_stage {
    ATA_STAGE_DONE,
    ATA_STAGE_PACKET,
    ATA_STAGE_MEDIUM,
    ATA_STAGE_IO,
    ATA_STAGE_DATA_IN,
    ATA_STAGE_DATA_OUT,
    ATA_STAGE_COUNT,
};

enum ata_protocol {
    ATA_PROTOCOL_NONE, /* no data */
    ATA_PROTOCOL_PIO,
    ATA_PROTOCOL_DMA,
    ATA_PROTOCOL_QUEUED,
    ATA_PROTOCOL_COUNT,
};

/* What follows once the data has been moved. */
enum ata_follow_up { ATA_THEN_DONE, ATA_THEN_FLUSH, ATA_THEN_TRIM, ATA_FOLLOW_UP_COUNT };

struct ata_job {
    struct ata_drive *drive;
    struct ata_registers regs;
    enum ata_stage stage;
    enum ata_protocol protocol;
    enum ata_follow_up follow_up;
    bool packet;      /* a packet command, whose end differs */
    bool write;       /* ATA_STAGE_MEDIUM: towards the medium */
    uint8_t tag;      /* queued commands */
    uint32_t block;   /* bytes that PIO moves without another interrupt */
    uint64_t offset;  /* ATA_STAGE_MEDIUM: where on the medium, bytes */
    uint32_t length;  /* bytes to move in this stage */
    uint32_t done;    /* of them */
    uint32_t current; /* bytes of the request that is in flight */
    struct block_request io;
};

/* All that is not in flight. */
extern const struct state_field ata_job_fields[];
/* False for what no command leads to. `drive` is set. */
bool ata_job_valid(const struct ata_job *job);

/* Decodes `regs`. */
void ata_job_begin(struct ata_job *job, struct ata_drive *drive, const struct ata_registers *regs);
/* ATA_STAGE_PACKET: the packet is here. */
void ata_job_packet(struct ata_job *job, const uint8_t packet[ATA_PACKET_SIZE]);
/* ATA_STAGE_MEDIUM: makes job->io the request for the next `length` bytes, at most what remains.
 * The caller sets io.done. */
void ata_job_medium_io(struct ata_job *job, struct iovec *iov, unsigned iov_count, uint32_t length);
/* ATA_STAGE_IO: the same without data. */
void ata_job_plain_io(struct ata_job *job);
/* job->io completed. */
void ata_job_io_done(struct ata_job *job, int result);
/* ATA_STAGE_DATA_IN, ATA_STAGE_DATA_OUT: all bytes have been moved. */
void ata_job_data_done(struct ata_job *job);
/* Ends the job with an error that the controller met. */
void ata_job_abort(struct ata_job *job);
/* Ends it because the medium was changed. */
void ata_job_medium_changed(struct ata_job *job);

static inline bool ata_job_to_guest(const struct ata_job *job)
{
    return job->stage == ATA_STAGE_DATA_IN || (job->stage == ATA_STAGE_MEDIUM && !job->write);
}

#endif
