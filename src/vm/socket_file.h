/*
 * A Unix stream socket that listens under a name in the file system. A file that nobody serves any
 * more is replaced, a path that is taken otherwise is an error. Control thread.
 */
#ifndef SILL_VM_SOCKET_FILE_H
#define SILL_VM_SOCKET_FILE_H

#include <sys/stat.h>
#include <sys/un.h>

#include "base/error.h"

struct socket_file {
    int fd; /* non-blocking; -1: not open */
    struct sockaddr_un address;
    struct stat identity; /* of the file that was made */
};

/* `what` it is for begins the sentences of errors: "console socket". */
SILL_CHECKED int socket_file_open(struct socket_file *file, const char *what, const char *path,
                                  struct error *err);
/* Removes the file too, if it is still ours. Fine where fd is -1. */
void socket_file_close(struct socket_file *file);

#endif
