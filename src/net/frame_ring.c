/* A bounded buffer of frames; see frame_ring.h. */
#include "net/frame_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct slot {
    uint32_t length;
    struct net_offload offload;
};

#define SLOT_ALIGN 16

static size_t slot_size(size_t length)
{
    return ALIGN_UP(sizeof(struct slot) + length, SLOT_ALIGN);
}

int frame_ring_init(struct frame_ring *ring, size_t size)
{
    *ring = (struct frame_ring){.data = malloc(size), .size = size};
    return ring->data ? 0 : -ENOMEM;
}

void frame_ring_done(struct frame_ring *ring)
{
    free(ring->data);
}

bool frame_ring_put(struct frame_ring *ring, const struct net_frame *frame)
{
    size_t need = slot_size(frame->length);

    if (frame_ring_empty(ring))
        ring->head = ring->tail = 0;
    if (!ring->wrapped && ring->size - ring->tail < need) {
        ring->end = ring->tail;
        ring->tail = 0;
        ring->wrapped = true;
    }
    /* In the wrapped ring the tail may reach the head: `wrapped` tells full from empty. */
    if (ring->wrapped && ring->head - ring->tail < need)
        return false;

    struct slot *slot = (struct slot *)(ring->data + ring->tail);
    uint8_t *bytes = (uint8_t *)(slot + 1);
    *slot = (struct slot){(uint32_t)frame->length, frame->offload};
    for (unsigned i = 0; i < frame->iov_count; bytes += frame->iov[i++].iov_len)
        memcpy(bytes, frame->iov[i].iov_base, frame->iov[i].iov_len);
    ring->tail += need;
    return true;
}

/* Behind the frame at the ring's head. */
static void step(struct frame_ring *ring)
{
    ring->head += slot_size(((struct slot *)(ring->data + ring->head))->length);
    if (ring->wrapped && ring->head == ring->end) {
        ring->head = 0;
        ring->wrapped = false;
    }
}

unsigned frame_ring_peek(const struct frame_ring *ring, struct net_frame *frames, struct iovec *iov,
                         unsigned most)
{
    struct frame_ring at = *ring;
    unsigned count = 0;

    for (; count < most && !frame_ring_empty(&at); count++, step(&at)) {
        struct slot *slot = (struct slot *)(at.data + at.head);
        iov[count] = (struct iovec){slot + 1, slot->length};
        frames[count] = (struct net_frame){&iov[count], 1, slot->length, slot->offload};
    }
    return count;
}

void frame_ring_take(struct frame_ring *ring)
{
    step(ring);
}
