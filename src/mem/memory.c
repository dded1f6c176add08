/*
 * Guest-physical memory slots; see memory.h for who may call what.
 *
 * RAM and ROM lie in memfds mapped MAP_SHARED, so that another process (a device worker, a clone, a
 * migration) can be given the same memory. `page_flags` is one sparse anonymous mapping that covers
 * page 0 up to the end of the highest slot: the kernel supplies only those of its pages that are
 * written, so the hole below 4 GiB costs nothing but addresses.
 */
#include "mem/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The architectural limit of a physical address (Intel SDM volume 3, 4.1.4). */
#define GPA_BITS 52
#define GPA_END (1ull << GPA_BITS)

#define HUGE_PAGE_SIZE (2 * MIB)

void memory_init(struct memory *mem, unsigned options)
{
    *mem = (struct memory){.huge_pages = options & MEMORY_HUGE_PAGES};
}

void memory_done(struct memory *mem)
{
    for (unsigned i = 0; i < mem->slot_count; i++) {
        if (mem->slot[i].borrowed)
            continue;
        munmap(mem->slot[i].host, mem->slot[i].size);
        close(mem->slot[i].fd);
    }
    if (mem->page_flags)
        munmap((void *)mem->page_flags, mem->page_count);
    *mem = (struct memory){0};
}

/* Makes page_flags reach to `end`; the new part is zero. */
static int grow_page_flags(struct memory *mem, gpa_t end)
{
    uint64_t count = end >> GUEST_PAGE_SHIFT;
    void *table;

    if (count <= mem->page_count)
        return 0;
    if (mem->page_flags)
        table = mremap((void *)mem->page_flags, mem->page_count, count, MREMAP_MAYMOVE);
    else
        table = mmap(NULL, count, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (table == MAP_FAILED)
        return -errno;
    mem->page_flags = table;
    mem->page_count = count;
    return 0;
}

/*
 * Maps the memfd where host and guest-physical addresses agree modulo the huge page size, without
 * which no huge page can back the guest's. Returns MAP_FAILED with errno set.
 *
 *     reserved   |......|=====================|......|    size + HUGE_PAGE_SIZE
 *     kept              host              host + size
 */
static uint8_t *map_aligned(int fd, gpa_t gpa, uint64_t size)
{
    uint8_t *reserved = mmap(NULL, size + HUGE_PAGE_SIZE, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return MAP_FAILED;
    uint64_t before = (gpa - (uintptr_t)reserved) & (HUGE_PAGE_SIZE - 1);
    uint8_t *host = mmap(reserved + before, size, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0);
    if (host == MAP_FAILED) {
        int saved = errno;
        munmap(reserved, size + HUGE_PAGE_SIZE);
        errno = saved;
        return MAP_FAILED;
    }
    if (before)
        munmap(reserved, before);
    if (before < HUGE_PAGE_SIZE)
        munmap(host + size, HUGE_PAGE_SIZE - before);
    return host;
}

static bool overlap(const struct memory_slot *slot, gpa_t gpa, uint64_t size)
{
    return gpa < slot->gpa + slot->size && slot->gpa < gpa + size;
}

/* Refuses what cannot become a slot. */
static int check_slot(const struct memory *mem, gpa_t gpa, uint64_t size, const char *name,
                      struct error *err)
{
    if (!size || (gpa | size) & (GUEST_PAGE_SIZE - 1) || size > GPA_END || gpa > GPA_END - size)
        return error_set(err, -EINVAL, "%s: no memory of %" PRIu64 " bytes can lie at 0x%" PRIx64,
                         name, size, gpa);
    if (mem->slot_count == MEMORY_MAX_SLOTS)
        return error_set(err, -ENOSPC, "%s: more than %d memory slots", name, MEMORY_MAX_SLOTS);
    for (unsigned i = 0; i < mem->slot_count; i++)
        if (overlap(&mem->slot[i], gpa, size))
            return error_set(err, -EEXIST, "%s at 0x%" PRIx64 " overlaps the memory at 0x%" PRIx64,
                             name, gpa, mem->slot[i].gpa);
    return 0;
}

static void insert_slot(struct memory *mem, const struct memory_slot *slot)
{
    unsigned at = mem->slot_count;
    while (at > 0 && mem->slot[at - 1].gpa > slot->gpa)
        at--;
    memmove(&mem->slot[at + 1], &mem->slot[at], (mem->slot_count - at) * sizeof(mem->slot[0]));
    mem->slot[at] = *slot;
    mem->slot_count++;
}

static int add(struct memory *mem, gpa_t gpa, uint64_t size, unsigned banks, unsigned flags,
               const char *name, struct error *err)
{
    int ret = check_slot(mem, gpa, size, name, err);
    if (ret)
        return ret;

    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        return error_set(err, -errno, "%s: cannot create guest memory: %s", name, strerror(errno));
    uint8_t *host = MAP_FAILED;
    if (ftruncate(fd, (off_t)(banks * size)) || (host = map_aligned(fd, gpa, size)) == MAP_FAILED ||
        (ret = grow_page_flags(mem, gpa + size))) {
        if (!ret)
            ret = -errno;
        error_set(err, ret, "%s: this host cannot give the guest %" PRIu64 " KiB of memory: %s",
                  name, (uint64_t)(size / KIB), strerror(-ret));
        goto fail;
    }
    /* A wish; a host without huge pages for shared memory refuses it and all works as well. */
    if (mem->huge_pages && !(flags & MEMORY_READONLY))
        madvise(host, size, MADV_HUGEPAGE);

    const struct memory_slot slot = {
        .gpa = gpa, .size = size, .host = host, .flags = flags, .fd = fd};
    insert_slot(mem, &slot);
    return 0;

fail:
    if (host != MAP_FAILED)
        munmap(host, size);
    close(fd);
    return ret;
}

int memory_add(struct memory *mem, gpa_t gpa, uint64_t size, unsigned flags, const char *name,
               struct error *err)
{
    return add(mem, gpa, size, 1, flags, name, err);
}

int memory_add_banks(struct memory *mem, gpa_t gpa, uint64_t size, unsigned banks, const char *name,
                     struct error *err)
{
    return add(mem, gpa, size, banks, 0, name, err);
}

int memory_block_init(struct memory_block *block, uint64_t size, const char *name,
                      struct error *err)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        return error_set(err, -errno, "%s: cannot create guest memory: %s", name, strerror(errno));
    uint8_t *host = MAP_FAILED;
    if (ftruncate(fd, (off_t)size) || (host = map_aligned(fd, 0, size)) == MAP_FAILED) {
        int ret = error_set(err, -errno, "%s: this host cannot give %" PRIu64 " KiB of memory: %s",
                            name, (uint64_t)(size / KIB), strerror(errno));
        close(fd);
        return ret;
    }
    *block = (struct memory_block){.name = name, .size = size, .host = host, .fd = fd};
    return 0;
}

void memory_block_done(struct memory_block *block)
{
    if (!block->host)
        return;
    munmap(block->host, block->size);
    close(block->fd);
    *block = (struct memory_block){0};
}

int memory_map(struct memory *mem, struct memory_block *block, gpa_t gpa, struct error *err)
{
    int ret = check_slot(mem, gpa, block->size, block->name, err);
    if (ret)
        return ret;
    ret = grow_page_flags(mem, gpa + block->size);
    if (ret)
        return error_set(err, ret, "%s: no memory for the flags of its pages", block->name);
    const struct memory_slot slot = {
        .gpa = gpa, .size = block->size, .host = block->host, .fd = block->fd, .borrowed = true};
    insert_slot(mem, &slot);
    block->mapped = true;
    block->gpa = gpa;
    return 0;
}

void memory_unmap(struct memory *mem, struct memory_block *block)
{
    for (unsigned i = 0; i < mem->slot_count && block->mapped; i++) {
        if (mem->slot[i].host != block->host)
            continue;
        mem->slot_count--;
        memmove(&mem->slot[i], &mem->slot[i + 1], (mem->slot_count - i) * sizeof(mem->slot[0]));
        block->mapped = false;
    }
}

/* The slot that starts at `gpa`, hidden or not. */
static struct memory_slot *slot_at(struct memory *mem, gpa_t gpa)
{
    for (unsigned i = 0; i < mem->slot_count; i++)
        if (mem->slot[i].gpa == gpa)
            return &mem->slot[i];
    return NULL;
}

/* The kernel exchanges a mapping in one piece: whoever accesses it meanwhile waits. */
int memory_show_bank(struct memory *mem, gpa_t gpa, unsigned bank)
{
    struct memory_slot *slot = slot_at(mem, gpa);
    if (!slot)
        return -EFAULT;
    uint64_t offset = bank * slot->size;
    if (offset == slot->fd_offset)
        return 0;
    if (mmap(slot->host, slot->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
             slot->fd, (off_t)offset) == MAP_FAILED)
        return -errno;
    slot->fd_offset = offset;
    memory_mark_written(mem, gpa, slot->size);
    return 0;
}

int memory_write_bank(struct memory *mem, gpa_t gpa, unsigned bank, const void *from,
                      uint64_t length)
{
    for (unsigned i = 0; i < mem->slot_count; i++) {
        const struct memory_slot *slot = &mem->slot[i];
        uint64_t offset = gpa - slot->gpa;
        if (offset >= slot->size || length > slot->size - offset)
            continue;
        ssize_t done = pwrite(slot->fd, from, length, (off_t)(bank * slot->size + offset));
        if (done != (ssize_t)length)
            return done < 0 ? -errno : -EIO;
        if (slot->fd_offset == bank * slot->size)
            memory_mark_written(mem, gpa, length);
        return 0;
    }
    return -EFAULT;
}

void memory_set_flags(struct memory *mem, gpa_t gpa, unsigned flags)
{
    struct memory_slot *slot = slot_at(mem, gpa);

    if (slot)
        atomic_store(&slot->flags, flags);
}

const struct memory_slot *memory_find(const struct memory *mem, gpa_t gpa)
{
    /* A board has few slots, and the many small ones lie low, where nobody looks often. */
    for (unsigned i = mem->slot_count; i-- > 0;)
        if (gpa - mem->slot[i].gpa < mem->slot[i].size && !(mem->slot[i].flags & MEMORY_HIDDEN))
            return &mem->slot[i];
    return NULL;
}

/* As memory_find(), refusing ROM when `write`. */
static const struct memory_slot *find_access(const struct memory *mem, gpa_t gpa, bool write)
{
    const struct memory_slot *slot = memory_find(mem, gpa);
    return slot && write && slot->flags & MEMORY_READONLY ? NULL : slot;
}

void *memory_host(const struct memory *mem, gpa_t gpa, uint64_t length, bool write)
{
    const struct memory_slot *slot = find_access(mem, gpa, write);
    if (!slot || length > slot->size - (gpa - slot->gpa))
        return NULL;
    return slot->host + (gpa - slot->gpa);
}

/*
 * The first piece of [gpa, gpa + length) that lies in one slot: its host address, and its length in
 * `*piece`. NULL when nothing is left, or when `gpa` is no memory.
 */
static uint8_t *first_piece(const struct memory *mem, gpa_t gpa, uint64_t length, bool write,
                            uint64_t *piece)
{
    const struct memory_slot *slot = length ? find_access(mem, gpa, write) : NULL;
    if (!slot)
        return NULL;
    uint64_t offset = gpa - slot->gpa;
    *piece = length < slot->size - offset ? length : slot->size - offset;
    return slot->host + offset;
}

static int check_range(const struct memory *mem, gpa_t gpa, uint64_t length, bool write)
{
    uint64_t done = 0, piece;
    while (first_piece(mem, gpa + done, length - done, write, &piece))
        done += piece;
    return done < length ? -EFAULT : 0;
}

int memory_read(const struct memory *mem, gpa_t gpa, void *to, uint64_t length)
{
    int ret = check_range(mem, gpa, length, false);
    if (ret)
        return ret;
    uint64_t done = 0, piece;
    const uint8_t *host;
    while ((host = first_piece(mem, gpa + done, length - done, false, &piece))) {
        memcpy((uint8_t *)to + done, host, piece);
        done += piece;
    }
    return 0;
}

int memory_write(struct memory *mem, gpa_t gpa, const void *from, uint64_t length)
{
    int ret = check_range(mem, gpa, length, true);
    if (ret)
        return ret;
    uint64_t done = 0, piece;
    uint8_t *host;
    while ((host = first_piece(mem, gpa + done, length - done, true, &piece))) {
        memcpy(host, (const uint8_t *)from + done, piece);
        done += piece;
    }
    memory_mark_written(mem, gpa, length);
    return 0;
}

void memory_mark_written(struct memory *mem, gpa_t gpa, uint64_t length)
{
    uint64_t page = gpa >> GUEST_PAGE_SHIFT;
    uint8_t dirty = mem->dirty_log ? MEMORY_PAGE_DIRTY : 0;
    bool watched = false;

    if (!length || page >= mem->page_count || length > (mem->page_count << GUEST_PAGE_SHIFT) - gpa)
        return;
    /*
     * The read of the flags must not pass the write of the data: an engine sets WATCHED before it
     * reads the code, so one of the two sees the other. Hence a full-barrier read-modify-write
     * even when there is no bit to set.
     */
    for (; page <= (gpa + length - 1) >> GUEST_PAGE_SHIFT; page++)
        if (atomic_fetch_or(&mem->page_flags[page], dirty) & MEMORY_PAGE_WATCHED)
            watched = true;
    if (watched && mem->written)
        mem->written(mem->written_opaque, gpa, length);
}

void memory_watch_page(struct memory *mem, gpa_t gpa, bool on)
{
    uint64_t page = gpa >> GUEST_PAGE_SHIFT;

    if (page >= mem->page_count)
        return;
    if (on)
        atomic_fetch_or(&mem->page_flags[page], MEMORY_PAGE_WATCHED);
    else
        atomic_fetch_and(&mem->page_flags[page], (uint8_t)~MEMORY_PAGE_WATCHED);
}
