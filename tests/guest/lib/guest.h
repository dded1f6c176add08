/*
 * A small library for freestanding test guests in 64-bit mode: they boot by multiboot 1, print
 * lines to the serial port, and end the machine through debug-exit (status 33 when all is well).
 *
 * A test says check("what", condition); the line it prints begins with "ok" or "FAIL". What is
 * expected to fault is wrapped in TRY(), which tells the exception.
 *
 * Memory, identity mapped: 0 to 4 MiB for the supervisor (the guest's image lies at 1 MiB), 4 to
 * 6 MiB for user mode (what is marked USER_CODE and USER_DATA), from 6 MiB for the supervisor
 * again. From 16 MiB on it is free for tests.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "selectors.h"

#define SERIAL_PORT 0x3f8
#define EXIT_PORT 0xf4
#define EXIT_GOOD 0x10 /* (0x10 << 1) | 1 = 33 */
#define EXIT_BAD 0x11

#define PAGE_SIZE 4096ull
#define FREE_MEMORY 0x1000000ull

#define USER_CODE __attribute__((section(".user.text"), noinline))
#define USER_DATA __attribute__((section(".user.data")))

/* --- output and verdict (guest.c) --- */

void print(const char *format, ...) __attribute__((format(printf, 1, 2))); /* %s %c %u %x %lu %lx */
void check(const char *what, bool good);
/* As check(), and shows both values where they differ. */
void check_equal(const char *what, uint64_t value, uint64_t expected);
void skip(const char *what, const char *why);
__attribute__((noreturn)) void finish(void);

/* The test itself. */
void guest_main(void);

/* --- exceptions (trap.c) --- */

enum {
    DE,
    DB,
    NMI,
    BP,
    OF,
    BR,
    UD,
    NM,
    DF,
    TS = 10,
    NP,
    SS,
    GP,
    PF,
    MF = 16,
    AC,
    MC,
    XM,
    NO_TRAP = 0xffff,
};

/* The frame as the CPU and the entry stub leave it on the stack. */
struct frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error; /* error is 0 where the CPU pushes none */
    uint64_t rip, cs, rflags, rsp, ss;
};

/* The last exception that TRY() or user_call() saw. */
struct trap {
    uint64_t vector, error, rip, cs, rflags, rsp, ss, cr2, dr6;
};
extern struct trap trap;

/* Where TRY() goes on, with which stack pointer, and the address of the instruction it tries. */
extern uint64_t trap_resume, trap_rsp, trap_start;

/*
 * Executes `text` (assembler, then operands as in extended asm, beginning with the outputs) and
 * yields the vector of the exception that it raised, or NO_TRAP. The stack pointer is what it was.
 * trap_start is the address of the text, or of what stands behind HERE in it.
 */
#define TRY(text, ...)                                                                             \
    ({                                                                                             \
        trap = (struct trap){.vector = NO_TRAP};                                                   \
        asm volatile("mov %%rsp, trap_rsp\n\tmovq $772f, trap_resume\n\t" HERE text                \
                     "\n772:\tmov trap_rsp, %%rsp\n\tmovq $0, trap_resume" __VA_ARGS__);           \
        asm volatile("" : : : "memory"); /* the handler wrote `trap` */                            \
        trap.vector;                                                                               \
    })
#define HERE "movq $771f, trap_start\n771:\t"

/* A handler for a vector (0 to 255) instead of the default one; it may change the frame. NULL takes
 * it back. A vector without a handler, outside TRY(), ends the test with a report. */
typedef void handler_fn(struct frame *frame);
void set_handler(unsigned vector, handler_fn *handler);
/* The vector's gate: present, type 14 (interrupt) or 15 (trap), lowest CPL, IST number. */
void set_gate(unsigned vector, bool present, unsigned type, unsigned dpl, unsigned ist);

/* Runs a USER_CODE function at CPL 3 with its own stack (at the top of user memory) and returns
 * what it returns. An exception in it ends it; trap.vector tells (else NO_TRAP). */
uint64_t user_call(uint64_t (*function)(uint64_t), uint64_t argument);

/* --- paging (page.c) --- */

#define PTE_P (1ull << 0)
#define PTE_W (1ull << 1)
#define PTE_U (1ull << 2)
#define PTE_PWT (1ull << 3)
#define PTE_PCD (1ull << 4)
#define PTE_A (1ull << 5)
#define PTE_D (1ull << 6)
#define PTE_PS (1ull << 7)
#define PTE_G (1ull << 8)
#define PTE_NX (1ull << 63)
#define PTE_ADDRESS 0x000ffffffffff000ull

/* Error code bits of #PF. */
#define PF_P 1
#define PF_W 2
#define PF_U 4
#define PF_RSVD 8
#define PF_I 16

/* A zeroed page of free memory, below 4 GiB and identity mapped. */
void *page_new(void);
/* The entry that maps `address` at `level` (1: 4 KiB, 2: 2 MiB, 3: 1 GiB, 4) of the current tables;
 * makes tables as needed, and splits nothing. */
uint64_t *page_entry(uint64_t address, unsigned level);
/* Maps a 4 KiB page. The caller invalidates. */
uint64_t *page_map(uint64_t address, uint64_t physical, uint64_t flags);

/* --- processor --- */

#define CR0_PE (1ull << 0)
#define CR0_MP (1ull << 1)
#define CR0_EM (1ull << 2)
#define CR0_TS (1ull << 3)
#define CR0_NE (1ull << 5)
#define CR0_WP (1ull << 16)
#define CR0_AM (1ull << 18)
#define CR0_PG (1ull << 31)
#define CR4_DE (1ull << 3)
#define CR4_PSE (1ull << 4)
#define CR4_PAE (1ull << 5)
#define CR4_PGE (1ull << 7)
#define CR4_OSFXSR (1ull << 9)
#define CR4_OSXMMEXCPT (1ull << 10)
#define CR4_UMIP (1ull << 11)
#define CR4_FSGSBASE (1ull << 16)
#define CR4_PCIDE (1ull << 17)
#define CR4_OSXSAVE (1ull << 18)
#define CR4_SMEP (1ull << 20)
#define CR4_SMAP (1ull << 21)

#define FLAG_CF (1ull << 0)
#define FLAG_ZF (1ull << 6)
#define FLAG_TF (1ull << 8)
#define FLAG_IF (1ull << 9)
#define FLAG_DF (1ull << 10)
#define FLAG_NT (1ull << 14)
#define FLAG_RF (1ull << 16)
#define FLAG_AC (1ull << 18)

#define MSR_TSC 0x10
#define MSR_APIC_BASE 0x1b
#define MSR_TSC_ADJUST 0x3b
#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_MCG_CAP 0x179
#define MSR_MCG_STATUS 0x17a
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_SFMASK 0xc0000084
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define EFER_SCE (1ull << 0)
#define EFER_NXE (1ull << 11)

#define READ_REGISTER(name)                                                                        \
    static inline uint64_t read_##name(void)                                                       \
    {                                                                                              \
        uint64_t value;                                                                            \
        asm volatile("mov %%" #name ", %0" : "=r"(value));                                         \
        return value;                                                                              \
    }
#define WRITE_REGISTER(name)                                                                       \
    static inline void write_##name(uint64_t value)                                                \
    {                                                                                              \
        asm volatile("mov %0, %%" #name : : "r"(value) : "memory");                                \
    }
READ_REGISTER(cr0)
READ_REGISTER(cr2)
READ_REGISTER(cr3)
READ_REGISTER(cr4)
READ_REGISTER(cr8)
READ_REGISTER(dr6)
READ_REGISTER(dr7)
WRITE_REGISTER(cr0)
WRITE_REGISTER(cr2)
WRITE_REGISTER(cr3)
WRITE_REGISTER(cr4)
WRITE_REGISTER(cr8)
WRITE_REGISTER(dr0)
WRITE_REGISTER(dr1)
WRITE_REGISTER(dr2)
WRITE_REGISTER(dr3)
WRITE_REGISTER(dr6)
WRITE_REGISTER(dr7)

static inline void outb(uint16_t port, uint8_t value)
{
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint64_t read_msr(uint32_t index)
{
    uint32_t low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
    return (uint64_t)high << 32 | low;
}

static inline void write_msr(uint32_t index, uint64_t value)
{
    asm volatile("wrmsr"
                 :
                 : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                 : "memory");
}

static inline uint64_t read_tsc(void)
{
    uint32_t low, high;
    asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static inline void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    asm volatile("cpuid"
                 : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                 : "a"(leaf), "c"(subleaf));
}

/* A feature bit: register 0 to 3 is EAX to EDX. */
static inline bool cpu_has(uint32_t leaf, unsigned reg, unsigned bit)
{
    uint32_t highest[4], out[4];

    cpuid(leaf & 0x80000000, 0, highest);
    if (highest[0] < leaf)
        return false;
    cpuid(leaf, 0, out);
    return out[reg] >> bit & 1;
}

/* QEMU without hardware virtualization, which is wrong in places. */
static inline bool on_tcg(void)
{
    uint32_t out[4];

    cpuid(0x40000000, 0, out);
    return out[1] == 0x54474354; /* "TCGT" */
}

static inline void invlpg(const volatile void *address)
{
    asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static inline uint64_t read_flags(void)
{
    uint64_t flags;
    asm volatile("pushfq; pop %0" : "=r"(flags));
    return flags;
}

static inline void cli(void)
{
    asm volatile("cli" : : : "memory");
}

static inline void sti(void)
{
    asm volatile("sti" : : : "memory");
}

/* The tables of boot.S and trap.c, for tests that change them. */
extern uint64_t gdt[];
struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, iomap;
} __attribute__((packed));
extern struct tss tss;

#endif
