/*
 * What the tests of the VGA share: the PCI function on a bus of its own, a viewer, and the register
 * values of the standard modes (IBM VGA XGA Technical Reference Manual, appendix A).
 */
#ifndef SILL_TESTS_UNIT_VGA_RIG_H
#define SILL_TESTS_UNIT_VGA_RIG_H

#include "device_rig.h"

#include "dev/display/vga_pci.h"

#define VRAM_SIZE (1024u * 1024u)
#define VRAM_BASE 0xe0000000u
#define REGISTERS_BASE 0xe8000000u
#define VGA_DEVFN PCI_DEVFN(2, 0)

struct vga_rig {
    struct device_rig rig;
    struct memory memory;
    struct pci_bus pci;
    struct display *display;
    struct device *device;
    struct display_viewer viewer;
    struct display_frame frame; /* of the latest vga_look() */
    unsigned remaps;            /* asked for */
    gpa_t changed[4];           /* where the engine was told of changed memory */
    unsigned changes;
};

static inline void vga_remap_asked(void *opaque)
{
    ((struct vga_rig *)opaque)->remaps++;
}

static inline int vga_memory_changed(void *opaque, gpa_t gpa, uint64_t size, struct error *err)
{
    struct vga_rig *r = opaque;

    assert_int_equal(size, VRAM_SIZE);
    r->changed[r->changes++ % ARRAY_SIZE(r->changed)] = gpa;
    return 0;
}

static inline void vga_rig_init(struct vga_rig *r)
{
    const struct msi_sink no_messages = {0};

    rig_init(&r->rig);
    memory_init(&r->memory, 0);
    pci_bus_init(&r->pci, &r->rig.bus, &r->memory, &no_messages);
    r->pci.remap = (struct pci_remap){r, vga_remap_asked, vga_memory_changed};
    assert_int_equal(display_new(&r->display), 0);
    const struct vga_pci_config config = {
        .name = "vga",
        .bus = &r->pci,
        .devfn = VGA_DEVFN,
        .clock = r->rig.clock,
        .memory = VRAM_SIZE,
        .display = r->display,
    };
    assert_int_equal(vga_pci_new(&r->device, &config, NULL), 0);
    pci_config_write(&r->pci, VGA_DEVFN, PCI_BAR0, 4, VRAM_BASE);
    pci_config_write(&r->pci, VGA_DEVFN, PCI_BAR0 + 8, 4, REGISTERS_BASE);
    pci_config_write(&r->pci, VGA_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    display_add_viewer(r->display, &r->viewer);
}

static inline void vga_rig_done(struct vga_rig *r)
{
    display_remove_viewer(&r->viewer);
    r->device->ops->destroy(r->device);
    display_free(r->display);
    pci_bus_done(&r->pci);
    memory_done(&r->memory);
    rig_done(&r->rig);
}

/* Refreshes; the frame stays readable, as nobody else draws. */
static inline void vga_look(struct vga_rig *r)
{
    display_refresh(&r->viewer, &r->frame);
    display_release(&r->viewer);
}

static inline uint32_t vga_pixel(const struct vga_rig *r, unsigned x, unsigned y)
{
    assert_true(x < r->frame.width && y < r->frame.height);
    return r->frame.pixels[y * r->frame.stride + x];
}

struct vga_mode {
    uint8_t misc;
    uint8_t sequencer[5];
    uint8_t crtc[25];
    uint8_t attribute[21];
    uint8_t graphics[9];
};

/* 80 by 25 characters of 9 by 16 dots. */
static const struct vga_mode mode_text = {
    0x67,
    {0x03, 0x00, 0x03, 0x00, 0x02},
    {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff},
    {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a,
     0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x0f, 0xff}};
/* 320 by 200, 4 colours, as on the CGA. */
static const struct vga_mode mode_4_colours = {
    0x63,
    {0x03, 0x09, 0x03, 0x00, 0x02},
    {0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x14, 0x00, 0x96, 0xb9, 0xa2, 0xff},
    {0x00, 0x13, 0x15, 0x17, 0x02, 0x04, 0x06, 0x07, 0x10, 0x11, 0x12,
     0x13, 0x14, 0x15, 0x16, 0x17, 0x01, 0x00, 0x03, 0x00, 0x00},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x0f, 0x0f, 0xff}};
/* 640 by 480, 16 colours. */
static const struct vga_mode mode_16_colours = {
    0xe3,
    {0x03, 0x01, 0x0f, 0x00, 0x06},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0xea, 0x8c, 0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff},
    {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a,
     0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x01, 0x00, 0x0f, 0x00, 0x00},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0f, 0xff}};
/* 320 by 200, 256 colours. */
static const struct vga_mode mode_256_colours = {
    0x63,
    {0x03, 0x01, 0x0f, 0x00, 0x0e},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff},
    {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a,
     0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x41, 0x00, 0x0f, 0x00, 0x00},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0f, 0xff}};

static inline void put_sequencer(struct vga_rig *r, uint8_t index, uint8_t value)
{
    outw(&r->rig, 0x3c4, (uint16_t)(value << 8 | index));
}

static inline void put_graphics(struct vga_rig *r, uint8_t index, uint8_t value)
{
    outw(&r->rig, 0x3ce, (uint16_t)(value << 8 | index));
}

static inline void put_crtc(struct vga_rig *r, uint8_t index, uint8_t value)
{
    outw(&r->rig, 0x3d4, (uint16_t)(value << 8 | index));
}

/* The palette is the CPU's during this; afterwards it is the display's. */
static inline void put_attribute(struct vga_rig *r, uint8_t index, uint8_t value)
{
    inb(&r->rig, 0x3da);
    outb(&r->rig, 0x3c0, index);
    outb(&r->rig, 0x3c0, value);
    outb(&r->rig, 0x3c0, 0x20);
}

static inline void put_dac(struct vga_rig *r, uint8_t index, uint8_t red, uint8_t green,
                           uint8_t blue)
{
    outb(&r->rig, 0x3c8, index);
    outb(&r->rig, 0x3c9, red);
    outb(&r->rig, 0x3c9, green);
    outb(&r->rig, 0x3c9, blue);
}

/* DAC entry i is red i / 4, green 0x3f - i / 4, blue 3 * (i mod 4): all differ. */
static inline void put_mode(struct vga_rig *r, const struct vga_mode *mode)
{
    outb(&r->rig, 0x3c2, mode->misc);
    for (unsigned i = 0; i < ARRAY_SIZE(mode->sequencer); i++)
        put_sequencer(r, (uint8_t)i, mode->sequencer[i]);
    put_crtc(r, 0x11, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(mode->crtc); i++)
        put_crtc(r, (uint8_t)i, mode->crtc[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(mode->graphics); i++)
        put_graphics(r, (uint8_t)i, mode->graphics[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(mode->attribute); i++)
        put_attribute(r, (uint8_t)i, mode->attribute[i]);
    outb(&r->rig, 0x3c6, 0xff);
    for (unsigned i = 0; i < 256; i++)
        put_dac(r, (uint8_t)i, (uint8_t)(i / 4), (uint8_t)(0x3f - i / 4), (uint8_t)(3 * (i % 4)));
}

/* What a DAC entry of put_mode() looks like. */
static inline uint32_t dac_colour(unsigned index)
{
    unsigned part[] = {index / 4, 0x3f - index / 4, 3 * (index % 4)};

    for (unsigned i = 0; i < 3; i++)
        part[i] = part[i] << 2 | part[i] >> 4;
    return part[0] << 16 | part[1] << 8 | part[2];
}

#endif
