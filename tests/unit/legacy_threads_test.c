/*
 * The legacy devices wired as on a board, with everything that runs at once on one: two vCPU
 * threads on the ports, the clock's thread with timers going, a thread that brings serial and
 * keyboard input. What it shows under ThreadSanitizer is that the locks suffice; here, that the
 * lock order holds (no deadlock) and that interrupts get through.
 */
#include "device_rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "dev/legacy/acpi_pm.h"
#include "dev/legacy/hpet.h"
#include "dev/legacy/i8042.h"
#include "dev/legacy/i8254.h"
#include "dev/legacy/i8259.h"
#include "dev/legacy/ioapic.h"
#include "dev/legacy/mc146818.h"
#include "dev/legacy/uart16550.h"

#define VCPUS 2
#define ROUNDS 3000
#define ISA_LINES 16

struct board {
    struct bus bus;
    struct clock *clock;
    struct i8259 *pic;
    struct ioapic *ioapic;
    struct irq_line pic_input[ISA_LINES], ioapic_input[ISA_LINES];
    struct hpet *hpet;
    struct i8254 *pit;
    struct mc146818 *rtc;
    struct i8042 *kbc;
    struct acpi_pm *pm;
    struct uart16550 *uart;
    struct board_events events;
    struct char_backend backend;
    _Atomic unsigned messages, intr, written;
};

static void set_isa(void *opaque, unsigned irq, bool level)
{
    struct board *board = opaque;

    irq_line_set(&board->pic_input[irq], level);
    irq_line_set(&board->ioapic_input[irq], level);
}

static struct irq_line isa(struct board *board, unsigned irq)
{
    return (struct irq_line){.set = set_isa, .opaque = board, .input = irq};
}

static void set_intr(void *opaque, unsigned input, bool level)
{
    struct board *board = opaque;

    atomic_fetch_add(&board->intr, level);
}

static void take_message(void *opaque, const struct msi_message *message)
{
    struct board *board = opaque;

    atomic_fetch_add(&board->messages, 1);
}

static size_t backend_write(void *opaque, const uint8_t *data, size_t length)
{
    struct board *board = opaque;

    /* Short counts now and then, so that writable() has something to do. */
    return atomic_fetch_add(&board->written, 1) % 5 ? length : 0;
}

static void backend_input_ready(void *opaque)
{
}

static const struct char_backend_ops backend_ops = {
    .write = backend_write,
    .input_ready = backend_input_ready,
};

static void make_interrupt_controllers(struct board *board)
{
    struct irq_line intr = {.set = set_intr, .opaque = board};
    struct msi_sink sink = {.send = take_message, .opaque = board};

    assert_int_equal(i8259_new(&board->pic, &intr), 0);
    assert_int_equal(i8259_attach(board->pic, &board->bus, NULL), 0);
    assert_int_equal(ioapic_new(&board->ioapic, &sink), 0);
    assert_int_equal(ioapic_attach(board->ioapic, &board->bus, IOAPIC_DEFAULT_BASE, NULL), 0);
    for (unsigned i = 0; i < ISA_LINES; i++) {
        board->pic_input[i] = i8259_input(board->pic, i);
        board->ioapic_input[i] = ioapic_input(board->ioapic, i ? i : 2);
    }
}

static void make_timers(struct board *board)
{
    struct hpet_config hpet = {.clock = board->clock};
    struct mc146818_config rtc = {.clock = board->clock};
    struct acpi_pm_config pm = {.clock = board->clock, .events = &board->events};
    struct irq_line pit_irq;

    hpet.isa_timer = isa(board, 0);
    hpet.isa_rtc = isa(board, 8);
    assert_int_equal(hpet_new(&board->hpet, &hpet), 0);
    assert_int_equal(hpet_attach(board->hpet, &board->bus, HPET_DEFAULT_BASE, NULL), 0);
    pit_irq = hpet_timer_input(board->hpet);
    assert_int_equal(i8254_new(&board->pit, board->clock, &pit_irq), 0);
    assert_int_equal(i8254_attach(board->pit, &board->bus, NULL), 0);
    rtc.irq = hpet_rtc_input(board->hpet);
    assert_int_equal(mc146818_new(&board->rtc, &rtc), 0);
    assert_int_equal(mc146818_attach(board->rtc, &board->bus, NULL), 0);
    pm.sci = isa(board, 9);
    assert_int_equal(acpi_pm_new(&board->pm, &pm), 0);
    assert_int_equal(acpi_pm_attach(board->pm, &board->bus, NULL), 0);
    assert_int_equal(acpi_pm_set_base(board->pm, ACPI_PM_DEFAULT_BASE, NULL), 0);
}

static void make_input_devices(struct board *board)
{
    struct i8042_config kbc = {.clock = board->clock, .events = &board->events};
    struct irq_line uart_irq = isa(board, 4);

    kbc.keyboard_irq = isa(board, 1);
    kbc.mouse_irq = isa(board, 12);
    assert_int_equal(i8042_new(&board->kbc, &kbc), 0);
    assert_int_equal(i8042_attach(board->kbc, &board->bus, NULL), 0);
    board->backend = (struct char_backend){.ops = &backend_ops, .opaque = board};
    assert_int_equal(
        uart16550_new(&board->uart, "serial0", board->clock, &uart_irq, &board->backend), 0);
    assert_int_equal(uart16550_attach(board->uart, &board->bus, 0x3f8, NULL), 0);
}

static void out(struct board *board, uint16_t port, uint8_t value)
{
    bus_write(&board->bus, BUS_PORT, port, 1, value);
}

static uint8_t in(struct board *board, uint16_t port)
{
    uint64_t value;

    bus_read(&board->bus, BUS_PORT, port, 1, &value);
    return value;
}

static void program(struct board *board)
{
    static const uint8_t pic[][2] = {{0x20, 0x11}, {0x21, 0x20}, {0x21, 0x04}, {0x21, 0x03},
                                     {0xa0, 0x11}, {0xa1, 0x28}, {0xa1, 0x02}, {0xa1, 0x03}};

    for (size_t i = 0; i < ARRAY_SIZE(pic); i++)
        out(board, pic[i][0], pic[i][1]);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        bus_write(&board->bus, BUS_MMIO, IOAPIC_DEFAULT_BASE, 4, 0x10 + 2 * pin);
        bus_write(&board->bus, BUS_MMIO, IOAPIC_DEFAULT_BASE + 0x10, 4, 0x30 + pin);
    }
    out(board, 0x43, 0x34); /* 10 kHz */
    out(board, 0x40, 119);
    out(board, 0x40, 0);
    out(board, 0x70, 0x0b);
    out(board, 0x71, 0x42); /* periodic, 1024 Hz */
    out(board, 0x3f9, 0x03);
    out(board, 0x3fa, 0x81);
    out(board, 0x3fc, 0x08);
    bus_write(&board->bus, BUS_MMIO, HPET_DEFAULT_BASE + 0x10, 8, 1);
}

static void *vcpu(void *opaque)
{
    static const uint16_t ports[] = {0x20, 0x21, 0xa0,  0x4d0, 0x40,  0x61,  0x71,
                                     0x60, 0x64, 0x3f8, 0x3fa, 0x3fd, 0x600, 0x608};
    struct board *board = opaque;
    uint64_t value;

    for (unsigned i = 0; i < ROUNDS; i++) {
        for (size_t p = 0; p < ARRAY_SIZE(ports); p++)
            in(board, ports[p]);
        out(board, 0x3f8, 'x');
        out(board, 0x70, 0x0c);
        out(board, 0x43, 0x00);
        out(board, 0x60, 0xf4);
        bus_read(&board->bus, BUS_MMIO, HPET_DEFAULT_BASE + 0xf0, 8, &value);
        bus_read(&board->bus, BUS_MMIO, IOAPIC_DEFAULT_BASE + 0x10, 4, &value);
        i8259_acknowledge(board->pic);
        ioapic_eoi(board->ioapic, 0x34);
    }
    return NULL;
}

static void *outside(void *opaque)
{
    struct board *board = opaque;
    const struct char_frontend *frontend = board->backend.frontend;

    for (unsigned i = 0; i < ROUNDS; i++) {
        if (frontend->can_receive(board->backend.frontend_opaque))
            frontend->receive(board->backend.frontend_opaque, (const uint8_t *)"y", 1);
        frontend->writable(board->backend.frontend_opaque);
        i8042_key(board->kbc, 0x1e, i & 1);
        i8042_mouse(board->kbc, 1, 1, 0, i & 1);
        acpi_pm_power_button(board->pm);
    }
    return NULL;
}

static void everything_at_once(void **state)
{
    struct board *board = calloc(1, sizeof(*board));
    pthread_t threads[VCPUS + 1];
    struct error err;

    bus_init(&board->bus);
    assert_int_equal(clock_new(&board->clock, &err), 0);
    make_interrupt_controllers(board);
    make_timers(board);
    make_input_devices(board);
    /* In the order of their making; the list is destroyed from its end. */
    struct device *devices[] = {i8259_device(board->pic),    ioapic_device(board->ioapic),
                                hpet_device(board->hpet),    i8254_device(board->pit),
                                mc146818_device(board->rtc), acpi_pm_device(board->pm),
                                i8042_device(board->kbc),    uart16550_device(board->uart)};
    for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
        if (devices[i]->ops->start)
            assert_int_equal(devices[i]->ops->start(devices[i], &err), 0);
    }
    program(board);

    for (unsigned i = 0; i < VCPUS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, vcpu, board), 0);
    assert_int_equal(pthread_create(&threads[VCPUS], NULL, outside, board), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);
    usleep(20000);
    assert_true(atomic_load(&board->messages) > 100);
    assert_true(atomic_load(&board->intr) > 100);

    for (size_t i = ARRAY_SIZE(devices); i-- > 0;)
        devices[i]->ops->destroy(devices[i]);
    clock_free(board->clock);
    bus_done(&board->bus);
    free(board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
