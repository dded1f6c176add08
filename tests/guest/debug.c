/*
 * Single step and the debug registers: TF with branches, string instructions, POPF and MOV SS;
 * instruction and data breakpoints, general detect; what DR6 says. Intel SDM volume 3, 17.2
 * and 17.3.
 */
#include "lib/guest.h"

#define DR6_FIXED 0xffff0ff0ull
#define DR6_BS (1ull << 14)
#define DR6_BD (1ull << 13)
#define DR7_FIXED 0x400ull
#define DR7_GD (1ull << 13)

#define MAX_STEPS 64
static uint64_t steps[MAX_STEPS], step_dr6[MAX_STEPS];
static unsigned step_count;

static void on_debug(struct frame *frame)
{
    if (step_count < MAX_STEPS) {
        steps[step_count] = frame->rip;
        step_dr6[step_count] = read_dr6();
    }
    step_count++;
    write_dr6(DR6_FIXED);
    if (!(step_dr6[step_count - 1] & DR6_BS))
        frame->rflags |= FLAG_RF;
    if (step_count >= MAX_STEPS)
        frame->rflags &= ~FLAG_TF;
}

#define SET_TF "pushfq; orl $0x100, (%%rsp); popfq\n"
#define CLEAR_TF "pushfq; andl $~0x100, (%%rsp); popfq\n"

extern const uint8_t step_1[], step_2[], step_3[], step_4[], step_end[], rep_at[], rep_next[],
    ss_at[], ss_next[], ss_end[], halt_next[], int3_next[], int1_next[], trap_stubs[], break_at[],
    break_shadow[], break_next[], held_at[], watch_next[];

static void single_step(void)
{
    uint64_t rax;

    step_count = 0;
    asm volatile(SET_TF "nop\n"
                        "step_1: mov $1, %%eax\n"
                        "step_2: jmp step_3\n"
                        "ud2\n"
                        "step_3: add $1, %%eax\n"
                        "step_4: nop\n" CLEAR_TF "step_end: nop\n"
                 : "=a"(rax)
                 :
                 : "memory", "cc");
    check_equal("TF: the first trap comes after the instruction behind POPF", steps[0],
                (uint64_t)step_1);
    check_equal("    then after each one", steps[1], (uint64_t)step_2);
    check_equal("    a jump traps at its target", steps[2], (uint64_t)step_3);
    check_equal("    and on", steps[3], (uint64_t)step_4);
    /* NOP, PUSHF, ANDL, and the POPF that ends it: the CPU samples TF before an instruction. */
    check_equal("    the POPF that clears TF is the last to trap", step_count, 8);
    check_equal("    there", steps[7], (uint64_t)step_end);
    check_equal("    DR6 says BS", step_dr6[0], DR6_FIXED | DR6_BS);
    check_equal("    the code did its work", rax, 2);
}

static void step_string(void)
{
    static uint8_t from[8], to[8];
    uint64_t rcx = 4;
    void *rsi = from, *rdi = to;

    step_count = 0;
    asm volatile(SET_TF "rep_at: rep movsb\n"
                        "rep_next: nop\n" CLEAR_TF
                 : "+S"(rsi), "+D"(rdi), "+c"(rcx)
                 :
                 : "memory", "cc");
    check("TF: REP MOVSB traps after each round",
          steps[0] == (uint64_t)rep_at && steps[1] == (uint64_t)rep_at &&
              steps[2] == (uint64_t)rep_at && steps[3] == (uint64_t)rep_next);
}

static void step_shadow(void)
{
    step_count = 0;
    asm volatile("mov %%ss, %%eax\n" SET_TF "ss_at: mov %%eax, %%ss\n"
                 "ss_next: nop\n"
                 "ss_end: nop\n" CLEAR_TF
                 :
                 :
                 : "rax", "memory", "cc");
    check_equal("TF: no trap between MOV SS and the next instruction", steps[0], (uint64_t)ss_end);
}

static void step_halt(void)
{
    step_count = 0;
    asm volatile(SET_TF "hlt\n"
                        "halt_next: nop\n" CLEAR_TF
                 :
                 :
                 : "memory", "cc");
    check_equal("TF: the trap after HLT ends it", steps[0], (uint64_t)halt_next);
}

static void instruction_breakpoint(void)
{
    step_count = 0;
    write_dr0((uint64_t)break_at);
    write_dr7(DR7_FIXED | 2);
    asm volatile("break_at: nop\n"
                 "break_next: nop");
    write_dr7(DR7_FIXED);
    check_equal("instruction breakpoint: one trap", step_count, 1);
    check_equal("    before the instruction", steps[0], (uint64_t)break_at);
    check_equal("    DR6 says B0", step_dr6[0], DR6_FIXED | 1);
    step_count = 0;
    write_dr7(DR7_FIXED | 2);
    asm volatile("jmp break_again\n"
                 "break_again: nop");
    write_dr7(DR7_FIXED);
    check_equal("    none elsewhere", step_count, 0);

    uint32_t vendor[4];
    cpuid(0, 0, vendor);
    step_count = 0;
    write_dr0((uint64_t)break_shadow);
    write_dr7(DR7_FIXED | 2);
    asm volatile("mov %%ss, %%eax\n"
                 "mov %%eax, %%ss\n"
                 "break_shadow: nop"
                 :
                 :
                 : "rax", "memory");
    write_dr7(DR7_FIXED);
    check_equal("    behind MOV SS one on AMD, none on Intel", step_count,
                vendor[2] == 0x444d4163); /* "cAMD" */
}

/* With a name that the assembler text knows, and room before it. */
static uint64_t watched_room[4] __attribute__((aligned(32), used));
asm(".set watched, watched_room + 16");
static volatile uint64_t *const watched_words = &watched_room[2];

static void data_breakpoint(void)
{
    /* DR1: stores of 8 bytes; then loads and stores of 4. */
    step_count = 0;
    write_dr1((uint64_t)watched_words);
    write_dr7(DR7_FIXED | 1 << 3 | 1 << 20 | 2 << 22);
    asm volatile("mov watched, %%rax\n"
                 "movq $5, watched\n"
                 "watch_next: nop"
                 :
                 :
                 : "rax", "memory");
    write_dr7(DR7_FIXED);
    check_equal("data breakpoint: a store traps, a load does not", step_count, 1);
    check_equal("    after the instruction", steps[0], (uint64_t)watch_next);
    check_equal("    DR6 says B1", step_dr6[0], DR6_FIXED | 2);
    check_equal("    the store is done", watched_words[0], 5);

    step_count = 0;
    write_dr7(DR7_FIXED | 1 << 3 | 1 << 20 | 2 << 22);
    asm volatile("movb $1, watched+7; movb $2, watched+8; movq $3, watched-4" ::: "memory");
    write_dr7(DR7_FIXED);
    check_equal("    stores that overlap it trap, others do not", step_count, 2);

    step_count = 0;
    write_dr7(DR7_FIXED | 1 << 3 | 3 << 20 | 3 << 22);
    asm volatile("mov watched+2, %%al; mov watched+4, %%al" ::: "rax", "memory");
    write_dr7(DR7_FIXED);
    check_equal("    loads too where that is asked for", step_count, 1);
}

static uint64_t int3_rip;

static void on_int3(struct frame *frame)
{
    int3_rip = frame->rip;
}

/* MOV SS from watched memory: its trap waits until the next instruction is done. */
static void held_breakpoint(void)
{
    asm volatile("mov %%ss, watched" : : : "memory");
    set_handler(BP, on_int3);
    set_gate(BP, true, 14, 0, 0); /* on this stack: the trap comes on the other one */
    step_count = 0;
    write_dr7(DR7_FIXED | 1 << 3 | 3 << 20 | 3 << 22);
    asm volatile("mov watched, %%ss\n"
                 "int3\n"
                 "int3_next: nop"
                 :
                 :
                 : "memory");
    check_equal("data breakpoint of MOV SS, then INT3: one trap", step_count, 1);
    check_equal("    at INT3's handler", steps[0], (uint64_t)trap_stubs + BP * 16);
    check_equal("    DR6 says B1", step_dr6[0], DR6_FIXED | 2);
    check_equal("    INT3 is done", int3_rip, (uint64_t)int3_next);
    step_count = 0;
    asm volatile("mov watched, %%ss\n"
                 ".byte 0xf1\n"
                 "int1_next: nop"
                 :
                 :
                 : "memory");
    check_equal("    then INT1: its own trap is the only one", step_count, 1);
    check_equal("    behind it", steps[0], (uint64_t)int1_next);
    /* AMD's processors see the instruction breakpoint, and report both at once. */
    step_count = 0;
    write_dr0((uint64_t)held_at);
    write_dr7(DR7_FIXED | 2 | 1 << 3 | 3 << 20 | 3 << 22);
    asm volatile("mov watched, %%ss\n"
                 "held_at: nop\n"
                 :
                 :
                 : "memory");
    write_dr7(DR7_FIXED);
    check_equal("    then an instruction with a breakpoint: one trap", step_count, 1);
    check("    DR6 says B1", step_dr6[0] & 2);
    set_handler(BP, NULL);
    set_gate(BP, true, 14, 3, 1);
}

static void general_detect(void)
{
    step_count = 0;
    set_handler(DB, NULL);
    write_dr7(DR7_FIXED | DR7_GD);
    TRY("mov %%dr0, %%rax", : : : "rax");
    check_equal("general detect: MOV DR raises #DB", trap.vector, DB);
    check_equal("    before it", trap.rip, trap_start);
    check("    DR6 says BD", trap.dr6 & DR6_BD);
    check("    GD is clear in the handler and after", !(read_dr7() & DR7_GD));
    write_dr6(DR6_FIXED);

    write_cr4(read_cr4() | CR4_DE);
    TRY("mov %%dr4, %%rax", : : : "rax");
    check_equal("DR4 with CR4.DE raises #UD", trap.vector, UD);
    write_cr4(read_cr4() & ~CR4_DE);
    TRY("mov %%dr4, %%rax", : : : "rax");
    check_equal("DR4 without CR4.DE is DR6", trap.vector, NO_TRAP);
}

void guest_main(void)
{
    write_dr6(DR6_FIXED);
    check_equal("DR7 at reset", read_dr7(), DR7_FIXED);
    set_handler(DB, on_debug);
    single_step();
    step_string();
    step_shadow();
    step_halt();
    instruction_breakpoint();
    data_breakpoint();
    held_breakpoint();
    general_detect();
}
