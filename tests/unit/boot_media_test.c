/* What disks and discs boot with: partition tables and boot catalogs, whole, broken and hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "boot/media.h"

#define SECTOR 512u
#define DISC_SECTOR 2048u
#define SECTORS 128u

static uint8_t image[SECTORS * SECTOR];
static unsigned reads;

static int read_image(void *opaque, uint64_t offset, void *to, size_t length)
{
    assert_true(offset <= sizeof(image) && length <= sizeof(image) - offset);
    assert_true(offset % SECTOR == 0 && length % SECTOR == 0);
    memcpy(to, image + offset, length);
    reads++;
    return 0;
}

static int read_fails(void *opaque, uint64_t offset, void *to, size_t length)
{
    return -EIO;
}

static const struct media_reader medium = {.read = read_image, .size = sizeof(image)};

static int setup(void **state)
{
    memset(image, 0, sizeof(image));
    reads = 0;
    return 0;
}

static void put(size_t at, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        image[at + i] = (uint8_t)(value >> 8 * i);
}

/* ---- disks ---- */

static void mbr(unsigned entry, uint8_t type)
{
    image[446 + 16 * entry + 4] = type;
    put(510, 0xaa55, 2);
}

static uint32_t crc32(const uint8_t *data, size_t length)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < length * 8; i++) {
        uint32_t bit = (crc ^ data[i / 8] >> i % 8) & 1;
        crc = crc >> 1 ^ (bit ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void gpt_seal(unsigned sector)
{
    size_t at = sector * SECTOR;

    put(at + 16, 0, 4);
    put(at + 16, crc32(image + at, 92), 4);
}

static void gpt_header(unsigned sector, uint64_t entries, uint32_t count, uint32_t size)
{
    size_t at = sector * SECTOR;

    memcpy(image + at, "EFI PART", 8);
    put(at + 12, 92, 4);
    put(at + 72, entries, 8);
    put(at + 80, count, 4);
    put(at + 84, size, 4);
    gpt_seal(sector);
}

static void esp_entry(size_t at)
{
    static const uint8_t type[] = {0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
                                   0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b};
    memcpy(image + at, type, sizeof(type));
}

static void disk_without_boot_sector_boots_nothing(void **state)
{
    assert_int_equal(media_disk(&medium), MEDIA_BOOTS_NOTHING);
    image[446 + 4] = 0xef;
    assert_int_equal(media_disk(&medium), MEDIA_BOOTS_NOTHING);
}

static void mbr_with_efi_system_partition(void **state)
{
    mbr(0, 0x83);
    assert_int_equal(media_disk(&medium), MEDIA_BOOTS_BIOS);
    mbr(3, 0xef);
    assert_int_equal(media_disk(&medium), MEDIA_BOOTS_UEFI);
}

static void gpt_with_efi_system_partition(void **state)
{
    mbr(0, 0xee);
    gpt_header(1, 2, 128, 128);
    assert_int_equal(media_disk(&medium), MEDIA_BOOTS_BIOS);
    esp_entry(2 * SECTOR + 127 * 128);
    assert_int_equal(media_disk(&medium), MEDIA_BOOTS_UEFI);
    gpt_header(1, 2, 127, 128);
    assert_int_equal(media_disk(&medium), MEDIA_BOOTS_BIOS);
}

static void gpt_entries_may_be_larger(void **state)
{
    mbr(1, 0xee);
    gpt_header(1, 2, 8, 512);
    esp_entry((2 + 5) * SECTOR);
    assert_int_equal(media_disk(&medium), MEDIA_BOOTS_UEFI);
}

static void broken_gpt_has_a_copy_at_the_end(void **state)
{
    mbr(0, 0xee);
    gpt_header(1, 2, 128, 128);
    esp_entry(2 * SECTOR);
    image[SECTOR + 20] ^= 1; /* the checksum is wrong */
    assert_int_equal(media_disk(&medium), MEDIA_BOOTS_BIOS);
    gpt_header(SECTORS - 1, 2, 128, 128);
    assert_int_equal(media_disk(&medium), MEDIA_BOOTS_UEFI);
}

static void gpt_without_protective_mbr_counts_for_nothing(void **state)
{
    gpt_header(1, 2, 128, 128);
    esp_entry(2 * SECTOR);
    assert_int_equal(media_disk(&medium), MEDIA_BOOTS_NOTHING);
    mbr(0, 0x0c);
    assert_int_equal(media_disk(&medium), MEDIA_BOOTS_BIOS);
}

static void hostile_gpt_is_read_within_bounds(void **state)
{
    static const uint64_t firsts[] = {0, SECTORS - 1, SECTORS, UINT64_MAX / SECTOR, UINT64_MAX};
    static const uint32_t counts[] = {0, 1, 0xffffffff};
    static const uint32_t sizes[] = {0, 1, 64, 127, 129, 128, 256, 1024, 0x80000000, 0xffffffff};

    mbr(0, 0xee);
    for (unsigned f = 0; f < ARRAY_SIZE(firsts); f++) {
        for (unsigned c = 0; c < ARRAY_SIZE(counts); c++) {
            for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
                reads = 0;
                gpt_header(1, firsts[f], counts[c], sizes[s]);
                assert_int_equal(media_disk(&medium), MEDIA_BOOTS_BIOS);
                assert_true(reads < 1100);
            }
        }
    }
    gpt_header(1, 2, 128, 128);
    put(SECTOR + 12, 0xffffffff, 4); /* header size */
    assert_int_equal(media_disk(&medium), MEDIA_BOOTS_BIOS);
}

/* ---- discs ---- */

#define CATALOG (20 * DISC_SECTOR)

static void catalog(uint8_t platform)
{
    memcpy(image + 17 * DISC_SECTOR, "\0CD001\1EL TORITO SPECIFICATION", 30);
    put(17 * DISC_SECTOR + 0x47, CATALOG / DISC_SECTOR, 4);
    memset(image + CATALOG, 0, DISC_SECTOR);
    image[CATALOG] = 1;
    image[CATALOG + 1] = platform;
    put(CATALOG + 30, 0xaa55, 2);
    put(CATALOG + 28, 0x10000 - (0x0001 + platform * 256 + 0xaa55), 2);
}

static void entry(unsigned number, uint8_t first, uint8_t platform, uint16_t count)
{
    image[CATALOG + 32 * number] = first;
    image[CATALOG + 32 * number + 1] = platform;
    put(CATALOG + 32 * number + 2, count, 2);
}

static void disc_for_bios_or_both_boots_bios(void **state)
{
    catalog(0);
    entry(1, 0x88, 0, 0);
    assert_int_equal(media_disc(&medium), MEDIA_BOOTS_BIOS);
    entry(2, 0x91, 0xef, 1);
    entry(3, 0x88, 0, 0);
    assert_int_equal(media_disc(&medium), MEDIA_BOOTS_BIOS);
}

static void disc_for_efi_only_boots_uefi(void **state)
{
    catalog(0xef);
    entry(1, 0x88, 0, 0);
    assert_int_equal(media_disc(&medium), MEDIA_BOOTS_UEFI);
    catalog(0);
    entry(1, 0x00, 0, 0); /* not bootable */
    entry(2, 0x90, 0xef, 1);
    entry(3, 0x88, 0, 0);
    entry(4, 0x44, 0, 0); /* more about that entry */
    assert_int_equal(media_disc(&medium), MEDIA_BOOTS_UEFI);
    entry(5, 0x91, 0, 1);
    entry(6, 0x88, 0, 0);
    assert_int_equal(media_disc(&medium), MEDIA_BOOTS_BIOS);
    entry(2, 0x91, 0xef, 1); /* the last section: what follows does not count */
    assert_int_equal(media_disc(&medium), MEDIA_BOOTS_UEFI);
}

static void disc_without_valid_catalog_boots_nothing(void **state)
{
    assert_int_equal(media_disc(&medium), MEDIA_BOOTS_NOTHING);
    catalog(0);
    entry(1, 0x88, 0, 0);
    image[CATALOG + 5] = 1; /* the checksum is wrong */
    assert_int_equal(media_disc(&medium), MEDIA_BOOTS_NOTHING);
    catalog(0);
    assert_int_equal(media_disc(&medium), MEDIA_BOOTS_NOTHING);
    put(17 * DISC_SECTOR + 0x47, 0xffffffff, 4);
    assert_int_equal(media_disc(&medium), MEDIA_BOOTS_NOTHING);
}

static void catalog_ends_with_its_sector(void **state)
{
    catalog(0);
    entry(1, 0, 0, 0);
    entry(2, 0x90, 0xef, 0xffff);
    memset(image + CATALOG + 3 * 32, 0x11, 61 * 32);
    assert_int_equal(media_disc(&medium), MEDIA_BOOTS_NOTHING);
    entry(63, 0x88, 0, 0);
    assert_int_equal(media_disc(&medium), MEDIA_BOOTS_UEFI);
}

static void media_of_any_size_and_unreadable_ones(void **state)
{
    mbr(0, 0xee);
    gpt_header(1, 2, 128, 128);
    catalog(0);
    entry(1, 0x88, 0, 0);
    for (uint64_t size = 0; size <= sizeof(image); size += SECTOR / 2) {
        struct media_reader shorter = {.read = read_image, .size = size};
        assert_int_equal(media_disk(&shorter),
                         size < SECTOR ? MEDIA_BOOTS_NOTHING : MEDIA_BOOTS_BIOS);
        assert_int_equal(media_disc(&shorter),
                         size < CATALOG + DISC_SECTOR ? MEDIA_BOOTS_NOTHING : MEDIA_BOOTS_BIOS);
    }
    struct media_reader broken = {.read = read_fails, .size = sizeof(image)};
    assert_int_equal(media_disk(&broken), MEDIA_BOOTS_NOTHING);
    assert_int_equal(media_disc(&broken), MEDIA_BOOTS_NOTHING);
}

/* ---- kinds ---- */

static void images_are_known_by_their_contents(void **state)
{
    assert_int_equal(media_kind(&medium), MEDIA_DISK);
    mbr(0, 0x83);
    assert_int_equal(media_kind(&medium), MEDIA_DISK);
    memcpy(image + 0x202, "HdrS", 4);
    assert_int_equal(media_kind(&medium), MEDIA_KERNEL);
    /* A disc that is also made to be a disk. */
    memcpy(image + 16 * DISC_SECTOR + 1, "CD001", 5);
    assert_int_equal(media_kind(&medium), MEDIA_DISC);
    memset(image, 0, sizeof(image));
    memcpy(image, "\177ELF", 4);
    assert_int_equal(media_kind(&medium), MEDIA_KERNEL);

    const struct media_reader failing = {.read = read_fails, .size = sizeof(image)};
    assert_int_equal(media_kind(&failing), MEDIA_DISK);
    const struct media_reader small = {.read = read_image, .size = SECTOR};
    assert_int_equal(media_kind(&small), MEDIA_DISK);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, setup)
    const struct CMUnitTest tests[] = {
        TEST(disk_without_boot_sector_boots_nothing),
        TEST(mbr_with_efi_system_partition),
        TEST(gpt_with_efi_system_partition),
        TEST(gpt_entries_may_be_larger),
        TEST(broken_gpt_has_a_copy_at_the_end),
        TEST(gpt_without_protective_mbr_counts_for_nothing),
        TEST(hostile_gpt_is_read_within_bounds),
        TEST(disc_for_bios_or_both_boots_bios),
        TEST(disc_for_efi_only_boots_uefi),
        TEST(disc_without_valid_catalog_boots_nothing),
        TEST(catalog_ends_with_its_sector),
        TEST(media_of_any_size_and_unreadable_ones),
        TEST(images_are_known_by_their_contents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
