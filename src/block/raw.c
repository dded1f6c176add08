/*
 * Raw disk images in a file or on a block device; see raw.h. Opened and closed by the control
 * thread; requests go to file_io.h.
 */
#include "block/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "block/file_io.h"

struct raw {
    struct block_device disk;
    struct file_io *io;
    int fd;
};

/* How files begin that hold a disk in another format. */
static const struct {
    const char *format;
    size_t length;
    const char *magic;
} other_formats[] = {
    {"qcow2", 4, "QFI\xfb"}, {"VMDK", 4, "KDMV"}, {"VHDX", 8, "vhdxfile"},
    {"VHD", 8, "conectix"},  {"VDI", 4, "<<< "},
};

static void raw_submit(struct block_device *disk, struct block_request *batch)
{
    struct raw *raw = CONTAINER_OF(disk, struct raw, disk);

    raw->io->ops->submit(raw->io, batch);
}

static void raw_close(struct block_device *disk)
{
    struct raw *raw = CONTAINER_OF(disk, struct raw, disk);

    raw->io->ops->free(raw->io);
    close(raw->fd);
    free(raw);
}

static const struct block_ops raw_ops = {
    .format = "raw",
    .submit = raw_submit,
    .close = raw_close,
};

/* Opens the file; a type that cannot hold a disk is refused before, since opening some of them
 * (pipes, terminals) has effects or blocks. */
static int open_file(const struct block_options *options, struct stat *st, struct error *err)
{
    const char *path = options->path;
    int flags = (options->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;

    if (options->cache == BLOCK_CACHE_WRITETHROUGH)
        flags |= O_DSYNC;
    if (stat(path, st)) {
        if (errno == ENOENT)
            return error_set(err, -ENOENT, "disk image %s does not exist", path);
        return error_set(err, -errno, "disk image %s: %s", path, strerror(errno));
    }
    if (S_ISDIR(st->st_mode))
        return error_set(err, -EISDIR, "disk image %s is a directory", path);
    if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
        return error_set(err, -EINVAL, "disk image %s is neither a file nor a block device", path);

    int fd = open(path, flags);
    if (fd >= 0)
        return fd;
    if (errno == EACCES || errno == EROFS || errno == EPERM)
        return error_set(err, -errno, "no permission to %s disk image %s%s",
                         options->read_only ? "read" : "write", path,
                         options->read_only ? "" : "; add readonly=on if reading is enough");
    return error_set(err, -errno, "cannot open disk image %s: %s", path, strerror(errno));
}

/* An open-file-description lock (fcntl(2)): it belongs to this opening of the file, so that it
 * also keeps apart two VMs in one process, and ends with it. */
static int lock_file(int fd, const struct block_options *options, struct error *err)
{
    struct flock lock = {
        .l_type = options->read_only ? F_RDLCK : F_WRLCK,
        .l_whence = SEEK_SET,
    };

    if (!fcntl(fd, F_OFD_SETLK, &lock))
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return error_set(err, -EBUSY, "disk image %s is in use by another virtual machine%s",
                         options->path,
                         options->read_only ? " that may write it"
                                            : "; several can share it only with readonly=on");
    log_warn("%s: cannot be locked (%s); take care that no other virtual machine uses it",
             options->path, strerror(errno));
    return 0;
}

static int find_size(int fd, const struct stat *st, const char *path, uint64_t *size,
                     struct error *err)
{
    uint64_t bytes = (uint64_t)st->st_size;

    if (S_ISBLK(st->st_mode) && ioctl(fd, BLKGETSIZE64, &bytes))
        return error_set(err, -errno, "cannot find the size of %s: %s", path, strerror(errno));
    if (bytes < BLOCK_SECTOR)
        return error_set(err, -EINVAL,
                         bytes ? "disk image %s is smaller than one sector of 512 bytes"
                               : "disk image %s is empty; give it a size (truncate -s 8G FILE)",
                         path);
    *size = ALIGN_DOWN(bytes, (uint64_t)BLOCK_SECTOR);
    if (*size != bytes)
        log_warn("%s: the last %u bytes are no whole sector; the guest does not see them", path,
                 (unsigned)(bytes - *size));
    return 0;
}

/* Handing a guest the container instead of the disk inside would end in tears. */
static int refuse_other_formats(int fd, const char *path, struct error *err)
{
    char head[8] = "";

    if (pread(fd, head, sizeof(head), 0) < 0)
        return error_set(err, -errno, "cannot read disk image %s: %s", path, strerror(errno));
    for (size_t i = 0; i < ARRAY_SIZE(other_formats); i++)
        if (!memcmp(head, other_formats[i].magic, other_formats[i].length))
            return error_set(err, -EINVAL,
                             "disk image %s is in %s format; convert it (qemu-img convert -O raw), "
                             "or say format=raw to use the file as it is",
                             path, other_formats[i].format);
    return 0;
}

int raw_open(struct block_device **out, const struct block_options *options, struct error *err)
{
    struct stat st;
    int ret = open_file(options, &st, err);

    if (ret < 0)
        return ret;
    int fd = ret;
    struct raw *raw = calloc(1, sizeof(*raw));
    if (!raw) {
        ret = error_set(err, -ENOMEM, "no memory for disk image %s", options->path);
        goto fail;
    }
    snprintf(raw->disk.path, sizeof(raw->disk.path), "%s", options->path);
    ret = lock_file(fd, options, err);
    if (!ret)
        ret = find_size(fd, &st, options->path, &raw->disk.size, err);
    if (!ret && options->format == BLOCK_FORMAT_PROBE)
        ret = refuse_other_formats(fd, options->path, err);
    if (!ret)
        ret = file_io_new(&raw->io, fd, options->aio, raw->disk.path, err);
    if (ret)
        goto fail;
    raw->fd = fd;
    raw->disk.ops = &raw_ops;
    raw->disk.read_only = options->read_only;
    raw->disk.can_discard = options->discard && !options->read_only;
    raw->disk.ignore_flush = options->cache == BLOCK_CACHE_UNSAFE;
    *out = &raw->disk;
    return 0;

fail:
    free(raw);
    close(fd);
    return ret;
}
