/* What the files of the drive share; ata.h is the drive from outside. */
#ifndef SILL_DEV_STORAGE_ATA_INTERNAL_H
#define SILL_DEV_STORAGE_ATA_INTERNAL_H

#include "dev/storage/ata.h"

/* SPC-4, 4.5.6 */
enum sense_key {
    SENSE_NONE = 0x0,
    SENSE_NOT_READY = 0x2,
    SENSE_MEDIUM_ERROR = 0x3,
    SENSE_ILLEGAL_REQUEST = 0x5,
    SENSE_UNIT_ATTENTION = 0x6,
};

/* ata_job.c: how a job goes on. */
void ata_job_succeed(struct ata_job *job);
void ata_job_fail(struct ata_job *job, uint8_t error);
void ata_job_give_data(struct ata_job *job, uint32_t length);
void ata_job_take_data(struct ata_job *job, uint32_t length, enum ata_follow_up follow_up);
/* offset and length lie on the medium. */
void ata_job_move(struct ata_job *job, bool write, uint64_t offset, uint32_t length);
void ata_job_flush(struct ata_job *job);

/* ata_command.c */
void ata_command_begin(struct ata_job *job);

/* ata_identify.c: each fills drive->data, and returns the length where it differs. */
void ata_fill_identify(struct ata_drive *drive);
void ata_fill_identify_packet(struct ata_drive *drive);
/* `count` pages of a log; false: there is no such log. */
bool ata_fill_log(struct ata_drive *drive, uint8_t log, uint16_t page, uint16_t count);
void ata_fill_smart(struct ata_drive *drive, bool thresholds);

/* atapi.c */
void atapi_packet(struct ata_job *job, const uint8_t *packet);
/* Ends the job with sense data. */
void atapi_fail(struct ata_job *job, enum sense_key key, uint8_t code, uint8_t qualifier);

/* Ends a packet command whose disc has gone or is another. */
void atapi_medium_changed(struct ata_job *job);

/* atapi_data.c: fill drive->data and return the length, 0 for what does not exist. */
uint32_t atapi_fill_inquiry(struct ata_drive *drive);
uint32_t atapi_fill_sense(struct ata_drive *drive);
uint32_t atapi_fill_capacity(struct ata_drive *drive);
uint32_t atapi_fill_toc(struct ata_drive *drive, const uint8_t *packet);
uint32_t atapi_fill_configuration(struct ata_drive *drive, const uint8_t *packet);
uint32_t atapi_fill_event(struct ata_drive *drive, const uint8_t *packet);
uint32_t atapi_fill_mode(struct ata_drive *drive, const uint8_t *packet);
uint32_t atapi_fill_disc_information(struct ata_drive *drive);
uint32_t atapi_fill_mechanism(struct ata_drive *drive);

/* Big-endian fields, as SCSI has them. */
static inline uint32_t get_be16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 8 | bytes[1];
}

static inline uint32_t get_be32(const uint8_t *bytes)
{
    return get_be16(bytes) << 16 | get_be16(bytes + 2);
}

static inline void put_be16(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
}

static inline void put_be32(uint8_t *bytes, uint32_t value)
{
    put_be16(bytes, value >> 16);
    put_be16(bytes + 2, value);
}

#endif
