/* Log lines: levels, and that a guest cannot write more than its allowance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

static int saved_stderr;
static FILE *captured;

/* From here on standard error goes to a file. */
static int capture(void **state)
{
    captured = tmpfile();
    saved_stderr = dup(STDERR_FILENO);
    return captured && dup2(fileno(captured), STDERR_FILENO) >= 0 ? 0 : -1;
}

static int release(void **state)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    return fclose(captured);
}

static unsigned captured_lines(char *first, int size)
{
    char line[256];
    unsigned lines = 0;
    rewind(captured);
    first[0] = '\0';
    while (fgets(line, sizeof(line), captured))
        if (!lines++)
            snprintf(first, (size_t)size, "%s", line);
    return lines;
}

static void levels_beyond_the_set_one_are_silent(void **state)
{
    char first[256];
    log_set_level(LOG_WARN);
    log_info("not shown");
    log_guest("pit", "not shown");
    log_warn("disk %d is slow", 1);
    assert_int_equal(captured_lines(first, sizeof(first)), 1);
    assert_string_equal(first, "sill: warning: disk 1 is slow\n");
}

static void guest_lines_are_limited(void **state)
{
    char first[256];
    log_set_level(LOG_DEBUG);
    for (int i = 0; i < 100000; i++)
        log_guest("pit", "strange mode %d", i);
    log_set_level(LOG_WARN);
    unsigned lines = captured_lines(first, sizeof(first));
    assert_string_equal(first, "sill: guest: pit: strange mode 0\n");
    assert_true(lines > 1 && lines < 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(levels_beyond_the_set_one_are_silent, capture, release),
        cmocka_unit_test_setup_teardown(guest_lines_are_limited, capture, release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
