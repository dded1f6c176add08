/*
 * Declarative save and restore. A device describes its state once, as a table of fields; the table
 * drives both directions and its layout is versioned. Incoming state is hostile: every length and
 * every value is checked before a field changes, and the device's `post_load` may refuse the whole.
 *
 * Example:
 *     static const struct state_field pit_fields[] = {
 *         STATE_INT(struct pit_channel, count),
 *         STATE_BOOL(struct pit_channel, gate),
 *         STATE_END,
 *     };
 *
 * The stream is little endian: for a device, name (u8 length + bytes), u32 version, u32 length,
 * then its fields in table order.
 */
#ifndef SILL_STATE_STATE_H
#define SILL_STATE_STATE_H

#include "base/error.h"
#include "base/types.h"

enum state_kind {
    STATE_KIND_END,
    STATE_KIND_INT,    /* little-endian integer of `size` bytes */
    STATE_KIND_BOOL,   /* one byte, 0 or 1 */
    STATE_KIND_BYTES,  /* `size` raw bytes */
    STATE_KIND_STRUCT, /* `count` structs of `size` bytes described by `fields` */
    STATE_KIND_BUFFER, /* growable bytes: uint8_t *at offset, uint32_t length at length_offset,
                          at most `size` bytes */
};

struct state_field {
    const char *name;
    enum state_kind kind;
    size_t offset;
    size_t size;
    size_t count; /* array elements, 1 for a scalar */
    size_t length_offset;
    uint32_t since; /* first version that has the field; 0: always. Older streams leave it alone */
    const struct state_field *fields;
};

struct state_desc {
    const char *name;
    uint32_t version;
    const struct state_field *fields;
    /* Called before saving (fold timers into fields) and after all fields were loaded. */
    void (*pre_save)(void *object);
    /* Refuses impossible values (negative errno, fills err; the old fields are then put back), else
     * re-arms timers. May be NULL. */
    int (*post_load)(void *object, struct error *err);
};

#define STATE_FIELD_INT_(type, field, elements, first)                                             \
    {                                                                                              \
        .name = #field, .kind = STATE_KIND_INT, .offset = offsetof(type, field),                   \
        .size = sizeof(((type *)0)->field) / (elements), .count = (elements), .since = (first)     \
    }
#define STATE_INT(type, field) STATE_FIELD_INT_(type, field, 1, 0)
#define STATE_INT_ARRAY(type, field)                                                               \
    STATE_FIELD_INT_(type, field, ARRAY_SIZE(((type *)0)->field), 0)
#define STATE_BOOL(type, field)                                                                    \
    {                                                                                              \
        .name = #field, .kind = STATE_KIND_BOOL, .offset = offsetof(type, field), .size = 1,       \
        .count = 1                                                                                 \
    }
#define STATE_BYTES(type, field)                                                                   \
    {                                                                                              \
        .name = #field, .kind = STATE_KIND_BYTES, .offset = offsetof(type, field),                 \
        .size = sizeof(((type *)0)->field), .count = 1                                             \
    }
#define STATE_STRUCT(type, field, sub)                                                             \
    {                                                                                              \
        .name = #field, .kind = STATE_KIND_STRUCT, .offset = offsetof(type, field),                \
        .size = sizeof(((type *)0)->field), .count = 1, .fields = (sub)                            \
    }
#define STATE_STRUCT_ARRAY(type, field, sub)                                                       \
    {                                                                                              \
        .name = #field, .kind = STATE_KIND_STRUCT, .offset = offsetof(type, field),                \
        .size = sizeof(((type *)0)->field[0]), .count = ARRAY_SIZE(((type *)0)->field),            \
        .fields = (sub)                                                                            \
    }
#define STATE_BUFFER(type, field, length_field, most)                                              \
    {                                                                                              \
        .name = #field, .kind = STATE_KIND_BUFFER, .offset = offsetof(type, field),                \
        .size = (most), .count = 1, .length_offset = offsetof(type, length_field)                  \
    }
#define STATE_END                                                                                  \
    {                                                                                              \
        .kind = STATE_KIND_END                                                                     \
    }

/* A growable byte buffer that a save fills and a load consumes. */
struct state_buffer {
    uint8_t *data;
    size_t length;
    size_t capacity;
    size_t position; /* of the next load */
};

void state_buffer_done(struct state_buffer *buffer);

/* Appends the object. -ENOMEM. The caller sees to it that nothing changes the object meanwhile. */
SILL_CHECKED int state_save(struct state_buffer *buffer, const struct state_desc *desc,
                            void *object);
/* Loads the next object, which must carry the desc's name. -EBADMSG with a sentence when the stream
 * is malformed or too new; the object is then unchanged (fields load into a copy first). */
SILL_CHECKED int state_load(struct state_buffer *buffer, const struct state_desc *desc,
                            void *object, struct error *err);

#endif
