/* How a VNC display is written: `vnc=ADDRESS:N[,password=FILE]` or `vnc=unix:PATH`. */
#ifndef SILL_VM_VNC_OPTIONS_H
#define SILL_VM_VNC_OPTIONS_H

#include "base/error.h"
#include "base/types.h"

#define VNC_FIRST_PORT 5900
#define VNC_PASSWORD_MAX 255

struct vnc_options {
    enum { VNC_NONE, VNC_TCP, VNC_UNIX } kind;
    const char *address;       /* VNC_TCP: numeric; VNC_UNIX: the socket's path */
    uint16_t port;             /* VNC_TCP: VNC_FIRST_PORT and the display's number */
    const char *password_file; /* NULL: who can connect is let in */
};

/* What stands behind "vnc=". -EINVAL: also for an address that others can reach without a password.
 * `text` is changed, and `options` points into it afterwards. */
SILL_CHECKED int vnc_parse(struct vnc_options *options, char *text, struct error *err);

#endif
