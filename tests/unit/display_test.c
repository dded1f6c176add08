/* The screen between adapter and viewers: sizes, who sees which damage, text. */
#include "device_rig.h"

#include "dev/display/display.h"

struct fixture {
    struct display *display;
    unsigned width, height; /* what the adapter asks for */
    int resize_result;
    unsigned refreshes;
    bool redraw; /* was asked for in the latest refresh */
    struct display_rect draw[100];
    unsigned draw_count;
};

static void refresh(void *opaque, struct display *display)
{
    struct fixture *f = opaque;
    unsigned width, height, stride;

    f->refreshes++;
    f->resize_result = display_resize(display, f->width, f->height);
    f->redraw = display_must_redraw(display);
    uint32_t *pixels = display_pixels(display, &width, &height, &stride);
    for (unsigned i = 0; i < f->draw_count; i++) {
        const struct display_rect *rect = &f->draw[i];
        display_damage(display, rect->x, rect->y, rect->width, rect->height);
        if (rect->x < width && rect->y < height)
            pixels[rect->y * stride + rect->x] = 0x123456;
    }
    f->draw_count = 0;
}

static int text(void *opaque, char **out)
{
    *out = strdup("hello\n");
    return *out ? 0 : -ENOMEM;
}

static const struct display_source_ops source = {.refresh = refresh, .text = text};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_int_equal(display_new(&f->display), 0);
    f->width = 640;
    f->height = 480;
    display_set_source(f->display, &source, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    display_free(f->display);
    free(f);
    return 0;
}

static void draw(struct fixture *f, unsigned x, unsigned y, unsigned width, unsigned height)
{
    f->draw[f->draw_count++] = (struct display_rect){x, y, width, height};
}

static bool covers(const struct display_frame *frame, unsigned x, unsigned y)
{
    for (unsigned i = 0; i < frame->rect_count; i++) {
        const struct display_rect *rect = &frame->rect[i];
        if (x - rect->x < rect->width && y - rect->y < rect->height)
            return true;
    }
    return false;
}

static void a_new_viewer_gets_the_whole_screen_once(void **state)
{
    struct fixture *f = *state;
    struct display_viewer viewer;
    struct display_frame frame;

    display_add_viewer(f->display, &viewer);
    display_refresh(&viewer, &frame);
    assert_true(f->redraw);
    assert_true(frame.resized);
    assert_int_equal(frame.width, 640);
    assert_int_equal(frame.height, 480);
    assert_true(frame.stride >= 640);
    assert_true(covers(&frame, 0, 0) && covers(&frame, 639, 479));
    display_release(&viewer);

    display_refresh(&viewer, &frame);
    assert_false(f->redraw);
    assert_false(frame.resized);
    assert_int_equal(frame.rect_count, 0);
    display_release(&viewer);
    display_remove_viewer(&viewer);
}

static void nothing_is_drawn_while_nobody_looks(void **state)
{
    struct fixture *f = *state;
    struct display_viewer viewer;

    display_add_viewer(f->display, &viewer);
    assert_int_equal(f->refreshes, 0);
    display_remove_viewer(&viewer);
    assert_int_equal(f->refreshes, 0);
}

static void each_viewer_gets_the_damage_since_its_own_latest_refresh(void **state)
{
    struct fixture *f = *state;
    struct display_viewer fast, slow;
    struct display_frame frame;

    display_add_viewer(f->display, &fast);
    display_add_viewer(f->display, &slow);
    display_refresh(&fast, &frame);
    display_release(&fast);
    display_refresh(&slow, &frame);
    display_release(&slow);

    draw(f, 10, 20, 1, 1);
    display_refresh(&fast, &frame);
    assert_int_equal(frame.rect_count, 1);
    assert_int_equal(frame.pixels[20 * frame.stride + 10], 0x123456);
    display_release(&fast);

    draw(f, 600, 400, 8, 8);
    display_refresh(&fast, &frame);
    assert_int_equal(frame.rect_count, 1);
    assert_true(covers(&frame, 600, 400));
    display_release(&fast);

    display_refresh(&slow, &frame);
    assert_int_equal(frame.rect_count, 2);
    assert_true(covers(&frame, 10, 20) && covers(&frame, 607, 407));
    assert_false(covers(&frame, 300, 200));
    display_release(&slow);
    display_remove_viewer(&fast);
    display_remove_viewer(&slow);
}

static void neighbours_become_one_rectangle(void **state)
{
    struct fixture *f = *state;
    struct display_viewer viewer;
    struct display_frame frame;

    display_add_viewer(f->display, &viewer);
    display_refresh(&viewer, &frame);
    display_release(&viewer);
    for (unsigned y = 0; y < 60; y++)
        draw(f, 5, 100 + y, 50, 1);
    display_refresh(&viewer, &frame);
    assert_int_equal(frame.rect_count, 1);
    assert_int_equal(frame.rect[0].x, 5);
    assert_int_equal(frame.rect[0].y, 100);
    assert_int_equal(frame.rect[0].width, 50);
    assert_int_equal(frame.rect[0].height, 60);
    display_release(&viewer);
    display_remove_viewer(&viewer);
}

static void much_damage_is_merged_and_nothing_is_lost(void **state)
{
    struct fixture *f = *state;
    struct display_viewer viewer;
    struct display_frame frame;

    display_add_viewer(f->display, &viewer);
    display_refresh(&viewer, &frame);
    display_release(&viewer);
    for (unsigned i = 0; i < 100; i++)
        draw(f, i * 37 % 640, i * 101 % 480, 1, 1);
    display_refresh(&viewer, &frame);
    assert_true(frame.rect_count <= DISPLAY_MAX_RECTS);
    for (unsigned i = 0; i < 100; i++)
        assert_true(covers(&frame, i * 37 % 640, i * 101 % 480));
    display_release(&viewer);
    display_remove_viewer(&viewer);
}

static void damage_is_cut_to_the_surface(void **state)
{
    struct fixture *f = *state;
    struct display_viewer viewer;
    struct display_frame frame;

    display_add_viewer(f->display, &viewer);
    display_refresh(&viewer, &frame);
    display_release(&viewer);
    draw(f, 640, 0, 1, 1);
    draw(f, 0, 480, 1, 1);
    draw(f, UINT32_MAX, UINT32_MAX, 5, 5);
    draw(f, 0, 0, 0, 5);
    draw(f, 630, 470, UINT32_MAX, UINT32_MAX);
    display_refresh(&viewer, &frame);
    assert_int_equal(frame.rect_count, 1);
    assert_int_equal(frame.rect[0].width, 10);
    assert_int_equal(frame.rect[0].height, 10);
    display_release(&viewer);
    display_remove_viewer(&viewer);
}

static void a_new_size_is_seen_by_everybody(void **state)
{
    struct fixture *f = *state;
    struct display_viewer one, two;
    struct display_frame frame;

    display_add_viewer(f->display, &one);
    display_add_viewer(f->display, &two);
    display_refresh(&one, &frame);
    display_release(&one);
    display_refresh(&two, &frame);
    display_release(&two);
    f->width = 320;
    f->height = 200;
    display_refresh(&one, &frame);
    assert_true(frame.resized && f->redraw);
    assert_true(covers(&frame, 319, 199));
    assert_int_equal(frame.pixels[199 * frame.stride + 319], 0);
    display_release(&one);
    display_refresh(&two, &frame);
    assert_true(frame.resized && !f->redraw);
    assert_int_equal(frame.rect_count, 1);
    assert_int_equal(frame.rect[0].width, 320);
    display_release(&two);
    display_remove_viewer(&two);
    display_remove_viewer(&one);
}

static void impossible_sizes_leave_the_surface_alone(void **state)
{
    static const unsigned sizes[][2] = {
        {0, 480}, {640, 0}, {8193, 1}, {1, 8193}, {8192, 4096}, {65536, 65536},
    };
    struct fixture *f = *state;
    struct display_viewer viewer;
    struct display_frame frame;

    display_add_viewer(f->display, &viewer);
    display_refresh(&viewer, &frame);
    display_release(&viewer);
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        f->width = sizes[i][0];
        f->height = sizes[i][1];
        display_refresh(&viewer, &frame);
        assert_int_equal(f->resize_result, -EINVAL);
        assert_int_equal(frame.width, 640);
        assert_int_equal(frame.height, 480);
        display_release(&viewer);
    }
    display_remove_viewer(&viewer);
}

static void without_an_adapter_there_is_a_black_screen_and_no_text(void **state)
{
    struct fixture *f = *state;
    struct display_viewer viewer;
    struct display_frame frame;
    char *characters;

    assert_int_equal(display_text(f->display, &characters), 0);
    assert_string_equal(characters, "hello\n");
    free(characters);

    display_set_source(f->display, NULL, NULL);
    display_add_viewer(f->display, &viewer);
    display_refresh(&viewer, &frame);
    assert_true(frame.width && frame.height);
    assert_int_equal(frame.pixels[0], 0);
    display_release(&viewer);
    display_remove_viewer(&viewer);
    assert_int_equal(f->refreshes, 0);
    assert_int_equal(display_text(f->display, &characters), -ENODATA);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_new_viewer_gets_the_whole_screen_once),
        TEST(nothing_is_drawn_while_nobody_looks),
        TEST(each_viewer_gets_the_damage_since_its_own_latest_refresh),
        TEST(neighbours_become_one_rectangle),
        TEST(much_damage_is_merged_and_nothing_is_lost),
        TEST(damage_is_cut_to_the_surface),
        TEST(a_new_size_is_seen_by_everybody),
        TEST(impossible_sizes_leave_the_surface_alone),
        TEST(without_an_adapter_there_is_a_black_screen_and_no_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
