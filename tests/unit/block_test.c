/* Raw disk images: options, refusals, locking, and requests through io_uring and the thread. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "block/block.h"
#include "block/file_io.h"
#include "block/file_step.h"

#define DISK_SIZE (4 * MIB)
#define PATIENCE_SECONDS 20

static char dir[] = "/tmp/sill-block-XXXXXX";
static char path[64];
static struct error err;

static void make_file(const char *name, const void *data, size_t length, off_t size)
{
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, length), length);
    assert_int_equal(ftruncate(fd, size), 0);
    close(fd);
}

static int setup(void **state)
{
    make_file("disk", "", 0, DISK_SIZE);
    return 0;
}

static int make_dir(void **state)
{
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char command[64];

    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static struct block_device *open_disk(const char *options)
{
    struct block_options parsed;
    struct block_device *disk = NULL;
    char text[128];

    snprintf(text, sizeof(text), "%s%s", path, options);
    assert_int_equal(block_parse_options(&parsed, text, &err), 0);
    int ret = block_open(&disk, &parsed, &err);
    if (ret)
        print_message("%s\n", err.text);
    assert_int_equal(ret, 0);
    return disk;
}

static int try_open(const char *options)
{
    struct block_options parsed;
    struct block_device *disk;
    char text[128];

    snprintf(text, sizeof(text), "%s%s", path, options);
    assert_int_equal(block_parse_options(&parsed, text, &err), 0);
    int ret = block_open(&disk, &parsed, &err);
    if (!ret)
        block_close(disk);
    else
        assert_non_null(strstr(err.text, path)); /* the culprit is named */
    return ret;
}

/* A request that can be waited for. */
struct call {
    struct block_request io;
    struct iovec iov[4];
    pthread_mutex_t lock;
    pthread_cond_t finished;
    bool done;
    int result;
};

static void call_done(struct block_request *io, int result)
{
    struct call *call = CONTAINER_OF(io, struct call, io);

    pthread_mutex_lock(&call->lock);
    call->done = true;
    call->result = result;
    pthread_cond_signal(&call->finished);
    pthread_mutex_unlock(&call->lock);
}

static void call_init(struct call *call, enum block_op op, uint64_t offset, void *data,
                      uint64_t length)
{
    *call = (struct call){.io = {.op = op, .offset = offset, .length = length, .done = call_done}};
    call->iov[0] = (struct iovec){data, length};
    call->io.iov = call->iov;
    call->io.iov_count = 1;
    pthread_mutex_init(&call->lock, NULL);
    pthread_cond_init(&call->finished, NULL);
}

static int call_wait(struct call *call)
{
    struct timespec limit;

    pthread_mutex_lock(&call->lock);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += PATIENCE_SECONDS;
    while (!call->done)
        assert_int_equal(pthread_cond_timedwait(&call->finished, &call->lock, &limit), 0);
    pthread_mutex_unlock(&call->lock);
    return call->result;
}

static int run(struct block_device *disk, enum block_op op, uint64_t offset, void *data,
               uint64_t length)
{
    struct call call;

    call_init(&call, op, offset, data, length);
    block_submit(disk, &call.io);
    return call_wait(&call);
}

/* Options. */

static void options_have_defaults(void **state)
{
    struct block_options options;

    assert_int_equal(block_parse_options(&options, "/a b.img", &err), 0);
    assert_string_equal(options.path, "/a b.img");
    assert_false(options.read_only);
    assert_true(options.discard);
    assert_int_equal(options.cache, BLOCK_CACHE_WRITEBACK);
    assert_int_equal(options.format, BLOCK_FORMAT_PROBE);
    assert_int_equal(options.aio, BLOCK_AIO_AUTO);
}

static void options_are_parsed(void **state)
{
    struct block_options options;

    assert_int_equal(block_parse_options(&options,
                                         "a,,b,readonly=on,format=raw,cache=unsafe,discard=off,"
                                         "aio=thread,serial=S1,,x",
                                         &err),
                     0);
    assert_string_equal(options.path, "a,b");
    assert_true(options.read_only);
    assert_false(options.discard);
    assert_int_equal(options.format, BLOCK_FORMAT_RAW);
    assert_int_equal(options.cache, BLOCK_CACHE_UNSAFE);
    assert_int_equal(options.aio, BLOCK_AIO_THREAD);
    assert_string_equal(options.serial, "S1,x");
}

static void bad_options_are_refused(void **state)
{
    static const struct {
        const char *text, *named;
    } bad[] = {
        {"", "file name"},
        {",readonly=on", "file name"},
        {"f,", "key=value"},
        {"f,readonly", "readonly"},
        {"f,readonly=yes", "on, off"},
        {"f,colour=red", "colour"},
        {"f,format=qcow2", "raw"},
        {"f,cache=none", "writeback, writethrough, unsafe"},
        {"f,serial=123456789012345678901", "20"},
    };
    struct block_options options = {.path = "untouched"};

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(block_parse_options(&options, bad[i].text, &err), -EINVAL);
        assert_non_null(strstr(err.text, bad[i].named));
    }
    assert_string_equal(options.path, "untouched");
}

/* Opening. */

static void impossible_images_are_refused(void **state)
{
    snprintf(path, sizeof(path), "%s/missing", dir);
    assert_int_equal(try_open(""), -ENOENT);
    snprintf(path, sizeof(path), "%s", dir);
    assert_int_equal(try_open(""), -EISDIR);
    snprintf(path, sizeof(path), "/dev/null");
    assert_int_equal(try_open(""), -EINVAL);
    make_file("pipe", "", 0, 0);
    assert_int_equal(try_open(""), -EINVAL);
    assert_non_null(strstr(err.text, "empty"));
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(try_open(""), -EINVAL);
    make_file("small", "x", 1, 511);
    assert_int_equal(try_open(""), -EINVAL);
}

static void unreadable_image_is_refused(void **state)
{
    make_file("secret", "", 0, 512);
    chmod(path, 0);
    chmod(dir, 0755);
    if (geteuid() == 0 && seteuid(65534)) {
        print_message("cannot drop root's rights\n");
        skip();
    }
    int writing = try_open("");
    bool advised = strstr(err.text, "readonly=on");
    int reading = try_open(",readonly=on");
    if (getuid() == 0)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(writing, -EACCES);
    assert_true(advised);
    assert_int_equal(reading, -EACCES);
}

static void other_formats_are_refused_unless_raw_is_said(void **state)
{
    make_file("qcow2", "QFI\xfb\0\0\0\3", 8, 65536);
    assert_int_equal(try_open(""), -EINVAL);
    assert_non_null(strstr(err.text, "qcow2 format"));
    assert_int_equal(try_open(",format=raw"), 0);
}

static void size_is_rounded_down_to_sectors(void **state)
{
    make_file("odd", "", 0, 1000);
    struct block_device *disk = open_disk("");
    assert_int_equal(disk->size, 512);
    block_close(disk);
}

static void image_is_locked(void **state)
{
    struct block_device *writer = open_disk("");
    assert_int_equal(try_open(""), -EBUSY);
    assert_non_null(strstr(err.text, "in use"));
    assert_int_equal(try_open(",readonly=on"), -EBUSY);
    block_close(writer);

    struct block_device *reader = open_disk(",readonly=on");
    assert_int_equal(try_open(",readonly=on"), 0);
    assert_int_equal(try_open(""), -EBUSY);
    block_close(reader);
    assert_int_equal(try_open(""), 0);
}

/* Requests; each test runs with io_uring (where the host has it) and with the thread. */

static const char *engine;

static bool use_engine(const char *options)
{
    struct file_io *io;

    engine = options;
    if (strcmp(options, ",aio=io_uring"))
        return true;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    int ret = file_uring_new(&io, fd);
    if (!ret)
        io->ops->free(io);
    close(fd);
    if (ret)
        print_message("this host refuses io_uring: %s\n", strerror(-ret));
    return !ret;
}

static int setup_uring(void **state)
{
    setup(state);
    *state = use_engine(",aio=io_uring") ? NULL : (void *)"skip";
    return 0;
}

static int setup_thread(void **state)
{
    setup(state);
    *state = NULL;
    use_engine(",aio=thread");
    return 0;
}

static void written_data_is_read_back(void **state)
{
    static uint8_t out[64 * KIB], in[64 * KIB];

    if (*state)
        skip();
    struct block_device *disk = open_disk(engine);
    assert_int_equal(disk->size, DISK_SIZE);
    for (unsigned i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i * 7 + i / 256);
    assert_int_equal(run(disk, BLOCK_WRITE, 3 * 512, out, sizeof(out)), 0);
    assert_int_equal(run(disk, BLOCK_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(run(disk, BLOCK_READ, 3 * 512, in, sizeof(in)), 0);
    assert_memory_equal(in, out, sizeof(out));
    block_close(disk);

    /* And it is in the file. */
    int fd = open(path, O_RDONLY);
    memset(in, 0, sizeof(in));
    assert_int_equal(pread(fd, in, sizeof(in), 3 * 512), sizeof(in));
    assert_memory_equal(in, out, sizeof(out));
    close(fd);
}

static void buffers_are_gathered_and_scattered(void **state)
{
    uint8_t a[100], b[412], c[512], all[1024];
    struct call call;

    if (*state)
        skip();
    struct block_device *disk = open_disk(engine);
    memset(a, 'a', sizeof(a));
    memset(b, 'b', sizeof(b));
    memset(c, 'c', sizeof(c));
    call_init(&call, BLOCK_WRITE, 1024, a, sizeof(all));
    call.iov[0].iov_len = sizeof(a);
    call.iov[1] = (struct iovec){b, sizeof(b)};
    call.iov[2] = (struct iovec){c, sizeof(c)};
    call.io.iov_count = 3;
    block_submit(disk, &call.io);
    assert_int_equal(call_wait(&call), 0);
    assert_int_equal(run(disk, BLOCK_READ, 1024, all, sizeof(all)), 0);
    assert_memory_equal(all, a, sizeof(a));
    assert_memory_equal(all + 100, b, sizeof(b));
    assert_memory_equal(all + 512, c, sizeof(c));
    block_close(disk);
}

static void many_requests_run_at_once(void **state)
{
    enum { COUNT = 1000 };

    if (*state)
        skip();
    struct call *calls = calloc(COUNT, sizeof(*calls));
    uint8_t(*data)[512] = calloc(COUNT, 512);
    struct block_device *disk = open_disk(engine);
    for (int pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < COUNT; i++) {
            memset(data[i], pass ? 0 : (int)(i % 251 + 1), 512);
            call_init(&calls[i], pass ? BLOCK_READ : BLOCK_WRITE, 512 * i, data[i], 512);
            calls[i].io.next = i + 1 < COUNT ? &calls[i + 1].io : NULL;
        }
        block_submit(disk, &calls[0].io);
        for (unsigned i = 0; i < COUNT; i++)
            assert_int_equal(call_wait(&calls[i]), 0);
    }
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(data[i][i % 512], i % 251 + 1);
    block_close(disk);
    free(calls);
    free(data);
}

static void ranges_become_zeroes(void **state)
{
    static uint8_t ones[MIB], in[MIB];
    struct stat st;

    if (*state)
        skip();
    struct block_device *disk = open_disk(engine);
    memset(ones, 0xff, sizeof(ones));
    for (int may_unmap = 0; may_unmap <= 1; may_unmap++) {
        struct call call;
        assert_int_equal(run(disk, BLOCK_WRITE, 0, ones, sizeof(ones)), 0);
        call_init(&call, BLOCK_WRITE_ZEROES, 512, NULL, 600 * KIB);
        call.io.may_unmap = may_unmap;
        block_submit(disk, &call.io);
        assert_int_equal(call_wait(&call), 0);
        assert_int_equal(run(disk, BLOCK_READ, 0, in, sizeof(in)), 0);
        assert_int_equal(in[511], 0xff);
        for (unsigned i = 512; i < 512 + 600 * KIB; i++)
            assert_int_equal(in[i], 0);
        assert_int_equal(in[512 + 600 * KIB], 0xff);
    }
    assert_int_equal(run(disk, BLOCK_DISCARD, 0, NULL, DISK_SIZE), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, DISK_SIZE);
    assert_true(st.st_blocks * 512 < (blkcnt_t)(64 * KIB)); /* given back */
    block_close(disk);
}

static void bad_requests_fail(void **state)
{
    uint8_t data[1024];

    if (*state)
        skip();
    struct block_device *disk = open_disk(engine);
    assert_int_equal(run(disk, BLOCK_READ, DISK_SIZE - 512, data, 1024), -EINVAL);
    assert_int_equal(run(disk, BLOCK_WRITE, UINT64_MAX - 511, data, 1024), -EINVAL);
    assert_int_equal(run(disk, BLOCK_READ, DISK_SIZE, data, 0), 0);
    /* Somebody cuts the file short underneath. */
    assert_int_equal(truncate(path, DISK_SIZE / 2), 0);
    assert_int_equal(run(disk, BLOCK_READ, DISK_SIZE - 512, data, 512), -EIO);
    block_close(disk);

    disk = open_disk(",readonly=on");
    assert_int_equal(run(disk, BLOCK_WRITE, 0, data, 512), -EROFS);
    assert_int_equal(run(disk, BLOCK_WRITE_ZEROES, 0, NULL, 512), -EROFS);
    assert_int_equal(run(disk, BLOCK_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(run(disk, BLOCK_READ, 0, data, 512), 0);
    block_close(disk);
}

static void cache_modes_and_no_discard_work(void **state)
{
    uint8_t data[512] = "x";

    struct block_device *disk = open_disk(",cache=writethrough,discard=off");
    assert_false(disk->can_discard);
    assert_int_equal(run(disk, BLOCK_WRITE, 0, data, 512), 0);
    assert_int_equal(run(disk, BLOCK_DISCARD, 0, NULL, 512), 0);
    memset(data, 0, sizeof(data));
    assert_int_equal(run(disk, BLOCK_READ, 0, data, 512), 0);
    assert_int_equal(data[0], 'x');
    block_close(disk);
    disk = open_disk(",cache=unsafe");
    assert_int_equal(run(disk, BLOCK_FLUSH, 0, NULL, 0), 0);
    block_close(disk);
}

/* Steps: what a file system that knows little makes of requests. */

static void zeroing_falls_back_to_writing(void **state)
{
    struct block_request request = {
        .op = BLOCK_WRITE_ZEROES, .offset = 4096, .length = 300 * KIB, .may_unmap = true};
    struct file_step step;
    int result;

    file_step_next(&request, &step);
    assert_int_equal(step.kind, FILE_ALLOCATE);
    assert_int_equal(step.mode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    assert_false(file_step_result(&request, -EOPNOTSUPP, &result));
    file_step_next(&request, &step);
    assert_int_equal(step.mode, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
    assert_false(file_step_result(&request, -EOPNOTSUPP, &result));
    file_step_next(&request, &step);
    assert_int_equal(step.kind, FILE_WRITE);
    assert_int_equal(step.offset, 4096);
    assert_int_equal(step.iov[0].iov_len, 256 * KIB);
    assert_false(file_step_result(&request, 100, &result));
    file_step_next(&request, &step);
    assert_int_equal(step.offset, 4196);
    assert_false(file_step_result(&request, 256 * KIB, &result));
    file_step_next(&request, &step);
    assert_int_equal(step.iov[0].iov_len, 44 * KIB - 100);
    assert_true(file_step_result(&request, 44 * KIB - 100, &result));
    assert_int_equal(result, 0);

    request = (struct block_request){.op = BLOCK_DISCARD, .length = 512};
    assert_true(file_step_result(&request, -EOPNOTSUPP, &result));
    assert_int_equal(result, 0);
    request = (struct block_request){.op = BLOCK_WRITE_ZEROES, .length = 512};
    assert_true(file_step_result(&request, -ENOSPC, &result));
    assert_int_equal(result, -ENOSPC);
}

static void short_transfers_go_on(void **state)
{
    uint8_t data[300];
    struct iovec iov[3] = {{data, 100}, {data + 100, 0}, {data + 100, 200}};
    struct block_request request = {.op = BLOCK_READ, .length = 300, .iov = iov, .iov_count = 3};
    struct file_step step;
    int result;

    assert_false(file_step_result(&request, -EINTR, &result));
    assert_false(file_step_result(&request, 150, &result));
    file_step_next(&request, &step);
    assert_int_equal(step.offset, 150);
    assert_int_equal(step.iov_count, 1);
    assert_ptr_equal(step.iov[0].iov_base, data + 150);
    assert_int_equal(step.iov[0].iov_len, 150);
    assert_true(file_step_result(&request, 150, &result));
    assert_int_equal(result, 0);
}

/* In place of the system's, for aio=thread. */
static int fdatasync_error;
static _Atomic bool fdatasync_hangs;

int fdatasync(int fd)
{
    while (fdatasync_hangs)
        usleep(1000);
    errno = fdatasync_error;
    return fdatasync_error ? -1 : 0;
}

/* A flush may take seconds; nothing else needs to wait for it. */
static void slow_flush_holds_nobody_up(void **state)
{
    struct block_device *disk = open_disk(",aio=thread");
    struct call flush;
    uint8_t data[512] = {1};

    fdatasync_hangs = true;
    call_init(&flush, BLOCK_FLUSH, 0, NULL, 0);
    block_submit(disk, &flush.io);
    assert_int_equal(run(disk, BLOCK_WRITE, 512, data, sizeof(data)), 0);
    assert_int_equal(run(disk, BLOCK_READ, 512, data, sizeof(data)), 0);
    assert_false(flush.done);
    fdatasync_hangs = false;
    assert_int_equal(call_wait(&flush), 0);
    block_close(disk);
}

/* The host reports a write that it could not do to one flush only, and drops the data: no later
 * flush may claim that all is well. */
static void failed_flush_is_not_forgotten(void **state)
{
    struct block_device *disk = open_disk(",aio=thread");

    assert_int_equal(run(disk, BLOCK_FLUSH, 0, NULL, 0), 0);
    fdatasync_error = EIO;
    assert_int_equal(run(disk, BLOCK_FLUSH, 0, NULL, 0), -EIO);
    fdatasync_error = 0;
    assert_int_equal(run(disk, BLOCK_FLUSH, 0, NULL, 0), -EIO);
    block_close(disk);
}

/* In place of liburing's: the kernel may take fewer requests than it is given, as for a lack of
 * memory. */
static unsigned refusals;

int io_uring_submit(struct io_uring *ring)
{
    if (refusals) {
        refusals--;
        return 0;
    }
    return io_uring_submit_and_wait(ring, 0);
}

static void request_that_the_kernel_leaves_is_given_again(void **state)
{
    uint8_t data[512] = {1};

    if (*state)
        skip();
    struct block_device *disk = open_disk(",aio=io_uring");
    refusals = 2;
    assert_int_equal(run(disk, BLOCK_WRITE, 0, data, sizeof(data)), 0);
    block_close(disk);
}

#define T(name) cmocka_unit_test_setup(name, setup)
#define BOTH(name)                                                                                 \
    {#name " (io_uring)", name, setup_uring, NULL, NULL},                                          \
    {                                                                                              \
#name " (thread)", name, setup_thread, NULL, NULL                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(options_have_defaults),
        T(options_are_parsed),
        T(bad_options_are_refused),
        T(impossible_images_are_refused),
        T(unreadable_image_is_refused),
        T(other_formats_are_refused_unless_raw_is_said),
        T(size_is_rounded_down_to_sectors),
        T(image_is_locked),
        BOTH(written_data_is_read_back),
        BOTH(buffers_are_gathered_and_scattered),
        BOTH(many_requests_run_at_once),
        BOTH(ranges_become_zeroes),
        BOTH(bad_requests_fail),
        T(cache_modes_and_no_discard_work),
        T(zeroing_falls_back_to_writing),
        T(short_transfers_go_on),
        T(slow_flush_holds_nobody_up),
        cmocka_unit_test_setup(request_that_the_kernel_leaves_is_given_again, setup_uring),
        T(failed_flush_is_not_forgotten),
    };
    return cmocka_run_group_tests_name("block", tests, make_dir, remove_dir);
}
