/*
 * The emitter: appends host instructions to a buffer. Each function is named after the instruction
 * it writes; 64-bit operands unless the name says otherwise. The buffer is the writable view of the
 * code cache; jumps are relative, so code is right in the executable view too.
 *
 * Writing past the end sets `overflow` and drops the bytes; the translator checks once a block.
 */
#ifndef SILL_ENGINE_DBT_EMIT_H
#define SILL_ENGINE_DBT_EMIT_H

#include "base/types.h"
#include "engine/dbt/regmap.h"

struct emitter {
    uint8_t *at;
    uint8_t *end;
    bool overflow;
};

/* A host memory operand: [base + index * scale + disp], gs-relative if `gs`. */
struct host_memory {
    uint8_t base;  /* enum host_register or HOST_NONE */
    uint8_t index; /* enum host_register or HOST_NONE; never HOST_RSP */
    uint8_t scale; /* 1, 2, 4, 8 */
    bool gs;
    int32_t disp;
};

/* A field of the vCPU structure. */
#define VCPU_FIELD(field)                                                                          \
    ((struct host_memory){.base = HOST_NONE,                                                       \
                          .index = HOST_NONE,                                                      \
                          .scale = 1,                                                              \
                          .gs = true,                                                              \
                          .disp = (int32_t)offsetof(struct dbt_vcpu, field)})

static inline struct host_memory host_at(enum host_register base, int32_t disp)
{
    return (struct host_memory){.base = base, .index = HOST_NONE, .scale = 1, .disp = disp};
}

void emit_byte(struct emitter *e, uint8_t byte);
void emit_u32(struct emitter *e, uint32_t value);
void emit_u64(struct emitter *e, uint64_t value);
void emit_bytes(struct emitter *e, const uint8_t *bytes, unsigned count);

/* ModRM (+ SIB + displacement) for a register or memory operand; `reg` is the low three bits'
 * field. */
void emit_modrm_register(struct emitter *e, unsigned reg, unsigned rm);
void emit_modrm_memory(struct emitter *e, unsigned reg, const struct host_memory *m);

/* [gs] [REX] opcode ModRM for the common shapes; `wide` is REX.W, opcode may be 0x0fXX. */
void emit_op_register(struct emitter *e, bool wide, unsigned opcode, unsigned reg, unsigned rm);
void emit_op_memory(struct emitter *e, bool wide, unsigned opcode, unsigned reg,
                    struct host_memory m);

void emit_mov(struct emitter *e, enum host_register to, enum host_register from);
void emit_mov32(struct emitter *e, enum host_register to, enum host_register from);
void emit_mov_u32(struct emitter *e, enum host_register to, uint32_t value);
void emit_mov_u64(struct emitter *e, enum host_register to, uint64_t value);
void emit_load(struct emitter *e, enum host_register to, struct host_memory from);
void emit_load32(struct emitter *e, enum host_register to, struct host_memory from);
void emit_store(struct emitter *e, struct host_memory to, enum host_register from);
void emit_store32(struct emitter *e, struct host_memory to, enum host_register from);
void emit_store16(struct emitter *e, struct host_memory to, enum host_register from);
void emit_store32_imm(struct emitter *e, struct host_memory to, uint32_t value);
void emit_store8_imm(struct emitter *e, struct host_memory to, uint8_t value);
void emit_lea(struct emitter *e, enum host_register to, struct host_memory m);
void emit_lea32(struct emitter *e, enum host_register to, struct host_memory m);
void emit_add_memory(struct emitter *e, enum host_register to, struct host_memory m);
void emit_sub_memory(struct emitter *e, enum host_register to, struct host_memory m);
void emit_and32_imm(struct emitter *e, enum host_register r, uint32_t value);
void emit_cmp_imm(struct emitter *e, enum host_register r, int32_t value);
void emit_cmp32_memory_imm8(struct emitter *e, struct host_memory m, int8_t value);
void emit_rorx(struct emitter *e, enum host_register to, enum host_register from, uint8_t count);
void emit_sarx(struct emitter *e, enum host_register to, enum host_register from,
               enum host_register count);
void emit_shlx(struct emitter *e, enum host_register to, enum host_register from,
               enum host_register count);
void emit_shrx(struct emitter *e, enum host_register to, enum host_register from,
               enum host_register count);
/* pext to, from, [m] */
void emit_pext_memory(struct emitter *e, enum host_register to, enum host_register from,
                      struct host_memory m);
/* pdep to, from, [m] */
void emit_pdep_memory(struct emitter *e, enum host_register to, enum host_register from,
                      struct host_memory m);
void emit_not(struct emitter *e, enum host_register r);
void emit_push(struct emitter *e, enum host_register r);
void emit_pop(struct emitter *e, enum host_register r);
void emit_push_memory(struct emitter *e, struct host_memory m);
void emit_pop_memory(struct emitter *e, struct host_memory m);

/* Branches. The rel32 forms return where the displacement lies, for emit_link(). */
uint8_t *emit_jmp32(struct emitter *e);
uint8_t *emit_jcc32(struct emitter *e, unsigned condition);
void emit_jmp_to(struct emitter *e, const uint8_t *target);
void emit_jmp_memory(struct emitter *e, struct host_memory m);
/* jrcxz over the next `skip` bytes */
void emit_jrcxz(struct emitter *e, int8_t skip);
/* Makes the branch whose displacement is at `site` go to `target` (same view of the cache). */
void emit_link(uint8_t *site, const uint8_t *target);
/* No-operations until (at + ahead) is a multiple of `alignment` (a power of two, at most 16). */
void emit_align(struct emitter *e, unsigned ahead, unsigned alignment);

#endif
