/* Guest memory: slots and their overlap, look-ups at every edge, ROM, watched and dirty pages. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mem/memory.h"

#define PAGE GUEST_PAGE_SIZE

/* The usual shape: low RAM, a hole, ROM below 4 GiB, RAM above. */
#define LOW_END (1 * MIB)
#define ROM (4 * GIB - 64 * KIB)
#define HIGH (4 * GIB)

static struct memory mem;

static int setup(void **state)
{
    struct error err;
    memory_init(&mem, MEMORY_HUGE_PAGES);
    /* Added out of order on purpose; two neighbours make up the low RAM. */
    return memory_add(&mem, HIGH, 4 * MIB, 0, "high", &err) ||
           memory_add(&mem, 512 * KIB, 512 * KIB, 0, "low1", &err) ||
           memory_add(&mem, 0, 512 * KIB, 0, "low0", &err) ||
           memory_add(&mem, ROM, 64 * KIB, MEMORY_READONLY, "rom", &err);
}

static int teardown(void **state)
{
    memory_done(&mem);
    return 0;
}

static void slots_are_sorted_and_found_at_their_edges(void **state)
{
    for (unsigned i = 1; i < mem.slot_count; i++)
        assert_true(mem.slot[i - 1].gpa < mem.slot[i].gpa);
    assert_int_equal(memory_find(&mem, 0)->gpa, 0);
    assert_int_equal(memory_find(&mem, 512 * KIB - 1)->gpa, 0);
    assert_int_equal(memory_find(&mem, 512 * KIB)->gpa, 512 * KIB);
    assert_null(memory_find(&mem, LOW_END));
    assert_null(memory_find(&mem, ROM - 1));
    assert_int_equal(memory_find(&mem, ROM)->gpa, ROM);
    assert_int_equal(memory_find(&mem, HIGH)->gpa, HIGH);
    assert_null(memory_find(&mem, HIGH + 4 * MIB));
    assert_null(memory_find(&mem, UINT64_MAX));
}

static void host_addresses_allow_huge_pages(void **state)
{
    const struct memory_slot *high = memory_find(&mem, HIGH);
    assert_int_equal(((uintptr_t)high->host - high->gpa) % (2 * MIB), 0);
}

static void what_cannot_be_a_slot_is_refused_by_name(void **state)
{
    static const struct {
        gpa_t gpa;
        uint64_t size;
        int expected;
    } cases[] = {
        {2 * MIB, 0, -EINVAL},
        {2 * MIB + 1, PAGE, -EINVAL},
        {2 * MIB, PAGE + 1, -EINVAL},
        {UINT64_MAX - PAGE + 1, PAGE, -EINVAL},
        {0, UINT64_MAX - PAGE + 1, -EINVAL},
        {1ull << 52, PAGE, -EINVAL},
        {0, PAGE, -EEXIST},
        {512 * KIB - PAGE, 2 * PAGE, -EEXIST},
        {LOW_END - PAGE, 2 * PAGE, -EEXIST},
        {ROM - PAGE, 1 * MIB, -EEXIST},
        {HIGH + 4 * MIB - PAGE, PAGE, -EEXIST},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = {.text = ""};
        unsigned before = mem.slot_count;
        assert_int_equal(memory_add(&mem, cases[i].gpa, cases[i].size, 0, "extra", &err),
                         cases[i].expected);
        assert_non_null(strstr(err.text, "extra"));
        assert_int_equal(mem.slot_count, before);
    }
}

static void slot_table_has_an_end(void **state)
{
    while (mem.slot_count < MEMORY_MAX_SLOTS)
        assert_int_equal(memory_add(&mem, (16 + mem.slot_count) * GIB, PAGE, 0, "page", NULL), 0);
    assert_int_equal(memory_add(&mem, 64 * GIB, PAGE, 0, "page", NULL), -ENOSPC);
    assert_int_equal(memory_write(&mem, (16 + MEMORY_MAX_SLOTS - 1) * GIB, "x", 1), 0);
}

static void pointer_covers_one_slot_only(void **state)
{
    assert_non_null(memory_host(&mem, 0, 512 * KIB, true));
    assert_null(memory_host(&mem, 0, 512 * KIB + 1, true));
    assert_null(memory_host(&mem, 512 * KIB - 1, 2, false));
    assert_non_null(memory_host(&mem, LOW_END - 1, 1, true));
    assert_null(memory_host(&mem, LOW_END - 1, UINT64_MAX, true));
    assert_null(memory_host(&mem, LOW_END, 0, false));
    assert_non_null(memory_host(&mem, ROM, 64 * KIB, false));
    assert_null(memory_host(&mem, ROM, 1, true));
}

static void copies_cross_neighbouring_slots(void **state)
{
    char out[8] = "";
    assert_int_equal(memory_write(&mem, 512 * KIB - 3, "abcdef", 6), 0);
    assert_int_equal(memory_read(&mem, 512 * KIB - 3, out, 6), 0);
    assert_string_equal(out, "abcdef");
    assert_memory_equal(memory_host(&mem, 512 * KIB, 3, false), "def", 3);
}

static void copy_with_a_byte_outside_copies_nothing(void **state)
{
    char out[4] = "...";
    assert_int_equal(memory_write(&mem, LOW_END - 2, "xyz", 3), -EFAULT);
    assert_memory_equal(memory_host(&mem, LOW_END - 2, 2, false), "\0\0", 2);
    assert_int_equal(memory_read(&mem, LOW_END - 2, out, 3), -EFAULT);
    assert_string_equal(out, "...");
    assert_int_equal(memory_read(&mem, HIGH - 1, out, UINT64_MAX), -EFAULT);
    assert_int_equal(memory_read(&mem, UINT64_MAX, out, 2), -EFAULT);
}

static void rom_is_read_but_not_written(void **state)
{
    char out = 1;
    assert_int_equal(memory_write(&mem, ROM, "x", 1), -EFAULT);
    assert_int_equal(memory_write(&mem, HIGH - 1, "xy", 2), -EFAULT);
    assert_int_equal(memory_read(&mem, ROM, &out, 1), 0);
    assert_int_equal(out, 0);
}

static uint64_t seen_gpa, seen_length;
static unsigned seen;

static void note_written(void *opaque, gpa_t gpa, uint64_t length)
{
    assert_ptr_equal(opaque, &mem);
    seen_gpa = gpa;
    seen_length = length;
    seen++;
}

static void hidden_slot_is_not_found(void **state)
{
    uint8_t byte;

    memory_set_flags(&mem, ROM, MEMORY_READONLY | MEMORY_HIDDEN);
    assert_null(memory_find(&mem, ROM));
    assert_null(memory_host(&mem, ROM, 1, false));
    assert_int_equal(memory_read(&mem, ROM, &byte, 1), -EFAULT);
    assert_non_null(memory_find(&mem, HIGH));
    memory_set_flags(&mem, ROM, MEMORY_READONLY);
    assert_int_equal(memory_read(&mem, ROM, &byte, 1), 0);
}

static void engine_hears_of_writes_to_watched_pages_only(void **state)
{
    uint8_t bytes[3 * PAGE] = {0};
    mem.written = note_written;
    mem.written_opaque = &mem;
    seen = 0;

    memory_watch_page(&mem, 5 * PAGE + 17, true);
    assert_int_equal(memory_write(&mem, 4 * PAGE, bytes, PAGE), 0);
    assert_int_equal(memory_write(&mem, 6 * PAGE, bytes, 1), 0);
    assert_int_equal(seen, 0);
    assert_int_equal(memory_write(&mem, 4 * PAGE + 1, bytes, sizeof(bytes)), 0);
    assert_int_equal(seen, 1);
    assert_int_equal(seen_gpa, 4 * PAGE + 1);
    assert_int_equal(seen_length, sizeof(bytes));
    memory_watch_page(&mem, 5 * PAGE, false);
    assert_int_equal(memory_write(&mem, 5 * PAGE, bytes, 1), 0);
    assert_int_equal(seen, 1);

    /* Pages that are no memory are nobody's. */
    memory_watch_page(&mem, UINT64_MAX, true);
    memory_mark_written(&mem, UINT64_MAX, 2);
    memory_mark_written(&mem, HIGH, UINT64_MAX);
    memory_mark_written(&mem, 0, 0);
    assert_int_equal(seen, 1);
}

static void dirty_bits_are_kept_while_asked_for(void **state)
{
    assert_int_equal(memory_write(&mem, HIGH, "x", 1), 0);
    assert_int_equal(atomic_load(&mem.page_flags[HIGH / PAGE]), 0);
    mem.dirty_log = true;
    assert_int_equal(memory_write(&mem, HIGH + 2 * PAGE - 1, "xy", 2), 0);
    assert_int_equal(atomic_load(&mem.page_flags[HIGH / PAGE]), 0);
    assert_int_equal(atomic_load(&mem.page_flags[HIGH / PAGE + 1]), MEMORY_PAGE_DIRTY);
    assert_int_equal(atomic_load(&mem.page_flags[HIGH / PAGE + 2]), MEMORY_PAGE_DIRTY);
}

static void page_flags_survive_a_larger_table(void **state)
{
    memory_watch_page(&mem, HIGH, true);
    assert_int_equal(memory_add(&mem, 1024 * GIB, PAGE, 0, "far", NULL), 0);
    assert_int_equal(mem.page_count, (1024 * GIB + PAGE) / PAGE);
    assert_int_equal(atomic_load(&mem.page_flags[HIGH / PAGE]), MEMORY_PAGE_WATCHED);
    assert_int_equal(atomic_load(&mem.page_flags[mem.page_count - 1]), 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(slots_are_sorted_and_found_at_their_edges),
        TEST(host_addresses_allow_huge_pages),
        TEST(what_cannot_be_a_slot_is_refused_by_name),
        TEST(slot_table_has_an_end),
        TEST(pointer_covers_one_slot_only),
        TEST(copies_cross_neighbouring_slots),
        TEST(copy_with_a_byte_outside_copies_nothing),
        TEST(rom_is_read_but_not_written),
        TEST(hidden_slot_is_not_found),
        TEST(engine_hears_of_writes_to_watched_pages_only),
        TEST(dirty_bits_are_kept_while_asked_for),
        TEST(page_flags_survive_a_larger_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
