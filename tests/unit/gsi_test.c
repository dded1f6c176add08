/* The board's interrupt wires: where each leads, how drivers that share one combine. */
#include "device_rig.h"

#include "machine/gsi.h"

/* Lines of the rig: 8259 inputs from 0 on, IOAPIC pins above, folded to fit. */
#define PIC 0
#define IOAPIC 1

struct fixture {
    struct device_rig rig;
    struct gsi_wires wires;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct irq_line pic = {rig_set_line, &f->rig, PIC};
    const struct irq_line ioapic = {rig_set_line, &f->rig, IOAPIC};

    rig_init(&f->rig);
    gsi_wires_init(&f->wires);
    gsi_connect(&f->wires, 5, &pic, &ioapic);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct device *device = gsi_wires_device(&f->wires);

    device->ops->destroy(device);
    rig_done(&f->rig);
    free(f);
    return 0;
}

static void test_level_reaches_both_controllers(void **state)
{
    struct fixture *f = *state;
    struct irq_line line = gsi_driver(&f->wires, 5);

    irq_line_set(&line, true);
    assert_true(f->rig.level[PIC]);
    assert_true(f->rig.level[IOAPIC]);
    irq_line_set(&line, false);
    assert_false(f->rig.level[PIC]);
    assert_false(f->rig.level[IOAPIC]);
}

static void test_shared_wire_falls_with_the_last_driver(void **state)
{
    struct fixture *f = *state;
    struct irq_line a = gsi_driver(&f->wires, 5), b = gsi_driver(&f->wires, 5);

    irq_line_set(&a, true);
    irq_line_set(&b, true);
    irq_line_set(&b, true);
    irq_line_set(&a, false);
    assert_true(f->rig.level[IOAPIC]);
    irq_line_set(&b, false);
    assert_false(f->rig.level[IOAPIC]);
    assert_int_equal(f->rig.rises[IOAPIC], 1);
}

static void test_pic_driver_is_not_heard_by_the_ioapic(void **state)
{
    struct fixture *f = *state;
    struct irq_line both = gsi_driver(&f->wires, 5), pic = gsi_pic_driver(&f->wires, 5);

    irq_line_set(&pic, true);
    assert_true(f->rig.level[PIC]);
    assert_false(f->rig.level[IOAPIC]);
    irq_line_set(&both, true);
    assert_true(f->rig.level[IOAPIC]);
    irq_line_set(&both, false);
    assert_true(f->rig.level[PIC]);
    assert_false(f->rig.level[IOAPIC]);
}

static void test_timer_is_gsi_2(void **state)
{
    assert_int_equal(gsi_of_isa(0), 2);
    assert_int_equal(gsi_of_isa(9), 9);
}

static void test_level_of_an_unknown_driver_is_refused(void **state)
{
    struct fixture *f = *state;
    struct device *device = gsi_wires_device(&f->wires);
    struct irq_line line = gsi_driver(&f->wires, 5);
    struct state_buffer buffer = {0};
    struct error err;

    irq_line_set(&line, true);
    assert_int_equal(state_save(&buffer, device->ops->state, device->state_object), 0);
    f->wires.wire[5].drivers = 0;
    assert_int_equal(state_load(&buffer, device->ops->state, device->state_object, &err), -EBADMSG);
    state_buffer_done(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_level_reaches_both_controllers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shared_wire_falls_with_the_last_driver, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_pic_driver_is_not_heard_by_the_ioapic, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_timer_is_gsi_2, setup, teardown),
        cmocka_unit_test_setup_teardown(test_level_of_an_unknown_driver_is_refused, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
