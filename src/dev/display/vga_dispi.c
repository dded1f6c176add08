/*
 * The Bochs display interface: numbered 16-bit registers, at ports 0x1ce (index) and 0x1cf (data)
 * and in the memory BAR, that switch the VGA to a mode with linear memory. Bochs VBE display API,
 * interface version 0xb0c5.
 *
 * The registers are made to fit video memory whenever one is written, so that whoever reads them
 * back sees what is shown.
 */
#include "dev/display/vga_regs.h"

#include <string.h>

#define ID_FIRST 0xb0c0u
#define ID_LATEST 0xb0c5u

#define MAX_WIDTH 2560u
#define MAX_HEIGHT 1600u
#define MAX_DEPTH 32u

#define ENABLE_BITS 0x00e3u

static bool is_depth(unsigned depth)
{
    return depth == 4 || depth == 8 || depth == 15 || depth == 16 || depth == 24 || depth == 32;
}

/* Bytes that so many pixels in a line take, all planes together. */
static uint32_t line_bytes(const struct vga_registers *reg, uint32_t pixels)
{
    unsigned depth = reg->dispi[VGA_DISPI_DEPTH];
    return depth == 4 ? pixels / 2 : pixels * ((depth + 7) / 8);
}

uint32_t vga_dispi_stride(const struct vga_registers *reg)
{
    return line_bytes(reg, reg->dispi[VGA_DISPI_VIRTUAL_WIDTH]);
}

static uint16_t between(uint16_t value, uint32_t least, uint32_t most)
{
    return (uint16_t)(value < least ? least : value > most ? most : value);
}

void vga_dispi_fit(struct vga_registers *reg, uint32_t vram_size)
{
    uint16_t *r = reg->dispi;

    if (!is_depth(r[VGA_DISPI_DEPTH]))
        r[VGA_DISPI_DEPTH] = 8;
    r[VGA_DISPI_WIDTH] = between(r[VGA_DISPI_WIDTH] & ~7u, 8, MAX_WIDTH);
    r[VGA_DISPI_HEIGHT] = between(r[VGA_DISPI_HEIGHT], 1, MAX_HEIGHT);
    uint32_t lines = vram_size / line_bytes(reg, r[VGA_DISPI_WIDTH]);
    r[VGA_DISPI_HEIGHT] = between(r[VGA_DISPI_HEIGHT], 1, lines);

    /* The longest line with which all of the picture is still in memory. */
    uint32_t most = vram_size / r[VGA_DISPI_HEIGHT] / line_bytes(reg, 8) * 8;
    r[VGA_DISPI_VIRTUAL_WIDTH] = between(r[VGA_DISPI_VIRTUAL_WIDTH] & ~7u, r[VGA_DISPI_WIDTH],
                                         most > 0xfff8 ? 0xfff8 : most);
    lines = vram_size / vga_dispi_stride(reg);
    r[VGA_DISPI_VIRTUAL_HEIGHT] = between(0xffff, 0, lines);

    r[VGA_DISPI_X] =
        between(r[VGA_DISPI_X], 0, (uint32_t)r[VGA_DISPI_VIRTUAL_WIDTH] - r[VGA_DISPI_WIDTH]);
    r[VGA_DISPI_Y] =
        between(r[VGA_DISPI_Y], 0, (uint32_t)r[VGA_DISPI_VIRTUAL_HEIGHT] - r[VGA_DISPI_HEIGHT]);
    r[VGA_DISPI_BANK] = between(r[VGA_DISPI_BANK], 0, vram_size / 0x10000 - 1);
    r[VGA_DISPI_MEMORY] = (uint16_t)(vram_size / 0x10000);
}

void vga_dispi_reset(struct vga *vga)
{
    memset(vga->reg.dispi, 0, sizeof(vga->reg.dispi));
    vga->reg.dispi[VGA_DISPI_ID] = ID_LATEST;
    vga_dispi_fit(&vga->reg, vga->vram_size);
}

uint16_t vga_dispi_read(const struct vga *vga, unsigned index)
{
    if (vga->reg.dispi[VGA_DISPI_ENABLE] & VGA_DISPI_CAPABILITIES) {
        switch (index) {
        case VGA_DISPI_WIDTH:
            return MAX_WIDTH;
        case VGA_DISPI_HEIGHT:
            return MAX_HEIGHT;
        case VGA_DISPI_DEPTH:
            return MAX_DEPTH;
        default:
            break;
        }
    }
    return index < VGA_DISPI ? vga->reg.dispi[index] : 0;
}

static void enable(struct vga *vga, uint16_t value)
{
    uint16_t *r = vga->reg.dispi;
    bool was_on = r[VGA_DISPI_ENABLE] & VGA_DISPI_ON;

    r[VGA_DISPI_ENABLE] = value & ENABLE_BITS;
    if (!(value & VGA_DISPI_ON) || was_on)
        return;
    r[VGA_DISPI_VIRTUAL_WIDTH] = r[VGA_DISPI_WIDTH];
    r[VGA_DISPI_X] = 0;
    r[VGA_DISPI_Y] = 0;
    r[VGA_DISPI_BANK] = 0;
    vga_dispi_fit(&vga->reg, vga->vram_size);
    if (!(value & VGA_DISPI_KEEP_MEMORY))
        memset(vga->vram, 0, (size_t)vga_dispi_stride(&vga->reg) * r[VGA_DISPI_HEIGHT]);
}

void vga_dispi_write(struct vga *vga, unsigned index, uint16_t value)
{
    switch (index) {
    case VGA_DISPI_ID:
        if (value >= ID_FIRST && value <= ID_LATEST)
            vga->reg.dispi[index] = value;
        break;
    case VGA_DISPI_WIDTH:
    case VGA_DISPI_HEIGHT:
    case VGA_DISPI_DEPTH:
    case VGA_DISPI_BANK:
    case VGA_DISPI_VIRTUAL_WIDTH:
    case VGA_DISPI_X:
    case VGA_DISPI_Y:
        vga->reg.dispi[index] = value;
        vga_dispi_fit(&vga->reg, vga->vram_size);
        break;
    case VGA_DISPI_ENABLE:
        enable(vga, value);
        break;
    default: /* read-only, or none */
        break;
    }
}
