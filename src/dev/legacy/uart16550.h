/*
 * The 16550A serial port: eight registers, 16-byte FIFOs in both directions. National Semiconductor
 * PC16550D data sheet.
 *
 * Transmission takes no time: bytes go to the back end at once. Reception is paced by the back end
 * and by room in the FIFO, so nothing overruns; only the character time-out follows the programmed
 * line speed.
 */
#ifndef SILL_DEV_LEGACY_UART16550_H
#define SILL_DEV_LEGACY_UART16550_H

#include "base/chardev.h"
#include "base/clock.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/device.h"

struct uart16550;

/* `name` ("serial0") outlives the device; `backend` may be NULL. -ENOMEM. */
SILL_CHECKED int uart16550_new(struct uart16550 **out, const char *name, struct clock *clock,
                               const struct irq_line *irq, struct char_backend *backend);
/* COM1 is 0x3f8 with ISA interrupt 4, COM2 0x2f8 with 3. */
SILL_CHECKED int uart16550_attach(struct uart16550 *uart, struct bus *bus, uint16_t port,
                                  struct error *err);
struct device *uart16550_device(struct uart16550 *uart);

#endif
