/*
 * What a virtio-gpu keeps and shows in its 2D mode: resources, one scanout, a cursor. VIRTIO 1.2,
 * section 5.7. No queues here: virtio_gpu.c reads the driver's requests and calls these.
 *
 *     guest memory --transfer--> resource --scanout, flush--> surface of the display
 *
 * A resource is the host's copy of a picture; its backing says where in guest memory the guest's
 * own is. All arguments are the guest's and may be anything.
 *
 * Threads: queue workers, viewers. `lock` comes after the display's.
 */
#ifndef SILL_DEV_DISPLAY_GPU_H
#define SILL_DEV_DISPLAY_GPU_H

#include <pthread.h>

#include "dev/display/display.h"
#include "mem/memory.h"
#include "state/state.h"

#define GPU_MAX_RESOURCES 128
/* Of all resources together, so that a guest cannot take the host's memory. */
#define GPU_MAX_BYTES (256 * MIB)
#define GPU_MAX_BACKING 16384 /* pieces of guest memory behind a resource */
#define GPU_CURSOR_EXTENT 64
#define GPU_MAX_DAMAGE 16

/* Answers, 5.7.6.7 */
enum gpu_result {
    GPU_OK = 0x1100,
    GPU_OK_DISPLAY_INFO = 0x1101,
    GPU_OK_EDID = 0x1104,
    GPU_ERROR_UNSPECIFIED = 0x1200,
    GPU_ERROR_OUT_OF_MEMORY = 0x1201,
    GPU_ERROR_SCANOUT = 0x1202,
    GPU_ERROR_RESOURCE = 0x1203,
    GPU_ERROR_PARAMETER = 0x1205,
};

struct gpu_backing {
    uint64_t gpa;
    uint32_t length;
    uint32_t padding;
};

/* A slot is free while its id is 0. */
struct gpu_resource {
    uint32_t id;
    uint32_t format;
    uint32_t width, height;
    uint8_t *pixels; /* 4 bytes each, width * height of them */
    uint32_t pixels_length;
    uint8_t *backing; /* of struct gpu_backing */
    uint32_t backing_length;
};

struct gpu_rect {
    uint32_t x, y, width, height;
};

struct gpu {
    struct memory *memory;

    pthread_mutex_t lock;
    struct gpu_resource resource[GPU_MAX_RESOURCES];
    bool used;            /* a driver has shown something: the screen is no longer the VGA's */
    uint32_t scanout;     /* resource that is shown, 0: none */
    struct gpu_rect area; /* of it */

    uint32_t cursor[GPU_CURSOR_EXTENT * GPU_CURSOR_EXTENT]; /* 0xAARRGGBB, premultiplied */
    bool cursor_shown;
    int32_t cursor_x, cursor_y; /* of its top left */
    uint32_t hot_x, hot_y;

    /* What the next refresh draws; not saved. In coordinates of the screen. */
    bool redraw;
    unsigned damage_count;
    struct gpu_rect damage[GPU_MAX_DAMAGE];
};

void gpu_init(struct gpu *gpu, struct memory *memory);
void gpu_done(struct gpu *gpu);
/* The driver's reset: nothing is left. */
void gpu_reset(struct gpu *gpu);

/* STATE_STRUCT(struct my, gpu, gpu_fields), and in its post_load: */
extern const struct state_field gpu_fields[];
SILL_CHECKED int gpu_post_load(struct gpu *gpu, struct error *err);

/* The requests of 5.7.6.8 and 5.7.6.10. */
enum gpu_result gpu_create(struct gpu *gpu, uint32_t id, uint32_t format, uint32_t width,
                           uint32_t height);
enum gpu_result gpu_unref(struct gpu *gpu, uint32_t id);
/* `backing` is of malloc() and the resource's if this succeeds, else still the caller's. */
enum gpu_result gpu_attach(struct gpu *gpu, uint32_t id, struct gpu_backing *backing,
                           uint32_t count);
enum gpu_result gpu_detach(struct gpu *gpu, uint32_t id);
enum gpu_result gpu_transfer(struct gpu *gpu, uint32_t id, const struct gpu_rect *rect,
                             uint64_t offset);
enum gpu_result gpu_set_scanout(struct gpu *gpu, uint32_t scanout, uint32_t id,
                                const struct gpu_rect *rect);
enum gpu_result gpu_flush(struct gpu *gpu, uint32_t id, const struct gpu_rect *rect);
/* Resource 0: no cursor. */
void gpu_update_cursor(struct gpu *gpu, uint32_t id, uint32_t x, uint32_t y, uint32_t hot_x,
                       uint32_t hot_y);
void gpu_move_cursor(struct gpu *gpu, uint32_t x, uint32_t y);

/* Has a driver taken the screen? */
bool gpu_is_used(struct gpu *gpu);
/* As display_source_ops.refresh. */
void gpu_refresh(struct gpu *gpu, struct display *display);

#endif
