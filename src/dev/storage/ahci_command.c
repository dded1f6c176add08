/*
 * Command slots of an AHCI port: from the command list in guest memory to a job of the drive, and
 * from its end to the frames that the drive sends. AHCI 1.3.1, chapters 4 and 5.
 */
#include "dev/storage/ahci_internal.h"

#include <errno.h>
#include <string.h>

/* ---- frames from the drive ---- */

static void receive_fis(struct ahci_port *port, unsigned offset, const uint8_t *fis, size_t size)
{
    if (!(port->cmd & CMD_FIS_RECEIVE))
        return;
    /* A place that is no memory swallows the frame. */
    if (memory_write(port->ahci->pci.bus->memory, port->fb + offset, fis, size))
        ahci_port_interrupt(port, IS_HOST_BUS_FATAL);
}

/* The registers as the D2H register and PIO setup frames have them: SATA 3.x, 10.5.6, 10.5.11. */
static void put_registers(uint8_t fis[FIS_SIZE], const struct ata_registers *regs)
{
    fis[2] = regs->status;
    fis[3] = regs->error;
    for (unsigned i = 0; i < 3; i++) {
        fis[4 + i] = (uint8_t)(regs->lba >> 8 * i);
        fis[8 + i] = (uint8_t)(regs->lba >> (24 + 8 * i));
    }
    fis[7] = regs->device;
    fis[12] = (uint8_t)regs->count;
    fis[13] = (uint8_t)(regs->count >> 8);
}

static void set_tfd(struct ahci_port *port, const struct ata_registers *regs)
{
    port->tfd = regs->status | (uint32_t)regs->error << 8;
}

static void send_d2h(struct ahci_port *port, const struct ata_registers *regs, bool interrupt)
{
    uint8_t fis[FIS_SIZE] = {FIS_D2H, interrupt ? FIS_INTERRUPT : 0};

    put_registers(fis, regs);
    receive_fis(port, RFIS_D2H, fis, sizeof(fis));
    set_tfd(port, regs);
}

static void send_pio_setup(struct ahci_port *port, const struct ata_registers *regs,
                           uint32_t length)
{
    uint8_t fis[FIS_SIZE] = {FIS_PIO_SETUP, FIS_INTERRUPT | FIS_TO_HOST};

    put_registers(fis, regs);
    fis[2] = ATA_STATUS_DRDY | ATA_STATUS_DSC | ATA_STATUS_DRQ;
    fis[15] = regs->status; /* E_Status: once the data has been moved */
    fis[16] = (uint8_t)length;
    fis[17] = (uint8_t)(length >> 8);
    receive_fis(port, RFIS_PIO_SETUP, fis, sizeof(fis));
    set_tfd(port, regs);
}

/* 10.5.7: the queued commands in `done` have ended. */
static void send_device_bits(struct ahci_port *port, const struct ata_registers *regs,
                             uint32_t done)
{
    uint8_t fis[8] = {FIS_SET_DEVICE_BITS, FIS_INTERRUPT, regs->status & 0x77, regs->error};

    memcpy(fis + 4, &done, sizeof(done));
    receive_fis(port, RFIS_SET_DEVICE_BITS, fis, sizeof(fis));
    port->tfd = (port->tfd & (ATA_STATUS_BSY | ATA_STATUS_DRQ)) | (regs->status & 0x77) |
                (uint32_t)regs->error << 8;
}

void ahci_port_send_signature(struct ahci_port *port)
{
    struct ata_registers regs;

    ata_drive_signature(&port->drive, &regs);
    port->sig = (uint32_t)(regs.lba << 8) | regs.count;
    if (port->cmd & CMD_FIS_RECEIVE)
        send_d2h(port, &regs, false);
    else
        set_tfd(port, &regs);
    port->signature_ready = !(port->cmd & CMD_FIS_RECEIVE);
}

/* ---- the end of a job ---- */

/* 6.2.2: nothing goes on until software has restarted the port. */
static void halt(struct ahci_port *port, uint32_t causes)
{
    port->halted = true;
    ahci_port_interrupt(port, causes | IS_TASK_FILE_ERROR);
}

static void finish_queued(struct ahci_slot *slot, const struct ata_registers *regs)
{
    struct ahci_port *port = slot->port;
    uint32_t bit = 1u << slot->job.tag;

    if (regs->status & ATA_STATUS_ERR) {
        send_device_bits(port, regs, 0);
        halt(port, IS_SET_DEVICE_BITS);
        return;
    }
    port->sact &= ~bit;
    send_device_bits(port, regs, bit);
    ahci_port_interrupt(port, IS_SET_DEVICE_BITS);
}

static void finish_other(struct ahci_slot *slot, const struct ata_registers *regs)
{
    struct ahci_port *port = slot->port;
    const struct ata_job *job = &slot->job;
    bool error = regs->status & ATA_STATUS_ERR;

    /* 4.2.2: PRD byte count, the second dword. That the header was readable does not mean that it
     * can be written; then nobody learns the count. */
    if (memory_write(port->ahci->pci.bus->memory, slot->header + 4, &slot->moved,
                     sizeof(slot->moved)))
        ahci_port_interrupt(port, IS_HOST_BUS_FATAL);
    if (job->protocol == ATA_PROTOCOL_PIO && !job->packet && !job->write && slot->moved && !error) {
        send_pio_setup(port, regs, slot->moved);
        port->ci &= ~(1u << (slot - port->slot));
        ahci_port_interrupt(port, IS_PIO_SETUP);
        return;
    }
    send_d2h(port, regs, true);
    if (error) {
        halt(port, IS_D2H);
        return;
    }
    port->ci &= ~(1u << (slot - port->slot));
    ahci_port_interrupt(port, IS_D2H);
}

static void finish(struct ahci_slot *slot)
{
    struct ahci_port *port = slot->port;

    port->running &= ~(1u << (slot - port->slot));
    port->exclusive = false;
    /* What ends after an error stopped the port is not told: software starts it once more. */
    if (port->halted)
        return;
    if (slot->job.protocol == ATA_PROTOCOL_QUEUED)
        finish_queued(slot, &slot->job.regs);
    else
        finish_other(slot, &slot->job.regs);
}

/* ---- a job on its way ---- */

static int prd_entry(void *opaque, uint32_t index, gpa_t *gpa, uint32_t *length)
{
    const struct ahci_slot *slot = opaque;
    uint32_t prd[PRD_SIZE / 4];

    if (index >= slot->prd_count)
        return 0;
    int ret = memory_read(slot->port->ahci->pci.bus->memory,
                          slot->table + TABLE_PRDT + (uint64_t)index * PRD_SIZE, prd, sizeof(prd));
    if (ret)
        return ret;
    /* 4.2.3.3: addresses and lengths are even; the count has one less. */
    *gpa = ((uint64_t)prd[1] << 32 | prd[0]) & ~1ull;
    *length = ((prd[3] & PRD_COUNT_MASK) | 1) + 1;
    return 1;
}

static int gather(struct ahci_slot *slot, uint32_t wanted, bool to_guest)
{
    struct dma_table table = {slot->port->ahci->pci.bus->memory, slot, prd_entry};

    return dma_list_gather(&slot->list, &table, &slot->cursor, wanted, to_guest);
}

static void io_done(struct block_request *io, int result);

static void submit(struct ahci_slot *slot)
{
    slot->job.io.done = io_done;
    ata_queue_add(&slot->port->queue, &slot->job.io);
}

/* The table or the memory that it names cannot be used as the command needs it. */
static void memory_fault(struct ahci_slot *slot, uint32_t cause)
{
    ahci_port_interrupt(slot->port, cause);
    ata_job_abort(&slot->job);
}

/* Readies the next piece between guest and medium; false: the job has failed. */
static bool start_medium(struct ahci_slot *slot)
{
    struct ata_job *job = &slot->job;
    uint32_t wanted = job->length - job->done;

    if (gather(slot, wanted, !job->write)) {
        memory_fault(slot, IS_HOST_BUS_FATAL);
        return false;
    }
    if (slot->list.ended && slot->list.length < wanted) {
        memory_fault(slot, IS_OVERFLOW); /* 6.1.5: the table is too short */
        return false;
    }
    ata_job_medium_io(job, slot->list.iov, slot->list.count, slot->list.length);
    submit(slot);
    return true;
}

static void move_data(struct ahci_slot *slot)
{
    struct ata_job *job = &slot->job;
    struct memory *memory = slot->port->ahci->pci.bus->memory;
    uint8_t *data = job->drive->data;

    if (gather(slot, job->length, job->stage == ATA_STAGE_DATA_IN)) {
        memory_fault(slot, IS_HOST_BUS_FATAL);
        return;
    }
    if (job->stage == ATA_STAGE_DATA_IN)
        slot->moved = dma_list_copy_to_guest(&slot->list, memory, data, job->length);
    else
        slot->moved = dma_list_copy_from_guest(&slot->list, data, job->length);
    if (job->stage == ATA_STAGE_DATA_OUT && slot->moved < job->length)
        memory_fault(slot, IS_OVERFLOW);
    else
        ata_job_data_done(job);
}

static void fetch_packet(struct ahci_slot *slot)
{
    uint8_t packet[ATA_PACKET_SIZE];

    if (memory_read(slot->port->ahci->pci.bus->memory, slot->table + TABLE_ACMD, packet,
                    sizeof(packet)))
        memory_fault(slot, IS_HOST_BUS_FATAL);
    else
        ata_job_packet(&slot->job, packet);
}

/* As far as it goes without waiting. */
static void advance(struct ahci_slot *slot)
{
    for (;;) {
        switch (slot->job.stage) {
        case ATA_STAGE_PACKET:
            fetch_packet(slot);
            break;
        case ATA_STAGE_MEDIUM:
            if (start_medium(slot))
                return;
            break;
        case ATA_STAGE_IO:
            ata_job_plain_io(&slot->job);
            submit(slot);
            return;
        case ATA_STAGE_DATA_IN:
        case ATA_STAGE_DATA_OUT:
            move_data(slot);
            break;
        default:
            finish(slot);
            return;
        }
    }
}

/* block_request.done: an I/O thread, or whoever submitted. */
static void io_done(struct block_request *io, int result)
{
    struct ahci_slot *slot = CONTAINER_OF(io, struct ahci_slot, job.io);
    struct ahci_port *port = slot->port;
    struct ahci *ahci = port->ahci;

    if (io->op == BLOCK_READ)
        dma_list_mark_written(&slot->list, ahci->pci.bus->memory);
    ahci_enter(ahci);
    if (slot->job.stage == ATA_STAGE_MEDIUM && !result)
        slot->moved += slot->job.current;
    ata_job_io_done(&slot->job, result);
    advance(slot);
    ata_queue_completed(&port->queue);
    ahci_port_start_commands(port);
    ahci_leave(ahci);
}

/* ---- starting ---- */

/* What a command's header and frame say, read once. */
struct command {
    gpa_t header;
    gpa_t table;
    uint16_t flags;
    uint16_t prd_count;
    uint8_t fis[FIS_SIZE];
};

static int fetch_command(struct ahci_port *port, unsigned number, struct command *command)
{
    struct memory *memory = port->ahci->pci.bus->memory;
    uint32_t header[HEADER_SIZE / 4];

    command->header = port->clb + number * HEADER_SIZE;
    int ret = memory_read(memory, command->header, header, sizeof(header));
    if (ret)
        return ret;
    command->flags = (uint16_t)header[0];
    command->prd_count = (uint16_t)(header[0] >> 16);
    command->table = ((uint64_t)header[3] << 32 | header[2]) & ~0x7full;
    return memory_read(memory, command->table, command->fis, sizeof(command->fis));
}

static bool is_queued(const struct command *command)
{
    return command->fis[1] & FIS_H2D_COMMAND && (command->fis[2] & 0xfe) == 0x60;
}

static void take_registers(const uint8_t *fis, struct ata_registers *regs)
{
    *regs = (struct ata_registers){
        .command = fis[2],
        .feature = (uint16_t)(fis[3] | fis[11] << 8),
        .device = fis[7],
        .count = (uint16_t)(fis[12] | fis[13] << 8),
    };
    for (unsigned i = 0; i < 3; i++)
        regs->lba |= (uint64_t)fis[4 + i] << 8 * i | (uint64_t)fis[8 + i] << (24 + 8 * i);
}

/* A frame that writes the control register; SRST on and off again is a software reset: 10.4.1. */
static void write_control(struct ahci_port *port, unsigned number, uint8_t control)
{
    port->ci &= ~(1u << number);
    if (control & ATA_CONTROL_SRST) {
        port->soft_reset = true;
    } else if (port->soft_reset) {
        port->soft_reset = false;
        ahci_port_send_signature(port);
    }
}

static void start(struct ahci_port *port, unsigned number, const struct command *command)
{
    struct ahci_slot *slot = &port->slot[number];
    struct ata_registers regs;

    port->current_slot = (uint8_t)number;
    if (!(command->fis[1] & FIS_H2D_COMMAND)) {
        write_control(port, number, command->fis[15]);
        return;
    }
    slot->header = command->header;
    slot->table = command->table;
    slot->prd_count = command->prd_count;
    slot->cursor = (struct dma_cursor){0};
    slot->moved = 0;
    take_registers(command->fis, &regs);
    port->running |= 1u << number;
    ata_job_begin(&slot->job, &port->drive, &regs);
    if (slot->job.protocol == ATA_PROTOCOL_QUEUED) {
        port->ci &= ~(1u << number); /* accepted; SActive says when it is done: 5.6.4 */
    } else {
        port->exclusive = true;
        port->tfd = ATA_STATUS_BSY | ATA_STATUS_DRDY;
    }
    advance(slot);
}

void ahci_port_start_commands(struct ahci_port *port)
{
    struct command command;

    while (port->cmd & CMD_START && port->present && !port->halted && !port->queue.held &&
           !port->exclusive && pci_bus_master(&port->ahci->pci)) {
        uint32_t ready = port->ci & ~port->running;
        if (!ready)
            return;
        /* In turn, beginning behind the one before: 5.3.2.3. */
        unsigned next = (port->current_slot + 1u) % AHCI_SLOTS;
        uint32_t turned = next ? ready >> next | ready << (AHCI_SLOTS - next) : ready;
        unsigned number = (next + (unsigned)__builtin_ctz(turned)) % AHCI_SLOTS;

        if (fetch_command(port, number, &command)) {
            port->tfd = ATA_STATUS_DRDY | ATA_STATUS_ERR | ATA_ERROR_ABRT << 8;
            halt(port, IS_HOST_BUS_FATAL);
            return;
        }
        if (command.fis[0] != FIS_H2D) {
            port->tfd = ATA_STATUS_DRDY | ATA_STATUS_ERR | ATA_ERROR_ABRT << 8;
            halt(port, 0);
            return;
        }
        /* A drive takes no other command while it has queued ones; it waits for their end. */
        if (port->running && !is_queued(&command))
            return;
        start(port, number, &command);
    }
}
