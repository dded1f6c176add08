/* How sizes, devices and consoles are written, what is refused, and the console's escape key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "vm/config.h"
#include "vm/escape.h"

static void test_sizes(void **state)
{
    uint64_t bytes;

    assert_int_equal(config_parse_size(&bytes, "4096", NULL), 0);
    assert_int_equal(bytes, 4096);
    assert_int_equal(config_parse_size(&bytes, "512M", NULL), 0);
    assert_int_equal(bytes, 512 * MIB);
    assert_int_equal(config_parse_size(&bytes, "2g", NULL), 0);
    assert_int_equal(bytes, 2 * GIB);
}

static void test_bad_sizes(void **state)
{
    static const char *const bad[] = {"",
                                      "M",
                                      "-1M",
                                      "+1M",
                                      " 1M",
                                      "1MB",
                                      "1.5G",
                                      "0x10",
                                      "1X",
                                      "99999999999999999999",
                                      "99999999999T"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        uint64_t bytes = 7;
        struct error err = {{0}};
        assert_true(config_parse_size(&bytes, bad[i], &err) < 0);
        assert_int_equal(bytes, 7);
        assert_non_null(strstr(err.text, bad[i]));
    }
}

static void test_device_with_keys(void **state)
{
    struct vm_device device;
    char text[] = "debugcon,port=0x402,to=file:/tmp/a,,b";

    assert_int_equal(config_parse_device(&device, text, NULL), 0);
    assert_int_equal(device.extra.kind, PC_DEBUGCON);
    assert_int_equal(device.extra.port, 0x402);
    assert_int_equal(device.console.kind, CONSOLE_FILE);
    assert_string_equal(device.console.path, "/tmp/a,b");
}

static void test_device_defaults(void **state)
{
    struct vm_device device;
    char text[] = "debug-exit";

    assert_int_equal(config_parse_device(&device, text, NULL), 0);
    assert_int_equal(device.extra.port, 0xf4);
    assert_int_equal(device.console.kind, CONSOLE_NONE);
}

static void test_bad_devices(void **state)
{
    static const char *const bad[] = {"",
                                      "foo",
                                      "rng,port=1",
                                      "debug-exit,port",
                                      "debug-exit,port=",
                                      "debug-exit,port=x",
                                      "debug-exit,port=0x10000",
                                      "debug-exit,",
                                      "console,to=",
                                      "console,to=disk"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct vm_device device;
        struct error err = {{0}};
        char text[64];
        strcpy(text, bad[i]);
        assert_int_equal(config_parse_device(&device, text, &err), -EINVAL);
        assert_true(err.text[0]);
    }
}

static void test_consoles(void **state)
{
    struct console_target target;

    assert_int_equal(console_parse(&target, "socket:/run/x", NULL), 0);
    assert_int_equal(target.kind, CONSOLE_SOCKET);
    assert_string_equal(target.path, "/run/x");
    assert_int_equal(console_parse(&target, "file:", NULL), -EINVAL);
    assert_int_equal(console_parse(&target, "tty", NULL), -EINVAL);
}

static void test_one_user_of_the_terminal(void **state)
{
    struct vm_config config = {
        .console = {.kind = CONSOLE_STDIO},
        .devices = {{.extra = {.kind = PC_VIRTIO_CONSOLE}, .console = {.kind = CONSOLE_STDIO}}},
        .device_count = 1,
    };
    struct error err;

    assert_int_equal(config_check(&config, &err), -EINVAL);
    assert_non_null(strstr(err.text, "--console none"));
    config.console.kind = CONSOLE_NONE;
    assert_int_equal(config_check(&config, &err), 0);
}

static void test_single_devices_stay_single(void **state)
{
    struct vm_config config = {
        .devices = {{.extra = {.kind = PC_TESTDEV}}, {.extra = {.kind = PC_TESTDEV}}},
        .device_count = 2,
    };
    assert_int_equal(config_check(&config, NULL), -EINVAL);
    config.devices[0].extra.kind = config.devices[1].extra.kind = PC_VIRTIO_RNG;
    assert_int_equal(config_check(&config, NULL), 0);
}

static void test_viewer_of_any_system_gets_a_tablet(void **state)
{
    const struct vm_config shown = {.vnc = {.kind = VNC_TCP}};
    struct vm_config config = shown;

    config_add_defaults(&config);
    assert_int_equal(config.device_count, 1);
    assert_int_equal(config.devices[0].extra.kind, PC_USB_TABLET);
    config_add_defaults(&config); /* there is one */
    assert_int_equal(config.device_count, 1);

    config = shown;
    config.vnc.kind = VNC_NONE;
    config_add_defaults(&config);
    config.vnc.kind = VNC_UNIX;
    config.board.kernel = "vmlinuz";
    config_add_defaults(&config);
    config.board.kernel = NULL;
    config.board.vga = PC_VGA_NONE;
    config_add_defaults(&config);
    assert_int_equal(config.device_count, 0);

    config = shown;
    config.device_count = PC_MAX_EXTRAS; /* there is no room */
    config_add_defaults(&config);
    assert_int_equal(config.device_count, PC_MAX_EXTRAS);
}

static void check_escape(const char *typed, const char *meant, bool leaves)
{
    /* Whole, and byte by byte. */
    for (size_t step = strlen(typed); step; step = step > 1 ? 1 : 0) {
        struct escape escape = {0};
        uint8_t out[64];
        size_t length = 0;
        bool leave = false;
        for (size_t i = 0; i < strlen(typed) && !leave; i += step)
            length +=
                escape_filter(&escape, (const uint8_t *)typed + i, step, out + length, &leave);
        assert_int_equal(leave, leaves);
        assert_int_equal(length, strlen(meant));
        assert_memory_equal(out, meant, length);
    }
}

static void test_escape_key(void **state)
{
    check_escape("abc", "abc", false);
    check_escape("a\x1dqb", "a", true);
    check_escape("a\x1d\x1d"
                 "b",
                 "a\x1d"
                 "b",
                 false);
    check_escape("\x1dx", "\x1dx", false);
    check_escape("\x1d\x1dq", "\x1dq", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_bad_sizes),
        cmocka_unit_test(test_device_with_keys),
        cmocka_unit_test(test_device_defaults),
        cmocka_unit_test(test_bad_devices),
        cmocka_unit_test(test_consoles),
        cmocka_unit_test(test_one_user_of_the_terminal),
        cmocka_unit_test(test_single_devices_stay_single),
        cmocka_unit_test(test_viewer_of_any_system_gets_a_tablet),
        cmocka_unit_test(test_escape_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
