/* The files behind UEFI's flash; see uefi_store.h. */
#include "machine/uefi_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

/* Of a firmware volume with one kind of block. */
#define VOLUME_HEADER_SIZE 0x48
#define ERASED 0xff
#define CODE_SIZE_MAX (8 * MIB)

static int read_whole(int fd, uint8_t *data, uint64_t size)
{
    for (uint64_t done = 0; done < size;) {
        ssize_t got = pread(fd, data + done, size - done, (off_t)done);
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got == 0)
            return -EIO; /* it has just become shorter */
        done += got > 0 ? (uint64_t)got : 0;
    }
    return 0;
}

static int write_whole(int fd, uint64_t offset, const uint8_t *data, uint64_t length)
{
    while (length) {
        ssize_t put = pwrite(fd, data, length, (off_t)offset);
        if (put < 0 && errno != EINTR)
            return -errno;
        if (put > 0) {
            offset += (uint64_t)put;
            data += put;
            length -= (uint64_t)put;
        }
    }
    return 0;
}

int uefi_read_package_file(uint8_t **data, uint64_t *size, const char *path, struct error *err)
{
    uint8_t *bytes = NULL;
    struct stat st;
    int result;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return error_set(err, -ENOENT, "there is no UEFI firmware at %s: install the package ovmf",
                         path);
    if (fd < 0)
        return error_set(err, -errno, "cannot open the UEFI firmware %s: %s", path,
                         strerror(errno));
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || !st.st_size || st.st_size % UEFI_BLOCK_SIZE ||
        st.st_size > (off_t)CODE_SIZE_MAX) {
        result =
            error_set(err, -EINVAL,
                      "%s is no UEFI firmware: install the package ovmf of Debian 12 anew", path);
        goto out;
    }
    bytes = malloc((size_t)st.st_size);
    result = bytes ? read_whole(fd, bytes, (uint64_t)st.st_size) : -ENOMEM;
    if (result) {
        error_set(err, result, "cannot read the UEFI firmware %s: %s", path, strerror(-result));
        goto out;
    }
    *size = (uint64_t)st.st_size;
    *data = bytes;
    bytes = NULL;
out:
    free(bytes);
    close(fd);
    return result;
}

/* Makes the file under another name first: a file with the right name is always whole. */
static int create(const char *path, const uint8_t *template, uint64_t size, struct error *err)
{
    char *temporary;

    if (asprintf(&temporary, "%s.XXXXXX", path) < 0)
        return error_set(err, -ENOMEM, "no memory for the name of %s", path);
    int fd = mkostemp(temporary, O_CLOEXEC);
    int result = fd < 0 ? -errno : write_whole(fd, 0, template, size);
    if (!result && fsync(fd))
        result = -errno;
    /* If another run was faster, its file is as good. */
    if (!result && link(temporary, path) && errno != EEXIST)
        result = -errno;
    if (result)
        error_set(err, result, "cannot make the UEFI variable store %s: %s", path,
                  strerror(-result));
    if (fd >= 0) {
        unlink(temporary);
        close(fd);
    }
    free(temporary);
    return result;
}

static int open_file(int *fd, const char *path, const uint8_t *template, uint64_t size,
                     struct error *err)
{
    struct stat st;

    if (stat(path, &st)) {
        int result = errno == ENOENT ? create(path, template, size, err)
                                     : error_set(err, -errno, "UEFI variable store %s: %s", path,
                                                 strerror(errno));
        if (result)
            return result;
    } else if (!S_ISREG(st.st_mode)) { /* opening it might block */
        return error_set(err, -EINVAL, "the UEFI variable store %s is no regular file", path);
    }
    *fd = open(path, O_RDWR | O_CLOEXEC);
    if (*fd < 0)
        return error_set(err, -errno, "cannot open the UEFI variable store %s: %s", path,
                         strerror(errno));
    return 0;
}

/* An open-file-description lock, as on disk images. */
static int lock_file(int fd, const char *path, struct error *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (!fcntl(fd, F_OFD_SETLK, &lock))
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return error_set(err, -EBUSY,
                         "the UEFI variable store %s is in use by another virtual machine: give "
                         "each its own",
                         path);
    log_warn("%s: cannot be locked (%s); take care that no other virtual machine uses it", path,
             strerror(errno));
    return 0;
}

/*
 * Whether the firmware made this, or may repair it. A run that was killed may have left a header
 * that is erased, or written in part.
 */
static bool is_store(const uint8_t *data, const uint8_t *template)
{
    for (unsigned i = 0; i < VOLUME_HEADER_SIZE; i++) {
        if (data[i] != template[i] && data[i] != ERASED)
            return false;
    }
    return true;
}

static int load(int fd, const char *path, uint8_t *template, uint64_t size, struct error *err)
{
    struct stat st;
    int result;

    if (fstat(fd, &st))
        return error_set(err, -errno, "UEFI variable store %s: %s", path, strerror(errno));
    if (st.st_size < 0 || (uint64_t)st.st_size != size)
        return error_set(err, -EINVAL,
                         "%s is no UEFI variable store of this firmware: it has %jd bytes instead "
                         "of %" PRIu64 "; remove it, or name another file",
                         path, (intmax_t)st.st_size, size);
    uint8_t *data = malloc(size);
    result = data ? read_whole(fd, data, size) : -ENOMEM;
    if (result)
        error_set(err, result, "cannot read the UEFI variable store %s: %s", path,
                  strerror(-result));
    else if (!is_store(data, template))
        result = error_set(err, -EINVAL,
                           "%s is no UEFI variable store, or broken: it does not begin like one; "
                           "remove it, or name another file",
                           path);
    if (!result)
        memcpy(template, data, size);
    free(data);
    return result;
}

int uefi_store_open(struct uefi_store *store, const char *path, uint8_t *template, uint64_t size,
                    struct error *err)
{
    int fd;

    *store = (struct uefi_store){0};
    if (!path)
        return 0;
    int result = open_file(&fd, path, template, size, err);
    if (result)
        return result;
    result = lock_file(fd, path, err);
    if (!result)
        result = load(fd, path, template, size, err);
    if (result) {
        close(fd);
        return result;
    }
    *store = (struct uefi_store){.path = path, .fd = fd};
    return 0;
}

void uefi_store_close(struct uefi_store *store)
{
    if (!store->path)
        return;
    if (fdatasync(store->fd))
        log_error("UEFI variable store %s: %s", store->path, strerror(errno));
    close(store->fd);
    store->path = NULL;
}

int uefi_store_write(void *opaque, uint64_t offset, const uint8_t *data, uint64_t length)
{
    struct uefi_store *store = opaque;

    if (!store->path)
        return 0;
    int result = write_whole(store->fd, offset, data, length);
    if (result && !store->failed) {
        store->failed = true;
        log_error("UEFI variable store %s: %s; the guest's changes to its settings are lost",
                  store->path, strerror(-result));
    }
    return result;
}
