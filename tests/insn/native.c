/*
 * Runs cases on the bare CPU, in this process. The region's pages lie at the same addresses as in
 * the guest. An exception arrives as a signal; the handler notes it in the current case, as the
 * guest's supervisor does, and goes on where results are saved.
 */
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <x86intrin.h>

#include "insn.h"

#define CHECK(type, field, offset)                                                                 \
    _Static_assert(offsetof(struct type, field) == (offset), "insn.h and the assembler disagree")
CHECK(insn_state, gpr, STATE_GPR);
CHECK(insn_state, rflags, STATE_RFLAGS);
CHECK(insn_state, path, STATE_PATH);
CHECK(insn_state, memory, STATE_MEMORY);
CHECK(insn_state, xsave, STATE_XSAVE);
CHECK(insn_case, out, CASE_OUT);
CHECK(insn_case, code, CASE_CODE);
CHECK(insn_case, window, CASE_WINDOW);
CHECK(insn_case, fault_vector, CASE_FAULT_VECTOR);
CHECK(insn_case, fault_address, CASE_FAULT_ADDRESS);
_Static_assert(sizeof(struct insn_state) == STATE_SIZE, "insn.h and the assembler disagree");
_Static_assert(sizeof(struct insn_case) == CASE_BYTES, "insn.h and the assembler disagree");

static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
static uint64_t host_fs_base;

#define RUNNER_BYTES ((uint64_t)(runner_end - runner_begin))
/* A location of the region as a C object. */
#define AT(type, address) (*(type *)(uintptr_t)(address))

/* Runs at first with the FS base of the case: nothing in it may look for thread-local data. */
__attribute__((no_sanitize("address", "undefined"))) static void
on_fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    greg_t *r = u->uc_mcontext.gregs;

    _writefsbase_u64(host_fs_base);
    __writeeflags(__readeflags() & ~(1ull << 18)); /* the case's AC is not for this function */
    if ((uint64_t)r[REG_RIP] < CODE_BASE || (uint64_t)r[REG_RIP] >= CODE_BASE + RUNNER_BYTES) {
        struct insn_case *c = AT(struct insn_case *, CONTROL_CURRENT);
        c->fault_vector = (uint64_t)r[REG_TRAPNO];
        c->fault_error = (uint64_t)r[REG_ERR];
        c->fault_rip = (uint64_t)r[REG_RIP];
        c->fault_address = (uint64_t)r[REG_CR2];
        r[REG_RIP] = (greg_t)RUNNER_ADDRESS(runner_save_next);
    } else {
        /* The loop itself failed: a defect here. Let it fail again without this handler. */
        signal(number, SIG_DFL);
    }
    _writefsbase_u64(CASE_FS_BASE);
}

static int map(uint64_t address, uint64_t size, int protection, struct error *err)
{
    void *p = mmap((void *)(uintptr_t)address, size, protection,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (p == (void *)(uintptr_t)address)
        return 0;
    return error_set(err, -errno, "cannot map %#llx: %s", (unsigned long long)address,
                     strerror(errno));
}

int native_setup(struct error *err)
{
    static uint8_t signal_stack[65536];
    const stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
    int r;

    r = map(DATA_BASE, DATA_SIZE, PROT_READ | PROT_WRITE, err);
    if (!r)
        r = map(CONTROL_BASE, GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE, err);
    if (!r)
        r = map(CODE_BASE, CODE_SIZE, PROT_READ, err);
    if (!r)
        r = map(CASES_BASE, CASES_SIZE, PROT_READ | PROT_WRITE, err);
    if (!r && sigaltstack(&stack, NULL))
        r = error_set(err, -errno, "sigaltstack: %s", strerror(errno));
    return r;
}

void native_run(struct insn_case *cases, unsigned count, const uint8_t *code, size_t code_size)
{
    struct sigaction before[ARRAY_SIZE(fault_signals)];
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    void *code_at = (void *)CODE_BASE;
    struct insn_case *cases_at = (struct insn_case *)CASES_BASE;

    if (mprotect(code_at, CODE_SIZE, PROT_READ | PROT_WRITE))
        abort();
    memcpy(code_at, runner_begin, (size_t)(runner_end - runner_begin));
    memcpy((void *)SNIPPET_BASE, code, code_size);
    if (mprotect(code_at, CODE_SIZE, PROT_READ | PROT_EXEC))
        abort();
    memcpy(cases_at, cases, count * sizeof(*cases));
    memset((void *)DATA_BASE, 0, DATA_SIZE);
    AT(struct insn_case *, CONTROL_CURRENT) = cases_at;
    AT(struct insn_case *, CONTROL_END) = cases_at + count;

    host_fs_base = _readfsbase_u64();
    for (size_t i = 0; i < ARRAY_SIZE(fault_signals); i++)
        sigaction(fault_signals[i], &action, &before[i]);
    runner_call(code_at, CASE_FS_BASE, CASE_GS_BASE);
    for (size_t i = 0; i < ARRAY_SIZE(fault_signals); i++)
        sigaction(fault_signals[i], &before[i], NULL);
    memcpy(cases, cases_at, count * sizeof(*cases));
}

/* Where CPUID shows each feature. */
static const struct {
    uint32_t leaf;
    enum { EAX, EBX, ECX, EDX } reg;
    unsigned bit;
} feature_bits[FEATURE_COUNT] = {
    [FEATURE_SSE3] = {1, ECX, 0},           [FEATURE_PCLMUL] = {1, ECX, 1},
    [FEATURE_SSSE3] = {1, ECX, 9},          [FEATURE_FMA] = {1, ECX, 12},
    [FEATURE_CX16] = {1, ECX, 13},          [FEATURE_SSE41] = {1, ECX, 19},
    [FEATURE_SSE42] = {1, ECX, 20},         [FEATURE_MOVBE] = {1, ECX, 22},
    [FEATURE_POPCNT] = {1, ECX, 23},        [FEATURE_AES] = {1, ECX, 25},
    [FEATURE_AVX] = {1, ECX, 28},           [FEATURE_F16C] = {1, ECX, 29},
    [FEATURE_FSGSBASE] = {7, EBX, 0},       [FEATURE_BMI1] = {7, EBX, 3},
    [FEATURE_AVX2] = {7, EBX, 5},           [FEATURE_BMI2] = {7, EBX, 8},
    [FEATURE_ADX] = {7, EBX, 19},           [FEATURE_SHA] = {7, EBX, 29},
    [FEATURE_LZCNT] = {0x80000001, ECX, 5},
};

bool feature_in(const struct x86_cpuid_leaf *leaf, enum cpu_feature feature)
{
    const uint32_t registers[] = {leaf->eax, leaf->ebx, leaf->ecx, leaf->edx};

    return registers[feature_bits[feature].reg] >> feature_bits[feature].bit & 1;
}

uint32_t feature_leaf(enum cpu_feature feature)
{
    return feature_bits[feature].leaf;
}

bool native_has(enum cpu_feature feature)
{
    struct x86_cpuid_leaf leaf = {0};

    return feature == FEATURE_NONE || (__get_cpuid_count(feature_leaf(feature), 0, &leaf.eax,
                                                         &leaf.ebx, &leaf.ecx, &leaf.edx) &&
                                       feature_in(&leaf, feature));
}
