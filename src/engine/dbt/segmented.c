/*
 * Segmentation in translated code, outside 64-bit mode: an offset becomes a linear address by the
 * segment's base, if it lies within the limit. Intel SDM volume 3, 3.4 and 5.3.
 *
 * mode_update() keeps, for each segment and kind of access, minus the offset behind the last byte
 * that may be accessed (struct dbt_vcpu, `ends`). Where the guest's flags are dead the check is
 *
 *     lea   TEMP1, [TEMP0 + size - 1]        offset of the last byte; 33 bits at most
 *     add   TEMP1, gs:[neg_end]
 *     jns   slow                             at the end or behind it
 *     add   TEMP0d, gs:[base]
 *
 * and where all of CS, DS, ES and SS have the usual 64 KiB (DBT_MODE_LIMIT_64K), the first three
 * are a comparison with a constant, or nothing for a byte at an offset of 16 bits. An end of 0
 * fails always: expand-down segments, and those that do not allow the access, are left to slow.c,
 * and so is the exception that a breach raises.
 */
#include "engine/dbt/translator.h"

void segmented_check(struct translator *t, struct host_memory neg_end, unsigned size,
                     bool flags_live, struct exit_record *record)
{
    struct emitter *e = &t->e;

    if (!flags_live) {
        emit_lea(e, TEMP1, host_at(TEMP0, (int32_t)size - 1));
        emit_add_memory(e, TEMP1, neg_end);
        translator_tail_exit(t, emit_jcc32(e, 9), record); /* jns */
        return;
    }
    /* The same without flags: the upper half of the sum is all ones within the limit. */
    spill_forget(t);
    emit_mov(e, TEMP2, HOST_RCX);
    emit_load(e, HOST_RCX, neg_end);
    emit_lea(e, HOST_RCX,
             (struct host_memory){
                 .base = HOST_RCX, .index = TEMP0, .scale = 1, .disp = (int32_t)size - 1});
    emit_rorx(e, HOST_RCX, HOST_RCX, 32);
    emit_lea32(e, HOST_RCX, host_at(HOST_RCX, 1));
    emit_jrcxz(e, 3 + 5);
    emit_mov(e, HOST_RCX, TEMP2); /* 3 bytes */
    translator_tail_exit(t, emit_jmp32(e), record);
    emit_mov(e, HOST_RCX, TEMP2);
}

/* segmented_check() for an end of 64 KiB. */
static void check_64k(struct translator *t, unsigned size)
{
    struct emitter *e = &t->e;
    struct exit_record *record = translator_record(t, EXIT_SLOW, t->d->offset);

    if (!t->flags_live) {
        emit_cmp_imm(e, TEMP0, (int32_t)(0x10000 - size));
        translator_tail_exit(t, emit_jcc32(e, 7), record); /* ja */
        return;
    }
    t->cached = HOST_NONE;
    emit_mov(e, TEMP2, HOST_RCX);
    emit_lea(e, HOST_RCX, host_at(TEMP0, (int32_t)size - 1));
    emit_rorx(e, HOST_RCX, HOST_RCX, 16);
    emit_byte(e, 0x67); /* jecxz: bits 16 and up */
    emit_jrcxz(e, 3 + 5);
    emit_mov(e, HOST_RCX, TEMP2); /* 3 bytes */
    translator_tail_exit(t, emit_jmp32(e), record);
    emit_mov(e, HOST_RCX, TEMP2);
}

static void add_base(struct translator *t, unsigned segment, bool flags_live)
{
    struct host_memory base = VCPU_FIELD(segment[segment].base);

    if (!flags_live) {
        emit_op_memory(&t->e, false, 0x03, TEMP0, base); /* add TEMP0d */
        return;
    }
    emit_load32(&t->e, TEMP1, base);
    emit_lea32(&t->e, TEMP0, (struct host_memory){.base = TEMP0, .index = TEMP1, .scale = 1});
}

void segmented_linear(struct translator *t, unsigned segment, unsigned offset_width,
                      struct access access)
{
    struct host_memory neg_end =
        access.write ? VCPU_FIELD(ends.neg_write[segment]) : VCPU_FIELD(ends.neg_read[segment]);
    bool common = segment <= X86_DS && segment != X86_CS;

    if (common && (t->mode & DBT_MODE_FLAT))
        return;
    if (!common || !(t->mode & DBT_MODE_LIMIT_64K))
        segmented_check(t, neg_end, access.size, t->flags_live,
                        translator_record(t, EXIT_SLOW, t->d->offset));
    else if (offset_width != 16 || access.size > 1)
        check_64k(t, access.size);
    add_base(t, segment, t->flags_live);
}

void segmented_load_rip(struct translator *t, enum host_register to, int32_t offset)
{
    emit_load(&t->e, to, VCPU_FIELD(page_base));
    if (!(t->mode & DBT_MODE_FLAT_CODE)) {
        spill_forget(t);
        emit_load32(&t->e, TEMP2, VCPU_FIELD(ends.neg_code_base));
        emit_lea(&t->e, to, (struct host_memory){.base = to, .index = TEMP2, .scale = 1});
    }
    emit_lea32(&t->e, to, host_at(to, offset));
}

void segmented_check_target(struct translator *t, unsigned width, bool flags_live,
                            struct exit_record *beyond)
{
    if (!(t->mode & DBT_MODE_FLAT_CODE) && !(width == 16 && (t->mode & DBT_MODE_LIMIT_64K)))
        segmented_check(t, VCPU_FIELD(ends.neg_code), 1, flags_live, beyond);
}

void segmented_code_linear(struct translator *t, unsigned width, bool flags_live,
                           struct exit_record *beyond)
{
    if (t->mode & DBT_MODE_FLAT_CODE)
        return;
    segmented_check_target(t, width, flags_live, beyond);
    add_base(t, X86_CS, flags_live);
}

void segmented_check_block(struct translator *t, bool flags_live)
{
    int32_t offset = (int32_t)(t->block->gpa & (GUEST_PAGE_SIZE - 1));

    if (!(t->mode & DBT_MODE_RAGGED_CODE))
        return;
    segmented_load_rip(t, TEMP0, offset);
    segmented_check(t, VCPU_FIELD(ends.neg_code), t->block->length ? t->block->length : 1,
                    flags_live, translator_record(t, EXIT_SLOW, offset));
}
