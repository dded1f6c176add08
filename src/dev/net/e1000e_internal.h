/*
 * What the files of the 82574L share: e1000e.c (PCI function, life), e1000e_registers.c,
 * e1000e_phy.c (PHY and NVM), e1000e_irq.c, e1000e_rx.c, e1000e_tx.c. Nobody else includes this.
 *
 * Threads: registers are accessed by vCPU threads; frames arrive on the backend's thread; one
 * worker sends. `lock` is held for all of it but while the worker hands a frame to the backend.
 * PCI locks are taken inside it, the backend's are not.
 */
#ifndef SILL_DEV_NET_E1000E_INTERNAL_H
#define SILL_DEV_NET_E1000E_INTERNAL_H

#include <pthread.h>

#include "dev/net/e1000e.h"
#include "dev/net/e1000e_regs.h"

#define E1000E_DESCRIPTOR 16
#define E1000E_NVM_WORDS 64
#define E1000E_PHY_REGISTERS 32

/* An offload context as the driver last wrote it, 7.2.11.3 */
struct e1000e_context {
    uint8_t ipcss, ipcso;
    uint16_t ipcse;
    uint8_t tucss, tucso;
    uint16_t tucse;
    uint8_t tucmd;
    uint8_t hdrlen;
    uint16_t mss;
};

/* What may interrupt by itself: the MSI-X vectors, and the one interrupt without MSI-X. */
#define E1000E_LINES (E1000E_VECTORS + 1)
#define E1000E_LINE_ONLY E1000E_VECTORS

struct e1000e {
    struct pci_device pci;
    struct net_backend *backend;
    struct clock *clock;
    struct memory *memory;

    pthread_mutex_t lock; /* all below */
    uint32_t reg[E1000E_REGISTERS_END / 4];
    uint16_t phy[E1000E_PHY_REGISTERS];
    uint16_t nvm[E1000E_NVM_WORDS]; /* fixed when built */
    uint32_t io_address;            /* what the I/O BAR shows */
    uint64_t systim_base;           /* SYSTIM at VM time systim_since */
    uint64_t systim_since;
    struct e1000e_context context[E1000E_QUEUES];

    /* Interrupts. */
    struct timer moderation;
    uint32_t signalled;                 /* causes that have been told and are still pending */
    uint64_t quiet_until[E1000E_LINES]; /* VM time */

    /* The worker. */
    pthread_t worker;
    bool worker_exists;
    pthread_cond_t worker_wake;
    pthread_cond_t worker_idle;
    bool kicked;
    bool busy;
    bool quit;
    bool paused;
    unsigned epoch; /* grows when what the worker has in hand is void */
    uint8_t frame[NET_FRAME_MAX];
};

static inline uint32_t e1000e_get(const struct e1000e *dev, unsigned offset)
{
    return dev->reg[offset / 4];
}

static inline void e1000e_set(struct e1000e *dev, unsigned offset, uint32_t value)
{
    dev->reg[offset / 4] = value;
}

/* All below with the lock held, unless they say otherwise. */

/* May the card read and write guest memory now? */
static inline bool e1000e_may_access(struct e1000e *dev)
{
    return pci_bus_master(&dev->pci) && !(e1000e_get(dev, CTRL) & CTRL_GIO_MASTER_DISABLE);
}
/* That, or how it may interrupt, has changed. */
void e1000e_access_changed(struct e1000e *dev);

/* e1000e_registers.c; the lock is not held when the regions are accessed */
extern const struct region_ops e1000e_registers_ops;
extern const struct region_ops e1000e_io_ops;
void e1000e_registers_reset(struct e1000e *dev); /* all but what PCI and the PHY have */
/* After a restore: what no driver can write, no stream can. */
void e1000e_registers_loaded(struct e1000e *dev);
/* A counter of two registers, or of one that stays at its end. */
void e1000e_count(struct e1000e *dev, unsigned offset);
void e1000e_count64(struct e1000e *dev, unsigned low, uint64_t by);

/* Writes the byte of a descriptor that a driver polls, after all that it announces. */
void e1000e_store_status(struct e1000e *dev, gpa_t gpa, uint8_t status);

/* e1000e_phy.c */
void e1000e_nvm_init(struct e1000e *dev, const uint8_t *mac);
void e1000e_phy_reset(struct e1000e *dev);
void e1000e_mdic_write(struct e1000e *dev, uint32_t value);
uint32_t e1000e_eerd(const struct e1000e *dev, uint32_t value);

/* e1000e_irq.c */
void e1000e_raise(struct e1000e *dev, uint32_t causes);
void e1000e_irq_update(struct e1000e *dev); /* ICR, IMS or what routes them changed */
uint32_t e1000e_icr_read(struct e1000e *dev);
void e1000e_irq_timer(void *opaque); /* clock's thread, lock not held */

/* e1000e_rx.c: struct net_card_ops.receive; lock not held */
unsigned e1000e_receive(void *opaque, const struct net_frame *frames, unsigned count);

/* e1000e_tx.c */
void e1000e_tx_kick(struct e1000e *dev);
void *e1000e_tx_main(void *opaque); /* the worker; lock not held */

#endif
