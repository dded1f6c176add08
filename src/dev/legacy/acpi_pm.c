/*
 * ACPI fixed hardware of an ICH9 (ICH9 data sheet 13.8.3 "Power Management I/O Registers", 13.7.6
 * "RST_CNT"; ACPI specification 6.5, 4.8 "ACPI Hardware Specification").
 *
 * There is no system management mode on this board. What its firmware would do on a write to the
 * SMI command port, switching ACPI on and off, happens here, and SMI_EN says that somebody has
 * taken charge of that port already, so that firmware does not try to install a handler.
 *
 * The PM timer is VM time; its carry (TMR_STS) is worked out when somebody looks, and a timer runs
 * only while its interrupt is enabled.
 *
 * Threads: vCPUs, the clock's thread, and whoever presses the button, under `lock`.
 */
#include "dev/legacy/acpi_pm.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/ticks.h"

#define PM_TIMER_CARRY_SHIFT 31 /* TMR_STS is set whenever this bit of the timer changes */

/* Offsets in the block. */
enum {
    PM1_STS_EN = 0x00, /* status in the low half, enables in the high half */
    PM1_CNT = 0x04,
    PM1_TMR = 0x08,
    GPE0_STS = 0x20, /* 64 bits */
    GPE0_EN = 0x28,  /* 64 bits */
    SMI_EN = 0x30,
    SMI_STS = 0x34,
};

enum {
    PM1_TIMER = 1 << 0,
    PM1_GLOBAL = 1 << 5,
    PM1_POWER_BUTTON = 1 << 8,
    PM1_RTC = 1 << 10,
    PM1_WAKE = 1 << 15,
    PM1_INTERRUPTS = PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_RTC,
};

enum {
    CNT_SCI_EN = 1 << 0,
    CNT_BM_RLD = 1 << 1,
    CNT_SLP_TYP_SHIFT = 10,
    CNT_SLP_TYP = 7 << CNT_SLP_TYP_SHIFT,
    CNT_SLP_EN = 1 << 13, /* reads 0 */
    CNT_WRITABLE = CNT_SCI_EN | CNT_BM_RLD | CNT_SLP_TYP,
};

#define SMI_EN_APMC 0x20 /* SMI on a write to the command port */

enum {
    RESET_SYSTEM = 1 << 1, /* which kind of reset */
    RESET_CPU = 1 << 2,    /* going from 0 to 1: reset */
    RESET_FULL = 1 << 3,   /* power cycle */
    RESET_WRITABLE = RESET_SYSTEM | RESET_CPU | RESET_FULL,
};

struct acpi_pm {
    struct device device;
    struct region region, smi_region, reset_region;
    struct bus *bus;
    struct clock *clock;
    struct irq_line sci;
    const struct board_events *events;
    bool acpi_enabled;
    struct timer carry_timer;

    pthread_mutex_t lock; /* a device lock in the order of bus/irq.h; guards all below */
    bool rtc_alarm;       /* the clock's wire; not saved, for the clock drives it again */
    uint16_t pm1_status, pm1_enable;
    uint32_t pm1_control;
    uint64_t gpe_status, gpe_enable;
    uint32_t smi_enable;
    uint8_t smi_command, smi_data; /* ports 0xb2 and 0xb3 */
    uint8_t reset_control;
    uint64_t carry_tick; /* TMR_STS is up to date with this tick of the timer */
};

static uint64_t now_tick(const struct acpi_pm *pm)
{
    return tick_at(clock_now(pm->clock), ACPI_PM_TIMER_HZ);
}

static void update_carry(struct acpi_pm *pm)
{
    uint64_t now = now_tick(pm);

    if (now >> PM_TIMER_CARRY_SHIFT != pm->carry_tick >> PM_TIMER_CARRY_SHIFT)
        pm->pm1_status |= PM1_TIMER;
    pm->carry_tick = now;
}

/* The SCI's level, and the timer that raises it at the next carry. After each change. */
static void update_sci(struct acpi_pm *pm)
{
    bool pending =
        (pm->pm1_status & pm->pm1_enable & PM1_INTERRUPTS) || (pm->gpe_status & pm->gpe_enable);

    irq_line_set(&pm->sci, pending && (pm->pm1_control & CNT_SCI_EN));
    if ((pm->pm1_enable & PM1_TIMER) && !(pm->pm1_status & PM1_TIMER)) {
        uint64_t carry = ((pm->carry_tick >> PM_TIMER_CARRY_SHIFT) + 1) << PM_TIMER_CARRY_SHIFT;

        timer_set(&pm->carry_timer, ns_of_tick(carry, ACPI_PM_TIMER_HZ));
    } else {
        timer_cancel(&pm->carry_timer);
    }
}

static void carry_fire(void *opaque)
{
    struct acpi_pm *pm = opaque;

    pthread_mutex_lock(&pm->lock);
    update_carry(pm);
    update_sci(pm);
    pthread_mutex_unlock(&pm->lock);
}

void acpi_pm_power_button(struct acpi_pm *pm)
{
    pthread_mutex_lock(&pm->lock);
    pm->pm1_status |= PM1_POWER_BUTTON;
    update_sci(pm);
    pthread_mutex_unlock(&pm->lock);
}

/* The status is of the alarm's beginning: software may clear it before it quiets the clock. */
static void set_rtc_alarm(void *opaque, unsigned input, bool level)
{
    struct acpi_pm *pm = opaque;

    pthread_mutex_lock(&pm->lock);
    if (level && !pm->rtc_alarm)
        pm->pm1_status |= PM1_RTC;
    pm->rtc_alarm = level;
    update_sci(pm);
    pthread_mutex_unlock(&pm->lock);
}

struct irq_line acpi_pm_rtc_input(struct acpi_pm *pm)
{
    return (struct irq_line){.set = set_rtc_alarm, .opaque = pm};
}

void acpi_pm_raise_gpe(struct acpi_pm *pm, unsigned number)
{
    pthread_mutex_lock(&pm->lock);
    pm->gpe_status |= 1ull << number;
    update_sci(pm);
    pthread_mutex_unlock(&pm->lock);
}

/* The power management block: 32-bit registers of which parts may be accessed. */

static bool read_block(struct acpi_pm *pm, unsigned reg, uint32_t *value)
{
    switch (reg) {
    case PM1_STS_EN:
        update_carry(pm);
        *value = pm->pm1_status | (uint32_t)pm->pm1_enable << 16;
        return true;
    case PM1_CNT:
        *value = pm->pm1_control;
        return true;
    case PM1_TMR:
        *value = now_tick(pm);
        return true;
    case GPE0_STS:
    case GPE0_STS + 4:
        *value = pm->gpe_status >> 8 * (reg - GPE0_STS);
        return true;
    case GPE0_EN:
    case GPE0_EN + 4:
        *value = pm->gpe_enable >> 8 * (reg - GPE0_EN);
        return true;
    case SMI_EN:
        *value = pm->smi_enable;
        return true;
    case SMI_STS:
        *value = 0;
        return true;
    }
    return false;
}

/* Writes the bits of `mask`. */
static bool write_block(struct acpi_pm *pm, unsigned reg, uint32_t value, uint32_t mask)
{
    switch (reg) {
    case PM1_STS_EN:
        update_carry(pm);
        pm->pm1_status &= ~(value & mask); /* a one clears */
        pm->pm1_enable = (pm->pm1_enable & ~(mask >> 16)) | (value & mask) >> 16;
        pm->pm1_enable &= PM1_INTERRUPTS;
        return true;
    case PM1_CNT:
        mask &= CNT_WRITABLE;
        pm->pm1_control = (pm->pm1_control & ~mask) | (value & mask);
        return true;
    case PM1_TMR: /* read only */
        return true;
    case GPE0_STS:
    case GPE0_STS + 4:
        pm->gpe_status &= ~((uint64_t)(value & mask) << 8 * (reg - GPE0_STS));
        return true;
    case GPE0_EN:
    case GPE0_EN + 4:
        pm->gpe_enable &= ~((uint64_t)mask << 8 * (reg - GPE0_EN));
        pm->gpe_enable |= (uint64_t)(value & mask) << 8 * (reg - GPE0_EN);
        return true;
    case SMI_EN:
        pm->smi_enable = (pm->smi_enable & ~mask) | (value & mask) | SMI_EN_APMC;
        return true;
    case SMI_STS:
        return true;
    }
    return false;
}

static enum bus_result block_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct acpi_pm *pm = opaque;
    unsigned in_register = offset % 4;
    uint32_t data = 0;
    bool known;

    if (in_register + size > 4)
        return BUS_ERROR;
    pthread_mutex_lock(&pm->lock);
    known = read_block(pm, offset - in_register, &data);
    pthread_mutex_unlock(&pm->lock);
    *value = data >> 8 * in_register & ~0u >> (32 - 8 * size);
    return known ? BUS_OK : BUS_UNHANDLED;
}

static enum bus_result block_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_pm *pm = opaque;
    unsigned in_register = offset % 4;
    uint32_t mask = ~0u >> (32 - 8 * size) << 8 * in_register;
    uint32_t data = (uint32_t)value << 8 * in_register;
    unsigned type;
    bool known, sleep;

    if (in_register + size > 4)
        return BUS_ERROR;
    pthread_mutex_lock(&pm->lock);
    known = write_block(pm, offset - in_register, data, mask);
    sleep = offset - in_register == PM1_CNT && (data & mask & CNT_SLP_EN);
    type = (pm->pm1_control & CNT_SLP_TYP) >> CNT_SLP_TYP_SHIFT;
    update_sci(pm);
    pthread_mutex_unlock(&pm->lock);

    /* On an ICH9 type 0 means to stay on, so that asking for it has no use but OVMF's. */
    if (sleep && (type == ACPI_PM_SLP_TYP_S5 || type == ACPI_PM_SLP_TYP_VIRTUAL_OFF))
        board_power_off(pm->events);
    else if (sleep)
        log_guest(pm->device.name, "sleep state that the board does not have");
    return known ? BUS_OK : BUS_UNHANDLED;
}

static const struct region_ops block_ops = {
    .read = block_read, .write = block_write, .max_size = 4};

/* SMI command and data ports, 0xb2 and 0xb3 (ICH9 13.7.3 and 13.7.4). */

static enum bus_result smi_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct acpi_pm *pm = opaque;

    pthread_mutex_lock(&pm->lock);
    *value = offset ? pm->smi_data : pm->smi_command;
    pthread_mutex_unlock(&pm->lock);
    return BUS_OK;
}

static enum bus_result smi_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_pm *pm = opaque;

    pthread_mutex_lock(&pm->lock);
    if (offset) {
        pm->smi_data = value;
    } else {
        pm->smi_command = value;
        if (value == ACPI_PM_CMD_ENABLE)
            pm->pm1_control |= CNT_SCI_EN;
        else if (value == ACPI_PM_CMD_DISABLE)
            pm->pm1_control &= ~CNT_SCI_EN;
        update_sci(pm);
    }
    pthread_mutex_unlock(&pm->lock);
    return BUS_OK;
}

static const struct region_ops smi_ops = {.read = smi_read, .write = smi_write, .max_size = 1};

/* Reset control, port 0xcf9. */

static enum bus_result reset_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct acpi_pm *pm = opaque;

    pthread_mutex_lock(&pm->lock);
    *value = pm->reset_control;
    pthread_mutex_unlock(&pm->lock);
    return BUS_OK;
}

static enum bus_result reset_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_pm *pm = opaque;
    bool reset;

    pthread_mutex_lock(&pm->lock);
    reset = value & ~pm->reset_control & RESET_CPU;
    pm->reset_control = value & RESET_WRITABLE;
    pthread_mutex_unlock(&pm->lock);
    if (reset)
        board_reset(pm->events);
    return BUS_OK;
}

static const struct region_ops reset_ops = {
    .read = reset_read, .write = reset_write, .max_size = 1};

struct region *acpi_pm_reset_region(struct acpi_pm *pm)
{
    return &pm->reset_region;
}

static void acpi_pm_reset(struct device *device)
{
    struct acpi_pm *pm = CONTAINER_OF(device, struct acpi_pm, device);

    pthread_mutex_lock(&pm->lock);
    pm->pm1_status = pm->pm1_enable = 0;
    pm->pm1_control = pm->acpi_enabled ? CNT_SCI_EN : 0;
    pm->gpe_status = pm->gpe_enable = 0;
    pm->smi_enable = SMI_EN_APMC;
    pm->smi_command = pm->smi_data = 0;
    pm->reset_control = 0;
    pm->carry_tick = now_tick(pm);
    update_sci(pm);
    pthread_mutex_unlock(&pm->lock);
}

static void acpi_pm_destroy(struct device *device)
{
    struct acpi_pm *pm = CONTAINER_OF(device, struct acpi_pm, device);

    timer_cancel_sync(&pm->carry_timer);
    pthread_mutex_destroy(&pm->lock);
    free(pm);
}

static void acpi_pm_pre_save(void *object)
{
    update_carry(object);
}

static int acpi_pm_post_load(void *object, struct error *err)
{
    struct acpi_pm *pm = object;

    pm->pm1_enable &= PM1_INTERRUPTS;
    pm->pm1_control &= CNT_WRITABLE;
    pm->smi_enable |= SMI_EN_APMC;
    pm->reset_control &= RESET_WRITABLE;
    update_carry(pm);
    update_sci(pm);
    return 0;
}

static const struct state_field acpi_pm_fields[] = {
    STATE_INT(struct acpi_pm, pm1_status),
    STATE_INT(struct acpi_pm, pm1_enable),
    STATE_INT(struct acpi_pm, pm1_control),
    STATE_INT(struct acpi_pm, gpe_status),
    STATE_INT(struct acpi_pm, gpe_enable),
    STATE_INT(struct acpi_pm, smi_enable),
    STATE_INT(struct acpi_pm, smi_command),
    STATE_INT(struct acpi_pm, smi_data),
    STATE_INT(struct acpi_pm, reset_control),
    STATE_INT(struct acpi_pm, carry_tick),
    STATE_END,
};

static const struct state_desc acpi_pm_state = {
    .name = "acpi-pm",
    .version = 1,
    .fields = acpi_pm_fields,
    .pre_save = acpi_pm_pre_save,
    .post_load = acpi_pm_post_load,
};

static const struct device_ops acpi_pm_ops = {
    .type = "acpi-pm",
    .reset = acpi_pm_reset,
    .destroy = acpi_pm_destroy,
    .state = &acpi_pm_state,
};

int acpi_pm_new(struct acpi_pm **out, const struct acpi_pm_config *config)
{
    struct acpi_pm *pm = calloc(1, sizeof(*pm));

    if (!pm)
        return -ENOMEM;
    pm->device = (struct device){.ops = &acpi_pm_ops, .name = "acpi-pm", .state_object = pm};
    pm->region = (struct region){
        .name = "ACPI PM block", .ops = &block_ops, .opaque = pm, .size = ACPI_PM_LENGTH};
    pm->smi_region =
        (struct region){.name = "SMI command", .ops = &smi_ops, .opaque = pm, .size = 2};
    pm->reset_region =
        (struct region){.name = "reset control", .ops = &reset_ops, .opaque = pm, .size = 1};
    pm->clock = config->clock;
    pm->sci = config->sci;
    pm->events = config->events;
    pm->acpi_enabled = config->acpi_enabled;
    timer_init(&pm->carry_timer, config->clock, carry_fire, pm);
    pthread_mutex_init(&pm->lock, NULL);
    acpi_pm_reset(&pm->device);
    *out = pm;
    return 0;
}

int acpi_pm_attach(struct acpi_pm *pm, struct bus *bus, struct error *err)
{
    pm->bus = bus;
    return bus_add(bus, BUS_PORT, &pm->smi_region, ACPI_PM_SMI_CMD, err);
}

int acpi_pm_set_base(struct acpi_pm *pm, uint16_t base, struct error *err)
{
    if (pm->region.added)
        bus_remove(pm->bus, BUS_PORT, &pm->region);
    return base ? bus_add(pm->bus, BUS_PORT, &pm->region, base, err) : 0;
}

struct device *acpi_pm_device(struct acpi_pm *pm)
{
    return &pm->device;
}
