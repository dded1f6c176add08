/*
 * Split virtqueues; see virtqueue.h. VIRTIO 1.2, section 2.7.
 *
 *     descriptor table   size x { le64 addr, le32 len, le16 flags, le16 next }
 *     available ring     le16 flags, le16 idx, le16 ring[size], le16 used_event
 *     used ring          le16 flags, le16 idx, size x { le32 id, le32 len }, le16 avail_event
 *
 * The guest may change all of it at any time. What counts is therefore always a copy: an index or
 * descriptor is loaded once, then checked, then used.
 */
#include "dev/virtio/virtqueue.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

struct descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

enum descriptor_flags {
    DESC_NEXT = 1,
    DESC_WRITE = 2,
    DESC_INDIRECT = 4,
};

enum ring_flags {
    AVAIL_NO_INTERRUPT = 1,
    USED_NO_NOTIFY = 1,
};

enum ring_layout {
    RING_FLAGS = 0,
    RING_IDX = 2,
    RING_ENTRIES = 4,
    AVAIL_ENTRY_SIZE = 2,
    USED_ENTRY_SIZE = 8,
};

/* Required alignments, 2.7. */
enum ring_alignment {
    DESC_ALIGN = 16,
    AVAIL_ALIGN = 2,
    USED_ALIGN = 4,
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are little endian");
_Static_assert(sizeof(struct descriptor) == 16, "descriptor layout");

const struct state_field virtqueue_fields[] = {
    STATE_INT(struct virtqueue, size),
    STATE_INT(struct virtqueue, desc),
    STATE_INT(struct virtqueue, avail),
    STATE_INT(struct virtqueue, used),
    STATE_INT(struct virtqueue, next_avail),
    STATE_INT(struct virtqueue, next_used),
    STATE_INT(struct virtqueue, signalled_used),
    STATE_BOOL(struct virtqueue, signalled_valid),
    STATE_BOOL(struct virtqueue, broken),
    STATE_BOOL(struct virtqueue, notifications_off),
    STATE_END,
};

static int break_queue(struct virtqueue *vq)
{
    vq->broken = true;
    return -EBADMSG;
}

void virtqueue_reset(struct virtqueue *vq)
{
    *vq = (struct virtqueue){
        .memory = vq->memory,
        .max_size = vq->max_size,
        .size = vq->max_size,
    };
}

static void *map_ring(const struct virtqueue *vq, gpa_t gpa, uint64_t length, unsigned align,
                      bool write)
{
    return gpa % align ? NULL : memory_host(vq->memory, gpa, length, write);
}

int virtqueue_map(struct virtqueue *vq)
{
    uint64_t size = vq->size;

    vq->desc_host = NULL;
    if (!is_power_of_two(size) || size > vq->max_size)
        goto illegal;
    /* Both rings end with the event index, which is there without VIRTIO_F_EVENT_IDX too. */
    vq->avail_host =
        map_ring(vq, vq->avail, RING_ENTRIES + AVAIL_ENTRY_SIZE * size + 2, AVAIL_ALIGN, false);
    vq->used_host =
        map_ring(vq, vq->used, RING_ENTRIES + USED_ENTRY_SIZE * size + 2, USED_ALIGN, true);
    vq->desc_host = map_ring(vq, vq->desc, sizeof(struct descriptor) * size, DESC_ALIGN, false);
    if (vq->avail_host && vq->used_host && vq->desc_host)
        return 0;
illegal:
    vq->broken = true;
    return -EINVAL;
}

/* Single loads and stores of ring fields that the other side accesses at the same time. */

static uint16_t load16(const uint8_t *at, int order)
{
    return __atomic_load_n((const uint16_t *)at, order);
}

static void store16(struct virtqueue *vq, unsigned offset, uint16_t value)
{
    __atomic_store_n((uint16_t *)(vq->used_host + offset), value, __ATOMIC_RELEASE);
    memory_mark_written(vq->memory, vq->used + offset, 2);
}

static unsigned avail_event_offset(const struct virtqueue *vq)
{
    return RING_ENTRIES + USED_ENTRY_SIZE * vq->size;
}

static uint16_t used_event(const struct virtqueue *vq)
{
    return load16(vq->avail_host + RING_ENTRIES + AVAIL_ENTRY_SIZE * vq->size, __ATOMIC_RELAXED);
}

/* Taking requests. */

/* A descriptor table: the queue's own or an indirect one. */
struct table {
    const uint8_t *host; /* NULL: read through guest memory at `gpa` */
    gpa_t gpa;
    uint32_t count;
};

static bool read_descriptor(const struct virtqueue *vq, const struct table *table, uint32_t index,
                            struct descriptor *desc)
{
    if (index >= table->count)
        return false;
    if (table->host) {
        const uint8_t *at = table->host + index * sizeof(*desc);
        uint64_t half[2] = {
            __atomic_load_n((const uint64_t *)at, __ATOMIC_RELAXED),
            __atomic_load_n((const uint64_t *)(at + 8), __ATOMIC_RELAXED),
        };
        memcpy(desc, half, sizeof(*desc));
        return true;
    }
    return !memory_read(vq->memory, table->gpa + index * sizeof(*desc), desc, sizeof(*desc));
}

/* Appends the descriptor's buffer, split where it crosses memory slots. */
static bool add_buffer(const struct virtqueue *vq, struct virtq_chain *chain,
                       const struct descriptor *desc)
{
    bool write = desc->flags & DESC_WRITE;
    uint32_t *total = write ? &chain->writable_length : &chain->readable_length;
    uint16_t *count = write ? &chain->writable_count : &chain->readable_count;
    uint64_t addr = desc->addr;
    uint32_t left = desc->len;

    /* 2.7.4.2: readable buffers come first. 2.7.5: 4 GiB at most in total. */
    if ((!write && chain->writable_count) || left > UINT32_MAX - *total)
        return false;
    *total += left;
    while (left) {
        const struct memory_slot *slot = memory_find(vq->memory, addr);
        unsigned at = chain->readable_count + chain->writable_count;
        if (!slot || (write && slot->flags & MEMORY_READONLY) || at == VIRTQ_MAX_SEGMENTS)
            return false;
        uint64_t offset = addr - slot->gpa;
        uint32_t piece = left < slot->size - offset ? left : (uint32_t)(slot->size - offset);
        chain->segment[at] = (struct virtq_segment){slot->host + offset, addr, piece};
        (*count)++;
        addr += piece;
        left -= piece;
    }
    return true;
}

/* Follows the chain from the descriptor `head`. */
static bool read_chain(const struct virtqueue *vq, struct virtq_chain *chain)
{
    struct table table = {.host = vq->desc_host, .count = vq->size};
    struct descriptor desc;
    uint32_t index = chain->head;

    /* 2.7.5.3.1: a chain has at most queue-size descriptors, in an indirect table as well. The one
     * that refers to the table is not counted. */
    for (unsigned steps = 0; steps < vq->size; steps++) {
        if (!read_descriptor(vq, &table, index, &desc))
            return false;
        if (desc.flags & DESC_INDIRECT) {
            bool nested = !table.host;
            if (!vq->indirect || nested || desc.flags & DESC_NEXT || !desc.len ||
                desc.len % sizeof(desc))
                return false;
            table = (struct table){.gpa = desc.addr, .count = desc.len / sizeof(desc)};
            index = 0;
            if (!read_descriptor(vq, &table, index, &desc) || desc.flags & DESC_INDIRECT)
                return false;
        }
        if (!add_buffer(vq, chain, &desc))
            return false;
        if (!(desc.flags & DESC_NEXT))
            return true;
        index = desc.next;
    }
    return false;
}

int virtqueue_pop(struct virtqueue *vq, struct virtq_chain *chain)
{
    if (vq->broken || !vq->desc_host)
        return -EBADMSG;
    uint16_t available = load16(vq->avail_host + RING_IDX, __ATOMIC_ACQUIRE) - vq->next_avail;
    if (!available)
        return 0;
    /* Each request holds a descriptor, so neither number can exceed the queue's size. */
    if (available > vq->size || vq->in_flight >= vq->size)
        return break_queue(vq);

    unsigned slot = vq->next_avail & (vq->size - 1u);
    chain->head = load16(vq->avail_host + RING_ENTRIES + AVAIL_ENTRY_SIZE * slot, __ATOMIC_RELAXED);
    chain->readable_count = chain->writable_count = 0;
    chain->readable_length = chain->writable_length = 0;
    if (!read_chain(vq, chain))
        return break_queue(vq);
    vq->next_avail++;
    vq->in_flight++;
    return 1;
}

void virtqueue_unpop(struct virtqueue *vq)
{
    vq->next_avail--;
    vq->in_flight--;
}

void virtqueue_put(struct virtqueue *vq, const struct virtq_chain *chain, uint32_t written)
{
    uint32_t left = written;

    for (unsigned i = 0; i < chain->writable_count && left; i++) {
        const struct virtq_segment *segment = &chain->segment[chain->readable_count + i];
        uint32_t length = left < segment->length ? left : segment->length;
        memory_mark_written(vq->memory, segment->gpa, length);
        left -= length;
    }
    vq->in_flight--;
    if (vq->broken || !vq->desc_host)
        return;

    unsigned slot = (vq->next_used + vq->unpublished) & (vq->size - 1u);
    unsigned offset = RING_ENTRIES + USED_ENTRY_SIZE * slot;
    uint32_t entry[2] = {chain->head, written};
    memcpy(vq->used_host + offset, entry, sizeof(entry));
    memory_mark_written(vq->memory, vq->used + offset, sizeof(entry));
    vq->unpublished++;
}

void virtqueue_publish(struct virtqueue *vq)
{
    if (vq->unpublished)
        store16(vq, RING_IDX, vq->next_used += vq->unpublished);
    vq->unpublished = 0;
}

void virtqueue_retract(struct virtqueue *vq)
{
    vq->next_avail -= vq->unpublished;
    vq->unpublished = 0;
}

void virtqueue_push(struct virtqueue *vq, const struct virtq_chain *chain, uint32_t written)
{
    virtqueue_put(vq, chain, written);
    virtqueue_publish(vq);
}

/* Suppression. */

bool virtqueue_should_interrupt(struct virtqueue *vq)
{
    if (vq->broken || !vq->desc_host)
        return false;
    /* The driver writes its wish, then looks at used->idx; here it is the other way round. */
    atomic_thread_fence(memory_order_seq_cst);
    uint16_t old = vq->signalled_used;
    bool valid = vq->signalled_valid;
    vq->signalled_used = vq->next_used;
    vq->signalled_valid = true;
    if (vq->next_used == old && valid)
        return false;
    if (!vq->event_index)
        return !(load16(vq->avail_host + RING_FLAGS, __ATOMIC_RELAXED) & AVAIL_NO_INTERRUPT);
    if (!valid)
        return true;
    /* 2.7.7.2: was entry number used_event among those added since? */
    return (uint16_t)(vq->next_used - used_event(vq) - 1) < (uint16_t)(vq->next_used - old);
}

void virtqueue_disable_notifications(struct virtqueue *vq)
{
    if (vq->broken || !vq->desc_host || vq->notifications_off)
        return;
    vq->notifications_off = true;
    /* With the event index the stale avail_event does it: it is passed only once. */
    if (!vq->event_index)
        store16(vq, RING_FLAGS, USED_NO_NOTIFY);
}

bool virtqueue_enable_notifications(struct virtqueue *vq)
{
    if (vq->broken || !vq->desc_host)
        return false;
    vq->notifications_off = false;
    if (vq->event_index)
        store16(vq, avail_event_offset(vq), vq->next_avail);
    else
        store16(vq, RING_FLAGS, 0);
    /* The driver makes a request available, then looks at the wish. */
    atomic_thread_fence(memory_order_seq_cst);
    return load16(vq->avail_host + RING_IDX, __ATOMIC_ACQUIRE) != vq->next_avail;
}

/* Buffers. */

unsigned virtq_chain_iov(const struct virtq_chain *chain, bool writable, size_t offset,
                         size_t length, struct iovec *iov)
{
    const struct virtq_segment *segment = chain->segment + (writable ? chain->readable_count : 0);
    unsigned count = writable ? chain->writable_count : chain->readable_count;
    unsigned used = 0;

    for (unsigned i = 0; i < count && length; i++) {
        if (offset >= segment[i].length) {
            offset -= segment[i].length;
            continue;
        }
        size_t piece = segment[i].length - offset;
        if (piece > length)
            piece = length;
        iov[used++] = (struct iovec){segment[i].host + offset, piece};
        length -= piece;
        offset = 0;
    }
    return used;
}

size_t virtq_chain_read(const struct virtq_chain *chain, size_t offset, void *to, size_t length)
{
    struct iovec iov[VIRTQ_MAX_SEGMENTS];
    unsigned count = virtq_chain_iov(chain, false, offset, length, iov);
    size_t done = 0;

    for (unsigned i = 0; i < count; done += iov[i++].iov_len)
        memcpy((uint8_t *)to + done, iov[i].iov_base, iov[i].iov_len);
    return done;
}

size_t virtq_chain_write(const struct virtq_chain *chain, size_t offset, const void *from,
                         size_t length)
{
    struct iovec iov[VIRTQ_MAX_SEGMENTS];
    unsigned count = virtq_chain_iov(chain, true, offset, length, iov);
    size_t done = 0;

    for (unsigned i = 0; i < count; done += iov[i++].iov_len)
        memcpy(iov[i].iov_base, (const uint8_t *)from + done, iov[i].iov_len);
    return done;
}
