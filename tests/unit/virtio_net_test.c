/* The virtio network device, driven as its driver does; the outside is a fake backend. */
#include "virtio_rig.h"

#include "dev/virtio/virtio_net.h"
#include "net_rig.h"

#define HEADER 12
#define RX 0
#define TX 1
#define CONTROL 2
#define F_GUEST_CSUM (1ull << 1)
#define F_GUEST_TSO4 (1ull << 7)
#define F_MRG_RXBUF (1ull << 15)
#define F_CTRL_VQ (1ull << 17)
#define F_CTRL_RX (1ull << 18)
#define F_CTRL_VLAN (1ull << 19)
#define F_CTRL_MAC_ADDR (1ull << 23)
#define F_CONTROL (F_CTRL_VQ | F_CTRL_RX | F_CTRL_VLAN | F_CTRL_MAC_ADDR)

static const uint8_t own_mac[NET_MAC_LENGTH] = {2, 1, 2, 3, 4, 5};
static const uint8_t other_mac[NET_MAC_LENGTH] = {2, 9, 9, 9, 9, 9};
static const uint8_t group_mac[NET_MAC_LENGTH] = {0x33, 0x33, 0, 0, 0, 1};
static const uint8_t broadcast[NET_MAC_LENGTH] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static struct virtio_rig rig;
static struct fake_net fake;

static struct device *new_device(struct virtio_rig *of, struct fake_net *backend)
{
    struct virtio_net_config config = {.pci = rig_config(of, "net0")};
    struct device *dev;

    memcpy(config.mac, own_mac, sizeof(own_mac));
    assert_int_equal(virtio_net_new(&dev, &config, &backend->backend, NULL), 0);
    return dev;
}

static void start(uint64_t features)
{
    rig_init(&rig);
    fake_init(&fake);
    rig_start(&rig, new_device(&rig, &fake));
    rig_enable_msix(&rig);
    rig_negotiate(&rig, VIRTIO_F_VERSION_1 | features);
    for (unsigned i = 0; i < 3; i++)
        rig_queue(&rig, i, 16);
    rig_driver_ok(&rig);
}

static int setup(void **state)
{
    start(F_MRG_RXBUF | F_GUEST_CSUM | F_CONTROL);
    return 0;
}

static int setup_segmentation(void **state)
{
    start(F_MRG_RXBUF | F_GUEST_CSUM | F_GUEST_TSO4);
    return 0;
}

static int setup_plain(void **state)
{
    start(0);
    return 0;
}

static int teardown(void **state)
{
    rig_done(&rig);
    assert_true(fake.closed);
    return 0;
}

static void offer_receive(unsigned index, uint32_t length)
{
    guest_desc(&rig.ring[RX], index, RIG_DATA + 0x1000 * index, length, RING_WRITE, 0);
    guest_offer(&rig.ring[RX], (uint16_t)index);
}

/* Receiving. */

static void frame_arrives_behind_its_header(void **state)
{
    uint32_t length;

    offer_receive(3, 2000);
    assert_int_equal(fake_deliver(&fake, own_mac, 100), 1);
    assert_int_equal(rig_wait_used(&rig, RX, &length), 3);
    assert_int_equal(length, HEADER + 100);
    gpa_t at = RIG_DATA + 0x3000;
    assert_int_equal(guest_get(&rig.mem, at, 1), NET_OFFLOAD_DATA_VALID);
    assert_int_equal(guest_get(&rig.mem, at + 10, 2), 1);
    assert_int_equal(guest_get(&rig.mem, at + HEADER + 1, 1), own_mac[1]);
    assert_int_equal(guest_get(&rig.mem, at + HEADER + 99, 1), 99);
    rig_wait_messages(&rig, RX + 1, 1);
}

static void large_frame_goes_over_several_buffers_at_once(void **state)
{
    uint32_t length;

    for (unsigned i = 0; i < 2; i++)
        offer_receive(i, 400);
    /* Three are needed: nothing shows, and the backend keeps the frame. */
    assert_int_equal(fake_deliver(&fake, own_mac, 1000), 0);
    assert_int_equal(guest_used_idx(&rig.ring[RX]), 0);
    unsigned ready = fake.ready;
    offer_receive(2, 400);
    rig_notify(&rig, RX);
    for (unsigned ms = 0; ms < RIG_WAIT_MS && fake.ready == ready; ms++)
        usleep(1000);
    assert_int_equal(fake_deliver(&fake, own_mac, 1000), 1);
    assert_int_equal(guest_used_idx(&rig.ring[RX]), 3);
    assert_int_equal(guest_get(&rig.mem, RIG_DATA + 10, 2), 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(rig_wait_used(&rig, RX, &length), i);
        assert_int_equal(length, i < 2 ? 400 : HEADER + 1000 - 800);
    }
    assert_int_equal(guest_get(&rig.mem, RIG_DATA + 0x1000, 1), (400 - HEADER) & 0xff);
    assert_int_equal(guest_get(&rig.mem, RIG_DATA + 0x2000 + 211, 1), 999 & 0xff);
}

static void without_merging_a_frame_that_is_too_large_is_lost(void **state)
{
    uint32_t length;

    offer_receive(0, 400);
    assert_int_equal(fake_deliver(&fake, own_mac, 1000), 1);
    assert_int_equal(guest_used_idx(&rig.ring[RX]), 0);
    assert_int_equal(fake_deliver(&fake, own_mac, 400 - HEADER), 1);
    rig_wait_used(&rig, RX, &length);
    assert_int_equal(length, 400);
    assert_int_equal(guest_get(&rig.mem, RIG_DATA, 1), 0);
}

static const struct net_offload tso4 = {
    .flags = NET_OFFLOAD_NEEDS_CSUM,
    .gso_type = NET_GSO_TCPV4,
    .hdr_len = 54,
    .gso_size = 1400,
    .csum_start = 34,
    .csum_offset = 16,
};

static void wait_accepts(unsigned accepts)
{
    for (unsigned ms = 0; ms < RIG_WAIT_MS && fake.accepts != accepts; ms++)
        usleep(1000);
    assert_int_equal(fake.accepts, accepts);
}

static void unfinished_frame_goes_to_a_driver_that_finishes_it(void **state)
{
    struct net_offload got;
    uint32_t length;

    offer_receive(0, 4096);
    offer_receive(1, 4096);
    rig_notify(&rig, RX);
    wait_accepts(NET_ACCEPTS_CSUM | NET_ACCEPTS_TSO4);
    assert_int_equal(fake_deliver_offload(&fake, own_mac, 6000, tso4), 1);
    rig_wait_used(&rig, RX, &length);
    assert_int_equal(length, 4096);
    assert_int_equal(memory_read(&rig.mem, RIG_DATA, &got, sizeof(got)), 0);
    assert_memory_equal(&got, &tso4, sizeof(got));
    reg_write(&rig, R_STATUS, 1, 0);
    assert_int_equal(fake.accepts, 0);
}

/* The backend may still have frames for the driver that was there before. */
static void unfinished_frame_for_another_driver_is_lost(void **state)
{
    offer_receive(0, 4096);
    assert_int_equal(fake_deliver_offload(&fake, own_mac, 100, tso4), 1);
    assert_int_equal(fake_deliver_offload(&fake, own_mac, 100,
                                          (struct net_offload){.flags = NET_OFFLOAD_NEEDS_CSUM}),
                     1);
    assert_int_equal(guest_used_idx(&rig.ring[RX]), 0);
}

static void buffer_without_room_breaks_the_queue(void **state)
{
    offer_receive(0, HEADER);
    assert_int_equal(fake_deliver(&fake, own_mac, 60), 1);
    rig_wait_status(&rig, VIRTIO_STATUS_NEEDS_RESET);
    assert_int_equal(fake_deliver(&fake, own_mac, 60), 0);
    /* A reset lets go of what waits: nobody listens then. */
    reg_write(&rig, R_STATUS, 1, 0);
    assert_int_equal(fake_deliver(&fake, own_mac, 60), 1);
}

static void paused_card_takes_and_sends_nothing(void **state)
{
    uint32_t length;

    offer_receive(0, 2000);
    rig.dev->ops->pause(rig.dev);
    assert_int_equal(fake_deliver(&fake, own_mac, 60), 0);
    guest_desc(&rig.ring[TX], 0, RIG_DATA + 0x8000, HEADER + 60, 0, 0);
    guest_offer(&rig.ring[TX], 0);
    rig_notify(&rig, TX);
    usleep(10000);
    assert_int_equal(fake.count, 0);
    unsigned ready = fake.ready;
    rig.dev->ops->resume(rig.dev);
    assert_int_not_equal(fake.ready, ready);
    assert_int_equal(fake_wait_sent(&fake, 1), 1);
    assert_int_equal(fake_deliver(&fake, own_mac, 60), 1);
    rig_wait_used(&rig, RX, &length);
}

/* Sending. */

static void put_frame(gpa_t at, uint8_t flags, size_t length)
{
    for (unsigned i = 0; i < HEADER; i++)
        guest_put(&rig.mem, at + i, 0, 1);
    guest_put(&rig.mem, at, flags, 1);
    guest_put(&rig.mem, at + 6, 34, 2); /* csum_start */
    guest_put(&rig.mem, at + 8, 16, 2); /* csum_offset */
    for (size_t i = 0; i < length; i++)
        guest_put(&rig.mem, at + HEADER + i, i & 0xff, 1);
}

static void frame_is_sent_with_what_its_header_says(void **state)
{
    uint32_t length;

    put_frame(RIG_DATA, NET_OFFLOAD_NEEDS_CSUM, 90);
    guest_desc(&rig.ring[TX], 0, RIG_DATA, HEADER + 20, RING_NEXT, 1);
    guest_desc(&rig.ring[TX], 1, RIG_DATA + HEADER + 20, 70, 0, 0);
    guest_offer(&rig.ring[TX], 0);
    rig_notify(&rig, TX);
    rig_wait_used(&rig, TX, &length);
    assert_int_equal(length, 0);
    assert_int_equal(fake.count, 1);
    assert_int_equal(fake.length[0], 90);
    assert_int_equal(fake.frame[0][89], 89);
    assert_int_equal(fake.offload[0].flags, NET_OFFLOAD_NEEDS_CSUM);
    assert_int_equal(fake.offload[0].csum_start, 34);
    assert_int_equal(fake.offload[0].csum_offset, 16);
}

static void what_is_no_frame_is_given_back_unsent(void **state)
{
    static const uint32_t lengths[] = {4, HEADER, HEADER + 13, 0x18000};
    uint32_t length;

    for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
        guest_desc(&rig.ring[TX], i, RIG_DATA, lengths[i], 0, 0);
        guest_offer(&rig.ring[TX], (uint16_t)i);
        rig_notify(&rig, TX);
        assert_int_equal(rig_wait_used(&rig, TX, &length), i);
    }
    assert_int_equal(fake.count, 0);
}

static void full_backend_is_waited_for(void **state)
{
    uint32_t length;

    fake_set_room(&fake, 1);
    put_frame(RIG_DATA, 0, 60);
    for (unsigned i = 0; i < 2; i++) {
        guest_desc(&rig.ring[TX], i, RIG_DATA, HEADER + 60, 0, 0);
        guest_offer(&rig.ring[TX], (uint16_t)i);
    }
    rig_notify(&rig, TX);
    assert_int_equal(rig_wait_used(&rig, TX, &length), 0);
    usleep(10000);
    assert_int_equal(guest_used_idx(&rig.ring[TX]), 1);
    fake_set_room(&fake, 1);
    fake.backend.card->writable(fake.backend.card_opaque);
    assert_int_equal(rig_wait_used(&rig, TX, &length), 1);
    assert_int_equal(fake.count, 2);
}

/* The control queue. */

static uint8_t control(uint8_t class, uint8_t command, const void *data, uint32_t size)
{
    uint32_t length;

    guest_put(&rig.mem, RIG_DATA, class, 1);
    guest_put(&rig.mem, RIG_DATA + 1, command, 1);
    if (size)
        assert_int_equal(memory_write(&rig.mem, RIG_DATA + 2, data, size), 0);
    guest_put(&rig.mem, RIG_DATA + 0x1000, 0xee, 1);
    guest_desc(&rig.ring[CONTROL], 0, RIG_DATA, 2 + size, RING_NEXT, 1);
    guest_desc(&rig.ring[CONTROL], 1, RIG_DATA + 0x1000, 1, RING_WRITE, 0);
    guest_offer(&rig.ring[CONTROL], 0);
    rig_notify(&rig, CONTROL);
    rig_wait_used(&rig, CONTROL, &length);
    assert_int_equal(length, 1);
    return (uint8_t)guest_get(&rig.mem, RIG_DATA + 0x1000, 1);
}

/* Did the frame pass the filter? There is a buffer for it each time. */
static bool passes(const uint8_t *to, size_t length)
{
    uint32_t used;
    uint16_t before = guest_used_idx(&rig.ring[RX]);

    offer_receive(2, 2000);
    assert_int_equal(fake_deliver(&fake, to, length), 1);
    if (guest_used_idx(&rig.ring[RX]) != before) {
        rig_wait_used(&rig, RX, &used);
        return true;
    }
    rig.ring[RX].avail_idx--; /* take the buffer back */
    *guest_index(&rig.ring[RX], rig.ring[RX].avail) = rig.ring[RX].avail_idx;
    return false;
}

static void filters_do_what_the_driver_asks(void **state)
{
    static const uint8_t on = 1, off = 0;
    uint8_t tables[4 + 6 + 4 + 6] = {1};

    assert_true(passes(other_mac, 60)); /* promiscuous at first */
    assert_int_equal(control(0, 0, &off, 1), 0);
    assert_false(passes(other_mac, 60));
    assert_false(passes(group_mac, 60));
    assert_true(passes(own_mac, 60));
    assert_true(passes(broadcast, 60));
    assert_int_equal(control(0, 1, &on, 1), 0); /* all multicast */
    assert_true(passes(group_mac, 60));
    assert_int_equal(control(0, 1, &off, 1), 0);
    memcpy(tables + 4, other_mac, 6);
    tables[10] = 1;
    memcpy(tables + 14, group_mac, 6);
    assert_int_equal(control(1, 0, tables, sizeof(tables)), 0);
    assert_true(passes(other_mac, 60));
    assert_true(passes(group_mac, 60));
    assert_int_equal(control(1, 1, group_mac, 6), 0); /* its own address */
    assert_false(passes(own_mac, 60));
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_DEVICE, 1), group_mac[0]);
}

static void senseless_commands_are_refused(void **state)
{
    static const uint8_t two = 2;
    static const uint8_t many[] = {0xff, 0xff, 0xff, 0xff, 1, 2, 3};
    static const uint8_t vlan[] = {0, 0x10};

    assert_int_equal(control(0, 0, &two, 1), 1);
    assert_int_equal(control(0, 0, NULL, 0), 1);
    assert_int_equal(control(0, 6, &two, 1), 1);
    assert_int_equal(control(1, 0, many, sizeof(many)), 1);
    assert_int_equal(control(1, 0, many, 3), 1);
    assert_int_equal(control(1, 1, many, 5), 1);
    assert_int_equal(control(1, 2, many, 6), 1);
    assert_int_equal(control(2, 0, vlan, 2), 1);
    assert_int_equal(control(4, 0, vlan, 2), 1);
    assert_int_equal(control(0xff, 0xff, NULL, 0), 1);
    assert_true(passes(other_mac, 60));
}

/* State. */

static void state_survives_and_is_announced(void **state)
{
    static const uint8_t off = 0;
    struct state_buffer saved = {0}, again = {0};
    static struct virtio_rig second;
    static struct fake_net second_fake;

    assert_int_equal(control(0, 0, &off, 1), 0);
    rig.dev->ops->pause(rig.dev);
    assert_int_equal(state_save(&saved, rig.dev->ops->state, rig.dev->state_object), 0);

    rig_init(&second);
    fake_init(&second_fake);
    second.dev = new_device(&second, &second_fake);
    assert_int_equal(state_load(&saved, second.dev->ops->state, second.dev->state_object, NULL), 0);
    assert_int_equal(state_save(&again, second.dev->ops->state, second.dev->state_object), 0);
    assert_int_equal(saved.length, again.length);
    assert_memory_equal(saved.data, again.data, saved.length);
    state_buffer_done(&saved);
    state_buffer_done(&again);
    rig_done(&second);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(frame_arrives_behind_its_header),
        T(large_frame_goes_over_several_buffers_at_once),
        cmocka_unit_test_setup_teardown(without_merging_a_frame_that_is_too_large_is_lost,
                                        setup_plain, teardown),
        cmocka_unit_test_setup_teardown(unfinished_frame_goes_to_a_driver_that_finishes_it,
                                        setup_segmentation, teardown),
        cmocka_unit_test_setup_teardown(unfinished_frame_for_another_driver_is_lost, setup_plain,
                                        teardown),
        T(buffer_without_room_breaks_the_queue),
        T(paused_card_takes_and_sends_nothing),
        T(frame_is_sent_with_what_its_header_says),
        T(what_is_no_frame_is_given_back_unsent),
        T(full_backend_is_waited_for),
        T(filters_do_what_the_driver_asks),
        T(senseless_commands_are_refused),
        T(state_survives_and_is_announced),
    };
    return cmocka_run_group_tests_name("virtio_net", tests, NULL, NULL);
}
