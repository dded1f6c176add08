/* The IDE controller in front of a slow disk: pause and save while its bus master is under way. */
#include "held_medium.h"
#include "storage_rig.h"

#include <errno.h>

#include "dev/storage/ide_internal.h"

#define COUNT 0x1f2
#define LBA_LOW 0x1f3
#define DEVICE 0x1f6
#define COMMAND 0x1f7
#define CONTROL 0x3f6
#define MASTER 0xc000
#define MASTER_BAR 4
#define TABLE 0x2000u
#define BUFFER 0x20000u
#define SECTORS 200
#define TABLE_ENTRIES 8192 /* 64 KiB of them */
#define PIECE 256u         /* bytes; a round moves DMA_LIST_MAX of them */

struct machine {
    struct storage_rig rig;
    struct held_medium medium;
    struct ide *ide;
};

static struct machine one, two;

static struct device *device(struct machine *m)
{
    return ide_device(m->ide);
}

/* With the table in memory that a read of SECTORS uses. */
static void build(struct machine *m)
{
    rig_init(&m->rig);
    struct ide_config config = {
        "ide", &m->rig.pci, IDE_DEVFN, {{rig_line, &m->rig, 14}, {rig_line, &m->rig, 15}}};
    struct ata_drive_config disk = {.kind = ATA_DISK, .medium = held_init(&m->medium, RIG_SECTORS)};
    assert_int_equal(ide_new(&m->ide, &config, NULL), 0);
    ide_add_drive(m->ide, 0, &disk);
    device(m)->ops->reset(device(m));
    for (uint32_t i = 0; i < SECTORS * ATA_SECTOR / PIECE; i++) {
        bool last = i + 1 == SECTORS * ATA_SECTOR / PIECE;
        uint32_t prd[2] = {BUFFER + i * 2 * PIECE, PIECE | (last ? 0x80000000u : 0)};
        rig_write(&m->rig, TABLE + i * 8, prd, sizeof(prd));
    }
}

static void demolish(struct machine *m)
{
    device(m)->ops->pause(device(m));
    device(m)->ops->destroy(device(m));
    rig_done(&m->rig);
}

static void out(struct machine *m, unsigned port, unsigned size, uint32_t value)
{
    bus_write(&m->rig.bus, BUS_PORT, port, size, value);
}

static uint8_t in(struct machine *m, unsigned port)
{
    uint64_t value;
    bus_read(&m->rig.bus, BUS_PORT, port, 1, &value);
    return (uint8_t)value;
}

static unsigned waiting_for_quiet(struct machine *m)
{
    ide_enter(m->ide);
    unsigned held = m->ide->channel[0].queue.held;
    ide_leave(m->ide);
    return held;
}

/* A read that needs two rounds; the pause comes in the first. */
static void pause_between_rounds(struct machine *m)
{
    build(m);
    pci_config_write(&m->rig.pci, IDE_DEVFN, PCI_BAR0 + 4 * MASTER_BAR, 4, MASTER);
    pci_config_write(&m->rig.pci, IDE_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    out(m, MASTER + 4, 4, TABLE);
    out(m, DEVICE, 1, ATA_DEVICE_LBA);
    out(m, COUNT, 1, SECTORS);
    out(m, LBA_LOW, 1, 0); /* the signature has left a 1 there */
    out(m, COMMAND, 1, 0xc8);
    out(m, MASTER, 1, 9);
    assert_int_equal(held_count(&m->medium), 1);
    assert_int_equal(m->medium.copy.length, DMA_LIST_MAX * PIECE);

    pthread_t thread = held_pause(device(m));
    RIG_WAIT(waiting_for_quiet(m));
    held_release(&m->medium, 0);
    pthread_join(thread, NULL);
    assert_int_equal(held_count(&m->medium), 0);
}

static void assert_second_round_runs(struct machine *m)
{
    assert_int_equal(held_count(&m->medium), 1);
    assert_int_equal(m->medium.copy.offset, DMA_LIST_MAX * PIECE);
    assert_int_equal(m->medium.copy.length, SECTORS * ATA_SECTOR - DMA_LIST_MAX * PIECE);
    void *expected = memory_host(&m->rig.memory, BUFFER + DMA_LIST_MAX * 2 * PIECE, PIECE, false);
    assert_ptr_equal(m->medium.memory, expected);
    held_release(&m->medium, 0);
    assert_int_equal(in(m, CONTROL), ATA_STATUS_DRDY | ATA_STATUS_DSC);
    assert_int_equal(in(m, MASTER + 2) & 7, 4);
}

static void transfer_goes_on_after_a_pause(void **state)
{
    pause_between_rounds(&one);
    held_resume(device(&one));
    assert_second_round_runs(&one);
    demolish(&one);
}

static void transfer_goes_on_after_a_restore(void **state)
{
    pause_between_rounds(&one);
    build(&two); /* guest memory moves too */
    rig_assert_same_state(device(&one), device(&two));
    held_start(device(&two));
    assert_second_round_runs(&two);
    demolish(&two);
    demolish(&one);
}

/* From an odd place, pieces of a byte make rounds that never hold a sector, and never end. */
static void place_that_no_table_leads_to_is_refused(void **state)
{
    static const struct dma_cursor places[] = {{3, 1}, {TABLE_ENTRIES + 1, 0}};
    struct state_buffer saved;
    struct error err;

    pause_between_rounds(&one);
    build(&two);
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        one.ide->channel[0].cursor = places[i];
        rig_save(device(&one), &saved);
        assert_int_equal(state_load(&saved, device(&two)->ops->state, two.ide, &err), -EBADMSG);
        state_buffer_done(&saved);
    }
    demolish(&two);
    demolish(&one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transfer_goes_on_after_a_pause),
        cmocka_unit_test(transfer_goes_on_after_a_restore),
        cmocka_unit_test(place_that_no_table_leads_to_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
