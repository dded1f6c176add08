/* The screen as a PNG file (libpng). Control thread. */
#ifndef SILL_VM_CONTROL_SCREENSHOT_H
#define SILL_VM_CONTROL_SCREENSHOT_H

#include "base/error.h"
#include "dev/display/display.h"

/* Writes what the screen shows now to `path`, whose file is replaced only when all is written. The
 * errors name the file. */
SILL_CHECKED int screenshot_write(struct display *display, const char *path, struct error *err);

#endif
