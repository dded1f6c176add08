/* See ata_queue.h. */
#include "dev/storage/ata_queue.h"

void ata_queue_init(struct ata_queue *queue, pthread_mutex_t *lock)
{
    *queue = (struct ata_queue){.lock = lock};
    queue->tail = &queue->batch;
    pthread_cond_init(&queue->idle, NULL);
}

void ata_queue_done(struct ata_queue *queue)
{
    pthread_cond_destroy(&queue->idle);
}

void ata_queue_add(struct ata_queue *queue, struct block_request *request)
{
    request->next = NULL;
    *queue->tail = request;
    queue->tail = &request->next;
    queue->in_flight++;
}

static void wake_waiting(struct ata_queue *queue)
{
    if (queue->held && !queue->in_flight && !queue->submitting)
        pthread_cond_broadcast(&queue->idle);
}

void ata_queue_completed(struct ata_queue *queue)
{
    queue->in_flight--;
    wake_waiting(queue);
}

void ata_queue_submit(struct ata_queue *queue, struct block_device *medium)
{
    if (queue->submitting || !queue->batch)
        return;
    queue->submitting = true;
    while (queue->batch) {
        struct block_request *batch = queue->batch;
        queue->batch = NULL;
        queue->tail = &queue->batch;
        pthread_mutex_unlock(queue->lock);
        block_submit(medium, batch);
        pthread_mutex_lock(queue->lock);
    }
    queue->submitting = false;
    wake_waiting(queue);
}

void ata_queue_hold(struct ata_queue *queue)
{
    queue->held++;
}

void ata_queue_release(struct ata_queue *queue)
{
    queue->held--;
}

void ata_queue_drain(struct ata_queue *queue)
{
    ata_queue_hold(queue);
    while (queue->in_flight || queue->submitting)
        pthread_cond_wait(&queue->idle, queue->lock);
    ata_queue_release(queue);
}
