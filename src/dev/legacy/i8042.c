/*
 * The 8042 keyboard controller (IBM PS/2 Hardware Interface Technical Reference, "Keyboard and
 * Auxiliary Device Controller"); the devices at its two ports are ps2_keyboard.c and ps2_mouse.c.
 *
 *                    0x64 commands                     0x60 data
 *                         |                                ^
 *                   [ controller ] --- answers ---> [ output buffer ] --> interrupt 1 or 12
 *                                                      ^         ^
 *                          keyboard -- translation ----+         +---- mouse
 *
 * The output buffer holds one byte, and the next one goes in when the guest has taken it.
 *
 * A20 is a bit of the output port that can be written and read; like every processor of the last
 * decade the board has no A20 gate behind it.
 *
 * Threads: vCPUs, the clock's thread (typematic repetition) and whoever brings input, under `lock`.
 */
#include "dev/legacy/i8042.h"

#include <errno.h>
#include <stdlib.h>

#include "dev/legacy/ps2.h"

#define DATA_PORT 0x60
#define COMMAND_PORT 0x64

enum {
    STATUS_OUTPUT_FULL = 1 << 0,
    STATUS_SYSTEM = 1 << 2,
    STATUS_COMMAND = 1 << 3,    /* the last write went to port 0x64 */
    STATUS_UNLOCKED = 1 << 4,   /* the key lock is open */
    STATUS_MOUSE_DATA = 1 << 5, /* the output buffer is the mouse's */
};

/* Byte 0 of the controller's memory, the command byte. */
enum {
    MODE_KEYBOARD_IRQ = 1 << 0,
    MODE_MOUSE_IRQ = 1 << 1,
    MODE_SYSTEM = 1 << 2,
    MODE_KEYBOARD_OFF = 1 << 4,
    MODE_MOUSE_OFF = 1 << 5,
    MODE_TRANSLATE = 1 << 6,
};

enum {
    OUTPUT_NO_RESET = 1 << 0,
    OUTPUT_A20 = 1 << 1,
    OUTPUT_KEYBOARD_IRQ = 1 << 4,
    OUTPUT_MOUSE_IRQ = 1 << 5,
};

#define MEMORY_SIZE 32

enum command {
    COMMAND_READ_MEMORY = 0x20, /* and 0x21 to 0x3f */
    COMMAND_WRITE_MEMORY = 0x60,
    COMMAND_MOUSE_OFF = 0xa7,
    COMMAND_MOUSE_ON = 0xa8,
    COMMAND_TEST_MOUSE_PORT = 0xa9,
    COMMAND_SELF_TEST = 0xaa,
    COMMAND_TEST_KEYBOARD_PORT = 0xab,
    COMMAND_KEYBOARD_OFF = 0xad,
    COMMAND_KEYBOARD_ON = 0xae,
    COMMAND_READ_INPUT_PORT = 0xc0,
    COMMAND_READ_OUTPUT_PORT = 0xd0,
    COMMAND_WRITE_OUTPUT_PORT = 0xd1,
    COMMAND_WRITE_KEYBOARD_OUTPUT = 0xd2,
    COMMAND_WRITE_MOUSE_OUTPUT = 0xd3,
    COMMAND_WRITE_MOUSE = 0xd4,
    COMMAND_A20_OFF = 0xdd,
    COMMAND_A20_ON = 0xdf,
    COMMAND_READ_TEST_INPUTS = 0xe0,
    COMMAND_PULSE = 0xf0, /* and 0xf1 to 0xff: pulses output port bits 0 to 3 that are 0 */
};

#define SELF_TEST_PASSED 0x55
#define PORT_TEST_PASSED 0x00
#define INPUT_PORT 0x80 /* the key lock is open */

#define SET2_RELEASE 0xf0
#define SET1_RELEASE 0x80

struct i8042 {
    struct device device;
    struct region data_region, command_region;
    struct clock *clock;
    struct irq_line keyboard_irq, mouse_irq;
    const struct board_events *events;
    struct input *input;
    struct input_sink sink;
    struct timer repeat_timer;

    pthread_mutex_t lock; /* a device lock in the order of bus/irq.h; guards all below */
    bool running;         /* started and not paused: input is taken */
    uint8_t output;       /* the output buffer; keeps its value after it was read */
    bool output_full;
    bool output_is_mouse;
    bool last_was_command;
    uint8_t command; /* whose data byte comes next, 0 for none */
    uint8_t memory[MEMORY_SIZE];
    bool a20;
    bool release_prefix; /* translation has swallowed an 0xf0 */
    /* Answers of the controller itself, as from the keyboard and as from the mouse. */
    struct ps2_queue keyboard_answers, mouse_answers;
    struct ps2_keyboard keyboard;
    struct ps2_mouse mouse;
};

/* The next byte from the keyboard as the guest sees it. */
static bool read_keyboard(struct i8042 *kbc, uint8_t *byte)
{
    if (kbc->memory[0] & MODE_KEYBOARD_OFF)
        return false;
    while (ps2_keyboard_read(&kbc->keyboard, byte)) {
        if (!(kbc->memory[0] & MODE_TRANSLATE))
            return true;
        if (*byte == SET2_RELEASE) {
            kbc->release_prefix = true;
            continue;
        }
        *byte = ps2_translate(*byte) | (kbc->release_prefix ? SET1_RELEASE : 0);
        kbc->release_prefix = false;
        return true;
    }
    return false;
}

static bool read_mouse(struct i8042 *kbc, uint8_t *byte)
{
    return !(kbc->memory[0] & MODE_MOUSE_OFF) && ps2_mouse_read(&kbc->mouse, byte);
}

/* Fills the output buffer if it is free, drives the interrupts and the repetition timer. After
 * each change. */
static void update(struct i8042 *kbc)
{
    bool mouse;

    if (!kbc->output_full) {
        mouse = false;
        kbc->output_full = ps2_queue_pop(&kbc->keyboard_answers, &kbc->output);
        if (!kbc->output_full) {
            mouse = true;
            kbc->output_full = ps2_queue_pop(&kbc->mouse_answers, &kbc->output);
        }
        if (!kbc->output_full) {
            mouse = false;
            kbc->output_full = read_keyboard(kbc, &kbc->output);
        }
        if (!kbc->output_full) {
            mouse = true;
            kbc->output_full = read_mouse(kbc, &kbc->output);
        }
        kbc->output_is_mouse = kbc->output_full && mouse;
    }
    irq_line_set(&kbc->keyboard_irq,
                 kbc->output_full && !kbc->output_is_mouse && (kbc->memory[0] & MODE_KEYBOARD_IRQ));
    irq_line_set(&kbc->mouse_irq,
                 kbc->output_full && kbc->output_is_mouse && (kbc->memory[0] & MODE_MOUSE_IRQ));
    if (kbc->keyboard.repeating)
        timer_set(&kbc->repeat_timer, kbc->keyboard.repeat_deadline);
    else
        timer_cancel(&kbc->repeat_timer);
}

static void repeat_fire(void *opaque)
{
    struct i8042 *kbc = opaque;

    pthread_mutex_lock(&kbc->lock);
    ps2_keyboard_repeat(&kbc->keyboard, clock_now(kbc->clock));
    update(kbc);
    pthread_mutex_unlock(&kbc->lock);
}

void i8042_key(struct i8042 *kbc, unsigned code, bool down)
{
    pthread_mutex_lock(&kbc->lock);
    if (kbc->running) {
        ps2_keyboard_key(&kbc->keyboard, code, down, clock_now(kbc->clock));
        update(kbc);
    }
    pthread_mutex_unlock(&kbc->lock);
}

void i8042_mouse(struct i8042 *kbc, int dx, int dy, int dz, unsigned buttons)
{
    pthread_mutex_lock(&kbc->lock);
    if (kbc->running) {
        ps2_mouse_move(&kbc->mouse, dx, dy, dz, buttons);
        update(kbc);
    }
    pthread_mutex_unlock(&kbc->lock);
}

static void sink_key(void *opaque, unsigned code, bool down)
{
    i8042_key(opaque, code, down);
}

static void sink_move(void *opaque, int dx, int dy, int dz, unsigned buttons)
{
    i8042_mouse(opaque, dx, dy, dz, buttons);
}

static bool sink_keys_taken(void *opaque)
{
    struct i8042 *kbc = opaque;

    pthread_mutex_lock(&kbc->lock);
    bool taken = !kbc->keyboard.codes.count && !(kbc->output_full && !kbc->output_is_mouse);
    pthread_mutex_unlock(&kbc->lock);
    return taken;
}

static const struct input_sink_ops sink_ops = {
    .key = sink_key,
    .keys_taken = sink_keys_taken,
    .move = sink_move,
};

static uint8_t read_status(const struct i8042 *kbc)
{
    return (kbc->output_full ? STATUS_OUTPUT_FULL : 0) |
           (kbc->output_is_mouse ? STATUS_MOUSE_DATA : 0) |
           (kbc->memory[0] & MODE_SYSTEM ? STATUS_SYSTEM : 0) |
           (kbc->last_was_command ? STATUS_COMMAND : 0) | STATUS_UNLOCKED;
}

static uint8_t read_output_port(const struct i8042 *kbc)
{
    return OUTPUT_NO_RESET | (kbc->a20 ? OUTPUT_A20 : 0) |
           (kbc->output_full && !kbc->output_is_mouse ? OUTPUT_KEYBOARD_IRQ : 0) |
           (kbc->output_full && kbc->output_is_mouse ? OUTPUT_MOUSE_IRQ : 0);
}

/* Returns true when the guest asks for a reset of the machine. */
static bool write_output_port(struct i8042 *kbc, uint8_t value)
{
    kbc->a20 = value & OUTPUT_A20;
    return !(value & OUTPUT_NO_RESET);
}

/* A byte to port 0x64. Returns true when the guest asks for a reset of the machine. */
static bool write_command(struct i8042 *kbc, uint8_t value)
{
    kbc->last_was_command = true;
    kbc->command = 0;
    if (value >= COMMAND_PULSE)
        return !(value & OUTPUT_NO_RESET);
    if (value >= COMMAND_READ_MEMORY && value < COMMAND_READ_MEMORY + MEMORY_SIZE) {
        ps2_queue_push(&kbc->keyboard_answers, kbc->memory[value % MEMORY_SIZE]);
        return false;
    }
    if (value >= COMMAND_WRITE_MEMORY && value < COMMAND_WRITE_MEMORY + MEMORY_SIZE) {
        kbc->command = value;
        return false;
    }
    switch (value) {
    case COMMAND_MOUSE_OFF:
        kbc->memory[0] |= MODE_MOUSE_OFF;
        break;
    case COMMAND_MOUSE_ON:
        kbc->memory[0] &= ~MODE_MOUSE_OFF;
        break;
    case COMMAND_TEST_MOUSE_PORT:
    case COMMAND_TEST_KEYBOARD_PORT:
        ps2_queue_push(&kbc->keyboard_answers, PORT_TEST_PASSED);
        break;
    case COMMAND_SELF_TEST:
        kbc->memory[0] |= MODE_SYSTEM;
        ps2_queue_push(&kbc->keyboard_answers, SELF_TEST_PASSED);
        break;
    case COMMAND_KEYBOARD_OFF:
        kbc->memory[0] |= MODE_KEYBOARD_OFF;
        break;
    case COMMAND_KEYBOARD_ON:
        kbc->memory[0] &= ~MODE_KEYBOARD_OFF;
        break;
    case COMMAND_READ_INPUT_PORT:
        ps2_queue_push(&kbc->keyboard_answers, INPUT_PORT);
        break;
    case COMMAND_READ_OUTPUT_PORT:
        ps2_queue_push(&kbc->keyboard_answers, read_output_port(kbc));
        break;
    case COMMAND_READ_TEST_INPUTS:
        ps2_queue_push(&kbc->keyboard_answers, 0);
        break;
    case COMMAND_A20_OFF:
        kbc->a20 = false;
        break;
    case COMMAND_A20_ON:
        kbc->a20 = true;
        break;
    case COMMAND_WRITE_OUTPUT_PORT:
    case COMMAND_WRITE_KEYBOARD_OUTPUT:
    case COMMAND_WRITE_MOUSE_OUTPUT:
    case COMMAND_WRITE_MOUSE:
        kbc->command = value;
        break;
    }
    return false;
}

/* A byte to port 0x60: a command's argument, or something for the keyboard. Returns true when the
 * guest asks for a reset of the machine. */
static bool write_data(struct i8042 *kbc, uint8_t value)
{
    uint8_t command = kbc->command;

    kbc->last_was_command = false;
    kbc->command = 0;
    switch (command) {
    case 0:
        /* To talk to a device is to turn its port on. */
        kbc->memory[0] &= ~MODE_KEYBOARD_OFF;
        ps2_keyboard_write(&kbc->keyboard, value);
        break;
    case COMMAND_WRITE_OUTPUT_PORT:
        return write_output_port(kbc, value);
    case COMMAND_WRITE_KEYBOARD_OUTPUT:
        ps2_queue_push(&kbc->keyboard_answers, value);
        break;
    case COMMAND_WRITE_MOUSE_OUTPUT:
        ps2_queue_push(&kbc->mouse_answers, value);
        break;
    case COMMAND_WRITE_MOUSE:
        kbc->memory[0] &= ~MODE_MOUSE_OFF;
        ps2_mouse_write(&kbc->mouse, value);
        break;
    default:
        kbc->memory[command % MEMORY_SIZE] = value;
        break;
    }
    return false;
}

static enum bus_result data_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct i8042 *kbc = opaque;

    pthread_mutex_lock(&kbc->lock);
    *value = kbc->output;
    if (kbc->output_full) {
        kbc->output_full = false;
        /* Down and up again if there is more: the inputs are edge-triggered. */
        irq_line_set(&kbc->keyboard_irq, false);
        irq_line_set(&kbc->mouse_irq, false);
        update(kbc);
    }
    pthread_mutex_unlock(&kbc->lock);
    return BUS_OK;
}

static enum bus_result status_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct i8042 *kbc = opaque;

    pthread_mutex_lock(&kbc->lock);
    *value = read_status(kbc);
    pthread_mutex_unlock(&kbc->lock);
    return BUS_OK;
}

static enum bus_result port_write(struct i8042 *kbc, bool (*write)(struct i8042 *, uint8_t),
                                  uint8_t value)
{
    bool reset;

    pthread_mutex_lock(&kbc->lock);
    reset = write(kbc, value);
    update(kbc);
    pthread_mutex_unlock(&kbc->lock);
    if (reset)
        board_reset(kbc->events);
    return BUS_OK;
}

static enum bus_result data_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    return port_write(opaque, write_data, value);
}

static enum bus_result command_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    return port_write(opaque, write_command, value);
}

static const struct region_ops data_ops = {.read = data_read, .write = data_write, .max_size = 1};
static const struct region_ops command_ops = {
    .read = status_read, .write = command_write, .max_size = 1};

static void set_running(struct i8042 *kbc, bool running)
{
    pthread_mutex_lock(&kbc->lock);
    kbc->running = running;
    pthread_mutex_unlock(&kbc->lock);
}

static int i8042_start(struct device *device, struct error *err)
{
    set_running(CONTAINER_OF(device, struct i8042, device), true);
    return 0;
}

static void i8042_pause(struct device *device)
{
    set_running(CONTAINER_OF(device, struct i8042, device), false);
}

static void i8042_resume(struct device *device)
{
    set_running(CONTAINER_OF(device, struct i8042, device), true);
}

static void i8042_reset(struct device *device)
{
    struct i8042 *kbc = CONTAINER_OF(device, struct i8042, device);

    pthread_mutex_lock(&kbc->lock);
    kbc->output = 0;
    kbc->output_full = kbc->output_is_mouse = false;
    kbc->last_was_command = false;
    kbc->command = 0;
    for (unsigned i = 0; i < MEMORY_SIZE; i++)
        kbc->memory[i] = 0;
    /* As firmware leaves it, for kernels that boot without any. */
    kbc->memory[0] = MODE_TRANSLATE | MODE_SYSTEM | MODE_KEYBOARD_IRQ;
    kbc->a20 = true;
    kbc->release_prefix = false;
    ps2_queue_clear(&kbc->keyboard_answers);
    ps2_queue_clear(&kbc->mouse_answers);
    ps2_keyboard_reset(&kbc->keyboard);
    ps2_mouse_reset(&kbc->mouse);
    update(kbc);
    pthread_mutex_unlock(&kbc->lock);
}

static void i8042_destroy(struct device *device)
{
    struct i8042 *kbc = CONTAINER_OF(device, struct i8042, device);

    if (kbc->input)
        input_remove(kbc->input, &kbc->sink);
    timer_cancel_sync(&kbc->repeat_timer);
    pthread_mutex_destroy(&kbc->lock);
    free(kbc);
}

static int i8042_post_load(void *object, struct error *err)
{
    struct i8042 *kbc = object;

    if (!ps2_queue_is_valid(&kbc->keyboard_answers) || !ps2_queue_is_valid(&kbc->mouse_answers))
        return error_set(err, -EBADMSG, "keyboard controller: impossible state");
    if (!ps2_keyboard_is_valid(&kbc->keyboard))
        return error_set(err, -EBADMSG, "keyboard: impossible state");
    if (!ps2_mouse_is_valid(&kbc->mouse))
        return error_set(err, -EBADMSG, "mouse: impossible state");
    update(kbc);
    return 0;
}

static const struct state_field i8042_fields[] = {
    STATE_INT(struct i8042, output),
    STATE_BOOL(struct i8042, output_full),
    STATE_BOOL(struct i8042, output_is_mouse),
    STATE_BOOL(struct i8042, last_was_command),
    STATE_INT(struct i8042, command),
    STATE_BYTES(struct i8042, memory),
    STATE_BOOL(struct i8042, a20),
    STATE_BOOL(struct i8042, release_prefix),
    STATE_STRUCT(struct i8042, keyboard_answers, ps2_queue_fields),
    STATE_STRUCT(struct i8042, mouse_answers, ps2_queue_fields),
    STATE_STRUCT(struct i8042, keyboard, ps2_keyboard_fields),
    STATE_STRUCT(struct i8042, mouse, ps2_mouse_fields),
    STATE_END,
};

static const struct state_desc i8042_state = {
    .name = "i8042",
    .version = 1,
    .fields = i8042_fields,
    .post_load = i8042_post_load,
};

static const struct device_ops i8042_ops = {
    .type = "i8042",
    .start = i8042_start,
    .pause = i8042_pause,
    .resume = i8042_resume,
    .reset = i8042_reset,
    .destroy = i8042_destroy,
    .state = &i8042_state,
};

int i8042_new(struct i8042 **out, const struct i8042_config *config)
{
    struct i8042 *kbc = calloc(1, sizeof(*kbc));

    if (!kbc)
        return -ENOMEM;
    kbc->device = (struct device){.ops = &i8042_ops, .name = "i8042", .state_object = kbc};
    kbc->data_region =
        (struct region){.name = "8042 data", .ops = &data_ops, .opaque = kbc, .size = 1};
    kbc->command_region =
        (struct region){.name = "8042 command", .ops = &command_ops, .opaque = kbc, .size = 1};
    kbc->clock = config->clock;
    kbc->keyboard_irq = config->keyboard_irq;
    kbc->mouse_irq = config->mouse_irq;
    kbc->events = config->events;
    timer_init(&kbc->repeat_timer, config->clock, repeat_fire, kbc);
    pthread_mutex_init(&kbc->lock, NULL);
    i8042_reset(&kbc->device);
    kbc->input = config->input;
    kbc->sink = (struct input_sink){.ops = &sink_ops, .opaque = kbc};
    if (kbc->input)
        input_add(kbc->input, &kbc->sink);
    *out = kbc;
    return 0;
}

int i8042_attach(struct i8042 *kbc, struct bus *bus, struct error *err)
{
    int r = bus_add(bus, BUS_PORT, &kbc->data_region, DATA_PORT, err);

    return r ? r : bus_add(bus, BUS_PORT, &kbc->command_region, COMMAND_PORT, err);
}

struct device *i8042_device(struct i8042 *kbc)
{
    return &kbc->device;
}
