/* The AHCI controller with a disk on port 0 and a CD-ROM drive on port 1, and hostile drivers. */
#include "storage_rig.h"

#include "dev/storage/ahci.h"
#include "dev/storage/ahci_regs.h"

#define LIST(port) (0x1000u + (port)*0x1000u)
#define FRAMES(port) (0x4000u + (port)*0x1000u)
#define TABLE(slot) (0x8000u + (slot)*0x400u)
#define BUFFER 0x20000u

static struct storage_rig rig;
static struct ahci *ahci;

static struct ahci *new_controller(struct storage_rig *where)
{
    struct ahci_config config = {"ahci", &where->pci, AHCI_DEVFN};
    struct ata_drive_config disk = {.kind = ATA_DISK, .medium = rig_medium(""), .sata = true};
    struct ata_drive_config cd = {
        .kind = ATA_CDROM, .medium = rig_medium(",readonly=on"), .sata = true};
    struct ahci *made;

    assert_int_equal(ahci_new(&made, &config, NULL), 0);
    assert_int_equal(ahci_add_drive(made, 0, &disk), 0);
    assert_int_equal(ahci_add_drive(made, 1, &cd), 0);
    struct device *dev = ahci_device(made);
    dev->ops->reset(dev);
    pci_config_write(&where->pci, AHCI_DEVFN, PCI_BAR0 + 4 * AHCI_BAR, 4, RIG_BAR);
    pci_config_write(&where->pci, AHCI_DEVFN, PCI_COMMAND, 2,
                     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    return made;
}

static uint32_t get(unsigned offset)
{
    uint64_t value;
    bus_read(&rig.bus, BUS_MMIO, RIG_BAR + offset, 4, &value);
    return (uint32_t)value;
}

static void set(unsigned offset, uint32_t value)
{
    bus_write(&rig.bus, BUS_MMIO, RIG_BAR + offset, 4, value);
}

static unsigned at(unsigned port, unsigned offset)
{
    return AHCI_PORT_BASE + port * AHCI_PORT_SIZE + offset;
}

static void start_port(unsigned port)
{
    set(at(port, PORT_CLB), LIST(port));
    set(at(port, PORT_FB), FRAMES(port));
    set(at(port, PORT_SERR), UINT32_MAX);
    set(at(port, PORT_IS), UINT32_MAX);
    set(at(port, PORT_IE), UINT32_MAX);
    set(at(port, PORT_CMD), CMD_FIS_RECEIVE);
    set(at(port, PORT_CMD), CMD_FIS_RECEIVE | CMD_START);
}

static int setup(void **state)
{
    rig_init(&rig);
    ahci = new_controller(&rig);
    set(HBA_GHC, GHC_AHCI_ENABLE | GHC_INTERRUPT_ENABLE);
    start_port(0);
    start_port(1);
    return 0;
}

static int teardown(void **state)
{
    struct device *dev = ahci_device(ahci);
    dev->ops->pause(dev);
    dev->ops->destroy(dev);
    rig_done(&rig);
    return 0;
}

struct command {
    unsigned port, slot;
    uint8_t command;
    uint64_t lba;
    uint16_t count, feature;
    const uint8_t *packet;
    gpa_t buffer;
    uint32_t length, pieces; /* of `length` bytes in all, one behind the other */
};

static void prepare(const struct command *c)
{
    uint8_t fis[FIS_SIZE] = {FIS_H2D, FIS_H2D_COMMAND, c->command, (uint8_t)c->feature};
    uint32_t header[8] = {5 | (c->packet ? HEADER_ATAPI : 0) | c->pieces << 16, 0, TABLE(c->slot)};

    for (unsigned i = 0; i < 3; i++) {
        fis[4 + i] = (uint8_t)(c->lba >> 8 * i);
        fis[8 + i] = (uint8_t)(c->lba >> (24 + 8 * i));
    }
    fis[7] = ATA_DEVICE_LBA;
    fis[11] = (uint8_t)(c->feature >> 8);
    fis[12] = (uint8_t)c->count;
    fis[13] = (uint8_t)(c->count >> 8);
    rig_write(&rig, LIST(c->port) + c->slot * HEADER_SIZE, header, sizeof(header));
    rig_write(&rig, TABLE(c->slot), fis, sizeof(fis));
    if (c->packet)
        rig_write(&rig, TABLE(c->slot) + TABLE_ACMD, c->packet, ATA_PACKET_SIZE);
    for (unsigned i = 0; i < c->pieces; i++) {
        uint32_t size = c->length / c->pieces;
        uint32_t prd[4] = {(uint32_t)c->buffer + i * size, (uint32_t)(c->buffer >> 32), 0,
                           size - 1};
        rig_write(&rig, TABLE(c->slot) + TABLE_PRDT + i * PRD_SIZE, prd, sizeof(prd));
    }
}

/* Runs one command to its end; returns the status. */
static uint8_t run(const struct command *c)
{
    prepare(c);
    set(at(c->port, PORT_CI), 1u << c->slot);
    RIG_WAIT(!(get(at(c->port, PORT_CI)) & 1u << c->slot) ||
             get(at(c->port, PORT_IS)) & IS_TASK_FILE_ERROR);
    return (uint8_t)get(at(c->port, PORT_TFD));
}

static void drives_show_their_signature(void **state)
{
    assert_int_equal(get(at(0, PORT_SIG)), 0x00000101);
    assert_int_equal(get(at(1, PORT_SIG)), 0xeb140101);
    assert_int_equal(get(at(0, PORT_SSTS)), SSTS_GEN3_ACTIVE);
    assert_int_equal(get(at(2, PORT_SSTS)), 0);
    assert_int_equal(rig_read32(&rig, FRAMES(0) + RFIS_D2H) & 0xff, FIS_D2H);
}

static void identify_comes_by_pio(void **state)
{
    struct command c = {.command = 0xec, .buffer = BUFFER, .length = 512, .pieces = 1};

    assert_int_equal(run(&c) & ATA_STATUS_ERR, 0);
    assert_true(get(at(0, PORT_IS)) & IS_PIO_SETUP);
    assert_int_equal(rig_read32(&rig, BUFFER + 120), RIG_SECTORS);
    assert_int_equal(rig_read32(&rig, LIST(0) + 4), 512); /* PRDBC */
    assert_int_equal(rig_read32(&rig, FRAMES(0) + RFIS_PIO_SETUP) & 0xff, FIS_PIO_SETUP);
    assert_true(get(HBA_IS) & 1);
}

static void sectors_are_written_and_read(void **state)
{
    struct command write = {
        .command = 0x35, .lba = 100, .count = 4, .buffer = BUFFER, .length = 2048, .pieces = 4};
    struct command read = write;
    uint8_t data[2048], got[2048];

    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    rig_write(&rig, BUFFER, data, sizeof(data));
    assert_int_equal(run(&write) & ATA_STATUS_ERR, 0);
    read.command = 0x25;
    read.slot = 9;
    read.buffer = BUFFER + 0x1000;
    read.pieces = 1024; /* more than fit into one request: of two bytes each */
    /* Longer than a table of this rig is: it runs over the next ones, which are not in use. */
    assert_int_equal(run(&read) & ATA_STATUS_ERR, 0);
    assert_int_equal(memory_read(&rig.memory, read.buffer, got, sizeof(got)), 0);
    assert_memory_equal(got, data, sizeof(data));
    assert_true(get(at(0, PORT_IS)) & IS_D2H);
}

static void queued_commands_run_together(void **state)
{
    uint32_t slots = 0;

    for (unsigned slot = 0; slot < 32; slot++) {
        struct command c = {.slot = slot,
                            .command = 0x60,
                            .lba = slot * 3,
                            .feature = 1,
                            .count = (uint16_t)(slot << 3),
                            .buffer = BUFFER + slot * 512,
                            .length = 512,
                            .pieces = 1};
        prepare(&c);
        slots |= 1u << slot;
    }
    set(at(0, PORT_SACT), slots);
    set(at(0, PORT_CI), slots);
    RIG_WAIT(!get(at(0, PORT_SACT)));
    assert_int_equal(get(at(0, PORT_CI)), 0);
    for (unsigned slot = 0; slot < 32; slot++)
        assert_int_equal(rig_read32(&rig, BUFFER + slot * 512), slot * 3);
    assert_true(get(at(0, PORT_IS)) & IS_SET_DEVICE_BITS);
}

static void interrupt_goes_when_it_is_acknowledged(void **state)
{
    struct command c = {.command = 0xe7};

    run(&c);
    assert_true(pci_config_read(&rig.pci, AHCI_DEVFN, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    set(at(0, PORT_IS), UINT32_MAX);
    set(HBA_IS, 1);
    assert_false(pci_config_read(&rig.pci, AHCI_DEVFN, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    assert_int_equal(get(HBA_IS), 0);
}

static void cdrom_reads_by_packets(void **state)
{
    static const uint8_t ready[ATA_PACKET_SIZE] = {0};
    static const uint8_t read[ATA_PACKET_SIZE] = {0x28, 0, 0, 0, 0, 3, 0, 0, 2};
    struct command c = {.port = 1, .command = ATA_CMD_PACKET, .packet = ready};

    assert_true(run(&c) & ATA_STATUS_ERR); /* unit attention stops the port */
    set(at(1, PORT_CMD), CMD_FIS_RECEIVE);
    set(at(1, PORT_IS), UINT32_MAX);
    set(at(1, PORT_CMD), CMD_FIS_RECEIVE | CMD_START);
    c.packet = read;
    c.feature = 1;
    c.buffer = BUFFER;
    c.length = 4096;
    c.pieces = 1;
    assert_int_equal(run(&c) & ATA_STATUS_ERR, 0);
    assert_int_equal(rig_read32(&rig, BUFFER), 12); /* block 3 is sector 12 */
    assert_int_equal(rig_read32(&rig, BUFFER + 2048), 16);
}

/* What a malicious table can say: too little, memory that is none, the controller itself. */
static void bad_tables_stop_the_port(void **state)
{
    static const struct {
        gpa_t buffer;
        uint32_t length, cause;
    } cases[] = {
        {BUFFER, 512, IS_OVERFLOW},
        {RIG_MEMORY - 512, 1024, IS_HOST_BUS_FATAL},
        {RIG_BAR, 1024, IS_HOST_BUS_FATAL},
        {0xfffffffffffffe00, 1024, IS_HOST_BUS_FATAL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct command c = {.command = 0x25,
                            .count = 2,
                            .buffer = cases[i].buffer,
                            .length = cases[i].length,
                            .pieces = 1};
        assert_true(run(&c) & ATA_STATUS_ERR);
        assert_true(get(at(0, PORT_IS)) & cases[i].cause);
        set(at(0, PORT_CMD), CMD_FIS_RECEIVE);
        assert_int_equal(get(at(0, PORT_CI)), 0);
        start_port(0);
    }
    set(at(0, PORT_CLB), RIG_BAR); /* no list at all */
    set(at(0, PORT_CI), 1);
    assert_true(get(at(0, PORT_IS)) & IS_HOST_BUS_FATAL);
}

static void commands_wait_for_bus_mastering(void **state)
{
    struct command c = {.command = 0xec, .buffer = BUFFER, .length = 512, .pieces = 1};

    pci_config_write(&rig.pci, AHCI_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    prepare(&c);
    set(at(0, PORT_CI), 1);
    assert_int_equal(get(at(0, PORT_CI)), 1);
    pci_config_write(&rig.pci, AHCI_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    RIG_WAIT(!get(at(0, PORT_CI)));
    assert_int_equal(rig_read32(&rig, BUFFER + 120), RIG_SECTORS);
}

static void comreset_resets_the_drive(void **state)
{
    set(at(0, PORT_SCTL), SCTL_DET_RESET);
    assert_int_equal(get(at(0, PORT_SSTS)), 0);
    assert_int_equal(get(at(0, PORT_SIG)), SIG_NONE);
    set(at(0, PORT_SCTL), 0);
    assert_int_equal(get(at(0, PORT_SSTS)), SSTS_GEN3_ACTIVE);
    assert_int_equal(get(at(0, PORT_SIG)), 0x00000101);
    assert_true(get(at(0, PORT_IS)) & IS_CONNECT_CHANGE);
    set(HBA_GHC, GHC_RESET);
    assert_int_equal(get(HBA_GHC), GHC_AHCI_ENABLE);
    assert_int_equal(get(at(0, PORT_CMD)) & (CMD_START | CMD_FIS_RECEIVE), 0);
}

static void disc_is_changed(void **state)
{
    static const uint8_t read[ATA_PACKET_SIZE] = {0x28, 0, 0, 0, 0, 0, 0, 0, 1};
    struct command c = {.port = 1, .command = ATA_CMD_PACKET, .packet = read};
    struct block_device *old;

    assert_int_equal(ahci_change_medium(ahci, 1, NULL, false, &old), 0);
    block_close(old);
    assert_true(run(&c) & ATA_STATUS_ERR);
    assert_int_equal(ahci_change_medium(ahci, 1, rig_medium(",readonly=on"), false, &old), 0);
    assert_null(old);
}

static void state_moves_to_another_controller(void **state)
{
    struct storage_rig other;
    struct command c = {.command = 0xec, .buffer = BUFFER, .length = 512, .pieces = 1};
    struct device *dev = ahci_device(ahci);

    run(&c);
    dev->ops->pause(dev);
    rig_init(&other);
    struct ahci *copy = new_controller(&other);
    rig_assert_same_state(dev, ahci_device(copy));
    ahci_device(copy)->ops->destroy(ahci_device(copy));
    rig_done(&other);
}

static void any_access_is_survived(void **state)
{
    uint32_t seed = 7;

    for (unsigned i = 0; i < 20000; i++) {
        uint32_t address = rig_random(&seed) % AHCI_BAR_SIZE;
        uint32_t value = rig_random(&seed);
        /* Half of them where it matters: port 0, with tables that lie in memory. */
        if (i & 1)
            address = at(0, rig_random(&seed) % 16 * 4);
        if (i % 3)
            value &= rig_random(&seed) & (RIG_MEMORY - 1);
        bus_write(&rig.bus, BUS_MMIO, RIG_BAR + address, 1u << rig_random(&seed) % 4, value);
        get(address & ~3u);
        uint32_t noise = rig_random(&seed);
        rig_write(&rig, rig_random(&seed) % (RIG_MEMORY - 4), &noise, sizeof(noise));
    }
    assert_int_equal(get(HBA_VS), VERSION_1_3_1);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(drives_show_their_signature),
        TEST(identify_comes_by_pio),
        TEST(sectors_are_written_and_read),
        TEST(queued_commands_run_together),
        TEST(interrupt_goes_when_it_is_acknowledged),
        TEST(cdrom_reads_by_packets),
        TEST(bad_tables_stop_the_port),
        TEST(commands_wait_for_bus_mastering),
        TEST(comreset_resets_the_drive),
        TEST(disc_is_changed),
        TEST(state_moves_to_another_controller),
        TEST(any_access_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
