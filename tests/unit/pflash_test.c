/* Parallel flash as firmware's drivers use it, and as a guest that sends it anything. */
#include "device_rig.h"

#include "dev/legacy/pflash.h"

#define BASE 0xffc00000u
#define BLOCK 4096u
#define SIZE (2 * BLOCK)

#define READY 0x80
#define SEQUENCE_ERROR 0x30

struct fixture {
    struct device_rig rig;
    struct memory memory;
    struct pflash *flash;
    bool shown;
    unsigned shows;
    uint8_t file[SIZE];
    int store_result;
};

static void show(void *opaque, gpa_t base, bool shown)
{
    struct fixture *f = opaque;

    assert_int_equal(base, BASE);
    f->shown = shown;
    f->shows++;
}

static int store(void *opaque, uint64_t offset, const uint8_t *data, uint64_t length)
{
    struct fixture *f = opaque;

    assert_true(offset <= SIZE && length <= SIZE - offset);
    if (!f->store_result)
        memcpy(f->file + offset, data, length);
    return f->store_result;
}

static uint8_t *slot(struct fixture *f)
{
    return memory_find(&f->memory, BASE)->host;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    rig_init(&f->rig);
    memory_init(&f->memory, 0);
    assert_int_equal(memory_add(&f->memory, BASE, SIZE, MEMORY_READONLY, "flash", NULL), 0);
    for (unsigned i = 0; i < SIZE; i++)
        slot(f)[i] = (uint8_t)(i * 7);
    memcpy(f->file, slot(f), SIZE);
    f->shown = true;
    const struct pflash_config config = {
        .name = "flash",
        .memory = &f->memory,
        .base = BASE,
        .block_size = BLOCK,
        .opaque = f,
        .show = show,
        .store = store,
    };
    assert_int_equal(pflash_new(&f->flash, &config), 0);
    assert_int_equal(pflash_attach(f->flash, &f->rig.bus, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct device *device = pflash_device(f->flash);

    /* Whatever a test did: what the guest reads is what the file has. */
    if (!f->store_result)
        assert_memory_equal(slot(f), f->file, SIZE);
    device->ops->destroy(device);
    memory_done(&f->memory);
    rig_done(&f->rig);
    free(f);
    return 0;
}

static void put(struct fixture *f, uint32_t offset, uint8_t value)
{
    mmio_write(&f->rig, BASE + offset, 1, value);
}

static uint8_t get(struct fixture *f, uint32_t offset)
{
    return (uint8_t)mmio_read(&f->rig, BASE + offset, 1);
}

/* How OVMF tells flash from ROM and RAM. */
static void cleared_status_reads_as_zero(void **state)
{
    struct fixture *f = *state;

    put(f, 5, 0x50);
    assert_true(f->shown);
    put(f, 5, 0x70);
    assert_false(f->shown);
    assert_int_equal(get(f, 5), 0);
    put(f, 5, 0xff);
    assert_true(f->shown);
    assert_int_equal(f->shows, 2);
}

static void bytes_are_programmed_from_one_to_zero(void **state)
{
    struct fixture *f = *state;

    slot(f)[0] = 0; /* what the guest is shown is not what decides */
    for (unsigned i = 0; i < 4; i++) {
        put(f, BLOCK + i, i % 2 ? 0x10 : 0x40);
        put(f, BLOCK + i, 0xf0 + i);
        assert_int_equal(get(f, 0), READY);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(f->file[BLOCK + i], (uint8_t)((BLOCK + i) * 7) & (0xf0 + i));
        assert_int_equal(slot(f)[BLOCK + i], f->file[BLOCK + i]);
    }
    assert_false(f->shown);
    put(f, 0, 0xff);
    assert_true(f->shown);
    slot(f)[0] = f->file[0];
}

static void erasing_takes_one_block(void **state)
{
    struct fixture *f = *state;

    put(f, BLOCK + 99, 0x20);
    put(f, BLOCK + 99, 0xd0);
    assert_int_equal(get(f, 0), READY);
    for (unsigned i = 0; i < SIZE; i++)
        assert_int_equal(slot(f)[i], i < BLOCK ? (uint8_t)(i * 7) : 0xff);
}

static void erase_needs_its_confirmation(void **state)
{
    struct fixture *f = *state;

    put(f, 0, 0x20);
    put(f, 0, 0xff);
    assert_int_equal(get(f, 0), READY | SEQUENCE_ERROR);
    assert_int_equal(slot(f)[1], 7);
    put(f, 0, 0x50);
    assert_int_equal(get(f, 0), 0);
}

static void buffer_is_programmed_when_confirmed(void **state)
{
    struct fixture *f = *state;

    put(f, BLOCK, 0x20);
    put(f, BLOCK, 0xd0);
    put(f, BLOCK + 64, 0xe8);
    assert_int_equal(get(f, 0), READY);
    put(f, BLOCK + 64, 3 - 1);
    for (unsigned i = 0; i < 3; i++)
        put(f, BLOCK + 70 + i, (uint8_t)(0x11 * i));
    assert_int_equal(slot(f)[BLOCK + 71], 0xff);
    put(f, BLOCK + 64, 0xd0);
    assert_int_equal(get(f, 0), READY);
    assert_int_equal(slot(f)[BLOCK + 69], 0xff);
    assert_int_equal(slot(f)[BLOCK + 71], 0x11);
    assert_int_equal(slot(f)[BLOCK + 72], 0x22);
}

static void buffered_program_that_goes_wrong_changes_nothing(void **state)
{
    struct fixture *f = *state;

    put(f, 0, 0xe8);
    put(f, 0, 32); /* one byte too many */
    assert_int_equal(get(f, 0), READY | SEQUENCE_ERROR);
    put(f, 0, 0x50);
    put(f, 0, 0xe8);
    put(f, 0, 1);
    put(f, 0, 0);
    put(f, 32, 0); /* not in the same part */
    assert_int_equal(get(f, 0), READY | SEQUENCE_ERROR);
    put(f, 0, 0x50);
    put(f, 1, 0xe8);
    put(f, 1, 0);
    put(f, 1, 0);
    put(f, 1, 0xff); /* not confirmed */
    assert_int_equal(get(f, 0), READY | SEQUENCE_ERROR);
    assert_int_equal(slot(f)[1], 7);
}

static void query_table_tells_the_geometry(void **state)
{
    struct fixture *f = *state;

    put(f, 0x55, 0x98);
    assert_int_equal(get(f, 0x10), 'Q');
    assert_int_equal(get(f, 0x11), 'R');
    assert_int_equal(get(f, 0x12), 'Y');
    assert_int_equal(get(f, 0x13), 1);
    assert_int_equal(1u << get(f, 0x27), SIZE);
    assert_int_equal(get(f, 0x2c), 1);
    assert_int_equal(get(f, 0x2d) + 1, SIZE / BLOCK);
    assert_int_equal(get(f, 0x30) << 8 | get(f, 0x2f), BLOCK / 256);
    unsigned primary = get(f, 0x15);
    assert_int_equal(get(f, primary), 'P');
    assert_int_equal(get(f, primary + 2), 'I');
    assert_int_equal(get(f, 0xff), 0);
    put(f, 0, 0x90);
    assert_int_equal(get(f, 0), 0x89);
    assert_int_equal(get(f, 1), 0x18);
    assert_int_equal(get(f, 2), 0);
}

static void wide_accesses_are_bytes(void **state)
{
    struct fixture *f = *state;

    put(f, 0, 0x90);
    assert_int_equal(mmio_read(&f->rig, BASE, 4), 0x00001889);
    mmio_write(&f->rig, BASE, 4, 0xff700020); /* erase, not confirmed; status; array */
    assert_true(f->shown);
    assert_int_equal(slot(f)[1], 7);
}

static void what_cannot_be_kept_is_not_done(void **state)
{
    struct fixture *f = *state;

    f->store_result = -ENOSPC;
    put(f, 1, 0x40);
    put(f, 1, 0);
    assert_int_equal(get(f, 0), READY | 0x10);
    assert_int_equal(slot(f)[1], 7);
    put(f, 0, 0x50);
    put(f, 0, 0x20);
    put(f, 0, 0xd0);
    assert_int_equal(get(f, 0), READY | 0x20);
    assert_int_equal(slot(f)[1], 7);
}

static void reset_ends_every_command(void **state)
{
    static const uint8_t commands[] = {0x10, 0x20, 0x60, 0xe8, 0x70, 0x90, 0x98};
    struct fixture *f = *state;
    struct device *device = pflash_device(f->flash);

    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        put(f, 0, commands[i]);
        assert_false(f->shown);
        device->ops->reset(device);
        assert_true(f->shown);
        put(f, 0, 0x70);
        assert_int_equal(get(f, 0), READY);
        put(f, 0, 0xff);
    }
    assert_int_equal(slot(f)[1], 7);
}

static void anything_may_be_written(void **state)
{
    struct fixture *f = *state;
    uint32_t random = 1;

    for (unsigned i = 0; i < 200000; i++) {
        random = random * 1664525 + 1013904223;
        uint32_t offset = (random >> 8) % SIZE;
        unsigned size = 1u << (random >> 28) % 4;
        if (random & 1)
            mmio_write(&f->rig, BASE + offset, size, random >> 16);
        else
            mmio_read(&f->rig, BASE + offset, size);
    }
    put(f, 0, 0xff);
}

static void state_survives_in_every_cycle(void **state)
{
    static const uint8_t sequence[] = {0xff, 0x70, 0x10, 0x00, 0x20, 0xd0, 0xe8,
                                       0x01, 0x55, 0x44, 0xd0, 0x98, 0x60, 0x01};
    struct fixture *f = *state;
    struct device *device = pflash_device(f->flash);

    for (unsigned i = 0; i < ARRAY_SIZE(sequence); i++) {
        put(f, 0, sequence[i]);
        rig_save_and_restore(device, device->ops->reset);
        assert_memory_equal(slot(f), f->file, SIZE);
    }
    rig_check_state(device);
}

static void restored_contents_are_shown_and_kept(void **state)
{
    struct fixture *f = *state;
    struct device *device = pflash_device(f->flash);
    struct state_buffer stream = {0};

    assert_int_equal(state_save(&stream, device->ops->state, device->state_object), 0);
    put(f, 1, 0x40);
    put(f, 1, 0);
    assert_int_equal(slot(f)[1], 0);
    assert_int_equal(state_load(&stream, device->ops->state, device->state_object, NULL), 0);
    assert_int_equal(slot(f)[1], 7);
    assert_int_equal(f->file[1], 7);
    assert_true(f->shown);
    state_buffer_done(&stream);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(cleared_status_reads_as_zero),
        TEST(bytes_are_programmed_from_one_to_zero),
        TEST(erasing_takes_one_block),
        TEST(erase_needs_its_confirmation),
        TEST(buffer_is_programmed_when_confirmed),
        TEST(buffered_program_that_goes_wrong_changes_nothing),
        TEST(query_table_tells_the_geometry),
        TEST(wide_accesses_are_bytes),
        TEST(what_cannot_be_kept_is_not_done),
        TEST(reset_ends_every_command),
        TEST(anything_may_be_written),
        TEST(state_survives_in_every_cycle),
        TEST(restored_contents_are_shown_and_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
