/*
 * Port and memory-mapped I/O dispatch.
 *
 * A region is a range of one address space (ports or MMIO) with const ops. Regions are added and
 * removed by the control thread, or by a vCPU thread when the guest moves a PCI BAR; look-ups
 * come from any vCPU thread, take no lock and never wait for a change (bus.c says how).
 */
#ifndef SILL_BUS_BUS_H
#define SILL_BUS_BUS_H

#include <pthread.h>

#include "base/error.h"
#include "base/types.h"

enum bus_result {
    BUS_OK,        /* done */
    BUS_UNHANDLED, /* nobody there, or no such register: reads give all ones, writes vanish */
    BUS_ERROR,     /* a legal address used in a way that the device forbids; as UNHANDLED, logged */
};

/*
 * `offset` is relative to the region, `size` is 1, 2, 4 or 8 and lies within [min_size, max_size]:
 * the bus splits larger accesses and, for smaller ones, reads min_size and extracts (writes smaller
 * than min_size are BUS_ERROR). An access never crosses the region's end. `*value` is
 * zero-extended.
 */
struct region_ops {
    enum bus_result (*read)(void *opaque, uint64_t offset, unsigned size, uint64_t *value);
    enum bus_result (*write)(void *opaque, uint64_t offset, unsigned size, uint64_t value);
    uint8_t min_size; /* 1 when 0 */
    uint8_t max_size; /* 8 when 0 */
};

struct region {
    const char *name;
    const struct region_ops *ops;
    void *opaque;
    uint64_t base; /* set by bus_add() */
    uint64_t size;
    bool added;
};

enum bus_space { BUS_PORT, BUS_MMIO, BUS_SPACE_COUNT };

struct bus_table; /* regions of one address space, sorted */

struct bus {
    struct bus_table *_Atomic table[BUS_SPACE_COUNT];
    struct bus_table *retired; /* outgrown tables, freed by bus_done() */
    pthread_mutex_t lock;      /* serialises changes; innermost lock */
};

void bus_init(struct bus *bus);
void bus_done(struct bus *bus);

/* Adds a caller-owned region at `base`. -EEXIST if it overlaps another, which is named in `err`. */
SILL_CHECKED int bus_add(struct bus *bus, enum bus_space space, struct region *region,
                         uint64_t base, struct error *err);
/* Removes it; accesses that began earlier may still be inside its ops. */
void bus_remove(struct bus *bus, enum bus_space space, struct region *region);

/* `size` 1, 2, 4 or 8. Never fails: see enum bus_result for what the guest gets; returned for tests
 * and logs. Reads of nothing give all ones. */
enum bus_result bus_read(struct bus *bus, enum bus_space space, uint64_t address, unsigned size,
                         uint64_t *value);
enum bus_result bus_write(struct bus *bus, enum bus_space space, uint64_t address, unsigned size,
                          uint64_t value);

#endif
