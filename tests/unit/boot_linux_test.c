/* Linux bzImage: where things are loaded, what the zero page and the CPU hold, damaged files. */
#include <asm/bootparam.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "boot_fixture.h"
#include "x86/arch.h"
#include "x86/lapic_regs.h"
#include "x86/msr.h"

#define SETUP_SECTS 3
#define SETUP_SIZE ((SETUP_SECTS + 1) * 512)
#define PAYLOAD_SIZE 5000 /* no multiple of 16 */

/* A kernel that a test can change before it is written to a file. */
struct bzimage {
    uint8_t setup[SETUP_SIZE];
    uint8_t payload[PAYLOAD_SIZE];
};

static struct boot_fixture fixture;
static struct bzimage image;
static struct setup_header *const header = (struct setup_header *)(image.setup + 0x1f1);

static int setup(void **state)
{
    memset(&image, 0xee, sizeof(image)); /* what must not reach the zero page */
    *header = (struct setup_header){
        .setup_sects = SETUP_SECTS,
        .syssize = (PAYLOAD_SIZE + 15) / 16,
        .boot_flag = 0xaa55,
        .jump = 0x6aeb, /* the header ends at 0x26c, behind kernel_info_offset */
        .header = 0x53726448,
        .version = 0x020f,
        .loadflags = LOADED_HIGH,
        .code32_start = 0x100000,
        .initrd_addr_max = 0x7fffffff,
        .kernel_alignment = 2 * MIB,
        .relocatable_kernel = 1,
        .xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G,
        .cmdline_size = 2047,
        .pref_address = 0x1000000,
        .init_size = 0x800000,
        .setup_data = 0x1234, /* a loader's field: must be cleared */
    };
    for (unsigned i = 0; i < PAYLOAD_SIZE; i++)
        image.payload[i] = (uint8_t)(i * 7);
    boot_fixture_init(&fixture, 64 * MIB);
    return 0;
}

static int teardown(void **state)
{
    boot_fixture_done(&fixture);
    return 0;
}

static void load(struct boot_params *params)
{
    fixture.config.kernel = boot_fixture_file(&image, sizeof(image));
    boot_fixture_load(&fixture);
    boot_fixture_read(&fixture, fixture.state.gpr[X86_RSI], params, sizeof(*params));
}

static void refuse(int code, const char *text)
{
    fixture.config.kernel = boot_fixture_file(&image, sizeof(image));
    boot_fixture_refuse(&fixture, code, "/proc/self/fd/", text);
}

static void check_payload(gpa_t gpa)
{
    uint8_t loaded[PAYLOAD_SIZE];

    boot_fixture_read(&fixture, gpa, loaded, sizeof(loaded));
    assert_memory_equal(loaded, image.payload, PAYLOAD_SIZE);
}

/* ---- the 64-bit entry ---- */

static void a_64bit_kernel_is_entered_in_long_mode(void **state)
{
    const struct x86_vcpu_state *cpu = &fixture.state;
    struct boot_params params;

    load(&params);
    check_payload(0x1000000);
    assert_int_equal(cpu->rip, 0x1000200);
    assert_int_equal(cpu->rflags, X86_FLAG_FIXED);
    assert_int_equal(cpu->cr0, X86_CR0_PE | X86_CR0_PG | X86_CR0_ET);
    assert_int_equal(cpu->cr4, X86_CR4_PAE);
    assert_int_equal(cpu->efer, X86_EFER_LME | X86_EFER_LMA);
    assert_int_equal(cpu->segment[X86_CS].selector, 0x10);
    assert_true(cpu->segment[X86_CS].attributes & X86_SEGMENT_L);
    assert_false(cpu->segment[X86_CS].attributes & X86_SEGMENT_DB);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        if (i != X86_CS)
            assert_int_equal(cpu->segment[i].selector, 0x18);
}

/* Walks the page tables as the CPU would. */
static gpa_t translate(gva_t address)
{
    gpa_t table = fixture.state.cr3;

    for (unsigned shift = 39;; shift -= 9) {
        uint64_t entry;
        boot_fixture_read(&fixture, table + (address >> shift & 0x1ff) * 8, &entry, 8);
        assert_int_equal(entry & (X86_PTE_P | X86_PTE_W), X86_PTE_P | X86_PTE_W);
        gpa_t target = entry & 0xffffffffff000ull;
        if (entry & X86_PTE_PS)
            return target + (address & ((1ull << shift) - 1));
        table = target;
    }
}

static void the_low_4_gib_are_mapped_to_themselves(void **state)
{
    struct boot_params params;

    load(&params);
    for (gva_t address = 0x123; address < 4 * GIB; address += 2 * MIB)
        assert_int_equal(translate(address), address);
}

static void the_zero_page_says_what_was_loaded(void **state)
{
    static const char initrd[] = "pretend that this is a cpio archive";
    struct boot_params params;
    char loaded[sizeof(initrd)];

    fixture.config.append = "console=ttyS0 quiet";
    fixture.config.initrd = boot_fixture_file(initrd, sizeof(initrd));
    fixture.config.rsdp = 0xe0000;
    load(&params);
    assert_int_equal(params.hdr.type_of_loader, 0xff);
    assert_int_equal(params.hdr.code32_start, 0x1000000);
    assert_int_equal(params.hdr.setup_data, 0);
    assert_int_equal(params.acpi_rsdp_addr, 0xe0000);
    assert_string_equal(boot_fixture_string(&fixture, params.hdr.cmd_line_ptr),
                        "console=ttyS0 quiet");
    assert_int_equal(params.hdr.ramdisk_size, sizeof(initrd));
    assert_int_equal(params.hdr.ramdisk_image, 64 * MIB - GUEST_PAGE_SIZE);
    boot_fixture_read(&fixture, params.hdr.ramdisk_image, loaded, sizeof(loaded));
    assert_memory_equal(loaded, initrd, sizeof(initrd));
}

static void only_the_header_reaches_the_zero_page(void **state)
{
    struct boot_params params;

    load(&params);
    assert_int_equal(params.sentinel, 0);
    assert_int_equal(params._pad6[0], 0);
    assert_int_equal(params.edd_mbr_sig_buffer[0], 0);
    assert_int_equal(((uint8_t *)&params)[0x26c], 0);
}

static void the_memory_map_is_the_boards(void **state)
{
    struct boot_params params;
    struct layout_map map;

    load(&params);
    layout_memory_map(&fixture.layout, &map);
    assert_int_equal(params.e820_entries, map.count);
    for (unsigned i = 0; i < map.count; i++) {
        assert_int_equal(params.e820_table[i].addr, map.range[i].base);
        assert_int_equal(params.e820_table[i].size, map.range[i].size);
        assert_int_equal(params.e820_table[i].type, map.range[i].type);
    }
}

static void firmware_settings_of_the_cpu_are_made(void **state)
{
    struct boot_params params;
    uint32_t lint0;

    load(&params);
    memcpy(&lint0, fixture.state.lapic + LAPIC_LVT_LINT0, sizeof(lint0));
    assert_int_equal(lint0, 0x700);
    assert_int_equal(fixture.state.msr.mtrr_def_type,
                     MTRR_DEF_TYPE_ENABLE | MTRR_DEF_TYPE_FIXED_ENABLE | 6);
    assert_int_equal(fixture.state.msr.mtrr_base[0], 0xb0000000);
    assert_int_equal(fixture.state.msr.mtrr_mask[0], 0xfff0000800);
    assert_int_equal(fixture.state.msr.mtrr_base[1], 0xc0000000);
    assert_int_equal(fixture.state.msr.mtrr_mask[1], 0xffc0000800);
    assert_int_equal(fixture.state.msr.mtrr_fixed[2], 0);
    assert_int_equal(fixture.state.msr.mtrr_fixed[10], 0x0606060606060606);
}

/* ---- placement ---- */

static void a_relocatable_kernel_goes_where_it_fits(void **state)
{
    struct boot_params params;

    header->pref_address = 0x3f00000; /* 1 MiB before the end: too high */
    load(&params);
    check_payload(2 * MIB);
    assert_int_equal(fixture.state.rip, 2 * MIB + 0x200);
    assert_int_equal(params.hdr.code32_start, 2 * MIB);
}

static void a_fixed_kernel_does_not_move(void **state)
{
    header->relocatable_kernel = 0;
    header->pref_address = 0x3f00000;
    refuse(-ENOMEM, "at least 71 MiB");
}

static void an_initrd_too_large_for_the_low_part_goes_above_4_gib(void **state)
{
    static const char initrd[8192] = "x";
    struct boot_params params;

    boot_fixture_done(&fixture);
    boot_fixture_init(&fixture, 4 * GIB);
    fixture.config.initrd = boot_fixture_file(initrd, sizeof(initrd));
    header->initrd_addr_max = 0x100fff;
    load(&params);
    uint64_t base = (uint64_t)params.ext_ramdisk_image << 32 | params.hdr.ramdisk_image;
    assert_int_equal(base, 5 * GIB + 256 * MIB - sizeof(initrd));

    header->xloadflags = XLF_KERNEL_64;
    refuse(-ENOMEM, "no room for its 8192 bytes");
}

static void too_little_memory_is_said_with_figures(void **state)
{
    static const char initrd[MIB] = "x";

    header->init_size = 100 * MIB;
    refuse(-ENOMEM, "at least 102 MiB");
    assert_non_null(strstr(fixture.err.text, "64 MiB"));
    fixture.config.initrd = boot_fixture_file(initrd, sizeof(initrd));
    refuse(-ENOMEM, "at least 103 MiB");
    /* The kernel fits, from 2 MiB to the end, but nothing is left for the RAM disk. */
    static const char large_initrd[2 * MIB] = "x";
    fixture.config.initrd = boot_fixture_file(large_initrd, sizeof(large_initrd));
    header->init_size = 62 * MIB;
    refuse(-ENOMEM, "at least 66 MiB");
    assert_ptr_equal(strstr(fixture.err.text, fixture.config.initrd), fixture.err.text);
}

/* ---- the 32-bit entry ---- */

static void a_32bit_kernel_is_entered_in_protected_mode(void **state)
{
    struct boot_params params;

    header->xloadflags = 0;
    load(&params);
    boot_fixture_check_protected(&fixture, 0x1000000);
    assert_int_equal(fixture.state.segment[X86_CS].selector, 0x10);
    assert_int_equal(fixture.state.segment[X86_DS].selector, 0x18);
    assert_int_equal(
        fixture.state.gpr[X86_RBP] | fixture.state.gpr[X86_RDI] | fixture.state.gpr[X86_RBX], 0);
}

static void an_old_kernel_goes_to_1_mib(void **state)
{
    struct boot_params params;

    header->version = 0x0206;
    header->jump = 0x3aeb; /* the header ends before pref_address */
    header->relocatable_kernel = 0;
    load(&params);
    boot_fixture_check_protected(&fixture, 0x100000);
    check_payload(0x100000);
    assert_int_equal(params.hdr.pref_address, 0);
}

/* ---- damaged files ---- */

static void headers_that_cannot_be_are_refused(void **state)
{
    const struct setup_header good = *header;

    header->version = 0x0205;
    refuse(-ENOEXEC, "boot protocol 2.05");
    *header = good;
    header->loadflags = 0;
    refuse(-ENOEXEC, "zImage");
    *header = good;
    header->kernel_alignment = 3 * MIB;
    refuse(-ENOEXEC, "power of two");
    *header = good;
    header->pref_address = UINT64_MAX;
    refuse(-ENOEXEC, "below 4 GiB");
    *header = good;
    header->relocatable_kernel = 0;
    header->pref_address = 0xb0000000;
    refuse(-ENOEXEC, "no memory");
    *header = good;
    header->header = 0;
    refuse(-ENOEXEC, "not a kernel");
}

static void truncated_files_are_refused(void **state)
{
    header->syssize++;
    refuse(-ENOEXEC, "truncated");
    header->syssize--;

    static const uint64_t sizes[] = {
        0, 1, 511, 600, 0x260, SETUP_SIZE, SETUP_SIZE + 1, sizeof(image) - 16};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        boot_fixture_done(&fixture);
        boot_fixture_init(&fixture, 64 * MIB);
        fixture.config.kernel = boot_fixture_file(&image, sizes[i]);
        boot_fixture_refuse(&fixture, -ENOEXEC, fixture.config.kernel, "");
    }
}

static void a_long_command_line_is_refused(void **state)
{
    char line[2049];

    memset(line, 'x', sizeof(line));
    line[2048] = '\0';
    fixture.config.append = line;
    refuse(-E2BIG, "2048 characters");
    line[2047] = '\0';
    struct boot_params params;
    load(&params);
    assert_string_equal(boot_fixture_string(&fixture, params.hdr.cmd_line_ptr), line);
}

static void missing_files_are_named(void **state)
{
    fixture.config.kernel = "/nonexistent/vmlinuz";
    boot_fixture_refuse(&fixture, -ENOENT, "/nonexistent/vmlinuz", "No such file");
    fixture.config.kernel = "/";
    boot_fixture_refuse(&fixture, -EINVAL, "/: ", "not a regular file");
    fixture.config.initrd = "/nonexistent/initrd";
    fixture.config.kernel = boot_fixture_file(&image, sizeof(image));
    boot_fixture_refuse(&fixture, -ENOENT, "/nonexistent/initrd", "No such file");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_64bit_kernel_is_entered_in_long_mode),
        TEST(the_low_4_gib_are_mapped_to_themselves),
        TEST(the_zero_page_says_what_was_loaded),
        TEST(only_the_header_reaches_the_zero_page),
        TEST(the_memory_map_is_the_boards),
        TEST(firmware_settings_of_the_cpu_are_made),
        TEST(a_relocatable_kernel_goes_where_it_fits),
        TEST(a_fixed_kernel_does_not_move),
        TEST(an_initrd_too_large_for_the_low_part_goes_above_4_gib),
        TEST(too_little_memory_is_said_with_figures),
        TEST(a_32bit_kernel_is_entered_in_protected_mode),
        TEST(an_old_kernel_goes_to_1_mib),
        TEST(headers_that_cannot_be_are_refused),
        TEST(truncated_files_are_refused),
        TEST(a_long_command_line_is_refused),
        TEST(missing_files_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
