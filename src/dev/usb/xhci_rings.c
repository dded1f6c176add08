/*
 * What the xHCI controller reads and writes in guest memory: contexts, and the rings that the guest
 * fills (4.9.2, 4.11.5.1). See xhci_internal.h.
 */
#include "dev/usb/xhci_internal.h"

/* Each link leads to a TRB or to another link; a driver has no use for more in a row. */
#define LINKS_MAX 8

/* 4.10.2.6: the controller halts. */
static void host_system_error(struct xhci *xhci)
{
    xhci->usbsts |= USBSTS_HOST_ERROR;
    xhci->usbcmd &= ~USBCMD_RUN;
    xhci->command_running = false;
}

bool xhci_read(struct xhci *xhci, gpa_t gpa, void *to, uint64_t length)
{
    if (!memory_read(xhci->memory, gpa, to, length))
        return true;
    host_system_error(xhci);
    return false;
}

bool xhci_write(struct xhci *xhci, gpa_t gpa, const void *from, uint64_t length)
{
    if (!memory_write(xhci->memory, gpa, from, length))
        return true;
    host_system_error(xhci);
    return false;
}

/* A TRB in guest memory: two words of parameter, status, control. They are aligned, so that they
 * lie in one slot of memory. */
static uint32_t *trb_words(struct xhci *xhci, gpa_t gpa, bool write)
{
    uint32_t *words = memory_host(xhci->memory, gpa, TRB_SIZE, write);

    if (!words)
        host_system_error(xhci);
    return words;
}

bool xhci_write_trb(struct xhci *xhci, const struct xhci_trb *trb)
{
    uint32_t *words = trb_words(xhci, trb->gpa, true);

    if (!words)
        return false;
    words[0] = (uint32_t)trb->parameter;
    words[1] = (uint32_t)(trb->parameter >> 32);
    words[2] = trb->status;
    __atomic_store_n(&words[3], trb->control, __ATOMIC_RELEASE);
    memory_mark_written(xhci->memory, trb->gpa, TRB_SIZE);
    return true;
}

enum xhci_fetched xhci_fetch(struct xhci *xhci, struct xhci_ring *ring, struct xhci_trb *trb)
{
    for (unsigned links = 0; links <= LINKS_MAX; links++) {
        uint32_t *words = trb_words(xhci, ring->dequeue, false);
        if (!words)
            return FETCHED_NOTHING;
        trb->control = __atomic_load_n(&words[3], __ATOMIC_ACQUIRE);
        if ((trb->control & TRB_CYCLE) != ring->cycle)
            return FETCHED_NOTHING;
        trb->gpa = ring->dequeue;
        trb->parameter = words[0] | (uint64_t)words[1] << 32;
        trb->status = words[2];
        if (trb_type(trb) != TRB_LINK) {
            ring->dequeue += TRB_SIZE;
            return FETCHED_TRB;
        }
        ring->dequeue = trb->parameter & ENDPOINT_POINTER;
        ring->cycle ^= (trb->control & TRB_TOGGLE_CYCLE) != 0;
    }
    return FETCHED_NONSENSE;
}
