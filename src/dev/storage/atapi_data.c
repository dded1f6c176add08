/*
 * What a CD-ROM drive answers with: SPC-4 (INQUIRY, sense data), MMC-6 (all others). A disc is one
 * data track of one session, and a DVD when it holds more than fits on a CD.
 */
#include "dev/storage/ata_internal.h"

#include <string.h>

#define PROFILE_CD_ROM 0x0008
#define PROFILE_DVD_ROM 0x0010
#define CD_BLOCKS_MAX 405000 /* 90 minutes of 75 sectors a second */

#define TRACK_LEAD_OUT 0xaa
#define TRACK_DATA 0x14 /* ADR 1, data, copying not permitted: MMC-6, 6.26.2.4 */
#define MSF_LEAD_IN 150 /* sectors before block 0 */

static uint8_t *cleared(struct ata_drive *drive)
{
    memset(drive->data, 0, sizeof(drive->data));
    return drive->data;
}

/* SPC-4, 6.4.2 */
uint32_t atapi_fill_inquiry(struct ata_drive *drive)
{
    uint8_t *data = cleared(drive);

    data[0] = 0x05; /* CD/DVD */
    data[1] = 0x80; /* removable */
    data[2] = 0x05; /* SPC-3 */
    data[3] = 0x02; /* format of this data */
    data[4] = 31;   /* bytes that follow */
    memcpy(data + 8, "SILL    ", 8);
    memcpy(data + 16, "CD-ROM          ", 16);
    memcpy(data + 32, "1   ", 4);
    return 36;
}

/* SPC-4, 4.5.3: fixed format. It is reported once; what waits to be reported counts too. */
uint32_t atapi_fill_sense(struct ata_drive *drive)
{
    uint8_t *data = cleared(drive);

    if (!drive->sense_key && drive->reset_attention) {
        drive->sense_key = SENSE_UNIT_ATTENTION;
        drive->sense_code = 0x29;
        drive->reset_attention = false;
    }
    data[0] = 0x70;
    data[2] = drive->sense_key;
    data[7] = 10; /* bytes that follow */
    data[12] = drive->sense_code;
    data[13] = drive->sense_qualifier;
    drive->sense_key = drive->sense_code = drive->sense_qualifier = 0;
    return 18;
}

/* MMC-6, 6.24 */
uint32_t atapi_fill_capacity(struct ata_drive *drive)
{
    uint8_t *data = cleared(drive);

    put_be32(data, (uint32_t)(drive->blocks - 1));
    put_be32(data + 4, CD_BLOCK);
    return 8;
}

/* ---- READ TOC/PMA/ATIP, MMC-6, 6.25 ---- */

/* An address as minutes, seconds and frames, or as a block. */
static void put_address(uint8_t *data, uint32_t block, bool msf)
{
    if (!msf) {
        put_be32(data, block);
        return;
    }
    block += MSF_LEAD_IN;
    data[0] = 0;
    data[1] = (uint8_t)(block / (60 * 75));
    data[2] = (uint8_t)(block / 75 % 60);
    data[3] = (uint8_t)(block % 75);
}

static uint8_t *put_track(uint8_t *data, uint8_t track, uint32_t block, bool msf)
{
    data[1] = TRACK_DATA;
    data[2] = track;
    put_address(data + 4, block, msf);
    return data + 8;
}

/* Format 2: the lead-in's entries, each with a point that says what it is. */
static uint8_t *put_lead_in(uint8_t *data, uint8_t point, const uint8_t address[3])
{
    data[0] = 1; /* session */
    data[1] = TRACK_DATA;
    data[3] = point;
    memcpy(data + 8, address, 3);
    return data + 11;
}

static uint8_t *put_full_toc(uint8_t *data, uint32_t end)
{
    static const uint8_t track_one[3] = {1, 0, 0};
    uint8_t msf[4];

    data = put_lead_in(data, 0xa0, track_one);
    data = put_lead_in(data, 0xa1, track_one);
    put_address(msf, end, true);
    data = put_lead_in(data, 0xa2, msf + 1);
    put_address(msf, 0, true);
    return put_lead_in(data, 1, msf + 1);
}

uint32_t atapi_fill_toc(struct ata_drive *drive, const uint8_t *packet)
{
    uint8_t *data = cleared(drive), *at = data + 4;
    bool msf = packet[1] & 2;
    uint8_t first = packet[6];
    uint32_t end = (uint32_t)drive->blocks;
    /* Older drivers have the format in the control byte: SFF-8020i, 10.8.20. */
    unsigned format = packet[2] & 0xf ? packet[2] & 0xf : packet[9] >> 6;

    data[2] = data[3] = 1; /* first and last track or session */
    switch (format) {
    case 0: /* tracks from `first` on */
        if (first > 1 && first != TRACK_LEAD_OUT)
            return 0;
        if (first <= 1)
            at = put_track(at, 1, 0, msf);
        at = put_track(at, TRACK_LEAD_OUT, end, msf);
        break;
    case 1: /* the first track of the last session */
        at = put_track(at, 1, 0, msf);
        break;
    case 2:
        at = put_full_toc(at, end);
        break;
    default:
        return 0;
    }
    put_be16(data, (uint32_t)(at - data - 2));
    return (uint32_t)(at - data);
}

/* ---- GET CONFIGURATION, MMC-6, 6.5 and 5.3 ---- */

struct feature {
    uint16_t code;
    uint8_t flags; /* version in bits 5-2, persistent, current */
    uint8_t length;
    const uint8_t *data;
};

static const struct feature features[] = {
    {0x0001, 0x0b, 8, (const uint8_t[]){0, 0, 0, 2 /* ATAPI */, 1, 0, 0, 0}},
    {0x0002, 0x07, 4, (const uint8_t[]){2 /* operational changes are events */, 0, 0, 0}},
    {0x0003, 0x03, 4, (const uint8_t[]){0x29 /* tray, ejects, locks */, 0, 0, 0}},
    {0x0010, 0x01, 8, (const uint8_t[]){0, 0, 8, 0 /* blocks of 2048 */, 0, 1, 0, 0}},
    {0x001e, 0x09, 4, (const uint8_t[]){0, 0, 0, 0}}, /* reads CDs */
    {0x001f, 0x09, 4, (const uint8_t[]){0, 0, 0, 0}}, /* reads DVDs */
    {0x0100, 0x03, 0, NULL},                          /* power management */
};

static uint8_t *put_feature(uint8_t *at, uint16_t code, uint8_t flags, const uint8_t *data,
                            uint8_t length)
{
    put_be16(at, code);
    at[2] = flags;
    at[3] = length;
    if (length)
        memcpy(at + 4, data, length);
    return at + 4 + length;
}

uint32_t atapi_fill_configuration(struct ata_drive *drive, const uint8_t *packet)
{
    enum { ALL = 0, CURRENT = 1, ONE = 2 };
    uint8_t *data = cleared(drive), *at = data + 8;
    unsigned wanted = packet[1] & 3;
    uint16_t first = (uint16_t)get_be16(packet + 2);
    bool disc = drive->medium && !drive->tray_open;
    uint16_t profile = 0;

    if (wanted > ONE)
        return 0;
    if (disc)
        profile = drive->blocks > CD_BLOCKS_MAX ? PROFILE_DVD_ROM : PROFILE_CD_ROM;
    put_be16(data + 6, profile);
    if (first == 0) {
        uint8_t profiles[8] = {0};
        put_be16(profiles, PROFILE_DVD_ROM);
        profiles[2] = profile == PROFILE_DVD_ROM;
        put_be16(profiles + 4, PROFILE_CD_ROM);
        profiles[6] = profile == PROFILE_CD_ROM;
        at = put_feature(at, 0, 0x03, profiles, sizeof(profiles));
    }
    for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
        const struct feature *feature = &features[i];
        bool needs_disc = !(feature->flags & 2);
        bool current = feature->flags & 1 && (disc || !needs_disc);
        if (wanted == ONE ? feature->code != first : feature->code < first)
            continue;
        if (wanted == CURRENT && !current)
            continue;
        at = put_feature(at, feature->code, (uint8_t)((feature->flags & ~1u) | current),
                         feature->data, feature->length);
    }
    put_be32(data, (uint32_t)(at - data - 4));
    return (uint32_t)(at - data);
}

/* MMC-6, 6.6: only polled; only the class of medium events. */
uint32_t atapi_fill_event(struct ata_drive *drive, const uint8_t *packet)
{
    enum { CLASS_MEDIUM = 4, NO_EVENT_AVAILABLE = 0x80, POLLED = 1 };
    uint8_t *data = cleared(drive);

    if (!(packet[1] & POLLED))
        return 0;
    data[3] = 1 << CLASS_MEDIUM; /* supported classes */
    if (!(packet[4] & 1 << CLASS_MEDIUM)) {
        put_be16(data, 2);
        data[2] = NO_EVENT_AVAILABLE;
        return 4;
    }
    put_be16(data, 6);
    data[2] = CLASS_MEDIUM;
    data[4] = drive->event;
    data[5] = (uint8_t)((drive->tray_open ? 1 : 0) | (drive->medium && !drive->tray_open ? 2 : 0));
    drive->event = ATAPI_EVENT_NONE;
    return 8;
}

/* ---- MODE SENSE, MMC-6, 7.2 ---- */

static uint8_t *put_error_recovery(uint8_t *at)
{
    at[0] = 0x01;
    at[1] = 10;
    at[3] = 5; /* retries */
    return at + 12;
}

/* SFF-8020i, 10.8.6.5; later MMC's legacy page. */
static uint8_t *put_capabilities(const struct ata_drive *drive, uint8_t *at)
{
    enum { SPEED = 706 * 4 /* KB/s: 16 times a CD */ };

    at[0] = 0x2a;
    at[1] = 18;
    at[2] = 0x08;                                      /* reads DVD-ROM */
    at[6] = (uint8_t)(0x29 | (drive->locked ? 2 : 0)); /* tray, ejects, locks */
    put_be16(at + 8, SPEED);
    put_be16(at + 12, 512); /* KB of buffer */
    put_be16(at + 14, SPEED);
    return at + 20;
}

uint32_t atapi_fill_mode(struct ata_drive *drive, const uint8_t *packet)
{
    enum { PAGE_ALL = 0x3f, PAGE_RECOVERY = 0x01, PAGE_CAPABILITIES = 0x2a, SAVED = 3 };
    uint8_t *data = cleared(drive), *at = data + 8;
    unsigned page = packet[2] & 0x3f;

    if (packet[2] >> 6 == SAVED ||
        (page != PAGE_ALL && page != PAGE_RECOVERY && page != PAGE_CAPABILITIES))
        return 0;
    if (page == PAGE_RECOVERY || page == PAGE_ALL)
        at = put_error_recovery(at);
    if (page == PAGE_CAPABILITIES || page == PAGE_ALL)
        at = put_capabilities(drive, at);
    put_be16(data, (uint32_t)(at - data - 2));
    data[2] = drive->tray_open ? 0x71 : drive->medium ? 0x01 : 0x70; /* medium type, SFF-8020i */
    return (uint32_t)(at - data);
}

/* MMC-6, 6.22: a finished disc of one session. */
uint32_t atapi_fill_disc_information(struct ata_drive *drive)
{
    uint8_t *data = cleared(drive);

    put_be16(data, 32);
    data[2] = 0x0e;                  /* last session complete, disc finalised */
    data[3] = 1;                     /* first track */
    data[4] = 1;                     /* sessions */
    data[5] = data[6] = 1;           /* first and last track of the last session */
    data[7] = 0x20;                  /* unrestricted use */
    put_be32(data + 16, 0xffffffff); /* nothing can be added */
    put_be32(data + 20, 0xffffffff);
    return 34;
}

/* MMC-6, 6.11 */
uint32_t atapi_fill_mechanism(struct ata_drive *drive)
{
    uint8_t *data = cleared(drive);

    data[1] = drive->tray_open ? 0x10 : 0;
    data[5] = 1; /* one slot, without a table */
    return 8;
}
