/*
 * The MC146818 real-time clock and its battery-backed memory (CMOS) at ports 0x70-0x71: 128 bytes,
 * Motorola MC146818A data sheet; the meaning of the bytes beyond 0x0d is the PC's.
 */
#ifndef SILL_DEV_LEGACY_MC146818_H
#define SILL_DEV_LEGACY_MC146818_H

#include "base/clock.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/device.h"

struct mc146818;

struct mc146818_config {
    struct clock *clock; /* when the next interrupt is due */
    /* ISA interrupt 8, by way of hpet_rtc_input() where there is an HPET. */
    struct irq_line irq;
    struct irq_line nmi_mask; /* port 0x70 bit 7: high while NMIs are masked; may be unconnected */
    int64_t utc_offset;       /* seconds that the guest's clock is ahead of UTC */
    /* Nanoseconds since 1970, UTC; NULL for the host's clock. */
    int64_t (*utc_now)(void *opaque);
    void *utc_opaque;
};

/* -ENOMEM. */
SILL_CHECKED int mc146818_new(struct mc146818 **out, const struct mc146818_config *config);
SILL_CHECKED int mc146818_attach(struct mc146818 *rtc, struct bus *bus, struct error *err);
struct device *mc146818_device(struct mc146818 *rtc);

/* A wire that is high while an alarm asks for an interrupt, besides that interrupt. While the board
 * is built. */
void mc146818_connect_alarm(struct mc146818 *rtc, const struct irq_line *alarm);

/* Sets byte `index`, 0x0e to 0x7f, of the memory (boot order, CPU count). Control thread. */
void mc146818_set_byte(struct mc146818 *rtc, uint8_t index, uint8_t value);
/* Fills in how firmware learns the memory sizes: `below` 4 GiB (from address 0 on) and `above` it,
 * in bytes. Bytes 0x15-0x18, 0x30-0x31, 0x34-0x35 and 0x5b-0x5d. Control thread. */
void mc146818_set_memory(struct mc146818 *rtc, uint64_t below, uint64_t above);

#endif
