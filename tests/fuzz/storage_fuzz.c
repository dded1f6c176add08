/*
 * Fuzzes the disk controllers as a guest sees them: the input is a list of accesses to the
 * registers of AHCI and IDE and of writes to the memory where their tables lie, with pauses, resets
 * and changes of the disc in between. Nothing may end the process, and what is saved afterwards can
 * be restored.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev/storage/ahci.h"
#include "dev/storage/ahci_regs.h"
#include "dev/storage/ide.h"
#include "fuzz.h"

#define MEMORY (1 * MIB)
#define ABAR 0x10000000u
#define MASTER 0xc000u
#define MASTER_BAR 4
#define ACCESSES_MAX 512
#define DISK_SIZE (256 * KIB)

enum access_kind { AHCI_WRITE, AHCI_READ, IDE_WRITE, IDE_READ, MASTER_WRITE, TABLE, PAUSE, CHANGE };
#define ACCESS_KINDS 8

/* ---- a medium in memory ---- */

static uint8_t contents[DISK_SIZE];

static void medium_submit(struct block_device *disk, struct block_request *batch)
{
    while (batch) {
        struct block_request *request = batch;
        uint8_t *at = contents + request->offset;
        batch = request->next;
        for (unsigned i = 0; i < request->iov_count; i++) {
            struct iovec *iov = &request->iov[i];
            if (request->op == BLOCK_READ)
                memcpy(iov->iov_base, at, iov->iov_len);
            else if (request->op == BLOCK_WRITE)
                memcpy(at, iov->iov_base, iov->iov_len);
            at += iov->iov_len;
        }
        request->done(request, 0);
    }
}

static void medium_close(struct block_device *disk)
{
    free(disk);
}

static const struct block_ops medium_ops = {
    .format = "fuzz", .submit = medium_submit, .close = medium_close};

static struct block_device *new_medium(bool read_only)
{
    struct block_device *disk = calloc(1, sizeof(*disk));

    must(disk);
    disk->ops = &medium_ops;
    disk->size = DISK_SIZE;
    disk->read_only = read_only;
    disk->can_discard = !read_only;
    return disk;
}

/* ---- the board ---- */

struct board {
    struct bus bus;
    struct memory memory;
    struct pci_bus pci;
    struct ahci *ahci;
    struct ide *ide;
};

static void reset(struct board *board)
{
    struct device *devices[] = {ahci_device(board->ahci), ide_device(board->ide)};

    for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
        devices[i]->ops->pause(devices[i]);
        devices[i]->ops->reset(devices[i]);
        devices[i]->ops->resume(devices[i]);
    }
    pci_config_write(&board->pci, AHCI_DEVFN, PCI_BAR0 + 4 * AHCI_BAR, 4, ABAR);
    pci_config_write(&board->pci, IDE_DEVFN, PCI_BAR0 + 4 * MASTER_BAR, 4, MASTER);
    uint32_t command = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    pci_config_write(&board->pci, AHCI_DEVFN, PCI_COMMAND, 2, command);
    pci_config_write(&board->pci, IDE_DEVFN, PCI_COMMAND, 2, command);
}

static void board_init(struct board *board)
{
    const struct msi_sink nowhere = {0};
    const struct ahci_config ahci = {"ahci", &board->pci, AHCI_DEVFN};
    const struct ide_config ide = {.name = "ide", .bus = &board->pci, .devfn = IDE_DEVFN};

    memset(board, 0, sizeof(*board));
    bus_init(&board->bus);
    memory_init(&board->memory, 0);
    must(!memory_add(&board->memory, 0, MEMORY, 0, "ram", NULL));
    pci_bus_init(&board->pci, &board->bus, &board->memory, &nowhere);
    must(!ahci_new(&board->ahci, &ahci, NULL));
    must(!ide_new(&board->ide, &ide, NULL));
    for (unsigned i = 0; i < 2; i++) {
        struct ata_drive_config drive = {.kind = i ? ATA_CDROM : ATA_DISK, .index = i};
        drive.medium = new_medium(i);
        ide_add_drive(board->ide, i, &drive);
        drive.medium = new_medium(i);
        drive.sata = true;
        must(!ahci_add_drive(board->ahci, i, &drive));
    }
    reset(board);
}

static void board_done(struct board *board)
{
    struct device *devices[] = {ahci_device(board->ahci), ide_device(board->ide)};

    for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
        devices[i]->ops->pause(devices[i]);
        devices[i]->ops->destroy(devices[i]);
    }
    pci_bus_done(&board->pci);
    bus_done(&board->bus);
    memory_done(&board->memory);
}

/* What a controller saves it takes back, and saves again to the same bytes. */
static void save_and_restore(struct device *dev)
{
    struct state_buffer first = {0}, second = {0};
    struct error err;

    dev->ops->pause(dev);
    must(!state_save(&first, dev->ops->state, dev->state_object));
    must(!state_load(&first, dev->ops->state, dev->state_object, &err));
    must(!state_save(&second, dev->ops->state, dev->state_object));
    must(first.length == second.length && !memcmp(first.data, second.data, first.length));
    dev->ops->resume(dev);
    state_buffer_done(&first);
    state_buffer_done(&second);
}

static void change_disc(struct board *board, uint8_t how)
{
    struct block_device *medium = how & 1 ? new_medium(true) : NULL, *old = NULL;
    int ret = how & 2 ? ahci_change_medium(board->ahci, 1, medium, how & 4, &old)
                      : ide_change_medium(board->ide, 1, medium, how & 4, &old);

    if (ret)
        old = medium;
    if (old)
        block_close(old);
}

/* Where accesses do something: the host's registers and the ports that have drives. */
static uint64_t ahci_address(const struct guest_access *access)
{
    return ABAR + (access->where & 0x80 ? access->where % 16 * 4
                                        : AHCI_PORT_BASE + (access->where & 0x7f) % 80 * 4);
}

static void perform(struct board *board, const struct guest_access *access)
{
    static const uint16_t ports[] = {0x1f0, 0x1f1, 0x1f2, 0x1f3, 0x1f4, 0x1f5, 0x1f6, 0x1f7, 0x3f6};
    unsigned size = ACCESS_SIZE(access);
    uint16_t port = ports[access->where % ARRAY_SIZE(ports)];
    uint64_t value = access->value;

    switch (access->kind % ACCESS_KINDS) {
    case AHCI_WRITE:
        bus_write(&board->bus, BUS_MMIO, ahci_address(access), size, value);
        break;
    case AHCI_READ:
        bus_read(&board->bus, BUS_MMIO, ahci_address(access), size, &value);
        break;
    case IDE_WRITE:
        for (unsigned i = 0; i <= access->more % 1024; i++) /* as REP OUTS does */
            bus_write(&board->bus, BUS_PORT, port, size < 4 ? size : 4, value);
        break;
    case IDE_READ:
        for (unsigned i = 0; i <= access->more % 1024; i++)
            bus_read(&board->bus, BUS_PORT, port, size < 4 ? size : 4, &value);
        break;
    case MASTER_WRITE:
        bus_write(&board->bus, BUS_PORT, MASTER + access->where % 16, size < 4 ? size : 4, value);
        break;
    case TABLE:
        /* Near the start, where pointers of few bits lead to. */
        must(!memory_write(&board->memory, access->more, &access->value, sizeof(access->value)));
        break;
    case PAUSE:
        if (access->where == 0)
            reset(board);
        else
            save_and_restore(access->where & 1 ? ahci_device(board->ahci) : ide_device(board->ide));
        break;
    case CHANGE:
        change_disc(board, access->where);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct board board;

    board_init(&board);
    for (unsigned i = 0; i < ACCESSES_MAX && size >= sizeof(struct guest_access); i++) {
        struct guest_access access;
        memcpy(&access, data, sizeof(access));
        data += sizeof(access);
        size -= sizeof(access);
        perform(&board, &access);
    }
    save_and_restore(ahci_device(board.ahci));
    save_and_restore(ide_device(board.ide));
    board_done(&board);
    return 0;
}
