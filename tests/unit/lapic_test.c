/* The local APIC: priorities, EOI, the timer on a manual clock, IPIs, destinations and modes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "x86/lapic.h"
#include "x86/lapic_regs.h"
#include "x86/msr.h"

#define CPUS 3

struct owner {
    struct lapic *apic;
    _Atomic unsigned events[4];
    uint8_t sipi;
    int eoi; /* last vector broadcast, -1 none */
};

struct machine {
    struct clock *clock;
    struct lapic_bus *bus;
    struct owner cpu[CPUS];
};

static void event(void *opaque, enum lapic_event kind, uint8_t vector)
{
    struct owner *owner = opaque;
    atomic_fetch_add(&owner->events[kind], 1);
    if (kind == LAPIC_EVENT_SIPI)
        owner->sipi = vector;
}

static void eoi_broadcast(void *opaque, uint8_t vector)
{
    ((struct owner *)opaque)->eoi = vector;
}

static struct clock *test_clock; /* the guest's TSC: two ticks a nanosecond */

static uint64_t tsc_read(void *opaque)
{
    return clock_now(test_clock) * 2;
}

static uint64_t tsc_to_time(void *opaque, uint64_t tsc)
{
    return (tsc + 1) / 2;
}

static const struct lapic_ops ops = {event, eoi_broadcast, tsc_read, tsc_to_time};

static int setup(void **state)
{
    static struct machine m;
    memset(&m, 0, sizeof(m));
    assert_int_equal(clock_new_manual(&m.clock), 0);
    test_clock = m.clock;
    assert_int_equal(lapic_bus_new(&m.bus, CPUS), 0);
    for (unsigned i = 0; i < CPUS; i++) {
        m.cpu[i].eoi = -1;
        assert_int_equal(lapic_new(&m.cpu[i].apic, m.bus, i, i == 0, m.clock, &ops, &m.cpu[i]), 0);
        lapic_mmio_write(m.cpu[i].apic, LAPIC_SVR, LAPIC_SVR_ENABLE | 0xff);
    }
    *state = &m;
    return 0;
}

static int teardown(void **state)
{
    struct machine *m = *state;
    for (unsigned i = 0; i < CPUS; i++)
        lapic_free(m->cpu[i].apic);
    lapic_bus_free(m->bus);
    clock_free(m->clock);
    return 0;
}

static void send(struct machine *m, uint32_t destination, uint32_t data)
{
    struct msi_message message = {0xfee00000u | destination << 12, data};
    lapic_bus_send(m->bus, &message);
}

static void enter_x2apic(struct lapic *apic)
{
    uint64_t base;
    assert_true(lapic_msr_read(apic, MSR_APIC_BASE, &base));
    assert_true(lapic_msr_write(apic, MSR_APIC_BASE, base | APIC_BASE_X2APIC));
}

static void the_highest_vector_is_taken_first_and_masks_its_class(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[0].apic;

    assert_int_equal(lapic_pending(apic), -1);
    send(m, 0, 0x31);
    send(m, 0, 0x45);
    send(m, 0, 0x41);
    assert_int_equal(m->cpu[0].events[LAPIC_EVENT_INTERRUPT], 3);
    assert_int_equal(lapic_acknowledge(apic), 0x45);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_PPR), 0x40);
    assert_int_equal(lapic_pending(apic), -1); /* 0x41 is of the same class */
    send(m, 0, 0x51);
    assert_int_equal(lapic_acknowledge(apic), 0x51);
    lapic_mmio_write(apic, LAPIC_EOI, 0);
    assert_int_equal(lapic_pending(apic), -1);
    lapic_mmio_write(apic, LAPIC_EOI, 0);
    assert_int_equal(lapic_acknowledge(apic), 0x41);
    lapic_mmio_write(apic, LAPIC_EOI, 0);
    assert_int_equal(lapic_acknowledge(apic), 0x31);
    assert_int_equal(m->cpu[0].eoi, -1); /* edge-triggered: nothing to tell the IOAPIC */
}

static void task_priority_holds_back(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[0].apic;

    lapic_cr8_write(apic, 4);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_TPR), 0x40);
    send(m, 0, 0x4f);
    assert_int_equal(lapic_pending(apic), -1);
    unsigned before = m->cpu[0].events[LAPIC_EVENT_INTERRUPT];
    lapic_cr8_write(apic, 3);
    assert_int_equal(m->cpu[0].events[LAPIC_EVENT_INTERRUPT], before + 1);
    assert_int_equal(lapic_pending(apic), 0x4f);
    assert_int_equal(lapic_cr8_read(apic), 3);
}

static void level_triggered_eoi_is_broadcast_unless_suppressed(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[0].apic;

    send(m, 0, 0x60 | 1u << 15 | 1u << 14);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_TMR + 0x30), 1);
    assert_int_equal(lapic_acknowledge(apic), 0x60);
    lapic_mmio_write(apic, LAPIC_EOI, 0);
    assert_int_equal(m->cpu[0].eoi, 0x60);

    m->cpu[0].eoi = -1;
    lapic_mmio_write(apic, LAPIC_SVR, LAPIC_SVR_ENABLE | LAPIC_SVR_NO_EOI_BROADCAST | 0xff);
    send(m, 0, 0x60 | 1u << 15 | 1u << 14);
    assert_int_equal(lapic_acknowledge(apic), 0x60);
    lapic_mmio_write(apic, LAPIC_EOI, 0);
    assert_int_equal(m->cpu[0].eoi, -1);
}

static void one_shot_timer_counts_down_and_fires_once(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[0].apic;

    lapic_mmio_write(apic, LAPIC_TIMER_DIVIDE, 0x1); /* by 4 */
    lapic_mmio_write(apic, LAPIC_LVT_TIMER, 0x70);
    lapic_mmio_write(apic, LAPIC_TIMER_INITIAL, 1000000);
    clock_advance(m->clock, 1000000);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_TIMER_CURRENT), 750000);
    assert_int_equal(lapic_pending(apic), -1);
    clock_advance(m->clock, 3000000);
    assert_int_equal(lapic_acknowledge(apic), 0x70);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_TIMER_CURRENT), 0);
    lapic_mmio_write(apic, LAPIC_EOI, 0);
    clock_advance(m->clock, 100000000);
    assert_int_equal(lapic_pending(apic), -1);
}

static void periodic_timer_repeats_until_stopped(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[0].apic;

    lapic_mmio_write(apic, LAPIC_TIMER_DIVIDE, 0xb); /* by 1 */
    lapic_mmio_write(apic, LAPIC_LVT_TIMER, LAPIC_LVT_TIMER_PERIODIC | 0x70);
    lapic_mmio_write(apic, LAPIC_TIMER_INITIAL, 1000000);
    for (int i = 0; i < 3; i++) {
        clock_advance(m->clock, 1000000);
        assert_int_equal(lapic_acknowledge(apic), 0x70);
        lapic_mmio_write(apic, LAPIC_EOI, 0);
    }
    lapic_mmio_write(apic, LAPIC_TIMER_INITIAL, 0);
    clock_advance(m->clock, 10000000);
    assert_int_equal(lapic_pending(apic), -1);
}

static void tsc_deadline_fires_and_clears_itself(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[0].apic;
    uint64_t value;

    /* Without the mode the register takes nothing. */
    assert_true(lapic_msr_write(apic, MSR_TSC_DEADLINE, 5000));
    assert_true(lapic_msr_read(apic, MSR_TSC_DEADLINE, &value));
    assert_int_equal(value, 0);

    lapic_mmio_write(apic, LAPIC_LVT_TIMER, LAPIC_LVT_TIMER_DEADLINE | 0x71);
    assert_true(lapic_msr_write(apic, MSR_TSC_DEADLINE, 5000));
    clock_advance(m->clock, 2499);
    assert_int_equal(lapic_pending(apic), -1);
    assert_true(lapic_msr_read(apic, MSR_TSC_DEADLINE, &value));
    assert_int_equal(value, 5000);
    clock_advance(m->clock, 1);
    assert_int_equal(lapic_acknowledge(apic), 0x71);
    assert_true(lapic_msr_read(apic, MSR_TSC_DEADLINE, &value));
    assert_int_equal(value, 0);

    /* One in the past fires at once; leaving the mode disarms. */
    lapic_mmio_write(apic, LAPIC_EOI, 0);
    assert_true(lapic_msr_write(apic, MSR_TSC_DEADLINE, 1));
    assert_int_equal(lapic_acknowledge(apic), 0x71);
    lapic_mmio_write(apic, LAPIC_EOI, 0);
    assert_true(lapic_msr_write(apic, MSR_TSC_DEADLINE, 1000000));
    lapic_mmio_write(apic, LAPIC_LVT_TIMER, 0x71);
    clock_advance(m->clock, 10000000);
    assert_int_equal(lapic_pending(apic), -1);
}

static void masked_timer_stays_silent(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[0].apic;

    lapic_mmio_write(apic, LAPIC_LVT_TIMER, LAPIC_LVT_MASKED | 0x70);
    lapic_mmio_write(apic, LAPIC_TIMER_INITIAL, 1000);
    clock_advance(m->clock, 10000);
    assert_int_equal(lapic_pending(apic), -1);
}

static void ipis_follow_their_shorthand(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[1].apic;

    lapic_mmio_write(apic, LAPIC_ICR2, 2u << 24);
    lapic_mmio_write(apic, LAPIC_ICR, 0x80);
    assert_int_equal(lapic_acknowledge(m->cpu[2].apic), 0x80);
    lapic_mmio_write(apic, LAPIC_ICR, LAPIC_TO_OTHERS << 18 | 0x90);
    assert_int_equal(lapic_pending(m->cpu[0].apic), 0x90);
    assert_int_equal(lapic_pending(apic), -1);
    assert_int_equal(lapic_pending(m->cpu[2].apic), 0x90);
    lapic_mmio_write(apic, LAPIC_ICR, LAPIC_TO_SELF << 18 | 0xa0);
    assert_int_equal(lapic_pending(apic), 0xa0);
    lapic_mmio_write(apic, LAPIC_ICR, LAPIC_TO_ALL << 18 | 0xb0);
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(lapic_pending(m->cpu[i].apic), 0xb0);
}

static void startup_messages_reach_their_processor(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[0].apic;

    lapic_mmio_write(apic, LAPIC_ICR2, 1u << 24);
    lapic_mmio_write(apic, LAPIC_ICR, LAPIC_INIT << 8 | LAPIC_ICR_ASSERT | LAPIC_ICR_LEVEL);
    lapic_mmio_write(apic, LAPIC_ICR, LAPIC_INIT << 8 | LAPIC_ICR_LEVEL); /* de-assert */
    assert_int_equal(m->cpu[1].events[LAPIC_EVENT_INIT], 1);
    lapic_reset(m->cpu[1].apic, true); /* what its vCPU does about it: now software-disabled */
    lapic_mmio_write(apic, LAPIC_ICR, LAPIC_STARTUP << 8 | 0x9a);
    assert_int_equal(m->cpu[1].events[LAPIC_EVENT_SIPI], 1);
    assert_int_equal(m->cpu[1].sipi, 0x9a);
    lapic_mmio_write(apic, LAPIC_ICR, LAPIC_NMI << 8);
    assert_int_equal(m->cpu[1].events[LAPIC_EVENT_NMI], 1);
    lapic_mmio_write(apic, LAPIC_ICR, 0x80);
    assert_int_equal(lapic_pending(m->cpu[1].apic), -1);
}

static void logical_destinations_flat_and_cluster(void **state)
{
    struct machine *m = *state;
    const uint32_t logical = 1u << 2;

    for (unsigned i = 0; i < CPUS; i++)
        lapic_mmio_write(m->cpu[i].apic, LAPIC_LDR, 1u << (24 + i));
    lapic_bus_send(m->bus, &(struct msi_message){0xfee00000 | 0x5 << 12 | logical, 0x40});
    assert_int_equal(lapic_pending(m->cpu[0].apic), 0x40);
    assert_int_equal(lapic_pending(m->cpu[1].apic), -1);
    assert_int_equal(lapic_pending(m->cpu[2].apic), 0x40);

    for (unsigned i = 0; i < CPUS; i++) {
        lapic_mmio_write(m->cpu[i].apic, LAPIC_DFR, 0);
        lapic_mmio_write(m->cpu[i].apic, LAPIC_LDR, (i == 2 ? 0x11u : 0x01u << i) << 24);
    }
    lapic_bus_send(m->bus, &(struct msi_message){0xfee00000 | 0x13 << 12 | logical, 0x50});
    assert_int_equal(lapic_pending(m->cpu[0].apic), 0x40);
    assert_int_equal(lapic_pending(m->cpu[1].apic), -1);
    assert_int_equal(lapic_pending(m->cpu[2].apic), 0x50);
}

static void lowest_priority_takes_the_idlest_and_then_turns(void **state)
{
    struct machine *m = *state;
    unsigned taken[CPUS] = {0};

    lapic_cr8_write(m->cpu[0].apic, 8);
    for (unsigned i = 0; i < 4; i++) {
        send(m, 0xff, LAPIC_LOWEST_PRIORITY << 8 | 0x40);
        for (unsigned c = 0; c < CPUS; c++) {
            if (lapic_pending(m->cpu[c].apic) == 0x40) {
                taken[c]++;
                lapic_acknowledge(m->cpu[c].apic);
                lapic_mmio_write(m->cpu[c].apic, LAPIC_EOI, 0);
            }
        }
    }
    assert_int_equal(taken[0], 0);
    assert_int_equal(taken[1] + taken[2], 4);
    assert_true(taken[1] && taken[2]);
}

static void x2apic_transitions(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[2].apic;
    const uint64_t base = APIC_BASE_DEFAULT;
    uint64_t value;
    gpa_t page;

    assert_true(lapic_mmio_base(apic, &page));
    assert_int_equal(page, APIC_BASE_DEFAULT);
    assert_false(lapic_msr_read(apic, 0x802, &value));                           /* xAPIC */
    assert_false(lapic_msr_write(apic, MSR_APIC_BASE, base | APIC_BASE_X2APIC)); /* EXTD alone */
    assert_false(lapic_msr_write(apic, MSR_APIC_BASE, base | APIC_BASE_ENABLE | 1));
    enter_x2apic(apic);
    assert_false(lapic_mmio_base(apic, &page));
    assert_false(lapic_msr_write(apic, MSR_APIC_BASE, base | APIC_BASE_ENABLE)); /* back */
    assert_true(lapic_msr_write(apic, MSR_APIC_BASE, base));
    assert_false(lapic_msr_write(apic, MSR_APIC_BASE, base | APIC_BASE_ENABLE | APIC_BASE_X2APIC));
    assert_true(lapic_msr_write(apic, MSR_APIC_BASE, base | APIC_BASE_ENABLE));
    assert_int_equal(lapic_mmio_read(apic, LAPIC_ID), 2u << 24);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_SVR), 0xff); /* as after reset */
}

static void x2apic_registers_and_their_faults(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[1].apic;
    uint64_t value;

    enter_x2apic(apic);
    assert_true(lapic_msr_read(apic, 0x802, &value));
    assert_int_equal(value, 1);
    assert_true(lapic_msr_read(apic, 0x80d, &value));
    assert_int_equal(value, 2);                    /* cluster 0, second of it */
    assert_false(lapic_msr_write(apic, 0x802, 1)); /* read only */
    assert_false(lapic_msr_write(apic, 0x80b, 1)); /* EOI takes 0 only */
    assert_false(lapic_msr_read(apic, 0x80b, &value));
    assert_false(lapic_msr_read(apic, 0x80e, &value)); /* no DFR */
    assert_false(lapic_msr_write(apic, 0x831, 0));     /* no ICR2 */
    assert_false(lapic_msr_write(apic, 0x808, 0x100));
    assert_false(lapic_msr_write(apic, 0x808, 1ull << 32));
    assert_false(lapic_msr_read(apic, 0x8ff, &value));
    assert_true(lapic_msr_write(apic, 0x835, 0x15700)); /* status bits are not reserved */
    assert_true(lapic_msr_read(apic, 0x835, &value));
    assert_int_equal(value, 0x10700);
    assert_false(lapic_msr_write(apic, 0x835, 0x800));
    assert_true(lapic_msr_write(apic, 0x83f, 0x77)); /* self IPI */
    assert_int_equal(lapic_acknowledge(apic), 0x77);
    assert_true(lapic_msr_write(apic, 0x80b, 0));
    assert_true(lapic_msr_write(apic, 0x830, 2ull << 32 | 0x78)); /* to an xAPIC */
    assert_int_equal(lapic_pending(m->cpu[2].apic), 0x78);
    enter_x2apic(m->cpu[2].apic);
    assert_true(lapic_msr_write(apic, 0x830, 4ull << 32 | LAPIC_ICR_LOGICAL | 0x88));
    assert_int_equal(lapic_pending(m->cpu[2].apic), 0x88);
    assert_int_equal(lapic_pending(apic), -1);
}

static void illegal_vectors_are_errors(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[0].apic;

    lapic_mmio_write(apic, LAPIC_LVT_ERROR, 0xe0);
    lapic_mmio_write(apic, LAPIC_ICR, LAPIC_TO_SELF << 18 | 0x0f);
    assert_int_equal(lapic_pending(apic), 0xe0);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_ESR), 0);
    lapic_mmio_write(apic, LAPIC_ESR, 0);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_ESR), LAPIC_ERROR_SEND_VECTOR);
    send(m, 0, 0x05);
    lapic_mmio_write(apic, LAPIC_ESR, 0);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_ESR), LAPIC_ERROR_RECEIVE_VECTOR);
}

static void extint_goes_through_lint0(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[0].apic;

    lapic_bus_extint(m->bus, true); /* LINT0 is masked */
    assert_int_equal(lapic_pending(apic), -1);
    lapic_mmio_write(apic, LAPIC_LVT_LINT0, LAPIC_EXTINT_MODE << 8);
    assert_int_equal(m->cpu[0].events[LAPIC_EVENT_INTERRUPT], 1);
    assert_int_equal(lapic_acknowledge(apic), LAPIC_EXTINT);
    lapic_bus_extint(m->bus, false);
    assert_int_equal(lapic_pending(apic), -1);
    /* A disabled APIC is a plain wire, on the bootstrap processor only. */
    lapic_bus_extint(m->bus, true);
    for (unsigned i = 0; i < 2; i++)
        assert_true(lapic_msr_write(m->cpu[i].apic, MSR_APIC_BASE, APIC_BASE_DEFAULT));
    assert_int_equal(lapic_pending(m->cpu[0].apic), LAPIC_EXTINT);
    assert_int_equal(lapic_pending(m->cpu[1].apic), -1);
}

static void lint1_brings_nmi(void **state)
{
    struct machine *m = *state;

    lapic_nmi(m->cpu[0].apic);
    assert_int_equal(m->cpu[0].events[LAPIC_EVENT_NMI], 0);
    lapic_mmio_write(m->cpu[0].apic, LAPIC_LVT_LINT1, LAPIC_NMI << 8);
    lapic_nmi(m->cpu[0].apic);
    assert_int_equal(m->cpu[0].events[LAPIC_EVENT_NMI], 1);
}

static void software_disable_masks_local_vectors(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[0].apic;

    lapic_mmio_write(apic, LAPIC_LVT_TIMER, 0x70);
    lapic_mmio_write(apic, LAPIC_SVR, 0xff);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_LVT_TIMER), LAPIC_LVT_MASKED | 0x70);
    lapic_mmio_write(apic, LAPIC_LVT_TIMER, 0x70);
    assert_int_equal(lapic_mmio_read(apic, LAPIC_LVT_TIMER), LAPIC_LVT_MASKED | 0x70);
    send(m, 0, 0x40);
    assert_int_equal(lapic_pending(apic), -1);
}

static void saved_state_continues_elsewhere(void **state)
{
    struct machine *m = *state;
    struct lapic *from = m->cpu[1].apic;
    uint8_t page[1024], again[1024];
    uint64_t base, deadline;

    lapic_cr8_write(from, 2);
    send(m, 1, 0x61 | 1u << 15 | 1u << 14);
    assert_int_equal(lapic_acknowledge(from), 0x61);
    send(m, 1, 0x41);
    lapic_mmio_write(from, LAPIC_TIMER_DIVIDE, 0xb);
    lapic_mmio_write(from, LAPIC_LVT_TIMER, LAPIC_LVT_TIMER_PERIODIC | 0x70);
    lapic_mmio_write(from, LAPIC_TIMER_INITIAL, 1000000);
    clock_advance(m->clock, 400000);
    lapic_save(from, page, &base, &deadline);
    lapic_reset(from, false);
    assert_int_equal(lapic_load(from, page, base, deadline), 0);
    lapic_save(from, again, &base, &deadline);
    assert_memory_equal(page, again, sizeof(page));
    clock_advance(m->clock, 600000);
    assert_int_equal(lapic_acknowledge(from), 0x70);
    lapic_mmio_write(from, LAPIC_EOI, 0);
    lapic_mmio_write(from, LAPIC_EOI, 0);
    assert_int_equal(m->cpu[1].eoi, 0x61);
    assert_int_equal(lapic_pending(from), 0x41);

    /* Another processor's page, and a mode that does not exist. */
    assert_int_equal(lapic_load(m->cpu[2].apic, page, base, deadline), -EINVAL);
    assert_int_equal(lapic_load(from, page, APIC_BASE_DEFAULT | APIC_BASE_X2APIC, 0), -EINVAL);
}

#define FIRST_SENT 32

static void *send_all_vectors(void *opaque)
{
    for (unsigned vector = FIRST_SENT; vector < 256; vector++)
        send(opaque, 1, vector);
    return NULL;
}

static void messages_from_other_threads_are_not_lost(void **state)
{
    struct machine *m = *state;
    struct lapic *apic = m->cpu[1].apic;
    bool taken[256] = {false};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, send_all_vectors, m), 0);
    for (unsigned left = 256 - FIRST_SENT; left;) {
        int vector = lapic_acknowledge(apic);
        if (vector < 0) {
            sched_yield();
            continue;
        }
        assert_false(taken[vector]);
        taken[vector] = true;
        lapic_mmio_write(apic, LAPIC_EOI, 0);
        left--;
    }
    pthread_join(thread, NULL);
    assert_int_equal(lapic_pending(apic), -1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_highest_vector_is_taken_first_and_masks_its_class),
        TEST(task_priority_holds_back),
        TEST(level_triggered_eoi_is_broadcast_unless_suppressed),
        TEST(one_shot_timer_counts_down_and_fires_once),
        TEST(periodic_timer_repeats_until_stopped),
        TEST(tsc_deadline_fires_and_clears_itself),
        TEST(masked_timer_stays_silent),
        TEST(ipis_follow_their_shorthand),
        TEST(startup_messages_reach_their_processor),
        TEST(logical_destinations_flat_and_cluster),
        TEST(lowest_priority_takes_the_idlest_and_then_turns),
        TEST(x2apic_transitions),
        TEST(x2apic_registers_and_their_faults),
        TEST(illegal_vectors_are_errors),
        TEST(extint_goes_through_lint0),
        TEST(lint1_brings_nmi),
        TEST(software_disable_masks_local_vectors),
        TEST(saved_state_continues_elsewhere),
        TEST(messages_from_other_threads_are_not_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
