/*
 * The guest's memory management unit: page walks (Intel SDM volume 3, chapter 4), the TLB that
 * translated code looks into, and access to guest memory by linear address for the C code here.
 *
 * Everything runs on the vCPU's own thread. Page table entries are read and their accessed and
 * dirty bits set with atomic operations, as other vCPUs and the guest itself change them meanwhile.
 */
#include "engine/dbt/debug.h"
#include "engine/dbt/operand.h"
#include "engine/dbt/vm.h"
#include "x86/arch.h"

/* What a walk found. */
struct translation {
    gpa_t gpa;     /* of the byte asked for */
    bool writable; /* a write may go through now: permission, and D is set */
    bool global;
    bool large;
    bool huge; /* 1 GiB */
};

uint8_t *dbt_ram(const struct dbt_vm *vm, gpa_t page, bool *readonly)
{
    const struct memory *mem = vm->config.memory;

    /* From the top: the many small ones below 1 MiB are rarely wanted. */
    for (unsigned i = mem->slot_count; i-- > 0;) {
        const struct memory_slot *slot = &mem->slot[i];

        if (page - slot->gpa < slot->size) {
            unsigned flags = atomic_load_explicit(&slot->flags, memory_order_relaxed);

            if (flags & MEMORY_HIDDEN)
                continue;
            if (readonly)
                *readonly = flags & MEMORY_READONLY;
            return slot->host + (page - slot->gpa);
        }
    }
    return NULL;
}

static uint8_t page_flags(const struct dbt_vm *vm, gpa_t gpa)
{
    const struct memory *mem = vm->config.memory;
    uint64_t page = gpa >> GUEST_PAGE_SHIFT;

    return page < mem->page_count
               ? atomic_load_explicit(&mem->page_flags[page], memory_order_acquire)
               : 0;
}

static enum dbt_result page_fault(struct dbt_vcpu *v, gva_t address, uint32_t error)
{
    v->exception = (struct dbt_exception){
        .pending = true,
        .vector = X86_VECTOR_PF,
        .has_error = true,
        .error = error,
        .address = address,
    };
    return DBT_FAULT;
}

/* One table entry of 4 or 8 bytes, with A (and D) set if `set` says so. False when the guest
 * changed it meanwhile: walk again. */
static bool entry_mark(uint8_t *at, unsigned size, uint64_t old, uint64_t set)
{
    if ((old & set) == set)
        return true;
    if (size == 4) {
        uint32_t expected = (uint32_t)old;

        return atomic_compare_exchange_strong((_Atomic uint32_t *)at, &expected,
                                              (uint32_t)(old | set));
    }
    return atomic_compare_exchange_strong((_Atomic uint64_t *)at, &old, old | set);
}

/* Levels of each paging mode: how many index bits, from which bit, entries of which size. */
struct paging {
    unsigned levels, bits, entry_size;
};

static struct paging paging_of(const struct dbt_vcpu *v)
{
    if (v->efer & X86_EFER_LMA)
        return (struct paging){4, 9, 8};
    if (v->cr4 & X86_CR4_PAE)
        return (struct paging){2, 9, 8}; /* below the PDPTE registers */
    return (struct paging){2, 10, 4};
}

static uint64_t reserved_bits(const struct dbt_vcpu *v, const struct paging *paging, unsigned level,
                              uint64_t entry)
{
    uint64_t reserved = 0;

    if (paging->entry_size == 4) {
        /* PSE-36 pages hold address bits 32..39 in 13..20; bit 21 is reserved. */
        return level == 1 && (entry & X86_PTE_PS) && (v->cr4 & X86_CR4_PSE) ? 1u << 21 : 0;
    }
    reserved = ((1ull << 52) - 1) & ~((1ull << v->vm->phys_bits) - 1);
    if (!(v->efer & X86_EFER_LMA))
        reserved |= 0x7ff0000000000000ull;
    if (!(v->efer & X86_EFER_NXE))
        reserved |= X86_PTE_NX;
    if (level == 3)
        reserved |= X86_PTE_PS;
    if (entry & X86_PTE_PS) {
        if (level == 1)
            reserved |= 0x1fe000; /* bits 13..20 */
        if (level == 2)
            reserved |= 0x3fffe000; /* bits 13..29 */
    }
    return reserved;
}

/* Walks the tables for an access, setting A and D bits. */
static enum dbt_result walk(struct dbt_vcpu *v, gva_t address, unsigned access,
                            struct translation *out)
{
    bool user = (dbt_cpl(v) == 3 && !(access & MMU_IMPLICIT)) || (access & MMU_USER);
    bool write = access & MMU_WRITE;
    bool execute = access & MMU_EXECUTE;
    struct paging paging;
    uint32_t error = (write ? X86_PF_W : 0) | (user ? X86_PF_U : 0);
    uint64_t table, entry, rights, low_mask;
    uint8_t *at;
    unsigned level;

    if (!(v->cr0 & X86_CR0_PG)) {
        *out = (struct translation){.gpa = (uint32_t)address, .writable = true, .global = true};
        return DBT_NEXT;
    }
    if (execute &&
        ((v->cr4 & X86_CR4_SMEP) || ((v->efer & X86_EFER_NXE) && (v->cr4 & X86_CR4_PAE))))
        error |= X86_PF_I;
    paging = paging_of(v);

again:
    rights = X86_PTE_W | X86_PTE_U;
    table = v->cr3 &
            (paging.entry_size == 8 && paging.levels == 4 ? 0x000ffffffffff000ull : 0xfffff000ull);
    if (paging.entry_size == 8 && paging.levels == 2) {
        uint64_t pdpte = v->pdpte[address >> 30 & 3];

        if (!(pdpte & X86_PTE_P))
            return page_fault(v, address, error);
        table = pdpte & 0x000ffffffffff000ull;
    }
    uint64_t nx = 0;

    for (level = paging.levels; level-- > 0;) {
        unsigned shift = GUEST_PAGE_SHIFT + level * paging.bits;
        uint64_t index = address >> shift & ((1u << paging.bits) - 1);
        gpa_t entry_gpa = table + index * paging.entry_size;
        uint8_t *page = dbt_ram(v->vm, entry_gpa & ~0xfffull, NULL);

        if (!page) /* device space as a page table reads as ones: reserved bits */
            return page_fault(v, address, error | X86_PF_P | X86_PF_RSVD);
        at = page + (entry_gpa & 0xfff);
        entry = paging.entry_size == 8
                    ? atomic_load_explicit((_Atomic uint64_t *)at, memory_order_relaxed)
                    : atomic_load_explicit((_Atomic uint32_t *)at, memory_order_relaxed);
        if (!(entry & X86_PTE_P))
            return page_fault(v, address, error);
        if (entry & reserved_bits(v, &paging, level, entry))
            return page_fault(v, address, error | X86_PF_P | X86_PF_RSVD);
        rights &= entry;
        nx |= entry & X86_PTE_NX;

        bool leaf = level == 0 || ((entry & X86_PTE_PS) && level <= 2 &&
                                   (paging.entry_size == 8 || (v->cr4 & X86_CR4_PSE)));
        if (leaf)
            break;
        if ((access & MMU_QUIET) && !(entry & X86_PTE_A))
            return DBT_FAULT;
        if (!entry_mark(at, paging.entry_size, entry, X86_PTE_A))
            goto again;
        table = paging.entry_size == 8 ? entry & 0x000ffffffffff000ull : entry & 0xfffff000ull;
    }

    bool allowed = true;

    if (user) {
        allowed = (rights & X86_PTE_U) && (!write || (rights & X86_PTE_W));
    } else {
        if (write && !(rights & X86_PTE_W) && (v->cr0 & X86_CR0_WP))
            allowed = false;
        if (rights & X86_PTE_U) {
            if (execute && (v->cr4 & X86_CR4_SMEP))
                allowed = false;
            if (!execute && (v->cr4 & X86_CR4_SMAP) &&
                (!(v->flags_sys & X86_FLAG_AC) || (access & MMU_IMPLICIT)))
                allowed = false;
        }
    }
    if (execute && nx)
        allowed = false;
    if (!allowed)
        return page_fault(v, address, error | X86_PF_P);
    if ((access & MMU_QUIET) && (~entry & (X86_PTE_A | (write ? X86_PTE_D : 0))))
        return DBT_FAULT;
    if (!entry_mark(at, paging.entry_size, entry, X86_PTE_A | (write ? X86_PTE_D : 0)))
        goto again;

    low_mask = (1ull << (GUEST_PAGE_SHIFT + level * paging.bits)) - 1;
    if (paging.entry_size == 8)
        out->gpa = (entry & 0x000ffffffffff000ull & ~low_mask) | (address & low_mask);
    else if (level == 1)
        out->gpa = (entry & 0xffc00000ull) | (entry >> 13 & 0xff) << 32 | (address & low_mask);
    else
        out->gpa = (entry & 0xfffff000ull) | (address & low_mask);
    out->writable = (write || (entry & X86_PTE_D)) &&
                    ((rights & X86_PTE_W) || (!user && !(v->cr0 & X86_CR0_WP)));
    out->global = (entry & X86_PTE_G) && (v->cr4 & X86_CR4_PGE);
    out->large = level >= 1;
    out->huge = level == 2;
    return DBT_NEXT;
}

static unsigned large_bit(uint64_t region, bool huge)
{
    return (unsigned)((region * 2 + huge) * 0x9e3779b97f4a7c15ull >> 52);
}

static void large_note(struct dbt_vcpu *v, gva_t address, const struct translation *t)
{
    unsigned bit = t->huge ? large_bit(address >> 30, true) : large_bit(address >> 21, false);

    if (t->large)
        v->runtime->large[bit / 64] |= 1ull << (bit % 64);
}

static bool large_noted(const struct dbt_vcpu *v, gva_t address)
{
    unsigned huge = large_bit(address >> 30, true), large = large_bit(address >> 21, false);

    return (v->runtime->large[huge / 64] >> (huge % 64) & 1) ||
           (v->runtime->large[large / 64] >> (large % 64) & 1);
}

static unsigned page_bit(gva_t address)
{
    return (unsigned)((address >> GUEST_PAGE_SHIFT) * 0x9e3779b97f4a7c15ull >> 52);
}

static void fetched_note(struct dbt_vcpu *v, gva_t address, const struct translation *t)
{
    unsigned bit = page_bit(address);

    v->runtime->fetched[t->global][bit / 64] |= 1ull << (bit % 64);
}

/* Whether code from the page may be in the jump cache. It can be there longer than in `fetch`. */
static bool fetched_noted(const struct dbt_vcpu *v, gva_t address)
{
    unsigned bit = page_bit(address);

    return (v->runtime->fetched[0][bit / 64] | v->runtime->fetched[1][bit / 64]) >> (bit % 64) & 1;
}

static enum dbt_result check_canonical(struct dbt_vcpu *v, gva_t address)
{
    return (v->mode & DBT_MODE_LMA) && !is_canonical(address) ? dbt_raise_error(v, X86_VECTOR_GP, 0)
                                                              : DBT_NEXT;
}

static enum dbt_result translate(struct dbt_vcpu *v, gva_t address, unsigned access,
                                 struct translation *out)
{
    if (check_canonical(v, address) == DBT_FAULT)
        return DBT_FAULT;
    return walk(v, address, access, out);
}

static unsigned tlb_index(gva_t address)
{
    return address >> GUEST_PAGE_SHIFT & (DBT_TLB_SIZE - 1);
}

enum dbt_bank mmu_bank(const struct dbt_vcpu *v)
{
    if (dbt_cpl(v) == 3)
        return DBT_BANK_USER;
    return v->mode & DBT_MODE_AC ? DBT_BANK_SUPERVISOR_AC : DBT_BANK_SUPERVISOR;
}

/* The bank whose entries tell about an access of this kind, which is not MMU_USER. */
static enum dbt_bank bank_of(const struct dbt_vcpu *v, unsigned access)
{
    if (!(access & MMU_IMPLICIT))
        return mmu_bank(v);
    return v->cr4 & X86_CR4_SMAP ? DBT_BANK_SUPERVISOR : DBT_BANK_SUPERVISOR_AC;
}

/* Enters the page in the TLB. */
static const struct dbt_tlb_entry *tlb_fill(struct dbt_vcpu *v, enum dbt_bank bank, gva_t address,
                                            const struct translation *t, uint8_t *host,
                                            bool readonly)
{
    gpa_t frame = ALIGN_DOWN(t->gpa, GUEST_PAGE_SIZE);
    bool watched = page_flags(v->vm, frame) & MEMORY_PAGE_WATCHED;
    unsigned index = tlb_index(address);
    struct dbt_tlb_entry *entry = &v->tlb[bank][index];
    uint64_t negative = -ALIGN_DOWN(address, GUEST_PAGE_SIZE);

    v->runtime->counters.memory_fills++;
    entry->neg_read = negative;
    entry->neg_write = t->writable && !watched && !readonly ? negative : dbt_tlb_invalid(index);
    entry->host = host;
    entry->frame = frame | (t->global ? DBT_TLB_GLOBAL : 0);
    fill_list_add(&v->runtime->tlb_filled[t->global], bank * DBT_TLB_SIZE + index);
    large_note(v, address, t);
    return entry;
}

uint8_t *mmu_access_host(struct dbt_vcpu *v, gva_t address, unsigned size, bool write,
                         enum dbt_result *result)
{
    unsigned access = write ? MMU_WRITE : MMU_READ;
    gva_t last = address + size - 1;
    struct translation t;
    bool readonly, watched;

    v->runtime->counters.memory_misses++;
    *result = check_canonical(v, last); /* before any page is looked at */
    if (*result != DBT_FAULT)
        *result = translate(v, address, access, &t);
    if (*result == DBT_FAULT)
        return NULL;
    if ((address ^ last) >> GUEST_PAGE_SHIFT) {
        struct translation second;

        /* Crosses pages: slow.c does it, once both pages are known to be there. */
        *result = translate(v, ALIGN_DOWN(last, GUEST_PAGE_SIZE), access, &second);
        return NULL;
    }

    gpa_t frame = ALIGN_DOWN(t.gpa, GUEST_PAGE_SIZE);
    uint8_t *host = dbt_ram(v->vm, frame, &readonly);

    if (!host || (write && readonly) || (v->data_breakpoints && debug_watches(v, address)))
        return NULL;

    tlb_fill(v, mmu_bank(v), address, &t, host, readonly);
    watched = page_flags(v->vm, frame) & MEMORY_PAGE_WATCHED;
    if (write && watched && smc_written(v->vm, v, t.gpa, size))
        return NULL; /* translated code was there: finish this instruction outside its block */
    return host + (address & (GUEST_PAGE_SIZE - 1));
}

/* Enters the page if that is possible without a fault or a change to page tables. */
static void fill_quietly(struct dbt_vcpu *v, gva_t address, bool write)
{
    struct dbt_exception before = v->exception;
    struct translation t;
    uint8_t *host;
    bool readonly;

    if (translate(v, address, (write ? MMU_WRITE : MMU_READ) | MMU_QUIET, &t) == DBT_FAULT) {
        v->exception = before;
        return;
    }
    host = dbt_ram(v->vm, ALIGN_DOWN(t.gpa, GUEST_PAGE_SIZE), &readonly);
    if (host && !(v->data_breakpoints && debug_watches(v, address)))
        tlb_fill(v, mmu_bank(v), address, &t, host, readonly);
}

static bool is_ready(const struct dbt_tlb_entry *entry, gva_t page, bool write)
{
    return (write ? entry->neg_write : entry->neg_read) == -page;
}

bool mmu_ready(struct dbt_vcpu *v, gva_t address, bool write)
{
    const struct dbt_tlb_entry *entry = &v->tlb[mmu_bank(v)][tlb_index(address)];
    gva_t page = ALIGN_DOWN(address, GUEST_PAGE_SIZE);

    if (!is_ready(entry, page, write))
        fill_quietly(v, address, write);
    return is_ready(entry, page, write);
}

bool mmu_pin(struct dbt_vcpu *v, gva_t address)
{
    gva_t page = ALIGN_DOWN(address, GUEST_PAGE_SIZE);
    enum dbt_bank current = mmu_bank(v);

    if (!mmu_ready(v, address, true))
        return false;
    /* Each of user and supervisor has its pin. What a supervisor may do under SMAP it may do with
     * SMAP open, not the other way round. */
    v->pin_neg[current] = -page;
    if (current == DBT_BANK_SUPERVISOR)
        v->pin_neg[DBT_BANK_SUPERVISOR_AC] = -page;
    else if (current == DBT_BANK_SUPERVISOR_AC)
        v->pin_neg[DBT_BANK_SUPERVISOR] = DBT_PIN_NONE;
    v->pin_addend = (uint64_t)(uintptr_t)v->tlb[current][tlb_index(address)].host - page;
    return true;
}

/* Whatever may make the pinned page another, or not writable, comes by here. */
static void pin_drop(struct dbt_vcpu *v)
{
    for (unsigned bank = 0; bank < DBT_BANK_COUNT; bank++)
        v->pin_neg[bank] = DBT_PIN_NONE;
    v->runtime->pin_drops++;
}

enum dbt_result mmu_fetch(struct dbt_vcpu *v, gva_t address, gpa_t *gpa, uint8_t **host)
{
    gva_t page = ALIGN_DOWN(address, GUEST_PAGE_SIZE) | (dbt_cpl(v) == 3);
    struct dbt_fetch_entry *entry = &v->runtime->fetch[address >> GUEST_PAGE_SHIFT & 255];

    if (entry->page != page) {
        struct translation t;
        enum dbt_result result = translate(v, address, MMU_EXECUTE, &t);

        if (result == DBT_FAULT)
            return result;
        if (t.large)
            large_note(v, address, &t);
        else
            fetched_note(v, address, &t);
        entry->page = page;
        entry->frame = ALIGN_DOWN(t.gpa, GUEST_PAGE_SIZE) | (t.global ? DBT_TLB_GLOBAL : 0);
        entry->host = dbt_ram(v->vm, ALIGN_DOWN(t.gpa, GUEST_PAGE_SIZE), NULL);
    }
    *gpa = ALIGN_DOWN(entry->frame, GUEST_PAGE_SIZE) | (address & (GUEST_PAGE_SIZE - 1));
    *host = entry->host ? entry->host + (address & (GUEST_PAGE_SIZE - 1)) : NULL;
    return DBT_NEXT;
}

enum dbt_result mmu_host(struct dbt_vcpu *v, gva_t address, unsigned access, uint8_t **host,
                         uint64_t *length)
{
    struct translation t;
    bool readonly;
    bool write = access & MMU_WRITE;
    const struct dbt_tlb_entry *entry = &v->tlb[mmu_bank(v)][tlb_index(address)];
    uint64_t offset = address & (GUEST_PAGE_SIZE - 1);

    *length = GUEST_PAGE_SIZE - offset;
    if (v->mode & DBT_MODE_ALIGN) {
        *host = NULL; /* each access is to be looked at: mmu_read(), mmu_write() */
        return DBT_NEXT;
    }
    if (!(access & ~MMU_WRITE) &&
        (write ? entry->neg_write : entry->neg_read) == -(address - offset)) {
        *host = entry->host + offset;
        return DBT_NEXT;
    }
    *host = NULL;
    if (!(access & ~MMU_WRITE)) {
        enum dbt_result result;

        *host = mmu_access_host(v, address, 1, write, &result);
        if (*host && write && entry->neg_write != -(address - offset))
            *host = NULL; /* watched: only mmu_write() knows how much is touched */
        return result;
    }

    enum dbt_result result = translate(v, address, access, &t);

    if (result == DBT_FAULT)
        return result;
    *host = dbt_ram(v->vm, ALIGN_DOWN(t.gpa, GUEST_PAGE_SIZE), &readonly);
    if (v->data_breakpoints && debug_watches(v, address))
        *host = NULL;
    if (*host && write && (readonly || (page_flags(v->vm, t.gpa) & MEMORY_PAGE_WATCHED)))
        *host = NULL;
    if (*host)
        *host += offset;
    return DBT_NEXT;
}

static void copy_bytes(void *to, const void *from, unsigned size)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

/* RAM copies of 1, 2, 4 and 8 bytes are single accesses, as on the bus. */
static void copy_atomic(void *to, const void *from, unsigned size)
{
    switch (size) {
    case 1:
        *(volatile uint8_t *)to = *(const volatile uint8_t *)from;
        break;
    case 2:
        *(volatile uint16_t *)to = *(const volatile uint16_t *)from;
        break;
    case 4:
        *(volatile uint32_t *)to = *(const volatile uint32_t *)from;
        break;
    case 8:
        *(volatile uint64_t *)to = *(const volatile uint64_t *)from;
        break;
    default:
        copy_bytes(to, from, size);
    }
}

/* Device accesses of any size: the largest naturally aligned pieces of at most 8 bytes. */
static unsigned device_piece(gpa_t gpa, unsigned size)
{
    unsigned piece = 8;

    while (piece > size || (gpa & (piece - 1)))
        piece /= 2;
    return piece;
}

static void physical_read(struct dbt_vcpu *v, gpa_t gpa, uint8_t *to, unsigned size)
{
    uint8_t *host = dbt_ram(v->vm, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE), NULL);

    if (host) {
        copy_atomic(to, host + (gpa & (GUEST_PAGE_SIZE - 1)), size);
        return;
    }
    while (size) {
        unsigned piece = device_piece(gpa, size);
        uint64_t value = dbt_mmio_read(v, gpa, piece);

        copy_bytes(to, &value, piece);
        gpa += piece;
        to += piece;
        size -= piece;
    }
}

static void physical_write(struct dbt_vcpu *v, gpa_t gpa, const uint8_t *from, unsigned size)
{
    bool readonly;
    uint8_t *host = dbt_ram(v->vm, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE), &readonly);

    if (host && !readonly) {
        if (page_flags(v->vm, gpa) & MEMORY_PAGE_WATCHED)
            smc_written(v->vm, v, gpa, size);
        copy_atomic(host + (gpa & (GUEST_PAGE_SIZE - 1)), from, size);
        return;
    }
    while (size) {
        unsigned piece = device_piece(gpa, size);
        uint64_t value = 0;

        copy_bytes(&value, from, piece);
        dbt_mmio_write(v, gpa, piece, value);
        gpa += piece;
        from += piece;
        size -= piece;
    }
}

/* Both pages of [address, address + size), size at most a page. */
static enum dbt_result translate_range(struct dbt_vcpu *v, gva_t address, unsigned size,
                                       unsigned access, struct translation t[2], unsigned *first)
{
    enum dbt_result result = check_canonical(v, address + size - 1);
    unsigned in_page = (unsigned)(GUEST_PAGE_SIZE - (address & (GUEST_PAGE_SIZE - 1)));

    if (result != DBT_FAULT)
        result = translate(v, address, access, &t[0]);
    if (result == DBT_FAULT)
        return result;
    *first = size;
    if (size > in_page) {
        *first = in_page;
        gva_t next = address + in_page;

        if (!(v->mode & DBT_MODE_LMA))
            next = (uint32_t)next;
        result = translate(v, next, access, &t[1]);
    }
    return result;
}

/* #AC for a misaligned word in user mode, with CR0.AM and RFLAGS.AC on (SDM volume 3, 6.15). */
static bool misaligned(const struct dbt_vcpu *v, gva_t address, unsigned size, unsigned access)
{
    return (v->mode & DBT_MODE_ALIGN) && !(access & MMU_IMPLICIT) && size <= 8 &&
           (address & (size - 1));
}

/* Whether a hit in bank_of() is all that there is to such an access. */
static bool tlb_knows(const struct dbt_vcpu *v, unsigned access)
{
    return !(access & ~(unsigned)(MMU_WRITE | MMU_IMPLICIT)) && !(v->mode & DBT_MODE_ALIGN);
}

/* Descriptor tables and the stacks that exceptions push to are used again and again. */
static void fill_implicit(struct dbt_vcpu *v, gva_t address, const struct translation *t)
{
    bool readonly;
    uint8_t *host = dbt_ram(v->vm, ALIGN_DOWN(t->gpa, GUEST_PAGE_SIZE), &readonly);

    if (host && !(v->data_breakpoints && debug_watches(v, address)))
        tlb_fill(v, bank_of(v, MMU_IMPLICIT), address, t, host, readonly);
}

enum dbt_result mmu_read(struct dbt_vcpu *v, gva_t address, void *to, unsigned size,
                         unsigned access)
{
    struct translation t[2];
    unsigned first;

    if (tlb_knows(v, access)) {
        const struct dbt_tlb_entry *entry = &v->tlb[bank_of(v, access)][tlb_index(address)];

        if (entry->neg_read + address <= GUEST_PAGE_SIZE - size) {
            copy_atomic(to, entry->host + (entry->neg_read + address), size);
            return DBT_NEXT;
        }
    }

    if (misaligned(v, address, size, access))
        return dbt_raise_error(v, X86_VECTOR_AC, 0);

    enum dbt_result result = translate_range(v, address, size, access & ~MMU_WRITE, t, &first);

    if (result == DBT_FAULT)
        return result;
    if (v->data_breakpoints && !(access & MMU_IMPLICIT))
        debug_access(v, address, size, false);
    if (access & MMU_IMPLICIT)
        fill_implicit(v, address, &t[0]);
    physical_read(v, t[0].gpa, to, first);
    if (first < size)
        physical_read(v, t[1].gpa, (uint8_t *)to + first, size - first);
    return DBT_NEXT;
}

enum dbt_result mmu_write(struct dbt_vcpu *v, gva_t address, const void *from, unsigned size,
                          unsigned access)
{
    struct translation t[2];
    unsigned first;

    if (tlb_knows(v, access)) {
        const struct dbt_tlb_entry *entry = &v->tlb[bank_of(v, access)][tlb_index(address)];

        if (entry->neg_write + address <= GUEST_PAGE_SIZE - size) {
            copy_atomic(entry->host + (entry->neg_write + address), from, size);
            return DBT_NEXT;
        }
    }

    if (misaligned(v, address, size, access))
        return dbt_raise_error(v, X86_VECTOR_AC, 0);

    enum dbt_result result = translate_range(v, address, size, access | MMU_WRITE, t, &first);

    if (result == DBT_FAULT)
        return result;
    if (v->data_breakpoints && !(access & MMU_IMPLICIT))
        debug_access(v, address, size, true);
    if (access & MMU_IMPLICIT)
        fill_implicit(v, address, &t[0]);
    physical_write(v, t[0].gpa, from, first);
    if (first < size)
        physical_write(v, t[1].gpa, (const uint8_t *)from + first, size - first);
    return DBT_NEXT;
}

enum dbt_result mmu_probe_write(struct dbt_vcpu *v, gva_t address, unsigned size, unsigned access)
{
    struct translation t[2];
    unsigned first;

    if (misaligned(v, address, size, access))
        return dbt_raise_error(v, X86_VECTOR_AC, 0);
    return translate_range(v, address, size, access | MMU_WRITE, t, &first);
}

enum dbt_result mmu_cmpxchg(struct dbt_vcpu *v, gva_t address, uint64_t *expected, uint64_t desired,
                            unsigned size, unsigned access)
{
    struct translation t;
    bool readonly;
    enum dbt_result result = translate(v, address, access | MMU_WRITE, &t);
    uint8_t *host;

    if (result == DBT_FAULT)
        return result;
    host = dbt_ram(v->vm, ALIGN_DOWN(t.gpa, GUEST_PAGE_SIZE), &readonly);
    if (!host || readonly)
        return DBT_NEXT; /* writes to devices and ROM vanish */
    if (page_flags(v->vm, t.gpa) & MEMORY_PAGE_WATCHED)
        smc_written(v->vm, v, t.gpa, size);
    host += t.gpa & (GUEST_PAGE_SIZE - 1);
    switch (size) {
    case 1: {
        uint8_t old = (uint8_t)*expected;

        atomic_compare_exchange_strong((_Atomic uint8_t *)host, &old, (uint8_t)desired);
        *expected = old;
        break;
    }
    case 2: {
        uint16_t old = (uint16_t)*expected;

        atomic_compare_exchange_strong((_Atomic uint16_t *)host, &old, (uint16_t)desired);
        *expected = old;
        break;
    }
    case 4: {
        uint32_t old = (uint32_t)*expected;

        atomic_compare_exchange_strong((_Atomic uint32_t *)host, &old, (uint32_t)desired);
        *expected = old;
        break;
    }
    default:
        atomic_compare_exchange_strong((_Atomic uint64_t *)host, expected, desired);
    }
    return DBT_NEXT;
}

static void entry_drop(struct dbt_tlb_entry *entry, unsigned index)
{
    entry->neg_read = dbt_tlb_invalid(index);
    entry->neg_write = dbt_tlb_invalid(index);
}

static void fetch_flush(struct dbt_vcpu *v, bool global_too)
{
    for (unsigned i = 0; i < 256; i++)
        if (global_too || !(v->runtime->fetch[i].frame & DBT_TLB_GLOBAL))
            v->runtime->fetch[i].page = ~0ull;
    dbt_jump_flush(v, global_too);
}

bool mmu_fetched_global(const struct dbt_vcpu *v, gva_t address)
{
    return v->runtime->fetch[address >> GUEST_PAGE_SHIFT & 255].frame & DBT_TLB_GLOBAL;
}

static void tlb_drop_listed(struct dbt_vcpu *v, const struct fill_list *list)
{
    for (unsigned i = 0; i < list->count; i++) {
        unsigned index = list->index[i] % DBT_TLB_SIZE;

        entry_drop(&v->tlb[list->index[i] / DBT_TLB_SIZE][index], index);
    }
}

void mmu_flush(struct dbt_vcpu *v, bool global_too)
{
    struct fill_list *filled = v->runtime->tlb_filled;

    if (global_too)
        v->runtime->counters.tlb_flushes_all++;
    else
        v->runtime->counters.tlb_flushes_local++;
    pin_drop(v);
    if (filled[0].overflow || (global_too && filled[1].overflow)) {
        for (unsigned bank = 0; bank < DBT_BANK_COUNT; bank++)
            for (unsigned i = 0; i < DBT_TLB_SIZE; i++)
                if (global_too || !(v->tlb[bank][i].frame & DBT_TLB_GLOBAL))
                    entry_drop(&v->tlb[bank][i], i);
    } else {
        tlb_drop_listed(v, &filled[0]);
        if (global_too)
            tlb_drop_listed(v, &filled[1]);
    }
    fill_list_clear(&filled[0]);
    if (global_too)
        fill_list_clear(&filled[1]);
    for (unsigned i = 0; i < ARRAY_SIZE(v->runtime->large); i++) {
        v->runtime->fetched[0][i] = 0;
        if (global_too)
            v->runtime->fetched[1][i] = v->runtime->large[i] = 0;
    }
    fetch_flush(v, global_too);
}

void mmu_flush_page(struct dbt_vcpu *v, gva_t address)
{
    /* Entries map 4 KiB; INVLPG inside a large page must drop all that came from it. */
    if (large_noted(v, address)) {
        mmu_flush(v, true);
        return;
    }
    v->runtime->counters.tlb_flushes_page++;
    pin_drop(v);
    for (unsigned bank = 0; bank < DBT_BANK_COUNT; bank++) {
        unsigned index = tlb_index(address);

        if (v->tlb[bank][index].neg_read == -ALIGN_DOWN(address, GUEST_PAGE_SIZE))
            entry_drop(&v->tlb[bank][index], index);
    }
    struct dbt_fetch_entry *fetch = &v->runtime->fetch[address >> GUEST_PAGE_SHIFT & 255];

    if ((fetch->page & ~1ull) == ALIGN_DOWN(address, GUEST_PAGE_SIZE))
        fetch->page = ~0ull;
    if (fetched_noted(v, address))
        dbt_jump_flush_page(v, address);
}

void mmu_drop_writable(struct dbt_vcpu *v, gpa_t page)
{
    pin_drop(v);
    for (unsigned bank = 0; bank < DBT_BANK_COUNT; bank++)
        for (unsigned i = 0; i < DBT_TLB_SIZE; i++)
            if (ALIGN_DOWN(v->tlb[bank][i].frame, GUEST_PAGE_SIZE) == page)
                v->tlb[bank][i].neg_write = dbt_tlb_invalid(i);
}

bool mmu_set_cr3(struct dbt_vcpu *v, uint64_t cr3, bool keep)
{
    (void)keep; /* entries carry no PCID: a flush is always allowed */
    if ((v->cr0 & X86_CR0_PG) && (v->cr4 & X86_CR4_PAE) && !(v->efer & X86_EFER_LMA)) {
        uint64_t pdpte[4];
        uint64_t reserved = ~((1ull << v->vm->phys_bits) - 1) | 0x1e6;
        const uint8_t *page = dbt_ram(v->vm, cr3 & 0xfffff000, NULL);

        for (unsigned i = 0; i < 4; i++) {
            pdpte[i] = page ? ((const uint64_t *)(page + (cr3 & 0xfe0)))[i] : 0;
            if ((pdpte[i] & X86_PTE_P) && (pdpte[i] & reserved))
                return false;
        }
        for (unsigned i = 0; i < 4; i++)
            v->pdpte[i] = pdpte[i];
    }
    v->cr3 = cr3;
    mmu_flush(v, false);
    return true;
}
