/* The virtio entropy device. */
#include "virtio_rig.h"

#include "dev/virtio/virtio_rng.h"

static struct virtio_rig rig;

static int setup(void **state)
{
    struct device *dev;

    rig_init(&rig);
    struct virtio_pci_config config = rig_config(&rig, "rng0");
    assert_int_equal(virtio_rng_new(&dev, &config, NULL), 0);
    rig_start(&rig, dev);
    rig_negotiate(&rig, VIRTIO_F_VERSION_1);
    rig_queue(&rig, 0, 16);
    rig_driver_ok(&rig);
    return 0;
}

static int teardown(void **state)
{
    rig_done(&rig);
    return 0;
}

static void buffers_are_filled_with_random_bytes(void **state)
{
    unsigned counts[256] = {0};
    uint32_t len;

    guest_desc(&rig.ring[0], 0, RIG_DATA, 10000, RING_WRITE | RING_NEXT, 1);
    guest_desc(&rig.ring[0], 1, RIG_DATA + 0x10000, 10000, RING_WRITE, 0);
    guest_offer(&rig.ring[0], 0);
    rig_notify(&rig, 0);
    rig_wait_used(&rig, 0, &len);
    assert_int_equal(len, 20000);
    for (unsigned i = 0; i < 10000; i++) {
        counts[guest_get(&rig.mem, RIG_DATA + i, 1)]++;
        counts[guest_get(&rig.mem, RIG_DATA + 0x10000 + i, 1)]++;
    }
    for (unsigned i = 0; i < 256; i++)
        assert_in_range(counts[i], 20, 200); /* 78 expected, deviation 9 */
    assert_int_equal(guest_get(&rig.mem, RIG_DATA + 10000, 8), 0);
}

static void huge_requests_get_a_part(void **state)
{
    uint32_t len;

    guest_desc(&rig.ring[0], 0, RIG_DATA, MIB, RING_WRITE, 0);
    guest_offer(&rig.ring[0], 0);
    rig_notify(&rig, 0);
    rig_wait_used(&rig, 0, &len);
    assert_int_equal(len, 64 * KIB);
}

static void request_without_room_gets_nothing(void **state)
{
    uint32_t len;

    guest_put(&rig.mem, RIG_DATA, 0x1234, 8);
    guest_desc(&rig.ring[0], 0, RIG_DATA, 8, 0, 0);
    guest_offer(&rig.ring[0], 0);
    rig_notify(&rig, 0);
    rig_wait_used(&rig, 0, &len);
    assert_int_equal(len, 0);
    assert_int_equal(guest_get(&rig.mem, RIG_DATA, 8), 0x1234);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(buffers_are_filled_with_random_bytes),
        T(huge_requests_get_a_part),
        T(request_without_room_gets_nothing),
    };
    return cmocka_run_group_tests_name("virtio_rng", tests, NULL, NULL);
}
