/*
 * Fuzzes PCI configuration space: the input is a list of accesses through the ports, the ECAM
 * window and the BARs of a board with host bridge, LPC bridge and two virtio devices. What is read
 * only must stay, and the state must be restorable at any point.
 */
#include <stdlib.h>
#include <string.h>

#include "dev/pci/lpc.h"
#include "dev/pci/pci_host.h"
#include "dev/virtio/virtio_console.h"
#include "dev/virtio/virtio_rng.h"
#include "fuzz.h"

#define ECAM 0xb0000000ull
#define ACCESSES_MAX 512
#define DEVICES 4

struct access {
    uint8_t kind;     /* enum access_kind, and whether it writes */
    uint8_t function; /* which device, which BAR */
    uint16_t offset;
    uint32_t value;
};

enum access_kind { BY_PORTS, BY_ECAM, BY_BAR, RESET };
#define ACCESS_KINDS 4
#define ACCESS_WRITES 0x80
#define ACCESS_SIZE_SHIFT 4 /* log2 in two bits */

static const unsigned devfns[DEVICES] = {0, LPC_DEVFN, PCI_DEVFN(1, 0), PCI_DEVFN(2, 0)};

struct board {
    struct bus bus;
    struct memory mem;
    struct pci_host *host;
    struct lpc *lpc;
    struct device *device[DEVICES];
    uint32_t identity[DEVICES];
};

static void board_init(struct board *board)
{
    memset(board, 0, sizeof(*board));
    bus_init(&board->bus);
    memory_init(&board->mem, 0);
    const struct pci_host_config host = {
        .bus = &board->bus, .memory = &board->mem, .ecam_base = ECAM};
    must(!pci_host_new(&board->host, &host, NULL));
    struct pci_bus *pci = pci_host_bus(board->host);
    const struct lpc_config lpc = {.initial_pm_base = 0x600};
    must(!lpc_new(&board->lpc, pci, &lpc, NULL));
    const struct virtio_pci_config rng = {.name = "rng", .bus = pci, .devfn = devfns[2]};
    const struct virtio_pci_config console = {.name = "console", .bus = pci, .devfn = devfns[3]};
    board->device[0] = pci_host_device(board->host);
    board->device[1] = lpc_device(board->lpc);
    must(!virtio_rng_new(&board->device[2], &rng, NULL));
    must(!virtio_console_new(&board->device[3], &console, NULL, NULL));
    for (unsigned i = 0; i < DEVICES; i++)
        board->identity[i] = pci_config_read(pci, devfns[i], 0, 4);
}

static void board_done(struct board *board)
{
    for (unsigned i = DEVICES; i-- > 0;)
        board->device[i]->ops->destroy(board->device[i]);
    memory_done(&board->mem);
    bus_done(&board->bus);
}

static void run_access(struct board *board, const struct access *access)
{
    unsigned device = access->function % DEVICES;
    unsigned size = 1u << (access->kind >> ACCESS_SIZE_SHIFT & 3);
    bool write = access->kind & ACCESS_WRITES;
    enum bus_space space = BUS_MMIO;
    uint64_t address = 0;
    uint64_t value;

    switch ((enum access_kind)(access->kind % ACCESS_KINDS)) {
    case BY_PORTS:
        bus_write(&board->bus, BUS_PORT, 0xcf8, 4,
                  0x80000000u | devfns[device] << 8 | (access->offset & 0xff));
        space = BUS_PORT;
        address = 0xcf8 + access->offset % 8u;
        break;
    case BY_ECAM:
        address = ECAM + (devfns[device] << 12) + access->offset % 4096u;
        break;
    case BY_BAR: {
        const struct pci_bar *bar =
            &pci_host_bus(board->host)->function[devfns[device]]->bar[access->function / 4 % 6];
        if (!bar->region.added)
            return;
        space = bar->kind == PCI_BAR_IO ? BUS_PORT : BUS_MMIO;
        address = bar->region.base + access->offset % bar->size;
        break;
    }
    case RESET:
        board->device[device]->ops->reset(board->device[device]);
        return;
    }
    if (write)
        bus_write(&board->bus, space, address, size, access->value);
    else
        bus_read(&board->bus, space, address, size, &value);
}

/* The list of capabilities ends, and nobody changed who the devices are. */
static void check_read_only(struct board *board)
{
    struct pci_bus *pci = pci_host_bus(board->host);

    for (unsigned i = 0; i < DEVICES; i++) {
        unsigned count = 0;
        must(pci_config_read(pci, devfns[i], 0, 4) == board->identity[i]);
        for (unsigned at = pci_config_read(pci, devfns[i], PCI_CAPABILITY_POINTER, 1); at;
             at = pci_config_read(pci, devfns[i], at + 1, 1))
            must(++count < 16 && at >= PCI_FIRST_CAPABILITY);
        must(count == 0 || i >= 2);
    }
}

static void check_state(struct board *board)
{
    struct state_buffer saved = {0}, again = {0};

    for (unsigned i = 0; i < DEVICES; i++) {
        const struct device *dev = board->device[i];
        must(!state_save(&saved, dev->ops->state, dev->state_object));
    }
    for (unsigned i = 0; i < DEVICES; i++) {
        const struct device *dev = board->device[i];
        must(!state_load(&saved, dev->ops->state, dev->state_object, NULL));
    }
    for (unsigned i = 0; i < DEVICES; i++) {
        const struct device *dev = board->device[i];
        must(!state_save(&again, dev->ops->state, dev->state_object));
    }
    must(again.length == saved.length && !memcmp(again.data, saved.data, saved.length));
    state_buffer_done(&saved);
    state_buffer_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct board board;
    struct access access;

    board_init(&board);
    for (unsigned i = 0; size >= sizeof(access) && i < ACCESSES_MAX; i++) {
        memcpy(&access, data, sizeof(access));
        data += sizeof(access);
        size -= sizeof(access);
        run_access(&board, &access);
    }
    check_read_only(&board);
    check_state(&board);
    board_done(&board);
    return 0;
}
