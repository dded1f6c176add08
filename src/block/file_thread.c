/*
 * File requests on a few threads, for hosts without io_uring; see file_io.h. Each thread does one
 * request at a time, so that one that waits for the disk (a flush, above all) does not hold up the
 * others.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "block/file_io.h"
#include "block/file_step.h"

#define THREADS 4

struct file_thread {
    struct file_io io;
    pthread_t thread[THREADS];
    unsigned threads;
    pthread_mutex_t lock; /* the rest */
    pthread_cond_t wake;
    struct block_request *first;
    struct block_request **tail;
    bool quit;
};

static int64_t run_step(int fd, const struct file_step *step)
{
    int64_t got = 0;

    switch (step->kind) {
    case FILE_READ:
        got = preadv(fd, step->iov, (int)step->iov_count, (off_t)step->offset);
        break;
    case FILE_WRITE:
        got = pwritev(fd, step->iov, (int)step->iov_count, (off_t)step->offset);
        break;
    case FILE_SYNC:
        got = fdatasync(fd);
        break;
    case FILE_ALLOCATE:
        got = fallocate(fd, step->mode, (off_t)step->offset, (off_t)step->length);
        break;
    }
    return got < 0 ? -errno : got;
}

static void run_request(struct file_io *io, struct block_request *request)
{
    struct file_step step;
    int result;

    do
        file_step_next(request, &step);
    while (!file_step_result(request, run_step(io->fd, &step), &result));
    file_io_finish(io, request, result);
}

static void *thread_main(void *opaque)
{
    struct file_thread *t = opaque;

    pthread_mutex_lock(&t->lock);
    for (;;) {
        struct block_request *request = t->first;
        if (!request) {
            if (t->quit)
                break;
            pthread_cond_wait(&t->wake, &t->lock);
            continue;
        }
        t->first = request->next;
        if (!t->first)
            t->tail = &t->first;
        pthread_mutex_unlock(&t->lock);
        run_request(&t->io, request);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void thread_submit(struct file_io *io, struct block_request *batch)
{
    struct file_thread *t = CONTAINER_OF(io, struct file_thread, io);

    batch = file_io_read_cached(io, batch);
    if (!batch)
        return;
    pthread_mutex_lock(&t->lock);
    *t->tail = batch;
    for (; *t->tail; t->tail = &(*t->tail)->next)
        pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

static void thread_free(struct file_io *io)
{
    struct file_thread *t = CONTAINER_OF(io, struct file_thread, io);

    pthread_mutex_lock(&t->lock);
    t->quit = true;
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    for (unsigned i = 0; i < t->threads; i++)
        pthread_join(t->thread[i], NULL);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static const struct file_io_ops thread_ops = {
    .name = "thread",
    .submit = thread_submit,
    .free = thread_free,
};

int file_thread_new(struct file_io **out, int fd)
{
    struct file_thread *t = calloc(1, sizeof(*t));
    sigset_t all, before;
    int ret = 0;

    if (!t)
        return -ENOMEM;
    t->io = (struct file_io){.ops = &thread_ops, .fd = fd};
    t->tail = &t->first;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (t->threads < THREADS && !ret) {
        ret = pthread_create(&t->thread[t->threads], NULL, thread_main, t);
        t->threads += !ret;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!t->threads) {
        thread_free(&t->io);
        return -ret;
    }
    *out = &t->io;
    return 0;
}
