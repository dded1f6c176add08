/* Page tables of a test guest (guest.h). */
#include "guest.h"

static uint64_t next_free = FREE_MEMORY;

void *page_new(void)
{
    uint64_t *page = (uint64_t *)next_free;

    next_free += PAGE_SIZE;
    for (unsigned i = 0; i < 512; i++)
        page[i] = 0;
    return page;
}

uint64_t *page_entry(uint64_t address, unsigned level)
{
    uint64_t *table = (uint64_t *)(read_cr3() & PTE_ADDRESS);

    for (unsigned at = 4;; at--) {
        uint64_t *entry = &table[address >> (12 + 9 * (at - 1)) & 511];
        if (at == level)
            return entry;
        if (!(*entry & PTE_P))
            *entry = (uint64_t)page_new() | PTE_P | PTE_W | PTE_U;
        table = (uint64_t *)(*entry & PTE_ADDRESS);
    }
}

uint64_t *page_map(uint64_t address, uint64_t physical, uint64_t flags)
{
    uint64_t *entry = page_entry(address, 1);

    *entry = physical | flags;
    return entry;
}
