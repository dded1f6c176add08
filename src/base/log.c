/*
 * One-line diagnostics on standard error; see log.h. Any thread. Each message is formatted first
 * and written by one call, so that lines of different threads do not mix.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* What a guest may cause to be written in one second, so that it cannot fill the host's disk. */
#define GUEST_LINES_PER_SECOND 50

static _Atomic int log_level = LOG_WARN;

/* The second that is being counted in the upper bits, lines written in it in the low COUNT_BITS. */
#define COUNT_BITS 16
static _Atomic uint64_t guest_lines;

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level, level, memory_order_relaxed);
}

static bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

static void write_line(const char *label, const char *format, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof(text), format, args);
    fprintf(stderr, "sill: %s%s\n", label, text);
}

void log_message(enum log_level level, const char *format, ...)
{
    static const char *const labels[] = {
        [LOG_ERROR] = "error: ",
        [LOG_WARN] = "warning: ",
        [LOG_INFO] = "",
        [LOG_DEBUG] = "debug: ",
    };

    if (!log_enabled(level))
        return;
    va_list args;
    va_start(args, format);
    write_line(labels[level], format, args);
    va_end(args);
}

/* Takes one line of this second's allowance. */
static bool guest_line_allowed(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t second = (uint64_t)now.tv_sec;
    uint64_t old = atomic_load(&guest_lines);
    uint64_t next;
    do {
        if (old >> COUNT_BITS != second)
            next = second << COUNT_BITS | 1;
        else if ((old & ((1u << COUNT_BITS) - 1)) < GUEST_LINES_PER_SECOND)
            next = old + 1;
        else
            return false;
    } while (!atomic_compare_exchange_weak(&guest_lines, &old, next));
    return true;
}

void log_guest(const char *device, const char *format, ...)
{
    if (!log_enabled(LOG_DEBUG) || !guest_line_allowed())
        return;
    char label[64];
    snprintf(label, sizeof(label), "guest: %s: ", device);
    va_list args;
    va_start(args, format);
    write_line(label, format, args);
    va_end(args);
}
