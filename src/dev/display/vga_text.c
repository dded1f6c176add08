/*
 * Text modes: plane 0 has the characters, plane 1 their attributes, plane 2 the fonts. IBM VGA XGA
 * Technical Reference Manual, 2-22 (attributes), 2-53 (fonts), 2-67 (cursor), 2-96 (line graphics).
 */
#include "dev/display/vga_regs.h"

#include <errno.h>
#include <stdlib.h>

#define ATTRIBUTE_BLINK 0x80u
#define ATTRIBUTE_INTENSE 0x08u
#define ATTRIBUTE_UNDERLINE 0x77u /* these bits as 1: monochrome's underlined */

/* Characters whose eighth dot reaches into the ninth, so that frames close. */
#define LINE_GRAPHICS_FIRST 0xc0
#define LINE_GRAPHICS_LAST 0xdf

#define GLYPH_SPACING 32 /* bytes of plane 2 from one glyph to the next */

/* Where font `number` of the eight begins in plane 2: the even ones first (2-53). */
static uint32_t font_address(unsigned number)
{
    return (number & 3) * 0x4000 + (number & 4 ? 0x2000 : 0);
}

static uint8_t glyph_line(const struct vga_registers *reg, const uint8_t *vram, uint8_t character,
                          uint8_t attribute, unsigned row)
{
    unsigned fonts = reg->sequencer[VGA_SR_FONTS];
    unsigned number = attribute & ATTRIBUTE_INTENSE ? (fonts >> 2 & 3) | (fonts >> 3 & 4)
                                                    : (fonts & 3) | (fonts >> 2 & 4);
    return vram[4 * (font_address(number) + character * GLYPH_SPACING + row) + 2];
}

static bool has_cursor(const struct vga_registers *reg, const struct vga_line *line,
                       unsigned column)
{
    const uint8_t *crtc = reg->crtc;
    uint32_t place = (uint32_t)(crtc[VGA_CR_CURSOR_HIGH] << 8 | crtc[VGA_CR_CURSOR_LOW]) +
                     (crtc[VGA_CR_CURSOR_END] >> 5 & 3); /* skew */

    return !(crtc[VGA_CR_CURSOR_START] & VGA_CR_CURSOR_OFF) &&
           ((line->address + column) & 0xffff) == (place & 0xffff) &&
           line->row >= (crtc[VGA_CR_CURSOR_START] & 0x1fu) &&
           line->row <= (crtc[VGA_CR_CURSOR_END] & 0x1fu);
}

void vga_text_dots(const struct vga_registers *reg, const uint8_t *vram,
                   const struct vga_line *line, unsigned column, struct vga_blink blink,
                   uint8_t *dots)
{
    const uint8_t *cell = &vram[vga_scan_address(reg, line, column)];
    uint8_t character = cell[0], attribute = cell[1];
    uint8_t mode = reg->attribute[VGA_AR_MODE];
    uint8_t foreground = attribute & 0x0f, background = attribute >> 4;
    uint8_t glyph = glyph_line(reg, vram, character, attribute, line->row);

    if ((attribute & ATTRIBUTE_UNDERLINE) == 1 &&
        line->row == (reg->crtc[VGA_CR_UNDERLINE] & 0x1fu))
        glyph = 0xff;
    if (mode & VGA_AR_MODE_BLINK) {
        background &= 7;
        if (attribute & ATTRIBUTE_BLINK && !blink.characters)
            glyph = 0;
    }
    bool ninth = mode & VGA_AR_MODE_LINE_GRAPHICS && character >= LINE_GRAPHICS_FIRST &&
                 character <= LINE_GRAPHICS_LAST && glyph & 1;
    if (blink.cursor && has_cursor(reg, line, column)) {
        glyph = 0xff;
        ninth = true;
    }
    for (unsigned i = 0; i < 8; i++)
        dots[i] = glyph & 0x80 >> i ? foreground : background;
    dots[8] = ninth ? foreground : background;
}

/* Code page 437 in Unicode, what IBM's fonts show; 0 and 0xff are blank. */
static const uint16_t unicode_low[32] = {
    ' ',    0x263a, 0x263b, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25d8, 0x25cb, 0x25d9,
    0x2642, 0x2640, 0x266a, 0x266b, 0x263c, 0x25ba, 0x25c4, 0x2195, 0x203c, 0x00b6, 0x00a7,
    0x25ac, 0x21a8, 0x2191, 0x2193, 0x2192, 0x2190, 0x221f, 0x2194, 0x25b2, 0x25bc};
static const uint16_t unicode_high[129] = {
    0x2302, 0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb, 0x00e8,
    0x00ef, 0x00ee, 0x00ec, 0x00c4, 0x00c5, 0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb,
    0x00f9, 0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192, 0x00e1, 0x00ed, 0x00f3,
    0x00fa, 0x00f1, 0x00d1, 0x00aa, 0x00ba, 0x00bf, 0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab,
    0x00bb, 0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551,
    0x2557, 0x255d, 0x255c, 0x255b, 0x2510, 0x2514, 0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e,
    0x255f, 0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567, 0x2568, 0x2564, 0x2565,
    0x2559, 0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590,
    0x2580, 0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4, 0x03a6, 0x0398, 0x03a9,
    0x03b4, 0x221e, 0x03c6, 0x03b5, 0x2229, 0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7,
    0x2248, 0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, ' '};

#define UTF8_MOST 3 /* bytes of any of these */

static char *put_character(char *at, uint8_t character)
{
    unsigned code = character < 0x20    ? unicode_low[character]
                    : character >= 0x7f ? unicode_high[character - 0x7f]
                                        : character;
    if (code < 0x80) {
        *at++ = (char)code;
    } else if (code < 0x800) {
        *at++ = (char)(0xc0 | code >> 6);
        *at++ = (char)(0x80 | (code & 0x3f));
    } else {
        *at++ = (char)(0xe0 | code >> 12);
        *at++ = (char)(0x80 | (code >> 6 & 0x3f));
        *at++ = (char)(0x80 | (code & 0x3f));
    }
    return at;
}

int vga_text(struct vga *vga, char **out)
{
    struct vga_scan scan;

    pthread_mutex_lock(&vga->lock);
    struct vga_registers reg = vga->reg;
    pthread_mutex_unlock(&vga->lock);
    vga_scan_of(&reg, &scan);
    if (!scan.text || vga_dispi_on(&reg))
        return -ENODATA;

    unsigned row_lines = scan.row_height * (scan.doubled ? 2 : 1);
    size_t rows = (scan.lines + row_lines - 1) / row_lines;
    char *text = malloc(rows * (scan.columns * UTF8_MOST + 1) + 1);
    if (!text)
        return -ENOMEM;
    char *at = text;
    for (unsigned row = 0; row < rows; row++) {
        struct vga_line line = vga_scan_line(&reg, &scan, row * row_lines);
        char *end = at; /* behind the last that is no space */
        for (unsigned column = 0; column < scan.columns; column++) {
            uint8_t character = vga->vram[vga_scan_address(&reg, &line, column)];
            bool space = character == ' ' || character == 0 || character == 0xff;
            at = put_character(at, character);
            if (!space)
                end = at;
        }
        at = end;
        *at++ = '\n';
    }
    *at = '\0';
    *out = text;
    return 0;
}
