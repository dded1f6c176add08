/*
 * Sectors between disk and guest: see floppy.h. Runs on the vCPU thread that gave the command, then
 * on the image's I/O thread, a sector after the other.
 *
 *     read:   disk -> buffer -> DMA or data port       until the terminal count, or the last sector
 *     write:  DMA or data port -> buffer -> disk, then a flush: the drive has no cache, and no
 *             command to empty one
 */
#include <string.h>

#include "dev/storage/floppy_internal.h"

static void read_sector(struct floppy *fdc);
static void fetch_sector(struct floppy *fdc);

static bool without_dma(const struct floppy *fdc)
{
    return fdc->specify[1] & 1;
}

/* The result phase of a transfer. The address is that of the next sector (data sheet, table 5-5).
 */
static void end_transfer(struct floppy *fdc, uint8_t st0, uint8_t st1, uint8_t st2)
{
    const uint8_t result[] = {
        st0 | fdc->drive | fdc->head << 2,
        st1,
        st2,
        fdc->cylinder,
        fdc->id_head,
        fdc->sector,
        fdc->size_code,
    };
    floppy_finish(fdc, result, sizeof(result), true);
}

/* To the next sector: false when the last one of the command was done. */
static bool next_sector(struct floppy *fdc)
{
    if (fdc->sector != fdc->last_sector) {
        fdc->sector++;
        return true;
    }
    fdc->sector = 1;
    if (!fdc->multi_track) {
        fdc->cylinder++;
        return false;
    }
    fdc->head ^= 1;
    fdc->id_head ^= 1;
    if (fdc->head)
        return true;
    fdc->cylinder++;
    return false;
}

/* Where the sector is on the image; false where the disk has none. */
static bool locate(const struct floppy *fdc, const struct floppy_drive *drive, uint64_t *offset)
{
    const struct floppy_geometry *g = drive->geometry;

    if (drive->track >= g->tracks || fdc->head >= g->heads || fdc->sector < 1 ||
        fdc->sector > g->sectors || fdc->size_code != FLOPPY_SIZE_CODE)
        return false;
    *offset = ((uint64_t)(drive->track * g->heads + fdc->head) * g->sectors + fdc->sector - 1) *
              FLOPPY_SECTOR;
    return true;
}

static void sector_done(struct block_request *request, int result);

static void submit(struct floppy *fdc, enum block_op op, uint64_t offset, size_t length)
{
    struct block_device *disk = fdc->drives[fdc->drive].disk;

    fdc->phase = FLOPPY_EXECUTE;
    fdc->in_flight = true;
    fdc->iov = (struct iovec){fdc->buffer, length};
    fdc->request = (struct block_request){
        .op = op,
        .offset = offset,
        .length = length,
        .iov = &fdc->iov,
        .iov_count = 1,
        .done = sector_done,
    };
    /* It may be done from inside, and takes the lock then. */
    pthread_mutex_unlock(&fdc->lock);
    block_submit(disk, &fdc->request);
    pthread_mutex_lock(&fdc->lock);
}

/* All sectors are where they belong. */
static void end_well(struct floppy *fdc)
{
    if (fdc->is_format || fdc->terminal_count)
        end_transfer(fdc, 0, 0, 0);
    else
        end_transfer(fdc, ST0_ABNORMAL, ST1_END_OF_CYLINDER, 0);
}

/* The sector is where it belongs: to the next one, if there is to be one. */
static void sector_moved(struct floppy *fdc)
{
    bool more = next_sector(fdc) && !fdc->terminal_count;

    if (!more && fdc->is_write)
        submit(fdc, BLOCK_FLUSH, 0, 0);
    else if (!more)
        end_well(fdc);
    else if (fdc->is_write)
        fetch_sector(fdc);
    else
        read_sector(fdc);
}

/* The buffer has what was read. */
static void deliver_sector(struct floppy *fdc)
{
    if (fdc->is_verify) {
        sector_moved(fdc);
    } else if (without_dma(fdc)) {
        fdc->buffer_at = 0;
        fdc->phase = FLOPPY_DATA;
        floppy_interrupt(fdc, true);
    } else if (!i8237_transfer(fdc->dma, FLOPPY_DMA, fdc->buffer, FLOPPY_SECTOR, true,
                               &fdc->terminal_count)) {
        end_transfer(fdc, ST0_ABNORMAL, ST1_OVERRUN, 0);
    } else {
        sector_moved(fdc);
    }
}

static void sector_done(struct block_request *request, int result)
{
    struct floppy *fdc = CONTAINER_OF(request, struct floppy, request);

    pthread_mutex_lock(&fdc->lock);
    fdc->in_flight = false;
    if (fdc->stale) {
        fdc->stale = false;
        if (fdc->postponed) {
            fdc->postponed = false;
            if (fdc->is_format)
                floppy_start_format(fdc);
            else
                floppy_start_transfer(fdc);
        }
    } else if (result) {
        end_transfer(fdc, ST0_ABNORMAL, ST1_DATA_ERROR, ST2_DATA_ERROR);
    } else if (request->op == BLOCK_FLUSH) {
        end_well(fdc);
    } else if (fdc->is_format) {
        submit(fdc, BLOCK_FLUSH, 0, 0);
    } else if (fdc->is_write) {
        sector_moved(fdc);
    } else {
        deliver_sector(fdc);
    }
    if (!fdc->in_flight)
        pthread_cond_broadcast(&fdc->quiet);
    pthread_mutex_unlock(&fdc->lock);
}

/* Why the sector cannot be reached: true, and the command has ended. */
static bool fails(struct floppy *fdc, const struct floppy_drive *drive, uint64_t *offset)
{
    if (!drive || !(drive->geometry->rates & 1 << fdc->rate)) {
        end_transfer(fdc, ST0_ABNORMAL, ST1_MISSING_MARK, 0);
    } else if (fdc->is_write && drive->disk->read_only) {
        end_transfer(fdc, ST0_ABNORMAL, ST1_NOT_WRITABLE, 0);
    } else if (fdc->cylinder != drive->track) {
        end_transfer(fdc, ST0_ABNORMAL, ST1_NO_DATA, ST2_WRONG_CYLINDER);
    } else if (!locate(fdc, drive, offset)) {
        end_transfer(fdc, ST0_ABNORMAL, ST1_NO_DATA, 0);
    } else if (fdc->deleted && !fdc->is_write) {
        /* No image keeps the mark of deleted data. */
        end_transfer(fdc, ST0_ABNORMAL, ST1_NO_DATA, ST2_CONTROL_MARK);
    } else {
        return false;
    }
    return true;
}

static void read_sector(struct floppy *fdc)
{
    uint64_t offset;

    if (!fails(fdc, floppy_disk(fdc, fdc->drive), &offset))
        submit(fdc, BLOCK_READ, offset, FLOPPY_SECTOR);
}

static void write_sector(struct floppy *fdc)
{
    uint64_t offset;

    if (!fails(fdc, floppy_disk(fdc, fdc->drive), &offset))
        submit(fdc, BLOCK_WRITE, offset, FLOPPY_SECTOR);
}

/* A terminal count within a sector leaves the rest of it zero. */
static void fetch_sector(struct floppy *fdc)
{
    uint64_t offset;

    if (fails(fdc, floppy_disk(fdc, fdc->drive), &offset))
        return;
    memset(fdc->buffer, 0, FLOPPY_SECTOR);
    if (without_dma(fdc)) {
        fdc->buffer_at = 0;
        fdc->phase = FLOPPY_DATA;
        floppy_interrupt(fdc, true);
    } else if (!i8237_transfer(fdc->dma, FLOPPY_DMA, fdc->buffer, FLOPPY_SECTOR, false,
                               &fdc->terminal_count)) {
        end_transfer(fdc, ST0_ABNORMAL, ST1_OVERRUN, 0);
    } else {
        write_sector(fdc);
    }
}

void floppy_data_done(struct floppy *fdc)
{
    floppy_interrupt(fdc, false);
    if (fdc->is_format)
        end_transfer(fdc, ST0_ABNORMAL, ST1_OVERRUN, 0);
    else if (fdc->is_write)
        write_sector(fdc);
    else
        sector_moved(fdc);
}

/* A reset may have left a request on its way, whose memory the next one needs. */
static bool must_wait(struct floppy *fdc)
{
    fdc->phase = FLOPPY_EXECUTE;
    fdc->postponed = fdc->in_flight;
    return fdc->in_flight;
}

void floppy_start_transfer(struct floppy *fdc)
{
    if (must_wait(fdc))
        return;
    fdc->terminal_count = false;
    if (fdc->is_write)
        fetch_sector(fdc);
    else
        read_sector(fdc);
}

/* The guest sends cylinder, head, number and size for each sector of the track; what is written are
 * whole tracks of the disk's own layout. */
void floppy_start_format(struct floppy *fdc)
{
    struct floppy_drive *drive = floppy_disk(fdc, fdc->drive);
    uint8_t ids[4 * FLOPPY_SECTORS_MAX];
    uint64_t offset;

    if (must_wait(fdc))
        return;
    fdc->sector = 1;
    fdc->cylinder = drive ? drive->track : 0;
    if (fails(fdc, drive, &offset))
        return;
    size_t wanted = 4u * drive->geometry->sectors;
    if (fdc->last_sector != drive->geometry->sectors) {
        end_transfer(fdc, ST0_ABNORMAL, ST1_NO_DATA, 0);
    } else if (without_dma(fdc) || i8237_transfer(fdc->dma, FLOPPY_DMA, ids, wanted, false,
                                                  &fdc->terminal_count) != wanted) {
        end_transfer(fdc, ST0_ABNORMAL, ST1_OVERRUN, 0);
    } else {
        memset(fdc->buffer, fdc->fill, drive->geometry->sectors * FLOPPY_SECTOR);
        submit(fdc, BLOCK_WRITE, offset, drive->geometry->sectors * FLOPPY_SECTOR);
    }
}

/* Any sector of the track does: the first that comes by. */
void floppy_read_id(struct floppy *fdc)
{
    struct floppy_drive *drive = floppy_disk(fdc, fdc->drive);
    uint64_t offset;

    fdc->sector = 1;
    fdc->size_code = FLOPPY_SIZE_CODE;
    fdc->cylinder = drive ? drive->track : 0;
    fdc->id_head = fdc->head;
    if (!fails(fdc, drive, &offset))
        end_transfer(fdc, 0, 0, 0);
}
