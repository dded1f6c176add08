/* Choosing how a file's requests are done, and what both ways have in common; see file_io.h. */
#include "block/file_io.h"

#include <string.h>

#include "base/log.h"
#include "block/file_step.h"

static int open_io(struct file_io **out, int fd, enum block_aio aio, const char *path,
                   struct error *err)
{
    if (aio != BLOCK_AIO_THREAD) {
        int ret = file_uring_new(out, fd);
        if (!ret)
            return 0;
        if (aio == BLOCK_AIO_URING)
            return error_set(err, ret, "%s: this host refuses io_uring (%s); aio=thread works",
                             path, strerror(-ret));
        log_info("%s: this host refuses io_uring (%s), threads do the disk's I/O", path,
                 strerror(-ret));
    }
    int ret = file_thread_new(out, fd);
    return ret ? error_set(err, ret, "%s: cannot start an I/O thread: %s", path, strerror(-ret))
               : 0;
}

int file_io_new(struct file_io **out, int fd, enum block_aio aio, const char *path,
                struct error *err)
{
    int ret = open_io(out, fd, aio, path, err);

    if (!ret)
        (*out)->path = path;
    return ret;
}

/* True when the request is done; part of it may be if not. */
static bool read_cached(const struct file_io *io, struct block_request *request)
{
    struct file_step step;
    int result;

    if (request->op != BLOCK_READ)
        return false;
    file_step_next(request, &step);
    ssize_t got = preadv2(io->fd, step.iov, (int)step.iov_count, (off_t)step.offset, RWF_NOWAIT);
    return got > 0 && file_step_result(request, got, &result);
}

struct block_request *file_io_read_cached(struct file_io *io, struct block_request *batch)
{
    struct block_request *left = NULL;
    struct block_request **tail = &left;

    while (batch) {
        struct block_request *request = batch;
        batch = request->next;
        request->next = NULL;
        if (read_cached(io, request)) {
            request->done(request, 0);
            continue;
        }
        *tail = request;
        tail = &request->next;
    }
    return left;
}

void file_io_finish(struct file_io *io, struct block_request *request, int result)
{
    int none = 0;

    if (request->op == BLOCK_FLUSH && result) {
        if (atomic_compare_exchange_strong(&io->flush_error, &none, result))
            log_error("%s: what the guest has written cannot be made durable: %s; flushes fail "
                      "from now on",
                      io->path, strerror(-result));
    } else if (request->op == BLOCK_FLUSH) {
        result = atomic_load(&io->flush_error);
    }
    request->done(request, result);
}
