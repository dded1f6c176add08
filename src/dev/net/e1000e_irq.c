/*
 * Interrupts of the 82574L: causes, masks, the three ways to signal, moderation. Datasheet 7.4;
 * see e1000e_internal.h.
 *
 *     causes -> ICR --- & IMS ---+-- INTx: level while anything is pending
 *                                +-- MSI: a message for what is newly pending
 *                                +-- MSI-X: the causes RXQ, TXQ and OTHER by IVAR to vectors
 *
 * Each of these lines stays quiet for its ITR or EITR interval after it has spoken. The delays of
 * single causes (RDTR, TIDV, ...), which are shorter, are not kept.
 */
#include "dev/net/e1000e_internal.h"

/* The causes that MSI-X knows, in the order of their fields in IVAR. */
static const uint32_t vector_causes[] = {
    CAUSE_RXQ0, CAUSE_RXQ0 << 1, CAUSE_TXQ0, CAUSE_TXQ0 << 1, CAUSE_OTHER,
};

static uint32_t pending(const struct e1000e *dev)
{
    return e1000e_get(dev, ICR) & e1000e_get(dev, IMS) & CAUSES;
}

/* May the line speak now? If not, the timer will ask again. */
static bool line_free(struct e1000e *dev, unsigned line)
{
    uint64_t now = clock_now(dev->clock);
    uint64_t until = dev->quiet_until[line];

    if (now < until) {
        if (!timer_armed(&dev->moderation) || until < dev->moderation.deadline)
            timer_set(&dev->moderation, until);
        return false;
    }
    unsigned offset = line == E1000E_LINE_ONLY ? ITR : EITR + 4 * line;
    uint64_t interval = e1000e_get(dev, offset) & ITR_INTERVAL_MASK;
    dev->quiet_until[line] = now + interval * ITR_UNIT_NS;
    return true;
}

/* 7.4.5: what EIAC names is cleared, and masked, by the message itself. */
static void update_msix(struct e1000e *dev)
{
    uint32_t ivar = e1000e_get(dev, IVAR);

    for (unsigned i = 0; i < ARRAY_SIZE(vector_causes); i++) {
        uint32_t cause = vector_causes[i];
        uint32_t field = ivar >> IVAR_FIELD_BITS * i;
        unsigned vector = field & IVAR_VECTOR_MASK;

        if (!(pending(dev) & cause & ~dev->signalled) || !(field & IVAR_VALID) ||
            vector >= E1000E_VECTORS || !line_free(dev, vector))
            continue;
        dev->signalled |= cause;
        if (e1000e_get(dev, EIAC) & cause) {
            e1000e_set(dev, ICR, e1000e_get(dev, ICR) & ~cause);
            if (e1000e_get(dev, CTRL_EXT) & CTRL_EXT_EIAME)
                e1000e_set(dev, IMS, e1000e_get(dev, IMS) & ~cause);
            dev->signalled &= ~cause;
        }
        pci_msix_notify(&dev->pci, vector);
    }
}

void e1000e_irq_update(struct e1000e *dev)
{
    uint32_t now = pending(dev);
    uint32_t icr = e1000e_get(dev, ICR) & CAUSES;

    e1000e_set(dev, ICR, now ? icr | CAUSE_ASSERTED : icr);
    dev->signalled &= now;
    if (pci_msix_enabled(&dev->pci)) {
        pci_intx_set(&dev->pci, false);
        update_msix(dev);
    } else if (pci_msi_enabled(&dev->pci)) {
        pci_intx_set(&dev->pci, false);
        if (now & ~dev->signalled && line_free(dev, E1000E_LINE_ONLY)) {
            dev->signalled = now;
            pci_msi_notify(&dev->pci, 0);
        }
    } else if (!now) {
        pci_intx_set(&dev->pci, false);
    } else if (dev->signalled || line_free(dev, E1000E_LINE_ONLY)) {
        dev->signalled = now;
        pci_intx_set(&dev->pci, true);
    }
}

void e1000e_raise(struct e1000e *dev, uint32_t causes)
{
    if (causes & CAUSES_OTHER)
        causes |= CAUSE_OTHER;
    e1000e_set(dev, ICR, e1000e_get(dev, ICR) | (causes & CAUSES));
    e1000e_irq_update(dev);
}

/* 10.2.4.1: reading clears when nothing is unmasked, or when the interrupt is asserted; the latter
 * also masks what IAM names, if CTRL_EXT.IAME says so. */
uint32_t e1000e_icr_read(struct e1000e *dev)
{
    uint32_t icr = e1000e_get(dev, ICR);

    if (icr & CAUSE_ASSERTED && e1000e_get(dev, CTRL_EXT) & CTRL_EXT_IAME)
        e1000e_set(dev, IMS, e1000e_get(dev, IMS) & ~e1000e_get(dev, IAM));
    if (icr & CAUSE_ASSERTED || !e1000e_get(dev, IMS))
        e1000e_set(dev, ICR, 0);
    e1000e_irq_update(dev);
    return icr;
}

void e1000e_irq_timer(void *opaque)
{
    struct e1000e *dev = opaque;

    pthread_mutex_lock(&dev->lock);
    e1000e_irq_update(dev);
    pthread_mutex_unlock(&dev->lock);
}
