/*
 * The pair of 8259A interrupt controllers (Intel 8259A data sheet 231468; the ELCR registers from
 * the ICH9 data sheet 13.4.8 and 13.4.9).
 *
 * One lock guards both chips. Requests come from any thread, register accesses and the INTA cycle
 * from vCPU threads; the INT wire is driven with the lock held so that its levels keep their order.
 *
 * Two deliberate differences from the chip of 1978:
 * - A request on an edge-triggered input stays latched when the wire falls before the INTA cycle,
 *   where the 8259A would answer with the spurious vector. No pulse is lost while the guest has
 *   interrupts off. Spurious vectors still arise when a level-triggered request goes away or is
 *   masked in time.
 * - The slave's INT reaches the master's input 2 as a level, whatever the trigger mode, which is
 * what the pair amounts to: the slave's wire falls in each INTA cycle and rises again if it has
 * more.
 *
 * 8080/8085 mode and buffered mode have no meaning on a PC and are ignored.
 */
#include "dev/legacy/i8259.h"

#include <errno.h>
#include <stdlib.h>

#define INPUTS_PER_CHIP 8
#define CASCADE_INPUT 2
#define SPURIOUS_INPUT 7
#define NO_REQUEST (-1)

#define MASTER_PORT 0x20
#define SLAVE_PORT 0xa0
#define ELCR_PORT 0x4d0

/* Initialisation command words, "Initialization Command Words 1 and 2 (ICW1, ICW2)" ff. */
enum {
    ICW1_NEEDS_ICW4 = 1 << 0,
    ICW1_SINGLE = 1 << 1,
    ICW1_MARK = 1 << 4, /* tells ICW1 from OCW2 and OCW3 */
    ICW2_BASE = 0xf8,
    ICW4_AUTO_EOI = 1 << 1,
    ICW4_SPECIAL_FULLY_NESTED = 1 << 4,
};

/* Operation command words. */
enum {
    OCW2_LEVEL = 0x07,
    OCW2_EOI = 1 << 5,
    OCW2_SPECIFIC = 1 << 6,
    OCW2_ROTATE = 1 << 7,

    OCW3_MARK = 1 << 3,
    OCW3_READ_ISR = 1 << 0,
    OCW3_READ_SET = 1 << 1,
    OCW3_POLL = 1 << 2,
    OCW3_SPECIAL_MASK = 1 << 5,
    OCW3_SPECIAL_MASK_SET = 1 << 6,
};

#define POLL_REQUEST 0x80 /* poll word: there was a request, its number in bits 2:0 */

enum init_step { STEP_POWER_ON, STEP_ICW2, STEP_ICW3, STEP_ICW4, STEP_READY, STEP_COUNT };

struct chip {
    uint8_t wires; /* present levels of the inputs */
    uint8_t irr, isr, imr;
    uint8_t elcr;      /* 1: level-triggered */
    uint8_t elcr_mask; /* inputs whose mode can be changed */
    uint8_t base;      /* vector of input 0 */
    uint8_t lowest;    /* input that has the lowest priority now; 7 after initialisation */
    uint8_t step;      /* enum init_step */
    uint8_t icw1;      /* while the sequence runs */
    bool auto_eoi;
    bool rotate_on_auto_eoi;
    bool special_fully_nested;
    bool special_mask;
    bool read_isr;
    bool poll; /* the next read is an INTA cycle */
};

struct i8259 {
    struct device device;
    struct region region[2], elcr_region;
    struct irq_line intr;

    pthread_mutex_t lock; /* interrupt controller in the order of bus/irq.h; guards all below */
    struct chip chip[2];  /* master, slave */
};

/* The most urgent bit of `set` as its distance from the top of the priority order, 8 for none. */
static unsigned urgency(const struct chip *chip, uint8_t set)
{
    for (unsigned distance = 0; distance < INPUTS_PER_CHIP; distance++) {
        if (set & 1 << ((chip->lowest + 1 + distance) % INPUTS_PER_CHIP))
            return distance;
    }
    return INPUTS_PER_CHIP;
}

static unsigned input_of_urgency(const struct chip *chip, unsigned distance)
{
    return (chip->lowest + 1 + distance) % INPUTS_PER_CHIP;
}

/* The input that the chip raises its INT for, or NO_REQUEST. */
static int pending_input(const struct chip *chip)
{
    uint8_t in_service = chip->isr;
    unsigned request;

    if (chip->step != STEP_READY)
        return NO_REQUEST;
    if (chip->special_mask)
        in_service &= ~chip->imr;
    if (chip->special_fully_nested) /* a busy slave may still bring something more urgent */
        in_service &= ~(1 << CASCADE_INPUT);
    request = urgency(chip, chip->irr & ~chip->imr);
    if (request >= urgency(chip, in_service))
        return NO_REQUEST;
    return input_of_urgency(chip, request);
}

static void drive_input(struct chip *chip, unsigned input, bool level)
{
    uint8_t bit = 1 << input;
    bool rises = level && !(chip->wires & bit);

    chip->wires = level ? chip->wires | bit : chip->wires & ~bit;
    if (chip->elcr & bit)
        chip->irr = (chip->irr & ~bit) | (chip->wires & bit);
    else if (rises)
        chip->irr |= bit;
}

/* Carries the slave's INT to the master and the master's to the CPU. */
static void update_outputs(struct i8259 *pic)
{
    struct chip *master = &pic->chip[0];

    if (pending_input(&pic->chip[1]) != NO_REQUEST)
        master->irr |= 1 << CASCADE_INPUT;
    else
        master->irr &= ~(1 << CASCADE_INPUT);
    irq_line_set(&pic->intr, pending_input(master) != NO_REQUEST);
}

/* Moves a request into service, as the second INTA pulse does ("Interrupt Sequence"). */
static void take_input(struct chip *chip, unsigned input)
{
    uint8_t bit = 1 << input;

    if (!(chip->elcr & bit))
        chip->irr &= ~bit;
    if (!chip->auto_eoi)
        chip->isr |= bit;
    else if (chip->rotate_on_auto_eoi)
        chip->lowest = input;
}

uint8_t i8259_acknowledge(struct i8259 *pic)
{
    struct chip *chip = &pic->chip[0];
    uint8_t vector;
    int input;

    pthread_mutex_lock(&pic->lock);
    input = pending_input(chip);
    if (input != NO_REQUEST)
        take_input(chip, input);
    if (input == CASCADE_INPUT) {
        chip = &pic->chip[1];
        input = pending_input(chip);
        if (input != NO_REQUEST)
            take_input(chip, input);
    }
    vector = chip->base + (input != NO_REQUEST ? input : SPURIOUS_INPUT);
    update_outputs(pic);
    pthread_mutex_unlock(&pic->lock);
    return vector;
}

static void start_initialisation(struct chip *chip, uint8_t icw1)
{
    chip->icw1 = icw1;
    chip->step = STEP_ICW2;
    chip->imr = 0;
    chip->isr = 0;
    chip->irr &= chip->elcr; /* the edge detectors start anew */
    chip->lowest = INPUTS_PER_CHIP - 1;
    chip->auto_eoi = false;
    chip->rotate_on_auto_eoi = false;
    chip->special_fully_nested = false;
    chip->special_mask = false;
    chip->read_isr = false;
    chip->poll = false;
}

/* A write to the odd port: the rest of an initialisation, or the mask. */
static void write_data(struct chip *chip, uint8_t value)
{
    switch (chip->step) {
    case STEP_ICW2:
        chip->base = value & ICW2_BASE;
        if (!(chip->icw1 & ICW1_SINGLE))
            chip->step = STEP_ICW3;
        else
            chip->step = chip->icw1 & ICW1_NEEDS_ICW4 ? STEP_ICW4 : STEP_READY;
        break;
    case STEP_ICW3: /* where the slave hangs is wired, not programmed, on a PC */
        chip->step = chip->icw1 & ICW1_NEEDS_ICW4 ? STEP_ICW4 : STEP_READY;
        break;
    case STEP_ICW4:
        chip->auto_eoi = value & ICW4_AUTO_EOI;
        chip->special_fully_nested = value & ICW4_SPECIAL_FULLY_NESTED;
        chip->step = STEP_READY;
        break;
    default:
        chip->imr = value; /* OCW1 */
        break;
    }
}

static void end_of_interrupt(struct chip *chip, uint8_t ocw2)
{
    unsigned input = ocw2 & OCW2_LEVEL;

    if (!(ocw2 & OCW2_SPECIFIC)) {
        /* A masked input stays in service in special mask mode ("End of Interrupt"). */
        uint8_t in_service = chip->special_mask ? chip->isr & ~chip->imr : chip->isr;

        if (!in_service)
            return;
        input = input_of_urgency(chip, urgency(chip, in_service));
    }
    chip->isr &= ~(1 << input);
    if (ocw2 & OCW2_ROTATE)
        chip->lowest = input;
}

static void write_ocw2(struct chip *chip, uint8_t value)
{
    switch (value & (OCW2_EOI | OCW2_SPECIFIC | OCW2_ROTATE)) {
    case 0:
        chip->rotate_on_auto_eoi = false;
        break;
    case OCW2_ROTATE:
        chip->rotate_on_auto_eoi = true;
        break;
    case OCW2_ROTATE | OCW2_SPECIFIC:
        chip->lowest = value & OCW2_LEVEL;
        break;
    case OCW2_SPECIFIC: /* no operation */
        break;
    default:
        end_of_interrupt(chip, value);
        break;
    }
}

static void write_ocw3(struct chip *chip, uint8_t value)
{
    if (value & OCW3_SPECIAL_MASK_SET)
        chip->special_mask = value & OCW3_SPECIAL_MASK;
    if (value & OCW3_POLL)
        chip->poll = true;
    else if (value & OCW3_READ_SET)
        chip->read_isr = value & OCW3_READ_ISR;
}

static uint8_t read_poll(struct chip *chip)
{
    int input = pending_input(chip);

    chip->poll = false;
    if (input == NO_REQUEST)
        return 0;
    take_input(chip, input);
    return POLL_REQUEST | input;
}

static enum bus_result chip_read(struct i8259 *pic, struct chip *chip, uint64_t offset,
                                 uint64_t *value)
{
    pthread_mutex_lock(&pic->lock);
    if (chip->poll)
        *value = read_poll(chip);
    else if (offset)
        *value = chip->imr;
    else
        *value = chip->read_isr ? chip->isr : chip->irr;
    update_outputs(pic);
    pthread_mutex_unlock(&pic->lock);
    return BUS_OK;
}

static enum bus_result chip_write(struct i8259 *pic, struct chip *chip, uint64_t offset,
                                  uint8_t value)
{
    pthread_mutex_lock(&pic->lock);
    if (offset)
        write_data(chip, value);
    else if (value & ICW1_MARK)
        start_initialisation(chip, value);
    else if (value & OCW3_MARK)
        write_ocw3(chip, value);
    else
        write_ocw2(chip, value);
    update_outputs(pic);
    pthread_mutex_unlock(&pic->lock);
    return BUS_OK;
}

static enum bus_result master_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct i8259 *pic = opaque;

    return chip_read(pic, &pic->chip[0], offset, value);
}

static enum bus_result master_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8259 *pic = opaque;

    return chip_write(pic, &pic->chip[0], offset, value);
}

static enum bus_result slave_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct i8259 *pic = opaque;

    return chip_read(pic, &pic->chip[1], offset, value);
}

static enum bus_result slave_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8259 *pic = opaque;

    return chip_write(pic, &pic->chip[1], offset, value);
}

static enum bus_result elcr_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct i8259 *pic = opaque;

    pthread_mutex_lock(&pic->lock);
    *value = pic->chip[offset].elcr;
    pthread_mutex_unlock(&pic->lock);
    return BUS_OK;
}

static enum bus_result elcr_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8259 *pic = opaque;
    struct chip *chip = &pic->chip[offset];

    pthread_mutex_lock(&pic->lock);
    chip->elcr = value & chip->elcr_mask;
    chip->irr = (chip->irr & ~chip->elcr) | (chip->wires & chip->elcr);
    update_outputs(pic);
    pthread_mutex_unlock(&pic->lock);
    return BUS_OK;
}

static const struct region_ops master_ops = {
    .read = master_read, .write = master_write, .max_size = 1};
static const struct region_ops slave_ops = {
    .read = slave_read, .write = slave_write, .max_size = 1};
static const struct region_ops elcr_ops = {.read = elcr_read, .write = elcr_write, .max_size = 1};

static void set_input(void *opaque, unsigned irq, bool level)
{
    struct i8259 *pic = opaque;

    pthread_mutex_lock(&pic->lock);
    drive_input(&pic->chip[irq / INPUTS_PER_CHIP], irq % INPUTS_PER_CHIP, level);
    update_outputs(pic);
    pthread_mutex_unlock(&pic->lock);
}

struct irq_line i8259_input(struct i8259 *pic, unsigned irq)
{
    return (struct irq_line){.set = set_input, .opaque = pic, .input = irq};
}

/* Inputs 0, 1, 2, 8 and 13 are edge-triggered for good (ICH9 13.4.8, 13.4.9). The wires keep the
 * levels that their devices drive. */
static void reset_chip(struct chip *chip, uint8_t elcr_mask)
{
    *chip =
        (struct chip){.wires = chip->wires, .elcr_mask = elcr_mask, .lowest = INPUTS_PER_CHIP - 1};
}

static void pic_reset(struct device *device)
{
    struct i8259 *pic = CONTAINER_OF(device, struct i8259, device);

    pthread_mutex_lock(&pic->lock);
    reset_chip(&pic->chip[0], 0xf8);
    reset_chip(&pic->chip[1], 0xde);
    update_outputs(pic);
    pthread_mutex_unlock(&pic->lock);
}

static void pic_destroy(struct device *device)
{
    struct i8259 *pic = CONTAINER_OF(device, struct i8259, device);

    pthread_mutex_destroy(&pic->lock);
    free(pic);
}

static int pic_post_load(void *object, struct error *err)
{
    struct i8259 *pic = object;

    for (unsigned i = 0; i < ARRAY_SIZE(pic->chip); i++) {
        struct chip *chip = &pic->chip[i];

        if (chip->lowest >= INPUTS_PER_CHIP || chip->step >= STEP_COUNT)
            return error_set(err, -EBADMSG, "interrupt controller 8259: impossible state");
        chip->elcr &= chip->elcr_mask;
        chip->base &= ICW2_BASE;
    }
    return 0;
}

static const struct state_field chip_fields[] = {
    STATE_INT(struct chip, wires),
    STATE_INT(struct chip, irr),
    STATE_INT(struct chip, isr),
    STATE_INT(struct chip, imr),
    STATE_INT(struct chip, elcr),
    STATE_INT(struct chip, base),
    STATE_INT(struct chip, lowest),
    STATE_INT(struct chip, step),
    STATE_INT(struct chip, icw1),
    STATE_BOOL(struct chip, auto_eoi),
    STATE_BOOL(struct chip, rotate_on_auto_eoi),
    STATE_BOOL(struct chip, special_fully_nested),
    STATE_BOOL(struct chip, special_mask),
    STATE_BOOL(struct chip, read_isr),
    STATE_BOOL(struct chip, poll),
    STATE_END,
};

static const struct state_field pic_fields[] = {
    STATE_STRUCT_ARRAY(struct i8259, chip, chip_fields),
    STATE_END,
};

static const struct state_desc pic_state = {
    .name = "i8259",
    .version = 1,
    .fields = pic_fields,
    .post_load = pic_post_load,
};

static const struct device_ops pic_ops = {
    .type = "i8259",
    .reset = pic_reset,
    .destroy = pic_destroy,
    .state = &pic_state,
};

int i8259_new(struct i8259 **out, const struct irq_line *intr)
{
    struct i8259 *pic = calloc(1, sizeof(*pic));

    if (!pic)
        return -ENOMEM;
    pic->device = (struct device){.ops = &pic_ops, .name = "i8259", .state_object = pic};
    pic->region[0] =
        (struct region){.name = "8259 master", .ops = &master_ops, .opaque = pic, .size = 2};
    pic->region[1] =
        (struct region){.name = "8259 slave", .ops = &slave_ops, .opaque = pic, .size = 2};
    pic->elcr_region =
        (struct region){.name = "8259 ELCR", .ops = &elcr_ops, .opaque = pic, .size = 2};
    pic->intr = *intr;
    pthread_mutex_init(&pic->lock, NULL);
    pic_reset(&pic->device);
    *out = pic;
    return 0;
}

int i8259_attach(struct i8259 *pic, struct bus *bus, struct error *err)
{
    int r = bus_add(bus, BUS_PORT, &pic->region[0], MASTER_PORT, err);

    if (!r)
        r = bus_add(bus, BUS_PORT, &pic->region[1], SLAVE_PORT, err);
    if (!r)
        r = bus_add(bus, BUS_PORT, &pic->elcr_region, ELCR_PORT, err);
    return r;
}

struct device *i8259_device(struct i8259 *pic)
{
    return &pic->device;
}
