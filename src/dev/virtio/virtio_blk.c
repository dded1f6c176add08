/*
 * The virtio block device. VIRTIO 1.2, section 5.2.
 *
 * Threads: the worker of each queue parses requests and submits them in batches; they complete on
 * the image's I/O thread, which pushes them to the queue.
 */
#include "dev/virtio/virtio_blk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE 128
#define SEGMENTS_MAX (QUEUE_SIZE - 2) /* header and status take a descriptor each */
#define BATCH_MAX 32

/* 1 GiB in one request is plenty and keeps a slow host busy for a bounded time. */
#define RANGE_SECTORS_MAX (1u << 21)
#define DISCARD_ALIGNMENT_SECTORS 8u

#define STORAGE_CLASS 0x010000

/* Feature bits, 5.2.3 */
#define BLK_F_SEG_MAX (1ull << 2)
#define BLK_F_RO (1ull << 5)
#define BLK_F_BLK_SIZE (1ull << 6)
#define BLK_F_FLUSH (1ull << 9)
#define BLK_F_MQ (1ull << 12)
#define BLK_F_DISCARD (1ull << 13)
#define BLK_F_WRITE_ZEROES (1ull << 14)

/* Request types and status, 5.2.6 */
enum blk_type {
    BLK_T_IN = 0,
    BLK_T_OUT = 1,
    BLK_T_FLUSH = 4,
    BLK_T_GET_ID = 8,
    BLK_T_DISCARD = 11,
    BLK_T_WRITE_ZEROES = 13,
};

enum blk_status {
    BLK_S_OK = 0,
    BLK_S_IOERR = 1,
    BLK_S_UNSUPP = 2,
};

/* What begins the readable part of each request. */
struct blk_header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};

/* What follows the header of discard and write zeroes. */
struct blk_range {
    uint64_t sector;
    uint32_t sectors;
    uint32_t flags;
};

#define RANGE_UNMAP 1u

/* struct virtio_blk_config, 5.2.4; little endian, as the host is. */
struct blk_config {
    uint64_t capacity;
    uint32_t size_max;
    uint32_t seg_max;
    uint32_t geometry;
    uint32_t blk_size;
    uint64_t topology;
    uint8_t writeback;
    uint8_t unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors;
    uint32_t max_discard_seg;
    uint32_t discard_sector_alignment;
    uint32_t max_write_zeroes_sectors;
    uint32_t max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap;
    uint8_t unused1[3];
} __attribute__((packed));

_Static_assert(offsetof(struct blk_config, max_discard_sectors) == 36, "5.2.4");
_Static_assert(sizeof(struct blk_config) == 60, "5.2.4");

struct blk_request {
    struct block_request io;
    struct virtio_blk *blk;
    struct virtio_queue *queue;
    struct blk_request *next_free;
    struct virtq_chain chain;
    struct iovec iov[VIRTQ_MAX_SEGMENTS];
};

/* Requests in use and for use again: as many as were ever in flight, so at most the queue's size.
 */
struct blk_pool {
    pthread_mutex_t lock;
    pthread_cond_t idle;
    struct blk_request *free;
    unsigned in_flight;
};

struct virtio_blk {
    struct virtio_pci virtio;
    struct block_device *disk;
    struct blk_config config;
    uint64_t capacity; /* sectors; saved, to be compared on restore */
    char serial[BLOCK_SERIAL_MAX];
    struct blk_pool pool[VIRTIO_BLK_MAX_QUEUES];
};

static struct virtio_blk *of_vdev(struct virtio_device *vdev)
{
    return CONTAINER_OF(vdev, struct virtio_blk, virtio.vdev);
}

/* The pool. */

static struct blk_request *pool_take(struct virtio_blk *blk, struct virtio_queue *queue)
{
    struct blk_pool *pool = &blk->pool[queue->index];

    pthread_mutex_lock(&pool->lock);
    struct blk_request *request = pool->free;
    if (request)
        pool->free = request->next_free;
    else
        request = malloc(sizeof(*request));
    if (request) {
        pool->in_flight++;
        request->blk = blk;
        request->queue = queue;
    }
    pthread_mutex_unlock(&pool->lock);
    return request;
}

static void pool_give(struct blk_request *request)
{
    struct blk_pool *pool = &request->blk->pool[request->queue->index];

    pthread_mutex_lock(&pool->lock);
    request->next_free = pool->free;
    pool->free = request;
    if (!--pool->in_flight)
        pthread_cond_broadcast(&pool->idle);
    pthread_mutex_unlock(&pool->lock);
}

static void blk_drain(struct virtio_queue *queue)
{
    struct blk_pool *pool = &of_vdev(queue->vdev)->pool[queue->index];

    pthread_mutex_lock(&pool->lock);
    while (pool->in_flight)
        pthread_cond_wait(&pool->idle, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

/* Answering. */

/* The status is the last writable byte. */
static void answer(struct blk_request *request, enum blk_status status)
{
    uint8_t byte = (uint8_t)status;

    virtq_chain_write(&request->chain, request->chain.writable_length - 1, &byte, 1);
    virtio_queue_push(request->queue, &request->chain, request->chain.writable_length);
    pool_give(request);
}

static void blk_done(struct block_request *io, int result)
{
    struct blk_request *request = CONTAINER_OF(io, struct blk_request, io);
    struct virtio_blk *blk = request->blk;
    bool writes = io->op == BLOCK_WRITE || io->op == BLOCK_WRITE_ZEROES;

    /* 5.2.6.2: for a driver without flush a write is durable when it completes. */
    if (!result && writes && !virtio_has_feature(&blk->virtio.vdev, BLK_F_FLUSH)) {
        io->op = BLOCK_FLUSH;
        block_submit(blk->disk, io);
        return;
    }
    answer(request, result ? BLK_S_IOERR : BLK_S_OK);
}

/* Parsing. Each returns true when `request->io` is to be submitted, else with the status. */

static bool sectors_to_bytes(const struct virtio_blk *blk, uint64_t sector, uint64_t *offset)
{
    if (sector > blk->capacity)
        return false;
    *offset = sector * BLOCK_SECTOR;
    return true;
}

static bool parse_transfer(struct blk_request *request, const struct blk_header *header,
                           enum blk_status *status)
{
    struct virtq_chain *chain = &request->chain;
    bool read = header->type == BLK_T_IN;
    uint64_t length = read ? chain->writable_length - 1 : chain->readable_length - sizeof(*header);

    *status = BLK_S_IOERR;
    if (length % BLOCK_SECTOR ||
        !sectors_to_bytes(request->blk, header->sector, &request->io.offset))
        return false;
    request->io.op = read ? BLOCK_READ : BLOCK_WRITE;
    request->io.length = length;
    request->io.iov = request->iov;
    request->io.iov_count =
        virtq_chain_iov(chain, read, read ? 0 : sizeof(*header), length, request->iov);
    return true;
}

static bool parse_range(struct blk_request *request, const struct blk_header *header,
                        enum blk_status *status)
{
    bool discard = header->type == BLK_T_DISCARD;
    struct blk_range range;

    *status = BLK_S_UNSUPP;
    if (!virtio_has_feature(request->queue->vdev, discard ? BLK_F_DISCARD : BLK_F_WRITE_ZEROES))
        return false;
    *status = BLK_S_IOERR;
    /* The configuration allows one range. */
    if (request->chain.readable_length != sizeof(*header) + sizeof(range) ||
        virtq_chain_read(&request->chain, sizeof(*header), &range, sizeof(range)) !=
            sizeof(range) ||
        range.sectors > RANGE_SECTORS_MAX ||
        !sectors_to_bytes(request->blk, range.sector, &request->io.offset))
        return false;
    /* 5.2.6.2: unknown flags, and unmap with discard, are unsupported. */
    *status = BLK_S_UNSUPP;
    if (range.flags & (discard ? ~0u : ~RANGE_UNMAP))
        return false;
    request->io.op = discard ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES;
    request->io.length = (uint64_t)range.sectors * BLOCK_SECTOR;
    request->io.may_unmap = range.flags & RANGE_UNMAP && request->blk->disk->can_discard;
    return true;
}

static enum blk_status get_id(struct blk_request *request)
{
    const struct virtq_chain *chain = &request->chain;
    size_t room = chain->writable_length - 1;

    virtq_chain_write(chain, 0, request->blk->serial,
                      room < BLOCK_SERIAL_MAX ? room : BLOCK_SERIAL_MAX);
    return BLK_S_OK;
}

static bool parse(struct blk_request *request, const struct blk_header *header,
                  enum blk_status *status)
{
    request->io = (struct block_request){.done = blk_done};
    switch (header->type) {
    case BLK_T_IN:
    case BLK_T_OUT:
        return parse_transfer(request, header, status);
    case BLK_T_FLUSH:
        request->io.op = BLOCK_FLUSH;
        return true;
    case BLK_T_DISCARD:
    case BLK_T_WRITE_ZEROES:
        return parse_range(request, header, status);
    case BLK_T_GET_ID:
        *status = get_id(request);
        return false;
    default:
        *status = BLK_S_UNSUPP;
        return false;
    }
}

/* Takes one request off the queue. False: there is none. `*io` is what to submit for it, if
 * anything. */
static bool take_request(struct virtio_blk *blk, struct virtio_queue *queue,
                         struct block_request **io)
{
    struct blk_request *request = pool_take(blk, queue);
    struct blk_header header;
    enum blk_status status;

    *io = NULL;
    if (!request) {
        virtio_queue_break(queue, "no memory for a request");
        return false;
    }
    if (!virtio_queue_pop(queue, &request->chain)) {
        pool_give(request);
        return false;
    }
    if (virtq_chain_read(&request->chain, 0, &header, sizeof(header)) != sizeof(header) ||
        !request->chain.writable_length) {
        virtio_queue_break(queue, "block request without header or status");
        pool_give(request);
        return false;
    }
    if (parse(request, &header, &status))
        *io = &request->io;
    else
        answer(request, status);
    return true;
}

static void blk_serve(struct virtio_queue *queue)
{
    struct virtio_blk *blk = of_vdev(queue->vdev);
    struct block_request *batch = NULL;
    struct block_request **tail = &batch;
    struct block_request *io;
    unsigned count = 0;

    while (take_request(blk, queue, &io)) {
        if (!io)
            continue;
        *tail = io;
        tail = &io->next;
        if (++count == BATCH_MAX) {
            block_submit(blk->disk, batch);
            batch = NULL;
            tail = &batch;
            count = 0;
        }
    }
    if (batch)
        block_submit(blk->disk, batch);
}

static const struct virtio_device_ops blk_virtio_ops = {
    .serve = blk_serve,
    .drain = blk_drain,
};

/* Life. */

static void blk_free(struct virtio_blk *blk)
{
    for (unsigned i = 0; i < VIRTIO_BLK_MAX_QUEUES; i++) {
        struct blk_pool *pool = &blk->pool[i];
        while (pool->free) {
            struct blk_request *request = pool->free;
            pool->free = request->next_free;
            free(request);
        }
        pthread_cond_destroy(&pool->idle);
        pthread_mutex_destroy(&pool->lock);
    }
    free(blk);
}

static void blk_destroy(struct device *dev)
{
    struct virtio_blk *blk = CONTAINER_OF(dev, struct virtio_blk, virtio.pci.dev);

    virtio_pci_done(&blk->virtio);
    block_close(blk->disk);
    blk_free(blk);
}

static int blk_post_load(void *object, struct error *err)
{
    struct virtio_blk *blk = object;

    if (blk->capacity != blk->config.capacity)
        return error_set(err, -EBADMSG,
                         "%s: the disk had %llu sectors when the state was saved, %s has %llu",
                         blk->virtio.pci.dev.name, (unsigned long long)blk->capacity,
                         blk->disk->path, (unsigned long long)blk->config.capacity);
    return virtio_pci_post_load(&blk->virtio, err);
}

static const struct state_field blk_fields[] = {
    STATE_STRUCT(struct virtio_blk, virtio, virtio_pci_fields),
    STATE_INT(struct virtio_blk, capacity),
    STATE_END,
};

static const struct state_desc blk_state = {
    .name = "virtio-blk",
    .version = 1,
    .fields = blk_fields,
    .post_load = blk_post_load,
};

static const struct device_ops blk_ops = {
    .type = "virtio-blk",
    .start = virtio_pci_start,
    .pause = virtio_pci_pause,
    .resume = virtio_pci_resume,
    .reset = virtio_pci_reset,
    .destroy = blk_destroy,
    .state = &blk_state,
};

static unsigned queue_count(unsigned wanted)
{
    if (!wanted)
        return 1;
    return wanted < VIRTIO_BLK_MAX_QUEUES ? wanted : VIRTIO_BLK_MAX_QUEUES;
}

/* Fills the configuration and returns the features that go with it. */
static uint64_t describe_disk(struct virtio_blk *blk, unsigned queues)
{
    const struct block_device *disk = blk->disk;
    uint64_t features = BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_FLUSH | BLK_F_MQ;

    blk->capacity = disk->size / BLOCK_SECTOR;
    blk->config = (struct blk_config){
        .capacity = blk->capacity,
        .seg_max = SEGMENTS_MAX,
        .blk_size = BLOCK_SECTOR,
        .num_queues = (uint16_t)queues,
    };
    if (disk->read_only)
        return features | BLK_F_RO;
    if (disk->can_discard) {
        features |= BLK_F_DISCARD;
        blk->config.max_discard_sectors = RANGE_SECTORS_MAX;
        blk->config.max_discard_seg = 1;
        blk->config.discard_sector_alignment = DISCARD_ALIGNMENT_SECTORS;
    }
    blk->config.max_write_zeroes_sectors = RANGE_SECTORS_MAX;
    blk->config.max_write_zeroes_seg = 1;
    blk->config.write_zeroes_may_unmap = disk->can_discard;
    return features | BLK_F_WRITE_ZEROES;
}

int virtio_blk_new(struct device **out, const struct virtio_blk_config *config,
                   struct block_device *disk, struct error *err)
{
    struct virtio_blk *blk = calloc(1, sizeof(*blk));
    unsigned queues = queue_count(config->queues);

    if (!blk)
        return error_set(err, -ENOMEM, "%s: no memory for the device", config->pci.name);
    blk->disk = disk;
    if (config->serial)
        memcpy(blk->serial, config->serial, strnlen(config->serial, sizeof(blk->serial)));
    for (unsigned i = 0; i < VIRTIO_BLK_MAX_QUEUES; i++) {
        pthread_mutex_init(&blk->pool[i].lock, NULL);
        pthread_cond_init(&blk->pool[i].idle, NULL);
    }
    uint64_t features = describe_disk(blk, queues);
    virtio_init(&blk->virtio.vdev, VIRTIO_TYPE_BLK, config->pci.name, &blk_virtio_ops, features,
                queues, QUEUE_SIZE, config->pci.bus->memory);
    blk->virtio.vdev.config = &blk->config;
    blk->virtio.vdev.config_size = sizeof(blk->config);

    int ret = virtio_pci_attach(&blk->virtio, &config->pci, STORAGE_CLASS, &blk_ops, err);
    if (ret) {
        virtio_pci_done(&blk->virtio);
        blk_free(blk);
        return ret;
    }
    *out = &blk->virtio.pci.dev;
    return 0;
}
