/*
 * The registers of the xHCI controller, chapter 5, and its extended capabilities, 7.2. vCPU
 * threads; the lock is taken here. Registers are 32 bits wide; the bus makes two accesses of one of
 * 64 bits, the lower half first, as a driver may.
 */
#include "dev/usb/xhci_internal.h"

/* ---- capabilities ---- */

static uint32_t read_capability(unsigned offset)
{
    switch (offset) {
    case CAPLENGTH_VERSION:
        return XHCI_OPERATIONAL | XHCI_VERSION << 16;
    case HCSPARAMS1:
        return XHCI_SLOTS | XHCI_INTERRUPTERS << HCSPARAMS1_INTERRUPTERS_SHIFT |
               XHCI_PORTS << HCSPARAMS1_PORTS_SHIFT;
    case HCSPARAMS2:
        return HCSPARAMS2_IST | XHCI_ERST_LOG2 << HCSPARAMS2_ERST_SHIFT;
    case HCCPARAMS1:
        return HCCPARAMS1_64_BIT | XHCI_EXTENDED / 4u << HCCPARAMS1_EXTENDED_SHIFT;
    case DBOFF:
        return XHCI_DOORBELLS;
    case RTSOFF:
        return XHCI_RUNTIME;
    }
    return 0;
}

/* Which ports speak which protocol: two capabilities of four words. */
static uint32_t read_extended(unsigned offset)
{
    static const struct {
        unsigned major, first, count, next;
    } protocols[] = {
        {2, 1, XHCI_USB2_PORTS, PROTOCOL_SIZE / 4},
        {3, 1 + XHCI_USB2_PORTS, XHCI_USB3_PORTS, 0},
    };

    if (offset / PROTOCOL_SIZE >= ARRAY_SIZE(protocols))
        return 0;
    unsigned index = offset / PROTOCOL_SIZE;
    switch (offset % PROTOCOL_SIZE) {
    case 0x0:
        return EXTENDED_PROTOCOL | protocols[index].next << EXTENDED_NEXT_SHIFT |
               protocols[index].major << PROTOCOL_MAJOR_SHIFT;
    case 0x4:
        return PROTOCOL_NAME;
    case 0x8:
        return protocols[index].first | protocols[index].count << PROTOCOL_COUNT_SHIFT;
    }
    return 0;
}

/* ---- operational ---- */

static void set_low(uint64_t *reg, uint32_t value)
{
    *reg = (*reg & ~(uint64_t)UINT32_MAX) | value;
}

static void set_high(uint64_t *reg, uint32_t value)
{
    *reg = (uint32_t)*reg | (uint64_t)value << 32;
}

static uint32_t read_operational(const struct xhci *xhci, unsigned offset)
{
    switch (offset) {
    case USBCMD:
        return xhci->usbcmd;
    case USBSTS:
        return xhci->usbsts | (xhci->usbcmd & USBCMD_RUN ? 0 : USBSTS_HALTED);
    case PAGESIZE:
        return PAGESIZE_4K;
    case DNCTRL:
        return xhci->dnctrl;
    case CRCR: /* the pointer cannot be read */
        return xhci->command_running ? CRCR_RUNNING : 0;
    case DCBAAP:
        return (uint32_t)xhci->dcbaap;
    case DCBAAP + 4:
        return (uint32_t)(xhci->dcbaap >> 32);
    case CONFIG:
        return xhci->config;
    }
    return 0;
}

static void write_command(struct xhci *xhci, uint32_t value)
{
    if (value & USBCMD_RESET) {
        xhci_reset_controller(xhci);
        return;
    }
    /* Nothing was saved. */
    if (value & USBCMD_RESTORE)
        xhci->usbsts |= USBSTS_RESTORE_ERROR;
    /* 5.4.1.1: with a host system error the driver has to reset the controller first. */
    if (xhci->usbsts & USBSTS_HOST_ERROR)
        value &= ~USBCMD_RUN;
    xhci->usbcmd = value & USBCMD_KEPT;
    if (!(value & USBCMD_RUN))
        xhci->command_running = false;
    xhci_interrupts_update(xhci);
    xhci_go_on(xhci);
}

/* 5.4.5: the pointer moves only while the ring stands. */
static void write_command_ring(struct xhci *xhci, unsigned offset, uint32_t value)
{
    if (offset == CRCR && value & (CRCR_STOP | CRCR_ABORT))
        xhci_commands_stop(xhci);
    if (xhci->command_running)
        return;
    if (offset == CRCR) {
        xhci->command.cycle = value & CRCR_CYCLE;
        set_low(&xhci->command.dequeue, value & (uint32_t)ERSTBA_MASK);
    } else {
        set_high(&xhci->command.dequeue, value);
    }
}

static void write_operational(struct xhci *xhci, unsigned offset, uint32_t value)
{
    switch (offset) {
    case USBCMD:
        write_command(xhci, value);
        break;
    case USBSTS:
        xhci->usbsts &= ~(value & USBSTS_CLEAR);
        break;
    case DNCTRL:
        xhci->dnctrl = value & DNCTRL_MASK;
        break;
    case CRCR:
    case CRCR + 4:
        write_command_ring(xhci, offset, value);
        break;
    case DCBAAP:
        set_low(&xhci->dcbaap, value & (uint32_t)ERSTBA_MASK);
        break;
    case DCBAAP + 4:
        set_high(&xhci->dcbaap, value);
        break;
    case CONFIG:
        xhci->config = value & CONFIG_SLOTS;
        break;
    }
}

/* ---- runtime ---- */

static uint32_t read_runtime(struct xhci *xhci, unsigned offset)
{
    return offset == MFINDEX ? (uint32_t)(clock_now(xhci->clock) / MFINDEX_NS) & MFINDEX_MASK : 0;
}

static uint32_t read_interrupter(const struct xhci_interrupter *interrupter, unsigned offset)
{
    switch (offset) {
    case IMAN:
        return interrupter->iman;
    case IMOD:
        return interrupter->imod;
    case ERSTSZ:
        return interrupter->erstsz;
    case ERSTBA:
        return (uint32_t)interrupter->erstba;
    case ERSTBA + 4:
        return (uint32_t)(interrupter->erstba >> 32);
    case ERDP:
        return (uint32_t)interrupter->erdp;
    case ERDP + 4:
        return (uint32_t)(interrupter->erdp >> 32);
    }
    return 0;
}

static void write_interrupter(struct xhci *xhci, unsigned number, unsigned offset, uint32_t value)
{
    struct xhci_interrupter *interrupter = &xhci->interrupter[number];
    uint32_t busy = interrupter->erdp & ERDP_BUSY;

    switch (offset) {
    case IMAN:
        interrupter->iman = (interrupter->iman & IMAN_PENDING & ~value) | (value & IMAN_ENABLE);
        xhci_interrupts_update(xhci);
        break;
    case IMOD:
        interrupter->imod = value;
        break;
    case ERSTSZ:
        interrupter->erstsz = value & ERSTSZ_MASK;
        break;
    case ERSTBA:
        set_low(&interrupter->erstba, value & (uint32_t)ERSTBA_MASK);
        xhci_event_ring_moved(xhci, number);
        break;
    case ERSTBA + 4:
        set_high(&interrupter->erstba, value);
        xhci_event_ring_moved(xhci, number);
        break;
    case ERDP:
        set_low(&interrupter->erdp, (value & ~ERDP_BUSY) | busy);
        xhci_events_taken(xhci, number, value & ERDP_BUSY);
        xhci_go_on(xhci);
        break;
    case ERDP + 4:
        set_high(&interrupter->erdp, value);
        xhci_events_taken(xhci, number, false);
        xhci_go_on(xhci);
        break;
    }
}

/* ---- doorbells ---- */

static void ring(struct xhci *xhci, unsigned index, uint32_t value)
{
    unsigned target = value & DOORBELL_TARGET;

    if (!xhci_is_live(xhci))
        return;
    if (index == 0 && target == 0) {
        xhci->command_running = true;
        xhci_commands_run(xhci);
    } else if (index >= 1 && index <= XHCI_SLOTS && target >= 1 && target <= CONTEXT_ENDPOINTS) {
        xhci_endpoint_ring(xhci, index, target);
    }
}

/* ---- the region ---- */

static uint32_t read_register(struct xhci *xhci, unsigned offset)
{
    if (offset >= XHCI_DOORBELLS)
        return 0;
    if (offset >= XHCI_INTERRUPTERS_BASE) {
        offset -= XHCI_INTERRUPTERS_BASE;
        if (offset / XHCI_INTERRUPTER_SIZE >= XHCI_INTERRUPTERS)
            return 0;
        return read_interrupter(&xhci->interrupter[offset / XHCI_INTERRUPTER_SIZE],
                                offset % XHCI_INTERRUPTER_SIZE);
    }
    if (offset >= XHCI_RUNTIME)
        return read_runtime(xhci, offset - XHCI_RUNTIME);
    if (offset >= XHCI_EXTENDED)
        return read_extended(offset - XHCI_EXTENDED);
    if (offset >= XHCI_PORTS_BASE) {
        offset -= XHCI_PORTS_BASE;
        if (offset / XHCI_PORT_SIZE >= XHCI_PORTS)
            return 0;
        return xhci_port_read(&xhci->port[offset / XHCI_PORT_SIZE], offset % XHCI_PORT_SIZE);
    }
    if (offset >= XHCI_OPERATIONAL)
        return read_operational(xhci, offset - XHCI_OPERATIONAL);
    return read_capability(offset);
}

static void write_register(struct xhci *xhci, unsigned offset, uint32_t value)
{
    if (offset >= XHCI_DOORBELLS) {
        ring(xhci, (offset - XHCI_DOORBELLS) / 4, value);
    } else if (offset >= XHCI_INTERRUPTERS_BASE) {
        offset -= XHCI_INTERRUPTERS_BASE;
        if (offset / XHCI_INTERRUPTER_SIZE < XHCI_INTERRUPTERS)
            write_interrupter(xhci, offset / XHCI_INTERRUPTER_SIZE, offset % XHCI_INTERRUPTER_SIZE,
                              value);
    } else if (offset >= XHCI_PORTS_BASE && offset < XHCI_EXTENDED) {
        offset -= XHCI_PORTS_BASE;
        if (offset / XHCI_PORT_SIZE < XHCI_PORTS)
            xhci_port_write(&xhci->port[offset / XHCI_PORT_SIZE], offset % XHCI_PORT_SIZE, value);
    } else if (offset >= XHCI_OPERATIONAL && offset < XHCI_PORTS_BASE) {
        write_operational(xhci, offset - XHCI_OPERATIONAL, value);
    }
}

static enum bus_result region_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct xhci *xhci = opaque;

    if (offset % 4)
        return BUS_ERROR;
    pthread_mutex_lock(&xhci->lock);
    *value = read_register(xhci, (unsigned)offset);
    pthread_mutex_unlock(&xhci->lock);
    return BUS_OK;
}

static enum bus_result region_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct xhci *xhci = opaque;

    if (offset % 4)
        return BUS_ERROR;
    pthread_mutex_lock(&xhci->lock);
    write_register(xhci, (unsigned)offset, (uint32_t)value);
    pthread_mutex_unlock(&xhci->lock);
    return BUS_OK;
}

const struct region_ops xhci_region_ops = {
    .read = region_read,
    .write = region_write,
    .min_size = 4,
    .max_size = 4,
};
