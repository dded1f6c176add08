/* The ACPI block: PM timer, power button and SCI, GPEs, power off, reset register. */
#include "device_rig.h"

#include "dev/legacy/acpi_pm.h"

#define SCI 9
#define BASE ACPI_PM_DEFAULT_BASE
#define PM1_STS BASE
#define PM1_EN (BASE + 2)
#define PM1_CNT (BASE + 4)
#define PM_TMR (BASE + 8)
#define GPE0_STS (BASE + 0x20)
#define GPE0_EN (BASE + 0x28)

struct fixture {
    struct device_rig rig;
    struct acpi_pm *pm;
    struct board_events events;
    unsigned resets, power_offs;
};

static void on_reset(void *opaque)
{
    struct fixture *f = opaque;

    f->resets++;
}

static void on_power_off(void *opaque)
{
    struct fixture *f = opaque;

    f->power_offs++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct acpi_pm_config config = {.events = &f->events};

    rig_init(&f->rig);
    f->events = (struct board_events){.opaque = f, .reset = on_reset, .power_off = on_power_off};
    config.clock = f->rig.clock;
    config.sci = rig_line(&f->rig, SCI);
    assert_int_equal(acpi_pm_new(&f->pm, &config), 0);
    assert_int_equal(acpi_pm_attach(f->pm, &f->rig.bus, NULL), 0);
    assert_int_equal(acpi_pm_set_base(f->pm, BASE, NULL), 0);
    assert_int_equal(
        bus_add(&f->rig.bus, BUS_PORT, acpi_pm_reset_region(f->pm), ACPI_PM_RESET_PORT, NULL), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct device *device = acpi_pm_device(f->pm);

    device->ops->destroy(device);
    rig_done(&f->rig);
    free(f);
    return 0;
}

static void the_timer_counts_at_its_rate(void **state)
{
    struct fixture *f = *state;
    uint32_t first = inl(&f->rig, PM_TMR);

    clock_advance(f->rig.clock, NS_PER_SEC);
    assert_int_equal(inl(&f->rig, PM_TMR) - first, ACPI_PM_TIMER_HZ);
    clock_advance(f->rig.clock, 2000 * NS_PER_SEC); /* past 2^32 */
    assert_int_equal(inl(&f->rig, PM_TMR) - first, (uint32_t)(2001ull * ACPI_PM_TIMER_HZ));
}

static void the_timer_s_carry_raises_the_sci(void **state)
{
    struct fixture *f = *state;

    outb(&f->rig, ACPI_PM_SMI_CMD, ACPI_PM_CMD_ENABLE);
    outw(&f->rig, PM1_EN, 1);
    clock_advance(f->rig.clock, 599 * NS_PER_SEC);
    assert_false(f->rig.level[SCI]);
    clock_advance(f->rig.clock, 1 * NS_PER_SEC); /* 2^31 ticks are 599.93 s */
    assert_true(f->rig.level[SCI]);
    assert_int_equal(inw(&f->rig, PM1_STS), 1);
    outw(&f->rig, PM1_STS, 1);
    assert_false(f->rig.level[SCI]);
    clock_advance(f->rig.clock, 600 * NS_PER_SEC);
    assert_true(f->rig.level[SCI]);
}

static void the_power_button_raises_the_sci_until_cleared(void **state)
{
    struct fixture *f = *state;

    acpi_pm_power_button(f->pm);
    assert_int_equal(inw(&f->rig, PM1_STS), 0x100);
    assert_false(f->rig.level[SCI]);
    outw(&f->rig, PM1_EN, 0x100);
    assert_false(f->rig.level[SCI]); /* ACPI is off */
    outb(&f->rig, ACPI_PM_SMI_CMD, ACPI_PM_CMD_ENABLE);
    assert_int_equal(inw(&f->rig, PM1_CNT) & 1, 1);
    assert_true(f->rig.level[SCI]);
    outb(&f->rig, PM1_STS + 1, 0x01);
    assert_false(f->rig.level[SCI]);
    outb(&f->rig, ACPI_PM_SMI_CMD, ACPI_PM_CMD_DISABLE);
    assert_int_equal(inw(&f->rig, PM1_CNT) & 1, 0);
    assert_int_equal(inb(&f->rig, ACPI_PM_SMI_CMD), ACPI_PM_CMD_DISABLE);
}

static void the_clock_s_alarm_raises_the_sci_when_it_begins(void **state)
{
    struct fixture *f = *state;
    struct irq_line alarm = acpi_pm_rtc_input(f->pm);

    outw(&f->rig, PM1_CNT, 1);
    outw(&f->rig, PM1_EN, 0x400);
    irq_line_set(&alarm, true);
    assert_true(f->rig.level[SCI]);
    outw(&f->rig, PM1_STS, 0x400);
    assert_false(f->rig.level[SCI]);
    irq_line_set(&alarm, true);
    assert_false(f->rig.level[SCI]);
    irq_line_set(&alarm, false);
    irq_line_set(&alarm, true);
    assert_int_equal(inw(&f->rig, PM1_STS), 0x400);
}

static void general_purpose_events(void **state)
{
    struct fixture *f = *state;

    outw(&f->rig, PM1_CNT, 1);
    outb(&f->rig, GPE0_EN + 4, 0x02);
    assert_int_equal(inl(&f->rig, GPE0_EN + 4), 0x02);
    acpi_pm_raise_gpe(f->pm, 2);
    assert_false(f->rig.level[SCI]);
    acpi_pm_raise_gpe(f->pm, 33);
    assert_true(f->rig.level[SCI]);
    assert_int_equal(inb(&f->rig, GPE0_STS), 0x04);
    assert_int_equal(inb(&f->rig, GPE0_STS + 4), 0x02);
    outb(&f->rig, GPE0_STS + 4, 0x02);
    assert_false(f->rig.level[SCI]);
    assert_int_equal(inb(&f->rig, GPE0_STS), 0x04);
}

static void s5_powers_off(void **state)
{
    struct fixture *f = *state;

    outw(&f->rig, PM1_CNT, ACPI_PM_SLP_TYP_S5 << 10);
    assert_int_equal(f->power_offs, 0);
    outw(&f->rig, PM1_CNT, 5 << 10 | 1 << 13); /* S3 */
    assert_int_equal(f->power_offs, 0);
    outw(&f->rig, PM1_CNT, ACPI_PM_SLP_TYP_S5 << 10 | 1 << 13);
    assert_int_equal(f->power_offs, 1);
    assert_int_equal(inw(&f->rig, PM1_CNT) & 1 << 13, 0);
    outw(&f->rig, PM1_CNT, 1 << 13); /* as OVMF does */
    assert_int_equal(f->power_offs, 2);
}

static void the_reset_register_needs_an_edge(void **state)
{
    struct fixture *f = *state;
    struct device *device = acpi_pm_device(f->pm);

    outb(&f->rig, ACPI_PM_RESET_PORT, 0x02);
    assert_int_equal(f->resets, 0);
    outb(&f->rig, ACPI_PM_RESET_PORT, 0x06);
    assert_int_equal(f->resets, 1);
    outb(&f->rig, ACPI_PM_RESET_PORT, 0x06);
    assert_int_equal(f->resets, 1);
    device->ops->reset(device);
    outb(&f->rig, ACPI_PM_RESET_PORT, 0x0e);
    assert_int_equal(f->resets, 2);
    assert_int_equal(inb(&f->rig, ACPI_PM_RESET_PORT), 0x0e);
}

static void the_block_moves(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(acpi_pm_set_base(f->pm, 0xb000, NULL), 0);
    assert_int_equal(inl(&f->rig, PM_TMR), 0xffffffff);
    assert_int_equal(inl(&f->rig, 0xb008), 0);
    assert_int_equal(acpi_pm_set_base(f->pm, 0, NULL), 0);
    assert_int_equal(inl(&f->rig, 0xb008), 0xffffffff);
}

static void the_smi_command_port_is_taken(void **state)
{
    struct fixture *f = *state;

    outl(&f->rig, BASE + 0x30, 0);
    assert_int_equal(inl(&f->rig, BASE + 0x30), 0x20);
}

static void misaligned_accesses_are_refused(void **state)
{
    struct fixture *f = *state;
    uint64_t value;

    assert_int_equal(bus_read(&f->rig.bus, BUS_PORT, BASE + 3, 4, &value), BUS_ERROR);
    assert_int_equal(bus_write(&f->rig.bus, BUS_PORT, BASE + 7, 2, 0), BUS_ERROR);
    assert_int_equal(bus_read(&f->rig.bus, BUS_PORT, BASE + 0x40, 4, &value), BUS_UNHANDLED);
}

static void state_survives_save_and_restore(void **state)
{
    struct fixture *f = *state;

    outw(&f->rig, PM1_CNT, 1);
    outw(&f->rig, PM1_EN, 0x101);
    outb(&f->rig, GPE0_EN, 0x10);
    acpi_pm_power_button(f->pm);
    rig_check_state(acpi_pm_device(f->pm));
    assert_int_equal(inl(&f->rig, PM1_STS), 0x01010100);
    assert_true(f->rig.level[SCI]);
    outw(&f->rig, PM1_STS, 0x100);
    clock_advance(f->rig.clock, 600 * NS_PER_SEC);
    assert_true(f->rig.level[SCI]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_timer_counts_at_its_rate, setup, teardown),
        cmocka_unit_test_setup_teardown(the_timer_s_carry_raises_the_sci, setup, teardown),
        cmocka_unit_test_setup_teardown(the_clock_s_alarm_raises_the_sci_when_it_begins, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_power_button_raises_the_sci_until_cleared, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(general_purpose_events, setup, teardown),
        cmocka_unit_test_setup_teardown(s5_powers_off, setup, teardown),
        cmocka_unit_test_setup_teardown(the_reset_register_needs_an_edge, setup, teardown),
        cmocka_unit_test_setup_teardown(the_block_moves, setup, teardown),
        cmocka_unit_test_setup_teardown(the_smi_command_port_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(misaligned_accesses_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(state_survives_save_and_restore, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
