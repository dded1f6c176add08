/*
 * What the floppy controller's files share: floppy.c (registers, phases, lifecycle),
 * floppy_command.c (commands) and floppy_transfer.c (sectors on their way). Nobody else includes
 * this. All functions are called with the controller's lock held.
 */
#ifndef SILL_DEV_STORAGE_FLOPPY_INTERNAL_H
#define SILL_DEV_STORAGE_FLOPPY_INTERNAL_H

#include <pthread.h>

#include "dev/storage/floppy.h"

#define FLOPPY_SECTOR 512
#define FLOPPY_SIZE_CODE 2 /* N of sectors of 512 bytes */
#define FLOPPY_SECTORS_MAX 36
#define FLOPPY_COMMAND_MAX 9
#define FLOPPY_RESULT_MAX 10

/* Status register 0, 6.1. */
enum {
    ST0_ABNORMAL = 1 << 6,
    ST0_INVALID = 2 << 6,
    ST0_CHANGED = 3 << 6,
    ST0_SEEK_END = 1 << 5,
    ST0_EQUIPMENT_CHECK = 1 << 4,
};

/* Status register 1, 6.2. */
enum {
    ST1_END_OF_CYLINDER = 1 << 7,
    ST1_OVERRUN = 1 << 4,
    ST1_NO_DATA = 1 << 2,
    ST1_NOT_WRITABLE = 1 << 1,
    ST1_MISSING_MARK = 1 << 0,
    ST1_DATA_ERROR = 1 << 5,
};

/* Status register 2, 6.3. */
enum { ST2_CONTROL_MARK = 1 << 6, ST2_DATA_ERROR = 1 << 5, ST2_WRONG_CYLINDER = 1 << 4 };

/* Data rates as CCR and DSR write them. */
enum { RATE_500K = 0, RATE_300K = 1, RATE_250K = 2, RATE_1M = 3 };

struct floppy_geometry {
    unsigned sectors, heads, tracks;
    unsigned rates; /* a bit for each that reads it */
    enum floppy_kind kind;
};

struct floppy_drive {
    struct block_device *disk;
    const struct floppy_geometry *geometry; /* NULL: there is no such drive */
    uint8_t track;                          /* where the heads are */
    bool changed;                           /* the disk change line: until the heads step */
};

enum floppy_phase {
    FLOPPY_COMMAND, /* takes command bytes */
    FLOPPY_EXECUTE, /* a sector is on its way, or DMA is */
    FLOPPY_DATA,    /* the guest moves the sector's bytes through the data port */
    FLOPPY_RESULT,  /* has result bytes */
    FLOPPY_PHASES
};

struct floppy {
    struct device device;
    struct region low_region, high_region;
    struct irq_line irq;
    struct i8237 *dma;

    pthread_mutex_t lock; /* a device lock in the order of bus/irq.h; guards all below */
    pthread_cond_t quiet; /* in_flight fell */
    bool in_flight;       /* `request` is the image's */
    bool stale;           /* and what it was for was given up by a reset */
    bool postponed;       /* a transfer waits for the stale request */
    struct block_request request;
    struct iovec iov;

    uint8_t output; /* DOR */
    uint8_t tape;   /* TDR */
    uint8_t rate;
    uint8_t phase;
    uint8_t command[FLOPPY_COMMAND_MAX], command_count;
    uint8_t result[FLOPPY_RESULT_MAX], result_count, result_at;

    /* Interrupts of seeks and resets wait to be asked for by SENSE INTERRUPT STATUS. */
    uint8_t reset_senses;                   /* so many drives still report their reset */
    uint8_t seek_ended;                     /* a bit a drive */
    uint8_t seek_status[FLOPPY_DRIVES + 2]; /* and its ST0 */

    uint8_t specify[2]; /* step rate and head times; bit 0 of the second: no DMA */
    uint8_t configure, precompensation_track, perpendicular, end_of_track;
    bool locked;

    /* The transfer: which drive, where it is, where it ends. */
    uint8_t drive, head, cylinder, sector, last_sector;
    uint8_t id_head, size_code, fill;
    bool is_write, is_verify, is_format, multi_track, deleted;
    bool terminal_count;
    uint8_t buffer[FLOPPY_SECTORS_MAX * FLOPPY_SECTOR]; /* a sector, or a track to be formatted */
    uint16_t buffer_at;                                 /* FLOPPY_DATA: the next byte */

    struct floppy_drive drives[FLOPPY_DRIVES];
};

/* The drive, or NULL where there is none or no disk is in it. */
struct floppy_drive *floppy_disk(struct floppy *fdc, unsigned number);

/* floppy.c */
void floppy_interrupt(struct floppy *fdc, bool level);
/* Into the result phase with these bytes; `interrupts` when the guest waits for it. */
void floppy_finish(struct floppy *fdc, const uint8_t *result, unsigned count, bool interrupts);

/* floppy_command.c */
/* How many bytes the command has that begins with this one. */
unsigned floppy_command_length(uint8_t first);
void floppy_run_command(struct floppy *fdc);

/* floppy_transfer.c */
void floppy_start_transfer(struct floppy *fdc);
void floppy_start_format(struct floppy *fdc);
/* All bytes of the buffer have gone through the data port. */
void floppy_data_done(struct floppy *fdc);
void floppy_read_id(struct floppy *fdc);

#endif
