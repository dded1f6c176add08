/* A listening Unix socket and its file; see socket_file.h. */
#include "vm/socket_file.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 4

/* Is somebody serving the socket at `address`? */
static bool is_served(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return true;
    bool refused = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
                   errno == ECONNREFUSED;
    close(fd);
    return !refused;
}

/* Makes way for a new socket where an earlier run left its file. */
static int remove_stale(const struct sockaddr_un *address, const char *what, struct error *err)
{
    const char *path = address->sun_path;
    struct stat st;

    if (lstat(path, &st) < 0)
        return 0; /* it has just gone; bind() decides */
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, -EADDRINUSE,
                         "%s '%s' is taken by a file that is no socket: choose another path or "
                         "remove it",
                         what, path);
    if (is_served(address))
        return error_set(err, -EADDRINUSE,
                         "%s '%s' is in use by another process: choose another path", what, path);
    unlink(path);
    return 0;
}

int socket_file_open(struct socket_file *file, const char *what, const char *path,
                     struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct sockaddr *name = (const struct sockaddr *)&address;
    int result;

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, -ENAMETOOLONG,
                         "%s '%s' has too long a path: at most %zu characters work", what, path,
                         sizeof(address.sun_path) - 1);
    strcpy(address.sun_path, path);

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, -errno, "no socket for the %s: %s", what, strerror(errno));
    result = bind(fd, name, sizeof(address)) < 0 ? -errno : 0;
    if (result == -EADDRINUSE) {
        result = remove_stale(&address, what, err);
        if (result)
            goto fail;
        result = bind(fd, name, sizeof(address)) < 0 ? -errno : 0;
    }
    if (!result && (listen(fd, BACKLOG) < 0 || stat(path, &file->identity) < 0))
        result = -errno;
    if (result) {
        error_set(err, result, "cannot make the %s '%s': %s", what, path, strerror(-result));
        goto fail;
    }
    file->address = address;
    file->fd = fd;
    return 0;

fail:
    close(fd);
    return result;
}

void socket_file_close(struct socket_file *file)
{
    struct stat now;

    if (file->fd < 0)
        return;
    /* Only the file that is ours: somebody may have put another in its place. */
    if (lstat(file->address.sun_path, &now) == 0 && now.st_ino == file->identity.st_ino &&
        now.st_dev == file->identity.st_dev)
        unlink(file->address.sun_path);
    close(file->fd);
    file->fd = -1;
}
