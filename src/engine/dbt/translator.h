/*
 * The translator's working state and the pieces it is made of:
 *
 *     translate.c  a basic block: decode, one instruction after another, its tails
 *     liveness.c   which flags are needed where
 *     units.c      which vector unit an instruction needs, and whether it is on
 *     access.c     effective addresses and the inline TLB check before a memory access
 *     native.c     instructions re-emitted as themselves with host registers
 *     spill.c      the guest registers that live in memory
 *     share.c      accesses off unchanged registers that share one check
 *     pin.c        accesses relative to rsp that share one check
 *     sysops.c     system instructions that need no C
 *     stackops.c   push, pop, leave
 *     stringops.c  string instructions without REP
 *     repops.c     REP MOVS and REP STOS
 *     segmentops.c selectors to and from segment registers
 *     segmented.c  offsets in segments, outside 64-bit code
 *     fastcall.c   SYSCALL and SYSRET
 *     transfer.c   jumps, calls, returns, and how blocks are linked
 *     segmented_far.c       far transfers in real mode
 *     segmented_transfer.c  the same for code that is neither 64-bit nor flat
 *
 * A block's host code is laid out as
 *
 *     entry_indirect:  page_base = TEMP0 - offset
 *     entry:           5-byte NOP (a dead block gets a jump to its tail here)
 *                      [poll: leave if `attention`]
 *                      instructions ...
 *                      edge(s)
 *     tails:           TLB misses, exits, edges not yet linked
 *
 * Translation happens with the VM's translation lock held, on the thread of the vCPU that needs the
 * block, its vector state put aside.
 */
#ifndef SILL_ENGINE_DBT_TRANSLATOR_H
#define SILL_ENGINE_DBT_TRANSLATOR_H

#include "engine/dbt/decode.h"
#include "engine/dbt/emit.h"
#include "engine/dbt/vm.h"

#define MAX_BLOCK_INSNS 48
#define MAX_TAILS (MAX_BLOCK_INSNS * 4 + 8)

/* Code that is reached rarely and lies behind the block. */
struct tail {
    enum { TAIL_MISS, TAIL_EXIT, TAIL_PIN, TAIL_SHARE, TAIL_BRANCH } kind;
    bool flags_live; /* TAIL_MISS: rcx is in TEMP2, the flags are the guest's; TAIL_EXIT: they are
                        to be put back, see repops.c */
    enum dbt_bank bank;
    bool write;      /* TAIL_SHARE */
    uint8_t unsaved; /* TAIL_MISS: the guest register that only TEMP2 holds, or HOST_NONE */
    uint32_t info;   /* TAIL_MISS: for stub_memory; TAIL_PIN, TAIL_SHARE: pin_limit;
                        TAIL_BRANCH: dbt_vcpu.branch */
    uint8_t *site;   /* displacement that must lead here */
    uint8_t *resume; /* TAIL_MISS: where the access goes on */
    struct exit_record *record;
};

/* Instructions from `first` on that access [rsp + low, rsp + high), rsp as it is there. (pin.c) */
struct pin_zone {
    unsigned first;
    int32_t low, high;
    bool flags_live; /* there */
};

/* Some of the instructions first..last access [low, low + size) from the same registers. (share.c)
 */
struct share_group {
    unsigned first, last;
    int32_t low;
    uint32_t size;
    bool write;
};

struct translator {
    struct dbt_vm *vm;
    const struct decode_features *features;
    struct emitter e;
    struct dbt_block *block;
    uint32_t mode;
    unsigned slot; /* of the jump cache for this mode */
    bool step;     /* every instruction goes back to the dispatcher */
    bool out_of_meta;
    const uint8_t *page; /* the guest page's bytes */
    struct decoded insn[MAX_BLOCK_INSNS];
    unsigned count;
    uint32_t live_before[MAX_BLOCK_INSNS]; /* arithmetic flags that must survive a check there */
    struct pin_zone zone[MAX_BLOCK_INSNS];
    unsigned zone_count;
    bool pinned_insn[MAX_BLOCK_INSNS]; /* the instruction's stack access lies in a zone */
    struct share_group group[MAX_BLOCK_INSNS / 2];
    unsigned group_count;
    bool shared_insn[MAX_BLOCK_INSNS];   /* the instruction's access belongs to its group */
    const struct share_group *shared;    /* its group if so, or NULL */
    const struct decoded *d;             /* the instruction being emitted */
    bool flags_live;                     /* at its start */
    bool pinned;                         /* pinned_insn of it */
    unsigned index;                      /* of it in insn, or 0 in a thunk */
    uint8_t spill_uses[MAX_BLOCK_INSNS]; /* which of guest r12 (bit 0) to r15 it names */
    bool spill_keeps;                    /* the instruction's code leaves TEMP2 to spill.c */
    uint8_t cached;      /* guest register whose value TEMP2 holds, or HOST_NONE (spill.c) */
    bool dirty;          /* it is newer than memory */
    uint8_t at_risk;     /* what spill_unsaved() is where the instruction may fault on the host */
    bool x87_noted;      /* see x87.h */
    uint8_t x87_segment; /* whose selector is noted */
    struct tail tail[MAX_TAILS];
    unsigned tail_count;
};

static inline bool is_code64(const struct translator *t)
{
    return t->mode & DBT_MODE_CODE64;
}

static inline uint32_t cache_offset(const struct translator *t, const uint8_t *rw)
{
    return (uint32_t)(rw - t->vm->cache.rw);
}

/* A record for an exit at page offset `offset` (NULL when the arena is full: out_of_meta). */
struct exit_record *translator_record(struct translator *t, enum exit_kind kind, int32_t offset);
/* TEMP2 = record; leave. */
void translator_emit_exit(struct translator *t, const struct exit_record *record);
/* The displacement at `site` gets to an exit behind the block. */
void translator_tail_exit(struct translator *t, uint8_t *site, struct exit_record *record);

/* --- access.c --- */

/* How wide an access is and what it does. */
struct access {
    unsigned size; /* bytes, up to a page */
    bool write;
    bool slow_faults; /* slow.c decides what a fault of this access is */
};

/* TEMP0 = effective address, without segment base, truncated to the address width (uses TEMP1). */
void access_effective(struct translator *t, const ZydisDecodedOperand *memory);
/* TEMP0 = linear address of the operand, where its segment allows the access. */
void access_linear(struct translator *t, const ZydisDecodedOperand *memory, struct access access);
/* The second half of that: TEMP0 is the effective address already. */
void access_segment(struct translator *t, const ZydisDecodedOperand *memory, struct access access);
/* TEMP0 = host address of what TEMP0 names; clobbers TEMP1, TEMP2, and the flags if dead. */
void access_check(struct translator *t, struct access access);
/* A field of the TLB entry of a bank whose place there, in bytes, is in TEMP1. */
struct host_memory access_tlb_field(enum dbt_bank bank, size_t field);
/* The out-of-line part of a check. */
void access_emit_miss(struct translator *t, const struct tail *tail);
/* Guest register to host register `to`, and back (all 64 bits). */
void access_load_guest(struct translator *t, enum host_register to, unsigned guest);
void access_store_guest(struct translator *t, unsigned guest, enum host_register from);

/* TEMP1 = the place of TEMP0's entry in its bank of the TLB. Flags are clobbered. */
void access_emit_index(struct translator *t);
/* The bank that the block's accesses use. */
enum dbt_bank access_bank(const struct translator *t);
/* Checks an access to [rsp + disp]; returns the operand to make it by, which may use TEMP0. Does
 * not touch TEMP0 if the instruction is pinned. */
struct host_memory access_stack(struct translator *t, int32_t disp, struct access access);

/* --- spill.c --- */

/* Finds which instructions name which spilled registers. */
void spill_find_uses(struct translator *t);
/* Whether TEMP2 serves better with this register than with what it holds. */
bool spill_worth_keeping(const struct translator *t, unsigned guest);
/* Stores what TEMP2 holds if memory is older; and lets go of it. Flags are left alone. */
void spill_flush(struct translator *t);
void spill_forget(struct translator *t);
/* The register whose value only TEMP2 has, or HOST_NONE. */
uint8_t spill_unsaved(const struct translator *t);
/* TEMP2 is this register's from now on, with its value if `load`. */
void spill_take(struct translator *t, unsigned guest, bool load);
/* The host register with a spilled register's value: TEMP2, or `temp`. */
enum host_register spill_source(struct translator *t, unsigned guest, enum host_register temp);
/* The spilled register gets the value of `from`; TEMP2 if spill_take() was called for it. */
void spill_store(struct translator *t, unsigned guest, enum host_register from);

/* --- share.c --- */

/* Finds the block's groups; its zones are known. */
void share_find_groups(struct translator *t);
/* The check of a group, before its first instruction; and its tail. */
void share_emit_check(struct translator *t, const struct share_group *group);
void share_emit_miss(struct translator *t, const struct tail *tail);
/* The current instruction's memory operand in the group. */
struct host_memory share_operand(const struct translator *t, const struct share_group *group);

/* --- pin.c --- */

/* Finds the block's zones; the instructions and flag liveness are known. */
void pin_find_zones(struct translator *t);
/* The check of a zone, before its first instruction; and its tail. */
void pin_emit_check(struct translator *t, const struct pin_zone *zone);
void pin_emit_miss(struct translator *t, const struct tail *tail);
/* Asks C by one of the stubs for the page; goes on at the tail's resume, or where its record says.
 */
void pin_emit_ask(struct translator *t, const struct tail *tail, uint32_t stub);
/* [rsp + disp] within a zone. */
struct host_memory pin_operand(int32_t disp);

/* --- segmented.c; not for 64-bit code --- */

/* Goes to `record` if `size` bytes at offset TEMP0 reach beyond the end that `neg_end` (in
 * v->ends) tells. Clobbers TEMP1 and TEMP2, and the flags if they are not live. */
void segmented_check(struct translator *t, struct host_memory neg_end, unsigned size,
                     bool flags_live, struct exit_record *record);
/* TEMP0 = linear address of offset TEMP0, of `offset_width` bits, in the segment; slow.c does the
 * instruction where the segment does not allow the access. */
void segmented_linear(struct translator *t, unsigned segment, unsigned offset_width,
                      struct access access);
/* `to` (TEMP0 or TEMP1) = the rip of page offset `offset`; clobbers TEMP2. */
void segmented_load_rip(struct translator *t, enum host_register to, int32_t offset);
/* Goes to `beyond` if CS does not reach as far as rip TEMP0, of `width` bits. */
void segmented_check_target(struct translator *t, unsigned width, bool flags_live,
                            struct exit_record *beyond);
/* The same, and TEMP0 = linear address of rip TEMP0. */
void segmented_code_linear(struct translator *t, unsigned width, bool flags_live,
                           struct exit_record *beyond);
/* At the start of a block: all of it lies within CS, or slow.c does the first instruction. */
void segmented_check_block(struct translator *t, bool flags_live);

/* --- segmented_transfer.c; not for 64-bit code --- */

/* Near control transfers that transfer_emit() has no use for. */
void segmented_emit_transfer(struct translator *t);
/* Goes on at page offset `target` of the same or the next page, without a jump of the guest's. */
void segmented_emit_next(struct translator *t, int32_t target);
/* A far transfer in real or virtual-8086 mode; by `in_c` if need be. (segmented_far.c) */
void segmented_emit_far(struct translator *t, struct exit_record *in_c);
/* A relative jump may lead elsewhere than its displacement says. Any code. */
bool segmented_wraps(const struct translator *t, const struct decoded *d);

/* --- native.c --- */

/* Emits the instruction. `prepared`: TEMP0 already holds the host address of the memory operand. */
void native_emit(struct translator *t, bool prepared);
struct access native_access(const struct decoded *d);
bool native_is_moffs(const struct decoded *d);
void native_emit_lea(struct translator *t);
void native_emit_bit_memory(struct translator *t);
void native_emit_xsave(struct translator *t, bool prepared);

/* --- stackops.c --- */
void stack_emit_push(struct translator *t);
void stack_emit_pop(struct translator *t);
void stack_emit_pushf(struct translator *t);
void stack_emit_leave(struct translator *t);
void stack_emit_pusha(struct translator *t);
void stack_emit_popa(struct translator *t);
/* TEMP0 = host address of [guest register + disp] on the stack. Clobbers as access_check(). */
void stack_locate(struct translator *t, unsigned guest, int32_t disp, struct access access);
/* Moves the stack pointer, without touching flags. Clobbers TEMP1. */
void stack_adjust(struct translator *t, int32_t by);

/* --- stringops.c --- */
void string_emit(struct translator *t); /* a string instruction without REP */

/* --- repops.c --- */
/* A REP MOVS or REP STOS, of which `record` is the exit to C where that must do it. */
void rep_emit(struct translator *t, const struct insn *insn, struct exit_record *record);
/* The flags as they were before one, for such an exit. Clobbers TEMP1. */
void rep_emit_flags(struct translator *t);

/* --- segmentops.c --- */
/* On to slow.c if loading the register in real or virtual-8086 mode changes more than its base. */
void segment_check_load(struct translator *t, unsigned segment);
void segment_emit_store(struct translator *t); /* a selector to a register or memory */
void segment_emit_load(struct translator *t);  /* ES, DS, FS or GS in real or virtual-8086 mode */

/* --- fastcall.c --- */
/* A SYSCALL or SYSRET, of which `record` is the exit to C for what needs it. */
void fastcall_emit(struct translator *t, const struct exit_record *record);
void fastcall_emit_stubs(struct emitter *e, struct dbt_vm *vm);

/* --- transfer.c --- */
void transfer_emit(struct translator *t); /* any of the control transfer classes */
/* Goes on at page offset `target` of the same or another page. */
void transfer_emit_edge(struct translator *t, int32_t target);
/* The displacement at `site` is to lead to page offset `target` of the same page. */
void transfer_link_site(struct translator *t, uint8_t *site, int32_t target);
/* A jump to where `record` (EXIT_CHAIN or EXIT_UNPIN) leads, to be patched once that is known. */
void transfer_link_edge(struct translator *t, struct exit_record *record);
/* The target's linear address is in TEMP0. */
void transfer_emit_dispatch(struct translator *t);
/* The same by one jump cache table. Returns the displacement that is to lead on from there. */
uint8_t *transfer_emit_look_up(struct emitter *e, unsigned level, unsigned slot);
/* The same in the table of a mode that is known only when it runs: `first` holds the index of its
 * first entry, times two. */
uint8_t *transfer_emit_look_up_in(struct emitter *e, unsigned level, struct host_memory first);
/* The tail of a jump through a register or memory that is not in the first table. */
void transfer_emit_miss(struct translator *t, const struct tail *tail);
/* Poll for attention at the start of a block that closes a loop. */
void transfer_emit_poll(struct translator *t, bool flags_live);

/* --- sysops.c --- */
void sysops_emit_cr_read(struct translator *t);
void sysops_emit_switch_ac(struct translator *t, bool on);
void sysops_emit_sti(struct translator *t);
void sysops_emit_swapgs(struct translator *t);
void sysops_emit_rdtsc(struct translator *t);
void sysops_emit_pause(struct translator *t);

/* --- units.c --- */

/* The vector unit an instruction uses; false if it uses none. */
bool unit_of(const struct decoded *d, enum vector_unit *unit);
/* Whether that is off in the mode. */
bool unit_is_off(uint32_t mode, const struct decoded *d, enum vector_unit *unit);
/* DBT_FAULT with #UD or #NM recorded if it is off now. */
enum dbt_result unit_check(struct dbt_vcpu *v, const struct decoded *d);

/* --- liveness.c --- */

/* Fills live_before[] for the decoded block, behind which comes `end`. */
void liveness_find(struct translator *t, enum block_end end);

/* --- translate.c --- */

/* The instruction is executed in C, and goes on behind it if it does not end the block. */
void translator_emit_in_c(struct translator *t);

/* Translates the block at rip (page offset of `gpa`). NULL: the cache is full; flush and retry. */
struct dbt_block *translate_block(struct dbt_vm *vm, const struct decode_features *features,
                                  gpa_t gpa, const uint8_t *host, uint32_t mode, unsigned slot);

/* The same for the one instruction at `gpa` whose bytes go on at the start of `second_page`, at
 * `second_host`. `mode` without DBT_MODE_CROSS. NULL too if the bytes are no instruction that lies
 * on both pages: *invalid tells. */
struct dbt_block *translate_crossing(struct dbt_vm *vm, const struct decode_features *features,
                                     gpa_t gpa, const uint8_t *host, gpa_t second_page,
                                     const uint8_t *second_host, uint32_t mode, unsigned slot,
                                     bool *invalid);

/* One instruction with its memory operand in a buffer whose address is in scratch[1], for slow.c.
 * Leaves by EXIT_THUNK. Returns the code's offset in the cache, 0 if the cache is full. */
uint32_t translate_thunk(struct dbt_vm *vm, const struct decode_features *features,
                         const struct decoded *d, uint32_t mode);

/* The fixed stubs at the start of the cache. (stubs.c) */
void stubs_emit(struct dbt_vm *vm);

#endif
