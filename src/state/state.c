/*
 * Save and restore by field tables; see state.h for the stream's layout. Control thread, while the
 * object is paused.
 *
 * A load goes through a scratch copy: all fields are read into it first, then exchanged with the
 * object's, and exchanged back if the device refuses them. So a stream that is refused leaves the
 * object as it was, and no step after the reading can fail for want of memory.
 */
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Integers are stored as they lie in memory. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the stream is little endian");

void state_buffer_done(struct state_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct state_buffer){0};
}

static bool field_present(const struct state_field *field, uint32_t version)
{
    return field->since <= version;
}

/* The parts of a STATE_KIND_BUFFER field in `object`. */

static uint8_t **buffer_bytes(const struct state_field *field, void *object)
{
    return (uint8_t **)((uint8_t *)object + field->offset);
}

static uint32_t *buffer_length(const struct state_field *field, void *object)
{
    return (uint32_t *)((uint8_t *)object + field->length_offset);
}

/* Saving. */

static int append(struct state_buffer *buffer, const void *data, size_t length)
{
    if (length > buffer->capacity - buffer->length) {
        size_t capacity = buffer->capacity ? buffer->capacity : 256;
        while (capacity - buffer->length < length)
            capacity *= 2;
        uint8_t *grown = realloc(buffer->data, capacity);
        if (!grown)
            return -ENOMEM;
        buffer->data = grown;
        buffer->capacity = capacity;
    }
    if (length)
        memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
    return 0;
}

static int save_fields(struct state_buffer *buffer, const struct state_field *fields, void *object);

static int save_field(struct state_buffer *buffer, const struct state_field *field, void *object)
{
    uint8_t *at = (uint8_t *)object + field->offset;
    int ret = 0;

    switch (field->kind) {
    case STATE_KIND_INT:
    case STATE_KIND_BOOL:
    case STATE_KIND_BYTES:
        return append(buffer, at, field->size * field->count);
    case STATE_KIND_STRUCT:
        for (size_t i = 0; i < field->count && !ret; i++)
            ret = save_fields(buffer, field->fields, at + i * field->size);
        return ret;
    case STATE_KIND_BUFFER: {
        uint32_t length = *buffer_length(field, object);
        ret = append(buffer, &length, sizeof(length));
        return ret ? ret : append(buffer, *buffer_bytes(field, object), length);
    }
    case STATE_KIND_END:
        break;
    }
    return 0;
}

static int save_fields(struct state_buffer *buffer, const struct state_field *fields, void *object)
{
    int ret = 0;
    for (; fields->kind != STATE_KIND_END && !ret; fields++)
        ret = save_field(buffer, fields, object);
    return ret;
}

int state_save(struct state_buffer *buffer, const struct state_desc *desc, void *object)
{
    size_t start = buffer->length;
    uint8_t name_length = (uint8_t)strlen(desc->name);
    uint32_t length = 0;
    int ret;

    if (desc->pre_save)
        desc->pre_save(object);
    if ((ret = append(buffer, &name_length, sizeof(name_length))) ||
        (ret = append(buffer, desc->name, name_length)) ||
        (ret = append(buffer, &desc->version, sizeof(desc->version))) ||
        (ret = append(buffer, &length, sizeof(length))))
        goto fail;
    size_t body = buffer->length;
    if ((ret = save_fields(buffer, desc->fields, object)))
        goto fail;
    /* Now that it is known: the length before the fields. */
    length = (uint32_t)(buffer->length - body);
    memcpy(buffer->data + body - sizeof(length), &length, sizeof(length));
    return 0;

fail:
    buffer->length = start;
    return ret;
}

/* Loading. */

/* What is left to read of one object. */
struct reader {
    const uint8_t *at;
    size_t left;
};

static int take(struct reader *reader, void *to, size_t length)
{
    if (length > reader->left)
        return -EBADMSG;
    memcpy(to, reader->at, length);
    reader->at += length;
    reader->left -= length;
    return 0;
}

static int load_fields(struct reader *reader, const struct state_desc *desc,
                       const struct state_field *fields, uint32_t version, void *object,
                       struct error *err);

static int load_buffer(struct reader *reader, const struct state_desc *desc,
                       const struct state_field *field, void *object, struct error *err)
{
    uint32_t length;

    if (take(reader, &length, sizeof(length)))
        return error_set(err, -EBADMSG, "saved state of %s ends within '%s'", desc->name,
                         field->name);
    if (length > field->size || length > reader->left)
        return error_set(err, -EBADMSG, "saved state of %s: '%s' cannot have %u bytes", desc->name,
                         field->name, length);
    if (!length)
        return 0;
    uint8_t *bytes = malloc(length);
    if (!bytes)
        return error_set(err, -ENOMEM, "no memory for the saved state of %s", desc->name);
    *buffer_bytes(field, object) = bytes;
    *buffer_length(field, object) = length;
    return take(reader, bytes, length);
}

static int load_field(struct reader *reader, const struct state_desc *desc,
                      const struct state_field *field, uint32_t version, void *object,
                      struct error *err)
{
    uint8_t *at = (uint8_t *)object + field->offset;
    int ret = 0;

    switch (field->kind) {
    case STATE_KIND_STRUCT:
        for (size_t i = 0; i < field->count && !ret; i++)
            ret = load_fields(reader, desc, field->fields, version, at + i * field->size, err);
        return ret;
    case STATE_KIND_BUFFER:
        return load_buffer(reader, desc, field, object, err);
    case STATE_KIND_BOOL:
        /* Any other byte would be a value that a C bool cannot have. */
        for (size_t i = 0; i < field->count && i < reader->left; i++)
            if (reader->at[i] > 1)
                return error_set(err, -EBADMSG, "saved state of %s: '%s' is neither 0 nor 1",
                                 desc->name, field->name);
        break;
    case STATE_KIND_INT:
    case STATE_KIND_BYTES:
    case STATE_KIND_END:
        break;
    }
    if (take(reader, at, field->size * field->count))
        return error_set(err, -EBADMSG, "saved state of %s ends within '%s'", desc->name,
                         field->name);
    return 0;
}

static int load_fields(struct reader *reader, const struct state_desc *desc,
                       const struct state_field *fields, uint32_t version, void *object,
                       struct error *err)
{
    int ret = 0;
    for (; fields->kind != STATE_KIND_END && !ret; fields++)
        if (field_present(fields, version))
            ret = load_field(reader, desc, fields, version, object, err);
    return ret;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Bytes from an object's start to the end of the last field: what a scratch copy needs. */
static size_t fields_extent(const struct state_field *fields)
{
    size_t extent = 1;
    for (; fields->kind != STATE_KIND_END; fields++) {
        size_t size = fields->size * fields->count;
        if (fields->kind == STATE_KIND_BUFFER) {
            extent = larger(extent, fields->length_offset + sizeof(uint32_t));
            size = sizeof(uint8_t *);
        }
        extent = larger(extent, fields->offset + size);
    }
    return extent;
}

static void exchange(uint8_t *a, uint8_t *b, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = a[i];
        a[i] = b[i];
        b[i] = byte;
    }
}

/* Exchanges the fields that a stream of `version` has; whatever else is in the objects stays. */
static void exchange_fields(const struct state_field *fields, uint32_t version, uint8_t *a,
                            uint8_t *b)
{
    for (; fields->kind != STATE_KIND_END; fields++) {
        size_t offset = fields->offset;
        if (!field_present(fields, version))
            continue;
        switch (fields->kind) {
        case STATE_KIND_STRUCT:
            for (size_t i = 0; i < fields->count; i++, offset += fields->size)
                exchange_fields(fields->fields, version, a + offset, b + offset);
            break;
        case STATE_KIND_BUFFER:
            exchange(a + offset, b + offset, sizeof(uint8_t *));
            exchange(a + fields->length_offset, b + fields->length_offset, sizeof(uint32_t));
            break;
        default:
            exchange(a + offset, b + offset, fields->size * fields->count);
        }
    }
}

static void free_buffers(const struct state_field *fields, uint8_t *object)
{
    for (; fields->kind != STATE_KIND_END; fields++) {
        if (fields->kind == STATE_KIND_BUFFER)
            free(*buffer_bytes(fields, object));
        if (fields->kind == STATE_KIND_STRUCT)
            for (size_t i = 0; i < fields->count; i++)
                free_buffers(fields->fields, object + fields->offset + i * fields->size);
    }
}

/* Reads what stands before the fields and narrows `reader` to them. */
static int load_header(struct reader *reader, const struct state_desc *desc, uint32_t *version,
                       struct error *err)
{
    uint8_t name_length;
    char name[UINT8_MAX + 1];
    uint32_t length;

    if (take(reader, &name_length, sizeof(name_length)) || take(reader, name, name_length))
        return error_set(err, -EBADMSG, "saved state ends where that of %s should be", desc->name);
    name[name_length] = '\0';
    if (strlen(name) != name_length || strcmp(name, desc->name) != 0)
        return error_set(err, -EBADMSG, "saved state has another device where %s should be",
                         desc->name);
    if (take(reader, version, sizeof(*version)) || take(reader, &length, sizeof(length)) ||
        length > reader->left)
        return error_set(err, -EBADMSG, "saved state ends within %s", desc->name);
    if (*version > desc->version)
        return error_set(err, -EBADMSG,
                         "saved state of %s has version %u; this program knows up to %u",
                         desc->name, *version, desc->version);
    reader->left = length;
    return 0;
}

int state_load(struct state_buffer *buffer, const struct state_desc *desc, void *object,
               struct error *err)
{
    struct reader reader = {
        .at = buffer->data + buffer->position,
        .left = buffer->length - buffer->position,
    };
    uint32_t version;

    int ret = load_header(&reader, desc, &version, err);
    if (ret)
        return ret;
    uint8_t *scratch = calloc(1, fields_extent(desc->fields));
    if (!scratch)
        return error_set(err, -ENOMEM, "no memory for the saved state of %s", desc->name);

    ret = load_fields(&reader, desc, desc->fields, version, scratch, err);
    if (ret)
        goto out;
    if (reader.left) {
        ret = error_set(err, -EBADMSG, "saved state of %s has %zu bytes too many", desc->name,
                        reader.left);
        goto out;
    }
    exchange_fields(desc->fields, version, object, scratch);
    if (desc->post_load && (ret = desc->post_load(object, err))) {
        exchange_fields(desc->fields, version, object, scratch);
        goto out;
    }
    buffer->position = (size_t)(reader.at - buffer->data);
out:
    free_buffers(desc->fields, scratch);
    free(scratch);
    return ret;
}
