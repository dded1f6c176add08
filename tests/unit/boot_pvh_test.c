/* ELF kernels with a PVH entry: loading, start information, entry state, damaged files. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "boot_elf.h"
#include "boot_fixture.h"

/* The ABI's structures, written down a second time on purpose. */
struct start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
    uint32_t memmap_entries, reserved;
};

struct module_entry {
    uint64_t paddr, size, cmdline_paddr, reserved;
};

struct memmap_entry {
    uint64_t addr, size;
    uint32_t type, reserved;
};

static struct boot_fixture fixture;
static struct test_elf elf;

static int setup(void **state)
{
    boot_fixture_init(&fixture, 32 * MIB);
    test_elf64(&elf);
    return 0;
}

static int teardown(void **state)
{
    boot_fixture_done(&fixture);
    return 0;
}

static void load(struct start_info *info)
{
    fixture.config.kernel = boot_fixture_file(&elf, sizeof(elf));
    boot_fixture_load(&fixture);
    boot_fixture_read(&fixture, fixture.state.gpr[X86_RBX], info, sizeof(*info));
}

static void refuse(int code, const char *text)
{
    fixture.config.kernel = boot_fixture_file(&elf, sizeof(elf));
    boot_fixture_refuse(&fixture, code, fixture.config.kernel, text);
}

static void check_loaded(void)
{
    uint8_t loaded[TEST_ELF_TEXT_SIZE + TEST_ELF_BSS];

    boot_fixture_read(&fixture, TEST_ELF_ADDRESS, loaded, sizeof(loaded));
    assert_memory_equal(loaded, elf.bytes + TEST_ELF_TEXT, TEST_ELF_TEXT_SIZE);
    for (unsigned i = TEST_ELF_TEXT_SIZE; i < sizeof(loaded); i++)
        assert_int_equal(loaded[i], 0);
}

static void both_classes_are_entered_in_protected_mode(void **state)
{
    struct start_info info;

    load(&info);
    check_loaded();
    boot_fixture_check_protected(&fixture, TEST_ELF_ENTRY);
    test_elf32(&elf);
    load(&info);
    check_loaded();
    boot_fixture_check_protected(&fixture, TEST_ELF_ENTRY);
}

static void bss_is_cleared_when_the_guest_is_started_again(void **state)
{
    struct start_info info;
    uint8_t old[16];

    load(&info);
    memset(old, 0xaa, sizeof(old));
    assert_int_equal(
        memory_write(&fixture.mem, TEST_ELF_ADDRESS + TEST_ELF_TEXT_SIZE, old, sizeof(old)), 0);
    load(&info);
    check_loaded();
}

static void the_start_information_leads_to_everything(void **state)
{
    static const char initrd[] = "initial RAM disk";
    struct start_info info;
    struct module_entry module;
    struct memmap_entry memmap[LAYOUT_MAX_RANGES];
    struct layout_map map;

    fixture.config.append = "quiet";
    fixture.config.initrd = boot_fixture_file(initrd, sizeof(initrd));
    fixture.config.rsdp = 0xe0000;
    load(&info);
    assert_int_equal(info.magic, 0x336ec578);
    assert_int_equal(info.version, 1);
    assert_int_equal(info.flags, 0);
    assert_int_equal(info.rsdp_paddr, 0xe0000);
    assert_string_equal(boot_fixture_string(&fixture, info.cmdline_paddr), "quiet");
    assert_int_equal(info.nr_modules, 1);
    boot_fixture_read(&fixture, info.modlist_paddr, &module, sizeof(module));
    assert_int_equal(module.size, sizeof(initrd));
    assert_string_equal(boot_fixture_string(&fixture, module.paddr), initrd);

    layout_memory_map(&fixture.layout, &map);
    assert_int_equal(info.memmap_entries, map.count);
    boot_fixture_read(&fixture, info.memmap_paddr, memmap, map.count * sizeof(memmap[0]));
    for (unsigned i = 0; i < map.count; i++) {
        assert_int_equal(memmap[i].addr, map.range[i].base);
        assert_int_equal(memmap[i].size, map.range[i].size);
        assert_int_equal(memmap[i].type, map.range[i].type);
    }
}

static void the_entry_is_a_physical_address(void **state)
{
    struct start_info info;

    /* As Linux: linked at high addresses, the note names the physical entry. */
    elf.elf64.segment[0].p_vaddr = 0xffffffff81000000;
    load(&info);
    boot_fixture_check_protected(&fixture, TEST_ELF_ENTRY);
}

static void other_notes_are_skipped(void **state)
{
    struct test_note *note = (struct test_note *)(elf.bytes + TEST_ELF_NOTE);
    const struct test_note entry = *note;
    struct start_info info;

    /* A note whose name and contents need padding goes first. */
    note->head = (Elf32_Nhdr){.n_namesz = 3, .n_descsz = 7, .n_type = 18};
    memcpy(elf.bytes + TEST_ELF_NOTE + sizeof(*note), &entry, sizeof(entry));
    elf.elf64.segment[1].p_filesz = 2 * sizeof(entry);
    load(&info);
    boot_fixture_check_protected(&fixture, TEST_ELF_ENTRY);
}

static void damaged_notes_are_no_entry(void **state)
{
    struct test_note *note = (struct test_note *)(elf.bytes + TEST_ELF_NOTE);

    note->head.n_descsz = 0xffffffff;
    refuse(-ENOEXEC, "PVH entry");
    note->head.n_descsz = 8;
    note->head.n_namesz = 0xffffffff;
    refuse(-ENOEXEC, "PVH entry");
    note->head.n_namesz = 4;
    elf.elf64.segment[1].p_filesz = sizeof(*note) - 1;
    refuse(-ENOEXEC, "PVH entry");
    elf.elf64.segment[1].p_filesz = sizeof(*note);
    note->entry = TEST_ELF_ADDRESS + TEST_ELF_TEXT_SIZE;
    refuse(-ENOEXEC, "outside what it loads");
}

static void damaged_headers_are_refused(void **state)
{
    const struct test_elf good = elf;

    elf.elf64.header.e_ident[EI_CLASS] = 3;
    refuse(-ENOEXEC, "class");
    elf = good;
    elf.elf64.header.e_machine = EM_AARCH64;
    refuse(-ENOEXEC, "architecture");
    elf = good;
    elf.elf64.header.e_phnum = 0;
    refuse(-ENOEXEC, "program headers");
    elf.elf64.header.e_phnum = 0xffff;
    refuse(-ENOEXEC, "program headers");
    elf = good;
    elf.elf64.header.e_phentsize = 32;
    refuse(-ENOEXEC, "wrong size");
    elf = good;
    elf.elf64.header.e_phoff = UINT64_MAX - 8;
    refuse(-ENOEXEC, "behind its end");
    elf.elf64.header.e_phoff = TEST_ELF_SIZE - 8;
    refuse(-ENOEXEC, "truncated");
}

/* The kernel, its entry included, is to lie at `address`. */
static void move(uint64_t address)
{
    struct test_note *note = (struct test_note *)(elf.bytes + TEST_ELF_NOTE);

    elf.elf64.segment[0].p_paddr = address;
    note->entry = address;
}

static void damaged_segments_are_refused(void **state)
{
    const struct test_elf good = elf;
    Elf64_Phdr *segment = &elf.elf64.segment[0];

    segment->p_offset = UINT64_MAX;
    refuse(-ENOEXEC, "past its end");
    elf = good;
    segment->p_filesz = UINT64_MAX;
    refuse(-ENOEXEC, "past its end");
    elf = good;
    segment->p_memsz = TEST_ELF_TEXT_SIZE - 1;
    refuse(-ENOEXEC, "larger in the file");
    segment->p_memsz = 0;
    refuse(-ENOEXEC, "larger in the file");
    elf = good;
    ((struct test_note *)(elf.bytes + TEST_ELF_NOTE))->entry += UINT32_MAX + 1ull;
    refuse(-ENOEXEC, "outside what it loads");
    elf = good;
    segment->p_memsz = UINT64_MAX;
    refuse(-ENOEXEC, "no memory");
    elf = good;
    segment->p_memsz = 100 * MIB;
    refuse(-ENOMEM, "at least 102 MiB");
    elf = good;
    move(0);
    refuse(-ENOEXEC, "overlaps");
    move(0xf0000);
    refuse(-ENOEXEC, "no memory");
    elf = good;
    elf.elf64.segment[1] = elf.elf64.segment[0];
    refuse(-ENOEXEC, "PVH entry");
}

static void a_kernel_that_fills_low_memory_is_refused(void **state)
{
    Elf64_Phdr *segment = &elf.elf64.segment[0];

    move(0x10000);
    segment->p_memsz = 0x8fc00;
    refuse(-ENOMEM, "no room below 1 MiB");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(both_classes_are_entered_in_protected_mode),
        TEST(bss_is_cleared_when_the_guest_is_started_again),
        TEST(the_start_information_leads_to_everything),
        TEST(the_entry_is_a_physical_address),
        TEST(other_notes_are_skipped),
        TEST(damaged_notes_are_no_entry),
        TEST(damaged_headers_are_refused),
        TEST(damaged_segments_are_refused),
        TEST(a_kernel_that_fills_low_memory_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
