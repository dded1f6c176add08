/*
 * The local APIC's timer (Intel SDM volume 3, 11.5.4): a counter of a 1 GHz bus clock (one tick is
 * one nanosecond of VM time, as under KVM) behind a divider, in one-shot and periodic mode, and the
 * TSC-deadline mode. It never counts: it keeps the time of expiry and computes the rest.
 *
 * The owning vCPU's thread programs it; it fires on the clock's thread.
 */
#include "x86/lapic_internal.h"

/* A shorter period would keep a host CPU busy and no guest could serve it. */
#define SHORTEST_PERIOD_NS 20000ull

static unsigned divide_shift(const struct lapic *apic)
{
    uint32_t divide = lapic_reg(apic, LAPIC_TIMER_DIVIDE);
    /* Bits 3, 1 and 0: 0 divides by 2, 1 by 4, ... 6 by 128, 7 by 1. */
    return ((divide >> 1 & 4) + (divide & 3) + 1) & 7;
}

static uint32_t timer_mode(const struct lapic *apic)
{
    return lapic_reg(apic, LAPIC_LVT_TIMER) & LAPIC_LVT_TIMER_MODE;
}

static uint64_t count_ns(const struct lapic *apic, uint32_t count)
{
    return (uint64_t)count << divide_shift(apic);
}

/* Caller holds the timer's lock; so for the next two. */
static void arm(struct lapic *apic, uint64_t expiry)
{
    apic->timer.armed = true;
    apic->timer.expiry = expiry;
    timer_set(&apic->timer.event, expiry);
}

static void disarm(struct lapic *apic)
{
    apic->timer.armed = false;
    apic->timer.deadline = 0;
    timer_cancel(&apic->timer.event);
}

static uint32_t current_count(struct lapic *apic)
{
    uint64_t now = clock_now(apic->clock);
    if (!apic->timer.armed || timer_mode(apic) == LAPIC_LVT_TIMER_DEADLINE ||
        apic->timer.expiry <= now)
        return 0;
    uint64_t ticks = (apic->timer.expiry - now) >> divide_shift(apic);
    return ticks > UINT32_MAX ? UINT32_MAX : (uint32_t)ticks;
}

static void timer_fire(void *opaque)
{
    struct lapic *apic = opaque;
    struct lapic_timer *timer = &apic->timer;

    pthread_mutex_lock(&timer->lock);
    uint64_t now = clock_now(apic->clock);
    bool expired = timer->armed && now >= timer->expiry; /* not reprogrammed meanwhile */
    if (expired) {
        uint64_t period = count_ns(apic, lapic_reg(apic, LAPIC_TIMER_INITIAL));
        if (timer_mode(apic) == LAPIC_LVT_TIMER_PERIODIC && period) {
            if (period < SHORTEST_PERIOD_NS)
                period = SHORTEST_PERIOD_NS;
            /* Periods that a late host missed are not made up for. */
            uint64_t missed = (now - timer->expiry) / period;
            arm(apic, timer->expiry + (missed + 1) * period);
        } else {
            disarm(apic);
        }
    }
    pthread_mutex_unlock(&timer->lock);
    if (expired)
        lapic_raise_local(apic, LAPIC_LVT_TIMER);
}

void lapic_timer_init(struct lapic *apic)
{
    pthread_mutex_init(&apic->timer.lock, NULL);
    timer_init(&apic->timer.event, apic->clock, timer_fire, apic);
}

void lapic_timer_done(struct lapic *apic)
{
    timer_cancel_sync(&apic->timer.event);
    pthread_mutex_destroy(&apic->timer.lock);
}

void lapic_timer_reset(struct lapic *apic)
{
    pthread_mutex_lock(&apic->timer.lock);
    disarm(apic);
    pthread_mutex_unlock(&apic->timer.lock);
}

/* Entering or leaving TSC-deadline mode disarms the timer (11.5.4.1). */
void lapic_timer_set_lvt(struct lapic *apic, uint32_t lvt)
{
    pthread_mutex_lock(&apic->timer.lock);
    bool was_deadline = timer_mode(apic) == LAPIC_LVT_TIMER_DEADLINE;
    bool is_deadline = (lvt & LAPIC_LVT_TIMER_MODE) == LAPIC_LVT_TIMER_DEADLINE;
    lapic_reg_set(apic, LAPIC_LVT_TIMER, lvt);
    if (was_deadline != is_deadline) {
        disarm(apic);
        lapic_reg_set(apic, LAPIC_TIMER_INITIAL, 0);
    }
    pthread_mutex_unlock(&apic->timer.lock);
}

void lapic_timer_set_initial(struct lapic *apic, uint32_t count)
{
    pthread_mutex_lock(&apic->timer.lock);
    if (timer_mode(apic) != LAPIC_LVT_TIMER_DEADLINE) {
        lapic_reg_set(apic, LAPIC_TIMER_INITIAL, count);
        disarm(apic);
        if (count)
            arm(apic, clock_now(apic->clock) + count_ns(apic, count));
    }
    pthread_mutex_unlock(&apic->timer.lock);
}

/* The count that is left goes on at the new rate. */
void lapic_timer_set_divide(struct lapic *apic, uint32_t divide)
{
    pthread_mutex_lock(&apic->timer.lock);
    uint32_t left = current_count(apic);
    bool counting = apic->timer.armed && timer_mode(apic) != LAPIC_LVT_TIMER_DEADLINE;
    lapic_reg_set(apic, LAPIC_TIMER_DIVIDE, divide);
    if (counting)
        arm(apic, clock_now(apic->clock) + count_ns(apic, left));
    pthread_mutex_unlock(&apic->timer.lock);
}

void lapic_timer_set_deadline(struct lapic *apic, uint64_t tsc)
{
    bool expired = false;

    pthread_mutex_lock(&apic->timer.lock);
    if (timer_mode(apic) == LAPIC_LVT_TIMER_DEADLINE) {
        disarm(apic);
        expired = tsc && apic->ops->tsc_read(apic->opaque) >= tsc;
        if (tsc && !expired) {
            apic->timer.deadline = tsc;
            arm(apic, apic->ops->tsc_to_time(apic->opaque, tsc));
        }
    }
    pthread_mutex_unlock(&apic->timer.lock);
    if (expired)
        lapic_raise_local(apic, LAPIC_LVT_TIMER);
}

uint64_t lapic_timer_deadline(struct lapic *apic)
{
    pthread_mutex_lock(&apic->timer.lock);
    uint64_t deadline = apic->timer.deadline;
    pthread_mutex_unlock(&apic->timer.lock);
    return deadline;
}

uint32_t lapic_timer_current(struct lapic *apic)
{
    pthread_mutex_lock(&apic->timer.lock);
    uint32_t count = current_count(apic);
    pthread_mutex_unlock(&apic->timer.lock);
    return count;
}

void lapic_timer_restore(struct lapic *apic, uint32_t current, uint64_t deadline)
{
    if (timer_mode(apic) == LAPIC_LVT_TIMER_DEADLINE) {
        lapic_timer_set_deadline(apic, deadline);
        return;
    }
    pthread_mutex_lock(&apic->timer.lock);
    disarm(apic);
    /* A periodic timer saved between two periods shows 0 and begins a whole one. */
    if (!current && timer_mode(apic) == LAPIC_LVT_TIMER_PERIODIC)
        current = lapic_reg(apic, LAPIC_TIMER_INITIAL);
    if (current)
        arm(apic, clock_now(apic->clock) + count_ns(apic, current));
    pthread_mutex_unlock(&apic->timer.lock);
}
