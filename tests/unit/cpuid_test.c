/* CPU models against made-up engines, and the CPUID instruction's answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "x86/cpuid.h"
#include "x86/vcpu_state.h"

/* An engine that can do everything, with AVX-512's room where Intel has it. */
static struct x86_cpuid everything(void)
{
    struct x86_cpuid t = {.count = 0};
    const struct x86_cpuid_leaf leaves[] = {
        {.leaf = 0, .eax = 0x20, .ebx = 0x68747541, .ecx = 0x444d4163, .edx = 0x69746e65},
        {.leaf = 1, .eax = 0xa10f11, .ecx = ~0u, .edx = ~0u},
        {.leaf = 7,
         .subleaf = 0,
         .has_subleaf = true,
         .eax = 1,
         .ebx = ~0u,
         .ecx = ~0u,
         .edx = ~0u},
        {.leaf = 7, .subleaf = 1, .has_subleaf = true, .eax = ~0u},
        {.leaf = 0xd, .subleaf = 0, .has_subleaf = true, .eax = 0x602e7},
        {.leaf = 0xd, .subleaf = 1, .has_subleaf = true, .eax = ~0u},
        {.leaf = 0xd, .subleaf = 2, .has_subleaf = true, .eax = 256, .ebx = 576},
        {.leaf = 0xd, .subleaf = 5, .has_subleaf = true, .eax = 64, .ebx = 1088},
        {.leaf = 0xd, .subleaf = 6, .has_subleaf = true, .eax = 512, .ebx = 1152},
        {.leaf = 0xd, .subleaf = 7, .has_subleaf = true, .eax = 1024, .ebx = 1664},
        {.leaf = 0xd, .subleaf = 9, .has_subleaf = true, .eax = 8, .ebx = 2688},
        {.leaf = 0x80000001, .ecx = ~0u, .edx = ~0u},
        {.leaf = 0x80000002, .eax = 0x64636261},
        {.leaf = 0x80000007, .edx = ~0u},
        {.leaf = 0x80000008, .eax = 0x3030, .ebx = ~0u},
    };
    for (unsigned i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
        x86_cpuid_add(&t, &leaves[i]);
    return t;
}

static void get(const struct x86_cpuid *t, unsigned id, uint32_t leaf, uint32_t sub,
                uint32_t out[4])
{
    x86_cpuid_get(t, id, false, 7, leaf, sub, out);
}

static void named_models_do_not_depend_on_the_host(void **state)
{
    struct x86_cpuid rich = everything(), plain = everything(), a, b;
    struct error err;

    /* Take away what v3 does not ask for: AVX-512 and PCID. */
    plain.leaf[2].ebx &= ~(1u << 16);
    plain.leaf[1].ecx &= ~(1u << 17);
    plain.leaf[1].eax = 0x306c3;
    assert_int_equal(x86_cpuid_build(&a, "x86-64-v3", 2, &rich, &err), 0);
    assert_int_equal(x86_cpuid_build(&b, "x86-64-v3", 2, &plain, &err), 0);
    assert_int_equal(a.count, b.count);
    for (unsigned i = 0; i < a.count; i++) {
        assert_int_equal(a.leaf[i].leaf, b.leaf[i].leaf);
        assert_memory_equal(&a.leaf[i].eax, &b.leaf[i].eax, 4 * sizeof(uint32_t));
    }
    assert_memory_equal(&x86_cpuid_find(&a, 0, 0)->ebx, "Genu", 4);
}

static void v2_has_no_avx_and_v3_has(void **state)
{
    struct x86_cpuid engine = everything(), v2, v3;
    struct error err;

    assert_int_equal(x86_cpuid_build(&v2, "x86-64-v2", 1, &engine, &err), 0);
    assert_int_equal(x86_cpuid_build(&v3, "x86-64-v3", 1, &engine, &err), 0);
    assert_false(x86_cpuid_find(&v2, 1, 0)->ecx & (1u << 28 | 1u << 26));
    assert_null(x86_cpuid_find(&v2, 0xd, 0));
    assert_true(x86_cpuid_find(&v3, 1, 0)->ecx & 1u << 28);
    assert_int_equal(x86_cpuid_find(&v3, 0xd, 0)->eax, 7);
    assert_int_equal(x86_cpuid_find(&v3, 0xd, 0)->ecx, 576 + 256);
    /* Neither shows nested virtualization, though the engine's table claims it. */
    assert_false(x86_cpuid_find(&v3, 1, 0)->ecx & 1u << 5);
    assert_false(x86_cpuid_find(&v3, 0x80000001, 0)->ecx & 1u << 2);
}

static void a_missing_feature_is_named(void **state)
{
    struct x86_cpuid engine = everything(), out;
    struct error err;

    engine.leaf[2].ebx &= ~(1u << 5);
    assert_int_equal(x86_cpuid_build(&out, "x86-64-v3", 1, &engine, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "avx2"));
    assert_non_null(strstr(err.text, "x86-64-v3"));
    assert_int_equal(x86_cpuid_build(&out, "x86-64-v2", 1, &engine, &err), 0);
    assert_int_equal(x86_cpuid_build(&out, "pentium", 1, &engine, &err), -EINVAL);
    assert_non_null(strstr(err.text, "pentium"));
}

static void host_keeps_what_the_engine_has_and_no_more(void **state)
{
    struct x86_cpuid engine = everything(), out;
    struct error err;

    engine.leaf[2].ebx &= ~(1u << 5);
    assert_int_equal(x86_cpuid_build(&out, "host", 4, &engine, &err), 0);
    assert_memory_equal(&x86_cpuid_find(&out, 0, 0)->ebx, "Auth", 4);
    assert_int_equal(x86_cpuid_find(&out, 1, 0)->eax, 0xa10f11);
    assert_false(x86_cpuid_find(&out, 7, 0)->ebx & 1u << 5);
    assert_false(x86_cpuid_find(&out, 7, 0)->edx & 1u << 24); /* AMX does not fit the state */
    assert_int_equal(x86_cpuid_find(&out, 0xd, 0)->eax, 0x2e7);
    assert_true(x86_cpuid_find(&out, 0xd, 0)->ecx <= X86_XSAVE_AREA_SIZE);
    assert_int_equal(x86_cpuid_find(&out, 0x80000002, 0)->eax, 0x64636261);
    assert_int_equal(x86_cpuid_find(&out, 0x80000008, 0)->eax, 0x3030);
    assert_non_null(x86_cpuid_find(&out, 0x8000001d, 3));
    assert_null(x86_cpuid_find(&out, 4, 0));
}

static void topology_numbers_the_cores(void **state)
{
    struct x86_cpuid engine = everything(), out;
    struct error err;
    uint32_t r[4];

    assert_int_equal(x86_cpuid_build(&out, "x86-64-v2", 6, &engine, &err), 0);
    get(&out, 5, 1, 0, r);
    assert_int_equal(r[1] >> 24, 5);
    assert_int_equal(r[1] >> 16 & 0xff, 8);
    assert_true(r[3] & 1u << 28);
    get(&out, 5, 0xb, 0, r);
    assert_int_equal(r[0], 0); /* one thread a core */
    assert_int_equal(r[2], 1u << 8);
    get(&out, 5, 0xb, 1, r);
    assert_int_equal(r[0], 3);
    assert_int_equal(r[1], 6);
    assert_int_equal(r[2], 2u << 8 | 1);
    assert_int_equal(r[3], 5);
    get(&out, 5, 0x1f, 2, r); /* beyond: the id stays, the type is invalid */
    assert_int_equal(r[2], 2);
    assert_int_equal(r[3], 5);
    get(&out, 0, 4, 3, r); /* the last level cache is everybody's */
    assert_int_equal(r[0] >> 14 & 0xfff, 7);
    get(&out, 0, 4, 4, r);
    assert_int_equal(r[0], 0);
}

static void the_hypervisor_shows_kvms_clock(void **state)
{
    struct x86_cpuid engine = everything(), out;
    struct error err;
    uint32_t r[4];

    assert_int_equal(x86_cpuid_build(&out, "x86-64-v3", 1, &engine, &err), 0);
    get(&out, 0, 1, 0, r);
    assert_true(r[2] & 1u << 31);
    get(&out, 0, 0x40000000, 0, r);
    assert_memory_equal(&r[1], "KVMKVMKVM\0\0\0", 12);
    get(&out, 0, 0x40000001, 0, r);
    assert_int_equal(r[0], 1u << 0 | 1u << 1 | 1u << 3 | 1u << 11 | 1u << 24);
    get(&out, 0, 0x80000007, 0, r);
    assert_int_equal(r[3], 1u << 8);
    get(&out, 0, 0x15, 0, r);
    assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
}

static void xsave_size_and_osxsave_follow_the_vcpu(void **state)
{
    struct x86_cpuid engine = everything(), out;
    struct error err;
    uint32_t r[4];

    assert_int_equal(x86_cpuid_build(&out, "host", 1, &engine, &err), 0);
    x86_cpuid_get(&out, 0, true, 3, 1, 0, r);
    assert_true(r[2] & 1u << 27);
    x86_cpuid_get(&out, 0, false, 3, 0xd, 0, r);
    assert_int_equal(r[1], 576);
    x86_cpuid_get(&out, 0, false, 7, 0xd, 0, r);
    assert_int_equal(r[1], 832);
    x86_cpuid_get(&out, 0, false, 0xe7, 0xd, 0, r);
    assert_int_equal(r[1], 2688);
    x86_cpuid_get(&out, 0, false, 0xe7, 0xd, 1, r);
    assert_int_equal(r[1], 576 + 256 + 64 + 512 + 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(named_models_do_not_depend_on_the_host),
        cmocka_unit_test(v2_has_no_avx_and_v3_has),
        cmocka_unit_test(a_missing_feature_is_named),
        cmocka_unit_test(host_keeps_what_the_engine_has_and_no_more),
        cmocka_unit_test(topology_numbers_the_cores),
        cmocka_unit_test(the_hypervisor_shows_kvms_clock),
        cmocka_unit_test(xsave_size_and_osxsave_follow_the_vcpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
