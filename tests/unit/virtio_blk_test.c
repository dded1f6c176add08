/* The virtio block device over a real file: each request type, and requests that make no sense. */
#include "held_medium.h"
#include "virtio_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "dev/virtio/virtio_blk.h"

#define DISK_SECTORS 2048
#define HEADER (RIG_DATA)
#define STATUS (RIG_DATA + 0x100)
#define BUFFER (RIG_DATA + 0x1000)

#define BLK_IN 0
#define BLK_OUT 1
#define BLK_FLUSH 4
#define BLK_GET_ID 8
#define BLK_DISCARD 11
#define BLK_WRITE_ZEROES 13

#define BLK_OK 0
#define BLK_IOERR 1
#define BLK_UNSUPP 2

#define F_RO (1ull << 5)
#define F_FLUSH (1ull << 9)
#define F_DISCARD (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)
#define ALL_FEATURES (F_FLUSH | F_DISCARD | F_WRITE_ZEROES | VIRTIO_F_INDIRECT_DESC)

static struct virtio_rig rig;
static char path[] = "/tmp/sill-blk-XXXXXX";
static int fd;

/* A device over `disk`, and a driver for it. */
static void start_on(struct block_device *disk, unsigned queues, uint64_t features)
{
    struct device *dev;

    rig_init(&rig);
    const struct virtio_blk_config config = {
        .pci = rig_config(&rig, "disk0"),
        .queues = queues,
        .serial = "SILL-0123456789",
    };
    assert_int_equal(virtio_blk_new(&dev, &config, disk, NULL), 0);
    rig_start(&rig, dev);
    rig_enable_msix(&rig);
    rig_negotiate(&rig, VIRTIO_F_VERSION_1 | features);
    assert_true(reg_read(&rig, R_STATUS, 1) & VIRTIO_STATUS_FEATURES_OK);
    for (unsigned i = 0; i < queues; i++)
        rig_queue(&rig, i, 64);
    rig_driver_ok(&rig);
}

/* The same over a fresh file, each sector of which begins with its number. */
static void start(const char *options, unsigned queues, uint64_t features)
{
    struct block_options parsed;
    struct block_device *disk;
    char text[128];

    strcpy(path, "/tmp/sill-blk-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, DISK_SECTORS * 512), 0);
    for (uint32_t sector = 0; sector < DISK_SECTORS; sector++)
        assert_int_equal(pwrite(fd, &sector, sizeof(sector), sector * 512), sizeof(sector));

    snprintf(text, sizeof(text), "%s%s", path, options);
    assert_int_equal(block_parse_options(&parsed, text, NULL), 0);
    assert_int_equal(block_open(&disk, &parsed, NULL), 0);
    start_on(disk, queues, features);
}

static int setup(void **state)
{
    start("", 1, ALL_FEATURES);
    return 0;
}

static int setup_read_only(void **state)
{
    start(",readonly=on", 1, F_RO | F_FLUSH);
    return 0;
}

static int setup_many_queues(void **state)
{
    start("", 4, ALL_FEATURES);
    return 0;
}

static int setup_thread(void **state)
{
    start(",aio=thread", 1, ALL_FEATURES);
    return 0;
}

static int setup_no_flush(void **state)
{
    start("", 1, 0);
    return 0;
}

static int teardown(void **state)
{
    rig_done(&rig);
    close(fd);
    unlink(path);
    return 0;
}

static void put_header(gpa_t at, uint32_t type, uint64_t sector)
{
    guest_put(&rig.mem, at, type, 4);
    guest_put(&rig.mem, at + 4, 0, 4);
    guest_put(&rig.mem, at + 8, sector, 8);
}

/* One request with its buffer in one descriptor (readable unless `write`). */
static void offer(uint32_t type, uint64_t sector, uint32_t length, bool write)
{
    struct guest_ring *ring = &rig.ring[0];

    put_header(HEADER, type, sector);
    guest_put(&rig.mem, STATUS, 0xee, 1);
    guest_desc(ring, 0, HEADER, 16, RING_NEXT, length ? 1 : 2);
    guest_desc(ring, 1, BUFFER, length, RING_NEXT | (write ? RING_WRITE : 0), 2);
    guest_desc(ring, 2, STATUS, 1, RING_WRITE, 0);
    guest_offer(ring, 0);
    rig_notify(&rig, 0);
}

/* The same, and waits for it; returns the status. */
static uint8_t request(uint32_t type, uint64_t sector, uint32_t length, bool write)
{
    uint32_t len;

    offer(type, sector, length, write);
    assert_int_equal(rig_wait_used(&rig, 0, &len), 0);
    assert_int_equal(len, write ? length + 1 : 1);
    return (uint8_t)guest_get(&rig.mem, STATUS, 1);
}

static void configuration_describes_the_disk(void **state)
{
    assert_int_equal(rig_cfg_read(&rig, 0, 4), 0x10421af4);
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_DEVICE, 4), DISK_SECTORS);
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_DEVICE + 4, 4), 0);
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_DEVICE + 12, 4), 126); /* seg_max */
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_DEVICE + 20, 4), 512); /* blk_size */
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_DEVICE + 34, 2), 1);   /* num_queues */
    assert_false(rig_features(&rig) & F_RO);
}

static void sectors_are_read_and_written(void **state)
{
    uint8_t data[4096], file[4096];

    assert_int_equal(request(BLK_IN, 7, 1024, true), BLK_OK);
    assert_int_equal(guest_get(&rig.mem, BUFFER, 4), 7);
    assert_int_equal(guest_get(&rig.mem, BUFFER + 512, 4), 8);

    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 31);
    assert_int_equal(memory_write(&rig.mem, BUFFER, data, sizeof(data)), 0);
    assert_int_equal(request(BLK_OUT, 100, sizeof(data), false), BLK_OK);
    assert_int_equal(request(BLK_FLUSH, 0, 0, false), BLK_OK);
    assert_int_equal(pread(fd, file, sizeof(file), 100 * 512), sizeof(file));
    assert_memory_equal(file, data, sizeof(data));
}

static void identity_is_given(void **state)
{
    char id[21] = "";

    assert_int_equal(request(BLK_GET_ID, 0, 20, true), BLK_OK);
    assert_int_equal(memory_read(&rig.mem, BUFFER, id, 20), 0);
    assert_string_equal(id, "SILL-0123456789");
    guest_put(&rig.mem, BUFFER + 4, 0x55, 1);
    assert_int_equal(request(BLK_GET_ID, 0, 4, true), BLK_OK); /* short buffer */
    assert_int_equal(guest_get(&rig.mem, BUFFER + 4, 1), 0x55);
}

static void put_range(uint64_t sector, uint32_t sectors, uint32_t flags)
{
    guest_put(&rig.mem, BUFFER, sector, 8);
    guest_put(&rig.mem, BUFFER + 8, sectors, 4);
    guest_put(&rig.mem, BUFFER + 12, flags, 4);
}

static uint8_t range_request(uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
    put_range(sector, sectors, flags);
    return request(type, 0, 16, false);
}

static uint32_t file_word(uint32_t sector)
{
    uint32_t word;

    assert_int_equal(pread(fd, &word, sizeof(word), sector * 512), sizeof(word));
    return word;
}

static void ranges_are_discarded_and_zeroed(void **state)
{
    assert_int_equal(range_request(BLK_WRITE_ZEROES, 10, 3, 0), BLK_OK);
    assert_int_equal(file_word(9), 9);
    assert_int_equal(file_word(10), 0);
    assert_int_equal(file_word(12), 0);
    assert_int_equal(file_word(13), 13);
    assert_int_equal(range_request(BLK_WRITE_ZEROES, 16, 8, 1), BLK_OK); /* may unmap */
    assert_int_equal(file_word(16), 0);
    assert_int_equal(file_word(24), 24);
    assert_int_equal(range_request(BLK_DISCARD, 32, 16, 0), BLK_OK);
    assert_int_equal(file_word(31), 31);
    assert_int_equal(file_word(48), 48);

    assert_int_equal(range_request(BLK_DISCARD, 0, 8, 1), BLK_UNSUPP);      /* unmap flag */
    assert_int_equal(range_request(BLK_WRITE_ZEROES, 0, 8, 2), BLK_UNSUPP); /* reserved flag */
    assert_int_equal(range_request(BLK_DISCARD, DISK_SECTORS - 1, 2, 0), BLK_IOERR);
    assert_int_equal(range_request(BLK_WRITE_ZEROES, UINT64_MAX, 1, 0), BLK_IOERR);
    assert_int_equal(range_request(BLK_WRITE_ZEROES, 0, UINT32_MAX, 0), BLK_IOERR);
    assert_int_equal(request(BLK_DISCARD, 0, 15, false), BLK_IOERR); /* no whole range */
    assert_int_equal(request(BLK_DISCARD, 0, 32, false), BLK_IOERR); /* two ranges */
    assert_int_equal(file_word(1), 1);
}

static void impossible_requests_fail(void **state)
{
    assert_int_equal(request(BLK_IN, DISK_SECTORS, 512, true), BLK_IOERR);
    assert_int_equal(request(BLK_IN, DISK_SECTORS - 1, 1024, true), BLK_IOERR);
    assert_int_equal(request(BLK_OUT, UINT64_MAX, 512, false), BLK_IOERR);
    assert_int_equal(request(BLK_OUT, UINT64_MAX / 512 + 1, 512, false), BLK_IOERR);
    assert_int_equal(request(BLK_IN, 0, 100, true), BLK_IOERR);
    assert_int_equal(request(99, 0, 512, true), BLK_UNSUPP);
    assert_int_equal(request(BLK_IN, 0, 0, true), BLK_OK); /* nothing to do */
}

static void framing_is_free(void **state)
{
    struct guest_ring *ring = &rig.ring[0];
    gpa_t table = RIG_DATA + 0x4000;
    uint32_t len;

    /* The header in two parts, the data in three, the last with the status; all indirect. */
    put_header(HEADER, BLK_IN, 20);
    guest_desc_at(&rig.mem, table, 0, HEADER, 5, RING_NEXT, 1);
    guest_desc_at(&rig.mem, table, 1, HEADER + 5, 11, RING_NEXT, 2);
    guest_desc_at(&rig.mem, table, 2, BUFFER, 3, RING_NEXT | RING_WRITE, 3);
    guest_desc_at(&rig.mem, table, 3, BUFFER + 0x1000, 1000, RING_NEXT | RING_WRITE, 4);
    guest_desc_at(&rig.mem, table, 4, BUFFER + 0x2000, 22, RING_WRITE, 0);
    guest_put(&rig.mem, BUFFER + 0x2000 + 21, 0xee, 1);
    guest_desc(ring, 9, table, 5 * 16, RING_INDIRECT, 0);
    guest_offer(ring, 9);
    rig_notify(&rig, 0);
    assert_int_equal(rig_wait_used(&rig, 0, &len), 9);
    assert_int_equal(len, 1025);
    assert_int_equal(guest_get(&rig.mem, BUFFER + 0x2000 + 21, 1), BLK_OK);
    assert_int_equal(guest_get(&rig.mem, BUFFER, 3), 20);
    assert_int_equal(guest_get(&rig.mem, BUFFER + 0x1000 + 509, 4), 21);
}

static void assert_broken_by(void)
{
    guest_offer(&rig.ring[0], 0);
    rig_notify(&rig, 0);
    rig_wait_status(&rig, VIRTIO_STATUS_NEEDS_RESET);
    rig_negotiate(&rig, VIRTIO_F_VERSION_1 | ALL_FEATURES);
    rig_queue(&rig, 0, 64);
    rig_driver_ok(&rig);
    assert_int_equal(request(BLK_IN, 1, 512, true), BLK_OK);
    assert_int_equal(guest_get(&rig.mem, BUFFER, 4), 1);
}

static void request_without_status_needs_reset(void **state)
{
    put_header(HEADER, BLK_FLUSH, 0);
    guest_desc(&rig.ring[0], 0, HEADER, 16, 0, 0);
    assert_broken_by();
}

static void request_without_header_needs_reset(void **state)
{
    guest_desc(&rig.ring[0], 0, HEADER, 15, RING_NEXT, 1);
    guest_desc(&rig.ring[0], 1, STATUS, 1, RING_WRITE, 0);
    assert_broken_by();
}

static void read_only_disk_is_not_written(void **state)
{
    assert_true(rig_features(&rig) & F_RO);
    assert_false(rig_features(&rig) & (F_DISCARD | F_WRITE_ZEROES));
    assert_int_equal(request(BLK_IN, 3, 512, true), BLK_OK);
    assert_int_equal(request(BLK_OUT, 4, 512, false), BLK_IOERR);
    assert_int_equal(range_request(BLK_DISCARD, 0, 8, 0), BLK_UNSUPP);
    assert_int_equal(request(BLK_FLUSH, 0, 0, false), BLK_OK);
    assert_int_equal(file_word(4), 4);
}

/* Reads of all sectors through `queues` queues with as many requests in flight as fit. */
static void read_everything(unsigned queues)
{
    uint32_t len;

    for (uint32_t base = 0; base < DISK_SECTORS; base += 16 * queues) {
        for (unsigned q = 0; q < queues; q++) {
            struct guest_ring *ring = &rig.ring[q];
            for (unsigned i = 0; i < 16; i++) {
                gpa_t at = BUFFER + (q * 16 + i) * 0x1000;
                put_header(at, BLK_IN, base + q * 16 + i);
                guest_put(&rig.mem, at + 16, 0xee, 1);
                guest_desc(ring, 3 * i, at, 16, RING_NEXT, (uint16_t)(3 * i + 1));
                guest_desc(ring, 3 * i + 1, at + 0x200, 512, RING_NEXT | RING_WRITE,
                           (uint16_t)(3 * i + 2));
                guest_desc(ring, 3 * i + 2, at + 16, 1, RING_WRITE, 0);
                guest_offer(ring, (uint16_t)(3 * i));
            }
            rig_notify(&rig, q);
        }
        for (unsigned n = 0; n < 16 * queues; n++) {
            unsigned q = n / 16;
            gpa_t at = BUFFER + (q * 16 + rig_wait_used(&rig, q, &len) / 3) * 0x1000;
            assert_int_equal(guest_get(&rig.mem, at + 16, 1), BLK_OK);
            assert_int_equal(guest_get(&rig.mem, at + 0x200, 4), guest_get(&rig.mem, at + 8, 4));
        }
    }
}

static void many_requests_on_many_queues(void **state)
{
    read_everything(4);
    assert_true(rig.messages[1] && rig.messages[2] && rig.messages[3] && rig.messages[4]);
}

static void many_requests_through_the_thread(void **state)
{
    read_everything(1);
}

static void driver_without_flush_can_write(void **state)
{
    guest_put(&rig.mem, BUFFER, 0xabcd, 4);
    assert_int_equal(request(BLK_OUT, 5, 512, false), BLK_OK);
    assert_int_equal(file_word(5), 0xabcd);
    assert_int_equal(range_request(BLK_WRITE_ZEROES, 0, 8, 0), BLK_UNSUPP); /* not negotiated */
}

/* 5.2.6.2: what such a driver has written is durable when the request ends. */
static void driver_without_flush_is_flushed_for(void **state)
{
    static const uint32_t types[] = {BLK_OUT, BLK_WRITE_ZEROES};
    static struct held_medium medium;
    uint32_t len;

    start_on(held_init(&medium, DISK_SECTORS), 1, F_WRITE_ZEROES);
    put_range(8, 8, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
        offer(types[i], 16, types[i] == BLK_OUT ? 512 : 16, false);
        while (!held_count(&medium))
            usleep(100);
        assert_int_equal(medium.seen[BLOCK_FLUSH], i);
        held_release(&medium, 0);
        assert_int_equal(medium.seen[BLOCK_FLUSH], i + 1);
        held_release(&medium, 0);
        rig_wait_used(&rig, 0, &len);
        assert_int_equal(guest_get(&rig.mem, STATUS, 1), BLK_OK);
    }
    rig_done(&rig);
}

static void reset_waits_for_requests_in_flight(void **state)
{
    for (unsigned round = 0; round < 100; round++) {
        put_header(HEADER, BLK_IN, 0);
        guest_desc(&rig.ring[0], 0, HEADER, 16, RING_NEXT, 1);
        guest_desc(&rig.ring[0], 1, BUFFER, 256 * 512, RING_NEXT | RING_WRITE, 2);
        guest_desc(&rig.ring[0], 2, STATUS, 1, RING_WRITE, 0);
        for (unsigned i = 0; i < 20; i++)
            guest_offer(&rig.ring[0], 0);
        rig_notify(&rig, 0);
        reg_write(&rig, R_STATUS, 1, 0);
        /* The memory is the driver's again. */
        guest_put(&rig.mem, BUFFER + 512, 0x11223344, 4);
        usleep(200);
        assert_int_equal(guest_get(&rig.mem, BUFFER + 512, 4), 0x11223344);
        rig_negotiate(&rig, VIRTIO_F_VERSION_1 | ALL_FEATURES);
        rig_queue(&rig, 0, 64);
        rig_driver_ok(&rig);
    }
    assert_int_equal(request(BLK_IN, 9, 512, true), BLK_OK);
}

static void state_of_another_disk_is_refused(void **state)
{
    struct state_buffer saved = {0};
    struct error err;

    rig.dev->ops->pause(rig.dev);
    assert_int_equal(state_save(&saved, rig.dev->ops->state, rig.dev->state_object), 0);
    rig_done(&rig);
    close(fd);
    assert_int_equal(truncate(path, 512 * (DISK_SECTORS + 8)), 0);
    fd = open(path, O_RDWR);

    struct block_options parsed;
    struct block_device *disk;
    struct device *dev;
    rig_init(&rig);
    assert_int_equal(block_parse_options(&parsed, path, NULL), 0);
    assert_int_equal(block_open(&disk, &parsed, NULL), 0);
    const struct virtio_blk_config config = {.pci = rig_config(&rig, "disk0"), .queues = 1};
    assert_int_equal(virtio_blk_new(&dev, &config, disk, NULL), 0);
    rig.dev = dev;
    assert_int_equal(state_load(&saved, dev->ops->state, dev->state_object, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "2048"));
    state_buffer_done(&saved);
}

#define T(name, prepare) cmocka_unit_test_setup_teardown(name, prepare, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(configuration_describes_the_disk, setup),
        T(sectors_are_read_and_written, setup),
        T(identity_is_given, setup),
        T(ranges_are_discarded_and_zeroed, setup),
        T(impossible_requests_fail, setup),
        T(framing_is_free, setup),
        T(request_without_status_needs_reset, setup),
        T(request_without_header_needs_reset, setup),
        T(read_only_disk_is_not_written, setup_read_only),
        T(many_requests_on_many_queues, setup_many_queues),
        T(many_requests_through_the_thread, setup_thread),
        T(driver_without_flush_can_write, setup_no_flush),
        cmocka_unit_test(driver_without_flush_is_flushed_for),
        T(reset_waits_for_requests_in_flight, setup),
        T(state_of_another_disk_is_refused, setup),
    };
    return cmocka_run_group_tests_name("virtio_blk", tests, NULL, NULL);
}
