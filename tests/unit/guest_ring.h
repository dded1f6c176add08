/*
 * The driver's side of a split virtqueue, for tests: rings laid out in guest memory, where a test
 * can also write what no driver should.
 */
#ifndef SILL_TESTS_UNIT_GUEST_RING_H
#define SILL_TESTS_UNIT_GUEST_RING_H

#include <assert.h>
#include <string.h>

#include "mem/memory.h"

#define RING_NEXT 1
#define RING_WRITE 2
#define RING_INDIRECT 4

struct guest_ring {
    struct memory *mem;
    uint16_t size;
    gpa_t desc, avail, used;
    uint16_t avail_idx; /* as published */
    uint16_t seen;      /* used entries taken */
};

static inline void guest_put(struct memory *mem, gpa_t gpa, uint64_t value, unsigned size)
{
    int ret = memory_write(mem, gpa, &value, size);
    assert(!ret);
    (void)ret;
}

static inline uint64_t guest_get(struct memory *mem, gpa_t gpa, unsigned size)
{
    uint64_t value = 0;
    int ret = memory_read(mem, gpa, &value, size);
    assert(!ret);
    (void)ret;
    return value;
}

/* Zeroed rings one after the other from `base` (page aligned), within three pages. */
static inline void guest_ring_init(struct guest_ring *ring, struct memory *mem, gpa_t base,
                                   uint16_t size)
{
    *ring = (struct guest_ring){
        .mem = mem, .size = size, .desc = base, .avail = base + 0x1000, .used = base + 0x2000};
    memset(memory_host(mem, base, 0x3000, true), 0, 0x3000);
}

static inline void guest_desc_at(struct memory *mem, gpa_t table, unsigned index, uint64_t addr,
                                 uint32_t len, uint16_t flags, uint16_t next)
{
    gpa_t at = table + 16 * index;
    guest_put(mem, at, addr, 8);
    guest_put(mem, at + 8, len, 4);
    guest_put(mem, at + 12, flags, 2);
    guest_put(mem, at + 14, next, 2);
}

static inline void guest_desc(struct guest_ring *ring, unsigned index, uint64_t addr, uint32_t len,
                              uint16_t flags, uint16_t next)
{
    guest_desc_at(ring->mem, ring->desc, index, addr, len, flags, next);
}

/* The index of a ring, which both sides access at the same time. */
static inline uint16_t *guest_index(struct guest_ring *ring, gpa_t base)
{
    return memory_host(ring->mem, base + 2, 2, true);
}

static inline void guest_offer(struct guest_ring *ring, uint16_t head)
{
    guest_put(ring->mem, ring->avail + 4 + 2 * (ring->avail_idx % ring->size), head, 2);
    __atomic_store_n(guest_index(ring, ring->avail), ++ring->avail_idx, __ATOMIC_RELEASE);
}

static inline uint16_t guest_used_idx(struct guest_ring *ring)
{
    return __atomic_load_n(guest_index(ring, ring->used), __ATOMIC_ACQUIRE);
}

/* With VIRTIO_F_EVENT_IDX: interrupt when this entry is used. */
static inline void guest_set_used_event(struct guest_ring *ring, uint16_t entry)
{
    uint16_t *event = memory_host(ring->mem, ring->avail + 4 + 2 * ring->size, 2, true);

    __atomic_store_n(event, entry, __ATOMIC_RELEASE);
}

/* The next used entry; false when there is none yet. */
static inline bool guest_take_used(struct guest_ring *ring, uint32_t *id, uint32_t *len)
{
    if (guest_used_idx(ring) == ring->seen)
        return false;
    gpa_t at = ring->used + 4 + 8 * (ring->seen++ % ring->size);
    *id = (uint32_t)guest_get(ring->mem, at, 4);
    *len = (uint32_t)guest_get(ring->mem, at + 4, 4);
    return true;
}

#endif
