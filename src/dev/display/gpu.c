/* Resources, scanout and cursor of a virtio-gpu in 2D; see gpu.h. */
#include "dev/display/gpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIXEL 4u

/* Formats, 5.7.6.8 (RESOURCE_CREATE_2D): named by their bytes in memory. */
enum format {
    FORMAT_B8G8R8A8 = 1,
    FORMAT_B8G8R8X8 = 2,
    FORMAT_A8R8G8B8 = 3,
    FORMAT_X8R8G8B8 = 4,
    FORMAT_R8G8B8A8 = 67,
    FORMAT_X8B8G8R8 = 68,
    FORMAT_A8B8G8R8 = 121,
    FORMAT_R8G8B8X8 = 134,
};

static bool is_format(uint32_t format)
{
    switch (format) {
    case FORMAT_B8G8R8A8:
    case FORMAT_B8G8R8X8:
    case FORMAT_A8R8G8B8:
    case FORMAT_X8R8G8B8:
    case FORMAT_R8G8B8A8:
    case FORMAT_X8B8G8R8:
    case FORMAT_A8B8G8R8:
    case FORMAT_R8G8B8X8:
        return true;
    default:
        return false;
    }
}

/* 0xAARRGGBB. */
static uint32_t decode_pixel(uint32_t format, const uint8_t *p)
{
    switch (format) {
    case FORMAT_A8R8G8B8:
    case FORMAT_X8R8G8B8:
        return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
    case FORMAT_R8G8B8A8:
    case FORMAT_R8G8B8X8:
        return (uint32_t)p[3] << 24 | p[0] << 16 | p[1] << 8 | p[2];
    case FORMAT_X8B8G8R8:
    case FORMAT_A8B8G8R8:
        return (uint32_t)p[0] << 24 | p[3] << 16 | p[2] << 8 | p[1];
    default:
        return (uint32_t)p[3] << 24 | p[2] << 16 | p[1] << 8 | p[0];
    }
}

/* ---- resources ---- */

static struct gpu_resource *find(struct gpu *gpu, uint32_t id)
{
    for (unsigned i = 0; id && i < GPU_MAX_RESOURCES; i++) {
        if (gpu->resource[i].id == id)
            return &gpu->resource[i];
    }
    return NULL;
}

static void drop_backing(struct gpu_resource *resource)
{
    free(resource->backing);
    resource->backing = NULL;
    resource->backing_length = 0;
}

static void drop(struct gpu_resource *resource)
{
    drop_backing(resource);
    free(resource->pixels);
    *resource = (struct gpu_resource){0};
}

static uint64_t bytes_in_use(const struct gpu *gpu)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < GPU_MAX_RESOURCES; i++)
        sum += gpu->resource[i].pixels_length;
    return sum;
}

/* Can there be such a picture? */
static bool is_size(uint32_t width, uint32_t height)
{
    return width && height && width <= DISPLAY_MAX_EXTENT && height <= DISPLAY_MAX_EXTENT &&
           width * height <= DISPLAY_MAX_PIXELS;
}

static bool is_inside(const struct gpu_rect *rect, uint32_t width, uint32_t height)
{
    return rect->x <= width && rect->width <= width - rect->x && rect->y <= height &&
           rect->height <= height - rect->y;
}

static enum gpu_result create(struct gpu *gpu, uint32_t id, uint32_t format, uint32_t width,
                              uint32_t height)
{
    if (!id || find(gpu, id))
        return GPU_ERROR_RESOURCE;
    if (!is_format(format) || !is_size(width, height))
        return GPU_ERROR_PARAMETER;
    uint32_t length = width * height * PIXEL;
    struct gpu_resource *resource = gpu->resource;
    while (resource < gpu->resource + GPU_MAX_RESOURCES && resource->id)
        resource++;
    if (resource == gpu->resource + GPU_MAX_RESOURCES || bytes_in_use(gpu) + length > GPU_MAX_BYTES)
        return GPU_ERROR_OUT_OF_MEMORY;
    uint8_t *pixels = calloc(1, length);
    if (!pixels)
        return GPU_ERROR_OUT_OF_MEMORY;
    *resource = (struct gpu_resource){.id = id,
                                      .format = format,
                                      .width = width,
                                      .height = height,
                                      .pixels = pixels,
                                      .pixels_length = length};
    return GPU_OK;
}

enum gpu_result gpu_create(struct gpu *gpu, uint32_t id, uint32_t format, uint32_t width,
                           uint32_t height)
{
    pthread_mutex_lock(&gpu->lock);
    enum gpu_result result = create(gpu, id, format, width, height);
    pthread_mutex_unlock(&gpu->lock);
    return result;
}

enum gpu_result gpu_unref(struct gpu *gpu, uint32_t id)
{
    pthread_mutex_lock(&gpu->lock);
    struct gpu_resource *resource = find(gpu, id);
    if (resource) {
        if (gpu->scanout == id) {
            gpu->scanout = 0;
            gpu->redraw = true;
        }
        drop(resource);
    }
    pthread_mutex_unlock(&gpu->lock);
    return resource ? GPU_OK : GPU_ERROR_RESOURCE;
}

enum gpu_result gpu_attach(struct gpu *gpu, uint32_t id, struct gpu_backing *backing,
                           uint32_t count)
{
    enum gpu_result result = GPU_OK;

    pthread_mutex_lock(&gpu->lock);
    struct gpu_resource *resource = find(gpu, id);
    if (!resource) {
        result = GPU_ERROR_RESOURCE;
    } else if (resource->backing || count > GPU_MAX_BACKING) {
        result = GPU_ERROR_UNSPECIFIED;
    } else {
        resource->backing = (uint8_t *)backing;
        resource->backing_length = count * (uint32_t)sizeof(*backing);
    }
    pthread_mutex_unlock(&gpu->lock);
    return result;
}

enum gpu_result gpu_detach(struct gpu *gpu, uint32_t id)
{
    pthread_mutex_lock(&gpu->lock);
    struct gpu_resource *resource = find(gpu, id);
    if (resource)
        drop_backing(resource);
    pthread_mutex_unlock(&gpu->lock);
    return resource ? GPU_OK : GPU_ERROR_RESOURCE;
}

/* A walk through the backing, forward only. */
struct walk {
    const struct gpu_backing *piece;
    uint32_t left;  /* pieces, this one included */
    uint64_t start; /* where in the backing this one begins */
};

/* Copies from byte `from` on, which is not before that of the previous call. */
static bool walk_read(struct gpu *gpu, struct walk *walk, uint64_t from, uint8_t *to,
                      uint32_t length)
{
    while (length) {
        while (walk->left && from - walk->start >= walk->piece->length) {
            walk->start += walk->piece->length;
            walk->piece++;
            walk->left--;
        }
        if (!walk->left)
            return false;
        uint64_t skip = from - walk->start;
        uint64_t part = walk->piece->length - skip;
        if (part > length)
            part = length;
        if (memory_read(gpu->memory, walk->piece->gpa + skip, to, part))
            return false;
        from += part;
        to += part;
        length -= (uint32_t)part;
    }
    return true;
}

static enum gpu_result transfer(struct gpu *gpu, uint32_t id, const struct gpu_rect *rect,
                                uint64_t offset)
{
    struct gpu_resource *resource = find(gpu, id);
    if (!resource)
        return GPU_ERROR_RESOURCE;
    uint64_t stride = (uint64_t)resource->width * PIXEL;
    /* A backing cannot be that long, and sums must not wrap. */
    if (!is_inside(rect, resource->width, resource->height) || offset > UINT64_MAX / 2)
        return GPU_ERROR_PARAMETER;
    if (!resource->backing)
        return GPU_ERROR_UNSPECIFIED;
    struct walk walk = {.piece = (const struct gpu_backing *)resource->backing,
                        .left = resource->backing_length / (uint32_t)sizeof(struct gpu_backing)};
    for (uint32_t y = 0; y < rect->height; y++) {
        uint8_t *to = resource->pixels + (rect->y + y) * stride + (uint64_t)rect->x * PIXEL;
        if (!walk_read(gpu, &walk, offset + y * stride, to, rect->width * PIXEL))
            return GPU_ERROR_UNSPECIFIED;
    }
    return GPU_OK;
}

enum gpu_result gpu_transfer(struct gpu *gpu, uint32_t id, const struct gpu_rect *rect,
                             uint64_t offset)
{
    pthread_mutex_lock(&gpu->lock);
    enum gpu_result result = transfer(gpu, id, rect, offset);
    pthread_mutex_unlock(&gpu->lock);
    return result;
}

/* ---- scanout ---- */

/* The part of a that is in b; false when there is none. */
static bool intersect(const struct gpu_rect *a, const struct gpu_rect *b, struct gpu_rect *both)
{
    uint64_t left = a->x > b->x ? a->x : b->x, top = a->y > b->y ? a->y : b->y;
    uint64_t right_a = (uint64_t)a->x + a->width, right_b = (uint64_t)b->x + b->width;
    uint64_t bottom_a = (uint64_t)a->y + a->height, bottom_b = (uint64_t)b->y + b->height;
    uint64_t right = right_a < right_b ? right_a : right_b;
    uint64_t bottom = bottom_a < bottom_b ? bottom_a : bottom_b;

    if (left >= right || top >= bottom)
        return false;
    *both = (struct gpu_rect){(uint32_t)left, (uint32_t)top, (uint32_t)(right - left),
                              (uint32_t)(bottom - top)};
    return true;
}

/* `rect` is within the screen. */
static void add_damage(struct gpu *gpu, const struct gpu_rect *rect)
{
    if (gpu->damage_count == GPU_MAX_DAMAGE)
        gpu->redraw = true;
    else
        gpu->damage[gpu->damage_count++] = *rect;
}

enum gpu_result gpu_set_scanout(struct gpu *gpu, uint32_t scanout, uint32_t id,
                                const struct gpu_rect *rect)
{
    enum gpu_result result = GPU_OK;

    if (scanout)
        return GPU_ERROR_SCANOUT;
    pthread_mutex_lock(&gpu->lock);
    const struct gpu_resource *resource = find(gpu, id);
    if (id && !resource) {
        result = GPU_ERROR_RESOURCE;
    } else if (id && (!is_inside(rect, resource->width, resource->height) ||
                      !is_size(rect->width, rect->height))) {
        result = GPU_ERROR_PARAMETER;
    } else {
        gpu->used |= id != 0;
        gpu->scanout = id;
        gpu->area = id ? *rect : (struct gpu_rect){0};
        gpu->redraw = true;
    }
    pthread_mutex_unlock(&gpu->lock);
    return result;
}

enum gpu_result gpu_flush(struct gpu *gpu, uint32_t id, const struct gpu_rect *rect)
{
    enum gpu_result result = GPU_OK;
    struct gpu_rect shown;

    pthread_mutex_lock(&gpu->lock);
    const struct gpu_resource *resource = find(gpu, id);
    if (!resource) {
        result = GPU_ERROR_RESOURCE;
    } else if (!is_inside(rect, resource->width, resource->height)) {
        result = GPU_ERROR_PARAMETER;
    } else if (id == gpu->scanout && intersect(rect, &gpu->area, &shown)) {
        shown.x -= gpu->area.x;
        shown.y -= gpu->area.y;
        add_damage(gpu, &shown);
    }
    pthread_mutex_unlock(&gpu->lock);
    return result;
}

/* ---- cursor ---- */

/* Where on the screen it is; false: nowhere. */
static bool cursor_rect(const struct gpu *gpu, struct gpu_rect *rect)
{
    int64_t left = gpu->cursor_x, top = gpu->cursor_y;
    int64_t right = left + GPU_CURSOR_EXTENT, bottom = top + GPU_CURSOR_EXTENT;

    left = left < 0 ? 0 : left;
    top = top < 0 ? 0 : top;
    right = right > gpu->area.width ? gpu->area.width : right;
    bottom = bottom > gpu->area.height ? gpu->area.height : bottom;
    if (!gpu->cursor_shown || left >= right || top >= bottom)
        return false;
    *rect = (struct gpu_rect){(uint32_t)left, (uint32_t)top, (uint32_t)(right - left),
                              (uint32_t)(bottom - top)};
    return true;
}

static void damage_cursor(struct gpu *gpu)
{
    struct gpu_rect rect;

    if (cursor_rect(gpu, &rect))
        add_damage(gpu, &rect);
}

static void place_cursor(struct gpu *gpu, uint32_t x, uint32_t y)
{
    /* The guest's numbers are signed in truth, and far outside is as good as anywhere outside. */
    int64_t left = (int64_t)(int32_t)x - gpu->hot_x, top = (int64_t)(int32_t)y - gpu->hot_y;
    const int64_t far = DISPLAY_MAX_EXTENT + GPU_CURSOR_EXTENT;

    gpu->cursor_x = (int32_t)(left < -far ? -far : left > far ? far : left);
    gpu->cursor_y = (int32_t)(top < -far ? -far : top > far ? far : top);
}

void gpu_update_cursor(struct gpu *gpu, uint32_t id, uint32_t x, uint32_t y, uint32_t hot_x,
                       uint32_t hot_y)
{
    pthread_mutex_lock(&gpu->lock);
    const struct gpu_resource *resource = find(gpu, id);
    damage_cursor(gpu);
    gpu->cursor_shown =
        resource && resource->width == GPU_CURSOR_EXTENT && resource->height == GPU_CURSOR_EXTENT;
    for (unsigned i = 0; gpu->cursor_shown && i < ARRAY_SIZE(gpu->cursor); i++)
        gpu->cursor[i] = decode_pixel(resource->format, resource->pixels + (size_t)i * PIXEL);
    gpu->hot_x = hot_x;
    gpu->hot_y = hot_y;
    place_cursor(gpu, x, y);
    damage_cursor(gpu);
    pthread_mutex_unlock(&gpu->lock);
}

void gpu_move_cursor(struct gpu *gpu, uint32_t x, uint32_t y)
{
    pthread_mutex_lock(&gpu->lock);
    damage_cursor(gpu);
    place_cursor(gpu, x, y);
    damage_cursor(gpu);
    pthread_mutex_unlock(&gpu->lock);
}

/* ---- drawing ---- */

/* `over` with its alpha, already multiplied into it, on `below`. */
static uint32_t blend(uint32_t over, uint32_t below)
{
    uint32_t rest = 255 - (over >> 24), result = 0;

    for (unsigned shift = 0; shift < 24; shift += 8) {
        uint32_t part = (over >> shift & 0xff) + (below >> shift & 0xff) * rest / 255;
        result |= (part > 255 ? 255 : part) << shift;
    }
    return result;
}

static void draw(const struct gpu *gpu, const struct gpu_resource *resource,
                 const struct gpu_rect *rect, uint32_t *pixels, unsigned stride)
{
    struct gpu_rect cursor, part;

    for (uint32_t y = rect->y; y < rect->y + rect->height; y++) {
        const uint8_t *from =
            resource->pixels +
            ((size_t)(gpu->area.y + y) * resource->width + gpu->area.x + rect->x) * PIXEL;
        uint32_t *to = pixels + (size_t)y * stride + rect->x;
        for (uint32_t i = 0; i < rect->width; i++)
            to[i] = decode_pixel(resource->format, from + (size_t)i * PIXEL) & 0x00ffffff;
    }
    if (!cursor_rect(gpu, &cursor) || !intersect(rect, &cursor, &part))
        return;
    for (uint32_t y = part.y; y < part.y + part.height; y++) {
        const uint32_t *from = gpu->cursor + ((int64_t)y - gpu->cursor_y) * GPU_CURSOR_EXTENT;
        uint32_t *to = pixels + (size_t)y * stride;
        for (uint32_t x = part.x; x < part.x + part.width; x++)
            to[x] = blend(from[(int64_t)x - gpu->cursor_x], to[x]);
    }
}

/* Nothing is shown: the surface keeps its size. */
static void draw_black(struct display *display)
{
    unsigned width, height, stride;
    uint32_t *pixels = display_pixels(display, &width, &height, &stride);

    for (unsigned y = 0; y < height; y++)
        memset(pixels + (size_t)y * stride, 0, width * sizeof(*pixels));
    display_damage(display, 0, 0, width, height);
}

void gpu_refresh(struct gpu *gpu, struct display *display)
{
    unsigned width, height, stride;

    pthread_mutex_lock(&gpu->lock);
    const struct gpu_resource *resource = find(gpu, gpu->scanout);
    if (!resource) {
        if (gpu->redraw || display_must_redraw(display))
            draw_black(display);
        goto drawn;
    }
    if (display_resize(display, gpu->area.width, gpu->area.height))
        goto drawn;
    uint32_t *pixels = display_pixels(display, &width, &height, &stride);
    if (gpu->redraw || display_must_redraw(display)) {
        gpu->damage_count = 1;
        gpu->damage[0] = (struct gpu_rect){0, 0, width, height};
    }
    for (unsigned i = 0; i < gpu->damage_count; i++) {
        const struct gpu_rect *rect = &gpu->damage[i];
        draw(gpu, resource, rect, pixels, stride);
        display_damage(display, rect->x, rect->y, rect->width, rect->height);
    }

drawn:
    gpu->redraw = false;
    gpu->damage_count = 0;
    pthread_mutex_unlock(&gpu->lock);
}

bool gpu_is_used(struct gpu *gpu)
{
    pthread_mutex_lock(&gpu->lock);
    bool used = gpu->used;
    pthread_mutex_unlock(&gpu->lock);
    return used;
}

/* ---- life and state ---- */

void gpu_init(struct gpu *gpu, struct memory *memory)
{
    *gpu = (struct gpu){.memory = memory};
    pthread_mutex_init(&gpu->lock, NULL);
}

static void drop_all(struct gpu *gpu)
{
    for (unsigned i = 0; i < GPU_MAX_RESOURCES; i++)
        drop(&gpu->resource[i]);
}

void gpu_done(struct gpu *gpu)
{
    drop_all(gpu);
    pthread_mutex_destroy(&gpu->lock);
}

void gpu_reset(struct gpu *gpu)
{
    pthread_mutex_lock(&gpu->lock);
    drop_all(gpu);
    gpu->used = false;
    gpu->scanout = 0;
    gpu->area = (struct gpu_rect){0};
    memset(gpu->cursor, 0, sizeof(gpu->cursor));
    gpu->cursor_shown = false;
    gpu->cursor_x = gpu->cursor_y = 0;
    gpu->hot_x = gpu->hot_y = 0;
    gpu->damage_count = 0;
    gpu->redraw = true;
    pthread_mutex_unlock(&gpu->lock);
}

static const struct state_field resource_fields[] = {
    STATE_INT(struct gpu_resource, id),
    STATE_INT(struct gpu_resource, format),
    STATE_INT(struct gpu_resource, width),
    STATE_INT(struct gpu_resource, height),
    STATE_BUFFER(struct gpu_resource, pixels, pixels_length, DISPLAY_MAX_PIXELS *PIXEL),
    STATE_BUFFER(struct gpu_resource, backing, backing_length,
                 GPU_MAX_BACKING * sizeof(struct gpu_backing)),
    STATE_END,
};

static const struct state_field rect_fields[] = {
    STATE_INT(struct gpu_rect, x),
    STATE_INT(struct gpu_rect, y),
    STATE_INT(struct gpu_rect, width),
    STATE_INT(struct gpu_rect, height),
    STATE_END,
};

const struct state_field gpu_fields[] = {
    STATE_STRUCT_ARRAY(struct gpu, resource, resource_fields),
    STATE_BOOL(struct gpu, used),
    STATE_INT(struct gpu, scanout),
    STATE_STRUCT(struct gpu, area, rect_fields),
    STATE_INT_ARRAY(struct gpu, cursor),
    STATE_BOOL(struct gpu, cursor_shown),
    STATE_INT(struct gpu, cursor_x),
    STATE_INT(struct gpu, cursor_y),
    STATE_INT(struct gpu, hot_x),
    STATE_INT(struct gpu, hot_y),
    STATE_END,
};

/* A free slot is empty; any other could have been made by gpu_create() and gpu_attach(). */
static bool is_possible(struct gpu *gpu, const struct gpu_resource *resource)
{
    if (!resource->id)
        return !resource->pixels_length && !resource->backing_length;
    return find(gpu, resource->id) == resource && is_format(resource->format) &&
           is_size(resource->width, resource->height) &&
           resource->pixels_length == resource->width * resource->height * PIXEL &&
           resource->backing_length % sizeof(struct gpu_backing) == 0;
}

int gpu_post_load(struct gpu *gpu, struct error *err)
{
    bool good = bytes_in_use(gpu) <= GPU_MAX_BYTES;

    for (unsigned i = 0; i < GPU_MAX_RESOURCES; i++)
        good &= is_possible(gpu, &gpu->resource[i]);
    const struct gpu_resource *shown = find(gpu, gpu->scanout);
    if (shown)
        good &= is_inside(&gpu->area, shown->width, shown->height) &&
                is_size(gpu->area.width, gpu->area.height);
    else
        good &= !gpu->scanout;
    if (!good)
        return error_set(err, -EBADMSG, "the saved state of the gpu describes impossible pictures");
    gpu->damage_count = 0;
    gpu->redraw = true;
    return 0;
}
