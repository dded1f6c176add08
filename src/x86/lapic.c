/*
 * The local APIC (Intel SDM volume 3, chapter 11): its registers as xAPIC page and as x2APIC MSRs,
 * the modes, priorities, acceptance of interrupts and EOI. Timer and destinations are in files of
 * their own. For threads see lapic_internal.h.
 *
 *     lapic_new(&apic, bus, 0, true, clock, &ops, vcpu);
 *     ...ops.event(LAPIC_EVENT_INTERRUPT) wakes the vCPU, which between two instructions asks:
 *     if (rflags.if && lapic_pending(apic) >= 0)
 *         vector = lapic_acknowledge(apic);     LAPIC_EXTINT: ask the 8259 for the vector
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "x86/lapic_internal.h"
#include "x86/msr.h"

#define VECTOR_WORDS 8 /* registers of ISR, TMR and IRR */

/* --- priorities (11.8.3) --- */

bool lapic_enabled(const struct lapic *apic)
{
    return atomic_load(&apic->base) & APIC_BASE_ENABLE;
}

bool lapic_x2apic(const struct lapic *apic)
{
    return atomic_load(&apic->base) & APIC_BASE_X2APIC;
}

/* The highest vector in a bit map of 256, -1 when it is empty. */
static int highest_vector(const struct lapic *apic, uint32_t map)
{
    for (int i = VECTOR_WORDS - 1; i >= 0; i--) {
        uint32_t word = lapic_reg(apic, map + 16 * (uint32_t)i);
        if (word)
            return 32 * i + 31 - __builtin_clz(word);
    }
    return -1;
}

static _Atomic uint32_t *vector_word(struct lapic *apic, uint32_t map, uint8_t vector)
{
    return &apic->reg[(map >> 4) + vector / 32];
}

static uint32_t vector_bit(uint8_t vector)
{
    return 1u << (vector % 32);
}

uint32_t lapic_ppr(const struct lapic *apic)
{
    uint32_t tpr = lapic_reg(apic, LAPIC_TPR);
    int isr = highest_vector(apic, LAPIC_ISR);
    uint32_t in_service = isr < 0 ? 0 : (uint32_t)isr & 0xf0;
    return (tpr & 0xf0) >= in_service ? tpr : in_service;
}

bool lapic_takes_extint(const struct lapic *apic)
{
    uint32_t lint0 = lapic_reg(apic, LAPIC_LVT_LINT0);
    if (!lapic_enabled(apic))
        return apic->bootstrap; /* LINT0 is then the plain INTR pin (11.4.3) */
    return !(lint0 & LAPIC_LVT_MASKED) && LAPIC_LVT_MODE(lint0) == LAPIC_EXTINT_MODE;
}

int lapic_pending(struct lapic *apic)
{
    if (atomic_load(&apic->extint))
        return LAPIC_EXTINT;
    if (lapic_bus_extint_level(apic->bus) && lapic_takes_extint(apic))
        return LAPIC_EXTINT;
    if (!lapic_enabled(apic))
        return -1;
    int vector = highest_vector(apic, LAPIC_IRR);
    if (vector < 0 || ((uint32_t)vector & 0xf0) <= (lapic_ppr(apic) & 0xf0))
        return -1;
    return vector;
}

int lapic_acknowledge(struct lapic *apic)
{
    int vector = lapic_pending(apic);
    if (vector == LAPIC_EXTINT) {
        atomic_store(&apic->extint, false);
    } else if (vector >= 0) {
        atomic_fetch_or(vector_word(apic, LAPIC_ISR, (uint8_t)vector), vector_bit((uint8_t)vector));
        atomic_fetch_and(vector_word(apic, LAPIC_IRR, (uint8_t)vector),
                         ~vector_bit((uint8_t)vector));
    }
    return vector;
}

static void notify(struct lapic *apic, enum lapic_event event, uint8_t vector)
{
    apic->ops->event(apic->opaque, event, vector);
}

/* After the owner lowered a priority or opened a wire: something may be deliverable now. */
static void notify_if_pending(struct lapic *apic)
{
    if (lapic_pending(apic) >= 0)
        notify(apic, LAPIC_EVENT_INTERRUPT, 0);
}

/* --- accepting interrupts (11.8.1, 11.8.4) --- */

static void accept_fixed(struct lapic *apic, uint8_t vector, bool level)
{
    if (!(lapic_reg(apic, LAPIC_SVR) & LAPIC_SVR_ENABLE))
        return;
    if (vector < LAPIC_FIRST_VECTOR) {
        lapic_error(apic, LAPIC_ERROR_RECEIVE_VECTOR);
        return;
    }
    _Atomic uint32_t *tmr = vector_word(apic, LAPIC_TMR, vector);
    if (level)
        atomic_fetch_or(tmr, vector_bit(vector));
    else
        atomic_fetch_and(tmr, ~vector_bit(vector));
    atomic_fetch_or(vector_word(apic, LAPIC_IRR, vector), vector_bit(vector));
    notify(apic, LAPIC_EVENT_INTERRUPT, 0);
}

void lapic_accept(struct lapic *apic, enum lapic_delivery mode, uint8_t vector, bool level)
{
    switch (mode) {
    case LAPIC_FIXED:
    case LAPIC_LOWEST_PRIORITY:
        accept_fixed(apic, vector, level);
        break;
    case LAPIC_NMI:
        notify(apic, LAPIC_EVENT_NMI, 0);
        break;
    case LAPIC_INIT:
        notify(apic, LAPIC_EVENT_INIT, 0);
        break;
    case LAPIC_STARTUP:
        notify(apic, LAPIC_EVENT_SIPI, vector);
        break;
    case LAPIC_EXTINT_MODE:
        atomic_store(&apic->extint, true);
        notify(apic, LAPIC_EVENT_INTERRUPT, 0);
        break;
    case LAPIC_SMI:
    default:
        log_guest("lapic", "interrupt with delivery mode %d dropped", (int)mode);
        break;
    }
}

void lapic_raise_local(struct lapic *apic, uint32_t lvt_offset)
{
    uint32_t lvt = lapic_reg(apic, lvt_offset);
    if (lvt & LAPIC_LVT_MASKED)
        return;
    /* The timer's and the error entry have no delivery mode; those bits read 0, which is fixed. */
    lapic_accept(apic, LAPIC_LVT_MODE(lvt), (uint8_t)lvt, false);
}

void lapic_nmi(struct lapic *apic)
{
    if (lapic_enabled(apic))
        lapic_raise_local(apic, LAPIC_LVT_LINT1);
    else
        notify(apic, LAPIC_EVENT_NMI, 0);
}

void lapic_error(struct lapic *apic, uint32_t error)
{
    atomic_fetch_or(&apic->errors, error);
    uint32_t lvt = lapic_reg(apic, LAPIC_LVT_ERROR);
    /* An error entry with an illegal vector would report itself for ever. */
    if (!(lvt & LAPIC_LVT_MASKED) && (lvt & 0xff) >= LAPIC_FIRST_VECTOR)
        accept_fixed(apic, (uint8_t)lvt, false);
}

static void end_of_interrupt(struct lapic *apic)
{
    int isr = highest_vector(apic, LAPIC_ISR);
    if (isr < 0)
        return;
    uint8_t vector = (uint8_t)isr;
    atomic_fetch_and(vector_word(apic, LAPIC_ISR, vector), ~vector_bit(vector));
    bool level = atomic_load(vector_word(apic, LAPIC_TMR, vector)) & vector_bit(vector);
    if (level && !(lapic_reg(apic, LAPIC_SVR) & LAPIC_SVR_NO_EOI_BROADCAST))
        apic->ops->eoi_broadcast(apic->opaque, vector);
    notify_if_pending(apic);
}

/* --- registers --- */

static bool vector_map_offset(uint32_t offset)
{
    return offset >= LAPIC_ISR && offset < LAPIC_ESR;
}

/* Reads what both modes have in common; false where there is no readable register. */
static bool register_read(struct lapic *apic, uint32_t offset, uint32_t *value)
{
    switch (offset) {
    case LAPIC_PPR:
        *value = lapic_ppr(apic);
        return true;
    case LAPIC_TIMER_CURRENT:
        *value = lapic_timer_current(apic);
        return true;
    case LAPIC_ID:
    case LAPIC_VERSION:
    case LAPIC_TPR:
    case LAPIC_LDR:
    case LAPIC_SVR:
    case LAPIC_ESR:
    case LAPIC_ICR:
    case LAPIC_LVT_TIMER:
    case LAPIC_LVT_THERMAL:
    case LAPIC_LVT_PERF:
    case LAPIC_LVT_LINT0:
    case LAPIC_LVT_LINT1:
    case LAPIC_LVT_ERROR:
    case LAPIC_TIMER_INITIAL:
    case LAPIC_TIMER_DIVIDE:
        *value = lapic_reg(apic, offset);
        return true;
    default:
        if (!vector_map_offset(offset))
            return false;
        *value = lapic_reg(apic, offset);
        return true;
    }
}

/* The writable bits of a register, 0 for registers that cannot be written (or are no plain data).
 */
static uint32_t writable_bits(uint32_t offset)
{
    switch (offset) {
    case LAPIC_TPR:
        return 0xff;
    case LAPIC_SVR:
        return LAPIC_SVR_WRITABLE;
    case LAPIC_LVT_TIMER:
        return LAPIC_LVT_TIMER_MODE | LAPIC_LVT_MASKED | 0xff;
    case LAPIC_LVT_THERMAL:
    case LAPIC_LVT_PERF:
        return LAPIC_LVT_MASKED | 0x7ff;
    case LAPIC_LVT_LINT0:
    case LAPIC_LVT_LINT1:
        return LAPIC_LVT_MASKED | LAPIC_LVT_LEVEL | LAPIC_LVT_POLARITY | 0x7ff;
    case LAPIC_LVT_ERROR:
        return LAPIC_LVT_MASKED | 0xff;
    case LAPIC_TIMER_INITIAL:
        return UINT32_MAX;
    case LAPIC_TIMER_DIVIDE:
        return 0xb;
    default:
        return 0;
    }
}

static bool is_lvt(uint32_t offset)
{
    return offset >= LAPIC_LVT_TIMER && offset <= LAPIC_LVT_ERROR;
}

static void mask_local_vectors(struct lapic *apic)
{
    for (uint32_t offset = LAPIC_LVT_TIMER; offset <= LAPIC_LVT_ERROR; offset += 16)
        atomic_fetch_or(&apic->reg[offset >> 4], LAPIC_LVT_MASKED);
}

/* Writes a register of writable_bits(); the value has no other bits. */
static void register_write(struct lapic *apic, uint32_t offset, uint32_t value)
{
    /* A software-disabled APIC keeps all its local vectors masked (11.4.7.2). */
    if (is_lvt(offset) && !(lapic_reg(apic, LAPIC_SVR) & LAPIC_SVR_ENABLE))
        value |= LAPIC_LVT_MASKED;

    switch (offset) {
    case LAPIC_TPR:
        lapic_reg_set(apic, LAPIC_TPR, value);
        notify_if_pending(apic);
        break;
    case LAPIC_SVR:
        lapic_reg_set(apic, LAPIC_SVR, value);
        if (!(value & LAPIC_SVR_ENABLE))
            mask_local_vectors(apic);
        break;
    case LAPIC_LVT_TIMER:
        lapic_timer_set_lvt(apic, value);
        break;
    case LAPIC_LVT_LINT0:
        lapic_reg_set(apic, offset, value);
        notify_if_pending(apic);
        break;
    case LAPIC_TIMER_INITIAL:
        lapic_timer_set_initial(apic, value);
        break;
    case LAPIC_TIMER_DIVIDE:
        lapic_timer_set_divide(apic, value);
        break;
    default:
        lapic_reg_set(apic, offset, value);
        break;
    }
}

/* A write shows the errors since the last one (11.5.3). */
static void latch_errors(struct lapic *apic)
{
    lapic_reg_set(apic, LAPIC_ESR, atomic_exchange(&apic->errors, 0));
}

static void send_ipi(struct lapic *apic, uint32_t icr, uint32_t destination)
{
    enum lapic_delivery mode = LAPIC_LVT_MODE(icr);
    uint8_t vector = (uint8_t)icr;

    if (mode == LAPIC_INIT && (icr & LAPIC_ICR_LEVEL) && !(icr & LAPIC_ICR_ASSERT))
        return; /* INIT level de-assert has no effect */
    if (mode <= LAPIC_LOWEST_PRIORITY && vector < LAPIC_FIRST_VECTOR) {
        lapic_error(apic, LAPIC_ERROR_SEND_VECTOR);
        return;
    }
    if (mode == LAPIC_EXTINT_MODE)
        return; /* reserved here (11.6.1) */
    struct lapic_route route = {
        .mode = mode,
        .vector = vector,
        .logical = icr & LAPIC_ICR_LOGICAL,
        .level = false, /* IPIs are edge triggered whatever the trigger bit says */
        .lowest_priority = mode == LAPIC_LOWEST_PRIORITY,
        .destination = destination,
        .shorthand = LAPIC_ICR_SHORTHAND(icr),
        .source = apic,
    };
    lapic_bus_route(apic->bus, &route);
}

uint32_t lapic_mmio_read(struct lapic *apic, uint32_t offset)
{
    uint32_t value;

    if (offset & 0xf)
        return 0;
    switch (offset) {
    case LAPIC_DFR:
    case LAPIC_ICR2:
        return lapic_reg(apic, offset);
    case LAPIC_APR: /* not kept by any processor with x2APIC; arbitration is the bus's affair */
    case LAPIC_RRD:
    case LAPIC_EOI:
        return 0;
    default:
        if (register_read(apic, offset, &value))
            return value;
        lapic_error(apic, LAPIC_ERROR_REGISTER);
        return 0;
    }
}

void lapic_mmio_write(struct lapic *apic, uint32_t offset, uint32_t value)
{
    if (offset & 0xf)
        return;
    switch (offset) {
    case LAPIC_EOI:
        end_of_interrupt(apic);
        break;
    case LAPIC_LDR:
        lapic_reg_set(apic, LAPIC_LDR, value & 0xff000000);
        break;
    case LAPIC_DFR:
        lapic_reg_set(apic, LAPIC_DFR, value | LAPIC_DFR_FIXED_BITS);
        break;
    case LAPIC_ESR:
        latch_errors(apic);
        break;
    case LAPIC_ICR:
        value &= LAPIC_ICR_WRITABLE;
        lapic_reg_set(apic, LAPIC_ICR, value);
        send_ipi(apic, value, lapic_reg(apic, LAPIC_ICR2) >> 24);
        break;
    case LAPIC_ICR2:
        lapic_reg_set(apic, LAPIC_ICR2, value & 0xff000000);
        break;
    case LAPIC_ID: /* read only on current processors (11.4.6) */
        break;
    default:
        if (writable_bits(offset))
            register_write(apic, offset, value & writable_bits(offset));
        else
            lapic_error(apic, LAPIC_ERROR_REGISTER);
        break;
    }
}

bool lapic_mmio_base(const struct lapic *apic, gpa_t *base)
{
    uint64_t msr = atomic_load(&apic->base);
    if ((msr & (APIC_BASE_ENABLE | APIC_BASE_X2APIC)) != APIC_BASE_ENABLE)
        return false;
    *base = ALIGN_DOWN(msr, GUEST_PAGE_SIZE);
    return true;
}

/* --- x2APIC registers (11.12.1.2) --- */

static bool x2apic_read(struct lapic *apic, uint32_t offset, uint64_t *value)
{
    uint32_t low;

    if (offset == LAPIC_ICR) {
        *value = lapic_reg(apic, LAPIC_ICR) | (uint64_t)lapic_reg(apic, LAPIC_ICR2) << 32;
        return true;
    }
    if (!register_read(apic, offset, &low))
        return false;
    *value = low;
    return true;
}

static bool x2apic_write(struct lapic *apic, uint32_t offset, uint64_t value)
{
    uint32_t low = (uint32_t)value;

    if (offset == LAPIC_ICR) {
        if (low & ~LAPIC_ICR_WRITABLE)
            return false;
        lapic_reg_set(apic, LAPIC_ICR, low);
        lapic_reg_set(apic, LAPIC_ICR2, (uint32_t)(value >> 32));
        send_ipi(apic, low, (uint32_t)(value >> 32));
        return true;
    }
    if (value >> 32)
        return false;
    switch (offset) {
    case LAPIC_EOI:
        if (low)
            return false;
        end_of_interrupt(apic);
        return true;
    case LAPIC_ESR:
        if (low)
            return false;
        latch_errors(apic);
        return true;
    case LAPIC_SELF_IPI:
        if (low & ~0xffu)
            return false;
        send_ipi(apic, LAPIC_TO_SELF << 18 | low, 0);
        return true;
    default:
        if (!writable_bits(offset))
            return false;
        /* The status bits of an LVT entry read as idle and may be written back. */
        if (is_lvt(offset))
            low &= ~(LAPIC_LVT_DELIVERY_STATUS | LAPIC_LVT_REMOTE_IRR);
        if (low & ~writable_bits(offset))
            return false;
        register_write(apic, offset, low);
        return true;
    }
}

/* --- modes (11.12.5) --- */

static uint32_t x2apic_ldr(unsigned id)
{
    return id >> 4 << 16 | 1u << (id & 0xf);
}

static void reset_registers(struct lapic *apic)
{
    lapic_timer_reset(apic);
    for (unsigned i = 0; i < LAPIC_REGISTERS; i++)
        atomic_store(&apic->reg[i], 0);
    lapic_reg_set(apic, LAPIC_VERSION, LAPIC_VERSION_VALUE);
    lapic_reg_set(apic, LAPIC_DFR, LAPIC_DFR_FLAT);
    lapic_reg_set(apic, LAPIC_SVR, LAPIC_SVR_RESET);
    mask_local_vectors(apic);
    if (lapic_x2apic(apic)) {
        lapic_reg_set(apic, LAPIC_ID, apic->id);
        lapic_reg_set(apic, LAPIC_LDR, x2apic_ldr(apic->id));
    } else {
        lapic_reg_set(apic, LAPIC_ID, apic->id << 24);
    }
    atomic_store(&apic->errors, 0);
    atomic_store(&apic->extint, false);
}

void lapic_reset(struct lapic *apic, bool init)
{
    if (!init)
        atomic_store(&apic->base,
                     APIC_BASE_DEFAULT | APIC_BASE_ENABLE | (apic->bootstrap ? APIC_BASE_BSP : 0));
    reset_registers(apic);
}

#define APIC_BASE_ADDRESS 0x000ffffffffff000ull

/* Only these exist: disabled, xAPIC, x2APIC; and only enabling x2APIC from xAPIC, and disabling. */
static bool base_write(struct lapic *apic, uint64_t value)
{
    const uint64_t modes = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
    uint64_t old = atomic_load(&apic->base);

    if (value & ~(APIC_BASE_ADDRESS | modes | APIC_BASE_BSP))
        return false;
    if ((value & modes) == APIC_BASE_X2APIC)
        return false;
    if ((old & modes) == modes && (value & modes) == APIC_BASE_ENABLE)
        return false;
    if (!(old & APIC_BASE_ENABLE) && (value & modes) == modes)
        return false;

    atomic_store(&apic->base, value);
    if (!(old & APIC_BASE_X2APIC) && (value & APIC_BASE_X2APIC)) {
        lapic_reg_set(apic, LAPIC_ID, apic->id);
        lapic_reg_set(apic, LAPIC_LDR, x2apic_ldr(apic->id));
        lapic_reg_set(apic, LAPIC_ICR2, 0);
    } else if ((old & APIC_BASE_ENABLE) && !(value & APIC_BASE_ENABLE)) {
        reset_registers(apic);
    }
    return true;
}

bool lapic_msr_read(struct lapic *apic, uint32_t index, uint64_t *value)
{
    if (index == MSR_APIC_BASE) {
        *value = atomic_load(&apic->base);
        return true;
    }
    if (index == MSR_TSC_DEADLINE) {
        *value = lapic_timer_deadline(apic);
        return true;
    }
    if (index < MSR_X2APIC_FIRST || index > MSR_X2APIC_LAST || !lapic_x2apic(apic))
        return false;
    return x2apic_read(apic, (index - MSR_X2APIC_FIRST) << 4, value);
}

bool lapic_msr_write(struct lapic *apic, uint32_t index, uint64_t value)
{
    if (index == MSR_APIC_BASE)
        return base_write(apic, value);
    if (index == MSR_TSC_DEADLINE) {
        lapic_timer_set_deadline(apic, value);
        return true;
    }
    if (index < MSR_X2APIC_FIRST || index > MSR_X2APIC_LAST || !lapic_x2apic(apic))
        return false;
    return x2apic_write(apic, (index - MSR_X2APIC_FIRST) << 4, value);
}

uint64_t lapic_cr8_read(const struct lapic *apic)
{
    return lapic_reg(apic, LAPIC_TPR) >> 4;
}

void lapic_cr8_write(struct lapic *apic, uint64_t value)
{
    lapic_reg_set(apic, LAPIC_TPR, (uint32_t)(value & 0xf) << 4);
    notify_if_pending(apic);
}

/* --- life --- */

int lapic_new(struct lapic **out, struct lapic_bus *bus, unsigned apic_id, bool bootstrap,
              struct clock *clock, const struct lapic_ops *ops, void *opaque)
{
    struct lapic *apic = calloc(1, sizeof(*apic));
    if (!apic)
        return -ENOMEM;
    apic->bus = bus;
    apic->ops = ops;
    apic->opaque = opaque;
    apic->id = apic_id;
    apic->bootstrap = bootstrap;
    apic->clock = clock;
    lapic_timer_init(apic);
    lapic_reset(apic, false);
    if (!lapic_bus_attach(bus, apic)) {
        lapic_timer_done(apic);
        free(apic);
        return -ENOSPC;
    }
    *out = apic;
    return 0;
}

void lapic_free(struct lapic *apic)
{
    if (!apic)
        return;
    lapic_bus_detach(apic->bus, apic);
    lapic_timer_done(apic);
    free(apic);
}

static void page_put(uint8_t page[1024], uint32_t offset, uint32_t value)
{
    memcpy(page + offset, &value, sizeof(value));
}

static uint32_t page_get(const uint8_t page[1024], uint32_t offset)
{
    uint32_t value;
    memcpy(&value, page + offset, sizeof(value));
    return value;
}

void lapic_save(struct lapic *apic, uint8_t page[1024], uint64_t *apic_base, uint64_t *deadline)
{
    memset(page, 0, 1024);
    for (uint32_t offset = 0; offset < 1024; offset += 16)
        page_put(page, offset, lapic_reg(apic, offset));
    page_put(page, LAPIC_PPR, lapic_ppr(apic));
    page_put(page, LAPIC_TIMER_CURRENT, lapic_timer_current(apic));
    page_put(page, LAPIC_SAVED_ERRORS, atomic_load(&apic->errors));
    page_put(page, LAPIC_SAVED_EXTINT, atomic_load(&apic->extint));
    *apic_base = atomic_load(&apic->base);
    *deadline = lapic_timer_deadline(apic);
}

/* What no local APIC can hold, in a page that came from elsewhere. Bits that a register lacks are
 * merely dropped, since processors differ in them. */
static bool page_valid(const struct lapic *apic, const uint8_t page[1024], uint64_t apic_base)
{
    const uint64_t modes = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
    bool x2apic = apic_base & APIC_BASE_X2APIC;

    if ((apic_base & ~(APIC_BASE_ADDRESS | modes | APIC_BASE_BSP)) ||
        (apic_base & modes) == APIC_BASE_X2APIC)
        return false;
    if (page_get(page, LAPIC_ID) != (x2apic ? apic->id : apic->id << 24))
        return false;
    /* Vectors below 16 are never requested nor in service. */
    return !((page_get(page, LAPIC_IRR) | page_get(page, LAPIC_ISR)) & 0xffff);
}

int lapic_load(struct lapic *apic, const uint8_t page[1024], uint64_t apic_base, uint64_t deadline)
{
    if (!page_valid(apic, page, apic_base))
        return -EINVAL;

    atomic_store(&apic->base, apic_base);
    reset_registers(apic);
    for (uint32_t offset = 0; offset < 1024; offset += 16) {
        if (writable_bits(offset))
            lapic_reg_set(apic, offset, page_get(page, offset) & writable_bits(offset));
    }
    lapic_reg_set(apic, LAPIC_ESR, page_get(page, LAPIC_ESR));
    lapic_reg_set(apic, LAPIC_ICR, page_get(page, LAPIC_ICR) & LAPIC_ICR_WRITABLE);
    lapic_reg_set(apic, LAPIC_ICR2, page_get(page, LAPIC_ICR2));
    if (!lapic_x2apic(apic)) {
        lapic_reg_set(apic, LAPIC_LDR, page_get(page, LAPIC_LDR) & 0xff000000);
        lapic_reg_set(apic, LAPIC_DFR, page_get(page, LAPIC_DFR) | LAPIC_DFR_FIXED_BITS);
    }
    for (uint32_t offset = LAPIC_ISR; offset < LAPIC_ESR; offset += 16)
        lapic_reg_set(apic, offset, page_get(page, offset));
    atomic_store(&apic->errors, page_get(page, LAPIC_SAVED_ERRORS));
    atomic_store(&apic->extint, page_get(page, LAPIC_SAVED_EXTINT) & 1);
    lapic_timer_restore(apic, page_get(page, LAPIC_TIMER_CURRENT), deadline);
    notify_if_pending(apic);
    return 0;
}
