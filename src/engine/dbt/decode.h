/*
 * Decoding: Zydis gives the operands and flag effects; here each instruction also gets a class,
 * which says how the translator treats it, and is refused if the guest's CPUID does not offer it.
 */
#ifndef SILL_ENGINE_DBT_DECODE_H
#define SILL_ENGINE_DBT_DECODE_H

#include <Zydis/Zydis.h>

#include "engine/dbt/insn.h"

enum insn_class {
    INSN_NATIVE,    /* re-emitted with host registers and a checked memory operand */
    INSN_NOTHING,   /* hints: no code at all */
    INSN_IN_C,      /* insn_execute() */
    INSN_IN_C_END,  /* insn_execute(), and the block ends */
    INSN_SLOW,      /* slow.c executes it (gathers) */
    INSN_UNDEFINED, /* #UD */
    INSN_UNIT_OFF,  /* needs a vector unit that is switched off */
    INSN_LEA,
    INSN_PUSH,
    INSN_POP,
    INSN_LEAVE,
    INSN_PUSHA,
    INSN_POPA,
    INSN_STRING,        /* without REP */
    INSN_REP,           /* REP MOVS, REP STOS */
    INSN_SEGMENT_STORE, /* a selector to a register or memory */
    INSN_FAR,           /* a far transfer in real or virtual-8086 mode */
    INSN_SEGMENT_LOAD,  /* a data segment in real or virtual-8086 mode */
    INSN_CALL,          /* near, relative */
    INSN_CALL_INDIRECT,
    INSN_JMP,
    INSN_JMP_INDIRECT,
    INSN_JCC,
    INSN_JRCXZ,
    INSN_LOOP,
    INSN_RET,
    INSN_BIT_MEMORY, /* bt/bts/btr/btc memory, register: the bit offset moves the address */
    INSN_IMAGE,      /* FXSAVE, XSAVE, FNSTENV and the like: inline in the forms that matter */
    INSN_CLI,
    INSN_STI,
    INSN_STAC,    /* only where SMAP is on */
    INSN_CLAC,    /* the same */
    INSN_CR_READ, /* MOV from CR0, CR2, CR3 or CR4, in 64-bit code at CPL 0 */
    INSN_SYSCALL, /* at CPL 3 in 64-bit code */
    INSN_SYSRET,  /* to 64-bit code */
    INSN_SWAPGS,
    INSN_PUSHF,
    INSN_RDTSC,
    INSN_PAUSE,
};

#define FLAGS_ARITH 0x8d5u /* CF PF AF ZF SF OF */

struct decoded {
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
    enum insn_class class;
    int32_t offset;                    /* in the code page */
    uint32_t flags_read;               /* arithmetic flags whose value matters */
    uint32_t flags_written;            /* arithmetic flags that are certainly replaced */
    const ZydisDecodedOperand *memory; /* explicit memory operand, or NULL */
};

/* Which instruction set extensions the guest has. */
struct decode_features {
    bool extension[ZYDIS_ISA_EXT_MAX_VALUE + 1];
    bool lzcnt, tzcnt;
    bool cx16, popcnt;
    bool amd; /* rules that differ between vendors */
};

void decode_features_init(struct decode_features *features, const struct x86_cpuid *cpuid);

/* Decodes one instruction of at most `available` bytes. False when more bytes are needed or the
 * bytes are no instruction; *too_short tells which. */
bool decode_one(struct decoded *d, const struct decode_features *features, uint32_t mode,
                const uint8_t *bytes, unsigned available, bool *too_short);

/* Whether it is an x87 or MMX instruction (with a memory operand), which raises #MF if an exception
 * is pending before all else. */
bool decode_is_x87(const struct decoded *d);
/* Whether it is of the XSAVE family, with its mask of components in edx:eax. */
bool decode_is_xsave(const struct decoded *d);

/* The form that insn_execute() takes. */
void decode_to_insn(const struct decoded *d, const uint8_t *bytes, struct insn *insn);

/* enum x86_segment_register; DS for none. */
uint8_t decode_segment_number(ZydisRegister segment);

/* Whether a block ends behind the instruction. */
bool decode_ends_block(const struct decoded *d);

/* Guest number (0..15) of a general register of any width; high bytes give 4..7. */
unsigned decode_gpr_number(ZydisRegister reg);

#endif
