/*
 * The KVM engine through engine_ops, with tiny guests on the host's /dev/kvm. Without one each test
 * is skipped and the reason printed.
 *
 * Most guests are real-mode code at GUEST_CODE; they talk through ports: a write to PORT_REPORT is
 * written down, a write to PORT_STOP kicks the vCPU so that run() returns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine.h"
#include "x86/arch.h"
#include "x86/lapic_regs.h"
#include "x86/msr.h"

#define GUEST_CODE 0x1000u
#define GUEST_TABLES 0x4000u
#define MEMORY_SIZE 0x200000u
#define ROM_BASE 0xf0000000ull
#define MMIO_BASE 0xd0000000ull
#define HIDDEN_ROM 0x5eedu /* what the board answers where ROM was */
#define PORT_REPORT 0x80
#define PORT_STOP 0x81

/* Guest code, assembled in place: guest_NAME to guest_NAME_end. */
#define GUEST(name, mode, code)                                                                    \
    __asm__(".pushsection .rodata\n" mode "\nguest_" #name ":\n" code "\nguest_" #name             \
            "_end:\n.code64\n.popsection\n");                                                      \
    extern const uint8_t guest_##name[], guest_##name##_end[]
#define STOP "out %al, $0x81\n"

GUEST(ports, ".code16",
      "mov $0x1234, %dx\n"
      "mov $0x5678abcd, %eax\n"
      "out %eax, %dx\n"
      "in %dx, %ax\n"
      "out %ax, $0x80\n"
      "mov $(0x1000 + string - guest_ports), %si\n"
      "mov $3, %cx\n"
      "mov $0x80, %dx\n"
      "rep outsb\n" STOP "hlt\n"
      "string: .byte 0x61, 0x62, 0x63\n");

GUEST(spin, ".code16", "1: inc %ebx\n jmp 1b\n");

GUEST(halt, ".code16",
      "sti\n"
      "1: hlt\n"
      "jmp 1b\n");

GUEST(enable_later, ".code16",
      "mov $1, %al\n"
      "out %al, $0x80\n"
      "out %al, $0x80\n"
      "sti\n"
      "1: hlt\n"
      "jmp 1b\n");

/* Interrupt handlers: report, end the interrupt through the x2APIC, stop. */
GUEST(handler, ".code16",
      "mov $0x40, %al\n"
      "out %al, $0x80\n"
      "mov $0x80b, %ecx\n"
      "xor %eax, %eax\n"
      "xor %edx, %edx\n"
      "wrmsr\n"
      "mov $100, %cx\n"
      "1: loop 1b\n" STOP "iret\n");

GUEST(extint_handler, ".code16",
      "mov $0x30, %al\n"
      "out %al, $0x80\n" STOP "iret\n");

GUEST(triple_fault, ".code64", "ud2\n");

GUEST(msrs, ".code16",
      "mov $0x12345, %ecx\n"
      "mov $0x11112222, %eax\n"
      "mov $0x33334444, %edx\n"
      "wrmsr\n"
      "rdmsr\n"
      "out %eax, $0x80\n"
      "inc %ecx\n"
      "rdmsr\n" /* refused: #GP */
      "hlt\n");

GUEST(long_mode, ".code64",
      "movl $0xd0000000, %ebx\n"
      "movabs $0x1122334455667788, %rax\n"
      "mov %rax, (%rbx)\n"
      "mov %eax, 8(%rbx)\n"
      "mov %ax, 16(%rbx)\n"
      "mov %al, 17(%rbx)\n"
      "mov 32(%rbx), %rcx\n"
      "mov %ecx, %eax\n"
      "out %eax, $0x80\n"
      "shr $32, %rcx\n"
      "mov %ecx, %eax\n"
      "out %eax, $0x80\n"
      "movl $0xf0000000, %ebx\n" /* ROM: reads; writes go to the board */
      "movl $0xffffffff, (%rbx)\n"
      "mov (%rbx), %eax\n"
      "out %eax, $0x80\n" STOP "hlt\n");

GUEST(second_cpu, ".code16", "mov $0x77, %al\n out %al, $0x80\n" STOP "hlt\n");

struct machine {
    struct memory memory;
    struct clock *clock;
    struct engine_info info;
    struct engine_vm *vm;
    struct engine_vcpu *vcpu[2];
    unsigned report_count;
    uint32_t report[16];
    struct {
        bool write;
        gpa_t gpa;
        unsigned size;
        uint64_t value;
    } mmio[16];
    unsigned mmio_count;
    uint64_t msr;
    _Atomic int eoi;
    _Atomic unsigned acknowledged;
};

static struct machine m;

/* --- the board --- */

static uint32_t port_read(void *opaque, uint16_t port, unsigned size)
{
    assert_int_equal(port, 0x1234);
    assert_int_equal(size, 2);
    return 0xbeef;
}

static void port_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    if (port == PORT_STOP) {
        for (unsigned i = 0; i < 2; i++) {
            if (m.vcpu[i])
                engine_kvm.kick(m.vcpu[i]);
        }
        return;
    }
    if (m.report_count < 16)
        m.report[m.report_count++] = value;
}

static uint64_t mmio_read(void *opaque, gpa_t gpa, unsigned size)
{
    if (gpa == ROM_BASE)
        return HIDDEN_ROM;
    assert_int_equal(gpa, MMIO_BASE + 32);
    assert_int_equal(size, 8);
    return 0xfedcba9876543210ull;
}

static void mmio_write(void *opaque, gpa_t gpa, unsigned size, uint64_t value)
{
    if (m.mmio_count < 16) {
        m.mmio[m.mmio_count].gpa = gpa;
        m.mmio[m.mmio_count].size = size;
        m.mmio[m.mmio_count++].value = value;
    }
}

static bool msr_read(void *opaque, unsigned vcpu, uint32_t index, uint64_t *value)
{
    *value = m.msr + 1;
    return index == 0x12345;
}

static bool msr_write(void *opaque, unsigned vcpu, uint32_t index, uint64_t value)
{
    m.msr = value;
    return index == 0x12345;
}

static uint8_t pic_acknowledge(void *opaque)
{
    atomic_fetch_add(&m.acknowledged, 1);
    engine_kvm.extint_set(m.vm, false);
    return 0x30;
}

static void ioapic_eoi(void *opaque, uint8_t vector)
{
    m.eoi = vector;
}

/* --- set-up --- */

static int setup(void **state)
{
    struct error err;

    memset(&m, 0, sizeof(m));
    m.eoi = -1;
    engine_kvm.probe(&m.info);
    if (!m.info.usable)
        return 0; /* start() skips */
    memory_init(&m.memory, 0);
    assert_int_equal(memory_add(&m.memory, 0, MEMORY_SIZE, 0, "ram", &err), 0);
    assert_int_equal(memory_add(&m.memory, ROM_BASE, 0x1000, MEMORY_READONLY, "rom", &err), 0);
    memcpy(m.memory.slot[1].host, "\x55\xaa\x01\x02", 4);
    assert_int_equal(clock_new(&m.clock, &err), 0);
    struct engine_vm_config config = {
        .memory = &m.memory,
        .clock = m.clock,
        .vcpus = 2,
        .callbacks = {&m, port_read, port_write, mmio_read, mmio_write, msr_read, msr_write,
                      pic_acknowledge, ioapic_eoi},
    };
    assert_int_equal(x86_cpuid_build(&config.cpuid, "host", 2, &m.info.supported, &err), 0);
    assert_int_equal(engine_kvm.vm_create(&m.vm, &config, &err), 0);
    assert_int_equal(engine_kvm.vcpu_create(&m.vcpu[0], m.vm, 0, &err), 0);
    assert_int_equal(engine_kvm.vcpu_create(&m.vcpu[1], m.vm, 1, &err), 0);
    return 0;
}

static int teardown(void **state)
{
    if (!m.vm)
        return 0;
    engine_kvm.vcpu_destroy(m.vcpu[0]);
    engine_kvm.vcpu_destroy(m.vcpu[1]);
    engine_kvm.vm_destroy(m.vm);
    clock_free(m.clock);
    memory_done(&m.memory);
    return 0;
}

static void need_kvm(void)
{
    if (m.info.usable)
        return;
    print_message("skipped: %s\n", m.info.reason);
    skip();
}

static void put(gpa_t gpa, const void *from, size_t length)
{
    assert_int_equal(memory_write(&m.memory, gpa, from, length), 0);
}

#define LOAD(name, gpa) put(gpa, guest_##name, (size_t)(guest_##name##_end - guest_##name))

/* Real mode, all segments at 0, local APIC on in x2APIC mode, LINT0 for the 8259, LINT1 for NMI. */
static struct x86_vcpu_state *real_mode(unsigned index)
{
    static struct x86_vcpu_state s;

    x86_vcpu_state_reset(&s, index == 0, index);
    s.rip = GUEST_CODE;
    s.segment[X86_CS].selector = 0;
    s.segment[X86_CS].base = 0;
    s.gpr[X86_RSP] = 0x8000;
    s.apic_base |= APIC_BASE_X2APIC;
    memcpy(s.lapic + LAPIC_ID, &index, 4);
    memcpy(s.lapic + LAPIC_SVR, &(uint32_t){LAPIC_SVR_ENABLE | 0xff}, 4);
    memcpy(s.lapic + LAPIC_LVT_LINT0, &(uint32_t){LAPIC_EXTINT_MODE << 8}, 4);
    memcpy(s.lapic + LAPIC_LVT_LINT1, &(uint32_t){LAPIC_NMI << 8}, 4);
    return &s;
}

static void set_vector(uint8_t vector, uint16_t offset)
{
    put(vector * 4u, &(uint32_t){offset}, 4);
}

static enum engine_exit_kind run(unsigned index)
{
    struct engine_exit exit;

    engine_kvm.run(m.vcpu[index], &exit);
    if (exit.kind == ENGINE_EXIT_FAILED)
        print_message("%s\n", exit.error.text);
    return exit.kind;
}

static void set_state(unsigned index, const struct x86_vcpu_state *s)
{
    assert_int_equal(engine_kvm.set_state(m.vcpu[index], s, X86_STATE_ALL), 0);
}

/* Does something to a running vCPU a little later, from another thread. */
static pthread_t later(void *(*action)(void *))
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, action, NULL), 0);
    return thread;
}

/* --- tests --- */

static void port_accesses_reach_the_board(void **state)
{
    need_kvm();
    LOAD(ports, GUEST_CODE);
    set_state(0, real_mode(0));
    assert_int_equal(run(0), ENGINE_EXIT_KICKED);
    static const uint32_t expected[] = {0x5678abcd, 0xbeef, 0x61, 0x62, 0x63};
    assert_int_equal(m.report_count, 5);
    assert_memory_equal(m.report, expected, sizeof(expected));
}

static void a_debugger_steps_and_has_four_breakpoints(void **state)
{
    struct engine_debug debug = {.single_step = true};
    struct x86_vcpu_state now;
    struct engine_exit exit;

    need_kvm();
    LOAD(ports, GUEST_CODE);
    set_state(0, real_mode(0));
    assert_int_equal(engine_kvm.set_debug(m.vcpu[0], &debug), 0);
    engine_kvm.run(m.vcpu[0], &exit);
    assert_int_equal(exit.kind, ENGINE_EXIT_DEBUG);
    assert_int_equal(exit.breakpoint, ENGINE_STEPPED);
    assert_int_equal(engine_kvm.get_state(m.vcpu[0], &now, X86_STATE_GPR), 0);
    assert_true(now.rip > GUEST_CODE && now.rip < GUEST_CODE + 16);
    assert_false(now.rflags & X86_FLAG_TF);

    debug = (struct engine_debug){.count = 5};
    assert_int_equal(engine_kvm.set_debug(m.vcpu[0], &debug), -ENOSPC);
    debug.count = 1;
    debug.breakpoint[0] = (struct engine_breakpoint){ENGINE_BREAK_WRITE, 0x1001, 2};
    assert_int_equal(engine_kvm.set_debug(m.vcpu[0], &debug), -ENOSPC);
    debug.breakpoint[0] = (struct engine_breakpoint){ENGINE_BREAK_ACCESS, 0x1000, 3};
    assert_int_equal(engine_kvm.set_debug(m.vcpu[0], &debug), -ENOSPC);
    debug.breakpoint[0] = (struct engine_breakpoint){ENGINE_BREAK_ACCESS, 0x1000, 8};
    assert_int_equal(engine_kvm.set_debug(m.vcpu[0], &debug), 0);
    debug.count = 0;
    assert_int_equal(engine_kvm.set_debug(m.vcpu[0], &debug), 0);
    assert_int_equal(run(0), ENGINE_EXIT_KICKED);
    assert_int_equal(m.report_count, 5);
}

/* 64-bit mode at CPL 0, with 2 MiB pages at 0, MMIO_BASE and ROM_BASE mapped one to one. */
static struct x86_vcpu_state *long_mode(void)
{
    const uint64_t rw = X86_PTE_P | X86_PTE_W;
    put(GUEST_TABLES, &(uint64_t){(GUEST_TABLES + 0x1000) | rw}, 8);
    put(GUEST_TABLES + 0x1000, &(uint64_t){(GUEST_TABLES + 0x2000) | rw}, 8);
    put(GUEST_TABLES + 0x1000 + 8 * 3, &(uint64_t){(GUEST_TABLES + 0x3000) | rw}, 8);
    put(GUEST_TABLES + 0x2000, &(uint64_t){rw | X86_PTE_PS}, 8);
    put(GUEST_TABLES + 0x3000 + 8 * 0x80, &(uint64_t){MMIO_BASE | rw | X86_PTE_PS}, 8);
    put(GUEST_TABLES + 0x3000 + 8 * 0x180, &(uint64_t){ROM_BASE | rw | X86_PTE_PS}, 8);

    struct x86_vcpu_state *s = real_mode(0);
    s->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_PG;
    s->cr3 = GUEST_TABLES;
    s->cr4 = X86_CR4_PAE;
    s->efer = X86_EFER_LME | X86_EFER_LMA;
    s->segment[X86_CS].attributes = 0x9b | X86_SEGMENT_L | X86_SEGMENT_G;
    s->segment[X86_CS].selector = 8;
    s->segment[X86_CS].limit = ~0u;
    return s;
}

static void long_mode_mmio_and_rom(void **state)
{
    need_kvm();
    LOAD(long_mode, GUEST_CODE);
    set_state(0, long_mode());
    assert_int_equal(run(0), ENGINE_EXIT_KICKED);

    static const uint32_t expected[] = {0x76543210, 0xfedcba98, 0x0201aa55};
    assert_int_equal(m.report_count, 3);
    assert_memory_equal(m.report, expected, sizeof(expected));
    assert_int_equal(m.mmio_count, 5);
    assert_int_equal(m.mmio[4].gpa, ROM_BASE);
    assert_int_equal(m.mmio[4].value, 0xffffffff);
    static const unsigned offset[] = {0, 8, 16, 17}, size[] = {8, 4, 2, 1};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(m.mmio[i].gpa, MMIO_BASE + offset[i]);
        assert_int_equal(m.mmio[i].size, size[i]);
        uint64_t mask = size[i] == 8 ? ~0ull : (1ull << 8 * size[i]) - 1;
        assert_int_equal(m.mmio[i].value, 0x1122334455667788ull & mask);
    }
}

static void *kick_later(void *unused)
{
    usleep(20000);
    engine_kvm.kick(m.vcpu[0]);
    return NULL;
}

static void kick_stops_a_spinning_guest_and_sticks(void **state)
{
    need_kvm();
    LOAD(spin, GUEST_CODE);
    set_state(0, real_mode(0));
    pthread_t thread = later(kick_later);
    assert_int_equal(run(0), ENGINE_EXIT_KICKED);
    pthread_join(thread, NULL);

    struct x86_vcpu_state s;
    assert_int_equal(engine_kvm.get_state(m.vcpu[0], &s, X86_STATE_GPR), 0);
    assert_true(s.gpr[X86_RBX] > 0);
    uint64_t before = s.gpr[X86_RBX];
    engine_kvm.kick(m.vcpu[0]); /* before run(): it returns without a step */
    assert_int_equal(run(0), ENGINE_EXIT_KICKED);
    assert_int_equal(engine_kvm.get_state(m.vcpu[0], &s, X86_STATE_GPR), 0);
    assert_int_equal(s.gpr[X86_RBX], before);
}

static void *message_later(void *level)
{
    usleep(20000);
    engine_kvm.msi_send(m.vm, &(struct msi_message){0xfee00000, 0x40});
    return NULL;
}

static void *level_message_later(void *unused)
{
    usleep(20000);
    engine_kvm.msi_send(m.vm, &(struct msi_message){0xfee00000, 1u << 15 | 0x40});
    return NULL;
}

static void a_message_wakes_a_halted_vcpu(void **state)
{
    need_kvm();
    LOAD(halt, GUEST_CODE);
    LOAD(handler, 0x2000);
    set_vector(0x40, 0x2000);
    set_state(0, real_mode(0));
    pthread_t thread = later(message_later);
    assert_int_equal(run(0), ENGINE_EXIT_KICKED);
    pthread_join(thread, NULL);
    assert_int_equal(m.report_count, 1);
    assert_int_equal(m.report[0], 0x40);
}

/* A KVM that emulates supervisor code instead of running it leaves some of its interface out. */
static bool real_virtualization(const char *what)
{
    if (m.info.capabilities & ENGINE_CAP_FAST_SUPERVISOR)
        return true;
    print_message("not checked: %s, because %s\n", what, m.info.reason);
    return false;
}

static void level_triggered_eoi_reaches_the_ioapic(void **state)
{
    need_kvm();
    LOAD(halt, GUEST_CODE);
    LOAD(handler, 0x2000);
    set_vector(0x40, 0x2000);
    set_state(0, real_mode(0));
    for (unsigned i = 0; i < 2; i++) { /* the second time the route exists */
        m.eoi = -1;
        pthread_t thread = later(level_message_later);
        assert_int_equal(run(0), ENGINE_EXIT_KICKED);
        pthread_join(thread, NULL);
        assert_int_equal(m.eoi, 0x40);
    }
}

static void *extint_later(void *unused)
{
    usleep(20000);
    engine_kvm.extint_set(m.vm, true);
    return NULL;
}

static void the_8259_wakes_a_halted_vcpu(void **state)
{
    need_kvm();
    LOAD(halt, GUEST_CODE);
    LOAD(extint_handler, 0x2000);
    set_vector(0x30, 0x2000);
    set_state(0, real_mode(0));
    pthread_t thread = later(extint_later);
    assert_int_equal(run(0), ENGINE_EXIT_KICKED);
    pthread_join(thread, NULL);
    assert_int_equal(m.acknowledged, 1);
    assert_int_equal(m.report[0], 0x30);
}

static void the_8259_waits_for_interrupts_to_be_enabled(void **state)
{
    need_kvm();
    LOAD(enable_later, GUEST_CODE);
    LOAD(extint_handler, 0x2000);
    set_vector(0x30, 0x2000);
    set_state(0, real_mode(0));
    engine_kvm.extint_set(m.vm, true);
    assert_int_equal(run(0), ENGINE_EXIT_KICKED);
    static const uint32_t expected[] = {1, 1, 0x30};
    assert_int_equal(m.report_count, 3);
    assert_memory_equal(m.report, expected, sizeof(expected));
    assert_int_equal(m.acknowledged, 1);
}

static void *nmi_later(void *unused)
{
    usleep(20000);
    engine_kvm.nmi(m.vcpu[0]);
    return NULL;
}

static void an_nmi_wakes_a_halted_vcpu(void **state)
{
    need_kvm();
    LOAD(halt, GUEST_CODE);
    LOAD(extint_handler, 0x2000);
    set_vector(X86_VECTOR_NMI, 0x2000);
    set_state(0, real_mode(0));
    pthread_t thread = later(nmi_later);
    assert_int_equal(run(0), ENGINE_EXIT_KICKED);
    pthread_join(thread, NULL);
    assert_int_equal(m.report[0], 0x30);
}

static void triple_fault_is_a_shutdown(void **state)
{
    need_kvm();
    LOAD(triple_fault, GUEST_CODE);
    struct x86_vcpu_state *s = long_mode();
    s->idtr.limit = 0; /* nothing can be delivered */
    set_state(0, s);
    assert_int_equal(run(0), ENGINE_EXIT_SHUTDOWN);
}

static void unknown_msrs_are_the_boards(void **state)
{
    need_kvm();
    LOAD(msrs, GUEST_CODE);
    LOAD(extint_handler, 0x2000);
    set_vector(X86_VECTOR_GP, 0x2000);
    set_state(0, real_mode(0));
    assert_int_equal(run(0), ENGINE_EXIT_KICKED);
    assert_int_equal(m.msr, 0x3333444411112222ull);
    assert_int_equal(m.report_count, 2);
    assert_int_equal(m.report[0], 0x11112223);
    assert_int_equal(m.report[1], 0x30); /* through #GP */
}

static void *run_second(void *unused)
{
    return (void *)(uintptr_t)run(1);
}

static void a_startup_ipi_starts_the_second_vcpu(void **state)
{
    need_kvm();
    LOAD(second_cpu, 0x3000);
    set_state(1, real_mode(1));
    struct x86_vcpu_state s;
    assert_int_equal(engine_kvm.get_state(m.vcpu[1], &s, X86_STATE_EVENTS), 0);
    assert_int_equal(s.run_state, X86_WAIT_FOR_SIPI);

    pthread_t thread = later(run_second);
    usleep(10000);
    assert_int_equal(m.report_count, 0);
    engine_kvm.msi_send(m.vm, &(struct msi_message){0xfee01000, LAPIC_INIT << 8 | 1u << 14});
    engine_kvm.msi_send(m.vm, &(struct msi_message){0xfee01000, LAPIC_STARTUP << 8 | 0x03});
    void *kind;
    pthread_join(thread, &kind);
    assert_int_equal((uintptr_t)kind, ENGINE_EXIT_KICKED);
    assert_int_equal(m.report[0], 0x77);
}

static void all_state_survives_a_round_trip(void **state)
{
    need_kvm();
    static struct x86_vcpu_state in, out;

    in = *real_mode(0);
    for (unsigned i = 0; i < X86_GPR_COUNT; i++)
        in.gpr[i] = 0x0101010101010101ull * (i + 1);
    in.rflags = X86_FLAG_FIXED | X86_FLAG_CF | X86_FLAG_ZF | X86_FLAG_IF;
    in.cr2 = 0x123456789000;
    in.cr8 = 3;
    memcpy(in.lapic + LAPIC_TPR, &(uint32_t){3 << 4}, 4);
    for (unsigned i = 0; i < 4; i++)
        in.dr[i] = 0x1000 * (i + 1);
    in.dr7 = X86_DR7_RESET | 1;
    in.gdtr = (struct x86_table){0x5000, 0x7f};
    in.idtr = (struct x86_table){0, 0x3ff};
    for (unsigned i = 0; i < 16 * 16; i++)
        in.xsave[160 + i] = (uint8_t)(i * 7);
    in.msr.lstar = 0xffffffff81000000;
    in.msr.star = 0x0023001000000000;
    in.msr.sysenter_eip = 0x1234;
    in.msr.kernel_gs_base = 0xffff888000000000;
    in.msr.mtrr_def_type = 0xc06;
    in.msr.mtrr_fixed[0] = 0x0606060606060606;
    in.msr.mtrr_fixed[10] = 0x0505050505050505;
    in.msr.mtrr_base[1] = 0x80000000;
    in.msr.mtrr_mask[1] = 0xff80000800;
    in.msr.kvm_system_time = 0x7001;
    in.tsc = 1000000000000;
    in.events.nmi_blocked = true;
    in.run_state = X86_HALTED;
    set_state(0, &in);
    assert_int_equal(engine_kvm.get_state(m.vcpu[0], &out, X86_STATE_ALL), 0);

    assert_memory_equal(in.gpr, out.gpr, sizeof(in.gpr));
    assert_int_equal(in.rip, out.rip);
    assert_int_equal(in.rflags, out.rflags);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++) {
        assert_int_equal(in.segment[i].selector, out.segment[i].selector);
        assert_int_equal(in.segment[i].attributes, out.segment[i].attributes);
        assert_int_equal(in.segment[i].limit, out.segment[i].limit);
        assert_int_equal(in.segment[i].base, out.segment[i].base);
    }
    assert_int_equal(in.tr.attributes, out.tr.attributes);
    assert_int_equal(in.gdtr.base, out.gdtr.base);
    assert_int_equal(in.gdtr.limit, out.gdtr.limit);
    assert_int_equal(in.cr2, out.cr2);
    assert_int_equal(in.cr8, out.cr8);
    assert_int_equal(in.apic_base, out.apic_base);
    assert_memory_equal(in.dr, out.dr, sizeof(in.dr));
    assert_int_equal(in.dr7, out.dr7);
    assert_memory_equal(in.xsave + 160, out.xsave + 160, 256);
    assert_int_equal(in.xcr0, out.xcr0);
    if (real_virtualization("the TSC's offset"))
        assert_true(out.tsc >= in.tsc && out.tsc < in.tsc + 10000000000);
    assert_memory_equal(&in.msr, &out.msr, sizeof(in.msr));
    assert_true(out.events.nmi_blocked);
    assert_false(out.events.nmi_pending || out.events.exception_pending);
    assert_int_equal(out.run_state, X86_HALTED);
    uint32_t svr;
    memcpy(&svr, out.lapic + LAPIC_SVR, 4);
    assert_int_equal(svr, LAPIC_SVR_ENABLE | 0xff);
}

static uint64_t tsc_of(unsigned index)
{
    struct x86_vcpu_state s;

    assert_int_equal(engine_kvm.get_state(m.vcpu[index], &s, X86_STATE_MSR), 0);
    return s.tsc;
}

static void held_time_stands_still(void **state)
{
    need_kvm();
    if (!real_virtualization("the TSC's offset"))
        skip();
    const struct timespec a_while = {.tv_nsec = 200000000};

    engine_kvm.time_hold(m.vm, true);
    uint64_t before = tsc_of(0);
    struct x86_vcpu_state s = *real_mode(1);
    s.tsc = 5000000000000;
    set_state(1, &s);
    uint64_t start = __builtin_ia32_rdtsc();
    nanosleep(&a_while, NULL);
    uint64_t slept = __builtin_ia32_rdtsc() - start;
    assert_int_equal(tsc_of(0), before);
    assert_int_equal(tsc_of(1), s.tsc);

    start = __builtin_ia32_rdtsc();
    engine_kvm.time_hold(m.vm, false);
    uint64_t passed = tsc_of(0) - before, most = __builtin_ia32_rdtsc() - start;
    assert_true(passed < most);
    assert_true(most > slept || tsc_of(1) - s.tsc < slept);
}

static void a_taken_interrupt_travels_with_the_state(void **state)
{
    need_kvm();
    LOAD(spin, GUEST_CODE);
    LOAD(extint_handler, 0x2000);
    set_vector(0x55, 0x2000);
    struct x86_vcpu_state s = *real_mode(0), got;
    s.rflags |= X86_FLAG_IF;
    s.events.interrupt_taken = true;
    s.events.interrupt_vector = 0x55;
    set_state(0, &s);
    assert_int_equal(engine_kvm.get_state(m.vcpu[0], &got, X86_STATE_EVENTS), 0);
    assert_true(got.events.interrupt_taken);
    assert_int_equal(got.events.interrupt_vector, 0x55);
    assert_int_equal(run(0), ENGINE_EXIT_KICKED);
    assert_int_equal(m.report[0], 0x30);
}

static void memory_slots_come_and_go(void **state)
{
    need_kvm();
    struct error err;
    struct memory_slot rom = m.memory.slot[1];

    m.memory.slot_count = 1;
    assert_int_equal(engine_kvm.memory_changed(m.vm, rom.gpa, rom.size, &err), 0);
    m.memory.slot[1] = rom;
    m.memory.slot_count = 2;
    assert_int_equal(engine_kvm.memory_changed(m.vm, rom.gpa, rom.size, &err), 0);
    long_mode_mmio_and_rom(state);
}

static void a_hidden_slot_is_device_space(void **state)
{
    need_kvm();
    struct error err;
    struct memory_slot *rom = &m.memory.slot[1];

    memory_set_flags(&m.memory, rom->gpa, MEMORY_READONLY | MEMORY_HIDDEN);
    assert_int_equal(engine_kvm.memory_changed(m.vm, rom->gpa, rom->size, &err), 0);
    LOAD(long_mode, GUEST_CODE);
    set_state(0, long_mode());
    assert_int_equal(run(0), ENGINE_EXIT_KICKED);
    assert_int_equal(m.report[2], HIDDEN_ROM);

    m.report_count = m.mmio_count = 0;
    memory_set_flags(&m.memory, rom->gpa, MEMORY_READONLY);
    assert_int_equal(engine_kvm.memory_changed(m.vm, rom->gpa, rom->size, &err), 0);
    long_mode_mmio_and_rom(state);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(held_time_stands_still),
        TEST(port_accesses_reach_the_board),
        TEST(a_debugger_steps_and_has_four_breakpoints),
        TEST(long_mode_mmio_and_rom),
        TEST(kick_stops_a_spinning_guest_and_sticks),
        TEST(a_message_wakes_a_halted_vcpu),
        TEST(level_triggered_eoi_reaches_the_ioapic),
        TEST(the_8259_wakes_a_halted_vcpu),
        TEST(the_8259_waits_for_interrupts_to_be_enabled),
        TEST(an_nmi_wakes_a_halted_vcpu),
        TEST(triple_fault_is_a_shutdown),
        TEST(unknown_msrs_are_the_boards),
        TEST(a_startup_ipi_starts_the_second_vcpu),
        TEST(all_state_survives_a_round_trip),
        TEST(a_taken_interrupt_travels_with_the_state),
        TEST(memory_slots_come_and_go),
        TEST(a_hidden_slot_is_device_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
