/*
 * Memory accesses of translated code: the effective address, and the inline TLB check.
 *
 * Where the guest's arithmetic flags are dead the check is
 *
 *     rorx  TEMP1, TEMP0, 7          index of the entry ...
 *     and   TEMP1, (entries - 1) * 32          ... times its size
 *     add   TEMP0, gs:[tlb.neg + TEMP1]        offset in the page, if it hits
 *     cmp   TEMP0, 4096 - size
 *     ja    miss
 *     add   TEMP0, gs:[tlb.host + TEMP1]
 *
 * and where they are live the same with instructions that leave flags alone; the branch is then a
 * jrcxz, with the guest's rcx in TEMP2 for the while.
 */
#include "engine/dbt/translator.h"

void access_load_guest(struct translator *t, enum host_register to, unsigned guest)
{
    enum host_register host = regmap_host(guest);

    if (host == HOST_NONE && t->cached == guest)
        host = TEMP2;
    if (host == HOST_NONE)
        emit_load(&t->e, to, VCPU_FIELD(gpr[guest]));
    else if (host != to)
        emit_mov(&t->e, to, host);
}

void access_store_guest(struct translator *t, unsigned guest, enum host_register from)
{
    enum host_register host = regmap_host(guest);

    if (host == HOST_NONE)
        spill_store(t, guest, from);
    else if (host != from)
        emit_mov(&t->e, host, from);
}

/* The host register that holds a guest register, loading it into `temp` if it lives in memory. */
static enum host_register in_register(struct translator *t, unsigned guest, enum host_register temp)
{
    enum host_register host = regmap_host(guest);

    return host == HOST_NONE ? spill_source(t, guest, temp) : host;
}

/* lea of the operand's width into TEMP0 from parts. */
static void lea_width(struct translator *t, unsigned width, struct host_memory m)
{
    if (width == 64)
        emit_lea(&t->e, TEMP0, m);
    else
        emit_lea32(&t->e, TEMP0, m);
}

void access_effective(struct translator *t, const ZydisDecodedOperand *memory)
{
    struct emitter *e = &t->e;
    const ZydisDecodedOperandMem *mem = &memory->mem;
    unsigned width = t->d->z.address_width;
    int64_t disp = mem->disp.has_displacement ? mem->disp.value : 0;
    struct host_memory m = {.base = HOST_NONE, .index = HOST_NONE, .scale = 1};

    if (mem->base == ZYDIS_REGISTER_RIP || mem->base == ZYDIS_REGISTER_EIP) {
        emit_load(e, TEMP0, VCPU_FIELD(page_base));
        /* The sum may pass 2 GiB at the ends of the displacement's range. */
        int64_t sum = disp + t->d->offset + t->d->z.length;

        if (sum != (int32_t)sum) {
            lea_width(t, 64, host_at(TEMP0, (int32_t)disp));
            sum -= disp;
        }
        lea_width(t, width, host_at(TEMP0, (int32_t)sum));
        return;
    }
    if (disp != (int32_t)disp) {
        /* A 64-bit moffs, or a 32-bit one above 2 GiB. */
        emit_mov_u64(e, TEMP0, width == 64 ? (uint64_t)disp : (uint32_t)disp);
        if (mem->base == ZYDIS_REGISTER_NONE && mem->index == ZYDIS_REGISTER_NONE)
            return;
        disp = 0; /* only moffs forms have such displacements, and they have no registers */
    }
    if (mem->base != ZYDIS_REGISTER_NONE)
        m.base = in_register(t, decode_gpr_number(mem->base), TEMP0);
    if (mem->index != ZYDIS_REGISTER_NONE) {
        unsigned index = decode_gpr_number(mem->index);

        if (m.base == TEMP2 && regmap_host(index) == HOST_NONE && t->cached != index) {
            emit_load(e, TEMP1, VCPU_FIELD(gpr[index])); /* TEMP2 is not to be taken again now */
            m.index = TEMP1;
        } else {
            m.index = in_register(t, index, TEMP1);
        }
        m.scale = mem->scale ? mem->scale : 1;
    }
    m.disp = (int32_t)disp;
    if (m.base == HOST_NONE && m.index == HOST_NONE) {
        if (width == 64)
            emit_mov_u64(e, TEMP0, (uint64_t)disp);
        else
            emit_mov_u32(e, TEMP0, (uint32_t)disp);
    } else if (m.index == HOST_NONE && m.disp == 0) {
        if (width == 64) {
            if (m.base != TEMP0)
                emit_mov(e, TEMP0, m.base);
        } else {
            emit_mov32(e, TEMP0, m.base);
        }
    } else {
        lea_width(t, width, m);
    }
    if (width == 16)
        emit_op_register(e, false, 0x0fb7, TEMP0, TEMP0); /* movzx TEMP0d, TEMP0w */
}

void access_segment(struct translator *t, const ZydisDecodedOperand *memory, struct access access)
{
    unsigned segment = decode_segment_number(memory->mem.segment);

    if (!is_code64(t)) {
        segmented_linear(t, segment, t->d->z.address_width, access);
    } else if (segment >= X86_FS) {
        emit_load(&t->e, TEMP1, VCPU_FIELD(segment[segment].base));
        emit_lea(&t->e, TEMP0, (struct host_memory){.base = TEMP0, .index = TEMP1, .scale = 1});
    }
}

void access_linear(struct translator *t, const ZydisDecodedOperand *memory, struct access access)
{
    access_effective(t, memory);
    access_segment(t, memory, access);
}

enum dbt_bank access_bank(const struct translator *t)
{
    if ((t->mode & DBT_MODE_CPL_MASK) == 3)
        return DBT_BANK_USER;
    return t->mode & DBT_MODE_AC ? DBT_BANK_SUPERVISOR_AC : DBT_BANK_SUPERVISOR;
}

static struct host_memory tlb_field(enum dbt_bank bank, size_t field, uint8_t scale)
{
    return (struct host_memory){
        .base = HOST_NONE,
        .index = TEMP1,
        .scale = scale,
        .gs = true,
        .disp = (int32_t)(offsetof(struct dbt_vcpu, tlb) +
                          bank * DBT_TLB_SIZE * sizeof(struct dbt_tlb_entry) + field),
    };
}

struct host_memory access_tlb_field(enum dbt_bank bank, size_t field)
{
    return tlb_field(bank, field, 1);
}

void access_emit_index(struct translator *t)
{
    emit_rorx(&t->e, TEMP1, TEMP0, GUEST_PAGE_SHIFT - DBT_TLB_ENTRY_SHIFT);
    emit_and32_imm(&t->e, TEMP1, (DBT_TLB_SIZE - 1) << DBT_TLB_ENTRY_SHIFT);
}

void access_check(struct translator *t, struct access access)
{
    struct emitter *e = &t->e;
    enum dbt_bank bank = access_bank(t);
    size_t neg = access.write ? offsetof(struct dbt_tlb_entry, neg_write)
                              : offsetof(struct dbt_tlb_entry, neg_read);
    size_t host = offsetof(struct dbt_tlb_entry, host);
    struct tail *tail = &t->tail[t->tail_count++];

    if (t->flags_live) /* that needs TEMP2 */
        spill_forget(t);
    *tail = (struct tail){
        .kind = TAIL_MISS,
        .unsaved = spill_unsaved(t),
        .flags_live = t->flags_live,
        .bank = bank,
        .info = (uint32_t)t->d->offset | access.size << 13 | (uint32_t)access.slow_faults << 30 |
                (uint32_t)access.write << 31,
    };
    if (!t->flags_live) {
        access_emit_index(t);
        emit_add_memory(e, TEMP0, tlb_field(bank, neg, 1));
        emit_cmp_imm(e, TEMP0, (int32_t)(GUEST_PAGE_SIZE - access.size));
        tail->site = emit_jcc32(e, 7); /* ja */
        emit_add_memory(e, TEMP0, tlb_field(bank, host, 1));
    } else {
        emit_pext_memory(e, TEMP1, TEMP0, VCPU_FIELD(tlb_mask));
        emit_lea32(e, TEMP1, (struct host_memory){.base = HOST_NONE, .index = TEMP1, .scale = 4});
        emit_mov(e, TEMP2, HOST_RCX);
        emit_load(e, HOST_RCX, tlb_field(bank, neg, 8));
        emit_lea(e, TEMP0, (struct host_memory){.base = TEMP0, .index = HOST_RCX, .scale = 1});
        emit_lea(e, HOST_RCX, host_at(TEMP0, (int32_t)access.size - 1));
        emit_pext_memory(e, HOST_RCX, HOST_RCX, VCPU_FIELD(page_number_mask));
        emit_jrcxz(e, 5);
        tail->site = emit_jmp32(e);
        emit_mov(e, HOST_RCX, TEMP2);
        emit_load(e, TEMP1, tlb_field(bank, host, 8));
        emit_lea(e, TEMP0, (struct host_memory){.base = TEMP0, .index = TEMP1, .scale = 1});
    }
    tail->resume = e->at;
}

struct host_memory access_stack(struct translator *t, int32_t disp, struct access access)
{
    if (t->pinned)
        return pin_operand(disp);
    stack_locate(t, X86_RSP, disp, access);
    return host_at(TEMP0, 0);
}

/* Out of line: give stub_memory the linear address again, and go on with the host address. */
void access_emit_miss(struct translator *t, const struct tail *tail)
{
    struct emitter *e = &t->e;
    bool write = tail->info >> 31;
    size_t neg = write ? offsetof(struct dbt_tlb_entry, neg_write)
                       : offsetof(struct dbt_tlb_entry, neg_read);

    if (tail->unsaved != HOST_NONE)
        emit_store(e, VCPU_FIELD(gpr[tail->unsaved]), TEMP2);
    if (!tail->flags_live) {
        emit_sub_memory(e, TEMP0, tlb_field(tail->bank, neg, 1));
    } else {
        /* TEMP0 - neg without touching flags: TEMP0 + ~neg + 1 */
        emit_load(e, HOST_RCX, tlb_field(tail->bank, neg, 8));
        emit_not(e, HOST_RCX);
        emit_lea(e, TEMP0,
                 (struct host_memory){.base = TEMP0, .index = HOST_RCX, .scale = 1, .disp = 1});
        emit_mov(e, HOST_RCX, TEMP2);
    }
    emit_store32_imm(e, VCPU_FIELD(insn_info), tail->info);
    emit_store32_imm(e, VCPU_FIELD(resume_offset), cache_offset(t, tail->resume));
    emit_jmp_to(e, t->vm->cache.rw + t->vm->stub_memory);
}
