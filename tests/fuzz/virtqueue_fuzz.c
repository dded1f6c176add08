/*
 * Fuzzes split virtqueues: the input is the configuration of a queue and the guest memory with its
 * rings. Whatever a queue hands out must lie in guest memory.
 */
#include <stdlib.h>
#include <string.h>

#include "dev/virtio/virtqueue.h"
#include "fuzz.h"

/* Small, so that random addresses hit it; a second slot right behind and ROM further up. */
#define RAM_SIZE (16 * KIB)
#define ROM 0x10000
#define ROM_SIZE (4 * KIB)
#define RINGS 0x1000

struct setup {
    uint8_t size_log2;
    uint8_t flags;
    uint8_t rounds;
    uint8_t unused;
    uint16_t desc, avail, used; /* where the rings are, relative to RINGS */
    uint16_t next;              /* indices of the rings */
};

enum setup_flags { EVENT_INDEX = 1, INDIRECT = 2, KEEP_IN_FLIGHT = 4, ODD_SIZE = 8 };

static struct memory mem;

static void make_memory(void)
{
    if (mem.slot_count)
        return;
    memory_init(&mem, 0);
    if (memory_add(&mem, 0, RAM_SIZE, 0, "ram", NULL) ||
        memory_add(&mem, RAM_SIZE, RAM_SIZE, 0, "ram2", NULL) ||
        memory_add(&mem, ROM, ROM_SIZE, MEMORY_READONLY, "rom", NULL))
        abort();
}

static void check_chain(const struct virtqueue *vq, const struct virtq_chain *chain)
{
    unsigned count = chain->readable_count + chain->writable_count;
    uint64_t readable = 0, writable = 0;

    if (count > VIRTQ_MAX_SEGMENTS || chain->head >= vq->size)
        abort();
    for (unsigned i = 0; i < count; i++) {
        const struct virtq_segment *segment = &chain->segment[i];
        bool write = i >= chain->readable_count;
        if (!segment->length ||
            memory_host(&mem, segment->gpa, segment->length, write) != segment->host)
            abort();
        *(write ? &writable : &readable) += segment->length;
    }
    if (readable != chain->readable_length || writable != chain->writable_length)
        abort();
}

static void use_chain(struct virtqueue *vq, const struct virtq_chain *chain, bool give_back)
{
    uint8_t bytes[600];

    check_chain(vq, chain);
    size_t got = virtq_chain_read(chain, 3, bytes, sizeof(bytes));
    virtq_chain_write(chain, 1, bytes, got);
    if (give_back)
        virtqueue_push(vq, chain, chain->writable_length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct virtq_chain chain;
    struct setup setup;

    make_memory();
    if (size < sizeof(setup))
        return 0;
    memcpy(&setup, data, sizeof(setup));
    data += sizeof(setup);
    size -= sizeof(setup);
    memset(memory_host(&mem, 0, RAM_SIZE, true), 0, RAM_SIZE);
    memcpy(memory_host(&mem, RINGS, RAM_SIZE - RINGS, true), data,
           size < RAM_SIZE - RINGS ? size : RAM_SIZE - RINGS);

    struct virtqueue vq = {.memory = &mem, .max_size = VIRTQ_MAX_SIZE};
    virtqueue_reset(&vq);
    vq.size = (uint16_t)((1u << setup.size_log2 % 10) + (setup.flags & ODD_SIZE ? 1 : 0));
    vq.event_index = setup.flags & EVENT_INDEX;
    vq.indirect = setup.flags & INDIRECT;
    vq.desc = RINGS + setup.desc;
    vq.avail = RINGS + setup.avail;
    vq.used = RINGS + setup.used;
    vq.next_avail = vq.next_used = setup.next;
    if (virtqueue_map(&vq))
        return 0;
    for (unsigned i = 0; i < setup.rounds; i++) {
        if (virtqueue_pop(&vq, &chain) != 1)
            break;
        use_chain(&vq, &chain, !(setup.flags & KEEP_IN_FLIGHT));
        virtqueue_should_interrupt(&vq);
        virtqueue_disable_notifications(&vq);
        virtqueue_enable_notifications(&vq);
    }
    return 0;
}
