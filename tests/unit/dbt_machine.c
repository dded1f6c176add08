/* The flat machine of dbt_machine.h: the functions that the engine's core expects of mmu.c and
 * runtime.c, and the set-up of each mode. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "dbt_machine.h"

#include "engine/dbt/debug.h"
#include "engine/dbt/vm.h"
#include "engine/dbt/decode.h"

#define PHYSICAL_BITS 40

struct machine machine;
static struct dbt_vm vm = {.phys_bits = PHYSICAL_BITS};

/* --- what mmu.c gives --- */

static enum dbt_result check(struct dbt_vcpu *v, gva_t address, unsigned size, unsigned access)
{
    for (uint64_t i = 0; i < size; i++) {
        uint64_t at = address + i;

        if (at >= MACHINE_MEMORY || machine.absent[at >> GUEST_PAGE_SHIFT]) {
            v->exception = (struct dbt_exception){.pending = true,
                                                  .vector = X86_VECTOR_PF,
                                                  .has_error = true,
                                                  .error = access & MMU_WRITE ? X86_PF_W : 0,
                                                  .address = at};
            return DBT_FAULT;
        }
    }
    return DBT_NEXT;
}

enum dbt_result mmu_read(struct dbt_vcpu *v, gva_t address, void *to, unsigned size,
                         unsigned access)
{
    if (check(v, address, size, access) == DBT_FAULT)
        return DBT_FAULT;
    memcpy(to, machine.memory + address, size);
    return DBT_NEXT;
}

enum dbt_result mmu_write(struct dbt_vcpu *v, gva_t address, const void *from, unsigned size,
                          unsigned access)
{
    if (check(v, address, size, access | MMU_WRITE) == DBT_FAULT)
        return DBT_FAULT;
    memcpy(machine.memory + address, from, size);
    return DBT_NEXT;
}

enum dbt_result mmu_probe_write(struct dbt_vcpu *v, gva_t address, unsigned size, unsigned access)
{
    return check(v, address, size, access | MMU_WRITE);
}

/* Breakpoints have no part in these tests. */
void debug_update(struct dbt_vcpu *v)
{
}

enum dbt_result mmu_host(struct dbt_vcpu *v, gva_t address, unsigned access, uint8_t **host,
                         uint64_t *length)
{
    if (check(v, address, 1, access) == DBT_FAULT)
        return DBT_FAULT;
    *host = machine.device[address >> GUEST_PAGE_SHIFT] ? NULL : machine.memory + address;
    *length = GUEST_PAGE_SIZE - (address & (GUEST_PAGE_SIZE - 1));
    return DBT_NEXT;
}

enum dbt_result mmu_cmpxchg(struct dbt_vcpu *v, gva_t address, uint64_t *expected, uint64_t desired,
                            unsigned size, unsigned access)
{
    uint64_t old = 0;

    if (check(v, address, size, access | MMU_WRITE) == DBT_FAULT)
        return DBT_FAULT;
    memcpy(&old, machine.memory + address, size);
    if (old == *expected)
        memcpy(machine.memory + address, &desired, size);
    *expected = old;
    return DBT_NEXT;
}

void mmu_flush(struct dbt_vcpu *v, bool global_too)
{
    machine.flushes++;
}

void mmu_flush_page(struct dbt_vcpu *v, gva_t address)
{
    machine.page_flushes++;
}

bool mmu_set_cr3(struct dbt_vcpu *v, uint64_t cr3, bool keep)
{
    machine.cr3_loads++;
    v->cr3 = cr3;
    return true;
}

/* --- what runtime.c gives --- */

uint32_t dbt_port_read(struct dbt_vcpu *v, uint16_t port, unsigned size)
{
    machine.port = port;
    machine.port_size = size;
    return machine.port_value + machine.port_accesses++;
}

void dbt_port_write(struct dbt_vcpu *v, uint16_t port, unsigned size, uint32_t value)
{
    machine.port = port;
    machine.port_size = size;
    machine.port_value = value;
    machine.port_accesses++;
}

bool dbt_msr_read_outside(struct dbt_vcpu *v, uint32_t index, uint64_t *value)
{
    return false;
}

bool dbt_msr_write_outside(struct dbt_vcpu *v, uint32_t index, uint64_t value)
{
    return false;
}

void dbt_simd_unload(struct dbt_vcpu *v)
{
}

/* All features, 40 address bits, x87, SSE and AVX state. */
void dbt_cpuid(struct dbt_vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    for (unsigned i = 0; i < 4; i++)
        out[i] = leaf == 0xd ? (i == 0 ? 7 : 0) : ~0u;
    if (leaf == 0x80000008)
        out[0] = PHYSICAL_BITS;
}

uint64_t dbt_cr8_read(struct dbt_vcpu *v)
{
    return 0;
}

void dbt_cr8_write(struct dbt_vcpu *v, uint64_t value)
{
}

void dbt_ipi_send(struct dbt_vcpu *v, unsigned apic_id, uint32_t command)
{
}

uint64_t dbt_tsc(struct dbt_vcpu *v)
{
    return 0x123456789abcdefull;
}

/* --- set-up --- */

void machine_poke(uint64_t address, unsigned size, uint64_t value)
{
    assert_true(address + size <= MACHINE_MEMORY);
    memcpy(machine.memory + address, &value, size);
}

uint64_t machine_peek(uint64_t address, unsigned size)
{
    uint64_t value = 0;

    assert_true(address + size <= MACHINE_MEMORY);
    memcpy(&value, machine.memory + address, size);
    return value;
}

void machine_descriptor(unsigned selector, uint32_t base, uint32_t limit, uint8_t access,
                        unsigned flags)
{
    uint64_t d = (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
                 (uint64_t)(limit >> 16 & 0xf) << 48 | (uint64_t)flags << 52 |
                 (uint64_t)(base >> 24) << 56;

    machine_poke(MACHINE_GDT + (selector & ~7u), 8, d);
}

void machine_gate(unsigned vector, unsigned type, unsigned dpl, uint16_t selector, uint64_t offset,
                  unsigned ist)
{
    bool is_long = machine.v.efer & X86_EFER_LMA;
    uint64_t at = MACHINE_IDT + vector * (is_long ? 16 : 8);

    machine_poke(at, 8,
                 (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)ist << 32 |
                     (uint64_t)(0x80 | dpl << 5 | type) << 40 | (offset >> 16 & 0xffff) << 48);
    if (is_long)
        machine_poke(at + 8, 8, offset >> 32);
}

/* Loads the hidden part from the GDT without checks. */
static void load(struct x86_segment *s, uint16_t selector)
{
    uint64_t d = machine_peek(MACHINE_GDT + (selector & ~7u), 8);

    s->selector = selector;
    s->attributes = d >> 40 & 0xf0ff;
    s->limit = (d & 0xffff) | (d >> 32 & 0xf0000);
    if (s->attributes & X86_SEGMENT_G)
        s->limit = s->limit << 12 | 0xfff;
    s->base = (d >> 16 & 0xffffff) | (d >> 56) << 24;
}

static void load_all(uint16_t code, uint16_t data)
{
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        load(&machine.v.segment[i], i == X86_CS ? code : data);
    mode_update(&machine.v);
}

void machine_real_registers(void)
{
    struct dbt_vcpu *v = &machine.v;

    memset(v, 0, sizeof(*v));
    v->vm = &vm;
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        v->segment[i] = (struct x86_segment){.attributes = ACCESS_DATA, .limit = 0xffff};
    v->tr = (struct x86_segment){.attributes = 0x8b, .limit = 0xffff};
    v->ldtr = (struct x86_segment){.attributes = 0x82, .limit = 0xffff};
    v->idtr.limit = 0x3ff;
    v->cr0 = X86_CR0_ET;
    v->dr6 = X86_DR6_RESET;
    v->dr7 = X86_DR7_RESET;
    v->xcr0 = X86_XCR0_X87;
    v->rip = MACHINE_CODE;
    v->gpr[X86_RSP] = MACHINE_STACK;
    mode_update(v);
}

void machine_real(void)
{
    memset(&machine, 0, sizeof(machine));
    machine_real_registers();
}

static void set_tables(unsigned gates, uint16_t code)
{
    struct dbt_vcpu *v = &machine.v;

    v->gdtr = (struct x86_table){.base = MACHINE_GDT, .limit = 0xff};
    v->idtr = (struct x86_table){.base = MACHINE_IDT, .limit = 256 * gates - 1};
    for (unsigned i = 0; i < 64; i++)
        machine_gate(i, X86_TYPE_INTERRUPT_GATE, 0, code, MACHINE_HANDLER + 16 * i, 0);
    v->rip = MACHINE_CODE;
    v->gpr[X86_RSP] = MACHINE_STACK;
    dbt_rflags_set(v, 2);
}

void machine_long(void)
{
    struct dbt_vcpu *v = &machine.v;

    machine_real();
    v->cr0 |= X86_CR0_PE | X86_CR0_PG;
    v->cr4 = X86_CR4_PAE;
    v->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE;
    machine_descriptor(SEL_CODE0, 0, 0xfffff, ACCESS_CODE, FLAG_G | FLAG_L);
    machine_descriptor(SEL_DATA0, 0, 0xfffff, ACCESS_DATA, FLAG_G | FLAG_DB);
    machine_descriptor(SEL_CODE3_32, 0, 0xfffff, ACCESS_CODE | ACCESS_DPL3, FLAG_G | FLAG_DB);
    machine_descriptor(SEL_DATA3, 0, 0xfffff, ACCESS_DATA | ACCESS_DPL3, FLAG_G | FLAG_DB);
    machine_descriptor(SEL_CODE3, 0, 0xfffff, ACCESS_CODE | ACCESS_DPL3, FLAG_G | FLAG_L);
    set_tables(16, SEL_CODE0);
    machine_descriptor(SEL_TSS, MACHINE_TSS, 0x1fff, ACCESS_TSS | 2, 0);
    machine_poke(MACHINE_TSS + 4, 8, MACHINE_STACK0);
    machine_poke(MACHINE_TSS + 0x24, 8, MACHINE_IST);
    load(&v->tr, SEL_TSS);
    load_all(SEL_CODE0, SEL_DATA0);
}

void machine_protected(void)
{
    struct dbt_vcpu *v = &machine.v;

    machine_real();
    v->cr0 |= X86_CR0_PE;
    machine_descriptor(SEL_CODE0, 0, 0xfffff, ACCESS_CODE, FLAG_G | FLAG_DB);
    machine_descriptor(SEL_DATA0, 0, 0xfffff, ACCESS_DATA, FLAG_G | FLAG_DB);
    machine_descriptor(SEL_CODE3, 0, 0xfffff, ACCESS_CODE | ACCESS_DPL3, FLAG_G | FLAG_DB);
    machine_descriptor(SEL_DATA3, 0, 0xfffff, ACCESS_DATA | ACCESS_DPL3, FLAG_G | FLAG_DB);
    set_tables(8, SEL_CODE0);
    machine_descriptor(SEL_TSS, MACHINE_TSS, 0x1fff, ACCESS_TSS | 2, 0);
    machine_poke(MACHINE_TSS + 4, 4, MACHINE_STACK0);
    machine_poke(MACHINE_TSS + 8, 2, SEL_DATA0);
    load(&v->tr, SEL_TSS);
    load_all(SEL_CODE0, SEL_DATA0);
}

void machine_user(void)
{
    load_all(SEL_CODE3, SEL_DATA3);
}

/* --- execution --- */

enum dbt_result machine_execute(const uint8_t *bytes, unsigned length)
{
    struct decode_features features;
    struct decoded decoded;
    struct insn insn;
    bool too_short;

    memset(&features, 1, sizeof(features));
    assert_true(decode_one(&decoded, &features, machine.v.mode, bytes, length, &too_short));
    assert_int_equal(decoded.z.length, length);
    decode_to_insn(&decoded, bytes, &insn);
    return insn_execute(&machine.v, &insn);
}

void machine_expect_fault(const uint8_t *bytes, unsigned length, unsigned vector, uint32_t error)
{
    static struct dbt_vcpu before;
    struct dbt_vcpu *v = &machine.v;

    before = *v;
    assert_int_equal(machine_execute(bytes, length), DBT_FAULT);
    assert_true(v->exception.pending);
    assert_int_equal(v->exception.vector, vector);
    assert_int_equal(v->exception.error, error);
    v->exception = before.exception;
    assert_memory_equal(v, &before, sizeof(before));
}
