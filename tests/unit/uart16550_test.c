/* The 16550A serial port as drivers see it: data, FIFOs, interrupts, loopback, flow control. */
#include "device_rig.h"

#include "dev/legacy/uart16550.h"

#define PORT 0x3f8
#define DATA (PORT + 0)
#define IER (PORT + 1)
#define IIR (PORT + 2)
#define FCR (PORT + 2)
#define LCR (PORT + 3)
#define MCR (PORT + 4)
#define LSR (PORT + 5)
#define MSR (PORT + 6)
#define SCR (PORT + 7)

#define MCR_OUT2 0x08
#define LSR_TRANSMITTER_EMPTY 0x60

struct fixture {
    struct device_rig rig;
    struct uart16550 *uart;
    struct char_backend backend;
    char sent[64];
    size_t sent_length;
    size_t room;       /* how much output the back end takes */
    unsigned wake_ups; /* input_ready() calls */
};

static size_t backend_write(void *opaque, const uint8_t *data, size_t length)
{
    struct fixture *f = opaque;

    if (length > f->room)
        length = f->room;
    f->room -= length;
    memcpy(f->sent + f->sent_length, data, length);
    f->sent_length += length;
    return length;
}

static void backend_input_ready(void *opaque)
{
    struct fixture *f = opaque;

    f->wake_ups++;
}

static const struct char_backend_ops backend_ops = {
    .write = backend_write,
    .input_ready = backend_input_ready,
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct irq_line irq;

    rig_init(&f->rig);
    irq = rig_line(&f->rig, 4);
    f->room = sizeof(f->sent);
    f->backend = (struct char_backend){.ops = &backend_ops, .opaque = f};
    assert_int_equal(uart16550_new(&f->uart, "serial0", f->rig.clock, &irq, &f->backend), 0);
    assert_int_equal(uart16550_attach(f->uart, &f->rig.bus, PORT, NULL), 0);
    struct device *device = uart16550_device(f->uart);
    assert_int_equal(device->ops->start(device, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct device *device = uart16550_device(f->uart);

    device->ops->destroy(device);
    rig_done(&f->rig);
    free(f);
    return 0;
}

/* Input as a back end brings it: as much as the device takes. */
static size_t type(struct fixture *f, const char *text)
{
    size_t length = strlen(text);
    size_t room = f->backend.frontend->can_receive(f->uart);

    if (length > room)
        length = room;
    if (length)
        f->backend.frontend->receive(f->uart, (const uint8_t *)text, length);
    return length;
}

static void writes_reach_the_back_end(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, DATA, 'h');
    outb(&f->rig, DATA, 'i');
    assert_int_equal(f->sent_length, 2);
    assert_memory_equal(f->sent, "hi", 2);
    assert_int_equal(inb(&f->rig, LSR), LSR_TRANSMITTER_EMPTY);
}

static void a_full_back_end_makes_the_transmitter_busy_and_loses_nothing(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, FCR, 0x01);
    outb(&f->rig, IER, 0x02);
    outb(&f->rig, MCR, MCR_OUT2);
    f->room = 1;
    inb(&f->rig, IIR);
    outb(&f->rig, DATA, 'a');
    outb(&f->rig, DATA, 'b');
    outb(&f->rig, DATA, 'c');
    assert_int_equal(inb(&f->rig, LSR), 0);
    assert_false(f->rig.level[4]);
    f->room = 8;
    f->backend.frontend->writable(f->uart);
    assert_memory_equal(f->sent, "abc", 3);
    assert_int_equal(inb(&f->rig, LSR), LSR_TRANSMITTER_EMPTY);
    assert_true(f->rig.level[4]);
}

static void received_bytes_are_read_in_order(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, FCR, 0x01);
    assert_int_equal(type(f, "xyz"), 3);
    assert_int_equal(inb(&f->rig, LSR) & 1, 1);
    assert_int_equal(inb(&f->rig, DATA), 'x');
    assert_int_equal(inb(&f->rig, DATA), 'y');
    assert_int_equal(inb(&f->rig, DATA), 'z');
    assert_int_equal(inb(&f->rig, LSR) & 1, 0);
}

static void input_is_held_back_while_there_is_no_room(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(type(f, "ab"), 1); /* no FIFO: one byte */
    assert_int_equal(type(f, "b"), 0);
    assert_int_equal(f->wake_ups, 0);
    assert_int_equal(inb(&f->rig, DATA), 'a');
    assert_int_equal(f->wake_ups, 1);

    outb(&f->rig, FCR, 0x01);
    assert_int_equal(type(f, "0123456789abcdefgh"), 16);
    assert_int_equal(type(f, "g"), 0);
    for (int i = 0; i < 16; i++)
        assert_int_equal(inb(&f->rig, DATA), "0123456789abcdef"[i]);
    assert_int_equal(f->wake_ups, 2);
}

static void nothing_comes_in_while_paused(void **state)
{
    struct fixture *f = *state;
    struct device *device = uart16550_device(f->uart);

    device->ops->pause(device);
    assert_int_equal(type(f, "a"), 0);
    device->ops->resume(device);
    assert_int_equal(f->wake_ups, 1);
    assert_int_equal(type(f, "a"), 1);
}

static void interrupts_come_in_order_of_priority(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, MCR, MCR_OUT2);
    outb(&f->rig, IER, 0x0f);
    /* "THR empty" as soon as it is enabled, once. */
    assert_int_equal(inb(&f->rig, IIR), 0x02);
    assert_int_equal(inb(&f->rig, IIR), 0x01);
    assert_false(f->rig.level[4]);

    /* Loopback makes an overrun, received data, an empty THR and a modem change at once. */
    outb(&f->rig, MCR, 0x10);
    outb(&f->rig, DATA, 'a');
    outb(&f->rig, DATA, 'b');
    assert_int_equal(inb(&f->rig, IIR), 0x06);
    assert_int_equal(inb(&f->rig, LSR), 0x63);
    assert_int_equal(inb(&f->rig, IIR), 0x04);
    assert_int_equal(inb(&f->rig, DATA), 'a');
    assert_int_equal(inb(&f->rig, IIR), 0x02);
    assert_int_equal(inb(&f->rig, IIR), 0x00);
    assert_int_equal(inb(&f->rig, MSR) & 0x0f, 0x0b);
    assert_int_equal(inb(&f->rig, IIR), 0x01);
}

static void each_byte_sent_gives_a_new_edge(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, MCR, MCR_OUT2);
    outb(&f->rig, IER, 0x02);
    assert_int_equal(f->rig.rises[4], 1);
    outb(&f->rig, DATA, 'a');
    assert_int_equal(f->rig.rises[4], 2);
    inb(&f->rig, IIR);
    assert_false(f->rig.level[4]);
    outb(&f->rig, DATA, 'b');
    assert_int_equal(f->rig.rises[4], 3);
}

static void out2_gates_the_interrupt(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, IER, 0x01);
    type(f, "a");
    assert_false(f->rig.level[4]);
    outb(&f->rig, MCR, MCR_OUT2);
    assert_true(f->rig.level[4]);
}

static void the_trigger_level_and_the_time_out_interrupt(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, LCR, 0x83);
    outw(&f->rig, DATA, 1); /* 115200 */
    outb(&f->rig, LCR, 0x03);
    outb(&f->rig, FCR, 0x81); /* trigger at 8 */
    outb(&f->rig, IER, 0x01);
    outb(&f->rig, MCR, MCR_OUT2);
    type(f, "1234567");
    assert_int_equal(inb(&f->rig, IIR), 0xc1);
    /* Four characters of ten bits at 115200 bit/s: 347 us. */
    clock_advance(f->rig.clock, 347000);
    assert_int_equal(inb(&f->rig, IIR), 0xc1);
    clock_advance(f->rig.clock, 1000);
    assert_int_equal(inb(&f->rig, IIR), 0xcc);
    type(f, "8"); /* brings the FIFO to its level */
    assert_int_equal(inb(&f->rig, IIR), 0xc4);
    inb(&f->rig, DATA); /* ends the time-out, and starts the next */
    assert_int_equal(inb(&f->rig, IIR), 0xc1);
    type(f, "9");
    assert_int_equal(inb(&f->rig, IIR), 0xc4);
    inb(&f->rig, DATA);
    assert_int_equal(inb(&f->rig, IIR), 0xc1);
    outb(&f->rig, FCR, 0x83); /* clears the FIFO, and with it the time-out */
    clock_advance(f->rig.clock, 10000000);
    assert_int_equal(inb(&f->rig, IIR), 0xc1);
}

static void loopback_connects_the_modem_lines(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(inb(&f->rig, MSR), 0xb0);
    outb(&f->rig, MCR, 0x10);
    assert_int_equal(inb(&f->rig, MSR), 0x0b);
    outb(&f->rig, MCR, 0x1f);
    assert_int_equal(inb(&f->rig, MSR), 0xfb);
    outb(&f->rig, MCR, 0x1b);
    assert_int_equal(inb(&f->rig, MSR), 0xb4); /* ring ended */
    outb(&f->rig, DATA, 'q');
    assert_int_equal(f->sent_length, 0);
    assert_int_equal(inb(&f->rig, DATA), 'q');
    assert_int_equal(type(f, "a"), 0);
    outb(&f->rig, MCR, 0);
    assert_int_equal(type(f, "a"), 1);
}

static void registers_hold_what_was_written(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, SCR, 0x5a);
    assert_int_equal(inb(&f->rig, SCR), 0x5a);
    outb(&f->rig, LCR, 0x9b);
    outb(&f->rig, DATA, 0x34);
    outb(&f->rig, IER, 0x12);
    assert_int_equal(inb(&f->rig, DATA), 0x34);
    assert_int_equal(inb(&f->rig, IER), 0x12);
    assert_int_equal(inb(&f->rig, LCR), 0x9b);
    outb(&f->rig, LCR, 0x1b);
    outb(&f->rig, IER, 0xff);
    assert_int_equal(inb(&f->rig, IER), 0x0f);
    outb(&f->rig, MCR, 0xff);
    assert_int_equal(inb(&f->rig, MCR), 0x1f);
    outb(&f->rig, FCR, 0xc0); /* ignored without bit 0 */
    assert_int_equal(inb(&f->rig, IIR) & 0xc0, 0);
}

static void state_survives_save_and_restore(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, FCR, 0xc1);
    outb(&f->rig, IER, 0x01);
    outb(&f->rig, MCR, MCR_OUT2);
    f->room = 0;
    outb(&f->rig, DATA, 'x');
    type(f, "ab");
    rig_check_state(uart16550_device(f->uart));
    assert_int_equal(inb(&f->rig, IIR), 0xc1);
    clock_advance(f->rig.clock, NS_PER_SEC);
    assert_int_equal(inb(&f->rig, IIR), 0xcc);
    assert_int_equal(inb(&f->rig, DATA), 'a');
    assert_int_equal(inb(&f->rig, DATA), 'b');
    f->room = 1;
    f->backend.frontend->writable(f->uart);
    assert_int_equal(f->sent[0], 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(writes_reach_the_back_end, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_full_back_end_makes_the_transmitter_busy_and_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(received_bytes_are_read_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(input_is_held_back_while_there_is_no_room, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_comes_in_while_paused, setup, teardown),
        cmocka_unit_test_setup_teardown(interrupts_come_in_order_of_priority, setup, teardown),
        cmocka_unit_test_setup_teardown(each_byte_sent_gives_a_new_edge, setup, teardown),
        cmocka_unit_test_setup_teardown(out2_gates_the_interrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(the_trigger_level_and_the_time_out_interrupt, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(loopback_connects_the_modem_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(registers_hold_what_was_written, setup, teardown),
        cmocka_unit_test_setup_teardown(state_survives_save_and_restore, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
