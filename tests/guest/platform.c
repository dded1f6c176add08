/*
 * What kvm-unit-tests ask of the machine that they run in (`--device testdev`, and fw_cfg, which is
 * always there): latches, a page flush, interrupt lines and device memory; how many processors and
 * how much memory there are. Run with two processors and 64 MiB.
 */
#include "lib/guest.h"

#define FW_CFG_SELECTOR 0x510
#define FW_CFG_DATA 0x511
#define FLUSH_PORT 0xe4
#define LINES_PORT 0x2000
#define DEVICE_MEMORY 0xff000000ull

#define LINE 20
#define VECTOR_LINE 0x62

static volatile unsigned interrupts;

static void outw(uint16_t port, uint16_t value)
{
    asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static void outl(uint16_t port, uint32_t value)
{
    asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint16_t inw(uint16_t port)
{
    uint16_t value;
    asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static uint32_t inl(uint16_t port)
{
    uint32_t value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static uint64_t fw_cfg(uint16_t item, unsigned bytes)
{
    uint64_t value = 0;

    outw(FW_CFG_SELECTOR, item);
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)inb(FW_CFG_DATA) << 8 * i;
    return value;
}

static void configuration(void)
{
    check_equal("fw_cfg is there", fw_cfg(0, 4), 0x554d4551); /* "QEMU" */
    check_equal("    memory", fw_cfg(3, 8), 64 << 20);
    check_equal("    processors", fw_cfg(5, 2), 2);
}

static void latch(uint16_t port)
{
    static const uint32_t out[] = {0x11223344, 0x55667788, 0x99aabbcc};
    static const uint8_t out8[] = {1, 2, 3};
    uint32_t in[3] = {0};
    uint8_t in8[3] = {0};
    const void *from = out;
    void *to = in;
    uint64_t count = 3;

    print("-- latch at 0x%x\n", port);
    outl(port, 0x44332211);
    check_equal("4 bytes", inl(port), 0x44332211);
    outw(port + 2, 0xbbaa);
    check_equal("2 bytes", inw(port + 2), 0xbbaa);
    outb(port + 1, 0x99);
    check_equal("1 byte", inb(port + 1), 0x99);
    check_equal("together", inl(port), 0xbbaa9911);

    asm volatile("rep outsl" : "+S"(from), "+c"(count) : "d"(port) : "memory");
    check_equal("REP OUTSD: the last stays", inl(port), out[2]);
    check("    RSI and RCX", from == out + 3 && count == 0);
    count = 3;
    asm volatile("rep insl" : "+D"(to), "+c"(count) : "d"(port) : "memory");
    check("REP INSD: the same each time",
          in[0] == out[2] && in[1] == out[2] && in[2] == out[2] && to == in + 3);
    from = out8 + 2;
    to = in8 + 2;
    count = 2;
    asm volatile("std; rep outsb; insb; cld"
                 : "+S"(from), "+c"(count), "+D"(to)
                 : "d"(port)
                 : "memory", "cc");
    check("REP OUTSB downward, then INSB",
          in8[2] == 2 && in8[1] == 0 && from == out8 && to == in8 + 1);
}

static void flush(void)
{
    uint64_t *page = page_new();

    page[3] = 0x123456789abcdef;
    outl(FLUSH_PORT, (uint32_t)(uint64_t)&page[3]);
    check_equal("a flushed page keeps its contents", page[3], 0x123456789abcdef);
    page[3] = 1;
    check_equal("    and takes new ones", page[3], 1);
    outl(FLUSH_PORT, 0xfffff000);
}

static void on_line(struct frame *frame)
{
    interrupts++;
    *(volatile uint32_t *)0xfee000b0 = 0; /* EOI */
}

static void ioapic_write(uint32_t reg, uint32_t value)
{
    volatile uint32_t *ioapic = (volatile uint32_t *)0xfec00000;

    ioapic[0] = reg;
    ioapic[4] = value;
}

static void lines(void)
{
    set_handler(VECTOR_LINE, on_line);
    *(volatile uint32_t *)0xfee000f0 = 0x1ff; /* APIC on */
    ioapic_write(0x11 + 2 * LINE, 0);
    ioapic_write(0x10 + 2 * LINE, VECTOR_LINE); /* edge, to processor 0 */
    outb(LINES_PORT + LINE, 1);
    asm volatile("sti; nop; cli" : : : "memory");
    check_equal("a line going up interrupts", interrupts, 1);
    outb(LINES_PORT + LINE, 1);
    outb(LINES_PORT + LINE, 0);
    asm volatile("sti; nop; cli" : : : "memory");
    check_equal("    staying up or going down does not", interrupts, 1);
    outb(LINES_PORT + LINE, 1);
    asm volatile("sti; nop; cli" : : : "memory");
    check_equal("    going up again does", interrupts, 2);
    outb(LINES_PORT + LINE, 0);
}

static void device_memory(void)
{
    volatile uint8_t *at = (volatile uint8_t *)DEVICE_MEMORY;
    static const uint8_t text[] = "device memory";
    uint8_t back[sizeof(text)] = {0};
    const void *from = text;
    void *to = (void *)(at + 5);
    uint64_t count = sizeof(text);
    bool same = true;

    *(volatile uint64_t *)(at + 0x100) = 0x1122334455667788;
    check_equal("8 bytes", *(volatile uint64_t *)(at + 0x100), 0x1122334455667788);
    check_equal("2 of them", *(volatile uint16_t *)(at + 0x103), 0x4455);
    *(volatile uint8_t *)(at + 0x107) = 0x99;
    check_equal("1 of them", *(volatile uint64_t *)(at + 0x100), 0x9922334455667788);
    asm volatile("lock incl (%0)" : : "r"(at + 0x100) : "memory", "cc");
    check_equal("LOCK INC", *(volatile uint32_t *)(at + 0x100), 0x55667789);
    asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    from = (const void *)(at + 5);
    to = back;
    count = sizeof(text);
    asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    for (unsigned i = 0; i < sizeof(text); i++)
        same &= back[i] == text[i];
    check("REP MOVSB there and back", same);
    at[0xffff] = 7;
    check_equal("the last byte", at[0xffff], 7);
}

void guest_main(void)
{
    outb(0x21, 0xff); /* the 8259s stay out of this */
    outb(0xa1, 0xff);
    configuration();
    latch(0xe0);
    latch(0xe8);
    flush();
    lines();
    device_memory();
}
