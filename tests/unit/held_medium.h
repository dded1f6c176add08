/*
 * A medium whose requests wait until the test lets them go: for what happens to a controller while
 * its disk is slow or fails. No data moves.
 */
#ifndef SILL_TEST_HELD_MEDIUM_H
#define SILL_TEST_HELD_MEDIUM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "block/block.h"
#include "dev/device.h"

struct held_medium {
    struct block_device disk;
    pthread_mutex_t lock;
    struct block_request *first, *last;
    unsigned count;            /* that wait */
    unsigned seen[5];          /* of each enum block_op, so far */
    struct block_request copy; /* the latest, as it came */
    void *memory;              /* where its first buffer begins; NULL: it has none */
};

static inline void held_submit(struct block_device *disk, struct block_request *batch)
{
    struct held_medium *medium = CONTAINER_OF(disk, struct held_medium, disk);

    pthread_mutex_lock(&medium->lock);
    while (batch) {
        struct block_request *request = batch;
        batch = request->next;
        request->next = NULL;
        if (medium->first)
            medium->last->next = request;
        else
            medium->first = request;
        medium->last = request;
        medium->seen[request->op]++;
        medium->copy = *request;
        medium->memory = request->iov ? request->iov->iov_base : NULL;
        medium->count++;
    }
    pthread_mutex_unlock(&medium->lock);
}

static inline void held_close(struct block_device *disk)
{
    struct held_medium *medium = CONTAINER_OF(disk, struct held_medium, disk);

    assert_int_equal(medium->count, 0);
    pthread_mutex_destroy(&medium->lock);
}

static const struct block_ops held_ops = {
    .format = "held",
    .submit = held_submit,
    .close = held_close,
};

/* `sectors` 512 bytes each. */
static inline struct block_device *held_init(struct held_medium *medium, uint64_t sectors)
{
    *medium = (struct held_medium){
        .disk = {.ops = &held_ops, .size = sectors * BLOCK_SECTOR, .path = "held"}};
    pthread_mutex_init(&medium->lock, NULL);
    return &medium->disk;
}

static inline unsigned held_count(struct held_medium *medium)
{
    pthread_mutex_lock(&medium->lock);
    unsigned count = medium->count;
    pthread_mutex_unlock(&medium->lock);
    return count;
}

/* Ends the request that has waited longest. */
static inline void held_release(struct held_medium *medium, int result)
{
    pthread_mutex_lock(&medium->lock);
    struct block_request *request = medium->first;
    assert_non_null(request);
    medium->first = request->next;
    medium->count--;
    pthread_mutex_unlock(&medium->lock);
    request->done(request, result);
}

/* Pauses a device on a thread of its own, as it waits for the medium. */
static inline void *held_pause_main(void *opaque)
{
    struct device *dev = opaque;

    dev->ops->pause(dev);
    return NULL;
}

static inline pthread_t held_pause(struct device *dev)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, held_pause_main, dev), 0);
    return thread;
}

/* The same as for the board: what goes on after a pause, or after a restore. */
static inline void held_resume(struct device *dev)
{
    if (dev->ops->resume)
        dev->ops->resume(dev);
}

static inline void held_start(struct device *dev)
{
    if (dev->ops->start)
        assert_int_equal(dev->ops->start(dev, NULL), 0);
}

#endif
