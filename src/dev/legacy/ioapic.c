/*
 * The I/O APIC (Intel 82093AA data sheet 290566, section 3; the EOI register from the ICH9 data
 * sheet 13.5.5).
 *
 * Threads: inputs change on any thread, registers are accessed on vCPU threads, EOI arrives on the
 * vCPU thread whose local APIC ended the interrupt (with no local APIC lock held). Messages go out
 * with the lock held: the local APICs come last in the lock order of bus/irq.h.
 *
 * A level-triggered pin goes round this circle:
 *
 *      wire high and not masked
 *     -------- deliver_level() -------> [remote IRR set] ---- ioapic_eoi() ----> [remote IRR clear]
 *          ^                                                                          |
 *          +---------------------------- wire still high <---------------------------+
 *
 * An edge is sent when it comes or, while its pin is masked, lost (3.2.4, "Interrupt Mask").
 */
#include "dev/legacy/ioapic.h"

#include <errno.h>
#include <stdlib.h>

#define IOAPIC_REGION_SIZE 0x1000
#define IOAPIC_VERSION 0x20 /* the first with an EOI register */
#define LOCAL_APIC_MESSAGES 0xfee00000u

/* Memory-mapped registers (3.1, and the EOI register). */
enum {
    REG_SELECT = 0x00,
    REG_WINDOW = 0x10,
    REG_EOI = 0x40,
};

/* Registers behind the window (3.2). */
enum {
    INDEX_ID = 0x00,
    INDEX_VERSION = 0x01,
    INDEX_ARBITRATION = 0x02,
    INDEX_REDIRECTION = 0x10, /* two for each pin */
};

#define ID_SHIFT 24
#define ID_MASK 0x0f

/* Redirection table entry (3.2.4). */
#define RTE_VECTOR 0xffull
#define RTE_DELIVERY_MODE (7ull << 8)
#define RTE_MODE_FIXED (0ull << 8)
#define RTE_MODE_LOWEST (1ull << 8)
#define RTE_LOGICAL (1ull << 11)
/* Bit 12, delivery status, reads 0: messages are accepted at once. */
#define RTE_ACTIVE_LOW (1ull << 13)
#define RTE_REMOTE_IRR (1ull << 14)
#define RTE_LEVEL (1ull << 15)
#define RTE_MASKED (1ull << 16)
#define RTE_DESTINATION_SHIFT 56
#define RTE_WRITABLE                                                                               \
    (RTE_VECTOR | RTE_DELIVERY_MODE | RTE_LOGICAL | RTE_ACTIVE_LOW | RTE_LEVEL | RTE_MASKED |      \
     0xffull << RTE_DESTINATION_SHIFT)

/* Message address and data (Intel SDM volume 3, 11.11). */
#define MESSAGE_DESTINATION_SHIFT 12
#define MESSAGE_LOGICAL (1u << 2)
#define MESSAGE_ASSERT (1u << 14)
#define MESSAGE_LEVEL (1u << 15)

struct ioapic {
    struct device device;
    struct region region;
    struct msi_sink sink;

    pthread_mutex_t lock; /* interrupt controller in the order of bus/irq.h; guards all below */
    uint8_t select;
    uint8_t id;
    uint32_t wires; /* present levels of the pins */
    uint64_t entry[IOAPIC_PINS];
};

/* Only these modes know levels; SMI, NMI, INIT and ExtINT are edges whatever the entry says. */
static bool is_level(uint64_t entry)
{
    uint64_t mode = entry & RTE_DELIVERY_MODE;

    return (entry & RTE_LEVEL) && (mode == RTE_MODE_FIXED || mode == RTE_MODE_LOWEST);
}

static void send_message(struct ioapic *ioapic, uint64_t entry)
{
    struct msi_message message = {
        .address = LOCAL_APIC_MESSAGES |
                   (entry >> RTE_DESTINATION_SHIFT) << MESSAGE_DESTINATION_SHIFT |
                   (entry & RTE_LOGICAL ? MESSAGE_LOGICAL : 0),
        .data = (entry & (RTE_VECTOR | RTE_DELIVERY_MODE)) | MESSAGE_ASSERT |
                (is_level(entry) ? MESSAGE_LEVEL : 0),
    };

    msi_send(&ioapic->sink, &message);
}

/* Sends a level-triggered pin's message if the pin asks for it and waits for no EOI. */
static void deliver_level(struct ioapic *ioapic, unsigned pin)
{
    uint64_t *entry = &ioapic->entry[pin];

    if (!is_level(*entry) || (*entry & (RTE_MASKED | RTE_REMOTE_IRR)) ||
        !(ioapic->wires & 1u << pin))
        return;
    *entry |= RTE_REMOTE_IRR;
    send_message(ioapic, *entry);
}

static void set_pin(void *opaque, unsigned pin, bool level)
{
    struct ioapic *ioapic = opaque;
    uint32_t bit = 1u << pin;
    uint64_t entry;
    bool rises;

    pthread_mutex_lock(&ioapic->lock);
    entry = ioapic->entry[pin];
    rises = level && !(ioapic->wires & bit);
    ioapic->wires = level ? ioapic->wires | bit : ioapic->wires & ~bit;
    if (is_level(entry))
        deliver_level(ioapic, pin);
    else if (rises && !(entry & RTE_MASKED))
        send_message(ioapic, entry);
    pthread_mutex_unlock(&ioapic->lock);
}

struct irq_line ioapic_input(struct ioapic *ioapic, unsigned pin)
{
    return (struct irq_line){.set = set_pin, .opaque = ioapic, .input = pin};
}

static void end_of_interrupt(struct ioapic *ioapic, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t *entry = &ioapic->entry[pin];

        if ((*entry & RTE_REMOTE_IRR) && (*entry & RTE_VECTOR) == vector) {
            *entry &= ~RTE_REMOTE_IRR;
            deliver_level(ioapic, pin);
        }
    }
}

void ioapic_eoi(struct ioapic *ioapic, uint8_t vector)
{
    pthread_mutex_lock(&ioapic->lock);
    end_of_interrupt(ioapic, vector);
    pthread_mutex_unlock(&ioapic->lock);
}

static bool read_indexed(const struct ioapic *ioapic, uint32_t *value)
{
    unsigned index = ioapic->select;

    switch (index) {
    case INDEX_ID:
    case INDEX_ARBITRATION: /* the arbitration id is loaded from the id */
        *value = (uint32_t)ioapic->id << ID_SHIFT;
        return true;
    case INDEX_VERSION:
        *value = (IOAPIC_PINS - 1) << 16 | IOAPIC_VERSION;
        return true;
    }
    if (index < INDEX_REDIRECTION || index >= INDEX_REDIRECTION + 2 * IOAPIC_PINS)
        return false;
    index -= INDEX_REDIRECTION;
    *value = ioapic->entry[index / 2] >> (index % 2 ? 32 : 0);
    return true;
}

static void write_entry(struct ioapic *ioapic, unsigned pin, uint64_t value, uint64_t mask)
{
    uint64_t *entry = &ioapic->entry[pin];

    mask &= RTE_WRITABLE;
    *entry = (*entry & ~mask) | (value & mask);
    /* Software that has no EOI register clears remote IRR by a visit to edge mode. */
    if (!is_level(*entry))
        *entry &= ~RTE_REMOTE_IRR;
    deliver_level(ioapic, pin);
}

static bool write_indexed(struct ioapic *ioapic, uint32_t value)
{
    unsigned index = ioapic->select;

    switch (index) {
    case INDEX_ID:
        ioapic->id = value >> ID_SHIFT & ID_MASK;
        return true;
    case INDEX_VERSION:
    case INDEX_ARBITRATION:
        return true; /* read only */
    }
    if (index < INDEX_REDIRECTION || index >= INDEX_REDIRECTION + 2 * IOAPIC_PINS)
        return false;
    index -= INDEX_REDIRECTION;
    if (index % 2)
        write_entry(ioapic, index / 2, (uint64_t)value << 32, 0xffffffffull << 32);
    else
        write_entry(ioapic, index / 2, value, 0xffffffffull);
    return true;
}

static enum bus_result ioapic_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct ioapic *ioapic = opaque;
    uint32_t data = 0;
    bool known = true;

    pthread_mutex_lock(&ioapic->lock);
    if (offset == REG_SELECT)
        data = ioapic->select;
    else if (offset == REG_WINDOW)
        known = read_indexed(ioapic, &data);
    else
        known = false;
    pthread_mutex_unlock(&ioapic->lock);
    *value = data & (~0u >> (32 - 8 * size));
    return known ? BUS_OK : BUS_UNHANDLED;
}

static enum bus_result ioapic_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct ioapic *ioapic = opaque;
    enum bus_result result = BUS_OK;

    pthread_mutex_lock(&ioapic->lock);
    if (offset == REG_SELECT)
        ioapic->select = value;
    else if (offset == REG_WINDOW && size == 4)
        result = write_indexed(ioapic, value) ? BUS_OK : BUS_UNHANDLED;
    else if (offset == REG_WINDOW)
        result = BUS_ERROR; /* the window takes 32 bits at a time */
    else if (offset == REG_EOI)
        end_of_interrupt(ioapic, value);
    else
        result = BUS_UNHANDLED;
    pthread_mutex_unlock(&ioapic->lock);
    return result;
}

static const struct region_ops ioapic_region_ops = {
    .read = ioapic_read,
    .write = ioapic_write,
    .max_size = 4,
};

/* The wires keep the levels that their devices drive. */
static void ioapic_reset(struct device *device)
{
    struct ioapic *ioapic = CONTAINER_OF(device, struct ioapic, device);

    pthread_mutex_lock(&ioapic->lock);
    ioapic->select = 0;
    ioapic->id = 0;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        ioapic->entry[pin] = RTE_MASKED;
    pthread_mutex_unlock(&ioapic->lock);
}

static void ioapic_destroy(struct device *device)
{
    struct ioapic *ioapic = CONTAINER_OF(device, struct ioapic, device);

    pthread_mutex_destroy(&ioapic->lock);
    free(ioapic);
}

static int ioapic_post_load(void *object, struct error *err)
{
    struct ioapic *ioapic = object;

    ioapic->id &= ID_MASK;
    ioapic->wires &= (1u << IOAPIC_PINS) - 1;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        ioapic->entry[pin] &= RTE_WRITABLE | RTE_REMOTE_IRR;
        if ((ioapic->entry[pin] & RTE_REMOTE_IRR) && !is_level(ioapic->entry[pin]))
            return error_set(err, -EBADMSG, "IOAPIC: pin %u is edge-triggered with remote IRR set",
                             pin);
    }
    return 0;
}

static const struct state_field ioapic_fields[] = {
    STATE_INT(struct ioapic, select),
    STATE_INT(struct ioapic, id),
    STATE_INT(struct ioapic, wires),
    STATE_INT_ARRAY(struct ioapic, entry),
    STATE_END,
};

static const struct state_desc ioapic_state = {
    .name = "ioapic",
    .version = 1,
    .fields = ioapic_fields,
    .post_load = ioapic_post_load,
};

static const struct device_ops ioapic_ops = {
    .type = "ioapic",
    .reset = ioapic_reset,
    .destroy = ioapic_destroy,
    .state = &ioapic_state,
};

int ioapic_new(struct ioapic **out, const struct msi_sink *sink)
{
    struct ioapic *ioapic = calloc(1, sizeof(*ioapic));

    if (!ioapic)
        return -ENOMEM;
    ioapic->device = (struct device){.ops = &ioapic_ops, .name = "ioapic", .state_object = ioapic};
    ioapic->region = (struct region){
        .name = "IOAPIC", .ops = &ioapic_region_ops, .opaque = ioapic, .size = IOAPIC_REGION_SIZE};
    ioapic->sink = *sink;
    pthread_mutex_init(&ioapic->lock, NULL);
    ioapic_reset(&ioapic->device);
    *out = ioapic;
    return 0;
}

int ioapic_attach(struct ioapic *ioapic, struct bus *bus, gpa_t base, struct error *err)
{
    return bus_add(bus, BUS_MMIO, &ioapic->region, base, err);
}

struct device *ioapic_device(struct ioapic *ioapic)
{
    return &ioapic->device;
}
