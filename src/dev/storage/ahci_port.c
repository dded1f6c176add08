/* Registers and link of an AHCI port: AHCI 1.3.1, 3.3 and chapter 10. */
#include "dev/storage/ahci_internal.h"

static uint32_t interrupt_status(const struct ahci_port *port)
{
    return port->is | (port->serr & SERR_EXCHANGED ? IS_CONNECT_CHANGE : 0);
}

static uint32_t command_register(const struct ahci_port *port)
{
    uint32_t value = port->cmd | CMD_SPIN_UP | CMD_POWER_ON;

    if (port->cmd & CMD_START)
        value |= CMD_LIST_RUNNING | (uint32_t)port->current_slot << CMD_SLOT_SHIFT;
    if (port->cmd & CMD_FIS_RECEIVE)
        value |= CMD_FIS_RUNNING;
    return value;
}

static bool link_up(const struct ahci_port *port)
{
    uint32_t det = port->sctl & SCTL_DET;

    return port->present && det != SCTL_DET_RESET && det != SCTL_DET_OFF;
}

uint32_t ahci_port_read(struct ahci_port *port, unsigned offset)
{
    switch (offset) {
    case PORT_CLB:
        return (uint32_t)port->clb;
    case PORT_CLBU:
        return (uint32_t)(port->clb >> 32);
    case PORT_FB:
        return (uint32_t)port->fb;
    case PORT_FBU:
        return (uint32_t)(port->fb >> 32);
    case PORT_IS:
        return interrupt_status(port);
    case PORT_IE:
        return port->ie;
    case PORT_CMD:
        return command_register(port);
    case PORT_TFD:
        return port->tfd;
    case PORT_SIG:
        return port->sig;
    case PORT_SSTS:
        return link_up(port) ? SSTS_GEN3_ACTIVE : 0;
    case PORT_SCTL:
        return port->sctl;
    case PORT_SERR:
        return port->serr;
    case PORT_SACT:
        return port->sact;
    case PORT_CI:
        return port->ci;
    }
    return 0;
}

/* What no longer is to be done when ST is cleared: 10.3.2. */
static void stop(struct ahci_port *port)
{
    ata_queue_drain(&port->queue);
    port->ci = port->sact = 0;
    port->current_slot = 0;
    port->halted = false;
}

static void write_command(struct ahci_port *port, uint32_t value)
{
    uint32_t before = port->cmd;

    port->cmd = value & CMD_WRITE_MASK;
    if (value & CMD_COMMAND_LIST_OVERRIDE)
        port->tfd &= ~(ATA_STATUS_BSY | ATA_STATUS_DRQ);
    if (before & ~port->cmd & CMD_START)
        stop(port);
    if (port->signature_ready && port->cmd & CMD_FIS_RECEIVE)
        ahci_port_send_signature(port);
    ahci_port_start_commands(port);
}

void ahci_port_link_reset(struct ahci_port *port)
{
    port->soft_reset = false;
    port->halted = false;
    port->ci = port->sact = 0;
    port->tfd = TFD_NO_DEVICE;
    port->sig = SIG_NONE;
    port->signature_ready = false;
    if (!link_up(port))
        return;
    ata_drive_reset(&port->drive);
    port->serr |= SERR_EXCHANGED;
    ahci_port_send_signature(port);
}

/* DET = 1 holds the link in reset; COMRESET ends, and the drive answers, when it goes. 10.4.2 */
static void write_control(struct ahci_port *port, uint32_t value)
{
    bool was_up = link_up(port);

    port->sctl = value & SCTL_MASK;
    if (was_up != link_up(port)) {
        ata_queue_drain(&port->queue);
        ahci_port_link_reset(port);
        ahci_port_interrupt(port, 0);
    }
}

static void set_low(uint64_t *address, uint32_t value)
{
    *address = (*address & ~0xffffffffull) | value;
}

static void set_high(uint64_t *address, uint32_t value)
{
    *address = (*address & 0xffffffffull) | (uint64_t)value << 32;
}

void ahci_port_write(struct ahci_port *port, unsigned offset, uint32_t value)
{
    switch (offset) {
    case PORT_CLB:
        set_low(&port->clb, value & CLB_MASK);
        break;
    case PORT_CLBU:
        set_high(&port->clb, value);
        break;
    case PORT_FB:
        set_low(&port->fb, value & FB_MASK);
        break;
    case PORT_FBU:
        set_high(&port->fb, value);
        break;
    case PORT_IS:
        port->is &= ~(value & IS_WRITE_1_CLEAR);
        ahci_port_interrupt(port, 0);
        break;
    case PORT_IE:
        port->ie = value & IE_MASK;
        ahci_port_interrupt(port, 0);
        break;
    case PORT_CMD:
        write_command(port, value);
        break;
    case PORT_SCTL:
        write_control(port, value);
        break;
    case PORT_SERR:
        port->serr &= ~value;
        ahci_port_interrupt(port, 0);
        break;
    case PORT_SACT:
        if (port->cmd & CMD_START)
            port->sact |= value;
        break;
    case PORT_CI:
        if (port->cmd & CMD_START)
            port->ci |= value;
        ahci_port_start_commands(port);
        break;
    }
}

void ahci_port_reset(struct ahci_port *port)
{
    port->is = port->ie = port->cmd = port->sctl = port->serr = 0;
    port->current_slot = 0;
    ahci_port_link_reset(port);
}

const struct state_field ahci_port_fields[] = {
    STATE_STRUCT(struct ahci_port, drive, ata_drive_fields),
    STATE_INT(struct ahci_port, clb),
    STATE_INT(struct ahci_port, fb),
    STATE_INT(struct ahci_port, is),
    STATE_INT(struct ahci_port, ie),
    STATE_INT(struct ahci_port, cmd),
    STATE_INT(struct ahci_port, tfd),
    STATE_INT(struct ahci_port, sig),
    STATE_INT(struct ahci_port, sctl),
    STATE_INT(struct ahci_port, serr),
    STATE_INT(struct ahci_port, sact),
    STATE_INT(struct ahci_port, ci),
    STATE_INT(struct ahci_port, current_slot),
    STATE_BOOL(struct ahci_port, halted),
    STATE_BOOL(struct ahci_port, soft_reset),
    STATE_BOOL(struct ahci_port, signature_ready),
    STATE_END,
};
