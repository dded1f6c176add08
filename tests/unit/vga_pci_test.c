/* The VGA's PCI function and its linear modes: BARs, dispi registers, pixels, state. */
#include "vga_rig.h"

enum { ID, WIDTH, HEIGHT, DEPTH, ENABLE, BANK, VIRTUAL_WIDTH, VIRTUAL_HEIGHT, X, Y, MEMORY };
#define ON 0x01
#define CAPABILITIES 0x02
#define EIGHT_BITS 0x20
#define KEEP 0x80

static int setup(void **state)
{
    struct vga_rig *r = calloc(1, sizeof(*r));

    vga_rig_init(r);
    put_mode(r, &mode_256_colours);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    vga_rig_done(*state);
    free(*state);
    return 0;
}

static void put_dispi(struct vga_rig *r, uint16_t index, uint16_t value)
{
    outw(&r->rig, 0x1ce, index);
    outw(&r->rig, 0x1cf, value);
}

static uint16_t get_dispi(struct vga_rig *r, uint16_t index)
{
    outw(&r->rig, 0x1ce, index);
    return inw(&r->rig, 0x1cf);
}

static void set_mode(struct vga_rig *r, uint16_t width, uint16_t height, uint16_t depth)
{
    put_dispi(r, ENABLE, 0);
    put_dispi(r, WIDTH, width);
    put_dispi(r, HEIGHT, height);
    put_dispi(r, DEPTH, depth);
    put_dispi(r, ENABLE, ON | 0x40);
}

static void put_linear(struct vga_rig *r, uint32_t offset, unsigned size, uint64_t value)
{
    mmio_write(&r->rig, VRAM_BASE + offset, size, value);
}

static void the_function_is_the_one_that_drivers_know(void **state)
{
    struct vga_rig *r = *state;

    assert_int_equal(pci_config_read(&r->pci, VGA_DEVFN, PCI_VENDOR_ID, 4), 0x11111234);
    assert_int_equal(pci_config_read(&r->pci, VGA_DEVFN, PCI_REVISION_ID, 4), 0x03000002);
    pci_config_write(&r->pci, VGA_DEVFN, PCI_BAR0, 4, UINT32_MAX);
    assert_int_equal(pci_config_read(&r->pci, VGA_DEVFN, PCI_BAR0, 4),
                     (uint32_t)-VRAM_SIZE | PCI_BAR_IS_PREFETCHABLE);
    pci_config_write(&r->pci, VGA_DEVFN, PCI_BAR0 + 8, 4, UINT32_MAX);
    assert_int_equal(pci_config_read(&r->pci, VGA_DEVFN, PCI_BAR0 + 8, 4), 0xfffff000);
}

static void the_registers_are_in_a_bar_too(void **state)
{
    struct vga_rig *r = *state;
    unsigned sum = 0;

    assert_int_equal(mmio_read(&r->rig, REGISTERS_BASE, 8), 0x00ffffffffffff00);
    for (unsigned i = 0; i < 128; i++)
        sum += (unsigned)mmio_read(&r->rig, REGISTERS_BASE + i, 1);
    assert_int_equal(sum % 256, 0);

    mmio_write(&r->rig, REGISTERS_BASE + 0x500 + 2 * BANK, 2, 3);
    assert_int_equal(get_dispi(r, BANK), 3);
    put_dispi(r, BANK, 4);
    assert_int_equal(mmio_read(&r->rig, REGISTERS_BASE + 0x500 + 2 * BANK, 2), 4);
    mmio_write(&r->rig, REGISTERS_BASE + 0x414, 2, 0x770e); /* the CRTC's index and data */
    assert_int_equal(inb(&r->rig, 0x3d5), 0x77);
    assert_int_equal(mmio_read(&r->rig, REGISTERS_BASE + 0x415, 1), 0x77);
    assert_int_equal(mmio_read(&r->rig, REGISTERS_BASE + 0x300, 2), 0xffff);
    assert_int_equal(mmio_read(&r->rig, REGISTERS_BASE + 0x501, 1), 0xff);
}

static void versions_and_capabilities_can_be_asked_for(void **state)
{
    struct vga_rig *r = *state;

    assert_int_equal(get_dispi(r, ID), 0xb0c5);
    put_dispi(r, ID, 0xb0c2);
    assert_int_equal(get_dispi(r, ID), 0xb0c2);
    put_dispi(r, ID, 0xb0c6);
    assert_int_equal(get_dispi(r, ID), 0xb0c2);
    assert_int_equal(get_dispi(r, MEMORY), VRAM_SIZE / 65536);
    assert_int_equal(get_dispi(r, 200), 0);
    put_dispi(r, ENABLE, CAPABILITIES);
    assert_int_equal(get_dispi(r, WIDTH), 2560);
    assert_int_equal(get_dispi(r, HEIGHT), 1600);
    assert_int_equal(get_dispi(r, DEPTH), 32);
}

static void each_depth_has_its_pixels(void **state)
{
    struct vga_rig *r = *state;

    set_mode(r, 512, 384, 32);
    put_linear(r, 4 * (383 * 512 + 511), 4, 0xaa123456);
    vga_look(r);
    assert_int_equal(r->frame.width, 512);
    assert_int_equal(r->frame.height, 384);
    assert_int_equal(vga_pixel(r, 511, 383), 0x123456);
    assert_int_equal(vga_pixel(r, 510, 383), 0);

    set_mode(r, 512, 384, 24);
    put_linear(r, 3 * (512 + 1), 4, 0x00abcdef);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 1, 1), 0xabcdef);
    assert_int_equal(vga_pixel(r, 2, 1), 0);

    set_mode(r, 512, 384, 16);
    put_linear(r, 0, 8, 0x07e0f800001f8410);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 0), 0x848284);
    assert_int_equal(vga_pixel(r, 1, 0), 0x0000ff);
    assert_int_equal(vga_pixel(r, 2, 0), 0xff0000);
    assert_int_equal(vga_pixel(r, 3, 0), 0x00ff00);

    set_mode(r, 512, 384, 15);
    put_linear(r, 0, 8, 0x03e07c00001f4210);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 0), 0x848484);
    assert_int_equal(vga_pixel(r, 1, 0), 0x0000ff);
    assert_int_equal(vga_pixel(r, 2, 0), 0xff0000);
    assert_int_equal(vga_pixel(r, 3, 0), 0x00ff00);

    set_mode(r, 512, 384, 8);
    put_linear(r, 2 * 512, 1, 0x9a);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 2), dac_colour(0x9a));
    put_dispi(r, ENABLE, ON | EIGHT_BITS | KEEP);
    put_dac(r, 0x9a, 0x81, 0x7f, 0xff);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 2), 0x817fff);

    put_mode(r, &mode_16_colours);
    set_mode(r, 640, 480, 4);
    put_sequencer(r, 2, 0x09);
    mmio_write(&r->rig, 0xa0000 + 80, 1, 0x80);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 1), dac_colour(mode_16_colours.attribute[9]));
    assert_int_equal(vga_pixel(r, 1, 1), dac_colour(0));
}

static void the_picture_moves_within_a_larger_one(void **state)
{
    struct vga_rig *r = *state;

    set_mode(r, 320, 200, 8);
    put_dispi(r, VIRTUAL_WIDTH, 1024);
    assert_int_equal(get_dispi(r, VIRTUAL_HEIGHT), 1024);
    put_dispi(r, X, 13);
    put_dispi(r, Y, 700);
    put_linear(r, 1024 * 702 + 16, 1, 0x55);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 3, 2), dac_colour(0x55));
    vga_look(r);
    assert_int_equal(r->frame.rect_count, 0);
    put_linear(r, 1024 * 702 + 12, 1, 0x55); /* left of what is shown */
    vga_look(r);
    assert_int_equal(r->frame.rect_count, 0);
    put_linear(r, 1024 * 899 + 13, 1, 0x55);
    vga_look(r);
    assert_int_equal(r->frame.rect_count, 1);
    assert_int_equal(r->frame.rect[0].y, 199);
    assert_int_equal(r->frame.rect[0].x, 0);
}

static void video_memory_is_mapped_where_the_guest_puts_it(void **state)
{
    struct vga_rig *r = *state;

    put_linear(r, 8, 4, 0x12345678);
    assert_int_equal(r->remaps, 1); /* decoding was switched on */
    assert_null(memory_find(&r->memory, VRAM_BASE));
    assert_int_equal(pci_bus_remap(&r->pci, NULL), 0);
    uint8_t *host = memory_host(&r->memory, VRAM_BASE, VRAM_SIZE, true);
    assert_non_null(host);
    assert_int_equal(host[8], 0x78);
    assert_int_equal(r->changes, 1);
    assert_int_equal(r->changed[0], VRAM_BASE);

    set_mode(r, 320, 200, 8);
    host[320] = 0x21;
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 1), dac_colour(0x21));

    pci_config_write(&r->pci, VGA_DEVFN, PCI_BAR0, 4, VRAM_BASE + VRAM_SIZE);
    assert_int_equal(r->remaps, 2);
    assert_int_equal(pci_bus_remap(&r->pci, NULL), 0);
    assert_null(memory_find(&r->memory, VRAM_BASE));
    assert_ptr_equal(memory_host(&r->memory, VRAM_BASE + VRAM_SIZE, 1, true), host);
    assert_int_equal(r->changes, 3);

    pci_config_write(&r->pci, VGA_DEVFN, PCI_COMMAND, 2, 0);
    assert_int_equal(pci_bus_remap(&r->pci, NULL), 0);
    assert_int_equal(r->memory.slot_count, 0);
    assert_int_equal(pci_bus_remap(&r->pci, NULL), 0);
    assert_int_equal(r->changes, 4);
}

static void video_memory_does_not_cover_other_memory(void **state)
{
    struct vga_rig *r = *state;

    assert_int_equal(memory_add(&r->memory, VRAM_BASE + 0x1000, 0x1000, 0, "ram", NULL), 0);
    assert_int_equal(pci_bus_remap(&r->pci, NULL), 0);
    assert_int_equal(r->memory.slot_count, 1);
    put_linear(r, 0, 1, 0x5a); /* the region serves */
    assert_int_equal(mmio_read(&r->rig, VRAM_BASE, 1), 0x5a);
}

static void the_window_shows_a_bank(void **state)
{
    struct vga_rig *r = *state;

    set_mode(r, 800, 600, 8);
    put_dispi(r, BANK, 5);
    mmio_write(&r->rig, 0xa0010, 2, 0x1234);
    assert_int_equal(mmio_read(&r->rig, VRAM_BASE + 5 * 65536 + 0x10, 2), 0x1234);
    assert_int_equal(mmio_read(&r->rig, 0xa0010, 2), 0x1234);
    put_dispi(r, BANK, 0xffff); /* the last */
    mmio_write(&r->rig, 0xaffff, 1, 0x77);
    assert_int_equal(mmio_read(&r->rig, VRAM_BASE + VRAM_SIZE - 1, 1), 0x77);
}

static void a_mode_begins_black_unless_memory_is_to_be_kept(void **state)
{
    struct vga_rig *r = *state;

    put_linear(r, 100, 1, 0x42);
    put_dispi(r, ENABLE, ON | KEEP);
    assert_int_equal(mmio_read(&r->rig, VRAM_BASE + 100, 1), 0x42);
    set_mode(r, 320, 200, 8);
    assert_int_equal(mmio_read(&r->rig, VRAM_BASE + 100, 1), 0);
    put_linear(r, 100, 1, 0x42);
    put_dispi(r, ENABLE, ON); /* it is on already */
    assert_int_equal(mmio_read(&r->rig, VRAM_BASE + 100, 1), 0x42);
    char *text;
    assert_int_equal(display_text(r->display, &text), -ENODATA);
}

static void impossible_geometry_is_made_to_fit(void **state)
{
    static const uint16_t extremes[] = {0, 1, 7, 8, 799, 1600, 2560, 0x7fff, 0x8000, 0xffff};
    static const uint16_t depths[] = {0, 4, 8, 15, 16, 24, 32, 33, 0xffff};
    struct vga_rig *r = *state;

    for (unsigned d = 0; d < ARRAY_SIZE(depths); d++) {
        for (unsigned i = 0; i < ARRAY_SIZE(extremes); i++) {
            for (unsigned j = 0; j < ARRAY_SIZE(extremes); j++) {
                set_mode(r, extremes[i], extremes[j], depths[d]);
                put_dispi(r, VIRTUAL_WIDTH, extremes[j]);
                put_dispi(r, X, extremes[i]);
                put_dispi(r, Y, extremes[j]);
                uint64_t depth = get_dispi(r, DEPTH), width = get_dispi(r, WIDTH);
                uint64_t bits = depth == 15 ? 16 : depth;
                uint64_t line = get_dispi(r, VIRTUAL_WIDTH) * bits / 8;
                uint64_t height = get_dispi(r, HEIGHT);
                assert_in_range(width, 8, 2560);
                assert_in_range(height, 1, 1600);
                assert_true(get_dispi(r, X) + width <= get_dispi(r, VIRTUAL_WIDTH));
                assert_true((get_dispi(r, Y) + height) * line <= VRAM_SIZE);
            }
        }
        vga_look(r);
    }
}

static void state_survives_save_and_restore(void **state)
{
    struct vga_rig *r = *state;

    set_mode(r, 320, 200, 8);
    put_linear(r, 5, 1, 0x33);
    outb(&r->rig, 0x3c8, 7);
    outb(&r->rig, 0x3c9, 1);
    rig_check_state(r->device);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 5, 0), dac_colour(0x33));
    outb(&r->rig, 0x3c9, 2);
    outb(&r->rig, 0x3c9, 3);
    outb(&r->rig, 0x3c7, 7);
    assert_int_equal(inb(&r->rig, 0x3c9), 1);
}

static void a_reset_ends_the_mode(void **state)
{
    struct vga_rig *r = *state;

    set_mode(r, 320, 200, 8);
    r->device->ops->reset(r->device);
    assert_int_equal(get_dispi(r, ENABLE), 0);
    assert_int_equal(mmio_read(&r->rig, VRAM_BASE, 1), 0xff);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 0), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_function_is_the_one_that_drivers_know),
        TEST(the_registers_are_in_a_bar_too),
        TEST(versions_and_capabilities_can_be_asked_for),
        TEST(each_depth_has_its_pixels),
        TEST(the_picture_moves_within_a_larger_one),
        TEST(video_memory_is_mapped_where_the_guest_puts_it),
        TEST(video_memory_does_not_cover_other_memory),
        TEST(the_window_shows_a_bank),
        TEST(a_mode_begins_black_unless_memory_is_to_be_kept),
        TEST(impossible_geometry_is_made_to_fit),
        TEST(state_survives_save_and_restore),
        TEST(a_reset_ends_the_mode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
