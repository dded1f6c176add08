/*
 * Guest-physical memory: which parts of the guest's physical address space are RAM or ROM, and
 * where they lie in this process.
 *
 * Slots are added and removed by the control thread only, while no vCPU runs and no device does
 * DMA. A slot's flags may change while the VM runs. Look-ups come from any thread and take no lock.
 * Everything outside the slots is device space and belongs to bus/bus.h.
 */
#ifndef SILL_MEM_MEMORY_H
#define SILL_MEM_MEMORY_H

#include "base/error.h"
#include "base/types.h"

#define MEMORY_MAX_SLOTS 32

enum memory_slot_flags {
    MEMORY_READONLY = 1 << 0, /* ROM: what the guest writes goes to the bus */
    MEMORY_HIDDEN = 1 << 1,   /* not there for now: its addresses are device space */
};

struct memory_slot {
    gpa_t gpa;     /* page aligned */
    uint64_t size; /* bytes, a multiple of the page size */
    uint8_t *host; /* this process's address of the slot */
    _Atomic unsigned flags;
    int fd; /* memfd behind it, with all of its banks */
    uint64_t fd_offset;
    bool borrowed; /* from a struct memory_block */
};

/* RAM that belongs to a device, which the guest moves and hides: a frame buffer. */
struct memory_block {
    const char *name;
    uint64_t size;
    uint8_t *host; /* the device's address of it, wherever the guest sees it */
    int fd;
    bool mapped;
    gpa_t gpa; /* while mapped */
};

/* Called, on the writer's thread, after something other than a vCPU wrote guest memory that an
 * engine asked to watch (memory_watch_page()). */
typedef void (*memory_written_fn)(void *opaque, gpa_t gpa, uint64_t length);

struct memory {
    struct memory_slot slot[MEMORY_MAX_SLOTS]; /* sorted by gpa */
    unsigned slot_count;
    /* One byte a page of the slots' address range, MEMORY_PAGE_* bits; index is gpa >> 12. */
    _Atomic uint8_t *page_flags;
    uint64_t page_count;
    memory_written_fn written;
    void *written_opaque;
    bool dirty_log; /* MEMORY_PAGE_DIRTY is kept while set */
    bool huge_pages;
};

enum memory_page_flags {
    MEMORY_PAGE_DIRTY = 1 << 0,   /* written since it was last cleared */
    MEMORY_PAGE_WATCHED = 1 << 1, /* an engine holds translated code from this page */
};

enum memory_options {
    MEMORY_HUGE_PAGES = 1 << 0, /* ask for transparent huge pages behind RAM */
};

void memory_init(struct memory *mem, unsigned options);
void memory_done(struct memory *mem);

/* Adds RAM (zeroed, memfd backed) or, with MEMORY_READONLY, ROM. -EEXIST on overlap, -ENOMEM. */
SILL_CHECKED int memory_add(struct memory *mem, gpa_t gpa, uint64_t size, unsigned flags,
                            const char *name, struct error *err);

/* As memory_add(), with `banks` times `size` bytes behind the slot, of which the guest sees one
 * bank: the first until memory_show_bank(). */
SILL_CHECKED int memory_add_banks(struct memory *mem, gpa_t gpa, uint64_t size, unsigned banks,
                                  const char *name, struct error *err);
/* Puts another bank behind the slot that starts at `gpa`, at the same host address. Any thread;
 * engines then need to be told as of new flags. Negative errno when the host cannot. */
SILL_CHECKED int memory_show_bank(struct memory *mem, gpa_t gpa, unsigned bank);
/* Writes into a bank, seen or not, of the slot that holds `gpa`. Any thread. -EFAULT when it is not
 * all within one slot. */
SILL_CHECKED int memory_write_bank(struct memory *mem, gpa_t gpa, unsigned bank, const void *from,
                                   uint64_t length);

/* Zeroed memory of a device's, seen by no guest yet. -ENOMEM. */
SILL_CHECKED int memory_block_init(struct memory_block *block, uint64_t size, const char *name,
                                   struct error *err);
/* It is not mapped. Right also for one that is all zero. */
void memory_block_done(struct memory_block *block);
/* Makes it a slot, and takes it out again; as memory_add(). Engines then need to be told. */
SILL_CHECKED int memory_map(struct memory *mem, struct memory_block *block, gpa_t gpa,
                            struct error *err);
void memory_unmap(struct memory *mem, struct memory_block *block);

/* Changes the flags of the slot that starts at `gpa`. Any thread; engines then need to be told,
 * with engine_ops.memory_changed(), and until that is done vCPUs may see the old ones. */
void memory_set_flags(struct memory *mem, gpa_t gpa, unsigned flags);

/* The slot that holds `gpa`, or NULL; one that is hidden is not found. */
const struct memory_slot *memory_find(const struct memory *mem, gpa_t gpa);

/* Host address of [gpa, gpa + length), or NULL unless all of it lies in one slot (a writable one
 * if `write`). After writing through it call memory_mark_written(). */
void *memory_host(const struct memory *mem, gpa_t gpa, uint64_t length, bool write);

/* Copies, across slots if need be. -EFAULT when any byte is outside RAM (nothing is then copied);
 * writes to ROM also give -EFAULT. memory_write() includes memory_mark_written(). */
SILL_CHECKED int memory_read(const struct memory *mem, gpa_t gpa, void *to, uint64_t length);
SILL_CHECKED int memory_write(struct memory *mem, gpa_t gpa, const void *from, uint64_t length);

/* A device or loader wrote here: keep the dirty log and tell the engine about watched pages. */
void memory_mark_written(struct memory *mem, gpa_t gpa, uint64_t length);

/* Sets or clears MEMORY_PAGE_WATCHED for the page of `gpa`. */
void memory_watch_page(struct memory *mem, gpa_t gpa, bool on);

#endif
