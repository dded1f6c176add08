/*
 * Compares what the bare CPU and the engine made of a case, and prints the difference with the
 * instruction and the inputs that it can be repeated from.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "insn.h"

/* Of RFLAGS: CF PF AF ZF SF DF OF NT AC ID. The rest cannot change here, or (RF) belongs to how an
 * exception was delivered. */
#define ARITHMETIC_FLAGS 0x8d5ull /* CF PF AF ZF SF OF */
#define COMPARED_FLAGS 0x244cd5ull

static const char *const gpr_names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

/* XSAVE areas leave components in their initial state out; writes those states in. */
static void complete_xsave(const uint8_t *from, uint8_t *to)
{
    uint64_t present;

    memcpy(to, from, 832);
    memcpy(&present, from + 512, 8);
    memset(to + 28, 0, 4);
    memset(to + 416, 0, 160);
    if (!(present & 1)) {
        memset(to, 0, 24);
        to[0] = 0x7f;
        to[1] = 0x03;
        memset(to + 32, 0, 128);
    }
    if (!(present & 2))
        memset(to + 160, 0, 256);
    if (!(present & 4))
        memset(to + 576, 0, 256);
    for (int i = 0; i < 8; i++)
        memset(to + 32 + 16 * i + 10, 0, 6);
}

static void print_bytes(const char *name, const uint8_t *bytes, unsigned count)
{
    printf("%s", name);
    for (unsigned i = count; i-- > 0;)
        printf("%02x%s", bytes[i], i && i % 8 == 0 ? "_" : "");
}

/* One line for a value that differs. */
static void print_pair(const char *name, const uint8_t *in, const uint8_t *bare,
                       const uint8_t *engine, unsigned count)
{
    printf("    %-8s", name);
    print_bytes(" in ", in, count);
    print_bytes("  cpu ", bare, count);
    print_bytes("  engine ", engine, count);
    putchar('\n');
}

struct region {
    const char *name;
    unsigned offset, size, step;
};

static bool compare_xsave(const struct insn_case *bare, const struct insn_case *engine, bool print)
{
    static const struct region regions[] = {
        {"fcw", 0, 2, 2},      {"fsw", 2, 2, 2},           {"ftw", 4, 1, 1},    {"fop", 6, 2, 2},
        {"fip", 8, 8, 8},      {"fdp", 16, 8, 8},          {"mxcsr", 24, 4, 4}, {"st", 32, 128, 16},
        {"xmm", 160, 256, 16}, {"ymm high", 576, 256, 16},
    };
    uint8_t in[832], a[832], b[832];

    complete_xsave(bare->in.xsave, in);
    complete_xsave(bare->out.xsave, a);
    complete_xsave(engine->out.xsave, b);
    if (memcmp(a, b, 512) == 0 && memcmp(a + 576, b + 576, 256) == 0)
        return true;
    for (size_t r = 0; print && r < ARRAY_SIZE(regions); r++) {
        const struct region *g = &regions[r];
        for (unsigned at = 0; at < g->size; at += g->step) {
            unsigned o = g->offset + at;
            char name[16];
            snprintf(name, sizeof(name), g->size > g->step ? "%s%u" : "%s", g->name, at / g->step);
            if (memcmp(a + o, b + o, g->step) != 0)
                print_pair(name, in + o, a + o, b + o, g->step);
        }
    }
    return false;
}

static bool compare_memory(const struct insn_case *bare, const struct insn_case *engine, bool print)
{
    if (memcmp(bare->out.memory, engine->out.memory, MEMORY_BYTES) == 0)
        return true;
    for (unsigned at = 0; print && at < MEMORY_BYTES; at += 8) {
        char name[16];
        snprintf(name, sizeof(name), "[+%03x]", at);
        if (memcmp(bare->out.memory + at, engine->out.memory + at, 8) != 0)
            print_pair(name, bare->in.memory + at, bare->out.memory + at, engine->out.memory + at,
                       8);
    }
    return false;
}

static void print_number(const char *name, uint64_t in, uint64_t bare, uint64_t engine)
{
    printf("    %-8s in %016" PRIx64 "  cpu %016" PRIx64 "  engine %016" PRIx64 "\n", name, in,
           bare, engine);
}

/* Linux reports every user access above its half as a protection violation (P), so that it tells
 * nothing of what is mapped there. */
#define TASK_SIZE_MAX 0x7ffffffff000ull

static uint64_t visible_error(const struct insn_case *c)
{
    return c->fault_vector == 14 && c->fault_address >= TASK_SIZE_MAX ? c->fault_error | 1
                                                                      : c->fault_error;
}

/* Calls and far returns check their target and use the stack, POPA pops one register after another,
 * the x87 environment is many accesses: which fault comes first, and what is done then, is not
 * architectural. */
static bool has_open_order(const struct snippet *s)
{
    switch (s->known ? s->z.mnemonic : ZYDIS_MNEMONIC_INVALID) {
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FRSTOR:
        return true;
    case ZYDIS_MNEMONIC_RET:
        return s->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
    default:
        return false;
    }
}

static bool same_address(const struct snippet *s, uint64_t a, uint64_t b)
{
    return (a > b ? a - b : b - a) <= s->slack;
}

static bool compare_fault(const struct snippet *s, const struct insn_case *bare,
                          const struct insn_case *engine, bool print)
{
    bool page_fault = bare->fault_vector == 14;

    if (bare->fault_vector == engine->fault_vector &&
        (bare->fault_vector == NO_FAULT ||
         (visible_error(bare) == visible_error(engine) && bare->fault_rip == engine->fault_rip &&
          (!page_fault || same_address(s, bare->fault_address, engine->fault_address)))))
        return true;
    if (print && engine->fault_vector == FAULT_HANG)
        printf("    the engine hangs\n");
    else if (print && engine->fault_vector == FAULT_CRASH)
        printf("    the guest shuts down (triple fault)\n");
    else if (print)
        printf("    exception (ffff: none): cpu %" PRIx64 " error %" PRIx64 " at %" PRIx64
               " cr2 %" PRIx64 ", engine %" PRIx64 " error %" PRIx64 " at %" PRIx64 " cr2 %" PRIx64
               "\n",
               bare->fault_vector, bare->fault_error, bare->fault_rip,
               page_fault ? bare->fault_address : 0, engine->fault_vector, engine->fault_error,
               engine->fault_rip, page_fault ? engine->fault_address : 0);
    return false;
}

static bool compare_segments(const struct insn_case *bare, const struct insn_case *engine,
                             bool print)
{
    static const char *const names[] = {"ds", "es", "ss", "fs", "gs"};
    bool same = true;

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        uint16_t a = bare->out.selectors[i], b = engine->out.selectors[i];

        /* The RPL of a null selector lasts until the next return from an interrupt. */
        if (a == b || (a | b) <= 3)
            continue;
        same = false;
        if (print)
            print_number(names[i], 0, bare->out.selectors[i], engine->out.selectors[i]);
    }
    if (bare->out.fs_base != engine->out.fs_base || bare->out.gs_base != engine->out.gs_base) {
        same = false;
        if (print) {
            print_number("fs base", CASE_FS_BASE, bare->out.fs_base, engine->out.fs_base);
            print_number("gs base", CASE_GS_BASE, bare->out.gs_base, engine->out.gs_base);
        }
    }
    return same;
}

/* The software engine may lose arithmetic flags that nothing reads before they are written; the
 * frame of an exception is the one place where that shows (docs/architecture.md). */
static bool may_lose_flags(const struct snippet *s, const struct insn_case *bare)
{
    const ZydisAccessedFlags *f = s->known ? s->z.cpu_flags : NULL;
    uint64_t written = f ? f->modified | f->set_0 | f->set_1 | f->undefined : 0;

    /* What faulted may be another instruction than the first. */
    return s->is_sequence || bare->fault_rip != (bare->far ? (uint32_t)bare->far : bare->code) ||
           (written & ARITHMETIC_FLAGS) == ARITHMETIC_FLAGS;
}

static bool compare_all(const struct snippet *s, const struct insn_case *bare,
                        const struct insn_case *engine, bool print)
{
    bool masked = bare->fault_vector == NO_FAULT || s->is_sequence;
    uint64_t flags = (bare->out.rflags ^ engine->out.rflags) & COMPARED_FLAGS &
                     ~(masked ? bare->undefined_flags : 0);
    bool same = compare_fault(s, bare, engine, print);

    if (bare->fault_vector != NO_FAULT && may_lose_flags(s, bare))
        flags &= ~(uint64_t)ARITHMETIC_FLAGS;
    if (!same && engine->fault_vector >= FAULT_CRASH && engine->fault_vector != NO_FAULT)
        return false; /* there are no results to compare */
    for (int i = 0; i < X86_GPR_COUNT; i++) {
        /* Outside 64-bit code the upper halves of the first eight are undefined. */
        uint64_t mask = s->segments && i < 8 ? 0xffffffff : ~0ull;
        if ((bare->out.gpr[i] ^ engine->out.gpr[i]) & mask) {
            same = false;
            if (print)
                print_number(gpr_names[i], bare->in.gpr[i], bare->out.gpr[i], engine->out.gpr[i]);
        }
    }
    if (flags) {
        same = false;
        if (print)
            print_number("rflags", bare->in.rflags, bare->out.rflags, engine->out.rflags);
    }
    if (bare->out.path != engine->out.path) {
        same = false;
        if (print)
            printf("    branch: cpu %s, engine %s\n", bare->out.path ? "taken" : "not taken",
                   engine->out.path ? "taken" : "not taken");
    }
    if (s->segments)
        same &= compare_segments(bare, engine, print);
    same &= compare_xsave(bare, engine, print);
    same &= compare_memory(bare, engine, print);
    return same;
}

static void print_code(const struct snippet *s)
{
    static const ZydisMachineMode modes[] = {ZYDIS_MACHINE_MODE_LONG_COMPAT_16,
                                             ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
                                             ZYDIS_MACHINE_MODE_LONG_64};
    ZydisDisassembledInstruction insn;
    unsigned at = 0;

    while (at < s->length) {
        bool known = ZYAN_SUCCESS(ZydisDisassembleIntel(modes[s->width / 32], s->address + at,
                                                        s->bytes + at, s->length - at, &insn));
        unsigned length = known ? insn.info.length : s->length - at;
        if (s->is_sequence && s->bytes[at] == 0x90) { /* dropped while shrinking */
            at++;
            continue;
        }
        printf("    %08" PRIx64 "  ", s->address + at);
        for (unsigned i = 0; i < length; i++)
            printf("%02x ", s->bytes[at + i]);
        printf(" %s\n", known ? insn.text : "(no instruction)");
        at += length;
    }
}

bool compare_outcomes(const struct snippet *s, const struct insn_case *bare,
                      const struct insn_case *engine, bool verbose)
{
    char name[128] = "sequence";

    if (bare->fault_vector == FAULT_HANG) /* a far transfer to where it is, for example */
        return true;
    if (has_open_order(s) && bare->fault_vector != NO_FAULT && engine->fault_vector < 32 &&
        bare->fault_rip == engine->fault_rip)
        return true;
    if (compare_all(s, bare, engine, false))
        return true;
    if (!verbose)
        return false;
    if (s->form)
        form_describe(s->form, name, sizeof(name));
    printf("differs: %s, %u-bit code, cs %02x, data segments %02x\n", name, s->width,
           s->code_selector, s->data_selector);
    print_code(s);
    compare_all(s, bare, engine, true);
    printf("    inputs: rflags %" PRIx64 ", memory operands around %" PRIx64 "\n    ",
           bare->in.rflags, bare->window);
    for (int i = 0; i < X86_GPR_COUNT; i++)
        printf("%s %" PRIx64 "%s", gpr_names[i], bare->in.gpr[i], i == 7 ? "\n    " : " ");
    putchar('\n');
    return false;
}
