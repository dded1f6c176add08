/* The GPU behind its queues, and the VGA that the same PCI function is until a driver comes. */
#include "virtio_rig.h"

#include <errno.h>

#include "base/clock.h"
#include "dev/display/virtio_vga.h"

#define VRAM_SIZE (512u * 1024u)
#define REQUEST RIG_DATA
#define ANSWER (RIG_DATA + 0x1000)
#define PICTURE (RIG_DATA + 0x10000)
#define ANSWER_SIZE 2048
#define FEATURES (VIRTIO_F_VERSION_1 | 1 << 1)

enum { CONTROL, CURSOR };

static struct virtio_rig rig;
static struct clock *vm_clock;
static struct display *display;
static struct display_viewer viewer;
static struct display_frame frame;
static gpa_t vga_registers;

static void drive(void)
{
    rig_negotiate(&rig, FEATURES);
    rig_queue(&rig, CONTROL, 64);
    rig_queue(&rig, CURSOR, 16);
    rig_driver_ok(&rig);
}

static int setup(void **state)
{
    struct device *dev;

    rig_init(&rig);
    assert_int_equal(clock_new_manual(&vm_clock), 0);
    assert_int_equal(display_new(&display), 0);
    const struct vga_pci_config config = {
        .name = "vga",
        .bus = rig.pci,
        .devfn = RIG_DEVFN,
        .clock = vm_clock,
        .memory = VRAM_SIZE,
        .display = display,
    };
    assert_int_equal(virtio_vga_new(&dev, &config, NULL), 0);
    rig_start(&rig, dev);
    vga_registers = rig_cfg_read(&rig, PCI_BAR0 + 8, 4) & ~0xfu;
    rig.registers = vga_registers + 0x1000;
    display_add_viewer(display, &viewer);
    drive();
    return 0;
}

static int teardown(void **state)
{
    display_remove_viewer(&viewer);
    rig_done(&rig);
    display_free(display);
    clock_free(vm_clock);
    return 0;
}

static void look(void)
{
    display_refresh(&viewer, &frame);
    display_release(&viewer);
}

/* Sends `count` words behind a header of that type; returns the answer's type. */
static uint32_t ask(unsigned queue, uint32_t type, const uint32_t *words, unsigned count)
{
    const uint32_t header[6] = {type};
    uint32_t length;

    assert_int_equal(memory_write(&rig.mem, REQUEST, header, sizeof(header)), 0);
    assert_int_equal(memory_write(&rig.mem, REQUEST + sizeof(header), words, 4 * count), 0);
    guest_desc(&rig.ring[queue], 0, REQUEST, sizeof(header) + 4 * count, RING_NEXT, 1);
    guest_desc(&rig.ring[queue], 1, ANSWER, ANSWER_SIZE, RING_WRITE, 0);
    guest_offer(&rig.ring[queue], 0);
    rig_notify(&rig, queue);
    rig_wait_used(&rig, queue, &length);
    assert_true(length >= 24);
    return (uint32_t)guest_get(&rig.mem, ANSWER, 4);
}

#define ASK(queue, type, ...)                                                                      \
    ask(queue, type, (const uint32_t[]){__VA_ARGS__},                                              \
        sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

#define OK 0x1100

/* Shows 8 by 4 pixels whose guest memory is at PICTURE. */
static void show_picture(void)
{
    assert_int_equal(ASK(CONTROL, 0x0101, 1, 2, 8, 4), OK);
    assert_int_equal(ASK(CONTROL, 0x0106, 1, 2, PICTURE, 0, 64, 0, PICTURE + 64, 0, 64, 0), OK);
    assert_int_equal(ASK(CONTROL, 0x0103, 0, 0, 8, 4, 0, 1), OK);
}

static void firmware_and_kernels_know_the_function(void **state)
{
    assert_int_equal(rig_cfg_read(&rig, PCI_VENDOR_ID, 4), 0x10501af4);
    assert_int_equal(rig_cfg_read(&rig, PCI_CLASS, 4) & 0xffffff, 0x030000);
    assert_int_equal(rig_cfg_read(&rig, PCI_BAR0, 4) & 0xf, PCI_BAR_IS_PREFETCHABLE);
    /* Common configuration: BAR 2, behind the VGA's page. */
    unsigned cap = rig_cfg_read(&rig, PCI_CAPABILITY_POINTER, 1);
    while (rig_cfg_read(&rig, cap, 1) != PCI_CAP_VENDOR || rig_cfg_read(&rig, cap + 3, 1) != 1)
        cap = rig_cfg_read(&rig, cap + 1, 1);
    assert_int_equal(rig_cfg_read(&rig, cap + 4, 1), 2);
    assert_int_equal(rig_cfg_read(&rig, cap + 8, 4), 0x1000);
    assert_int_equal(reg_read(&rig, R_NUM_QUEUES, 2), 2);
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_DEVICE + 8, 4), 1); /* scanouts */

    uint64_t value;
    bus_read(&rig.bus, BUS_MMIO, vga_registers, 8, &value);
    assert_int_equal(value, 0x00ffffffffffff00); /* EDID */
    bus_read(&rig.bus, BUS_MMIO, vga_registers + 0x500, 2, &value);
    assert_int_equal(value, 0xb0c5);
    bus_read(&rig.bus, BUS_PORT, 0x1cf, 2, &value);
    assert_int_equal(value, 0xb0c5);
}

static void the_monitor_is_described(void **state)
{
    assert_int_equal(ASK(CONTROL, 0x0100, 0), 0x1101);
    assert_int_equal(guest_get(&rig.mem, ANSWER + 24 + 8, 4), 1280);
    assert_int_equal(guest_get(&rig.mem, ANSWER + 24 + 12, 4), 800);
    assert_int_equal(guest_get(&rig.mem, ANSWER + 24 + 16, 4), 1);      /* enabled */
    assert_int_equal(guest_get(&rig.mem, ANSWER + 24 + 24 + 16, 4), 0); /* the second is not */
    assert_int_equal(ASK(CONTROL, 0x010a, 0, 0), 0x1104);
    assert_int_equal(guest_get(&rig.mem, ANSWER + 24, 4), 128);
    assert_int_equal(guest_get(&rig.mem, ANSWER + 32, 8), 0x00ffffffffffff00);
    assert_int_equal(ASK(CONTROL, 0x010a, 1, 0), 0x1202);
}

static void a_driver_draws_on_the_screen(void **state)
{
    show_picture();
    guest_put(&rig.mem, PICTURE + 4 * (2 * 8 + 5), 0x00654321, 4);
    assert_int_equal(ASK(CONTROL, 0x0105, 0, 0, 8, 4, 0, 0, 1, 0), OK);
    assert_int_equal(ASK(CONTROL, 0x0104, 0, 0, 8, 4, 1, 0), OK);
    look();
    assert_int_equal(frame.width, 8);
    assert_int_equal(frame.height, 4);
    assert_int_equal(frame.pixels[2 * frame.stride + 5], 0x654321);
    char *text;
    assert_int_equal(display_text(display, &text), -ENODATA);
    assert_int_equal(ASK(CONTROL, 0x0107, 1, 0), OK);
    assert_int_equal(ASK(CONTROL, 0x0102, 1, 0), OK);
}

static void the_cursor_has_a_queue_of_its_own(void **state)
{
    show_picture();
    assert_int_equal(ASK(CONTROL, 0x0101, 2, 1, 64, 64), OK);
    assert_int_equal(ASK(CONTROL, 0x0106, 2, 1, PICTURE, 0, 64 * 64 * 4, 0), OK);
    for (unsigned i = 0; i < 64; i++)
        guest_put(&rig.mem, PICTURE + 4 * i, 0xffff0000, 4);
    assert_int_equal(ASK(CONTROL, 0x0105, 0, 0, 64, 64, 0, 0, 2, 0), OK);
    assert_int_equal(ASK(CURSOR, 0x0300, 0, 1, 1, 0, 2, 0, 0, 0), OK);
    look();
    assert_int_equal(frame.pixels[frame.stride + 1], 0xff0000);
    assert_int_equal(frame.pixels[0], 0);
    assert_int_equal(ASK(CURSOR, 0x0301, 0, 3, 3, 0, 2, 0, 0, 0), OK);
    look();
    assert_int_equal(frame.pixels[frame.stride + 1], 0);
    assert_int_equal(frame.pixels[3 * frame.stride + 3], 0xff0000);
    assert_int_equal(ASK(CURSOR, 0x0300, 1, 1, 1, 0, 2, 0, 0, 0), 0x1202);
    assert_int_equal(ASK(CURSOR, 0x0101, 7, 1, 64, 64, 0, 0, 0), 0x1200);
}

static void a_fence_is_answered(void **state)
{
    const uint32_t header[6] = {0x0100, 1, 0x55667788, 0x11223344, 9, 0};
    uint32_t length;

    assert_int_equal(memory_write(&rig.mem, REQUEST, header, sizeof(header)), 0);
    guest_desc(&rig.ring[CONTROL], 0, REQUEST, sizeof(header), RING_NEXT, 1);
    guest_desc(&rig.ring[CONTROL], 1, ANSWER, ANSWER_SIZE, RING_WRITE, 0);
    guest_offer(&rig.ring[CONTROL], 0);
    rig_notify(&rig, CONTROL);
    rig_wait_used(&rig, CONTROL, &length);
    assert_int_equal(length, 24 + 16 * 24);
    assert_int_equal(guest_get(&rig.mem, ANSWER + 4, 4), 1);
    assert_int_equal(guest_get(&rig.mem, ANSWER + 8, 8), 0x1122334455667788);
    assert_int_equal(guest_get(&rig.mem, ANSWER + 16, 4), 9);
}

static void malformed_requests_are_refused(void **state)
{
    static const uint32_t types[] = {0x0101, 0x0102, 0x0103, 0x0104, 0x0105,     0x0106,
                                     0x0107, 0x0108, 0x0109, 0x0200, 0xffffffff, 0};
    uint32_t length;

    for (unsigned i = 0; i < ARRAY_SIZE(types); i++) /* nothing behind the header */
        assert_int_equal(ask(CONTROL, types[i], NULL, 0), 0x1200);
    assert_int_equal(ASK(CONTROL, 0x0101, 1, 2, 8, 4), OK);
    assert_int_equal(ASK(CONTROL, 0x0106, 1, UINT32_MAX), 0x1200);
    assert_int_equal(ASK(CONTROL, 0x0106, 1, 2, PICTURE, 0, 64, 0), 0x1200); /* one is missing */

    /* Half a header, and no room for the answer. */
    guest_desc(&rig.ring[CONTROL], 0, REQUEST, 10, 0, 0);
    guest_offer(&rig.ring[CONTROL], 0);
    rig_notify(&rig, CONTROL);
    rig_wait_used(&rig, CONTROL, &length);
    assert_int_equal(length, 0);
}

static void any_request_is_survived(void **state)
{
    uint32_t random = 1, words[40];

    for (unsigned round = 0; round < 400; round++) {
        for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
            random = random * 1664525 + 1013904223;
            /* Mostly small numbers, which mean something. */
            words[i] = random >> 30 ? random >> 8 & 0xf : random;
        }
        random = random * 1664525 + 1013904223;
        if (random >> 29)
            ask(CONTROL, 0x0100 + (random >> 16) % 11, words, ARRAY_SIZE(words));
        else
            ask(CURSOR, 0x0300 + (random >> 16) % 2, words, ARRAY_SIZE(words));
        look();
    }
    drive(); /* a reset */
    show_picture();
}

static void the_screen_is_the_vgas_until_a_driver_takes_it(void **state)
{
    bus_write(&rig.bus, BUS_MMIO, vga_registers + 0x500 + 2 * 1, 2, 320);
    bus_write(&rig.bus, BUS_MMIO, vga_registers + 0x500 + 2 * 2, 2, 200);
    bus_write(&rig.bus, BUS_MMIO, vga_registers + 0x500 + 2 * 3, 2, 32);
    bus_write(&rig.bus, BUS_MMIO, vga_registers + 0x500 + 2 * 4, 2, 0x41);
    bus_write(&rig.bus, BUS_MMIO, vga_registers + 0x400, 1, 0x20); /* unblank */
    bus_write(&rig.bus, BUS_MMIO, (rig_cfg_read(&rig, PCI_BAR0, 4) & ~0xfu) + 40, 4, 0xaabbcc);
    look();
    assert_int_equal(frame.width, 320);
    assert_int_equal(frame.pixels[10], 0xaabbcc);
    show_picture();
    look();
    assert_int_equal(frame.width, 8);
    reg_write(&rig, R_STATUS, 1, 0);
    look();
    assert_int_equal(frame.width, 320);
    assert_int_equal(frame.pixels[10], 0xaabbcc);
}

static void state_survives_save_and_restore(void **state)
{
    const struct device_ops *ops = rig.dev->ops;
    struct state_buffer stream = {0}, again = {0};
    struct error err;

    show_picture();
    guest_put(&rig.mem, PICTURE, 0x123456, 4);
    assert_int_equal(ASK(CONTROL, 0x0105, 0, 0, 8, 4, 0, 0, 1, 0), OK);
    ops->pause(rig.dev);
    assert_int_equal(state_save(&stream, ops->state, rig.dev->state_object), 0);
    ops->reset(rig.dev);
    assert_int_equal(state_load(&stream, ops->state, rig.dev->state_object, &err), 0);
    assert_int_equal(state_save(&again, ops->state, rig.dev->state_object), 0);
    assert_int_equal(stream.length, again.length);
    assert_memory_equal(stream.data, again.data, stream.length);
    state_buffer_done(&stream);
    state_buffer_done(&again);
    ops->resume(rig.dev);
    look();
    assert_int_equal(frame.width, 8);
    assert_int_equal(frame.pixels[0], 0x123456);
    assert_int_equal(ASK(CONTROL, 0x0104, 0, 0, 8, 4, 1, 0), OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(firmware_and_kernels_know_the_function),
        TEST(the_monitor_is_described),
        TEST(a_driver_draws_on_the_screen),
        TEST(the_cursor_has_a_queue_of_its_own),
        TEST(a_fence_is_answered),
        TEST(malformed_requests_are_refused),
        TEST(any_request_is_survived),
        TEST(the_screen_is_the_vgas_until_a_driver_takes_it),
        TEST(state_survives_save_and_restore),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
