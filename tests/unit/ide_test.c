/* The IDE controller with a disk and a CD-ROM drive on the first channel, and hostile drivers. */
#include "storage_rig.h"

#include "dev/storage/ide.h"

#define DATA 0x1f0
#define ERROR_REGISTER 0x1f1
#define COUNT 0x1f2
#define LBA_LOW 0x1f3
#define DEVICE 0x1f6
#define STATUS 0x1f7
#define CONTROL 0x3f6
#define MASTER 0xc000
#define MASTER_BAR 4
#define TABLE 0x2000u
#define BUFFER 0x20000u
#define IRQ_LINE 14

static struct storage_rig rig;
static struct ide *ide;

static struct ide *new_controller(struct storage_rig *where)
{
    struct ide_config config = {
        "ide", &where->pci, IDE_DEVFN, {{rig_line, where, 14}, {rig_line, where, 15}}};
    struct ata_drive_config disk = {.kind = ATA_DISK, .medium = rig_medium("")};
    struct ata_drive_config cd = {.kind = ATA_CDROM, .medium = rig_medium(",readonly=on")};
    struct ide *made;

    assert_int_equal(ide_new(&made, &config, NULL), 0);
    ide_add_drive(made, 0, &disk);
    ide_add_drive(made, 1, &cd);
    struct device *dev = ide_device(made);
    dev->ops->reset(dev);
    pci_config_write(&where->pci, IDE_DEVFN, PCI_BAR0 + 4 * MASTER_BAR, 4, MASTER);
    pci_config_write(&where->pci, IDE_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    return made;
}

static uint32_t in(unsigned port, unsigned size)
{
    uint64_t value;
    bus_read(&rig.bus, BUS_PORT, port, size, &value);
    return (uint32_t)value;
}

static void out(unsigned port, unsigned size, uint32_t value)
{
    bus_write(&rig.bus, BUS_PORT, port, size, value);
}

static int setup(void **state)
{
    rig_init(&rig);
    ide = new_controller(&rig);
    return 0;
}

static int teardown(void **state)
{
    struct device *dev = ide_device(ide);
    dev->ops->pause(dev);
    dev->ops->destroy(dev);
    rig_done(&rig);
    return 0;
}

static void command(unsigned unit, uint8_t code, uint32_t lba, uint8_t count, uint8_t feature)
{
    out(DEVICE, 1, ATA_DEVICE_LBA | unit << 4 | lba >> 24);
    out(ERROR_REGISTER, 1, feature);
    out(COUNT, 1, count);
    for (unsigned i = 0; i < 3; i++)
        out(LBA_LOW + i, 1, lba >> 8 * i & 0xff);
    out(STATUS, 1, code);
}

/* Waits for the drive; returns its status and takes the interrupt back. */
static uint8_t wait_ready(void)
{
    RIG_WAIT(!(in(CONTROL, 1) & ATA_STATUS_BSY));
    return (uint8_t)in(STATUS, 1);
}

static void wait_interrupt(void)
{
    RIG_WAIT(__atomic_load_n(&rig.lines, __ATOMIC_SEQ_CST) & 1u << IRQ_LINE);
}

static void drives_show_their_signature(void **state)
{
    assert_int_equal(in(COUNT, 1), 1);
    assert_int_equal(in(LBA_LOW + 2, 1), 0);
    out(DEVICE, 1, ATA_DEVICE_SECOND);
    assert_int_equal(in(LBA_LOW + 1, 1), 0x14);
    assert_int_equal(in(LBA_LOW + 2, 1), 0xeb);
    assert_int_equal(in(0x177, 1), 0xff); /* nobody on the second channel */
}

static void sectors_are_read_by_pio(void **state)
{
    command(0, 0x20, 5, 100, 0); /* more than one buffer holds */
    for (uint32_t sector = 0; sector < 100; sector++) {
        wait_interrupt();
        assert_int_equal(wait_ready(), ATA_STATUS_DRDY | ATA_STATUS_DSC | ATA_STATUS_DRQ);
        assert_false(rig.lines & 1u << IRQ_LINE);
        assert_int_equal(in(DATA, 4), 5 + sector);
        for (unsigned i = 4; i < ATA_SECTOR; i += 2)
            assert_int_equal(in(DATA, 2), 0);
    }
    assert_int_equal(wait_ready(), ATA_STATUS_DRDY | ATA_STATUS_DSC);
}

static void sectors_are_written_by_pio(void **state)
{
    command(0, 0xc5, 64, 20, 0); /* WRITE MULTIPLE: blocks of 16 sectors, and 4 */
    for (unsigned block = 0; block < 2; block++) {
        assert_int_equal(wait_ready() & ATA_STATUS_DRQ, ATA_STATUS_DRQ);
        for (unsigned i = 0; i < (block ? 4 : 16) * ATA_SECTOR; i += 4)
            out(DATA, 4, 0xabcd0000 + block * 0x10000 + i);
        if (block)
            break;
        wait_interrupt();
    }
    wait_interrupt();
    assert_int_equal(wait_ready(), ATA_STATUS_DRDY | ATA_STATUS_DSC);
    command(0, 0x20, 80, 1, 0);
    assert_int_equal(wait_ready() & ATA_STATUS_DRQ, ATA_STATUS_DRQ);
    assert_int_equal(in(DATA, 4), 0xabce0000);
}

static void put_prd(unsigned index, uint32_t address, uint32_t length, bool last)
{
    uint32_t prd[2] = {address, (length & 0xffff) | (last ? 0x80000000u : 0)};
    rig_write(&rig, TABLE + index * 8, prd, sizeof(prd));
}

static void sectors_move_by_dma(void **state)
{
    put_prd(0, BUFFER, 1024, false);
    put_prd(1, BUFFER + 0x2000, 0, true); /* 64 KiB */
    out(MASTER + 4, 4, TABLE);
    command(0, 0xc8, 10, 130, 0);
    out(MASTER, 1, 9);
    wait_interrupt();
    assert_int_equal(in(MASTER + 2, 1) & 7, 4);
    assert_int_equal(wait_ready(), ATA_STATUS_DRDY | ATA_STATUS_DSC);
    out(MASTER, 1, 0);
    out(MASTER + 2, 1, 4);
    assert_int_equal(in(MASTER + 2, 1) & 7, 0);
    assert_int_equal(rig_read32(&rig, BUFFER + 512), 11);
    assert_int_equal(rig_read32(&rig, BUFFER + 0x2000), 12);

    out(MASTER, 1, 1);
    command(0, 0xca, 1000, 2, 0); /* the other order: started before the command */
    wait_interrupt();
    wait_ready();
    command(0, 0x20, 1001, 1, 0);
    wait_ready();
    assert_int_equal(in(DATA, 4), 11);
}

/* The drive waits for ever where the table is too short, and software resets it. */
static void bad_tables_do_no_harm(void **state)
{
    put_prd(0, BUFFER, 512, true);
    out(MASTER + 4, 4, TABLE);
    command(0, 0xc8, 0, 2, 0);
    out(MASTER, 1, 9);
    assert_int_equal(in(MASTER + 2, 1) & 7, 0);
    assert_true(in(CONTROL, 1) & ATA_STATUS_DRQ);
    out(MASTER, 1, 0);
    out(CONTROL, 1, ATA_CONTROL_SRST);
    assert_true(in(CONTROL, 1) & ATA_STATUS_BSY);
    out(CONTROL, 1, 0);
    assert_int_equal(wait_ready(), ATA_STATUS_DRDY | ATA_STATUS_DSC);

    put_prd(0, 0xfffff000, 1024, true);
    command(0, 0xc8, 0, 2, 0);
    out(MASTER, 1, 9);
    wait_interrupt();
    assert_int_equal(in(MASTER + 2, 1) & 7, 6); /* error */
    assert_true(wait_ready() & ATA_STATUS_ERR);
}

static void packets_read_blocks(void **state)
{
    static const uint8_t ready[ATA_PACKET_SIZE] = {0};
    static const uint8_t read[ATA_PACKET_SIZE] = {0x28, 0, 0, 0, 0, 3, 0, 0, 2};
    const uint8_t *packets[] = {ready, read};

    for (size_t p = 0; p < ARRAY_SIZE(packets); p++) {
        command(1, ATA_CMD_PACKET, 2048 << 8, 0, 0); /* at most 2048 bytes at a time */
        assert_int_equal(wait_ready() & ATA_STATUS_DRQ, ATA_STATUS_DRQ);
        assert_int_equal(in(COUNT, 1), ATA_REASON_COMMAND);
        for (unsigned i = 0; i < ATA_PACKET_SIZE; i += 2)
            out(DATA, 2, packets[p][i] | packets[p][i + 1] << 8);
        wait_interrupt();
        if (p == 0) {
            assert_true(wait_ready() & ATA_STATUS_ERR); /* unit attention */
            assert_int_equal(in(ERROR_REGISTER, 1) >> 4, 6);
        }
    }
    for (unsigned block = 0; block < 2; block++) {
        wait_interrupt();
        assert_true(wait_ready() & ATA_STATUS_DRQ);
        assert_int_equal(in(COUNT, 1), ATA_REASON_TO_HOST);
        assert_int_equal(in(LBA_LOW + 1, 1) | in(LBA_LOW + 2, 1) << 8, 2048);
        assert_int_equal(in(DATA, 4), 4 * (3 + block));
        for (unsigned i = 4; i < CD_BLOCK; i += 4)
            in(DATA, 4);
    }
    wait_interrupt();
    assert_int_equal(wait_ready() & (ATA_STATUS_DRQ | ATA_STATUS_ERR), 0);
    assert_int_equal(in(COUNT, 1), 3);
}

static uint8_t packet(const uint8_t bytes[ATA_PACKET_SIZE])
{
    command(1, ATA_CMD_PACKET, 2048 << 8, 0, 0);
    wait_ready();
    for (unsigned i = 0; i < ATA_PACKET_SIZE; i += 2)
        out(DATA, 2, bytes[i] | bytes[i + 1] << 8);
    wait_interrupt();
    return wait_ready();
}

/* The read that was under way says what became of the disc. */
static void disc_that_goes_during_a_read_is_missed(void **state)
{
    static const uint8_t sense[ATA_PACKET_SIZE] = {0x03, [4] = 18};
    static const uint8_t read[ATA_PACKET_SIZE] = {0x28, [8] = 2};
    static const uint16_t codes[] = {0x3a, 0x28}; /* no disc, another disc */

    for (unsigned other = 0; other < 2; other++) {
        struct block_device *old;
        packet(sense); /* which takes what waits to be reported */
        for (unsigned i = 0; i < 18; i++)
            in(DATA, 1);
        wait_interrupt();
        wait_ready();
        if (other)
            assert_int_equal(ide_change_medium(ide, 1, rig_medium(",readonly=on"), true, &old), 0);
        packet(read);
        if (other)
            packet(read); /* the first was told of the disc that came */
        assert_int_equal(in(DATA, 2), 0);
        assert_int_equal(
            ide_change_medium(ide, 1, other ? rig_medium(",readonly=on") : NULL, true, &old), 0);
        block_close(old);
        wait_interrupt();
        assert_true(wait_ready() & ATA_STATUS_ERR);
        packet(sense);
        for (unsigned i = 0; i < 12; i++)
            in(DATA, 1);
        assert_int_equal(in(DATA, 1), codes[other]);
        for (unsigned i = 13; i < 18; i++)
            in(DATA, 1);
    }
}

static void queued_commands_are_not_for_this_link(void **state)
{
    command(0, 0x60, 0, 0, 1);
    assert_true(wait_ready() & ATA_STATUS_ERR);
}

static void interrupt_can_be_masked(void **state)
{
    out(CONTROL, 1, ATA_CONTROL_NIEN);
    command(0, 0xe5, 0, 0, 0);
    assert_int_equal(wait_ready(), ATA_STATUS_DRDY | ATA_STATUS_DSC);
    assert_int_equal(rig.lines, 0);
    assert_int_equal(in(COUNT, 1), 0xff);
}

/* In the middle of a sector, which the other controller's guest reads on. */
static void state_moves_to_another_controller(void **state)
{
    struct storage_rig other;
    struct device *dev = ide_device(ide);

    command(0, 0x20, 7, 2, 0);
    wait_ready();
    in(DATA, 2);
    dev->ops->pause(dev);
    rig_init(&other);
    struct ide *copy = new_controller(&other);
    rig_assert_same_state(dev, ide_device(copy));
    for (unsigned i = 2; i < ATA_SECTOR; i += 2) {
        uint64_t value;
        bus_read(&other.bus, BUS_PORT, DATA, 2, &value);
        assert_int_equal(value, 0);
    }
    uint64_t next;
    bus_read(&other.bus, BUS_PORT, DATA, 4, &next);
    assert_int_equal(next, 8);
    ide_device(copy)->ops->pause(ide_device(copy));
    ide_device(copy)->ops->destroy(ide_device(copy));
    rig_done(&other);
}

/* Whatever a stream says, no later access reaches beyond the buffer. */
static void hostile_state_is_refused_or_harmless(void **state)
{
    struct device *dev = ide_device(ide);
    struct state_buffer good;
    struct error err;
    uint32_t seed = 3;

    command(0, 0x20, 7, 2, 0);
    wait_ready();
    dev->ops->pause(dev);
    rig_save(dev, &good);
    for (unsigned i = 0; i < 500; i++) {
        struct state_buffer bad = {0};
        bad.data = malloc(good.length);
        assert_non_null(bad.data);
        memcpy(bad.data, good.data, good.length);
        bad.length = bad.capacity = good.length;
        for (unsigned j = 0; j < 8; j++)
            bad.data[rig_random(&seed) % good.length] = (uint8_t)rig_random(&seed);
        if (!state_load(&bad, dev->ops->state, dev->state_object, &err)) {
            dev->ops->resume(dev);
            for (unsigned j = 0; j < 1000; j++)
                in(DATA, 4);
            dev->ops->pause(dev);
        }
        state_buffer_done(&bad);
    }
    state_buffer_done(&good);
}

static void any_access_is_survived(void **state)
{
    uint32_t seed = 9;

    for (unsigned i = 0; i < 50000; i++) {
        static const uint16_t ports[] = {DATA, DATA, STATUS, CONTROL, MASTER, MASTER + 4};
        unsigned port =
            i & 1 ? ports[rig_random(&seed) % ARRAY_SIZE(ports)] : DATA + rig_random(&seed) % 8;
        uint32_t value = rig_random(&seed) & (i % 3 ? RIG_MEMORY - 1 : UINT32_MAX);
        if (rig_random(&seed) & 1)
            out(port, 1u << rig_random(&seed) % 3, value);
        else
            in(port, 1u << rig_random(&seed) % 3);
    }
    out(CONTROL, 1, ATA_CONTROL_SRST);
    out(CONTROL, 1, 0);
    assert_int_equal(wait_ready(), ATA_STATUS_DRDY | ATA_STATUS_DSC);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(drives_show_their_signature),
        TEST(sectors_are_read_by_pio),
        TEST(sectors_are_written_by_pio),
        TEST(sectors_move_by_dma),
        TEST(bad_tables_do_no_harm),
        TEST(packets_read_blocks),
        TEST(disc_that_goes_during_a_read_is_missed),
        TEST(queued_commands_are_not_for_this_link),
        TEST(interrupt_can_be_masked),
        TEST(state_moves_to_another_controller),
        TEST(hostile_state_is_refused_or_harmless),
        TEST(any_access_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
