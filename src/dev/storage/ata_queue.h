/*
 * The way of a drive's requests to its medium, for controllers. A request may complete inside its
 * submission and make the next one ready; this sees to it that it goes on in a loop instead of ever
 * deeper in the stack, and that one thread at a time hands over a drive's requests.
 *
 * Called with the controller's lock held, which is let go while requests are submitted and while
 * waiting.
 */
#ifndef SILL_DEV_STORAGE_ATA_QUEUE_H
#define SILL_DEV_STORAGE_ATA_QUEUE_H

#include <pthread.h>

#include "block/block.h"

struct ata_queue {
    pthread_mutex_t *lock; /* the controller's */
    pthread_cond_t idle;
    struct block_request *batch; /* to be submitted */
    struct block_request **tail;
    unsigned in_flight; /* they and those that were */
    unsigned held;      /* so many wait for the end of all; nothing new may start */
    bool submitting;
};

void ata_queue_init(struct ata_queue *queue, pthread_mutex_t *lock);
void ata_queue_done(struct ata_queue *queue);

/* Puts a request aside for ata_queue_submit(). */
void ata_queue_add(struct ata_queue *queue, struct block_request *request);
/* A request has completed, and what follows it was added. */
void ata_queue_completed(struct ata_queue *queue);
/* The last step before the lock is given back. */
void ata_queue_submit(struct ata_queue *queue, struct block_device *medium);
/* Until it is released, the controller starts nothing new. */
void ata_queue_hold(struct ata_queue *queue);
void ata_queue_release(struct ata_queue *queue);
/* Holds it and waits until nothing is in flight. Nothing may have been added since the lock was
 * taken. */
void ata_queue_drain(struct ata_queue *queue);

#endif
