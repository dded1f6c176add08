/*
 * The SMBIOS tables: System Management BIOS Reference Specification 3.0 (DSP0134); section numbers
 * below are its own. They tell the operating system what it runs on. Control thread.
 *
 *     LAYOUT_SMBIOS_BASE   the 64-bit entry point, where a scan of the BIOS area finds it
 *                + 0x20    the structures, each followed by its strings
 *
 * Firmware gets both as files, puts them where it likes and says itself what it is.
 */
#include "boot/smbios.h"

#include <errno.h>
#include <string.h>

#define AREA_SIZE 4096u
#define STRUCTURES_OFFSET 0x20u

#define VENDOR "Sill"
#define RELEASE_DATE "01/01/2026"

/* Handles: one to a structure, of our choice. */
enum handle {
    HANDLE_BIOS,
    HANDLE_SYSTEM,
    HANDLE_CHASSIS,
    HANDLE_PROCESSOR,
    HANDLE_MEMORY_ARRAY,
    HANDLE_MEMORY_DEVICE,
    HANDLE_MEMORY_LOW,
    HANDLE_MEMORY_HIGH,
    HANDLE_BOOT,
    HANDLE_END,
    HANDLE_NONE = 0xfffe,
};

/* 5.2.2 */
struct entry_point {
    char anchor[5];
    uint8_t checksum;
    uint8_t length;
    uint8_t major, minor, docrev;
    uint8_t revision;
    uint8_t reserved;
    uint32_t maximum_size;
    uint64_t address;
} __attribute__((packed));

/* 6.1.2 */
struct structure {
    uint8_t type;
    uint8_t length; /* without strings */
    uint16_t handle;
} __attribute__((packed));

/* In all structures a string is named by its number, counted from 1; 0: none. */

struct bios { /* 7.1 */
    struct structure head;
    uint8_t vendor, version;
    uint16_t start_segment;
    uint8_t date;
    uint8_t rom_size;
    uint64_t characteristics;
    uint8_t extension[2];
    uint8_t bios_major, bios_minor;
    uint8_t controller_major, controller_minor;
} __attribute__((packed));

#define BIOS_CHARACTERISTICS_NOT_SUPPORTED (1u << 3)
#define BIOS_EXTENSION_VIRTUAL_MACHINE (1u << 4)
#define BIOS_NO_VERSION 0xff

struct system { /* 7.2 */
    struct structure head;
    uint8_t manufacturer, product, version, serial;
    uint8_t uuid[16];
    uint8_t wake_up;
    uint8_t sku, family;
} __attribute__((packed));

#define WAKE_UP_POWER_SWITCH 6

struct chassis { /* 7.4 */
    struct structure head;
    uint8_t manufacturer;
    uint8_t type;
    uint8_t version, serial, asset;
    uint8_t boot_state, power_state, thermal_state, security;
    uint32_t oem;
    uint8_t height, power_cords;
    uint8_t contained_count, contained_size;
    uint8_t sku;
} __attribute__((packed));

#define CHASSIS_OTHER 1
#define STATE_SAFE 3
#define SECURITY_NONE 3

struct processor { /* 7.5 */
    struct structure head;
    uint8_t socket;
    uint8_t type, family, manufacturer;
    uint64_t id;
    uint8_t version, voltage;
    uint16_t external_clock, max_speed, current_speed;
    uint8_t status, upgrade;
    uint16_t cache_handle[3];
    uint8_t serial, asset, part;
    uint8_t core_count, core_enabled, thread_count;
    uint16_t characteristics;
    uint16_t family2;
    uint16_t core_count2, core_enabled2, thread_count2;
} __attribute__((packed));

#define PROCESSOR_CENTRAL 3
#define PROCESSOR_FAMILY_OTHER 1
#define PROCESSOR_POPULATED_ENABLED 0x41
#define PROCESSOR_UPGRADE_OTHER 1
#define PROCESSOR_64BIT (1u << 2)
#define CACHE_UNKNOWN 0xffff

struct memory_array { /* 7.17 */
    struct structure head;
    uint8_t location, use, error_correction;
    uint32_t maximum_kib; /* or 0x80000000: see extended */
    uint16_t error_handle;
    uint16_t device_count;
    uint64_t extended_maximum;
} __attribute__((packed));

#define ARRAY_LOCATION_OTHER 1
#define ARRAY_SYSTEM_MEMORY 3
#define ARRAY_CORRECTION_NONE 3
#define ARRAY_MAXIMUM_EXTENDED 0x80000000u

struct memory_device { /* 7.18 */
    struct structure head;
    uint16_t array_handle, error_handle;
    uint16_t total_width, data_width;
    uint16_t size_mib; /* or 0x7fff: see extended */
    uint8_t form_factor, device_set;
    uint8_t locator, bank;
    uint8_t type;
    uint16_t type_detail, speed;
    uint8_t manufacturer, serial, asset, part;
    uint8_t attributes;
    uint32_t extended_size_mib;
    uint16_t configured_speed;
    uint16_t minimum_voltage, maximum_voltage, configured_voltage;
} __attribute__((packed));

#define DEVICE_WIDTH_UNKNOWN 0xffff
#define DEVICE_SIZE_EXTENDED 0x7fff
#define DEVICE_FORM_DIMM 9
#define DEVICE_TYPE_RAM 7
#define DEVICE_DETAIL_OTHER (1u << 1)

struct mapped_address { /* 7.20 */
    struct structure head;
    uint32_t start_kib, end_kib; /* or 0xffffffff: see extended */
    uint16_t array_handle;
    uint8_t partition_width;
    uint64_t extended_start, extended_end; /* bytes */
} __attribute__((packed));

#define MAPPED_EXTENDED UINT32_MAX

struct boot_status { /* 7.33 */
    struct structure head;
    uint8_t reserved[6];
    uint8_t status; /* 0: no errors */
} __attribute__((packed));

struct end { /* 7.45 */
    struct structure head;
} __attribute__((packed));

/* ---- writing ---- */

struct writer {
    uint8_t data[AREA_SIZE];
    size_t used;
    bool overflow;
};

static void append(struct writer *writer, const void *bytes, size_t length)
{
    if (length > sizeof(writer->data) - writer->used) {
        writer->overflow = true;
        return;
    }
    memcpy(writer->data + writer->used, bytes, length);
    writer->used += length;
}

/* A structure and its strings, a list that ends with NULL; the set of strings ends with an empty
 * one and is two zero bytes when there are none (6.1.3). */
static void put(struct writer *writer, const void *structure, const char *const *strings)
{
    const struct structure *head = structure;

    append(writer, structure, head->length);
    if (!*strings)
        append(writer, "", 1);
    for (; *strings; strings++)
        append(writer, *strings, strlen(*strings) + 1);
    append(writer, "", 1);
}

#define HEAD(number, object, its_handle)                                                           \
    {                                                                                              \
        .type = (number), .length = sizeof(object), .handle = (its_handle)                         \
    }
#define STRINGS(...) ((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void put_bios(struct writer *writer)
{
    const struct bios bios = {
        .head = HEAD(0, bios, HANDLE_BIOS),
        .vendor = 1,
        .version = 2,
        .start_segment = LAYOUT_TABLES_BASE >> 4,
        .date = 3,
        .rom_size = (LAYOUT_HIGH_BASE - LAYOUT_TABLES_BASE) / (64 * KIB) - 1,
        .characteristics = BIOS_CHARACTERISTICS_NOT_SUPPORTED,
        .extension = {0, BIOS_EXTENSION_VIRTUAL_MACHINE},
        .bios_major = BIOS_NO_VERSION,
        .bios_minor = BIOS_NO_VERSION,
        .controller_major = BIOS_NO_VERSION,
        .controller_minor = BIOS_NO_VERSION,
    };

    put(writer, &bios, STRINGS(VENDOR, "direct boot", RELEASE_DATE));
}

/* The first three fields of a UUID are little-endian here (7.2.1), big-endian in RFC 4122. */
static void swap_uuid(uint8_t to[16], const uint8_t from[16])
{
    static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

    for (unsigned i = 0; i < 16; i++)
        to[i] = from[order[i]];
}

static void put_system(struct writer *writer, const struct board_description *board)
{
    struct system system = {
        .head = HEAD(1, system, HANDLE_SYSTEM),
        .manufacturer = 1,
        .product = 2,
        .wake_up = WAKE_UP_POWER_SWITCH,
    };

    swap_uuid(system.uuid, board->uuid);
    /* A string may not be empty: that would end the set. */
    if (board->name && *board->name) {
        system.serial = 3;
        put(writer, &system, STRINGS(VENDOR, "Virtual Machine", board->name));
    } else {
        put(writer, &system, STRINGS(VENDOR, "Virtual Machine"));
    }
}

static void put_chassis(struct writer *writer)
{
    const struct chassis chassis = {
        .head = HEAD(3, chassis, HANDLE_CHASSIS),
        .manufacturer = 1,
        .type = CHASSIS_OTHER,
        .boot_state = STATE_SAFE,
        .power_state = STATE_SAFE,
        .thermal_state = STATE_SAFE,
        .security = SECURITY_NONE,
    };

    put(writer, &chassis, STRINGS(VENDOR));
}

/* One socket with all CPUs, as CPUID says. */
static void put_processor(struct writer *writer, const struct board_description *board)
{
    const unsigned cpus = board->cpus;
    uint8_t count = cpus < 0xff ? (uint8_t)cpus : 0xff; /* 0xff: see the wider field */
    const struct processor processor = {
        .head = HEAD(4, processor, HANDLE_PROCESSOR),
        .socket = 1,
        .type = PROCESSOR_CENTRAL,
        .family = PROCESSOR_FAMILY_OTHER,
        .manufacturer = 2,
        .id = board->cpu_signature | (uint64_t)board->cpu_features << 32,
        .status = PROCESSOR_POPULATED_ENABLED,
        .upgrade = PROCESSOR_UPGRADE_OTHER,
        .cache_handle = {CACHE_UNKNOWN, CACHE_UNKNOWN, CACHE_UNKNOWN},
        .core_count = count,
        .core_enabled = count,
        .thread_count = count,
        .characteristics = PROCESSOR_64BIT,
        .family2 = PROCESSOR_FAMILY_OTHER,
        .core_count2 = (uint16_t)cpus,
        .core_enabled2 = (uint16_t)cpus,
        .thread_count2 = (uint16_t)cpus,
    };

    put(writer, &processor, STRINGS("CPU 0", VENDOR));
}

static void put_mapping(struct writer *writer, enum handle handle, gpa_t base, uint64_t size)
{
    struct mapped_address mapping = {
        .head = HEAD(19, mapping, handle),
        .array_handle = HANDLE_MEMORY_ARRAY,
        .partition_width = 1,
    };

    if ((base + size - 1) / KIB < MAPPED_EXTENDED) {
        mapping.start_kib = (uint32_t)(base / KIB);
        mapping.end_kib = (uint32_t)((base + size - 1) / KIB);
    } else {
        mapping.start_kib = mapping.end_kib = MAPPED_EXTENDED;
        mapping.extended_start = base;
        mapping.extended_end = base + size - 1;
    }
    put(writer, &mapping, STRINGS());
}

/* One memory module holds it all. */
static void put_memory(struct writer *writer, const struct layout *layout)
{
    uint64_t size = layout->ram_below_4g + layout->ram_above_4g;
    struct memory_array array = {
        .head = HEAD(16, array, HANDLE_MEMORY_ARRAY),
        .location = ARRAY_LOCATION_OTHER,
        .use = ARRAY_SYSTEM_MEMORY,
        .error_correction = ARRAY_CORRECTION_NONE,
        .maximum_kib = ARRAY_MAXIMUM_EXTENDED,
        .error_handle = HANDLE_NONE,
        .device_count = 1,
        .extended_maximum = size,
    };
    struct memory_device device = {
        .head = HEAD(17, device, HANDLE_MEMORY_DEVICE),
        .array_handle = HANDLE_MEMORY_ARRAY,
        .error_handle = HANDLE_NONE,
        .total_width = DEVICE_WIDTH_UNKNOWN,
        .data_width = DEVICE_WIDTH_UNKNOWN,
        .size_mib = (uint16_t)(size / MIB),
        .form_factor = DEVICE_FORM_DIMM,
        .locator = 1,
        .type = DEVICE_TYPE_RAM,
        .type_detail = DEVICE_DETAIL_OTHER,
        .manufacturer = 2,
    };

    if (size / KIB < ARRAY_MAXIMUM_EXTENDED) {
        array.maximum_kib = (uint32_t)(size / KIB);
        array.extended_maximum = 0;
    }
    if (size / MIB >= DEVICE_SIZE_EXTENDED) {
        device.size_mib = DEVICE_SIZE_EXTENDED;
        device.extended_size_mib = (uint32_t)(size / MIB);
    }
    put(writer, &array, STRINGS());
    put(writer, &device, STRINGS("DIMM 0", VENDOR));
    put_mapping(writer, HANDLE_MEMORY_LOW, 0, layout->ram_below_4g);
    if (layout->ram_above_4g)
        put_mapping(writer, HANDLE_MEMORY_HIGH, LAYOUT_RAM_ABOVE_BASE, layout->ram_above_4g);
}

static struct entry_point make_entry_point(size_t structures, gpa_t address)
{
    struct entry_point entry = {
        .anchor = {'_', 'S', 'M', '3', '_'},
        .length = sizeof(entry),
        .major = 3,
        .minor = 0,
        .revision = 1,
        .maximum_size = (uint32_t)structures,
        .address = address,
    };
    const uint8_t *bytes = (const uint8_t *)&entry;
    uint8_t sum = 0;

    for (unsigned i = 0; i < sizeof(entry); i++)
        sum += bytes[i];
    entry.checksum = (uint8_t)-sum;
    return entry;
}

/* All structures, after those that are there already. */
static int put_structures(struct writer *writer, const struct board_description *board,
                          struct error *err)
{
    const struct boot_status boot = {.head = HEAD(32, boot, HANDLE_BOOT)};
    const struct end end = {.head = HEAD(127, end, HANDLE_END)};

    put_system(writer, board);
    put_chassis(writer);
    put_processor(writer, board);
    put_memory(writer, board->layout);
    put(writer, &boot, STRINGS());
    put(writer, &end, STRINGS());
    return writer->overflow ? error_set(err, -E2BIG, "the name of the virtual machine is too long")
                            : 0;
}

int smbios_build(const struct board_description *board, struct memory *mem, gpa_t *entry_point,
                 struct error *err)
{
    struct writer writer = {.used = STRUCTURES_OFFSET};

    put_bios(&writer);
    int ret = put_structures(&writer, board, err);
    if (ret)
        return ret;
    struct entry_point entry =
        make_entry_point(writer.used - STRUCTURES_OFFSET, LAYOUT_SMBIOS_BASE + STRUCTURES_OFFSET);
    memcpy(writer.data, &entry, sizeof(entry));
    ret = memory_write(mem, LAYOUT_SMBIOS_BASE, writer.data, writer.used);
    if (ret)
        return error_set(err, ret, "no guest memory for the SMBIOS tables at 0x%x",
                         LAYOUT_SMBIOS_BASE);
    *entry_point = LAYOUT_SMBIOS_BASE;
    return 0;
}

int smbios_add_files(const struct board_description *board, struct fw_cfg *fw_cfg,
                     struct error *err)
{
    struct writer writer = {0};

    int ret = put_structures(&writer, board, err);
    if (ret)
        return ret;
    struct entry_point entry = make_entry_point(writer.used, 0);
    ret = fw_cfg_add_file(fw_cfg, "etc/smbios/smbios-tables", writer.data, writer.used, err);
    return ret ? ret
               : fw_cfg_add_file(fw_cfg, "etc/smbios/smbios-anchor", &entry, sizeof(entry), err);
}
