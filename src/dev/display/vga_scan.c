/*
 * How the CRT controller goes through video memory: the size of the frame, and for each of its
 * lines the address counter and the row scan. IBM VGA XGA Technical Reference Manual, 2-55 to 2-80.
 *
 * The counter counts characters. What it becomes on the way to memory depends on the mode:
 *
 *     byte mode         a15 ... a14 a13 ... a1 a0     both bits may be the row scan's bits 1 and 0
 *     word mode         a14 ... a13 a12 ... a0 a13 (or a15)     instead of a14 and a13
 *     double-word mode  a13 ... a12 a11 ... a13 a12
 */
#include "dev/display/vga_regs.h"

bool vga_is_blank(const struct vga_registers *reg)
{
    return !(reg->attribute_index & VGA_AR_INDEX_SHOW) ||
           reg->sequencer[VGA_SR_CLOCKING] & VGA_SR_CLOCKING_OFF;
}

void vga_scan_of(const struct vga_registers *reg, struct vga_scan *scan)
{
    const uint8_t *crtc = reg->crtc;
    unsigned overflow = crtc[VGA_CR_OVERFLOW];
    unsigned max_scan = crtc[VGA_CR_MAX_SCAN];
    unsigned clocking = reg->sequencer[VGA_SR_CLOCKING];
    bool text = !(reg->attribute[VGA_AR_MODE] & VGA_AR_MODE_GRAPHICS);

    *scan = (struct vga_scan){
        .columns = crtc[VGA_CR_DISPLAY_END_H] + 1u,
        .lines =
            (crtc[VGA_CR_DISPLAY_END_V] | (overflow & 0x02) << 7 | (overflow & 0x40) << 3) + 1u,
        .dots = text && !(clocking & VGA_SR_CLOCKING_8_DOTS) ? 9 : 8,
        .dot_width = clocking & VGA_SR_CLOCKING_HALF ? 2 : 1,
        .row_height = (max_scan & 0x1f) + 1,
        .doubled = max_scan & VGA_CR_MAX_SCAN_DOUBLE,
        .text = text,
        .split = (crtc[VGA_CR_LINE_COMPARE] | (overflow & 0x10) << 4 | (max_scan & 0x40) << 3) + 1u,
    };

    /* Horizontal panning (2-100): with nine dots the value 8 means none, with 256 colours a pixel
     * is two dots wide. */
    unsigned panning = reg->attribute[VGA_AR_PANNING];
    if (reg->attribute[VGA_AR_MODE] & VGA_AR_MODE_256)
        scan->panning = panning & 7;
    else if (scan->dots == 9)
        scan->panning = panning >= 8 ? 0 : panning + 1;
    else
        scan->panning = panning & 7;
}

struct vga_line vga_scan_line(const struct vga_registers *reg, const struct vga_scan *scan,
                              unsigned line)
{
    const uint8_t *crtc = reg->crtc;
    unsigned preset = crtc[VGA_CR_PRESET_ROW];
    struct vga_line from = {
        .address =
            (uint32_t)(crtc[VGA_CR_START_HIGH] << 8 | crtc[VGA_CR_START_LOW]) + (preset >> 5 & 3),
        .panning = scan->panning,
    };
    unsigned first_row = preset & 0x1f;

    if (line >= scan->split) {
        line -= scan->split;
        from.address = 0;
        first_row = 0;
        if (reg->attribute[VGA_AR_MODE] & VGA_AR_MODE_PAN_TOP_ONLY)
            from.panning = 0;
    }
    unsigned scanned = first_row + (scan->doubled ? line / 2 : line);
    from.address += scanned / scan->row_height * crtc[VGA_CR_OFFSET] * 2;
    from.row = scanned % scan->row_height;
    return from;
}

uint32_t vga_scan_address(const struct vga_registers *reg, const struct vga_line *line,
                          unsigned column)
{
    unsigned mode = reg->crtc[VGA_CR_MODE];
    unsigned underline = reg->crtc[VGA_CR_UNDERLINE];
    uint32_t counter, address;

    if (underline & VGA_CR_COUNT_BY_4)
        column /= 4;
    else if (mode & VGA_CR_MODE_COUNT_BY_2)
        column /= 2;
    counter = (line->address + column) & 0xffff;

    if (underline & VGA_CR_DOUBLE_WORD)
        address = counter << 2 | (counter >> 14 & 3);
    else if (mode & VGA_CR_MODE_BYTE)
        address = counter;
    else
        address = counter << 1 | (counter >> (mode & VGA_CR_MODE_WRAP_15 ? 15 : 13) & 1);
    if (!(mode & VGA_CR_MODE_KEEP_13))
        address = (address & ~0x2000u) | (line->row & 1) << 13;
    if (!(mode & VGA_CR_MODE_KEEP_14))
        address = (address & ~0x4000u) | (line->row >> 1 & 1) << 14;
    return 4 * (address & 0xffff);
}
