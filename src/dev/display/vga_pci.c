/* The VGA's PCI function and its life as a device; see vga_pci.h. */
#include "dev/display/vga_pci.h"

#include <errno.h>
#include <stdlib.h>

#include "dev/display/vga.h"

#define VGA_CLASS 0x030000
#define REVISION 2 /* the one that has BAR 2 */
#define SUBSYSTEM_VENDOR 0x1af4
#define SUBSYSTEM 0x1100

#define BAR_MEMORY 0
#define BAR_REGISTERS 2

struct vga_pci {
    struct pci_device pci;
    struct vga vga;
    struct memory_block vram;
    struct display *display;
};

/* ---- the screen ---- */

static void source_refresh(void *opaque, struct display *display)
{
    struct vga_pci *dev = opaque;
    vga_refresh(&dev->vga, display);
}

static int source_text(void *opaque, char **out)
{
    struct vga_pci *dev = opaque;
    return vga_text(&dev->vga, out);
}

static const struct display_source_ops source_ops = {
    .refresh = source_refresh,
    .text = source_text,
};

/* ---- lifecycle ---- */

static void reset(struct device *device)
{
    struct vga_pci *dev = CONTAINER_OF(device, struct vga_pci, pci.dev);

    pci_device_reset(&dev->pci);
    vga_reset(&dev->vga);
}

static void destroy(struct device *device)
{
    struct vga_pci *dev = CONTAINER_OF(device, struct vga_pci, pci.dev);

    display_set_source(dev->display, NULL, NULL);
    vga_detach(&dev->vga, dev->pci.bus->bus);
    pci_device_done(&dev->pci);
    vga_done(&dev->vga);
    memory_block_done(&dev->vram);
    free(dev);
}

static const struct state_field fields[] = {
    STATE_STRUCT(struct vga_pci, pci, pci_device_fields),
    STATE_STRUCT(struct vga_pci, vga.reg, vga_register_fields),
    STATE_END,
};

static int post_load(void *object, struct error *err)
{
    struct vga_pci *dev = object;

    int result = vga_post_load(&dev->vga, err);
    return result ? result : pci_device_post_load(&dev->pci, err);
}

static const struct state_desc state = {
    .name = "vga",
    .version = 1,
    .fields = fields,
    .post_load = post_load,
};

static const struct device_ops ops = {
    .type = "vga",
    .reset = reset,
    .destroy = destroy,
    .state = &state,
};

int vga_pci_new(struct device **out, const struct vga_pci_config *config, struct error *err)
{
    static const struct pci_ident ident = {
        .vendor = VGA_PCI_VENDOR,
        .device = VGA_PCI_DEVICE,
        .subsystem_vendor = SUBSYSTEM_VENDOR,
        .subsystem = SUBSYSTEM,
        .revision = REVISION,
        .class_code = VGA_CLASS,
    };
    struct vga_pci *dev = calloc(1, sizeof(*dev));
    if (!dev)
        return error_set(err, -ENOMEM, "%s: no memory for the device", config->name);
    dev->display = config->display;
    dev->pci.dev = (struct device){.ops = &ops, .name = config->name, .state_object = dev};
    pci_device_init(&dev->pci, config->bus, NULL, &ident);

    int result = memory_block_init(&dev->vram, config->memory, config->name, err);
    if (result)
        goto fail;
    result = vga_init(&dev->vga, config->name, config->clock, dev->vram.host, config->memory);
    if (result) {
        error_set(err, result, "%s: no memory for the device", config->name);
        goto fail;
    }
    pci_add_bar(&dev->pci, BAR_MEMORY, PCI_BAR_MEM32, config->memory, config->name,
                &vga_memory_bar_ops, &dev->vga);
    pci_bar_set_ram(&dev->pci, BAR_MEMORY, &dev->vram);
    pci_add_bar(&dev->pci, BAR_REGISTERS, PCI_BAR_MEM32, VGA_MMIO_SIZE, config->name, &vga_mmio_ops,
                &dev->vga);
    result = vga_attach(&dev->vga, config->bus->bus, err);
    if (!result && config->rom)
        result = pci_add_rom_file(&dev->pci, config->rom, config->rom_package, err);
    if (!result)
        result = pci_device_attach(&dev->pci, config->devfn, err);
    if (result)
        goto fail;
    display_set_source(config->display, &source_ops, dev);
    *out = &dev->pci.dev;
    return 0;

fail:
    destroy(&dev->pci.dev);
    return result;
}
