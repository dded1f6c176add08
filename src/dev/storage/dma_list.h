/*
 * The memory that a bus master's table of pieces names, as buffers for a block request.
 *
 * The table lies in guest memory and may be as malicious as it likes: each entry is read once, then
 * checked, then used; what is not RAM ends the gathering. A list takes DMA_LIST_MAX pieces; longer
 * transfers are gathered and done in several rounds, each of whole sectors but for the last.
 */
#ifndef SILL_DEV_STORAGE_DMA_LIST_H
#define SILL_DEV_STORAGE_DMA_LIST_H

#include <sys/uio.h>

#include "base/error.h"
#include "base/types.h"
#include "mem/memory.h"

/* A piece has at least two bytes in all tables, so a full list holds a sector at least. */
#define DMA_LIST_MAX 256

/* Where gathering goes on. */
struct dma_cursor {
    uint32_t entry;
    uint32_t offset; /* bytes of it that were used */
};

struct dma_piece {
    gpa_t gpa;
    uint32_t length;
    struct dma_cursor start;
};

struct dma_list {
    struct iovec iov[DMA_LIST_MAX]; /* block_submit() consumes them, `piece` stays */
    struct dma_piece piece[DMA_LIST_MAX];
    unsigned count;
    uint32_t length; /* bytes of all pieces */
    bool ended;      /* the table has nothing beyond these */
};

struct dma_table {
    struct memory *memory;
    void *opaque;
    /* 1 and the entry, 0 behind the last, -EFAULT when the table cannot be read. */
    int (*entry)(void *opaque, uint32_t index, gpa_t *gpa, uint32_t *length);
};

/* Gathers up to `wanted` bytes from the cursor on and moves it. -EFAULT: the table or what it names
 * is no memory, or not writable if `to_guest`. */
SILL_CHECKED int dma_list_gather(struct dma_list *list, const struct dma_table *table,
                                 struct dma_cursor *cursor, uint32_t wanted, bool to_guest);

/* Copies list->length bytes at most; returns how many. Includes dma_list_mark_written(). */
uint32_t dma_list_copy_to_guest(const struct dma_list *list, struct memory *memory,
                                const uint8_t *from, uint32_t length);
uint32_t dma_list_copy_from_guest(const struct dma_list *list, uint8_t *to, uint32_t length);

/* A device wrote all of it. */
void dma_list_mark_written(const struct dma_list *list, struct memory *memory);

#endif
