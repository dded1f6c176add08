/*
 * What the tests of device cores share: a bus, a manual clock, and a box of interrupt lines that
 * remember what was driven.
 */
#ifndef SILL_TESTS_UNIT_DEVICE_RIG_H
#define SILL_TESTS_UNIT_DEVICE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "state_rig.h"

#define RIG_LINES 32

struct device_rig {
    struct bus bus;
    struct clock *clock;
    bool level[RIG_LINES];
    unsigned rises[RIG_LINES]; /* rising edges since the test last cleared it */
};

static inline void rig_init(struct device_rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    bus_init(&rig->bus);
    assert_int_equal(clock_new_manual(&rig->clock), 0);
}

static inline void rig_done(struct device_rig *rig)
{
    clock_free(rig->clock);
    bus_done(&rig->bus);
}

static inline void rig_set_line(void *opaque, unsigned input, bool level)
{
    struct device_rig *rig = opaque;

    rig->rises[input] += level && !rig->level[input];
    rig->level[input] = level;
}

static inline struct irq_line rig_line(struct device_rig *rig, unsigned number)
{
    return (struct irq_line){.set = rig_set_line, .opaque = rig, .input = number};
}

static inline uint64_t rig_read(struct device_rig *rig, enum bus_space space, uint64_t address,
                                unsigned size)
{
    uint64_t value;

    bus_read(&rig->bus, space, address, size, &value);
    return value;
}

static inline void outb(struct device_rig *rig, uint16_t port, uint8_t value)
{
    bus_write(&rig->bus, BUS_PORT, port, 1, value);
}

static inline uint8_t inb(struct device_rig *rig, uint16_t port)
{
    return rig_read(rig, BUS_PORT, port, 1);
}

static inline void outw(struct device_rig *rig, uint16_t port, uint16_t value)
{
    bus_write(&rig->bus, BUS_PORT, port, 2, value);
}

static inline uint16_t inw(struct device_rig *rig, uint16_t port)
{
    return rig_read(rig, BUS_PORT, port, 2);
}

static inline void outl(struct device_rig *rig, uint16_t port, uint32_t value)
{
    bus_write(&rig->bus, BUS_PORT, port, 4, value);
}

static inline uint32_t inl(struct device_rig *rig, uint16_t port)
{
    return rig_read(rig, BUS_PORT, port, 4);
}

static inline void mmio_write(struct device_rig *rig, gpa_t gpa, unsigned size, uint64_t value)
{
    bus_write(&rig->bus, BUS_MMIO, gpa, size, value);
}

static inline uint64_t mmio_read(struct device_rig *rig, gpa_t gpa, unsigned size)
{
    return rig_read(rig, BUS_MMIO, gpa, size);
}

#endif
