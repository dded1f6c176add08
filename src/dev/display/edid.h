/*
 * What the monitor says of itself: a block of 128 bytes. VESA Enhanced EDID Standard, release A
 * revision 1 (EDID 1.3).
 */
#ifndef SILL_DEV_DISPLAY_EDID_H
#define SILL_DEV_DISPLAY_EDID_H

#include "base/types.h"

#define EDID_SIZE 128

/* The monitor whose preferred mode has that size, up to 4095 each. */
void edid_fill(uint8_t edid[EDID_SIZE], unsigned width, unsigned height);

#endif
