/* The look at boot media; see media.h. */
#include "boot/media.h"

#include <string.h>

#define SECTOR 512u

/* The master boot record: 5.2.1. */
#define MBR_PARTITIONS 446
#define MBR_ENTRY 16
#define MBR_ENTRIES 4
#define MBR_TYPE 4 /* in an entry */
#define MBR_SIGNATURE 510
#define MBR_TYPE_GPT 0xee
#define MBR_TYPE_ESP 0xef

/* The GUID partition table: 5.3.2 (header) and 5.3.3 (entries). */
#define GPT_HEADER_SIZE 12
#define GPT_HEADER_CRC 16
#define GPT_ENTRIES_SECTOR 72
#define GPT_ENTRY_COUNT 80
#define GPT_ENTRY_SIZE 84
#define GPT_HEADER_MIN 92
#define GPT_ENTRY_MIN 128
#define GPT_ENTRIES_MAX 1024 /* looked at; tables of 128 are usual */

/* ISO 9660 and El Torito. */
#define DISC_SECTOR 2048u
#define VOLUME_DESCRIPTOR_SECTOR 16
#define BOOT_RECORD_SECTOR 17
#define BOOT_RECORD_CATALOG 0x47 /* in it: the catalog's sector */
#define CATALOG_ENTRY 32
#define VALIDATION_ID 1
#define SECTION_HEADER 0x90
#define LAST_SECTION_HEADER 0x91
#define SECTION_EXTENSION 0x44
#define BOOTABLE 0x88
#define PLATFORM_BIOS 0
#define PLATFORM_EFI 0xef

/* C12A7328-F81F-11D2-BA4B-00A0C93EC93B, as it is on disks (5.3.3, table 5.7). */
static const uint8_t esp_type[16] = {0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
                                     0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b};

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get64(const uint8_t *at)
{
    return get32(at) | (uint64_t)get32(at + 4) << 32;
}

static bool read_at(const struct media_reader *medium, uint64_t sector, uint32_t sector_size,
                    void *to, size_t length)
{
    if (length > medium->size || sector > (medium->size - length) / sector_size)
        return false;
    return medium->read(medium->opaque, sector * sector_size, to, length) == 0;
}

/* ---- kinds ---- */

enum media_kind media_kind(const struct media_reader *medium)
{
    uint8_t sector[2 * SECTOR];

    if (read_at(medium, VOLUME_DESCRIPTOR_SECTOR, DISC_SECTOR, sector, SECTOR) &&
        !memcmp(sector + 1, "CD001", 5))
        return MEDIA_DISC;
    /* Linux's Documentation/x86/boot.rst: the header's magic number. */
    if (read_at(medium, 0, SECTOR, sector, sizeof(sector)) &&
        (!memcmp(sector + 0x202, "HdrS", 4) || !memcmp(sector, "\177ELF", 4)))
        return MEDIA_KERNEL;
    return MEDIA_DISK;
}

/* ---- disks ---- */

/* The CRC of ISO 3309, which UEFI's tables use (4.2.1): reflected, polynomial 0x04c11db7. */
static uint32_t crc32(const uint8_t *data, size_t length)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static bool gpt_header(const struct media_reader *medium, uint64_t sector, uint8_t header[SECTOR])
{
    if (!read_at(medium, sector, SECTOR, header, SECTOR) || memcmp(header, "EFI PART", 8) != 0)
        return false;
    uint32_t size = get32(header + GPT_HEADER_SIZE), crc = get32(header + GPT_HEADER_CRC);
    if (size < GPT_HEADER_MIN || size > SECTOR)
        return false;
    memset(header + GPT_HEADER_CRC, 0, 4);
    return crc32(header, size) == crc;
}

static bool gpt_has_esp(const struct media_reader *medium)
{
    uint8_t header[SECTOR], sector[SECTOR];
    uint64_t last = medium->size / SECTOR - 1;

    if (!gpt_header(medium, 1, header) && !gpt_header(medium, last, header))
        return false;
    uint64_t first = get64(header + GPT_ENTRIES_SECTOR);
    uint32_t count = get32(header + GPT_ENTRY_COUNT), size = get32(header + GPT_ENTRY_SIZE);
    if (size < GPT_ENTRY_MIN || size > SECTOR || size & (size - 1) || first > last)
        return false;
    for (uint32_t i = 0; i < count && i < GPT_ENTRIES_MAX; i++) {
        uint32_t offset = i * size;
        if (offset % SECTOR == 0 &&
            !read_at(medium, first + offset / SECTOR, SECTOR, sector, SECTOR))
            return false;
        if (!memcmp(sector + offset % SECTOR, esp_type, sizeof(esp_type)))
            return true;
    }
    return false;
}

enum media_boot media_disk(const struct media_reader *medium)
{
    uint8_t mbr[SECTOR];

    if (!read_at(medium, 0, SECTOR, mbr, SECTOR) || mbr[MBR_SIGNATURE] != 0x55 ||
        mbr[MBR_SIGNATURE + 1] != 0xaa)
        return MEDIA_BOOTS_NOTHING;
    for (unsigned i = 0; i < MBR_ENTRIES; i++) {
        uint8_t type = mbr[MBR_PARTITIONS + i * MBR_ENTRY + MBR_TYPE];
        if (type == MBR_TYPE_ESP || (type == MBR_TYPE_GPT && gpt_has_esp(medium)))
            return MEDIA_BOOTS_UEFI;
    }
    return MEDIA_BOOTS_BIOS;
}

/* ---- discs ---- */

/* The validation entry: its 16-bit words add up to 0 (El Torito, figure 2). */
static bool is_catalog(const uint8_t *entry)
{
    uint16_t sum = 0;

    for (unsigned i = 0; i < CATALOG_ENTRY; i += 2)
        sum = (uint16_t)(sum + (entry[i] | entry[i + 1] << 8));
    return entry[0] == VALIDATION_ID && entry[30] == 0x55 && entry[31] == 0xaa && !sum;
}

/* Catalogs of more than one sector are not made. */
enum media_boot media_disc(const struct media_reader *medium)
{
    static const char identifier[] = "\0CD001\1EL TORITO SPECIFICATION";
    uint8_t record[DISC_SECTOR], catalog[DISC_SECTOR];
    bool bios = false, efi = false;

    if (!read_at(medium, BOOT_RECORD_SECTOR, DISC_SECTOR, record, sizeof(record)) ||
        memcmp(record, identifier, sizeof(identifier) - 1) != 0 ||
        !read_at(medium, get32(record + BOOT_RECORD_CATALOG), DISC_SECTOR, catalog,
                 sizeof(catalog)) ||
        !is_catalog(catalog))
        return MEDIA_BOOTS_NOTHING;

    /* The initial entry follows without a header; its platform is the validation entry's. */
    uint8_t platform = catalog[1];
    bool more_sections = true;
    unsigned entries = 1;
    for (unsigned at = CATALOG_ENTRY; at < DISC_SECTOR; at += CATALOG_ENTRY) {
        const uint8_t *entry = catalog + at;
        if (entry[0] == SECTION_EXTENSION)
            continue;
        if (entries) {
            bios |= entry[0] == BOOTABLE && platform == PLATFORM_BIOS;
            efi |= entry[0] == BOOTABLE && platform == PLATFORM_EFI;
            entries--;
            continue;
        }
        if (!more_sections || (entry[0] != SECTION_HEADER && entry[0] != LAST_SECTION_HEADER))
            break;
        more_sections = entry[0] == SECTION_HEADER;
        platform = entry[1];
        entries = entry[2] | entry[3] << 8;
    }
    return bios ? MEDIA_BOOTS_BIOS : efi ? MEDIA_BOOTS_UEFI : MEDIA_BOOTS_NOTHING;
}
