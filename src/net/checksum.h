/*
 * The Internet checksum (RFC 1071), and finishing those that a sender left to the hardware.
 * No state, any thread.
 */
#ifndef SILL_NET_CHECKSUM_H
#define SILL_NET_CHECKSUM_H

#include "net/net.h"

/* Sum of big-endian 16-bit words, added to `sum`; an odd last byte counts as the upper half of a
 * word. Not yet folded; `length` up to NET_FRAME_MAX. */
uint32_t net_checksum_add(uint32_t sum, const uint8_t *data, size_t length);
/* Folds and complements. */
uint16_t net_checksum_finish(uint32_t sum);

/* Does what NET_OFFLOAD_NEEDS_CSUM asks for in a frame that lies in one piece. One that points
 * outside the frame changes nothing. */
void net_checksum_complete(uint8_t *frame, size_t length, const struct net_offload *offload);

#endif
