/*
 * The common part of virtio devices; see virtio.h for threads and locks.
 * VIRTIO 1.2: 2.1 (status), 2.2 (features), 2.6.1 (queue reset), 3.1 (initialization).
 *
 * A queue runs while the driver has enabled it and set DRIVER_OK, the VM is not paused and the
 * device may access memory. Whatever changes one of these calls update_queues().
 */
#include "dev/virtio/virtio.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define COMMON_FEATURES                                                                            \
    (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET)

/* The worker thread of a queue. */

static void *worker_main(void *opaque)
{
    struct virtio_queue *queue = opaque;

    pthread_mutex_lock(&queue->worker_lock);
    while (!queue->quit) {
        if (!queue->runs || !queue->kicked) {
            pthread_cond_wait(&queue->worker_wake, &queue->worker_lock);
            continue;
        }
        queue->kicked = false;
        queue->busy = true;
        pthread_mutex_unlock(&queue->worker_lock);
        queue->vdev->ops->serve(queue);
        pthread_mutex_lock(&queue->worker_lock);
        queue->busy = false;
        pthread_cond_broadcast(&queue->worker_idle);
    }
    pthread_mutex_unlock(&queue->worker_lock);
    return NULL;
}

/* worker_lock is held. */
static int worker_create(struct virtio_queue *queue)
{
    sigset_t all, before;
    char name[16]; /* the kernel's limit */

    /* Signals are for the control and vCPU threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int ret = pthread_create(&queue->worker, NULL, worker_main, queue);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ret)
        return -ret;
    snprintf(name, sizeof(name), "%.10s/%u", queue->vdev->name, queue->index % 1000);
    pthread_setname_np(queue->worker, name);
    queue->worker_exists = true;
    return 0;
}

void virtio_queue_kick(struct virtio_queue *queue)
{
    int ret = 0;

    pthread_mutex_lock(&queue->worker_lock);
    queue->kicked = true;
    if (queue->runs && !queue->worker_exists)
        ret = worker_create(queue);
    pthread_cond_signal(&queue->worker_wake);
    pthread_mutex_unlock(&queue->worker_lock);
    if (ret) {
        log_error("%s: no thread for queue %u: %s", queue->vdev->name, queue->index,
                  strerror(-ret));
        virtio_needs_reset(queue->vdev, "no thread for a queue");
    }
}

/* Running and stopping queues; the control lock is held. */

static void queue_start(struct virtio_queue *queue)
{
    struct virtio_device *vdev = queue->vdev;

    pthread_mutex_lock(&queue->lock);
    queue->ring.event_index = virtio_has_feature(vdev, VIRTIO_F_EVENT_IDX);
    queue->ring.indirect = virtio_has_feature(vdev, VIRTIO_F_INDIRECT_DESC);
    int ret = virtqueue_map(&queue->ring);
    pthread_mutex_unlock(&queue->lock);
    if (ret) {
        virtio_needs_reset(vdev, "a queue's rings are not in guest memory");
        return;
    }
    queue->runs = true;
    /* What the driver made available until now is not announced again. */
    pthread_mutex_lock(&queue->lock);
    bool work = virtqueue_enable_notifications(&queue->ring);
    pthread_mutex_unlock(&queue->lock);
    if (work)
        virtio_queue_kick(queue);
}

static void queue_stop(struct virtio_queue *queue)
{
    pthread_mutex_lock(&queue->worker_lock);
    queue->runs = false;
    while (queue->busy)
        pthread_cond_wait(&queue->worker_idle, &queue->worker_lock);
    pthread_mutex_unlock(&queue->worker_lock);
    if (queue->vdev->ops->drain)
        queue->vdev->ops->drain(queue);
}

static void update_queues(struct virtio_device *vdev)
{
    bool may_run = vdev->status & VIRTIO_STATUS_DRIVER_OK && !vdev->paused &&
                   vdev->transport->may_access(vdev);

    for (unsigned i = 0; i < vdev->queue_count; i++) {
        struct virtio_queue *queue = &vdev->queue[i];
        bool run = may_run && queue->enabled && !queue->ring.broken;
        if (queue->runs && !(may_run && queue->enabled))
            queue_stop(queue);
        else if (run && !queue->runs)
            queue_start(queue);
    }
}

static void queue_clear(struct virtio_queue *queue)
{
    queue->enabled = false;
    update_queues(queue->vdev);
    queue->vector = VIRTIO_NO_VECTOR;
    pthread_mutex_lock(&queue->lock);
    virtqueue_reset(&queue->ring);
    pthread_mutex_unlock(&queue->lock);
}

void virtio_queue_enable(struct virtio_queue *queue)
{
    if (!(queue->vdev->status & VIRTIO_STATUS_FEATURES_OK))
        return;
    queue->enabled = true;
    update_queues(queue->vdev);
}

void virtio_queue_reset(struct virtio_queue *queue)
{
    if (virtio_has_feature(queue->vdev, VIRTIO_F_RING_RESET))
        queue_clear(queue);
}

void virtio_access_changed(struct virtio_device *vdev)
{
    pthread_mutex_lock(&vdev->control);
    update_queues(vdev);
    pthread_mutex_unlock(&vdev->control);
}

void virtio_notify(struct virtio_device *vdev, unsigned index)
{
    if (index < vdev->queue_count)
        virtio_queue_kick(&vdev->queue[index]);
}

/* Status and features; the control lock is held. */

void virtio_set_driver_features(struct virtio_device *vdev, unsigned word, uint32_t value)
{
    /* 3.1.1: settled with FEATURES_OK. */
    if (word > 1 || vdev->status & VIRTIO_STATUS_FEATURES_OK)
        return;
    vdev->driver_features &= ~(0xffffffffull << 32 * word);
    vdev->driver_features |= (uint64_t)value << 32 * word;
}

static void device_reset(struct virtio_device *vdev)
{
    for (unsigned i = 0; i < vdev->queue_count; i++)
        queue_clear(&vdev->queue[i]);
    vdev->driver_features = 0;
    vdev->status = 0;
    if (vdev->ops->reset)
        vdev->ops->reset(vdev);
}

void virtio_set_status(struct virtio_device *vdev, uint8_t status)
{
    if (!status) {
        device_reset(vdev);
        return;
    }
    /* 2.1.1: the driver only ever adds bits; DEVICE_NEEDS_RESET is not its to set. */
    status &= (uint8_t)~VIRTIO_STATUS_NEEDS_RESET;
    bool acceptable =
        !(vdev->driver_features & ~vdev->features) && virtio_has_feature(vdev, VIRTIO_F_VERSION_1);
    if (!acceptable)
        status &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
    if (!((vdev->status | status) & VIRTIO_STATUS_FEATURES_OK))
        status &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
    atomic_fetch_or(&vdev->status, status);
    update_queues(vdev);
}

/* Device-specific configuration. */

uint32_t virtio_config_read(const struct virtio_device *vdev, unsigned offset, unsigned size)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < size && offset + i < vdev->config_size; i++)
        value |= (uint32_t)((const uint8_t *)vdev->config)[offset + i] << 8 * i;
    return value;
}

void virtio_config_write(struct virtio_device *vdev, unsigned offset, unsigned size, uint32_t value)
{
    if (vdev->ops->config_written)
        vdev->ops->config_written(vdev, offset, size, value);
}

void virtio_config_changed(struct virtio_device *vdev)
{
    vdev->config_generation++;
    if (vdev->status & VIRTIO_STATUS_DRIVER_OK)
        vdev->transport->interrupt(vdev, NULL);
}

void virtio_needs_reset(struct virtio_device *vdev, const char *why)
{
    uint8_t before = atomic_fetch_or(&vdev->status, VIRTIO_STATUS_NEEDS_RESET);

    if (before & VIRTIO_STATUS_NEEDS_RESET)
        return;
    log_guest(vdev->name, "%s; the driver must reset the device", why);
    if (before & VIRTIO_STATUS_DRIVER_OK)
        vdev->transport->interrupt(vdev, NULL);
}

/* Requests. */

bool virtio_queue_pop(struct virtio_queue *queue, struct virtq_chain *chain)
{
    int ret;

    if (!queue->runs)
        return false;
    pthread_mutex_lock(&queue->lock);
    do
        ret = virtqueue_pop(&queue->ring, chain);
    while (!ret && virtqueue_enable_notifications(&queue->ring));
    if (ret > 0)
        virtqueue_disable_notifications(&queue->ring);
    pthread_mutex_unlock(&queue->lock);
    if (ret < 0)
        virtio_needs_reset(queue->vdev, "malformed ring or descriptor chain");
    return ret > 0;
}

void virtio_queue_put(struct virtio_queue *queue, const struct virtq_chain *chain, uint32_t written)
{
    pthread_mutex_lock(&queue->lock);
    virtqueue_put(&queue->ring, chain, written);
    pthread_mutex_unlock(&queue->lock);
}

void virtio_queue_publish(struct virtio_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    virtqueue_publish(&queue->ring);
    pthread_mutex_unlock(&queue->lock);
}

void virtio_queue_retract(struct virtio_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    virtqueue_retract(&queue->ring);
    pthread_mutex_unlock(&queue->lock);
}

void virtio_queue_interrupt(struct virtio_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    bool interrupt = virtqueue_should_interrupt(&queue->ring);
    pthread_mutex_unlock(&queue->lock);
    if (interrupt)
        queue->vdev->transport->interrupt(queue->vdev, queue);
}

void virtio_queue_push(struct virtio_queue *queue, const struct virtq_chain *chain,
                       uint32_t written)
{
    pthread_mutex_lock(&queue->lock);
    virtqueue_push(&queue->ring, chain, written);
    bool interrupt = virtqueue_should_interrupt(&queue->ring);
    pthread_mutex_unlock(&queue->lock);
    if (interrupt)
        queue->vdev->transport->interrupt(queue->vdev, queue);
}

void virtio_queue_unpop(struct virtio_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    virtqueue_unpop(&queue->ring);
    pthread_mutex_unlock(&queue->lock);
}

void virtio_queue_break(struct virtio_queue *queue, const char *why)
{
    pthread_mutex_lock(&queue->lock);
    queue->ring.broken = true;
    pthread_mutex_unlock(&queue->lock);
    virtio_needs_reset(queue->vdev, why);
}

/* Life. */

void virtio_init(struct virtio_device *vdev, enum virtio_type type, const char *name,
                 const struct virtio_device_ops *ops, uint64_t features, unsigned queue_count,
                 uint16_t queue_size, struct memory *memory)
{
    assert(queue_count <= VIRTIO_MAX_QUEUES);
    assert(is_power_of_two(queue_size) && queue_size <= VIRTQ_MAX_SIZE);

    vdev->ops = ops;
    vdev->memory = memory;
    vdev->name = name;
    vdev->type = type;
    vdev->features = features | COMMON_FEATURES;
    vdev->queue_count = queue_count;
    vdev->paused = true;
    pthread_mutex_init(&vdev->control, NULL);
    for (unsigned i = 0; i < queue_count; i++) {
        struct virtio_queue *queue = &vdev->queue[i];
        queue->vdev = vdev;
        queue->index = i;
        queue->vector = VIRTIO_NO_VECTOR;
        queue->ring.memory = memory;
        queue->ring.max_size = queue_size;
        virtqueue_reset(&queue->ring);
        pthread_mutex_init(&queue->lock, NULL);
        pthread_mutex_init(&queue->worker_lock, NULL);
        pthread_cond_init(&queue->worker_wake, NULL);
        pthread_cond_init(&queue->worker_idle, NULL);
    }
}

void virtio_done(struct virtio_device *vdev)
{
    for (unsigned i = 0; i < vdev->queue_count; i++) {
        struct virtio_queue *queue = &vdev->queue[i];
        if (queue->runs)
            queue_stop(queue);
        pthread_mutex_lock(&queue->worker_lock);
        queue->quit = true;
        pthread_cond_signal(&queue->worker_wake);
        pthread_mutex_unlock(&queue->worker_lock);
        if (queue->worker_exists)
            pthread_join(queue->worker, NULL);
        pthread_cond_destroy(&queue->worker_idle);
        pthread_cond_destroy(&queue->worker_wake);
        pthread_mutex_destroy(&queue->worker_lock);
        pthread_mutex_destroy(&queue->lock);
    }
    pthread_mutex_destroy(&vdev->control);
}

void virtio_pause(struct virtio_device *vdev)
{
    pthread_mutex_lock(&vdev->control);
    vdev->paused = true;
    update_queues(vdev);
    pthread_mutex_unlock(&vdev->control);
}

void virtio_resume(struct virtio_device *vdev)
{
    pthread_mutex_lock(&vdev->control);
    vdev->paused = false;
    update_queues(vdev);
    pthread_mutex_unlock(&vdev->control);
}

/* State. */

static const struct state_field queue_fields[] = {
    STATE_BOOL(struct virtio_queue, enabled),
    STATE_INT(struct virtio_queue, vector),
    STATE_STRUCT(struct virtio_queue, ring, virtqueue_fields),
    STATE_END,
};

const struct state_field virtio_device_fields[] = {
    STATE_INT(struct virtio_device, driver_features),
    STATE_INT(struct virtio_device, status),
    STATE_INT(struct virtio_device, config_generation),
    STATE_STRUCT_ARRAY(struct virtio_device, queue, queue_fields),
    STATE_END,
};

int virtio_post_load(struct virtio_device *vdev, struct error *err)
{
    uint64_t unknown = vdev->driver_features & ~vdev->features;

    if (vdev->status & VIRTIO_STATUS_FEATURES_OK && unknown)
        return error_set(err, -EBADMSG,
                         "%s: the saved state uses virtio features (0x%" PRIx64
                         ") that this device does not offer",
                         vdev->name, unknown);
    if (vdev->status & VIRTIO_STATUS_DRIVER_OK && !(vdev->status & VIRTIO_STATUS_FEATURES_OK))
        return error_set(err, -EBADMSG, "%s: the saved virtio status 0x%x is impossible",
                         vdev->name, vdev->status);
    return 0;
}
