/*
 * Writes ACPI machine language: the few terms that the generated SSDT needs. ACPI specification
 * 6.5, chapter 20. Terms are appended to a buffer; terms that hold others are opened and closed:
 *
 *     size_t scope = aml_open_scope(&aml, "\\_SB_");
 *     aml_name(&aml, "ANSW");
 *     aml_integer(&aml, 42);
 *     aml_close(&aml, scope);
 *
 * What does not fit any more is dropped and noted in `overflow`, to be checked once at the end.
 */
#ifndef SILL_BOOT_ACPI_AML_H
#define SILL_BOOT_ACPI_AML_H

#include "base/types.h"

struct aml {
    uint8_t *data;
    size_t size; /* of the buffer */
    size_t used;
    bool overflow;
};

void aml_bytes(struct aml *aml, const void *bytes, size_t length);

/* Name (NAME, ...): the object that is written next. `name` is one segment of four characters. */
void aml_name(struct aml *aml, const char *name);
void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *text);
void aml_buffer(struct aml *aml, const void *bytes, size_t length); /* below 256 bytes */

/* Terms with contents; what they return goes to aml_close(). A path is "\\" and segments of four
 * characters, at most two, with dots between. */
size_t aml_open_scope(struct aml *aml, const char *path);
size_t aml_open_device(struct aml *aml, const char *name);
size_t aml_open_package(struct aml *aml, uint8_t elements);
void aml_close(struct aml *aml, size_t opened);

#endif
