/* Frames and digits of GDB's remote serial protocol; see packet.h. */
#include "vm/gdb/packet.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ESCAPE '}'
#define ESCAPE_BIT 0x20
#define INTERRUPT 0x03

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* ---- reading ---- */

static void start_packet(struct gdb_reader *r)
{
    r->state = GDB_DATA;
    r->too_long = false;
    r->sum = 0;
    r->length = 0;
}

static void keep(struct gdb_reader *r, uint8_t byte)
{
    if (r->length < GDB_PACKET_SIZE)
        r->data[r->length++] = (char)byte;
    else
        r->too_long = true;
}

static enum gdb_input between(struct gdb_reader *r, uint8_t byte)
{
    switch (byte) {
    case '$':
        start_packet(r);
        return GDB_INPUT_NONE;
    case INTERRUPT:
        return GDB_INPUT_INTERRUPT;
    case '-':
        return GDB_INPUT_AGAIN;
    default: /* '+', or noise */
        return GDB_INPUT_NONE;
    }
}

static enum gdb_input end_packet(struct gdb_reader *r, uint8_t byte)
{
    int low = digit_value((char)byte);

    r->state = GDB_BETWEEN;
    r->data[r->length] = '\0';
    if (r->too_long || r->claimed < 0 || low < 0 || (r->claimed << 4 | low) != r->sum)
        return GDB_INPUT_DAMAGED;
    return GDB_INPUT_PACKET;
}

enum gdb_input gdb_reader_take(struct gdb_reader *r, uint8_t byte)
{
    switch (r->state) {
    case GDB_BETWEEN:
        return between(r, byte);
    case GDB_DATA:
        if (byte == '#') {
            r->state = GDB_SUM_HIGH;
            break;
        }
        if (byte == '$') { /* the last one was cut short */
            start_packet(r);
            break;
        }
        r->sum += byte;
        if (byte == ESCAPE)
            r->state = GDB_ESCAPED;
        else
            keep(r, byte);
        break;
    case GDB_ESCAPED:
        r->sum += byte;
        keep(r, byte ^ ESCAPE_BIT);
        r->state = GDB_DATA;
        break;
    case GDB_SUM_HIGH:
        r->claimed = digit_value((char)byte);
        r->state = GDB_SUM_LOW;
        break;
    case GDB_SUM_LOW:
        return end_packet(r, byte);
    }
    return GDB_INPUT_NONE;
}

/* ---- writing ---- */

static void append(struct gdb_writer *w, const char *bytes, size_t length)
{
    if (length > sizeof(w->data) - w->length) {
        w->overflow = true;
        return;
    }
    memcpy(w->data + w->length, bytes, length);
    w->length += length;
}

void gdb_put(struct gdb_writer *w, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof(text))
        w->overflow = true;
    else
        append(w, text, (size_t)length);
}

void gdb_put_hex(struct gdb_writer *w, const void *bytes, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *from = bytes;

    for (size_t i = 0; i < length; i++) {
        char pair[2] = {digits[from[i] >> 4], digits[from[i] & 15]};
        append(w, pair, 2);
    }
}

void gdb_put_binary(struct gdb_writer *w, const void *bytes, size_t length)
{
    const char *from = bytes;

    for (size_t i = 0; i < length; i++) {
        char pair[2] = {ESCAPE, (char)(from[i] ^ ESCAPE_BIT)};
        bool plain = !strchr("#$}*", from[i]) || !from[i];
        append(w, plain ? &from[i] : pair, plain ? 1 : 2);
    }
}

size_t gdb_writer_end(const struct gdb_writer *w, char *to)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < w->length; i++)
        sum += (uint8_t)w->data[i];
    to[0] = '$';
    memcpy(to + 1, w->data, w->length);
    char end[4];
    snprintf(end, sizeof(end), "#%02x", sum);
    memcpy(to + 1 + w->length, end, 3);
    return w->length + 4;
}

/* ---- parsing ---- */

bool gdb_take_number(const char **at, uint64_t *value)
{
    unsigned digits = 0;

    *value = 0;
    for (int digit; (digit = digit_value(**at)) >= 0; ++*at) {
        if (++digits > 16)
            return false;
        *value = *value << 4 | (unsigned)digit;
    }
    return digits > 0;
}

bool gdb_take_char(const char **at, char c)
{
    if (**at != c)
        return false;
    ++*at;
    return true;
}

bool gdb_take_text(const char **at, const char *text)
{
    size_t length = strlen(text);

    if (strncmp(*at, text, length) != 0)
        return false;
    *at += length;
    return true;
}

bool gdb_take_bytes(const char **at, void *bytes, size_t length)
{
    uint8_t *to = bytes;

    for (size_t i = 0; i < length; i++) {
        int high = digit_value((*at)[0]);
        int low = high < 0 ? -1 : digit_value((*at)[1]);
        if (low < 0)
            return false;
        to[i] = (uint8_t)(high << 4 | low);
        *at += 2;
    }
    return true;
}
