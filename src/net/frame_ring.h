/*
 * A bounded buffer of whole frames between two threads, each frame in one piece.
 *
 *     | length, offload, bytes | length, offload, bytes | ... free ... |
 *
 * A frame that does not fit before the end goes to the beginning; the rest of the buffer is left
 * out. One thread puts, one thread takes; the owner's lock is held in each call. What
 * frame_ring_peek() returned stays valid without the lock until frame_ring_take().
 */
#ifndef SILL_NET_FRAME_RING_H
#define SILL_NET_FRAME_RING_H

#include "net/net.h"

struct frame_ring {
    uint8_t *data;
    size_t size;
    size_t head; /* of the oldest frame */
    size_t tail; /* where the next goes */
    size_t end;  /* where those before the wrap end */
    bool wrapped;
};

/* -ENOMEM. `size` has room for more than one frame of NET_FRAME_MAX. */
SILL_CHECKED int frame_ring_init(struct frame_ring *ring, size_t size);
void frame_ring_done(struct frame_ring *ring);

/* False: no room. */
bool frame_ring_put(struct frame_ring *ring, const struct net_frame *frame);
/* The oldest frames, up to `most`, described by frames[] and iov[]; returns how many. */
unsigned frame_ring_peek(const struct frame_ring *ring, struct net_frame *frames, struct iovec *iov,
                         unsigned most);
/* Drops the oldest frame. */
void frame_ring_take(struct frame_ring *ring);

static inline bool frame_ring_empty(const struct frame_ring *ring)
{
    return !ring->wrapped && ring->head == ring->tail;
}

#endif
