/*
 * Control transfers in translated code, and how one block reaches the next.
 *
 * Within a code page the target's place is known for good: the jump starts as an exit to the
 * dispatcher, which then patches it to the target's block (EXIT_CHAIN). To another page, or through
 * a register, the way goes by the jump cache, whose entries live no longer than the mapping:
 *
 *     pext  TEMP1, TEMP0, jump_mask        0 while attention is wanted: entry 0 never matches
 *     lea   TEMP1, [TEMP1 * 2]
 *     mov   TEMP2, rcx
 *     mov   rcx, gs:[jump.neg_linear + TEMP1 * 8]
 *     lea   rcx, [rcx + TEMP0]             0 on a hit
 *     jrcxz hit;  mov rcx, TEMP2;  jmp stub_lookup
 * hit:mov   rcx, TEMP2
 *     jmp   gs:[jump.code + TEMP1 * 8]
 *
 * stub_lookup does the same with the second table, and then leaves for the dispatcher. None of it
 * touches the guest's flags.
 *
 * A jump to a non-canonical address faults where it is, not where it leads. Since such an address
 * is never in the tables, a jump through a register or memory that misses notes in
 * dbt_vcpu.branch what the dispatcher needs to take it back.
 */
#include "engine/dbt/translator.h"

_Static_assert(sizeof(struct dbt_jump_entry) == 16, "the index arithmetic below");

static struct host_memory jump_field(unsigned level, unsigned slot, size_t field)
{
    size_t table = (level * DBT_MODE_SLOTS + slot) * DBT_JUMP_SIZE * sizeof(struct dbt_jump_entry);

    return (struct host_memory){
        .base = HOST_NONE,
        .index = TEMP1,
        .scale = 8,
        .gs = true,
        .disp = (int32_t)(offsetof(struct dbt_vcpu, jump) + table + field),
    };
}

/* Looks at the entry whose place, in eight bytes, TEMP1 holds. Returns the displacement of the jump
 * for a miss. */
static uint8_t *emit_probe(struct emitter *e, unsigned level, unsigned slot)
{
    uint8_t *miss;

    emit_mov(e, TEMP2, HOST_RCX);
    emit_load(e, HOST_RCX, jump_field(level, slot, offsetof(struct dbt_jump_entry, neg_linear)));
    emit_lea(e, HOST_RCX, (struct host_memory){.base = HOST_RCX, .index = TEMP0, .scale = 1});
    emit_jrcxz(e, 3 + 5);
    emit_mov(e, HOST_RCX, TEMP2); /* 3 bytes */
    miss = emit_jmp32(e);         /* 5 */
    emit_mov(e, HOST_RCX, TEMP2);
    emit_jmp_memory(e, jump_field(level, slot, offsetof(struct dbt_jump_entry, code)));
    return miss;
}

uint8_t *transfer_emit_look_up(struct emitter *e, unsigned level, unsigned slot)
{
    emit_pext_memory(e, TEMP1, TEMP0, VCPU_FIELD(jump_mask[level]));
    emit_lea32(e, TEMP1, (struct host_memory){.base = TEMP1, .index = TEMP1, .scale = 1});
    return emit_probe(e, level, slot);
}

uint8_t *transfer_emit_look_up_in(struct emitter *e, unsigned level, struct host_memory first)
{
    emit_pext_memory(e, TEMP1, TEMP0, VCPU_FIELD(jump_mask[level]));
    emit_load(e, TEMP2, first);
    emit_lea(e, TEMP1, (struct host_memory){.base = TEMP2, .index = TEMP1, .scale = 2});
    return emit_probe(e, level, 0);
}

static bool same_page(int32_t offset)
{
    return offset >= 0 && offset < (int32_t)GUEST_PAGE_SIZE;
}

/* `to` = the linear address of page offset `offset`, which is its rip wherever CS is flat. */
static void load_rip(struct translator *t, enum host_register to, int32_t offset)
{
    emit_load(&t->e, to, VCPU_FIELD(page_base));
    if (is_code64(t))
        emit_lea(&t->e, to, host_at(to, offset));
    else
        emit_lea32(&t->e, to, host_at(to, offset));
}

void transfer_emit_dispatch(struct translator *t)
{
    const struct dbt_vm *vm = t->vm;

    uint8_t *miss;

    if (t->step) {
        emit_store32_imm(&t->e, VCPU_FIELD(branch), 0);
        emit_jmp_to(&t->e, vm->cache.rw + vm->stub_miss);
        return;
    }
    miss = transfer_emit_look_up(&t->e, 0, t->slot);
    if (!t->e.overflow)
        emit_link(miss, vm->cache.rw + vm->stub_lookup_direct[t->slot]);
}

/* The same for a jump through a register or memory, which has added `popped` to the stack pointer.
 */
static void dispatch_indirect(struct translator *t, int32_t popped)
{
    uint32_t branch =
        DBT_BRANCH_KNOWN | (uint32_t)t->d->offset | (uint32_t)popped << DBT_BRANCH_POPPED_SHIFT;

    if (!is_code64(t)) {
        transfer_emit_dispatch(t);
    } else if (t->step) {
        emit_store32_imm(&t->e, VCPU_FIELD(branch), branch);
        emit_jmp_to(&t->e, t->vm->cache.rw + t->vm->stub_miss);
    } else {
        uint8_t *miss = transfer_emit_look_up(&t->e, 0, t->slot);

        t->tail[t->tail_count++] = (struct tail){.kind = TAIL_BRANCH, .site = miss, .info = branch};
    }
}

void transfer_emit_miss(struct translator *t, const struct tail *tail)
{
    emit_store32_imm(&t->e, VCPU_FIELD(branch), tail->info);
    emit_jmp_to(&t->e, t->vm->cache.rw + t->vm->stub_lookup[t->slot]);
}

void transfer_link_edge(struct translator *t, struct exit_record *record)
{
    uint8_t *site;

    emit_align(&t->e, 1, 4); /* so that the displacement can be patched in one store */
    site = emit_jmp32(&t->e);
    if (record)
        record->patch = cache_offset(t, site);
    translator_tail_exit(t, site, record);
}

void transfer_emit_edge(struct translator *t, int32_t target)
{
    if (same_page(target)) {
        transfer_link_edge(t, translator_record(t, t->step ? EXIT_AT : EXIT_CHAIN, target));
        return;
    }
    load_rip(t, TEMP0, target);
    transfer_emit_dispatch(t);
}

void transfer_link_site(struct translator *t, uint8_t *site, int32_t target)
{
    struct exit_record *record = translator_record(t, t->step ? EXIT_AT : EXIT_CHAIN, target);

    if (record)
        record->patch = cache_offset(t, site);
    translator_tail_exit(t, site, record);
}

/* As transfer_emit_edge(), reached by a conditional jump whose displacement is at `site`. */
static void conditional_edge(struct translator *t, uint8_t *site, int32_t target)
{
    if (same_page(target)) {
        transfer_link_site(t, site, target);
        return;
    }
    if (!t->e.overflow)
        emit_link(site, t->e.at);
    load_rip(t, TEMP0, target);
    transfer_emit_dispatch(t);
}

void transfer_emit_poll(struct translator *t, bool flags_live)
{
    struct emitter *e = &t->e;
    struct exit_record *record =
        translator_record(t, EXIT_AT, (int32_t)(t->block->gpa & (GUEST_PAGE_SIZE - 1)));

    if (!flags_live) {
        emit_cmp32_memory_imm8(e, VCPU_FIELD(attention), 0);
        translator_tail_exit(t, emit_jcc32(e, 5), record); /* jne */
        return;
    }
    emit_mov(e, TEMP2, HOST_RCX);
    emit_load32(e, HOST_RCX, VCPU_FIELD(attention));
    emit_jrcxz(e, 3 + 5);
    emit_mov(e, HOST_RCX, TEMP2); /* 3 bytes */
    translator_tail_exit(t, emit_jmp32(e), record);
    emit_mov(e, HOST_RCX, TEMP2);
}

static int32_t next_offset(const struct translator *t)
{
    return t->d->offset + t->d->z.length;
}

static int32_t relative_target(const struct translator *t)
{
    return next_offset(t) + (int32_t)t->d->z.raw.imm[0].value.s;
}

static unsigned natural_size(const struct translator *t)
{
    return is_code64(t) ? 8 : 4;
}

/* Stores the return address; the stack pointer has yet to move. Keeps TEMP0 if pinned. */
static void push_return(struct translator *t)
{
    unsigned size = natural_size(t);
    struct host_memory at =
        access_stack(t, -(int32_t)size, (struct access){.size = size, .write = true});

    load_rip(t, TEMP1, next_offset(t));
    if (size == 8)
        emit_store(&t->e, at, TEMP1);
    else
        emit_store32(&t->e, at, TEMP1);
}

/* TEMP0 = the word at `at`. */
static void load_target(struct translator *t, struct host_memory at)
{
    if (is_code64(t))
        emit_load(&t->e, TEMP0, at);
    else
        emit_load32(&t->e, TEMP0, at);
}

static void register_target(struct translator *t, unsigned guest)
{
    access_load_guest(t, TEMP0, guest);
    if (!is_code64(t))
        emit_mov32(&t->e, TEMP0, TEMP0);
}

static void emit_indirect(struct translator *t, bool call)
{
    const ZydisDecodedOperand *o = &t->d->operand[0];

    if (t->d->memory) {
        struct access access = {.size = natural_size(t)};

        access_linear(t, t->d->memory, access);
        access_check(t, access);
        load_target(t, host_at(TEMP0, 0));
        if (call) {
            if (!t->pinned)
                emit_store(&t->e, VCPU_FIELD(scratch[2]), TEMP0);
            push_return(t);
            if (!t->pinned)
                emit_load(&t->e, TEMP0, VCPU_FIELD(scratch[2]));
            stack_adjust(t, -(int32_t)natural_size(t));
        }
    } else {
        if (call)
            push_return(t);
        register_target(t, decode_gpr_number(o->reg.value)); /* call rsp: its old value */
        if (call)
            stack_adjust(t, -(int32_t)natural_size(t));
    }
    dispatch_indirect(t, call ? -(int32_t)natural_size(t) : 0);
}

static void emit_return(struct translator *t)
{
    int32_t popped = (int32_t)(natural_size(t) + (t->d->z.raw.imm[0].value.u & 0xffff));

    load_target(t, access_stack(t, 0, (struct access){.size = natural_size(t)}));
    stack_adjust(t, popped);
    dispatch_indirect(t, popped);
}

/* jrcxz and loop share a test of rcx that leaves the flags alone. */
static void emit_counter_branch(struct translator *t, bool loop)
{
    struct emitter *e = &t->e;
    bool wide = t->d->z.address_width == 64;
    uint8_t *nonzero;

    if (loop) {
        if (wide)
            emit_lea(e, HOST_RCX, host_at(HOST_RCX, -1));
        else
            emit_lea32(e, HOST_RCX, host_at(HOST_RCX, -1));
    }
    if (!wide)
        emit_byte(e, 0x67); /* jecxz */
    emit_jrcxz(e, 5);
    nonzero = emit_jmp32(e);

    /* rcx is zero here. */
    transfer_emit_edge(t, loop ? next_offset(t) : relative_target(t));
    if (!e->overflow)
        emit_link(nonzero, e->at);
    transfer_emit_edge(t, loop ? relative_target(t) : next_offset(t));
}

/* 64-bit code, or what is like it but for the size: flat 32-bit code on a flat 32-bit stack. */
static bool is_plain(const struct translator *t)
{
    const uint32_t flat = DBT_MODE_FLAT | DBT_MODE_FLAT_CODE | DBT_MODE_STACK32;

    return is_code64(t) ||
           ((t->mode & flat) == flat && t->d->z.operand_width == 32 && t->d->z.address_width == 32);
}

void transfer_emit(struct translator *t)
{
    if (!is_plain(t)) {
        segmented_emit_transfer(t);
        return;
    }
    switch (t->d->class) {
    case INSN_JMP:
        transfer_emit_edge(t, relative_target(t));
        break;
    case INSN_JCC: {
        emit_align(&t->e, 2, 4);
        uint8_t *site = emit_jcc32(&t->e, t->d->z.opcode & 15);

        transfer_emit_edge(t, next_offset(t));
        conditional_edge(t, site, relative_target(t));
        break;
    }
    case INSN_JRCXZ:
        emit_counter_branch(t, false);
        break;
    case INSN_LOOP:
        emit_counter_branch(t, true);
        break;
    case INSN_CALL:
        push_return(t);
        stack_adjust(t, -(int32_t)natural_size(t));
        transfer_emit_edge(t, relative_target(t));
        break;
    case INSN_CALL_INDIRECT:
        emit_indirect(t, true);
        break;
    case INSN_JMP_INDIRECT:
        emit_indirect(t, false);
        break;
    default:
        emit_return(t);
        break;
    }
}
