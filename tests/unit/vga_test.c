/* The IBM VGA as software and eyes see it: ports, planes, each kind of mode to the pixel. */
#include "vga_rig.h"

static int setup(void **state)
{
    struct vga_rig *r = calloc(1, sizeof(*r));

    vga_rig_init(r);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    vga_rig_done(*state);
    free(*state);
    return 0;
}

static void poke(struct vga_rig *r, uint32_t address, uint8_t value)
{
    mmio_write(&r->rig, address, 1, value);
}

static uint8_t peek(struct vga_rig *r, uint32_t address)
{
    return (uint8_t)mmio_read(&r->rig, address, 1);
}

/* A character cell of the colour text mode. */
static void put_cell(struct vga_rig *r, unsigned place, uint8_t character, uint8_t attribute)
{
    mmio_write(&r->rig, 0xb8000 + 2 * place, 2, (uint64_t)(attribute << 8 | character));
}

/* A line of a glyph, as BIOSes load fonts: plane 2, sequential, at 0xa0000. */
static void put_glyph(struct vga_rig *r, uint32_t font, uint8_t character, unsigned line,
                      uint8_t dots)
{
    put_sequencer(r, 2, 0x04);
    put_sequencer(r, 4, 0x06);
    put_graphics(r, 5, 0x00);
    put_graphics(r, 6, 0x04);
    poke(r, 0xa0000 + font + 32u * character + line, dots);
    put_sequencer(r, 2, 0x03);
    put_sequencer(r, 4, 0x02);
    put_graphics(r, 5, 0x10);
    put_graphics(r, 6, 0x0e);
}

/* Colour of a text attribute's four bits, by way of both palettes. */
static uint32_t text_colour(unsigned index)
{
    return dac_colour(mode_text.attribute[index]);
}

/* ---- registers ---- */

static void registers_hold_the_bits_that_exist(void **state)
{
    struct vga_rig *r = *state;

    put_sequencer(r, 1, 0xff);
    assert_int_equal(inb(&r->rig, 0x3c5), 0x3d);
    put_sequencer(r, 6, 0xff);
    assert_int_equal(inb(&r->rig, 0x3c5), 0);
    put_graphics(r, 5, 0xff);
    assert_int_equal(inb(&r->rig, 0x3cf), 0x7b);
    put_graphics(r, 15, 0xff);
    assert_int_equal(inb(&r->rig, 0x3cf), 0);
    outb(&r->rig, 0x3c2, 0xff);
    assert_int_equal(inb(&r->rig, 0x3cc), 0xef);
    put_crtc(r, 0x18, 0xa5);
    assert_int_equal(inb(&r->rig, 0x3d4), 0x18);
    assert_int_equal(inb(&r->rig, 0x3d5), 0xa5);
    put_crtc(r, 0x1f, 0xa5);
    assert_int_equal(inb(&r->rig, 0x3d5), 0);
    outb(&r->rig, 0x3da, 0xff);
    assert_int_equal(inb(&r->rig, 0x3ca), 0x08);
}

static void the_crtc_is_at_one_of_two_places(void **state)
{
    struct vga_rig *r = *state;

    outb(&r->rig, 0x3c2, 0x01);
    put_crtc(r, 0x0e, 0x12);
    outw(&r->rig, 0x3b4, 0x340e);
    assert_int_equal(inb(&r->rig, 0x3b5), 0xff);
    assert_int_equal(inb(&r->rig, 0x3d5), 0x12);
    outb(&r->rig, 0x3c2, 0x00);
    assert_int_equal(inb(&r->rig, 0x3d5), 0xff);
    assert_int_equal(inb(&r->rig, 0x3b5), 0x12);
}

static void timing_registers_can_be_protected(void **state)
{
    struct vga_rig *r = *state;

    outb(&r->rig, 0x3c2, 0x01);
    put_crtc(r, 0x00, 0x5f);
    put_crtc(r, 0x07, 0x00);
    put_crtc(r, 0x11, 0x80);
    put_crtc(r, 0x00, 0x11);
    put_crtc(r, 0x07, 0xff);
    assert_int_equal(inb(&r->rig, 0x3d5), 0x10); /* line compare is not */
    outb(&r->rig, 0x3d4, 0x00);
    assert_int_equal(inb(&r->rig, 0x3d5), 0x5f);
    put_crtc(r, 0x08, 0x1f);
    assert_int_equal(inb(&r->rig, 0x3d5), 0x1f);
}

static void attribute_writes_alternate_between_index_and_data(void **state)
{
    struct vga_rig *r = *state;

    outb(&r->rig, 0x3c2, 0x01);
    inb(&r->rig, 0x3da);
    outb(&r->rig, 0x3c0, 0x05);
    outb(&r->rig, 0x3c0, 0x2a);
    outb(&r->rig, 0x3c0, 0x32); /* colour plane enable; the display takes the palette */
    outb(&r->rig, 0x3c0, 0x07);
    outb(&r->rig, 0x3c0, 0x25);
    outb(&r->rig, 0x3c0, 0x11); /* is the display's: ignored */
    outb(&r->rig, 0x3c0, 0x05);
    assert_int_equal(inb(&r->rig, 0x3c1), 0x2a);
    inb(&r->rig, 0x3da); /* the next is an index again */
    outb(&r->rig, 0x3c0, 0x12);
    assert_int_equal(inb(&r->rig, 0x3c1), 0x07);
    assert_int_equal(inb(&r->rig, 0x3c0), 0x12);
    outb(&r->rig, 0x3c0, 0xff);
    outb(&r->rig, 0x3c0, 0x1f);
    assert_int_equal(inb(&r->rig, 0x3c1), 0);
}

static void dac_entries_are_three_accesses_each(void **state)
{
    struct vga_rig *r = *state;

    outb(&r->rig, 0x3c8, 0xff);
    assert_int_equal(inb(&r->rig, 0x3c7), 0);
    for (unsigned i = 0; i < 6; i++)
        outb(&r->rig, 0x3c9, (uint8_t)(0xc1 + i)); /* 255, then 0 */
    assert_int_equal(inb(&r->rig, 0x3c8), 1);
    outb(&r->rig, 0x3c9, 0x3f); /* an entry half written does not change */
    outb(&r->rig, 0x3c7, 0xff);
    assert_int_equal(inb(&r->rig, 0x3c7), 3);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(inb(&r->rig, 0x3c9), 1 + i);
    assert_int_equal(inb(&r->rig, 0x3c9), 0);
}

static void the_retrace_follows_vm_time(void **state)
{
    struct vga_rig *r = *state;
    unsigned retraces = 0, blanks = 0, steps = 7000;
    bool was = false;

    put_mode(r, &mode_text);
    /* A tenth of a second in steps shorter than half a line: 449 lines, 70 times a second. */
    for (unsigned i = 0; i < steps; i++) {
        clock_advance(r->rig.clock, NS_PER_SEC / 10 / steps);
        uint8_t status = inb(&r->rig, 0x3da);
        bool now = status & 0x08;
        retraces += now && !was;
        blanks += status & 0x01;
        was = now;
        assert_true(!now || status & 0x01);
    }
    assert_int_equal(retraces, 7);
    /* 400 of 449 lines, 80 of 100 characters in each are shown. */
    assert_in_range(blanks, steps * 24 / 100, steps * 34 / 100);
}

/* ---- text ---- */

static void characters_are_drawn_from_the_font(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_text);
    put_crtc(r, 0x0a, 0x20); /* no cursor */
    put_glyph(r, 0, 'A', 0, 0x81);
    put_glyph(r, 0, 'A', 15, 0x18);
    put_cell(r, 0, 'A', 0x1e);
    put_cell(r, 81, 'A', 0x07);
    vga_look(r);
    assert_int_equal(r->frame.width, 720);
    assert_int_equal(r->frame.height, 400);
    for (unsigned x = 0; x < 9; x++) {
        bool first = x == 0 || x == 7, last = x == 3 || x == 4;
        assert_int_equal(vga_pixel(r, x, 0), text_colour(first ? 0xe : 1));
        assert_int_equal(vga_pixel(r, x, 1), text_colour(1));
        assert_int_equal(vga_pixel(r, x, 15), text_colour(last ? 0xe : 1));
        assert_int_equal(vga_pixel(r, 9 + x, 16), text_colour(first ? 7 : 0));
        assert_int_equal(vga_pixel(r, 9 + x, 0), text_colour(0));
    }
}

static void frames_close_in_the_ninth_dot(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_text);
    put_crtc(r, 0x0a, 0x20);
    put_glyph(r, 0, 0xc4, 3, 0xff);
    put_glyph(r, 0, 0xe0, 3, 0xff);
    put_cell(r, 0, 0xc4, 0x07);
    put_cell(r, 1, 0xe0, 0x07);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 8, 3), text_colour(7));
    assert_int_equal(vga_pixel(r, 17, 3), text_colour(0));
    put_attribute(r, 0x10, 0x08);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 8, 3), text_colour(0));
    put_sequencer(r, 1, 0x01); /* eight dots */
    vga_look(r);
    assert_int_equal(r->frame.width, 640);
    assert_int_equal(vga_pixel(r, 8, 3), text_colour(7));
}

static void bit_three_of_the_attribute_selects_the_second_font(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_text);
    put_crtc(r, 0x0a, 0x20);
    put_glyph(r, 0x6000, 'B', 0, 0xf0); /* font 5 */
    put_glyph(r, 0x4000, 'B', 0, 0x0f); /* font 1 */
    put_sequencer(r, 3, 0x21 | 0x04);   /* intense: 5, else 1 */
    put_cell(r, 0, 'B', 0x0f);
    put_cell(r, 1, 'B', 0x07);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 0), text_colour(0xf));
    assert_int_equal(vga_pixel(r, 7, 0), text_colour(0));
    assert_int_equal(vga_pixel(r, 9, 0), text_colour(0));
    assert_int_equal(vga_pixel(r, 16, 0), text_colour(7));
}

static void attributes_blink_or_brighten_the_background(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_text);
    put_crtc(r, 0x0a, 0x20);
    put_glyph(r, 0, 'C', 0, 0xff);
    put_cell(r, 0, 'C', 0x94);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 0), text_colour(4));
    assert_int_equal(vga_pixel(r, 0, 1), text_colour(1));
    clock_advance(r->rig.clock, NS_PER_SEC * 16 / 70 + 1000);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 0), text_colour(1));
    put_attribute(r, 0x10, 0x04); /* no blinking: sixteen backgrounds */
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 0), text_colour(4));
    assert_int_equal(vga_pixel(r, 0, 1), text_colour(9));
}

static void the_cursor_blinks_where_it_is(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_text);
    put_crtc(r, 0x0e, 0);
    put_crtc(r, 0x0f, 82);
    put_cell(r, 82, ' ', 0x07);
    vga_look(r);
    for (unsigned x = 0; x < 9; x++) {
        assert_int_equal(vga_pixel(r, 18 + x, 16 + 12), text_colour(0));
        assert_int_equal(vga_pixel(r, 18 + x, 16 + 13), text_colour(7));
        assert_int_equal(vga_pixel(r, 18 + x, 16 + 14), text_colour(7));
        assert_int_equal(vga_pixel(r, 18 + x, 16 + 15), text_colour(0));
    }
    assert_int_equal(vga_pixel(r, 27, 16 + 13), text_colour(0));
    clock_advance(r->rig.clock, NS_PER_SEC * 8 / 70 + 1000);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 18, 16 + 13), text_colour(0));
    assert_int_equal(r->frame.rect_count, 1);
    assert_int_equal(r->frame.rect[0].width, 9);
    assert_int_equal(r->frame.rect[0].height, 2);
}

static void the_screen_scrolls_pans_and_splits(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_text);
    put_crtc(r, 0x0a, 0x20);
    put_glyph(r, 0, 'D', 0, 0xc0);
    put_cell(r, 0, 'D', 0x02);
    put_cell(r, 80, 'D', 0x03);
    put_crtc(r, 0x0d, 80); /* start at the second row */
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 0), text_colour(3));
    put_attribute(r, 0x13, 0x00); /* one dot to the left */
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 0), text_colour(3));
    assert_int_equal(vga_pixel(r, 1, 0), text_colour(0));
    /* From line 0x64 + 1 on the part that starts at address 0; panning stays above. */
    put_crtc(r, 0x18, 0x64);
    put_crtc(r, 0x11, 0);
    put_crtc(r, 0x07, 0x0f);
    put_crtc(r, 0x09, 0x0f);
    put_attribute(r, 0x10, 0x2c);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 1, 0), text_colour(0));
    assert_int_equal(vga_pixel(r, 0, 0x65), text_colour(2));
    assert_int_equal(vga_pixel(r, 1, 0x65), text_colour(2));
    put_crtc(r, 0x08, 0x0f); /* the top part begins in the last line of its row */
    put_cell(r, 160, 'D', 0x04);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 1), text_colour(4));
}

static void monochrome_text_is_underlined(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_text);
    put_crtc(r, 0x0a, 0x20);
    put_crtc(r, 0x14, 0x0d);
    put_cell(r, 0, ' ', 0x01);
    put_cell(r, 1, ' ', 0x02);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 13), text_colour(1));
    assert_int_equal(vga_pixel(r, 0, 12), text_colour(0));
    assert_int_equal(vga_pixel(r, 9, 13), text_colour(0));
}

static void text_is_read_as_utf8(void **state)
{
    struct vga_rig *r = *state;
    static const char greeting[] = "\xc9\xcd Sill \x03 \x81\x9b";
    char *text;

    assert_int_equal(display_text(r->display, &text), 0); /* whatever power-on shows */
    free(text);
    put_mode(r, &mode_text);
    for (unsigned i = 0; greeting[i]; i++)
        put_cell(r, 160 + i, (uint8_t)greeting[i], 0x07);
    put_cell(r, 24 * 80 + 79, '.', 0x07);
    assert_int_equal(display_text(r->display, &text), 0);
    static const char shown[] = "\n\n\u2554\u2550 Sill \u2665 \u00fc\u00a2\n\n";
    assert_memory_equal(text, shown, strlen(shown));
    unsigned rows = 0;
    for (const char *at = text; *at; at++)
        rows += *at == '\n';
    assert_int_equal(rows, 25);
    assert_string_equal(strrchr(text, ' '), " .\n");
    free(text);
    put_mode(r, &mode_16_colours);
    assert_int_equal(display_text(r->display, &text), -ENODATA);
}

/* ---- planes ---- */

static void write_mode_0_rotates_sets_and_combines(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_16_colours);
    put_graphics(r, 3, 0x04); /* rotate by four */
    poke(r, 0xa0000, 0x5c);
    put_graphics(r, 3, 0x00);
    put_graphics(r, 4, 3);
    assert_int_equal(peek(r, 0xa0000), 0xc5);

    put_graphics(r, 0, 0x02); /* set/reset: plane 1 set, plane 0 reset; 2 and 3 from the CPU */
    put_graphics(r, 1, 0x03);
    poke(r, 0xa0001, 0xf0);
    static const uint8_t set[] = {0x00, 0xff, 0xf0, 0xf0};
    for (uint8_t plane = 0; plane < 4; plane++) {
        put_graphics(r, 4, plane);
        assert_int_equal(peek(r, 0xa0001), set[plane]);
    }
    put_graphics(r, 1, 0x00);

    put_sequencer(r, 2, 0x05); /* planes 0 and 2 */
    poke(r, 0xa0002, 0xff);
    static const uint8_t masked[] = {0xff, 0x00, 0xff, 0x00};
    for (uint8_t plane = 0; plane < 4; plane++) {
        put_graphics(r, 4, plane);
        assert_int_equal(peek(r, 0xa0002), masked[plane]);
    }
    put_sequencer(r, 2, 0x0f);

    static const uint8_t results[] = {0x3c, 0x0c, 0x3f, 0x33};
    for (uint8_t function = 0; function < 4; function++) {
        put_graphics(r, 3, 0);
        poke(r, 0xa0003, 0x0f);
        put_graphics(r, 3, (uint8_t)(function << 3));
        peek(r, 0xa0003); /* fills the latches */
        poke(r, 0xa0003, 0x3c);
        assert_int_equal(peek(r, 0xa0003), results[function]);
    }
    put_graphics(r, 3, 0);

    poke(r, 0xa0004, 0xa5);
    peek(r, 0xa0004);
    put_graphics(r, 8, 0x0f); /* bit mask: the upper half is the latch's */
    poke(r, 0xa0004, 0x00);
    assert_int_equal(peek(r, 0xa0004), 0xa0);
}

static void write_mode_1_copies_the_latches(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_16_colours);
    for (uint8_t plane = 0; plane < 4; plane++) {
        put_sequencer(r, 2, (uint8_t)(1 << plane));
        poke(r, 0xa0000, (uint8_t)(0x11 * plane + 1));
    }
    put_sequencer(r, 2, 0x0f);
    put_graphics(r, 5, 1);
    peek(r, 0xa0000);
    poke(r, 0xa1234, 0xee);
    for (uint8_t plane = 0; plane < 4; plane++) {
        put_graphics(r, 4, plane);
        assert_int_equal(peek(r, 0xa1234), 0x11 * plane + 1);
    }
}

static void write_mode_2_takes_a_colour(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_16_colours);
    put_graphics(r, 5, 2);
    put_graphics(r, 8, 0x18);
    peek(r, 0xa0000);
    poke(r, 0xa0000, 0x0a);
    vga_look(r);
    assert_int_equal(r->frame.width, 640);
    assert_int_equal(r->frame.height, 480);
    assert_int_equal(vga_pixel(r, 2, 0), dac_colour(0));
    assert_int_equal(vga_pixel(r, 3, 0), dac_colour(0x3a));
    assert_int_equal(vga_pixel(r, 4, 0), dac_colour(0x3a));
    assert_int_equal(vga_pixel(r, 5, 0), dac_colour(0));
}

static void write_mode_3_uses_the_byte_as_a_mask(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_16_colours);
    put_graphics(r, 5, 3);
    put_graphics(r, 0, 0x06);
    put_graphics(r, 8, 0x7f);
    peek(r, 0xa0050);
    poke(r, 0xa0050, 0xc1);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 1), dac_colour(0));
    assert_int_equal(vga_pixel(r, 1, 1), dac_colour(0x14));
    assert_int_equal(vga_pixel(r, 6, 1), dac_colour(0));
    assert_int_equal(vga_pixel(r, 7, 1), dac_colour(0x14));
}

static void read_mode_1_compares_colours(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_16_colours);
    put_graphics(r, 5, 2);
    put_graphics(r, 8, 0xf0);
    poke(r, 0xa0000, 0x05);
    put_graphics(r, 8, 0x0f);
    peek(r, 0xa0000);
    poke(r, 0xa0000, 0x0d);
    put_graphics(r, 5, 0x08);
    put_graphics(r, 2, 0x05);
    put_graphics(r, 7, 0x0f);
    assert_int_equal(peek(r, 0xa0000), 0xf0);
    put_graphics(r, 7, 0x07); /* plane 3 does not matter */
    assert_int_equal(peek(r, 0xa0000), 0xff);
    put_graphics(r, 2, 0x02);
    assert_int_equal(peek(r, 0xa0000), 0x00);
}

static void the_window_is_where_the_map_select_says(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_16_colours); /* 0xa0000, 64 KiB */
    poke(r, 0xa0010, 0x12);
    poke(r, 0xb0010, 0x34);
    assert_int_equal(peek(r, 0xb0010), 0xff);
    put_graphics(r, 6, 0x09); /* 0xb0000, 32 KiB */
    assert_int_equal(peek(r, 0xb0010), 0x12);
    assert_int_equal(peek(r, 0xa0010), 0xff);
    assert_int_equal(peek(r, 0xb8010), 0xff);
    put_graphics(r, 6, 0x0d); /* 0xb8000 */
    assert_int_equal(peek(r, 0xb8010), 0x12);
    put_graphics(r, 6, 0x01); /* all */
    assert_int_equal(peek(r, 0xa0010), 0x12);
    mmio_write(&r->rig, 0xa0020, 8, 0x8877665544332211);
    assert_int_equal(mmio_read(&r->rig, 0xa0022, 4), 0x66554433);
}

/* ---- graphics modes ---- */

static void four_colours_are_two_bits_of_alternating_planes(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_4_colours);
    poke(r, 0xb8000, 0x1b);
    poke(r, 0xb8001, 0xe4);
    poke(r, 0xba000, 0xc0); /* the second line is 8 KiB further */
    vga_look(r);
    assert_int_equal(r->frame.width, 640);
    assert_int_equal(r->frame.height, 400);
    static const unsigned colours[] = {0, 1, 2, 3, 3, 2, 1, 0};
    for (unsigned i = 0; i < 8; i++) {
        uint32_t colour = dac_colour(mode_4_colours.attribute[colours[i]]);
        assert_int_equal(vga_pixel(r, 2 * i, 0), colour);
        assert_int_equal(vga_pixel(r, 2 * i + 1, 1), colour);
    }
    assert_int_equal(vga_pixel(r, 0, 2), dac_colour(0x17));
    assert_int_equal(vga_pixel(r, 2, 2), dac_colour(0));
}

static void sixteen_colours_come_from_four_planes(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_16_colours);
    for (unsigned plane = 0; plane < 4; plane++) {
        static const uint8_t bits[] = {0x55, 0x33, 0x0f, 0x00};
        put_sequencer(r, 2, (uint8_t)(1 << plane));
        poke(r, 0xa0000 + 479 * 80 + 79, bits[plane]);
    }
    vga_look(r);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(vga_pixel(r, 632 + i, 479), dac_colour(mode_16_colours.attribute[i]));
    put_attribute(r, 0x12, 0x01); /* only plane 0 is shown */
    vga_look(r);
    assert_int_equal(vga_pixel(r, 635, 479), dac_colour(1));
    put_attribute(r, 0x12, 0x0f);
    put_attribute(r, 0x14, 0x0c); /* the DAC's upper quarter */
    vga_look(r);
    assert_int_equal(vga_pixel(r, 633, 479), dac_colour(0xc1));
    put_attribute(r, 0x10, 0x81); /* bits 4 and 5 from the colour select register, too */
    put_attribute(r, 0x14, 0x06);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 639, 479), dac_colour(0x67));
    outb(&r->rig, 0x3c6, 0x0f);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 639, 479), dac_colour(0x07));
}

static void a_byte_is_a_pixel_with_256_colours(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_256_colours);
    for (unsigned i = 0; i < 5; i++)
        poke(r, 0xa0000 + 320 + i, (uint8_t)(0x80 + i));
    poke(r, 0xa0000 + 199 * 320 + 319, 0x77);
    vga_look(r);
    assert_int_equal(r->frame.width, 640);
    assert_int_equal(r->frame.height, 400);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(vga_pixel(r, i, 2), dac_colour(0x80 + i / 2));
        assert_int_equal(vga_pixel(r, i, 3), dac_colour(0x80 + i / 2));
    }
    assert_int_equal(vga_pixel(r, 0, 1), dac_colour(0));
    assert_int_equal(vga_pixel(r, 639, 399), dac_colour(0x77));
    assert_int_equal(peek(r, 0xa0000 + 321), 0x81);
    put_attribute(r, 0x13, 0x02); /* one pixel to the left */
    vga_look(r);
    assert_int_equal(vga_pixel(r, 0, 2), dac_colour(0x81));
}

static void mode_x_writes_four_pixels_at_once(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_256_colours);
    put_sequencer(r, 4, 0x06);
    put_crtc(r, 0x14, 0x00);
    put_crtc(r, 0x17, 0xe3);
    poke(r, 0xa0000, 0x42);
    put_sequencer(r, 2, 0x04);
    poke(r, 0xa0001, 0x43);
    poke(r, 0xa4000, 0x44); /* another page */
    vga_look(r);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(vga_pixel(r, i, 0), dac_colour(0x42));
    assert_int_equal(vga_pixel(r, 11, 0), dac_colour(0));
    assert_int_equal(vga_pixel(r, 12, 0), dac_colour(0x43));
    put_crtc(r, 0x0c, 0x40);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 3, 0), dac_colour(0));
    assert_int_equal(vga_pixel(r, 4, 0), dac_colour(0x44));
}

/* ---- what a viewer gets ---- */

static void only_what_changed_is_damaged(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_16_colours);
    vga_look(r);
    vga_look(r);
    assert_int_equal(r->frame.rect_count, 0);
    poke(r, 0xa0000 + 100 * 80 + 10, 0x10);
    vga_look(r);
    assert_int_equal(r->frame.rect_count, 1);
    assert_int_equal(r->frame.rect[0].x, 83);
    assert_int_equal(r->frame.rect[0].y, 100);
    assert_int_equal(r->frame.rect[0].width, 1);
    assert_int_equal(r->frame.rect[0].height, 1);
}

static void a_blanked_screen_is_black(void **state)
{
    struct vga_rig *r = *state;

    put_mode(r, &mode_16_colours);
    put_dac(r, 0, 0x3f, 0x3f, 0x3f);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 5, 5), 0xffffff);
    put_sequencer(r, 1, 0x21);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 5, 5), 0);
    vga_look(r);
    assert_int_equal(r->frame.rect_count, 0);
    put_sequencer(r, 1, 0x01);
    vga_look(r);
    assert_int_equal(vga_pixel(r, 5, 5), 0xffffff);
    inb(&r->rig, 0x3da);
    outb(&r->rig, 0x3c0, 0x00); /* the palette is the CPU's: nothing is shown */
    vga_look(r);
    assert_int_equal(vga_pixel(r, 5, 5), 0);
}

/* Any values in any registers: the picture is some picture, and the memory around survives. */
static void no_register_values_reach_outside_video_memory(void **state)
{
    struct vga_rig *r = *state;
    uint32_t random = 1;

    for (unsigned round = 0; round < 300; round++) {
        for (unsigned i = 0; i < 60; i++) {
            static const uint16_t index_ports[] = {0x3c4, 0x3ce, 0x3d4, 0x3b4, 0x1ce};
            random = random * 1664525 + 1013904223;
            unsigned choice = random >> 28;
            uint8_t value = (uint8_t)(random >> 8), index = (uint8_t)(random >> 16);
            if (choice < 4)
                outw(&r->rig, index_ports[choice], (uint16_t)(value << 8 | (index & 0x1f)));
            else if (choice < 8)
                outb(&r->rig, (uint16_t)(0x3b0 + index % 0x30), value);
            else if (choice < 10)
                put_attribute(r, index & 0x1f, value);
            else if (choice < 12)
                mmio_write(&r->rig, 0xa0000 + (random >> 4 & 0x1fff8), 8, random);
            else if (choice < 13)
                mmio_read(&r->rig, 0xa0000 + (random >> 4 & 0x1fff8), 8);
        }
        outb(&r->rig, 0x3c2, 0x01);
        if (round % 2)
            put_attribute(r, 0, 0); /* not blank */
        clock_advance(r->rig.clock, random);
        vga_look(r);
        char *text;
        if (display_text(r->display, &text) == 0)
            free(text);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(registers_hold_the_bits_that_exist),
        TEST(the_crtc_is_at_one_of_two_places),
        TEST(timing_registers_can_be_protected),
        TEST(attribute_writes_alternate_between_index_and_data),
        TEST(dac_entries_are_three_accesses_each),
        TEST(the_retrace_follows_vm_time),
        TEST(characters_are_drawn_from_the_font),
        TEST(frames_close_in_the_ninth_dot),
        TEST(bit_three_of_the_attribute_selects_the_second_font),
        TEST(attributes_blink_or_brighten_the_background),
        TEST(the_cursor_blinks_where_it_is),
        TEST(the_screen_scrolls_pans_and_splits),
        TEST(monochrome_text_is_underlined),
        TEST(text_is_read_as_utf8),
        TEST(write_mode_0_rotates_sets_and_combines),
        TEST(write_mode_1_copies_the_latches),
        TEST(write_mode_2_takes_a_colour),
        TEST(write_mode_3_uses_the_byte_as_a_mask),
        TEST(read_mode_1_compares_colours),
        TEST(the_window_is_where_the_map_select_says),
        TEST(four_colours_are_two_bits_of_alternating_planes),
        TEST(sixteen_colours_come_from_four_planes),
        TEST(a_byte_is_a_pixel_with_256_colours),
        TEST(mode_x_writes_four_pixels_at_once),
        TEST(only_what_changed_is_damaged),
        TEST(a_blanked_screen_is_black),
        TEST(no_register_values_reach_outside_video_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
