/* The choice among engines that are good, slow or absent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/select.h"

static void probe_fast(struct engine_info *info)
{
    *info = (struct engine_info){.usable = true, .capabilities = ENGINE_CAP_FAST_SUPERVISOR};
    strcpy(info->reason, "runs at hardware speed");
}

static void probe_slow(struct engine_info *info)
{
    *info = (struct engine_info){.usable = true};
    strcpy(info->reason, "is slow");
}

static void probe_absent(struct engine_info *info)
{
    *info = (struct engine_info){.usable = false};
    strcpy(info->reason, "/dev/kvm does not exist");
}

static const struct engine_ops fast = {.name = "kvm", .probe = probe_fast};
static const struct engine_ops slow = {.name = "kvm", .probe = probe_slow};
static const struct engine_ops absent = {.name = "kvm", .probe = probe_absent};
static const struct engine_ops software = {.name = "dbt", .probe = probe_slow};

static struct engine_choice choice;

static const char *chosen(const struct engine_ops *first, const char *name)
{
    const struct engine_ops *const list[] = {first, &software, NULL};
    struct error err;

    if (engine_select_from(&choice, name, list, &err))
        return "none";
    return choice.ops->name;
}

static void auto_takes_kvm_only_at_hardware_speed(void **state)
{
    assert_string_equal(chosen(&fast, "auto"), "kvm");
    assert_string_equal(choice.reason, "runs at hardware speed");
    assert_string_equal(chosen(&slow, "auto"), "dbt");
    assert_string_equal(choice.reason, "kvm: is slow");
    assert_string_equal(chosen(&absent, "auto"), "dbt");
    assert_string_equal(choice.reason, "kvm: /dev/kvm does not exist");
}

static void a_named_engine_is_taken_even_if_slow(void **state)
{
    assert_string_equal(chosen(&slow, "kvm"), "kvm");
    assert_string_equal(chosen(&fast, "dbt"), "dbt");
}

static void an_absent_or_unknown_engine_is_an_error(void **state)
{
    const struct engine_ops *const list[] = {&absent, &absent, NULL};
    struct error err;

    assert_int_equal(engine_select_from(&choice, "kvm", list, &err), -ENODEV);
    assert_non_null(strstr(err.text, "/dev/kvm does not exist"));
    assert_int_equal(engine_select_from(&choice, "auto", list, &err), -ENODEV);
    assert_int_equal(engine_select_from(&choice, "tcg", list, &err), -EINVAL);
    assert_non_null(strstr(err.text, "tcg"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_takes_kvm_only_at_hardware_speed),
        cmocka_unit_test(a_named_engine_is_taken_even_if_slow),
        cmocka_unit_test(an_absent_or_unknown_engine_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
