/*
 * Fuzzes the xHCI controller and its devices as a guest sees them: the input is a list of accesses
 * to registers, of writes to the memory where contexts and rings lie, of commands and transfers put
 * where the controller looks for them next, and of keys and movements, with pauses, resets and time
 * in between. Nothing may end the process, and what is saved afterwards can be restored.
 */
#include <stdlib.h>
#include <string.h>

#include "dev/usb/usb_input.h"
#include "dev/usb/xhci.h"
#include "dev/usb/xhci_regs.h"
#include "fuzz.h"

#define MEMORY (1 * MIB)
#define BAR 0x10000000u
#define DEVFN PCI_DEVFN(1, 0)
#define ACCESSES_MAX 512

/* Guest memory; rings of one page each, which nothing closes but the input. */
#define DCBAA 0x1000
#define COMMANDS 0x2000
#define ERST 0x3000
#define EVENTS 0x4000
#define EVENT_COUNT 64
#define INPUT 0x5000
#define CONTEXTS 0x6000
#define RINGS 0x10000
#define AREA_END 0x40000
#define SLOTS 2
#define DCIS 4

enum access_kind { WRITE, READ, PORT, MEMORY_WRITE, COMMAND, TRANSFER, TYPE, CONTROL };
#define ACCESS_KINDS 8

struct board {
    struct bus bus;
    struct memory memory;
    struct pci_bus pci;
    struct clock *clock;
    struct input *input;
    struct xhci *xhci;
    struct usb_device *tablet, *keyboard;
    unsigned command, transfer[SLOTS + 1][DCIS]; /* TRBs put there so far */
};

static void write_register(struct board *board, uint64_t offset, uint32_t value)
{
    bus_write(&board->bus, BUS_MMIO, BAR + offset, 4, value);
}

static void write_memory(struct board *board, gpa_t gpa, const void *from, size_t length)
{
    must(!memory_write(&board->memory, gpa, from, length));
}

static void write_quad(struct board *board, gpa_t gpa, uint64_t value)
{
    write_memory(board, gpa, &value, sizeof(value));
}

static void put_trb(struct board *board, gpa_t gpa, uint64_t parameter, uint32_t status,
                    uint32_t control)
{
    write_quad(board, gpa, parameter);
    write_quad(board, gpa + 8, status | (uint64_t)control << 32);
}

static gpa_t ring_of(unsigned slot, unsigned dci)
{
    return RINGS + 0x4000 * slot + 0x1000 * dci;
}

/* ---- what a driver does, so that an input need not find it out ---- */

static void command(struct board *board, unsigned type, uint64_t parameter, uint32_t control)
{
    put_trb(board, COMMANDS + board->command++ % 256 * TRB_SIZE, parameter, 0,
            type << TRB_TYPE_SHIFT | control | TRB_CYCLE);
    write_register(board, XHCI_DOORBELLS, 0);
}

static void add_context(struct board *board, unsigned slot, unsigned dci, unsigned type)
{
    gpa_t context = INPUT + CONTEXT_SIZE * (dci + 1);

    write_quad(board, context, (uint64_t)type << ENDPOINT_TYPE_SHIFT << 32);
    write_quad(board, context + 8, ring_of(slot, dci) | ENDPOINT_CYCLE);
}

static void transfer(struct board *board, unsigned slot, unsigned dci, uint64_t parameter,
                     uint32_t status, uint32_t control)
{
    unsigned at = board->transfer[slot][dci]++ % 256;

    put_trb(board, ring_of(slot, dci) + at * TRB_SIZE, parameter, status, control | TRB_CYCLE);
}

static void set_up_device(struct board *board, unsigned slot)
{
    write_register(board, XHCI_PORTS_BASE + XHCI_PORT_SIZE * (slot - 1),
                   PORTSC_POWER | PORTSC_RESET | PORTSC_CHANGES);
    command(board, TRB_ENABLE_SLOT, 0, 0);
    write_quad(board, DCBAA + 8 * slot, CONTEXTS + DEVICE_CONTEXT_SIZE * slot);
    write_quad(board, INPUT, 3ull << 32);
    write_quad(board, INPUT + CONTEXT_SIZE, (uint64_t)slot << SLOT_PORT_SHIFT << 32);
    add_context(board, slot, 1, ENDPOINT_CONTROL);
    command(board, TRB_ADDRESS_DEVICE, INPUT, slot << TRB_SLOT_SHIFT);
    write_quad(board, INPUT, 9ull << 32);
    add_context(board, slot, 3, 7);
    command(board, TRB_CONFIGURE_ENDPOINT, INPUT, slot << TRB_SLOT_SHIFT);
    transfer(board, slot, 1, (uint64_t)USB_SET_CONFIGURATION << 8 | 1 << 16, 8,
             TRB_SETUP << TRB_TYPE_SHIFT | TRB_IMMEDIATE);
    transfer(board, slot, 1, 0, 0, TRB_STATUS << TRB_TYPE_SHIFT | TRB_IN);
    write_register(board, XHCI_DOORBELLS + 4 * slot, 1);
    write_register(board, XHCI_DOORBELLS + 4 * slot, 3);
}

static void set_up(struct board *board)
{
    pci_config_write(&board->pci, DEVFN, PCI_BAR0, 4, BAR);
    pci_config_write(&board->pci, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    memset(memory_host(&board->memory, 0, AREA_END, true), 0, AREA_END);
    memset(board->transfer, 0, sizeof(board->transfer));
    board->command = 0;
    write_quad(board, ERST, EVENTS);
    write_quad(board, ERST + 8, EVENT_COUNT);
    write_register(board, XHCI_OPERATIONAL + CONFIG, SLOTS);
    write_register(board, XHCI_OPERATIONAL + DCBAAP, DCBAA);
    write_register(board, XHCI_OPERATIONAL + CRCR, COMMANDS | CRCR_CYCLE);
    write_register(board, XHCI_INTERRUPTERS_BASE + ERSTSZ, 1);
    write_register(board, XHCI_INTERRUPTERS_BASE + ERDP, EVENTS);
    write_register(board, XHCI_INTERRUPTERS_BASE + ERSTBA, ERST);
    write_register(board, XHCI_INTERRUPTERS_BASE + IMAN, IMAN_ENABLE);
    write_register(board, XHCI_OPERATIONAL + USBCMD, USBCMD_RUN | USBCMD_INTERRUPTS);
    for (unsigned slot = 1; slot <= SLOTS; slot++)
        set_up_device(board, slot);
    must(board->tablet->configuration && board->keyboard->configuration);
}

/* ---- the board ---- */

static void nowhere(void *opaque, const struct msi_message *message)
{
}

static void board_init(struct board *board)
{
    const struct msi_sink msi = {.send = nowhere};

    memset(board, 0, sizeof(*board));
    bus_init(&board->bus);
    memory_init(&board->memory, 0);
    must(!memory_add(&board->memory, 0, MEMORY, 0, "ram", NULL));
    pci_bus_init(&board->pci, &board->bus, &board->memory, &msi);
    must(!clock_new_manual(&board->clock));
    board->input = input_new();
    must(board->input);
    const struct xhci_config config = {"usb", &board->pci, DEVFN, board->clock};
    must(!xhci_new(&board->xhci, &config, NULL));
    must(!usb_tablet_new(&board->tablet, "tablet", board->input));
    must(!usb_keyboard_new(&board->keyboard, "keyboard", board->input, board->clock));
    must(!xhci_plug(board->xhci, board->tablet, NULL));
    must(!xhci_plug(board->xhci, board->keyboard, NULL));
    must(!xhci_device(board->xhci)->ops->start(xhci_device(board->xhci), NULL));
    set_up(board);
}

static void board_done(struct board *board)
{
    struct device *dev = xhci_device(board->xhci);

    dev->ops->pause(dev);
    board->tablet->dev.ops->destroy(&board->tablet->dev);
    board->keyboard->dev.ops->destroy(&board->keyboard->dev);
    dev->ops->destroy(dev);
    input_free(board->input);
    clock_free(board->clock);
    pci_bus_done(&board->pci);
    bus_done(&board->bus);
    memory_done(&board->memory);
}

/* What a device saves it takes back, and saves again to the same bytes. */
static void save_and_restore(struct device *dev)
{
    struct state_buffer first = {0}, second = {0};
    struct error err;

    must(!state_save(&first, dev->ops->state, dev->state_object));
    must(!state_load(&first, dev->ops->state, dev->state_object, &err));
    must(!state_save(&second, dev->ops->state, dev->state_object));
    must(first.length == second.length && !memcmp(first.data, second.data, first.length));
    state_buffer_done(&first);
    state_buffer_done(&second);
}

static void control(struct board *board, const struct guest_access *access)
{
    struct device *dev = xhci_device(board->xhci);

    switch (access->where % 4) {
    case 0:
        dev->ops->pause(dev);
        save_and_restore(dev);
        save_and_restore(&board->tablet->dev);
        save_and_restore(&board->keyboard->dev);
        dev->ops->resume(dev);
        break;
    case 1:
        dev->ops->pause(dev);
        dev->ops->reset(dev);
        dev->ops->resume(dev);
        set_up(board);
        break;
    case 2:
        clock_advance(board->clock, access->value);
        break;
    case 3: /* events were taken */
        write_register(board, XHCI_INTERRUPTERS_BASE + ERDP,
                       (EVENTS + access->more % EVENT_COUNT * TRB_SIZE) | ERDP_BUSY);
        break;
    }
}

/* ---- one input ---- */

static void type(struct board *board, const struct guest_access *access)
{
    if (access->where & 1)
        input_key(board->input, access->more & 0x1ff, access->where & 2);
    else
        input_place(board->input, access->more, access->value, (int8_t)(access->value >> 24),
                    access->where >> 1);
}

static void perform(struct board *board, const struct guest_access *access)
{
    unsigned size = ACCESS_SIZE(access);
    unsigned slot = 1 + access->where % SLOTS, dci = access->where / SLOTS % DCIS;
    uint64_t value = access->value;

    switch (access->kind % ACCESS_KINDS) {
    case WRITE:
        bus_write(&board->bus, BUS_MMIO, BAR + access->more % XHCI_BAR_SIZE, size, value);
        break;
    case READ:
        bus_read(&board->bus, BUS_MMIO, BAR + access->more % XHCI_BAR_SIZE, size, &value);
        break;
    case PORT:
        write_register(board, XHCI_PORTS_BASE + access->where % 3 * XHCI_PORT_SIZE, access->value);
        break;
    case MEMORY_WRITE:
        write_memory(board, (access->where << 16 | access->more) % (AREA_END - 4) & ~3ull,
                     &access->value, sizeof(access->value));
        break;
    case COMMAND:
        command(board, access->where & TRB_TYPE_MASK, access->more << 4,
                access->value & ~(TRB_TYPE_MASK << TRB_TYPE_SHIFT));
        break;
    case TRANSFER: /* of a buffer, or a setup packet */
        transfer(board, slot, dci,
                 access->value & TRB_IMMEDIATE
                     ? access->more | value << 16 | (uint64_t)access->where << 48
                     : access->more,
                 access->value & TRB_IMMEDIATE ? 8 : access->more & 0x1ff, access->value);
        if (!(access->value & TRB_CHAIN))
            write_register(board, XHCI_DOORBELLS + 4 * slot, dci);
        break;
    case TYPE:
        type(board, access);
        break;
    case CONTROL:
        control(board, access);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct board board;
    struct guest_access access;

    board_init(&board);
    for (unsigned i = 0; i < ACCESSES_MAX && size >= sizeof(access); i++) {
        memcpy(&access, data, sizeof(access));
        data += sizeof(access);
        size -= sizeof(access);
        perform(&board, &access);
    }
    const struct guest_access last = {.kind = CONTROL};
    perform(&board, &last);
    board_done(&board);
    return 0;
}
