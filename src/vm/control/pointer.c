/* The pointer on the control socket; see pointer.h. */
#include "vm/control/pointer.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct held {
    unsigned buttons;
    int wheel; /* towards the user */
};

static void screen_size(struct display *display, unsigned *width, unsigned *height)
{
    struct display_viewer viewer;
    struct display_frame frame;

    display_add_viewer(display, &viewer);
    display_refresh(&viewer, &frame);
    *width = frame.width;
    *height = frame.height;
    display_release(&viewer);
    display_remove_viewer(&viewer);
}

/* A number below `limit`, and what stands behind it. */
static bool parse_pixel(unsigned *pixel, const char **text, unsigned limit)
{
    char *end;

    if (!isdigit((unsigned char)**text))
        return false;
    unsigned long value = strtoul(*text, &end, 10);
    *text = end;
    *pixel = (unsigned)value;
    return value < limit;
}

static bool add_held(struct held *held, const char *name, size_t length)
{
    static const struct {
        const char *name;
        struct held held;
    } names[] = {
        {"left", {INPUT_LEFT, 0}}, {"middle", {INPUT_MIDDLE, 0}}, {"right", {INPUT_RIGHT, 0}},
        {"wheel-down", {0, 1}},    {"wheel-up", {0, -1}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strlen(names[i].name) != length || memcmp(names[i].name, name, length) != 0)
            continue;
        held->buttons |= names[i].held.buttons;
        held->wheel += names[i].held.wheel;
        return true;
    }
    return false;
}

int pointer_place(struct input *input, struct display *display, const char *to, struct error *err)
{
    unsigned width, height, x, y;
    struct held held = {0};
    const char *rest = to;

    screen_size(display, &width, &height);
    if (!parse_pixel(&x, &rest, width) || *rest++ != ',' || !parse_pixel(&y, &rest, height))
        return error_set(err, -EINVAL, "'%s' is no place on a screen of %u x %u: use X,Y", to,
                         width, height);
    while (*rest) {
        size_t length = strcspn(rest + 1, ",");
        if (*rest != ',' || !add_held(&held, rest + 1, length))
            return error_set(err, -EINVAL,
                             "'%s' is no button: use left, middle, right, wheel-up or wheel-down",
                             rest);
        rest += 1 + length;
    }
    input_place(input, input_position(x, width), input_position(y, height), held.wheel,
                held.buttons);
    return 0;
}
