/*
 * What the controller's files share: ahci.c (host registers, PCI, lifecycle), ahci_port.c (port
 * registers, link), ahci_command.c (command slots and frames). All functions are called with
 * ahci.lock held.
 * Requests are submitted by ahci_leave(), which gives the lock back.
 */
#ifndef SILL_DEV_STORAGE_AHCI_INTERNAL_H
#define SILL_DEV_STORAGE_AHCI_INTERNAL_H

#include "dev/storage/ahci.h"
#include "dev/storage/ahci_regs.h"
#include "dev/storage/ata_queue.h"
#include "dev/storage/dma_list.h"

struct ahci_port;

struct ahci_slot {
    struct ahci_port *port;
    struct ata_job job;
    struct dma_cursor cursor;
    struct dma_list list;
    gpa_t header;
    gpa_t table;
    uint16_t prd_count;
    uint32_t moved; /* bytes, for the header's PRDBC */
};

struct ahci_port {
    struct ahci *ahci;
    unsigned number;
    bool present; /* a drive is connected */
    struct ata_drive drive;

    uint64_t clb, fb;
    uint32_t is, ie, cmd, tfd, sig, sctl, serr, sact, ci;
    uint8_t current_slot;
    bool halted;          /* an error stopped it; until ST is cleared: 6.2.2 */
    bool soft_reset;      /* between the two frames of a software reset */
    bool signature_ready; /* the signature's frame waits for FRE */

    uint32_t running; /* slots whose job is not done */
    bool exclusive;   /* that job is not a queued one */
    struct ata_queue queue;
    struct ahci_slot *slot; /* AHCI_SLOTS of them where a drive is present */
};

struct ahci {
    struct pci_device pci;
    pthread_mutex_t lock;
    bool paused; /* all queues are held */
    uint32_t ghc;
    uint32_t is;
    struct ahci_port port[AHCI_PORTS];
};

/* ahci.c */
void ahci_port_interrupt(struct ahci_port *port, uint32_t causes);
void ahci_update_irq(struct ahci *ahci, bool event);
void ahci_enter(struct ahci *ahci);
void ahci_leave(struct ahci *ahci);

/* ahci_port.c */
uint32_t ahci_port_read(struct ahci_port *port, unsigned offset);
void ahci_port_write(struct ahci_port *port, unsigned offset, uint32_t value);
/* As after a reset of the controller; nothing is in flight. */
void ahci_port_reset(struct ahci_port *port);
/* The drive is reset and sends its signature. */
void ahci_port_link_reset(struct ahci_port *port);
extern const struct state_field ahci_port_fields[];

/* ahci_command.c */
void ahci_port_start_commands(struct ahci_port *port);
void ahci_port_send_signature(struct ahci_port *port);

#endif
