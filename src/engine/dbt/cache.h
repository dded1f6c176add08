/*
 * The code cache: translated blocks, how they are found, and how they are forgotten.
 *
 * Memory: one piece mapped twice, writable (rw) and executable (rx), so that no page is ever both.
 * Code is appended; the cache is emptied as a whole (a new generation) when it is full. Beside the
 * code lies the meta area, an append-only arena with the block descriptions and exit records.
 *
 *     rx/rw: | stubs | block | block | ... ->            free            |
 *     meta:  | block, instruction map, exit records | ... ->    free     |
 *
 * A block dies alone when the guest writes its bytes: its first instruction, a 5-byte NOP aligned
 * to 8 bytes, is replaced in one store by a jump to its own tail, which leaves for the dispatcher.
 * So nobody has to look for the jumps and jump cache entries that lead to it.
 *
 * Threads: everything here but block_at() is called with the VM's translation lock held.
 */
#ifndef SILL_ENGINE_DBT_CACHE_H
#define SILL_ENGINE_DBT_CACHE_H

#include "base/error.h"
#include "base/types.h"
#include "engine/dbt/insn.h"

enum exit_kind {
    EXIT_LOOKUP,    /* an indirect jump missed: TEMP0 (scratch[0]) is the target */
    EXIT_AT,        /* rip is at `offset`: attention, a dead block, a boundary without a link */
    EXIT_DEAD,      /* as EXIT_AT, from a killed block: forget what led here */
    EXIT_CHAIN,     /* as EXIT_AT, and the jump at `patch` may be linked to the target's block */
    EXIT_UNPIN,     /* as EXIT_CHAIN, to the block there that checks each stack access */
    EXIT_INSN,      /* execute `insn` in C; goes on at `resume` when that returns DBT_NEXT */
    EXIT_CROSS,     /* the instruction at `offset` lies on two pages: find the block for both */
    EXIT_SLOW,      /* execute the instruction at `offset` through slow.c, then look up the next */
    EXIT_FPU,       /* the instruction at `offset` needs a vector unit that is switched off */
    EXIT_UNDEFINED, /* #UD at `offset` */
    EXIT_FETCH, /* the block could not be extended: #PF or the like while fetching at `offset` */
    EXIT_YIELD, /* as EXIT_AT, from a guest that spins: let other threads run */
    EXIT_THUNK, /* a slow path's single instruction has run */
    EXIT_KINDS
};

/* Which exceptions an instruction takes when vector units are switched off (EXIT_FPU). */
enum vector_unit { UNIT_X87, UNIT_MMX, UNIT_FXSAVE, UNIT_SSE, UNIT_AVX, UNIT_XSAVE };

/* Where translated code leaves to C, and what C needs to know. `offset` is relative to the code
 * page (dbt_vcpu.page_base). */
struct exit_record {
    uint8_t kind;
    uint8_t unit; /* EXIT_FPU: enum vector_unit */
    int32_t offset;
    uint32_t resume;         /* offset in the cache, 0: none */
    uint32_t patch;          /* offset in the cache of the jump's displacement */
    const struct insn *insn; /* EXIT_INSN */
    struct dbt_block *block;
};

/* Where each guest instruction's host code ends, so that a host fault can be placed. */
struct insn_map {
    uint16_t host_end; /* relative to the block's start in the cache */
    int16_t offset;    /* guest offset in the code page */
    uint8_t unsaved;   /* guest register that only TEMP2 holds if it faults, or HOST_NONE */
};

/* What a block ends with. */
enum block_end {
    END_BRANCH,   /* an instruction that may go elsewhere */
    END_NEXT,     /* as many instructions as it may have, or as the page has */
    END_CROSSING, /* the next instruction lies on two pages */
    END_INVALID,  /* what follows is no instruction */
    END_TOO_LONG, /* what follows would be an instruction of more than 15 bytes */
    END_SLOW,     /* an instruction that only slow.c can do */
};

struct dbt_block {
    gpa_t gpa; /* of its first byte */
    uint32_t mode;
    bool valid;
    bool unlinked;     /* no jump is patched to lead here; see cache_insert() */
    uint16_t length;   /* guest bytes translated */
    uint16_t seen;     /* guest bytes that were looked at, from gpa on (flag liveness) */
    uint16_t seen_low; /* other bytes looked at: [seen_low, seen_high) in the page */
    uint16_t seen_high;
    uint16_t insn_count;
    uint8_t why_end;         /* enum block_end */
    uint32_t start, end;     /* offsets in the cache */
    uint32_t entry;          /* for jumps from within the page (page_base is right) */
    uint32_t entry_indirect; /* TEMP0 holds the linear address; sets page_base */
    uint32_t dead;           /* the tail that a dead block's entry jumps to */
    gpa_t second_page;       /* DBT_MODE_CROSS: where the rest of the instruction is */
    uint16_t second_end;     /* page offset there behind the last byte */
    struct dbt_block *second_next;
    struct insn_map *map;
    struct dbt_block *hash_next;
    struct dbt_block *page_next;
};

/* The place in meta of an EXIT_LOOKUP record that is always there. */
#define CACHE_LOOKUP_RECORD 0u

/* Why the cache was emptied. */
enum flush_cause {
    FLUSH_FULL,  /* no room for code or meta data */
    FLUSH_MODES, /* no jump cache table for one more mode */
    FLUSH_CAUSES
};

struct code_cache {
    uint8_t *rw, *rx;
    uint32_t size, used;
    uint32_t stubs_end; /* code below survives a flush */
    uint8_t *meta;
    uint32_t meta_size, meta_used;
    uint32_t generation;
    struct dbt_block **hash;   /* by gpa and mode */
    struct dbt_block **page;   /* by guest page number modulo: lists of blocks */
    struct dbt_block **second; /* the same for blocks' second pages */
    uint64_t *pieces;          /* by the same: see pieces_of() */
    struct dbt_block **order;  /* in order of address, for block_at() */
    uint32_t order_count;
    uint64_t translations, guest_bytes, host_bytes; /* of all blocks ever made */
    uint64_t invalidations;                         /* blocks that died alone */
    uint64_t flushes[FLUSH_CAUSES];
};

SILL_CHECKED int cache_init(struct code_cache *cache, uint64_t size, struct error *err);
void cache_done(struct code_cache *cache);

/* Everything below stubs_end stays. No vCPU may be in translated code. */
void cache_flush(struct code_cache *cache, enum flush_cause cause);

/* Zeroed memory that lives until the next flush; NULL when the arena is full. */
void *cache_meta(struct code_cache *cache, uint32_t size);

#define CACHE_HASH_BITS 18
#define CACHE_HASH_SIZE (1u << CACHE_HASH_BITS)

/* Blocks of one page have neighbouring places, so that looking for one brings others near. */
static inline uint32_t cache_hash(gpa_t gpa, uint32_t mode)
{
    uint64_t page = gpa >> GUEST_PAGE_SHIFT ^ (uint64_t)mode << 32;
    uint64_t place = page * 0x9e3779b97f4a7c15ull >> (64 - CACHE_HASH_BITS);

    return (uint32_t)(place + (gpa >> 2 & (GUEST_PAGE_SIZE / 4 - 1))) & (CACHE_HASH_SIZE - 1);
}

/* Without the lock too, on a running vCPU's thread: blocks are only added, and entering one that
 * has just been killed leads to its tail. */
static inline struct dbt_block *cache_find(const struct code_cache *cache, gpa_t gpa, uint32_t mode)
{
    struct dbt_block *block =
        __atomic_load_n(&cache->hash[cache_hash(gpa, mode)], __ATOMIC_ACQUIRE);

    while (block && (block->gpa != gpa || block->mode != mode || !block->valid))
        block = block->hash_next;
    return block;
}

/* The same for a block on two pages. */
static inline struct dbt_block *cache_find_crossing(const struct code_cache *cache, gpa_t gpa,
                                                    uint32_t mode, gpa_t second_page)
{
    struct dbt_block *block = cache_find(cache, gpa, mode | DBT_MODE_CROSS);

    while (block && (block->gpa != gpa || block->mode != (mode | DBT_MODE_CROSS) ||
                     block->second_page != second_page || !block->valid))
        block = block->hash_next;
    return block;
}

void cache_insert(struct code_cache *cache, struct dbt_block *block);
/* The block whose host code holds rx + offset, or NULL. Also from a signal handler on a thread that
 * is inside that code. */
struct dbt_block *cache_block_at(const struct code_cache *cache, uint32_t offset);

/* Whether any live block was made from bytes in [gpa, gpa + length). */
bool cache_overlaps(const struct code_cache *cache, gpa_t gpa, uint64_t length);
/* Kills such blocks; returns how many. *page_empty tells whether the page has none left. */
unsigned cache_invalidate(struct code_cache *cache, gpa_t gpa, uint64_t length, bool *page_empty);

#endif
