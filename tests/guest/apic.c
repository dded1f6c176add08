/*
 * Interrupts: the local APIC in xAPIC and x2APIC mode, self-IPI, priorities, the timer in its three
 * modes, HLT, the shadows of STI and MOV SS. Intel SDM volume 3, chapter 11 and 6.8.3.
 */
#include "lib/guest.h"

#define APIC_BASE_ENABLE (1ull << 11)
#define APIC_BASE_X2 (1ull << 10)
#define MSR_TSC_DEADLINE 0x6e0

enum {
    APIC_ID = 0x20,
    APIC_VERSION = 0x30,
    APIC_TPR = 0x80,
    APIC_PPR = 0xa0,
    APIC_EOI = 0xb0,
    APIC_SVR = 0xf0,
    APIC_ISR = 0x100,
    APIC_IRR = 0x200,
    APIC_ICR = 0x300,
    APIC_ICR_HIGH = 0x310,
    APIC_LVT_TIMER = 0x320,
    APIC_TIMER_INITIAL = 0x380,
    APIC_TIMER_CURRENT = 0x390,
    APIC_TIMER_DIVIDE = 0x3e0,
};
#define TIMER_PERIODIC (1u << 17)
#define TIMER_DEADLINE (2u << 17)
#define MASKED (1u << 16)
#define ICR_SELF (1u << 18)
#define ICR_NMI (1u << 14 | 4u << 8)

#define VECTOR_TIMER 0x60
#define VECTOR_LOW 0x61
#define VECTOR_HIGH 0x91

static bool x2;
static volatile unsigned count[256];
static volatile unsigned order[16], order_count;
static volatile uint64_t last_rip;

static uint32_t apic_read(unsigned reg)
{
    return x2 ? (uint32_t)read_msr(0x800 + reg / 16) : *(volatile uint32_t *)(0xfee00000ull + reg);
}

static void apic_write(unsigned reg, uint32_t value)
{
    if (x2)
        write_msr(0x800 + reg / 16, value);
    else
        *(volatile uint32_t *)(0xfee00000ull + reg) = value;
}

static void send_self(unsigned vector)
{
    if (x2)
        write_msr(0x830, ICR_SELF | vector);
    else
        apic_write(APIC_ICR, ICR_SELF | vector);
}

static void on_interrupt(struct frame *frame)
{
    count[frame->vector]++;
    if (order_count < 16)
        order[order_count++] = (unsigned)frame->vector;
    last_rip = frame->rip;
    apic_write(APIC_EOI, 0);
}

static void wait_for(volatile unsigned *what, unsigned value)
{
    uint64_t start = read_tsc();

    sti();
    while (*what < value && read_tsc() - start < 20000000000ull)
        ;
    cli();
}

static bool in_bitmap(unsigned bank, unsigned vector)
{
    return apic_read(bank + vector / 32 * 16) >> vector % 32 & 1;
}

static void self_ipi(void)
{
    count[VECTOR_LOW] = count[VECTOR_HIGH] = order_count = 0;
    send_self(VECTOR_LOW);
    check("self-IPI waits in IRR while interrupts are off", in_bitmap(APIC_IRR, VECTOR_LOW));
    send_self(VECTOR_HIGH);
    wait_for(&count[VECTOR_LOW], 1);
    check("both are delivered", count[VECTOR_LOW] == 1 && count[VECTOR_HIGH] == 1);
    check("    the higher one first", order[0] == VECTOR_HIGH);

    apic_write(APIC_TPR, 0x70);
    send_self(VECTOR_LOW);
    sti();
    for (volatile int i = 0; i < 10000; i++)
        ;
    cli();
    check_equal("the task priority holds a lower vector back", count[VECTOR_LOW], 1);
    check_equal("    CR8 shows it", read_cr8(), 7);
    check_equal("    PPR", apic_read(APIC_PPR), 0x70);
    write_cr8(0);
    wait_for(&count[VECTOR_LOW], 2);
    check_equal("    writing CR8 lets it through", count[VECTOR_LOW], 2);
}

static void shadows(void)
{
    uint64_t next;

    send_self(VECTOR_LOW);
    asm volatile("lea 1f(%%rip), %0\n"
                 "sti\n"
                 "nop\n"
                 "1: nop\n"
                 "nop\n"
                 "cli"
                 : "=r"(next)
                 :
                 : "memory");
    check_equal("STI: the interrupt comes one instruction later", last_rip, next);
    last_rip = 0;
    send_self(VECTOR_LOW);
    asm volatile("sti; cli" ::: "memory");
    check_equal("STI, CLI: it does not come", last_rip, 0);
    asm volatile("mov %%ss, %%eax\n"
                 "lea 1f(%%rip), %0\n"
                 "sti\n"
                 "mov %%eax, %%ss\n"
                 "nop\n"
                 "1: nop\n"
                 "cli"
                 : "=r"(next)
                 :
                 : "rax", "memory");
    /* STI's shadow covers MOV SS; whether MOV SS then casts its own differs between processors. */
    check("STI, MOV SS: it comes after one of the next two",
          last_rip == next || last_rip == next - 1);
}

static void halt(void)
{
    last_rip = 0;
    count[VECTOR_TIMER] = 0;
    apic_write(APIC_TIMER_DIVIDE, 0xb);
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER);
    apic_write(APIC_TIMER_INITIAL, 1000000);
    asm volatile("sti; hlt; cli" ::: "memory");
    check_equal("HLT until the one-shot timer", count[VECTOR_TIMER], 1);
    check_equal("    the count stays at zero", apic_read(APIC_TIMER_CURRENT), 0);
    for (volatile int i = 0; i < 100000; i++)
        ;
    sti();
    cli();
    check_equal("    it fires once", count[VECTOR_TIMER], 1);
}

static void periodic(void)
{
    uint64_t start, first, last;

    count[VECTOR_TIMER] = 0;
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER | TIMER_PERIODIC);
    apic_write(APIC_TIMER_INITIAL, 2000000);
    check("the current count runs down", apic_read(APIC_TIMER_CURRENT) <= 2000000);
    start = read_tsc();
    wait_for(&count[VECTOR_TIMER], 1);
    first = read_tsc();
    wait_for(&count[VECTOR_TIMER], 11);
    last = read_tsc();
    check("the periodic timer fires again and again", count[VECTOR_TIMER] >= 11);
    print("-- first after %lu, then every %lu TSC ticks\n", first - start, (last - first) / 10);
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER | MASKED);
    apic_write(APIC_TIMER_INITIAL, 0);
    check_equal("an initial count of zero stops it", apic_read(APIC_TIMER_CURRENT), 0);
    asm volatile("sti; nop; cli" : : : "memory"); /* one more may have come meanwhile */
}

static void deadline(void)
{
    if (!cpu_has(1, 2, 24)) {
        skip("TSC deadline", "the CPU has none");
        return;
    }
    /* A tick of the periodic timer may have come just before it was stopped. */
    sti();
    __asm__ volatile("nop");
    cli();
    count[VECTOR_TIMER] = 0;
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER | TIMER_DEADLINE);
    uint64_t when = read_tsc() + 300000000;
    write_msr(MSR_TSC_DEADLINE, when);
    check_equal("the deadline reads back", read_msr(MSR_TSC_DEADLINE), when);
    wait_for(&count[VECTOR_TIMER], 1);
    check("TSC deadline: not before its time", count[VECTOR_TIMER] == 1 && read_tsc() >= when);
    check_equal("    the MSR is zero afterwards", read_msr(MSR_TSC_DEADLINE), 0);
    write_msr(MSR_TSC_DEADLINE, 1);
    wait_for(&count[VECTOR_TIMER], 2);
    check_equal("a deadline in the past fires at once", count[VECTOR_TIMER], 2);
    write_msr(MSR_TSC_DEADLINE, read_tsc() + 300000000000);
    write_msr(MSR_TSC_DEADLINE, 0);
    for (volatile int i = 0; i < 100000; i++)
        ;
    sti();
    cli();
    check_equal("writing zero disarms it", count[VECTOR_TIMER], 2);
    apic_write(APIC_LVT_TIMER, MASKED);
}

/* To this processor; the shorthand for that is not for NMIs. */
static void send_nmi(void)
{
    if (x2) {
        write_msr(0x830, (uint64_t)apic_read(APIC_ID) << 32 | ICR_NMI);
    } else {
        apic_write(APIC_ICR_HIGH, apic_read(APIC_ID));
        apic_write(APIC_ICR, ICR_NMI);
    }
}

static volatile unsigned nmi_count, nmi_depth, nmi_deepest;

static void on_nmi(struct frame *frame)
{
    nmi_depth++;
    if (nmi_depth > nmi_deepest)
        nmi_deepest = nmi_depth;
    if (nmi_count++ == 0) { /* two more: they wait for IRET, and are one by then */
        send_nmi();
        send_nmi();
        for (volatile int i = 0; i < 1000; i++)
            ;
    }
    nmi_depth--;
}

static void nmi(void)
{
    nmi_count = nmi_deepest = 0;
    set_handler(NMI, on_nmi);
    send_nmi();
    check_equal("an NMI in the handler of one comes after its IRET", nmi_count, 2);
    check_equal("    not before", nmi_deepest, 1);
}

static void disable(void)
{
    uint64_t base = read_msr(MSR_APIC_BASE);
    uint32_t sizes[4];

    cpuid(0x80000008, 0, sizes);
    TRY("wrmsr", : : "c"(MSR_APIC_BASE), "a"(base), "d"(1u << ((sizes[0] & 0xff) - 32)));
    check_equal("an APIC base beyond physical memory raises #GP", trap.vector, GP);
    write_msr(MSR_APIC_BASE, base & ~APIC_BASE_ENABLE);
    check("CPUID hides a disabled APIC", !cpu_has(1, 3, 9));
    write_msr(MSR_APIC_BASE, base);
    check("    and shows it again", cpu_has(1, 3, 9));
}

static void all(void)
{
    apic_write(APIC_SVR, 0x1ff);
    check("the version has six LVT entries or so", (apic_read(APIC_VERSION) >> 16 & 0xff) >= 4);
    self_ipi();
    shadows();
    nmi();
    halt();
    periodic();
    deadline();
}

void guest_main(void)
{
    static const unsigned vectors[] = {VECTOR_TIMER, VECTOR_LOW, VECTOR_HIGH};

    for (unsigned i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        set_handler(vectors[i], on_interrupt);
    outb(0x21, 0xff); /* the 8259s stay out of this */
    outb(0xa1, 0xff);
    print("-- xAPIC\n");
    check("enabled at reset", read_msr(MSR_APIC_BASE) & APIC_BASE_ENABLE);
    all();
    disable();
    if (!cpu_has(1, 2, 21)) {
        skip("x2APIC", "the CPU has none");
        return;
    }
    print("-- x2APIC\n");
    write_msr(MSR_APIC_BASE, read_msr(MSR_APIC_BASE) | APIC_BASE_X2);
    x2 = true;
    all();
    TRY("rdmsr", : : "c"(0x8ff) : "rax", "rdx");
    check_equal("an unknown x2APIC register raises #GP", trap.vector, GP);
    TRY("wrmsr", : : "c"(MSR_APIC_BASE), "a"(0xfee00900), "d"(0));
    check_equal("from x2APIC straight to xAPIC raises #GP", trap.vector, GP);
}
