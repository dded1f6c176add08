/* The I/O APIC: registers, edge and level delivery, masks, EOI, message formats. */
#include "device_rig.h"

#include "dev/legacy/ioapic.h"

#define BASE IOAPIC_DEFAULT_BASE

struct fixture {
    struct device_rig rig;
    struct ioapic *ioapic;
    struct msi_message last;
    unsigned sent;
};

static void take_message(void *opaque, const struct msi_message *message)
{
    struct fixture *f = opaque;

    f->last = *message;
    f->sent++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct msi_sink sink = {.send = take_message, .opaque = f};

    rig_init(&f->rig);
    assert_int_equal(ioapic_new(&f->ioapic, &sink), 0);
    assert_int_equal(ioapic_attach(f->ioapic, &f->rig.bus, BASE, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct device *device = ioapic_device(f->ioapic);

    device->ops->destroy(device);
    rig_done(&f->rig);
    free(f);
    return 0;
}

static uint32_t get(struct fixture *f, uint8_t index)
{
    mmio_write(&f->rig, BASE, 4, index);
    return mmio_read(&f->rig, BASE + 0x10, 4);
}

static void put(struct fixture *f, uint8_t index, uint32_t value)
{
    mmio_write(&f->rig, BASE, 4, index);
    mmio_write(&f->rig, BASE + 0x10, 4, value);
}

static void program(struct fixture *f, unsigned pin, uint64_t entry)
{
    put(f, 0x11 + 2 * pin, entry >> 32);
    put(f, 0x10 + 2 * pin, entry);
}

static void set(struct fixture *f, unsigned pin, bool level)
{
    struct irq_line line = ioapic_input(f->ioapic, pin);

    irq_line_set(&line, level);
}

static void registers_read_back(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(get(f, 0x01), 0x00170020);
    put(f, 0x00, 0xff000000);
    assert_int_equal(get(f, 0x00), 0x0f000000);
    assert_int_equal(get(f, 0x02), 0x0f000000);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        assert_int_equal(get(f, 0x10 + 2 * pin), 0x00010000);
    program(f, 5, UINT64_MAX);
    assert_int_equal(get(f, 0x1a), 0x0001afff); /* delivery status and remote IRR are not ours */
    assert_int_equal(get(f, 0x1b), 0xff000000);
    assert_int_equal(get(f, 0x40), 0xffffffff);
    /* The index register takes bytes, the window does not. */
    mmio_write(&f->rig, BASE, 1, 0x01);
    assert_int_equal(mmio_read(&f->rig, BASE, 1), 0x01);
    assert_int_equal(bus_write(&f->rig.bus, BUS_MMIO, BASE + 0x10, 1, 0), BUS_ERROR);
}

static void an_edge_is_sent_once(void **state)
{
    struct fixture *f = *state;

    program(f, 4, 0x0300000000000931); /* logical, lowest priority, destination 3 */
    set(f, 4, true);
    assert_int_equal(f->sent, 1);
    assert_int_equal(f->last.address, 0xfee03004);
    assert_int_equal(f->last.data, 0x4131);
    set(f, 4, true);
    assert_int_equal(f->sent, 1);
    set(f, 4, false);
    assert_int_equal(f->sent, 1);
    set(f, 4, true);
    assert_int_equal(f->sent, 2); /* without an EOI */
}

static void an_edge_at_a_masked_pin_is_lost(void **state)
{
    struct fixture *f = *state;

    program(f, 4, 0x10031);
    set(f, 4, true);
    program(f, 4, 0x00031);
    assert_int_equal(f->sent, 0);
}

static void a_level_is_sent_again_after_eoi(void **state)
{
    struct fixture *f = *state;

    program(f, 16, 0x8042);
    set(f, 16, true);
    assert_int_equal(f->sent, 1);
    assert_int_equal(f->last.address, 0xfee00000);
    assert_int_equal(f->last.data, 0xc042);
    assert_int_equal(get(f, 0x30), 0xc042); /* remote IRR */
    set(f, 16, false);
    set(f, 16, true);
    assert_int_equal(f->sent, 1);
    ioapic_eoi(f->ioapic, 0x43);
    assert_int_equal(f->sent, 1);
    ioapic_eoi(f->ioapic, 0x42);
    assert_int_equal(f->sent, 2);
    set(f, 16, false);
    mmio_write(&f->rig, BASE + 0x40, 4, 0x42); /* the EOI register */
    assert_int_equal(f->sent, 2);
    assert_int_equal(get(f, 0x30), 0x8042);
}

static void a_level_waits_for_its_mask(void **state)
{
    struct fixture *f = *state;

    program(f, 16, 0x18042);
    set(f, 16, true);
    assert_int_equal(f->sent, 0);
    put(f, 0x30, 0x08042);
    assert_int_equal(f->sent, 1);
    put(f, 0x30, 0x18042);
    ioapic_eoi(f->ioapic, 0x42);
    assert_int_equal(f->sent, 1);
    put(f, 0x30, 0x08042);
    assert_int_equal(f->sent, 2);
}

static void edge_mode_clears_remote_irr(void **state)
{
    struct fixture *f = *state;

    program(f, 16, 0x8042);
    set(f, 16, true);
    put(f, 0x30, 0x10042);
    assert_int_equal(get(f, 0x30), 0x10042);
    put(f, 0x30, 0x08042);
    assert_int_equal(f->sent, 2);
}

static void pins_that_share_a_vector_end_together(void **state)
{
    struct fixture *f = *state;

    program(f, 20, 0x8050);
    program(f, 21, 0x8050);
    set(f, 20, true);
    set(f, 21, true);
    assert_int_equal(f->sent, 2);
    ioapic_eoi(f->ioapic, 0x50);
    assert_int_equal(f->sent, 4);
}

static void nmi_is_an_edge_whatever_the_entry_says(void **state)
{
    struct fixture *f = *state;

    program(f, 7, 0x8400);
    set(f, 7, true);
    assert_int_equal(f->last.data, 0x4400);
    assert_int_equal(get(f, 0x1e), 0x8400);
    set(f, 7, false);
    set(f, 7, true);
    assert_int_equal(f->sent, 2);
}

static void state_survives_save_and_restore(void **state)
{
    struct fixture *f = *state;

    program(f, 16, 0x8042);
    set(f, 16, true);
    rig_check_state(ioapic_device(f->ioapic));
    assert_int_equal(get(f, 0x30), 0xc042);
    f->sent = 0;
    ioapic_eoi(f->ioapic, 0x42);
    assert_int_equal(f->sent, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(registers_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(an_edge_is_sent_once, setup, teardown),
        cmocka_unit_test_setup_teardown(an_edge_at_a_masked_pin_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(a_level_is_sent_again_after_eoi, setup, teardown),
        cmocka_unit_test_setup_teardown(a_level_waits_for_its_mask, setup, teardown),
        cmocka_unit_test_setup_teardown(edge_mode_clears_remote_irr, setup, teardown),
        cmocka_unit_test_setup_teardown(pins_that_share_a_vector_end_together, setup, teardown),
        cmocka_unit_test_setup_teardown(nmi_is_an_edge_whatever_the_entry_says, setup, teardown),
        cmocka_unit_test_setup_teardown(state_survives_save_and_restore, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
