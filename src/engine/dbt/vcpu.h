/*
 * The software engine's view of one vCPU. `gs` points here while translated code runs, so that code
 * reaches every field by a constant offset; the layout is therefore part of the translator's
 * contract (the offsets are taken with offsetof, never written by hand).
 *
 * While translated code runs, the arithmetic flags and DF are in the host's RFLAGS, most general
 * registers in host registers (regmap.h), x87/SSE/AVX state in the host's own registers. Whenever C
 * code of this folder runs, `gpr`, `rip` and the flags below are complete; the vector state may
 * still be live in the CPU (simd_live), which is why every file here but those listed in
 * meson.build is compiled with -mgeneral-regs-only and calls nothing of libc.
 */
#ifndef SILL_ENGINE_DBT_VCPU_H
#define SILL_ENGINE_DBT_VCPU_H

#include <stdatomic.h>

#include "engine/engine.h"

struct dbt_vm;
struct dbt_block;
struct lapic;

/* What executing one instruction in C led to. */
enum dbt_result {
    DBT_NEXT,  /* done; rip is the next instruction and nothing that a block depends on changed */
    DBT_JUMP,  /* done; rip, or the mode, or a mapping changed: look the next block up. Also used
                  to be asked again (rip unchanged) by a long REP, so that interrupts are seen */
    DBT_FAULT, /* not done: `exception` is filled, rip is the faulting instruction and no register
                  changed. The run loop delivers it */
    DBT_EXIT,  /* leave the run loop: halted or a VM-level exit is recorded */
};

/* TLB access kinds and banks. A bank is a privilege view of the address space. */
enum dbt_bank { DBT_BANK_USER, DBT_BANK_SUPERVISOR, DBT_BANK_SUPERVISOR_AC, DBT_BANK_COUNT };

/*
 * One entry maps one guest page. `neg_read` and `neg_write` are minus the page's linear address, so
 * that linear + neg_* is the offset in the page on a hit and beyond it on a miss; `host` + that
 * offset is the host address.
 */
struct dbt_tlb_entry {
    uint64_t neg_read;
    uint64_t neg_write;
    uint8_t *host;  /* host address of the page */
    uint64_t frame; /* guest-physical page address | DBT_TLB_* */
};
#define DBT_TLB_BITS 12
#define DBT_TLB_SIZE (1u << DBT_TLB_BITS)
#define DBT_TLB_GLOBAL (1u << 0)
#define DBT_TLB_ENTRY_SHIFT 5
_Static_assert(sizeof(struct dbt_tlb_entry) == 1u << DBT_TLB_ENTRY_SHIFT, "index arithmetic");

/* Minus an address that is not canonical, nor is what PIN makes of it on the host: a guest's rsp
 * there passes the check, and the access raises #SS, which engine.c makes the guest's. */
#define DBT_PIN_NONE 0x8000000000000000ull

/* What an unused neg_* of entry `index` holds: minus a non-canonical page whose index is far from
 * that, so that neither an address in it nor an access that reaches into it from below looks here.
 */
static inline uint64_t dbt_tlb_invalid(unsigned index)
{
    return 0x8000000000000000ull - ((uint64_t)(index ^ DBT_TLB_SIZE / 2) << GUEST_PAGE_SHIFT);
}

/* The jump cache: where the translated code for a linear address is. Each mode in use has tables of
 * its own (a mode slot), so that an entry's tag need not name the mode. What the first table loses
 * to another address with the same index goes to the second, where other bits make the index. */
struct dbt_jump_entry {
    uint64_t neg_linear; /* minus the linear address, or DBT_JUMP_INVALID */
    void *code;
};
#define DBT_JUMP_BITS 14
#define DBT_JUMP_SIZE (1u << DBT_JUMP_BITS)
#define DBT_JUMP_LEVELS 2
/* The bits of the address that make the index in each table, for pext. */
#define DBT_JUMP_MASK_FIRST 0x00fffcull
#define DBT_JUMP_MASK_SECOND 0x7f01fcull
/* Minus a non-canonical address with index 0, and another one, which is in the entry with that
 * index: a jump to the former finds nothing there, and one to the latter looks there only when
 * jump_mask is 0. Should it, the entry's code is stub_miss, which leads to the dispatcher. */
#define DBT_JUMP_INVALID 0x0001000000000000ull
#define DBT_JUMP_FIRST 0x0000fffffffffffcull
#define DBT_MODE_SLOTS 16

/* No interrupt before the next instruction has completed, because of the one before. */
enum dbt_shadow { DBT_SHADOW_NONE, DBT_SHADOW_STI, DBT_SHADOW_SS };

/* dbt_vcpu.branch: 0, or the page offset of the jump through a register or memory, with what it has
 * added to RSP (signed, in the upper bits). */
#define DBT_BRANCH_KNOWN (1u << 12)
#define DBT_BRANCH_POPPED_SHIFT 13

static inline unsigned dbt_jump_index(unsigned level, gva_t linear)
{
    return level == 0 ? linear >> 2 & 0x3fff : (linear >> 2 & 0x7f) | (linear >> 16 & 0x7f) << 7;
}

/* What SYSCALL, or SYSRET, was seen to do, for fastcall.c. */
struct dbt_fast_call {
    uint32_t from, to; /* modes; `from` is DBT_NO_FAST_CALL if nothing is noted */
    struct x86_segment cs, ss;
    uint64_t flags_kept;  /* SYSCALL: what stays of flags_sys */
    uint64_t first_entry; /* index of the first entry of mode `to` in each jump cache level, times
                             two */
};
#define DBT_NO_FAST_CALL 0xffffffffu

/* Legacy region, header and the AVX component: the most that XSAVE writes with the components that
 * the engine offers (x87, SSE, AVX). */
#define DBT_XSAVE_SIZE 832

/* Places in the XSAVE image (Intel SDM volume 1, 10.5.1 and 13.4). */
enum {
    XSAVE_FSW = 2,
    XSAVE_FTW = 4,
    XSAVE_FOP = 6,
    XSAVE_FIP = 8,
    XSAVE_FDP = 16,
    XSAVE_ST = 32,
    XSAVE_XMM = 160,
    XSAVE_XSTATE_BV = 512,
    XSAVE_XCOMP_BV = 520,
    XSAVE_LEGACY_SIZE = 576, /* with the header */
    XSAVE_YMM_HIGH = 576
};

enum dbt_exception_kind { DBT_EXC_FAULT, DBT_EXC_TRAP, DBT_EXC_SOFTWARE, DBT_EXC_INTERRUPT };

struct dbt_exception {
    bool pending;
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t address; /* #PF: becomes CR2 when delivered */
};

/* Everything a block's meaning depends on besides its bytes (`mode`). Blocks are keyed by it. */
enum dbt_mode {
    DBT_MODE_CPL_MASK = 3u,
    DBT_MODE_CODE64 = 1u << 2,  /* CS.L in long mode */
    DBT_MODE_CODE32 = 1u << 3,  /* CS.D */
    DBT_MODE_STACK32 = 1u << 4, /* SS.B */
    DBT_MODE_PROTECTED = 1u << 5,
    DBT_MODE_VM86 = 1u << 6,
    DBT_MODE_AC = 1u << 7,           /* supervisor with SMAP open, or SMAP off: which TLB bank */
    DBT_MODE_FLAT = 1u << 8,         /* 32-bit code; DS, ES and SS: base 0, limit 4 GiB, writable */
    DBT_MODE_NO_X87 = 1u << 9,       /* CR0.EM or TS: #NM/#UD checks in C */
    DBT_MODE_NO_SSE = 1u << 10,      /* CR0.EM, TS or not CR4.OSFXSR */
    DBT_MODE_NO_AVX = 1u << 11,      /* not XCR0.AVX, not OSXSAVE, or TS */
    DBT_MODE_TF = 1u << 12,          /* single step: blocks of one instruction */
    DBT_MODE_DEBUG = 1u << 13,       /* instruction breakpoints armed in DR7 */
    DBT_MODE_LMA = 1u << 14,         /* long mode active (so compatibility mode when not CODE64) */
    DBT_MODE_ALIGN = 1u << 15,       /* alignment checking on (CPL 3, AM and AC) */
    DBT_MODE_MP_TS = 1u << 16,       /* CR0.MP and TS: WAIT traps */
    DBT_MODE_FLAT_CODE = 1u << 19,   /* 32-bit code; CS: base 0, limit 4 GiB */
    DBT_MODE_RAGGED_CODE = 1u << 21, /* CS begins or ends inside a page, or is a 16-bit segment of
                                        more than 64 KiB */
    DBT_MODE_LIMIT_64K = 1u << 23, /* 16-bit code; CS: limit 64 KiB; DS, ES and SS, too, writable */
    DBT_MODE_NO_XSAVE = 1u << 24,  /* not CR4.OSXSAVE, or TS */
    DBT_MODE_NO_SMAP = 1u << 22,   /* supervisor with SMAP off: STAC and CLAC change no mode */
    DBT_MODE_ONE = 1u << 17,       /* never in dbt_vcpu.mode: a block of one instruction, run in an
                                      interrupt shadow */
    DBT_MODE_CROSS = 1u << 18,  /* never in dbt_vcpu.mode: a block of the one instruction that lies
                                   on two pages */
    DBT_MODE_NO_PIN = 1u << 20, /* never in dbt_vcpu.mode: a block that checks each access */
};

/*
 * What translated code outside 64-bit mode checks offsets against; mode_update() keeps it. neg_* is
 * minus the offset behind the last byte that may be accessed so, or 0 where C must look: in
 * expand-down segments, and where the segment does not allow the access at all.
 */
struct dbt_segment_ends {
    uint64_t neg_read[X86_SEGMENT_COUNT];
    uint64_t neg_write[X86_SEGMENT_COUNT];
    uint64_t neg_code;
    uint32_t neg_code_base; /* minus CS's base */
    /* A load of the register in real or virtual-8086 mode changes more than selector and base. */
    uint8_t load_in_c[X86_SEGMENT_COUNT];
    uint64_t source[X86_SEGMENT_COUNT]; /* what the segment's other members were made from */
};

/* The x87 instruction and data pointers, which the registers have as the host's addresses; see
 * x87.h. */
struct dbt_x87 {
    /* What translated code notes of its last x87 instruction. */
    uint64_t data;  /* offset of the operand in its segment, or X87_NO_DATA */
    uint64_t page;  /* guest rip of offset 0 of the code page */
    uint32_t last;  /* offset in the page and opcode; 0: nothing is noted */
    uint32_t cs_ds; /* selectors of the code and, in the high half, of the operand */
    uint8_t
        loaded; /* an image has been loaded inline: the registers are right, what is below not */
    /* The guest's, but for what is noted. */
    uint64_t ip, dp;
    uint16_t cs, ds; /* translated code reads both at once */
    uint16_t opcode;
};
#define X87_NO_DATA (~0ull)

struct dbt_vcpu {
    /* --- reached from translated code --- */
    uint64_t gpr[X86_GPR_COUNT];
    uint64_t rip;         /* complete only while C runs */
    uint64_t flags_arith; /* CF PF AF ZF SF OF DF (DBT_ARITH_FLAGS); other bits are the host's */
    uint64_t flags_sys;   /* the other RFLAGS bits, without IF and without the arithmetic ones */
    uint8_t iflag;        /* RFLAGS.IF, 0 or 1 */
    uint8_t shadow;       /* enum dbt_shadow */
    uint8_t simd_live;    /* guest x87/SSE/AVX state is in the CPU, not in `xsave` */
    uint8_t interrupt_waiting; /* something may be pending that could not be delivered */
    uint32_t mode;             /* enum dbt_mode bits; mode_update() keeps it */
    uint32_t pauses;    /* PAUSE instructions until the host's other threads get their turn */
    uint32_t insn_info; /* set by slow paths: which instruction, see runtime.h */
    _Atomic uint32_t attention;          /* not 0: leave translated code and look at `requests` */
    uint64_t page_base;                  /* linear address of the code page being executed */
    uint64_t jump_mask[DBT_JUMP_LEVELS]; /* pext masks; 0 while attention is wanted */
    uint64_t tlb_mask;                   /* pext mask for the TLB index */
    struct dbt_segment_ends ends;
    uint64_t arith_mask;       /* DBT_ARITH_FLAGS */
    uint64_t page_number_mask; /* ~0xfff */
    uint32_t branch; /* of the jump that the first jump cache table missed: DBT_BRANCH_* */
    uint64_t scratch[8];
    struct dbt_x87 x87;
    uint64_t tsc_offset; /* guest TSC = host TSC + this */
    void *host_stack;    /* the run loop's stack pointer, 16-byte aligned, to leave from anywhere */
    uint32_t resume_offset;  /* stub_memory: where the access goes on, in the code cache */
    const void *resume_code; /* the same as an address */
    /* The pinned stack page (pin.c): minus its linear address for the banks that may use it, else
     * DBT_PIN_NONE; what PIN holds, and what it will hold after a change between user and
     * supervisor (mode_update()); for stub_pin the highest offset in the page where the range
     * may start, and where to go on if it cannot be pinned. */
    uint64_t pin_neg[DBT_BANK_COUNT];
    uint64_t pin_addend, pin_other;
    uint32_t pin_limit, unpinned_offset;
    struct dbt_fast_call fast_call[2]; /* SYSCALL, SYSRET */
    struct dbt_vcpu *self;

    /* --- architectural state; C only, but for the segment bases --- */
    struct x86_segment segment[X86_SEGMENT_COUNT];
    struct x86_segment ldtr, tr;
    struct x86_table gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4;
    uint64_t efer;
    uint64_t xcr0;        /* set by dbt_set_xcr0() */
    uint64_t xcr0_absent; /* what an XRSTOR header must not name: all else, but for the bit that
                             says that the image is compacted */
    uint64_t dr[4], dr6, dr7;
    bool data_breakpoints; /* some are armed, in DR7 or by a debugger */
    uint64_t debug_hits;   /* DR6 bits of data breakpoints that the current instruction hit */
    uint64_t debug_held;   /* those that MOV SS or POP SS before it hit */
    struct x86_msrs msr;
    uint64_t pdpte[4]; /* PAE page-directory-pointer registers, loaded with CR3 */

    struct dbt_exception exception; /* what DBT_FAULT reports */
    bool nmi_blocked;
    _Atomic uint8_t nmi_pending; /* how many; see nmi_raise() */
    _Atomic bool init_pending, sipi_pending;
    uint8_t sipi_vector;
    enum x86_run_state run_state;
    bool shutdown; /* triple fault */

    unsigned index;
    struct dbt_vm *vm;
    struct lapic *lapic;

    uint8_t xsave[X86_XSAVE_AREA_SIZE] __attribute__((aligned(64)));

    /* --- look-up tables of translated code, page aligned --- */
    struct dbt_tlb_entry tlb[DBT_BANK_COUNT][DBT_TLB_SIZE] __attribute__((aligned(4096)));
    struct dbt_jump_entry jump[DBT_JUMP_LEVELS][DBT_MODE_SLOTS][DBT_JUMP_SIZE]
        __attribute__((aligned(4096)));

    struct dbt_runtime *runtime; /* what runtime.c alone knows */
};

#define DBT_ARITH_FLAGS 0xcd5ull /* CF PF AF ZF SF DF OF */

static inline uint64_t dbt_rflags_get(const struct dbt_vcpu *v)
{
    return (v->flags_arith & DBT_ARITH_FLAGS) | v->flags_sys | (uint64_t)v->iflag << 9 | 2;
}

/* Stores all bits; the caller has applied its privilege rules and calls mode_update() if TF, AC, VM
 * or the like may have changed. */
static inline void dbt_rflags_set(struct dbt_vcpu *v, uint64_t rflags)
{
    v->flags_arith = rflags & DBT_ARITH_FLAGS;
    v->flags_sys = rflags & ~(DBT_ARITH_FLAGS | 1u << 9 | 2);
    v->iflag = rflags >> 9 & 1;
}

static inline void dbt_set_xcr0(struct dbt_vcpu *v, uint64_t xcr0)
{
    const uint64_t compacted = 1ull << 63;

    v->xcr0 = xcr0;
    v->xcr0_absent = ~(xcr0 | compacted);
}

/* In 64-bit code rip is the linear address of an instruction; elsewhere CS has a base. */
static inline gva_t dbt_linear_of(const struct dbt_vcpu *v, uint64_t rip)
{
    return v->mode & DBT_MODE_CODE64 ? rip : (uint32_t)(rip + v->segment[X86_CS].base);
}

static inline uint64_t dbt_rip_of(const struct dbt_vcpu *v, gva_t linear)
{
    return v->mode & DBT_MODE_CODE64 ? linear : (uint32_t)(linear - v->segment[X86_CS].base);
}

static inline unsigned dbt_cpl(const struct dbt_vcpu *v)
{
    return v->mode & DBT_MODE_CPL_MASK;
}

/* Records an exception and returns DBT_FAULT. */
static inline enum dbt_result dbt_raise(struct dbt_vcpu *v, uint8_t vector)
{
    v->exception = (struct dbt_exception){.pending = true, .vector = vector};
    return DBT_FAULT;
}

static inline enum dbt_result dbt_raise_error(struct dbt_vcpu *v, uint8_t vector, uint32_t error)
{
    v->exception = (struct dbt_exception){
        .pending = true, .vector = vector, .has_error = true, .error = error};
    return DBT_FAULT;
}

/* EFER, CR4, STAR or SFMASK were written, or jump cache tables went to other modes. */
static inline void dbt_forget_fast_calls(struct dbt_vcpu *v)
{
    v->fast_call[0].from = v->fast_call[1].from = DBT_NO_FAST_CALL;
}

/* Recomputes `mode` from the architectural state. (mode.c) */
void mode_update(struct dbt_vcpu *v);

/* --- access to memory by linear address (mmu.c); 0, or DBT_FAULT with a page fault (or #GP for a
 * non-canonical address) recorded. They go through paging and reach RAM, ROM and devices, crossing
 * pages as need be. A write either happens whole or not at all (all pages are probed first). --- */

enum mmu_access {
    MMU_READ = 0,
    MMU_WRITE = 1 << 0,
    MMU_EXECUTE = 1 << 1,
    MMU_IMPLICIT = 1 << 2, /* a supervisor access whatever the CPL, and never under SMAP's AC:
                              descriptor tables, TSS, IDT, exception frames */
    MMU_USER = 1 << 3,     /* with the rights of CPL 3 whatever the CPL */
    MMU_QUIET = 1 << 4,    /* refused rather than set an accessed or dirty bit */
};

SILL_CHECKED enum dbt_result mmu_read(struct dbt_vcpu *v, gva_t address, void *to, unsigned size,
                                      unsigned access);
SILL_CHECKED enum dbt_result mmu_write(struct dbt_vcpu *v, gva_t address, const void *from,
                                       unsigned size, unsigned access);
/* Faults exactly as a write of that size would; changes nothing (may set A and D bits). */
SILL_CHECKED enum dbt_result mmu_probe_write(struct dbt_vcpu *v, gva_t address, unsigned size,
                                             unsigned access);
/*
 * Host address of a byte at `address` and in *length how many bytes from there lie in the same
 * page, for bulk copies; *host is NULL where it is not plain RAM (use mmu_read/mmu_write there).
 * Writing through the pointer is safe: pages that hold translated code give NULL for MMU_WRITE.
 */
SILL_CHECKED enum dbt_result mmu_host(struct dbt_vcpu *v, gva_t address, unsigned access,
                                      uint8_t **host, uint64_t *length);
/* Atomic compare-and-exchange on a naturally aligned 1..8 byte word; used for descriptor busy and
 * accessed bits. *expected is updated as by atomic_compare_exchange. */
SILL_CHECKED enum dbt_result mmu_cmpxchg(struct dbt_vcpu *v, gva_t address, uint64_t *expected,
                                         uint64_t desired, unsigned size, unsigned access);

/* Forget translations: all but global ones, all, one page, all of one PCID. (mmu.c) */
void mmu_flush(struct dbt_vcpu *v, bool global_too);
void mmu_flush_page(struct dbt_vcpu *v, gva_t address);
/* CR3 was written (value as in the register, without bit 63). Loads the PDPTEs under PAE; false if
 * they have reserved bits set (#GP). `keep`: bit 63 of the operand, with PCIDs on. */
bool mmu_set_cr3(struct dbt_vcpu *v, uint64_t cr3, bool keep);

/* --- the world outside the engine; these put the vector state aside first (runtime.c) --- */
uint32_t dbt_port_read(struct dbt_vcpu *v, uint16_t port, unsigned size);
void dbt_port_write(struct dbt_vcpu *v, uint16_t port, unsigned size, uint32_t value);
bool dbt_msr_read_outside(struct dbt_vcpu *v, uint32_t index, uint64_t *value); /* board and APIC */
bool dbt_msr_write_outside(struct dbt_vcpu *v, uint32_t index, uint64_t value);
void dbt_cpuid(struct dbt_vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
uint64_t dbt_cr8_read(struct dbt_vcpu *v);
void dbt_cr8_write(struct dbt_vcpu *v, uint64_t value);
/* An interrupt to another vCPU or this one, as the low word of an interrupt command says. */
void dbt_ipi_send(struct dbt_vcpu *v, unsigned apic_id, uint32_t command);
uint64_t dbt_tsc(struct dbt_vcpu *v);
/* The vector state has just been saved in `v->xsave`: makes its x87 pointers the guest's. (x87.c)
 */
void x87_sync(struct dbt_vcpu *v);
/* `v->xsave` comes from elsewhere. (x87.c) */
void x87_load(struct dbt_vcpu *v);
/* Guest vector state in `v->xsave` (standard format) and no longer in the CPU. */
void dbt_simd_unload(struct dbt_vcpu *v);

#endif
