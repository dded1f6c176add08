/*
 * The high precision event timers (Intel IA-PC HPET specification 1.0a, section 2.3): a 64-bit main
 * counter at 100 MHz and three comparators, each one-shot or periodic, 32 or 64 bits wide, edge- or
 * level-triggered, with delivery through a wire or as a message (FSB).
 *
 * Nothing counts here. The counter is VM time plus an offset, and a comparator has matched if its
 * value lies between the counter's value at the latest look and the present one. A timer runs only
 * while an enabled interrupt is due. Periods that the host slept through give one interrupt.
 *
 * In legacy replacement mode comparators 0 and 1 drive ISA interrupts 0 and 8 in place of the i8254
 * and the RTC, whose wires pass through here:
 *
 *      i8254 --> hpet_timer_input() --\
 *                                      >-- isa_timer     (the same for the RTC and isa_rtc)
 *      comparator 0 ------------------/
 *
 * Threads: vCPUs, the clock's thread and those that drive the two inputs, under `lock`. The i8254's
 * and the RTC's locks come before this one.
 */
#include "dev/legacy/hpet.h"

#include <errno.h>
#include <stdlib.h>

#define HPET_REGION_SIZE 0x400
#define TIMERS 3

#define NS_PER_TICK 10u
#define FEMTOSECONDS_PER_TICK (NS_PER_TICK * 1000000ull)

/* Interrupts of a periodic comparator come at most every 20 us, whatever period the guest sets. */
#define MIN_PERIOD_TICKS 2000

/* Deadlines beyond this many ticks (a thousand years) never come. */
#define FAR_AWAY (UINT64_MAX / 64)

/* Registers, all 64 bits wide (table 2). */
enum {
    REG_CAPABILITIES = 0x000,
    REG_CONFIG = 0x010,
    REG_STATUS = 0x020,
    REG_COUNTER = 0x0f0,
    REG_TIMER = 0x100, /* the first of TIMERS blocks */
    TIMER_BLOCK = 0x20,
    TIMER_CONFIG = 0x00,
    TIMER_COMPARATOR = 0x08,
    TIMER_FSB = 0x10,
};

#define CONFIG_ENABLE (1ull << 0)
#define CONFIG_LEGACY (1ull << 1)

#define TIMER_LEVEL (1ull << 1)
#define TIMER_ENABLE (1ull << 2)
#define TIMER_PERIODIC (1ull << 3)
#define TIMER_PERIODIC_CAPABLE (1ull << 4)
#define TIMER_64_BIT_CAPABLE (1ull << 5)
#define TIMER_SET_ACCUMULATOR (1ull << 6)
#define TIMER_32_BIT (1ull << 8)
#define TIMER_ROUTE_SHIFT 9
#define TIMER_ROUTE (31ull << TIMER_ROUTE_SHIFT)
#define TIMER_FSB_ENABLE (1ull << 14)
#define TIMER_FSB_CAPABLE (1ull << 15)
#define TIMER_ROUTE_CAPABLE_SHIFT 32
#define TIMER_CAPABILITIES (TIMER_PERIODIC_CAPABLE | TIMER_64_BIT_CAPABLE | TIMER_FSB_CAPABLE)
#define TIMER_WRITABLE                                                                             \
    (TIMER_LEVEL | TIMER_ENABLE | TIMER_PERIODIC | TIMER_32_BIT | TIMER_ROUTE | TIMER_FSB_ENABLE)

enum legacy_input { INPUT_TIMER, INPUT_RTC, INPUT_COUNT };

struct comparator {
    uint64_t config; /* TIMER_WRITABLE bits */
    uint64_t value;  /* the next match */
    uint64_t period; /* added at each match while periodic */
    uint64_t fsb;    /* message: data low, address high */
    bool set_accumulator;
};

struct hpet {
    struct device device;
    struct region region;
    struct clock *clock;
    struct irq_line route[24];
    struct irq_line isa[INPUT_COUNT];
    struct msi_sink msi;
    struct timer timer; /* the next enabled interrupt */

    pthread_mutex_t lock; /* a device lock in the order of bus/irq.h; guards all below */
    uint64_t config;
    uint32_t status;  /* bit n: level-triggered comparator n has matched */
    uint64_t counter; /* main counter at the latest look */
    uint64_t offset;  /* main counter minus ticks of VM time; meaningful while enabled */
    struct comparator comparator[TIMERS];
    bool input[INPUT_COUNT]; /* levels that the i8254 and the RTC drive */
};

static uint64_t now_tick(const struct hpet *hpet)
{
    return clock_now(hpet->clock) / NS_PER_TICK;
}

static uint64_t comparator_mask(const struct comparator *comparator)
{
    return comparator->config & TIMER_32_BIT ? UINT32_MAX : UINT64_MAX;
}

/* Ticks from the latest look to the next match, 1 or more; 0 stands for 2^64. */
static uint64_t ticks_to_match(const struct hpet *hpet, const struct comparator *comparator)
{
    return ((comparator->value - hpet->counter - 1) & comparator_mask(comparator)) + 1;
}

static bool is_legacy(const struct hpet *hpet, unsigned n)
{
    return (hpet->config & CONFIG_LEGACY) && n < INPUT_COUNT;
}

/* The wire that comparator `n` drives. */
static const struct irq_line *comparator_line(const struct hpet *hpet, unsigned n)
{
    unsigned route = (hpet->comparator[n].config & TIMER_ROUTE) >> TIMER_ROUTE_SHIFT;
    static const struct irq_line nowhere;

    if (is_legacy(hpet, n))
        return &hpet->isa[n];
    return route < ARRAY_SIZE(hpet->route) ? &hpet->route[route] : &nowhere;
}

static void drive_level(struct hpet *hpet, unsigned n)
{
    uint64_t wanted = TIMER_LEVEL | TIMER_ENABLE;

    irq_line_set(comparator_line(hpet, n),
                 (hpet->config & CONFIG_ENABLE) && (hpet->status & 1u << n) &&
                     (hpet->comparator[n].config & (wanted | TIMER_FSB_ENABLE)) == wanted);
}

static void deliver(struct hpet *hpet, unsigned n)
{
    const struct comparator *comparator = &hpet->comparator[n];

    if (comparator->config & TIMER_LEVEL)
        hpet->status |= 1u << n;
    if (!(comparator->config & TIMER_ENABLE))
        return;
    if (comparator->config & TIMER_FSB_ENABLE) {
        struct msi_message message = {.address = comparator->fsb >> 32, .data = comparator->fsb};

        msi_send(&hpet->msi, &message);
    } else if (comparator->config & TIMER_LEVEL) {
        drive_level(hpet, n);
    } else {
        irq_line_set(comparator_line(hpet, n), true);
        irq_line_set(comparator_line(hpet, n), false);
    }
}

/* Moves a periodic comparator beyond the counter. */
static void accumulate(const struct hpet *hpet, struct comparator *comparator)
{
    uint64_t mask = comparator_mask(comparator);
    uint64_t behind = (hpet->counter - comparator->value) & mask;
    uint64_t period = comparator->period;

    if (!(comparator->config & TIMER_PERIODIC) || !period)
        return;
    if (period < MIN_PERIOD_TICKS)
        behind += MIN_PERIOD_TICKS;
    comparator->value = (comparator->value + (behind / period + 1) * period) & mask;
}

/* Brings the counter up to the present and delivers what has matched since the latest look. */
static void catch_up(struct hpet *hpet)
{
    uint64_t distance[TIMERS];
    uint64_t passed;

    if (!(hpet->config & CONFIG_ENABLE))
        return;
    for (unsigned n = 0; n < TIMERS; n++)
        distance[n] = ticks_to_match(hpet, &hpet->comparator[n]);
    passed = now_tick(hpet) + hpet->offset - hpet->counter;
    hpet->counter += passed;
    for (unsigned n = 0; n < TIMERS; n++) {
        if (distance[n] && distance[n] <= passed) {
            deliver(hpet, n);
            accumulate(hpet, &hpet->comparator[n]);
        }
    }
}

/* Arms the timer for the next match that interrupts. Call after catch_up(). */
static void schedule(struct hpet *hpet)
{
    uint64_t nearest = UINT64_MAX;

    for (unsigned n = 0; n < TIMERS; n++) {
        uint64_t distance = ticks_to_match(hpet, &hpet->comparator[n]);

        if ((hpet->comparator[n].config & TIMER_ENABLE) && distance && distance < nearest)
            nearest = distance;
    }
    if ((hpet->config & CONFIG_ENABLE) && nearest < FAR_AWAY)
        timer_set(&hpet->timer, (hpet->counter - hpet->offset + nearest) * NS_PER_TICK);
    else
        timer_cancel(&hpet->timer);
}

static void timer_fire(void *opaque)
{
    struct hpet *hpet = opaque;

    pthread_mutex_lock(&hpet->lock);
    catch_up(hpet);
    schedule(hpet);
    pthread_mutex_unlock(&hpet->lock);
}

static void set_input(void *opaque, unsigned input, bool level)
{
    struct hpet *hpet = opaque;

    pthread_mutex_lock(&hpet->lock);
    hpet->input[input] = level;
    if (!(hpet->config & CONFIG_LEGACY))
        irq_line_set(&hpet->isa[input], level);
    pthread_mutex_unlock(&hpet->lock);
}

struct irq_line hpet_timer_input(struct hpet *hpet)
{
    return (struct irq_line){.set = set_input, .opaque = hpet, .input = INPUT_TIMER};
}

struct irq_line hpet_rtc_input(struct hpet *hpet)
{
    return (struct irq_line){.set = set_input, .opaque = hpet, .input = INPUT_RTC};
}

/* Lets go of every wire before routing or trigger modes change; drive_lines() takes them again. */
static void release_lines(struct hpet *hpet)
{
    for (unsigned n = 0; n < TIMERS; n++)
        irq_line_set(comparator_line(hpet, n), false);
}

static void drive_lines(struct hpet *hpet)
{
    if (!(hpet->config & CONFIG_LEGACY)) {
        for (unsigned i = 0; i < INPUT_COUNT; i++)
            irq_line_set(&hpet->isa[i], hpet->input[i]);
    }
    for (unsigned n = 0; n < TIMERS; n++)
        drive_level(hpet, n);
}

static void write_config(struct hpet *hpet, uint64_t value)
{
    release_lines(hpet);
    if ((value ^ hpet->config) & CONFIG_LEGACY) {
        for (unsigned i = 0; i < INPUT_COUNT; i++)
            irq_line_set(&hpet->isa[i], false);
    }
    if (value & ~hpet->config & CONFIG_ENABLE)
        hpet->offset = hpet->counter - now_tick(hpet);
    hpet->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
    drive_lines(hpet);
}

static void write_timer_config(struct hpet *hpet, struct comparator *comparator, uint64_t value)
{
    unsigned route = (value & TIMER_ROUTE) >> TIMER_ROUTE_SHIFT;

    release_lines(hpet);
    /* A route that is not offered does not stick (2.3.8, Tn_INT_ROUTE_CNF). */
    if (route >= ARRAY_SIZE(hpet->route) || !hpet->route[route].set)
        value = (value & ~TIMER_ROUTE) | (comparator->config & TIMER_ROUTE);
    comparator->config = value & TIMER_WRITABLE;
    comparator->set_accumulator = value & TIMER_SET_ACCUMULATOR;
    comparator->value &= comparator_mask(comparator);
    comparator->period &= comparator_mask(comparator);
    drive_lines(hpet);
}

/* Every write in periodic mode sets the period; the comparator itself only if the software has
 * asked for it with the bit that this write uses up (2.3.9.2.2). */
static void write_comparator(struct comparator *comparator, uint64_t value, uint64_t mask)
{
    bool periodic = comparator->config & TIMER_PERIODIC;
    uint64_t width = comparator_mask(comparator);

    if (!periodic || comparator->set_accumulator)
        comparator->value = ((comparator->value & ~mask) | (value & mask)) & width;
    if (periodic)
        comparator->period = ((comparator->period & ~mask) | (value & mask)) & width;
    comparator->set_accumulator = false;
}

static uint64_t route_capabilities(const struct hpet *hpet)
{
    uint64_t routes = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(hpet->route); i++)
        routes |= (uint64_t) !!hpet->route[i].set << i;
    return routes << TIMER_ROUTE_CAPABLE_SHIFT;
}

static bool read_timer(const struct hpet *hpet, const struct comparator *comparator, unsigned reg,
                       uint64_t *value)
{
    switch (reg) {
    case TIMER_CONFIG:
        *value = comparator->config | TIMER_CAPABILITIES | route_capabilities(hpet);
        return true;
    case TIMER_COMPARATOR:
        *value = comparator->value;
        return true;
    case TIMER_FSB:
        *value = comparator->fsb;
        return true;
    }
    return false;
}

static bool read_register(const struct hpet *hpet, unsigned reg, uint64_t *value)
{
    switch (reg) {
    case REG_CAPABILITIES:
        *value = FEMTOSECONDS_PER_TICK << 32 | HPET_BLOCK_ID;
        return true;
    case REG_CONFIG:
        *value = hpet->config;
        return true;
    case REG_STATUS:
        *value = hpet->status;
        return true;
    case REG_COUNTER:
        *value = hpet->counter;
        return true;
    }
    if (reg < REG_TIMER || reg >= REG_TIMER + TIMERS * TIMER_BLOCK)
        return false;
    return read_timer(hpet, &hpet->comparator[(reg - REG_TIMER) / TIMER_BLOCK], reg % TIMER_BLOCK,
                      value);
}

static bool write_timer(struct hpet *hpet, struct comparator *comparator, unsigned reg,
                        uint64_t value, uint64_t mask)
{
    switch (reg) {
    case TIMER_CONFIG:
        write_timer_config(hpet, comparator, (comparator->config & ~mask) | (value & mask));
        return true;
    case TIMER_COMPARATOR:
        write_comparator(comparator, value, mask);
        return true;
    case TIMER_FSB:
        comparator->fsb = (comparator->fsb & ~mask) | (value & mask);
        return true;
    }
    return false;
}

/* Writes the bits of `mask`. */
static bool write_register(struct hpet *hpet, unsigned reg, uint64_t value, uint64_t mask)
{
    switch (reg) {
    case REG_CAPABILITIES: /* read only */
        return true;
    case REG_CONFIG:
        write_config(hpet, (hpet->config & ~mask) | (value & mask));
        return true;
    case REG_STATUS: /* a one clears */
        hpet->status &= ~(value & mask);
        for (unsigned n = 0; n < TIMERS; n++) {
            if (value & mask & 1u << n)
                drive_level(hpet, n);
        }
        return true;
    case REG_COUNTER:
        hpet->counter = (hpet->counter & ~mask) | (value & mask);
        hpet->offset = hpet->counter - now_tick(hpet);
        return true;
    }
    if (reg < REG_TIMER || reg >= REG_TIMER + TIMERS * TIMER_BLOCK)
        return false;
    return write_timer(hpet, &hpet->comparator[(reg - REG_TIMER) / TIMER_BLOCK], reg % TIMER_BLOCK,
                       value, mask);
}

static enum bus_result hpet_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct hpet *hpet = opaque;
    unsigned in_register = offset % 8;
    uint64_t data = 0;
    bool known;

    if (offset % size) /* 2.3.2: only aligned accesses */
        return BUS_ERROR;
    pthread_mutex_lock(&hpet->lock);
    catch_up(hpet);
    known = read_register(hpet, offset - in_register, &data);
    pthread_mutex_unlock(&hpet->lock);
    *value = data >> 8 * in_register & UINT64_MAX >> (64 - 8 * size);
    return known ? BUS_OK : BUS_UNHANDLED;
}

static enum bus_result hpet_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct hpet *hpet = opaque;
    unsigned in_register = offset % 8;
    uint64_t mask = UINT64_MAX >> (64 - 8 * size) << 8 * in_register;
    bool known;

    if (offset % size)
        return BUS_ERROR;
    pthread_mutex_lock(&hpet->lock);
    catch_up(hpet);
    known = write_register(hpet, offset - in_register, value << 8 * in_register, mask);
    schedule(hpet);
    pthread_mutex_unlock(&hpet->lock);
    return known ? BUS_OK : BUS_UNHANDLED;
}

static const struct region_ops hpet_region_ops = {
    .read = hpet_read,
    .write = hpet_write,
    .min_size = 4,
    .max_size = 8,
};

static void hpet_reset(struct device *device)
{
    struct hpet *hpet = CONTAINER_OF(device, struct hpet, device);

    pthread_mutex_lock(&hpet->lock);
    release_lines(hpet);
    hpet->config = 0;
    hpet->status = 0;
    hpet->counter = 0;
    for (unsigned n = 0; n < TIMERS; n++)
        hpet->comparator[n] = (struct comparator){.value = UINT64_MAX};
    drive_lines(hpet);
    schedule(hpet);
    pthread_mutex_unlock(&hpet->lock);
}

static void hpet_destroy(struct device *device)
{
    struct hpet *hpet = CONTAINER_OF(device, struct hpet, device);

    timer_cancel_sync(&hpet->timer);
    pthread_mutex_destroy(&hpet->lock);
    free(hpet);
}

/* Any values are safe: all arithmetic on counters is modulo 2^64. */
static int hpet_post_load(void *object, struct error *err)
{
    struct hpet *hpet = object;

    hpet->config &= CONFIG_ENABLE | CONFIG_LEGACY;
    hpet->status &= (1u << TIMERS) - 1;
    for (unsigned n = 0; n < TIMERS; n++)
        hpet->comparator[n].config &= TIMER_WRITABLE;
    schedule(hpet);
    return 0;
}

static const struct state_field comparator_fields[] = {
    STATE_INT(struct comparator, config),           STATE_INT(struct comparator, value),
    STATE_INT(struct comparator, period),           STATE_INT(struct comparator, fsb),
    STATE_BOOL(struct comparator, set_accumulator), STATE_END,
};

static const struct state_field hpet_fields[] = {
    STATE_INT(struct hpet, config),
    STATE_INT(struct hpet, status),
    STATE_INT(struct hpet, counter),
    STATE_INT(struct hpet, offset),
    STATE_STRUCT_ARRAY(struct hpet, comparator, comparator_fields),
    {.name = "input",
     .kind = STATE_KIND_BOOL,
     .offset = offsetof(struct hpet, input),
     .size = 1,
     .count = INPUT_COUNT},
    STATE_END,
};

static const struct state_desc hpet_state = {
    .name = "hpet",
    .version = 1,
    .fields = hpet_fields,
    .post_load = hpet_post_load,
};

static const struct device_ops hpet_ops = {
    .type = "hpet",
    .reset = hpet_reset,
    .destroy = hpet_destroy,
    .state = &hpet_state,
};

int hpet_new(struct hpet **out, const struct hpet_config *config)
{
    struct hpet *hpet = calloc(1, sizeof(*hpet));

    if (!hpet)
        return -ENOMEM;
    hpet->device = (struct device){.ops = &hpet_ops, .name = "hpet", .state_object = hpet};
    hpet->region = (struct region){
        .name = "HPET", .ops = &hpet_region_ops, .opaque = hpet, .size = HPET_REGION_SIZE};
    hpet->clock = config->clock;
    for (unsigned i = 0; i < ARRAY_SIZE(hpet->route); i++)
        hpet->route[i] = config->route[i];
    hpet->isa[INPUT_TIMER] = config->isa_timer;
    hpet->isa[INPUT_RTC] = config->isa_rtc;
    hpet->msi = config->msi;
    timer_init(&hpet->timer, config->clock, timer_fire, hpet);
    pthread_mutex_init(&hpet->lock, NULL);
    hpet_reset(&hpet->device);
    *out = hpet;
    return 0;
}

int hpet_attach(struct hpet *hpet, struct bus *bus, gpa_t base, struct error *err)
{
    return bus_add(bus, BUS_MMIO, &hpet->region, base, err);
}

struct device *hpet_device(struct hpet *hpet)
{
    return &hpet->device;
}
