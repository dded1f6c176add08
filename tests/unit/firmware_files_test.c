/*
 * The tables as firmware gets them: carries out the table loader's commands as firmware does, with
 * memory of its own choice, and looks whether all tables are then in place.
 */
#include "device_rig.h"

#include <endian.h>

#include "boot/tables.h"

#define RAM_SIZE 0x100000u
#define TABLES_AT 0x40040u /* as odd as the alignment allows */
#define RSDP_AT 0x20010u
#define NAME_SIZE 56

struct fixture {
    struct device_rig rig;
    struct memory memory;
    struct layout layout;
    struct fw_cfg *fw_cfg;
};

struct file {
    uint8_t *data;
    uint32_t size;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct fw_cfg_config config = {.cpus = 2};

    rig_init(&f->rig);
    memory_init(&f->memory, 0);
    assert_int_equal(memory_add(&f->memory, 0, RAM_SIZE, 0, "ram", NULL), 0);
    assert_int_equal(layout_init(&f->layout, 6 * GIB, 40, NULL), 0);
    assert_int_equal(fw_cfg_new(&f->fw_cfg, &config), 0);
    assert_int_equal(fw_cfg_attach(f->fw_cfg, &f->rig.bus, NULL), 0);
    const struct board_description board = {
        .layout = &f->layout, .cpus = 2, .hpet = true, .vga = true, .name = "guest"};
    assert_int_equal(boot_add_firmware_files(&board, f->fw_cfg, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fw_cfg_device(f->fw_cfg)->ops->destroy(fw_cfg_device(f->fw_cfg));
    memory_done(&f->memory);
    rig_done(&f->rig);
    free(f);
    return 0;
}

static void read_bytes(struct fixture *f, void *to, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)to)[i] = inb(&f->rig, 0x511);
}

/* A file by its name, through the directory; to be freed. */
static struct file get_file(struct fixture *f, const char *name)
{
    struct {
        uint32_t size;
        uint16_t item, reserved;
        char name[NAME_SIZE];
    } entry;
    uint32_t count;

    outw(&f->rig, 0x510, 0x19);
    read_bytes(f, &count, sizeof(count));
    for (unsigned i = 0; i < be32toh(count); i++) {
        read_bytes(f, &entry, sizeof(entry));
        if (strcmp(entry.name, name) != 0)
            continue;
        struct file file = {.size = be32toh(entry.size)};
        file.data = malloc(file.size);
        outw(&f->rig, 0x510, be16toh(entry.item));
        read_bytes(f, file.data, file.size);
        return file;
    }
    fail_msg("there is no file %s", name);
    return (struct file){0};
}

static uint64_t get(const uint8_t *bytes, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, bytes, size);
    return value;
}

static uint8_t sum(const uint8_t *bytes, size_t length)
{
    uint8_t total = 0;

    while (length--)
        total += *bytes++;
    return total;
}

static uint8_t *ram(struct fixture *f, gpa_t gpa, uint64_t length)
{
    uint8_t *host = memory_host(&f->memory, gpa, length, true);

    assert_non_null(host);
    return host;
}

static gpa_t place_of(const char *name)
{
    return !strcmp(name, "etc/acpi/rsdp") ? RSDP_AT : TABLES_AT;
}

static void run_command(struct fixture *f, const uint8_t *command)
{
    const char *name = (const char *)command + 4;
    const uint8_t *behind = command + 4 + NAME_SIZE;
    gpa_t place = place_of(name);

    switch (get(command, 4)) {
    case 1: { /* allocate */
        struct file file = get_file(f, name);
        assert_int_equal(place % get(behind, 4), 0);
        assert_int_equal(behind[4], place == RSDP_AT ? 2 : 1);
        memcpy(ram(f, place, file.size), file.data, file.size);
        free(file.data);
        break;
    }
    case 2: { /* add pointer */
        uint8_t *at = ram(f, place + get(behind + NAME_SIZE, 4), 8);
        uint64_t value =
            get(at, behind[NAME_SIZE + 4]) + place_of((const char *)command + 4 + NAME_SIZE);
        memcpy(at, &value, behind[NAME_SIZE + 4]);
        break;
    }
    case 3: /* add checksum */
        *ram(f, place + get(behind, 4), 1) -=
            sum(ram(f, place + get(behind + 4, 4), get(behind + 8, 4)), get(behind + 8, 4));
        break;
    default:
        fail_msg("unknown command %u", (unsigned)get(command, 4));
    }
}

static void check_table(struct fixture *f, gpa_t at, const char *signature)
{
    uint32_t length = (uint32_t)get(ram(f, at + 4, 4), 4);

    assert_memory_equal(ram(f, at, 4), signature, 4);
    assert_int_equal(sum(ram(f, at, length), length), 0);
}

static void commands_put_every_table_in_place(void **state)
{
    static const char *const expected[] = {"FACP", "APIC", "MCFG", "HPET", "SSDT"};
    struct fixture *f = *state;
    struct file script = get_file(f, "etc/table-loader");

    assert_int_equal(script.size % 128, 0);
    for (uint32_t at = 0; at < script.size; at += 128)
        run_command(f, script.data + at);
    free(script.data);

    const uint8_t *rsdp = ram(f, RSDP_AT, 36);
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(sum(rsdp, 20), 0);
    assert_int_equal(sum(rsdp, 36), 0);
    gpa_t rsdt = get(rsdp + 16, 4), xsdt = get(rsdp + 24, 8);
    check_table(f, rsdt, "RSDT");
    check_table(f, xsdt, "XSDT");
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++) {
        gpa_t table = get(ram(f, xsdt + 36 + 8 * i, 8), 8);
        check_table(f, table, expected[i]);
        assert_int_equal(get(ram(f, rsdt + 36 + 4 * i, 4), 4), table);
    }
    gpa_t fadt = get(ram(f, xsdt + 36, 8), 8);
    assert_memory_equal(ram(f, get(ram(f, fadt + 36, 4), 4), 4), "FACS", 4);
    assert_int_equal(get(ram(f, fadt + 36, 4), 4) % 64, 0);
    check_table(f, get(ram(f, fadt + 40, 4), 4), "DSDT");
    assert_int_equal(get(ram(f, fadt + 140, 8), 8), get(ram(f, fadt + 40, 4), 4));
    assert_int_equal(get(ram(f, fadt + 109, 2), 2) & 4, 0); /* there is a VGA */
}

static void memory_map_has_all_ram(void **state)
{
    struct fixture *f = *state;
    struct file map = get_file(f, "etc/e820");

    assert_int_equal(map.size, 2 * 20);
    assert_int_equal(get(map.data, 8), 0);
    assert_int_equal(get(map.data + 8, 8), f->layout.ram_below_4g);
    assert_int_equal(get(map.data + 20, 8), 4 * GIB);
    assert_int_equal(get(map.data + 28, 8), f->layout.ram_above_4g);
    assert_int_equal(get(map.data + 16, 4), 1);
    assert_int_equal(get(map.data + 36, 4), 1);
    free(map.data);
}

/* Firmware says itself what BIOS it is: type 0 is not among the structures. */
static void smbios_entry_point_fits_its_structures(void **state)
{
    struct fixture *f = *state;
    struct file anchor = get_file(f, "etc/smbios/smbios-anchor");
    struct file tables = get_file(f, "etc/smbios/smbios-tables");
    uint32_t at = 0;
    bool end = false;

    assert_memory_equal(anchor.data, "_SM3_", 5);
    assert_int_equal(sum(anchor.data, anchor.size), 0);
    assert_int_equal(get(anchor.data + 12, 4), tables.size);
    while (!end) {
        assert_true(at + 4 <= tables.size);
        end = tables.data[at] == 127;
        assert_int_not_equal(tables.data[at], 0);
        at += tables.data[at + 1];
        while (get(tables.data + at, 2))
            at++;
        at += 2;
    }
    assert_int_equal(at, tables.size);
    free(anchor.data);
    free(tables.data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(commands_put_every_table_in_place),
        TEST(memory_map_has_all_ram),
        TEST(smbios_entry_point_fits_its_structures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
