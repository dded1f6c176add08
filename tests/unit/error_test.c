/* The user's error sentences: composing, prefixing, and truncation at the buffer's end. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static void set_formats_and_returns_the_code(void **state)
{
    struct error err;
    assert_int_equal(error_set(&err, -EINVAL, "bad %s %d", "size", 3), -EINVAL);
    assert_string_equal(err.text, "bad size 3");
}

static void no_error_wanted_is_no_error_written(void **state)
{
    assert_int_equal(error_set(NULL, -EIO, "x"), -EIO);
    assert_int_equal(error_prefix(NULL, -EIO, "x"), -EIO);
}

static void prefix_stands_before_the_cause(void **state)
{
    struct error err;
    error_set(&err, -ENOENT, "no such file");
    assert_int_equal(error_prefix(&err, -EIO, "disk '%s'", "a.img"), -EIO);
    assert_string_equal(err.text, "disk 'a.img': no such file");
}

static void long_texts_are_cut_at_the_end(void **state)
{
    struct error err;
    char text[2000];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';

    error_set(&err, -EIO, "%s", text);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    error_prefix(&err, -EIO, "begin");
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_memory_equal(err.text, "begin: aaa", 10);
    error_prefix(&err, -EIO, "%s", text);
    assert_true(strlen(err.text) < sizeof(err.text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_formats_and_returns_the_code),
        cmocka_unit_test(no_error_wanted_is_no_error_written),
        cmocka_unit_test(prefix_stands_before_the_cause),
        cmocka_unit_test(long_texts_are_cut_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
