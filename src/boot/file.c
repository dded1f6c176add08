/* A kernel or initrd file; see file.h. Control thread. */
#include "boot/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int boot_file_open(struct boot_file *file, const char *path, struct error *err)
{
    struct stat st;
    /* O_NONBLOCK: opening a FIFO must not wait for a writer, it is refused below. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return error_set(err, -errno, "%s: cannot open it: %s", path, strerror(errno));
    if (fstat(fd, &st)) {
        int ret = error_set(err, -errno, "%s: cannot read it: %s", path, strerror(errno));
        close(fd);
        return ret;
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return error_set(err, -EINVAL, "%s: not a regular file", path);
    }
    *file = (struct boot_file){.path = path, .fd = fd, .size = (uint64_t)st.st_size};
    return 0;
}

void boot_file_close(struct boot_file *file)
{
    close(file->fd);
    file->fd = -1;
}

static int truncated(const struct boot_file *file, uint64_t end, struct error *err)
{
    return error_set(err, -ENOEXEC,
                     "%s: the file is damaged or truncated: its headers speak of %" PRIu64
                     " bytes, but it has %" PRIu64,
                     file->path, end, file->size);
}

int boot_file_read(const struct boot_file *file, uint64_t offset, void *to, uint64_t length,
                   struct error *err)
{
    if (length > file->size || offset > file->size - length)
        return truncated(file, offset > UINT64_MAX - length ? UINT64_MAX : offset + length, err);
    for (uint64_t done = 0; done < length;) {
        ssize_t n = pread(file->fd, (uint8_t *)to + done, length - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, -errno, "%s: cannot read it: %s", file->path, strerror(errno));
        if (n == 0) /* it became shorter after it was opened */
            return truncated(file, offset + length, err);
        done += (uint64_t)n;
    }
    return 0;
}

int boot_file_load(const struct boot_file *file, uint64_t offset, struct memory *mem, gpa_t gpa,
                   uint64_t length, struct error *err)
{
    void *host = memory_host(mem, gpa, length, true);
    if (!host)
        return error_set(err, -EFAULT, "%s: %" PRIu64 " bytes at 0x%" PRIx64 " are not guest RAM",
                         file->path, length, gpa);
    int ret = boot_file_read(file, offset, host, length, err);
    memory_mark_written(mem, gpa, length);
    return ret;
}
