/* Multiboot 1 kernels: both ways of loading, modules, boot information, damaged headers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "boot_elf.h"
#include "boot_fixture.h"

#define FLAG_ALIGN (1u << 0)
#define FLAG_MEMORY (1u << 1)
#define FLAG_VIDEO (1u << 2)
#define FLAG_ADDRESSES (1u << 16)

#define HEADER_OFFSET 0x300 /* behind what boot_elf.h uses */

struct mb_header {
    uint32_t magic, flags, checksum;
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};

/* The specification's structures, written down a second time on purpose. */
struct mb_info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
    uint32_t mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name;
};

struct mb_module {
    uint32_t mod_start, mod_end, string, reserved;
};

struct mb_range {
    uint32_t size;
    uint64_t addr, len;
    uint32_t type;
} __attribute__((packed));

static struct boot_fixture fixture;
static struct test_elf elf;

static struct mb_header *put_header(uint32_t flags)
{
    struct mb_header *header = (struct mb_header *)(elf.bytes + HEADER_OFFSET);

    header->magic = 0x1badb002;
    header->flags = flags;
    header->checksum = -(header->magic + flags);
    return header;
}

static int setup(void **state)
{
    boot_fixture_init(&fixture, 32 * MIB);
    test_elf32(&elf);
    put_header(FLAG_ALIGN | FLAG_MEMORY);
    return 0;
}

static int teardown(void **state)
{
    boot_fixture_done(&fixture);
    return 0;
}

static void load(struct mb_info *info)
{
    fixture.config.kernel = boot_fixture_file(&elf, sizeof(elf));
    boot_fixture_load(&fixture);
    assert_int_equal(fixture.state.gpr[X86_RAX], 0x2badb002);
    boot_fixture_read(&fixture, fixture.state.gpr[X86_RBX], info, sizeof(*info));
}

static void refuse(int code, const char *text)
{
    fixture.config.kernel = boot_fixture_file(&elf, sizeof(elf));
    boot_fixture_refuse(&fixture, code, fixture.config.kernel, text);
}

static void both_classes_of_elf_are_loaded(void **state)
{
    struct mb_info info;

    load(&info);
    boot_fixture_check_protected(&fixture, TEST_ELF_ENTRY);
    test_elf64(&elf);
    put_header(FLAG_VIDEO);
    load(&info);
    boot_fixture_check_protected(&fixture, TEST_ELF_ENTRY);
}

static void a_virtual_entry_becomes_physical(void **state)
{
    struct mb_info info;

    elf.elf32.segment[0].p_vaddr = 0xc0000000;
    elf.elf32.header.e_entry = 0xc0000040;
    load(&info);
    boot_fixture_check_protected(&fixture, TEST_ELF_ENTRY);
}

static void memory_is_described(void **state)
{
    struct mb_info info;
    struct layout_map map;

    load(&info);
    assert_int_equal(info.flags, 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
    assert_int_equal(info.mem_lower, 639);
    assert_int_equal(info.mem_upper, 31 * 1024);
    assert_string_equal(boot_fixture_string(&fixture, info.boot_loader_name), "Sill");
    layout_memory_map(&fixture.layout, &map);
    assert_int_equal(info.mmap_length, map.count * sizeof(struct mb_range));
    for (unsigned i = 0; i < map.count; i++) {
        struct mb_range range;
        boot_fixture_read(&fixture, info.mmap_addr + i * sizeof(range), &range, sizeof(range));
        assert_int_equal(range.size, 20);
        assert_int_equal(range.addr, map.range[i].base);
        assert_int_equal(range.len, map.range[i].size);
        assert_int_equal(range.type, map.range[i].type);
    }
}

static void the_command_line_begins_with_the_kernel(void **state)
{
    struct mb_info info;
    char expected[64];

    load(&info);
    assert_string_equal(boot_fixture_string(&fixture, info.cmdline), fixture.config.kernel);
    fixture.config.append = "smp 4";
    load(&info);
    snprintf(expected, sizeof(expected), "%s smp 4", fixture.config.kernel);
    assert_string_equal(boot_fixture_string(&fixture, info.cmdline), expected);
}

static void modules_lie_behind_the_kernel(void **state)
{
    struct mb_info info;
    struct mb_module module[2];
    char list[128];
    const char *first = boot_fixture_file("first module", 13);
    const char *second = boot_fixture_file("second", 7);

    snprintf(list, sizeof(list), "%s with arguments,%s", first, second);
    fixture.config.initrd = list;
    load(&info);
    assert_int_equal(info.mods_count, 2);
    boot_fixture_read(&fixture, info.mods_addr, module, sizeof(module));
    assert_int_equal(module[0].mod_start % GUEST_PAGE_SIZE, 0);
    assert_true(module[0].mod_start >= TEST_ELF_ADDRESS + TEST_ELF_TEXT_SIZE + TEST_ELF_BSS);
    assert_int_equal(module[0].mod_end - module[0].mod_start, 13);
    assert_string_equal(boot_fixture_string(&fixture, module[0].mod_start), "first module");
    assert_string_equal(boot_fixture_string(&fixture, module[1].mod_start), "second");
    assert_string_equal(boot_fixture_string(&fixture, module[1].string), second);
    list[strlen(first) + strlen(" with arguments")] = '\0';
    assert_string_equal(boot_fixture_string(&fixture, module[0].string), list);
}

static void bad_module_lists_are_refused(void **state)
{
    char list[256];

    fixture.config.initrd = "/nonexistent/module argument";
    fixture.config.kernel = boot_fixture_file(&elf, sizeof(elf));
    boot_fixture_refuse(&fixture, -ENOENT, "/nonexistent/module:", "No such file");
    const char *empty = boot_fixture_file("", 0);
    list[0] = '\0';
    for (unsigned i = 0; i < 65; i++) /* 65 names would be longer: repeat by separators */
        strcat(list, ",");
    fixture.config.initrd = list;
    boot_fixture_refuse(&fixture, -ENOENT, ": ", "No such file");
    fixture.config.initrd = empty;
    boot_fixture_load(&fixture);
}

/* ---- load addresses in the header ---- */

static struct mb_header *flat(void)
{
    memset(elf.bytes, 0x90, HEADER_OFFSET);
    struct mb_header *header = put_header(FLAG_ADDRESSES);
    header->header_addr = TEST_ELF_ADDRESS + HEADER_OFFSET;
    header->load_addr = TEST_ELF_ADDRESS;
    header->load_end_addr = 0;
    header->bss_end_addr = TEST_ELF_ADDRESS + TEST_ELF_SIZE + 0x1000;
    header->entry_addr = TEST_ELF_ADDRESS + 8;
    return header;
}

static void a_flat_image_is_loaded_by_its_addresses(void **state)
{
    struct mb_header *header = flat();
    struct mb_info info;
    uint8_t loaded[TEST_ELF_SIZE];

    load(&info);
    boot_fixture_check_protected(&fixture, TEST_ELF_ADDRESS + 8);
    boot_fixture_read(&fixture, TEST_ELF_ADDRESS, loaded, sizeof(loaded));
    assert_memory_equal(loaded, elf.bytes, sizeof(loaded));

    /* Only a part, from 0x100 in the file on. */
    header->load_addr += 0x100;
    header->load_end_addr = header->load_addr + 0x300;
    header->bss_end_addr = header->load_end_addr;
    header->entry_addr = header->load_addr;
    load(&info);
    boot_fixture_read(&fixture, header->load_addr, loaded, 0x300);
    assert_memory_equal(loaded, elf.bytes + 0x100, 0x300);
}

static void addresses_that_cannot_be_are_refused(void **state)
{
    struct mb_header *header = flat();
    const struct mb_header good = *header;

    header->load_addr = header->header_addr + 4;
    refuse(-ENOEXEC, "before the file's start");
    header->load_addr = TEST_ELF_ADDRESS - 4;
    refuse(-ENOEXEC, "before the file's start");
    *header = good;
    header->load_end_addr = header->load_addr - 1;
    refuse(-ENOEXEC, "cross");
    *header = good;
    header->load_end_addr = header->load_addr + TEST_ELF_SIZE + 1;
    header->bss_end_addr = 0;
    refuse(-ENOEXEC, "truncated");
    *header = good;
    header->bss_end_addr = header->load_addr - 1;
    refuse(-ENOEXEC, "bss");
    header->bss_end_addr = header->load_addr + 1;
    refuse(-ENOEXEC, "bss");
    *header = good;
    header->entry_addr = header->load_addr + TEST_ELF_SIZE;
    refuse(-ENOEXEC, "entry");
    *header = good;
    header->bss_end_addr = UINT32_MAX;
    refuse(-ENOEXEC, "no memory");
}

static void headers_that_cannot_be_are_refused(void **state)
{
    put_header(1u << 3);
    refuse(-ENOEXEC, "demands");
    put_header(0)->checksum++;
    elf.elf32.segment[1].p_type = PT_NULL; /* no PVH either */
    refuse(-ENOEXEC, "neither a multiboot kernel");
    put_header(0);
    elf.bytes[0] = 0;
    refuse(-ENOEXEC, "no load addresses");
    elf.bytes[0] = 0x7f;
    elf.elf32.header.e_entry = 0x1000;
    refuse(-ENOEXEC, "entry");
}

static void the_header_is_found_only_in_the_first_8_kib(void **state)
{
    static uint8_t file[16 * KIB];
    struct mb_header *header = flat();

    header->load_addr = header->header_addr;
    header->entry_addr = header->header_addr + 32;
    header->bss_end_addr = 0;
    memcpy(file + 8 * KIB - sizeof(*header), header, sizeof(*header));
    fixture.config.kernel = boot_fixture_file(file, sizeof(file));
    boot_fixture_load(&fixture);
    boot_fixture_check_protected(&fixture, header->entry_addr);

    memset(file, 0, sizeof(file));
    memcpy(file + 8 * KIB - sizeof(*header) + 4, header, sizeof(*header));
    fixture.config.kernel = boot_fixture_file(file, sizeof(file));
    boot_fixture_refuse(&fixture, -ENOEXEC, fixture.config.kernel, "not a kernel");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(both_classes_of_elf_are_loaded),
        TEST(a_virtual_entry_becomes_physical),
        TEST(memory_is_described),
        TEST(the_command_line_begins_with_the_kernel),
        TEST(modules_lie_behind_the_kernel),
        TEST(bad_module_lists_are_refused),
        TEST(a_flat_image_is_loaded_by_its_addresses),
        TEST(addresses_that_cannot_be_are_refused),
        TEST(headers_that_cannot_be_are_refused),
        TEST(the_header_is_found_only_in_the_first_8_kib),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
