/* The sentence that reaches the user; see error.h. Any thread, each with its own struct error. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, int code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);
    }
    return code;
}

int error_prefix(struct error *err, int code, const char *format, ...)
{
    if (err) {
        char text[2 * sizeof(err->text)];
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof(err->text) - strlen(": "), format, args);
        va_end(args);
        strcat(text, ": ");
        strcat(text, err->text);
        text[sizeof(err->text) - 1] = '\0';
        strcpy(err->text, text);
    }
    return code;
}
