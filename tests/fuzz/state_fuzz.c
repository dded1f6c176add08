/*
 * Fuzzes the reader of saved state with a description that has every kind of field. What loads must
 * save again to the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "state/state.h"
#include "fuzz.h"

#define FIFO_MOST 64

struct part {
    uint16_t count;
    bool gate;
};

struct object {
    uint64_t wide;
    uint16_t array[4];
    uint8_t bytes[3];
    struct part part[2];
    uint32_t fifo_length;
    uint8_t *fifo;
};

static const struct state_field part_fields[] = {
    STATE_INT(struct part, count),
    STATE_BOOL(struct part, gate),
    STATE_END,
};

static const struct state_field object_fields[] = {
    STATE_INT(struct object, wide),
    STATE_INT_ARRAY(struct object, array),
    STATE_BYTES(struct object, bytes),
    STATE_STRUCT_ARRAY(struct object, part, part_fields),
    STATE_BUFFER(struct object, fifo, fifo_length, FIFO_MOST),
    STATE_END,
};

static int object_check(void *opaque, struct error *err)
{
    struct object *object = opaque;
    return object->wide >> 63 ? error_set(err, -1, "too wide") : 0;
}

static const struct state_desc object_desc = {
    .name = "o", .version = 1, .fields = object_fields, .post_load = object_check};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state_buffer in = {.data = malloc(size + 1), .length = size};
    struct object object = {0};
    struct error err;

    if (!in.data)
        abort();
    memcpy(in.data, data, size);
    if (state_load(&in, &object_desc, &object, &err) == 0) {
        struct state_buffer out = {0};
        if (object.fifo_length > FIFO_MOST || state_save(&out, &object_desc, &object))
            abort();
        /* The version may differ: an older one has the same fields here. */
        uint32_t version_end = 1 + 1 + 4;
        if (out.length != in.position ||
            memcmp(out.data + version_end, data + version_end, out.length - version_end))
            abort();
        state_buffer_done(&out);
    }
    free(object.fifo);
    state_buffer_done(&in);
    return 0;
}
