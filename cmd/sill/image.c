/* Images that stand alone on the command line of `sill run`: each becomes a drive of the kind that
 * its contents are for. */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "boot/media.h"
#include "dev/storage/floppy.h"

static int read_file(void *opaque, uint64_t offset, void *to, size_t length)
{
    return pread(*(int *)opaque, to, length, (off_t)offset) == (ssize_t)length ? 0 : -EIO;
}

static enum media_kind look_at(int fd, off_t size)
{
    const struct media_reader medium = {read_file, &fd, size > 0 ? (uint64_t)size : 0};

    return media_kind(&medium);
}

int image_drive(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    off_t size = lseek(fd, 0, SEEK_END);
    enum media_kind kind = look_at(fd, size);
    close(fd);
    switch (kind) {
    case MEDIA_KERNEL:
        return IMAGE_KERNEL;
    case MEDIA_DISC:
        return IMAGE_CDROM;
    default:
        return size > 0 && floppy_has_size((uint64_t)size) ? IMAGE_FLOPPY : IMAGE_DISK;
    }
}
