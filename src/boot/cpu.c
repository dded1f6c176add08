/*
 * The boot CPU's state at a kernel's entry; see cpu.h. Intel SDM volume 3: 3.4.5 segment
 * descriptors, 4.5 4-level paging, 11.11 memory type range registers. Control thread.
 */
#include "boot/cpu.h"

#include "boot/boot.h"
#include "x86/arch.h"
#include "x86/msr.h"

/* ---- segments ---- */

#define TSS_LIMIT 0x67u /* a 32-bit TSS without I/O map: what the PVH entry demands */

static struct x86_segment flat(uint16_t selector, uint16_t type, uint16_t size_bits)
{
    return (struct x86_segment){
        .selector = selector,
        .attributes = X86_SEGMENT_PRESENT | X86_SEGMENT_S | X86_SEGMENT_G | size_bits | type,
        .limit = UINT32_MAX,
    };
}

/* The descriptor that loads as `segment`, whose base is 0. */
static uint64_t descriptor(const struct x86_segment *segment)
{
    uint64_t limit =
        segment->attributes & X86_SEGMENT_G ? segment->limit >> GUEST_PAGE_SHIFT : segment->limit;

    return (limit & 0xffff) | (limit >> 16 & 0xf) << 48 | (uint64_t)segment->attributes << 40;
}

/* Flat segments, `size_bits` being those of the code segment, and the GDT that holds them. */
static int load_segments(struct x86_vcpu_state *state, struct memory *mem, gpa_t gdt,
                         uint16_t size_bits)
{
    struct x86_segment code =
        flat(BOOT_CS, X86_TYPE_CODE | X86_TYPE_READABLE | X86_TYPE_ACCESSED, size_bits);
    struct x86_segment data = flat(BOOT_DS, X86_TYPE_WRITABLE | X86_TYPE_ACCESSED, X86_SEGMENT_DB);
    struct x86_segment task = {
        .selector = BOOT_TR,
        .attributes = X86_SEGMENT_PRESENT | X86_TYPE_TSS_BUSY,
        .limit = TSS_LIMIT,
    };
    uint64_t table[BOOT_GDT_SIZE / sizeof(uint64_t)] = {
        [BOOT_CS / 8] = descriptor(&code),
        [BOOT_DS / 8] = descriptor(&data),
        [BOOT_TR / 8] = descriptor(&task),
    };

    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        state->segment[i] = i == X86_CS ? code : data;
    state->tr = task;
    state->gdtr = (struct x86_table){.base = gdt, .limit = BOOT_GDT_SIZE - 1};
    state->idtr = (struct x86_table){0};
    return memory_write(mem, gdt, table, sizeof(table));
}

/* ---- paging ---- */

#define TABLE_ENTRIES 512u
#define LARGE_PAGE_SIZE (2 * MIB)
#define DIRECTORIES 4u /* 1 GiB each */

/*
 *     page_tables + 0x0000  PML4, entry 0 used
 *                 + 0x1000  page directory pointer table, entries 0 to 3 used
 *                 + 0x2000  four page directories of 512 pages of 2 MiB
 */
static int write_page_tables(struct memory *mem, gpa_t page_tables)
{
    const uint64_t flags = X86_PTE_P | X86_PTE_W | X86_PTE_A;
    gpa_t pointers = page_tables + GUEST_PAGE_SIZE;
    gpa_t directories = pointers + GUEST_PAGE_SIZE;
    uint64_t table[TABLE_ENTRIES] = {pointers | flags};

    int ret = memory_write(mem, page_tables, table, sizeof(table));
    for (unsigned i = 0; i < DIRECTORIES; i++)
        table[i] = (directories + i * GUEST_PAGE_SIZE) | flags;
    if (!ret)
        ret = memory_write(mem, pointers, table, sizeof(table));
    for (unsigned i = 0; !ret && i < DIRECTORIES; i++) {
        for (unsigned j = 0; j < TABLE_ENTRIES; j++)
            table[j] = (i * TABLE_ENTRIES + j) * LARGE_PAGE_SIZE | flags | X86_PTE_D | X86_PTE_PS;
        ret = memory_write(mem, directories + i * GUEST_PAGE_SIZE, table, sizeof(table));
    }
    return ret;
}

/* ---- the two entries ---- */

int boot_cpu_protected(struct x86_vcpu_state *state, struct memory *mem, gpa_t gdt, uint32_t entry)
{
    x86_vcpu_state_reset(state, true, 0);
    state->gpr[X86_RDX] = 0;
    state->rip = entry;
    state->cr0 = X86_CR0_PE | X86_CR0_ET;
    return load_segments(state, mem, gdt, X86_SEGMENT_DB);
}

int boot_cpu_long(struct x86_vcpu_state *state, struct memory *mem, gpa_t gdt, gpa_t page_tables,
                  uint64_t entry)
{
    x86_vcpu_state_reset(state, true, 0);
    state->gpr[X86_RDX] = 0;
    state->rip = entry;
    state->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_PG;
    state->cr3 = page_tables;
    state->cr4 = X86_CR4_PAE;
    state->efer = X86_EFER_LME | X86_EFER_LMA;
    int ret = load_segments(state, mem, gdt, X86_SEGMENT_L);
    return ret ? ret : write_page_tables(mem, page_tables);
}

/* ---- memory types ---- */

#define MTRR_TYPE_UC 0u
#define MTRR_TYPE_WB 6u
#define MTRR_MASK_VALID (1ull << 11)

#define EIGHT_BYTES(type) ((type)*0x0101010101010101ull)

void boot_set_mtrrs(struct x86_vcpu_state *state, const struct layout *layout)
{
    static const struct {
        gpa_t base;
        uint64_t size;
    } uncached[] = {{LAYOUT_ECAM_BASE, LAYOUT_ECAM_SIZE}, {LAYOUT_PCI32_BASE, GIB}};
    struct x86_msrs *msr = &state->msr;

    msr->mtrr_def_type = MTRR_DEF_TYPE_ENABLE | MTRR_DEF_TYPE_FIXED_ENABLE | MTRR_TYPE_WB;
    /* The fixed ranges in order of address, eight equal parts each. */
    for (unsigned i = 0; i < ARRAY_SIZE(msr->mtrr_fixed); i++) {
        bool device = i >= 2 && i < 7; /* 0xa0000 to 0xdffff: VGA window and option ROMs */
        msr->mtrr_fixed[i] = EIGHT_BYTES(device ? MTRR_TYPE_UC : MTRR_TYPE_WB);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(uncached); i++) {
        uint64_t addresses = (1ull << layout->phys_bits) - 1;
        msr->mtrr_base[i] = uncached[i].base | MTRR_TYPE_UC;
        msr->mtrr_mask[i] = (addresses & ~(uncached[i].size - 1)) | MTRR_MASK_VALID;
    }
}
