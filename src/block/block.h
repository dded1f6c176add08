/*
 * Disk images as devices see them: an array of bytes with asynchronous requests.
 *
 * Any thread submits; completions come on an I/O thread of the image, or from inside the submission
 * when a request can be answered at once. A format is a const table of operations (raw.c).
 */
#ifndef SILL_BLOCK_BLOCK_H
#define SILL_BLOCK_BLOCK_H

#include <sys/uio.h>

#include "base/error.h"
#include "base/types.h"

#define BLOCK_SECTOR 512
#define BLOCK_SERIAL_MAX 20
#define BLOCK_PATH_MAX 4096

enum block_op {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH,        /* what completed before is on stable storage afterwards */
    BLOCK_DISCARD,      /* a hint: the contents are no longer needed */
    BLOCK_WRITE_ZEROES, /* the range reads as zeroes afterwards */
};

/*
 * One request, embedded in the caller's own. Everything that it points to stays the caller's and
 * must live until `done`. The image consumes `iov`: its entries have other values afterwards.
 */
struct block_request {
    enum block_op op;
    uint64_t offset; /* bytes, within the image */
    uint64_t length; /* for reads and writes the sum of iov */
    struct iovec *iov;
    unsigned iov_count;
    bool may_unmap; /* BLOCK_WRITE_ZEROES: the space may be given back to the host */
    /* 0 or a negative errno. I/O thread, no lock held; may submit again. */
    void (*done)(struct block_request *request, int result);

    struct block_request *next; /* links a batch for block_submit(); the image's afterwards */
    unsigned attempt;           /* the image's; file_step.h */
    uint64_t finished;          /* the image's: bytes done so far */
};

struct block_device;

struct block_ops {
    const char *format;
    /* A batch linked by `next`, checked against size and read-only. */
    void (*submit)(struct block_device *disk, struct block_request *batch);
    /* No request is in flight. */
    void (*close)(struct block_device *disk);
};

struct block_device {
    const struct block_ops *ops;
    uint64_t size; /* bytes, a multiple of BLOCK_SECTOR */
    bool read_only;
    bool can_discard;          /* BLOCK_DISCARD gives space back; else it does nothing */
    bool ignore_flush;         /* cache=unsafe */
    char path[BLOCK_PATH_MAX]; /* for messages */
};

enum block_cache {
    BLOCK_CACHE_WRITEBACK,    /* through the host's page cache; flush makes it durable */
    BLOCK_CACHE_WRITETHROUGH, /* each write is durable when it completes */
    BLOCK_CACHE_UNSAFE,       /* flush does nothing: fast, lost on a host crash */
};

enum block_format {
    BLOCK_FORMAT_PROBE, /* raw, but refuse what looks like another format */
    BLOCK_FORMAT_RAW,
};

enum block_aio {
    BLOCK_AIO_AUTO, /* io_uring where the host allows it */
    BLOCK_AIO_URING,
    BLOCK_AIO_THREAD,
};

/* The kind of controller that shows the disk to the guest; nothing to the image. */
enum block_interface { BLOCK_VIRTIO, BLOCK_AHCI, BLOCK_IDE };

/* What `FILE[,key=value]...` says. */
struct block_options {
    char path[BLOCK_PATH_MAX];
    enum block_format format;          /* format=raw */
    bool read_only;                    /* readonly=on|off */
    enum block_cache cache;            /* cache=writeback|writethrough|unsafe */
    bool discard;                      /* discard=on|off, on by default */
    enum block_aio aio;                /* aio=auto|io_uring|thread */
    char serial[BLOCK_SERIAL_MAX + 1]; /* serial=TEXT, for the device */
    enum block_interface interface;    /* if=virtio|ahci|sata|ide, for the board */
    bool cdrom;                        /* a disc in a CD-ROM drive; an empty path: no disc */
};

/* Parses the command line form; a comma in the file name is written twice. -EINVAL. */
SILL_CHECKED int block_parse_options(struct block_options *options, const char *text,
                                     struct error *err);

/* The same for a CD-ROM drive: read-only, on AHCI by default, and `none` is an empty drive. */
SILL_CHECKED int block_parse_cdrom_options(struct block_options *options, const char *text,
                                           struct error *err);

/*
 * Opens the image and locks it: exclusively, or shared when read-only, so that two VMs never write
 * one image. Sentences for: missing, no permission, no file or block device, empty, in use.
 */
SILL_CHECKED int block_open(struct block_device **out, const struct block_options *options,
                            struct error *err);
void block_close(struct block_device *disk);

/* Submits a batch linked by `next` with one system call where possible. Requests that are out of
 * range, or change a read-only image, complete with an error from inside. */
void block_submit(struct block_device *disk, struct block_request *batch);

#endif
