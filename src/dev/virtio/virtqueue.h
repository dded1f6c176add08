/*
 * Split virtqueues: the rings through which a driver hands buffers to a device.
 * Virtual I/O Device (VIRTIO) 1.2, section 2.7 (split rings), 2.7.5.3 (indirect descriptors),
 * 2.7.7 and 2.7.10 (suppression by event index).
 *
 * Everything in the rings is hostile. A chain is accepted only when it ends within queue-size
 * descriptors, lies in guest RAM as a whole and obeys the specification; each descriptor is read
 * exactly once. Anything else breaks the queue: it hands out nothing more until the driver resets
 * the device, and the caller reports DEVICE_NEEDS_RESET.
 *
 * Threads: one at a time; the owner sees to that (virtio.h). The guest changes the rings meanwhile.
 */
#ifndef SILL_DEV_VIRTIO_VIRTQUEUE_H
#define SILL_DEV_VIRTIO_VIRTQUEUE_H

#include <sys/uio.h>

#include "base/error.h"
#include "base/types.h"
#include "mem/memory.h"
#include "state/state.h"

#define VIRTQ_MAX_SIZE 256
/* A descriptor that crosses from one memory slot into an adjacent one becomes two segments. */
#define VIRTQ_MAX_SEGMENTS (VIRTQ_MAX_SIZE + 8)

struct virtqueue {
    /* Set by the owner while the queue does not run. */
    struct memory *memory;
    uint16_t max_size; /* what the device offers, a power of two */
    uint16_t size;     /* what the driver chose */
    uint64_t desc;     /* gpa of the descriptor table */
    uint64_t avail;    /* gpa of the driver area (available ring) */
    uint64_t used;     /* gpa of the device area (used ring) */
    bool event_index;  /* VIRTIO_F_EVENT_IDX was negotiated */
    bool indirect;     /* VIRTIO_F_INDIRECT_DESC was negotiated */

    uint16_t next_avail;     /* next entry of the available ring to take */
    uint16_t next_used;      /* next entry of the used ring to fill */
    uint16_t signalled_used; /* next_used at the time of the latest interrupt */
    bool signalled_valid;
    bool broken;            /* the driver broke the rules */
    bool notifications_off; /* as the driver was told last */
    uint16_t in_flight;     /* chains popped and not yet pushed */
    uint16_t unpublished;   /* put behind next_used, where the driver does not look yet */

    /* Host addresses of the rings; set by virtqueue_map(), not saved. */
    const uint8_t *desc_host;
    const uint8_t *avail_host;
    uint8_t *used_host;
};

extern const struct state_field virtqueue_fields[];

struct virtq_segment {
    uint8_t *host;
    gpa_t gpa;
    uint32_t length;
};

/* The buffers of one request: first those that the device reads, then those that it writes. */
struct virtq_chain {
    uint16_t head;
    uint16_t readable_count;
    uint16_t writable_count;
    uint32_t readable_length; /* bytes */
    uint32_t writable_length;
    struct virtq_segment segment[VIRTQ_MAX_SEGMENTS];
};

/* Back to the state after reset; keeps memory and max_size. */
void virtqueue_reset(struct virtqueue *vq);

/* Looks up the rings in guest memory; after the driver set the addresses, and again whenever memory
 * slots may have changed. -EINVAL with the queue broken when size or addresses are not legal. */
SILL_CHECKED int virtqueue_map(struct virtqueue *vq);

/* 1: *chain is the next request. 0: none. -EBADMSG: the queue is broken (now or already). */
SILL_CHECKED int virtqueue_pop(struct virtqueue *vq, struct virtq_chain *chain);

/* Takes back the latest virtqueue_pop(), whose chain must not have been pushed. */
void virtqueue_unpop(struct virtqueue *vq);

/* Gives the chain back, `written` bytes of its writable part filled from the front. */
void virtqueue_push(struct virtqueue *vq, const struct virtq_chain *chain, uint32_t written);

/* The parts of virtqueue_push(), for several chains that must appear together: put() each in the
 * order in which they were popped, then publish(), or retract() what was put, so that it is popped
 * again. Nothing else is in flight meanwhile. */
void virtqueue_put(struct virtqueue *vq, const struct virtq_chain *chain, uint32_t written);
void virtqueue_publish(struct virtqueue *vq);
void virtqueue_retract(struct virtqueue *vq);

/* Does the driver want an interrupt for what was pushed since the latest one? Once a batch. */
bool virtqueue_should_interrupt(struct virtqueue *vq);

/* Asks the driver for (no) notifications. After switching them on the queue must be looked at once
 * more: true when something was made available meanwhile. */
void virtqueue_disable_notifications(struct virtqueue *vq);
bool virtqueue_enable_notifications(struct virtqueue *vq);

/* Copies from the readable or to the writable part, starting at byte `offset`; returns how many
 * bytes there were. Writes are marked in guest memory by virtqueue_push(). */
size_t virtq_chain_read(const struct virtq_chain *chain, size_t offset, void *to, size_t length);
size_t virtq_chain_write(const struct virtq_chain *chain, size_t offset, const void *from,
                         size_t length);

/* [offset, offset + length) of the readable or writable part as an iovec for file I/O; `iov` has
 * room for VIRTQ_MAX_SEGMENTS entries. Returns the entries used. */
unsigned virtq_chain_iov(const struct virtq_chain *chain, bool writable, size_t offset,
                         size_t length, struct iovec *iov);

#endif
