/* Choosing how a file's requests are done; see file_io.h. */
#include "block/file_io.h"

#include <string.h>

#include "base/log.h"

int file_io_new(struct file_io **out, int fd, enum block_aio aio, const char *path,
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
