/* The code cache; see cache.h. */
#include "engine/dbt/cache.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_HASH_SIZE (1u << 14)
#define HUGE_PAGE (2 * MIB)
#define MIN_BLOCK_BYTES 48 /* no block is smaller: bounds the order table */
/* Code that is written anew so often gets no more links to each version: those would all have to be
 * changed for the next. */
#define MANY_DEATHS 4
#define META_KEPT (CACHE_LOOKUP_RECORD + (uint32_t)sizeof(struct exit_record)) /* by a flush */

/* Look-ups go all over the blocks. The first of them, which is all that small guests need, stay on
 * small pages, since a large one takes longer to make. */
static void want_huge_pages(uint8_t *from, uint64_t size)
{
    uint8_t *first = (uint8_t *)ALIGN_UP((uintptr_t)from + HUGE_PAGE, HUGE_PAGE);

    if (first < from + size)
        (void)!madvise(first, (size_t)(from + size - first), MADV_HUGEPAGE);
}

int cache_init(struct code_cache *cache, uint64_t size, struct error *err)
{
    memset(cache, 0, sizeof(*cache));
    cache->rw = cache->rx = cache->meta = MAP_FAILED;
    if (size < ENGINE_CODE_CACHE_MIN || size > ENGINE_CODE_CACHE_MAX)
        return error_set(err, -EINVAL, "the code cache must be between 4M and 1G, not %llu bytes",
                         (unsigned long long)size);
    cache->size = (uint32_t)ALIGN_UP(size, GUEST_PAGE_SIZE);
    cache->meta_size = cache->size;

    cache->rw = mmap(NULL, cache->size, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (cache->rw == MAP_FAILED)
        goto fail;
    /* An old size of 0 makes a second mapping of the same memory. A memfd would do too, but perf
     * takes that for a file with symbols of its own, and not for code of a translator. */
    cache->rx = mremap(cache->rw, 0, cache->size, MREMAP_MAYMOVE);
    if (cache->rx == MAP_FAILED || mprotect(cache->rx, cache->size, PROT_READ | PROT_EXEC) < 0)
        goto fail;
    cache->meta = mmap(NULL, cache->meta_size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cache->hash = calloc(CACHE_HASH_SIZE, sizeof(*cache->hash));
    cache->page = calloc(PAGE_HASH_SIZE, sizeof(*cache->page));
    cache->second = calloc(PAGE_HASH_SIZE, sizeof(*cache->second));
    cache->pieces = calloc(PAGE_HASH_SIZE, sizeof(*cache->pieces));
    cache->order = mmap(NULL, cache->size / MIN_BLOCK_BYTES * sizeof(*cache->order),
                        PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (cache->meta == MAP_FAILED || !cache->hash || !cache->page || !cache->second ||
        !cache->pieces || cache->order == MAP_FAILED)
        goto fail;
    want_huge_pages(cache->meta, cache->meta_size);
    ((struct exit_record *)(cache->meta + CACHE_LOOKUP_RECORD))->kind = EXIT_LOOKUP;
    cache->meta_used = META_KEPT;
    return 0;

fail:;
    int code = errno ? -errno : -ENOMEM;

    cache_done(cache);
    return error_set(err, code, "cannot map a code cache of %u MiB: %s", cache->size >> 20,
                     strerror(-code));
}

void cache_done(struct code_cache *cache)
{
    if (cache->rw && cache->rw != MAP_FAILED)
        munmap(cache->rw, cache->size);
    if (cache->rx && cache->rx != MAP_FAILED)
        munmap(cache->rx, cache->size);
    if (cache->meta && cache->meta != MAP_FAILED)
        munmap(cache->meta, cache->meta_size);
    if (cache->order && cache->order != MAP_FAILED)
        munmap(cache->order, cache->size / MIN_BLOCK_BYTES * sizeof(*cache->order));
    free(cache->hash);
    free(cache->page);
    free(cache->second);
    free(cache->pieces);
    cache->pieces = NULL;
    cache->rw = cache->rx = cache->meta = NULL;
    cache->hash = cache->page = cache->second = cache->order = NULL;
}

void cache_flush(struct code_cache *cache, enum flush_cause cause)
{
    cache->flushes[cause]++;
    cache->used = cache->stubs_end;
    cache->meta_used = META_KEPT;
    cache->order_count = 0;
    cache->generation++;
    memset(cache->hash, 0, CACHE_HASH_SIZE * sizeof(*cache->hash));
    memset(cache->page, 0, PAGE_HASH_SIZE * sizeof(*cache->page));
    memset(cache->second, 0, PAGE_HASH_SIZE * sizeof(*cache->second));
    memset(cache->pieces, 0, PAGE_HASH_SIZE * sizeof(*cache->pieces));
}

void *cache_meta(struct code_cache *cache, uint32_t size)
{
    size = ALIGN_UP(size, 8u);
    if (cache->meta_size - cache->meta_used < size)
        return NULL;

    void *result = cache->meta + cache->meta_used;

    cache->meta_used += size;
    memset(result, 0, size);
    return result;
}

static uint32_t page_hash(gpa_t gpa)
{
    return (uint32_t)(gpa >> GUEST_PAGE_SHIFT) & (PAGE_HASH_SIZE - 1);
}

/* Replaces the NOP (or jump) at the block's entry by a jump, in one aligned store. */
static void redirect_entry(struct code_cache *cache, const struct dbt_block *block, uint32_t target)
{
    uint64_t *entry = (uint64_t *)(cache->rw + block->entry);
    uint32_t displacement = target - (block->entry + 5);
    uint64_t jump = 0xe9 | (uint64_t)displacement << 8;

    atomic_store((_Atomic uint64_t *)entry, (*entry & ~0xffffffffffull) | jump);
}

/* Readers that have the block in hand still find what is behind it. */
static void hash_remove(struct code_cache *cache, const struct dbt_block *block)
{
    struct dbt_block **link = &cache->hash[cache_hash(block->gpa, block->mode)];

    while (*link != block)
        link = &(*link)->hash_next;
    __atomic_store_n(link, block->hash_next, __ATOMIC_RELEASE);
}

/* A bit for each 64 bytes of a page that the range [first, last] touches. What pages of one hash
 * have in `pieces` is where their blocks depend on, and may be more than that. */
static uint64_t pieces_of(uint32_t first, uint32_t last)
{
    uint32_t low = first / 64, high = last < GUEST_PAGE_SIZE ? last / 64 : 63;

    return ~0ull >> (63 - (high - low)) << low;
}

static void note_pieces(struct code_cache *cache, const struct dbt_block *block)
{
    uint32_t start = block->gpa & (GUEST_PAGE_SIZE - 1);
    uint64_t *pieces = &cache->pieces[page_hash(block->gpa)];

    *pieces |= pieces_of(start, start + block->seen - 1);
    if (block->seen_high > block->seen_low)
        *pieces |= pieces_of(block->seen_low, block->seen_high - 1);
    if (block->mode & DBT_MODE_CROSS)
        cache->pieces[page_hash(block->second_page)] |= pieces_of(0, block->second_end - 1);
}

static void block_kill(struct code_cache *cache, struct dbt_block *block)
{
    redirect_entry(cache, block, block->dead);
    block->valid = false;
    cache->invalidations++;
    /* Nobody jumps there. */
    if (block->unlinked)
        hash_remove(cache, block);
}

void cache_insert(struct code_cache *cache, struct dbt_block *block)
{
    struct dbt_block **slot = &cache->hash[cache_hash(block->gpa, block->mode)];
    unsigned dead = 0;

    for (struct dbt_block *b = *slot; b; b = b->hash_next) {
        if (b->valid || b->gpa != block->gpa || b->mode != block->mode)
            continue;
        redirect_entry(cache, b, block->entry);
        dead++;
    }
    /* Only the dispatcher leads to blocks on two pages. */
    block->unlinked = (block->mode & DBT_MODE_CROSS) || dead >= MANY_DEATHS;
    block->valid = true;
    block->hash_next = *slot;
    __atomic_store_n(slot, block, __ATOMIC_RELEASE);
    slot = &cache->page[page_hash(block->gpa)];
    block->page_next = *slot;
    *slot = block;
    if (block->mode & DBT_MODE_CROSS) {
        slot = &cache->second[page_hash(block->second_page)];
        block->second_next = *slot;
        *slot = block;
    }
    note_pieces(cache, block);
    /* The signal handler of a vCPU thread reads the table without the lock. */
    cache->order[cache->order_count] = block;
    __atomic_store_n(&cache->order_count, cache->order_count + 1, __ATOMIC_RELEASE);
    cache->translations++;
    cache->guest_bytes += block->length;
    cache->host_bytes += block->end - block->start;
}

struct dbt_block *cache_block_at(const struct code_cache *cache, uint32_t offset)
{
    uint32_t low = 0, high = cache->order_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct dbt_block *block = cache->order[middle];

        if (offset < block->start)
            high = middle;
        else if (offset >= block->end)
            low = middle + 1;
        else
            return block;
    }
    return NULL;
}

/* Whether the block depends on [first, last], page offsets of the page at `page`. */
static bool block_touches(const struct dbt_block *block, gpa_t page, uint32_t first, uint32_t last)
{
    uint32_t start = block->gpa & (GUEST_PAGE_SIZE - 1);

    if ((block->mode & DBT_MODE_CROSS) && block->second_page == page && first < block->second_end)
        return true;
    if (ALIGN_DOWN(block->gpa, GUEST_PAGE_SIZE) != page)
        return false;
    if (first < start + block->seen && last >= start)
        return true;
    return first < block->seen_high && last >= block->seen_low;
}

bool cache_overlaps(const struct code_cache *cache, gpa_t gpa, uint64_t length)
{
    gpa_t page = ALIGN_DOWN(gpa, GUEST_PAGE_SIZE);
    uint32_t first = (uint32_t)(gpa - page);
    uint32_t last = first + (uint32_t)length - 1;

    if (!(cache->pieces[page_hash(gpa)] & pieces_of(first, last)))
        return false;
    for (struct dbt_block *b = cache->page[page_hash(gpa)]; b; b = b->page_next)
        if (b->valid && block_touches(b, page, first, last))
            return true;
    for (struct dbt_block *b = cache->second[page_hash(gpa)]; b; b = b->second_next)
        if (b->valid && block_touches(b, page, first, last))
            return true;
    return false;
}

unsigned cache_invalidate(struct code_cache *cache, gpa_t gpa, uint64_t length, bool *page_empty)
{
    gpa_t page = ALIGN_DOWN(gpa, GUEST_PAGE_SIZE);
    uint32_t first = (uint32_t)(gpa - page);
    uint32_t last = first + (uint32_t)length - 1;
    unsigned killed = 0;
    struct dbt_block **link;

    *page_empty = true;
    cache->pieces[page_hash(gpa)] = 0;
    for (link = &cache->second[page_hash(gpa)]; *link;) {
        struct dbt_block *b = *link;

        if (b->valid && block_touches(b, page, first, last)) {
            block_kill(cache, b);
            killed++;
        }
        if (!b->valid) {
            *link = b->second_next;
            continue;
        }
        if (b->second_page == page)
            *page_empty = false;
        note_pieces(cache, b);
        link = &b->second_next;
    }
    for (link = &cache->page[page_hash(gpa)]; *link;) {
        struct dbt_block *b = *link;

        if (b->valid && block_touches(b, page, first, last)) {
            block_kill(cache, b);
            killed++;
        }
        if (!b->valid) {
            *link = b->page_next;
            continue;
        }
        if (ALIGN_DOWN(b->gpa, GUEST_PAGE_SIZE) == page)
            *page_empty = false;
        note_pieces(cache, b);
        link = &b->page_next;
    }
    return killed;
}
