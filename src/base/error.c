/* The sentence that reaches the user; see error.h. Any thread, each with its own struct error. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void error_write(struct error *err, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);
    }
}

/* As much of `text` as there is room for. */
static void append(struct error *err, const char *text)
{
    size_t used = strlen(err->text);
    size_t length = strnlen(text, sizeof(err->text) - 1 - used);
    memcpy(err->text + used, text, length);
    err->text[used + length] = '\0';
}

int error_prefix(struct error *err, int code, const char *format, ...)
{
    if (err) {
        struct error cause = *err;
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);
        append(err, ": ");
        append(err, cause.text);
    }
    return code;
}
