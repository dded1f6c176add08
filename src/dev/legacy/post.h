/*
 * Port 0x80: the power-on self test's progress code. Software writes it for a delay as well.
 */
#ifndef SILL_DEV_LEGACY_POST_H
#define SILL_DEV_LEGACY_POST_H

#include "bus/bus.h"
#include "dev/device.h"

struct post;

/* -ENOMEM. */
SILL_CHECKED int post_new(struct post **out);
SILL_CHECKED int post_attach(struct post *post, struct bus *bus, struct error *err);
struct device *post_device(struct post *post);

#endif
