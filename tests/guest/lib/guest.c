/* Output, verdict and the end of a test guest (guest.h). */
#include <stdarg.h>

#include "guest.h"

static unsigned failures, checks;

static void put_character(char c)
{
    /* No waiting for the transmitter: emulated ones are always ready. */
    outb(SERIAL_PORT, (uint8_t)c);
}

/* Divides by 10 or 16 in steps of 32 bits, so that 32-bit guests need no library for it. */
static unsigned divide(uint64_t *value, unsigned base)
{
    uint32_t high = (uint32_t)(*value >> 32), low = (uint32_t)*value, rest = high % base;

    asm("divl %2" : "+a"(low), "+d"(rest) : "r"(base) : "cc");
    *value = (uint64_t)(high / base) << 32 | low;
    return rest;
}

static void put_number(uint64_t value, unsigned base)
{
    char digits[20];
    int n = 0;

    do
        digits[n++] = "0123456789abcdef"[divide(&value, base)];
    while (value);
    while (n)
        put_character(digits[--n]);
}

void print(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            put_character(*format);
            continue;
        }
        bool wide = *++format == 'l';
        if (wide)
            format++;
        switch (*format) {
        case 's':
            for (const char *s = va_arg(arguments, const char *); *s; s++)
                put_character(*s);
            break;
        case 'c':
            put_character((char)va_arg(arguments, int));
            break;
        default:
            put_number(wide ? va_arg(arguments, uint64_t) : va_arg(arguments, unsigned),
                       *format == 'x' ? 16 : 10);
        }
    }
    va_end(arguments);
}

void check(const char *what, bool good)
{
    checks++;
    failures += !good;
    print("%s %s\n", good ? "ok  " : "FAIL", what);
}

void check_equal(const char *what, uint64_t value, uint64_t expected)
{
    check(what, value == expected);
    if (value == expected)
        return;
    print("     is ");
    put_number(value, 16);
    print(", should be ");
    put_number(expected, 16);
    print("\n");
}

void skip(const char *what, const char *why)
{
    print("skip %s: %s\n", what, why);
}

void finish(void)
{
    print("%s %u checks, %u failed\n", failures ? "FAILED" : "PASSED", checks, failures);
    outb(EXIT_PORT, failures ? EXIT_BAD : EXIT_GOOD);
    for (;;)
        asm volatile("cli; hlt");
}

/* The compiler may call these by itself. */
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);

void *memcpy(void *to, const void *from, size_t size)
{
    void *start = to;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return start;
}

void *memset(void *to, int value, size_t size)
{
    void *start = to;
    asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return start;
}
