/* Exceptions and interrupts of a test guest: the IDT, TRY() and user_call() (guest.h). */
#include "guest.h"

#define STACK_SIZE 16384
#define USER_RETURN_VECTOR 0x40
#define USER_STACK_TOP 0x600000ull

struct trap trap;
uint64_t trap_resume, trap_rsp, trap_start;
struct tss tss;

static uint64_t idt[512] __attribute__((aligned(16)));
static uint8_t trap_stack[STACK_SIZE] __attribute__((aligned(16)));
static uint8_t privilege_stack[STACK_SIZE] __attribute__((aligned(16)));
static handler_fn *handlers[256];

void guest_start(void);
void trap_enter(struct frame *frame);
extern const uint8_t trap_stubs[], user_resume[], user_return[];
extern uint64_t user_saved_rsp;
uint64_t user_enter(uint64_t rip, uint64_t argument, uint64_t rsp);

/* entry.S: 16 bytes a vector. */
#define STUB_BYTES 16

void set_gate(unsigned vector, bool present, unsigned type, unsigned dpl, unsigned ist)
{
    uint64_t address = (uint64_t)trap_stubs + vector * STUB_BYTES;

    idt[2 * vector] = (address & 0xffff) | SEL_CODE << 16 | (uint64_t)ist << 32 |
                      (uint64_t)(type | dpl << 5 | (unsigned)present << 7) << 40 |
                      (address >> 16 & 0xffff) << 48;
    idt[2 * vector + 1] = address >> 32;
}

void set_handler(unsigned vector, handler_fn *handler)
{
    handlers[vector] = handler;
}

static void trap_init(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = {sizeof(idt) - 1, (uint64_t)idt};
    uint64_t base = (uint64_t)&tss;

    for (unsigned vector = 0; vector < 256; vector++)
        set_gate(vector, true, 14, vector == BP || vector == USER_RETURN_VECTOR ? 3 : 0, 1);
    asm volatile("lidt %0" : : "m"(pointer));

    tss.rsp[0] = (uint64_t)privilege_stack + STACK_SIZE;
    for (int i = 0; i < 7; i++)
        tss.ist[i] = (uint64_t)trap_stack + STACK_SIZE;
    tss.iomap = sizeof(tss);
    gdt[SEL_TSS / 8] =
        (sizeof(tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt[SEL_TSS / 8 + 1] = base >> 32;
    asm volatile("ltr %w0" : : "r"(SEL_TSS) : "memory");
    asm volatile("lldt %w0" : : "r"(0));
}

static void record(const struct frame *frame)
{
    trap = (struct trap){
        .vector = frame->vector,
        .error = frame->error,
        .rip = frame->rip,
        .cs = frame->cs,
        .rflags = frame->rflags,
        .rsp = frame->rsp,
        .ss = frame->ss,
        .cr2 = read_cr2(),
        .dr6 = read_dr6(),
    };
}

/* Called by the stubs; what it leaves in the frame is returned to. */
void trap_enter(struct frame *frame)
{
    if (frame->vector < 256 && handlers[frame->vector]) {
        handlers[frame->vector](frame);
    } else if (frame->cs & 3) {
        record(frame);
        if (frame->vector == USER_RETURN_VECTOR)
            trap.vector = NO_TRAP;
        frame->cs = SEL_CODE;
        frame->ss = SEL_DATA;
        frame->rip = (uint64_t)user_resume;
        frame->rsp = user_saved_rsp;
        frame->rflags = 2;
    } else if (trap_resume) {
        record(frame);
        frame->rip = trap_resume;
        frame->rsp = trap_rsp;
        frame->rflags &= ~(FLAG_TF | FLAG_NT | FLAG_AC);
    } else {
        print("FAIL unexpected exception %lu error %lx at %lx cr2 %lx\n", frame->vector,
              frame->error, frame->rip, read_cr2());
        check("no unexpected exception", false);
        finish();
    }
}

uint64_t user_call(uint64_t (*function)(uint64_t), uint64_t argument)
{
    uint64_t *stack = (uint64_t *)USER_STACK_TOP;

    bool smap = read_cr4() & CR4_SMAP;

    if (smap)
        asm volatile("stac");
    *--stack = (uint64_t)user_return;
    if (smap)
        asm volatile("clac" : : : "memory");
    trap.vector = NO_TRAP;
    return user_enter((uint64_t)function, argument, (uint64_t)stack);
}

void guest_start(void)
{
    trap_init();
    guest_main();
    finish();
}
