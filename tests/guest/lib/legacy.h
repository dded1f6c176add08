/*
 * The library for 32-bit test guests (protected mode, segmentation, tasks, virtual-8086 mode,
 * 2-level and PAE paging). Output and verdict are those of guest.h's guest.c; the rest is here and
 * in legacy_trap.c. Memory from 4 MiB on is free.
 */
#ifndef LEGACY_H
#define LEGACY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEL_CODE 0x08
#define SEL_DATA 0x10
#define NO_TRAP 0xffff
enum { DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS = 10, NP, SS, GP, PF };

#define FLAG_VM (1u << 17)

void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void check(const char *what, bool good);
void check_equal(const char *what, uint64_t value, uint64_t expected);
__attribute__((noreturn)) void finish(void);
void guest_main(void);

/* As the entry stub leaves it; the last group is there only when the privilege level changed, the
 * very last only from virtual-8086 mode. */
struct frame {
    uint32_t edi, esi, ebp, esp_here, ebx, edx, ecx, eax;
    uint32_t es, ds, fs, gs;
    uint32_t vector, error;
    uint32_t eip, cs, eflags;
    uint32_t esp, ss;
    uint32_t vm_es, vm_ds, vm_fs, vm_gs;
};

struct trap {
    uint32_t vector, error, eip, cs, eflags, cr2;
};
extern struct trap trap;
extern uint32_t trap_resume, trap_esp, trap_start;

typedef void handler_fn(struct frame *frame);
void set_handler(unsigned vector, handler_fn *handler);
/* An IDT entry of any kind, for vectors 0 to 63. */
void set_gate(unsigned vector, uint16_t selector, uint32_t offset, uint8_t attributes);

/* As in guest.h. */
#define TRY(text, ...)                                                                             \
    ({                                                                                             \
        trap = (struct trap){.vector = NO_TRAP};                                                   \
        asm volatile("mov %%esp, trap_esp\n\tmovl $772f, trap_resume\n\t" HERE text                \
                     "\n772:\tmov trap_esp, %%esp\n\tmovl $0, trap_resume" __VA_ARGS__);           \
        asm volatile("" : : : "memory");                                                           \
        trap.vector;                                                                               \
    })
#define HERE "movl $771f, trap_start\n771:\t"

extern uint64_t gdt[];
/* A descriptor of the manuals' form: attributes are bits 8 to 15 and 20 to 23 of its high half. */
static inline uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t attributes)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
           (uint64_t)(attributes & 0xff) << 40 | (uint64_t)(limit >> 16 & 15) << 48 |
           (uint64_t)(attributes >> 8 & 15) << 52 | (uint64_t)(base >> 24) << 56;
}

static inline void outb(uint16_t port, uint8_t value)
{
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

#define REGISTER(name)                                                                             \
    static inline uint32_t read_##name(void)                                                       \
    {                                                                                              \
        uint32_t value;                                                                            \
        asm volatile("mov %%" #name ", %0" : "=r"(value));                                         \
        return value;                                                                              \
    }                                                                                              \
    static inline void write_##name(uint32_t value)                                                \
    {                                                                                              \
        asm volatile("mov %0, %%" #name : : "r"(value) : "memory");                                \
    }
REGISTER(cr0)
REGISTER(cr2)
REGISTER(cr3)
REGISTER(cr4)

#endif
