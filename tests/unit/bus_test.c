/* I/O dispatch: look-up, splitting and extracting, misuse, overlap, and change under look-up. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bus/bus.h"

/* A device of plain bytes that writes down each access. */
struct probe {
    uint8_t bytes[64];
    unsigned reads, writes;
    uint64_t offset[8];
    unsigned size[8];
};

static enum bus_result probe_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct probe *probe = opaque;
    probe->offset[probe->reads % 8] = offset;
    probe->size[probe->reads++ % 8] = size;
    *value = UINT64_MAX; /* the bus must cut it to size */
    memcpy(value, probe->bytes + offset, size);
    return BUS_OK;
}

static enum bus_result probe_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct probe *probe = opaque;
    probe->offset[probe->writes % 8] = offset;
    probe->size[probe->writes++ % 8] = size;
    memcpy(probe->bytes + offset, &value, size);
    return BUS_OK;
}

static enum bus_result refuse_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = 0x12;
    return offset ? BUS_ERROR : BUS_UNHANDLED;
}

static const struct region_ops any_ops = {probe_read, probe_write, 0, 0};
static const struct region_ops byte_ops = {probe_read, probe_write, 1, 1};
static const struct region_ops dword_ops = {probe_read, probe_write, 4, 4};
static const struct region_ops refuse_ops = {refuse_read, NULL, 1, 4};

static struct bus bus;
static struct probe probe;
static struct region region;

static int setup(void **state)
{
    memset(&probe, 0, sizeof(probe));
    for (unsigned i = 0; i < sizeof(probe.bytes); i++)
        probe.bytes[i] = (uint8_t)(0x80 + i);
    bus_init(&bus);
    return 0;
}

static int teardown(void **state)
{
    bus_done(&bus);
    return 0;
}

static void place(const struct region_ops *ops, enum bus_space space, uint64_t base, uint64_t size)
{
    region = (struct region){.name = "probe", .ops = ops, .opaque = &probe, .size = size};
    assert_int_equal(bus_add(&bus, space, &region, base, NULL), 0);
}

static uint64_t read_ok(enum bus_space space, uint64_t address, unsigned size)
{
    uint64_t value;
    assert_int_equal(bus_read(&bus, space, address, size, &value), BUS_OK);
    return value;
}

static void nothing_reads_as_ones(void **state)
{
    uint64_t value = 0;
    assert_int_equal(bus_read(&bus, BUS_PORT, 0x80, 1, &value), BUS_UNHANDLED);
    assert_int_equal(value, 0xff);
    place(&any_ops, BUS_MMIO, 0x1000, 16);
    assert_int_equal(bus_read(&bus, BUS_MMIO, 0xff8, 8, &value), BUS_UNHANDLED);
    assert_true(value == UINT64_MAX);
    assert_int_equal(bus_read(&bus, BUS_MMIO, 0x1010, 4, &value), BUS_UNHANDLED);
    assert_int_equal(value, 0xffffffff);
    assert_int_equal(bus_read(&bus, BUS_PORT, 0x1000, 2, &value), BUS_UNHANDLED);
    assert_int_equal(value, 0xffff);
    assert_int_equal(bus_write(&bus, BUS_MMIO, 0x1010, 4, 1), BUS_UNHANDLED);
    assert_int_equal(probe.reads + probe.writes, 0);
}

static void value_is_cut_to_the_size(void **state)
{
    place(&any_ops, BUS_MMIO, 0x1000, 64);
    assert_int_equal(read_ok(BUS_MMIO, 0x1003, 1), 0x83);
    assert_int_equal(read_ok(BUS_MMIO, 0x1002, 2), 0x8382);
    assert_int_equal(read_ok(BUS_MMIO, 0x1004, 4), 0x87868584);
    assert_true(read_ok(BUS_MMIO, 0x1000, 8) == 0x8786858483828180);
    assert_int_equal(probe.reads, 4);
    assert_int_equal(bus_write(&bus, BUS_MMIO, 0x1000, 1, UINT64_MAX), BUS_OK);
    assert_int_equal(probe.bytes[0], 0xff);
    assert_int_equal(probe.bytes[1], 0x81);
}

static void wide_access_is_split_in_ascending_order(void **state)
{
    place(&byte_ops, BUS_PORT, 0x60, 8);
    assert_int_equal(read_ok(BUS_PORT, 0x62, 4), 0x85848382);
    assert_int_equal(probe.reads, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(probe.offset[i], 2 + i);
        assert_int_equal(probe.size[i], 1);
    }
    assert_int_equal(bus_write(&bus, BUS_PORT, 0x60, 2, 0x1234), BUS_OK);
    assert_int_equal(probe.writes, 2);
    assert_memory_equal(probe.bytes, "\x34\x12\x82", 3);
}

static void narrow_read_is_taken_out_of_the_register(void **state)
{
    place(&dword_ops, BUS_MMIO, 0x1000, 16);
    assert_int_equal(read_ok(BUS_MMIO, 0x1006, 1), 0x86);
    assert_int_equal(read_ok(BUS_MMIO, 0x1006, 2), 0x8786);
    assert_int_equal(probe.reads, 2);
    assert_int_equal(probe.offset[1], 4);
    assert_int_equal(probe.size[1], 4);
    /* Over two registers: both are read. */
    assert_int_equal(read_ok(BUS_MMIO, 0x1003, 2), 0x8483);
    assert_int_equal(probe.reads, 4);
}

static void narrow_write_is_an_error(void **state)
{
    place(&dword_ops, BUS_MMIO, 0x1000, 16);
    assert_int_equal(bus_write(&bus, BUS_MMIO, 0x1004, 2, 0), BUS_ERROR);
    assert_int_equal(probe.writes, 0);
    assert_int_equal(bus_write(&bus, BUS_MMIO, 0x1000, 8, 0), BUS_OK);
    assert_int_equal(probe.writes, 2);
}

static void register_cut_off_by_the_end_is_an_error(void **state)
{
    uint64_t value;
    place(&dword_ops, BUS_MMIO, 0x1000, 6);
    assert_int_equal(bus_read(&bus, BUS_MMIO, 0x1005, 1, &value), BUS_ERROR);
    assert_int_equal(value, 0xff);
    assert_int_equal(probe.reads, 0);
}

static void access_over_the_end_reaches_both_sides(void **state)
{
    struct probe other_probe = {.bytes = {0x11, 0x22, 0x33, 0x44}};
    struct region other = {.name = "other", .ops = &byte_ops, .opaque = &other_probe, .size = 4};
    uint64_t value;
    place(&any_ops, BUS_PORT, 0x100, 3);
    assert_int_equal(bus_read(&bus, BUS_PORT, 0x102, 2, &value), BUS_UNHANDLED);
    assert_int_equal(value, 0xff82);
    assert_int_equal(bus_add(&bus, BUS_PORT, &other, 0x103, NULL), 0);
    assert_int_equal(read_ok(BUS_PORT, 0x101, 4), 0x22118281);
    /* The last port has no successor. */
    struct region last = {.name = "last", .ops = &byte_ops, .opaque = &other_probe, .size = 1};
    assert_int_equal(bus_add(&bus, BUS_PORT, &last, 0xffff, NULL), 0);
    assert_int_equal(bus_read(&bus, BUS_PORT, 0xffff, 4, &value), BUS_UNHANDLED);
    assert_int_equal(value, 0xffffff11);
}

static void refusals_read_as_ones(void **state)
{
    uint64_t value = 0;
    place(&refuse_ops, BUS_MMIO, 0, 64);
    assert_int_equal(bus_read(&bus, BUS_MMIO, 0, 2, &value), BUS_UNHANDLED);
    assert_int_equal(value, 0xffff);
    assert_int_equal(bus_read(&bus, BUS_MMIO, 4, 2, &value), BUS_ERROR);
    assert_int_equal(value, 0xffff);
    assert_int_equal(bus_write(&bus, BUS_MMIO, 0, 2, 0), BUS_UNHANDLED);
}

static void overlap_names_both(void **state)
{
    struct region other = {.name = "intruder", .ops = &any_ops, .opaque = &probe, .size = 16};
    static const uint64_t overlapping[] = {0xff1, 0x1000, 0x1008, 0x103f};
    place(&any_ops, BUS_MMIO, 0x1000, 64);
    for (size_t i = 0; i < ARRAY_SIZE(overlapping); i++) {
        struct error err;
        assert_int_equal(bus_add(&bus, BUS_MMIO, &other, overlapping[i], &err), -EEXIST);
        assert_non_null(strstr(err.text, "intruder"));
        assert_non_null(strstr(err.text, "probe"));
        assert_false(other.added);
    }
    assert_int_equal(bus_add(&bus, BUS_MMIO, &other, 0x1040, NULL), 0);
    assert_true(other.added);
}

static void impossible_ranges_are_refused(void **state)
{
    struct region bad = {.name = "bad", .ops = &any_ops, .opaque = &probe};
    assert_int_equal(bus_add(&bus, BUS_MMIO, &bad, 0, NULL), -EINVAL);
    bad.size = 2;
    assert_int_equal(bus_add(&bus, BUS_PORT, &bad, 0xffff, NULL), -EINVAL);
    assert_int_equal(bus_add(&bus, BUS_MMIO, &bad, UINT64_MAX, NULL), -EINVAL);
    assert_int_equal(bus_add(&bus, BUS_MMIO, &bad, UINT64_MAX - 1, NULL), 0);
    assert_int_equal(read_ok(BUS_MMIO, UINT64_MAX, 1), 0x81);
}

static void many_regions_are_all_found(void **state)
{
    enum { COUNT = 300 };
    static struct region many[COUNT];
    uint64_t value;

    for (unsigned i = 0; i < COUNT; i++) {
        unsigned place_of = i * 7 % COUNT; /* not in ascending order */
        many[i] = (struct region){.name = "many", .ops = &byte_ops, .opaque = &probe, .size = 1};
        assert_int_equal(bus_add(&bus, BUS_PORT, &many[i], 2 * place_of, NULL), 0);
    }
    for (unsigned i = 0; i < COUNT; i += 2)
        bus_remove(&bus, BUS_PORT, &many[i]);
    for (unsigned i = 0; i < COUNT; i++) {
        enum bus_result expected = i % 2 ? BUS_OK : BUS_UNHANDLED;
        assert_int_equal(bus_read(&bus, BUS_PORT, i * 7 % COUNT * 2, 1, &value), expected);
        assert_int_equal(bus_read(&bus, BUS_PORT, 2 * i + 1, 1, &value), BUS_UNHANDLED);
        assert_int_equal(many[i].added, i % 2);
    }
}

/* One region stays, another moves about like a BAR: the first must be found in every instant. */

static _Atomic bool moving_done;

static enum bus_result fixed_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    *value = 0x5a;
    return BUS_OK;
}

static void *keep_reading(void *opaque)
{
    unsigned long *missed = opaque;
    while (!atomic_load(&moving_done)) {
        uint64_t value;
        if (bus_read(&bus, BUS_MMIO, 0x8000, 1, &value) != BUS_OK || value != 0x5a)
            ++*missed;
    }
    return NULL;
}

static void look_ups_are_right_while_regions_move(void **state)
{
    static const struct region_ops fixed_ops = {fixed_read, NULL, 1, 1};
    struct region fixed = {.name = "fixed", .ops = &fixed_ops, .size = 1};
    struct region mover = {.name = "mover", .ops = &fixed_ops, .size = 0x100};
    unsigned long missed[2] = {0, 0};
    pthread_t thread[2];

    atomic_store(&moving_done, false);
    assert_int_equal(bus_add(&bus, BUS_MMIO, &fixed, 0x8000, NULL), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, keep_reading, &missed[i]), 0);
    int failed = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        failed |= bus_add(&bus, BUS_MMIO, &mover, i % 2 ? 0x1000 : 0x10000, NULL);
        bus_remove(&bus, BUS_MMIO, &mover);
    }
    atomic_store(&moving_done, true);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(failed, 0);
    assert_int_equal(missed[0] + missed[1], 0);
    assert_null(bus.retired); /* moving about allocates nothing */
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_reads_as_ones),
        TEST(value_is_cut_to_the_size),
        TEST(wide_access_is_split_in_ascending_order),
        TEST(narrow_read_is_taken_out_of_the_register),
        TEST(narrow_write_is_an_error),
        TEST(register_cut_off_by_the_end_is_an_error),
        TEST(access_over_the_end_reaches_both_sides),
        TEST(refusals_read_as_ones),
        TEST(overlap_names_both),
        TEST(impossible_ranges_are_refused),
        TEST(many_regions_are_all_found),
        TEST(look_ups_are_right_while_regions_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
