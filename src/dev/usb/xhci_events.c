/*
 * Event rings (4.9.4) and interrupters (4.17) of the xHCI controller; see xhci_internal.h.
 *
 *     event --> ring, IPE --- not moderated, EHB = 0 ---> IP, EHB, EINT --- IE, INTE ---> message
 *
 * EHB says that the guest is busy with the ring: what comes meanwhile is told when it has taken
 * what was there. With messages IP is cleared by sending.
 */
#include "dev/usb/xhci_internal.h"

/* ---- the ring ---- */

/* 6.5: moves to the start of a segment. */
static bool enter_segment(struct xhci *xhci, const struct xhci_interrupter *interrupter,
                          struct xhci_cursor *cursor, unsigned segment)
{
    struct {
        uint64_t base;
        uint32_t size, reserved;
    } entry;
    gpa_t gpa = (interrupter->erstba & ERSTBA_MASK) + segment * ERST_ENTRY;

    if (!xhci_read(xhci, gpa, &entry, sizeof(entry)))
        return false;
    cursor->gpa = entry.base & ERSTBA_MASK;
    cursor->segment = (uint16_t)segment;
    cursor->left =
        entry.size >= ERST_SEGMENT_MIN && entry.size <= ERST_SEGMENT_MAX ? (uint16_t)entry.size : 0;
    return cursor->left;
}

/* False: there is no ring. */
static bool find_ring(struct xhci *xhci, struct xhci_interrupter *interrupter)
{
    if (interrupter->enqueue.left)
        return true;
    interrupter->enqueue.cycle = true;
    return interrupter->erstsz && enter_segment(xhci, interrupter, &interrupter->enqueue, 0);
}

static bool advance(struct xhci *xhci, const struct xhci_interrupter *interrupter,
                    struct xhci_cursor *cursor)
{
    unsigned next = cursor->segment + 1u;

    cursor->gpa += TRB_SIZE;
    if (--cursor->left)
        return true;
    if (next >= interrupter->erstsz || next >= XHCI_ERST_MAX) {
        next = 0;
        cursor->cycle = !cursor->cycle;
    }
    return enter_segment(xhci, interrupter, cursor, next);
}

/* How many events the ring takes, counted up to `most`. */
static unsigned room(struct xhci *xhci, struct xhci_interrupter *interrupter, unsigned most)
{
    unsigned count = 0;

    if (!find_ring(xhci, interrupter))
        return 0;
    struct xhci_cursor cursor = interrupter->enqueue;
    while (count < most && advance(xhci, interrupter, &cursor) &&
           cursor.gpa != (interrupter->erdp & ERDP_POINTER))
        count++;
    return count;
}

bool xhci_event_room(struct xhci *xhci, unsigned interrupter)
{
    return room(xhci, &xhci->interrupter[interrupter % XHCI_INTERRUPTERS], 2) == 2;
}

void xhci_event_ring_moved(struct xhci *xhci, unsigned interrupter)
{
    xhci->interrupter[interrupter].enqueue = (struct xhci_cursor){0};
}

void xhci_post(struct xhci *xhci, unsigned number, const struct xhci_trb *event, bool quiet)
{
    static const struct xhci_trb full = {
        .status = (uint32_t)CODE_EVENT_RING_FULL << TRB_CODE_SHIFT,
        .control = TRB_HOST_EVENT << TRB_TYPE_SHIFT,
    };
    struct xhci_interrupter *interrupter = &xhci->interrupter[number % XHCI_INTERRUPTERS];
    unsigned free = room(xhci, interrupter, 2);

    if (!free)
        return;
    struct xhci_trb trb = free == 1 ? full : *event;
    trb.gpa = interrupter->enqueue.gpa;
    trb.control = (trb.control & ~TRB_CYCLE) | interrupter->enqueue.cycle;
    if (!xhci_write_trb(xhci, &trb) || !advance(xhci, interrupter, &interrupter->enqueue))
        return;
    interrupter->pending |= !quiet;
    xhci_interrupts_update(xhci);
}

/* ---- interrupts ---- */

/* 4.17.2: may what is pending be told now? The timer asks again. */
static void raise_pending(struct xhci *xhci, struct xhci_interrupter *interrupter)
{
    uint64_t now = clock_now(xhci->clock);

    if (!interrupter->pending || interrupter->erdp & ERDP_BUSY || interrupter->iman & IMAN_PENDING)
        return;
    if (now < interrupter->quiet_until) {
        if (!timer_armed(&xhci->moderation) || interrupter->quiet_until < xhci->moderation.deadline)
            timer_set(&xhci->moderation, interrupter->quiet_until);
        return;
    }
    interrupter->pending = false;
    interrupter->iman |= IMAN_PENDING;
    interrupter->erdp |= ERDP_BUSY;
    xhci->usbsts |= USBSTS_EVENT;
    interrupter->quiet_until = now + (interrupter->imod & IMOD_INTERVAL) * IMOD_UNIT_NS;
}

void xhci_interrupts_update(struct xhci *xhci)
{
    bool msix = pci_msix_enabled(&xhci->pci), msi = pci_msi_enabled(&xhci->pci);
    bool level = false;

    for (unsigned i = 0; i < XHCI_INTERRUPTERS && !xhci->paused; i++) {
        struct xhci_interrupter *interrupter = &xhci->interrupter[i];
        raise_pending(xhci, interrupter);
        if (interrupter->iman != (IMAN_PENDING | IMAN_ENABLE) ||
            !(xhci->usbcmd & USBCMD_INTERRUPTS))
            continue;
        if (msix || msi)
            interrupter->iman &= ~IMAN_PENDING;
        if (msix)
            pci_msix_notify(&xhci->pci, i);
        else if (msi) /* which has one message */
            pci_msi_notify(&xhci->pci, 0);
        else
            level = true;
    }
    if (!xhci->paused)
        pci_intx_set(&xhci->pci, level);
}

void xhci_events_taken(struct xhci *xhci, unsigned number, bool not_busy)
{
    struct xhci_interrupter *interrupter = &xhci->interrupter[number];

    if (not_busy)
        interrupter->erdp &= ~(uint64_t)ERDP_BUSY;
    interrupter->pending =
        interrupter->enqueue.left && (interrupter->erdp & ERDP_POINTER) != interrupter->enqueue.gpa;
    xhci_interrupts_update(xhci);
}

void xhci_moderation_timer(void *opaque)
{
    struct xhci *xhci = opaque;

    pthread_mutex_lock(&xhci->lock);
    xhci_interrupts_update(xhci);
    pthread_mutex_unlock(&xhci->lock);
}
