/* See dma_list.h. Any thread, with the controller's lock held. */
#include "dev/storage/dma_list.h"

#include <errno.h>
#include <string.h>

#define WHOLE_SECTOR 512u

/* Tables may have entries without any length where the specification allows it (none does, but
 * hardware skips them); a guest must not keep us looking for ever. */
#define EMPTY_ENTRIES_MAX 65536

/* Adds what of [gpa, gpa + length) lies in one slot; returns its length. */
static int add_piece(struct dma_list *list, struct memory *memory, gpa_t gpa, uint32_t length,
                     bool to_guest, struct dma_cursor start, uint32_t *added)
{
    const struct memory_slot *slot = memory_find(memory, gpa);

    if (!slot)
        return -EFAULT;
    uint64_t room = slot->gpa + slot->size - gpa;
    if (length > room)
        length = (uint32_t)room;
    void *host = memory_host(memory, gpa, length, to_guest);
    if (!host)
        return -EFAULT;
    list->iov[list->count] = (struct iovec){host, length};
    list->piece[list->count++] = (struct dma_piece){gpa, length, start};
    list->length += length;
    *added = length;
    return 0;
}

/* Takes bytes off the end again, and the cursor back. */
static void drop_tail(struct dma_list *list, struct dma_cursor *cursor, uint32_t bytes)
{
    list->length -= bytes;
    while (bytes) {
        struct dma_piece *last = &list->piece[list->count - 1];
        if (last->length > bytes) {
            last->length -= bytes;
            list->iov[list->count - 1].iov_len = last->length;
            *cursor = (struct dma_cursor){last->start.entry, last->start.offset + last->length};
            return;
        }
        bytes -= last->length;
        *cursor = last->start;
        list->count--;
    }
}

int dma_list_gather(struct dma_list *list, const struct dma_table *table, struct dma_cursor *cursor,
                    uint32_t wanted, bool to_guest)
{
    unsigned empty = 0;

    list->count = 0;
    list->length = 0;
    list->ended = false;
    while (list->length < wanted && list->count < DMA_LIST_MAX) {
        gpa_t gpa;
        uint32_t length, added;
        int got = table->entry(table->opaque, cursor->entry, &gpa, &length);
        if (got < 0)
            return got;
        if (!got || empty == EMPTY_ENTRIES_MAX) {
            list->ended = true;
            return 0;
        }
        if (cursor->offset >= length) { /* used up; the guest may also have shortened it */
            empty++;
            *cursor = (struct dma_cursor){cursor->entry + 1, 0};
            continue;
        }
        length -= cursor->offset;
        if (length > wanted - list->length)
            length = wanted - list->length;
        int ret =
            add_piece(list, table->memory, gpa + cursor->offset, length, to_guest, *cursor, &added);
        if (ret)
            return ret;
        cursor->offset += added;
    }
    if (list->length < wanted)
        drop_tail(list, cursor, list->length % WHOLE_SECTOR);
    return 0;
}

uint32_t dma_list_copy_to_guest(const struct dma_list *list, struct memory *memory,
                                const uint8_t *from, uint32_t length)
{
    uint32_t done = 0;

    for (unsigned i = 0; i < list->count && done < length; i++) {
        uint32_t part = list->piece[i].length;
        if (part > length - done)
            part = length - done;
        memcpy(list->iov[i].iov_base, from + done, part);
        memory_mark_written(memory, list->piece[i].gpa, part);
        done += part;
    }
    return done;
}

uint32_t dma_list_copy_from_guest(const struct dma_list *list, uint8_t *to, uint32_t length)
{
    uint32_t done = 0;

    for (unsigned i = 0; i < list->count && done < length; i++) {
        uint32_t part = list->piece[i].length;
        if (part > length - done)
            part = length - done;
        memcpy(to + done, list->iov[i].iov_base, part);
        done += part;
    }
    return done;
}

void dma_list_mark_written(const struct dma_list *list, struct memory *memory)
{
    for (unsigned i = 0; i < list->count; i++)
        memory_mark_written(memory, list->piece[i].gpa, list->piece[i].length);
}
