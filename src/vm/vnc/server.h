/*
 * The screen, keyboard and pointer of a VM over VNC (RFB, RFC 6143), by the library neatvnc. Its
 * event loop has a thread, which pulls pictures from the display only while somebody looks: often
 * while the picture changes, seldom when it stands still, and sends what changed.
 *
 * neatvnc's event loop is one for the whole process, so a process serves one VM by VNC.
 */
#ifndef SILL_VM_VNC_SERVER_H
#define SILL_VM_VNC_SERVER_H

#include "base/error.h"
#include "dev/display/display.h"
#include "dev/input/input.h"
#include "vm/vnc/options.h"

struct vnc_server;

/* Listens. `display`, `input` and `name` outlive the server. Control thread. The errors name the
 * address or the file at fault. */
SILL_CHECKED int vnc_server_new(struct vnc_server **out, const struct vnc_options *options,
                                const char *name, struct display *display, struct input *input,
                                struct error *err);
void vnc_server_free(struct vnc_server *server); /* NULL is fine */

#endif
