/*
 * The ports of the VGA, 0x3b0 to 0x3df. IBM VGA XGA Technical Reference Manual, 2-41 (general
 * registers), 2-49 (sequencer), 2-55 (CRT controller), 2-82 (graphics controller), 2-92 (attribute
 * controller), 2-104 (DAC).
 *
 * A word written to an index port reaches index and data: the bus splits it into bytes.
 */
#include "dev/display/vga_regs.h"

/* Bits that exist; the others read as 0. */
static const uint8_t sequencer_bits[VGA_SEQUENCER] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
static const uint8_t graphics_bits[VGA_GRAPHICS] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03,
                                                    0x7b, 0x0f, 0x0f, 0xff};
static const uint8_t attribute_bits[VGA_ATTRIBUTE] = {0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
                                                      0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
                                                      0x3f, 0x3f, 0xef, 0xff, 0x3f, 0x0f, 0x0f};

/* Bit 4 of the overflow register, line compare's, is not write-protected (2-77). */
#define OVERFLOW_LINE_COMPARE 0x10u

#define STATUS0_SENSE 0x10u /* a monitor is there */
#define STATUS1_BLANK 0x01u
#define STATUS1_RETRACE 0x08u

#define DAC_STATE_READ 3u

/* The dot clocks by the clock select bits of the miscellaneous output register; the external ones
 * are not connected. */
#define DOT_CLOCK_25 25175000ull
#define DOT_CLOCK_28 28322000ull

/* Input status 1: where the beam would be at this time (2-45). */
static uint8_t status1(const struct vga *vga)
{
    const struct vga_registers *reg = &vga->reg;
    const uint8_t *crtc = reg->crtc;
    unsigned overflow = crtc[VGA_CR_OVERFLOW];
    unsigned clocking = reg->sequencer[VGA_SR_CLOCKING];
    uint64_t dot_clock = reg->misc >> VGA_MISC_CLOCK_SHIFT & 1 ? DOT_CLOCK_28 : DOT_CLOCK_25;
    uint64_t line_dots = (crtc[VGA_CR_TOTAL_H] + 5ull) * (clocking & VGA_SR_CLOCKING_8_DOTS ? 8 : 9)
                         << (clocking & VGA_SR_CLOCKING_HALF ? 1 : 0);
    unsigned lines = (crtc[VGA_CR_TOTAL_V] | (overflow & 0x01) << 8 | (overflow & 0x20) << 4) + 2u;
    unsigned shown =
        (crtc[VGA_CR_DISPLAY_END_V] | (overflow & 0x02) << 7 | (overflow & 0x40) << 3) + 1u;
    unsigned retrace =
        crtc[VGA_CR_RETRACE_START_V] | (overflow & 0x04) << 6 | (overflow & 0x80) << 2;
    uint8_t status = 0;

    /* Whole seconds first: the product of the rest stays below 2^64. */
    uint64_t now = clock_now(vga->clock);
    uint64_t dot = now / NS_PER_SEC * dot_clock + now % NS_PER_SEC * dot_clock / NS_PER_SEC;
    unsigned line = (unsigned)(dot / line_dots % lines);
    uint64_t column = dot % line_dots * (crtc[VGA_CR_TOTAL_H] + 5u) / line_dots;

    /* The retrace ends where the line's low four bits equal the end register's. */
    unsigned length = (crtc[VGA_CR_RETRACE_END_V] - retrace) & 15;
    if (line >= shown || column > crtc[VGA_CR_DISPLAY_END_H])
        status |= STATUS1_BLANK;
    if (line - retrace < (length ? length : 16))
        status |= STATUS1_RETRACE | STATUS1_BLANK;
    return status;
}

static void attribute_write(struct vga_registers *reg, uint8_t value)
{
    unsigned index = reg->attribute_index & VGA_AR_INDEX;

    if (!reg->attribute_data) {
        reg->attribute_index = value & (VGA_AR_INDEX | VGA_AR_INDEX_SHOW);
    } else if (index < VGA_ATTRIBUTE) {
        /* The palette is the CPU's only while it is not the display's. */
        if (index >= VGA_AR_MODE || !(reg->attribute_index & VGA_AR_INDEX_SHOW))
            reg->attribute[index] = value & attribute_bits[index];
    }
    reg->attribute_data = !reg->attribute_data;
}

static uint8_t attribute_read(const struct vga_registers *reg)
{
    unsigned index = reg->attribute_index & VGA_AR_INDEX;
    return index < VGA_ATTRIBUTE ? reg->attribute[index] : 0;
}

static void crtc_write(struct vga_registers *reg, uint8_t value)
{
    unsigned index = reg->crtc_index;

    if (index >= VGA_CRTC)
        return;
    if (index <= VGA_CR_OVERFLOW && reg->crtc[VGA_CR_RETRACE_END_V] & VGA_CR_PROTECT) {
        if (index != VGA_CR_OVERFLOW)
            return;
        value = (uint8_t)((reg->crtc[index] & ~OVERFLOW_LINE_COMPARE) |
                          (value & OVERFLOW_LINE_COMPARE));
    }
    reg->crtc[index] = value;
}

/* An entry changes when its third byte comes. */
static void dac_write(struct vga_registers *reg, uint8_t value)
{
    if (!(reg->dispi[VGA_DISPI_ENABLE] & VGA_DISPI_8BIT_DAC))
        value &= 0x3f;
    if (reg->dac_component < 2) {
        reg->dac_part[reg->dac_component++] = value;
        return;
    }
    uint8_t *entry = &reg->dac[3 * reg->dac_write++];
    entry[0] = reg->dac_part[0];
    entry[1] = reg->dac_part[1];
    entry[2] = value;
    reg->dac_component = 0;
}

static uint8_t dac_read(struct vga_registers *reg)
{
    uint8_t value = reg->dac[3 * reg->dac_read + reg->dac_component];

    if (++reg->dac_component == 3) {
        reg->dac_component = 0;
        reg->dac_read++;
    }
    return value;
}

/* The CRTC's and status ports are at 0x3b? for monochrome, at 0x3d? for colour. */
static bool is_elsewhere(const struct vga_registers *reg, unsigned port)
{
    if (port >= 0x3c0 && port <= 0x3cf)
        return false;
    return (port >= 0x3d0) != (reg->misc & VGA_MISC_COLOUR);
}

uint8_t vga_port_read(struct vga *vga, unsigned port)
{
    struct vga_registers *reg = &vga->reg;

    if (is_elsewhere(reg, port))
        return 0xff;
    switch (port) {
    case 0x3c0:
        return reg->attribute_index;
    case 0x3c1:
        return attribute_read(reg);
    case 0x3c2:
        return STATUS0_SENSE;
    case 0x3c4:
        return reg->sequencer_index;
    case 0x3c5:
        return reg->sequencer_index < VGA_SEQUENCER ? reg->sequencer[reg->sequencer_index] : 0;
    case 0x3c6:
        return reg->dac_mask;
    case 0x3c7:
        return reg->dac_reading ? DAC_STATE_READ : 0;
    case 0x3c8:
        return reg->dac_write;
    case 0x3c9:
        return dac_read(reg);
    case 0x3ca:
        return reg->feature;
    case 0x3cc:
        return reg->misc;
    case 0x3ce:
        return reg->graphics_index;
    case 0x3cf:
        return reg->graphics_index < VGA_GRAPHICS ? reg->graphics[reg->graphics_index] : 0;
    case 0x3b4:
    case 0x3d4:
        return reg->crtc_index;
    case 0x3b5:
    case 0x3d5:
        return reg->crtc_index < VGA_CRTC ? reg->crtc[reg->crtc_index] : 0;
    case 0x3ba:
    case 0x3da:
        reg->attribute_data = false;
        return status1(vga);
    default:
        return 0xff;
    }
}

void vga_port_write(struct vga *vga, unsigned port, uint8_t value)
{
    struct vga_registers *reg = &vga->reg;

    if (is_elsewhere(reg, port))
        return;
    switch (port) {
    case 0x3c0:
        attribute_write(reg, value);
        break;
    case 0x3c2:
        reg->misc = value & 0xef;
        break;
    case 0x3c4:
        reg->sequencer_index = value & 7;
        break;
    case 0x3c5:
        if (reg->sequencer_index < VGA_SEQUENCER)
            reg->sequencer[reg->sequencer_index] = value & sequencer_bits[reg->sequencer_index];
        break;
    case 0x3c6:
        reg->dac_mask = value;
        break;
    case 0x3c7:
        reg->dac_read = value;
        reg->dac_component = 0;
        reg->dac_reading = true;
        break;
    case 0x3c8:
        reg->dac_write = value;
        reg->dac_component = 0;
        reg->dac_reading = false;
        break;
    case 0x3c9:
        dac_write(reg, value);
        break;
    case 0x3ce:
        reg->graphics_index = value & 0x0f;
        break;
    case 0x3cf:
        if (reg->graphics_index < VGA_GRAPHICS)
            reg->graphics[reg->graphics_index] = value & graphics_bits[reg->graphics_index];
        break;
    case 0x3b4:
    case 0x3d4:
        reg->crtc_index = value & 0x1f;
        break;
    case 0x3b5:
    case 0x3d5:
        crtc_write(reg, value);
        break;
    case 0x3ba:
    case 0x3da:
        reg->feature = value & 0x08;
        break;
    default:
        break;
    }
}

void vga_registers_mask(struct vga_registers *reg)
{
    for (unsigned i = 0; i < VGA_SEQUENCER; i++)
        reg->sequencer[i] &= sequencer_bits[i];
    for (unsigned i = 0; i < VGA_GRAPHICS; i++)
        reg->graphics[i] &= graphics_bits[i];
    for (unsigned i = 0; i < VGA_ATTRIBUTE; i++)
        reg->attribute[i] &= attribute_bits[i];
}
