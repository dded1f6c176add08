/*
 * PCI configuration space and BARs; see pci.h for the contract and the locks.
 * PCI Local Bus specification 3.0, 6.1 to 6.2 (header), 6.7 (capabilities).
 *
 * Each byte of configuration space has a mask of the bits that the guest may change. That is also
 * how BAR sizing works (6.2.5.1): the address bits below the size are not writable, so a guest that
 * writes all ones reads the size back.
 */
#include "dev/pci/pci.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "dev/pci/pci_internal.h"

#define PORT_SPACE_LAST 0xffffu

void pci_bus_init(struct pci_bus *pci_bus, struct bus *bus, struct memory *memory,
                  const struct msi_sink *msi)
{
    *pci_bus = (struct pci_bus){.bus = bus, .memory = memory, .msi = *msi, .root = pci_bus};
    pthread_mutex_init(&pci_bus->lock, NULL);
}

void pci_bus_done(struct pci_bus *pci_bus)
{
    pthread_mutex_destroy(&pci_bus->lock);
}

/* BARs. */

static enum bus_space bar_space(const struct pci_bar *bar)
{
    return bar->kind == PCI_BAR_IO ? BUS_PORT : BUS_MMIO;
}

/*
 * Where the guest wants the BAR, if it decodes it at all. Two addresses mean nowhere: 0, which is
 * the value after reset, and one whose range ends at the top of the space, which is what the BAR
 * reads as while the guest asks for its size.
 */
static bool bar_wanted(const struct pci_device *pci, unsigned index, uint64_t *address)
{
    const struct pci_bar *bar = &pci->bar[index];
    unsigned offset = PCI_BAR0 + 4 * index;
    uint32_t low = pci_get32(pci->config, offset);
    uint16_t command = pci_get16(pci->config, PCI_COMMAND);
    uint64_t last_of_space = UINT32_MAX;

    switch (bar->kind) {
    case PCI_BAR_NONE:
        return false;
    case PCI_BAR_IO:
        if (!(command & PCI_COMMAND_IO))
            return false;
        *address = low & ~PCI_BAR_IO_FLAGS;
        last_of_space = PORT_SPACE_LAST;
        break;
    case PCI_BAR_MEM64:
    case PCI_BAR_MEM32:
        if (!(command & PCI_COMMAND_MEMORY))
            return false;
        *address = low & ~PCI_BAR_MEMORY_FLAGS;
        if (bar->kind == PCI_BAR_MEM64) {
            *address |= (uint64_t)pci_get32(pci->config, offset + 4) << 32;
            last_of_space = UINT64_MAX;
        }
        break;
    }
    uint64_t last = *address + bar->size - 1;
    return *address && last > *address && last < last_of_space &&
           pci_bus_reached(pci->bus, bar_space(bar), *address, last);
}

/* Is its RAM mapped where its region is, or nowhere if that is nowhere? */
static bool ram_in_place(const struct pci_bar *bar)
{
    return bar->ram->mapped ? bar->region.added && bar->region.base == bar->ram->gpa
                            : !bar->region.added;
}

/* First with `add` false for all functions, then with `add` true. Returns whether RAM has to move.
 */
static bool update_function(struct pci_device *pci, bool add)
{
    struct bus *bus = pci->bus->bus;
    bool ram_moved = false;

    for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
        struct pci_bar *bar = &pci->bar[i];
        struct region *region = &bar->region;
        uint64_t address = 0;
        bool wanted = bar_wanted(pci, i, &address);
        struct error why;

        if (!add && region->added && (!wanted || region->base != address))
            bus_remove(bus, bar_space(bar), region);
        if (add && wanted && !region->added && bus_add(bus, bar_space(bar), region, address, &why))
            log_guest(region->name, "BAR %u is not mapped: %s", i, why.text);
        ram_moved |= add && bar->ram && !ram_in_place(bar);
    }
    pci_rom_update(pci, add);
    return ram_moved;
}

/* Goes down one level: behind a root port there is no further bridge. */
static bool update_bus(struct pci_bus *pci_bus, bool add)
{
    bool ram_moved = false;

    for (unsigned f = 0; f < PCI_FUNCTIONS; f++) {
        struct pci_device *pci = pci_bus->function[f];
        if (!pci)
            continue;
        ram_moved |= update_function(pci, add);
        if (pci->secondary)
            ram_moved |= update_bus(pci->secondary, add);
    }
    return ram_moved;
}

/*
 * Makes the bus show the BARs where the registers say. All devices are looked at, because a BAR
 * that found its place taken can appear once the other has moved away, and because windows of
 * bridges move as well. The root's pci_bus.lock is held.
 */
static void update_mappings(struct pci_bus *root)
{
    update_bus(root, false);
    if (update_bus(root, true) && root->remap.ask)
        root->remap.ask(root->remap.opaque);
}

/* Only functions of the root bus have such BARs. */
int pci_bus_remap(struct pci_bus *pci_bus, struct error *err)
{
    int result = 0;

    for (int add = 0; add <= 1; add++) {
        for (unsigned f = 0; f < PCI_FUNCTIONS; f++) {
            struct pci_device *pci = pci_bus->function[f];
            for (unsigned i = 0; pci && i < PCI_BAR_COUNT && !result; i++) {
                struct pci_bar *bar = &pci->bar[i];
                struct error why;

                if (!bar->ram || ram_in_place(bar))
                    continue;
                gpa_t gpa = add ? bar->region.base : bar->ram->gpa;
                if (!add && bar->ram->mapped) {
                    memory_unmap(pci_bus->memory, bar->ram);
                } else if (add) {
                    /* Over other memory, say: the region stays. */
                    if (memory_map(pci_bus->memory, bar->ram, gpa, &why)) {
                        log_guest(bar->region.name, "BAR %u: %s", i, why.text);
                        continue;
                    }
                } else {
                    continue;
                }
                result = pci_bus->remap.changed(pci_bus->remap.opaque, gpa, bar->size, err);
            }
        }
    }
    return result;
}

/* Configuration accesses. */

static bool overlaps(unsigned offset, unsigned size, unsigned start, unsigned length)
{
    return offset < start + length && start < offset + size;
}

/* Who answers configuration accesses there; NULL: nobody. */
static struct pci_device *addressed(const struct pci_bus *bus, unsigned devfn)
{
    return !bus->down && devfn < PCI_FUNCTIONS ? bus->function[devfn] : NULL;
}

uint32_t pci_config_read(struct pci_bus *bus, unsigned devfn, unsigned offset, unsigned size)
{
    struct pci_device *pci = addressed(bus, devfn);
    uint32_t value = 0;

    if (!pci || offset + size > PCI_EXPRESS_CONFIG_SIZE)
        return UINT32_MAX >> (32 - 8 * size);
    if (pci->ops && pci->ops->config_reading)
        pci->ops->config_reading(pci, offset, size);
    pthread_mutex_lock(&pci->lock);
    pci_interrupts_refresh(pci);
    /* No device has extended capabilities: their list at 0x100 is empty and reads as zero. */
    for (unsigned i = 0; i < size && offset + i < PCI_CONFIG_SIZE; i++)
        value |= (uint32_t)pci->config[offset + i] << 8 * i;
    pthread_mutex_unlock(&pci->lock);
    return value;
}

void pci_config_write(struct pci_bus *bus, unsigned devfn, unsigned offset, unsigned size,
                      uint32_t value)
{
    struct pci_device *pci = addressed(bus, devfn);

    if (!pci || offset + size > PCI_CONFIG_SIZE)
        return;
    pthread_mutex_lock(&bus->root->lock);
    pthread_mutex_lock(&pci->lock);
    for (unsigned i = 0; i < size; i++) {
        uint8_t *byte = &pci->config[offset + i];
        uint8_t written = (uint8_t)(value >> 8 * i);
        uint8_t mask = pci->write_mask[offset + i];
        *byte = (uint8_t)((*byte & ~mask) | (written & mask));
        *byte &= (uint8_t) ~(written & pci->clear_mask[offset + i]);
    }
    pci_interrupts_update(pci);
    pthread_mutex_unlock(&pci->lock);
    /* BARs and the windows of bridges, and the option ROM's register behind them. */
    if (overlaps(offset, size, PCI_COMMAND, 2) ||
        overlaps(offset, size, PCI_BAR0, PCI_CAPABILITY_POINTER - PCI_BAR0))
        update_mappings(bus->root);
    pthread_mutex_unlock(&bus->root->lock);
    if (pci->ops && pci->ops->config_written)
        pci->ops->config_written(pci, offset, size);
}

bool pci_bus_master(struct pci_device *pci)
{
    pthread_mutex_lock(&pci->lock);
    bool on = pci->config[PCI_COMMAND] & PCI_COMMAND_MASTER;
    pthread_mutex_unlock(&pci->lock);
    return on;
}

/* Building a function. */

void pci_device_init(struct pci_device *pci, struct pci_bus *bus, const struct pci_device_ops *ops,
                     const struct pci_ident *ident)
{
    pci->bus = bus;
    pci->ops = ops;
    pci->free_offset = PCI_FIRST_CAPABILITY;
    pthread_mutex_init(&pci->lock, NULL);

    uint8_t *config = pci->config;
    pci_set16(config, PCI_VENDOR_ID, ident->vendor);
    pci_set16(config, PCI_DEVICE_ID, ident->device);
    config[PCI_REVISION_ID] = ident->revision;
    config[PCI_CLASS] = (uint8_t)ident->class_code;
    config[PCI_CLASS + 1] = (uint8_t)(ident->class_code >> 8);
    config[PCI_CLASS + 2] = (uint8_t)(ident->class_code >> 16);
    pci_set16(config, PCI_SUBSYSTEM_VENDOR_ID, ident->subsystem_vendor);
    pci_set16(config, PCI_SUBSYSTEM_ID, ident->subsystem);
    config[PCI_INTERRUPT_PIN] = ident->interrupt_pin;

    pci_set16(pci->write_mask, PCI_COMMAND,
              PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
                  PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
    pci->write_mask[PCI_CACHE_LINE_SIZE] = 0xff;
    pci->write_mask[PCI_INTERRUPT_LINE] = 0xff;
}

void pci_add_bar(struct pci_device *pci, unsigned index, enum pci_bar_kind kind, uint64_t size,
                 const char *name, const struct region_ops *ops, void *opaque)
{
    unsigned offset = PCI_BAR0 + 4 * index;
    uint64_t mask = ~(size - 1);

    /* The smallest that the flag bits allow; a BAR must not reach over the last register. */
    assert(is_power_of_two(size) && size >= (kind == PCI_BAR_IO ? 4 : 16));
    assert(index + (kind == PCI_BAR_MEM64) < PCI_BAR_COUNT);

    pci->bar[index] = (struct pci_bar){
        .kind = kind,
        .size = size,
        .region = {.name = name, .ops = ops, .opaque = opaque, .size = size},
    };
    if (kind == PCI_BAR_IO)
        pci_set32(pci->config, offset, PCI_BAR_IS_IO);
    if (kind == PCI_BAR_MEM64) {
        pci_set32(pci->config, offset, PCI_BAR_IS_64);
        pci_set32(pci->write_mask, offset + 4, (uint32_t)(mask >> 32));
    }
    pci_set32(pci->write_mask, offset, (uint32_t)mask);
}

void pci_bar_set_ram(struct pci_device *pci, unsigned index, struct memory_block *ram)
{
    assert(!pci->bus->bridge && pci->bar[index].kind > PCI_BAR_IO);
    assert(ram->size == pci->bar[index].size);
    pci->bar[index].ram = ram;
    pci->config[PCI_BAR0 + 4 * index] |= PCI_BAR_IS_PREFETCHABLE;
}

unsigned pci_add_capability(struct pci_device *pci, uint8_t id, uint8_t length)
{
    unsigned offset = pci->free_offset;

    assert(offset + ALIGN_UP(length, 4) < PCI_CONFIG_SIZE);
    pci->free_offset = (uint8_t)(offset + ALIGN_UP(length, 4));
    pci->config[offset] = id;
    pci->config[pci->last_capability ? pci->last_capability + 1 : PCI_CAPABILITY_POINTER] =
        (uint8_t)offset;
    pci->last_capability = (uint8_t)offset;
    pci->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
    return offset;
}

unsigned pci_add_express_type(struct pci_device *pci, unsigned type)
{
    unsigned offset = pci_add_capability(pci, PCI_CAP_EXPRESS, PCI_EXPRESS_LENGTH);
    uint8_t *cap = &pci->config[offset];

    pci_set16(cap, PCI_EXPRESS_FLAGS,
              (uint16_t)(PCI_EXPRESS_FLAGS_VERSION | type << PCI_EXPRESS_TYPE_SHIFT));
    pci_set32(cap, PCI_EXPRESS_DEVICE_CAP, PCI_EXPRESS_DEVICE_CAP_ROLE_BASED_ERRORS);
    /* Error reporting, payload and read request sizes: 7.8.4; nothing depends on them here. */
    pci_set16(pci->write_mask, offset + PCI_EXPRESS_DEVICE_CONTROL, 0x78ff);
    if (type == PCI_EXPRESS_TYPE_ROOT_ENDPOINT)
        return offset;
    /* The slowest there is: no software waits for a link of this kind. */
    pci_set32(cap, PCI_EXPRESS_LINK_CAP, PCI_EXPRESS_LINK_2_5_GT | PCI_EXPRESS_LINK_X1);
    pci_set16(cap, PCI_EXPRESS_LINK_STATUS, PCI_EXPRESS_LINK_2_5_GT | PCI_EXPRESS_LINK_X1);
    pci_set32(cap, PCI_EXPRESS_LINK_CAP_2, PCI_EXPRESS_LINK_CAP_2_2_5_GT);
    pci_set16(pci->write_mask, offset + PCI_EXPRESS_LINK_CONTROL, PCI_EXPRESS_LINK_CONTROL_BITS);
    return offset;
}

void pci_add_express(struct pci_device *pci)
{
    pci_add_express_type(pci, pci->bus->bridge ? PCI_EXPRESS_TYPE_ENDPOINT
                                               : PCI_EXPRESS_TYPE_ROOT_ENDPOINT);
}

/* Software looks for functions 1 to 7 only where function 0 says that there are some (6.2.1). */
static void say_multifunction(struct pci_bus *bus, unsigned slot)
{
    struct pci_device *first = bus->function[PCI_DEVFN(slot, 0)];
    bool others = false;

    for (unsigned f = 1; f < PCI_SLOT_FUNCTIONS; f++)
        others |= bus->function[PCI_DEVFN(slot, f)] != NULL;
    if (!first || !others)
        return;
    pthread_mutex_lock(&first->lock);
    first->config[PCI_HEADER_TYPE] |= PCI_HEADER_MULTIFUNCTION;
    first->initial[PCI_HEADER_TYPE] |= PCI_HEADER_MULTIFUNCTION;
    pthread_mutex_unlock(&first->lock);
}

int pci_device_attach(struct pci_device *pci, int devfn, struct error *err)
{
    struct pci_bus *bus = pci->bus;

    if (devfn == PCI_DEVFN_AUTO) {
        /* Slot 0 is the host bridge's and 31 the chipset's. */
        for (devfn = PCI_DEVFN(1, 0); bus->function[devfn]; devfn += PCI_DEVFN(1, 0))
            if (devfn == PCI_DEVFN(30, 0))
                return error_set(err, -ENOSPC, "%s: all slots of the PCI bus are taken",
                                 pci->dev.name);
    }
    if (bus->function[devfn])
        return error_set(err, -EEXIST, "%s: PCI slot %02x.%x is taken by %s", pci->dev.name,
                         (unsigned)PCI_SLOT(devfn), (unsigned)devfn & 7,
                         bus->function[devfn]->dev.name);
    pci->devfn = (uint8_t)devfn;
    memcpy(pci->initial, pci->config, sizeof(pci->initial));
    pthread_mutex_lock(&pci->lock);
    pci_interrupts_reset(pci);
    pthread_mutex_unlock(&pci->lock);
    bus->function[devfn] = pci;
    say_multifunction(bus, PCI_SLOT((unsigned)devfn));
    return 0;
}

void pci_device_done(struct pci_device *pci)
{
    struct pci_bus *bus = pci->bus;

    if (bus->function[pci->devfn] == pci) {
        pci_device_reset(pci);
        bus->function[pci->devfn] = NULL;
    }
    for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
        if (pci->bar[i].ram)
            memory_unmap(bus->memory, pci->bar[i].ram);
    }
    pci_rom_done(pci);
    pthread_mutex_destroy(&pci->lock);
}

void pci_device_reset(struct pci_device *pci)
{
    pthread_mutex_lock(&pci->bus->root->lock);
    pthread_mutex_lock(&pci->lock);
    memcpy(pci->config, pci->initial, sizeof(pci->config));
    pci_interrupts_reset(pci);
    pthread_mutex_unlock(&pci->lock);
    update_mappings(pci->bus->root);
    pthread_mutex_unlock(&pci->bus->root->lock);
}

/* State. */

static const struct state_field msix_entry_fields[] = {
    STATE_INT(struct pci_msix_entry, address),
    STATE_INT(struct pci_msix_entry, data),
    STATE_INT(struct pci_msix_entry, control),
    STATE_END,
};

const struct state_field pci_device_fields[] = {
    STATE_BYTES(struct pci_device, config),
    STATE_BOOL(struct pci_device, intx_level),
    STATE_BOOL(struct pci_device, intx_wire),
    STATE_INT(struct pci_device, msi_pending),
    STATE_INT(struct pci_device, msix_pending),
    STATE_STRUCT_ARRAY(struct pci_device, msix, msix_entry_fields),
    STATE_END,
};

int pci_device_post_load(struct pci_device *pci, struct error *err)
{
    /* Vendor and device. */
    if (pci_get32(pci->config, PCI_VENDOR_ID) != pci_get32(pci->initial, PCI_VENDOR_ID))
        return error_set(
            err, -EBADMSG, "%s: the saved state is of PCI device %04x:%04x, this is %04x:%04x",
            pci->dev.name, pci_get16(pci->config, PCI_VENDOR_ID),
            pci_get16(pci->config, PCI_DEVICE_ID), pci_get16(pci->initial, PCI_VENDOR_ID),
            pci_get16(pci->initial, PCI_DEVICE_ID));

    pthread_mutex_lock(&pci->bus->root->lock);
    pthread_mutex_lock(&pci->lock);
    /* What no guest can change, no stream can. */
    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
        uint8_t mask = pci->write_mask[i] | pci->clear_mask[i];
        pci->config[i] = (uint8_t)((pci->config[i] & mask) | (pci->initial[i] & ~mask));
    }
    pci_interrupts_restored(pci);
    pthread_mutex_unlock(&pci->lock);
    update_mappings(pci->bus->root);
    pthread_mutex_unlock(&pci->bus->root->lock);
    return 0;
}
