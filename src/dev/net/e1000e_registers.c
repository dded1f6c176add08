/*
 * The registers of the 82574L: what there is, and what accesses do; see e1000e_internal.h.
 * Datasheet chapter 10. vCPU threads call by way of the regions.
 *
 * `registers` lists what there is: reset value and the bits that the driver may change. Most
 * registers are only kept; those that do something are in write_special() and read_special().
 */
#include "dev/net/e1000e_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* ---- the table ---- */

#define ALL 0xffffffffu

/* By offset. */
static const struct reg_info {
    uint16_t offset;
    uint16_t count; /* of consecutive registers */
    uint32_t reset;
    uint32_t writable;
} registers[] = {
    {CTRL, 1, CTRL_FD | CTRL_SLU | CTRL_SPEED_1000 | CTRL_ADVD3WUC,
     ALL & ~(CTRL_RST | CTRL_PHY_RST)},
    {STATUS, 1, STATUS_FD | STATUS_LU | STATUS_SPEED_1000, 0},
    {EECD, 1, EECD_GRANT | EECD_PRESENT | EECD_AUTO_READ_DONE, 0},
    {EERD, 1, 0, ALL},
    {CTRL_EXT, 1, 0, ALL & ~CTRL_EXT_EE_RST},
    {FLA, 1, 0, ALL},
    {MDIC, 1, MDIC_READY, ALL},
    {FCAL, 4, 0, ALL},
    {VET, 1, 0x8100, ALL},
    {ICR, 1, 0, ALL},
    {ITR, 1, 0, ITR_INTERVAL_MASK},
    {ICS, 1, 0, ALL},
    {IMS, 1, 0, CAUSES},
    {IMC, 1, 0, ALL},
    {EIAC, 1, 0, CAUSES},
    {IAM, 1, 0, ALL},
    {IVAR, 1, 0, 0x800fffff},
    {EITR, E1000E_VECTORS, 0, ITR_INTERVAL_MASK},
    {RCTL, 1, 0, ALL},
    {FCTTV, 1, 0, 0xffff},
    {TCTL, 1, 0x3003f0f8, ALL},
    {TIPG, 1, 0x00602006, ALL},
    {AIT, 1, 0, 0xffff},
    {LEDCTL, 1, 0x07068302, ALL},
    {EXTCNF_CTRL, 1, 0, ALL},
    {EXTCNF_SIZE, 1, 0, ALL},
    {PHY_CTRL, 1, 0, ALL},
    {PBA, 1, PBA_RESET, ALL},
    {PBS, 1, 0, ALL},
    {EEMNGCTL, 1, EEMNGCTL_CFG_DONE, 0},
    {PBA_ECC, 1, 0, ALL},
    {FCRTL, 1, 0, ALL},
    {FCRTH, 1, 0, ALL},
    {PSRCTL, 1, 0x00040402, 0x3f3f3f7f},
    {RDBAL, 1, 0, ~0xfu},
    {RDBAH, 1, 0, ALL},
    {RDLEN, 1, 0, 0xfff80},
    {RDH, 1, 0, 0xffff},
    {RDT, 1, 0, 0xffff},
    {RDTR, 1, 0, 0xffff},
    {RXDCTL, 1, 0x01000000, ALL},
    {RADV, 1, 0, 0xffff},
    {RDBAL + E1000E_QUEUE_STRIDE, 1, 0, ~0xfu},
    {RDBAH + E1000E_QUEUE_STRIDE, 1, 0, ALL},
    {RDLEN + E1000E_QUEUE_STRIDE, 1, 0, 0xfff80},
    {RDH + E1000E_QUEUE_STRIDE, 1, 0, 0xffff},
    {RDT + E1000E_QUEUE_STRIDE, 1, 0, 0xffff},
    {RXDCTL + E1000E_QUEUE_STRIDE, 1, 0x01000000, ALL},
    {RSRPD, 1, 0, 0xfff},
    {RAID, 1, 0, 0xffff},
    {CPUVEC, 1, 0, ALL},
    {TDBAL, 1, 0, ~0xfu},
    {TDBAH, 1, 0, ALL},
    {TDLEN, 1, 0, 0xfff80},
    {TDH, 1, 0, 0xffff},
    {TDT, 1, 0, 0xffff},
    {TIDV, 1, 0, 0xffff},
    {TXDCTL, 1, 0x01000000, ALL},
    {TADV, 1, 0, 0xffff},
    {TARC, 1, 0x00000403, ALL},
    {TDBAL + E1000E_QUEUE_STRIDE, 1, 0, ~0xfu},
    {TDBAH + E1000E_QUEUE_STRIDE, 1, 0, ALL},
    {TDLEN + E1000E_QUEUE_STRIDE, 1, 0, 0xfff80},
    {TDH + E1000E_QUEUE_STRIDE, 1, 0, 0xffff},
    {TDT + E1000E_QUEUE_STRIDE, 1, 0, 0xffff},
    {TXDCTL + E1000E_QUEUE_STRIDE, 1, 0x01000000, ALL},
    {TARC + E1000E_QUEUE_STRIDE, 1, 0x00000403, ALL},
    {STATISTICS, (STATISTICS_END - STATISTICS) / 4, 0, 0},
    {RXCSUM, 1, 0, 0x33ff},
    {RFCTL, 1, 0, ALL},
    {MTA, 128, 0, ALL},
    {RAL, 2 * RA_COUNT, 0, ALL},
    {VFTA, 128, 0, ALL},
    {WUC, 1, 0, ALL},
    {WUFC, 1, 0, ALL},
    {WUS, 1, 0, ALL},
    {MRQC, 1, 0, ALL},
    {MANC, 1, 0, ALL},
    {IPAV, 1, 0, ALL},
    {MANC2H, 1, 0, ALL},
    {GCR, 1, 1u << 23, ALL},
    {FUNCTAG, 1, 0, ALL},
    {GSCL, 4, 0, ALL},
    {FACTPS, 1, 0, 0},
    {SWSM, 1, 0, ALL},
    {FWSM, 1, 0, 0},
    {SWSM2, 1, 0, ALL},
    {GCR2, 1, 0, ALL},
    {RETA, 32, 0, ALL},
    {RSSRK, 10, 0, ALL},
    {SYSTIML, 2, 0, ALL},
    {TIMINCA, 1, 0, ALL},
    {TIMADJL, 2, 0, ALL},
    {TSYNCTXCTL, 1, 0, ALL},
    {TXSTMPL, 2, 0, 0},
    {TSYNCRXCTL, 1, 0, ALL},
    {RXSTMPL, 2, 0, 0},
    {RXCFGL, 2, 0, ALL},
};

static int compare_offset(const void *key, const void *entry)
{
    unsigned offset = *(const unsigned *)key;
    const struct reg_info *info = entry;

    if (offset < info->offset)
        return -1;
    return offset >= info->offset + 4u * info->count;
}

static const struct reg_info *find(unsigned offset)
{
    return bsearch(&offset, registers, ARRAY_SIZE(registers), sizeof(registers[0]), compare_offset);
}

/* ---- what the other files share: statistics, descriptors ---- */

void e1000e_count(struct e1000e *dev, unsigned offset)
{
    uint32_t value = e1000e_get(dev, offset);

    e1000e_set(dev, offset, value + (value != UINT32_MAX));
}

void e1000e_count64(struct e1000e *dev, unsigned low, uint64_t by)
{
    uint64_t value = (uint64_t)e1000e_get(dev, low + 4) << 32 | e1000e_get(dev, low);

    value = value > UINT64_MAX - by ? UINT64_MAX : value + by;
    e1000e_set(dev, low, (uint32_t)value);
    e1000e_set(dev, low + 4, (uint32_t)(value >> 32));
}

void e1000e_store_status(struct e1000e *dev, gpa_t gpa, uint8_t status)
{
    uint8_t *host = memory_host(dev->memory, gpa, sizeof(status), true);

    if (!host)
        return;
    __atomic_store_n(host, status, __ATOMIC_RELEASE);
    memory_mark_written(dev->memory, gpa, sizeof(status));
}

/* ---- time stamps, 10.2.9: SYSTIM grows by a value at each period of 40 ns clock ticks ---- */

#define SYSTIM_TICK_NS 40
#define TIMINCA_VALUE_MASK 0xffffffu
#define TIMINCA_PERIOD_SHIFT 24

static uint64_t systim(struct e1000e *dev)
{
    uint32_t timinca = e1000e_get(dev, TIMINCA);
    uint64_t period = (uint64_t)(timinca >> TIMINCA_PERIOD_SHIFT) * SYSTIM_TICK_NS;

    if (!period)
        return dev->systim_base;
    uint64_t periods = (clock_now(dev->clock) - dev->systim_since) / period;
    return dev->systim_base + periods * (timinca & TIMINCA_VALUE_MASK);
}

static void set_systim(struct e1000e *dev, uint64_t value)
{
    dev->systim_base = value;
    dev->systim_since = clock_now(dev->clock);
}

/* ---- reset ---- */

/* 4.6: everything but PCI configuration and what the NVM loads. */
void e1000e_registers_reset(struct e1000e *dev)
{
    for (size_t i = 0; i < ARRAY_SIZE(registers); i++) {
        for (unsigned n = 0; n < registers[i].count; n++)
            e1000e_set(dev, registers[i].offset + 4 * n, registers[i].reset);
    }
    e1000e_set(dev, RAL, dev->nvm[0] | (uint32_t)dev->nvm[1] << 16);
    e1000e_set(dev, RAH, dev->nvm[2] | RAH_VALID);
    memset(dev->context, 0, sizeof(dev->context));
    memset(dev->quiet_until, 0, sizeof(dev->quiet_until));
    set_systim(dev, 0);
    dev->epoch++;
    timer_cancel(&dev->moderation);
    e1000e_irq_update(dev);
}

/* ---- restoring ---- */

void e1000e_registers_loaded(struct e1000e *dev)
{
    for (unsigned offset = 0; offset < E1000E_REGISTERS_END; offset += 4) {
        const struct reg_info *info = find(offset);
        bool counter = offset >= STATISTICS && offset < STATISTICS_END;
        if (!counter)
            e1000e_set(dev, offset,
                       info ? (e1000e_get(dev, offset) & info->writable) |
                                  (info->reset & ~info->writable)
                            : 0);
    }
}

/* ---- access ---- */

/* True: *value is the answer. */
static bool read_special(struct e1000e *dev, unsigned offset, uint32_t *value)
{
    switch (offset) {
    case STATUS:
        /* Nothing is under way when the driver gets to look: masters stop at once. */
        *value = e1000e_get(dev, STATUS);
        if (!(e1000e_get(dev, CTRL) & CTRL_GIO_MASTER_DISABLE))
            *value |= STATUS_GIO_MASTER;
        return true;
    case ICR:
        *value = e1000e_icr_read(dev);
        return true;
    case ICS:
        *value = e1000e_get(dev, ICR);
        return true;
    case IMC:
        *value = e1000e_get(dev, IMS);
        return true;
    case SYSTIML:
        *value = (uint32_t)systim(dev);
        return true;
    case SYSTIMH:
        *value = (uint32_t)(systim(dev) >> 32);
        return true;
    default:
        return false;
    }
}

static uint32_t reg_read(struct e1000e *dev, unsigned offset)
{
    uint32_t value;

    if (!find(offset)) {
        log_guest(dev->pci.dev.name, "read of register 0x%x, which does not exist", offset);
        return 0;
    }
    if (read_special(dev, offset, &value))
        return value;
    value = e1000e_get(dev, offset);
    if (offset >= STATISTICS && offset < STATISTICS_END)
        e1000e_set(dev, offset, 0);
    return value;
}

/* Registers that are more than kept. True: nothing is left to be done. */
static bool write_special(struct e1000e *dev, unsigned offset, uint32_t value)
{
    switch (offset) {
    case CTRL:
        if (value & CTRL_PHY_RST)
            e1000e_phy_reset(dev);
        if (!(value & CTRL_RST))
            return false;
        e1000e_registers_reset(dev);
        return true;
    case EERD:
        e1000e_set(dev, EERD, e1000e_eerd(dev, value));
        return true;
    case MDIC:
        e1000e_mdic_write(dev, value);
        return true;
    case ICR:
        e1000e_set(dev, ICR, e1000e_get(dev, ICR) & ~value);
        return true;
    case ICS:
        e1000e_raise(dev, value);
        return true;
    case IMS:
        e1000e_set(dev, IMS, e1000e_get(dev, IMS) | (value & CAUSES));
        return true;
    case IMC:
        e1000e_set(dev, IMS, e1000e_get(dev, IMS) & ~value);
        return true;
    case SYSTIML:
        set_systim(dev, (systim(dev) & ~0xffffffffull) | value);
        return true;
    case SYSTIMH:
        set_systim(dev, (systim(dev) & 0xffffffffull) | (uint64_t)value << 32);
        return true;
    case TIMINCA:
        set_systim(dev, systim(dev));
        return false;
    default:
        return false;
    }
}

static bool moves_transmit_ring(unsigned offset)
{
    unsigned in_queue = offset % E1000E_QUEUE_STRIDE;

    return offset >= TDBAL && offset < TDBAL + E1000E_QUEUES * E1000E_QUEUE_STRIDE &&
           in_queue <= TDH % E1000E_QUEUE_STRIDE;
}

/* What the write set going. Returns whether the backend may find room now. */
static bool after_write(struct e1000e *dev, unsigned offset)
{
    switch (offset) {
    case TDT:
    case TDT + E1000E_QUEUE_STRIDE:
    case TCTL:
        e1000e_tx_kick(dev);
        return false;
    case CTRL:
        e1000e_access_changed(dev);
        return true; /* after a reset nobody listens, and what waits can be dropped */
    case RDT:
    case RCTL:
        return true;
    case CTRL_EXT:
    case ICR:
    case IMS:
    case IMC:
    case IVAR:
        e1000e_irq_update(dev);
        return false;
    default:
        if (moves_transmit_ring(offset))
            dev->epoch++;
        return false;
    }
}

static void reg_write(struct e1000e *dev, unsigned offset, uint32_t value)
{
    const struct reg_info *info = find(offset);
    bool ready = false;

    pthread_mutex_lock(&dev->lock);
    if (!info) {
        log_guest(dev->pci.dev.name, "write to register 0x%x, which does not exist", offset);
    } else {
        if (!write_special(dev, offset, value))
            e1000e_set(dev, offset,
                       (e1000e_get(dev, offset) & ~info->writable) | (value & info->writable));
        ready = after_write(dev, offset);
    }
    pthread_mutex_unlock(&dev->lock);
    if (ready)
        net_receive_ready(dev->backend);
}

static enum bus_result registers_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct e1000e *dev = opaque;

    if (offset % 4)
        return BUS_ERROR;
    pthread_mutex_lock(&dev->lock);
    *value = reg_read(dev, (unsigned)offset);
    pthread_mutex_unlock(&dev->lock);
    return BUS_OK;
}

static enum bus_result registers_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset % 4)
        return BUS_ERROR;
    reg_write(opaque, (unsigned)offset, (uint32_t)value);
    return BUS_OK;
}

const struct region_ops e1000e_registers_ops = {
    .read = registers_read,
    .write = registers_write,
    .min_size = 4,
    .max_size = 4,
};

/* The window in I/O space, 10.1.2: an address, and the register there. */
enum io_register { IO_ADDRESS = 0, IO_DATA = 4 };

static enum bus_result io_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct e1000e *dev = opaque;

    pthread_mutex_lock(&dev->lock);
    uint32_t address = dev->io_address;
    *value = address;
    if (offset == IO_DATA)
        *value = address < E1000E_BAR_SIZE && !(address % 4) ? reg_read(dev, address) : 0;
    pthread_mutex_unlock(&dev->lock);
    return offset == IO_ADDRESS || offset == IO_DATA ? BUS_OK : BUS_UNHANDLED;
}

static enum bus_result io_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct e1000e *dev = opaque;

    pthread_mutex_lock(&dev->lock);
    uint32_t address = dev->io_address;
    if (offset == IO_ADDRESS)
        dev->io_address = (uint32_t)value;
    pthread_mutex_unlock(&dev->lock);
    if (offset == IO_DATA && address < E1000E_BAR_SIZE && !(address % 4))
        reg_write(dev, address, (uint32_t)value);
    return offset == IO_ADDRESS || offset == IO_DATA ? BUS_OK : BUS_UNHANDLED;
}

const struct region_ops e1000e_io_ops = {
    .read = io_read,
    .write = io_write,
    .min_size = 4,
    .max_size = 4,
};
