/* The 8259 pair: initialisation, priorities, EOI in all its forms, cascade, spurious vectors. */
#include "device_rig.h"

#include "dev/legacy/i8259.h"

#define INTR 0 /* the rig's line that stands for the CPU's INTR pin */

struct fixture {
    struct device_rig rig;
    struct i8259 *pic;
};

static void initialise(struct fixture *f, uint8_t icw4)
{
    outb(&f->rig, 0x20, 0x11);
    outb(&f->rig, 0x21, 0x30);
    outb(&f->rig, 0x21, 0x04);
    outb(&f->rig, 0x21, icw4);
    outb(&f->rig, 0xa0, 0x11);
    outb(&f->rig, 0xa1, 0x38);
    outb(&f->rig, 0xa1, 0x02);
    outb(&f->rig, 0xa1, icw4);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct irq_line intr;

    rig_init(&f->rig);
    intr = rig_line(&f->rig, INTR);
    assert_int_equal(i8259_new(&f->pic, &intr), 0);
    assert_int_equal(i8259_attach(f->pic, &f->rig.bus, NULL), 0);
    initialise(f, 0x01);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct device *device = i8259_device(f->pic);

    device->ops->destroy(device);
    rig_done(&f->rig);
    free(f);
    return 0;
}

static void set(struct fixture *f, unsigned irq, bool level)
{
    struct irq_line line = i8259_input(f->pic, irq);

    irq_line_set(&line, level);
}

static void pulse(struct fixture *f, unsigned irq)
{
    set(f, irq, true);
    set(f, irq, false);
}

static uint8_t isr(struct fixture *f, uint16_t port)
{
    outb(&f->rig, port, 0x0b);
    return inb(&f->rig, port);
}

static uint8_t irr(struct fixture *f, uint16_t port)
{
    outb(&f->rig, port, 0x0a);
    return inb(&f->rig, port);
}

static void an_edge_is_delivered_once(void **state)
{
    struct fixture *f = *state;

    set(f, 3, true);
    assert_true(f->rig.level[INTR]);
    assert_int_equal(irr(f, 0x20), 0x08);
    assert_int_equal(i8259_acknowledge(f->pic), 0x33);
    assert_false(f->rig.level[INTR]);
    assert_int_equal(isr(f, 0x20), 0x08);
    assert_int_equal(irr(f, 0x20), 0);
    outb(&f->rig, 0x20, 0x20);
    assert_int_equal(isr(f, 0x20), 0);
    assert_false(f->rig.level[INTR]); /* the wire is still high: no new edge */
    set(f, 3, false);
    set(f, 3, true);
    assert_true(f->rig.level[INTR]);
}

static void nothing_is_delivered_before_initialisation(void **state)
{
    struct fixture *f = *state;
    struct device *device = i8259_device(f->pic);

    device->ops->reset(device);
    pulse(f, 1);
    assert_false(f->rig.level[INTR]);
    initialise(f, 0x01);
    assert_false(f->rig.level[INTR]); /* ICW1 cleared the edge */
}

static void priorities_nest(void **state)
{
    struct fixture *f = *state;

    pulse(f, 5);
    assert_int_equal(i8259_acknowledge(f->pic), 0x35);
    pulse(f, 6);
    assert_false(f->rig.level[INTR]);
    pulse(f, 1);
    assert_true(f->rig.level[INTR]);
    assert_int_equal(i8259_acknowledge(f->pic), 0x31);
    outb(&f->rig, 0x20, 0x20); /* ends 1, the most urgent */
    assert_int_equal(isr(f, 0x20), 0x20);
    assert_false(f->rig.level[INTR]);
    outb(&f->rig, 0x20, 0x65); /* specific, 5 */
    assert_int_equal(i8259_acknowledge(f->pic), 0x36);
}

static void the_mask_holds_requests_back(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, 0x21, 0xff);
    assert_int_equal(inb(&f->rig, 0x21), 0xff);
    pulse(f, 4);
    assert_false(f->rig.level[INTR]);
    outb(&f->rig, 0x21, 0xef);
    assert_int_equal(i8259_acknowledge(f->pic), 0x34);
}

static void the_slave_comes_through_input_2(void **state)
{
    struct fixture *f = *state;

    pulse(f, 12);
    pulse(f, 8);
    assert_int_equal(i8259_acknowledge(f->pic), 0x38);
    assert_int_equal(isr(f, 0x20), 0x04);
    assert_int_equal(isr(f, 0xa0), 0x01);
    assert_false(f->rig.level[INTR]);
    outb(&f->rig, 0xa0, 0x20);
    outb(&f->rig, 0x20, 0x20);
    assert_true(f->rig.level[INTR]);
    assert_int_equal(i8259_acknowledge(f->pic), 0x3c);
    /* Inputs 3 to 7 come after the whole slave. */
    pulse(f, 3);
    assert_false(f->rig.level[INTR]);
    pulse(f, 1);
    assert_true(f->rig.level[INTR]);
}

static void special_fully_nested_mode_lets_the_slave_interrupt_itself(void **state)
{
    struct fixture *f = *state;

    initialise(f, 0x11);
    pulse(f, 12);
    assert_int_equal(i8259_acknowledge(f->pic), 0x3c);
    pulse(f, 9);
    assert_true(f->rig.level[INTR]);
    assert_int_equal(i8259_acknowledge(f->pic), 0x39);
}

static void a_request_that_goes_away_gives_the_spurious_vector(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, 0x4d0, 0x20);
    outb(&f->rig, 0x4d1, 0x02);
    set(f, 5, true);
    set(f, 5, false);
    assert_int_equal(i8259_acknowledge(f->pic), 0x37);
    assert_int_equal(isr(f, 0x20), 0);

    /* On the slave: the master takes input 2 into service, the slave answers 15. */
    pulse(f, 10);
    assert_true(f->rig.level[INTR]);
    outb(&f->rig, 0xa1, 0x04);
    assert_false(f->rig.level[INTR]);
    assert_int_equal(i8259_acknowledge(f->pic), 0x37);
}

static void a_level_triggered_input_asks_again_after_eoi(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, 0x4d1, 0x08);
    assert_int_equal(inb(&f->rig, 0x4d1), 0x08);
    set(f, 11, true);
    assert_int_equal(i8259_acknowledge(f->pic), 0x3b);
    outb(&f->rig, 0xa0, 0x20);
    outb(&f->rig, 0x20, 0x20);
    assert_int_equal(i8259_acknowledge(f->pic), 0x3b);
    set(f, 11, false);
    outb(&f->rig, 0xa0, 0x20);
    outb(&f->rig, 0x20, 0x20);
    assert_false(f->rig.level[INTR]);
    /* The timer, keyboard, cascade, RTC and FPU inputs cannot be made level-triggered. */
    outw(&f->rig, 0x4d0, 0xffff);
    assert_int_equal(inw(&f->rig, 0x4d0), 0xdef8);
}

static void auto_eoi_ends_each_interrupt_at_once(void **state)
{
    struct fixture *f = *state;

    initialise(f, 0x03);
    pulse(f, 9);
    pulse(f, 14);
    assert_int_equal(i8259_acknowledge(f->pic), 0x39);
    assert_int_equal(isr(f, 0xa0), 0);
    assert_true(f->rig.level[INTR]);
    assert_int_equal(i8259_acknowledge(f->pic), 0x3e);
    assert_false(f->rig.level[INTR]);
    /* Rotation: after 3 is served, 4 comes first. */
    outb(&f->rig, 0x20, 0x80);
    pulse(f, 3);
    assert_int_equal(i8259_acknowledge(f->pic), 0x33);
    pulse(f, 1);
    pulse(f, 4);
    assert_int_equal(i8259_acknowledge(f->pic), 0x34);
    assert_int_equal(i8259_acknowledge(f->pic), 0x31);
}

static void priorities_rotate(void **state)
{
    struct fixture *f = *state;

    pulse(f, 0);
    assert_int_equal(i8259_acknowledge(f->pic), 0x30);
    outb(&f->rig, 0x20, 0xa0); /* rotate on non-specific EOI: 0 is now the lowest */
    pulse(f, 0);
    pulse(f, 7);
    assert_int_equal(i8259_acknowledge(f->pic), 0x37);
    outb(&f->rig, 0x20, 0xe7); /* rotate on specific EOI: 7 is now the lowest */
    assert_int_equal(i8259_acknowledge(f->pic), 0x30);
    outb(&f->rig, 0x20, 0x20);
    outb(&f->rig, 0x20, 0xc4); /* set priority: 4 the lowest, 5 the highest */
    pulse(f, 4);
    pulse(f, 5);
    assert_int_equal(i8259_acknowledge(f->pic), 0x35);
}

static void special_mask_mode_lets_lower_priorities_in(void **state)
{
    struct fixture *f = *state;

    pulse(f, 3);
    assert_int_equal(i8259_acknowledge(f->pic), 0x33);
    pulse(f, 6);
    assert_false(f->rig.level[INTR]);
    outb(&f->rig, 0x21, 0x08);
    outb(&f->rig, 0x20, 0x68);
    assert_true(f->rig.level[INTR]);
    assert_int_equal(i8259_acknowledge(f->pic), 0x36);
    /* A non-specific EOI passes the masked 3 by. */
    outb(&f->rig, 0x20, 0x20);
    assert_int_equal(isr(f, 0x20), 0x08);
    outb(&f->rig, 0x20, 0x48);
    outb(&f->rig, 0x20, 0x20);
    assert_int_equal(isr(f, 0x20), 0);
}

static void polling_acknowledges(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, 0x20, 0x0c);
    assert_int_equal(inb(&f->rig, 0x20), 0);
    pulse(f, 6);
    outb(&f->rig, 0x20, 0x0c);
    assert_int_equal(inb(&f->rig, 0x20), 0x86);
    assert_int_equal(isr(f, 0x20), 0x40);
    assert_false(f->rig.level[INTR]);
}

static void state_survives_save_and_restore(void **state)
{
    struct fixture *f = *state;

    pulse(f, 12);
    pulse(f, 4);
    i8259_acknowledge(f->pic);
    outb(&f->rig, 0x20, 0xc2);
    rig_check_state(i8259_device(f->pic));
    assert_int_equal(isr(f, 0x20), 0x04);
    assert_int_equal(i8259_acknowledge(f->pic), 0x34);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_edge_is_delivered_once, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_delivered_before_initialisation, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(priorities_nest, setup, teardown),
        cmocka_unit_test_setup_teardown(the_mask_holds_requests_back, setup, teardown),
        cmocka_unit_test_setup_teardown(the_slave_comes_through_input_2, setup, teardown),
        cmocka_unit_test_setup_teardown(special_fully_nested_mode_lets_the_slave_interrupt_itself,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_that_goes_away_gives_the_spurious_vector, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_level_triggered_input_asks_again_after_eoi, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(auto_eoi_ends_each_interrupt_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(priorities_rotate, setup, teardown),
        cmocka_unit_test_setup_teardown(special_mask_mode_lets_lower_priorities_in, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(polling_acknowledges, setup, teardown),
        cmocka_unit_test_setup_teardown(state_survives_save_and_restore, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
