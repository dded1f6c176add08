/* Requests to the GPU; see virtio_gpu.h. Queue workers. */
#include "dev/display/virtio_gpu.h"

#include <stdlib.h>
#include <string.h>

#include "dev/display/edid.h"
#include "dev/display/vga.h"

#define QUEUE_SIZE 256
#define QUEUES 2
#define CONTROL_QUEUE 0

#define F_EDID (1ull << 1)

/* Requests, 5.7.6.7 */
enum request {
    GET_DISPLAY_INFO = 0x0100,
    RESOURCE_CREATE_2D = 0x0101,
    RESOURCE_UNREF = 0x0102,
    SET_SCANOUT = 0x0103,
    RESOURCE_FLUSH = 0x0104,
    TRANSFER_TO_HOST_2D = 0x0105,
    RESOURCE_ATTACH_BACKING = 0x0106,
    RESOURCE_DETACH_BACKING = 0x0107,
    GET_EDID = 0x010a,
    UPDATE_CURSOR = 0x0300,
    MOVE_CURSOR = 0x0301,
};

#define FLAG_FENCE 1u
#define SCANOUTS 16 /* places in the answer, whatever there is */
#define EDID_SPACE 1024

/* Structures of 5.7.6; all fields are little-endian, as is the host. */
struct header {
    uint32_t type;
    uint32_t flags;
    uint64_t fence_id;
    uint32_t context_id;
    uint32_t ring_index;
};

struct request_create {
    uint32_t id, format, width, height;
};

struct request_scanout {
    struct gpu_rect rect;
    uint32_t scanout, id;
};

struct request_flush {
    struct gpu_rect rect;
    uint32_t id, padding;
};

struct request_transfer {
    struct gpu_rect rect;
    uint64_t offset;
    uint32_t id, padding;
};

struct request_attach {
    uint32_t id, count;
};

struct request_cursor {
    uint32_t scanout, x, y, padding;
    uint32_t id, hot_x, hot_y, padding2;
};

struct answer_display {
    struct {
        struct gpu_rect rect;
        uint32_t enabled, flags;
    } mode[SCANOUTS];
};

struct answer_edid {
    uint32_t size, padding;
    uint8_t edid[EDID_SPACE];
};

struct answer {
    struct header header;
    union {
        struct answer_display display;
        struct answer_edid edid;
    };
};

static const struct {
    uint32_t events_read, events_clear, scanouts, capability_sets;
} configuration = {.scanouts = 1};

void virtio_gpu_init(struct virtio_device *vdev, const char *name,
                     const struct virtio_device_ops *ops, struct memory *memory)
{
    virtio_init(vdev, VIRTIO_TYPE_GPU, name, ops, F_EDID, QUEUES, QUEUE_SIZE, memory);
    vdev->config = &configuration;
    vdev->config_size = sizeof(configuration);
}

/* The part of the request behind its header; false when it is shorter than that. */
static bool body(const struct virtq_chain *chain, void *to, size_t size)
{
    return virtq_chain_read(chain, sizeof(struct header), to, size) == size;
}

static enum gpu_result attach(struct gpu *gpu, const struct virtq_chain *chain)
{
    struct request_attach request;

    if (!body(chain, &request, sizeof(request)) || request.count > GPU_MAX_BACKING)
        return GPU_ERROR_UNSPECIFIED;
    size_t size = request.count * sizeof(struct gpu_backing);
    struct gpu_backing *backing = malloc(size + 1);
    if (!backing)
        return GPU_ERROR_OUT_OF_MEMORY;
    enum gpu_result result = GPU_ERROR_UNSPECIFIED;
    size_t at = sizeof(struct header) + sizeof(request);
    if (virtq_chain_read(chain, at, backing, size) == size)
        result = gpu_attach(gpu, request.id, backing, request.count);
    if (result != GPU_OK)
        free(backing);
    return result;
}

static enum gpu_result display_info(struct answer *answer, size_t *size)
{
    answer->display = (struct answer_display){0};
    answer->display.mode[0].rect =
        (struct gpu_rect){.width = VGA_PREFERRED_WIDTH, .height = VGA_PREFERRED_HEIGHT};
    answer->display.mode[0].enabled = 1;
    *size += sizeof(answer->display);
    return GPU_OK_DISPLAY_INFO;
}

static enum gpu_result edid(const struct virtq_chain *chain, struct answer *answer, size_t *size)
{
    uint32_t scanout;

    if (!body(chain, &scanout, sizeof(scanout)) || scanout)
        return GPU_ERROR_SCANOUT;
    answer->edid = (struct answer_edid){.size = EDID_SIZE};
    edid_fill(answer->edid.edid, VGA_PREFERRED_WIDTH, VGA_PREFERRED_HEIGHT);
    *size += sizeof(answer->edid);
    return GPU_OK_EDID;
}

/* Does what the request asks for. `*size` grows by what is put behind the answer's header. */
static enum gpu_result control(struct gpu *gpu, uint32_t type, const struct virtq_chain *chain,
                               struct answer *answer, size_t *size)
{
    union {
        struct request_create create;
        struct request_scanout scanout;
        struct request_flush flush;
        struct request_transfer transfer;
        uint32_t id;
    } r;

    switch (type) {
    case GET_DISPLAY_INFO:
        return display_info(answer, size);
    case GET_EDID:
        return edid(chain, answer, size);
    case RESOURCE_CREATE_2D:
        if (!body(chain, &r.create, sizeof(r.create)))
            return GPU_ERROR_UNSPECIFIED;
        return gpu_create(gpu, r.create.id, r.create.format, r.create.width, r.create.height);
    case RESOURCE_UNREF:
        if (!body(chain, &r.id, sizeof(r.id)))
            return GPU_ERROR_UNSPECIFIED;
        return gpu_unref(gpu, r.id);
    case SET_SCANOUT:
        if (!body(chain, &r.scanout, sizeof(r.scanout)))
            return GPU_ERROR_UNSPECIFIED;
        return gpu_set_scanout(gpu, r.scanout.scanout, r.scanout.id, &r.scanout.rect);
    case RESOURCE_FLUSH:
        if (!body(chain, &r.flush, sizeof(r.flush)))
            return GPU_ERROR_UNSPECIFIED;
        return gpu_flush(gpu, r.flush.id, &r.flush.rect);
    case TRANSFER_TO_HOST_2D:
        if (!body(chain, &r.transfer, sizeof(r.transfer)))
            return GPU_ERROR_UNSPECIFIED;
        return gpu_transfer(gpu, r.transfer.id, &r.transfer.rect, r.transfer.offset);
    case RESOURCE_ATTACH_BACKING:
        return attach(gpu, chain);
    case RESOURCE_DETACH_BACKING:
        if (!body(chain, &r.id, sizeof(r.id)))
            return GPU_ERROR_UNSPECIFIED;
        return gpu_detach(gpu, r.id);
    default:
        return GPU_ERROR_UNSPECIFIED;
    }
}

static enum gpu_result cursor(struct gpu *gpu, uint32_t type, const struct virtq_chain *chain)
{
    struct request_cursor r;

    if (!body(chain, &r, sizeof(r)))
        return GPU_ERROR_UNSPECIFIED;
    if (r.scanout)
        return GPU_ERROR_SCANOUT;
    switch (type) {
    case UPDATE_CURSOR:
        gpu_update_cursor(gpu, r.id, r.x, r.y, r.hot_x, r.hot_y);
        return GPU_OK;
    case MOVE_CURSOR:
        gpu_move_cursor(gpu, r.x, r.y);
        return GPU_OK;
    default:
        return GPU_ERROR_UNSPECIFIED;
    }
}

void virtio_gpu_serve(struct gpu *gpu, struct virtio_queue *queue)
{
    struct virtq_chain chain;

    while (virtio_queue_pop(queue, &chain)) {
        struct header header = {0};
        struct answer answer;
        size_t size = sizeof(answer.header);

        /* One that is too short for a header has type 0, which is no request. */
        virtq_chain_read(&chain, 0, &header, sizeof(header));
        enum gpu_result result = queue->index == CONTROL_QUEUE
                                     ? control(gpu, header.type, &chain, &answer, &size)
                                     : cursor(gpu, header.type, &chain);
        answer.header = (struct header){.type = result};
        if (header.flags & FLAG_FENCE) {
            answer.header.flags = FLAG_FENCE;
            answer.header.fence_id = header.fence_id;
            answer.header.context_id = header.context_id;
        }
        virtio_queue_push(queue, &chain, (uint32_t)virtq_chain_write(&chain, 0, &answer, size));
    }
}
