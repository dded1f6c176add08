/* The monitor's description; see edid.h. */
#include "dev/display/edid.h"

#include <string.h>

/* Places in the block, section 3.1. */
enum {
    VENDOR = 8,
    PRODUCT = 10,
    YEAR = 17,
    VERSION = 18,
    INPUT = 20,
    SIZE_CM = 21,
    GAMMA = 23,
    FEATURES = 24,
    COLOURS = 25,
    ESTABLISHED = 35,
    STANDARD = 38,
    DETAILED = 54,
    CHECKSUM = 127,
};

#define DESCRIPTOR_SIZE 18
#define DESCRIPTOR_NAME 0xfc
#define DESCRIPTOR_RANGE 0xfd
#define DESCRIPTOR_EMPTY 0x10

/* Three letters of five bits each: "SIL". */
#define VENDOR_SILL (('S' - '@') << 10 | ('I' - '@') << 5 | ('L' - '@'))

#define INPUT_DIGITAL 0x80
#define FEATURES_RGB_PREFERRED 0x0a /* colour; the first detailed timing is the preferred one */
#define GAMMA_2_2 120

/* The dots of a monitor of about 100 to the inch. */
#define DOTS_PER_CM 40
#define DOTS_PER_10_MM 40

/* Blanking as in CVT reduced blanking: 160 dots; some lines. */
#define BLANK_DOTS 160
#define SYNC_OFFSET_DOTS 48
#define SYNC_DOTS 32
#define BLANK_LINES 30
#define SYNC_OFFSET_LINES 3
#define SYNC_LINES 6
#define REFRESH_HZ 60
#define CLOCK_UNIT 10000
#define TIMING_DIGITAL_SEPARATE 0x1a /* vertical sync negative, horizontal positive */

/* Standard timings, 3.9: (width / 8 - 31), aspect ratio and refresh rate less 60. */
#define ASPECT_16_10 0x00
#define ASPECT_4_3 0x40
#define ASPECT_5_4 0x80
#define ASPECT_16_9 0xc0
#define STANDARD_TIMING(width, aspect) (width) / 8 - 31, (aspect)

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

/* Section 3.10.2. */
static void put_timing(uint8_t *at, unsigned width, unsigned height)
{
    unsigned clock = (width + BLANK_DOTS) * (height + BLANK_LINES) * REFRESH_HZ / CLOCK_UNIT;
    unsigned mm_wide = width * 10 / DOTS_PER_10_MM, mm_high = height * 10 / DOTS_PER_10_MM;

    put16(at, clock);
    at[2] = (uint8_t)width;
    at[3] = BLANK_DOTS;
    at[4] = (uint8_t)(width >> 8 << 4);
    at[5] = (uint8_t)height;
    at[6] = BLANK_LINES;
    at[7] = (uint8_t)(height >> 8 << 4);
    at[8] = SYNC_OFFSET_DOTS;
    at[9] = SYNC_DOTS;
    at[10] = SYNC_OFFSET_LINES << 4 | SYNC_LINES;
    at[12] = (uint8_t)mm_wide;
    at[13] = (uint8_t)mm_high;
    at[14] = (uint8_t)((mm_wide >> 8 & 15) << 4 | (mm_high >> 8 & 15));
    at[17] = TIMING_DIGITAL_SEPARATE;
}

/* Section 3.10.3; `text` is ended by a newline and filled with spaces. */
static void put_descriptor(uint8_t *at, uint8_t kind, const void *content)
{
    at[3] = kind;
    memcpy(at + 5, content, DESCRIPTOR_SIZE - 5);
}

void edid_fill(uint8_t edid[EDID_SIZE], unsigned width, unsigned height)
{
    static const uint8_t header[] = {0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00};
    /* sRGB, 3.7 */
    static const uint8_t colours[] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};
    /* 640x480, 800x600, 1024x768 at 60 Hz */
    static const uint8_t established[] = {0x21, 0x08, 0x00};
    static const uint8_t standard[] = {
        STANDARD_TIMING(2048, ASPECT_4_3),   STANDARD_TIMING(1920, ASPECT_16_9),
        STANDARD_TIMING(1920, ASPECT_16_10), STANDARD_TIMING(1600, ASPECT_4_3),
        STANDARD_TIMING(1440, ASPECT_16_10), STANDARD_TIMING(1280, ASPECT_5_4),
        STANDARD_TIMING(1280, ASPECT_16_10), STANDARD_TIMING(1152, ASPECT_4_3)};
    /* 50 to 125 Hz, 30 to 160 kHz, up to 2550 MHz, no secondary formula */
    static const uint8_t range[DESCRIPTOR_SIZE - 5] = {50,  125, 30,  160, 255, 0,  '\n',
                                                       ' ', ' ', ' ', ' ', ' ', ' '};

    memset(edid, 0, EDID_SIZE);
    memcpy(edid, header, sizeof(header));
    edid[VENDOR] = VENDOR_SILL >> 8;
    edid[VENDOR + 1] = VENDOR_SILL & 0xff;
    put16(&edid[PRODUCT], 1);
    edid[YEAR] = 2024 - 1990;
    edid[VERSION] = 1;
    edid[VERSION + 1] = 3;
    edid[INPUT] = INPUT_DIGITAL;
    edid[SIZE_CM] = (uint8_t)(width / DOTS_PER_CM);
    edid[SIZE_CM + 1] = (uint8_t)(height / DOTS_PER_CM);
    edid[GAMMA] = GAMMA_2_2;
    edid[FEATURES] = FEATURES_RGB_PREFERRED;
    memcpy(&edid[COLOURS], colours, sizeof(colours));
    memcpy(&edid[ESTABLISHED], established, sizeof(established));
    memcpy(&edid[STANDARD], standard, sizeof(standard));
    put_timing(&edid[DETAILED], width, height);
    put_descriptor(&edid[DETAILED + DESCRIPTOR_SIZE], DESCRIPTOR_NAME, "Sill\n        ");
    put_descriptor(&edid[DETAILED + 2 * DESCRIPTOR_SIZE], DESCRIPTOR_RANGE, range);
    put_descriptor(&edid[DETAILED + 3 * DESCRIPTOR_SIZE], DESCRIPTOR_EMPTY,
                   "\0\0\0\0\0\0\0\0\0\0\0\0");

    unsigned sum = 0;
    for (unsigned i = 0; i < CHECKSUM; i++)
        sum += edid[i];
    edid[CHECKSUM] = (uint8_t)-sum;
}
