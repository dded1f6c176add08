/*
 * What the files of the xHCI controller share: xhci.c (PCI function, life, state),
 * xhci_registers.c, xhci_ports.c, xhci_rings.c (what is read from memory), xhci_events.c (event
 * rings, interrupts), xhci_commands.c, xhci_transfers.c. Nobody else includes this.
 *
 *     doorbell 0 --> command ring ---> slots, endpoints --+
 *     doorbell n --> transfer ring --> usb_device --------+--> event ring --> interrupter
 *     usb_device --> wake ---^             ports ---------+
 *
 * A ring stands still while the event ring has no room, the controller is paused or may not use the
 * bus; whatever ends that calls xhci_go_on(), which looks at everything again.
 *
 * Threads: vCPUs (registers), whoever wakes a port, the clock's (moderation), under `lock`.
 * Devices' and PCI locks are taken inside it.
 */
#ifndef SILL_DEV_USB_XHCI_INTERNAL_H
#define SILL_DEV_USB_XHCI_INTERNAL_H

#include "dev/usb/xhci.h"
#include "dev/usb/xhci_regs.h"

#define XHCI_USB2_PORTS 4 /* 1 to 4 */
#define XHCI_USB3_PORTS 4 /* 5 to 8 */
#define XHCI_PORTS (XHCI_USB2_PORTS + XHCI_USB3_PORTS)
#define XHCI_SLOTS XHCI_PORTS /* there are no hubs */
#define XHCI_INTERRUPTERS 8
#define XHCI_ERST_LOG2 3 /* segments of an event ring */
#define XHCI_ERST_MAX (1u << XHCI_ERST_LOG2)

struct xhci_trb {
    gpa_t gpa; /* where it was */
    uint64_t parameter;
    uint32_t status;
    uint32_t control;
};

static inline unsigned trb_type(const struct xhci_trb *trb)
{
    return trb->control >> TRB_TYPE_SHIFT & TRB_TYPE_MASK;
}

/* A ring that the guest fills. */
struct xhci_ring {
    gpa_t dequeue;
    bool cycle;
};

/* A place in an event ring, 4.9.4 */
struct xhci_cursor {
    gpa_t gpa;
    uint16_t segment;
    uint16_t left; /* TRBs up to the segment's end; 0: the ring has not been looked at */
    bool cycle;
};

struct xhci_interrupter {
    uint32_t iman, imod, erstsz;
    uint64_t erstba, erdp;
    struct xhci_cursor enqueue;
    bool pending;         /* IPE, 4.17.2: has something to tell */
    uint64_t quiet_until; /* VM time, 4.17.2 */
};

struct xhci_endpoint {
    uint8_t state; /* enum endpoint_state */
    uint8_t type;
    bool rung; /* the guest rang since it began to run */
    struct xhci_ring ring;
};

enum control_stage { CONTROL_SETUP, CONTROL_DATA, CONTROL_STATUS, CONTROL_STAGES };

/* A control transfer between its stages, 3.2.9: which of them comes next. */
struct xhci_control {
    uint8_t stage;
    bool stalled;
    struct usb_setup setup;
    uint16_t length; /* of what the device answered, or of what it shall get */
    uint8_t data[USB_CONTROL_MAX];
};

struct xhci_slot {
    bool enabled;
    uint8_t state;                                        /* enum slot_state */
    uint8_t port;                                         /* from 1; 0: no device addressed */
    gpa_t context;                                        /* the output device context */
    struct xhci_endpoint endpoint[CONTEXT_ENDPOINTS + 1]; /* by DCI, from 1 */
    struct xhci_control control;
};

struct xhci_port {
    struct usb_port usb;
    struct xhci *xhci;
    struct usb_device *device; /* NULL: nothing is plugged in */
    uint32_t portsc;
    uint32_t portpmsc;
    bool told; /* an event for the changes that are set */
};

struct xhci {
    struct pci_device pci;
    struct clock *clock;
    struct memory *memory;
    struct timer moderation;

    pthread_mutex_t lock; /* all below */
    bool paused;
    uint32_t usbcmd, usbsts, dnctrl, config;
    uint64_t dcbaap;
    struct xhci_ring command;
    bool command_running;
    struct xhci_interrupter interrupter[XHCI_INTERRUPTERS];
    struct xhci_slot slot[XHCI_SLOTS + 1]; /* from 1 */
    struct xhci_port port[XHCI_PORTS];
};

/* All below with the lock held, unless they say otherwise. */

/* xhci.c */
void xhci_reset_controller(struct xhci *xhci); /* all but PCI */
/* May it read, write and interrupt now? */
bool xhci_is_live(struct xhci *xhci);
/* Something that rings waited for may have come. */
void xhci_go_on(struct xhci *xhci);

/* xhci_registers.c; lock not held */
extern const struct region_ops xhci_region_ops;

/* xhci_rings.c. An access to what is no memory is a host system error, which halts the controller;
 * false then. */
bool xhci_read(struct xhci *xhci, gpa_t gpa, void *to, uint64_t length);
bool xhci_write(struct xhci *xhci, gpa_t gpa, const void *from, uint64_t length);
/* Writes a TRB that the guest is waiting for: its cycle bit comes last. */
bool xhci_write_trb(struct xhci *xhci, const struct xhci_trb *trb);
enum xhci_fetched { FETCHED_TRB, FETCHED_NOTHING, FETCHED_NONSENSE };
/* The next TRB that is the controller's, links followed. Nonsense: links that lead nowhere; for
 * what is no memory as above, with FETCHED_NOTHING. */
enum xhci_fetched xhci_fetch(struct xhci *xhci, struct xhci_ring *ring, struct xhci_trb *trb);

/* xhci_events.c */
/* Room for an event, beside the one that says that there is none. False also where there is no
 * event ring. */
bool xhci_event_room(struct xhci *xhci, unsigned interrupter);
/* `quiet`: it is no reason to interrupt. An event that finds no room is lost. */
void xhci_post(struct xhci *xhci, unsigned interrupter, const struct xhci_trb *event, bool quiet);
/* Where an event TRB of a ring would go next is where it starts. */
void xhci_event_ring_moved(struct xhci *xhci, unsigned interrupter);
/* The guest has taken events, up to ERDP. */
void xhci_events_taken(struct xhci *xhci, unsigned interrupter, bool not_busy);
/* Enables, or what routes interrupts, changed. */
void xhci_interrupts_update(struct xhci *xhci);
void xhci_moderation_timer(void *opaque); /* clock's thread, lock not held */

/* xhci_ports.c */
void xhci_port_reset(struct xhci_port *port); /* as after power-on or a reset of the controller */
uint32_t xhci_port_read(const struct xhci_port *port, unsigned offset);
void xhci_port_write(struct xhci_port *port, unsigned offset, uint32_t value);
/* Tells of changes that nobody has been told of. */
void xhci_ports_report(struct xhci *xhci);
/* The device of port `number`, from 1, that transfers reach; NULL: none does. */
struct usb_device *xhci_port_device(struct xhci *xhci, unsigned number);

/* xhci_commands.c */
void xhci_commands_run(struct xhci *xhci);
/* CRCR's CS and CA */
void xhci_commands_stop(struct xhci *xhci);

/* xhci_transfers.c */
/* Carries out what its ring has. */
void xhci_endpoint_run(struct xhci *xhci, unsigned slot, unsigned dci);
void xhci_endpoint_ring(struct xhci *xhci, unsigned slot, unsigned dci); /* the doorbell */
/* Changes the state, in the device context as well. */
void xhci_endpoint_set(struct xhci *xhci, unsigned slot, unsigned dci, enum endpoint_state state);
/* Stops it in what it does, 4.6.9. */
void xhci_endpoint_stop(struct xhci *xhci, unsigned slot, unsigned dci);

#endif
