/*
 * The screen of a VM: one surface of pixels between the display adapter that draws it and any
 * number of viewers (a VNC server, a screenshot) that show it.
 *
 * Viewers pull. The adapter does nothing until a viewer asks, so that a screen that nobody looks at
 * costs nothing, and each viewer has its own pace:
 *
 *     struct display_frame frame;
 *     display_refresh(&viewer, &frame);   adapter brings the surface up to date
 *     ...copy frame.rect[0 .. rect_count) out of frame.pixels...
 *     display_release(&viewer);
 *
 * What changed is kept for each viewer since its own latest refresh.
 *
 * Threads: any, for all calls. One lock, held from display_refresh() to display_release(), so what
 * lies between must be short. It comes before the adapter's own lock: an adapter never calls in
 * here but from its `refresh`.
 */
#ifndef SILL_DEV_DISPLAY_DISPLAY_H
#define SILL_DEV_DISPLAY_DISPLAY_H

#include "base/error.h"
#include "base/types.h"

/* Bounds of a surface, whatever a guest asks for: in each direction, and in all (64 MiB). */
#define DISPLAY_MAX_EXTENT 8192u
#define DISPLAY_MAX_PIXELS (16u << 20)

/* More rectangles than these are merged: what a viewer gets covers the changes, and maybe more. */
#define DISPLAY_MAX_RECTS 32

struct display;

struct display_rect {
    unsigned x, y, width, height;
};

/* ---- for adapters ---- */

struct display_source_ops {
    /* Draws what changed since the latest call: display_resize(), display_pixels(),
     * display_damage(). All of them may be called only in here. */
    void (*refresh)(void *opaque, struct display *display);
    /* As display_text(). NULL: never in a text mode. */
    int (*text)(void *opaque, char **out);
};

/* Connects the adapter whose picture is shown; NULL: none, and the surface stays as it is. When
 * this returns the former one is not called any more. All is drawn anew. */
void display_set_source(struct display *display, const struct display_source_ops *ops,
                        void *opaque);

/*
 * Gives the surface that size. A new surface is black and damaged as a whole; the same size changes
 * nothing. -EINVAL when a side is 0 or beyond the bounds, -ENOMEM; the old one then stays.
 */
SILL_CHECKED int display_resize(struct display *display, unsigned width, unsigned height);

/* Is the surface a new one, or the adapter? Then all is to be drawn; true in one refresh only. */
bool display_must_redraw(const struct display *display);

/* The surface: `*stride` pixels from one line to the next, 0x00RRGGBB each. */
uint32_t *display_pixels(struct display *display, unsigned *width, unsigned *height,
                         unsigned *stride);

/* The rectangle changed; what is outside the surface is ignored. */
void display_damage(struct display *display, unsigned x, unsigned y, unsigned width,
                    unsigned height);

/* ---- for viewers ---- */

/* A viewer embeds this and leaves it alone. */
struct display_viewer {
    struct display *display;
    struct display_viewer *next;
    bool resized;
    unsigned count;
    struct display_rect rect[DISPLAY_MAX_RECTS];
};

struct display_frame {
    const uint32_t *pixels; /* XRGB8888 in host order: 0x00RRGGBB */
    unsigned width, height;
    unsigned stride; /* pixels from one line to the next */
    bool resized;    /* another size than in this viewer's latest frame, or its first */
    unsigned rect_count;
    const struct display_rect *rect; /* what changed since then; they may overlap */
};

/* The first refresh reports everything. */
void display_add_viewer(struct display *display, struct display_viewer *viewer);
void display_remove_viewer(struct display_viewer *viewer);

/* The frame is valid until display_release(), which must follow on the same thread. */
void display_refresh(struct display_viewer *viewer, struct display_frame *frame);
void display_release(struct display_viewer *viewer);

/*
 * The characters of a screen in text mode: UTF-8, each row ended by a newline, spaces at the end of
 * rows left out. The caller frees *out. -ENODATA in a graphics mode, or without an adapter;
 * -ENOMEM.
 */
SILL_CHECKED int display_text(struct display *display, char **out);

/* ---- for the board ---- */

/* Black, and of some size, until an adapter says otherwise. */
SILL_CHECKED int display_new(struct display **out);
/* No viewer may be left. */
void display_free(struct display *display);

#endif
