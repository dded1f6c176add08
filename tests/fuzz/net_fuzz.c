/*
 * Fuzzes the network cards: the input is a list of register accesses, writes to guest memory (where
 * rings and descriptors are) and frames from outside, for an 82574L and a virtio-net whose queues
 * are set up. Everything lies in 64 KiB, so that random addresses hit. After each input the cards
 * must still come to rest, be saved, and take back what was saved.
 */
#include <stdlib.h>
#include <string.h>

#include "dev/net/e1000e.h"
#include "dev/net/e1000e_regs.h"
#include "dev/pci/pci_host.h"
#include "dev/virtio/virtio_net.h"
#include "fuzz.h"

#define RAM (64 * KIB)
#define ECAM 0xb0000000ull
#define STEPS_MAX 256
#define QUEUES 3
#define QUEUE_SIZE 8
#define RING(queue, part) (0x1000 * (queue) + 0x400 * (part))
#define DATA 0x4000

struct step {
    uint8_t kind;
    uint8_t extra;
    uint16_t offset;
    uint32_t value;
};

enum step_kind { INTEL_WRITE, INTEL_READ, MEMORY, DESCRIPTOR, VIRTIO_WRITE, NOTIFY, FRAME, REST };
#define STEP_KINDS 8

static struct {
    struct bus bus;
    struct memory mem;
    struct pci_host *host;
    struct clock *clock;
    struct net_backend intel_net, virtio_net;
    struct device *intel, *virtio;
    gpa_t intel_base, virtio_base;
} board;

/* A backend that looks at every byte and answers nothing. */

static volatile uint8_t sink;

static int net_start(struct net_backend *backend, struct error *err)
{
    return 0;
}

static unsigned net_swallow(struct net_backend *backend, const struct net_frame *frames,
                            unsigned count)
{
    size_t length = 0;

    for (unsigned i = 0; i < frames->iov_count; length += frames->iov[i++].iov_len)
        for (size_t at = 0; at < frames->iov[i].iov_len; at++)
            sink ^= ((const uint8_t *)frames->iov[i].iov_base)[at];
    must(length == frames->length && length <= NET_FRAME_MAX);
    return 1;
}

static void net_ready(struct net_backend *backend)
{
}

static const struct net_backend_ops net_ops = {net_start, net_swallow, net_ready, net_ready};

/* The board. */

static uint32_t bar(unsigned slot, unsigned index)
{
    return pci_config_read(pci_host_bus(board.host), PCI_DEVFN(slot, 0), PCI_BAR0 + 4 * index, 4) &
           ~0xfu;
}

static void write32(gpa_t at, uint32_t value)
{
    bus_write(&board.bus, BUS_MMIO, at, 4, value);
}

static void virtio_write(unsigned offset, unsigned size, uint32_t value)
{
    bus_write(&board.bus, BUS_MMIO, board.virtio_base + offset, size, value);
}

static void init(void)
{
    bus_init(&board.bus);
    memory_init(&board.mem, 0);
    must(!memory_add(&board.mem, 0, RAM, 0, "ram", NULL) && !clock_new_manual(&board.clock));
    const struct pci_host_config host = {
        .bus = &board.bus, .memory = &board.mem, .ecam_base = ECAM};
    must(!pci_host_new(&board.host, &host, NULL));
    struct pci_bus *pci = pci_host_bus(board.host);
    const struct e1000e_config intel = {"intel", pci, PCI_DEVFN(1, 0), board.clock, {2}};
    const struct virtio_net_config virtio = {{"virtio", pci, PCI_DEVFN(2, 0)}, {2}};
    board.intel_net.ops = board.virtio_net.ops = &net_ops;
    must(!e1000e_new(&board.intel, &intel, &board.intel_net, NULL) &&
         !virtio_net_new(&board.virtio, &virtio, &board.virtio_net, NULL));
    must(!board.intel->ops->start(board.intel, NULL) &&
         !board.virtio->ops->start(board.virtio, NULL));
}

static void rest(void)
{
    board.intel->ops->pause(board.intel);
    board.virtio->ops->pause(board.virtio);
}

static void go_on(void)
{
    board.intel->ops->resume(board.intel);
    board.virtio->ops->resume(board.virtio);
}

/* Power-on state, then what a driver does until the cards work. */
static void set_up(void)
{
    static const struct pci_windows windows = {.memory32_base = 0xe0000000,
                                               .memory32_size = 0x1000000,
                                               .io_base = 0xc000,
                                               .io_size = 0x1000};
    struct pci_bus *pci = pci_host_bus(board.host);

    rest();
    board.intel->ops->reset(board.intel);
    board.virtio->ops->reset(board.virtio);
    go_on();
    memset(memory_host(&board.mem, 0, RAM, true), 0, RAM);
    must(!pci_assign_resources(pci, &windows, NULL));
    for (unsigned slot = 1; slot <= 2; slot++)
        pci_config_write(pci, PCI_DEVFN(slot, 0), PCI_COMMAND, 2,
                         PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    board.intel_base = bar(1, 0);
    board.virtio_base = bar(2, 0);

    write32(board.intel_base + RDBAL, DATA);
    write32(board.intel_base + RDLEN, 0x80);
    write32(board.intel_base + RDT, 7);
    write32(board.intel_base + TDBAL, DATA + 0x80);
    write32(board.intel_base + TDLEN, 0x80);
    write32(board.intel_base + RCTL, RCTL_EN | RCTL_UPE | RCTL_MPE);
    write32(board.intel_base + TCTL, TCTL_EN);

    virtio_write(0x14, 1, 3);
    virtio_write(0x08, 4, 0);
    virtio_write(0x0c, 4, 0x008f9823); /* all that is offered but GUEST_ANNOUNCE */
    virtio_write(0x08, 4, 1);
    virtio_write(0x0c, 4, 1);
    virtio_write(0x14, 1, 11);
    for (unsigned queue = 0; queue < QUEUES; queue++) {
        virtio_write(0x16, 2, queue);
        virtio_write(0x18, 2, QUEUE_SIZE);
        virtio_write(0x20, 4, RING(queue, 0));
        virtio_write(0x28, 4, RING(queue, 1));
        virtio_write(0x30, 4, RING(queue, 2));
        virtio_write(0x1c, 2, 1);
    }
    virtio_write(0x14, 1, 15);
}

static void deliver(size_t length)
{
    static uint8_t frame[NET_FRAME_MAX];
    struct iovec iov = {frame, length};
    const struct net_frame frames = {&iov, 1, length, {.flags = NET_OFFLOAD_DATA_VALID}};

    must(board.intel_net.card->receive(board.intel_net.card_opaque, &frames, 1) <= 1);
    must(board.virtio_net.card->receive(board.virtio_net.card_opaque, &frames, 1) <= 1);
}

static void put(gpa_t at, const void *from, size_t length)
{
    /* Outside of guest memory nothing is written. */
    int ret = memory_write(&board.mem, at, from, length);
    (void)ret;
}

static void run(const struct step *step)
{
    uint64_t value;

    switch ((enum step_kind)(step->kind % STEP_KINDS)) {
    case INTEL_WRITE:
        write32(board.intel_base + (step->offset & ~3u), step->value);
        break;
    case INTEL_READ:
        bus_read(&board.bus, BUS_MMIO, board.intel_base + step->offset, 1u << step->extra % 4,
                 &value);
        break;
    case MEMORY:
        put(step->offset, &step->value, 4);
        break;
    case DESCRIPTOR: {
        /* A virtio descriptor of the queue, and one more entry available. */
        unsigned queue = step->extra % QUEUES, index = step->offset % QUEUE_SIZE;
        uint8_t desc[16] = {0};
        uint16_t available[2] = {0};
        pci_set16(desc, 0, (uint16_t)(step->value >> 16));
        pci_set16(desc, 8, (uint16_t)step->value);
        desc[12] = step->extra >> 2;
        desc[14] = (uint8_t)(step->offset >> 8) % QUEUE_SIZE;
        put(RING(queue, 0) + 16 * index, desc, sizeof(desc));
        int ret = memory_read(&board.mem, RING(queue, 1), available, sizeof(available));
        must(!ret);
        uint16_t head = (uint16_t)index;
        put(RING(queue, 1) + 4 + 2 * (available[1] % QUEUE_SIZE), &head, 2);
        available[1]++;
        put(RING(queue, 1), available, sizeof(available));
        break;
    }
    case VIRTIO_WRITE:
        virtio_write(step->offset & 0x3fff, 1u << step->extra % 3, step->value);
        break;
    case NOTIFY:
        virtio_write(VIRTIO_PCI_NOTIFY + VIRTIO_PCI_NOTIFY_STRIDE * (step->extra % QUEUES), 2, 0);
        break;
    case FRAME:
        deliver(1 + step->value % 20000);
        break;
    case REST:
        rest();
        clock_advance(board.clock, step->value % 1000000);
        go_on();
        break;
    }
}

static void check_state(struct device *dev)
{
    struct state_buffer saved = {0};

    must(!state_save(&saved, dev->ops->state, dev->state_object));
    must(!state_load(&saved, dev->ops->state, dev->state_object, NULL));
    state_buffer_done(&saved);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!board.host)
        init();
    set_up();
    for (unsigned i = 0; i < STEPS_MAX && size >= sizeof(struct step); i++) {
        struct step step;
        memcpy(&step, data, sizeof(step));
        data += sizeof(step);
        size -= sizeof(step);
        run(&step);
    }
    rest();
    check_state(board.intel);
    check_state(board.virtio);
    go_on();
    return 0;
}
