/*
 * The 8254 programmable interval timer (Intel 8254 data sheet 231164) and port 0x61.
 *
 * Nothing counts here. A channel remembers at which tick of its 1.193182 MHz clock the present
 * count was loaded; the count and the output follow from the time that has passed since ("Mode
 * Definitions"). Channel 0's output drives an interrupt line, so a timer fires at each of its
 * rising edges. Edges that the host slept through are not made up for.
 *
 * Threads: vCPUs and the clock's thread, under `lock`.
 *
 * Against the data sheet: counts are loaded without the one-clock delay, and a new count in mode 3
 * waits for the end of the period rather than the half period.
 */
#include "dev/legacy/i8254.h"

#include <errno.h>
#include <stdlib.h>

#include "base/ticks.h"

#define CHANNELS 3
#define PIT_PORT 0x40
#define SYSTEM_CONTROL_PORT 0x61
#define SPEAKER_CHANNEL 2

/* Periodic interrupts come at most every 20 us, whatever count the guest programs. */
#define MIN_PERIOD_TICKS 24

/* The refresh request that port 0x61 shows toggles every 18 ticks, 15 us. */
#define REFRESH_TICKS 18

/* Control word ("Control Word Format", "Read-Back Command Format"). */
enum {
    CONTROL_BCD = 1 << 0,
    CONTROL_MODE_SHIFT = 1,
    CONTROL_RW_SHIFT = 4,
    CONTROL_CHANNEL_SHIFT = 6,
    CONTROL_MASK = 0x3f,
    CONTROL_READ_BACK = 3, /* as channel number */

    READ_BACK_NO_STATUS = 1 << 4,
    READ_BACK_NO_COUNT = 1 << 5,
    READ_BACK_CHANNEL_SHIFT = 1,

    STATUS_NULL_COUNT = 1 << 6,
    STATUS_OUTPUT = 1 << 7,
};

enum read_write { RW_LATCH, RW_LOW, RW_HIGH, RW_LOW_HIGH };

/* Port 0x61 (ICH9 13.7.1, NMI_SC). */
enum {
    SYSTEM_GATE2 = 1 << 0,
    SYSTEM_WRITABLE = 0x0f, /* gate, speaker and two NMI enables without a source */
    SYSTEM_REFRESH = 1 << 4,
    SYSTEM_OUTPUT2 = 1 << 5,
};

struct channel {
    uint8_t control; /* RW, mode and BCD bits of the latest control word */
    bool gate;
    bool loaded; /* the counting element has a count */

    uint32_t reload; /* clocks from load to zero: 1 to 65536 */
    uint64_t start;  /* tick of the load; meaningful while the gate lets it count */
    uint64_t held;   /* ticks counted when the gate stopped it */

    /* A count that waits for the end of the period (modes 2, 3) or for a trigger (1, 5). */
    bool next_waiting;
    uint32_t next_reload;
    uint64_t next_start;

    bool write_high_next, read_high_next;
    uint8_t low_written; /* first byte of a two-byte count */
    uint8_t latched;     /* bytes of `latch` yet to be read */
    uint16_t latch;
    bool status_latched;
    uint8_t status;
};

struct i8254 {
    struct device device;
    struct region region, system_region;
    struct clock *clock;
    struct irq_line irq;
    struct timer edge_timer;

    pthread_mutex_t lock; /* a device lock in the order of bus/irq.h; guards all below */
    struct channel channel[CHANNELS];
    uint8_t system_control;
    uint64_t next_edge; /* tick of the interrupt line's next rise, 0 for none */
};

static unsigned channel_mode(const struct channel *channel)
{
    unsigned mode = channel->control >> CONTROL_MODE_SHIFT & 7;

    return mode > 5 ? mode - 4 : mode; /* 6 and 7 are 2 and 3 */
}

static enum read_write channel_rw(const struct channel *channel)
{
    return channel->control >> CONTROL_RW_SHIFT & 3;
}

static bool is_triggered_mode(unsigned mode)
{
    return mode == 1 || mode == 5;
}

static bool is_periodic_mode(unsigned mode)
{
    return mode == 2 || mode == 3;
}

static uint64_t now_tick(const struct i8254 *pit)
{
    return tick_at(clock_now(pit->clock), I8254_HZ);
}

/* Number of clocks that a count register stands for: zero is the largest count. */
static uint32_t clocks_of_count(const struct channel *channel, uint16_t count)
{
    if (!(channel->control & CONTROL_BCD))
        return count ? count : 0x10000;
    return count ? (count >> 12) * 1000 + (count >> 8 & 15) * 100 + (count >> 4 & 15) * 10 +
                       (count & 15)
                 : 10000;
}

static uint16_t count_of_clocks(const struct channel *channel, uint64_t clocks)
{
    if (!(channel->control & CONTROL_BCD))
        return clocks;
    clocks %= 10000;
    return clocks / 1000 << 12 | clocks / 100 % 10 << 8 | clocks / 10 % 10 << 4 | clocks % 10;
}

/* Loads the counting element. */
static void load(struct channel *channel, uint32_t reload, uint64_t tick)
{
    channel->reload = reload;
    channel->start = tick;
    channel->held = 0;
    channel->loaded = true;
    channel->next_waiting = false;
}

/* Brings in a count whose time has come. */
static void advance(struct channel *channel, uint64_t now)
{
    if (channel->next_waiting && channel->gate && is_periodic_mode(channel_mode(channel)) &&
        now >= channel->next_start)
        load(channel, channel->next_reload, channel->next_start);
}

/* Clocks counted since the load. */
static uint64_t elapsed(const struct channel *channel, uint64_t now)
{
    if (!channel->gate && !is_triggered_mode(channel_mode(channel)))
        return channel->held;
    return now - channel->start;
}

static bool output(const struct channel *channel, uint64_t now)
{
    unsigned mode = channel_mode(channel);
    uint64_t clocks = elapsed(channel, now);

    if (!channel->loaded)
        return mode != 0;
    switch (mode) {
    case 0:
    case 1:
        return clocks >= channel->reload;
    case 2:
        return !channel->gate || clocks % channel->reload != channel->reload - 1;
    case 3:
        return !channel->gate || clocks % channel->reload < (channel->reload + 1) / 2;
    default:
        return clocks != channel->reload;
    }
}

static uint16_t present_count(const struct channel *channel, uint64_t now)
{
    uint64_t clocks = elapsed(channel, now);
    uint32_t reload = channel->reload;
    uint32_t wrap = channel->control & CONTROL_BCD ? 10000 : 0x10000;

    if (!channel->loaded)
        return 0;
    switch (channel_mode(channel)) {
    case 2:
        return count_of_clocks(channel, reload - clocks % reload);
    case 3: /* down by two in both halves; an odd count starts from one less */
        clocks %= reload;
        if (clocks >= (reload + 1) / 2)
            clocks -= (reload + 1) / 2;
        return count_of_clocks(channel, (reload & ~1u) - 2 * clocks);
    default: /* past zero the counter goes on from the top */
        return count_of_clocks(channel, reload + wrap - clocks % wrap);
    }
}

/* The tick after `now` at which the output rises next, 0 for never. */
static uint64_t next_rise(const struct channel *channel, uint64_t now)
{
    uint64_t clocks = now - channel->start;
    uint32_t reload = channel->reload;

    if (!channel->loaded)
        return 0;
    switch (channel_mode(channel)) {
    case 0:
        return clocks < reload ? channel->start + reload : 0;
    case 2:
    case 3:
        if (reload < MIN_PERIOD_TICKS)
            clocks += MIN_PERIOD_TICKS;
        return channel->start + (clocks / reload + 1) * reload;
    case 4: /* the end of the strobe */
        return clocks <= reload ? channel->start + reload + 1 : 0;
    default: /* needs a trigger, and channel 0's gate never moves */
        return 0;
    }
}

static void schedule_edge(struct i8254 *pit, uint64_t now)
{
    pit->next_edge = next_rise(&pit->channel[0], now);
    if (pit->next_edge)
        timer_set(&pit->edge_timer, ns_of_tick(pit->next_edge, I8254_HZ));
    else
        timer_cancel(&pit->edge_timer);
}

static void edge_fire(void *opaque)
{
    struct i8254 *pit = opaque;
    uint64_t now;

    pthread_mutex_lock(&pit->lock);
    now = now_tick(pit);
    if (pit->next_edge && now >= pit->next_edge) { /* not reprogrammed meanwhile */
        advance(&pit->channel[0], now);
        /* Where the output went low in between does not matter to an edge-triggered input. */
        irq_line_set(&pit->irq, false);
        irq_line_set(&pit->irq, true);
        schedule_edge(pit, now);
    }
    pthread_mutex_unlock(&pit->lock);
}

static void set_gate(struct channel *channel, bool level, uint64_t now)
{
    unsigned mode = channel_mode(channel);

    if (level == channel->gate)
        return;
    if (!level)
        channel->held = now - channel->start;
    channel->gate = level;
    if (!level)
        return;
    if (channel->next_waiting)
        load(channel, channel->next_reload, now);
    else if (is_triggered_mode(mode) || is_periodic_mode(mode))
        channel->start = now;
    else
        channel->start = now - channel->held;
}

/* The guest has written a whole count. */
static void write_count(struct channel *channel, uint16_t count, uint64_t now)
{
    unsigned mode = channel_mode(channel);
    uint32_t reload = clocks_of_count(channel, count);
    uint64_t periods;

    if (is_triggered_mode(mode)) {
        channel->next_waiting = true;
        channel->next_reload = reload;
    } else if (is_periodic_mode(mode) && channel->loaded && channel->gate) {
        periods = (now - channel->start) / channel->reload + 1;
        channel->next_waiting = true;
        channel->next_reload = reload;
        channel->next_start = channel->start + periods * channel->reload;
    } else {
        load(channel, reload, now);
    }
}

static void write_data(struct i8254 *pit, unsigned number, uint8_t value)
{
    struct channel *channel = &pit->channel[number];
    uint64_t now = now_tick(pit);

    advance(channel, now);
    switch (channel_rw(channel)) {
    case RW_LOW:
        write_count(channel, value, now);
        break;
    case RW_HIGH:
        write_count(channel, value << 8, now);
        break;
    case RW_LOW_HIGH:
        if (channel->write_high_next) {
            write_count(channel, value << 8 | channel->low_written, now);
        } else {
            channel->low_written = value;
            if (channel_mode(channel) == 0) /* "disables counting" until the second byte */
                channel->loaded = false;
        }
        channel->write_high_next = !channel->write_high_next;
        break;
    case RW_LATCH: /* no control word yet */
        return;
    }
    if (number == 0) {
        irq_line_set(&pit->irq, output(channel, now));
        schedule_edge(pit, now);
    }
}

static uint8_t read_data(struct i8254 *pit, unsigned number)
{
    struct channel *channel = &pit->channel[number];
    uint64_t now = now_tick(pit);
    uint16_t count;
    bool high;

    if (channel->status_latched) {
        channel->status_latched = false;
        return channel->status;
    }
    advance(channel, now);
    count = channel->latched ? channel->latch : present_count(channel, now);
    high = channel_rw(channel) == RW_HIGH;
    if (channel_rw(channel) == RW_LOW_HIGH) {
        high = channel->read_high_next;
        channel->read_high_next = !high;
    }
    if (channel->latched)
        channel->latched--;
    return high ? count >> 8 : count;
}

/* A count stays latched until it is read, against further latch commands too. */
static void latch_count(struct channel *channel, uint64_t now)
{
    if (channel->latched)
        return;
    channel->latch = present_count(channel, now);
    channel->latched = channel_rw(channel) == RW_LOW_HIGH ? 2 : 1;
    channel->read_high_next = false;
}

static void latch_status(struct channel *channel, uint64_t now)
{
    if (channel->status_latched)
        return;
    channel->status_latched = true;
    channel->status = channel->control | (output(channel, now) ? STATUS_OUTPUT : 0) |
                      (!channel->loaded || channel->next_waiting ? STATUS_NULL_COUNT : 0);
}

static void read_back(struct i8254 *pit, uint8_t command)
{
    uint64_t now = now_tick(pit);

    for (unsigned i = 0; i < CHANNELS; i++) {
        struct channel *channel = &pit->channel[i];

        if (!(command >> READ_BACK_CHANNEL_SHIFT & 1u << i))
            continue;
        advance(channel, now);
        if (!(command & READ_BACK_NO_COUNT))
            latch_count(channel, now);
        if (!(command & READ_BACK_NO_STATUS))
            latch_status(channel, now);
    }
}

static void write_control(struct i8254 *pit, uint8_t value)
{
    unsigned number = value >> CONTROL_CHANNEL_SHIFT;
    struct channel *channel;
    uint64_t now = now_tick(pit);

    if (number == CONTROL_READ_BACK) {
        read_back(pit, value);
        return;
    }
    channel = &pit->channel[number];
    if ((value >> CONTROL_RW_SHIFT & 3) == RW_LATCH) {
        advance(channel, now);
        latch_count(channel, now);
        return;
    }
    channel->control = value & CONTROL_MASK;
    channel->loaded = channel->next_waiting = false;
    channel->write_high_next = channel->read_high_next = false;
    channel->latched = 0;
    channel->status_latched = false;
    if (number == 0) {
        irq_line_set(&pit->irq, output(channel, now));
        schedule_edge(pit, now);
    }
}

static enum bus_result pit_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct i8254 *pit = opaque;

    if (offset == CHANNELS) /* the control word cannot be read */
        return BUS_UNHANDLED;
    pthread_mutex_lock(&pit->lock);
    *value = read_data(pit, offset);
    pthread_mutex_unlock(&pit->lock);
    return BUS_OK;
}

static enum bus_result pit_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8254 *pit = opaque;

    pthread_mutex_lock(&pit->lock);
    if (offset == CHANNELS)
        write_control(pit, value);
    else
        write_data(pit, offset, value);
    pthread_mutex_unlock(&pit->lock);
    return BUS_OK;
}

static enum bus_result system_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct i8254 *pit = opaque;
    struct channel *speaker = &pit->channel[SPEAKER_CHANNEL];
    uint64_t now;

    pthread_mutex_lock(&pit->lock);
    now = now_tick(pit);
    advance(speaker, now);
    *value = pit->system_control | (now / REFRESH_TICKS % 2 ? SYSTEM_REFRESH : 0) |
             (output(speaker, now) ? SYSTEM_OUTPUT2 : 0);
    pthread_mutex_unlock(&pit->lock);
    return BUS_OK;
}

static enum bus_result system_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8254 *pit = opaque;
    struct channel *speaker = &pit->channel[SPEAKER_CHANNEL];
    uint64_t now;

    pthread_mutex_lock(&pit->lock);
    now = now_tick(pit);
    advance(speaker, now);
    pit->system_control = value & SYSTEM_WRITABLE;
    set_gate(speaker, value & SYSTEM_GATE2, now);
    pthread_mutex_unlock(&pit->lock);
    return BUS_OK;
}

static const struct region_ops pit_region_ops = {
    .read = pit_read, .write = pit_write, .max_size = 1};
static const struct region_ops system_region_ops = {
    .read = system_read, .write = system_write, .max_size = 1};

static void pit_reset(struct device *device)
{
    struct i8254 *pit = CONTAINER_OF(device, struct i8254, device);

    pthread_mutex_lock(&pit->lock);
    for (unsigned i = 0; i < CHANNELS; i++)
        pit->channel[i] = (struct channel){.gate = i != SPEAKER_CHANNEL, .reload = 1};
    pit->system_control = 0;
    schedule_edge(pit, 0);
    irq_line_set(&pit->irq, false);
    pthread_mutex_unlock(&pit->lock);
}

static void pit_destroy(struct device *device)
{
    struct i8254 *pit = CONTAINER_OF(device, struct i8254, device);

    timer_cancel_sync(&pit->edge_timer);
    pthread_mutex_destroy(&pit->lock);
    free(pit);
}

/* Ticks need no check: all arithmetic on them is modulo 2^64. */
static bool channel_is_valid(const struct channel *channel)
{
    return channel->control <= CONTROL_MASK && channel->latched <= 2 && channel->reload &&
           channel->reload <= 0x10000 && channel->next_reload <= 0x10000 &&
           (channel->next_reload || !channel->next_waiting);
}

static int pit_post_load(void *object, struct error *err)
{
    struct i8254 *pit = object;

    for (unsigned i = 0; i < CHANNELS; i++) {
        if (!channel_is_valid(&pit->channel[i]))
            return error_set(err, -EBADMSG, "timer 8254: impossible state of channel %u", i);
    }
    pit->system_control &= SYSTEM_WRITABLE;
    if (pit->next_edge)
        timer_set(&pit->edge_timer, ns_of_tick(pit->next_edge, I8254_HZ));
    else
        timer_cancel(&pit->edge_timer);
    return 0;
}

static const struct state_field channel_fields[] = {
    STATE_INT(struct channel, control),
    STATE_BOOL(struct channel, gate),
    STATE_BOOL(struct channel, loaded),
    STATE_INT(struct channel, reload),
    STATE_INT(struct channel, start),
    STATE_INT(struct channel, held),
    STATE_BOOL(struct channel, next_waiting),
    STATE_INT(struct channel, next_reload),
    STATE_INT(struct channel, next_start),
    STATE_BOOL(struct channel, write_high_next),
    STATE_BOOL(struct channel, read_high_next),
    STATE_INT(struct channel, low_written),
    STATE_INT(struct channel, latched),
    STATE_INT(struct channel, latch),
    STATE_BOOL(struct channel, status_latched),
    STATE_INT(struct channel, status),
    STATE_END,
};

static const struct state_field pit_fields[] = {
    STATE_STRUCT_ARRAY(struct i8254, channel, channel_fields),
    STATE_INT(struct i8254, system_control),
    STATE_INT(struct i8254, next_edge),
    STATE_END,
};

static const struct state_desc pit_state = {
    .name = "i8254",
    .version = 1,
    .fields = pit_fields,
    .post_load = pit_post_load,
};

static const struct device_ops pit_ops = {
    .type = "i8254",
    .reset = pit_reset,
    .destroy = pit_destroy,
    .state = &pit_state,
};

int i8254_new(struct i8254 **out, struct clock *clock, const struct irq_line *irq)
{
    struct i8254 *pit = calloc(1, sizeof(*pit));

    if (!pit)
        return -ENOMEM;
    pit->device = (struct device){.ops = &pit_ops, .name = "i8254", .state_object = pit};
    pit->region = (struct region){
        .name = "8254", .ops = &pit_region_ops, .opaque = pit, .size = CHANNELS + 1};
    pit->system_region = (struct region){
        .name = "system control port B", .ops = &system_region_ops, .opaque = pit, .size = 1};
    pit->clock = clock;
    pit->irq = *irq;
    timer_init(&pit->edge_timer, clock, edge_fire, pit);
    pthread_mutex_init(&pit->lock, NULL);
    pit_reset(&pit->device);
    *out = pit;
    return 0;
}

int i8254_attach(struct i8254 *pit, struct bus *bus, struct error *err)
{
    int r = bus_add(bus, BUS_PORT, &pit->region, PIT_PORT, err);

    return r ? r : bus_add(bus, BUS_PORT, &pit->system_region, SYSTEM_CONTROL_PORT, err);
}

struct device *i8254_device(struct i8254 *pit)
{
    return &pit->device;
}
