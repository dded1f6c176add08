/* The one-port devices: debug-exit, pvpanic, debug console, firmware configuration, POST code,
 * port 0x92, test device. */
#include "device_rig.h"

#include "dev/legacy/debug_exit.h"
#include "dev/legacy/debugcon.h"
#include "dev/legacy/fw_cfg.h"
#include "dev/legacy/port92.h"
#include "dev/legacy/post.h"
#include "dev/legacy/pvpanic.h"
#include "dev/legacy/testdev.h"

struct fixture {
    struct device_rig rig;
    struct board_events events;
    struct device *device; /* destroyed by teardown */
    unsigned resets, crashes, exits;
    int status;
};

static void on_reset(void *opaque)
{
    struct fixture *f = opaque;

    f->resets++;
}

static void on_crashed(void *opaque)
{
    struct fixture *f = opaque;

    f->crashes++;
}

static void on_exit_status(void *opaque, int status)
{
    struct fixture *f = opaque;

    f->exits++;
    f->status = status;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    rig_init(&f->rig);
    f->events = (struct board_events){
        .opaque = f, .reset = on_reset, .crashed = on_crashed, .exit = on_exit_status};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    f->device->ops->destroy(f->device);
    rig_done(&f->rig);
    free(f);
    return 0;
}

static void debug_exit_ends_the_run(void **state)
{
    struct fixture *f = *state;
    struct debug_exit *dev;

    assert_int_equal(debug_exit_new(&dev, &f->events), 0);
    f->device = debug_exit_device(dev);
    assert_int_equal(debug_exit_attach(dev, &f->rig.bus, DEBUG_EXIT_DEFAULT_PORT, NULL), 0);
    outl(&f->rig, 0xf4, 0x10);
    assert_int_equal(f->status, 0x21);
    outb(&f->rig, 0xf4, 0);
    assert_int_equal(f->status, 1);
    outw(&f->rig, 0xf4, 0x1234);
    assert_int_equal(f->status, 0x2469);
    assert_int_equal(f->exits, 3);
    outb(&f->rig, 0xf5, 1);
    assert_int_equal(f->exits, 3);
    rig_check_state(f->device);
}

static void pvpanic_reports_the_crash(void **state)
{
    struct fixture *f = *state;
    struct pvpanic *dev;

    assert_int_equal(pvpanic_new(&dev, &f->events), 0);
    f->device = pvpanic_device(dev);
    assert_int_equal(pvpanic_attach(dev, &f->rig.bus, PVPANIC_DEFAULT_PORT, NULL), 0);
    assert_int_equal(inb(&f->rig, 0x505), 1);
    outb(&f->rig, 0x505, 2);
    assert_int_equal(f->crashes, 0);
    outb(&f->rig, 0x505, 1);
    assert_int_equal(f->crashes, 1);
    rig_check_state(f->device);
}

static char console_text[16];

static size_t console_write(void *opaque, const uint8_t *data, size_t length)
{
    strncat(console_text, (const char *)data, length);
    return length;
}

static void debugcon_writes_characters(void **state)
{
    struct fixture *f = *state;
    struct debugcon *dev;
    static const struct char_backend_ops ops = {.write = console_write};
    struct char_backend backend = {.ops = &ops};

    assert_int_equal(debugcon_new(&dev, "debugcon", &backend), 0);
    f->device = debugcon_device(dev);
    assert_int_equal(debugcon_attach(dev, &f->rig.bus, DEBUGCON_FIRMWARE_PORT, NULL), 0);
    assert_int_equal(inb(&f->rig, 0x402), 0xe9);
    outb(&f->rig, 0x402, 'o');
    outb(&f->rig, 0x402, 'k');
    assert_string_equal(console_text, "ok");
    assert_int_equal(backend.frontend->can_receive(backend.frontend_opaque), 0);
    rig_check_state(f->device);
    f->device->ops->destroy(f->device);
    assert_null(backend.frontend);

    /* Without a back end. */
    bus_done(&f->rig.bus);
    bus_init(&f->rig.bus);
    assert_int_equal(debugcon_new(&dev, "debugcon", NULL), 0);
    f->device = debugcon_device(dev);
    assert_int_equal(debugcon_attach(dev, &f->rig.bus, DEBUGCON_BOCHS_PORT, NULL), 0);
    outb(&f->rig, 0xe9, 'x');
}

static void the_post_code_reads_back(void **state)
{
    struct fixture *f = *state;
    struct post *post;

    assert_int_equal(post_new(&post), 0);
    f->device = post_device(post);
    assert_int_equal(post_attach(post, &f->rig.bus, NULL), 0);
    outb(&f->rig, 0x80, 0x42);
    rig_check_state(f->device);
    assert_int_equal(inb(&f->rig, 0x80), 0x42);
    f->device->ops->reset(f->device);
    assert_int_equal(inb(&f->rig, 0x80), 0);
}

static void port_92_resets_on_an_edge(void **state)
{
    struct fixture *f = *state;
    struct port92 *port;

    assert_int_equal(port92_new(&port, &f->events), 0);
    f->device = port92_device(port);
    assert_int_equal(port92_attach(port, &f->rig.bus, NULL), 0);
    assert_int_equal(inb(&f->rig, 0x92), 0x02);
    outb(&f->rig, 0x92, 0xfc);
    assert_int_equal(inb(&f->rig, 0x92), 0x00);
    rig_check_state(f->device);
    outb(&f->rig, 0x92, 0x01);
    assert_int_equal(f->resets, 1);
    outb(&f->rig, 0x92, 0x03);
    assert_int_equal(f->resets, 1);
    f->device->ops->reset(f->device);
    outb(&f->rig, 0x92, 0x03);
    assert_int_equal(f->resets, 2);
}

static uint64_t fw_cfg_item(struct fixture *f, uint16_t item, unsigned bytes)
{
    uint64_t value = 0;

    outw(&f->rig, 0x510, item);
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)inb(&f->rig, 0x511) << 8 * i;
    return value;
}

static void fw_cfg_tells_processors_and_memory(void **state)
{
    struct fixture *f = *state;
    const struct fw_cfg_config config = {.memory = 0x123456789000, .cpus = 0x103};
    struct fw_cfg *dev;

    assert_int_equal(fw_cfg_new(&dev, &config), 0);
    f->device = fw_cfg_device(dev);
    assert_int_equal(fw_cfg_attach(dev, &f->rig.bus, NULL), 0);
    assert_int_equal(fw_cfg_item(f, 0x00, 4), 0x554d4551); /* "QEMU" */
    assert_int_equal(fw_cfg_item(f, 0x01, 4), 1);          /* no DMA */
    assert_int_equal(fw_cfg_item(f, 0x03, 8), config.memory);
    assert_int_equal(fw_cfg_item(f, 0x05, 2), config.cpus);
    assert_int_equal(fw_cfg_item(f, 0x0f, 2), config.cpus);
    assert_int_equal(fw_cfg_item(f, 0x19, 4), 0);     /* no files */
    assert_int_equal(fw_cfg_item(f, 0x05, 4), 0x103); /* zeros behind the end */
    assert_int_equal(fw_cfg_item(f, 0x1234, 2), 0);   /* no such item */

    /* Only a word to the selector selects, and the data port takes no writes. */
    outw(&f->rig, 0x510, 0x03);
    inb(&f->rig, 0x511);
    outb(&f->rig, 0x510, 0x05);
    outb(&f->rig, 0x511, 0x05);
    assert_int_equal(inb(&f->rig, 0x511), 0x90);
    rig_save_and_restore(f->device, f->device->ops->reset);
    assert_int_equal(inb(&f->rig, 0x511), 0x78);
    rig_check_state(f->device);
}

static void the_test_device(void **state)
{
    struct fixture *f = *state;
    struct testdev *dev;
    struct memory mem;
    struct irq_line lines[TESTDEV_LINES];
    uint64_t word = 0x0123456789abcdef;

    memory_init(&mem, 0);
    assert_int_equal(memory_add(&mem, 0, 1 * MIB, 0, "ram", NULL), 0);
    for (unsigned i = 0; i < TESTDEV_LINES; i++)
        lines[i] = rig_line(&f->rig, i);
    assert_int_equal(testdev_new(&dev, &mem, lines), 0);
    f->device = testdev_device(dev);
    assert_int_equal(testdev_attach(dev, &f->rig.bus, NULL), 0);

    /* Latches, in all sizes. */
    outl(&f->rig, 0xe0, 0x44332211);
    outb(&f->rig, 0xe1, 0x99);
    assert_int_equal(inl(&f->rig, 0xe0), 0x44339911);
    assert_int_equal(inw(&f->rig, 0xe2), 0x4433);
    outw(&f->rig, 0xea, 0xbeef);
    assert_int_equal(inl(&f->rig, 0xe8), 0xbeef0000);

    /* Interrupt lines. */
    outb(&f->rig, 0x2000, 1);
    outl(&f->rig, 0x2017, 1);
    assert_true(f->rig.level[0] && f->rig.level[23]);
    outb(&f->rig, 0x2017, 0);
    assert_true(f->rig.level[0] && !f->rig.level[23]);

    /* Device memory. */
    mmio_write(&f->rig, 0xff000003, 8, word);
    assert_int_equal(mmio_read(&f->rig, 0xff000003, 8), word);
    assert_int_equal(mmio_read(&f->rig, 0xff000004, 1), 0xcd);
    mmio_write(&f->rig, 0xff00fffe, 2, 0x1234);
    assert_int_equal(mmio_read(&f->rig, 0xff00fffe, 2), 0x1234);
    assert_int_equal(mmio_read(&f->rig, 0xff00ffff, 2), 0xff12); /* half outside */

    /* A flushed page keeps its contents; one that is not there does no harm. */
    assert_int_equal(memory_write(&mem, 0x5008, &word, 8), 0);
    outl(&f->rig, 0xe4, 0x5123);
    uint64_t back = 0;
    assert_int_equal(memory_read(&mem, 0x5008, &back, 8), 0);
    assert_int_equal(back, word);
    outl(&f->rig, 0xe4, 0x80000000);

    rig_save_and_restore(f->device, f->device->ops->reset);
    assert_int_equal(inl(&f->rig, 0xe8), 0xbeef0000);
    assert_int_equal(mmio_read(&f->rig, 0xff000003, 8), word);
    f->device->ops->reset(f->device);
    assert_int_equal(inl(&f->rig, 0xe8), 0);
    memory_done(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(debug_exit_ends_the_run, setup, teardown),
        cmocka_unit_test_setup_teardown(pvpanic_reports_the_crash, setup, teardown),
        cmocka_unit_test_setup_teardown(debugcon_writes_characters, setup, teardown),
        cmocka_unit_test_setup_teardown(the_post_code_reads_back, setup, teardown),
        cmocka_unit_test_setup_teardown(port_92_resets_on_an_edge, setup, teardown),
        cmocka_unit_test_setup_teardown(fw_cfg_tells_processors_and_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(the_test_device, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
