/* Free guest RAM at load time; see space.h. Control thread. */
#include "boot/space.h"

#include <errno.h>

void boot_space_init(struct boot_space *space, const struct layout_map *map)
{
    *space = (struct boot_space){
        .map = *map,
        .taken[0] = {.base = 0, .size = GUEST_PAGE_SIZE},
        .count = 1,
    };
}

/* The taken span that [base, base + size) runs into, or NULL. */
static const struct boot_span *conflict(const struct boot_space *space, gpa_t base, uint64_t size)
{
    for (unsigned i = 0; i < space->count; i++) {
        const struct boot_span *span = &space->taken[i];
        if (base < span->base + span->size && span->base < base + size)
            return span;
    }
    return NULL;
}

int boot_space_take(struct boot_space *space, gpa_t base, uint64_t size)
{
    bool ram = false;

    for (unsigned i = 0; i < space->map.count; i++) {
        const struct layout_range *range = &space->map.range[i];
        ram |= range->type == LAYOUT_RAM && base >= range->base && size <= range->size &&
               base - range->base <= range->size - size;
    }
    if (!ram)
        return -EFAULT;
    if (conflict(space, base, size))
        return -EEXIST;
    if (space->count == BOOT_SPACE_MAX_TAKEN)
        return -ENOSPC;
    space->taken[space->count++] = (struct boot_span){.base = base, .size = size};
    return 0;
}

/* Cuts [*min, *max) down to what of it lies in `range`; false when `size` bytes cannot fit. */
static bool clip(const struct layout_range *range, uint64_t size, gpa_t *min, gpa_t *max)
{
    if (*min < range->base)
        *min = range->base;
    if (*max > range->base + range->size)
        *max = range->base + range->size;
    return range->type == LAYOUT_RAM && *min < *max && size <= *max - *min;
}

int boot_space_lowest(struct boot_space *space, uint64_t size, uint64_t align, gpa_t min, gpa_t max,
                      gpa_t *base)
{
    for (unsigned i = 0; i < space->map.count; i++) {
        gpa_t from = min, to = max;
        if (!clip(&space->map.range[i], size, &from, &to))
            continue;
        gpa_t at = ALIGN_UP(from, align);
        while (at >= from && at <= to - size) {
            const struct boot_span *span = conflict(space, at, size);
            if (!span) {
                *base = at;
                return boot_space_take(space, at, size);
            }
            at = ALIGN_UP(span->base + span->size, align);
        }
    }
    return -ENOMEM;
}

int boot_space_highest(struct boot_space *space, uint64_t size, uint64_t align, gpa_t min,
                       gpa_t max, gpa_t *base)
{
    for (unsigned i = space->map.count; i-- > 0;) {
        gpa_t from = min, to = max;
        if (!clip(&space->map.range[i], size, &from, &to))
            continue;
        gpa_t at = ALIGN_DOWN(to - size, align);
        while (at >= from) {
            const struct boot_span *span = conflict(space, at, size);
            if (!span) {
                *base = at;
                return boot_space_take(space, at, size);
            }
            if (span->base < size)
                break;
            at = ALIGN_DOWN(span->base - size, align);
        }
    }
    return -ENOMEM;
}
