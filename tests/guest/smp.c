/*
 * Several processors: INIT and start-up IPIs, IPIs to one and to all others, locked instructions,
 * CMPXCHG16B, memory order, TLB shootdown by IPI, code that another processor changes, HLT woken by
 * an IPI. Intel SDM volume 3, chapter 8 and 11.6.
 */
#include "lib/guest.h"

#define AP_START 0x8000
#define VECTOR_PING 0x70
#define VECTOR_FLUSH 0x71
#define ICR_INIT 0x4500u
#define ICR_STARTUP 0x4600u
#define ICR_OTHERS (3u << 18)
#define MAX_CPUS 16
#define TIME_LIMIT 60000000000ull /* TSC ticks */

extern const uint8_t ap_begin[], ap_end[];
extern uint64_t ap_cr3, ap_entry;
extern uint8_t ap_idt_pointer[10];
extern volatile uint32_t ap_next;

typedef void job_fn(unsigned cpu);
static job_fn *volatile job;
static volatile unsigned round, finished;
static volatile unsigned pings[MAX_CPUS], flushes;
static unsigned cpus = 1;

static volatile uint32_t *const apic = (volatile uint32_t *)0xfee00000ull;

static void send(unsigned destination, uint32_t command)
{
    apic[0x310 / 4] = destination << 24;
    apic[0x300 / 4] = command;
    while (apic[0x300 / 4] & 1 << 12)
        ;
}

static unsigned my_id(void)
{
    return apic[0x20 / 4] >> 24;
}

static void enable_apic(void)
{
    apic[0xf0 / 4] = 0x1ff;
}

static bool wait_until(const volatile unsigned *what, unsigned value)
{
    uint64_t start = read_tsc();

    while (*what < value) {
        asm volatile("pause");
        if (read_tsc() - start > TIME_LIMIT)
            return false;
    }
    return true;
}

static void ap_main(unsigned index)
{
    unsigned seen = 0;

    enable_apic();
    asm volatile("lock incl %0" : "+m"(finished) : : "memory", "cc");
    for (;;) {
        while (round == seen)
            asm volatile("pause");
        seen = round;
        job(index);
        asm volatile("lock incl %0" : "+m"(finished) : : "memory", "cc");
    }
}

/* Runs `what` on all processors and waits for the end. */
static bool together(job_fn *what)
{
    finished = 0;
    job = what;
    asm volatile("" : : : "memory");
    round++;
    what(0);
    return wait_until(&finished, cpus - 1);
}

static void start(void)
{
    uint8_t *to = (uint8_t *)AP_START;

    for (const uint8_t *from = ap_begin; from < ap_end; from++)
        *to++ = *from;
    asm volatile("sidt %0" : "=m"(ap_idt_pointer));
    ap_cr3 = read_cr3();
    ap_entry = (uint64_t)ap_main;
    enable_apic();
    send(0, ICR_OTHERS | ICR_INIT);
    for (volatile int i = 0; i < 100000; i++)
        ;
    send(0, ICR_OTHERS | ICR_STARTUP | AP_START >> 12);
    /* All that come within this time are used. */
    uint64_t begin = read_tsc();
    while (read_tsc() - begin < 2000000000ull)
        asm volatile("pause");
    cpus = ap_next;
    wait_until(&finished, cpus - 1);
    print("-- %u processors\n", cpus);
    check("application processors have started", cpus > 1 && finished == cpus - 1);
    send(0, ICR_OTHERS | ICR_STARTUP | AP_START >> 12);
    for (volatile int i = 0; i < 100000; i++)
        ;
    check("a second start-up IPI does nothing", ap_next == cpus);
}

/* --- locked instructions --- */

#define ROUNDS 20000
static volatile uint64_t counters[4] __attribute__((aligned(64)));
static volatile uint64_t spin;

static void count_up(unsigned cpu)
{
    for (int i = 0; i < ROUNDS; i++) {
        asm volatile("lock incq %0" : "+m"(counters[0]) : : "cc");
        uint64_t one = 1;
        asm volatile("lock xaddq %0, %1" : "+r"(one), "+m"(counters[1]) : : "cc");
        uint64_t old = counters[2], new;
        bool done;
        do {
            new = old + 1;
            asm volatile("lock cmpxchgq %3, %1"
                         : "+a"(old), "+m"(counters[2]), "=@ccz"(done)
                         : "r"(new));
        } while (!done);
    }
}

static void count_under_lock(unsigned cpu)
{
    for (int i = 0; i < ROUNDS / 10; i++) {
        uint64_t taken = 1;
        for (;;) {
            asm volatile("xchgq %0, %1" : "+r"(taken), "+m"(spin) : : "memory");
            if (!taken)
                break;
            asm volatile("pause");
        }
        counters[3]++;
        asm volatile("" : : : "memory");
        spin = 0;
    }
}

static struct {
    volatile uint64_t low, high;
} wide __attribute__((aligned(16)));

static void count_wide(unsigned cpu)
{
    for (int i = 0; i < ROUNDS / 10; i++) {
        uint64_t low = wide.low, high = wide.high;
        bool done;
        do {
            asm volatile("lock cmpxchg16b %0"
                         : "+m"(wide), "+a"(low), "+d"(high), "=@ccz"(done)
                         : "b"(low + 1), "c"(high + 2));
        } while (!done);
    }
}

static uint8_t split_area[128] __attribute__((aligned(64)));

static void count_split(unsigned cpu)
{
    for (int i = 0; i < 200; i++)
        asm volatile("lock incl (%0)" : : "r"(split_area + 62) : "memory", "cc");
}

static uint8_t *split_pages;

static void count_on_two_pages(unsigned cpu)
{
    for (int i = 0; i < 200; i++)
        asm volatile("lock incl (%0)" : : "r"(split_pages + PAGE_SIZE - 2) : "memory", "cc");
}

static void locked(void)
{
    check("all take part", together(count_up));
    check_equal("LOCK INC loses none", counters[0], (uint64_t)cpus * ROUNDS);
    check_equal("LOCK XADD loses none", counters[1], (uint64_t)cpus * ROUNDS);
    check_equal("LOCK CMPXCHG loses none", counters[2], (uint64_t)cpus * ROUNDS);
    together(count_under_lock);
    check_equal("a lock by XCHG excludes", counters[3], (uint64_t)cpus * ROUNDS / 10);
    together(count_wide);
    check("LOCK CMPXCHG16B loses none",
          wide.low == (uint64_t)cpus * ROUNDS / 10 && wide.high == 2 * wide.low);
    together(count_split);
    uint32_t total = 0;
    for (int i = 3; i >= 0; i--)
        total = total << 8 | split_area[62 + i];
    check_equal("LOCK across a cache line loses none", total, cpus * 200);
    split_pages = page_new();
    check("two pages in a row", page_new() == split_pages + PAGE_SIZE);
    together(count_on_two_pages);
    total = 0;
    for (int i = 3; i >= 0; i--)
        total = total << 8 | split_pages[PAGE_SIZE - 2 + (unsigned)i];
    check_equal("LOCK across a page loses none", total, cpus * 200);
}

/* --- memory order: a store then a load may pass each other; nothing else may --- */

static volatile unsigned message, flag;
static volatile unsigned disorder;

static void pass_messages(unsigned cpu)
{
    for (unsigned i = 1; i <= ROUNDS; i++) {
        if (cpu == 0) {
            while (flag != i - 1 && flag < ROUNDS)
                asm volatile("pause");
            message = i * 7;
            asm volatile("" : : : "memory");
            flag = i;
            while (disorder < i)
                asm volatile("pause");
        } else if (cpu == 1) {
            while (flag < i)
                asm volatile("pause");
            if (message != i * 7)
                counters[0]++;
            disorder = i;
        }
    }
}

static void order(void)
{
    counters[0] = 0;
    together(pass_messages);
    check_equal("stores are seen in their order", counters[0], 0);
}

/* --- IPIs --- */

static void on_ping(struct frame *frame)
{
    apic[0xb0 / 4] = 0;
    pings[my_id()]++;
}

static volatile unsigned ready;

/* KVM's hypercall that sends IPIs, to processors 1 and up. */
static void ping_by_hypercall(void)
{
    uint64_t result = 10, others = (1ull << cpus) - 2;

    asm volatile("vmmcall"
                 : "+a"(result)
                 : "b"(others >> 1), "c"(0), "d"(1), "S"(VECTOR_PING)
                 : "memory");
    check_equal("an IPI by hypercall goes to all that it names", result, cpus - 1);
}

static bool has_ipi_hypercall(void)
{
    uint32_t out[4];

    cpuid(0x40000000, 0, out);
    if (out[1] != 0x4b4d564b) /* "KVMK" */
        return false;
    cpuid(0x40000001, 0, out);
    return out[0] & 1 << 11;
}

static bool by_hypercall;

static void take_pings(unsigned cpu)
{
    if (cpu == 0) {
        wait_until(&ready, cpus - 1);
        if (by_hypercall)
            ping_by_hypercall();
        else
            send(0, ICR_OTHERS | 0x4000 | VECTOR_PING);
        return;
    }
    asm volatile("lock incl %0" : "+m"(ready) : : "memory", "cc");
    /* STI's shadow covers HLT: an IPI cannot slip between. */
    asm volatile("sti; hlt; cli" : : : "memory");
}

static void pinging(void)
{
    unsigned total = 0;

    set_handler(VECTOR_PING, on_ping);
    set_gate(VECTOR_PING, true, 14, 0, 0); /* application processors have no TSS */
    check("an IPI to all others wakes each from HLT", together(take_pings));
    for (unsigned i = 0; i < MAX_CPUS; i++)
        total += pings[i];
    check_equal("    and comes once to each", total, cpus - 1);
    check_equal("    not to the sender", pings[my_id()], 0);
    if (!has_ipi_hypercall()) {
        skip("IPIs by hypercall", "CPUID does not offer them");
        return;
    }
    by_hypercall = true;
    ready = total = 0;
    check("    each wakes from HLT", together(take_pings));
    for (unsigned i = 0; i < MAX_CPUS; i++)
        total += pings[i];
    check_equal("    once", total, 2 * (cpus - 1));
}

/* --- TLB shootdown --- */

static const uint64_t shared_address = 0x0000430000000000ull;
static uint64_t *frame_of[2];
static volatile unsigned stage, wrong;

static void on_flush(struct frame *frame)
{
    apic[0xb0 / 4] = 0;
    invlpg((void *)shared_address);
    asm volatile("lock incl %0" : "+m"(flushes) : : "memory", "cc");
}

static void shoot(unsigned cpu)
{
    if (cpu == 0) {
        for (unsigned i = 1; i <= 200; i++) {
            wait_until(&ready, cpus - 1);
            ready = 0;
            page_map(shared_address, (uint64_t)frame_of[i & 1], PTE_P | PTE_W);
            flushes = 0;
            send(0, ICR_OTHERS | 0x4000 | VECTOR_FLUSH);
            wait_until(&flushes, cpus - 1);
            stage = i;
        }
        return;
    }
    sti();
    for (unsigned i = 1; i <= 200; i++) {
        (void)*(volatile uint64_t *)shared_address;
        asm volatile("lock incl %0" : "+m"(ready) : : "memory", "cc");
        while (stage < i)
            asm volatile("pause");
        if (*(volatile uint64_t *)shared_address != (i & 1))
            asm volatile("lock incl %0" : "+m"(wrong) : : "memory", "cc");
    }
    cli();
}

static void shootdown(void)
{
    set_handler(VECTOR_FLUSH, on_flush);
    set_gate(VECTOR_FLUSH, true, 14, 0, 0);
    for (unsigned i = 0; i < 2; i++) {
        frame_of[i] = page_new();
        *frame_of[i] = i;
    }
    page_map(shared_address, (uint64_t)frame_of[0], PTE_P | PTE_W);
    ready = 0;
    check("TLB shootdown by IPI", together(shoot));
    check_equal("    nobody sees the old frame", wrong, 0);
}

/* --- code changed by another processor (Intel SDM volume 3, 8.1.3, with a serializing CPUID) ---
 */

static uint8_t *code;

static void modify_code(unsigned cpu)
{
    uint32_t out[4];

    if (cpu == 0) {
        for (unsigned i = 1; i <= 200; i++) {
            wait_until(&ready, cpus - 1);
            ready = 0;
            *(volatile uint32_t *)(code + 1) = i * 0x01010101;
            stage = i;
        }
        return;
    }
    for (unsigned i = 1; i <= 200; i++) {
        ((uint32_t(*)(void))code)();
        asm volatile("lock incl %0" : "+m"(ready) : : "memory", "cc");
        while (stage < i)
            asm volatile("pause");
        cpuid(0, 0, out);
        if (((uint32_t(*)(void))code)() != i * 0x01010101)
            asm volatile("lock incl %0" : "+m"(wrong) : : "memory", "cc");
        /* All are through before it changes again. */
    }
}

static void cross_modify(void)
{
    code = page_new();
    code[0] = 0xb8; /* mov $imm, %eax; ret */
    code[5] = 0xc3;
    ready = stage = wrong = 0;
    check("code changed by another processor", together(modify_code));
    check_equal("    the new code is run", wrong, 0);
}

void guest_main(void)
{
    start();
    if (cpus < 2)
        return;
    locked();
    order();
    pinging();
    shootdown();
    cross_modify();
}
