/*
 * One instruction the slow way: where translated code found that its memory operand is device
 * space, crosses a page, lies in a segment that is not flat, or where the instruction itself
 * crosses a page.
 *
 * Instructions that C knows go to insn_execute(). The others run natively in a thunk, a piece of
 * translated code of one instruction. Its memory operand is in place where it is memory within one
 * page, so that locked instructions are atomic; elsewhere it is a buffer: read the operand into the
 * buffer, run the thunk, write the buffer back. Decoded instructions and their thunks are kept in a
 * small table per vCPU, by their bytes.
 *
 * Gathers and masked byte stores touch several places each; they are done element by element here.
 * Images of the vector state are a matter of images.c.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/dbt/dispatch.h"
#include "engine/dbt/operand.h"
#include "engine/dbt/segment.h"
#include "engine/dbt/slow.h"
#include "engine/dbt/x87.h"

#define SLOW_ENTRIES 256

struct slow_cache {
    struct slow_entry entry[SLOW_ENTRIES];
};

/* Fetches up to 15 bytes at rip; *count is how many there are before a page that faults. */
static enum dbt_result fetch(struct dbt_vcpu *v, uint8_t bytes[15], unsigned *count)
{
    gva_t linear = v->rip;
    unsigned first;
    uint8_t *host;
    gpa_t gpa;

    if (!(v->mode & DBT_MODE_CODE64)) {
        linear += v->segment[X86_CS].base;
        linear = (uint32_t)linear;
    }
    if (mmu_fetch(v, linear, &gpa, &host) == DBT_FAULT)
        return DBT_FAULT;
    if (!host)
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    first = (unsigned)(GUEST_PAGE_SIZE - (linear & (GUEST_PAGE_SIZE - 1)));
    *count = first < 15 ? first : 15;
    memcpy(bytes, host, *count);
    return DBT_NEXT;
}

/* Adds the bytes of the next page. */
static enum dbt_result fetch_more(struct dbt_vcpu *v, uint8_t bytes[15], unsigned *count)
{
    gva_t linear = v->rip + *count;
    uint8_t *host;
    gpa_t gpa;

    if (!(v->mode & DBT_MODE_CODE64))
        linear = (uint32_t)(linear + v->segment[X86_CS].base);
    if (mmu_fetch(v, linear, &gpa, &host) == DBT_FAULT)
        return DBT_FAULT;
    if (!host)
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    memcpy(bytes + *count, host, 15 - *count);
    *count = 15;
    return DBT_NEXT;
}

static struct slow_entry *entry_for(struct dbt_vcpu *v, const uint8_t *bytes, unsigned count)
{
    uint64_t key = 0;

    memcpy(&key, bytes, count < 8 ? count : 8);
    return &v->runtime->slow->entry[key * 0x9e3779b97f4a7c15ull >> 56];
}

/* #GP(0) if `length` bytes at rip reach beyond the code segment. */
static enum dbt_result check_fetch(struct dbt_vcpu *v, unsigned length)
{
    if (!(v->mode & DBT_MODE_CODE64) && v->rip + length - 1 > v->segment[X86_CS].limit)
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    return DBT_NEXT;
}

/* The decoded instruction at rip, from the table or new. DBT_FAULT: #PF, #GP or #UD recorded. */
static enum dbt_result decode_at(struct dbt_vcpu *v, struct slow_entry **out)
{
    uint8_t bytes[15] = {0};
    struct slow_entry *e;
    unsigned count;
    bool too_short;

    if (!v->runtime->slow)
        v->runtime->slow = calloc(1, sizeof(*v->runtime->slow));
    if (!v->runtime->slow)
        return dbt_raise(v, X86_VECTOR_UD);
    if (fetch(v, bytes, &count) == DBT_FAULT)
        return DBT_FAULT;
    for (;;) {
        e = entry_for(v, bytes, count);
        if (e->valid && e->mode == v->mode && e->length <= count &&
            !memcmp(e->bytes, bytes, e->length)) {
            *out = e;
            return check_fetch(v, e->length);
        }
        e->valid = false;
        if (decode_one(&e->decoded, &v->vm->features, v->mode, bytes, count, &too_short))
            break;
        if (!too_short)
            return dbt_raise(v, X86_VECTOR_UD);
        if (count == 15)
            return dbt_raise_error(v, X86_VECTOR_GP, 0); /* longer than 15 bytes */
        if (check_fetch(v, count + 1) == DBT_FAULT || fetch_more(v, bytes, &count) == DBT_FAULT)
            return DBT_FAULT;
    }
    e->valid = true;
    e->mode = v->mode;
    e->length = e->decoded.z.length;
    memcpy(e->bytes, bytes, sizeof(e->bytes));
    e->thunk = 0;
    e->decoded.offset = 0;
    decode_to_insn(&e->decoded, bytes, &e->insn);
    *out = e;
    return check_fetch(v, e->length);
}

static bool make_thunk(struct dbt_vcpu *v, struct slow_entry *e)
{
    struct dbt_vm *vm = v->vm;

    if (e->thunk && e->generation == v->runtime->generation)
        return true;
    dbt_lock(vm, v);
    e->thunk = translate_thunk(vm, &vm->features, &e->decoded, v->mode);
    if (!e->thunk) {
        dbt_flush_all(vm, v, FLUSH_FULL);
        e->thunk = translate_thunk(vm, &vm->features, &e->decoded, v->mode);
    }
    e->generation = v->runtime->generation;
    dbt_unlock(vm);
    return e->thunk;
}

enum dbt_result slow_run_thunk(struct dbt_vcpu *v, struct slow_entry *e, void *buffer)
{
    struct dbt_runtime *r = v->runtime;

    if (!make_thunk(v, e))
        return dbt_raise(v, X86_VECTOR_UD);
    __atomic_store_n(&v->scratch[1], (uint64_t)(uintptr_t)buffer, __ATOMIC_RELAXED);
    r->leave = LEAVE_RECORD;
    r->thunk = true;
    if (!v->simd_live)
        dbt_simd_load(v);
    v->vm->enter(v, v->vm->cache.rx + e->thunk);
    dbt_simd_unload(v);
    r->thunk = false;
    return r->leave == LEAVE_FAULT ? DBT_FAULT : DBT_NEXT;
}

/* Linear address of the memory operand, which may be moved by `adjust` bytes. */
enum dbt_result slow_linear(struct dbt_vcpu *v, const struct insn *insn, int64_t adjust,
                            unsigned size, unsigned access, gva_t *linear)
{
    uint64_t offset = operand_offset(v, insn) + (uint64_t)adjust;

    if (insn->address_width != 64)
        offset &= width_mask(insn->address_width);
    return segment_linear(v, insn->memory.segment, offset, size, access, linear);
}

/* The alignment whose breach is #GP whatever else is wrong with the address (Intel SDM volume 1,
 * 11.3 and 14.9; volume 2 for each state-saving instruction). */
static unsigned required_alignment(const struct decoded *d, unsigned size)
{
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
        return 1;
    case ZYDIS_MNEMONIC_CMPXCHG16B:
        return 16;
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA:
        return size;
    default:
        break;
    }
    /* Legacy SSE operands of 16 bytes; x87 and MMX ones are free, and SHA's on some processors. */
    if (d->z.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && size == 16 &&
        d->z.meta.isa_ext != ZYDIS_ISA_EXT_X87 && d->z.meta.isa_ext != ZYDIS_ISA_EXT_SHA)
        return 16;
    return 1;
}

/* Where the operand lies, if it is memory that the thunk may use in place, else NULL. The thunk is
 * ready then: making it might wait, and the page be watched meanwhile. */
static uint8_t *operand_in_place(struct dbt_vcpu *v, struct slow_entry *e, gva_t linear,
                                 struct access access)
{
    if ((v->mode & DBT_MODE_ALIGN) && (linear & (access.size - 1)))
        return NULL; /* mmu_read() and mmu_write() check the alignment */
    /* A write that drops translated code finds the page without it the second time. */
    for (unsigned attempt = 0; attempt < 2 && make_thunk(v, e); attempt++) {
        enum dbt_result result;
        uint8_t *host = mmu_access_host(v, linear, access.size, access.write, &result);

        if (host && e->generation == v->runtime->generation)
            return host;
    }
    return NULL;
}

static bool is_locked(const struct decoded *d)
{
    return (d->z.attributes & ZYDIS_ATTRIB_HAS_LOCK) || d->z.mnemonic == ZYDIS_MNEMONIC_XCHG;
}

/* Whether the byte is in RAM that can be written, which mmu_probe_write() has found allowed. */
static bool is_ram(struct dbt_vcpu *v, gva_t linear)
{
    enum dbt_result result;

    /* A write that drops translated code finds the page without it the second time. */
    return mmu_access_host(v, linear, 1, true, &result) ||
           mmu_access_host(v, linear, 1, true, &result);
}

static void end_locked(struct dbt_vm *vm)
{
    dbt_exclusive_end(vm);
    dbt_unlock(vm);
}

/*
 * For a locked instruction on two pages of RAM: brings the other vCPUs to a standstill, until
 * end_locked(), with the thunk ready. False where there is nobody, or nothing, to be atomic with.
 */
static bool begin_locked(struct dbt_vcpu *v, struct slow_entry *e, gva_t linear, unsigned size)
{
    struct dbt_vm *vm = v->vm;

    if (!is_locked(&e->decoded) || vm->config.vcpus == 1 || !is_ram(v, linear) ||
        !is_ram(v, linear + size - 1))
        return false;
    while (make_thunk(v, e)) {
        dbt_lock(vm, v);
        dbt_exclusive_begin(vm, v);
        if (e->generation == v->runtime->generation)
            return true;
        end_locked(vm);
    }
    return false;
}

/* Reads the operand into a buffer, runs the thunk there, and writes it back. */
static enum dbt_result execute_in_buffer(struct dbt_vcpu *v, struct slow_entry *e, gva_t linear,
                                         struct access access, bool read)
{
    /* The same place in a line as in the guest, for instructions that check alignment. */
    uint8_t *buffer = v->runtime->bounce + (linear & 63);

    if (read && mmu_read(v, linear, buffer, access.size, MMU_READ) == DBT_FAULT)
        return DBT_FAULT;
    if (slow_run_thunk(v, e, buffer) == DBT_FAULT)
        return DBT_FAULT;
    return access.write ? mmu_write(v, linear, buffer, access.size, MMU_WRITE) : DBT_NEXT;
}

/* A native instruction with a memory operand. */
static enum dbt_result execute_with_memory(struct dbt_vcpu *v, struct slow_entry *e)
{
    const struct decoded *d = &e->decoded;
    struct access access = native_access(d);
    bool read =
        d->memory->actions & (ZYDIS_OPERAND_ACTION_MASK_READ | ZYDIS_OPERAND_ACTION_CONDWRITE);
    enum dbt_result result;
    uint8_t *buffer;
    bool locked;
    gva_t linear;

    if (decode_is_x87(d) && (x87_status(v) & FSW_ES))
        return dbt_raise(v, X86_VECTOR_MF);
    if (access.size > 64 || d->z.meta.isa_ext == ZYDIS_ISA_EXT_X87)
        read = true; /* parts of a large image may stay as they are, and all if there is an
                        unmasked exception */
    if (access.size > sizeof(v->runtime->bounce) - 64)
        return dbt_raise(v, X86_VECTOR_UD);
    if ((v->segment[e->insn.memory.segment].base + operand_offset(v, &e->insn)) &
        (required_alignment(d, access.size) - 1))
        return dbt_raise_error(v, X86_VECTOR_GP, 0);
    if (slow_linear(v, &e->insn, 0, access.size, access.write ? MMU_WRITE : MMU_READ, &linear) ==
        DBT_FAULT)
        return DBT_FAULT;
    buffer = operand_in_place(v, e, linear, access);
    if (buffer) {
        if (slow_run_thunk(v, e, buffer) == DBT_FAULT)
            return DBT_FAULT;
        x87_note(v, d, &e->insn);
        return insn_next_block(v, &e->insn);
    }
    if (access.write && mmu_probe_write(v, linear, access.size, MMU_WRITE) == DBT_FAULT)
        return DBT_FAULT;
    locked = begin_locked(v, e, linear, access.size);
    result = execute_in_buffer(v, e, linear, access, read);
    if (locked)
        end_locked(v->vm);
    if (result == DBT_FAULT)
        return DBT_FAULT;
    x87_note(v, d, &e->insn);
    return insn_next_block(v, &e->insn);
}

/* Sets, clears or flips bits of a byte as locked instructions do; returns what it was. */
static uint8_t change_bits(uint8_t *byte, uint16_t mnemonic, uint8_t mask)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_BTS:
        return __atomic_fetch_or(byte, mask, __ATOMIC_SEQ_CST);
    case ZYDIS_MNEMONIC_BTR:
        return __atomic_fetch_and(byte, (uint8_t)~mask, __ATOMIC_SEQ_CST);
    case ZYDIS_MNEMONIC_BTC:
        return __atomic_fetch_xor(byte, mask, __ATOMIC_SEQ_CST);
    default:
        return *byte;
    }
}

/* bt, bts, btr and btc with a bit offset in a register. In memory only the byte with the bit is
 * changed, in place. */
static enum dbt_result execute_bit(struct dbt_vcpu *v, const struct slow_entry *e)
{
    const struct insn *insn = &e->insn;
    unsigned width = insn->operand_width, size = width / 8;
    uint64_t raw = gpr_read(v, insn->reg, width), word = 0;
    int64_t bit = width == 64 ? (int64_t)raw : width == 32 ? (int32_t)raw : (int16_t)raw;
    int64_t adjust = (bit >> (width == 64 ? 6 : width == 32 ? 5 : 4)) * (int64_t)size;
    unsigned in_word = (unsigned)bit & (width - 1);
    bool write = insn->mnemonic != ZYDIS_MNEMONIC_BT;
    uint8_t *host = NULL, *bytes = (uint8_t *)&word, old;
    enum dbt_result result;
    gva_t linear;

    if (slow_linear(v, insn, adjust, size, write ? MMU_WRITE : MMU_READ, &linear) == DBT_FAULT)
        return DBT_FAULT;
    if (write && mmu_probe_write(v, linear, size, MMU_WRITE) == DBT_FAULT)
        return DBT_FAULT;
    if (mmu_read(v, linear, &word, size, MMU_READ) == DBT_FAULT)
        return DBT_FAULT;
    /* A write that drops translated code finds the page without it the second time. */
    for (unsigned attempt = 0; write && !host && attempt < 2; attempt++)
        host = mmu_access_host(v, linear + in_word / 8, 1, true, &result);
    old = change_bits(host ? host : &bytes[in_word / 8], insn->mnemonic, 1u << (in_word & 7));
    if (write && !host && mmu_write(v, linear, &word, size, MMU_WRITE) == DBT_FAULT)
        return DBT_FAULT;
    v->flags_arith = (v->flags_arith & ~X86_FLAG_CF) | (old >> (in_word & 7) & X86_FLAG_CF);
    return insn_next_block(v, insn);
}

/* --- vector registers in the XSAVE image --- */

static uint8_t *xmm_low(struct dbt_vcpu *v, unsigned number)
{
    return v->xsave + XSAVE_XMM + 16 * number;
}

static uint8_t *ymm_high(struct dbt_vcpu *v, unsigned number)
{
    return v->xsave + XSAVE_YMM_HIGH + 16 * number;
}

static void vector_read(struct dbt_vcpu *v, unsigned number, uint8_t out[32])
{
    memcpy(out, xmm_low(v, number), 16);
    memcpy(out + 16, ymm_high(v, number), 16);
}

static void vector_write(struct dbt_vcpu *v, unsigned number, const uint8_t value[32])
{
    memcpy(xmm_low(v, number), value, 16);
    memcpy(ymm_high(v, number), value + 16, 16);
    v->xsave[XSAVE_XSTATE_BV] |= X86_XCR0_SSE | X86_XCR0_AVX;
}

/* Number of the vector register that the encoding names there. */
static unsigned register_in(const struct decoded *d, ZydisOperandEncoding encoding)
{
    for (unsigned i = 0; i < d->z.operand_count; i++)
        if (d->operand[i].encoding == encoding && d->operand[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            return (unsigned)ZydisRegisterGetId(d->operand[i].reg.value);
    return 0;
}

/* VMASKMOVPx and VPMASKMOVx (Intel SDM volume 2): only elements whose mask has its top bit set are
 * touched; the others load as zero. */
static enum dbt_result execute_masked_move(struct dbt_vcpu *v, const struct slow_entry *e)
{
    const struct decoded *d = &e->decoded;
    bool store = d->operand[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
    unsigned element = d->operand[store ? 2 : 0].element_size / 8;
    unsigned length = d->z.raw.vex.L ? 32 : 16;
    unsigned reg = register_in(d, ZYDIS_OPERAND_ENCODING_MODRM_REG);
    uint8_t value[32] = {0}, mask[32];

    vector_read(v, register_in(d, ZYDIS_OPERAND_ENCODING_NDSNDD), mask);
    if (store)
        vector_read(v, reg, value);
    /* All elements of a store are probed first, so that a fault leaves memory alone. */
    for (unsigned pass = store ? 0 : 1; pass < 2; pass++)
        for (unsigned i = 0; i < length; i += element) {
            gva_t linear;
            enum dbt_result result;

            if (!(mask[i + element - 1] & 0x80))
                continue;
            result = slow_linear(v, &e->insn, i, element, store ? MMU_WRITE : MMU_READ, &linear);
            if (result != DBT_FAULT)
                result = !store      ? mmu_read(v, linear, value + i, element, MMU_READ)
                         : pass == 0 ? mmu_probe_write(v, linear, element, MMU_WRITE)
                                     : mmu_write(v, linear, value + i, element, MMU_WRITE);
            if (result == DBT_FAULT)
                return result;
        }
    if (!store)
        vector_write(v, reg, value);
    return insn_next_block(v, &e->insn);
}

static bool is_masked_move(const struct decoded *d)
{
    switch (d->z.mnemonic) {
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
        return true;
    default:
        return false;
    }
}

/* VGATHERxxx and VPGATHERxx (Intel SDM volume 2): elements whose mask has its top bit set are
 * loaded one by one; on a fault the finished ones stay, with their masks cleared. */
static enum dbt_result execute_gather(struct dbt_vcpu *v, const struct slow_entry *e)
{
    const struct decoded *d = &e->decoded;
    unsigned to = (unsigned)ZydisRegisterGetId(d->operand[0].reg.value);
    unsigned mask = (unsigned)ZydisRegisterGetId(d->operand[2].reg.value);
    unsigned index = (unsigned)ZydisRegisterGetId(d->memory->mem.index);
    unsigned element = d->z.raw.vex.W ? 8 : 4;
    unsigned index_size = d->z.opcode & 1 ? 8 : 4; /* 90/92: dword indices, 91/93: qword */
    unsigned length = d->z.raw.vex.L ? 32 : 16;
    unsigned count = length / (element > index_size ? element : index_size);
    uint8_t result[32], masks[32], indices[32];
    enum dbt_result outcome = DBT_NEXT;
    struct insn base = e->insn;

    if (to == mask || to == index || mask == index)
        return dbt_raise(v, X86_VECTOR_UD);
    vector_read(v, to, result);
    vector_read(v, mask, masks);
    vector_read(v, index, indices);
    base.memory.index = INSN_NO_REGISTER;
    for (unsigned i = 0; i < count; i++) {
        int64_t place;
        gva_t linear;

        if (!(masks[i * element + element - 1] & 0x80)) {
            memset(masks + i * element, 0, element);
            continue;
        }
        if (index_size == 8) {
            memcpy(&place, indices + i * 8, 8);
        } else {
            int32_t narrow;

            memcpy(&narrow, indices + i * 4, 4);
            place = narrow;
        }
        outcome = slow_linear(v, &base, place * e->insn.memory.scale, element, MMU_READ, &linear);
        if (outcome != DBT_FAULT)
            outcome = mmu_read(v, linear, result + i * element, element, MMU_READ);
        if (outcome == DBT_FAULT)
            break;
        memset(masks + i * element, 0, element);
    }
    if (outcome != DBT_FAULT) {
        memset(masks, 0, sizeof(masks));
        memset(result + count * element, 0, sizeof(result) - count * element);
    }
    vector_write(v, to, result);
    vector_write(v, mask, masks);
    return outcome == DBT_FAULT ? DBT_FAULT : insn_next_block(v, &e->insn);
}

/* The MMX registers are the significands of the x87 registers, which the image has from the top of
 * the stack on. */
static uint8_t *mmx_register(struct dbt_vcpu *v, unsigned number)
{
    unsigned top = (x87_status(v) & FSW_TOP) / (FSW_TOP & -FSW_TOP);

    return v->xsave + XSAVE_ST + 16 * ((number - top) & 7);
}

/* What every MMX instruction but EMMS does: the top of the stack becomes register 0, and all
 * registers are in use. (Intel SDM volume 1, 9.6.) */
static void enter_mmx(struct dbt_vcpu *v)
{
    uint8_t registers[8][16];
    uint16_t status = x87_status(v) & (uint16_t)~FSW_TOP;

    for (unsigned i = 0; i < 8; i++)
        memcpy(registers[i], mmx_register(v, i), 16);
    memcpy(v->xsave + XSAVE_ST, registers, sizeof(registers));
    memcpy(v->xsave + XSAVE_FSW, &status, sizeof(status));
    v->xsave[XSAVE_FTW] = 0xff;
    v->xsave[XSAVE_XSTATE_BV] |= X86_XCR0_X87;
}

/* MASKMOVQ, MASKMOVDQU and VMASKMOVDQU: bytes whose mask byte has its top bit set go to [rdi]. */
static enum dbt_result execute_masked_store(struct dbt_vcpu *v, const struct slow_entry *e)
{
    const struct decoded *d = &e->decoded;
    bool mmx = e->insn.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ;
    unsigned from = register_in(d, ZYDIS_OPERAND_ENCODING_MODRM_REG);
    unsigned mask = register_in(d, ZYDIS_OPERAND_ENCODING_MODRM_RM);
    unsigned size = mmx ? 8 : 16, segment = X86_DS;
    uint8_t bytes[16], masks[16];
    uint64_t offset = gpr_read(v, X86_RDI, e->insn.address_width);
    gva_t linear;

    if (mmx && (x87_status(v) & FSW_ES))
        return dbt_raise(v, X86_VECTOR_MF);

    for (unsigned i = 0; i < d->z.operand_count; i++)
        if (d->operand[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            segment = decode_segment_number(d->operand[i].mem.segment);
    /* MMX registers are the low 8 bytes of the x87 registers, in the image from the top of stack.
     */
    memcpy(bytes, mmx ? mmx_register(v, from) : xmm_low(v, from), size);
    memcpy(masks, mmx ? mmx_register(v, mask) : xmm_low(v, mask), size);
    if (mmx)
        enter_mmx(v); /* comes even before a fault of the store */
    if (segment_linear(v, segment, offset, size, MMU_WRITE, &linear) == DBT_FAULT ||
        mmu_probe_write(v, linear, size, MMU_WRITE) == DBT_FAULT)
        return DBT_FAULT;
    for (unsigned i = 0; i < size; i++)
        if ((masks[i] & 0x80) && mmu_write(v, linear + i, bytes + i, 1, MMU_WRITE) == DBT_FAULT)
            return DBT_FAULT;
    return insn_next_block(v, &e->insn);
}

static enum dbt_result execute_lea(struct dbt_vcpu *v, const struct insn *insn)
{
    gpr_write(v, insn->reg, insn->operand_width,
              operand_offset(v, insn) & width_mask(insn->address_width));
    return insn_next_block(v, insn);
}

enum dbt_result slow_execute(struct dbt_vcpu *v)
{
    struct slow_entry *e;

    dbt_simd_unload(v);
    v->runtime->counters.slow++;
    if (decode_at(v, &e) == DBT_FAULT)
        return DBT_FAULT;
    switch (e->decoded.class) {
    case INSN_UNDEFINED:
        return dbt_raise(v, X86_VECTOR_UD);
    case INSN_NOTHING:
        return insn_next_block(v, &e->insn);
    case INSN_LEA:
        return execute_lea(v, &e->insn);
    case INSN_BIT_MEMORY:
        return execute_bit(v, e);
    case INSN_SLOW:
        return e->decoded.z.meta.category == ZYDIS_CATEGORY_AVX2GATHER ? execute_gather(v, e)
                                                                       : execute_masked_store(v, e);
    case INSN_NATIVE:
    case INSN_IMAGE: {
        enum dbt_result off = unit_check(v, &e->decoded);

        if (off == DBT_FAULT)
            return off;
        if (e->decoded.class == INSN_IMAGE)
            return images_execute(v, e);
        if (is_masked_move(&e->decoded))
            return execute_masked_move(v, e);
        if (e->decoded.memory)
            return execute_with_memory(v, e);
        if (slow_run_thunk(v, e, v->runtime->bounce) == DBT_FAULT)
            return DBT_FAULT;
        x87_note(v, &e->decoded, &e->insn);
        return insn_next_block(v, &e->insn);
    }
    default:
        return insn_execute(v, &e->insn);
    }
}
