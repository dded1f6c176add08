/*
 * From video memory to pixels, one line at a time: the shift registers of the graphics controller
 * (IBM VGA XGA Technical Reference Manual, 2-88), the attribute controller (2-92) and the DAC
 * (2-104); and the linear modes of the dispi interface.
 */
#include "dev/display/vga_regs.h"

#include <string.h>

#define DOTS_MOST 9 /* of a character */

static uint8_t to_8_bits(const struct vga_registers *reg, uint8_t component)
{
    if (reg->dispi[VGA_DISPI_ENABLE] & VGA_DISPI_8BIT_DAC)
        return component;
    return (uint8_t)(component << 2 | (component >> 4 & 3));
}

static uint32_t colour(const struct vga_registers *reg, unsigned index)
{
    const uint8_t *entry = &reg->dac[3 * (index & reg->dac_mask)];
    return (uint32_t)to_8_bits(reg, entry[0]) << 16 | to_8_bits(reg, entry[1]) << 8 |
           to_8_bits(reg, entry[2]);
}

/* Through the palette of the attribute controller, which lacks some of the DAC's eight bits
 * (2-101).
 */
static unsigned dac_index(const struct vga_registers *reg, unsigned dot)
{
    unsigned select = reg->attribute[VGA_AR_COLOUR_SELECT];
    unsigned index = reg->attribute[dot & reg->attribute[VGA_AR_PLANES] & 0x0f] & 0x3f;

    if (reg->attribute[VGA_AR_MODE] & VGA_AR_MODE_P54)
        index = (index & 0x0f) | (select & 3) << 4;
    return index | (select >> 2 & 3) << 6;
}

void vga_colours(const struct vga_registers *reg, uint32_t colours[VGA_COLOURS])
{
    bool direct = vga_is_linear(reg) || reg->attribute[VGA_AR_MODE] & VGA_AR_MODE_256;

    for (unsigned i = 0; i < VGA_COLOURS; i++)
        colours[i] = colour(reg, direct ? i : dac_index(reg, i));
}

/* A bit of each of four planes makes an index. */
static void planar_dots(const uint8_t *plane, uint8_t *dots)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned shift = 7 - i;
        dots[i] = (uint8_t)((plane[0] >> shift & 1) | (plane[1] >> shift & 1) << 1 |
                            (plane[2] >> shift & 1) << 2 | (plane[3] >> shift & 1) << 3);
    }
}

/* Eight dots of four planes: indices of 4 bits, or (256 colours) of 8 bits and two dots wide. */
static void graphics_dots(const struct vga_registers *reg, const uint8_t *plane, uint8_t *dots)
{
    uint8_t mode = reg->graphics[VGA_GR_MODE];

    if (mode & VGA_GR_MODE_256) {
        for (unsigned i = 0; i < 8; i++)
            dots[i] = plane[i / 2];
    } else if (mode & VGA_GR_MODE_INTERLEAVED) {
        /* Two bits a dot: four dots of planes 0 and 2, then four of planes 1 and 3. */
        for (unsigned i = 0; i < 8; i++) {
            unsigned shift = 6 - 2 * (i & 3), low = i >> 2;
            dots[i] = (uint8_t)((plane[low] >> shift & 3) | (plane[low + 2] >> shift & 3) << 2);
        }
    } else {
        planar_dots(plane, dots);
    }
}

void vga_draw_line(const struct vga_registers *reg, const uint8_t *vram,
                   const struct vga_scan *scan, unsigned line, struct vga_blink blink,
                   const uint32_t *colours, uint32_t *pixels)
{
    struct vga_line from = vga_scan_line(reg, scan, line);
    unsigned skip = from.panning;
    uint8_t dots[DOTS_MOST];

    /* Panning shows a part of one character more. */
    for (unsigned column = 0; column < scan->columns + (from.panning > 0); column++) {
        if (scan->text)
            vga_text_dots(reg, vram, &from, column, blink, dots);
        else
            graphics_dots(reg, &vram[vga_scan_address(reg, &from, column)], dots);
        unsigned end = column < scan->columns ? scan->dots : from.panning;
        for (unsigned i = skip; i < end; i++) {
            for (unsigned n = 0; n < scan->dot_width; n++)
                *pixels++ = colours[dots[i]];
        }
        skip = 0;
    }
}

/* `bits` bits, 5 or 6, to eight: the highest fill the lowest. */
static uint32_t widen(unsigned value, unsigned bits)
{
    value &= (1u << bits) - 1;
    return value << (8 - bits) | value >> (2 * bits - 8);
}

static uint32_t from_16(unsigned value, unsigned green_bits)
{
    return widen(value >> (5 + green_bits), 5) << 16 | widen(value >> 5, green_bits) << 8 |
           widen(value, 5);
}

void vga_draw_dispi(const struct vga_registers *reg, const uint8_t *from, unsigned width,
                    const uint32_t *colours, uint32_t *pixels)
{
    unsigned depth = reg->dispi[VGA_DISPI_DEPTH];
    uint8_t dots[DOTS_MOST];

    switch (depth) {
    case 4:
        for (unsigned i = 0; i < width; i++) {
            if (i % 8 == 0)
                planar_dots(from + i / 2, dots);
            pixels[i] = colours[dots[i % 8]];
        }
        break;
    case 8:
        for (unsigned i = 0; i < width; i++)
            pixels[i] = colours[from[i]];
        break;
    case 15:
    case 16:
        for (unsigned i = 0; i < width; i++)
            pixels[i] = from_16((unsigned)from[2 * i] | from[2 * i + 1] << 8, depth - 10);
        break;
    case 24:
        for (unsigned i = 0; i < width; i++)
            pixels[i] = (uint32_t)from[3 * i] | from[3 * i + 1] << 8 | from[3 * i + 2] << 16;
        break;
    default:
        memcpy(pixels, from, 4ull * width);
        for (unsigned i = 0; i < width; i++)
            pixels[i] &= 0x00ffffff;
        break;
    }
}
