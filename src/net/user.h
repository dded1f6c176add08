/* User-mode networking as a backend; see user.c. */
#ifndef SILL_NET_USER_H
#define SILL_NET_USER_H

#include "net/net.h"

SILL_CHECKED int net_user_open(struct net_backend **out, const struct net_options *options,
                               struct error *err);

#endif
