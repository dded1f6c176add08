/*
 * Accesses that share one check because they differ in their displacements only.
 *
 * Several instructions of a block often access the same object: [rbx], [rbx + 8], [rbx + 24], with
 * rbx as it was. The first of such a group checks the whole range from its lowest to its highest
 * byte, against one page, and leaves the host address of the lowest in TEMP2,
 *
 *     lea   TEMP0, [rbx + lowest];  rorx, and, add, cmp, ja as in access.c
 *     mov   TEMP2, gs:[tlb.host + TEMP1]
 *     add   TEMP2, TEMP0
 *
 * and the group's accesses are [TEMP2 + distance]. As with the pinned stack page (pin.c) the check
 * may not do anything that the guest sees before the access that asks for it: what the TLB does not
 * have is filled only if that sets no bit in a page table, and else the block goes on in the
 * version of itself that checks each access (DBT_MODE_NO_PIN).
 *
 * A group ends where a register of its address changes, or where TEMP2 is needed for something
 * else; spill.c does without it meanwhile.
 */
#include "engine/dbt/translator.h"

#define MAX_GROUP_SIZE 1024

/* What two accesses of one group have in common; as Zydis says it. */
struct address {
    ZydisRegister segment, base, index;
    uint8_t scale;
};

static bool same_address(const struct address *a, const struct address *b)
{
    return a->segment == b->segment && a->base == b->base && a->index == b->index &&
           a->scale == b->scale;
}

/* The instruction's access that can be in a group: its address, and its bytes [low, high) relative
 * to that. */
static bool groupable(const struct translator *t, unsigned i, struct address *address, int64_t *low,
                      int64_t *high)
{
    const struct decoded *d = &t->insn[i];
    const ZydisDecodedOperandMem *mem;

    if (d->class != INSN_NATIVE || !d->memory || t->pinned_insn[i] || d->z.address_width != 64 ||
        native_access(d).size > 64 || native_access(d).size == 0 || native_is_moffs(d))
        return false;
    mem = &d->memory->mem;
    *address = (struct address){
        .segment = mem->segment == ZYDIS_REGISTER_FS || mem->segment == ZYDIS_REGISTER_GS
                       ? mem->segment
                       : ZYDIS_REGISTER_NONE,
        .base = mem->base,
        .index = mem->index,
        .scale = mem->index == ZYDIS_REGISTER_NONE ? 0 : mem->scale,
    };
    *low = mem->disp.has_displacement ? mem->disp.value : 0;
    if (mem->base == ZYDIS_REGISTER_RIP)
        *low += d->offset + d->z.length;
    *high = *low + native_access(d).size;
    return *low == (int32_t)*low && *high == (int32_t)*high;
}

static ZydisRegister whole(ZydisRegister reg)
{
    return ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
}

static bool changes_address(const struct decoded *d, const struct address *address)
{
    for (unsigned i = 0; i < d->z.operand_count; i++) {
        const ZydisDecodedOperand *o = &d->operand[i];
        ZydisRegister reg;

        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER ||
            !(o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        reg = whole(o->reg.value);
        if (reg != ZYDIS_REGISTER_RIP && (reg == address->base || reg == address->index))
            return true;
    }
    return false;
}

/* Whether the instruction's code needs TEMP2, if its own access does not belong to the group. */
static bool needs_temp2(const struct translator *t, unsigned i, bool member)
{
    const struct decoded *d = &t->insn[i];
    unsigned spilled = 0;

    switch (d->class) {
    case INSN_NOTHING:
    case INSN_LEA:
        return false;
    case INSN_NATIVE:
        break;
    case INSN_PUSH:
    case INSN_POP:
        return d->memory || !t->pinned_insn[i];
    default:
        return true;
    }
    for (unsigned o = 0; o < 4; o++)
        spilled += t->spill_uses[i] >> o & 1;
    if (d->memory && !member && !t->pinned_insn[i] && t->live_before[i])
        return true; /* the check that leaves flags alone */
    return spilled > (d->memory && !member ? 1 : 2);
}

/* The check of a zone that begins here, if it leaves flags alone, needs TEMP2 too. */
static bool zone_needs_temp2(const struct translator *t, unsigned i)
{
    for (unsigned z = 0; z < t->zone_count; z++)
        if (t->zone[z].first == i && t->zone[z].flags_live)
            return true;
    return false;
}

/* Collects the group that begins at `first`; returns how many accesses it has. */
static unsigned collect(const struct translator *t, struct share_group *group, bool *member)
{
    struct address address, other;
    int64_t low, high, lowest, highest;
    unsigned count = 0;

    for (unsigned i = 0; i < t->count; i++)
        member[i] = false;
    if (!groupable(t, group->first, &address, &lowest, &highest))
        return 0;
    group->write = false;
    for (unsigned i = group->first; i < t->count; i++) {
        bool joins = groupable(t, i, &other, &low, &high) && same_address(&address, &other);

        if (joins) {
            int64_t new_lowest = low < lowest ? low : lowest;
            int64_t new_highest = high > highest ? high : highest;

            joins = new_highest - new_lowest <= MAX_GROUP_SIZE;
            if (joins) {
                lowest = new_lowest;
                highest = new_highest;
            }
        }
        if (needs_temp2(t, i, joins) || (i > group->first && zone_needs_temp2(t, i)))
            break;
        if (joins) {
            member[i] = true;
            group->last = i;
            group->write |= native_access(&t->insn[i]).write;
            count++;
        }
        if (changes_address(&t->insn[i], &address))
            break;
    }
    group->low = (int32_t)lowest;
    group->size = (uint32_t)(highest - lowest);
    return count;
}

void share_find_groups(struct translator *t)
{
    bool member[MAX_BLOCK_INSNS];

    if (!is_code64(t) || t->step || (t->mode & (DBT_MODE_NO_PIN | DBT_MODE_ALIGN)))
        return;
    for (unsigned i = 0; i < t->count; i++) {
        struct share_group *group = &t->group[t->group_count];

        group->first = i;
        if (t->live_before[i] || collect(t, group, member) < 2)
            continue;
        for (unsigned j = i; j <= group->last; j++)
            t->shared_insn[j] = member[j];
        t->group_count++;
        i = group->last;
    }
}

void share_emit_check(struct translator *t, const struct share_group *group)
{
    struct emitter *e = &t->e;
    struct tail *tail = &t->tail[t->tail_count++];
    size_t neg = group->write ? offsetof(struct dbt_tlb_entry, neg_write)
                              : offsetof(struct dbt_tlb_entry, neg_read);
    ZydisDecodedOperand memory = *t->d->memory;
    int32_t limit = (int32_t)(GUEST_PAGE_SIZE - group->size);

    spill_forget(t);
    *tail = (struct tail){
        .kind = TAIL_SHARE,
        .bank = access_bank(t),
        .write = group->write,
        .info = (uint32_t)limit,
        .resume = e->at, /* it checks once more, and then finds the page */
        .record = translator_record(t, EXIT_UNPIN, t->d->offset),
    };
    memory.mem.disp.has_displacement = true;
    memory.mem.disp.value = group->low;
    if (memory.mem.base == ZYDIS_REGISTER_RIP)
        memory.mem.disp.value -= t->d->offset + t->d->z.length;
    access_linear(t, &memory, (struct access){.size = group->size, .write = group->write});
    access_emit_index(t);
    emit_add_memory(e, TEMP0, access_tlb_field(tail->bank, neg));
    emit_cmp_imm(e, TEMP0, limit);
    tail->site = emit_jcc32(e, 7); /* ja */
    emit_load(e, TEMP2, access_tlb_field(tail->bank, offsetof(struct dbt_tlb_entry, host)));
    emit_lea(e, TEMP2, (struct host_memory){.base = TEMP2, .index = TEMP0, .scale = 1});
}

void share_emit_miss(struct translator *t, const struct tail *tail)
{
    size_t neg = tail->write ? offsetof(struct dbt_tlb_entry, neg_write)
                             : offsetof(struct dbt_tlb_entry, neg_read);

    emit_sub_memory(&t->e, TEMP0, access_tlb_field(tail->bank, neg));
    pin_emit_ask(t, tail, tail->write ? t->vm->stub_share_write : t->vm->stub_share_read);
}

struct host_memory share_operand(const struct translator *t, const struct share_group *group)
{
    struct address address;
    int64_t low = 0, high;

    groupable(t, t->index, &address, &low, &high);
    return host_at(TEMP2, (int32_t)low - group->low);
}
