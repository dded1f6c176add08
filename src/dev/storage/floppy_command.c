/* The commands of the floppy controller: 82078 data sheet, section 5. See floppy_internal.h. */
#include <string.h>

#include "dev/storage/floppy_internal.h"

/* First bytes; the upper three bits of some are MT, MFM and SK. */
enum {
    READ_TRACK = 0x02,
    SPECIFY = 0x03,
    SENSE_DRIVE_STATUS = 0x04,
    WRITE_DATA = 0x05,
    READ_DATA = 0x06,
    RECALIBRATE = 0x07,
    SENSE_INTERRUPT_STATUS = 0x08,
    WRITE_DELETED_DATA = 0x09,
    READ_ID = 0x0a,
    READ_DELETED_DATA = 0x0c,
    FORMAT_TRACK = 0x0d,
    DUMP_REGISTERS = 0x0e,
    SEEK = 0x0f,
    VERSION = 0x10,
    PERPENDICULAR_MODE = 0x12,
    CONFIGURE = 0x13,
    LOCK = 0x14,
    VERIFY = 0x16,
    PART_ID = 0x18,
    CODE = 0x1f,

    MULTI_TRACK = 0x80,
    LOCK_BIT = 0x80,
    RELATIVE = 0x80,
    IMPLIED_SEEK = 0x40, /* of CONFIGURE's second byte */
};

#define VERSION_82077 0x90 /* what all later ones say */
#define PART_82078 0x01
#define PERPENDICULAR_OVERWRITE 0x80
#define PERPENDICULAR_DRIVES 0x3c

#define ST3_WRITE_PROTECTED 0x40
#define ST3_ONES 0x28 /* ready, two sides */
#define ST3_TRACK_0 0x10

static void select_drive(struct floppy *fdc)
{
    fdc->drive = fdc->command[1] & 3;
    fdc->head = fdc->command[1] >> 2 & 1;
}

/* Steps of the heads tell a drive with a disk that it has been noticed. */
static void step_to(struct floppy_drive *drive, unsigned track)
{
    drive->track = (uint8_t)track;
    if (drive->disk)
        drive->changed = false;
}

static void end_seek(struct floppy *fdc, uint8_t status)
{
    fdc->phase = FLOPPY_COMMAND;
    fdc->seek_ended |= 1 << fdc->drive;
    fdc->seek_status[fdc->drive] = status | ST0_SEEK_END | fdc->drive;
    floppy_interrupt(fdc, true);
}

static void run_invalid(struct floppy *fdc)
{
    const uint8_t status = ST0_INVALID;

    floppy_finish(fdc, &status, 1, false);
}

static void run_specify(struct floppy *fdc)
{
    memcpy(fdc->specify, fdc->command + 1, sizeof(fdc->specify));
    fdc->phase = FLOPPY_COMMAND;
}

static void run_sense_drive(struct floppy *fdc)
{
    select_drive(fdc);
    uint8_t status = (fdc->command[1] & 7) | ST3_ONES;
    if (fdc->drive < FLOPPY_DRIVES) {
        const struct floppy_drive *drive = &fdc->drives[fdc->drive];
        if (drive->geometry && !drive->track)
            status |= ST3_TRACK_0;
        if (drive->disk && drive->disk->read_only)
            status |= ST3_WRITE_PROTECTED;
    }
    floppy_finish(fdc, &status, 1, false);
}

static void run_recalibrate(struct floppy *fdc)
{
    select_drive(fdc);
    if (fdc->drive < FLOPPY_DRIVES && fdc->drives[fdc->drive].geometry) {
        step_to(&fdc->drives[fdc->drive], 0);
        end_seek(fdc, 0);
    } else {
        end_seek(fdc, ST0_ABNORMAL | ST0_EQUIPMENT_CHECK); /* no track 0 signal ever came */
    }
}

static void run_seek(struct floppy *fdc)
{
    select_drive(fdc);
    if (fdc->drive < FLOPPY_DRIVES) {
        struct floppy_drive *drive = &fdc->drives[fdc->drive];
        unsigned track = fdc->command[2];
        if (fdc->command[0] & RELATIVE) /* its other bit says inwards */
            track = fdc->command[0] & 0x40 ? drive->track + track
                    : drive->track > track ? drive->track - track
                                           : 0;
        step_to(drive, track & 0xff);
    }
    end_seek(fdc, (uint8_t)(fdc->head << 2));
}

/* One thing at a time: the resets of the drives, then the seeks that ended. */
static void run_sense_interrupt(struct floppy *fdc)
{
    uint8_t result[2] = {0};

    floppy_interrupt(fdc, false);
    if (fdc->reset_senses) {
        unsigned drive = 4u - fdc->reset_senses--;
        result[0] = (uint8_t)(ST0_CHANGED | drive);
        result[1] = drive < FLOPPY_DRIVES ? fdc->drives[drive].track : 0;
    } else if (fdc->seek_ended) {
        unsigned drive = (unsigned)__builtin_ctz(fdc->seek_ended);
        fdc->seek_ended &= ~(1 << drive);
        result[0] = fdc->seek_status[drive];
        result[1] = drive < FLOPPY_DRIVES ? fdc->drives[drive].track : 0;
    } else {
        run_invalid(fdc);
        return;
    }
    floppy_finish(fdc, result, sizeof(result), false);
}

static void run_read_id(struct floppy *fdc)
{
    select_drive(fdc);
    fdc->is_write = fdc->is_format = fdc->deleted = false;
    floppy_read_id(fdc);
}

static void run_format(struct floppy *fdc)
{
    select_drive(fdc);
    fdc->size_code = fdc->command[2];
    fdc->last_sector = fdc->command[3];
    fdc->fill = fdc->command[5];
    fdc->id_head = fdc->head;
    fdc->is_format = fdc->is_write = true;
    fdc->is_verify = fdc->multi_track = fdc->deleted = false;
    floppy_start_format(fdc);
}

static void run_transfer(struct floppy *fdc)
{
    unsigned code = fdc->command[0] & CODE;

    select_drive(fdc);
    fdc->cylinder = fdc->command[2];
    fdc->id_head = fdc->command[3];
    fdc->sector = code == READ_TRACK ? 1 : fdc->command[4];
    fdc->size_code = fdc->command[5];
    fdc->last_sector = fdc->end_of_track = fdc->command[6];
    fdc->multi_track = fdc->command[0] & MULTI_TRACK && code != READ_TRACK;
    fdc->is_write = code == WRITE_DATA || code == WRITE_DELETED_DATA;
    fdc->is_verify = code == VERIFY;
    fdc->is_format = false;
    fdc->deleted = code == READ_DELETED_DATA || code == WRITE_DELETED_DATA;
    if (fdc->configure & IMPLIED_SEEK && fdc->drive < FLOPPY_DRIVES)
        step_to(&fdc->drives[fdc->drive], fdc->cylinder);
    floppy_start_transfer(fdc);
}

static void run_dump_registers(struct floppy *fdc)
{
    const uint8_t result[] = {
        fdc->drives[0].track,
        fdc->drives[1].track,
        0,
        0,
        fdc->specify[0],
        fdc->specify[1],
        fdc->end_of_track,
        (uint8_t)(fdc->locked ? LOCK_BIT : 0) | fdc->perpendicular,
        fdc->configure,
        fdc->precompensation_track,
    };
    floppy_finish(fdc, result, sizeof(result), false);
}

static void run_version(struct floppy *fdc)
{
    const uint8_t version = VERSION_82077;

    floppy_finish(fdc, &version, 1, false);
}

static void run_part_id(struct floppy *fdc)
{
    const uint8_t part = PART_82078;

    floppy_finish(fdc, &part, 1, false);
}

/* The drives' bits change only with OW. */
static void run_perpendicular(struct floppy *fdc)
{
    uint8_t drives =
        fdc->command[1] & PERPENDICULAR_OVERWRITE ? fdc->command[1] : fdc->perpendicular;

    fdc->perpendicular = (drives & PERPENDICULAR_DRIVES) | (fdc->command[1] & 3);
    fdc->phase = FLOPPY_COMMAND;
}

static void run_configure(struct floppy *fdc)
{
    fdc->configure = fdc->command[2];
    fdc->precompensation_track = fdc->command[3];
    fdc->phase = FLOPPY_COMMAND;
}

static void run_lock(struct floppy *fdc)
{
    fdc->locked = fdc->command[0] & LOCK_BIT;
    const uint8_t result = fdc->locked ? 0x10 : 0;
    floppy_finish(fdc, &result, 1, false);
}

static const struct command {
    uint8_t code;
    uint8_t options; /* those of the upper three bits that the command knows */
    uint8_t length;
    void (*run)(struct floppy *fdc);
} commands[] = {
    {READ_TRACK, 0x40, 9, run_transfer},
    {SPECIFY, 0, 3, run_specify},
    {SENSE_DRIVE_STATUS, 0, 2, run_sense_drive},
    {WRITE_DATA, 0xc0, 9, run_transfer},
    {READ_DATA, 0xe0, 9, run_transfer},
    {RECALIBRATE, 0, 2, run_recalibrate},
    {SENSE_INTERRUPT_STATUS, 0, 1, run_sense_interrupt},
    {WRITE_DELETED_DATA, 0xc0, 9, run_transfer},
    {READ_ID, 0x40, 2, run_read_id},
    {READ_DELETED_DATA, 0xe0, 9, run_transfer},
    {FORMAT_TRACK, 0x40, 6, run_format},
    {DUMP_REGISTERS, 0, 1, run_dump_registers},
    {SEEK, 0xc0, 3, run_seek},
    {VERSION, 0, 1, run_version},
    {PERPENDICULAR_MODE, 0, 2, run_perpendicular},
    {CONFIGURE, 0, 4, run_configure},
    {LOCK, 0x80, 1, run_lock},
    {VERIFY, 0xe0, 9, run_transfer},
    {PART_ID, 0, 1, run_part_id},
};

static const struct command *find(uint8_t first)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (commands[i].code == (first & CODE) && !(first & ~CODE & ~commands[i].options))
            return &commands[i];
    }
    return NULL;
}

unsigned floppy_command_length(uint8_t first)
{
    const struct command *command = find(first);

    return command ? command->length : 1;
}

void floppy_run_command(struct floppy *fdc)
{
    const struct command *command = find(fdc->command[0]);

    fdc->command_count = 0;
    if (command)
        command->run(fdc);
    else
        run_invalid(fdc);
}
