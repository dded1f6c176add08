/*
 * The xHCI controller: registers, ports, commands, events and interrupts as drivers use them, and
 * as none should.
 */
#include "xhci_rig.h"

#include <errno.h>

static struct xhci_rig rig;

static int setup(void **state)
{
    x_init(&rig);
    return 0;
}

static int setup_running(void **state)
{
    x_init(&rig);
    rig_enable_msix(&rig.pci);
    x_run(&rig);
    return 0;
}

static int teardown(void **state)
{
    x_done(&rig);
    return 0;
}

/* ---- registers and ports ---- */

static void capabilities_are_consistent(void **state)
{
    assert_int_equal(reg_read(&rig.pci, CAPLENGTH_VERSION, 1), XHCI_OPERATIONAL);
    assert_int_equal(reg_read(&rig.pci, CAPLENGTH_VERSION + 2, 2), 0x0100);
    assert_int_equal(x_read(&rig, HCSPARAMS1), 8 | 8 << 8 | 8u << 24);
    assert_int_equal(x_read(&rig, HCCPARAMS1) & 0xffff, 1);
    assert_int_equal(x_read(&rig, DBOFF), XHCI_DOORBELLS);
    assert_int_equal(x_read(&rig, RTSOFF), XHCI_RUNTIME);
    assert_int_equal(x_op(&rig, PAGESIZE), 1);
    assert_int_equal(rig_cfg_read(&rig.pci, PCI_CLASS, 4) & 0xffffff, 0x0c0330);
    assert_int_equal(rig_cfg_read(&rig.pci, 0x60, 1), 0x30);

    unsigned at = (x_read(&rig, HCCPARAMS1) >> 16) * 4;
    for (unsigned i = 0; i < 2; i++) {
        uint32_t head = x_read(&rig, at);
        assert_int_equal(head & 0xff, EXTENDED_PROTOCOL);
        assert_int_equal(head >> PROTOCOL_MAJOR_SHIFT, 2 + i);
        assert_int_equal(x_read(&rig, at + 4), PROTOCOL_NAME);
        assert_int_equal(x_read(&rig, at + 8), (1 + 4 * i) | 4 << 8);
        assert_int_equal(head >> EXTENDED_NEXT_SHIFT & 0xff, i ? 0 : PROTOCOL_SIZE / 4);
        at += PROTOCOL_SIZE;
    }
}

static void ports_show_what_is_plugged_in(void **state)
{
    uint32_t plugged = x_read(&rig, x_portsc(1));

    assert_int_equal(plugged, PORTSC_CONNECTED | PORTSC_CONNECT_CHANGE | PORTSC_POWER |
                                  LINK_POLLING << PORTSC_LINK_SHIFT | 1 << PORTSC_SPEED_SHIFT);
    assert_int_equal(x_read(&rig, x_portsc(3)), PORTSC_POWER | LINK_RX_DETECT << PORTSC_LINK_SHIFT);
    x_write(&rig, x_portsc(1), PORTSC_POWER | PORTSC_CONNECT_CHANGE);
    assert_int_equal(x_read(&rig, x_portsc(1)), plugged & ~PORTSC_CONNECT_CHANGE);
    x_write(&rig, x_portsc(1), PORTSC_POWER | PORTSC_RESET);
    assert_int_equal(x_read(&rig, x_portsc(1)), PORTSC_CONNECTED | PORTSC_ENABLED | PORTSC_POWER |
                                                    PORTSC_RESET_CHANGE | 1 << PORTSC_SPEED_SHIFT);
    /* U3, Resume, U0 */
    x_write(&rig, x_portsc(1),
            PORTSC_POWER | PORTSC_CHANGES | PORTSC_LINK_WRITE | LINK_U3 << PORTSC_LINK_SHIFT);
    assert_int_equal(x_read(&rig, x_portsc(1)) >> PORTSC_LINK_SHIFT & 0xf, LINK_U3);
    x_write(&rig, x_portsc(1),
            PORTSC_POWER | PORTSC_LINK_WRITE | (uint32_t)LINK_RESUME << PORTSC_LINK_SHIFT);
    assert_int_equal(x_read(&rig, x_portsc(1)) >> PORTSC_LINK_SHIFT & 0xf, LINK_RESUME);
    x_write(&rig, x_portsc(1), PORTSC_POWER | PORTSC_LINK_WRITE);
    assert_int_equal(x_read(&rig, x_portsc(1)) & (PORTSC_LINK | PORTSC_CHANGES),
                     PORTSC_LINK_CHANGE);
    /* Writing the enable bit disables, and an empty port is not reset. */
    x_write(&rig, x_portsc(1), PORTSC_POWER | PORTSC_ENABLED);
    assert_false(x_read(&rig, x_portsc(1)) & PORTSC_ENABLED);
    x_write(&rig, x_portsc(3), PORTSC_POWER | PORTSC_RESET);
    assert_int_equal(x_read(&rig, x_portsc(3)), PORTSC_POWER | LINK_RX_DETECT << PORTSC_LINK_SHIFT);
}

static void no_more_devices_than_ports(void **state)
{
    struct usb_device *more[3];
    struct error err;

    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(usb_tablet_new(&more[i], "more", rig.input), 0);
    assert_int_equal(xhci_plug(rig.xhci, more[0], &err), 0);
    assert_int_equal(xhci_plug(rig.xhci, more[1], &err), 0);
    assert_int_equal(xhci_plug(rig.xhci, more[2], &err), -ENOSPC);
    for (unsigned i = 0; i < 3; i++)
        more[i]->dev.ops->destroy(&more[i]->dev);
}

static void one_port_event_until_its_changes_are_cleared(void **state)
{
    x_expect(&rig, TRB_PORT_EVENT, CODE_SUCCESS);
    x_expect(&rig, TRB_PORT_EVENT, CODE_SUCCESS);
    assert_true(x_op(&rig, USBSTS) & USBSTS_PORT_CHANGE);
    x_write(&rig, x_portsc(2), PORTSC_POWER | PORTSC_RESET);
    assert_false(x_event_waits(&rig));
    x_write(&rig, x_portsc(2), PORTSC_POWER | PORTSC_CHANGES);
    x_write(&rig, x_portsc(2), PORTSC_POWER | PORTSC_RESET);
    struct x_event event = x_event(&rig);
    assert_int_equal(event.parameter, 2 << 24);
}

static void microframes_are_counted(void **state)
{
    assert_int_equal(x_read(&rig, XHCI_RUNTIME + MFINDEX), 0);
    clock_advance(rig.clock, 125000 * 5);
    assert_int_equal(x_read(&rig, XHCI_RUNTIME + MFINDEX), 5);
}

/* ---- commands ---- */

static void slots_come_and_go(void **state)
{
    unsigned first = x_address(&rig, 1);
    unsigned second = x_address(&rig, 2);

    assert_int_equal(first, 1);
    assert_int_equal(second, 2);
    assert_int_equal(x_slot_state(&rig, 1), SLOT_ADDRESSED);
    assert_int_equal(guest_get(&rig.pci.mem, X_DEVICE + 0x2000 + 12, 1), 2);
    assert_int_equal(x_endpoint_state(&rig, 1, 1), ENDPOINT_RUNNING);
    for (unsigned slot = 3; slot <= 8; slot++)
        assert_int_equal(x_command(&rig, TRB_ENABLE_SLOT, 0, 0).slot, slot);
    assert_int_equal(x_code(&rig, TRB_ENABLE_SLOT, 0, 0), CODE_NO_SLOTS);
    assert_int_equal(x_code(&rig, TRB_DISABLE_SLOT, 0, x_of_slot(2, 0)), CODE_SUCCESS);
    assert_int_equal(x_slot_state(&rig, 2), SLOT_DISABLED);
    assert_int_equal(x_code(&rig, TRB_DISABLE_SLOT, 0, x_of_slot(2, 0)), CODE_SLOT_NOT_ENABLED);
    assert_int_equal(x_command(&rig, TRB_ENABLE_SLOT, 0, 0).slot, 2);
    assert_int_equal(x_code(&rig, TRB_NO_OP_COMMAND, 0, 0), CODE_SUCCESS);
    assert_int_equal(x_code(&rig, 24, 0, x_of_slot(1, 0)), CODE_TRB_ERROR);
    assert_int_equal(x_code(&rig, TRB_NORMAL, 0, 0), CODE_TRB_ERROR);
}

static void contexts_follow_configuration(void **state)
{
    unsigned slot = x_address(&rig, 1);

    assert_int_equal(x_code(&rig, TRB_STOP_ENDPOINT, 0, x_of_slot(slot, 3)),
                     CODE_ENDPOINT_NOT_ENABLED);
    x_configure(&rig, slot);
    assert_int_equal(x_slot_state(&rig, slot), SLOT_CONFIGURED);
    assert_int_equal(x_endpoint_state(&rig, slot, 3), ENDPOINT_RUNNING);
    assert_int_equal(x_code(&rig, TRB_ADDRESS_DEVICE, X_INPUT, x_of_slot(slot, 0)),
                     CODE_CONTEXT_STATE);
    assert_int_equal(x_code(&rig, TRB_RESET_ENDPOINT, 0, x_of_slot(slot, 3)), CODE_CONTEXT_STATE);
    assert_int_equal(x_code(&rig, TRB_SET_DEQUEUE, X_RINGS, x_of_slot(slot, 3)),
                     CODE_CONTEXT_STATE);
    assert_int_equal(x_code(&rig, TRB_STOP_ENDPOINT, 0, x_of_slot(slot, 3)), CODE_SUCCESS);
    assert_int_equal(x_endpoint_state(&rig, slot, 3), ENDPOINT_STOPPED);
    assert_int_equal(x_code(&rig, TRB_SET_DEQUEUE, X_RINGS + 0x101, x_of_slot(slot, 3)),
                     CODE_SUCCESS);
    assert_int_equal(guest_get(&rig.pci.mem, X_DEVICE + 0x1000 * slot + 32 * 3 + 8, 8),
                     X_RINGS + 0x101);
    assert_int_equal(x_code(&rig, TRB_CONFIGURE_ENDPOINT, 0, x_of_slot(slot, 0) | TRB_DECONFIGURE),
                     CODE_SUCCESS);
    assert_int_equal(x_slot_state(&rig, slot), SLOT_ADDRESSED);
    assert_int_equal(x_endpoint_state(&rig, slot, 3), ENDPOINT_DISABLED);
    assert_int_equal(x_code(&rig, TRB_RESET_DEVICE, 0, x_of_slot(slot, 0)), CODE_SUCCESS);
    assert_int_equal(x_slot_state(&rig, slot), SLOT_DEFAULT);
    assert_int_equal(x_code(&rig, TRB_RESET_DEVICE, 0, x_of_slot(slot, 0)), CODE_CONTEXT_STATE);
}

static void context_is_evaluated(void **state)
{
    unsigned slot = x_address(&rig, 1);

    guest_put(&rig.pci.mem, X_INPUT + 4, 3, 4);
    guest_put(&rig.pci.mem, X_INPUT + 36, 0x12345678, 4);
    guest_put(&rig.pci.mem, X_INPUT + 40, 0xffffffff, 4);
    guest_put(&rig.pci.mem, X_INPUT + 68, 0x00080000, 4);
    assert_int_equal(x_code(&rig, TRB_EVALUATE_CONTEXT, X_INPUT, x_of_slot(slot, 0)), CODE_SUCCESS);
    gpa_t context = X_DEVICE + 0x1000 * slot;
    assert_int_equal(guest_get(&rig.pci.mem, context + 4, 4), 0x00015678);
    assert_int_equal(guest_get(&rig.pci.mem, context + 8, 4), SLOT_TARGET_MASK);
    assert_int_equal(guest_get(&rig.pci.mem, context + 36, 4),
                     0x00080000 | ENDPOINT_CONTROL << ENDPOINT_TYPE_SHIFT);
}

static void impossible_contexts_are_refused(void **state)
{
    static const struct {
        unsigned dci, type;
        uint32_t word0;
    } bad[] = {
        {3, ENDPOINT_INVALID, 0},     {3, ENDPOINT_CONTROL, 0},       {3, 3 /* interrupt OUT */, 0},
        {2, 7 /* interrupt IN */, 0}, {3, 6, 1u << 10 /* streams */},
    };
    unsigned slot = x_address(&rig, 1);

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        guest_put(&rig.pci.mem, X_INPUT + 4, 1 | 1u << bad[i].dci, 4);
        guest_put(&rig.pci.mem, X_INPUT + 32 * (bad[i].dci + 1), bad[i].word0, 4);
        guest_put(&rig.pci.mem, X_INPUT + 32 * (bad[i].dci + 1) + 4,
                  bad[i].type << ENDPOINT_TYPE_SHIFT, 4);
        assert_int_equal(x_code(&rig, TRB_CONFIGURE_ENDPOINT, X_INPUT, x_of_slot(slot, 0)),
                         CODE_PARAMETER);
    }
    assert_int_equal(x_slot_state(&rig, slot), SLOT_ADDRESSED);

    /* A port without a device, one that is not enabled, a hub's port, no port at all. */
    static const uint32_t ports[] = {3, 2, 0, 9, 255};
    slot = x_command(&rig, TRB_ENABLE_SLOT, 0, 0).slot;
    guest_put(&rig.pci.mem, X_INPUT, 0, 4);
    guest_put(&rig.pci.mem, X_INPUT + 4, 3, 4);
    guest_put(&rig.pci.mem, X_INPUT + 68, ENDPOINT_CONTROL << ENDPOINT_TYPE_SHIFT, 4);
    for (unsigned i = 0; i < ARRAY_SIZE(ports); i++) {
        guest_put(&rig.pci.mem, X_INPUT + 36, ports[i] << SLOT_PORT_SHIFT, 4);
        assert_int_equal(x_code(&rig, TRB_ADDRESS_DEVICE, X_INPUT, x_of_slot(slot, 0)),
                         CODE_TRANSACTION_ERROR);
    }
    guest_put(&rig.pci.mem, X_INPUT + 4, 1, 4);
    assert_int_equal(x_code(&rig, TRB_ADDRESS_DEVICE, X_INPUT, x_of_slot(slot, 0)), CODE_PARAMETER);
}

static void command_ring_stops_when_told(void **state)
{
    x_drain(&rig);
    assert_int_equal(x_code(&rig, TRB_NO_OP_COMMAND, 0, 0), CODE_SUCCESS);
    assert_int_equal(x_op(&rig, CRCR), CRCR_RUNNING);
    x_op_write(&rig, CRCR, CRCR_ABORT);
    x_expect(&rig, TRB_COMMAND_EVENT, CODE_COMMAND_RING_STOPPED);
    assert_int_equal(x_op(&rig, CRCR), 0);
    /* It goes on where it is now told to. */
    rig.commands = (struct x_ring){X_COMMANDS + 0x800, 0, true};
    x_write64(&rig, XHCI_OPERATIONAL + CRCR, (X_COMMANDS + 0x800) | CRCR_CYCLE);
    assert_int_equal(x_code(&rig, TRB_NO_OP_COMMAND, 0, 0), CODE_SUCCESS);
}

/* ---- events and interrupts ---- */

static void full_event_ring_holds_the_others_back(void **state)
{
    unsigned taken = 0;

    /* Two ports' events are there. One slot stays free, and one is for saying that it is full. */
    for (unsigned i = 0; i < 2 * X_EVENT_COUNT; i++) {
        x_put(&rig, &rig.commands, 0, 0, TRB_NO_OP_COMMAND << TRB_TYPE_SHIFT);
        x_write(&rig, XHCI_DOORBELLS, 0);
        if (i == 12) /* as many as a ring of commands takes without being overtaken */
            break;
    }
    while (x_event_waits(&rig)) {
        x_event(&rig);
        taken++;
    }
    assert_int_equal(taken, X_EVENT_COUNT - 2);
    x_events_taken(&rig);
    while (x_event_waits(&rig)) {
        x_event(&rig);
        taken++;
    }
    assert_int_equal(taken, 2 + 13);
}

static void event_ring_of_two_segments(void **state)
{
    x_op_write(&rig, USBCMD, 0);
    guest_put(&rig.pci.mem, X_ERST + 16, X_EVENTS + 0x100, 8); /* right behind the first */
    guest_put(&rig.pci.mem, X_ERST + 24, 16, 8);
    x_write(&rig, x_interrupter(ERSTSZ), 2);
    x_write64(&rig, x_interrupter(ERDP), X_EVENTS);
    x_write64(&rig, x_interrupter(ERSTBA), X_ERST);
    x_op_write(&rig, USBCMD, USBCMD_RUN);
    rig.event_cycle = true;
    unsigned seen = rig.event = 0;
    for (unsigned i = 0; i < 100; i++) {
        x_put(&rig, &rig.commands, 0, 0, TRB_NO_OP_COMMAND << TRB_TYPE_SHIFT);
        x_write(&rig, XHCI_DOORBELLS, 0);
        gpa_t gpa = X_EVENTS + seen % 32 * TRB_SIZE;
        assert_int_equal(guest_get(&rig.pci.mem, gpa + 12, 4),
                         TRB_COMMAND_EVENT << TRB_TYPE_SHIFT | !(seen / 32 % 2));
        seen++;
        x_write64(&rig, x_interrupter(ERDP), (X_EVENTS + seen % 32 * TRB_SIZE) | ERDP_BUSY);
    }
}

static void message_comes_once_until_the_guest_has_looked(void **state)
{
    assert_int_equal(rig.pci.messages[0], 1); /* of the ports */
    x_put(&rig, &rig.commands, 0, 0, TRB_NO_OP_COMMAND << TRB_TYPE_SHIFT);
    x_write(&rig, XHCI_DOORBELLS, 0);
    assert_int_equal(rig.pci.messages[0], 1);
    assert_true(x_op(&rig, USBSTS) & USBSTS_EVENT);
    assert_false(x_read(&rig, x_interrupter(IMAN)) & IMAN_PENDING);
    x_expect(&rig, TRB_PORT_EVENT, CODE_SUCCESS); /* and two are left */
    assert_int_equal(rig.pci.messages[0], 2);
    x_event(&rig);
    x_event(&rig);
    x_events_taken(&rig);
    assert_int_equal(rig.pci.messages[0], 2);
    assert_int_equal(x_code(&rig, TRB_NO_OP_COMMAND, 0, 0), CODE_SUCCESS);
    assert_int_equal(rig.pci.messages[0], 3);
}

static void interrupts_are_moderated(void **state)
{
    x_expect(&rig, TRB_PORT_EVENT, CODE_SUCCESS);
    x_expect(&rig, TRB_PORT_EVENT, CODE_SUCCESS);
    x_write(&rig, x_interrupter(IMOD), 4000); /* a millisecond */
    unsigned before = rig.pci.messages[0];
    assert_int_equal(x_code(&rig, TRB_NO_OP_COMMAND, 0, 0), CODE_SUCCESS);
    assert_int_equal(rig.pci.messages[0], before + 1);
    x_put(&rig, &rig.commands, 0, 0, TRB_NO_OP_COMMAND << TRB_TYPE_SHIFT);
    x_write(&rig, XHCI_DOORBELLS, 0);
    assert_int_equal(rig.pci.messages[0], before + 1);
    clock_advance(rig.clock, 999999);
    assert_int_equal(rig.pci.messages[0], before + 1);
    clock_advance(rig.clock, 1);
    assert_int_equal(rig.pci.messages[0], before + 2);
}

static void wire_is_held_until_acknowledged(void **state)
{
    x_run(&rig); /* without messages */
    assert_true(rig.pci.intx);
    assert_int_equal(x_read(&rig, x_interrupter(IMAN)), IMAN_PENDING | IMAN_ENABLE);
    x_op_write(&rig, USBCMD, USBCMD_RUN);
    assert_false(rig.pci.intx);
    x_op_write(&rig, USBCMD, USBCMD_RUN | USBCMD_INTERRUPTS);
    assert_true(rig.pci.intx);
    x_write(&rig, x_interrupter(IMAN), IMAN_PENDING | IMAN_ENABLE);
    assert_false(rig.pci.intx);
}

/* ---- hostile ---- */

/* An input of the guest's that lies in no memory halts the controller. */
static void assert_host_system_error(void)
{
    assert_int_equal(x_op(&rig, USBSTS) & (USBSTS_HALTED | USBSTS_HOST_ERROR),
                     USBSTS_HALTED | USBSTS_HOST_ERROR);
    x_op_write(&rig, USBCMD, USBCMD_RUN);
    assert_false(x_op(&rig, USBCMD) & USBCMD_RUN);
    x_op_write(&rig, USBCMD, USBCMD_RESET);
    assert_int_equal(x_op(&rig, USBSTS), USBSTS_HALTED);
}

static void rings_in_no_memory(void **state)
{
    static const uint64_t nowhere[] = {RIG_RAM, 0xfffffffffffffff0, 0x8000000000000000, 0xe0000000};

    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
        x_run(&rig);
        x_op_write(&rig, CRCR, CRCR_STOP);
        x_write64(&rig, XHCI_OPERATIONAL + CRCR, nowhere[i] & ~0x3full);
        x_write(&rig, XHCI_DOORBELLS, 0);
        assert_host_system_error();

        x_run(&rig);
        unsigned slot = x_address(&rig, 1);
        x_configure(&rig, slot);
        x_code(&rig, TRB_STOP_ENDPOINT, 0, x_of_slot(slot, 3));
        x_code(&rig, TRB_SET_DEQUEUE, nowhere[i] | 1, x_of_slot(slot, 3));
        x_write(&rig, XHCI_DOORBELLS + 4 * slot, 3);
        assert_host_system_error();

        x_run(&rig);
        slot = x_address(&rig, 1);
        x_configure(&rig, slot);
        x_put(&rig, &rig.ring[slot][3], nowhere[i], 8, TRB_NORMAL << TRB_TYPE_SHIFT);
        x_write(&rig, XHCI_DOORBELLS + 4 * slot, 3);
        input_place(rig.input, i, 77, 0, 0);
        assert_host_system_error();

        x_run(&rig);
        x_write64(&rig, x_interrupter(ERSTBA), nowhere[i]);
        x_write(&rig, XHCI_DOORBELLS, 0);
        assert_host_system_error();

        x_run(&rig);
        guest_put(&rig.pci.mem, X_ERST, nowhere[i], 8);
        x_write64(&rig, x_interrupter(ERSTBA), X_ERST);
        x_put(&rig, &rig.commands, 0, 0, TRB_NO_OP_COMMAND << TRB_TYPE_SHIFT);
        x_write(&rig, XHCI_DOORBELLS, 0);
        assert_host_system_error();

        x_run(&rig);
        x_address(&rig, 1);
        x_put(&rig, &rig.commands, nowhere[i], 0,
              TRB_EVALUATE_CONTEXT << TRB_TYPE_SHIFT | x_of_slot(1, 0));
        x_write(&rig, XHCI_DOORBELLS, 0);
        assert_host_system_error();
    }
}

static void links_that_lead_nowhere(void **state)
{
    unsigned slot = x_address(&rig, 1);
    gpa_t loop = X_RINGS + 0x7000;

    x_configure(&rig, slot);
    guest_put(&rig.pci.mem, loop, loop, 8);
    guest_put(&rig.pci.mem, loop + 8, 0, 4);
    guest_put(&rig.pci.mem, loop + 12, TRB_LINK << TRB_TYPE_SHIFT | TRB_CYCLE, 4);
    assert_int_equal(x_code(&rig, TRB_STOP_ENDPOINT, 0, x_of_slot(slot, 3)), CODE_SUCCESS);
    assert_int_equal(x_code(&rig, TRB_SET_DEQUEUE, loop | 1, x_of_slot(slot, 3)), CODE_SUCCESS);
    x_write(&rig, XHCI_DOORBELLS + 4 * slot, 3);
    x_expect(&rig, TRB_TRANSFER_EVENT, CODE_TRB_ERROR);
    assert_int_equal(x_endpoint_state(&rig, slot, 3), ENDPOINT_ERROR);

    x_op_write(&rig, CRCR, CRCR_STOP);
    x_expect(&rig, TRB_COMMAND_EVENT, CODE_COMMAND_RING_STOPPED);
    x_write64(&rig, XHCI_OPERATIONAL + CRCR, loop | CRCR_CYCLE);
    x_write(&rig, XHCI_DOORBELLS, 0);
    x_expect(&rig, TRB_COMMAND_EVENT, CODE_TRB_ERROR);
    assert_int_equal(x_op(&rig, CRCR), 0);
}

/* A ring without an end, whose TRBs are always the controller's and cause no events. */
static void ring_that_never_ends(void **state)
{
    unsigned slot = x_address(&rig, 1);
    gpa_t ring = X_RINGS + 0x7000;

    x_configure(&rig, slot);
    guest_put(&rig.pci.mem, ring + 12, TRB_NO_OP << TRB_TYPE_SHIFT | TRB_CYCLE, 4);
    guest_put(&rig.pci.mem, ring + 16, ring, 8);
    guest_put(&rig.pci.mem, ring + 28, TRB_LINK << TRB_TYPE_SHIFT | TRB_CYCLE, 4);
    assert_int_equal(x_code(&rig, TRB_STOP_ENDPOINT, 0, x_of_slot(slot, 3)), CODE_SUCCESS);
    assert_int_equal(x_code(&rig, TRB_SET_DEQUEUE, ring | 1, x_of_slot(slot, 3)), CODE_SUCCESS);
    x_write(&rig, XHCI_DOORBELLS + 4 * slot, 3);
    assert_false(x_event_waits(&rig));
    assert_int_equal(x_endpoint_state(&rig, slot, 3), ENDPOINT_RUNNING);

    /* The same chained is one descriptor without an end. */
    guest_put(&rig.pci.mem, ring + 12, TRB_NO_OP << TRB_TYPE_SHIFT | TRB_CHAIN | TRB_CYCLE, 4);
    x_write(&rig, XHCI_DOORBELLS + 4 * slot, 3);
    x_expect(&rig, TRB_TRANSFER_EVENT, CODE_TRB_ERROR);
}

static void event_rings_of_any_size(void **state)
{
    static const uint32_t sizes[] = {0, 1, 15, 4097, 0xffff, 0xffffffff};

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        guest_put(&rig.pci.mem, X_ERST + 8, sizes[i], 4);
        x_write64(&rig, x_interrupter(ERSTBA), X_ERST);
        x_put(&rig, &rig.commands, 0, 0, TRB_NO_OP_COMMAND << TRB_TYPE_SHIFT);
        x_write(&rig, XHCI_DOORBELLS, 0);
    }
    /* All of them when there is a ring at last. */
    memset(memory_host(&rig.pci.mem, X_EVENTS, 0x1000, true), 0, 0x1000);
    guest_put(&rig.pci.mem, X_ERST + 8, X_EVENT_COUNT, 4);
    rig.event = 0;
    x_write64(&rig, x_interrupter(ERSTBA), X_ERST);
    x_write64(&rig, x_interrupter(ERDP), X_EVENTS);
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        assert_int_equal(x_event(&rig).type, TRB_COMMAND_EVENT);
    }
    assert_false(x_event_waits(&rig));
}

static void any_register_takes_any_value(void **state)
{
    uint32_t random = 1;

    x_address(&rig, 1);
    for (unsigned i = 0; i < 200000; i++) {
        random = random * 1664525 + 1013904223;
        unsigned offset = (random >> 8) % (XHCI_BAR_SIZE / 4) * 4;
        if (i % 2)
            offset %= 0x600;
        random = random * 1664525 + 1013904223;
        x_write(&rig, offset, i % 3 ? random : random & 0x30fff0);
        x_read(&rig, offset);
    }
    x_op_write(&rig, USBCMD, USBCMD_RESET);
    x_run(&rig);
    assert_int_equal(x_address(&rig, 1), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define R(name) cmocka_unit_test_setup_teardown(name, setup_running, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(capabilities_are_consistent),
        T(ports_show_what_is_plugged_in),
        T(no_more_devices_than_ports),
        R(one_port_event_until_its_changes_are_cleared),
        T(microframes_are_counted),
        R(slots_come_and_go),
        R(contexts_follow_configuration),
        R(context_is_evaluated),
        R(impossible_contexts_are_refused),
        R(command_ring_stops_when_told),
        R(full_event_ring_holds_the_others_back),
        R(event_ring_of_two_segments),
        R(message_comes_once_until_the_guest_has_looked),
        R(interrupts_are_moderated),
        T(wire_is_held_until_acknowledged),
        R(rings_in_no_memory),
        R(links_that_lead_nowhere),
        R(ring_that_never_ends),
        R(event_rings_of_any_size),
        R(any_register_takes_any_value),
    };
    return cmocka_run_group_tests_name("xhci", tests, NULL, NULL);
}
