/*
 * A vCPU on a flat memory for tests of insn_execute(): linear is physical, one array is all of RAM,
 * single pages can be made absent (#PF) or a device (no host address). Instructions are given as
 * bytes and decoded as the engine does.
 */
#ifndef SILL_TESTS_UNIT_DBT_MACHINE_H
#define SILL_TESTS_UNIT_DBT_MACHINE_H

#include "engine/dbt/insn.h"
#include "x86/arch.h"

#define MACHINE_MEMORY (256 * 1024)

/* Where machine_long() and machine_protected() put things. */
#define MACHINE_GDT 0x1000
#define MACHINE_IDT 0x2000
#define MACHINE_TSS 0x3000
#define MACHINE_LDT 0x5000
#define MACHINE_CODE 0x8000
#define MACHINE_STACK 0x9000   /* top of the stack in use */
#define MACHINE_STACK0 0xb000  /* RSP0 / ESP0 in the TSS */
#define MACHINE_IST 0xd000     /* IST1 */
#define MACHINE_HANDLER 0xe000 /* gates lead to here + 16 * vector */
#define MACHINE_DATA 0x10000

/* Selectors. The user ones are in the order that SYSRET wants. */
enum {
    SEL_CODE0 = 0x08,
    SEL_DATA0 = 0x10,
    SEL_CODE3_32 = 0x18 | 3,
    SEL_DATA3 = 0x20 | 3,
    SEL_CODE3 = 0x28 | 3,
    SEL_TSS = 0x30, /* two slots */
    SEL_FREE = 0x40,
};

struct machine {
    struct dbt_vcpu v;
    uint8_t memory[MACHINE_MEMORY];
    bool absent[MACHINE_MEMORY >> GUEST_PAGE_SHIFT];
    bool device[MACHINE_MEMORY >> GUEST_PAGE_SHIFT];
    unsigned flushes, page_flushes, cr3_loads;
    uint16_t port;
    unsigned port_size, port_accesses;
    uint32_t port_value;
};
extern struct machine machine;

/* Access bytes of descriptors. */
enum {
    ACCESS_CODE = 0x9b,
    ACCESS_DATA = 0x93,
    ACCESS_DPL3 = 0x60,
    ACCESS_TSS = 0x89,
};
enum { FLAG_G = 8, FLAG_DB = 4, FLAG_L = 2 };

/* Everything zero, then real mode at 0:MACHINE_CODE; flat 64-bit code at CPL 0; flat 32-bit
 * protected mode at CPL 0, paging off. All gates of the IDT present. */
void machine_real(void);
void machine_long(void);
void machine_protected(void);
/* To CPL 3 with user segments, in machine_long() or machine_protected(). */
void machine_user(void);

/* The registers of machine_real(), with memory as it is. */
void machine_real_registers(void);

void machine_poke(uint64_t address, unsigned size, uint64_t value);
uint64_t machine_peek(uint64_t address, unsigned size);
void machine_descriptor(unsigned selector, uint32_t base, uint32_t limit, uint8_t access,
                        unsigned flags);
void machine_gate(unsigned vector, unsigned type, unsigned dpl, uint16_t selector, uint64_t offset,
                  unsigned ist);

/* Decodes the bytes for the current mode and executes them at rip. */
enum dbt_result machine_execute(const uint8_t *bytes, unsigned length);
#define EXECUTE(...)                                                                               \
    machine_execute((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* Executes, and checks that the exception came and that no register changed. */
void machine_expect_fault(const uint8_t *bytes, unsigned length, unsigned vector, uint32_t error);
#define EXPECT_FAULT(vector, error, ...)                                                           \
    machine_expect_fault((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}),   \
                         vector, error)

#endif
