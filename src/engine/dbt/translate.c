/*
 * A basic block from guest bytes to host code; see translator.h for its shape.
 */
#include <string.h>

#include "engine/dbt/dispatch.h"
#include "engine/dbt/translator.h"
#include "engine/dbt/x87.h"
#include "x86/arch.h"

struct exit_record *translator_record(struct translator *t, enum exit_kind kind, int32_t offset)
{
    struct exit_record *record = cache_meta(&t->vm->cache, sizeof(*record));

    if (!record) {
        t->out_of_meta = true;
        return NULL;
    }
    record->kind = kind;
    record->offset = offset;
    record->block = t->block;
    return record;
}

void translator_emit_exit(struct translator *t, const struct exit_record *record)
{
    if (!record)
        return;
    emit_mov_u32(&t->e, TEMP2, (uint32_t)((const uint8_t *)record - t->vm->cache.meta));
    emit_jmp_to(&t->e, t->vm->cache.rw + t->vm->stub_exit);
}

void translator_tail_exit(struct translator *t, uint8_t *site, struct exit_record *record)
{
    t->tail[t->tail_count++] = (struct tail){.kind = TAIL_EXIT, .site = site, .record = record};
}

static uint32_t page_offset(const struct translator *t)
{
    return (uint32_t)(t->block->gpa & (GUEST_PAGE_SIZE - 1));
}

/* An instruction whose unit is off only raises its exception. */
static void check_unit(const struct translator *t, struct decoded *d)
{
    enum vector_unit unit;

    if (!unit_is_off(t->mode, d, &unit))
        return;
    d->class = INSN_UNIT_OFF;
    d->flags_read = FLAGS_ARITH;
}

/* Decodes up to the end of the block. Returns what comes behind it. */
static enum block_end decode_block(struct translator *t, unsigned most)
{
    uint32_t offset = page_offset(t);

    while (t->count < most) {
        struct decoded *d = &t->insn[t->count];
        unsigned available = (unsigned)GUEST_PAGE_SIZE - offset;
        bool too_short;

        if (!available)
            return END_NEXT;
        if (!decode_one(d, t->features, t->mode, t->page + offset, available > 15 ? 15 : available,
                        &too_short)) {
            if (too_short)
                return available < 15 ? END_CROSSING : END_TOO_LONG;
            return END_INVALID;
        }
        d->offset = (int32_t)offset;
        check_unit(t, d);
        offset += d->z.length;
        t->count++;
        if (decode_ends_block(d))
            return END_BRANCH;
    }
    return END_NEXT;
}

/* A loop inside the page must poll somewhere: at the start of each block that jumps backward. */
static bool closes_loop(const struct translator *t)
{
    const struct decoded *last = &t->insn[t->count - 1];
    int32_t target = last->offset + last->z.length + (int32_t)last->z.raw.imm[0].value.s;

    switch (last->class) {
    case INSN_JMP:
    case INSN_CALL:
    case INSN_JCC:
    case INSN_JRCXZ:
    case INSN_LOOP:
        return target >= 0 && target <= (int32_t)page_offset(t);
    default:
        return false;
    }
}

/* The exit that executes the instruction in C; NULL when there is no room for it. */
static struct exit_record *insn_record(struct translator *t)
{
    struct exit_record *record = translator_record(t, EXIT_INSN, t->d->offset);
    struct insn *insn = cache_meta(&t->vm->cache, sizeof(*insn));

    if (!record || !insn) {
        t->out_of_meta = true;
        return NULL;
    }
    decode_to_insn(t->d, t->page + t->d->offset, insn);
    record->insn = insn;
    return record;
}

void translator_emit_in_c(struct translator *t)
{
    struct exit_record *record = insn_record(t);

    translator_emit_exit(t, record);
    if (record && t->d->class != INSN_IN_C_END)
        record->resume = cache_offset(t, t->e.at);
}

static void emit_rep(struct translator *t)
{
    struct exit_record *record = insn_record(t);

    if (!record)
        return;
    rep_emit(t, record->insn, record);
    record->resume = cache_offset(t, t->e.at);
}

static void emit_fast_call(struct translator *t)
{
    const struct exit_record *record = insn_record(t);

    if (record)
        fastcall_emit(t, record);
}

static void emit_slow(struct translator *t)
{
    spill_forget(t);
    translator_emit_exit(t, translator_record(t, EXIT_SLOW, t->d->offset));
}

static void emit_unit_off(struct translator *t)
{
    struct exit_record *record = translator_record(t, EXIT_FPU, t->d->offset);
    enum vector_unit unit = UNIT_X87;

    unit_of(t->d, &unit);
    if (record)
        record->unit = (uint8_t)unit;
    translator_emit_exit(t, record);
}

/* Saving and loading the vector state as 64-bit systems do; false for what images.c has to do. */
static bool emit_image(struct translator *t)
{
    const struct decoded *d = t->d;

    if (!is_code64(t) || !d->memory || d->z.meta.isa_ext == ZYDIS_ISA_EXT_X87 ||
        (t->mode & DBT_MODE_ALIGN))
        return false;
    x87_emit_check(t);
    if (decode_is_xsave(d))
        native_emit_xsave(t, false);
    else
        native_emit(t, false);
    if (!(d->memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
        emit_store8_imm(&t->e, VCPU_FIELD(x87.loaded), 1);
    return true;
}

/* Emits one instruction; false when the block ends here because only slow.c can do it. */
static bool emit_insn(struct translator *t)
{
    switch (t->d->class) {
    case INSN_NATIVE:
        if ((t->mode & DBT_MODE_ALIGN) && t->d->memory) {
            emit_slow(t);
            return false;
        }
        native_emit(t, false);
        return true;
    case INSN_NOTHING:
        return true;
    case INSN_IN_C:
    case INSN_IN_C_END:
        translator_emit_in_c(t);
        return true;
    case INSN_SLOW:
        emit_slow(t);
        return true;
    case INSN_UNDEFINED:
        translator_emit_exit(t, translator_record(t, EXIT_UNDEFINED, t->d->offset));
        return true;
    case INSN_UNIT_OFF:
        emit_unit_off(t);
        return true;
    case INSN_LEA:
        native_emit_lea(t);
        return true;
    case INSN_PUSH:
        stack_emit_push(t);
        return true;
    case INSN_POP:
        stack_emit_pop(t);
        return true;
    case INSN_LEAVE:
        stack_emit_leave(t);
        return true;
    case INSN_PUSHA:
        stack_emit_pusha(t);
        return true;
    case INSN_POPA:
        stack_emit_popa(t);
        return true;
    case INSN_STRING:
        string_emit(t);
        return true;
    case INSN_SEGMENT_STORE:
        segment_emit_store(t);
        return true;
    case INSN_SEGMENT_LOAD:
        segment_emit_load(t);
        return true;
    case INSN_FAR:
        segmented_emit_far(t, insn_record(t));
        return true;
    case INSN_BIT_MEMORY:
        if (t->mode & DBT_MODE_ALIGN) {
            emit_slow(t);
            return false;
        }
        native_emit_bit_memory(t);
        return true;
    case INSN_IMAGE:
        if (emit_image(t))
            return true;
        emit_slow(t);
        return false;
    case INSN_REP:
        emit_rep(t);
        return true;
    case INSN_CR_READ:
        sysops_emit_cr_read(t);
        return true;
    case INSN_SYSCALL:
    case INSN_SYSRET:
        emit_fast_call(t);
        return true;
    case INSN_STAC:
    case INSN_CLAC:
        sysops_emit_switch_ac(t, t->d->class == INSN_STAC);
        return true;
    case INSN_CLI:
        emit_store8_imm(&t->e, VCPU_FIELD(iflag), 0);
        return true;
    case INSN_STI:
        sysops_emit_sti(t);
        return true;
    case INSN_SWAPGS:
        sysops_emit_swapgs(t);
        return true;
    case INSN_PUSHF:
        stack_emit_pushf(t);
        return true;
    case INSN_RDTSC:
        sysops_emit_rdtsc(t);
        return true;
    case INSN_PAUSE:
        sysops_emit_pause(t);
        return true;
    default:
        transfer_emit(t);
        return true;
    }
}

static void emit_tail_exit(struct translator *t, const struct tail *tail)
{
    if (tail->flags_live)
        rep_emit_flags(t);
    translator_emit_exit(t, tail->record);
}

static void emit_tails(struct translator *t)
{
    for (unsigned i = 0; i < t->tail_count; i++) {
        const struct tail *tail = &t->tail[i];

        if (t->e.overflow)
            return;
        emit_link(tail->site, t->e.at);
        if (tail->kind == TAIL_MISS)
            access_emit_miss(t, tail);
        else if (tail->kind == TAIL_PIN)
            pin_emit_miss(t, tail);
        else if (tail->kind == TAIL_SHARE)
            share_emit_miss(t, tail);
        else if (tail->kind == TAIL_BRANCH)
            transfer_emit_miss(t, tail);
        else
            emit_tail_exit(t, tail);
    }
}

static void emit_entry(struct translator *t)
{
    static const uint8_t nop5[5] = {0x0f, 0x1f, 0x44, 0x00, 0x00};
    struct emitter *e = &t->e;
    int32_t offset = (int32_t)page_offset(t);

    t->block->entry_indirect = cache_offset(t, e->at);
    if (is_code64(t))
        emit_lea(e, TEMP0, host_at(TEMP0, -offset));
    else
        emit_lea32(e, TEMP0, host_at(TEMP0, -offset));
    emit_store(e, VCPU_FIELD(page_base), TEMP0);
    emit_align(e, 0, 8);
    t->block->entry = cache_offset(t, e->at);
    emit_bytes(e, nop5, sizeof(nop5)); /* what a dead block's jump replaces */
}

/* Whether the instruction's code leaves TEMP2 as spill.c knows it. */
static bool knows_spilled(const struct decoded *d)
{
    switch (d->class) {
    case INSN_NATIVE:
    case INSN_NOTHING:
    case INSN_LEA:
    case INSN_PUSH:
    case INSN_POP:
        return true;
    default:
        return false;
    }
}

static void emit_body(struct translator *t, enum block_end end)
{
    struct dbt_block *block = t->block;
    const struct pin_zone *zone = t->zone;
    const struct share_group *group = t->group;

    for (unsigned i = 0; i < t->count; i++) {
        bool native_end, in_group;

        t->d = &t->insn[i];
        t->flags_live = t->live_before[i] != 0;
        t->index = i;
        t->at_risk = HOST_NONE;
        while (group < t->group + t->group_count && group->last < i)
            group++;
        in_group = group < t->group + t->group_count && group->first <= i;
        t->shared = in_group && t->shared_insn[i] ? group : NULL;
        t->spill_keeps = knows_spilled(t->d) && !in_group;
        if (!t->spill_keeps)
            spill_forget(t);
        t->pinned = t->pinned_insn[i];
        while (zone < t->zone + t->zone_count && zone->first == i)
            pin_emit_check(t, zone++);
        if (in_group && group->first == i)
            share_emit_check(t, group);
        native_end = !emit_insn(t);
        block->map[i].offset = (int16_t)t->d->offset;
        block->map[i].unsaved = t->at_risk;
        block->map[i].host_end = (uint16_t)(cache_offset(t, t->e.at) - block->start);
        block->insn_count = (uint16_t)(i + 1);
        if (native_end) {
            block->why_end = END_SLOW;
            return;
        }
    }
    spill_forget(t);
    if (end == END_BRANCH)
        return;

    int32_t next = (int32_t)page_offset(t) + block->length;

    if (end == END_INVALID)
        translator_emit_exit(t, translator_record(t, EXIT_UNDEFINED, next));
    else if (end == END_TOO_LONG) /* slow.c raises #GP */
        translator_emit_exit(t, translator_record(t, EXIT_SLOW, next));
    else if (end == END_CROSSING && t->count == 0)
        translator_emit_exit(t, translator_record(t, t->step ? EXIT_SLOW : EXIT_CROSS, next));
    else if (is_code64(t))
        transfer_emit_edge(t, next);
    else
        segmented_emit_next(t, next);
}

/* Host code for the decoded block; enters it in the cache. NULL when there is no room. */
static struct dbt_block *emit_block(struct translator *t, enum block_end end)
{
    static const struct decoded none;
    struct code_cache *cache = &t->vm->cache;
    struct exit_record *dead;

    t->block->why_end = (uint8_t)end;
    emit_entry(t);
    t->d = t->count ? &t->insn[0] : &none;
    segmented_check_block(t, !t->count || t->live_before[0] != 0);
    /* Ragged code links nothing, and jump cache look-ups see attention. */
    if (t->count && closes_loop(t) && !t->step && !(t->mode & DBT_MODE_RAGGED_CODE))
        transfer_emit_poll(t, t->live_before[0] != 0);
    emit_body(t, end);
    emit_tails(t);

    dead = translator_record(t, EXIT_DEAD, (int32_t)page_offset(t));
    t->block->dead = cache_offset(t, t->e.at);
    translator_emit_exit(t, dead);
    t->block->end = cache_offset(t, t->e.at);
    if (t->e.overflow || t->out_of_meta)
        return NULL;
    cache->used = t->block->end;
    cache_insert(cache, t->block);
    return t->block;
}

static void translator_init(struct translator *t, struct dbt_vm *vm,
                            const struct decode_features *features, uint32_t mode)
{
    t->vm = vm;
    t->features = features;
    t->mode = mode;
    t->step = mode & (DBT_MODE_TF | DBT_MODE_ONE | DBT_MODE_DEBUG);
    t->out_of_meta = false;
    t->count = t->tail_count = t->zone_count = t->group_count = 0;
    memset(t->shared_insn, 0, sizeof(t->shared_insn));
    t->shared = NULL;
    memset(t->pinned_insn, 0, sizeof(t->pinned_insn));
    t->pinned = false;
    t->cached = t->at_risk = HOST_NONE;
    t->dirty = t->spill_keeps = false;
    t->index = 0;
    t->x87_noted = false;
    t->e = (struct emitter){
        .at = vm->cache.rw + ALIGN_UP(vm->cache.used, 16u),
        .end = vm->cache.rw + vm->cache.size,
    };
}

struct dbt_block *translate_block(struct dbt_vm *vm, const struct decode_features *features,
                                  gpa_t gpa, const uint8_t *host, uint32_t mode, unsigned slot)
{
    struct translator t;
    enum block_end end;

    translator_init(&t, vm, features, mode);
    t.slot = slot;
    t.page = host - (gpa & (GUEST_PAGE_SIZE - 1));
    t.block = cache_meta(&vm->cache, sizeof(*t.block));
    if (!t.block)
        return NULL;
    t.block->gpa = gpa;
    t.block->mode = mode;
    t.block->start = cache_offset(&t, t.e.at);

    end = decode_block(&t, t.step ? 1 : MAX_BLOCK_INSNS);
    t.block->map = cache_meta(&vm->cache, (t.count + 1) * sizeof(*t.block->map));
    if (!t.block->map)
        return NULL;
    if (t.count) {
        const struct decoded *last = &t.insn[t.count - 1];

        t.block->length = (uint16_t)(last->offset + last->z.length - (int32_t)page_offset(&t));
        liveness_find(&t, end);
        pin_find_zones(&t);
        spill_find_uses(&t);
        share_find_groups(&t);
    }
    t.block->seen = t.block->length ? t.block->length : 1;
    if (end == END_INVALID || end == END_TOO_LONG || end == END_CROSSING)
        t.block->seen += 15;

    return emit_block(&t, end);
}

struct dbt_block *translate_crossing(struct dbt_vm *vm, const struct decode_features *features,
                                     gpa_t gpa, const uint8_t *host, gpa_t second_page,
                                     const uint8_t *second_host, uint32_t mode, unsigned slot,
                                     bool *invalid)
{
    struct translator t;
    unsigned first = (unsigned)(GUEST_PAGE_SIZE - (gpa & (GUEST_PAGE_SIZE - 1)));
    uint8_t bytes[30];
    bool too_short;

    *invalid = false;
    translator_init(&t, vm, features, mode);
    t.slot = slot;
    memcpy(bytes, host, first);
    memcpy(bytes + first, second_host, 15);
    t.page = bytes - (gpa & (GUEST_PAGE_SIZE - 1));
    if (!decode_one(&t.insn[0], features, mode, bytes, 15, &too_short) ||
        t.insn[0].z.length <= first) {
        *invalid = true;
        return NULL;
    }
    t.count = 1;
    t.insn[0].offset = (int32_t)(gpa & (GUEST_PAGE_SIZE - 1));
    check_unit(&t, &t.insn[0]);
    t.block = cache_meta(&vm->cache, sizeof(*t.block));
    if (!t.block)
        return NULL;
    t.block->map = cache_meta(&vm->cache, 2 * sizeof(*t.block->map));
    if (!t.block->map)
        return NULL;
    t.block->gpa = gpa;
    t.block->mode = mode | DBT_MODE_CROSS;
    t.block->second_page = second_page;
    t.block->second_end = (uint16_t)(t.insn[0].z.length - first);
    t.block->start = cache_offset(&t, t.e.at);
    t.block->length = t.block->seen = t.insn[0].z.length;
    t.live_before[0] = FLAGS_ARITH;
    return emit_block(&t, decode_ends_block(&t.insn[0]) ? END_BRANCH : END_NEXT);
}

uint32_t translate_thunk(struct dbt_vm *vm, const struct decode_features *features,
                         const struct decoded *d, uint32_t mode)
{
    struct translator t;
    struct exit_record *record;
    uint32_t start;

    translator_init(&t, vm, features, mode);
    t.block = NULL;
    t.d = d;
    t.flags_live = true;
    start = cache_offset(&t, t.e.at);
    emit_load(&t.e, TEMP0, VCPU_FIELD(scratch[1]));
    if (decode_is_xsave(d))
        native_emit_xsave(&t, true);
    else
        native_emit(&t, true);
    spill_forget(&t);
    record = translator_record(&t, EXIT_THUNK, 0);
    translator_emit_exit(&t, record);
    if (t.e.overflow || t.out_of_meta)
        return 0;
    vm->cache.used = cache_offset(&t, t.e.at);
    return start;
}
