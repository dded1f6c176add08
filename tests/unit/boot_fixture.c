/* A guest to boot; see boot_fixture.h. */
#include "boot_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "x86/arch.h"

#define MAX_FILES 16

static struct {
    int fd;
    char path[32];
} files[MAX_FILES];
static unsigned file_count;

void boot_fixture_init(struct boot_fixture *fixture, uint64_t memory)
{
    *fixture = (struct boot_fixture){.config.layout = &fixture->layout};
    memory_init(&fixture->mem, 0);
    assert_int_equal(layout_init(&fixture->layout, memory, 40, &fixture->err), 0);
    assert_int_equal(memory_add(&fixture->mem, 0, LAYOUT_VGA_BASE, 0, "low", &fixture->err), 0);
    assert_int_equal(memory_add(&fixture->mem, LAYOUT_TABLES_BASE,
                                fixture->layout.ram_below_4g - LAYOUT_TABLES_BASE, 0, "ram",
                                &fixture->err),
                     0);
    if (fixture->layout.ram_above_4g)
        assert_int_equal(memory_add(&fixture->mem, LAYOUT_RAM_ABOVE_BASE,
                                    fixture->layout.ram_above_4g, 0, "high", &fixture->err),
                         0);
}

void boot_fixture_done(struct boot_fixture *fixture)
{
    memory_done(&fixture->mem);
    while (file_count)
        close(files[--file_count].fd);
}

const char *boot_fixture_file(const void *bytes, uint64_t size)
{
    int fd = memfd_create("boot-fixture", MFD_CLOEXEC);

    assert_true(file_count < MAX_FILES && fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    files[file_count].fd = fd;
    snprintf(files[file_count].path, sizeof(files[file_count].path), "/proc/self/fd/%d", fd);
    return files[file_count++].path;
}

void boot_fixture_load(struct boot_fixture *fixture)
{
    if (boot_load(&fixture->config, &fixture->mem, &fixture->state, &fixture->err))
        fail_msg("%s", fixture->err.text);
}

void boot_fixture_refuse(struct boot_fixture *fixture, int code, const char *text,
                         const char *other_text)
{
    struct x86_vcpu_state before;

    memset(&fixture->state, 0x5a, sizeof(fixture->state));
    before = fixture->state;
    fixture->err = (struct error){0};
    assert_int_equal(boot_load(&fixture->config, &fixture->mem, &fixture->state, &fixture->err),
                     code);
    if (!strstr(fixture->err.text, text) || !strstr(fixture->err.text, other_text))
        fail_msg("\"%s\" has not both \"%s\" and \"%s\"", fixture->err.text, text, other_text);
    assert_memory_equal(&fixture->state, &before, sizeof(before));
}

void boot_fixture_read(struct boot_fixture *fixture, gpa_t gpa, void *to, uint64_t length)
{
    assert_int_equal(memory_read(&fixture->mem, gpa, to, length), 0);
}

const char *boot_fixture_string(struct boot_fixture *fixture, gpa_t gpa)
{
    const char *text = memory_host(&fixture->mem, gpa, 1, false);

    assert_non_null(text);
    return text;
}

/* A segment register agrees with the descriptor that its selector names. */
static void check_segment(struct boot_fixture *fixture, const struct x86_segment *segment)
{
    uint64_t descriptor;

    assert_true(segment->selector + 7u <= fixture->state.gdtr.limit);
    boot_fixture_read(fixture, fixture->state.gdtr.base + segment->selector, &descriptor,
                      sizeof(descriptor));
    uint32_t limit = (uint32_t)((descriptor & 0xffff) | (descriptor >> 32 & 0xf0000));
    if (descriptor >> 55 & 1)
        limit = limit << 12 | 0xfff;
    assert_int_equal(segment->limit, limit);
    assert_int_equal(segment->base, 0);
    assert_int_equal(segment->attributes & 0xf0ff, descriptor >> 40 & 0xf0ff);
}

void boot_fixture_check_protected(struct boot_fixture *fixture, uint32_t entry)
{
    const struct x86_vcpu_state *state = &fixture->state;

    assert_int_equal(state->rip, entry);
    assert_int_equal(state->rflags, X86_FLAG_FIXED);
    assert_int_equal(state->cr0, X86_CR0_PE | X86_CR0_ET);
    assert_int_equal(state->cr4, 0);
    assert_int_equal(state->efer, 0);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++) {
        check_segment(fixture, &state->segment[i]);
        assert_int_equal(state->segment[i].limit, UINT32_MAX);
        assert_true(state->segment[i].attributes & X86_SEGMENT_DB);
    }
    assert_int_equal(X86_SEGMENT_TYPE(state->segment[X86_CS].attributes),
                     X86_TYPE_CODE | X86_TYPE_READABLE | X86_TYPE_ACCESSED);
    check_segment(fixture, &state->tr);
    assert_int_equal(X86_SEGMENT_TYPE(state->tr.attributes), X86_TYPE_TSS_BUSY);
    assert_int_equal(state->tr.limit, 0x67);
}
