/* A key and a certificate for one run, signed by itself: passwords need an encrypted connection. */
#ifndef SILL_VM_VNC_CERTIFICATE_H
#define SILL_VM_VNC_CERTIFICATE_H

#include "base/error.h"

#define CERTIFICATE_PATH_MAX 64

/* Both are PEM files in a folder that only this user can read. */
struct certificate {
    char folder[CERTIFICATE_PATH_MAX];
    char key[CERTIFICATE_PATH_MAX + 8];
    char certificate[CERTIFICATE_PATH_MAX + 8];
};

SILL_CHECKED int certificate_make(struct certificate *certificate, struct error *err);
/* Removes the files; what has read them keeps what it read. */
void certificate_remove(const struct certificate *certificate);

#endif
