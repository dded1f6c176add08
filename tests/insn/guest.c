/*
 * Runs cases in a guest on an engine: one vCPU in long mode, the region identity mapped for user
 * mode, a supervisor that only catches exceptions (runner.S). The guest tells by a write to
 * EXIT_PORT that it is through its cases; the write kicks the vCPU out of run(). The same guest is
 * used again for the next batch: it goes on behind the port write.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "insn.h"

/* Guest-physical, mapped by one large page for the supervisor, at HIGH: low addresses are absent,
 * as they are in a process. */
#define HIGH 0xffff800000000000ull
#define LOW_SIZE 0x200000
#define PML4 0x1000
#define PDPT 0x2000
#define PD 0x3000
#define PT 0x4000 /* four of them: REGION_SIZE */
#define GDT 0x9000
#define IDT 0xa000
#define TSS 0xb000
#define LDT 0xc000
#define HIGH_PDPT 0xd000
#define HIGH_PD 0xe000
#define STACK 0x10000
#define TSS_LIMIT 0x67

#define PTE_P 1ull
#define PTE_RW 2ull
#define PTE_US 4ull
#define PTE_PS 0x80ull
#define PTE_NX (1ull << 63)

#define TIME_LIMIT 5 /* seconds for a batch */
#define MAX_ACCIDENTS 3

struct guest {
    const struct engine_ops *ops;
    struct memory memory;
    struct clock *clock;
    struct x86_cpuid cpuid;
    struct engine_vm *vm;
    struct engine_vcpu *vcpu;
    volatile bool done; /* the guest wrote to EXIT_PORT */
    bool fresh;         /* no batch is behind it: starts at the top of the loop */
};

/* --- callbacks: nothing is there but the exit port --- */

static uint32_t port_read(void *opaque, uint16_t port, unsigned size)
{
    return ~0u;
}

static void port_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    struct guest *g = opaque;

    if (port == EXIT_PORT) {
        g->done = true;
        g->ops->kick(g->vcpu);
    }
}

static uint64_t mmio_read(void *opaque, gpa_t gpa, unsigned size)
{
    return ~0ull;
}

static void mmio_write(void *opaque, gpa_t gpa, unsigned size, uint64_t value)
{
}

static bool msr_read(void *opaque, unsigned vcpu, uint32_t index, uint64_t *value)
{
    return false;
}

static bool msr_write(void *opaque, unsigned vcpu, uint32_t index, uint64_t value)
{
    return false;
}

static uint8_t pic_acknowledge(void *opaque)
{
    return 0xff;
}

static void ioapic_eoi(void *opaque, uint8_t vector)
{
}

/* --- set-up --- */

static void put_memory(struct guest *g, gpa_t gpa, const void *from, uint64_t size)
{
    if (memory_write(&g->memory, gpa, from, size))
        abort(); /* all addresses are constants inside the slots */
}

static void get_memory(struct guest *g, gpa_t gpa, void *to, uint64_t size)
{
    if (memory_read(&g->memory, gpa, to, size))
        abort();
}

static void put_u64(struct guest *g, gpa_t gpa, uint64_t value)
{
    put_memory(g, gpa, &value, 8);
}

static uint64_t get_u64(struct guest *g, gpa_t gpa)
{
    uint64_t value;

    get_memory(g, gpa, &value, 8);
    return value;
}

static void map_region(struct guest *g, uint64_t address, uint64_t size, uint64_t flags)
{
    for (uint64_t a = address; a < address + size; a += GUEST_PAGE_SIZE)
        put_u64(g, PT + (a - REGION_BASE) / GUEST_PAGE_SIZE * 8, a | PTE_P | PTE_US | flags);
}

static void write_page_tables(struct guest *g)
{
    put_u64(g, PML4, PDPT | PTE_P | PTE_RW | PTE_US);
    put_u64(g, PDPT, PD | PTE_P | PTE_RW | PTE_US);
    put_u64(g, PML4 + 256 * 8, HIGH_PDPT | PTE_P | PTE_RW);
    put_u64(g, HIGH_PDPT, HIGH_PD | PTE_P | PTE_RW);
    put_u64(g, HIGH_PD, PTE_P | PTE_RW | PTE_PS);
    for (unsigned i = 0; i < REGION_SIZE / LOW_SIZE; i++)
        put_u64(g, PD + (REGION_BASE / LOW_SIZE + i) * 8,
                (PT + i * GUEST_PAGE_SIZE) | PTE_P | PTE_RW | PTE_US);
    map_region(g, DATA_BASE, DATA_SIZE, PTE_RW | PTE_NX);
    map_region(g, READ_ONLY_BASE, GUEST_PAGE_SIZE, PTE_NX);
    map_region(g, ISLAND_BASE, GUEST_PAGE_SIZE, PTE_RW | PTE_NX);
    map_region(g, CONTROL_BASE, GUEST_PAGE_SIZE, PTE_RW | PTE_NX);
    map_region(g, CODE_BASE, CODE_SIZE + RUNNER_SIZE, 0);
    map_region(g, CASES_BASE, CASES_SIZE, PTE_RW | PTE_NX);
}

/* Descriptors: type and S, DPL, P in the attribute byte as struct x86_segment has them. */
#define CODE64 0xa09b
#define CODE64_3 0xa0fb
#define CODE32_3 0xc0fb
#define DATA 0xc093
#define DATA_3 0xc0f3
#define TSS_BUSY 0x008b
#define LDT_PRESENT 0x0082
/* Linux keeps the number of the CPU as the limit of a data segment that user mode may load:
 * read-only, expand-down, 32-bit. */
#define SELECTOR_CPU 0x78
#define CPU_DESCRIPTOR 0x0040f50000000000ull

static void write_descriptor(struct guest *g, unsigned selector, unsigned attributes)
{
    /* Base 0, limit 4 GiB in pages. */
    put_u64(g, GDT + (selector & ~7u),
            0xffffull | (uint64_t)(attributes & 0xff) << 40 | 0xfull << 48 |
                (uint64_t)(attributes >> 12) << 52);
}

static void write_gate(struct guest *g, unsigned vector, uint64_t address, unsigned dpl)
{
    put_u64(g, IDT + vector * 16,
            (address & 0xffff) | SELECTOR_KERNEL << 16 | (0x8eull | dpl << 5) << 40 |
                (address >> 16 & 0xffff) << 48);
    put_u64(g, IDT + vector * 16 + 8, address >> 32);
}

static void write_tables(struct guest *g)
{
    write_descriptor(g, SELECTOR_KERNEL, CODE64);
    write_descriptor(g, SELECTOR_STACK, DATA);
    write_descriptor(g, SELECTOR_USER32, CODE32_3);
    write_descriptor(g, SELECTOR_USER_SS, DATA_3);
    write_descriptor(g, SELECTOR_USER, CODE64_3);
    put_u64(g, GDT + SELECTOR_CPU, CPU_DESCRIPTOR);
    put_u64(g, TSS + 4, HIGH + STACK);                             /* RSP0 */
    put_u64(g, TSS + TSS_LIMIT + 1 - 8, (TSS_LIMIT + 1ull) << 48); /* no I/O permission bitmap */
    put_memory(g, LDT, ldt_descriptors, sizeof(ldt_descriptors));
    for (unsigned i = 0; i < GUEST_PAGE_SIZE; i++) {
        uint8_t byte = read_only_byte(i);
        put_memory(g, READ_ONLY_BASE + i, &byte, 1);
    }
    for (unsigned vector = 0; vector < 32; vector++)
        write_gate(g, vector, HIGH + SUPERVISOR_CODE + vector * SUPERVISOR_STUB,
                   vector == 3 || vector == 4 ? 3 : 0);
    put_memory(g, SUPERVISOR_CODE, supervisor_begin, (uint64_t)(supervisor_end - supervisor_begin));
    put_memory(g, RUNNER_BASE, runner_begin, (uint64_t)(runner_end - runner_begin));
    put_u64(g, CONTROL_FINISH, RUNNER_ADDRESS(runner_guest_exit));
}

static struct x86_segment segment(uint16_t selector, uint16_t attributes, uint64_t base)
{
    return (struct x86_segment){.selector = selector,
                                .attributes = attributes,
                                .limit = selector == SELECTOR_TSS ? TSS_LIMIT : ~0u,
                                .base = base};
}

/* User mode at the top of the loop. */
static int set_start_state(struct guest *g)
{
    struct x86_vcpu_state *s = aligned_alloc(64, sizeof(*s));
    int r;

    if (!s)
        return -ENOMEM;
    x86_vcpu_state_reset(s, true, 0);
    memset(s->gpr, 0, sizeof(s->gpr));
    s->rip = RUNNER_BASE;
    s->rflags = 0x202;
    s->segment[X86_CS] = segment(SELECTOR_USER, CODE64_3, 0);
    s->segment[X86_SS] = segment(SELECTOR_USER_SS, DATA_3, 0);
    s->segment[X86_DS] = s->segment[X86_ES] = segment(SELECTOR_USER_SS, DATA_3, 0);
    s->segment[X86_FS] = segment(SELECTOR_USER_SS, DATA_3, CASE_FS_BASE);
    s->segment[X86_GS] = segment(SELECTOR_USER_SS, DATA_3, CASE_GS_BASE);
    s->tr = segment(SELECTOR_TSS, TSS_BUSY, HIGH + TSS);
    s->ldtr = (struct x86_segment){.selector = SELECTOR_LDT,
                                   .attributes = LDT_PRESENT,
                                   .limit = sizeof(ldt_descriptors) - 1,
                                   .base = HIGH + LDT};
    s->gdtr = (struct x86_table){HIGH + GDT, SELECTOR_CPU + 7};
    s->idtr = (struct x86_table){HIGH + IDT, 256 * 16 - 1};
    s->cr0 = 0x80050033; /* PG, AM, WP, NE, ET, MP, PE */
    s->cr3 = PML4;
    s->cr4 = 0x000506a0; /* OSXSAVE, FSGSBASE, OSXMMEXCPT, OSFXSR, PGE, PAE */
    s->efer = 0xd01;     /* NXE, LMA, LME, SCE */
    s->xcr0 = CASE_XSAVE_MASK;
    r = g->ops->set_state(g->vcpu, s,
                          X86_STATE_GPR | X86_STATE_SYSTEM | X86_STATE_FPU | X86_STATE_EVENTS);
    free(s);
    g->fresh = true;
    return r;
}

int guest_new(struct guest **out, const struct engine_ops *ops, struct error *err)
{
    struct guest *g = calloc(1, sizeof(*g));
    struct engine_info *info = calloc(1, sizeof(*info));
    int r = -ENOMEM;

    if (!g || !info)
        goto fail;
    g->ops = ops;
    ops->probe(info);
    if (!info->usable) {
        r = error_set(err, -ENOTSUP, "engine %s is not usable here: %s", ops->name, info->reason);
        goto fail;
    }
    memory_init(&g->memory, 0);
    r = memory_add(&g->memory, 0, LOW_SIZE, 0, "low", err);
    if (!r)
        r = memory_add(&g->memory, REGION_BASE, REGION_SIZE, 0, "region", err);
    if (!r)
        r = clock_new(&g->clock, err);
    if (!r)
        r = x86_cpuid_build(&g->cpuid, "host", 1, &info->supported, err);
    if (r)
        goto fail;

    struct engine_vm_config config = {
        .memory = &g->memory,
        .clock = g->clock,
        .cpuid = g->cpuid,
        .vcpus = 1,
        .debug = getenv("SILL_DBT_TRACE"),
        .callbacks = {g, port_read, port_write, mmio_read, mmio_write, msr_read, msr_write,
                      pic_acknowledge, ioapic_eoi},
    };
    r = ops->vm_create(&g->vm, &config, err);
    if (!r)
        r = ops->vcpu_create(&g->vcpu, g->vm, 0, err);
    if (r)
        goto fail;
    write_page_tables(g);
    write_tables(g);
    r = set_start_state(g);
    if (r) {
        error_set(err, r, "engine %s refuses the start state: %s", ops->name, strerror(-r));
        goto fail;
    }
    free(info);
    *out = g;
    return 0;
fail:
    free(info);
    guest_free(g);
    return r;
}

void guest_free(struct guest *g)
{
    if (!g)
        return;
    if (g->vcpu)
        g->ops->vcpu_destroy(g->vcpu);
    if (g->vm)
        g->ops->vm_destroy(g->vm);
    if (g->clock)
        clock_free(g->clock);
    memory_done(&g->memory);
    free(g);
}

const struct x86_cpuid *guest_cpuid(const struct guest *g)
{
    return &g->cpuid;
}

/* --- running --- */

static struct guest *alarmed;

static void on_alarm(int number)
{
    alarmed->ops->kick(alarmed->vcpu);
}

/* Notes what became of the case that was running, and skips it. */
static int skip_case(struct guest *g, uint64_t what)
{
    uint64_t current = get_u64(g, CONTROL_CURRENT);

    put_u64(g, current + CASE_FAULT_VECTOR, what);
    put_u64(g, CONTROL_CURRENT, current + CASE_BYTES);
    return set_start_state(g);
}

int guest_run(struct guest *g, struct insn_case *cases, unsigned count, const uint8_t *code,
              size_t code_size, struct error *err)
{
    static const uint8_t zeros[DATA_SIZE];
    static uint8_t all[CODE_SIZE];
    struct sigaction action = {.sa_handler = on_alarm}, before;
    struct engine_exit exit;
    unsigned accidents = 0;
    int r = 0;

    memset(all, INT3, sizeof(all));
    memcpy(all + (SNIPPET_BASE - CODE_BASE), code, code_size);
    put_memory(g, CODE_BASE, all, sizeof(all));
    put_memory(g, CASES_BASE, cases, count * sizeof(*cases));
    put_memory(g, DATA_BASE, zeros, sizeof(zeros));
    put_memory(g, ISLAND_BASE, zeros, GUEST_PAGE_SIZE);
    put_u64(g, CONTROL_CURRENT, CASES_BASE);
    put_u64(g, CONTROL_END, CASES_BASE + count * sizeof(*cases));

    alarmed = g;
    sigaction(SIGALRM, &action, &before);
    g->done = false;
    while (!r && !g->done) {
        alarm(TIME_LIMIT);
        g->ops->run(g->vcpu, &exit);
        alarm(0);
        if (g->done)
            break;
        if (++accidents > MAX_ACCIDENTS)
            r = error_set(err, -EIO, "the guest keeps hanging or crashing");
        else if (exit.kind == ENGINE_EXIT_KICKED)
            r = skip_case(g, FAULT_HANG);
        else if (exit.kind == ENGINE_EXIT_SHUTDOWN)
            r = skip_case(g, FAULT_CRASH);
        else
            r = error_set(err, -EIO, "engine %s: %s", g->ops->name,
                          exit.kind == ENGINE_EXIT_FAILED ? exit.error.text : "unexpected exit");
    }
    sigaction(SIGALRM, &before, NULL);
    get_memory(g, CASES_BASE, cases, count * sizeof(*cases));
    return r;
}
