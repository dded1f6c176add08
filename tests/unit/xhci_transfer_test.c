/*
 * Transfers of the xHCI controller: control transfers, reports of the tablet and the keyboard, who
 * gets what is typed, and what becomes of a transfer that waits.
 */
#include "xhci_rig.h"

#include "state_rig.h"

static struct xhci_rig rig;

static int setup(void **state)
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

static struct device *controller(void)
{
    return xhci_device(rig.xhci);
}

/* ---- transfers ---- */

static void control_transfers_reach_the_device(void **state)
{
    unsigned slot = x_address(&rig, 1), length;

    assert_int_equal(
        x_control(&rig, slot, X_SETUP(0x80, USB_GET_DESCRIPTOR, 0x0100, 0, 18), &length),
        CODE_SUCCESS);
    assert_int_equal(guest_get(&rig.pci.mem, X_BUFFER, 4), 0x02000112);
    /* More is asked for than there is. */
    assert_int_equal(
        x_control(&rig, slot, X_SETUP(0x80, USB_GET_DESCRIPTOR, 0x0200, 0, 255), &length),
        CODE_SUCCESS);
    assert_int_equal(length, 34);
    assert_int_equal(guest_get(&rig.pci.mem, X_BUFFER + 2, 2), 34);
    x_configure(&rig, slot);
    assert_int_equal(x_control(&rig, slot, X_SETUP(0x80, USB_GET_CONFIGURATION, 0, 0, 1), &length),
                     CODE_SUCCESS);
    assert_int_equal(guest_get(&rig.pci.mem, X_BUFFER, 1), 1);
}

static void data_goes_to_the_device(void **state)
{
    unsigned slot = x_address(&rig, 2), length;

    x_configure(&rig, slot);
    guest_put(&rig.pci.mem, X_BUFFER, 0x02, 1);
    assert_int_equal(x_control(&rig, slot, X_SETUP(0x21, 0x09, 0x0200, 0, 1), &length),
                     CODE_SUCCESS); /* SET_REPORT: the lights */
    assert_int_equal(x_control(&rig, slot, X_SETUP(0x21, 0x09, 0x0200, 0, 300), &length),
                     CODE_STALL);
}

static void refused_request_halts_until_the_endpoint_is_reset(void **state)
{
    unsigned slot = x_address(&rig, 1), length;

    assert_int_equal(
        x_control(&rig, slot, X_SETUP(0x80, USB_GET_DESCRIPTOR, 0x0600, 0, 10), &length),
        CODE_STALL);
    assert_int_equal(x_endpoint_state(&rig, slot, 1), ENDPOINT_HALTED);
    x_write(&rig, XHCI_DOORBELLS + 4 * slot, 1);
    assert_false(x_event_waits(&rig));
    assert_int_equal(x_code(&rig, TRB_RESET_ENDPOINT, 0, x_of_slot(slot, 1)), CODE_SUCCESS);
    struct x_ring *ring = &rig.ring[slot][1];
    assert_int_equal(x_code(&rig, TRB_SET_DEQUEUE, (ring->base + 16 * ring->at) | ring->cycle,
                            x_of_slot(slot, 1)),
                     CODE_SUCCESS);
    assert_int_equal(
        x_control(&rig, slot, X_SETUP(0x80, USB_GET_DESCRIPTOR, 0x0100, 0, 18), &length),
        CODE_SUCCESS);
}

static void stages_out_of_order_are_an_error(void **state)
{
    static const struct {
        unsigned type;
        uint32_t flags, length;
    } bad[] = {
        {TRB_STATUS, TRB_IN, 0}, {TRB_DATA, TRB_IN, 8},         {TRB_NORMAL, 0, 8},
        {TRB_SETUP, 0, 8},       {TRB_SETUP, TRB_IMMEDIATE, 7}, {TRB_ENABLE_SLOT, 0, 0},
    };
    unsigned slot = x_address(&rig, 1);

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct x_ring *ring = &rig.ring[slot][1];
        x_put(&rig, ring, X_BUFFER, bad[i].length, bad[i].type << TRB_TYPE_SHIFT | bad[i].flags);
        x_write(&rig, XHCI_DOORBELLS + 4 * slot, 1);
        x_expect(&rig, TRB_TRANSFER_EVENT, CODE_TRB_ERROR);
        assert_int_equal(x_endpoint_state(&rig, slot, 1), ENDPOINT_ERROR);
        assert_int_equal(x_code(&rig, TRB_SET_DEQUEUE, (ring->base + 16 * ring->at) | ring->cycle,
                                x_of_slot(slot, 1)),
                         CODE_SUCCESS);
    }
}

static void report_completes_the_transfer_that_waits(void **state)
{
    unsigned slot = x_address(&rig, 1);

    x_configure(&rig, slot);
    gpa_t gpa = x_queue(&rig, slot, 8);
    assert_false(x_event_waits(&rig));
    input_place(rig.input, 0x1234, 0x5678, 0, INPUT_RIGHT);
    struct x_event event = x_event(&rig);
    assert_int_equal(event.type, TRB_TRANSFER_EVENT);
    assert_int_equal(event.code, CODE_SHORT_PACKET);
    assert_int_equal(event.length, 2);
    assert_int_equal(event.parameter, gpa);
    assert_int_equal(event.endpoint, 3);
    assert_int_equal(guest_get(&rig.pci.mem, X_BUFFER, 6), 0x005678123402);
    assert_false(x_event_waits(&rig));
}

static void reports_wait_for_transfers(void **state)
{
    unsigned slot = x_address(&rig, 1);

    x_configure(&rig, slot);
    x_queue(&rig, slot, 6);
    input_place(rig.input, 1, 1, 0, 0);
    input_place(rig.input, 2, 2, 0, INPUT_LEFT);
    input_place(rig.input, 3, 3, 0, 0);
    x_expect(&rig, TRB_TRANSFER_EVENT, CODE_SUCCESS);
    for (unsigned i = 2; i <= 3; i++) {
        x_queue(&rig, slot, 6);
        x_expect(&rig, TRB_TRANSFER_EVENT, CODE_SUCCESS);
        assert_int_equal(guest_get(&rig.pci.mem, X_BUFFER + 1, 2), i);
        assert_int_equal(guest_get(&rig.pci.mem, X_BUFFER, 1), i == 2);
    }
    x_queue(&rig, slot, 6);
    assert_false(x_event_waits(&rig));
}

static void chained_buffers_and_event_data(void **state)
{
    unsigned slot = x_address(&rig, 1);
    struct x_ring *ring = &rig.ring[slot][3];

    x_configure(&rig, slot);
    x_put(&rig, ring, X_BUFFER, 2, TRB_NORMAL << TRB_TYPE_SHIFT | TRB_CHAIN);
    gpa_t second = x_put(&rig, ring, X_BUFFER + 0x100, 20,
                         TRB_NORMAL << TRB_TYPE_SHIFT | TRB_CHAIN | TRB_SHORT_INTERRUPT);
    x_put(&rig, ring, X_BUFFER + 0x200, 20, TRB_NORMAL << TRB_TYPE_SHIFT | TRB_CHAIN);
    x_write(&rig, XHCI_DOORBELLS + 4 * slot, 3);
    input_place(rig.input, 0x0304, 0x0506, 0, INPUT_LEFT);
    assert_false(x_event_waits(&rig)); /* the rest is not there yet */
    x_put(&rig, ring, 0xfeedface12345678, 0, TRB_EVENT_DATA_TYPE << TRB_TYPE_SHIFT | TRB_INTERRUPT);
    x_write(&rig, XHCI_DOORBELLS + 4 * slot, 3);

    struct x_event event = x_event(&rig);
    assert_int_equal(event.parameter, second);
    assert_int_equal(event.code, CODE_SHORT_PACKET);
    assert_int_equal(event.length, 16);
    event = x_event(&rig);
    assert_true(event.data);
    assert_int_equal(event.parameter, 0xfeedface12345678);
    assert_int_equal(event.code, CODE_SHORT_PACKET);
    assert_int_equal(event.length, 6);
    assert_false(x_event_waits(&rig));
    assert_int_equal(guest_get(&rig.pci.mem, X_BUFFER, 2), 0x0401);
    assert_int_equal(guest_get(&rig.pci.mem, X_BUFFER + 0x100, 4), 0x00050603);
}

static void stopping_tells_where_it_was(void **state)
{
    unsigned slot = x_address(&rig, 1);

    x_configure(&rig, slot);
    gpa_t gpa = x_queue(&rig, slot, 8);
    x_put(&rig, &rig.commands, 0, 0, TRB_STOP_ENDPOINT << TRB_TYPE_SHIFT | x_of_slot(slot, 3));
    x_write(&rig, XHCI_DOORBELLS, 0);
    struct x_event event = x_event(&rig);
    assert_int_equal(event.type, TRB_TRANSFER_EVENT);
    assert_int_equal(event.code, CODE_STOPPED);
    assert_int_equal(event.parameter, gpa);
    assert_int_equal(event.length, 8);
    x_expect(&rig, TRB_COMMAND_EVENT, CODE_SUCCESS);
    input_place(rig.input, 1, 2, 0, 0);
    assert_false(x_event_waits(&rig));
    /* The doorbell starts it again. */
    x_write(&rig, XHCI_DOORBELLS + 4 * slot, 3);
    input_place(rig.input, 3, 4, 0, 0);
    x_expect(&rig, TRB_TRANSFER_EVENT, CODE_SHORT_PACKET);
}

static void disabled_port_is_a_transaction_error(void **state)
{
    unsigned slot = x_address(&rig, 1);

    x_configure(&rig, slot);
    x_write(&rig, x_portsc(1), PORTSC_POWER | PORTSC_ENABLED);
    x_queue(&rig, slot, 8);
    x_expect(&rig, TRB_TRANSFER_EVENT, CODE_TRANSACTION_ERROR);
    assert_int_equal(x_endpoint_state(&rig, slot, 3), ENDPOINT_HALTED);
}

/* ---- the tablet's and the keyboard's place among others ---- */

static void input_goes_to_who_is_listened_to(void **state)
{
    unsigned tablet = x_address(&rig, 1), keyboard = x_address(&rig, 2);

    x_configure(&rig, tablet);
    x_configure(&rig, keyboard);
    x_queue(&rig, tablet, 8);
    input_key(rig.input, 0x1e, true); /* nobody waits for keys */
    input_key(rig.input, 0x1e, false);
    assert_false(x_event_waits(&rig));
    x_queue(&rig, keyboard, 8);
    assert_false(x_event_waits(&rig));
    input_key(rig.input, 0x1e, true);
    assert_true(input_keys_taken(rig.input));
    x_expect(&rig, TRB_TRANSFER_EVENT, CODE_SUCCESS);
    assert_int_equal(guest_get(&rig.pci.mem, X_BUFFER, 8), 0x0000000000040000);
    input_key(rig.input, 0x1e, false);
    assert_false(input_keys_taken(rig.input));
    /* A controller that stands listens to nobody. */
    x_op_write(&rig, USBCMD, 0);
    input_key(rig.input, 0x30, true);
    x_op_write(&rig, USBCMD, USBCMD_RUN | USBCMD_INTERRUPTS);
    x_queue(&rig, keyboard, 8);
    x_expect(&rig, TRB_TRANSFER_EVENT, CODE_SUCCESS);
    assert_int_equal(guest_get(&rig.pci.mem, X_BUFFER, 8), 0);
    x_queue(&rig, keyboard, 8);
    assert_false(x_event_waits(&rig));
}

#define MOVES 2000

static void *move(void *unused)
{
    for (unsigned i = 1; i <= MOVES; i++)
        input_place(rig.input, i, i, 0, i % 2 ? INPUT_LEFT : 0);
    return NULL;
}

/* While the guest rings, looks at registers and the VM pauses. */
static void input_comes_on_a_thread_of_its_own(void **state)
{
    unsigned slot = x_address(&rig, 1), events = 0;
    pthread_t thread;

    x_configure(&rig, slot);
    for (unsigned i = 0; i < X_RING_TRBS - 2; i++)
        x_put(&rig, &rig.ring[slot][3], X_BUFFER + 8 * i, 6, TRB_NORMAL << TRB_TYPE_SHIFT);
    x_put(&rig, &rig.ring[slot][3], X_BUFFER + 8 * (X_RING_TRBS - 2), 6,
          TRB_NORMAL << TRB_TYPE_SHIFT | TRB_INTERRUPT);
    x_write(&rig, XHCI_DOORBELLS + 4 * slot, 3);
    assert_int_equal(pthread_create(&thread, NULL, move, NULL), 0);
    for (unsigned i = 0; i < MOVES / 10; i++) {
        x_write(&rig, XHCI_DOORBELLS + 4 * slot, 3);
        x_read(&rig, x_portsc(1));
        controller()->ops->pause(controller());
        controller()->ops->resume(controller());
    }
    pthread_join(thread, NULL);
    /* Each buffer has another report. */
    for (unsigned i = 1; i < X_RING_TRBS - 1; i++)
        assert_int_not_equal(guest_get(&rig.pci.mem, X_BUFFER + 8 * i, 6),
                             guest_get(&rig.pci.mem, X_BUFFER + 8 * (i - 1), 6));
    for (; x_event_waits(&rig); events++)
        assert_int_equal(x_event(&rig).code, CODE_SUCCESS);
    assert_int_equal(events, 1);
}

/* ---- life ---- */

static void nothing_moves_while_paused_or_off_the_bus(void **state)
{
    unsigned slot = x_address(&rig, 1);

    x_configure(&rig, slot);
    x_queue(&rig, slot, 8);
    controller()->ops->pause(controller());
    input_place(rig.input, 7, 7, 0, 0);
    assert_false(x_event_waits(&rig));
    controller()->ops->resume(controller());
    x_expect(&rig, TRB_TRANSFER_EVENT, CODE_SHORT_PACKET);

    x_queue(&rig, slot, 8);
    rig_cfg_write(&rig.pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    input_place(rig.input, 8, 8, 0, 0);
    assert_false(x_event_waits(&rig));
    rig_cfg_write(&rig.pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    x_expect(&rig, TRB_TRANSFER_EVENT, CODE_SHORT_PACKET);
}

static void reset_takes_everything_back(void **state)
{
    unsigned slot = x_address(&rig, 1);

    x_configure(&rig, slot);
    x_op_write(&rig, USBCMD, USBCMD_RESET);
    assert_int_equal(x_op(&rig, USBCMD), 0);
    assert_int_equal(x_op(&rig, USBSTS), USBSTS_HALTED);
    assert_int_equal(x_op(&rig, CONFIG), 0);
    assert_int_equal(x_read(&rig, x_interrupter(ERSTSZ)), 0);
    assert_int_equal(x_read(&rig, x_portsc(1)) & PORTSC_LINK, LINK_POLLING << PORTSC_LINK_SHIFT);
    assert_int_equal(rig.tablet->configuration, 0);
    /* What was saved is gone: the driver is told. */
    x_op_write(&rig, USBCMD, USBCMD_RESTORE);
    assert_int_equal(x_op(&rig, USBSTS), USBSTS_HALTED | USBSTS_RESTORE_ERROR);
}

static void check_controller(struct device *tablet)
{
    rig_check_state(controller());
}

/* A reset of the controller is one of its devices too. */
static void transfer_that_waits_outlives_save_and_restore(void **state)
{
    unsigned slot = x_address(&rig, 1);

    x_configure(&rig, slot);
    x_queue(&rig, slot, 8);
    controller()->ops->pause(controller());
    input_place(rig.input, 0x11, 0x22, 1, 0); /* comes before the state is taken */
    rig_save_and_restore(&rig.tablet->dev, check_controller);
    controller()->ops->resume(controller());
    x_expect(&rig, TRB_TRANSFER_EVENT, CODE_SHORT_PACKET);
    assert_int_equal(guest_get(&rig.pci.mem, X_BUFFER, 6), 0xff0022001100);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(control_transfers_reach_the_device),
        T(data_goes_to_the_device),
        T(refused_request_halts_until_the_endpoint_is_reset),
        T(stages_out_of_order_are_an_error),
        T(report_completes_the_transfer_that_waits),
        T(reports_wait_for_transfers),
        T(chained_buffers_and_event_data),
        T(stopping_tells_where_it_was),
        T(disabled_port_is_a_transaction_error),
        T(input_goes_to_who_is_listened_to),
        T(input_comes_on_a_thread_of_its_own),
        T(nothing_moves_while_paused_or_off_the_bus),
        T(reset_takes_everything_back),
        T(transfer_that_waits_outlives_save_and_restore),
    };
    return cmocka_run_group_tests_name("xhci_transfer", tests, NULL, NULL);
}
