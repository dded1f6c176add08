/* Block requests as file operations; see file_step.h. Called on any I/O or submitting thread. */
#include "block/file_step.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

/* How discarding and zeroing are tried, in this order. */
enum range_attempt {
    ATTEMPT_PUNCH,
    ATTEMPT_ZERO_RANGE,
    ATTEMPT_WRITE, /* always works */
};

/* Never written, so it takes no memory: reads of it see the kernel's page of zeroes. */
static const uint8_t zero_bytes[256 * KIB];

/* One system call takes this many buffers at most. */
static unsigned call_limit(unsigned count)
{
    return count < IOV_MAX ? count : IOV_MAX;
}

/* The attempt that the request is at; zeroing that must keep the space does not begin with holes.
 */
static enum range_attempt attempt(const struct block_request *request)
{
    if (request->op == BLOCK_WRITE_ZEROES && !request->may_unmap && !request->attempt)
        return ATTEMPT_ZERO_RANGE;
    return (enum range_attempt)request->attempt;
}

static void range_step(const struct block_request *request, struct file_step *step)
{
    step->length = request->length - request->finished;
    step->kind = FILE_ALLOCATE;
    switch (attempt(request)) {
    case ATTEMPT_PUNCH:
        step->mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        break;
    case ATTEMPT_ZERO_RANGE:
        step->mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
        break;
    case ATTEMPT_WRITE:
        step->kind = FILE_WRITE;
        step->zeroes.iov_base = (void *)zero_bytes;
        step->zeroes.iov_len =
            step->length < sizeof(zero_bytes) ? step->length : sizeof(zero_bytes);
        step->iov = &step->zeroes;
        step->iov_count = 1;
        break;
    }
}

void file_step_next(const struct block_request *request, struct file_step *step)
{
    *step = (struct file_step){.offset = request->offset + request->finished};
    switch (request->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        step->kind = request->op == BLOCK_READ ? FILE_READ : FILE_WRITE;
        step->iov = request->iov;
        step->iov_count = call_limit(request->iov_count);
        break;
    case BLOCK_FLUSH:
        step->kind = FILE_SYNC;
        break;
    case BLOCK_DISCARD:
    case BLOCK_WRITE_ZEROES:
        range_step(request, step);
        break;
    }
}

/* Drops the first `length` bytes of the request's buffers. */
static void consume(struct block_request *request, uint64_t length)
{
    while (length && length >= request->iov->iov_len) {
        length -= request->iov->iov_len;
        request->iov++;
        request->iov_count--;
    }
    if (length) {
        request->iov->iov_base = (uint8_t *)request->iov->iov_base + length;
        request->iov->iov_len -= length;
    }
}

static bool not_supported(int64_t got)
{
    return got == -EOPNOTSUPP || got == -ENOSYS || got == -EINVAL || got == -ENODEV;
}

bool file_step_result(struct block_request *request, int64_t got, int *final)
{
    bool is_range = request->op == BLOCK_DISCARD || request->op == BLOCK_WRITE_ZEROES;
    bool is_transfer = !is_range || attempt(request) == ATTEMPT_WRITE;

    *final = got < 0 ? (int)got : 0;
    if (got == -EINTR)
        return false;
    if (is_range && !is_transfer && not_supported(got)) {
        *final = 0;
        request->attempt = attempt(request) + 1u;
        return request->op == BLOCK_DISCARD; /* only a hint */
    }
    if (got < 0 || !is_transfer || request->op == BLOCK_FLUSH)
        return true;
    if (!got) {
        /* The file has become shorter than it was, or the disk is full in an unusual way. */
        *final = -EIO;
        return true;
    }
    request->finished += (uint64_t)got;
    if (!is_range)
        consume(request, (uint64_t)got);
    return request->finished == request->length;
}
