/* The virtio-pci register file and queue lifecycle, with the entropy device as the device. */
#include "virtio_rig.h"

#include <errno.h>

#include "dev/virtio/virtio_console.h"
#include "dev/virtio/virtio_rng.h"

static struct virtio_rig rig;

static int setup(void **state)
{
    struct device *dev;

    rig_init(&rig);
    struct virtio_pci_config config = rig_config(&rig, "rng0");
    assert_int_equal(virtio_rng_new(&dev, &config, NULL), 0);
    rig_start(&rig, dev);
    return 0;
}

static int setup_console(void **state)
{
    struct device *dev;

    rig_init(&rig);
    struct virtio_pci_config config = rig_config(&rig, "console0");
    assert_int_equal(virtio_console_new(&dev, &config, NULL, NULL), 0);
    rig_start(&rig, dev);
    return 0;
}

static int teardown(void **state)
{
    rig_done(&rig);
    return 0;
}

/* A working driver with one queue of 8. */
static void bring_up(uint64_t features)
{
    rig_enable_msix(&rig);
    rig_negotiate(&rig, VIRTIO_F_VERSION_1 | features);
    rig_queue(&rig, 0, 8);
    rig_driver_ok(&rig);
}

static void offer_buffer(uint32_t length)
{
    guest_desc(&rig.ring[0], 0, RIG_DATA, length, RING_WRITE, 0);
    guest_offer(&rig.ring[0], 0);
}

static void assert_served(void)
{
    uint32_t len;

    offer_buffer(64);
    rig_notify(&rig, 0);
    assert_int_equal(rig_wait_used(&rig, 0, &len), 0);
    assert_int_equal(len, 64);
}

static void assert_not_served(void)
{
    offer_buffer(64);
    rig_notify(&rig, 0);
    usleep(20000);
    assert_int_equal(guest_used_idx(&rig.ring[0]), rig.ring[0].seen);
}

static void identity_and_capabilities(void **state)
{
    unsigned types = 0;

    assert_int_equal(rig_cfg_read(&rig, 0, 4), 0x10441af4);
    assert_true(rig_cfg_read(&rig, PCI_REVISION_ID, 1) >= 1);
    for (unsigned at = rig_cfg_read(&rig, PCI_CAPABILITY_POINTER, 1); at;
         at = rig_cfg_read(&rig, at + 1, 1))
        if (rig_cfg_read(&rig, at, 1) == PCI_CAP_VENDOR)
            types |= 1u << rig_cfg_read(&rig, at + 3, 1);
    /* Common, notify, ISR and configuration access; this device has no configuration. */
    assert_int_equal(types, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5);
    assert_int_equal(reg_read(&rig, R_NUM_QUEUES, 2), 1);
}

static void features_must_be_acceptable(void **state)
{
    uint64_t offered = rig_features(&rig);

    assert_int_equal(offered, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
                                  VIRTIO_F_RING_RESET);
    rig_negotiate(&rig, VIRTIO_F_INDIRECT_DESC); /* legacy driver */
    assert_false(reg_read(&rig, R_STATUS, 1) & VIRTIO_STATUS_FEATURES_OK);
    rig_negotiate(&rig, VIRTIO_F_VERSION_1 | 1ull << 34); /* packed ring: not offered */
    assert_false(reg_read(&rig, R_STATUS, 1) & VIRTIO_STATUS_FEATURES_OK);
    reg_write(&rig, R_STATUS, 1, 0xf); /* DRIVER_OK without features */
    assert_false(reg_read(&rig, R_STATUS, 1) & VIRTIO_STATUS_DRIVER_OK);

    rig_negotiate(&rig, VIRTIO_F_VERSION_1);
    assert_true(reg_read(&rig, R_STATUS, 1) & VIRTIO_STATUS_FEATURES_OK);
    reg_write(&rig, R_DRIVER_FEATURE_SELECT, 4, 0);
    reg_write(&rig, R_DRIVER_FEATURE, 4, 0xffffffff); /* too late */
    assert_int_equal(reg_read(&rig, R_DRIVER_FEATURE, 4), 0);
    reg_write(&rig, R_DEVICE_FEATURE_SELECT, 4, 2);
    assert_int_equal(reg_read(&rig, R_DEVICE_FEATURE, 4), 0);
}

static void status_bits_only_add_up(void **state)
{
    rig_negotiate(&rig, VIRTIO_F_VERSION_1);
    reg_write(&rig, R_STATUS, 1, VIRTIO_STATUS_FAILED);
    assert_int_equal(reg_read(&rig, R_STATUS, 1), 0x8b);
    reg_write(&rig, R_STATUS, 1, VIRTIO_STATUS_NEEDS_RESET); /* not the driver's */
    assert_int_equal(reg_read(&rig, R_STATUS, 1), 0x8b);
    reg_write(&rig, R_STATUS, 1, 0);
    assert_int_equal(reg_read(&rig, R_STATUS, 1), 0);
}

static void queue_registers_hold_their_values(void **state)
{
    rig_negotiate(&rig, VIRTIO_F_VERSION_1);
    assert_int_equal(reg_read(&rig, R_QUEUE_SIZE, 2), 64);
    reg_write(&rig, R_QUEUE_SIZE, 2, 16);
    reg_write64(&rig, R_QUEUE_DESC, 0x123456789abcdef0);
    assert_int_equal(reg_read(&rig, R_QUEUE_SIZE, 2), 16);
    assert_int_equal(reg_read(&rig, R_QUEUE_DESC, 4), 0x9abcdef0);
    assert_int_equal(reg_read(&rig, R_QUEUE_DESC + 4, 4), 0x12345678);
    reg_write(&rig, R_QUEUE_VECTOR, 2, 2); /* there are 0 and 1 */
    assert_int_equal(reg_read(&rig, R_QUEUE_VECTOR, 2), VIRTIO_NO_VECTOR);
    reg_write(&rig, R_QUEUE_VECTOR, 2, 1);
    assert_int_equal(reg_read(&rig, R_QUEUE_VECTOR, 2), 1);

    reg_write(&rig, R_QUEUE_SELECT, 2, 1); /* there is only 0 */
    assert_int_equal(reg_read(&rig, R_QUEUE_SIZE, 2), 0);
    reg_write(&rig, R_QUEUE_ENABLE, 2, 1);
    assert_int_equal(reg_read(&rig, R_QUEUE_ENABLE, 2), 0);

    reg_write(&rig, R_STATUS, 1, 0);
    reg_write(&rig, R_QUEUE_SELECT, 2, 0);
    assert_int_equal(reg_read(&rig, R_QUEUE_SIZE, 2), 64);
    assert_int_equal(reg_read(&rig, R_QUEUE_DESC, 4), 0);
    assert_int_equal(reg_read(&rig, R_QUEUE_VECTOR, 2), VIRTIO_NO_VECTOR);
}

static void enabled_queue_cannot_be_moved(void **state)
{
    bring_up(0);
    reg_write64(&rig, R_QUEUE_DESC, 0x4000);
    reg_write(&rig, R_QUEUE_SIZE, 2, 16);
    assert_int_equal(reg_read(&rig, R_QUEUE_SIZE, 2), 8);
    assert_served();
}

static void registers_have_one_width(void **state)
{
    uint64_t value;

    assert_int_equal(bus_read(&rig.bus, BUS_MMIO, rig.registers + R_QUEUE_SIZE, 4, &value),
                     BUS_ERROR);
    assert_int_equal(bus_read(&rig.bus, BUS_MMIO, rig.registers + R_QUEUE_SIZE + 1, 1, &value),
                     BUS_ERROR);
    assert_int_equal(bus_write(&rig.bus, BUS_MMIO, rig.registers + R_STATUS, 4, 0xff), BUS_ERROR);
    assert_int_equal(bus_read(&rig.bus, BUS_MMIO, rig.registers + 0xffc, 4, &value), BUS_ERROR);
    /* The lower part may be read. */
    assert_int_equal(bus_read(&rig.bus, BUS_MMIO, rig.registers + R_DEVICE_FEATURE, 2, &value),
                     BUS_OK);
    assert_int_equal(value, rig_features(&rig) & 0xffff);
    /* A 64-bit access is two of 32 bits. */
    assert_int_equal(bus_read(&rig.bus, BUS_MMIO, rig.registers + R_QUEUE_DESC, 8, &value), BUS_OK);
}

static void notification_leads_to_a_message(void **state)
{
    bring_up(0);
    assert_served();
    rig_wait_messages(&rig, 1, 1);
    assert_served();
    rig_wait_messages(&rig, 1, 2);
    assert_int_equal(rig.messages[0], 0);
    assert_false(rig.intx);
}

static void event_index_suppresses_messages(void **state)
{
    bring_up(VIRTIO_F_EVENT_IDX);
    assert_served();
    rig_wait_messages(&rig, 1, 1); /* used_event is 0: entry 0 */
    assert_served();
    assert_served();
    rig.dev->ops->pause(rig.dev); /* whatever would come has come */
    assert_int_equal(rig.messages[1], 1);
}

static void without_msix_the_wire_is_used(void **state)
{
    rig_negotiate(&rig, VIRTIO_F_VERSION_1);
    rig_queue(&rig, 0, 8);
    rig_driver_ok(&rig);
    assert_served();
    for (unsigned ms = 0; ms < RIG_WAIT_MS && !rig.intx; ms++)
        usleep(1000);
    assert_true(rig.intx);
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_ISR, 1), 1);
    assert_false(rig.intx);
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_ISR, 1), 0);
}

static void nothing_happens_before_driver_ok(void **state)
{
    rig_negotiate(&rig, VIRTIO_F_VERSION_1);
    rig_queue(&rig, 0, 8);
    assert_not_served();
    rig_driver_ok(&rig); /* and then without a further notification */
    uint32_t len;
    rig_wait_used(&rig, 0, &len);
}

static void bus_master_bit_is_honoured(void **state)
{
    uint32_t len;

    bring_up(0);
    rig_cfg_write(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    assert_not_served();
    rig_cfg_write(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    rig_wait_used(&rig, 0, &len);
}

static void paused_device_does_nothing(void **state)
{
    uint32_t len;

    bring_up(0);
    assert_served();
    rig.dev->ops->pause(rig.dev);
    assert_not_served();
    rig.dev->ops->resume(rig.dev);
    rig_wait_used(&rig, 0, &len);
}

static void queue_can_be_reset_alone(void **state)
{
    bring_up(VIRTIO_F_RING_RESET);
    assert_served();
    reg_write(&rig, R_QUEUE_RESET, 2, 1);
    assert_int_equal(reg_read(&rig, R_QUEUE_RESET, 2), 0);
    assert_int_equal(reg_read(&rig, R_QUEUE_ENABLE, 2), 0);
    assert_not_served();
    rig_queue(&rig, 0, 4); /* other size, indices from 0 */
    assert_served();
}

/* Hostile drivers. */

static void assert_needs_reset_and_recovers(void)
{
    rig_wait_status(&rig, VIRTIO_STATUS_NEEDS_RESET);
    rig_wait_messages(&rig, 0, 1); /* the configuration interrupt */
    assert_not_served();
    bring_up(0);
    assert_int_equal(reg_read(&rig, R_STATUS, 1), 0xf);
    assert_served();
}

static void looping_chain_needs_reset(void **state)
{
    bring_up(0);
    guest_desc(&rig.ring[0], 0, RIG_DATA, 1, RING_WRITE | RING_NEXT, 0);
    guest_offer(&rig.ring[0], 0);
    rig_notify(&rig, 0);
    assert_needs_reset_and_recovers();
}

static void buffer_outside_memory_needs_reset(void **state)
{
    bring_up(0);
    guest_desc(&rig.ring[0], 0, RIG_RAM - 1, 2, RING_WRITE, 0);
    guest_offer(&rig.ring[0], 0);
    rig_notify(&rig, 0);
    assert_needs_reset_and_recovers();
}

static void rings_outside_memory_need_reset(void **state)
{
    rig_enable_msix(&rig);
    rig_negotiate(&rig, VIRTIO_F_VERSION_1);
    reg_write(&rig, R_QUEUE_SIZE, 2, 8);
    reg_write64(&rig, R_QUEUE_DESC, UINT64_MAX - 15);
    reg_write64(&rig, R_QUEUE_DRIVER, RIG_RAM);
    reg_write64(&rig, R_QUEUE_DEVICE, RIG_RAM);
    reg_write(&rig, R_QUEUE_ENABLE, 2, 1);
    guest_ring_init(&rig.ring[0], &rig.mem, 0x10000, 8);
    rig_driver_ok(&rig);
    assert_needs_reset_and_recovers();
}

static void queue_size_of_no_power_of_two_needs_reset(void **state)
{
    rig_enable_msix(&rig);
    rig_negotiate(&rig, VIRTIO_F_VERSION_1);
    rig_queue(&rig, 0, 12);
    rig_driver_ok(&rig);
    assert_needs_reset_and_recovers();
}

static void notifications_of_missing_queues_are_ignored(void **state)
{
    bring_up(0);
    for (unsigned i = 1; i < 1024; i++)
        reg_write(&rig, VIRTIO_PCI_NOTIFY + 4 * i, 2, i);
    assert_served();
}

static void reset_in_full_flight(void **state)
{
    for (unsigned round = 0; round < 200; round++) {
        bring_up(0);
        for (unsigned i = 0; i < 8; i++) {
            guest_desc(&rig.ring[0], i, RIG_DATA + 0x10000 * i, 0x8000, RING_WRITE, 0);
            guest_offer(&rig.ring[0], (uint16_t)i);
        }
        rig_notify(&rig, 0);
        reg_write(&rig, R_STATUS, 1, 0);
        uint16_t used = guest_used_idx(&rig.ring[0]);
        usleep(100);
        assert_int_equal(guest_used_idx(&rig.ring[0]), used); /* nothing after the reset */
    }
}

/* The configuration access capability. */

static void registers_are_reached_through_configuration_space(void **state)
{
    unsigned cap = rig_cfg_read(&rig, PCI_CAPABILITY_POINTER, 1);

    while (rig_cfg_read(&rig, cap, 1) != PCI_CAP_VENDOR || rig_cfg_read(&rig, cap + 3, 1) != 5)
        cap = rig_cfg_read(&rig, cap + 1, 1);
    rig_cfg_write(&rig, cap + 4, 1, 0);
    rig_cfg_write(&rig, cap + 8, 4, VIRTIO_PCI_COMMON + R_NUM_QUEUES);
    rig_cfg_write(&rig, cap + 12, 4, 2);
    assert_int_equal(rig_cfg_read(&rig, cap + 16, 2), 1);
    rig_cfg_write(&rig, cap + 8, 4, VIRTIO_PCI_COMMON + R_STATUS);
    rig_cfg_write(&rig, cap + 12, 4, 1);
    rig_cfg_write(&rig, cap + 16, 1, VIRTIO_STATUS_ACKNOWLEDGE);
    assert_int_equal(reg_read(&rig, R_STATUS, 1), VIRTIO_STATUS_ACKNOWLEDGE);
    assert_int_equal(rig_cfg_read(&rig, cap + 16, 1), VIRTIO_STATUS_ACKNOWLEDGE);

    static const uint32_t bad[][3] = {
        {0, 0x4000, 4}, {0, 0xfffffffc, 4}, {0, 0x2, 4}, {0, 0, 3}, {0, 0, 0xffffffff}, {2, 0, 4},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        rig_cfg_write(&rig, cap + 4, 1, bad[i][0]);
        rig_cfg_write(&rig, cap + 8, 4, bad[i][1]);
        rig_cfg_write(&rig, cap + 12, 4, bad[i][2]);
        rig_cfg_write(&rig, cap + 16, 4, 0);
        rig_cfg_read(&rig, cap + 16, 4);
    }
    assert_int_equal(reg_read(&rig, R_STATUS, 1), VIRTIO_STATUS_ACKNOWLEDGE);
}

static void device_configuration_is_readable(void **state)
{
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_DEVICE + 4, 4), 1); /* max_nr_ports */
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_DEVICE + 4, 1), 1);
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_DEVICE + 0xffc, 4), 0);
    reg_write(&rig, VIRTIO_PCI_DEVICE + 4, 4, 7);
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_DEVICE + 4, 4), 1);
}

/* State. */

static void saved_device_goes_on_elsewhere(void **state)
{
    struct state_buffer saved = {0};
    struct device *dev;
    uint32_t len;

    bring_up(VIRTIO_F_EVENT_IDX);
    assert_served();
    rig_wait_messages(&rig, 1, 1);
    rig.dev->ops->pause(rig.dev);
    assert_not_served(); /* offered, but left for the other one */
    assert_int_equal(state_save(&saved, rig.dev->ops->state, rig.dev->state_object), 0);

    rig_remove_device(&rig);
    struct virtio_pci_config config = rig_config(&rig, "rng0");
    assert_int_equal(virtio_rng_new(&dev, &config, NULL), 0);
    rig.dev = dev;
    assert_int_equal(state_load(&saved, dev->ops->state, dev->state_object, NULL), 0);
    assert_int_equal(dev->ops->start(dev, NULL), 0);
    rig_wait_used(&rig, 0, &len);
    guest_set_used_event(&rig.ring[0], rig.ring[0].avail_idx);
    assert_served();
    rig_wait_messages(&rig, 1, 2);
    state_buffer_done(&saved);
}

static void impossible_state_is_refused(void **state)
{
    struct virtio_pci *v = CONTAINER_OF(rig.dev, struct virtio_pci, pci.dev);
    struct state_buffer saved = {0};
    struct error err;

    rig_negotiate(&rig, VIRTIO_F_VERSION_1);
    rig.dev->ops->pause(rig.dev);
    v->vdev.driver_features |= 1ull << 34;
    assert_int_equal(state_save(&saved, rig.dev->ops->state, rig.dev->state_object), 0);
    v->vdev.driver_features = VIRTIO_F_VERSION_1;
    assert_int_equal(state_load(&saved, rig.dev->ops->state, rig.dev->state_object, &err),
                     -EBADMSG);
    assert_non_null(strstr(err.text, "rng0"));
    assert_int_equal(v->vdev.driver_features, VIRTIO_F_VERSION_1);
    state_buffer_done(&saved);
}

/* Rings that no driver would have set up: as harmless from a stream as from the guest. */
static void hostile_rings_in_state_are_harmless(void **state)
{
    struct virtio_pci *v = CONTAINER_OF(rig.dev, struct virtio_pci, pci.dev);
    struct state_buffer saved = {0};

    bring_up(0);
    rig.dev->ops->pause(rig.dev);
    struct virtqueue good = v->vdev.queue[0].ring;
    v->vdev.queue[0].ring.size = 0xffff;
    v->vdev.queue[0].ring.used = UINT64_MAX;
    v->vdev.queue[0].vector = 0x1234;
    assert_int_equal(state_save(&saved, rig.dev->ops->state, rig.dev->state_object), 0);
    v->vdev.queue[0].ring = good;
    assert_int_equal(state_load(&saved, rig.dev->ops->state, rig.dev->state_object, NULL), 0);
    rig.dev->ops->resume(rig.dev);
    assert_needs_reset_and_recovers();
    state_buffer_done(&saved);
}

static void reset_restores_power_on_state(void **state)
{
    bring_up(0);
    assert_served();
    rig.dev->ops->pause(rig.dev);
    rig.dev->ops->reset(rig.dev);
    rig.dev->ops->resume(rig.dev);
    assert_int_equal(rig_cfg_read(&rig, PCI_COMMAND, 2), 0);
    rig_enable_pci(&rig);
    assert_int_equal(reg_read(&rig, R_STATUS, 1), 0);
    bring_up(0);
    assert_served();
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define CONSOLE(name) cmocka_unit_test_setup_teardown(name, setup_console, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(identity_and_capabilities),
        T(features_must_be_acceptable),
        T(status_bits_only_add_up),
        T(queue_registers_hold_their_values),
        T(enabled_queue_cannot_be_moved),
        T(registers_have_one_width),
        T(notification_leads_to_a_message),
        T(event_index_suppresses_messages),
        T(without_msix_the_wire_is_used),
        T(nothing_happens_before_driver_ok),
        T(bus_master_bit_is_honoured),
        T(paused_device_does_nothing),
        T(queue_can_be_reset_alone),
        T(looping_chain_needs_reset),
        T(buffer_outside_memory_needs_reset),
        T(rings_outside_memory_need_reset),
        T(queue_size_of_no_power_of_two_needs_reset),
        T(notifications_of_missing_queues_are_ignored),
        T(reset_in_full_flight),
        T(registers_are_reached_through_configuration_space),
        CONSOLE(device_configuration_is_readable),
        T(saved_device_goes_on_elsewhere),
        T(impossible_state_is_refused),
        T(hostile_rings_in_state_are_harmless),
        T(reset_restores_power_on_state),
    };
    return cmocka_run_group_tests_name("virtio_pci", tests, NULL, NULL);
}
