/*
 * The command ring of the xHCI controller: 4.6 and 6.4.3. Slots and their endpoints come and go
 * here; see xhci_internal.h. Each command is done when the next one is looked at.
 *
 * What the guest says of a device is copied from its input context to the device context, which is
 * the guest's to read; what the controller itself goes by it keeps in struct xhci_slot.
 */
#include "dev/usb/xhci_internal.h"

#include <string.h>

/* At one go: a ring that never ends is the guest's own affair. */
#define COMMANDS_MAX 1024

struct input_context {
    uint32_t control[CONTEXT_WORDS];
    uint32_t slot[CONTEXT_WORDS];
    uint32_t endpoint[CONTEXT_ENDPOINTS][CONTEXT_WORDS]; /* by DCI - 1 */
};

static bool read_input(struct xhci *xhci, const struct xhci_trb *trb, struct input_context *input)
{
    return xhci_read(xhci, trb->parameter & ENDPOINT_POINTER, input, sizeof(*input));
}

static unsigned slot_number(const struct xhci_trb *trb)
{
    return trb->control >> TRB_SLOT_SHIFT;
}

static struct xhci_slot *enabled_slot(struct xhci *xhci, unsigned number)
{
    if (number < 1 || number > XHCI_SLOTS || !xhci->slot[number].enabled)
        return NULL;
    return &xhci->slot[number];
}

/* ---- contexts ---- */

/* Puts the slot's state into its context; the other words are as the guest gave them. */
static void write_slot_state(struct xhci *xhci, unsigned number)
{
    struct xhci_slot *slot = &xhci->slot[number];
    bool addressed = slot->state == SLOT_ADDRESSED || slot->state == SLOT_CONFIGURED;
    uint32_t word = (uint32_t)slot->state << SLOT_STATE_SHIFT | (addressed ? number : 0);

    xhci_write(xhci, slot->context + 3 * sizeof(word), &word, sizeof(word));
}

/* Takes over an endpoint that is to run. */
static void start_endpoint(struct xhci *xhci, unsigned number, unsigned dci,
                           const uint32_t words[CONTEXT_WORDS])
{
    struct xhci_slot *slot = &xhci->slot[number];
    uint64_t dequeue = words[ENDPOINT_DEQUEUE] | (uint64_t)words[ENDPOINT_DEQUEUE + 1] << 32;

    slot->endpoint[dci] = (struct xhci_endpoint){
        .type = words[1] >> ENDPOINT_TYPE_SHIFT & 7,
        .ring = {dequeue & ENDPOINT_POINTER, dequeue & ENDPOINT_CYCLE},
    };
    xhci_write(xhci, slot->context + (uint64_t)dci * CONTEXT_SIZE, words, CONTEXT_SIZE);
    xhci_endpoint_set(xhci, number, dci, ENDPOINT_RUNNING);
}

static void disable_endpoint(struct xhci *xhci, unsigned number, unsigned dci)
{
    if (xhci->slot[number].endpoint[dci].state == ENDPOINT_DISABLED)
        return;
    xhci_endpoint_set(xhci, number, dci, ENDPOINT_DISABLED);
    xhci->slot[number].endpoint[dci] = (struct xhci_endpoint){0};
}

/* All but the default control endpoint. */
static void disable_endpoints(struct xhci *xhci, unsigned number)
{
    for (unsigned dci = 2; dci <= CONTEXT_ENDPOINTS; dci++)
        disable_endpoint(xhci, number, dci);
}

/* ---- commands about slots ---- */

static enum completion enable_slot(struct xhci *xhci, unsigned *number)
{
    for (unsigned i = 1; i <= XHCI_SLOTS && i <= (xhci->config & CONFIG_SLOTS); i++) {
        if (xhci->slot[i].enabled)
            continue;
        xhci->slot[i] = (struct xhci_slot){.enabled = true};
        *number = i;
        return CODE_SUCCESS;
    }
    return CODE_NO_SLOTS;
}

static enum completion disable_slot(struct xhci *xhci, unsigned number)
{
    if (xhci->slot[number].state != SLOT_DISABLED) {
        xhci->slot[number].state = SLOT_DISABLED;
        write_slot_state(xhci, number);
    }
    xhci->slot[number] = (struct xhci_slot){0};
    return CODE_SUCCESS;
}

/* 4.6.5. The device's address is the slot's number; SET_ADDRESS is not seen by any device. */
static enum completion address_device(struct xhci *xhci, unsigned number,
                                      const struct xhci_trb *trb)
{
    struct xhci_slot *slot = &xhci->slot[number];
    bool blocked = trb->control & TRB_BLOCK_ADDRESS;
    struct input_context input;
    uint64_t context;

    if (slot->state > (blocked ? SLOT_DISABLED : SLOT_DEFAULT))
        return CODE_CONTEXT_STATE;
    if (!read_input(xhci, trb, &input) ||
        !xhci_read(xhci, xhci->dcbaap + 8ull * number, &context, sizeof(context)))
        return CODE_PARAMETER;
    unsigned port = input.slot[1] >> SLOT_PORT_SHIFT & 0xff;
    if (input.control[INPUT_DROP] || (input.control[INPUT_ADD] & 3) != 3 ||
        (input.endpoint[0][1] >> ENDPOINT_TYPE_SHIFT & 7) != ENDPOINT_CONTROL)
        return CODE_PARAMETER;
    if (input.slot[0] & SLOT_ROUTE || !xhci_port_device(xhci, port))
        return CODE_TRANSACTION_ERROR;
    slot->port = (uint8_t)port;
    slot->context = context & ERSTBA_MASK;
    slot->state = blocked ? SLOT_DEFAULT : SLOT_ADDRESSED;
    slot->control = (struct xhci_control){0};
    xhci_write(xhci, slot->context, input.slot, CONTEXT_SIZE);
    write_slot_state(xhci, number);
    start_endpoint(xhci, number, 1, input.endpoint[0]);
    return CODE_SUCCESS;
}

static enum completion reset_device(struct xhci *xhci, unsigned number)
{
    struct xhci_slot *slot = &xhci->slot[number];

    if (slot->state < SLOT_ADDRESSED)
        return CODE_CONTEXT_STATE;
    disable_endpoints(xhci, number);
    slot->state = SLOT_DEFAULT;
    slot->control = (struct xhci_control){0};
    write_slot_state(xhci, number);
    return CODE_SUCCESS;
}

/* ---- commands about contexts ---- */

/* No streams, no control endpoint but the default one, and the direction is in the number. */
static bool endpoint_is_possible(unsigned dci, const uint32_t words[CONTEXT_WORDS])
{
    unsigned type = words[1] >> ENDPOINT_TYPE_SHIFT & 7;
    bool in = type > ENDPOINT_CONTROL;

    return type != ENDPOINT_INVALID && type != ENDPOINT_CONTROL && in == dci % 2 &&
           !(words[0] & ENDPOINT_STREAMS);
}

static enum completion configure_endpoints(struct xhci *xhci, unsigned number,
                                           const struct xhci_trb *trb)
{
    struct xhci_slot *slot = &xhci->slot[number];
    struct input_context input;
    bool any = false;

    if (slot->state < SLOT_ADDRESSED)
        return CODE_CONTEXT_STATE;
    if (trb->control & TRB_DECONFIGURE) {
        disable_endpoints(xhci, number);
        slot->state = SLOT_ADDRESSED;
        write_slot_state(xhci, number);
        return CODE_SUCCESS;
    }
    if (!read_input(xhci, trb, &input))
        return CODE_PARAMETER;
    for (unsigned dci = 2; dci <= CONTEXT_ENDPOINTS; dci++) {
        if (input.control[INPUT_ADD] & 1u << dci &&
            !endpoint_is_possible(dci, input.endpoint[dci - 1]))
            return CODE_PARAMETER;
    }
    xhci_write(xhci, slot->context, input.slot, 3 * sizeof(input.slot[0]));
    for (unsigned dci = 2; dci <= CONTEXT_ENDPOINTS; dci++) {
        if (input.control[INPUT_DROP] & 1u << dci)
            disable_endpoint(xhci, number, dci);
        if (input.control[INPUT_ADD] & 1u << dci)
            start_endpoint(xhci, number, dci, input.endpoint[dci - 1]);
        any |= slot->endpoint[dci].state != ENDPOINT_DISABLED;
    }
    slot->state = any ? SLOT_CONFIGURED : SLOT_ADDRESSED;
    write_slot_state(xhci, number);
    return CODE_SUCCESS;
}

/* Replaces the bits of `mask` in a word of a context. */
static void replace(struct xhci *xhci, gpa_t gpa, uint32_t mask, uint32_t value)
{
    uint32_t word;

    if (!xhci_read(xhci, gpa, &word, sizeof(word)))
        return;
    word = (word & ~mask) | (value & mask);
    xhci_write(xhci, gpa, &word, sizeof(word));
}

/* 4.6.7: nothing of it makes the controller behave differently. */
static enum completion evaluate_context(struct xhci *xhci, unsigned number,
                                        const struct xhci_trb *trb)
{
    struct xhci_slot *slot = &xhci->slot[number];
    struct input_context input;

    if (slot->state == SLOT_DISABLED)
        return CODE_CONTEXT_STATE;
    if (!read_input(xhci, trb, &input))
        return CODE_PARAMETER;
    if (input.control[INPUT_ADD] & 1) {
        replace(xhci, slot->context + 4, SLOT_EXIT_LATENCY, input.slot[1]);
        replace(xhci, slot->context + 8, SLOT_TARGET_MASK, input.slot[2]);
    }
    if (input.control[INPUT_ADD] & 2)
        replace(xhci, slot->context + CONTEXT_SIZE + 4, ENDPOINT_PACKET, input.endpoint[0][1]);
    return CODE_SUCCESS;
}

/* ---- commands about endpoints ---- */

static enum completion set_dequeue(struct xhci *xhci, unsigned number, unsigned dci,
                                   const struct xhci_trb *trb)
{
    struct xhci_endpoint *endpoint = &xhci->slot[number].endpoint[dci];

    if (endpoint->state != ENDPOINT_STOPPED && endpoint->state != ENDPOINT_ERROR)
        return CODE_CONTEXT_STATE;
    endpoint->ring.dequeue = trb->parameter & ENDPOINT_POINTER;
    endpoint->ring.cycle = trb->parameter & ENDPOINT_CYCLE;
    xhci_endpoint_set(xhci, number, dci, ENDPOINT_STOPPED);
    return CODE_SUCCESS;
}

static enum completion endpoint_command(struct xhci *xhci, unsigned number,
                                        const struct xhci_trb *trb)
{
    struct xhci_slot *slot = &xhci->slot[number];
    unsigned dci = trb->control >> TRB_ENDPOINT_SHIFT & TRB_ENDPOINT_MASK;
    struct xhci_endpoint *endpoint = &slot->endpoint[dci];

    if (endpoint->state == ENDPOINT_DISABLED) /* and so is the one with the number 0 */
        return CODE_ENDPOINT_NOT_ENABLED;
    if (dci == 1 && trb_type(trb) != TRB_STOP_ENDPOINT)
        slot->control = (struct xhci_control){0};
    switch (trb_type(trb)) {
    case TRB_RESET_ENDPOINT:
        if (endpoint->state != ENDPOINT_HALTED)
            return CODE_CONTEXT_STATE;
        xhci_endpoint_set(xhci, number, dci, ENDPOINT_STOPPED);
        return CODE_SUCCESS;
    case TRB_STOP_ENDPOINT:
        if (endpoint->state != ENDPOINT_RUNNING)
            return CODE_CONTEXT_STATE;
        xhci_endpoint_stop(xhci, number, dci);
        return CODE_SUCCESS;
    }
    return set_dequeue(xhci, number, dci, trb);
}

/* ---- the ring ---- */

/* *number: the slot that the event names. */
static enum completion execute(struct xhci *xhci, const struct xhci_trb *trb, unsigned *number)
{
    *number = 0;
    switch (trb_type(trb)) {
    case TRB_NO_OP_COMMAND:
        return CODE_SUCCESS;
    case TRB_ENABLE_SLOT:
        return enable_slot(xhci, number);
    }
    if (trb_type(trb) < TRB_DISABLE_SLOT || trb_type(trb) > TRB_RESET_DEVICE)
        return CODE_TRB_ERROR; /* optional, or no command */
    if (!enabled_slot(xhci, slot_number(trb)))
        return CODE_SLOT_NOT_ENABLED;
    *number = slot_number(trb);
    switch (trb_type(trb)) {
    case TRB_DISABLE_SLOT:
        return disable_slot(xhci, *number);
    case TRB_ADDRESS_DEVICE:
        return address_device(xhci, *number, trb);
    case TRB_CONFIGURE_ENDPOINT:
        return configure_endpoints(xhci, *number, trb);
    case TRB_EVALUATE_CONTEXT:
        return evaluate_context(xhci, *number, trb);
    case TRB_RESET_ENDPOINT:
    case TRB_STOP_ENDPOINT:
    case TRB_SET_DEQUEUE:
        return endpoint_command(xhci, *number, trb);
    }
    return reset_device(xhci, *number);
}

static void complete(struct xhci *xhci, gpa_t trb, enum completion code, unsigned slot)
{
    const struct xhci_trb event = {
        .parameter = trb,
        .status = (uint32_t)code << TRB_CODE_SHIFT,
        .control = TRB_COMMAND_EVENT << TRB_TYPE_SHIFT | slot << TRB_SLOT_SHIFT,
    };

    xhci_post(xhci, 0, &event, false);
}

void xhci_commands_run(struct xhci *xhci)
{
    struct xhci_trb trb;
    unsigned slot;

    for (unsigned i = 0; i < COMMANDS_MAX; i++) {
        if (!xhci->command_running || !xhci_is_live(xhci) || !xhci_event_room(xhci, 0))
            return;
        switch (xhci_fetch(xhci, &xhci->command, &trb)) {
        case FETCHED_NOTHING:
            return;
        case FETCHED_NONSENSE:
            xhci->command_running = false;
            complete(xhci, trb.gpa, CODE_TRB_ERROR, 0);
            return;
        case FETCHED_TRB:
            break;
        }
        enum completion code = execute(xhci, &trb, &slot);
        complete(xhci, trb.gpa, code, slot);
    }
}

void xhci_commands_stop(struct xhci *xhci)
{
    if (!xhci->command_running)
        return;
    xhci->command_running = false;
    if (xhci_is_live(xhci))
        complete(xhci, xhci->command.dequeue, CODE_COMMAND_RING_STOPPED, 0);
}
