/*
 * What a drive says of itself: IDENTIFY DEVICE (ACS-3, 7.12), IDENTIFY PACKET DEVICE (7.13), the
 * logs (9) and SMART data (7.48.6, with attributes as drives commonly have them).
 */
#include "dev/storage/ata_internal.h"

#include <string.h>

#define IDENTIFY_WORDS 256
#define MODEL_DISK "Sill ATA disk"
#define MODEL_CDROM "Sill CD-ROM"
#define FIRMWARE_REVISION "1"

#define MAX_CYLINDERS 16383
#define LBA28_SECTORS 0xfffffffu

#define LOG_DIRECTORY 0x00
#define LOG_QUEUE_ERROR 0x10

/* SET FEATURES, 7.45.8: the upper bits say which kind of mode, the lower which one. */
#define MODE_MULTIWORD 0x20
#define MODE_ULTRA 0x40

/* Characters go in words, the first in the upper byte; padded with spaces. */
static void put_text(uint16_t *words, unsigned count, const char *text)
{
    for (unsigned i = 0; i < count; i++) {
        uint8_t high = *text ? (uint8_t)*text++ : ' ';
        uint8_t low = *text ? (uint8_t)*text++ : ' ';
        words[i] = (uint16_t)(high << 8 | low);
    }
}

/* The last byte makes the sum of all 0: 7.12.7.91. */
static void seal(uint16_t *words)
{
    uint8_t sum = 0xa5;

    words[IDENTIFY_WORDS - 1] = 0xa5;
    for (unsigned i = 0; i < IDENTIFY_WORDS - 1; i++)
        sum = (uint8_t)(sum + (words[i] & 0xff) + (words[i] >> 8));
    words[IDENTIFY_WORDS - 1] |= (uint16_t)((uint8_t)-sum << 8);
}

/* The bit of word 63 or 88 that says which mode was chosen. */
static uint16_t selected_mode(const struct ata_drive *drive, uint8_t kind)
{
    return (drive->transfer_mode & 0xf8) == kind ? (uint16_t)(0x100u << (drive->transfer_mode & 7))
                                                 : 0;
}

/* What disks and packet devices say alike. */
static void fill_common(const struct ata_drive *drive, uint16_t *words, const char *model)
{
    put_text(words + 10, 10, drive->serial);
    put_text(words + 23, 4, FIRMWARE_REVISION);
    put_text(words + 27, 20, model);
    words[53] = 0x0006; /* words 64-70 and 88 are valid */
    words[63] = 0x0007 | selected_mode(drive, MODE_MULTIWORD);
    words[64] = 0x0003;                                  /* PIO modes 3 and 4 */
    words[65] = words[66] = words[67] = words[68] = 120; /* ns of a cycle */
    words[80] = 0x07f0;                                  /* ATA/ATAPI-4 to ACS-3 */
    words[88] = 0x003f | selected_mode(drive, MODE_ULTRA);
    if (drive->sata)
        words[76] = 0x000e; /* 1.5, 3 and 6 Gbit/s */
    else
        words[93] = 0x6001; /* an 80-conductor cable */
}

static void fill_geometry(const struct ata_drive *drive, uint16_t *words)
{
    uint64_t cylinders = drive->blocks / (16 * 63);
    uint64_t current = drive->blocks / ((uint64_t)drive->heads * drive->track_sectors);

    if (cylinders > MAX_CYLINDERS)
        cylinders = MAX_CYLINDERS;
    if (current > UINT16_MAX)
        current = UINT16_MAX;
    words[1] = (uint16_t)cylinders;
    words[3] = 16;
    words[6] = 63;
    words[53] |= 0x0001; /* words 54-58 are valid */
    words[54] = (uint16_t)current;
    words[55] = drive->heads;
    words[56] = drive->track_sectors;
    uint32_t capacity = (uint32_t)current * drive->heads * drive->track_sectors;
    words[57] = (uint16_t)capacity;
    words[58] = (uint16_t)(capacity >> 16);
}

static void fill_features(const struct ata_drive *drive, uint16_t *words)
{
    words[82] = 0x0069; /* SMART, power management, write cache, look-ahead */
    words[83] = 0x7400; /* 48-bit addresses, FLUSH CACHE, FLUSH CACHE EXT */
    words[84] = 0x4060; /* general purpose logging, FUA commands */
    words[85] = (uint16_t)(0x0008 | (drive->smart ? 0x0001 : 0) |
                           (drive->write_cache ? 0x0020 : 0) | (drive->look_ahead ? 0x0040 : 0));
    words[86] = 0x3400;
    words[87] = 0x4060;
}

void ata_fill_identify(struct ata_drive *drive)
{
    uint16_t words[IDENTIFY_WORDS] = {0};
    uint32_t lba28 = drive->blocks < LBA28_SECTORS ? (uint32_t)drive->blocks : LBA28_SECTORS;

    words[0] = 0x0040; /* a fixed disk */
    fill_common(drive, words, MODEL_DISK);
    fill_geometry(drive, words);
    fill_features(drive, words);
    words[47] = 0x8000 | ATA_MULTIPLE_MAX;
    words[49] = 0x2f00; /* DMA, LBA, IORDY, standard standby timer */
    words[50] = 0x4000;
    words[59] = drive->multiple ? (uint16_t)(0x0100 | drive->multiple) : 0;
    words[60] = (uint16_t)lba28;
    words[61] = (uint16_t)(lba28 >> 16);
    if (drive->sata) {
        words[75] = ATA_QUEUE_DEPTH - 1;
        words[76] |= 0x0100; /* native command queuing */
    }
    for (unsigned i = 0; i < 4; i++)
        words[100 + i] = (uint16_t)(drive->blocks >> 16 * i);
    words[106] = 0x4000; /* sectors of 512 bytes, logical and physical */
    if (drive->medium->can_discard) {
        words[105] = 1; /* one block of ranges in a DATA SET MANAGEMENT */
        words[169] = 0x0001;
    }
    words[217] = 0x0001; /* nothing rotates */
    seal(words);
    memcpy(drive->data, words, sizeof(words));
}

void ata_fill_identify_packet(struct ata_drive *drive)
{
    uint16_t words[IDENTIFY_WORDS] = {0};

    words[0] = 0x85c0; /* ATAPI, CD-ROM, removable, DRQ within 50 us, packets of 12 bytes */
    fill_common(drive, words, MODEL_CDROM);
    words[49] = 0x0f00; /* DMA, LBA, IORDY */
    words[82] = 0x0218; /* PACKET, DEVICE RESET, power management */
    words[83] = 0x4000;
    words[84] = 0x4000;
    words[85] = 0x0218;
    words[87] = 0x4000;
    seal(words);
    memcpy(drive->data, words, sizeof(words));
}

/* 9.2: for each log its number of pages. */
static void fill_log_directory(uint8_t *page)
{
    page[0] = 1; /* version */
    page[2 * LOG_QUEUE_ERROR] = 1;
}

/* 9.11; reading it ends the error condition of the queue. */
static void fill_queue_error(struct ata_drive *drive, uint8_t *page)
{
    const struct ata_registers *regs = &drive->queue_error_regs;
    uint8_t sum = 0;

    if (drive->queue_error) {
        page[0] = drive->queue_error_tag;
        page[2] = regs->status;
        page[3] = regs->error;
        for (unsigned i = 0; i < 3; i++) {
            page[4 + i] = (uint8_t)(regs->lba >> 8 * i);
            page[8 + i] = (uint8_t)(regs->lba >> (24 + 8 * i));
        }
        page[7] = regs->device;
        page[12] = (uint8_t)regs->count;
    } else {
        page[0] = 0x80; /* the last error was not of a queued command */
    }
    for (unsigned i = 0; i < ATA_SECTOR - 1; i++)
        sum = (uint8_t)(sum + page[i]);
    page[ATA_SECTOR - 1] = (uint8_t)-sum;
    drive->queue_error = false;
}

bool ata_fill_log(struct ata_drive *drive, uint8_t log, uint16_t page, uint16_t count)
{
    /* All logs there are have one page. */
    if (page || count != 1 || (log != LOG_DIRECTORY && log != LOG_QUEUE_ERROR))
        return false;
    memset(drive->data, 0, ATA_SECTOR);
    if (log == LOG_DIRECTORY)
        fill_log_directory(drive->data);
    else
        fill_queue_error(drive, drive->data);
    return true;
}

/* Attributes that say that all is well: number, flags (2), value and worst, raw value. A disk image
 * has none that could become worse. */
void ata_fill_smart(struct ata_drive *drive, bool thresholds)
{
    static const uint8_t attributes[] = {1 /* read errors */, 5 /* reallocated sectors */};
    enum { ENTRY_SIZE = 12, GOOD = 100, THRESHOLD = 10, PREFAILURE = 0x03 };
    uint8_t *data = drive->data;
    uint8_t sum = 0;

    memset(data, 0, ATA_SECTOR);
    data[0] = 16; /* revision of the structure */
    for (unsigned i = 0; i < sizeof(attributes); i++) {
        uint8_t *entry = data + 2 + ENTRY_SIZE * i;
        entry[0] = attributes[i];
        if (thresholds) {
            entry[1] = THRESHOLD;
        } else {
            entry[1] = PREFAILURE;
            entry[3] = entry[4] = GOOD;
        }
    }
    for (unsigned i = 0; i < ATA_SECTOR - 1; i++)
        sum = (uint8_t)(sum + data[i]);
    data[ATA_SECTOR - 1] = (uint8_t)-sum;
}
