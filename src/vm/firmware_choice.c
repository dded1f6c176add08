/*
 * Which firmware starts a VM whose user named none: the one that the first medium wants from which
 * anything can boot. Control thread, before the board is built.
 */
#include "vm/firmware.h"

#include <errno.h>
#include <semaphore.h>

#include "boot/media.h"

/* One read of an image, waited for. */
struct waited_read {
    struct block_request request;
    sem_t done;
    int result;
};

static void read_done(struct block_request *request, int result)
{
    struct waited_read *read = CONTAINER_OF(request, struct waited_read, request);

    read->result = result;
    sem_post(&read->done);
}

/* media_reader.read */
static int read_image(void *opaque, uint64_t offset, void *to, size_t length)
{
    struct iovec iov = {to, length};
    struct waited_read read = {
        .request = {.op = BLOCK_READ,
                    .offset = offset,
                    .length = length,
                    .iov = &iov,
                    .iov_count = 1,
                    .done = read_done},
    };

    sem_init(&read.done, 0, 0);
    block_submit(opaque, &read.request);
    while (sem_wait(&read.done) && errno == EINTR)
        ;
    sem_destroy(&read.done);
    return read.result;
}

static int look_at(const struct block_options *image, enum media_boot *boots, struct error *err)
{
    struct block_options options = *image;
    struct block_device *disk;

    *boots = MEDIA_BOOTS_NOTHING;
    if (!image->path[0]) /* a drive without a disc */
        return 0;
    options.read_only = true;
    int result = block_open(&disk, &options, err);
    if (result)
        return result;
    const struct media_reader medium = {read_image, disk, disk->size};
    *boots = image->cdrom ? media_disc(&medium) : media_disk(&medium);
    block_close(disk);
    return 0;
}

/* As pc_firmware.c's, without what UEFI cannot boot from, or firmware finds only by itself. */
static const enum pc_boot_class default_order[] = {PC_BOOT_DISK, PC_BOOT_CD};

int firmware_choose(struct pc_config *board, const char **because, struct error *err)
{
    bool asked = board->boot_order_count > 0;
    const enum pc_boot_class *order = asked ? board->boot_order : default_order;
    unsigned count = asked ? board->boot_order_count : ARRAY_SIZE(default_order);

    *because = NULL;
    if (board->kernel || board->firmware)
        return 0;
    board->firmware = PC_FIRMWARE_BIOS;
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 0; j < board->disk_count; j++) {
            enum media_boot boots;
            if ((board->disks[j].cdrom ? PC_BOOT_CD : PC_BOOT_DISK) != order[i])
                continue;
            int result = look_at(&board->disks[j], &boots, err);
            if (result)
                return result;
            if (boots == MEDIA_BOOTS_NOTHING)
                continue;
            if (boots == MEDIA_BOOTS_UEFI)
                board->firmware = PC_FIRMWARE_UEFI;
            *because = board->disks[j].path;
            return 0;
        }
    }
    return 0;
}
