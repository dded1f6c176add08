/* Network options, checksums, the ring of frames, and libslirp behind the backend's interface. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/checksum.h"
#include "net/frame_ring.h"

#define WAIT_MS 10000

/* Options. */

static void options_say_what_they_mean(void **state)
{
    static const uint8_t mac[] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
    struct net_options options;

    assert_int_equal(
        net_parse_options(&options,
                          "user,model=e1000e,mac=52:54:00:12:34:56,net=192.168.64.0/20,"
                          "hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=udp::53-192.168.64.9:5353,"
                          "restrict=on,hostname=box,tftp=/a,,b,bootfile=x.ipxe",
                          NULL),
        0);
    assert_int_equal(options.kind, NET_USER);
    assert_int_equal(options.model, NET_MODEL_E1000E);
    assert_true(options.has_mac);
    assert_memory_equal(options.mac, mac, sizeof(mac));
    assert_int_equal(options.network, 0xc0a84000);
    assert_int_equal(options.prefix, 20);
    assert_int_equal(options.forward_count, 2);
    assert_false(options.forward[0].udp);
    assert_int_equal(options.forward[0].host_address, 0x7f000001);
    assert_int_equal(options.forward[0].host_port, 8080);
    assert_int_equal(options.forward[0].guest_address, 0);
    assert_int_equal(options.forward[0].guest_port, 80);
    assert_true(options.forward[1].udp);
    assert_int_equal(options.forward[1].host_address, 0);
    assert_int_equal(options.forward[1].guest_address, 0xc0a84009);
    assert_true(options.restricted);
    assert_string_equal(options.hostname, "box");
    assert_string_equal(options.tftp, "/a,b");
    assert_string_equal(options.bootfile, "x.ipxe");

    assert_int_equal(net_parse_options(&options, "tap=tap0", NULL), 0);
    assert_int_equal(options.kind, NET_TAP);
    assert_string_equal(options.tap, "tap0");
}

static void wrong_options_are_refused_with_the_value(void **state)
{
    static const char *const wrong[] = {
        "wifi",
        "user,hostfwd=tcp:127.0.0.1:8080",
        "user,hostfwd=sctp:127.0.0.1:8080-:80",
        "user,hostfwd=tcp:127.0.0.1:8080-:65536",
        "user,hostfwd=tcp:127.0.0.1:0-:80",
        "user,hostfwd=tcp:host:8080-:80",
        "user,hostfwd=-:80",
        "user,net=10.0.2.0",
        "user,net=10.0.2.0/28",
        "user,net=10.0.2.0/7",
        "user,net=10.0.2.1/24",
        "user,mac=52:54:00:12:34",
        "user,mac=52:54:00:12:34:5x",
        "user,mac=53:54:00:12:34:56",
        "user,model=rtl8139",
        "user,restrict=maybe",
        "tap=a-name-that-is-too-long",
        "tap=t0,hostfwd=tcp:127.0.0.1:8080-:80",
    };
    struct net_options options;

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct error err = {0};
        const char *last = strrchr(wrong[i], '=');
        assert_int_equal(net_parse_options(&options, wrong[i], &err), -EINVAL);
        if (last && strncmp(wrong[i], "tap", 3) != 0)
            assert_non_null(strstr(err.text, last + 1));
        assert_true(err.text[0]);
    }
}

static void default_addresses_are_stable_and_local(void **state)
{
    uint8_t a[NET_MAC_LENGTH], again[NET_MAC_LENGTH], b[NET_MAC_LENGTH], c[NET_MAC_LENGTH];

    net_default_mac(a, "one", 0);
    net_default_mac(again, "one", 0);
    net_default_mac(b, "one", 1);
    net_default_mac(c, "two", 0);
    assert_memory_equal(a, again, sizeof(a));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_memory_not_equal(a, c, sizeof(a));
    assert_int_equal(a[0] & 3, 2);
}

/* Checksums. */

/* RFC 1071, section 4.1, as it is written there. */
static uint16_t plain_checksum(const uint8_t *data, size_t length)
{
    uint32_t sum = 0;

    for (; length > 1; data += 2, length -= 2)
        sum += (uint32_t)(data[0] << 8 | data[1]);
    if (length)
        sum += (uint32_t)data[0] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void checksums_are_those_of_the_rfc(void **state)
{
    uint8_t data[600];

    srand(1);
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)rand();
    for (size_t length = 0; length < 300; length++) {
        const uint8_t *from = data + length % 9;
        assert_int_equal(net_checksum_finish(net_checksum_add(0, from, length)),
                         plain_checksum(from, length));
    }
    memset(data, 0xff, sizeof(data));
    assert_int_equal(net_checksum_finish(net_checksum_add(0, data, sizeof(data))),
                     plain_checksum(data, sizeof(data)));
}

static void unfinished_checksums_are_completed_within_the_frame(void **state)
{
    uint8_t frame[64], before[64];
    struct net_offload offload = {
        .flags = NET_OFFLOAD_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16};

    for (unsigned i = 0; i < sizeof(frame); i++)
        frame[i] = (uint8_t)(3 * i);
    memcpy(before, frame, sizeof(frame));
    net_checksum_complete(frame, sizeof(frame), &offload);
    assert_int_equal(frame[50] << 8 | frame[51], plain_checksum(before + 34, 30));

    /* The field begins at the last byte, and far outside. */
    memcpy(frame, before, sizeof(frame));
    offload.csum_offset = 29;
    net_checksum_complete(frame, sizeof(frame), &offload);
    offload.csum_start = 0xffff;
    offload.csum_offset = 0xffff;
    net_checksum_complete(frame, sizeof(frame), &offload);
    assert_memory_equal(frame, before, sizeof(frame));
}

/* The ring. */

static void frames_come_out_as_they_went_in(void **state)
{
    static uint8_t data[3000];
    struct frame_ring ring;
    unsigned in = 0, out = 0;

    assert_int_equal(frame_ring_init(&ring, 128 * KIB), 0);
    srand(2);
    for (unsigned step = 0; step < 20000; step++) {
        struct net_frame frames[4];
        struct iovec iov[4];
        if (rand() % 2) {
            size_t length = 1 + in * 7919u % sizeof(data);
            struct iovec from[2] = {{data, 1}, {data + 1, length - 1}};
            memset(data, (int)in, length);
            const struct net_frame frame = {from, 2, length, {.gso_size = (uint16_t)in}};
            if (frame_ring_put(&ring, &frame))
                in++;
            else
                assert_true(in - out > 20);
        } else {
            unsigned count = frame_ring_peek(&ring, frames, iov, 4);
            assert_int_equal(count, in - out < 4 ? in - out : 4);
            for (unsigned i = 0; i < count; i++, out++) {
                const uint8_t *bytes = iov[i].iov_base;
                assert_int_equal(frames[i].length, 1 + out * 7919u % sizeof(data));
                assert_int_equal(frames[i].offload.gso_size, (uint16_t)out);
                assert_int_equal(bytes[0], (uint8_t)out);
                assert_int_equal(bytes[frames[i].length - 1], (uint8_t)out);
                frame_ring_take(&ring);
            }
            assert_int_equal(frame_ring_empty(&ring), in == out);
        }
    }
    assert_true(out > 1000);
    frame_ring_done(&ring);
}

/* The user network. */

#define ARP_LENGTH 42

struct card {
    _Atomic unsigned replies;
    _Atomic bool deaf;
};

static unsigned card_receive(void *opaque, const struct net_frame *frames, unsigned count)
{
    static const uint8_t reply[] = {0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2};
    struct card *card = opaque;

    if (card->deaf)
        return 0;
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *bytes = frames[i].iov[0].iov_base;
        card->replies +=
            frames[i].length >= ARP_LENGTH && !memcmp(bytes + 12, reply, sizeof(reply));
    }
    return count;
}

static void card_writable(void *opaque)
{
}

/* Who has 10.0.2.2? */
static unsigned ask_for_router(struct net_backend *backend)
{
    uint8_t arp[ARP_LENGTH] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0,  0, 0, 0,  1, 8, 6, 0, 1, 8, 0,  6, 4, 0,
        1,    2,    0,    0,    0,    0,    1, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2,
    };
    struct iovec iov = {arp, sizeof(arp)};
    const struct net_frame frame = {&iov, 1, sizeof(arp), {0}};

    return net_send(backend, &frame, 1);
}

static void router_answers_and_waits_for_a_deaf_card(void **state)
{
    static const struct net_card_ops ops = {card_receive, card_writable};
    struct card card = {.deaf = true};
    struct net_backend *backend;
    struct net_options options;

    assert_int_equal(net_parse_options(&options, "user", NULL), 0);
    assert_int_equal(net_open(&backend, &options, NULL), 0);
    assert_int_equal(net_attach(backend, &ops, &card, NULL), 0);
    assert_int_equal(ask_for_router(backend), 1);
    usleep(20000);
    assert_int_equal(card.replies, 0);
    card.deaf = false;
    net_receive_ready(backend);
    for (unsigned ms = 0; ms < WAIT_MS && !card.replies; ms++)
        usleep(1000);
    assert_int_equal(card.replies, 1);
    net_close(backend);
}

static void address_in_use_is_said_before_the_start(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    struct net_backend *backend;
    struct net_options options;
    struct error err = {0};
    char text[80], port[8];

    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    snprintf(port, sizeof(port), "%u", ntohs(address.sin_port));
    snprintf(text, sizeof(text), "user,hostfwd=tcp:127.0.0.1:%s-:80", port);
    assert_int_equal(net_parse_options(&options, text, NULL), 0);
    assert_int_equal(net_open(&backend, &options, &err), -EADDRINUSE);
    assert_non_null(strstr(err.text, port));
    close(fd);
    assert_int_equal(net_open(&backend, &options, &err), 0);
    net_close(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_say_what_they_mean),
        cmocka_unit_test(wrong_options_are_refused_with_the_value),
        cmocka_unit_test(default_addresses_are_stable_and_local),
        cmocka_unit_test(checksums_are_those_of_the_rfc),
        cmocka_unit_test(unfinished_checksums_are_completed_within_the_frame),
        cmocka_unit_test(frames_come_out_as_they_went_in),
        cmocka_unit_test(router_answers_and_waits_for_a_deaf_card),
        cmocka_unit_test(address_in_use_is_said_before_the_start),
    };
    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
