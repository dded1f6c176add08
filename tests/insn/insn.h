/*
 * Single instructions on the bare CPU against an engine: the parts that all files here share.
 *
 * A case is one instruction (or a short sequence) with one set of inputs. The same loop (runner.S)
 * loads the inputs, jumps to the instruction and saves what came out; it runs in this process, at
 * CPL 3 under the host's kernel, and in a guest, at CPL 3 above a supervisor of a few lines. Code,
 * cases and data have the same virtual addresses in both, so everything that an instruction can see
 * is equal and everything that it leaves must be.
 *
 *     forms.c      which instructions there are, in the manuals' notation
 *     generate.c   encodes one and makes up inputs
 *     native.c     runs cases in this process
 *     guest.c      runs cases in a guest on an engine
 *     compare.c    finds and prints differences
 *     main.c       options, the loop, the verdict
 *
 * This file is also read by the assembler.
 */
#ifndef SILL_TESTS_INSN_H
#define SILL_TESTS_INSN_H

/* Virtual addresses, host and guest. All lie in one guest memory slot, identity mapped. */
#define REGION_BASE 0x10000000
#define REGION_SIZE 0x00800000
#define DATA_BASE 0x10001000 /* what memory operands point at; not mapped on either side */
#define DATA_SIZE 0x00004000
#define CONTROL_BASE 0x10010000 /* one page: the runner's variables below, its stack above */
#define CODE_BASE 0x10100000    /* runner, then the instructions; read-only to both */
#define CODE_SIZE 0x00080000
#define SNIPPET_BASE 0x10100800
#define CASES_BASE 0x10200000
#define CASES_SIZE 0x00400000

/* The runner's variables. */
#define CONTROL_CURRENT (CONTROL_BASE + 0x00) /* the case that is running */
#define CONTROL_END (CONTROL_BASE + 0x08)     /* one behind the last */
#define CONTROL_TARGET (CONTROL_BASE + 0x10)
#define CONTROL_RSP (CONTROL_BASE + 0x18)
#define CONTROL_PATH (CONTROL_BASE + 0x20)
#define CONTROL_FINISH (CONTROL_BASE + 0x28) /* where to go behind the last case */
#define CONTROL_STACK (CONTROL_BASE + 0xff0)

/* Segment bases during cases. */
#define CASE_FS_BASE 0x0000000010001234
#define CASE_GS_BASE 0x0000700000000010

/* Offsets in struct insn_state and struct insn_case (checked in native.c). */
#define STATE_GPR 0
#define STATE_RFLAGS 128
#define STATE_PATH 136
#define STATE_MEMORY 192
#define STATE_XSAVE 704
#define STATE_SIZE 1536
#define MEMORY_BYTES 512

#define CASE_IN 0
#define CASE_OUT 1536
#define CASE_CODE 3072
#define CASE_WINDOW 3080
#define CASE_FAULT_VECTOR 3088
#define CASE_FAULT_ERROR 3096
#define CASE_FAULT_RIP 3104
#define CASE_FAULT_ADDRESS 3112
#define CASE_BYTES 3136

/* x87, SSE and AVX: the XSAVE components that cases load and save. */
#define CASE_XSAVE_MASK 7

/* How a case ended. */
#define PATH_NEXT 0  /* it fell through to the instruction behind it, or faulted */
#define PATH_TAKEN 1 /* it branched to where it was told */

/* Guest-physical, identity mapped: the guest's supervisor. */
#define SUPERVISOR_CODE 0x8000
#define SUPERVISOR_STUB 16 /* bytes from one exception's entry to the next's */
#define EXIT_VECTOR 0x81
#define EXIT_PORT 0xf4
#define SELECTOR_KERNEL 0x10
#define SELECTOR_STACK 0x18
#define SELECTOR_USER32 0x23 /* these three are Linux's, so that MOV from CS shows the same */
#define SELECTOR_USER_SS 0x2b
#define SELECTOR_USER 0x33
#define SELECTOR_TSS 0x40

#ifndef __ASSEMBLER__

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

#define NO_FAULT 0xffffu

struct insn_state {
    uint64_t gpr[X86_GPR_COUNT];
    uint64_t rflags;
    uint64_t path;
    uint64_t reserved[6];
    uint8_t memory[MEMORY_BYTES]; /* at insn_case.window */
    uint8_t xsave[832];           /* standard format: legacy area, header, YMM high halves */
};

struct insn_case {
    struct insn_state in, out;
    uint64_t code;   /* address of the first instruction */
    uint64_t window; /* address of the memory that is loaded, saved and compared */
    uint64_t fault_vector, fault_error, fault_rip, fault_address;
    uint64_t undefined_flags; /* RFLAGS bits that need not agree */
    uint64_t reserved;
};

#define MAX_CASES (CASES_SIZE / CASE_BYTES)

enum cpu_feature {
    FEATURE_NONE,
    FEATURE_SSE3,
    FEATURE_SSSE3,
    FEATURE_SSE41,
    FEATURE_SSE42,
    FEATURE_AES,
    FEATURE_PCLMUL,
    FEATURE_SHA,
    FEATURE_POPCNT,
    FEATURE_LZCNT,
    FEATURE_MOVBE,
    FEATURE_BMI1,
    FEATURE_BMI2,
    FEATURE_ADX,
    FEATURE_CX16,
    FEATURE_FSGSBASE,
    FEATURE_AVX,
    FEATURE_AVX2,
    FEATURE_FMA,
    FEATURE_F16C,
    FEATURE_COUNT
};

/* One line of forms.c; its notation is explained there. */
struct form {
    const char *names; /* one, or as many as the encoding's index n takes values */
    const char *encoding;
    const char *options;
    enum cpu_feature feature;
};

extern const struct form forms[];
extern const unsigned form_count;
/* RFLAGS bits that the instruction leaves undefined. */
uint64_t forms_undefined_flags(const char *mnemonic);

/* Pseudo-random numbers; every form starts its own stream, so that it can be repeated alone. */
struct random {
    uint64_t state;
};
uint64_t random_next(struct random *random);
static inline uint64_t random_below(struct random *random, uint64_t limit)
{
    return random_next(random) % limit;
}

/* An encoded instruction with what its inputs must respect. */
struct snippet {
    const struct form *form;
    unsigned index; /* which of form->names */
    char name[64];  /* mnemonic, operand size and kind, for reports */
    uint8_t bytes[160];
    unsigned length;      /* of the instruction */
    unsigned code_length; /* with the jumps behind it */
    uint64_t address;
    unsigned size; /* operand size in bits: 8, 16, 32, 64; 0 where it has none */
    bool has_memory;
    int base, index_register, scale; /* -1: none */
    int64_t displacement;
    bool address32;
    uint64_t segment_base;
    uint64_t window;
    bool absolute; /* the target is fixed by the displacement */
    int vector_index;
    int bit_register;    /* holds a bit offset (BT and kin), or -1 */
    int count_immediate; /* of shifts, -1 when it is not immediate */
    bool is_jump;        /* relative, with its distance in the last jump_bytes */
    unsigned jump_bytes;
    bool is_sequence; /* of several instructions (struct sequence) */
    uint64_t undefined_flags;
};

/* How many encodings of a form are worth making: names times sizes times register/memory. */
unsigned generate_variants(const struct form *form);
/* Encodes variant `variant` of a form for `address`; `instance` sweeps the registers. False where
 * the variant does not exist. In a sequence, memory is addressed by at most one register. */
bool generate_snippet(struct snippet *snippet, const struct form *form, unsigned variant,
                      unsigned instance, uint64_t address, bool in_sequence, struct random *random);
/* Appends the jumps to where results are saved. */
void generate_exits(struct snippet *snippet);
/* Gives the address registers of the memory operand values that lead into the window. */
void generate_address(struct insn_case *c, const struct snippet *snippet, struct random *random);
/* Fills the inputs. */
void generate_inputs(struct insn_case *c, const struct snippet *snippet, struct random *random);

/* Several instructions that run as one case (sequence.c). */
#define SEQUENCE_PARTS 8
struct sequence {
    struct snippet whole;
    struct snippet parts[SEQUENCE_PARTS];
    unsigned count;
};
/* `usable`: which of `forms` this CPU and the engine have. */
void sequence_generate(struct sequence *sequence, uint64_t address, const bool usable[],
                       struct random *random);
void sequence_inputs(struct insn_case *c, const struct sequence *sequence, struct random *random);
/* Puts NOPs in place of an instruction; false if that is done already. */
bool sequence_drop(struct sequence *sequence, unsigned index);

/* The bare CPU. native_setup() maps the region at its addresses; -errno and a message. */
SILL_CHECKED int native_setup(struct error *err);
/* `cases` and `code` are copied in, results copied out. */
void native_run(struct insn_case *cases, unsigned count, const uint8_t *code, size_t code_size);
bool native_has(enum cpu_feature feature);
/* The CPUID leaf (subleaf 0) that shows a feature, and whether its contents do. */
uint32_t feature_leaf(enum cpu_feature feature);
bool feature_in(const struct x86_cpuid_leaf *leaf, enum cpu_feature feature);

/* An engine. */
struct guest;
SILL_CHECKED int guest_new(struct guest **out, const struct engine_ops *ops, struct error *err);
void guest_free(struct guest *guest);
bool guest_has(const struct guest *guest, enum cpu_feature feature);
/* As native_run(). Cases that end the guest or do not end in time get that as their fault. */
SILL_CHECKED int guest_run(struct guest *guest, struct insn_case *cases, unsigned count,
                           const uint8_t *code, size_t code_size, struct error *err);
#define FAULT_HANG 0xfffe /* in fault_vector */
#define FAULT_CRASH 0xfffd

/* True when the outcomes agree; else, with `verbose`, prints what differs and the inputs. */
bool compare_outcomes(const struct snippet *snippet, const struct insn_case *bare,
                      const struct insn_case *engine, bool verbose);

/* runner.S */
extern const uint8_t runner_begin[], runner_save_next[], runner_save_taken[], runner_guest_exit[],
    runner_end[];
extern const uint8_t supervisor_begin[], supervisor_end[];
void runner_call(void *code, uint64_t fs_base, uint64_t gs_base);
/* Addresses of the copies. */
#define RUNNER_ADDRESS(label) (CODE_BASE + (uint64_t)((label)-runner_begin))

#endif
#endif
