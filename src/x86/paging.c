/* The walk through paging structures for those outside of the guest; see paging.h. */
#include "x86/paging.h"

#include "x86/arch.h"

#define PSE36_SHIFT 32 /* address bits 39:32 of a 4 MiB page are bits 20:13 of its entry (4.3) */

static bool entry_at(const struct memory *memory, gpa_t table, uint64_t index, unsigned size,
                     uint64_t *entry)
{
    *entry = 0;
    return memory_read(memory, table + index * size, entry, size) == 0 && (*entry & X86_PTE_P);
}

/* 32-bit paging (4.3): two levels of 1024 entries of 4 bytes. */
static bool translate_32bit(const struct x86_vcpu_state *state, const struct memory *memory,
                            uint32_t linear, gpa_t *gpa)
{
    uint64_t entry;

    if (!entry_at(memory, state->cr3 & 0xfffff000, linear >> 22, 4, &entry))
        return false;
    if ((state->cr4 & X86_CR4_PSE) && (entry & X86_PTE_PS)) {
        *gpa = (entry & 0xffc00000) | (entry >> 13 & 0xff) << PSE36_SHIFT | (linear & 0x3fffff);
        return true;
    }
    if (!entry_at(memory, entry & 0xfffff000, linear >> 12 & 0x3ff, 4, &entry))
        return false;
    *gpa = (entry & 0xfffff000) | (linear & 0xfff);
    return true;
}

/* The rest of a walk with entries of 8 bytes, from `level` (1: page tables) down (4.4, 4.5). */
static bool translate_levels(const struct memory *memory, gpa_t table, unsigned level, gva_t linear,
                             gpa_t *gpa)
{
    for (;; level--) {
        unsigned shift = GUEST_PAGE_SHIFT + 9 * (level - 1);
        uint64_t in_page = (1ull << shift) - 1, entry;

        if (!entry_at(memory, table, linear >> shift & 0x1ff, 8, &entry))
            return false;
        table = entry & X86_PTE_FRAME;
        if (level == 1 || (level <= 3 && (entry & X86_PTE_PS))) {
            *gpa = (table & ~in_page) | (linear & in_page);
            return true;
        }
    }
}

bool x86_paging_translate(const struct x86_vcpu_state *state, const struct memory *memory,
                          gva_t linear, gpa_t *gpa)
{
    if (!(state->cr0 & X86_CR0_PG)) {
        *gpa = (uint32_t)linear;
        return true;
    }
    if (state->efer & X86_EFER_LMA) {
        unsigned level = state->cr4 & X86_CR4_LA57 ? 5 : 4;
        unsigned unused = 64 - GUEST_PAGE_SHIFT - 9 * level;

        if ((uint64_t)((int64_t)(linear << unused) >> unused) != linear)
            return false; /* not canonical */
        return translate_levels(memory, state->cr3 & X86_PTE_FRAME, level, linear, gpa);
    }
    linear = (uint32_t)linear;
    if (!(state->cr4 & X86_CR4_PAE))
        return translate_32bit(state, memory, (uint32_t)linear, gpa);

    /* PAE: four entries, 32-byte aligned, without a size bit (4.4.1). */
    uint64_t entry;
    if (!entry_at(memory, state->cr3 & 0xffffffe0, linear >> 30, 8, &entry))
        return false;
    return translate_levels(memory, entry & X86_PTE_FRAME, 2, linear, gpa);
}
