/*
 * The VGA's register numbers and bits, as far as something depends on them (IBM VGA XGA Technical
 * Reference Manual, 2-42 to 2-106), those of the dispi interface, and what the files of the VGA
 * call in each other. Nobody else includes this.
 */
#ifndef SILL_DEV_DISPLAY_VGA_REGS_H
#define SILL_DEV_DISPLAY_VGA_REGS_H

#include "dev/display/vga.h"

#define VGA_MISC_COLOUR 0x01u /* CRTC at 0x3d4, not 0x3b4 */
#define VGA_MISC_CLOCK_SHIFT 2

#define VGA_SR_CLOCKING 1
#define VGA_SR_CLOCKING_8_DOTS 0x01u
#define VGA_SR_CLOCKING_HALF 0x08u
#define VGA_SR_CLOCKING_OFF 0x20u
#define VGA_SR_MAP_MASK 2
#define VGA_SR_FONTS 3
#define VGA_SR_MEMORY 4
#define VGA_SR_MEMORY_SEQUENTIAL 0x04u /* not odd/even */
#define VGA_SR_MEMORY_CHAIN4 0x08u

#define VGA_GR_SET_RESET 0
#define VGA_GR_ENABLE_SET_RESET 1
#define VGA_GR_COLOUR_COMPARE 2
#define VGA_GR_ROTATE 3 /* and the logical function */
#define VGA_GR_READ_MAP 4
#define VGA_GR_MODE 5
#define VGA_GR_MODE_WRITE 0x03u
#define VGA_GR_MODE_READ_COMPARE 0x08u
#define VGA_GR_MODE_ODD_EVEN 0x10u
#define VGA_GR_MODE_INTERLEAVED 0x20u
#define VGA_GR_MODE_256 0x40u
#define VGA_GR_MISC 6
#define VGA_GR_MISC_ODD_EVEN 0x02u
#define VGA_GR_MISC_MAP_SHIFT 2
#define VGA_GR_DONT_CARE 7
#define VGA_GR_BIT_MASK 8

#define VGA_CR_TOTAL_H 0x00
#define VGA_CR_DISPLAY_END_H 0x01
#define VGA_CR_TOTAL_V 0x06
#define VGA_CR_OVERFLOW 0x07
#define VGA_CR_PRESET_ROW 0x08
#define VGA_CR_MAX_SCAN 0x09
#define VGA_CR_MAX_SCAN_DOUBLE 0x80u
#define VGA_CR_CURSOR_START 0x0a
#define VGA_CR_CURSOR_OFF 0x20u
#define VGA_CR_CURSOR_END 0x0b
#define VGA_CR_START_HIGH 0x0c
#define VGA_CR_START_LOW 0x0d
#define VGA_CR_CURSOR_HIGH 0x0e
#define VGA_CR_CURSOR_LOW 0x0f
#define VGA_CR_RETRACE_START_V 0x10
#define VGA_CR_RETRACE_END_V 0x11
#define VGA_CR_PROTECT 0x80u /* in 0x11: registers 0 to 7 */
#define VGA_CR_DISPLAY_END_V 0x12
#define VGA_CR_OFFSET 0x13
#define VGA_CR_UNDERLINE 0x14
#define VGA_CR_COUNT_BY_4 0x20u
#define VGA_CR_DOUBLE_WORD 0x40u
#define VGA_CR_MODE 0x17
#define VGA_CR_MODE_KEEP_13 0x01u /* address bit 13 is not the row scan's bit 0 */
#define VGA_CR_MODE_KEEP_14 0x02u
#define VGA_CR_MODE_COUNT_BY_2 0x08u
#define VGA_CR_MODE_WRAP_15 0x20u
#define VGA_CR_MODE_BYTE 0x40u
#define VGA_CR_LINE_COMPARE 0x18

#define VGA_AR_MODE 0x10
#define VGA_AR_MODE_GRAPHICS 0x01u
#define VGA_AR_MODE_LINE_GRAPHICS 0x04u
#define VGA_AR_MODE_BLINK 0x08u
#define VGA_AR_MODE_PAN_TOP_ONLY 0x20u
#define VGA_AR_MODE_256 0x40u
#define VGA_AR_MODE_P54 0x80u
#define VGA_AR_PLANES 0x12
#define VGA_AR_PANNING 0x13
#define VGA_AR_COLOUR_SELECT 0x14
#define VGA_AR_INDEX 0x1fu
#define VGA_AR_INDEX_SHOW 0x20u /* of the index register: the palette is the display's */

enum {
    VGA_DISPI_ID,
    VGA_DISPI_WIDTH,
    VGA_DISPI_HEIGHT,
    VGA_DISPI_DEPTH,
    VGA_DISPI_ENABLE,
    VGA_DISPI_BANK,
    VGA_DISPI_VIRTUAL_WIDTH,
    VGA_DISPI_VIRTUAL_HEIGHT,
    VGA_DISPI_X,
    VGA_DISPI_Y,
    VGA_DISPI_MEMORY, /* in 64 KiB */
};
#define VGA_DISPI_ON 0x01u
#define VGA_DISPI_CAPABILITIES 0x02u /* width, height and depth read as the highest */
#define VGA_DISPI_8BIT_DAC 0x20u
#define VGA_DISPI_KEEP_MEMORY 0x80u

/* vga_registers.c: ports 0x3b0 to 0x3df. With vga->lock held. */
uint8_t vga_port_read(struct vga *vga, unsigned port);
void vga_port_write(struct vga *vga, unsigned port, uint8_t value);
/* Clears the bits that no guest could have set. */
void vga_registers_mask(struct vga_registers *reg);

/* vga_dispi.c. With vga->lock held. */
void vga_dispi_reset(struct vga *vga);
uint16_t vga_dispi_read(const struct vga *vga, unsigned index);
void vga_dispi_write(struct vga *vga, unsigned index, uint16_t value);
/* Makes the registers describe a picture that lies in video memory. */
void vga_dispi_fit(struct vga_registers *reg, uint32_t vram_size);

static inline bool vga_dispi_on(const struct vga_registers *reg)
{
    return reg->dispi[VGA_DISPI_ENABLE] & VGA_DISPI_ON;
}

/* On, with the bytes of the pixels one behind the other: all depths but 4. */
static inline bool vga_is_linear(const struct vga_registers *reg)
{
    return vga_dispi_on(reg) && reg->dispi[VGA_DISPI_DEPTH] > 4;
}

/* Bytes of video memory from one line to the next, four planes together. */
uint32_t vga_dispi_stride(const struct vga_registers *reg);

/* vga_memory.c: a byte of the window at 0xa0000. With vga->lock held. */
uint8_t vga_memory_read(struct vga *vga, uint32_t offset);
void vga_memory_write(struct vga *vga, uint32_t offset, uint8_t value);

/*
 * vga_scan.c: how the CRT controller goes through memory. A frame has `lines` lines of `columns`
 * characters (of 8 pixels in graphics modes).
 */
struct vga_scan {
    unsigned columns, lines;
    unsigned dots;       /* of a character, 8 or 9 */
    unsigned dot_width;  /* pixels of the surface for each dot */
    unsigned row_height; /* lines of a row of characters, before doubling */
    bool doubled;
    bool text;
    unsigned split; /* the first line of the part that starts at address 0 */
    unsigned panning;
};

/* Where a line of the frame comes from. */
struct vga_line {
    uint32_t address; /* what the address counter starts with */
    unsigned row;     /* row scan: line within the row of characters */
    unsigned panning; /* dots that are off to the left */
};

void vga_scan_of(const struct vga_registers *reg, struct vga_scan *scan);
struct vga_line vga_scan_line(const struct vga_registers *reg, const struct vga_scan *scan,
                              unsigned line);
/* Index into vram of the four planes that the counter `column` characters behind `line.address`
 * reads. */
uint32_t vga_scan_address(const struct vga_registers *reg, const struct vga_line *line,
                          unsigned column);

/* Is anything shown at all? */
bool vga_is_blank(const struct vga_registers *reg);

/* vga_text.c: colour indices of one character's line into dots[0..8]. */
struct vga_blink {
    bool cursor, characters; /* shown in this phase */
};
void vga_text_dots(const struct vga_registers *reg, const uint8_t *vram,
                   const struct vga_line *line, unsigned column, struct vga_blink blink,
                   uint8_t *dots);

/* vga_draw.c: colour indices to pixels, and one line of the frame into `pixels`. */
#define VGA_COLOURS 256
void vga_colours(const struct vga_registers *reg, uint32_t colours[VGA_COLOURS]);
void vga_draw_line(const struct vga_registers *reg, const uint8_t *vram,
                   const struct vga_scan *scan, unsigned line, struct vga_blink blink,
                   const uint32_t *colours, uint32_t *pixels);
/* The same for dispi modes; `from` is where the line's `width` pixels begin. */
void vga_draw_dispi(const struct vga_registers *reg, const uint8_t *from, unsigned width,
                    const uint32_t *colours, uint32_t *pixels);

#endif
