/*
 * Transfer rings of the xHCI controller: transfer descriptors (4.11), control transfers (3.2.9) and
 * IN transfers, and what happens to endpoints (4.8.3); see xhci_internal.h.
 *
 * A transfer descriptor is one or several TRBs chained together. It is gathered whole, carried out
 * at once, and only then does the ring's dequeue pointer move: one that has to wait for the device
 * leaves no trace. No device here has OUT endpoints but the control endpoint.
 */
#include "dev/usb/xhci_internal.h"

#include <string.h>

#define TD_TRBS_MAX 32
#define TD_DATA_MAX 1024 /* of a transfer that a device makes at one go */
/* At one go: a ring that never ends is the guest's own affair. */
#define TDS_MAX 256

/* A transfer descriptor, 3.2.8 */
struct td {
    struct xhci_trb trb[TD_TRBS_MAX];
    unsigned count;
    uint64_t length;        /* of all buffers */
    struct xhci_ring after; /* the ring behind it */
};

enum gathered { GATHERED, GATHERED_NOTHING, GATHERED_NONSENSE };

static bool has_buffer(const struct xhci_trb *trb)
{
    return trb_type(trb) == TRB_NORMAL || trb_type(trb) == TRB_DATA;
}

static uint32_t buffer_length(const struct xhci_trb *trb)
{
    return has_buffer(trb) ? trb->status & TRB_LENGTH : 0;
}

static bool is_transfer(const struct xhci_trb *trb)
{
    unsigned type = trb_type(trb);

    return type == TRB_NORMAL || type == TRB_SETUP || type == TRB_DATA || type == TRB_STATUS ||
           type == TRB_EVENT_DATA_TYPE || type == TRB_NO_OP;
}

/* The next one, if all of it is there. */
static enum gathered gather(struct xhci *xhci, const struct xhci_ring *ring, struct td *td)
{
    td->after = *ring;
    td->length = 0;
    for (td->count = 0; td->count < TD_TRBS_MAX;) {
        struct xhci_trb *trb = &td->trb[td->count];
        enum xhci_fetched fetched = xhci_fetch(xhci, &td->after, trb);
        if (fetched == FETCHED_NOTHING)
            return GATHERED_NOTHING;
        td->count++;
        if (fetched == FETCHED_NONSENSE || !is_transfer(trb))
            return GATHERED_NONSENSE;
        td->length += buffer_length(trb);
        if (!(trb->control & TRB_CHAIN))
            return GATHERED;
    }
    return GATHERED_NONSENSE;
}

/* Copies what came into the buffers; false: they are no memory. */
static bool scatter(struct xhci *xhci, const struct td *td, const uint8_t *data, uint64_t length)
{
    for (unsigned i = 0; i < td->count && length; i++) {
        uint64_t part = buffer_length(&td->trb[i]);
        part = part < length ? part : length;
        if (part && !xhci_write(xhci, td->trb[i].parameter, data, part))
            return false;
        data += part;
        length -= part;
    }
    return true;
}

/* ---- events ---- */

static unsigned target(const struct xhci_trb *trb)
{
    return trb->status >> TRB_TARGET_SHIFT;
}

struct report {
    struct xhci *xhci;
    unsigned slot, dci;
};

/* `flags`: TRB_EVENT_DATA with the value of the TRB in place of its address. */
static void report_trb(const struct report *to, const struct xhci_trb *trb, enum completion code,
                       uint32_t length, uint32_t flags)
{
    const struct xhci_trb event = {
        .parameter = flags & TRB_EVENT_DATA ? trb->parameter : trb->gpa,
        .status = (length & TRB_EVENT_LENGTH) | (uint32_t)code << TRB_CODE_SHIFT,
        .control = flags | TRB_TRANSFER_EVENT << TRB_TYPE_SHIFT | to->dci << TRB_ENDPOINT_SHIFT |
                   to->slot << TRB_SLOT_SHIFT,
    };

    xhci_post(to->xhci, target(trb), &event, trb->control & TRB_BLOCK_INTERRUPT);
}

/* 4.10.1, 4.11.5.2: the events of a descriptor of which `length` bytes were transferred. After a
 * short packet one TRB tells of it, and those that hold event data do anyway. */
static void report_done(const struct report *to, const struct td *td, uint64_t length)
{
    enum completion code = CODE_SUCCESS;
    uint32_t moved = 0; /* since the last event data */
    bool told = false;

    for (unsigned i = 0; i < td->count; i++) {
        const struct xhci_trb *trb = &td->trb[i];
        uint32_t size = buffer_length(trb);
        uint32_t part = size < length ? size : (uint32_t)length;

        length -= part;
        moved += part;
        if (part < size)
            code = CODE_SHORT_PACKET;
        bool wanted =
            trb->control & TRB_INTERRUPT || (part < size && trb->control & TRB_SHORT_INTERRUPT);
        if (trb_type(trb) == TRB_EVENT_DATA_TYPE) {
            if (wanted)
                report_trb(to, trb, code, moved, TRB_EVENT_DATA);
            moved = 0;
        } else if (wanted && !told) {
            report_trb(to, trb, code, size - part, 0);
            told = code == CODE_SHORT_PACKET;
        }
    }
}

/* ---- transfers ---- */

enum outcome {
    DONE,    /* as far as `length` says */
    WAITING, /* for the device */
    STALLED,
    NO_DEVICE,
    NONSENSE,
    LOST, /* the controller has halted */
};

static struct usb_setup parse_setup(uint64_t bytes)
{
    return (struct usb_setup){
        .type = (uint8_t)bytes,
        .request = (uint8_t)(bytes >> 8),
        .value = (uint16_t)(bytes >> 16),
        .index = (uint16_t)(bytes >> 32),
        .length = (uint16_t)(bytes >> 48),
    };
}

static void perform(struct xhci_control *control, struct usb_device *usb)
{
    unsigned length = control->length;

    control->stalled = usb_device_control(usb, &control->setup, control->data, &length) != USB_OK;
    control->length = (uint16_t)(control->stalled ? 0 : length);
}

/* The device answers a request for data at once, and carries out another when it has all data. */
static enum outcome setup_stage(struct xhci_control *control, struct usb_device *usb,
                                const struct xhci_trb *trb)
{
    if (!(trb->control & TRB_IMMEDIATE) || (trb->status & TRB_LENGTH) != sizeof(trb->parameter))
        return NONSENSE;
    *control = (struct xhci_control){.setup = parse_setup(trb->parameter)};
    control->stage = control->setup.length ? CONTROL_DATA : CONTROL_STATUS;
    if (control->setup.length && control->setup.type & USB_TYPE_IN)
        perform(control, usb);
    return DONE;
}

static enum outcome data_in(struct xhci *xhci, const struct xhci_control *control,
                            const struct td *td, uint64_t *length)
{
    if (control->stalled)
        return STALLED;
    *length = control->length < td->length ? control->length : td->length;
    return scatter(xhci, td, control->data, *length) ? DONE : LOST;
}

static enum outcome data_out(struct xhci *xhci, struct xhci_control *control, const struct td *td,
                             uint64_t *length)
{
    if (td->length > sizeof(control->data))
        return STALLED;
    for (unsigned i = 0; i < td->count; i++) {
        const struct xhci_trb *trb = &td->trb[i];
        uint32_t size = buffer_length(trb);
        uint8_t *to = control->data + control->length;

        if (trb->control & TRB_IMMEDIATE) {
            if (size > sizeof(trb->parameter))
                return NONSENSE;
            memcpy(to, &trb->parameter, size);
        } else if (size && !xhci_read(xhci, trb->parameter, to, size)) {
            return LOST;
        }
        control->length += (uint16_t)size;
    }
    *length = td->length;
    return DONE;
}

static enum outcome data_stage(struct xhci *xhci, struct xhci_control *control, const struct td *td,
                               uint64_t *length)
{
    bool in = td->trb[0].control & TRB_IN;

    if (control->stage != CONTROL_DATA || in != !!(control->setup.type & USB_TYPE_IN))
        return NONSENSE;
    control->stage = CONTROL_STATUS;
    if (in)
        return data_in(xhci, control, td, length);
    control->length = 0;
    return data_out(xhci, control, td, length);
}

static enum outcome status_stage(struct xhci_control *control, struct usb_device *usb)
{
    if (control->stage == CONTROL_SETUP)
        return NONSENSE;
    control->stage = CONTROL_SETUP;
    if (!control->setup.length || !(control->setup.type & USB_TYPE_IN))
        perform(control, usb);
    return control->stalled ? STALLED : DONE;
}

static enum outcome control_transfer(struct xhci *xhci, struct xhci_slot *slot,
                                     struct usb_device *usb, const struct td *td, uint64_t *length)
{
    switch (trb_type(&td->trb[0])) {
    case TRB_SETUP:
        return setup_stage(&slot->control, usb, &td->trb[0]);
    case TRB_DATA:
        return data_stage(xhci, &slot->control, td, length);
    case TRB_STATUS:
        return status_stage(&slot->control, usb);
    }
    return NONSENSE;
}

static enum outcome in_transfer(struct xhci *xhci, struct usb_device *usb, unsigned dci,
                                const struct td *td, uint64_t *length)
{
    uint8_t data[TD_DATA_MAX];
    unsigned got, size = td->length < sizeof(data) ? (unsigned)td->length : sizeof(data);

    if (dci % 2 == 0) /* OUT */
        return STALLED;
    switch (usb_device_in(usb, dci / 2, data, size, &got)) {
    case USB_NAK:
        return WAITING;
    case USB_STALL:
        return STALLED;
    case USB_OK:
        break;
    }
    *length = got;
    return scatter(xhci, td, data, got) ? DONE : LOST;
}

static enum outcome transfer(struct xhci *xhci, struct xhci_slot *slot, unsigned dci,
                             const struct td *td, uint64_t *length)
{
    struct usb_device *usb = xhci_port_device(xhci, slot->port);

    if (!usb)
        return NO_DEVICE;
    if (trb_type(&td->trb[0]) == TRB_NO_OP)
        return DONE;
    if (dci == 1)
        return control_transfer(xhci, slot, usb, td, length);
    return in_transfer(xhci, usb, dci, td, length);
}

/* ---- endpoints ---- */

void xhci_endpoint_set(struct xhci *xhci, unsigned slot, unsigned dci, enum endpoint_state state)
{
    struct xhci_endpoint *endpoint = &xhci->slot[slot].endpoint[dci];
    gpa_t context = xhci->slot[slot].context + (uint64_t)dci * CONTEXT_SIZE;
    uint64_t dequeue = endpoint->ring.dequeue | endpoint->ring.cycle;
    uint32_t word;

    endpoint->state = state;
    if (state != ENDPOINT_RUNNING)
        endpoint->rung = false;
    if (!xhci_read(xhci, context, &word, sizeof(word)))
        return;
    word = (word & ~ENDPOINT_STATE) | state;
    if (xhci_write(xhci, context, &word, sizeof(word)))
        xhci_write(xhci, context + ENDPOINT_DEQUEUE * sizeof(word), &dequeue, sizeof(dequeue));
}

void xhci_endpoint_stop(struct xhci *xhci, unsigned slot, unsigned dci)
{
    struct xhci_endpoint *endpoint = &xhci->slot[slot].endpoint[dci];
    const struct report to = {xhci, slot, dci};
    struct xhci_ring ring = endpoint->ring;
    struct xhci_trb trb;

    if (endpoint->rung && xhci_fetch(xhci, &ring, &trb) == FETCHED_TRB) {
        endpoint->ring = (struct xhci_ring){trb.gpa, ring.cycle};
        report_trb(&to, &trb, CODE_STOPPED, buffer_length(&trb), 0);
    }
    xhci_endpoint_set(xhci, slot, dci, ENDPOINT_STOPPED);
}

/* 4.8.3, 4.10.2: the ring stays where it failed. */
static void fail(const struct report *to, const struct xhci_trb *trb, enum completion code)
{
    xhci_endpoint_set(to->xhci, to->slot, to->dci,
                      code == CODE_TRB_ERROR ? ENDPOINT_ERROR : ENDPOINT_HALTED);
    report_trb(to, trb, code, buffer_length(trb), 0);
}

/* One descriptor; false: no more for now. */
static bool run_one(const struct report *to, struct xhci_endpoint *endpoint)
{
    struct xhci *xhci = to->xhci;
    uint64_t length = 0;
    struct td td;

    switch (gather(xhci, &endpoint->ring, &td)) {
    case GATHERED_NOTHING:
        return false;
    case GATHERED_NONSENSE:
        fail(to, &td.trb[td.count - 1], CODE_TRB_ERROR);
        return false;
    case GATHERED:
        break;
    }
    if (!xhci_event_room(xhci, target(&td.trb[td.count - 1])))
        return false;
    switch (transfer(xhci, &xhci->slot[to->slot], to->dci, &td, &length)) {
    case DONE:
        endpoint->ring = td.after;
        report_done(to, &td, length);
        return true;
    case STALLED:
        fail(to, &td.trb[0], CODE_STALL);
        break;
    case NO_DEVICE:
        fail(to, &td.trb[0], CODE_TRANSACTION_ERROR);
        break;
    case NONSENSE:
        fail(to, &td.trb[0], CODE_TRB_ERROR);
        break;
    case WAITING:
    case LOST:
        break;
    }
    return false;
}

void xhci_endpoint_run(struct xhci *xhci, unsigned slot, unsigned dci)
{
    struct xhci_endpoint *endpoint = &xhci->slot[slot].endpoint[dci];
    const struct report to = {xhci, slot, dci};

    for (unsigned i = 0; i < TDS_MAX; i++) {
        if (endpoint->state != ENDPOINT_RUNNING || !endpoint->rung || !xhci_is_live(xhci) ||
            !run_one(&to, endpoint))
            return;
    }
}

void xhci_endpoint_ring(struct xhci *xhci, unsigned slot, unsigned dci)
{
    struct xhci_endpoint *endpoint = &xhci->slot[slot].endpoint[dci];

    if (endpoint->state == ENDPOINT_STOPPED)
        xhci_endpoint_set(xhci, slot, dci, ENDPOINT_RUNNING);
    if (endpoint->state != ENDPOINT_RUNNING)
        return;
    endpoint->rung = true;
    xhci_endpoint_run(xhci, slot, dci);
}
