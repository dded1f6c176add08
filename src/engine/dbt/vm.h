/*
 * One VM of the software engine: what its vCPUs share.
 *
 * A vCPU thread is either running (in translated code, or in this folder's C code between two looks
 * at `attention`) or quiescent (asleep, waiting for a lock, inside a board callback). Whoever needs
 * the others to hold no translations in hand (a page becomes watched, the code cache is emptied)
 * opens an exclusive section: it waits until every other vCPU is quiescent and keeps them so.
 *
 * Lock order: translate, then exclusive. Both are taken only while quiescent.
 */
#ifndef SILL_ENGINE_DBT_VM_H
#define SILL_ENGINE_DBT_VM_H

#include <pthread.h>
#include <stdio.h>

#include "engine/dbt/cache.h"
#include "engine/dbt/decode.h"
#include "engine/dbt/vcpu.h"
#include "x86/kvmclock.h"
#include "x86/lapic.h"

#define DBT_MAX_VCPUS 64
#define DBT_PAUSES_PER_YIELD 200 /* some 5 to 10 microseconds */

struct dbt_vm {
    struct engine_vm_config config;
    unsigned phys_bits; /* guest-physical address width, from CPUID */

    unsigned trace; /* enum trace_kind bits */
    FILE *perf_map; /* trace.c; NULL: none */
    struct decode_features features;
    struct code_cache cache;
    /* Cache, slow paths' thunks, page watch bits. Recursive: who holds it at a standstill of the
     * others may write to a watched page. */
    pthread_mutex_t translate;
    /* Stubs: offsets in the cache. */
    uint32_t stub_exit;   /* TEMP2: exit record's place in meta; leaves to the dispatcher */
    uint32_t stub_memory; /* TLB miss: TEMP0 linear, TEMP2 access; returns TEMP0 host address */
    uint32_t stub_pin;    /* TEMP0: offset from the pinned page, where another page is wanted */
    uint32_t stub_share_read, stub_share_write; /* TEMP0: where a page is wanted in the TLB */
    uint32_t stub_leave;                  /* registers already saved: back to dbt_enter's caller */
    uint32_t stub_lookup[DBT_MODE_SLOTS]; /* TEMP0: a rip that is not in the first jump table */
    uint32_t stub_lookup_direct[DBT_MODE_SLOTS]; /* the same, but `branch` is to be 0 */
    uint32_t stub_syscall; /* TEMP0: the rip behind it, TEMP2: exit record for C. (fastcall.c) */
    uint32_t stub_sysret;  /* TEMP2: exit record for C */
    uint32_t stub_miss;    /* TEMP0: a rip that the dispatcher shall find */
    void (*enter)(struct dbt_vcpu *v, const void *code);
    uint32_t modes[DBT_MODE_SLOTS]; /* mode of each jump cache slot in use */
    _Atomic unsigned mode_count;
    unsigned prepared_slots; /* of which all vCPUs have jump cache tables; never fewer again */

    pthread_mutex_t exclusive;
    pthread_cond_t exclusive_changed;
    _Atomic bool exclusive_wanted;
    struct dbt_vcpu *exclusive_owner;

    struct lapic_bus *lapic_bus;
    struct dbt_vcpu *_Atomic vcpu[DBT_MAX_VCPUS];

    uint32_t tsc_khz;
    uint64_t tsc_offset; /* of vCPUs to come */
    bool time_held;
    uint64_t held_host_tsc; /* while time is held: the host's TSC when that began */
    struct kvmclock clock;
};

/* The host's TSC, to which a vCPU adds its offset. Translated code reads it only while time is not
 * held. */
static inline uint64_t dbt_host_tsc(const struct dbt_vm *vm)
{
    return vm->time_held ? vm->held_host_tsc : __builtin_ia32_rdtsc();
}

/* Indices of table entries that were filled since the latest flush that emptied the list; once
 * there were too many, `overflow` is set and not all are listed. */
struct fill_list {
    uint32_t count;
    bool overflow;
    uint32_t index[510];
};

/* What a debugger outside of the guest wants, and what it gets; see debugger.c. */
struct dbt_debugger {
    bool active; /* a step or any breakpoint is wanted */
    int stop;    /* why run() is to return: as engine_exit.breakpoint, or DEBUGGER_GOES_ON */
    struct engine_debug wanted;
};
#define DEBUGGER_GOES_ON (-2)

/* What one vCPU needs besides the fields that translated code reaches. */
struct dbt_runtime {
    _Atomic bool running; /* not quiescent */
    _Atomic bool kicked;
    _Atomic bool asleep; /* halted: waits on the futex `attention` */
    bool stopped_by_kick;
    int taken_vector;     /* an interrupt that the state came with half delivered, or -1 */
    struct error failure; /* why the engine cannot go on, if text is not empty */
    uint32_t generation;  /* of the cache when jump and fetch tables were filled */
    unsigned mode_count;  /* jump cache tables known to this vCPU, in the VM's order */
    uint32_t modes[DBT_MODE_SLOTS];
    uint32_t pin_drops;  /* how often the pinned page was let go by C */
    gpa_t writing;       /* latest write to a watched page: the page | 1, see smc_watch() */
    uint8_t leave;       /* enum leave_reason */
    bool thunk;          /* a slow path's thunk is what runs */
    uint32_t jump_dirty; /* jump cache tables that hold entries */
    /* What flushes drop, so that they need not go through whole tables: [0] entries from pages that
     * are not global, [1] from those that are. */
    struct fill_list tlb_filled[2];                  /* bank * DBT_TLB_SIZE + index */
    struct fill_list jump_filled[DBT_MODE_SLOTS][2]; /* level * DBT_JUMP_SIZE + index */
    struct dbt_debugger debugger;
    struct slow_cache *slow; /* slow.c's decoded instructions */
    struct insn insn;        /* the one insn_execute() works on */
    struct x86_vcpu_state scratch_state;
    uint8_t bounce[4096] __attribute__((aligned(64)));
    uint8_t signal_stack[64 * 1024] __attribute__((aligned(64)));
    uint64_t large[64]; /* filter of 2 MiB regions filled from large pages, see mmu_flush_page() */
    uint64_t fetched[2][64]; /* filter of small pages fetched from, [1]: global ones */
    struct dbt_fetch_entry {
        gva_t page;  /* linear page | 1 for user rights; ~0 none */
        gpa_t frame; /* | DBT_TLB_GLOBAL */
        uint8_t *host;
    } fetch[256];
    struct dbt_crossing { /* blocks on two pages that were found before, by their first page */
        gpa_t gpa, second_page;
        uint32_t mode, generation;
        struct dbt_block *block;
    } crossing[256];
    struct dbt_counters {
        uint64_t in_c[ZYDIS_MNEMONIC_MAX_VALUE + 1]; /* executions by insn_execute() */
        uint64_t exits[EXIT_KINDS], exceptions[32];
        uint64_t lookups, links, slow;
        uint64_t memory_misses, memory_fills, tlb_flushes_local, tlb_flushes_all, tlb_flushes_page;
        uint64_t interrupts, halts, port_reads, port_writes, mmio_reads, mmio_writes;
    } counters;
};

/* Host address of a page of RAM or ROM, or NULL; *readonly tells ROM. Takes no lock. (mmu.c) */
uint8_t *dbt_ram(const struct dbt_vm *vm, gpa_t page, bool *readonly);

/* Fetch address translation: 0 and the frame, or DBT_FAULT with the exception recorded. (mmu.c) */
SILL_CHECKED enum dbt_result mmu_fetch(struct dbt_vcpu *v, gva_t address, gpa_t *gpa,
                                       uint8_t **host);
/* Whether the last mmu_fetch() of that page found a global one. */
bool mmu_fetched_global(const struct dbt_vcpu *v, gva_t address);
/* TLB fill for translated code's access at `address`: the host address when it is plain RAM in one
 * page, else NULL with *result DBT_FAULT, or DBT_NEXT for what slow.c must do. */
uint8_t *mmu_access_host(struct dbt_vcpu *v, gva_t address, unsigned size, bool write,
                         enum dbt_result *result);
void mmu_drop_writable(struct dbt_vcpu *v, gpa_t page);
/* The TLB bank that the vCPU's own accesses use now. */
enum dbt_bank mmu_bank(const struct dbt_vcpu *v);
/* Sees to it that the page is in the TLB, if that needs neither a fault nor a change to page
 * tables. */
bool mmu_ready(struct dbt_vcpu *v, gva_t address, bool write);
/* Pins the page at `address` if it can be written to without a fault or a change to page tables. */
bool mmu_pin(struct dbt_vcpu *v, gva_t address);

/* Sees to it that writes to the page are noticed. Translation lock held. (smc.c) */
void smc_watch(struct dbt_vm *vm, struct dbt_vcpu *v, gpa_t page);
/* A write to watched memory is about to happen (vCPU) or has happened (device): drop blocks. */
bool smc_written(struct dbt_vm *vm, struct dbt_vcpu *v, gpa_t gpa, uint64_t length);

/* Quiescence. */
void dbt_quiesce(struct dbt_vcpu *v);
void dbt_unquiesce(struct dbt_vcpu *v);               /* may wait for an exclusive section to end */
void dbt_lock(struct dbt_vm *vm, struct dbt_vcpu *v); /* the translation lock; v may be NULL */
void dbt_unlock(struct dbt_vm *vm);
void dbt_exclusive_begin(struct dbt_vm *vm, struct dbt_vcpu *v); /* translation lock held */
void dbt_exclusive_end(struct dbt_vm *vm);
void dbt_attend(struct dbt_vcpu *v); /* makes the vCPU look at its requests soon; any thread */

/* Device space; the local APIC's page first, then the board. Heavy. (runtime.c) */
uint64_t dbt_mmio_read(struct dbt_vcpu *v, gpa_t gpa, unsigned size);
void dbt_mmio_write(struct dbt_vcpu *v, gpa_t gpa, unsigned size, uint64_t value);

/* The paravirtual clock's and TSC's MSRs; false: not one of them. (clock.c) */
bool clock_msr_read(struct dbt_vcpu *v, uint32_t index, uint64_t *value);
bool clock_msr_write(struct dbt_vcpu *v, uint32_t index, uint64_t value);
/* The host's TSC frequency. */
uint32_t clock_tsc_khz(void);

/* Takes over the neutral state's groups in `mask`. (state.c) */
void dbt_load_state(struct dbt_vcpu *v, const struct x86_vcpu_state *state, unsigned mask);
void dbt_save_state(struct dbt_vcpu *v, struct x86_vcpu_state *state, unsigned mask);

/* The vector state goes to v->xsave (dbt_simd_unload() in vcpu.h) and back. */
void dbt_simd_load(struct dbt_vcpu *v);
/* The jump cache table for a mode; translation lock held. False when all tables are taken.
 * (runtime.c) */
bool dbt_mode_slot(struct dbt_vm *vm, uint32_t mode, unsigned *slot);
/* Empties the code cache; translation lock held. */
void dbt_flush_all(struct dbt_vm *vm, struct dbt_vcpu *v, enum flush_cause cause);

static inline void fill_list_add(struct fill_list *list, unsigned index)
{
    if (list->count == ARRAY_SIZE(list->index))
        list->overflow = true;
    else
        list->index[list->count++] = index;
}

static inline void fill_list_clear(struct fill_list *list)
{
    list->count = 0;
    list->overflow = false;
}

/* Makes the empty jump cache tables of a slot; they are large, and few slots are ever used. */
void dbt_jump_prepare(struct dbt_vcpu *v, unsigned slot);
/* Forget the vCPU's jump cache entries: all, or those from pages that are not global. */
void dbt_jump_flush(struct dbt_vcpu *v, bool global_too);
/* The same for the entries from the page of `address`. */
void dbt_jump_flush_page(struct dbt_vcpu *v, gva_t address);

#endif
