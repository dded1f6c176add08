/*
 * Which arithmetic flags are needed, instruction by instruction: a backward pass over the block.
 * What follows the block is looked at too, as far as it lies in the same page (a few instructions;
 * the bytes seen count as part of the block when the guest writes code). Flags that are dead may be
 * lost; the flags image that a fault in such a place pushes has them as the translation left them.
 */
#include "engine/dbt/translator.h"

#define PEEK_INSNS 6

static void note_seen(struct translator *t, uint32_t low, uint32_t high)
{
    struct dbt_block *b = t->block;

    if (b->seen_high == 0 || low < b->seen_low)
        b->seen_low = (uint16_t)low;
    if (high > b->seen_high)
        b->seen_high = (uint16_t)high;
}

/* Which arithmetic flags the code at page offset `target` may read before it writes them. */
static uint32_t flags_needed_at(struct translator *t, int32_t target)
{
    uint32_t unknown = FLAGS_ARITH, needed = 0;
    int32_t offset = target;
    struct decoded d;

    if (target < 0 || target >= (int32_t)GUEST_PAGE_SIZE)
        return FLAGS_ARITH;
    for (unsigned i = 0; i < PEEK_INSNS && unknown; i++) {
        unsigned available = (unsigned)(GUEST_PAGE_SIZE - offset);
        bool too_short;

        if (!available || !decode_one(&d, t->features, t->mode, t->page + offset,
                                      available > 15 ? 15 : available, &too_short))
            break;
        offset += d.z.length;
        needed |= d.flags_read & unknown;
        unknown &= ~d.flags_written;
        if (decode_ends_block(&d))
            break;
    }
    note_seen(t, (uint32_t)target, (uint32_t)offset);
    return needed | unknown;
}

static uint32_t flags_needed_after(struct translator *t, enum block_end end)
{
    const struct decoded *last = &t->insn[t->count - 1];
    int32_t next = last->offset + last->z.length;
    int32_t target = next + (int32_t)last->z.raw.imm[0].value.s;

    if (t->step || (end == END_BRANCH && segmented_wraps(t, last)))
        return FLAGS_ARITH;
    if (end != END_BRANCH)
        return end == END_NEXT ? flags_needed_at(t, next) : FLAGS_ARITH;
    switch (last->class) {
    case INSN_JMP:
    case INSN_CALL:
        return flags_needed_at(t, target);
    case INSN_JCC:
    case INSN_JRCXZ:
    case INSN_LOOP:
        return flags_needed_at(t, next) | flags_needed_at(t, target);
    default:
        return FLAGS_ARITH;
    }
}

void liveness_find(struct translator *t, enum block_end end)
{
    uint32_t live = flags_needed_after(t, end);

    for (unsigned i = t->count; i-- > 0;) {
        const struct decoded *d = &t->insn[i];

        live = (live & ~d->flags_written) | d->flags_read;
        t->live_before[i] = live;
    }
}
