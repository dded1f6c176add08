/* Resources, scanout and cursor of the GPU, to the pixel, and what a guest may not do with them. */
#include "device_rig.h"

#include "dev/display/gpu.h"

#define RAM (1 * MIB)
#define BGRX 2
#define BGRA 1

struct fixture {
    struct memory memory;
    struct gpu gpu;
    struct display *display;
    struct display_viewer viewer;
    struct display_frame frame;
    struct device device;
};

static void refresh(void *opaque, struct display *display)
{
    gpu_refresh(&((struct fixture *)opaque)->gpu, display);
}

static const struct display_source_ops source = {.refresh = refresh};

static int post_load(void *object, struct error *err)
{
    return gpu_post_load(object, err);
}

static const struct state_desc state_desc = {
    .name = "gpu", .version = 1, .fields = gpu_fields, .post_load = post_load};

static void reset(struct device *device)
{
    gpu_reset(device->state_object);
}

static const struct device_ops device_ops = {.reset = reset, .state = &state_desc};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    memory_init(&f->memory, 0);
    assert_int_equal(memory_add(&f->memory, 0, RAM, 0, "ram", NULL), 0);
    gpu_init(&f->gpu, &f->memory);
    assert_int_equal(display_new(&f->display), 0);
    display_set_source(f->display, &source, f);
    display_add_viewer(f->display, &f->viewer);
    f->device = (struct device){.ops = &device_ops, .state_object = &f->gpu};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    display_remove_viewer(&f->viewer);
    display_free(f->display);
    gpu_done(&f->gpu);
    memory_done(&f->memory);
    free(f);
    return 0;
}

static void look(struct fixture *f)
{
    display_refresh(&f->viewer, &f->frame);
    display_release(&f->viewer);
}

static uint32_t pixel(const struct fixture *f, unsigned x, unsigned y)
{
    assert_true(x < f->frame.width && y < f->frame.height);
    return f->frame.pixels[y * f->frame.stride + x];
}

static enum gpu_result attach(struct fixture *f, uint32_t id, const struct gpu_backing *pieces,
                              uint32_t count)
{
    struct gpu_backing *copy = calloc(count + 1, sizeof(*copy));

    memcpy(copy, pieces, count * sizeof(*copy));
    enum gpu_result result = gpu_attach(&f->gpu, id, copy, count);
    if (result != GPU_OK)
        free(copy);
    return result;
}

static void put_pixel(struct fixture *f, gpa_t gpa, uint32_t value)
{
    assert_int_equal(memory_write(&f->memory, gpa, &value, sizeof(value)), 0);
}

static enum gpu_result transfer(struct fixture *f, uint32_t id, uint32_t x, uint32_t y,
                                uint32_t width, uint32_t height, uint64_t offset)
{
    return gpu_transfer(&f->gpu, id, &(struct gpu_rect){x, y, width, height}, offset);
}

static enum gpu_result flush(struct fixture *f, uint32_t id, uint32_t x, uint32_t y, uint32_t width,
                             uint32_t height)
{
    return gpu_flush(&f->gpu, id, &(struct gpu_rect){x, y, width, height});
}

static enum gpu_result show(struct fixture *f, uint32_t id, uint32_t x, uint32_t y, uint32_t width,
                            uint32_t height)
{
    return gpu_set_scanout(&f->gpu, 0, id, &(struct gpu_rect){x, y, width, height});
}

/* A resource of 100 by 50 pixels with its backing at 0x10000, shown. */
static void make_screen(struct fixture *f)
{
    const struct gpu_backing backing = {.gpa = 0x10000, .length = 100 * 50 * 4};

    assert_int_equal(gpu_create(&f->gpu, 1, BGRX, 100, 50), GPU_OK);
    assert_int_equal(attach(f, 1, &backing, 1), GPU_OK);
    assert_int_equal(show(f, 1, 0, 0, 100, 50), GPU_OK);
}

static void what_is_transferred_and_flushed_is_seen(void **state)
{
    struct fixture *f = *state;

    make_screen(f);
    look(f);
    assert_int_equal(f->frame.width, 100);
    assert_int_equal(f->frame.height, 50);
    put_pixel(f, 0x10000 + 4 * (7 * 100 + 3), 0xff123456);
    assert_int_equal(transfer(f, 1, 0, 0, 100, 50, 0), GPU_OK);
    look(f);
    assert_int_equal(f->frame.rect_count, 0);
    assert_int_equal(flush(f, 1, 2, 6, 5, 5), GPU_OK);
    look(f);
    assert_int_equal(pixel(f, 3, 7), 0x123456);
    assert_int_equal(f->frame.rect_count, 1);
    assert_int_equal(f->frame.rect[0].x, 2);
    assert_int_equal(f->frame.rect[0].height, 5);
}

static void a_part_is_transferred_from_its_offset(void **state)
{
    struct fixture *f = *state;

    make_screen(f);
    for (unsigned y = 0; y < 2; y++)
        put_pixel(f, 0x10000 + 4 * ((10 + y) * 100 + 20), 0x110000 + y);
    put_pixel(f, 0x10000 + 4 * (10 * 100 + 21), 0xffffff); /* outside the part */
    assert_int_equal(transfer(f, 1, 20, 10, 1, 2, 4 * (10 * 100 + 20)), GPU_OK);
    look(f);
    assert_int_equal(pixel(f, 20, 10), 0x110000);
    assert_int_equal(pixel(f, 20, 11), 0x110001);
    assert_int_equal(pixel(f, 21, 10), 0);
}

static void a_backing_may_be_in_pieces(void **state)
{
    struct fixture *f = *state;
    static const struct gpu_backing pieces[] = {{.gpa = 0x20000, .length = 402},
                                                {.gpa = 0x40000, .length = 0},
                                                {.gpa = 0x30000, .length = 1},
                                                {.gpa = 0x50001, .length = 100000}};

    assert_int_equal(gpu_create(&f->gpu, 9, BGRX, 100, 50), GPU_OK);
    assert_int_equal(attach(f, 9, pieces, ARRAY_SIZE(pieces)), GPU_OK);
    assert_int_equal(show(f, 9, 0, 0, 100, 50), GPU_OK);
    /* The first pixel of the second line: two bytes of the first piece, one each of the others. */
    static const uint8_t bytes[] = {0x33, 0x22, 0x11, 0x00};
    assert_int_equal(memory_write(&f->memory, 0x20000 + 400, bytes, 2), 0);
    assert_int_equal(memory_write(&f->memory, 0x30000, bytes + 2, 1), 0);
    assert_int_equal(memory_write(&f->memory, 0x50001, bytes + 3, 1), 0);
    assert_int_equal(transfer(f, 9, 0, 0, 100, 50, 0), GPU_OK);
    look(f);
    assert_int_equal(pixel(f, 0, 1), 0x112233);
}

static void each_format_has_its_bytes(void **state)
{
    static const struct {
        uint32_t format;
        uint8_t bytes[4];
    } formats[] = {{1, {3, 2, 1, 0xff}},   {2, {3, 2, 1, 0}},     {3, {0xff, 1, 2, 3}},
                   {4, {0, 1, 2, 3}},      {67, {1, 2, 3, 0xff}}, {68, {0, 3, 2, 1}},
                   {121, {0xff, 3, 2, 1}}, {134, {1, 2, 3, 0}}};
    struct fixture *f = *state;
    const struct gpu_backing backing = {.gpa = 0x10000, .length = 4};

    for (uint32_t i = 0; i < ARRAY_SIZE(formats); i++) {
        assert_int_equal(gpu_create(&f->gpu, i + 1, formats[i].format, 1, 1), GPU_OK);
        assert_int_equal(attach(f, i + 1, &backing, 1), GPU_OK);
        assert_int_equal(memory_write(&f->memory, 0x10000, formats[i].bytes, 4), 0);
        assert_int_equal(transfer(f, i + 1, 0, 0, 1, 1, 0), GPU_OK);
        assert_int_equal(show(f, i + 1, 0, 0, 1, 1), GPU_OK);
        look(f);
        assert_int_equal(pixel(f, 0, 0), 0x010203);
    }
    assert_int_equal(gpu_create(&f->gpu, 100, 5, 1, 1), GPU_ERROR_PARAMETER);
}

static void a_part_of_a_resource_can_be_shown(void **state)
{
    struct fixture *f = *state;

    make_screen(f);
    put_pixel(f, 0x10000 + 4 * (30 * 100 + 60), 0xabcdef);
    assert_int_equal(transfer(f, 1, 0, 0, 100, 50, 0), GPU_OK);
    assert_int_equal(show(f, 1, 50, 25, 20, 10), GPU_OK);
    look(f);
    assert_int_equal(f->frame.width, 20);
    assert_int_equal(pixel(f, 10, 5), 0xabcdef);
    assert_int_equal(flush(f, 1, 0, 0, 100, 50), GPU_OK);
    look(f);
    assert_int_equal(f->frame.rect_count, 1);
    assert_int_equal(f->frame.rect[0].width, 20);
    assert_int_equal(flush(f, 1, 0, 0, 50, 50), GPU_OK); /* all of it outside */
    look(f);
    assert_int_equal(f->frame.rect_count, 0);
    assert_int_equal(show(f, 0, 0, 0, 0, 0), GPU_OK);
    look(f);
    assert_int_equal(pixel(f, 10, 5), 0);
}

/* A cursor of half transparent red in its upper left quarter. */
static void make_cursor(struct fixture *f)
{
    const struct gpu_backing backing = {.gpa = 0x80000, .length = 64 * 64 * 4};

    for (unsigned y = 0; y < 32; y++)
        for (unsigned x = 0; x < 32; x++)
            put_pixel(f, 0x80000 + 4 * (y * 64 + x), 0x80800000);
    assert_int_equal(gpu_create(&f->gpu, 2, BGRA, 64, 64), GPU_OK);
    assert_int_equal(attach(f, 2, &backing, 1), GPU_OK);
    assert_int_equal(transfer(f, 2, 0, 0, 64, 64, 0), GPU_OK);
}

static void the_cursor_is_blended_and_leaves_nothing_behind(void **state)
{
    struct fixture *f = *state;

    make_screen(f);
    make_cursor(f);
    for (unsigned i = 0; i < 100 * 50; i++)
        put_pixel(f, 0x10000 + 4 * i, 0x0000ff);
    assert_int_equal(transfer(f, 1, 0, 0, 100, 50, 0), GPU_OK);
    gpu_update_cursor(&f->gpu, 2, 12, 11, 2, 1);
    look(f);
    assert_int_equal(pixel(f, 9, 10), 0x0000ff);
    assert_int_equal(pixel(f, 10, 10), 0x80007f);
    assert_int_equal(pixel(f, 41, 41), 0x80007f);
    assert_int_equal(pixel(f, 42, 41), 0x0000ff);
    flush(f, 1, 0, 0, 20, 20);
    flush(f, 1, 5, 5, 20, 20); /* drawn twice, blended once */
    look(f);
    assert_int_equal(pixel(f, 15, 15), 0x80007f);
    gpu_move_cursor(&f->gpu, 60, 30);
    look(f);
    assert_int_equal(pixel(f, 15, 15), 0x0000ff);
    assert_int_equal(pixel(f, 58, 29), 0x80007f);
    gpu_move_cursor(&f->gpu, (uint32_t)-10, (uint32_t)-10);
    look(f);
    assert_int_equal(pixel(f, 0, 0), 0x80007f);
    assert_int_equal(pixel(f, 19, 20), 0x80007f);
    assert_int_equal(pixel(f, 20, 20), 0x0000ff);
    gpu_update_cursor(&f->gpu, 0, 0, 0, 0, 0);
    look(f);
    assert_int_equal(pixel(f, 0, 0), 0x0000ff);
    gpu_update_cursor(&f->gpu, 2, 0x7fffffff, 0x80000000, UINT32_MAX, 0);
    gpu_move_cursor(&f->gpu, 0x80000000, 0x7fffffff);
    look(f);
    assert_int_equal(pixel(f, 0, 0), 0x0000ff);
}

static void requests_for_nothing_are_refused(void **state)
{
    struct fixture *f = *state;
    const struct gpu_backing far = {.gpa = RAM - 4, .length = 1000};

    make_screen(f);
    assert_int_equal(gpu_create(&f->gpu, 0, BGRX, 1, 1), GPU_ERROR_RESOURCE);
    assert_int_equal(gpu_create(&f->gpu, 1, BGRX, 1, 1), GPU_ERROR_RESOURCE);
    assert_int_equal(gpu_create(&f->gpu, 5, BGRX, 0, 1), GPU_ERROR_PARAMETER);
    assert_int_equal(gpu_create(&f->gpu, 5, BGRX, 0x10000, 0x10000), GPU_ERROR_PARAMETER);
    assert_int_equal(gpu_create(&f->gpu, 5, BGRX, 8192, 8192), GPU_ERROR_PARAMETER);
    assert_int_equal(gpu_unref(&f->gpu, 7), GPU_ERROR_RESOURCE);
    assert_int_equal(gpu_detach(&f->gpu, 7), GPU_ERROR_RESOURCE);
    assert_int_equal(attach(f, 7, &far, 1), GPU_ERROR_RESOURCE);
    assert_int_equal(attach(f, 1, &far, 1), GPU_ERROR_UNSPECIFIED); /* it has one */
    assert_int_equal(transfer(f, 7, 0, 0, 1, 1, 0), GPU_ERROR_RESOURCE);
    assert_int_equal(transfer(f, 1, 100, 50, 1, 1, 0), GPU_ERROR_PARAMETER);
    assert_int_equal(transfer(f, 1, UINT32_MAX, 0, 2, 1, 0), GPU_ERROR_PARAMETER);
    assert_int_equal(transfer(f, 1, 0, 0, 100, 50, UINT64_MAX), GPU_ERROR_PARAMETER);
    assert_int_equal(transfer(f, 1, 0, 0, 100, 50, 4), GPU_ERROR_UNSPECIFIED); /* too short */
    assert_int_equal(flush(f, 7, 0, 0, 1, 1), GPU_ERROR_RESOURCE);
    assert_int_equal(flush(f, 1, 0, 0, 101, 1), GPU_ERROR_PARAMETER);
    assert_int_equal(flush(f, 1, 1, 0, UINT32_MAX, 1), GPU_ERROR_PARAMETER);
    assert_int_equal(show(f, 7, 0, 0, 1, 1), GPU_ERROR_RESOURCE);
    assert_int_equal(show(f, 1, 0, 0, 0, 1), GPU_ERROR_PARAMETER);
    assert_int_equal(show(f, 1, 1, 0, 100, 50), GPU_ERROR_PARAMETER);
    assert_int_equal(gpu_set_scanout(&f->gpu, 1, 1, &(struct gpu_rect){0, 0, 1, 1}),
                     GPU_ERROR_SCANOUT);
    assert_int_equal(gpu_detach(&f->gpu, 1), GPU_OK);
    assert_int_equal(transfer(f, 1, 0, 0, 1, 1, 0), GPU_ERROR_UNSPECIFIED);
    assert_int_equal(attach(f, 1, &far, 1), GPU_OK); /* where no memory is */
    assert_int_equal(transfer(f, 1, 0, 0, 100, 1, 0), GPU_ERROR_UNSPECIFIED);
}

static void a_guest_cannot_take_the_hosts_memory(void **state)
{
    struct fixture *f = *state;
    uint32_t made = 0;

    /* 64 MiB each: what is not touched costs the host nothing. */
    while (gpu_create(&f->gpu, made + 1, BGRX, 4096, 4096) == GPU_OK)
        made++;
    assert_int_equal(made, GPU_MAX_BYTES / (4096 * 4096 * 4));
    for (uint32_t id = 1; id <= made; id++)
        assert_int_equal(gpu_unref(&f->gpu, id), GPU_OK);
    made = 0;
    while (gpu_create(&f->gpu, made + 1, BGRX, 1, 1) == GPU_OK)
        made++;
    assert_int_equal(made, GPU_MAX_RESOURCES);
}

static void a_resource_that_is_shown_may_go(void **state)
{
    struct fixture *f = *state;

    make_screen(f);
    put_pixel(f, 0x10000, 0xffffff);
    assert_int_equal(transfer(f, 1, 0, 0, 100, 50, 0), GPU_OK);
    look(f);
    assert_int_equal(pixel(f, 0, 0), 0xffffff);
    assert_int_equal(gpu_unref(&f->gpu, 1), GPU_OK);
    look(f);
    assert_int_equal(pixel(f, 0, 0), 0);
}

static void state_survives_save_and_restore(void **state)
{
    struct fixture *f = *state;
    const struct gpu_backing backing = {.gpa = 0x10000, .length = 4 * 2 * 4};

    /* Small, as each byte of the state is tried. */
    assert_int_equal(gpu_create(&f->gpu, 3, BGRX, 4, 2), GPU_OK);
    assert_int_equal(attach(f, 3, &backing, 1), GPU_OK);
    assert_int_equal(show(f, 3, 0, 0, 4, 2), GPU_OK);
    put_pixel(f, 0x10000 + 4 * 7, 0x335577);
    assert_int_equal(transfer(f, 3, 0, 0, 4, 2, 0), GPU_OK);
    rig_check_state(&f->device);
    assert_true(gpu_is_used(&f->gpu));
    look(f);
    assert_int_equal(f->frame.width, 4);
    assert_int_equal(pixel(f, 3, 1), 0x335577);
    put_pixel(f, 0x10000, 0x112233);
    assert_int_equal(transfer(f, 3, 0, 0, 1, 1, 0), GPU_OK);
    assert_int_equal(flush(f, 3, 0, 0, 1, 1), GPU_OK);
    look(f);
    assert_int_equal(pixel(f, 0, 0), 0x112233);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_transferred_and_flushed_is_seen),
        TEST(a_part_is_transferred_from_its_offset),
        TEST(a_backing_may_be_in_pieces),
        TEST(each_format_has_its_bytes),
        TEST(a_part_of_a_resource_can_be_shown),
        TEST(the_cursor_is_blended_and_leaves_nothing_behind),
        TEST(requests_for_nothing_are_refused),
        TEST(a_guest_cannot_take_the_hosts_memory),
        TEST(a_resource_that_is_shown_may_go),
        TEST(state_survives_save_and_restore),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
