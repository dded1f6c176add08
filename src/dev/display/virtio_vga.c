/* The PCI function with a VGA and a virtio-gpu in it, and its life; see virtio_vga.h. */
#include "dev/display/virtio_vga.h"

#include <errno.h>
#include <stdlib.h>

#include "dev/display/vga.h"
#include "dev/display/virtio_gpu.h"
#include "dev/virtio/virtio_pci.h"

#define VGA_CLASS 0x030000

#define BAR_MEMORY 0
#define BAR_REGISTERS 2
#define BAR_MSIX 4

struct virtio_vga {
    struct virtio_pci virtio;
    struct vga vga;
    struct gpu gpu;
    struct memory_block vram;
    struct display *display;
};

static struct virtio_vga *of_device(struct device *device)
{
    return CONTAINER_OF(device, struct virtio_vga, virtio.pci.dev);
}

static struct virtio_vga *of_vdev(struct virtio_device *vdev)
{
    return CONTAINER_OF(vdev, struct virtio_vga, virtio.vdev);
}

static const struct virtio_pci_layout layout = {
    .registers_bar = BAR_REGISTERS,
    .registers_offset = VGA_MMIO_SIZE,
    .msix_bar = BAR_MSIX,
    .before = &vga_mmio_ops,
};

/* ---- virtio ---- */

static void serve(struct virtio_queue *queue)
{
    virtio_gpu_serve(&of_vdev(queue->vdev)->gpu, queue);
}

static void driver_reset(struct virtio_device *vdev)
{
    gpu_reset(&of_vdev(vdev)->gpu);
}

static const struct virtio_device_ops virtio_ops = {.serve = serve, .reset = driver_reset};

/* ---- the screen ---- */

static void source_refresh(void *opaque, struct display *display)
{
    struct virtio_vga *dev = opaque;

    if (gpu_is_used(&dev->gpu)) {
        gpu_refresh(&dev->gpu, display);
        vga_forget_drawn(&dev->vga);
    } else {
        vga_refresh(&dev->vga, display);
    }
}

static int source_text(void *opaque, char **out)
{
    struct virtio_vga *dev = opaque;
    return gpu_is_used(&dev->gpu) ? -ENODATA : vga_text(&dev->vga, out);
}

static const struct display_source_ops source_ops = {
    .refresh = source_refresh,
    .text = source_text,
};

/* ---- lifecycle ---- */

static void reset(struct device *device)
{
    struct virtio_vga *dev = of_device(device);

    virtio_pci_reset(device);
    gpu_reset(&dev->gpu);
    vga_reset(&dev->vga);
}

static void destroy(struct device *device)
{
    struct virtio_vga *dev = of_device(device);

    display_set_source(dev->display, NULL, NULL);
    vga_detach(&dev->vga, dev->virtio.pci.bus->bus);
    virtio_pci_done(&dev->virtio);
    gpu_done(&dev->gpu);
    vga_done(&dev->vga);
    memory_block_done(&dev->vram);
    free(dev);
}

static const struct state_field fields[] = {
    STATE_STRUCT(struct virtio_vga, virtio, virtio_pci_fields),
    STATE_STRUCT(struct virtio_vga, vga.reg, vga_register_fields),
    STATE_STRUCT(struct virtio_vga, gpu, gpu_fields),
    STATE_END,
};

static int post_load(void *object, struct error *err)
{
    struct virtio_vga *dev = object;

    int result = vga_post_load(&dev->vga, err);
    if (!result)
        result = gpu_post_load(&dev->gpu, err);
    return result ? result : virtio_pci_post_load(&dev->virtio, err);
}

static const struct state_desc state = {
    .name = "virtio-vga",
    .version = 1,
    .fields = fields,
    .post_load = post_load,
};

static const struct device_ops ops = {
    .type = "virtio-vga",
    .start = virtio_pci_start,
    .pause = virtio_pci_pause,
    .resume = virtio_pci_resume,
    .reset = reset,
    .destroy = destroy,
    .state = &state,
};

int virtio_vga_new(struct device **out, const struct vga_pci_config *config, struct error *err)
{
    const struct virtio_pci_config virtio = {config->name, config->bus, config->devfn};
    struct virtio_vga *dev = calloc(1, sizeof(*dev));
    if (!dev)
        return error_set(err, -ENOMEM, "%s: no memory for the device", config->name);
    int result = memory_block_init(&dev->vram, config->memory, config->name, err);
    if (result) {
        free(dev);
        return result;
    }
    result = vga_init(&dev->vga, config->name, config->clock, dev->vram.host, config->memory);
    if (result) {
        memory_block_done(&dev->vram);
        free(dev);
        return error_set(err, result, "%s: no memory for the device", config->name);
    }
    dev->display = config->display;
    gpu_init(&dev->gpu, config->bus->memory);
    virtio_gpu_init(&dev->virtio.vdev, config->name, &virtio_ops, config->bus->memory);
    dev->virtio.layout = &layout;
    dev->virtio.before = &dev->vga;
    virtio_pci_build(&dev->virtio, &virtio, VGA_CLASS, &ops);
    pci_add_bar(&dev->virtio.pci, BAR_MEMORY, PCI_BAR_MEM32, config->memory, config->name,
                &vga_memory_bar_ops, &dev->vga);
    pci_bar_set_ram(&dev->virtio.pci, BAR_MEMORY, &dev->vram);
    if (config->rom)
        result = pci_add_rom_file(&dev->virtio.pci, config->rom, config->rom_package, err);
    if (!result)
        result = vga_attach(&dev->vga, config->bus->bus, err);
    if (!result)
        result = pci_device_attach(&dev->virtio.pci, config->devfn, err);
    if (result) {
        destroy(&dev->virtio.pci.dev);
        return result;
    }
    display_set_source(config->display, &source_ops, dev);
    *out = &dev->virtio.pci.dev;
    return 0;
}
