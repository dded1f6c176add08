/* The floppy controller with its DMA channel, on images in files: commands, transfers, bad input.
 */
#include "device_rig.h"
#include "held_medium.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "dev/legacy/i8237.h"
#include "dev/storage/floppy.h"

#define MEMORY_SIZE (2 * MIB)
#define AREA 0x12000u
#define SECTOR 512
#define PATIENCE_SECONDS 10

enum { DOR = 0x3f2, MSR = 0x3f4, FIFO = 0x3f5, DIR = 0x3f7 };
enum { MSR_RQM = 0x80, MSR_DIO = 0x40 };
enum { SEEK_ENDED = 0x20, ABNORMAL = 0x40, INVALID = 0x80, RESET_SENSE = 0xc0 };

static struct fixture {
    struct device_rig rig;
    struct memory memory;
    struct i8237 *dma;
    struct floppy *fdc;
    char path[32];
} f;

static struct block_device *open_image(uint64_t size, bool read_only)
{
    struct block_options options = {.format = BLOCK_FORMAT_RAW, .read_only = read_only};
    struct block_device *disk;
    uint8_t sector[SECTOR];

    strcpy(f.path, "floppy_test.XXXXXX");
    int fd = mkstemp(f.path);
    assert_true(fd >= 0);
    for (uint64_t at = 0; at < size; at += SECTOR) {
        memset(sector, (int)(at / SECTOR & 0xff), sizeof(sector));
        assert_int_equal(pwrite(fd, sector, sizeof(sector), (off_t)at), sizeof(sector));
    }
    close(fd);
    strcpy(options.path, f.path);
    assert_int_equal(block_open(&disk, &options, NULL), 0);
    return disk;
}

static void begin_with(struct block_device *disk)
{
    struct error err;

    rig_init(&f.rig);
    memory_init(&f.memory, 0);
    assert_int_equal(memory_add(&f.memory, 0, MEMORY_SIZE, 0, "ram", &err), 0);
    assert_int_equal(i8237_new(&f.dma, &f.memory), 0);
    assert_int_equal(i8237_attach(f.dma, &f.rig.bus, &err), 0);
    const struct floppy_config config = {.irq = rig_line(&f.rig, FLOPPY_IRQ), .dma = f.dma};
    assert_int_equal(floppy_new(&f.fdc, &config), 0);
    assert_int_equal(floppy_attach(f.fdc, &f.rig.bus, &err), 0);
    assert_int_equal(floppy_insert(f.fdc, 0, disk, &err), 0);
    struct device *device = floppy_device(f.fdc);
    device->ops->reset(device);
}

static void begin(uint64_t size, bool read_only)
{
    begin_with(open_image(size, read_only));
}

static int end(void **state)
{
    struct device *fdc = floppy_device(f.fdc), *dma = i8237_device(f.dma);

    fdc->ops->pause(fdc);
    fdc->ops->destroy(fdc);
    dma->ops->destroy(dma);
    memory_done(&f.memory);
    rig_done(&f.rig);
    unlink(f.path);
    return 0;
}

/* Waits for a bit of the main status register. */
static void wait_status(uint8_t mask, uint8_t wanted)
{
    time_t limit = time(NULL) + PATIENCE_SECONDS;

    while ((inb(&f.rig, MSR) & mask) != wanted)
        assert_true(time(NULL) < limit);
}

static void command(const uint8_t *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        wait_status(MSR_RQM | MSR_DIO, MSR_RQM);
        outb(&f.rig, FIFO, bytes[i]);
    }
}

static unsigned take_result(uint8_t *result)
{
    unsigned count = 0;

    wait_status(MSR_RQM, MSR_RQM);
    while (inb(&f.rig, MSR) & MSR_DIO)
        result[count++] = inb(&f.rig, FIFO);
    return count;
}

#define COMMAND(...)                                                                               \
    do {                                                                                           \
        const uint8_t bytes_[] = {__VA_ARGS__};                                                    \
        command(bytes_, sizeof(bytes_));                                                           \
    } while (0)

/* Channel 2 to or from AREA. */
static void program_dma(unsigned length, bool to_memory)
{
    outb(&f.rig, 0x0a, 0x06);
    outb(&f.rig, 0x0c, 0);
    outb(&f.rig, 0x04, AREA & 0xff);
    outb(&f.rig, 0x04, AREA >> 8 & 0xff);
    outb(&f.rig, 0x81, AREA >> 16);
    outb(&f.rig, 0x05, (length - 1) & 0xff);
    outb(&f.rig, 0x05, (length - 1) >> 8);
    outb(&f.rig, 0x0b, to_memory ? 0x46 : 0x4a);
    outb(&f.rig, 0x0a, 0x02);
}

static void seek(unsigned track)
{
    uint8_t result[16];

    COMMAND(0x0f, 0, (uint8_t)track);
    COMMAND(0x08);
    assert_int_equal(take_result(result), 2);
    assert_int_equal(result[0], SEEK_ENDED);
    assert_int_equal(result[1], track);
}

static void set_rate_500k(void)
{
    outb(&f.rig, DIR, 0);
    COMMAND(0x03, 0xaf, 0x02);
}

static void test_reset_interrupts_and_is_told_by_each_drive(void **state)
{
    uint8_t result[16];

    begin(1440 * 1024, false);
    assert_int_equal(floppy_kind(f.fdc, 0), FLOPPY_1440K);
    assert_int_equal(floppy_kind(f.fdc, 1), FLOPPY_NONE);
    outb(&f.rig, DOR, 0x08);
    assert_int_equal(inb(&f.rig, MSR), 0);
    outb(&f.rig, DOR, 0x1c);
    assert_true(f.rig.level[FLOPPY_IRQ]);
    for (unsigned drive = 0; drive < 4; drive++) {
        COMMAND(0x08);
        assert_int_equal(take_result(result), 2);
        assert_int_equal(result[0], RESET_SENSE | drive);
    }
    assert_false(f.rig.level[FLOPPY_IRQ]);
    COMMAND(0x08);
    assert_int_equal(take_result(result), 1);
    assert_int_equal(result[0], INVALID);
}

static void test_disk_change_line_until_the_heads_step(void **state)
{
    begin(1440 * 1024, false);
    assert_int_equal(inb(&f.rig, DIR) & 0x80, 0); /* the motor is off */
    outb(&f.rig, DOR, 0x1c);
    assert_int_equal(inb(&f.rig, DIR) & 0x80, 0x80);
    seek(1);
    assert_int_equal(inb(&f.rig, DIR) & 0x80, 0);
}

/* Cylinder 3: track sectors (3 * 2 + head) * 18 on. */
static void test_read_over_both_heads_until_the_terminal_count(void **state)
{
    uint8_t result[16], byte;

    begin(1440 * 1024, false);
    set_rate_500k();
    seek(3);
    program_dma(3 * SECTOR, true);
    COMMAND(0xe6, 0, 3, 0, 17, 2, 18, 0x1b, 0xff);
    assert_int_equal(take_result(result), 7);
    const uint8_t expected[] = {0x04, 0, 0, 3, 1, 2, 2};
    assert_memory_equal(result, expected, sizeof(expected));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(memory_read(&f.memory, AREA + i * SECTOR + 511, &byte, 1), 0);
        assert_int_equal(byte, (3 * 36 + 16 + i) & 0xff);
    }
    assert_false(f.rig.level[FLOPPY_IRQ]); /* taken with the result */
}

static void test_write_is_read_back(void **state)
{
    uint8_t result[16], data[SECTOR], back[SECTOR] = {0};

    begin(720 * 1024, false);
    outb(&f.rig, DIR, 2); /* 250 kbit/s */
    COMMAND(0x03, 0xaf, 0x02);
    memset(data, 0xa5, sizeof(data));
    assert_int_equal(memory_write(&f.memory, AREA, data, sizeof(data)), 0);
    program_dma(SECTOR, false);
    COMMAND(0x45, 4, 0, 1, 9, 2, 9, 0x1b, 0xff);
    assert_int_equal(take_result(result), 7);
    assert_int_equal(result[0], 4);
    FILE *file = fopen(f.path, "rb");
    assert_int_equal(fseek(file, (9 + 8) * SECTOR, SEEK_SET), 0);
    assert_int_equal(fread(back, 1, sizeof(back), file), sizeof(back));
    fclose(file);
    assert_memory_equal(back, data, sizeof(data));
}

/* A floppy drive has no cache: what a command has written is on the disk when it ends. */
static void test_a_write_is_durable_when_it_ends(void **state)
{
    static struct held_medium medium;
    uint8_t result[16];

    begin_with(held_init(&medium, 2880));
    set_rate_500k();
    for (unsigned fails = 0; fails < 2; fails++) {
        program_dma(2 * SECTOR, false);
        COMMAND(0x45, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
        for (unsigned sector = 0; sector < 2; sector++) {
            assert_int_equal(medium.copy.op, BLOCK_WRITE);
            assert_int_equal(medium.seen[BLOCK_FLUSH], fails);
            held_release(&medium, 0);
        }
        assert_int_equal(held_count(&medium), 1);
        assert_int_equal(medium.copy.op, BLOCK_FLUSH);
        assert_false(f.rig.level[FLOPPY_IRQ]);
        held_release(&medium, fails ? -EIO : 0);
        assert_true(f.rig.level[FLOPPY_IRQ]);
        assert_int_equal(take_result(result), 7);
        assert_int_equal(result[0], fails ? ABNORMAL : 0);
        assert_int_equal(result[1], fails ? 0x20 : 0); /* data error */
    }
    f.path[0] = '\0';
}

static void test_data_port_without_dma(void **state)
{
    uint8_t result[16];

    begin(1440 * 1024, false);
    set_rate_500k();
    COMMAND(0x03, 0xaf, 0x03); /* ND */
    COMMAND(0x46, 0, 0, 0, 5, 2, 5, 0x1b, 0xff);
    wait_status(0xf0, 0xf0);
    for (unsigned i = 0; i < SECTOR; i++)
        assert_int_equal(inb(&f.rig, FIFO), 4);
    assert_int_equal(take_result(result), 7);
    assert_int_equal(result[0], ABNORMAL); /* nobody said when to stop */
    assert_int_equal(result[1], 0x80);
}

static void test_format_fills_a_track(void **state)
{
    uint8_t result[16], ids[18 * 4], back[18 * SECTOR] = {0};

    begin(1440 * 1024, false);
    set_rate_500k();
    for (unsigned i = 0; i < 18; i++)
        memcpy(ids + 4 * i, (const uint8_t[]){0, 0, (uint8_t)(i + 1), 2}, 4);
    assert_int_equal(memory_write(&f.memory, AREA, ids, sizeof(ids)), 0);
    program_dma(sizeof(ids), false);
    COMMAND(0x4d, 0, 2, 18, 0x54, 0xf6);
    assert_int_equal(take_result(result), 7);
    assert_int_equal(result[0], 0);
    FILE *file = fopen(f.path, "rb");
    assert_int_equal(fread(back, 1, sizeof(back), file), sizeof(back));
    fclose(file);
    for (size_t i = 0; i < sizeof(back); i++)
        assert_int_equal(back[i], 0xf6);
}

static void test_what_cannot_be_read_or_written_says_why(void **state)
{
    static const struct {
        uint8_t command[9];
        uint8_t st1, st2;
    } cases[] = {
        {{0x46, 0, 0, 0, 19, 2, 18, 0x1b, 0xff}, 0x04, 0},   /* no such sector */
        {{0x46, 0, 0, 0, 0, 2, 18, 0x1b, 0xff}, 0x04, 0},    /* they count from 1 */
        {{0x46, 0, 7, 0, 1, 2, 18, 0x1b, 0xff}, 0x04, 0x10}, /* another cylinder */
        {{0x46, 0, 0, 0, 1, 3, 18, 0x1b, 0xff}, 0x04, 0},    /* another size */
        {{0x46, 1, 0, 0, 1, 2, 18, 0x1b, 0xff}, 0x01, 0},    /* no drive B */
        {{0x46, 3, 0, 0, 1, 2, 18, 0x1b, 0xff}, 0x01, 0},    /* no such drive at all */
        {{0x45, 0, 0, 0, 1, 2, 18, 0x1b, 0xff}, 0x02, 0},    /* write protected */
        {{0x4c, 0, 0, 0, 1, 2, 18, 0x1b, 0xff}, 0x04, 0x40}, /* no deleted data */
        {{0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff}, 0x10, 0},    /* the channel is masked */
    };
    uint8_t result[16];

    begin(1440 * 1024, true);
    set_rate_500k();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        command(cases[i].command, 9);
        assert_int_equal(take_result(result), 7);
        assert_int_equal(result[0] & 0xc0, ABNORMAL);
        assert_int_equal(result[1], cases[i].st1);
        assert_int_equal(result[2], cases[i].st2);
    }
    outb(&f.rig, DIR, 2); /* a rate at which this disk gives nothing */
    command(cases[0].command, 9);
    assert_int_equal(take_result(result), 7);
    assert_int_equal(result[1], 0x01);
    COMMAND(0x1f);
    assert_int_equal(take_result(result), 1);
    assert_int_equal(result[0], INVALID);
}

static void test_registers_of_identity(void **state)
{
    uint8_t result[16];

    begin(2880 * 1024, false);
    assert_int_equal(floppy_kind(f.fdc, 0), FLOPPY_2880K);
    COMMAND(0x10);
    assert_int_equal(take_result(result), 1);
    assert_int_equal(result[0], 0x90);
    COMMAND(0x18);
    assert_int_equal(take_result(result), 1);
    COMMAND(0x13, 0, 0x57, 12);
    COMMAND(0x94);
    assert_int_equal(take_result(result), 1);
    assert_int_equal(result[0], 0x10);
    outb(&f.rig, MSR, 0x80); /* a reset by software keeps what is locked */
    COMMAND(0x0e);
    assert_int_equal(take_result(result), 10);
    assert_int_equal(result[7] & 0x80, 0x80);
    assert_int_equal(result[8], 0x57);
    assert_int_equal(result[9], 12);
}

static void test_sizes_that_no_floppy_has(void **state)
{
    struct error err;

    begin(360 * 1024, false);
    assert_int_equal(floppy_kind(f.fdc, 0), FLOPPY_360K);
    struct block_device odd = {.size = 1000 * 1024, .path = "odd.img"};
    assert_int_equal(floppy_insert(f.fdc, 1, &odd, &err), -EINVAL);
    assert_non_null(strstr(err.text, "odd.img"));
}

static uint32_t random_next(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

/* Any sequence of register accesses, with its state saved and restored between. */
static void test_random_accesses(void **state)
{
    struct state_buffer first = {0}, second = {0};
    struct error err;
    uint32_t seed = 1;

    begin(1440 * 1024, false);
    struct device *device = floppy_device(f.fdc);
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t r = random_next(&seed);
        uint16_t port = r % 3 ? FIFO : (uint16_t)(0x3f0 + r / 3 % 8);
        if (r & 1 << 12)
            outb(&f.rig, port, (uint8_t)random_next(&seed));
        else
            inb(&f.rig, port);
        if (!(r & 0xff000))
            outb(&f.rig, (uint16_t)(random_next(&seed) % 16), (uint8_t)random_next(&seed));
        if (i % 500)
            continue;
        device->ops->pause(device);
        first.length = second.length = first.position = 0;
        assert_int_equal(state_save(&first, device->ops->state, device->state_object), 0);
        assert_int_equal(state_load(&first, device->ops->state, device->state_object, &err), 0);
        assert_int_equal(state_save(&second, device->ops->state, device->state_object), 0);
        assert_int_equal(first.length, second.length);
        assert_memory_equal(first.data, second.data, first.length);
    }
    state_buffer_done(&first);
    state_buffer_done(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_reset_interrupts_and_is_told_by_each_drive, end),
        cmocka_unit_test_teardown(test_disk_change_line_until_the_heads_step, end),
        cmocka_unit_test_teardown(test_read_over_both_heads_until_the_terminal_count, end),
        cmocka_unit_test_teardown(test_write_is_read_back, end),
        cmocka_unit_test_teardown(test_a_write_is_durable_when_it_ends, end),
        cmocka_unit_test_teardown(test_data_port_without_dma, end),
        cmocka_unit_test_teardown(test_format_fills_a_track, end),
        cmocka_unit_test_teardown(test_what_cannot_be_read_or_written_says_why, end),
        cmocka_unit_test_teardown(test_registers_of_identity, end),
        cmocka_unit_test_teardown(test_sizes_that_no_floppy_has, end),
        cmocka_unit_test_teardown(test_random_accesses, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
