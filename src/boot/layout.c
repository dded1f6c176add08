/* The board's physical address map; see layout.h. Control thread. */
#include "boot/layout.h"

#include <errno.h>
#include <inttypes.h>

/* Where the 64-bit window starts unless RAM reaches further: the same place for most sizes of RAM
 * makes machines alike. */
#define PCI64_BASE_MIN (32 * GIB)
#define PCI64_SIZE_MAX (256 * GIB)

int layout_init(struct layout *layout, uint64_t memory, unsigned phys_bits, struct error *err)
{
    uint64_t limit = 1ull << phys_bits;

    if (memory < LAYOUT_MEMORY_MIN)
        return error_set(err, -EINVAL,
                         "%" PRIu64 " KiB of memory are too little: a guest needs at least %" PRIu64
                         " MiB",
                         (uint64_t)(memory / KIB), (uint64_t)(LAYOUT_MEMORY_MIN / MIB));
    uint64_t below = memory < LAYOUT_RAM_BELOW_MAX ? memory : LAYOUT_RAM_BELOW_MAX;
    uint64_t above = memory - below;
    if (above && (limit <= LAYOUT_RAM_ABOVE_BASE || above > limit - LAYOUT_RAM_ABOVE_BASE))
        return error_set(err, -EINVAL,
                         "%" PRIu64 " MiB of memory are too much for a CPU with %u physical address"
                         " bits",
                         (uint64_t)(memory / MIB), phys_bits);

    gpa_t base = ALIGN_UP(LAYOUT_RAM_ABOVE_BASE + above, GIB);
    if (base < PCI64_BASE_MIN)
        base = PCI64_BASE_MIN;
    uint64_t size = base < limit ? limit - base : 0;
    *layout = (struct layout){
        .ram_below_4g = below,
        .ram_above_4g = above,
        .pci64_base = base,
        .pci64_size = size < PCI64_SIZE_MAX ? size : PCI64_SIZE_MAX,
        .phys_bits = phys_bits,
    };
    return 0;
}

static void add(struct layout_map *map, gpa_t base, gpa_t end, enum layout_range_type type)
{
    if (base < end)
        map->range[map->count++] =
            (struct layout_range){.base = base, .size = end - base, .type = type};
}

void layout_memory_map(const struct layout *layout, struct layout_map *map)
{
    map->count = 0;
    add(map, 0, LAYOUT_EBDA, LAYOUT_RAM);
    add(map, LAYOUT_EBDA, LAYOUT_VGA_BASE, LAYOUT_RESERVED);
    add(map, LAYOUT_TABLES_BASE, LAYOUT_HIGH_BASE, LAYOUT_RESERVED);
    add(map, LAYOUT_HIGH_BASE, layout->ram_below_4g, LAYOUT_RAM);
    /* Linux uses ECAM only where the map or ACPI says that nothing else lies there. */
    add(map, LAYOUT_ECAM_BASE, LAYOUT_ECAM_BASE + (gpa_t)LAYOUT_ECAM_SIZE, LAYOUT_RESERVED);
    add(map, LAYOUT_IOAPIC_BASE, 4 * GIB, LAYOUT_RESERVED);
    add(map, LAYOUT_RAM_ABOVE_BASE, LAYOUT_RAM_ABOVE_BASE + layout->ram_above_4g, LAYOUT_RAM);
}
