/* Split virtqueues: requests, suppression, and drivers that break every rule of the rings. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dev/virtio/virtqueue.h"
#include "guest_ring.h"

#define RAM_SIZE (1 * MIB)
#define SECOND_SLOT RAM_SIZE /* adjacent to the first */
#define ROM (4 * MIB)
#define RINGS 0x10000
#define DATA 0x20000
#define TABLE 0x30000
#define SIZE 8

static struct memory mem;
static struct virtqueue vq;
static struct guest_ring ring;
static struct virtq_chain chain;

static int setup(void **state)
{
    memory_init(&mem, 0);
    assert_int_equal(memory_add(&mem, 0, RAM_SIZE, 0, "ram", NULL), 0);
    assert_int_equal(memory_add(&mem, SECOND_SLOT, RAM_SIZE, 0, "ram2", NULL), 0);
    assert_int_equal(memory_add(&mem, ROM, MIB, MEMORY_READONLY, "rom", NULL), 0);
    guest_ring_init(&ring, &mem, RINGS, SIZE);
    vq = (struct virtqueue){.memory = &mem, .max_size = SIZE};
    virtqueue_reset(&vq);
    vq.indirect = true;
    vq.desc = ring.desc;
    vq.avail = ring.avail;
    vq.used = ring.used;
    assert_int_equal(virtqueue_map(&vq), 0);
    return 0;
}

static int teardown(void **state)
{
    memory_done(&mem);
    return 0;
}

static void empty_ring_gives_nothing(void **state)
{
    assert_int_equal(virtqueue_pop(&vq, &chain), 0);
    assert_false(vq.broken);
}

static void chain_is_split_into_readable_and_writable(void **state)
{
    memcpy(memory_host(&mem, DATA, 6, true), "abcdef", 6);
    guest_desc(&ring, 3, DATA, 4, RING_NEXT, 5);
    guest_desc(&ring, 5, DATA + 4, 2, RING_NEXT, 0);
    guest_desc(&ring, 0, DATA + 0x100, 3, RING_WRITE | RING_NEXT, 7);
    guest_desc(&ring, 7, DATA + 0x200, 3, RING_WRITE, 0);
    guest_offer(&ring, 3);

    assert_int_equal(virtqueue_pop(&vq, &chain), 1);
    assert_int_equal(chain.readable_count, 2);
    assert_int_equal(chain.writable_count, 2);
    assert_int_equal(chain.readable_length, 6);
    assert_int_equal(chain.writable_length, 6);

    char text[8] = "";
    assert_int_equal(virtq_chain_read(&chain, 2, text, sizeof(text)), 4);
    assert_string_equal(text, "cdef");
    assert_int_equal(virtq_chain_write(&chain, 1, "12345678", 8), 5);
    assert_int_equal(guest_get(&mem, DATA + 0x101, 2), '1' | '2' << 8);
    assert_int_equal(guest_get(&mem, DATA + 0x200, 3), '3' | '4' << 8 | '5' << 16);

    struct iovec iov[VIRTQ_MAX_SEGMENTS];
    assert_int_equal(virtq_chain_iov(&chain, true, 3, 2, iov), 1);
    assert_int_equal(iov[0].iov_len, 2);
    assert_ptr_equal(iov[0].iov_base, memory_host(&mem, DATA + 0x200, 1, false));

    virtqueue_push(&vq, &chain, 6);
    uint32_t id, len;
    assert_true(guest_take_used(&ring, &id, &len));
    assert_int_equal(id, 3);
    assert_int_equal(len, 6);
}

static void ring_wraps_around(void **state)
{
    uint32_t id, len;

    guest_desc(&ring, 2, DATA, 16, RING_WRITE, 0);
    vq.next_avail = vq.next_used = ring.avail_idx = ring.seen = 0xfffe;
    guest_put(&mem, ring.avail + 2, 0xfffe, 2);
    guest_put(&mem, ring.used + 2, 0xfffe, 2);
    for (unsigned i = 0; i < 3 * SIZE; i++) {
        guest_offer(&ring, 2);
        assert_int_equal(virtqueue_pop(&vq, &chain), 1);
        virtqueue_push(&vq, &chain, i);
        assert_true(guest_take_used(&ring, &id, &len));
        assert_int_equal(len, i);
    }
    assert_false(vq.broken);
}

static void indirect_table_is_followed(void **state)
{
    guest_desc_at(&mem, TABLE, 0, DATA, 16, RING_NEXT, 2);
    guest_desc_at(&mem, TABLE, 2, DATA + 16, 512, RING_WRITE, 0);
    guest_desc(&ring, 1, TABLE, 3 * 16, RING_INDIRECT, 0);
    guest_offer(&ring, 1);
    assert_int_equal(virtqueue_pop(&vq, &chain), 1);
    assert_int_equal(chain.head, 1);
    assert_int_equal(chain.readable_length, 16);
    assert_int_equal(chain.writable_length, 512);
}

/* As many descriptors as the queue is long, in a table at an odd address over two memory slots. */
static void indirect_table_of_full_length(void **state)
{
    gpa_t table = SECOND_SLOT - 3 * 16 - 7;

    for (unsigned i = 0; i < SIZE; i++)
        guest_desc_at(&mem, table, i, DATA + 64 * i, 64, i + 1 < SIZE ? RING_NEXT : 0,
                      (uint16_t)(i + 1));
    guest_desc(&ring, 0, table, SIZE * 16, RING_INDIRECT, 0);
    guest_offer(&ring, 0);
    assert_int_equal(virtqueue_pop(&vq, &chain), 1);
    assert_int_equal(chain.readable_count, SIZE);
}

static void buffer_over_two_slots_becomes_two_segments(void **state)
{
    guest_desc(&ring, 0, SECOND_SLOT - 10, 30, RING_WRITE, 0);
    guest_offer(&ring, 0);
    assert_int_equal(virtqueue_pop(&vq, &chain), 1);
    assert_int_equal(chain.writable_count, 2);
    assert_int_equal(chain.segment[0].length, 10);
    assert_int_equal(chain.segment[1].length, 20);
    assert_int_equal(chain.segment[1].gpa, SECOND_SLOT);
}

static void zero_length_buffer_is_legal(void **state)
{
    guest_desc(&ring, 0, UINT64_MAX, 0, RING_NEXT, 1);
    guest_desc(&ring, 1, DATA, 1, RING_WRITE, 0);
    guest_offer(&ring, 0);
    assert_int_equal(virtqueue_pop(&vq, &chain), 1);
    assert_int_equal(chain.readable_count, 0);
    assert_int_equal(chain.writable_count, 1);
}

static void unpop_gives_the_request_again(void **state)
{
    guest_desc(&ring, 4, DATA, 1, 0, 0);
    guest_offer(&ring, 4);
    assert_int_equal(virtqueue_pop(&vq, &chain), 1);
    virtqueue_unpop(&vq);
    assert_int_equal(vq.in_flight, 0);
    assert_int_equal(virtqueue_pop(&vq, &chain), 1);
    assert_int_equal(chain.head, 4);
    assert_int_equal(virtqueue_pop(&vq, &chain), 0);
}

static void written_buffers_are_in_the_dirty_log(void **state)
{
    mem.dirty_log = true;
    guest_desc(&ring, 0, DATA + 0xf00, 0x300, RING_WRITE, 0);
    guest_offer(&ring, 0);
    memset((void *)mem.page_flags, 0, mem.page_count);
    assert_int_equal(virtqueue_pop(&vq, &chain), 1);
    virtqueue_push(&vq, &chain, 0x101);
    assert_true(mem.page_flags[DATA >> 12] & MEMORY_PAGE_DIRTY);
    assert_true(mem.page_flags[(DATA >> 12) + 1] & MEMORY_PAGE_DIRTY);
    assert_true(mem.page_flags[ring.used >> 12] & MEMORY_PAGE_DIRTY);
    assert_false(mem.page_flags[(DATA >> 12) + 2] & MEMORY_PAGE_DIRTY);
}

/* Suppression. */

static void use_one(void)
{
    guest_offer(&ring, 0);
    assert_int_equal(virtqueue_pop(&vq, &chain), 1);
    virtqueue_push(&vq, &chain, 0);
}

static void interrupts_follow_the_flag(void **state)
{
    guest_desc(&ring, 0, DATA, 1, 0, 0);
    assert_true((use_one(), virtqueue_should_interrupt(&vq)));
    guest_put(&mem, ring.avail, 1, 2);
    assert_false((use_one(), virtqueue_should_interrupt(&vq)));
    guest_put(&mem, ring.avail, 0, 2);
    assert_false(virtqueue_should_interrupt(&vq)); /* nothing new */
    assert_true((use_one(), virtqueue_should_interrupt(&vq)));
}

static void interrupts_follow_the_event_index(void **state)
{
    vq.event_index = true;
    guest_desc(&ring, 0, DATA, 1, 0, 0);
    assert_true((use_one(), virtqueue_should_interrupt(&vq)));
    guest_set_used_event(&ring, 3); /* when entry 3, the fourth, is used */
    assert_false((use_one(), virtqueue_should_interrupt(&vq)));
    assert_false((use_one(), virtqueue_should_interrupt(&vq)));
    assert_true((use_one(), virtqueue_should_interrupt(&vq)));
    assert_false((use_one(), virtqueue_should_interrupt(&vq)));
    guest_set_used_event(&ring, 6);
    use_one();
    use_one();
    use_one();
    assert_true(virtqueue_should_interrupt(&vq)); /* a batch passed it */
}

static void notifications_are_switched_by_the_flag(void **state)
{
    virtqueue_disable_notifications(&vq);
    assert_int_equal(guest_get(&mem, ring.used, 2), 1);
    guest_desc(&ring, 0, DATA, 1, 0, 0);
    assert_false(virtqueue_enable_notifications(&vq));
    assert_int_equal(guest_get(&mem, ring.used, 2), 0);
    virtqueue_disable_notifications(&vq);
    guest_offer(&ring, 0);
    assert_true(virtqueue_enable_notifications(&vq));
}

static void notifications_are_switched_by_the_event_index(void **state)
{
    gpa_t avail_event = ring.used + 4 + 8 * SIZE;

    vq.event_index = true;
    guest_desc(&ring, 0, DATA, 1, 0, 0);
    use_one();
    assert_false(virtqueue_enable_notifications(&vq));
    assert_int_equal(guest_get(&mem, avail_event, 2), 1);
    assert_int_equal(guest_get(&mem, ring.used, 2), 0);
}

/* Hostile drivers. Each must break the queue, and it stays broken. */

static void assert_broken(void)
{
    uint16_t used = guest_used_idx(&ring);

    assert_int_equal(virtqueue_pop(&vq, &chain), -EBADMSG);
    assert_true(vq.broken);
    guest_desc(&ring, 0, DATA, 1, 0, 0);
    guest_offer(&ring, 0);
    assert_int_equal(virtqueue_pop(&vq, &chain), -EBADMSG);
    assert_false(virtqueue_should_interrupt(&vq));
    assert_false(virtqueue_enable_notifications(&vq));
    assert_int_equal(guest_used_idx(&ring), used);
}

static void loop_of_one(void **state)
{
    guest_desc(&ring, 0, DATA, 1, RING_NEXT, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void loop_of_two(void **state)
{
    guest_desc(&ring, 0, DATA, 1, RING_NEXT, 1);
    guest_desc(&ring, 1, DATA, 1, RING_NEXT, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void next_out_of_range(void **state)
{
    guest_desc(&ring, 0, DATA, 1, RING_NEXT, SIZE);
    guest_offer(&ring, 0);
    assert_broken();
}

static void head_out_of_range(void **state)
{
    guest_offer(&ring, SIZE);
    assert_broken();
}

static void index_jumps_ahead(void **state)
{
    guest_put(&mem, ring.avail + 2, SIZE + 1, 2);
    assert_broken();
}

static void more_in_flight_than_descriptors(void **state)
{
    guest_desc(&ring, 0, DATA, 1, 0, 0);
    for (unsigned i = 0; i < SIZE; i++) {
        guest_offer(&ring, 0); /* the same one again and again */
        assert_int_equal(virtqueue_pop(&vq, &chain), 1);
    }
    guest_offer(&ring, 0);
    assert_broken();
}

static void buffer_outside_memory(void **state)
{
    guest_desc(&ring, 0, 2 * RAM_SIZE, 1, 0, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void buffer_leaves_memory(void **state)
{
    guest_desc(&ring, 0, 2 * RAM_SIZE - 4, 8, RING_WRITE, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void buffer_wraps_the_address_space(void **state)
{
    guest_desc(&ring, 0, UINT64_MAX - 3, 64, RING_WRITE, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void writable_buffer_in_rom(void **state)
{
    guest_desc(&ring, 0, ROM, 8, 0, 0); /* reading is fine */
    guest_offer(&ring, 0);
    assert_int_equal(virtqueue_pop(&vq, &chain), 1);
    guest_desc(&ring, 0, ROM, 8, RING_WRITE, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void readable_after_writable(void **state)
{
    guest_desc(&ring, 0, DATA, 1, RING_WRITE | RING_NEXT, 1);
    guest_desc(&ring, 1, DATA, 1, 0, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void more_than_4_gib_in_total(void **state)
{
    guest_desc(&ring, 0, DATA, 0x1000, RING_NEXT, 1);
    guest_desc(&ring, 1, DATA, UINT32_MAX, 0, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void indirect_length_of_zero(void **state)
{
    guest_desc(&ring, 0, TABLE, 0, RING_INDIRECT, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void indirect_length_not_whole(void **state)
{
    guest_desc_at(&mem, TABLE, 0, DATA, 1, 0, 0);
    guest_desc(&ring, 0, TABLE, 17, RING_INDIRECT, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void indirect_outside_memory(void **state)
{
    guest_desc(&ring, 0, UINT64_MAX - 15, 32, RING_INDIRECT, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void indirect_next_leaves_the_table(void **state)
{
    guest_desc_at(&mem, TABLE, 0, DATA, 1, RING_NEXT, 2);
    guest_desc_at(&mem, TABLE, 2, DATA, 1, 0, 0);
    guest_desc(&ring, 0, TABLE, 2 * 16, RING_INDIRECT, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void indirect_in_indirect(void **state)
{
    guest_desc_at(&mem, TABLE, 0, TABLE + 0x100, 16, RING_INDIRECT, 0);
    guest_desc(&ring, 0, TABLE, 16, RING_INDIRECT, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void indirect_later_in_indirect(void **state)
{
    guest_desc_at(&mem, TABLE, 0, DATA, 1, RING_NEXT, 1);
    guest_desc_at(&mem, TABLE, 1, TABLE, 32, RING_INDIRECT, 0);
    guest_desc(&ring, 0, TABLE, 32, RING_INDIRECT, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void indirect_with_next(void **state)
{
    guest_desc_at(&mem, TABLE, 0, DATA, 1, 0, 0);
    guest_desc(&ring, 0, TABLE, 16, RING_INDIRECT | RING_NEXT, 1);
    guest_offer(&ring, 0);
    assert_broken();
}

static void indirect_that_was_not_negotiated(void **state)
{
    vq.indirect = false;
    guest_desc_at(&mem, TABLE, 0, DATA, 1, 0, 0);
    guest_desc(&ring, 0, TABLE, 16, RING_INDIRECT, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void indirect_longer_than_the_queue(void **state)
{
    for (unsigned i = 0; i <= SIZE; i++)
        guest_desc_at(&mem, TABLE, i, DATA, 1, i < SIZE ? RING_NEXT : 0, (uint16_t)(i + 1));
    guest_desc(&ring, 0, TABLE, (SIZE + 1) * 16, RING_INDIRECT, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

static void indirect_loop(void **state)
{
    guest_desc_at(&mem, TABLE, 0, DATA, 1, RING_NEXT, 0);
    guest_desc(&ring, 0, TABLE, 16, RING_INDIRECT, 0);
    guest_offer(&ring, 0);
    assert_broken();
}

/* Rings that cannot be mapped. */

static void assert_unmappable(void)
{
    assert_int_equal(virtqueue_map(&vq), -EINVAL);
    assert_true(vq.broken);
    assert_int_equal(virtqueue_pop(&vq, &chain), -EBADMSG);
}

static void ring_sizes_that_are_refused(void **state)
{
    static const uint16_t sizes[] = {0, 3, SIZE * 2, 0xffff};

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        vq.broken = false;
        vq.size = sizes[i];
        assert_unmappable();
    }
}

static void rings_outside_memory_are_refused(void **state)
{
    uint64_t *const address[] = {&vq.desc, &vq.avail, &vq.used};
    static const uint64_t bad[] = {2 * RAM_SIZE, 2 * RAM_SIZE - 16, UINT64_MAX - 15, DATA + 1};

    for (unsigned i = 0; i < ARRAY_SIZE(address); i++) {
        for (unsigned j = 0; j < ARRAY_SIZE(bad); j++) {
            uint64_t good = *address[i];
            vq.broken = false;
            *address[i] = bad[j];
            assert_unmappable();
            *address[i] = good;
        }
    }
    vq.broken = false;
    vq.used = ROM; /* the device could not write it */
    assert_unmappable();
}

/* Random rings: whatever comes out lies in guest memory. */
static void random_rings(void **state)
{
    unsigned accepted = 0, refused = 0;

    srand(1);
    for (unsigned round = 0; round < 20000; round++) {
        vq.broken = false;
        vq.next_avail = ring.avail_idx;
        vq.in_flight = 0;
        for (unsigned i = 0; i < SIZE; i++) {
            guest_desc(&ring, i, rand() % 8 ? DATA + rand() % 4096 : TABLE, rand() % 4 * 16,
                       rand() % 8 & rand() % 8, rand() % (SIZE + 1));
            guest_desc_at(&mem, TABLE, i, rand() % 8 ? DATA : 8 * MIB, rand() % 256,
                          rand() % 8 & rand() % 8, rand() % SIZE);
        }
        guest_offer(&ring, rand() % SIZE);
        if (virtqueue_pop(&vq, &chain) != 1) {
            refused++;
            continue;
        }
        accepted++;
        assert_in_range(chain.readable_count + chain.writable_count, 0, SIZE);
        for (unsigned i = 0; i < chain.readable_count + chain.writable_count; i++)
            assert_ptr_equal(memory_host(&mem, chain.segment[i].gpa, chain.segment[i].length, true),
                             chain.segment[i].host);
        virtqueue_push(&vq, &chain, chain.writable_length);
    }
    assert_true(accepted > 1000 && refused > 1000);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(empty_ring_gives_nothing),
        T(chain_is_split_into_readable_and_writable),
        T(ring_wraps_around),
        T(indirect_table_is_followed),
        T(indirect_table_of_full_length),
        T(buffer_over_two_slots_becomes_two_segments),
        T(zero_length_buffer_is_legal),
        T(unpop_gives_the_request_again),
        T(written_buffers_are_in_the_dirty_log),
        T(interrupts_follow_the_flag),
        T(interrupts_follow_the_event_index),
        T(notifications_are_switched_by_the_flag),
        T(notifications_are_switched_by_the_event_index),
        T(loop_of_one),
        T(loop_of_two),
        T(next_out_of_range),
        T(head_out_of_range),
        T(index_jumps_ahead),
        T(more_in_flight_than_descriptors),
        T(buffer_outside_memory),
        T(buffer_leaves_memory),
        T(buffer_wraps_the_address_space),
        T(writable_buffer_in_rom),
        T(readable_after_writable),
        T(more_than_4_gib_in_total),
        T(indirect_length_of_zero),
        T(indirect_length_not_whole),
        T(indirect_outside_memory),
        T(indirect_next_leaves_the_table),
        T(indirect_in_indirect),
        T(indirect_later_in_indirect),
        T(indirect_with_next),
        T(indirect_that_was_not_negotiated),
        T(indirect_longer_than_the_queue),
        T(indirect_loop),
        T(ring_sizes_that_are_refused),
        T(rings_outside_memory_are_refused),
        T(random_rings),
    };
    return cmocka_run_group_tests_name("virtqueue", tests, NULL, NULL);
}
