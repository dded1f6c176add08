/* The address map for every size of memory, and the search for free RAM at load time. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "boot/layout.h"
#include "boot/space.h"

static uint64_t ram(const struct layout_map *map)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < map->count; i++)
        if (map->range[i].type == LAYOUT_RAM)
            sum += map->range[i].size;
    return sum;
}

static void maps_are_sorted_and_hold_the_memory(void **state)
{
    static const uint64_t sizes[] = {16 * MIB, 128 * MIB,         2 * GIB,  0xb0000000,
                                     3 * GIB,  0xb0000000 + 4096, 64 * GIB, 1000 * GIB};

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct layout layout;
        struct layout_map map;
        struct error err;
        assert_int_equal(layout_init(&layout, sizes[i], 40, &err), 0);
        layout_memory_map(&layout, &map);
        assert_true(layout.ram_below_4g <= LAYOUT_RAM_BELOW_MAX);
        assert_int_equal(layout.ram_below_4g + layout.ram_above_4g, sizes[i]);
        assert_int_equal(ram(&map), sizes[i] - (LAYOUT_HIGH_BASE - LAYOUT_EBDA));
        for (unsigned j = 1; j < map.count; j++)
            assert_true(map.range[j - 1].base + map.range[j - 1].size <= map.range[j].base);
    }
}

static void the_64bit_window_lies_above_ram_and_below_the_last_address(void **state)
{
    struct layout layout;
    struct error err;

    assert_int_equal(layout_init(&layout, 512 * MIB, 39, &err), 0);
    assert_int_equal(layout.pci64_base, 32 * GIB);
    assert_int_equal(layout.pci64_size, 256 * GIB);
    assert_int_equal(layout_init(&layout, 400 * GIB + 4096, 39, &err), 0);
    assert_int_equal(layout.pci64_base, 402 * GIB); /* 400 GiB + 1.25 GiB of holes, and 4 KiB */
    assert_int_equal(layout.pci64_size, 110 * GIB);
    assert_int_equal(layout_init(&layout, 1 * GIB, 32, &err), 0);
    assert_int_equal(layout.pci64_size, 0);
}

static void impossible_sizes_are_refused(void **state)
{
    struct layout layout;
    struct error err;

    assert_int_equal(layout_init(&layout, 16 * MIB - 4096, 40, &err), -EINVAL);
    assert_non_null(strstr(err.text, "at least 16 MiB"));
    assert_int_equal(layout_init(&layout, 64 * GIB, 36, &err), -EINVAL);
    assert_non_null(strstr(err.text, "36 physical address bits"));
    assert_int_equal(layout_init(&layout, 3 * GIB, 32, &err), -EINVAL);
}

static struct boot_space space;

static int setup_space(void **state)
{
    struct layout layout;
    struct layout_map map;
    struct error err;
    int ret = layout_init(&layout, 4 * GIB, 40, &err);

    layout_memory_map(&layout, &map);
    boot_space_init(&space, &map);
    return ret;
}

static void only_free_ram_can_be_taken(void **state)
{
    assert_int_equal(boot_space_take(&space, 0x100000, 0x1000), 0);
    assert_int_equal(boot_space_take(&space, 0x100fff, 1), -EEXIST);
    assert_int_equal(boot_space_take(&space, 0x101000, 1), 0);
    assert_int_equal(boot_space_take(&space, 0xfff, 1), -EEXIST); /* the BIOS data area's page */
    assert_int_equal(boot_space_take(&space, LAYOUT_EBDA - 1, 2), -EFAULT);
    assert_int_equal(boot_space_take(&space, LAYOUT_RAM_BELOW_MAX - 1, 2), -EFAULT);
    assert_int_equal(boot_space_take(&space, 0xe0000, 16), -EFAULT);
    assert_int_equal(boot_space_take(&space, UINT64_MAX - 1, 4), -EFAULT);
    assert_int_equal(boot_space_take(&space, 0x200000, UINT64_MAX - 0x100000), -EFAULT);
}

static void the_lowest_place_is_found(void **state)
{
    gpa_t at;

    assert_int_equal(boot_space_take(&space, 0x100000, 0x1001), 0);
    assert_int_equal(boot_space_lowest(&space, 0x1000, 0x1000, 0x100000, 4 * GIB, &at), 0);
    assert_int_equal(at, 0x102000);
    assert_int_equal(boot_space_lowest(&space, 0x10000, 0x1000, 0x90000, 4 * GIB, &at), 0);
    assert_int_equal(at, 0x103000); /* 0x90000 to the EBDA is too short */
    assert_int_equal(boot_space_lowest(&space, 1, 1, 0xa0000, 0x100000, &at), -ENOMEM);
    assert_int_equal(boot_space_lowest(&space, 8 * GIB, 1, 0, UINT64_MAX, &at), -ENOMEM);
    assert_int_equal(boot_space_lowest(&space, UINT64_MAX, 1, 0, UINT64_MAX, &at), -ENOMEM);
}

static void the_highest_place_is_found(void **state)
{
    gpa_t at;

    assert_int_equal(boot_space_highest(&space, 0x1800, 0x1000, 0, 0x80000000, &at), 0);
    assert_int_equal(at, 0x7fffe000);
    assert_int_equal(boot_space_highest(&space, 0x1000, 0x1000, 0, 0x80000000, &at), 0);
    assert_int_equal(at, 0x7fffd000);
    assert_int_equal(boot_space_highest(&space, 0x1000, 0x1000, 0, UINT64_MAX, &at), 0);
    assert_int_equal(at, 4 * GIB + (4 * GIB - LAYOUT_RAM_BELOW_MAX) - 0x1000);
    assert_int_equal(boot_space_highest(&space, 1 * GIB, 0x1000, 0, 0x3fffffff, &at), -ENOMEM);
    assert_int_equal(boot_space_highest(&space, 0x1000, 0x1000, 0, 0x1fff, &at), -ENOMEM);
}

static void too_many_pieces_are_refused(void **state)
{
    int ret = 0;

    for (unsigned i = 0; !ret && i <= BOOT_SPACE_MAX_TAKEN; i++)
        ret = boot_space_take(&space, 0x100000 + i, 1);
    assert_int_equal(ret, -ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_are_sorted_and_hold_the_memory),
        cmocka_unit_test(the_64bit_window_lies_above_ram_and_below_the_last_address),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test_setup(only_free_ram_can_be_taken, setup_space),
        cmocka_unit_test_setup(the_lowest_place_is_found, setup_space),
        cmocka_unit_test_setup(the_highest_place_is_found, setup_space),
        cmocka_unit_test_setup(too_many_pieces_are_refused, setup_space),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
