/*
 * Port and memory-mapped I/O dispatch; see bus.h for the contract.
 *
 * An address space is a sorted table which vCPU threads search without a lock while another thread
 * changes it. The table holds two copies of its entries, and the lowest bit of `generation` says
 * which one readers use; a writer changes the other one, flips, and brings the first up to date:
 *
 *     generation     copy 0               copy 1
 *     2n             readers              -
 *     2n + 1         writer changes it    readers (old contents)
 *     2n + 2         readers (new)        writer changes it
 *
 * A reader that finds the generation unchanged after its search has read one consistent copy; else
 * it searches again. Nobody waits, and nothing is allocated but when the table must grow, so a
 * guest that moves its BARs without end costs no memory.
 */
#include "bus/bus.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/log.h"

#define PORT_SPACE_SIZE 0x10000

#define FIRST_CAPACITY 32

/* Base and size are copies: `region` may be removed and added elsewhere while a search runs. */
struct entry {
    _Atomic uint64_t base;
    _Atomic uint64_t size;
    struct region *_Atomic region;
};

struct bus_table {
    struct bus_table *next_retired;
    unsigned capacity;
    _Atomic uint64_t generation;
    struct {
        _Atomic unsigned count;
        struct entry *entry; /* [capacity], sorted by base */
    } copy[2];
    struct entry entries[]; /* storage of both copies */
};

/* One entry as a search found it. */
struct found {
    uint64_t base;
    uint64_t size;
    struct region *region; /* NULL: there is none */
};

void bus_init(struct bus *bus)
{
    for (int i = 0; i < BUS_SPACE_COUNT; i++)
        atomic_init(&bus->table[i], NULL);
    bus->retired = NULL;
    pthread_mutex_init(&bus->lock, NULL);
}

void bus_done(struct bus *bus)
{
    for (int i = 0; i < BUS_SPACE_COUNT; i++)
        free(atomic_load(&bus->table[i]));
    while (bus->retired) {
        struct bus_table *table = bus->retired;
        bus->retired = table->next_retired;
        free(table);
    }
    pthread_mutex_destroy(&bus->lock);
}

/* Changing a table; the bus's lock is held. */

static struct bus_table *table_new(unsigned capacity)
{
    struct bus_table *table = calloc(1, sizeof(*table) + sizeof(struct entry) * 2 * capacity);
    if (!table)
        return NULL;
    table->capacity = capacity;
    table->copy[0].entry = table->entries;
    table->copy[1].entry = table->entries + capacity;
    return table;
}

static void entry_copy(struct entry *to, const struct entry *from)
{
    atomic_store(&to->base, atomic_load(&from->base));
    atomic_store(&to->size, atomic_load(&from->size));
    atomic_store(&to->region, atomic_load(&from->region));
}

/* The current table with room for one more entry, or NULL when there is no memory. Retired tables
 * halve in size, so together they are smaller than the current one. */
static struct bus_table *table_with_room(struct bus *bus, enum bus_space space)
{
    struct bus_table *old = atomic_load(&bus->table[space]);
    unsigned count = old ? atomic_load(&old->copy[0].count) : 0;

    if (old && count < old->capacity)
        return old;
    struct bus_table *table = table_new(old ? 2 * old->capacity : FIRST_CAPACITY);
    if (!table)
        return NULL;
    for (int c = 0; c < 2; c++) {
        for (unsigned i = 0; i < count; i++)
            entry_copy(&table->copy[c].entry[i], &old->copy[0].entry[i]);
        atomic_store(&table->copy[c].count, count);
    }
    atomic_store(&bus->table[space], table);
    if (old) {
        old->next_retired = bus->retired;
        bus->retired = old;
    }
    return table;
}

static void table_insert(struct bus_table *table, unsigned at, struct region *region)
{
    for (int c = 0; c < 2; c++) {
        struct entry *entry = table->copy[c].entry;
        unsigned count = atomic_load(&table->copy[c].count);

        atomic_fetch_add(&table->generation, 1);
        for (unsigned i = count; i > at; i--)
            entry_copy(&entry[i], &entry[i - 1]);
        atomic_store(&entry[at].base, region->base);
        atomic_store(&entry[at].size, region->size);
        atomic_store(&entry[at].region, region);
        atomic_store(&table->copy[c].count, count + 1);
    }
}

static void table_delete(struct bus_table *table, unsigned at)
{
    for (int c = 0; c < 2; c++) {
        struct entry *entry = table->copy[c].entry;
        unsigned count = atomic_load(&table->copy[c].count);

        atomic_fetch_add(&table->generation, 1);
        for (unsigned i = at; i + 1 < count; i++)
            entry_copy(&entry[i], &entry[i + 1]);
        atomic_store(&table->copy[c].count, count - 1);
    }
}

int bus_add(struct bus *bus, enum bus_space space, struct region *region, uint64_t base,
            struct error *err)
{
    uint64_t last = base + region->size - 1;
    if (!region->size || last < base || (space == BUS_PORT && last >= PORT_SPACE_SIZE))
        return error_set(err, -EINVAL, "%s: 0x%" PRIx64 " bytes cannot lie at 0x%" PRIx64,
                         region->name, region->size, base);

    int ret = 0;
    pthread_mutex_lock(&bus->lock);
    struct bus_table *table = table_with_room(bus, space);
    if (!table) {
        ret = error_set(err, -ENOMEM, "%s: no memory for its address range", region->name);
        goto out;
    }
    unsigned count = atomic_load(&table->copy[0].count);
    unsigned at = 0;
    for (; at < count; at++) {
        const struct region *other = atomic_load(&table->copy[0].entry[at].region);
        if (other->base > last)
            break;
        if (other->base + other->size - 1 >= base) {
            ret = error_set(err, -EEXIST, "%s at 0x%" PRIx64 " overlaps %s at 0x%" PRIx64,
                            region->name, base, other->name, other->base);
            goto out;
        }
    }
    region->base = base;
    region->added = true;
    table_insert(table, at, region);
out:
    pthread_mutex_unlock(&bus->lock);
    return ret;
}

void bus_remove(struct bus *bus, enum bus_space space, struct region *region)
{
    pthread_mutex_lock(&bus->lock);
    struct bus_table *table = atomic_load(&bus->table[space]);
    unsigned count = table ? atomic_load(&table->copy[0].count) : 0;
    for (unsigned i = 0; i < count; i++) {
        if (atomic_load(&table->copy[0].entry[i].region) == region) {
            table_delete(table, i);
            region->added = false;
            break;
        }
    }
    pthread_mutex_unlock(&bus->lock);
}

/* Look-up. */

static struct found entry_read(struct entry *entry)
{
    /* Acquire: the later check of the generation must not be done before these. */
    return (struct found){
        .base = atomic_load_explicit(&entry->base, memory_order_acquire),
        .size = atomic_load_explicit(&entry->size, memory_order_acquire),
        .region = atomic_load_explicit(&entry->region, memory_order_acquire),
    };
}

/* The first region that ends beyond `address`: it holds the address, or is the next one above. */
static struct found table_search(struct bus_table *table, uint64_t address)
{
    for (;;) {
        uint64_t generation = atomic_load_explicit(&table->generation, memory_order_acquire);
        struct entry *entry = table->copy[generation & 1].entry;
        unsigned low = 0;
        unsigned high =
            atomic_load_explicit(&table->copy[generation & 1].count, memory_order_acquire);
        struct found best = {.region = NULL};

        while (low < high) {
            unsigned middle = low + (high - low) / 2;
            struct found here = entry_read(&entry[middle]);
            if (here.base + here.size - 1 >= address) {
                best = here;
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        if (atomic_load_explicit(&table->generation, memory_order_relaxed) == generation)
            return best;
    }
}

/* Accesses. */

static uint64_t ones(unsigned size)
{
    return size == 8 ? UINT64_MAX : (1ull << (size * 8)) - 1;
}

static enum bus_result worse(enum bus_result a, enum bus_result b)
{
    return a > b ? a : b;
}

static unsigned min_size(const struct region_ops *ops)
{
    return ops->min_size ? ops->min_size : 1;
}

static unsigned max_size(const struct region_ops *ops)
{
    return ops->max_size ? ops->max_size : 8;
}

/* What an access of `size` bytes at `address` meets. */
enum extent {
    EXTENT_NOTHING, /* no region at all */
    EXTENT_ONE,     /* one region holds all of it */
    EXTENT_SEVERAL, /* it crosses the end of a region: to be split */
};

static enum extent look_up(struct bus *bus, enum bus_space space, uint64_t address, unsigned size,
                           struct found *found)
{
    struct bus_table *table = atomic_load_explicit(&bus->table[space], memory_order_acquire);
    uint64_t last = address + size - 1;

    if (!table)
        return EXTENT_NOTHING;
    *found = table_search(table, address);
    if (!found->region || (last >= address && last < found->base))
        return EXTENT_NOTHING;
    if (address >= found->base && last >= address && last <= found->base + found->size - 1)
        return EXTENT_ONE;
    return size == 1 ? EXTENT_NOTHING : EXTENT_SEVERAL;
}

static void log_misuse(const struct region *region, const char *what, uint64_t offset,
                       unsigned size)
{
    log_guest(region->name, "forbidden %s of %u bytes at offset 0x%" PRIx64, what, size, offset);
}

static enum bus_result region_read(const struct found *at, uint64_t offset, unsigned size,
                                   uint64_t *value)
{
    const struct region_ops *ops = at->region->ops;
    uint64_t got = 0;
    enum bus_result result =
        ops->read ? ops->read(at->region->opaque, offset, size, &got) : BUS_UNHANDLED;

    *value = result == BUS_OK ? got & ones(size) : ones(size);
    if (result == BUS_ERROR)
        log_misuse(at->region, "read", offset, size);
    return result;
}

/* A read narrower than the device allows: reads the whole register and takes the part out of it. */
static enum bus_result region_read_part(const struct found *at, uint64_t offset, unsigned size,
                                        uint64_t *value)
{
    unsigned whole = min_size(at->region->ops);
    uint64_t start = ALIGN_DOWN(offset, whole);
    uint64_t got;

    if (start + whole > at->size) {
        log_misuse(at->region, "read", offset, size);
        *value = ones(size);
        return BUS_ERROR;
    }
    enum bus_result result = region_read(at, start, whole, &got);
    *value = got >> (offset - start) * 8 & ones(size);
    return result;
}

enum bus_result bus_read(struct bus *bus, enum bus_space space, uint64_t address, unsigned size,
                         uint64_t *value)
{
    struct found at;
    enum extent extent = look_up(bus, space, address, size, &at);

    if (extent == EXTENT_NOTHING) {
        *value = ones(size);
        return BUS_UNHANDLED;
    }
    if (extent == EXTENT_ONE) {
        const struct region_ops *ops = at.region->ops;
        uint64_t offset = address - at.base;
        if (size >= min_size(ops) && size <= max_size(ops))
            return region_read(&at, offset, size, value);
        if (size < min_size(ops) && offset % min_size(ops) + size <= min_size(ops))
            return region_read_part(&at, offset, size, value);
    }

    /* Too wide for the region, or over its end, or over two registers. */
    unsigned half = size / 2;
    assert(half <= 4); /* engines know no access of more than 8 bytes */
    uint64_t low, high;
    enum bus_result result = bus_read(bus, space, address, half, &low);
    result = worse(result, bus_read(bus, space, address + half, half, &high));
    *value = low | high << half * 8;
    return result;
}

static enum bus_result region_write(const struct found *at, uint64_t offset, unsigned size,
                                    uint64_t value)
{
    const struct region_ops *ops = at->region->ops;
    enum bus_result result = BUS_ERROR;

    if (size >= min_size(ops))
        result = ops->write ? ops->write(at->region->opaque, offset, size, value & ones(size))
                            : BUS_UNHANDLED;
    if (result == BUS_ERROR)
        log_misuse(at->region, "write", offset, size);
    return result;
}

enum bus_result bus_write(struct bus *bus, enum bus_space space, uint64_t address, unsigned size,
                          uint64_t value)
{
    struct found at;
    enum extent extent = look_up(bus, space, address, size, &at);

    if (extent == EXTENT_NOTHING)
        return BUS_UNHANDLED;
    if (extent == EXTENT_ONE && size <= max_size(at.region->ops))
        return region_write(&at, address - at.base, size, value);

    unsigned half = size / 2;
    assert(half <= 4); /* engines know no access of more than 8 bytes */
    enum bus_result result = bus_write(bus, space, address, half, value);
    return worse(result, bus_write(bus, space, address + half, half, value >> half * 8));
}
