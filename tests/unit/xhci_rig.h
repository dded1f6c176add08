/*
 * The driver's side of an xHCI controller (specification 1.2), for tests: the controller on a PCI
 * bus with guest memory, one command ring, an event ring, and the rings of a device's endpoints,
 * where a test can also write what no driver should.
 */
#ifndef SILL_TESTS_UNIT_XHCI_RIG_H
#define SILL_TESTS_UNIT_XHCI_RIG_H

#include "virtio_rig.h"

#include "dev/usb/usb_input.h"
#include "dev/usb/xhci.h"
#include "dev/usb/xhci_regs.h"

/* Guest memory */
#define X_DCBAA 0x10000
#define X_COMMANDS 0x11000
#define X_ERST 0x12000
#define X_EVENTS 0x13000
#define X_EVENT_COUNT 16
#define X_INPUT 0x14000
#define X_DEVICE 0x20000 /* device contexts, a page each */
#define X_RINGS 0x30000  /* transfer rings, a page for each endpoint of a slot */
#define X_RING_TRBS 16
#define X_BUFFER 0x80000 /* behind all that has to be empty at first */

struct x_ring {
    gpa_t base;
    unsigned at;
    bool cycle;
};

struct xhci_rig {
    struct virtio_rig pci; /* bus, memory, messages */
    struct clock *clock;
    struct input *input;
    struct xhci *xhci;
    struct usb_device *tablet, *keyboard;
    struct x_ring commands;
    struct x_ring ring[9][32]; /* by slot and DCI */
    unsigned event;            /* index of the next */
    bool event_cycle;
};

struct x_event {
    uint64_t parameter;
    unsigned type, code, slot, endpoint;
    uint32_t length;
    bool data;
};

/* ---- registers ---- */

static inline uint32_t x_read(struct xhci_rig *rig, unsigned offset)
{
    return reg_read(&rig->pci, offset, 4);
}

static inline void x_write(struct xhci_rig *rig, unsigned offset, uint32_t value)
{
    reg_write(&rig->pci, offset, 4, value);
}

static inline void x_write64(struct xhci_rig *rig, unsigned offset, uint64_t value)
{
    reg_write64(&rig->pci, offset, value);
}

static inline uint32_t x_op(struct xhci_rig *rig, unsigned offset)
{
    return x_read(rig, XHCI_OPERATIONAL + offset);
}

static inline void x_op_write(struct xhci_rig *rig, unsigned offset, uint32_t value)
{
    x_write(rig, XHCI_OPERATIONAL + offset, value);
}

/* PORTSC of port `number`, from 1. */
static inline unsigned x_portsc(unsigned number)
{
    return XHCI_PORTS_BASE + (number - 1) * XHCI_PORT_SIZE;
}

static inline unsigned x_interrupter(unsigned offset)
{
    return XHCI_INTERRUPTERS_BASE + offset;
}

/* ---- the rig ---- */

static inline void x_init(struct xhci_rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    rig_init(&rig->pci);
    assert_int_equal(clock_new_manual(&rig->clock), 0);
    rig->input = input_new();
    const struct xhci_config config = {"usb", rig->pci.pci, RIG_DEVFN, rig->clock};
    assert_int_equal(xhci_new(&rig->xhci, &config, NULL), 0);
    assert_int_equal(usb_tablet_new(&rig->tablet, "tablet", rig->input), 0);
    assert_int_equal(usb_keyboard_new(&rig->keyboard, "keyboard", rig->input, rig->clock), 0);
    assert_int_equal(xhci_plug(rig->xhci, rig->tablet, NULL), 0);
    assert_int_equal(xhci_plug(rig->xhci, rig->keyboard, NULL), 0);
    rig_start(&rig->pci, xhci_device(rig->xhci));
}

static inline void x_done(struct xhci_rig *rig)
{
    rig->tablet->dev.ops->destroy(&rig->tablet->dev);
    rig->keyboard->dev.ops->destroy(&rig->keyboard->dev);
    rig_done(&rig->pci);
    input_free(rig->input);
    clock_free(rig->clock);
}

/* Rings, then running, with no event told of yet but those of the two ports. */
static inline void x_run(struct xhci_rig *rig)
{
    memset(memory_host(&rig->pci.mem, X_DCBAA, X_BUFFER - X_DCBAA, true), 0, X_BUFFER - X_DCBAA);
    rig->commands = (struct x_ring){X_COMMANDS, 0, true};
    rig->event = 0;
    rig->event_cycle = true;
    guest_put(&rig->pci.mem, X_ERST, X_EVENTS, 8);
    guest_put(&rig->pci.mem, X_ERST + 8, X_EVENT_COUNT, 8);
    x_op_write(rig, CONFIG, 8);
    x_write64(rig, XHCI_OPERATIONAL + DCBAAP, X_DCBAA);
    x_write64(rig, XHCI_OPERATIONAL + CRCR, X_COMMANDS | CRCR_CYCLE);
    x_write(rig, x_interrupter(ERSTSZ), 1);
    x_write64(rig, x_interrupter(ERDP), X_EVENTS);
    x_write64(rig, x_interrupter(ERSTBA), X_ERST);
    x_write(rig, x_interrupter(IMOD), 0);
    x_write(rig, x_interrupter(IMAN), IMAN_ENABLE);
    x_op_write(rig, USBCMD, USBCMD_RUN | USBCMD_INTERRUPTS);
}

/* ---- rings ---- */

/* The guest's memory has the TRB; returns where. A link closes the ring. */
static inline gpa_t x_put(struct xhci_rig *rig, struct x_ring *ring, uint64_t parameter,
                          uint32_t status, uint32_t control)
{
    gpa_t gpa = ring->base + ring->at * TRB_SIZE;

    guest_put(&rig->pci.mem, gpa, parameter, 8);
    guest_put(&rig->pci.mem, gpa + 8, status, 4);
    guest_put(&rig->pci.mem, gpa + 12, control | ring->cycle, 4);
    if (++ring->at == X_RING_TRBS - 1) {
        gpa_t link = ring->base + ring->at * TRB_SIZE;
        guest_put(&rig->pci.mem, link, ring->base, 8);
        guest_put(&rig->pci.mem, link + 8, 0, 4);
        guest_put(&rig->pci.mem, link + 12,
                  TRB_LINK << TRB_TYPE_SHIFT | TRB_TOGGLE_CYCLE | ring->cycle, 4);
        ring->at = 0;
        ring->cycle = !ring->cycle;
    }
    return gpa;
}

/* Is there another event? */
static inline bool x_event_waits(struct xhci_rig *rig)
{
    gpa_t gpa = X_EVENTS + rig->event * TRB_SIZE;

    return (guest_get(&rig->pci.mem, gpa + 12, 4) & TRB_CYCLE) == rig->event_cycle;
}

/* Takes the next event, which must be there. */
static inline struct x_event x_event(struct xhci_rig *rig)
{
    gpa_t gpa = X_EVENTS + rig->event * TRB_SIZE;
    uint32_t status = (uint32_t)guest_get(&rig->pci.mem, gpa + 8, 4);
    uint32_t control = (uint32_t)guest_get(&rig->pci.mem, gpa + 12, 4);

    assert_true(x_event_waits(rig));
    if (++rig->event == X_EVENT_COUNT) {
        rig->event = 0;
        rig->event_cycle = !rig->event_cycle;
    }
    return (struct x_event){
        .parameter = guest_get(&rig->pci.mem, gpa, 8),
        .type = control >> TRB_TYPE_SHIFT & TRB_TYPE_MASK,
        .code = status >> TRB_CODE_SHIFT,
        .slot = control >> TRB_SLOT_SHIFT,
        .endpoint = control >> TRB_ENDPOINT_SHIFT & TRB_ENDPOINT_MASK,
        .length = status & TRB_EVENT_LENGTH,
        .data = control & TRB_EVENT_DATA,
    };
}

/* Tells the controller what was taken. */
static inline void x_events_taken(struct xhci_rig *rig)
{
    x_write64(rig, x_interrupter(ERDP), (X_EVENTS + rig->event * TRB_SIZE) | ERDP_BUSY);
}

/* Takes all that are there. */
static inline void x_drain(struct xhci_rig *rig)
{
    while (x_event_waits(rig))
        x_event(rig);
    x_events_taken(rig);
}

static inline void x_expect(struct xhci_rig *rig, unsigned type, unsigned code)
{
    struct x_event event = x_event(rig);

    assert_int_equal(event.type, type);
    assert_int_equal(event.code, code);
    x_events_taken(rig);
}

/* One command; its event, which must be the next one. */
static inline struct x_event x_command(struct xhci_rig *rig, unsigned type, uint64_t parameter,
                                       uint32_t control)
{
    gpa_t gpa = x_put(rig, &rig->commands, parameter, 0, type << TRB_TYPE_SHIFT | control);

    x_write(rig, XHCI_DOORBELLS, 0);
    struct x_event event = x_event(rig);
    x_events_taken(rig);
    assert_int_equal(event.type, TRB_COMMAND_EVENT);
    assert_int_equal(event.parameter, gpa);
    return event;
}

static inline unsigned x_code(struct xhci_rig *rig, unsigned type, uint64_t parameter,
                              uint32_t control)
{
    return x_command(rig, type, parameter, control).code;
}

static inline uint32_t x_of_slot(unsigned slot, unsigned dci)
{
    return slot << TRB_SLOT_SHIFT | dci << TRB_ENDPOINT_SHIFT;
}

/* Resets port `port` and gives its device a slot with the control endpoint running. */
static inline unsigned x_address(struct xhci_rig *rig, unsigned port)
{
    x_write(rig, x_portsc(port), PORTSC_POWER | PORTSC_RESET | PORTSC_CHANGES);
    x_write(rig, x_portsc(port), PORTSC_POWER | PORTSC_CHANGES);
    x_drain(rig);

    struct x_event event = x_command(rig, TRB_ENABLE_SLOT, 0, 0);
    assert_int_equal(event.code, CODE_SUCCESS);
    unsigned slot = event.slot;
    struct x_ring *ring = &rig->ring[slot][1];
    *ring = (struct x_ring){X_RINGS + 0x8000 * (slot - 1) + 0x400, 0, true};
    guest_put(&rig->pci.mem, X_DCBAA + 8 * slot, X_DEVICE + 0x1000 * slot, 8);
    guest_put(&rig->pci.mem, X_INPUT, 0, 4);
    guest_put(&rig->pci.mem, X_INPUT + 4, 3, 4);
    guest_put(&rig->pci.mem, X_INPUT + 32, 1u << SLOT_ENTRIES_SHIFT | 1u << SLOT_SPEED_SHIFT, 4);
    guest_put(&rig->pci.mem, X_INPUT + 36, port << SLOT_PORT_SHIFT, 4);
    guest_put(&rig->pci.mem, X_INPUT + 64, 0, 4);
    guest_put(&rig->pci.mem, X_INPUT + 68, ENDPOINT_CONTROL << ENDPOINT_TYPE_SHIFT | 64 << 16, 4);
    guest_put(&rig->pci.mem, X_INPUT + 72, ring->base | ENDPOINT_CYCLE, 8);
    assert_int_equal(x_code(rig, TRB_ADDRESS_DEVICE, X_INPUT, x_of_slot(slot, 0)), CODE_SUCCESS);
    return slot;
}

#define X_SETUP(type, request, value, index, length)                                               \
    ((uint64_t)(type) | (uint64_t)(request) << 8 | (uint64_t)(value) << 16 |                       \
     (uint64_t)(index) << 32 | (uint64_t)(length) << 48)

/* A control transfer with its data at X_BUFFER; the completion of its last event, and how many
 * bytes the device sent. */
static inline unsigned x_control(struct xhci_rig *rig, unsigned slot, uint64_t setup,
                                 unsigned *length)
{
    struct x_ring *ring = &rig->ring[slot][1];
    bool in = setup & USB_TYPE_IN;
    unsigned size = setup >> 48;
    struct x_event event = {0};

    x_put(rig, ring, setup, 8, TRB_SETUP << TRB_TYPE_SHIFT | TRB_IMMEDIATE);
    if (size)
        x_put(rig, ring, X_BUFFER, size,
              TRB_DATA << TRB_TYPE_SHIFT | TRB_SHORT_INTERRUPT | (in ? TRB_IN : 0));
    x_put(rig, ring, 0, 0,
          TRB_STATUS << TRB_TYPE_SHIFT | TRB_INTERRUPT | (in && size ? 0 : TRB_IN));
    x_write(rig, XHCI_DOORBELLS + 4 * slot, 1);
    *length = size;
    do {
        event = x_event(rig);
        assert_int_equal(event.type, TRB_TRANSFER_EVENT);
        assert_int_equal(event.slot, slot);
        assert_int_equal(event.endpoint, 1);
        if (event.code == CODE_SHORT_PACKET)
            *length = size - event.length;
    } while (event.code == CODE_SHORT_PACKET);
    x_events_taken(rig);
    return event.code;
}

/* Chooses the configuration and lets endpoint 1 IN run. */
static inline void x_configure(struct xhci_rig *rig, unsigned slot)
{
    struct x_ring *ring = &rig->ring[slot][3];
    unsigned length;

    *ring = (struct x_ring){X_RINGS + 0x8000 * (slot - 1) + 0xc00, 0, true};
    guest_put(&rig->pci.mem, X_INPUT, 0, 4);
    guest_put(&rig->pci.mem, X_INPUT + 4, 1 | 1u << 3, 4);
    guest_put(&rig->pci.mem, X_INPUT + 32, 3u << SLOT_ENTRIES_SHIFT | 1u << SLOT_SPEED_SHIFT, 4);
    guest_put(&rig->pci.mem, X_INPUT + 32 * 4, 0, 4);
    guest_put(&rig->pci.mem, X_INPUT + 32 * 4 + 4, 7 << ENDPOINT_TYPE_SHIFT | 8 << 16, 4);
    guest_put(&rig->pci.mem, X_INPUT + 32 * 4 + 8, ring->base | ENDPOINT_CYCLE, 8);
    assert_int_equal(x_code(rig, TRB_CONFIGURE_ENDPOINT, X_INPUT, x_of_slot(slot, 0)),
                     CODE_SUCCESS);
    assert_int_equal(x_control(rig, slot, X_SETUP(0, USB_SET_CONFIGURATION, 1, 0, 0), &length),
                     CODE_SUCCESS);
}

/* A buffer of `size` bytes at X_BUFFER for endpoint 1 IN. */
static inline gpa_t x_queue(struct xhci_rig *rig, unsigned slot, unsigned size)
{
    gpa_t gpa = x_put(rig, &rig->ring[slot][3], X_BUFFER, size,
                      TRB_NORMAL << TRB_TYPE_SHIFT | TRB_INTERRUPT | TRB_SHORT_INTERRUPT);

    x_write(rig, XHCI_DOORBELLS + 4 * slot, 3);
    return gpa;
}

/* The state that the device context shows. */
static inline unsigned x_endpoint_state(struct xhci_rig *rig, unsigned slot, unsigned dci)
{
    return guest_get(&rig->pci.mem, X_DEVICE + 0x1000 * slot + 32 * dci, 4) & ENDPOINT_STATE;
}

static inline unsigned x_slot_state(struct xhci_rig *rig, unsigned slot)
{
    return (unsigned)(guest_get(&rig->pci.mem, X_DEVICE + 0x1000 * slot + 12, 4) >>
                      SLOT_STATE_SHIFT);
}

#endif
