/* Saved state: round trips, versions, and streams that somebody made to do harm. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dev/device.h"
#include "state/state.h"

#define BUFFER_MOST 100

struct channel {
    uint16_t count;
    bool gate;
};

struct thing {
    uint64_t wide;
    uint32_t array[3];
    bool flag;
    uint8_t mac[6];
    struct channel channel[2];
    struct channel single;
    uint32_t fifo_length;
    uint8_t *fifo;
    uint8_t since2;
    void *not_saved;
    int pre_saves;
};

static const struct state_field channel_fields[] = {
    STATE_INT(struct channel, count),
    STATE_BOOL(struct channel, gate),
    STATE_END,
};

static const struct state_field thing_fields[] = {
    STATE_INT(struct thing, wide),
    STATE_INT_ARRAY(struct thing, array),
    STATE_BOOL(struct thing, flag),
    STATE_BYTES(struct thing, mac),
    STATE_STRUCT_ARRAY(struct thing, channel, channel_fields),
    STATE_STRUCT(struct thing, single, channel_fields),
    STATE_BUFFER(struct thing, fifo, fifo_length, BUFFER_MOST),
    STATE_FIELD_INT_(struct thing, since2, 1, 2),
    STATE_END,
};

static void thing_pre_save(void *object)
{
    ((struct thing *)object)->pre_saves++;
}

static int thing_post_load(void *object, struct error *err)
{
    struct thing *thing = object;
    return thing->wide == 666 ? error_set(err, -EINVAL, "wide cannot be 666") : 0;
}

static const struct state_desc thing_desc = {"thing", 2, thing_fields, thing_pre_save,
                                             thing_post_load};

/* As an older program would have written it: without the field of version 2. */
static const struct state_field thing_fields_v1[] = {
    STATE_INT(struct thing, wide),
    STATE_INT_ARRAY(struct thing, array),
    STATE_BOOL(struct thing, flag),
    STATE_BYTES(struct thing, mac),
    STATE_STRUCT_ARRAY(struct thing, channel, channel_fields),
    STATE_STRUCT(struct thing, single, channel_fields),
    STATE_BUFFER(struct thing, fifo, fifo_length, BUFFER_MOST),
    STATE_END,
};
static const struct state_desc thing_desc_v1 = {"thing", 1, thing_fields_v1, NULL, NULL};

static uint8_t fifo_content[] = "hello";

static struct thing sample(void)
{
    return (struct thing){
        .wide = 0x1122334455667788,
        .array = {1, 2, 3},
        .flag = true,
        .mac = {1, 2, 3, 4, 5, 6},
        .channel = {{10, true}, {20, false}},
        .single = {30, true},
        .fifo_length = 5,
        .fifo = fifo_content,
        .since2 = 42,
    };
}

/* The stream of sample(), by `desc`; the caller frees it. */
static struct state_buffer saved(const struct state_desc *desc)
{
    struct thing thing = sample();
    struct state_buffer buffer = {0};
    assert_int_equal(state_save(&buffer, desc, &thing), 0);
    return buffer;
}

/* Bytes before the fields of a thing: name length, name, version, length. */
#define HEADER (1 + 5 + 4 + 4)

static void put32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof(value));
}

static void round_trip(void **state)
{
    struct state_buffer buffer = saved(&thing_desc);
    struct thing thing = {.not_saved = &buffer};

    assert_int_equal(state_load(&buffer, &thing_desc, &thing, NULL), 0);
    assert_int_equal(buffer.position, buffer.length);
    assert_true(thing.wide == 0x1122334455667788);
    assert_int_equal(thing.array[2], 3);
    assert_true(thing.flag);
    assert_int_equal(thing.mac[5], 6);
    assert_int_equal(thing.channel[1].count, 20);
    assert_false(thing.channel[1].gate);
    assert_int_equal(thing.single.count, 30);
    assert_int_equal(thing.fifo_length, 5);
    assert_memory_equal(thing.fifo, "hello", 5);
    assert_int_equal(thing.since2, 42);
    assert_ptr_equal(thing.not_saved, &buffer);
    assert_int_equal(thing.pre_saves, 0);
    free(thing.fifo);
    state_buffer_done(&buffer);
}

static void stream_is_as_documented(void **state)
{
    struct state_buffer buffer = saved(&thing_desc);
    assert_memory_equal(buffer.data, "\5thing\2\0\0\0", 10);
    uint32_t length;
    memcpy(&length, buffer.data + 10, sizeof(length));
    assert_int_equal(length, buffer.length - HEADER);
    assert_memory_equal(buffer.data + HEADER, "\x88\x77\x66\x55\x44\x33\x22\x11\1\0\0\0\2", 13);
    state_buffer_done(&buffer);
}

static void objects_follow_each_other(void **state)
{
    struct state_buffer buffer = saved(&thing_desc);
    struct thing thing = sample();
    assert_int_equal(state_save(&buffer, &state_empty, &thing), 0);
    thing.wide = 7;
    assert_int_equal(state_save(&buffer, &thing_desc, &thing), 0);
    assert_int_equal(thing.pre_saves, 1);

    struct thing first = {0}, second = {0};
    assert_int_equal(state_load(&buffer, &thing_desc, &first, NULL), 0);
    assert_int_equal(state_load(&buffer, &state_empty, &first, NULL), 0);
    assert_int_equal(state_load(&buffer, &thing_desc, &second, NULL), 0);
    assert_int_equal(second.wide, 7);
    assert_int_equal(state_load(&buffer, &thing_desc, &second, NULL), -EBADMSG);
    free(first.fifo);
    free(second.fifo);
    state_buffer_done(&buffer);
}

static void older_stream_leaves_newer_fields_alone(void **state)
{
    struct state_buffer buffer = saved(&thing_desc_v1);
    struct thing thing = {.since2 = 9};
    assert_int_equal(state_load(&buffer, &thing_desc, &thing, NULL), 0);
    assert_int_equal(thing.array[0], 1);
    assert_int_equal(thing.since2, 9);
    free(thing.fifo);
    state_buffer_done(&buffer);
}

static void load_replaces_a_buffer_and_frees_the_old(void **state)
{
    struct state_buffer buffer = saved(&thing_desc);
    struct thing thing = {.fifo = malloc(3), .fifo_length = 3};
    assert_non_null(thing.fifo);
    assert_int_equal(state_load(&buffer, &thing_desc, &thing, NULL), 0);
    assert_memory_equal(thing.fifo, "hello", 5);
    free(thing.fifo);
    state_buffer_done(&buffer);
}

/* Loads `buffer` into a thing that must stay as it is, and says what happened. */
static int load_refused(struct state_buffer *buffer, struct error *err)
{
    struct thing thing = {.wide = 5, .array = {6, 7, 8}, .fifo = malloc(2), .fifo_length = 2};
    assert_non_null(thing.fifo);
    memcpy(thing.fifo, "ab", 2);
    struct thing before = thing;
    err->text[0] = '\0';
    int ret = state_load(buffer, &thing_desc, &thing, err);
    assert_memory_equal(&thing, &before, sizeof(thing));
    assert_memory_equal(thing.fifo, "ab", 2);
    assert_int_equal(buffer->position, 0);
    assert_true(err->text[0]);
    free(thing.fifo);
    return ret;
}

static void every_shortened_stream_is_refused(void **state)
{
    struct error err;
    struct state_buffer whole = saved(&thing_desc);
    for (size_t length = 0; length < whole.length; length++) {
        /* An exact copy, so that a sanitizer sees a read beyond its end. */
        struct state_buffer cut = {.data = malloc(length + !length), .length = length};
        assert_non_null(cut.data);
        memcpy(cut.data, whole.data, length);
        assert_int_equal(load_refused(&cut, &err), -EBADMSG);
        /* The same with a length before the fields that matches. */
        if (length >= HEADER) {
            put32(cut.data + HEADER - 4, (uint32_t)(length - HEADER));
            assert_int_equal(load_refused(&cut, &err), -EBADMSG);
        }
        state_buffer_done(&cut);
    }
    state_buffer_done(&whole);
}

static void wrong_headers_are_refused(void **state)
{
    struct error err;
    struct state_buffer buffer = saved(&thing_desc);

    put32(buffer.data + 6, 3);
    assert_int_equal(load_refused(&buffer, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "version 3"));
    put32(buffer.data + 6, 2);

    buffer.data[1] = 'x';
    assert_int_equal(load_refused(&buffer, &err), -EBADMSG);
    buffer.data[1] = 't';

    buffer.data[0] = 0xff;
    assert_int_equal(load_refused(&buffer, &err), -EBADMSG);
    buffer.data[0] = 5;

    put32(buffer.data + 10, UINT32_MAX);
    assert_int_equal(load_refused(&buffer, &err), -EBADMSG);
    state_buffer_done(&buffer);
}

static void trailing_bytes_are_refused(void **state)
{
    struct error err;
    struct state_buffer buffer = saved(&thing_desc);
    buffer.data = realloc(buffer.data, buffer.length + 1);
    assert_non_null(buffer.data);
    buffer.data[buffer.length++] = 0;
    put32(buffer.data + 10, (uint32_t)(buffer.length - HEADER));
    assert_int_equal(load_refused(&buffer, &err), -EBADMSG);
    state_buffer_done(&buffer);
}

static void bool_of_two_is_refused(void **state)
{
    struct error err;
    struct state_buffer buffer = saved(&thing_desc);
    buffer.data[HEADER + 8 + 12] = 2;
    assert_int_equal(load_refused(&buffer, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "flag"));
    state_buffer_done(&buffer);
}

static void buffer_beyond_its_limit_is_refused(void **state)
{
    /* Room for the claimed bytes is there: it is the limit that must hold. */
    static uint8_t large[BUFFER_MOST + 1];
    struct error err;
    struct thing thing = sample();
    thing.fifo = large;
    thing.fifo_length = sizeof(large);
    struct state_buffer buffer = {0};
    assert_int_equal(state_save(&buffer, &thing_desc, &thing), 0);
    assert_int_equal(load_refused(&buffer, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "fifo"));
    state_buffer_done(&buffer);
}

static void device_may_refuse_all(void **state)
{
    struct error err;
    struct thing thing = sample();
    thing.wide = 666;
    struct state_buffer buffer = {0};
    assert_int_equal(state_save(&buffer, &thing_desc, &thing), 0);
    assert_int_equal(load_refused(&buffer, &err), -EINVAL);
    assert_string_equal(err.text, "wide cannot be 666");
    state_buffer_done(&buffer);
}

static void random_damage_never_escapes(void **state)
{
    uint32_t random = 1;
    for (int round = 0; round < 20000; round++) {
        struct state_buffer buffer = saved(&thing_desc);
        for (int i = 0; i < 3; i++) {
            random = random * 1103515245 + 12345;
            buffer.data[(random >> 16) % buffer.length] = (uint8_t)(random >> 8);
        }
        struct thing thing = {0};
        int ret = state_load(&buffer, &thing_desc, &thing, NULL);
        if (ret == 0) {
            assert_true(thing.fifo_length <= BUFFER_MOST);
            free(thing.fifo);
        } else {
            assert_null(thing.fifo);
        }
        state_buffer_done(&buffer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(stream_is_as_documented),
        cmocka_unit_test(objects_follow_each_other),
        cmocka_unit_test(older_stream_leaves_newer_fields_alone),
        cmocka_unit_test(load_replaces_a_buffer_and_frees_the_old),
        cmocka_unit_test(every_shortened_stream_is_refused),
        cmocka_unit_test(wrong_headers_are_refused),
        cmocka_unit_test(trailing_bytes_are_refused),
        cmocka_unit_test(bool_of_two_is_refused),
        cmocka_unit_test(buffer_beyond_its_limit_is_refused),
        cmocka_unit_test(device_may_refuse_all),
        cmocka_unit_test(random_damage_never_escapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
