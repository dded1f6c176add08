/*
 * File requests through io_uring; see file_io.h. io_uring_setup(2), io_uring_enter(2).
 *
 * Submitters share the submission queue under `lock`; only the I/O thread looks at the completion
 * queue. Not more than RING_ENTRIES operations are in flight, so neither queue can overflow;
 * further requests wait in a list until the I/O thread has room for them.
 */
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "block/file_io.h"
#include "block/file_step.h"

#define RING_ENTRIES 256

struct file_uring {
    struct file_io io;
    struct io_uring ring;
    pthread_t thread;
    pthread_mutex_t lock; /* the submission queue and what follows */
    unsigned in_flight;
    struct block_request *waiting;
    struct block_request **waiting_tail;
};

/* Puts the request's next step into the submission queue; `lock` is held. */
static void prepare(struct file_uring *u, struct block_request *request)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    struct file_step step;

    file_step_next(request, &step);
    switch (step.kind) {
    case FILE_READ:
        io_uring_prep_readv(sqe, u->io.fd, step.iov, step.iov_count, step.offset);
        break;
    case FILE_WRITE:
        if (step.iov == &step.zeroes) /* `step` does not live until the submission */
            io_uring_prep_write(sqe, u->io.fd, step.zeroes.iov_base, (unsigned)step.zeroes.iov_len,
                                step.offset);
        else
            io_uring_prep_writev(sqe, u->io.fd, step.iov, step.iov_count, step.offset);
        break;
    case FILE_SYNC:
        io_uring_prep_fsync(sqe, u->io.fd, IORING_FSYNC_DATASYNC);
        break;
    case FILE_ALLOCATE:
        io_uring_prep_fallocate(sqe, u->io.fd, step.mode, (off_t)step.offset, (off_t)step.length);
        break;
    }
    io_uring_sqe_set_data(sqe, request);
}

/* Hands what was prepared to the kernel; `lock` is held. It only refuses, or leaves some, for a
 * lack of memory that passes. */
static void submit_prepared(struct file_uring *u)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    bool logged = false;

    while (io_uring_sq_ready(&u->ring)) {
        int ret = io_uring_submit(&u->ring);
        if (ret > 0 || ret == -EINTR)
            continue;
        if (!logged)
            log_warn("io_uring: cannot submit: %s; trying again", strerror(ret ? -ret : ENOMEM));
        logged = true;
        nanosleep(&pause, NULL);
    }
}

/* Prepares what waits, as far as there is room; `lock` is held. */
static void start_waiting(struct file_uring *u)
{
    while (u->waiting && u->in_flight < RING_ENTRIES) {
        struct block_request *request = u->waiting;
        u->waiting = request->next;
        if (!u->waiting)
            u->waiting_tail = &u->waiting;
        u->in_flight++;
        prepare(u, request);
    }
    submit_prepared(u);
}

static void uring_submit(struct file_io *io, struct block_request *batch)
{
    struct file_uring *u = CONTAINER_OF(io, struct file_uring, io);

    batch = file_io_read_cached(io, batch);
    if (!batch)
        return;
    pthread_mutex_lock(&u->lock);
    *u->waiting_tail = batch;
    while (*u->waiting_tail)
        u->waiting_tail = &(*u->waiting_tail)->next;
    start_waiting(u);
    pthread_mutex_unlock(&u->lock);
}

/* One completion: the next step of its request, or its end. */
static void complete(struct file_uring *u, struct block_request *request, int got)
{
    int result;

    pthread_mutex_lock(&u->lock);
    bool finished = file_step_result(request, got, &result);
    if (finished)
        u->in_flight--;
    else
        prepare(u, request);
    start_waiting(u);
    pthread_mutex_unlock(&u->lock);
    if (finished)
        file_io_finish(&u->io, request, result);
}

static void *thread_main(void *opaque)
{
    struct file_uring *u = opaque;
    struct io_uring_cqe *cqe;

    for (;;) {
        int ret = io_uring_wait_cqe(&u->ring, &cqe);
        if (ret == -EINTR)
            continue;
        if (ret) {
            log_error("io_uring: cannot wait for completions: %s", strerror(-ret));
            return NULL;
        }
        struct block_request *request = io_uring_cqe_get_data(cqe);
        int got = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        if (!request) /* from uring_free() */
            return NULL;
        complete(u, request, got);
    }
}

static void uring_free(struct file_io *io)
{
    struct file_uring *u = CONTAINER_OF(io, struct file_uring, io);

    pthread_mutex_lock(&u->lock);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    io_uring_prep_nop(sqe);
    io_uring_sqe_set_data(sqe, NULL);
    submit_prepared(u);
    pthread_mutex_unlock(&u->lock);
    pthread_join(u->thread, NULL);
    io_uring_queue_exit(&u->ring);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

static const struct file_io_ops uring_ops = {
    .name = "io_uring",
    .submit = uring_submit,
    .free = uring_free,
};

int file_uring_new(struct file_io **out, int fd)
{
    struct file_uring *u = calloc(1, sizeof(*u));
    sigset_t all, before;

    if (!u)
        return -ENOMEM;
    u->io = (struct file_io){.ops = &uring_ops, .fd = fd};
    u->waiting_tail = &u->waiting;
    int ret = io_uring_queue_init(RING_ENTRIES, &u->ring, 0);
    if (ret)
        goto fail;
    pthread_mutex_init(&u->lock, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ret = -pthread_create(&u->thread, NULL, thread_main, u);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ret) {
        pthread_mutex_destroy(&u->lock);
        io_uring_queue_exit(&u->ring);
        goto fail;
    }
    *out = &u->io;
    return 0;

fail:
    free(u);
    return ret;
}
