/* The virtio console over a back end that can be made to refuse output. */
#include "virtio_rig.h"

#include "dev/virtio/virtio_console.h"

enum { RECEIVE, TRANSMIT };

static struct virtio_rig rig;
static char output[256];
static atomic_uint output_length;
static atomic_uint room; /* what the back end still takes */
static atomic_uint ready_calls;

static size_t backend_write(void *opaque, const uint8_t *data, size_t length)
{
    if (length > room)
        length = room;
    assert_true(output_length + length < sizeof(output));
    memcpy(output + output_length, data, length);
    room -= (unsigned)length;
    output_length += (unsigned)length;
    return length;
}

static void backend_input_ready(void *opaque)
{
    ready_calls++;
}

static const struct char_backend_ops backend_ops = {
    .write = backend_write,
    .input_ready = backend_input_ready,
};

static struct char_backend backend = {.ops = &backend_ops};

static void driver_start(void)
{
    rig_enable_msix(&rig);
    rig_negotiate(&rig, VIRTIO_F_VERSION_1 | 1); /* with F_SIZE */
    rig_queue(&rig, RECEIVE, 8);
    rig_queue(&rig, TRANSMIT, 8);
    rig_driver_ok(&rig);
}

static int setup(void **state)
{
    struct device *dev;

    memset(output, 0, sizeof(output));
    output_length = ready_calls = 0;
    room = sizeof(output) - 1;
    rig_init(&rig);
    struct virtio_pci_config config = rig_config(&rig, "console0");
    assert_int_equal(virtio_console_new(&dev, &config, &backend, NULL), 0);
    rig_start(&rig, dev);
    driver_start();
    return 0;
}

static int teardown(void **state)
{
    rig_done(&rig);
    return 0;
}

static void offer_output(unsigned index, const char *text)
{
    gpa_t at = RIG_DATA + 0x1000 * index;

    assert_int_equal(memory_write(&rig.mem, at, text, strlen(text)), 0);
    guest_desc(&rig.ring[TRANSMIT], index, at, (uint32_t)strlen(text), 0, 0);
    guest_offer(&rig.ring[TRANSMIT], (uint16_t)index);
    rig_notify(&rig, TRANSMIT);
}

static void input(const char *text)
{
    size_t length = strlen(text);

    assert_true(backend.frontend->can_receive(backend.frontend_opaque) >= length);
    backend.frontend->receive(backend.frontend_opaque, (const uint8_t *)text, length);
}

static void offer_input_buffer(unsigned index, uint32_t length)
{
    guest_desc(&rig.ring[RECEIVE], index, RIG_DATA + 0x10000 + 0x1000 * index, length, RING_WRITE,
               0);
    guest_offer(&rig.ring[RECEIVE], (uint16_t)index);
    rig_notify(&rig, RECEIVE);
}

static void assert_input(unsigned index, const char *text)
{
    char got[64] = "";
    uint32_t len;

    assert_int_equal(rig_wait_used(&rig, RECEIVE, &len), index);
    assert_int_equal(len, strlen(text));
    assert_int_equal(memory_read(&rig.mem, RIG_DATA + 0x10000 + 0x1000 * index, got, len), 0);
    assert_string_equal(got, text);
}

static void output_reaches_the_backend(void **state)
{
    uint32_t len;

    offer_output(0, "hello, ");
    offer_output(1, "world");
    assert_int_equal(rig_wait_used(&rig, TRANSMIT, &len), 0);
    assert_int_equal(rig_wait_used(&rig, TRANSMIT, &len), 1);
    assert_string_equal(output, "hello, world");
}

static void output_waits_for_room(void **state)
{
    uint32_t len;

    room = 4;
    offer_output(0, "hello, ");
    offer_output(1, "world");
    while (output_length < 4)
        usleep(1000);
    usleep(10000);
    assert_int_equal(guest_used_idx(&rig.ring[TRANSMIT]), 0);

    /* Pausing in the middle neither loses nor repeats anything. */
    rig.dev->ops->pause(rig.dev);
    rig.dev->ops->resume(rig.dev);
    room = 100;
    backend.frontend->writable(backend.frontend_opaque);
    rig_wait_used(&rig, TRANSMIT, &len);
    rig_wait_used(&rig, TRANSMIT, &len);
    assert_string_equal(output, "hello, world");
}

static void input_reaches_the_driver(void **state)
{
    offer_input_buffer(0, 32);
    input("ls\n");
    assert_input(0, "ls\n");
    assert_true(ready_calls > 0);
}

static void input_before_buffers_is_kept(void **state)
{
    input("abc");
    input("defg");
    offer_input_buffer(3, 5);
    assert_input(3, "abcde");
    offer_input_buffer(4, 5);
    assert_input(4, "fg");
}

static void full_input_makes_the_sender_wait(void **state)
{
    static const uint8_t many[4096];
    size_t space = backend.frontend->can_receive(backend.frontend_opaque);
    uint32_t len;

    assert_in_range(space, 64, sizeof(many));
    backend.frontend->receive(backend.frontend_opaque, many, space);
    assert_int_equal(backend.frontend->can_receive(backend.frontend_opaque), 0);
    unsigned before = ready_calls;
    offer_input_buffer(0, 4096);
    rig_wait_used(&rig, RECEIVE, &len);
    assert_int_equal(len, space);
    for (unsigned ms = 0; ms < RIG_WAIT_MS && ready_calls == before; ms++)
        usleep(1000);
    assert_true(ready_calls > before);
    assert_int_equal(backend.frontend->can_receive(backend.frontend_opaque), space);
}

static void resizing_interrupts_the_driver(void **state)
{
    uint32_t generation = reg_read(&rig, R_GENERATION, 1);

    backend.frontend->resized(backend.frontend_opaque, 132, 43);
    rig_wait_messages(&rig, 0, 1);
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_DEVICE, 2), 132);
    assert_int_equal(reg_read(&rig, VIRTIO_PCI_DEVICE + 2, 2), 43);
    assert_int_not_equal(reg_read(&rig, R_GENERATION, 1), generation);
}

static void emergency_write_works_without_queues(void **state)
{
    reg_write(&rig, R_STATUS, 1, 0);
    reg_write(&rig, VIRTIO_PCI_DEVICE + 8, 4, '!');
    assert_string_equal(output, "!");
}

static void pending_input_and_output_are_saved(void **state)
{
    struct state_buffer saved = {0};
    struct device *dev;
    uint32_t len;

    room = 3;
    offer_output(0, "abcdef");
    while (output_length < 3)
        usleep(1000);
    input("xyz");
    rig.dev->ops->pause(rig.dev);
    assert_int_equal(state_save(&saved, rig.dev->ops->state, rig.dev->state_object), 0);
    rig_remove_device(&rig);
    struct virtio_pci_config config = rig_config(&rig, "console0");
    assert_int_equal(virtio_console_new(&dev, &config, &backend, NULL), 0);
    rig.dev = dev;
    assert_int_equal(state_load(&saved, dev->ops->state, dev->state_object, NULL), 0);
    room = 100;
    assert_int_equal(dev->ops->start(dev, NULL), 0);
    rig_wait_used(&rig, TRANSMIT, &len);
    assert_string_equal(output, "abcdef");
    offer_input_buffer(0, 16);
    assert_input(0, "xyz");
    state_buffer_done(&saved);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(output_reaches_the_backend),
        T(output_waits_for_room),
        T(input_reaches_the_driver),
        T(input_before_buffers_is_kept),
        T(full_input_makes_the_sender_wait),
        T(resizing_interrupts_the_driver),
        T(emergency_write_works_without_queues),
        T(pending_input_and_output_are_saved),
    };
    return cmocka_run_group_tests_name("virtio_console", tests, NULL, NULL);
}
