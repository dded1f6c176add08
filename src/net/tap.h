/* A tap device of the host as a backend; see tap.c. */
#ifndef SILL_NET_TAP_H
#define SILL_NET_TAP_H

#include "net/net.h"

SILL_CHECKED int net_tap_open(struct net_backend **out, const struct net_options *options,
                              struct error *err);

#endif
