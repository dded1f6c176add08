/* The emitter's encodings; see emit.h. Intel SDM volume 2, chapter 2 (instruction format). */
#include "engine/dbt/emit.h"

#include <string.h>

void emit_byte(struct emitter *e, uint8_t byte)
{
    if (e->at >= e->end) {
        e->overflow = true;
        return;
    }
    *e->at++ = byte;
}

void emit_bytes(struct emitter *e, const uint8_t *bytes, unsigned count)
{
    if ((size_t)(e->end - e->at) < count) {
        e->overflow = true;
        return;
    }
    memcpy(e->at, bytes, count);
    e->at += count;
}

void emit_u32(struct emitter *e, uint32_t value)
{
    emit_bytes(e, (const uint8_t *)&value, 4);
}

void emit_u64(struct emitter *e, uint64_t value)
{
    emit_bytes(e, (const uint8_t *)&value, 8);
}

void emit_modrm_register(struct emitter *e, unsigned reg, unsigned rm)
{
    emit_byte(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

static unsigned scale_bits(unsigned scale)
{
    return scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
}

void emit_modrm_memory(struct emitter *e, unsigned reg, const struct host_memory *m)
{
    unsigned field = (reg & 7) << 3;

    if (m->base == HOST_NONE) {
        unsigned index = m->index == HOST_NONE ? 4 : m->index & 7;

        emit_byte(e, 0x04 | field); /* SIB without base: disp32, and not RIP-relative */
        emit_byte(e, scale_bits(m->scale) << 6 | index << 3 | 5);
        emit_u32(e, m->disp);
        return;
    }

    unsigned mod = m->disp == 0 && (m->base & 7) != 5  ? 0x00
                   : m->disp >= -128 && m->disp <= 127 ? 0x40
                                                       : 0x80;
    if (m->index != HOST_NONE || (m->base & 7) == 4) {
        unsigned index = m->index == HOST_NONE ? 4 : m->index & 7;

        emit_byte(e, mod | field | 4);
        emit_byte(e, scale_bits(m->scale) << 6 | index << 3 | (m->base & 7));
    } else {
        emit_byte(e, mod | field | (m->base & 7));
    }
    if (mod == 0x40)
        emit_byte(e, (uint8_t)m->disp);
    else if (mod == 0x80)
        emit_u32(e, m->disp);
}

static void emit_opcode(struct emitter *e, unsigned opcode)
{
    if (opcode > 0xff)
        emit_byte(e, opcode >> 8);
    emit_byte(e, opcode & 0xff);
}

static void emit_rex(struct emitter *e, bool wide, unsigned reg, unsigned index, unsigned rm)
{
    uint8_t rex = wide << 3 | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (rm >> 3 & 1);

    if (rex)
        emit_byte(e, 0x40 | rex);
}

void emit_op_register(struct emitter *e, bool wide, unsigned opcode, unsigned reg, unsigned rm)
{
    emit_rex(e, wide, reg, 0, rm);
    emit_opcode(e, opcode);
    emit_modrm_register(e, reg, rm);
}

static unsigned high_bit_of(uint8_t r)
{
    return r == HOST_NONE ? 0 : r;
}

void emit_op_memory(struct emitter *e, bool wide, unsigned opcode, unsigned reg,
                    struct host_memory m)
{
    if (m.gs)
        emit_byte(e, 0x65);
    emit_rex(e, wide, reg, high_bit_of(m.index), high_bit_of(m.base));
    emit_opcode(e, opcode);
    emit_modrm_memory(e, reg, &m);
}

void emit_mov(struct emitter *e, enum host_register to, enum host_register from)
{
    emit_op_register(e, true, 0x89, from, to);
}

void emit_mov32(struct emitter *e, enum host_register to, enum host_register from)
{
    emit_op_register(e, false, 0x89, from, to);
}

void emit_mov_u32(struct emitter *e, enum host_register to, uint32_t value)
{
    emit_rex(e, false, 0, 0, to);
    emit_byte(e, 0xb8 | (to & 7));
    emit_u32(e, value);
}

void emit_mov_u64(struct emitter *e, enum host_register to, uint64_t value)
{
    emit_rex(e, true, 0, 0, to);
    emit_byte(e, 0xb8 | (to & 7));
    emit_u64(e, value);
}

void emit_load(struct emitter *e, enum host_register to, struct host_memory from)
{
    emit_op_memory(e, true, 0x8b, to, from);
}

void emit_load32(struct emitter *e, enum host_register to, struct host_memory from)
{
    emit_op_memory(e, false, 0x8b, to, from);
}

void emit_store(struct emitter *e, struct host_memory to, enum host_register from)
{
    emit_op_memory(e, true, 0x89, from, to);
}

void emit_store32(struct emitter *e, struct host_memory to, enum host_register from)
{
    emit_op_memory(e, false, 0x89, from, to);
}

void emit_store16(struct emitter *e, struct host_memory to, enum host_register from)
{
    emit_byte(e, 0x66);
    emit_op_memory(e, false, 0x89, from, to);
}

void emit_store32_imm(struct emitter *e, struct host_memory to, uint32_t value)
{
    emit_op_memory(e, false, 0xc7, 0, to);
    emit_u32(e, value);
}

void emit_store8_imm(struct emitter *e, struct host_memory to, uint8_t value)
{
    emit_op_memory(e, false, 0xc6, 0, to);
    emit_byte(e, value);
}

void emit_lea(struct emitter *e, enum host_register to, struct host_memory m)
{
    emit_op_memory(e, true, 0x8d, to, m);
}

void emit_lea32(struct emitter *e, enum host_register to, struct host_memory m)
{
    emit_op_memory(e, false, 0x8d, to, m);
}

void emit_add_memory(struct emitter *e, enum host_register to, struct host_memory m)
{
    emit_op_memory(e, true, 0x03, to, m);
}

void emit_sub_memory(struct emitter *e, enum host_register to, struct host_memory m)
{
    emit_op_memory(e, true, 0x2b, to, m);
}

void emit_and32_imm(struct emitter *e, enum host_register r, uint32_t value)
{
    emit_op_register(e, false, 0x81, 4, r);
    emit_u32(e, value);
}

void emit_cmp_imm(struct emitter *e, enum host_register r, int32_t value)
{
    emit_op_register(e, true, 0x81, 7, r);
    emit_u32(e, value);
}

void emit_cmp32_memory_imm8(struct emitter *e, struct host_memory m, int8_t value)
{
    emit_op_memory(e, false, 0x83, 7, m);
    emit_byte(e, (uint8_t)value);
}

/* VEX.128 prefix of three bytes; map 2 is 0F38, 3 is 0F3A; pp 2 is F3, 3 is F2. */
static void emit_vex(struct emitter *e, unsigned map, bool wide, unsigned vvvv, unsigned pp,
                     unsigned reg, unsigned index, unsigned rm)
{
    emit_byte(e, 0xc4);
    emit_byte(e, (reg < 8) << 7 | (index < 8) << 6 | (rm < 8) << 5 | map);
    emit_byte(e, wide << 7 | (~vvvv & 15) << 3 | pp);
}

void emit_rorx(struct emitter *e, enum host_register to, enum host_register from, uint8_t count)
{
    emit_vex(e, 3, true, 0, 3, to, 0, from);
    emit_byte(e, 0xf0);
    emit_modrm_register(e, to, from);
    emit_byte(e, count);
}

static void emit_shift_x(struct emitter *e, unsigned pp, enum host_register to,
                         enum host_register from, enum host_register count)
{
    emit_vex(e, 2, true, count, pp, to, 0, from);
    emit_byte(e, 0xf7);
    emit_modrm_register(e, to, from);
}

void emit_sarx(struct emitter *e, enum host_register to, enum host_register from,
               enum host_register count)
{
    emit_shift_x(e, 2, to, from, count);
}

void emit_shlx(struct emitter *e, enum host_register to, enum host_register from,
               enum host_register count)
{
    emit_shift_x(e, 1, to, from, count);
}

void emit_shrx(struct emitter *e, enum host_register to, enum host_register from,
               enum host_register count)
{
    emit_shift_x(e, 3, to, from, count);
}

static void emit_bits_memory(struct emitter *e, unsigned pp, enum host_register to,
                             enum host_register from, struct host_memory m)
{
    if (m.gs)
        emit_byte(e, 0x65);
    emit_vex(e, 2, true, from, pp, to, high_bit_of(m.index), high_bit_of(m.base));
    emit_byte(e, 0xf5);
    emit_modrm_memory(e, to, &m);
}

void emit_pext_memory(struct emitter *e, enum host_register to, enum host_register from,
                      struct host_memory m)
{
    emit_bits_memory(e, 2, to, from, m);
}

void emit_pdep_memory(struct emitter *e, enum host_register to, enum host_register from,
                      struct host_memory m)
{
    emit_bits_memory(e, 3, to, from, m);
}

void emit_not(struct emitter *e, enum host_register r)
{
    emit_op_register(e, true, 0xf7, 2, r);
}

void emit_push(struct emitter *e, enum host_register r)
{
    emit_rex(e, false, 0, 0, r);
    emit_byte(e, 0x50 | (r & 7));
}

void emit_pop(struct emitter *e, enum host_register r)
{
    emit_rex(e, false, 0, 0, r);
    emit_byte(e, 0x58 | (r & 7));
}

void emit_push_memory(struct emitter *e, struct host_memory m)
{
    emit_op_memory(e, false, 0xff, 6, m);
}

void emit_pop_memory(struct emitter *e, struct host_memory m)
{
    emit_op_memory(e, false, 0x8f, 0, m);
}

static uint8_t *emit_displacement(struct emitter *e)
{
    uint8_t *site = e->at;

    emit_u32(e, 0);
    return site;
}

uint8_t *emit_jmp32(struct emitter *e)
{
    emit_byte(e, 0xe9);
    return emit_displacement(e);
}

uint8_t *emit_jcc32(struct emitter *e, unsigned condition)
{
    emit_byte(e, 0x0f);
    emit_byte(e, 0x80 | condition);
    return emit_displacement(e);
}

void emit_link(uint8_t *site, const uint8_t *target)
{
    int32_t displacement = (int32_t)(target - (site + 4));

    memcpy(site, &displacement, 4);
}

static void emit_link_checked(struct emitter *e, uint8_t *site, const uint8_t *target)
{
    if (!e->overflow)
        emit_link(site, target);
}

void emit_jmp_to(struct emitter *e, const uint8_t *target)
{
    emit_link_checked(e, emit_jmp32(e), target);
}

void emit_jmp_memory(struct emitter *e, struct host_memory m)
{
    emit_op_memory(e, false, 0xff, 4, m);
}

void emit_jrcxz(struct emitter *e, int8_t skip)
{
    emit_byte(e, 0xe3);
    emit_byte(e, (uint8_t)skip);
}

void emit_align(struct emitter *e, unsigned ahead, unsigned alignment)
{
    /* The recommended multi-byte NOPs (Intel SDM volume 2, NOP). */
    static const uint8_t nops[8][7] = {
        {0},
        {0x90},
        {0x66, 0x90},
        {0x0f, 0x1f, 0x00},
        {0x0f, 0x1f, 0x40, 0x00},
        {0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
    };
    unsigned pad = -(unsigned)((uintptr_t)e->at + ahead) & (alignment - 1);

    while (pad) {
        unsigned count = pad > 7 ? 7 : pad;

        emit_bytes(e, nops[count], count);
        pad -= count;
    }
}
