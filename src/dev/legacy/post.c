/*
 * Port 0x80: see post.h. Kernels write it before nearly every slow port access, from any vCPU
 * thread, so the one byte is an atomic rather than behind a lock.
 */
#include "dev/legacy/post.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define POST_PORT 0x80

struct post {
    struct device device;
    struct region region;
    _Atomic uint8_t code; /* the latest progress code */
};

static enum bus_result post_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct post *post = opaque;

    *value = atomic_load_explicit(&post->code, memory_order_relaxed);
    return BUS_OK;
}

static enum bus_result post_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct post *post = opaque;

    atomic_store_explicit(&post->code, value, memory_order_relaxed);
    return BUS_OK;
}

static const struct region_ops post_region_ops = {
    .read = post_read, .write = post_write, .max_size = 1};

static void post_reset(struct device *device)
{
    struct post *post = CONTAINER_OF(device, struct post, device);

    atomic_store(&post->code, 0);
}

static void post_destroy(struct device *device)
{
    free(CONTAINER_OF(device, struct post, device));
}

static const struct state_field post_fields[] = {
    STATE_INT(struct post, code),
    STATE_END,
};

static const struct state_desc post_state = {
    .name = "post",
    .version = 1,
    .fields = post_fields,
};

static const struct device_ops post_ops = {
    .type = "post",
    .reset = post_reset,
    .destroy = post_destroy,
    .state = &post_state,
};

int post_new(struct post **out)
{
    struct post *post = calloc(1, sizeof(*post));

    if (!post)
        return -ENOMEM;
    post->device = (struct device){.ops = &post_ops, .name = "post", .state_object = post};
    post->region =
        (struct region){.name = "POST code", .ops = &post_region_ops, .opaque = post, .size = 1};
    *out = post;
    return 0;
}

int post_attach(struct post *post, struct bus *bus, struct error *err)
{
    return bus_add(bus, BUS_PORT, &post->region, POST_PORT, err);
}

struct device *post_device(struct post *post)
{
    return &post->device;
}
