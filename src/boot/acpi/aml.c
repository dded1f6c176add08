/* Writes ACPI machine language; see aml.h. Section numbers: ACPI specification 6.5. */
#include "boot/acpi/aml.h"

#include <string.h>

/* 20.2.3 and 20.2.5: opcodes */
#define OP_ZERO 0x00
#define OP_ONE 0x01
#define OP_NAME 0x08
#define OP_BYTE 0x0a
#define OP_WORD 0x0b
#define OP_DWORD 0x0c
#define OP_STRING 0x0d
#define OP_QWORD 0x0e
#define OP_SCOPE 0x10
#define OP_BUFFER 0x11
#define OP_PACKAGE 0x12
#define OP_EXTENDED 0x5b
#define OP_EXTENDED_DEVICE 0x82
#define PREFIX_DUAL_NAME 0x2e

#define NAME_SEGMENT 4u

void aml_bytes(struct aml *aml, const void *bytes, size_t length)
{
    if (length > aml->size - aml->used) {
        aml->overflow = true;
        return;
    }
    memcpy(aml->data + aml->used, bytes, length);
    aml->used += length;
}

static void byte(struct aml *aml, uint8_t value)
{
    aml_bytes(aml, &value, 1);
}

void aml_name(struct aml *aml, const char *name)
{
    byte(aml, OP_NAME);
    aml_bytes(aml, name, NAME_SEGMENT);
}

void aml_integer(struct aml *aml, uint64_t value)
{
    if (value <= 1) {
        byte(aml, value ? OP_ONE : OP_ZERO);
    } else if (value <= UINT8_MAX) {
        byte(aml, OP_BYTE);
        aml_bytes(aml, &value, 1);
    } else if (value <= UINT16_MAX) {
        byte(aml, OP_WORD);
        aml_bytes(aml, &value, 2);
    } else if (value <= UINT32_MAX) {
        byte(aml, OP_DWORD);
        aml_bytes(aml, &value, 4);
    } else {
        byte(aml, OP_QWORD);
        aml_bytes(aml, &value, 8);
    }
}

void aml_string(struct aml *aml, const char *text)
{
    byte(aml, OP_STRING);
    aml_bytes(aml, text, strlen(text) + 1);
}

void aml_buffer(struct aml *aml, const void *bytes, size_t length)
{
    byte(aml, OP_BUFFER);
    size_t start = aml->used;
    aml_integer(aml, length);
    aml_bytes(aml, bytes, length);
    aml_close(aml, start);
}

size_t aml_open_scope(struct aml *aml, const char *path)
{
    byte(aml, OP_SCOPE);
    size_t start = aml->used;
    byte(aml, '\\');
    const char *first = path + 1, *second = strchr(first, '.');
    if (second)
        byte(aml, PREFIX_DUAL_NAME);
    aml_bytes(aml, first, NAME_SEGMENT);
    if (second)
        aml_bytes(aml, second + 1, NAME_SEGMENT);
    return start;
}

size_t aml_open_device(struct aml *aml, const char *name)
{
    byte(aml, OP_EXTENDED);
    byte(aml, OP_EXTENDED_DEVICE);
    size_t start = aml->used;
    aml_bytes(aml, name, NAME_SEGMENT);
    return start;
}

size_t aml_open_package(struct aml *aml, uint8_t elements)
{
    byte(aml, OP_PACKAGE);
    size_t start = aml->used;
    byte(aml, elements);
    return start;
}

/*
 * 20.2.4, PkgLength: counts itself and what follows. One byte below 64; else the first byte holds
 * the number of further bytes in bits 7-6 and the length's lowest four bits, the further bytes the
 * rest.
 */
static size_t encode_length(size_t length, uint8_t to[4])
{
    if (length + 1 < 1u << 6) {
        to[0] = (uint8_t)(length + 1);
        return 1;
    }
    size_t bytes = length + 2 < 1u << 12 ? 2 : length + 3 < 1u << 20 ? 3 : 4;
    length += bytes;
    to[0] = (uint8_t)((bytes - 1) << 6 | (length & 0xf));
    length >>= 4;
    for (size_t i = 1; i < bytes; i++, length >>= 8)
        to[i] = (uint8_t)length;
    return bytes;
}

void aml_close(struct aml *aml, size_t opened)
{
    uint8_t length[4];
    size_t content = aml->used - opened;
    size_t bytes = encode_length(content, length);

    if (bytes > aml->size - aml->used)
        aml->overflow = true;
    if (aml->overflow)
        return;
    memmove(aml->data + opened + bytes, aml->data + opened, content);
    memcpy(aml->data + opened, length, bytes);
    aml->used += bytes;
}
