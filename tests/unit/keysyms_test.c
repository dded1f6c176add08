/* Key symbols and key codes of VNC clients, and the words behind --display vnc=. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "dev/input/input.h"
#include "vm/vnc/keysyms.h"
#include "vm/vnc/options.h"

static void test_symbols(void **state)
{
    static const struct {
        uint32_t keysym;
        unsigned code;
        enum keysym_shift shift;
    } keys[] = {
        {'a', 0x1e, KEYSYM_SHIFT_UP},
        {'A', 0x1e, KEYSYM_SHIFT_DOWN},
        {'?', 0x35, KEYSYM_SHIFT_DOWN},
        {' ', 0x39, KEYSYM_SHIFT_ANY},
        {0xff0d, 0x1c, KEYSYM_SHIFT_ANY},                  /* Return */
        {0xffff, INPUT_EXTENDED | 0x53, KEYSYM_SHIFT_ANY}, /* Delete */
        {0xffb5, 0x4c, KEYSYM_SHIFT_ANY},                  /* KP_5 */
        {0xffc7, 0x44, KEYSYM_SHIFT_ANY},                  /* F10 */
        {0xffc9, 0x58, KEYSYM_SHIFT_ANY},                  /* F12 */
        {0xffec, INPUT_EXTENDED | 0x5c, KEYSYM_SHIFT_ANY}, /* Super_R */
    };
    static const uint32_t none[] = {0, 1, '\n', 0x7f, 0xe4, 0xff00, 0xffca, 0x1008ff11, UINT32_MAX};
    enum keysym_shift shift;
    unsigned code;

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        assert_true(keysym_to_key(keys[i].keysym, &code, &shift));
        assert_int_equal(code, keys[i].code);
        assert_int_equal(shift, keys[i].shift);
    }
    for (size_t i = 0; i < ARRAY_SIZE(none); i++)
        assert_false(keysym_to_key(none[i], &code, &shift));
}

static void test_key_codes(void **state)
{
    unsigned code;

    assert_true(keycode_to_key(30, &code)); /* KEY_A */
    assert_int_equal(code, 0x1e);
    assert_true(keycode_to_key(106, &code)); /* KEY_RIGHT */
    assert_int_equal(code, INPUT_EXTENDED | 0x4d);
    assert_true(keycode_to_key(119, &code)); /* KEY_PAUSE */
    assert_int_equal(code, INPUT_KEY_PAUSE);
    assert_false(keycode_to_key(0, &code));
    assert_false(keycode_to_key(101, &code));
    assert_false(keycode_to_key(128, &code));
    assert_false(keycode_to_key(UINT32_MAX, &code));
}

static void test_addresses(void **state)
{
    struct vnc_options options;
    char v6[] = "[::1]:12,password=a,b", path[] = "unix:somewhere", any[] = "[::]:1";
    struct error err;

    assert_int_equal(vnc_parse(&options, v6, NULL), 0);
    assert_int_equal(options.kind, VNC_TCP);
    assert_string_equal(options.address, "::1");
    assert_int_equal(options.port, 5912);
    assert_string_equal(options.password_file, "a,b");
    assert_int_equal(vnc_parse(&options, path, NULL), 0);
    assert_int_equal(options.kind, VNC_UNIX);
    assert_string_equal(options.address, "somewhere");
    assert_int_equal(vnc_parse(&options, any, &err), -EINVAL);
    assert_non_null(strstr(err.text, "password=FILE"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_symbols),
        cmocka_unit_test(test_key_codes),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
