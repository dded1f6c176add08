/* The commands of ATA disks and CD-ROM drives, as jobs without a controller. */
#include "storage_rig.h"

#include <errno.h>

#define LBA ATA_DEVICE_LBA

static bool closed;

static void fake_close(struct block_device *disk)
{
    closed = true;
}

static const struct block_ops fake_ops = {.format = "fake", .close = fake_close};
static struct block_device medium;
static struct ata_drive drive;
static struct ata_job job;

static int setup(enum ata_kind kind)
{
    closed = false;
    medium = (struct block_device){
        .ops = &fake_ops, .size = RIG_SECTORS * ATA_SECTOR, .can_discard = true};
    struct ata_drive_config config = {.kind = kind, .medium = &medium, .index = 1, .sata = true};
    ata_drive_init(&drive, &config);
    return 0;
}

static int setup_disk(void **state)
{
    return setup(ATA_DISK);
}

static int setup_cdrom(void **state)
{
    return setup(ATA_CDROM);
}

static int teardown(void **state)
{
    ata_drive_done(&drive);
    assert_true(closed);
    return 0;
}

static void begin(uint8_t command, uint64_t lba, uint16_t count, uint16_t feature, uint8_t device)
{
    struct ata_registers regs = {
        .command = command, .lba = lba, .count = count, .feature = feature, .device = device};
    ata_job_begin(&job, &drive, &regs);
}

static void assert_done(uint8_t error)
{
    assert_int_equal(job.stage, ATA_STAGE_DONE);
    assert_int_equal(job.regs.status & (ATA_STATUS_ERR | ATA_STATUS_BSY | ATA_STATUS_DRQ),
                     error ? ATA_STATUS_ERR : 0);
    assert_int_equal(job.regs.error, error);
}

static void assert_moves(bool write, uint64_t sector, uint32_t sectors)
{
    assert_int_equal(job.stage, ATA_STAGE_MEDIUM);
    assert_int_equal(job.write, write);
    assert_int_equal(job.offset, sector * ATA_SECTOR);
    assert_int_equal(job.length, sectors * ATA_SECTOR);
}

static uint16_t word(unsigned index)
{
    return (uint16_t)(drive.data[2 * index] | drive.data[2 * index + 1] << 8);
}

static void identify_says_what_there_is(void **state)
{
    uint8_t sum = 0;

    begin(0xec, 0, 0, 0, 0);
    assert_int_equal(job.stage, ATA_STAGE_DATA_IN);
    assert_int_equal(job.length, ATA_SECTOR);
    assert_int_equal(word(60), RIG_SECTORS);
    assert_int_equal(word(100), RIG_SECTORS);
    assert_true(word(76) & 0x100); /* NCQ */
    assert_true(word(169) & 1);    /* TRIM */
    assert_memory_equal(drive.data + 54, "iSllA ATd si k", 14);
    for (unsigned i = 0; i < ATA_SECTOR; i++)
        sum = (uint8_t)(sum + drive.data[i]);
    assert_int_equal(sum, 0);
    ata_job_data_done(&job);
    assert_done(0);
}

static void addresses_have_three_forms(void **state)
{
    begin(0xc8, 100, 8, 0, LBA);
    assert_moves(false, 100, 8);
    begin(0x25, 100, 0x100, 0, LBA);
    assert_moves(false, 100, 0x100);
    begin(0x20, 100, 0, 0, LBA); /* 0 is 256 */
    assert_moves(false, 100, 256);
    begin(0x20, 1 | 1 << 8, 1, 0, 2); /* cylinder 1, head 2, sector 1 */
    assert_moves(false, (1 * 16 + 2) * 63, 1);
    begin(0x20, 0, 1, 0, 0); /* there is no sector 0 */
    assert_done(ATA_ERROR_IDNF);
    begin(0x91, 0, 32, 0, 3); /* 4 heads of 32 sectors */
    assert_done(0);
    begin(0x20, 1 | 1 << 8, 1, 0, 2);
    assert_moves(false, (1 * 4 + 2) * 32, 1);
}

static void nothing_reaches_beyond_the_end(void **state)
{
    begin(0x25, RIG_SECTORS - 1, 1, 0, LBA);
    assert_moves(false, RIG_SECTORS - 1, 1);
    begin(0x25, RIG_SECTORS - 1, 2, 0, LBA);
    assert_done(ATA_ERROR_IDNF);
    begin(0x25, 0xffffffffffff, 1, 0, LBA);
    assert_done(ATA_ERROR_IDNF);
    begin(0x35, 0, 0, 0, LBA); /* 65536 */
    assert_done(ATA_ERROR_IDNF);
    begin(0x60, RIG_SECTORS, 0, 1, LBA);
    assert_done(ATA_ERROR_IDNF);
    assert_int_equal(job.protocol, ATA_PROTOCOL_QUEUED);
}

static void read_only_medium_is_not_written(void **state)
{
    medium.read_only = true;
    begin(0x35, 0, 1, 0, LBA);
    assert_done(ATA_ERROR_ABRT);
    begin(0x61, 0, 0, 1, LBA);
    assert_done(ATA_ERROR_ABRT);
}

/* What is written must be flushed: with FUA, and when the guest has switched the cache off. */
static void written_data_is_flushed_when_asked(void **state)
{
    static const struct {
        uint8_t command;
        bool cache, flush;
    } cases[] = {{0x35, true, false}, {0x3d, true, true}, {0x35, false, true}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        begin(0xef, 0, 0, cases[i].cache ? 0x02 : 0x82, 0);
        if (!cases[i].cache)
            ata_job_io_done(&job, 0); /* switching off flushes too */
        assert_done(0);
        begin(cases[i].command, 5, 2, 0, LBA);
        struct iovec iov = {0};
        ata_job_medium_io(&job, &iov, 1, 2 * ATA_SECTOR);
        assert_int_equal(job.io.op, BLOCK_WRITE);
        assert_int_equal(job.io.offset, 5 * ATA_SECTOR);
        ata_job_io_done(&job, 0);
        if (cases[i].flush) {
            assert_int_equal(job.stage, ATA_STAGE_IO);
            ata_job_plain_io(&job);
            assert_int_equal(job.io.op, BLOCK_FLUSH);
            ata_job_io_done(&job, 0);
        }
        assert_done(0);
    }
}

/* None says "aborted", which to drivers means that the drive does not know the command: Linux stops
 * queuing commands to a drive that says it a few times. */
static void errors_name_the_sector(void **state)
{
    static const struct {
        uint8_t command, error;
        int result;
    } cases[] = {
        {0x25, ATA_ERROR_UNC, -EIO},
        {0x35, ATA_ERROR_IDNF, -EIO},
        {0x35, ATA_ERROR_IDNF, -ENOSPC},
    };
    struct iovec iov = {0};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        begin(cases[i].command, 64, 16, 0, LBA);
        ata_job_medium_io(&job, &iov, 1, 8 * ATA_SECTOR);
        ata_job_io_done(&job, 0);
        ata_job_medium_io(&job, &iov, 1, 8 * ATA_SECTOR);
        ata_job_io_done(&job, cases[i].result);
        assert_done(cases[i].error);
        assert_int_equal(job.regs.lba, 72);
    }
}

static void put_range(unsigned index, uint64_t sector, uint64_t count)
{
    uint64_t range = sector | count << 48;
    memcpy(drive.data + 8 * index, &range, sizeof(range));
}

static void trim_discards_each_range(void **state)
{
    begin(0x06, 0, 1, 1, LBA);
    assert_int_equal(job.stage, ATA_STAGE_DATA_OUT);
    memset(drive.data, 0, ATA_SECTOR);
    put_range(0, 8, 4);
    put_range(2, 100, 16);
    ata_job_data_done(&job);
    assert_int_equal(job.stage, ATA_STAGE_IO);
    ata_job_plain_io(&job);
    assert_int_equal(job.io.op, BLOCK_DISCARD);
    assert_int_equal(job.io.offset, 8 * ATA_SECTOR);
    assert_int_equal(job.io.length, 4 * ATA_SECTOR);
    ata_job_io_done(&job, 0);
    ata_job_plain_io(&job);
    assert_int_equal(job.io.offset, 100 * ATA_SECTOR);
    assert_int_equal(job.io.length, 16 * ATA_SECTOR);
    ata_job_io_done(&job, 0);
    assert_done(0);

    begin(0x06, 0, 1, 1, LBA);
    put_range(1, RIG_SECTORS - 1, 2);
    ata_job_data_done(&job);
    assert_done(ATA_ERROR_IDNF | ATA_ERROR_ABRT);
}

static void failed_queued_command_is_in_the_log(void **state)
{
    begin(0x60, RIG_SECTORS + 7, 5 << 3, 1, LBA);
    assert_done(ATA_ERROR_IDNF);
    begin(0x2f, 0x10, 1, 0, LBA);
    assert_int_equal(job.stage, ATA_STAGE_DATA_IN);
    assert_int_equal(drive.data[0], 5);
    assert_int_equal(drive.data[3], ATA_ERROR_IDNF);
    begin(0x2f, 0x10, 1, 0, LBA); /* once */
    assert_int_equal(drive.data[0], 0x80);
}

static void unknown_commands_abort(void **state)
{
    static const uint8_t commands[] = {0x00, 0x08, 0xa0, 0xa1, 0xf1, 0xff};

    for (size_t i = 0; i < sizeof(commands); i++) {
        begin(commands[i], 0, 0, 0, 0);
        assert_done(ATA_ERROR_ABRT);
    }
    begin(0xb0, 0x123400, 0, 0xd0, 0); /* SMART with a wrong key */
    assert_done(ATA_ERROR_ABRT);
    begin(0xef, 0, 0, 0x77, 0);
    assert_done(ATA_ERROR_ABRT);
    begin(0xc6, 0, 3, 0, 0); /* no power of two */
    assert_done(ATA_ERROR_ABRT);
}

/* What makes the drive stand by has written the cache first; an access ends it. */
static void standby_is_durable_and_ends_with_an_access(void **state)
{
    static const uint8_t commands[] = {0xe0, 0xe2, 0xe6};
    struct iovec iov = {0};

    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        begin(commands[i], 0, 0, 0, 0);
        assert_int_equal(job.stage, ATA_STAGE_IO);
        ata_job_plain_io(&job);
        assert_int_equal(job.io.op, BLOCK_FLUSH);
        ata_job_io_done(&job, 0);
        assert_done(0);
        begin(0xe5, 0, 0x55, 0, 0);
        assert_int_equal(job.regs.count, 0x00);
        begin(0x25, 64, 1, 0, LBA);
        ata_job_medium_io(&job, &iov, 1, ATA_SECTOR);
        ata_job_io_done(&job, 0);
        begin(0xe5, 0, 0x55, 0, 0);
        assert_int_equal(job.regs.count, 0xff);
    }
}

static void any_registers_make_a_valid_job(void **state)
{
    uint32_t seed = 1;

    for (unsigned i = 0; i < 100000; i++) {
        uint8_t command = (uint8_t)rig_random(&seed);
        begin(command, (uint64_t)rig_random(&seed) << (rig_random(&seed) & 16) & 0xffffffffffff,
              (uint16_t)rig_random(&seed), (uint16_t)rig_random(&seed), (uint8_t)rig_random(&seed));
        assert_true(job.stage == ATA_STAGE_IO || ata_job_valid(&job));
    }
}

/* ---- CD-ROM ---- */

static void packet(const uint8_t *bytes)
{
    begin(ATA_CMD_PACKET, 0xffff00, 0, 0, 0);
    assert_int_equal(job.stage, ATA_STAGE_PACKET);
    ata_job_packet(&job, bytes);
}

#define PACKET(...) packet((const uint8_t[ATA_PACKET_SIZE]){__VA_ARGS__})

static void assert_sense(uint8_t key, uint8_t code)
{
    assert_done((uint8_t)(key << 4) | ATA_ERROR_ABRT);
    PACKET(0x03, 0, 0, 0, 18);
    assert_int_equal(job.stage, ATA_STAGE_DATA_IN);
    assert_int_equal(drive.data[2], key);
    assert_int_equal(drive.data[12], code);
}

static void ready(void)
{
    drive.reset_attention = false;
}

static void packet_device_has_a_signature(void **state)
{
    begin(0xec, 0, 0, 0, 0);
    assert_done(ATA_ERROR_ABRT);
    assert_int_equal(job.regs.lba, 0xeb1401);
    begin(0xa1, 0, 0, 0, 0);
    assert_int_equal(job.stage, ATA_STAGE_DATA_IN);
    assert_int_equal(word(0), 0x85c0);
}

static void reset_is_reported_once(void **state)
{
    PACKET(0x12, 0, 0, 0, 36); /* INQUIRY tells nothing of it */
    assert_int_equal(job.stage, ATA_STAGE_DATA_IN);
    assert_int_equal(job.length, 36);
    assert_int_equal(drive.data[0], 5);
    PACKET(0x00);
    assert_sense(6, 0x29);
    PACKET(0x00);
    assert_done(0);
}

static void disc_is_read_in_blocks(void **state)
{
    ready();
    PACKET(0x25);
    assert_int_equal(job.length, 8);
    assert_int_equal(drive.data[2] << 8 | drive.data[3], RIG_SECTORS / 4 - 1);
    PACKET(0x28, 0, 0, 0, 0, 16, 0, 0, 2);
    assert_int_equal(job.stage, ATA_STAGE_MEDIUM);
    assert_int_equal(job.offset, 16 * CD_BLOCK);
    assert_int_equal(job.length, 2 * CD_BLOCK);
    PACKET(0xa8, 0, 0, 0, 0, 16, 0, 0, 0, 3);
    assert_int_equal(job.length, 3 * CD_BLOCK);
    PACKET(0xbe, 0, 0, 0, 0, 16, 0, 0, 1, 0x10);
    assert_int_equal(job.length, CD_BLOCK);
    PACKET(0x28, 0, 0, 0, RIG_SECTORS / 4 >> 8, RIG_SECTORS / 4 & 0xff, 0, 0, 1);
    assert_sense(5, 0x21);
    PACKET(0xa8, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff);
    assert_sense(5, 0x21);
    PACKET(0x77);
    assert_sense(5, 0x20);
}

static void table_of_contents_has_one_track(void **state)
{
    ready();
    PACKET(0x43, 0, 0, 0, 0, 0, 0, 0x10, 0);
    assert_int_equal(job.length, 20);
    assert_int_equal(drive.data[6], 1);
    assert_int_equal(drive.data[14], 0xaa);
    assert_int_equal(drive.data[18] << 8 | drive.data[19], RIG_SECTORS / 4);
    PACKET(0x43, 0, 0, 0, 0, 0, 2, 0x10, 0); /* there is no track 2 */
    assert_sense(5, 0x24);
    PACKET(0x43, 0, 0, 0, 0, 0, 0, 0, 4); /* the allocation length */
    assert_int_equal(job.length, 4);
}

static uint8_t media_event(void)
{
    PACKET(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8);
    assert_int_equal(job.length, 8);
    return drive.data[4];
}

static void guest_ejects_and_loads(void **state)
{
    ready();
    PACKET(0x1b, 0, 0, 0, 2);
    assert_done(0);
    assert_int_equal(media_event(), ATAPI_EVENT_REMOVED);
    PACKET(0x00);
    assert_sense(2, 0x3a);
    PACKET(0x1b, 0, 0, 0, 3);
    assert_done(0);
    assert_int_equal(media_event(), ATAPI_EVENT_NEW_MEDIUM);
    PACKET(0x00);
    assert_sense(6, 0x28);
    PACKET(0x00);
    assert_done(0);
}

static void host_changes_the_disc(void **state)
{
    struct block_device other = {.ops = &fake_ops, .size = 100 * CD_BLOCK}, *old;

    ready();
    assert_int_equal(ata_drive_change(&drive, NULL, false, &old), 0);
    assert_ptr_equal(old, &medium);
    PACKET(0x25);
    assert_sense(2, 0x3a);
    assert_int_equal(ata_drive_change(&drive, &other, false, &old), 0);
    assert_null(old);
    PACKET(0x25);
    assert_sense(6, 0x28);
    PACKET(0x25);
    assert_int_equal(drive.data[3], 99);
}

static void locked_drive_keeps_its_disc(void **state)
{
    struct block_device *old = NULL;

    ready();
    PACKET(0x1e, 0, 0, 0, 1);
    assert_done(0);
    PACKET(0x1b, 0, 0, 0, 2);
    assert_sense(5, 0x53);
    assert_int_equal(ata_drive_change(&drive, NULL, false, &old), -EBUSY);
    assert_ptr_equal(drive.medium, &medium);
    assert_int_equal(media_event(), ATAPI_EVENT_EJECT_REQUEST);
    assert_int_equal(ata_drive_change(&drive, NULL, true, &old), 0);
    assert_ptr_equal(old, &medium);
    assert_int_equal(ata_drive_change(&drive, &medium, true, &old), 0);
}

static void configuration_fits_the_disc(void **state)
{
    ready();
    PACKET(0x46, 0, 0, 0, 0, 0, 0, 1, 0);
    assert_int_equal(drive.data[7], 0x08); /* CD-ROM */
    drive.blocks = 2000000;
    PACKET(0x46, 0, 0, 0, 0, 0, 0, 1, 0);
    assert_int_equal(drive.data[7], 0x10); /* DVD-ROM */
    PACKET(0x46, 3);
    assert_sense(5, 0x24);
}

static void any_packet_makes_a_valid_job(void **state)
{
    uint32_t seed = 1;

    for (unsigned i = 0; i < 100000; i++) {
        uint8_t bytes[ATA_PACKET_SIZE];
        for (unsigned j = 0; j < sizeof(bytes); j++)
            bytes[j] = rig_random(&seed) & 3 ? (uint8_t)rig_random(&seed) : 0;
        drive.reset_attention = false;
        packet(bytes);
        assert_true(job.stage == ATA_STAGE_IO || ata_job_valid(&job));
        assert_true(job.stage != ATA_STAGE_DATA_IN || job.length <= ATA_DATA_SIZE);
    }
}

int main(void)
{
#define DISK(test) cmocka_unit_test_setup_teardown(test, setup_disk, teardown)
#define CDROM(test) cmocka_unit_test_setup_teardown(test, setup_cdrom, teardown)
    const struct CMUnitTest tests[] = {
        DISK(identify_says_what_there_is),
        DISK(addresses_have_three_forms),
        DISK(nothing_reaches_beyond_the_end),
        DISK(read_only_medium_is_not_written),
        DISK(written_data_is_flushed_when_asked),
        DISK(errors_name_the_sector),
        DISK(trim_discards_each_range),
        DISK(failed_queued_command_is_in_the_log),
        DISK(unknown_commands_abort),
        DISK(standby_is_durable_and_ends_with_an_access),
        DISK(any_registers_make_a_valid_job),
        CDROM(packet_device_has_a_signature),
        CDROM(reset_is_reported_once),
        CDROM(disc_is_read_in_blocks),
        CDROM(table_of_contents_has_one_track),
        CDROM(guest_ejects_and_loads),
        CDROM(host_changes_the_disc),
        CDROM(locked_drive_keeps_its_disc),
        CDROM(configuration_fits_the_disc),
        CDROM(any_packet_makes_a_valid_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
