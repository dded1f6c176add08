/*
 * The virtio entropy device: fills the driver's buffers from the host's generator. VIRTIO 1.2,
 * section 5.4. All work is done on the queue's worker thread.
 */
#include "dev/virtio/virtio_rng.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define QUEUE_SIZE 64
/* One request gets this much at most, so that a huge one does not hold the worker for long. */
#define REQUEST_MAX (64 * KIB)
#define RNG_CLASS 0x00ff00

struct virtio_rng {
    struct virtio_pci virtio;
};

/* Fills [to, to + length) and returns how much of it; short only when the host fails. */
static size_t fill(uint8_t *to, size_t length)
{
    size_t done = 0;

    while (done < length) {
        ssize_t got = getrandom(to + done, length - done, 0);
        if (got < 0 && errno != EINTR)
            break;
        if (got > 0)
            done += (size_t)got;
    }
    return done;
}

static void rng_serve(struct virtio_queue *queue)
{
    struct virtq_chain chain;
    struct iovec iov[VIRTQ_MAX_SEGMENTS];

    while (virtio_queue_pop(queue, &chain)) {
        unsigned count = virtq_chain_iov(&chain, true, 0, REQUEST_MAX, iov);
        size_t written = 0;
        for (unsigned i = 0; i < count; i++)
            written += fill(iov[i].iov_base, iov[i].iov_len);
        virtio_queue_push(queue, &chain, (uint32_t)written);
    }
}

static const struct virtio_device_ops rng_virtio_ops = {
    .serve = rng_serve,
};

static void rng_destroy(struct device *dev)
{
    struct virtio_rng *rng = CONTAINER_OF(dev, struct virtio_rng, virtio.pci.dev);

    virtio_pci_done(&rng->virtio);
    free(rng);
}

static int rng_post_load(void *object, struct error *err)
{
    struct virtio_rng *rng = object;

    return virtio_pci_post_load(&rng->virtio, err);
}

static const struct state_field rng_fields[] = {
    STATE_STRUCT(struct virtio_rng, virtio, virtio_pci_fields),
    STATE_END,
};

static const struct state_desc rng_state = {
    .name = "virtio-rng",
    .version = 1,
    .fields = rng_fields,
    .post_load = rng_post_load,
};

static const struct device_ops rng_ops = {
    .type = "virtio-rng",
    .start = virtio_pci_start,
    .pause = virtio_pci_pause,
    .resume = virtio_pci_resume,
    .reset = virtio_pci_reset,
    .destroy = rng_destroy,
    .state = &rng_state,
};

int virtio_rng_new(struct device **out, const struct virtio_pci_config *config, struct error *err)
{
    struct virtio_rng *rng = calloc(1, sizeof(*rng));

    if (!rng)
        return error_set(err, -ENOMEM, "%s: no memory for the device", config->name);
    virtio_init(&rng->virtio.vdev, VIRTIO_TYPE_RNG, config->name, &rng_virtio_ops, 0, 1, QUEUE_SIZE,
                config->bus->memory);
    int ret = virtio_pci_attach(&rng->virtio, config, RNG_CLASS, &rng_ops, err);
    if (ret) {
        rng_destroy(&rng->virtio.pci.dev);
        return ret;
    }
    *out = &rng->virtio.pci.dev;
    return 0;
}
