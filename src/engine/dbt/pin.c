/*
 * Stack accesses that share one check.
 *
 * The host register PIN holds host address minus linear address of one guest page, the pinned one,
 * which is where the stack pointer is. A block whose accesses relative to rsp are known to lie
 * within [rsp + low, rsp + high) checks that range once, against the pinned page,
 *
 *     lea   TEMP0, [rsp + low]
 *     add   TEMP0, gs:[pin_neg]
 *     cmp   TEMP0, 4096 - (high - low)
 *     ja    miss
 *
 * and then makes them directly: guest `mov rax, [rsp + 8]` is `mov rax, [rsp + PIN + 8]`. On a miss
 * stub_pin pins the page where the range lies. It does so only if a write there needs no help: the
 * page's TLB entry allows writes, or could without setting a bit in a page table, so that no fault
 * and no dirty bit comes earlier than the guest's own access. Where that cannot be, the range
 * crossing two pages for instance, the block goes on in a version of itself that checks each access
 * (DBT_MODE_NO_PIN).
 *
 * Such a range is a zone: a run of instructions in which rsp changes by constants only, and which
 * translated code does not leave and come back to. A TLB miss within it may end the pin; then
 * dispatch_memory() finishes the instruction outside the block.
 */
#include <string.h>

#include "engine/dbt/translator.h"

#define MAX_ZONE_SIZE 1024

/* Bytes [low, high) relative to the stack pointer before an instruction. */
struct range {
    int64_t low, high;
};

static bool is_rsp(const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value) ==
               ZYDIS_REGISTER_RSP;
}

/* The instruction's access that a zone can cover. */
static bool stack_access(const struct decoded *d, struct range *range)
{
    unsigned size = d->class == INSN_PUSH && d->z.operand_width == 16 ? 2 : 8;

    switch (d->class) {
    case INSN_PUSH:
    case INSN_PUSHF:
    case INSN_CALL:
    case INSN_CALL_INDIRECT:
        *range = (struct range){-(int64_t)size, 0};
        return true;
    case INSN_POP:
    case INSN_RET:
        *range = (struct range){0, 8};
        return true;
    case INSN_NATIVE:
        if (!d->memory || d->memory->mem.base != ZYDIS_REGISTER_RSP ||
            d->memory->mem.index != ZYDIS_REGISTER_NONE ||
            d->memory->mem.segment == ZYDIS_REGISTER_FS ||
            d->memory->mem.segment == ZYDIS_REGISTER_GS)
            return false;
        range->low = d->memory->mem.disp.has_displacement ? d->memory->mem.disp.value : 0;
        range->high = range->low + native_access(d).size;
        return true;
    default:
        return false;
    }
}

/* How the instruction moves the stack pointer; false if not by a constant. */
static bool stack_move(const struct decoded *d, int64_t *by)
{
    *by = 0;
    switch (d->class) {
    case INSN_PUSH:
    case INSN_PUSHF:
        *by = d->class == INSN_PUSH && d->z.operand_width == 16 ? -2 : -8;
        return true;
    case INSN_POP:
        *by = 8;
        return !is_rsp(&d->operand[0]);
    case INSN_LEA:
        if (!is_rsp(&d->operand[0]))
            return true;
        *by = d->operand[1].mem.disp.has_displacement ? d->operand[1].mem.disp.value : 0;
        return d->z.operand_width == 64 && d->operand[1].mem.base == ZYDIS_REGISTER_RSP &&
               d->operand[1].mem.index == ZYDIS_REGISTER_NONE;
    case INSN_NATIVE:
        if ((d->z.mnemonic == ZYDIS_MNEMONIC_ADD || d->z.mnemonic == ZYDIS_MNEMONIC_SUB) &&
            d->operand[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            d->operand[0].reg.value == ZYDIS_REGISTER_RSP &&
            d->operand[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            *by = d->z.mnemonic == ZYDIS_MNEMONIC_ADD ? d->operand[1].imm.value.s
                                                      : -d->operand[1].imm.value.s;
            return true;
        }
        for (unsigned i = 0; i < d->z.operand_count; i++)
            if (is_rsp(&d->operand[i]) && (d->operand[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
                return false;
        return true;
    case INSN_NOTHING:
    case INSN_CLI:
    case INSN_SWAPGS:
    case INSN_RDTSC:
        return true;
    default:
        return false;
    }
}

/* Takes an access into the zone if that does not become too large. */
static bool zone_extend(struct pin_zone *zone, int64_t moved, struct range range)
{
    int64_t low = moved + range.low, high = moved + range.high;

    if (zone->low < zone->high) { /* not empty */
        low = low < zone->low ? low : zone->low;
        high = high > zone->high ? high : zone->high;
    }
    if (high - low > MAX_ZONE_SIZE || low != (int32_t)low || high != (int32_t)high)
        return false;
    zone->low = (int32_t)low;
    zone->high = (int32_t)high;
    return true;
}

/*
 * A zone starts where the flags are dead, so that the check may use them: at its first access, or
 * else at the latest such place before it from where rsp changes by constants; where there is none,
 * at the first access with a check that leaves the flags alone.
 */
void pin_find_zones(struct translator *t)
{
    struct pin_zone *open = NULL;
    unsigned start = 0;              /* where a zone would start */
    int64_t moved = 0, to_start = 0; /* of rsp since the open zone's start; since `start` */
    bool start_dead = false;
    int64_t by;

    if (!is_code64(t) || t->step || (t->mode & (DBT_MODE_NO_PIN | DBT_MODE_ALIGN)))
        return;
    for (unsigned i = 0; i < t->count; i++) {
        const struct decoded *d = &t->insn[i];
        struct range range;

        if (t->live_before[i] == 0 || !start_dead) {
            start = i;
            start_dead = t->live_before[i] == 0;
            to_start = 0;
        }
        if (stack_access(d, &range)) {
            if (open && !zone_extend(open, moved, range)) {
                /* Another page may have to be pinned, but not before this zone's last access. */
                open = NULL;
                start = i;
                start_dead = t->live_before[i] == 0;
                to_start = 0;
            }
            if (!open) {
                struct pin_zone *zone = &t->zone[t->zone_count];

                *zone = (struct pin_zone){.first = start, .flags_live = !start_dead};
                if (zone_extend(zone, to_start, range)) {
                    open = zone;
                    t->zone_count++;
                    moved = to_start;
                }
            }
            t->pinned_insn[i] = open != NULL;
        }
        if (!stack_move(d, &by)) {
            open = NULL;
            start_dead = false;
        }
        moved += by;
        to_start += by;
    }
}

void pin_emit_check(struct translator *t, const struct pin_zone *zone)
{
    struct emitter *e = &t->e;
    struct tail *tail = &t->tail[t->tail_count++];
    int32_t size = zone->high - zone->low, limit = (int32_t)GUEST_PAGE_SIZE - size;

    *tail = (struct tail){
        .kind = TAIL_PIN,
        .flags_live = zone->flags_live,
        .info = (uint32_t)limit,
        .record = translator_record(t, EXIT_UNPIN, t->d->offset),
    };
    /* The version without pins knows nothing of TEMP2. */
    spill_flush(t);
    emit_lea(e, TEMP0, host_at(HOST_RSP, zone->low));
    if (!zone->flags_live) {
        emit_add_memory(e, TEMP0, VCPU_FIELD(pin_neg[access_bank(t)]));
        emit_cmp_imm(e, TEMP0, limit);
        tail->site = emit_jcc32(e, 7); /* ja */
        tail->resume = e->at;
        return;
    }
    /* Both the first and the last byte's offset must have no bit above the lowest twelve. */
    spill_forget(t);
    emit_mov(e, TEMP2, HOST_RCX);
    emit_load(e, HOST_RCX, VCPU_FIELD(pin_neg[access_bank(t)]));
    emit_lea(e, TEMP0, (struct host_memory){.base = TEMP0, .index = HOST_RCX, .scale = 1});
    emit_lea(e, TEMP1, host_at(TEMP0, size - 1));
    emit_pext_memory(e, HOST_RCX, TEMP0, VCPU_FIELD(page_number_mask));
    emit_pext_memory(e, TEMP1, TEMP1, VCPU_FIELD(page_number_mask));
    emit_lea(e, HOST_RCX, (struct host_memory){.base = HOST_RCX, .index = TEMP1, .scale = 1});
    emit_jrcxz(e, 5);
    tail->site = emit_jmp32(e);
    emit_mov(e, HOST_RCX, TEMP2);
    tail->resume = e->at;
}

void pin_emit_ask(struct translator *t, const struct tail *tail, uint32_t stub)
{
    struct emitter *e = &t->e;
    uint8_t *unpinned;

    emit_store32_imm(e, VCPU_FIELD(pin_limit), tail->info);
    emit_store32_imm(e, VCPU_FIELD(resume_offset), cache_offset(t, tail->resume));
    emit_store32_imm(e, VCPU_FIELD(unpinned_offset), 0);
    unpinned = e->at - 4;
    emit_jmp_to(e, t->vm->cache.rw + stub);
    if (!e->overflow) {
        uint32_t offset = cache_offset(t, e->at);

        memcpy(unpinned, &offset, sizeof(offset));
    }
    transfer_link_edge(t, tail->record);
}

void pin_emit_miss(struct translator *t, const struct tail *tail)
{
    if (tail->flags_live)
        emit_mov(&t->e, HOST_RCX, TEMP2);
    pin_emit_ask(t, tail, t->vm->stub_pin);
}

struct host_memory pin_operand(int32_t disp)
{
    return (struct host_memory){.base = HOST_RSP, .index = PIN, .scale = 1, .disp = disp};
}
