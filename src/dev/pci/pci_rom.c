/*
 * Option ROMs of PCI functions: the expansion ROM base address register and the memory behind it.
 * PCI Local Bus specification 3.0, 6.2.5.2 (register), 6.3 (contents). Building: control thread;
 * the register: vCPU threads, with pci_bus.lock held.
 *
 * Firmware copies a ROM's image to where it runs, so reading by way of the bus is fast enough.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "dev/pci/pci_internal.h"

#define ROM_SIZE_MIN (2 * KIB)
#define ROM_SIZE_MAX (16 * MIB)
#define ROM_SIGNATURE 0xaa55

static enum bus_result rom_read(void *opaque, uint64_t offset, unsigned size, uint64_t *value)
{
    const struct pci_rom *rom = opaque;

    *value = 0;
    memcpy(value, rom->data + offset, size);
    return BUS_OK;
}

static enum bus_result rom_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    return BUS_UNHANDLED;
}

static const struct region_ops rom_ops = {.read = rom_read, .write = rom_write};

void pci_rom_update(struct pci_device *pci, bool add)
{
    struct pci_rom *rom = &pci->rom;
    uint32_t bar = pci_get32(pci->config, PCI_ROM_BAR);
    uint32_t address = bar & PCI_ROM_BAR_ADDRESS;
    bool enabled =
        bar & PCI_ROM_BAR_ENABLE && pci_get16(pci->config, PCI_COMMAND) & PCI_COMMAND_MEMORY;
    /* As with other BARs, 0 and the top, which is what sizing writes, mean nowhere. */
    uint64_t last = address + rom->size - 1;
    bool wanted = rom->data && enabled && address && last < UINT32_MAX &&
                  pci_bus_reached(pci->bus, BUS_MMIO, address, last);
    struct error why;

    if (!add && rom->region.added && (!wanted || rom->region.base != address))
        bus_remove(pci->bus->bus, BUS_MMIO, &rom->region);
    if (add && wanted && !rom->region.added &&
        bus_add(pci->bus->bus, BUS_MMIO, &rom->region, address, &why))
        log_guest(pci->dev.name, "the option ROM is not mapped: %s", why.text);
}

void pci_rom_done(struct pci_device *pci)
{
    free(pci->rom.data);
    pci->rom.data = NULL;
}

int pci_add_rom(struct pci_device *pci, const void *image, size_t size, struct error *err)
{
    struct pci_rom *rom = &pci->rom;

    if (size > ROM_SIZE_MAX || size < 2 || pci_get16(image, 0) != ROM_SIGNATURE)
        return error_set(err, -EINVAL, "%s: this is no image of an option ROM", pci->dev.name);
    rom->size = ROM_SIZE_MIN;
    while (rom->size < size)
        rom->size *= 2;
    rom->data = malloc(rom->size);
    if (!rom->data)
        return error_set(err, -ENOMEM, "%s: no memory for the option ROM", pci->dev.name);
    memcpy(rom->data, image, size);
    memset(rom->data + size, 0xff, rom->size - size);
    rom->region =
        (struct region){.name = "option ROM", .ops = &rom_ops, .opaque = rom, .size = rom->size};
    pci_set32(pci->write_mask, PCI_ROM_BAR,
              ((uint32_t)-rom->size & PCI_ROM_BAR_ADDRESS) | PCI_ROM_BAR_ENABLE);
    return 0;
}

int pci_add_rom_file(struct pci_device *pci, const char *path, const char *package,
                     struct error *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return error_set(err, -errno, "%s: cannot open the option ROM %s: %s (package %s has it)",
                         pci->dev.name, path, strerror(errno), package);
    /* One byte more tells what is too large. */
    uint8_t *image = malloc(ROM_SIZE_MAX + 1);
    int ret;
    if (image)
        ret = pci_add_rom(pci, image, fread(image, 1, ROM_SIZE_MAX + 1, file), err);
    else
        ret = error_set(err, -ENOMEM, "%s: no memory for the option ROM", pci->dev.name);
    free(image);
    fclose(file);
    return ret;
}
