/*
 * Runs cases on the bare CPU, in this process. The region's pages lie at the same addresses as in
 * the guest. An exception arrives as a signal; the handler notes it in the current case, as the
 * guest's supervisor does, and goes on where results are saved.
 */
#include <asm/ldt.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>
#include <x86intrin.h>

#include "insn.h"

#define CHECK(type, field, offset)                                                                 \
    _Static_assert(offsetof(struct type, field) == (offset), "insn.h and the assembler disagree")
CHECK(insn_state, gpr, STATE_GPR);
CHECK(insn_state, rflags, STATE_RFLAGS);
CHECK(insn_state, path, STATE_PATH);
CHECK(insn_state, selectors, STATE_SELECTORS);
CHECK(insn_state, fs_base, STATE_FS_BASE);
CHECK(insn_state, gs_base, STATE_GS_BASE);
CHECK(insn_state, memory, STATE_MEMORY);
CHECK(insn_state, xsave, STATE_XSAVE);
CHECK(insn_case, out, CASE_OUT);
CHECK(insn_case, code, CASE_CODE);
CHECK(insn_case, window, CASE_WINDOW);
CHECK(insn_case, fault_vector, CASE_FAULT_VECTOR);
CHECK(insn_case, fault_address, CASE_FAULT_ADDRESS);
CHECK(insn_case, entry, CASE_ENTRY);
CHECK(insn_case, far, CASE_FAR);
CHECK(insn_case, selector, CASE_SELECTOR);
_Static_assert(sizeof(struct insn_state) == STATE_SIZE, "insn.h and the assembler disagree");
_Static_assert(sizeof(struct insn_case) == CASE_BYTES, "insn.h and the assembler disagree");

static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGVTALRM};
static uint64_t host_fs_base;

/* Of processor time in user mode, however busy the host is: after so many seconds in a batch a case
 * hangs. Again and again, should it not be a case that runs just then. */
static const struct itimerval time_limit = {.it_interval = {.tv_sec = 2},
                                            .it_value = {.tv_sec = 2}};

#define RUNNER_BYTES ((uint64_t)(runner_end - runner_begin))
/* Where an instruction that is to be refused is met by one that always is: UD2. */
#define REFUSAL (RUNNER_BASE + RUNNER_BYTES)
/* A location of the region as a C object. */
#define AT(type, address) (*(type *)(uintptr_t)(address))

static bool in_runner(uint64_t rip)
{
    return rip >= RUNNER_BASE && rip < RUNNER_BASE + RUNNER_BYTES;
}

static bool in_case(uint64_t rip)
{
    return rip >= CODE_BASE && rip < CODE_BASE + CODE_SIZE;
}

/* Runs at first with the FS base of the case: nothing in it may look for thread-local data. */
__attribute__((no_sanitize("address", "undefined"))) static void
on_fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    greg_t *r = u->uc_mcontext.gregs;
    uint64_t fs_base = _readfsbase_u64();
    bool flat = (r[REG_CSGSFS] & 0xffff) == SELECTOR_USER;
    bool hang = number == SIGVTALRM;

    _writefsbase_u64(host_fs_base);
    __writeeflags(__readeflags() & ~(1ull << 18)); /* the case's AC is not for this function */
    /* A trap for a TF that the case has set comes behind the jump out of it. */
    if (!flat || (hang ? in_case((uint64_t)r[REG_RIP])
                       : r[REG_TRAPNO] == 1 || !in_runner((uint64_t)r[REG_RIP]))) {
        struct insn_case *c = AT(struct insn_case *, CONTROL_CURRENT);
        c->fault_vector = hang ? FAULT_HANG : (uint64_t)r[REG_TRAPNO];
        c->fault_error = (uint64_t)r[REG_ERR];
        c->fault_rip = (uint64_t)r[REG_RIP];
        c->fault_address = (uint64_t)r[REG_CR2];
        r[REG_RIP] = (greg_t)RUNNER_ADDRESS(runner_save_next);
        r[REG_CSGSFS] = (r[REG_CSGSFS] & ~0xffff) | SELECTOR_USER;
        r[REG_EFL] &= ~0x100; /* a case may have set TF */
    } else if (!hang) {
        /* The loop itself failed: a defect here. Let it fail again without this handler. */
        signal(number, SIG_DFL);
    }
    _writefsbase_u64(fs_base);
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

uint64_t ldt_descriptors[CASE_LDT_ENTRIES];

/* An entry of the local descriptor table, here and as guest.c needs it (Intel SDM volume 3, 3.4.5;
 * the kernel sets the accessed and the available bit). */
static int write_ldt(unsigned selector, uint64_t base, bool code, bool wide, struct error *err)
{
    struct user_desc desc = {.entry_number = selector >> 3,
                             .base_addr = (uint32_t)base,
                             .limit = 0xffff,
                             .contents = code ? MODIFY_LDT_CONTENTS_CODE : 0,
                             .seg_32bit = wide,
                             .useable = 1};

    ldt_descriptors[selector >> 3] = 0xffff | (base & 0xffffff) << 16 |
                                     (code ? 0xfbull : 0xf3ull) << 40 | 1ull << 52 |
                                     (uint64_t)wide << 54 | (base >> 24) << 56;
    if (syscall(SYS_modify_ldt, 0x11, &desc, sizeof(desc)) == 0)
        return 0;
    return error_set(err, -errno, "modify_ldt: %s", strerror(errno));
}

bool has_ldt;

static int write_ldts(struct error *err)
{
    int r = write_ldt(SELECTOR_CODE16, CODE_BASE, true, false, err);

    if (r == -ENOSYS) {
        printf("16-bit code and segments are left out: %s\n", err->text);
        return 0;
    }
    has_ldt = true;
    if (!r)
        r = write_ldt(SELECTOR_DATA16, REGION_BASE, false, false, err);
    if (!r)
        r = write_ldt(SELECTOR_CODE32, CODE_BASE, true, true, err);
    if (!r)
        r = write_ldt(SELECTOR_DATA32, REGION_BASE, false, true, err);
    return r;
}

static int map_read_only(struct error *err)
{
    uint8_t *page = (uint8_t *)READ_ONLY_BASE;
    int r = map(READ_ONLY_BASE, GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE, err);

    for (unsigned i = 0; !r && i < GUEST_PAGE_SIZE; i++)
        page[i] = read_only_byte(i);
    if (!r && mprotect(page, GUEST_PAGE_SIZE, PROT_READ))
        r = error_set(err, -errno, "mprotect: %s", strerror(errno));
    return r;
}

int native_setup(struct error *err)
{
    static uint8_t signal_stack[65536];
    const stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
    int r;

    r = map(DATA_BASE, DATA_SIZE, PROT_READ | PROT_WRITE, err);
    if (!r)
        r = map_read_only(err);
    if (!r)
        r = map(ISLAND_BASE, GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE, err);
    if (!r)
        r = map(CONTROL_BASE, GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE, err);
    if (!r)
        r = map(CODE_BASE, CODE_SIZE + RUNNER_SIZE, PROT_READ, err);
    if (!r)
        r = map(CASES_BASE, CASES_SIZE, PROT_READ | PROT_WRITE, err);
    if (!r)
        r = write_ldts(err);
    if (!r && sigaltstack(&stack, NULL))
        r = error_set(err, -errno, "sigaltstack: %s", strerror(errno));
    return r;
}

void native_run(struct insn_case *cases, unsigned count, const uint8_t *code, size_t code_size)
{
    struct sigaction before[ARRAY_SIZE(fault_signals)];
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    void *code_at = (void *)CODE_BASE, *runner_at = (void *)RUNNER_BASE;
    struct insn_case *cases_at = (struct insn_case *)CASES_BASE;

    if (mprotect(code_at, CODE_SIZE + RUNNER_SIZE, PROT_READ | PROT_WRITE))
        abort();
    memcpy(runner_at, runner_begin, (size_t)(runner_end - runner_begin));
    memcpy((void *)REFUSAL, "\x0f\x0b", 2);
    memset(code_at, INT3, CODE_SIZE);
    memcpy((void *)SNIPPET_BASE, code, code_size);
    if (mprotect(code_at, CODE_SIZE + RUNNER_SIZE, PROT_READ | PROT_EXEC))
        abort();
    memcpy(cases_at, cases, count * sizeof(*cases));
    for (unsigned i = 0; i < count; i++)
        if (cases[i].refused)
            cases_at[i].entry = REFUSAL;
    memset((void *)DATA_BASE, 0, DATA_SIZE);
    memset((void *)ISLAND_BASE, 0, GUEST_PAGE_SIZE);
    AT(struct insn_case *, CONTROL_CURRENT) = cases_at;
    AT(struct insn_case *, CONTROL_END) = cases_at + count;

    /* The time limit must not take a fault's handler for a hanging case: it would not return, and
     * leave that fault's signal blocked. */
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGVTALRM);
    host_fs_base = _readfsbase_u64();
    for (size_t i = 0; i < ARRAY_SIZE(fault_signals); i++)
        sigaction(fault_signals[i], &action, &before[i]);
    setitimer(ITIMER_VIRTUAL, &time_limit, NULL);
    runner_call(runner_at, CASE_FS_BASE, CASE_GS_BASE);
    setitimer(ITIMER_VIRTUAL, &(struct itimerval){0}, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(fault_signals); i++)
        sigaction(fault_signals[i], &before[i], NULL);
    for (unsigned i = 0; i < count; i++) {
        uint64_t entry = cases[i].entry;

        cases[i] = cases_at[i];
        cases[i].entry = entry;
        if (cases[i].refused)
            cases[i].fault_rip = cases[i].far ? (uint32_t)cases[i].far : cases[i].code;
    }
}
