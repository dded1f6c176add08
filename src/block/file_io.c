/* Choosing how a file's requests are done; see file_io.h. */
#include "block/file_io.h"

#include <string.h>

#include "base/log.h"

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
        log_info("%s: this host refuses io_uring (%s), a thread does the disk's I/O", path,
                 strerror(-ret));
    }
    int ret = file_thread_new(out, fd);
    return ret ? error_set(err, ret, "%s: cannot start the I/O thread: %s", path, strerror(-ret))
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
