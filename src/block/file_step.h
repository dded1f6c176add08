/*
 * What a block request means in operations on a file, one after the other. Both ways of file_io.h
 * run the same steps:
 *
 *     file_step_next(request, &step)          the operation to do now
 *     file_step_result(request, got, &final)  its result; false: there is another step
 *
 * A short read or write is continued. Zeroing a range is tried as a hole, as an unwritten range and
 * finally by writing zeroes, because not every file system knows the first two.
 */
#ifndef SILL_BLOCK_FILE_STEP_H
#define SILL_BLOCK_FILE_STEP_H

#include "block/block.h"

enum file_step_kind { FILE_READ, FILE_WRITE, FILE_SYNC, FILE_ALLOCATE };

struct file_step {
    enum file_step_kind kind;
    const struct iovec *iov; /* reads and writes */
    unsigned iov_count;
    struct iovec zeroes; /* storage of iov for zeroes */
    int mode;            /* of fallocate() */
    uint64_t offset;
    uint64_t length; /* of fallocate() */
};

void file_step_next(const struct block_request *request, struct file_step *step);

/* `got` is bytes or -errno. True when the request is finished, with the result in `*final`. */
bool file_step_result(struct block_request *request, int64_t got, int *final);

#endif
