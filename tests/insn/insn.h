/*
 * Single instructions on the bare CPU against an engine: the parts that all files here share.
 *
 * A case is one instruction (or a short sequence) with one set of inputs. The same loop (runner.S)
 * loads the inputs, jumps to the instruction and saves what came out; it runs in this process, at
 * CPL 3 under the host's kernel, and in a guest, at CPL 3 above a supervisor of a few lines. Code,
 * cases and data have the same virtual addresses in both, so everything that an instruction can see
 * is equal and everything that it leaves must be. 32- and 16-bit code runs in compatibility mode,
 * through code and data segments that both sides have under the same selectors.
 *
 *     forms.c      which instructions there are: a walk through the opcode space
 *     features.c   which of them the CPU and the engine's guests have
 *     encode.c     encodes one, with prefixes, registers and addressing made up
 *     inputs.c     makes up what it finds in registers and memory
 *     sequence.c   several of them in a row
 *     native.c     runs cases in this process
 *     guest.c      runs cases in a guest on an engine
 *     compare.c    finds and prints differences
 *     shrink.c     makes a case that differs as small as it can be
 *     main.c       options, the loop, the verdict
 *
 * This file is also read by the assembler.
 */
#ifndef SILL_TESTS_INSN_H
#define SILL_TESTS_INSN_H

/*
 * Virtual addresses, host and guest. All lie in one guest memory slot, identity mapped. What memory
 * operands point at, by pages:
 *
 *     10000000  absent
 *     10001000  four pages of data, then one that is read-only, then an absent one
 *     10007000  a page of data, then an absent one
 */
#define REGION_BASE 0x10000000
#define REGION_SIZE 0x00800000
#define DATA_BASE 0x10001000
#define DATA_SIZE 0x00004000
#define READ_ONLY_BASE (DATA_BASE + DATA_SIZE)
#define ISLAND_BASE 0x10007000
#define CONTROL_BASE 0x10010000 /* one page: the runner's variables below, its stack above */
#define CODE_BASE 0x10100000    /* the instructions, INT3 around them; read-only to both */
#define CODE_SIZE 0x00010000    /* so that 16-bit code reaches all of it */
#define RUNNER_BASE 0x10110000  /* one page behind, which it does not reach */
#define RUNNER_SIZE 0x00001000
#define SNIPPET_BASE 0x10100100
#define CASES_BASE 0x10200000
#define CASES_SIZE 0x00400000

/* The runner's variables. */
#define CONTROL_CURRENT (CONTROL_BASE + 0x00) /* the case that is running */
#define CONTROL_END (CONTROL_BASE + 0x08)     /* one behind the last */
#define CONTROL_TARGET (CONTROL_BASE + 0x10)
#define CONTROL_RSP (CONTROL_BASE + 0x18)
#define CONTROL_PATH (CONTROL_BASE + 0x20)
#define CONTROL_FINISH (CONTROL_BASE + 0x28) /* where to go behind the last case */
#define CONTROL_FAR (CONTROL_BASE + 0x30)    /* offset and selector of a far jump */
#define CONTROL_STACK (CONTROL_BASE + 0xff0)

/* Segment bases during cases. */
#define CASE_FS_BASE 0x0000000010001234
#define CASE_GS_BASE 0x0000700000000010

/* Offsets in struct insn_state and struct insn_case (checked in native.c). */
#define STATE_GPR 0
#define STATE_RFLAGS 128
#define STATE_PATH 136
#define STATE_SELECTORS 144
#define STATE_FS_BASE 160
#define STATE_GS_BASE 168
#define STATE_MEMORY 192
#define STATE_XSAVE 1216
#define STATE_SIZE 2048
#define MEMORY_BYTES 1024

#define CASE_IN 0
#define CASE_OUT 2048
#define CASE_CODE 4096
#define CASE_WINDOW 4104
#define CASE_FAULT_VECTOR 4112
#define CASE_FAULT_ERROR 4120
#define CASE_FAULT_RIP 4128
#define CASE_FAULT_ADDRESS 4136
#define CASE_ENTRY 4144
#define CASE_FAR 4152
#define CASE_SELECTOR 4160
#define CASE_BYTES 4224

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
#define SELECTOR_LDT 0x50

/* Segments of the local descriptor table: of code the base is CODE_BASE, of data REGION_BASE, and
 * the limit 64 KiB. */
#define SELECTOR_CODE16 0x07
#define SELECTOR_DATA16 0x0f
#define SELECTOR_CODE32 0x17
#define SELECTOR_DATA32 0x1f

#ifndef __ASSEMBLER__

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <Zydis/Zydis.h>

#include "engine/engine.h"

#define NO_FAULT 0xffffu
#define INT3 0xcc

struct insn_state {
    uint64_t gpr[X86_GPR_COUNT];
    uint64_t rflags;
    uint64_t path;
    uint16_t selectors[8]; /* DS ES SS FS GS, where the case may change them */
    uint64_t fs_base, gs_base;
    uint64_t reserved[2];
    uint8_t memory[MEMORY_BYTES]; /* at insn_case.window */
    uint8_t xsave[832];           /* standard format: legacy area, header, YMM high halves */
};

struct insn_case {
    struct insn_state in, out;
    uint64_t code;   /* linear address of the first instruction */
    uint64_t window; /* address of the memory that is loaded, saved and compared */
    uint64_t fault_vector, fault_error, fault_rip, fault_address;
    uint64_t entry;           /* where the runner jumps: `code`, or its far jump by `far` */
    uint64_t far;             /* offset, and selector in bits 47:32 */
    uint64_t selector;        /* of DS, ES and SS; 0: segments are not touched */
    uint64_t undefined_flags; /* RFLAGS bits that need not agree */
    bool refused;             /* #UD is expected, whatever the bare CPU would do */
    uint64_t reserved[5];
};

#define MAX_CASES (CASES_SIZE / CASE_BYTES)

/* --- features.c --- */

/* Whether CPUID hides the instruction set extension, so that its instructions must raise #UD. Those
 * that are NOPs without their extension are never hidden. */
bool feature_hidden(const struct x86_cpuid *cpuid, ZydisISASet set, ZydisISAExt ext);
/* The leaves of the bare CPU's that feature_hidden() looks at. */
void native_cpuid(struct x86_cpuid *cpuid);

/* --- forms.c --- */

enum form_encoding { FORM_LEGACY, FORM_VEX, FORM_EVEX };

/* An opcode with all that decides which instruction it is. */
struct form {
    uint8_t width; /* of the code: 64, 32 or 16 */
    uint8_t encoding;
    uint8_t map;    /* 0; 1: 0F; 2: 0F38; 3: 0F3A */
    uint8_t prefix; /* 0, 66, F2 or F3 */
    uint8_t opcode;
    bool w, l; /* REX.W or VEX.W; VEX.L */
    bool modrm, memory;
    bool vvvv;        /* VEX.vvvv names a register */
    int8_t digit, rm; /* of ModRM, -1: a register, any */
    bool known;       /* Zydis knows it */
    uint16_t mnemonic;
    uint16_t isa_set, isa_ext;
};

extern struct form *forms;
extern unsigned form_count;
/* Makes the table. */
SILL_CHECKED int forms_walk(void);
void form_describe(const struct form *form, char *to, size_t size);

/* Pseudo-random numbers; every form starts its own stream, so that it can be repeated alone. */
struct random {
    uint64_t state;
};
uint64_t random_next(struct random *random);
static inline uint64_t random_below(struct random *random, uint64_t limit)
{
    return random_next(random) % limit;
}
static inline bool one_in(struct random *random, unsigned n)
{
    return random_below(random, n) == 0;
}

/* --- encode.c --- */

/* An encoded instruction, or sequence, with what its inputs must respect. */
struct snippet {
    const struct form *form;
    uint8_t width; /* of the code */
    uint8_t bytes[192];
    unsigned length;      /* of the instruction */
    unsigned code_length; /* with the jumps behind it */
    uint64_t address;
    bool known; /* `z` and `operand` are filled */
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
    int memory; /* which operand is the explicit memory operand, or -1 */
    uint64_t window;
    bool loads_segments;    /* it loads segment registers, perhaps CS */
    bool segments;          /* segment registers are loaded, saved and compared */
    uint16_t code_selector; /* of 32- and 16-bit code, and with `segments` */
    uint16_t data_selector; /* likewise */
    uint64_t undefined_flags;
    uint64_t slack;   /* how far apart the addresses of page faults may be */
    bool is_sequence; /* of several instructions (struct sequence) */
    bool refused;     /* of the instruction or of the first that is */
};

void snippet_decoder(ZydisDecoder *decoder, unsigned width);
/* Encodes an instance of a form for `address`. False where what came out is not to be run. */
bool encode_form(struct snippet *snippet, const struct form *form, uint64_t address,
                 bool in_sequence, struct random *random);
/* Appends the jumps to where results are saved. */
void encode_exits(struct snippet *snippet);
/* Linear base of a segment during cases. */
uint64_t segment_base(const struct snippet *snippet, ZydisRegister segment);
/* Offset of the jump to "taken" in the snippet's code segment. */
uint64_t taken_offset(const struct snippet *snippet);

/* --- inputs.c --- */

/* Windows: across a page boundary; before an absent and a read-only page; behind an absent one. */
#define WINDOW_USUAL (DATA_BASE + 0x2000 - MEMORY_BYTES / 2)
#define WINDOW_ABSENT (ISLAND_BASE + 0x1000 - MEMORY_BYTES)
#define WINDOW_READ_ONLY (READ_ONLY_BASE - MEMORY_BYTES)
#define WINDOW_FRONT ISLAND_BASE

/* A selector to load, mostly one that can be. */
uint16_t random_selector(const struct snippet *snippet, bool code, struct random *random);

/* Gives the address registers of the memory operand values that lead into the window. */
void inputs_address(struct insn_case *c, const struct snippet *snippet, struct random *random);
/* Fills the inputs. */
void inputs_generate(struct insn_case *c, const struct snippet *snippet, struct random *random);

/* Several instructions that run as one case (sequence.c). */
#define SEQUENCE_PARTS 8
struct sequence {
    struct snippet whole;
    struct snippet parts[SEQUENCE_PARTS];
    unsigned count;
};
/* `usable`: which of `forms` the CPU and the engine have. */
void sequence_generate(struct sequence *sequence, uint64_t address, const bool usable[],
                       struct random *random);
void sequence_inputs(struct insn_case *c, const struct sequence *sequence, struct random *random);
/* Puts NOPs in place of an instruction; false if that is done already. */
bool sequence_drop(struct sequence *sequence, unsigned index);

/* --- native.c --- */

/* The bare CPU. native_setup() maps the region at its addresses; -errno and a message. */
SILL_CHECKED int native_setup(struct error *err);
/* `cases` and `code` are copied in, results copied out. */
void native_run(struct insn_case *cases, unsigned count, const uint8_t *code, size_t code_size);
/* The local descriptor table's entries, as the CPU sees them. */
#define CASE_LDT_ENTRIES 4
extern uint64_t ldt_descriptors[CASE_LDT_ENTRIES];
extern bool has_ldt; /* the kernel may not offer one: then there is no 16-bit code */

/* --- guest.c: an engine --- */
struct guest;
SILL_CHECKED int guest_new(struct guest **out, const struct engine_ops *ops, struct error *err);
void guest_free(struct guest *guest);
const struct x86_cpuid *guest_cpuid(const struct guest *guest);
/* As native_run(). Cases that end the guest or do not end in time get that as their fault. */
SILL_CHECKED int guest_run(struct guest *guest, struct insn_case *cases, unsigned count,
                           const uint8_t *code, size_t code_size, struct error *err);
#define FAULT_HANG 0xfffe /* in fault_vector */
#define FAULT_CRASH 0xfffd

/* --- compare.c --- */

/* True when the outcomes agree; else, with `verbose`, prints what differs and the inputs. */
bool compare_outcomes(const struct snippet *snippet, const struct insn_case *bare,
                      const struct insn_case *engine, bool verbose);

/* --- shrink.c --- */

/* A case that differs. */
struct failure {
    struct sequence *sequence; /* or NULL */
    struct snippet *snippet;   /* its `whole`, where it is a sequence */
    struct insn_case inputs;
};
/* Runs the failure's code and inputs on both sides; true if they (still) differ. */
typedef bool differs_fn(void *opaque, const struct failure *failure);
/* Takes away instructions and inputs as long as the rest differs. */
void shrink(struct failure *failure, differs_fn *differs, void *opaque);

/* runner.S */
extern const uint8_t runner_begin[], runner_save_next[], runner_save_taken[], runner_guest_exit[],
    runner_far[], runner_end[];
extern const uint8_t supervisor_begin[], supervisor_end[];
void runner_call(void *code, uint64_t fs_base, uint64_t gs_base);
/* Addresses of the copies. */
#define RUNNER_ADDRESS(label) (RUNNER_BASE + (uint64_t)((label)-runner_begin))

/* What reads of the read-only page give. */
static inline uint8_t read_only_byte(unsigned offset)
{
    return (uint8_t)(offset * 37 + (offset >> 8));
}

#endif
#endif
