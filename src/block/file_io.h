/*
 * Asynchronous requests on an open file: through io_uring (file_uring.c) or, where the host refuses
 * that, on a few threads (file_thread.c).
 *
 * Any thread submits. Completions come on an I/O thread of the file, which holds no lock then, or
 * inside the submission.
 */
#ifndef SILL_BLOCK_FILE_IO_H
#define SILL_BLOCK_FILE_IO_H

#include <stdatomic.h>

#include "block/block.h"

struct file_io;

struct file_io_ops {
    const char *name;
    void (*submit)(struct file_io *io, struct block_request *batch);
    /* Nothing is in flight. Leaves the file open. */
    void (*free)(struct file_io *io);
};

struct file_io {
    const struct file_io_ops *ops;
    int fd;
    const char *path;        /* for messages */
    _Atomic int flush_error; /* of the first flush that failed */
};

/* Chooses by `aio`; falls back (with a log line) only from BLOCK_AIO_AUTO. `path` is for messages,
 * and lives as long as the result. */
SILL_CHECKED int file_io_new(struct file_io **out, int fd, enum block_aio aio, const char *path,
                             struct error *err);

/* Does what of a batch reads data that the host has in memory, which is faster than asking anybody
 * else; returns the rest. */
struct block_request *file_io_read_cached(struct file_io *io, struct block_request *batch);

/*
 * Ends a request of `io` that the host has done. Linux tells of a page that could not be written
 * once, and takes it for clean afterwards: with the first flush that fails something is lost, and
 * none that follows may say that all is well.
 */
void file_io_finish(struct file_io *io, struct block_request *request, int result);

/* -errno of the host when it has no io_uring for us. */
SILL_CHECKED int file_uring_new(struct file_io **out, int fd);
SILL_CHECKED int file_thread_new(struct file_io **out, int fd);

#endif
