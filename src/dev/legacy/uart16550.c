/*
 * The 16550A serial port (National Semiconductor PC16550D data sheet, section 8 "Registers").
 *
 * Three threads meet under `lock`: vCPUs (register accesses), the back end's I/O thread (received
 * bytes, room for more output) and the clock's thread (character time-out).
 *
 * Output normally goes straight from the transmitter holding register to the back end, so the
 * register is empty again before the guest's write returns. Only when the back end has no room do
 * bytes wait in the transmitter FIFO, and the guest sees a busy transmitter.
 *
 * As on every PC, the interrupt reaches the bus only while OUT2 is on.
 */
#include "dev/legacy/uart16550.h"

#include <errno.h>
#include <stdlib.h>

#define UART_CLOCK_HZ 115200u /* 1.8432 MHz / 16: the bit rate of divisor 1 */
#define FIFO_SIZE 16
#define REGISTER_COUNT 8

enum uart_register {
    REG_DATA = 0, /* RBR on read, THR on write; divisor's low byte while DLAB */
    REG_IER = 1,  /* interrupt enable; divisor's high byte while DLAB */
    REG_IIR = 2,  /* interrupt identification on read, FIFO control on write */
    REG_LCR = 3,  /* line control */
    REG_MCR = 4,  /* modem control */
    REG_LSR = 5,  /* line status */
    REG_MSR = 6,  /* modem status */
    REG_SCR = 7,  /* scratch */
};

enum {
    IER_RECEIVE = 1 << 0,
    IER_TRANSMIT = 1 << 1,
    IER_LINE = 1 << 2,
    IER_MODEM = 1 << 3,
    IER_MASK = 0x0f,
};

/* 8.6.5, table IV; from the lowest priority to the highest. */
enum {
    IIR_MODEM = 0x0,
    IIR_NONE = 0x1,
    IIR_TRANSMIT = 0x2,
    IIR_RECEIVE = 0x4,
    IIR_LINE = 0x6,
    IIR_TIMEOUT = 0xc,
    IIR_FIFO_ENABLED = 0xc0,
};

enum {
    FCR_ENABLE = 1 << 0,
    FCR_CLEAR_RECEIVE = 1 << 1,
    FCR_CLEAR_TRANSMIT = 1 << 2,
    FCR_TRIGGER_SHIFT = 6,
};

enum {
    LCR_WORD_LENGTH = 0x03, /* 5 bits and more */
    LCR_TWO_STOP_BITS = 1 << 2,
    LCR_PARITY = 1 << 3,
    LCR_DLAB = 1 << 7,
};

enum {
    MCR_DTR = 1 << 0,
    MCR_RTS = 1 << 1,
    MCR_OUT1 = 1 << 2,
    MCR_OUT2 = 1 << 3,
    MCR_LOOP = 1 << 4,
    MCR_MASK = 0x1f,
};

enum {
    LSR_DATA_READY = 1 << 0,
    LSR_OVERRUN = 1 << 1,
    LSR_THR_EMPTY = 1 << 5,
    LSR_IDLE = 1 << 6, /* TEMT: holding and shift registers empty */
};

enum {
    MSR_DELTA_CTS = 1 << 0,
    MSR_DELTA_DSR = 1 << 1,
    MSR_RING_ENDED = 1 << 2,
    MSR_DELTA_DCD = 1 << 3,
    MSR_DELTAS = 0x0f,
    MSR_CTS = 1 << 4,
    MSR_DSR = 1 << 5,
    MSR_RI = 1 << 6,
    MSR_DCD = 1 << 7,
};

struct fifo {
    uint8_t data[FIFO_SIZE];
    uint8_t head; /* index of the oldest byte */
    uint8_t count;
};

struct uart16550 {
    struct device device;
    struct region region;
    struct irq_line irq;
    struct char_backend *backend;
    struct clock *clock;
    struct timer timeout_timer;

    pthread_mutex_t lock; /* a device lock in the order of bus/irq.h; guards all below */
    bool running;         /* started and not paused: input may come in */
    bool input_held_back; /* the back end was told 0 and waits for char_input_ready() */

    struct fifo receive, transmit;
    uint8_t ier, fcr, lcr, mcr, msr, scr;
    uint16_t divisor;
    bool overrun;
    bool thr_interrupt;        /* THR became empty and nobody has taken note */
    bool timeout_interrupt;    /* the receive FIFO has lain untouched for four characters */
    uint64_t timeout_deadline; /* VM time; 0 while no time-out is due */
};

static void fifo_clear(struct fifo *fifo)
{
    fifo->head = fifo->count = 0;
}

static void fifo_push(struct fifo *fifo, uint8_t byte)
{
    fifo->data[(fifo->head + fifo->count++) % FIFO_SIZE] = byte;
}

static uint8_t fifo_pop(struct fifo *fifo)
{
    uint8_t byte = fifo->data[fifo->head];

    fifo->head = (fifo->head + 1) % FIFO_SIZE;
    fifo->count--;
    return byte;
}

/* Without FIFOs each direction holds one byte. */
static unsigned fifo_capacity(const struct uart16550 *uart)
{
    return uart->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned receive_trigger(const struct uart16550 *uart)
{
    static const uint8_t level[] = {1, 4, 8, 14};

    return uart->fcr & FCR_ENABLE ? level[uart->fcr >> FCR_TRIGGER_SHIFT] : 1;
}

/* The most urgent interrupt that is pending and enabled (8.6.5). */
static uint8_t interrupt_id(const struct uart16550 *uart)
{
    if ((uart->ier & IER_LINE) && uart->overrun)
        return IIR_LINE;
    if ((uart->ier & IER_RECEIVE) && uart->receive.count >= receive_trigger(uart))
        return IIR_RECEIVE;
    if ((uart->ier & IER_RECEIVE) && uart->timeout_interrupt)
        return IIR_TIMEOUT;
    if ((uart->ier & IER_TRANSMIT) && uart->thr_interrupt)
        return IIR_TRANSMIT;
    if ((uart->ier & IER_MODEM) && (uart->msr & MSR_DELTAS))
        return IIR_MODEM;
    return IIR_NONE;
}

static void update_irq(struct uart16550 *uart)
{
    /* In loopback the OUT2 pin is off (8.6.7). */
    bool gate = (uart->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

    irq_line_set(&uart->irq, gate && interrupt_id(uart) != IIR_NONE);
}

/* (Re)starts the character time-out: four characters without anything received or read (8.9). It
 * runs only for a driver that wants the interrupt. */
static void restart_timeout(struct uart16550 *uart)
{
    unsigned bits, divisor;

    uart->timeout_interrupt = false;
    if (!(uart->fcr & FCR_ENABLE) || !(uart->ier & IER_RECEIVE) || !uart->receive.count) {
        uart->timeout_deadline = 0;
        timer_cancel(&uart->timeout_timer);
        return;
    }
    bits = 1 + 5 + (uart->lcr & LCR_WORD_LENGTH) + !!(uart->lcr & LCR_PARITY) +
           (uart->lcr & LCR_TWO_STOP_BITS ? 2 : 1);
    divisor = uart->divisor ? uart->divisor : 1;
    uart->timeout_deadline =
        clock_now(uart->clock) + 4 * NS_PER_SEC * bits * divisor / UART_CLOCK_HZ;
    timer_set(&uart->timeout_timer, uart->timeout_deadline);
}

static void timeout_fire(void *opaque)
{
    struct uart16550 *uart = opaque;

    pthread_mutex_lock(&uart->lock);
    /* The deadline may have moved while this call was on its way. */
    if (uart->timeout_deadline && clock_now(uart->clock) >= uart->timeout_deadline) {
        uart->timeout_deadline = 0;
        uart->timeout_interrupt = true;
        update_irq(uart);
    }
    pthread_mutex_unlock(&uart->lock);
}

static void receive_byte(struct uart16550 *uart, uint8_t byte)
{
    if (uart->receive.count < fifo_capacity(uart))
        fifo_push(&uart->receive, byte);
    else
        uart->overrun = true;
}

/* Lets the back end go on once there is room after it was held back. */
static void request_input(struct uart16550 *uart)
{
    if (uart->input_held_back && !uart->receive.count && !(uart->mcr & MCR_LOOP)) {
        uart->input_held_back = false;
        char_input_ready(uart->backend);
    }
}

/* Hands waiting bytes to the back end. */
static void transmit(struct uart16550 *uart)
{
    while (uart->transmit.count) {
        if (!char_write(uart->backend, &uart->transmit.data[uart->transmit.head], 1))
            return;
        fifo_pop(&uart->transmit);
    }
    uart->thr_interrupt = true;
}

static void write_data(struct uart16550 *uart, uint8_t value)
{
    uart->thr_interrupt = false;
    if (uart->mcr & MCR_LOOP) {
        receive_byte(uart, value);
        restart_timeout(uart);
        uart->thr_interrupt = true;
        return;
    }
    /* The wire must fall between two "THR empty" interrupts: the ISA bus is edge-triggered. */
    update_irq(uart);
    if (uart->transmit.count < fifo_capacity(uart))
        fifo_push(&uart->transmit, value);
    transmit(uart);
}

static uint8_t read_data(struct uart16550 *uart)
{
    uint8_t value = 0;

    if (uart->receive.count)
        value = fifo_pop(&uart->receive);
    restart_timeout(uart);
    request_input(uart);
    return value;
}

/* Recomputes the modem inputs: a cable with everything on, or in loopback the outputs (8.6.7). */
static void update_modem_inputs(struct uart16550 *uart)
{
    uint8_t inputs = MSR_CTS | MSR_DSR | MSR_DCD;
    uint8_t changed;

    if (uart->mcr & MCR_LOOP)
        inputs = (uart->mcr & MCR_RTS ? MSR_CTS : 0) | (uart->mcr & MCR_DTR ? MSR_DSR : 0) |
                 (uart->mcr & MCR_OUT1 ? MSR_RI : 0) | (uart->mcr & MCR_OUT2 ? MSR_DCD : 0);
    changed = (uart->msr ^ inputs) & ~MSR_DELTAS;
    if (changed & MSR_CTS)
        uart->msr |= MSR_DELTA_CTS;
    if (changed & MSR_DSR)
        uart->msr |= MSR_DELTA_DSR;
    if (changed & MSR_DCD)
        uart->msr |= MSR_DELTA_DCD;
    if (changed & uart->msr & MSR_RI)
        uart->msr |= MSR_RING_ENDED;
    uart->msr = inputs | (uart->msr & MSR_DELTAS);
}

static void write_fcr(struct uart16550 *uart, uint8_t value)
{
    bool switched = (value ^ uart->fcr) & FCR_ENABLE;

    /* The other bits are programmed only while bit 0 is on (8.6.4). */
    uart->fcr = value & FCR_ENABLE ? value & (FCR_ENABLE | 3 << FCR_TRIGGER_SHIFT) : 0;
    if (switched || (value & FCR_CLEAR_RECEIVE))
        fifo_clear(&uart->receive);
    if (switched || (value & FCR_CLEAR_TRANSMIT)) {
        if (uart->transmit.count)
            uart->thr_interrupt = true;
        fifo_clear(&uart->transmit);
    }
    restart_timeout(uart);
    request_input(uart);
}

static void write_ier(struct uart16550 *uart, uint8_t value)
{
    uint8_t enabled = value & ~uart->ier;

    uart->ier = value & IER_MASK;
    /* Enabling the interrupt while THR is empty raises it at once; drivers start sending so. */
    if ((enabled & IER_TRANSMIT) && !uart->transmit.count)
        uart->thr_interrupt = true;
    if (enabled & IER_RECEIVE)
        restart_timeout(uart);
}

static uint8_t read_iir(struct uart16550 *uart)
{
    uint8_t id = interrupt_id(uart);

    /* Reading takes note of "THR empty", but only if that is what the read returns (table IV). */
    if (id == IIR_TRANSMIT)
        uart->thr_interrupt = false;
    return id | (uart->fcr & FCR_ENABLE ? IIR_FIFO_ENABLED : 0);
}

static uint8_t read_lsr(struct uart16550 *uart)
{
    uint8_t value = 0;

    if (uart->receive.count)
        value |= LSR_DATA_READY;
    if (uart->overrun)
        value |= LSR_OVERRUN;
    if (!uart->transmit.count)
        value |= LSR_THR_EMPTY | LSR_IDLE;
    uart->overrun = false;
    return value;
}

static uint8_t read_register(struct uart16550 *uart, enum uart_register reg)
{
    bool dlab = uart->lcr & LCR_DLAB;
    uint8_t value;

    switch (reg) {
    case REG_DATA:
        return dlab ? uart->divisor & 0xff : read_data(uart);
    case REG_IER:
        return dlab ? uart->divisor >> 8 : uart->ier;
    case REG_IIR:
        return read_iir(uart);
    case REG_LCR:
        return uart->lcr;
    case REG_MCR:
        return uart->mcr;
    case REG_LSR:
        return read_lsr(uart);
    case REG_MSR:
        value = uart->msr;
        uart->msr &= ~MSR_DELTAS;
        return value;
    case REG_SCR:
        return uart->scr;
    }
    return 0xff;
}

static void write_register(struct uart16550 *uart, enum uart_register reg, uint8_t value)
{
    bool dlab = uart->lcr & LCR_DLAB;

    switch (reg) {
    case REG_DATA:
        if (dlab)
            uart->divisor = (uart->divisor & 0xff00) | value;
        else
            write_data(uart, value);
        break;
    case REG_IER:
        if (dlab)
            uart->divisor = (uart->divisor & 0x00ff) | value << 8;
        else
            write_ier(uart, value);
        break;
    case REG_IIR:
        write_fcr(uart, value);
        break;
    case REG_LCR:
        uart->lcr = value;
        break;
    case REG_MCR:
        uart->mcr = value & MCR_MASK;
        update_modem_inputs(uart);
        request_input(uart);
        break;
    case REG_LSR: /* read only; the data sheet's factory test write is not modelled */
    case REG_MSR:
        break;
    case REG_SCR:
        uart->scr = value;
        break;
    }
}

static enum bus_result uart_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct uart16550 *uart = opaque;

    pthread_mutex_lock(&uart->lock);
    *value = read_register(uart, offset);
    update_irq(uart);
    pthread_mutex_unlock(&uart->lock);
    return BUS_OK;
}

static enum bus_result uart_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct uart16550 *uart = opaque;

    pthread_mutex_lock(&uart->lock);
    write_register(uart, offset, value);
    update_irq(uart);
    pthread_mutex_unlock(&uart->lock);
    return BUS_OK;
}

static const struct region_ops uart_region_ops = {
    .read = uart_read,
    .write = uart_write,
    .max_size = 1,
};

static size_t uart_can_receive(void *opaque)
{
    struct uart16550 *uart = opaque;
    size_t room = 0;

    pthread_mutex_lock(&uart->lock);
    /* In loopback the receiver does not listen to the line. */
    if (uart->running && !(uart->mcr & MCR_LOOP))
        room = fifo_capacity(uart) - uart->receive.count;
    uart->input_held_back = !room;
    pthread_mutex_unlock(&uart->lock);
    return room;
}

static void uart_receive(void *opaque, const uint8_t *data, size_t length)
{
    struct uart16550 *uart = opaque;

    pthread_mutex_lock(&uart->lock);
    for (size_t i = 0; i < length; i++)
        receive_byte(uart, data[i]);
    if (!uart->timeout_interrupt) /* once it has occurred only a read ends it (8.9) */
        restart_timeout(uart);
    update_irq(uart);
    pthread_mutex_unlock(&uart->lock);
}

static void uart_writable(void *opaque)
{
    struct uart16550 *uart = opaque;

    pthread_mutex_lock(&uart->lock);
    if (uart->transmit.count) {
        transmit(uart);
        update_irq(uart);
    }
    pthread_mutex_unlock(&uart->lock);
}

static const struct char_frontend uart_frontend = {
    .can_receive = uart_can_receive,
    .receive = uart_receive,
    .writable = uart_writable,
};

/* From reset to reset (8.2): the divisor and the scratch register keep their contents. */
static void reset_registers(struct uart16550 *uart)
{
    fifo_clear(&uart->receive);
    fifo_clear(&uart->transmit);
    uart->ier = uart->fcr = uart->lcr = uart->mcr = 0;
    uart->overrun = false;
    uart->thr_interrupt = false;
    update_modem_inputs(uart);
    uart->msr &= ~MSR_DELTAS;
    restart_timeout(uart);
    update_irq(uart);
}

static void set_running(struct uart16550 *uart, bool running)
{
    pthread_mutex_lock(&uart->lock);
    uart->running = running;
    if (running)
        request_input(uart);
    pthread_mutex_unlock(&uart->lock);
}

static int uart_start(struct device *device, struct error *err)
{
    set_running(CONTAINER_OF(device, struct uart16550, device), true);
    return 0;
}

static void uart_pause(struct device *device)
{
    set_running(CONTAINER_OF(device, struct uart16550, device), false);
}

static void uart_resume(struct device *device)
{
    set_running(CONTAINER_OF(device, struct uart16550, device), true);
}

static void uart_reset(struct device *device)
{
    struct uart16550 *uart = CONTAINER_OF(device, struct uart16550, device);

    pthread_mutex_lock(&uart->lock);
    reset_registers(uart);
    pthread_mutex_unlock(&uart->lock);
}

static void uart_destroy(struct device *device)
{
    struct uart16550 *uart = CONTAINER_OF(device, struct uart16550, device);

    char_attach(uart->backend, NULL, NULL);
    timer_cancel_sync(&uart->timeout_timer);
    pthread_mutex_destroy(&uart->lock);
    free(uart);
}

static int uart_post_load(void *object, struct error *err)
{
    struct uart16550 *uart = object;

    if (uart->receive.head >= FIFO_SIZE || uart->receive.count > fifo_capacity(uart) ||
        uart->transmit.head >= FIFO_SIZE || uart->transmit.count > fifo_capacity(uart))
        return error_set(err, -EBADMSG, "serial port: impossible FIFO contents");
    uart->ier &= IER_MASK;
    uart->mcr &= MCR_MASK;
    if (uart->timeout_deadline)
        timer_set(&uart->timeout_timer, uart->timeout_deadline);
    else
        timer_cancel(&uart->timeout_timer);
    return 0;
}

static const struct state_field fifo_fields[] = {
    STATE_BYTES(struct fifo, data),
    STATE_INT(struct fifo, head),
    STATE_INT(struct fifo, count),
    STATE_END,
};

static const struct state_field uart_fields[] = {
    STATE_STRUCT(struct uart16550, receive, fifo_fields),
    STATE_STRUCT(struct uart16550, transmit, fifo_fields),
    STATE_INT(struct uart16550, ier),
    STATE_INT(struct uart16550, fcr),
    STATE_INT(struct uart16550, lcr),
    STATE_INT(struct uart16550, mcr),
    STATE_INT(struct uart16550, msr),
    STATE_INT(struct uart16550, scr),
    STATE_INT(struct uart16550, divisor),
    STATE_BOOL(struct uart16550, overrun),
    STATE_BOOL(struct uart16550, thr_interrupt),
    STATE_BOOL(struct uart16550, timeout_interrupt),
    STATE_INT(struct uart16550, timeout_deadline),
    STATE_END,
};

static const struct state_desc uart_state = {
    .name = "uart16550",
    .version = 1,
    .fields = uart_fields,
    .post_load = uart_post_load,
};

static const struct device_ops uart_ops = {
    .type = "uart16550",
    .start = uart_start,
    .pause = uart_pause,
    .resume = uart_resume,
    .reset = uart_reset,
    .destroy = uart_destroy,
    .state = &uart_state,
};

int uart16550_new(struct uart16550 **out, const char *name, struct clock *clock,
                  const struct irq_line *irq, struct char_backend *backend)
{
    struct uart16550 *uart = calloc(1, sizeof(*uart));

    if (!uart)
        return -ENOMEM;
    uart->device = (struct device){.ops = &uart_ops, .name = name, .state_object = uart};
    uart->region = (struct region){
        .name = name, .ops = &uart_region_ops, .opaque = uart, .size = REGISTER_COUNT};
    uart->irq = *irq;
    uart->backend = backend;
    uart->clock = clock;
    uart->divisor = 12; /* 9600 bit/s */
    timer_init(&uart->timeout_timer, clock, timeout_fire, uart);
    pthread_mutex_init(&uart->lock, NULL);
    char_attach(backend, &uart_frontend, uart);
    reset_registers(uart);
    *out = uart;
    return 0;
}

int uart16550_attach(struct uart16550 *uart, struct bus *bus, uint16_t port, struct error *err)
{
    return bus_add(bus, BUS_PORT, &uart->region, port, err);
}

struct device *uart16550_device(struct uart16550 *uart)
{
    return &uart->device;
}
