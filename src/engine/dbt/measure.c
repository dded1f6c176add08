/*
 * How fast supervisor-mode code runs on the software engine here: a counting loop in a small 32-bit
 * guest without paging, timed. For `sill engines` and the choice between engines.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/dbt/host.h"
#include "x86/arch.h"

#define LOOP_COUNT 400000u
#define CODE_ADDRESS 0x1000
#define DONE_PORT 0xf4

/* mov ecx, LOOP_COUNT; 1: dec ecx; jnz 1b; out DONE_PORT, al; 2: hlt; jmp 2b */
static const uint8_t guest_code[] = {
    0xb9,
    LOOP_COUNT & 0xff,
    LOOP_COUNT >> 8 & 0xff,
    LOOP_COUNT >> 16 & 0xff,
    LOOP_COUNT >> 24,
    0x49,
    0x75,
    0xfd,
    0xe6,
    DONE_PORT,
    0xf4,
    0xeb,
    0xfd,
};

struct measurement {
    struct engine_vcpu *vcpu;
};

static uint32_t port_read(void *opaque, uint16_t port, unsigned size)
{
    return ~0u;
}

static void port_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    engine_dbt.kick(((struct measurement *)opaque)->vcpu);
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
    return 0;
}

static void ioapic_eoi(void *opaque, uint8_t vector)
{
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / NS_PER_SEC;
}

static void flat_protected_mode(struct x86_vcpu_state *state)
{
    x86_vcpu_state_reset(state, true, 0);
    for (unsigned i = 0; i < X86_SEGMENT_COUNT; i++)
        state->segment[i] = (struct x86_segment){
            .selector = i == X86_CS ? 8 : 16,
            .attributes = (i == X86_CS ? 0x9b : 0x93) | X86_SEGMENT_DB | X86_SEGMENT_G,
            .limit = 0xffffffff,
        };
    state->cr0 = X86_CR0_PE | X86_CR0_ET;
    state->rip = CODE_ADDRESS;
    state->rflags = X86_FLAG_FIXED;
}

/* Runs the loop to its OUT; 0 if the guest did not get there. */
static double run(struct engine_vm *vm, struct measurement *m)
{
    static struct x86_vcpu_state state;
    struct engine_exit exit;
    double start;

    flat_protected_mode(&state);
    if (engine_dbt.vcpu_create(&m->vcpu, vm, 0, NULL) < 0)
        return 0;
    if (engine_dbt.set_state(m->vcpu, &state, X86_STATE_GPR | X86_STATE_SYSTEM) < 0)
        return 0;
    start = seconds();
    engine_dbt.run(m->vcpu, &exit);
    start = seconds() - start;
    engine_dbt.vcpu_destroy(m->vcpu);
    return exit.kind == ENGINE_EXIT_KICKED ? 2.0 * LOOP_COUNT / start / 1e6 : 0;
}

double host_measure(void)
{
    struct measurement m = {NULL};
    struct engine_vm_config config = {
        .vcpus = 1,
        .code_cache_size = 4 * MIB,
        .callbacks = {&m, port_read, port_write, mmio_read, mmio_write, msr_read, msr_write,
                      pic_acknowledge, ioapic_eoi},
    };
    struct memory memory;
    struct engine_info info;
    struct engine_vm *vm;
    double mips = 0;

    host_supported_cpuid(&info.supported);
    config.cpuid = info.supported;
    memory_init(&memory, 0);
    config.memory = &memory;
    if (clock_new_manual(&config.clock) < 0)
        goto free_memory;
    if (memory_add(&memory, 0, 64 * KIB, 0, "measure", NULL) < 0 ||
        memory_write(&memory, CODE_ADDRESS, guest_code, sizeof(guest_code)) < 0)
        goto free_clock;
    if (engine_dbt.vm_create(&vm, &config, NULL) < 0)
        goto free_clock;
    mips = run(vm, &m);
    engine_dbt.vm_destroy(vm);

free_clock:
    clock_free(config.clock);
free_memory:
    memory_done(&memory);
    return mips;
}
