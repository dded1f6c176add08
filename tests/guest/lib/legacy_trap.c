/* Exceptions of a 32-bit test guest: the IDT and TRY() (legacy.h). */
#include "legacy.h"

struct trap trap;
uint32_t trap_resume, trap_esp, trap_start;

static uint64_t idt[64];
static handler_fn *handlers[64];
extern const uint8_t trap_stubs[];

void legacy_start(void);
void trap_enter(struct frame *frame);

void set_handler(unsigned vector, handler_fn *handler)
{
    handlers[vector] = handler;
}

void set_gate(unsigned vector, uint16_t selector, uint32_t offset, uint8_t attributes)
{
    idt[vector] = (offset & 0xffff) | (uint32_t)selector << 16 | (uint64_t)attributes << 40 |
                  (uint64_t)(offset >> 16) << 48;
}

void trap_enter(struct frame *frame)
{
    if (frame->vector < 64 && handlers[frame->vector]) {
        handlers[frame->vector](frame);
        return;
    }
    if (!trap_resume) {
        print("FAIL unexpected exception %u error %x at %x:%x\n", frame->vector, frame->error,
              frame->cs, frame->eip);
        check("no unexpected exception", false);
        finish();
    }
    trap = (struct trap){.vector = frame->vector,
                         .error = frame->error,
                         .eip = frame->eip,
                         .cs = frame->cs,
                         .eflags = frame->eflags,
                         .cr2 = read_cr2()};
    frame->eip = trap_resume;
    frame->ds = frame->es = SEL_DATA;
}

void legacy_start(void)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) pointer = {sizeof(idt) - 1, (uint32_t)idt};

    for (unsigned vector = 0; vector < 64; vector++)
        set_gate(vector, SEL_CODE, (uint32_t)trap_stubs + 16 * vector,
                 vector == BP || vector == OF ? 0xee : 0x8e);
    asm volatile("lidt %0" : : "m"(pointer));
    guest_main();
    finish();
}
