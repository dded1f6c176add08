/*
 * The MC146818A real-time clock with the PC's CMOS memory (Motorola data sheet, ports 0x70-0x71).
 *
 * The guest's time is UTC, as the host knows it, plus a number of seconds that changes when the
 * guest sets its clock; so it stays right across a pause of the VM. Nothing ticks: time and flags
 * are worked out when somebody looks, and a timer runs only while an enabled interrupt is due.
 *
 *      |<------------------------- one second of UTC ------------------------->|
 *      |                                                 |<- 244 us: UIP is 1 ->|  update: UF, AF
 *
 * An update takes no time, so whoever finds UIP clear has the 244 us that the data sheet promises.
 * The daylight saving bit has no effect, as in every later chip, and the square-wave pin leads
 * nowhere.
 *
 * Threads: vCPUs and the clock's thread, under `lock`.
 */
#include "dev/legacy/mc146818.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/ticks.h"

#define CMOS_PORT 0x70
#define CMOS_SIZE 128
#define INDEX_NMI_MASKED 0x80

#define DIVIDER_HZ 32768u
#define UPDATE_WARNING_NS 244000 /* UIP rises so long before the update (figure 15, tBUC) */
#define SECONDS_PER_DAY 86400

/* How far the guest's clock may be from UTC: beyond all years that its registers can show. */
#define MAX_OFFSET (1ll << 40)

enum {
    REG_SECONDS = 0x00,
    REG_SECONDS_ALARM = 0x01,
    REG_MINUTES = 0x02,
    REG_MINUTES_ALARM = 0x03,
    REG_HOURS = 0x04,
    REG_HOURS_ALARM = 0x05,
    REG_WEEKDAY = 0x06, /* Sunday is 1 */
    REG_DAY = 0x07,
    REG_MONTH = 0x08,
    REG_YEAR = 0x09,
    REG_A = 0x0a,
    REG_B = 0x0b,
    REG_C = 0x0c,
    REG_D = 0x0d,
    /* From here on memory, with the PC's meanings. */
    REG_BASE_MEMORY = 0x15,     /* KiB, 2 bytes */
    REG_EXTENDED_MEMORY = 0x17, /* KiB above 1 MiB, 2 bytes */
    REG_EXTENDED_MEMORY_POST = 0x30,
    REG_CENTURY = 0x32,
    REG_MEMORY_ABOVE_16M = 0x34, /* 64 KiB, 2 bytes */
    REG_MEMORY_ABOVE_4G = 0x5b,  /* 64 KiB, 3 bytes */
};

enum {
    A_UPDATE_IN_PROGRESS = 1 << 7,
    A_DIVIDER_RESET = 0x60, /* both bits: the divider stands still */
    A_RATE = 0x0f,
};

/* Registers B (enables) and C (flags) agree in bits 4 to 6. */
enum {
    B_SET = 1 << 7,
    B_SQUARE_WAVE = 1 << 3,
    B_BINARY = 1 << 2,
    B_24_HOURS = 1 << 1,

    INTERRUPT_PERIODIC = 1 << 6,
    INTERRUPT_ALARM = 1 << 5,
    INTERRUPT_UPDATE = 1 << 4,
    INTERRUPTS = 0x70,

    C_REQUEST = 1 << 7,
    D_VALID = 1 << 7,
};

#define HOURS_PM 0x80
#define ALARM_ANY 0xc0 /* both upper bits: matches every value */

struct mc146818 {
    struct device device;
    struct region region;
    struct clock *clock;
    struct irq_line irq, alarm, nmi_mask;
    int64_t (*utc_now)(void *opaque);
    void *utc_opaque;
    struct timer timer; /* the next enabled interrupt */

    pthread_mutex_t lock; /* a device lock in the order of bus/irq.h; guards all below */
    uint8_t index;        /* as written to port 0x70, with the NMI mask */
    /* The time registers in here are valid only while the clock is stopped. */
    uint8_t memory[CMOS_SIZE];
    int64_t offset;          /* guest's seconds since 1970 minus UTC's */
    int64_t flags_second;    /* UF and AF are up to date with this second of the guest's time */
    uint64_t flags_periodic; /* PF is up to date with this tick of the divider (VM time) */
};

static int64_t host_utc_now(void *opaque)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * (int64_t)NS_PER_SEC + now.tv_nsec;
}

static int64_t guest_second(const struct mc146818 *rtc)
{
    return rtc->utc_now(rtc->utc_opaque) / (int64_t)NS_PER_SEC + rtc->offset;
}

static uint64_t ns_to_update(const struct mc146818 *rtc)
{
    return NS_PER_SEC - rtc->utc_now(rtc->utc_opaque) % (int64_t)NS_PER_SEC;
}

static bool is_stopped(const struct mc146818 *rtc)
{
    return (rtc->memory[REG_B] & B_SET) ||
           (rtc->memory[REG_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET;
}

/* Register formats ("Time, Calendar, and Alarm Locations"): binary or BCD, 12 or 24 hours. */

static uint8_t encode(const struct mc146818 *rtc, unsigned value)
{
    return rtc->memory[REG_B] & B_BINARY ? value : value / 10 << 4 | value % 10;
}

static unsigned decode(const struct mc146818 *rtc, uint8_t value)
{
    return rtc->memory[REG_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

static uint8_t encode_hour(const struct mc146818 *rtc, unsigned hour)
{
    if (rtc->memory[REG_B] & B_24_HOURS)
        return encode(rtc, hour);
    return encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOURS_PM : 0);
}

static unsigned decode_hour(const struct mc146818 *rtc, uint8_t value)
{
    if (rtc->memory[REG_B] & B_24_HOURS)
        return decode(rtc, value);
    return decode(rtc, value & ~HOURS_PM) % 12 + (value & HOURS_PM ? 12 : 0);
}

/* Writes the guest's present time into the time registers. */
static void store_time(struct mc146818 *rtc)
{
    time_t seconds = guest_second(rtc);
    struct tm tm;

    gmtime_r(&seconds, &tm);
    rtc->memory[REG_SECONDS] = encode(rtc, tm.tm_sec);
    rtc->memory[REG_MINUTES] = encode(rtc, tm.tm_min);
    rtc->memory[REG_HOURS] = encode_hour(rtc, tm.tm_hour);
    rtc->memory[REG_WEEKDAY] = encode(rtc, tm.tm_wday + 1);
    rtc->memory[REG_DAY] = encode(rtc, tm.tm_mday);
    rtc->memory[REG_MONTH] = encode(rtc, tm.tm_mon + 1);
    rtc->memory[REG_YEAR] = encode(rtc, (unsigned)(tm.tm_year + 1900) % 100);
    rtc->memory[REG_CENTURY] = encode(rtc, (unsigned)(tm.tm_year + 1900) / 100 % 100);
}

/* The guest's clock goes on from what the time registers say. Dates that do not exist become later
 * ones that do. */
static void adopt_time(struct mc146818 *rtc)
{
    struct tm tm = {
        .tm_sec = decode(rtc, rtc->memory[REG_SECONDS]),
        .tm_min = decode(rtc, rtc->memory[REG_MINUTES]),
        .tm_hour = decode_hour(rtc, rtc->memory[REG_HOURS]),
        .tm_mday = decode(rtc, rtc->memory[REG_DAY]),
        .tm_mon = (int)decode(rtc, rtc->memory[REG_MONTH]) - 1,
        .tm_year = (int)(decode(rtc, rtc->memory[REG_CENTURY]) * 100 +
                         decode(rtc, rtc->memory[REG_YEAR])) -
                   1900,
    };

    rtc->offset += timegm(&tm) - guest_second(rtc);
    rtc->flags_second = guest_second(rtc);
}

static bool alarm_matches(uint8_t alarm, unsigned alarm_value, unsigned value)
{
    return (alarm & ALARM_ANY) == ALARM_ANY || alarm_value == value;
}

/* The first second after `after` at which the alarm registers match; false when they never do. */
static bool next_alarm(const struct mc146818 *rtc, int64_t after, int64_t *when)
{
    uint8_t hours = rtc->memory[REG_HOURS_ALARM];
    uint8_t minutes = rtc->memory[REG_MINUTES_ALARM];
    uint8_t seconds = rtc->memory[REG_SECONDS_ALARM];

    for (int64_t t = after + 1; t <= after + SECONDS_PER_DAY;) {
        int64_t of_day = (t % SECONDS_PER_DAY + SECONDS_PER_DAY) % SECONDS_PER_DAY;

        if (!alarm_matches(hours, decode_hour(rtc, hours), of_day / 3600))
            t += 3600 - of_day % 3600;
        else if (!alarm_matches(minutes, decode(rtc, minutes), of_day / 60 % 60))
            t += 60 - of_day % 60;
        else if (!alarm_matches(seconds, decode(rtc, seconds), of_day % 60))
            t++;
        else {
            *when = t;
            return true;
        }
    }
    return false;
}

/* Period of the periodic interrupt in ticks of the divider, 0 for none (table 5). */
static uint64_t period(const struct mc146818 *rtc)
{
    unsigned rate = rtc->memory[REG_A] & A_RATE;

    if (!rate || is_stopped(rtc))
        return 0;
    return 1u << (rate > 2 ? rate - 1 : rate + 6);
}

/* Sets the flags of register C for what has happened up to now. */
static void update_flags(struct mc146818 *rtc)
{
    uint64_t tick = tick_at(clock_now(rtc->clock), DIVIDER_HZ);
    uint64_t every = period(rtc);
    int64_t second = guest_second(rtc);
    int64_t alarm;

    if (!is_stopped(rtc) && second > rtc->flags_second) {
        rtc->memory[REG_C] |= INTERRUPT_UPDATE;
        if (next_alarm(rtc, rtc->flags_second, &alarm) && alarm <= second)
            rtc->memory[REG_C] |= INTERRUPT_ALARM;
    }
    rtc->flags_second = second;
    if (every && tick / every > rtc->flags_periodic / every)
        rtc->memory[REG_C] |= INTERRUPT_PERIODIC;
    rtc->flags_periodic = tick;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* VM time at which the guest's clock shows `second`. */
static uint64_t time_of_second(const struct mc146818 *rtc, int64_t second)
{
    int64_t wait = (second - rtc->offset) * (int64_t)NS_PER_SEC - rtc->utc_now(rtc->utc_opaque);

    return clock_now(rtc->clock) + (wait > 0 ? wait : 0);
}

/* Arms the timer for the next event that raises the interrupt line; what is flagged already does
 * so only after register C was read. Call after update_flags(). */
static void schedule(struct mc146818 *rtc)
{
    uint8_t wanted = rtc->memory[REG_B] & ~rtc->memory[REG_C];
    uint64_t deadline = UINT64_MAX;
    uint64_t every = period(rtc);
    int64_t alarm;

    if ((wanted & INTERRUPT_UPDATE) && !is_stopped(rtc))
        deadline = time_of_second(rtc, rtc->flags_second + 1);
    if ((wanted & INTERRUPT_ALARM) && !is_stopped(rtc) &&
        next_alarm(rtc, rtc->flags_second, &alarm))
        deadline = earlier(deadline, time_of_second(rtc, alarm));
    if ((wanted & INTERRUPT_PERIODIC) && every)
        deadline =
            earlier(deadline, ns_of_tick((rtc->flags_periodic / every + 1) * every, DIVIDER_HZ));
    if (deadline != UINT64_MAX)
        timer_set(&rtc->timer, deadline);
    else
        timer_cancel(&rtc->timer);
}

static void update_irq(struct mc146818 *rtc)
{
    uint8_t asking = rtc->memory[REG_C] & rtc->memory[REG_B] & INTERRUPTS;

    irq_line_set(&rtc->irq, asking);
    irq_line_set(&rtc->alarm, asking & INTERRUPT_ALARM);
}

static void timer_fire(void *opaque)
{
    struct mc146818 *rtc = opaque;

    pthread_mutex_lock(&rtc->lock);
    update_flags(rtc);
    update_irq(rtc);
    schedule(rtc);
    pthread_mutex_unlock(&rtc->lock);
}

static bool is_time_register(unsigned index)
{
    return index == REG_CENTURY || index == REG_SECONDS || index == REG_MINUTES ||
           (index >= REG_HOURS && index <= REG_YEAR && index != REG_HOURS_ALARM);
}

static uint8_t read_register(struct mc146818 *rtc, unsigned index)
{
    uint8_t value;

    if (is_time_register(index) && !is_stopped(rtc))
        store_time(rtc);
    value = rtc->memory[index];
    switch (index) {
    case REG_A:
        if (!is_stopped(rtc) && ns_to_update(rtc) <= UPDATE_WARNING_NS)
            value |= A_UPDATE_IN_PROGRESS;
        break;
    case REG_C: /* reading clears the flags and the interrupt */
        update_flags(rtc);
        value = rtc->memory[REG_C];
        if (value & rtc->memory[REG_B] & INTERRUPTS)
            value |= C_REQUEST;
        rtc->memory[REG_C] = 0;
        update_irq(rtc);
        schedule(rtc);
        break;
    }
    return value;
}

/* Registers A and B decide whether the clock runs and how its registers look. */
static void write_control(struct mc146818 *rtc, unsigned index, uint8_t value)
{
    bool was_stopped = is_stopped(rtc);

    update_flags(rtc);
    if (!was_stopped)
        store_time(rtc); /* in the format of before: a switch does not convert */
    if (index == REG_A) {
        rtc->memory[REG_A] = value & ~A_UPDATE_IN_PROGRESS;
    } else {
        if (value & B_SET)
            value &= ~INTERRUPT_UPDATE;
        rtc->memory[REG_B] = value;
    }
    if (was_stopped && !is_stopped(rtc))
        adopt_time(rtc);
    update_irq(rtc);
    schedule(rtc);
}

static void write_register(struct mc146818 *rtc, unsigned index, uint8_t value)
{
    switch (index) {
    case REG_A:
    case REG_B:
        write_control(rtc, index, value);
        return;
    case REG_C:
    case REG_D:
        return; /* read only */
    }
    if (is_time_register(index) && !is_stopped(rtc)) {
        update_flags(rtc);
        store_time(rtc);
        rtc->memory[index] = value;
        adopt_time(rtc);
    } else {
        update_flags(rtc);
        rtc->memory[index] = value;
    }
    schedule(rtc);
}

static enum bus_result cmos_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct mc146818 *rtc = opaque;

    if (!offset) /* the index is write-only */
        return BUS_UNHANDLED;
    pthread_mutex_lock(&rtc->lock);
    *value = read_register(rtc, rtc->index & ~INDEX_NMI_MASKED);
    pthread_mutex_unlock(&rtc->lock);
    return BUS_OK;
}

static enum bus_result cmos_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct mc146818 *rtc = opaque;

    pthread_mutex_lock(&rtc->lock);
    if (offset) {
        write_register(rtc, rtc->index & ~INDEX_NMI_MASKED, value);
    } else {
        rtc->index = value;
        irq_line_set(&rtc->nmi_mask, value & INDEX_NMI_MASKED);
    }
    pthread_mutex_unlock(&rtc->lock);
    return BUS_OK;
}

static const struct region_ops cmos_ops = {.read = cmos_read, .write = cmos_write, .max_size = 1};

void mc146818_connect_alarm(struct mc146818 *rtc, const struct irq_line *alarm)
{
    rtc->alarm = *alarm;
}

void mc146818_set_byte(struct mc146818 *rtc, uint8_t index, uint8_t value)
{
    if (index <= REG_D || index >= CMOS_SIZE)
        return;
    pthread_mutex_lock(&rtc->lock);
    rtc->memory[index] = value;
    pthread_mutex_unlock(&rtc->lock);
}

/* Writes min(`value`, all ones) as `bytes` little-endian bytes. */
static void set_number(struct mc146818 *rtc, uint8_t index, unsigned bytes, uint64_t value)
{
    uint64_t most = (1ull << 8 * bytes) - 1;

    if (value > most)
        value = most;
    for (unsigned i = 0; i < bytes; i++)
        mc146818_set_byte(rtc, index + i, value >> 8 * i);
}

void mc146818_set_memory(struct mc146818 *rtc, uint64_t below, uint64_t above)
{
    uint64_t base = below < 640 * KIB ? below : 640 * KIB;
    uint64_t extended = below > 1 * MIB ? below - 1 * MIB : 0;
    uint64_t above_16m = below > 16 * MIB ? below - 16 * MIB : 0;

    set_number(rtc, REG_BASE_MEMORY, 2, base / KIB);
    set_number(rtc, REG_EXTENDED_MEMORY, 2, extended / KIB);
    set_number(rtc, REG_EXTENDED_MEMORY_POST, 2, extended / KIB);
    set_number(rtc, REG_MEMORY_ABOVE_16M, 2, above_16m / (64 * KIB));
    set_number(rtc, REG_MEMORY_ABOVE_4G, 3, above / (64 * KIB));
}

/* The reset pin ("RESET"): time, alarm and memory live on. */
static void rtc_reset(struct device *device)
{
    struct mc146818 *rtc = CONTAINER_OF(device, struct mc146818, device);

    pthread_mutex_lock(&rtc->lock);
    rtc->index = 0;
    rtc->memory[REG_B] &= ~(INTERRUPTS | B_SQUARE_WAVE);
    rtc->memory[REG_C] = 0;
    rtc->flags_periodic = tick_at(clock_now(rtc->clock), DIVIDER_HZ); /* VM time may start anew */
    irq_line_set(&rtc->nmi_mask, false);
    update_irq(rtc);
    schedule(rtc);
    pthread_mutex_unlock(&rtc->lock);
}

static void rtc_destroy(struct device *device)
{
    struct mc146818 *rtc = CONTAINER_OF(device, struct mc146818, device);

    timer_cancel_sync(&rtc->timer);
    pthread_mutex_destroy(&rtc->lock);
    free(rtc);
}

static void rtc_pre_save(void *object)
{
    struct mc146818 *rtc = object;

    update_flags(rtc);
}

static int rtc_post_load(void *object, struct error *err)
{
    struct mc146818 *rtc = object;

    if (rtc->offset < -MAX_OFFSET || rtc->offset > MAX_OFFSET)
        return error_set(err, -EBADMSG, "real-time clock: impossible time");
    rtc->memory[REG_A] &= ~A_UPDATE_IN_PROGRESS;
    rtc->memory[REG_C] &= INTERRUPTS;
    rtc->memory[REG_D] = D_VALID;
    irq_line_set(&rtc->nmi_mask, rtc->index & INDEX_NMI_MASKED);
    /* An alarm that passed while the VM was not there rings now; a time before is no alarm. */
    if (rtc->flags_second > guest_second(rtc) ||
        rtc->flags_second < guest_second(rtc) - SECONDS_PER_DAY)
        rtc->flags_second = guest_second(rtc);
    update_flags(rtc);
    update_irq(rtc);
    schedule(rtc);
    return 0;
}

static const struct state_field rtc_fields[] = {
    STATE_INT(struct mc146818, index),          STATE_BYTES(struct mc146818, memory),
    STATE_INT(struct mc146818, offset),         STATE_INT(struct mc146818, flags_second),
    STATE_INT(struct mc146818, flags_periodic), STATE_END,
};

static const struct state_desc rtc_state = {
    .name = "mc146818",
    .version = 1,
    .fields = rtc_fields,
    .pre_save = rtc_pre_save,
    .post_load = rtc_post_load,
};

static const struct device_ops rtc_ops = {
    .type = "mc146818",
    .reset = rtc_reset,
    .destroy = rtc_destroy,
    .state = &rtc_state,
};

int mc146818_new(struct mc146818 **out, const struct mc146818_config *config)
{
    struct mc146818 *rtc = calloc(1, sizeof(*rtc));

    if (!rtc)
        return -ENOMEM;
    rtc->device = (struct device){.ops = &rtc_ops, .name = "mc146818", .state_object = rtc};
    rtc->region = (struct region){.name = "RTC", .ops = &cmos_ops, .opaque = rtc, .size = 2};
    rtc->clock = config->clock;
    rtc->irq = config->irq;
    rtc->nmi_mask = config->nmi_mask;
    rtc->utc_now = config->utc_now ? config->utc_now : host_utc_now;
    rtc->utc_opaque = config->utc_opaque;
    rtc->offset = config->utc_offset;
    rtc->memory[REG_A] = 0x26; /* the divider runs, 1024 Hz: what a PC's firmware sets */
    rtc->memory[REG_B] = B_24_HOURS;
    rtc->memory[REG_D] = D_VALID;
    rtc->flags_second = guest_second(rtc);
    timer_init(&rtc->timer, config->clock, timer_fire, rtc);
    pthread_mutex_init(&rtc->lock, NULL);
    rtc_reset(&rtc->device);
    *out = rtc;
    return 0;
}

int mc146818_attach(struct mc146818 *rtc, struct bus *bus, struct error *err)
{
    return bus_add(bus, BUS_PORT, &rtc->region, CMOS_PORT, err);
}

struct device *mc146818_device(struct mc146818 *rtc)
{
    return &rtc->device;
}
