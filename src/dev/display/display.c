/*
 * The surface, and who saw which part of it; see display.h for the contract and the lock.
 *
 * Damage is a short list of rectangles for each viewer. One that touches or overlaps another, or
 * that finds the list full, is merged into the one that grows least.
 */
#include "dev/display/display.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* Text mode of 80 by 25 characters: what a screen is before its adapter says anything. */
#define INITIAL_WIDTH 720
#define INITIAL_HEIGHT 400

struct display {
    pthread_mutex_t lock; /* everything below */
    const struct display_source_ops *source;
    void *source_opaque;
    uint32_t *pixels;
    unsigned width, height;
    bool redraw; /* the surface or the adapter is new */
    struct display_viewer *viewers;
};

static uint64_t area(const struct display_rect *rect)
{
    return (uint64_t)rect->width * rect->height;
}

static struct display_rect bounding(const struct display_rect *a, const struct display_rect *b)
{
    unsigned left = a->x < b->x ? a->x : b->x;
    unsigned top = a->y < b->y ? a->y : b->y;
    unsigned right = a->x + a->width > b->x + b->width ? a->x + a->width : b->x + b->width;
    unsigned bottom = a->y + a->height > b->y + b->height ? a->y + a->height : b->y + b->height;
    return (struct display_rect){left, top, right - left, bottom - top};
}

/* Pixels that the two as one rectangle would show beyond what each shows. */
static int64_t growth(const struct display_rect *a, const struct display_rect *b)
{
    struct display_rect both = bounding(a, b);
    return (int64_t)area(&both) - (int64_t)area(a) - (int64_t)area(b);
}

static void add_rect(struct display_viewer *viewer, struct display_rect rect)
{
    for (;;) {
        unsigned best = 0;
        for (unsigned i = 1; i < viewer->count; i++)
            if (growth(&viewer->rect[i], &rect) < growth(&viewer->rect[best], &rect))
                best = i;
        bool full = viewer->count == DISPLAY_MAX_RECTS;
        if (!viewer->count || (!full && growth(&viewer->rect[best], &rect) > 0))
            break;
        /* The merged one may now touch others: take it out and add it again. */
        rect = bounding(&viewer->rect[best], &rect);
        viewer->rect[best] = viewer->rect[--viewer->count];
    }
    viewer->rect[viewer->count++] = rect;
}

static void damage_all(struct display *display, struct display_viewer *viewer)
{
    viewer->count = 1;
    viewer->rect[0] = (struct display_rect){0, 0, display->width, display->height};
}

/* ---- adapters ---- */

void display_set_source(struct display *display, const struct display_source_ops *ops, void *opaque)
{
    pthread_mutex_lock(&display->lock);
    display->source = ops;
    display->source_opaque = opaque;
    display->redraw = true;
    pthread_mutex_unlock(&display->lock);
}

int display_resize(struct display *display, unsigned width, unsigned height)
{
    if (width == display->width && height == display->height)
        return 0;
    if (!width || !height || width > DISPLAY_MAX_EXTENT || height > DISPLAY_MAX_EXTENT ||
        width * height > DISPLAY_MAX_PIXELS)
        return -EINVAL;
    uint32_t *pixels = calloc((size_t)width * height, sizeof(*pixels));
    if (!pixels)
        return -ENOMEM;
    free(display->pixels);
    display->pixels = pixels;
    display->width = width;
    display->height = height;
    display->redraw = true;
    for (struct display_viewer *viewer = display->viewers; viewer; viewer = viewer->next) {
        viewer->resized = true;
        damage_all(display, viewer);
    }
    return 0;
}

bool display_must_redraw(const struct display *display)
{
    return display->redraw;
}

uint32_t *display_pixels(struct display *display, unsigned *width, unsigned *height,
                         unsigned *stride)
{
    *width = display->width;
    *height = display->height;
    *stride = display->width;
    return display->pixels;
}

void display_damage(struct display *display, unsigned x, unsigned y, unsigned width,
                    unsigned height)
{
    if (x >= display->width || y >= display->height || !width || !height)
        return;
    if (width > display->width - x)
        width = display->width - x;
    if (height > display->height - y)
        height = display->height - y;
    for (struct display_viewer *viewer = display->viewers; viewer; viewer = viewer->next)
        add_rect(viewer, (struct display_rect){x, y, width, height});
}

/* ---- viewers ---- */

void display_add_viewer(struct display *display, struct display_viewer *viewer)
{
    pthread_mutex_lock(&display->lock);
    *viewer = (struct display_viewer){.display = display, .resized = true};
    damage_all(display, viewer);
    viewer->next = display->viewers;
    display->viewers = viewer;
    pthread_mutex_unlock(&display->lock);
}

void display_remove_viewer(struct display_viewer *viewer)
{
    struct display *display = viewer->display;
    struct display_viewer **link = &display->viewers;

    pthread_mutex_lock(&display->lock);
    while (*link != viewer)
        link = &(*link)->next;
    *link = viewer->next;
    pthread_mutex_unlock(&display->lock);
}

void display_refresh(struct display_viewer *viewer, struct display_frame *frame)
{
    struct display *display = viewer->display;

    pthread_mutex_lock(&display->lock);
    if (display->source) {
        display->source->refresh(display->source_opaque, display);
        display->redraw = false;
    }
    *frame = (struct display_frame){
        .pixels = display->pixels,
        .width = display->width,
        .height = display->height,
        .stride = display->width,
        .resized = viewer->resized,
        .rect_count = viewer->count,
        .rect = viewer->rect,
    };
}

void display_release(struct display_viewer *viewer)
{
    viewer->resized = false;
    viewer->count = 0;
    pthread_mutex_unlock(&viewer->display->lock);
}

int display_text(struct display *display, char **out)
{
    int result = -ENODATA;

    pthread_mutex_lock(&display->lock);
    if (display->source && display->source->text)
        result = display->source->text(display->source_opaque, out);
    pthread_mutex_unlock(&display->lock);
    return result;
}

/* ---- the board ---- */

int display_new(struct display **out)
{
    struct display *display = calloc(1, sizeof(*display));
    if (!display)
        return -ENOMEM;
    pthread_mutex_init(&display->lock, NULL);
    if (display_resize(display, INITIAL_WIDTH, INITIAL_HEIGHT)) {
        display_free(display);
        return -ENOMEM;
    }
    *out = display;
    return 0;
}

void display_free(struct display *display)
{
    if (!display)
        return;
    pthread_mutex_destroy(&display->lock);
    free(display->pixels);
    free(display);
}
