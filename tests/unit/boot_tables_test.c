/*
 * ACPI and SMBIOS tables as the guest finds them: reachable from RSDP and entry point, checksums,
 * what they say of the board, and that iasl, an independent reader, understands all of it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "boot/acpi/aml.h"
#include "boot/tables.h"
#include "boot_fixture.h"
#include "dev/legacy/acpi_pm.h"
#include "dev/pci/lpc.h"

static struct boot_fixture fixture;
static struct board_tables tables;
static struct board_description board;

static int setup(void **state)
{
    boot_fixture_init(&fixture, 4 * GIB);
    board = (struct board_description){
        .layout = &fixture.layout,
        .cpus = 2,
        .hpet = true,
        .i8042 = true,
        .serial = true,
        .name = "guest",
        .uuid = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    };
    return 0;
}

static int teardown(void **state)
{
    boot_fixture_done(&fixture);
    return 0;
}

static void build(void)
{
    if (boot_build_tables(&board, &fixture.mem, &tables, &fixture.err))
        fail_msg("%s", fixture.err.text);
}

static const uint8_t *at(gpa_t gpa, uint64_t length)
{
    const uint8_t *bytes = memory_host(&fixture.mem, gpa, length, false);

    assert_non_null(bytes);
    return bytes;
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

/* ---- ACPI ---- */

/* The n-th table that the XSDT (or RSDT, by `width` 4) lists, or NULL behind the last; also checks
 * that it lies in the area that the memory map reserves. */
static const uint8_t *listed(unsigned n, unsigned width)
{
    const uint8_t *rsdp = at(tables.rsdp, 36);
    gpa_t root = get(rsdp + (width == 8 ? 24 : 16), width);
    unsigned length = (unsigned)get(at(root, 36) + 4, 4);

    assert_memory_equal(at(root, 4), width == 8 ? "XSDT" : "RSDT", 4);
    assert_int_equal(sum(at(root, length), length), 0);
    if (36 + (n + 1) * width > length)
        return NULL;
    gpa_t table = get(at(root + 36 + n * width, width), width);
    length = (unsigned)get(at(table, 36) + 4, 4);
    assert_true(table >= LAYOUT_ACPI_BASE && table + length <= LAYOUT_ACPI_END);
    assert_int_equal(sum(at(table, length), length), 0);
    return at(table, length);
}

static const uint8_t *find(const char *signature)
{
    const uint8_t *table;

    for (unsigned n = 0; (table = listed(n, 8)); n++)
        if (!memcmp(table, signature, 4))
            return table;
    return NULL;
}

static void all_tables_are_listed_twice(void **state)
{
    static const char *const expected[] = {"FACP", "APIC", "MCFG", "HPET", "SSDT"};

    build();
    const uint8_t *rsdp = at(tables.rsdp, 36);
    assert_int_equal(tables.rsdp % 16, 0);
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(sum(rsdp, 20), 0);
    assert_int_equal(sum(rsdp, 36), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++) {
        assert_memory_equal(listed(i, 8), expected[i], 4);
        assert_ptr_equal(listed(i, 8), listed(i, 4));
    }
    assert_null(listed(ARRAY_SIZE(expected), 8));
    assert_null(listed(ARRAY_SIZE(expected), 4));
    board.hpet = false;
    build();
    assert_null(find("HPET"));
}

static void the_fadt_describes_the_pm_block(void **state)
{
    build();
    const uint8_t *fadt = find("FACP");
    gpa_t facs = get(fadt + 36, 4), dsdt = get(fadt + 140, 8);
    assert_int_equal(get(fadt + 4, 4), 276);
    assert_int_equal(facs % 64, 0);
    assert_memory_equal(at(facs, 64), "FACS", 4);
    assert_memory_equal(at(dsdt, 36), "DSDT", 4);
    assert_int_equal(get(fadt + 40, 4), dsdt);
    assert_int_equal(get(fadt + 46, 2), 9); /* SCI */
    assert_int_equal(get(fadt + 48, 4), ACPI_PM_SMI_CMD);
    assert_int_equal(fadt[52], ACPI_PM_CMD_ENABLE);
    assert_int_equal(fadt[53], ACPI_PM_CMD_DISABLE);
    assert_int_equal(get(fadt + 56, 4), 0x600);  /* PM1a_EVT_BLK */
    assert_int_equal(get(fadt + 64, 4), 0x604);  /* PM1a_CNT_BLK */
    assert_int_equal(get(fadt + 76, 4), 0x608);  /* PM_TMR_BLK */
    assert_int_equal(get(fadt + 80, 4), 0x620);  /* GPE0_BLK */
    assert_int_equal(fadt[92], 16);              /* its length */
    assert_int_equal(get(fadt + 120, 8), 0xcf9); /* RESET_REG */
    assert_int_equal(fadt[128], 6);
}

static void soft_off_is_what_the_pm_block_takes(void **state)
{
    static const uint8_t s5[] = {0x08, '_',
                                 'S',  '5',
                                 '_',  0x12,
                                 0x08, 0x04,
                                 0x0a, ACPI_PM_SLP_TYP_S5,
                                 0x0a, ACPI_PM_SLP_TYP_S5,
                                 0,    0};

    build();
    gpa_t dsdt = get(find("FACP") + 140, 8);
    size_t length = get(at(dsdt, 36) + 4, 4);
    assert_non_null(memmem(at(dsdt, length), length, s5, sizeof(s5)));
}

static void devices_are_there_when_the_board_has_them(void **state)
{
    /* AML: Name (FDCS, Zero), Name (FDCS, 0x0F) */
    static const uint8_t absent[] = {0x08, 'F', 'D', 'C', 'S', 0},
                         present[] = {0x08, 'F', 'D', 'C', 'S', 0x0a, 0x0f};

    build();
    const uint8_t *ssdt = find("SSDT");
    assert_non_null(memmem(ssdt, get(ssdt + 4, 4), absent, sizeof(absent)));
    board.floppy = true;
    build();
    ssdt = find("SSDT");
    assert_non_null(memmem(ssdt, get(ssdt + 4, 4), present, sizeof(present)));
}

/* Counts the MADT's entries of `type`; the last of them goes to `*last` (the table itself when
 * there is none). */
static unsigned madt_count(uint8_t type, const uint8_t **last)
{
    const uint8_t *madt = find("APIC");
    const uint8_t *end = madt + get(madt + 4, 4);
    unsigned count = 0;

    *last = madt;
    for (const uint8_t *entry = madt + 44; entry < end; entry += entry[1]) {
        assert_true(entry[1] >= 2 && entry + entry[1] <= end);
        if (entry[0] == type) {
            count++;
            *last = entry;
        }
    }
    return count;
}

static void every_cpu_is_listed(void **state)
{
    static const unsigned cpus[] = {1, 2, 255, 256, 1000};
    const uint8_t *entry;

    for (unsigned i = 0; i < ARRAY_SIZE(cpus); i++) {
        board.cpus = cpus[i];
        build();
        unsigned xapic = cpus[i] < 255 ? cpus[i] : 255;
        assert_int_equal(madt_count(0, &entry), xapic);
        assert_int_equal(entry[3], xapic - 1);
        assert_int_equal(get(entry + 4, 4), 1);
        assert_int_equal(madt_count(9, &entry), cpus[i] - xapic);
        if (cpus[i] > xapic)
            assert_int_equal(get(entry + 4, 4), cpus[i] - 1);
        assert_int_equal(madt_count(4, &entry), 1);
        assert_int_equal(madt_count(10, &entry), cpus[i] > xapic);
    }
    board.cpus = 100000;
    assert_int_equal(boot_build_tables(&board, &fixture.mem, &tables, &fixture.err), -E2BIG);
    assert_non_null(strstr(fixture.err.text, "100000 CPUs"));
}

static void interrupts_are_wired_as_on_the_board(void **state)
{
    const uint8_t *entry;

    build();
    assert_int_equal(madt_count(1, &entry), 1);
    assert_int_equal(get(entry + 4, 4), LAYOUT_IOAPIC_BASE);
    assert_int_equal(get(entry + 8, 4), 0);
    assert_int_equal(madt_count(2, &entry), 2);
    assert_int_equal(entry[3], 9); /* the SCI: level triggered, active high */
    assert_int_equal(get(entry + 8, 2), 0x0d);
}

static void ecam_is_where_the_layout_says(void **state)
{
    build();
    const uint8_t *mcfg = find("MCFG");
    assert_int_equal(get(mcfg + 44, 8), LAYOUT_ECAM_BASE);
    assert_int_equal(mcfg[54], 0);
    assert_int_equal((mcfg[55] + 1) * MIB, LAYOUT_ECAM_SIZE);
}

static void lengths_are_encoded_at_every_boundary(void **state)
{
    static const struct {
        size_t content; /* of a package, without its count of elements */
        uint8_t encoded[3];
        unsigned bytes;
    } cases[] = {
        {0, {0x02}, 1},          {61, {0x3f}, 1},
        {62, {0x41, 0x04}, 2}, /* 65 with the length's own two bytes */
        {4092, {0x4f, 0xff}, 2}, {4093, {0x80, 0x00, 0x01}, 3}, /* then they are three: 4097 */
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t bytes[8192], zeros[8192] = {0};
        struct aml aml = {.data = bytes, .size = sizeof(bytes)};
        size_t package = aml_open_package(&aml, 0);
        aml_bytes(&aml, zeros, cases[i].content);
        aml_close(&aml, package);
        assert_false(aml.overflow);
        unsigned length = cases[i].bytes == 1   ? bytes[1]
                          : cases[i].bytes == 2 ? (bytes[1] & 0xfu) | (unsigned)bytes[2] << 4
                                                : (bytes[1] & 0xfu) | (unsigned)bytes[2] << 4 |
                                                      (unsigned)bytes[3] << 12;
        assert_int_equal(bytes[1] >> 6, cases[i].bytes - 1);
        assert_int_equal(length, aml.used - 1);
    }
}

static void aml_that_does_not_fit_is_noted(void **state)
{
    uint8_t bytes[16];
    struct aml aml = {.data = bytes, .size = 8};

    memset(bytes, 0xcc, sizeof(bytes));
    size_t scope = aml_open_scope(&aml, "\\_SB_");
    aml_name(&aml, "ABCD");
    aml_integer(&aml, UINT64_MAX);
    aml_close(&aml, scope);
    assert_true(aml.overflow);
    for (unsigned i = 8; i < sizeof(bytes); i++)
        assert_int_equal(bytes[i], 0xcc);
}

/* ---- iasl ---- */

static char folder[] = "/tmp/sill-acpi-XXXXXX";

static void save(const char *name, const uint8_t *table)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s.aml", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    size_t length = get(table + 4, 4);
    assert_int_equal(fwrite(table, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

/* Runs a shell command in the folder; it must succeed. */
static void run(const char *command)
{
    char *line;

    assert_true(
        asprintf(&line, "cd %s && (%s) > log 2>&1 || { cat log; false; }", folder, command) > 0);
    int status = system(line);
    free(line);
    if (status)
        fail_msg("failed: %s (the tables are in %s)", command, folder);
}

static void iasl_understands_every_table(void **state)
{
    if (system("iasl -v > /dev/null 2>&1")) {
        print_message("skipped: there is no iasl\n");
        skip();
    }
    board.cpus = 300;
    build();
    gpa_t dsdt = get(find("FACP") + 140, 8);
    assert_non_null(mkdtemp(folder));
    save("DSDT", at(dsdt, get(at(dsdt, 36) + 4, 4)));
    for (unsigned i = 0; listed(i, 8); i++) {
        char name[5] = {0};
        memcpy(name, listed(i, 8), 4);
        save(name, listed(i, 8));
    }
    /* Each disassembles; DSDT and SSDT refer to one another. */
    run("for t in FACP APIC MCFG HPET; do iasl -d $t.aml || exit 1; done");
    run("iasl -e SSDT.aml -d DSDT.aml && iasl -e DSDT.aml -d SSDT.aml");
    run("! grep -iE 'error|invalid|unknown|unresolved|warning' *.dsl");
    run("grep -q 'QWordMemory' SSDT.dsl && grep -q 'Device (C12B)' SSDT.dsl");
    /* What came out is sound enough to be compiled again. */
    run("iasl -we -p again DSDT.dsl && iasl -we -p again SSDT.dsl");
    run("rm *.* log && rmdir $PWD");
}

/* ---- SMBIOS ---- */

/* The structure behind `bytes`: past its formatted part and its strings. */
static const uint8_t *next_structure(const uint8_t *bytes)
{
    bytes += bytes[1];
    while (bytes[0] || bytes[1])
        bytes++;
    return bytes + 2;
}

static const char *string(const uint8_t *structure, unsigned number)
{
    const char *text = (const char *)structure + structure[1];

    while (--number)
        text += strlen(text) + 1;
    return text;
}

static void smbios_structures_form_one_chain(void **state)
{
    static const uint8_t types[] = {0, 1, 3, 4, 16, 17, 19, 19, 32, 127};
    static const uint8_t uuid[] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

    build();
    const uint8_t *entry = at(tables.smbios, 0x18);
    assert_int_equal(tables.smbios % 16, 0);
    assert_memory_equal(entry, "_SM3_", 5);
    assert_int_equal(sum(entry, 0x18), 0);
    size_t size = get(entry + 12, 4);
    const uint8_t *start = at(get(entry + 16, 8), size), *structure = start;
    for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
        assert_int_equal(structure[0], types[i]);
        assert_int_equal(get(structure + 2, 2), i);
        if (structure[0] == 1) {
            assert_memory_equal(structure + 8, uuid, sizeof(uuid));
            assert_string_equal(string(structure, structure[4]), "Sill");
            assert_string_equal(string(structure, structure[7]), "guest");
        }
        if (structure[0] == 4)
            assert_int_equal(structure[0x23], 2); /* cores */
        if (structure[0] == 17)
            assert_int_equal(get(structure + 0x0c, 2), 4096); /* MiB */
        structure = next_structure(structure);
    }
    assert_ptr_equal(structure, start + size);
}

static void a_name_too_long_for_smbios_is_refused(void **state)
{
    static char name[5000];

    memset(name, 'n', sizeof(name) - 1);
    board.name = name;
    assert_int_equal(boot_build_tables(&board, &fixture.mem, &tables, &fixture.err), -E2BIG);
    board.name = "";
    build();
}

static void the_bios_data_area_names_the_ebda(void **state)
{
    build();
    assert_int_equal(get(at(0x40e, 2), 2), 0x9fc0);
    assert_int_equal(get(at(0x413, 2), 2), 639);
    assert_int_equal(get(at(0x400, 2), 2), 0x3f8);
    assert_int_equal(*at(0x9fc00, 1), 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

/* ---- MP table ---- */

static void mp_table_lists_what_there_is(void **state)
{
    static const unsigned entry_size[] = {20, 8, 8, 8, 8};
    unsigned count[5] = {0};

    board.cpus = 3;
    board.cpu_signature = 0x00a20f10;
    board.cpu_features = 0x078bfbff;
    build();
    const uint8_t *pointer = at(LAYOUT_MP_BASE, 16);
    assert_memory_equal(pointer, "_MP_", 4);
    assert_int_equal(pointer[8], 1);
    assert_int_equal(sum(pointer, 16), 0);

    gpa_t where = get(pointer + 4, 4);
    const uint8_t *table = at(where, 44);
    unsigned length = (unsigned)get(table + 4, 2), entries = (unsigned)get(table + 34, 2);
    assert_memory_equal(table, "PCMP", 4);
    table = at(where, length);
    assert_int_equal(sum(table, length), 0);
    assert_int_equal(get(table + 36, 4), LAYOUT_LAPIC_BASE);

    unsigned used = 44;
    for (; entries--; used += entry_size[table[used]]) {
        const uint8_t *entry = table + used;
        assert_in_range(entry[0], 0, 4);
        if (entry[0] == 0) {
            assert_int_equal(entry[1], count[0]);
            assert_int_equal(entry[3], count[0] ? 1 : 3);
            assert_int_equal(get(entry + 4, 4), board.cpu_signature);
        }
        /* Slot 3, INTB#: PIRQ by the same folding as the LPC bridge's. */
        if (entry[0] == 3 && entry[4] == 0 && entry[5] == (3 << 2 | 1))
            assert_int_equal(entry[7], LPC_PIRQ_FIRST_PIN + lpc_pirq(3, 1));
        count[entry[0]]++;
    }
    assert_int_equal(used, length);
    assert_int_equal(count[0], 3);
    assert_int_equal(count[1], 2);
    assert_int_equal(count[2], 1);
    assert_int_equal(count[3], 15 + 32 * 4);
    assert_int_equal(count[4], 2);
}

static void mp_table_has_room_for_all_that_it_can_number(void **state)
{
    board.cpus = 300;
    build();
    gpa_t where = get(at(LAYOUT_MP_BASE, 16) + 4, 4);
    unsigned length = (unsigned)get(at(where, 44) + 4, 2);
    assert_int_equal(sum(at(where, length), length), 0);
    assert_true(where + length <= LAYOUT_MP_END);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_tables_are_listed_twice),
        TEST(the_fadt_describes_the_pm_block),
        TEST(soft_off_is_what_the_pm_block_takes),
        TEST(devices_are_there_when_the_board_has_them),
        TEST(every_cpu_is_listed),
        TEST(interrupts_are_wired_as_on_the_board),
        TEST(ecam_is_where_the_layout_says),
        TEST(lengths_are_encoded_at_every_boundary),
        TEST(aml_that_does_not_fit_is_noted),
        TEST(iasl_understands_every_table),
        TEST(smbios_structures_form_one_chain),
        TEST(a_name_too_long_for_smbios_is_refused),
        TEST(the_bios_data_area_names_the_ebda),
        TEST(mp_table_lists_what_there_is),
        TEST(mp_table_has_room_for_all_that_it_can_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
