/*
 * Interrupts of a PCI function: the INTx wire, MSI and MSI-X.
 * PCI Local Bus specification 3.0, 2.2.6 (INTx), 6.8 (MSI, MSI-X).
 *
 * A message is a memory write of the function, so it needs the bus master bit. One that is masked
 * or may not be written waits in the pending bits and goes out as soon as it may.
 */
#include <assert.h>
#include <string.h>

#include "dev/pci/pci_internal.h"

/* The BAR that pci_add_msix() makes: the table, then from the middle on the pending bits. */
#define MSIX_BAR_SIZE 4096
#define MSIX_PBA_OFFSET 2048

_Static_assert(PCI_MSIX_MAX_VECTORS *PCI_MSIX_ENTRY_SIZE <= MSIX_PBA_OFFSET, "table fits");
_Static_assert(PCI_MSIX_MAX_VECTORS <= 64, "one word of pending bits");

static bool is_master(const struct pci_device *pci)
{
    return pci->config[PCI_COMMAND] & PCI_COMMAND_MASTER;
}

/* MSI. pci->lock is held. */

static uint16_t msi_control(const struct pci_device *pci)
{
    return pci->msi_offset ? pci_get16(pci->config, pci->msi_offset + PCI_MSI_CONTROL) : 0;
}

static bool msi_on(const struct pci_device *pci)
{
    return msi_control(pci) & PCI_MSI_CONTROL_ENABLE;
}

/* As many vectors as the system allows, but not more than the function has. */
static unsigned msi_vectors(const struct pci_device *pci)
{
    uint16_t control = msi_control(pci);
    unsigned capable = control >> PCI_MSI_CONTROL_CAPABLE_SHIFT & PCI_MSI_CONTROL_LOG2_MASK;
    unsigned enabled = control >> PCI_MSI_CONTROL_ENABLED_SHIFT & PCI_MSI_CONTROL_LOG2_MASK;
    return 1u << (enabled < capable ? enabled : capable);
}

static void msi_deliver(struct pci_device *pci)
{
    if (!msi_on(pci) || !is_master(pci))
        return;
    const uint8_t *cap = &pci->config[pci->msi_offset];
    uint32_t ready = pci->msi_pending & ~pci_get32(cap, PCI_MSI_MASK);
    struct msi_message message = {
        .address = pci_get32(cap, PCI_MSI_ADDRESS) | (uint64_t)pci_get32(cap, PCI_MSI_ADDRESS_HIGH)
                                                         << 32,
    };
    unsigned vectors = msi_vectors(pci);

    pci->msi_pending &= ~ready;
    for (unsigned vector = 0; ready; vector++, ready >>= 1) {
        if (!(ready & 1))
            continue;
        message.data = (pci_get16(cap, PCI_MSI_DATA) & ~(vectors - 1)) | (vector & (vectors - 1));
        msi_send(&pci->bus->msi, &message);
    }
}

void pci_add_msi(struct pci_device *pci, unsigned vectors)
{
    unsigned offset = pci_add_capability(pci, PCI_CAP_MSI, PCI_MSI_LENGTH);
    unsigned log2 = (unsigned)__builtin_ctz(vectors);

    assert(is_power_of_two(vectors) && vectors <= 32);
    pci->msi_offset = (uint8_t)offset;
    pci_set16(pci->config, offset + PCI_MSI_CONTROL,
              (uint16_t)(PCI_MSI_CONTROL_64 | PCI_MSI_CONTROL_MASKABLE |
                         log2 << PCI_MSI_CONTROL_CAPABLE_SHIFT));
    pci_set16(pci->write_mask, offset + PCI_MSI_CONTROL,
              PCI_MSI_CONTROL_ENABLE | PCI_MSI_CONTROL_LOG2_MASK << PCI_MSI_CONTROL_ENABLED_SHIFT);
    pci_set32(pci->write_mask, offset + PCI_MSI_ADDRESS, ~3u);
    pci_set32(pci->write_mask, offset + PCI_MSI_ADDRESS_HIGH, ~0u);
    pci_set16(pci->write_mask, offset + PCI_MSI_DATA, 0xffff);
    pci_set32(pci->write_mask, offset + PCI_MSI_MASK, (uint32_t)((1ull << vectors) - 1));
}

bool pci_msi_enabled(struct pci_device *pci)
{
    pthread_mutex_lock(&pci->lock);
    bool on = msi_on(pci);
    pthread_mutex_unlock(&pci->lock);
    return on;
}

void pci_msi_notify(struct pci_device *pci, unsigned vector)
{
    pthread_mutex_lock(&pci->lock);
    if (msi_on(pci)) {
        /* With fewer vectors than the device has, several events share one. */
        pci->msi_pending |= 1u << (vector & (msi_vectors(pci) - 1));
        msi_deliver(pci);
    }
    pthread_mutex_unlock(&pci->lock);
}

/* MSI-X. pci->lock is held. */

static uint16_t msix_control(const struct pci_device *pci)
{
    return pci->msix_offset ? pci_get16(pci->config, pci->msix_offset + PCI_MSIX_CONTROL) : 0;
}

static bool msix_on(const struct pci_device *pci)
{
    return msix_control(pci) & PCI_MSIX_CONTROL_ENABLE;
}

static void msix_deliver(struct pci_device *pci)
{
    if (!pci->msix_pending || !msix_on(pci) || !is_master(pci) ||
        msix_control(pci) & PCI_MSIX_CONTROL_FUNCTION_MASK)
        return;
    for (unsigned vector = 0; vector < pci->msix_vectors; vector++) {
        const struct pci_msix_entry *entry = &pci->msix[vector];
        uint64_t bit = 1ull << vector;
        if (!(pci->msix_pending & bit) || entry->control & PCI_MSIX_ENTRY_MASKED)
            continue;
        pci->msix_pending &= ~bit;
        msi_send(&pci->bus->msi,
                 &(struct msi_message){.address = entry->address, .data = entry->data});
    }
}

/* The register of an entry at byte `offset` within it, as 32 bits. */
static uint32_t entry_read(const struct pci_msix_entry *entry, unsigned offset)
{
    switch (offset) {
    case 0:
        return (uint32_t)entry->address;
    case 4:
        return (uint32_t)(entry->address >> 32);
    case 8:
        return entry->data;
    default:
        return entry->control;
    }
}

static void entry_write(struct pci_msix_entry *entry, unsigned offset, uint32_t value)
{
    switch (offset) {
    case 0:
        entry->address = (entry->address & ~0xffffffffull) | (value & ~3u);
        break;
    case 4:
        entry->address = (entry->address & 0xffffffffull) | (uint64_t)value << 32;
        break;
    case 8:
        entry->data = value;
        break;
    default:
        entry->control = value & PCI_MSIX_ENTRY_MASKED;
    }
}

static enum bus_result msix_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    struct pci_device *pci = opaque;
    uint64_t entry = offset / PCI_MSIX_ENTRY_SIZE;

    if (offset % 4)
        return BUS_ERROR;
    *value = 0;
    pthread_mutex_lock(&pci->lock);
    if (entry < pci->msix_vectors)
        *value = entry_read(&pci->msix[entry], offset % PCI_MSIX_ENTRY_SIZE);
    else if (offset == MSIX_PBA_OFFSET)
        *value = (uint32_t)pci->msix_pending;
    else if (offset == MSIX_PBA_OFFSET + 4)
        *value = pci->msix_pending >> 32;
    pthread_mutex_unlock(&pci->lock);
    return BUS_OK;
}

static enum bus_result msix_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_device *pci = opaque;
    uint64_t entry = offset / PCI_MSIX_ENTRY_SIZE;

    if (offset % 4)
        return BUS_ERROR;
    if (entry >= pci->msix_vectors)
        return BUS_UNHANDLED;
    pthread_mutex_lock(&pci->lock);
    entry_write(&pci->msix[entry], offset % PCI_MSIX_ENTRY_SIZE, (uint32_t)value);
    msix_deliver(pci);
    pthread_mutex_unlock(&pci->lock);
    return BUS_OK;
}

/* Software uses naturally aligned 32 or 64-bit accesses (6.8.2); the bus splits the latter. */
static const struct region_ops msix_region_ops = {
    .read = msix_read,
    .write = msix_write,
    .min_size = 4,
    .max_size = 4,
};

void pci_add_msix(struct pci_device *pci, unsigned bar, unsigned vectors)
{
    assert(vectors >= 1 && vectors <= PCI_MSIX_MAX_VECTORS);
    pci_add_bar(pci, bar, PCI_BAR_MEM32, MSIX_BAR_SIZE, pci->dev.name, &msix_region_ops, pci);
    unsigned offset = pci_add_capability(pci, PCI_CAP_MSIX, PCI_MSIX_LENGTH);

    pci->msix_offset = (uint8_t)offset;
    pci->msix_vectors = (uint16_t)vectors;
    pci_set16(pci->config, offset + PCI_MSIX_CONTROL, (uint16_t)(vectors - 1));
    pci_set32(pci->config, offset + PCI_MSIX_TABLE, bar);
    pci_set32(pci->config, offset + PCI_MSIX_PBA, MSIX_PBA_OFFSET | bar);
    pci_set16(pci->write_mask, offset + PCI_MSIX_CONTROL,
              PCI_MSIX_CONTROL_FUNCTION_MASK | PCI_MSIX_CONTROL_ENABLE);
}

bool pci_msix_enabled(struct pci_device *pci)
{
    pthread_mutex_lock(&pci->lock);
    bool on = msix_on(pci);
    pthread_mutex_unlock(&pci->lock);
    return on;
}

void pci_msix_notify(struct pci_device *pci, unsigned vector)
{
    pthread_mutex_lock(&pci->lock);
    if (vector < pci->msix_vectors && msix_on(pci)) {
        pci->msix_pending |= 1ull << vector;
        msix_deliver(pci);
    }
    pthread_mutex_unlock(&pci->lock);
}

/* INTx. pci->lock is held. */

static void drive_wire(struct pci_device *pci, bool level)
{
    const struct pci_intx_router *router = &pci->bus->intx;

    pci->intx_wire = level;
    if (router->set)
        router->set(router->opaque, pci->devfn, pci->config[PCI_INTERRUPT_PIN] - 1u, level);
}

static void intx_update(struct pci_device *pci)
{
    uint16_t command = pci_get16(pci->config, PCI_COMMAND);
    bool wire = pci->intx_level && pci->config[PCI_INTERRUPT_PIN] &&
                !(command & PCI_COMMAND_INTX_DISABLE) && !msi_on(pci) && !msix_on(pci);

    if (wire != pci->intx_wire)
        drive_wire(pci, wire);
}

void pci_intx_set(struct pci_device *pci, bool level)
{
    pthread_mutex_lock(&pci->lock);
    pci->intx_level = level;
    intx_update(pci);
    pthread_mutex_unlock(&pci->lock);
}

/* All three, for pci.c. */

void pci_interrupts_update(struct pci_device *pci)
{
    intx_update(pci);
    msi_deliver(pci);
    msix_deliver(pci);
}

void pci_interrupts_refresh(struct pci_device *pci)
{
    pci->config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTERRUPT;
    if (pci->intx_level)
        pci->config[PCI_STATUS] |= PCI_STATUS_INTERRUPT;
    if (pci->msi_offset)
        pci_set32(pci->config, pci->msi_offset + PCI_MSI_PENDING, pci->msi_pending);
}

void pci_interrupts_reset(struct pci_device *pci)
{
    pci->intx_level = false;
    pci->msi_pending = 0;
    pci->msix_pending = 0;
    memset(pci->msix, 0, sizeof(pci->msix));
    for (unsigned i = 0; i < PCI_MSIX_MAX_VECTORS; i++)
        pci->msix[i].control = PCI_MSIX_ENTRY_MASKED;
    intx_update(pci);
}

void pci_interrupts_restored(struct pci_device *pci)
{
    if (pci->config[PCI_INTERRUPT_PIN])
        drive_wire(pci, pci->intx_wire);
}
