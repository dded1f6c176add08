/* The AHCI controller in front of a slow disk: pause, save and reset while commands are under
 * way. */
#include "held_medium.h"
#include "storage_rig.h"

#include "dev/storage/ahci_internal.h"

#define LIST 0x1000u
#define FRAMES 0x4000u
#define TABLE(slot) (0x8000u + (slot)*0x400u)
#define BUFFER 0x20000u

struct machine {
    struct storage_rig rig;
    struct held_medium medium;
    struct ahci *ahci;
};

static struct machine one, two;

static struct device *device(struct machine *m)
{
    return ahci_device(m->ahci);
}

static void build_with(struct machine *m, enum ata_kind kind)
{
    rig_init(&m->rig);
    struct ahci_config config = {"ahci", &m->rig.pci, AHCI_DEVFN};
    struct ata_drive_config drive = {
        .kind = kind, .medium = held_init(&m->medium, RIG_SECTORS), .sata = true};
    assert_int_equal(ahci_new(&m->ahci, &config, NULL), 0);
    assert_int_equal(ahci_add_drive(m->ahci, 0, &drive), 0);
    device(m)->ops->reset(device(m));
}

static void build(struct machine *m)
{
    build_with(m, ATA_DISK);
}

static void demolish(struct machine *m)
{
    device(m)->ops->pause(device(m));
    device(m)->ops->destroy(device(m));
    rig_done(&m->rig);
}

static void set(struct machine *m, unsigned offset, uint32_t value)
{
    bus_write(&m->rig.bus, BUS_MMIO, RIG_BAR + offset, 4, value);
}

static uint32_t get(struct machine *m, unsigned offset)
{
    uint64_t value;
    bus_read(&m->rig.bus, BUS_MMIO, RIG_BAR + offset, 4, &value);
    return (uint32_t)value;
}

static unsigned port_register(unsigned port, unsigned offset)
{
    return AHCI_PORT_BASE + port * AHCI_PORT_SIZE + offset;
}

/* Both ports have the same list. */
static void start_port(struct machine *m, unsigned port)
{
    pci_config_write(&m->rig.pci, AHCI_DEVFN, PCI_BAR0 + 4 * AHCI_BAR, 4, RIG_BAR);
    pci_config_write(&m->rig.pci, AHCI_DEVFN, PCI_COMMAND, 2,
                     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    set(m, port_register(port, PORT_CLB), LIST);
    set(m, port_register(port, PORT_FB), FRAMES);
    set(m, port_register(port, PORT_CMD), CMD_FIS_RECEIVE | CMD_START);
}

/* A command in a slot, with one piece of memory; not started. */
static void prepare(struct machine *m, unsigned slot, const uint8_t fis[FIS_SIZE], uint32_t length)
{
    const uint32_t header[8] = {5 | 1 << 16, 0, TABLE(slot)};
    const uint32_t prd[4] = {BUFFER + slot * CD_BLOCK, 0, 0, length - 1};

    rig_write(&m->rig, LIST + slot * HEADER_SIZE, header, sizeof(header));
    rig_write(&m->rig, TABLE(slot), fis, FIS_SIZE);
    rig_write(&m->rig, TABLE(slot) + TABLE_PRDT, prd, sizeof(prd));
}

/* READ DMA EXT of one sector. */
static void prepare_read(struct machine *m, unsigned slot, uint32_t sector)
{
    const uint8_t fis[FIS_SIZE] = {FIS_H2D, FIS_H2D_COMMAND, 0x25,    0, (uint8_t)sector, 0,
                                   0,       ATA_DEVICE_LBA,  [12] = 1};

    prepare(m, slot, fis, ATA_SECTOR);
}

static void prepare_packet(struct machine *m, unsigned slot, const uint8_t packet[ATA_PACKET_SIZE])
{
    const uint8_t fis[FIS_SIZE] = {FIS_H2D, FIS_H2D_COMMAND, ATA_CMD_PACKET, 1 /* DMA */};

    prepare(m, slot, fis, CD_BLOCK);
    rig_write(&m->rig, TABLE(slot) + TABLE_ACMD, packet, ATA_PACKET_SIZE);
}

static unsigned waiting_for_quiet(struct machine *m, unsigned port)
{
    ahci_enter(m->ahci);
    unsigned held = m->ahci->port[port].queue.held;
    ahci_leave(m->ahci);
    return held;
}

/* Two commands run one after the other; the pause comes while the first is under way. */
static void pause_after_first(struct machine *m)
{
    set(m, port_register(0, PORT_CI), 1 << 1 | 1 << 2);
    assert_int_equal(held_count(&m->medium), 1);

    pthread_t thread = held_pause(device(m));
    RIG_WAIT(waiting_for_quiet(m, 0));
    held_release(&m->medium, 0);
    pthread_join(thread, NULL);
    assert_int_equal(held_count(&m->medium), 0); /* a paused device starts nothing */
    assert_int_equal(get(m, port_register(0, PORT_CI)), 1 << 2);
}

static void pause_between_commands(struct machine *m)
{
    build(m);
    start_port(m, 0);
    prepare_read(m, 1, 10);
    prepare_read(m, 2, 20);
    pause_after_first(m);
}

static void assert_second_read_runs(struct machine *m)
{
    assert_int_equal(held_count(&m->medium), 1);
    assert_int_equal(m->medium.copy.offset, 20 * ATA_SECTOR);
    held_release(&m->medium, 0);
    assert_int_equal(get(m, port_register(0, PORT_CI)), 0);
}

static void command_that_waited_goes_on_after_a_pause(void **state)
{
    pause_between_commands(&one);
    held_resume(device(&one));
    assert_second_read_runs(&one);
    demolish(&one);
}

static void command_that_waited_goes_on_after_a_restore(void **state)
{
    pause_between_commands(&one);
    build(&two);
    start_port(&two, 0);
    prepare_read(&two, 2, 20); /* guest memory moves too */
    rig_assert_same_state(device(&one), device(&two));
    held_start(device(&two));
    assert_second_read_runs(&two);
    demolish(&two);
    demolish(&one);
}

static void disc_is_changed_during_a_pause(void **state)
{
    static const uint8_t sense[ATA_PACKET_SIZE] = {0x03, [4] = 18};
    static const uint8_t read[ATA_PACKET_SIZE] = {0x28, [8] = 1};
    struct held_medium second;
    struct block_device *old;

    build_with(&one, ATA_CDROM);
    start_port(&one, 0);
    prepare_packet(&one, 0, sense); /* which takes the news of the reset */
    set(&one, port_register(0, PORT_CI), 1);
    prepare_packet(&one, 1, read);
    prepare_packet(&one, 2, read);
    pause_after_first(&one);
    assert_int_equal(ahci_change_medium(one.ahci, 0, held_init(&second, RIG_SECTORS), false, &old),
                     0);
    assert_int_equal(get(&one, port_register(0, PORT_CI)), 1 << 2);
    assert_false(get(&one, port_register(0, PORT_IS)) & IS_TASK_FILE_ERROR);
    held_resume(device(&one));
    assert_true(get(&one, port_register(0, PORT_IS)) & IS_TASK_FILE_ERROR); /* another disc */
    block_close(old);
    demolish(&one);
}

/* The host reads ahead, and a disk's heads move, best when requests come as the guest gave them. */
static void queued_commands_keep_their_order(void **state)
{
    build(&one);
    start_port(&one, 0);
    for (unsigned slot = 0; slot < 4; slot++) {
        const uint8_t fis[FIS_SIZE] = {FIS_H2D,
                                       FIS_H2D_COMMAND,
                                       0x60,
                                       1,
                                       (uint8_t)slot,
                                       [7] = ATA_DEVICE_LBA,
                                       [12] = (uint8_t)(slot << 3)};
        prepare_read(&one, slot, 0);
        rig_write(&one.rig, TABLE(slot), fis, sizeof(fis));
    }
    set(&one, port_register(0, PORT_SACT), 0xf);
    set(&one, port_register(0, PORT_CI), 0xf);
    /* In turn: slot 0 had its, and comes last. */
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(one.medium.first->offset, (i + 1) % 4 * ATA_SECTOR);
        held_release(&one.medium, 0);
    }
    assert_int_equal(get(&one, port_register(0, PORT_SACT)), 0);
    demolish(&one);
}

static _Atomic bool written;

static void *take_master_main(void *opaque)
{
    struct machine *m = opaque;

    pci_config_write(&m->rig.pci, AHCI_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    written = true;
    return NULL;
}

/* Who has taken bus mastering away may use the memory for something else at once. */
static void nothing_is_under_way_without_bus_mastering(void **state)
{
    pthread_t thread;

    build(&one);
    start_port(&one, 0);
    prepare_read(&one, 1, 10);
    set(&one, port_register(0, PORT_CI), 1 << 1);
    assert_int_equal(held_count(&one.medium), 1);
    assert_int_equal(pthread_create(&thread, NULL, take_master_main, &one), 0);
    RIG_WAIT(waiting_for_quiet(&one, 0) || written);
    bool waits = !written;
    held_release(&one.medium, 0);
    pthread_join(thread, NULL);
    demolish(&one);
    assert_true(waits);
}

static void *reset_main(void *opaque)
{
    set(opaque, HBA_GHC, GHC_RESET);
    return NULL;
}

/* One port is waited for; another processor gives the other one a command meanwhile. */
static void controller_reset_leaves_nothing_under_way(void **state)
{
    struct held_medium second;
    struct ata_drive_config disk = {
        .kind = ATA_DISK, .medium = held_init(&second, RIG_SECTORS), .sata = true};
    pthread_t thread;

    build(&one);
    assert_int_equal(ahci_add_drive(one.ahci, 1, &disk), 0);
    start_port(&one, 0);
    start_port(&one, 1);
    prepare_read(&one, 1, 10);
    set(&one, port_register(1, PORT_CI), 1 << 1);
    assert_int_equal(held_count(&second), 1);

    assert_int_equal(pthread_create(&thread, NULL, reset_main, &one), 0);
    RIG_WAIT(waiting_for_quiet(&one, 1));
    set(&one, port_register(0, PORT_CI), 1 << 1);
    assert_int_equal(held_count(&one.medium), 0);
    held_release(&second, 0);
    pthread_join(thread, NULL);
    assert_int_equal(held_count(&one.medium), 0);
    assert_int_equal(get(&one, port_register(0, PORT_CI)), 0);
    demolish(&one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(command_that_waited_goes_on_after_a_pause),
        cmocka_unit_test(command_that_waited_goes_on_after_a_restore),
        cmocka_unit_test(disc_is_changed_during_a_pause),
        cmocka_unit_test(queued_commands_keep_their_order),
        cmocka_unit_test(nothing_is_under_way_without_bus_mastering),
        cmocka_unit_test(controller_reset_leaves_nothing_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
